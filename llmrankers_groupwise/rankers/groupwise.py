"""The drop-in face: groupwise reranking as a subclass of llm-rankers' LlmRanker."""

from __future__ import annotations

from typing import Any, Self, Unpack

from llmrankers_groupwise.methods.groupwise.aggregation import Fusion
from llmrankers_groupwise.methods.groupwise.calibration import Calibration
from llmrankers_groupwise.methods.groupwise.grouping import Strategy
from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings
from llmrankers_groupwise.rankers.base import (
    MethodRanker,
    RankerOptions,
    make_engine,
    resolve_prompt,
    resolve_scoring,
)
from llmrankers_groupwise.rankers.presets import with_preset
from llmrankers_groupwise.scores import Ties
from llmrankers_groupwise.types import Sampling, Scoring

__all__ = ["GroupwiseLlmRanker"]


class GroupwiseLlmRanker(MethodRanker):
    """Groupwise reranking behind llm-rankers' interface.

    Constructor names are those of llm-rankers' RankR1SetwiseLlmRanker where it has one.

    Args:
        model_name_or_path: the model; None with engine="embedded", which carries its own.
        prompt_file: a path or the name of a bundled prompt file; None takes the one that the model
            was trained with by `run-groupwise train`, else chooses by scoring.
        lora_name_or_path, tokenizer_name_or_path: passed to the engine.
        scoring: "generation" or "likelihood"; None takes the engine's default.
        group_size, num_repeat, overlap, grouping, anchors, calibration, fusion,
            first_stage_weight, shrinkage, ties, final_round, final_calls, boundary, until_stable,
            seed: see `methods.groupwise.GroupwiseSettings`.
        options: engine, engine_args, device, cache_dir, sampling, max_failure_rate, journal and
            verbose; see `rankers.base.RankerOptions`.

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

    def __init__(
        self,
        model_name_or_path: str | None = None,
        prompt_file: str | None = None,
        lora_name_or_path: str | None = None,
        tokenizer_name_or_path: str | None = None,
        *,
        scoring: Scoring | None = None,
        group_size: int = 20,
        num_repeat: int = 1,
        overlap: int = 0,
        grouping: Strategy = "random",
        anchors: int = 0,
        calibration: Calibration = "none",
        fusion: Fusion = "mean",
        first_stage_weight: float = 0.0,
        shrinkage: float = 0.0,
        ties: Ties = "first_stage",
        final_round: int = 0,
        final_calls: int = 1,
        boundary: int = 0,
        until_stable: int = 0,
        seed: int = 0,
        **options: Unpack[RankerOptions],
    ) -> None:
        engine = make_engine(model_name_or_path, lora_name_or_path, tokenizer_name_or_path, options)
        scoring = resolve_scoring(engine, scoring)
        sampling = options.get("sampling") or Sampling()
        reasons = scoring == "generation" or sampling.reasoning_tokens
        default = "groupwise" if reasons else "groupwise_scores"
        settings = GroupwiseSettings(
            prompt=resolve_prompt(engine, prompt_file, "groupwise", default),
            scoring=scoring,
            group_size=group_size,
            num_repeat=num_repeat,
            overlap=overlap,
            grouping=grouping,
            anchors=anchors,
            calibration=calibration,
            fusion=fusion,
            first_stage_weight=first_stage_weight,
            shrinkage=shrinkage,
            ties=ties,
            final_round=final_round,
            final_calls=final_calls,
            boundary=boundary,
            until_stable=until_stable,
            seed=seed,
        )
        super().__init__("groupwise", settings, engine, options)

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
