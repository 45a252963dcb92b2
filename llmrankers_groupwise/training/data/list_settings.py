"""The settings of training lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.settings import FilePath, check_choices
from llmrankers_groupwise.training.data.labels import SMALLEST, Kind, fused_labels, size_shares
from llmrankers_groupwise.training.data.reasons import Reasons

__all__ = ["ListSettings"]

Method = Literal["groupwise", "setwise"]


@dataclass(frozen=True, kw_only=True)
class ListSettings:
    """What is made of labelled pools.

    Attributes:
        method: the method whose lists are made.
        reasons: the reasoning in SFT rows: none, a teacher's own (teacher), or written for known
            scores (rationalised).
        prompt_file: the prompt of the model to train; by default groupwise (groupwise_scores if
            there are no reasons), or setwise_think.
        sft_lists: the number of lists of each query for SFT.
        rl_lists: the number of lists of each query for reinforcement learning.
        group_sizes: the sizes of groupwise lists, each equally likely; by default the published
            shares of 5 to 20.
        setwise_size: the number of documents in a setwise list.
        positives: the number of positives of each query for retrievers; 0 makes no such rows.
        negatives: the number of hard negatives of each query for retrievers.
        beta: the share of the pointwise teacher in the labels, 0 to 1.
        min_agreement: for reasons of a teacher: the share of pairs that must be in the order of
            the labels.
        seed: the seed of everything that is drawn at random.

    Raises:
        SettingsError: a setting is out of its range.
    """

    method: Method = "groupwise"
    reasons: Reasons = "none"
    prompt_file: FilePath | None = None
    sft_lists: int = 4
    rl_lists: int = 2
    group_sizes: tuple[int, ...] = ()
    setwise_size: int = 20
    positives: int = 1
    negatives: int = 7
    beta: float = 0.5
    min_agreement: float = 0.75
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("sft_lists", "rl_lists", "positives", "negatives"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} is {getattr(self, name)}: give 0 or more")
        if not self.sft_lists + self.rl_lists + self.positives:
            raise SettingsError("nothing is to be made: give sft_lists, rl_lists or positives")
        if self.positives and not self.negatives:
            raise SettingsError(
                "rows for retrievers have negatives: give 1 or more, or positives 0"
            )
        if self.setwise_size < 2 or any(size < 2 for size in self.group_sizes):
            raise SettingsError("a list has 2 documents at least: give larger sizes")
        if not 0.0 <= self.min_agreement <= 1.0:
            raise SettingsError(f"min_agreement is {self.min_agreement}: give a number 0..1")
        fused_labels((), (), self.beta)

    def shares(self, kind: Kind) -> dict[int, float]:
        """Size -> its share of groupwise lists."""
        given = sorted(set(self.group_sizes))
        return {size: 1 / len(given) for size in given} if given else size_shares(kind)

    @property
    def smallest(self) -> int:
        """The fewest documents that a pool must have."""
        return min(self.group_sizes, default=SMALLEST) if self.method == "groupwise" else SMALLEST

    @property
    def prompt(self) -> str:
        """The prompt file's path or name."""
        bare = "groupwise_scores" if self.reasons == "none" else "groupwise"
        own = bare if self.method == "groupwise" else "setwise_think"
        return self.prompt_file or own
