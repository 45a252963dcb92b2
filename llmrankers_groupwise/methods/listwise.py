"""The listwise method: a window of the list at a time, from its end to its beginning.

RankZephyr (arXiv 2312.02724), ReasonRank (2508.07050) and their kin are asked so: the model orders
a window, which then slides towards the top by fewer documents than it holds, so that the best of
each window are seen again in the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.base import check_switch, ranking_by_order, score_groups
from llmrankers_groupwise.prompting.parse_orders import OrderRule, check_order_rule, read_order
from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.types import (
    Ask,
    Candidate,
    Group,
    GroupScores,
    Origin,
    Query,
    Ranking,
    Reply,
    Request,
    ScoredGroup,
)

__all__ = ["ListwiseSettings", "listwise", "windows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListwiseSettings:
    """The settings of the listwise method.

    Attributes:
        prompt: the prompt file that requests are rendered from.
        window_size: the most documents of one call.
        step_size: how far the window slides; below window_size, so that the best go with it.
        num_repeat: how often the whole list is gone through.
        parsing: how replies are read; see `prompting.parse_orders.read_order`.
        upstream_behaviour: windows as llm-rankers lays them, which asks nothing about a list
            shorter than a window, and may never show the first documents of a longer one.

    Raises:
        SettingsError: a setting is out of its range.
    """

    prompt: PromptFile
    window_size: int = 20
    step_size: int = 10
    num_repeat: int = 1
    parsing: OrderRule = "labels"
    upstream_behaviour: bool = False

    def __post_init__(self) -> None:
        for name, least in (("window_size", 2), ("step_size", 1), ("num_repeat", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise SettingsError(f"{name} is {value!r}: give a whole number from {least}")
        if self.step_size >= self.window_size:
            raise SettingsError(
                f"step_size is {self.step_size}: give less than window_size ({self.window_size}), "
                f"or no document could climb from one window to the next"
            )
        check_order_rule(self.parsing)
        check_switch("upstream_behaviour", self.upstream_behaviour)

    @property
    def value_name(self) -> str:
        """What a reply says of a document."""
        return "place"

    def request(self, query: str, passages: Sequence[str], origin: Origin) -> Request:
        """The question about one window."""
        return render(query, passages, self.prompt, wants="order", origin=origin)

    def read(self, reply: Reply, n: int) -> GroupScores:
        """The order in a reply, as scores n..1."""
        return read_order(reply, n, self.parsing)


async def listwise(
    query: Query, candidates: Sequence[Candidate], ask: Ask, settings: ListwiseSettings
) -> Ranking:
    """Order window after window, one call each, and the whole list `num_repeat` times.

    Candidates come best first by the first stage; those without text are not asked about and keep
    their place. Labels that a reply does not mention follow those that it does, in the order they
    had; a window whose reply cannot be read stays as it is.
    """
    order = [position for position, each in enumerate(candidates) if each.text is not None]
    scored: list[ScoredGroup] = []
    for repeat in range(settings.num_repeat):
        for start, end in _windows(len(order), settings):
            group = Group(repeat, tuple(order[start:end]))
            scored += await score_groups(query, candidates, [group], ask, settings)
            read = scored[-1].scores
            labels = [*sorted(read.scores, key=lambda label: -read.scores[label]), *read.missing]
            order[start:end] = [group.members[label - 1] for label in labels]
    return ranking_by_order(candidates, order, scored)


def windows(n: int, size: int, step: int) -> list[tuple[int, int]]:
    """(start, end) of each window over n documents, from the last to the first.

    Every document is in one at least, and the first window begins with document 0. One document
    alone is in none, as there is nothing to order.
    """
    found = []
    end = n if n > 1 else 0
    while end > 0:
        start = max(0, end - size)
        found.append((start, end))
        end = end - step if start > 0 else 0
    return found


def _windows(n: int, settings: ListwiseSettings) -> list[tuple[int, int]]:
    size, step = settings.window_size, settings.step_size
    if settings.upstream_behaviour:
        return [(end - size, end) for end in range(n, size - 1, -step)]
    return windows(n, size, step)
