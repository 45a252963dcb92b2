"""The command `run-groupwise journal`: what a journal holds, and whether it is whole."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llmrankers_groupwise.errors import JournalError, SettingsError
from llmrankers_groupwise.files.atomic import check_writable, write_atomically
from llmrankers_groupwise.journal.journal import ReadJournal, RecordedRun
from llmrankers_groupwise.journal.verify import check_journal, salvage
from llmrankers_groupwise.methods.registry import recorded_settings
from llmrankers_groupwise.types import GroupScores, Origin, Reply, Status

__all__ = ["add_journal_parser", "run_journal"]


def add_journal_parser(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """Add `journal stats`, `export` and `verify` to the commands; gives their parsers."""
    journal = commands.add_parser(
        "journal", help="look into a journal: its runs, its replies, its health", allow_abbrev=False
    )
    actions = journal.add_subparsers(
        title="actions", dest="action", required=True, metavar="ACTION"
    )
    parsers = {}
    for name, about, saved in (
        ("stats", "runs, replies by status, tokens and seconds", None),
        ("export", "every question with its reply, a JSON line each", "the file; else printed"),
        ("verify", "read all of it; fails if it is damaged", "save there what can be read of it"),
    ):
        action = actions.add_parser(name, help=about, description=about, allow_abbrev=False)
        parsers[name] = action
        action.add_argument("--journal", metavar="FILE", required=True, help="the journal")
        if saved:
            action.add_argument("--save_path", metavar="FILE", help=saved)
        if name == "stats":
            action.add_argument("--json", action="store_true", help="print it as JSON")
    return parsers


def run_journal(arguments: argparse.Namespace) -> None:
    """Do what `journal stats`, `export` or `verify` says.

    Raises:
        JournalError: there is no such journal, or it is damaged.
    """
    {"stats": _stats, "export": _export, "verify": _verify}[arguments.action](arguments)


def _stats(arguments: argparse.Namespace) -> None:
    with ReadJournal(arguments.journal) as journal:
        counted: dict[str, Any] = {
            "journal": str(journal.path),
            "bytes": journal.path.stat().st_size,
            "replies": journal.count("replies", "NOT failed"),
            "errors": journal.count("replies", "failed"),
            "runs": [_counted(journal, run) for run in journal.runs()],
        }
    if arguments.json:
        print(json.dumps(counted, ensure_ascii=False))
        return
    print(
        f"{counted['journal']}: {counted['bytes']:,} bytes, {counted['replies']:,} replies, "
        f"{counted['errors']:,} errors, {len(counted['runs'])} runs"
    )
    for run in counted["runs"]:
        statuses = ", ".join(f"{count} {status}" for status, count in run["statuses"].items())
        print(
            f"\nrun {run['run']}: {run['method']} by {run['engine']}"
            + (f" ({run['model']})" if run["model"] else "")
            + f"\n  {json.dumps(run['settings'], ensure_ascii=False)}"
            f"\n  {run['queries_begun']:,} of {run['queries']:,} queries begun, "
            f"{run['questions']:,} questions answered ({statuses})"
            f"\n  {run['prompt_tokens']:,} prompt and {run['completion_tokens']:,} completion "
            f"tokens, {run['seconds']:,.1f} s summed over calls"
        )


def _counted(journal: ReadJournal, run: RecordedRun) -> dict[str, Any]:
    settings = recorded_settings(run.described.asked)
    statuses: Counter[Status] = Counter()
    prompt_tokens = completion_tokens = 0
    seconds = 0.0
    for _, origin, reply in _answered(journal, run):
        statuses[settings.read(reply, len(origin.doc_ids)).status] += 1
        prompt_tokens += reply.prompt_tokens
        completion_tokens += reply.completion_tokens
        seconds += reply.seconds
    described = run.described
    return {
        "run": run.number,
        "method": described.method,
        "engine": described.engine.get("engine"),
        "model": described.engine.get("model"),
        "settings": described.settings,
        "queries": described.queries,
        "queries_begun": journal.count("queries", f"run = {run.number}"),
        "questions": statuses.total(),
        "statuses": {status.value: statuses[status] for status in Status if statuses[status]},
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "seconds": seconds,
    }


def _export(arguments: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(ReadJournal(arguments.journal))
        file: IO[str] = sys.stdout
        if arguments.save_path:
            check_writable(arguments.save_path)
            if os.path.realpath(arguments.save_path) == os.path.realpath(arguments.journal):
                raise SettingsError("--save_path is the journal; save under another name")
            file = stack.enter_context(write_atomically(arguments.save_path))
        lines = 0
        for run in journal.runs():
            settings = recorded_settings(run.described.asked)
            for text, origin, reply in _answered(journal, run):
                read = settings.read(reply, len(origin.doc_ids))
                file.write(_line(_record(run, text, origin, reply, read)))
                lines += 1
    if arguments.save_path:
        print(f"saved {lines:,} questions with their replies in {arguments.save_path}")


def _answered(journal: ReadJournal, run: RecordedRun) -> Iterator[tuple[str, Origin, Reply]]:
    """A run's questions in the order of its queries: the query's text, the origin, the reply."""
    for _, query, _ in journal.queries(run.number):
        for origin, reply in journal.replies(run.number, query.query_id):
            yield query.text, origin, reply


def _line(record: dict[str, Any]) -> str:
    """A line of JSON. Halves of surrogate pairs, which UTF-8 has not, are escaped as JSON does."""
    line = json.dumps(record, ensure_ascii=False) + "\n"
    return line.encode("utf-8", "backslashreplace").decode()


def _record(
    run: RecordedRun, query: str, origin: Origin, reply: Reply, read: GroupScores
) -> dict[str, Any]:
    return {
        "run": run.number,
        "query_id": origin.query_id,
        "query": query,
        "repeat": origin.repeat,
        "doc_ids": origin.doc_ids,
        "status": read.status.value,
        "scores": [read.scores.get(label) for label in range(1, len(origin.doc_ids) + 1)],
        "refused": read.refused,
        "text": reply.text,
        "slot_probabilities": reply.slot_probabilities,
        "finish_reason": reply.finish_reason,
        "error": reply.error,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "seconds": reply.seconds,
    }


def _verify(arguments: argparse.Namespace) -> None:
    path = Path(arguments.journal)
    if arguments.save_path:
        findings = salvage(path, arguments.save_path)
        print(f"copied {findings.replies:,} replies of {path} to {arguments.save_path}")
        for problem in findings.problems:
            print(f"not copied: {problem}")
        return
    findings = check_journal(path)
    if findings.problems:
        raise JournalError(
            f"{path} is damaged; {findings.replies:,} replies can be read, and --save_path COPY "
            f"saves them. Found: {'; '.join(findings.problems)}"
        )
    print(f"{path}: whole, {findings.replies:,} replies")
