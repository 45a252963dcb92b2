"""An event loop in a thread of its own, so that synchronous calls work inside a running loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["in_background", "run_in_background"]

Result = TypeVar("Result")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


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
    """The coroutine's result, run on that loop whatever loop this is.

    What belongs to one event loop, as connections do, serves all callers so. A cancelled caller
    cancels the coroutine.
    """
    loop = _background_loop()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))


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
