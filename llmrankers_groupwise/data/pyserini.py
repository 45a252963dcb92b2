"""Passages and topics through pyserini, whose Lucene runs in a Java virtual machine."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from llmrankers_groupwise.data.passages import passage_text
from llmrankers_groupwise.data.run_files import RunEntry
from llmrankers_groupwise.errors import InputError, MissingDependencyError

__all__ = [
    "LucenePassages",
    "find_jdk",
    "lucene_qrels",
    "lucene_topics",
    "lucene_topics_file",
    "pyserini_lucene",
]

MIN_JAVA = 21
"""The oldest Java that pyserini 1.6's Lucene runs on."""

_NO_KEY = "not-a-key"  # pyserini 1.6 makes an OpenAI client when it is imported

_JDK_PATTERNS = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/usr/local/java/*",
    "/opt/java/*",
    "/opt/jdk*",
    "~/.jdks/*",
    "~/.sdkman/candidates/java/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
)


class LucenePassages:
    """Passages from a Lucene index that pyserini built or offers prebuilt.

    Args:
        index: the path of an index, or the name of a prebuilt one (downloaded by pyserini).

    Raises:
        MissingDependencyError: no pyserini, or no JDK of version 21 or later.
        InputError: neither an index path nor a prebuilt name; later, an index without stored texts.
    """

    def __init__(self, index: str) -> None:
        self._index = index
        self._searcher = _searcher(index)

    def texts(self, query_id: str, doc_ids: Sequence[str]) -> list[str | None]:
        """The passage of each document, title first; None where there is none."""
        return [self._find(doc_id) or None for doc_id in doc_ids]

    def problems(self, query_id: str, doc_ids: Sequence[str]) -> dict[str, str]:
        """doc_id -> why there is no text, for those of the documents that have none."""
        return {
            doc_id: f"not in {self._index}" if text is None else f"empty in {self._index}"
            for doc_id in doc_ids
            if not (text := self._find(doc_id))
        }

    def search(self, query: str, hits: int, k1: float, b: float) -> list[RunEntry]:
        """The best `hits` documents by BM25, best first, fewer where fewer hold a word of it.

        Args:
            query: any text, of any length.
            hits: how many, from 1.
            k1: how soon further occurrences of a word stop counting.
            b: how much long documents are held back, 0..1.
        """
        self._searcher.set_bm25(k1, b)
        found = self._searcher.search(query, k=hits) if query.strip() else ()
        return [RunEntry(str(hit.docid).strip(), float(hit.score)) for hit in found]

    def _find(self, doc_id: str) -> str | None:
        document = self._searcher.doc(doc_id)
        if document is None:
            return None
        raw = document.raw()
        if raw is None:
            raise InputError(
                f"the index stores no raw text for {doc_id}; build it with --storeRaw, or give "
                f"the passages by --corpus"
            )
        return _raw_text(raw)


def lucene_topics(name: str) -> dict[str, str]:
    """query_id -> text of the topics that pyserini knows by this name, e.g. "dl19-passage".

    Raises:
        MissingDependencyError: no pyserini, or no JDK of version 21 or later.
        InputError: pyserini has no such topics, or could not download them.
    """
    topics = _topics(name)
    return {str(query_id): str(topic["title"]).strip() for query_id, topic in topics.items()}


def lucene_topics_file(name: str) -> Path:
    """The file of the topics that pyserini knows by this name, downloaded by it if need be.

    For what its own readers leave out, as they do of lists in JSON.

    Raises:
        MissingDependencyError: no pyserini, or no JDK of version 21 or later.
        InputError: pyserini has no such topics, or could not download them.
    """
    _topics(name)  # downloads them
    base = pyserini_lucene("pyserini.search._base")
    topics = base.topics_mapping[name]
    return Path(base.JTopicReader.getTopicPath(base.JPath.of(topics.path)).toString())


def _topics(name: str) -> Any:
    topics_reader = pyserini_lucene("pyserini.search")
    try:
        return topics_reader.get_topics(name)
    except Exception as error:  # pyserini and its JVM raise all sorts
        raise InputError(
            f"pyserini has no topics {name!r} at hand: {_first_line(error)}; give the queries by "
            f"--query_file"
        ) from error


def lucene_qrels(name: str) -> Path:
    """The file of the judgements that pyserini knows by this name, downloaded by it if need be.

    Raises:
        MissingDependencyError: no pyserini, or no JDK of version 21 or later.
        InputError: pyserini has no such judgements, or could not download them.
    """
    search = pyserini_lucene("pyserini.search")
    try:
        return Path(search.get_qrels_file(name))
    except Exception as error:  # pyserini and its JVM raise all sorts
        raise InputError(
            f"pyserini has no judgements {name!r} at hand: {_first_line(error)}; give them by "
            f"--qrels"
        ) from error


def pyserini_lucene(module: str = "pyserini.search.lucene") -> ModuleType:
    """A module of pyserini, imported with a JDK found and without an OpenAI key.

    Raises:
        MissingDependencyError: no pyserini, or no JDK of version 21 or later.
    """
    settings = {"OPENAI_API_KEY": os.environ.get("OPENAI_API_KEY") or _NO_KEY}
    if "jnius" not in sys.modules:  # else a Java virtual machine was chosen already
        settings["JAVA_HOME"] = str(find_jdk())
    try:
        with _environment(**settings):
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"pyserini cannot be imported ({error})", "pyserini"
        ) from error


def find_jdk() -> Path:
    """The JDK to run: JAVA_HOME if new enough, else the newest in the usual folders.

    Raises:
        MissingDependencyError: none of version 21 or later; names those that were found.
    """
    home = os.environ.get("JAVA_HOME")
    versions = {path: _java_version(path) for path in _jdk_candidates()}
    if home and versions.get(Path(home), 0) >= MIN_JAVA:
        return Path(home)
    newest = max(versions, key=lambda path: (versions[path], str(path)), default=None)
    if newest is not None and versions[newest] >= MIN_JAVA:
        return newest
    found = ", ".join(f"{path} ({version})" for path, version in versions.items()) or "none"
    raise MissingDependencyError(
        f"pyserini needs a JDK of version {MIN_JAVA} or later; found: {found}. Install one (for "
        f"instance Eclipse Temurin) and set JAVA_HOME to its folder"
    )


def _jdk_candidates() -> Iterator[Path]:
    """Folders with a Java virtual machine's library, JAVA_HOME first."""
    folders = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    for pattern in _JDK_PATTERNS:
        root, _, rest = str(Path(pattern).expanduser())[1:].partition("*")
        folders += sorted(Path("/").glob(root + "*" + rest))
    return (folder for folder in folders if any(folder.glob("lib/**/libjvm.*")))


