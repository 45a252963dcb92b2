"""The folder that a training makes: what goes in at once, and what at the end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmrankers_groupwise.errors import FileError, PromptError, SettingsError
from llmrankers_groupwise.files.atomic import write_atomically
from llmrankers_groupwise.prompting.prompt_file import prompt_source
from llmrankers_groupwise.rankers.checkpoints import DESCRIPTION, PROMPT
from llmrankers_groupwise.training.data.load import TrainingRows

__all__ = [
    "CURVE",
    "PARTIAL",
    "ResultFolder",
    "prompt_bytes",
]

CURVE = "log_history.jsonl"
PARTIAL = "model.partial"
"""Where the model is written before it is renamed."""

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
_FREE_TO_CHANGE = frozenset(
    {"resume", "progress", "save_path", "save_steps", "save_total_limit", "report_to", "data",
     "prompt_file"}
)  # fmt: skip
"""Settings that may differ when a training goes on; rows and prompt are told by their digests."""


def prompt_bytes(rows: TrainingRows, given: str | None) -> bytes:
    """The prompt file that rows were rendered from, which inference is going to need.

    Raises:
        PromptError: there is none, or it cannot be used.
    """
    name = given or (str(rows.prompt_file) if rows.prompt_file else None)
    if name is None:
        raise PromptError(
            f"{rows.path} has no prompt.toml beside it: give the prompt file that its rows were "
            f"rendered from by --prompt_file, as the model has to be asked with it"
        )
    return prompt_source(name)[1]


class ResultFolder:
    """`save_path` of a training.

    Prompt and description are there from the beginning, with `finished` false; model, card and the
    rest are renamed to their paths at the end. Checkpoints come in between.

    Args:
        path: the folder.
        main: whether this process writes; of several one does.
    """

    def __init__(self, path: str | Path, *, main: bool) -> None:
        self.path = Path(path)
        self.main = main

    def check(self, *, resume: bool) -> None:
        """Raise unless a training can begin here, or go on."""
        if not resume:
            self._check_free()
        elif self.last_checkpoint() is None:
            raise SettingsError(
                f"resume: {self.path} has no checkpoint to go on from: drop resume and save "
                f"elsewhere, or remove the folder"
            )
        elif self._described().get("finished"):
            raise SettingsError(f"resume: the training in {self.path} is finished")

    @contextlib.contextmanager
    def begun(self, described: Mapping[str, Any], prompt: bytes, *, resume: bool) -> Iterator[None]:
        """Write down what is going to be done, and train within.

        What ends by an exception before its first checkpoint leaves no files.

        Raises:
            FileError: the folder is not free any more, or cannot be written.
        """
        if not self.main or resume:
            yield
            return
        self._check_free()
        try:
            self.path.mkdir(parents=False, exist_ok=True)
            (self.path / PROMPT).write_bytes(prompt)
        except OSError as error:
            raise FileError(f"cannot be made ({error.strerror})", self.path) from error
        self.describe(described)
        try:
            yield
        except BaseException:
            if self.last_checkpoint() is None and not (self.path / PARTIAL).exists():
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    def describe(self, described: Mapping[str, Any]) -> None:
        """Write training.json."""
        with write_atomically(self.path / DESCRIPTION) as out:
            json.dump(described, out, indent=2, ensure_ascii=False, default=str)
            out.write("\n")

    def write_curve(self, log_history: list[dict[str, Any]]) -> None:
        """Write log_history.jsonl, a point of the curves on each line."""
        with write_atomically(self.path / CURVE) as out:
            for point in log_history:
                out.write(json.dumps(point, default=str) + "\n")

    def put(self, new: Path) -> None:
        """Move all files of a folder beside the others, and remove it."""
        for path in sorted(new.iterdir()):
            os.replace(path, self.path / path.name)
        shutil.rmtree(new)

    def last_checkpoint(self) -> Path | None:
        """The checkpoint of the most steps that was written whole."""
        found = [
            (int(match[1]), each)
            for each in (self.path.iterdir() if self.path.is_dir() else ())
            if (match := _CHECKPOINT.fullmatch(each.name))
            and (each / "trainer_state.json").is_file()
        ]
        return max(found)[1] if found else None

    def _check_free(self) -> None:
        if self.path.is_dir():
            if all(_is_empty_log(each) for each in self.path.iterdir()):
                return
            other = ""
            if self.last_checkpoint():
                other = " or give --resume to go on"
            elif (self.path / DESCRIPTION).is_file():
                other = (
                    ", or remove it: its training was ended before its first checkpoint, "
                    "unless it is going on now"
                )
            raise FileError(f"is not empty; save elsewhere{other}", self.path)
        if os.path.lexists(self.path):
            raise FileError("is no folder; save elsewhere", self.path)
        if not self.path.absolute().parent.is_dir():
            raise FileError("cannot be made: its parent is no folder; make that first", self.path)

    def _described(self) -> dict[str, Any]:
        path = self.path / DESCRIPTION
        try:
            described = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FileError(f"cannot be read ({error}); train anew elsewhere", path) from error
        if (
            not isinstance(described, dict)
            or not {"action", "data", "settings"} <= described.keys()
        ):
            raise FileError("describes no training; train anew elsewhere", path)
        return described

    def check_same(self, described: Mapping[str, Any]) -> None:
        """Raise SettingsError where a training that is to go on is another one."""
        now = json.loads(json.dumps(described, default=str))
        before = self._described()
        if before["data"]["sha256"] != now["data"]["sha256"]:
            raise SettingsError(
                f"resume: the training in {self.path} was of other rows; give those, or save "
                f"elsewhere"
            )
        if before.get("prompt") != now["prompt"]:
            raise SettingsError(
                f"resume: the training in {self.path} was with another prompt file; give that, or "
                f"save elsewhere"
            )
        if before["action"] != now["action"]:
            raise SettingsError(f"resume: {self.path} is of train {before['action']}")
        for name, value in now["settings"].items():
            was = before["settings"].get(name)
            if name not in _FREE_TO_CHANGE and was != value:
                raise SettingsError(
                    f"resume: {name} was {was!r} and is now {value!r}; give it as before, or save "
                    f"elsewhere"
                )


def _is_empty_log(path: Path) -> bool:
    """What TRL's trainer makes for logged replies as soon as it is made itself."""
    return path.name == "completions" and path.is_dir() and not any(path.iterdir())
