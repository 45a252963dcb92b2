"""Measures of scores against gold: by hand, over all orders of what is tied, by ir_measures."""

import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence

import ir_measures
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llmrankers_groupwise.training.rewards.measures import (
    expected_ndcg,
    expected_rbo,
    expected_recall,
    js_divergence,
    kl_divergence,
)

D2, D4 = 1 / math.log2(3), 1 / math.log2(5)  # discounts of ranks 2 and 4: 0.630930, 0.430677
D10 = sum(1 / math.log2(rank + 1) for rank in range(1, 11))  # of ranks 1..10 together: 4.543559


@pytest.mark.parametrize(
    ("scores", "gold", "cutoff", "expected"),
    [
        # The ideal is 3 * 1 + 2 * D2 + 1 * 0.5 = 4.761860 unless it is cut.
        pytest.param([9, 5, 0], [3, 2, 1], 10, 1.0, id="the-gold-order"),
        pytest.param([0, 5, 9], [3, 2, 1], 10, 0.7900, id="reversed"),  # 1 + 2 D2 + 1.5 = 3.761860
        pytest.param([4, 4, 4], [3, 2, 1], 10, 0.8950, id="all-tied"),  # 2 (1 + D2 + .5) = 4.261860
        pytest.param(
            [8, 8, 1], [3, 2, 1], 10, 0.9612, id="two-tied"
        ),  # 2.5 (1 + D2) + .5 = 4.577324
        # Of the tied 2 and 1 one is at rank 2: 3 + 1.5 D2 = 3.946395, of 3 + 2 D2 = 4.261860.
        pytest.param([9, 4, 4], [3, 2, 1], 2, 0.9260, id="tied-across-the-cutoff"),
        pytest.param([4, 9, 9], [3, 2, 1], 1, 0.5, id="cut-before-the-best"),  # 1.5 of 3
        pytest.param([7] * 12, [1] + [0] * 11, 10, D10 / 12, id="twelve-tied-at-10"),
        pytest.param([0, 0], [5, 5], 10, 1.0, id="nothing-to-get-wrong"),
        pytest.param([3], [0.5], 10, 1.0, id="one"),
        pytest.param([3, 2, 1, 0], [0, 0, 0, 7], 10, D4, id="the-one-that-counts-is-last"),
    ],
)
def test_ndcg_by_hand(scores: list[float], gold: list[float], cutoff: int, expected: float) -> None:
    assert expected_ndcg(scores, gold, cutoff) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("scores", "relevant", "cutoff", "expected"),
    [
        pytest.param([9, 8, 7], [1, 0, 1], 2, 1 / 2, id="one-of-two"),
        pytest.param([9, 8, 8], [1, 0, 1], 2, (1 + 1 / 2) / 2, id="one-and-half-of-two"),
        pytest.param([5] * 12, [1] * 2 + [0] * 10, 10, 10 / 12, id="twelve-tied-at-10"),
        # Nine are above, and one of three gets the tenth place.
        pytest.param([9] * 9 + [2] * 3, [0] * 11 + [1], 10, 1 / 3, id="a-third-of-the-last-place"),
        pytest.param(list(range(20)), [1] * 20, 10, 10 / 20, id="more-relevant-than-places"),
        pytest.param([0, 0], [1, 1], 10, 1.0, id="fewer-documents-than-places"),
        pytest.param([0] + [1] * 10, [1] + [0] * 10, 10, 0.0, id="missed"),
    ],
)
def test_recall_by_hand(
    scores: list[float], relevant: list[int], cutoff: int, expected: float
) -> None:
    found = expected_recall(scores, [bool(each) for each in relevant], cutoff)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "gold", "expected"),
    [
        # Weights of depths 1, 2, 3: 1, 0.9 / 2, 0.81 / 3; overlaps of the gold with itself 1, 2, 3.
        pytest.param([9, 1], [2, 1], 1.0, id="the-gold-order"),
        pytest.param([1, 9], [2, 1], (0 + 0.45 * 2) / (1 + 0.45 * 2), id="two-reversed"),
        pytest.param([5, 5], [2, 1], (1 / 2 + 0.45 * 2) / (1 + 0.45 * 2), id="two-tied"),
        pytest.param([1, 2, 3], [3, 2, 1], (0 + 0.45 + 0.81) / (1 + 0.9 + 0.81), id="reversed"),
        # Gold ties b and c: with itself a 1, then 1 + 1/4 + 1/4, then 3.
        pytest.param([9, 5, 5], [2, 1, 1], 1.0, id="the-gold-with-its-tie"),
        pytest.param([9, 5, 4], [2, 1, 1], 1.0, id="the-gold-order-with-the-tie-broken"),
        # b and c first: none of a at depth 1; at depth 2 b and c, each there by the gold by half.
        pytest.param(
            [0, 5, 5], [2, 1, 1], (0.45 * 1 + 0.27 * 3) / (1 + 0.45 * 1.5 + 0.27 * 3),
            id="gold-with-a-tie-reversed",
        ),
        pytest.param([1, 2, 3], [4, 4, 4], 1.0, id="nothing-to-get-wrong"),
        pytest.param([0], [0], 1.0, id="one"),
    ],
)  # fmt: skip
def test_rbo_by_hand(scores: list[float], gold: list[float], expected: float) -> None:
    assert expected_rbo(scores, gold) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "gold", "js", "kl"),
    [
        pytest.param([3, 1], [3, 1], 0.0, 0.0, id="equal"),
        pytest.param([2, 1], [6, 3], 0.0, 0.0, id="in-proportion"),
        # P = (1/2, 1/2), Q = (1, 0), M = (3/4, 1/4): 2 JS = log2(2/3) / 2 + 1/2 + log2(4/3).
        pytest.param(
            [5, 5], [9, 0], (math.log2(2 / 3) / 2 + 0.5 + math.log2(4 / 3)) / 2, math.log(2),
            id="all-equal-against-one",
        ),
        # M = (1/2, 1/2): JS = 3/4 log2(3/2) + 1/4 log2(1/2); KL = (3/4 - 1/4) ln 3.
        pytest.param(
            [1, 3], [3, 1], 0.75 * math.log2(1.5) - 0.25, math.log(3) / 2, id="reversed"
        ),
        pytest.param([0, 0], [7, 7], 0.0, 0.0, id="all-zero-is-uniform"),
        # Nothing in common but 1e-6: KL = ln(Q / P) for Q about 1 and P about 1e-7.
        pytest.param([0, 10], [10, 0], 1.0, math.log(1e7), id="nothing-in-common"),
    ],
)  # fmt: skip
def test_divergences_by_hand(scores: list[float], gold: list[float], js: float, kl: float) -> None:
    assert js_divergence(scores, gold) == pytest.approx(js, abs=1e-5)
    assert kl_divergence(scores, gold) == pytest.approx(kl, abs=1e-5)


