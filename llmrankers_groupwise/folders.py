"""Folders written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmrankers_groupwise.errors import FileError

__all__ = ["check_new_folder", "new_folder"]


def check_new_folder(path: str | Path, mark: str, *, force: bool = False) -> None:
    """Raise FileError unless `new_folder` could make this one now."""
    place = Path(path)
    if not os.path.lexists(place):
        if not place.absolute().parent.is_dir():
            raise FileError("cannot be made: its parent is no folder; make that first", place)
        return
    if place.is_dir() and not place.is_symlink():
        if not any(place.iterdir()) or (force and (place / mark).is_file()):
            return
        if force:
            raise FileError(
                f"is a folder without a {mark}, so nothing that this command made; it is left "
                f"alone: save elsewhere, or remove it yourself",
                place,
            )
    raise FileError("exists; save elsewhere, or give --force to replace what was prepared", place)


@contextlib.contextmanager
def new_folder(path: str | Path, mark: str, *, force: bool = False) -> Iterator[Path]:
    """A folder to write to, which takes its place at the end, or is removed on an error.

    Args:
        path: its place: free, an empty folder or, with `force`, one that holds the file `mark`.
        mark: a file that the caller writes into it.
        force: replace a folder with that file.

    Raises:
        FileError: the place is taken, or cannot be written.
    """
    check_new_folder(path, mark, force=force)
    place = Path(path).absolute()
    try:
        work = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".partial"))
    except OSError as error:
        raise FileError(
            f"cannot be made ({error.strerror}); check the folder it is to be in", path
        ) from error
    try:
        new = work / "new"
        new.mkdir()
        yield new
        if place.is_dir() and any(place.iterdir()):
            place.rename(work / "old")
        try:
            new.rename(place)
        except OSError:
            if (work / "old").exists():
                (work / "old").rename(place)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
