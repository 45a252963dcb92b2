"""The curves of a training while it goes on: looked at, written to their file, and told of."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from llmrankers_groupwise.errors import ModelError
from llmrankers_groupwise.training.finetuning.result_folder import ResultFolder

__all__ = ["check_loss", "curve_callback"]

logger = logging.getLogger(__name__)

_TOLD = ("loss", "reward", "reward_std", "kl", "learning_rate")
"""What a line has of a point, besides the held-out run; the file has it all."""


def check_loss(loss: float | None) -> None:
    """Raise ModelError if the loss is no number."""
    if loss is not None and not math.isfinite(loss):
        raise ModelError(
            f"the loss is {loss}, from which a model does not recover: train anew with a lower "
            f"learning rate, or in float32"
        )


def curve_callback(folder: ResultFolder) -> Any:
    """What writes the curves' file with each checkpoint and at the end, and looks at the loss.

    Each point is logged as a line, too, of level INFO.
    """
    from transformers.trainer_callback import TrainerCallback

    class Curve(TrainerCallback):  # type: ignore[misc,unused-ignore]
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any
        ) -> None:
            check_loss((logs or {}).get("loss"))
            if state.is_world_process_zero and (line := _line(logs or {})):
                logger.info("step %d of %d: %s", state.global_step, state.max_steps, line)

        def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if state.is_world_process_zero:
                folder.write_curve(state.log_history)

        on_train_end = on_save

    return Curve()


def _line(point: Mapping[str, float]) -> str:
    told = [*_TOLD, *(name for name in point if name.startswith("eval_"))]
    return ", ".join(f"{name} {point[name]:.4g}" for name in told if name in point)
