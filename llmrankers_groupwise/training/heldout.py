"""A held-out run, reranked during training by the model as it is."""

from __future__ import annotations

from dataclasses import dataclass

from llmrankers_groupwise.first_stage import FirstStage
from llmrankers_groupwise.trec import Qrels

__all__ = ["HeldOut"]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What to measure a model on while it is trained.

    Attributes:
        first_stage: run, queries and passages.
        qrels: judgements.
        steps: every so many steps, before the first and after the last one.
        group_size: documents of one call; of setwise num_child + 1.
        query_length, passage_length: cut texts to so many tokens.
        max_tokens: the longest reply.
    """

    first_stage: FirstStage
    qrels: Qrels
    steps: int = 100
    group_size: int = 20
    query_length: int = 128
    passage_length: int = 512
    max_tokens: int = 2_048
