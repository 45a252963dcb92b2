"""Groupwise reranking with language models, beside the rankers of llm-rankers."""

from llmrankers_groupwise.engines.base import Engine, EngineSettings
from llmrankers_groupwise.errors import (
    DownloadError,
    EngineError,
    FailureRateError,
    FileError,
    GroupwiseError,
    InputError,
    JournalError,
    MissingDependencyError,
    ModelError,
    NoJournalError,
    PromptError,
    SettingsError,
)
from llmrankers_groupwise.rankers.baselines import (
    ListwiseLlmRanker,
    PointwiseLlmRanker,
    SetwiseLlmRanker,
)
from llmrankers_groupwise.rankers.groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.types import (
    Candidate,
    Query,
    RankedDocument,
    Ranking,
    Reply,
    Request,
    Sampling,
)

__all__ = [
    "Candidate",
    "DownloadError",
    "Engine",
    "EngineError",
    "EngineSettings",
    "FailureRateError",
    "FileError",
    "GroupwiseError",
    "GroupwiseLlmRanker",
    "InputError",
    "JournalError",
    "ListwiseLlmRanker",
    "MissingDependencyError",
    "ModelError",
    "NoJournalError",
    "PointwiseLlmRanker",
    "PromptError",
    "Query",
    "RankedDocument",
    "Ranking",
    "Reply",
    "Request",
    "Sampling",
    "SettingsError",
    "SetwiseLlmRanker",
    "__version__",
]

__version__ = "0.1.0"
