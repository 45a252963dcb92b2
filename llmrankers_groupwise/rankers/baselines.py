"""The other methods behind llm-rankers' interface, to compare with on the same engine."""

from __future__ import annotations

from dataclasses import dataclass

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.listwise import ListwiseOptions, ListwiseSettings
from llmrankers_groupwise.methods.pointwise import PointwiseOptions, PointwiseSettings
from llmrankers_groupwise.methods.setwise import SetwiseOptions, SetwiseSettings
from llmrankers_groupwise.rankers.base import MethodRanker, resolve_prompt, resolve_scoring
from llmrankers_groupwise.rankers.options import RankerOptions, takes
from llmrankers_groupwise.settings import values_of

__all__ = ["ListwiseLlmRanker", "PointwiseLlmRanker", "SetwiseLlmRanker"]


@dataclass(frozen=True, kw_only=True)
class SetwiseRankerOptions(RankerOptions, SetwiseOptions):
    """What SetwiseLlmRanker can be given."""


class SetwiseLlmRanker(MethodRanker):
    """Setwise reranking (Rank-R1 and zero-shot), for models that pick the best of several.

    Names are those of llm-rankers' RankR1SetwiseLlmRanker. The scoring is "generation": comparisons
    are answered in text.

    Args:
        given: the fields of SetwiseRankerOptions, as arguments: those of
            `rankers.options.RankerOptions` and `methods.setwise.SetwiseOptions`.

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

    @takes(SetwiseRankerOptions)
    def __init__(self, given: SetwiseRankerOptions) -> None:
        _check_text("setwise", given.scoring)
        engine = given.make_engine()
        settings = SetwiseSettings(
            prompt=resolve_prompt(engine, given.prompt_file, "setwise", "setwise_best"),
            **values_of(given, SetwiseOptions),
        )
        super().__init__("setwise", settings, engine, given)


@dataclass(frozen=True, kw_only=True)
class ListwiseRankerOptions(RankerOptions, ListwiseOptions):
    """What ListwiseLlmRanker can be given."""


class ListwiseLlmRanker(MethodRanker):
    """Listwise reranking by a sliding window (RankZephyr, ReasonRank and their kin).

    The scoring is "generation": orders are answered in text. A prompt file may also be a YAML
    template of rank_llm.

    Args:
        given: the fields of ListwiseRankerOptions, as arguments: those of
            `rankers.options.RankerOptions` and `methods.listwise.ListwiseOptions`.

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

    @takes(ListwiseRankerOptions)
    def __init__(self, given: ListwiseRankerOptions) -> None:
        _check_text("listwise", given.scoring)
        engine = given.make_engine()
        chosen = values_of(given, ListwiseOptions)
        settings = ListwiseSettings(
            prompt=resolve_prompt(engine, given.prompt_file, "listwise", "listwise"),
            **{**chosen, "parsing": given.parsing or engine.order_rule},
        )
        super().__init__("listwise", settings, engine, given)


@dataclass(frozen=True, kw_only=True)
class PointwiseRankerOptions(RankerOptions, PointwiseOptions):
    """What PointwiseLlmRanker can be given."""


class PointwiseLlmRanker(MethodRanker):
    """Pointwise reranking: the likelihood of Yes, or an expected grade, of every document alone.

    Args:
        given: the fields of PointwiseRankerOptions, as arguments: those of
            `rankers.options.RankerOptions` and `methods.pointwise.PointwiseOptions`.

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

    @takes(PointwiseRankerOptions)
    def __init__(self, given: PointwiseRankerOptions) -> None:
        engine = given.make_engine()
        scoring = given.scoring
        if scoring is None and "likelihood" in engine.scorings:
            scoring = "likelihood"
        default = f"pointwise_{given.method}"
        settings = PointwiseSettings(
            prompt=resolve_prompt(engine, given.prompt_file, "pointwise", default),
            scoring=resolve_scoring(engine, scoring),
            **values_of(given, PointwiseOptions),
        )
        super().__init__("pointwise", settings, engine, given)


def _check_text(method: str, scoring: str | None) -> None:
    if scoring not in (None, "generation"):
        raise SettingsError(
            f"scoring is {scoring!r}: {method} is answered in text; give 'generation', or drop it"
        )
