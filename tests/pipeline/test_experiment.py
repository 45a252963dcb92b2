"""Whole runs with a scripted engine: the files they write, what they count, and how they end."""

import asyncio
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import MemoryPassages
from llmrankers_groupwise.data.run_files import RunEntry, RunFile
from llmrankers_groupwise.errors import (
    EngineError,
    FailureRateError,
    FileError,
    GroupwiseError,
    InputError,
    SettingsError,
)
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.pipeline.results import Ranked, Summary
from llmrankers_groupwise.pipeline.summary import side_by_side, summary_table
from llmrankers_groupwise.prompting.prompt_file import bundled_prompts
from llmrankers_groupwise.testing import ScriptedEngine, filled_reply, json_reply
from llmrankers_groupwise.types import (
    Candidate,
    Query,
    RankedDocument,
    Ranking,
    Reply,
    Request,
    Sampling,
    Usage,
)

ROOT = Path(__file__).parents[2]


def first_stage(queries: int = 3, documents: int = 25, untold: tuple[str, ...] = ()) -> FirstStage:
    """Queries q0..., each with documents d0... best first; those in `untold` have no text."""
    ids = [f"q{number}" for number in range(queries)]
    run = {
        query_id: [RunEntry(f"d{rank}", 100.0 - rank) for rank in range(documents)]
        for query_id in ids
    }
    texts = {
        (query_id, entry.doc_id): f"passage {entry.doc_id} of {query_id} is about {rank}"
        for query_id, entries in run.items()
        for rank, entry in enumerate(entries)
        if entry.doc_id not in untold
    }
    known = {query_id: f"query number {query_id}" for query_id in ids}
    return FirstStage(run, known, MemoryPassages(texts))


def last_number(passage: str) -> int:
    return int(passage.rsplit(maxsplit=1)[-1])


