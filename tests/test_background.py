import asyncio
import threading

import pytest

from llmrankers_groupwise.background import (
    end_in_background,
    in_background,
    run_in_background,
)


async def where() -> str:
    return threading.current_thread().name


def test_coroutines_of_many_loops_run_on_one() -> None:
    assert asyncio.run(in_background(where())) == "groupwise-loop"
    assert asyncio.run(in_background(where())) == "groupwise-loop"
    assert run_in_background(in_background(where())) == "groupwise-loop"


def test_an_exception_reaches_the_caller() -> None:
    async def fail() -> None:
        raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        asyncio.run(in_background(fail()))


def test_cancelling_the_wait_cancels_what_runs() -> None:
    began, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def cancel() -> None:
        task = asyncio.create_task(in_background(wait()))
        await asyncio.to_thread(began.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert ended.wait(10)


def test_freeing_something_is_waited_for_but_not_on_the_loop_itself() -> None:
    freed = threading.Event()

    async def free() -> None:
        freed.set()

    end_in_background(free())
    assert freed.is_set()
    freed.clear()

    async def free_from_there() -> None:
        end_in_background(free())
        assert not freed.is_set()

    run_in_background(free_from_there())
    assert freed.wait(10)
