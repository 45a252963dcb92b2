"""Reinforcement learning by TRL's GRPO: replies to a prompt are compared with each other."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

from llmrankers_groupwise.engines.llm.tokenizer import ChatTokenizer
from llmrankers_groupwise.errors import InputError, SettingsError
from llmrankers_groupwise.prompting.tags import ANSWER, TAGS
from llmrankers_groupwise.training.data.load import TrainingRows
from llmrankers_groupwise.training.finetuning.fit import (
    Preparation,
    TrainResult,
    adapter_settings,
    bars,
    fit,
    prepare,
)
from llmrankers_groupwise.training.finetuning.models import (
    computes_in_bf16,
    load_chat,
    load_network,
    require_vllm,
    tokens_taken,
)
from llmrankers_groupwise.training.finetuning.settings import GrpoSettings
from llmrankers_groupwise.training.finetuning.tokenization import (
    fitting_prompts,
    inference_rows,
)
from llmrankers_groupwise.training.finetuning.trl_config import configuration
from llmrankers_groupwise.training.rewards.registry import COLUMNS, REWARDS, method_of
from llmrankers_groupwise.training.rewards.rewards import GroupReward

__all__ = ["by_size", "grpo", "whole_replies"]

logger = logging.getLogger(__name__)

_EQUAL = "frac_reward_zero_std"
"""TRL's name for the share of prompts whose replies all got the same reward."""


def grpo(settings: GrpoSettings) -> TrainResult:
    """Train a model by the rewards of its own replies.

    KL is measured from the model that training begins with: without its new adapter, or with a
    frozen copy of the adapter whose training goes on (both are TRL's doing).

    Raises:
        InputError: path, rows, prompt or settings cannot be used; before a model is loaded.
        MissingDependencyError: the extra [train] is not installed.
        ModelError: the model cannot be loaded or trained.
    """
    prepared = prepare(settings, "rl")
    require_vllm(settings.vllm)
    reward = _asked_for(_reward(settings.reward, prepared.rows.method), prepared.prompt)
    _check_batch(settings, len(prepared.rows.rows))
    _check_rows(reward, prepared.rows)
    with bars(shown=settings.progress):
        return _grpo(settings, prepared, reward)


def _grpo(settings: GrpoSettings, prepared: Preparation, reward: Callable[..., Any]) -> TrainResult:
    from datasets import Dataset
    from transformers import set_seed
    from trl import GRPOConfig, GRPOTrainer

    from llmrankers_groupwise.engines.transformers.loading import end_tokens

    bf16 = computes_in_bf16(settings.bf16)
    config = configuration(GRPOConfig, settings, _own(settings), bf16=bf16)
    chat = load_chat(settings)
    shown = inference_rows(prepared.rows.rows, chat, prepared.prompt.decode())
    fitting = fitting_prompts(shown, chat, settings.max_prompt_length, _room(settings))
    _check_batch(settings, len(fitting.rows))
    network = load_network(settings, bf16=bf16)
    rows = fitting.rows
    if settings.curriculum:
        rows = by_size(rows, _prompts(settings, len(rows)), settings.seed)
    set_seed(settings.seed)  # of a new adapter's weights; TRL before 1.15 does not
    trainer = GRPOTrainer(
        model=network,
        reward_funcs=whole_replies(reward, chat, end_tokens(network, chat)),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=chat.hugging_face,
        peft_config=adapter_settings(settings, network),
    )
    result = fit(prepared, trainer, chat, fitting)
    if prepared.folder.main:
        _warn_of_equal_rewards(result)
    return result


def _warn_of_equal_rewards(result: TrainResult) -> None:
    """Replies are compared with each other: where all are worth the same, none is preferred."""
    shares = [point[_EQUAL] for point in result.log_history if _EQUAL in point]
    if shares and min(shares) == 1.0:
        logger.warning(
            "at every step all replies to a prompt got the same reward (the last: %.4g), from "
            "which nothing is learned: look at replies by log_completions, and train by SFT first",
            result.metrics.get("reward", math.nan),
        )


def by_size(rows: Sequence[dict[str, Any]], prompts: int, seed: int) -> list[dict[str, Any]]:
    """Small groups first, at random within a size: a progressive curriculum.

    Sizes grow once from the beginning of the training to its end, however often rows are seen.

    Args:
        rows: to draw from, one as often as any other, or once more.
        prompts: how many are seen in the whole training.
        seed: of the draw.
    """
    rng = random.Random(seed)
    times, more = divmod(prompts, len(rows))
    drawn = [*list(rows) * times, *rng.sample(rows, more)]
    rng.shuffle(drawn)
    return sorted(drawn, key=lambda row: len(row.get("doc_ids") or row.get("gold") or ()))


