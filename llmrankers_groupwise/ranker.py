"""The drop-in face: rankers that subclass llm-rankers' LlmRanker."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from llmrankers.rankers import LlmRanker, SearchResult

from llmrankers_groupwise.asking import Asker, together
from llmrankers_groupwise.background import Eventually, run_in_background
from llmrankers_groupwise.engines.protocol import (
    Engine,
    EngineSettings,
    engine_identity,
    resolve_engine,
)
from llmrankers_groupwise.errors import InputError, SettingsError
from llmrankers_groupwise.fusion import Fusion, Ties
from llmrankers_groupwise.grouping import Strategy
from llmrankers_groupwise.journal import Journal
from llmrankers_groupwise.methods.groupwise import GroupwiseSettings, groupwise
from llmrankers_groupwise.presets import with_preset
from llmrankers_groupwise.prompts import load_prompt
from llmrankers_groupwise.tally import RecentFailures
from llmrankers_groupwise.types import Candidate, Query, Ranking, Sampling, Scoring, Usage

__all__ = ["GroupwiseLlmRanker", "log_exchanges"]

logger = logging.getLogger(__name__)


class GroupwiseLlmRanker(LlmRanker):  # type: ignore[misc]  # llm-rankers has no type information
    """Groupwise reranking behind llm-rankers' interface.

    Constructor names are those of llm-rankers' RankR1SetwiseLlmRanker where it has one.

    Args:
        model_name_or_path: the model; None with engine="embedded", which carries its own.
        prompt_file: a path or the name of a bundled prompt file; None chooses by scoring.
        lora_name_or_path, tokenizer_name_or_path, cache_dir, device: passed to the engine.
        scoring: "generation" or "likelihood"; None takes the engine's default.
        verbose: log every prompt and reply, to standard error unless logging is set up otherwise.
        engine: an engine's name, or an object that keeps `engines.protocol.Engine`.
        engine_args: further settings for the engine, by its own names.
        sampling: how the engine draws tokens.
        max_failure_rate: the share of failed groups above which FailureRateError is raised.
        journal: a file to keep replies in, so that no question is ever asked twice; None keeps
            none. Closed with the ranker.
        group_size, num_repeat, overlap, grouping, fusion, first_stage_weight, ties, final_round,
            until_stable, seed: see `methods.groupwise.GroupwiseSettings`.

    Attributes:
        total_compare, total_prompt_tokens, total_completion_tokens: engine calls and tokens of
            the last `rerank` or `rerank_batch`, as llm-rankers' run.py reads them. Where several
            threads share a ranker they are of whichever call ended last.

    Raises:
        SettingsError, PromptError, MissingDependencyError: before any model is asked.
    """

    def __init__(
        self,
        model_name_or_path: str | None = None,
        prompt_file: str | None = None,
        lora_name_or_path: str | None = None,
        tokenizer_name_or_path: str | None = None,
        *,
        scoring: Scoring | None = None,
        cache_dir: str | None = None,
        verbose: bool = False,
        engine: str | Engine = "embedded",
        engine_args: Mapping[str, Any] | None = None,
        device: str | None = None,
        sampling: Sampling | None = None,
        group_size: int = 20,
        num_repeat: int = 1,
        overlap: int = 0,
        grouping: Strategy = "random",
        fusion: Fusion = "mean",
        first_stage_weight: float = 0.0,
        ties: Ties = "first_stage",
        final_round: int = 0,
        until_stable: int = 0,
        seed: int = 0,
        max_failure_rate: float = 0.1,
        journal: str | Path | None = None,
    ) -> None:
        engine_settings = EngineSettings(
            model_name_or_path=model_name_or_path,
            lora_name_or_path=lora_name_or_path,
            tokenizer_name_or_path=tokenizer_name_or_path,
            device=device,
            cache_dir=cache_dir,
            engine_args=engine_args or {},
        )
        self.engine = engine = resolve_engine(engine, engine_settings)
        self.sampling = sampling or Sampling()
        scoring = _resolved_scoring(engine, scoring)
        if prompt_file and not getattr(engine, "reads_prompts", True):
            logger.warning("this engine reads no prompt: prompt_file has no effect")
        self.settings = GroupwiseSettings(
            prompt=load_prompt(prompt_file or _default_prompt(scoring, self.sampling)),
            scoring=scoring,
            group_size=group_size,
            num_repeat=num_repeat,
            overlap=overlap,
            grouping=grouping,
            fusion=fusion,
            first_stage_weight=first_stage_weight,
            ties=ties,
            final_round=final_round,
            until_stable=until_stable,
            seed=seed,
        )
        self._preset: str | None = None
        self._identity = Eventually(lambda: engine_identity(self.engine))
        self.journal = None if journal is None else Journal(journal)
        self._recent = RecentFailures(max_failure_rate)
        self._set_totals(Usage())
        if verbose:
            log_exchanges()

    @classmethod
    def from_preset(
        cls,
        preset: str,
        model_name_or_path: str | None = None,
        prompt_file: str | None = None,
        lora_name_or_path: str | None = None,
        tokenizer_name_or_path: str | None = None,
        **settings: Any,
    ) -> Self:
        """A ranker whose defaults are those of `presets.PRESETS[preset]`.

        Whatever is given besides, by the constructor's names, wins; of engine_args key by key.
        A preset's query_length and passage_length are the command's: nothing is cut here.

        Raises:
            SettingsError, PromptError, MissingDependencyError: as the constructor, and where the
                preset is unknown or the engine cannot do it.
        """
        if prompt_file is not None:
            settings["prompt_file"] = prompt_file
        ranker = cls(
            model_name_or_path,
            lora_name_or_path=lora_name_or_path,
            tokenizer_name_or_path=tokenizer_name_or_path,
            **with_preset(preset, settings, default_engine="embedded"),
        )
        ranker._preset = preset
        return ranker

    def rerank(self, query: str, ranking: Sequence[SearchResult]) -> list[SearchResult]:
        """`ranking` in its new order, best first.

        Args:
            query: the query's text.
            ranking: the first stage's results, best first; neither list nor items are changed.

        Returns:
            A copy of every item with its new score; scores strictly decrease.

        A document without text, and one whose group failed, keeps its first-stage place; both are
        logged as warnings. So a call of fewer than 20 groups that all fail gives the first-stage
        order; when the calls before it failed, too, it raises.

        Raises:
            InputError: a first-stage score that interpolation needs is no finite number.
            FailureRateError: too many groups failed, of this call or of the calls just before it.
            ModelError: the engine's model cannot be used.
        """
        if not isinstance(query, str):
            raise InputError(f"the query is {query!r}: give its text")
        return self.rerank_batch([(query, list(ranking))])[0]

    def rerank_batch(
        self, batch: Sequence[tuple[str, Sequence[SearchResult]]]
    ) -> list[list[SearchResult]]:
        """Rerank many (query, ranking) pairs, the groups of all in flight together.

        Returns and raises as `rerank`; one list of results for each pair, in order.
        """
        questions = [
            (Query(str(index), query), self._candidates(ranking))
            for index, (query, ranking) in enumerate(batch)
        ]
        answers = run_in_background(together(self.rank(*question) for question in questions))
        total = Usage()
        for _, usage in answers:
            total += usage
        self._set_totals(total)
        self._recent.check([ranking for ranking, _ in answers])
        return [
            [_rescored(results[each.first_stage_rank - 1], each.score) for each in answer.documents]
            for (_, results), (answer, _) in zip(batch, answers, strict=True)
        ]

    async def rank(self, query: Query, candidates: Sequence[Candidate]) -> tuple[Ranking, Usage]:
        """The ranking of one query, and what it cost: the asynchronous form, for many at once.

        Candidates (`types.Candidate`) come best first; those with text None keep their place.
        """
        ask = Asker(self.engine, self.sampling, self.journal, self._identity)
        return await groupwise(query, candidates, ask, self.settings), ask.usage

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` of the model's tokens."""
        return self.engine.truncate(text, length)

    def describe(self) -> dict[str, object]:
        """Engine, method and settings as resolved, ready for JSON: for the manifest."""
        prompt = self.settings.prompt
        return {
            "method": "groupwise",
            "preset": self._preset,
            "settings": self._own_settings(),
            "prompt": {"name": prompt.name, "sha256": prompt.sha256},
            "sampling": dataclasses.asdict(self.sampling),
            "engine": self.engine.describe(),
        }

    def asked(self) -> dict[str, object]:
        """What tells this ranker's questions from another one's, ready for JSON.

        The settings of method, prompt and sampling, and what of the engine shapes replies. To be
        called where no event loop runs.
        """
        return {
            "method": "groupwise",
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
                "%d documents without text keep their place: %s", len(empty), ", ".join(empty[:5])
            )
        return candidates

    def _score(self, result: SearchResult) -> float:
        """The first-stage score; only interpolation needs it to be a number."""
        score = math.nan if result.score is None else float(result.score)
        if math.isfinite(score):
            return score
        if self.settings.first_stage_weight > 0:
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
    """Log every prompt and reply; to standard error unless the application has set up logging."""
    package = logging.getLogger("llmrankers_groupwise")
    package.setLevel(logging.DEBUG)
    if not package.hasHandlers():
        package.addHandler(logging.StreamHandler())


def _resolved_scoring(engine: Engine, scoring: Scoring | None) -> Scoring:
    if scoring is None:
        return engine.scorings[0]
    if scoring not in engine.scorings:
        raise SettingsError(
            f"scoring is {scoring!r}: this engine does {' and '.join(engine.scorings)} only"
        )
    return scoring


def _default_prompt(scoring: Scoring, sampling: Sampling) -> str:
    """The bundled prompt that asks for what the model is let write: reasoning, or scores alone."""
    reasons = scoring == "generation" or sampling.reasoning_tokens
    return "groupwise" if reasons else "groupwise_scores"


def _text(result: SearchResult) -> str | None:
    text: str | None = result.text
    return text if text and text.strip() else None


def _rescored(result: SearchResult, score: float) -> SearchResult:
    result = copy.copy(result)
    result.score = score
    return result
