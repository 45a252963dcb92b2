"""The tables and the plot of what may become a default."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from decision import Setting, decided
from study_tables import BASELINE

from llmrankers_groupwise.evaluation.significance import confidence_interval


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
    """Each change under one judge: its gain with the interval of Student's t distribution.

    The first row says what random groups give, where all are held against them.
    """
    verdicts = decided(settings)
    own = [each for each in settings if each.judge == judge]
    places = list(dict.fromkeys((each.collection, each.budget) for each in own))
    heads = " | ".join(f"{name}, {budget}" for name, budget in places)
    lines = [f"| change | {heads} |", f"|---|{'---|' * len(places)}"]
    by_place = {(each.change, each.collection, each.budget): each for each in own}
    bases = {
        place: {x.baseline for x in own if place == (x.collection, x.budget)} for place in places
    }
    if all(len(each) == 1 for each in bases.values()):
        cells = [f"{statistics.fmean(next(iter(each))):.3f}" for each in bases.values()]
        lines.append(f"| {BASELINE}, nDCG@10 | {' | '.join(cells)} |")
    for change in dict.fromkeys(each.change for each in own):
        cells = [_cell(by_place.get((change, *place)), verdicts) for place in places]
        lines.append(f"| {change} | {' | '.join(cells)} |")
    return lines


def places_table(settings: Sequence[Setting], *, by_collection: bool = True) -> list[str]:
    """In how many settings each change is better, and worse, by calls, and by collection.

    If not by collection, then also of how many, and the mean gain.
    """
    verdicts = decided(settings)

    def place(each: Setting) -> str:
        return f"{each.collection}, {each.budget}" if by_collection else f"{each.budget} calls"

    places = list(dict.fromkeys(map(place, settings)))
    lines = [f"| change | {' | '.join(places)} |", f"|---|{'---:|' * len(places)}"]
    for change in dict.fromkeys(each.change for each in settings):
        cells = []
        for where in places:
            own = [each for each in settings if (each.change, place(each)) == (change, where)]
            better, worse = (sum(verdicts[each] == sign for each in own) for sign in (1, -1))
            told = f"{better} / {worse}"
            if own and not by_collection:
                told += f" of {len(own)}, {statistics.fmean(each.mean for each in own):+.3f}"
            cells.append(told if own else "")
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


def save_gains_plot(
    settings: Sequence[Setting], names: Sequence[str], path: Path, place: Callable[[Setting], str]
) -> None:
    """The mean gain of these changes, a line each, over the places that settings are put at."""
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(map(place, settings)))
    figure = Figure(figsize=(4.0 + 0.4 * len(groups), 4.4), layout="constrained")
    axis = figure.subplots()
    for name in names:
        means = []
        for group in groups:
            own = [each for each in settings if place(each) == group]
            gains = [each.mean for each in own if each.change == name]
            means.append(statistics.fmean(gains) if gains else float("nan"))
        axis.plot(range(len(groups)), means, marker="o", linestyle="--", label=name)
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(groups)), groups, rotation=60, ha="right", rotation_mode="anchor")
    axis.set_ylabel("nDCG@10 over random groups")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path)


def _cell(setting: Setting | None, verdicts: Mapping[Setting, int]) -> str:
    if setting is None:
        return ""
    low, high = confidence_interval(setting.differences) or (0.0, 0.0)
    return f"{setting.mean:+.3f} [{low:+.3f}, {high:+.3f}]{' *' if verdicts[setting] else ''}"
