"""Tokenizers and configurations of pretrained models, by name or folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmrankers_groupwise.errors import MissingDependencyError, ModelError

__all__ = ["first_line", "load_tokenizer", "model_length", "unusable"]


def load_tokenizer(name_or_path: str, **kwargs: Any) -> Any:
    """The tokenizer of this name or folder, by transformers.

    Raises:
        ModelError: there is none.
        MissingDependencyError: transformers is not installed.
    """
    try:
        return _transformers().AutoTokenizer.from_pretrained(name_or_path, **kwargs)
    except MissingDependencyError:
        raise
    except Exception as error:  # whatever a file of somebody else's brings about
        raise ModelError(
            f"cannot load the tokenizer {name_or_path}: {unusable(name_or_path, error)}; give the "
            f"name of a model on the Hugging Face Hub or a local folder"
        ) from error


def model_length(name_or_path: str, **kwargs: Any) -> int | None:
    """The longest text that a model takes by its configuration; None if that has no limit.

    Raises:
        ModelError: there is no such model.
        MissingDependencyError: transformers is not installed.
    """
    try:
        config = _transformers().AutoConfig.from_pretrained(name_or_path, **kwargs)
    except MissingDependencyError:
        raise
    except Exception as error:
        raise ModelError(
            f"cannot read the model {name_or_path}: {unusable(name_or_path, error)}; give the "
            f"name of a model on the Hugging Face Hub or a local folder"
        ) from error
    text = getattr(config, "text_config", None) or config
    positions = getattr(text, "max_position_embeddings", None)
    return positions if isinstance(positions, int) else None


def unusable(name_or_path: str, error: BaseException) -> str:
    """Why a model cannot be loaded: what is wrong with its folder, else the library's message.

    Its words of a path are those of a name on the Hub, which mislead.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        looks_local = folder.is_absolute() or name_or_path.startswith(".") or len(folder.parts) > 2
        return "there is no such folder" if looks_local else first_line(error)
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        return "this folder has no config.json, so it is none of a model"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("chat models need transformers", "transformers") from error
    return transformers
