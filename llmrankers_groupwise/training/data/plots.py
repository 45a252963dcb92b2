"""The labels and sizes of a training set as a plot."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.files.atomic import check_writable
from llmrankers_groupwise.training.data.inspection import Figures

__all__ = ["FORMATS", "check_plot", "save_plot"]

FORMATS = ("svg", "png", "pdf")
_BARS, _OTHERS = "#3b6ea5", "#b9b9b9"


def check_plot(path: str | Path) -> None:
    """Raise FileError or SettingsError unless a plot could be saved there."""
    if Path(path).suffix[1:] not in FORMATS:
        raise SettingsError(f"the plot is {path}: end its name in .{', .'.join(FORMATS)}")
    check_writable(path)


def save_plot(figures: Sequence[Figures], path: str | Path) -> None:
    """A row of plots for each kind of rows: sizes, scores or right labels, relevant, lengths.

    Raises:
        SettingsError: the name's ending is no format.
        FileError: the path cannot be written.
    """
    check_plot(path)
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {"svg.hashsalt": "training", "font.size": 9, "axes.grid": True,
                     "axes.axisbelow": True, "axes.spines.top": False,
                     "axes.spines.right": False}  # fmt: skip
    written = io.BytesIO()
    with style.context(["default", settings]):
        drawing = Figure(figsize=(13.0, 3.0 * len(figures)), layout="constrained")
        FigureCanvasAgg(drawing)
        grid = drawing.subplots(len(figures), len(_PANELS), squeeze=False)
        for each, row in zip(figures, grid, strict=True):
            for draw, axes in zip(_PANELS, row, strict=True):
                draw(axes, each)
            row[0].set_title(f"{each.kind}: {each.rows:,} {each.method} lists", loc="left")
        kind = Path(path).suffix[1:]
        dated = {"svg": "Date", "pdf": "CreationDate"}.get(kind)
        drawing.savefig(written, format=kind, metadata={dated: None} if dated else None)
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    partial.write_bytes(written.getvalue())
    os.replace(partial, path)


def _sizes(axes: Any, figures: Figures) -> None:
    shares = {size: count / figures.rows for size, count in figures.sizes.items()}
    if figures.published:
        _bars(axes, figures.published, _OTHERS, -0.2, "published")
    _bars(axes, shares, _BARS, 0.2 if figures.published else 0.0, "this set")
    axes.set(xlabel="documents of a list", ylabel="share of lists")
    if figures.published:
        axes.legend(frameon=False)


def _labels(axes: Any, figures: Figures) -> None:
    if figures.method == "setwise":
        _bars(axes, figures.best_labels, _BARS)
        axes.set(xlabel="right label", ylabel="lists")
        return
    _bars(axes, figures.gold, _BARS)
    axes.set(xlabel="gold score, rounded", ylabel="documents")


def _relevant(axes: Any, figures: Figures) -> None:
    if figures.relevant:
        _bars(axes, figures.relevant, _BARS)
        axes.set(xlabel="relevant documents of a list", ylabel="lists")
    elif figures.completion:
        axes.hist(figures.completion, bins=30, color=_BARS)
        axes.set(xlabel=f"{figures.unit} of a completion", ylabel="lists")
    else:
        axes.set_axis_off()


def _lengths(axes: Any, figures: Figures) -> None:
    axes.hist(figures.prompt, bins=30, color=_BARS)
    axes.set(xlabel=f"{figures.unit} of a prompt", ylabel="lists")
    if figures.limit is not None:
        axes.axvline(figures.limit, color="black", linewidth=1)


def _bars(
    axes: Any, values: Mapping[int, float], colour: str, shift: float = 0.0, label: str = ""
) -> None:
    keys = sorted(values)
    width = 0.4 if shift else 0.8
    axes.bar([key + shift for key in keys], [values[key] for key in keys],
             width=width, color=colour, label=label or None)  # fmt: skip
    axes.xaxis.get_major_locator().set_params(integer=True)


_PANELS: Sequence[Callable[[Any, Figures], None]] = (_sizes, _labels, _relevant, _lengths)
