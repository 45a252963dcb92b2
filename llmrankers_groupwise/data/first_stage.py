"""What is to be reranked: a run, the queries' texts, and where passages come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llmrankers_groupwise.data.passages import Passages
from llmrankers_groupwise.data.run_files import Run, RunEntry
from llmrankers_groupwise.errors import InputError
from llmrankers_groupwise.types import Candidate, Query

__all__ = ["FirstStage"]

_EXAMPLES = 5


@dataclass(frozen=True)
class FirstStage:
    """A first-stage run with all that is needed to show it to an engine."""

    run: Run
    queries: Mapping[str, str]
    passages: Passages

    def check(self, *, allow_missing: bool = False) -> list[str]:
        """What of the run has no text: one line for each kind, naming up to five.

        Reads the run once; memory grows with what is missing only.

        Raises:
            InputError: something is missing and allow_missing is not set.
        """
        unknown, empty, documents = _Missing(), _Missing(), _Missing()
        for query_id, entries in self.run.items():
            text = self.queries.get(query_id)
            if not text:
                (unknown if text is None else empty).add(query_id, query_id)
            doc_ids = [entry.doc_id for entry in entries]
            for doc_id, why in self.passages.problems(query_id, doc_ids).items():
                documents.add(doc_id, f"{doc_id} ({why})")
        kinds = {
            "queries of the run are unknown": unknown,
            "queries of the run have an empty text": empty,
            "documents of the run have no text": documents,
        }
        problems = [found.listed(kind) for kind, found in kinds.items() if found.ids]
        if problems and not allow_missing:
            raise InputError(
                "; ".join(problems) + "; fix the files, or give --allow_missing to keep these in "
                "first-stage order"
            )
        return problems

    def digest(self) -> str:
        """A digest of the run's queries and documents, in their order; reads the run once."""
        found = hashlib.blake2b(digest_size=16)
        for query_id, entries in self.run.items():
            line = "\t".join([query_id, *(entry.doc_id for entry in entries)])
            found.update(f"{line}\n".encode("utf-8", "surrogatepass"))
        return found.hexdigest()

    def candidates(
        self,
        query_id: str,
        entries: Sequence[RunEntry],
        truncate: Callable[[str, int], str],
        query_length: int,
        passage_length: int,
    ) -> tuple[Query, list[Candidate]]:
        """One query and its candidates, which are `run[query_id]`, cut to these lengths in tokens.

        Candidates without a text, and all candidates of a query without one, have text None.
        """
        query = Query(query_id, truncate(self.queries.get(query_id, ""), query_length))
        if not query.text:
            return query, [Candidate(entry.doc_id, None, entry.score) for entry in entries]
        texts = self.passages.texts(query_id, [entry.doc_id for entry in entries])
        return query, [
            Candidate(entry.doc_id, (truncate(text, passage_length) if text else None) or None,
                      entry.score)
            for entry, text in zip(entries, texts, strict=True)
        ]  # fmt: skip


class _Missing:
    """Ids that something is wrong with: each counted once, the first few described."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self._examples: list[str] = []

    def add(self, each: str, described: str) -> None:
        if each not in self.ids and len(self._examples) < _EXAMPLES:
            self._examples.append(described)
        self.ids.add(each)

    def listed(self, kind: str) -> str:
        more = ", ..." if len(self.ids) > _EXAMPLES else ""
        return f"{len(self.ids)} {kind}: {', '.join(self._examples)}{more}"
