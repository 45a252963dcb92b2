"""Reranking methods: short asynchronous functions that ask and rank."""

from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings
from llmrankers_groupwise.methods.listwise import ListwiseSettings
from llmrankers_groupwise.methods.pointwise import PointwiseSettings
from llmrankers_groupwise.methods.registry import METHODS
from llmrankers_groupwise.methods.setwise import SetwiseSettings

__all__ = [
    "METHODS",
    "GroupwiseSettings",
    "ListwiseSettings",
    "PointwiseSettings",
    "SetwiseSettings",
]
