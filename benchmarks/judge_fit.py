"""How far the simulated judge's parameters can be had from real replies, and how well they fit.

Two recordings of real models on TREC DL 2019, neither of which is groupwise scoring:

- orders: listwise replies over windows of 20 with their doc_ids. An order says nothing of shifts
  and factors; it says how well grades are told apart in units of noise, how much of the noise stays
  with a document in other company, how first places gain, and how often replies are malformed.
- scores: GPT-3.5 and GPT-4 scoring 20 passages 0..19, without doc_ids, and kept because most of
  them were malformed. They say how wide scores spread, how many are equal, and, as replies are of
  different queries, at most how much groups drift and differ in spread.

    python benchmarks/judge_fit.py --shared DIR
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judge_simulator import JudgeParameters, SimulatedJudge

from llmrankers_groupwise.evaluation import evaluate
from llmrankers_groupwise.orders import read_order
from llmrankers_groupwise.runs import RunFile
from llmrankers_groupwise.trec import read_qrels
from llmrankers_groupwise.types import Reply

NORMAL = statistics.NormalDist()
MODEL = "_output_v2_aug_vicuna_7b_top100"
GRADES = 3
_SCORE = re.compile(
    r"^[ \t*-]*\[(\d{1,2})\](?:[^\n]*?[Ss]core:?)?[ ]*[-:–]?[ ]*(\d{1,2})(?![\d.])", re.MULTILINE
)
Qrels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Window:
    """A window with the order that a judge gave it: places in the prompt, best first."""

    run_id: str
    query_id: str
    index: int
    doc_ids: tuple[str, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class OrderFacts:
    """What orders say.

    Attributes:
        windows: how many orders were whole.
        concordance: grade difference -> (share of pairs in the grades' order, pairs).
        unjudged: of pairs of grade 0 and no grade, the share with grade 0 above; and how many.
        first_place: the probit of the share of equal grades in prompt order, per whole list, in
            units of the standard deviation of one score.
        agreement: the share of pairs of equal grades that two first stages' windows order alike.
        agreed: how many such pairs there are.
    """

    windows: int
    concordance: Mapping[int, tuple[float, int]]
    unjudged: tuple[float, int]
    first_place: float
    agreement: float
    agreed: int

    @property
    def separation(self) -> float:
        """One grade in units of the standard deviation of one score, over all grade differences."""
        whole = sum(pairs for _, pairs in self.concordance.values())
        return sum(
            pairs / whole * math.sqrt(2.0) * NORMAL.inv_cdf(min(share, 0.999)) / difference
            for difference, (share, pairs) in self.concordance.items()
        )

    @property
    def persistence(self) -> float:
        """The share of a score's variance that stays with the document: sin(pi (agreement - 1/2)).

        Two differences that are normal, have mean 0 and correlate by r have the same sign with the
        probability 1/2 + asin(r) / pi.
        """
        return max(0.0, math.sin(math.pi * (self.agreement - 0.5)))


def recorded_windows(path: Path, model: str = MODEL) -> tuple[list[Window], Counter[str]]:
    """The windows of a model whose replies order all their documents, and all replies' statuses."""
    found, statuses = [], Counter[str]()
    for line in path.open(encoding="utf-8"):
        row = json.loads(line)
        if model not in row["run_id"]:
            continue
        size = len(row["docids"])
        scores = read_order(Reply(text=row["response"]), size, "rank_llm")
        statuses[scores.status.value] += 1
        if len(scores.scores) == size:
            order = sorted(range(size), key=lambda place: -scores.scores[place + 1])
            found.append(
                Window(row["run_id"], row["qid"], row["window_index"], tuple(row["docids"]),
                       tuple(order))
            )  # fmt: skip
    return found, statuses


def order_facts(windows: Sequence[Window], qrels: Qrels) -> OrderFacts:
    """The facts of these windows.

    Pairs of equal grades are asked about the prompt's order in the first windows only, whose order
    is the first stage's; later ones are in the order that the judge gave before. First stages do
    better than chance among equal grades, too, so what is found is the most that it can be.
    """
    right, pairs = Counter[int](), Counter[int]()
    without: list[bool] = []
    first: list[tuple[float, bool]] = []
    sides: dict[tuple[str, str, str], dict[str, bool]] = defaultdict(dict)
    for window in windows:
        judged = qrels.get(window.query_id, {})
        rank = {place: at for at, place in enumerate(window.order)}
        places = range(len(window.doc_ids))
        for one, other in itertools.combinations(places, 2):
            a, b = window.doc_ids[one], window.doc_ids[other]
            above = rank[one] < rank[other]
            difference = judged.get(a, -1) - judged.get(b, -1)
            if not {a, b} <= judged.keys():
                if {judged.get(a, -1), judged.get(b, -1)} == {0, -1}:
                    without.append(above == (difference > 0))
            elif difference:
                pairs[abs(difference)] += 1
                right[abs(difference)] += above == (difference > 0)
            if difference:
                continue
            if window.index == 0:
                first.append(((other - one) / (len(window.doc_ids) - 1), above))
            stage = "splade" if "_splade_" in window.run_id else "bm25"
            key = (window.query_id, min(a, b), max(a, b))
            sides[key].setdefault(stage, above == (a < b))
    both = [set(each.values()) for each in sides.values() if len(each) == 2]
    slope = math.sqrt(2.0) * NORMAL.inv_cdf(
        statistics.fmean(above for _, above in first)
    ) / statistics.fmean(distance for distance, _ in first)  # fmt: skip
    return OrderFacts(
        len(windows),
        {each: (right[each] / pairs[each], pairs[each]) for each in sorted(pairs)},
        (statistics.fmean(without), len(without)) if without else (0.5, 0),
        slope,
        statistics.fmean(len(each) == 1 for each in both) if both else 0.5,
        len(both),
    )


@dataclass(frozen=True)
class ScoreFacts:
    """What recorded scores say, on a scale of 0..10 where points are meant.

    Attributes:
        replies: how many scored at least three quarters of 20 labels.
        of: out of so many.
        spread: the median standard deviation within a reply.
        drift: that of replies' means, beyond chance; queries differ, so at most.
        contrast: that of the logarithm of replies' standard deviations; at most.
        tied: the share of pairs within a reply that are equal.
        position: by how much the first label is above the last, by regression.
    """

    replies: int
    of: int
    spread: float
    drift: float
    contrast: float
    tied: float
    position: float


def score_facts(path: Path) -> ScoreFacts:
    """The facts of the recorded scores."""
    texts = [json.loads(line)["response"] for line in path.open(encoding="utf-8")]
    replies = []
    for text in texts:
        found: dict[int, float] = {}
        for label, score in _SCORE.findall(text):
            if 1 <= int(label) <= 20 and int(score) <= 20:
                found.setdefault(int(label), int(score) * 10.0 / 19.0)
        if len(found) >= 15 and len(set(found.values())) > 1:
            replies.append(found)
    spreads = [statistics.stdev(each.values()) for each in replies]
    means = [statistics.fmean(each.values()) for each in replies]
    chance = statistics.fmean(
        spread**2 / len(each) for spread, each in zip(spreads, replies, strict=True)
    )
    ties = [a == b for each in replies for a, b in itertools.combinations(each.values(), 2)]
    slopes = [statistics.linear_regression(list(each), list(each.values()))[0] for each in replies]
    return ScoreFacts(
        len(replies),
        len(texts),
        statistics.median(spreads),
        math.sqrt(max(0.0, statistics.variance(means) - chance)),
        statistics.stdev(math.log(each) for each in spreads),
        statistics.fmean(ties),
        -19.0 * statistics.median(slopes),
    )


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
    rows = map(json.loads, (shared / "recordings/manifest.jsonl").open(encoding="utf-8"))
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
