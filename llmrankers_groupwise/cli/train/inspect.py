"""The command `run-groupwise train inspect`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from llmrankers_groupwise.report.plot_style import check_plots
from llmrankers_groupwise.training.data.inspection import (
    Figures,
    inspect_training_set,
    length_figures,
)
from llmrankers_groupwise.training.data.plots import FORMATS, check_plot, save_plot
from llmrankers_groupwise.types import MAX_SCORE

__all__ = ["add_inspect_options", "run_inspect"]


def add_inspect_options(parser: argparse.ArgumentParser) -> None:
    """Add its options."""
    add = parser.add_argument
    add("path", metavar="FOLDER", help="a training set, or a file of rows (JSONL)")
    add("--plot", metavar="FILE", help=f"save a plot: .{', .'.join(FORMATS)}")
    add("--json", action="store_true", help="print the figures as JSON")
    add("--tokenizer_name_or_path", help="measure lengths in its tokens")
    add("--max_length", type=int, metavar="N", help="count rows with more tokens than these")


def run_inspect(arguments: argparse.Namespace) -> None:
    """Do what it says.

    Raises:
        GroupwiseError: as `inspect_training_set` and `save_plot`.
    """
    if arguments.plot is not None:
        check_plots()
        check_plot(arguments.plot)
    found = inspect_training_set(
        arguments.path, arguments.tokenizer_name_or_path, arguments.max_length
    )
    if arguments.plot is not None:
        save_plot(found, arguments.plot)
    if arguments.json:
        print(json.dumps([each.as_dict() for each in found]))
        return
    print("\n\n".join(map(_table, found)))
    if arguments.plot is not None:
        print(f"saved {arguments.plot}")


def _table(figures: Figures) -> str:
    rows = [
        f"{figures.kind}: {figures.rows:,} {figures.method} lists of {figures.queries:,} queries"
    ]
    if figures.sizes:
        sizes = sorted({*figures.sizes, *figures.published})
        lists = [figures.sizes[size] for size in sizes]
        columns: dict[str, Sequence[float | None]]
        columns = {"documents": sizes, "lists": lists, "share": [n / figures.rows for n in lists]}
        if figures.published:
            columns["published"] = [figures.published.get(size) for size in sizes]
        rows += ["", _aligned(columns)]
    if figures.gold:
        scores = list(range(MAX_SCORE, -1, -1))
        gold = [figures.gold[score] for score in scores]
        shares = [n / sum(gold) for n in gold]
        rows += ["", _aligned({"gold score": scores, "documents": gold, "share": shares})]
    rows += [""]
    if figures.relevant:
        rows.append(f"relevant documents of a list: {_counts(figures.relevant)}")
    if figures.best_labels:
        rows.append(f"lists by their right label: {_counts(figures.best_labels)}")
    for name, lengths in (("prompt", figures.prompt), ("completion", figures.completion)):
        if lengths:
            parts = ", ".join(f"{what} {n:,.0f}" for what, n in length_figures(lengths).items())
            rows.append(f"{figures.unit} of a {name}: {parts}")
    if figures.completion:
        rows.append(f"completions with reasoning: {figures.reasons / figures.rows:.1%}")
    if figures.limit is not None:
        share = figures.too_long / figures.rows
        rows.append(f"rows over {figures.limit:,} tokens: {figures.too_long:,} ({share:.1%})")
    return "\n".join(rows)


def _aligned(columns: Mapping[str, Sequence[float | None]]) -> str:
    return tabulate(columns, headers="keys", tablefmt="plain", floatfmt=".1%")


def _counts(counted: Mapping[int, int]) -> str:
    return ", ".join(f"{value} in {count:,}" for value, count in sorted(counted.items()))
