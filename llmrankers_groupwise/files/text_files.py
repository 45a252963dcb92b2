"""Text files read line by line, with the line's number and byte offset."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llmrankers_groupwise.errors import FileError

__all__ = ["SeekableFile", "json_object", "lines", "parse_json", "well_formed"]

_GZIP_MAGIC = b"\x1f\x8b"
_PART = 1 << 20
_LINES = 1 << 13

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONE = re.compile("[\ud800-\udfff]")


class SeekableFile:
    """A file that is read from any offset, as if it were plain text on a disk.

    Gzip, known by its first bytes, and pipes are unpacked first, into an unnamed file in the
    folder for temporary files (TMPDIR), which goes when this object goes. Offsets count bytes of
    the unpacked text.

    Raises:
        FileError: the file cannot be read, is broken gzip, or does not fit in that folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with _named(self.path):
            self._file = _seekable(self.path)
        weakref.finalize(self, self._file.close)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, `size` of them or as many as there are."""
        with _named(self.path):
            self._file.seek(offset)
            return self._file.read(size)

    def line(self, offset: int) -> str:
        """The line at `offset`, without line ends.

        Raises:
            FileError: the file has changed so that no text is there.
        """
        try:
            raw = self._lines(offset, 1) or [b""]
            return _decoded(raw[0], self.path, 0, offset)
        except FileError as error:
            raise self.changed() from error

    def lines(self, start: int = 0) -> Iterator[tuple[int, int, str]]:
        """Each line that is not blank as (number, byte offset, text without line ends).

        Begins at the line at the offset `start`, whose number is 1. The file may be read elsewhere
        between two lines.

        Raises:
            FileError: a line is not UTF-8, or there is none.
        """
        offset, number, found = start, 0, False
        while part := self._lines(offset, _LINES):
            for raw in part:
                number += 1
                if text := _decoded(raw, self.path, number, offset):
                    found = True
                    yield number, offset, text
                offset += len(raw)
        if not found:
            raise FileError("the file is empty; give one with at least one line", self.path)

    def number(self, offset: int) -> int:
        """The number, from 1, of the line at `offset`; reads all before it."""
        starts = range(0, offset, _PART)
        return 1 + sum(self.read(at, min(_PART, offset - at)).count(b"\n") for at in starts)

    def changed(self) -> FileError:
        """The error for a file that is no longer what was read at first."""
        return FileError("has changed while it was in use; leave it alone and run again", self.path)

    def _lines(self, offset: int, size: int) -> list[bytes]:
        """The lines from `offset` on, as many as it takes to have `size` bytes."""
        with _named(self.path):
            self._file.seek(offset)
            return self._file.readlines(size)


def lines(path: str | Path) -> Iterator[tuple[int, int, str]]:
    """The lines of a file, plain or gzip, as `SeekableFile.lines`.

    Raises:
        FileError: the file cannot be read, is broken gzip, is not UTF-8, or holds no line.
    """
    return SeekableFile(path).lines()


def json_object(text: str, path: Path, number: int) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        FileError: the line is none.
    """
    try:
        value = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"not JSON: {error}; fix the line", path, number) from error
    if not isinstance(value, dict):
        raise FileError("not a JSON object; give one in braces on every line", path, number)
    return value


def parse_json(text: str) -> Any:
    """The JSON value of a line, its texts well formed."""
    value = json.loads(text)
    if _SURROGATE.search(text):
        value = json.loads(well_formed(json.dumps(value, ensure_ascii=False)))
    return value


def well_formed(text: str) -> str:
    """Text in which halves of surrogate pairs, as of cut emoji, are question marks."""
    return text.encode("utf-8", "replace").decode() if _LONE.search(text) else text


def _decoded(raw: bytes, path: Path, number: int, offset: int) -> str:
    """A line's text without line ends and byte order mark, "" for a blank one.

    Raises:
        FileError: it is not UTF-8.
    """
    try:
        text = raw.decode("utf-8" if offset else "utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        raise FileError(
            f"not UTF-8 (byte {error.start + 1} of the line is 0x{raw[error.start]:02x}); "
            f"convert the file, for instance with iconv -f latin1 -t utf-8",
            path,
            number,
        ) from error
    return "" if text.isspace() else text


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of reading as FileErrors that name the file."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"broken gzip file: {error}; copy it again", path) from error
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, path: Path) -> FileError:
    return FileError(f"cannot be read: {error.strerror}; check the path", path)


def _seekable(path: Path) -> IO[bytes]:
    """The file itself, or what is in it where that cannot be sought; opened once, as pipes ask."""
    file = path.open("rb")
    packed = file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
    if file.seekable() and not packed:
        return file
    with file:
        return _unpacked(gzip.GzipFile(fileobj=file) if packed else file, path)


def _unpacked(source: IO[bytes] | gzip.GzipFile, path: Path) -> IO[bytes]:
    unpacked = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    try:
        while part := source.read(_PART):
            try:
                unpacked.write(part)
                unpacked.flush()
            except OSError as error:
                raise FileError(
                    f"cannot be unpacked into {tempfile.gettempdir()}: {error.strerror}; set "
                    f"TMPDIR to a folder with more room, or unpack the file yourself",
                    path,
                ) from error
    except BaseException:
        unpacked.close()
        raise
    return unpacked
