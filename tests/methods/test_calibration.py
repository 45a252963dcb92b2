"""Calibration: scores of different groups made comparable, with the arithmetic written out."""

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.groupwise.calibration import (
    calibrated,
    check_calibration,
    check_shrinkage,
    shrunk,
    variances,
)
from llmrankers_groupwise.methods.groupwise.grouping import make_groups
from llmrankers_groupwise.scores import mean_scores, ranked_positions
from llmrankers_groupwise.types import Group, GroupScores, ScoredGroup, Status

few = settings(max_examples=30, deadline=None)
"""Each example fits models with numpy, the first one imports it."""

CALIBRATIONS = (
    "none", "zscore", "minmax", "random_effects", "shared_shift", "shared_scale", "borda",
    "bradley_terry",
)  # fmt: skip
SHIFT_FREE = ("zscore", "minmax", "borda")
"""To which a constant added to all scores of one group is nothing, whatever the groups."""


def scored(members, scores, repeat=0):
    """A judged group with one score for each member, None where it has none."""
    given_scores = {label: score for label, score in enumerate(scores, 1) if score is not None}
    missing = tuple(label for label, score in enumerate(scores, 1) if score is None)
    status = Status.FAILED if not given_scores else Status.PARTIAL if missing else Status.EXACT
    return ScoredGroup(Group(repeat, tuple(members)), GroupScores(given_scores, missing, status))


def scores_of(groups):
    """The scores of each group, in the order of its labels."""
    return [[each.scores.scores[label] for label in sorted(each.scores.scores)] for each in groups]


@pytest.mark.parametrize("calibration", CALIBRATIONS[1:])
def test_differences_of_the_last_bit_are_not_spread(calibration):
    nearly = [scored([0, 1, 2], [9.999999999999998, 10.0, 10.0]), scored([3, 4], [0.0, 1e-174])]
    for row in scores_of(calibrated(nearly, calibration)):
        assert len(set(row)) == 1


def order_of(n, groups):
    return ranked_positions(range(n), mean_scores(n, groups))


@st.composite
def some_judged(draw, n=12):
    """Groups of any documents, with whole scores, some missing."""
    members = st.lists(st.integers(0, n - 1), min_size=1, max_size=6, unique=True)
    groups = []
    for repeat in range(draw(st.integers(0, 5))):
        group = draw(members)
        score = st.none() | st.integers(0, 10)
        groups.append(scored(group, [draw(score) for _ in group], repeat))
    return groups


# --- What holds for all -----------------------------------------------------------------------


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@few
@given(groups=some_judged())
def test_only_scores_change_and_only_where_there_are_any(calibration, groups):
    changed = calibrated(groups, calibration)
    for before, after in zip(groups, changed, strict=True):
        assert after.group == before.group
        assert after.reply == before.reply
        assert after.scores.missing == before.scores.missing
        assert after.scores.status == before.scores.status
        assert list(after.scores.scores) == list(before.scores.scores)
        assert all(math.isfinite(score) for score in after.scores.scores.values())


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@few
@given(groups=some_judged(), seed=st.integers(0, 99))
def test_the_order_of_groups_and_within_them_changes_nothing(calibration, groups, seed):
    rng = random.Random(seed)
    turned = []
    for each in groups:
        labels = list(range(1, len(each.group.members) + 1))
        rng.shuffle(labels)
        turned.append(
            scored(
                [each.group.members[label - 1] for label in labels],
                [each.scores.scores.get(label) for label in labels],
                each.group.repeat,
            )
        )
    rng.shuffle(turned)
    before = mean_scores(12, calibrated(groups, calibration))
    after = mean_scores(12, calibrated(turned, calibration))
    assert [x is None for x in before] == [x is None for x in after]
    assert [x or 0.0 for x in after] == pytest.approx([x or 0.0 for x in before], abs=1e-6)


