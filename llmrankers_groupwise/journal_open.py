"""Opening the file of a journal, and what its failures mean for a user."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from llmrankers_groupwise.errors import JournalError, NoJournalError

__all__ = ["APPLICATION_ID", "VERSION", "check_size", "connected", "failure"]

APPLICATION_ID = 0x6C72_6777  # "lrgw", in the file's header
VERSION = 1
_PLACE = frozenset(
    (
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    )
)  # fmt: skip
"""Codes of errors that say nothing of what is in the file."""

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
    if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _PLACE:
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
