"""The engines by name, and how one is made."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

from llmrankers_groupwise.engines.base import Engine, EngineSettings
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.types import Scoring

__all__ = ["ENGINES", "EngineClass", "engine_class", "resolve_engine"]

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
            f"engine is {engine!r}: give one of {', '.join(ENGINES)}, or an object of "
            f"a subclass of llmrankers_groupwise.Engine, not the class"
        )
    if not isinstance(engine.scorings, tuple | list) or not engine.scorings:
        raise SettingsError(f"the engine's scorings are {engine.scorings!r}: make it a tuple")
    if settings != EngineSettings():
        raise SettingsError(
            "give the settings of an engine (model, LoRA, tokenizer, device, cache_dir, "
            "engine_args) or an engine object that has its own, not both"
        )
    return engine


class EngineClass(Protocol):
    """What an engine is made by."""

    scorings: tuple[Scoring, ...]

    def __call__(self, settings: EngineSettings) -> Engine:
        """The engine with these settings."""


def engine_class(name: str) -> EngineClass:
    """The class of this name, whose module is imported. It is made from EngineSettings.

    Raises:
        SettingsError: an unknown name.
    """
    if name not in ENGINES:
        raise SettingsError(f"engine is {name!r}: give one of {', '.join(ENGINES)}, or an object")
    module, _, attribute = ENGINES[name].partition(":")
    return cast("EngineClass", getattr(import_module(module), attribute))
