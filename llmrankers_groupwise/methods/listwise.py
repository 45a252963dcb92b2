"""The listwise method: a window of the list at a time, from its end to its beginning.

RankZephyr (arXiv 2312.02724), ReasonRank (2508.07050) and their kin are asked so: the model orders
a window, which then slides towards the top by fewer documents than it holds, so that the best of
each window are seen again in the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.base import ranking_by_order, score_groups
from llmrankers_groupwise.prompting.parse_orders import OrderRule, read_order
from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.settings import check_choices
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

__all__ = ["ListwiseOptions", "ListwiseSettings", "listwise", "windows"]


@dataclass(frozen=True, kw_only=True)
class ListwiseOptions:
    """What can be chosen of the listwise method.

    Attributes:
        window_size: the number of documents in one call.
        step_size: how far the window slides from call to call; less than window_size, so that the
            best documents of a window are in the next one.
        num_repeat: how many times the whole list is gone through.
        parsing: which numbers of a reply are labels: those in brackets (labels), or as in rank_llm
            every number; by default rank_llm for recorded replies, and labels otherwise.
        upstream_behaviour: set windows as llm-rankers does: a list shorter than a window is not
            asked about, and the first documents of a longer one may be in no window.

    Raises:
        SettingsError: a setting is out of its range.
    """

    window_size: int = 20
    step_size: int = 10
    num_repeat: int = 1
    parsing: OrderRule | None = None
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
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class ListwiseSettings(ListwiseOptions):
    """The settings of the listwise method: what was chosen, and what the ranker adds.

    Attributes:
        prompt: the prompt file that requests are rendered from.
    """

    prompt: PromptFile
    parsing: OrderRule = "labels"

    @property
    def value_name(self) -> str:
        """What a reply gives for a document."""
        return "rank"

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
    their rank. Labels that a reply does not mention follow those that it does, in the order they
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