@pytest.mark.parametrize("calibration", [each for each in CALIBRATIONS if "shared" not in each])
@few
@given(groups=some_judged())
def test_no_calibration_turns_two_documents_of_one_group_round(calibration, groups):
    if calibration == "bradley_terry":
        groups = groups[:1]  # of several, the others have a say
    for before, after in zip(groups, calibrated(groups, calibration), strict=True):
        for one, score in before.scores.scores.items():
            for other, least in before.scores.scores.items():
                if score > least:
                    assert after.scores.scores[one] >= after.scores.scores[other]
                elif score == least:
                    assert after.scores.scores[one] == after.scores.scores[other]


@pytest.mark.parametrize("calibration", SHIFT_FREE)
@few
@given(groups=some_judged(), shift=st.integers(-5, 5), data=st.data())
def test_a_constant_added_to_a_groups_scores_is_nothing_to(calibration, groups, shift, data):
    if not groups:
        return
    chosen = data.draw(st.integers(0, len(groups) - 1))
    shifted = [shifted_by(each, shift if i == chosen else 0) for i, each in enumerate(groups)]
    for before, after in zip(
        scores_of(calibrated(groups, calibration)),
        scores_of(calibrated(shifted, calibration)),
        strict=True,
    ):
        assert after == pytest.approx(before, abs=1e-9)


def shifted_by(group, shift, factor=1.0):
    found = {label: factor * score + shift for label, score in group.scores.scores.items()}
    return ScoredGroup(group.group, GroupScores(found, group.scores.missing, group.scores.status))


@pytest.mark.parametrize("strategy", ["random", "strided", "sorted", "snake"])
@pytest.mark.parametrize("calibration", ["shared_shift", "shared_scale"])
@few
@given(seed=st.integers(0, 50), anchors=st.integers(3, 6))
def test_an_ideal_judge_with_drift_is_put_right_by_anchors(calibration, strategy, seed, anchors):
    n, rng = 60, random.Random(seed)
    truth = rng.sample(range(1000), n)
    groups = make_groups(n, group_size=20, anchors=anchors, strategy=strategy, seed=seed)
    scale = calibration == "shared_scale"
    drifted = [
        shifted_by(
            scored(each.members, [truth[x] for x in each.members]),
            rng.uniform(-500, 500),
            rng.uniform(0.7, 1.5) if scale else 1.0,
        )
        for each in groups
    ]
    assert order_of(n, calibrated(drifted, calibration)) == sorted(
        range(n), key=lambda x: -truth[x]
    )


@pytest.mark.parametrize("calibration", ["none", "shared_shift", "shared_scale"])
@pytest.mark.parametrize("strategy", ["random", "strided", "sorted", "snake", "mixed"])
@few
@given(seed=st.integers(0, 50), overlap=st.integers(0, 9), repeats=st.integers(1, 3))
def test_an_ideal_judge_is_left_as_it_is(calibration, strategy, seed, overlap, repeats):
    n = 45
    truth = random.Random(seed).sample(range(100), n)
    groups = [
        scored(each.members, [truth[x] for x in each.members], each.repeat)
        for each in make_groups(
            n, strategy=strategy, overlap=overlap, num_repeat=repeats, seed=seed
        )
    ]
    assert mean_scores(n, calibrated(groups, calibration)) == pytest.approx(truth, abs=1e-4)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
@few
@given(seed=st.integers(0, 50))
def test_an_ideal_judge_of_one_group_gives_the_true_order(calibration, seed):
    truth = random.Random(seed).sample(range(100), 15)
    groups = [scored(range(15), truth)]
    assert order_of(15, calibrated(groups, calibration)) == sorted(
        range(15), key=lambda x: -truth[x]
    )


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_all_failed_and_nothing_at_all(calibration):
    assert calibrated([], calibration) == []
    failed = [scored([0, 1], [None, None]), scored([2], [None])]
    assert calibrated(failed, calibration) == failed


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_equal_scores_everywhere_leave_all_documents_equal(calibration):
    groups = [scored([0, 1, 2], [7.3] * 3), scored([3, 4], [7.3] * 2), scored([5], [7.3])]
    assert len({*mean_scores(6, calibrated(groups, calibration))}) == 1


