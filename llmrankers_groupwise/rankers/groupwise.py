"""The drop-in face: groupwise reranking as a subclass of llm-rankers' LlmRanker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from llmrankers_groupwise.methods.groupwise.method import GroupwiseOptions, GroupwiseSettings
from llmrankers_groupwise.rankers.base import MethodRanker, resolve_prompt, resolve_scoring
from llmrankers_groupwise.rankers.options import RankerOptions, takes
from llmrankers_groupwise.rankers.presets import with_preset
from llmrankers_groupwise.settings import values_of
from llmrankers_groupwise.types import Sampling

__all__ = ["GroupwiseLlmRanker", "GroupwiseRankerOptions"]


@dataclass(frozen=True, kw_only=True)
class GroupwiseRankerOptions(RankerOptions, GroupwiseOptions):
    """What GroupwiseLlmRanker can be given."""


class GroupwiseLlmRanker(MethodRanker):
    """Groupwise reranking behind llm-rankers' interface.

    Names are those of llm-rankers' RankR1SetwiseLlmRanker where it has one.

    Args:
        given: the fields of GroupwiseRankerOptions, as arguments: those of
            `rankers.options.RankerOptions` and `methods.groupwise.method.GroupwiseOptions`.

    Raises:
        SettingsError, PromptError, MissingDependencyError: before any model is asked.

    >>> from llmrankers.rankers import SearchResult
    >>> docs = [
    ...     SearchResult("d1", 2.0, "Bread needs yeast."),
    ...     SearchResult("d2", 1.0, "Cats see well at night."),
    ... ]
    >>> with GroupwiseLlmRanker() as ranker:
    ...     [doc.docid for doc in ranker.rerank("how do cats see at night", docs)]
    ['d2', 'd1']
    """

    @takes(GroupwiseRankerOptions)
    def __init__(self, given: GroupwiseRankerOptions) -> None:
        engine = given.make_engine()
        scoring = resolve_scoring(engine, given.scoring)
        sampling = given.sampling or Sampling()
        reasons = scoring == "generation" or sampling.reasoning_tokens
        default = "groupwise" if reasons else "groupwise_scores"
        settings = GroupwiseSettings(
            prompt=resolve_prompt(engine, given.prompt_file, "groupwise", default),
            scoring=scoring,
            **values_of(given, GroupwiseOptions),
        )
        super().__init__("groupwise", settings, engine, given)

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
