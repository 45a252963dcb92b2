"""Read the scores of a group from a reply: the one parser of inference, training and re-merge.

The contract is `<answer>{"[1]": 7, "[2]": 0, ...}</answer>`, free reasoning before it. Replies
break it in many ways, and a group must not be lost to one bad character, so each label is read on
its own: what is a label of the group with a score of 0..10 counts, all else is refused by name.

A reply may hold several answers: the prompt's example repeated, a draft, one quoted in the
reasoning. They are looked for place by place, the most trusted first (`_places`); within a place
the answer with the most labels wins, and of those the last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llmrankers_groupwise.types import MAX_SCORE, GroupScores, Reply, Status

__all__ = ["blank_with_mean", "expected_score", "parse_scores", "read_reply"]


def read_reply(reply: Reply, n: int) -> GroupScores:
    """The scores of a group of n from an engine's reply: from its blanks, if it has them."""
    if reply.error is not None:
        return _group_scores(_Answer(), n)
    if reply.blanks is None:
        return parse_scores(reply.text, n)
    answer = _Answer(exact=True)
    for label, row in enumerate(reply.blanks, start=1):
        score = expected_score(row)
        if 0 <= score <= MAX_SCORE:
            answer.scores[label] = score
        else:
            answer.refused.append(f"[{label}]: {score}: outside 0..{MAX_SCORE}")
    return _group_scores(answer, n)


def expected_score(probabilities: Sequence[float]) -> float:
    """Expected value of one blank from the probabilities of the choices 0..10: no ties."""
    expected = sum(score * p for score, p in zip(range(MAX_SCORE + 1), probabilities, strict=True))
    return min(expected, float(MAX_SCORE)) if expected < MAX_SCORE + 1e-3 else expected


def blank_with_mean(score: float) -> tuple[float, ...]:
    """Choice probabilities with mean `score`, on the one or two whole numbers next to it."""
    low = min(int(score), MAX_SCORE - 1)
    row = [0.0] * (MAX_SCORE + 1)
    row[low], row[low + 1] = 1.0 - (score - low), score - low
    return tuple(row)


def parse_scores(text: str, n: int) -> GroupScores:
    """The scores of labels 1..n from a reply's text. Never raises, whatever the text.

    Status is EXACT when the answer is a JSON object with the keys "[1]".."[n]", each once, and
    whole numbers 0..10 as values; REPAIRED when every label has a score all the same; PARTIAL
    when some have none; FAILED when none has.
    """
    refused: list[str] = []
    for place in _places(text):
        answers = [_read(answer, n) for answer in place.answers(n)]
        _, best = max(
            enumerate(answers), key=lambda each: (len(each[1].scores), each[0]), default=(0, None)
        )
        if best and best.scores and (len(best.scores) == n or not place.complete_only):
            best.exact = best.exact and not place.complete_only
            return _group_scores(best, n)
        refused += [line for answer in answers for line in answer.refused]
    return _group_scores(_Answer(refused=refused), n)


