"""Supervised fine-tuning by TRL: the answer is learned, the prompt is not."""

from __future__ import annotations

from typing import Any

from llmrankers_groupwise.training.finetuning.fit import (
    Preparation,
    TrainResult,
    adapter_settings,
    bars,
    fit,
    prepare,
)
from llmrankers_groupwise.training.finetuning.models import (
    check_packing,
    computes_in_bf16,
    load_chat,
    load_network,
    tokens_taken,
)
from llmrankers_groupwise.training.finetuning.settings import SftSettings
from llmrankers_groupwise.training.finetuning.tokenization import inference_rows, sft_examples
from llmrankers_groupwise.training.finetuning.trl_config import configuration

__all__ = ["sft"]


def sft(settings: SftSettings) -> TrainResult:
    """Fine-tune a model on prompts and their answers.

    The result's folder is what `GroupwiseLlmRanker` takes as model, or `SetwiseLlmRanker` where
    the rows are of that method.

    Raises:
        InputError: path, rows, prompt or settings cannot be used; before a model is loaded.
        MissingDependencyError: the extra [train] is not installed.
        ModelError: the model cannot be loaded or trained.
    """
    prepared = prepare(settings, "sft")
    with bars(shown=settings.progress):
        return _sft(settings, prepared)


def _sft(settings: SftSettings, prepared: Preparation) -> TrainResult:
    from datasets import Dataset
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    from llmrankers_groupwise.engines.transformers.loading import end_tokens

    bf16 = computes_in_bf16(settings.bf16)
    own: dict[str, Any] = {"max_length": settings.max_length, "packing": settings.packing}
    config = configuration(SFTConfig, settings, own, bf16=bf16)
    chat = load_chat(settings)
    network = load_network(settings, bf16=bf16)
    if settings.packing:
        check_packing(network)
    ends = end_tokens(network, chat)
    rows = inference_rows(prepared.rows.rows, chat, prepared.prompt.decode())
    fitting = sft_examples(rows, chat, ends, settings.max_length, tokens_taken(settings))
    set_seed(settings.seed)  # of a new adapter's weights; TRL before 1.15 does not
    trainer = SFTTrainer(
        model=network,
        args=config,
        train_dataset=Dataset.from_list(fitting.rows),
        processing_class=chat.hugging_face,
        peft_config=adapter_settings(settings, network),
    )
    return fit(prepared, trainer, chat, fitting)
