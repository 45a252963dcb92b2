"""How one query's groupwise ranking came about, as text for a terminal."""

from __future__ import annotations

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings
from llmrankers_groupwise.pipeline.results import Ranked
from llmrankers_groupwise.pipeline.summary import SPARED
from llmrankers_groupwise.types import Candidate, RankedDocument, ScoredGroup, Status

__all__ = ["explanation", "moved"]

_ALWAYS = ("group_size", "num_repeat", "grouping", "calibration", "fusion")
_NEVER = ("prompt", "scoring")


def explanation(ranked: Ranked, settings: GroupwiseSettings) -> str:
    """Groups with their scores before and after calibration, then the ranking made of them.

    Args:
        ranked: a query reranked with these settings.
        settings: the method's.
    """
    ranking, candidates = ranked.ranking, ranked.candidates
    blocks = [f"{_line(f'query {ranked.query.query_id}: {ranked.query.text}')}\n{_named(settings)}"]
    if not ranked.query.text:
        return (
            f"{blocks[0]}\n\nit has no text: nothing was asked, and the first stage's order stands"
        )
    calibrates = settings.calibration != "none"
    for title, scored, after in zip(
        _titles(ranking.groups), ranking.groups, ranking.calibrated, strict=True
    ):
        block = _group(scored, after if calibrates else None, candidates)
        blocks.append("\n".join([f"{title}: {scored.scores.status.value}", *block]))
    if ranking.skipped_groups:
        blocks.append(f"{ranking.skipped_groups:,} {SPARED}")
    blocks.append("\n".join(_merged(ranked, settings)))
    return "\n\n".join(blocks)


def moved(document: RankedDocument, rank: int) -> str:
    """By how many ranks the first stage's document was moved: +12 up, -3 down, =.

    Args:
        document: of a ranking.
        rank: its new one, from 1.
    """
    ranks = document.first_stage_rank - rank
    return f"{ranks:+d}" if ranks else "="


def _named(settings: GroupwiseSettings) -> str:
    """The settings that differ from their defaults, and those that one always asks for."""
    return ", ".join(
        f"{each.name} {getattr(settings, each.name)}"
        for each in dataclasses.fields(settings)
        if each.name in _ALWAYS
        or (each.name not in _NEVER and getattr(settings, each.name) != each.default)
    )


def _titles(scored: Sequence[ScoredGroup]) -> list[str]:
    """Which call each one was."""
    repeats = {each.group.repeat for each in scored if each.group.round == "first"}
    rounds = []
    for each in scored:
        many = each.group.round == "first" and len(repeats) > 1
        repeat = f", repeat {each.group.repeat + 1} of {len(repeats)}" if many else ""
        rounds.append(f"{each.group.round} round{repeat}")
    calls, counted = Counter(rounds), Counter[str]()
    titles = []
    for asked in rounds:
        counted[asked] += 1
        titles.append(f"{asked}, call {counted[asked]} of {calls[asked]}")
    return titles


def _group(
    scored: ScoredGroup, after: ScoredGroup | None, candidates: Sequence[Candidate]
) -> Iterator[str]:
    """A call's documents in prompt order with their scores, and what of the reply did not count."""
    head = ["label", "first stage", "score"] + ["calibrated"] * (after is not None)
    rows = []
    for label, position in enumerate(scored.group.members, start=1):
        row = [f"[{label}]", str(position + 1), _number(scored.scores.scores.get(label))]
        if after is not None:
            row.append(_number(after.scores.scores.get(label)))
        rows.append([*row, _line(candidates[position].doc_id)])
    yield _table([[*head, "document"], *rows])
    if scored.reply.error is not None:
        yield f"  no answer: {_line(scored.reply.error)}"
    elif scored.scores.missing:
        labels = ", ".join(f"[{label}]" for label in scored.scores.missing)
        yield f"  the reply has no score for {labels}"
    for refused in scored.scores.refused:
        yield f"  not taken: {_line(refused)}"
    if scored.scores.status is Status.FAILED:
        yield "  so this call says nothing of its documents"


def _merged(ranked: Ranked, settings: GroupwiseSettings) -> Iterator[str]:
    """The ranking, and what its figures are."""
    documents = ranked.ranking.documents
    varies = any(each.variance is not None for each in documents)
    yield f"merged: {_how(settings)}"
    if any(each.group.round != "first" for each in ranked.ranking.groups):
        for start, end in settings.sorted_again(len(documents)):
            ranks = f"ranks {start + 1} to {end}"
            yield f"  {ranks} were asked about again, and sorted among themselves"
        yield "  the other ranks are as after the first round; merged scores are of all calls"
    if varies:
        scored = "scores" if settings.calibration == "none" else "calibrated scores"
        scored = "scores before calibration" if settings.strengths else scored
        yield f"  variance: of a document's {scored} over its calls, - where it has only one"
    rows = []
    for rank, each in enumerate(documents, start=1):
        score = _number(each.model_score, 6 if settings.fusion == "rrf" else 4)
        row = [str(rank), str(each.first_stage_rank), moved(each, rank), score]
        if varies:
            row.append("-" if each.variance is None else _number(each.variance))
        candidate = ranked.candidates[each.first_stage_rank - 1]
        rows.append([*row, _line(each.doc_id) + _why_unscored(each, candidate)])
    head = ["rank", "first stage", "moved", "merged score"] + ["variance"] * varies
    yield _table([[*head, "document"], *rows])


def _how(settings: GroupwiseSettings) -> str:
    """What a merged score is, in words."""
    calibrates = settings.calibration != "none"
    by = f" calibrated by {settings.calibration}" * calibrates
    if settings.fusion == "rrf":
        how = "reciprocal ranks of the repeats" + f" by scores{by}" * calibrates
        if settings.first_stage_weight:
            how += f", the first stage's by {settings.first_stage_weight:g}"
    else:
        how = f"the mean of a document's scores{by}"
        if settings.shrinkage:
            how += f", drawn to its first-stage rank by {settings.shrinkage:g}"
        if settings.first_stage_weight:
            how += f", 0..1, with the first stage's by {settings.first_stage_weight:g}"
    return f"{how}; equal ones by {settings.ties}"


def _why_unscored(document: RankedDocument, candidate: Candidate) -> str:
    if document.model_score is not None:
        return ""
    why = "it has no text" if candidate.text is None else "no call scored it"
    return f"  ({why}: left to the first stage)"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns to the right, the last one to the left."""
    align = [*["right"] * (len(rows[0]) - 1), "left"]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=align)
    return textwrap.indent(table, "  ")


def _number(value: float | None, decimals: int = 4) -> str:
    """A score as it is if it is a whole number, else with this number of decimals."""
    if value is None:
        return "none"
    value = round(value, decimals) + 0.0  # which makes -0.0 a 0.0
    return f"{value:.0f}" if value == round(value) else f"{value:.{decimals}f}"


def _line(text: object) -> str:
    return " ".join(str(text).split())
