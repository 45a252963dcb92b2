"""Runs compared: figures against ir_measures and scipy, and every kind of odd run."""

import json
import random
from pathlib import Path

import ir_measures
import pytest
from scipy import stats

from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.errors import FileError, InputError, SettingsError
from llmrankers_groupwise.evaluation.comparison import (
    COMPARED_MEASURES,
    Comparison,
    Costs,
    PairedTests,
    compare_runs,
    read_costs,
)

QRELS = {
    "q1": {"a": 2, "b": 0, "c": 1},
    "q2": {"a": 1, "d": 3},
    "q3": {"e": 1},
    "q4": {"f": 0},
}


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def run_file(path: Path, run: dict[str, dict[str, float]]) -> Path:
    lines = [
        f"{query_id} Q0 {doc_id} {rank} {score} t"
        for query_id, documents in run.items()
        for rank, (doc_id, score) in enumerate(documents.items(), 1)
    ]
    return written(path, *lines)


@pytest.fixture
def good(tmp_path) -> Path:
    """Every judged query, best documents first but for q2."""
    return run_file(tmp_path / "good.trec", {
        "q1": {"a": 9.0, "c": 8.0, "b": 7.0}, "q2": {"x": 5.0, "d": 4.0, "a": 3.0},
        "q3": {"e": 1.0}, "q4": {"f": 1.0},
    })  # fmt: skip


@pytest.fixture
def other(tmp_path) -> Path:
    """No q3, a query that nobody judged, scores in another order than lines and ranks."""
    return run_file(tmp_path / "other.trec", {
        "q1": {"b": 1.0, "c": 2.0, "a": 3.0}, "q9": {"a": 1.0}, "q2": {"d": 1.5, "x": 0.5},
        "q4": {"y": 2.0, "f": 1.0},
    })  # fmt: skip


def by_name(comparison: Comparison) -> dict:
    return {run.name: run for run in comparison.runs}


def numbers(run) -> list:
    return [run.means, run.intervals, run.per_query, run.against]


# --- Against ir_measures and scipy ------------------------------------------------------------


def assert_agrees(comparison: Comparison, qrels_path: Path) -> None:
    """Every figure is that of ir_measures' own reading of the files, and of scipy."""
    qrels = list(ir_measures.read_trec_qrels(str(qrels_path)))
    parsed = {name: ir_measures.parse_measure(name) for name in comparison.measures}
    queries = comparison.query_ids
    for run in comparison.runs:
        lines = list(ir_measures.read_trec_run(str(run.path)))
        means = ir_measures.calc_aggregate(list(parsed.values()), qrels, lines)
        for name, measure in parsed.items():
            assert run.means[name] == pytest.approx(means[measure], abs=1e-9)
            assert tuple(run.per_query[name]) == queries
        for value in ir_measures.iter_calc(list(parsed.values()), qrels, lines):
            name = next(each for each, measure in parsed.items() if measure == value.measure)
            assert run.per_query[name][value.query_id] == pytest.approx(value.value, abs=1e-9)
    base = by_name(comparison)[comparison.baseline]
    assert base.against == {}
    for run in comparison.runs:
        for name, tests in run.against.items():
            mine, theirs = ([each.per_query[name][q] for q in queries] for each in (run, base))
            assert tests.difference == pytest.approx(run.means[name] - base.means[name], abs=1e-9)
            assert tests.t_p == pytest.approx(stats.ttest_rel(mine, theirs).pvalue, abs=1e-9)
            spread = stats.sem(mine) * stats.t.ppf([0.025, 0.975], len(mine) - 1)
            interval = run.means[name] + spread
            assert run.intervals[name] == pytest.approx(tuple(interval), abs=1e-9)
            assert tests.wins + tests.ties + tests.losses == len(queries)
            assert tests.wins == sum(a > b + 1e-9 for a, b in zip(mine, theirs, strict=True))


