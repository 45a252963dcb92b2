"""Rewards as a trainer calls them: values by hand, what is right, what is None, and properties."""

import dataclasses
import itertools
import json
import logging
import math
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.errors import InputError, SettingsError
from llmrankers_groupwise.prompting.parse_scores import parse_scores
from llmrankers_groupwise.training.rewards.rewards import (
    GroupReward,
    format_reward,
    grouprank_v1,
    grouprank_v3,
    js_reward,
    kl_reward,
    ndcg_reward,
    rank_r1,
    rbo_reward,
    recall_reward,
)
from llmrankers_groupwise.types import Status

PARTS = (ndcg_reward, recall_reward, rbo_reward, js_reward, kl_reward)
PRESETS = (grouprank_v3, grouprank_v1)
ALL = (format_reward, *PARTS, *PRESETS)

Reward = Callable[..., list[float | None]]


def named(rewards: tuple[Reward, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("reward", rewards, ids=lambda each: each.__name__)


def answer(scores: Any) -> str:
    return json.dumps({f"[{label}]": score for label, score in enumerate(scores, start=1)})


def reply(scores: Any) -> str:
    return f"<reason>why</reason>\n<answer>\n```json\n{answer(scores)}\n```\n</answer>"


def one(reward: Reward, text: Any, gold: Any, relevant: Any = None) -> float | None:
    """The reward of one completion; relevant is what has more than half of the best gold score."""
    if relevant is None:
        relevant = [score > max(gold) / 2 for score in gold]
    (found,) = reward([text], gold=[gold], relevant=[relevant], other=["column"])
    return found


# --- Values by hand ---------------------------------------------------------------------------

GOLD, RELEVANT = [3, 2, 1], [True, False, False]
D2 = 1 / math.log2(3)  # the discount of rank 2: 0.630930
IDEAL = 3 + 2 * D2 + 1 / 2  # 4.761860
DEPTHS = (1, 0.9 / 2, 0.81 / 3)  # RBO's weights of depths 1, 2, 3; the best is 1 + 0.9 + 0.81


@pytest.mark.parametrize(
    ("scores", "ndcg", "recall", "rbo", "js", "kl"),
    [
        pytest.param([3, 2, 1], 1, 1, 1, 0, 0, id="gold"),
        # In the order c, b, a: gains 1, 2, 3; nothing shared at depth 1, b at 2, all at 3.
        # P = (1, 2, 3)/6 and Q = (3, 2, 1)/6, so M = 1/3 for each, and the two halves of JS are
        # equal: 1/2 log2(3/2) + 1/3 log2(1) + 1/6 log2(1/2). KL = 1/2 ln 3 + 1/6 ln(1/3).
        pytest.param(
            [1, 2, 3],
            (1 + 2 * D2 + 3 / 2) / IDEAL,
            1,  # three documents are all among the first ten
            (0.45 * 1 + 0.27 * 3) / 2.71,
            math.log2(3 / 2) / 2 - 1 / 6,
            math.log(3) / 3,
            id="reversed",
        ),
        # All tied: a gain of 2 at each rank; d/3 of each document is expected among the first d,
        # so d * d/3 of the overlap. P = 1/3: M = (5, 4, 3)/12.
        pytest.param(
            [7, 7, 7],
            2 * (1 + D2 + 1 / 2) / IDEAL,
            1,
            (1 * 1 / 3 + 0.45 * 4 / 3 + 0.27 * 9 / 3) / 2.71,
            (
                (math.log2(4 / 5) + math.log2(4 / 4) + math.log2(4 / 3)) / 3
                + math.log2(6 / 5) / 2 + math.log2(4 / 4) / 3 + math.log2(2 / 3) / 6
            ) / 2,
            math.log(3 / 2) / 2 + math.log(1) / 3 + math.log(1 / 2) / 6,
            id="all-equal",
        ),
    ],
)  # fmt: skip
def test_values_by_hand(
    scores: list[int], ndcg: float, recall: float, rbo: float, js: float, kl: float
) -> None:
    expected = {
        format_reward: 0,
        ndcg_reward: ndcg,
        recall_reward: recall,
        rbo_reward: rbo,
        js_reward: 1 - js,
        kl_reward: math.exp(-kl),
        grouprank_v3: ndcg + 0.2 * recall + 0.1 * (1 - js),
        grouprank_v1: 0.2 * recall + 0.5 * ndcg + 0.5 * rbo + 0.1 * math.exp(-kl),
    }
    for reward, value in expected.items():
        found = one(reward, reply(scores), GOLD, RELEVANT)
        assert found == pytest.approx(value, abs=1e-6), reward.__name__  # 1e-6 of smoothing


def test_recall_misses_what_is_behind_the_tenth() -> None:
    gold, relevant = [9, 8, *[1] * 10], [True, True, *[False] * 10]
    # The first is behind all; the second ties with one document for rank 10.
    text = reply([0, 5, *[9] * 9, 5])
    assert one(recall_reward, text, gold, relevant) == pytest.approx((0 + 1 / 2) / 2)


# --- What is right ----------------------------------------------------------------------------

J = '{"[1]": 3, "[2]": 2, "[3]": 1}'
REASON, ANSWER = "<reason>why</reason>", f"<answer>{J}</answer>"

RIGHT = [
    pytest.param(REASON + ANSWER, id="tags-and-json"),
    pytest.param(f"\n {REASON}\n\n{ANSWER} \n", id="blanks-around"),
    pytest.param(f"{REASON}<answer>\n```json\n{J}\n```\n</answer>", id="fenced"),
    pytest.param(f"{REASON}<answer>```\n{J}```</answer>", id="fenced-without-language"),
    pytest.param(f"{REASON}<answer>My scores: {J}</answer>", id="prose-in-the-answer"),
    pytest.param(f'{REASON}<answer>{{"[3]":1,"[1]":3,"[2]":2}}</answer>', id="another-order"),
    pytest.param(f"<reason></reason>{ANSWER}", id="empty-reason"),
    pytest.param(f"<reason>a < b, <b>bold</b>, [1]: 9</reason>{ANSWER}", id="other-tags"),
    pytest.param(f"<Reason>why</REASON><Answer>{J}</ANSWER>", id="capitals"),
    pytest.param(f"<think>hm</think>{REASON}{ANSWER}", id="thought-before"),
    pytest.param(f"hm</think>\n{REASON}{ANSWER}", id="thought-opened-by-the-template"),
    pytest.param(f"<think>{ANSWER}?</think>{REASON}{ANSWER}", id="draft-in-the-thought"),
]
BAD_JSON = [
    pytest.param(f"{REASON}<answer></answer>", id="nothing"),
    pytest.param(f"{REASON}<answer>passage 1 is best</answer>", id="prose"),
    pytest.param(REASON + '<answer>{"[1]": 3, "[2]": 2}</answer>', id="label-missing"),
    pytest.param(REASON + '<answer>{"[1]": 3, "[2]": 2, "[3]": 1, "[4]": 0}</answer>', id="extra"),
    pytest.param(REASON + '<answer>{"[1]": 3, "[1]": 3, "[2]": 2, "[3]": 1}</answer>', id="twice"),
    pytest.param(REASON + '<answer>{"[1]": 3.0, "[2]": 2, "[3]": 1}</answer>', id="decimal"),
    pytest.param(REASON + '<answer>{"[1]": "3", "[2]": 2, "[3]": 1}</answer>', id="quoted"),
    pytest.param(REASON + '<answer>{"[1]": true, "[2]": 2, "[3]": 1}</answer>', id="true"),
    pytest.param(REASON + '<answer>{"[1]": 11, "[2]": 2, "[3]": 1}</answer>', id="eleven"),
    pytest.param(REASON + '<answer>{"[1]": -1, "[2]": 2, "[3]": 1}</answer>', id="negative"),
    pytest.param(REASON + '<answer>{"[1]": 3, "[2]": 2, "[3]": 1,}</answer>', id="comma"),
    pytest.param(
        REASON + '<answer>{"1": 3, "2": 2, "3": 1}</answer>', id="labels-without-brackets"
    ),
    pytest.param(REASON + "<answer>[1]: 3\n[2]: 2\n[3]: 1</answer>", id="lines"),
    pytest.param(f'{REASON}<answer>{{"scores": {J}}}</answer>', id="nested"),
    pytest.param(f"{REASON}<answer>{J} or {J}</answer>", id="two-objects"),
    pytest.param(f"<reason>{J}</reason><answer>as above</answer>", id="json-in-the-reason"),
    pytest.param(f"{J}</think>{REASON}<answer>as above</answer>", id="json-in-the-thought"),
]
BAD_TAGS = [
    pytest.param("", id="empty"),
    pytest.param(J, id="json-alone"),
    pytest.param(ANSWER, id="no-reason"),
    pytest.param(f"<think>why</think>{ANSWER}", id="thought-for-reason"),
    pytest.param(f"{REASON}{J}", id="no-answer"),
    pytest.param(f"{ANSWER}{REASON}", id="answer-first"),
    pytest.param(f"<reason>why{ANSWER}", id="reason-open"),
    pytest.param(f"{REASON}<answer>{J}", id="answer-open"),
    pytest.param(f"<reason>why {ANSWER}</reason>", id="answer-in-the-reason"),
    pytest.param(f"<reason>I write <answer> first</reason>{ANSWER}", id="tag-in-the-reason"),
    pytest.param(f"{REASON}{REASON}{ANSWER}", id="two-reasons"),
    pytest.param(f"{REASON}{ANSWER}{ANSWER}", id="two-answers"),
    pytest.param(f"Sure! {REASON}{ANSWER}", id="text-before"),
    pytest.param(f"{REASON} so: {ANSWER}", id="text-between"),
    pytest.param(f"{REASON}{ANSWER} Done.", id="text-behind"),
    pytest.param(f"{REASON}<answer><think>hm</think>{J}</answer>", id="thought-in-the-answer"),
    pytest.param(f"<think>hm {REASON}{ANSWER}", id="thought-open"),
]


@pytest.mark.parametrize("text", RIGHT)
def test_right_replies_get_what_their_scores_are_worth(text: str) -> None:
    assert one(format_reward, text, GOLD) == 0.0
    assert one(grouprank_v3, text, GOLD) == pytest.approx(1.3)  # 1 + 0.2 + 0.1
    assert one(grouprank_v1, text, GOLD) == pytest.approx(1.3)  # 0.2 + 0.5 + 0.5 + 0.1
    assert [one(part, text, GOLD) for part in PARTS] == pytest.approx([1.0] * 5)


def test_where_no_tags_are_asked_for_none_are_wrong() -> None:
    bare = dataclasses.replace(grouprank_v3, tags=False)
    best = one(grouprank_v3, REASON + ANSWER, GOLD)
    assert best == one(bare, J, GOLD) == one(bare, REASON + ANSWER, GOLD)
    assert one(grouprank_v3, J, GOLD) == -0.5
    assert one(bare, '{"[1]": 3}', GOLD) == one(bare, "none", GOLD) == -0.1


@pytest.mark.parametrize("text", BAD_JSON)
def test_right_tags_with_wrong_json(text: str) -> None:
    assert one(format_reward, text, GOLD) == -0.1
    assert one(grouprank_v3, text, GOLD) == -0.1
    assert one(grouprank_v1, text, GOLD) == 0.0


@pytest.mark.parametrize("text", BAD_TAGS)
def test_wrong_tags(text: str) -> None:
    assert one(format_reward, text, GOLD) == -0.5
    assert one(grouprank_v3, text, GOLD) == -0.5
    assert one(grouprank_v1, text, GOLD) == -1.0


@named(PARTS)
def test_a_part_is_0_without_scores_and_does_not_ask_for_tags(reward: Reward) -> None:
    assert one(reward, f"{REASON}<answer>no idea</answer>", GOLD) == 0.0
    assert one(reward, f"{REASON}<answer>{J[:-1]},}}</answer>", GOLD) == 0.0  # could be repaired
    assert one(reward, "", GOLD) == 0.0
    assert one(reward, J, GOLD) == pytest.approx(1.0)


PIECES = st.sampled_from([
    "<think>", "<reason>", "</reason>", "<answer>", "</answer>", REASON, ANSWER, J, "\n", "{", "}",
    '{"[1]": 0, "[2]": 0, "[3]": 0}', '<answer>{"[1]": 0, "[2]": 0, "[3]": 0}</answer>', "why",
    "[1]: 9\n[2]: 9\n[3]: 9\n",
])  # fmt: skip


@given(st.lists(PIECES, max_size=8), st.sampled_from([REASON, f"<reason>{J}, {{</reason>"]))
def test_what_is_rewarded_is_what_inference_reads(thought: list[str], reason: str) -> None:
    text = "".join(thought) + "</think>" + reason + ANSWER
    assert one(grouprank_v3, text, GOLD) == pytest.approx(1.3)
    read = parse_scores(text, 3)
    assert (read.status, read.scores) == (Status.EXACT, {1: 3, 2: 2, 3: 1})


# --- Properties -------------------------------------------------------------------------------

SCORES = st.integers(0, 10)
DOCUMENTS = st.lists(
    st.tuples(SCORES, st.integers(1, 100).map(lambda tenths: tenths / 10), st.booleans()),
    min_size=1,
    max_size=25,
)


@named(ALL)
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_the_order_of_the_prompt_changes_nothing(
    reward: Reward, documents: list[tuple[int, float, bool]], rng: random.Random
) -> None:
    documents = [*documents, (5, 5.0, True)]
    shuffled = rng.sample(documents, len(documents))
    before, after = (
        one(reward, reply(scores), gold, relevant)
        for scores, gold, relevant in (zip(*order, strict=True) for order in (documents, shuffled))
    )
    assert before is not None
    assert before == after


@named(ALL)
@given(DOCUMENTS)
def test_bounds(reward: Reward, documents: list[tuple[int, float, bool]]) -> None:
    scores, gold, relevant = zip(*documents, (5, 5.0, True), strict=True)
    found = one(reward, reply(scores), gold, relevant)
    highest = {format_reward: 0.0, grouprank_v3: 1.3, grouprank_v1: 1.3}.get(reward, 1.0)
    assert found is not None
    assert 0.0 <= found <= highest + 1e-12


@named(ALL)
@pytest.mark.parametrize("gold", [[3, 0, 1], [10, 10, 0], [2, 5, 9], [4, 4, 4], [1, 0, 0]], ids=str)
def test_no_reply_is_better_than_the_gold(reward: Reward, gold: list[int]) -> None:
    best = one(reward, reply(gold), gold)
    assert best is not None
    replies = [reply(scores) for scores in itertools.product(range(11), repeat=3)]
    rows = {"gold": [gold] * len(replies), "relevant": [[s > max(gold) / 2 for s in gold]]}
    rows["relevant"] *= len(replies)
    found = reward(replies, **rows)
    assert len(found) == 11**3
    assert max(each for each in found if each is not None) <= best + 1e-12


@named(PRESETS)
@given(st.lists(SCORES, min_size=3, max_size=12), st.integers(0, 2**12))
def test_equal_and_extreme_scores_are_below_graded_gold(
    reward: Reward, gold: list[int], bits: int
) -> None:
    gold = [*gold, 0, 5, 10]  # graded: more than two levels
    best = one(reward, reply(gold), gold)
    assert best is not None
    extreme = [10 * (bits >> i & 1) for i in range(len(gold))]
    for scores in ([0] * len(gold), [10] * len(gold), extreme):
        found = one(reward, reply(scores), gold)
        assert found is not None
        assert found < best - 1e-6


@given(st.lists(SCORES, min_size=3, max_size=3), st.lists(SCORES, min_size=3, max_size=3))
def test_a_right_reply_is_above_every_wrong_one(scores: list[int], gold: list[int]) -> None:
    gold = [*gold[:2], 1 + gold[2] % 10]
    for preset in PRESETS:
        found = one(preset, reply(scores), gold)
        assert found is not None
        assert preset.bad_tags < preset.bad_json < found


@pytest.mark.parametrize("text", [*RIGHT, *BAD_JSON, *BAD_TAGS[4:]])
def test_format_and_weighted_parts_sum_to_the_preset(text: str) -> None:
    parts = {format_reward: 1.0, ndcg_reward: 1.0, recall_reward: 0.2, js_reward: 0.1}
    gold = [1, 2, 3]
    total = 0.0
    for reward, weight in parts.items():
        found = one(reward, text, gold)
        assert found is not None
        total += weight * found
    if one(ndcg_reward, text, gold) and one(format_reward, text, gold) == -0.5:
        assert total > -0.5  # scores, but wrong tags: parts do not look at those
    else:
        assert total == pytest.approx(one(grouprank_v3, text, gold))


# --- As a trainer calls them ------------------------------------------------------------------


@named(ALL)
def test_texts_and_messages_are_the_same(reward: Reward) -> None:
    texts = [reply([1, 2, 3]), reply([3, 2, 1]), "nothing"]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    turns = [[{"role": "assistant", "content": "hm"}, *message] for message in messages]
    rows = {"gold": [GOLD] * 3, "relevant": [RELEVANT] * 3}
    found = reward(texts, **rows)
    assert len(set(found)) > 1
    assert found == reward(messages, **rows) == reward(turns, **rows)


@named(ALL)
def test_every_completion_has_its_own_row(reward: Reward) -> None:
    golds, texts = [[3, 2, 1], [0, 9], [5]], [reply([1, 2, 3]), reply([9, 1]), reply([2])]
    relevant = [[True, False, True], [False, True], [True]]
    gather = reward(texts, gold=golds, relevant=relevant)
    alone = [one(reward, *each) for each in zip(texts, golds, relevant, strict=True)]
    assert gather == alone


@named((*ALL, rank_r1))
def test_no_completions_no_rewards(reward: Reward) -> None:
    assert reward([], gold=[], relevant=[], ground_truth=[]) == []


@named(PRESETS)
def test_a_preset_travels_and_has_its_name(reward: GroupReward) -> None:
    again = pickle.loads(pickle.dumps(reward))
    assert again == reward
    assert again.__name__ == reward.name
    assert one(again, reply([1, 2, 3]), GOLD) == one(reward, reply([1, 2, 3]), GOLD)


def test_weights_can_be_others() -> None:
    mine = dataclasses.replace(grouprank_v3, name="mine", ndcg=0.0, js=0.0, recall=0.4)
    assert one(mine, reply([1, 2, 3]), GOLD) == pytest.approx(0.4)
    assert one(mine, reply([1, 2, 3]), [0, 0, 0], RELEVANT) == pytest.approx(
        0.4
    )  # NDCG is not in it


@pytest.mark.parametrize(
    "wrong",
    [{"ndcg": -1.0}, {"rbo": math.nan}, {"kl": math.inf}, {"bad_json": 0.1}, {"bad_tags": -0.05},
     {"bad_tags": -math.inf}, {"bad_json": math.nan}],
    ids=str,
)  # fmt: skip
def test_weights_that_would_reward_the_wrong_thing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="give 0 or"):
        dataclasses.replace(grouprank_v3, **wrong)


# --- What cannot be computed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rewards", "gold", "relevant", "reason"),
    [
        pytest.param((ndcg_reward, *PRESETS), [0, 0], [1, 0], "no gold score", id="all-zero"),
        pytest.param(
            (recall_reward, *PRESETS), [5, 1], [0, 0], "nothing is rel", id="none-relevant"
        ),
        pytest.param((recall_reward, *PRESETS), [5, 1], None, "relevant is no", id="no-relevant"),
        pytest.param((recall_reward, *PRESETS), [5, 1], [1, None], "relevant is no", id="a-gap"),
        pytest.param(ALL, None, [1, 0], "gold is no list", id="no-gold"),
        pytest.param(ALL, [5, None], [1, 0], "gold is no list", id="a-score-missing"),
        pytest.param(ALL, [5, math.nan], [1, 0], "gold is no list", id="not-a-number"),
        pytest.param(ALL, [math.inf, 5], [1, 0], "gold is no list", id="infinite"),
        pytest.param(ALL, [5, -0.5], [1, 0], "gold is no list", id="negative"),
        pytest.param(ALL, [5, 10.5], [1, 0], "gold is no list", id="above-ten"),
        pytest.param(ALL, [5, "high"], [1, 0], "gold is no list", id="text"),
        pytest.param(ALL, [], [], "gold is no list", id="no-documents"),
    ],
)
def test_a_row_that_allows_no_reward_gives_none_whatever_the_reply(
    rewards: tuple[Reward, ...], gold: Any, relevant: Any, reason: str, caplog: Any
) -> None:
    texts = [reply([5, 1]), reply([5, 1]), f"{REASON}<answer></answer>", ""]
    golds, flags = [[5, 1], gold, gold, gold], [[True, False], relevant, relevant, relevant]
    for reward in rewards:
        logged: dict[str, float] = {}
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = reward(texts, gold=golds, relevant=flags, log_metric=logged.__setitem__)
        assert found[0] is not None
        assert found[1:] == [None, None, None]
        assert logged == {f"rewards/{reward.__name__}/not_computed": 0.75}
        (message,) = caplog.messages
        assert f"{reward.__name__}: 3 of 4 rewards not computed: {reason}" in message


