"""The file of a journal: one SQLite database, in which nothing paid for is ever overwritten.

    runs       what was asked and how, by the digest of that; `used` counts up with every start
    queries    a run's queries in their order, as they were shown, with their candidates
    questions  a run's questions: query, repeat, documents in prompt order, and the reply's number
    replies    by the key of the question (`keys.question_key`), errors included

A reply is JSON packed by zlib, whose checksum shows damage on disk; `failed` tells errors.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrankers_groupwise.journal_open import APPLICATION_ID, VERSION, connected, failure
from llmrankers_groupwise.keys import digest
from llmrankers_groupwise.types import Candidate, Origin, Query, Reply

__all__ = [
    "REPLY_FIELDS",
    "SCHEMA",
    "ReadJournal",
    "RecordedRun",
    "Statement",
    "insert_query",
    "insert_question",
    "insert_reply",
]

Statement = tuple[str, Sequence[object]]
"""SQL with its parameters."""

SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, used INTEGER NOT NULL,
    described TEXT NOT NULL
);
CREATE TABLE queries (
    run INTEGER NOT NULL, query_id TEXT NOT NULL, place INTEGER NOT NULL, shown BLOB NOT NULL,
    PRIMARY KEY (run, query_id)
) WITHOUT ROWID;
CREATE INDEX places ON queries (run, place);
CREATE TABLE questions (
    run INTEGER NOT NULL, query_id TEXT NOT NULL, repeat INTEGER NOT NULL, doc_ids TEXT NOT NULL,
    reply INTEGER NOT NULL,
    PRIMARY KEY (run, query_id, repeat, doc_ids)
) WITHOUT ROWID;
CREATE TABLE replies (
    reply INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, failed INTEGER NOT NULL,
    content BLOB NOT NULL
);
"""

REPLY_FIELDS = (
    "text", "blanks", "forced", "cut_passages", "prompt_tokens", "completion_tokens",
    "finish_reason", "seconds", "error",
)  # fmt: skip


@dataclass(frozen=True)
class RecordedRun:
    """A run as a journal has it: its number there, its key, and what was asked and how."""

    number: int
    key: bytes
    described: Mapping[str, Any]


def insert_reply(key: bytes, reply: Reply) -> Statement:
    """Add a reply; only an error may be there already, and gives way."""
    content = _packed([getattr(reply, name) for name in REPLY_FIELDS])
    return (
        "INSERT INTO replies (key, failed, content) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE "
        "SET failed = excluded.failed, content = excluded.content WHERE failed",
        (key, reply.error is not None, content),
    )


def insert_question(run: int, origin: Origin, key: bytes) -> Statement:
    """Note which reply a run's question has; the reply must be there."""
    return (
        "INSERT INTO questions SELECT ?, ?, ?, ?, reply FROM replies WHERE key = ? "
        "ON CONFLICT DO UPDATE SET reply = excluded.reply WHERE reply != excluded.reply",
        (run, origin.query_id, origin.repeat, _doc_ids(origin), key),
    )


def insert_query(
    run: int, place: int, query: Query, candidates: Sequence[Candidate]
) -> list[Statement]:
    """Note a run's query with its candidates; questions of other candidates go."""
    listed = [[str(each.doc_id), each.score, each.text is not None] for each in candidates]
    texts = digest([each.text for each in candidates]).hex()  # other texts, other questions
    shown = _packed([query.text, listed, texts])
    same = (run, query.query_id, place, shown)
    return [
        (
            "DELETE FROM questions WHERE run = ?1 AND query_id = ?2 AND EXISTS (SELECT 1 FROM "
            "queries WHERE run = ?1 AND query_id = ?2 AND shown != ?4)",
            same,
        ),
        (
            "INSERT INTO queries VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET "
            "place = excluded.place, shown = excluded.shown "
            "WHERE place != excluded.place OR shown != excluded.shown",
            same,
        ),
    ]


