"""Engines answer requests; each is a file or a folder, imported when it is first used."""

from llmrankers_groupwise.engines.base import Engine, EngineSettings
from llmrankers_groupwise.engines.ray.engine import RayEngine

__all__ = ["Engine", "EngineSettings", "RayEngine"]
