"""The setwise method: a sort whose comparison picks the best of several documents.

Zhuang et al., A Setwise Approach for Effective and Highly Efficient Zero-shot Ranking with Large
Language Models (SIGIR 2024); Rank-R1 (arXiv 2503.06034) reasons before it picks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmrankers_groupwise.concurrency import gather
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.methods.base import ranking_by_order, score_groups
from llmrankers_groupwise.prompting.parse_orders import read_choice
from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.scores import seeded
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

__all__ = ["SetwiseOptions", "SetwiseSettings", "Sort", "setwise"]

Sort = Literal["heapsort", "bubblesort"]


@dataclass(frozen=True, kw_only=True)
class SetwiseOptions:
    """What can be chosen of the setwise method.

    Attributes:
        num_child: the number of documents in one comparison, less one.
        method: the sorting algorithm.
        k: the number of documents to sort; the others follow in first-stage order.
        num_permutation: how many times a comparison is asked, each time with another order of the
            documents; the majority decides, and the first stage breaks ties.
        upstream_behaviour: do as llm-rankers does where that changes a ranking: a reply that cannot
            be read makes the first document the winner, the documents of a comparison are always
            shuffled, and bubblesort skips what it takes for sorted.
        seed: the seed of everything that is drawn at random.

    Raises:
        SettingsError: a setting is out of its range.
    """

    num_child: int = 3
    method: Sort = "heapsort"
    k: int = 10
    num_permutation: int = 1
    upstream_behaviour: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_child", "k", "num_permutation"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise SettingsError(f"{name} is {value!r}: give a whole number from 1")
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class SetwiseSettings(SetwiseOptions):
    """The settings of the setwise method: what was chosen, and what the ranker adds.

    Attributes:
        prompt: the prompt file that requests are rendered from.
    """

    prompt: PromptFile

    @property
    def value_name(self) -> str:
        """What a reply gives for a document."""
        return "chosen"

    def request(self, query: str, passages: Sequence[str], origin: Origin) -> Request:
        """The question which of several documents is the best."""
        return render(query, passages, self.prompt, wants="choice", origin=origin)

    def read(self, reply: Reply, n: int) -> GroupScores:
        """The label that a reply chooses, with score 1."""
        return read_choice(reply, n, self.prompt.pattern)


async def setwise(
    query: Query, candidates: Sequence[Candidate], ask: Ask, settings: SetwiseSettings
) -> Ranking:
    """Sort out the best k, one call for each comparison and permutation.

    Candidates come best first by the first stage; those without text are not asked about and keep
    their rank. Comparisons that do not depend on one another, as in building a heap, are asked
    together, and none is asked twice.
    """
    order = [position for position, each in enumerate(candidates) if each.text is not None]
    comparisons = _Comparisons(query, candidates, ask, settings)
    if settings.method == "heapsort":
        best = await _heapsort(order, comparisons)
    elif settings.upstream_behaviour:
        best = await _skipping_bubblesort(order, comparisons)
    else:
        best = await _bubblesort(order, comparisons)
    chosen = set(best)
    rest = [position for position in order if position not in chosen]
    return ranking_by_order(candidates, best + rest, comparisons.scored)


@dataclass
class _Comparisons:
    """Which of several documents is the best one, by asking.

    `scored` are the calls, in an order that does not depend on which reply came first.
    """

    query: Query
    candidates: Sequence[Candidate]
    ask: Ask
    settings: SetwiseSettings
    scored: list[ScoredGroup] = field(default_factory=list)
    _known: dict[tuple[int, ...], int] = field(default_factory=dict)

    async def best(self, members: Sequence[int], scored: list[ScoredGroup]) -> int:
        """The index in `members` of the best one; new calls are added to `scored`."""
        key = tuple(members)
        if len(key) > 1 and key not in self._known:
            groups = [Group(number, shown) for number, shown in enumerate(self._shown(key))]
            new = await score_groups(self.query, self.candidates, groups, self.ask, self.settings)
            scored += new
            self._known[key] = self._elected(key, new)
        return self._known.get(key, 0)

    def _elected(self, members: tuple[int, ...], scored: Sequence[ScoredGroup]) -> int:
        """The index of the member with the most votes."""
        votes = Counter(
            each.group.members[label - 1] for each in scored for label in each.scores.scores
        )
        if not votes:
            unread = members[0] if self.settings.upstream_behaviour else min(members)
            return members.index(unread)
        most = max(votes.values())
        return members.index(min(member for member, count in votes.items() if count == most))

    def _shown(self, members: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The orders in which the documents are shown."""
        settings, orders = self.settings, []
        for number in range(settings.num_permutation):
            shown = list(members)
            if settings.num_permutation > 1 or settings.upstream_behaviour:
                seeded(settings.seed, number, *members, self.query.text).shuffle(shown)
            orders.append(tuple(shown))
        return orders


