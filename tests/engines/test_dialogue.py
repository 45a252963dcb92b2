"""Dialogues led by hand: what is asked of a model, and what becomes of what it writes."""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.engines.llm import dialogue as dialogues
from llmrankers_groupwise.engines.llm.dialogue import (
    CLOSE_THINKING,
    Dialogue,
    Fill,
    Filled,
    Write,
    Written,
    reply_to,
)
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.prompting.parse_scores import parse_scores, read_reply, slot_with_mean
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.types import Reply, Request, Sampling, Status, Wanted

ANSWER = '<answer>{"[1]": 3, "[2]": 9}</answer>'
FORM = Filled('{"[1]": 1, "[2]": 2}', 2, (slot_with_mean(1.0), slot_with_mean(2.0)))
Step = Write | Fill
Outcome = Written | Filled


def request(*, form: bool, answer_start: str = "<answer>") -> Request:
    prompt = load_prompt("groupwise" if answer_start else "groupwise_scores")
    asked = render("a query", ["a passage", "another"], prompt, form=form)
    assert asked.answer_start == answer_start
    return asked


def lead(dialogue: Dialogue, outcome_of: Callable[[Step], Outcome]) -> tuple[list[Step], Reply]:
    steps = [next(dialogue)]
    while True:
        try:
            steps.append(dialogue.send(outcome_of(steps[-1])))
        except StopIteration as end:
            return steps, end.value


def scripted(dialogue: Dialogue, outcomes: Iterable[Outcome]) -> tuple[list[Step], Reply]:
    """Steps and reply with these outcomes, all of which must be used."""
    remaining = iter(outcomes)
    led = lead(dialogue, lambda step: next(remaining))
    assert list(remaining) == []
    return led


def cut(text: str, tokens: int = 10) -> Written:
    return Written(text, tokens, finished=False)


def ended(text: str, tokens: int = 10) -> Written:
    return Written(text, tokens, finished=True)


class Failing:
    """Answers the first step, and fails at all that follow."""

    def __init__(self, first: Outcome) -> None:
        self.first: Outcome | None = first

    async def __call__(self, step: Step) -> Outcome:
        if self.first is None:
            raise EngineError("the server is gone")
        first, self.first = self.first, None
        return first


def test_a_text_with_some_scores_is_kept_when_the_form_behind_it_fails() -> None:
    text = '<answer>{"[1]": 3}</answer>'
    dialogue = reply_to(request(form=False), Sampling())
    reply = asyncio.run(dialogues.lead(dialogue, Failing(ended(text))))
    assert reply.text == text
    assert not reply.forced
    assert read_reply(reply, 2).status is Status.PARTIAL


@pytest.mark.parametrize(("form", "text"), [(False, "I cannot say."), (True, "<reason>well")])
def test_without_any_score_the_failure_is_the_answer(form: bool, text: str) -> None:
    dialogue = reply_to(request(form=form), Sampling(reasoning_tokens=50))
    with pytest.raises(EngineError, match="the server is gone"):
        asyncio.run(dialogues.lead(dialogue, Failing(ended(text))))


# --- With a form --------------------------------------------------------------------------------


@pytest.mark.parametrize("reasoning", [0, None])
def test_a_form_is_filled_at_once(reasoning: int | None) -> None:
    asked = request(form=True)
    steps, reply = scripted(reply_to(asked, Sampling(reasoning_tokens=reasoning)), [FORM])
    assert steps == [Fill("<answer>", asked.form)]  # type: ignore[arg-type]
    assert reply == Reply(
        text="<answer>" + FORM.text, slot_probabilities=FORM.slot_probabilities, completion_tokens=2
    )


def test_a_form_without_an_answer_tag_stands_alone() -> None:
    steps, reply = scripted(reply_to(request(form=True, answer_start=""), Sampling()), [FORM])
    assert steps[0].text == ""
    assert reply.text == FORM.text


def test_thinking_that_the_template_opened_is_closed_before_the_form() -> None:
    steps, _ = scripted(reply_to(request(form=True), Sampling(), thinking=True), [FORM])
    assert steps[0].text == CLOSE_THINKING + "<answer>"


def test_what_closes_a_thinking_block_can_be_chosen() -> None:
    dialogue = reply_to(request(form=True), Sampling(), thinking=True, close_thinking="[/THINK]\n")
    steps, _ = scripted(dialogue, [FORM])
    assert steps[0].text == "[/THINK]\n<answer>"


