"""Copies of an engine as Ray actors: requests spread over them, dead ones replaced.

Everything here runs on the background event loop and needs no locks.
Ray's own restarts (max_restarts, max_task_retries) are not used: they count over an actor's whole
life, so that a limit would end a long run, and no limit would try a broken worker for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.engines.ray.actor import cause, kill, make_worker, on_one_line, result
from llmrankers_groupwise.engines.ray.cluster import check_room, gpus_of_nodes, join, leave
from llmrankers_groupwise.errors import EngineError, GroupwiseError, ModelError, SettingsError
from llmrankers_groupwise.types import Reply, Request, Sampling

__all__ = ["Pool"]

logger = logging.getLogger(__name__)

_DEATHS = 3
"""A worker that dies this number of times with no answer in between ends the run."""

_REQUEST_DEATHS = 10
"""A request is not asked again once this number of workers died with it: it may be what kills them.
More than _DEATHS, as most requests are open by chance when a worker dies."""

_PATIENCE = 30.0
"""Seconds that the first requests wait for all workers, and after which a wait is looked into."""

_PAUSE = 5.0
"""Seconds before a worker that died again is replaced: what kills it, as a node that is going down
or has no memory left, may pass."""

_CLOSING = 10.0
"""Seconds that a worker's engine has to end in order."""


@dataclass(eq=False)
class _Slot:
    """A slot for a worker: for an actor, and after its death for the next.

    Attributes:
        actor: the present one.
        up: whether it has come up.
        open: requests that were sent and not answered.
        deaths: of actors of this slot since the last answer.
    """

    actor: Any = None
    up: bool = False
    open: int = 0
    deaths: int = 0


