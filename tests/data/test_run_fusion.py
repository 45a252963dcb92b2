"""Fusion of finished runs, against a reference that is written from the formulas."""

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.data.run_files import RunEntry, RunFile
from llmrankers_groupwise.data.run_fusion import (
    FusedQuery,
    check_run_fusion,
    fuse_query,
    fuse_runs,
    z_scores,
)
from llmrankers_groupwise.errors import SettingsError

METHODS = ("min_max", "z_score", "rrf")


def entries(**scores: float) -> list[RunEntry]:
    """A query's documents, best first."""
    return sorted((RunEntry(*each) for each in scores.items()), key=lambda each: -each.score)


def reference(lists, method, weights, k=60) -> dict[str, float]:
    """doc_id -> score, document by document and run by run."""
    found = {}
    for doc_id in {entry.doc_id for each in lists for entry in each}:
        total = 0.0
        for each, weight in zip(lists, weights, strict=True):
            scores = {entry.doc_id: entry.score for entry in each}
            if not scores:
                continue
            low, high = min(scores.values()), max(scores.values())
            if method == "rrf":
                ranks = {entry.doc_id: rank for rank, entry in enumerate(each, 1)}
                total += weight / (k + ranks[doc_id]) if doc_id in ranks else 0
            elif method == "min_max" and doc_id in scores:
                total += weight * (0.5 if low == high else (scores[doc_id] - low) / (high - low))
            elif method == "z_score" and low != high:
                spread = statistics.pstdev(scores.values())
                value = scores.get(doc_id, low)
                total += weight * (value - statistics.fmean(scores.values())) / spread
        found[doc_id] = total
    return found


LIST = st.dictionaries(
    st.sampled_from("abcdefgh"), st.integers(-50, 50).map(lambda n: n / 4), max_size=8
).map(lambda scores: entries(**scores))


@given(
    st.lists(st.tuples(LIST, st.integers(0, 12).map(lambda n: n / 8)), min_size=2, max_size=4),
    st.sampled_from(METHODS),
    st.sampled_from([0, 1, 60]),
)
def test_fusion_is_that_of_the_formulas(weighted, method, k):
    lists, weights = zip(*weighted, strict=True)
    fused = fuse_query(lists, method, weights, k)
    expected = reference(lists, method, weights, k)
    assert {entry.doc_id: pytest.approx(entry.score, abs=1e-9) for entry in fused} == expected
    assert len(fused) == len(expected)
    scores = [entry.score for entry in fused]
    assert scores == sorted(scores, reverse=True)


def test_small_examples_by_hand():
    lists = entries(a=10.0, b=5.0, c=0.0), entries(c=4.0, d=2.0)
    assert fuse_query(lists, "min_max", [0.5, 1.0]) == [
        RunEntry("c", 1.0), RunEntry("a", 0.5), RunEntry("b", 0.25), RunEntry("d", 0.0),
    ]  # fmt: skip
    assert fuse_query(lists, "rrf", [1.0, 2.0]) == [
        RunEntry("c", 1 / 63 + 2 / 61), RunEntry("d", 2 / 62), RunEntry("a", 1 / 61),
        RunEntry("b", 1 / 62),
    ]  # fmt: skip
    z = 1.5**0.5  # of 10, 5 and 0: the deviation is the root of 50 / 3
    fused = {each.doc_id: each.score for each in fuse_query(lists, "z_score", [1.0, 1.0])}
    assert fused == {doc_id: pytest.approx(score) for doc_id, score in
                     {"a": z - 1, "b": -1, "c": 1 - z, "d": -z - 1}.items()}  # fmt: skip


def test_equal_sums_keep_the_order_of_first_appearance():
    """Though the parts are added in another order, for which plain sums may differ."""
    first, second, third = (entries(**dict(zip(each, (3, 2, 1), strict=True)))
                            for each in ("zya", "yaz", "azy"))  # fmt: skip
    for k in range(100):
        fused = fuse_query([first, second, third], "rrf", [1, 1, 1], k)
        assert [entry.doc_id for entry in fused] == ["z", "y", "a"]


