"""What a training is told: published settings as defaults, TRL's own names for the rest.

The defaults are those that GroupRank (arXiv 2511.11653v3) and Rank-R1 (arXiv 2503.06034) publish;
where they are silent, ours are marked so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.settings import (
    INTERNAL,
    FilePath,
    Form,
    JsonObject,
    Name,
    check_choices,
    name_or_json,
)
from llmrankers_groupwise.training.finetuning.heldout import HeldOut
from llmrankers_groupwise.training.rewards.registry import read_reward, reward_weights
from llmrankers_groupwise.training.rewards.rewards import GroupReward

__all__ = ["RANK_R1_LORA", "GrpoSettings", "Reward", "Rollouts", "SftSettings", "TrainSettings"]

Reward = str | GroupReward | Callable[..., Any]
"""A preset's name, a reward of one's own weights, or a function in TRL's form."""

Rollouts = Literal["none", "colocate", "server"]
"""Who writes the replies: the model as it is trained, or vLLM beside it or behind a server."""

RANK_R1_LORA: Mapping[str, Any] = {"lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0.05}
"""The adapter of Rank-R1: `GrpoSettings(..., reward="rank_r1", **RANK_R1_LORA)`."""


def _targets(text: str) -> str | list[str]:
    """One name, or a JSON list of names."""
    if not text.startswith("["):
        return text
    try:
        names: list[str] = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not JSON: {error}") from error
    return names


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What SFT and GRPO have in common.

    Attributes:
        model_name_or_path: the model to begin with: the name or folder of a causal language model,
            or the folder of an adapter, whose training goes on.
        data: the folder of a training set, or a file of its rows.
        save_path: the folder to make. It must be new or empty, unless the training is resumed.
        prompt_file: the prompt that the rows were rendered from, if it is not beside them.
        resume: continue from the last checkpoint in the folder.
        full: train all weights instead of a LoRA adapter.
        lora_rank: the rank of a new LoRA adapter; GroupRank has 32.
        lora_alpha: its alpha; GroupRank has 32.
        lora_dropout: its dropout.
        lora_targets: the layers that it is on: one name, or a JSON list of names.
        attn_implementation: the attention of transformers, for example sdpa or flash_attention_2.
        chat_template: a Jinja template or its path, for a tokenizer that has none.
        chat_template_kwargs: arguments for the chat template, as the engine will give them.
        trust_remote_code: run code that comes with the model.
        num_train_epochs: how many times every row is used.
        max_steps: stop after this number of steps; -1 trains for num_train_epochs.
        learning_rate: the highest learning rate.
        per_device_train_batch_size: the rows, or replies, that one process handles at a time.
        gradient_accumulation_steps: the number of such batches in one step.
        bf16: compute in bfloat16; by default where there is a GPU that does.
        gradient_checkpointing: compute activations again instead of keeping them, to save memory.
        seed: the seed of everything that is drawn at random.
        save_steps: the steps between checkpoints to resume from, OUT/checkpoint-N.
        save_total_limit: the number of checkpoints to keep.
        logging_steps: the steps between two points of the curves.
        report_to: where curves go besides the files.
        deepspeed: a configuration file of DeepSpeed, for several GPUs.
        trl_args: any other field of TRL's configuration, by its name.
        held_out: a run to measure the model on during training; None for none.
        progress: show a progress bar and the curves' figures.
    """

    model_name_or_path: Name
    data: Annotated[str | Path, Form("FOLDER")]
    save_path: Annotated[str | Path, Form("OUT")]
    prompt_file: FilePath | None = None
    resume: bool = False
    full: bool = False
    lora_rank: int = 32
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_targets: Annotated[str | Sequence[str], name_or_json(_targets)] = "all-linear"
    attn_implementation: Name | None = None
    chat_template: FilePath | None = None
    chat_template_kwargs: JsonObject = field(default_factory=dict)
    trust_remote_code: bool = False
    num_train_epochs: float = 1.0
    max_steps: int = -1
    learning_rate: float = 1e-5
    per_device_train_batch_size: int = 1
    gradient_accumulation_steps: int = 8
    bf16: bool | None = None
    gradient_checkpointing: bool = True
    seed: int = 0
    save_steps: int = 500
    save_total_limit: int | None = 2
    logging_steps: int = 10
    report_to: Literal["tensorboard", "none"] = "tensorboard"
    deepspeed: FilePath | None = None
    trl_args: JsonObject = field(default_factory=dict)
    held_out: HeldOut | None = None
    progress: Annotated[bool, INTERNAL] = False

    def __post_init__(self) -> None:
        """Raise SettingsError where a setting is out of its range."""
        counts = ("lora_rank", "per_device_train_batch_size", "gradient_accumulation_steps",
                  "save_steps", "logging_steps")  # fmt: skip
        for name in (*counts, *self._own_counts()):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise SettingsError(f"{name} is {value!r}: give a whole number from 1")
        for name in ("lora_alpha", "learning_rate", "num_train_epochs"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: give more than 0")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed is {self.seed!r}: give a whole number from 0")
        targets = self.lora_targets
        if not isinstance(targets, str) and not all(isinstance(each, str) for each in targets):
            raise SettingsError(f"lora_targets is {targets!r}: give names of layers")
        if not 0 <= self.lora_dropout < 1:
            raise SettingsError(f"lora_dropout is {self.lora_dropout!r}: give 0 up to below 1")
        check_choices(self)

    def _own_counts(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, kw_only=True)
class SftSettings(TrainSettings):
    """Supervised fine-tuning: 5 epochs, learning rate 3e-5, 32,768 tokens, packing.

    Attributes:
        max_length: the longest row in tokens, and the length that rows are packed to. Longer rows
            are left out and counted.
        packing: put several rows into one sequence, where they do not see each other; without it
            rows are padded.
    """

    learning_rate: float = 3e-5
    num_train_epochs: float = 5.0
    max_length: int = 32_768
    packing: bool = True

    def _own_counts(self) -> tuple[str, ...]:
        return ("max_length",)


@dataclass(frozen=True, kw_only=True)
class GrpoSettings(TrainSettings):
    """Reinforcement learning: learning rate 1e-5, 8 rollouts, KL 0.001, temperature 1.

    Attributes:
        reward: grouprank_v3, grouprank_v1, rank_r1, or a JSON object of other weights for
            grouprank_v3: ndcg, recall, rbo, js, kl, bad_json, bad_tags. In Python also a
            `rewards.GroupReward`, or a function in TRL's form.
        num_generations: the number of replies to one prompt, which are compared with each other.
        beta: the weight of the KL divergence from the model that training began with.
        temperature: the sampling temperature of the replies.
        max_prompt_length: the longest prompt in tokens; longer rows are left out and counted.
        max_completion_length: the longest reply in tokens.
        vllm: write the replies by vLLM, on the same GPUs (colocate) or by a server.
        vllm_server_host: the host of `trl vllm-serve`.
        vllm_server_port: its port.
        curriculum: train on small groups first, then on larger ones, in one pass.
        log_completions: log replies with their rewards, too.
    """

    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    reward: Annotated[Reward, name_or_json(read_reward, reward_weights)] = "grouprank_v3"
    num_generations: int = 8
    beta: float = 0.001
    temperature: float = 1.0
    max_prompt_length: int = 24_000
    max_completion_length: int = 8_000
    vllm: Rollouts = "none"
    vllm_server_host: Name = "127.0.0.1"
    vllm_server_port: int = 8000
    curriculum: bool = False
    log_completions: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_generations < 2:
            raise SettingsError(
                f"num_generations is {self.num_generations}: give 2 or more, as replies are "
                f"compared with each other"
            )
        if not self.beta >= 0:
            raise SettingsError(f"beta is {self.beta!r}: give 0 or more")
        if not self.temperature > 0:
            raise SettingsError(f"temperature is {self.temperature!r}: give more than 0")

    def _own_counts(self) -> tuple[str, ...]:
        return ("num_generations", "max_prompt_length", "max_completion_length")
