"""Models of which documents and groups made the scores, fitted by numpy: all pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Rows", "bradley_terry", "by_shared"]

Rows = Sequence[Mapping[int, float]]
"""For each group, position -> score; empty where it failed. Positions are 0-based."""

_ROUNDS = 50
_FACTORS = (0.25, 4.0)
_LEAST = 1e-9  # a smaller standard deviation means equal scores
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
    import numpy as np

    counts = Counter(position for row in rows for position in row)
    shared = sorted(position for position, count in counts.items() if count > 1)
    if not shared:
        return [dict(row) for row in rows]
    there = np.array([[position in row for row in rows] for position in shared], float)
    scores = np.array([[row.get(position, 0.0) for row in rows] for position in shared])
    appearances = there.sum(axis=1, keepdims=True)
    normal = np.diag(there.sum(axis=0)) - (there / appearances).T @ there
    inverse = np.linalg.pinv(normal, rcond=_LEAST, hermitian=True)  # its own takes 0 for less
    relative = inverse @ normal  # less the mean of the groups that are connected with each
    factors = np.ones(len(rows))
    for _ in range(_ROUNDS if scale else 1):
        scaled = scores / factors
        means = (there * scaled).sum(axis=1, keepdims=True) / appearances
        # The two-way layout document + shift: of all solutions that of the least norm.
        shifts = inverse @ (there * (scaled - means)).sum(axis=0)
        if scale:
            levels = (there * (scaled - shifts)).sum(axis=1, keepdims=True) / appearances
            before, factors = factors, np.exp(relative @ _spread_ratios(there, scores, levels))
            if np.abs(before - factors).max() < 1e-6:
                break
    return [
        {x: float(y / factor - shift) for x, y in row.items()}
        for row, factor, shift in zip(rows, factors, shifts, strict=True)
    ]


def _spread_ratios(there: Any, scores: Any, levels: Any) -> Any:
    """How far each group spreads the documents that it shares, relative to all: logarithms.

    Standard deviations are compared rather than regressed on each other, as both are noisy; 0 where
    fewer than three documents are shared, or all are equal.

    Args:
        there: 1 where a document is in a group, else 0, shape (documents, groups).
        scores: of documents in groups, the same shape.
        levels: of documents, shape (documents, 1).
    """
    import numpy as np

    count = there.sum(axis=0)
    own, usual = _spreads(there, scores, count), _spreads(there, levels, count)
    known = (count > 2) & (own > _LEAST) & (usual > _LEAST)
    ratio = np.where(known, own, 1.0) / np.where(known, usual, 1.0)
    return np.log(np.clip(ratio, *_FACTORS))


def _spreads(there: Any, values: Any, count: Any) -> Any:
    """The standard deviation of each group's shared documents, shape (groups,)."""
    import numpy as np

    whole = np.maximum(count, 1.0)
    means = (there * values).sum(axis=0) / whole
    return np.sqrt((there * (values - means) ** 2).sum(axis=0) / whole)


def bradley_terry(rows: Rows) -> list[dict[int, float]]:
    """Newton's method on the penalised log likelihood, from the scores on.

    log L = sum over pairs of w log sigma(t_i - t_j), less _PRIOR / 2 sum of (t - z)^2, where z are
    the documents' mean scores less their mean, divided by their standard deviation.
    """
    import numpy as np

    positions = sorted({position for row in rows for position in row})
    indexes = {position: index for index, position in enumerate(positions)}
    wins: Any = np.zeros((len(indexes), len(indexes)))
    for row in rows:
        own = np.array([indexes[x] for x in row], int)
        given = np.array(list(row.values()), float)
        beats = (given[:, None] > given) + 0.5 * (given[:, None] == given)
        np.fill_diagonal(beats, 0.0)
        wins[np.ix_(own, own)] += beats
    found: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        for position, score in row.items():
            found[position].append(score)
    z = _standardised([_mean(found[position]) for position in positions])
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
    return [{x: float(strength[indexes[x]]) for x in row} for row in rows]


def _standardised(values: Sequence[float]) -> Any:
    """Values as an array of mean 0 and standard deviation 1; zeros where all are equal."""
    import numpy as np

    if not values:
        return np.zeros(0)
    array = np.array(values) - _mean(values)
    spread = array.std()
    return array / spread if spread > _LEAST else np.zeros(len(values))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
