"""Models of scores: shifts and factors found again, and what cannot be known left alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrankers_groupwise.methods.groupwise.score_models import bradley_terry, by_shared

few = settings(max_examples=30, deadline=None)
"""Each example fits models with numpy, the first one imports it."""


def made(seed, groups, size, n, shift=5.0, factor=0.3):
    """True values of n documents, and groups of them that were shifted and stretched."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.0, 3.0, n)
    rows = []
    for _ in range(groups):
        members = rng.choice(n, size, replace=False)
        moved = rng.normal(0.0, shift), np.exp(rng.normal(0.0, factor))
        rows.append({int(x): float(moved[1] * (truth[x] + moved[0])) for x in members})
    return truth, rows


@few
@given(st.integers(0, 100))
def test_shifts_are_found_again_up_to_one_for_all(seed):
    truth, rows = made(seed, groups=8, size=10, n=20, factor=0.0)
    offsets = [score - truth[x] for row in by_shared(rows, scale=False) for x, score in row.items()]
    assert offsets == pytest.approx([offsets[0]] * len(offsets), abs=1e-6)


@few
@given(st.integers(0, 100))
def test_shifts_and_factors_are_found_again_up_to_one_line_for_all(seed):
    truth, rows = made(seed, groups=8, size=10, n=20, factor=0.2)
    changed = [(truth[x], score) for row in by_shared(rows, scale=True) for x, score in row.items()]
    true, found = np.array(changed).T
    slope, start = np.polyfit(true, found, 1)
    assert found == pytest.approx(slope * true + start, abs=0.05)


@few
@given(st.integers(0, 100), st.floats(-20, 20))
def test_a_constant_on_one_group_moves_all_documents_alike(seed, constant):
    _, rows = made(seed, groups=6, size=10, n=20)
    shifted = [{x: y + constant for x, y in rows[0].items()}, *rows[1:]]
    before, after = by_shared(rows, scale=False), by_shared(shifted, scale=False)
    moved = [b[x] - a[x] for a, b in zip(before, after, strict=True) for x in a]
    assert moved == pytest.approx([moved[0]] * len(moved), abs=1e-6)


@pytest.mark.parametrize("scale", [False, True])
def test_groups_that_share_nothing_with_others_stay_as_they_are(scale):
    rows = [{0: 1.0, 1: 2.0, 2: 4.0}, {0: 5.0, 1: 8.0, 2: 14.0}, {7: 9.0, 8: 1.0}]
    changed = by_shared(rows, scale=scale)
    assert changed[2] == pytest.approx(rows[2])
    assert (changed[0] == pytest.approx(changed[1])) is scale
    assert sum(changed[0].values()) == pytest.approx(sum(changed[1].values()))


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("groups", [25, 50])
def test_many_groups_that_are_not_connected_are_calibrated_apart(groups, scale):
    _, there = made(1, groups, size=10, n=20)
    apart = [{x + 100 * part: y for x, y in row.items()} for part in range(3) for row in there]
    gather = by_shared(apart, scale=scale)
    for part, row in zip(by_shared(there, scale=scale) * 3, gather, strict=True):
        assert list(row.values()) == pytest.approx(list(part.values()), abs=1e-4)


def test_strengths_of_scores_equal_but_for_a_sum_are_equal():
    rows = [{0: 0.1, 1: 0.1}, {0: 0.1, 1: 0.1}, {0: 0.1, 2: 0.1}]  # of which means differ by 1e-17
    assert bradley_terry(rows) == [dict.fromkeys(row, 0.0) for row in rows]


def test_a_factor_is_not_guessed_from_two_documents():
    rows = [{0: 1.0, 1: 2.0}, {0: 1.0, 1: 9.0}]
    spread = [row[1] - row[0] for row in by_shared(rows, scale=True)]
    assert spread == pytest.approx([1.0, 8.0])


def test_nothing_at_all():
    assert by_shared([], scale=True) == []
    assert by_shared([{}, {}], scale=True) == [{}, {}]
    assert bradley_terry([]) == []
    assert bradley_terry([{}]) == [{}]


@few
@given(st.integers(0, 50), st.integers(-9, 9), st.integers(1, 4))
def test_strengths_of_one_group_do_not_depend_on_its_scale(seed, shift, factor):
    rng = np.random.default_rng(seed)
    row = {x: float(y) for x, y in enumerate(rng.integers(0, 10, 12))}
    moved = {x: factor * y + shift for x, y in row.items()}
    assert bradley_terry([row])[0] == pytest.approx(bradley_terry([moved])[0], abs=1e-6)
