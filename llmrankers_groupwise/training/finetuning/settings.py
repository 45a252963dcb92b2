"""What a training is told: published settings as defaults, TRL's own names for the rest.

The defaults are those that GroupRank (arXiv 2511.11653v3) and Rank-R1 (arXiv 2503.06034) publish;
where they are silent, ours are marked so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.training.finetuning.heldout import HeldOut
from llmrankers_groupwise.training.rewards.rewards import GroupReward

__all__ = ["RANK_R1_LORA", "GrpoSettings", "Reward", "Rollouts", "SftSettings", "TrainSettings"]

Reward = str | GroupReward | Callable[..., Any]
"""A preset's name, a reward of one's own weights, or a function in TRL's form."""

Rollouts = Literal["none", "colocate", "server"]
"""Who writes the replies: the model as it is trained, or vLLM beside it or behind a server."""

RANK_R1_LORA: Mapping[str, Any] = {"lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0.05}
"""The adapter of Rank-R1: `GrpoSettings(..., reward="rank_r1", **RANK_R1_LORA)`."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What SFT and GRPO have in common.

    Attributes:
        model_name_or_path: the model to begin with: a name or folder of a causal language model,
            or the folder of an adapter, whose training goes on.
        data: the folder of a training set, or a file of rows; see `datasets.load_rows`.
        save_path: the folder to make. It must be new or empty, unless `resume`.
        full: train all weights instead of a LoRA adapter.
        lora_rank, lora_alpha, lora_dropout, lora_targets: of a new adapter. Of GroupRank are rank
            and alpha 32 on all linear layers.
        learning_rate, num_train_epochs: published for each kind.
        max_steps: ends earlier, or later, than the epochs; -1 for not.
        per_device_train_batch_size, gradient_accumulation_steps: of one process; ours.
        bf16: compute in bfloat16; None where there is hardware for it.
        gradient_checkpointing: compute activations again instead of keeping them.
        attn_implementation: of transformers, as "sdpa" or "flash_attention_2".
        trust_remote_code: run code that comes with the model.
        chat_template: a Jinja template or its path, for a tokenizer that has none.
        chat_template_kwargs: passed to the template, as the engine is going to.
        seed: of everything drawn at random.
        save_steps, save_total_limit: checkpoints to resume from, `save_path/checkpoint-N`.
        logging_steps: between two points of the curves.
        report_to: where curves go besides the files; "tensorboard" or "none".
        resume: go on from the last checkpoint in `save_path`.
        prompt_file: of rows that have none beside them: what they were rendered from.
        held_out: a run to measure the model on during training; None for none.
        deepspeed: a configuration of DeepSpeed, for several GPUs; accelerate's own files do, too.
        progress: show a progress bar and the curves' figures.
        trl_args: any other field of TRL's configuration, by its name.
    """

    model_name_or_path: str
    data: str | Path
    save_path: str | Path
    full: bool = False
    lora_rank: int = 32
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_targets: str | Sequence[str] = "all-linear"
    learning_rate: float = 1e-5
    num_train_epochs: float = 1.0
    max_steps: int = -1
    per_device_train_batch_size: int = 1
    gradient_accumulation_steps: int = 8
    bf16: bool | None = None
    gradient_checkpointing: bool = True
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    save_steps: int = 500
    save_total_limit: int | None = 2
    logging_steps: int = 10
    report_to: str = "tensorboard"
    resume: bool = False
    prompt_file: str | None = None
    held_out: HeldOut | None = None
    deepspeed: str | None = None
    progress: bool = False
    trl_args: Mapping[str, Any] = field(default_factory=dict)

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

    def _own_counts(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, kw_only=True)
class SftSettings(TrainSettings):
    """Supervised fine-tuning: 5 epochs, learning rate 3e-5, 32,768 tokens, packing.

    Attributes:
        max_length: the longest row in tokens, and the length that rows are packed to; longer rows
            are left out and counted.
        packing: put several rows into one sequence; they do not see each other.
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
        reward: "grouprank_v3", "grouprank_v1" or "rank_r1", a `rewards.GroupReward`, or a function
            in TRL's form.
        num_generations: replies to one prompt, which are compared with each other.
        beta: the weight of the KL divergence from the model that training began with.
        temperature: of the replies.
        max_prompt_length: in tokens; longer rows are left out and counted.
        max_completion_length: the longest reply in tokens.
        num_train_epochs: ours; it is not published.
        vllm: who writes the replies.
        vllm_server_host, vllm_server_port: of `trl vllm-serve`, where that is a server.
        curriculum: small groups first, then larger ones, once through the whole training; at
            random within a size.
        log_completions: log replies with their rewards, too.
    """

    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    reward: Reward = "grouprank_v3"
    num_generations: int = 8
    beta: float = 0.001
    temperature: float = 1.0
    max_prompt_length: int = 24_000
    max_completion_length: int = 8_000
    vllm: Rollouts = "none"
    vllm_server_host: str = "127.0.0.1"
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
        if self.vllm not in ("none", "colocate", "server"):
            raise SettingsError(f"vllm is {self.vllm!r}: give none, colocate or server")

    def _own_counts(self) -> tuple[str, ...]:
        return ("num_generations", "max_prompt_length", "max_completion_length")
