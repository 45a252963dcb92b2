"""Measures, tests of significance, and runs compared."""

from llmrankers_groupwise.evaluation.comparison import Comparison, compare_runs
from llmrankers_groupwise.evaluation.measures import evaluate, evaluate_queries

__all__ = ["Comparison", "compare_runs", "evaluate", "evaluate_queries"]
