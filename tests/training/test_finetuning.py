"""SFT and GRPO by TRL: what is learned from, what is made, what is refused."""

import asyncio
import dataclasses
import json
import logging
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import chat_tokenizers

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import JsonlPassages
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.engines.llm.pretrained import load_tokenizer
from llmrankers_groupwise.engines.llm.tokenizer import ChatSettings, ChatTokenizer
from llmrankers_groupwise.errors import (
    FileError,
    InputError,
    MissingDependencyError,
    ModelError,
    PromptError,
    SettingsError,
)
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.rankers.baselines import SetwiseLlmRanker
from llmrankers_groupwise.rankers.groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.testing import CHAT_TEMPLATE, json_reply, save_random_model
from llmrankers_groupwise.training.data.list_settings import ListSettings
from llmrankers_groupwise.training.finetuning import curves
from llmrankers_groupwise.training.finetuning.fit import TrainResult
from llmrankers_groupwise.training.finetuning.grpo import by_size, grpo, whole_replies
from llmrankers_groupwise.training.finetuning.heldout import HeldOut
from llmrankers_groupwise.training.finetuning.model_card import model_card
from llmrankers_groupwise.training.finetuning.settings import (
    RANK_R1_LORA,
    GrpoSettings,
    SftSettings,
)
from llmrankers_groupwise.training.finetuning.sft import sft
from llmrankers_groupwise.training.finetuning.tokenization import (
    IGNORED,
    fitting_prompts,
    inference_rows,
    sft_examples,
)
from llmrankers_groupwise.training.rewards.rewards import grouprank_v3
from llmrankers_groupwise.types import Sampling

pytest.importorskip("trl", reason="the extra [train] is not installed")

pytestmark = [
    # Of torch, on machines without a GPU; of transformers, whose names peft and TRL still use.
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
]

PROMPT = 'prompt_system = "Rank."\nprompt_user = "{query}\\n{docs}\\n<answer>"\n'


def groupwise_row(number: int, gold: list[int]) -> dict[str, Any]:
    prompt = load_prompt("groupwise_scores")
    request = render(f"q{number}", [f"text {score}" for score in gold], prompt)
    return {
        "prompt": [{"role": "user", "content": request.messages[-1]["content"][-120:]}],
        "completion": [{"role": "assistant", "content": json_reply(gold)}],
        "gold": gold,
        "relevant": [score > 5 for score in gold],
        "doc_ids": [f"d{place}" for place in range(len(gold))],
        "query_id": str(number),
    }


def setwise_row(number: int) -> dict[str, Any]:
    row = groupwise_row(number, [9, 0])
    del row["gold"], row["relevant"]
    answer = [{"role": "assistant", "content": "<think>it is</think><answer>[1]</answer>"}]
    return {**row, "completion": answer, "ground_truth": "[1]"}


