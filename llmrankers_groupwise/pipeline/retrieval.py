"""First stages for training pools: BM25 and dense retrieval over a corpus, and both fused.

Whole result lists are in memory: all documents of each query that pools are drawn from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmrankers_groupwise.data.passages import Corpus
from llmrankers_groupwise.data.pyserini import LucenePassages
from llmrankers_groupwise.data.run_files import Run, RunEntry
from llmrankers_groupwise.data.run_fusion import fuse_query
from llmrankers_groupwise.engines.llm.pretrained import first_line
from llmrankers_groupwise.errors import (
    InputError,
    MissingDependencyError,
    ModelError,
    SettingsError,
)

__all__ = [
    "K1",
    "MINILM",
    "B",
    "bm25s_run",
    "check_alpha",
    "dense_run",
    "fused_run",
    "pyserini_run",
]

K1 = 0.9
B = 0.4
"""BM25's two, as Anserini has them."""

MINILM = "minilm"
"""The name of the model that the embedded engine carries."""

_CHUNK = 10_000  # documents encoded at a time, between two looks at the best so far


def bm25s_run(queries: Mapping[str, str], corpus: Corpus, hits: int) -> Run:
    """The best documents by BM25 (bm25s, English stop words, no stemming); none scores 0.

    Raises:
        InputError: no document has a word that is no stop word.
        MissingDependencyError: bm25s is not installed.
    """
    try:
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it is set to DEBUG when imported
    except ImportError as error:
        raise _missing("bm25s") from error
    doc_ids, texts = _columns(corpus)
    bm25 = bm25s.BM25(k1=K1, b=B)
    tokens = bm25s.tokenize(texts, stopwords="en", show_progress=False)
    if not any(tokens.ids):
        raise InputError(
            "no document of the corpus has a word to search by: is the text where it should be?"
        )
    bm25.index(tokens, show_progress=False)
    del texts, tokens
    asked = bm25s.tokenize(list(queries.values()), stopwords="en", show_progress=False)
    indexes, scores = bm25.retrieve(asked, k=min(hits, len(doc_ids)), show_progress=False)
    return {
        query_id: [
            RunEntry(doc_ids[int(index)], float(score))
            for index, score in zip(found, values, strict=True)
            if score > 0
        ]
        for query_id, found, values in zip(queries, indexes, scores, strict=True)
    }


def pyserini_run(queries: Mapping[str, str], index: LucenePassages, hits: int) -> Run:
    """The best documents by BM25 of a Lucene index."""
    return {query_id: index.search(text, hits, K1, B) for query_id, text in queries.items()}


def dense_run(
    queries: Mapping[str, str],
    corpus: Corpus,
    model_name_or_path: str,
    hits: int,
    device: str | None = None,
    batch_size: int = 64,
) -> Run:
    """The nearest documents by a model of sentence-transformers.

    The corpus is encoded in parts and the best are kept, so it may be larger than memory.

    Args:
        queries: query_id -> text.
        corpus: the documents.
        model_name_or_path: the model's; "minilm" is the embedded engine's, which is no download.
        hits: documents of each query.
        device: where the model runs; None takes a GPU where there is one.
        batch_size: texts encoded at a time.

    Raises:
        MissingDependencyError: sentence-transformers is not installed.
        ModelError: the model cannot be loaded.
    """
    model = _dense_model(model_name_or_path, device)
    from sentence_transformers.util import semantic_search

    how: dict[str, Any] = {"batch_size": batch_size, "convert_to_tensor": True}
    how |= {"normalize_embeddings": True, "show_progress_bar": False}
    asked = model.encode_query(list(queries.values()), **how)
    best: list[list[RunEntry]] = [[] for _ in queries]
    for doc_ids, texts in _parts(corpus):
        encoded = model.encode_document(texts, **how)
        for entries, hits_of in zip(best, semantic_search(asked, encoded, top_k=hits), strict=True):
            for hit in hits_of:
                entries.append(RunEntry(doc_ids[int(hit["corpus_id"])], float(hit["score"])))
            entries.sort(key=lambda entry: -entry.score)
            del entries[hits:]
    return dict(zip(queries, best, strict=True))


def check_alpha(alpha: float) -> None:
    """Raise SettingsError unless it is a share, 0..1."""
    if not 0.0 <= alpha <= 1.0:
        raise SettingsError(f"alpha is {alpha}: give a number 0..1")


def fused_run(bm25: Run, dense: Run, alpha: float, hits: int) -> Run:
    """BM25 weighted alpha and dense 1 - alpha, each scaled to 0..1 by a query's best `hits`.

    Raises:
        SettingsError: alpha is out of its range.
    """
    check_alpha(alpha)
    weights = (alpha, 1.0 - alpha)
    return {
        query_id: fuse_query(
            [bm25.get(query_id, ())[:hits], dense.get(query_id, ())[:hits]], "min_max", weights
        )
        for query_id in dict.fromkeys([*bm25, *dense])
    }


def _dense_model(name: str, device: str | None) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise _missing("sentence-transformers") from error
    if name == MINILM:
        from llmrankers_groupwise.engines.minilm import model_folder

        name = str(model_folder())
    try:
        return SentenceTransformer(name, device=device)
    except Exception as error:  # whatever a file of somebody else's brings about
        raise ModelError(
            f"cannot load the dense model {name}: {first_line(error)}; give the name of a model "
            f"of sentence-transformers, a local folder, or {MINILM}"
        ) from error


def _columns(corpus: Corpus) -> tuple[list[str], list[str]]:
    doc_ids, texts = [], []
    for doc_id, text in corpus.documents():
        doc_ids.append(doc_id)
        texts.append(text)
    return doc_ids, texts


def _parts(corpus: Corpus) -> Iterator[tuple[Sequence[str], list[str]]]:
    doc_ids: list[str] = []
    texts: list[str] = []
    for doc_id, text in corpus.documents():
        doc_ids.append(doc_id)
        texts.append(text)
        if len(texts) == _CHUNK:
            yield doc_ids, texts
            doc_ids, texts = [], []
    if texts:
        yield doc_ids, texts


def _missing(package: str) -> MissingDependencyError:
    return MissingDependencyError(f"{package} is not installed", "train")
