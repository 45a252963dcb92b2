"""Which single changes of random groups deserve to become defaults.

A change is fixed before anything is measured, so all queries count. It is held against random
groups for the same number of calls, query by query (means over seeds), by paired t tests, which
Holm's correction takes together for all budgets and collections of a judge. It may become a default
if it is better by more than chance in most settings.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grouping_plans import Combination, Merge, Plan

from llmrankers_groupwise.grouping import Strategy
from llmrankers_groupwise.significance import confidence_interval, holm, t_test

LEVEL = 0.05
BASELINE = "random groups"


def changes(n: int, budget: int, group_size: int) -> dict[str, Combination]:
    """Random groups, and each change of them that takes so many calls for n candidates, by name.

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
        if final is not None:
            for merge in (Merge("shared_shift"), Merge("bradley_terry"), Merge(shrinkage=0.5)):
                found[f"{share} finals, {merge.name}"] = Combination(final, merge)
    return found


@dataclass(frozen=True)
class Setting:
    """One change against random groups: under a judge, on a collection, for so many calls.

    Attributes:
        differences: of nDCG@10, by query, means over seeds.
        p_value: None where every query has the same difference.
    """

    change: str
    judge: str
    collection: str
    budget: int
    differences: tuple[float, ...]
    p_value: float | None

    @property
    def mean(self) -> float:
        """The mean difference."""
        return statistics.fmean(self.differences)


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
            tuple(float(each) for each in row - means[0]),
            t_test([*map(float, row)], [*map(float, means[0])]),
        )
        for name, row in zip(names[1:], means[1:], strict=True)
    ]


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


def decision_table(settings: Sequence[Setting]) -> list[str]:
    """For each change how often it is better, and whether it may become a default."""
    verdicts = decided(settings)
    lines = ["| change | settings | mean gain | better | no difference | worse | default |"]
    lines += ["|---|---:|---:|---:|---:|---:|---|"]
    rows = []
    for change in dict.fromkeys(each.change for each in settings):
        own = [each for each in settings if each.change == change]
        better, same, worse = (sum(verdicts[x] == sign for x in own) for sign in (1, 0, -1))
        mean = statistics.fmean(each.mean for each in own)
        able = "yes" if better > len(own) / 2 else "no"
        row = f"| {change} | {len(own)} | {mean:+.4f} | {better} | {same} | {worse} | {able} |"
        rows.append((better - worse, mean, row))
    return [*lines, *(row for *_, row in sorted(rows, reverse=True))]


def gains_table(settings: Sequence[Setting], judge: str) -> list[str]:
    """Each change under one judge: its gain with the interval of Student's t distribution."""
    verdicts = decided(settings)
    own = [each for each in settings if each.judge == judge]
    places = list(dict.fromkeys((each.collection, each.budget) for each in own))
    heads = " | ".join(f"{name}, {budget}" for name, budget in places)
    lines = [f"| change | {heads} |", f"|---|{'---|' * len(places)}"]
    by_place = {(each.change, each.collection, each.budget): each for each in own}
    for change in dict.fromkeys(each.change for each in own):
        cells = [_cell(by_place.get((change, *place)), verdicts) for place in places]
        lines.append(f"| {change} | {' | '.join(cells)} |")
    return lines


def places_table(settings: Sequence[Setting]) -> list[str]:
    """Under how many judges each change is better, and worse, by collection and budget."""
    verdicts = decided(settings)
    places = list(dict.fromkeys((each.collection, each.budget) for each in settings))
    heads = " | ".join(f"{name}, {budget}" for name, budget in places)
    lines = [f"| change | {heads} |", f"|---|{'---:|' * len(places)}"]
    for change in dict.fromkeys(each.change for each in settings):
        cells = []
        for place in places:
            own = [x for x in settings if (x.change, x.collection, x.budget) == (change, *place)]
            better, worse = (sum(verdicts[each] == sign for each in own) for sign in (1, -1))
            cells.append(f"{better} / {worse}" if own else "")
        lines.append(f"| {change} | {' | '.join(cells)} |")
    return lines


def judges_table(settings: Sequence[Setting], names: Sequence[str]) -> list[str]:
    """These changes under every judge: the mean gain, and in how many settings better and worse."""
    verdicts = decided(settings)
    lines = [f"| judge | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for judge in dict.fromkeys(each.judge for each in settings):
        cells = []
        for name in names:
            own = [each for each in settings if (each.judge, each.change) == (judge, name)]
            better, worse = (sum(verdicts[each] == sign for each in own) for sign in (1, -1))
            mean = statistics.fmean(each.mean for each in own)
            cells.append(f"{mean:+.3f} ({better} better, {worse} worse of {len(own)})")
        lines.append(f"| {judge} | {' | '.join(cells)} |")
    return lines


def _cell(setting: Setting | None, verdicts: Mapping[Setting, int]) -> str:
    if setting is None:
        return ""
    low, high = confidence_interval(setting.differences) or (0.0, 0.0)
    return f"{setting.mean:+.3f} [{low:+.3f}, {high:+.3f}]{' *' if verdicts[setting] else ''}"
