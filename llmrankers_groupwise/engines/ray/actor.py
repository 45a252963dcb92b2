"""An engine as an actor of Ray's, and how one is made, awaited and ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.errors import GroupwiseError
from llmrankers_groupwise.types import Reply, Request, Sampling

__all__ = ["Worker", "cause", "kill", "make_worker", "on_one_line", "result"]

_OPEN = 1000
"""Requests of one actor at a time; more wait in Ray."""


class Worker:
    """The actor: an engine in a process of Ray's.

    Args:
        make: makes the engine.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make

    async def ready(self) -> GroupwiseError | None:
        """Makes the engine, which loads its model with the first request; or returns why not."""
        try:
            self._engine = self._make()
        except GroupwiseError as error:
            return error
        return None

    async def answer(self, request: Request, sampling: Sampling) -> Reply | GroupwiseError:
        """The engine's reply, or its error: what is returned comes as it is, not in Ray's words."""
        try:
            return await self._engine.answer(request, sampling)
        except GroupwiseError as error:
            return error

    async def describe(self) -> dict[str, object]:
        """The engine's description."""
        return self._engine.describe()

    async def close(self) -> None:
        """Close the engine."""
        await asyncio.to_thread(self._engine.close)


def make_worker(make: Callable[[], Engine], gpus: float) -> Any:
    """The handle of an actor that Ray is about to start.

    Args:
        make: makes the engine, in the worker.
        gpus: GPUs to itself. CPUs are not counted: a laptop runs more engines than it has cores.
    """
    import ray

    # Workers with GPUs are packed, which leaves whole nodes to others.
    strategy = "DEFAULT" if gpus else "SPREAD"
    options = {"num_cpus": 0, "num_gpus": gpus, "scheduling_strategy": strategy}
    return ray.remote(Worker).options(**options, max_concurrency=_OPEN).remote(make)


async def result(ref: Any) -> Any:
    """What an actor's method returns; a wait that is cancelled cancels the method."""
    import ray

    try:
        return await ref
    except asyncio.CancelledError:
        ray.cancel(ref)
        raise


def kill(actor: Any) -> None:
    """End an actor, whatever it does; None and one that is gone already are well."""
    import ray

    if actor is not None:
        with contextlib.suppress(Exception):  # whatever Ray reports of an actor that is gone
            ray.kill(actor)


def cause(error: Any) -> str:
    """What a method raised, as Ray's RayTaskError has it, without the traceback."""
    return f"{type(error.cause).__name__}: {error.cause}"


def on_one_line(error: BaseException) -> str:
    """Ray's message, in one line, as long as a line may be."""
    return " ".join(str(error).split())[:400]