def test_a_run_of_equal_scores_says_nothing_about_its_documents_order():
    lists = entries(a=7.0, b=7.0), entries(b=2.0, a=1.0)
    assert [each.doc_id for each in fuse_query(lists, "min_max", [9.0, 1.0])] == ["b", "a"]
    assert [each.doc_id for each in fuse_query(lists, "z_score", [9.0, 1.0])] == ["b", "a"]
    assert z_scores([3.0, 3.0]) == [0.0, 0.0]
    assert z_scores([]) == []


class Watched(Mapping[str, Sequence[RunEntry]]):
    """A run that notes which queries it is asked for."""

    def __init__(self, run: dict[str, list[RunEntry]]) -> None:
        self.run, self.asked = run, []

    def __getitem__(self, query_id: str) -> list[RunEntry]:
        self.asked.append(query_id)
        return self.run[query_id]

    def __contains__(self, query_id: object) -> bool:
        return query_id in self.run

    def __iter__(self) -> Iterator[str]:
        return iter(self.run)

    def __len__(self) -> int:
        return len(self.run)


def test_queries_come_in_the_order_of_the_first_run_then_what_others_add():
    documents = entries(a=2.0, b=1.0)
    runs = [dict.fromkeys(ids, documents) for ids in (["3", "1"], ["2", "1"], ["4", "2", "3"])]
    fused = list(fuse_runs(runs, "rrf"))
    assert [(each.query_id, each.lacking) for each in fused] == [
        ("3", (1,)), ("1", (2,)), ("2", (0,)), ("4", (0, 1)),
    ]  # fmt: skip
    assert fused[3] == FusedQuery("4", [RunEntry("a", 1 / 61), RunEntry("b", 1 / 62)], (0, 1))


def test_runs_are_read_as_queries_are_asked_for():
    runs = [Watched({str(n): entries(a=1.0) for n in range(5)}) for _ in range(2)]
    fused = fuse_runs(runs, "min_max")
    assert runs[1].asked == []
    next(fused)
    next(fused)
    assert runs[1].asked == ["0", "1"]


def test_run_files_whose_lines_are_mixed_are_fused_as_sorted_ones(tmp_path):
    drawn = random.Random(3)
    paths = []
    for name in ("one", "two"):
        lines = [f"{q} Q0 d{d} 1 {drawn.random()} t" for q in range(9) for d in range(9)]
        for order in ("sorted", "mixed"):
            drawn.shuffle(lines) if order == "mixed" else lines.sort()
            paths.append(tmp_path / f"{name}.{order}")
            paths[-1].write_text("\n".join(lines) + "\n")
    both = [
        {each.query_id: each.documents for each in fuse_runs([RunFile(a), RunFile(b)], "z_score")}
        for a, b in (paths[::2], paths[1::2])
    ]
    assert both[0] == both[1]


def test_real_runs_fused(shared):
    folder = shared / "collections" / "trec-dl19" / "runs"
    runs = [RunFile(folder / name) for name in ("bm25.trec", "splade_pp_ed.trec")]
    for method in METHODS:
        for fused in fuse_runs(runs, method, [0.3, 0.7]):
            lists = [run[fused.query_id] for run in runs]
            expected = reference(lists, method, [0.3, 0.7])
            assert {each.doc_id: pytest.approx(each.score) for each in fused.documents} == expected


def test_what_cannot_be_fused_is_refused_before_anything_is_read():
    with pytest.raises(SettingsError, match="give one of min_max, z_score, rrf"):
        check_run_fusion("mean", [1, 1], 2)
    with pytest.raises(SettingsError, match="give one for each run"):
        fuse_runs([{}, {}], "rrf", [1.0])
    with pytest.raises(SettingsError, match="two or more"):
        fuse_runs([{}], "rrf")
    check_run_fusion("rrf", [70, 30], 2)
    with pytest.raises(SettingsError, match="divide the weights"):
        check_run_fusion("rrf", [70, 30], 2, rrf_k=0)
