"""Groupwise reranking with language models, beside the rankers of llm-rankers."""

from llmrankers_groupwise.errors import GroupwiseError, InputError
from llmrankers_groupwise.ranker import GroupwiseLlmRanker
from llmrankers_groupwise.sibling_rankers import (
    ListwiseLlmRanker,
    PointwiseLlmRanker,
    SetwiseLlmRanker,
)

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
