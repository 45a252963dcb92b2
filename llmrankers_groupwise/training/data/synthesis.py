"""A training set from queries, candidates and teachers, without anybody's answers.

GroupRank (arXiv 2511.11653v3): two teachers score a pool of each query's candidates once, and
lists of many sizes are cut from the order that they agree on (`labels`). The same pools make
setwise lists (Rank-R1, arXiv 2503.06034) and rows for retrievers.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.manifest import plain
from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.errors import InputError, SettingsError
from llmrankers_groupwise.files.atomic import check_new_folder, new_folder
from llmrankers_groupwise.prompting.prompt_file import PromptFile, bundled_prompts, prompt_source
from llmrankers_groupwise.rankers.failures import check_failure_rate
from llmrankers_groupwise.scores import seeded
from llmrankers_groupwise.settings import Form
from llmrankers_groupwise.training.data.labels import (
    Kind,
    Labelled,
    SubList,
    drawn_size,
    setwise_list,
    sub_list,
)
from llmrankers_groupwise.training.data.list_settings import ListSettings
from llmrankers_groupwise.training.data.load import MANIFEST
from llmrankers_groupwise.training.data.pools import (
    Pools,
    PoolSettings,
    judged_pools,
    labelled_pools,
    make_pools,
)
from llmrankers_groupwise.training.data.prompt_limits import PromptLimits, PromptMeasure
from llmrankers_groupwise.training.data.reasons import (
    Draft,
    Reasoned,
    ask_for_reasons,
    check_writer,
    reason_prompt,
)
from llmrankers_groupwise.training.data.rows import asks_for_reasoning, rl_row
from llmrankers_groupwise.training.data.teachers import (
    Teacher,
    TeacherScores,
    Teaching,
    listwise_ranker,
    pointwise_ranker,
    score_pools,
    teaching_engines,
)
from llmrankers_groupwise.training.data.write import Made, write_training_set

__all__ = ["Synthesis"]

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Synthesis:
    """A training set to be made.

    Attributes:
        save_path: the folder to make, whole or not at all.
        pointwise, listwise: the teachers; with qrels no engine is called.
        reasoner: who writes reasons, where they are wanted.
        lists, pools, limits, teaching: settings of each step. With journals in `teaching`, the same
            command again asks only what was not answered yet, however the last one ended.
        qrels: judgements to make setwise lists of, without teachers; None for none.
        allow_missing: leave out what has no text, instead of stopping.
        force: replace a training set that was made before.
        described: what else the manifest should have, e.g. the command's options.
        counts: what was done, also where `run` ends by an exception.
    """

    save_path: Annotated[str | Path, Form("FOLDER")]
    pointwise: Teacher = field(default_factory=Teacher)
    listwise: Teacher = field(default_factory=Teacher)
    reasoner: Teacher = field(default_factory=Teacher)
    lists: ListSettings = field(default_factory=ListSettings)
    pools: PoolSettings = field(default_factory=PoolSettings)
    limits: PromptLimits = field(default_factory=PromptLimits)
    teaching: Teaching = field(default_factory=Teaching)
    qrels: Qrels | None = None
    allow_missing: bool = False
    force: bool = False
    described: Mapping[str, Any] = field(default_factory=dict)
    counts: Counter[str] = field(init=False, default_factory=Counter)

    def run(self, candidates: Callable[[], FirstStage]) -> Made:
        """Make it.

        Args:
            candidates: gives the first stage, once everything that can be checked before is.

        Raises:
            InputError: what would stop it, found out before anything is asked.
            FailureRateError: a teacher failed too often; its other replies are kept.
        """
        self._check()
        prompt, content = prompt_source(self.lists.prompt)
        if self.lists.reasons == "none" and self.lists.sft_lists and asks_for_reasoning(prompt):
            logger.warning(
                "the prompt %s asks for reasoning, and the SFT rows have none, so they teach to "
                "leave it out: give reasons, or sft_lists 0 for RL rows alone",
                prompt.name,
            )
        engines = teaching_engines([self.pointwise, self.listwise, self.reasoner])
        try:
            if self.lists.reasons != "none" and self.lists.sft_lists:
                reason_prompt(self.lists.reasons, self.lists.method, self.reasoner)
                check_writer(engines[2])
            student = PromptMeasure(self.limits, engines[0].truncate)
            pools = make_pools(candidates(), self.pools, allow_missing=self.allow_missing)
            self.counts = pools.counts
            teachers = self._scored(pools, engines)

            def labelled(counts: Counter[str]) -> Iterator[Labelled]:
                return self._labelled(dataclasses.replace(pools, counts=counts), teachers, student)

            reasoned = self._reasoned(labelled, prompt, student, engines[2])
            with new_folder(self.save_path, MANIFEST, force=self.force) as folder:
                made = write_training_set(
                    folder,
                    pools,
                    labelled(self.counts),
                    lambda kind, pool: self._drafts(kind, pool, prompt, student, self.counts),
                    self.lists,
                    (prompt, content),
                    reasoned,
                )
                made.describe(self._manifest(teachers, reasoned))
            return made
        finally:
            for engine in dict.fromkeys(engines):
                engine.close()

    def _check(self) -> None:
        check_new_folder(self.save_path, MANIFEST, force=self.force)
        check_failure_rate(self.teaching.max_failure_rate)
        if self.qrels is not None and self.lists.method != "setwise":
            raise SettingsError("qrels make setwise lists only: give method setwise, or drop them")
        journals, path = self.teaching.journals, Path(self.save_path).absolute()
        if journals is not None and journals.absolute().is_relative_to(path):
            raise SettingsError(
                f"the journals {journals} would be in {self.save_path}, which is made at the end: "
                f"keep them elsewhere"
            )
        name = self.lists.prompt
        if name in bundled_prompts() and not name.startswith(self.lists.method):
            raise SettingsError(
                f"the prompt {name} is none of {self.lists.method} lists: give another one, or "
                f"drop prompt_file"
            )
        largest = max(self.lists.group_sizes, default=0)
        if self.lists.smallest > self.pools.size or largest > self.pools.size:
            raise SettingsError(
                f"pools have {self.pools.size} documents at most, and lists are to have "
                f"{max(largest, self.lists.smallest)}: make pools larger, or lists smaller"
            )

    def _scored(self, pools: Pools, engines: list[Engine]) -> dict[str, TeacherScores]:
        """The teachers' scores, the pointwise one first."""
        if self.qrels is not None:
            return {}
        rankers = {
            "pointwise": pointwise_ranker(self.pointwise, engines[0]),
            "listwise": listwise_ranker(self.listwise, engines[1], self.pools.size),
        }
        scored = {}
        for name, ranker in rankers.items():
            scores = score_pools(name, ranker, pools.stage, self.teaching)
            self.counts[f"{name}_tied"] = scores.tied
            self.counts[f"{name}_unjudged"] = scores.unscored
            scored[name] = scores
        return scored

    def _labelled(
        self, pools: Pools, teachers: Mapping[str, TeacherScores], student: PromptMeasure
    ) -> Iterator[Labelled]:
        def cut(query_id: str, entries: Any) -> Any:
            return student.cut(pools.stage, query_id, entries)

        smallest, seed = self.lists.smallest, self.lists.seed
        if self.qrels is not None:
            return judged_pools(pools, self.qrels, smallest, cut, seed=seed)
        both = teachers["pointwise"], teachers["listwise"]
        return labelled_pools(pools, *both, self.lists.beta, smallest, cut)

    def _reasoned(
        self,
        labelled: Callable[[Counter[str]], Iterator[Labelled]],
        prompt: PromptFile,
        student: PromptMeasure,
        engine: Engine,
    ) -> Reasoned | None:
        """Reasons for all SFT lists; None where none are wanted."""
        if self.lists.reasons == "none" or not self.lists.sft_lists:
            return None
        unused: Counter[str] = Counter()  # the same lists are made, and counted, again
        drafts = (
            draft
            for pool in labelled(unused)
            for draft in self._drafts("sft", pool, prompt, student, unused)
        )
        lists = self.lists
        reasoned = ask_for_reasons(
            lists.reasons, lists.method, drafts, self.reasoner, engine, self.teaching,
            lists.min_agreement,
        )  # fmt: skip
        self.counts.update({f"reasons_{name}": n for name, n in reasoned.counts.items()})
        return reasoned

    def _drafts(
        self,
        kind: Kind,
        pool: Labelled,
        prompt: PromptFile,
        student: PromptMeasure,
        counts: Counter[str],
    ) -> Iterator[Draft]:
        """The lists of a pool for one kind of rows."""
        written = kind == "sft" and self.lists.method == "groupwise"
        for number in range(self.lists.sft_lists if kind == "sft" else self.lists.rl_lists):
            chosen = self._chosen(kind, pool, number)
            scores = [round(score) for score in chosen.gold] if written else chosen.gold
            if min(scores) == max(scores):  # such an answer has no order
                counts["lists_all_equal"] += 1
            elif not student.fits(rl_row(pool, chosen, self.lists.method, prompt)):
                counts["rows_too_long"] += 1
            else:
                if self.lists.method == "setwise":
                    counts["lists_below_size"] += len(chosen.gold) < self.lists.setwise_size
                yield Draft(pool, number, chosen)

    def _chosen(self, kind: Kind, pool: Labelled, number: int) -> SubList:
        rng = seeded(self.lists.seed, kind, number, pool.query_id)
        if self.lists.method == "setwise":
            return setwise_list(pool, self.lists.setwise_size, rng)
        size = drawn_size(self.lists.shares(kind), len(pool.doc_ids), rng)
        return sub_list(pool, size, rng)

    def _manifest(self, teachers: Mapping[str, TeacherScores], reasoned: Reasoned | None) -> Any:
        if not any(self.counts[name] for name in ("sft_rows", "rl_rows", "retriever_rows")):
            counted = {name: count for name, count in self.counts.items() if count}
            raise InputError(
                f"not a row came of it; what was counted: {counted}: give more candidates, smaller "
                f"lists or longer prompts, by what was left out"
            )
        own = {
            name: dataclasses.asdict(getattr(self, name)) for name in ("lists", "pools", "limits")
        }
        told = {
            name: {"ranker": each.described, "summary": each.summary.as_dict()}
            for name, each in teachers.items()
        }
        if reasoned is not None:
            usage = {"usage": dataclasses.asdict(reasoned.usage)}
            told["reasons"] = {"ranker": reasoned.described, "summary": usage}
        return plain(
            {"settings": {**own, **self.described}, "teachers": told, "counts": dict(self.counts)}
        )
