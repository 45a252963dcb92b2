"""Models of which documents and groups made the scores, fitted by numpy: all pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Rows", "bradley_terry", "by_shared"]

Rows = Sequence[Mapping[int, float]]
"""For each group, position -> score; empty where it failed. Positions are 0-based."""

_ROUNDS = 50
_FACTORS = (0.25, 4.0)
_PRIOR = 1.0  # of a document's own score, against one comparison with another document


def by_shared(rows: Rows, *, scale: bool) -> list[dict[int, float]]:
    """Scores less the group's shift, after division by its factor: factor * (document + shift).

    Shifts are by least squares over documents in more than one group, factors in turn with them.
    They sum to 0, factors' logarithms too, over groups that share documents, directly or through
    others: nothing is known of how others compare.

    Args:
        rows: the groups' scores.
        scale: fit factors; else they are 1.
    """
    appearances = defaultdict(list)
    for index, row in enumerate(rows):
        for position in row:
            appearances[position].append(index)
    shared = {x: found for x, found in appearances.items() if len(found) > 1}
    factors = [1.0] * len(rows)
    if not shared:
        return [dict(row) for row in rows]
    for _ in range(_ROUNDS if scale else 1):
        scaled = [
            {x: y / factor for x, y in row.items()}
            for row, factor in zip(rows, factors, strict=True)
        ]
        shifts = _shifts(scaled, shared)
        if scale:
            before, factors = factors, _factors(rows, shifts, scaled, shared)
            if max(abs(a - b) for a, b in zip(before, factors, strict=True)) < 1e-6:
                break
    return [
        {x: y / factor - shift for x, y in row.items()}
        for row, factor, shift in zip(rows, factors, shifts, strict=True)
    ]


def _shifts(rows: Rows, shared: Mapping[int, Sequence[int]]) -> list[float]:
    """The group shifts of the two-way layout score = document + shift, of least norm."""
    import numpy as np

    normal = np.zeros((len(rows), len(rows)))
    right = np.zeros(len(rows))
    for position, found in shared.items():
        mean = math.fsum(rows[index][position] for index in found) / len(found)
        for index in found:
            right[index] += rows[index][position] - mean
            normal[index, index] += 1.0
            normal[index, found] -= 1.0 / len(found)
    return [float(shift) for shift in np.linalg.pinv(normal, hermitian=True) @ right]


def _factors(
    rows: Rows, shifts: Sequence[float], scaled: Rows, shared: Mapping[int, Sequence[int]]
) -> list[float]:
    """How far each group spreads the documents that it shares, relative to all; geometric mean 1.

    Standard deviations are compared rather than regressed on each other, as both are noisy.
    """
    level = {
        x: _mean([scaled[index][x] - shifts[index] for index in found])
        for x, found in shared.items()
    }
    logs = []
    for row in rows:
        own = [x for x in row if x in level]
        spread, usual = _spread([row[x] for x in own]), _spread([level[x] for x in own])
        ratio = spread / usual if spread and usual else 1.0
        logs.append(math.log(min(max(ratio, _FACTORS[0]), _FACTORS[1])))
    centre = _mean(logs)
    return [math.exp(each - centre) for each in logs]


def bradley_terry(rows: Rows) -> list[dict[int, float]]:
    """Newton's method on the penalised log likelihood, from the scores on.

    log L = sum over pairs of w log sigma(t_i - t_j), less _PRIOR / 2 sum of (t - z)^2, where z are
    the documents' mean scores less their mean, divided by their standard deviation.
    """
    import numpy as np

    positions = sorted({position for row in rows for position in row})
    places = {position: place for place, position in enumerate(positions)}
    wins: Any = np.zeros((len(places), len(places)))
    for row in rows:
        own = np.array([places[x] for x in row], int)
        given = np.array(list(row.values()), float)
        beats = (given[:, None] > given) + 0.5 * (given[:, None] == given)
        np.fill_diagonal(beats, 0.0)
        wins[np.ix_(own, own)] += beats
    z = _standardised([_mean([row[x] for row in rows if x in row]) for x in positions])
    strength = z.copy()
    met = wins + wins.T
    for _ in range(_ROUNDS):
        chance = 1.0 / (1.0 + np.exp(np.clip(strength - strength[:, None], -40.0, 40.0)))
        gradient = (wins - met * chance).sum(axis=1) - _PRIOR * (strength - z)
        weights = met * chance * (1.0 - chance)
        curvature = np.diag(weights.sum(axis=1) + _PRIOR) - weights
        step = np.linalg.solve(curvature, gradient)
        strength += step / max(1.0, float(np.abs(step).max(initial=0.0)))
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    return [{x: float(strength[places[x]]) for x in row} for row in rows]


def _standardised(values: Sequence[float]) -> Any:
    """Values as an array of mean 0 and standard deviation 1; zeros where all are equal."""
    import numpy as np

    if len(set(values)) < 2:
        return np.zeros(len(values))
    array = np.array(values) - _mean(values)
    return array / array.std()


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _spread(values: Sequence[float]) -> float:
    """The standard deviation; 0.0 where fewer than three say nothing, or all are equal."""
    if len(values) < 3 or min(values) == max(values):
        return 0.0
    mean = _mean(values)
    return math.sqrt(math.fsum((each - mean) ** 2 for each in values) / len(values))
