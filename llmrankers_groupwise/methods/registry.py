"""The methods by name, for whoever has a name only: the command, and what journals recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrankers_groupwise.errors import JournalError
from llmrankers_groupwise.methods.base import MethodSettings
from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings, groupwise
from llmrankers_groupwise.methods.listwise import ListwiseSettings, listwise
from llmrankers_groupwise.methods.pointwise import PointwiseSettings, pointwise
from llmrankers_groupwise.methods.setwise import SetwiseSettings, setwise
from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.types import Ask, Candidate, Query, Ranking

__all__ = ["METHODS", "Method", "recorded_settings"]

_SHARED = {"prompt", "scoring", "seed"}


@dataclass(frozen=True)
class Method:
    """A method: an asynchronous function of query, candidates, ask and settings.

    Attributes:
        about: what it does, in a line.
        rank: the function.
        settings: the class of its settings, a dataclass that keeps `methods.base.MethodSettings`.
        worded: those of its settings that the question's words depend on: what was asked with one
            cannot be read with another.
    """

    about: str
    rank: Callable[[Query, Sequence[Candidate], Ask, Any], Awaitable[Ranking]]
    settings: type[Any]
    worded: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its settings."""
        return tuple(each.name for each in dataclasses.fields(self.settings))

    @property
    def options(self) -> tuple[str, ...]:
        """Those that are its own: neither the prompt nor what the command has for all methods."""
        return tuple(name for name in self.fields if name not in _SHARED)


METHODS: Mapping[str, Method] = {
    "groupwise": Method(
        "score groups of documents in one round of independent calls",
        groupwise,
        GroupwiseSettings,
    ),
    "setwise": Method(
        "sort by calls that pick the best of several documents, as Rank-R1",
        setwise,
        SetwiseSettings,
    ),
    "listwise": Method(
        "order a window of the list at a time, from its end, as RankZephyr and ReasonRank",
        listwise,
        ListwiseSettings,
    ),
    "pointwise": Method(
        "judge every document on its own, in one round",
        pointwise,
        PointwiseSettings,
        worded=("method",),
    ),
}


def recorded_settings(described: Mapping[str, Any]) -> MethodSettings:
    """The settings that a journal's run was asked with, to read its replies by.

    Args:
        described: as the journal has it, `RecordedRun.described`.

    Raises:
        JournalError: this version knows no such method or settings.
    """
    asked = described["asked"]
    try:
        settings: MethodSettings = METHODS[asked["method"]].settings(
            prompt=PromptFile(**asked["prompt"]), **asked["settings"]
        )
    except (KeyError, TypeError) as error:
        raise JournalError(
            f"a run in this journal is of another version of this package: {error!r} is unknown"
        ) from error
    return settings
