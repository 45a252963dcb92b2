"""The example of an engine of one's own runs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example_of_an_own_engine_runs() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "examples" / "own_engine.py"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.splitlines() == [
        "d2 5.00 bread and butter make a good breakfast",
        "d1 0.00 a passage about the tide and the moon",
    ]
