"""LoRA adapters as files: their rank, their base, and whether they belong to a model.

vLLM copies an adapter's weights into memory laid out for the model, and takes one that is too
small for it without a word. So the shapes are compared first.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.errors import ModelError

__all__ = ["LORA_RANKS", "adapter_base", "check_adapter", "is_adapter", "lora_rank",
           "with_base"]  # fmt: skip

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM has memory layouts for."""

_READS_HIDDEN_STATES = re.compile(r"\.(?:q|k|v|gate|up)_proj\.lora_A\.")
_LAYER = re.compile(r"\.layers\.([0-9]+)\.")


def lora_rank(adapter: str, cache_dir: str | None = None) -> int:
    """The smallest of LORA_RANKS that the adapter fits into.

    Raises:
        ModelError: there is no such adapter, or it is no LoRA.
    """
    try:
        content = _file(adapter, "adapter_config.json", cache_dir).read_text(encoding="utf-8")
        rank = int(json.loads(content)["r"])
    except Exception as error:  # no file, no network, no LoRA
        raise ModelError(f"cannot read the adapter {adapter}: {error}") from error
    return next((each for each in LORA_RANKS if each >= rank), rank)


def is_adapter(name_or_path: str) -> bool:
    """Whether this is a local folder with an adapter and no model of its own."""
    folder = Path(name_or_path)
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").exists()


def adapter_base(adapter: str, cache_dir: str | None = None) -> str:
    """The model that an adapter was trained on, by the adapter's own configuration.

    Raises:
        ModelError: it has no such entry, or there is no such adapter.
    """
    try:
        content = _file(adapter, "adapter_config.json", cache_dir).read_text(encoding="utf-8")
        base = json.loads(content)["base_model_name_or_path"]
    except Exception as error:  # no file, no network, no LoRA
        raise ModelError(f"cannot read the adapter {adapter}: {error}") from error
    if not isinstance(base, str) or not base:
        raise ModelError(
            f"the adapter {adapter} does not name the model it was trained on: give that by "
            f"model_name_or_path, and the adapter by lora_name_or_path"
        )
    return base


def with_base(settings: EngineSettings) -> EngineSettings:
    """The settings, or where the model is the folder of an adapter, those of its base with it.

    The adapter's folder gives the tokenizer, too, if it has one.

    Raises:
        ModelError: the adapter's base is not known, or not at the path that it names.
    """
    adapter = settings.model_name_or_path
    if adapter is None or settings.lora_name_or_path is not None or not is_adapter(adapter):
        return settings
    base = adapter_base(adapter)
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise ModelError(
            f"the adapter {adapter} was trained on {base}, which is not there: give that model by "
            f"model_name_or_path, and the adapter by lora_name_or_path"
        )
    tokenizer = settings.tokenizer_name_or_path
    if tokenizer is None and (Path(adapter) / "tokenizer_config.json").is_file():
        tokenizer = adapter
    return dataclasses.replace(
        settings,
        model_name_or_path=base,
        lora_name_or_path=adapter,
        tokenizer_name_or_path=tokenizer,
    )


def check_adapter(adapter: str, config: Any, cache_dir: str | None = None) -> None:
    """Raise ModelError if the adapter's weights cannot be those of a model with this config.

    Args:
        adapter: a folder, or a name on the Hugging Face Hub.
        config: the model's, with hidden_size and num_hidden_layers.
        cache_dir: where downloads are kept.
    """
    from safetensors import SafetensorError

    try:
        path = _file(adapter, "adapter_model.safetensors", cache_dir)
    except Exception:  # saved in another format, which vLLM may read
        return
    try:
        problem = _problem(path, config)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"cannot use the adapter {adapter}: {path} is damaged or cannot be read: {error}"
        ) from error
    if problem:
        raise ModelError(
            f"cannot use the adapter {adapter}: it {problem}; was it trained on this model?"
        )


def _problem(path: Path, config: Any) -> str | None:
    """What of the weights does not belong to a model with this config."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as weights:
        for name in weights.keys():  # noqa: SIM118  no mapping
            layer = _LAYER.search(name)
            width = (weights.get_slice(name).get_shape() or [0])[-1]
            if layer and int(layer[1]) >= config.num_hidden_layers:
                return f"has {name}, the model {config.num_hidden_layers} layers"
            if _READS_HIDDEN_STATES.search(name) and width != config.hidden_size:
                return f"reads vectors of {width}, the model has {config.hidden_size}"
    return None


def _file(adapter: str, name: str, cache_dir: str | None) -> Path:
    if Path(adapter).is_dir() or Path(adapter).is_absolute():
        path = Path(adapter) / name
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}")
        return path
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(adapter, name, cache_dir=cache_dir))
