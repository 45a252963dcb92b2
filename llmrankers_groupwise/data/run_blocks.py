"""Lines of run files, those of one query at a time: fast where they are plain, else with care."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.text_files import SeekableFile, decoded, empty

__all__ = ["RunBlock", "read_blocks", "run_fields", "twice"]

# The doc_id may hold spaces, so the fields around it are taken from both ends.
_RUN_LINE = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S.*?)\s+(\S+)\s+(\S+)\s+(\S+)\s*")

_is_word = re.compile(rb"[!-~]+").fullmatch

_PART = 1 << 18
_SMALL_PART = 1 << 13
_MARGIN = 128
_ASCII_BLANKS = "\t \r\v\f\x1c\x1d\x1e\x1f"
_OTHER_BLANKS = "\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


class RunBlock(NamedTuple):
    """All lines of one query that stand together, in the order of the file.

    `offset` is that of the first line's first byte; the columns are of equal length, and no
    doc_id stands twice.
    """

    query_id: str
    offset: int
    doc_ids: list[str]
    ranks: list[int]
    scores: list[float]


def read_blocks(file: SeekableFile, offset: int = 0, *, again: bool = False) -> Iterator[RunBlock]:
    """The blocks of a run file, from a block's offset on.

    Args:
        file: the run file.
        offset: where to begin.
        again: the file was found good before, so that plain lines need no look at duplicates.

    Raises:
        FileError: a malformed line, a doc_id twice in a block, no line at all; names the line if
            the offset is 0.
    """
    found = False
    for block in _Blocks(file, offset, again).blocks():
        found = True
        yield block
    if not found:
        raise empty(file.path)


def run_fields(line: str, path: Path, number: int) -> tuple[str, str, int, float]:
    """query_id, doc_id, rank and score of a line.

    Raises:
        FileError: the line is malformed.
    """
    columns = line.split()
    if len(columns) == 6:
        query_id, _, doc_id, rank, score, _ = columns
    elif match := _RUN_LINE.fullmatch(line):
        query_id, _, doc_id, rank, score, _ = match.groups()
    else:
        raise FileError(
            f"a run line has six columns (query_id Q0 doc_id rank score tag), this one has "
            f"{len(columns)}: {line[:100]!r}; is this a run file?",
            path,
            number,
        )
    try:
        fields = query_id, doc_id, int(rank), float(score)
    except ValueError:
        raise FileError(
            f"rank {rank!r} is no whole number or score {score!r} no number; is this a run file?",
            path,
            number,
        ) from None
    if not math.isfinite(fields[3]):
        raise FileError(f"the score is {score}; give a finite number", path, number)
    return fields


def twice(doc_id: str, query_id: str, before: int, path: Path, number: int) -> FileError:
    """The error for a document that a query has in two lines."""
    return FileError(
        f"document {doc_id} stands twice for query {query_id} (before at line {before}); "
        f"keep one of them",
        path,
        number,
    )


class _Blocks:
    """Reads the file part by part; `_buffer` holds whole lines, those from `_start` on are to do.

    Attributes:
        _base: the offset of the buffer's first byte.
        _number: the number of the next line; where reading began in the middle, any but 1.
        _ended: nothing comes after the buffer.
        _blank: what separates the columns of plain lines; `_odd` are the other ASCII white space.
        _window: within so many bytes the end of the next block is looked for at first.
        _ranks: the last rank column as text and as numbers, as most blocks share theirs.
    """

    def __init__(self, file: SeekableFile, offset: int, again: bool = False) -> None:
        self._file = file
        self._again = again
        self._part = _SMALL_PART if offset else _PART
        self._buffer = b""
        self._base = offset
        self._start = 0
        self._number = 2 if offset else 1
        self._ended = False
        self._grow()
        tab = b"\t" in self._buffer[: self._buffer.find(b"\n") + 1]
        self._blank = "\t" if tab else " "
        self._odd = [each.encode() for each in _ASCII_BLANKS if each != self._blank]
        self._window = _SMALL_PART
        self._ranks: tuple[list[str], list[int]] = [], []

    def blocks(self) -> Iterator[RunBlock]:
        while block := self._plain() or self._careful():
            yield block

    def _grow(self) -> None:
        """Drop what is done, and read on up to the end of a line."""
        kept = self._buffer[self._start :]
        self._base += self._start
        self._start = 0
        size = max(self._part, len(kept))
        part = self._file.read(self._base + len(kept), size)
        while len(part) == size and b"\n" not in part:
            size *= 2
            part = self._file.read(self._base + len(kept), size)
        self._ended = len(part) < size
        if not self._ended:
            part = part[: part.rfind(b"\n") + 1]
        elif part and not part.endswith(b"\n"):
            part += b"\n"
        self._buffer = kept + part

    def _plain(self) -> RunBlock | None:
        """The next block if its lines are plain: one space between columns, one tag, no fault."""
        end = self._plain_end()
        if end is None:
            return None
        start = self._start
        block = self._parsed(self._buffer[start : end - 1], self._base + start)
        if block is not None:
            self._start = end
            self._number += len(block.doc_ids)
            self._window = (end - start) * 9 // 8 + _MARGIN
        return block

    def _plain_end(self) -> int | None:
        """Where in the buffer the next block ends; None if that takes a careful look."""
        blank = self._blank.encode()
        while True:
            buffer, start = self._buffer, self._start
            query = buffer[start : buffer.find(blank, start)]
            if not _is_word(query):
                return None
            begin = b"\n" + query + blank
            last = buffer.rfind(begin, start, start + self._window)
            end = buffer.find(b"\n", max(start, last + 1)) + 1
            if buffer.startswith(begin[1:], end):
                self._window *= 2
            elif end < len(buffer):
                return end if _is_word(buffer[end : buffer.find(blank, end)]) else None
            elif self._ended:
                return end
            else:
                self._grow()

    def _parsed(self, raw: bytes, offset: int) -> RunBlock | None:
        """The block of these lines; None unless all are plain, of one query and without fault."""
        text = self._decoded(raw)
        if text is None:
            return None
        blank = self._blank
        query_id, iteration, rest = (*text.split(blank, 2), "", "")[:3]
        body, _, tag = rest.rpartition(blank)
        # With all that lines have in common put down to one sign for their end, that sign is every
        # fourth piece of the text, and stands nowhere else, if every line has its six columns.
        joint = f"{blank}{tag}\n{query_id}{blank}{iteration}{blank}"
        pieces = body.replace(joint, f"{blank}\n{blank}").split(blank)
        doc_ids, ranks = pieces[::4], pieces[1::4]
        count = len(doc_ids)
        if not (
            len(pieces) == 4 * count - 1
            and pieces[3::4].count("\n") == text.count("\n") == count - 1
            and query_id and iteration and all(doc_ids) and tag
            and (self._again or len(set(doc_ids)) == count)
        ):  # fmt: skip
            return None
        try:
            scores = list(map(float, pieces[2::4]))
            if ranks != self._ranks[0]:
                self._ranks = ranks, list(map(int, ranks))
        except ValueError:
            return None
        finite = math.isfinite(sum(scores))
        return RunBlock(query_id, offset, doc_ids, self._ranks[1], scores) if finite else None

    def _decoded(self, raw: bytes) -> str | None:
        """The text, if `_blank` and line feeds are all the white space that is in it."""
        if any(map(raw.__contains__, self._odd)):
            return None
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return None
        odd = not text.isascii() and any(blank in text for blank in _OTHER_BLANKS)
        return None if odd else text

    def _careful(self) -> RunBlock | None:
        """The next block line by line, whatever its lines look like; None at the end."""
        block: RunBlock | None = None
        numbers: dict[str, int] = {}
        at, number, path = self._start, self._number, self._file.path
        while True:
            end = self._buffer.find(b"\n", at) + 1
            if not end and self._ended:
                break
            if not end:
                at -= self._start
                self._grow()
                continue
            if line := decoded(self._buffer[at:end], path, number):
                query_id, doc_id, rank, score = run_fields(line, path, number)
                block = block or RunBlock(query_id, self._base + at, [], [], [])
                if query_id != block.query_id:
                    break
                if numbers.setdefault(doc_id, number) != number:
                    raise twice(doc_id, query_id, numbers[doc_id], path, number)
                block.doc_ids.append(doc_id)
                block.ranks.append(rank)
                block.scores.append(score)
            at, number = end, number + 1
        self._start, self._number = at, number
        self._window = 64 * len(numbers) + _MARGIN
        return block
