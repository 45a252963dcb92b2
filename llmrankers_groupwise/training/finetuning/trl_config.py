"""TRL's configurations made from settings, whatever else is wanted by TRL's own names."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from typing import Any

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.training.finetuning.settings import TrainSettings

__all__ = ["configuration"]

_OURS = frozenset(
    {"output_dir", "resume_from_checkpoint", "remove_unused_columns", "eval_strategy", "do_eval",
     "push_to_hub", "completion_only_loss", "dataset_kwargs", "model_init_kwargs"}
)  # fmt: skip
"""Fields that a training's own parts rely on."""

_CHECKPOINTING = frozenset({"gradient_checkpointing", "activation_checkpointing"})
"""The old and the new name of one field; transformers warns where the old one is given alone."""


def configuration(
    config_class: Any, settings: TrainSettings, own: Mapping[str, Any], *, bf16: bool
) -> Any:
    """The configuration of a trainer.

    Args:
        config_class: trl.SFTConfig or trl.GRPOConfig.
        settings: what is common; its trl_args may name any field that no setting is for.
        own: what the kind of training sets, by TRL's names.
        bf16: compute in bfloat16.

    Raises:
        SettingsError: a name that TRL does not know or that a setting is for, or values that TRL
            refuses.
    """
    known = {each.name for each in dataclasses.fields(config_class) if each.init}
    values = {**_common(settings, known, bf16=bf16), **own}
    _check_names(config_class.__name__, settings.trl_args, known, values)
    try:
        return config_class(**{**values, **settings.trl_args})
    except (ValueError, TypeError) as error:
        raise SettingsError(f"TRL refuses these settings: {error}") from error


def _common(settings: TrainSettings, known: Collection[str], *, bf16: bool) -> dict[str, Any]:
    same = (
        "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
        "gradient_accumulation_steps", "seed", "save_steps", "save_total_limit", "logging_steps",
        "trust_remote_code",
    )  # fmt: skip
    values = {name: getattr(settings, name) for name in same}
    values |= dict.fromkeys(_CHECKPOINTING.intersection(known), settings.gradient_checkpointing)
    if settings.deepspeed is not None:
        values["deepspeed"] = settings.deepspeed
    return {
        **values,
        "output_dir": str(settings.save_path),
        "bf16": bf16,
        "dataloader_pin_memory": bf16,  # where there is a GPU
        "report_to": settings.report_to,
        "disable_tqdm": not settings.progress,
        "logging_nan_inf_filter": False,  # which would show earlier losses instead of NaN
    }


def _check_names(
    config: str, given: Mapping[str, Any], known: Collection[str], values: Mapping[str, Any]
) -> None:
    for name in given:
        if name in values:
            raise SettingsError(f"trl_args has {name!r}: give it by the setting for it")
        if name in _OURS:
            raise SettingsError(f"trl_args has {name!r}, which is not to be changed here")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "see TRL's documentation"
            raise SettingsError(f"trl_args has {name!r}, unknown to {config}; {hint}")
