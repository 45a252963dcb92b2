"""Groups that follow from the scores of a first round, and what they change: all pure.

One round ranks each document among the few in its group. A second one directly compares those
that the result depends on: a few calls more, where another repeat would ask about every document
again. Positions are 0-based first-stage ranks, indexes are 0-based ranks in an order.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.scores import ranked_positions, seeded
from llmrankers_groupwise.types import Group, ScoredGroup

__all__ = ["check_final_round", "final_round_groups", "rank_spans", "rerank_spans"]


def check_final_round(group_size: int, final_round: int, final_calls: int, boundary: int) -> None:
    """Raise SettingsError unless the settings can make a second round of any order."""
    if type(final_round) is not int or not (final_round == 0 or 2 <= final_round <= group_size):
        raise SettingsError(
            f"final_round is {final_round!r}: give 0 for none, or 2 to group_size ({group_size})"
        )
    if type(final_calls) is not int or final_calls < 1:
        raise SettingsError(f"final_calls is {final_calls!r}: give a whole number, 1 or more")
    if final_calls > 1 and not final_round:
        raise SettingsError(
            f"final_calls is {final_calls}, but there is no final round: give final_round, too, "
            f"or final_calls 1"
        )
    if type(boundary) is not int or boundary < 0:
        raise SettingsError(f"boundary is {boundary!r}: give 0 for none, or a rank, 1 or more")
    if final_round and 0 < boundary < (least := final_round + group_size // 2):
        raise SettingsError(
            f"boundary is {boundary}, and half of its group would be of the final round's "
            f"{final_round}: give {least} or more, or no final_round"
        )


def rank_spans(
    n: int, *, final_round: int, boundary: int, group_size: int
) -> list[tuple[int, int]]:
    """The index spans [start, end) that a second round asks about, the final's first.

    None is empty, and no index is in two: scores of two second groups could not be compared.

    The final is the first `final_round` documents: there a measure like nDCG@10 is decided, and the
    best documents of different groups have not met yet. The boundary group is the `group_size`
    documents around rank `boundary`. If only the set of the best k matters, as for reading or for a
    next stage, only those near the border count: an error between ranks 1 and 2 changes nothing.

    Args:
        n: how many documents the order has.
        final_round: how many of the best, 0 for none.
        boundary: the rank k, counted from 1, 0 for none.
        group_size: the most documents of one call.
    """
    found = [(0, min(final_round, n))]
    if 0 < boundary < n:
        start = max(found[0][1], min(boundary - group_size // 2, n - group_size))
        found.append((start, min(n, start + group_size)))
    return [(start, end) for start, end in found if end > start]


def final_round_groups(
    order: Sequence[int],
    askable: Container[int],
    *,
    final_round: int = 0,
    final_calls: int = 1,
    boundary: int = 0,
    group_size: int = 20,
    first_repeat: int = 0,
    seed: int = 0,
    query: str = "",
) -> list[Group]:
    """The groups of a second round, all to be asked at once.

    Args:
        order: positions, best first by the first round.
        askable: those that can be asked about; a group has at least two of them.
        final_round: how many of the best are asked about as one group; see `rank_spans`.
        final_calls: how many times, each in another order, as a model may be biased by the
            order that it reads. A call costs one, whatever the list; a repeat costs one a group.
        boundary: a rank around which one group is asked about.
        group_size: the most documents of one call.
        first_repeat: each group counts as a repeat of its own, from this number on, so that its
            scores are one more appearance of its documents.
        seed: with the query's text, what the order within groups follows from.
        query: the query's text.
    """
    groups: list[Group] = []
    rng = seeded(seed, "final", query)
    for index, (start, end) in enumerate(
        rank_spans(len(order), final_round=final_round, boundary=boundary, group_size=group_size)
    ):
        is_final = bool(final_round) and index == 0
        for _ in range(final_calls if is_final else 1):
            members = [position for position in order[start:end] if position in askable]
            rng.shuffle(members)
            if len(members) > 1:
                groups.append(
                    Group(
                        first_repeat + len(groups),
                        tuple(members),
                        "final" if is_final else "boundary",
                    )
                )
    return groups


def rerank_spans(
    order: Sequence[int],
    scores: Sequence[float | None],
    spans: Sequence[tuple[int, int]],
    scored: Sequence[ScoredGroup],
    ties: Sequence[int] | None = None,
) -> list[int]:
    """An order in which the documents of each span were sorted again among themselves.

    Scores of a second round do not apply to documents outside it: a document that does worse among
    the best is not thereby worse than one that was not there. For the same reason a document
    that was asked about again in vain keeps its rank.

    Args:
        order: positions, best first by the first round.
        scores: by position, both rounds' merged.
        spans: as of `rank_spans`.
        scored: the second round's groups.
        ties: as in `scores.ranked_positions`.
    """
    found = list(order)
    again = {each.group.members[label - 1] for each in scored for label in each.scores.scores}
    known = [score if x in again else None for x, score in enumerate(scores)]
    for start, end in spans:
        found[start:end] = ranked_positions(found[start:end], known, ties)
    return found
