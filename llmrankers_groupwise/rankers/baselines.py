"""The other methods behind llm-rankers' interface, to compare with on the same engine."""

from __future__ import annotations

from typing import Unpack

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.listwise import ListwiseSettings
from llmrankers_groupwise.methods.pointwise import Judgement, PointwiseSettings, check_judgement
from llmrankers_groupwise.methods.setwise import SetwiseSettings, Sort
from llmrankers_groupwise.prompting.parse_orders import OrderRule
from llmrankers_groupwise.rankers.base import (
    MethodRanker,
    RankerOptions,
    make_engine,
    resolve_prompt,
    resolve_scoring,
)
from llmrankers_groupwise.types import Scoring

__all__ = ["ListwiseLlmRanker", "PointwiseLlmRanker", "SetwiseLlmRanker"]


class SetwiseLlmRanker(MethodRanker):
    """Setwise reranking (Rank-R1 and zero-shot), for models that pick the best of several.

    Constructor names are those of llm-rankers' RankR1SetwiseLlmRanker.

    Args:
        model_name_or_path: the model; None with engine="embedded", which carries its own.
        prompt_file: a path or the name of a prompt file, as published for the model; by default
            the one that the model was trained with by `run-groupwise train`, or a bundled one.
        lora_name_or_path, tokenizer_name_or_path: passed to the engine.
        scoring: "generation", as comparisons are answered in text.
        num_child, method, k, num_permutation, upstream_behaviour, seed: see
            `methods.setwise.SetwiseSettings`.
        options: see `rankers.base.RankerOptions`.

    Raises:
        SettingsError, PromptError, MissingDependencyError: before any model is asked.

    >>> from llmrankers.rankers import SearchResult
    >>> docs = [
    ...     SearchResult("d1", 2.0, "Bread needs yeast."),
    ...     SearchResult("d2", 1.0, "Cats see well at night."),
    ... ]
    >>> with SetwiseLlmRanker() as ranker:
    ...     [doc.docid for doc in ranker.rerank("how do cats see at night", docs)]
    ['d2', 'd1']
    """

    def __init__(
        self,
        model_name_or_path: str | None = None,
        prompt_file: str | None = None,
        lora_name_or_path: str | None = None,
        tokenizer_name_or_path: str | None = None,
        *,
        num_child: int = 3,
        method: Sort = "heapsort",
        k: int = 10,
        num_permutation: int = 1,
        upstream_behaviour: bool = False,
        seed: int = 0,
        scoring: Scoring = "generation",
        **options: Unpack[RankerOptions],
    ) -> None:
        _check_text("setwise", scoring)
        engine = make_engine(model_name_or_path, lora_name_or_path, tokenizer_name_or_path, options)
        settings = SetwiseSettings(
            prompt=resolve_prompt(engine, prompt_file, "setwise", "setwise_best"),
            num_child=num_child,
            method=method,
            k=k,
            num_permutation=num_permutation,
            upstream_behaviour=upstream_behaviour,
            seed=seed,
        )
        super().__init__("setwise", settings, engine, options)


class ListwiseLlmRanker(MethodRanker):
    """Listwise reranking by a sliding window (RankZephyr, ReasonRank and their kin).

    Args:
        model_name_or_path, prompt_file, lora_name_or_path, tokenizer_name_or_path: as those of
            SetwiseLlmRanker; a prompt file may also be a YAML template of rank_llm.
        scoring: "generation", as orders are answered in text.
        window_size, step_size, num_repeat, parsing, upstream_behaviour: see
            `methods.listwise.ListwiseSettings`; parsing None takes the engine's, which is
            "rank_llm" where recorded replies are replayed and "labels" otherwise.
        options: see `rankers.base.RankerOptions`.

    Raises:
        SettingsError, PromptError, MissingDependencyError: before any model is asked.

    >>> from llmrankers.rankers import SearchResult
    >>> docs = [
    ...     SearchResult("d1", 2.0, "Bread needs yeast."),
    ...     SearchResult("d2", 1.0, "Cats see well at night."),
    ... ]
    >>> with ListwiseLlmRanker() as ranker:
    ...     [doc.docid for doc in ranker.rerank("how do cats see at night", docs)]
    ['d2', 'd1']
    """

    def __init__(
        self,
        model_name_or_path: str | None = None,
        prompt_file: str | None = None,
        lora_name_or_path: str | None = None,
        tokenizer_name_or_path: str | None = None,
        *,
        window_size: int = 20,
        step_size: int = 10,
        num_repeat: int = 1,
        parsing: OrderRule | None = None,
        upstream_behaviour: bool = False,
        scoring: Scoring = "generation",
        **options: Unpack[RankerOptions],
    ) -> None:
        _check_text("listwise", scoring)
        engine = make_engine(model_name_or_path, lora_name_or_path, tokenizer_name_or_path, options)
        settings = ListwiseSettings(
            prompt=resolve_prompt(engine, prompt_file, "listwise", "listwise"),
            window_size=window_size,
            step_size=step_size,
            num_repeat=num_repeat,
            parsing=parsing or engine.order_rule,
            upstream_behaviour=upstream_behaviour,
        )
        super().__init__("listwise", settings, engine, options)


class PointwiseLlmRanker(MethodRanker):
    """Pointwise reranking: the likelihood of Yes, or an expected grade, of every document alone.

    Args:
        model_name_or_path, prompt_file, lora_name_or_path, tokenizer_name_or_path: as those of
            SetwiseLlmRanker.
        scoring: "generation" or "likelihood"; None takes likelihood where the engine does it.
        method: see `methods.pointwise.PointwiseSettings`.
        options: see `rankers.base.RankerOptions`.

    Raises:
        SettingsError, PromptError, MissingDependencyError: before any model is asked.

    >>> from llmrankers.rankers import SearchResult
    >>> docs = [
    ...     SearchResult("d1", 2.0, "Bread needs yeast."),
    ...     SearchResult("d2", 1.0, "Cats see well at night."),
    ... ]
    >>> with PointwiseLlmRanker() as ranker:
    ...     [doc.docid for doc in ranker.rerank("how do cats see at night", docs)]
    ['d2', 'd1']
    """

    def __init__(
        self,
        model_name_or_path: str | None = None,
        prompt_file: str | None = None,
        lora_name_or_path: str | None = None,
        tokenizer_name_or_path: str | None = None,
        *,
        scoring: Scoring | None = None,
        method: Judgement = "yes_no",
        **options: Unpack[RankerOptions],
    ) -> None:
        check_judgement(method)
        engine = make_engine(model_name_or_path, lora_name_or_path, tokenizer_name_or_path, options)
        if scoring is None and "likelihood" in engine.scorings:
            scoring = "likelihood"
        settings = PointwiseSettings(
            prompt=resolve_prompt(engine, prompt_file, "pointwise", f"pointwise_{method}"),
            scoring=resolve_scoring(engine, scoring),
            method=method,
        )
        super().__init__("pointwise", settings, engine, options)


def _check_text(method: str, scoring: str) -> None:
    if scoring != "generation":
        raise SettingsError(
            f"scoring is {scoring!r}: {method} is answered in text; give 'generation', or drop it"
        )
