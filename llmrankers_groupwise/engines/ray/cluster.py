"""Ray as this process uses it: started or joined, left again, and the GPUs that it has."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.errors import MissingDependencyError, ModelError, SettingsError

__all__ = ["check_installed", "check_room", "gpus_of", "gpus_of_nodes", "join", "leave"]

_OBJECT_STORE = 256 * 2**20
"""Bytes. Requests and replies are small and travel beside the store, of which Ray would else take a
third of the memory."""

_lock = threading.Lock()
_users = 0
_kind: str | None = None
"""How this process came to Ray: "local" and "address" are left by us, "application" is not."""


def check_installed() -> None:
    """Raise MissingDependencyError if Ray is not installed; it is not imported yet."""
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError("workers need Ray on every node", "ray")


def join(address: str | None) -> str:
    """Connect this process to Ray, once for all engines of the process.

    Args:
        address: of a cluster, as ray.init takes it; None means that of the environment's
            RAY_ADDRESS, else a cluster on this machine that ends with the last `leave`.

    Returns:
        "local", "address", or "application" where that had initialised Ray before.

    Raises:
        ModelError: Ray cannot be started, or there is no cluster at the address.
    """
    global _users, _kind  # noqa: PLW0603  Ray is one for the process
    import ray

    with _lock:
        if _users == 0 or not ray.is_initialized():
            _users, _kind = 0, _connect(address or os.environ.get("RAY_ADDRESS") or "local")
        _users += 1
        assert _kind is not None
        return _kind


def leave() -> None:
    """Undo a `join`: the last one ends a cluster of our own, or the connection to another's."""
    global _users  # noqa: PLW0603
    import ray

    with _lock:
        _users = max(0, _users - 1)
        if _users == 0 and _kind != "application":
            ray.shutdown()


def _connect(address: str) -> str:
    import ray

    if ray.is_initialized():
        return "application"
    # It warns of the thread that we start it in, and of the token that guards its ports.
    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        settings |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        if folders := _folders_to_tell():
            settings["runtime_env"] = {"env_vars": {"PYTHONPATH": os.pathsep.join(folders)}}
    try:
        ray.init(address=address, **settings)
    except Exception as error:  # of many kinds
        raise ModelError(f"Ray cannot be used ({address}): {error}") from error
    return "local" if address == "local" else "address"


def _folders_to_tell() -> list[str]:
    """Where this process finds modules that a worker would not find, as of a changed sys.path.

    A worker has this environment's Python, PYTHONPATH, working folder and script's folder. If that
    is all, nothing is told, as a runtime environment costs seconds.
    """
    inherited = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    script = os.path.dirname(sys.argv[0])
    known = {Path(each).resolve() for each in (*inherited, os.curdir, script)}
    library = Path(sysconfig.get_path("stdlib")).resolve()
    folders = [Path(entry).resolve() for entry in sys.path]
    own = [
        str(folder)
        for folder in folders
        if folder.is_dir()
        and folder not in known
        and folder.name not in ("site-packages", "dist-packages")
        and library not in (folder, *folder.parents)
    ]
    return [*dict.fromkeys(own), *inherited] if own else []


def gpus_of(engine: object, settings: EngineSettings) -> int:
    """How many GPUs a copy of the engine takes where there are GPUs; engines not ours take none.

    Raises:
        SettingsError: a size in engine_args that is no whole number from 1.
    """
    if engine == "transformers":
        return int(settings.device is None or settings.device.startswith("cuda"))
    if engine != "vllm":
        return 0
    gpus = 1
    for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
        size = settings.engine_args.get(name, 1)
        if type(size) is not int or size < 1:
            raise SettingsError(f"engine_args {name} is {size!r}: give a whole number from 1")
        gpus *= size
    return gpus


def gpus_of_nodes() -> list[float]:
    """The GPUs that Ray counts on each of the cluster's nodes, used ones included."""
    import ray

    nodes: Sequence[Mapping[str, Any]] = ray.nodes()
    return [float(node["Resources"].get("GPU", 0)) for node in nodes if node["Alive"]]


def check_room(num_workers: int, gpus: float, nodes: Sequence[float]) -> None:
    """Raise SettingsError if `num_workers` workers have no room on an empty cluster.

    Args:
        num_workers: how many are wanted.
        gpus: what each takes, all on one node.
        nodes: the GPUs of each node.
    """
    if gpus == 0:
        return
    room = sum(int(node / gpus + 1e-6) for node in nodes)
    if room < num_workers:
        have = ", ".join(f"{node:g}" for node in nodes) or "none"
        raise SettingsError(
            f"{num_workers} workers with {gpus:g} GPUs each have no room on this cluster, whose "
            f"nodes have GPUs: {have}. Give num_workers {room} or less, gpus_per_worker, or "
            f"another cluster; a worker's GPUs are on one node"
        )
