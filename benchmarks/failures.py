"""What failed groups cost: nDCG@10 when a share of the groups gets no readable reply.

The embedded engine scores a collection's BM25 top 100 in groups of 20; every group fails with the
given probability. "kept" is what the package does: a failed group's documents keep their
first-stage places. "zero" counts them as scored 0, as some public code does.

    python benchmarks/failures.py --collection DIR
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmrankers_groupwise import GroupwiseLlmRanker, Ranking
from llmrankers_groupwise.data import FirstStage, JsonlPassages, RunFile, read_qrels, read_queries
from llmrankers_groupwise.evaluation import evaluate
from llmrankers_groupwise.scores import mean_scores, ranked_positions
from llmrankers_groupwise.types import GroupScores, ScoredGroup, Status

RATES = (0.0, 0.05, 0.1, 0.2, 0.5)
SEEDS = range(10)


def judged_lists(folder: Path) -> dict[str, tuple[list[str], Sequence[ScoredGroup]]]:
    """query_id -> doc_ids in first-stage order, and the groups with their scores."""
    run = RunFile(folder / "runs" / "bm25.trec", 100)
    passages = JsonlPassages(folder / "corpus.jsonl")
    first_stage = FirstStage(run, read_queries(folder / "queries.tsv"), passages)
    with GroupwiseLlmRanker() as ranker:

        async def rank(query_id: str) -> Ranking:
            texts = first_stage.candidates(query_id, run[query_id], ranker.truncate, 128, 512)
            return (await ranker.rank_candidates(*texts))[0]

        async def rank_all() -> list[Ranking]:
            return await asyncio.gather(*(rank(query_id) for query_id in run))

        rankings = asyncio.run(rank_all())
    return {
        query_id: ([entry.doc_id for entry in entries], ranking.groups)
        for (query_id, entries), ranking in zip(run.items(), rankings, strict=True)
    }


def with_failures(
    scored: Sequence[ScoredGroup], rate: float, rng: random.Random, *, as_zero: bool
) -> list[ScoredGroup]:
    """The groups, each failed with probability `rate`."""
    failed = []
    for each in scored:
        labels = range(1, len(each.group.members) + 1)
        scores = dict.fromkeys(labels, 0.0) if as_zero else {}
        lost = GroupScores(scores, (), Status.FAILED)
        failed.append(replace(each, scores=lost) if rng.random() < rate else each)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--collection", type=Path, required=True)
    folder = parser.parse_args().collection
    qrels = read_qrels(folder / "qrels.txt")
    lists = judged_lists(folder)
    print(f"{folder.name}, mean of {len(SEEDS)} draws\n")
    print("| groups that fail | kept | zero |")
    print("|---:|---:|---:|")
    for rate in RATES:
        means = []
        for as_zero in (False, True):
            values = []
            for seed in SEEDS:
                rng = random.Random(seed)
                scores = {}
                for query_id, (doc_ids, scored) in lists.items():
                    merged = with_failures(scored, rate, rng, as_zero=as_zero)
                    order = ranked_positions(range(len(doc_ids)), mean_scores(len(doc_ids), merged))
                    scores[query_id] = {doc_ids[p]: -float(r) for r, p in enumerate(order)}
                values.append(evaluate(qrels, scores, ["nDCG@10"])["nDCG@10"])
            means.append(statistics.fmean(values))
        print(f"| {100 * rate:.0f} % | {means[0]:.4f} | {means[1]:.4f} |", flush=True)


if __name__ == "__main__":
    main()
