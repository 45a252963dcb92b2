"""Scores of different groups made comparable, before they are merged: all pure.

A language model scores a group's documents by comparison with each other, so its scores shift from
group to group, and are spread more or less. A calibration replaces the scores of scored groups, and
leaves everything else as it is: who shared a group, what is missing, which group failed. Whatever
merges scores (`fusion`) then goes on as before. Scores and results are rounded to 1e-9, so
that those which are equal but for the order of a sum are equal, and stay so when they are spread.

Positions are 0-based first-stage ranks.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.groupwise.score_models import Rows, bradley_terry, by_shared
from llmrankers_groupwise.scores import min_max
from llmrankers_groupwise.types import ScoredGroup

__all__ = [
    "Calibration",
    "calibrated",
    "check_calibration",
    "check_shrinkage",
    "shrunk",
    "variances",
]

Calibration = Literal[
    "none", "zscore", "minmax", "random_effects", "shared_shift", "shared_scale", "borda",
    "bradley_terry",
]  # fmt: skip
"""How scores of different groups are made comparable.

none: they are taken as they are; right where the model has one scale for all groups.
zscore: less the group's mean, divided by its standard deviation; 0 where all are equal. Right where
    groups are alike and scored on different scales. What a group was worth as a whole is lost.
minmax: scaled to 0..1 in each group; 0.5 where all are equal. As zscore, by the extremes alone.
random_effects: of each group's mean, as much is taken off as the means of groups differ by more
    than chance (one-way random effects; Efron and Morris, JASA 70, 1975). Nothing where there is
    no drift. For groups that are alike: not for sorted ones, nor where a final of the best is one.
shared_shift: a shift for each group, by least squares over the documents that it shares with
    others: anchors, overlaps, other repeats, a final round. No assumption on who is in a group;
    where nothing is shared nothing changes.
shared_scale: a shift and a factor for each group, by the same documents.
borda: the share of its group that a document beats, a tie counting half; 0.5 alone. Scores count as
    an order only. (Reciprocal ranks are a fusion: "rrf".)
bradley_terry: strengths of which the model's comparisons within groups are most likely (Bradley and
    Terry, Biometrika 39, 1952), a tie counting half a win for both, drawn towards the documents'
    scores where comparisons are few; it is on a scale of its own.
