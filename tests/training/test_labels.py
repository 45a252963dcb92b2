"""From ranks to training lists: the arithmetic written out, and what holds for all."""

import math
import random

import pytest

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.training.data.labels import (
    Labelled,
    average_ranks,
    drawn_size,
    fused_labels,
    gold_scores,
    interval_sample,
    pool_ranks,
    setwise_list,
    size_shares,
    sub_list,
)
from llmrankers_groupwise.training.data.rows import trained_negatives


def pool(gold, first_stage=None):
    n = len(gold)
    names = tuple(f"d{place}" for place in range(n))
    return Labelled("q", "query", names, names, tuple(gold), tuple(first_stage or range(1, n + 1)))


def test_a_pool_is_the_top_and_a_sample_of_what_is_behind_it():
    ranks = pool_ranks(1000, random.Random(0), top=10, sampled=40, deepest=200)
    assert ranks[:10] == list(range(10))
    assert len(set(ranks)) == 50
    assert ranks == sorted(ranks)
    assert set(ranks[10:]) <= set(range(10, 200))


@pytest.mark.parametrize(("n", "size"), [(0, 0), (3, 3), (10, 10), (30, 30), (60, 50)])
def test_a_short_list_gives_what_it_has(n, size):
    assert len(pool_ranks(n, random.Random(0), top=10, sampled=40, deepest=200)) == size


@pytest.mark.parametrize("wrong", [{"top": -1}, {"sampled": -1}, {"top": 0, "sampled": 0},
                                   {"deepest": 5}])  # fmt: skip
def test_a_pool_that_cannot_be_is_refused(wrong):
    given = {"top": 10, "sampled": 40, "deepest": 200} | wrong
    with pytest.raises(SettingsError, match="cannot be"):
        pool_ranks(100, random.Random(0), **given)


def test_equal_scores_share_the_mean_of_their_ranks():
    assert average_ranks([5.0, 9.0, 5.0, 1.0, 5.0]) == [3.0, 1.0, 3.0, 5.0, 3.0]
    assert average_ranks([]) == []


def test_labels_are_weighted_logarithms_of_both_ranks():
    labels = fused_labels([1, 2, 3], [2, 1, 3], beta=0.25)
    expected = [
        -0.75 * math.log(2),
        -0.25 * math.log(2),
        -0.25 * math.log(3) - 0.75 * math.log(3),
    ]
    assert labels == pytest.approx(expected)


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(beta):
    with pytest.raises(SettingsError, match="beta"):
        fused_labels([1], [1], beta)


def test_gold_scores_go_from_0_to_10():
    labels = fused_labels([1, 2, 4], [1, 2, 4])
    assert gold_scores(labels) == pytest.approx([10.0, 5.0, 0.0])


@pytest.mark.parametrize(
    ("kind", "ten", "twenty"), [("sft", 0.4839, 0.4522), ("rl", 0.4044, 0.4051)]
)
def test_sizes_are_drawn_as_published(kind, ten, twenty):
    shares = size_shares(kind)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares) == list(range(5, 21))
    assert (shares[10], shares[20]) == pytest.approx((ten, twenty), abs=1e-4)
    rng = random.Random(0)
    drawn = [drawn_size(shares, 50, rng) for _ in range(20_000)]
    for size in (10, 20):
        assert drawn.count(size) / len(drawn) == pytest.approx(shares[size], abs=0.02)


def test_no_size_is_drawn_that_the_pool_does_not_have():
    rng = random.Random(0)
    assert {drawn_size(size_shares("sft"), 7, rng) for _ in range(500)} == {5, 6, 7}
    with pytest.raises(SettingsError, match="too small"):
        drawn_size(size_shares("sft"), 4, rng)


@pytest.mark.parametrize(("n", "size"), [(50, 20), (50, 7), (20, 20), (47, 10), (5, 5)])
def test_an_interval_sample_spans_the_whole_order(n, size):
    for seed in range(50):
        places = interval_sample(n, size, random.Random(seed))
        assert len(set(places)) == size
        for part, place in enumerate(places):
            assert abs(place - (part + 0.5) * n / size) <= n / size


def test_a_list_is_shuffled_and_its_best_half_is_relevant():
    gold = [10.0 - place * 0.2 for place in range(50)]
    orders = []
    for seed in range(20):
        chosen = sub_list(pool(gold), 9, random.Random(seed))
        assert chosen.gold == tuple(gold[member] for member in chosen.members)
        best = sorted(chosen.members)[:4]
        assert {m for m, yes in zip(chosen.members, chosen.relevant, strict=True) if yes} == set(
            best
        )
        orders.append(tuple(sorted(chosen.members)) == chosen.members)
    assert not all(orders)
    assert sum(sub_list(pool(gold), 20, random.Random(0)).relevant) == 10


def test_a_setwise_list_has_the_best_document_and_none_that_is_as_good():
    gold = [10.0, 10.0, *[8.0 - place for place in range(8)]]
    for seed in range(20):
        chosen = setwise_list(pool(gold), 5, random.Random(seed))
        assert sum(chosen.relevant) == 1
        assert chosen.members[chosen.best - 1] == 0
        assert 1 not in chosen.members
        assert len(set(chosen.members)) == 5
    assert len(setwise_list(pool(gold), 20, random.Random(0)).members) == 9


def test_hard_negatives_are_high_in_the_first_stage_and_low_in_the_labels():
    gold = [10.0, 9.0, 6.0, 5.5, 4.9, 4.0, 1.0, 0.0]
    first_stage = [3, 4, 1, 2, 7, 5, 8, 6]
    assert trained_negatives(pool(gold, first_stage), 1, 2) == [5, 7]
    assert trained_negatives(pool(gold, first_stage), 1, 9) == [5, 7, 4, 6]
    assert trained_negatives(pool(gold, first_stage), 2, 9) == [5, 7, 6]  # 4.9 is over 9.0 / 2
    assert trained_negatives(pool(gold, first_stage), 8, 2) == []
    assert trained_negatives(pool(gold, first_stage), 0, 2) == []
