"""Values that are made once, an event loop in a thread of its own, and interrupts.

Synchronous calls run their coroutines on the loop, so that they work inside a running loop. What
belongs to one loop, as a client with open connections does, lives on it and serves callers of any.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeVar

from llmrankers_groupwise.errors import ModelError

__all__ = [
    "SEQUENTIAL_CALLS",
    "AsyncLazy",
    "ForkGuard",
    "Lazy",
    "consume_exception",
    "end_in_background",
    "gather",
    "in_background",
    "run_in_background",
    "run_interruptibly",
]

Result = TypeVar("Result")

SEQUENTIAL_CALLS: ContextVar[int] = ContextVar("waited", default=0)
"""How many calls the running task has waited for, one after another."""

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_ending: set[Future[Any]] = set()  # a loop holds its tasks by weak references only


class ForkGuard:
    """The process that threads and connections belong to: they do not survive a fork."""

    def __init__(self) -> None:
        self._number: int | None = None

    def settle(self) -> None:
        """Belong to this process from the first call on.

        Raises:
            ModelError: this is a fork of it.
        """
        self._number = self._number or os.getpid()
        if not self.is_here:
            raise ModelError(
                "an engine cannot be used in a forked process: make it there, after the fork"
            )

    @property
    def is_here(self) -> bool:
        """Whether this is that process."""
        return self._number == os.getpid()


class Lazy(Generic[Result]):
    """A value that is made by its first call, whichever thread that comes from.

    An exception of the making is remembered as well and raised to every later call: what cannot
    be loaded is not tried again by each of a hundred requests.

    Args:
        make: makes the value.
    """

    def __init__(self, make: Callable[[], Result]) -> None:
        self._make = make
        self._made: tuple[Result] | None = None
        self._error: Exception | None = None
        self._lock = threading.RLock()

    def __call__(self) -> Result:
        """The value; other threads wait while it is being made."""
        with self._lock:
            if self._error is not None:
                # Each raise has its own traceback, or it would grow with them.
                raise self._error.with_traceback(None)
            if self._made is None:
                try:
                    self._made = (self._make(),)
                except Exception as error:
                    self._error = error
                    raise
            return self._made[0]

    @property
    def made(self) -> Result | None:
        """The value if it is there, without making it or waiting for it."""
        return None if self._made is None else self._made[0]

    def forget(self) -> Result | None:
        """Let go of the value and return it, if it is there; a remembered exception stays.

        While it is being made, this waits.
        """
        with self._lock:
            made, self._made = self.made, None
            return made


class AsyncLazy(Generic[Result]):
    """A value that a thread of its own makes at the first wait for it, for all event loops.

    Args:
        make: makes the value; it may block, and may use the background loop.
    """

    def __init__(self, make: Callable[[], Result]) -> None:
        self._make = make
        self._future: Future[Result] = Future()
        self._lock = threading.Lock()

    async def value(self) -> Result:
        """The value, or the exception of making it; cancelling the wait does not end that."""
        with self._lock:
            if not self._future.running() and not self._future.done():
                self._future.set_running_or_notify_cancel()
                threading.Thread(target=self._run, name="groupwise-eventually", daemon=True).start()
        return await asyncio.wrap_future(self._future)

    def _run(self) -> None:
        try:
            self._future.set_result(self._make())
        except BaseException as error:
            self._future.set_exception(error)


async def gather(coroutines: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Their results in order, all running at once; the first exception cancels the others.

    Who waits for them has waited for as many calls as the one that waited for most.
    """
    started = [(coroutine, copy_context()) for coroutine in coroutines]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each, context=context) for each, context in started]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    SEQUENTIAL_CALLS.set(
        max([SEQUENTIAL_CALLS.get(), *(context.get(SEQUENTIAL_CALLS, 0) for _, context in started)])
    )
    return [task.result() for task in tasks]


def run_in_background(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The coroutine's result, from synchronous code wherever that runs itself.

    Notebooks and web servers run a loop in the calling thread already, where asyncio.run refuses
    to start another. One thread serves the whole process; it starts with the first call. An
    interrupt of the waiting thread cancels the coroutine.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, _background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def in_background(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The coroutine's result, run on the background loop and awaited on any, that one included.

    It runs as a task of its own there; cancelling the wait cancels it.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, _background_loop())
    return await asyncio.wrap_future(future)


def consume_exception(task: asyncio.Task[Any]) -> None:
    """Call it when a task is done and no other code may read its exception."""
    if not task.cancelled():
        task.exception()


def end_in_background(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that frees something to its end.

    On the background loop itself, which waiting would block, it is started and not waited for.
    """
    loop = _background_loop()
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if here:
        _ending.add(future)
        future.add_done_callback(_ending.discard)
    else:
        future.result()


def _background_loop() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603  one loop for the process
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="groupwise-loop", daemon=True).start()
        return _loop


def _forget() -> None:
    """A forked child has no such thread: it starts its own."""
    global _lock, _loop
    _lock, _loop = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def run_interruptibly(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """As asyncio.run, but an interrupt (SIGINT, SIGTERM if it is handled) cancels the coroutine.

    An exception that a signal handler raises in the middle of the loop's code can leave a task that
    never wakes up; asyncio.run guards against the first interrupt only, and `timeout` and shells
    send two. The handler is called when the coroutine has ended. The third interrupt ends the
    process at once, should the end in order hang.
    """
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(coroutine)
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {
        each: signal.getsignal(each) for each in numbers if callable(signal.getsignal(each))
    }
    received: list[signal.Signals] = []
    try:
        result = asyncio.run(_watched(coroutine, list(handlers), received))
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])  # for its handler, which raises as a rule
        raise KeyboardInterrupt
    return result


async def _watched(
    coroutine: Coroutine[Any, Any, Result],
    numbers: list[signal.Signals],
    received: list[signal.Signals],
) -> Result:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def end(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            task.cancel()
        else:
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        with contextlib.suppress(NotImplementedError):  # Windows: asyncio.run does what it can
            loop.add_signal_handler(number, end, number)
    return await coroutine
