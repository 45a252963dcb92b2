"""The commands `run-groupwise train sft` and `train grpo`."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from llmrankers_groupwise.cli.common.inputs import Inputs, first_stage
from llmrankers_groupwise.cli.common.options import add_settings
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.errors import InputError, ModelError, SettingsError
from llmrankers_groupwise.settings import settings_of, values_of
from llmrankers_groupwise.training.finetuning import curves
from llmrankers_groupwise.training.finetuning.fit import TrainResult
from llmrankers_groupwise.training.finetuning.grpo import grpo
from llmrankers_groupwise.training.finetuning.heldout import HeldOut
from llmrankers_groupwise.training.finetuning.result_folder import ResultFolder
from llmrankers_groupwise.training.finetuning.settings import (
    GrpoSettings,
    SftSettings,
    TrainSettings,
)
from llmrankers_groupwise.training.finetuning.sft import sft

__all__ = ["add_grpo_options", "add_sft_options", "run_finetune"]

_FILES = ("model_name_or_path", "data", "save_path", "prompt_file", "resume")
_MODEL = (
    "full", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "attn_implementation",
    "chat_template", "chat_template_kwargs", "trust_remote_code",
)  # fmt: skip
_HELD_OUT = "eval_"


def add_sft_options(parser: argparse.ArgumentParser) -> None:
    """Those of `train sft`."""
    _add_options(parser, SftSettings, "supervised fine-tuning")


def add_grpo_options(parser: argparse.ArgumentParser) -> None:
    """Those of `train grpo`."""
    _add_options(parser, GrpoSettings, "reinforcement learning")


def _add_options(
    parser: argparse.ArgumentParser, settings: type[TrainSettings], title: str
) -> None:
    common = [each.name for each in settings_of(TrainSettings)]
    files = parser.add_argument_group("from what to what")
    add_settings(files, settings, only=_FILES)
    files.add_argument("--json", action="store_true", help="print the result as JSON")
    add_settings(parser.add_argument_group("model"), settings, only=_MODEL)
    training = [name for name in common if name not in (*_FILES, *_MODEL)]
    add_settings(parser.add_argument_group("training"), settings, only=training)
    add_settings(parser.add_argument_group(title), settings, without=common)
    held_out = parser.add_argument_group("a held-out run to measure on during training")
    add_settings(held_out, Inputs, prefix=_HELD_OUT)
    add_settings(held_out, HeldOut, prefix=_HELD_OUT)


def run_finetune(arguments: argparse.Namespace) -> None:
    """Run `train sft` or `train grpo`.

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
    """After a failed training, print how to resume it, if it can be resumed."""
    try:
        yield
    except BaseException as error:
        kept = ResultFolder(save_path, main=True).last_checkpoint()
        if kept is not None and not isinstance(error, InputError | ModelError):
            print(f"{kept} is kept: the same command with --resume goes on", file=sys.stderr)
        raise


def _settings(arguments: argparse.Namespace, kind: type[TrainSettings]) -> dict[str, Any]:
    own = {"held_out": _held_out(arguments), "progress": sys.stderr.isatty()}
    return values_of(arguments, kind) | own


def _held_out(arguments: argparse.Namespace) -> HeldOut | None:
    """The held-out run, where its judgements are given."""
    inputs = Inputs(**values_of(arguments, Inputs, _HELD_OUT))
    sources = {name: value for name, value in vars(inputs).items() if value and name != "hits"}
    if not sources:
        return None
    if inputs.qrels is None:
        raise SettingsError("a held-out run needs judgements to measure it by: give --eval_qrels")
    return HeldOut(
        first_stage=first_stage(inputs, _HELD_OUT),
        qrels=read_qrels(inputs.qrels),
        described=sources,
        **values_of(arguments, HeldOut, _HELD_OUT),
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
