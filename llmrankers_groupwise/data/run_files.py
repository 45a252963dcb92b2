"""TREC run files: read query by query in the memory of one query, and written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files.record_files import FileMapping, LineIndex
from llmrankers_groupwise.files.text_files import SeekableFile
from llmrankers_groupwise.types import RankedDocument

__all__ = ["Run", "RunEntry", "RunFile", "write_ranking"]


class RunEntry(NamedTuple):
    """One document of a run."""

    doc_id: str
    score: float


Run = Mapping[str, Sequence[RunEntry]]
"""query_id -> its documents, best first."""

_Documents = dict[str, tuple[float, int]]
"""doc_id -> (-score, rank), in the order of the file."""

# The doc_id may hold spaces, so the fields around it are taken from both ends.
_RUN_LINE = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S.*?)\s+(\S+)\s+(\S+)\s+(\S+)\s*")


class _Block(NamedTuple):
    """Lines of one query that are together; `offset` is that of the first one's first byte."""

    query_id: str
    offset: int
    documents: _Documents


class RunFile(FileMapping[Sequence[RunEntry]]):
    """A run file of six columns, query_id, Q0, doc_id, rank, score, tag: query_id -> documents.

    Queries keep the order in which they first appear. Documents are sorted by score; equal scores
    go by the rank column, then by line. A doc_id may hold spaces.

    The whole file is checked once, at first; documents are read when they are asked for. Memory
    holds two integers for each query, or, where the lines of queries are mixed, for each offset
    where lines of a query are together.

    Args:
        path: plain, gzip or a pipe.
        hits: how many documents of each query to keep; None keeps all.
        hashed: query_id -> integer of 64 bits with sign.

    Raises:
        FileError: a malformed line, a doc_id twice for a query, no line at all; names the line.
            Also later, if the file has changed.
    """

    def __init__(
        self, path: str | Path, hits: int | None = None, *, hashed: Callable[[str], int] = hash
    ) -> None:
        self._file = SeekableFile(path)
        self._hits = hits
        self._index = LineIndex(hashed)
        for block in self._blocks():
            self._index.add(block.query_id, block.offset)
        self._index.close()
        together = next(self._index.shared(), None) is None
        self._length = len(self._index) if together else sum(1 for _ in self)

    def __len__(self) -> int:
        return self._length

    def __contains__(self, query_id: object) -> bool:
        return isinstance(query_id, str) and bool(self._offsets(query_id))

    def __getitem__(self, query_id: str) -> list[RunEntry]:
        offsets = self._offsets(query_id)
        if not offsets:
            raise KeyError(query_id)
        return self._entries(self._joined(offsets))

    def _stream(self) -> Iterator[tuple[str, list[RunEntry]]]:
        blocks = 0
        for block in self._blocks():
            blocks += 1
            offsets = self._index.offsets(block.query_id)
            if block.offset not in offsets:
                raise self._file.changed()
            if len(offsets) > 1:
                offsets = self._offsets(block.query_id)
            if block.offset == offsets[0]:
                documents = block.documents if len(offsets) == 1 else self._joined(offsets)
                yield block.query_id, self._entries(documents)
        if blocks != len(self._index):
            raise self._file.changed()

    def _offsets(self, query_id: str) -> list[int]:
        """Where blocks of lines of this query begin."""
        offsets = self._index.offsets(query_id)
        return [offset for offset in offsets if self._is_at(query_id, offset)]

    def _is_at(self, query_id: str, offset: int) -> bool:
        found = (self._file.line(offset).split() or [""])[0]
        if found != query_id and self._index.hashed(found) != self._index.hashed(query_id):
            raise self._file.changed()
        return found == query_id

    def _blocks(self, start: int = 0) -> Iterator[_Block]:
        """The blocks of the file, from that at the offset `start` on."""
        block: _Block | None = None
        current: str | None = None
        documents: _Documents = {}
        for number, offset, line in self._file.lines(start):
            query_id, doc_id, rank, score = _fields(line, self._file.path, number)
            if query_id != current:
                if block is not None:
                    yield block
                current, documents = query_id, {}
                block = _Block(query_id, offset, documents)
            if doc_id in documents:
                assert block is not None
                raise self._twice(doc_id, block, number)
            documents[doc_id] = -score, rank
        if block is not None:
            yield block

    def _joined(self, offsets: Sequence[int]) -> _Documents:
        """The documents of a query at all its offsets."""
        try:
            blocks = [next(self._blocks(offset)) for offset in offsets]
        except FileError as error:
            raise self._file.changed() from error
        joined: _Documents = {}
        for block in blocks:
            for doc_id in block.documents:
                if doc_id in joined:
                    first = next(each for each in blocks if doc_id in each.documents)
                    raise self._twice(doc_id, first, self._number(doc_id, block))
            joined |= block.documents
        return joined

    def _twice(self, doc_id: str, block: _Block, number: int) -> FileError:
        """The error for a document of this block that appears again at line `number`."""
        return FileError(
            f"document {doc_id} appears twice for query {block.query_id} (before at line "
            f"{self._number(doc_id, block)}); keep one of them",
            self._file.path,
            number,
        )

    def _number(self, doc_id: str, block: _Block) -> int:
        """The number of the line with this document of the block."""
        return next(
            self._file.number(offset)
            for number, offset, line in self._file.lines(block.offset)
            if _fields(line, self._file.path, number)[1] == doc_id
        )

    def _entries(self, documents: _Documents) -> list[RunEntry]:
        best = sorted(documents, key=documents.__getitem__)[: self._hits]
        return [RunEntry(doc_id, -documents[doc_id][0]) for doc_id in best]


def _fields(line: str, path: Path, number: int) -> tuple[str, str, int, float]:
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


def write_ranking(
    file: IO[str], query_id: str, documents: Iterable[RankedDocument], tag: str
) -> None:
    """Append one query's ranking as run lines, tab-separated as llm-rankers writes them."""
    for rank, document in enumerate(documents, start=1):
        file.write(f"{query_id}\tQ0\t{document.doc_id}\t{rank}\t{document.score:.6f}\t{tag}\n")
