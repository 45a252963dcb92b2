"""The options of `run-groupwise train sft` and `train grpo`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from llmrankers_groupwise.cli.common.options import positive
from llmrankers_groupwise.training.finetuning.settings import (
    GrpoSettings,
    SftSettings,
    TrainSettings,
)

__all__ = ["EVAL_SOURCES", "add_grpo_options", "add_sft_options", "json_object"]

Option = tuple[str, Callable[[str], Any], str]
"""A setting's name, how its text is read, and what it means."""

_MODEL: tuple[Option, ...] = (
    ("lora_rank", int, "rank of a new LoRA adapter"),
    ("lora_alpha", int, "its alpha"),
    ("lora_dropout", float, "its dropout"),
    ("lora_targets", str, "the layers it is on, one name or a JSON list"),
    ("attn_implementation", str, "of transformers, as sdpa or flash_attention_2"),
    ("chat_template", str, "a file, for a tokenizer that has no chat template"),
)
_TRAINING: tuple[Option, ...] = (
    ("num_train_epochs", float, "how often every row is seen"),
    ("max_steps", int, "end after so many steps; -1 by the epochs"),
    ("learning_rate", float, "at its highest"),
    ("per_device_train_batch_size", int, "rows, or replies, of one process at a time"),
    ("gradient_accumulation_steps", int, "so many of these make a step"),
    ("seed", int, "for everything drawn at random"),
    ("save_steps", int, "steps between checkpoints"),
    ("save_total_limit", int, "keep so many checkpoints"),
    ("logging_steps", int, "steps between points of the curves"),
    ("deepspeed", str, "a configuration of DeepSpeed"),
)
_SFT: tuple[Option, ...] = (("max_length", int, "leave out rows with more tokens, and pack to it"),)
_GRPO: tuple[Option, ...] = (
    (
        "reward",
        str,
        "grouprank_v3, grouprank_v1, rank_r1, or as JSON other weights for the first: "
        "ndcg, recall, rbo, js, kl, bad_json, bad_tags",
    ),
    ("num_generations", int, "replies to a prompt, compared with each other"),
    ("beta", float, "weight of the KL divergence from the model to begin with"),
    ("temperature", float, "of the replies"),
    ("max_prompt_length", int, "leave out rows with more tokens"),
    ("max_completion_length", int, "the longest reply in tokens"),
    ("vllm_server_host", str, "of trl vllm-serve, with --vllm server"),
    ("vllm_server_port", int, "its port"),
)
EVAL_SOURCES: Mapping[str, str] = {
    "run_path": "first-stage run",
    "candidates": "queries, first stage and passages in one JSONL file",
    "query_file": "queries",
    "pyserini_dataset": "queries, by name",
    "ir_dataset_name": "queries and passages from ir_datasets",
    "corpus": "passages",
    "pyserini_index": "passages in a Lucene index",
    "qrels": "judgements",
}
"""What of the held-out run comes from where; the options are --eval_ and these names."""


def add_sft_options(parser: argparse.ArgumentParser) -> None:
    """Those of `train sft`."""
    group = _add_common(parser, SftSettings)
    _add(group, SftSettings, _SFT)
    group.add_argument(
        "--no_packing", action="store_true", help="one row to a sequence, with padding"
    )


def add_grpo_options(parser: argparse.ArgumentParser) -> None:
    """Those of `train grpo`."""
    group = _add_common(parser, GrpoSettings)
    _add(group, GrpoSettings, _GRPO)
    group.add_argument(
        "--vllm",
        choices=("none", "colocate", "server"),
        default="none",
        help="write the replies by vLLM, on the same GPUs or behind a server (default: none)",
    )
    group.add_argument(
        "--curriculum", action="store_true", help="small groups first, then larger ones"
    )
    group.add_argument("--log_completions", action="store_true", help="log replies, too")


def json_object(text: str) -> dict[str, Any]:
    """Names with values, as JSON."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object: give names with values")
    return value


def _add_common(
    parser: argparse.ArgumentParser, settings: type[TrainSettings]
) -> argparse._ArgumentGroup:
    """What both have; gives the group for what only one has."""
    files = parser.add_argument_group("from what to what").add_argument
    files(
        "--model_name_or_path",
        required=True,
        metavar="NAME",
        help="the model, or adapter, to begin with",
    )
    files("--data", required=True, metavar="FOLDER", help="a training set, or a file of its rows")
    files("--save_path", required=True, metavar="OUT", help="the folder to make")
    files(
        "--prompt_file",
        metavar="FILE",
        help="what the rows were rendered from, where it is not beside them",
    )
    files("--resume", action="store_true", help="go on from the last checkpoint in OUT")
    files("--json", action="store_true", help="print the result as JSON")
    model = parser.add_argument_group("model")
    model.add_argument("--full", action="store_true", help="train all weights, no LoRA adapter")
    _add(model, settings, _MODEL)
    model.add_argument(
        "--chat_template_kwargs",
        type=json_object,
        default={},
        metavar="JSON",
        help="what the chat template is given besides",
    )
    model.add_argument("--trust_remote_code", action="store_true", help="run the model's code")
    training = parser.add_argument_group("training")
    _add(training, settings, _TRAINING)
    training.add_argument(
        "--bf16",
        choices=("auto", "yes", "no"),
        default="auto",
        help="compute in bfloat16; auto where a GPU does (default: auto)",
    )
    training.add_argument(
        "--no_gradient_checkpointing", action="store_true", help="keep all activations"
    )
    training.add_argument(
        "--report_to", choices=("tensorboard", "none"), default="tensorboard",
        help="where curves go besides the files (default: tensorboard)",
    )  # fmt: skip
    training.add_argument(
        "--trl_args", type=json_object, default={}, metavar="JSON",
        help="any other field of TRL's configuration",
    )  # fmt: skip
    _add_held_out(parser.add_argument_group("a held-out run to measure on during training"))
    return parser.add_argument_group(
        "supervised fine-tuning" if settings is SftSettings else "reinforcement learning"
    )


def _add_held_out(group: argparse._ArgumentGroup) -> None:
    for name, meaning in EVAL_SOURCES.items():
        named = name in ("pyserini_dataset", "ir_dataset_name", "pyserini_index")
        metavar = "NAME" if named else "FILE"
        group.add_argument(f"--eval_{name}", metavar=metavar, help=meaning)
    numbers = {
        "hits": (100, "documents of each query"),
        "steps": (100, "steps between measurements"),
        "group_size": (20, "documents of one call"),
        "query_length": (128, "cut queries to so many tokens"),
        "passage_length": (512, "cut passages to so many tokens"),
        "max_tokens": (2_048, "the longest reply"),
    }
    for name, (default, meaning) in numbers.items():
        group.add_argument(
            f"--eval_{name}",
            type=positive,
            default=default,
            metavar="N",
            help=f"{meaning} (default: {default})",
        )


def _add(
    group: argparse._ArgumentGroup, settings: type[TrainSettings], options: tuple[Option, ...]
) -> None:
    """Options whose defaults are those of the settings."""
    defaults = {each.name: each.default for each in dataclasses.fields(settings)}
    for name, read, meaning in options:
        default = defaults[name]
        shown = "" if default is None else f" (default: {default})"
        group.add_argument(
            f"--{name}",
            type=read,
            default=default,
            metavar="TEXT" if read is str else "N",
            help=f"{meaning}{shown}",
        )
