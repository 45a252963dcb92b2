"""Groups: every candidate once a repeat, balanced sizes, and nothing but the arguments decides."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.groupwise.grouping import (
    anchor_positions,
    check_grouping,
    make_groups,
)
from llmrankers_groupwise.types import Group

STRATEGIES = ("random", "strided", "sorted", "mixed", "snake")


@st.composite
def settings_of_groups(draw, *, overlapping):
    """n and the keyword arguments of make_groups."""
    group_size = draw(st.integers(1, 25))
    return draw(st.integers(0, 130)), {
        "group_size": group_size,
        "num_repeat": draw(st.integers(1, 3)),
        "overlap": draw(st.integers(0, group_size - 1)) if overlapping else 0,
        "strategy": draw(st.sampled_from(STRATEGIES)),
        "seed": draw(st.integers(-3, 3)),
        "query": draw(st.text(max_size=5)),
    }


def by_repeat(groups, num_repeat):
    return [
        [group.members for group in groups if group.repeat == repeat]
        for repeat in range(num_repeat)
    ]


def sizes(groups):
    return [len(group.members) for group in groups]


def members(groups):
    return [group.members for group in groups]


# --- What holds for all settings --------------------------------------------------------------


@given(settings_of_groups(overlapping=False))
def test_without_overlap_every_position_is_in_exactly_one_group_of_each_repeat(drawn):
    n, settings = drawn
    groups = make_groups(n, **settings)
    for repeat in by_repeat(groups, settings["num_repeat"]):
        assert sorted(position for group in repeat for position in group) == list(range(n))


@given(settings_of_groups(overlapping=True))
def test_with_overlap_every_position_is_in_some_group_of_each_repeat(drawn):
    n, settings = drawn
    groups = make_groups(n, **settings)
    for repeat in by_repeat(groups, settings["num_repeat"]):
        assert {position for group in repeat for position in group} == set(range(n))


@given(settings_of_groups(overlapping=True))
def test_no_position_is_twice_in_a_group(drawn):
    n, settings = drawn
    for group in make_groups(n, **settings):
        assert len(set(group.members)) == len(group.members)


@given(settings_of_groups(overlapping=True))
def test_sizes_differ_by_one_at_most_and_none_is_over_group_size(drawn):
    n, settings = drawn
    for repeat in by_repeat(make_groups(n, **settings), settings["num_repeat"]):
        lengths = [len(group) for group in repeat]
        assert all(1 <= length <= settings["group_size"] for length in lengths)
        assert not lengths or max(lengths) - min(lengths) <= 1


@given(settings_of_groups(overlapping=True))
def test_consecutive_groups_of_a_repeat_share_exactly_the_overlap(drawn):
    n, settings = drawn
    for repeat in by_repeat(make_groups(n, **settings), settings["num_repeat"]):
        for group, following in pairwise(repeat):
            assert len(set(group) & set(following)) == settings["overlap"]


@given(settings_of_groups(overlapping=True))
def test_no_fewer_groups_would_do(drawn):
    n, settings = drawn
    size, overlap = settings["group_size"], settings["overlap"]
    for repeat in by_repeat(make_groups(n, **settings), settings["num_repeat"]):
        covered_by_one_fewer = (len(repeat) - 1) * (size - overlap) + overlap
        assert len(repeat) <= 1 or covered_by_one_fewer < n


@given(settings_of_groups(overlapping=True))
def test_repeats_are_numbered_from_zero_in_order(drawn):
    n, settings = drawn
    repeats = [group.repeat for group in make_groups(n, **settings)]
    assert repeats == sorted(repeats)
    assert set(repeats) == (set(range(settings["num_repeat"])) if n else set())


@given(settings_of_groups(overlapping=True))
def test_the_same_arguments_give_the_same_groups(drawn):
    n, settings = drawn
    assert make_groups(n, **settings) == make_groups(n, **settings)


# --- Sizes spelled out ------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("n", "overlap", "expected"),
    [
        pytest.param(0, 0, [], id="no-candidates"),
        pytest.param(1, 0, [1], id="one"),
        pytest.param(19, 0, [19], id="one-below-the-group-size"),
        pytest.param(20, 0, [20], id="the-group-size"),
        pytest.param(21, 0, [11, 10], id="one-above-the-group-size"),
        pytest.param(101, 0, [17, 17, 17, 17, 17, 16], id="a-hundred-and-one"),
        pytest.param(0, 10, [], id="no-candidates-overlapping"),
        pytest.param(1, 10, [1], id="one-overlapping"),
        pytest.param(19, 10, [19], id="one-below-the-group-size-overlapping"),
        pytest.param(20, 10, [20], id="the-group-size-overlapping"),
        pytest.param(21, 10, [16, 15], id="one-above-the-group-size-overlapping"),
        pytest.param(101, 10, [20] + [19] * 9, id="a-hundred-and-one-overlapping"),
        pytest.param(21, 19, [20, 20], id="the-largest-overlap"),
    ],
)
def test_group_sizes_at_group_size_20(n, overlap, expected, strategy):
    groups = make_groups(n, group_size=20, overlap=overlap, strategy=strategy)
    assert sizes(groups) == expected


def test_the_defaults_are_groups_of_20_in_one_random_repeat():
    assert make_groups(45) == make_groups(
        45, group_size=20, num_repeat=1, overlap=0, strategy="random", seed=0, query=""
    )
    assert sizes(make_groups(45)) == [15, 15, 15]


def test_groups_of_one_are_possible():
    assert sorted(members(make_groups(3, group_size=1))) == [(0,), (1,), (2,)]


# --- What each strategy deals -----------------------------------------------------------------


def test_strided_groups_span_all_ranks():
    groups = make_groups(10, group_size=5, strategy="strided")
    assert members(groups) == [(0, 2, 4, 6, 8), (1, 3, 5, 7, 9)]


def test_strided_groups_of_a_list_that_does_not_divide_evenly():
    groups = make_groups(11, group_size=4, strategy="strided")
    assert members(groups) == [(0, 3, 6, 9), (1, 4, 7, 10), (2, 5, 8)]


@given(st.integers(1, 130), st.integers(1, 25), st.integers(0, 3))
def test_every_strided_group_has_one_of_each_band_in_every_repeat(n, group_size, seed):
    groups = make_groups(n, group_size=group_size, num_repeat=3, strategy="strided", seed=seed)
    for repeat in by_repeat(groups, 3):
        for group in repeat:
            assert [position // len(repeat) for position in group] == list(range(len(group)))


def test_strided_repeats_after_the_first_deal_anew():
    first, second, third = by_repeat(
        make_groups(100, group_size=20, num_repeat=3, strategy="strided"), 3
    )
    assert {frozenset(group) for group in first} != {frozenset(group) for group in second}
    assert {frozenset(group) for group in second} != {frozenset(group) for group in third}


def test_snake_groups_are_dealt_back_and_forth():
    groups = make_groups(12, group_size=4, strategy="snake")
    assert members(groups) == [(0, 5, 6, 11), (1, 4, 7, 10), (2, 3, 8, 9)]


def test_snake_groups_of_a_list_that_does_not_divide_evenly():
    # the last band is dealt from the first group on, as the first groups are the larger ones
    groups = make_groups(11, group_size=4, strategy="snake")
    assert members(groups) == [(0, 5, 6, 9), (1, 4, 7, 10), (2, 3, 8)]


@given(st.integers(1, 12), st.integers(1, 6))
def test_snake_groups_have_equal_rank_sums_where_strided_ones_do_not(count, pairs):
    n = count * pairs * 2
    snake, strided = (
        [sum(group) for group in members(make_groups(n, group_size=2 * pairs, strategy=strategy))]
        for strategy in ("snake", "strided")
    )
    assert max(snake) == min(snake)
    assert max(strided) - min(strided) == (count - 1) * 2 * pairs


@given(st.integers(1, 130), st.integers(1, 25), st.integers(0, 3))
def test_every_snake_group_has_one_of_each_band_in_every_repeat(n, group_size, seed):
    groups = make_groups(n, group_size=group_size, num_repeat=3, strategy="snake", seed=seed)
    for repeat in by_repeat(groups, 3):
        for group in repeat:
            assert [position // len(repeat) for position in group] == list(range(len(group)))


def test_sorted_groups_are_neighbours():
    groups = make_groups(10, group_size=4, strategy="sorted")
    assert members(groups) == [(0, 1, 2, 3), (4, 5, 6), (7, 8, 9)]


def test_sorted_groups_with_overlap_slide():
    groups = make_groups(10, group_size=4, overlap=2, strategy="sorted")
    assert members(groups) == [(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7), (6, 7, 8, 9)]


def test_sorted_repeats_after_the_first_show_the_same_groups_in_another_order():
    first, second = by_repeat(
        make_groups(40, group_size=20, num_repeat=2, strategy="sorted", seed=3), 2
    )
    assert [sorted(group) for group in second] == [list(group) for group in first]
    assert second != first


@given(st.integers(0, 130), st.integers(1, 25), st.integers(0, 3), st.integers(0, 5))
def test_mixed_repeats_are_one_strided_then_random_ones(n, group_size, seed, overlap):
    settings = {"group_size": group_size, "num_repeat": 3, "seed": seed, "query": "a query",
                "overlap": min(overlap, group_size - 1)}  # fmt: skip
    mixed, strided, shuffled = (
        by_repeat(make_groups(n, strategy=strategy, **settings), 3)
        for strategy in ("mixed", "strided", "random")
    )
    assert mixed == [strided[0], *shuffled[1:]]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"seed": 1}, id="seed"),
        pytest.param({"query": "another query"}, id="query-text"),
    ],
)
def test_the_seed_and_the_query_text_each_change_the_random_groups(changed):
    settings = {"seed": 0, "query": "a query", "num_repeat": 2}
    groups = by_repeat(make_groups(100, **settings), 2)
    others = by_repeat(make_groups(100, **(settings | changed)), 2)
    assert groups[0] != others[0]
    assert groups[1] != others[1]


def test_each_repeat_has_random_groups_of_its_own():
    repeats = by_repeat(make_groups(100, num_repeat=4), 4)
    assert len({tuple(repeat) for repeat in repeats}) == 4


def test_more_repeats_leave_the_groups_of_the_earlier_ones_as_they_were():
    assert make_groups(50, num_repeat=3)[:3] == make_groups(50, num_repeat=1)


def test_random_groups_are_the_same_on_every_machine():
    groups = make_groups(8, group_size=4, seed=7, query="how long is a flea's life")
    assert groups == [Group(0, (4, 3, 1, 2)), Group(0, (5, 6, 7, 0))]


# --- Anchors ----------------------------------------------------------------------------------


@st.composite
def settings_with_anchors(draw):
    """n and the keyword arguments of make_groups, with anchors."""
    n, settings = draw(settings_of_groups(overlapping=True))
    room = settings["group_size"] - settings["overlap"] - 1
    return n, settings | {"anchors": draw(st.integers(0, room))}


def test_anchors_are_the_middles_of_bands_of_ranks():
    assert anchor_positions(100, 4) == [12, 37, 62, 87]
    assert anchor_positions(100, 1) == [50]
    assert anchor_positions(5, 0) == []


@given(st.integers(1, 300), st.data())
def test_anchors_are_different_positions_of_the_list(n, data):
    anchors = data.draw(st.integers(0, n))
    found = anchor_positions(n, anchors)
    assert len(set(found)) == anchors
    assert found == sorted(found)
    assert not found or 0 <= found[0] <= found[-1] < n


@given(settings_with_anchors())
def test_anchors_are_in_every_group_and_the_others_once_or_in_an_overlap(drawn):
    n, settings = drawn
    shared = set(anchor_positions(n, settings["anchors"]) if n > settings["group_size"] else [])
    for repeat in by_repeat(make_groups(n, **settings), settings["num_repeat"]):
        assert all(shared <= set(group) for group in repeat)
        assert all(len(set(group)) == len(group) <= settings["group_size"] for group in repeat)
        own = [position for group in repeat for position in group if position not in shared]
        assert set(own) == set(range(n)) - shared
        assert len(own) - len(set(own)) == settings["overlap"] * max(len(repeat) - 1, 0)


@given(settings_with_anchors())
def test_anchors_stand_at_the_same_labels_in_all_groups_of_a_repeat(drawn):
    n, settings = drawn
    if n <= settings["group_size"]:
        return
    for repeat in by_repeat(make_groups(n, **settings), settings["num_repeat"]):
        for anchor in anchor_positions(n, settings["anchors"]):
            assert len({group.index(anchor) for group in repeat}) == 1


def test_anchors_cost_places_in_the_groups():
    groups = make_groups(100, group_size=20, anchors=4, strategy="strided")
    assert sizes(groups) == [20] * 6
    assert all({12, 37, 62, 87} <= set(group) for group in members(groups))


def test_one_group_of_all_has_no_anchors_to_share():
    assert make_groups(20, anchors=4) == make_groups(20)


def test_no_anchors_leave_the_groups_as_they_were():
    assert make_groups(101, num_repeat=2, anchors=0) == make_groups(101, num_repeat=2)


# --- Global random state ----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_global_random_state_is_not_written(strategy):
    before = random.getstate()
    make_groups(101, num_repeat=3, overlap=5, strategy=strategy)
    assert random.getstate() == before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_global_random_state_is_not_read(strategy):
    before = random.getstate()
    try:
        random.seed(1)
        groups = make_groups(101, num_repeat=3, strategy=strategy)
        random.seed(2)
        assert make_groups(101, num_repeat=3, strategy=strategy) == groups
    finally:
        random.setstate(before)


# --- Errors -----------------------------------------------------------------------------------

ERRORS = [
    pytest.param(
        {"group_size": 0}, "group_size is 0: give a whole number, 1 or more", id="no-size"
    ),
    pytest.param(
        {"group_size": -3},
        "group_size is -3: give a whole number, 1 or more",
        id="negative-size",
    ),
    pytest.param(
        {"num_repeat": 0}, "num_repeat is 0: give a whole number, 1 or more", id="no-repeat"
    ),
    pytest.param(
        {"overlap": -1},
        "overlap is -1: give 0 or more, and less than group_size (20)",
        id="negative-overlap",
    ),
    pytest.param(
        {"overlap": 20},
        "overlap is 20: give 0 or more, and less than group_size (20)",
        id="overlap-of-the-whole-group",
    ),
    pytest.param(
        {"group_size": 1, "overlap": 1},
        "overlap is 1: give 0 or more, and less than group_size (1)",
        id="overlap-of-a-group-of-one",
    ),
    pytest.param(
        {"overlap": 10, "anchors": 10},
        "anchors is 10: give 0 or more, and less than group_size (20) less overlap (10)",
        id="anchors-that-leave-no-place",
    ),
    pytest.param(
        {"anchors": -1},
        "anchors is -1: give 0 or more, and less than group_size (20) less overlap (0)",
        id="negative-anchors",
    ),
    pytest.param(
        {"strategy": "shuffled"},
        "grouping is 'shuffled': give one of random, strided, sorted, mixed, snake",
        id="unknown-strategy",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), ERRORS)
@pytest.mark.parametrize("n", [0, 100])
def test_a_setting_out_of_range_is_refused_whatever_the_list(n, wrong, message):
    with pytest.raises(SettingsError) as caught:
        make_groups(n, **wrong)
    assert str(caught.value) == message


@pytest.mark.parametrize(("wrong", "message"), ERRORS)
def test_settings_can_be_checked_without_a_list(wrong, message):
    settings = {"group_size": 20, "num_repeat": 1, "overlap": 0, "strategy": "random"} | wrong
    with pytest.raises(SettingsError) as caught:
        check_grouping(**settings)
    assert str(caught.value) == message


def test_a_settings_error_is_a_value_error():
    with pytest.raises(ValueError, match="num_repeat is 0"):
        check_grouping(20, 0, 0, "random")
