"""The openai engine: any server of OpenAI's chat completions, by the official client.

Such are vLLM, SGLang, llama.cpp, Ollama and most hosted models. Servers differ in what they take;
what this one takes is found out once, by the first request of a kind, and is in the description.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrankers_groupwise import concurrency as background
from llmrankers_groupwise.engines.base import EngineSettings, installed, resolved_args, shown_args
from llmrankers_groupwise.engines.identity import shaping
from llmrankers_groupwise.engines.lengths import estimated_tokens
from llmrankers_groupwise.engines.llm.dialogue import Fill, Filled, Write, Written, lead
from llmrankers_groupwise.engines.llm.prompt_builder import (
    CHAT_ARGS,
    LocalPromptEngine,
    PromptBuilder,
)
from llmrankers_groupwise.engines.llm.token_estimates import Estimator
from llmrankers_groupwise.engines.llm.tokenizer import Prompt
from llmrankers_groupwise.engines.openai.client import ChatClient, Endpoint, Negotiator, nearest
from llmrankers_groupwise.engines.openai.wire_format import (
    Capabilities,
    Completion,
    Way,
    answer_rows,
    chat_body,
    written_text,
)
from llmrankers_groupwise.errors import EngineError, ModelError, SettingsError
from llmrankers_groupwise.types import Reply, Request, Sampling, Scoring

__all__ = [
    "ARGS",
    "OpenAIEngine",
    "accepted_at_first",
    "chosen_model",
    "of_vllm",
    "preferred",
    "resolved_settings",
]

logger = logging.getLogger(__name__)

ARGS: Mapping[str, Any] = {
    "base_url": None,
    "api_key_env": None,
    "concurrency": 64,
    "timeout": 600,
    "max_retries": 4,
    "structured_outputs": "auto",
    "logprobs": "auto",
    "max_model_len": None,
    "extra_body": {},
    "chat_template": None,
    "chat_template_kwargs": {},
    "trust_remote_code": False,
}
"""The engine arguments, with their defaults."""

_MOST_CONNECTIONS = 1000  # of the client
_WAYS: tuple[Way, ...] = ("json_schema", "regex", "none")


# --- Settings, and the model that they mean -------------------------------------------------------


def resolved_settings(settings: EngineSettings) -> dict[str, Any]:
    """The engine's arguments, defaults filled in.

    Raises:
        SettingsError: a setting that means nothing to this engine, or a value out of range. Does
            not quote a key.
    """
    for name in ("api_key", "key", "token"):
        if name in settings.engine_args:
            raise SettingsError(
                f"engine_args has {name}: a key is not given as a setting, where it would get into "
                f"logs and manifests; put it into the environment variable OPENAI_API_KEY, or into "
                f"one that api_key_env names"
            )
    if settings.lora_name_or_path is not None:
        raise SettingsError(
            "engine openai cannot load lora_name_or_path: a server loads its adapters itself; give "
            "the name under which it serves one as model_name_or_path"
        )
    if settings.device is not None:
        raise SettingsError("engine openai has no use for device: the server runs the model")
    args = resolved_args("openai", settings.engine_args, ARGS)
    if settings.tokenizer_name_or_path is None:
        given = [n for n in ("chat_template", "trust_remote_code") if n in settings.engine_args]
        given += ["cache_dir"] if settings.cache_dir is not None else []
        if given:
            raise SettingsError(
                f"{', '.join(given)} is about a tokenizer, and there is none: give "
                f"tokenizer_name_or_path besides"
            )
    _check_numbers(args)
    _check_kinds(args)
    return args


def _check_numbers(args: Mapping[str, Any]) -> None:
    for name, least, most in (
        ("concurrency", 1, _MOST_CONNECTIONS),
        ("max_retries", 0, 1000),
        ("max_model_len", 1, None),
    ):
        value = args[name]
        if value is None and name == "max_model_len":
            continue
        if type(value) is not int or value < least or (most is not None and value > most):
            upper = f" to {most}" if most is not None else ""
            raise SettingsError(f"{name} is {value!r}: give a whole number from {least}{upper}")
    if not 0 < args["timeout"] < float("inf"):
        raise SettingsError(f"timeout is {args['timeout']}: give seconds, more than 0")


def _check_kinds(args: Mapping[str, Any]) -> None:
    if args["structured_outputs"] not in ("auto", *_WAYS):
        raise SettingsError(
            f"structured_outputs is {args['structured_outputs']!r}: give one of auto, "
            f"{', '.join(_WAYS)}"
        )
    if args["logprobs"] != "auto" and not isinstance(args["logprobs"], bool):
        raise SettingsError(f"logprobs is {args['logprobs']!r}: give auto, true or false")
    for name in ("extra_body", "chat_template_kwargs"):
        if not isinstance(args[name], Mapping):
            raise SettingsError(f"{name} must be a table of names and values")


def accepted_at_first(args: Mapping[str, Any]) -> Capabilities:
    """What is tried first, and what is left to try if the server refuses it."""
    way = args["structured_outputs"]
    return Capabilities(
        ways=_WAYS if way == "auto" else (way,),
        top_logprobs=0 if args["logprobs"] is False else 20,
        keep_logprobs=args["logprobs"] is True,
    )


def of_vllm(listed: Sequence[Mapping[str, Any]] | None) -> bool:
    """Whether the server of these models is vLLM, by its own list."""
    return any(each.get("owned_by") == "vllm" for each in listed or ())


def preferred(accepted: Capabilities, listed: Sequence[Mapping[str, Any]] | None) -> Capabilities:
    """What to try first of a server with these models.

    A list of models shows whether it is vLLM. vLLM's schemas let a model write spaces without end
    between the parts of a form; its regular expressions do not.
    """
    if of_vllm(listed) and len(accepted.ways) > 1:
        ways = sorted(accepted.ways, key=("regex", *_WAYS).index)
        return dataclasses.replace(accepted, ways=tuple(ways))
    return accepted


def chosen_model(
    wanted: str | None, listed: Sequence[Mapping[str, Any]] | None, where: str
) -> tuple[str, int | None]:
    """The model to ask for, and its longest text in tokens if the server gives it, as vLLM does.

    Args:
        wanted: the name given; None takes the only model there is.
        listed: the server's models; None if it has no list.
        where: the server, for messages.

    A name that is not listed is warned of and taken: servers answer to aliases, to deployments and
    to adapters that they load when asked.

    Raises:
        ModelError: there is nothing or too much to choose from.
    """
    if listed is None:
        if wanted is None:
            raise ModelError(f"{where} does not list its models: give model_name_or_path")
        return wanted, None
    by_name = {str(each["id"]): each for each in listed}
    if wanted is None and len(by_name) > 1:
        raise ModelError(
            f"{where} serves {len(by_name)} models, {nearest('', list(by_name))}: choose one by "
            f"model_name_or_path"
        )
    name = wanted if wanted is not None else next(iter(by_name))
    # Ollama lists llama3:latest and Gemini models/NAME; both answer to the short name.
    forms = (name, f"{name}:latest", f"models/{name}")
    card = next((by_name[form] for form in forms if form in by_name), None)
    if card is None:
        known = nearest(name, list(by_name))
        logger.warning("%s does not list the model %s but %s; asking it anyway", where, name, known)
        return name, None
    base = by_name.get(str(card.get("parent")), {})  # of an adapter
    length = card.get("max_model_len") or base.get("max_model_len")
    return name, length if type(length) is int and length > 0 else None


# --- The engine -----------------------------------------------------------------------------------

_SPEED_ARGS = ("base_url", "api_key_env", "concurrency", "timeout", "max_retries")

_FOLLOW_UP_TOKENS = 96
"""Kept free for the question after a text that is to be finished."""


@dataclass
class _Exchange:
    """One request, and what it has cost so far."""

    prompt: Prompt
    sampling: Sampling
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def count(self, completion: Completion) -> None:
        """Add the server's counts, or estimates where it gives none."""
        read, written = completion.prompt_tokens, completion.completion_tokens
        self.prompt_tokens += self.prompt.tokens if read is None else read
        self.completion_tokens += _estimate(completion) if written is None else written


