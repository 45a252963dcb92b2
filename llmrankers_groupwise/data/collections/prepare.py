"""A test collection as a folder that holds all a run needs, and nothing that must not count.

Excluded documents are taken out of the first stage before it is cut to length, so that a reranker
never sees them and every query keeps as many candidates as there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmrankers_groupwise.data.collections.topics import Topics
from llmrankers_groupwise.data.manifest import versions
from llmrankers_groupwise.data.passages import Passages
from llmrankers_groupwise.data.run_files import Run, RunEntry, write_ranking
from llmrankers_groupwise.errors import InputError
from llmrankers_groupwise.scores import strictly_decreasing
from llmrankers_groupwise.types import RankedDocument

__all__ = ["FILES", "Prepared", "Ranked", "prepare", "ranked_by_run", "ranked_by_search"]

FILES = {
    "queries": "queries.jsonl",
    "qrels": "qrels.txt",
    "excluded": "excluded.tsv",
    "run": "first_stage.trec",
    "passages": "corpus.jsonl",
    "made": "prepared.json",
}
"""The files of the folder, by what they hold."""

_EXAMPLES = 5

Ranked = Iterator[tuple[str, Sequence[RunEntry]]]
"""Queries with their documents, best first, excluded ones not yet taken out."""


@dataclass
class Prepared:
    """What was written, counted.

    `unjudged` are queries of the collection without a judgement, which are left out; `removed`
    documents that were taken out of the first stage; `short` queries with fewer candidates than
    asked for; `absent` judged queries without a candidate; `foreign` queries of a given run that
    are not among the judged ones; `unknown` relevant documents that the source of passages does not
    have, which are many where it holds candidates alone, and none where it is the collection.
    """

    queries: int = 0
    unjudged: int = 0
    judgements: int = 0
    excluding: int = 0
    excluded: int = 0
    documents: int = 0
    removed: int = 0
    short: int = 0
    absent: int = 0
    foreign: int = 0
    passages: int = 0
    unknown: int = 0


def ranked_by_search(
    topics: Topics, search: Callable[[str, int], list[RunEntry]], hits: int
) -> Ranked:
    """Each judged query searched for, so deep that `hits` are left without the excluded ones.

    Args:
        topics: the queries.
        search: (query, how many) -> documents, best first.
        hits: how many are wanted.
    """
    for query_id, text in topics.queries.items():
        if query_id in topics.qrels:
            yield query_id, search(text, hits + len(topics.excluded.get(query_id, ())))


def ranked_by_run(run: Run, *, underscores: bool = False) -> Ranked:
    """The queries of a run, in its order; on request with spaces of doc_ids as "_"."""
    for query_id, entries in run.items():
        if underscores:
            yield query_id, [RunEntry(_plain(each.doc_id), each.score) for each in entries]
        else:
            yield query_id, entries


def prepare(
    folder: Path,
    topics: Topics,
    described: Mapping[str, Any],
    ranked: Ranked | None = None,
    passages: Passages | None = None,
    hits: int = 100,
) -> Prepared:
    """Write the files of a collection into a folder.

    Queries are read and written one at a time; held are judgements, and the ids of the documents
    whose passages are written.

    Args:
        folder: where to; empty.
        topics: queries, judgements and excluded ids.
        described: where they come from, for prepared.json.
        ranked: the first stage; None makes none.
        passages: texts of its documents.
        hits: how many documents of each query to keep.

    Raises:
        InputError: no query is judged; a judged one has no text; a document is both relevant and
            excluded, or has no passage; no judged query is in the run.
    """
    counted = Prepared()
    known = _write_topics(folder, topics, counted)
    if ranked is not None and passages is not None:
        kept = _kept(topics, known, ranked, hits, counted)
        _write_first_stage(folder, kept, passages, counted)
        for query_id in known:
            judged = topics.qrels[query_id]
            relevant = [doc_id for doc_id, grade in judged.items() if grade > 0]
            counted.unknown += len(passages.problems(query_id, relevant))
    made = {"versions": versions(), **described, "counters": asdict(counted)}
    with _writing(folder, "made") as file:
        json.dump(made, file, indent=2, ensure_ascii=False, default=str)
        file.write("\n")
    return counted


def _writing(folder: Path, kind: str) -> Any:
    return (folder / FILES[kind]).open("w", encoding="utf-8", newline="\n")


def _write_topics(folder: Path, topics: Topics, counted: Prepared) -> set[str]:
    """Queries, judgements and excluded ids; gives the judged queries' ids."""
    known = set()
    with _writing(folder, "queries") as queries, _writing(folder, "qrels") as qrels:
        for query_id, text in topics.queries.items():
            judged = topics.qrels.get(query_id)
            if not judged:
                counted.unjudged += 1
                continue
            if text.strip():
                known.add(query_id)
            queries.write(json.dumps({"_id": query_id, "text": text}, ensure_ascii=False) + "\n")
            qrels.writelines(f"{query_id}\t0\t{doc}\t{grade}\n" for doc, grade in judged.items())
            counted.judgements += len(judged)
    counted.queries = len(known)
    if lacking := [each for each, judged in topics.qrels.items() if judged and each not in known]:
        raise InputError(
            f"{len(lacking)} judged queries have no text: {_first(lacking)}; add it to the "
            f"queries, or take them out of the judgements"
        )
    if not known:
        raise InputError("no query is judged; check that queries and judgements belong together")
    _write_excluded(folder, topics, known, counted)
    return known


