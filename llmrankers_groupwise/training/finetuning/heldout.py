"""A held-out run, reranked during training by the model as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.qrels import Qrels
from llmrankers_groupwise.engines.llm.tokenizer import ChatTokenizer
from llmrankers_groupwise.engines.transformers.in_memory import LoadedEngine
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.pipeline.results import Summary
from llmrankers_groupwise.rankers.base import MethodRanker
from llmrankers_groupwise.rankers.baselines import SetwiseLlmRanker
from llmrankers_groupwise.rankers.groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.settings import Positive
from llmrankers_groupwise.types import Sampling, Status

__all__ = ["HeldOut", "figures", "held_out_callback", "measure", "whole"]

_MEASURE = "nDCG@10"
_LEAST = {"steps": 1, "group_size": 2, "query_length": 1, "passage_length": 1, "max_tokens": 1}


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What to measure a model on while it is trained.

    Attributes:
        first_stage: run, queries and passages.
        qrels: judgements.
        steps: the steps between measurements; also before the first and after the last step.
        group_size: the number of documents in one call; for setwise num_child + 1.
        query_length: cut every query to this number of tokens.
        passage_length: cut every passage to this number of tokens.
        max_tokens: the most tokens of a reply.
        described: where run and judgements are from, for the result's description.
    """

    first_stage: FirstStage
    qrels: Qrels
    steps: Positive = 100
    group_size: Positive = 20
    query_length: Positive = 128
    passage_length: Positive = 512
    max_tokens: Positive = 2_048
    described: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise SettingsError(
                    f"{name} of the held-out run is {getattr(self, name)}: give {least} or more"
                )
        if not self.qrels.keys() & self.first_stage.run.keys():
            raise SettingsError(
                f"none of the {len(self.qrels)} judged queries is in the held-out run; are the "
                f"qrels of another collection?"
            )


def measure(
    network: Any, chat: ChatTokenizer, method: str, prompt_file: Path, held_out: HeldOut
) -> Summary:
    """The held-out run reranked by a model in memory, greedily, and measured by nDCG@10.

    Groups that fail are counted and keep their first-stage order, however many they are.
    """
    engine = LoadedEngine(network, chat)
    with _ranker(engine, method, prompt_file, held_out) as ranker:
        return Experiment(
            first_stage=held_out.first_stage,
            ranker=ranker,
            save_path=None,
            query_length=held_out.query_length,
            passage_length=held_out.passage_length,
            qrels=held_out.qrels,
            measures=[_MEASURE],
            max_failure_rate=1.0,
        ).run()


def _ranker(
    engine: LoadedEngine, method: str, prompt_file: Path, held_out: HeldOut
) -> MethodRanker:
    sampling = Sampling(max_tokens=held_out.max_tokens)
    if method == "setwise":
        return SetwiseLlmRanker(
            prompt_file=str(prompt_file),
            num_child=held_out.group_size - 1,
            engine=engine,
            sampling=sampling,
        )
    return GroupwiseLlmRanker(
        prompt_file=str(prompt_file),
        group_size=held_out.group_size,
        engine=engine,
        sampling=sampling,
        scoring="generation",
    )


def figures(summary: Summary) -> dict[str, float]:
    """What the curves get: eval_ndcg@10, the share of exact replies, and how many groups failed."""
    groups = max(1, summary.groups)
    return {
        "eval_ndcg@10": summary.measures[_MEASURE]["after"],
        "eval_valid_replies": summary.statuses[Status.EXACT.value] / groups,
        "eval_failed_groups": summary.statuses[Status.FAILED.value],
    }


def held_out_callback(
    trainer: Any, chat: ChatTokenizer, method: str, prompt_file: Path, held_out: HeldOut
) -> Any:
    """What measures the model in training, for `trainer.add_callback`.

    The first process measures while the others wait. No random state is read or written.

    Raises:
        SettingsError: the model is spread over several processes, none of which has it whole.
    """
    from transformers import Trainer
    from transformers.trainer_callback import TrainerCallback

    zero = getattr(trainer.accelerator.state.deepspeed_plugin, "zero_stage", 0)
    if trainer.is_fsdp_enabled or zero == 3:
        raise SettingsError(
            "a held-out run is measured by one process, and with FSDP or ZeRO-3 none has the whole "
            "model: leave it out, and measure the checkpoints by `run-groupwise run`"
        )

    class HeldOutCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self._measure(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            logged = control.should_log  # which a log of ours would take for done
            if state.global_step % held_out.steps == 0 or state.global_step == state.max_steps:
                self._measure(state)
            control.should_log = logged

        def _measure(self, state: Any) -> None:
            known = (each for each in state.log_history if "eval_ndcg@10" in each)
            if any(each["step"] == state.global_step for each in known):
                return  # a training that goes on
            if state.is_world_process_zero:
                network = whole(trainer.accelerator.unwrap_model(trainer.model))
                training = network.training
                network.eval()
                try:
                    summary = measure(network, chat, method, prompt_file, held_out)
                finally:
                    network.train(training)
                # Not the log of TRL's trainers, which would put what they gathered beside it.
                Trainer.log(trainer, figures(summary))
            trainer.accelerator.wait_for_everyone()

    return HeldOutCallback()


def whole(network: Any) -> Any:
    """The model below an adapter, whose layers are in it."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network
