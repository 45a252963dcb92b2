"""The command with language models: sampling, what is reported, and a tiny model end to end."""

import json
from pathlib import Path

import pytest
from support.desk import GOOD_ORDER, Desk, orders

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.testing import ScriptedEngine
from llmrankers_groupwise.types import Reply, Request


def manifest_of(desk: Desk) -> dict:
    return json.loads(Path(f"{desk.out}.manifest.json").read_text(encoding="utf-8"))


# --- Sampling ---------------------------------------------------------------------------------


def test_sampling_reaches_the_manifest_with_the_seed_of_the_run(desk):
    options = ["--temperature", "0.3", "--top_p", "0.8", "--max_tokens", "500",
               "--reasoning_tokens", "64", "--seed", "7"]  # fmt: skip
    assert desk.run(*options) == 0
    assert manifest_of(desk)["sampling"] == {
        "temperature": 0.3, "top_p": 0.8, "max_tokens": 500, "reasoning_tokens": 64, "seed": 7,
    }  # fmt: skip


def test_sampling_is_greedy_and_reproducible_by_default(desk):
    assert desk.run() == 0
    assert manifest_of(desk)["sampling"] == {
        "temperature": 0.0, "top_p": 1.0, "max_tokens": 8000, "reasoning_tokens": None, "seed": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--temperature", "-1"], "temperature is -1.0: give 0 or more"),
        (["--temperature", "nan"], "temperature is nan: give 0 or more"),
        (["--temperature", "hot"], "--temperature: invalid float value: 'hot'"),
        (["--top_p", "0"], "top_p is 0.0: give a number above 0, up to 1"),
        (["--top_p", "1.5"], "top_p is 1.5: give a number above 0, up to 1"),
        (["--max_tokens", "0"], "max_tokens is 0: give a whole number from 1"),
        (["--max_tokens", "1.5"], "--max_tokens: invalid int value: '1.5'"),
        (["--reasoning_tokens", "-1"], "reasoning_tokens is -1: give 0, more, or None"),
        (["--reasoning_token", "1"], "did you mean --reasoning_tokens?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_sampling_out_of_range_is_refused_before_anything_is_read(desk, options, phrase):
    desk.refuses(lambda: desk.run(*options, run_path=desk.path("none")), phrase)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--engine", "vllm"], "engine vllm needs a model"),
        (["--engine", "transformers"], "engine transformers needs a model"),
        (["--engine", "vllm", "--model_name_or_path", "m", "--device", "cpu"], "device is 'cpu'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_engine_lacks_is_refused_before_anything_is_read(desk, options, phrase):
    desk.write("run.trec", "broken\n")
    desk.refuses(lambda: desk.run(*options, engine=None), phrase)


def test_sampling_behind_the_method_is_refused_with_a_hint(desk):
    act = lambda: desk.run(method=["groupwise", "--temperature", "1"])  # noqa: E731
    desk.refuses(act, "--temperature belongs before the word groupwise")


@pytest.mark.parametrize("engine", ["embedded", "openai", "transformers", "vllm"])
def test_every_engine_can_be_named(engine, capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert engine in ENGINES
    assert engine in capsys.readouterr().out


# --- Passages cut to the model's length -------------------------------------------------------


class Cutting(ScriptedEngine):
    """An engine whose model is too short for the first of the passages."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(self.judge)

    @staticmethod
    def judge(request: Request) -> Reply:
        text = '{"[1]": 1, "[2]": 2, "[3]": 3}'
        return Reply(text=text, cut_passages=1, prompt_tokens=10, completion_tokens=5)


@pytest.fixture
def cutting(monkeypatch) -> str:
    monkeypatch.setitem(ENGINES, "Cutting", f"{__name__}:Cutting")
    return "Cutting"


def test_cut_passages_are_shown_and_counted_in_the_manifest(desk, cutting):
    assert desk.run(engine=cutting) == 0
    assert "\n2 passages cut to fit the model's length\n" in desk.stdout
    assert manifest_of(desk)["counters"]["usage"]["cut_passages"] == 2


def test_cut_passages_are_in_the_json(desk, cutting):
    assert desk.run("--json", engine=cutting) == 0
    assert json.loads(desk.stdout)["usage"]["cut_passages"] == 2


def test_without_cut_passages_nothing_is_said_of_them(desk):
    assert desk.run() == 0
    assert "cut to fit" not in desk.stdout
    assert manifest_of(desk)["counters"]["usage"]["cut_passages"] == 0


# --- A model of random weights, end to end ----------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    pytest.importorskip("torch", reason="the extra [transformers] is not installed")
    pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    from llmrankers_groupwise.testing import save_random_model

    folder = tmp_path_factory.mktemp("model")
    save_random_model(folder)
    return folder


def test_a_language_model_fills_in_the_scores_of_a_run(desk, model):
    options = ["--model_name_or_path", model, "--scoring", "likelihood", "--device", "cpu"]
    assert desk.run(*options, engine="transformers") == 0, desk.stderr
    ranked = orders(desk.out)
    assert {each: sorted(ids) for each, ids in ranked.items()} == {
        each: sorted(ids) for each, ids in GOOD_ORDER.items()
    }
    assert "2 queries, 5 candidates, 2 groups (2 exact)" in desk.stdout
    assert "\nengine: transformers\n" in desk.stdout
    engine = manifest_of(desk)["engine"]
    assert (engine["engine"], engine["model"]) == ("transformers", str(model))
    assert (engine["device"], engine["dtype"], engine["max_model_len"]) == ("cpu", "float32", 8192)
    assert manifest_of(desk)["settings"]["scoring"] == "likelihood"
    usage = manifest_of(desk)["counters"]["usage"]
    assert (usage["calls"], usage["errors"], usage["cut_passages"]) == (2, 0, 0)
    assert usage["prompt_tokens"] > 1000


def test_a_model_that_is_too_short_has_its_passages_cut(desk, model):
    """A token is a byte of the prompt here, so 1,340 do not hold a long passage."""
    options = ["--model_name_or_path", model, "--scoring", "likelihood", "--device", "cpu",
               "--engine_args", "max_model_len=1340"]  # fmt: skip
    desk.write(
        "corpus.jsonl", desk.path("corpus.jsonl").read_text().replace("a flea", "a flea " * 90)
    )
    assert desk.run(*options, engine="transformers") == 0, desk.stderr
    cut = manifest_of(desk)["counters"]["usage"]["cut_passages"]
    assert cut > 0
    assert f"{cut} passages cut to fit the model's length" in desk.stdout


def test_generation_falls_back_to_a_form_and_says_so(desk, model):
    """Random weights write no answer, so the form is filled behind what they wrote."""
    options = ["--model_name_or_path", model, "--device", "cpu", "--max_tokens", "20"]
    assert desk.run(*options, engine="transformers") == 0, desk.stderr
    assert "2 groups (2 forced)" in desk.stdout
    assert manifest_of(desk)["settings"]["scoring"] == "generation"


def test_an_unknown_engine_argument_is_refused_with_a_close_one(desk, model):
    options = ["--model_name_or_path", model, "--engine_args", "max_model_length=100"]
    act = lambda: desk.run(*options, engine="transformers")  # noqa: E731
    desk.refuses(act, "engine_args has 'max_model_length'", "did you mean max_model_len?")


def test_a_language_model_must_be_named(desk):
    desk.refuses(lambda: desk.run(engine="transformers"), "engine transformers needs a model")
