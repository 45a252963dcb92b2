"""The pointwise method: every document on its own, in one round.

"yes_no" asks whether a document is relevant and takes the probability of Yes (Sachan et al.,
EMNLP 2022; Zhuang et al., SIGIR 2024); "graded" asks for a score 0..10 and takes its expected
value, the fine-grained labels of Zhuang et al. (NAACL 2024) on the scale of the groupwise method.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llmrankers_groupwise.methods.base import ranking_by_scores, score_groups
from llmrankers_groupwise.prompting.parse_scores import are_probabilities, read_reply
from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.prompting.tags import ANSWER, without_reasoning
from llmrankers_groupwise.scores import mean_scores, ranked_positions
from llmrankers_groupwise.settings import check_choices
from llmrankers_groupwise.types import (
    Ask,
    Candidate,
    Group,
    GroupScores,
    Origin,
    Query,
    Ranking,
    Reply,
    Request,
    Scoring,
    Status,
)

__all__ = ["Judgement", "PointwiseOptions", "PointwiseSettings", "pointwise", "read_yes_no"]

Judgement = Literal["yes_no", "graded"]
_WORDS = ("No", "Yes")
_WORD = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_FIRST = re.compile(  # "Yes or no?" and "No doubt" are no answers yet
    rf'[\s*_]*+(?:{ANSWER}\s*+)?(?:\{{"\[1\]": ?")?'
    r'(yes\b(?!["*_]*+\s*+(?:[/?]|or\b|and\b))|no\b(?=["*_]*+(?:[.,;:!<}\n]|\Z)))',
    re.IGNORECASE,
)
_ALONE = re.compile(r'\s*+(?:(?:yes|no)\.?|\{"\[1\]": ?"(?:yes|no)"\})\s*+', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class PointwiseOptions:
    """What can be chosen of the pointwise method.

    Attributes:
        method: ask whether a document is relevant (yes_no), or for a score 0 to 10 (graded).

    Raises:
        SettingsError: a setting is out of its range.
    """

    method: Judgement = "yes_no"

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class PointwiseSettings(PointwiseOptions):
    """The settings of the pointwise method: what was chosen, and what the ranker adds.

    Attributes:
        prompt: the prompt file that requests are rendered from.
        scoring: "likelihood" reads probabilities off a form, "generation" a text.
    """

    prompt: PromptFile
    scoring: Scoring = "likelihood"

    @property
    def value_name(self) -> str:
        """What a reply gives for a document."""
        return "probability of yes" if self.method == "yes_no" else "score"

    def request(self, query: str, passages: Sequence[str], origin: Origin) -> Request:
        """The question about one document."""
        choices = _WORDS if self.method == "yes_no" else None
        form = self.scoring == "likelihood"
        return render(query, passages, self.prompt, form=form, choices=choices, origin=origin)

    def read(self, reply: Reply, n: int) -> GroupScores:
        """The probability of Yes, or the expected grade."""
        return read_yes_no(reply) if self.method == "yes_no" else read_reply(reply, n)


async def pointwise(
    query: Query, candidates: Sequence[Candidate], ask: Ask, settings: PointwiseSettings
) -> Ranking:
    """Ask about every document in one round, one call each, and sort by score.

    Candidates come best first by the first stage; those without text are not asked about, and
    like those whose reply cannot be read they keep their rank. Ties are broken by the first stage.
    """
    groups = [
        Group(0, (position,)) for position, each in enumerate(candidates) if each.text is not None
    ]
    scored = await score_groups(query, candidates, groups, ask, settings)
    scores = mean_scores(len(candidates), scored)
    order = ranked_positions(range(len(candidates)), scores)
    return ranking_by_scores(candidates, order, scores, scored)


def read_yes_no(reply: Reply) -> GroupScores:
    """The probability of Yes as the score of label 1; of a text 1 for yes and 0 for no.

    In a text, the first word after the reasoning counts, as in "Yes, no doubt", else the last of
    the two words in it.
    """
    if reply.error is not None:
        return GroupScores({}, (1,), Status.FAILED)
    if reply.slot_probabilities is not None:
        return _read_probability(
            reply.slot_probabilities, Status.FORCED if reply.forced else Status.EXACT
        )
    text = without_reasoning(reply.text)
    first = _FIRST.match(text)
    words = [word.lower() for word in ([first[1]] if first else _WORD.findall(text))]
    if not words:
        return GroupScores({}, (1,), Status.FAILED)
    status = Status.EXACT if _ALONE.fullmatch(text) else Status.REPAIRED
    return GroupScores({1: float(words[-1] == "yes")}, (), status)


def _read_probability(slot_probabilities: Sequence[Sequence[float]], status: Status) -> GroupScores:
    if (
        len(slot_probabilities) == 1
        and len(slot_probabilities[0]) == len(_WORDS)
        and are_probabilities(slot_probabilities[0])
    ):
        return GroupScores({1: float(slot_probabilities[0][_WORDS.index("Yes")])}, (), status)
    refused = (
        f"[1]: probabilities {list(map(list, slot_probabilities))}, not those of No and Yes",
    )
    return GroupScores({}, (1,), Status.FAILED, refused)