def _prompts(settings: GrpoSettings, rows: int) -> int:
    """How many prompts a training with `rows` rows sees."""
    a_step = max(1, _replies(settings) // settings.num_generations)
    if settings.max_steps <= 0:
        return max(a_step, round(settings.num_train_epochs * rows))
    uses: int = settings.trl_args.get("num_iterations", 1)  # steps that each reply is used for
    return max(a_step, settings.max_steps * a_step // uses)


def _replies(settings: GrpoSettings) -> int:
    """The replies of a step."""
    own = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    return own * _processes()


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def whole_replies(
    reward: Callable[..., Any], chat: ChatTokenizer, ends: Collection[int]
) -> Callable[..., Any]:
    """A reward that reads replies as inference does, whatever tokens they are made of.

    TRL decodes without the tokenizer's special tokens. Where a tag of an answer is one, the reward
    gets the replies' own tokens decoded instead.
    """
    if not any(chat.control.intersection(chat.encode(tag)) for tag in TAGS):
        return reward

    def read(completions: Any, *, completion_ids: Any, **columns: Any) -> Any:
        replies = [[{"role": "assistant", "content": chat.decode(_up_to_end(ids, ends))}]
                   for ids in completion_ids]  # fmt: skip
        return reward(replies, completion_ids=completion_ids, **columns)

    read.__name__ = getattr(reward, "__name__", type(reward).__name__)
    return read


def _up_to_end(ids: Sequence[int], ends: Collection[int]) -> Sequence[int]:
    end = next((index for index, token in enumerate(ids) if token in ends), len(ids))
    return ids[:end]


def _reward(given: Any, method: str) -> Callable[..., Any]:
    """The reward, which must be one of the rows' method."""
    reward: Callable[..., Any] = given
    if isinstance(given, str):
        if given not in REWARDS:
            raise SettingsError(f"reward is {given!r}: give one of {', '.join(REWARDS)}")
        reward = REWARDS[given].reward
    if not callable(reward):
        raise SettingsError(f"reward is {given!r}: give {', '.join(REWARDS)}, or a function")
    of = method_of(reward)
    if of not in (None, method):
        better = "rank_r1" if method == "setwise" else "grouprank_v3"
        name = getattr(reward, "__name__", given)
        raise InputError(
            f"the rows are of {method} and the reward {name} is of {of}: give reward {better}, or "
            f"other rows"
        )
    return reward


def _asked_for(reward: Callable[..., Any], prompt: bytes) -> Callable[..., Any]:
    """The reward of replies as the prompt asks for them: with tags only where it speaks of them."""
    if isinstance(reward, GroupReward) and ANSWER.encode() not in prompt and reward.tags:
        logger.warning("the prompt asks for no tags, and %s looks for none", reward.name)
        return dataclasses.replace(reward, tags=False)
    if method_of(reward) == "setwise" and ANSWER.encode() not in prompt:
        logger.warning(
            "the prompt does not ask for <think> and <answer>, and rank_r1 gives a reply without "
            "them 0: make rows with a prompt that does"
        )
    return reward


def _check_rows(reward: Callable[..., Any], rows: TrainingRows) -> None:
    """Rows that allow no reward are counted before anything costly begins; all of them are none."""
    method = method_of(reward)
    if method is None:
        return
    columns = {name: [row[name] for row in rows.rows] for name in COLUMNS[method]}
    rewards = reward([""] * len(rows.rows), **columns)
    if all(each is None for each in rewards):
        raise InputError(
            f"{rows.path}: no row allows the reward, as no document of it has a gold score above 0 "
            f"or none is relevant: make other rows, or give another reward"
        )


def _check_batch(settings: GrpoSettings, rows: int) -> None:
    """All replies to a prompt must be in one batch, and there must be prompts for a batch."""
    if {"generation_batch_size", "steps_per_generation"} & settings.trl_args.keys():
        return  # TRL checks these
    replies = _replies(settings)
    if replies % settings.num_generations:
        raise SettingsError(
            f"a step has {replies} replies (per_device_train_batch_size "
            f"{settings.per_device_train_batch_size} x gradient_accumulation_steps "
            f"{settings.gradient_accumulation_steps} x {_processes()} processes), which "
            f"num_generations {settings.num_generations} does not divide: make it a multiple"
        )
    if rows < (prompts := replies // settings.num_generations):
        raise SettingsError(
            f"a step takes {prompts} prompts and there are {rows}: make smaller batches, or more "
            f"rows"
        )


def _room(settings: GrpoSettings) -> int | None:
    """The tokens of a prompt that leave room for the longest reply; None for no limit."""
    taken = tokens_taken(settings)
    if taken is None:
        return None
    if settings.max_completion_length >= taken:
        raise SettingsError(
            f"max_completion_length is {settings.max_completion_length}, and the model takes "
            f"{taken} tokens with the prompt: give fewer"
        )
    return taken - settings.max_completion_length


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
    if settings.curriculum:
        own["num_train_epochs"] = 1.0  # the rows are those of all epochs
    if settings.vllm == "colocate" and "vllm_max_model_length" not in settings.trl_args:
        wanted = settings.max_prompt_length + settings.max_completion_length
        own["vllm_max_model_length"] = min(wanted, tokens_taken(settings) or wanted)
    if settings.vllm != "none":
        own |= {"vllm_mode": settings.vllm, "vllm_server_host": settings.vllm_server_host,
                "vllm_server_port": settings.vllm_server_port}  # fmt: skip
    return own
