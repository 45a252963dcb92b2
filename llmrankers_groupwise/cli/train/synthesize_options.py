"""The options of `run-groupwise train synthesize`."""

from __future__ import annotations

import argparse
from typing import Any

from llmrankers_groupwise.cli.common.options import assignment
from llmrankers_groupwise.engines.base import ENGINES, EngineSettings
from llmrankers_groupwise.training.data.lists import ListSettings
from llmrankers_groupwise.training.data.pools import PoolSettings
from llmrankers_groupwise.training.data.reasons import REASONS
from llmrankers_groupwise.training.data.student import PromptLimits
from llmrankers_groupwise.training.data.teachers import Teacher
from llmrankers_groupwise.types import Sampling

__all__ = [
    "add_candidate_options",
    "add_list_options",
    "add_output_options",
    "add_pool_options",
    "add_teacher_options",
    "teacher",
]

_ENGINE_OPTIONS = (
    "model_name_or_path",
    "lora_name_or_path",
    "tokenizer_name_or_path",
    "device",
    "cache_dir",
)
_SAMPLING_OPTIONS = ("temperature", "top_p", "max_tokens", "reasoning_tokens")
_ROLES = {
    "pointwise": "the teacher that scores documents one by one",
    "listwise": "the teacher that orders a whole pool in one call",
    "reasons": "who writes reasons, with --reasons",
}


def add_candidate_options(group: argparse._ArgumentGroup) -> None:
    """Queries, passages, and where candidates come from."""
    add = group.add_argument
    add("--query_file", metavar="FILE", help="queries: TSV, or JSONL with _id and text")
    add("--pyserini_dataset", metavar="NAME", help="queries: topics of pyserini")
    add("--ir_dataset_name", metavar="NAME", help="queries and passages from ir_datasets")
    add("--corpus", metavar="FILE", help="passages: JSONL with _id, title and text")
    add("--pyserini_index", metavar="INDEX", help="passages: a Lucene index or a prebuilt name")
    add("--candidates", metavar="FILE", help="queries, candidates and passages: rank_llm's JSONL")
    add("--bm25_run", metavar="RUN", help="candidates: a run, TREC format")
    add("--dense_run", metavar="RUN", help="candidates: a run of a dense model")
    add("--bm25", choices=("bm25s", "pyserini"), help="candidates: search the corpus, or the index")
    add(
        "--dense_model",
        metavar="NAME",
        help="candidates: search the corpus by a model of sentence-transformers; minilm is the "
        "embedded engine's",
    )
    add("--dense_device", metavar="DEVICE", help="where that model runs")
    add("--dense_batch_size", type=int, default=64, help="texts encoded at a time (default: 64)")
    add(
        "--alpha", type=float, default=0.5, help="share of BM25 where both are given (default: 0.5)"
    )
    add("--allow_missing", action="store_true", help="leave out what has no text")


def add_pool_options(group: argparse._ArgumentGroup) -> None:
    """Which candidates are judged."""
    add = group.add_argument
    pools = PoolSettings()
    for name, value, about in (
        ("top", pools.top, "so many of the best are in every pool"),
        ("sampled", pools.sampled, "so many more are drawn from those behind them"),
        ("deepest", pools.deepest, "down to this rank; so many are taken of each source"),
    ):
        add(f"--pool_{name}", type=int, default=value, metavar="N", help=f"{about} ({value})")


def add_teacher_options(parser: argparse.ArgumentParser) -> None:
    """Who judges: options for all, and the same ones again for each."""
    both = parser.add_argument_group("all teachers")
    _add_teacher(both, "", default="embedded")
    add = both.add_argument
    limits = PromptLimits()
    for what, length in (("query", limits.query_length), ("passage", limits.passage_length)):
        add(
            f"--{what}_length",
            type=int,
            default=length,
            metavar="N",
            help=f"cut each {what} to so many tokens ({length})",
        )
    add(
        "--max_failure_rate",
        type=float,
        default=0.1,
        help="end if a larger share of a teacher's replies fails (0.1)",
    )
    for role, about in _ROLES.items():
        _add_teacher(parser.add_argument_group(f"one teacher: {about}"), f"{role}_")


