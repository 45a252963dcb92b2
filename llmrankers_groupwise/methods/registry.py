"""The methods by name, for whoever has a name only: the command, and what journals recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmrankers_groupwise.errors import JournalError
from llmrankers_groupwise.journal.run_description import RunIdentity
from llmrankers_groupwise.methods.base import MethodSettings
from llmrankers_groupwise.methods.groupwise.method import (
    GroupwiseOptions,
    GroupwiseSettings,
    groupwise,
)
from llmrankers_groupwise.methods.listwise import ListwiseOptions, ListwiseSettings, listwise
from llmrankers_groupwise.methods.pointwise import PointwiseOptions, PointwiseSettings, pointwise
from llmrankers_groupwise.methods.setwise import SetwiseOptions, SetwiseSettings, setwise
from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.settings import settings_of
from llmrankers_groupwise.types import Ask, Candidate, Query, Ranking

__all__ = ["METHODS", "SHARED", "Method", "recorded_settings"]

SHARED = ("seed",)
"""Options of methods that the command has once for all."""


@dataclass(frozen=True)
class Method:
    """A method: an asynchronous function of query, candidates, ask and settings.

    Attributes:
        about: what it does, in a line.
        rank: the function.
        options: the class of what can be chosen of it; its fields are options of the command and
            arguments of its ranker.
        settings: the class of its settings, those options and more; it keeps
            `methods.base.MethodSettings`.
        worded: those of its settings that the question's words depend on: what was asked with one
            cannot be read with another.
    """

    about: str
    rank: Callable[[Query, Sequence[Candidate], Ask, Any], Awaitable[Ranking]]
    options: type[Any]
    settings: type[Any]
    worded: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its settings."""
        return tuple(each.name for each in dataclasses.fields(self.settings))

    @property
    def own(self) -> tuple[str, ...]:
        """The names of its options, less those that the command has for all methods."""
        return tuple(each.name for each in settings_of(self.options) if each.name not in SHARED)


METHODS: Mapping[str, Method] = {
    "groupwise": Method(
        "score groups of documents in one round of independent calls",
        groupwise,
        GroupwiseOptions,
        GroupwiseSettings,
    ),
    "setwise": Method(
        "sort by calls that pick the best of several documents, as Rank-R1",
        setwise,
        SetwiseOptions,
        SetwiseSettings,
    ),
    "listwise": Method(
        "order a window of the list at a time, from its end, as RankZephyr and ReasonRank",
        listwise,
        ListwiseOptions,
        ListwiseSettings,
    ),
    "pointwise": Method(
        "score every document on its own, in one round",
        pointwise,
        PointwiseOptions,
        PointwiseSettings,
        worded=("method",),
    ),
}


def recorded_settings(asked: RunIdentity) -> MethodSettings:
    """The settings that a journal's run was asked with, to read its replies by.

    Args:
        asked: as the journal has it, `RecordedRun.described.asked`.

    Raises:
        JournalError: this version knows no such method or settings.
    """
    try:
        settings: MethodSettings = METHODS[asked.method].settings(
            prompt=PromptFile(**asked.prompt), **asked.settings
        )
    except (KeyError, TypeError) as error:
        raise JournalError(
            f"a run in this journal is of another version of this package: {error!r} is unknown"
        ) from error
    return settings
