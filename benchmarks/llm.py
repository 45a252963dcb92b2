"""What the LLM engines cost: overhead, decoding steps, likelihood against generation, batching.

Everything is measured in one run on one model of random weights, whose scores mean nothing but
whose work is that of a real one of its shape. A group is 20 passages of random words; the
tokenizer is one of bytes, so that prompts and answers have some four times the tokens of a real
model's. What is compared alternates, and the best of --rounds counts.

    python benchmarks/llm.py --engine transformers
    python benchmarks/llm.py --engine vllm
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmrankers.rankers import SearchResult

from llmrankers_groupwise import EngineSettings, GroupwiseLlmRanker, Request, Sampling
from llmrankers_groupwise.concurrency import gather
from llmrankers_groupwise.engines.lengths import form_budget
from llmrankers_groupwise.engines.llm.form_probabilities import form_regex
from llmrankers_groupwise.engines.llm.tokenizer import Prompt
from llmrankers_groupwise.engines.registry import resolve_engine
from llmrankers_groupwise.prompting import load_prompt, render
from llmrankers_groupwise.testing import save_random_model
from llmrankers_groupwise.types import ScoreForm

GROUP = 20
FORM = ScoreForm(tuple(f"[{n}]" for n in range(1, GROUP + 1)))

Batch = list[tuple[str, list[SearchResult]]]


def texts(groups: int, words: int, seed: int) -> Batch:
    """Queries with a group of passages each."""
    rng = random.Random(seed)

    def text(length: int) -> str:
        return " ".join("".join(rng.choices("aeiourstln", k=5)) for _ in range(length))

    return [
        (text(6), [SearchResult(f"d{n}", 1.0 / (n + 1), text(words)) for n in range(GROUP)])
        for _ in range(groups)
    ]


def requests_for(batch: Batch, *, form: bool) -> list[Request]:
    """The requests that a ranker makes of a batch, one group a query, but in the given order."""
    prompt = load_prompt("groupwise_scores")
    requests = [
        render(query, [doc.text for doc in docs], prompt, form=form) for query, docs in batch
    ]
    return [dataclasses.replace(each, fallback=None) for each in requests]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ask(engine: Any, requests: Sequence[Request], sampling: Sampling) -> None:
    """All requests in flight together."""
    replies = asyncio.run(gather(engine.answer(each, sampling) for each in requests))
    assert not any(reply.error for reply in replies)


# --- The bare engines, as one would call them without this package --------------------------------


class BareTransformers:
    """The model of a transformers engine, called directly: prefill, then the form's tokens."""

    def __init__(self, engine: Any) -> None:
        self._network = engine._model.network
        self._tokenizer = engine._prompter.tokenizer

    def fill(self, prompts: Sequence[Prompt], max_batch_tokens: int) -> None:
        """One pass over the prompt and one a blank, for batches of prompts sorted by length."""
        tokenize = self._tokenizer.encode
        texts = [self._tokenizer.decode(prompt.token_ids) for prompt in prompts]
        ids = sorted((tokenize(text) for text in texts), key=len, reverse=True)
        while ids:
            size = max(1, max_batch_tokens // (len(ids[0]) + form_budget(FORM)))
            self._fill(ids[:size])
            ids = ids[size:]

    def _fill(self, ids: Sequence[list[int]]) -> None:
        import torch
        from transformers import DynamicCache

        from llmrankers_groupwise.engines.transformers.cache import cache_argument

        pieces = [self._tokenizer.encode(piece) for piece in FORM.fixed[:-1]]
        width = len(ids[0])
        device = self._network.device
        padded = torch.tensor([[0] * (width - len(row)) + row for row in ids], device=device)
        mask = torch.tensor(
            [[0] * (width - len(row)) + [1] * len(row) for row in ids], device=device
        )
        cache = DynamicCache(config=self._network.config)
        with torch.inference_mode():
            for number, piece in enumerate(pieces):
                more = torch.tensor([piece] * len(ids), device=device)
                padded = more if number else torch.cat((padded, more), dim=1)
                mask = torch.cat((mask, torch.ones_like(more)), dim=1)
                output = self._network(
                    input_ids=padded,
                    attention_mask=mask,
                    use_cache=True,
                    logits_to_keep=1,
                    **{cache_argument(self._network): cache},
                )
                output.logits[:, -1].softmax(dim=-1).tolist()


class BareVllm:
    """A vLLM engine's own asynchronous engine, given texts."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine._vllm().engine
        self._tokenizer = engine._prompter.tokenizer
        self._numbers = iter(range(10**9))

    def fill(self, prompts: Sequence[Prompt], max_batch_tokens: int) -> None:
        """All forms in flight together, constrained by a regular expression."""
        from llmrankers_groupwise.concurrency import run_in_background

        texts = [self._tokenizer.decode(prompt.token_ids) for prompt in prompts]
        run_in_background(self._all(texts, form_regex(FORM)))

    async def _all(self, texts: Sequence[str], regex: str) -> None:
        await asyncio.gather(*(self._one(text, regex) for text in texts))

    async def _one(self, text: str, regex: str) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        params = SamplingParams(
            temperature=0.0,
            max_tokens=400,
            logprobs=20,
            structured_outputs=StructuredOutputsParams(regex=regex),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        async for _ in self._engine.generate(text, params, f"bare-{next(self._numbers)}"):
            pass


def forget_prefixes(engine: Any) -> None:
    """Empty vLLM's prefix cache, so that nothing profits from the run before."""
    from llmrankers_groupwise.concurrency import run_in_background

    if getattr(engine, "_vllm", None) is not None:
        run_in_background(engine._vllm().engine.reset_prefix_cache())


# --- What is measured ---------------------------------------------------------------------------


def overhead(engine: Any, groups: int, words: int, rounds: int) -> Iterator[str]:
    """Reranking through the package over the bare engine on the same prompts."""
    batch = texts(groups, words, seed=1)
    ranker = GroupwiseLlmRanker(engine=engine, scoring="likelihood", grouping="sorted")
    ranker.rerank_batch(texts(2, words, seed=2))  # load and warm up
    bare = (BareVllm if hasattr(engine, "_vllm") else BareTransformers)(engine)
    prompts = [engine.prompt(each, Sampling()) for each in requests_for(batch, form=True)]
    tokens = getattr(engine, "_max_batch_tokens", None) or 0
    bare.fill(prompts[:2], tokens)
    through, direct = [], []
    for _ in range(rounds):
        forget_prefixes(engine)
        through.append(seconds(lambda: ranker.rerank_batch(batch)))
        forget_prefixes(engine)
        direct.append(seconds(lambda: bare.fill(prompts, tokens)))
    length = sum(len(prompt.token_ids) for prompt in prompts) // groups
    yield f"| overhead | {groups} groups of {GROUP}, {length} prompt tokens each | "
    yield f"bare {min(direct):.2f} s, through the package {min(through):.2f} s | "
    yield f"**{min(through) / min(direct):.3f}** |\n"


def steps(engine: Any, groups: int, words: int, rounds: int) -> Iterator[str]:
    """Decoding steps and wall time of a form against free JSON."""
    batch = texts(groups, words, seed=3)
    filled, written = requests_for(batch, form=True), requests_for(batch, form=False)
    json_tokens = engine.count_tokens(FORM.filled(["7"] * GROUP)) + 1  # and the turn's end
    form, free = [], []
    for _ in range(rounds):
        forget_prefixes(engine)
        form.append(seconds(lambda: ask(engine, filled, Sampling())))
        forget_prefixes(engine)
        free.append(seconds(lambda: ask(engine, written, Sampling(max_tokens=json_tokens))))
    reply = asyncio.run(engine.answer(filled[0], Sampling()))
    yield f"| decoding steps of a group of {GROUP} | form against free JSON | "
    yield f"{reply.completion_tokens} against {json_tokens} | "
    yield f"**{reply.completion_tokens / json_tokens:.2f}** |\n"
    yield f"| wall time | {groups} groups in flight, likelihood against generation | "
    yield f"{min(form):.2f} s against {min(free):.2f} s | **{min(form) / min(free):.2f}** |\n"


def about_ten(engine: Any, groups: int, words: int, rounds: int) -> Iterator[str]:
    """What it costs with vLLM to ask about every 10, as a model without an opinion makes it."""
    requests = requests_for(texts(groups, words, seed=5), form=True)
    taken: dict[float, list[float]] = {9.0: [], 0.0: []}
    for tolerance in sorted(taken) * rounds:
        engine._own["ten_tolerance"] = tolerance
        forget_prefixes(engine)
        taken[tolerance].append(seconds(lambda: ask(engine, requests, Sampling())))
    none, all_of_them = min(taken[9.0]), min(taken[0.0])
    yield f"| asking about 10 | {groups} groups, for all blanks against for none | "
    yield f"{all_of_them:.2f} s against {none:.2f} s | {all_of_them / none:.2f} |\n"


def batching(engine: Any, sizes: Sequence[int], words: int) -> Iterator[str]:
    """Throughput by groups in flight."""
    ask(engine, requests_for(texts(2, words, seed=4), form=True), Sampling())
    alone = 0.0
    for size in sizes:
        requests = requests_for(texts(size, words, seed=4 + size), form=True)
        forget_prefixes(engine)
        rate = size / seconds(functools.partial(ask, engine, requests, Sampling()))
        alone = alone or rate
        yield f"| throughput | {size} in flight | {rate:.2f} groups/s | {rate / alone:.2f} |\n"


def made_engine(name: str, folder: Path, shape: dict[str, Any], args: dict[str, Any]) -> Any:
    """An engine on a new model of random weights."""
    save_random_model(folder, max_position_embeddings=16384, **shape)
    return resolve_engine(name, EngineSettings(str(folder), engine_args=args))


ARGS: dict[str, dict[str, Any]] = {
    "transformers": {"max_batch_tokens": 5000},  # two rows of --words 10, for both sides
    # What is asked besides about 10 has a row of its own.
    "vllm": {"dtype": "float32", "enforce_eager": True, "ten_tolerance": 9.0},
}
HEADER = "| what | of what | measured | ratio |\n|---|---|---|---:|"
LARGE: dict[str, Any] = {
    "hidden_size": 768,
    "layers": 12,
    "vocabulary": 32_000,
}  # 134 million parameters
SMALL: dict[str, Any] = {"hidden_size": 256, "layers": 4}


def report(engine: Any, groups: int, words: int, rounds: int) -> Iterator[str]:
    """The rows that belong to one model."""
    yield "".join(overhead(engine, groups, words, rounds))
    yield "".join(steps(engine, groups, words, rounds))
    if hasattr(engine, "_vllm"):
        yield "".join(about_ten(engine, groups, words, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=sorted(ARGS), default="transformers")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--words", type=int, default=10, help="of a passage")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in_flight", type=int, nargs="*", default=[1, 8, 64, 512])
    arguments = parser.parse_args()
    args = ARGS[arguments.engine]
    print(f"{arguments.engine}, {platform.processor() or platform.machine()}\n\n{HEADER}")
    with tempfile.TemporaryDirectory() as scratch:
        engine = made_engine(arguments.engine, Path(scratch, "large"), LARGE, args)
        for rows in report(engine, arguments.groups, arguments.words, arguments.rounds):
            print(rows, end="", flush=True)
        engine.close()
        engine = made_engine(arguments.engine, Path(scratch, "small"), SMALL, args)
        for row in batching(engine, arguments.in_flight, arguments.words):
            print(row, end="", flush=True)
        print(f"\n{engine.describe()['versions']}")
        engine.close()


if __name__ == "__main__":
    main()
