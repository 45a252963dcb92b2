"""The judges of the study of grouping: simulated ones, and two that are real as far as they go."""

from __future__ import annotations

import asyncio
import functools
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from judge_simulator import JudgeParameters, SimulatedJudge
from plans import Judge, Merge
from recorded_judges import MODEL

from llmrankers_groupwise import Candidate, GroupwiseLlmRanker, Query, Reply
from llmrankers_groupwise.data import RunFile, read_qrels, read_queries
from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.evaluation import evaluate
from llmrankers_groupwise.prompting.parse_orders import read_order
from llmrankers_groupwise.scores import ranked_positions
from llmrankers_groupwise.types import Group, GroupScores, ScoredGroup, Status

DEEPEST = 500
RUNS = {"trec-dl19": "bm25", "noveleval": "google_order", "scifact": "bm25"}


@dataclass(frozen=True)
class Collection:
    """A collection with the first stage's best.

    Attributes:
        folder: where it lies.
        queries: query_id -> text, of those with judgements.
        doc_ids: query_id -> doc_ids, best first.
        qrels: of these queries.
    """

    folder: Path
    queries: Mapping[str, str]
    doc_ids: Mapping[str, Sequence[str]]
    qrels: Qrels

    @property
    def highest(self) -> int:
        """The highest grade."""
        return max(grade for row in self.qrels.values() for grade in row.values())


