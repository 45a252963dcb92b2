"""Which runs are worth their cost, and where their names go in a plot (pure)."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Box", "free_box", "pareto_front"]

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points (cost, quality) that none beats: none as cheap is better, none as good cheaper.

    Their numbers, by cost; points that are equal in both are all in.
    """
    best = float("-inf")
    front: list[int] = []
    for number in sorted(range(len(points)), key=lambda each: (points[each][0], -points[each][1])):
        quality = points[number][1]
        equal = bool(front) and points[number] == points[front[-1]]
        if quality > best or equal:
            front.append(number)
            best = quality
    return front


def free_box(choices: Sequence[Box], taken: Sequence[Box], inside: Box) -> int:
    """The first of these boxes that is inside and overlaps none, else the one that overlaps least.

    What sticks out counts like an overlap.
    """

    def crowded(box: Box) -> float:
        area = (box[2] - box[0]) * (box[3] - box[1])
        return sum(_shared(box, other) for other in taken) + area - _shared(box, inside)

    return min(range(len(choices)), key=lambda each: (round(crowded(choices[each]), 3), each))


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