def write_rows(folder: Path, rows: list[dict[str, Any]], prompt: str | None = PROMPT) -> Path:
    folder.mkdir(exist_ok=True)
    if prompt:
        (folder / "prompt.toml").write_text(prompt)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight groupwise rows of 2 or 3 documents."""
    golds = [[9, 0], [0, 9, 2], [9, 1], [1, 9], [9, 3, 0], [4, 9], [9, 4], [2, 9]]
    made = [groupwise_row(number, gold) for number, gold in enumerate(golds)]
    return write_rows(tmp_path_factory.mktemp("rows"), made)


@pytest.fixture(scope="module")
def settings(rows: Path, tiny_model: Path) -> dict[str, Any]:
    """For a training of seconds."""
    return {
        "model_name_or_path": str(tiny_model),
        "data": rows,
        "max_steps": 4,
        "logging_steps": 1,
        "save_steps": 2,
        "gradient_accumulation_steps": 1,
        "report_to": "none",
        "trl_args": {"use_cpu": True, "lr_scheduler_type": "constant"},
    }


@pytest.fixture(scope="module")
def for_grpo(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "per_device_train_batch_size": 4, "num_generations": 2,
            "max_completion_length": 12, "max_steps": 2}  # fmt: skip


@pytest.fixture(scope="module")
def adapter(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """An adapter by SFT, far enough from its base for a difference to show."""
    place = tmp_path_factory.mktemp("adapter") / "out"
    given = {**settings, "lora_rank": 4, "learning_rate": 1e-2, "report_to": "tensorboard"}
    return sft(SftSettings(save_path=place, **given))


def weights(folder: Path) -> bytes:
    return next(folder.glob("*model.safetensors")).read_bytes()


# --- What is learned from ---------------------------------------------------------------------


ODD = "@@"  # a control token that only this tokenizer has


@pytest.fixture(params=["qwen", "gemma", "deepseek", "llama3"])
def chat(request: pytest.FixtureRequest) -> ChatTokenizer:
    tokenizer = getattr(chat_tokenizers, request.param)()
    tokenizer.add_special_tokens({"additional_special_tokens": [ODD]})
    return ChatTokenizer(tokenizer, ChatSettings())


def test_the_prompt_in_training_is_that_of_inference_and_only_the_answer_has_labels(
    chat: ChatTokenizer, tmp_path: Path
) -> None:
    (tmp_path / "prompt.toml").write_text(PROMPT)
    texts = ["one text", f"another, longer text {ODD} that goes on"]
    asked = render("which?", texts, load_prompt(tmp_path / "prompt.toml"))
    answer = '{"[1]": 3, "[2]": 9}'
    row = {"prompt": list(asked.messages), "completion": [{"role": "assistant", "content": answer}]}
    end = chat.hugging_face.eos_token_id

    (example,) = sft_examples(inference_rows([row], chat, PROMPT), chat, {end}, 10_000).rows

    ids, labels = example["input_ids"], example["labels"]
    n = len(chat.prompt(asked, None).token_ids)
    assert tuple(ids[:n]) == chat.prompt(asked, None).token_ids
    assert labels[:n] == [IGNORED] * n
    assert labels[n:] == ids[n:]
    assert ids[-1] == end
    assert answer in chat.decode(ids[n:])
    assert "which?" not in chat.decode(ids[n:])


def test_a_thinking_block_that_the_prompt_opens_is_gone_on_with() -> None:
    tokenizer = chat_tokenizers.qwen()
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|><think>\n{% endif %}"
    )
    chat = ChatTokenizer(tokenizer, ChatSettings())
    asked = [{"role": "user", "content": "q"}]

    def learned(content: str) -> str:
        row = {"prompt": asked, "completion": [{"role": "assistant", "content": content}]}
        (example,) = sft_examples([row], chat, {tokenizer.eos_token_id}, 1000).rows
        n = len(chat.encode(chat.rendered(asked)))
        return chat.decode(example["input_ids"][n:]).removesuffix(tokenizer.eos_token)

    assert learned("<think>so</think>[1]") == "so</think>[1]"
    assert learned("[1]") == "\n</think>\n\n[1]"


def test_rows_that_are_too_long_are_left_out_and_counted(
    chat: ChatTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    short, long = groupwise_row(0, [9, 0]), groupwise_row(1, [9, 0])
    long["prompt"] = [{"role": "user", "content": "word " * 500}]
    limit = len(sft_examples([short], chat, (), 10_000).rows[0]["input_ids"])

    fitting = sft_examples([short, long], chat, (), limit)

    assert len(fitting.rows) == fitting.too_long == 1
    assert fitting.longest > limit
    assert "1 of 2 rows are longer than max_length" in caplog.text
    assert fitting_prompts([long, short], chat, limit).rows == [
        {name: value for name, value in short.items() if name != "completion"}
    ]
    with pytest.raises(InputError, match="all 2 rows are longer than max_length 3"):
        sft_examples([short, long], chat, (), 3)


def test_tags_that_are_special_tokens_reach_the_reward() -> None:
    tokenizer = chat_tokenizers.qwen()
    plain = ChatTokenizer(tokenizer, ChatSettings())
    assert whole_replies(grouprank_v3, plain, ()) is grouprank_v3
    tokenizer = chat_tokenizers.qwen()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<reason>", "</reason>", "<answer>", "</answer>"]}
    )
    chat = ChatTokenizer(tokenizer, ChatSettings())
    end = tokenizer.eos_token_id
    ids = [[*chat.encode(json_reply([9, 0])), end, end]]
    columns = {"gold": [[9, 0]], "relevant": [[True, False]]}
    said = [[{"role": "assistant", "content": tokenizer.decode(ids[0], skip_special_tokens=True)}]]

    (lost,) = grouprank_v3(said, **columns)
    (whole,) = whole_replies(grouprank_v3, chat, {end})(said, completion_ids=ids, **columns)

    assert lost == -0.5
    assert whole == pytest.approx(1.3, abs=1e-3)


def test_grpo_asks_in_the_tokens_of_inference(
    for_grpo: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a template that refuses a system message, and with a control token in a passage."""
    from trl import GRPOTrainer

    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    template = refusing + CHAT_TEMPLATE
    save_random_model(tmp_path / "model", chat_template=template, vocabulary=512)
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    tokenizer.add_special_tokens({"additional_special_tokens": [ODD]})
    tokenizer.save_pretrained(tmp_path / "model")
    data = write_rows(tmp_path / "rows", [groupwise_row(0, [9, 0])])
    asked = render("q", [f"a {ODD} b", "c"], load_prompt(data.parent / "prompt.toml"))
    write_rows(tmp_path / "rows", [{**groupwise_row(0, [9, 0]), "prompt": list(asked.messages)}])
    tokenize: Any = GRPOTrainer._tokenize_prompts
    seen: list[Any] = []

    def noted(trainer: Any, prompts: Any) -> Any:
        seen.append(tokenize(trainer, prompts))
        return seen[-1]

    monkeypatch.setattr(GRPOTrainer, "_tokenize_prompts", noted)
    given = {**for_grpo, "model_name_or_path": str(tmp_path / "model"), "data": data}
    grpo(GrpoSettings(**{**given, "max_steps": 1, "per_device_train_batch_size": 2},
                      save_path=tmp_path / "out"))  # fmt: skip

    chat = ChatTokenizer(tokenizer, ChatSettings())
    assert seen[0][0] == [list(chat.prompt(asked, None).token_ids)] * 2


