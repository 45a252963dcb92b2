"""Cut a candidate list of any length into groups of balanced size.

Positions are 0-based first-stage ranks. Everything here is pure: the same arguments give the same
groups on every machine, and no global random state is read or written.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.types import Group

__all__ = ["Strategy", "check_grouping", "make_groups", "seeded"]

Strategy = Literal["random", "strided", "sorted", "mixed"]


def make_groups(
    n: int,
    *,
    group_size: int = 20,
    num_repeat: int = 1,
    overlap: int = 0,
    strategy: Strategy = "random",
    seed: int = 0,
    query: str = "",
) -> list[Group]:
    """Groups of at most `group_size` over `n` candidates, for every repeat.

    Each repeat holds every position exactly once, or more often with an overlap; sizes within a
    repeat differ by one at most.

    Args:
        n: number of candidates, 0 or more.
        group_size: the largest group.
        num_repeat: how often all candidates are grouped again.
        overlap: how many candidates a group shares with the one before it.
        strategy: "random" shuffles, seeded by seed, repeat and query text; "strided" deals by
            first-stage rank so that every group spans all ranks; "sorted" keeps neighbours
            together; "mixed" is strided in the first repeat and random in the following ones.
            Repeats after the first deal anew within each rank band ("strided"), or show the same
            groups in another order ("sorted").
        seed: with the repeat and the query's text, what the shuffling follows from.
        query: the query's text.

    Raises:
        SettingsError: a size, count, overlap or strategy out of its range.
    """
    check_grouping(group_size, num_repeat, overlap, strategy)
    groups: list[Group] = []
    if n == 0:
        return groups
    count = _group_count(n, group_size, overlap)
    for repeat in range(num_repeat):
        rng = seeded(seed, repeat, query)
        order = _ORDERS[strategy](n, count, repeat, rng)
        for window in _windows(order, count, overlap):
            if strategy == "sorted" and repeat > 0:
                rng.shuffle(window)
            groups.append(Group(repeat, tuple(window)))
    return groups


def seeded(*parts: object) -> random.Random:
    """A generator of its own that follows from these parts alone, on every machine."""
    return random.Random("\n".join(map(str, parts)).encode("utf-8", "surrogatepass"))


def check_grouping(group_size: int, num_repeat: int, overlap: int, strategy: str) -> None:
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


def _random(n: int, count: int, repeat: int, rng: random.Random) -> list[int]:
    order = list(range(n))
    rng.shuffle(order)
    return order


def _strided(n: int, count: int, repeat: int, rng: random.Random) -> list[int]:
    """Deal each band of `count` neighbouring ranks to the groups, one rank to each."""
    hands: list[list[int]] = [[] for _ in range(count)]
    for start in range(0, n, count):
        band = list(range(start, min(start + count, n)))
        if repeat > 0:
            rng.shuffle(band)
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
}