def test_reasoning_within_its_budget_is_followed_by_the_form() -> None:
    asked = request(form=True)
    steps, reply = scripted(
        reply_to(asked, Sampling(reasoning_tokens=50)),
        [ended("<reason>both are good</reason>\n<answer>", 12), FORM],
    )
    assert steps[0] == Write("", 50, ("<answer>",))
    assert steps[1].text == "<reason>both are good</reason>\n<answer>"
    assert reply.text == steps[1].text + FORM.text
    assert (reply.forced, reply.finish_reason) == (False, "stop")
    assert reply.completion_tokens == 12 + 2


def test_reasoning_beyond_its_budget_is_closed_and_the_form_forced() -> None:
    steps, reply = scripted(
        reply_to(request(form=True), Sampling(reasoning_tokens=10)),
        [cut("<reason>the first passage is "), FORM],
    )
    assert steps[1].text == "<reason>the first passage is\n</reason>\n<answer>"
    assert (reply.forced, reply.finish_reason) == (True, "length")
    assert read_reply(reply, 2).status is Status.FORCED


def test_reasoning_without_an_answer_tag_stops_where_thinking_ends() -> None:
    steps, _ = scripted(
        reply_to(request(form=True, answer_start=""), Sampling(reasoning_tokens=50), thinking=True),
        [ended("the first is better</think>"), FORM],
    )
    assert steps[0] == Write("", 50, ("</think>",))
    assert steps[1].text == "the first is better</think>\n"


def test_an_answer_tag_spoken_of_while_thinking_is_not_the_answer() -> None:
    steps, reply = scripted(
        reply_to(request(form=True), Sampling(reasoning_tokens=50), thinking=True),
        [
            ended("They want <answer>", 7),
            ended(" tags.</think>Now: <answer>", 9),
            FORM,
        ],
    )
    assert [step.max_tokens for step in steps if isinstance(step, Write)] == [50, 43]
    assert steps[1].text == "They want <answer>"
    assert steps[2].text == "They want <answer> tags.</think>Now: \n<answer>"
    assert not reply.forced
    assert reply.completion_tokens == 18


def test_a_model_that_stays_silent_while_thinking_is_not_asked_forever() -> None:
    steps, reply = scripted(
        reply_to(request(form=True), Sampling(reasoning_tokens=50), thinking=True),
        [ended("hm", 1), ended("", 0), FORM],
    )
    assert steps[2].text == "hm" + CLOSE_THINKING + "<answer>"
    assert not reply.forced


def test_reasoning_for_a_form_is_no_longer_than_max_tokens() -> None:
    steps, _ = scripted(
        reply_to(request(form=True), Sampling(max_tokens=20, reasoning_tokens=5000)),
        [cut("<reason>...", 20), FORM],
    )
    assert isinstance(steps[0], Write)
    assert steps[0].max_tokens == 20


# --- With a text --------------------------------------------------------------------------------


def test_a_complete_text_is_the_reply() -> None:
    text = "<reason>r</reason>\n" + ANSWER
    steps, reply = scripted(reply_to(request(form=False), Sampling()), [ended(text, 33)])
    assert steps == [Write("", 8000)]
    assert reply == Reply(text=text, completion_tokens=33)


def test_a_complete_text_that_was_cut_off_behind_its_answer_is_kept() -> None:
    text = ANSWER + " Let me explain"
    _, reply = scripted(reply_to(request(form=False), Sampling(max_tokens=10)), [cut(text)])
    assert (reply.text, reply.slot_probabilities, reply.finish_reason) == (text, None, "length")


