"""A whole run: a first stage in; a run file, its manifest and a summary out."""

from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.pipeline.results import Summary

__all__ = ["Experiment", "Summary"]
