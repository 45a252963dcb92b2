"""What recorded replies of real models say of a judge: of orders, and of scores."""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmrankers_groupwise import Reply
from llmrankers_groupwise.prompting.parse_orders import read_order

NORMAL = statistics.NormalDist()
MODEL = "_output_v2_aug_vicuna_7b_top100"
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
    for line in path.read_text(encoding="utf-8").splitlines():
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
        of: the number of all.
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
    texts = [json.loads(line)["response"] for line in path.read_text(encoding="utf-8").splitlines()]
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
