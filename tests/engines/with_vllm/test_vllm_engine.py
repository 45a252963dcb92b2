"""The vLLM engine on a real vLLM, held against transformers on the same model."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from llmrankers.rankers import SearchResult

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.engines.base import Engine, EngineSettings
from llmrankers_groupwise.engines.transformers.engine import TransformersEngine
from llmrankers_groupwise.engines.vllm.engine import VllmEngine
from llmrankers_groupwise.errors import EngineError, ModelError, SettingsError
from llmrankers_groupwise.prompting.parse_scores import read_reply
from llmrankers_groupwise.prompting.prompt_file import bundled_prompts, load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.types import Reply, Request, Sampling, Status, Wanted

from .conftest import VLLM_ARGS

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")
pytestmark = pytest.mark.filterwarnings("default")  # of vLLM's own imports

PASSAGES = [f"Passage number {n} says something of bread. " * (1 + n % 4) for n in range(20)]


def request(n: int = 20, *, form: bool = True, prompt: str = "groupwise_scores") -> Request:
    return render("why does bread rise", PASSAGES[:n], load_prompt(prompt), form=form)


def ask(engine: Engine, requests: list[Request], sampling: Sampling | None = None) -> list[Reply]:
    return asyncio.run(EngineCaller(engine, sampling or Sampling())(requests))


def scores(reply: Reply, n: int) -> list[float]:
    assert reply.error is None
    assert reply.slot_probabilities is not None
    return [read_reply(reply, n).scores[label] for label in range(1, n + 1)]


@pytest.mark.parametrize("sizes", [[1], [2, 11, 20]], ids=str)
def test_expected_scores_are_those_of_transformers(
    vllm_engine: Engine, transformers_engine: Engine, sizes: list[int]
) -> None:
    requests = [request(n) for n in sizes]
    ours, theirs = ask(vllm_engine, requests), ask(transformers_engine, requests)
    for n, one, other in zip(sizes, ours, theirs, strict=True):
        assert scores(one, n) == pytest.approx(scores(other, n), abs=0.05)
        assert len(set(scores(one, n))) == n  # no ties
        assert one.prompt_tokens == other.prompt_tokens


def yes_or_no(passage: str) -> Request:
    prompt = load_prompt("pointwise_yes_no")
    return render("why does bread rise", [passage], prompt, form=True, choices=("No", "Yes"))


def test_the_probability_of_yes_is_that_of_transformers(
    vllm_engine: Engine, transformers_engine: Engine
) -> None:
    requests = [yes_or_no(passage) for passage in PASSAGES[:6]]
    ours, theirs = ask(vllm_engine, requests), ask(transformers_engine, requests)
    for one, other in zip(ours, theirs, strict=True):
        assert one.slot_probabilities is not None
        assert other.slot_probabilities is not None
        assert sum(one.slot_probabilities[0]) == pytest.approx(1)
        assert one.slot_probabilities[0] == pytest.approx(other.slot_probabilities[0], abs=0.01)
        assert one.text == other.text
    assert len({one.slot_probabilities for one in ours}) == len(requests)


@pytest.mark.parametrize("wants", ["order", "choice"])
def test_an_order_is_the_text_that_transformers_writes(
    vllm_engine: Engine, transformers_engine: Engine, wants: Wanted
) -> None:
    requests = [render("why does bread rise", PASSAGES[:4], load_prompt("listwise"), wants=wants)]
    for sampling in (Sampling(max_tokens=12), Sampling(max_tokens=24, reasoning_tokens=6)):
        (one,) = ask(vllm_engine, requests, sampling)
        (other,) = ask(transformers_engine, requests, sampling)
        half = "\ufffd"  # a character that was cut off, which vLLM keeps back
        assert one.text.rstrip(half) == other.text.rstrip(half) != ""
        assert (one.slot_probabilities, one.forced) == (None, False)


def test_a_form_behind_reasoning_is_that_of_transformers(
    vllm_engine: Engine, transformers_engine: Engine
) -> None:
    requests = [request(5, prompt="groupwise")]
    sampling = Sampling(reasoning_tokens=12)
    (one,) = ask(vllm_engine, requests, sampling)
    (other,) = ask(transformers_engine, requests, sampling)
    assert one.text == other.text
    assert one.forced
    assert scores(one, 5) == pytest.approx(scores(other, 5), abs=0.05)


def test_a_text_that_forgets_documents_is_finished_by_a_form(vllm_engine: Engine) -> None:
    (reply,) = ask(
        vllm_engine, [request(6, form=False, prompt="groupwise")], Sampling(max_tokens=9)
    )
    assert reply.forced
    read = read_reply(reply, 6)
    assert read.status is Status.FORCED
    assert len(read.scores) == 6


def test_a_turn_that_ends_by_itself_is_continued_without_its_last_token(
    model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "ending")
    greedy = TransformersEngine(EngineSettings(str(model)))
    requests = [request(4, form=False, prompt="groupwise")]
    text = ask(greedy, requests, Sampling(max_tokens=12))[0].text.partition("<answer>")[0]
    greedy.close()
    last = text.rstrip()[-1]  # a byte that the model writes becomes an end of turn
    number = greedy._prompter.tokenizer.encode(last)[-1]
    generation = json.loads((folder / "generation_config.json").read_text())
    ends = {"eos_token_id": [generation["eos_token_id"], number]}
    (folder / "generation_config.json").write_text(json.dumps(generation | ends))
    settings = EngineSettings(str(folder), engine_args=VLLM_ARGS)
    theirs = TransformersEngine(EngineSettings(str(folder)))
    ours = VllmEngine(settings)
    try:
        for sampling in (Sampling(max_tokens=60), Sampling(max_tokens=60, reasoning_tokens=40)):
            (one,), (other,) = ask(ours, requests, sampling), ask(theirs, requests, sampling)
            assert one.text == other.text
            assert one.completion_tokens < 60
            assert scores(one, 4) == pytest.approx(scores(other, 4), abs=0.05)
    finally:
        ours.close()
        theirs.close()


def test_exactness_without_asking_about_ten_keeps_the_stated_bound(
    model: Path, vllm_engine: Any, transformers_engine: Engine
) -> None:
    before = vllm_engine._own["ten_tolerance"]
    vllm_engine._own["ten_tolerance"] = 9.0  # ask nothing more
    try:
        (rough,) = ask(vllm_engine, [request(7)])
    finally:
        vllm_engine._own["ten_tolerance"] = before
    (exact,) = ask(transformers_engine, [request(7)])
    assert rough.slot_probabilities is not None
    assert exact.slot_probabilities is not None
    for row, exact_row in zip(rough.slot_probabilities, exact.slot_probabilities, strict=True):
        both = exact_row[1] + exact_row[10]
        assert row[1] + row[10] == pytest.approx(both, abs=1e-3)
        mean, exact_mean = (sum(i * p for i, p in enumerate(each)) for each in (row, exact_row))
        assert abs(mean - exact_mean) <= 9 * both + 1e-3


def test_an_adapter_changes_the_scores_as_the_merged_model_does(
    model: Path, adapter: Path, vllm_engine: Engine
) -> None:
    settings = EngineSettings(str(model), str(adapter), engine_args=VLLM_ARGS)
    adapted = VllmEngine(settings)
    merged = TransformersEngine(EngineSettings(str(model), str(adapter)))
    try:
        requests = [request(9)]
        with_adapter = scores(ask(adapted, requests)[0], 9)
        assert with_adapter == pytest.approx(scores(ask(merged, requests)[0], 9), abs=0.05)
        assert with_adapter != pytest.approx(scores(ask(vllm_engine, requests)[0], 9), abs=0.05)
    finally:
        adapted.close()
        merged.close()


def test_a_prompt_that_does_not_fit_never_reaches_it(vllm_engine: Engine) -> None:
    too_long = render("bread " * 900, PASSAGES, load_prompt("groupwise_scores"), form=True)
    cut = render("bread", ["crumb " * 900] * 4, load_prompt("groupwise_scores"), form=True)
    long, shorter, short = ask(vllm_engine, [too_long, cut, request(3)])
    assert "does not fit" in (long.error or "")
    assert shorter.error is None
    assert shorter.cut_passages == 4
    assert shorter.prompt_tokens <= 4096
    assert short.error is None
    assert short.cut_passages == 0


def test_reranking_end_to_end(vllm_engine: Engine) -> None:
    ranker = GroupwiseLlmRanker(engine=vllm_engine, scoring="likelihood", group_size=5)
    docs = [SearchResult(f"d{n}", 1.0 / (n + 1), PASSAGES[n]) for n in range(12)]
    ranked = ranker.rerank("why does bread rise", docs)
    assert sorted(each.docid for each in ranked) == sorted(each.docid for each in docs)
    assert ranker.total_compare == 3
    assert ranker.total_completion_tokens > 0


def test_it_describes_model_and_settings(vllm_engine: Engine) -> None:
    ask(vllm_engine, [request(1)])
    described = vllm_engine.describe()
    assert described["max_model_len"] == 4096
    assert described["dtype"] == "float32"
    json.dumps(described)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        pytest.param({}, SettingsError, "give model_name_or_path", id="no-model"),
        pytest.param(
            {"engine_args": {"chat_template_kwargs": "x"}}, SettingsError, "kwargs", id="kwargs"
        ),
        pytest.param(
            {"engine_args": {"ten_tolerance": "x"}}, SettingsError, "ten_tolerance", id="tolerance"
        ),
        pytest.param({"device": "cuda"}, SettingsError, "CUDA_VISIBLE_DEVICES", id="device"),
        pytest.param(
            {"engine_args": {"tensor_paralel_size": 2}},
            SettingsError,
            "did you mean tensor_parallel_size",
            id="misspelt",
        ),
        pytest.param(
            {"engine_args": {"model": "another"}},
            SettingsError,
            "model_name_or_path",
            id="model-arg",
        ),
        pytest.param(
            {"engine_args": {"tensor_parallel_size": "two"}},
            ModelError,
            "tensor_parallel_size",
            id="wrong-value",
        ),
        pytest.param({"lora_name_or_path": "/no/adapter"}, ModelError, "/no/adapter", id="lora"),
        pytest.param({"model_name_or_path": "/no/model"}, ModelError, "/no/model", id="model"),
    ],
)
def test_what_cannot_be_used_is_said(
    model: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    if settings.keys() & {"engine_args", "lora_name_or_path", "device"}:
        settings = {"model_name_or_path": str(model), **settings}
    with pytest.raises(error, match=message):
        asyncio.run(VllmEngine(EngineSettings(**settings)).answer(request(1), Sampling()))


def test_a_trained_adapter_is_ranked_with_by_its_folder_alone(
    model: Path, adapter: Path, tmp_path: Path
) -> None:
    """Its model by the adapter's configuration, its prompt beside it."""
    folder = tmp_path / "trained"
    shutil.copytree(adapter, folder)
    (folder / "prompt.toml").write_bytes(bundled_prompts()["groupwise_scores"].read_bytes())
    (folder / "training.json").write_text('{"method": "groupwise", "finished": true}')
    docs = [SearchResult(docid=str(n), score=-n, text=f"passage {n}") for n in range(5)]
    ranked = []
    for names in (
        {"model_name_or_path": str(folder)},
        {"model_name_or_path": str(model), "lora_name_or_path": str(adapter),
         "prompt_file": "groupwise_scores"},
    ):  # fmt: skip
        with GroupwiseLlmRanker(**names, engine="vllm", engine_args=VLLM_ARGS) as ranker:
            ranked.append([(each.docid, each.score) for each in ranker.rerank("query", docs)])
            assert ranker.settings.prompt.sha256 == load_prompt("groupwise_scores").sha256
    assert ranked[0] == ranked[1]


