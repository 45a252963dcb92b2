"""How the plots of a report look: matplotlib's drawing, in the colours of the page."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

from llmrankers_groupwise.errors import MissingDependencyError
from llmrankers_groupwise.report.svg import inline_svg

__all__ = [
    "FAINT",
    "FRONT",
    "GRID",
    "INK",
    "Drawing",
    "check_plots",
    "run_colour",
    "run_marker",
]

INK = "#010101"
FAINT = "#020202"
GRID = "#030303"
FRONT = "#040404"
_RUNS = [f"#0500{number:02x}" for number in range(8)]
_COLOURS = {
    INK: "var(--ink)", FAINT: "var(--muted)", GRID: "var(--line)", FRONT: "var(--front)",
    **{colour: f"var(--run-{number})" for number, colour in enumerate(_RUNS)},
}  # fmt: skip
"""Colours to draw with, which stand for those of the page, dark or light."""

_MARKERS = "osD^vP*X"
_DPI = 72  # that of SVG files, so that positions in pixels are the same there


def check_plots() -> None:
    """Raise MissingDependencyError unless plots can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("the report's plots need matplotlib", "report") from error


def run_colour(number: int) -> str:
    """The colour of a run; from the ninth on they come again, with other markers."""
    return _RUNS[number % len(_RUNS)]


def run_marker(number: int) -> str:
    """The marker of a run."""
    return _MARKERS[(number + number // len(_RUNS)) % len(_MARKERS)]


class Drawing:
    """A plot: what to draw, and how all plots of a page look.

    Attributes:
        titles: the gid of a part -> what to say of it to who points at it.
        label: what the plot shows, for who does not see it.
    """

    titles: Mapping[str, str] = {}
    label = ""

    def draw(self, axes: Any) -> None:
        """Draw everything whose position follows from the data."""

    def name(self, axes: Any, renderer: Any) -> None:
        """Write names where the drawing leaves room."""

    def svg(self, prefix: str) -> str:
        """The plot as an element to stand in HTML."""
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        settings: Any = {
            "svg.fonttype": "none", "svg.hashsalt": prefix, "font.size": 11, "axes.linewidth": 0.8,
            "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT,
            "xtick.color": FAINT, "ytick.color": FAINT, "grid.color": GRID,
            "text.parse_math": False, "path.simplify": True, "axes.unicode_minus": True,
        }  # fmt: skip
        written = io.StringIO()
        with style.context(["default", settings]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of characters that its font lacks; the browser's do
            figure = Figure(figsize=(7.2, 4.3), dpi=_DPI, layout="constrained")
            canvas: Any = FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            self.draw(axes)
            axes.grid(visible=True, linewidth=0.7)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(length=0, which="both")
            canvas.draw()
            figure.set_layout_engine("none")
            self.name(axes, canvas.get_renderer())
            figure.savefig(
                written, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
        return inline_svg(written.getvalue(), prefix, _COLOURS, self.titles, self.label)
