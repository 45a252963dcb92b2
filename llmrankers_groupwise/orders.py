"""Read an order of labels, or the choice of one, from a reply: for listwise and setwise methods.

What is read is said as scores, so that statuses and counters are the same for every method: of an
order the first of n labels scores n and the last 1; of a choice the chosen label scores 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.parsing import without_reasoning
from llmrankers_groupwise.types import GroupScores, Reply, Status

__all__ = ["OrderRule", "check_order_rule", "read_choice", "read_order"]

OrderRule = Literal["labels", "rank_llm"]
_RULES = ("labels", "rank_llm")

_TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_LABEL = r"\[[ ]*+[0-9]{1,6}[ ]*+\]"
_JOINT = r"[ \t]*+(?:>|,|＞|\n)?[ \t\n]*+(?:[0-9]{1,3}[.)][ \t]++)?"  # numbered or not
# Labels in brackets, one after another, of which the first may have lost its brackets before a ">"
# and the last its closing one; or bare numbers, which only the sign ">" makes an order.
_CHAIN = re.compile(
    rf"(?:(?<![0-9\[])[0-9]{{1,6}}\]?[ \t]*+>[ \t]*+)?{_LABEL}(?:{_JOINT}{_LABEL})*"
    r"(?:[ \t]*+>[ \t]*+\[[0-9]{1,6}\Z)?"
)
_BARE_CHAIN = re.compile(r"(?<![0-9.])[0-9]{1,6}(?:[ \t]*+[>＞][ \t]*+[0-9]{1,6})++(?![0-9.])")
_NUMBERING = re.compile(r"(?<![0-9\[])[0-9]{1,3}[.)][ \t]++")
_DIGITS = re.compile(r"[0-9]+")
_ONE_LABEL = re.compile(rf"{_LABEL}|\A\s*+[0-9]{{1,6}}\s*+\Z")


def check_order_rule(rule: str) -> None:
    """Raise SettingsError for an unknown rule."""
    if rule not in _RULES:
        raise SettingsError(f"parsing is {rule!r}: give one of {', '.join(_RULES)}")


def read_order(reply: Reply, n: int, rule: OrderRule = "labels") -> GroupScores:
    """The order of labels 1..n in a reply, as scores n..1. Never raises, whatever the text.

    "labels" believes labels in brackets, in the fullest list of them behind the reasoning, the
    last of equals; of bare numbers only those joined by ">". "rank_llm" is that library's rule,
    which takes every number behind the reasoning for a label. In both the first mention counts, a
    number outside 1..n is refused, and labels that are not mentioned are missing.

    Status is EXACT for every label once and nothing else, REPAIRED where every label has a place
    all the same, PARTIAL where some have none, FAILED where none has.
    """
    if reply.error is not None:
        return _as_scores([], n, exact=False)
    found, alone = _READERS[rule](reply.text)
    kept = [label for label in dict.fromkeys(found) if 1 <= label <= n]
    refused = tuple(
        f"[{label}]: no label of this list (1..{n})"
        for label in dict.fromkeys(found)
        if not 1 <= label <= n
    )
    return _as_scores(kept, n, exact=alone and len(found) == len(kept) == n, refused=refused)


def read_choice(reply: Reply, n: int, pattern: str | None = None) -> GroupScores:
    """The one label of 1..n that a reply chooses, with score 1; the others are not missing.

    What the prompt file's pattern captures counts, of several the last; without a match the last
    answer in tags, and behind the reasoning a text that is one label and nothing else. Status is
    EXACT where the pattern captured a label, REPAIRED where it was found otherwise, else FAILED.
    """
    text = reply.text if reply.error is None else ""
    captured = re.findall(pattern, text, re.DOTALL | re.IGNORECASE) if pattern else []
    texts = [each if isinstance(each, str) else each[0] for each in captured]
    outside = without_reasoning(text)
    for places, status in (
        (texts, Status.EXACT),
        (_TAGGED.findall(outside), Status.REPAIRED),
        ([outside.strip(" \t\r\n.")], Status.REPAIRED),
    ):
        for place in reversed(places):
            label = _only_label(place)
            if label is not None and 1 <= label <= n:
                return GroupScores({label: 1.0}, (), status)
            if label is not None:
                refused = (f"[{label}]: no label of this list (1..{n})",)
                return GroupScores({}, (), Status.FAILED, refused)
    return GroupScores({}, tuple(range(1, n + 1)), Status.FAILED)


def _only_label(text: str) -> int | None:
    """The label that a text names, if it names one only."""
    labels = {int(_digits(each)) for each in _ONE_LABEL.findall(text)}
    return labels.pop() if len(labels) == 1 else None


def _as_scores(
    order: Sequence[int], n: int, *, exact: bool, refused: tuple[str, ...] = ()
) -> GroupScores:
    scores = {label: float(n - place) for place, label in enumerate(order)}
    missing = tuple(label for label in range(1, n + 1) if label not in scores)
    if missing:
        status = Status.PARTIAL if scores else Status.FAILED
    else:
        status = Status.EXACT if exact else Status.REPAIRED
    return GroupScores(scores, missing, status, refused)


def _by_labels(text: str) -> tuple[list[int], bool]:
    """The labels of the best list, and whether the answer holds nothing else."""
    outside = without_reasoning(text)
    answers = [*_TAGGED.findall(outside)][::-1] or [outside]
    for answer in (*answers, outside):
        for chain in (_CHAIN, _BARE_CHAIN):
            lists = [match[0] for match in chain.finditer(answer)]
            if lists:
                best = max(reversed(lists), key=lambda each: len(set(_DIGITS.findall(each))))
                alone = best == answer.strip() and chain is _CHAIN and best.startswith("[")
                numbers = _NUMBERING.sub("", best) if chain is _CHAIN else best
                return [int(each) for each in _DIGITS.findall(numbers)], alone
    return [], False


def _by_rank_llm(text: str) -> tuple[list[int], bool]:
    """Every number behind the last </think>, digits of other scripts and styles included."""
    text = text.rpartition("</think>")[2]
    plain = "".join(
        str(unicodedata.digit(each)) if unicodedata.digit(each, None) is not None else each
        for each in text
    )
    found = [int(each) for each in _DIGITS.findall(plain)]
    return found, bool(re.fullmatch(rf"\s*{_LABEL}(?: > {_LABEL})*\s*", text))


_READERS: Mapping[str, Callable[[str], tuple[list[int], bool]]] = {
    "labels": _by_labels,
    "rank_llm": _by_rank_llm,
}


def _digits(text: str) -> str:
    return _DIGITS.search(text)[0]  # type: ignore[index]  # it was matched by its digits
