"""Whether a journal is whole, and saving what can be read of one that is not."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrankers_groupwise.errors import FileError, JournalError
from llmrankers_groupwise.journal.journal import (
    REPLY_FIELDS,
    SCHEMA,
    ReadJournal,
    check_size,
    connected,
    failure,
)
from llmrankers_groupwise.journal.keys import KEY_BYTES

__all__ = ["Findings", "check_journal", "salvage"]

_ROWS = 256  # read together
_PROBLEMS = 5

_READ = "SELECT reply, key, failed, content FROM replies WHERE reply BETWEEN ? AND ?"
_LEAST_BYTES = 64  # of a reply with its key in the index

Row = Sequence[Any]
"""Key, failed and content of a reply."""


@dataclass
class Findings:
    """What checking a journal found: how many replies can be read, and what is wrong."""

    replies: int = 0
    problems: list[str] = field(default_factory=list)


def check_journal(path: str | Path) -> Findings:
    """Read all of a journal.

    Raises:
        JournalError: there is no such file, or it is no journal.
    """
    path, findings = Path(path), Findings()
    with _opened(path, findings) as connection:
        if connection is not None:
            findings.problems += _problems(path, connection)
        findings.replies = sum(1 for _ in _readable(connection, findings))
    return findings


def _problems(path: Path, connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with the file, and questions that have lost their replies."""
    found: list[str] = []
    try:
        if not Path(f"{path}-wal").exists():
            check_size(connection, path)
        for (line,) in connection.execute(f"PRAGMA integrity_check({_PROBLEMS})"):
            if line != "ok":
                found += str(line).splitlines()
        (lost,) = connection.execute(
            "SELECT count(*) FROM questions WHERE reply NOT IN (SELECT reply FROM replies)"
        ).fetchone()
        if lost:
            found.append(f"{lost} questions whose replies are not there")
        with ReadJournal(path, connected(path, read_only=True, beside=True)) as journal:
            for run in journal.runs():
                for _, query, _ in journal.queries(run.number):
                    deque(journal.replies(run.number, query.query_id), maxlen=0)
    except (sqlite3.Error, ValueError, JournalError) as error:
        found.append(str(error))
    return found


def salvage(path: str | Path, copy: str | Path) -> Findings:
    """Copy every reply that can be read into a new journal.

    The copy has replies only. The command that made the damaged journal, run again with this one,
    asks what is missing and files the rest anew.

    Raises:
        JournalError: there is no such file, it is no journal, or the copy cannot be written.
        FileError: the copy is there already.
    """
    path, copy = Path(path), Path(copy)
    if copy.exists():
        raise FileError("is there already; save the copy under a new name", copy)
    findings = Findings()
    with _opened(path, findings) as damaged, closing(connected(copy)) as whole:
        try:
            whole.executescript(f"BEGIN; {SCHEMA}")
            for row in _readable(damaged, findings):
                whole.execute("INSERT OR IGNORE INTO replies VALUES (NULL, ?, ?, ?)", row)
                findings.replies += 1
            whole.execute("COMMIT")
        except sqlite3.Error as error:
            raise failure(copy, error) from error
    return findings


@contextlib.contextmanager
def _opened(path: Path, findings: Findings) -> Iterator[sqlite3.Connection | None]:
    """A connection that reads a file whose end is missing, too; None where SQLite cannot at all."""
    try:
        connection = connected(path, read_only=True, damaged=True)
    except JournalError as error:
        if error.__cause__ is None:  # it is another file
            raise
        findings.problems.append(str(error.__cause__))
        yield None
    else:
        with closing(connection):
            yield connection


def _readable(connection: sqlite3.Connection | None, findings: Findings) -> Iterator[Row]:
    """Key, failed and content of all replies that SQLite can read; what it cannot is noted."""
    lost = _Lost()
    if connection is None:
        lost.add(1, lost.most)
    else:
        for number, *row in _by_number(connection, lost):
            if _whole(row):
                yield row
            else:
                lost.add(number, number)
    findings.problems += lost.described()


def _by_number(connection: sqlite3.Connection, lost: _Lost) -> Iterator[Any]:
    """All rows of replies, read a range of numbers at a time, around what is damaged.

    Their number is not read from a file that may be damaged: its size is a good enough bound.
    """
    try:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    except sqlite3.Error:
        lost.add(1, lost.most)
        return
    lost.most = pages * size // _LEAST_BYTES
    for start in range(1, lost.most + 1, _ROWS):
        yield from _between(connection, start, start + _ROWS - 1, lost)


def _between(connection: sqlite3.Connection, first: int, last: int, lost: _Lost) -> Iterator[Any]:
    """The rows of these numbers, halved around damage until it is found."""
    try:
        yield from connection.execute(_READ, (first, last)).fetchall()
    except sqlite3.Error:
        if first == last:
            lost.add(first, first)
            return
        middle = (first + last) // 2
        yield from _between(connection, first, middle, lost)
        yield from _between(connection, middle + 1, last, lost)


@dataclass
class _Lost:
    """Numbers of replies that could not be read."""

    ranges: list[tuple[int, int]] = field(default_factory=list)
    most: int = 1
    """The highest number there could be."""

    def add(self, first: int, last: int) -> None:
        if self.ranges and self.ranges[-1][1] == first - 1:
            first = self.ranges.pop()[0]
        self.ranges.append((first, last))

    def described(self) -> list[str]:
        lines = []
        for first, last in self.ranges:
            if last >= self.most:
                lines.append(f"replies from number {first} on cannot be read, if there are any")
            else:
                lines.append(f"replies {first} to {last} cannot be read")
        return lines


def _whole(row: Row) -> bool:
    """Whether this is a reply with its key, and undamaged."""
    if len(row) != 3:
        return False
    key, failed, content = row
    if not (isinstance(key, bytes) and len(key) == KEY_BYTES and failed in (0, 1)):
        return False
    try:
        return len(json.loads(zlib.decompress(content))) == len(REPLY_FIELDS)
    except (zlib.error, ValueError, TypeError):
        return False
