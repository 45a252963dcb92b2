"""The files of a training set."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from llmrankers_groupwise.data.manifest import versions
from llmrankers_groupwise.data.run_files import write_ranking
from llmrankers_groupwise.engines.base import installed
from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.rankers.checkpoints import PROMPT
from llmrankers_groupwise.scores import strictly_decreasing
from llmrankers_groupwise.training.data.labels import Kind, Labelled
from llmrankers_groupwise.training.data.list_settings import ListSettings
from llmrankers_groupwise.training.data.load import MANIFEST, ROW_FILES, file_sha256
from llmrankers_groupwise.training.data.pools import Pools
from llmrankers_groupwise.training.data.reasons import Draft, Reasoned
from llmrankers_groupwise.training.data.rows import (
    Row,
    rl_row,
    sentence_transformers_rows,
    sft_row,
    tevatron_row,
    trained_negatives,
)
from llmrankers_groupwise.types import RankedDocument

__all__ = ["LABELS", "POOL", "RETRIEVER_FILES", "Made", "write_training_set"]

logger = logging.getLogger(__name__)

POOL = "pool.trec"
LABELS = "labels.jsonl"
RETRIEVER_FILES: Mapping[str, str] = {
    "sentence_transformers": "sentence-transformers.jsonl",
    "tevatron": "tevatron.jsonl",
}

_COUNTED: Mapping[str, str] = {
    "sft_rows": ROW_FILES["sft"],
    "rl_rows": ROW_FILES["rl"],
    "retriever_rows": RETRIEVER_FILES["sentence_transformers"],
}


@dataclass
class Made:
    """A training set as written.

    Attributes:
        folder: where it is being written.
        head: what its manifest begins with.
        rows: file -> its rows.
        manifest: the whole of it, once it is written.
    """

    folder: Path
    head: Mapping[str, Any]
    rows: dict[str, int] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)

    def describe(self, more: Mapping[str, Any]) -> None:
        """Write the manifest."""
        files = {
            name: {"rows": rows, "sha256": file_sha256(self.folder / name)}
            for name, rows in self.rows.items()
        }
        packages = installed("bm25s", "pyserini", "sentence-transformers", "transformers")
        self.manifest = {
            "format": 1, **self.head, "files": files, **more, "versions": versions() | packages,
        }  # fmt: skip
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False)
        (self.folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def write_training_set(
    folder: Path,
    pools: Pools,
    labelled: Iterable[Labelled],
    drafts: Callable[[Kind, Labelled], Iterator[Draft]],
    lists: ListSettings,
    prompt: tuple[PromptFile, bytes],
    reasoned: Reasoned | None,
) -> Made:
    """Write everything but the manifest; a file that would have no rows is left out.

    Args:
        folder: an empty one.
        pools: what was scored; its counts get those of rows.
        labelled: the pools with labels.
        drafts: the lists of a pool for one kind of rows.
        lists: what is to be made.
        prompt: the trained model's prompt file, and its bytes.
        reasoned: reasons for SFT rows, which without one are left out; None leaves reasons empty.
    """
    file, content = prompt
    (folder / PROMPT).write_bytes(content)
    _write_pools(folder, pools)
    head = {
        "method": lists.method,
        "reasons": lists.reasons,
        "prompt": {"name": file.name, "sha256": file_sha256(folder / PROMPT)},
    }
    made = Made(folder, head)
    wanted = {
        ROW_FILES["sft"]: lists.sft_lists,
        ROW_FILES["rl"]: lists.rl_lists,
        **dict.fromkeys(RETRIEVER_FILES.values(), lists.positives),
        LABELS: True,
    }
    with ExitStack() as stack:
        out = {
            name: stack.enter_context((folder / name).open("w", encoding="utf-8", newline="\n"))
            for name, count in wanted.items()
            if count
        }
        made.rows = dict.fromkeys(out, 0)

        def write(name: str, row: Row) -> None:
            _write(out[name], row)
            made.rows[name] += 1

        for pool in labelled:
            write(LABELS, _labels(pool))
            for draft in drafts("sft", pool):
                reason = reasoned and reasoned.reasons.get((pool.query_id, draft.number))
                if reasoned is None or reason:
                    row = sft_row(pool, draft.chosen, lists.method, file, reason or None)
                    write(ROW_FILES["sft"], row)
            for draft in drafts("rl", pool):
                write(ROW_FILES["rl"], rl_row(pool, draft.chosen, lists.method, file))
            if lists.positives:
                _write_retriever_rows(pool, lists, pools, write)
    pools.counts.update({what: made.rows.get(name, 0) for what, name in _COUNTED.items()})
    _drop_empty(made)
    return made


def _drop_empty(made: Made) -> None:
    for name in [name for name, rows in made.rows.items() if not rows]:
        logger.warning("%s would have no rows, and is not made: see what was left out", name)
        (made.folder / name).unlink()
        del made.rows[name]


def _write_retriever_rows(
    pool: Labelled, lists: ListSettings, pools: Pools, write: Callable[[str, Row], None]
) -> None:
    """Both layouts, of pools that have as many hard negatives as every row must have."""
    negatives = trained_negatives(pool, lists.positives, lists.negatives)
    if len(negatives) < lists.negatives:
        pools.counts["pools_without_hard_negatives"] += 1
        return
    for row in sentence_transformers_rows(pool, lists.positives, negatives):
        write(RETRIEVER_FILES["sentence_transformers"], row)
    write(RETRIEVER_FILES["tevatron"], tevatron_row(pool, lists.positives, negatives))


def _labels(pool: Labelled) -> Row:
    return {
        "query_id": pool.query_id,
        "doc_ids": list(pool.doc_ids),
        "gold": list(pool.gold),
        "first_stage": list(pool.first_stage),
    }


def _write_pools(folder: Path, pools: Pools) -> None:
    with (folder / POOL).open("w", encoding="utf-8", newline="\n") as out:
        for query_id, entries in pools.stage.run.items():
            scores = strictly_decreasing([entry.score for entry in entries])
            documents = [
                RankedDocument(entry.doc_id, score, None, rank)
                for rank, (entry, score) in enumerate(zip(entries, scores, strict=True), 1)
            ]
            write_ranking(out, query_id, documents, "pool")


def _write(out: IO[str], row: Row) -> None:
    out.write(json.dumps(row, ensure_ascii=False) + "\n")
