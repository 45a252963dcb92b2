"""A decoder of about a million parameters, and the tasks it learns before it learns to rank."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from material import Material, Task, make_task

__all__ = ["pretrain"]

LARGEST_GROUP = 20
_VOCABULARY = 2048
_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
_NO_LOSS = -100
_READING = 0.1  # of the steps

Piece = tuple[str, bool]
"""A text, and whether it is to be predicted."""


def make_tokenizer(material: Material) -> Any:
    """Bytes and the pairs that make up words; labels, scores and tags as tokens of their own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<eos>", "<pad>"],
        show_progress=False,
    )
    words = (f" {word}" for word in material.words for _ in range(1_000))
    tokenizer.train_from_iterator((*words, *material.texts), trainer)
    numbers = range(1, LARGEST_GROUP + 1)
    own = [
        *(f"[{number}]" for number in numbers),
        *(f'"[{number}]": ' for number in numbers),
        *(str(score) for score in range(11)),
        *("<reason>", "</reason>", "\n<answer>\n```json\n{", "}\n```\n</answer>", ", "),
    ]
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in own])
    fast: Any = PreTrainedTokenizerFast
    wrapped = fast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")
    wrapped.chat_template = _TEMPLATE
    return wrapped


def make_model(tokenizer: Any, seed: int) -> Any:
    """Four layers of Llama's kind with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def pretrain(
    folder: Path, material: Material, *, steps: int, seed: int, log: Callable[[str], None]
) -> None:
    """Train a decoder from nothing and save it; the reply's contract is nowhere in its tasks.

    A lesson comes after the other: which words of a document are the query's, how many, how many
    in a document that is asked for by its label, and that in larger and larger groups. A tenth is
    text, word by word.
    """
    import torch

    tokenizer = make_tokenizer(material)
    model = make_model(tokenizer, seed)
    rng = random.Random(seed)
    log(f"a decoder of {sum(each.numel() for each in model.parameters()):,} parameters")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50, max(0.05, 2 - 2 * step / steps))
    )
    right = total = 0
    for step in range(steps):
        read = rng.random() < _READING
        batch = _texts(rng, material) if read else _lesson(step / steps, rng, material)
        hits, predicted = _learn(model, tokenizer, batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if not read:
            right, total = right + hits, total + predicted
        if (step + 1) % max(1, steps // 20) == 0:
            rightly = right / max(1, total)
            log(f"pretraining, step {step + 1} of {steps}: {rightly:.3f} predicted rightly")
            right = total = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _learn(model: Any, tokenizer: Any, batch: Sequence[Sequence[Piece]]) -> tuple[int, int]:
    """Gradients of a batch; gives how many tokens were predicted rightly, of how many."""
    import torch

    rows = [_encoded(tokenizer, pieces) for pieces in batch]
    longest = max(len(ids) for ids, _ in rows)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in rows])
    labels = torch.tensor([row + [_NO_LOSS] * (longest - len(row)) for _, row in rows])[:, 1:]
    asked = labels != _NO_LOSS
    # Padding is behind, where a causal model does not see it.
    logits = model.lm_head(model.model(input_ids=ids).last_hidden_state[:, :-1][asked])
    loss: Any = torch.nn.functional.cross_entropy(logits, labels[asked])
    loss.backward()
    return int((logits.argmax(-1) == labels[asked]).sum()), int(asked.sum())


def _encoded(tokenizer: Any, pieces: Sequence[Piece]) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    for text, predicted in pieces:
        tokens = tokenizer.encode(text)
        ids += tokens
        labels += tokens if predicted else [_NO_LOSS] * len(tokens)
    return ids, labels


# The share of pretraining up to which a lesson is taught -> its forms and sizes.
_LESSONS: Mapping[float, tuple[tuple[str, ...], tuple[int, ...]]] = {
    0.15: (("words",), (2,)),
    0.30: (("words", "counts", "counts"), (2, 4)),
    0.38: (("counts", "labels"), (2, 3)),
    0.50: (("counts", "labels", "labels", "labels"), (2, 4, 6)),
    0.70: (("counts", "labels", "labels", "labels"), (4, 8, 12)),
    1.00: (("counts", "labels", "labels", "labels"), (8, 12, 16, 20)),
}


def _lesson(done: float, rng: random.Random, material: Material) -> list[list[Piece]]:
    forms, sizes = next(lesson for end, lesson in _LESSONS.items() if done < end)
    form, n = rng.choice(forms), rng.choice(sizes)
    return [
        list(_pieces(form, make_task(rng, material.words, material.train, n), rng))
        for _ in range(max(8, 64 // n))
    ]


def _texts(rng: random.Random, material: Material) -> list[list[Piece]]:
    return [[(" ".join(rng.choice(material.texts).split()[:40]), True)] for _ in range(8)]


def _pieces(form: str, task: Task, rng: random.Random) -> Iterator[Piece]:
    yield f"Query: {' '.join(task.query)}\n", False
    for number, (document, count) in enumerate(zip(task.documents, task.counts, strict=True), 1):
        yield f"[{number}]", False
        for word in document:
            yield f" {word}", False
            if form == "words":
                yield str(int(word in task.query)), True
        yield "\n", False
        if form == "counts":
            yield str(count), True
    if form == "labels":
        yield "Found:", False
        for place in rng.sample(range(len(task.documents)), len(task.documents)):
            yield f'"[{place + 1}]": ', False
            yield str(task.counts[place]), True
