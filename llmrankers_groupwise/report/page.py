"""The report: one HTML file that makes no network requests."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from llmrankers_groupwise.data.manifest import read_manifest
from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.errors import FileError, JournalError, SettingsError
from llmrankers_groupwise.evaluation.comparison import Comparison
from llmrankers_groupwise.files.atomic import same_file, write_atomically
from llmrankers_groupwise.journal.run_description import RunDescription
from llmrankers_groupwise.report.embedded_data import json_block
from llmrankers_groupwise.report.overview import overview
from llmrankers_groupwise.report.plot_style import check_plots
from llmrankers_groupwise.report.plots import figures
from llmrankers_groupwise.report.query_details import Details
from llmrankers_groupwise.report.run_journal import RunJournal, open_journal
from llmrankers_groupwise.report.run_settings import run_settings
from llmrankers_groupwise.report.text_sources import Texts, find_texts, named_file

__all__ = ["DEPTH", "ReportInputs", "usual_journal", "write_report"]

DEPTH = 100

_SCRIPTS = (
    "dom.js",
    "data.js",
    "overview.js",
    "query_table.js",
    "query_page.js",
    "groups.js",
    "main.js",
)
_BLOCKS = "<!-- data -->"


@dataclass(frozen=True)
class ReportInputs:
    """What a report shows besides the comparison.

    Attributes:
        query_file, corpora: texts; those that manifests name where there are none.
        journals: run -> its journals; `<run file>.journal.sqlite` for the others.
        depth: the number of documents of each list.
    """

    query_file: Path | None = None
    corpora: Sequence[Path] = ()
    journals: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    depth: int = DEPTH


def write_report(
    path: str | Path, comparison: Comparison, qrels: Qrels, inputs: ReportInputs | None = None
) -> list[str]:
    """Write a comparison as an HTML file, whole or not at all.

    Args:
        path: the file.
        comparison: by `compare_runs`, of files that can be read again.
        qrels: the judgements it was made with.
        inputs: where texts and replies are.

    Returns:
        What could not be found and so is not shown, in a line each.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        SettingsError: an unknown run's journals, a depth below 1, or the file is an input.
        FileError: a given file is malformed, or the file cannot be written.
        JournalError: a given journal cannot be used.
    """
    inputs = inputs or ReportInputs()
    check_plots()
    names = {run.name for run in comparison.runs}
    if unknown := [name for name in inputs.journals if name not in names]:
        raise SettingsError(f"there is no run {unknown[0]!r} for a journal; give it by --run, too")
    if inputs.depth < 1:
        raise SettingsError(f"the depth is {inputs.depth}: give 1 or more documents")
    manifests = {run.name: _manifest(run.path) for run in comparison.runs}
    texts = find_texts(
        {run.path: manifests[run.name] for run in comparison.runs},
        inputs.query_file,
        inputs.corpora,
    )
    with contextlib.ExitStack() as stack:
        journals, origins, notes = _journals(comparison, manifests, inputs, stack)
        replies = [path for journal in journals.values() for path in journal.paths]
        for read in (*texts.files, *replies):
            if same_file(path, read):
                raise SettingsError(f"{path} is read for the report; save it under another name")
        details = Details(comparison, qrels, texts, journals, inputs.depth)
        first_page = {
            **overview(comparison, origins),
            "date": datetime.date.today().isoformat(),
            "settings": run_settings(manifests),
        }
        return _written(path, first_page, comparison, details, texts, notes)


def _manifest(path: Path) -> RunDescription | None:
    try:
        manifest = read_manifest(path)
    except FileError:  # the comparison has named it in a warning
        return None
    return None if manifest is None else manifest.run


def _journals(
    comparison: Comparison,
    manifests: Mapping[str, RunDescription | None],
    inputs: ReportInputs,
    stack: contextlib.ExitStack,
) -> tuple[dict[str, RunJournal], dict[str, str], list[str]]:
    """Run -> its journal; run -> where that is, or why there is none; what to tell."""
    found: dict[str, RunJournal] = {}
    origins: dict[str, str] = {}
    notes: list[str] = []
    bare: list[str] = []
    for run in comparison.runs:
        given, manifest = inputs.journals.get(run.name), manifests[run.name]
        journal = _journal(run.path, manifest, given)
        if isinstance(journal, RunJournal):
            stack.callback(journal.close)
            found[run.name] = journal
            origins[run.name] = ", ".join(map(str, journal.paths))
            continue
        origins[run.name] = journal
        if manifest is None and journal == _no_journal(run.path):
            bare.append(run.name)
        elif manifest is None or not manifest.method.startswith("fuse "):  # which asked nothing
            notes.append(f"{run.name}: its groups are not known: {journal}")
    if bare:
        notes.append(
            f"costs and groups are not known where a run file has neither manifest nor journal "
            f"beside it: {', '.join(bare)}"
        )
    return found, origins, notes


def _journal(
    path: Path, manifest: RunDescription | None, given: Sequence[Path] | None
) -> RunJournal | str:
    """A run in the journals that are given, or else in its own; or why it is in none.

    Raises:
        JournalError: a given one cannot be used.
    """
    try:
        paths = given or _usual_journals(path, manifest)
        journal = open_journal(paths, manifest) if paths else _no_journal(path)
    except JournalError as error:
        if given:
            raise
        journal = str(error)
    if given and isinstance(journal, str):
        raise JournalError(f"{journal}; give the one of {path}")
    return journal


def _usual_journals(path: Path, manifest: RunDescription | None) -> list[Path]:
    """Where a run keeps its replies by default, or those that it was merged from."""
    usual = usual_journal(path)
    if usual.exists():
        return [usual]
    merged = manifest.run.get("journals") if manifest else None
    found = [named_file(str(each), path) for each in merged or ()]
    return [] if None in found else [each for each in found if each is not None]


def _no_journal(path: Path) -> str:
    return f"there is no {usual_journal(path)}; give --journal NAME=FILE if it is elsewhere"


def usual_journal(path: Path) -> Path:
    """Where the journal of a run file is, if no other one was given."""
    return Path(f"{path}.journal.sqlite")


def _written(
    path: str | Path,
    first_page: Mapping[str, Any],
    comparison: Comparison,
    details: Details,
    texts: Texts,
    notes: list[str],
) -> list[str]:
    """Write everything in the order of the page, queries as they are read."""
    before, after = _page(*figures(comparison)).split(_BLOCKS)
    with write_atomically(path) as file:
        file.write(before)
        file.writelines(details.blocks())
        notes = [*notes, *texts.notes, *details.notes]
        data = {
            **first_page,
            "queries": details.queries,
            "sources": texts.used,
            "notes": notes,
        }
        file.write(json_block("comparison", data))
        file.write(after)
    return notes


def _page(cost_plots: str, difference_plots: str) -> str:
    """The page without data. Its policy allows its own script and styles, and no network."""
    script = "\n".join(_part(name) for name in _SCRIPTS)
    style = _part("style.css")
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        f"base-uri 'none'; form-action 'none'"
    )
    return Template(_part("page.html")).substitute(
        policy=policy,
        style=style,
        script=script,
        cost_plots=cost_plots,
        difference_plots=difference_plots,
        data=_BLOCKS,
    )


def _part(name: str) -> str:
    return resources.files(__package__).joinpath("web", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a policy calls a script or style element with this text."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