def _add_teacher(group: argparse._ArgumentGroup, prefix: str, default: str | None = None) -> None:
    add = group.add_argument
    add(f"--{prefix}engine", choices=sorted(ENGINES), default=default, help="who answers")
    for name in _ENGINE_OPTIONS:
        option = "lora_path_or_name" if name == "lora_name_or_path" else name  # as of `run`
        add(f"--{prefix}{option}", dest=f"{prefix}{name}", metavar="NAME", help="as of `run`")
    add(
        f"--{prefix}engine_args",
        action="append",
        default=[],
        type=assignment,
        metavar="KEY=VALUE",
        help="a setting by the engine's own name; may be repeated",
    )
    drawing = Sampling()
    for name in _SAMPLING_OPTIONS:
        kind = float if isinstance(getattr(drawing, name), float) else int
        add(f"--{prefix}{name}", type=kind, metavar="N", help="as of `run`")
    if prefix:
        add(f"--{prefix}prompt_file", help="a file, or a name of `prompts list`")
    if prefix == "pointwise_":
        add(
            "--pointwise_scoring",
            choices=("generation", "likelihood"),
            help="else likelihood where the engine does it",
        )


def add_list_options(group: argparse._ArgumentGroup) -> None:
    """What is made of the judgements."""
    add = group.add_argument
    lists = ListSettings()
    add(
        "--method",
        choices=("groupwise", "setwise"),
        default=lists.method,
        help="whose lists (groupwise)",
    )
    add("--qrels", metavar="FILE", help="setwise lists from judgements: nobody is asked")
    add(
        "--reasons",
        choices=REASONS,
        default=lists.reasons,
        help="reasoning of SFT rows: none, a teacher's own, or written for the scores (none)",
    )
    add(
        "--prompt_file",
        help="prompt of the model that is to be trained; default by method and reasons",
    )
    for name, about in (
        ("sft_lists", "lists of a query for SFT"),
        ("rl_lists", "lists of a query for reinforcement learning"),
        ("setwise_size", "documents of a setwise list"),
        ("positives", "positives of a query for retrievers; 0 for no such rows"),
        ("negatives", "hard negatives of a query for retrievers"),
        ("beta", "the pointwise teacher's share of the labels, 0..1"),
        ("min_agreement", "of --reasons teacher: share of pairs that must be in the labels' order"),
        ("seed", "for everything drawn at random"),
    ):
        value = getattr(lists, name)
        add(f"--{name}", type=type(value), default=value, metavar="N", help=f"{about} ({value})")
    add(
        "--group_sizes",
        type=int,
        nargs="+",
        metavar="N",
        help="sizes of groupwise lists, drawn alike; else the published shares of 5 to 20",
    )
    add(
        "--student_tokenizer",
        metavar="NAME",
        help="tokenizer of the model that is to be trained, to cut and measure prompts by",
    )
    add("--max_prompt_tokens", type=int, metavar="N", help="leave longer prompts out")
    add("--max_prompt_characters", type=int, metavar="N", help="leave longer prompts out")


def add_output_options(group: argparse._ArgumentGroup) -> None:
    """Where it goes."""
    add = group.add_argument
    add("--save_path", metavar="FOLDER", required=True, help="the folder to make")
    add("--force", action="store_true", help="replace a training set that was made before")
    add(
        "--journals",
        metavar="FOLDER",
        help="where teachers' replies are kept and looked for; by default FOLDER.teachers",
    )
    add("--no_journal", action="store_true", help="keep no replies")
    add("--json", action="store_true", help="print the manifest")


def teacher(arguments: argparse.Namespace, role: str) -> Teacher:
    """The teacher of a role: by its own options, and by those for all where it has none.

    With an engine of its own, the other engine's settings are none of its.
    """
    own = getattr(arguments, f"{role}_engine")
    apart = own is not None and own != arguments.engine

    def given(name: str) -> Any:
        value = getattr(arguments, f"{role}_{name}")
        return getattr(arguments, name) if value in (None, []) and not apart else value

    drawing: dict[str, Any] = {}
    for name in _SAMPLING_OPTIONS:
        for value in (getattr(arguments, f"{role}_{name}"), getattr(arguments, name)):
            if value is not None:
                drawing.setdefault(name, value)
    return Teacher(
        engine=own or arguments.engine,
        settings=EngineSettings(
            engine_args=dict(given("engine_args")),
            **{name: given(name) for name in _ENGINE_OPTIONS},
        ),
        prompt_file=getattr(arguments, f"{role}_prompt_file"),
        scoring=getattr(arguments, f"{role}_scoring", None),
        sampling=Sampling(seed=arguments.seed, **drawing),
    )
