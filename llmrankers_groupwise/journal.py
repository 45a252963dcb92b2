"""The journal: replies that were paid for, kept on disk before they are used.

It stands behind `ask`, for every method and engine. A question whose reply is there is not asked,
nor is one that is being asked at this moment; a run that was killed goes on where it stopped.
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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from llmrankers_groupwise.background import Once
from llmrankers_groupwise.errors import EngineError, JournalError
from llmrankers_groupwise.journal_file import (
    SCHEMA,
    ReadJournal,
    Statement,
    check_size,
    connected,
    failure,
    insert_query,
    insert_question,
    insert_reply,
)
from llmrankers_groupwise.keys import digest
from llmrankers_groupwise.types import Candidate, Origin, Query, Reply

__all__ = ["Journal"]


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
        self._files = Once(lambda: _Files(self.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left, and close the file.

        Raises:
            JournalError: it could not be written.
        """
        files = self._files.forget()
        if files is not None:
            files.close()

    def begin(self, asked: Mapping[str, Any], described: Mapping[str, Any]) -> None:
        """File what follows under the run that asks this.

        Args:
            asked: what tells the run from others, ready for JSON.
            described: what else is to be known of it; the last start's is kept.

        Raises:
            JournalError: another run is writing to it, it is damaged, or it cannot be written.
        """
        files = self._files()
        key, text = digest(asked), json.dumps({**described, "asked": asked}, ensure_ascii=False)
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

    def add_query(self, place: int, query: Query, candidates: Sequence[Candidate]) -> None:
        """Note a query of the run, before it is asked about; `place` is its number there."""
        assert self._run is not None, "begin comes first"
        self._files().writer.submit(*insert_query(self._run, place, query, candidates))

    async def reply(self, key: bytes, origin: Origin, ask: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply filed under a key, or else the one that `ask` brings, once it is on disk.

        Of equal questions at the same time one is asked and the others wait for its reply.

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
            with contextlib.suppress(_AbandonedError):
                reply = await asyncio.wrap_future(other)
                self._note(origin, key)
                return dataclasses.replace(reply, reused=True)

    async def _answered(
        self, key: bytes, origin: Origin, ask: Callable[[], Awaitable[Reply]], mine: Future[Reply]
    ) -> Reply:
        try:
            reply = self._files().reader.reply(key)
            if reply is None:
                reply = await ask()
                await self._keep(key, origin, reply)
            else:
                self._note(origin, key)
            mine.set_result(reply)
            return reply
        except EngineError as error:
            await self._keep(key, origin, Reply(error=str(error), finish_reason="error"))
            mine.set_exception(error)
            raise
        finally:
            if not mine.done():
                mine.set_exception(_AbandonedError())
            with self._lock:
                del self._open[key]

    async def _keep(self, key: bytes, origin: Origin, reply: Reply) -> None:
        statements = [insert_reply(key, reply)]
        if self._run is not None:
            statements.append(insert_question(self._run, origin, key))
        await asyncio.wrap_future(self._files().writer.submit(*statements))

    def _note(self, origin: Origin, key: bytes) -> None:
        if self._run is not None:
            self._files().writer.submit(insert_question(self._run, origin, key))


class _AbandonedError(Exception):
    """Who asked went away without a reply: another one must ask."""


class _Files:
    """A journal's file, open for one writer and for reading, and the right to write to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._alone = _claimed(path)
        try:
            self.writer = _Writer(path)
            try:
                self.reader = ReadJournal(path)
            except BaseException:
                self.writer.close()
                raise
        except BaseException:
            self._alone.release()
            raise

    def close(self) -> None:
        """Write what is waiting, and close; raises the JournalError that writing had."""
        try:
            empty = not self.reader.has_replies()
            self.reader.close()
            self.writer.close()
            if empty:
                os.unlink(self._path)
        finally:
            with contextlib.suppress(OSError):  # who opened it meanwhile sees that it is gone
                os.unlink(self._alone.lock_file)
            self._alone.release()


class _Writer:
    """One thread that writes: what comes while it writes is the next transaction.

    A transaction is on disk, not only with the operating system, when its futures are done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: queue.SimpleQueue[tuple[Sequence[Statement], Future[None]] | None]
        self._waiting = queue.SimpleQueue()
        self._failure: JournalError | None = None
        self._closed = False
        self._connection = connected(path)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
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
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise JournalError(f"{self._path}: the journal is closed")
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        self._waiting.put((statements, future))
        return future

    def close(self) -> None:
        """Write what is waiting, and close; raises the JournalError that writing had."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._thread.join()
            with contextlib.suppress(sqlite3.Error):  # somebody reads it: then it stays as it is
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("PRAGMA journal_mode = DELETE")  # one file, without WAL
            self._connection.close()
        if self._failure is not None:
            raise self._failure

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
        except (sqlite3.Error, JournalError) as error:
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
    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise JournalError(
            f"{path}: another run is writing to this journal; wait for its end, or give another "
            f"--save_path or --journal"
        ) from None
    except OSError as error:
        raise JournalError(
            f"{path}: the journal cannot be written ({error.strerror}); make sure that its folder "
            f"exists and may be written to, or give another --journal, or --no_journal"
        ) from error
    return lock