@pytest.mark.parametrize(
    ("written", "before"),
    [
        (cut("<reason>the first is"), "<reason>the first is\n</reason>\n<answer>"),
        (cut("<think>the first is\n\n"), "<think>the first is" + CLOSE_THINKING + "<answer>"),
        (cut('<reason>r</reason>\n<answer>{"[1]": 3, "[2'), "<reason>r</reason>\n<answer>"),
        (ended('<reason>r</reason><answer>{"[1]": 3}</answer>'), "<reason>r</reason>\n<answer>"),
        (cut('So:\n```json\n{"[1]": 3, '), "So:\n<answer>"),
        (cut('So:\n{"[1]": 3, '), "So:\n<answer>"),
        (cut("So:\n{"), "So:\n<answer>"),
        (cut("So:\n```json\n"), "So:\n<answer>"),
        (cut("<reason>r <answer>{"), "<reason>r\n</reason>\n<answer>"),
        (ended("I cannot judge that."), "I cannot judge that.\n<answer>"),
        (ended(""), "<answer>"),
        (cut("good good good good good"), "good good good good good\n<answer>"),
        (cut('<answer>{"[1]": 3, ' + '"[1]": 3, ' * 50), "<answer>"),
    ],
    ids=[
        "reason open", "thinking open", "answer cut off", "a label forgotten", "fenced", "bare",
        "only a brace", "only a fence", "reason open and answer begun", "no scores", "nothing",
        "looped", "answer looped",
    ],
)  # fmt: skip
def test_what_leaves_labels_without_a_score_is_followed_by_the_form(
    written: Written, before: str
) -> None:
    asked = request(form=False)
    steps, reply = scripted(reply_to(asked, Sampling(max_tokens=10)), [written, FORM])
    assert steps[1] == Fill(before, asked.fallback)  # type: ignore[arg-type]
    assert reply.text == before + FORM.text
    assert (reply.slot_probabilities, reply.forced, reply.finish_reason) == (
        FORM.slot_probabilities,
        True,
        "length",
    )
    assert reply.completion_tokens == 12
    assert parse_scores(reply.text, 2).scores == {1: 1.0, 2: 2.0}  # the old answer is gone


@pytest.mark.parametrize(
    "reasoning",
    [
        "<reason>a set {a, b} and `{x}` and ```code```: the first one is",
        "<reason>the scores go inside <answer> and </answer>. The first one is",
        "Passage [1] defines {x | x > 0}. It is",
        "I put scores in <answer> tags. The first is",
    ],
)
def test_reasoning_that_only_looks_like_an_answer_is_kept(reasoning: str) -> None:
    steps, _ = scripted(
        reply_to(request(form=False), Sampling(max_tokens=10)), [cut(reasoning), FORM]
    )
    assert steps[1].text.startswith(reasoning)


def test_a_tag_named_in_closed_thinking_is_not_open_afterwards() -> None:
    text = "<think>They want <reason> tags.</think>\nThe first is better."
    steps, _ = scripted(reply_to(request(form=False), Sampling()), [ended(text), FORM])
    assert steps[1].text == text + "\n<answer>"


def test_thinking_that_runs_over_its_budget_is_closed_and_the_answer_written() -> None:
    sampling = Sampling(max_tokens=100, reasoning_tokens=30)
    steps, reply = scripted(
        reply_to(request(form=False), sampling, thinking=True),
        [cut("the first is ", 30), ended(ANSWER, 12)],
    )
    assert steps == [Write("", 30), Write("the first is" + CLOSE_THINKING, 70)]
    assert reply.text == "the first is" + CLOSE_THINKING + ANSWER
    assert (reply.finish_reason, reply.completion_tokens) == ("stop", 42)


def test_an_answer_that_is_under_way_when_reasoning_runs_out_goes_on() -> None:
    sampling = Sampling(max_tokens=100, reasoning_tokens=30)
    steps, reply = scripted(
        reply_to(request(form=False), sampling, thinking=True),
        [cut("short</think>" + ANSWER[:20], 30), ended(ANSWER[20:], 12)],
    )
    assert steps[1].text == "short</think>" + ANSWER[:20]
    assert reply.text == "short</think>" + ANSWER


def test_no_reasoning_closes_thinking_before_anything_is_written() -> None:
    sampling = Sampling(max_tokens=100, reasoning_tokens=0)
    steps, reply = scripted(
        reply_to(request(form=False), sampling, thinking=True), [ended(ANSWER, 12)]
    )
    assert steps == [Write(CLOSE_THINKING, 100)]
    assert reply.text == CLOSE_THINKING + ANSWER


def test_text_that_finished_within_the_reasoning_budget_is_not_continued() -> None:
    sampling = Sampling(max_tokens=100, reasoning_tokens=30)
    steps, _ = scripted(reply_to(request(form=False), sampling), [ended(ANSWER, 12)])
    assert len(steps) == 1


def test_without_a_fallback_form_nothing_is_filled_in() -> None:
    asked = Request("q", ("p",), ("[1]",), ({"role": "user", "content": "q p"},))
    _, reply = scripted(reply_to(asked, Sampling(max_tokens=10)), [cut("<reason>so")])
    assert reply == Reply(text="<reason>so", completion_tokens=10, finish_reason="length")