def test_real_runs_measured_and_tested_as_by_ir_measures_and_scipy(shared):
    folder = shared / "collections" / "trec-dl19"
    paths = {
        "bm25": folder / "runs" / "bm25.trec",
        "splade": folder / "runs" / "splade_pp_ed.trec",
        "vicuna": next((shared / "recordings" / "runs").glob("r00_bm25_*")),
    }
    measures = (*COMPARED_MEASURES, "AP(rel=2)", "ERR@20", "Judged@10")
    comparison = compare_runs(read_qrels(folder / "qrels.txt"), paths, measures, "splade")
    assert [run.name for run in comparison.runs] == list(paths)
    assert_agrees(comparison, folder / "qrels.txt")
    for run in comparison.runs:
        assert run.unjudged_at_10 == pytest.approx(10 * (1 - run.means["Judged@10"]), abs=1e-9)
    assert by_name(comparison)["bm25"].means["nDCG@10"] == pytest.approx(0.5058, abs=5e-5)


def test_more_queries_than_are_measured_together(tmp_path):
    drawn = random.Random(1)
    qrels = {f"q{n}": {f"d{drawn.randrange(8)}": drawn.randrange(3)} for n in range(700)}
    lines = [f"{q} 0 {doc_id} {grade}" for q, judged in qrels.items()
             for doc_id, grade in judged.items()]  # fmt: skip
    path = written(tmp_path / "qrels", *lines)
    paths = {}
    for name in ("a", "b"):
        run = {f"q{n}": {f"d{d}": drawn.random() for d in range(8)} for n in range(700)}
        paths[name] = run_file(tmp_path / name, run)
    assert_agrees(compare_runs(qrels, paths, ["nDCG@5", "RR"]), path)


def test_every_judged_query_counts_and_the_others_are_told(good, other):
    runs = by_name(compare_runs(QRELS, {"good": good, "other": other}, ["P@1"]))
    assert runs["other"].per_query["P@1"] == {"q1": 1.0, "q2": 1.0, "q3": 0.0, "q4": 0.0}
    assert runs["other"].means == {"P@1": 0.5}
    assert (runs["other"].missing, runs["other"].unjudged_queries) == (("q3",), ("q9",))
    assert (runs["good"].missing, runs["good"].unjudged_queries) == ((), ())
    assert runs["good"].unjudged_at_10 == 1 / 4  # x, of four queries
    assert runs["other"].unjudged_at_10 == 2 / 3  # x and y, of the three that it has
    tests = runs["other"].against["P@1"]
    assert (tests.wins, tests.ties, tests.losses, tests.difference) == (1, 2, 1, 0.0)


def test_the_order_of_lines_and_ranks_does_not_matter(good, tmp_path):
    lines = good.read_text().splitlines()
    shuffled = written(
        tmp_path / "shuffled", *(line.replace(" 1 ", " 7 ", 1) for line in lines[::-1])
    )
    first, second = compare_runs(QRELS, {"a": good, "b": shuffled}).runs
    assert numbers(first)[:3] == numbers(second)[:3]


def test_the_baseline_is_the_first_run_or_the_one_named(good, other):
    paths = {"good": good, "other": other}
    first, named = compare_runs(QRELS, paths, ["AP"]), compare_runs(QRELS, paths, ["AP"], "other")
    assert (first.baseline, named.baseline) == ("good", "other")
    forth, back = by_name(first)["other"].against["AP"], by_name(named)["good"].against["AP"]
    assert forth.difference == pytest.approx(-back.difference)
    assert (forth.wins, forth.losses) == (back.losses, back.wins)
    assert forth.t_p == pytest.approx(back.t_p)


def test_holm_corrects_over_all_runs_and_measures(shared):
    folder = shared / "collections" / "trec-dl19"
    recorded = sorted((shared / "recordings" / "runs").glob("*_bm25_*top100*"))[:3]
    paths = {"bm25": folder / "runs" / "bm25.trec"} | {each.name: each for each in recorded}
    comparison = compare_runs(read_qrels(folder / "qrels.txt"), paths, ["nDCG@10", "R@100"])
    tests = [each for run in comparison.runs for each in run.against.values()]
    with_t = sorted((each for each in tests if each.t_p is not None), key=lambda each: each.t_p)
    assert len(tests) == 6
    assert 0 < len(with_t) < 6  # reranking the same 100 leaves R@100 as it was
    assert with_t[0].t_p_holm == pytest.approx(min(1, with_t[0].t_p * len(with_t)))
    least = min(tests, key=lambda each: each.randomisation_p)
    assert least.randomisation_p_holm == pytest.approx(min(1, least.randomisation_p * 6))


