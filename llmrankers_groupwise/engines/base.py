"""What every engine keeps, and how one is made from its name."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, cast, runtime_checkable

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.types import Reply, Request, Sampling, Scoring

__all__ = [
    "ENGINES",
    "Engine",
    "EngineSettings",
    "engine_class",
    "engine_identity",
    "installed",
    "resolve_engine",
    "resolved_args",
    "shown_args",
]


@runtime_checkable
class Engine(Protocol):
    """Answers requests, any number at once, from any event loop or thread.

    `scorings` lists what it can do, its default first: "likelihood" is filling a request's
    ScoreForm, "generation" writing a text. An engine that does not look at a request's messages
    says so by `reads_prompts = False`, and one that looks at a request's origin alone by
    `reads_texts = False`. One may have a method `identity()`; see `engine_identity`.
    """

    scorings: tuple[Scoring, ...]

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The reply to one request.

        Raises:
            EngineError: this request cannot be answered; others may be.
        """

    def count_tokens(self, text: str) -> int:
        """How many of the model's tokens `text` has, special tokens not counted."""

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` tokens."""

    def describe(self) -> dict[str, object]:
        """Model, revision, versions and resolved settings, ready for JSON: for the manifest."""

    def close(self) -> None:
        """Free what the engine holds; open requests fail with EngineError."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What a user says about the model; an engine refuses by name what it has no use for."""

    model_name_or_path: str | None = None
    lora_name_or_path: str | None = None
    tokenizer_name_or_path: str | None = None
    device: str | None = None
    cache_dir: str | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)


ENGINES: Mapping[str, str] = {
    "embedded": "llmrankers_groupwise.engines.embedded:EmbeddedEngine",
    "openai": "llmrankers_groupwise.engines.openai.engine:OpenAIEngine",
    "replay": "llmrankers_groupwise.engines.recordings:RecordingsEngine",
    "transformers": "llmrankers_groupwise.engines.transformers.engine:TransformersEngine",
    "vllm": "llmrankers_groupwise.engines.vllm.engine:VllmEngine",
}
"""Engine name -> where its class is, imported when first used."""


def resolve_engine(engine: str | Engine, settings: EngineSettings) -> Engine:
    """The engine of this name, made with these settings, or the object itself.

    Raises:
        SettingsError: an unknown name, settings that the engine refuses, or an object that is no
            engine or that comes with settings.
        MissingDependencyError: the engine's extra is not installed.
    """
    if isinstance(engine, str):
        return engine_class(engine)(settings)
    if isinstance(engine, type) or not isinstance(engine, Engine):
        raise SettingsError(
            f"engine is {engine!r}: give one of {', '.join(ENGINES)}, or an object (no class) with "
            f"all that engines.protocol.Engine names: scorings, answer, count_tokens, truncate, "
            f"describe, close"
        )
    if not isinstance(engine.scorings, tuple | list) or not engine.scorings:
        raise SettingsError(f"the engine's scorings are {engine.scorings!r}: make it a tuple")
    if settings != EngineSettings():
        raise SettingsError(
            "give the settings of an engine (model, LoRA, tokenizer, device, cache_dir, "
            "engine_args) or an engine object that has its own, not both"
        )
    return engine


def resolved_args(
    engine: str, given: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """An engine's arguments with defaults filled in.

    Raises:
        SettingsError: an argument that the engine does not know, or one of another type.
    """
    for name, value in given.items():
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it knows {', '.join(defaults)}"
            raise SettingsError(f"engine_args has {name!r}, unknown to engine {engine}; {hint}")
        if isinstance(defaults[name], int | float) and (
            isinstance(value, bool) != isinstance(defaults[name], bool)
            or not isinstance(value, int | float)
        ):
            raise SettingsError(f"engine_args {name} is {value!r}: give one as {defaults[name]!r}")
    return {**defaults, **given}


_SECRET = re.compile(
    r"(?:^|_)(?:api)?(?:token|key|keys)$|secret|passw(?:or)?d|authorization|credential"
)
"""Names of secrets. A token_id, max_tokens or api_key_env (the name of a variable) is none."""


def shown_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """These arguments ready for JSON, values whose names look like secrets masked at any depth."""
    shown: dict[str, Any] = json.loads(json.dumps(_masked(args), default=str))
    return shown


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): "***" if _is_secret(str(name), each) else _masked(each)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked(each) for each in value]
    return value


def _is_secret(name: str, value: object) -> bool:
    if value is None or isinstance(value, bool):  # as of token=True: the one that is stored
        return False
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^0-9A-Za-z]+", "_", name)
    return _SECRET.search(words.lower()) is not None


def engine_identity(engine: Engine) -> Mapping[str, object]:
    """What of an engine shapes its replies, ready for JSON; the journal files them under it.

    That is what the engine's method `identity()` returns: model, revision, adapter and arguments,
    but nothing that only shapes speed. It may look at files or ask a server; it loads no model.
    Without that method it is all that the engine says in `describe()`.
    """
    identity: Callable[[], Mapping[str, object]] = getattr(engine, "identity", engine.describe)
    return identity()


def installed(*distributions: str) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for name in distributions:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def engine_class(name: str) -> Callable[[EngineSettings], Engine]:
    """What makes the engine of this name; its module is imported.

    Raises:
        SettingsError: an unknown name.
    """
    if name not in ENGINES:
        raise SettingsError(f"engine is {name!r}: give one of {', '.join(ENGINES)}, or an object")
    module, _, attribute = ENGINES[name].partition(":")
    return cast("Callable[[EngineSettings], Engine]", getattr(import_module(module), attribute))
