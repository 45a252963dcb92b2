import json
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import form_text, form_tokens, said

from llmrankers_groupwise.engines.base import shown_args
from llmrankers_groupwise.engines.llm.dialogue import Fill, Write
from llmrankers_groupwise.engines.openai.wire_format import (
    Capabilities,
    Completion,
    after_reply,
    answer_rows,
    chat_body,
    conversation,
    drop_parameter,
    fits,
    merged,
    read_completion,
    written_text,
)
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.types import Request, Sampling, ScoreForm

FORM = ScoreForm(("[1]", "[2]", "[3]"))


def question(prompt: str = "groupwise") -> Request:
    return render("q", ["one", "two \ud83d", "three"], load_prompt(prompt))


def test_a_question_is_sent_as_it_is_but_well_formed() -> None:
    messages = conversation(question(), Write("", 10))
    assert [message["role"] for message in messages] == ["system", "user"]
    "".join(message["content"] for message in messages).encode()


@pytest.mark.parametrize(
    ("text", "said_before", "asked"),
    [
        ("<think>\na\n</think>\n\n", "<reason>\na\n</reason>", "answer now"),
        ("<reason>a\n</reason>\n", "<reason>a\n</reason>", "answer now"),
        ("<think>a", "<reason>a", "Go on"),
    ],
)
def test_a_text_goes_on_by_a_question(text: str, said_before: str, asked: str) -> None:
    *_, assistant, user = conversation(question(), Write(text, 10))
    assert assistant == {"role": "assistant", "content": said_before}
    assert asked in user["content"]


def test_a_form_behind_a_text_is_asked_for_by_its_labels() -> None:
    *_, assistant, user = conversation(question(), Fill("<reason>a</reason>\n<answer>", FORM))
    assert assistant["content"] == "<reason>a</reason>"
    assert 'each of the 3 labels, "[1]" to "[3]",' in user["content"]
    one = conversation(question(), Fill("a", ScoreForm(("[1]",))))
    assert 'the 1 labels, "[1]",' in one[-1]["content"]


def test_a_form_of_words_is_asked_for_by_its_words() -> None:
    words = ScoreForm(("[1]",), ("No", "Yes"))
    *_, user = conversation(question(), Fill("<reason>a</reason>", words))
    assert user["content"] == (
        "Give the answers now: reply with one JSON object and nothing else, with one entry for "
        'each of the 1 labels, "[1]", and "No" or "Yes" as values.'
    )


@pytest.mark.parametrize(
    ("text", "fitting"),
    [('{"[1]": "Yes"}', True), (' {"[1]":"No"}\n', True), ('{"[1]": "yes"}', False),
     ('{"[1]": 1}', False), ('{"[1]": true}', False), ("Yes", False), ('{"[2]": "Yes"}', False)],
)  # fmt: skip
def test_only_the_form_of_words_fits_it(text: str, fitting: bool) -> None:
    assert fits(Completion(text), ScoreForm(("[1]",), ("No", "Yes"))) == fitting


def test_a_form_at_once_is_asked_for_only_if_the_prompt_does_not() -> None:
    assert len(conversation(question(), Fill("<answer>", FORM))) == 2
    assert "labels" in conversation(question(), Fill("<answer>", FORM))[-1]["content"][-200:]
    bare = question("groupwise_scores")
    assert conversation(bare, Fill("", FORM))[-1] == conversation(bare, Write("", 1))[-1]


def test_only_what_means_something_is_sent() -> None:
    body = chat_body(question(), Write("", 10), Sampling(), Capabilities())
    assert sorted(body) == ["max_tokens", "messages", "temperature"]
    body = chat_body(
        question(),
        Write("", 10, ("<answer>",)),
        Sampling(temperature=1.0, seed=3),
        Capabilities(length="max_completion_tokens", left_out=frozenset({"temperature", "stop"})),
    )
    assert sorted(body) == ["max_completion_tokens", "messages", "seed", "top_p"]


@pytest.mark.parametrize(
    ("accepted", "room", "longest"),
    [
        (Capabilities(), None, 64),
        (Capabilities(), 10, 64),
        (Capabilities(ways=("none",)), None, 164),
        (Capabilities(ways=("none",)), 120, 120),
        (Capabilities(ways=("none",)), -5, 64),
        (Capabilities(thinks=True), None, 164),
    ],
)
def test_a_form_has_room_for_itself_or_for_thinking(
    accepted: Capabilities, room: int | None, longest: int
) -> None:
    body = chat_body(question(), Fill("", FORM), Sampling(max_tokens=100), accepted, room)
    assert body["max_tokens"] == longest