# --- Odd runs ---------------------------------------------------------------------------------


def test_equal_scores_are_counted_and_ordered_as_by_trec_eval(tmp_path):
    """In single precision, where 100.000001 is 100: then the later doc_id comes first."""
    run = run_file(tmp_path / "run", {
        "q1": {"b": 100.000001, "c": 100.0, "x": 7.0, "y": 7.0, "z": 7.0, "a": 1.0},
        "q9": {"a": 1.0, "b": 1.0},
    })  # fmt: skip
    (compared,) = compare_runs(QRELS, {"tied": run}, ["RR", "P@1"]).runs
    assert compared.ties == 5  # q9 is not judged
    assert compared.per_query["P@1"]["q1"] == 1.0  # c, which is relevant, before b
    qrels = [ir_measures.Qrel("q1", doc_id, grade) for doc_id, grade in QRELS["q1"].items()]
    lines = [each for each in ir_measures.read_trec_run(str(run)) if each.query_id == "q1"]
    (value,) = ir_measures.iter_calc([ir_measures.RR], qrels, lines)
    assert compared.per_query["RR"]["q1"] == value.value == 1.0


def test_ties_at_rank_ten_decide_who_is_unjudged_there_as_in_trec_eval(tmp_path):
    run = run_file(tmp_path / "run", {"q1": {f"{n:02}": 1.0 for n in range(12)}})
    for judged, unjudged in (("00", 10), ("11", 9)):
        qrels = {"q1": {judged: 1}}
        (compared,) = compare_runs(qrels, {"run": run}, ["P@10"]).runs
        assert compared.unjudged_at_10 == unjudged
        assert compared.means["P@10"] == pytest.approx(1 - unjudged / 10)


def test_the_same_run_twice_has_no_differences(good):
    comparison = compare_runs(QRELS, {"a": good, "b": good}, ["nDCG@10", "RR"])
    for tests in comparison.runs[1].against.values():
        assert tests == PairedTests(0.0, None, None, 1.0, 1.0, 0, 4, 0)


def test_of_one_judged_query_there_is_neither_t_test_nor_interval(good, other):
    qrels = {"q2": QRELS["q2"]}
    first, second = compare_runs(qrels, {"a": good, "b": other}, ["RR"]).runs
    assert (first.means, first.intervals) == ({"RR": 0.5}, {})
    assert second.against["RR"] == PairedTests(0.5, None, None, 1.0, 1.0, 1, 0, 0)


def test_one_run_alone_is_measured(good):
    (run,) = compare_runs(QRELS, {"good": good}).runs
    assert tuple(run.means) == COMPARED_MEASURES
    assert run.against == {}


def test_a_run_without_a_judged_query_is_refused_by_name_and_file(good, tmp_path):
    path = run_file(tmp_path / "foreign.trec", {"x1": {"a": 1.0}})
    with pytest.raises(InputError, match="none of the 4 judged queries") as raised:
        compare_runs(QRELS, {"good": good, "foreign": path})
    assert f"run foreign ({path})" in str(raised.value)


def test_an_empty_run_is_refused(good, tmp_path):
    path = written(tmp_path / "empty.trec")
    with pytest.raises(FileError, match=f"{path}: the file is empty"):
        compare_runs(QRELS, {"good": good, "empty": path})


def test_what_cannot_be_compared_is_refused(good):
    with pytest.raises(SettingsError, match="no run 'better': the baseline is one of good"):
        compare_runs(QRELS, {"good": good}, baseline="better")
    with pytest.raises(SettingsError, match="no measure 'nDGC@10'"):
        compare_runs(QRELS, {"good": good}, ["nDGC@10"])
    with pytest.raises(SettingsError, match="at least one run"):
        compare_runs(QRELS, {})
    with pytest.raises(SettingsError, match="one measure"):
        compare_runs(QRELS, {"good": good}, [])


