"""Choice probabilities read from the tokens of a form that an engine wrote."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llmrankers_groupwise.engines.llm.form_probabilities import (
    Slot,
    Token,
    form_regex,
    form_schema,
    read_slots,
    ten_share,
)
from llmrankers_groupwise.prompting.parse_scores import expected_score
from llmrankers_groupwise.types import ScoreForm

TWO = ScoreForm(("[1]", "[2]"))
TWENTY = ScoreForm(tuple(f"[{n}]" for n in range(1, 21)))


def certain(*texts: str) -> list[Token]:
    return [Token(text, {text: 1.0}) for text in texts]


def scores(tokens: Sequence[Token], form: ScoreForm = TWO) -> list[float] | None:
    slot_probabilities = read_slots(tokens, form)
    return (
        None
        if slot_probabilities is None
        else [expected_score(blank.row()) for blank in slot_probabilities]
    )


def row(blank: Slot) -> dict[int, float]:
    return {score: p for score, p in enumerate(blank.row()) if p}


# --- What constrains the answer -----------------------------------------------------------------


@given(st.lists(st.sampled_from(TWENTY.choices), min_size=20, max_size=20))
def test_the_regex_matches_a_filled_form(answers: list[str]) -> None:
    filled = TWENTY.filled(answers)
    match = re.fullmatch(form_regex(TWENTY), filled)
    assert match
    assert list(match.groups()) == answers
    assert json.loads(filled) == dict(zip(TWENTY.labels, map(int, answers), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", '{"[1]": 1}', '{"[1]": 1, "[2]": 11}', '{"[1]": 1, "[2]": 01}',
        '{"[1]":1,"[2]":2}', '{"[2]": 1, "[1]": 2}', '{"[1]": 1, "[2]": -1}', '{"1": 1, "2": 2}',
        '{"[1]": 1, "[2]": 2, "[3]": 3}', '{"[1]": 1, "[2]": 1.5}', ' {"[1]": 1, "[2]": 2}',
        '{"[1]": 1, "[2]": 2}\n', '{"[1]": , "[2]": 2}', '{"1]": 1, "[2]": 2}',
    ],
)  # fmt: skip
def test_the_regex_matches_nothing_else(text: str) -> None:
    assert not re.fullmatch(form_regex(TWO), text)


def test_the_schema_is_of_filled_forms() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = form_schema(TWO)
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema).is_valid
    assert valid(json.loads(TWO.filled(["0", "10"])))
    for wrong in ('{"[1]": 1}', '{"[1]": 1, "[2]": 11}', '{"[1]": 1, "[2]": "2"}', "[1, 2]",
                  '{"[1]": 1, "[2]": 2, "[3]": 3}', '{"[1]": 1, "[2]": 1.5}'):  # fmt: skip
        assert not valid(json.loads(wrong))
    json.dumps(schema)


# --- Forms in all kinds of tokens ---------------------------------------------------------------


@pytest.mark.parametrize(
    "tokens",
    [
        ('{"', "[", "1", "]", '":', " ", "7", ", ", '"[2]": ', "10", "}"),
        ('{"[', "1", ']":', " 7", ',"', "[", "2", ']":', " 10", "}"),
        ('{"[1]": ', "7,", ' "[2]": ', "1", "0", "}"),
        ('{"[1]": 7, "[2]": 10}',),
        tuple('{"[1]": 7, "[2]": 10}'),
        ('{"[1]":', "7", ',"[2]":', "10}"),
        ("{\n  ", '"[1]"', ":", " 7", ",\n  ", '"[2]"', " :\t", "10", "\n}"),
        ("<answer>", '{"[1]": ', "7", ', "[2]": ', "10", "}", "</answer>"),
        ('Draft {"[1]": ', "2", ', "[2]": ', "3", '}. No: {"[1]": ', "7", ', "[2]": ', "10", "}"),
        ('Only {"[1]": 2, so: ', '{"[1]": 7', ', "[2]": 10', '} and not {"[1]": 3}'),
        ("", '{"[1]": ', "", "7", "", ', "[2]": ', "", "10", "}", ""),
    ],
    ids=["qwen", "gpt-2", "merged comma", "one token", "characters", "no blanks", "indented",
         "tagged", "a draft before", "an unfinished draft", "empty tokens"],
)  # fmt: skip
def test_a_form_is_read_however_it_is_split(tokens: tuple[str, ...]) -> None:
    assert scores(certain(*tokens)) == [7.0, 10.0]


@pytest.mark.parametrize(
    "tokens",
    [
        (),
        ("no form",),
        ('{"[1]": ', "7", "}"),
        ('{"[1]": ', "7", ', "[2]": '),
        ('{"[1]": ', "7", ', "[2]": ', "1"),
        ('{"[1]": ', "7", ', "[2]": ', "x", "}"),
        ('{"[1]": ', "7", ', "[2]": ', "11", "}"),
        ('{"[1]": ', "7", ', "[2]": ', "-1", "}"),
        ('{"[1]": ', "7", ', "[2]": ', "1.5", "}"),
        ('{"[2]": ', "7", ', "[1]": ', "1", "}"),
        ('{"[1]": ', "7", '} {"[2]": ', "1", "}"),
    ],
)
def test_what_is_no_form_gives_no_blanks(tokens: tuple[str, ...]) -> None:
    assert read_slots(certain(*tokens), TWO) is None


def test_a_form_of_which_no_choice_has_a_probability_gives_no_blanks() -> None:
    tokens = [*certain('{"[1]": ', "7", ', "[2]": '), Token("3", {}), *certain("}")]
    assert read_slots(tokens, TWO) is None


def form_of_one(choice: str, probabilities: Mapping[str, float], *behind: Token) -> list[Token]:
    before = choice[: len(choice) - len(choice.lstrip())]
    start = '{"[1]":' if before else '{"[1]": '
    return [*certain(start), Token(choice, probabilities), *(behind or certain("}"))]


def read_one(choice: str, probabilities: Mapping[str, float], *behind: Token) -> Slot:
    slot_probabilities = read_slots(
        form_of_one(choice, probabilities, *behind), ScoreForm(("[1]",))
    )
    assert slot_probabilities is not None
    return slot_probabilities[0]


def test_probabilities_are_relative_to_the_choices() -> None:
    blank = read_one("7", {"7": 0.3, "8": 0.1, "x": 0.5, "": 0.05, "77": 0.02, "١": 0.03})
    assert row(blank) == {7: pytest.approx(0.75), 8: pytest.approx(0.25)}
    assert blank.unsplit == 0.0
    assert blank.position == 1


def test_tokens_that_mean_the_same_choice_are_added() -> None:
    blank = read_one(" 7", {" 7": 0.2, " 7,": 0.1, " 7}": 0.1, " 8": 0.4, "7": 0.1, "8": 0.1})
    assert row(blank) == {7: pytest.approx(0.5), 8: pytest.approx(0.5)}


def test_a_ten_in_one_token_is_known() -> None:
    blank = read_one("10", {"10": 0.6, "9": 0.4})
    assert row(blank) == {9: pytest.approx(0.4), 10: pytest.approx(0.6)}


def test_a_one_that_was_written_is_split_by_what_follows() -> None:
    behind = Token("0", {"0": 0.6, "}": 0.1, "},": 0.1, "5": 0.2})
    blank = read_one("1", {"1": 0.5, "9": 0.5}, behind, *certain("}"))
    assert blank.unsplit == 0.0
    assert row(blank) == {1: pytest.approx(0.125), 9: 0.5, 10: pytest.approx(0.375)}


def test_a_one_that_was_not_written_stays_open() -> None:
    blank = read_one("9", {"9": 0.6, "1": 0.2, "8": 0.1, "2": 0.1})
    assert blank.unsplit == pytest.approx(0.2)
    assert blank.row(ten=0.25)[1] == pytest.approx(0.15)
    assert blank.row(ten=0.25)[10] == pytest.approx(0.05)
    assert sum(blank.row(ten=0.25)) == pytest.approx(1.0)
    # as 8 and 9 (0.7) stand to 0, 2 and 3 (0.1)
    assert blank.row()[10] == pytest.approx(0.2 * 0.7 / 0.8)


def test_with_nothing_around_an_open_one_is_split_in_halves() -> None:
    assert Slot((0.0,) * 11, 1.0, 0).row()[1] == 0.5


def test_a_one_with_its_end_is_not_open() -> None:
    blank = read_one("9", {"9": 0.6, "1,": 0.2, "1}": 0.1, "10": 0.1})
    assert blank.unsplit == 0.0
    assert row(blank) == {1: pytest.approx(0.3), 9: pytest.approx(0.6), 10: pytest.approx(0.1)}


def test_what_behind_a_one_tells_and_what_does_not() -> None:
    assert ten_share({"0": 0.2, ",": 0.6}) == pytest.approx(0.25)
    assert ten_share({"0,": 0.2, "}": 0.2, "1": 0.6, "": 0.3}) == pytest.approx(0.5)
    assert ten_share({"2": 1.0, "": 0.5}) is None
    assert ten_share({}) is None


# --- Against the whole distribution -------------------------------------------------------------

weights = st.lists(st.floats(0.0, 1.0), min_size=11, max_size=11)


@given(weights, st.floats(0.0, 1.0), st.sampled_from(range(11)), st.floats(0.0, 0.5))
def test_an_expected_score_is_wrong_by_nine_times_what_is_unsplit_at_most(
    masses: list[float], noise: float, written: int, blank_share: float
) -> None:
    """A model that writes "10" in two tokens, and "0" in one that may hold the blank before it."""
    assume(sum(masses) > 1e-3 and masses[written] > 1e-6)
    total = sum(masses)
    truth = [mass / total for mass in masses]
    one = truth[1] + truth[10]
    share = 1.0 - noise / 2  # the rest goes to tokens that are no choice
    position = {str(n): truth[n] * share for n in (0, *range(2, 10))}
    position |= {"1": one * share, "x": (1 - share) * (1 - blank_share), " ": blank_share * noise}
    tokens = [*certain('{"[1]": '), Token(str(written)[:1], position)]
    if written in (1, 10):
        tokens.append(Token("0" if written == 10 else "}", {"0": truth[10], "}": truth[1]}))
    tokens += certain("}") if written != 1 else []
    slot_probabilities = read_slots(tokens, ScoreForm(("[1]",)))
    assert slot_probabilities is not None
    (blank,) = slot_probabilities
    found = blank.row()
    assert sum(found) == pytest.approx(1.0)
    assert all(0.0 <= p <= 1.0 + 1e-9 for p in found)
    error = abs(expected_score(found) - expected_score(truth))
    assert error <= 9 * blank.unsplit + 1e-6
    if written in (1, 10):
        assert blank.unsplit == 0.0
        assert found == pytest.approx(truth, abs=1e-6)
    elif one > 0:
        assert blank.unsplit == pytest.approx(one)
        assert blank.row(ten=truth[10] / one) == pytest.approx(truth, abs=1e-6)


@given(
    st.lists(st.integers(0, 10), min_size=3, max_size=3),
    st.lists(st.integers(1, 60), max_size=20),
    st.sampled_from([None, 2]),
    st.sampled_from(["", "Reasoning about [1] ", '{"[1]": 3} ']),
)
def test_a_form_is_read_wherever_its_text_is_split(
    answers: list[int], cuts: list[int], indent: int | None, before: str
) -> None:
    form = ScoreForm(("[1]", "[2]", "[3]"))
    filled = dict(zip(form.labels, answers, strict=True))
    text = before + json.dumps(filled, indent=indent)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(borders)]
    assert scores(certain(*pieces), form) == [float(answer) for answer in answers]


def test_a_one_is_a_one_where_ten_has_a_token_of_its_own() -> None:
    nine = Token("9", {"9": 0.6, "8": 0.3, "1": 0.05, "10": 0.05})
    seven = Token("7", {"7": 0.9, "1": 0.1})
    tokens = [*certain('{"[1]": '), nine, *certain(', "[2]": '), seven, *certain("}")]
    slot_probabilities = read_slots(tokens, TWO)
    assert slot_probabilities is not None
    assert [blank.unsplit for blank in slot_probabilities] == [0.0, 0.0]
    assert row(slot_probabilities[0]) == pytest.approx({9: 0.6, 8: 0.3, 1: 0.05, 10: 0.05})
    assert row(slot_probabilities[1]) == pytest.approx({7: 0.9, 1: 0.1})


# --- Words --------------------------------------------------------------------------------------

WORDS = ScoreForm(("[1]",), ("No", "Yes"))


def chances(*tokens: Token) -> list[float] | None:
    slot_probabilities = read_slots(tokens, WORDS)
    return None if slot_probabilities is None else list(slot_probabilities[0].row())


def test_a_form_of_words_is_held_by_regex_and_schema() -> None:
    regex = form_regex(WORDS)
    assert [bool(re.fullmatch(regex, text)) for text in (
        '{"[1]": "Yes"}', '{"[1]": "No"}', '{"[1]": Yes}', '{"[1]": "Maybe"}', '{"[1]": "YesNo"}',
    )] == [True, True, False, False, False]  # fmt: skip
    assert form_schema(WORDS)["properties"] == {"[1]": {"type": "string", "enum": ["No", "Yes"]}}


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([('{"[1]": "', {}), ("Yes", {"Yes": 0.6, "No": 0.2}), ('"}', {})], [0.25, 0.75]),
        # What is no beginning of a word does not count; what is one does, cut or with its quote.
        ([('{"[1]": "', {}), ("No", {"Yes": 0.1, "Y": 0.1, 'Yes"': 0.1, "No": 0.2, "yes": 0.5}),
          ('"}', {})], [0.4, 0.6]),
        # Byte by byte, and in one token with what stands before.
        ([('{"[1]": "', {}), ("N", {"N": 0.3, "Y": 0.1}), ("o", {}), ('"}', {})], [0.75, 0.25]),
        ([('{"[1]":', {}), (' "Yes', {' "Yes': 0.4, ' "No': 0.1, ": No": 0.5}), ('"}', {})],
         [0.2, 0.8]),
        ([('{"[1]": "Yes"}', {'{"[1]": "Yes"}': 0.9, '{"[1]": "No': 0.1})], [0.1, 0.9]),
    ],
)  # fmt: skip
def test_the_probability_of_a_word_is_that_of_its_beginnings(tokens, expected) -> None:
    written = [Token(text, shares or {text: 1.0}) for text, shares in tokens]
    assert chances(*written) == pytest.approx(expected)


def test_of_words_that_were_not_offered_nothing_is_read() -> None:
    assert chances(Token('{"[1]": "', {}), Token("Yes", {"Maybe": 1.0}), Token('"}', {})) is None
    assert chances(*certain('{"[1]": "', "Perhaps", '"}')) is None
    assert chances(*certain('{"[1]": ', "Yes", "}")) is None


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.sampled_from(["Yes", "No"]))
def test_probabilities_of_words_sum_to_one(yes: float, no: float, word: str) -> None:
    tokens = (Token('{"[1]": "', {}), Token(word, {"Yes": yes, "No": no}), Token('"}', {}))
    assert chances(*tokens) == pytest.approx([no / (yes + no), yes / (yes + no)])