class ReadJournal:
    """What a journal holds, read only; it may be read while a run writes to it.

    Args:
        path: the file.
        connection: one that is open to it already; closed with this.

    Raises:
        JournalError: there is no such file, it is no journal, or it is damaged.
    """

    def __init__(self, path: str | Path, connection: sqlite3.Connection | None = None) -> None:
        self.path = Path(path)
        self._connection = connection or connected(self.path, read_only=True)

    def __enter__(self) -> ReadJournal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def reply(self, key: bytes) -> Reply | None:
        """The reply filed under a key; None if there is none, or only an error."""
        found = self._one("SELECT content FROM replies WHERE key = ? AND NOT failed", (key,))
        return self._reply(found[0]) if found else None

    def reply_to(self, run: int, origin: Origin) -> Reply | None:
        """The reply to a run's question, or the error it got; None if it was not answered."""
        found = self._one(
            "SELECT content FROM questions JOIN replies USING (reply) "
            "WHERE run = ? AND query_id = ? AND repeat = ? AND doc_ids = ?",
            (run, origin.query_id, origin.repeat, _doc_ids(origin)),
        )
        return self._reply(found[0]) if found else None

    def runs(self) -> list[RecordedRun]:
        """All runs, the one used last at the end."""
        rows = self._rows("SELECT run, key, described FROM runs ORDER BY used", ())
        return [RecordedRun(run, key, self._parsed(described)) for run, key, described in rows]

    def queries(self, run: int) -> Iterator[tuple[int, Query, list[Candidate]]]:
        """A run's queries with their candidates, each by its place; texts are "" where known."""
        rows = self._rows(
            "SELECT place, query_id, shown FROM queries WHERE run = ? ORDER BY place", (run,)
        )
        for place, query_id, shown in rows:
            yield place, *self._shown(query_id, shown)

    def query(self, run: int, query_id: str) -> tuple[Query, list[Candidate]] | None:
        """One of a run's queries with its candidates, as `queries` has it; None if not there."""
        found = self._one(
            "SELECT shown FROM queries WHERE run = ? AND query_id = ?", (run, query_id)
        )
        return self._shown(query_id, found[0]) if found else None

    def replies(self, run: int, query_id: str) -> Iterator[tuple[Origin, Reply]]:
        """A query's questions and their replies, by repeat, then in the order of answering."""
        rows = self._rows(
            "SELECT repeat, doc_ids, content FROM questions JOIN replies USING (reply) "
            "WHERE run = ? AND query_id = ? ORDER BY repeat, reply",
            (run, query_id),
        )
        for repeat, doc_ids, content in rows:
            yield Origin(query_id, tuple(self._parsed(doc_ids)), repeat), self._reply(content)

    def count(self, table: str, condition: str = "1") -> int:
        """How many rows of a table fulfil a condition in SQL."""
        counted = self._one(f"SELECT count(*) FROM {table} WHERE {condition}", ())
        return int(counted[0]) if counted else 0

    def _reply(self, content: bytes) -> Reply:
        fields = dict(zip(REPLY_FIELDS, self._unpacked(content), strict=True))
        if fields["blanks"] is not None:
            fields["blanks"] = tuple(map(tuple, fields["blanks"]))
        return Reply(**fields, reused=True)

    def _shown(self, query_id: str, shown: bytes) -> tuple[Query, list[Candidate]]:
        text, listed, _ = self._unpacked(shown)
        return Query(query_id, text), [
            Candidate(doc_id, "" if has_text else None, score) for doc_id, score, has_text in listed
        ]

    def _unpacked(self, packed: bytes) -> Any:
        try:
            return json.loads(zlib.decompress(packed))
        except (zlib.error, ValueError, TypeError) as error:
            raise failure(self.path, error) from error

    def _parsed(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, TypeError) as error:
            raise failure(self.path, error) from error

    def _one(self, sql: str, parameters: Sequence[object]) -> Any:
        try:
            return self._connection.execute(sql, parameters).fetchone()
        except (sqlite3.Error, ValueError) as error:
            raise failure(self.path, error) from error

    def _rows(self, sql: str, parameters: Sequence[object]) -> Iterator[Any]:
        try:
            for row in self._connection.execute(sql, parameters):  # noqa: UP028  closes nothing
                yield row
        except (sqlite3.Error, ValueError) as error:
            raise failure(self.path, error) from error


def _packed(value: object) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode("ascii"))


def _doc_ids(origin: Origin) -> str:
    return json.dumps(origin.doc_ids, ensure_ascii=False)
