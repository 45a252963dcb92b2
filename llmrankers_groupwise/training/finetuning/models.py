"""The model that a training begins with: weights, adapter, tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrankers_groupwise.engines.llm.adapters import adapter_base, check_adapter, is_adapter
from llmrankers_groupwise.engines.llm.pretrained import (
    first_line,
    load_tokenizer,
    model_length,
    unusable,
)
from llmrankers_groupwise.engines.llm.tokenizer import ChatSettings, ChatTokenizer
from llmrankers_groupwise.errors import MissingDependencyError, ModelError, SettingsError
from llmrankers_groupwise.training.finetuning.settings import TrainSettings

__all__ = ["check_packing", "computes_in_bf16", "load_chat", "load_network", "require_training",
           "require_vllm", "tokens_taken"]  # fmt: skip

logger = logging.getLogger(__name__)

_PACKAGES: Mapping[str, str] = {"torch": "PyTorch", "trl": "TRL", "peft": "peft",
                                "datasets": "datasets"}  # fmt: skip

_SAME = 0.05
"""The share of logits' standard deviation that bfloat16 stays well below, unlike a row in sight."""


def require_training(report_to: str = "none") -> None:
    """Raise MissingDependencyError unless everything that trains is installed."""
    from importlib.util import find_spec

    needed = dict(_PACKAGES)
    if report_to == "tensorboard":
        needed["tensorboard"] = "TensorBoard"
    missing = [name for package, name in needed.items() if find_spec(package) is None]
    if missing:
        raise MissingDependencyError(f"training needs {' and '.join(missing)}", "train")


def require_vllm(rollouts: str) -> None:
    """Raise MissingDependencyError if replies are to come from vLLM and there is none."""
    from importlib.util import find_spec

    if rollouts != "none" and find_spec("vllm") is None:
        raise MissingDependencyError(
            f"without --vllm none replies come from vLLM, and vllm {rollouts} needs vLLM", "vllm"
        )


def computes_in_bf16(given: bool | None) -> bool:
    """Whether to compute in bfloat16: as given, else where a GPU does it by itself.

    Raises:
        SettingsError: it is asked for and there is no hardware for it.
    """
    import torch

    able = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if given and not able:
        raise SettingsError("bf16 is asked for, and no GPU here computes in it: drop it")
    return able if given is None else given


def load_chat(settings: TrainSettings) -> ChatTokenizer:
    """The tokenizer with its chat template, as the engines have it at inference.

    Raises:
        ModelError: there is no tokenizer, or it has no chat template.
    """
    name = settings.model_name_or_path
    if is_adapter(name) and not (Path(name) / "tokenizer_config.json").is_file():
        name = adapter_base(name)
    tokenizer = load_tokenizer(name, trust_remote_code=settings.trust_remote_code)
    if settings.chat_template is None and not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer {name} has no chat template: begin with an instruct or chat model, or "
            f"give a template by --chat_template FILE; it is saved with the result"
        )
    chat = ChatTokenizer(
        tokenizer, ChatSettings(settings.chat_template, settings.chat_template_kwargs)
    )
    tokenizer.chat_template = chat.template  # TRL and the folder that is saved have it, too
    return chat


def tokens_taken(settings: TrainSettings) -> int | None:
    """The most tokens that the model takes by its configuration; None if that has no limit.

    Raises:
        ModelError: there is no such model.
    """
    name = settings.model_name_or_path
    if is_adapter(name):
        name = adapter_base(name)
    return model_length(name, trust_remote_code=settings.trust_remote_code)


def load_network(settings: TrainSettings, *, bf16: bool) -> Any:
    """The model to train: whole, or frozen below an adapter whose training goes on.

    TRL makes a new adapter after this. Weights that are trained are kept in float32, also
    where they are computed with in bfloat16; frozen ones in bfloat16 then.

    Raises:
        ModelError: model or adapter cannot be loaded, or do not fit each other.
        SettingsError: an adapter whose training should go on in full.
    """
    from transformers import AutoModelForCausalLM

    name, adapter = settings.model_name_or_path, None
    if is_adapter(name):
        name, adapter = adapter_base(name), name
        if settings.full:
            raise SettingsError(
                f"{adapter} is an adapter, and full trains all weights: drop full, or merge the "
                f"adapter into its model first"
            )
    if Path(name).is_dir():
        name = str(Path(name).resolve())  # an adapter and KL's reference find it from anywhere
    kwargs: dict[str, Any] = {
        "dtype": "bfloat16" if bf16 and not settings.full else "float32",
        "trust_remote_code": settings.trust_remote_code,
    }
    if settings.attn_implementation:
        kwargs["attn_implementation"] = settings.attn_implementation
    try:
        network: Any = AutoModelForCausalLM.from_pretrained(name, **kwargs)
    except ImportError as error:
        raise MissingDependencyError(f"loading {name} needs more: {first_line(error)}") from error
    except Exception as error:  # whatever the files of somebody else bring about
        raise ModelError(
            f"cannot load the model {name}: {unusable(name, error)}; give the name of a causal "
            f"language model on the Hugging Face Hub or a local folder"
        ) from error
    return network if adapter is None else _continued(network, adapter, settings)


def _continued(network: Any, adapter: str, settings: TrainSettings) -> Any:
    """The model with the adapter as it is, to be trained further."""
    from peft import PeftModel

    check_adapter(adapter, network.config.get_text_config(decoder=True))
    try:
        adapted: Any = PeftModel.from_pretrained(network, adapter, is_trainable=True)
    except Exception as error:
        raise ModelError(f"cannot use the adapter {adapter}: {first_line(error)}") from error
    rank = getattr(adapted.peft_config["default"], "r", None)
    if rank != settings.lora_rank:
        logger.warning(
            "training of the adapter %s goes on with its own rank %s, not %d",
            adapter, rank, settings.lora_rank,
        )  # fmt: skip
    return adapted


def check_packing(network: Any) -> None:
    """Raise SettingsError if rows that are packed into one sequence would see each other.

    The model itself shows it: a short row must have the same logits after another one as alone.
    That is left to flash attention where the model has it, which needs a GPU, and to ZeRO-3, under
    which no process has the model.
    """
    import torch
    from transformers.integrations import deepspeed
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    spread: Any = deepspeed.is_deepspeed_zero3_enabled
    if "flash" in str(network.config._attn_implementation) or spread():
        return
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    rows = [{"input_ids": [1, 2, 3]}, {"input_ids": [4, 5, 6]}]
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            packed, alone = (
                network(**_without_labels(collate(each)), use_cache=False).logits[0, -3:].float()
                for each in (rows, rows[1:])
            )
    except TypeError as error:
        raise SettingsError(f"this model cannot be packed ({error}): turn packing off") from error
    finally:
        network.train(training)
    if (packed - alone).abs().max() > _SAME * alone.std():
        raise SettingsError(
            "rows of this model would see each other in one sequence: turn packing off "
            "(--no_packing), or use attn_implementation flash_attention_2"
        )


def _without_labels(batch: Any) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name != "labels"}
