"""The transformers engine from its settings to its end: loading, adapters, errors, closing."""

import asyncio
import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the extra [transformers] is not installed")
pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

import transformers  # noqa: E402
from llmrankers.rankers import SearchResult  # noqa: E402

from llmrankers_groupwise import GroupwiseLlmRanker  # noqa: E402
from llmrankers_groupwise.engines.base import EngineSettings  # noqa: E402
from llmrankers_groupwise.engines.llm.prompt_builder import (  # noqa: E402
    CHAT_ARGS,
    PromptBuilder,
    check_chat_args,
)
from llmrankers_groupwise.engines.registry import resolve_engine  # noqa: E402
from llmrankers_groupwise.engines.transformers.engine import TransformersEngine  # noqa: E402
from llmrankers_groupwise.errors import EngineError, FailureRateError, ModelError, SettingsError  # noqa: E402
from llmrankers_groupwise.prompting.prompt_file import load_prompt  # noqa: E402
from llmrankers_groupwise.prompting.render import render  # noqa: E402
from llmrankers_groupwise.testing import save_random_model  # noqa: E402
from llmrankers_groupwise.types import Reply, Request, Sampling, Scoring  # noqa: E402


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def question(*passages: str, form: bool = True) -> Request:
    texts = passages or ("Yeast makes bread rise.", "The moon moves the sea.", "x")
    return render("why does bread rise", texts, load_prompt("groupwise_scores"), form=form)


def replies(*requests: Request, **settings: Any) -> list[Reply]:
    """What an engine with these settings answers to the requests, or to one that is given."""
    engine = TransformersEngine(EngineSettings(**{"device": "cpu", **settings}))

    async def gather() -> Sequence[Reply]:
        asked = requests or (question(),)
        return await asyncio.gather(*(engine.answer(each, Sampling()) for each in asked))

    try:
        return list(asyncio.run(gather()))
    finally:
        engine.close()


def slot_probabilities(**settings: Any) -> list[float]:
    """All probabilities of one reply, one after another."""
    (reply,) = replies(**settings)
    assert reply.slot_probabilities is not None
    return [probability for row in reply.slot_probabilities for probability in row]


# --- Settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"max_batchtokens": 5}, "did you mean max_batch_tokens"),
        ({"temperature": 0.5}, "unknown to engine transformers; it knows"),
        ({"max_batch": 0}, "max_batch is 0"),
        ({"max_batch": 1.5}, "max_batch is 1.5"),
        ({"max_batch": "8"}, "max_batch is '8'"),
        ({"max_batch_tokens": -1}, "max_batch_tokens is -1"),
        ({"max_model_len": "long"}, "max_model_len is 'long'"),
        ({"max_model_len": 0}, "max_model_len is 0"),
        ({"max_model_len": -2}, "max_model_len is -2"),
        ({"max_model_len": True}, "max_model_len is True"),
        ({"revision": 1}, "revision is 1"),
        ({"trust_remote_code": 1}, "trust_remote_code is 1"),
        ({"chat_template_kwargs": "x"}, "chat_template_kwargs is 'x'"),
        ({"model_kwargs": [1]}, "model_kwargs is"),
        ({"chat_template": 3}, "chat_template is 3"),
        ({"close_thinking": None}, "close_thinking is None"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(args: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve_engine("transformers", EngineSettings("a-model", engine_args=args))


def test_a_model_must_be_named() -> None:
    with pytest.raises(SettingsError, match="model_name_or_path"):
        resolve_engine("transformers", EngineSettings())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine_args": {"dtype": "float8"}}, "dtype is 'float8': give auto, bfloat16"),
        ({"engine_args": {"quantization": "int3"}}, "quantization is 'int3': give int8 or int4"),
        ({"device": "quantum"}, "device is 'quantum'"),
        ({"device": "cuda:99"}, "device is 'cuda:99'"),
    ],
)
def test_a_setting_that_is_not_there(
    tiny_model: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        replies(model_name_or_path=str(tiny_model), **settings)


def test_template_arguments_that_are_the_engines_are_refused(tiny_model: Path) -> None:
    args = {"chat_template_kwargs": {"tokenize": True}}
    with pytest.raises(SettingsError, match="tokenize"):
        replies(model_name_or_path=str(tiny_model), engine_args=args)


def test_a_length_of_minus_one_is_none_given(tiny_model: Path) -> None:
    args = {**CHAT_ARGS, "max_model_len": -1}
    check_chat_args(args)
    prompter = PromptBuilder(EngineSettings(str(tiny_model)), args)
    assert prompter.max_model_len == 8192
    prompter.limit_to(3000)
    prompter.limit_to(5000)
    assert prompter.max_model_len == 3000


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", torch.bfloat16])
def test_the_precision_can_be_chosen(tiny_model: Path, dtype: Any) -> None:
    exact = slot_probabilities(model_name_or_path=str(tiny_model))
    settings = {"model_name_or_path": str(tiny_model), "engine_args": {"dtype": dtype}}
    engine = TransformersEngine(EngineSettings(**settings, device="cpu"))
    asyncio.run(engine.answer(question(), Sampling()))
    assert json.loads(json.dumps(engine.describe()))["dtype"] == str(dtype).rpartition(".")[2]
    engine.close()
    assert slot_probabilities(**settings) == pytest.approx(exact, abs=0.05)


# --- Models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nobody/no-such-model", "{tmp}/nowhere", "{tmp}"])
def test_a_model_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="give the name of a"):
        replies(model_name_or_path=name.replace("{tmp}", str(tmp_path)))


