"""Loading a causal language model with PyTorch: device, precision, adapter, quantisation."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.llm.adapters import check_adapter
from llmrankers_groupwise.engines.llm.pretrained import first_line, unusable
from llmrankers_groupwise.engines.llm.tokenizer import ChatTokenizer
from llmrankers_groupwise.engines.transformers.cache import windows_of
from llmrankers_groupwise.engines.transformers.decoding import Model
from llmrankers_groupwise.engines.transformers.form_tokens import FormTokens
from llmrankers_groupwise.errors import MissingDependencyError, ModelError, SettingsError

__all__ = [
    "end_tokens",
    "free_memory",
    "load_model",
    "out_of_memory",
    "resolved_device",
    "resolved_dtype",
]

_DTYPES = {
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16, "float16": torch.float16,
    "fp16": torch.float16, "half": torch.float16, "float32": torch.float32, "fp32": torch.float32,
}  # fmt: skip
_NO_MEMORY = (
    "can't allocate memory",
    "MPS backend out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA out of memory",
)
_QUANTIZATIONS = {"int8": {"load_in_8bit": True}, "int4": {"load_in_4bit": True}}


def load_model(
    settings: EngineSettings, args: Mapping[str, Any], tokenizer: ChatTokenizer
) -> Model:
    """The model, its adapter merged, ready to decode.

    Raises:
        ModelError: model or adapter cannot be loaded, do not fit each other, or cannot be decoded.
        SettingsError: a device, dtype or quantisation that is not there.
        MissingDependencyError: peft or bitsandbytes is needed and not installed.
    """
    from transformers import AutoModelForCausalLM

    device = resolved_device(settings.device)
    kwargs: dict[str, Any] = {
        "dtype": resolved_dtype(args["dtype"], device),
        "revision": args["revision"],
        "cache_dir": settings.cache_dir,
        "trust_remote_code": args["trust_remote_code"],
        **args["model_kwargs"],
    }
    if args["attn_implementation"]:
        kwargs["attn_implementation"] = args["attn_implementation"]
    if args["quantization"]:
        kwargs["quantization_config"] = _quantization(args["quantization"])
    device_map = args["device_map"] or (device if args["quantization"] else None)
    if device_map:
        kwargs["device_map"] = device_map
    name = str(settings.model_name_or_path)
    try:
        network = AutoModelForCausalLM.from_pretrained(name, **kwargs)
    except ImportError as error:
        raise MissingDependencyError(f"loading {name} needs more: {first_line(error)}") from error
    except Exception as error:  # whatever the files of somebody else bring about
        raise ModelError(
            f"cannot load the model {name}: {unusable(name, error)}; give the name of a causal "
            f"language model on the Hugging Face Hub or a local folder"
        ) from error
    if settings.lora_name_or_path:
        network = _with_adapter(network, settings.lora_name_or_path, settings.cache_dir)
    if not device_map:
        network = _moved(network, device)
    network = network.train(mode=False)
    windows_of(network)  # raises if decoding cannot be done with it
    return Model(network, tokenizer, end_tokens(network, tokenizer), FormTokens(tokenizer))


def resolved_device(given: str | None) -> str:
    """The device as given, if it is there, or the best one."""
    if given is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=given)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device is {given!r}: {first_line(error)}") from error
    return given


def resolved_dtype(given: Any, device: str) -> torch.dtype:
    """The precision as given, or bfloat16 where a GPU computes in it, else float16; CPU float32."""
    if isinstance(given, torch.dtype):
        return given
    if given in _DTYPES:
        return _DTYPES[given]
    if given != "auto":
        raise SettingsError(f"dtype is {given!r}: give auto, bfloat16, float16 or float32")
    if device == "cpu":
        return torch.float32
    if device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error) for each in _NO_MEMORY)


def free_memory() -> None:
    """Give back what a batch that failed has left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _quantization(given: Any) -> Any:
    """A quantisation by name, or a configuration of transformers as it is."""
    import transformers

    if not isinstance(given, str):
        return given
    if given not in _QUANTIZATIONS:
        raise SettingsError(f"quantization is {given!r}: give {' or '.join(_QUANTIZATIONS)}")
    configuration: Any = transformers.BitsAndBytesConfig
    return configuration(**_QUANTIZATIONS[given])


def _with_adapter(network: Any, adapter: str, cache_dir: str | None) -> Any:
    """The model with a LoRA adapter merged into its weights."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingDependencyError("a LoRA adapter needs peft", "transformers") from error
    check_adapter(adapter, network.config.get_text_config(decoder=True), cache_dir)
    try:
        with warnings.catch_warnings():
            # What the adapter lacks would stay as it was made, without effect.
            warnings.filterwarnings("error", "Found missing adapter keys")
            adapted = PeftModel.from_pretrained(network, adapter, cache_dir=cache_dir)
        return adapted.merge_and_unload()
    except Exception as error:  # missing, another model's, or no LoRA at all
        raise ModelError(
            f"cannot use the adapter {adapter}: {first_line(error)}; was it trained on this model?"
        ) from error


def _moved(network: Any, device: str) -> Any:
    try:
        return network.to(device)
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            f"the model does not fit into the memory of {device}: use engine_args quantization, "
            f"device_map=auto, or a smaller model"
        ) from error


def end_tokens(network: Any, tokenizer: ChatTokenizer) -> frozenset[int]:
    """The tokens that end a turn, by generation configuration and tokenizer."""
    ends = network.generation_config.eos_token_id if network.generation_config else None
    found = set(ends) if isinstance(ends, list) else {ends}
    found.add(tokenizer.hugging_face.eos_token_id)
    return frozenset(token for token in found if token is not None)
