"""A judge of groups made of qrels and noise, for studies that no budget of real calls would allow.

The judge sees of a document its grade through noise that is its own, and of a group what makes
groups differ. A document's score in a group is

    worth = low + (high - low) grade / highest + bias          bias  ~ N(0, bias^2), the document's
    score = centre + contrast (worth - context mean - centre)  ln contrast ~ N(0, contrast^2), group
            + drift + position (1/2 - place) + noise           drift ~ N(0, drift^2), the group's
                                                               noise ~ N(0, noise^2), each score's

where mean is the group's mean worth less that of the whole list, centre the list's mean worth, and
place runs from 0 to 1 through the prompt. It is cut to 0..10 and rounded to one of the levels,
as models use few of the eleven. Then replies fail, and labels are missing. Documents without
judgement (grade -1 here) count as grade 0 in measures, but are worth less to a judge than those
that were judged and found not relevant: some system had those among its best.

Everything drawn follows from the seed, the query and the group's members in their order: the same
prompt gets the same reply whatever else is asked, as from a model that decodes greedily, so plans
that share groups are compared on the same replies.

`judge_fit` fits the parameters to real replies.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmrankers_groupwise import Engine, Reply, Request, Sampling
from llmrankers_groupwise.types import MAX_SCORE, Group, GroupScores, ScoredGroup, Status

CUT_OFF = "<reason>\nPassage [1] is about the query, and passage [2]"
"""A reply that ran out of tokens in its reasoning."""


@dataclass(frozen=True, kw_only=True)
class JudgeParameters:
    """What a simulated judge is like, in points of the scale 0..10.

    Attributes:
        low, high: the mean scores of grade 0 and of the highest grade.
        unjudged: the mean score of documents without judgement.
        bias: standard deviation of what the judge thinks of a document in any company. Asking
            again does not help against it.
        noise: standard deviation of each score, drawn anew for every prompt.
        drift: standard deviation of a group's shift.
        contrast: standard deviation of the logarithm of a group's factor.
        context: the share of a group's mean that scores are taken relative to; 1 is a judge that
            only compares, 0 one that has a fixed scale.
        position: how much more the first place of a prompt gives than the last.
        levels: the number of different scores, 11 for all whole ones; 0 rounds nothing.
        malformed: the probability that a reply cannot be read.
        missing: the probability that a label has no score in a reply that can.
    """

    low: float = 2.0
    high: float = 8.0
    unjudged: float = 1.5
    bias: float = 1.0
    noise: float = 1.0
    drift: float = 0.0
    contrast: float = 0.0
    context: float = 0.0
    position: float = 0.0
    levels: int = 11
    malformed: float = 0.0
    missing: float = 0.0


IDEAL = JudgeParameters(low=0.0, high=10.0, unjudged=0.0, bias=0.0, noise=0.0, levels=0)
"""Scores are grades on another scale."""


class SimulatedJudge:
    """A judge of one query's documents.

    Args:
        query_id: the query.
        grades: of the candidates, in first-stage order; -1 for one without.
        parameters: what the judge is like.
        seed: which of all judges of that kind.
        highest: the highest grade of the collection.
    """

    def __init__(
        self,
        query_id: str,
        grades: Sequence[int],
        parameters: JudgeParameters,
        seed: int = 0,
        highest: int = 3,
    ) -> None:
        self.parameters = parameters
        self._key = [seed, zlib.crc32(query_id.encode())]
        share = np.clip(np.asarray(grades, float), 0, highest) / highest
        bias = np.random.default_rng(self._key).standard_normal(len(grades)) * parameters.bias
        worth = parameters.low + (parameters.high - parameters.low) * share
        self.worth = np.where(np.asarray(grades) < 0, parameters.unjudged, worth) + bias
        self.centre = float(self.worth.mean()) if len(grades) else 0.0

    def __call__(self, groups: Sequence[Group]) -> list[ScoredGroup]:
        """The groups with their scores."""
        return [self._judged(group) for group in groups]

    def raw(self, members: Sequence[int], rng: Any) -> Any:
        """Scores before they are cut and rounded: one for each member, in prompt order."""
        given, size = self.parameters, len(members)
        worth = self.worth[np.asarray(members, int)]
        factor, shift = np.exp(given.contrast * rng.standard_normal()), rng.standard_normal()
        relative = worth - given.context * (worth.mean() - self.centre) - self.centre
        place = np.arange(size) / max(size - 1, 1)
        noise = given.noise * rng.standard_normal(size)
        first = given.position * (0.5 - place)
        return self.centre + factor * relative + given.drift * shift + first + noise

    def rng(self, members: Sequence[int]) -> Any:
        """What everything about a prompt is drawn from."""
        return np.random.default_rng([*self._key, zlib.crc32(np.asarray(members, np.int64).data)])

    def _judged(self, group: Group) -> ScoredGroup:
        given, rng = self.parameters, self.rng(group.members)
        scores = np.clip(self.raw(group.members, rng), 0.0, MAX_SCORE)
        if given.levels:
            step = MAX_SCORE / (given.levels - 1)
            scores = np.round(np.round(scores / step) * step)
        labels = range(1, len(scores) + 1)
        fails = rng.random() < given.malformed
        there = (rng.random(len(scores)) >= given.missing) & (not fails)
        read = {label: float(scores[label - 1]) for label in labels if there[label - 1]}
        missing = tuple(label for label in labels if label not in read)
        status = Status.FAILED if not read else Status.PARTIAL if missing else Status.EXACT
        return ScoredGroup(group, GroupScores(read, missing, status))


class SimulatedEngine(Engine):
    """The same judge as an engine, so that the package itself asks it and reads its replies.

    Args:
        candidates: query_id -> doc_ids in first-stage order.
        qrels: query_id -> doc_id -> grade.
        parameters, seed: see `SimulatedJudge`.
    """

    scorings = ("generation",)

    def __init__(
        self,
        candidates: Mapping[str, Sequence[str]],
        qrels: Mapping[str, Mapping[str, int]],
        parameters: JudgeParameters,
        seed: int = 0,
    ) -> None:
        highest = max((grade for row in qrels.values() for grade in row.values()), default=1)
        self._parameters, self._seed = parameters, seed
        self._places = {
            query_id: {doc_id: place for place, doc_id in enumerate(doc_ids)}
            for query_id, doc_ids in candidates.items()
        }
        self._judges = {
            query_id: SimulatedJudge(
                query_id,
                [qrels.get(query_id, {}).get(doc_id, -1) for doc_id in doc_ids],
                parameters,
                seed,
                highest,
            )
            for query_id, doc_ids in candidates.items()
        }

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """A reply as the contract has it, one that was cut off, or one without some labels."""
        origin = request.origin
        places = self._places[origin.query_id]
        group = Group(origin.repeat, tuple(places[doc_id] for doc_id in origin.doc_ids))
        (scored,) = self._judges[origin.query_id]([group])
        scores = scored.scores.scores
        if not scores:
            return Reply(text=CUT_OFF, finish_reason="length")
        entries = ", ".join(f'"[{label}]": {scores[label]:g}' for label in sorted(scores))
        return Reply(text=f"<reason>simulated</reason>\n<answer>{{{entries}}}</answer>")

    def count_tokens(self, text: str) -> int:
        """Words."""
        return len(text.split())

    def truncate(self, text: str, length: int) -> str:
        """Everything: nothing is read."""
        return text

    def describe(self) -> dict[str, object]:
        """The parameters and the seed."""
        parameters = dataclasses.asdict(self._parameters)
        return {"engine": "simulated", "parameters": parameters, "seed": self._seed}

    def close(self) -> None:
        """Nothing to close."""