class OpenAIEngine(LocalPromptEngine):
    """Answers by a server of OpenAI's chat completions.

    A form that follows a text, and a text that goes on, are asked for by one more question after
    it. Probabilities of a form come from the logprobs of its tokens; without them scores are the
    numbers written. A row's mean can be off by 9 times the probability of an unwritten "1" where
    the tokenizer writes 10 in two tokens.

    Args:
        settings: model_name_or_path is a name that the server knows; None takes its only model.
            With tokenizer_name_or_path tokens are counted as by that model, else estimated.
            engine_args: base_url (or the environment's OPENAI_BASE_URL; by default OpenAI's own),
            api_key_env (the name of the environment variable that holds the key, OPENAI_API_KEY),
            concurrency (64 requests at a time, 1000 at most), timeout (600 seconds), max_retries
            (4, after what may pass), structured_outputs ("auto", "json_schema", "regex" as vLLM
            takes it, or "none": how a form is asked for), logprobs ("auto", true, false),
            max_model_len (as the server gives it, if it does; tokens), extra_body (sent with every
            request), chat_template_kwargs (sent, too, and used in counting); with a tokenizer
            chat_template and trust_remote_code. A prompt is cut to max_model_len, or to the
            server's own once it has answered.

    Raises:
        SettingsError: no key where one is needed, or a setting that means nothing to this engine.
        MissingDependencyError: openai is not installed.
    """

    scorings: tuple[Scoring, ...] = ("generation", "likelihood")

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._args = resolved_settings(settings)
        address = Endpoint.resolve(self._args["base_url"], self._args["api_key_env"])
        self._server = ChatClient(
            address, timeout=self._args["timeout"], max_retries=self._args["max_retries"]
        )
        self._prompter = _prompter(settings, self._args)
        self._model: str | None = None
        self._no_model: str | None = None  # why there is none
        self._of_vllm = False
        self._model_len: int | None = None
        self._limit_to(self._args["max_model_len"])
        self._dialect = Negotiator(self._server, accepted_at_first(self._args))
        self._process = background.ForkGuard()
        self._closed = False
        # These belong to the background loop, as the client does.
        self._slots = asyncio.Semaphore(self._args["concurrency"])
        self._starting = asyncio.Lock()
        self._open: set[asyncio.Task[Any]] = set()

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The reply to one request.

        Raises:
            EngineError: the server failed with it or does not take it, its reply is no chat
                completion, or the engine was closed meanwhile. Retryable if that may pass.
            ModelError: key, quota or model are at fault, the server cannot be reached, the engine
                is closed, or this is a fork of the process that used it.
        """
        if self._closed:
            raise ModelError("the engine is closed; make another")
        self._process.settle()
        return await background.in_background(self._answer(request, sampling))

    def describe(self) -> dict[str, object]:
        """Server, model, versions and settings, and what the server takes as far as is known."""
        accepted, filled = self._dialect.accepted, Fill in self._dialect.settled
        address = self._server.address
        estimated = "estimated: one for every 4 bytes of UTF-8"
        described: dict[str, object] = {
            "engine": "openai",
            "base_url": address.url,
            "model": self._model or self._settings.model_name_or_path,
            "tokenizer": self._settings.tokenizer_name_or_path,
            "tokens": "counted" if self._settings.tokenizer_name_or_path else estimated,
            "max_model_len": self._model_len,
            "structured_outputs": accepted.way if filled else None,
            "top_logprobs": accepted.top_logprobs if filled else None,
            "thinks_before_a_form": accepted.thinks if filled else None,
            "left_out": sorted(accepted.left_out),
            "versions": installed("openai", "transformers", "tokenizers"),
            "engine_args": shown_args(self._args)
            | {"base_url": address.url, "api_key_env": address.key_name},
        }
        if filled:
            with_them = "with" if accepted.top_logprobs else "without"
            described["note"] = f"forms by {accepted.way}, {with_them} probabilities"
        return described

    def identity(self) -> dict[str, object]:
        """The model's name, and the arguments that shape a reply.

        Not the address, which changes with every job of a cluster. Raises ModelError where no name
        is given and the server has not one model; not for the background loop, which it waits for.
        """
        if self._settings.model_name_or_path is None:
            self._process.settle()
            background.run_in_background(self._start())
        return {
            "engine": "openai",
            "model": self._model or self._settings.model_name_or_path,
            "tokenizer": self._settings.tokenizer_name_or_path,
            "engine_args": shown_args(shaping(self._args, _SPEED_ARGS)),
        }

    def close(self) -> None:
        """Close the connections; open requests fail."""
        if self._closed:
            return
        self._closed = True
        if self._process.is_here:
            background.end_in_background(self._close())

    # --- On the background loop ---------------------------------------------------------------

    async def _close(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.close()

    async def _answer(self, request: Request, sampling: Sampling) -> Reply:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(background.consume_exception)
        try:
            if self._closed:
                raise asyncio.CancelledError
            async with self._slots:
                return await self._converse(request, sampling)
        except asyncio.CancelledError:
            if self._closed:
                raise EngineError("the engine was closed") from None
            raise
        finally:
            self._open.discard(task)

    async def _converse(self, request: Request, sampling: Sampling) -> Reply:
        await self._start()
        prompt = await asyncio.to_thread(self.prompt, request, sampling)
        exchange = _Exchange(prompt, sampling)
        # A block of thinking that the template opens is the server's: it gives it closed or apart.
        turn = dataclasses.replace(prompt, thinking=False)
        dialogue = self._prompter.dialogue(turn, sampling)
        reply = await lead(dialogue, functools.partial(self._outcome, exchange))
        return dataclasses.replace(
            reply,
            prompt_tokens=exchange.prompt_tokens,
            completion_tokens=exchange.completion_tokens,
            cut_passages=prompt.cut_passages,
        )

    async def _start(self) -> None:
        """Find out the model and its length, once for all requests, well or ill."""
        async with self._starting:
            if self._no_model is not None:
                raise ModelError(self._no_model)
            if self._model is None:
                try:
                    await self._choose_model()
                except ModelError as error:
                    self._no_model = str(error)
                    raise

    async def _choose_model(self) -> None:
        wanted = self._settings.model_name_or_path
        try:
            listed = await self._server.models()
        except EngineError as error:
            if wanted is None:
                raise ModelError(
                    f"no models to choose from, give model_name_or_path: {error}"
                ) from None
            logger.warning("going on without a list of models: %s", error)
            listed = None
        model, length = chosen_model(wanted, listed, self._server.address.url)
        self._limit_to(length)
        self._of_vllm = of_vllm(listed)
        self._dialect.accepted = preferred(self._dialect.accepted, listed)
        self._model = model

    def _limit_to(self, max_model_len: int | None) -> None:
        if max_model_len is not None:
            self._model_len = min(self._model_len or max_model_len, max_model_len)
            self._prompter.limit_to(max(1, max_model_len - _FOLLOW_UP_TOKENS))

    async def _outcome(self, exchange: _Exchange, step: Write | Fill) -> Written | Filled:
        """A step by a chat completion."""
        body = functools.partial(self._body, exchange, step)
        return _outcome(step, await self._dialect.complete(step, body, exchange.count))

    def _body(
        self, exchange: _Exchange, step: Write | Fill, accepted: Capabilities
    ) -> dict[str, Any]:
        room = None
        if self._model_len is not None:
            used = exchange.prompt.tokens + self.count_tokens(step.text) + _FOLLOW_UP_TOKENS
            room = self._model_len - used
        body = chat_body(exchange.prompt.request, step, exchange.sampling, accepted, room)
        if self._args["chat_template_kwargs"]:
            body["chat_template_kwargs"] = dict(self._args["chat_template_kwargs"])
        body = {"model": self._model, **body, **self._args["extra_body"]}
        name, at_once = "chat_template_kwargs", _fills_at_once(step, exchange)
        if at_once and self._of_vllm and name not in accepted.left_out:
            # As a template in our own hands is told; one that knows nothing of it ignores it.
            body[name] = {"enable_thinking": False, **(body.get(name) or {})}
        return body


def _prompter(settings: EngineSettings, args: dict[str, Any]) -> PromptBuilder | Estimator:
    """What counts and cuts: by the tokenizer if there is one."""
    if settings.tokenizer_name_or_path is None:
        return Estimator()
    chat_args = {name: args.get(name, default) for name, default in CHAT_ARGS.items()}
    local = dataclasses.replace(settings, model_name_or_path=None)  # a name on the server
    return PromptBuilder(local, {**chat_args, "max_model_len": None})


def _fills_at_once(step: Write | Fill, exchange: _Exchange) -> bool:
    at_once = exchange.prompt.request.form is not None and not exchange.sampling.reasoning_tokens
    return at_once and isinstance(step, Fill)


def _outcome(step: Write | Fill, completion: Completion) -> Written | Filled:
    """What a completion means to the dialogue. Thinking in front of a form is left out."""
    tokens = completion.completion_tokens
    tokens = _estimate(completion) if tokens is None else tokens
    if isinstance(step, Fill):
        return Filled(completion.text, tokens, answer_rows(completion, step.form))
    return Written(written_text(completion, step), tokens, completion.finish_reason != "length")


def _estimate(completion: Completion) -> int:
    return estimated_tokens(completion.reasoning + completion.text)
