"""Which single changes of random groups deserve to become defaults.

All queries count, and none are kept back: the list below grew while results on them were looked at,
so what comes out describes them and confirms nothing. A change is held against random
groups for the same number of calls, query by query (means over seeds), by paired t tests, which
Holm's correction takes together for all budgets and collections of a judge. It may become a default
if it is better by more than chance in most settings.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plans import Combination, Merge, Plan
from study_tables import BASELINE

from llmrankers_groupwise.evaluation.significance import holm, t_test
from llmrankers_groupwise.methods.groupwise.grouping import Strategy

LEVEL = 0.05
_TOGETHER = (Merge(shrinkage=0.5), Merge(fusion="rrf"))
"""Merges that go well with finals, by the study of all combinations."""


def changes(n: int, budget: int, group_size: int) -> dict[str, Combination]:
    """Random groups, and each change of them that takes `budget` calls for n candidates.

    Random groups take one repeat after the other; where calls are left over, smaller groups.
    """
    whole = Plan(group_size)
    groups = whole.calls(n)
    repeats, left = divmod(budget, groups)
    if not left:
        base = dataclasses.replace(whole, num_repeat=repeats)
    else:
        fitting = [Plan(size) for size in range(1, group_size) if Plan(size).calls(n) == budget]
        if not fitting:
            return {}
        base = fitting[-1]
    found = {BASELINE: base}
    strategies: tuple[Strategy, ...] = ("strided", "snake", "sorted", "mixed")
    for grouping in strategies:
        found[f"{grouping} groups"] = dataclasses.replace(base, grouping=grouping)
    for name, share, size in (
        ("one round, then finals of 20", 0.0, group_size),
        ("one round, then finals of 10", 0.0, max(2, group_size // 2)),
        ("half of the calls finals of 20", 0.5, group_size),
        ("a quarter of the calls finals of 20", 0.75, group_size),
    ):
        repeats = max(1, int(share * budget) // groups)
        if (calls := budget - repeats * groups) > 0:
            found[name] = dataclasses.replace(
                whole, num_repeat=repeats, final_round=size, final_calls=calls
            )
    if not left and repeats == 1 and budget > 1:  # the calls of one round, which are longer then
        larger = Plan(-(-n // (budget - 1)))
        found["one group less, then a final"] = dataclasses.replace(
            larger, final_round=larger.group_size
        )
    for anchors in (group_size // 10, group_size // 5):
        shared = dataclasses.replace(whole, anchors=anchors)
        if anchors and not budget % shared.calls(n):
            repeats = budget // shared.calls(n)
            found[f"{anchors} anchors"] = dataclasses.replace(shared, num_repeat=repeats)
    fitted = {name: plan for name, plan in found.items() if plan.calls(n) == budget}
    return _merged(fitted, base)


def _merged(plans: Mapping[str, Plan], base: Plan) -> dict[str, Combination]:
    """Each plan with its merge, and the first one with every other merge."""
    found = {name: Combination(plan) for name, plan in plans.items()}
    for name, plan in plans.items():
        if "anchors" in name:
            found[f"{name}, shared_shift"] = Combination(plan, Merge("shared_shift"))
    merges = [Merge(calibration) for calibration in ("zscore", "minmax", "random_effects", "borda")]
    merges += [Merge("bradley_terry"), Merge(fusion="rrf"), Merge(shrinkage=0.5)]
    merges += [Merge("shared_shift")] * base.shares
    found |= {merge.name: Combination(base, merge) for merge in merges}
    for share in ("half", "quarter"):
        final = next((plan for name, plan in plans.items() if f"{share} of the" in name), None)
        if final is None:
            continue
        for merge in (*_TOGETHER, Merge("shared_shift"), Merge("bradley_terry")):
            found[f"{share} finals, {merge.name}"] = Combination(final, merge)
        dealt = dataclasses.replace(final, grouping="strided")
        for merge in (Merge(), *_TOGETHER):
            after = f", {merge.name}" * (merge != Merge())
            found[f"strided, {share} finals{after}"] = Combination(dealt, merge)
    return found


@dataclass(frozen=True)
class Setting:
    """One change against random groups: under a judge, on a collection, for a number of calls.

    Attributes:
        values: nDCG@10 by query, means over seeds.
        baseline: the same of what it is held against.
    """

    change: str
    judge: str
    collection: str
    budget: int
    values: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def differences(self) -> list[float]:
        """What each query gains."""
        return [ours - theirs for ours, theirs in zip(self.values, self.baseline, strict=True)]

    @property
    def mean(self) -> float:
        """The mean gain."""
        return statistics.fmean(self.differences)

    @functools.cached_property
    def p_value(self) -> float | None:
        """Of the paired t test; None where every query gains the same."""
        return t_test(self.values, self.baseline)


def settings_of(
    judge: str, collection: str, budget: int, names: Sequence[str], values: Any
) -> list[Setting]:
    """The settings that one measurement has.

    Args:
        judge: whose scores.
        collection: its queries.
        budget: calls of each.
        names: of changes, random groups first.
        values: nDCG@10, shape (changes, seeds, queries).
    """
    means = values.mean(axis=1)
    return [
        Setting(
            name,
            judge,
            collection,
            budget,
            tuple(map(float, row)),
            tuple(map(float, means[0])),
        )
        for name, row in zip(names[1:], means[1:], strict=True)
    ]


def against(
    settings: Sequence[Setting], change: str, rival: str, calls: Mapping[int, int] | None = None
) -> list[Setting]:
    """A change held against another one, or against random groups for another number of calls.

    Args:
        settings: all there are.
        change: what is judged.
        rival: what it is held against.
        calls: of the change -> of the rival; None for the same. Others are left out.
    """
    rivals: dict[tuple[str, str, int | None], tuple[float, ...]] = {
        (each.judge, each.collection, each.budget): each.baseline
        if rival == BASELINE
        else each.values
        for each in settings
        if rival in (BASELINE, each.change)
    }
    found = []
    for each in settings:
        there = each.budget if calls is None else calls.get(each.budget)
        values = rivals.get((each.judge, each.collection, there))
        if each.change == change and values is not None:
            asked = f", {there} calls" if calls else ""
            name = f"{change}, against {rival}{asked}"
            found.append(dataclasses.replace(each, change=name, baseline=values))
    return found


def decided(settings: Sequence[Setting]) -> dict[Setting, int]:
    """1 for better by more than chance, -1 for worse, 0 for neither, of each setting."""
    families = defaultdict(list)
    for each in settings:
        families[each.change, each.judge].append(each)
    found = {}
    for family in families.values():
        corrected = holm([1.0 if each.p_value is None else each.p_value for each in family])
        for each, p_value in zip(family, corrected, strict=True):
            sign = 1 if each.mean > 0 else -1
            found[each] = sign if p_value < LEVEL else 0
    return found
