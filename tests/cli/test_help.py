"""What the command shows of itself."""

import re

import pytest

from llmrankers_groupwise.cli import main


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def options(text: str) -> set[str]:
    return set(re.findall(r"^ +(--\w+)", text, re.MULTILINE))


def test_without_words_the_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == shown(capsys, "--help")
    assert shown(capsys, "run") == shown(capsys, "run", "--help")


def test_the_help_of_run_has_an_example_presets_and_what_most_people_need(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(capsys, "run", "--help")
    assert "run-groupwise run --run_path bm25.trec --query_file queries.tsv" in text
    for question in ("what to rerank:", "where to write, and what to print:", "which model scores"):
        assert question in text
    assert "balanced   one call more than fast" in text
    assert options(text) - {"--engine"} == {
        "--run_path", "--candidates", "--query_file", "--corpus", "--hits", "--save_path",
        "--qrels", "--dry_run", "--explain", "--model_name_or_path", "--engine_args", "--preset",
        "--config",
    }  # fmt: skip
    assert "groupwise " in text
    assert "--help_all" in text


def test_the_whole_help_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    few, every = (options(shown(capsys, "run", word)) for word in ("--help", "--help_all"))
    assert few < every
    assert {"--temperature", "--dataset_shard_index", "--distributed", "--print_config"} <= every
