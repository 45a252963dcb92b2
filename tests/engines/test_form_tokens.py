"""Forms in the tokens of many kinds of tokenizers."""

import functools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra [transformers] is not installed")
pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

from support.chat_tokenizers import KINDS, byte_level, wrapped  # noqa: E402
from tokenizers import normalizers  # noqa: E402

from llmrankers_groupwise.engines.llm.tokenizer import ChatSettings, ChatTokenizer  # noqa: E402
from llmrankers_groupwise.engines.transformers.form_tokens import FormTokens, Part  # noqa: E402
from llmrankers_groupwise.errors import ModelError  # noqa: E402
from llmrankers_groupwise.types import ScoreForm  # noqa: E402

FORM = ScoreForm(tuple(f"[{n}]" for n in range(1, 13)))
CAUSAL = sorted(set(KINDS) - {"bert"})


@functools.cache
def chat(kind: str) -> ChatTokenizer:
    return ChatTokenizer(KINDS[kind](), ChatSettings())


@functools.cache
def parts(kind: str) -> list[Part]:
    return FormTokens(chat(kind)).parts(FORM)


@pytest.mark.parametrize("kind", CAUSAL)
@given(answers=st.lists(st.integers(0, 10), min_size=12, max_size=12))
def test_the_tokens_of_a_filled_form_say_it(kind: str, answers: list[int]) -> None:
    ids: list[int] = []
    for part, answer in zip(parts(kind), answers, strict=True):
        ids += [*part.fixed, *part.choices[answer]]
    tokenizer = chat(kind)
    ids += tokenizer.encode_continuation("}")
    text = tokenizer.decode([*tokenizer.encode("0"), *ids])[1:]
    assert text == FORM.filled([str(answer) for answer in answers])
    assert list(json.loads(text).values()) == answers


@pytest.mark.parametrize("kind", CAUSAL)
def test_what_may_stand_behind_a_blank_begins_the_text_there(kind: str) -> None:
    tokenizer = chat(kind)
    for part, behind in zip(parts(kind), FORM.fixed[1:], strict=True):
        assert all(behind.startswith(tokenizer.texts[token]) for token in part.ends)
        assert all(tokenizer.texts[token] for token in part.ends)
        assert tokenizer.encode_continuation(behind)[0] in part.ends


@pytest.mark.parametrize("kind", CAUSAL)
def test_one_token_at_most_begins_two_choices(kind: str) -> None:
    for part in parts(kind):
        assert len(part.shared) <= 1
        assert len(set(part.choices)) == len(part.choices) == 11
        assert all(choice for choice in part.choices)


def test_numbers_are_one_token_or_two() -> None:
    assert [len(choice) for choice in parts("gpt2")[3].choices] == [1] * 11
    assert chat("gpt2").texts[parts("gpt2")[3].choices[10][0]] == " 10"
    assert [len(choice) for choice in parts("llama2")[3].choices] == [1] * 10 + [2]


def test_a_tokenizer_that_writes_scores_beyond_reading_is_refused() -> None:
    steps: list[Any] = [normalizers.Replace(digit, f"x{digit}") for digit in "23"]
    odd = wrapped(byte_level(["<s>"], normalizers.Sequence(steps)), "{{ messages }}")
    with pytest.raises(ModelError, match="use another model"):
        FormTokens(ChatTokenizer(odd, ChatSettings())).parts(FORM)


logits = st.lists(st.floats(-5, 5), min_size=8, max_size=8)


@given(first=logits, second=logits)
def test_probabilities_are_products_over_what_the_form_allows(
    first: list[float], second: list[float]
) -> None:
    part = Part(fixed=[7], choices=((1,), (2,), (1, 3), (4, 5)), ends=(3 + 3, 0))
    assert part.shared == [1]
    row, best = part.read(torch.tensor([first, second]))
    odds = [2.718281828459045**value for value in first]
    total = odds[1] + odds[2] + odds[4]
    behind = [2.718281828459045**value for value in second]
    ten = behind[3] / (behind[3] + behind[6] + behind[0])
    one = odds[1] / total
    expected = (one * (1 - ten), odds[2] / total, one * ten, odds[4] / total)
    assert row == pytest.approx(expected, abs=1e-5)
    assert sum(row) == pytest.approx(1.0, abs=1e-5)
    firsts = {1: one, 2: expected[1], 4: expected[3]}
    likeliest = max(firsts.values())
    assert firsts[part.choices[best][0]] == pytest.approx(likeliest, abs=1e-5)
    if part.choices[best][0] == 1:
        assert row[best] == pytest.approx(max(row[0], row[2]), abs=1e-5)


def test_without_a_shared_token_one_row_of_logits_is_enough() -> None:
    part = Part(fixed=[7], choices=((1,), (2,)), ends=(0,))
    assert part.shared == []
    row, best = part.read(torch.tensor([[0.0, 0.0, 1.0]]))
    assert best == 1
    assert row == pytest.approx((0.2689, 0.7311), abs=1e-4)
