"""The options of `run-groupwise train synthesize`."""

from __future__ import annotations

import argparse
from typing import Any

from llmrankers_groupwise.cli.common.inputs import SOURCES, Inputs
from llmrankers_groupwise.cli.common.options import add_settings
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.settings import settings_of
from llmrankers_groupwise.training.data.list_settings import ListSettings
from llmrankers_groupwise.training.data.pools import PoolSettings
from llmrankers_groupwise.training.data.prompt_limits import PromptLimits
from llmrankers_groupwise.training.data.synthesis import Synthesis
from llmrankers_groupwise.training.data.teachers import Teacher, Teaching
from llmrankers_groupwise.types import Sampling

__all__ = ["add_synthesize_options", "teacher"]

_ROLES = ("pointwise", "listwise", "reasons")


def add_synthesize_options(parser: argparse.ArgumentParser) -> None:
    """Add them; those of single teachers are sections of a configuration file."""
    parser.epilog = (
        "A --config FILE can have sections `pointwise`, `listwise` and `reasons`, with options of "
        "one teacher alone: those of all teachers, prompt_file, and for pointwise scoring."
    )
    _add_candidates(parser.add_argument_group("queries, passages and candidates"))
    pools = parser.add_argument_group("pools")
    add_settings(pools, PoolSettings, prefix="pool_")
    _add_teachers(parser)
    _add_lists(parser.add_argument_group("training lists"))
    _add_outputs(parser.add_argument_group("what to make of it"))


def _add_candidates(group: argparse._ArgumentGroup) -> None:
    """Queries, passages, and where candidates come from."""
    add_settings(group, Inputs, only=(*SOURCES, "candidates"))
    add = group.add_argument
    add("--bm25_run", metavar="RUN", help="the candidates: a run of BM25, TREC format")
    add("--dense_run", metavar="RUN", help="the candidates: a run of a dense model")
    add(
        "--bm25",
        choices=("bm25s", "pyserini"),
        help="the candidates: search the corpus (bm25s), or the index (pyserini)",
    )
    add(
        "--dense_model",
        metavar="NAME",
        help="the candidates: search the corpus by a model of sentence-transformers; minilm is the "
        "embedded engine's",
    )
    add("--dense_device", metavar="DEVICE", help="where that model runs")
    add("--dense_batch_size", type=int, default=64, metavar="N", help="texts encoded at a time")
    add(
        "--alpha",
        type=float,
        default=0.5,
        metavar="X",
        help="the share of BM25 where both are given",
    )
    add_settings(group, Synthesis, only=("allow_missing",))


def _add_teachers(parser: argparse.ArgumentParser) -> None:
    """The teachers: options for all, and sections with the same ones for each."""
    group = parser.add_argument_group("teachers")
    add_settings(group, Teacher, only=("engine",))
    add_settings(group, EngineSettings)
    add_settings(group, Sampling, without=("seed",))
    add_settings(group, Teaching, without=("query_length", "passage_length"))
    for role in _ROLES:
        without = () if role == "pointwise" else ("scoring",)
        for each in (Teacher, EngineSettings, Sampling):
            add_settings(parser, each, prefix=f"{role}_", without=(*without, "seed"), section=role)


def _add_lists(group: argparse._ArgumentGroup) -> None:
    """What is made of the judgements."""
    add_settings(group, ListSettings)
    group.add_argument(
        "--qrels",
        metavar="FILE",
        help="make setwise lists of relevance judgements, without teachers",
    )
    add_settings(group, PromptLimits)


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    """Where it goes."""
    add_settings(group, Synthesis, only=("save_path", "force"))
    add = group.add_argument
    add(
        "--journals",
        metavar="FOLDER",
        help="where teachers' replies are kept and looked for; by default FOLDER.teachers",
    )
    add("--no_journal", action="store_true", help="keep no replies")
    add("--json", action="store_true", help="print the manifest")


def teacher(arguments: argparse.Namespace, role: str) -> Teacher:
    """The teacher of a role: by its own section, and by the options of all where it has none.

    With an engine of its own, it has none of the settings of the other engine.
    """
    own = getattr(arguments, f"{role}_engine")
    apart = own is not None and own != arguments.engine
    settings = {
        each.name: _chosen(arguments, role, each.name, apart=apart)
        for each in settings_of(EngineSettings)
    }
    drawing = {
        each.name: _chosen(arguments, role, each.name)
        for each in settings_of(Sampling)
        if each.name != "seed"
    }
    return Teacher(
        engine=own or arguments.engine,
        settings=EngineSettings(**{**settings, "engine_args": dict(settings["engine_args"])}),
        prompt_file=getattr(arguments, f"{role}_prompt_file"),
        scoring=getattr(arguments, f"{role}_scoring", None),
        sampling=Sampling(seed=arguments.seed, **drawing),
    )


def _chosen(arguments: argparse.Namespace, role: str, name: str, *, apart: bool = False) -> Any:
    value = getattr(arguments, f"{role}_{name}")
    return getattr(arguments, name) if value in (None, []) and not apart else value
