"""Groupwise reranking with language models, beside the rankers of llm-rankers."""

from llmrankers_groupwise.errors import GroupwiseError, InputError
from llmrankers_groupwise.ranker import GroupwiseLlmRanker

__all__ = ["GroupwiseError", "GroupwiseLlmRanker", "InputError", "__version__"]

__version__ = "0.1.0"
