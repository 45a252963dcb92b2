"""What every engine keeps, and how one is made from its name."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from llmrankers_groupwise.engines.lengths import estimated_beginning, estimated_tokens
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.prompting.parse_orders import OrderRule
from llmrankers_groupwise.settings import Arguments, FolderPath, Name
from llmrankers_groupwise.types import Reply, Request, Sampling, Scoring

__all__ = [
    "Engine",
    "EngineSettings",
    "ModelName",
    "PromptSize",
    "installed",
    "resolved_args",
    "shown_args",
]


@dataclass(frozen=True, slots=True)
class PromptSize:
    """What a request would cost.

    Attributes:
        tokens: of its prompt.
        estimated: whether these are an estimate.
        cut_passages: how many passages would be cut to fit the model's length.
    """

    tokens: int
    estimated: bool
    cut_passages: int = 0


class Engine(ABC):
    """Answers requests, any number at once, from any event loop or thread.

    A subclass needs `answer` alone. The attributes and methods below tell what
    else it can do; their defaults are those of a language model that writes texts, whose tokens are
    estimated, one for every four bytes of UTF-8.

    Attributes:
        scorings: what it does, its default first: "likelihood" is to fill a request's ScoreForm,
            "generation" to write a text.
        reads_prompts: whether it looks at a request's messages.
        reads_texts: whether it looks at more of a request than its origin.
        order_rule: how the listwise method reads its replies unless it is told otherwise.

    >>> import asyncio, json
    >>> from llmrankers_groupwise import Candidate, Engine, GroupwiseLlmRanker, Query, Reply
    >>> class LongestFirst(Engine):
    ...     async def answer(self, request, sampling):
    ...         scores = {label: min(10, len(text)) for label, text in
    ...                   zip(request.labels, request.passages)}
    ...         return Reply(json.dumps(scores))
    >>> ranker = GroupwiseLlmRanker(engine=LongestFirst())
    >>> candidates = [Candidate("d1", "short", 2.0), Candidate("d2", "much longer", 1.0)]
    >>> ranking, usage = asyncio.run(ranker.rank_candidates(Query("q1", "a query"), candidates))
    >>> [document.doc_id for document in ranking.documents]
    ['d2', 'd1']
    """

    scorings: tuple[Scoring, ...] = ("generation",)
    reads_prompts: bool = True
    reads_texts: bool = True
    order_rule: OrderRule = "labels"

    @abstractmethod
    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The reply to one request.

        Raises:
            EngineError: this request cannot be answered; others may be.
        """

    def prompt_size(self, request: Request, sampling: Sampling) -> PromptSize:
        """What the request would cost; found without the model.

        Raises:
            EngineError: the prompt does not fit, whatever is cut.
        """
        texts = [request.query, *request.passages]
        if self.reads_prompts:
            texts = [message["content"] for message in request.messages]
        return PromptSize(sum(map(self.count_tokens, texts)), estimated=True)

    def count_tokens(self, text: str) -> int:
        """How many of the model's tokens `text` has, special tokens not counted."""
        return estimated_tokens(text)

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` tokens."""
        return estimated_beginning(text, length)

    def describe(self) -> dict[str, object]:
        """Model, revision, versions and resolved settings, ready for JSON: for the manifest."""
        return {"engine": type(self).__name__}

    def identity(self) -> Mapping[str, object]:
        """What shapes the replies, ready for JSON; the journal files them under it.

        That is model, revision, adapter and arguments, but nothing that only shapes speed. It may
        look at files or ask a server; it loads no model.
        """
        return self.describe()

    def close(self) -> None:  # noqa: B027  nothing to free is usual
        """Free what the engine holds; open requests fail with EngineError."""


@dataclass(frozen=True)
class ModelName:
    """Which model, for what has more settings of it.

    Attributes:
        model_name_or_path: the model: a name on a hub, or a folder.
    """

    model_name_or_path: Name | None = None


@dataclass(frozen=True)
class EngineSettings(ModelName):
    """The settings of an engine. An engine refuses what it does not use.

    Attributes:
        lora_name_or_path: a LoRA adapter of the model.
        tokenizer_name_or_path: the tokenizer, if it is not the model's own.
        device: where the model runs, for example cpu or cuda:0.
        cache_dir: where downloaded models are kept.
        engine_args: an argument of the engine, by its own name; may be repeated.

    >>> settings = EngineSettings("Qwen/Qwen3-4B", engine_args={"max_model_len": 16_384})
    >>> settings.engine_args["max_model_len"]
    16384
    """

    lora_name_or_path: Name | None = None
    tokenizer_name_or_path: Name | None = None
    _: KW_ONLY
    device: Name | None = None
    cache_dir: FolderPath | None = None
    engine_args: Arguments = field(default_factory=dict)


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


def installed(*distributions: str) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for name in distributions:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
