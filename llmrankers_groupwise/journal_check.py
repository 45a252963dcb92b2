"""Whether a journal is whole, and saving what can be read of one that is not."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrankers_groupwise.errors import FileError, JournalError
from llmrankers_groupwise.journal_file import SCHEMA
from llmrankers_groupwise.journal_open import check_size, connected, failure
from llmrankers_groupwise.keys import KEY_BYTES

__all__ = ["Findings", "check_journal", "salvage"]

_ROWS = 256  # read together; halved around damage until it is found
_PROBLEMS = 5

_READ = "SELECT reply, key, failed, content FROM replies WHERE reply BETWEEN ? AND ?"
_LEAST_BYTES = 64  # of a reply with its key in the index


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
    findings = Findings()
    with closing(_opened(Path(path))) as connection:
        try:
            if not Path(f"{path}-wal").exists():
                check_size(connection, Path(path))
            for (line,) in connection.execute(f"PRAGMA integrity_check({_PROBLEMS})"):
                if line != "ok":
                    findings.problems += str(line).splitlines()
            lost = connection.execute(
                "SELECT count(*) FROM questions WHERE reply NOT IN (SELECT reply FROM replies)"
            ).fetchone()[0]
            if lost:
                findings.problems.append(f"{lost} questions whose replies are not there")
        except (sqlite3.Error, JournalError) as error:
            findings.problems.append(str(error))
        findings.replies = sum(1 for _ in _readable(connection, findings))
    return findings


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
    with closing(_opened(path)) as damaged, closing(connected(copy)) as whole:
        try:
            whole.executescript(f"BEGIN; {SCHEMA}")
            for row in _readable(damaged, findings):
                whole.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?)", row)
                findings.replies += 1
            whole.execute("COMMIT")
        except sqlite3.Error as error:
            raise failure(copy, error) from error
    return findings


def _opened(path: Path) -> sqlite3.Connection:
    """A connection that reads a file whose end is missing, too, as far as it goes."""
    return connected(path, read_only=True, damaged=True)


def _readable(connection: sqlite3.Connection, findings: Findings) -> Iterator[Any]:
    """All rows of replies that can be read and unpacked; what cannot is noted.

    How many there are is not asked of a file that may be damaged: its size says it well enough.
    """
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    most = pages * size // _LEAST_BYTES
    ranges = [(start, start + _ROWS - 1) for start in range(1, most + 1, _ROWS)][::-1]
    unread: list[tuple[int, int]] = []
    while ranges:
        first, last = ranges.pop()
        try:
            rows = connection.execute(_READ, (first, last)).fetchall()
        except sqlite3.Error:
            if first < last:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
            elif unread and unread[-1][1] == first - 1:
                unread[-1] = (unread[-1][0], first)
            else:
                unread.append((first, first))
            continue
        for row in rows:
            if _whole(row):
                yield row
            else:
                findings.problems.append(f"reply {row[0]} is damaged")
    findings.problems += [
        f"replies from number {first} on cannot be read"
        if last >= most
        else f"replies {first} to {last} cannot be read"
        for first, last in unread
    ]


def _whole(row: Any) -> bool:
    _, key, failed, content = row
    try:
        json.loads(zlib.decompress(content))
    except (zlib.error, ValueError, TypeError):
        return False
    return isinstance(key, bytes) and len(key) == KEY_BYTES and failed in (0, 1)