def collection_of(shared: Path, name: str, run: str | None, n: int, most: int) -> Collection:
    """A collection of a folder laid out as shared/ is, with at most `most` queries, every k-th."""
    folder = shared / "collections" / name
    candidates = RunFile(folder / "runs" / f"{run or RUNS[name]}.trec", n)
    qrels, texts = read_qrels(folder / "qrels.txt"), read_queries(folder / "queries.tsv")
    known = sorted(query_id for query_id in candidates if query_id in qrels)
    known = known[:: max(1, -(-len(known) // most))]
    return Collection(
        folder,
        {query_id: texts[query_id] for query_id in known},
        {query_id: [entry.doc_id for entry in candidates[query_id]] for query_id in known},
        {query_id: qrels[query_id] for query_id in known},
    )


def made_collection(n: int, strength: float, queries: int) -> Collection:
    """The first n of lists of 500 behind a first stage of any strength, which none here has.

    Of grades 3, 2 and 1 there are 6, 10 and 10 documents on average (Poisson), about as many as the
    best 100 of BM25 have on TREC DL 2019; the others have grade 0. The first stage sorts by
    strength x grade and a normal deviate, so at 0 it knows nothing. What it leaves behind rank n
    counts in the ideal ranking, as it does in a collection.
    """
    made: dict[str, dict[str, int]] = {}
    order: dict[str, list[str]] = {}
    for query in range(queries):
        rng = np.random.default_rng(query)
        counts = [int(rng.poisson(mean)) for mean in (6, 10, 10)]
        relevant = [g for g, count in zip((3, 2, 1), counts, strict=True) for _ in range(count)]
        grades = np.array((relevant + [0] * DEEPEST)[:DEEPEST])
        ranks = np.argsort(-(strength * grades + rng.standard_normal(DEEPEST)), kind="stable")
        query_id = f"made{query:03d}"
        made[query_id] = {f"d{x}": int(grade) for x, grade in enumerate(grades)}
        order[query_id] = [f"d{x}" for x in ranks[:n]]
    return Collection(Path(), {query_id: query_id for query_id in made}, order, made)


MakeJudge = Callable[[str, int], Judge]
"""query_id, seed -> its judge."""


def simulated(collection: Collection, parameters: JudgeParameters) -> MakeJudge:
    """Simulated judges of a collection's queries."""

    def make(query_id: str, seed: int) -> Judge:
        grades = collection.qrels[query_id]
        seen = [grades.get(doc_id, -1) for doc_id in collection.doc_ids[query_id]]
        return SimulatedJudge(query_id, seen, parameters, seed, collection.highest)

    return make


def embedded(collection: Collection) -> MakeJudge:
    """The embedded engine's scores of each document.

    It looks at each document alone, so that its scores are the same in every group and no grouping
    can matter: one question about all documents says what every group would get.
    """
    corpus, ranker, scores = _loaded(collection.folder)

    def make(query_id: str, seed: int) -> Judge:
        if query_id not in scores:
            doc_ids = collection.doc_ids[query_id]
            found = [Candidate(doc_id, corpus[doc_id], 0.0) for doc_id in doc_ids]
            ranking, _ = asyncio.run(
                ranker.rank_candidates(Query(query_id, collection.queries[query_id]), found)
            )
            scores[query_id] = {
                each.group.members[label - 1]: score
                for each in ranking.groups
                for label, score in each.scores.scores.items()
            }
        return lambda groups: [_looked_up(group, scores[query_id]) for group in groups]

    return make


@functools.cache
def _loaded(folder: Path) -> tuple[dict[str, str], GroupwiseLlmRanker, dict[str, dict[int, float]]]:
    """A collection's texts, a ranker, and the scores it has given so far, for all budgets."""
    corpus = {}
    with (folder / "corpus.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            corpus[str(row["_id"])] = f"{row.get('title') or ''} {row['text']}".strip()
    return corpus, GroupwiseLlmRanker(grouping="sorted"), {}


def _looked_up(group: Group, scores: Mapping[int, float]) -> ScoredGroup:
    found = {label: scores[x] for label, x in enumerate(group.members, 1) if x in scores}
    missing = tuple(label for label in range(1, len(group.members) + 1) if label not in found)
    status = Status.FAILED if not found else Status.PARTIAL if missing else Status.EXACT
    return ScoredGroup(group, GroupScores(found, missing, status))


def recorded_table(shared: Path, merges: Sequence[Merge]) -> Iterator[str]:
    """Recorded windows of 20 that slid by 10, merged: nDCG@10, a row for each merge.

    Only windows that were recorded can be asked about, so groupings cannot be compared; ways to
    merge can, on real replies, all of them windows over what an earlier window put there. An order
    counts as scores 20..1. The last row is what sliding itself made of them.
    """
    folder = shared / "collections/trec-dl19"
    qrels = read_qrels(folder / "qrels.txt")
    windows: dict[str, dict[str, list[tuple[tuple[str, ...], Reply]]]] = {}
    recordings = shared / "recordings"
    replies = (recordings / "listwise_rankvicuna_dl19.jsonl").read_text(encoding="utf-8")
    for row in map(json.loads, replies.splitlines()):
        if MODEL in row["run_id"]:
            query = windows.setdefault(row["run_id"], {}).setdefault(row["qid"], [])
            query.append((tuple(row["docids"]), Reply(text=row["response"])))
    yield f"| merge | {' | '.join(sorted(windows))} |"
    yield f"|---|{'---:|' * len(windows)}"
    first = {
        stage: RunFile(folder / "runs" / f"{stage}.trec") for stage in ("bm25", "splade_pp_ed")
    }
    for merge in merges:
        values = []
        for run_id in sorted(windows):
            run = first["splade_pp_ed" if "_splade_" in run_id else "bm25"]
            scores = {}
            for query_id, asked in windows[run_id].items():
                doc_ids = [entry.doc_id for entry in run[query_id]][:100]
                places = {doc_id: place for place, doc_id in enumerate(doc_ids)}
                scored = [
                    ScoredGroup(
                        Group(repeat, tuple(places[doc_id] for doc_id in shown)),
                        read_order(reply, len(shown), "rank_llm"),
                    )
                    for repeat, (shown, reply) in enumerate(asked)
                ]
                order = ranked_positions(range(len(doc_ids)), merge.scores(len(doc_ids), scored))
                scores[query_id] = {doc_ids[x]: -float(rank) for rank, x in enumerate(order)}
            values.append(evaluate(qrels, scores, ["nDCG@10"])["nDCG@10"])
        yield f"| {merge.name} | {' | '.join(f'{value:.4f}' for value in values)} |"
    told = (recordings / "manifest.jsonl").read_text(encoding="utf-8")
    manifest = map(json.loads, told.splitlines())
    slid = {row["run_id"]: row["recorded_ndcg10"] for row in manifest}
    yield f"| windows that slide | {' | '.join(f'{slid[each]:.4f}' for each in sorted(windows))} |"
    mean = statistics.fmean(slid[each] for each in windows)
    yield f"\nOn average windows that slide give {mean:.4f}."
