"""Presets: sets of defaults by name, for the command and for GroupwiseLlmRanker.

A preset only sets defaults: whatever is given besides wins, engine arguments key by key.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmrankers_groupwise.engines.base import Engine
from llmrankers_groupwise.engines.registry import engine_class
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.types import Sampling

__all__ = ["PRESETS", "Preset", "check_preset", "find_preset", "preset_options", "with_preset"]

_SAMPLING = frozenset(each.name for each in dataclasses.fields(Sampling)) - {"seed"}
# A ranker has its sampling in one object, and leaves cutting to its caller, as the command does.
_ELSEWHERE = _SAMPLING | {"query_length", "passage_length"}


@dataclass(frozen=True)
class Preset:
    """A set of defaults.

    Attributes:
        about: what it is for, in a line.
        options: settings by the names of the command's options, which are those of
            GroupwiseLlmRanker, of Sampling, and the lengths that texts are cut to.
        engine_args: an engine's name -> its arguments.
    """

    about: str
    options: Mapping[str, Any]
    engine_args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_LOCAL = {"max_model_len": 32_000, "dtype": "bfloat16"}

_AT_ONCE = {"scoring": "likelihood", "reasoning_tokens": 0}
# docs/background/grouping.md: better than random groups alone for the same calls, mostly.
_FINALS = {**_AT_ONCE, "final_round": 20}

PRESETS: Mapping[str, Preset] = {
    "grouprank": Preset(
        "as GroupRank's authors ran their checkpoints: reasoning, two random repeats, sampled",
        {
            "scoring": "generation",
            "prompt_file": "grouprank",
            "group_size": 20,
            "num_repeat": 2,
            "grouping": "random",
            "first_stage_weight": 0.4,
            "seed": 666,
            "temperature": 0.3,
            "top_p": 0.8,
            "max_tokens": 8000,
            # The prompt file cuts passages by itself, at 3,000 characters.
            "query_length": 32_000,
            "passage_length": 32_000,
        },
        {"openai": {"max_model_len": 32_000}, "transformers": _LOCAL, "vllm": _LOCAL},
    ),
    "fast": Preset(
        "scores filled in at once, every document asked about once",
        {**_AT_ONCE, "num_repeat": 1},
    ),
    "balanced": Preset(
        "one call more than fast: the best of all groups once more, together",
        {**_FINALS, "num_repeat": 1, "final_calls": 1},
    ),
    "quality": Preset(
        "three repeats, then the best of all together five times: 20 calls for 100 documents",
        {**_FINALS, "num_repeat": 3, "final_calls": 5},
    ),
}


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        SettingsError: there is none.
    """
    if name in PRESETS:
        return PRESETS[name]
    close = difflib.get_close_matches(str(name), PRESETS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"give one of {', '.join(PRESETS)}"
    raise SettingsError(f"preset is {name!r}, which is unknown; {hint}")


def preset_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's options, its final round fitted to what was chosen besides.

    It is no larger than the groups, and it goes with its calls where there is to be none, or where
    a group of one has nothing to compare.

    Args:
        name: the preset's.
        given: group_size and final_round where they were chosen; None counts as not chosen.

    Raises:
        SettingsError: the preset is unknown.
    """
    options = dict(find_preset(name).options)
    group_size = given.get("group_size")
    if isinstance(group_size, int) and 0 < group_size < options.get("final_round", 0):
        options["final_round"] = group_size
    if group_size == 1 or given.get("final_round") == 0:
        options.pop("final_round", None)
        options.pop("final_calls", None)
    return options


def with_preset(name: str, given: Mapping[str, Any], default_engine: str) -> dict[str, Any]:
    """The arguments of GroupwiseLlmRanker: those given, and the preset's where none is.

    Args:
        name: the preset's.
        given: keyword arguments of GroupwiseLlmRanker.
        default_engine: the engine where none is given.

    Raises:
        SettingsError: the preset is unknown, or the engine cannot do it.
    """
    preset, options = find_preset(name), preset_options(name, given)
    own = {key: value for key, value in options.items() if key not in _ELSEWHERE}
    settings: dict[str, Any] = {**own, **given}
    engine = settings.get("engine", default_engine)
    check_preset(name, engine, settings["scoring"])
    if settings.get("sampling") is None:
        drawing = {key: value for key, value in options.items() if key in _SAMPLING}
        settings["sampling"] = Sampling(seed=settings.get("seed", 0), **drawing)
    if isinstance(engine, str):  # an object has its arguments already
        arguments = preset.engine_args.get(engine, {})
        settings["engine_args"] = {**arguments, **(settings.get("engine_args") or {})}
    return settings


def check_preset(name: str, engine: str | Engine, scoring: str | None) -> None:
    """Raise SettingsError if the engine cannot score as the preset wants it to.

    A scoring that was chosen instead of the preset's is left to the ranker's own check.
    """
    wanted = find_preset(name).options["scoring"]
    able = (engine_class(engine) if isinstance(engine, str) else engine).scorings
    if scoring == wanted and able and wanted not in able:
        who = f"engine {engine}" if isinstance(engine, str) else "this engine"
        raise SettingsError(
            f"preset {name} scores by {wanted}, and {who} does {' and '.join(able)} only: choose "
            f"another engine, or another preset"
        )
