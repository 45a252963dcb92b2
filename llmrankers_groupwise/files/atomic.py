"""Files and folders written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llmrankers_groupwise.errors import FileError

__all__ = ["check_new_folder", "check_writable", "new_folder", "same_file", "write_atomically"]


def check_new_folder(path: str | Path, mark: str, *, force: bool = False) -> None:
    """Raise FileError unless `new_folder` could make this one now."""
    path = Path(path)
    if not os.path.lexists(path):
        if not path.absolute().parent.is_dir():
            raise FileError("cannot be made: its parent is no folder; make that first", path)
        return
    if path.is_dir() and not path.is_symlink():
        if not any(path.iterdir()) or (force and (path / mark).is_file()):
            return
        if force:
            raise FileError(
                f"is a folder without a {mark}, so nothing that this command made; it is left "
                f"alone: save elsewhere, or remove it yourself",
                path,
            )
    raise FileError("exists; save elsewhere, or give --force to replace what was prepared", path)


@contextlib.contextmanager
def new_folder(path: str | Path, mark: str, *, force: bool = False) -> Iterator[Path]:
    """A folder to write to. It is renamed to `path` at the end, or removed on an error.

    Args:
        path: new, an empty folder or, with `force`, one that holds the file `mark`.
        mark: a file that the caller writes into it.
        force: replace a folder with that file.

    Raises:
        FileError: the path is in use, or cannot be written.
    """
    check_new_folder(path, mark, force=force)
    target = Path(path).absolute()
    try:
        work = Path(
            tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")
        )
    except OSError as error:
        raise FileError(
            f"cannot be made ({error.strerror}); check the folder it is to be in", path
        ) from error
    try:
        new = work / "new"
        new.mkdir()
        yield new
        if target.is_dir() and any(target.iterdir()):
            target.rename(work / "old")
        try:
            new.rename(target)
        except OSError:
            if (work / "old").exists():
                (work / "old").rename(target)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[IO[str]]:
    """A text file that replaces `path` at the end, or leaves it alone on an error.

    Raises:
        FileError: the path cannot be written.
    """
    partial = _partial(Path(path))
    try:
        with partial:
            yield partial
            partial.flush()
            os.fsync(partial.fileno())
        os.replace(partial.name, os.path.realpath(path))  # a link stays, its target is replaced
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial.name)


def check_writable(path: str | Path) -> None:
    """Raise FileError unless `path` could be written now; nothing remains on disk."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise FileError(f"cannot be written ({error.strerror}); save elsewhere", path) from error
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "device"
        raise FileError(f"is a {kind}; give a file name to save to", path)
    partial = _partial(path)
    partial.close()
    os.unlink(partial.name)


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two paths are one file, or the same path of a file that does not exist yet."""
    return os.path.realpath(one) == os.path.realpath(other) or (
        os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
    )


def _partial(path: Path) -> Any:
    """A new file beside `path` (or what it links to), so that renaming it is atomic."""
    target = Path(os.path.realpath(path))
    try:
        partial = tempfile.NamedTemporaryFile(  # noqa: SIM115  the callers close it
            "w", encoding="utf-8", newline="\n", delete=False,
            dir=target.parent, prefix=f".{target.name}.", suffix=".partial",
        )  # fmt: skip
    except OSError as error:
        raise FileError(
            f"cannot be written ({error.strerror}): make sure that the folder {path.parent} exists "
            f"and may be written to",
            path,
        ) from error
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(partial.name, 0o666 & ~umask)
    return partial
