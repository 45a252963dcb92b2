"""Rewards for reinforcement learning, as TRL's GRPOTrainer calls them.

    f(completions, *, gold, relevant, **columns) -> list[float | None]

`gold[i]` holds the gold scores 0..10 of the documents of prompt i in prompt order, `relevant[i]`
whether each counts as relevant. What else TRL passes is let through; when a reward is None, and
how that is counted, is in `training.rewards.columns`.

The parser of inference decides what a reply scores (`prompting.parse_scores.parse_scores`). Only an
EXACT reply has scores: each label once, with a whole number 0..10. A repaired one has none here, as
the model is to learn what needs no repair. Without scores a part is 0, and no reply with scores is
below that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.prompting.parse_scores import parse_scores
from llmrankers_groupwise.prompting.tags import REASON_AND_ANSWER, THINK_END, THOUGHT_AND_ANSWER
from llmrankers_groupwise.training.rewards.columns import (
    Completion,
    Rewards,
    Row,
    each_reward,
    read_labels,
    read_rows,
)
from llmrankers_groupwise.training.rewards.measures import (
    expected_ndcg,
    expected_rbo,
    expected_recall,
    js_divergence,
    kl_divergence,
)
from llmrankers_groupwise.types import Status

__all__ = [
    "GroupReward",
    "format_reward",
    "grouprank_v1",
    "grouprank_v3",
    "js_reward",
    "kl_reward",
    "ndcg_reward",
    "rank_r1",
    "rbo_reward",
    "recall_reward",
]


# --- Parts: functions for a trainer, weighted by GRPOConfig.reward_weights --------------------


def format_reward(completions: Sequence[Completion], *, gold: Any, **columns: Any) -> Rewards:
    """0 when tags and JSON are right, -0.1 when only the tags are, -0.5 otherwise.

    These are the tiers of GroupRank v3 without R_G. So this and the weighted parts sum to
    `grouprank_v3`, but for replies with scores and wrong tags: the parts do not look at tags.
    """
    tiers = GroupReward("format_reward", bad_json=-0.1, bad_tags=-0.5)
    rows = read_rows(completions, (), gold)
    return each_reward(tiers.name, completions, rows, columns, tiers.of)


def ndcg_reward(completions: Sequence[Completion], *, gold: Any, **columns: Any) -> Rewards:
    """Expected NDCG@10, 0..1, with the gold scores as gains: `measures.expected_ndcg`."""
    return _part("ndcg", completions, columns, gold)


def recall_reward(
    completions: Sequence[Completion], *, gold: Any, relevant: Any, **columns: Any
) -> Rewards:
    """Expected recall@10, 0..1, of what is relevant: `measures.expected_recall`.

    The gold order scores best where what is relevant has higher gold scores than what is not.
    """
    return _part("recall", completions, columns, gold, relevant)


def rbo_reward(completions: Sequence[Completion], *, gold: Any, **columns: Any) -> Rewards:
    """Expected rank-biased overlap with the gold order, 0..1, p = 0.9: `measures.expected_rbo`."""
    return _part("rbo", completions, columns, gold)


def js_reward(completions: Sequence[Completion], *, gold: Any, **columns: Any) -> Rewards:
    """1 - JS(P, Q) in bits, 0..1; P is of the reply's scores, Q of the gold's: `agreement`."""
    return _part("js", completions, columns, gold)


def kl_reward(completions: Sequence[Completion], *, gold: Any, **columns: Any) -> Rewards:
    """exp(-KL(Q || P)), 0..1. KL is in nats, which is the same as 2 ** -KL in bits."""
    return _part("kl", completions, columns, gold)


# --- Presets ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class GroupReward:
    """A weighted sum of parts where tags and JSON are right, a constant where they are not.

    Tags are right when the reply is one closed <reason> block and then one closed <answer> block,
    with spaces around them at most and no other tag of these, or <think>, in them. (Our definition;
    letters of either case, as for the parser.) What a thinking model writes of its own accord may
    come before, up to the first </think>; its opening tag may be in the prompt. It does not
    replace the reason. JSON is right when the parser calls the answer block EXACT; it
    allows a code fence or prose around the object. Inference then reads the same scores from the
    whole reply, as EXACT.

    An instance is called as the functions above. It can be pickled, and TRL logs it by its name.
    For other weights: `dataclasses.replace(grouprank_v3, name="mine", recall=0.4)`.

    Attributes:
        name: what the reward is logged as.
        ndcg, recall, rbo, js, kl: weights of the parts, 0 or more. A row for which a part that
            counts cannot be computed gets None.
        bad_json: the reward when the tags are right and the JSON is not, 0 or less.
        bad_tags: the reward of all other replies, at most `bad_json`.
        tags: False for prompts that ask for the JSON alone: no tags are looked for, so none are
            wrong.
    """

    name: str
    ndcg: float = 0.0
    recall: float = 0.0
    rbo: float = 0.0
    js: float = 0.0
    kl: float = 0.0
    bad_json: float = 0.0
    bad_tags: float = 0.0
    tags: bool = True

    def __post_init__(self) -> None:
        for part in _PARTS:
            weight = getattr(self, part)
            if not 0.0 <= weight < math.inf:
                raise SettingsError(f"{self.name}: the weight {part} is {weight}: give 0 or more")
        if not -math.inf < self.bad_tags <= self.bad_json <= 0.0:
            raise SettingsError(
                f"{self.name}: bad_json is {self.bad_json} and bad_tags {self.bad_tags}: "
                f"give 0 or less, the second at most the first"
            )

    def __call__(
        self, completions: Sequence[Completion], *, gold: Any, relevant: Any, **columns: Any
    ) -> Rewards:
        """One reward for each completion; None where the row allows none."""
        counting = [part for part in _PARTS if getattr(self, part)]
        rows = read_rows(completions, counting, gold, relevant)
        return each_reward(self.name, completions, rows, columns, self.of)

    @property
    def __name__(self) -> str:  # TRL logs callables by it
        return self.name

    def of(self, text: str, row: Row) -> float:
        """The reward of one reply."""
        answer = text
        if self.tags:
            match = _contract(text)
            if match is None:
                return self.bad_tags
            answer = match[1]
        scores = _scores(answer, len(row.gold))
        if scores is None:
            return self.bad_json
        reward = 0.0
        for part, measure in _PARTS.items():
            if weight := getattr(self, part):
                reward += weight * measure(scores, row)
        return reward


def rank_r1(completions: Sequence[Completion], *, ground_truth: Any, **columns: Any) -> Rewards:
    """Rank-R1 (arXiv 2503.06034): 1 when the answer is the relevant document's label, 0 otherwise.

    A reply is one <think> block and then one <answer> block, by the same rule as a GroupReward's
    tags; the opening <think> may be in the prompt. (The authors' code takes the first such
    pair anywhere in the text.)

    Args:
        completions: the replies.
        ground_truth: for each the label, "[3]" or the number 3; the answer must be that text.
        columns: all else that TRL passes.
    """
    rows = read_labels(completions, ground_truth)

    def reward(text: str, label: str) -> float:
        match = THOUGHT_AND_ANSWER.fullmatch(text)
        return float(match is not None and match["content"].strip() == label)

    return each_reward("rank_r1", completions, rows, columns, reward)


# --- What a reply holds -----------------------------------------------------------------------

_THOUGHT_END = re.compile(THINK_END, re.IGNORECASE)


def _contract(text: str) -> re.Match[str] | None:
    """Reason and answer, after what a thinking model wrote of its own accord."""
    match = REASON_AND_ANSWER.fullmatch(text)  # there is no </think> in it then
    if match is None and (thought := _THOUGHT_END.search(text)):
        match = REASON_AND_ANSWER.fullmatch(text, thought.end())
    return match


def _scores(text: str, n: int) -> tuple[float, ...] | None:
    """The scores of labels 1..n if the parser reads the reply without repair."""
    read = parse_scores(text, n)
    return tuple(read.scores.values()) if read.status is Status.EXACT else None


# --- Rewards ----------------------------------------------------------------------------------

# Each for a row that `read_rows` found no fault with.
_PARTS: Mapping[str, Callable[[tuple[float, ...], Row], float]] = {
    "ndcg": lambda scores, row: expected_ndcg(scores, row.gold),
    "recall": lambda scores, row: expected_recall(scores, row.relevant),
    "rbo": lambda scores, row: expected_rbo(scores, row.gold),
    "js": lambda scores, row: 1.0 - js_divergence(scores, row.gold),
    "kl": lambda scores, row: math.exp(-kl_divergence(scores, row.gold)),
}


def _part(
    part: str, completions: Sequence[Completion], columns: Mapping[str, Any], *row: Any
) -> Rewards:
    measure = _PARTS[part]

    def reward(text: str, row: Row) -> float:
        scores = _scores(text, len(row.gold))
        return 0.0 if scores is None else measure(scores, row)

    rows = read_rows(completions, (part,), *row)
    return each_reward(f"{part}_reward", completions, rows, columns, reward)


grouprank_v3 = GroupReward(
    "grouprank_v3", ndcg=1.0, recall=0.2, js=0.1, bad_json=-0.1, bad_tags=-0.5
)
"""GroupRank (arXiv 2511.11653v3): R_G = NDCG@10 + 0.2 Recall@10 + 0.1 (1 - JS); -0.1; -0.5."""

grouprank_v1 = GroupReward(
    "grouprank_v1", ndcg=0.5, rbo=0.5, recall=0.2, kl=0.1, bad_json=0.0, bad_tags=-1.0
)
"""GroupRank v1, by our reading of a text that leaves much open:

R_H = 0.2 Recall@10 + (0.5 NDCG@10 + 0.5 RBO) + 0.1 exp(-KL(Q || P)); of its "0 or -1 for a wrong
format" 0 where the tags are right and the JSON is not, and -1 otherwise.
"""
