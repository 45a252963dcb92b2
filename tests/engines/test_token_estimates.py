import pytest

from llmrankers_groupwise.engines.lengths import form_budget
from llmrankers_groupwise.engines.llm.token_estimates import Estimator
from llmrankers_groupwise.errors import EngineError
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.types import Request, Sampling


def question(*passages: str, form: bool = True) -> Request:
    return render("a query", passages, load_prompt("groupwise_scores"), form=form)


@pytest.mark.parametrize("text", ["", "a", "four", "fives", "한국어", "😀😀", "half \ud83d of it"])
def test_cutting_leaves_whole_characters(text: str) -> None:
    estimator = Estimator()
    for length in range(8):
        cut = estimator.truncate(text, length)
        assert text.startswith(cut)
        assert estimator.count(cut) <= length
        longer = text[: len(cut) + 1]
        assert longer == cut or estimator.count(longer) > length


def test_one_token_has_four_bytes() -> None:
    assert [Estimator().count(text) for text in ("", "a", "four", "fives", "한국")] == [
        0,
        1,
        1,
        2,
        2,
    ]


def test_without_a_length_nothing_is_cut() -> None:
    request = question("x" * 100_000)
    prompt = Estimator().prompt(request, Sampling())
    assert prompt.request is request
    assert prompt.cut_passages == 0
    assert prompt.tokens > 25_000


def test_the_longest_passages_are_cut_to_one_length() -> None:
    estimator = Estimator()
    estimator.limit_to(1000)
    estimator.limit_to(2000)  # longer than what is known
    request = question("a" * 4000, "b" * 40, "c" * 3000)
    prompt = estimator.prompt(request, Sampling())
    first, second, third = prompt.request.passages
    assert prompt.cut_passages == 2
    assert second == "b" * 40
    assert 0 <= len(first) - len(third) <= 4
    assert request.form is not None
    room = 1000 - form_budget(request.form)
    assert room * 0.7 < prompt.tokens <= room * 0.8 + 1
    assert estimator.prompt(question("a", "b", "c"), Sampling()).cut_passages == 0


def test_what_cannot_be_cut_to_fit_is_refused() -> None:
    estimator = Estimator()
    estimator.limit_to(200)
    with pytest.raises(EngineError, match="smaller group_size"):
        estimator.prompt(question("a" * 400, "b" * 400), Sampling())


def test_a_text_is_kept_within_the_length() -> None:
    estimator = Estimator()
    estimator.limit_to(1000)
    prompt = estimator.prompt(question("a", form=False), Sampling())
    step = next(estimator.dialogue(prompt, Sampling(max_tokens=8000)))
    assert step.max_tokens < 1000 - prompt.tokens
