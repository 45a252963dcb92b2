"""What the study of grouping compares: plans to spend calls by, and ways to merge the scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmrankers_groupwise import Candidate
from llmrankers_groupwise.methods.groupwise.aggregation import Fusion, fused_scores
from llmrankers_groupwise.methods.groupwise.calibration import Calibration, calibrated, shrunk
from llmrankers_groupwise.methods.groupwise.final_round import (
    final_round_groups,
    rank_spans,
    rerank_spans,
)
from llmrankers_groupwise.methods.groupwise.grouping import Strategy, make_groups
from llmrankers_groupwise.scores import mean_scores, ranked_positions
from llmrankers_groupwise.types import Group, ScoredGroup

Judge = Callable[[Sequence[Group]], list[ScoredGroup]]


@dataclass(frozen=True)
class Plan:
    """Who is asked about with whom; names as in GroupwiseSettings."""

    group_size: int
    grouping: Strategy = "random"
    num_repeat: int = 1
    overlap: int = 0
    anchors: int = 0
    final_round: int = 0
    final_calls: int = 1
    boundary: int = 0

    @property
    def name(self) -> str:
        """What is not as by default, in words."""
        parts = [self.grouping if self.num_repeat == 1 else f"{self.num_repeat} x {self.grouping}"]
        parts += [f"groups of {self.group_size}"]
        parts += [f"overlap {self.overlap}"] * bool(self.overlap)
        parts += [f"{self.anchors} anchors"] * bool(self.anchors)
        parts += [f"{self.final_calls} x final of {self.final_round}"] * bool(self.final_round)
        parts += [f"boundary {self.boundary}"] * bool(self.boundary)
        return ", ".join(parts)

    def first(self, n: int, seed: int, query: str) -> list[Group]:
        """The groups of the first round."""
        return make_groups(
            n,
            group_size=self.group_size,
            num_repeat=self.num_repeat,
            overlap=self.overlap,
            strategy=self.grouping,
            anchors=self.anchors,
            seed=seed,
            query=query,
        )

    def calls(self, n: int) -> int:
        """How many calls it takes for n candidates."""
        second = rank_spans(n, **self._second)
        finals = self.final_calls - 1 if self.final_round else 0
        return len(self.first(n, 0, "")) + len(second) + finals * bool(second)

    @property
    def shares(self) -> bool:
        """Whether documents are in more than one group."""
        return self != dataclasses.replace(
            self, num_repeat=1, overlap=0, anchors=0, final_round=0, boundary=0
        )

    @property
    def _second(self) -> dict[str, int]:
        return {
            "final_round": self.final_round,
            "boundary": self.boundary,
            "group_size": self.group_size,
        }

    def second(self, order: Sequence[int], seed: int, query: str) -> list[Group]:
        """The groups of the second round."""
        return final_round_groups(
            order,
            set(order),
            final_calls=self.final_calls,
            first_repeat=self.num_repeat,
            seed=seed,
            query=query,
            **self._second,
        )

    def rerank_spans(
        self,
        order: Sequence[int],
        scores: Sequence[float | None],
        scored: Sequence[ScoredGroup],
    ) -> list[int]:
        """The order after the second round, whose groups are given."""
        return rerank_spans(order, scores, rank_spans(len(order), **self._second), scored)


@dataclass(frozen=True)
class Merge:
    """How the groups' scores become one; names as in GroupwiseSettings."""

    calibration: Calibration = "none"
    fusion: Fusion = "mean"
    shrinkage: float = 0.0

    @property
    def name(self) -> str:
        """What is not as by default."""
        parts: list[str] = [self.calibration] * (self.calibration != "none")
        parts += [self.fusion] * (self.fusion != "mean")
        parts += [f"shrinkage {self.shrinkage:g}"] if self.shrinkage else []
        return " + ".join(parts) or "none"

    def scores(self, n: int, scored: Sequence[ScoredGroup]) -> list[float | None]:
        """A score for each of n candidates, None where nothing scored it."""
        comparable = calibrated(scored, self.calibration)
        if self.shrinkage:
            return shrunk(mean_scores(n, comparable), comparable, self.shrinkage)
        return fused_scores([_ANY] * n, comparable, self.fusion)


_ANY = Candidate("", "", 0.0)

