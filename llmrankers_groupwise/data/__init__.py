"""Runs, queries, relevance judgements, passages and test collections."""

from llmrankers_groupwise.data.collections.prepare import prepare
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import JsonlPassages
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.data.queries import read_queries
from llmrankers_groupwise.data.run_files import RunEntry, RunFile

__all__ = [
    "FirstStage",
    "JsonlPassages",
    "RunEntry",
    "RunFile",
    "prepare",
    "read_qrels",
    "read_queries",
]