def test_a_curriculum_has_small_groups_first_and_is_random_within_a_size() -> None:
    made = [{"doc_ids": list("abc")[:n], "number": i} for i, n in enumerate([3, 1, 2, 3, 1, 2] * 4)]
    ordered = by_size(made, len(made), seed=1)
    assert [len(row["doc_ids"]) for row in ordered] == [1] * 8 + [2] * 8 + [3] * 8
    assert ordered != by_size(made, len(made), seed=2)
    assert ordered == by_size(made, len(made), seed=1)
    assert [row["number"] for row in ordered[:8]] != sorted(row["number"] for row in ordered[:8])
    assert ordered[:8] == [row for row in ordered if len(row["doc_ids"]) == 1]
    longer = by_size(made, 60, seed=1)  # two and a half times, and still from small to large
    assert [len(row["doc_ids"]) for row in longer] == sorted(len(r["doc_ids"]) for r in longer)
    assert set(Counter(row["number"] for row in longer).values()) == {2, 3}
    assert len(by_size(made, 5, seed=1)) == 5


# --- What is made -----------------------------------------------------------------------------


def test_sft_makes_an_adapter_that_a_ranker_loads_with_its_prompt(
    adapter: TrainResult, tiny_model: Path
) -> None:
    folder = adapter.path
    losses = [point["loss"] for point in adapter.log_history if "loss" in point]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert (folder / "prompt.toml").read_text() == PROMPT
    assert list((folder / "runs").rglob("events.out.tfevents.*"))
    curve = [json.loads(line) for line in (folder / "log_history.jsonl").read_text().splitlines()]
    assert curve == adapter.log_history
    described = json.loads((folder / "training.json").read_text())
    assert described["finished"]
    assert (described["action"], described["method"]) == ("sft", "groupwise")
    assert described["data"]["rows"] == adapter.rows == 8
    card = (folder / "README.md").read_text()
    assert described["data"]["sha256"] in card
    assert "learning_rate | 0.01" in card

    sampling = Sampling(max_tokens=4)
    for given in ({"model_name_or_path": str(folder)},
                  {"model_name_or_path": str(folder / "checkpoint-4")},
                  {"model_name_or_path": str(tiny_model),
                   "lora_name_or_path": str(folder)}):  # fmt: skip
        with GroupwiseLlmRanker(**given, engine="transformers", sampling=sampling) as ranker:
            assert ranker.settings.prompt.sha256 == described["prompt"]["sha256"]
            engine: Any = ranker.engine
            assert engine._model.network.dtype.is_floating_point
            assert engine.describe()["model"] == str(tiny_model)


def test_the_card_shows_what_the_chat_template_was_given() -> None:
    described = {
        "action": "sft", "method": "groupwise", "model": "m", "versions": {},
        "data": {"rows": 9, "too_long": 1, "path": "p", "sha256": "s"},
        "settings": {"chat_template_kwargs": {"enable_thinking": False}},
    }  # fmt: skip
    card = model_card(described)
    assert "with 8 rows of `p`" in card
    args = "engine_args={'chat_template_kwargs': {'enable_thinking': False}}"
    assert f'("THIS_FOLDER", engine="transformers", {args})' in card