def test_a_model_without_weights(tiny_model: Path, tmp_path: Path) -> None:
    for path in tiny_model.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="cannot load the model"):
        replies(model_name_or_path=str(tmp_path))


def test_a_model_that_is_no_language_model(tiny_model: Path, tmp_path: Path) -> None:
    transformers.CLIPVisionConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot load the model"):
        replies(model_name_or_path=str(tmp_path), tokenizer_name_or_path=str(tiny_model))


def test_a_tokenizer_without_a_template(tmp_path: Path) -> None:
    save_random_model(tmp_path, chat_template=None)
    with pytest.raises(ModelError, match="no chat template"):
        replies(model_name_or_path=str(tmp_path))
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    args = {"chat_template": template}
    assert replies(model_name_or_path=str(tmp_path), engine_args=args)[0].slot_probabilities


def test_a_tokenizer_of_its_own(tiny_model: Path, tmp_path: Path) -> None:
    save_random_model(tmp_path / "bare", chat_template=None)
    (reply,) = replies(
        model_name_or_path=str(tmp_path / "bare"), tokenizer_name_or_path=str(tiny_model)
    )
    assert reply.slot_probabilities


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_what_is_not_installed_is_named(tiny_model: Path, missing: str) -> None:
    program = f"""
import asyncio, sys
sys.modules[{missing!r}] = None
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.registry import resolve_engine
from llmrankers_groupwise.errors import MissingDependencyError
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.types import Sampling
engine = resolve_engine("transformers", EngineSettings({str(tiny_model)!r}))
asked = render("q", ["p"], load_prompt("groupwise_scores"), form=True)
try:
    asyncio.run(engine.answer(asked, Sampling()))
except MissingDependencyError as error:
    print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert "pip install 'llmrankers-groupwise[transformers]'" in ran.stdout


# --- Adapters -----------------------------------------------------------------------------------


def save_adapter(model: Path, folder: Path, **settings: Any) -> Any:
    """An adapter for a model, of random weights, as peft saves it; gives the model with it."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    network = transformers.AutoModelForCausalLM.from_pretrained(model)
    config = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    adapted = peft.get_peft_model(network, peft.LoraConfig(**{**config, **settings}))
    generator = torch.Generator().manual_seed(5)
    for name, weights in adapted.named_parameters():
        if "lora_" in name:
            weights.data.normal_(std=0.3, generator=generator)
    adapted.save_pretrained(folder)
    return adapted


