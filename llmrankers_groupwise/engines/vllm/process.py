"""vLLM's asynchronous engine, started and asked: what of vLLM's own interface is used here."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from llmrankers_groupwise.concurrency import end_in_background
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.llm.adapters import check_adapter, lora_rank
from llmrankers_groupwise.errors import (
    EngineError,
    MissingDependencyError,
    ModelError,
    SettingsError,
)

__all__ = ["Vllm"]


_OURS = {
    "model": "model_name_or_path",
    "tokenizer": "tokenizer_name_or_path",
    "download_dir": "cache_dir",
}


class Vllm:
    """A running vLLM. Its coroutines are for the background loop.

    Args:
        settings: model, tokenizer, adapter and cache_dir.
        args: for vllm.AsyncEngineArgs.

    Raises:
        SettingsError: an argument that vLLM does not know.
        ModelError: vLLM cannot be started with this model.
        MissingDependencyError: vllm is not installed.
    """

    def __init__(self, settings: EngineSettings, args: Mapping[str, Any]) -> None:
        self.engine = _started(settings, args)
        self._settings = settings
        self._adapter: Any = None
        self._adapting = asyncio.Lock()
        self._numbers = itertools.count()
        self._closed = False
        self._open: set[asyncio.Task[Any]] = set()

    async def generate(
        self, token_ids: Sequence[int], *, regex: str | None = None, **sampling: Any
    ) -> Any:
        """What vLLM writes after these tokens: its CompletionOutput.

        Args:
            token_ids: the prompt.
            regex: what the text must match.
            sampling: for vllm.SamplingParams.

        Raises:
            EngineError: vLLM refuses the request, or was closed meanwhile.
            ModelError: vLLM has died, or cannot use the adapter.
        """
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
        from vllm.v1.engine.exceptions import EngineDeadError

        await self._adapt()
        if self._closed:
            raise EngineError("the engine was closed")
        if regex is not None:
            sampling["structured_outputs"] = StructuredOutputsParams(regex=regex)
        params = SamplingParams(
            output_kind=RequestOutputKind.FINAL_ONLY, skip_special_tokens=False, **sampling
        )
        stream = self.engine.generate(
            TokensPrompt(prompt_token_ids=list(token_ids)),
            params,
            f"groupwise-{next(self._numbers)}",
            lora_request=self._adapter,
        )
        reading = asyncio.create_task(_final(stream))
        self._open.add(reading)
        try:
            output = await reading
        except asyncio.CancelledError:
            if self._closed:
                raise EngineError("the engine was closed") from None
            raise  # by the caller, which has ended the reading, too
        except Exception as error:
            if self._closed:
                raise EngineError("the engine was closed") from error
            if isinstance(error, EngineDeadError):
                raise ModelError("vLLM has died; its own messages tell why") from error
            raise EngineError(f"vLLM refuses the request: {_line(error)}") from error
        finally:
            self._open.discard(reading)
        return output.outputs[0]

    def close(self) -> None:
        """Stop vLLM's processes, on the loop that serves it, or it reports a failure."""
        self._closed = True
        end_in_background(self._shut_down())

    async def _shut_down(self) -> None:
        # vLLM never answers what is open at its end.
        for reading in self._open:
            reading.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self.engine.shutdown()
        del self.engine  # which shuts down once more, and must not at the interpreter's end

    async def _adapt(self) -> None:
        """Load the LoRA adapter, if there is one, once."""
        path = self._settings.lora_name_or_path
        if path is None or self._adapter is not None:
            return
        from vllm.lora.request import LoRARequest

        async with self._adapting:
            if self._adapter is not None:
                return
            config, cache_dir = self.engine.model_config.hf_text_config, self._settings.cache_dir
            await asyncio.to_thread(check_adapter, path, config, cache_dir)
            if self._closed:
                raise EngineError("the engine was closed")
            adapter = LoRARequest("adapter", 1, path)
            try:
                await self.engine.add_lora(adapter)
            except Exception as error:
                raise ModelError(
                    f"cannot use the adapter {path}: {_line(error)}; was it trained on this model?"
                ) from error
            self._adapter = adapter


async def _final(stream: Any) -> Any:
    """The one output of a stream of final outputs."""
    (output,) = [output async for output in stream]
    return output


def _started(settings: EngineSettings, args: Mapping[str, Any]) -> Any:
    """VLLM's asynchronous engine."""
    # Standard output belongs to results, as of --json.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    try:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise MissingDependencyError(f"engine vllm needs vLLM ({error})", "vllm") from error
    for name, ours in _OURS.items():
        if name in args:
            raise SettingsError(f"engine_args has {name!r}: give it by {ours}")
    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    for name in args:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SettingsError(f"engine_args has {name!r}, unknown to vLLM{hint}")
    named = {
        "model": settings.model_name_or_path,
        "tokenizer": settings.tokenizer_name_or_path,
        "download_dir": settings.cache_dir,
    }
    given = {name: value for name, value in named.items() if value is not None} | dict(args)
    if settings.lora_name_or_path:
        rank = lora_rank(settings.lora_name_or_path, settings.cache_dir)
        given = {"enable_lora": True, "max_lora_rank": rank, **given}
    try:
        return AsyncLLM.from_engine_args(AsyncEngineArgs(**given))
    except Exception as error:  # of many kinds, from several processes
        raise ModelError(
            f"vLLM cannot be started with {settings.model_name_or_path}: {_line(error)}"
        ) from error


def _line(error: BaseException) -> str:
    """The error in one line, as long as a line may be."""
    return " ".join((str(error).strip() or type(error).__name__).split())[:400]
