"""Cut a candidate list of any length into groups of balanced size.

Positions are 0-based first-stage ranks. Everything here is pure: the same arguments give the same
groups on every machine, and no global random state is read or written. `final_round` makes the
groups that follow from scores.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.scores import seeded
from llmrankers_groupwise.types import Group

__all__ = ["Strategy", "anchor_positions", "check_grouping", "make_groups"]

Strategy = Literal["random", "strided", "sorted", "mixed", "snake"]
"""Which documents share a group.

random: every group is a sample of the list, so groups differ by chance only, and repeats are
    independent (GroupRank, arXiv 2511.11653); but chance may put many relevant documents together.
strided: every group has one document of each band of ranks, so all are of much the same strength;
    but the first group is dealt the better one of every band.
snake: dealt back and forth, as teams are chosen, so that what a group gains in one band it loses
    in the next: of all, the groups whose ranks add up to the most equal sums.
sorted: neighbours by first-stage rank, so the documents that compete are compared directly; but
    groups differ in strength by design, and nothing compares one group with the next.
mixed: strided in the first repeat, random in the following ones.
"""


def make_groups(
    n: int,
    *,
    group_size: int = 20,
    num_repeat: int = 1,
    overlap: int = 0,
    strategy: Strategy = "random",
    anchors: int = 0,
    seed: int = 0,
    query: str = "",
) -> list[Group]:
    """Groups of at most `group_size` over `n` candidates, for every repeat.

    Each repeat holds every position exactly once, or more often with an overlap or where it is an
    anchor; sizes within a repeat differ by one at most. Windows that overlap, and anchors, are
    documents that two judgements share, which is what scores can be calibrated by.

    Args:
        n: number of candidates, 0 or more.
        group_size: the largest group.
        num_repeat: how often all candidates are grouped again.
        overlap: how many candidates a group shares with the one before it.
        strategy: "random" shuffles, seeded by seed, repeat and query text; "strided" deals by
            first-stage rank so that every group spans all ranks, "snake" does so back and forth;
            "sorted" keeps neighbours together; "mixed" is strided in the first repeat and random
            in the following ones. Repeats after the first deal anew within each rank band
            ("strided", "snake"), or show the same groups in another order ("sorted").
        anchors: how many candidates are in every group; see `anchor_positions`. They have the
            same labels in all groups of a repeat, so that a model's bias towards labels is the same
            for all. Where one group holds everything there are none.
        seed: with the repeat and the query's text, what the shuffling follows from.
        query: the query's text.

    Raises:
        SettingsError: a size, count, overlap or strategy out of its range.
    """
    check_grouping(group_size, num_repeat, overlap, strategy, anchors)
    groups: list[Group] = []
    if n == 0:
        return groups
    shared = anchor_positions(n, anchors) if n > group_size else []
    others = [position for position in range(n) if position not in shared]
    count = _group_count(len(others), group_size - len(shared), overlap)
    for repeat in range(num_repeat):
        rng = seeded(seed, repeat, query)
        order = [others[each] for each in _ORDERS[strategy](len(others), count, repeat, rng)]
        windows = _windows(order, count, overlap)
        if shared:
            rng.shuffle(shared)
        for window in windows:
            if strategy == "sorted" and repeat > 0:
                rng.shuffle(window)
            groups.append(Group(repeat, tuple(_inserted(window, shared, len(windows[-1])))))
    return groups


def anchor_positions(n: int, anchors: int) -> list[int]:
    """The positions, ascending, of the documents that all groups share.

    They are the middles of equal bands of the list, so that some are likely to be relevant and
    others not: any document shows a shift, but only documents that lie apart show a scale.
    """
    return [(2 * each + 1) * n // (2 * anchors) for each in range(anchors)]


def check_grouping(
    group_size: int, num_repeat: int, overlap: int, strategy: str, anchors: int = 0
) -> None:
    """Raise SettingsError unless the settings can group any list."""
    if type(group_size) is not int or group_size < 1:
        raise SettingsError(f"group_size is {group_size!r}: give a whole number, 1 or more")
    if type(num_repeat) is not int or num_repeat < 1:
        raise SettingsError(f"num_repeat is {num_repeat!r}: give a whole number, 1 or more")
    if type(overlap) is not int or not 0 <= overlap < group_size:
        raise SettingsError(
            f"overlap is {overlap}: give 0 or more, and less than group_size ({group_size})"
        )
    if strategy not in _ORDERS:
        raise SettingsError(f"grouping is {strategy!r}: give one of {', '.join(_ORDERS)}")
    if type(anchors) is not int or not 0 <= anchors < group_size - overlap:
        raise SettingsError(
            f"anchors is {anchors!r}: give 0 or more, and less than group_size ({group_size}) less "
            f"overlap ({overlap})"
        )


def _group_count(n: int, group_size: int, overlap: int) -> int:
    """The fewest groups that cover n candidates when neighbours share `overlap` of them."""
    if n <= group_size:
        return 1
    return math.ceil((n - overlap) / (group_size - overlap))


def _windows(order: Sequence[int], count: int, overlap: int) -> list[list[int]]:
    """`count` windows over `order`, each starting `overlap` before the end of the last one."""
    smaller, larger_ones = divmod(len(order) + overlap * (count - 1), count)
    windows, start = [], 0
    for index in range(count):
        size = smaller + (index < larger_ones)
        windows.append(list(order[start : start + size]))
        start += size - overlap
    return windows


def _inserted(window: Sequence[int], shared: Sequence[int], room: int) -> list[int]:
    """A window with the shared ones between its members, evenly and at the same indexes in all.

    Args:
        window: a group's own members.
        shared: what all groups share.
        room: how many members the smallest group has of its own.
    """
    whole = list(window)
    for index, position in enumerate(shared):
        whole.insert(index + (2 * index + 1) * room // (2 * len(shared)), position)
    return whole


def _random(n: int, count: int, repeat: int, rng: random.Random) -> list[int]:
    order = list(range(n))
    rng.shuffle(order)
    return order


def _strided(n: int, count: int, repeat: int, rng: random.Random) -> list[int]:
    """Deal each band of `count` neighbouring ranks to the groups, one rank to each."""
    return _dealt(n, count, repeat, rng, back_and_forth=False)


def _snake(n: int, count: int, repeat: int, rng: random.Random) -> list[int]:
    """Deal as `_strided` does, every other band from the last group to the first."""
    return _dealt(n, count, repeat, rng, back_and_forth=True)


def _dealt(
    n: int, count: int, repeat: int, rng: random.Random, *, back_and_forth: bool
) -> list[int]:
    """The hands one after another, larger ones first, as windows are cut."""
    hands: list[list[int]] = [[] for _ in range(count)]
    for start in range(0, n, count):
        band = list(range(start, min(start + count, n)))
        if repeat > 0:
            rng.shuffle(band)
        if back_and_forth and start // count % 2 and len(band) == count:
            band.reverse()
        for hand, position in zip(hands, band, strict=False):
            hand.append(position)
    return [position for hand in hands for position in hand]


def _sorted(n: int, count: int, repeat: int, rng: random.Random) -> list[int]:
    return list(range(n))


def _mixed(n: int, count: int, repeat: int, rng: random.Random) -> list[int]:
    """Repeats that differ in kind: one fair across ranks, then others drawn from all ranks."""
    return (_random if repeat else _strided)(n, count, repeat, rng)


_ORDERS: dict[str, Callable[[int, int, int, random.Random], list[int]]] = {
    "random": _random,
    "strided": _strided,
    "sorted": _sorted,
    "mixed": _mixed,
    "snake": _snake,
}
