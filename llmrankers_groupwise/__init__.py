"""Groupwise reranking with language models, beside the rankers of llm-rankers."""

from llmrankers_groupwise.errors import GroupwiseError, InputError
from llmrankers_groupwise.rankers.baselines import (
    ListwiseLlmRanker,
    PointwiseLlmRanker,
    SetwiseLlmRanker,
)
from llmrankers_groupwise.rankers.groupwise import GroupwiseLlmRanker

__all__ = [
    "GroupwiseError",
    "GroupwiseLlmRanker",
    "InputError",
    "ListwiseLlmRanker",
    "PointwiseLlmRanker",
    "SetwiseLlmRanker",
    "__version__",
]

__version__ = "0.1.0"