def written(stop: tuple[str, ...] = (), so_far: str = "", **answer: Any) -> str:
    completion = read_completion(said(answer.pop("text"), **answer))
    return written_text(completion, Write(so_far, 10, stop))


def test_a_stop_string_is_put_back() -> None:
    answer, think = ("<answer>",), ("</think>",)
    by = {"stop_reason": "<answer>"}
    assert written(answer, text="a", choice=by) == "a<answer>"
    assert written(answer, text="a", choice={"matched_stop": "<answer>"}) == "a<answer>"
    assert written(answer, text="a", choice={"stop_reason": None}) == "a"
    assert written(answer, text="a", choice={"matched_stop": 151645}) == "a"
    assert written(answer, text="a", choice=by, finish_reason="length") == "a"
    assert written((), text="a", choice=by) == "a"
    assert written(answer, text="a") == "a"
    assert written(think, text="<think>a") == "<think>a</think>"
    assert written(think, text="a", so_far="<think>") == "a</think>"
    assert written(think, text="a") == "a"
    assert written(think, text="<think>a", choice={"stop_reason": None}) == "<think>a"


def test_thinking_is_closed_only_if_it_ended() -> None:
    assert written(text="b", reasoning="a") == "<think>\na\n</think>\n\nb"
    assert written(text=None, reasoning="a") == "<think>\na\n</think>\n\n"
    assert written(text="", reasoning="a", finish_reason="length") == "<think>\na"
    by = {"stop_reason": "</think>"}
    assert written(("</think>",), text="", reasoning="a", choice=by) == "<think>\na</think>"


def test_a_text_in_parts_is_joined() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}, "?", {"text": 3}]
    assert written(text=parts) == "a"


@pytest.mark.parametrize("usage", [None, 5, {}, {"prompt_tokens": "7", "completion_tokens": -1}])
def test_counts_that_are_none_are_not_known(usage: Any) -> None:
    completion = read_completion({**said("a"), "usage": usage})
    assert (completion.prompt_tokens, completion.completion_tokens) == (None, None)


def test_rows_are_read_behind_thinking_that_quotes_the_form() -> None:
    tokens = form_tokens('Maybe {"[1]": 9, "[2]": 9, "[3]": 9}. ') + form_tokens(
        form_text([0, 5, 10])
    )
    rows = answer_rows(read_completion(said("", tokens=tokens)), FORM)
    assert rows is not None
    assert rows[0][0] == 1
    assert rows[1][5] == pytest.approx(0.9)
    assert rows[2][10] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": None},
        {"content": []},
        {"content": [{"token": "{"}]},
        {"content": ["{"]},
        {"content": [{"token": "{", "logprob": None}]},
        {"content": [{"token": "{", "logprob": 0.0, "top_logprobs": [{}]}]},
        {"content": [{"token": "{", "logprob": float("nan")}]},
    ],
)
def test_logprobs_that_cannot_be_read_give_no_rows(logprobs: Any) -> None:
    completion = read_completion(said("{", choice={"logprobs": logprobs}))
    assert answer_rows(completion, FORM) is None


@pytest.mark.parametrize(
    ("text", "fitting"),
    [
        (form_text([1, 2, 10]), True),
        ('\n{\n  "[2]": 2,\n "[1]": 0, "[3]": 1 }', True),
        (form_text([1, 2, 11]), False),
        (form_text([1, 2]), False),
        ('{"[1]": "1", "[2]": 2, "[3]": 3}', False),
        ('{"[1]": 1.0, "[2]": 2, "[3]": 3}', False),
        ('{"[1]": true, "[2]": 2, "[3]": 3}', False),
        (f"```json\n{form_text([1, 2, 3])}\n```", False),
        ("[" * 100_000, False),
        ("[1, 2, 3]", False),
        ("", False),
    ],
)
def test_only_the_form_fits_the_form(text: str, fitting: bool) -> None:
    assert fits(Completion(text), FORM) == fitting


def test_a_form_that_is_cut_off_proves_nothing() -> None:
    step, schema = Fill("", FORM), Capabilities()
    assert after_reply(schema, step, Completion('{"[1]"', finish_reason="length")) is None
    other = after_reply(schema, step, Completion("Well,", finish_reason="length"))
    assert other is not None
    assert other.way == "regex"


def test_a_model_that_thinks_gets_room_once() -> None:
    step, empty = Fill("", FORM), Completion("", finish_reason="length")
    assert after_reply(Capabilities(), step, empty) == Capabilities(thinks=True)
    assert after_reply(Capabilities(thinks=True), step, empty) is None
    assert after_reply(Capabilities(ways=("none",)), step, empty) is None


