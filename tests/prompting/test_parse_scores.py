"""The parser: what is read from a reply, what is refused by name, and what is never made up."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.prompting.parse_scores import expected_score, parse_scores, read_reply
from llmrankers_groupwise.testing import filled_reply, json_reply, slot_with_mean
from llmrankers_groupwise.types import Reply, Status

EXACT, REPAIRED, PARTIAL, FAILED = Status.EXACT, Status.REPAIRED, Status.PARTIAL, Status.FAILED

GOOD = {1: 7, 2: 0, 3: 10}
GOOD_JSON = '{"[1]": 7, "[2]": 0, "[3]": 10}'
GOOD_ANSWER = f"<answer>{GOOD_JSON}</answer>"
OTHER_ANSWER = '<answer>{"[1]": 1, "[2]": 2, "[3]": 3}</answer>'
PROMPT_EXAMPLE = '<reason>what you found</reason>\n<answer>{"[1]": 4, "[2]": 9}</answer>\n'


def answer_with(value):
    """An answer for n = 3 whose first score is `value`, as written."""
    return f'<answer>{{"[1]": {value}, "[2]": 0, "[3]": 10}}</answer>'


def assert_read(text, scores, status, n=3):
    read = parse_scores(text, n)
    assert dict(read.scores) == scores
    assert read.missing == tuple(label for label in range(1, n + 1) if label not in scores)
    assert read.status is status


# --- Complete answers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD_ANSWER, id="tagged"),
        pytest.param(f"<reason>why</reason>\n{GOOD_ANSWER}", id="after-the-reasoning"),
        pytest.param(f"<think>why</think>\n{GOOD_ANSWER}", id="after-thinking"),
        pytest.param(f"<answer>\n```json\n{GOOD_JSON}\n```\n</answer>", id="fenced-and-tagged"),
        pytest.param(f"<answer>\n```\n{GOOD_JSON}\n```\n</answer>", id="fenced-without-language"),
        pytest.param(f"```json\n{GOOD_JSON}\n```", id="fenced"),
        pytest.param(GOOD_JSON, id="bare"),
        pytest.param('{"[1]":7,"[2]":0,"[3]":10}', id="without-blanks"),
        pytest.param('{\n  "[1]": 7,\n  "[2]": 0,\n  "[3]": 10\n}', id="indented"),
        pytest.param('{"[3]": 10, "[1]": 7, "[2]": 0}', id="labels-in-another-order"),
        pytest.param(f"<ANSWER>{GOOD_JSON}</ANSWER>", id="tags-in-capitals"),
    ],
)
def test_an_answer_to_the_letter_is_exact(text):
    assert_read(text, GOOD, EXACT)


def test_scores_come_in_the_order_of_the_labels():
    assert list(parse_scores('{"[3]": 10, "[1]": 7, "[2]": 0}', 3).scores) == [1, 2, 3]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('<answer>{"[1]": 7, "[2]": 0, "[3]": 10,}</answer>', id="trailing-comma"),
        pytest.param("<answer>{'[1]': 7, '[2]': 0, '[3]': 10}</answer>", id="single-quotes"),
        pytest.param('{"[1]": "7", "[2]": "0", "[3]": "10"}', id="quoted-numbers"),
        pytest.param('{"[1]": " 7", "[2]": "0 ", "[3]": " 10 "}', id="quoted-and-padded-numbers"),
        pytest.param("{“[1]”: 7, “[2]”: 0, “[3]”: 10}", id="curly-quotes"),
        pytest.param('{"[1]": 7 "[2]": 0 "[3]": 10}', id="missing-commas"),
        pytest.param('{"[1]": 7\n"[2]": 0\n"[3]": 10}', id="lines-for-commas"),
        pytest.param('{"[1]": 7; "[2]": 0; "[3]": 10}', id="semicolons"),
        pytest.param('{"[1]"：7, "[2]"：0, "[3]"：10}', id="full-width-colon"),
        pytest.param('{"[1]": 7，"[2]": 0，"[3]": 10}', id="full-width-comma"),
        pytest.param('{"[1]" = 7, "[2]" = 0, "[3]" = 10}', id="equals-signs"),
        pytest.param('{"[1]": 7/10, "[2]": 0/10, "[3]": 10/10}', id="out-of-ten"),
        pytest.param('{"[1]": "7/10", "[2]": "0/10", "[3]": "10 / 10"}', id="quoted-out-of-ten"),
        pytest.param('{"[1]": 7.0, "[2]": 0.0, "[3]": 10.0}', id="decimals"),
        pytest.param('{"1": 7, "2": 0, "3": 10}', id="quoted-labels-without-brackets"),
        pytest.param("{1: 7, 2: 0, 3: 10}", id="bare-labels"),
        pytest.param("{[1]: 7, [2]: 0, [3]: 10}", id="bracketed-labels-without-quotes"),
        pytest.param('{"[ 1 ]": 7, "[ 2]": 0, "[3 ]": 10}', id="blanks-within-the-brackets"),
        pytest.param('{"[01]": 7, "[02]": 0, "[03]": 10}', id="labels-with-leading-zeros"),
        pytest.param('{"[1]": 7, // short\n"[2]": 0, # no\n"[3]": 10}', id="comments"),
        pytest.param('<answer>{"[1]": 7, "[2]": 0, "[3]": 10</answer>', id="brace-not-closed"),
        pytest.param('{"[1]": 7, "[2]": 0, "[3]": 10', id="cut-off-after-a-ten"),
        pytest.param('{"[1]": 7, "[2]": 0, "[3]": 10, "note": "done"}', id="extra-text-key"),
        pytest.param('{"[1]": 7, "[2]": 0, "[3]": 10, "best": 3}', id="extra-number-key"),
        pytest.param(
            '<answer>{"scores": {"[1]": 7, "[2]": 0, "[3]": 10}}</answer>', id="nested-once"
        ),
        pytest.param(
            '<answer>[{"[1]": 7}, {"[2]": 0}, {"[3]": 10}]</answer>', id="one-object-each"
        ),
        pytest.param("[1]: 7\n[2]: 0\n[3]: 10", id="lines"),
        pytest.param("<answer>[1]: 7\n[2]: 0\n[3]: 10</answer>", id="tagged-lines"),
        pytest.param("<answer>\n[1]: 7\n\n[2]: 0\n\n[3]: 10\n</answer>", id="lines-set-apart"),
        pytest.param("<answer>[1]: 7, [2]: 0, [3]: 10</answer>", id="tagged-entries-of-one-line"),
        pytest.param("1: 7\n2: 0\n3: 10", id="lines-with-bare-labels"),
        pytest.param("- [1]: 7\n- [2]: 0\n- [3]: 10", id="bulleted-lines"),
        pytest.param("**[1]**: 7\n**[2]**: 0\n**[3]**: 10", id="bold-labels"),
        pytest.param("[1] - 7\n[2] – 0\n[3] — 10", id="dashes"),
        pytest.param("[1] -> 7\n[2] -> 0\n[3] -> 10", id="arrows"),
        pytest.param("[1]: 7/10\n[2]: 0/10\n[3]: 10/10", id="lines-out-of-ten"),
        pytest.param("[1]: 7\r\n[2]: 0\r\n[3]: 10\r\n", id="lines-of-another-system"),
        pytest.param("Passage 1: 7\nPassage 2: 0\nPassage 3: 10", id="lines-with-a-noun"),
        pytest.param(
            "[1] is about it. Score: 7\n[2] is not. Score: 0\n[3] says it all. Score: 10.",
            id="remark-then-score-by-name",
        ),
        pytest.param(
            "[1] part (Relevance Score: 7)\n[2] no (Relevance: 0)\n[3] all (rating 10)",
            id="score-by-name-in-parentheses",
        ),
    ],
)
def test_a_reply_with_every_score_in_need_of_mending_is_repaired(text):
    assert_read(text, GOOD, REPAIRED)


@given(st.text(alphabet='[]0123 ٣"', max_size=5), st.integers(1, 12))
def test_only_the_contracts_own_label_is_exact(label, n):
    others = [f"[{other}]" for other in range(1, n)]
    exact = parse_scores(json.dumps(dict.fromkeys([*others, label], 5)), n).status is EXACT
    assert exact == (label == f"[{n}]")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD_JSON + "x" * 10, id="bare"),
        pytest.param(f"Scores below.\n{GOOD_JSON}\nThat is all.", id="bare-with-prose-around"),
    ],
)
def test_prose_around_a_bare_object_does_not_matter(text):
    assert parse_scores(text, 3).scores == GOOD


# --- Incomplete answers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "n", "scores"),
    [
        pytest.param('<answer>{"[1]": 7, "[2]": 1, "[3]":', 3, {1: 7, 2: 1}, id="before-a-score"),
        pytest.param('<answer>{"[1]": 7, "[2]": 5', 3, {1: 7, 2: 5}, id="after-a-five"),
        pytest.param('<answer>{"[1]": 7, "[2', 3, {1: 7}, id="within-a-label"),
        pytest.param('<answer>{"[7]": 3, "[8]": 10', 9, {7: 3, 8: 10}, id="after-a-ten"),
        pytest.param('{"[6]": 4, "[7]": 1', 9, {6: 4}, id="a-one-that-could-become-a-ten"),
        pytest.param('<answer>{"[1]": 7, "[2]": "1', 3, {1: 7}, id="a-quoted-one"),
        pytest.param('{"[1]": 7, "[2]": 0, "[3]": 1', 3, {1: 7, 2: 0}, id="a-one-for-the-last"),
        pytest.param("[1]: 7\n[2]: 1", 3, {1: 7}, id="a-one-that-ends-the-lines"),
        pytest.param("[1]: 7\n[2]: 1\n", 3, {1: 7, 2: 1}, id="a-one-on-a-line-that-ended"),
        pytest.param('{"[1]": 7, "[2]": 1,', 3, {1: 7, 2: 1}, id="a-one-with-its-comma"),
    ],
)
def test_a_cut_off_reply_keeps_the_scores_that_are_whole(text, n, scores):
    assert_read(text, scores, PARTIAL, n)


def test_a_one_where_ten_could_have_stood_is_refused_by_name():
    read = parse_scores('{"[6]": 4, "[7]": 1', 9)
    assert read.refused == ("[7]: 1: cut off where it could be 10",)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('<answer>{"[1]": 7, "[2]": 0, "[3]": 1}</answer>', id="closed-object"),
        pytest.param('<answer>{"[1]": 7, "[2]": 0, "[3]": 1}', id="closed-object-open-tag"),
        pytest.param('<answer>{"[1]": 7, "[2]": 0, "[3]": 1</answer>', id="closed-tag"),
        pytest.param("[1]: 7\n[2]: 0\n[3]: 1", id="last-label-of-lines"),
    ],
)
def test_a_one_at_the_end_of_a_whole_answer_is_a_one(text):
    assert parse_scores(text, 3).scores == {1: 7, 2: 0, 3: 1}


@pytest.mark.parametrize(
    ("value", "line"),
    [
        pytest.param("95", "[1]: 95: outside 0..10", id="95"),
        pytest.param("11", "[1]: 11: outside 0..10", id="11"),
        pytest.param("10.5", "[1]: 10.5: outside 0..10", id="10.5"),
        pytest.param("-1", "[1]: -1: outside 0..10", id="minus-one"),
        pytest.param("1e3", "[1]: 1e3: outside 0..10", id="1e3"),
        pytest.param("9" * 400, f"[1]: {'9' * 20}: outside 0..10", id="a-number-without-end"),
        pytest.param("NaN", "[1]: NaN: not a number", id="NaN"),
        pytest.param("Infinity", "[1]: Infinity: not a number", id="Infinity"),
        pytest.param("-Infinity", "[1]: -Infinity: not a number", id="minus-Infinity"),
        pytest.param("true", "[1]: true: not a number", id="true"),
        pytest.param("false", "[1]: false: not a number", id="false"),
        pytest.param("null", "[1]: null: not a number", id="null"),
        pytest.param("None", "[1]: None: not a number", id="None"),
        pytest.param("7 or 8", "[1]: 7: more follows than a score", id="two-scores"),
        pytest.param("7-8", "[1]: 7: more follows than a score", id="a-range"),
        pytest.param("7/19", "[1]: 7: more follows than a score", id="out-of-another-number"),
        pytest.param("70%", "[1]: 70: more follows than a score", id="percent"),
        pytest.param("0x7", "[1]: 0: more follows than a score", id="hexadecimal"),
    ],
)
def test_a_value_that_is_no_score_is_refused_by_name_and_the_others_are_kept(value, line):
    assert_read(answer_with(value), {2: 0, 3: 10}, PARTIAL)
    assert parse_scores(answer_with(value), 3).refused == (line,)


WITHOUT_A_NUMBER = [
    pytest.param('"high"', id="a-word"),
    pytest.param('""', id="an-empty-text"),
    pytest.param("[7]", id="a-list"),
    pytest.param("~7", id="about-seven"),
    pytest.param("²", id="superscript"),
]


@pytest.mark.parametrize("value", WITHOUT_A_NUMBER)
def test_a_value_that_does_not_start_with_a_number_gives_no_score(value):
    assert_read(answer_with(value), {2: 0, 3: 10}, PARTIAL)


@pytest.mark.parametrize("value", WITHOUT_A_NUMBER)
def test_a_value_that_does_not_start_with_a_number_is_refused_by_name(value):
    (line,) = parse_scores(answer_with(value), 3).refused
    assert line.startswith("[1]: ")


def test_labels_outside_the_group_are_refused_and_the_others_kept():
    text = '<answer>{"[0]": 9, "[1]": 7, "[2]": 0, "[3]": 10, "[4]": 5}</answer>'
    assert_read(text, GOOD, REPAIRED)
    assert parse_scores(text, 3).refused == (
        "[0]: 9: no label of this group (1..3)",
        "[4]: 5: no label of this group (1..3)",
    )


def test_the_last_score_of_a_duplicate_label_wins():
    assert_read('{"[1]": 3, "[2]": 0, "[3]": 10, "[1]": 7}', GOOD, REPAIRED)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('<answer>{"[1]": 95}</answer>', id="tagged"),
        pytest.param('{"[1]": 95}', id="bare"),
        pytest.param("<think>no</think>\n[1]: 95", id="after-thinking"),
    ],
)
def test_what_was_refused_is_said_once(text):
    assert parse_scores(text, 1).refused == ("[1]: 95: outside 0..10",)


# --- Nothing to read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n\t\n", id="blank"),
        pytest.param("Of the 5 passages, 3 are relevant to the query.", id="digits-in-prose"),
        pytest.param(
            "Of the 5 passages, 3: the first, the second and the last.", id="colon-in-prose"
        ),
        pytest.param("²", id="superscript"),
        pytest.param("[²]: 3", id="superscript-label"),
        pytest.param("[2] > [1] > [3]", id="ranking"),
        pytest.param("[Start] [2] > [1] > [3] [End]", id="ranking-between-markers"),
        pytest.param("2 > 1 > 3", id="ranking-without-brackets"),
        pytest.param("1. [2]\n2. [1]\n3. [3]", id="numbered-ranking"),
        pytest.param("Rank 1: [2]\nRank 2: [1]\nRank 3: [3]", id="named-ranks"),
        pytest.param("[2], [1], [3]", id="list-of-labels"),
        pytest.param("1. good\n2. bad\n3. fair", id="numbered-remarks"),
        pytest.param("[1] is highly relevant.\n[2] is not.", id="remarks"),
        pytest.param("[1] shows it. Relevance: High", id="relevance-in-words"),
        pytest.param("[1] shows it. Relevance: 5/19", id="out-of-another-number"),
        pytest.param("<answer></answer>", id="empty-answer"),
        pytest.param("<answer>{}</answer>", id="empty-object"),
        pytest.param("<answer>[2]</answer>", id="one-label"),
        pytest.param("<answer>[7, 0, 10]</answer>", id="scores-without-labels"),
        pytest.param('<answer>{"[4]": 7, "[5]": 0}</answer>', id="labels-of-another-group"),
        pytest.param("I cannot help with that.", id="refusal"),
        pytest.param(
            "Error code: 429 - {'error': {'message': 'Limit 3, used 3, requested 1', 'code': 429}}",
            id="an-error-of-the-service",
        ),
    ],
)
def test_a_reply_without_scores_is_failed(text):
    assert_read(text, {}, FAILED)


# --- Which answer counts ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PROMPT_EXAMPLE + GOOD_ANSWER, id="after-the-prompts-example"),
        pytest.param(
            f'For instance <answer>{{"[1]": 5, "[2]": 3}}</answer>. Mine: {GOOD_ANSWER}',
            id="after-an-example",
        ),
        pytest.param(f"<reason>Not {OTHER_ANSWER}.</reason>{GOOD_ANSWER}", id="after-a-quoted-one"),
        pytest.param(f"<think>Not {OTHER_ANSWER}.</think>{GOOD_ANSWER}", id="after-a-thought-one"),
        pytest.param(f"Not {OTHER_ANSWER}.</think>{GOOD_ANSWER}", id="thinking-never-opened"),
        pytest.param(f"Not {OTHER_ANSWER}.</reason>{GOOD_ANSWER}", id="reasoning-never-opened"),
        pytest.param(f"<reason>[1] and then {GOOD_ANSWER}", id="reasoning-never-closed"),
        pytest.param(f"<reason>No {OTHER_ANSWER} but {GOOD_ANSWER}", id="draft-never-closed"),
        pytest.param(f"{OTHER_ANSWER}\nNo: {GOOD_ANSWER}", id="the-last-of-two"),
        pytest.param(f"{GOOD_ANSWER}\n<answer>{{'[1]': 2", id="the-whole-one-before-a-torn-one"),
        pytest.param(f"{GOOD_ANSWER}\n{PROMPT_EXAMPLE}", id="the-whole-one-before-an-example"),
        pytest.param(f"{GOOD_JSON}\nas in {{'[1]': 4}}", id="the-whole-bare-one"),
        pytest.param(
            f"<reason>I use <answer> tags.</reason>\n{GOOD_ANSWER}", id="tag-named-in-the-reasoning"
        ),
        pytest.param(f"<think>a</think><reason>b</reason>{GOOD_ANSWER}", id="thinking-and-reasons"),
        pytest.param(f"<THINK>{OTHER_ANSWER}</THINK>{GOOD_ANSWER}", id="thinking-in-capitals"),
    ],
)
def test_the_last_whole_answer_outside_the_reasoning_counts(text):
    assert_read(text, GOOD, EXACT)


def test_a_whole_bare_answer_counts_after_the_prompts_example_in_tags():
    assert parse_scores(PROMPT_EXAMPLE + GOOD_JSON, 3).scores == GOOD


def test_a_correction_counts_after_a_draft_with_a_foreign_label():
    draft = '<answer>{"[1]": 1, "[2]": 2, "[3]": 5}</answer>'
    assert_read(
        f'{draft} Two only. <answer>{{"[1]": 9, "[2]": 8}}</answer>', {1: 9, 2: 8}, EXACT, n=2
    )


def test_an_object_in_another_is_read_but_not_exact():
    assert_read('{"scores": {"[1]": 9, "[2]": 8}}', {1: 9, 2: 8}, REPAIRED, n=2)


def test_a_negative_probability_is_refused():
    row = (1.5, *(0.0,) * 9, -0.5)
    assert read_reply(Reply(slot_probabilities=(row,)), 1).status is FAILED


def test_the_reasoning_reaches_to_its_last_closing_tag():
    text = f'<reason>I end with </reason> later. {OTHER_ANSWER}</reason><answer>{{"[1]": 7, "[2'
    assert_read(text, {1: 7}, PARTIAL)


def test_an_answer_to_every_label_within_the_reasoning_is_taken_if_there_is_no_other():
    assert_read(f"<reason>So: {GOOD_ANSWER}</reason>", GOOD, REPAIRED)
    assert_read(f"<reason>So: {GOOD_JSON}", GOOD, REPAIRED)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('<reason>e.g. <answer>{"[1]": 5, "[2]": 3}</answer></reason>', id="quoted"),
        pytest.param("<think>[1]: 7\n[2]: 0\n", id="never-closed"),
        pytest.param("[1]: 7\n[2]: 0\n</think>\nI am not sure.", id="never-opened"),
    ],
)
def test_half_an_answer_within_the_reasoning_is_none(text):
    assert_read(text, {}, FAILED)


# --- The shapes that break other parsers (lessons.md) -----------------------------------------


@pytest.mark.parametrize(
    ("text", "scores", "status"),
    [
        pytest.param('{"[1]": 7, "[2]": 0, "[3]": 10,}', GOOD, REPAIRED, id="trailing-comma"),
        pytest.param(
            '{"[1]": 7, "[2]": 0, "[3]": 10, "summary": 1}', GOOD, REPAIRED, id="extra-key"
        ),
        pytest.param('{"[1]": 7, "[2]": "0", "[3]": 10}', GOOD, REPAIRED, id="one-quoted-number"),
        pytest.param('{"[1]": 7, "[2]": 0, "[3', {1: 7, 2: 0}, PARTIAL, id="cut-off"),
        pytest.param(
            '{"[0]": 9, "[1]": 7, "[2]": 0}', {1: 7, 2: 0}, PARTIAL, id="label-0-is-not-the-last"
        ),
        pytest.param('{"[1]": 7, "[3]": 10}', {1: 7, 3: 10}, PARTIAL, id="omitted-document"),
        pytest.param(
            '{"[1]": 95, "[2]": 0, "[3]": 10}', {2: 0, 3: 10}, PARTIAL, id="95-is-not-9.5"
        ),
        pytest.param(
            f'<answer>{{"[1]": 5, "[2]": 3}}</answer>{GOOD_ANSWER}', GOOD, EXACT, id="own-example"
        ),
        pytest.param(
            f"<reason>{OTHER_ANSWER}</reason>{GOOD_ANSWER}", GOOD, EXACT, id="answer-in-reasoning"
        ),
        pytest.param("Of the 3 passages, 2 are good: 1.", {}, FAILED, id="digits-in-prose"),
        pytest.param("10 m² of 3 m²: ²", {}, FAILED, id="superscript"),
        pytest.param(
            "openai.RateLimitError: 429, retry in 1: 2 of 3", {}, FAILED, id="text-of-an-error"
        ),
    ],
)
def test_a_shape_that_breaks_other_parsers(text, scores, status):
    assert_read(text, scores, status)


# --- What holds for any text ------------------------------------------------------------------

fragments = st.sampled_from(
    [
        *("<answer>", "</answer>", "<reason>", "</reason>", "<think>", "</think>", "```json\n"),
        *(
            "{",
            "}",
            "[",
            "]",
            '"',
            "'",
            ":",
            "：",
            ",",
            "，",
            ";",
            "\n",
            " ",
            "->",
            "-",
            "/10",
            ".",
        ),
        *('"[1]": ', '"[2]": ', "[3]: ", "[0]: ", "[4]: ", "1: ", "[²]", "²", "７", "٣"),
        *("0", "1", "10", "7", "95", "-1", "1e9", "NaN", "Infinity", "true", "null", "inf"),
        *("Score: 6", "Relevance", "Passage ", "because", "\x00", "\u2028", "ſ", "İ"),
    ]
)
texts_of_fragments = st.lists(fragments | st.text(max_size=3), max_size=40).map("".join)


def assert_consistent(read, n):
    assert sorted([*read.scores, *read.missing]) == list(range(1, n + 1))
    assert list(read.missing) == sorted(read.missing)
    assert all(0 <= score <= 10 for score in read.scores.values())
    if not read.scores:
        assert read.status is FAILED
    elif read.missing:
        assert read.status is PARTIAL
    else:
        assert read.status in (EXACT, REPAIRED)


@given(st.text(), st.integers(1, 25))
def test_any_text_is_read_without_raising(text, n):
    assert_consistent(parse_scores(text, n), n)


@given(texts_of_fragments, st.integers(1, 4))
def test_any_text_of_fragments_of_answers_is_read_without_raising(text, n):
    assert_consistent(parse_scores(text, n), n)


@given(st.lists(st.integers(0, 10), min_size=1, max_size=20), st.data())
def test_a_reply_that_keeps_the_contract_is_exact_whatever_its_reasoning_says(scores, data):
    prose = data.draw(texts_of_fragments | st.text())
    afterthought = data.draw(st.text().map(lambda text: text.replace("<", "")))
    labels = data.draw(st.permutations(range(1, len(scores) + 1)))
    body = json.dumps(
        {f"[{label}]": scores[label - 1] for label in labels},
        indent=data.draw(st.sampled_from([None, 2])),
    )
    if data.draw(st.booleans()):
        body = f"\n```json\n{body}\n```\n"
    read = parse_scores(
        f"<reason>{prose}</reason>\n<answer>{body}</answer>{afterthought}", len(scores)
    )
    assert read.scores == dict(enumerate(scores, start=1))
    assert read.status is EXACT
    assert read.refused == ()


@given(st.lists(st.integers(0, 10), min_size=1, max_size=20), st.data())
def test_a_cut_off_answer_gives_no_score_that_was_not_meant(scores, data):
    whole = json_reply(scores)
    read = parse_scores(whole[: data.draw(st.integers(0, len(whole)))], len(scores))
    assert all(scores[label - 1] == score for label, score in read.scores.items())


# --- Long texts -------------------------------------------------------------------------------

MANY = 100_000
ADVERSARIAL = {
    "braces": "{" * MANY,
    "closed-braces": "{}" * MANY,
    "brackets": "[" * MANY,
    "quotes": '"' * MANY,
    "lines": "\n" * MANY,
    "blank-lines": " \n" * MANY,
    "blanks": " " * MANY + "x",
    "bullets": "> " * MANY,
    "stars": "*" * MANY,
    "digits": "1" * MANY,
    "reasons": "<reason>" * MANY,
    "closed-reasons": "</reason>" * MANY,
    "answers": "<answer>" * MANY,
    "closed-answers": "</answer>" * MANY,
    "labels": "[1]: " * MANY,
    "quoted-labels": '"[1]" ' * MANY,
    "score-lines": "[1]: 7\n" * MANY,
    "nested-objects": '{"[1]":' * MANY,
    "nested-lists": '{"[1]": ' + "[" * MANY,
    "scores-by-name": "[1] " + "score " * MANY,
    "a-score-of-many-digits": '{"[1]": ' + "7" * MANY,
    "a-score-of-many-decimals": "[1] score 7." + "7" * MANY + "x",
    "blanks-before-a-slash": "[1]: 7" + " " * MANY + "/",
    "blanks-after-a-label": "<answer>[1]" + " " * MANY,
    "blanks-after-a-colon": "<answer>[1]:" + " " * MANY,
    "lines-after-a-colon": '<answer>{"[1]":' + "\n" * MANY,
    "blanks-after-a-named-score": "[1] score" + " " * MANY,
    "stars-after-a-named-score": "[1] score" + "*" * MANY,
}


@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=ADVERSARIAL.keys())
def test_a_long_text_is_read_to_its_end(in_a_process, text):
    code = (
        "from llmrankers_groupwise.prompting.parse_scores import parse_scores; "
        "print(parse_scores(text, 20).status)"
    )
    assert in_a_process(code, text) in list(Status)


# --- Replies of engines -----------------------------------------------------------------------


def test_a_text_reply_is_parsed():
    assert read_reply(Reply(text=GOOD_ANSWER), 3) == parse_scores(GOOD_ANSWER, 3)


def test_the_expected_score_is_the_sum_of_scores_by_their_probabilities():
    row = (0.1, 0, 0, 0.2, 0, 0, 0, 0.3, 0, 0, 0.4)
    assert expected_score(row) == pytest.approx(0 * 0.1 + 3 * 0.2 + 7 * 0.3 + 10 * 0.4)


def test_blanks_give_expected_scores():
    slot_probabilities = (
        (0.0,) * 7 + (0.25, 0.75, 0.0, 0.0),
        (1.0,) + (0.0,) * 10,
        (0.0,) * 10 + (1.0,),
    )
    read = read_reply(Reply(slot_probabilities=slot_probabilities), 3)
    assert read.scores == pytest.approx({1: 7 * 0.25 + 8 * 0.75, 2: 0.0, 3: 10.0})
    assert (read.missing, read.status, read.refused) == ((), EXACT, ())


def test_blanks_count_and_not_the_text_beside_them():
    reply = Reply(text=OTHER_ANSWER, slot_probabilities=filled_reply([7, 0, 10]).slot_probabilities)
    assert read_reply(reply, 3).scores == pytest.approx(GOOD)


def test_rounding_does_not_lift_a_score_over_ten():
    row = (0.0,) * 10 + (1.0000001,)
    assert read_reply(Reply(slot_probabilities=(row,)), 1).scores == {1: 10.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 2.0, 0.0, 0.5], ids=str)
def test_a_row_that_is_no_distribution_is_refused_and_missing(value):
    slot_probabilities = (slot_with_mean(7.0), (0.0,) * 10 + (value,), slot_with_mean(3.5))
    read = read_reply(Reply(slot_probabilities=slot_probabilities), 3)
    assert read.scores == {1: 7.0, 3: 3.5}
    assert (read.missing, read.status) == ((2,), PARTIAL)
    assert read.refused == (f"[2]: probabilities that sum to {value}",)


def test_when_every_row_is_refused_the_reply_is_failed():
    read = read_reply(Reply(slot_probabilities=((float("nan"),) * 11,) * 2), 2)
    assert (dict(read.scores), read.missing, read.status) == ({}, (1, 2), FAILED)


def test_an_error_reply_is_failed_even_if_its_text_looks_like_an_answer():
    read = read_reply(Reply(text=GOOD_ANSWER, error="429 Too Many Requests"), 3)
    assert (dict(read.scores), read.missing, read.status) == ({}, (1, 2, 3), FAILED)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20))
def test_filled_replies_have_the_scores_they_were_made_from(tenths):
    means = [tenth / 10 for tenth in tenths]
    read = read_reply(filled_reply(means), len(means))
    assert read.scores == pytest.approx(dict(enumerate(means, start=1)))


# --- Recorded replies of GPT-3.5 and GPT-4 ----------------------------------------------------
# Asked to score 20 passages from 0 to 19 and to rank them: scores over 10 are refused here.


@pytest.fixture(scope="module")
def recorded(shared):
    """The replies, by 1-based line number."""
    path = shared / "recordings" / "gpt_score_then_rank_dl19.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    return {number: json.loads(line)["response"] for number, line in enumerate(lines, start=1)}


def test_every_recorded_reply_is_read_without_raising(recorded):
    for text in recorded.values():
        assert_consistent(parse_scores(text, 20), 20)


def test_the_statuses_of_the_recorded_replies(recorded):
    """A sample of each was read by eye.

    Repaired and partial ones are lines `[n] - 7`, or `[n] ...` with `Score: 7` at the end of that
    line or of a later one (91, 105, 116). Most failed ones are rankings, or passages copied; a few
    have their scores in a form that is not read: as 5/19 (80), in brackets (122), without a sign
    (165).
    """
    statuses = Counter(parse_scores(text, 20).status for text in recorded.values())
    assert statuses == {REPAIRED: 8, PARTIAL: 105, FAILED: 237}


@pytest.mark.parametrize(
    ("line", "scores"),
    [
        pytest.param(
            1,
            {5: 10, 7: 9, 8: 8, 9: 7, 10: 6, 14: 1, 15: 0, 16: 5, 18: 4, 19: 3, 20: 2},
            id="remarks-then-dashed-scores-then-a-ranking",
        ),
        pytest.param(
            13,
            {1: 0, 7: 10, 9: 9, 10: 8, 12: 7, 13: 6, 15: 5, 16: 4, 17: 3, 18: 2, 19: 1},
            id="remarks-with-dashes-then-dashed-scores",
        ),
        pytest.param(
            21, dict.fromkeys(range(1, 21), 0) | {6: 1, 12: 1}, id="passage-label-relevance"
        ),
        pytest.param(
            60,
            {1: 6, 2: 5, 3: 6, 4: 7, 5: 4, 6: 9, 7: 5, 8: 5, 9: 4, 10: 5}
            | {11: 6, 12: 6, 13: 8, 14: 3, 15: 2, 16: 4, 17: 7, 18: 4, 19: 4, 20: 2},
            id="scores-in-order-of-rank-each-above-its-remark",
        ),
        pytest.param(71, {5: 10, 6: 8, 7: 7, 8: 6, 13: 9}, id="some-passages-left-out"),
        pytest.param(
            108,
            {1: 2, 2: 3, 3: 4, 4: 1, 5: 1, 6: 3, 7: 5, 8: 2, 9: 4, 10: 5}
            | {11: 5, 12: 5, 13: 3, 14: 5, 15: 5, 16: 5, 17: 5, 18: 4, 19: 4, 20: 2},
            id="summaries-with-scores-in-parentheses",
        ),
        pytest.param(
            130,
            {1: 2, 2: 3, 3: 1, 4: 4, 5: 0, 6: 5, 7: 2, 8: 0, 9: 4, 10: 0, 11: 0, 12: 4}
            | {13: 2, 14: 5, 15: 4, 16: 5, 17: 5},
            id="cut-off-within-a-copied-passage",
        ),
        pytest.param(161, {4: 4, 6: 6, 7: 10, 9: 2, 11: 8}, id="score-above-a-copied-passage"),
        pytest.param(174, dict.fromkeys([*range(1, 11), *range(12, 21)], 0), id="all-zero-but-one"),
        pytest.param(194, {2: 10, 3: 10, 6: 4, 8: 2, 10: 10, 14: 8}, id="in-numbered-steps"),
        pytest.param(
            239,
            {1: 4, 2: 6, 3: 10, 4: 8, 5: 1, 6: 5, 7: 3, 8: 7, 9: 9, 18: 2, 20: 0},
            id="bare-labels-after-a-list-with-bare-labels",
        ),
    ],
)
def test_a_recorded_reply_with_scores(recorded, line, scores):
    assert parse_scores(recorded[line], 20).scores == scores


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(2, id="relevance-in-words-then-a-ranking"),
        pytest.param(3, id="prose-then-a-ranking"),
        pytest.param(80, id="relevance-out-of-nineteen"),
        pytest.param(200, id="ranking-alone"),
        pytest.param(278, id="copied-passages-with-fractions"),
        pytest.param(309, id="copied-passages-without-a-ranking"),
        pytest.param(345, id="ranking-without-markers"),
    ],
)
def test_a_recorded_reply_without_scores_is_failed(recorded, line):
    read = parse_scores(recorded[line], 20)
    assert (dict(read.scores), read.status) == ({}, FAILED)


def test_a_recorded_reply_whose_scores_are_all_over_ten_is_failed(recorded):
    read = parse_scores(recorded[20], 20)
    assert read.status is FAILED
    assert set(read.refused) == {
        "[13]: 19: outside 0..10",
        "[9]: 18: outside 0..10",
        "[6]: 17: outside 0..10",
        "[2]: 16: outside 0..10",
    }
