"""Options that run an engine in workers of Ray, and what they make of it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.ray.engine import RayEngine
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.rankers.presets import find_preset
from llmrankers_groupwise.settings import settings_of

__all__ = ["add_worker_options", "check_worker_options", "clear_output", "in_workers"]


def add_worker_options(group: argparse._ArgumentGroup) -> None:
    """Add them to the group."""
    add = group.add_argument
    add("--distributed", choices=("ray",), help="run copies of the engine in workers of Ray")
    add("--num_workers", type=int, metavar="N", help="the number of copies; by default one")
    add(
        "--gpus_per_worker",
        type=float,
        metavar="G",
        help="the GPUs of each copy; by default those of the engine's settings",
    )
    add(
        "--ray_address",
        metavar="ADDRESS",
        help="a running cluster; by default RAY_ADDRESS, or a cluster on this machine for this run",
    )


def check_worker_options(arguments: argparse.Namespace) -> None:
    """Raise SettingsError for one that has no meaning without --distributed, or for no engine."""
    if arguments.distributed is not None and arguments.engine == "replay":
        raise SettingsError("engine replay looks replies up: drop --distributed")
    for name in ("num_workers", "gpus_per_worker", "ray_address"):
        if getattr(arguments, name) is not None and arguments.distributed is None:
            raise SettingsError(f"--{name} is for workers: add --distributed ray, or drop it")


def in_workers(settings: Mapping[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """A ranker's settings with the engine in workers, instead of the engine's own."""
    names = [each.name for each in settings_of(EngineSettings)]
    own = {name: settings[name] for name in names}
    if arguments.preset:  # which sets nothing of an engine that is made already
        preset = find_preset(arguments.preset).engine_args.get(arguments.engine, {})
        own["engine_args"] = {**preset, **own["engine_args"]}
    engine = RayEngine(
        arguments.engine,
        EngineSettings(**own),
        num_workers=1 if arguments.num_workers is None else arguments.num_workers,
        gpus_per_worker=arguments.gpus_per_worker,
        address=arguments.ray_address,
    )
    return {name: value for name, value in settings.items() if name not in own} | {"engine": engine}


def clear_output(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[object]:
    """Keeps standard output for results: Ray prints there what its nodes report."""
    if arguments.distributed:
        return contextlib.redirect_stdout(sys.stderr)
    return contextlib.nullcontext()
