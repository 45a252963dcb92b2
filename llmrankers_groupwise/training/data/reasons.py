"""Reasoning for training lists: a teacher's own, or written for the gold scores afterwards."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from llmrankers_groupwise.concurrency import AsyncLazy, run_interruptibly
from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.journal.journal import Journal
from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings
from llmrankers_groupwise.methods.setwise import SetwiseSettings
from llmrankers_groupwise.prompting.prompt_file import PromptFile, load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.prompting.tags import ANY_TAG, REASONING_BLOCK
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.rankers.failures import FailureMonitor
from llmrankers_groupwise.training.data.labels import Labelled, SubList
from llmrankers_groupwise.training.data.teachers import Teacher, Teaching, naming
from llmrankers_groupwise.types import (
    Group,
    GroupScores,
    Origin,
    Ranking,
    Reply,
    Request,
    ScoredGroup,
    Status,
    Usage,
)

__all__ = [
    "Draft",
    "Reasoned",
    "Reasons",
    "ask_for_reasons",
    "check_writer",
    "pair_agreement",
    "reason_in",
    "reason_prompt",
]

Reasons = Literal["none", "teacher", "rationalised"]

_IN_FLIGHT = 64

_TOLD = re.compile(  # words of somebody who was told the answer
    r"\b(?:gold|given|provided|assigned|known|target)[- ](?:scores?|marks?|labels?|ratings?"
    r"|judge?ments?)\b|\bground[- ]truth\b|\bmark(?:s|ed)?\b",
    re.IGNORECASE,
)


class Draft(NamedTuple):
    """A training list that wants a reason; `number` tells those of a query apart."""

    pool: Labelled
    number: int
    chosen: SubList


@dataclass
class Reasoned:
    """What came of asking.

    Attributes:
        reasons: (query_id, number of the list) -> reasoning; lists without one are not in it.
        counts: asked, kept, failed (no answer, no reasoning, tags in it), told (it speaks of what
            only somebody who was told can know), disagreed (a teacher of another opinion).
        usage: calls and tokens.
        described: who was asked, and by which prompt, for the manifest.
    """

    reasons: dict[tuple[str, int], str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    described: Mapping[str, Any] = field(default_factory=dict)


def reason_prompt(kind: Reasons, method: str, teacher: Teacher) -> PromptFile:
    """The prompt file that reasons are asked by.

    Raises:
        PromptError: as `load_prompt`.
        SettingsError: a teacher's prompt asks for no reasoning.
    """
    own = "groupwise" if method == "groupwise" else "setwise_think"
    prompt = load_prompt(teacher.prompt_file or ("rationalise" if kind == "rationalised" else own))
    if not re.search("<(?:reason|think)>", prompt.prompt_user):
        raise SettingsError(
            f"the prompt {prompt.name} asks for no reasoning: give one that speaks of <reason> or "
            f"<think>"
        )
    return prompt


def check_writer(engine: Engine) -> None:
    """Raise SettingsError if the engine writes no text, so that no reasons come of it."""
    if "generation" not in engine.scorings:
        name = engine.describe().get("engine", type(engine).__name__)
        raise SettingsError(
            f"reasons are written by a language model, and the engine {name} generates no text: "
            f"give another reasons_engine, or reasons none"
        )


def ask_for_reasons(
    kind: Reasons,
    method: str,
    drafts: Iterable[Draft],
    teacher: Teacher,
    engine: Engine,
    how: Teaching,
    min_agreement: float,
) -> Reasoned:
    """Reasoning for each list.

    "teacher" asks about the list as a ranker does, and keeps the reasoning if the answer agrees
    with the gold scores: for a groupwise list, `pair_agreement` is at least `min_agreement`, for a
    setwise one the label is the same. "rationalised" shows the gold scores, and keeps what does not
    speak of having seen them.

    Raises:
        FailureRateError: too many replies held no reasoning; rejected ones do not count.
        JournalError: the journal cannot be used.
    """
    question = _Question(kind, method, reason_prompt(kind, method, teacher), min_agreement)
    journal = how.journal("reasons")
    try:
        asking = _asked(question, drafts, teacher, engine, journal, how.max_failure_rate)
        with naming("reasons"):
            reasoned = run_interruptibly(asking)
    finally:
        if journal is not None:
            journal.close()
    reasoned.described = {
        "prompt": {"name": question.prompt.name, "sha256": question.prompt.sha256},
        "sampling": asdict(teacher.sampling),
        "engine": engine.describe(),
    }
    return reasoned


@dataclass(frozen=True)
class _Question:
    kind: Reasons
    method: str
    prompt: PromptFile
    min_agreement: float

    @property
    def _settings(self) -> GroupwiseSettings | SetwiseSettings:
        if self.method == "groupwise":
            return GroupwiseSettings(prompt=self.prompt)
        return SetwiseSettings(prompt=self.prompt)

    def request(self, draft: Draft) -> Request:
        pool, members = draft.pool, draft.chosen.members
        texts = [pool.texts[member] for member in members]
        origin = Origin(pool.query_id, tuple(pool.doc_ids[member] for member in members))
        if self.kind == "teacher":
            return self._settings.request(pool.query, texts, origin)
        marked = [f"({self._mark(draft.chosen, at)}) {text}" for at, text in enumerate(texts)]
        return render(pool.query, marked, self.prompt, wants="choice", origin=origin)

    def _mark(self, chosen: SubList, at: int) -> str:
        if self.method == "groupwise":
            return f"score {round(chosen.gold[at])}"
        return "the best" if chosen.relevant[at] else "not the best"

    def outcome(self, draft: Draft, reply: Reply) -> tuple[str, str | None]:
        """What the reply is counted as, and its reasoning if that is kept."""
        reason = reason_in(reply.text) if reply.error is None else None
        if reason is None:
            return "failed", None
        if self.kind == "rationalised":
            return ("told", None) if _TOLD.search(reason) else ("kept", reason)
        scores = self._settings.read(reply, len(draft.chosen.members)).scores
        if not scores:
            return "failed", None
        return ("kept", reason) if self._agrees(draft.chosen, scores) else ("disagreed", None)

    def _agrees(self, chosen: SubList, scores: Mapping[int, float]) -> bool:
        if self.method == "setwise":
            return chosen.best in scores
        if len(scores) < len(chosen.gold):
            return False
        given = [scores[label] for label in range(1, len(chosen.gold) + 1)]
        return pair_agreement(given, chosen.gold) >= self.min_agreement


def reason_in(text: str) -> str | None:
    """The reasoning in a reply, without its tags; None if there is none, or tags are in it.

    The last of several <reason> blocks counts, else the last <think>.
    """
    found = REASONING_BLOCK.findall(text)
    reasons = [each for tag, each in found if tag.lower() == "reason"] or [
        each for _, each in found
    ]
    reason = reasons[-1].strip() if reasons else ""
    return None if not reason or ANY_TAG.search(reason) else reason


def pair_agreement(scores: Sequence[float], gold: Sequence[float]) -> float:
    """The share of the pairs with different gold scores that `scores` orders the same way.

    Equal scores count half, so 0.5 is what chance gives; 1 where all gold scores are equal.
    """
    agreed = pairs = 0.0
    for (one, wanted), (other, less) in itertools.combinations(zip(scores, gold, strict=True), 2):
        if wanted != less:
            pairs += 1
            agreed += 0.5 if one == other else (one > other) == (wanted > less)
    return agreed / pairs if pairs else 1.0


async def _asked(
    question: _Question,
    drafts: Iterable[Draft],
    teacher: Teacher,
    engine: Engine,
    journal: Journal | None,
    max_failure_rate: float,
) -> Reasoned:
    reasoned, tally = Reasoned(), FailureMonitor(max_failure_rate)
    identity: Any = AsyncLazy(engine.identity)

    async def one(draft: Draft) -> tuple[Draft, Reply, Usage]:
        ask = EngineCaller(engine, teacher.sampling, journal, identity)
        (reply,) = await ask([question.request(draft)])
        return draft, reply, ask.usage

    def note(task: asyncio.Task[tuple[Draft, Reply, Usage]]) -> None:
        draft, reply, usage = task.result()
        outcome, reason = question.outcome(draft, reply)
        reasoned.usage += usage
        reasoned.counts.update(("asked", outcome))
        if reason is not None:
            reasoned.reasons[draft.pool.query_id, draft.number] = reason
        status = Status.FAILED if outcome == "failed" else Status.EXACT
        refused = ("it lacks reasoning in tags, or the answer",) if outcome == "failed" else ()
        scores = GroupScores({}, (), status, refused)
        tally.add(Ranking((), (ScoredGroup(Group(0, ()), scores, reply),)))
        tally.check()

    waiting: set[asyncio.Task[tuple[Draft, Reply, Usage]]] = set()
    try:
        for draft in drafts:
            waiting.add(asyncio.create_task(one(draft)))
            if len(waiting) >= _IN_FLIGHT:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    note(task)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                note(task)
        tally.check(at_end=True)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return reasoned
