"""Second rounds: who is asked about again, how often, and what the new scores may move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.groupwise.final_round import (
    check_final_round,
    final_round_groups,
    rank_spans,
    rerank_spans,
)
from llmrankers_groupwise.types import Group, GroupScores, ScoredGroup, Status

SETTINGS = st.fixed_dictionaries(
    {
        "final_round": st.just(0) | st.integers(2, 20),
        "boundary": st.integers(0, 60),
        "group_size": st.just(20),
    }
)


# --- Who --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"final_round": 20, "boundary": 0}, [(0, 20)], id="final"),
        pytest.param({"final_round": 0, "boundary": 30}, [(20, 40)], id="boundary"),
        pytest.param({"final_round": 0, "boundary": 3}, [(0, 20)], id="boundary-at-the-top"),
        pytest.param({"final_round": 0, "boundary": 98}, [(80, 100)], id="boundary-at-the-end"),
        pytest.param({"final_round": 0, "boundary": 100}, [], id="no-boundary-behind-the-end"),
        pytest.param({"final_round": 5, "boundary": 30}, [(0, 5), (20, 40)], id="both"),
        pytest.param({"final_round": 0, "boundary": 0}, [], id="neither"),
    ],
)
def test_places_of_a_second_round(settings, expected):
    assert rank_spans(100, group_size=20, **settings) == expected


def test_a_final_of_more_than_there_are_is_of_all():
    assert rank_spans(3, final_round=20, boundary=0, group_size=20) == [(0, 3)]
    assert rank_spans(0, final_round=20, boundary=5, group_size=20) == []


@given(st.integers(0, 130), SETTINGS)
def test_places_are_in_the_list_and_of_no_more_than_a_group(n, settings):
    for start, end in rank_spans(n, **settings):
        assert 0 <= start < end <= n
        assert end - start <= 20
    places = [x for start, end in rank_spans(n, **settings) for x in range(start, end)]
    assert len(set(places)) == len(places)


@given(st.integers(2, 130), st.integers(1, 129))
def test_a_boundary_group_holds_both_sides_of_the_boundary(n, boundary):
    for start, end in rank_spans(n, final_round=0, boundary=boundary, group_size=6):
        assert start < boundary < end or end - start < 2


# --- How often --------------------------------------------------------------------------------


def groups_of(order, askable=None, **settings):
    asked = set(order) if askable is None else askable
    return final_round_groups(order, asked, first_repeat=3, **settings)


def test_every_final_call_is_a_repeat_of_its_own_with_an_order_of_its_own():
    order = [7, 3, 9, 1, 0, 2, 4, 5, 6, 8]
    groups = groups_of(order, final_round=8, final_calls=3)
    assert [group.repeat for group in groups] == [3, 4, 5]
    assert {frozenset(group.members) for group in groups} == {frozenset(order[:8])}
    assert len({group.members for group in groups} | {tuple(order[:8])}) == 4


def test_a_boundary_is_asked_about_once_however_often_the_final_is():
    groups = groups_of(range(30), final_round=4, final_calls=2, boundary=20, group_size=10)
    assert [sorted(group.members) for group in groups] == [
        [0, 1, 2, 3], [0, 1, 2, 3], list(range(15, 25)),
    ]  # fmt: skip


def test_more_final_calls_leave_the_first_one_as_it_was():
    order = list(range(30))
    assert groups_of(order, final_round=20, final_calls=4)[:1] == groups_of(order, final_round=20)


def test_who_cannot_be_asked_about_is_left_out_and_one_alone_is_not_asked_about():
    assert sorted(groups_of(range(9), {0, 2, 5}, final_round=4)[0].members) == [0, 2]
    assert groups_of(range(9), {0, 5}, final_round=4) == []


def test_seed_and_query_each_change_the_order():
    order = range(20)
    found = {
        groups_of(order, final_round=20)[0],
        groups_of(order, final_round=20, seed=1)[0],
        groups_of(order, final_round=20, query="another")[0],
    }
    assert len(found) == 3


# --- What it moves ----------------------------------------------------------------------------


def asked(*members, missing=()):
    """A second round's group, whose reply has a score for all but these."""
    scores = {label: 1.0 for label, member in enumerate(members, start=1) if member not in missing}
    lost = tuple(label for label in range(1, len(members) + 1) if label not in scores)
    return ScoredGroup(Group(1, members, "final"), GroupScores(scores, lost, Status.PARTIAL))


def test_documents_are_sorted_again_within_their_span_only():
    scores = [1.0, 9.0, 3.0, 4.0, 8.0]
    everybody = [asked(0, 1, 2, 3, 4)]
    assert rerank_spans([0, 1, 2, 3, 4], scores, [(0, 2)], everybody) == [1, 0, 2, 3, 4]
    assert rerank_spans([0, 1, 2, 3, 4], scores, [(2, 5)], everybody) == [0, 1, 4, 3, 2]
    assert rerank_spans([0, 1, 2, 3, 4], scores, [(0, 2), (2, 5)], everybody) == [1, 0, 4, 3, 2]
    assert rerank_spans([0, 1, 2, 3, 4], scores, [], everybody) == [0, 1, 2, 3, 4]


def test_a_document_without_a_score_keeps_its_place_in_the_span():
    assert rerank_spans([2, 0, 1], [1.0, 5.0, None], [(0, 3)], [asked(0, 1, 2)]) == [2, 1, 0]


def test_a_document_that_was_asked_about_again_in_vain_keeps_its_place_too():
    """Its score is of the first round alone, and may be of another scale than the others'."""
    scores = [1.0, 2.0, 9.0]
    assert rerank_spans([0, 1, 2], scores, [(0, 3)], [asked(0, 1, 2, missing=(2,))]) == [1, 0, 2]
    assert rerank_spans([0, 1, 2], scores, [(0, 3)], [asked(0, 1, 2, missing=(0, 1, 2))]) == [
        0,
        1,
        2,
    ]
    twice = [asked(0, 1, 2, missing=(2,)), asked(2, 1, 0)]
    assert rerank_spans([0, 1, 2], scores, [(0, 3)], twice) == [2, 1, 0]


@given(
    st.permutations(range(12)),
    st.lists(st.none() | st.integers(0, 3), min_size=12, max_size=12),
    SETTINGS,
)
def test_an_order_stays_a_permutation(order, scores, settings):
    places = rank_spans(len(order), **(settings | {"group_size": 6}))
    assert sorted(rerank_spans(order, scores, places, [asked(*range(12))])) == list(range(12))


# --- Errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"final_round": 1}, "final_round is 1: give 0 for none, or 2 to group_size (20)"),
        ({"final_round": 21}, "final_round is 21: give 0 for none, or 2 to group_size (20)"),
        ({"final_round": 5.0}, "final_round is 5.0: give 0 for none, or 2 to group_size (20)"),
        ({"final_calls": 0}, "final_calls is 0: give a whole number, 1 or more"),
        (
            {"final_round": 0, "final_calls": 2},
            "final_calls is 2, but there is no final round: give final_round, too, or "
            "final_calls 1",
        ),
        (
            {"boundary": 14},
            "boundary is 14, and half of its group would be of the final round's 5: give 15 or "
            "more, or no final_round",
        ),
        ({"boundary": -1}, "boundary is -1: give 0 for none, or a rank, 1 or more"),
    ],
)
def test_a_setting_out_of_range_is_refused(wrong, message):
    right = {"group_size": 20, "final_round": 5, "final_calls": 1, "boundary": 0}
    with pytest.raises(SettingsError) as caught:
        check_final_round(**(right | wrong))
    assert str(caught.value) == message
