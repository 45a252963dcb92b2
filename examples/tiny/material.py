"""Matching tasks on real words: queries, short documents, and how many query words each holds."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrankers_groupwise.data import FirstStage, RunEntry
from llmrankers_groupwise.data.qrels import Qrels

__all__ = [
    "QUERY_WORDS",
    "Material",
    "Task",
    "Texts",
    "make_collection",
    "make_task",
    "read_material",
]

QUERY_WORDS = 4
DOCUMENT_WORDS = 5
_COMMONEST = 80  # words that say little
_WORDS = 400
_HELD_OUT = 16  # queries of trec-dl22 whose passages are for measuring only
_FIRST_STAGE_NOISE = 4.0  # standard deviation, in matching words
_SHARES = {0: 3, 1: 2, 2: 2, 3: 1, 4: 1}
"""Of documents in a task with this number of the query's words."""


@dataclass(frozen=True)
class Material:
    """Text to make tasks of.

    Attributes:
        words: the vocabulary of the tasks.
        train, held_out: passages as those of their words that are in it.
        texts: passages as they are, for training alone.
    """

    words: tuple[str, ...]
    train: tuple[tuple[str, ...], ...]
    held_out: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A query, documents, and how many of its words are in each."""

    query: tuple[str, ...]
    documents: tuple[tuple[str, ...], ...]

    @property
    def counts(self) -> list[int]:
        """Matching words of each document, 0..QUERY_WORDS."""
        return [len(set(self.query) & set(document)) for document in self.documents]


def read_material(shared: Path) -> Material:
    """Passages of trec-dl22 and of the training lists; no collection that anything is measured on.

    Raises:
        OSError: the collections are not there.
    """
    train: list[str] = []
    held_out: list[str] = []
    queries = [
        (row["query"]["qid"], [each["doc"]["contents"] for each in row["candidates"]])
        for path in sorted((shared / "collections/trec-dl22/candidates").glob("*.jsonl"))
        for row in _rows(path)
    ]
    reserved = sorted({query_id for query_id, _ in queries})[:_HELD_OUT]
    for query_id, passages in queries:
        (held_out if query_id in reserved else train).extend(passages)
    for path in sorted((shared / "collections/training-lists/flagembedding").glob("*.jsonl")):
        train += [text for row in _rows(path) for text in row.get("pos", []) + row.get("neg", [])]
    texts = tuple(sorted(set(train)))
    counted = Counter(word for text in texts for word in _words(text))
    words = tuple(word for word, _ in counted.most_common(_COMMONEST + _WORDS)[_COMMONEST:])
    held_out_texts = sorted(set(held_out) - set(train))
    return Material(words, _known(texts, words), _known(held_out_texts, words), texts)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _words(text: str) -> list[str]:
    return re.findall("[a-z]{3,}", text.lower())


def _known(texts: Sequence[str], words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    known = set(words)
    kept = (tuple(word for word in _words(text) if word in known) for text in texts)
    return tuple(each for each in kept if len(each) > DOCUMENT_WORDS)


def make_task(
    rng: random.Random, words: Sequence[str], passages: Sequence[Sequence[str]], n: int
) -> Task:
    """A query of random words, and n snippets of passages in which some of its words are put."""
    query = rng.sample(words, QUERY_WORDS)
    documents = []
    for planted in rng.choices(list(_SHARES), list(_SHARES.values()), k=n):
        passage = rng.choice(passages)
        start = rng.randrange(len(passage) - DOCUMENT_WORDS)
        snippet = list(passage[start : start + DOCUMENT_WORDS])
        places = rng.sample(range(DOCUMENT_WORDS), planted)
        for word, place in zip(rng.sample(query, planted), places, strict=True):
            snippet[place] = word
        documents.append(tuple(snippet))
    return Task(tuple(query), tuple(documents))


class Texts(dict[str, str]):
    """Passages in memory: doc_id -> text."""

    def texts(self, query_id: str, doc_ids: Sequence[str]) -> list[str | None]:
        """The text of each document."""
        return [self.get(doc_id) for doc_id in doc_ids]

    def problems(self, query_id: str, doc_ids: Sequence[str]) -> dict[str, str]:
        """Documents without a text."""
        return {doc_id: "unknown" for doc_id in doc_ids if doc_id not in self}


def make_collection(
    material: Material, *, held_out: bool, queries: int, documents: int
) -> tuple[FirstStage, Qrels]:
    """Tasks as a collection: a first stage that ranks badly, and how many words match."""
    rng = random.Random(f"held out: {held_out}")
    passages = material.held_out if held_out else material.train
    name = "held_out" if held_out else "train"
    run: dict[str, list[RunEntry]] = {}
    asked: dict[str, str] = {}
    texts = Texts()
    qrels: Qrels = {}
    for number in range(queries):
        query_id = f"{name}{number}"
        task = make_task(rng, material.words, passages, documents)
        asked[query_id] = " ".join(task.query)
        qrels[query_id] = {}
        entries = []
        for place, (document, count) in enumerate(zip(task.documents, task.counts, strict=True)):
            doc_id = f"{query_id}-{place}"
            texts[doc_id] = " ".join(document)
            qrels[query_id][doc_id] = count
            entries.append(RunEntry(doc_id, rng.gauss(count, _FIRST_STAGE_NOISE)))
        run[query_id] = sorted(entries, key=lambda entry: -entry.score)
    return FirstStage(run, asked, texts), qrels