# --- Each one, written out --------------------------------------------------------------------


def test_none_changes_nothing():
    groups = [scored([0, 1], [3, 9])]
    assert calibrated(groups) == groups


def test_zscore():
    groups = [scored([0, 1, 2, 3], [2, 4, 4, 6]), scored([4, 5], [5, 5]), scored([6], [9])]
    spread = math.sqrt((4 + 0 + 0 + 4) / 4)
    assert scores_of(calibrated(groups, "zscore")) == [
        pytest.approx([-2 / spread, 0.0, 0.0, 2 / spread]), [0.0, 0.0], [0.0],
    ]  # fmt: skip


def test_minmax():
    groups = [scored([0, 1, 2], [2, 4, 6]), scored([3, 4], [5, 5]), scored([5], [9])]
    assert scores_of(calibrated(groups, "minmax")) == [[0.0, 0.5, 1.0], [0.5, 0.5], [0.5]]


def test_borda():
    groups = [scored([0, 1, 2, 3, 4], [2, 4, 4, 6, 0]), scored([5], [9])]
    assert scores_of(calibrated(groups, "borda")) == [
        [1 / 4, (2 + 1 / 2) / 4, (2 + 1 / 2) / 4, 1.0, 0.0], [0.5],
    ]  # fmt: skip


def test_random_effects_take_off_what_means_differ_by_more_than_chance():
    groups = [scored([0, 1, 2], [1, 2, 3]), scored([3, 4, 5], [7, 8, 9])]
    # means 2 and 8, centre 5; within (1 + 0 + 1 + 1 + 0 + 1) / 4 = 1; chance 1 / 3
    drift = 18 - 1 / 3
    share = drift / (drift + 1 / 3)
    assert scores_of(calibrated(groups, "random_effects")) == [
        pytest.approx([x + 3 * share for x in (1, 2, 3)]),
        pytest.approx([x - 3 * share for x in (7, 8, 9)]),
    ]


def test_random_effects_leave_groups_alone_that_differ_by_chance():
    groups = [scored([0, 1, 2], [1, 5, 9]), scored([3, 4, 5], [2, 6, 9])]
    assert scores_of(calibrated(groups, "random_effects")) == [[1, 5, 9], [2, 6, 9]]


def test_shared_shift_is_the_difference_on_shared_documents():
    groups = [scored([0, 1, 2], [4, 6, 1]), scored([0, 1, 3], [7, 9, 5])]
    # the second group is 3 above the first on 0 and 1: each moves half of it
    assert scores_of(calibrated(groups, "shared_shift")) == [
        pytest.approx([5.5, 7.5, 2.5]), pytest.approx([5.5, 7.5, 3.5]),
    ]  # fmt: skip


def test_shared_shift_goes_through_chains_of_groups():
    groups = [scored([0, 1], [0, 0]), scored([1, 2], [4, 4]), scored([2, 3], [9, 9])]
    scores = mean_scores(4, calibrated(groups, "shared_shift"))
    assert scores == pytest.approx([scores[0]] * 4)


@pytest.mark.parametrize("calibration", ["shared_shift", "shared_scale"])
def test_without_shared_documents_nothing_changes(calibration):
    groups = [scored([0, 1], [3, 9]), scored([2, 3], [0, 1])]
    assert calibrated(groups, calibration) == groups


def test_bradley_terry_needs_no_common_scale():
    # 0 beats 1 in one group, 1 beats 2 in the other, on scales that say the opposite
    groups = [scored([0, 1], [2, 1]), scored([1, 2], [10, 9]), scored([0, 2], [1, 0])]
    assert order_of(3, groups) == [1, 2, 0]
    assert order_of(3, calibrated(groups, "bradley_terry")) == [1, 0, 2]