def _java_version(home: Path) -> int:
    """The major version from the JDK's release file; 0 where it cannot be told."""
    try:
        release = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    match = re.search(r'^JAVA_VERSION="(?:1\.)?([0-9]+)', release, re.MULTILINE)
    return int(match[1]) if match else 0


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    """These environment variables for a while, then as they were."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_MAX_CLAUSES = 1 << 20  # different words of a query; Lucene refuses more than 1,024 by itself


def _searcher(index: str) -> Any:
    lucene = pyserini_lucene()
    try:
        pyclass = pyserini_lucene("pyserini.pyclass")
        pyclass.autoclass("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(_MAX_CLAUSES)
        if Path(index).is_dir():
            return lucene.LuceneSearcher(index)
        searcher = lucene.LuceneSearcher.from_prebuilt_index(index)
    except Exception as error:  # pyserini and its JVM raise all sorts
        raise InputError(
            f"cannot open the index {index!r}: {_first_line(error)}; give the folder of a Lucene "
            f"index or a prebuilt name"
        ) from error
    if searcher is None:
        raise InputError(
            f"{index!r} is neither a folder nor the name of a prebuilt index that pyserini could "
            f"download; check the path, or the network"
        )
    return searcher


def _raw_text(raw: str) -> str:
    """The text in a document as stored: JSON in pyserini's layouts, or the text itself."""
    try:
        document = json.loads(raw)
    except ValueError:
        return raw.strip()
    return (passage_text(document) or "") if isinstance(document, dict) else raw.strip()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
