"""A comparison of runs as text for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from llmrankers_groupwise.evaluation.comparison import ComparedRun, Comparison, Costs, PairedTests
from llmrankers_groupwise.evaluation.significance import DRAWS

__all__ = ["comparison_table"]

WIDTH = 100
_NAME = 18
_FIRST = 5
_UNKNOWN = "-"


def comparison_table(comparison: Comparison) -> str:
    """Each measure of all runs with its tests, what they cost, and what is odd about them."""
    names = [_cut(run.name, _NAME) for run in comparison.runs]
    blocks = [
        _table([[name, _described(run)] for name, run in zip(names, comparison.runs, strict=True)]),
        *(_measure(comparison, measure) for measure in comparison.measures),
        _costs(comparison.runs),
        "\n".join(_legend(comparison)),
        "\n".join(line for run in comparison.runs for line in _notes(run)),
    ]
    return "\n\n".join(filter(None, blocks))


def _table(rows: Sequence[Sequence[str]], *align: str) -> str:
    return tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=align)


def _described(run: ComparedRun) -> str:
    """Its file, and who made it."""
    made = [each for each in (run.costs.method, run.costs.model) if each] if run.costs else []
    about = f" ({', '.join(made)})" if made else ""
    return _cut(f"{run.path}{about}", WIDTH - _NAME - 2)


def _measure(comparison: Comparison, measure: str) -> str:
    """A line for each run: mean, interval, and what the tests say."""
    tested = len(comparison.runs) > 1
    rows = [[_cut(measure, _NAME), "mean", "95 % interval"]]
    rows[0] += ["diff.", "w/t/l", "t", "Holm", "rand.", "Holm"] * tested
    for run in comparison.runs:
        low_high = run.intervals.get(measure)
        interval = f"{low_high[0]:.4f}..{low_high[1]:.4f}" if low_high else _UNKNOWN
        rows.append([_cut(run.name, _NAME), f"{run.means[measure]:.4f}", interval])
        if measure in run.against:
            rows[-1] += _tests(run.against[measure])
        else:
            rows[-1] += ["baseline"] * tested
    return _table(rows, "left", "right", "left", *["right"] * 6 * tested)


def _tests(tests: PairedTests) -> list[str]:
    p_values = (tests.t_p, tests.t_p_holm, tests.randomisation_p, tests.randomisation_p_holm)
    outcomes = f"{tests.wins}/{tests.ties}/{tests.losses}"
    return [f"{tests.difference:+.4f}", outcomes, *map(_p, p_values)]


def _p(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def _costs(runs: Sequence[ComparedRun]) -> str:
    """A line for each run, none at all if nothing is known of any."""
    head = [
        "costs", "calls", "rounds", "prompt tokens", "compl. tokens", "failed groups", "seconds",
    ]  # fmt: skip
    rows = []
    for run in runs:
        costs = run.costs or Costs()
        failed = f"{_whole(costs.failed)} of {_whole(costs.groups)}"
        rows.append(
            [
                _cut(run.name, _NAME),
                _whole(costs.calls),
                _whole(costs.rounds),
                _whole(costs.prompt_tokens),
                _whole(costs.completion_tokens),
                _UNKNOWN if costs.failed is None else failed,
                _UNKNOWN if costs.seconds is None else f"{costs.seconds:,.1f} s",
            ]
        )
    if all(cell == _UNKNOWN for _, *cells in rows for cell in cells):
        return ""
    return _table([head, *rows], "left", *["right"] * 6)


def _whole(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value:,}"


def _legend(comparison: Comparison) -> list[str]:
    """What the columns are."""
    queries = len(comparison.query_ids)
    rows = [f"over {queries:,} judged queries; intervals of the mean by Student's t distribution"]
    tested = [tests for run in comparison.runs for tests in run.against.values()]
    if tested:
        rows += [
            f"diff.: less {_cut(comparison.baseline, _NAME)}; w/t/l: queries better, equal, worse",
            f"t: p-value of the paired t test; rand.: of the paired randomisation test (all signs "
            f"or {DRAWS:,})",
            f"Holm: corrected over the {sum(each.t_p is not None for each in tested)} t tests, and "
            f"over the {len(tested)} randomisation tests",
        ]
    if queries == 1:
        rows.append("of one judged query there is neither an interval nor a t test")
    elif any(each.t_p is None for each in tested):
        rows.append("no t test (-) where the differences of all queries are equal")
    return rows


def _notes(run: ComparedRun) -> list[str]:
    """What a reader of the figures should know about a run."""
    name = _cut(run.name, _NAME)
    notes = []
    if run.missing:
        notes.append(
            f"{name}: {len(run.missing):,} judged queries are not in the run and count 0 "
            f"({_first(run.missing)})"
        )
    if run.unjudged_queries:
        notes.append(
            f"{name}: {len(run.unjudged_queries):,} of its queries are not judged and do not count "
            f"({_first(run.unjudged_queries)})"
        )
    if run.unjudged_at_10:
        notes.append(
            f"{name}: on average {run.unjudged_at_10:.2f} of the first 10 documents are not judged"
        )
    if run.ties:
        notes.append(
            f"{name}: {run.ties:,} documents share their score with another; measures order them "
            f"by doc_id"
        )
    return [line for note in notes for line in textwrap.wrap(note, WIDTH, subsequent_indent="  ")]


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(_cut(name, _NAME) for name in names[:_FIRST])
    return shown + (", ..." if len(names) > _FIRST else "")


def _cut(text: str, width: int) -> str:
    """The beginning and the end of a text; the end often tells runs apart."""
    if len(text) <= width:
        return text
    end = (width - 3) // 2
    return f"{text[: width - 3 - end]}...{text[-end:]}"
