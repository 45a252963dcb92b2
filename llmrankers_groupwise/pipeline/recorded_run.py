"""Rankings made again from the replies in journals: a run whose first stage and engine they are."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import MemoryPassages
from llmrankers_groupwise.data.run_files import RunEntry
from llmrankers_groupwise.engines.replay import ReplayEngine
from llmrankers_groupwise.errors import JournalError, SettingsError
from llmrankers_groupwise.files.record_files import FileMapping
from llmrankers_groupwise.journal.journal import ReadJournal, RecordedRun
from llmrankers_groupwise.journal.run_description import RunIdentity
from llmrankers_groupwise.methods.registry import METHODS
from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.rankers.base import MethodRanker
from llmrankers_groupwise.rankers.options import RankerOptions
from llmrankers_groupwise.types import Candidate, Origin, Query, Reply, Sampling

__all__ = ["Recorded"]


class Recorded:
    """A run as one or more journals have it, those of its shards for instance.

    Args:
        paths: the journals; of each the run that was used last is taken.

    Raises:
        JournalError: a journal cannot be read or has no run, or they are of different runs.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._closing = contextlib.ExitStack()
        with self._closing:
            self._parts = [self._part(path) for path in paths]
            self.described = self._same_run().described
            self._closing = self._closing.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the journals."""
        self._closing.close()

    def __len__(self) -> int:
        """How many of its queries are there."""
        return sum(journal.count("queries", f"run = {run.number}") for journal, run in self._parts)

    def queries(self) -> Iterator[tuple[Query, list[Candidate]]]:
        """Its queries with their candidates, in the run's order; texts are "" where known.

        Raises:
            JournalError: a query is in two journals.
        """
        streams = [journal.queries(run.number) for journal, run in self._parts]
        before = -1
        for index, query, candidates in heapq.merge(*streams, key=lambda each: each[0]):
            if index == before:
                raise JournalError(
                    f"query {query.query_id} is in two of these journals; leave one out"
                )
            before = index
            yield query, candidates

    def first_stage(self) -> RecordedFirstStage:
        """Its queries and candidates as a first stage."""
        return RecordedFirstStage(_Run(self), {}, MemoryPassages({}), self)

    def query(self, query_id: str) -> tuple[Query, list[Candidate]] | None:
        """One of its queries with its candidates; None if it is in no journal."""
        found = (journal.query(run.number, query_id) for journal, run in self._parts)
        return next((each for each in found if each is not None), None)

    def reply_to(self, origin: Origin) -> Reply | None:
        """The reply to a question, or the error that it got; None if it was not answered."""
        for index, (journal, run) in enumerate(self._parts):
            reply = journal.reply_to(run.number, origin)
            if reply is not None:
                if index:  # neighbouring queries are in one shard: look there first now
                    self._parts.insert(0, self._parts.pop(index))
                return reply
        return None

    def ranker(self, method: str, settings: Mapping[str, Any], *, lenient: bool) -> MethodRanker:
        """The run's ranker with other settings of its method, answering from the journals.

        Args:
            method: its name, for certainty.
            settings: of the method, by their names; the others are the run's.
            lenient: count what has no reply as failed, instead of raising.

        Raises:
            SettingsError: the run is of another method, or a setting is out of its range.
        """
        asked = self.described.asked
        if method != asked.method:
            raise SettingsError(
                f"the replies are those of a {asked.method} run: merge ... {asked.method}"
            )
        for name in METHODS[method].worded:
            asked_with = asked.settings[name]
            if settings.get(name, asked_with) != asked_with:
                raise SettingsError(
                    f"{name} is {settings[name]!r}, but the run asked with {asked_with!r}, and its "
                    f"replies answer that"
                )
        engine = ReplayEngine(self.reply_to, self.described.engine, lenient=lenient)
        return MethodRanker(
            method,
            METHODS[method].settings(
                prompt=PromptFile(**asked.prompt), **{**asked.settings, **settings}
            ),
            engine,
            RankerOptions(sampling=Sampling(**asked.sampling)),
        )

    def _part(self, path: str | Path) -> tuple[ReadJournal, RecordedRun]:
        journal = self._closing.enter_context(ReadJournal(path))
        runs = journal.runs()
        if not runs:
            raise JournalError(
                f"{path}: this journal has replies but no run to merge; give the one beside a run "
                f"file"
            )
        return journal, runs[-1]

    def _same_run(self) -> RecordedRun:
        (first, run), *others = self._parts
        for journal, other in others:
            if other.key != run.key:
                raise JournalError(
                    f"{first.path} and {journal.path} are of different runs: "
                    f"{_differing_names(run.described.asked, other.described.asked)} differ; "
                    f"merge those of one command"
                )
        return run


@dataclass(frozen=True)
class RecordedFirstStage(FirstStage):
    """A recorded run's queries and candidates, in its order; what was shown of texts is gone."""

    recorded: Recorded

    def check(self, *, allow_missing: bool = False) -> list[str]:
        """Which of the run's queries are in no journal, in a line.

        Raises:
            JournalError: there are such queries and allow_missing is not set, or one is in two.
        """
        known = self.recorded.described.queries
        there = sum(1 for _ in self.recorded.queries())
        if there == known:
            return []
        problem = f"{known - there} of the run's {known} queries are in none of these journals"
        if not allow_missing:
            raise JournalError(
                f"{problem}. Either the run is not finished: run its command again first; or a "
                f"shard's journal was left out: give that, too. Or give --allow_missing to go "
                f"without these queries"
            )
        return [problem]

    def candidates(
        self,
        query_id: str,
        entries: Sequence[RunEntry],
        truncate: Callable[[str, int], str],
        query_length: int,
        passage_length: int,
    ) -> tuple[Query, list[Candidate]]:
        """One query and its candidates as they were shown; texts are "" where there were some."""
        found = self.recorded.query(query_id)
        assert found is not None, "the run has it"
        return found


class _Run(FileMapping[Sequence[RunEntry]]):
    """The run that was reranked: query_id -> documents."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def __len__(self) -> int:
        return len(self._recorded)

    def __getitem__(self, query_id: str) -> list[RunEntry]:
        found = self._recorded.query(query_id)
        if found is None:
            raise KeyError(query_id)
        return _entries(found[1])

    def _stream(self) -> Iterator[tuple[str, list[RunEntry]]]:
        for query, candidates in self._recorded.queries():
            yield query.query_id, _entries(candidates)


def _entries(candidates: Sequence[Candidate]) -> list[RunEntry]:
    return [RunEntry(each.doc_id, each.score) for each in candidates]


def _differing_names(one: RunIdentity, other: RunIdentity) -> str:
    return ", ".join(_differing(one.as_dict(), other.as_dict()))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names under which two descriptions differ, of nested ones as outer.inner."""
    names = []
    for name in sorted(one.keys() | other.keys()):
        left, right = one.get(name), other.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            names += [f"{name}.{inner}" for inner in _differing(left, right)]
        elif left != right:
            names.append(name)
    return names
