"""Copies of an engine in Ray workers, on this machine or a cluster, behind one engine's interface.

Only this folder knows where a worker is and whether it dies: methods, prompts and journals see an
engine that answers many requests at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from llmrankers_groupwise.concurrency import ForkGuard, end_in_background, in_background
from llmrankers_groupwise.engines.base import Engine, EngineSettings, PromptSize, installed
from llmrankers_groupwise.engines.ray.cluster import check_installed, gpus_of
from llmrankers_groupwise.engines.ray.pool import Pool
from llmrankers_groupwise.engines.registry import engine_class, resolve_engine
from llmrankers_groupwise.errors import ModelError, SettingsError
from llmrankers_groupwise.types import Reply, Request, Sampling, Scoring

__all__ = ["RayEngine"]


class RayEngine(Engine):
    """Answers by copies of another engine, each an actor of Ray's; started when first needed.

    A request goes to the worker with the fewest open. A worker that dies is replaced and what it
    had open is asked again; one that dies three times in a row without an answer ends the run.
    A copy of the engine in this process, which is never asked, counts tokens and makes prompts.

    Remote nodes need this package, with the engine's extra and of the same version, the files that
    settings name by path, and in their environment the keys that an engine reads from there. A
    worker counts as no CPU; Ray gives each OMP_NUM_THREADS=1 where the environment sets none.

    Args:
        engine: an engine's name, or a function without arguments that makes one and can be
            pickled: its module is importable where workers run.
        settings: of the engine of that name.
        num_workers: how many copies.
        gpus_per_worker: GPUs of each, on one node; 0.5 lets two share one. By default as many as
            vLLM's tensor_parallel_size, pipeline_parallel_size and data_parallel_size make, 1 for
            transformers unless device is none of CUDA's, else 0; and 0 on a cluster without GPUs.
        address: of a cluster, as ray.init takes it. By default the environment's RAY_ADDRESS, or
            else a cluster on this machine, which ends with `close`. If the application has
            initialised Ray already, that is used, and left as it is.

    Raises:
        SettingsError: settings that the engine refuses, or numbers out of their range.
        MissingDependencyError: Ray is not installed, or what the engine needs.
    """

    scorings: tuple[Scoring, ...]

    def __init__(
        self,
        engine: str | Callable[[], Engine],
        settings: EngineSettings | None = None,
        *,
        num_workers: int = 1,
        gpus_per_worker: float | None = None,
        address: str | None = None,
    ) -> None:
        settings = settings or EngineSettings()
        _check_numbers(num_workers, gpus_per_worker)
        make = _maker(engine, settings)
        default_gpus = gpus_of(engine, settings)
        self._num_workers = num_workers
        self._inner = resolve_engine(make(), EngineSettings())
        self.scorings = self._inner.scorings
        self.reads_prompts = self._inner.reads_prompts
        self.reads_texts = self._inner.reads_texts
        self.order_rule = self._inner.order_rule
        check_installed()
        self._pool = Pool(make, num_workers, gpus_per_worker, default_gpus, address)
        self._process = ForkGuard()
        self._closed = False

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The reply to one request, from whichever worker.

        Raises:
            EngineError: the engine cannot answer it, or was closed meanwhile.
            ModelError: Ray cannot be used, a worker dies again and again, the engine's model cannot
                be used, or the engine is closed.
            SettingsError: the cluster has too few GPUs, or the engine refuses an argument.
            RuntimeError: a defect in a worker, named with its exception.
        """
        if self._closed:
            raise ModelError("the engine is closed; make another")
        self._process.settle()
        return await in_background(self._pool.ask(request, sampling))

    def prompt_size(self, request: Request, sampling: Sampling) -> PromptSize:
        """What the request would cost, as the engine has it."""
        return self._inner.prompt_size(request, sampling)

    def count_tokens(self, text: str) -> int:
        """How many of the model's tokens `text` has, special tokens not counted."""
        return self._inner.count_tokens(text)

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` tokens."""
        return self._inner.truncate(text, length)

    def describe(self) -> dict[str, object]:
        """The engine's description, of a worker's as soon as one has answered, and the workers'."""
        pool = self._pool
        workers = {
            "num_workers": self._num_workers,
            "gpus_per_worker": pool.gpus,
            "cluster": pool.cluster,
            "replaced": pool.replaced,
            "versions": installed("ray"),
        }
        return {**self._inner.describe(), **pool.described, "workers": workers}

    def identity(self) -> Mapping[str, object]:
        """The engine's: where it runs does not shape its replies."""
        return self._inner.identity()

    def close(self) -> None:
        """End the workers, and Ray's cluster if it is ours; open requests fail with EngineError."""
        if self._closed:
            return
        self._closed = True
        if self._process.is_here:
            end_in_background(self._pool.close())
        self._inner.close()


def _maker(engine: str | Callable[[], Engine], settings: EngineSettings) -> Callable[[], Engine]:
    """What makes the engine, here and in a worker."""
    if isinstance(engine, str):
        return functools.partial(engine_class(engine), settings)
    if settings != EngineSettings():
        raise SettingsError("settings are for an engine by its name; bind them in the function")
    if not callable(engine):
        raise SettingsError(
            f"engine is {engine!r}: give a name, or a function that makes an engine; an object "
            f"cannot be copied into workers"
        )
    return engine


def _check_numbers(num_workers: int, gpus_per_worker: float | None) -> None:
    if type(num_workers) is not int or num_workers < 1:
        raise SettingsError(f"num_workers is {num_workers!r}: give a whole number from 1")
    gpus = gpus_per_worker
    if gpus is None:
        return
    number = isinstance(gpus, int | float) and not isinstance(gpus, bool)
    if not number or not (0 <= gpus < 1 or (gpus >= 1 and gpus == int(gpus))):
        raise SettingsError(
            f"gpus_per_worker is {gpus!r}: give a whole number, or a share of one below 1"
        )
