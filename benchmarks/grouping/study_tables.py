"""The tables and the plot of the study of grouping."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from plans import Combination

DRAWS = 2000
BASELINE = "random groups"


@dataclasses.dataclass
class Measured:
    """nDCG@10 of combinations.

    Attributes:
        combinations: what was measured; the first is the baseline.
        values: nDCG@10, shape (combinations, seeds, queries).
    """

    combinations: list[Combination]
    values: Any

    @property
    def chosen(self) -> int:
        """The best combination on the queries that choose, those at even places."""
        return int(self.values[:, :, ::2].mean(axis=(1, 2)).argmax())

    def reported(self, which: int) -> float:
        """The mean on the other queries."""
        return float(self.values[which, :, 1::2].mean())

    def gain(self, which: int) -> tuple[float, float, float]:
        """Mean difference from the baseline on the other queries, and its interval."""
        differences = self.values[which, :, 1::2] - self.values[0, :, 1::2]
        return float(differences.mean()), *interval(differences)


def interval(values: Any) -> tuple[float, float]:
    """The bootstrap's 95 % interval of the mean of values of shape (seeds, queries)."""
    rng = np.random.default_rng(0)
    seeds, queries = values.shape
    means = np.empty(DRAWS)
    for draw in range(DRAWS):
        rows, columns = rng.integers(seeds, size=seeds), rng.integers(queries, size=queries)
        means[draw] = values[np.ix_(rows, columns)].mean()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def gained(gain: tuple[float, float, float]) -> str:
    """A difference with its interval, and a star where that leaves out 0."""
    mean, low, high = gain
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]{' *' if low > 0 or high < 0 else ''}"


def chosen_table(title: str, found: Mapping[int, Measured]) -> list[str]:
    """For each budget random groups and what the choosing queries chose."""
    lines = [f"\n## {title}\n", "| calls | random groups | chosen | plan | merge | gain |"]
    lines += ["|---:|---:|---:|---|---|---|"]
    for budget, each in found.items():
        best = each.combinations[each.chosen]
        lines.append(
            f"| {budget} | {each.reported(0):.4f} | {each.reported(each.chosen):.4f} "
            f"| {best.plan.name} | {best.merge.name} | {gained(each.gain(each.chosen))} |"
        )
    return lines


def every_table(found: Mapping[int, Measured]) -> list[str]:
    """Every combination on the reporting queries, best first."""
    lines = ["\n| calls | plan | merge | nDCG@10 | gain over random groups |"]
    lines += ["|---:|---|---|---:|---|"]
    for budget, each in found.items():
        order = sorted(range(len(each.combinations)), key=lambda w: -each.reported(w))
        for which in order:
            names = each.combinations[which]
            lines.append(
                f"| {budget} | {names.plan.name} | {names.merge.name} "
                f"| {each.reported(which):.4f} | {gained(each.gain(which))} |"
            )
    return lines


def common_table(results: Mapping[str, Mapping[int, Measured]]) -> list[str]:
    """One combination for all collections of lists of a length, by the mean of their choosing."""
    lines = ["\n## One for all\n", "| calls | plan | merge | gain on each |", "|---:|---|---|---|"]
    for budget in sorted({budget for found in results.values() for budget in found}):
        there = {name: found[budget] for name, found in results.items() if budget in found}
        kinds = {name: tuple(each.combinations) for name, each in there.items()}
        usual = max(kinds.values(), key=list(kinds.values()).count)  # lists of the usual length
        there = {name: each for name, each in there.items() if kinds[name] == usual}
        same = set(usual)
        means = {
            each: sum(
                float(m.values[m.combinations.index(each), :, ::2].mean()) for m in there.values()
            )
            for each in same
        }
        if means:
            best = max(means, key=lambda each: (means[each], each.name))
            gains = "; ".join(
                f"{name} {gained(m.gain(m.combinations.index(best)))}" for name, m in there.items()
            )
            lines.append(f"| {budget} | {best.plan.name} | {best.merge.name} | {gains} |")
    return lines


def save_plot(results: Mapping[str, Mapping[int, Measured]], path: Path) -> None:
    """By calls, nDCG@10 of random groups and of what was chosen, and what that gains.

    Bars are intervals of the gain: those of nDCG@10 itself would say how queries differ.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * len(results), 5.0), layout="constrained")
    rows = figure.subplots(2, len(results), squeeze=False, sharex="col")
    for above, below, (name, found) in zip(*rows, results.items(), strict=True):
        calls = list(found)
        chosen = [each.reported(each.chosen) for each in found.values()]
        above.plot(calls, [each.reported(0) for each in found.values()], "o-", label=BASELINE)
        above.plot(calls, chosen, "s-", label="chosen")
        means, lows, highs = np.array([each.gain(each.chosen) for each in found.values()]).T
        below.errorbar(calls, means, [means - lows, highs - means], marker="s", capsize=2)
        below.axhline(0.0, color="black", linewidth=0.8)
        above.set(title=name, ylabel="nDCG@10", xscale="log")
        below.set(xlabel="calls a query", ylabel="gain")
        below.set_xticks(calls, [str(budget) for budget in calls])
        below.minorticks_off()
    rows[0][0].legend()
    figure.savefig(path)