# What servers say, as seen in their code and in reports.
SENT = dict.fromkeys(
    ["response_format", "logprobs", "top_logprobs", "max_tokens", "temperature", "top_p", "seed"]
)


@pytest.mark.parametrize(
    ("text", "parameter", "less"),
    [
        ("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
         "model.", None, {"ways": ("regex", "none")}),
        ("Something about the request", "response_format", {"ways": ("regex", "none")}),
        ("Failed to compile the grammar", None, {"ways": ("regex", "none")}),
        ("You are not allowed to request logprobs", None, {"top_logprobs": 0}),
        ("This model does not support logprobs", "logprobs", {"top_logprobs": 0}),
        ("top_logprobs must be at most 5", None, {"top_logprobs": 5}),
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", None,
         {"top_logprobs": 5}),
        ("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
         "'max_completion_tokens' instead.", "max_tokens", {"length": "max_completion_tokens"}),
        ("Unsupported value: 'temperature' does not support 0 with this model. Only the default "
         "(1) value is supported.", "temperature", {"left_out": frozenset({"temperature"})}),
        ("`top_p` is deprecated for this model", None, {"left_out": frozenset({"top_p"})}),
        ("('body', 'seed'): Extra inputs are not permitted", None,
         {"left_out": frozenset({"seed"})}),
    ],
)  # fmt: skip
def test_what_is_refused_is_left_out(
    text: str, parameter: str | None, less: dict[str, Any]
) -> None:
    assert drop_parameter(Capabilities(), SENT, text, parameter) == Capabilities(**less)


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("'max_tokens' or 'max_completion_tokens' is too large: 8000. This model's maximum "
         "context length is 4096 tokens", "max_tokens"),
        ("temperature must be between 0 and 2", "temperature"),
        ("max_tokens must be at most 4096", "max_tokens"),
        ("Unknown parameter: 'stop'", "stop"),  # not sent
        ("bad request", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_nothing_left_out_would_mend_is_left_alone(text: str, parameter: str | None) -> None:
    assert drop_parameter(Capabilities(), SENT, text, parameter) is None


def test_what_several_learn_is_put_together() -> None:
    known = Capabilities(
        ways=("none",), length="max_completion_tokens", left_out=frozenset({"seed"}), thinks=True
    )
    learned = Capabilities(ways=("regex", "none"), top_logprobs=5, left_out=frozenset({"stop"}))
    assert merged(known, Capabilities(), learned) == Capabilities(
        ways=("none",),
        top_logprobs=5,
        length="max_completion_tokens",
        left_out=frozenset({"seed", "stop"}),
        thinks=True,
    )
    assert merged(Capabilities(), Capabilities(), known) == known


def test_nothing_is_left_out_twice() -> None:
    """As it would for ever where extra_body insists on a parameter."""
    accepted = Capabilities(
        ways=("none",),
        top_logprobs=0,
        length="max_completion_tokens",
        left_out=frozenset({"temperature"}),
    )
    for text in ("json_schema", "logprobs", "max_completion_tokens", "temperature unsupported"):
        assert drop_parameter(accepted, SENT, text) is None


def test_logprobs_that_are_wanted_are_kept() -> None:
    wanted = Capabilities(keep_logprobs=True)
    assert drop_parameter(wanted, SENT, "no logprobs here") is None
    fewer = drop_parameter(wanted, SENT, "top_logprobs at most 5")
    assert fewer is not None
    assert fewer.top_logprobs == 5
    assert drop_parameter(fewer, SENT, "top_logprobs at most 1") is None


def test_secrets_are_not_shown() -> None:
    args = {
        "max_tokens": 5,
        "tokenizer": "t",
        "api_key_env": "KEY",
        "token": True,
        "key": None,
        "hf_token": "s",
        "apiKey": "s",
        "extra_body": {"Authorization": "s", "nested": [{"x-api-key": "s", "client_secret": "s"}]},
        "passwords": ("s",),
        "path": Path("here"),
    }
    assert shown_args(args) == {
        "max_tokens": 5,
        "tokenizer": "t",
        "api_key_env": "KEY",
        "token": True,
        "key": None,
        "hf_token": "***",
        "apiKey": "***",
        "extra_body": {
            "Authorization": "***",
            "nested": [{"x-api-key": "***", "client_secret": "***"}],
        },
        "passwords": "***",
        "path": "here",
    }
    assert json.loads(json.dumps(shown_args(args))) == shown_args(args)
