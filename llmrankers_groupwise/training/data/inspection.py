"""What is in a training set, in figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrankers_groupwise.engines.llm.pretrained import load_tokenizer
from llmrankers_groupwise.errors import FileError, SettingsError
from llmrankers_groupwise.files.text_files import json_object, lines
from llmrankers_groupwise.training.data.labels import Kind, size_shares
from llmrankers_groupwise.training.data.load import ROW_FILES, TrainingRows, load_rows
from llmrankers_groupwise.training.data.prompt_limits import prompt_tokens
from llmrankers_groupwise.training.data.rows import Row, answer_reason

__all__ = ["Figures", "inspect_rows", "inspect_training_set", "length_figures"]


@dataclass
class Figures:
    """The figures of the rows of one kind.

    Attributes:
        kind, method: of the rows.
        rows, queries: how many there are.
        sizes: documents of a list -> lists.
        published: size -> its published share among groupwise lists of this kind; else empty.
        gold: gold score, rounded -> documents.
        relevant: relevant documents of a list -> lists.
        best_labels: of setwise lists, the right label -> lists.
        prompt, completion: characters, or tokens, of each row.
        unit: which of them.
        reasons: rows whose completion has reasoning.
        limit: the longest row that is to be trained on; None for no limit.
    """

    kind: str
    method: str
    rows: int
    queries: int = 0
    sizes: Counter[int] = field(default_factory=Counter)
    published: Mapping[int, float] = field(default_factory=dict)
    gold: Counter[int] = field(default_factory=Counter)
    relevant: Counter[int] = field(default_factory=Counter)
    best_labels: Counter[int] = field(default_factory=Counter)
    prompt: list[int] = field(default_factory=list)
    completion: list[int] = field(default_factory=list)
    unit: str = "characters"
    reasons: int = 0
    limit: int | None = None

    @property
    def too_long(self) -> int:
        """Rows whose prompt and completion together are over the limit."""
        if self.limit is None:
            return 0
        completions = self.completion or [0] * self.rows
        both = zip(self.prompt, completions, strict=True)
        return sum(prompt + completion > self.limit for prompt, completion in both)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON, lengths in sum."""
        counted = ("sizes", "gold", "relevant", "best_labels")
        return {
            **{name: getattr(self, name) for name in ("kind", "method", "rows", "queries")},
            **{name: dict(sorted(getattr(self, name).items())) for name in counted},
            "published_shares": dict(self.published),
            "unit": self.unit,
            "prompt": length_figures(self.prompt),
            "completion": length_figures(self.completion),
            "reasons": self.reasons,
            "limit": self.limit,
            "too_long": self.too_long,
        }


def length_figures(lengths: Sequence[int]) -> dict[str, float]:
    """Least, median, mean, 95th percentile and greatest; none of nothing."""
    if not lengths:
        return {}
    ordered = sorted(lengths)
    return {
        "min": ordered[0],
        "median": statistics.median(ordered),
        "mean": statistics.fmean(ordered),
        "p95": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        "max": ordered[-1],
    }


def inspect_training_set(
    path: str | Path, tokenizer_name_or_path: str | None = None, max_length: int | None = None
) -> list[Figures]:
    """The figures of each kind of rows in a folder, or of one file.

    Args:
        path: a folder that train synthesize made, or a file of rows.
        tokenizer_name_or_path: to measure lengths in tokens; None measures characters.
        max_length: the longest prompt and completion, in tokens; rows above it are counted.

    Raises:
        FileError: as `datasets.load_rows`.
        SettingsError: a maximum without a tokenizer, or below 1.
        ModelError: the tokenizer cannot be loaded.
    """
    if max_length is not None and max_length < 1:
        raise SettingsError(f"max_length is {max_length}: give 1 or more tokens")
    if max_length is not None and tokenizer_name_or_path is None:
        raise SettingsError("max_length counts tokens: give a tokenizer_name_or_path, too")
    sets = [load_rows(path, kind) for kind in _kinds(Path(path))]
    tokenizer = None
    if tokenizer_name_or_path is not None:
        tokenizer = load_tokenizer(tokenizer_name_or_path)
    return [inspect_rows(rows, tokenizer, max_length) for rows in sets]


def _kinds(path: Path) -> list[Kind]:
    """Which rows there are: a folder's by its files, a file's by its first line."""
    if path.is_dir():
        found = [kind for kind in ROW_FILES if (path / ROW_FILES[kind]).is_file()]
        return [kind for kind in ("sft", "rl") if kind in found] or ["sft"]
    if not path.exists():
        raise FileError("does not exist: give a folder that train synthesize made, or rows", path)
    number, _, line = next(lines(path))
    return ["sft" if "completion" in json_object(line, path, number) else "rl"]


def inspect_rows(rows: TrainingRows, tokenizer: Any = None, limit: int | None = None) -> Figures:
    """The figures of rows; lengths are in the tokens of a tokenizer, if one is given."""
    kind: Kind = "sft" if rows.kind == "sft" else "rl"
    figures = Figures(rows.kind, rows.method, len(rows.rows), limit=limit)
    figures.unit = "characters" if tokenizer is None else "tokens"
    figures.queries = len({row.get("query_id", number) for number, row in enumerate(rows.rows)})
    if rows.method == "groupwise":
        figures.published = size_shares(kind)
    for row in rows.rows:
        _count_labels(figures, row)
        figures.prompt.append(
            sum(len(message["content"]) for message in row["prompt"])
            if tokenizer is None
            else prompt_tokens(tokenizer, row)
        )
        if "completion" in row:
            text = row["completion"][-1]["content"]
            figures.reasons += bool(answer_reason(text))
            ids = None if tokenizer is None else tokenizer(text, add_special_tokens=False)
            figures.completion.append(len(text if ids is None else ids["input_ids"]))
    return figures


def _count_labels(figures: Figures, row: Row) -> None:
    if figures.method == "setwise":
        figures.best_labels[int(row["ground_truth"][1:-1])] += 1
        if "doc_ids" in row:
            figures.sizes[len(row["doc_ids"])] += 1
        return
    figures.sizes[len(row["gold"])] += 1
    figures.gold.update(round(score) for score in row["gold"])
    if "relevant" in row:
        figures.relevant[sum(row["relevant"])] += 1