async def _heapsort(order: Sequence[int], comparisons: _Comparisons) -> list[int]:
    """The best k, by a heap of num_child children for each node."""
    heap, children = list(order), comparisons.settings.num_child

    async def sift(node: int, size: int) -> list[ScoredGroup]:
        """Let a document sink to where none of its children is better; gives the calls."""
        scored: list[ScoredGroup] = []
        while (first := children * node + 1) < size:
            family = [node, *range(first, min(first + children, size))]
            best = family[await comparisons.best([heap[each] for each in family], scored)]
            if best == node:
                break
            heap[node], heap[best] = heap[best], heap[node]
            node = best
        return scored

    for level in reversed(_levels(len(heap), children)):
        # Their subtrees are disjoint.
        for scored in await gather(sift(node, len(heap)) for node in level):
            comparisons.scored += scored
    best_first: list[int] = []
    while heap and len(best_first) < comparisons.settings.k:
        best_first.append(heap[0])
        last = heap.pop()
        if heap and len(best_first) < comparisons.settings.k:
            heap[0] = last
            comparisons.scored += await sift(0, len(heap))
    return best_first


def _levels(n: int, children: int) -> list[list[int]]:
    """The nodes of a heap of n that have children, level by level from the root."""
    levels, start, width = [], 0, 1
    while children * start + 1 < n:
        nodes = range(start, min(start + width, n))
        levels.append([node for node in nodes if children * node + 1 < n])
        start, width = start + width, width * children
    return levels


async def _bubblesort(order: Sequence[int], comparisons: _Comparisons) -> list[int]:
    """The best k, each carried up from the end by windows that overlap by one document."""
    row, children = list(order), comparisons.settings.num_child
    for index in range(min(comparisons.settings.k, len(row))):
        start = len(row) - (children + 1)
        while True:
            start = max(start, index)
            best = start + await comparisons.best(
                row[start : start + children + 1], comparisons.scored
            )
            row[start], row[best] = row[best], row[start]
            if start == index:
                break
            start -= children
    return row[: comparisons.settings.k]


async def _skipping_bubblesort(order: Sequence[int], comparisons: _Comparisons) -> list[int]:
    """The same as llm-rankers does it: each round begins where the one before changed something."""
    row, children = list(order), comparisons.settings.num_child
    bottom = last_start = len(row) - (children + 1)
    for index in range(min(comparisons.settings.k, len(row))):
        start, end = last_start, last_start + children + 1
        changed = False
        while True:
            start = max(start, index)
            window = row[start:end]
            best = await comparisons.best(window, comparisons.scored)
            if best:
                row[start], row[start + best] = row[start + best], row[start]
                if not changed and last_start != bottom and best == len(window) - 1:
                    last_start += len(window) - 1
                changed = True
            if start == index:
                break
            if not changed:
                last_start -= children
            start, end = start - children, end - children
    return row[: comparisons.settings.k]
