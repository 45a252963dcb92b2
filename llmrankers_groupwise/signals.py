"""Running a coroutine to its end or to an interrupt, without one landing in the loop's own code."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_interruptibly"]

Result = TypeVar("Result")


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
