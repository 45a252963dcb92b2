"""What compared runs were made with: settings that differ, and those that are the same (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrankers_groupwise.journal.run_description import RunDescription

__all__ = ["run_settings"]

_OF_RUN = ("hits", "query_length", "passage_length")
_OF_ENGINE = ("engine", "model", "lora", "engine_args")


def run_settings(runs: Mapping[str, RunDescription | None]) -> dict[str, Any]:
    """The settings of all runs, ready for JSON.

    Args:
        runs: run -> what its manifest has; None where it has none.

    Returns:
        "differ": [setting, [a text for each run, None where it has no such setting]];
        "same": [setting, its text], of the runs with a manifest. Both are empty where no run has
        one.
    """
    made = [None if each is None else _flat(each) for each in runs.values()]
    known = [each for each in made if each is not None]
    differ: list[list[Any]] = []
    same: list[list[Any]] = []
    for name in dict.fromkeys(name for each in known for name in each):
        values = [None if each is None else each.get(name) for each in made]
        of_known = {each.get(name) for each in known}
        if len(of_known) > 1 or name in ("method", "model"):
            differ.append([name, values])
        else:
            same.append([name, of_known.pop()])
    return {"differ": differ, "same": same}


def _flat(run: RunDescription) -> dict[str, str]:
    """Setting -> its value as a text; the most telling ones come first."""
    engine = {name: run.engine[name] for name in _OF_ENGINE if run.engine.get(name)}
    replayed = run.engine.get("replayed")
    if isinstance(replayed, Mapping):  # of a merge, and of recordings
        engine |= {name: replayed[name] for name in _OF_ENGINE if replayed.get(name)}
    values: dict[str, Any] = {
        "method": run.method,
        "model": engine.pop("model", None),
        **engine,
        "preset": run.preset,
        "prompt": run.prompt.get("name"),
        **run.settings,
        **{name: value for name, value in run.sampling.items() if name != "seed"},
        **{name: run.run.get(name) for name in _OF_RUN},
    }
    return {name: _text(value) for name, value in values.items() if value not in (None, "", {})}


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    return str(value)
