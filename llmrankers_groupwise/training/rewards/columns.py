"""What TRL passes to a reward, read row by row, and what cannot be computed counted.

TRL's GRPOTrainer calls a reward by name: `completions`, texts or lists of messages, and each column
of the data set as a list with one entry for each completion (checked with TRL 1.16). Besides come
`prompts`, `completion_ids`, `trainer_state`, `log_extra` and `log_metric`.

None means that the row is at fault, never the reply: a value is missing or out of range, or allows
no such measure (or the completion is no text, which TRL does not make). So in a GRPO group, whose
columns are the same, all rewards are None or none is. TRL leaves None out of the sum, and from 1.6
on out of training where there is nothing else. How many there were is logged as a warning with the
reasons, and by `log_metric` as `rewards/<name>/not_computed`, a share of the completions.
"""

from __future__ import annotations

import logging
import math
import operator
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeVar

from llmrankers_groupwise.errors import InputError
from llmrankers_groupwise.types import MAX_SCORE

__all__ = ["Completion", "Fault", "Rewards", "Row", "each_reward", "read_labels", "read_rows"]

logger = logging.getLogger(__name__)

Completion = str | Sequence[Mapping[str, Any]]
"""A text, or messages {"role": ..., "content": ...}; the last one's content is the reply."""

Rewards = list[float | None]
"""One for each completion; None where it cannot be computed."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Row:
    """The documents of one prompt, in prompt order.

    Attributes:
        gold: their gold scores, 0..10; at least one document.
        relevant: whether each is relevant; empty where nothing asks for that.
    """

    gold: tuple[float, ...]
    relevant: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row allows no reward."""

    reason: str


def read_rows(
    completions: Sequence[Completion], parts: Collection[str], gold: Any, relevant: Any = None
) -> list[Row | Fault]:
    """The row of each completion, or why it does not allow these parts of a reward.

    Raises:
        InputError: a column is not as long as the completions, or relevant in a row not as gold.
    """
    _check_length("gold", gold, completions)
    if relevant is None:
        relevant = [None] * len(completions)
    _check_length("relevant", relevant, completions)
    both = enumerate(zip(gold, relevant, strict=True))
    return [_row(i, scores, flags, parts) for i, (scores, flags) in both]


def read_labels(completions: Sequence[Completion], ground_truth: Any) -> list[str | Fault]:
    """The label of each completion's relevant document: a text, or a number 3 for "[3]".

    Raises:
        InputError: the column is not as long as the completions.
    """
    _check_length("ground_truth", ground_truth, completions)
    return [_label(truth) for truth in ground_truth]


def each_reward(
    name: str,
    completions: Sequence[Completion],
    rows: Sequence[R | Fault],
    columns: Mapping[str, Any],
    reward: Callable[[str, R], float],
) -> Rewards:
    """The reward of each completion's text and row, or None, which is counted.

    Args:
        name: what the reward is logged as.
        completions: as TRL passes them.
        rows: one for each completion.
        columns: all else that TRL passed; `log_metric` is used if it is there.
        reward: the reward of one reply.
    """
    values: Rewards = []
    faults: Counter[str] = Counter()
    for completion, row in zip(completions, rows, strict=True):
        text = _text(completion)
        if isinstance(row, Fault):
            faults[row.reason] += 1
            values.append(None)
        elif text is None:
            faults["the completion is no text"] += 1
            values.append(None)
        else:
            values.append(reward(text, row))
    if faults:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in faults.items())
        logger.warning(
            "%s: %d of %d rewards not computed: %s", name, faults.total(), len(values), reasons
        )
    if log_metric := columns.get("log_metric"):  # each time, as all processes must log the same
        log_metric(f"rewards/{name}/not_computed", faults.total() / max(1, len(values)))
    return values


def _check_length(name: str, column: Any, completions: Sequence[Completion]) -> None:
    if len(column) != len(completions):
        raise InputError(
            f"the column {name} has {len(column)} entries for {len(completions)} completions: "
            f"give one for each"
        )


def _row(i: int, gold: Any, relevant: Any, parts: Collection[str]) -> Row | Fault:
    sized = isinstance(gold, Sized) and isinstance(relevant, Sized)
    if sized and len(gold) != len(relevant):
        raise InputError(
            f"row {i}: the column relevant has {len(relevant)} entries and gold {len(gold)}: "
            f"give one for each document"
        )
    scores, flags = _numbers(gold, MAX_SCORE), _numbers(relevant, 1)
    if not scores:
        return Fault(f"gold is no list of numbers 0..{MAX_SCORE}")
    if "ndcg" in parts and not any(scores):
        return Fault("no gold score is above 0")
    if "recall" in parts and flags is None:
        return Fault("relevant is no list of true and false")
    if "recall" in parts and not any(flags or ()):
        return Fault("nothing is relevant")
    return Row(scores, tuple(map(bool, flags or ())))


def _numbers(values: Any, top: float) -> tuple[float, ...] | None:
    """The values if they are numbers 0..top, which NaN, None and text are not."""
    try:
        found = tuple(map(float, values))
    except (TypeError, ValueError):
        return None
    if (
        any(map(math.isnan, found))
        or min(found, default=0.0) < 0.0
        or max(found, default=0.0) > top
    ):
        return None
    return found


def _label(truth: Any) -> str | Fault:
    if isinstance(truth, str) and truth.strip():
        return truth.strip()
    try:
        number = operator.index(truth)
    except TypeError:
        number = 0
    return f"[{number}]" if number >= 1 else Fault("ground_truth is no label, nor a number from 1")


def _text(completion: Completion) -> str | None:
    if isinstance(completion, str):
        return completion
    try:
        content = completion[-1]["content"]
    except (LookupError, TypeError):
        return None
    return content if isinstance(content, str) else None
