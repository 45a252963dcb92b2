"""The journal: replies that were paid for, kept on disk before they are used.

It works inside `ask`, for every method and engine. A question whose reply is there is not asked,
nor is one that is being asked at this moment; a run that was killed goes on where it stopped.

The file is one SQLite database, in which nothing paid for is ever overwritten:

    runs       what was asked and how, by the digest of that; `used` counts up with every start
    queries    a run's queries in their order, as they were shown, with their candidates
    questions  a run's questions: query, repeat, documents in prompt order, and the reply's number
    replies    by the key of the question (`keys.question_key`), errors included

A reply is JSON packed by zlib, whose checksum shows damage on disk; `failed` tells errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import queue
import sqlite3
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from llmrankers_groupwise.concurrency import Lazy
from llmrankers_groupwise.errors import EngineError, JournalError, NoJournalError
from llmrankers_groupwise.journal.keys import digest
from llmrankers_groupwise.journal.run_description import RunDescription
from llmrankers_groupwise.types import Candidate, Origin, Query, Reply

__all__ = [
    "APPLICATION_ID",
    "REPLY_FIELDS",
    "SCHEMA",
    "VERSION",
    "Files",
    "Journal",
    "ReadJournal",
    "RecordedRun",
    "Statement",
    "check_size",
    "connected",
    "failure",
    "insert_query",
    "insert_question",
    "insert_reply",
]

# --- Opening the file, and what its failures mean -------------------------------------------------

APPLICATION_ID = 0x6C72_6777  # "lrgw", in the file's header
VERSION = 1
_ENVIRONMENT_CODES = frozenset(
    (
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    )
)  # fmt: skip
"""Error codes that come from the environment, whatever is in the file."""

_MAGIC = b"SQLite format 3\0"


def connected(
    path: Path, *, read_only: bool = False, damaged: bool = False, beside: bool = False
) -> sqlite3.Connection:
    """A connection to a journal, which is made if it is not there unless only read.

    Args:
        path: the file.
        read_only: write nothing, and do not make it.
        damaged: read it though its end is missing, as far as it goes.
        beside: this process has another connection, so the file may be opened by SQLite alone:
            a process's locks on a file end when it closes any handle of it
            (sqlite.org/howtocorrupt.html).

    Raises:
        JournalError: as ReadJournal.
    """
    mode = "ro" if read_only else "rwc"
    if not beside:
        _check_file(path, must_be_there=read_only)
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=60.0,
            isolation_level=None, check_same_thread=False,
        )  # fmt: skip
        if damaged:
            connection.execute("PRAGMA writable_schema = ON")
        _check(connection, path, may_be_new=not read_only)
        if read_only and not damaged and not Path(f"{path}-wal").exists():
            check_size(connection, path)
    except (sqlite3.Error, ValueError) as error:
        if connection is not None:
            connection.close()
        raise failure(path, error) from error
    except JournalError:
        if connection is not None:
            connection.close()
        raise
    return connection


def failure(path: Path, error: Exception) -> JournalError:
    """What an error of SQLite, or of unpacking, means for a user."""
    if isinstance(error, sqlite3.ProgrammingError):
        return JournalError(f"{path}: the journal is closed; make another ranker")
    if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _ENVIRONMENT_CODES:
        return JournalError(
            f"{path}: the journal cannot be used ({error}); make sure that its folder exists, may "
            f"be written to and has space left. All replies in it are kept: run the same command "
            f"again to go on"
        )
    return JournalError(
        f"{path}: the journal is damaged ({error}); what can be read of it is copied by: "
        f"run-groupwise journal verify --journal {path} --save_path COPY"
    )


def _check_file(path: Path, *, must_be_there: bool) -> None:
    """Raise unless this file is a database, empty, or may be made."""
    problem = f"{path}: there is no such journal; check the path"
    if path.is_dir():
        raise JournalError(problem)
    if must_be_there and not path.exists():
        raise NoJournalError(problem)
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(
            f"{path}: the journal cannot be read ({error.strerror}); check the path"
        ) from error
    if start and start != _MAGIC:
        raise JournalError(f"{path}: no journal, or its beginning is damaged; give another file")


def _check(connection: sqlite3.Connection, path: Path, *, may_be_new: bool) -> None:
    """Raise unless this is a whole journal of this version, or a new file."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == APPLICATION_ID and version != VERSION:
        raise JournalError(
            f"{path}: a journal of version {version}, this is {VERSION}; give another file, or use "
            f"the version of this package that made it"
        )
    if not (tables or may_be_new):
        raise JournalError(f"{path}: no journal yet, the file is empty; run its command first")
    if application != APPLICATION_ID and tables:
        raise JournalError(f"{path}: a database, but no journal; give another file")


