"""What the rankers of all methods share: llm-rankers' interface over engine, journal and `ask`."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any, Self

from llmrankers.rankers import LlmRanker, SearchResult

from llmrankers_groupwise.concurrency import AsyncLazy, gather, run_in_background
from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.errors import InputError, SettingsError
from llmrankers_groupwise.journal.journal import Journal
from llmrankers_groupwise.methods.registry import METHODS
from llmrankers_groupwise.prompting.prompt_file import PromptFile, load_prompt
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.rankers.checkpoints import trained_prompt
from llmrankers_groupwise.rankers.documents import Document, search_results
from llmrankers_groupwise.rankers.failures import RollingFailureMonitor
from llmrankers_groupwise.rankers.options import RankerOptions
from llmrankers_groupwise.types import Candidate, Query, Ranking, Sampling, Scoring, Usage

__all__ = [
    "MethodRanker",
    "log_exchanges",
    "resolve_prompt",
    "resolve_scoring",
]

logger = logging.getLogger(__name__)


def resolve_scoring(engine: Engine, scoring: Scoring | None) -> Scoring:
    """The engine's own way to score where none is chosen.

    Raises:
        SettingsError: the engine cannot score so.
    """
    if scoring is None:
        return engine.scorings[0]
    if scoring not in engine.scorings:
        raise SettingsError(
            f"scoring is {scoring!r}: this engine does {' and '.join(engine.scorings)} only"
        )
    return scoring


def resolve_prompt(engine: Engine, given: str | None, method: str, default: str) -> PromptFile:
    """The prompt file, by default the one that the model was trained with, else a bundled one.

    Raises:
        PromptError, SettingsError: as `load_prompt` and `trained_prompt`.
    """
    if given and not engine.reads_prompts:
        logger.warning("this engine reads no prompt: prompt_file has no effect")
    return load_prompt(given or trained_prompt(engine, method) or default)


class MethodRanker(LlmRanker):  # type: ignore[misc]  # llm-rankers has no type information
    """A method behind llm-rankers' interface.

    Args:
        method: its name in `methods.registry.METHODS`.
        settings: the method's.
        engine: who answers.
        options: `max_failure_rate`, `journal`, `verbose` and `sampling` of RankerOptions.

    Attributes:
        total_compare, total_prompt_tokens, total_completion_tokens: engine calls and tokens of
            the last `rerank` or `rerank_batch`, as llm-rankers' run.py reads them. Where several
            threads share a ranker they are of whichever call ended last.
    """

    def __init__(self, method: str, settings: Any, engine: Engine, options: RankerOptions) -> None:
        self.method = method
        self.engine = engine
        self.sampling = options.sampling or Sampling()
        self.settings = settings
        self.journal = None if options.journal is None else Journal(options.journal)
        self._preset: str | None = None
        self._identity = AsyncLazy(self.engine.identity)
        self._recent = RollingFailureMonitor(options.max_failure_rate)
        self._set_totals(Usage())
        if options.verbose:
            log_exchanges()

    def rerank(self, query: str, ranking: Iterable[Document]) -> list[SearchResult]:
        """`ranking` in its new order, best first.

        Args:
            query: the query's text.
            ranking: the documents, best first: SearchResults of llm-rankers, texts, pairs (id,
                text) or dicts with "id" and "text". What has no id gets its index, "0", "1", ...

        Returns:
            A copy of every result with its new score, and a SearchResult for every other
            document; scores strictly decrease. Neither the list nor its items are changed.

        A document without text, and one whose group failed, keeps its first-stage rank; both are
        logged as warnings. So a call of fewer than 20 groups that all fail gives the first-stage
        order; when the calls before it failed, too, it raises.

        Raises:
            InputError: a document is of another kind, or a first-stage score that interpolation
                needs is no finite number.
            FailureRateError: too many groups failed, of this call or of the calls just before it.
            ModelError: the engine's model cannot be used.
        """
        if not isinstance(query, str):
            raise InputError(f"the query is {query!r}: give its text")
        return self.rerank_batch([(query, ranking)])[0]

    def rerank_batch(
        self, batch: Iterable[tuple[str, Iterable[Document]]]
    ) -> list[list[SearchResult]]:
        """Rerank many (query, ranking) pairs, the groups of all in flight together.

        Returns and raises as `rerank`; one list of results for each pair, in order.
        """
        given = [(query, search_results(ranking)) for query, ranking in batch]
        questions = [
            (Query(str(index), query), self._candidates(results))
            for index, (query, results) in enumerate(given)
        ]
        answers = run_in_background(
            gather(self.rank_candidates(*question) for question in questions)
        )
        total = Usage()
        for _, usage in answers:
            total += usage
        self._set_totals(total)
        self._recent.check([ranking for ranking, _ in answers])
        return [
            [_rescored(results[each.first_stage_rank - 1], each.score) for each in answer.documents]
            for (_, results), (answer, _) in zip(given, answers, strict=True)
        ]

    async def rank_candidates(
        self, query: Query, candidates: Sequence[Candidate]
    ) -> tuple[Ranking, Usage]:
        """The ranking of one query, and what it cost: the asynchronous form, for many at once.

        Candidates (`types.Candidate`) come best first; those with text None keep their rank.
        """
        ask = EngineCaller(self.engine, self.sampling, self.journal, self._identity)
        ranking = await METHODS[self.method].rank(query, candidates, ask, self.settings)
        return ranking, ask.usage

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` of the model's tokens."""
        return self.engine.truncate(text, length)

    def describe(self) -> dict[str, object]:
        """Engine, method and settings as resolved, ready for JSON: for the manifest."""
        prompt = self.settings.prompt
        return {
            "method": self.method,
            "preset": self._preset,
            "settings": self._own_settings(),
            "prompt": {"name": prompt.name, "sha256": prompt.sha256},
            "sampling": dataclasses.asdict(self.sampling),
            "engine": self.engine.describe(),
        }

    def run_identity(self) -> dict[str, object]:
        """What tells this ranker's questions from another one's, ready for JSON.

        The settings of method, prompt and sampling, and what of the engine shapes replies. To be
        called where no event loop runs.
        """
        return {
            "method": self.method,
            "settings": self._own_settings(),
            "prompt": dataclasses.asdict(self.settings.prompt),
            "sampling": dataclasses.asdict(self.sampling),
            "engine": run_in_background(self._identity.value()),
        }

    def _own_settings(self) -> dict[str, object]:
        """Those of the method, the prompt left out."""
        names = (each.name for each in dataclasses.fields(self.settings))
        return {name: getattr(self.settings, name) for name in names if name != "prompt"}

    def close(self) -> None:
        """Close the engine, and the journal if there is one."""
        try:
            self.engine.close()
        finally:
            if self.journal is not None:
                self.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _candidates(self, ranking: Sequence[SearchResult]) -> list[Candidate]:
        candidates = [
            Candidate(result.docid, _text(result), self._score(result)) for result in ranking
        ]
        empty = [str(each.doc_id) for each in candidates if each.text is None]
        if empty:
            logger.warning(
                "%d documents without text keep their rank: %s", len(empty), ", ".join(empty[:5])
            )
        return candidates

    def _score(self, result: SearchResult) -> float:
        """The first-stage score; only interpolation needs it to be a number."""
        score = math.nan if result.score is None else float(result.score)
        if math.isfinite(score):
            return score
        if getattr(self.settings, "first_stage_weight", 0) > 0:
            raise InputError(
                f"document {result.docid} has the first-stage score {result.score}; "
                f"first_stage_weight needs a finite one"
            )
        return 0.0

    def _set_totals(self, usage: Usage) -> None:
        self.total_compare = usage.calls
        self.total_prompt_tokens = usage.prompt_tokens
        self.total_completion_tokens = usage.completion_tokens


def log_exchanges() -> None:
    """Log every prompt and reply; to standard error unless logging is set up otherwise."""
    package = logging.getLogger("llmrankers_groupwise")
    package.setLevel(logging.DEBUG)
    if not package.hasHandlers():
        package.addHandler(logging.StreamHandler())


def _text(result: SearchResult) -> str | None:
    return result.text if result.text and result.text.strip() else None


def _rescored(result: SearchResult, score: float) -> SearchResult:
    result = copy.copy(result)
    result.score = score
    return result
