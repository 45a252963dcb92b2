"""What a model says, computed the long way: a whole forward pass for every question, no cache."""

from collections.abc import Sequence
from typing import Any

import torch

from llmrankers_groupwise.types import ScoreForm


def logits_behind(network: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = network(input_ids=torch.tensor([list(ids)]), use_cache=False).logits
    return logits[0, -1].float()


def written(network: Any, ids: Sequence[int], count: int, ends: frozenset[int]) -> list[int]:
    """What greedy decoding adds, at most `count` tokens, less the one that ends it."""
    new: list[int] = []
    while len(new) < count:
        token = int(logits_behind(network, [*ids, *new]).argmax())
        if token in ends:
            break
        new.append(token)
    return new


def filled_rows(
    network: Any, tokenizer: Any, before: Sequence[int], form: ScoreForm
) -> tuple[list[list[float]], str]:
    """The probability of every choice of every blank, and the form as greedily filled in.

    For tokenizers of bytes, where a form can be written in one way only: a choice's first digit
    among the digits, then "0" against what stands behind the blank.
    """
    ids, rows, answers = list(before), [], []
    for before_blank, behind in zip(form.fixed, form.fixed[1:], strict=False):
        ids += tokenizer.encode(before_blank)
        digits = [tokenizer.encode(str(digit))[0] for digit in range(10)]
        first = logits_behind(network, ids)[digits].softmax(dim=-1).tolist()
        zero, end = tokenizer.encode("0")[0], tokenizer.encode(behind)[0]
        second = logits_behind(network, [*ids, digits[1]])[[zero, end]].softmax(dim=-1).tolist()
        row = [*first, first[1] * second[0]]
        row[1] = first[1] * second[1]
        rows.append(row)
        answer = str(max(range(10), key=lambda digit: first[digit]))
        if answer == "1" and second[0] > second[1]:
            answer = "10"
        answers.append(answer)
        ids += tokenizer.encode(answer)
    return rows, form.filled(answers)


def word_shares(
    network: Any, tokenizer: Any, before: Sequence[int], words: Sequence[str]
) -> list[float]:
    """The probability of each word behind `before`, for words whose first bytes differ."""
    firsts = [tokenizer.encode(word)[0] for word in words]
    shares: list[float] = logits_behind(network, before)[firsts].softmax(dim=-1).tolist()
    return shares
