"""The transformers engine: causal language models of the Hugging Face libraries, in this process.

Requests that come in together are sorted by length and answered in micro-batches, on one
key-value cache each. A form takes one pass over the model for each of its slots, the first of
which is that over the prompt, and its probabilities are exact.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmrankers_groupwise.concurrency import Lazy
from llmrankers_groupwise.engines.base import EngineSettings, installed, resolved_args, shown_args
from llmrankers_groupwise.engines.batching import Batcher
from llmrankers_groupwise.engines.identity import model_identity, shaping
from llmrankers_groupwise.engines.lengths import answer_budget
from llmrankers_groupwise.engines.llm.adapters import with_base
from llmrankers_groupwise.engines.llm.prompt_builder import (
    CHAT_ARGS,
    LocalPromptEngine,
    PromptBuilder,
    check_chat_args,
    finished,
)
from llmrankers_groupwise.engines.llm.tokenizer import Prompt
from llmrankers_groupwise.errors import EngineError, MissingDependencyError, SettingsError
from llmrankers_groupwise.types import Reply, Request, Sampling, Scoring

if TYPE_CHECKING:
    from llmrankers_groupwise.engines.transformers.decoding import Model

__all__ = ["TransformersEngine"]

logger = logging.getLogger(__name__)

_DEFAULTS: dict[str, Any] = {
    **CHAT_ARGS,
    "dtype": "auto",
    "attn_implementation": None,
    "quantization": None,
    "device_map": None,
    "max_batch_tokens": None,
    "max_batch": 64,
    "model_kwargs": {},
}

_SPEED_ARGS = ("attn_implementation", "device_map", "max_batch_tokens", "max_batch")

_BATCH_TOKENS = 32_768
_CPU_PROMPT_TOKENS = 4_096  # of a micro-batch; the CPU gains nothing by padding
_ANSWER_TOKENS = 2_048  # counted of an answer; few are as long as they may be


@dataclass
class _Job:
    """A request on its way through the batcher."""

    prompt: Prompt
    sampling: Sampling
    tokens: int
    """What it may take in the cache, the prompt and a sensible share of the answer."""
    cancelled: bool = False


class TransformersEngine(LocalPromptEngine):
    """Answers with a causal language model, loaded when first needed.

    Args:
        settings: model_name_or_path is required, also the folder of an adapter alone; a LoRA
            adapter is merged into the model. device
            is by default CUDA, else Apple's MPS, else the CPU. engine_args: dtype ("auto":
            bfloat16 where a GPU computes in it, else float16; float32 on the CPU),
            attn_implementation, quantization ("int8" or "int4", by bitsandbytes), device_map,
            revision, trust_remote_code, max_model_len (as in the model's files),
            max_batch_tokens (tokens of a micro-batch: prompts with their padding and up to 2,048
            of each answer; by default 32,768, on the CPU of no more than 4,096 in prompts; halved
            for good where memory runs out), max_batch (64 requests gathered at a time),
            chat_template, chat_template_kwargs, close_thinking (the text that ends a thinking
            block), and model_kwargs for AutoModelForCausalLM.from_pretrained.

    Raises:
        SettingsError: no model, or a setting that means nothing to this engine.
    """

    scorings: tuple[Scoring, ...] = ("generation", "likelihood")

    def __init__(self, settings: EngineSettings) -> None:
        if settings.model_name_or_path is None:
            raise SettingsError("engine transformers needs a model: give model_name_or_path")
        settings = with_base(settings)
        self._settings = settings
        self._args = resolved_args("transformers", settings.engine_args, _DEFAULTS)
        _check(self._args)
        self._prompter = PromptBuilder(settings, self._args)
        self._loaded = Lazy(self._load)
        self._max_batch_tokens: int = self._args["max_batch_tokens"] or _BATCH_TOKENS
        self._batcher = Batcher(
            self._answer_all, max_batch=self._args["max_batch"], name="transformers-engine"
        )

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The reply to one request.

        Raises:
            EngineError: the prompt does not fit, memory does not suffice for it alone, or the
                engine was closed meanwhile, at the next pass over the model.
            ModelError: model, adapter or tokenizer cannot be used, or the engine is closed.
            MissingDependencyError: torch, transformers or peft is not installed.
        """
        prompt = await asyncio.to_thread(self.prompt, request, sampling)
        answer = answer_budget(prompt.request, sampling, self._prompter.max_model_len)
        job = _Job(prompt, sampling, len(prompt.token_ids) + min(answer, _ANSWER_TOKENS))
        try:
            return await self._batcher.submit(job)
        except asyncio.CancelledError:
            job.cancelled = True
            raise

    def describe(self) -> dict[str, object]:
        """Model, adapter, versions and settings; device, dtype and revision once it is loaded."""
        described: dict[str, object] = {
            "engine": "transformers",
            "model": self._settings.model_name_or_path,
            "lora": self._settings.lora_name_or_path,
            "tokenizer": self._settings.tokenizer_name_or_path,
            "versions": installed("transformers", "torch", "tokenizers", "peft"),
            "engine_args": {
                **shown_args(self._args),
                "max_batch_tokens": self._max_batch_tokens,
            },
        }
        if model := self._loaded.made:
            network = model.network
            described["revision"] = getattr(network.config, "_commit_hash", None)
            described["device"] = str(model.device)
            described["dtype"] = str(network.dtype).removeprefix("torch.")
            described["max_model_len"] = self._prompter.max_model_len
        return described

    def identity(self) -> dict[str, object]:
        """Model, adapter, tokenizer, and the arguments that shape a reply."""
        revision = self._args["model_kwargs"].get("revision")
        return {
            "engine": "transformers",
            **model_identity(self._settings, revision),
            "engine_args": shown_args(shaping(self._args, _SPEED_ARGS)),
        }

    def close(self) -> None:
        """End the engine's thread and let go of the model; open requests fail.

        What is being generated ends with the pass over the model that is under way.
        """
        self._batcher.close()
        if self._loaded.forget() is not None:
            from llmrankers_groupwise.engines.transformers.loading import free_memory

            free_memory()

    @property
    def _model(self) -> Model:
        return self._loaded()

    def _load(self) -> Model:
        """In the batcher's thread, the only one that uses the model."""
        from llmrankers_groupwise.engines.transformers.loading import load_model

        return load_model(self._settings, self._args, self._prompter.tokenizer)

    def _answer_all(self, jobs: Sequence[_Job]) -> list[Reply | Exception]:
        """All jobs in micro-batches of about the same length, the longest first."""
        try:
            import torch  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                "engine transformers needs PyTorch", "transformers"
            ) from error
        by_length = sorted(range(len(jobs)), key=lambda index: -_length(jobs[index]))
        answers: dict[int, Reply | Exception] = {}
        while by_length:
            by_length = [index for index in by_length if not jobs[index].cancelled]
            if self._batcher.closed or not by_length:
                break
            batch = by_length[: self._fitting([jobs[index] for index in by_length])]
            replies = self._answer_batch([jobs[index] for index in batch])
            if replies is None:
                continue  # again, smaller
            answers.update(zip(batch, replies, strict=True))
            del by_length[: len(batch)]
        closed = EngineError("the engine was closed, or the reply is no longer wanted")
        return [answers.get(index, closed) for index in range(len(jobs))]

    def _fitting(self, jobs: Sequence[_Job]) -> int:
        """How many of the jobs, the longest first, make a micro-batch; at least one."""
        own = self._args["max_batch_tokens"] is not None
        of_prompts = self._model.device.type == "cpu" and not own
        most = _CPU_PROMPT_TOKENS // max(1, _length(jobs[0])) if of_prompts else len(jobs)
        widest = 0
        for count, job in enumerate(jobs):
            widest = max(widest, job.tokens)
            if count and (count >= most or (count + 1) * widest > self._max_batch_tokens):
                return count
        return len(jobs)

    def _answer_batch(self, jobs: Sequence[_Job]) -> Sequence[Reply | Exception] | None:
        """The replies to a micro-batch; None if memory ran out and a smaller one is to be tried."""
        from llmrankers_groupwise.engines.transformers.decoding import Row, run_dialogues
        from llmrankers_groupwise.engines.transformers.loading import free_memory, out_of_memory

        rows = [
            Row(
                job.prompt.token_ids,
                self._prompter.dialogue(job.prompt, job.sampling),
                job.sampling,
            )
            for job in jobs
        ]
        try:
            replies = run_dialogues(self._model, rows, lambda: self._stopped(jobs))
        except EngineError as error:
            return [error] * len(jobs)
        except Exception as error:
            if not out_of_memory(error):
                raise
        else:
            return [finished(reply, job.prompt) for reply, job in zip(replies, jobs, strict=True)]
        del rows
        free_memory()
        if len(jobs) == 1:
            length = _length(jobs[0])
            return [EngineError(f"out of memory with a prompt of {length} tokens; cut passages")]
        self._max_batch_tokens = max(job.tokens for job in jobs) * (len(jobs) // 2)
        logger.warning("out of memory: micro-batches of %d tokens now", self._max_batch_tokens)
        return None

    def _stopped(self, jobs: Sequence[_Job]) -> bool:
        return self._batcher.closed or all(job.cancelled for job in jobs)


def _length(job: _Job) -> int:
    return len(job.prompt.token_ids)


def _check(args: Mapping[str, Any]) -> None:
    """Raise SettingsError where a type or a range is wrong, before a model is loaded."""
    check_chat_args(args)
    for name in ("max_batch", "max_batch_tokens"):
        value = args[name]
        if value is None and name != "max_batch":
            continue
        if type(value) is not int or value < 1:
            raise SettingsError(f"engine_args {name} is {value!r}: give a whole number from 1")
    model_kwargs, attention = args["model_kwargs"], args["attn_implementation"]
    if not isinstance(model_kwargs, Mapping):
        raise SettingsError(f"engine_args model_kwargs is {model_kwargs!r}: give names with values")
    if not isinstance(attention, str | None):
        raise SettingsError(f"engine_args attn_implementation is {attention!r}: give a text")
