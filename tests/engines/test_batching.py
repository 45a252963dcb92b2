"""The micro-batches that concurrent requests form."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from llmrankers_groupwise.engines.batching import Batcher
from llmrankers_groupwise.errors import EngineError, ModelError


def test_every_item_gets_its_own_result_and_no_batch_is_too_large() -> None:
    batches: list[int] = []

    def double(items: Sequence[int]) -> list[int]:
        batches.append(len(items))
        return [2 * item for item in items]

    async def submit_all() -> list[int]:
        return await asyncio.gather(*(batcher.submit(item) for item in range(100)))

    batcher = Batcher(double, max_batch=8, name="test")
    assert asyncio.run(submit_all()) == [2 * item for item in range(100)]
    assert max(batches) <= 8
    assert sum(batches) == 100
    batcher.close()


def test_items_that_come_while_a_batch_runs_go_together_in_the_next() -> None:
    batches: list[list[int]] = []
    first_runs, others_wait = threading.Event(), threading.Event()

    def record(items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        first_runs.set()
        assert others_wait.wait(timeout=30)
        return items

    async def submit_all() -> None:
        first = asyncio.create_task(batcher.submit(0))
        await asyncio.to_thread(first_runs.wait, 30)
        others = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
        await asyncio.sleep(0)  # let the tasks run up to their waiting
        others_wait.set()
        await asyncio.gather(first, *others)

    batcher = Batcher(record, max_batch=8, name="test")
    asyncio.run(submit_all())
    assert batches == [[0], [1, 2, 3]]
    batcher.close()


def test_an_exception_reaches_every_item_of_its_batch_and_the_next_batch_runs() -> None:
    def refuse_zero(items: Sequence[int]) -> Sequence[int]:
        if 0 in items:
            raise EngineError("zero")
        return items

    async def submit_all() -> None:
        with pytest.raises(EngineError, match="zero"):
            await batcher.submit(0)
        assert await batcher.submit(1) == 1

    batcher = Batcher(refuse_zero, max_batch=1, name="test")
    asyncio.run(submit_all())
    batcher.close()


@pytest.mark.parametrize("results", [[], [1, 2]], ids=["too few", "too many"])
def test_a_wrong_number_of_results_reaches_the_caller(results: list[int]) -> None:
    batcher = Batcher(lambda items: results, max_batch=4, name="test")
    for _ in range(2):  # the thread lives on
        with pytest.raises(ValueError, match="zip"):
            asyncio.run(batcher.submit(1))
    batcher.close()


def test_even_an_exception_that_is_none_of_exception_reaches_the_caller() -> None:
    class Panic(BaseException):
        pass

    def panic(items: Sequence[int]) -> Sequence[int]:
        raise Panic

    async def submit_twice() -> None:
        for _ in range(2):
            with pytest.raises(Panic):
                await batcher.submit(1)

    batcher = Batcher(panic, max_batch=4, name="test")
    asyncio.run(submit_twice())
    batcher.close()


def test_it_serves_one_event_loop_after_another() -> None:
    batcher = Batcher(lambda items: items, max_batch=4, name="test")
    assert [asyncio.run(batcher.submit(item)) for item in (1, 2)] == [1, 2]
    batcher.close()


def test_a_cancelled_item_is_not_run() -> None:
    ran: list[int] = []
    first_runs, go_on = threading.Event(), threading.Event()

    def record(items: Sequence[int]) -> Sequence[int]:
        first_runs.set()
        assert go_on.wait(timeout=30)
        ran.extend(items)
        return items

    async def cancel_one() -> None:
        first = asyncio.create_task(batcher.submit(0))
        await asyncio.to_thread(first_runs.wait, 30)
        second, third = (asyncio.create_task(batcher.submit(item)) for item in (1, 2))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        go_on.set()
        await asyncio.gather(first, third)

    batcher = Batcher(record, max_batch=8, name="test")
    asyncio.run(cancel_one())
    assert ran == [0, 2]
    batcher.close()


def test_closing_fails_what_is_waiting_and_what_comes_later() -> None:
    first_runs, go_on = threading.Event(), threading.Event()

    def wait(items: Sequence[int]) -> Sequence[int]:
        first_runs.set()
        assert go_on.wait(timeout=30)
        return items

    async def close_while_waiting() -> list[int | BaseException]:
        first = asyncio.create_task(batcher.submit(0))
        await asyncio.to_thread(first_runs.wait, 30)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        later = []
        while not later or not later[-1].done():  # until one is refused at once
            later.append(asyncio.create_task(batcher.submit(1)))
            await asyncio.sleep(0)
        go_on.set()
        await closing
        return await asyncio.gather(first, *later, return_exceptions=True)

    batcher = Batcher(wait, max_batch=1, name="test")
    first, *later = asyncio.run(close_while_waiting())
    assert first == 0
    *waiting, refused = later
    assert all(isinstance(each, EngineError) for each in waiting)
    assert isinstance(refused, ModelError)