def test_a_measure_named_twice_is_one(good, other):
    comparison = compare_runs(QRELS, {"a": good, "b": other}, ["AP", "RR", "AP"])
    assert comparison.measures == ("AP", "RR")


# --- Costs ------------------------------------------------------------------------------------

MANIFEST = {
    "method": "groupwise",
    "engine": {"engine": "vllm", "model": "m"},
    "counters": {
        "groups": 7,
        "statuses": {"exact": 5, "failed": 2},
        "seconds": 1.5,
        "usage": {"calls": 7, "rounds": 3, "prompt_tokens": 900, "completion_tokens": 40},
    },
}


def manifest(path: Path, content: object) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    return written(path.with_name(path.name + ".manifest.json"), text)


def test_costs_are_those_of_the_manifest(good):
    manifest(good, MANIFEST)
    expected = Costs(7, 3, 900, 40, 1.5, 2, 7, "groupwise", "m")
    assert read_costs(good) == expected
    assert compare_runs(QRELS, {"good": good}, ["AP"]).runs[0].costs == expected


def test_seconds_of_a_run_that_used_earlier_replies_are_unknown(good):
    counters = MANIFEST["counters"]
    manifest(
        good, {**MANIFEST, "counters": {**counters, "usage": {**counters["usage"], "reused": 2}}}
    )
    assert read_costs(good) == Costs(7, 3, 900, 40, None, 2, 7, "groupwise", "m")


def test_tokens_of_recorded_replies_are_unknown_and_not_zero(good):
    usage = {"calls": 7, "rounds": 3, "reused": 7, "prompt_tokens": 0, "completion_tokens": 0}
    manifest(
        good,
        {
            **MANIFEST,
            "engine": {"engine": "replay", "recordings": "replies.jsonl"},
            "counters": {**MANIFEST["counters"], "usage": usage},
        },
    )
    assert read_costs(good) == Costs(7, 3, None, None, None, 2, 7, "groupwise", "replay")


def test_without_a_manifest_costs_are_unknown_and_nobody_is_warned(good, caplog):
    assert read_costs(good) is None
    assert caplog.records == []


def test_what_a_manifest_does_not_say_is_unknown_and_not_zero(good, caplog):
    usage = {"calls": 7, "prompt_tokens": None, "completion_tokens": "40"}
    older = {"engine": {"engine": "vllm", "model": None}, "counters": {"usage": usage}}
    manifest(good, older)
    assert read_costs(good) == Costs(calls=7, model="vllm")
    manifest(good, {"counters": {"usage": [], "statuses": None, "seconds": float("inf")}})
    assert read_costs(good) == Costs()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        pytest.param("{", "cannot be read", id="no JSON"),
        pytest.param("[" * 200_000, "cannot be read", id="deep"),
        pytest.param([1], 'has no "counters"', id="a list"),
        pytest.param({"name": "x", "counters": 7}, 'has no "counters"', id="of something else"),
    ],
)
def test_a_manifest_of_something_else_is_ignored_with_a_warning(good, caplog, content, phrase):
    path = manifest(good, content)
    (run,) = compare_runs(QRELS, {"good": good}, ["AP"]).runs
    assert run.costs is None
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert phrase in record.getMessage()


def test_a_manifest_that_is_a_folder_or_no_text_is_ignored_with_a_warning(good, caplog):
    path = good.with_name(good.name + ".manifest.json")
    path.mkdir()
    assert read_costs(good) is None
    path.rmdir()
    path.write_bytes(b"\xff\xfe{}")
    assert read_costs(good) is None
    assert [str(path) in record.getMessage() for record in caplog.records] == [True, True]


def test_a_comparison_is_ready_for_json(good, other):
    manifest(good, MANIFEST)
    comparison = compare_runs(QRELS, {"good": good, "other": other}, ["AP"])
    read = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert read["query_ids"] == ["q1", "q2", "q3", "q4"]
    assert read["runs"][0]["path"] == str(good)
    assert read["runs"][0]["costs"]["rounds"] == 3
    assert read["runs"][1]["per_query"]["AP"]["q3"] == 0.0
    assert read["runs"][1]["against"]["AP"]["t_p"] == by_name(comparison)["other"].against["AP"].t_p
