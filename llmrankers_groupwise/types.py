"""The records that travel from a first-stage run to a ranking, in the order they appear."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Literal

from llmrankers_groupwise.errors import SettingsError

__all__ = [
    "Ask",
    "Candidate",
    "Group",
    "GroupScores",
    "Message",
    "Origin",
    "Query",
    "RankedDocument",
    "Ranking",
    "Render",
    "Reply",
    "Request",
    "Sampling",
    "ScoreForm",
    "ScoredGroup",
    "Scoring",
    "Status",
    "Usage",
    "Wanted",
]

Message = dict[str, str]
"""A chat message: {"role": "system" | "user" | "assistant", "content": text}."""

Scoring = Literal["generation", "likelihood"]
"""How scores are obtained: written by the model and parsed, or read off a ScoreForm's slots."""

Wanted = Literal["scores", "order", "choice"]
"""What a reply is to give: a score for every label, all labels best first, or the best one."""

MAX_SCORE = 10
"""Scores are whole numbers 0..10 (GroupRank, arXiv 2511.11653, section 3)."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query as it is shown to the engine.

    >>> Query("q1", "how do cats see at night").text
    'how do cats see at night'
    """

    query_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document of the first-stage run. `text` is None where no passage could be found.

    >>> Candidate("d1", "Cats see well in dim light.", 12.5).doc_id
    'd1'
    """

    doc_id: str
    text: str | None
    score: float


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates scored together: their positions (0-based first-stage ranks), in prompt order."""

    repeat: int
    members: tuple[int, ...]
    round: Literal["first", "final", "boundary"] = "first"