def reversing(request: Request) -> str:
    """Better the later a document stands in the first stage; many documents share a score."""
    return json_reply([min(10, last_number(passage) // 2) for passage in request.passages])


def failing(*numbers: int) -> Callable[[Request], str | EngineError]:
    """As `reversing`, but the questions with these numbers (from 0) get no answer."""
    asked = iter(range(10**6))

    def answer(request: Request) -> str | EngineError:
        return EngineError("out of order") if next(asked) in numbers else reversing(request)

    return answer


def ranker_of(script=reversing, **settings) -> GroupwiseLlmRanker:
    return GroupwiseLlmRanker(engine=ScriptedEngine(script), **settings)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def manifest_of(path: Path) -> dict:
    return json.loads(Path(f"{path}.manifest.json").read_text(encoding="utf-8"))


def columns_of(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


# --- The run file -----------------------------------------------------------------------------


def test_every_query_is_a_permutation_in_run_order_with_scores_that_strictly_decrease(tmp_path):
    stage = first_stage(queries=70, documents=21)
    out = tmp_path / "out.trec"
    Experiment(first_stage=stage, ranker=ranker_of(), save_path=out, tag="mine").run()
    rows = columns_of(out)
    assert list(dict.fromkeys(row[0] for row in rows)) == list(stage.run)
    for query_id, entries in stage.run.items():
        mine = [row for row in rows if row[0] == query_id]
        assert sorted(row[2] for row in mine) == sorted(entry.doc_id for entry in entries)
        assert [row[3] for row in mine] == [str(rank) for rank in range(1, 22)]
        written = [float(row[4]) for row in mine]
        assert all(above > below for above, below in itertools.pairwise(written))
        assert {(row[1], row[5]) for row in mine} == {("Q0", "mine")}


def test_the_order_is_that_of_the_scores_and_of_the_first_stage_among_equals(tmp_path):
    out = tmp_path / "out.trec"
    Experiment(first_stage=first_stage(1, 6), ranker=ranker_of(), save_path=out).run()
    assert [row[2] for row in columns_of(out)] == ["d4", "d5", "d2", "d3", "d0", "d1"]


def test_a_run_read_back_has_the_order_in_which_it_was_written(tmp_path):
    out = tmp_path / "out.trec"
    Experiment(first_stage=first_stage(), ranker=ranker_of(), save_path=out).run()
    read = [
        (query_id, each.doc_id) for query_id, entries in RunFile(out).items() for each in entries
    ]
    assert read == [(row[0], row[2]) for row in columns_of(out)]


@pytest.mark.parametrize("scoring", ["generation", "likelihood"])
def test_a_perfect_engine_gives_the_perfect_order_by_either_scoring(tmp_path, scoring):
    def answer(request: Request) -> str | Reply:
        scores = [last_number(passage) / 2.5 for passage in request.passages]
        return filled_reply(scores) if request.form else json_reply([round(s, 3) for s in scores])

    out = tmp_path / "out.trec"
    ranker = ranker_of(answer, scoring=scoring, group_size=7)
    Experiment(first_stage=first_stage(2, 26), ranker=ranker, save_path=out).run()
    expected = [f"d{rank}" for rank in reversed(range(26))]
    assert [row[2] for row in columns_of(out)] == expected * 2


@pytest.mark.parametrize("documents", [0, 1, 2, 19, 20, 21, 101])
def test_lists_of_any_length_come_out_whole(tmp_path, documents):
    out = tmp_path / "out.trec"
    summary = Experiment(
        first_stage=first_stage(2, documents), ranker=ranker_of(), save_path=out
    ).run()
    assert (summary.queries, summary.documents) == (2, 2 * documents)
    assert len(columns_of(out)) == 2 * documents


def test_doc_ids_with_blanks_survive_the_run(tmp_path):
    stage = FirstStage(
        {"q": [RunEntry("my doc.txt", 2.0), RunEntry("größe/日本 語", 1.0)]},
        {"q": "a query"},
        MemoryPassages({("q", "my doc.txt"): "one 1", ("q", "größe/日本 語"): "two 9"}),
    )
    out = tmp_path / "out.trec"
    Experiment(first_stage=stage, ranker=ranker_of(), save_path=out).run()
    assert [each.doc_id for each in RunFile(out)["q"]] == ["größe/日本 語", "my doc.txt"]


def test_the_same_run_twice_gives_the_same_bytes(tmp_path):
    for name in ("one.trec", "two.trec"):
        ranker = ranker_of(num_repeat=3, overlap=2, seed=5)
        Experiment(first_stage=first_stage(), ranker=ranker, save_path=tmp_path / name).run()
    assert (tmp_path / "one.trec").read_bytes() == (tmp_path / "two.trec").read_bytes()


def test_the_order_of_answering_does_not_change_the_bytes(tmp_path):
    class Late(ScriptedEngine):
        """Answers every second question after many others."""

        async def answer(self, request, sampling):
            for _ in range(200 if len(self.requests) % 2 else 0):
                await asyncio.sleep(0)
            return await super().answer(request, sampling)

    written = []
    for kind in (ScriptedEngine, Late):
        out = tmp_path / f"{kind.__name__}.trec"
        ranker = GroupwiseLlmRanker(engine=kind(reversing), num_repeat=2)
        Experiment(first_stage=first_stage(80, 30), ranker=ranker, save_path=out).run()
        written.append(out.read_bytes())
    assert written[0] == written[1]


def test_only_the_run_file_and_its_manifest_are_left_in_the_folder(tmp_path):
    Experiment(first_stage=first_stage(), ranker=ranker_of(), save_path=tmp_path / "o.trec").run()
    assert names(tmp_path) == ["o.trec", "o.trec.manifest.json"]


def test_texts_are_cut_to_the_given_numbers_of_tokens(tmp_path):
    engine = ScriptedEngine(lambda request: json_reply([5] * len(request.passages)))
    Experiment(
        first_stage=first_stage(1, 2),
        ranker=GroupwiseLlmRanker(engine=engine),
        save_path=tmp_path / "out.trec",
        query_length=2,
        passage_length=3,
    ).run()
    assert engine.requests[0].query == "query number"
    assert sorted(engine.requests[0].passages) == ["passage d0 of", "passage d1 of"]


def test_every_reranked_query_is_shown_to_the_watcher_in_run_order(tmp_path):
    shown: list[Ranked] = []
    stage = first_stage(5, 3)
    Experiment(
        first_stage=stage, ranker=ranker_of(), save_path=tmp_path / "out.trec", watch=shown.append
    ).run()
    assert [each.query.query_id for each in shown] == list(stage.run)
    assert [each.doc_id for each in shown[0].candidates] == ["d0", "d1", "d2"]
    assert [each.doc_id for each in shown[0].ranking.documents] == ["d2", "d0", "d1"]
    assert [each.usage.calls for each in shown] == [1] * 5


# --- The manifest and the counters ------------------------------------------------------------


def test_the_manifest_holds_prompt_settings_engine_and_counters(tmp_path):
    out = tmp_path / "out.trec"
    ranker = ranker_of(group_size=10, num_repeat=2, seed=3)
    summary = Experiment(
        first_stage=first_stage(3, 25),
        ranker=ranker,
        save_path=out,
        query_length=11,
        passage_length=222,
        tag="mine",
        settings={"run_path": "größe.trec", "hits": 25},
    ).run()
    manifest = manifest_of(out)
    prompt = bundled_prompts()["groupwise"].read_bytes()
    assert manifest["prompt"] == {
        "name": "groupwise",
        "sha256": hashlib.sha256(prompt).hexdigest(),
    }
    assert manifest["method"] == "groupwise"
    assert manifest["engine"] == {"engine": "scripted"}
    assert manifest["sampling"]["temperature"] == 0.0
    assert manifest["settings"] == {
        "scoring": "generation", "group_size": 10, "num_repeat": 2, "overlap": 0,
        "grouping": "random", "fusion": "mean", "first_stage_weight": 0.0, "final_round": 0,
        "ties": "first_stage", "until_stable": 0,
        "seed": 3,
        "anchors": 0, "calibration": "none", "shrinkage": 0.0, "final_calls": 1, "boundary": 0,
    }  # fmt: skip
    assert manifest["run"] == {
        "query_length": 11, "passage_length": 222, "allow_missing": False, "tag": "mine",
        "max_failure_rate": 0.1, "run_path": "größe.trec", "hits": 25,
        "number_of_shards": 1, "shard_index": 0, "measures": ["nDCG@10", "AP", "R@100"],
    }  # fmt: skip
    assert set(manifest["versions"]) == {
        "python",
        "llmrankers-groupwise",
        "llm-rankers",
        "ir-measures",
    }
    assert manifest["counters"] == json.loads(json.dumps(summary.as_dict()))


def test_the_manifest_names_a_prompt_file_of_ones_own(tmp_path):
    prompt = tmp_path / "mine.toml"
    prompt.write_text('prompt_user = "{query}: {docs}"\n', encoding="utf-8")
    out = tmp_path / "out.trec"
    ranker = ranker_of(prompt_file=str(prompt))
    Experiment(first_stage=first_stage(), ranker=ranker, save_path=out).run()
    digest = hashlib.sha256(prompt.read_bytes()).hexdigest()
    assert manifest_of(out)["prompt"] == {"name": "mine", "sha256": digest}


def test_the_counters_add_up(tmp_path):
    engine = ScriptedEngine(reversing)
    summary = Experiment(
        first_stage=first_stage(4, 25),
        ranker=GroupwiseLlmRanker(engine=engine, group_size=10, num_repeat=2),
        save_path=tmp_path / "out.trec",
    ).run()
    asked = sum(
        engine.count_tokens(message["content"])
        for request in engine.requests
        for message in request.messages
    )
    assert (summary.queries, summary.documents, summary.groups) == (4, 100, 4 * 3 * 2)
    assert summary.usage.calls == len(engine.requests) == 24
    assert summary.usage.errors == 0
    assert summary.usage.prompt_tokens == asked
    assert summary.usage.completion_tokens > 0
    assert summary.skipped == []


def test_the_statuses_add_up_to_the_groups(tmp_path):
    exact = '<answer>{"[1]": 1, "[2]": 2, "[3]": 3}</answer>'
    answers = [
        exact,
        '{"1": "1", "2": 2.5, "3": 3,}',
        '<answer>{"[1]": 1, "[2]": 99}</answer>',
        "no answer at all",
        EngineError("out of order"),
        exact,
    ]
    summary = Experiment(
        first_stage=first_stage(6, 3),
        ranker=ranker_of(answers),
        save_path=tmp_path / "out.trec",
    ).run()
    assert summary.statuses == {
        "exact": 2, "repaired": 1, "partial": 1, "forced": 0, "failed": 2,
    }  # fmt: skip
    assert sum(summary.statuses.values()) == summary.groups == summary.usage.calls == 6
    assert summary.usage.errors == 1


def test_a_second_run_of_the_same_ranker_counts_its_own_groups_only(tmp_path):
    ranker = ranker_of()
    for name in ("one.trec", "two.trec"):
        summary = Experiment(
            first_stage=first_stage(), ranker=ranker, save_path=tmp_path / name
        ).run()
        assert sum(summary.statuses.values()) == summary.groups


# --- Failed groups ----------------------------------------------------------------------------


def test_more_failed_groups_than_allowed_end_the_run_and_no_file_is_written(tmp_path):
    experiment = Experiment(
        first_stage=first_stage(20, 5),
        ranker=ranker_of(failing(3, 7, 11)),
        save_path=tmp_path / "out.trec",
    )
    with pytest.raises(FailureRateError) as caught:
        experiment.run()
    message = str(caught.value)
    assert message.startswith("3 of 20 groups failed, more than max_failure_rate = 0.1 allows")
    assert "'failed': 3" in message
    assert "out of order" in message
    assert names(tmp_path) == []


def test_bad_luck_in_the_first_groups_does_not_end_a_run_that_keeps_the_rate(tmp_path):
    ranker = ranker_of(failing(0, 1, 2, 3))  # 4 of 20 at first, 4 of 40 in the end
    out = tmp_path / "out.trec"
    summary = Experiment(first_stage=first_stage(40, 5), ranker=ranker, save_path=out).run()
    assert (summary.statuses["failed"], summary.groups) == (4, 40)


def test_a_hopeless_run_is_ended_before_everything_is_asked(tmp_path):
    engine = ScriptedEngine(failing(*range(5000)))
    experiment = Experiment(
        first_stage=first_stage(3000, 5),
        ranker=GroupwiseLlmRanker(engine=engine),
        save_path=tmp_path / "out.trec",
    )
    with pytest.raises(FailureRateError):
        experiment.run()
    assert len(engine.requests) < 3000


def test_a_run_that_fails_leaves_the_old_files_byte_for_byte(tmp_path):
    out, manifest = tmp_path / "out.trec", tmp_path / "out.trec.manifest.json"
    out.write_bytes(b"old run\r\n\xff")
    manifest.write_bytes(b"old manifest")
    ranker = ranker_of(failing(*range(100)))
    with pytest.raises(FailureRateError):
        Experiment(first_stage=first_stage(40, 5), ranker=ranker, save_path=out).run()
    assert out.read_bytes() == b"old run\r\n\xff"
    assert manifest.read_bytes() == b"old manifest"
    assert names(tmp_path) == ["out.trec", "out.trec.manifest.json"]


def test_unreadable_replies_count_as_failures(tmp_path):
    experiment = Experiment(
        first_stage=first_stage(40, 5),
        ranker=ranker_of(lambda request: "I cannot rate these."),
        save_path=tmp_path / "out.trec",
    )
    with pytest.raises(FailureRateError, match=r"20 of 20 groups failed.*without scores"):
        experiment.run()


def test_a_tenth_of_failed_groups_is_allowed_and_they_keep_their_first_stage_order(tmp_path):
    stage = first_stage(40, 5)
    out = tmp_path / "out.trec"
    summary = Experiment(
        first_stage=stage, ranker=ranker_of(failing(9, 19, 29, 39)), save_path=out
    ).run()
    assert summary.statuses["failed"] == summary.usage.errors == 4
    unchanged = [
        query_id
        for query_id, entries in RunFile(out).items()
        if [each.doc_id for each in entries] == [each.doc_id for each in stage.run[query_id]]
    ]
    assert len(unchanged) == 4
    assert RunFile(out).keys() == stage.run.keys()


def test_a_failed_group_keeps_its_places_among_the_groups_that_were_scored(tmp_path):
    out = tmp_path / "out.trec"
    ranker = ranker_of(failing(1), group_size=3, grouping="sorted")
    Experiment(first_stage=first_stage(1, 9), ranker=ranker, save_path=out).run()
    assert [row[2] for row in columns_of(out)] == [
        "d8", "d6", "d7", "d3", "d4", "d5", "d2", "d0", "d1",
    ]  # fmt: skip


def test_the_allowed_rate_can_be_set(tmp_path):
    def run(rate: float) -> Summary:
        return Experiment(
            first_stage=first_stage(40, 5),
            ranker=ranker_of(failing(*range(1, 40, 2))),
            max_failure_rate=rate,
            save_path=tmp_path / "out.trec",
        ).run()

    assert run(0.5).statuses["failed"] == 20
    with pytest.raises(FailureRateError):
        run(0.49)


def test_a_few_failures_before_twenty_groups_do_not_end_the_run(tmp_path):
    summary = Experiment(
        first_stage=first_stage(19, 5),
        ranker=ranker_of(failing(0, 1, 2)),
        save_path=tmp_path / "out.trec",
    ).run()
    assert summary.statuses["failed"] == 3


@pytest.mark.parametrize("queries", [1, 19])
def test_a_run_in_which_all_groups_failed_ends_in_an_error(tmp_path, queries):
    experiment = Experiment(
        first_stage=first_stage(queries, 5),
        ranker=ranker_of(failing(*range(100))),
        max_failure_rate=0.99,
        save_path=tmp_path / "out.trec",
    )
    with pytest.raises(FailureRateError, match=f"{queries} of {queries} groups failed"):
        experiment.run()
    assert names(tmp_path) == []


@pytest.mark.parametrize("queries", [1, 19, 25])
def test_a_rate_of_one_lets_everything_pass(tmp_path, queries):
    summary = Experiment(
        first_stage=first_stage(queries, 5),
        ranker=ranker_of(failing(*range(100))),
        max_failure_rate=1.0,
        save_path=tmp_path / "out.trec",
    ).run()
    assert summary.statuses["failed"] == summary.groups == queries
    ranked = RunFile(tmp_path / "out.trec")
    assert all([each.doc_id for each in run] == [f"d{rank}" for rank in range(5)]
               for run in ranked.values())  # fmt: skip


@pytest.mark.parametrize("error", [ZeroDivisionError, MemoryError])
def test_an_unexpected_exception_of_the_engine_propagates_and_leaves_no_file(tmp_path, error):
    asked = []

    def broken(request: Request) -> str:
        asked.append(request)
        if len(asked) == 30:
            raise error("a defect")
        return reversing(request)

    experiment = Experiment(
        first_stage=first_stage(100, 5), ranker=ranker_of(broken), save_path=tmp_path / "out.trec"
    )
    with pytest.raises(error):
        experiment.run()
    assert names(tmp_path) == []


def test_an_exception_of_the_watcher_propagates_and_leaves_no_file(tmp_path):
    def watch(ranked: Ranked) -> None:
        raise ZeroDivisionError

    experiment = Experiment(
        first_stage=first_stage(), ranker=ranker_of(), save_path=tmp_path / "o", watch=watch
    )
    with pytest.raises(ZeroDivisionError):
        experiment.run()
    assert names(tmp_path) == []


# --- Found out before anything is asked -------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "complaint"),
    [
        pytest.param({"query_length": 0}, SettingsError, "query_length is 0", id="query_length"),
        pytest.param({"passage_length": -1}, SettingsError, "passage_length is -1", id="passage"),
        pytest.param({"measures": ["nDCG@10", "foo"]}, SettingsError, "measure 'foo'", id="foo"),
        pytest.param({"measures": ["P"]}, SettingsError, "'P'", id="a measure without its cutoff"),
        pytest.param({"measures": ["AP(foo=2)"]}, SettingsError, "foo", id="a wrong parameter"),
        pytest.param({"measures": ["alpha_nDCG@10"]}, GroupwiseError, "alpha_nDCG@10",
                     id="a measure that is not installed",
                     marks=pytest.mark.skipif(bool(find_spec("pyndeval")), reason="it is here")),
        pytest.param({"save_path": "none/out.trec"}, FileError, "folder none exists", id="folder"),
        pytest.param({"save_path": "."}, FileError, "is a folder", id="a folder"),
        pytest.param({"save_path": "taken"}, FileError, "taken.manifest.json: is a folder",
                     id="a folder in the manifest's place"),
    ],
)  # fmt: skip
def test_what_would_stop_a_run_is_found_out_before_anything_is_asked(
    tmp_path, monkeypatch, change, error, complaint
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.manifest.json").mkdir()
    engine = ScriptedEngine(reversing)
    experiment = Experiment(
        first_stage=first_stage(),
        ranker=GroupwiseLlmRanker(engine=engine),
        save_path="out.trec",
        qrels={"q0": {"d1": 1}},
    )
    with pytest.raises(error) as caught:
        replace(experiment, **change).run()
    assert complaint in str(caught.value)
    assert engine.requests == []
    assert names(tmp_path) == ["taken.manifest.json"]


def test_a_measure_with_a_cutoff_of_zero_is_an_error_and_no_crash(tmp_path):
    """trec_eval's own code does not survive it: tried in another process."""
    program = """
        from llmrankers_groupwise.evaluation.measures import check_measures
        from llmrankers_groupwise.errors import SettingsError
        try:
            check_measures(["nDCG@0"])
        except SettingsError:
            raise SystemExit(7)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=False)
    assert ended.returncode == 7


def test_missing_texts_are_an_error_before_anything_is_asked(tmp_path):
    engine = ScriptedEngine(reversing)
    with pytest.raises(InputError, match="2 documents of the run have no text: d3"):
        Experiment(
            first_stage=first_stage(untold=("d3", "d9")),
            ranker=GroupwiseLlmRanker(engine=engine),
            save_path=tmp_path / "out.trec",
        ).run()
    assert engine.requests == []
    assert names(tmp_path) == []


# --- Missing texts allowed --------------------------------------------------------------------


def test_allowed_missing_documents_stay_at_their_first_stage_places(tmp_path):
    out = tmp_path / "out.trec"
    engine = ScriptedEngine(reversing)
    summary = Experiment(
        first_stage=first_stage(2, 8, untold=("d0", "d3", "d7")),
        ranker=GroupwiseLlmRanker(engine=engine),
        save_path=out,
        allow_missing=True,
    ).run()
    expected = ["d0", "d6", "d4", "d3", "d5", "d2", "d1", "d7"]
    assert [row[2] for row in columns_of(out)] == expected * 2
    assert not any(" d3 " in passage for request in engine.requests for passage in request.passages)
    assert [line.split(":")[0] for line in summary.skipped] == [
        "3 documents of the run have no text"
    ]
    assert manifest_of(out)["counters"]["skipped"] == summary.skipped
    assert manifest_of(out)["run"]["allow_missing"] is True


@pytest.mark.parametrize("queries", [{"q0": "query"}, {"q0": "query", "q1": ""}])
def test_a_query_without_a_text_keeps_its_first_stage_order_wholly(tmp_path, queries):
    out = tmp_path / "out.trec"
    stage = replace(first_stage(2, 8), queries=queries)
    engine = ScriptedEngine(reversing)
    Experiment(
        first_stage=stage,
        ranker=GroupwiseLlmRanker(engine=engine),
        save_path=out,
        allow_missing=True,
    ).run()
    orders = {query_id: [each.doc_id for each in run] for query_id, run in RunFile(out).items()}
    assert orders["q1"] == [f"d{rank}" for rank in range(8)]
    assert orders["q0"] != orders["q1"]
    assert [request.query for request in engine.requests] == ["query"]


def test_a_run_without_any_text_comes_out_as_it_was(tmp_path):
    out = tmp_path / "out.trec"
    stage = replace(first_stage(2, 3), queries={})
    summary = Experiment(
        first_stage=stage, ranker=ranker_of(), save_path=out, allow_missing=True
    ).run()
    assert [row[2] for row in columns_of(out)] == ["d0", "d1", "d2"] * 2
    assert (summary.groups, summary.usage.calls) == (0, 0)


# --- Measures ---------------------------------------------------------------------------------


def test_measures_are_means_over_every_judged_query_before_and_after(tmp_path):
    qrels = {"q0": {"d1": 1}, "q1": {"d0": 1}, "not in the run": {"d0": 1}, "nor this": {"d5": 2}}
    out = tmp_path / "out.trec"
    summary = Experiment(
        first_stage=first_stage(3, 2),
        ranker=ranker_of(lambda request: json_reply([last_number(p) for p in request.passages])),
        save_path=out,
        qrels=qrels,
        measures=("RR", "P@1"),
    ).run()
    assert summary.judged_queries == 4
    assert summary.measures == {
        "RR": {"before": pytest.approx((0.5 + 1) / 4), "after": pytest.approx((1 + 0.5) / 4)},
        "P@1": {"before": pytest.approx(1 / 4), "after": pytest.approx(1 / 4)},
    }
    assert manifest_of(out)["counters"]["measures"] == summary.measures


def test_judgements_of_another_collection_are_refused_before_anything_is_asked(tmp_path):
    engine = ScriptedEngine(reversing)
    experiment = Experiment(
        first_stage=first_stage(2, 3),
        ranker=GroupwiseLlmRanker(engine=engine),
        save_path=tmp_path / "out.trec",
        qrels={"other": {"d0": 1}},
    )
    with pytest.raises(InputError, match="none of the 1 judged queries is in the run"):
        experiment.run()
    assert engine.requests == []


def test_judged_queries_that_are_not_in_the_run_are_told_and_count_zero(tmp_path):
    summary = Experiment(
        first_stage=first_stage(2, 3),
        ranker=ranker_of(),
        save_path=tmp_path / "out.trec",
        qrels={"q0": {"d2": 1}, "other": {"d0": 1}},
        measures=["P@1"],
    ).run()
    assert (summary.judged_queries, summary.judged_queries_missing) == (2, 1)
    assert summary.measures["P@1"]["after"] == 0.5
    assert "(1 of them are not in the run and count 0)" in summary_table(summary)


def test_without_judgements_there_are_no_measures(tmp_path):
    summary = Experiment(
        first_stage=first_stage(), ranker=ranker_of(), save_path=tmp_path / "out.trec"
    ).run()
    assert (summary.measures, summary.judged_queries) == ({}, 0)


def test_one_slow_query_does_not_stall_the_others(tmp_path):
    class SlowFirst(ScriptedEngine):
        """Answers the first question when 150 others are answered."""

        def __init__(self) -> None:
            super().__init__(reversing)
            self.others = asyncio.Event()

        async def answer(self, request: Request, sampling: Sampling) -> Reply:
            reply = await super().answer(request, sampling)
            if len(self.requests) == 151:
                self.others.set()
            if request is self.requests[0]:
                await self.others.wait()
            return reply

    ranker = GroupwiseLlmRanker(engine=SlowFirst())
    out = tmp_path / "out.trec"
    summary = Experiment(first_stage=first_stage(200, 5), ranker=ranker, save_path=out).run()
    assert summary.queries == 200
    assert [row[0] for row in columns_of(out)[::5]] == list(first_stage(200, 5).run)


# --- Killed -----------------------------------------------------------------------------------

SIGNALLED = """
    import os, signal, sys
    sys.path.insert(0, os.environ["TESTS"])
    from test_experiment import first_stage, reversing
    from llmrankers_groupwise import GroupwiseLlmRanker
    from llmrankers_groupwise.pipeline.experiment import Experiment
    from llmrankers_groupwise.testing import ScriptedEngine

    # What a shell starts in the background ignores interrupts otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked = []

    def script(request):
        asked.append(request)
        if len(asked) == 150:
            os.kill(os.getpid(), getattr(signal, sys.argv[2]))
        return reversing(request)

    try:
        Experiment(
            first_stage=first_stage(200, 20),
            ranker=GroupwiseLlmRanker(engine=ScriptedEngine(script)),
            save_path=sys.argv[1],
        ).run()
    except KeyboardInterrupt:
        sys.exit(130)
"""


def run_until_signal(out: Path, name: str) -> subprocess.CompletedProcess:
    """A run in a process of its own that sends itself a signal in the middle."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SIGNALLED), str(out), name],
        cwd=ROOT,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "TESTS": str(Path(__file__).parent),
        },
        stderr=subprocess.PIPE,
        check=False,
    )


@pytest.mark.parametrize("old", [b"old run\n", None], ids=["over an old file", "a new file"])
def test_a_run_killed_in_its_middle_leaves_the_old_file_or_none(tmp_path, old):
    out, manifest = tmp_path / "out.trec", tmp_path / "out.trec.manifest.json"
    if old is not None:
        out.write_bytes(old)
        manifest.write_bytes(b"old manifest")
    ended = run_until_signal(out, "SIGKILL")
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    if old is not None:
        assert (out.read_bytes(), manifest.read_bytes()) == (old, b"old manifest")
    visible = [name for name in names(tmp_path) if not name.startswith(".")]
    assert visible == ([] if old is None else ["out.trec", "out.trec.manifest.json"])


def test_an_interrupted_run_leaves_the_old_file_and_no_stray_one(tmp_path):
    out = tmp_path / "out.trec"
    out.write_bytes(b"old run\n")
    ended = run_until_signal(out, "SIGINT")
    assert ended.returncode == 130, ended.stderr.decode()
    assert out.read_bytes() == b"old run\n"
    assert names(tmp_path) == ["out.trec"]


def test_after_a_kill_the_same_run_again_gives_the_bytes_of_an_uninterrupted_one(tmp_path):
    killed, whole = tmp_path / "killed" / "out.trec", tmp_path / "whole" / "out.trec"
    killed.parent.mkdir()
    whole.parent.mkdir()
    assert run_until_signal(killed, "SIGKILL").returncode == -signal.SIGKILL
    for out in (killed, whole):
        Experiment(first_stage=first_stage(), ranker=ranker_of(), save_path=out).run()
    assert killed.read_bytes() == whole.read_bytes()
    assert len(columns_of(whole)) == 75


# --- What is shown ----------------------------------------------------------------------------


def test_the_summary_table_tells_counts_statuses_and_measures():
    summary = Summary(
        queries=1200,
        documents=3400,
        groups=56,
        statuses={"exact": 50, "repaired": 4, "partial": 0, "forced": 0, "failed": 2},
        usage=Usage(calls=56, errors=2, prompt_tokens=123456, completion_tokens=7890),
        seconds=12.345,
        skipped=["2 documents of the run have no text: d1 (not in c.jsonl), d2 (not in c.jsonl)"],
        measures={"nDCG@10": {"before": 0.50581, "after": 0.71}, "AP": {"before": 0, "after": 1}},
        judged_queries=43,
    )
    lines = summary_table(summary).splitlines()
    assert lines[0] == "1,200 queries, 3,400 candidates, 56 groups (50 exact, 4 repaired, 2 failed)"
    assert lines[1] == (
        "56 calls (2 without an answer), 123,456 prompt and 7,890 completion tokens, 12.3 s"
    )
    assert lines[2] == f"kept in first-stage order: {summary.skipped[0]}"
    assert lines[3] == ""
    assert [line.split() for line in lines[4:]] == [
        ["over", "43", "judged", "queries", "before", "after"],
        ["nDCG@10", "0.5058", "0.7100"],
        ["AP", "0.0000", "1.0000"],
    ]
    assert lines[4].index("before") == lines[5].index("0.5058")
    assert len(lines[4]) == len(lines[5]) == len(lines[6])


def test_the_summary_table_of_nothing_is_two_lines():
    lines = summary_table(Summary()).splitlines()
    assert lines[0] == "0 queries, 0 candidates, 0 groups"
    assert len(lines) == 2


def reranked(*order: int, texts: tuple[str | None, ...]) -> Ranked:
    candidates = [Candidate(f"d{rank}", text, -float(rank)) for rank, text in enumerate(texts)]
    documents = tuple(
        RankedDocument(f"d{position}", -float(rank), None, position + 1)
        for rank, position in enumerate(order)
    )
    return Ranked(Query("q1", "what is a flea"), candidates, Ranking(documents), Usage())


def test_lists_are_shown_side_by_side_with_grades_former_ranks_and_texts():
    shown = side_by_side(
        reranked(2, 0, 1, texts=("first text", None, "third text")),
        grades={"d2": 3, "d0": 0},
        width=30,
    )
    assert shown.splitlines() == [
        "query q1: what is a flea",
        "   before: grade, doc_id, passage  after: grade, doc_id, passage",
        "1  0 d0 first text                 3 d2 (was 3) third text",
        "2  . d1                            0 d0 (was 1) first text",
        "3  3 d2 third text                 . d1 (was 2)",
    ]


def test_only_the_top_is_shown_and_long_texts_are_cut():
    shown = side_by_side(
        reranked(1, 0, texts=("word " * 100, "line\nbreak\tand  blanks")), depth=1, width=24
    ).splitlines()
    assert len(shown) == 3
    start, end = shown[1].index("before"), shown[1].index("after")
    left, right = shown[2][start:end].rstrip(), shown[2][end:]
    assert left.startswith(". d0 word")
    assert left.endswith("...")
    assert right.startswith(". d1 (was 2) line")
    assert max(len(left), len(right)) <= 24


def test_a_doc_id_longer_than_its_column_is_shown_in_part():
    long = reranked(0, texts=("text",))
    doc_id = "pytorch_torch_tensor_functions/Memory_Management_2_0.txt"
    ranked = replace(
        long,
        candidates=[Candidate(doc_id, "text", 1.0)],
        ranking=Ranking((RankedDocument(doc_id, 1.0, None, 1),)),
    )
    assert side_by_side(ranked).splitlines()[2].count("pytorch_torch_tensor") == 2


def test_an_empty_list_is_shown_as_its_heading():
    assert len(side_by_side(reranked(texts=())).splitlines()) == 2


# --- Shards -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_shards_are_neighbouring_queries_and_together_the_whole_run(tmp_path, shards):
    stage = first_stage(queries=7, documents=4)
    whole = tmp_path / "whole.trec"
    Experiment(first_stage=stage, ranker=ranker_of(), save_path=whole).run()
    parts = []
    for index in range(shards):
        part = tmp_path / f"{index}.trec"
        summary = Experiment(
            first_stage=stage, ranker=ranker_of(), save_path=part,
            number_of_shards=shards, shard_index=index,
        ).run()  # fmt: skip
        assert summary.queries in (7 // shards, 7 // shards + 1)
        parts.append(part.read_bytes())
    assert b"".join(parts) == whole.read_bytes()


@pytest.mark.parametrize(
    ("shards", "index", "message"),
    [(0, 0, "give 1 to 7"), (8, 0, "give 1 to 7"), (3, 3, "give 0 to 2"), (3, -1, "give 0 to 2")],
)
def test_a_shard_that_cannot_be_is_refused_before_anything_is_asked(
    tmp_path, shards, index, message
):
    ranker = ranker_of()
    experiment = Experiment(
        first_stage=first_stage(7, 2), ranker=ranker, save_path=tmp_path / "out.trec",
        number_of_shards=shards, shard_index=index,
    )  # fmt: skip
    with pytest.raises(SettingsError, match=message):
        experiment.run()
    assert ranker.engine.requests == []


def test_a_shard_is_not_measured(tmp_path):
    experiment = Experiment(
        first_stage=first_stage(7, 2), ranker=ranker_of(), save_path=tmp_path / "out.trec",
        number_of_shards=2, qrels={"q0": {"d0": 1}},
    )  # fmt: skip
    with pytest.raises(SettingsError, match="when its journal is merged"):
        experiment.run()


# --- What is known of a run that does not end well -------------------------------------------


def test_the_summary_until_a_failure_is_there(tmp_path):
    ranker = ranker_of(lambda request: "I would rather not say." * 20)
    experiment = Experiment(
        first_stage=first_stage(40, 5), ranker=ranker, save_path=tmp_path / "out.trec"
    )
    with pytest.raises(FailureRateError) as caught:
        experiment.run()
    done = experiment.summary  # those that were under way at the end included
    assert done.queries >= 20
    assert done.statuses["failed"] == done.usage.calls == done.queries
    assert "a reply without scores: 'I would rather not say." in str(caught.value)
    assert " [...] " in str(caught.value)


def test_three_different_sample_replies_are_shown(tmp_path):
    replies = iter(f"No. {number}" for number in range(100))
    experiment = Experiment(
        first_stage=first_stage(40, 5),
        ranker=ranker_of(lambda request: next(replies)),
        save_path=tmp_path / "out.trec",
    )
    with pytest.raises(FailureRateError) as caught:
        experiment.run()
    assert [f"'No. {number}'" in str(caught.value) for number in range(4)] == [True] * 3 + [False]


def test_groups_spared_are_counted(tmp_path):
    summary = Experiment(
        first_stage=first_stage(3, 5),
        ranker=ranker_of(num_repeat=10, until_stable=3),
        save_path=tmp_path / "out.trec",
    ).run()
    assert (summary.groups, summary.skipped_groups) == (9, 21)
    assert "21 groups not asked about" in summary_table(summary)
