"""Steps a second of `train sft` and `train grpo` beside bare TRL with the same configuration.

    python benchmarks/training.py --steps 40 --repeats 5

Both train the same model of random weights on the same rows on the CPU with one thread, in turn.
Counted is the time of all steps, from TRL's own log, and of the whole call, which for ours has
reading, tokenizing, checking and saving in it. Bare TRL saves nothing but its checkpoints. Where
other work runs on the machine, CPU time says more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmrankers_groupwise.prompting import load_prompt, render
from llmrankers_groupwise.testing import json_reply, save_random_model
from llmrankers_groupwise.training import GrpoSettings, SftSettings, grpo, sft
from llmrankers_groupwise.training.rewards import grouprank_v3

PROMPT = 'prompt_user = "{query}\\n{docs}\\nScores as JSON in <answer>."\n'
COMMON: dict[str, Any] = {
    "learning_rate": 1e-4,
    "gradient_accumulation_steps": 1,
    "seed": 0,
    "logging_steps": 10,
    "save_steps": 10_000,
}
PACK = 1024
ROWS: dict[str, Any] = {"per_device_train_batch_size": 1}
GROUP: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "beta": 0.001,
    "max_completion_length": 48,
}
Timed = tuple[float, float, float]
"""Seconds of the steps, of the whole call, and of the CPU for the whole call."""


def make_rows(folder: Path, number: int) -> list[dict[str, Any]]:
    """Groups of 10 short documents, with answers and gold scores."""
    rng, rows = random.Random(0), []
    (folder / "prompt.toml").write_text(PROMPT)
    prompt = load_prompt(folder / "prompt.toml")
    for query in range(number):
        gold = [rng.randint(0, 10) for _ in range(9)] + [10]
        texts = [f"document {rng.randrange(10**6)} of {score}" for score in gold]
        rows.append({
            "prompt": list(render(f"query {query}", texts, prompt).messages),
            "completion": [{"role": "assistant", "content": json_reply(gold)}],
            "gold": gold,
            "relevant": [score > 5 for score in gold],
            "doc_ids": [str(place) for place in range(10)],
        })  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def bare_sft(model: str, rows: list[dict[str, Any]], out: Path, steps: int) -> float:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**_bare(out, steps), **ROWS, max_length=PACK, packing=True,
                       model_init_kwargs={"dtype": "float32"}),
        train_dataset=Dataset.from_list(
            [{name: row[name] for name in ("prompt", "completion")} for row in rows]
        ),
        peft_config=_lora(),
    )  # fmt: skip
    return float(trainer.train().metrics["train_runtime"])


def bare_grpo(model: str, rows: list[dict[str, Any]], out: Path, steps: int) -> float:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        model=model,
        reward_funcs=grouprank_v3,
        args=GRPOConfig(**_bare(out, steps), **GROUP, model_init_kwargs={"dtype": "float32"}),
        train_dataset=Dataset.from_list(
            [{name: row[name] for name in row if name != "completion"} for row in rows]
        ),
        peft_config=_lora(),
    )
    return float(trainer.train().metrics["train_runtime"])


def our_sft(model: str, data: Path, out: Path, steps: int) -> float:
    result = sft(SftSettings(model_name_or_path=model, data=data, save_path=out, max_steps=steps,
                             max_length=PACK, **ROWS, **_ours()))  # fmt: skip
    return result.metrics["train_runtime"]


def our_grpo(model: str, data: Path, out: Path, steps: int) -> float:
    result = grpo(GrpoSettings(model_name_or_path=model, data=data, save_path=out,
                               max_steps=steps, **GROUP, **_ours()))  # fmt: skip
    return result.metrics["train_runtime"]


def _ours() -> dict[str, Any]:
    return {**COMMON, "report_to": "none", "lora_rank": 8, "trl_args": {"use_cpu": True}}


def _bare(out: Path, steps: int) -> dict[str, Any]:
    return {**COMMON, "output_dir": str(out), "max_steps": steps, "use_cpu": True, "bf16": False,
            "report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False}  # fmt: skip


def _lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=8, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def timed(train: Callable[[Path], float]) -> Timed:
    with tempfile.TemporaryDirectory() as scratch:
        started, used = time.perf_counter(), time.process_time()
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            seconds = train(Path(scratch, "out"))  # bare TRL prints its figures
        return seconds, time.perf_counter() - started, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    steps = arguments.steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = str(folder / "model"), folder / "rows.jsonl"
        save_random_model(model, hidden_size=64, layers=2)
        rows = make_rows(folder, 64)
        kinds: dict[str, tuple[Callable[[Path], float], Callable[[Path], float]]] = {
            "SFT": (lambda out: bare_sft(model, rows, out, steps),
                    lambda out: our_sft(model, data, out, steps)),
            "GRPO": (lambda out: bare_grpo(model, rows, out, steps),
                     lambda out: our_grpo(model, data, out, steps)),
        }  # fmt: skip
        print(f"load average at the start: {os.getloadavg()[0]:.1f}\n")
        print("| | bare TRL, steps/s | ours, steps/s | ours / bare, time of steps (min..max) | "
              "whole call | CPU time of the whole call (min..max) |")  # fmt: skip
        print("|---|---:|---:|---:|---:|---:|")
        for kind, (bare, ours) in kinds.items():
            timed(bare), timed(ours)
            pairs = [(timed(bare), timed(ours)) for _ in range(arguments.repeats)]
            report(kind, pairs, steps)
        print(f"\nload average at the end: {os.getloadavg()[0]:.1f}")


def report(kind: str, pairs: list[tuple[Timed, Timed]], steps: int) -> None:
    bare = statistics.median(steps / each[0][0] for each in pairs)
    ours = statistics.median(steps / each[1][0] for each in pairs)
    steps_, whole, cpu = (
        sorted(each[1][place] / each[0][place] for each in pairs) for place in range(3)
    )
    print(f"| {kind} | {bare:.2f} | {ours:.2f} | {shown(steps_)} | "
          f"{statistics.median(whole):.3f} | {shown(cpu)} |", flush=True)  # fmt: skip


def shown(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({ratios[0]:.3f}..{ratios[-1]:.3f})"


if __name__ == "__main__":
    main()