@dataclass
class _Answer:
    """What one answer says; `exact` if it keeps the contract to the letter."""

    scores: dict[int, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    exact: bool = False


def _group_scores(answer: _Answer, n: int) -> GroupScores:
    scores: Mapping[int, float] = dict(sorted(answer.scores.items()))
    missing = tuple(label for label in range(1, n + 1) if label not in scores)
    if missing:
        status = Status.PARTIAL if scores else Status.FAILED
    else:
        status = Status.EXACT if answer.exact else Status.REPAIRED
    return GroupScores(scores, missing, status, tuple(answer.refused))


# --- Where answers may stand ------------------------------------------------------------------

_END = ";"  # put behind an answer that is known not to be cut off
_TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)(</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*(?:\}|\Z|(?=\{))")
_LINE = re.compile(
    r"""^[ \t>*+-]*(?:passage[ ]|document[ ]|doc[ ])?    # a bullet, a noun
        \[?([0-9]{1,6})\]?[*"']*[ \t]*                   # the label, in brackets or not
        (?:[:=：]|->|—|–|-(?=[ ]))[ \t]*[*"']*           # a sign that a score follows
        (-?[0-9]+(?:\.[0-9]+)?)(?:[ ]*/[ ]*10)?          # the score, and nothing after it
        [*"',;.]*[ \t\r]*$""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_NAMED_SCORE_LINE = re.compile(
    r"""^[ \t>*+-]*(?:passage[ ]|document[ ]|doc[ ])?
        \[([0-9]{1,6})\].*?                              # the label in brackets, some words
        \b(?:score|rating|relevance)[*"']*[ ]*[:=：]?[ ]*[*"']*
        (-?[0-9]+(?:\.[0-9]+)?)(?:[ ]*/[ ]*10)?          # a score by name ends the line
        [*"'),;.]*[ \t\r]*$""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class _Place:
    """A part of a reply to look for answers in.

    `complete_only` marks a place where only an answer to every label is believed.
    """

    text: str
    tagged: bool
    complete_only: bool = False

    def answers(self, n: int) -> Iterator[str]:
        """The texts that may be answers, in order of appearance, score lines last."""
        if self.tagged:
            for inside, closing in _TAGGED.findall(self.text):
                yield inside + _END * bool(closing)
            return
        yield from _OBJECT.findall(self.text)
        lines = list(_LINE.finditer(self.text)) or list(_NAMED_SCORE_LINE.finditer(self.text))
        if lines:
            ended = lines[-1].end() < len(self.text) or int(lines[-1][1]) == n
            yield "\n".join(f"[{line[1]}]: {line[2]}" for line in lines) + _END * ended


def _places(text: str) -> Iterator[_Place]:
    """Outside the reasoning: tagged answers, then bare ones. Inside it: complete answers only."""
    outside = _without_reasoning(text)
    yield _Place(outside, tagged=True)
    yield _Place(outside, tagged=False)
    if outside != text:
        yield _Place(text, tagged=True, complete_only=True)
        yield _Place(text, tagged=False, complete_only=True)


def _without_reasoning(text: str) -> str:
    """Text less its reasoning: from the first opening tag (or the start) to the last closing one.

    Reasoning that is never closed reaches to the next <answer>, or to the end.
    """
    for name in ("reason", "think"):
        opening, closing = re.compile(f"<{name}>", re.I), re.compile(f"</{name}>", re.I)
        closings = list(closing.finditer(text))
        if closings:
            end = closings[-1].end()
            first = opening.search(text, 0, end)
            text = text[: first.start() if first else 0] + text[end:]
        unclosed = opening.search(text)
        if unclosed:
            answer = re.compile("<answer>", re.I).search(text, unclosed.end())
            text = text[: unclosed.start()] + (text[answer.start() :] if answer else "")
    return text


# --- What one answer says ---------------------------------------------------------------------

_CONTRACT_KEY = re.compile(r"\[([1-9][0-9]{0,5})\]")
_ENTRY = re.compile(
    r"""(?: ["'“]? \[ [ ]* (?P<bracketed>[0-9]{1,6}) [ ]* \] ["'”]?     # "[1]"  '[1]'  [1]
          | ["'“] [ ]* (?P<quoted>[0-9]{1,6}) [ ]* ["'”]                # "1"  '1'
          | (?: ^ | (?<=[{,;\n]) ) [ \t]* (?P<bare>[0-9]{1,6}) )        # 1, where an entry starts
        \s* (?: [:=：] | -> ) \s* ["'“]? \s*
        (?P<value> -?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?
                 | [+-]?(?:nan|infinity|inf)\b | true\b | false\b | null\b | none\b )
        (?P<of_ten> \s*/\s*10\b )?
        (?= \s* (?: ["'”] \s* )?                                        # what must follow:
            (?P<end> [,;，、}\]\n<\[(\#] | ["'“](?=\[) | //              # an entry's end,
                   | [-–—](?=\s) | \.(?![0-9]) | \Z ) )?                # a remark, the text's""",
    re.VERBOSE | re.IGNORECASE,
)


def _read(answer: str, n: int) -> _Answer:
    """One answer: as JSON if it keeps the contract, entry by entry if not."""
    return _read_strictly(answer, n) or _read_entries(answer, n)


def _read_strictly(answer: str, n: int) -> _Answer | None:
    """The answer as JSON, or None unless it is one object that keeps the contract."""
    objects = _OBJECT.findall(answer)
    if len(objects) != 1:
        return None
    try:
        entries = json.loads(objects[0], object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    scores: dict[int, float] = {}
    for key, value in entries:
        match = _CONTRACT_KEY.fullmatch(key)
        label = int(match[1]) if match else 0
        if not 1 <= label <= n or label in scores:
            return None
        if type(value) is not int or not 0 <= value <= MAX_SCORE:
            return None
        scores[label] = float(value)
    return _Answer(scores, exact=True)


def _read_entries(answer: str, n: int) -> _Answer:
    """Every `label: score` entry on its own; a later entry for a label replaces an earlier one."""
    read = _Answer()
    for entry in _ENTRY.finditer(answer):
        label = int(entry["bracketed"] or entry["quoted"] or entry["bare"])
        problem = _problem(label, entry, n)
        if problem is None:
            read.scores[label] = float(entry["value"])
        else:
            read.refused.append(f"[{label}]: {entry['value'][:20]}: {problem}")
    return read


def _problem(label: int, entry: re.Match[str], n: int) -> str | None:
    """Why an entry is no score of this group; None if it is one."""
    value, ended = entry["value"], entry["end"] is not None or entry["of_ten"] is not None
    if not 1 <= label <= n:
        return f"no label of this group (1..{n})"
    if value[-1].isalpha():
        return "not a number"
    if not ended:
        return "more follows than a score"
    if not 0 <= float(value) <= MAX_SCORE:
        return f"outside 0..{MAX_SCORE}"
    if value == "1" and entry["end"] == "" and entry["of_ten"] is None:
        return "cut off where 10 could have stood"
    return None
