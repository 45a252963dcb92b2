"""Lengths: of the parts of a prompt, of a beginning, of what is kept free for the answer."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.engines.lengths import (
    answer_budget,
    even_lengths,
    form_budget,
    longest_beginning,
)
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.types import Request, Sampling


def request(n: int, *, form: bool) -> Request:
    return render("q", ["p"] * n, load_prompt("groupwise"), form=form)


@pytest.mark.parametrize(
    ("lengths", "total", "expected"),
    [
        ([], 5, []),
        ([3, 4], 7, [3, 4]),
        ([3, 4], 100, [3, 4]),
        ([10, 2, 10], 12, [5, 2, 5]),
        ([10, 2, 10], 13, [6, 2, 5]),
        ([100, 50, 10], 60, [25, 25, 10]),
        ([5, 5, 5], 0, [0, 0, 0]),
        ([5, 5, 5], 1, [1, 0, 0]),
        ([9, 0, 9], 4, [2, 0, 2]),
        ([6, 5, 5], 15, [5, 5, 5]),
    ],
)
def test_the_longest_are_cut_first(lengths: list[int], total: int, expected: list[int]) -> None:
    assert even_lengths(lengths, total) == expected


@given(st.lists(st.integers(0, 50), max_size=25), st.integers(0, 1300))
def test_lengths_are_cut_evenly_and_use_all_the_room(lengths: list[int], total: int) -> None:
    shortened = even_lengths(lengths, total)
    assert sum(shortened) == min(total, sum(lengths))
    assert all(0 <= new <= old for new, old in zip(shortened, lengths, strict=True))
    cut = [new for new, old in zip(shortened, lengths, strict=True) if new < old]
    whole = [new for new, old in zip(shortened, lengths, strict=True) if new == old]
    if cut:
        assert max(cut) - min(cut) <= 1
        assert max(whole, default=0) <= max(cut) + 1
        assert max(whole, default=0) <= min(cut) + 1


def word_ends(text: str) -> list[int]:
    """Tokens of three characters at most, none across a blank."""
    ends, start = [], 0
    for word in text.split(" "):
        for offset in range(0, len(word), 3):
            ends.append(start + min(offset + 3, len(word)))
        start += len(word) + 1
    return ends


def two_for_each(text: str) -> list[int]:
    """Two tokens for every character, both of which end behind it."""
    return [index + 1 for index in range(len(text)) for _ in range(2)]


@given(st.text("ab ", max_size=30), st.integers(0, 12), st.sampled_from([word_ends, two_for_each]))
def test_a_beginning_fits_and_none_longer_does(
    text: str, length: int, ends: Callable[[str], list[int]]
) -> None:
    beginning = longest_beginning(text, length, ends)
    assert text.startswith(beginning)
    assert len(ends(beginning)) <= length
    if len(ends(text)) <= length:
        assert beginning == text
    elif rest := text[len(beginning) :].lstrip(" "):
        assert len(ends(text[: len(text) - len(rest) + 1])) > length


def test_a_character_of_many_tokens_is_left_out_whole() -> None:
    assert longest_beginning("aé", 3, two_for_each) == "a"
    assert longest_beginning("aé", 1, two_for_each) == ""


def test_room_for_an_answer() -> None:
    form, text = request(20, form=True), request(20, form=False)
    sampling = Sampling(max_tokens=1000, reasoning_tokens=300)
    filling = form_budget(form.form)
    assert filling >= len('{"[20]": 10, ') * 20  # even where every character is a token
    assert form_budget(text.fallback) == filling  # for its fallback
    assert answer_budget(form, Sampling(), None) == filling
    assert answer_budget(form, sampling, None) == 300 + filling
    assert answer_budget(text, sampling, None) == 1000 + filling


def test_room_for_an_answer_is_half_of_the_models_length_at_most() -> None:
    form, text = request(1, form=True), request(1, form=False)
    sampling = Sampling(max_tokens=8000, reasoning_tokens=6000)
    assert answer_budget(text, sampling, 4096) == 2048 + form_budget(text.fallback)
    assert answer_budget(form, sampling, 4096) == 2048 + form_budget(form.form)


def test_room_for_reasoning_is_no_more_than_max_tokens() -> None:
    sampling = Sampling(max_tokens=100, reasoning_tokens=6000)
    form = request(1, form=True)
    assert answer_budget(form, sampling, None) == 100 + form_budget(form.form)


def test_a_request_without_any_form_needs_room_for_its_text_only() -> None:
    asked = Request("q", ("p",), ("[1]",), ({"role": "user", "content": "q p"},))
    assert answer_budget(asked, Sampling(max_tokens=100), None) == 100
