"""The command `run-groupwise compare`: any run files, measured and tested against one of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrankers_groupwise.cli.common.output import check_apart
from llmrankers_groupwise.data.manifest import manifest_path
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.evaluation.comparison import COMPARED_MEASURES, Comparison, compare_runs
from llmrankers_groupwise.evaluation.comparison_table import comparison_table
from llmrankers_groupwise.files.atomic import check_writable
from llmrankers_groupwise.report.page import DEPTH, ReportInputs, usual_journal, write_report
from llmrankers_groupwise.report.plot_style import check_plots

__all__ = ["add_compare_parser", "run_compare"]


def add_compare_parser(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """Add `compare` to the commands; gives its parser."""
    compare = commands.add_parser(
        "compare",
        help="measure run files, and test them against one of them",
        description="Measure run files over every judged query, and test them against one of them.",
        allow_abbrev=False,
    )
    add = compare.add_argument
    add("--qrels", metavar="FILE", required=True, help="judgements")
    add(
        "--run",
        dest="runs",
        action="append",
        type=_named_file,
        metavar="NAME=FILE",
        required=True,
        help="a run file and what to call it; repeated for each. What it cost is read from "
        "FILE.manifest.json",
    )
    add("--baseline", metavar="NAME", help="the run to test the others against; else the first")
    add(
        "--measures",
        type=str.split,
        metavar="NAMES",
        default=list(COMPARED_MEASURES),
        help="names of ir_measures, several in one quoted word (default: "
        f"{' '.join(COMPARED_MEASURES)})",
    )
    add("--seed", type=int, default=0, help="of the randomisation tests (default: 0)")
    add("--json", action="store_true", help="print everything as JSON, values of each query too")
    _add_report(compare.add_argument_group("report"))
    return {"": compare}


def _add_report(group: argparse._ArgumentGroup) -> None:
    """The options of the report."""
    add = group.add_argument
    add("--html", metavar="FILE", help="write a report to look at in a browser")
    add(
        "--query_file",
        metavar="FILE",
        help="the queries' texts; else from the files that the runs' manifests name",
    )
    add(
        "--corpus",
        dest="corpora",
        action="append",
        metavar="FILE",
        help="the passages, JSONL; may be repeated; else from what the runs' manifests name",
    )
    add(
        "--journal",
        dest="journals",
        action="append",
        type=_named_file,
        metavar="NAME=FILE",
        help="a run's replies, if they are not in RUN.journal.sqlite; repeated for those of shards",
    )
    add(
        "--depth",
        type=int,
        metavar="N",
        help=f"show the best N documents of each list (default: {DEPTH})",
    )


def run_compare(arguments: argparse.Namespace) -> None:
    """Run `compare`.

    Raises:
        InputError: as `compare_runs`, or a name given twice.
    """
    if arguments.seed < 0:
        raise SettingsError(f"--seed is {arguments.seed}: give 0 or more")
    paths: dict[str, Path] = {}
    for name, path in arguments.runs:
        if name in paths:
            raise SettingsError(
                f"--run {name} is given twice ({paths[name]} and {path}): give each its own name"
            )
        paths[name] = path
    inputs = _report_inputs(arguments, paths)
    qrels = read_qrels(arguments.qrels)
    comparison = compare_runs(
        qrels,
        paths,
        arguments.measures,
        arguments.baseline,
        arguments.seed,
    )
    notes = [] if inputs is None else write_report(arguments.html, comparison, qrels, inputs)
    _print(arguments, comparison)
    if inputs is not None:
        for line in (*(f"report: {note}" for note in notes), f"saved {arguments.html}"):
            print(line, file=sys.stderr if arguments.json else sys.stdout)


def _print(arguments: argparse.Namespace, comparison: Comparison) -> None:
    if arguments.json:
        given = {"qrels": str(arguments.qrels), "seed": arguments.seed}
        print(json.dumps(given | comparison.as_dict(), ensure_ascii=False))
        return
    print(comparison_table(comparison), end="\n\n" if arguments.html else "\n")


def _report_inputs(arguments: argparse.Namespace, paths: Mapping[str, Path]) -> ReportInputs | None:
    """What the report is to be made of, checked before large files are read; None without one."""
    if arguments.html is None:
        for name in ("query_file", "corpora", "journals", "depth"):
            if getattr(arguments, name) is not None:
                option = {"corpora": "corpus", "journals": "journal"}.get(name, name)
                raise SettingsError(f"--{option} is for the report: give --html FILE, too")
        return None
    check_plots()
    journals: dict[str, list[Path]] = {}
    for name, path in arguments.journals or ():
        if name not in paths:
            raise SettingsError(
                f"--journal {name}: there is no run of this name; it is one of {', '.join(paths)}"
            )
        journals.setdefault(name, []).append(path)
    inputs = ReportInputs(
        query_file=None if arguments.query_file is None else Path(arguments.query_file),
        corpora=[Path(path) for path in arguments.corpora or ()],
        journals=journals,
        depth=DEPTH if arguments.depth is None else arguments.depth,
    )
    if inputs.depth < 1:
        raise SettingsError(f"--depth is {inputs.depth}: give 1 or more documents")
    _check_no_input(arguments, paths, inputs)
    check_writable(arguments.html)
    return inputs


def _check_no_input(
    arguments: argparse.Namespace, paths: Mapping[str, Path], inputs: ReportInputs
) -> None:
    """Saving over an input would lose it; and a pipe cannot be read twice, as a report does."""
    read = [("--qrels", Path(arguments.qrels))]
    for name, path in paths.items():
        if path.is_fifo():
            raise SettingsError(
                f"--run {name} is a pipe, which can be read only once; with --html give a file"
            )
        read += [(f"--run {name}", path), (f"the manifest of --run {name}", manifest_path(path))]
        read.append((f"the journal of --run {name}", usual_journal(path)))
        read += [(f"--journal {name}", each) for each in inputs.journals.get(name, ())]
    read += [("--query_file", each) for each in (inputs.query_file,) if each is not None]
    read += [("--corpus", each) for each in inputs.corpora]
    for option, path in read:
        check_apart(arguments.html, path, "--html", option)


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name.strip() or not path or not name.isprintable():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=FILE: give a name for the run, an equals sign and its file"
        )
    return name.strip(), Path(path)
