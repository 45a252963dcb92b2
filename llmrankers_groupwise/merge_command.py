"""The command `run-groupwise merge`: a ranking made again from the replies in journals."""

from __future__ import annotations

import argparse

from llmrankers_groupwise.experiment import Experiment
from llmrankers_groupwise.merging import Recorded
from llmrankers_groupwise.methods.registry import METHODS
from llmrankers_groupwise.reporting import check_other, report, table_at_any_end
from llmrankers_groupwise.trec import read_qrels

__all__ = ["run_merge"]


def run_merge(arguments: argparse.Namespace) -> None:
    """Do what `merge` says.

    Raises:
        GroupwiseError: as `Recorded` and `Experiment.run`.
    """
    for journal in arguments.journal:
        check_other(arguments.save_path, journal, "a --journal")
    qrels = read_qrels(arguments.qrels) if arguments.qrels else None
    method = arguments.ranked_by
    settings = {name: getattr(arguments, name) for name in METHODS[method].options}
    with Recorded(arguments.journal) as recorded:
        ranker = recorded.ranker(method, settings, lenient=arguments.allow_missing)
        experiment = Experiment(
            first_stage=recorded.first_stage(),
            ranker=ranker,
            save_path=arguments.save_path,
            query_length=recorded.described["run"]["query_length"],
            passage_length=recorded.described["run"]["passage_length"],
            qrels=qrels,
            measures=arguments.measures,
            allow_missing=arguments.allow_missing or recorded.described["run"]["allow_missing"],
            max_failure_rate=arguments.max_failure_rate,
            tag=arguments.tag,
            settings={"journals": arguments.journal, "merged": recorded.described["run"]},
        )
        with table_at_any_end(experiment):
            summary = experiment.run()
    report(arguments, summary, ranker.engine.describe())