def check_size(connection: sqlite3.Connection, path: Path) -> None:
    """Raise unless the file has all of its pages, as SQLite itself does not check of the last."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    if path.stat().st_size < pages * size:
        raise failure(path, sqlite3.DatabaseError("its end is missing"))


Statement = tuple[str, Sequence[object]]
"""SQL with its parameters."""

# --- Its tables -----------------------------------------------------------------------------------

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
    "text", "slot_probabilities", "forced", "cut_passages", "prompt_tokens", "completion_tokens",
    "finish_reason", "seconds", "error",
)  # fmt: skip


@dataclass(frozen=True)
class RecordedRun:
    """A run as a journal has it: its number there, its key, and what was asked and how."""

    number: int
    key: bytes
    described: RunDescription


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
    run: int, index: int, query: Query, candidates: Sequence[Candidate]
) -> list[Statement]:
    """Note a run's query with its candidates; questions of other candidates go."""
    listed = [[str(each.doc_id), each.score, each.text is not None] for each in candidates]
    texts = digest([each.text for each in candidates]).hex()  # other texts, other questions
    shown = _packed([query.text, listed, texts])
    same = (run, query.query_id, index, shown)
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
        return [
            RecordedRun(run, key, RunDescription.from_json(self._parsed(described)))
            for run, key, described in rows
        ]

    def queries(self, run: int) -> Iterator[tuple[int, Query, list[Candidate]]]:
        """A run's queries with their candidates, each by its index; texts are "" where known."""
        rows = self._rows(
            "SELECT place, query_id, shown FROM queries WHERE run = ? ORDER BY place", (run,)
        )
        for index, query_id, shown in rows:
            yield index, *self._shown(query_id, shown)

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
        if fields["slot_probabilities"] is not None:
            fields["slot_probabilities"] = tuple(map(tuple, fields["slot_probabilities"]))
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


