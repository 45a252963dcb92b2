"""Files with one record a line, found by id: in memory are two integers for each line."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from pathlib import Path
from typing import Any, Generic, TypeVar

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.text_files import SeekableFile

__all__ = ["FileMapping", "LineIndex", "RecordColumn", "RecordFile"]

T = TypeVar("T")
U = TypeVar("U")


class LineIndex:
    """Where the lines of an id begin: 16 bytes for each, a hash of the id and an offset.

    First everything is added, then `close` sorts it, then it is asked. Ids can share a hash, so
    whoever asks has to look at the lines.

    Args:
        hashed: id -> integer of 64 bits with sign.
    """

    def __init__(self, hashed: Callable[[str], int] = hash) -> None:
        self.hashed = hashed
        self._added = array("q"), array("Q")
        self._hashes: Any = ()
        self._offsets: Any = ()

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, key: str, offset: int) -> None:
        """Note a line; offsets come in ascending order."""
        hashes, offsets = self._added
        hashes.append(self.hashed(key))
        offsets.append(offset)

    def close(self) -> None:
        """Make what was added ready to be asked for."""
        import numpy as np

        hashes, offsets = self._added
        del self._added
        order = np.argsort(np.frombuffer(hashes, np.int64), kind="stable")
        self._hashes = np.frombuffer(hashes, np.int64)[order].data
        del hashes
        self._offsets = np.frombuffer(offsets, np.uint64)[order].data

    def offsets(self, key: str) -> list[int]:
        """The lines that could be those of this id, in the order of the file."""
        wanted = self.hashed(key)
        at = bisect_left(self._hashes, wanted)
        found = []
        while at < len(self._hashes) and self._hashes[at] == wanted:
            found.append(self._offsets[at])
            at += 1
        return found

    def holds(self, keys: Sequence[str]) -> list[bool]:
        """For each id whether a line could be its own."""
        import numpy as np

        hashes = np.asarray(self._hashes)
        wanted = np.fromiter(map(self.hashed, keys), np.int64, len(keys))
        indexes = np.minimum(hashes.searchsorted(wanted), len(hashes) - 1)
        found: list[bool] = (hashes[indexes] == wanted).tolist()
        return found

    def shared(self) -> Iterator[list[int]]:
        """The lines that share a hash with others, those of one hash together."""
        import numpy as np

        hashes = np.asarray(self._hashes)
        end = 0
        for same in (hashes[1:] == hashes[:-1]).nonzero()[0].tolist():
            if same >= end:
                end = int(hashes.searchsorted(hashes[same], "right"))
                yield self._offsets[same:end].tolist()


class FileMapping(Mapping[str, T]):
    """A mapping whose keys, values and items stream by in the order of its file, in one pass."""

    @abstractmethod
    def _stream(self) -> Iterator[tuple[str, T]]:
        """Every key with its value."""

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._stream())

    def items(self) -> ItemsView[str, T]:
        """The items, read from the file as they are asked for."""
        return _Items(self)

    def values(self) -> ValuesView[T]:
        """The values, read from the file as they are asked for."""
        return _Values(self)


class _Items(ItemsView[str, T]):
    _mapping: FileMapping[T]

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return self._mapping._stream()


class _Values(ValuesView[T]):
    _mapping: FileMapping[T]

    def __iter__(self) -> Iterator[T]:
        return (value for _, value in self._mapping._stream())


class RecordFile(FileMapping[T], Generic[T]):
    """id -> record, of a file with one record a line, which is read when it is asked for.

    The whole file is checked once, at first.

    Args:
        path: plain, gzip or a pipe.
        parse: (line, its number) -> (id, record), or raises FileError.
        kind: what errors call a record.
        note: is shown every record once, in the order of the file, as (id, record, line number).
        hashed: id -> integer of 64 bits with sign.

    Raises:
        FileError: as `SeekableFile` and `parse`, or an id that appears twice; names the lines. Also
            later, if the file has changed.
    """

    def __init__(
        self,
        path: str | Path,
        parse: Callable[[str, int], tuple[str, T]],
        kind: str,
        note: Callable[[str, T, int], None] | None = None,
        hashed: Callable[[str], int] = hash,
    ) -> None:
        self._file = SeekableFile(path)
        self._parse = parse
        self._index = LineIndex(hashed)
        for number, offset, text in self._file.lines():
            key, record = parse(text, number)
            self._index.add(key, offset)
            if note is not None:
                note(key, record, number)
        self._index.close()
        self._refuse_repeats(kind)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, key: str) -> T:
        record = self._record(key)
        if record is None:
            raise KeyError(key)
        return record

    def records(self, keys: Sequence[str]) -> list[T | None]:
        """The record of each id, None where there is none."""
        return list(map(self._record, keys))

    def known(self, keys: Sequence[str]) -> list[bool]:
        """Whether there is a record of each id, without reading it.

        An id that is not there is taken for one that is where their hashes of 64 bits are equal:
        for 100 million records once in 10^11 ids.
        """
        return self._index.holds(keys)

    def _record(self, key: str) -> T | None:
        for offset in self._index.offsets(key):
            found, record = self._read(offset)
            if found == key:
                return record
            if self._index.hashed(found) != self._index.hashed(key):
                raise self._file.changed()
        return None

    def _read(self, offset: int) -> tuple[str, T]:
        text = self._file.line(offset)
        try:
            return self._parse(text, 0)
        except FileError as error:
            raise self._file.changed() from error

    def _stream(self) -> Iterator[tuple[str, T]]:
        for number, offset, text in self._file.lines():
            key, record = self._parse(text, number)
            if offset not in self._index.offsets(key):
                raise self._file.changed()
            yield key, record

    def _refuse_repeats(self, kind: str) -> None:
        repeats = []
        for offsets in self._index.shared():
            first: dict[str, int] = {}
            for offset in offsets:
                key = self._read(offset)[0]
                if first.setdefault(key, offset) != offset:
                    repeats.append((offset, first[key], key))
        if repeats:
            offset, before, key = min(repeats)
            raise FileError(
                f"{kind} {key} appears twice (before at line {self._file.number(before)}); keep "
                f"one of them",
                self._file.path,
                self._file.number(offset),
            )


class RecordColumn(FileMapping[T], Generic[T, U]):
    """id -> one part of its record, which is read when it is asked for.

    Args:
        records: the file.
        part: record -> its part.
    """

    def __init__(self, records: RecordFile[U], part: Callable[[U], T]) -> None:
        self._records = records
        self._part = part

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key: str) -> T:
        return self._part(self._records[key])

    def _stream(self) -> Iterator[tuple[str, T]]:
        return ((key, self._part(record)) for key, record in self._records.items())
