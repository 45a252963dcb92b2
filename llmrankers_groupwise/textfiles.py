"""Text files read line by line with the line's number, and files written whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from llmrankers_groupwise.errors import FileError

__all__ = [
    "check_writable",
    "is_gzip",
    "json_lines",
    "lines",
    "parse_json",
    "well_formed",
    "write_atomically",
]

_GZIP_MAGIC = b"\x1f\x8b"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")


def lines(path: str | Path) -> Iterator[tuple[int, int, str]]:
    """Each line that is not blank as (number from 1, byte offset, text without line ends).

    Reads gzip too, known by its first bytes; offsets are then those of the unpacked text.

    Raises:
        FileError: the file cannot be read, is broken gzip, is not UTF-8, or holds no line.
    """
    path = Path(path)
    offset = found = 0
    try:
        with _opened(path) as file:
            for number, raw in enumerate(file, start=1):
                text = _decoded(raw, path, number)
                if text:
                    found += 1
                    yield number, offset, text
                offset += len(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"broken gzip file: {error}; copy it again", path) from error
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}; check the path", path) from error
    if not found:
        raise FileError("the file is empty; give one with at least one line", path)


def json_lines(path: str | Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Each line as (number, byte offset, JSON object).

    Raises:
        FileError: as `lines`, and for a line that is no JSON object.
    """
    for number, offset, text in lines(path):
        try:
            value = parse_json(text)
        except (ValueError, RecursionError) as error:
            raise FileError(f"not JSON: {error}; mend the line", path, number) from error
        if not isinstance(value, dict):
            raise FileError("not a JSON object; give one in braces on every line", path, number)
        yield number, offset, value


def parse_json(text: str) -> Any:
    """The JSON value of a line, its texts well formed."""
    value = json.loads(text)
    if _SURROGATE.search(text):
        value = json.loads(well_formed(json.dumps(value, ensure_ascii=False)))
    return value


def well_formed(text: str) -> str:
    """Text in which halves of surrogate pairs, as of cut emoji, are question marks."""
    return text.encode("utf-8", "replace").decode() if _LONE.search(text) else text


def is_gzip(path: str | Path) -> bool:
    """Whether the file begins as gzip does."""
    with Path(path).open("rb") as file:
        return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    """The file's lines, unpacked; opened only once, as a pipe can be."""
    with path.open("rb") as file:
        if file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        else:
            yield file


def _decoded(raw: bytes, path: Path, number: int) -> str:
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise FileError(
            f"not UTF-8 (byte {error.start + 1} of the line is 0x{raw[error.start]:02x}); "
            f"convert the file, for instance with iconv -f latin1 -t utf-8",
            path,
            number,
        ) from error
    return text.strip("\r\n") if text.strip() else ""


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[IO[str]]:
    """A text file that takes the place of `path` at the end, or leaves it alone on an error.

    Raises:
        FileError: the place cannot be written.
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
    """Raise FileError unless `path` could be written now; nothing is left behind."""
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


def _partial(path: Path) -> Any:
    """A new file beside `path` (or what it links to), so that renaming it is atomic."""
    place = Path(os.path.realpath(path))
    try:
        partial = tempfile.NamedTemporaryFile(  # noqa: SIM115  the callers close it
            "w", encoding="utf-8", newline="\n", delete=False,
            dir=place.parent, prefix=f".{place.name}.", suffix=".partial",
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
