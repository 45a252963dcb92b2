import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmrankers_groupwise.concurrency import (
    Lazy,
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


def test_a_value_is_made_once_for_all_threads() -> None:
    made: list[object] = []
    ready = threading.Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    once = Lazy(make)
    assert once.made is None

    def get(_: int) -> object:
        ready.wait(30)
        return once()

    with ThreadPoolExecutor(8) as pool:
        values = set(pool.map(get, range(8)))
    assert values == {once.made} == set(made)
    assert len(made) == 1


def test_none_is_a_value_too() -> None:
    calls: list[None] = []
    once = Lazy(lambda: calls.append(None))
    assert once() is None
    assert once() is None
    assert len(calls) == 1


def test_what_cannot_be_made_is_not_tried_again() -> None:
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise LookupError("not there")

    once = Lazy(fail)
    errors = []
    for _ in range(3):
        with pytest.raises(LookupError, match="not there") as caught:
            once()
        errors.append(caught.value)
    assert len(tries) == 1
    assert errors[0] is errors[1] is errors[2]
    assert once.made is None


def test_a_forgotten_value_is_made_anew() -> None:
    numbers = iter(range(2))
    once = Lazy(lambda: next(numbers))
    assert once.forget() is None
    assert once() == 0
    assert once.forget() == 0
    assert once() == 1