def _write_excluded(folder: Path, topics: Topics, known: set[str], counted: Prepared) -> None:
    """A line for each query that has any; no file if none has."""
    with _writing(folder, "excluded") as file:
        for query_id, doc_ids in topics.excluded.items():
            if query_id not in known or not doc_ids:
                continue
            judged = topics.qrels[query_id]
            if both := [each for each in doc_ids if judged.get(each, 0) > 0]:
                raise InputError(
                    f"of query {query_id}, {len(both)} documents are both relevant and excluded: "
                    f"{_first(both)}; keep one of the two"
                )
            file.write("\t".join([query_id, *doc_ids]) + "\n")
            counted.excluding += 1
            counted.excluded += len(doc_ids)
    if not counted.excluding:
        (folder / FILES["excluded"]).unlink()


def _kept(topics: Topics, known: set[str], ranked: Ranked, hits: int, counted: Prepared) -> Ranked:
    """A first stage without what is excluded, cut to length."""
    left = set(known)
    for query_id, entries in ranked:
        if query_id not in known:
            counted.foreign += 1
            continue
        excluded = set(map(_plain, topics.excluded.get(query_id, ())))
        kept = [entry for entry in entries if _plain(entry.doc_id) not in excluded]
        counted.removed += len(entries) - len(kept)
        counted.short += len(kept) < hits
        if kept:
            left.discard(query_id)
            yield query_id, kept[:hits]
    counted.absent = len(left)
    if left == known:
        raise InputError(
            "no judged query has a candidate; check that run and judgements belong together"
        )


def _plain(doc_id: str) -> str:
    """A doc_id as pyserini's BRIGHT indexes have it; others keep the spaces of a few."""
    return doc_id.replace(" ", "_")


def _write_first_stage(folder: Path, kept: Ranked, passages: Passages, counted: Prepared) -> None:
    """The run, and the passages of its documents."""
    seen: set[str] = set()
    lacking: dict[str, str] = {}
    with _writing(folder, "run") as run, _writing(folder, "passages") as corpus:
        for query_id, entries in kept:
            scores = strictly_decreasing([entry.score for entry in entries])
            ranking = [
                RankedDocument(entry.doc_id, score, entry.score, rank)
                for rank, (entry, score) in enumerate(zip(entries, scores, strict=True), 1)
            ]
            write_ranking(run, query_id, ranking, "first_stage")
            counted.documents += len(ranking)
            new = [entry.doc_id for entry in entries if entry.doc_id not in seen]
            seen.update(new)
            for doc_id, text in zip(new, passages.texts(query_id, new), strict=True):
                if text:
                    record = {"_id": doc_id, "title": "", "text": text}
                    corpus.write(json.dumps(record, ensure_ascii=False) + "\n")
            lacking.update(passages.problems(query_id, new))
    if lacking:
        described = [f"{doc_id} ({why})" for doc_id, why in lacking.items()]
        raise InputError(
            f"{len(lacking)} documents of the first stage have no text: {_first(described)}; take "
            f"run and passages from one source"
        )
    counted.passages = len(seen)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
