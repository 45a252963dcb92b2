"""The openai engine on a real `vllm serve`, held against transformers on the same model."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from llmrankers.rankers import SearchResult

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.engines.base import Engine, EngineSettings
from llmrankers_groupwise.engines.openai.engine import OpenAIEngine
from llmrankers_groupwise.errors import ModelError
from llmrankers_groupwise.prompting.parse_scores import read_reply
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.types import Reply, Request, Sampling, Status

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")
pytestmark = pytest.mark.filterwarnings("default")  # of vLLM's own imports

PASSAGES = [f"Passage number {n} says something of bread. " * (1 + n % 4) for n in range(20)]


def request(n: int, *, form: bool = True, prompt: str = "groupwise_scores") -> Request:
    return render("why does bread rise", PASSAGES[:n], load_prompt(prompt), form=form)


def ask(engine: Engine, requests: list[Request], sampling: Sampling | None = None) -> list[Reply]:
    return asyncio.run(EngineCaller(engine, sampling or Sampling())(requests))


@pytest.fixture(params=["json_schema", "regex"])
def engine(request: pytest.FixtureRequest, server: str) -> Iterator[Engine]:
    args = {"base_url": server, "structured_outputs": request.param}
    engine = OpenAIEngine(EngineSettings(engine_args=args))
    yield engine
    engine.close()


def test_scores_differ_from_exact_ones_by_the_stated_bound_at_most(
    engine: Engine, transformers_engine: Engine
) -> None:
    requests = [request(n) for n in (1, 6, 20)]
    ours, exact = ask(engine, requests), ask(transformers_engine, requests)
    for n, reply, other in zip((1, 6, 20), ours, exact, strict=True):
        assert reply.error is None
        assert reply.slot_probabilities is not None
        assert other.slot_probabilities is not None
        assert read_reply(reply, n).status is Status.EXACT
        # The text may be another one from where the schema allows blanks; the first is not.
        row, exact_row = reply.slot_probabilities[0], other.slot_probabilities[0]
        unsure = exact_row[1] + exact_row[10]
        mean, exact_mean = (sum(i * p for i, p in enumerate(each)) for each in (row, exact_row))
        assert abs(mean - exact_mean) <= 9 * unsure + 0.05


def test_the_regular_expression_gives_the_distribution_of_transformers(
    server: str, transformers_engine: Engine
) -> None:
    args = {"base_url": server, "structured_outputs": "regex"}
    engine = OpenAIEngine(EngineSettings(engine_args=args))
    try:
        (ours,), (exact,) = ask(engine, [request(9)]), ask(transformers_engine, [request(9)])
    finally:
        engine.close()
    assert ours.slot_probabilities is not None
    assert exact.slot_probabilities is not None
    for row, exact_row in zip(ours.slot_probabilities, exact.slot_probabilities, strict=True):
        for choice in (0, 2, 3, 4, 5, 6, 7, 8, 9):
            assert row[choice] == pytest.approx(exact_row[choice], abs=5e-3)
        assert row[1] + row[10] == pytest.approx(exact_row[1] + exact_row[10], abs=5e-3)


def test_a_text_that_forgets_documents_is_finished(engine: Engine) -> None:
    (reply,) = ask(engine, [request(4, form=False, prompt="groupwise")], Sampling(max_tokens=8))
    assert reply.forced
    assert read_reply(reply, 4).status is Status.FORCED


def test_reasoning_then_a_form(engine: Engine) -> None:
    (reply,) = ask(engine, [request(4, prompt="groupwise")], Sampling(reasoning_tokens=10))
    assert reply.error is None
    assert len(read_reply(reply, 4).scores) == 4
    assert reply.completion_tokens > 10


def test_model_and_length_are_asked_of_the_server(server: str, model: Path) -> None:
    settings = EngineSettings(tokenizer_name_or_path=str(model), engine_args={"base_url": server})
    engine = OpenAIEngine(settings)
    long = render("bread", ["crumb " * 3000] * 3, load_prompt("groupwise_scores"), form=True)
    try:
        replies = ask(engine, [request(2), long])
        described = engine.describe()
    finally:
        engine.close()
    assert [reply.error for reply in replies] == [None, None]
    assert [reply.cut_passages for reply in replies] == [0, 3]
    assert described["model"] == "tiny"
    assert described["structured_outputs"] == "regex"
    assert described["top_logprobs"] == 20
    json.dumps(described)


def test_an_unknown_model_is_said(server: str) -> None:
    settings = EngineSettings("another", engine_args={"base_url": server})
    engine = OpenAIEngine(settings)
    try:
        with pytest.raises(ModelError, match="tiny"):
            asyncio.run(engine.answer(request(1), Sampling()))
    finally:
        engine.close()


def test_reranking_end_to_end(server: str, model: Path) -> None:
    ranker = GroupwiseLlmRanker(
        "tiny",
        tokenizer_name_or_path=str(model),
        engine="openai",
        engine_args={"base_url": server},
        scoring="likelihood",
        group_size=5,
    )
    docs = [SearchResult(f"d{n}", 1.0 / (n + 1), PASSAGES[n]) for n in range(12)]
    with ranker:
        ranked = ranker.rerank("why does bread rise", docs)
    assert sorted(each.docid for each in ranked) == sorted(each.docid for each in docs)
    assert ranker.total_compare == 3
