"""Reinforcement learning by TRL's GRPO: replies to a prompt are compared with each other."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from llmrankers_groupwise.engines.chat import ChatTokenizer
from llmrankers_groupwise.errors import InputError, SettingsError
from llmrankers_groupwise.training.arguments import configuration
from llmrankers_groupwise.training.fit import (
    Preparation,
    TrainResult,
    adapter_settings,
    bars,
    fit,
    prepare,
)
from llmrankers_groupwise.training.models import (
    computes_in_bf16,
    load_chat,
    load_network,
    require_vllm,
)
from llmrankers_groupwise.training.rewards import (
    GroupReward,
    grouprank_v1,
    grouprank_v3,
    rank_r1,
)
from llmrankers_groupwise.training.settings import GrpoSettings
from llmrankers_groupwise.training.tokens import fitting_prompts

__all__ = ["REWARDS", "by_size", "grpo", "whole_replies"]

logger = logging.getLogger(__name__)

REWARDS: Mapping[str, Callable[..., Any]] = {
    "grouprank_v3": grouprank_v3,
    "grouprank_v1": grouprank_v1,
    "rank_r1": rank_r1,
}
"""Presets of rewards by name."""

_TAGS = ("<reason>", "</reason>", "<answer>", "</answer>", "<think>", "</think>")


def grpo(settings: GrpoSettings) -> TrainResult:
    """Train a model by the rewards of its own replies.

    KL is measured from the model that training begins with: without its new adapter, or with a
    frozen copy of the adapter whose training goes on (both are TRL's doing).

    Raises:
        InputError: place, rows, prompt or settings cannot be used; before a model is loaded.
        MissingDependencyError: the extra [train] is not installed.
        ModelError: the model cannot be loaded or trained.
    """
    prepared = prepare(settings, "rl")
    require_vllm(settings.vllm)
    reward = _reward(settings.reward, prepared.rows.method)
    _check_batch(settings, len(prepared.rows.rows))
    if isinstance(reward, GroupReward) and b"<answer>" not in prepared.prompt:
        logger.warning(
            "the prompt does not ask for <reason> and <answer>, and %s gives a reply without them "
            "%g: make rows with a prompt that does, or give a reward of the parts",
            reward.name,
            reward.bad_tags,
        )
    with bars(shown=settings.progress):
        return _grpo(settings, prepared, reward)


def _grpo(settings: GrpoSettings, prepared: Preparation, reward: Callable[..., Any]) -> TrainResult:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from llmrankers_groupwise.engines.loading import end_tokens

    bf16 = computes_in_bf16(settings.bf16)
    config = configuration(GRPOConfig, settings, _own(settings), bf16=bf16)
    chat = load_chat(settings)
    fitting = fitting_prompts(prepared.rows.rows, chat, settings.max_prompt_length)
    _check_batch(settings, len(fitting.rows))
    network = load_network(settings, bf16=bf16)
    rows = by_size(fitting.rows, settings.seed) if settings.curriculum else fitting.rows
    trainer = GRPOTrainer(
        model=network,
        reward_funcs=whole_replies(reward, chat, end_tokens(network, chat)),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=chat.hugging_face,
        peft_config=adapter_settings(settings, network),
    )
    return fit(prepared, trainer, chat, fitting, "grpo")


def by_size(rows: Sequence[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Small groups first, at random within a size: a progressive curriculum."""
    shuffled = random.Random(seed).sample(rows, len(rows))
    return sorted(shuffled, key=lambda row: len(row.get("doc_ids") or row.get("gold") or ()))


def whole_replies(
    reward: Callable[..., Any], chat: ChatTokenizer, ends: Collection[int]
) -> Callable[..., Any]:
    """A reward that reads replies as inference does, whatever tokens they are made of.

    TRL decodes without the tokenizer's special tokens. Where a tag of an answer is one, the reward
    gets the replies' own tokens decoded instead.
    """
    if not any(chat.control.intersection(chat.encode(tag)) for tag in _TAGS):
        return reward

    def read(completions: Any, *, completion_ids: Any, **columns: Any) -> Any:
        said = [[{"role": "assistant", "content": chat.decode(_up_to_end(ids, ends))}]
                for ids in completion_ids]  # fmt: skip
        return reward(said, completion_ids=completion_ids, **columns)

    read.__name__ = getattr(reward, "__name__", type(reward).__name__)
    return read


def _up_to_end(ids: Sequence[int], ends: Collection[int]) -> Sequence[int]:
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[:end]


def _reward(given: Any, method: str) -> Callable[..., Any]:
    """The reward, which must be one of the rows' method."""
    reward: Callable[..., Any] = given
    if isinstance(given, str):
        if given not in REWARDS:
            raise SettingsError(f"reward is {given!r}: give one of {', '.join(REWARDS)}")
        reward = REWARDS[given]
    if not callable(reward):
        raise SettingsError(f"reward is {given!r}: give {', '.join(REWARDS)}, or a function")
    of = "setwise" if reward is rank_r1 else "groupwise" if isinstance(reward, GroupReward) else ""
    if of not in ("", method):
        better = "rank_r1" if method == "setwise" else "grouprank_v3"
        name = getattr(reward, "__name__", given)
        raise InputError(
            f"the rows are of {method} and the reward {name} is of {of}: give reward {better}, or "
            f"other rows"
        )
    return reward


def _check_batch(settings: GrpoSettings, rows: int) -> None:
    """All replies to a prompt must be in one batch, and there must be prompts for a batch."""
    if {"generation_batch_size", "steps_per_generation"} & settings.trl_args.keys():
        return  # TRL checks these
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    replies = (
        settings.per_device_train_batch_size * settings.gradient_accumulation_steps * processes
    )
    if replies % settings.num_generations:
        raise SettingsError(
            f"a step has {replies} replies (per_device_train_batch_size "
            f"{settings.per_device_train_batch_size} x gradient_accumulation_steps "
            f"{settings.gradient_accumulation_steps} x {processes} processes), which "
            f"num_generations {settings.num_generations} does not divide: make it a multiple"
        )
    if rows < (prompts := replies // settings.num_generations):
        raise SettingsError(
            f"a step takes {prompts} prompts and there are {rows}: make smaller batches, or more "
            f"rows"
        )


def _own(settings: GrpoSettings) -> dict[str, Any]:
    own: dict[str, Any] = {
        "num_generations": settings.num_generations,
        "beta": settings.beta,
        "temperature": settings.temperature,
        "max_completion_length": settings.max_completion_length,
        "chat_template_kwargs": dict(settings.chat_template_kwargs),
        "shuffle_dataset": not settings.curriculum,
        "log_completions": settings.log_completions,
        "use_vllm": settings.vllm != "none",
    }
    if settings.vllm == "colocate" and "vllm_max_model_length" not in settings.trl_args:
        own["vllm_max_model_length"] = settings.max_prompt_length + settings.max_completion_length
    if settings.vllm != "none":
        own |= {"vllm_mode": settings.vllm, "vllm_server_host": settings.vllm_server_host,
                "vllm_server_port": settings.vllm_server_port}  # fmt: skip
    return own
