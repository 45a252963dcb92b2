"""How many rewards a second: a training batch of 64 prompts x 8 replies, on one core.

Replies score 20 documents after a reasoning of some words. "right" are batches of replies that
are all as the contract wants them; of "mixed", a quarter each are right, in need of repair, cut off
in the reasoning, and without tags. Every batch is a new one. Milliseconds are of processor time,
the median, the least and the most of the batches; in the first, caches are cold.

    python benchmarks/rewards.py --words 350 --words 4000
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence

from llmrankers_groupwise.training.rewards import (
    format_reward,
    grouprank_v1,
    grouprank_v3,
    js_reward,
    kl_reward,
    ndcg_reward,
    rank_r1,
    rbo_reward,
    recall_reward,
)

PROMPTS, REPLIES, DOCUMENTS = 64, 8, 20
WORDS = ("passage", "[3]", "answers", "the", "query", "partly", "score")
Batch = dict[str, list[object]]


def reply(rng: random.Random, words: int, kind: int) -> str:
    """A reply: 0 right, 1 repairable, 2 cut off in the reasoning, 3 without tags."""
    reason = " ".join(rng.choices(WORDS, k=words))
    scores = [rng.randint(0, 10) for _ in range(DOCUMENTS)]
    lines = ",\n".join(f'  "[{label}]": {score}' for label, score in enumerate(scores, start=1))
    if kind == 2:
        return f"<reason>\n{reason}"
    if kind == 3:
        return f"{reason}\n{{\n{lines}\n}}"
    comma = "," * (kind == 1)
    block = f"<answer>\n```json\n{{\n{lines}{comma}\n}}\n```\n</answer>"
    return f"<reason>\n{reason}\n</reason>\n\n{block}"


def batch(rng: random.Random, words: int, kinds: Sequence[int]) -> Batch:
    """Completions and columns as TRL passes them, a prompt's once for each of its replies."""
    made: Batch = {"completions": [], "gold": [], "relevant": [], "ground_truth": []}
    for _ in range(PROMPTS):
        gold = [round(10.0 * rng.random(), 4) for _ in range(DOCUMENTS)]
        cut = sorted(gold, reverse=True)[9]
        for number in range(REPLIES):
            text = reply(rng, words, kinds[number % len(kinds)])
            made["completions"].append([{"role": "assistant", "content": text}])
            made["gold"].append(list(gold))
            made["relevant"].append([score >= cut for score in gold])
            made["ground_truth"].append("[3]")
    return made


def milliseconds(reward: Callable[..., object], batches: Sequence[Batch]) -> list[float]:
    taken = []
    for each in batches:
        started = time.process_time()
        reward(**each)
        taken.append(1000.0 * (time.process_time() - started))
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--words", type=int, action="append", help="of reasoning in a reply")
    parser.add_argument("--batches", type=int, default=15)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core
    rewards = (grouprank_v3, grouprank_v1, format_reward, ndcg_reward, recall_reward, rbo_reward,
               js_reward, kl_reward, rank_r1)  # fmt: skip
    print("| words | replies | reward | ms a batch | least | most | rewards/s |")
    print("|---:|---|---|---:|---:|---:|---:|")
    for words in arguments.words or [350]:
        for name, kinds in {"right": (0,), "mixed": (0, 1, 2, 3)}.items():
            for reward in rewards:
                rng = random.Random(f"{words} {name} {reward.__name__}")
                batches = [batch(rng, words, kinds) for _ in range(arguments.batches)]
                taken = milliseconds(reward, batches)
                median = statistics.median(taken)
                rate = 1000.0 * PROMPTS * REPLIES / median
                print(f"| {words} | {name} | {reward.__name__} | {median:.1f} | {taken[0]:.1f} "
                      f"| {taken[-1]:.1f} | {rate:,.0f} |")  # fmt: skip


if __name__ == "__main__":
    main()
