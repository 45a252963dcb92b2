"""nDCG@10 before and after reranking, with the command that makes each number.

Runs `run-groupwise` on the collections of a folder laid out as trec-dl19/, scifact/, vaswani/ and
noveleval/ with corpus.jsonl, queries.tsv, qrels.txt and runs/*.trec, and prints a Markdown table.

    python benchmarks/quality.py --collections DIR
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from typing import Any

RUNS = (
    ("trec-dl19", "bm25"),
    ("trec-dl19", "splade_pp_ed"),
    ("scifact", "bm25"),
    ("vaswani", "bm25"),
    ("noveleval", "google_order"),
)
SETTINGS = ("", "--first_stage_weight 0.3")


def command(folder: str, collection: str, run: str, out: str, settings: str) -> list[str]:
    """The command line for one row."""
    base = f"{folder}/{collection}"
    return shlex.split(
        f"run-groupwise run --run_path {base}/runs/{run}.trec --query_file {base}/queries.tsv "
        f"--corpus {base}/corpus.jsonl --qrels {base}/qrels.txt --save_path {out} --hits 100 "
        f"--engine embedded --json groupwise --group_size 20 {settings}"
    )


def measured(arguments: list[str]) -> dict[str, Any]:
    """The summary that the command prints."""
    ran = subprocess.run(
        [sys.executable, "-m", "llmrankers_groupwise.cli", *arguments[1:]],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    summary: dict[str, Any] = json.loads(ran.stdout)
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--collections", required=True)
    folder = parser.parse_args().collections
    print("Each row is this command, with its collection, run and settings:\n")
    print(f"    {shlex.join(command('$COLLECTIONS', 'COLLECTION', 'RUN', 'OUT', 'SETTINGS'))}\n")
    print("| collection | run | settings | queries | nDCG@10 before | after | change | seconds |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as scratch:
        for collection, run in RUNS:
            for settings in SETTINGS:
                summary = measured(command(folder, collection, run, f"{scratch}/out", settings))
                before, after = summary["measures"]["nDCG@10"].values()
                print(
                    f"| {collection} | {run} | {settings or 'default'} "
                    f"| {summary['judged_queries']} | {before:.4f} | {after:.4f} "
                    f"| {after - before:+.4f} | {summary['seconds']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
