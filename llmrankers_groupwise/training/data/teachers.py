"""Two teachers score pools of documents: one by one, and by their order in one call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.engines.base import Engine, EngineSettings
from llmrankers_groupwise.engines.registry import ENGINES, resolve_engine
from llmrankers_groupwise.errors import FailureRateError, FileError
from llmrankers_groupwise.journal.journal import Journal
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.pipeline.results import Ranked, Summary
from llmrankers_groupwise.rankers.base import MethodRanker
from llmrankers_groupwise.rankers.baselines import ListwiseLlmRanker, PointwiseLlmRanker
from llmrankers_groupwise.settings import INTERNAL, FilePath, Form
from llmrankers_groupwise.training.data.labels import average_ranks
from llmrankers_groupwise.types import Ranking, Sampling, Scoring, Status

__all__ = [
    "Teacher",
    "TeacherScores",
    "Teaching",
    "listwise_ranker",
    "naming",
    "pointwise_ranker",
    "score_pools",
    "teaching_engines",
]


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Who teaches, and how it is asked; names and meanings are those of every ranker.

    Attributes:
        engine: the engine that answers, by its name; in Python also an object of an `Engine`.
        settings: the engine's, where that is a name.
        prompt_file: the prompt: a file, or a name of `prompts list`; by default a bundled one.
        scoring: how the pointwise teacher answers; by default likelihood where the engine does it.
        sampling: how it draws tokens.
    """

    engine: Annotated[str | Engine, Form("NAME", choices=ENGINES)] = "embedded"
    settings: EngineSettings = field(default_factory=EngineSettings)
    prompt_file: FilePath | None = None
    scoring: Scoring | None = None
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """How all teachers are asked.

    Attributes:
        journals: a folder for their replies, so that nothing is asked twice; None keeps none.
        query_length: cut every query to this number of a teacher's tokens.
        passage_length: cut every passage to this number of a teacher's tokens.
        max_failure_rate: stop if a larger share of a teacher's replies fails.
        progress: show progress bars.
    """

    journals: Annotated[Path | None, INTERNAL] = None
    query_length: int = 128
    passage_length: int = 512
    max_failure_rate: float = 0.1
    progress: Annotated[bool, INTERNAL] = False

    def journal(self, name: str) -> Journal | None:
        """A teacher's journal; the folder is made.

        Raises:
            FileError: it cannot be made.
        """
        if self.journals is None:
            return None
        try:
            self.journals.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"cannot be made for teachers' replies ({error.strerror}): give another folder, or "
                f"keep no replies",
                self.journals,
            ) from error
        return Journal(self.journals / f"{name}.sqlite")


@dataclass
class TeacherScores:
    """A teacher's scores of all pools.

    Attributes:
        ranks: query_id -> doc_id -> rank from 1, equal scores sharing the mean of their ranks.
            Documents that a pointwise teacher did not score are not in it, nor are queries of which
            nothing could be read.
        summary: calls, tokens and statuses.
        tied: documents whose score another one of their pool has, too.
        unscored: documents that got no score or rank.
        described: the ranker, for the manifest.
    """

    ranks: dict[str, dict[str, float]] = field(default_factory=dict)
    summary: Summary = field(default_factory=Summary)
    tied: int = 0
    unscored: int = 0
    described: Mapping[str, Any] = field(default_factory=dict)


def teaching_engines(teachers: Sequence[Teacher]) -> list[Engine]:
    """The engine of each; equal ones are one, so that no model is loaded twice.

    Raises:
        SettingsError, MissingDependencyError: as `engines.base.resolve_engine`.
    """
    made: list[tuple[Teacher, Engine]] = []
    for each in teachers:
        same = (
            engine
            for teacher, engine in made
            if (teacher.engine, teacher.settings) == (each.engine, each.settings)
        )
        engine = next(same, None) or resolve_engine(each.engine, each.settings)
        made.append((each, engine))
    return [engine for _, engine in made]


def pointwise_ranker(teacher: Teacher, engine: Engine) -> MethodRanker:
    """The teacher that scores every document 0..10 by itself."""
    return PointwiseLlmRanker(
        prompt_file=teacher.prompt_file,
        engine=engine,
        scoring=teacher.scoring,
        method="graded",
        sampling=teacher.sampling,
    )


def listwise_ranker(teacher: Teacher, engine: Engine, pool: int) -> MethodRanker:
    """The teacher that orders a pool of at most `pool` documents in one call."""
    return ListwiseLlmRanker(
        prompt_file=teacher.prompt_file,
        engine=engine,
        window_size=max(2, pool),
        step_size=1,  # a window holds the whole pool, and never slides
        sampling=teacher.sampling,
    )


def score_pools(name: str, ranker: MethodRanker, pools: FirstStage, how: Teaching) -> TeacherScores:
    """Score all pools.

    Args:
        name: of the journal, and in error messages.
        ranker: a pointwise or a listwise one; its journal is set, and closed at the end.
        pools: what is to be scored.
        how: where replies are kept, and the like.

    Raises:
        FailureRateError: too much failed; what was answered is in the journal.
        JournalError: the journal cannot be used.
    """
    scored = TeacherScores()

    def note(ranked: Ranked) -> None:
        doc_ids = [str(each.doc_id) for each in ranked.candidates]
        ranks = _ranks(ranked.ranking, doc_ids, whole=ranker.method == "listwise")
        scored.unscored += len(doc_ids) - len(_scores(ranked.ranking))
        if not ranks:
            return
        scored.ranks[ranked.query.query_id] = ranks
        values = list(ranks.values())
        scored.tied += sum(values.count(rank) > 1 for rank in values)

    experiment = Experiment(
        first_stage=pools,
        ranker=ranker,
        save_path=None,
        query_length=how.query_length,
        passage_length=how.passage_length,
        max_failure_rate=how.max_failure_rate,
        tag=name,
        progress=how.progress,
        watch=note,
    )
    ranker.journal = how.journal(name)
    try:
        with naming(name):
            scored.summary = experiment.run()
        scored.described = ranker.describe()
    finally:
        if ranker.journal is not None:
            ranker.journal.close()
            ranker.journal = None
    return scored


@contextlib.contextmanager
def naming(teacher: str) -> Iterator[None]:
    """An error about too many failures names the teacher that failed."""
    try:
        yield
    except FailureRateError as error:
        raise FailureRateError(f"the {teacher} teacher: {error}") from error


def _scores(ranking: Ranking) -> dict[int, float]:
    """Candidate -> its score; the first of n ordered ones has n."""
    return {
        group.group.members[label - 1]: score
        for group in ranking.groups
        if group.scores.status is not Status.FAILED
        for label, score in group.scores.scores.items()
    }


def _ranks(ranking: Ranking, doc_ids: Sequence[str], *, whole: bool) -> dict[str, float]:
    """doc_id -> rank; `whole` gives those without a rank the mean of the ranks that are left."""
    scores = _scores(ranking)
    if not scores:
        return {}
    if whole:
        scores = {index: scores.get(index, 0.0) for index in range(len(doc_ids))}
    ranks = average_ranks(list(scores.values()))
    return {doc_ids[index]: rank for index, rank in zip(scores, ranks, strict=True)}
