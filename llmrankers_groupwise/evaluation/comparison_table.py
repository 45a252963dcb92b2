"""A comparison of runs as text for a terminal, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from llmrankers_groupwise.evaluation.comparison import ComparedRun, Comparison, Costs, PairedTests
from llmrankers_groupwise.evaluation.significance import DRAWS

__all__ = ["comparison_table"]

WIDTH = 100
_NAME = 18
_FIRST = 5
_UNKNOWN = "-"


def comparison_table(comparison: Comparison) -> str:
    """Each measure of all runs with its tests, what they cost, and what is odd about them."""
    blocks = [[_described(run) for run in comparison.runs]]
    blocks += [_measure(comparison, measure) for measure in comparison.measures]
    if costs := _costs(comparison.runs):
        blocks.append(costs)
    blocks.append(_legend(comparison))
    if notes := [line for run in comparison.runs for line in _notes(run)]:
        blocks.append(notes)
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)


def _described(run: ComparedRun) -> str:
    """A run's name, who made it, and its file."""
    made = [each for each in (run.costs.method, run.costs.model) if each] if run.costs else []
    about = f" ({', '.join(made)})" if made else ""
    name = f"{_cut(run.name, _NAME):<{_NAME}}  "
    return name + _cut(f"{run.path}{about}", WIDTH - len(name))


def _measure(comparison: Comparison, measure: str) -> list[str]:
    """A line for each run: mean, interval, and what the tests say."""
    tested = len(comparison.runs) > 1
    head = f"{_cut(measure, _NAME):<{_NAME}}  {'mean':>6}  {'95 % interval':<15}"
    if tested:
        head += f"  {'diff.':>7}  {'w/t/l':>12}  {'t':>7} {'Holm':>7}  {'rand.':>7} {'Holm':>7}"
    rows = [head]
    for run in comparison.runs:
        low_high = run.intervals.get(measure)
        interval = f"{low_high[0]:.4f}..{low_high[1]:.4f}" if low_high else _UNKNOWN
        row = f"{_cut(run.name, _NAME):<{_NAME}}  {run.means[measure]:.4f}  {interval:<15}"
        if measure in run.against:
            row += _tests(run.against[measure])
        elif tested:
            row += "  baseline"
        rows.append(row)
    return rows


def _tests(tests: PairedTests) -> str:
    outcomes = f"{tests.wins}/{tests.ties}/{tests.losses}"
    return (
        f" {tests.difference:>+8.4f}  {outcomes:>12}  {_p(tests.t_p):>7} {_p(tests.t_p_holm):>7}  "
        f"{_p(tests.randomisation_p):>7} {_p(tests.randomisation_p_holm):>7}"
    )


def _p(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"


def _costs(runs: Sequence[ComparedRun]) -> list[str]:
    """A line for each run, none at all if nothing is known of any."""
    rows = [["calls", "rounds", "prompt tokens", "compl. tokens", "failed groups", "seconds"]]
    for run in runs:
        costs = run.costs or Costs()
        failed = f"{_whole(costs.failed)} of {_whole(costs.groups)}"
        rows.append(
            [
                _whole(costs.calls),
                _whole(costs.rounds),
                _whole(costs.prompt_tokens),
                _whole(costs.completion_tokens),
                _UNKNOWN if costs.failed is None else failed,
                _UNKNOWN if costs.seconds is None else f"{costs.seconds:,.1f} s",
            ]
        )
    if all(cell == _UNKNOWN for row in rows[1:] for cell in row):
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names = ["costs", *(_cut(run.name, _NAME) for run in runs)]
    return [
        f"{name:<{_NAME}}" + "".join(f"  {c:>{w}}" for c, w in zip(row, widths, strict=True))
        for name, row in zip(names, rows, strict=True)
    ]


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
    """The text in so many characters: its beginning and its end, which often tells runs apart."""
    if len(text) <= width:
        return text
    end = (width - 3) // 2
    return f"{text[: width - 3 - end]}...{text[-end:]}"