def test_an_adapter_of_another_model_is_refused(adapter: Path, tmp_path: Path) -> None:
    from llmrankers_groupwise.testing import save_random_model

    save_random_model(tmp_path, hidden_size=96, max_position_embeddings=2048)
    engine = VllmEngine(EngineSettings(str(tmp_path), str(adapter), engine_args=VLLM_ARGS))
    try:
        with pytest.raises(ModelError, match="was it trained on this model"):
            asyncio.run(engine.answer(request(1), Sampling()))
    finally:
        engine.close()


def test_a_vllm_that_dies_is_an_error_and_no_hang(model: Path) -> None:
    engine = VllmEngine(EngineSettings(str(model), engine_args=VLLM_ARGS))

    async def kill_and_ask() -> list[Reply | BaseException]:
        await engine.answer(request(1), Sampling())
        manager = engine._vllm().engine.engine_core.resources.engine_manager
        running = [
            asyncio.create_task(
                engine.answer(request(2, form=False), Sampling(max_tokens=2000, temperature=1.0))
            )
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        for process in manager.processes:
            os.kill(process.pid, signal.SIGKILL)
        return await asyncio.gather(*running, return_exceptions=True)

    try:
        for outcome in asyncio.run(kill_and_ask()):
            assert isinstance(outcome, ModelError)
        with pytest.raises(ModelError):
            asyncio.run(engine.answer(request(1), Sampling()))
    finally:
        engine.close()
    with pytest.raises(ModelError, match="closed"):
        asyncio.run(engine.answer(request(1), Sampling()))


def test_closing_ends_what_is_open(model: Path) -> None:
    engine = VllmEngine(EngineSettings(str(model), engine_args=VLLM_ARGS))

    async def close_while_asking() -> object:
        await engine.answer(request(1), Sampling())
        running = asyncio.create_task(
            engine.answer(request(2, form=False), Sampling(max_tokens=3000, temperature=1.0))
        )
        await asyncio.sleep(0)
        await asyncio.to_thread(engine.close)
        return (await asyncio.gather(running, return_exceptions=True))[0]

    assert isinstance(asyncio.run(close_while_asking()), EngineError | ModelError)
    engine.close()


def test_the_command_runs_it(model: Path, tmp_path: Path) -> None:
    docs = {f"d{n}": text for n, text in enumerate(PASSAGES[:8])}
    (tmp_path / "run").write_text(
        "".join(f"q1 Q0 {doc} {rank} {9 - rank} x\n" for rank, doc in enumerate(docs, start=1))
    )
    (tmp_path / "queries.tsv").write_text("q1\twhy does bread rise\n")
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": doc, "text": text}) + "\n" for doc, text in docs.items())
    )
    command = [
        sys.executable, "-m", "llmrankers_groupwise.cli", "run", "--run_path", "run",
        "--query_file", "queries.tsv", "--corpus", "corpus.jsonl", "--save_path", "out.trec",
        "--engine", "vllm", "--model_name_or_path", str(model), "--scoring", "likelihood",
        "--engine_args", "dtype=float32", "--engine_args", "enforce_eager=True",
        "groupwise", "--group_size", "4",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len((tmp_path / "out.trec").read_text().splitlines()) == 8
    manifest = json.loads((tmp_path / "out.trec.manifest.json").read_text())
    assert manifest["engine"]["engine"] == "vllm"
    assert manifest["counters"]["statuses"]["exact"] == 2
