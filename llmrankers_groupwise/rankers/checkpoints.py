"""Checkpoints that `run-groupwise train` made, and the prompts that they were trained with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.errors import PromptError, SettingsError

__all__ = ["DESCRIPTION", "PROMPT", "trained_prompt"]

DESCRIPTION = "training.json"
PROMPT = "prompt.toml"
"""In a result's folder, besides the model; a training set has its prompt by that name, too."""


def trained_prompt(engine: Engine, method: str) -> str | None:
    """The prompt file of the engine's adapter or model, where that is a folder of a training.

    A checkpoint within such a folder has its prompt, too.

    Raises:
        PromptError: it was trained here and its prompt is gone.
        SettingsError: it was trained for another method, or its training is not finished.
    """
    described = engine.describe()
    for name in (described.get("lora"), described.get("model")):
        if not isinstance(name, str) or not (folder := Path(name)).is_dir():
            continue
        checkpoint = folder.name.startswith("checkpoint-") and not (folder / DESCRIPTION).exists()
        if checkpoint:
            folder = folder.parent
        if (folder / DESCRIPTION).is_file():
            return _prompt_of(folder, method, whole=not checkpoint)
        if (folder / PROMPT).is_file():
            return str(folder / PROMPT)
    return None


def _prompt_of(folder: Path, method: str, *, whole: bool) -> str:
    try:
        described: Any = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        trained_for = described["method"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PromptError(
            f"{folder / DESCRIPTION} cannot be read ({error}): give the prompt that the model was "
            f"trained with by --prompt_file"
        ) from error
    if whole and described.get("finished") is False:
        raise SettingsError(
            f"the training in {folder} is not finished: go on with it by --resume, or give one of "
            f"its checkpoints, {folder}/checkpoint-N"
        )
    if trained_for != method:
        raise SettingsError(
            f"{folder} was trained for {trained_for}, and this is {method}: use that method, or "
            f"give --prompt_file to try it with another prompt"
        )
    if not (folder / PROMPT).is_file():
        raise PromptError(
            f"{folder} was trained with a prompt and has no {PROMPT} any more: give that prompt "
            f"by --prompt_file"
        )
    return str(folder / PROMPT)
