"""What a run asked and was answered, by its journal: a query's questions as a report shows them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrankers_groupwise.errors import JournalError, SettingsError
from llmrankers_groupwise.journal.journal import ReadJournal, RecordedRun
from llmrankers_groupwise.journal.run_description import RunDescription
from llmrankers_groupwise.methods.base import MethodSettings
from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings
from llmrankers_groupwise.methods.registry import recorded_settings
from llmrankers_groupwise.report.reranking import (
    annotate_rounds,
    described_ranking,
    rerank_from_replies,
)
from llmrankers_groupwise.types import GroupScores, Origin, Query, Reply

__all__ = ["RunJournal", "open_journal", "question_to_json"]

_SAME = ("method", "settings", "prompt", "sampling")
"""What manifest and journal say alike of one run."""


def question_to_json(
    settings: MethodSettings | None, origin: Origin, reply: Reply
) -> dict[str, Any]:
    """A question and its reply, ready for JSON.

    `value_name` is what the reply has for a document: a score, a probability, its rank, or
    whether it was chosen. `values` has that, or None, for each document in prompt order. Both and
    `status` are None where it is not known how replies are read.
    """
    value_name = values = read = None
    if settings is not None:
        read = settings.read(reply, len(origin.doc_ids))
        value_name = settings.value_name
        values = [_value(value_name, read, label) for label in range(1, len(origin.doc_ids) + 1)]
    return {
        "repeat": origin.repeat,
        "docs": origin.doc_ids,
        "value_name": value_name,
        "values": values,
        "status": None if read is None else read.status.value,
        "refused": () if read is None else read.refused,
        "text": reply.text,
        "form": reply.slot_probabilities is not None,
        "error": reply.error,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
    }


def _value(value_name: str, read: GroupScores, label: int) -> float | None:
    """What is read of a document; of a choice that was made, 0 for those not chosen."""
    score = read.scores.get(label)
    if value_name == "chosen" and read.scores:
        return float(score is not None)
    if score is None:
        return None
    if value_name == "rank":  # read as a score: of n documents n for the first one
        return 1.0 + sum(other > score for other in read.scores.values())
    return round(score, 4)


class RunJournal:
    """One run in its journals; several where it was run in shards.

    Args:
        parts: each journal with the run in it.
        settings: the method's, of a run that was merged with other ones than it was asked with.

    Attributes:
        paths: the journals.
    """

    def __init__(
        self,
        parts: Sequence[tuple[ReadJournal, RecordedRun]],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._parts = parts
        self.paths = [journal.path for journal, _ in parts]
        self._settings: MethodSettings | None = None
        asked = parts[0][1].described.asked
        if settings is not None:
            asked = dataclasses.replace(asked, settings=settings)
        with contextlib.suppress(JournalError, SettingsError):  # of a later version: shown as it is
            self._settings = recorded_settings(asked)

    def close(self) -> None:
        """Close the files."""
        for journal, _ in self._parts:
            journal.close()

    def query(self, query_id: str) -> Query | None:
        """The query as it was shown to the engine; None if it is not there."""
        for journal, run in self._parts:
            if found := journal.query(run.number, query_id):
                return found[0]
        return None

    def asked(self, query_id: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """A query's questions, by repeat, then in the order of answering; and what was made of it.

        The latter is as `described_ranking` has it for a groupwise run, None for others.

        Raises:
            JournalError: a journal is damaged.
        """
        settings, questions = self._settings, []
        for journal, run in self._parts:
            replies = dict(journal.replies(run.number, query_id))
            questions = [question_to_json(settings, *each) for each in replies.items()]
            shown = journal.query(run.number, query_id) if replies else None
            if shown is not None and isinstance(settings, GroupwiseSettings):
                query, candidates = shown
                ranking = rerank_from_replies(query, candidates, replies, settings)
                annotate_rounds(questions, ranking, candidates, settings)
                return questions, described_ranking(ranking)
            if questions:
                break
        return questions, None


def open_journal(paths: Sequence[Path], manifest: RunDescription | None) -> RunJournal | str:
    """A run in its journals: the one that its manifest describes, or without one the only one.

    Returns:
        The run; or why it cannot be told which run of a journal it is, as a sentence.

    Raises:
        JournalError: a journal cannot be read.
    """
    parts: list[tuple[ReadJournal, RecordedRun]] = []
    with contextlib.ExitStack() as stack:
        for path in paths:
            journal = stack.enter_context(ReadJournal(path))
            runs = journal.runs()
            same = runs if manifest is None else _described_alike(runs, manifest)
            if not runs:
                return f"{path} has replies, but no run"
            if not same:
                return f"{path} has no run with the settings of the manifest"
            if len(same) > 1:
                return f"{path} has {len(same)} runs, and it cannot be told which it is"
            parts.append((journal, same[0]))
        stack.pop_all()
    return RunJournal(parts, None if manifest is None else manifest.settings)


def _described_alike(
    runs: Sequence[RecordedRun], manifest: RunDescription
) -> Sequence[RecordedRun]:
    """The runs that could be the manifest's; one, if one also has its options and files."""
    if manifest.merged is not None:  # the settings are the merge's, the options the run's
        return [run for run in runs if run.described.run == manifest.merged]
    same = [
        run
        for run in runs
        if all(getattr(run.described, name) == getattr(manifest, name) for name in _SAME)
    ]
    closest = [run for run in same if run.described.run == manifest.run]
    return closest[-1:] or same