# --- Against definitions without a closed form ------------------------------------------------


def orders(scores: Sequence[float]) -> Iterator[tuple[int, ...]]:
    """Every ranking that these scores allow."""
    for order in itertools.permutations(range(len(scores))):
        ranked = [scores[i] for i in order]
        if ranked == sorted(ranked, reverse=True):
            yield order


def dcg(order: Sequence[int], gold: Sequence[float], cutoff: int) -> float:
    return sum(gold[i] / math.log2(rank + 2) for rank, i in enumerate(order[:cutoff]))


def rbo(one: Sequence[int], other: Sequence[int]) -> float:
    return sum(
        0.9 ** (depth - 1) * len({*one[:depth]} & {*other[:depth]}) / depth
        for depth in range(1, len(one) + 1)
    )


def mean_rbo(scores: Sequence[float], gold: Sequence[float]) -> float:
    pairs = itertools.product(orders(scores), orders(gold))
    return statistics.fmean(rbo(one, other) for one, other in pairs)


SCORE = st.integers(0, 3)
GOLD = st.integers(0, 30).map(lambda tenths: tenths / 10)
PAIRS = st.lists(st.tuples(SCORE, GOLD), min_size=1, max_size=5).map(
    lambda rows: [*zip(*rows, strict=True)]
)
CUTOFFS = st.integers(1, 6)


