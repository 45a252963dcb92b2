"""What SFT and GRPO do alike: check, describe, train, save."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llmrankers_groupwise.engines.base import installed
from llmrankers_groupwise.engines.llm.pretrained import first_line
from llmrankers_groupwise.engines.llm.tokenizer import ChatTokenizer
from llmrankers_groupwise.errors import ModelError, SettingsError
from llmrankers_groupwise.rankers.checkpoints import PROMPT
from llmrankers_groupwise.training.data.load import TrainingRows, load_rows
from llmrankers_groupwise.training.finetuning.curves import check_loss, curve_callback
from llmrankers_groupwise.training.finetuning.heldout import held_out_callback
from llmrankers_groupwise.training.finetuning.model_card import model_card
from llmrankers_groupwise.training.finetuning.models import require_training
from llmrankers_groupwise.training.finetuning.result_folder import (
    PARTIAL,
    ResultFolder,
    prompt_bytes,
)
from llmrankers_groupwise.training.finetuning.settings import TrainSettings
from llmrankers_groupwise.training.finetuning.tokenization import Fitting

__all__ = ["Preparation", "TrainResult", "adapter_settings", "bars", "fit", "prepare"]

_VERSIONS = ("llmrankers-groupwise", "trl", "transformers", "peft", "torch", "datasets",
             "accelerate", "vllm")  # fmt: skip

_KEPT = ("eval_", "reward")
"""How the names begin of what is kept of the last point of a curve."""


@dataclass(frozen=True)
class TrainResult:
    """What a training made.

    Attributes:
        path: the folder that rankers load.
        log_history: the curves, a point for each entry, by TRL's names.
        metrics: of the whole training, as train_loss and train_runtime; the last rewards, and the
            last measurement on the held-out run.
        rows: trained on.
        too_long: rows left out, as they were longer than allowed.
    """

    path: Path
    log_history: list[dict[str, Any]]
    metrics: dict[str, float]
    rows: int
    too_long: int


@dataclass
class Preparation:
    """What is known before a model is loaded.

    Attributes:
        settings: as given.
        rows: as read.
        folder: the path of the result.
        prompt: the bytes of the prompt file.
        described: its entry in training.json.
    """

    settings: TrainSettings
    rows: TrainingRows
    folder: ResultFolder
    prompt: bytes
    described: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.described = _described(self)


def prepare(settings: TrainSettings, kind: Literal["sft", "rl"]) -> Preparation:
    """Find out what is wrong with path, packages, rows and prompt; nothing is written.

    A training that is to go on must be the same one.

    Raises:
        GroupwiseError: something is.
    """
    folder = ResultFolder(settings.save_path, main=int(os.environ.get("RANK", "0")) == 0)
    if folder.main:
        folder.check(resume=settings.resume)
    require_training(settings.report_to)
    if settings.held_out is not None:
        settings.held_out.first_stage.check()
    rows = load_rows(settings.data, kind)
    prompt = prompt_bytes(rows, settings.prompt_file)
    prepared = Preparation(settings, rows, folder, prompt)
    if folder.main and settings.resume:
        folder.check_same(prepared.described)
    return prepared


@contextlib.contextmanager
def bars(*, shown: bool) -> Iterator[None]:
    """Progress bars of the libraries below, shown or not."""
    import datasets.utils
    import transformers.utils.logging

    logging: Any = transformers.utils.logging
    turned_off = []
    if not shown and logging.is_progress_bar_enabled():
        logging.disable_progress_bar()
        turned_off.append(logging.enable_progress_bar)
    if not shown and not datasets.utils.are_progress_bars_disabled():
        datasets.utils.disable_progress_bars()
        turned_off.append(datasets.utils.enable_progress_bars)
    try:
        yield
    finally:
        for turn_on in turned_off:
            turn_on()


def adapter_settings(settings: TrainSettings, network: Any) -> Any:
    """The configuration of a new adapter; None in full, and where an adapter's training goes on.

    Raises:
        SettingsError: the model has no layers of the names that the adapter should be on.
    """
    from peft import LoraConfig, PeftModel

    if settings.full or isinstance(network, PeftModel):
        return None
    targets = settings.lora_targets
    _check_targets(targets, network)
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def _check_targets(targets: str | Sequence[str], network: Any) -> None:
    """Refuse names that no layer has; one text is a regular expression, as peft has it."""
    layers = [f".{name}" for name, _ in network.named_modules() if name]
    if isinstance(targets, str):
        try:
            found = targets == "all-linear" or any(
                re.fullmatch(targets, name[1:]) for name in layers
            )
        except re.error as error:
            raise SettingsError(f"lora_targets {targets!r}: {error}") from error
        missing = [] if found else [targets]
    else:
        missing = [
            each for each in targets if not any(name.endswith(f".{each}") for name in layers)
        ]
    if missing:
        ends = {name.rpartition(".")[2] for name in layers}
        known = sorted(each for each in ends if each.endswith("proj"))
        raise SettingsError(
            f"lora_targets: the model has no layer {missing[0]!r}; give all-linear"
            + (f", or a list of {', '.join(known)}" if known else "")
        )


def fit(prepared: Preparation, trainer: Any, chat: ChatTokenizer, fitting: Fitting) -> TrainResult:
    """Train, and save what comes of it.

    Raises:
        ModelError: the loss is no number, so that nothing was learned, or memory is too small.
    """
    from torch import OutOfMemoryError

    settings, folder = prepared.settings, prepared.folder
    described = prepared.described
    described["data"] |= {"too_long": fitting.too_long, "longest": fitting.longest}
    with folder.begun(described, prepared.prompt, resume=settings.resume):
        _add_callbacks(prepared, trainer, chat)
        checkpoint = folder.last_checkpoint() if settings.resume else None
        if checkpoint:
            _load_adapter(trainer, checkpoint)
        try:
            done = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except OutOfMemoryError as error:
            raise ModelError(
                f"the GPU's memory is too small ({first_line(error)}): make "
                f"per_device_train_batch_size or the longest rows smaller"
            ) from error
        metrics = _metrics(done.metrics, trainer.state.log_history)
        check_loss(metrics.get("train_loss"))
        _save(prepared, trainer, {**described, "finished": True, "metrics": metrics})
    return TrainResult(
        folder.path, trainer.state.log_history, metrics, len(fitting.rows), fitting.too_long
    )


def _load_adapter(trainer: Any, checkpoint: Path) -> None:
    """Load the adapter in training where KL's reference is a second one.

    transformers before 5.23 loads the second one alone, as it has a folder of its own.
    """
    network = trainer.model
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        return  # these load whole states
    if "ref" in getattr(network, "peft_config", ()):
        network.load_adapter(str(checkpoint), "default", is_trainable=True)


def _described(prepared: Preparation) -> dict[str, Any]:
    settings, rows = prepared.settings, prepared.rows
    shown = {
        each.name: _shown(getattr(settings, each.name)) for each in dataclasses.fields(settings)
    }
    return {
        "format": 1,
        "action": "sft" if rows.kind == "sft" else "grpo",
        "finished": False,
        "method": rows.method,
        "model": settings.model_name_or_path,
        "prompt": {"sha256": hashlib.sha256(prepared.prompt).hexdigest()},
        "data": {"path": str(rows.path), "sha256": rows.sha256, "rows": len(rows.rows)},
        "settings": shown,
        "versions": {"python": platform.python_version(), **installed(*_VERSIONS)},
    }


def _shown(value: Any) -> Any:
    """A setting ready for JSON; a function by its name."""
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: _shown(getattr(value, each.name))
            for each in dataclasses.fields(value)
            if each.name not in ("first_stage", "qrels")
        }
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return dict(value) if isinstance(value, Mapping) else value


def _add_callbacks(prepared: Preparation, trainer: Any, chat: ChatTokenizer) -> None:
    from transformers.trainer_callback import PrinterCallback

    if held_out := prepared.settings.held_out:
        prompt = prepared.folder.path / PROMPT
        method = prepared.rows.method
        trainer.add_callback(held_out_callback(trainer, chat, method, prompt, held_out))
    trainer.add_callback(curve_callback(prepared.folder))
    # TRL's, which it writes at checkpoints; ours comes at the end.
    trainer.create_model_card = lambda *_, **__: None
    if not prepared.settings.progress:
        trainer.remove_callback(PrinterCallback)


def _metrics(metrics: Mapping[str, Any], log_history: list[dict[str, Any]]) -> dict[str, float]:
    """Those of the training, and the last rewards and figures of the held-out run."""
    found = {name: value for name, value in metrics.items() if value is not None}
    for point in log_history:
        found |= {name: value for name, value in point.items() if name.startswith(_KEPT)}
    return {name: float(value) for name, value in found.items() if value is not None}


def _save(prepared: Preparation, trainer: Any, described: dict[str, Any]) -> None:
    """Write everything into a partial folder, then rename all files; training.json last."""
    folder = prepared.folder
    new = folder.path / PARTIAL
    trainer.save_model(str(new))  # all processes together, the first of them writes
    if not folder.main:
        return
    if not [*new.glob("*.safetensors"), *new.glob("*.bin")]:
        raise ModelError(
            f"no weights were written to {new}: with FSDP give fsdp_state_dict_type "
            f"FULL_STATE_DICT, with ZeRO-3 zero3_save_16bit_model; the checkpoints are kept"
        )
    for name in ("ref", "training_args.bin"):  # the reference of KL is no result
        path = new / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (new / "README.md").write_text(model_card(described), encoding="utf-8")
    folder.put(new)
    folder.write_curve(trainer.state.log_history)
    folder.describe(described)
