"""A run: many queries reranked into a run file, with its manifest and its summary."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

from tqdm import tqdm

from llmrankers_groupwise.concurrency import run_interruptibly
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.manifest import check_save_path, plain, versions, write_run
from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.data.run_files import RunEntry, write_ranking
from llmrankers_groupwise.errors import InputError, SettingsError
from llmrankers_groupwise.evaluation.measures import DEFAULT_MEASURES, check_measures, evaluate
from llmrankers_groupwise.journal.run_description import RunDescription, RunIdentity
from llmrankers_groupwise.pipeline.results import Ranked, Ranker, Summary
from llmrankers_groupwise.rankers.failures import FailureMonitor, check_failure_rate
from llmrankers_groupwise.settings import INTERNAL, Names, Positive, values_of

__all__ = ["Experiment"]

IN_FLIGHT = 64
"""The number of queries in flight together: enough to fill an engine, few enough for memory."""

AHEAD = 1024
"""The most queries that may be done before the one that is to be written next."""


@dataclass(kw_only=True)
class Experiment:
    """A first stage to rerank, and what is to be done with the result.

    Attributes:
        first_stage: run, queries and passages.
        ranker: e.g. a GroupwiseLlmRanker.
        save_path: the run file to write; `<save_path>.manifest.json` is written beside it. None
            writes neither.
        query_length: cut every query to this number of the engine's tokens.
        passage_length: cut every passage to this number of the engine's tokens.
        qrels: judgements to measure the run before and after with; None for none.
        measures: names of measures in ir_measures.
        allow_missing: keep a document without text at its first-stage rank instead of stopping.
        max_failure_rate: stop the run if a larger share of groups fails.
        number_of_shards: cut the run into this number of parts, of neighbouring queries.
        shard_index: rerank this part of the run; the first one is 0.
        tag: the run's name, the last column of the run file.
        settings: what else the manifest should have, e.g. the command's options.
        config: the configuration that repeats the run, for the manifest.
        in_flight: the number of queries that are asked about at the same time.
        progress: show a progress bar on standard error.
        watch: is shown every reranked query, in the order of the run.
        summary: what was done so far, also where `run` ends by an exception.
    """

    first_stage: FirstStage
    ranker: Ranker
    save_path: Annotated[str | Path | None, INTERNAL]
    query_length: Positive = 128
    passage_length: Positive = 512
    qrels: Qrels | None = None
    measures: Names = DEFAULT_MEASURES
    allow_missing: bool = False
    max_failure_rate: float = 0.1
    number_of_shards: Positive = 1
    shard_index: int = 0
    tag: Annotated[str, INTERNAL] = "groupwise"
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    in_flight: Annotated[int, INTERNAL] = IN_FLIGHT
    progress: Annotated[bool, INTERNAL] = False
    watch: Callable[[Ranked], None] | None = None
    summary: Summary = field(init=False, default_factory=Summary)

    def run(self) -> Summary:
        """Rerank everything, then write manifest and run file to their paths.

        Where an event loop runs already, call `await asyncio.to_thread(experiment.run)`. With a
        journal in the ranker, what is in that is not asked again.

        Raises:
            InputError: what would stop the run, found out before anything is asked.
            FailureRateError: too many groups failed; neither file is written.
            JournalError: the journal cannot be written.
        """
        self._check()
        self.summary = summary = Summary(
            skipped=self.first_stage.check(allow_missing=self.allow_missing)
        )
        self._begin()
        if self.save_path is None:
            self._fill(summary, None)
            return summary
        with write_run(self.save_path) as (out, manifest):
            self._fill(summary, out)
            described = self._described().as_dict()
            of_journals = ("queries", "asked")
            manifest |= {name: described[name] for name in described if name not in of_journals}
            manifest["counters"] = summary.as_dict()
            if self.config:
                manifest["config"] = self.config
        return summary

    def check_reranked(self, query_ids: Sequence[str]) -> None:
        """Raise SettingsError if one of these queries of the run is in another shard than this."""
        self._check_shard()
        mine, wanted = self._indexes(), set(query_ids)
        for index, query_id in enumerate(self.first_stage.run if wanted else ()):
            if query_id in wanted and index not in mine:
                raise SettingsError(
                    f"query {query_id} is not in shard {self.shard_index} of "
                    f"{self.number_of_shards}: ask for it where it is"
                )

    def _begin(self) -> None:
        """Tell the journal what is going to be asked."""
        if self.ranker.journal is None:
            return
        asked = RunIdentity(
            query_length=self.query_length,
            passage_length=self.passage_length,
            first_stage=self.first_stage.digest(),
            **plain(self.ranker.run_identity()),
        )
        described = dataclasses.replace(
            self._described(), queries=len(self.first_stage.run), asked=asked
        )
        self.ranker.journal.begin(described)

    def _indexes(self) -> range:
        """The indexes of the queries to rerank: with shards, the part that is this one's."""
        each, longer = divmod(len(self.first_stage.run), self.number_of_shards)
        before = self.shard_index * each + min(self.shard_index, longer)
        return range(before, before + each + (self.shard_index < longer))

    def _check(self) -> None:
        if self.save_path is not None:
            check_save_path(self.save_path)
        check_measures(self.measures)
        check_failure_rate(self.max_failure_rate)
        if self.qrels is not None and not self.qrels.keys() & self.first_stage.run.keys():
            raise InputError(
                f"none of the {len(self.qrels)} judged queries is in the run; are the qrels of "
                f"another collection?"
            )
        for name in ("query_length", "passage_length"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}: give 1 or more tokens")
        self._check_shard()

    def _check_shard(self) -> None:
        shards, index, queries = self.number_of_shards, self.shard_index, len(self.first_stage.run)
        if not 1 <= shards <= queries:
            raise SettingsError(
                f"the number of shards is {shards}: give 1 to {queries}, the queries of the run"
            )
        if not 0 <= index < shards:
            raise SettingsError(f"the shard index is {index}: give 0 to {shards - 1}")
        if shards > 1 and self.qrels is not None:
            raise SettingsError(
                "a shard has not all judged queries: give the qrels when its journal is merged "
                "with the others'"
            )

    def _fill(self, summary: Summary, out: IO[str] | None) -> None:
        """Rerank everything into `out`, and note in the summary what came of it."""
        started = time.perf_counter()
        summary.statuses = FailureMonitor().as_dict()
        try:
            reranked = run_interruptibly(self._rerank(out, summary))
        finally:
            summary.seconds = time.perf_counter() - started
        self._measure(reranked, summary)

    async def _rerank(self, out: IO[str] | None, summary: Summary) -> dict[str, dict[str, float]]:
        """Write every ranking to `out`, and return the scores of the judged queries."""
        reranked: dict[str, dict[str, float]] = {}
        tally = FailureMonitor(self.max_failure_rate)
        done_besides: list[Ranked] = []
        bar = tqdm(total=len(self._indexes()), unit="query", disable=not self.progress)
        try:
            async with contextlib.aclosing(self._in_order(done_besides)) as stream:
                async for ranked in stream:
                    query_id, documents = ranked.query.query_id, ranked.ranking.documents
                    if out is not None:
                        write_ranking(out, query_id, documents, self.tag)
                    _count(ranked, tally, summary)
                    tally.check()
                    if self.qrels and query_id in self.qrels:
                        reranked[query_id] = {each.doc_id: each.score for each in documents}
                    if self.watch:
                        self.watch(ranked)
                    bar.update()
            tally.check(at_end=True)
        finally:
            bar.close()
            for ranked in done_besides:  # of a run that ends early, what its end overtook
                _count(ranked, tally, summary)
        return reranked

    async def _in_order(self, done_besides: list[Ranked]) -> AsyncGenerator[Ranked, None]:
        """All queries reranked, in the order of the run, `in_flight` of them at a time.

        Ended early, it leaves those that were done, too, in `done_besides`.
        """
        waiting: deque[asyncio.Task[Ranked]] = deque()
        slots, mine = asyncio.Semaphore(self.in_flight), self._indexes()
        try:
            for index, (query_id, entries) in enumerate(self.first_stage.run.items()):
                if index >= mine.stop:
                    break
                if index in mine:
                    ranked = self._ranked(index, query_id, entries, slots)
                    waiting.append(asyncio.create_task(ranked))
                if len(waiting) >= max(AHEAD, 2 * self.in_flight):
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            done_besides += [each for each in ends if isinstance(each, Ranked)]

    async def _ranked(
        self,
        index: int,
        query_id: str,
        entries: Sequence[RunEntry],
        slots: asyncio.Semaphore,
    ) -> Ranked:
        async with slots:
            query, candidates = self.first_stage.candidates(
                query_id, entries, self.ranker.truncate, self.query_length, self.passage_length
            )
            if self.ranker.journal is not None:
                self.ranker.journal.add_query(index, query, candidates)
            ranking, usage = await self.ranker.rank_candidates(query, candidates)
            return Ranked(query, candidates, ranking, usage)

    def _measure(self, reranked: Mapping[str, Mapping[str, float]], summary: Summary) -> None:
        """Measure before and after over every judged query, in the run or not."""
        if self.qrels is None:
            return
        run = self.first_stage.run
        first = {
            query_id: {entry.doc_id: entry.score for entry in run[query_id]}
            for query_id in self.qrels
            if query_id in run
        }
        before = evaluate(self.qrels, first, self.measures)
        after = evaluate(self.qrels, reranked, self.measures)
        summary.judged_queries = len(self.qrels)
        summary.judged_queries_missing = len(self.qrels) - len(first)
        summary.measures = {
            measure: {"before": before[measure], "after": after[measure]}
            for measure in self.measures
        }

    def _described(self) -> RunDescription:
        """What is run and by whom, for manifest and journal."""
        own = {**values_of(self, Experiment), "tag": self.tag}
        described = self.ranker.describe()
        return RunDescription.from_json(
            plain({"versions": versions(), "run": {**own, **self.settings}, **described})
        )


def _count(ranked: Ranked, tally: FailureMonitor, summary: Summary) -> None:
    """Add a query to what a run did."""
    tally.add(ranked.ranking)
    summary.statuses = tally.as_dict()
    summary.queries += 1
    summary.documents += len(ranked.ranking.documents)
    summary.groups += len(ranked.ranking.groups)
    summary.skipped_groups += ranked.ranking.skipped_groups
    summary.usage += ranked.usage
