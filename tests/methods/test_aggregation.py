"""Fusion, with the arithmetic written out."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.groupwise.aggregation import (
    check_fusion,
    fused_scores,
    interpolate,
    reciprocal_rank,
)
from llmrankers_groupwise.scores import mean_scores, min_max, ranked_positions, strictly_decreasing
from llmrankers_groupwise.types import Candidate, Group, GroupScores, ScoredGroup, Status


def scored(members, scores, repeat=0):
    """A judged group with one score for each member, None where it has none."""
    given_scores = {label: score for label, score in enumerate(scores, 1) if score is not None}
    missing = tuple(label for label, score in enumerate(scores, 1) if score is None)
    status = Status.FAILED if not given_scores else Status.PARTIAL if missing else Status.EXACT
    return ScoredGroup(Group(repeat, tuple(members)), GroupScores(given_scores, missing, status))


def candidates(*scores):
    return [Candidate(f"d{rank}", f"text {rank}", score) for rank, score in enumerate(scores, 1)]


finite = st.floats(-1e6, 1e6)
scores_or_none = st.lists(st.none() | finite, max_size=40)


# --- The mean over appearances ----------------------------------------------------------------


def test_one_group_gives_each_member_its_score():
    assert mean_scores(3, [scored([2, 0, 1], [7, 0, 10])]) == [0.0, 10.0, 7.0]


def test_a_document_in_two_groups_gets_the_mean():
    groups = [scored([0, 1], [7, 4]), scored([1, 0], [9, 2], repeat=1)]
    assert mean_scores(2, groups) == [(7 + 2) / 2, (4 + 9) / 2]


def test_the_mean_counts_appearances_with_a_score_only():
    groups = [
        scored([0, 1], [8, 6]),
        scored([0, 1], [None, 3], repeat=1),
        scored([0, 1], [4, None], repeat=2),
    ]
    assert mean_scores(2, groups) == [(8 + 4) / 2, (6 + 3) / 2]


def test_overlapping_groups_of_one_repeat_are_averaged_too():
    groups = [scored([0, 1], [3, 10]), scored([1, 2], [5, 1])]
    assert mean_scores(3, groups) == [3.0, (10 + 5) / 2, 1.0]


def test_a_score_of_zero_is_a_score():
    assert mean_scores(2, [scored([0, 1], [0, None])]) == [0.0, None]


def test_without_groups_nothing_has_a_score():
    assert mean_scores(3, []) == [None, None, None]
    assert mean_scores(0, []) == []


# --- Min-max and interpolation ----------------------------------------------------------------


def test_min_max_scales_to_0_and_1():
    assert min_max([2.0, 10.0, 4.0]) == [0.0, 1.0, (4 - 2) / (10 - 2)]


def test_min_max_of_negative_values():
    assert min_max([-3.0, -1.0, -2.0]) == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("value", [0.0, -4.5, 7.0])
def test_equal_values_say_nothing_and_become_one_half(value):
    assert min_max([value] * 3) == [0.5, 0.5, 0.5]


def test_min_max_of_one_value_and_of_none():
    assert min_max([42.0]) == [0.5]
    assert min_max([]) == []


@given(st.lists(finite))
def test_min_max_stays_within_0_and_1_and_keeps_the_order(values):
    scaled = min_max(values)
    assert all(0.0 <= value <= 1.0 for value in scaled)
    order = sorted(range(len(values)), key=lambda index: values[index])
    assert [scaled[index] for index in order] == sorted(scaled)


def test_interpolation_weighs_both_sides_after_scaling_them():
    # scores 9, 3, 6 -> 1, 0, 1/2; first stage 20, 15, 10 -> 1, 1/2, 0
    mixed = interpolate([9.0, 3.0, 6.0], [20.0, 15.0, 10.0], 0.4)
    assert mixed == pytest.approx([0.6 * 1 + 0.4 * 1, 0.6 * 0 + 0.4 * 0.5, 0.6 * 0.5 + 0.4 * 0])


def test_interpolation_does_not_score_what_had_no_score():
    # scores 8, -, 2 -> 1, -, 0, as if the missing one were not there; first stage 3, 2, 1
    mixed = interpolate([8.0, None, 2.0], [3.0, 2.0, 1.0], 0.5)
    assert mixed == [0.5 * 1 + 0.5 * 1, None, 0.5 * 0 + 0.5 * 0]


def test_interpolation_of_equal_scores_leaves_the_first_stage_to_decide():
    mixed = interpolate([5.0, 5.0], [30.0, 10.0], 0.1)
    assert mixed == pytest.approx([0.9 * 0.5 + 0.1 * 1, 0.9 * 0.5 + 0.1 * 0])


def test_interpolation_without_any_score():
    assert interpolate([None, None], [2.0, 1.0], 0.5) == [None, None]
    assert interpolate([], [], 0.5) == []


# --- Reciprocal rank fusion -------------------------------------------------------------------


def test_rrf_of_two_repeats():
    groups = [scored([0, 1, 2], [5, 9, 1]), scored([0, 1, 2], [8, 2, 4], repeat=1)]
    # repeat 0 ranks 1, 0, 2; repeat 1 ranks 0, 2, 1
    assert reciprocal_rank(3, groups) == pytest.approx(
        [
            0.5 / (60 + 2) + 0.5 / (60 + 1),
            0.5 / (60 + 1) + 0.5 / (60 + 3),
            0.5 / (60 + 3) + 0.5 / (60 + 2),
        ]
    )


def test_rrf_of_two_repeats_and_the_first_stage():
    groups = [scored([0, 1, 2], [5, 9, 1]), scored([0, 1, 2], [8, 2, 4], repeat=1)]
    assert reciprocal_rank(3, groups, 0.2) == pytest.approx(
        [
            0.4 / (60 + 2) + 0.4 / (60 + 1) + 0.2 / (60 + 1),
            0.4 / (60 + 1) + 0.4 / (60 + 3) + 0.2 / (60 + 2),
            0.4 / (60 + 3) + 0.4 / (60 + 2) + 0.2 / (60 + 3),
        ]
    )


def test_rrf_ranks_all_groups_of_a_repeat_together():
    groups = [scored([0, 2], [1, 7]), scored([1, 3], [9, 4])]
    # one ranking: 1 (9), 2 (7), 3 (4), 0 (1)
    assert reciprocal_rank(4, groups) == pytest.approx(
        [1 / (60 + 4), 1 / (60 + 1), 1 / (60 + 2), 1 / (60 + 3)]
    )


def test_rrf_gives_equal_scores_their_ranks_in_first_stage_order():
    groups = [scored([2, 1, 0], [5, 5, 5])]
    assert reciprocal_rank(3, groups) == pytest.approx([1 / 61, 1 / 62, 1 / 63])


def test_rrf_ranks_a_final_round_among_itself():
    groups = [
        scored(range(5), [9, 0, 8, 0, 7]),
        scored([0, 2, 4], [1, 3, 2], repeat=1),  # asked about the three best only
    ]
    first = {0: 1 / 61, 2: 1 / 62, 4: 1 / 63}
    final = {2: 1 / 61, 4: 1 / 62, 0: 1 / 63}
    scores = reciprocal_rank(5, groups)
    for position in (0, 2, 4):
        assert scores[position] == pytest.approx((first[position] + final[position]) / 2)
    assert scores[1] == pytest.approx(1 / 64)


def test_rrf_does_not_score_what_had_no_score():
    groups = [scored([0, 1, 2], [4, None, 6])]
    assert reciprocal_rank(3, groups, 0.5) == pytest.approx(
        # ranks 1 and 3: document 1 keeps its place between them
        [0.5 / 63 + 0.5 / 61, None, 0.5 / 61 + 0.5 / 63]
    )


def test_rrf_keeps_a_document_in_front_whose_group_failed_in_one_repeat():
    groups = [
        scored([0, 1, 2, 3], [10, 8, 2, 0]),
        scored([0, 1], [None, None], repeat=1),
        scored([2, 3], [2, 0], repeat=1),
    ]
    # Document 0 beat 2 and 3 in every repeat that scored it; the failure of a group is no verdict.
    assert ranked_positions(range(4), reciprocal_rank(4, groups)) == [0, 1, 2, 3]


# --- One score per candidate ------------------------------------------------------------------


def test_fusion_by_mean_alone_does_not_rescale():
    groups = [scored([0, 1], [7, 4]), scored([0, 1], [2, 9], repeat=1)]
    assert fused_scores(candidates(30.0, 10.0), groups) == [(7 + 2) / 2, (4 + 9) / 2]


def test_fusion_by_mean_with_the_first_stage():
    groups = [scored([0, 1, 2], [2, 10, 6])]
    # 2, 10, 6 -> 0, 1, 1/2; first stage 8, 4, 0 -> 1, 1/2, 0
    fused = fused_scores(candidates(8.0, 4.0, 0.0), groups, "mean", 0.25)
    assert fused == [0.25 * 1, 0.75 * 1 + 0.25 * 0.5, 0.75 * 0.5]


def test_a_first_stage_weight_of_one_is_the_first_stage():
    fused = fused_scores(candidates(8.0, 4.0, 0.0), [scored([0, 1, 2], [2, 10, 6])], "mean", 1.0)
    assert fused == [1.0, 0.5, 0.0]


def test_fusion_by_rrf_with_the_first_stage():
    fused = fused_scores(candidates(8.0, 4.0), [scored([0, 1], [2, 10])], "rrf", 0.5)
    assert fused == pytest.approx([0.5 / 62 + 0.5 / 61, 0.5 / 61 + 0.5 / 62])


@pytest.mark.parametrize("fusion", ["mean", "rrf"])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_fusion_of_no_candidates_is_empty(fusion, weight):
    assert fused_scores([], [], fusion, weight) == []


@pytest.mark.parametrize(
    ("fusion", "weight", "message"),
    [
        pytest.param("max", 0.0, "fusion is 'max': give one of mean, rrf", id="fusion"),
        pytest.param("mean", 1.5, "first_stage_weight is 1.5: give a number 0..1", id="above-1"),
        pytest.param("rrf", -0.1, "first_stage_weight is -0.1: give a number 0..1", id="negative"),
        pytest.param(
            "mean", float("nan"), "first_stage_weight is nan: give a number 0..1", id="nan"
        ),
    ],
)
def test_fusion_settings_out_of_range_are_refused(fusion, weight, message):
    with pytest.raises(SettingsError) as caught:
        check_fusion(fusion, weight)
    assert str(caught.value) == message


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("fusion", ["mean", "rrf"])
def test_fusion_settings_in_range_are_accepted(fusion, weight):
    assert check_fusion(fusion, weight) is None


# --- The order --------------------------------------------------------------------------------


def test_positions_are_ranked_best_first():
    assert ranked_positions(range(4), [1.0, 9.0, 4.0, 6.0]) == [1, 3, 2, 0]


def test_equal_scores_go_by_first_stage_rank():
    assert ranked_positions(range(4), [5.0, 7.0, 5.0, 7.0]) == [1, 3, 0, 2]
    assert ranked_positions([3, 2, 1, 0], [5.0, 5.0, 5.0, 5.0]) == [0, 1, 2, 3]


def test_an_unscored_document_keeps_its_place_and_the_others_are_sorted_around_it():
    assert ranked_positions(range(5), [1.0, None, 9.0, None, 4.0]) == [2, 1, 4, 3, 0]


def test_the_documents_of_a_failed_group_keep_their_first_stage_places():
    groups = [scored([0, 2, 4], [None, None, None]), scored([1, 3, 5], [2, 10, 6])]
    assert ranked_positions(range(6), mean_scores(6, groups)) == [0, 3, 2, 5, 4, 1]


@pytest.mark.parametrize("fusion", ["mean", "rrf"])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_when_all_groups_failed_the_order_is_the_first_stage(fusion, weight):
    groups = [scored([2, 0], [None, None]), scored([1, 3], [None, None])]
    fused = fused_scores(candidates(4.0, 3.0, 2.0, 1.0), groups, fusion, weight)
    assert ranked_positions(range(4), fused) == [0, 1, 2, 3]


def test_a_score_of_zero_ranks_below_the_others_and_not_as_missing():
    assert ranked_positions(range(3), [0.0, 1.0, 2.0]) == [2, 1, 0]


def test_negative_scores_rank_below_zero():
    assert ranked_positions(range(3), [-1.0, 0.0, -2.0]) == [1, 0, 2]


def test_a_part_of_the_positions_can_be_ranked():
    assert ranked_positions([4, 1, 3], [None, 5.0, None, 8.0, 6.0]) == [3, 4, 1]


@given(scores_or_none)
def test_ranking_is_a_permutation(scores):
    order = ranked_positions(range(len(scores)), scores)
    assert sorted(order) == list(range(len(scores)))


@given(scores_or_none)
def test_unscored_documents_never_move_and_scored_ones_descend(scores):
    order = ranked_positions(range(len(scores)), scores)
    for place, position in enumerate(order):
        assert scores[place] is not None or position == place
    ranked = [scores[position] for position in order if scores[position] is not None]
    assert ranked == sorted(ranked, reverse=True)


# --- Written scores ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([7.0, 3.5, 0.0], [7.0, 3.5, 0.0], id="no-conflict"),
        pytest.param([1 / 3, 0.25], [0.333333, 0.25], id="six-decimals"),
        pytest.param([5.0, 5.0, 5.0], [5.0, 4.999999, 4.999998], id="ties"),
        pytest.param([5.0, 5.0, 4.0], [5.0, 4.999999, 4.0], id="a-tie-then-a-lower-score"),
        pytest.param([5.0, 9.0], [5.0, 4.999999], id="a-higher-score-below"),
        pytest.param([0.0, 0.0], [0.0, -0.000001], id="below-zero"),
        pytest.param([2.0000001, 2.0], [2.0, 1.999999], id="equal-at-six-decimals"),
        pytest.param([5.0, None, 4.0], [5.0, 4.999999, 4.0], id="missing-in-the-middle"),
        pytest.param([5.0, None, 5.0], [5.0, 4.999999, 4.999998], id="missing-within-a-tie"),
        pytest.param([None, None, 5.0], [5.000002, 5.000001, 5.0], id="missing-at-the-top"),
        pytest.param([5.0, None, None], [5.0, 4.999999, 4.999998], id="missing-at-the-end"),
        pytest.param([None, None, None], [0.0, -0.000001, -0.000002], id="all-missing"),
    ],
)
def test_written_scores_spelled_out(scores, expected):
    assert strictly_decreasing(scores) == expected


@given(scores_or_none)
def test_written_scores_strictly_decrease_at_six_decimals(scores):
    written = [float(f"{score:.6f}") for score in strictly_decreasing(scores)]
    assert len(written) == len(scores)
    assert all(above > below for above, below in pairwise(written))


@given(st.lists(st.integers(-1000, 1000), unique=True))
def test_written_scores_keep_values_that_decrease_already(values):
    scores = [float(value) for value in sorted(values, reverse=True)]
    assert strictly_decreasing(scores) == scores


@given(scores_or_none)
def test_written_scores_never_rise_above_the_score_itself(scores):
    for score, written in zip(scores, strictly_decreasing(scores), strict=True):
        assert score is None or written <= round(score, 6) + 1e-9