@dataclass(frozen=True, slots=True)
class ScoreForm:
    """An answer with one slot per label, e.g. `{"[1]": _, "[2]": _}`.

    An engine that fills forms writes the fixed text itself and reports, for every slot, the
    probability of each choice. Choices are numbers, or words, in quotes, that begin differently.
    """

    labels: tuple[str, ...]
    choices: tuple[str, ...] = tuple(str(score) for score in range(MAX_SCORE + 1))

    @property
    def of_words(self) -> bool:
        """Whether the choices are words."""
        return not self.choices[0].isdigit()

    @property
    def fixed(self) -> tuple[str, ...]:
        """The text before each slot, then the closing text: len(labels) + 1 pieces."""
        quote = '"' if self.of_words else ""
        starts = [f'"{label}": {quote}' for label in self.labels]
        return ("{" + starts[0], *(f"{quote}, {start}" for start in starts[1:]), quote + "}")

    def filled(self, answers: Sequence[str]) -> str:
        """The answer as text, with one choice for every slot."""
        parts = zip(self.fixed, (*answers, ""), strict=True)
        return "".join(before + answer for before, answer in parts)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose question a request is: its query, its documents in prompt order, and the repeat.

    Engines do not look at it. The journal files replies under it, and where sampling is random
    the repeat tells askings apart that are equal otherwise.
    """

    query_id: str = ""
    doc_ids: tuple[str, ...] = ()
    repeat: int = 0


Render = Callable[[str, Sequence[str]], "Request"]
"""A query and passages in, the request for them out."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to an engine: a group as text.

    Attributes:
        query: the query's text as it came.
        passages: the texts as they came, less what the prompt file cuts off.
        labels: what the passages are called in the messages and in the answer.
        messages: rendered from both, with all neutralised that could pass for an instruction.
        form: the answer to fill in; None asks for a text.
        fallback: the form to fill in after a text that does not score every label.
        answer_start: what the assistant writes before the form, e.g. an opening tag.
        wants: what the reply is to give; only scores have forms.
        origin: whose question it is.
        rerender: makes the request anew with other texts; an engine that cuts passages to its
            model's length, or knows control tokens of its own, asks for that.

    >>> from llmrankers_groupwise.prompting import load_prompt, render
    >>> passages = ["Cats see well in dim light.", "Bread needs yeast."]
    >>> request = render("how do cats see", passages, load_prompt("groupwise"), form=False)
    >>> request.labels, request.wants
    (('[1]', '[2]'), 'scores')
    """

    query: str
    passages: tuple[str, ...]
    labels: tuple[str, ...]
    messages: tuple[Message, ...]
    form: ScoreForm | None = None
    fallback: ScoreForm | None = None
    answer_start: str = ""
    wants: Wanted = "scores"
    origin: Origin = Origin()
    rerender: Render | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine draws tokens, and how many.

    Attributes:
        temperature: the sampling temperature; 0 decodes greedily.
        top_p: the share of probability that tokens are drawn from.
        max_tokens: the most tokens of a reply, reasoning included.
        reasoning_tokens: the most tokens of reasoning before the answer. By default there is no
            reasoning before a form, and max_tokens is the limit before a text.
        seed: the seed of drawing; None draws differently every time.

    >>> Sampling(temperature=0.3, top_p=0.8, max_tokens=8000).temperature
    0.3
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 8000
    reasoning_tokens: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.temperature >= 0.0:
            raise SettingsError(f"temperature is {self.temperature}: give 0 or more")
        if not 0.0 < self.top_p <= 1.0:
            raise SettingsError(f"top_p is {self.top_p}: give a number above 0, up to 1")
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise SettingsError(f"max_tokens is {self.max_tokens!r}: give a whole number from 1")
        reasoning = self.reasoning_tokens
        if reasoning is not None and (type(reasoning) is not int or reasoning < 0):
            raise SettingsError(f"reasoning_tokens is {reasoning!r}: give 0, more, or None")


@dataclass(frozen=True, slots=True)
class Reply:
    """What an engine answered.

    Attributes:
        text: what the model wrote, reasoning included.
        slot_probabilities: of a filled form, shape (labels, choices); each row sums to 1.
        forced: the form was filled after a text that did not finish by itself.
        cut_passages: how many passages were cut to fit the model's length.
        prompt_tokens: tokens read; where a prompt is continued from a cache it counts once.
        completion_tokens: tokens written one after another, those of a form included.
        finish_reason: "stop", "length" or "error".
        seconds: wall time from asking to answer.
        error: set, and everything else empty, when the engine could not answer.
        reused: it was not asked for now, but was cached, by the journal or an equal question.

    >>> from llmrankers_groupwise.prompting.parse_scores import read_reply
    >>> reply = Reply('<answer>{"[1]": 9, "[2]": 0}</answer>', completion_tokens=17)
    >>> dict(read_reply(reply, 2).scores)
    {1: 9.0, 2: 0.0}
    """

    text: str = ""
    slot_probabilities: tuple[tuple[float, ...], ...] | None = None
    forced: bool = False
    cut_passages: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = "stop"
    seconds: float = field(default=0.0, compare=False)
    error: str | None = None
    reused: bool = False


class Status(StrEnum):
    """How well a group's reply could be read.

    EXACT: the contract to the letter. REPAIRED: every label has a score, but the reply needed
    fixing. PARTIAL: some labels have no valid score. FORCED: a form was filled after a reply
    that did not finish by itself. FAILED: no score at all.
    """

    EXACT = "exact"
    REPAIRED = "repaired"
    PARTIAL = "partial"
    FORCED = "forced"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class GroupScores:
    """The scores of one group by label 1..n; a label without a valid score is in `missing`.

    `refused` lists, one line each, what was in the reply but could not be taken as a score.
    """

    scores: Mapping[int, float]
    missing: tuple[int, ...]
    status: Status
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group with its scores and the reply that they were read from."""

    group: Group
    scores: GroupScores
    reply: Reply = Reply()


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """A document of the final ranking.

    `score` strictly decreases; `model_score` is the fused score it comes from, None for a document
    that no group scored; `first_stage_rank` counts from 1; `variance` is that of its calibrated
    scores over the groups it was in, None for fewer than two: the less, the surer.

    >>> import asyncio
    >>> from llmrankers_groupwise import Candidate, GroupwiseLlmRanker, Query
    >>> candidates = [
    ...     Candidate("d1", "Bread needs yeast.", 2.0),
    ...     Candidate("d2", "Cats see well at night.", 1.0),
    ... ]
    >>> ranker = GroupwiseLlmRanker()
    >>> question = Query("q1", "how do cats see at night")
    >>> ranking, usage = asyncio.run(ranker.rank_candidates(question, candidates))
    >>> best = ranking.documents[0]
    >>> best.doc_id, best.first_stage_rank
    ('d2', 2)
    """

    doc_id: str
    score: float
    model_score: float | None
    first_stage_rank: int
    variance: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """All candidates of one query, best first, and the groups the order came from.

    `skipped_groups` counts groups that were not asked about, as the order was stable without them;
    `calibrated` are the groups with the scores that were merged, where a method calibrates.

    >>> import asyncio
    >>> from llmrankers_groupwise import Candidate, GroupwiseLlmRanker, Query
    >>> candidates = [
    ...     Candidate("d1", "Bread needs yeast.", 2.0),
    ...     Candidate("d2", "Cats see well at night.", 1.0),
    ... ]
    >>> ranker = GroupwiseLlmRanker()
    >>> question = Query("q1", "how do cats see at night")
    >>> ranking, usage = asyncio.run(ranker.rank_candidates(question, candidates))
    >>> [document.doc_id for document in ranking.documents], len(ranking.groups)
    (['d2', 'd1'], 1)
    """

    documents: tuple[RankedDocument, ...]
    groups: tuple[ScoredGroup, ...] = ()
    skipped_groups: int = 0
    calibrated: tuple[ScoredGroup, ...] = ()


@dataclass(slots=True)
class Usage:
    """What was asked of an engine. Sums with `+=`.

    `reused` calls were cached and cost nothing now; tokens count them all the same.
    `rounds` is the longest chain of calls of which each waited for the one before: a query that
    asks everything at once takes one. Summed over queries it is what they waited in turn.
    """

    calls: int = 0
    rounds: int = 0
    reused: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cut_passages: int = 0

    def __iadd__(self, other: Usage) -> Usage:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        return self


Ask = Callable[[Sequence[Request]], Awaitable[list[Reply]]]
"""What a method is given: questions in, one reply for each out, in order, errors included."""