@named((*ALL, rank_r1))
@pytest.mark.parametrize("completion", [None, 7, [], [{"role": "assistant"}], [{"content": None}]],
                         ids=str)  # fmt: skip
def test_a_completion_that_is_no_text_gives_none(
    reward: Reward, completion: Any, caplog: Any
) -> None:
    rows = {"gold": [[5]], "relevant": [[True]], "ground_truth": ["[1]"]}
    assert reward([completion], **rows) == [None]
    assert caplog.messages == [
        f"{reward.__name__}: 1 of 1 rewards not computed: the completion is no text (1)"
    ]


@named((*ALL, rank_r1))
def test_nothing_to_count_is_logged_as_0_and_not_warned_of(reward: Reward, caplog: Any) -> None:
    logged: dict[str, float] = {}
    rows = {"gold": [[5]], "relevant": [[True]], "ground_truth": ["[1]"]}
    reward(["no scores"], **rows, log_metric=logged.__setitem__)
    assert logged == {f"rewards/{reward.__name__}/not_computed": 0.0}
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({"gold": [[1]]}, "column gold has 1 entries for 2 completions", id="gold"),
        pytest.param(
            {"relevant": [[True]] * 3}, "column relevant has 3 entries for 2 comp", id="relevant"
        ),
        pytest.param(
            {"relevant": [[True], [True, False]]},
            "row 1: the column relevant has 2 entries and gold 1", id="within-a-row",
        ),
    ],
)  # fmt: skip
def test_columns_of_another_length_are_an_error(columns: dict[str, Any], message: str) -> None:
    rows = {"gold": [[1], [1]], "relevant": [[True], [True]]} | columns
    for reward in (recall_reward, *PRESETS):
        with pytest.raises(InputError, match=message):
            reward([reply([1])] * 2, **rows)


