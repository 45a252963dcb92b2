"""The command `run-groupwise compare`: any run files, measured and tested against one of them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from llmrankers_groupwise.comparison import COMPARED_MEASURES, compare_runs
from llmrankers_groupwise.comparison_table import comparison_table
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.trec import read_qrels

__all__ = ["add_compare_parser", "run_compare"]


def add_compare_parser(commands: Any) -> set[str]:
    """Add `compare` to the commands; gives the options it has."""
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
    return set(compare._option_string_actions)


def run_compare(arguments: argparse.Namespace) -> None:
    """Do what `compare` says.

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
    comparison = compare_runs(
        read_qrels(arguments.qrels),
        paths,
        arguments.measures,
        arguments.baseline,
        arguments.seed,
    )
    if arguments.json:
        given = {"qrels": str(arguments.qrels), "seed": arguments.seed}
        print(json.dumps(given | comparison.as_dict(), ensure_ascii=False))
        return
    print(comparison_table(comparison))


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name.strip() or not path or not name.isprintable():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=FILE: give a name for the run, an equals sign and its file"
        )
    return name.strip(), Path(path)