class Files:
    """A journal's file, open for one writer and for reading, and the right to write to it."""

    def __init__(self, path: Path) -> None:
        self._alone = _claimed(path)
        try:
            self.writer = _Writer(path)
            try:
                self.reader = ReadJournal(path, connected(path, read_only=True, beside=True))
            except BaseException:
                self.writer.close()
                raise
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Write what is waiting, and close; raises the JournalError that writing had."""
        try:
            self.reader.close()
            self.writer.close()
        finally:
            self._release()

    def _release(self) -> None:
        with contextlib.suppress(OSError):  # who opened it meanwhile sees that it is gone
            os.unlink(self._alone.lock_file)
        self._alone.release()


# --- Writing: the right to, and the one thread that does ------------------------------------------


class _Writer:
    """One thread that writes: what comes while it writes is the next transaction.

    A transaction is on disk, not only with the operating system, when its futures are done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: queue.SimpleQueue[tuple[Sequence[Statement], Future[None]] | None]
        self._waiting = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._failure: JournalError | None = None
        self._closed = False
        self._connection = connected(path)
        try:
            if not Path(f"{path}-wal").exists():
                check_size(self._connection, path)  # before anything is changed
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:  # else somebody reads it, and the file may lack what is in the WAL
                check_size(self._connection, path)
            if not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        except (sqlite3.Error, JournalError) as error:
            self._connection.close()
            raise error if isinstance(error, JournalError) else failure(path, error) from error
        self._thread = threading.Thread(target=self._work, name="groupwise-journal", daemon=True)
        self._thread.start()

    def submit(self, *statements: Statement) -> Future[None]:
        """Write these together; the future is done when they are on disk, or cannot be.

        Raises:
            JournalError: writing failed before, or the journal is closed.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:  # nothing may follow the end marker
            self.check()
            self._waiting.put((statements, future))
        return future

    def check(self) -> None:
        """Raise JournalError if writing failed before, or the journal is closed."""
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise JournalError(f"{self._path}: the journal is closed; make another ranker")

    def close(self) -> None:
        """Write what is waiting, and close; raises the JournalError that writing had."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._thread.join()
        if self._finished():
            os.unlink(self._path)
        if self._failure is not None:
            raise self._failure

    def _finished(self) -> bool:
        """Close; whether the file may go, as it has no reply."""
        empty = False
        with contextlib.suppress(sqlite3.Error):  # somebody reads it: then it stays as it is
            self._connection.execute("PRAGMA busy_timeout = 0")
            found = self._connection.execute("SELECT 1 FROM replies WHERE NOT failed LIMIT 1")
            nothing = found.fetchone() is None
            (mode,) = self._connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            empty = nothing and mode == "delete"  # one file, without WAL
        self._connection.close()
        return empty

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while not last and not self._waiting.empty():
                more = self._waiting.get()
                last = more is None
                if more is not None:
                    batch.append(more)
            self._write(batch)
            if last:
                return

    def _write(self, batch: Sequence[tuple[Sequence[Statement], Future[None]]]) -> None:
        """Write a batch as one transaction, or none of it."""
        try:
            if self._failure is not None:
                raise self._failure
            self._connection.execute("BEGIN IMMEDIATE")
            for statements, _ in batch:
                for sql, parameters in statements:
                    self._connection.execute(sql, parameters)
            self._connection.execute("COMMIT")
        except Exception as error:  # any: a thread that ended would leave all waiting for ever
            self._failure = error if isinstance(error, JournalError) else failure(self._path, error)
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            for _, future in batch:
                future.set_exception(self._failure)
        else:
            for _, future in batch:
                future.set_result(None)


def _claimed(path: Path) -> FileLock:
    """The right to write to a journal, which ends with the process at the latest.

    Raises:
        JournalError: another one has it, or the folder cannot be written.
    """
    # Who closes it may be another thread than who opened it.
    lock = FileLock(f"{path}.lock", timeout=0, thread_local=False)
    if not path.parent.is_dir():  # FileLock would make it
        raise JournalError(
            f"{path}: there is no folder {path.parent}; make it, or give another --journal"
        )
    try:
        lock.acquire()
    except Timeout:
        raise JournalError(
            f"{path}: another run is writing to this journal, or a ranker that was not closed; "
            f"wait for its end, or give another --save_path or --journal"
        ) from None
    except OSError as error:
        raise JournalError(
            f"{path}: the journal cannot be written ({error.strerror}); make sure that its folder "
            f"exists and may be written to, or give another --journal, or --no_journal"
        ) from error
    return lock


# --- The journal ----------------------------------------------------------------------------------


