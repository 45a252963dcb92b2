"""Rows of a training set, read back and checked before anything costly begins.

A training set is a folder that `train synthesize` made, with its manifest `dataset.json`, or a file
of rows of one's own. The columns are those of `training.data.rows`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.text_files import json_object, lines
from llmrankers_groupwise.rankers.checkpoints import PROMPT
from llmrankers_groupwise.types import MAX_SCORE

__all__ = ["MANIFEST", "ROW_FILES", "TrainingRows", "file_sha256", "load_rows"]

MANIFEST = "dataset.json"
ROW_FILES: Mapping[str, str] = {"sft": "sft.jsonl", "rl": "rl.jsonl"}
"""Kind of rows -> their file's name in the folder."""

_FORMAT = 1
_METHOD_COLUMNS: Mapping[str, str] = {"gold": "groupwise", "ground_truth": "setwise"}
_LABEL = re.compile(r"\[[1-9][0-9]*\]")
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class TrainingRows:
    """The rows of one kind, checked.

    Attributes:
        rows: at least one.
        method: "groupwise" or "setwise", which all rows are of.
        kind: "sft" or "rl".
        prompt_file: the prompt file that they were rendered from; None where there is none beside
            them.
        sha256: of the rows' file.
        path: that file.
    """

    rows: list[dict[str, Any]]
    method: str
    kind: str
    prompt_file: Path | None
    sha256: str
    path: Path


def load_rows(path: str | Path, kind: Literal["sft", "rl"]) -> TrainingRows:
    """Read and check training rows.

    Args:
        path: a folder with dataset.json, or a file of rows (JSONL, plain or gzip) whose method is
            known by its columns: gold is of groupwise, ground_truth of setwise.
        kind: "sft" for prompts with completions, "rl" for prompts with what replies are compared
            to.

    Raises:
        FileError: there is no such file, a line is damaged or lacks a column, rows are of two
            methods, or the folder's rows or prompt are not those that its manifest tells of.
    """
    path = Path(path)
    if not path.exists():
        raise FileError("does not exist: give a folder that train synthesize made, or rows", path)
    described = _manifest(path) if path.is_dir() else {}
    file = path / ROW_FILES[kind] if described else path
    rows = [_checked(line, file, number, kind) for number, _, line in _lines(file, kind)]
    method = _method(rows, file)
    sha256 = file_sha256(file)
    if described:
        _check_described(described, method, sha256, file, kind)
    prompt = file.parent / PROMPT
    if described and (not prompt.is_file() or _prompt_digest(described) != file_sha256(prompt)):
        raise FileError(
            f"is not what {MANIFEST} tells of (it is gone, or has another sha256), and its rows "
            f"were rendered from that: make the training set again, or give the file of rows "
            f"itself, with its prompt file",
            prompt,
        )
    return TrainingRows(
        [row for _, row in rows], method, kind, prompt if prompt.is_file() else None, sha256, file
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / MANIFEST
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(
            f"has no {MANIFEST}, so no training set: make one by run-groupwise train synthesize, "
            f"or give the file of rows itself",
            folder,
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"cannot be read ({error}); make the training set again", path) from error
    if not isinstance(described, dict) or described.get("format") != _FORMAT:
        raise FileError(
            f"is no manifest of format {_FORMAT}; it was made by another version: make the "
            f"training set again",
            path,
        )
    return described


def _lines(file: Path, kind: str) -> Any:
    if file.is_dir() or not file.exists():
        raise FileError(
            f"is missing, so there are no {kind} rows; make them, or see in {MANIFEST} what was "
            f"left out of them",
            file,
        )
    return lines(file)


def _checked(text: str, file: Path, number: int, kind: str) -> tuple[int, dict[str, Any]]:
    """A row that training can use, with the number of its line."""
    row = json_object(text, file, number)

    def refuse(problem: str) -> NoReturn:
        raise FileError(f"{problem}; fix the line, or make the rows again", file, number)

    if not _is_chat(row.get("prompt")):
        refuse('"prompt" is no list of messages {"role", "content"}')
    if kind == "sft" and not _is_chat(row.get("completion")):
        refuse('"completion" is no list of messages, as rows for SFT have it')
    if "gold" in row and not _is_gold(row["gold"]):
        refuse(f'"gold" is no list of numbers 0..{MAX_SCORE}')
    if kind == "rl" and "gold" in row and not _is_relevant(row.get("relevant"), len(row["gold"])):
        refuse('"relevant" is no list of true and false, one for each score of "gold"')
    if "ground_truth" in row and not _is_label(row["ground_truth"]):
        refuse('"ground_truth" is no label as "[3]"')
    return number, row


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and bool(value)
        and all(
            isinstance(each, Mapping)
            and each.get("role") in _ROLES
            and isinstance(each.get("content"), str)
            for each in value
        )
    )


def _is_gold(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(each, int | float) and not isinstance(each, bool) and 0 <= each <= MAX_SCORE
            for each in value
        )
    )


def _is_relevant(value: Any, n: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == n
        and all(isinstance(each, bool) for each in value)
    )


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and _LABEL.fullmatch(value) is not None


def _method(rows: Sequence[tuple[int, Mapping[str, Any]]], file: Path) -> str:
    """The one method that all rows are of."""
    method = None
    for number, row in rows:
        found = [name for column, name in _METHOD_COLUMNS.items() if column in row]
        if len(found) != 1:
            raise FileError(
                'a row has either "gold" (groupwise) or "ground_truth" (setwise); this one has '
                f"{' and '.join(found) or 'neither'}: make the rows again",
                file,
                number,
            )
        if method not in (None, found[0]):
            raise FileError(
                f"this row is of {found[0]} and those before of {method}: keep them in two files",
                file,
                number,
            )
        method = found[0]
    return str(method)


def _prompt_digest(described: Mapping[str, Any]) -> Any:
    prompt = described.get("prompt")
    return prompt.get("sha256") if isinstance(prompt, Mapping) else None


def _check_described(
    described: Mapping[str, Any], method: str, sha256: str, file: Path, kind: str
) -> None:
    """The rows are those that the manifest was written with."""
    if described.get("method") != method:
        raise FileError(
            f"has rows of {method}, and {MANIFEST} has {described.get('method')}: make the "
            f"training set again",
            file,
        )
    files = described.get("files")
    known = files.get(ROW_FILES[kind]) if isinstance(files, Mapping) else None
    if not isinstance(known, Mapping) or known.get("sha256") != sha256:
        raise FileError(
            f"is not what {MANIFEST} tells of (another sha256): give the file itself, where it was "
            f"changed on purpose, or make the training set again",
            file,
        )
