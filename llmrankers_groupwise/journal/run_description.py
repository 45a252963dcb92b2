"""What describes a run, as its journal and its manifest keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

__all__ = ["RunDescription", "RunIdentity"]


class _Record:
    """Reads itself from JSON, from other versions of this package, too."""

    @classmethod
    def from_json(cls, data: object) -> Self:
        """What is known of `data`. What is missing, or is of another type, has its default."""
        known = cls()
        values: dict[str, Any] = {}
        for each in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = data.get(each.name) if isinstance(data, Mapping) else None
            default = getattr(known, each.name)
            if isinstance(default, _Record):
                values[each.name] = default.from_json(value)
            elif isinstance(value, str if default is None else type(default)):
                values[each.name] = value
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON if the mappings are."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True, kw_only=True)
class RunIdentity(_Record):
    """What tells the questions of a run from those of another one.

    Attributes:
        method: its name.
        settings: of the method.
        prompt: the fields of the PromptFile.
        sampling: the fields of the Sampling.
        engine: what shapes the engine's replies, `Engine.identity`.
        query_length, passage_length: the tokens that texts were cut to.
        first_stage: the digest of the first stage.
    """

    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    prompt: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    query_length: int = 0
    passage_length: int = 0
    first_stage: str = ""


@dataclass(frozen=True, kw_only=True)
class RunDescription(_Record):
    """What a run did, with what, and in which versions.

    Attributes:
        versions: package -> version.
        run: the options of the experiment, and where its inputs come from.
        method: its name; of a fusion "fuse" and its own.
        preset: the preset that gave defaults; None for none.
        settings: of the method.
        prompt: name and hash of the prompt file.
        sampling: the fields of the Sampling.
        engine: as the engine describes itself.
        queries: the queries of the first stage; in journals alone.
        asked: what tells the run from others; in journals alone.
    """

    versions: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    prompt: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    queries: int = 0
    asked: RunIdentity = field(default_factory=RunIdentity)

    @property
    def merged(self) -> Mapping[str, Any] | None:
        """The options of the run whose replies a merge took; None of what is no merge."""
        merged = self.run.get("merged")
        return merged if isinstance(merged, Mapping) else None