def test_bradley_terry_where_one_pair_met_solves_its_equation():
    (strengths,) = scores_of(calibrated([scored([0, 1], [8, 2])], "bradley_terry"))
    # z is 1 and -1; the gradient is 0 at t = 1 + 1 / (1 + e^(2t))
    assert strengths[0] == pytest.approx(1 + 1 / (1 + math.exp(2 * strengths[0])))
    assert strengths[1] == -strengths[0]


@few
@given(st.integers(0, 30))
def test_bradley_terry_reaches_the_order_of_many_comparisons(seed):
    rng = random.Random(seed)
    groups = []
    for repeat in range(40):
        members = rng.sample(range(10), 5)
        drift = rng.uniform(-9, 9)
        groups.append(scored(members, [-x + drift for x in members], repeat))
    assert order_of(10, calibrated(groups, "bradley_terry")) == list(range(10))


# --- Confidence -------------------------------------------------------------------------------


def test_variances_are_over_the_groups_of_a_document():
    groups = [scored([0, 1, 2], [4, 6, None]), scored([0, 2, 3], [7, 5, 1])]
    assert variances(5, groups) == [statistics.variance([4, 7]), None, None, None, None]


# --- Shrinkage --------------------------------------------------------------------------------


def test_scores_are_drawn_to_the_line_of_the_first_stage_by_their_number():
    groups = [scored([0, 1], [9, 1]), scored([0], [9])]
    # two points lie on their line: nothing to draw to
    assert shrunk([9.0, 1.0], groups, 3.0) == pytest.approx([9.0, 1.0])
    groups = [scored([0, 1, 2], [9, 1, 5]), scored([1], [1])]
    line = statistics.linear_regression([0, -math.log(2), -math.log(3)], [9, 1, 5])
    expected = [line.intercept - line.slope * math.log(1 + x) for x in range(3)]
    assert shrunk([9.0, 1.0, 5.0], groups, 2.0) == pytest.approx(
        [(9 + 2 * expected[0]) / 3, (2 + 2 * expected[1]) / 4, (5 + 2 * expected[2]) / 3]
    )


def test_a_first_stage_that_disagrees_draws_all_to_the_mean():
    scores = shrunk([1.0, 5.0, 9.0], [scored([0, 1, 2], [1, 5, 9])], 1.0)
    assert scores == pytest.approx([(1 + 5) / 2, 5.0, (9 + 5) / 2])


def test_equal_scores_are_told_apart_by_rank_where_ranks_tell_something():
    scores = shrunk([9.0, 5.0, 5.0, 0.0], [scored(range(4), [9, 5, 5, 0])], 0.1)
    assert scores[1] > scores[2]


@few
@given(st.lists(st.none() | st.integers(0, 10), max_size=8))
def test_shrinkage_leaves_what_has_no_score_without(scores):
    given_scores = [None if score is None else float(score) for score in scores]
    groups = [scored(range(len(scores)), scores)]
    assert [x is None for x in shrunk(given_scores, groups, 1.0)] == [x is None for x in scores]
    assert shrunk(given_scores, groups, 0.0) == given_scores


# --- Errors -----------------------------------------------------------------------------------


def test_unknown_calibrations_and_weights_out_of_range_are_refused():
    with pytest.raises(SettingsError, match="calibration is 'z': give one of none, zscore, "):
        check_calibration("z")
    with pytest.raises(SettingsError, match="shrinkage is -1: give 0 for none, or a number above"):
        check_shrinkage(-1, "mean")
    with pytest.raises(SettingsError, match="shrinkage is nan"):
        check_shrinkage(math.nan, "mean")
    with pytest.raises(SettingsError, match="shrinkage is 1, but fusion rrf has no scores"):
        check_shrinkage(1, "rrf")
    check_shrinkage(0, "rrf")
