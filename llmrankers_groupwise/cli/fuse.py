"""The command `run-groupwise fuse`: one run of several finished ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import IO, Any, get_args

from llmrankers_groupwise.cli.common.options import reader
from llmrankers_groupwise.cli.common.output import check_other
from llmrankers_groupwise.data.manifest import check_save_path, versions, write_run
from llmrankers_groupwise.data.run_files import RunFile, write_ranking
from llmrankers_groupwise.data.run_fusion import FusedQuery, RunFusion, check_run_fusion, fuse_runs
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.scores import RRF_K, strictly_decreasing
from llmrankers_groupwise.settings import word
from llmrankers_groupwise.types import RankedDocument

__all__ = ["add_fuse_parser", "run_fuse"]

_FIRST = 5


def add_fuse_parser(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """Add `fuse` to the commands; gives its parser."""
    fuse = commands.add_parser(
        "fuse",
        help="fuse run files into one",
        description="Fuse run files into one: a document's score is the weighted sum of its "
        "scores in the runs.",
        allow_abbrev=False,
    )
    add = fuse.add_argument
    add(
        "--run",
        dest="runs",
        action="append",
        metavar="FILE",
        required=True,
        help="a run file; repeated for each",
    )
    add("--save_path", metavar="OUT", required=True, help="the run file to write")
    add(
        "--method",
        choices=get_args(RunFusion),
        required=True,
        help="scores scaled to 0..1, scores as z-scores, or 1 / (rrf_k + rank)",
    )
    add(
        "--weights",
        nargs="+",
        type=float,
        metavar="W",
        help="one for each run, in their order (default: 1 each)",
    )
    add("--rrf_k", type=int, default=RRF_K, help=f"the constant of rrf (default: {RRF_K})")
    add("--depth", type=int, metavar="N", help="take the best N of each run (default: all)")
    add(
        "--tag",
        default="fused",
        type=reader(word),
        help="the run's name, its last column; else fused",
    )
    return {"": fuse}


def run_fuse(arguments: argparse.Namespace) -> None:
    """Run `fuse`; run file and manifest are written together or not at all.

    Raises:
        InputError: a setting or a run file is wrong, or a path cannot be written.
    """
    weights = arguments.weights or [1.0] * len(arguments.runs)
    _check(arguments, weights)
    runs = [RunFile(path, arguments.depth) for path in arguments.runs]
    fused = _Written(arguments.runs, arguments.tag)
    with write_run(arguments.save_path) as (out, manifest):
        for query in fuse_runs(runs, arguments.method, weights, arguments.rrf_k):
            fused.write(out, query)
        settings = {name: getattr(arguments, name) for name in ("rrf_k", "depth", "tag")}
        manifest |= {
            "versions": versions(),
            "method": f"fuse {arguments.method}",
            "runs": list(map(str, arguments.runs)),
            "settings": {"weights": weights, **settings},
            "counters": fused.as_dict(),
        }
    print(fused.table())
    print(f"saved {arguments.save_path}")


def _check(arguments: argparse.Namespace, weights: Sequence[float]) -> None:
    """Find out what is wrong before large files are read."""
    check_run_fusion(arguments.method, weights, len(arguments.runs), arguments.rrf_k)
    if arguments.depth is not None and arguments.depth < 1:
        raise SettingsError(f"--depth is {arguments.depth}: give 1 or more documents")
    check_save_path(arguments.save_path)
    for path in arguments.runs:
        check_other(arguments.save_path, path, f"--run {path}")


class _Written:
    """Writes fused queries, and counts what was written."""

    def __init__(self, paths: Sequence[str], tag: str) -> None:
        self._paths, self._tag = paths, tag
        self._queries = self._documents = 0
        self._lacking = [0] * len(paths)
        self._first: list[list[str]] = [[] for _ in paths]

    def write(self, out: IO[str], query: FusedQuery) -> None:
        scores = strictly_decreasing([entry.score for entry in query.documents])
        documents = [
            RankedDocument(entry.doc_id, score, entry.score, rank)
            for rank, (entry, score) in enumerate(zip(query.documents, scores, strict=True), 1)
        ]
        write_ranking(out, query.query_id, documents, self._tag)
        self._queries += 1
        self._documents += len(documents)
        for index in query.lacking:
            self._lacking[index] += 1
            if len(self._first[index]) < _FIRST:
                self._first[index].append(query.query_id)

    def as_dict(self) -> dict[str, Any]:
        """For the manifest; `lacking` has the number of queries that each run does not have."""
        return {
            "queries": self._queries,
            "documents": self._documents,
            "lacking": self._lacking,
        }

    def table(self) -> str:
        rows = [f"{self._queries:,} queries, {self._documents:,} documents"]
        for path, count, first in zip(self._paths, self._lacking, self._first, strict=True):
            if count:
                more = ", ..." if count > len(first) else ""
                rows.append(f"{path}: {count:,} queries are not in it ({', '.join(first)}{more})")
        return "\n".join(rows)
