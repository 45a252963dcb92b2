"""Tokenizers and configurations of pretrained models, by name or folder."""

from __future__ import annotations

from typing import Any

from llmrankers_groupwise.errors import MissingDependencyError, ModelError

__all__ = ["first_line", "load_tokenizer", "model_length"]


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
            f"cannot load the tokenizer {name_or_path}: {first_line(error)}; give the name of a "
            f"model on the Hugging Face Hub or a local folder"
        ) from error


def model_length(name_or_path: str, **kwargs: Any) -> int | None:
    """The longest text that a model takes by its configuration; None if that does not say.

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
            f"cannot read the model {name_or_path}: {first_line(error)}; give the name of a "
            f"model on the Hugging Face Hub or a local folder"
        ) from error
    text = getattr(config, "text_config", None) or config
    positions = getattr(text, "max_position_embeddings", None)
    return positions if isinstance(positions, int) else None


def first_line(error: BaseException) -> str:
    """The first line of what an exception says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "chat models need transformers: pip install 'llmrankers-groupwise[transformers]'"
        ) from error
    return transformers
