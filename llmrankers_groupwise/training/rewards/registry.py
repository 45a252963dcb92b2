"""The rewards by name, and which rows each can be given."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmrankers_groupwise.training.rewards.rewards import (
    GroupReward,
    grouprank_v1,
    grouprank_v3,
    rank_r1,
)

__all__ = ["COLUMNS", "REWARDS", "KnownReward", "method_of", "read_reward", "reward_weights"]


@dataclass(frozen=True)
class KnownReward:
    """A reward that has a name.

    Attributes:
        reward: the function, in TRL's form.
        method: the method whose replies it is for.
    """

    reward: Callable[..., Any]
    method: str


REWARDS: Mapping[str, KnownReward] = {
    "grouprank_v3": KnownReward(grouprank_v3, "groupwise"),
    "grouprank_v1": KnownReward(grouprank_v1, "groupwise"),
    "rank_r1": KnownReward(rank_r1, "setwise"),
}

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "groupwise": ("gold", "relevant"),
    "setwise": ("ground_truth",),
}
"""Method -> the columns of its rows that a reward is given."""


def method_of(reward: object) -> str | None:
    """The method that a reward is for; None for a function of one's own, which may be for any."""
    if isinstance(reward, GroupReward):
        return "groupwise"
    return next((each.method for each in REWARDS.values() if each.reward is reward), None)


def reward_weights(reward: GroupReward) -> dict[str, Any]:
    """Name and weights of a reward, as `read_reward` reads them; whether it looks for tags is not.

    That follows from the prompt.
    """
    names = (each.name for each in dataclasses.fields(reward) if each.name != "tags")
    return {name: getattr(reward, name) for name in names}


def read_reward(text: str) -> str | GroupReward:
    """A reward's name as it is, or a JSON object of weights instead of those of grouprank_v3.

    Raises:
        ValueError: the object has what a GroupReward does not.
    """
    if not text.startswith("{"):
        return text
    known = list(reward_weights(grouprank_v3))
    try:
        weights = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not JSON: {error}") from error
    for name, value in weights.items():
        if name not in known:
            raise ValueError(
                f"there is no weight {name!r}: give weights of {', '.join(known[1:])}, or one of "
                f"{', '.join(REWARDS)}"
            )
        if name != "name" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name} is {value!r}: give a number")
    return dataclasses.replace(grouprank_v3, **{"name": "weighted", **weights})
