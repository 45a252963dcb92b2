"""How far the simulated judge's parameters can be had from real replies, and how well they fit.

Two recordings of real models on TREC DL 2019, neither of which is groupwise scoring:

- orders: listwise replies over windows of 20 with their doc_ids. An order says nothing of shifts
  and factors; it says how well grades are told apart in units of noise, how much of the noise stays
  with a document in other company, how first places gain, and how often replies are malformed.
- scores: GPT-3.5 and GPT-4 scoring 20 passages 0..19, without doc_ids, and kept because most of
  them were malformed. They say how wide scores spread, how many are equal, and, as replies are of
  different queries, at most how much groups drift and differ in spread.

    python benchmarks/grouping/judge_fit.py --shared DIR
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from judge_simulator import JudgeParameters, SimulatedJudge
from recorded_judges import (
    MODEL,
    NORMAL,
    OrderFacts,
    Qrels,
    ScoreFacts,
    Window,
    order_facts,
    recorded_windows,
    score_facts,
)

from llmrankers_groupwise.data import RunFile, read_qrels
from llmrankers_groupwise.evaluation import evaluate

GRADES = 3


def fitted(
    orders: OrderFacts,
    scores: ScoreFacts,
    statuses: Mapping[str, int],
    grades: Iterable[int],
    sharper: float = 1.0,
) -> JudgeParameters:
    """The parameters that these facts give.

    The spread within a reply is that of grades and of noise; their ratio is of the orders. Drift
    and contrast are half of their upper bounds, and the mean of all scores is 5: choices, no fits.

    Args:
        orders: the facts of orders.
        scores: the facts of scores.
        statuses: of the listwise replies.
        grades: of the documents that were in the windows, -1 for none.
        sharper: what grades are told apart better by than pairs say.
    """
    whole = sum(statuses.values())
    ratio = sharper * orders.separation
    below = sharper * math.sqrt(2.0) * NORMAL.inv_cdf(orders.unjudged[0])
    levels = [ratio * grade if grade >= 0 else -below for grade in grades]
    sd = scores.spread / math.sqrt(1.0 + statistics.pvariance(levels))
    return JudgeParameters(
        low=5.0 - sd * statistics.fmean(levels),
        high=5.0 - sd * statistics.fmean(levels) + GRADES * ratio * sd,
        unjudged=5.0 - sd * statistics.fmean(levels) - below * sd,
        bias=sd * math.sqrt(orders.persistence),
        noise=sd * math.sqrt(1.0 - orders.persistence),
        drift=scores.drift / 2.0,
        contrast=scores.contrast / 2.0,
        position=max(0.0, orders.first_place * sd),
        malformed=statuses.get("failed", 0) / whole,
        missing=statuses.get("partial", 0) / whole / 20.0,
    )


def simulated_windows(
    windows: Sequence[Window], qrels: Qrels, parameters: JudgeParameters, seed: int
) -> list[Window]:
    """The same windows, ordered by a simulated judge instead."""
    documents: dict[str, dict[str, int]] = defaultdict(dict)
    for window in windows:
        for doc_id in window.doc_ids:
            documents[window.query_id].setdefault(doc_id, len(documents[window.query_id]))
    judges = {
        query_id: SimulatedJudge(
            query_id, [qrels.get(query_id, {}).get(each, -1) for each in places], parameters, seed
        )
        for query_id, places in documents.items()
    }
    found = []
    for window in windows:
        judge = judges[window.query_id]
        members = [documents[window.query_id][each] for each in window.doc_ids]
        raw = judge.raw(members, judge.rng(members))
        order = tuple(sorted(range(len(members)), key=lambda place: -raw[place]))
        found.append(dataclasses.replace(window, order=order))
    return found


def slid(run: Mapping[str, Any], qrels: Qrels, parameters: JudgeParameters, seed: int) -> float:
    """nDCG@10 of a list of 100 sorted by windows of 20 that slide by 10, from its end."""
    scores = {}
    for query_id, entries in run.items():
        doc_ids = [entry.doc_id for entry in entries][:100]
        grades = [qrels.get(query_id, {}).get(doc_id, -1) for doc_id in doc_ids]
        judge = SimulatedJudge(query_id, grades, parameters, seed)
        order = list(range(len(doc_ids)))
        for start in range(max(len(order) - 20, 0), -1, -10):
            members = order[start : start + 20]
            raw = judge.raw(members, judge.rng(members))
            best = sorted(range(len(members)), key=lambda place: -raw[place])
            order[start : start + 20] = [members[place] for place in best]
        scores[query_id] = {doc_ids[each]: -float(rank) for rank, each in enumerate(order)}
    known = {query_id: dict(grades) for query_id, grades in qrels.items() if query_id in run}
    return evaluate(known, scores, ["nDCG@10"])["nDCG@10"]


def fit(
    shared: Path, seeds: int = 3
) -> tuple[JudgeParameters, float, OrderFacts, ScoreFacts, list[Window], Counter[str]]:
    """The fitted parameters, how much sharper, and what they come from, of a folder as shared/ is.

    `sharper` is found by bisection, so that windows slid over BM25 by the simulated judge have the
    nDCG@10 that the model's have (the mean of its recorded runs). Pairs alone say too little: later
    windows hold what won in earlier ones, and documents of one grade differ in how plain they are.
    """
    qrels = read_qrels(shared / "collections/trec-dl19/qrels.txt")
    windows, statuses = recorded_windows(shared / "recordings/listwise_rankvicuna_dl19.jsonl")
    orders = order_facts(windows, qrels)
    scores = score_facts(shared / "recordings/gpt_score_then_rank_dl19.jsonl")
    seen = [qrels[w.query_id].get(doc_id, -1) for w in windows for doc_id in w.doc_ids]
    run = RunFile(shared / "collections/trec-dl19/runs/bm25.trec")
    wanted = recorded_quality(shared, "bm25")
    least, most = 0.5, 8.0
    for _ in range(8):
        sharper = math.sqrt(least * most)
        parameters = fitted(orders, scores, statuses, seen, sharper)
        got = statistics.fmean(slid(run, qrels, parameters, seed) for seed in range(seeds))
        least, most = (sharper, most) if got < wanted else (least, sharper)
    return parameters, sharper, orders, scores, windows, statuses


def recorded_quality(shared: Path, stage: str) -> float:
    """The mean nDCG@10 of the model's recorded runs over a first stage."""
    told = (shared / "recordings/manifest.jsonl").read_text(encoding="utf-8")
    rows = map(json.loads, told.splitlines())
    return statistics.fmean(
        row["recorded_ndcg10"]
        for row in rows
        if MODEL in row["run_id"] and row["retriever"] == stage
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    parameters, sharper, orders, scores, windows, statuses = fit(arguments.shared, arguments.seeds)
    print(
        f"Grades are told apart {sharper:.2f} times better than pairs say.\n\nFitted: "
        + ", ".join(f"{k} {v:.3g}" for k, v in vars(parameters).items())
    )
    print(f"\nReplies: {dict(statuses)}\n\nScores: {scores}\n")
    qrels = read_qrels(arguments.shared / "collections/trec-dl19/qrels.txt")
    print("| orders of | separation | persistence | first place | by grade difference 1, 2, 3 |")
    print("|---|---:|---:|---:|---|")
    rows = {"the model": orders}
    for seed in range(arguments.seeds):
        simulated = simulated_windows(windows, qrels, parameters, seed)
        rows[f"the simulated judge, seed {seed}"] = order_facts(simulated, qrels)
    for name, facts in rows.items():
        shares = ", ".join(f"{share:.3f}" for share, _ in facts.concordance.values())
        print(f"| {name} | {facts.separation:.2f} | {facts.persistence:.2f} "
              f"| {facts.first_place:.2f} | {shares} |")  # fmt: skip
    for stage in ("bm25", "splade_pp_ed"):
        run = RunFile(arguments.shared / f"collections/trec-dl19/runs/{stage}.trec")
        slides = [slid(run, qrels, parameters, seed) for seed in range(arguments.seeds)]
        print(f"\nnDCG@10 of windows slid over {stage} by the simulated judge: "
              f"{', '.join(f'{value:.3f}' for value in slides)}; "
              f"by the model: {recorded_quality(arguments.shared, stage):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
