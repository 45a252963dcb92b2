"""Training lists as rows of data sets: for SFT, for reinforcement learning, for retrievers.

Prompts are rendered as at inference, from the same prompt file, so that both are the same to the
byte. A completion keeps the contract that its prompt file asks for: the tags that `prompt_user`
speaks of, and the answer alone where it speaks of none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llmrankers_groupwise.prompting.prompt_file import PromptFile
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.prompting.tags import ANSWER, REASONING_BLOCK, REASONING_TAG, answered
from llmrankers_groupwise.training.data.labels import Labelled, SubList

__all__ = [
    "Row",
    "answer_reason",
    "answer_text",
    "asks_for_reasoning",
    "rl_row",
    "sentence_transformers_rows",
    "sft_row",
    "tevatron_row",
    "trained_negatives",
]

Row = dict[str, Any]


def answer_text(chosen: SubList, method: str, prompt: PromptFile, reason: str | None) -> str:
    """The reply that a list's labels ask for.

    Args:
        chosen: the list.
        method: "groupwise", whose answer is a JSON object of whole scores, or "setwise", whose
            answer is the label of the relevant document.
        prompt: the prompt file, by whose tags the reply is made.
        reason: the reasoning; None leaves its tags empty, where there are tags.
    """
    if method == "setwise":
        answer = f"[{chosen.best}]"
    else:
        labelled = enumerate(chosen.gold, start=1)
        answer = json.dumps({f"[{label}]": round(score) for label, score in labelled})
    if ANSWER not in prompt.prompt_user:
        return answer
    body = answer if method == "setwise" else f"\n```json\n{answer}\n```\n"
    answer = answered(body)
    tag = REASONING_TAG.search(prompt.prompt_user)
    return f"<{tag[1]}>{reason or ''}</{tag[1]}>\n{answer}" if tag else answer


def asks_for_reasoning(prompt: PromptFile) -> bool:
    """Whether replies to this prompt have reasoning in tags before the answer."""
    return ANSWER in prompt.prompt_user and bool(REASONING_TAG.search(prompt.prompt_user))


def answer_reason(text: str) -> str:
    """The reasoning of such a reply; "" where it has none."""
    match = REASONING_BLOCK.match(text)
    return match[2].strip() if match else ""


def sft_row(
    pool: Labelled, chosen: SubList, method: str, prompt: PromptFile, reason: str | None
) -> Row:
    """A prompt and its completion as chat messages, the layout in which TRL trains on answers."""
    completion = [{"role": "assistant", "content": answer_text(chosen, method, prompt, reason)}]
    row = rl_row(pool, chosen, method, prompt)
    return {"prompt": row.pop("prompt"), "completion": completion, **row}


def rl_row(pool: Labelled, chosen: SubList, method: str, prompt: PromptFile) -> Row:
    """A prompt with what `training.rewards` compares replies to."""
    request = render(pool.query, [pool.texts[member] for member in chosen.members], prompt)
    row: Row = {
        "prompt": list(request.messages),
        "query_id": pool.query_id,
        "doc_ids": [pool.doc_ids[member] for member in chosen.members],
    }
    if method == "setwise":
        return {**row, "ground_truth": f"[{chosen.best}]"}
    return {**row, "gold": list(chosen.gold), "relevant": list(chosen.relevant)}


def trained_negatives(pool: Labelled, positives: int, negatives: int) -> list[int]:
    """Indexes in the label order of hard negatives, the hardest first; fewer where there are few.

    A hard negative ranks high in the first stage, and is no plausible positive: it is of the
    worse half of the label order, and its gold score is at most half of that of the worst positive
    (the margin of positive-aware mining, arXiv 2407.15831, on labels instead of similarities).
    """
    if not positives or len(pool.gold) <= positives:
        return []
    limit = pool.gold[positives - 1] / 2
    start = max(positives, (len(pool.gold) + 1) // 2)
    worse = [index for index in range(start, len(pool.gold)) if pool.gold[index] <= limit]
    return sorted(worse, key=lambda index: pool.first_stage[index])[:negatives]


def sentence_transformers_rows(
    pool: Labelled, positives: int, negatives: Sequence[int]
) -> list[Row]:
    """A row for each of the best documents: query, positive, negative_1.., and scores of all.

    sentence-transformers takes the column `score` for labels, which MarginMSELoss learns from and
    MultipleNegativesRankingLoss leaves alone.

    Args:
        pool: labels and texts.
        positives: how many of the best.
        negatives: indexes in the label order; as many for every pool, as rows share their columns.
    """
    columns = {f"negative_{number}": pool.texts[index] for number, index in enumerate(negatives, 1)}
    return [
        {
            "query": pool.query,
            "positive": pool.texts[index],
            **columns,
            "score": [pool.gold[each] for each in (index, *negatives)],
        }
        for index in range(positives)
    ]


def tevatron_row(pool: Labelled, positives: int, negatives: Sequence[int]) -> Row:
    """A pool as Tevatron trains on it; our `score` 0..10 of a passage is left alone by it."""

    def passages(indexes: Sequence[int]) -> list[Row]:
        return [
            {
                "docid": pool.doc_ids[index],
                "title": "",  # texts begin with it
                "text": pool.texts[index],
                "score": pool.gold[index],
            }
            for index in indexes
        ]

    return {
        "query_id": pool.query_id,
        "query": pool.query,
        "positive_passages": passages(range(positives)),
        "negative_passages": passages(negatives),
    }
