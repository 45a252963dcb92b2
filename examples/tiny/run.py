"""The recipe on a decoder of a million parameters, on a laptop's processor: does it work?

    python examples/tiny/run.py --save_path out/tiny

Pretrains the decoder on matching tasks, synthesizes training lists with two noisy teachers, trains
by SFT and then by GRPO with several rewards and seeds, and measures each on held-out queries. What
is finished is kept, so the command can be given again after an interruption.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from decoder import pretrain
from material import make_collection, read_material
from results import AGAIN, SFT, folder_name, write_results
from teachers import WordCounter

from llmrankers_groupwise.training import (
    GrpoSettings,
    HeldOut,
    ListSettings,
    PoolSettings,
    SftSettings,
    Synthesis,
    Teacher,
    grpo,
    sft,
)
from llmrankers_groupwise.training.rewards import GroupReward, grouprank_v3

HERE = Path(__file__).parent
Trainings = list[Callable[[], str]]

TEACHER_NOISE = 0.15
GRPO_RATE = 1.5e-4


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    pretraining_steps: int = 1_500
    queries: int = 400
    held_out: int = 100
    sft_epochs: float = 3
    grpo_steps: int = 60
    grpo_prompts: int = 16
    measured_every: int = 100
    seeds: tuple[int, ...] = (0, 1, 2)
    group_sizes: tuple[int, ...] = (6, 12)


FULL = Plan()
QUICK = Plan(
    pretraining_steps=40, queries=24, held_out=3, sft_epochs=20, grpo_steps=4, grpo_prompts=2,
    measured_every=100, seeds=(0,), group_sizes=(5,),
)  # fmt: skip

VARIANTS: Mapping[str, tuple[GroupReward, bool]] = {
    "v3": (grouprank_v3, False),
    "v3, small groups first": (grouprank_v3, True),
    "v3 without NDCG": (dataclasses.replace(grouprank_v3, name="no_ndcg", ndcg=0.0), False),
    "v3 without recall": (dataclasses.replace(grouprank_v3, name="no_recall", recall=0.0), False),
    "v3 without JS": (dataclasses.replace(grouprank_v3, name="no_js", js=0.0), False),
}
"""Name -> the reward, and whether small groups come first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--save_path", type=Path, default=Path("out/tiny"), help="a folder")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at the same time")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    folder: Path = arguments.save_path
    started = time.monotonic()

    def log(text: str) -> None:
        print(f"{time.monotonic() - started:7.0f} s  {text}", flush=True)

    supervised, reinforced = [SFT, AGAIN], list(VARIANTS)
    if arguments.quick:
        supervised, reinforced = supervised[:1], reinforced[:1]
    shared = Path(os.environ.get("GROUPWISE_SHARED", HERE.parents[2] / "shared"))
    if not (shared / "collections").is_dir():
        parser.error(f"there are no collections at {shared}: set GROUPWISE_SHARED")
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder, plan, shared, log)
    begin: Trainings = [
        functools.partial(train_sft, folder, plan, shared, SFT, seed) for seed in plan.seeds
    ]
    go_on: Trainings = [
        functools.partial(train, folder, plan, shared, name, seed)
        for train, names in ((train_sft, supervised[1:]), (train_grpo, reinforced))
        for name in names
        for seed in plan.seeds
    ]
    for trainings in (begin, go_on):
        _all(trainings, arguments.jobs, log)
    print(write_results(folder, supervised, reinforced, plan.seeds))


def prepare(folder: Path, plan: Plan, shared: Path, log: Callable[[str], None]) -> None:
    """The decoder and the training set, unless they are there."""
    material = read_material(shared)
    if not (base := folder / "base").exists():
        new = folder / "base.partial"
        pretrain(new, material, steps=plan.pretraining_steps, seed=0, log=log)
        new.rename(base)
    if not (folder / "data").exists():
        stage, _ = make_collection(material, held_out=False, queries=plan.queries, documents=60)
        made = Synthesis(
            save_path=folder / "data",
            pointwise=Teacher(engine=WordCounter(TEACHER_NOISE)),
            listwise=Teacher(engine=WordCounter(TEACHER_NOISE)),
            reasoner=Teacher(engine=WordCounter(TEACHER_NOISE)),
            lists=ListSettings(
                reasons="rationalised",
                prompt_file=str(HERE / "prompt.toml"),
                positives=0,
                group_sizes=plan.group_sizes,
            ),
            pools=PoolSettings(),
        ).run(lambda: stage)
        log(f"training set: {made.rows}")


def _held_out(plan: Plan, shared: Path, steps: int) -> HeldOut:
    largest = max(plan.group_sizes)
    stage, qrels = make_collection(
        read_material(shared), held_out=True, queries=plan.held_out, documents=3 * largest
    )
    return HeldOut(
        first_stage=stage, qrels=qrels, steps=steps, max_tokens=100,
        group_size=largest,
    )  # fmt: skip


def train_sft(folder: Path, plan: Plan, shared: Path, name: str, seed: int) -> str:
    """SFT with one seed, or more of it in place of GRPO, unless it is done."""
    path, again = folder / folder_name(name, seed), name == AGAIN
    settings = SftSettings(
        model_name_or_path=str(folder / (folder_name(SFT, seed) if again else "base")),
        data=folder / "data",
        save_path=path,
        full=True,
        learning_rate=GRPO_RATE if again else 5e-4,
        num_train_epochs=plan.sft_epochs,
        max_steps=plan.grpo_steps if again else -1,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=1,
        max_length=512,
        packing=False,
        gradient_checkpointing=False,
        seed=seed,
        report_to="none",
        logging_steps=1,
        held_out=_held_out(plan, shared, plan.measured_every),
        trl_args={"lr_scheduler_type": "linear", "warmup_steps": 20},
    )
    return _once(path, lambda: sft(settings))


def train_grpo(folder: Path, plan: Plan, shared: Path, name: str, seed: int) -> str:
    """GRPO with one reward and seed, unless it is done."""
    reward, curriculum = VARIANTS[name]
    path = folder / folder_name(name, seed)
    settings = GrpoSettings(
        model_name_or_path=str(folder / folder_name(SFT, seed)),
        data=folder / "data",
        save_path=path,
        full=True,
        reward=reward,
        curriculum=curriculum,
        learning_rate=GRPO_RATE,
        max_steps=plan.grpo_steps,
        num_generations=8,
        beta=0.0,
        temperature=0.7,
        per_device_train_batch_size=8 * plan.grpo_prompts,
        gradient_accumulation_steps=1,
        max_completion_length=100,
        gradient_checkpointing=False,
        seed=seed,
        report_to="none",
        logging_steps=1,
        held_out=_held_out(plan, shared, plan.measured_every // 5),
        trl_args={"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 10},
    )
    return _once(path, lambda: grpo(settings))


def _once(path: Path, train: Callable[[], object]) -> str:
    """Train unless the folder has a finished result; what is unfinished is begun again."""
    described = path / "training.json"
    if described.exists() and json.loads(described.read_text())["finished"]:
        return f"{path.name}: there already"
    shutil.rmtree(path, ignore_errors=True)
    began = time.monotonic()
    train()
    return f"{path.name}: trained in {time.monotonic() - began:.0f} s"


def _all(trainings: Trainings, jobs: int, log: Callable[[str], None]) -> None:
    """Do all, this number at the same time, each with its share of the processor's cores."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (threads,)) as pool:
        for done in as_completed([pool.submit(training) for training in trainings]):
            log(done.result())


def _begin(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    logging.getLogger("llmrankers_groupwise").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
