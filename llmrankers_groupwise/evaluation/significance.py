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
"""The number of assignments of signs that a randomisation test draws, unless there are fewer."""

SAME = 1e-12
"""Values that differ by no more are the same but for rounding."""

_CELLS = 1 << 20
"""How many signs are drawn at once; it takes about 80 MB."""


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
    is the share of assignments of signs whose mean is at least as far from 0 as the one found:
    of all assignments where those of the differences that are not 0 are at most `DRAWS`, else of
    `DRAWS` drawn ones and the one found, (1 + count) / (1 + DRAWS). `scipy.stats.permutation_test`
    draws and counts.

    Args:
        differences: one row of each test, one column of each query.
        seed: of the draws. All tests share them, so none depends on what else is tested.
    """
    import numpy as np

    rows = np.asarray(differences, float)
    if not rows.size:
        return [1.0] * len(rows)
    rows = np.where(np.abs(rows) > SAME, rows, 0.0)
    exact = np.count_nonzero(rows, axis=1) <= math.log2(DRAWS)
    found = np.empty(len(rows))
    found[~exact] = _p_values(rows[~exact], seed)
    for index in exact.nonzero()[0]:
        found[index] = _p_values(rows[index : index + 1, rows[index] != 0.0], seed).item()
    return [float(p_value) for p_value in found]


def _p_values(rows: Any, seed: int) -> Any:
    """The p-value of each row, shape (tests, queries); the signs are the same for all rows."""
    import numpy as np
    from scipy import stats

    if rows.size < 2:  # one difference is as far from 0 with the other sign
        return np.ones(len(rows))
    queries = rows.shape[1]
    # Sums of the same numbers in another order differ in their last bits, which are rounded away.
    return stats.permutation_test(
        (np.ones(queries),),
        lambda signs, axis: np.abs(signs @ rows.T / queries).round(12),
        permutation_type="samples",
        vectorized=True,
        n_resamples=DRAWS,
        batch=max(1, _CELLS // queries),
        alternative="greater",
        rng=seed,
    ).pvalue


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the p-values that hold for all tests together, in the order given.

    The smallest of m is multiplied by m, the next one by m - 1, and so on; none is less than the
    one before it, and none more than 1.
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for done, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = min(1.0, max(least, (len(p_values) - done) * p_values[index]))
        corrected[index] = least
    return corrected
