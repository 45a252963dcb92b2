"""The commands `run-groupwise train sft` and `train grpo`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from llmrankers_groupwise.cli.common.inputs import first_stage
from llmrankers_groupwise.cli.train.finetune_options import EVAL_SOURCES
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.errors import InputError, ModelError, SettingsError
from llmrankers_groupwise.training.finetuning import curves
from llmrankers_groupwise.training.finetuning.fit import TrainResult
from llmrankers_groupwise.training.finetuning.grpo import REWARDS, grpo
from llmrankers_groupwise.training.finetuning.heldout import HeldOut
from llmrankers_groupwise.training.finetuning.result_folder import ResultFolder
from llmrankers_groupwise.training.finetuning.settings import (
    GrpoSettings,
    SftSettings,
    TrainSettings,
)
from llmrankers_groupwise.training.finetuning.sft import sft
from llmrankers_groupwise.training.rewards.rewards import GroupReward, grouprank_v3

__all__ = ["run_finetune"]

_BF16: Mapping[str, bool | None] = {"auto": None, "yes": True, "no": False}


def run_finetune(arguments: argparse.Namespace) -> None:
    """Do what it says.

    Raises:
        GroupwiseError: as `training.sft` and `training.grpo`.
    """
    if not sys.stderr.isatty():  # no bar, so a line for each point of the curves
        logging.getLogger(curves.__name__).setLevel(logging.INFO)
    # Trainers print to standard output, which is for the result.
    with _checkpoints_kept(arguments.save_path), contextlib.redirect_stdout(sys.stderr):
        if arguments.action == "sft":
            result = sft(SftSettings(**_settings(arguments, SftSettings)))
        else:
            result = grpo(GrpoSettings(**_settings(arguments, GrpoSettings)))
    if int(os.environ.get("RANK", "0")) == 0:  # of several processes one speaks
        _report(result, as_json=arguments.json)


@contextlib.contextmanager
def _checkpoints_kept(save_path: str) -> Iterator[None]:
    """A training that does not end well says how to go on, if it can."""
    try:
        yield
    except BaseException as error:
        kept = ResultFolder(save_path, main=True).last_checkpoint()
        if kept is not None and not isinstance(error, InputError | ModelError):
            print(f"{kept} is kept: the same command with --resume goes on", file=sys.stderr)
        raise


def _settings(arguments: argparse.Namespace, kind: type[TrainSettings]) -> dict[str, Any]:
    given = vars(arguments)
    names = {each.name for each in dataclasses.fields(kind)}
    values = {name: value for name, value in given.items() if name in names}
    values |= {
        "bf16": _BF16[arguments.bf16],
        "gradient_checkpointing": not arguments.no_gradient_checkpointing,
        "held_out": _held_out(arguments),
        "lora_targets": _targets(arguments.lora_targets),
        "progress": sys.stderr.isatty(),
    }
    if "no_packing" in given:
        values["packing"] = not arguments.no_packing
    if "reward" in given:
        values["reward"] = _reward(arguments.reward)
    return values


def _targets(text: str) -> str | list[str]:
    if not text.startswith("["):
        return text
    try:
        names: list[str] = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"--lora_targets {text!r} is no JSON: {error}") from error
    return names


def _reward(text: str) -> str | GroupReward:
    """A preset's name, or weights in place of those of grouprank_v3."""
    if not text.startswith("{"):
        return text
    known = [each.name for each in dataclasses.fields(GroupReward) if each.name != "tags"]
    try:
        weights = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"--reward {text!r} is no JSON: {error}") from error
    for name, value in weights.items():
        if name not in known:
            raise SettingsError(
                f"--reward has {name!r}: give weights of {', '.join(known[1:])}, or one of "
                f"{', '.join(REWARDS)}"
            )
        if name != "name" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise SettingsError(f"--reward {name} is {value!r}: give a number")
    return dataclasses.replace(grouprank_v3, **{"name": "weighted", **weights})


def _held_out(arguments: argparse.Namespace) -> HeldOut | None:
    """The held-out run, where its judgements are given."""
    given = {name: getattr(arguments, f"eval_{name}") for name in EVAL_SOURCES}
    if not any(given.values()):
        return None
    if not given["qrels"]:
        raise SettingsError("a held-out run needs judgements to measure it by: give --eval_qrels")
    stage = first_stage(argparse.Namespace(**given, hits=arguments.eval_hits), "eval_")
    lengths = ("steps", "group_size", "query_length", "passage_length", "max_tokens")
    return HeldOut(
        first_stage=stage,
        qrels=read_qrels(given["qrels"]),
        described={name: value for name, value in given.items() if value},
        **{name: getattr(arguments, f"eval_{name}") for name in lengths},
    )


def _report(result: TrainResult, *, as_json: bool) -> None:
    if as_json:
        described = {"path": str(result.path), "rows": result.rows, "too_long": result.too_long}
        print(json.dumps({**described, "metrics": result.metrics}))
        return
    for name, value in result.metrics.items():
        print(f"{name}\t{value:.6g}")
    print(f"trained on {result.rows} rows, {result.too_long} were too long")
    print(f"saved {result.path}")
