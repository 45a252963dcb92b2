"""What a report shows of each query: the runs' lists, judgements, passages, questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.data.run_files import RunEntry, RunFile
from llmrankers_groupwise.errors import JournalError
from llmrankers_groupwise.evaluation.comparison import Comparison
from llmrankers_groupwise.evaluation.per_query import trec_eval_order
from llmrankers_groupwise.report.embedded_data import TextParts, packed_block
from llmrankers_groupwise.report.run_journal import RunJournal
from llmrankers_groupwise.report.text_sources import Texts

__all__ = ["Details"]

_BEGINNING = 80
_FIRST = 5


class Details:
    """The blocks of all queries, one query in memory at a time.

    Args:
        comparison: whose queries and runs.
        qrels: query_id -> doc_id -> grade.
        texts: where the texts are.
        journals: run -> what it asked; a run without is left out.
        depth: how many documents of each list.

    Attributes:
        queries: texts of the queries in their order, None where there is none; filled by `blocks`.
        notes: what was missing, in a line each; filled by `blocks`.
    """

    def __init__(
        self,
        comparison: Comparison,
        qrels: Qrels,
        texts: Texts,
        journals: Mapping[str, RunJournal],
        depth: int,
    ) -> None:
        self._comparison, self._qrels, self._depth = comparison, qrels, depth
        self._texts, self._journals = texts, journals
        self._runs = {run.name: RunFile(run.path) for run in comparison.runs}
        self._without_text = _Missing()
        self._unread: dict[str, tuple[int, JournalError]] = {}
        self._unasked = {name: _Missing() for name in journals}
        self.queries: list[str | None] = []
        self.notes: list[str] = []

    def blocks(self) -> Iterator[str]:
        """query-0, query-1, ..., and the blocks of passages that they refer to."""
        parts = TextParts()
        for index, query_id in enumerate(self._comparison.query_ids):
            self.queries.append(self._query_text(query_id))
            yield packed_block(f"query-{index}", self._described(query_id, parts))
            yield from parts.full()
        yield from parts.rest()
        self._note()

    def _query_text(self, query_id: str) -> str | None:
        text = self._texts.query(query_id)
        if text is not None:
            return text
        shown = (journal.query(query_id) for journal in self._journals.values())
        return next((query.text for query in shown if query is not None and query.text), None)

    def _described(self, query_id: str, parts: TextParts) -> dict[str, Any]:
        """A query's block; documents are named once, and then by their number."""
        numbers: dict[str, int] = {}
        lists = [self._listed(query_id, name, numbers) for name in self._runs]
        listed = list(numbers)
        texts = self._texts.passages(query_id, listed) if self._texts.has_passages() else []
        for doc_id, text in zip(listed, texts, strict=False):
            if not text:
                self._without_text.add(doc_id)
        asked = [self._asked(query_id, name, numbers) for name in self._runs]
        grades = self._qrels[query_id]
        return {
            "docs": list(numbers),
            "grades": [grades.get(doc_id) for doc_id in numbers],
            "texts": [parts.position(text) if text else None for text in texts],
            "beginnings": [text and _beginning(text) for text in texts],
            "relevant": sum(grade > 0 for grade in grades.values()),
            "lists": lists,
            "questions": [questions for questions, _ in asked],
            "made": [made for _, made in asked],
        }

    def _listed(self, query_id: str, name: str, numbers: dict[str, int]) -> dict[str, Any] | None:
        """A run's list in trec_eval's order; None if it does not have the query."""
        try:
            entries = trec_eval_order(self._runs[name][query_id])
        except KeyError:
            return None
        grades = self._qrels[query_id]
        best = entries[: self._depth]
        return {
            "docs": [numbers.setdefault(entry.doc_id, len(numbers)) for entry in best],
            "scores": [_short(entry) for entry in best],
            "length": len(entries),
            "relevant": sum(grades.get(entry.doc_id, 0) > 0 for entry in entries),
        }

    def _asked(
        self, query_id: str, name: str, numbers: dict[str, int]
    ) -> tuple[list[dict[str, Any]] | None, dict[str, Any] | None]:
        """A run's questions, and what was made of them.

        Of each None where there is no journal, or it cannot be read here.
        """
        if name not in self._journals:
            return None, None
        try:
            questions, made = self._journals[name].asked(query_id)
        except JournalError as error:
            count, first = self._unread.get(name, (0, error))
            self._unread[name] = count + 1, first
            return None, None
        if not questions:
            self._unasked[name].add(query_id)
        for each in questions:
            each["docs"] = [numbers.setdefault(doc_id, len(numbers)) for doc_id in each["docs"]]
        if made is not None:
            first = made["first_stage"]
            made["first_stage"] = [numbers.setdefault(doc_id, len(numbers)) for doc_id in first]
        return questions, made

    def _note(self) -> None:
        if self._texts.has_passages() and self._without_text.count:
            self.notes.append(f"{self._without_text.listed('documents')} without a text")
        lacking = [
            query_id
            for query_id, text in zip(self._comparison.query_ids, self.queries, strict=True)
            if text is None
        ]
        if self._texts.has_queries() and lacking:
            missing = _Missing(lacking)
            self.notes.append(f"{missing.listed('queries')} without a text")
        for name, found in self._unasked.items():
            if found.count:
                self.notes.append(f"{name}: {found.listed('queries')} not in its journal")
        for name, (count, error) in self._unread.items():
            self.notes.append(f"{name}: the groups of {count:,} queries cannot be read: {error}")


def _beginning(text: str) -> str:
    """The first characters of a passage on one line, to tell it from others."""
    line = " ".join(text[: 2 * _BEGINNING].split())
    return line if len(line) <= _BEGINNING else f"{line[: _BEGINNING - 1]}…"


def _short(entry: RunEntry) -> float:
    """A score for showing."""
    return float(f"{entry.score:.6g}")


class _Missing:
    """Ids: each counted once, the first few named."""

    def __init__(self, ids: Sequence[str] = ()) -> None:
        self._ids = set(ids)
        self._first = list(ids[:_FIRST])

    @property
    def count(self) -> int:
        return len(self._ids)

    def add(self, each: str) -> None:
        if each not in self._ids and len(self._first) < _FIRST:
            self._first.append(each)
        self._ids.add(each)

    def listed(self, what: str) -> str:
        more = ", ..." if self.count > len(self._first) else ""
        return f"{self.count:,} {what} ({', '.join(self._first)}{more})"
