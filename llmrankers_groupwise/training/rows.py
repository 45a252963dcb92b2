"""Training lists as rows of data sets: for SFT, for reinforcement learning, for retrievers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmrankers_groupwise.prompts import PromptFile, render
from llmrankers_groupwise.training.labels import Labelled, SubList

__all__ = [
    "groupwise_answer",
    "groupwise_rl_row",
    "groupwise_sft_row",
    "retriever_rows",
    "setwise_answer",
    "setwise_rl_row",
    "setwise_sft_row",
]

Row = dict[str, Any]


def groupwise_answer(gold: Sequence[float], reason: str | None) -> str:
    """The reply that keeps GroupRank's contract; without a reason the JSON object alone."""
    scores = {f"[{label}]": round(score) for label, score in enumerate(gold, start=1)}
    answer = json.dumps(scores)
    if reason is None:
        return answer
    return f"<reason>{reason}</reason>\n<answer>\n```json\n{answer}\n```\n</answer>"


def setwise_answer(label: int, reason: str | None) -> str:
    """The reply that keeps Rank-R1's contract."""
    answer = f"<answer>[{label}]</answer>"
    return answer if reason is None else f"<think>{reason}</think>\n{answer}"


def groupwise_sft_row(
    pool: Labelled, chosen: SubList, prompt: PromptFile, reason: str | None
) -> Row:
    """A prompt and its completion as chat messages, the layout in which TRL trains on the latter."""
    said = [{"role": "assistant", "content": groupwise_answer(chosen.gold, reason)}]
    return {**_asked(pool, chosen.members, prompt), "completion": said, "gold": list(chosen.gold)}


def groupwise_rl_row(pool: Labelled, chosen: SubList, prompt: PromptFile) -> Row:
    """A prompt with what `training.rewards` compares replies to."""
    return {
        **_asked(pool, chosen.members, prompt),
        "gold": list(chosen.gold),
        "relevant": list(chosen.relevant),
    }


def setwise_sft_row(
    pool: Labelled, members: Sequence[int], best: int, prompt: PromptFile, reason: str | None
) -> Row:
    """As of groupwise; `best` is the label, from 1, of the one relevant document."""
    said = [{"role": "assistant", "content": setwise_answer(best, reason)}]
    row = {**_asked(pool, members, prompt), "completion": said}
    return {**row, "ground_truth": f"[{best}]"}


def setwise_rl_row(pool: Labelled, members: Sequence[int], best: int, prompt: PromptFile) -> Row:
    """A prompt with the label that Rank-R1's reward is given for."""
    return {**_asked(pool, members, prompt), "ground_truth": f"[{best}]"}


def _asked(pool: Labelled, members: Sequence[int], prompt: PromptFile) -> Row:
    request = render(pool.query, [pool.texts[member] for member in members], prompt)
    return {
        "prompt": list(request.messages),
        "query_id": pool.query_id,
        "doc_ids": [pool.doc_ids[member] for member in members],
    }


def retriever_rows(pool: Labelled, positives: int, negatives: int) -> tuple[list[Row], Row]:
    """A pool for training retrievers, as sentence-transformers and as Tevatron read it.

    Positives are the best of the label order, hard negatives the last of it, each with its gold
    score 0..10. For sentence-transformers there is a row for each positive, with the negatives in
    columns of their own and the scores of all in `score`, the positive's first.

    Args:
        pool: labels and texts.
        positives, negatives: how many; fewer where the pool has not enough.
    """
    n = len(pool.doc_ids)
    best = range(min(positives, n))
    worst = range(max(len(best), n - negatives), n)
    columns = {f"negative_{number}": pool.texts[place] for number, place in enumerate(worst, 1)}
    rows = [
        {
            "query": pool.query,
            "positive": pool.texts[place],
            **columns,
            "score": [pool.gold[each] for each in (place, *worst)],
        }
        for place in best
    ]
    return rows, {
        "query_id": pool.query_id,
        "query": pool.query,
        "positive_passages": [_passage(pool, place) for place in best],
        "negative_passages": [_passage(pool, place) for place in worst],
    }


def _passage(pool: Labelled, place: int) -> Row:
    return {
        "docid": pool.doc_ids[place],
        "title": "",
        "text": pool.texts[place],
        "score": pool.gold[place],
    }
