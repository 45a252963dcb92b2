"""Writing a journal: the right to, and the one thread that does."""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from filelock import FileLock, Timeout

from llmrankers_groupwise.errors import JournalError
from llmrankers_groupwise.journal_file import SCHEMA, ReadJournal, Statement
from llmrankers_groupwise.journal_open import check_size, connected, failure

__all__ = ["Files"]


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
        with self._lock:  # nothing may be put behind the end
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
