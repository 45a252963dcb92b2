"""The command `run-groupwise train synthesize`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrankers_groupwise.cli.common.inputs import SOURCES, passage_source, query_source
from llmrankers_groupwise.cli.common.output import replies_kept
from llmrankers_groupwise.cli.train.synthesize_options import teacher
from llmrankers_groupwise.data.candidate_files import CandidateFile
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.pyserini import LucenePassages
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.data.run_files import Run, RunFile
from llmrankers_groupwise.data.sources import open_corpus
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.pipeline.retrieval import (
    bm25s_run,
    check_alpha,
    dense_run,
    fused_run,
    pyserini_run,
)
from llmrankers_groupwise.settings import values_of
from llmrankers_groupwise.training.data.list_settings import ListSettings
from llmrankers_groupwise.training.data.pools import PoolSettings
from llmrankers_groupwise.training.data.prompt_limits import PromptLimits
from llmrankers_groupwise.training.data.synthesis import Synthesis
from llmrankers_groupwise.training.data.teachers import Teaching
from llmrankers_groupwise.training.data.write import Made

__all__ = ["run_synthesize"]

_INPUT_OPTIONS = (
    *SOURCES, "candidates", "bm25_run", "dense_run", "bm25", "dense_model", "alpha", "qrels",
    "allow_missing",
)  # fmt: skip
_COUNTS: Mapping[str, str] = {
    "queries": "queries",
    "queries_without_text": "queries without text left out",
    "queries_without_candidates": "queries without candidates left out",
    "pools": "pools",
    "documents": "documents in them",
    "duplicate_documents": "duplicates of a better ranked text left out",
    "documents_without_text": "documents without text left out",
    "pointwise_tied": "documents that tie by the pointwise teacher",
    "pointwise_unjudged": "documents without a pointwise score left out",
    "listwise_unjudged": "documents without a rank by the listwise teacher",
    "queries_without_order": "queries without an order by the listwise teacher left out",
    "queries_without_relevant": "queries without a relevant document left out",
    "queries_whose_relevant_has_no_text": "queries whose relevant document has no text left out",
    "pools_too_small": "pools that are too small left out",
    "pools_all_equal": "pools whose labels are all equal left out",
    "labelled_pools": "labelled pools",
    "tied_labels": "documents in them whose label another one has",
    "lists_all_equal": "lists whose labels are all equal left out",
    "lists_below_size": "setwise lists that are smaller",
    "rows_too_long": "lists whose prompt is too long left out",
    "reasons_asked": "reasons asked for",
    "reasons_failed": "reasons that failed",
    "reasons_told": "reasons that speak of the scores they were told",
    "reasons_disagreed": "reasons of a teacher who disagrees",
    "sft_rows": "rows for SFT",
    "rl_rows": "rows for reinforcement learning",
    "pools_without_hard_negatives": "pools with too few hard negatives for retrievers",
    "retriever_rows": "rows for retrievers",
}


def run_synthesize(arguments: argparse.Namespace) -> None:
    """Run `train synthesize`.

    Raises:
        GroupwiseError: as `Synthesis.run`, and for bad settings and files.
    """
    _check_candidates(arguments)
    if arguments.no_journal and arguments.journals:
        raise SettingsError("--journals and --no_journal contradict: give one of them")
    journals = Path(arguments.journals or f"{Path(arguments.save_path)}.teachers")
    synthesis = Synthesis(
        save_path=arguments.save_path,
        pointwise=teacher(arguments, "pointwise"),
        listwise=teacher(arguments, "listwise"),
        reasoner=teacher(arguments, "reasons"),
        lists=ListSettings(
            **values_of(arguments, ListSettings) | {"group_sizes": tuple(arguments.group_sizes)}
        ),
        pools=PoolSettings(seed=arguments.seed, **values_of(arguments, PoolSettings, "pool_")),
        limits=PromptLimits(**values_of(arguments, PromptLimits)),
        teaching=Teaching(
            journals=None if arguments.no_journal else journals,
            progress=sys.stderr.isatty(),
            **values_of(arguments, Teaching),
        ),
        qrels=read_qrels(arguments.qrels) if arguments.qrels else None,
        allow_missing=arguments.allow_missing,
        force=arguments.force,
        described={
            "inputs": {name: getattr(arguments, name) for name in _INPUT_OPTIONS},
        },
    )
    with replies_kept(None if arguments.no_journal else journals):
        made = synthesis.run(lambda: _candidates(arguments))
    print(json.dumps(made.manifest) if arguments.json else _table(made))
    if not arguments.json:
        print(f"saved {arguments.save_path}")


def _check_candidates(arguments: argparse.Namespace) -> None:
    """Find out what contradicts itself before anything is read."""
    check_alpha(arguments.alpha)
    if arguments.dense_batch_size < 1:
        raise SettingsError(f"--dense_batch_size is {arguments.dense_batch_size}: give 1 or more")
    made = ("bm25_run", "dense_run", "bm25", "dense_model")
    given = [name for name in made if getattr(arguments, name)]
    if arguments.candidates:
        given += [name for name in SOURCES if getattr(arguments, name)]
        if given:
            raise SettingsError(f"--candidates brings it all: drop --{given[0]}")
        return
    if not given:
        options = ", ".join(f"--{name}" for name in made)
        raise SettingsError(f"there are no candidates: give one or two of {options}, or a file by "
                            f"--candidates")  # fmt: skip
    for one, other in (("bm25_run", "bm25"), ("dense_run", "dense_model")):
        if one in given and other in given:
            raise SettingsError(f"--{one} and --{other} are the same source: give one of them")
    if (arguments.bm25 == "bm25s" or arguments.dense_model) and not arguments.corpus:
        raise SettingsError("--bm25 bm25s and --dense_model search --corpus FILE: give that")
    if arguments.bm25 == "pyserini" and not arguments.pyserini_index:
        raise SettingsError("--bm25 pyserini searches --pyserini_index INDEX: give that")


def _candidates(arguments: argparse.Namespace) -> FirstStage:
    """The first stage: one source, or two fused."""
    hits = arguments.pool_deepest
    if arguments.candidates:
        file = CandidateFile(arguments.candidates, hits)
        return FirstStage(file.run, file.queries, file)
    queries, passages = query_source(arguments), _passages(arguments)
    sources: dict[str, Run] = {}
    if arguments.bm25_run:
        sources["bm25"] = RunFile(arguments.bm25_run, hits)
    elif arguments.bm25 == "bm25s":
        sources["bm25"] = bm25s_run(queries, passages["corpus"], hits)
    elif arguments.bm25:
        sources["bm25"] = pyserini_run(queries, passages["pyserini_index"], hits)
    if arguments.dense_run:
        sources["dense"] = RunFile(arguments.dense_run, hits)
    elif arguments.dense_model:
        sources["dense"] = dense_run(
            queries,
            passages["corpus"],
            arguments.dense_model,
            hits,
            arguments.dense_device,
            arguments.dense_batch_size,
        )
    texts = next(iter(passages.values()))
    if len(sources) == 1:
        (run,) = sources.values()
    else:
        run = fused_run(sources["bm25"], sources["dense"], arguments.alpha, hits)
    return FirstStage(run, queries, texts)


def _passages(arguments: argparse.Namespace) -> dict[str, Any]:
    """Option -> its passages; the first are shown, and any of them searched."""
    if arguments.corpus and arguments.pyserini_index and arguments.bm25 == "pyserini":
        return {
            "corpus": open_corpus(arguments.corpus),
            "pyserini_index": LucenePassages(arguments.pyserini_index),
        }
    source = passage_source(arguments)
    return dict.fromkeys(("corpus", "pyserini_index"), source)


def _table(made: Made) -> str:
    """What was counted, a line for each; of what was left out only where there was any."""
    counts = made.manifest["counts"]
    rows = [f"{counts[name]:>10,} {what}" for name, what in _COUNTS.items() if counts.get(name)]
    for name, told in made.manifest["teachers"].items():
        usage = told["summary"]["usage"]
        rows.append(
            f"{usage['calls']:>10,} calls of the {name} teacher ({usage['reused']:,} answered "
            f"before, {usage['errors']:,} without an answer), {usage['prompt_tokens']:,} prompt "
            f"and {usage['completion_tokens']:,} completion tokens"
        )
    return "\n".join(rows)