def test_an_adapter_scores_as_the_model_merged_with_it(tiny_model: Path, tmp_path: Path) -> None:
    adapted = save_adapter(tiny_model, tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = slot_probabilities(
        model_name_or_path=str(tmp_path / "merged"), tokenizer_name_or_path=str(tiny_model)
    )
    by_adapter = slot_probabilities(
        model_name_or_path=str(tiny_model), lora_name_or_path=str(tmp_path / "adapter")
    )
    assert by_adapter == pytest.approx(merged, abs=1e-5)
    plain = slot_probabilities(model_name_or_path=str(tiny_model))
    assert max(abs(a - b) for a, b in zip(plain, by_adapter, strict=True)) > 0.01


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # as where they are no errors
@pytest.mark.parametrize("shape", [{"hidden_size": 96}, {"layers": 3}, {"layers": 1}])
def test_an_adapter_of_another_model_is_refused(
    tiny_model: Path, tmp_path: Path, shape: dict[str, Any]
) -> None:
    save_random_model(tmp_path / "other", **shape)
    save_adapter(tmp_path / "other", tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"cannot use the adapter .* trained on this model\?"):
        replies(model_name_or_path=str(tiny_model), lora_name_or_path=str(tmp_path / "adapter"))


@pytest.mark.parametrize("name", ["nobody/no-such-adapter", "{tmp}/nowhere", "{tmp}"])
def test_an_adapter_that_is_not_there(tiny_model: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    with pytest.raises(ModelError, match="cannot use the adapter"):
        replies(
            model_name_or_path=str(tiny_model),
            lora_name_or_path=name.replace("{tmp}", str(tmp_path)),
        )


def test_a_damaged_adapter_is_named(tiny_model: Path, tmp_path: Path) -> None:
    save_adapter(tiny_model, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors is damaged"):
        replies(model_name_or_path=str(tiny_model), lora_name_or_path=str(tmp_path))


# --- Life ---------------------------------------------------------------------------------------


def test_nothing_is_loaded_before_it_is_asked() -> None:
    engine = TransformersEngine(EngineSettings("nobody/no-such-model"))
    assert engine.describe()["model"] == "nobody/no-such-model"
    engine.close()


def test_a_description_is_json_whatever_the_settings(tiny_model: Path) -> None:
    args = {"dtype": torch.float32, "model_kwargs": {"torch_dtype": torch.float16}}
    engine = TransformersEngine(EngineSettings(str(tiny_model), engine_args=args))
    described = json.loads(json.dumps(engine.describe()))
    assert described["engine_args"]["dtype"] == "torch.float32"
    engine.close()


def test_a_description_says_what_was_loaded(tiny_model: Path) -> None:
    engine = TransformersEngine(EngineSettings(str(tiny_model), device="cpu"))
    asyncio.run(engine.answer(question(), Sampling()))
    described = json.loads(json.dumps(engine.describe()))
    assert described["device"] == "cpu"
    assert described["dtype"] == "float32"
    assert described["max_model_len"] == 8192
    assert "torch" in described["versions"]
    engine.close()


def test_closing_fails_what_waits_and_what_comes_later(tiny_model: Path) -> None:
    engine = TransformersEngine(EngineSettings(str(tiny_model), engine_args={"max_batch": 1}))
    asyncio.run(engine.answer(question(), Sampling()))
    runs, go_on = threading.Event(), threading.Event()

    def hold(*_: Any) -> None:
        runs.set()
        assert go_on.wait(timeout=30)

    engine._model.network.register_forward_pre_hook(hold)

    async def close_while_waiting() -> list[Reply | BaseException]:
        running = asyncio.create_task(engine.answer(question(), Sampling()))
        await asyncio.to_thread(runs.wait, 30)
        waiting = asyncio.create_task(engine.answer(question(), Sampling()))
        while engine._batcher._waiting.empty():
            await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(engine.close))
        while not engine._batcher._closed:
            await asyncio.sleep(0)
        go_on.set()
        await closing
        return await asyncio.gather(running, waiting, return_exceptions=True)

    running, waiting = asyncio.run(close_while_waiting())
    assert isinstance(running, EngineError)
    assert isinstance(waiting, EngineError)
    with pytest.raises(ModelError, match="closed"):
        asyncio.run(engine.answer(question(), Sampling()))
    assert engine._loaded.made is None
    engine.close()


def at_pass(number: int, engine: TransformersEngine, act: Callable[[], None]) -> list[int]:
    """Do something during that pass over the model; gives the passes, as they are counted."""
    passes: list[int] = []

    def count(*_: Any) -> None:
        passes.append(1)
        if len(passes) == number:
            act()

    engine._model.network.register_forward_hook(count)
    return passes


def one_by_one(tiny_model: Path) -> TransformersEngine:
    """An engine that has loaded its model and answers what it has gathered in batches of one."""
    args = {"max_batch_tokens": 1}
    engine = TransformersEngine(EngineSettings(str(tiny_model), device="cpu", engine_args=args))
    asyncio.run(engine.answer(question(), Sampling()))
    return engine


async def behind_one(
    engine: TransformersEngine, runs: threading.Event, go_on: threading.Event, *asked: Request
) -> list[asyncio.Task[Reply]]:
    """Tasks whose requests are gathered in one batch while a first one, of one pass, runs."""
    tasks = [asyncio.create_task(engine.answer(question("p"), Sampling()))]
    await asyncio.to_thread(runs.wait, 30)
    for number, request in enumerate(asked, 1):
        tasks.append(asyncio.create_task(engine.answer(request, Sampling(max_tokens=3000))))
        while engine._batcher._waiting.qsize() < number:
            await asyncio.sleep(0)
    go_on.set()
    return tasks


def held(engine: TransformersEngine) -> tuple[threading.Event, threading.Event]:
    """The first pass over the model sets the one event and waits for the other."""
    runs, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        runs.set()
        assert go_on.wait(timeout=30)

    at_pass(1, engine, wait)
    return runs, go_on


@pytest.mark.parametrize("form", [True, False])
def test_closing_ends_with_the_pass_that_is_under_way(tiny_model: Path, *, form: bool) -> None:
    """Micro-batches that are done keep their replies."""
    engine = one_by_one(tiny_model)
    events = held(engine)
    closing = threading.Thread(target=engine.close)

    def close() -> None:
        closing.start()
        while not engine._batcher.closed:
            pass

    async def close_while_running() -> list[Reply | BaseException]:
        running = question("a passage " * 9, "q", form=form)
        waiting = question("p", form=form)
        asked = question("a long passage " * 50, "p"), running, waiting
        tasks = await behind_one(engine, *events, *asked)
        return await asyncio.gather(*tasks, return_exceptions=True)

    passes = at_pass(1 + 2 + 1, engine, close)
    first, done, running, waiting = asyncio.run(close_while_running())
    closing.join()
    assert isinstance(first, Reply)
    assert isinstance(done, Reply)
    for each in (running, waiting):
        assert isinstance(each, EngineError)
        assert "closed" in str(each)
    assert len(passes) == 4


def test_what_nobody_waits_for_is_not_generated(tiny_model: Path) -> None:
    engine = one_by_one(tiny_model)
    events = held(engine)
    loops: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Task[Reply]] = []
    gone = threading.Event()

    def cancel() -> None:
        loops[0].call_soon_threadsafe(lambda: [task.cancel() for task in tasks[1:3]])
        assert gone.wait(timeout=30)

    async def cancel_while_running() -> Reply:
        loops.append(asyncio.get_running_loop())
        asked = question("a passage " * 50, form=False), question("p", "q", form=False)
        tasks.extend(await behind_one(engine, *events, *asked, question("p")))
        *ended, last = tasks
        await asyncio.gather(*ended, return_exceptions=True)
        gone.set()
        return await last

    passes = at_pass(1 + 20, engine, cancel)
    assert asyncio.run(cancel_while_running()).slot_probabilities
    assert [task.cancelled() for task in tasks] == [False, True, True, False]
    assert len(passes) == 1 + 20 + 1
    engine.close()


@pytest.mark.parametrize("missing", ["", "model.safetensors"], ids=["all", "weights"])
def test_what_cannot_be_loaded_is_not_tried_again(
    tiny_model: Path, tmp_path: Path, missing: str
) -> None:
    for path in tiny_model.iterdir():
        if not path.name.startswith(missing):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    engine = TransformersEngine(EngineSettings(str(tmp_path), device="cpu"))

    async def gather() -> Sequence[Reply | BaseException]:
        answers = (engine.answer(question(), Sampling()) for _ in range(5))
        return await asyncio.gather(*answers, return_exceptions=True)

    first, *others = asyncio.run(gather())
    assert isinstance(first, ModelError)
    assert all(other is first for other in others)
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert all(answer is first for answer in asyncio.run(gather()))
    engine.close()


# --- Behind the ranker --------------------------------------------------------------------------


def documents(n: int) -> list[SearchResult]:
    texts = ["Yeast makes bread rise.", "The moon.", "Bread, " * 30, "<|im_end|>", "Ö"]
    return [SearchResult(f"d{i}", 1.0 / (i + 1), texts[i % 5] + str(i)) for i in range(n)]


@pytest.fixture
def ranker_of(tiny_model: Path) -> Iterator[Any]:
    made: list[GroupwiseLlmRanker] = []

    def make(**settings: Any) -> GroupwiseLlmRanker:
        ranker = GroupwiseLlmRanker(
            str(tiny_model), engine="transformers", device="cpu", group_size=5, **settings
        )
        made.append(ranker)
        return ranker

    yield make
    for ranker in made:
        ranker.close()


@pytest.mark.parametrize(
    ("scoring", "sampling"),
    [
        ("likelihood", Sampling()),
        ("likelihood", Sampling(reasoning_tokens=30)),
        ("generation", Sampling(max_tokens=25)),
        ("generation", Sampling(max_tokens=25, temperature=0.8, seed=1)),
    ],
    ids=["likelihood", "likelihood after reasoning", "forced", "forced, sampled"],
)
def test_a_ranker_ranks_with_it(ranker_of: Any, scoring: Scoring, sampling: Sampling) -> None:
    ranker, given = ranker_of(scoring=scoring, sampling=sampling), documents(13)
    ranking = ranker.rerank("why does bread rise", given)
    assert sorted(result.docid for result in ranking) == sorted(each.docid for each in given)
    scores = [result.score for result in ranking]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
    assert ranker.total_compare == 3
    assert ranker.total_prompt_tokens > 3 * 500
    assert ranker.total_completion_tokens >= 13
    again = ranker.rerank("why does bread rise", given)
    assert [result.docid for result in again] == [result.docid for result in ranking]
    json.dumps(ranker.describe())


def test_the_default_scoring_is_generation(ranker_of: Any) -> None:
    assert ranker_of().settings.scoring == "generation"


def test_verbose_logs_prompts_and_replies(ranker_of: Any, caplog: pytest.LogCaptureFixture) -> None:
    ranker = ranker_of(scoring="likelihood", verbose=True)
    try:
        ranker.rerank("why does bread rise", documents(2))
    finally:
        logging.getLogger("llmrankers_groupwise").setLevel(logging.NOTSET)
    assert "Yeast makes bread rise" in caplog.text
    assert "Reply(text='{" in caplog.text


def test_groups_that_cannot_be_asked_are_failures(ranker_of: Any) -> None:
    ranker = ranker_of(scoring="likelihood", engine_args={"max_model_len": 100})
    with pytest.raises(FailureRateError):
        ranker.rerank("why does bread rise", documents(100))


def test_a_model_folder_without_tokenizer_files_is_said(tiny_model: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        shutil.copy(tiny_model / name, tmp_path)
    engine = TransformersEngine(EngineSettings(str(tmp_path), device="cpu"))
    try:
        with pytest.raises(ModelError, match="tokenizer"):
            engine.count_tokens("a text")
    finally:
        engine.close()


def test_a_token_among_the_model_arguments_is_not_described(tiny_model: Path) -> None:
    args = {"model_kwargs": {"token": "hf_secret"}}
    engine = TransformersEngine(EngineSettings(str(tiny_model), engine_args=args))
    assert "hf_secret" not in json.dumps(engine.describe())
    engine.close()
