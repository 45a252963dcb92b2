"""Interrupts of a running coroutine: it ends in order, whenever they come and how often."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, signal, sys
from llmrankers_groupwise.concurrency import run_interruptibly
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

async def work():
    try:
        for number in {signals}:
            os.kill(os.getpid(), number)
        {then}
    finally:
        await asyncio.sleep(0)
        print("ended in order", flush=True)

try:
    print(run_interruptibly(work()))
except KeyboardInterrupt:
    print("interrupted")
"""


def ended(signals, then="await asyncio.Event().wait()"):
    program = PROGRAM.format(signals=[int(each) for each in signals], then=then)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("times", [1, 2])
def test_interrupts_end_it_in_order(times):
    done = ended([signal.SIGINT] * times)
    assert (done.returncode, done.stdout) == (0, "ended in order\ninterrupted\n"), done.stderr


def test_a_time_limit_ends_it_in_order_and_then_as_its_handler_says():
    done = ended([signal.SIGTERM])
    assert (done.returncode, done.stdout) == (143, "ended in order\n"), done.stderr


def test_an_interrupt_that_the_coroutine_swallows_is_one_all_the_same():
    swallowing = "\n        try: await asyncio.Event().wait()\n"
    swallowing += "        except asyncio.CancelledError: return 7"
    done = ended([signal.SIGINT], swallowing)
    assert done.stdout == "ended in order\ninterrupted\n"


def test_without_one_the_result_comes_back():
    done = ended([], "return 7")
    assert (done.returncode, done.stdout) == (0, "ended in order\n7\n"), done.stderr