# --- Whatever a model writes --------------------------------------------------------------------

pieces = st.sampled_from(
    ["<think>", "</think>", "<reason>", "</reason>", "<answer>", "</answer>", '{"[1]": 3', ', "',
     '"[2]": 9}', "```json\n", "{", "}", "[1]: 7\n", "words", "\n", " ", "", "<ans", "\ufffd"]
)  # fmt: skip
texts = st.lists(pieces, max_size=8).map("".join)


def is_open(text: str, name: str, thinking: bool = False) -> bool:
    depth = thinking
    for tag in re.findall(f"</?{name}>", text):
        depth = not tag.startswith("</")
    return bool(depth)


@given(
    written=st.lists(st.tuples(texts, st.integers(0, 60), st.booleans()), min_size=1),
    max_tokens=st.integers(1, 100),
    reasoning=st.none() | st.integers(0, 150),
    form=st.booleans(),
    thinking=st.booleans(),
    answer_start=st.sampled_from(["<answer>", ""]),
)
def test_a_dialogue_ends_within_its_budget_and_fills_behind_closed_reasoning(
    written: list[tuple[str, int, bool]],
    max_tokens: int,
    reasoning: int | None,
    form: bool,
    thinking: bool,
    answer_start: str,
) -> None:
    asked = request(form=form, answer_start=answer_start)
    script: Iterator[tuple[str, int, bool]] = iter(written)
    spent = 0

    def outcome_of(step: Step) -> Outcome:
        nonlocal spent
        if isinstance(step, Fill):
            return FORM
        assert step.max_tokens >= 1
        text, tokens, finished = next(script, ("", 0, True))
        tokens = min(tokens, step.max_tokens) if finished else step.max_tokens
        spent += tokens
        return Written(text, tokens, finished)

    sampling = Sampling(max_tokens=max_tokens, reasoning_tokens=reasoning)
    steps, reply = lead(reply_to(asked, sampling, thinking=thinking), outcome_of)
    assert spent <= max_tokens
    if form:
        assert spent <= (reasoning or 0)
    fills = [step for step in steps if isinstance(step, Fill)]
    assert steps[: len(steps) - len(fills)] == [step for step in steps if isinstance(step, Write)]
    assert len(fills) <= 1
    for fill in fills:
        assert fill.text.endswith(asked.answer_start)
        assert not is_open(fill.text, "think", thinking)
        assert not is_open(fill.text.rpartition("</think>")[2], "reason")
        assert reply.text == fill.text + FORM.text
        assert reply.slot_probabilities == FORM.slot_probabilities
    if form:
        assert fills
    elif not fills:
        assert not parse_scores(reply.text, 2).missing
    assert reply.completion_tokens == spent + 2 * len(fills)
    assert reply.error is None


# --- Orders and choices -----------------------------------------------------------------------


def wanting(wants: Wanted) -> Request:
    return render("a query", ["a passage", "another"], load_prompt("listwise"), wants=wants)


@pytest.mark.parametrize("wants", ["order", "choice"])
@pytest.mark.parametrize("text", ["[2] > [1]", "", "no order at all"])
def test_an_order_or_a_choice_is_what_was_written(wants: Wanted, text: str) -> None:
    """Whatever it says: no form is filled behind it."""
    steps, reply = scripted(reply_to(wanting(wants), Sampling(max_tokens=99)), [ended(text, 3)])
    assert steps == [Write("", 99)]
    assert reply == Reply(text=text, completion_tokens=3)


@pytest.mark.parametrize("wants", ["order", "choice"])
def test_reasoning_before_an_order_is_closed_when_it_is_long(wants: Wanted) -> None:
    sampling = Sampling(max_tokens=99, reasoning_tokens=10)
    steps, reply = scripted(
        reply_to(wanting(wants), sampling), [cut("<think>so"), ended("[2] > [1]", 4)]
    )
    assert steps == [Write("", 10), Write("<think>so" + CLOSE_THINKING, 89)]
    assert reply.text == "<think>so" + CLOSE_THINKING + "[2] > [1]"
    assert (reply.completion_tokens, reply.finish_reason) == (14, "stop")


def test_an_order_that_is_cut_off_says_so() -> None:
    _, reply = scripted(reply_to(wanting("order"), Sampling(max_tokens=10)), [cut("[2] > [")])
    assert (reply.text, reply.finish_reason) == ("[2] > [", "length")