# --- Rank-R1 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "truth", "expected"),
    [
        pytest.param("<think>a</think> <answer>[3]</answer>", "[3]", 1.0, id="right"),
        pytest.param("<think>a</think>\n<answer> [3]\n</answer>\n", "[3]", 1.0, id="blanks"),
        pytest.param("<think>a</think><answer>[3]</answer>", 3, 1.0, id="number"),
        pytest.param("<think>a</think><answer>C</answer>", "C", 1.0, id="another-label"),
        pytest.param("a</think><answer>[3]</answer>", "[3]", 1.0, id="opened-by-the-template"),
        pytest.param("<think>a</think><answer>[2]</answer>", "[3]", 0.0, id="wrong"),
        pytest.param("<think>a</think><answer>[13]</answer>", 3, 0.0, id="a-longer-number"),
        pytest.param("<think>a</think><answer>3</answer>", 3, 0.0, id="without-brackets"),
        pytest.param("<think>a</think><answer>[3] [2]</answer>", "[3]", 0.0, id="two-labels"),
        pytest.param("<think>a</think><answer></answer>", "[3]", 0.0, id="empty"),
        pytest.param("<answer>[3]</answer>", "[3]", 0.0, id="no-thought"),
        pytest.param("<think>a <answer>[3]</answer>", "[3]", 0.0, id="thought-open"),
        pytest.param("<think>a</think><answer>[3]", "[3]", 0.0, id="answer-open"),
        pytest.param("<think>a</think>[3]", "[3]", 0.0, id="no-answer"),
        pytest.param("<think>a</think>so<answer>[3]</answer>", "[3]", 0.0, id="text-between"),
        pytest.param(
            "<think>a</think><answer>[3]</answer><answer>[3]</answer>", "[3]", 0.0, id="two"
        ),
        pytest.param("<reason>a</reason><answer>[3]</answer>", "[3]", 0.0, id="other-contract"),
        pytest.param("<think>a</think><answer>[3]</answer>", None, None, id="truth-missing"),
        pytest.param("<think>a</think><answer></answer>", " ", None, id="truth-empty"),
        pytest.param("<think>a</think><answer>[0]</answer>", 0, None, id="truth-below-1"),
        pytest.param("<think>a</think><answer>[3]</answer>", 3.0, None, id="truth-no-integer"),
    ],
)
def test_rank_r1(text: str, truth: Any, expected: float | None) -> None:
    assert rank_r1([text], ground_truth=[truth], prompts=["p"]) == [expected]
    messages = [[{"role": "assistant", "content": text}]]
    assert rank_r1(messages, ground_truth=[truth]) == [expected]


def test_rank_r1_wants_a_label_for_each_completion() -> None:
    with pytest.raises(InputError, match="ground_truth has 1 entries for 2 completions"):
        rank_r1(["", ""], ground_truth=["[1]"])
