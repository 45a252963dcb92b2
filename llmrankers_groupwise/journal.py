"""The journal: replies that were paid for, kept on disk before they are used.

It stands behind `ask`, for every method and engine. A question whose reply is there is not asked,
nor is one that is being asked at this moment; a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from llmrankers_groupwise.background import Once
from llmrankers_groupwise.errors import EngineError, JournalError
from llmrankers_groupwise.journal_file import (
    Statement,
    insert_query,
    insert_question,
    insert_reply,
)
from llmrankers_groupwise.journal_writer import Files
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
        self._files = Once(self._opened)
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

    def begin(self, asked: Mapping[str, Any], described: Mapping[str, Any]) -> None:
        """File what follows under the run that asks this.

        Args:
            asked: what tells the run from others, ready for JSON.
            described: what else is to be known of it; the last start's is kept.

        Raises:
            JournalError: another run is writing to it, it is damaged, or it cannot be written.
        """
        files = self._files()
        key, text = digest(asked), json.dumps({**described, "asked": asked})
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
