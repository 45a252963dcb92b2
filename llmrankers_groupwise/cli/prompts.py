"""The command `run-groupwise prompts`: which prompts there are, and pulling published ones."""

from __future__ import annotations

import argparse
from typing import Any

from tabulate import tabulate

from llmrankers_groupwise.prompting.prompt_file import (
    bundled_prompts,
    prompt_folder,
    pulled_prompts,
)
from llmrankers_groupwise.prompting.published import SOURCES, find_source, pull

__all__ = ["add_prompts_parser", "run_prompts"]


def add_prompts_parser(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """Add `prompts list` and `prompts pull` to the commands; gives their parsers."""
    prompts = commands.add_parser(
        "prompts",
        help="list the prompts there are; pull one that was published with a checkpoint",
        allow_abbrev=False,
    )
    actions = prompts.add_subparsers(
        title="actions", dest="action", required=True, metavar="ACTION"
    )
    listed = actions.add_parser(
        "list", help="names, methods, checkpoints, sources and paths", allow_abbrev=False
    )
    pulled = actions.add_parser(
        "pull",
        help="download a published prompt and save it as a prompt file",
        allow_abbrev=False,
    )
    add = pulled.add_argument
    add("name", metavar="NAME", help=f"one of {', '.join(SOURCES)}")
    add(
        "--from",
        dest="from_file",
        metavar="FILE",
        help="the published file, where it was downloaded by hand",
    )
    add("--save_path", metavar="FILE", help="where to save; by default where --prompt_file looks")
    add("--force", action="store_true", help="replace another file of that name")
    return {"list": listed, "pull": pulled}


def run_prompts(arguments: argparse.Namespace) -> None:
    """Do what `prompts list` or `prompts pull` says.

    Raises:
        GroupwiseError: as `find_source` and `pull`.
    """
    if arguments.action == "list":
        print(_table())
        return
    source = find_source(arguments.name)
    path = pull(
        source,
        from_file=arguments.from_file,
        save_path=arguments.save_path,
        force=arguments.force,
    )
    known = path == prompt_folder() / f"{source.name}.toml"
    print(f"{source.name}: {path}")
    print(
        f"for {source.checkpoint} ({source.method}): --prompt_file {source.name if known else path}"
    )


def _table() -> str:
    """A line for each prompt: bundled, published, and what else is in the folder of pulled ones."""
    pulled = pulled_prompts()
    rows = [("name", "method", "checkpoint", "licence", "source", "where")]
    for name in bundled_prompts():
        rows.append((name, name.partition("_")[0], "any", "Apache-2.0", "this package", "bundled"))
    for name, source in SOURCES.items():
        rows.append(
            (
                name,
                source.method,
                source.checkpoint,
                source.licence,
                f"{source.repository}@{source.commit[:12]}",
                str(pulled.pop(name, "not pulled")),
            )
        )
    rows += [(name, "-", "-", "-", "-", str(path)) for name, path in pulled.items()]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)
