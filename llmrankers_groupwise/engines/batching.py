"""Micro-batches that form themselves from concurrent requests."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from llmrankers_groupwise.concurrency import ForkGuard
from llmrankers_groupwise.errors import EngineError, ModelError

__all__ = ["Batcher"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Runs `run(items) -> results` in one thread on whatever has come in meanwhile.

    While a batch is running the next one gathers, up to `max_batch` items, so no timer is needed
    and a single item never waits. Callers may live in different event loops and threads.

    Args:
        run: one result for each item, in order; a result that is an exception is raised to its
            item alone. An exception raised goes to every item of its batch.
        max_batch: the most items of one batch.
        name: the thread's name.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        max_batch: int,
        name: str,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._name = name
        self._waiting: queue.SimpleQueue[tuple[Item, Future[Result]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._process = ForkGuard()
        self._process.settle()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was closed: what runs should come to an end."""
        return self._closed

    async def submit(self, item: Item) -> Result:
        """The result for one item.

        Raises:
            EngineError: the batcher was closed while the item was waiting.
            ModelError: the batcher is closed, or this process is a fork of the one that made it.
        """
        future: Future[Result] = Future()
        self._process.settle()
        with self._lock:
            if self._closed:
                raise ModelError("the engine is closed; make another")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.put((item, future))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Fail what is waiting, wait for the batch that is running, and end the thread.

        A `run` that takes long looks at `closed` now and then.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            items = [item for item, _ in batch]
            futures = [future for _, future in batch]
            try:
                results = list(zip(futures, self._run(items), strict=True))
            except BaseException as error:  # whatever it is, the callers must hear of it
                for future in futures:
                    future.set_exception(error)
            else:
                for future, result in results:
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        self._fail_waiting()

    def _next_batch(self) -> list[tuple[Item, Future[Result]]]:
        """What is waiting, at least one item unless closing; cancelled ones are dropped."""
        batch: list[tuple[Item, Future[Result]]] = []
        while not self._closed and len(batch) < self._max_batch:
            if batch and self._waiting.empty():
                break
            entry = self._waiting.get()
            if entry is not None and entry[1].set_running_or_notify_cancel():
                batch.append(entry)
        return [] if self._closed and not batch else batch

    def _fail_waiting(self) -> None:
        while not self._waiting.empty():
            entry = self._waiting.get()
            if entry is not None and entry[1].set_running_or_notify_cancel():
                entry[1].set_exception(EngineError("the engine was closed"))
