"""Rows off the pages of a damaged SQLite file, whether or not its trees lead to them.

SQLite finds a row through its tree: what hangs on a page that is gone is gone for it, though it may
be there. The pages that hold rows say themselves what they are (sqlite.org/fileformat2.html).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["rows_on_pages"]

_LEAF = 13  # of a table with row numbers
_FILE_HEADER = 100
_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
_USUAL_SIZE = 4096

Value = int | float | bytes | None
"""Text and floating point numbers come as their bytes."""


def rows_on_pages(path: Path) -> Iterator[list[Value]]:
    """The rows of all tables that have row numbers, as far as they can be read.

    A row's first value is its number. Rows may be stale, or made of damaged bytes: whoever takes
    them must know them by their content. A page that is cut off counts as zeros behind the cut.
    """
    with path.open("rb") as file:
        header = file.read(_FILE_HEADER).ljust(_FILE_HEADER, b"\0")
        size = int.from_bytes(header[16:18], "big")
        size = 65536 if size == 1 else size
        pages = _Pages(path, size if size in _PAGE_SIZES else _USUAL_SIZE, header[20])
    for number in range(1, pages.count + 1):
        yield from pages.rows(number)


class _Pages:
    """The pages of a file, counted from 1, of which the last `reserved` bytes are not used."""

    def __init__(self, path: Path, size: int, reserved: int) -> None:
        self._path = path
        self._size = size
        self._usable = size - reserved
        self.count = -(-path.stat().st_size // size)

    def rows(self, number: int) -> Iterator[list[Value]]:
        page = self._page(number)
        start = _FILE_HEADER if number == 1 else 0
        if page[start] != _LEAF:
            return
        cells = int.from_bytes(page[start + 3 : start + 5], "big")
        for place in range(start + 8, min(start + 8 + 2 * cells, self._size), 2):
            try:
                yield self._row(page, int.from_bytes(page[place : place + 2], "big"))
            except (IndexError, ValueError):
                continue

    def _page(self, number: int) -> bytes:
        if not 1 <= number <= self.count:
            raise ValueError(number)
        with self._path.open("rb") as file:
            file.seek((number - 1) * self._size)
            return file.read(self._size).ljust(self._size, b"\0")

    def _row(self, page: bytes, at: int) -> list[Value]:
        length, at = _varint(page, at)
        number, at = _varint(page, at)
        return [number, *_values(self._payload(page, at, length))[1:]]

    def _payload(self, page: bytes, at: int, length: int) -> bytes:
        """The bytes of a row, those on overflow pages included."""
        most = self._usable - 35
        if length <= most:
            return page[at : at + length]
        least = (self._usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (self._usable - 4)
        local = local if local <= most else least
        parts = [page[at : at + local]]
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        missing = length - local
        if missing > self.count * self._size:
            raise ValueError(length)
        while missing > 0:
            page = self._page(following)
            parts.append(page[4 : self._usable][:missing])
            missing -= len(parts[-1])
            following = int.from_bytes(page[:4], "big")
        return b"".join(parts)


def _values(record: bytes) -> list[Value]:
    """The values of a record in SQLite's format."""
    end, at = _varint(record, 0)
    values: list[Value] = []
    body = end
    while at < end:
        kind, at = _varint(record, at)
        if kind in (8, 9):
            values.append(kind - 8)
            continue
        length = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8)[kind]
        part = record[body : body + length]
        if len(part) < length:
            raise ValueError(kind)
        whole = 1 <= kind <= 6
        values.append(int.from_bytes(part, "big", signed=True) if whole else part if kind else None)
        body += length
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1
