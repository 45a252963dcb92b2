"""What a run asks of a ranker, and what comes of it: query by query, and in sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from llmrankers_groupwise.journal.journal import Journal
from llmrankers_groupwise.types import Candidate, Query, Ranking, Usage

__all__ = ["Ranked", "Ranker", "Summary"]


class Ranker(Protocol):
    """What an experiment needs of a ranker.

    `journal` is where its replies are kept, None if nowhere.
    """

    @property
    def journal(self) -> Journal | None:
        """Where replies are kept."""

    async def rank_candidates(
        self, query: Query, candidates: Sequence[Candidate]
    ) -> tuple[Ranking, Usage]:
        """The ranking of one query, and what it cost."""

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` tokens."""

    def describe(self) -> dict[str, Any]:
        """Engine, method and settings as resolved."""

    def run_identity(self) -> dict[str, Any]:
        """What tells the ranker's questions from another one's, ready for JSON."""


@dataclass(frozen=True)
class Ranked:
    """One query of a run, reranked."""

    query: Query
    candidates: Sequence[Candidate]
    ranking: Ranking
    usage: Usage


@dataclass
class Summary:
    """What a run did.

    `documents` counts candidates, `statuses` groups, `skipped_groups` groups that were not asked
    about as the ranking was stable without them; `skipped` lists what had no text. Where there
    are judgements, `measures` is measure -> {"before": value, "after": value}, a mean over all
    judged queries, of which those missing from the run count 0.
    """

    queries: int = 0
    documents: int = 0
    groups: int = 0
    skipped_groups: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    skipped: Sequence[str] = ()
    measures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    judged_queries: int = 0
    judged_queries_missing: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)
