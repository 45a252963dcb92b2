"""Read an order of labels, or the choice of one, from a reply: for listwise and setwise methods.

What is read becomes scores, so that statuses and counters are the same for every method: in an
order, the first of n labels scores n and the last 1; in a choice, the chosen label scores 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.prompting.tags import (
    ANSWER_BLOCK,
    REASONING_END,
    THINK_END,
    without_reasoning,
)
from llmrankers_groupwise.types import GroupScores, Reply, Status

__all__ = ["OrderRule", "check_order_rule", "read_choice", "read_order"]

OrderRule = Literal["labels", "rank_llm"]
_RULES = ("labels", "rank_llm")

_NAME = r"(?:(?:passage|document|doc)[ ])?"
_LABEL = rf"{_NAME}\[[ ]*+[0-9]{{1,6}}[ ]*+\]"
_BARE = r"\[?[0-9]{1,6}(?![0-9]|\.[0-9])\]?"  # may have lost a bracket, or both
_MORE = r"[ \t\n]*+>[ \t\n]*+"
_THEN = r"[ \t]*+[,\n]?[ \t\n]*+(?:[0-9]{1,3}[.)][ \t]++)?"  # labels follow the numbers of a list
_LIST = re.compile(  # one joined by ">", else one of labels in brackets
    rf"(?:{_LABEL}|(?<![0-9.\[]){_BARE})(?:{_MORE}(?:{_LABEL}|{_BARE}))++"
    rf"|{_LABEL}(?:{_THEN}{_LABEL})*+",
    re.IGNORECASE,
)
_LINE = re.compile(
    rf"^[ \t>+-]*+(?:[0-9]{{1,3}}[.)][ \t]++)?{_NAME}\[[ ]*+([0-9]{{1,6}})[ ]*+\]",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBERING = re.compile(r"(?<![0-9\[])[0-9]{1,3}[.)][ \t]++")
_DIGITS = re.compile(r"[0-9]+")
_CONTRACT = re.compile(r"\s*+\[[0-9]{1,6}\](?: > \[[0-9]{1,6}\])*+\s*+")
_ONE_LABEL = re.compile(rf"{_LABEL}|\A{_NAME}[0-9]{{1,6}}\Z", re.IGNORECASE)
# Other shapes of digits, brackets and signs, and the emphasis of Markdown, which has no meaning.
_PLAIN = str.maketrans("０１２３４５６７８９［］【】＞，、", "0123456789[][]>,,", "*_`")


def check_order_rule(rule: str) -> None:
    """Raise SettingsError for an unknown rule."""
    if rule not in _RULES:
        raise SettingsError(f"parsing is {rule!r}: give one of {', '.join(_RULES)}")


def read_order(reply: Reply, n: int, rule: OrderRule = "labels") -> GroupScores:
    """The order of labels 1..n in a reply, as scores n..1. Never raises, whatever the text.

    "labels" believes a list of labels after the reasoning: the one that has all, else one
    that ">" joins, else the fullest, and the last of ties. Labels are in brackets, unless ">"
    joins them; where they are no list, but each begins a line of remarks, those lines are one.
    Several labels in prose are no order. "rank_llm" is that library's rule, which takes every
    number after the reasoning for a label. In both the first mention counts, a number outside
    1..n is refused, and labels not mentioned are missing.

    Status is EXACT for every label once, "[2] > [1]", and nothing else, REPAIRED where every label
    has a rank all the same, PARTIAL where some have none, FAILED where none has.
    """
    if reply.error is not None:
        return _as_scores([], n, exact=False)
    found, exact = _READERS[rule](_whole(reply) if rule == "labels" else reply.text, n)
    different = dict.fromkeys(found)
    kept = [label for label in different if 1 <= label <= n]
    refused = tuple(_no_label(label, n) for label in different if not 1 <= label <= n)
    return _as_scores(kept, n, exact=exact and len(found) == len(kept) == n, refused=refused)


def read_choice(reply: Reply, n: int, pattern: str | None = None) -> GroupScores:
    """The one label of 1..n that a reply chooses, with score 1. Never raises, whatever the text.

    It reads what the prompt file's pattern captures after the reasoning, the last of several;
    without a match the last answer in tags, else a whole text that has one label, as in
    "It is [3]." Status is EXACT where the pattern captured a label, REPAIRED where it was found
    otherwise, else FAILED. Only a FAILED reply has missing labels: all.
    """
    text = _whole(reply) if reply.error is None else ""
    outside = without_reasoning(text)
    whole = [outside] if reply.finish_reason != "length" else []
    for parts, status in (
        (_captured(pattern, text), Status.EXACT),
        (_answers(outside), Status.REPAIRED),
        (whole, Status.REPAIRED),
    ):
        labels = [label for part in parts if (label := _only_label(part)) is not None]
        if labels and 1 <= labels[-1] <= n:
            return GroupScores({labels[-1]: 1.0}, (), status)
        if labels:
            return _as_scores([], n, exact=False, refused=(_no_label(labels[-1], n),))
    return _as_scores([], n, exact=False)


def _whole(reply: Reply) -> str:
    """The text; of one that was cut off without a number at its end, as 1 could have become 12."""
    return reply.text.rstrip("0123456789") if reply.finish_reason == "length" else reply.text


def _captured(pattern: str | None, text: str) -> list[str]:
    """What a pattern captures, less what it captures inside the reasoning.

    It is looked for in the whole text, as a pattern may describe the reasoning, too.
    """
    if not pattern:
        return []
    reasoned = max((match.end() for match in REASONING_END.finditer(text)), default=0)
    found = re.finditer(pattern, text, re.DOTALL | re.IGNORECASE)
    spans = [match.span(1 if match.re.groups else 0) for match in found]
    return [text[start:end] for start, end in spans if start >= reasoned]


def _only_label(text: str) -> int | None:
    """The label that a text names, if it names one only."""
    plain = text.translate(_PLAIN).strip(" \t\r\n.")
    labels = {_number(_DIGITS.findall(each)[0]) for each in _ONE_LABEL.findall(plain)}
    return labels.pop() if len(labels) == 1 else None


def _no_label(label: int, n: int) -> str:
    return f"[{label}]: no label of this list (1..{n})"


def _as_scores(
    order: Sequence[int], n: int, *, exact: bool, refused: tuple[str, ...] = ()
) -> GroupScores:
    scores = {label: float(n - index) for index, label in enumerate(order)}
    missing = tuple(label for label in range(1, n + 1) if label not in scores)
    if missing:
        status = Status.PARTIAL if scores else Status.FAILED
    else:
        status = Status.EXACT if exact else Status.REPAIRED
    return GroupScores(scores, missing, status, refused)


def _by_labels(text: str, n: int) -> tuple[list[int], bool]:
    """The labels of the best list, and whether the answer is that list as asked for."""
    outside = without_reasoning(text)
    for answer in (*reversed(_answers(outside)), outside):
        found = _best_list(answer.translate(_PLAIN).replace("\r", ""), n)
        if found:
            return found, _CONTRACT.fullmatch(answer) is not None
    return [], False


def _best_list(answer: str, n: int) -> list[int]:
    """The labels of the best list; [] if there is none.

    The first is one of all n labels, else one with brackets, else one of order: what commas join
    may be an aside on documents that do not help.
    """
    lists = []
    for match in _LIST.finditer(answer):
        labels = [_number(each) for each in _DIGITS.findall(_NUMBERING.sub("", match[0]))]
        every = set(labels).issuperset(range(1, n + 1))
        rank = (every, "[" in match[0], ">" in match[0], len(set(labels)))
        lists.append((rank, labels))
    if not lists:
        return []
    rank, best = max(reversed(lists), key=lambda each: each[0])
    if rank[-1] > 1:
        return best
    lines = [_number(each) for each in _LINE.findall(answer)]
    mentioned = {labels[0] for _, labels in lists}
    return lines if len(lines) > 1 else best if len(mentioned) == 1 else []


def _by_rank_llm(text: str, n: int) -> tuple[list[int], bool]:
    """Every number after the last </think>, digits of other scripts and styles included."""
    text = text.rpartition(THINK_END)[2]
    plain = "".join(
        str(unicodedata.digit(each)) if unicodedata.digit(each, None) is not None else each
        for each in text
    )
    found = [_number(each) for each in _DIGITS.findall(plain)]
    return found, _CONTRACT.fullmatch(text) is not None


_READERS: Mapping[str, Callable[[str, int], tuple[list[int], bool]]] = {
    "labels": _by_labels,
    "rank_llm": _by_rank_llm,
}


def _number(digits: str) -> int:
    """A number; a long one only as far as shows that it is no label: int() takes 4,300 digits."""
    return int(digits.lstrip("0")[:7] or "0")


def _answers(text: str) -> list[str]:
    """What tagged answers hold, in their order."""
    return [content for content, _ in ANSWER_BLOCK.findall(text)]
