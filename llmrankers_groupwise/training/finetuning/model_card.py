"""The model card of a trained ranker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["model_card"]

_RANKERS = {"groupwise": "GroupwiseLlmRanker", "setwise": "SetwiseLlmRanker"}


def model_card(described: Mapping[str, Any]) -> str:
    """README.md of a result: what it was made from and how, what came of it, how it is used.

    Args:
        described: the content of training.json.
    """
    method, data = described["method"], described["data"]
    ranker = _RANKERS[method]
    template = described["settings"].get("chat_template_kwargs")
    more = f", engine_args={{'chat_template_kwargs': {dict(template)!r}}}" if template else ""
    header = {
        "base_model": described["model"],
        "library_name": "transformers",
        "pipeline_tag": "text-ranking",
        "tags": ["trl", described["action"], method, "reranking"],
    }
    lines = [
        "---",
        *(f"{name}: {json.dumps(value)}" for name, value in header.items()),
        "---",
        "",
        f"# A {method} reranker",
        "",
        f"Made from {described['model']} by `run-groupwise train {described['action']}` with "
        f"{data['rows'] - data['too_long']} rows of `{data['path']}` "
        f"(sha256 {data['sha256']}; {data['too_long']} rows were too long).",
        "",
        "## How to use it",
        "",
        "```python",
        f"from llmrankers_groupwise import {ranker}",
        "",
        f'ranker = {ranker}("THIS_FOLDER", engine="transformers"{more})',
        "```",
        "",
        "`prompt.toml` is the prompt that it was trained with; it is found by itself.",
        "",
        *_table("Results", described.get("metrics", {})),
        *_table("Settings", described["settings"]),
        *_table("Versions", described["versions"]),
    ]
    return "\n".join(lines)


def _table(title: str, values: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items()]
    return [f"## {title}", "", "| | |", "|---|---|", *rows, ""]


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
