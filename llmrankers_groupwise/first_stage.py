"""What is to be reranked: a run, the queries' texts, and where passages come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llmrankers_groupwise.errors import InputError
from llmrankers_groupwise.passages import Passages
from llmrankers_groupwise.trec import Run
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

        Raises:
            InputError: something is missing and allow_missing is not set.
        """
        named = {entry.doc_id for entries in self.run.values() for entry in entries}
        kinds = {
            "queries of the run are unknown": [
                each for each in self.run if each not in self.queries
            ],
            "queries of the run have an empty text": [
                each for each in self.run if self.queries.get(each) == ""
            ],
            "documents of the run have no text": [
                f"{doc_id} ({why})"
                for doc_id, why in self.passages.missing.items()
                if doc_id in named
            ],
        }
        problems = [_listed(kind, found) for kind, found in kinds.items() if found]
        if problems and not allow_missing:
            raise InputError(
                "; ".join(problems) + "; mend the files, or give --allow_missing to keep these in "
                "first-stage order"
            )
        return problems

    def candidates(
        self,
        query_id: str,
        truncate: Callable[[str, int], str],
        query_length: int,
        passage_length: int,
    ) -> tuple[Query, list[Candidate]]:
        """One query and its candidates, best first, cut to so many tokens.

        Candidates without a text, and all candidates of a query without one, have text None.
        """
        query = Query(query_id, truncate(self.queries.get(query_id, ""), query_length))
        candidates = []
        for entry in self.run[query_id]:
            text = self.passages.text(query_id, entry.doc_id) if query.text else None
            text = truncate(text, passage_length) if text else None
            candidates.append(Candidate(entry.doc_id, text or None, entry.score))
        return query, candidates


def _listed(kind: str, found: Sequence[str]) -> str:
    more = ", ..." if len(found) > _EXAMPLES else ""
    return f"{len(found)} {kind}: {', '.join(found[:_EXAMPLES])}{more}"
