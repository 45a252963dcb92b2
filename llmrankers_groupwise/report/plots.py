"""Quality against cost, and differences query by query, drawn by matplotlib."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from llmrankers_groupwise.evaluation.comparison import ComparedRun, Comparison, Costs
from llmrankers_groupwise.report.pareto import Box, free_box, pareto_front
from llmrankers_groupwise.report.plot_style import (
    FAINT,
    FRONT,
    INK,
    Drawing,
    run_colour,
    run_marker,
)

__all__ = ["COSTS", "figures"]

COSTS = {
    "calls": "calls",
    "rounds": "rounds of calls, summed over queries",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "completion tokens",
    "seconds": "seconds",
}
"""Fields of Costs -> what an axis calls them."""

_LOG_FROM = 20
"""Costs that differ by more than this factor are drawn on a logarithmic scale."""


def figures(comparison: Comparison) -> tuple[str, str]:
    """HTML figures of quality against cost, and of differences to the baseline.

    The former are one for each measure and each cost that is known of any run, the latter one for
    each measure, none without a second run. They have the attributes data-measure and data-cost,
    and are hidden but for the first.
    """
    runs = comparison.runs
    known = [cost for cost in COSTS if any(_cost(run, cost) is not None for run in runs)]
    costs = [
        (measure, cost, _CostPlot(runs, measure, cost).svg(f"p{at}-{cost}-"))
        for at, measure in enumerate(comparison.measures)
        for cost in known
    ]
    differences = [
        (measure, "", _DifferencePlot(comparison, measure).svg(f"d{at}-"))
        for at, measure in enumerate(comparison.measures)
        if len(runs) > 1
    ]
    return _figures(costs), _figures(differences)


def _figures(drawn: Sequence[tuple[str, str, str]]) -> str:
    return "".join(
        f'<figure class="plot" data-measure="{html.escape(measure)}" data-cost="{cost}"'
        f"{' hidden' if at else ''}>{svg}</figure>\n"
        for at, (measure, cost, svg) in enumerate(drawn)
    )


def _cost(run: ComparedRun, cost: str) -> float | None:
    value = getattr(run.costs or Costs(), cost)
    return None if value is None else float(value)


@dataclass(frozen=True)
class _Point:
    """A run in a plot; cost None where it is not known."""

    number: int
    name: str
    cost: float | None
    quality: float
    interval: tuple[float, float] | None

    @property
    def position(self) -> tuple[float, float]:
        return self.cost or 0.0, self.quality

    @property
    def colour(self) -> str:
        return run_colour(self.number)

    @property
    def marker(self) -> str:
        return run_marker(self.number)


class _CostPlot(Drawing):
    """All runs' quality by one measure against their cost of one kind."""

    def __init__(self, runs: Sequence[ComparedRun], measure: str, cost: str) -> None:
        self._measure, self._cost = measure, cost
        points = [
            _Point(n, run.name, _cost(run, cost), run.means[measure], run.intervals.get(measure))
            for n, run in enumerate(runs)
        ]
        self._points = [point for point in points if point.cost is not None]
        self._lines = [point for point in points if point.cost is None]
        self.titles = {f"run-{each.number}": self._said(each) for each in self._points}
        self.label = f"{measure} against {COSTS[cost]}. {'. '.join(map(self._said, points))}"

    def draw(self, axes: Any) -> None:
        logarithmic = self._scale(axes)
        for line in self._lines:
            axes.axhline(line.quality, color=line.colour, linewidth=1.2, dashes=(5, 4), zorder=1)
        for point in self._points:
            if point.interval:
                axes.plot([point.cost] * 2, point.interval, color=point.colour, linewidth=1.4,
                          alpha=0.6, zorder=2, solid_capstyle="butt")  # fmt: skip
            axes.plot([point.cost], [point.quality], color=point.colour, marker=point.marker,
                      markersize=9, linestyle="none", zorder=4, gid=f"run-{point.number}",
                      clip_on=False)  # fmt: skip
        axes.step(*zip(*self._stair(axes), strict=True), where="post", color=FRONT, linewidth=1.6,
                  zorder=3, solid_capstyle="butt")  # fmt: skip
        axes.set_xlabel(COSTS[self._cost] + (" (logarithmic)" if logarithmic else ""))
        axes.set_ylabel(f"{self._measure}, mean and 95 % interval")

    def name(self, axes: Any, renderer: Any) -> None:
        inside = _box(axes.get_window_extent(renderer))
        to_pixels = axes.transData.transform
        positions = [tuple(to_pixels(point.position)) for point in self._points]
        marks: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in positions]
        taken = marks * 4  # a name may sooner cross a line than hide a mark
        stair = [tuple(to_pixels(each)) for each in self._stair(axes)]
        taken += [(x, y - 2, x2, y + 2) for (x, y), (x2, _) in itertools.pairwise(stair)]
        for line in self._lines:
            _, y = to_pixels((self._points[0].cost, line.quality))
            taken.append((inside[0], y - 1, inside[2], y + 1))
        for point, (x, _) in zip(self._points, positions, strict=True):
            if point.interval:
                low, high = (to_pixels((point.cost, each))[1] for each in point.interval)
                taken.append((x - 1, low, x + 1, high))
        texts = [
            (point, position, _BESIDE)
            for point, position in zip(self._points, positions, strict=True)
        ]
        for line in self._lines:
            at = to_pixels((self._points[0].cost, line.quality))[1]
            texts.append((line, (inside[2], at), _ON_A_LINE))
        front = self._front()
        for point, position, choices in texts:
            text = axes.annotate(
                _cut(point.name), position, xycoords="figure pixels", annotation_clip=False,
                color=point.colour if point.cost is None else INK, fontsize=10.5,
                textcoords="offset pixels", xytext=(0, 0),
                fontweight="bold" if point in front else "normal",
            )  # fmt: skip
            boxes = [_placed(text, choice, renderer) for choice in choices]
            best = free_box(boxes, taken, inside)
            taken.append(_placed(text, choices[best], renderer))

    def _front(self) -> list[_Point]:
        """The runs that none beats, by cost."""
        return [self._points[n] for n in pareto_front([each.position for each in self._points])]

    def _stair(self, axes: Any) -> list[tuple[float, float]]:
        """The corners of the front: each run from its cost on, the last to the edge."""
        corners = [each.position for each in self._front()]
        return [*corners, (axes.get_xlim()[1], corners[-1][1])]

    def _scale(self, axes: Any) -> bool:
        """Choose the scale of costs; whether it is logarithmic."""
        costs = [point.cost or 0.0 for point in self._points]
        logarithmic = min(costs) > 0 and max(costs) > _LOG_FROM * min(costs)
        if logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(min(costs) / 1.6, max(costs) * 2.2)
        else:
            equal = min(costs) == max(costs)  # then the runs are in the middle
            axes.set_xlim(0, max(costs) * (2.0 if equal else 1.18) or 1.0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        return logarithmic

    def _said(self, point: _Point) -> str:
        """A point in words."""
        between = f" ({point.interval[0]:.4f} to {point.interval[1]:.4f})" if point.interval else ""
        cost = "cost unknown" if point.cost is None else f"{point.cost:,.10g} {COSTS[self._cost]}"
        return f"{point.name}: {self._measure} {point.quality:.4f}{between}, {cost}"


class _DifferencePlot(Drawing):
    """Differences of all runs to the baseline by one measure, each run's queries sorted."""

    def __init__(self, comparison: Comparison, measure: str) -> None:
        self._measure, self._baseline = measure, comparison.baseline
        base = next(run for run in comparison.runs if run.name == comparison.baseline)
        values = base.per_query[measure]
        self._rows = [
            (number, run.name, sorted(
                (value - values[query_id] for query_id, value in run.per_query[measure].items()),
                reverse=True,
            ))
            for number, run in enumerate(comparison.runs) if run is not base
        ]  # fmt: skip
        said = (
            f"{name}: best {row[0]:+.4f}, median {median(row):+.4f}, worst {row[-1]:+.4f}"
            for _, name, row in self._rows
        )
        self.label = f"{measure} less {comparison.baseline}, queries sorted. {'. '.join(said)}"

    def draw(self, axes: Any) -> None:
        axes.axhline(0.0, color=FAINT, linewidth=1.0, zorder=2)
        for number, name, row in self._rows:
            axes.plot(
                range(1, len(row) + 1), row, drawstyle="steps-mid", color=run_colour(number),
                linewidth=1.8, label=_cut(name), zorder=3,
            )  # fmt: skip
        count = max(len(row) for _, _, row in self._rows)
        axes.set_xlim(0.5, count + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("queries, for each run from its best to its worst")
        axes.set_ylabel(f"{self._measure} less {_cut(self._baseline)}")
        axes.legend(frameon=False, fontsize=10.5, loc="upper right")


_Anchor = tuple[float, float, str, str]
_BESIDE: Sequence[_Anchor] = (
    (12, 0, "left", "center"), (12, 10, "left", "bottom"), (12, -10, "left", "top"),
    (-12, 0, "right", "center"), (-12, 10, "right", "bottom"), (-12, -10, "right", "top"),
    (0, 12, "center", "bottom"), (0, -12, "center", "top"), (12, 24, "left", "bottom"),
    (12, -24, "left", "top"), (-12, 24, "right", "bottom"), (-12, -24, "right", "top"),
)  # fmt: skip
_ON_A_LINE: Sequence[_Anchor] = tuple(
    (-dx, dy, "right", va) for dx in (2, 120, 240, 360) for dy, va in ((3, "bottom"), (-3, "top"))
)


def _placed(text: Any, position: _Anchor, renderer: Any) -> Box:
    """Put a text there, and say what room it takes."""
    dx, dy, ha, va = position
    text.set(position=(dx, dy), ha=ha, va=va)
    return _box(text.get_window_extent(renderer))


def _box(extent: Any) -> Box:
    return extent.x0, extent.y0, extent.x1, extent.y1


def _cut(name: str, width: int = 28) -> str:
    return name if len(name) <= width else f"{name[: width // 2 - 1]}…{name[1 - width // 2 :]}"
