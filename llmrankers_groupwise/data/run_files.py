"""TREC run files: read query by query in the memory of one query, and written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import gt
from pathlib import Path
from typing import IO, NamedTuple

from llmrankers_groupwise.data.run_blocks import RunBlock, read_blocks, run_fields, twice
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


class RunFile(FileMapping[Sequence[RunEntry]]):
    """A run file of six columns, query_id, Q0, doc_id, rank, score, tag: query_id -> documents.

    Queries keep the order in which they first appear. Documents are sorted by score; equal scores
    go by the rank column, then by line. A doc_id may hold spaces.

    The whole file is checked once, at first; documents are read when they are asked for. Memory
    holds two integers for each query, or, where the lines of queries are mixed, for each place
    where lines of a query stand together.

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
        for block in read_blocks(self._file):
            self._index.add(block.query_id, block.offset)
        self._index.close()
        together = next(self._index.shared(), None) is None
        self._length = len(self._index) if together else sum(1 for _ in self._queries())

    def __len__(self) -> int:
        return self._length

    def __contains__(self, query_id: object) -> bool:
        return isinstance(query_id, str) and bool(self._places(query_id))

    def __getitem__(self, query_id: str) -> list[RunEntry]:
        places = self._places(query_id)
        if not places:
            raise KeyError(query_id)
        return self._entries(self._joined(places))

    def _stream(self) -> Iterator[tuple[str, list[RunEntry]]]:
        for block in self._queries():
            yield block.query_id, self._entries(block)

    def _queries(self) -> Iterator[RunBlock]:
        """All lines of each query."""
        blocks = 0
        for block in read_blocks(self._file, again=True):
            blocks += 1
            places = self._index.offsets(block.query_id)
            if block.offset not in places:
                raise self._file.changed()
            if len(places) == 1:
                yield block
                continue
            places = self._places(block.query_id)
            if block.offset == places[0]:
                yield self._joined(places)
        if blocks != len(self._index):
            raise self._file.changed()

    def _places(self, query_id: str) -> list[int]:
        """Where blocks of lines of this query begin."""
        places = self._index.offsets(query_id)
        return [offset for offset in places if self._is_at(query_id, offset)]

    def _is_at(self, query_id: str, offset: int) -> bool:
        found = (self._file.line(offset).split() or [""])[0]
        if found != query_id and self._index.hashed(found) != self._index.hashed(query_id):
            raise self._file.changed()
        return found == query_id

    def _joined(self, places: Sequence[int]) -> RunBlock:
        """The lines of a query at all its places as one block."""
        try:
            blocks = [next(read_blocks(self._file, place, again=True)) for place in places]
        except FileError as error:
            raise self._file.changed() from error
        if len(blocks) == 1:
            return blocks[0]
        found: dict[str, int] = {}
        for block in blocks:
            for doc_id in block.doc_ids:
                if found.setdefault(doc_id, block.offset) != block.offset:
                    before, number = (
                        self._number(doc_id, offset) for offset in (found[doc_id], block.offset)
                    )
                    raise twice(doc_id, block.query_id, before, self._file.path, number)
        return RunBlock(
            blocks[0].query_id,
            blocks[0].offset,
            list(found),
            [rank for block in blocks for rank in block.ranks],
            [score for block in blocks for score in block.scores],
        )

    def _number(self, doc_id: str, offset: int) -> int:
        """The number of the line with this document in the block at the offset."""
        return next(
            number
            for number, _, line in self._file.lines(offset)
            if run_fields(line, self._file.path, number)[1] == doc_id
        )

    def _entries(self, block: RunBlock) -> list[RunEntry]:
        doc_ids, scores = block.doc_ids, block.scores
        if not all(map(gt, scores, scores[1:])):
            order = sorted(range(len(scores)), key=lambda line: (-scores[line], block.ranks[line]))
            doc_ids = [doc_ids[line] for line in order]
            scores = [scores[line] for line in order]
        pairs = zip(doc_ids[: self._hits], scores[: self._hits], strict=True)
        return list(map(tuple.__new__, itertools.repeat(RunEntry), pairs))


def write_ranking(
    file: IO[str], query_id: str, documents: Iterable[RankedDocument], tag: str
) -> None:
    """Append one query's ranking as run lines, tab-separated as llm-rankers writes them."""
    for rank, document in enumerate(documents, start=1):
        file.write(f"{query_id}\tQ0\t{document.doc_id}\t{rank}\t{document.score:.6f}\t{tag}\n")
