import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.chat_server import (
    Body,
    ChatServer,
    Raw,
    drop,
    failure,
    form_text,
    form_tokens,
    said,
    sane,
)

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.concurrency import run_in_background
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.errors import EngineError, ModelError, SettingsError
from llmrankers_groupwise.prompting.parse_scores import read_reply
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.testing import json_reply, save_random_model
from llmrankers_groupwise.types import Reply, Request, Sampling, Status, Wanted

pytest.importorskip("openai", reason="the extra [openai] is not installed")
from llmrankers_groupwise.engines.openai.engine import OpenAIEngine

KEY = "sk-0123456789-secret"
PASSAGES = ["Yeast makes bread rise.", "The tide follows the moon.", "Salt slows yeast down."]
Start = Callable[..., ChatServer]
Make = Callable[..., OpenAIEngine]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def make() -> Iterator[Make]:
    engines = []

    def make(server: ChatServer | str, model: str | None = None, **args: Any) -> OpenAIEngine:
        url = server if isinstance(server, str) else server.url
        tokenizer = args.pop("tokenizer", None)
        settings = EngineSettings(
            model, tokenizer_name_or_path=tokenizer, engine_args={"base_url": url, **args}
        )
        engines.append(OpenAIEngine(settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def question(form: bool = False, passages: list[str] = PASSAGES, query: str = "bread") -> Request:
    name = "groupwise_scores" if form else "groupwise"
    return render(query, passages, load_prompt(name), form=form)


def ask(engine: OpenAIEngine, request: Request | None = None, **sampling: Any) -> Reply:
    return asyncio.run(engine.answer(request or question(), Sampling(**sampling)))


def scores(reply: Reply, n: int = 3) -> dict[int, float]:
    return {label: round(score, 6) for label, score in read_reply(reply, n).scores.items()}


# --- Writing ----------------------------------------------------------------------------------


def test_a_text_is_written_as_the_sampling_says(chat_server: Start, make: Make) -> None:
    server = chat_server([said(json_reply([1, 2, 3]), usage=(70, 30))])
    reply = ask(make(server), temperature=0.5, top_p=0.9, max_tokens=500, seed=7)
    assert scores(reply) == {1: 1, 2: 2, 3: 3}
    assert (reply.prompt_tokens, reply.completion_tokens) == (70, 30)
    assert (reply.finish_reason, reply.forced, reply.slot_probabilities) == ("stop", False, None)
    messages = server.bodies[0].pop("messages")
    assert [message["role"] for message in messages] == ["system", "user"]
    assert server.bodies == [
        {"model": "m", "temperature": 0.5, "top_p": 0.9, "seed": 7, "max_tokens": 500}
    ]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_what_is_given_besides_is_sent(chat_server: Start, make: Make) -> None:
    server = chat_server(sane)
    kwargs = {"enable_thinking": False}
    ask(make(server, extra_body={"top_k": 20}, chat_template_kwargs=kwargs))
    assert server.bodies[0]["top_k"] == 20
    assert server.bodies[0]["chat_template_kwargs"] == kwargs


def test_thinking_comes_in_front(chat_server: Start, make: Make) -> None:
    thought = 'Perhaps {"[1]": 9, "[2]": 9, "[3]": 9}.'
    for name in ("reasoning_content", "reasoning"):
        server = chat_server([said(json_reply([1, 2, 3]), **{name: thought})])
        reply = ask(make(server))
        assert reply.text.startswith(f"<think>\n{thought}\n</think>")
        assert scores(reply) == {1: 1, 2: 2, 3: 3}


def test_a_text_that_forgets_labels_is_followed_by_a_form(chat_server: Start, make: Make) -> None:
    filled = form_text([4, 5, 6])
    server = chat_server(
        [
            said('<reason>so so</reason><answer>{"[1]": 3}</answer>', usage=(100, 20)),
            said(filled, tokens=form_tokens(filled), usage=(150, 25)),
        ]
    )
    reply = ask(make(server))
    assert reply.forced
    assert read_reply(reply, 3).status is Status.FORCED
    assert scores(reply) == {1: 3.6, 2: 4.5, 3: 5.4}
    assert (reply.prompt_tokens, reply.completion_tokens) == (250, 45)
    *_, assistant, user = server.bodies[1]["messages"]
    assert assistant == {"role": "assistant", "content": "<reason>so so</reason>"}
    assert user["role"] == "user"
    assert '"[1]" to "[3]"' in user["content"]


def test_what_was_paid_for_is_kept_when_the_form_behind_it_fails(
    chat_server: Start, make: Make
) -> None:
    server = chat_server([said('<answer>{"[1]": 4, "[3]": 8}</answer>'), failure(400, "too long")])
    reply = ask(make(server))
    assert scores(reply) == {1: 4, 3: 8}
    assert not reply.forced
    assert len(server.bodies) == 2


def test_a_text_that_is_cut_off_goes_on_without_thinking_tags(
    chat_server: Start, make: Make
) -> None:
    server = chat_server(
        [
            said("", reasoning_content="It is long", finish_reason="length", usage=(100, 50)),
            said(f"<answer>{form_text([1, 2, 3])}</answer>", usage=(160, 20)),
        ]
    )
    reply = ask(make(server), reasoning_tokens=50, max_tokens=200)
    assert scores(reply) == {1: 1, 2: 2, 3: 3}
    assert [body["max_tokens"] for body in server.bodies] == [50, 150]
    assistant, user = server.bodies[1]["messages"][-2:]
    assert assistant["content"] == "<reason>\nIt is long\n</reason>"
    assert "answer now" in user["content"]


def test_a_reply_without_counts_is_estimated(chat_server: Start, make: Make) -> None:
    server = chat_server([said(json_reply([1, 2, 3]), usage=None)])
    engine = make(server)
    reply = ask(engine)
    assert reply.prompt_tokens == engine.prompt(question(), Sampling()).tokens
    assert reply.completion_tokens == engine.count_tokens(json_reply([1, 2, 3]))


# --- Filling forms ----------------------------------------------------------------------------


def test_a_form_is_filled_by_schema_with_probabilities(chat_server: Start, make: Make) -> None:
    filled = form_text([10, 1, 0])
    server = chat_server([said(filled, tokens=form_tokens(filled))])
    engine = make(server)
    reply = ask(engine, question(form=True), seed=1)
    assert reply.slot_probabilities is not None
    assert [len(row) for row in reply.slot_probabilities] == [11, 11, 11]
    assert all(sum(row) == pytest.approx(1) for row in reply.slot_probabilities)
    assert scores(reply) == {1: 9, 2: 0.9, 3: 0}
    body = server.bodies[0]
    assert (body["logprobs"], body["top_logprobs"], body["seed"]) == (True, 20, 1)
    assert body["response_format"]["json_schema"]["strict"] is True
    assert len(body["messages"]) == 2
    assert "JSON object" not in body["messages"][-1]["content"].splitlines()[0]
    described = engine.describe()
    assert (described["structured_outputs"], described["top_logprobs"]) == ("json_schema", 20)
    assert described["note"] == "forms by json_schema, with probabilities"


def test_a_form_of_words_has_their_probabilities(chat_server: Start, make: Make) -> None:
    shares = {"Yes": 0.5, "No": 0.2, "Y": 0.1, "Maybe": 0.2}
    tokens = [('{"[1]": "', {'{"[1]": "': 1.0}), ("Yes", shares), ('"}', {'"}': 1.0})]
    server = chat_server([said('{"[1]": "Yes"}', tokens=tokens)])
    request = render("bread", PASSAGES[:1], load_prompt("pointwise_yes_no"), form=True,
                     choices=("No", "Yes"))  # fmt: skip
    reply = ask(make(server), request)
    assert reply.slot_probabilities == (pytest.approx((0.25, 0.75)),)
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"[1]": {"type": "string", "enum": ["No", "Yes"]}}


@pytest.mark.parametrize("wants", ["order", "choice"])
def test_orders_and_choices_are_texts_whose_reasoning_is_closed(
    chat_server: Start, make: Make, wants: Wanted
) -> None:
    server = chat_server([said("<think>first", finish_reason="length", usage=(9, 5)),
                          said("[2] > [1] > [3]", usage=(20, 7))])  # fmt: skip
    request = render("bread", PASSAGES, load_prompt("listwise"), wants=wants)
    reply = ask(make(server), request, reasoning_tokens=5, max_tokens=50)
    assert reply.text == "<think>first\n</think>\n\n[2] > [1] > [3]"
    assert (reply.slot_probabilities, reply.forced, reply.finish_reason) == (None, False, "stop")
    assert [body["max_tokens"] for body in server.bodies] == [5, 45]
    assert all("response_format" not in body for body in server.bodies)
    assert "answer now" in server.bodies[1]["messages"][-1]["content"]


def test_a_form_is_filled_as_is_likeliest(chat_server: Start, make: Make) -> None:
    server = chat_server([said("<answer>?"), said(form_text([1, 2, 3]))])
    ask(make(server), temperature=0.8, top_p=0.5)
    drawn = [(body["temperature"], body["top_p"]) for body in server.bodies]
    assert drawn == [(0.8, 0.5), (0, 1)]


VLLM = [{"id": "m", "owned_by": "vllm"}]


def filled_by_vllm(body: Body) -> Any:
    form = "structured_outputs" in body
    return said(form_text([1, 2, 3])) if form else said("<reason>so</reason>")


def test_vllm_is_told_not_to_think_before_a_form(chat_server: Start, make: Make) -> None:
    server = chat_server(filled_by_vllm, VLLM)
    ask(make(server), question(form=True))
    ask(make(server, chat_template_kwargs={"a": 1}), question(form=True))
    ask(make(server, extra_body={"chat_template_kwargs": {"b": 1}}), question(form=True))
    assert [body["chat_template_kwargs"] for body in server.bodies] == [
        {"enable_thinking": False},
        {"enable_thinking": False, "a": 1},
        {"enable_thinking": False, "b": 1},
    ]


def test_thinking_is_left_to_the_user_and_to_texts(chat_server: Start, make: Make) -> None:
    server = chat_server(filled_by_vllm, VLLM)
    kwargs = {"enable_thinking": True}
    ask(make(server, chat_template_kwargs=kwargs), question(form=True))
    assert server.bodies.pop()["chat_template_kwargs"] == kwargs
    ask(make(server), question(form=True), reasoning_tokens=50)
    ask(make(server))  # finished by the fallback
    ask(make(chat_server(sane)), question(form=True))
    assert len(server.bodies) == 4
    assert not any("chat_template_kwargs" in body for body in server.bodies)


def test_a_server_that_refuses_to_be_told_of_thinking_is_not(
    chat_server: Start, make: Make
) -> None:
    def answer(body: Body) -> Any:
        if "chat_template_kwargs" in body:
            return failure(400, "chat_template_kwargs are not supported for this tokenizer")
        return filled_by_vllm(body)

    server = chat_server(answer, VLLM)
    engine = make(server)
    for _ in range(2):
        assert scores(ask(engine, question(form=True))) == {1: 1, 2: 2, 3: 3}
    assert len(server.bodies) == 3


def test_a_form_where_the_prompt_asks_for_more_comes_with_a_question(
    chat_server: Start, make: Make
) -> None:
    server = chat_server(sane)
    request = render("q", PASSAGES, load_prompt("groupwise"), form=True)
    assert ask(make(server), request).text.startswith('<answer>{"[1]"')
    assert server.bodies[0]["messages"][-1]["content"].endswith("as values.")
    assert len(server.bodies[0]["messages"]) == 2


def test_reasoning_before_a_form_stops_at_the_answer(chat_server: Start, make: Make) -> None:
    filled = form_text([1, 2, 3])
    server = chat_server(
        [
            said("<reason>hm</reason>\n", choice={"stop_reason": "<answer>"}),
            said(filled, tokens=form_tokens(filled)),
        ]
    )
    request = render("q", PASSAGES, load_prompt("groupwise"), form=True)
    reply = ask(make(server), request, reasoning_tokens=300)
    assert server.bodies[0]["stop"] == ["<answer>"]
    assert server.bodies[0]["max_tokens"] == 300
    assert reply.text == f"<reason>hm</reason>\n<answer>{filled}"
    assert not reply.forced


def by_regex(body: Body) -> Any:
    """vLLM of long ago, say: structured outputs by regular expression alone."""
    if "response_format" in body:
        return failure(400, "response_format of type json_schema is not supported")
    if "structured_outputs" in body:
        text = form_text([1, 2, 3])
        return said(text, tokens=form_tokens(text))
    return said("no form")


def plain(body: Body) -> Any:
    """A server that refuses structured outputs of any kind, and logprobs."""
    for name in ("response_format", "structured_outputs", "logprobs"):
        if name in body:
            return failure(422, f"Extra inputs are not permitted: {name}", param=name)
    return said(f"Here you are: {form_text([1, 2, 3])}")


def careless(body: Body) -> Any:
    """A server that ignores what it does not know."""
    return said(f"Here you are: {form_text([1, 2, 3])}")


@pytest.mark.parametrize(
    ("answer", "way", "logprobs", "asked"),
    [(by_regex, "regex", 20, 2), (plain, "none", 0, 4), (careless, "none", 0, 3)],
)
def test_what_a_server_takes_is_found_out_once(
    chat_server: Start, make: Make, answer: Any, way: str, logprobs: int, asked: int
) -> None:
    server = chat_server(answer)
    engine = make(server)
    for _ in range(3):
        assert set(scores(ask(engine, question(form=True)))) == {1, 2, 3}
    assert len(server.bodies) == asked + 2
    described = engine.describe()
    assert (described["structured_outputs"], described["top_logprobs"]) == (way, logprobs)


def test_it_is_found_out_once_by_fifty_at_a_time(
    chat_server: Start, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llmrankers_groupwise")
    server = chat_server(by_regex)
    engine = make(server)

    async def fifty() -> list[Reply]:
        answers = (engine.answer(question(form=True), Sampling()) for _ in range(50))
        return await asyncio.gather(*answers)

    assert all(reply.slot_probabilities for reply in asyncio.run(fifty()))
    assert sum("response_format" in body for body in server.bodies) == 1
    assert len(server.bodies) == 51
    assert len([record for record in caplog.records if "fills forms" in record.message]) == 1


def test_a_form_ignored_later_on_changes_the_way(chat_server: Start, make: Make) -> None:
    good = form_text([1, 2, 3])
    server = chat_server(
        [said(good, tokens=form_tokens(good)), said("Sorry?"), said("again?"), said(good)]
    )
    engine = make(server)
    ask(engine, question(form=True))
    assert scores(ask(engine, question(form=True))) == {1: 1, 2: 2, 3: 3}
    assert engine.describe()["structured_outputs"] == "none"


@pytest.mark.parametrize("picky", [False, True])
def test_what_one_learns_while_others_are_on_their_way_stays(
    chat_server: Start, make: Make, picky: bool
) -> None:
    """And so does what the others learn."""
    under_way, release = threading.Semaphore(0), threading.Event()

    def answer(body: Body) -> Any:
        if "response_format" in body or "structured_outputs" in body:
            return by_regex(body)
        if len(server.bodies) > 1:
            under_way.release()
            release.wait(30)
            if picky and "seed" in body:
                return failure(400, "seed is not supported")
        return said(json_reply([1, 2, 3]))

    server = chat_server(answer)
    engine = make(server)
    ask(engine)

    async def both() -> None:
        sampling = Sampling(seed=1)
        writes = [asyncio.create_task(engine.answer(question(), sampling)) for _ in range(20)]
        for _ in writes:
            await asyncio.to_thread(under_way.acquire)
        await engine.answer(question(form=True), Sampling())
        release.set()
        await asyncio.gather(*writes)

    asyncio.run(both())
    described = engine.describe()
    assert described["structured_outputs"] == "regex"
    assert described["left_out"] == (["seed"] if picky else [])
    asked = len(server.bodies)
    ask(engine, question(form=True))
    assert len(server.bodies) == asked + 1


@pytest.mark.parametrize("way", ["json_schema", "regex", "none"])
def test_a_way_that_is_given_is_kept(chat_server: Start, make: Make, way: str) -> None:
    server = chat_server(careless)
    engine = make(server, structured_outputs=way, logprobs=False)
    ask(engine, question(form=True))
    (body,) = server.bodies
    assert ("response_format" in body) == (way == "json_schema")
    assert ("structured_outputs" in body) == (way == "regex")
    assert "logprobs" not in body


def test_logprobs_that_must_be_are_not_left_out(chat_server: Start, make: Make) -> None:
    server = chat_server(lambda _: failure(400, "logprobs are not supported"))
    with pytest.raises(EngineError, match="logprobs are not supported"):
        ask(make(server, logprobs=True), question(form=True))


def test_a_model_that_thinks_before_a_form_gets_room(chat_server: Start, make: Make) -> None:
    filled = form_text([1, 2, 3])
    cut = said(None, reasoning_content="Let me", finish_reason="length", usage=(10, 64))
    done = said(filled, reasoning_content="Let me see", tokens=form_tokens(filled))
    server = chat_server([cut, done, done])
    engine = make(server)
    reply = ask(engine, question(form=True), max_tokens=1000)
    assert reply.slot_probabilities is not None
    assert reply.completion_tokens == 74
    ask(engine, question(form=True), max_tokens=1000)
    assert [body["max_tokens"] for body in server.bodies] == [64, 1064, 1064]


def test_parameters_that_are_refused_are_left_out(chat_server: Start, make: Make) -> None:
    def reasoning_model(body: Body) -> Any:
        """As OpenAI's reasoning models."""
        if "max_tokens" in body:
            return failure(
                400,
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
                param="max_tokens",
            )
        for name in ("temperature", "top_p"):
            if name in body:
                return failure(400, f"Unsupported value: '{name}' does not support 0.5", param=name)
        return said(json_reply([1, 2, 3]))

    server = chat_server(reasoning_model)
    engine = make(server)
    for _ in range(2):
        assert scores(ask(engine, temperature=0.5)) == {1: 1, 2: 2, 3: 3}
    assert len(server.bodies) == 5
    assert server.bodies[-1]["max_completion_tokens"] == 8000
    assert engine.describe()["left_out"] == ["temperature", "top_p"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "You are not allowed to request logprobs from this model"),
        (404, "No endpoints found that can handle the requested parameters."),
        (404, "No endpoints found that support the requested parameters"),
    ],
)
def test_what_is_denied_for_a_parameter_is_asked_without(
    chat_server: Start, make: Make, status: int, message: str
) -> None:
    def answer(body: Body) -> Any:
        return failure(status, message) if "logprobs" in body else said(form_text([1, 2, 3]))

    server = chat_server(answer)
    engine = make(server)
    for _ in range(2):
        assert scores(ask(engine, question(form=True))) == {1: 1, 2: 2, 3: 3}
    assert len(server.bodies) == 3
    assert engine.describe()["structured_outputs"] == "json_schema"
    with pytest.raises(ModelError, match=str(status)):
        ask(make(chat_server(lambda _: failure(status, message))), question(form=True))
    with pytest.raises(ModelError, match=str(status)):
        ask(make(chat_server(lambda _: failure(status, message))))