MERGES = (
    Merge(), Merge("zscore"), Merge("minmax"), Merge("random_effects"), Merge("shared_shift"),
    Merge("shared_scale"), Merge("borda"), Merge("bradley_terry"), Merge(fusion="rrf"),
    Merge(shrinkage=0.5), Merge("random_effects", shrinkage=0.5),
)  # fmt: skip
SHARED = ("shared_shift", "shared_scale")
"""Calibrations that change nothing where no document is in two groups."""


@dataclass(frozen=True)
class Combination:
    """A plan and a merge."""

    plan: Plan
    merge: Merge = field(default_factory=Merge)

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.plan.name} | {self.merge.name}"


def plans(n: int, budget: int, group_size: int) -> list[Plan]:
    """The plans that take exactly this number of calls for n candidates; the first is the baseline.

    The baseline are random groups and nothing else: as many repeats as fit exactly, else smaller
    groups, else as many repeats as fit, which then take fewer calls.
    """
    base = Plan(group_size)
    groups = len(base.first(n, 0, ""))
    repeats, rest = divmod(budget, groups)
    found = list(_repeated(base, n, budget))
    found += [plan for size in range(1, group_size) if (plan := Plan(size)).calls(n) == budget][-1:]
    if not found:
        found = [dataclasses.replace(base, num_repeat=max(1, repeats))]
    if not rest:
        strategies: tuple[Strategy, ...] = ("strided", "snake", "sorted", "mixed")
        found += [
            dataclasses.replace(base, grouping=strategy, num_repeat=repeats)
            for strategy in strategies
            if repeats > 1 or strategy != "mixed"
        ]
    found += _second_rounds(base, groups, budget)
    for anchors in dict.fromkeys((max(1, group_size // 10), max(1, group_size // 5))):
        if 2 * anchors < group_size < n:
            shared = dataclasses.replace(base, anchors=anchors)
            found += _repeated(shared, n, budget)
            found += _second_rounds(shared, shared.calls(n), budget)
    overlaps = [
        plan
        for overlap in range(1, group_size)
        if (plan := dataclasses.replace(base, overlap=overlap)).calls(n) == budget
    ]
    if overlaps and budget > groups:
        found += [overlaps[-1], dataclasses.replace(overlaps[-1], grouping="sorted")]
    first, *others = dict.fromkeys(found)
    return [first, *(plan for plan in others if plan.calls(n) == budget)]


def _repeated(plan: Plan, n: int, budget: int) -> Iterator[Plan]:
    repeats, rest = divmod(budget, plan.calls(n))
    if repeats and not rest:
        yield dataclasses.replace(plan, num_repeat=repeats)


def _second_rounds(plan: Plan, groups: int, budget: int) -> Iterator[Plan]:
    """One, three or five repeats, and what is left for finals, or for one boundary group."""
    size = plan.group_size
    for repeats in (1, 2, 3, 5) if budget <= 3 * groups else (1, 3, 5):
        left = budget - repeats * groups
        strategies: tuple[Strategy, ...] = ("random",) if plan.anchors else ("random", "snake")
        for grouping in strategies if left > 0 else ():
            first = dataclasses.replace(plan, grouping=grouping, num_repeat=repeats)
            yield dataclasses.replace(first, final_round=size, final_calls=left)
            if plan.anchors:
                continue
            yield dataclasses.replace(first, final_round=max(2, size // 2), final_calls=left)
            if left == 1:
                yield dataclasses.replace(first, boundary=size)


def ranked(
    n: int, plan: Plan, merges: Sequence[Merge], judge: Judge, seed: int, query: str
) -> list[list[int]]:
    """The positions best first by each merge: what `methods.groupwise` does, without texts."""
    first = judge(plan.first(n, seed, query))
    orders = []
    for merge in merges:
        scored = first
        scores = merge.scores(n, scored)
        order = ranked_positions(range(n), scores)
        groups = plan.second(order, seed, query)
        if groups:
            second = judge(groups)
            order = plan.rerank_spans(order, merge.scores(n, first + second), second)
        orders.append(order)
    return orders


def combinations(n: int, budget: int, group_size: int) -> list[Combination]:
    """Every plan with every merge that can make a difference; the first is the baseline."""
    return [
        Combination(plan, merge)
        for plan in plans(n, budget, group_size)
        for merge in MERGES
        if plan.shares or merge.calibration not in SHARED
    ]


def settings_of(combination: Combination) -> dict[str, Any]:
    """As keyword arguments of GroupwiseLlmRanker."""
    return {**vars(combination.plan), **vars(combination.merge)}