@pytest.mark.parametrize("method", ["groupwise", "setwise"])
def test_the_program_of_a_card_runs(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    described = {
        "action": "sft", "method": method, "model": "m", "versions": {}, "settings": {},
        "data": {"rows": 9, "too_long": 1, "path": "p", "sha256": "s"},
    }  # fmt: skip
    (program,) = re.findall(r"```python\n(.*?)```", model_card(described), re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["ranker"].method == method


def test_vllm_gets_an_adapter_with_its_base(adapter: TrainResult, tiny_model: Path) -> None:
    with GroupwiseLlmRanker(str(adapter.path), engine="vllm") as ranker:
        described: Any = ranker.engine.describe()
        assert (described["model"], described["lora"]) == (str(tiny_model), str(adapter.path))
        assert described["tokenizer"] == str(adapter.path)
        assert ranker.settings.prompt.prompt_system == "Rank."


def test_an_adapter_whose_base_is_gone_says_how_to_give_it(
    adapter: TrainResult, tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(adapter.path, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "gone")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="which is not there: give that model by model_name_or"):
        GroupwiseLlmRanker(str(folder), engine="transformers")
    del config["base_model_name_or_path"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot read the adapter"):
        GroupwiseLlmRanker(str(folder), engine="transformers")


def test_what_was_learned_is_what_the_ranker_has(adapter: TrainResult, tiny_model: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[5, 6, 7]])
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        before = base(ids).logits
        learned = PeftModel.from_pretrained(base, adapter.path)(ids).logits
        with GroupwiseLlmRanker(str(adapter.path), engine="transformers") as ranker:
            engine: Any = ranker.engine
            loaded = engine._model.network(ids).logits
    assert (learned - before).abs().max() > 0.1
    assert torch.allclose(learned, loaded, atol=1e-3)


def test_full_sft_learns_to_answer(settings: dict[str, Any], tmp_path: Path) -> None:
    """One row, learned by heart, comes back at inference, where it ends by itself."""
    answer = '{"[1]": 2, "[2]": 7}'
    row = groupwise_row(0, [2, 7])
    data = write_rows(tmp_path / "rows", [row])
    asked = render("q", ["a", "b"], load_prompt(data.parent / "prompt.toml"))
    row["prompt"] = list(asked.messages)
    row["completion"][0]["content"] = answer
    write_rows(tmp_path / "rows", [row])
    given = {**settings, "data": data, "max_steps": 25, "learning_rate": 3e-3, "save_steps": 99}

    result = sft(SftSettings(save_path=tmp_path / "out", full=True, packing=False, **given))

    assert not (result.path / "adapter_config.json").exists()
    with GroupwiseLlmRanker(str(result.path), engine="transformers") as ranker:
        reply = asyncio.run(ranker.engine.answer(asked, Sampling(max_tokens=40)))
    assert reply.text == answer


class Interrupting(dict[str, str]):
    """Queries' texts, of which the reading ends by an interrupt the third time."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__(texts)
        self.left = 99

    def get(self, name: str, default: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().get(name, default)


@pytest.fixture
def held_out(tmp_path: Path) -> HeldOut:
    (tmp_path / "run").write_text("".join(f"q Q0 d{n} {n} {9 - n} t\n" for n in range(1, 4)))
    texts = ({"_id": f"d{n}", "text": f"text {n}"} for n in range(1, 4))
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    passages = JsonlPassages(tmp_path / "corpus.jsonl")
    stage = FirstStage(RunFile(tmp_path / "run", 10), Interrupting({"q": "query"}), passages)
    return HeldOut(first_stage=stage, qrels={"q": {"d2": 1}}, steps=2, max_tokens=8)


def test_a_held_out_run_is_measured_and_changes_nothing(
    settings: dict[str, Any], adapter: TrainResult, held_out: HeldOut, tmp_path: Path
) -> None:
    given = {**settings, "lora_rank": 4, "learning_rate": 1e-2}

    result = sft(SftSettings(save_path=tmp_path / "out", held_out=held_out, **given))

    assert weights(result.path) == weights(adapter.path)
    points = [point for point in result.log_history if "eval_ndcg@10" in point]
    assert [point["step"] for point in points] == [0, 2, 4]
    assert all(point["eval_valid_replies"] == 0 for point in points)  # of eight tokens
    assert len([point for point in result.log_history if "loss" in point]) == 4
    sampling = Sampling(max_tokens=8)
    with GroupwiseLlmRanker(str(result.path), engine="transformers", sampling=sampling) as ranker:
        summary = Experiment(
            first_stage=held_out.first_stage, ranker=ranker, save_path=None,
            qrels=held_out.qrels, measures=["nDCG@10"], max_failure_rate=1.0,
        ).run()  # fmt: skip
    assert result.metrics["eval_ndcg@10"] == summary.measures["nDCG@10"]["after"]
    assert result.metrics["eval_failed_groups"] == summary.statuses["failed"]


def test_a_training_that_was_ended_goes_on_to_the_same_model(
    settings: dict[str, Any], adapter: TrainResult, held_out: HeldOut, tmp_path: Path
) -> None:
    place = tmp_path / "out"
    given = {**settings, "lora_rank": 4, "learning_rate": 1e-2, "save_path": place}
    queries: Any = held_out.first_stage.queries
    queries.left = 6  # one, and two a measurement: the third is after step 4, before it is saved
    with pytest.raises(KeyboardInterrupt):
        sft(SftSettings(held_out=held_out, **given))
    described = json.loads((place / "training.json").read_text())
    assert not described["finished"]
    assert (place / "prompt.toml").read_text() == PROMPT
    assert [each.name for each in place.glob("checkpoint-*")] == ["checkpoint-2"]
    assert not (place / "README.md").exists()
    assert not (place / "adapter_config.json").exists()
    with pytest.raises(SettingsError, match="is not finished: go on with it by --resume, or give"):
        GroupwiseLlmRanker(str(place), engine="transformers")
    GroupwiseLlmRanker(str(place / "checkpoint-2"), engine="transformers").close()
    queries.left = 99
    with pytest.raises(FileError, match="give --resume to go on"):
        sft(SftSettings(**given))
    with pytest.raises(SettingsError, match=r"resume: learning_rate was 0.01 and is now 0.02"):
        sft(SftSettings(**{**given, "learning_rate": 0.02}, held_out=held_out, resume=True))
    with pytest.raises(SettingsError, match="was with another prompt file"):
        sft(SftSettings(**given, prompt_file="groupwise", held_out=held_out, resume=True))

    result = sft(SftSettings(**given, held_out=held_out, resume=True))

    assert weights(result.path) == weights(adapter.path)
    assert [point["step"] for point in result.log_history if "loss" in point] == [1, 2, 3, 4]
    with pytest.raises(SettingsError, match=r"the training in .* is finished"):
        sft(SftSettings(**given, held_out=held_out, resume=True))


def test_what_ends_before_its_first_checkpoint_leaves_nothing(
    settings: dict[str, Any], held_out: HeldOut, tmp_path: Path
) -> None:
    queries: Any = held_out.first_stage.queries
    queries.left = 1
    with pytest.raises(KeyboardInterrupt):
        sft(SftSettings(**settings, held_out=held_out, save_path=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "training.json").write_text("{}")
    with pytest.raises(FileError, match="or remove it: its training was ended before its first"):
        sft(SftSettings(**settings, save_path=tmp_path / "out"))


def test_memory_that_is_too_small_is_told_of(for_grpo: dict[str, Any], tmp_path: Path) -> None:
    from torch import OutOfMemoryError

    def reward(completions: Any, **columns: Any) -> list[float]:
        raise OutOfMemoryError("tried to allocate")

    with pytest.raises(ModelError, match=r"memory is too small \(tried to allocate\): make per_"):
        grpo(GrpoSettings(**for_grpo, reward=reward, save_path=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("logging_steps", [1, 10])
def test_a_loss_that_is_no_number_ends_the_training(
    settings: dict[str, Any], tmp_path: Path, logging_steps: int
) -> None:
    given = {**settings, "learning_rate": 1e30, "logging_steps": logging_steps, "save_steps": 99}
    with pytest.raises(ModelError, match=r"the loss is (nan|inf), .* a lower learning rate"):
        sft(SftSettings(**given, full=True, save_path=tmp_path / "out"))
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_grpo_begins_where_sft_ended_and_its_kl_is_from_there(
    adapter: TrainResult,
    for_grpo: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = {**for_grpo, "model_name_or_path": str(adapter.path), "beta": 0.1, "lora_rank": 4}
    lengths: list[int] = []

    def long(completions: Any, *, doc_ids: Any, **columns: Any) -> list[float]:
        lengths.extend(map(len, doc_ids))
        return [
            float(len(completion[0]["content"]) + i) for i, completion in enumerate(completions)
        ]

    result = grpo(
        GrpoSettings(save_path=tmp_path / "out", reward=long, learning_rate=1e-3,
                     curriculum=True, **{**given, "max_steps": 5})
    )  # fmt: skip

    kl = [point["kl"] for point in result.log_history if "kl" in point]
    assert kl[0] == pytest.approx(0.0, abs=1e-6)
    assert kl[1] > 0
    assert "the same reward" not in caplog.text
    assert len(lengths) == 20  # ten prompts of eight rows: once from small to large all the same
    assert lengths == sorted(lengths)
    assert set(lengths) == {2, 3}
    assert weights(result.path) != weights(adapter.path)
    assert not (result.path / "ref").exists()
    with GroupwiseLlmRanker(str(result.path), engine="transformers") as ranker:
        engine: Any = ranker.engine
        assert engine.describe()["lora"] == str(result.path)
        assert engine._model.network is not None


def test_a_curriculum_of_less_than_a_step_is_one_step(
    for_grpo: dict[str, Any], tmp_path: Path
) -> None:
    given = {**for_grpo, "max_steps": -1, "num_train_epochs": 0.1, "curriculum": True}
    result = grpo(GrpoSettings(save_path=tmp_path / "out", **given))
    assert [point["step"] for point in result.log_history if "reward" in point] == [1]


def test_grpo_that_was_ended_goes_on_to_the_same_model(
    adapter: TrainResult, for_grpo: dict[str, Any], tmp_path: Path
) -> None:
    given = {**for_grpo, "model_name_or_path": str(adapter.path), "lora_rank": 4, "save_steps": 1}
    calls = 0

    def reward(completions: Any, **columns: Any) -> list[float]:
        nonlocal calls
        calls += 1
        if calls == end:
            raise KeyboardInterrupt
        return [float(sum(map(ord, completion[0]["content"]))) for completion in completions]

    end = 0
    unbroken = grpo(GrpoSettings(save_path=tmp_path / "unbroken", reward=reward, **given))
    calls, end = 0, 2
    with pytest.raises(KeyboardInterrupt):
        grpo(GrpoSettings(save_path=tmp_path / "out", reward=reward, **given))
    resumed = grpo(GrpoSettings(save_path=tmp_path / "out", reward=reward, resume=True, **given))

    assert weights(resumed.path) == weights(unbroken.path)
    assert weights(resumed.path) != weights(adapter.path)


def test_setwise_is_trained_by_its_reward_and_loaded_by_its_ranker(
    for_grpo: dict[str, Any], tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows", [setwise_row(number) for number in range(4)])
    given = {**for_grpo, "data": data, "max_steps": 1, "save_steps": 9, **RANK_R1_LORA}

    result = grpo(GrpoSettings(save_path=tmp_path / "out", reward="rank_r1", **given))

    assert result.metrics["rewards/rank_r1/mean"] == 0.0
    config = json.loads((result.path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (16, 32, 0.05)
    with SetwiseLlmRanker(str(result.path), engine="transformers") as ranker:
        assert ranker.settings.prompt.prompt_system == "Rank."
    with pytest.raises(SettingsError, match="was trained for setwise, and this is groupwise"):
        GroupwiseLlmRanker(str(result.path), engine="transformers")


# --- What is refused --------------------------------------------------------------------------


def test_a_checkpoint_without_its_prompt_asks_for_it(adapter: TrainResult, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(adapter.path, folder)
    (folder / "prompt.toml").unlink()
    with pytest.raises(PromptError, match=r"has no prompt\.toml any more: give that prompt by"):
        GroupwiseLlmRanker(str(folder), engine="transformers")
    given = GroupwiseLlmRanker(str(folder), "groupwise", engine="transformers")
    assert given.settings.prompt.name == "groupwise"


def test_packed_rows_do_not_see_each_other(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    from llmrankers_groupwise.training.finetuning.models import check_packing

    for attention in ("sdpa", "eager"):
        network = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation=attention)
        check_packing(network)

    forward = network.forward

    def without_places(input_ids: Any, **rest: Any) -> Any:
        return forward(input_ids=input_ids)

    network.forward = without_places  # as of a model's own code
    with pytest.raises(SettingsError, match="rows of this model would see each other"):
        check_packing(network)


def refused(**given: Any) -> Callable[..., Any]:
    return lambda error, match: pytest.param(given, error, match, id=match[:40])


BAD_SFT = [
    refused(data="nowhere")(FileError, "does not exist"),
    refused(learning_rate=0)(SettingsError, "learning_rate is 0: give more than 0"),
    refused(lora_rank=0)(SettingsError, "lora_rank is 0: give a whole number from 1"),
    refused(max_length=0)(SettingsError, "max_length is 0"),
    refused(lora_dropout=1.0)(SettingsError, "lora_dropout is 1.0"),
    refused(bf16=True)(SettingsError, "no GPU here computes in it"),
    refused(trl_args={"lerning_rate": 1})(SettingsError, "unknown to SFTConfig; did you mean"),
    refused(trl_args={"learning_rate": 1})(SettingsError, "give it by the setting for it"),
    refused(trl_args={"output_dir": "x"})(SettingsError, "give it by the setting for it"),
    refused(trl_args={"eval_strategy": "x"})(SettingsError, "is not to be changed here"),
    refused(trl_args={"lr_scheduler_type": "x"})(SettingsError, "TRL refuses these settings"),
    refused(model_name_or_path="/nowhere")(ModelError, "/nowhere: there is no such folder"),
    refused(resume=True)(SettingsError, "has no checkpoint to go on from"),
    refused(seed=-1)(SettingsError, "seed is -1: give a whole number from 0"),
    refused(lora_targets=["q_proj", "x"])(SettingsError, "no layer 'x'; give all-linear, or a"),
    refused(lora_targets="q_pro")(SettingsError, "the model has no layer 'q_pro'"),
    refused(lora_targets="(")(SettingsError, r"lora_targets '\('"),
    refused(lora_targets=[1])(SettingsError, "give names of layers"),
    refused(max_length=5)(InputError, "all 8 rows are longer than max_length 5"),
]
BAD_GRPO = [
    refused(reward="best")(SettingsError, "reward is 'best': give one of grouprank_v3"),
    refused(reward=3)(SettingsError, "or a function"),
    refused(reward="rank_r1")(InputError, "rows are of groupwise and the reward rank_r1"),
    refused(num_generations=1)(SettingsError, "num_generations is 1: give 2 or more"),
    refused(num_generations=3)(SettingsError, "num_generations 3 does not divide"),
    refused(per_device_train_batch_size=64)(SettingsError, "a step takes 32 prompts and there"),
    refused(temperature=0)(SettingsError, "temperature is 0"),
    refused(beta=-1)(SettingsError, "beta is -1"),
    refused(vllm="here")(SettingsError, "vllm is 'here': give one of none, colocate, server"),
    refused(max_completion_length=8192)(SettingsError, "and the model takes 8192 tokens"),
    refused(max_completion_length=8190)(InputError, "longer than the 2 tokens that the longest"),
    refused(max_prompt_length=5)(InputError, "all 8 rows are longer than max_prompt_length 5"),
]


@pytest.mark.parametrize(("given", "error", "match"), BAD_SFT)
def test_what_sft_refuses(
    settings: dict[str, Any], tmp_path: Path, given: dict[str, Any], error: Any, match: str
) -> None:
    with pytest.raises(error, match=match):
        sft(SftSettings(**{**settings, "save_path": tmp_path / "out", **given}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("given", "error", "match"), BAD_GRPO)
def test_what_grpo_refuses(
    for_grpo: dict[str, Any], tmp_path: Path, given: dict[str, Any], error: Any, match: str
) -> None:
    with pytest.raises(error, match=match):
        grpo(GrpoSettings(**{**for_grpo, "save_path": tmp_path / "out", **given}))
    assert not (tmp_path / "out").exists()


def test_places_rows_and_models_that_cannot_be_used(
    settings: dict[str, Any], adapter: TrainResult, tiny_model: Path, tmp_path: Path
) -> None:
    def training(**given: Any) -> TrainResult:
        return sft(SftSettings(**{**settings, "save_path": tmp_path / "out", **given}))

    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match="is no folder; save elsewhere"):
        training(save_path=tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(FileError, match="is not empty; save elsewhere"):
        training(save_path=tmp_path / "full")
    with pytest.raises(FileError, match="its parent is no folder"):
        training(save_path=tmp_path / "no" / "out")
    bare = write_rows(tmp_path / "bare", [groupwise_row(0, [9, 0])], prompt=None)
    with pytest.raises(PromptError, match=r"has no prompt\.toml beside it"):
        training(data=bare)
    with pytest.raises(SettingsError, match="is an adapter, and full trains all weights"):
        training(model_name_or_path=str(adapter.path), full=True)
    silent = tmp_path / "silent"
    shutil.copytree(tiny_model, silent)
    (silent / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"has no chat template: .* --chat_template FILE"):
        training(model_name_or_path=str(silent))


def test_setwise_rows_want_their_own_reward(for_grpo: dict[str, Any], tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows", [setwise_row(0), setwise_row(1)])
    with pytest.raises(InputError, match="rows are of setwise and the reward grouprank_v3 is of"):
        grpo(GrpoSettings(**{**for_grpo, "data": data}, save_path=tmp_path / "out"))


def test_a_held_out_run_is_checked_before_a_model_is_loaded(
    settings: dict[str, Any], held_out: HeldOut, tmp_path: Path
) -> None:
    def measured(**changes: Any) -> TrainResult:
        changed = dataclasses.replace(held_out, **changes)
        return sft(SftSettings(**settings, held_out=changed, save_path=tmp_path / "out"))

    with pytest.raises(SettingsError, match="group_size of the held-out run is 1: give 2 or more"):
        measured(group_size=1)
    with pytest.raises(SettingsError, match="are the qrels of another collection"):
        measured(qrels={"other": {"d1": 1}})
    unknown = dataclasses.replace(held_out.first_stage, queries={"another": "query"})
    with pytest.raises(InputError, match="1 queries of the run are unknown: q"):
        measured(first_stage=unknown)


def test_a_prompt_that_asks_for_no_tags_gets_a_reward_that_looks_for_none(
    for_grpo: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = 'prompt_user = "{query} {docs}"'
    data = write_rows(tmp_path / "rows", [groupwise_row(0, [9, 0])], prompt)
    given = {**for_grpo, "data": data, "per_device_train_batch_size": 2, "max_steps": 1}
    result = grpo(GrpoSettings(**given, save_path=tmp_path / "out", log_completions=True))
    assert [each.suffix for each in (result.path / "completions").iterdir()] == [".parquet"]
    assert "grouprank_v3 looks for none" in caplog.text
    assert "all replies to a prompt got the same reward (the last: -0.1" in caplog.text
    assert result.metrics["rewards/grouprank_v3/mean"] == pytest.approx(-0.1)  # no JSON


def test_rows_that_allow_no_reward_are_counted_before_a_model_is_loaded(
    for_grpo: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = groupwise_row(0, [0, 0])
    data = write_rows(tmp_path / "rows", [bad])
    given = {**for_grpo, "data": data, "per_device_train_batch_size": 2}
    with pytest.raises(InputError, match=r"no row allows the reward, .*: make other rows"):
        grpo(GrpoSettings(**given, save_path=tmp_path / "out"))
    write_rows(tmp_path / "rows", [bad, groupwise_row(1, [9, 0])])
    with pytest.raises(ModelError):
        grpo(GrpoSettings(**{**given, "model_name_or_path": "/nowhere"}, save_path=tmp_path / "o"))
    assert "1 of 2 rewards not computed: no gold score is above 0 (1)" in caplog.text


def test_rows_longer_than_the_model_takes_are_left_out(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    save_random_model(tmp_path / "model", max_position_embeddings=64)
    given = {**settings, "model_name_or_path": str(tmp_path / "model")}
    with pytest.raises(InputError, match="all 8 rows are longer than the 64 tokens that the model"):
        sft(SftSettings(**given, save_path=tmp_path / "out"))


def test_replies_by_vllm_need_it(
    for_grpo: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingDependencyError, match=r"vllm colocate needs vLLM: pip install"):
        grpo(GrpoSettings(**for_grpo, vllm="colocate", save_path=tmp_path / "out"))


@pytest.mark.parametrize("name", ["ddp", "deepspeed_zero2", "deepspeed_zero3", "fsdp"])
def test_accelerate_reads_the_configurations_for_several_gpus(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    folder = Path(__file__).parents[2] / "examples" / "training"
    assert load_config_from_file(str(folder / f"{name}.yaml")).num_processes == 2


def test_without_its_packages_training_names_the_pip_line(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(MissingDependencyError, match=r"needs TRL: pip install .*\[train\]"):
        sft(SftSettings(**settings, save_path=tmp_path / "out"))


# --- The command ------------------------------------------------------------------------------


@pytest.fixture
def quiet_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    logging.getLogger(curves.__name__).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("quiet_logging")
def test_the_commands_train_one_after_the_other(
    rows: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    common = ["--data", str(rows), "--max_steps", "1", "--report_to", "none",
              "--logging_steps", "1", "--trl_args", '{"use_cpu": true}', "--json"]  # fmt: skip
    first, second = str(tmp_path / "sft"), str(tmp_path / "grpo")
    (tmp_path / "run").write_text("q Q0 d1 1 2 t\nq Q0 d2 2 1 t\n")
    (tmp_path / "queries.tsv").write_text("q\tquery\n")
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "text": "a"}\n{"_id": "d2", "text": "b"}')
    (tmp_path / "qrels").write_text("q 0 d1 1\n")
    held_out = ["--eval_run_path", str(tmp_path / "run"), "--eval_query_file",
                str(tmp_path / "queries.tsv"), "--eval_corpus", str(tmp_path / "corpus.jsonl"),
                "--eval_qrels", str(tmp_path / "qrels"), "--eval_max_tokens", "4"]  # fmt: skip

    assert main(["train", "sft", "--model_name_or_path", str(tiny_model), "--save_path", first,
                 "--gradient_accumulation_steps", "1", *common, *held_out]) == 0  # fmt: skip
    result = json.loads(capsys.readouterr().out)
    assert "step 1 of 1: eval_ndcg@10 1, eval_valid_replies" in caplog.text
    assert "step 1 of 1: loss " in caplog.text
    assert (result["path"], result["rows"]) == (first, 8)
    described = json.loads((tmp_path / "sft" / "training.json").read_text())
    assert described["settings"]["held_out"]["described"] == {
        name: str(tmp_path / file)
        for name, file in (("run_path", "run"), ("query_file", "queries.tsv"),
                           ("corpus", "corpus.jsonl"), ("qrels", "qrels"))
    }  # fmt: skip
    assert result["metrics"]["eval_ndcg@10"] == 1.0
    assert main(["train", "grpo", "--model_name_or_path", first, "--save_path", second,
                 "--per_device_train_batch_size", "2", "--num_generations", "2", "--reward",
                 '{"js": 0}', "--max_completion_length", "4", *common]) == 0  # fmt: skip
    assert "rewards/weighted/mean" in json.loads(capsys.readouterr().out)["metrics"]
    shown = json.loads((tmp_path / "grpo" / "training.json").read_text())["settings"]["reward"]
    assert shown == dataclasses.asdict(dataclasses.replace(grouprank_v3, name="weighted", js=0))

    assert main(["train", "sft", "--model_name_or_path", str(tiny_model), "--save_path", first,
                 *common]) == 2  # fmt: skip
    assert "is not empty; save elsewhere or give --resume" in capsys.readouterr().err


def test_what_is_synthesized_is_trained_on(
    synthesize: Callable[..., Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    _, folder = synthesize(lists=ListSettings(prompt_file="groupwise", group_sizes=(2,)))
    given = {**settings, "data": folder, "max_steps": 1, "max_length": 4096}

    result = sft(SftSettings(**given, save_path=tmp_path / "out"))

    assert result.rows > 0
    with GroupwiseLlmRanker(str(result.path), engine="transformers") as ranker:
        assert ranker.settings.prompt.sha256 == load_prompt("groupwise").sha256


@pytest.mark.usefixtures("quiet_logging")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--reward", "{"], "argument --reward: '{' is not JSON"),
        (
            ["--reward", '{"ndgc": 1}'],
            "argument --reward: there is no weight 'ndgc': give weights of ndcg, recall",
        ),
        (["--reward", '{"ndcg": "1"}'], "argument --reward: ndcg is '1': give a number"),
        (["--trl_args", "[1]"], "is not a JSON object"),
        (["--eval_run_path", "x"], "give --eval_qrels"),
        (["--eval_qrels", "x"], "give the first stage: --eval_run_path RUN, or --eval_candidates"),
        (["--lora_targets", "[q"], "argument --lora_targets: '[q' is not JSON"),
    ],
)
def test_what_the_command_refuses(
    given: list[str], message: str, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "grpo", "--model_name_or_path", "m", "--data", str(rows), "--save_path",
             str(tmp_path / "out"), *given]  # fmt: skip
    try:
        code: Any = main(words)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert message in capsys.readouterr().err
