"""What `rerank` takes as documents: results of a first stage, strings, pairs and dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from llmrankers.rankers import SearchResult

from llmrankers_groupwise.data.passages import ID_KEYS, passage_text
from llmrankers_groupwise.errors import InputError

__all__ = ["Document", "search_results"]

Document: TypeAlias = SearchResult | str | tuple[str | int, str] | Mapping[str, Any]
"""A result with docid, score and text; a text; an id and a text; or a record with these."""

_TAKEN = (
    'give a text, a pair (id, text), a dict with "id" and "text", or a SearchResult of llm-rankers'
)


def search_results(documents: Iterable[Document]) -> list[Any]:
    """Documents as results of a first stage, best first.

    Args:
        documents: in first-stage order. What has no id gets its index, "0", "1", ... What has no
            score gets None. A dict may have the keys that a corpus file may have, and "score".

    Raises:
        InputError: a document is nothing of the kind.

    >>> [(each.docid, each.text) for each in search_results(["tea", ("d7", "milk")])]
    [('0', 'tea'), ('d7', 'milk')]
    """
    if isinstance(documents, str | bytes | Mapping) or not isinstance(documents, Iterable):
        raise InputError(
            f"the documents are {_shown(documents)}: give a list of documents; for each {_TAKEN}"
        )
    return [_search_result(index, each) for index, each in enumerate(documents)]


def _search_result(index: int, document: Any) -> Any:
    if isinstance(document, str):
        return SearchResult(str(index), None, document)
    if isinstance(document, Mapping):
        return _of_record(index, document)
    if _is_pair(document):
        doc_id, text = document
        return SearchResult(doc_id, None, text)
    if hasattr(document, "docid") and hasattr(document, "text"):
        return document
    raise InputError(f"document {index} is {_shown(document)}: {_TAKEN}")


def _of_record(index: int, record: Mapping[str, Any]) -> SearchResult:
    text = passage_text(record)
    if text is None:
        keys = ", ".join(map(str, record))
        raise InputError(f'document {index} has no "text" among its keys ({keys}): {_TAKEN}')
    doc_id = next((record[key] for key in ID_KEYS if key in record), str(index))
    return SearchResult(doc_id, record.get("score"), text)


def _is_pair(document: object) -> bool:
    return (
        isinstance(document, Sequence)
        and len(document) == 2
        and isinstance(document[0], str | int)
        and isinstance(document[1], str | None)
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
