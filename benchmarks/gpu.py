"""The LLM engines on a GPU, with a model of Qwen2.5-7B's shape and random weights.

Writes results/gpu-CARD-ENGINE.md: overhead, decoding steps, likelihood against generation,
throughput by groups in flight and, with vLLM, what the prefix cache saves. The weights (15 GB)
are made on the card and kept in a temporary folder; nothing is downloaded.

    python benchmarks/gpu.py --engine vllm
    python benchmarks/gpu.py --engine transformers
    python benchmarks/gpu.py --engine transformers --shape tiny --device cpu   # a rehearsal
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm import HEADER, ask, batching, made_engine, report, requests_for, seconds, texts

from llmrankers_groupwise import Sampling

SHAPES: dict[str, dict[str, Any]] = {
    "7b": {
        "hidden_size": 3584,
        "layers": 28,
        "vocabulary": 152_064,
        "intermediate_size": 18_944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "dtype": "bfloat16",
    },
    "tiny": {"hidden_size": 64, "layers": 2},
}
REASONING = 128  # tokens in front of the form, where the prefix cache matters


def card(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device.startswith("cuda") else device


def with_prefix_cache(
    folder: Path, shape: dict[str, Any], args: dict[str, Any], groups: int, words: int
) -> Iterator[str]:
    """Reasoning, then a form: the prompt paid once, or twice."""
    taken = {}
    for caching in (True, False):
        engine = made_engine(
            "vllm", folder, shape, {**args, "enable_prefix_caching": caching, "ten_tolerance": 0.02}
        )
        requests = requests_for(texts(groups, words, seed=9), form=True)
        ask(engine, requests_for(texts(2, words, seed=8), form=True), Sampling())
        taken[caching] = seconds(
            lambda: ask(engine, requests, Sampling(reasoning_tokens=REASONING))  # noqa: B023
        )
        engine.close()
    yield f"| prefix cache | {groups} groups, {REASONING} tokens of reasoning, then the form | "
    yield f"on {taken[True]:.2f} s, off {taken[False]:.2f} s | {taken[True] / taken[False]:.2f} |\n"


def rows(arguments: argparse.Namespace, folder: Path) -> Iterator[str]:
    shape = {**SHAPES[arguments.shape], "device": arguments.device}
    args: dict[str, Any] = {"max_model_len": 16_384, "dtype": "auto"}
    if arguments.engine == "vllm":
        args["ten_tolerance"] = 9.0
    engine = made_engine(arguments.engine, folder, shape, args)
    yield from report(engine, arguments.groups, arguments.words, arguments.rounds)
    yield from batching(engine, arguments.in_flight, arguments.words)
    engine.close()
    if arguments.engine == "vllm":
        groups, words = arguments.groups, arguments.words
        yield "".join(with_prefix_cache(folder, shape, args, groups, words))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="vllm")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--groups", type=int, default=64)
    parser.add_argument("--words", type=int, default=50, help="of a passage")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in_flight", type=int, nargs="*", default=[1, 8, 64, 512])
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    arguments = parser.parse_args()
    name = card(arguments.device)
    path = arguments.results / f"gpu-{re.sub(r'[^A-Za-z0-9]+', '-', name)}-{arguments.engine}.md"
    with tempfile.TemporaryDirectory() as scratch, path.open("w") as out:
        head = f"# {name}, {arguments.engine}, shape {arguments.shape}\n\n"
        out.write(f"{head}    python benchmarks/gpu.py {' '.join(sys.argv[1:])}\n\n{HEADER}\n")
        for row in rows(arguments, Path(scratch)):
            out.write(row)
            out.flush()
            print(row, end="", flush=True)
    print(f"saved {path}")


if __name__ == "__main__":
    main()
