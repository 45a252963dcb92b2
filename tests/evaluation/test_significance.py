"""Paired tests, intervals and the correction for many tests, against scipy and by hand."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llmrankers_groupwise.evaluation import significance
from llmrankers_groupwise.evaluation.significance import (
    DRAWS,
    confidence_interval,
    holm,
    outcomes,
    randomisation_tests,
    t_test,
)


def values(n: int, seed: int, shift: float = 0.0) -> list[float]:
    drawn = random.Random(seed)
    return [min(1.0, drawn.random() + shift) for _ in range(n)]


def permutation(differences: list[float], draws: float = math.inf) -> float:
    """scipy's paired permutation test on the mean difference."""
    found = stats.permutation_test(
        (np.array(differences),), lambda d, axis: d.mean(axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=draws, rng=np.random.default_rng(0), batch=2000,
    )  # fmt: skip
    return float(found.pvalue)


# --- t test and interval ----------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 43, 300])
def test_the_t_test_is_that_of_scipy(n):
    run, baseline = values(n, 1, 0.1), values(n, 2)
    expected = stats.ttest_rel(run, baseline).pvalue
    assert t_test(run, baseline) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("run", "baseline"),
    [
        pytest.param([0.4], [0.2], id="one query"),
        pytest.param([0.4, 0.3, 0.0], [0.4, 0.3, 0.0], id="no differences"),
        pytest.param([0.3, 0.5, 1.1], [0.1, 0.3, 0.9], id="one difference, but for rounding"),
    ],
)
def test_there_is_no_t_test_without_variance(run, baseline):
    assert t_test(run, baseline) is None


@pytest.mark.parametrize("n", [2, 3, 43, 300])
def test_the_interval_is_that_of_scipy(n):
    sample = values(n, 3)
    expected = stats.ttest_1samp(sample, 0.0).confidence_interval(0.95)
    assert confidence_interval(sample) == pytest.approx(tuple(expected), abs=1e-9)


def test_the_interval_of_equal_values_is_a_point_and_of_one_value_none():
    assert confidence_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)
    assert confidence_interval([0.25]) is None


# --- Randomisation test -----------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 10, 16])
def test_small_randomisation_tests_go_through_all_signs_as_scipy_does(n):
    differences = [a - b for a, b in zip(values(n, 4, 0.2), values(n, 5), strict=True)]
    (found,) = randomisation_tests([differences])
    signs = itertools.product((1, -1), repeat=n)
    sums = [abs(sum(s * d for s, d in zip(each, differences, strict=True))) for each in signs]
    by_hand = sum(each >= abs(sum(differences)) - 1e-12 for each in sums) / 2**n
    assert found == pytest.approx(by_hand, abs=1e-9)
    if n > 1:  # scipy refuses one observation
        assert found == pytest.approx(permutation(differences), abs=1e-9)


def test_the_p_value_of_a_small_example_by_hand():
    """Of the eight sums of +-1 +-2 +-3, those of 6 and -6 are as far from 0 as 6."""
    assert randomisation_tests([[1.0, 2.0, 3.0]]) == [2 / 8]
    assert randomisation_tests([[1.0, 2.0, -3.0]]) == [1.0]
    assert randomisation_tests([[3.0, 2.0, -1.0]]) == [4 / 8]


def test_queries_without_a_difference_change_nothing_and_keep_the_test_exact():
    differences = [0.1, -0.2, 0.4, 0.3]
    few = randomisation_tests([differences])
    assert randomisation_tests([differences + [0.0] * 500]) == few


def test_no_difference_at_all_is_no_evidence():
    assert randomisation_tests([[0.0] * 40, [1e-17] * 40]) == [1.0, 1.0]


def test_large_randomisation_tests_are_near_scipys():
    for shift in (0.0, 0.05, 0.1):
        differences = [a - b for a, b in zip(values(43, 6, shift), values(43, 7), strict=True)]
        (found,) = randomisation_tests([differences])
        expected = permutation(differences, DRAWS - 1)
        spread = math.sqrt(expected * (1 - expected) / DRAWS)
        assert abs(found - expected) < 8 * spread + 2 / DRAWS


def test_a_test_depends_on_the_seed_and_on_no_other_test():
    rows = [[a - b for a, b in zip(values(43, seed, 0.05), values(43, 9), strict=True)]
            for seed in range(10, 13)]  # fmt: skip
    gather = randomisation_tests(rows, seed=1)
    assert [randomisation_tests([row], seed=1)[0] for row in rows] == gather
    assert randomisation_tests(rows, seed=1) == gather
    assert randomisation_tests(rows, seed=2) != gather


def test_the_smallest_p_value_of_draws_is_not_zero():
    assert randomisation_tests([[1.0] * 60]) == [1 / (1 + DRAWS)]


def test_more_queries_than_fit_one_part_are_drawn_in_parts(monkeypatch):
    """Differences of +-1 with a sum of 2 sigma: the p-value is that of the normal distribution."""
    n = 100
    monkeypatch.setattr(significance, "_CELLS", 900 * n)
    ahead = (n + round(2 * math.sqrt(n))) // 2
    (found,) = randomisation_tests([[1.0] * ahead + [-1.0] * (n - ahead)])
    expected = 2 * stats.binom.sf(ahead - 1, n, 0.5)
    assert abs(found - expected) < 8 * math.sqrt(expected / DRAWS)


def test_the_size_of_a_part_changes_nothing(monkeypatch):
    differences = [values(40, 13, -0.4)]
    expected = randomisation_tests(differences)
    monkeypatch.setattr(significance, "_CELLS", 1 << 16)
    assert randomisation_tests(differences) == expected


# --- Many tests -------------------------------------------------------------------------------


def test_holms_correction_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0.0, 1.0), max_size=20))
def test_holm_is_between_nothing_and_bonferroni_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    for p_value, each in zip(p_values, corrected, strict=True):
        assert p_value <= each <= min(1.0, len(p_values) * p_value) + 1e-12
    for (p, a), (q, b) in itertools.combinations(zip(p_values, corrected, strict=True), 2):
        assert (a <= b) if p < q else (a >= b) if p > q else a == b


def test_wins_ties_and_losses_do_not_see_rounding():
    assert outcomes([0.1, -0.2, 0.0, 0.1 + 0.2 - 0.3, 0.5]) == (2, 2, 1)
