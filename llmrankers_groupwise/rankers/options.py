"""What rankers can be given, declared by dataclasses: names and types of their arguments."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, cast, get_type_hints

from llmrankers_groupwise.engines.base import Engine, EngineSettings, ModelName
from llmrankers_groupwise.engines.registry import ENGINES, resolve_engine
from llmrankers_groupwise.settings import INTERNAL, FilePath, Form, values_of
from llmrankers_groupwise.types import Sampling, Scoring

__all__ = ["RankerOptions", "takes"]


@dataclass(frozen=True)
class _Prompted(ModelName):
    """A model and its prompt. It comes before what EngineSettings has: in llm-rankers' order.

    Attributes:
        prompt_file: the prompt: a file, or a name of `prompts list`. By default the prompt that the
            model was trained with by `run-groupwise train`, or a bundled one for the scoring.
    """

    prompt_file: FilePath | None = None


@dataclass(frozen=True)
class RankerOptions(EngineSettings, _Prompted):
    """What every ranker can be given besides the options of its method.

    Attributes:
        scoring: fill in a form and read probabilities (likelihood), or write a text and parse it
            (generation); by default what the engine does best.
        engine: the engine that answers, by its name; in Python also an object of an `Engine`.
        sampling: how the engine draws tokens.
        max_failure_rate: the share of failed groups above which FailureRateError is raised.
        journal: a file to keep replies in, so that no question is asked twice; by default none.
            Closed with the ranker.
        verbose: log every prompt and reply, to standard error unless logging is set up otherwise.
    """

    _: KW_ONLY
    scoring: Scoring | None = None
    engine: Annotated[str | Engine, Form("NAME", choices=ENGINES)] = "embedded"
    sampling: Sampling | None = None
    max_failure_rate: Annotated[float, INTERNAL] = 0.1
    journal: Annotated[str | Path | None, INTERNAL] = None
    verbose: Annotated[bool, INTERNAL] = False

    def make_engine(self) -> Engine:
        """The engine that these options name or hold.

        Raises:
            SettingsError, MissingDependencyError: as `engines.registry.resolve_engine`.
        """
        settings = values_of(self, EngineSettings) | {"engine_args": self.engine_args or {}}
        return resolve_engine(self.engine, EngineSettings(**settings))


Options = TypeVar("Options")
Ranker = TypeVar("Ranker")
Given = ParamSpec("Given")


def takes(
    options: Callable[Given, Options],
) -> Callable[[Callable[[Ranker, Options], None]], Callable[Concatenate[Ranker, Given], None]]:
    """Make a constructor that gets one record of options take the record's fields as arguments.

    Type checkers and `help` see the fields, so that they are declared nowhere else.

    Args:
        options: the class of the record.
    """
    known, hints = inspect.signature(options), get_type_hints(options)

    def decorate(
        constructor: Callable[[Ranker, Options], None],
    ) -> Callable[Concatenate[Ranker, Given], None]:
        @functools.wraps(constructor)
        def construct(self: Ranker, *args: Given.args, **kwargs: Given.kwargs) -> None:
            for name in kwargs:
                if name not in known.parameters:
                    raise TypeError(_unknown(name, known))
            constructor(self, options(*args, **kwargs))

        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        described: Any = construct
        arguments = [
            each.replace(annotation=hints[name]) for name, each in known.parameters.items()
        ]
        described.__signature__ = known.replace(parameters=[own, *arguments])
        return cast("Callable[Concatenate[Ranker, Given], None]", described)

    return decorate


def _unknown(name: str, known: inspect.Signature) -> str:
    close = difflib.get_close_matches(name, known.parameters, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known.parameters)}"
    return f"this ranker has no argument {name!r}; {hint}"