def test_a_refusal_that_nothing_helps_changes_nothing(chat_server: Start, make: Make) -> None:
    def answer(body: Body) -> Any:
        short = len(body["messages"][-1]["content"]) < 5000
        return sane(body) if short else failure(400, "json_schema? the text is bad")

    engine = make(chat_server(answer))
    with pytest.raises(EngineError, match="the text is bad"):
        ask(engine, question(form=True, passages=["x" * 6000]))
    assert ask(engine, question(form=True)).slot_probabilities is not None
    assert engine.describe()["structured_outputs"] == "json_schema"


# --- Failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (failure(401, "Incorrect API key"), "401.*Incorrect API key.*OPENAI_API_KEY"),
        (failure(403, "forbidden"), "403.*forbidden"),
        (failure(404, "no such model"), "404.*no such model.*model_name_or_path"),
        (failure(402, "pay first"), "pay first.*nothing left"),
        (failure(429, "quota", code="insufficient_quota"), "quota.*nothing left"),
    ],
)
def test_what_no_request_survives_is_an_error_of_the_model(
    chat_server: Start, make: Make, answer: Raw, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        ask(make(chat_server(lambda _: answer), max_retries=1))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_asked_again(chat_server: Start, make: Make, status: int) -> None:
    server = chat_server([failure(status), failure(status), said(json_reply([1, 2, 3]))])
    assert scores(ask(make(server))) == {1: 1, 2: 2, 3: 3}
    assert len(server.bodies) == 3


def test_a_server_that_asks_for_no_pause_is_asked_again(chat_server: Start, make: Make) -> None:
    busy = failure(429, headers={"Retry-After": "0", "retry-after-ms": "0"})
    assert ask(make(chat_server([busy, said(json_reply([1, 2, 3]))]))).text


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_does_not_pass_fails_the_request(chat_server: Start, make: Make, status: int) -> None:
    server = chat_server(lambda _: failure(status, "still busy"))
    with pytest.raises(EngineError, match=f"{status}.*still busy") as raised:
        ask(make(server, max_retries=2))
    assert raised.value.retryable
    assert len(server.bodies) == 3


def test_a_dropped_connection_is_asked_again_and_then_fails(chat_server: Start, make: Make) -> None:
    server = chat_server([drop(), said(json_reply([1, 2, 3])), drop()])
    engine = make(server, max_retries=1)
    assert ask(engine).text
    engine = make(server, max_retries=0)
    with pytest.raises(EngineError, match=r"connection.*failed") as raised:
        ask(engine)
    assert raised.value.retryable


@pytest.mark.parametrize(
    "answer",
    [
        Raw(b'{"choices": [{"message": {"con'),
        Raw(b"<html>hello</html>", headers={"content-type": "text/html"}),
        Raw(b""),
        Raw(b"[" * 100_000),
        Raw(b"\xff\xfe"),
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": ["?"]},
        {"object": "else"},
        {"error": {"message": "overloaded"}},
        said("", refusal="I will not"),
        said("half", finish_reason="content_filter"),
    ],
)
def test_what_is_no_answer_fails_the_request(chat_server: Start, make: Make, answer: Any) -> None:
    with pytest.raises(EngineError):
        ask(make(chat_server([answer]), max_retries=0))


def test_a_request_that_is_too_long_fails_alone(chat_server: Start, make: Make) -> None:
    message = "This model's maximum context length is 4096 tokens; reduce max_tokens"
    server = chat_server([failure(400, message), said(json_reply([1, 2, 3]))])
    engine = make(server)
    with pytest.raises(EngineError, match="maximum context length") as raised:
        ask(engine)
    assert not raised.value.retryable
    assert ask(engine).text


def test_a_server_that_is_too_slow_fails_the_request(chat_server: Start, make: Make) -> None:
    done = threading.Event()

    def wait(_: Body) -> Any:
        done.wait(30)
        return said("late")

    engine = make(chat_server(wait), timeout=1, max_retries=0)
    with pytest.raises(EngineError, match="within 1 seconds") as raised:
        ask(engine)
    done.set()
    assert raised.value.retryable


def test_a_server_that_is_not_there_is_an_error_of_the_model(make: Make) -> None:
    with pytest.raises(ModelError, match=r"cannot reach http://127.0.0.1:1/v1.*base_url"):
        ask(make("http://127.0.0.1:1/v1", max_retries=0))


def test_a_server_that_goes_away_fails_requests(make: Make) -> None:
    server = ChatServer(sane, ["m"])
    engine = make(server, max_retries=0)
    assert ask(engine).text
    server.close()
    server.answer = lambda _: drop()  # of connections that are still open
    with pytest.raises(EngineError) as raised:
        ask(engine)
    assert raised.value.retryable


# --- Models -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_a_model_is_taken_by_its_name(chat_server: Start, make: Make, name: str) -> None:
    server = chat_server(sane, ["a", "b:latest", "models/c", "d"])
    ask(make(server, name))
    assert server.bodies[0]["model"] == name


def test_which_model_must_be_clear(chat_server: Start, make: Make) -> None:
    server = chat_server(sane, ["first", "second"])
    with pytest.raises(ModelError, match="2 models, first, second"):
        ask(make(server))


def test_a_model_that_is_not_listed_is_asked_for_with_a_warning(
    chat_server: Start, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A deployment, say, or an adapter that the server loads when asked."""
    engine = make(chat_server(sane, ["second", "first"]), "frist")
    for _ in range(2):
        assert ask(engine).text
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "does not list the model frist but first, second" in record.getMessage()
    unknown = failure(404, "The model `frist` does not exist.")
    server = chat_server(lambda _: unknown, ["second", "first"])
    with pytest.raises(ModelError, match=r"frist.*it serves first, second"):
        ask(make(server, "frist"))
    assert len(server.bodies) == 1


@pytest.mark.parametrize("kind", ["silent", "broken"])
def test_a_list_of_models_that_fails_is_done_without(
    chat_server: Start, make: Make, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    done = threading.Event()

    def models() -> Any:
        if kind == "silent":
            done.wait(30)
        return failure(503, "still loading")

    server = chat_server(sane, models)
    engine = make(server, "mine", timeout=1)

    async def several() -> list[Reply]:
        return await asyncio.gather(*(engine.answer(question(), Sampling()) for _ in range(9)))

    assert all(reply.text for reply in asyncio.run(several()))
    assert server.lists_asked == 2
    warned = [each for each in caplog.records if "without a list" in each.getMessage()]
    assert len(warned) == 1
    nameless = make(server, timeout=1, max_retries=0)
    for _ in range(2):
        with pytest.raises(ModelError, match="give model_name_or_path"):
            ask(nameless)
    assert server.lists_asked == 3
    done.set()


def test_a_list_of_models_is_not_waited_for_as_long_as_an_answer(
    chat_server: Start, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()

    def models() -> Any:
        done.wait(30)
        return failure(503)

    monkeypatch.setattr("llmrankers_groupwise.engines.openai.client._LIST_SECONDS", 0.2)
    assert ask(make(chat_server(sane, models), "mine", timeout=3000)).text
    done.set()


@pytest.mark.parametrize("listed", [None, [], failure(403), Raw(b"<html>")])
def test_a_server_without_a_list_of_models_is_asked_for_the_one_given(
    chat_server: Start, make: Make, listed: Any
) -> None:
    server = chat_server(sane, listed)
    assert ask(make(server, "mine")).text
    with pytest.raises(ModelError, match="give model_name_or_path"):
        ask(make(server))


def test_the_server_says_how_long_a_text_it_takes(chat_server: Start, make: Make) -> None:
    models = [{"id": "base", "max_model_len": 2000}, {"id": "adapter", "parent": "base"}]
    server = chat_server(sane, models)
    for name in ("base", "adapter"):
        engine = make(server, name)
        reply = ask(engine, question(passages=["long " * 500] * 3))
        assert reply.cut_passages == 3
        assert engine.describe()["max_model_len"] == 2000
        body = server.bodies[-1]
        assert len(json.dumps(body["messages"])) / 4 + body["max_tokens"] < 2000
    assert make(server, "base", max_model_len=1500).describe()["max_model_len"] == 1500
    assert ask(make(server, "base", max_model_len=1500)).cut_passages == 0


def test_a_prompt_that_cannot_be_cut_to_length_fails(chat_server: Start, make: Make) -> None:
    with pytest.raises(EngineError, match="does not fit"):
        ask(make(chat_server(sane), max_model_len=300))


def test_a_tokenizer_counts_and_cuts(
    chat_server: Start, make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("model")
    save_random_model(folder, hidden_size=32, layers=1)
    server = chat_server(sane)
    engine = make(server, tokenizer=str(folder), max_model_len=4000)
    assert engine.count_tokens("four") == 4
    assert engine.truncate("four", 2) == "fo"
    prompt = engine.prompt(question(passages=["long " * 500] * 3), Sampling(max_tokens=500))
    assert prompt.cut_passages == 3
    assert prompt.tokens == len(prompt.token_ids) <= 3500
    assert ask(engine, max_tokens=100).text
    assert ask(engine, question(form=True)).slot_probabilities
    assert engine.describe()["tokens"] == "counted"


def test_thinking_that_a_template_opens_is_the_servers(
    chat_server: Start, make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("model")
    thinks = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}<think>\n"
    save_random_model(folder, hidden_size=32, layers=1, chat_template=thinks)
    answers = [said("<reason>so so</reason>"), said(form_text([1, 2, 3]))]
    server = chat_server(answers)
    engine = make(server, tokenizer=str(folder))
    assert engine.prompt(question(), Sampling()).thinking
    assert ask(engine).text.startswith("<reason>so so</reason>\n<answer>")
    assert server.bodies[1]["messages"][-2]["content"] == "<reason>so so</reason>"


# --- Loops, concurrency, closing --------------------------------------------------------------


def test_no_more_are_asked_at_once_than_allowed(chat_server: Start, make: Make) -> None:
    full, release = threading.Semaphore(0), threading.Event()

    def wait(body: Body) -> Any:
        if len(server.bodies) > 1:  # the first goes alone
            full.release()
            release.wait(30)
        return sane(body)

    server = chat_server(wait)
    engine = make(server, concurrency=5)

    async def forty() -> None:
        tasks = [asyncio.create_task(engine.answer(question(), Sampling())) for _ in range(40)]
        for _ in range(5):
            await asyncio.to_thread(full.acquire)
        assert server.most_at_once == 5
        release.set()
        await asyncio.gather(*tasks)

    asyncio.run(forty())
    assert len(server.bodies) == 40
    assert server.most_at_once == 5


def test_it_is_called_from_many_loops_and_from_its_own(chat_server: Start, make: Make) -> None:
    engine = make(chat_server(sane))
    texts = [ask(engine).text, run_in_background(engine.answer(question(), Sampling())).text]
    threads = [threading.Thread(target=lambda: texts.append(ask(engine).text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 10
    assert len(set(texts)) == 1


def waiting(chat_server: Start) -> tuple[ChatServer, threading.Event, threading.Event]:
    """A server that answers when it is told to, and says when it has been asked."""
    asked, release = threading.Event(), threading.Event()

    def wait(body: Body) -> Any:
        asked.set()
        release.wait(30)
        return sane(body)

    return chat_server(wait), asked, release


def test_cancelling_ends_one_request_and_the_next_finds_out(chat_server: Start, make: Make) -> None:
    server, asked, release = waiting(chat_server)
    engine = make(server)

    async def cancel() -> Reply:
        first = asyncio.create_task(engine.answer(question(form=True), Sampling()))
        await asyncio.to_thread(asked.wait)
        second = asyncio.create_task(engine.answer(question(form=True), Sampling()))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        release.set()
        return await second

    assert asyncio.run(cancel()).slot_probabilities is not None


def test_closing_fails_what_is_open(chat_server: Start, make: Make) -> None:
    server, asked, release = waiting(chat_server)
    engine = make(server)

    async def close() -> None:
        task = asyncio.create_task(engine.answer(question(), Sampling()))
        await asyncio.to_thread(asked.wait)
        await asyncio.to_thread(engine.close)
        engine.close()
        with pytest.raises(EngineError, match="closed"):
            await task

    asyncio.run(close())
    release.set()
    with pytest.raises(ModelError, match="closed"):
        ask(engine)


def test_it_can_be_closed_on_its_own_loop(chat_server: Start, make: Make) -> None:
    engine = make(chat_server(sane))

    async def answer_and_close() -> None:
        await engine.answer(question(), Sampling())
        engine.close()

    run_in_background(answer_and_close())
    with pytest.raises(ModelError, match="closed"):
        ask(engine)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_of_a_process_that_used_it_is_refused(chat_server: Start, make: Make) -> None:
    engine = make(chat_server(sane))
    assert ask(engine).text
    child = os.fork()
    if child == 0:
        try:
            ask(engine)
        except ModelError as error:
            os._exit(0 if "fork" in str(error) else 2)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask(engine).text


def test_a_whole_ranking(chat_server: Start) -> None:
    from llmrankers.rankers import SearchResult

    server = chat_server(sane, ["some-model"])
    documents = [SearchResult(f"d{n}", 50.0 - n, f"passage number {n}") for n in range(50)]
    for scoring in ("generation", "likelihood"):
        with GroupwiseLlmRanker(
            "some-model", engine="openai", engine_args={"base_url": server.url}, scoring=scoring
        ) as ranker:
            ranked = ranker.rerank("a query", documents)
            assert sorted(each.docid for each in ranked) == sorted(d.docid for d in documents)
            assert [each.docid for each in ranked] != [d.docid for d in documents]
            assert ranker.total_compare == 3
            assert ranker.total_completion_tokens == 150
            json.dumps(ranker.describe())


# --- Settings and secrets ---------------------------------------------------------------------


def engine_of(**args: Any) -> OpenAIEngine:
    return OpenAIEngine(EngineSettings("m", engine_args=args))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"api_key": KEY}, "OPENAI_API_KEY"),
        ({"api_key_env": KEY}, "give its name"),
        ({"api_key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "base_url"),
        ({"base_url": "host:8000"}, "base_url"),
        ({"base_url": "http://host:port/v1"}, "base_url"),
        ({"base_url": 8000}, "base_url"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_model_len": "4k"}, "max_model_len"),
        ({"structured_outputs": "yes"}, "auto, json_schema, regex, none"),
        ({"logprobs": "yes"}, "logprobs"),
        ({"extra_body": "top_k"}, "extra_body"),
        ({"chat_template": "x"}, "tokenizer_name_or_path"),
        ({"dtype": "auto"}, "'dtype', unknown to engine openai"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(
    args: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        engine_of(**args)
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("name", ["lora_name_or_path", "device", "cache_dir"])
def test_settings_of_local_models_are_refused_by_name(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        OpenAIEngine(EngineSettings("m", **{name: "x"}))  # type: ignore[arg-type]


def test_a_key_is_needed_unless_there_is_a_server_of_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(SettingsError, match="OPENAI_API_KEY"):
        engine_of()
    assert engine_of(base_url="http://127.0.0.1:1/v1").describe()["model"] == "m"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:2/v1/")
    assert engine_of().describe()["base_url"] == "http://127.0.0.1:2/v1"
    monkeypatch.setenv("OTHER_KEY", "two words")
    with pytest.raises(SettingsError, match="OTHER_KEY") as raised:
        engine_of(api_key_env="OTHER_KEY")
    assert "two words" not in str(raised.value)


def test_the_default_is_the_hosted_service() -> None:
    assert engine_of().describe()["base_url"] == "https://api.openai.com/v1"


def test_secrets_show_nowhere(
    chat_server: Start, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2", "llmrankers_groupwise"):
        caplog.set_level(logging.DEBUG, name)
    server = chat_server([failure(401, f"Incorrect API key: {KEY}, pass%word"), sane(SANE_BODY)])
    url = server.url.replace("//", "//user:pass%25word@")
    engine = make(url, extra_body={"provider": {"api_key": "another one"}})
    with pytest.raises(ModelError) as raised:
        ask(engine)
    assert "Incorrect API key: ***" in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    ask(engine, question(passages=["?"]))
    assert server.headers[0]["authorization"] == "Basic dXNlcjpwYXNzJXdvcmQ="
    shown = json.dumps(engine.describe()) + repr(raised.value) + caplog.text
    shown += "".join(repr(vars(record)) for record in caplog.records)
    assert "HTTP Request" in caplog.text
    for secret in (KEY, "pass%word", "pass%25word", "dXNlcjpwYXNzJXdvcmQ="):
        assert secret not in shown
    assert "another one" not in json.dumps(engine.describe())


SANE_BODY = {"messages": [{"role": "user", "content": "[1] ?"}]}


def test_its_absence_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"llmrankers-groupwise\[openai\]"):
        engine_of()
