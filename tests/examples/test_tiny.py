"""examples/tiny with --quick: from a decoder that knows no contract to a trained ranker."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from llmrankers.rankers import SearchResult

from llmrankers_groupwise import GroupwiseLlmRanker

EXPERIMENT = Path(__file__).parents[2] / "examples" / "tiny" / "run.py"


@pytest.fixture(scope="module")
def trained(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run(
        [sys.executable, EXPERIMENT, "--quick", "--jobs", "1", "--save_path", folder],
        env={**os.environ, "GROUPWISE_SHARED": str(shared)},
        check=True,
        capture_output=True,
        text=True,
    )
    return folder


def measured(folder: Path, name: str) -> list[float]:
    lines = (folder / "log_history.jsonl").read_text(encoding="utf-8").splitlines()
    points: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [point[name] for point in points if name in point]


def test_sft_teaches_the_contract(trained: Path) -> None:
    valid = measured(trained / "SFT-0", "eval_valid_replies")

    assert valid[0] == 0.0
    assert valid[-1] > 0.9


def test_grpo_goes_on_from_there_and_gives_a_ranker(trained: Path) -> None:
    rewards = measured(trained / "v3-0", "reward")
    docs = [SearchResult(docid=str(number), score=9 - number, text="word") for number in range(5)]

    with GroupwiseLlmRanker(
        str(trained / "v3-0"), engine="transformers", scoring="generation", group_size=5
    ) as ranker:
        ranked = ranker.rerank("word", docs)

    assert len(rewards) == 4
    assert {each.docid for each in ranked} == {each.docid for each in docs}
    assert ranker.settings.prompt.name == "prompt"


def test_the_results_are_a_table_and_a_plot(trained: Path) -> None:
    table = (trained / "results.md").read_text(encoding="utf-8").splitlines()

    assert [line.split(" | ")[0] for line in table[2:]] == [
        "| none",
        "| SFT",
        "| SFT, then GRPO: v3",
    ]
    assert "held-out nDCG@10" in (trained / "curves.svg").read_text(encoding="utf-8")