class Pool:
    """Workers that answer requests, each by the one with the fewest open.

    Args:
        make: makes an engine, in the worker.
        num_workers: how many.
        gpus: what each takes; None means `default_gpus` where the cluster has GPUs, else none.
        default_gpus: see `gpus`.
        address: of the cluster, see ray_cluster.join.
    """

    def __init__(
        self,
        make: Callable[[], Engine],
        num_workers: int,
        gpus: float | None,
        default_gpus: int,
        address: str | None,
    ) -> None:
        self._make = make
        self._wanted = (num_workers, gpus, default_gpus, address)
        self._slots = [_Slot() for _ in range(num_workers)]
        self._starting: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._closed = False
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.cluster: str | None = None
        self.gpus: float | None = gpus
        self.replaced = 0
        self.described: dict[str, object] = {}

    async def ask(self, request: Request, sampling: Sampling) -> Reply:
        """The reply of one of the workers; asked again if that dies.

        Raises:
            EngineError: the engine cannot answer it, too many workers died with it, or the pool
                was closed meanwhile.
            ModelError: no worker can be started, or one dies again and again.
            RuntimeError: a defect in a worker.
        """
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._closed:
                raise asyncio.CancelledError
            await self._started()
            return await self._ask(request, sampling)
        except asyncio.CancelledError:
            if self._closed:
                raise EngineError("the engine was closed") from None
            raise
        finally:
            self._tasks.discard(task)

    async def close(self) -> None:
        """End requests, workers, and the cluster if it is ours."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._starting is None:
            return
        await asyncio.gather(self._starting, return_exceptions=True)
        if self.cluster is None:
            return
        ends = [result(slot.actor.close.remote()) for slot in self._slots if slot.up]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING):
                await asyncio.gather(*ends, return_exceptions=True)
        for slot in self._slots:
            kill(slot.actor)
        await asyncio.to_thread(leave)

    async def _started(self) -> None:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        """Come to Ray and bring all workers up; what cannot be is a failure."""
        num_workers, gpus, default_gpus, address = self._wanted
        try:
            self.cluster = await asyncio.to_thread(join, address)
            nodes = await asyncio.to_thread(gpus_of_nodes)
            self.gpus = (default_gpus if any(nodes) else 0) if gpus is None else gpus
            check_room(num_workers, self.gpus, nodes)
        except Exception as error:
            self._fail(error)
            return
        if not self._closed:
            # All of them, or the first that is up would get all of a small run.
            await asyncio.wait({self._bring_up(slot) for slot in self._slots}, timeout=_PATIENCE)

    async def _ask(self, request: Request, sampling: Sampling) -> Reply:
        from ray.exceptions import RayError, RayTaskError

        for _ in range(_REQUEST_DEATHS):
            slot = await self._free_slot()
            actor = slot.actor
            slot.open += 1
            try:
                answer = await result(actor.answer.remote(request, sampling))
            except RayTaskError as error:
                raise RuntimeError(f"an engine in a Ray worker failed: {cause(error)}") from error
            except RayError as error:
                self._died(slot, actor, error)
                continue
            finally:
                slot.open -= 1
            if slot.actor is actor:
                slot.deaths = 0
            if isinstance(answer, GroupwiseError):
                raise answer
            if not self.described:
                await self._describe(actor)
            return answer  # type: ignore[no-any-return]
        raise EngineError(f"{_REQUEST_DEATHS} workers died while they had this request")

    async def _describe(self, actor: Any) -> None:
        """Ask a worker that has answered for what its engine knows of itself by now."""
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):
            self.described = await result(actor.describe.remote())

    async def _free_slot(self) -> _Slot:
        """The one with the fewest open requests of those that are up, as soon as one is."""
        while True:
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            up = [slot for slot in self._slots if slot.up]
            if up:
                return min(up, key=lambda slot: slot.open)
            self._news.clear()
            await self._news.wait()

    def _bring_up(self, slot: _Slot) -> asyncio.Task[None]:
        task = asyncio.create_task(self._come_up(slot))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _come_up(self, slot: _Slot) -> None:
        """Put an actor into the slot."""
        from ray.exceptions import RayError, RayTaskError

        await asyncio.sleep(_PAUSE * max(0, slot.deaths - 1))
        try:
            slot.actor = make_worker(self._make, self.gpus or 0)
            refusal = await self._wait_for(result(slot.actor.ready.remote()))
            if refusal is not None:
                raise refusal
        except RayTaskError as error:
            self._fail(ModelError(f"a Ray worker cannot make its engine: {cause(error)}"))
        except RayError as error:
            self._died(slot, slot.actor, error)
        except Exception as error:
            self._fail(error)
        else:
            slot.up = True
            self._news.set()

    async def _wait_for(self, ready: Coroutine[Any, Any, Any]) -> Any:
        """The result of waiting for an actor, as long as the cluster has room for it.

        Raises:
            ModelError: none is up, and there is no node on which one could be.
        """
        waiting = asyncio.create_task(ready)
        try:
            while not (await asyncio.wait({waiting}, timeout=_PATIENCE))[0]:
                logger.warning("a worker waits for %s free GPUs of the cluster", self.gpus)
                if not any(slot.up for slot in self._slots):
                    nodes = await asyncio.to_thread(gpus_of_nodes)
                    try:
                        check_room(1, self.gpus or 0, nodes)
                    except SettingsError as error:
                        raise ModelError(f"no worker is left: {error}") from None
            return await waiting
        finally:
            waiting.cancel()

    def _died(self, slot: _Slot, actor: Any, error: Exception) -> None:
        """Replace an actor, whichever of its requests reports its end first."""
        if slot.actor is not actor or self._closed:
            return
        slot.up, slot.actor = False, None
        kill(actor)  # Ray may have lost sight of it only
        slot.deaths += 1
        if getattr(error, "actor_init_failed", False):
            why = str(error).strip().splitlines()[-1]  # of a traceback
            self._fail(ModelError(f"a Ray worker cannot be made, is all installed there? {why}"))
        elif slot.deaths >= _DEATHS:
            self._fail(
                ModelError(
                    f"a Ray worker died {slot.deaths} times without an answer in between; Ray's "
                    f"last message: {on_one_line(error)}"
                )
            )
        else:
            logger.warning("a Ray worker died and is replaced: %s", on_one_line(error))
            self.replaced += 1
            self._bring_up(slot)

    def _fail(self, error: Exception) -> None:
        """End everything with this error: what is open hears of it when it asks again."""
        self._failure = self._failure or error
        self._news.set()
