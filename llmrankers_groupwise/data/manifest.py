"""A run file's manifest: what made it, beside it, written with it or not at all."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.atomic import check_writable, write_atomically
from llmrankers_groupwise.journal.run_description import RunDescription

__all__ = [
    "Manifest",
    "check_save_path",
    "manifest_path",
    "plain",
    "read_manifest",
    "versions",
    "write_run",
]

_PACKAGES = ("llmrankers-groupwise", "llm-rankers", "ir-measures")


def manifest_path(save_path: str | Path) -> Path:
    """Where the manifest of a run file is."""
    return Path(f"{save_path}.manifest.json")


def check_save_path(save_path: str | Path) -> None:
    """Raise FileError unless a run file and its manifest could be written there now."""
    check_writable(save_path)
    check_writable(manifest_path(save_path))


@dataclass(frozen=True)
class Manifest:
    """What the manifest of a run file has.

    Attributes:
        run: what describes the run.
        counters: what it did, as `pipeline.results.Summary.as_dict`; None where that is missing.
    """

    run: RunDescription
    counters: Mapping[str, Any] | None


def read_manifest(path: str | Path) -> Manifest | None:
    """The manifest of a run file; None if there is none.

    Raises:
        FileError: it cannot be read, or is no JSON object.
    """
    path = manifest_path(path)
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"cannot be read ({error})", path) from error
    if not isinstance(described, dict):
        raise FileError('has no "counters": it is no JSON object', path)
    counters = described.get("counters")
    return Manifest(
        RunDescription.from_json(described), counters if isinstance(counters, dict) else None
    )


@contextlib.contextmanager
def write_run(save_path: str | Path) -> Iterator[tuple[IO[str], dict[str, Any]]]:
    """A run file to write to, and its manifest to fill; both are written to their paths at the end.

    Raises:
        FileError: a path cannot be written.
    """
    described: dict[str, Any] = {}
    path = manifest_path(save_path)
    with write_atomically(save_path) as out, write_atomically(path) as manifest:
        yield out, described
        json.dump(described, manifest, indent=2, ensure_ascii=False, default=str)
        manifest.write("\n")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that shape a run."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def plain(value: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it, what that does not know as text."""
    read: dict[str, Any] = json.loads(json.dumps(value, default=str))
    return read


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
