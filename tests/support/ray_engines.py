"""Engines for Ray workers, which import this module: each does one thing, and some die of it."""

import asyncio
import dataclasses
import os
import signal
from pathlib import Path

from llmrankers_groupwise.engines.embedded import EmbeddedEngine
from llmrankers_groupwise.errors import EngineError, FileError, ModelError, SettingsError
from llmrankers_groupwise.testing import ScriptedEngine
from llmrankers_groupwise.types import Reply, Request, Sampling


def first_time(folder: Path, name: str) -> bool:
    """Whether nobody, in whichever process, has asked this before."""
    try:
        (folder / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Echo(ScriptedEngine):
    """Answers with the query, and leaves its process's number in the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda request: request.query)
        self.folder = folder

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        (self.folder / f"pid-{os.getpid()}").touch()
        return await super().answer(request, sampling)


class DiesOf(Echo):
    """Dies of some queries: always of "poison", once of each with "once" in it."""

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        query = request.query
        if query == "poison" or ("once" in query and first_time(self.folder, f"died of {query}")):
            (self.folder / f"death-{os.getpid()}").touch()
            die()
        return await super().answer(request, sampling)


class EmbeddedThatDies(EmbeddedEngine):
    """The embedded engine, of which one worker dies at its tenth question, others being open."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.asked = 0

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        self.asked += 1
        if self.asked == 10 and first_time(self.folder, "died"):
            die()
        return await super().answer(request, sampling)


class Raises(Echo):
    """Raises what the query names."""

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        errors = {
            "engine": EngineError("no answer"),
            "passing": EngineError("too busy", retryable=True),
            "model": ModelError("no such model"),
            "settings": SettingsError("no such argument"),
            "file": FileError("no template", "chat.jinja", 3),
            "defect": ZeroDivisionError("by zero"),
        }
        raise errors[request.query]


class Hangs(Echo):
    """Never answers; tells its process's number to who reads the folder's fifo when it is asked."""

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        await asyncio.to_thread((self.folder / "fifo").write_text, f"{os.getpid()}\n")
        await asyncio.Event().wait()
        raise AssertionError


class Rerenders(Echo):
    """Answers with what the request is when it is rendered again with other passages."""

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        assert request.rerender is not None
        again = request.rerender(request.query, ["cut"] * len(request.passages))
        return Reply(text=again.messages[-1]["content"])


class Sees(Echo):
    """Answers with the GPUs that its process sees, and describes itself in the same way."""

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        reply = await super().answer(request, sampling)
        return dataclasses.replace(reply, text=os.environ.get("CUDA_VISIBLE_DEVICES", ""))

    def describe(self) -> dict[str, object]:
        return {"engine": "sees", "device": f"process {os.getpid()}"}


def at_home_only(home: int, folder: Path) -> Echo:
    """An engine that can be made in one process."""
    if os.getpid() != home:
        raise RuntimeError("nothing works here")
    return Echo(folder)
