"""Read the scores of a group from a reply: the one parser of inference, training and re-merge.

The contract is `<answer>{"[1]": 7, "[2]": 0, ...}</answer>`, free reasoning before it. Replies
break it in many ways, and a group must not be lost to one bad character, so each label is read on
its own: what is a label of the group with a score of 0..10 counts, all else is refused by name.

A reply may hold several answers: the prompt's example repeated, a draft, one quoted in the
reasoning. The one that scores the most labels wins, tagged before bare, and the last of ties.
Inside the reasoning only an answer to every label is believed, and only if there is none outside.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from llmrankers_groupwise.prompting.tags import ANSWER_BLOCK, without_reasoning
from llmrankers_groupwise.types import MAX_SCORE, GroupScores, Reply, Status

__all__ = [
    "are_probabilities",
    "expected_score",
    "parse_scores",
    "read_reply",
    "slot_with_mean",
]  # fmt: skip


_PROBABILITY_SLACK = 1e-3


def read_reply(reply: Reply, n: int) -> GroupScores:
    """The scores of a group of n from an engine's reply: from its slots, if it has them."""
    if reply.error is not None:
        return _group_scores(_Answer(), n)
    read = (
        parse_scores(reply.text, n)
        if reply.slot_probabilities is None
        else _read_slots(reply.slot_probabilities, n)
    )
    if reply.forced and not read.missing:
        return dataclasses.replace(read, status=Status.FORCED)
    return read


def _read_slots(slot_probabilities: Sequence[Sequence[float]], n: int) -> GroupScores:
    answer = _Answer(exact=True)
    for label, row in enumerate(slot_probabilities, start=1):
        if len(row) == MAX_SCORE + 1 and are_probabilities(row):
            answer.scores[label] = min(expected_score(row), float(MAX_SCORE))
        else:
            sums = f"probabilities that sum to {sum(row)}"
            wrong = sums if len(row) == MAX_SCORE + 1 else f"{len(row)} choices, not those 0..10"
            answer.refused.append(f"[{label}]: {wrong}")
    return _group_scores(answer, n)


def are_probabilities(row: Sequence[float]) -> bool:
    """Whether these numbers are the probabilities of all choices of a slot."""
    return abs(sum(row) - 1.0) < _PROBABILITY_SLACK and min(row) >= 0.0  # false of NaN, too


def expected_score(probabilities: Sequence[float]) -> float:
    """Expected value of one slot from the probabilities of the choices 0..10: no ties."""
    return sum(score * p for score, p in zip(range(MAX_SCORE + 1), probabilities, strict=True))


def slot_with_mean(score: float, choices: int = MAX_SCORE + 1) -> tuple[float, ...]:
    """Probabilities of choices 0.. with mean `score`, on the one or two numbers next to it."""
    low = min(int(score), choices - 2)
    row = [0.0] * choices
    row[low], row[low + 1] = 1.0 - (score - low), score - low
    return tuple(row)


def parse_scores(text: str, n: int) -> GroupScores:
    """The scores of labels 1..n from a reply's text. Never raises, whatever the text.

    Status is EXACT when the answer is a JSON object with the keys "[1]".."[n]", each once, and
    whole numbers 0..10 as values; REPAIRED when every label has a score all the same; PARTIAL
    when some have none; FAILED when none has.
    """
    outside = without_reasoning(text)
    best = _best_answer(outside, n)
    if not best.scores and outside != text:
        quoted = _best_answer(text, n)
        if len(quoted.scores) == n:
            best = _Answer(quoted.scores, quoted.refused, exact=False)
    return _group_scores(best, n)


@dataclass
class _Answer:
    """What one answer scores; `exact` if it keeps the contract to the letter."""

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


# --- Where answers may be ---------------------------------------------------------------------

