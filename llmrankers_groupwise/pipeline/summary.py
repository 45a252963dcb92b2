"""What a run did, as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from llmrankers_groupwise.engines.dry_run import Sizes
from llmrankers_groupwise.pipeline.results import Ranked, Summary
from llmrankers_groupwise.types import Usage

__all__ = ["dry_table", "side_by_side", "summary_table"]

SPARED = "groups not asked about: the best were stable without them"
CUT = "passages cut to fit the model's length"


def summary_table(summary: Summary) -> str:
    """Counters, statuses and measures before and after, a few lines in all."""
    statuses = ", ".join(f"{count} {status}" for status, count in summary.statuses.items() if count)
    usage = summary.usage
    rows = [
        _totals(summary) + (f" ({statuses})" if statuses else ""),
        f"{usage.calls:,} calls ({usage.errors:,} without an answer{_reused(usage)}), "
        f"{usage.prompt_tokens:,} prompt and {usage.completion_tokens:,} completion tokens, "
        f"{summary.seconds:.1f} s",
        *([f"{usage.cut_passages:,} {CUT}"] if usage.cut_passages else []),
        *(
            [f"{summary.skipped_groups:,} groups not asked about: the best were stable"]
            * (summary.skipped_groups > 0)
        ),
        *_kept(summary),
    ]
    if summary.measures:
        rows += ["", f"{f'over {summary.judged_queries} judged queries':<28} before   after"]
        if summary.judged_queries_missing:
            rows.append(
                f"({summary.judged_queries_missing} of them are not in the run and count 0)"
            )
        rows += [
            f"{measure:<28} {values['before']:.4f}  {values['after']:.4f}"
            for measure, values in summary.measures.items()
        ]
    return "\n".join(rows)


def dry_table(summary: Summary, sizes: Sizes) -> str:
    """What a run would ask, a few lines in all."""
    tokens = sizes.as_dict()["prompt_tokens"]
    rows = [
        _totals(summary),
        f"{sizes.calls:,} calls, {tokens['sum']:,} prompt tokens"
        + (" (estimated from the texts)" if sizes.estimated else ""),
        f"prompt tokens of a call: {tokens['min']:,} at least, {tokens['mean']:,.0f} on average, "
        f"{tokens['max']:,} at most",
        f"completion tokens: {sizes.max_completion_tokens:,} at most",
        f"{sizes.cut_passages:,} {CUT}",
        *_kept(summary),
    ]
    if sizes.assumed:
        rows.append(f"calls follow from replies; here {sizes.assumed}")
    if sizes.misfits:
        rows.append(f"{sizes.misfits:,} calls do not fit, the first one: {sizes.first_misfit}")
    return "\n".join(rows)


def _reused(usage: Usage) -> str:
    return f", {usage.reused:,} answered before" if usage.reused else ""


def _totals(summary: Summary) -> str:
    return (
        f"{summary.queries:,} queries, {summary.documents:,} candidates, {summary.groups:,} groups"
    )


def _kept(summary: Summary) -> list[str]:
    return [f"kept in first-stage order: {line}" for line in summary.skipped]


def side_by_side(
    ranked: Ranked, grades: dict[str, int] | None = None, depth: int = 10, width: int = 44
) -> str:
    """The top of one query's list before and after, with grades where given.

    Args:
        ranked: a reranked query.
        grades: doc_id -> grade; a document without one shows a dot.
        depth: how many ranks to show.
        width: characters of a column.
    """
    before = [(each.doc_id, each.text, "") for each in ranked.candidates[:depth]]
    after = [
        (
            each.doc_id,
            ranked.candidates[each.first_stage_rank - 1].text,
            f" (was {each.first_stage_rank})",
        )
        for each in ranked.ranking.documents[:depth]
    ]
    titles = [f"{when}: grade, doc_id, passage" for when in ("before", "after")]
    rows = [["", *titles]]
    for rank, both in enumerate(zip(before, after, strict=True), start=1):
        rows.append([str(rank), *(_cell(each, grades or {}, width) for each in both)])
    table = tabulate(
        rows, tablefmt="plain", disable_numparse=True, colalign=("right", "left", "left")
    )
    return f"query {ranked.query.query_id}: {ranked.query.text}\n{table}"


def _cell(document: Sequence[str | None], grades: dict[str, int], width: int) -> str:
    """Grade, doc_id, former rank, and as much of the text as fits."""
    doc_id, text, moved = document
    grade = grades.get(doc_id or "")
    mark = "." if grade is None else str(grade)
    line = " ".join(f"{mark} {doc_id}{moved} {text or ''}".split())
    return line if len(line) <= width else line[: width - 3] + "..."