@given(PAIRS, CUTOFFS)
def test_ndcg_is_the_mean_over_all_orders_of_what_is_tied(
    pair: list[tuple[float, ...]], cutoff: int
) -> None:
    scores, gold = pair
    assume(any(gold))
    ideal = max(dcg(order, gold, cutoff) for order in itertools.permutations(range(len(gold))))
    mean = statistics.fmean(dcg(order, gold, cutoff) for order in orders(scores))
    assert expected_ndcg(scores, gold, cutoff) == pytest.approx(mean / ideal, abs=1e-12)


@given(PAIRS, CUTOFFS)
def test_recall_is_the_mean_over_all_orders_of_what_is_tied(
    pair: list[tuple[float, ...]], cutoff: int
) -> None:
    scores, relevant = pair[0], [bool(each) for each in pair[1]]
    assume(any(relevant))
    found = [sum(relevant[i] for i in order[:cutoff]) for order in orders(scores)]
    mean = statistics.fmean(found) / sum(relevant)
    assert expected_recall(scores, relevant, cutoff) == pytest.approx(mean, abs=1e-12)


@given(PAIRS)
def test_rbo_is_the_mean_over_all_orders_of_both_over_that_of_the_gold(
    pair: list[tuple[float, ...]],
) -> None:
    scores, gold = pair
    expected = mean_rbo(scores, gold) / mean_rbo(gold, gold)
    assert expected_rbo(scores, gold) == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 20), st.integers(0, 10**6))
def test_ndcg_without_ties_is_that_of_ir_measures(n: int, seed: int) -> None:
    rng = random.Random(seed)
    gold = [rng.randint(0, 10) for _ in range(n - 1)] + [1]
    scores = rng.sample(range(100), n)
    qrels = {"q": {f"d{i}": grade for i, grade in enumerate(gold)}}
    run = {"q": {f"d{i}": float(score) for i, score in enumerate(scores)}}
    measure = ir_measures.nDCG @ 10
    expected = ir_measures.calc_aggregate([measure], qrels, run)[measure]
    assert expected_ndcg(scores, gold) == pytest.approx(expected, abs=1e-9)


# --- The gold is a maximum --------------------------------------------------------------------


def ranks_well(gold: Sequence[float], cutoff: int) -> dict[str, Callable[..., float]]:
    """What the gold must be a maximum of, with what is above the gold's middle relevant."""
    middle = (min(gold) + max(gold)) / 2
    relevant = [each > middle for each in gold]
    measures: dict[str, Callable[..., float]] = {
        "rbo": lambda scores: expected_rbo(scores, gold),
        "js": lambda scores: -js_divergence(scores, gold),
        "kl": lambda scores: -kl_divergence(scores, gold),
    }
    if any(gold):
        measures["ndcg"] = lambda scores: expected_ndcg(scores, gold, cutoff)
    if any(relevant):
        measures["recall"] = lambda scores: expected_recall(scores, relevant, cutoff)
    return measures


@given(st.lists(GOLD, min_size=1, max_size=4), CUTOFFS)
def test_no_scores_are_better_than_the_gold(gold: list[float], cutoff: int) -> None:
    for name, measure in ranks_well(gold, cutoff).items():
        at_gold = measure(gold)
        for scores in itertools.product((0, 1, 2, 10), repeat=len(gold)):
            assert measure(scores) <= at_gold + 1e-12, (name, scores)


@given(PAIRS)
def test_bounds(pair: list[tuple[float, ...]]) -> None:
    scores, gold = pair
    assert 0.0 < expected_rbo(scores, gold) <= 1.0
    assert 0.0 <= js_divergence(scores, gold) <= 1.0
    assert 0.0 <= kl_divergence(scores, gold) < math.inf
    if any(gold):
        assert 0.0 <= expected_ndcg(scores, gold) <= 1.0
    if any(gold):
        assert 0.0 <= expected_recall(scores, [each > 0 for each in gold]) <= 1.0