_END = ";"  # put after an answer that is known not to be cut off
_OBJECT = re.compile(r"\{[^{}]*(?:\}|\Z|(?=\{))")
_NESTED = re.compile(r"\{[^{}]*\{")
_NUMBER = r"(-?[0-9]++(?:\.[0-9]++)?)(?:[ ]*+/[ ]*+10)?"
_START = r"^[ \t>*+-]*+(?:passage[ ]|document[ ]|doc[ ])?"
_SCORE_LINE = re.compile(
    rf"""{_START}\[?([0-9]{{1,6}})\]?[*"']*+[ \t]*+   # a label, in brackets or not,
        (?:[:=：]|->|—|–|-(?=[ ]))[ \t*"']*+                   # a sign that a score follows,
        {_NUMBER}[*"',;.]*+[ \t\r]*+$                          # the score, and nothing more""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_SCORES_IN_A_LINE = re.compile(
    rf"^[ \t]*+(?:\[[0-9]{{1,6}}\][*\"']*+[ ]*+[:=：][*\"' ]*+{_NUMBER}[*\"' ,;.]*+){{2,}}\r?$",
    re.MULTILINE,
)
_PART = re.compile(rf"{_START}\[([0-9]{{1,6}})\]", re.I | re.M)
_NAMED_SCORE = re.compile(
    rf"""\b(?:score|rating|relevance)[*"' :=：]*+{_NUMBER}[*"'),;.]*+[ \t\r]*+$""",
    re.IGNORECASE | re.MULTILINE,
)


def _best_answer(text: str, n: int) -> _Answer:
    """The last of the fullest answers; a tagged one goes before a bare one as full."""
    tagged = _last_of_the_fullest([_read(answer, n) for answer in _tagged_answers(text)])
    if len(tagged.scores) == n:
        return tagged
    bare = _last_of_the_fullest([_read(answer, n) for answer in _bare_answers(text, n)])
    if _NESTED.search(text):  # an object in another is not the contract to the letter
        bare.exact = False
    return _last_of_the_fullest([bare, tagged])


def _last_of_the_fullest(answers: Sequence[_Answer]) -> _Answer:
    """What scores the most labels; if nothing scores any, what gives a reason."""

    def fullness(answer: _Answer) -> tuple[int, bool]:
        return len(answer.scores), bool(answer.refused) and not answer.scores

    return max(reversed(answers), key=fullness, default=_Answer())


def _tagged_answers(text: str) -> Iterator[str]:
    """What is between answer tags; the closing one may be missing at the end."""
    for inside, closing in ANSWER_BLOCK.findall(text):
        yield inside + _END * bool(closing)


def _bare_answers(text: str, n: int) -> Iterator[str]:
    """Objects in braces, then lines of scores, then parts of prose that name a score."""
    yield from _OBJECT.findall(text)
    for line in _SCORES_IN_A_LINE.finditer(text):
        yield line[0] + _END
    if lines := list(_SCORE_LINE.finditer(text)):
        ended = lines[-1].end() < len(text) or int(lines[-1][1]) == n
        yield "\n".join(f"[{line[1]}]: {line[2]}" for line in lines) + _END * ended
    yield from _named_scores(text)


def _named_scores(text: str) -> Iterator[str]:
    """A score by name between a label and the next, as some models write unasked."""
    parts = _PART.split(text)
    found = []
    for label, part in zip(parts[1::2], parts[2::2], strict=True):
        scores = _NAMED_SCORE.findall(part)
        if scores:
            found.append(f"[{label}]: {scores[-1]}")
    if found:
        yield "\n".join(found) + _END


# --- What one answer scores -------------------------------------------------------------------

_ENTRY = re.compile(
    r"""(?: ["'“]? \[ [ ]*+ (?P<bracketed>[0-9]{1,6}) [ ]*+ \] ["'”]?    # "[1]"  '[1]'  [1]
          | ["'“] [ ]*+ (?P<quoted>[0-9]{1,6}) [ ]*+ ["'”]               # "1"  '1'
          | (?: ^ | (?<=[{,;\n]) ) [ \t]*+ (?P<bare>[0-9]{1,6}) )        # 1, where an entry starts
        \s*+ (?: [:=：] | -> ) \s*+
        (?: ["'“]? [ \t]*+ (?P<value> -?[0-9]++ (?:\.[0-9]++)? (?:e[+-]?[0-9]++)? )
            (?P<of_ten> [ ]*+ / [ ]*+ 10\b )?
            (?= [ \t]*+ (?: ["'”] [ \t]*+ )?                             # what must follow:
                (?P<end> [,;，、}\]\r\n<\[(\#] | ["'“](?=\[) | //        # an entry's end,
                       | [-–—](?=\s) | \.(?![0-9]) | \Z )? )            # a remark, the text's
          | (?P<other> [^,;\s}]{1,20}+ ) )""",
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
    labels = _contract_keys(n)
    scores: dict[int, float] = {}
    for key, value in entries:
        label = labels.get(key)
        if label is None or label in scores:
            return None
        if type(value) is not int or not 0 <= value <= MAX_SCORE:
            return None
        scores[label] = float(value)
    return _Answer(scores, exact=True)


@functools.lru_cache(maxsize=128)
def _contract_keys(n: int) -> dict[str, int]:
    return {f"[{label}]": label for label in range(1, n + 1)}


def _read_entries(answer: str, n: int) -> _Answer:
    """Every `label: score` entry on its own; a later entry for a label replaces an earlier one."""
    read = _Answer()
    for entry in _ENTRY.finditer(answer):
        label = int(entry["bracketed"] or entry["quoted"] or entry["bare"])
        problem = _problem(label, entry, n)
        if problem is None:
            read.scores[label] = abs(float(entry["value"]))  # -0 is 0
        else:
            shown = (entry["value"] or entry["other"])[:20]
            read.refused.append(f"[{label}]: {shown}: {problem}")
    return read


def _problem(label: int, entry: re.Match[str], n: int) -> str | None:
    """Why an entry is no score of this group; None if it is one."""
    value = entry["value"]
    if not 1 <= label <= n:
        return f"no label of this group (1..{n})"
    if value is None:
        return "not a number"
    if entry["end"] is None and entry["of_ten"] is None:
        return "more follows than a score"
    if not 0 <= float(value) <= MAX_SCORE:
        return f"outside 0..{MAX_SCORE}"
    if value == "1" and entry["end"] == "" and entry["of_ten"] is None:
        return "cut off where it could be 10"
    return None
