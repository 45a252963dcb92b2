"""Whether two runs differ by more than chance, from their values query by query.

The tests are those that Smucker, Allan and Carterette compare (CIKM 2007); the correction for
many tests is Holm's (Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = [
    "DRAWS",
    "SAME",
    "confidence_interval",
    "holm",
    "outcomes",
    "randomisation_tests",
    "t_test",
]

DRAWS = 100_000
"""So many assignments of signs a randomisation test draws, or it goes through all of them."""

SAME = 1e-12
"""Values that differ by no more are the same but for rounding."""

_CELLS = 1 << 21


def outcomes(differences: Sequence[float]) -> tuple[int, int, int]:
    """How many differences are above 0, are 0, and are below it: wins, ties and losses."""
    wins = sum(each > SAME for each in differences)
    losses = sum(each < -SAME for each in differences)
    return wins, len(differences) - wins - losses, losses


def confidence_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """The interval of the mean by Student's t distribution; None for fewer than two values.

    It is mean -/+ t(level, n - 1) s / sqrt(n), and may reach beyond what a measure can be.
    """
    if len(values) < 2:
        return None
    import numpy as np
    from scipy import stats

    array = np.asarray(values, float)
    error = array.std(ddof=1) / math.sqrt(len(array))
    reach = stats.t.ppf((1.0 + level) / 2.0, len(array) - 1) * error
    return float(array.mean() - reach), float(array.mean() + reach)


def t_test(values: Sequence[float], baseline: Sequence[float]) -> float | None:
    """The p-value, two-sided, of the paired t test on values of the same queries.

    None where the test says nothing: of one query, or where all differences are equal, as then
    they have no variance to judge their mean by.
    """
    import numpy as np
    from scipy import stats

    if len(values) < 2 or np.ptp(np.subtract(values, baseline)) <= SAME:
        return None
    return float(stats.ttest_rel(values, baseline).pvalue)


def randomisation_tests(differences: Sequence[Sequence[float]], seed: int = 0) -> list[float]:
    """P-values, two-sided, of paired randomisation tests on mean differences.

    If two runs do not differ, each query's difference could as well have the other sign. A p-value
    is the share of assignments of signs whose mean is at least as far from 0 as that which was
    found: of all assignments where those of the differences that are not 0 are at most `DRAWS`,
    else of so many drawn at random and the one found, (1 + count) / (1 + DRAWS).

    Args:
        differences: one row of each test, one column of each query.
        seed: of the draws. All tests share them, so none depends on what else is tested.
    """
    import numpy as np

    rows = np.asarray(differences, float)
    if not rows.size:
        return [1.0] * len(rows)
    rows = np.where(np.abs(rows) > SAME, rows, 0.0)
    exact = [2 ** int(n) <= DRAWS for n in np.count_nonzero(rows, axis=1)]
    found: list[float] = [
        _exact(row[row != 0.0]) if e else 0.0 for e, row in zip(exact, rows, strict=True)
    ]
    drawn = [place for place, each in enumerate(exact) if not each]
    for place, p_value in zip(drawn, _drawn(rows[drawn], seed), strict=True):
        found[place] = p_value
    return found


def _exact(differences: Any) -> float:
    """The test of one row without zeros, over all assignments of signs."""
    import numpy as np

    n = len(differences)
    minus = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return float(_extreme(minus, differences[None, :]).mean())


def _drawn(rows: Any, seed: int) -> list[float]:
    """The tests of these rows, over assignments drawn in parts that fit the memory."""
    import numpy as np

    if not len(rows):
        return []
    queries = rows.shape[1]
    random = np.random.default_rng(seed)
    counts = np.zeros(len(rows), int)
    part, remaining = max(1, _CELLS // queries), DRAWS
    while remaining:
        size = min(part, remaining)
        bits = random.integers(0, 256, (size, math.ceil(queries / 8)), np.uint8)
        minus = np.unpackbits(bits, axis=1, count=queries)
        counts += _extreme(minus, rows).sum(axis=0)
        remaining -= size
    return [float(p_value) for p_value in (1 + counts) / (1 + DRAWS)]


def _extreme(minus: Any, rows: Any) -> Any:
    """Whether a test's sum with these signs is as far from 0 as its own: (assignments, tests).

    Args:
        minus: 1 where a sign is turned, shape (assignments, queries).
        rows: differences, shape (tests, queries).
    """
    import numpy as np

    sums = rows.sum(axis=1)
    turned = sums - 2.0 * (minus.astype(float) @ rows.T)
    # Sums of the same numbers in another order differ in their last bits.
    return np.abs(turned) >= np.abs(sums) - SAME * np.abs(rows).sum(axis=1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the p-values that hold for all tests together, in the order given.

    The smallest of m is multiplied by m, the next one by m - 1, and so on; none is less than the
    one before it, and none more than 1.
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = min(1.0, max(least, (len(p_values) - done) * p_values[place]))
        corrected[place] = least
    return corrected
