"""The texts that a report shows: found through the runs' manifests, unless files are given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llmrankers_groupwise.data.candidate_files import CandidateFile
from llmrankers_groupwise.data.manifest import manifest_path
from llmrankers_groupwise.data.passages import Passages
from llmrankers_groupwise.data.sources import FILE_SOURCES, PASSAGE_SOURCES, QUERY_SOURCES
from llmrankers_groupwise.errors import GroupwiseError
from llmrankers_groupwise.journal.run_description import RunDescription

__all__ = ["Texts", "find_texts", "named_file"]


class Texts:
    """Sources of texts, the first that has a text wins.

    Attributes:
        used: what each source is, in a line.
        files: those of them that are files.
        notes: what could not be found or read, in a line each.
    """

    def __init__(self) -> None:
        self.used: list[str] = []
        self.files: list[Path] = []
        self.notes: list[str] = []
        self._queries: list[Mapping[str, str]] = []
        self._passages: list[Passages] = []

    def add_queries(self, queries: Mapping[str, str], name: str) -> None:
        """Add a source of queries; `name` says where it comes from."""
        self._queries.append(queries)
        self.used.append(f"queries: {name}")

    def add_passages(self, passages: Passages, name: str) -> None:
        """Add a source of passages; `name` says where it comes from."""
        self._passages.append(passages)
        self.used.append(f"passages: {name}")

    def has_queries(self) -> bool:
        """Whether there is any source of queries."""
        return bool(self._queries)

    def has_passages(self) -> bool:
        """Whether there is any source of passages."""
        return bool(self._passages)

    def query(self, query_id: str) -> str | None:
        """The text of a query; None if no source has one."""
        return next((text for each in self._queries if (text := each.get(query_id))), None)

    def passages(self, query_id: str, doc_ids: Sequence[str]) -> list[str | None]:
        """The passage of each document; None where no source has one."""
        found: dict[str, str] = {}
        for source in self._passages:
            lacking = [doc_id for doc_id in doc_ids if doc_id not in found]
            if not lacking:
                break
            for doc_id, text in zip(lacking, source.texts(query_id, lacking), strict=True):
                if text:
                    found[doc_id] = text
        return [found.get(doc_id) for doc_id in doc_ids]


def find_texts(
    manifests: Mapping[Path, RunDescription | None],
    query_file: Path | None = None,
    corpora: Sequence[Path] = (),
) -> Texts:
    """The texts of these runs.

    Args:
        manifests: run file -> what its manifest says, None without one.
        query_file: queries, instead of those that manifests name.
        corpora: passages, instead of those that manifests name.

    Raises:
        FileError: a given file is malformed. What a manifest names and cannot be read is noted.
    """
    texts = Texts()
    if query_file is not None:
        texts.files.append(query_file)
        texts.add_queries(QUERY_SOURCES["query_file"](str(query_file)), str(query_file))
    for corpus in corpora:
        texts.files.append(corpus)
        texts.add_passages(PASSAGE_SOURCES["corpus"](str(corpus)), str(corpus))
    queries, passages = not texts.has_queries(), not texts.has_passages()
    for option, value, run in _named(manifests):
        _add_named(texts, option, value, run, queries=queries, passages=passages)
    if not texts.has_queries():
        texts.notes.append("no file of queries was found: give --query_file to see their texts")
    if not texts.has_passages():
        texts.notes.append("no passages were found: give --corpus to see them")
    return texts


def _named(
    manifests: Mapping[Path, RunDescription | None],
) -> Iterator[tuple[str, str, Path]]:
    """What manifests name as a source, each once: option, value, run file."""
    seen: set[tuple[str, str]] = set()
    for path, manifest in manifests.items():
        if manifest is None:
            continue
        for options in (manifest.run, manifest.merged or {}):
            for option in dict.fromkeys(("candidates", *QUERY_SOURCES, *PASSAGE_SOURCES)):
                value = options.get(option)
                if isinstance(value, str) and value and (option, value) not in seen:
                    seen.add((option, value))
                    yield option, value, path


def _add_named(
    texts: Texts, option: str, value: str, run: Path, *, queries: bool, passages: bool
) -> None:
    """Add what a manifest names to queries and passages, or note why it cannot be used."""
    both = option == "candidates"
    queries = queries and (both or option in QUERY_SOURCES)
    passages = passages and (both or option in PASSAGE_SOURCES)
    source: str | None = value
    if option in FILE_SOURCES and (queries or passages):
        found = named_file(value, run)
        source = None if found is None else str(found)
        texts.files += [] if found is None else [found]
    if source is None:
        texts.notes.append(f"{manifest_path(run)} names --{option} {value}: there is no such file")
        return
    try:
        if both and (queries or passages):
            candidates = CandidateFile(source)
            if queries:
                texts.add_queries(candidates.queries, source)
            if passages:
                texts.add_passages(candidates, source)
            return
        if queries:
            texts.add_queries(QUERY_SOURCES[option](source), source)
        if passages:
            texts.add_passages(PASSAGE_SOURCES[option](source), source)
    except (GroupwiseError, OSError) as error:
        texts.notes.append(f"--{option} {value} of {manifest_path(run)} cannot be used: {error}")


def named_file(value: str, run: Path) -> Path | None:
    """A file that a run's manifest names: as it stands, or else from the run file's folder."""
    for path in (Path(value), run.parent / value):
        if path.is_file():
            return path
    return None