"""

_DIGITS = 9


def check_calibration(calibration: str) -> None:
    """Raise SettingsError for an unknown calibration."""
    if calibration not in _CALIBRATIONS:
        known = ", ".join(_CALIBRATIONS)
        raise SettingsError(f"calibration is {calibration!r}: give one of {known}")


def check_shrinkage(shrinkage: float, fusion: str) -> None:
    """Raise SettingsError for a weight below 0, or one where ranks are fused and not scores."""
    if not 0.0 <= shrinkage < math.inf:
        raise SettingsError(f"shrinkage is {shrinkage}: give 0 for none, or a number above")
    if shrinkage and fusion != "mean":
        raise SettingsError(
            f"shrinkage is {shrinkage}, but fusion {fusion} has no scores to draw anywhere: give "
            f"shrinkage 0 (and first_stage_weight instead), or fusion mean"
        )


def calibrated(
    scored: Sequence[ScoredGroup], calibration: Calibration = "none"
) -> list[ScoredGroup]:
    """The groups with their scores made comparable; see `Calibration`.

    In the order given. Labels without a score have none afterwards either.
    """
    rows = [dict(each.scores.scores) for each in scored]
    members = [each.group.members for each in scored]
    if calibration == "none":
        return list(scored)
    by_position = [
        {position[label - 1]: round(score, _DIGITS) for label, score in row.items()}
        for position, row in zip(members, rows, strict=True)
    ]
    changed = _CALIBRATIONS[calibration](by_position)
    return [
        dataclasses.replace(
            each,
            scores=dataclasses.replace(
                each.scores,
                scores={label: round(new[position[label - 1]], _DIGITS) for label in row},
            ),
        )
        for each, position, row, new in zip(scored, members, rows, changed, strict=True)
    ]


def variances(n: int, scored: Sequence[ScoredGroup]) -> list[float | None]:
    """How much a document's scores differ from group to group: their sample variance.

    By position; None where a document has fewer than two scores. It is the model's confidence
    turned round: 0 for a document that is scored alike in every company.
    """
    scores: list[list[float]] = [[] for _ in range(n)]
    for each in scored:
        for label, score in each.scores.scores.items():
            scores[each.group.members[label - 1]].append(score)
    return [statistics.variance(each) if len(each) > 1 else None for each in scores]


def shrunk(
    scores: Sequence[float | None], scored: Sequence[ScoredGroup], weight: float
) -> list[float | None]:
    """Scores drawn towards what the first stage expects of them: (c s + w p) / (c + w).

    c is how many scores a document has, s their merged score, w the weight in scores, and p the
    least-squares line of all scores over -ln(1 + position). So a first stage that does not agree
    with the model draws everything to one value and changes no order among documents with equal
    c, and a document with many scores stays near them (Efron and Morris, JASA 70, 1975).

    Args:
        scores: by position, None where unscored; they stay so.
        scored: the groups that they came from.
        weight: 0 changes nothing.
    """
    counts = [0] * len(scores)
    for each in scored:
        for label in each.scores.scores:
            counts[each.group.members[label - 1]] += 1
    known = [(-math.log1p(x), score) for x, score in enumerate(scores) if score is not None]
    if not weight or len(known) < 2:
        return list(scores)
    xs, ys = zip(*known, strict=True)
    slope, start = statistics.linear_regression(xs, ys)
    slope = max(slope, 0.0)
    if not slope:
        start = statistics.fmean(ys)
    return [
        None
        if score is None
        else round(
            (count * score + weight * (start - slope * math.log1p(position))) / (count + weight),
            _DIGITS,
        )
        for position, (score, count) in enumerate(zip(scores, counts, strict=True))
    ]


def _zscore(rows: Rows) -> list[dict[int, float]]:
    changed = []
    for row in rows:
        if len(set(row.values())) < 2:  # a sum of equal scores may be off by its last bit
            changed.append(dict.fromkeys(row, 0.0))
            continue
        mean = math.fsum(row.values()) / len(row)
        spread = math.sqrt(math.fsum((y - mean) ** 2 for y in row.values()) / len(row))
        changed.append({x: (y - mean) / spread for x, y in row.items()})
    return changed


def _minmax(rows: Rows) -> list[dict[int, float]]:
    return [dict(zip(row, min_max(list(row.values())), strict=True)) for row in rows]


def _borda(rows: Rows) -> list[dict[int, float]]:
    changed = []
    for row in rows:
        others = max(len(row) - 1, 1)
        ordered = sorted(row.values())
        beaten = {score: ordered.index(score) for score in set(ordered)}
        tied = {score: ordered.count(score) - 1 for score in beaten}
        alone = len(row) == 1
        changed.append(
            {x: 0.5 if alone else (beaten[y] + tied[y] / 2) / others for x, y in row.items()}
        )
    return changed


def _random_effects(rows: Rows) -> list[dict[int, float]]:
    """Subtract of each group's mean what exceeds chance.

    With m the mean of g group means, a group of size c has the share t / (t + v / c) of its mean's
    distance from m taken off, where v is the variance within groups, pooled, and t the variance of
    means less v times the mean of 1 / c, or 0 if that is negative.
    """
    means = [math.fsum(row.values()) / len(row) if row else 0.0 for row in rows]
    there = [index for index, row in enumerate(rows) if row]
    freedom = sum(len(rows[index]) - 1 for index in there)
    if len(there) < 2 or not freedom:
        return [dict(row) for row in rows]
    squares = [(y - means[index]) ** 2 for index in there for y in rows[index].values()]
    within = math.fsum(squares) / freedom
    centre = statistics.fmean(means[index] for index in there)
    chance = within * statistics.fmean(1.0 / len(rows[index]) for index in there)
    drift = max(0.0, statistics.variance(means[index] for index in there) - chance)
    changed = []
    for mean, row in zip(means, rows, strict=True):
        share = drift / (drift + within / len(row)) if row and drift else 0.0
        changed.append({x: y - share * (mean - centre) for x, y in row.items()})
    return changed


_CALIBRATIONS: Mapping[str, Callable[[Rows], list[dict[int, float]]]] = {
    "none": lambda rows: [dict(row) for row in rows],
    "zscore": _zscore,
    "minmax": _minmax,
    "random_effects": _random_effects,
    "shared_shift": lambda rows: by_shared(rows, scale=False),
    "shared_scale": lambda rows: by_shared(rows, scale=True),
    "borda": _borda,
    "bradley_terry": bradley_terry,
}
