"""The engine `replay`: it answers from a file of replies that others recorded."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from llmrankers_groupwise.engines.base import EngineSettings, resolved_args
from llmrankers_groupwise.engines.replay import ReplayEngine
from llmrankers_groupwise.errors import EngineError, FileError, SettingsError
from llmrankers_groupwise.files.record_files import LineIndex
from llmrankers_groupwise.files.text_files import SeekableFile, json_object
from llmrankers_groupwise.prompting.parse_orders import OrderRule
from llmrankers_groupwise.types import Origin, Reply, Scoring

__all__ = ["RecordingsEngine"]

_DEFAULTS: dict[str, Any] = {"recordings": None, "run_id": None, "allow_missing": False}
_MODEL = (
    "model_name_or_path", "lora_name_or_path", "tokenizer_name_or_path", "device", "cache_dir",
)  # fmt: skip
_EXAMPLES = 20


class RecordingsEngine(ReplayEngine):
    """Answers a request with the recorded reply to the same query and documents, in that order.

    A line of the recordings is a JSON object with `qid`, `docids` in prompt order and `response`;
    it may have a `repeat`, counted from 0, and a `run_id`, where a file has several runs. In
    memory are two integers for each line.

    Args:
        settings: engine_args are recordings (the file, plain or gzip), run_id (only this run's
            lines) and allow_missing (let a question without a line fail, instead of ending).

    Raises:
        SettingsError: no recordings, or settings of a model.
        FileError: the file cannot be read, a line is malformed, none is of the run, or two lines
            answer the same question differently.
    """

    scorings: tuple[Scoring, ...] = ("generation",)
    order_rule: OrderRule = "rank_llm"
    """As such recordings were read by those who made them."""

    def __init__(self, settings: EngineSettings) -> None:
        for name in _MODEL:
            if getattr(settings, name) is not None:
                raise SettingsError(
                    f"{name} is {getattr(settings, name)!r}, but engine replay has no model: "
                    f"drop it"
                )
        args = resolved_args("replay", settings.engine_args, _DEFAULTS)
        if not isinstance(args["recordings"], str | Path) or not str(args["recordings"]):
            raise SettingsError("engine replay answers from a file: give --recordings FILE.jsonl")
        run_id = args["run_id"]  # 7 on the command line is a number
        self._run_id = None if run_id is None else str(run_id)
        self._file = SeekableFile(args["recordings"])
        self._lock = threading.Lock()
        self._index = LineIndex()
        self._read()
        self._refuse_contradictions()
        super().__init__(self._reply, args, lenient=args["allow_missing"])

    def describe(self) -> dict[str, object]:
        """The file, its digest, and which run of it."""
        shown = {"recordings": str(self._file.path), "run_id": self._run_id}
        return {"engine": "replay", **shown, "sha256": self._sha256, "replies": len(self._index)}

    def identity(self) -> dict[str, object]:
        """The file's content, and which run of it."""
        return {"engine": "replay", "sha256": self._sha256, "run_id": self._run_id}

    def missing(self, problem: str) -> NoReturn:
        """End, as a ranking that goes on by guesses would be of no use.

        Raises:
            EngineError: gaps are allowed.
            FileError: else.
        """
        if self._lenient:
            raise EngineError(problem)
        raise FileError(
            f"{problem}. Are they of another first stage, of other settings of the method, or of "
            f"another run_id? --allow_missing --max_failure_rate 1 counts such questions as failed",
            self._file.path,
        )

    def _read(self) -> None:
        """Check all lines, and note where those of the run are."""
        others: dict[str, None] = {}
        for number, offset, text in self._file.lines():
            recorded = self._parsed(text, number)
            if self._run_id in (None, recorded["run_id"]):
                self._index.add(recorded["key"], offset)
            else:
                others[str(recorded["run_id"])] = None
        self._index.close()
        if not len(self._index):
            problem = "no recordings in it"
            if others:
                names = ", ".join([*others][:_EXAMPLES])
                more = f" and {len(others) - _EXAMPLES} more" if len(others) > _EXAMPLES else ""
                problem = f"no line is of the run {self._run_id!r}; there are {names}{more}"
            raise FileError(problem, self._file.path)

    @functools.cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256()
        for _, _, text in self._file.lines():
            digest.update(text.encode() + b"\n")
        return digest.hexdigest()

    def _reply(self, origin: Origin) -> Reply | None:
        key = _key(origin.query_id, list(origin.doc_ids), origin.repeat)
        with self._lock:
            for offset in self._index.offsets(key):
                recorded = self._parsed(self._file.line(offset), 0)
                if recorded["key"] == key:
                    return Reply(text=recorded["response"])
        return None

    def _parsed(self, text: str, number: int) -> dict[str, Any]:
        """A line's key, response and run_id."""
        line = json_object(text, self._file.path, number)
        query_id, doc_ids, repeat = line.get("qid"), line.get("docids"), line.get("repeat", 0)
        run_id = line.get("run_id")
        if not (
            _is_id(query_id)
            and isinstance(doc_ids, list)
            and doc_ids
            and all(map(_is_id, doc_ids))
            and isinstance(line.get("response"), str)
            and type(repeat) is int
            and (run_id is None or _is_id(run_id))
        ):
            raise FileError(
                'a line is {"qid": id, "docids": [ids in prompt order], "response": text}, with '
                '"repeat": number and "run_id": name where needed',
                self._file.path,
                number,
            )
        key = _key(str(query_id), list(map(str, doc_ids)), repeat)
        run_id = None if run_id is None else str(run_id)
        return {"key": key, "response": line["response"], "run_id": run_id}

    def _refuse_contradictions(self) -> None:
        for offsets in self._index.shared():
            seen: dict[str, Mapping[str, Any]] = {}
            for offset in offsets:
                recorded = self._parsed(self._file.line(offset), 0)
                first = seen.setdefault(recorded["key"], recorded)
                if first["response"] != recorded["response"]:
                    runs = sorted({str(first["run_id"]), str(recorded["run_id"])})
                    raise FileError(
                        "answers the same question otherwise than a line before it"
                        + (
                            f": choose a run, --engine_args run_id={runs[0]} for instance"
                            if len(runs) > 1
                            else "; keep one of them, or number their repeats"
                        ),
                        self._file.path,
                        self._file.number(offset),
                    )


def _is_id(value: object) -> bool:
    return type(value) in (str, int)


def _key(query_id: str, doc_ids: list[str], repeat: int) -> str:
    return json.dumps([query_id, repeat, doc_ids])