class Journal:
    """A journal that is written to, by one process at a time.

    Nothing is opened before it is used, and a journal that has no reply but errors is removed.

    Args:
        path: the file; made if it is not there. SQLite keeps two more beside it while it is open,
            so it should be on a local disk.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._open: dict[bytes, Future[Reply]] = {}
        self._run: int | None = None
        self._files = Lazy(self._opened)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left, and close the file for good.

        Raises:
            JournalError: it could not be written.
        """
        self._closed = True  # a request that fails only now must not open it again
        files = self._files.forget()
        if files is not None:
            files.close()

    def begin(self, described: RunDescription) -> None:
        """File what follows under the run that asks this.

        Args:
            described: the run; of several starts of one run, the last description is kept.

        Raises:
            JournalError: another run is writing to it, it is damaged, or it cannot be written.
        """
        files = self._files()
        written = described.as_dict()
        key, text = digest(written["asked"]), json.dumps(written)
        files.writer.submit(
            (
                "INSERT INTO runs (key, used, described) "
                "VALUES (?, (SELECT ifnull(max(used), 0) + 1 FROM runs), ?) "
                "ON CONFLICT (key) DO UPDATE SET used = excluded.used, "
                "described = excluded.described",
                (key, text),
            )
        ).result()
        self._run = next(run.number for run in files.reader.runs() if run.key == key)

    def add_query(self, index: int, query: Query, candidates: Sequence[Candidate]) -> None:
        """Note a query of the run, before it is asked about; `index` is its 0-based index there."""
        assert self._run is not None, "begin comes first"
        self._files().writer.submit(*insert_query(self._run, index, query, candidates))

    async def reply(self, key: bytes, origin: Origin, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply filed under a key, or else the one that `ask` brings, once it is on disk.

        If equal questions come at the same time, one is asked and the others wait for its reply.

        Raises:
            EngineError: `ask` raised it; that is noted, and the next time is asked again.
            JournalError: the journal cannot be read or written.
        """
        while True:
            mine: Future[Reply] = Future()
            mine.set_running_or_notify_cancel()  # so that one who waits cannot cancel it
            with self._lock:
                other = self._open.setdefault(key, mine)
            if other is mine:
                return await self._answered(key, origin, ask, mine)
            try:
                reply = await asyncio.wrap_future(other)
            except _AbandonedError:
                continue
            except EngineError:
                self._note(origin, key)
                raise
            self._note(origin, key)
            return dataclasses.replace(reply, reused=True)

    async def _answered(
        self, key: bytes, origin: Origin, ask: Callable[[], Awaitable[Reply]], mine: Future[Reply]
    ) -> Reply:
        error: EngineError | None = None
        try:
            files = self._files()
            reply = files.reader.reply(key)
            if reply is not None:
                self._note(origin, key)
                self._settle(key, mine, reply)
                return reply
            files.writer.check()  # what cannot be kept is not asked
            try:
                reply = await ask()
            except EngineError as raised:
                error, reply = raised, Reply(error=str(raised), finish_reason="error")
            written = files.writer.submit(insert_reply(key, reply), *self._question(origin, key))
        except BaseException:
            if not mine.done():
                self._settle(key, mine, _AbandonedError())
            raise
        # It was paid for: who waits for it gets it even if this task is cancelled now.
        outcome = error or reply
        written.add_done_callback(lambda done: self._settle(key, mine, done.exception() or outcome))
        await asyncio.wrap_future(written)
        if error is not None:
            raise error
        return reply

    def _settle(self, key: bytes, mine: Future[Reply], outcome: Reply | BaseException) -> None:
        """Tell those who wait; who comes later finds it on disk."""
        with self._lock:
            del self._open[key]
        if isinstance(outcome, BaseException):
            mine.set_exception(outcome)
        else:
            mine.set_result(outcome)

    def _note(self, origin: Origin, key: bytes) -> None:
        """Note that a question of the run has the reply of this key."""
        statements = self._question(origin, key)
        if statements:
            self._files().writer.submit(*statements)

    def _question(self, origin: Origin, key: bytes) -> list[Statement]:
        return [] if self._run is None else [insert_question(self._run, origin, key)]

    def _opened(self) -> Files:
        if self._closed:
            raise JournalError(f"{self.path}: the journal is closed; make another ranker")
        return Files(self.path)


class _AbandonedError(Exception):
    """Who asked went away without a reply: another one must ask."""
