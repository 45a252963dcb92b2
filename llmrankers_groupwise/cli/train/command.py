"""The command `run-groupwise train`: from queries and teachers to a ranker of one's own."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from llmrankers_groupwise.cli.common.options import Help
from llmrankers_groupwise.cli.train.finetune import (
    add_grpo_options,
    add_sft_options,
    run_finetune,
)
from llmrankers_groupwise.cli.train.inspect import add_inspect_options, run_inspect
from llmrankers_groupwise.cli.train.synthesize import run_synthesize
from llmrankers_groupwise.cli.train.synthesize_options import add_synthesize_options

__all__ = ["add_train_parser", "run_train"]

# action -> what it does, its options, how it is done
_ACTIONS: Mapping[
    str,
    tuple[
        str,
        Callable[[argparse.ArgumentParser], None],
        Callable[[argparse.Namespace], None],
    ],
] = {
    "synthesize": (
        "training lists from queries, a corpus and two teachers",
        add_synthesize_options,
        run_synthesize,
    ),
    "inspect": (
        "the labels and sizes of training lists, in figures and as a plot",
        add_inspect_options,
        run_inspect,
    ),
    "sft": ("supervised fine-tuning on training lists", add_sft_options, run_finetune),
    "grpo": ("reinforcement learning on training lists", add_grpo_options, run_finetune),
}


def add_train_parser(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """Add `train` to the commands; gives the parsers of its actions."""
    train = commands.add_parser(
        "train",
        help="train a ranker: synthesize, inspect, sft, grpo",
        description="From queries, a corpus and two teachers to a ranker.",
        allow_abbrev=False,
    )
    actions = train.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    parsers = {}
    for name, (about, add_options, _) in _ACTIONS.items():
        parsers[name] = actions.add_parser(
            name, help=about, description=about, allow_abbrev=False, formatter_class=Help
        )
        add_options(parsers[name])
    return parsers


def run_train(arguments: argparse.Namespace) -> None:
    """Run `train synthesize`, `inspect`, `sft` or `grpo`."""
    _, _, run = _ACTIONS[arguments.action]
    run(arguments)
