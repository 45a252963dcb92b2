"""Orders and choices read from replies, in all the shapes that models give them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.prompting.parse_orders import check_order_rule, read_choice, read_order
from llmrankers_groupwise.types import GroupScores, Reply, Status

RANK_R1 = r"<think>.*?</think>\s*<answer>(.*?)</answer>"
TAGS = r"<answer>(.*?)</answer>"
BUNDLED = r"<answer>\s*\[?(\d+)\]?\s*</answer>"


def labels(read: GroupScores) -> list[int]:
    """The labels that have a score, best first."""
    return sorted(read.scores, key=lambda label: -read.scores[label])


# --- Orders -----------------------------------------------------------------------------------

WHOLE = {  # every one says 3, 1, 2
    "as asked for": ("[3] > [1] > [2]", Status.EXACT),
    "blanks around it": ("\n [3] > [1] > [2] \n", Status.EXACT),
    "in tags": ("<answer>[3] > [1] > [2]</answer>", Status.EXACT),
    "behind reasoning": ("<think>[1] > [2] > [3]?</think>\n[3] > [1] > [2]", Status.EXACT),
    "behind reasoning, in tags": (
        "<think>[1] > [2]</think><answer>[3] > [1] > [2]</answer>",
        Status.EXACT,
    ),
    "without blanks": ("[3]>[1]>[2]", Status.REPAIRED),
    "blanks in brackets": ("[ 3 ] > [1 ] > [ 2]", Status.REPAIRED),
    "a sentence": ("The order is [3] > [1] > [2].", Status.REPAIRED),
    "commas": ("[3], [1], [2]", Status.REPAIRED),
    "blanks": ("[3] [1] [2]", Status.REPAIRED),
    "lines": ("[3]\n[1]\n[2]", Status.REPAIRED),
    "lines of Windows": ("[3]\r\n[1]\r\n[2]\r\n", Status.REPAIRED),
    "a list that goes on in a line of Windows": ("[3] > [1] >\r\n[2]\r\n", Status.REPAIRED),
    "lines that end in a sign": ("[3] >\n[1] >\n[2]", Status.REPAIRED),
    "a numbered list": ("1. [3]\n2. [1]\n3. [2]", Status.REPAIRED),
    "a list numbered with )": ("1) [3]\n2) [1]\n3) [2]\n", Status.REPAIRED),
    "a numbered list with remarks": (
        "1. [3]: names fleas\n2. [1]: of 2019\n3. [2]: no",
        Status.REPAIRED,
    ),
    "bullets with remarks": ("- [3] names fleas\n- [1] see [2]\n- [2] does not", Status.REPAIRED),
    "Markdown": ("**[3]** > **[1]** > **[2]**", Status.REPAIRED),
    "words before labels": ("Passage [3] > passage [1] > Document [2]", Status.REPAIRED),
    "the first bracket lost": ("3] > [1] > [2]", Status.REPAIRED),
    "the first brackets lost": ("3 > [1] > [2]", Status.REPAIRED),
    "brackets lost in the middle": ("[3] > 1 > [2]", Status.REPAIRED),
    "the last bracket cut off": ("[3] > [1] > [2", Status.REPAIRED),
    "no brackets": ("3 > 1 > 2", Status.REPAIRED),
    "no brackets, a sentence": ("I say 3 > 1 > 2.", Status.REPAIRED),
    "fullwidth": ("［３］＞［１］＞［２］", Status.REPAIRED),
    "brackets of Chinese": ("【3】、【1】、【2】", Status.REPAIRED),
    "a label again": ("[3] > [1] > [3] > [2]", Status.REPAIRED),
    "in a loop": ("[3] > [1] > [2] > " * 50, Status.REPAIRED),
    "one label too many": ("[3] > [1] > [2] > [4]", Status.REPAIRED),
    "two answers": (
        "<answer>[1] > [2] > [3]</answer> No! <answer>[3] > [1] > [2]</answer>",
        Status.EXACT,
    ),
    "two lists": ("[1] > [2] > [3]\n[3] > [1] > [2]", Status.REPAIRED),
    "a longer list before a shorter one": ("[3] > [1] > [2]\n\nas [2] > [1] said", Status.REPAIRED),
    "a list of brackets, a longer one without": (
        "4 > 3 > 2 > 1, so [3], [1], [2]",
        Status.REPAIRED,
    ),
    "all in commas, and a remark": ("[3], [1], [2], because of [1] > [2]", Status.REPAIRED),
    "the answer quoted in reasoning": (
        "<think>say <answer>[1] > [2] > [3]</answer></think>[3] > [1] > [2]",
        Status.EXACT,
    ),
    "an answer in tags without a list": (
        "[3] > [1] > [2] <answer>as said</answer>",
        Status.REPAIRED,
    ),
    "an answer that is not closed": ("<answer>[3] > [1] > [2]", Status.EXACT),
    "a year and a number": ("In 2019, 3 of 5 said [3] > [1] > [2]", Status.REPAIRED),
    "remarks about each, then the order": (
        "[1] is old.\n[2] is short.\n[3] is good.\n\n[3] > [1] > [2]",
        Status.REPAIRED,
    ),
}


@pytest.mark.parametrize("shape", WHOLE)
def test_an_order_of_all_labels_is_read(shape):
    text, status = WHOLE[shape]
    read = read_order(Reply(text), 3)
    assert read.scores == {3: 3.0, 1: 2.0, 2: 1.0}
    assert (read.missing, read.status) == ((), status)


PARTS = {  # text of a list of 4, the labels that have a place
    "missing ones": ("[3] > [1]", [3, 1]),
    "cut off": ("[3] > [1] > [", [3, 1]),
    "numbers of no label": ("[9] > [3] > [0] > [1]", [3, 1]),
    "an aside in commas": ("[1], [2], [4] do not help. The order is [3] > [1]", [3, 1]),
    "one label": ("The best is [3].", [3]),
    "one label, twice": ("[3]. I am sure of [3].", [3]),
}


@pytest.mark.parametrize("shape", PARTS)
def test_an_order_of_some_labels_leaves_the_others_missing(shape):
    text, expected = PARTS[shape]
    read = read_order(Reply(text), 4)
    assert labels(read) == expected
    assert read.missing == tuple(sorted({1, 2, 3, 4} - set(expected)))
    assert read.status is Status.PARTIAL
    assert [read.scores[label] for label in expected] == [4.0, 3.0][: len(expected)]


NONE = {
    "nothing": "",
    "prose": "Of the 5 passages, 3 are about fleas, 2 about 1999.",
    "prose with labels": "Both [1] and also [2] are about fleas.",
    "decimals": "1.5 > 1.2 > 0.3",
    "of a loop": "Home / News / Home / News",
    "years": "since 2019 > 2010",
    "only reasoning": "<think>[3] > [1] > [2]",
    "closed reasoning": "<think>[3] > [1] > [2]</think>",
    "other labels": "[7] > [8]",
    "digits of other scripts": "٣ > ١",
    "a superscript": "² > ¹",
    "a long number": "9" * 5000,
}


@pytest.mark.parametrize("shape", NONE)
def test_what_is_no_order_fails(shape):
    read = read_order(Reply(NONE[shape]), 3)
    assert (read.scores, read.missing, read.status) == ({}, (1, 2, 3), Status.FAILED)


def test_a_label_of_no_passage_is_refused_by_name_once():
    read = read_order(Reply("[4] > [2] > [0] > [4] > [1]"), 2)
    assert read.refused == (
        "[4]: no label of this list (1..2)",
        "[0]: no label of this list (1..2)",
    )
    assert (labels(read), read.status) == ([2, 1], Status.REPAIRED)


def test_an_error_is_no_order_whatever_it_says():
    for rule in ("labels", "rank_llm"):
        read = read_order(Reply("[1] > [2]", error="[2] > [1]"), 2, rule)
        assert (read.status, read.missing) == (Status.FAILED, (1, 2))


RANK_LLM = {  # text, the labels of 1..3 in their order, status
    "as asked for": ("[3] > [1] > [2]", [3, 1, 2], Status.EXACT),
    "a bracket lost": ("3] > [1] > [2]", [3, 1, 2], Status.REPAIRED),
    "every number counts": ("2 passages of 2019: [3] > [1]", [2, 3, 1], Status.REPAIRED),
    "numberings count": ("1. [3]\n2. [1]\n3. [2]", [1, 3, 2], Status.REPAIRED),
    "only behind the last </think>": ("2</think>1</think>[3]", [3], Status.PARTIAL),
    "open thinking counts": ("<think>[2]", [2], Status.PARTIAL),
    "digits of other styles": ("③ > １ > ٢", [3, 1, 2], Status.REPAIRED),
    "a superscript": ("²", [2], Status.PARTIAL),
    "zeros in front": ("[0003] > [01]", [3, 1], Status.PARTIAL),
    "a long number": ("9" * 5000, [], Status.FAILED),
    "nothing": ("passages are provided.", [], Status.FAILED),
}


@pytest.mark.parametrize("shape", RANK_LLM)
def test_the_rule_of_rank_llm_takes_every_number(shape):
    text, expected, status = RANK_LLM[shape]
    read = read_order(Reply(text), 3, "rank_llm")
    assert (labels(read), read.status) == (expected, status)


def test_the_rule_of_rank_llm_gives_the_recorded_orders(shared):
    """What is missing follows in its order, as rank_llm has it."""
    recordings = shared / "recordings" / "listwise_rankvicuna_dl19.jsonl"
    compared = 0
    with recordings.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            read = read_order(Reply(line["response"]), len(line["docids"]), "rank_llm")
            assert [*labels(read), *read.missing] == line["expected_order"], line["response"]
            compared += 1
    assert compared == 4859


def test_the_rule_of_labels_agrees_on_whole_lists(shared):
    """Where a recorded reply names all labels in brackets, both rules read the same."""
    recordings = shared / "recordings" / "listwise_rankvicuna_dl19.jsonl"
    exact = 0
    with recordings.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            read = read_order(Reply(line["response"]), len(line["docids"]))
            if read.status is Status.EXACT:
                assert labels(read) == line["expected_order"], line["response"]
                exact += 1
    assert exact > 2000


def test_an_unknown_rule_is_refused():
    with pytest.raises(SettingsError, match="parsing is 'digits': give one of labels, rank_llm"):
        check_order_rule("digits")


# --- Choices ----------------------------------------------------------------------------------

CHOICES = {  # pattern, text; every one chooses 3 of 4
    "captured": (TAGS, "<answer>[3]</answer>", Status.EXACT),
    "captured, Rank-R1": (RANK_R1, "<think>[1]? no</think>\n<answer>[3]</answer>", Status.EXACT),
    "captured without brackets": (BUNDLED, "<reason>x</reason><answer> 3 </answer>", Status.EXACT),
    "captured, capitals": (TAGS, "<ANSWER>[3]</ANSWER>", Status.EXACT),
    "captured, with a word": (TAGS, "<answer>Document [3].</answer>", Status.EXACT),
    "captured, Markdown": (TAGS, "<answer>**[3]**</answer>", Status.EXACT),
    "captured, fullwidth": (TAGS, "<answer>［３］</answer>", Status.EXACT),
    "captured twice, the last": (TAGS, "<answer>[1]</answer><answer>[3]</answer>", Status.EXACT),
    "captured, then an empty one": (TAGS, "<answer>[3]</answer> <answer></answer>", Status.EXACT),
    "quoted in reasoning, then given": (
        TAGS,
        "<think>not <answer>[1]</answer></think><answer>[3]</answer>",
        Status.EXACT,
    ),
    "a pattern without groups": (r"\[\d\]", "[1] or rather [3]", Status.EXACT),
    "a group that takes no part": (r"x(y)?|(z)", "x <answer>3</answer>", Status.REPAIRED),
    "no reasoning where the pattern has it": (RANK_R1, "<answer>[3]</answer>", Status.REPAIRED),
    "an answer that is not closed": (TAGS, "<answer>[3]", Status.REPAIRED),
    "no pattern": (None, "<answer>passage 3</answer>", Status.REPAIRED),
    "the label alone": (TAGS, "[3]", Status.REPAIRED),
    "the number alone": (None, " 3.\n", Status.REPAIRED),
    "a sentence with one label": (RANK_R1, "<think>[1]</think>It is [3].", Status.REPAIRED),
    "a sentence with one label twice": (None, "[3] it is: Passage [3].", Status.REPAIRED),
}


@pytest.mark.parametrize("shape", CHOICES)
def test_a_choice_is_read(shape):
    pattern, text, status = CHOICES[shape]
    read = read_choice(Reply(text), 4, pattern)
    assert (read.scores, read.missing, read.status) == ({3: 1.0}, (), status)
    assert read.refused == ()


NO_CHOICES = {
    "nothing": (TAGS, ""),
    "two labels": (TAGS, "[1] or [3]"),
    "two labels in tags": (TAGS, "<answer>[1] [3]</answer>"),
    "a number in prose": (TAGS, "Of 4 passages the best"),
    "only quoted in reasoning": (TAGS, "<think>say <answer>[3]</answer></think>I do not know."),
    "only quoted in <reason>": (BUNDLED, "<reason>say <answer>[3]</answer></reason>Hm."),
    "the prompt's own words": (BUNDLED, "<answer>[LABEL]</answer>"),
    "open reasoning": (RANK_R1, "<think>[3] is"),
}


@pytest.mark.parametrize("shape", NO_CHOICES)
def test_what_chooses_nothing_fails(shape):
    pattern, text = NO_CHOICES[shape]
    read = read_choice(Reply(text), 4, pattern)
    assert read == GroupScores({}, (1, 2, 3, 4), Status.FAILED)


@pytest.mark.parametrize("label", [0, 5, 2019])
def test_a_choice_of_no_passage_is_refused_by_name(label):
    for text in (f"<answer>[{label}]</answer>", f"[{label}]"):
        read = read_choice(Reply(text), 4, TAGS)
        assert (read.scores, read.status) == ({}, Status.FAILED)
        assert read.refused == (f"[{label}]: no label of this list (1..4)",)


def test_a_number_that_was_cut_off_is_no_label():
    read = read_order(Reply("[12] > [3] > [1", finish_reason="length"), 12)
    assert labels(read) == [12, 3]
    assert read_choice(Reply("<answer>1", finish_reason="length"), 12).scores == {}
    assert read_choice(Reply("<answer>[1]", finish_reason="length"), 12).scores == {1: 1.0}


def test_a_label_in_a_text_that_was_cut_off_is_no_choice():
    assert read_choice(Reply("Let me see: [3]", finish_reason="length"), 4).scores == {}
    cut = Reply("<answer>[3]</answer>", finish_reason="length")
    assert read_choice(cut, 4).scores == {3: 1.0}


def test_an_error_is_no_choice_whatever_it_says():
    assert read_choice(Reply("[1]", error="<answer>[1]</answer>"), 2).status is Status.FAILED


# --- Any text ---------------------------------------------------------------------------------

PIECES = st.sampled_from([
    "[", "]", "1", "2", "20", "[3]", "[4] > ", " > ", ">", ", ", "\n", "1. ", "2) ", " ",
    "<answer>", "</answer>", "<think>", "</think>", "<reason>", "</reason>", "passage ", "**",
    "［１］", "²", "٣", "9" * 30, "0", ".", "-", "\r\n", "\ud83d",
])  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join))


@given(TEXTS, st.integers(1, 25), st.sampled_from(["labels", "rank_llm"]))
def test_every_text_gives_an_order_of_labels_of_the_list(text, n, rule):
    read = read_order(Reply(text), n, rule)
    assert set(read.scores) <= set(range(1, n + 1))
    assert sorted([*read.scores, *read.missing]) == list(range(1, n + 1))
    assert sorted(read.scores.values(), reverse=True) == [
        float(n - place) for place in range(len(read.scores))
    ]
    assert (read.status is Status.FAILED) == (not read.scores)
    assert (read.status is Status.PARTIAL) == bool(read.scores and read.missing)


@given(TEXTS, st.integers(1, 25), st.sampled_from([None, TAGS, RANK_R1, BUNDLED]))
def test_every_text_gives_one_label_of_the_list_or_none(text, n, pattern):
    read = read_choice(Reply(text), n, pattern)
    assert len(read.scores) == (read.status is not Status.FAILED)
    assert all(1 <= label <= n and score == 1.0 for label, score in read.scores.items())
    assert read.missing == (() if read.scores else tuple(range(1, n + 1)))


@given(st.permutations(range(1, 13)), st.integers(0, 12), st.sampled_from([" > ", ">", ", ", "\n"]))
def test_an_order_is_read_as_written(order, length, sign):
    text = sign.join(f"[{label}]" for label in order[:length])
    read = read_order(Reply(text), 12)
    assert labels(read) == list(order[:length])
    if length == 12:
        assert read.status is (Status.EXACT if sign == " > " else Status.REPAIRED)


LONG = {
    "labels": "'[1] ' * 100_000", "bare labels": "'1 > ' * 100_000",
    "decimals between": "'1>1.5>' * 100_000", "tags": "'<answer>' * 100_000",
    "brackets": "'[' * 500_000", "digits": "'1' * 500_000", "blanks": "'[1' + ' ' * 500_000",
    "newlines": "'[1]' + '\\n' * 500_000", "numberings": "'1. ' * 100_000",
    "lines": "'- [1] x\\n' * 100_000", "words": "'passage ' * 100_000",
    "signs": "'1]>\\n' * 100_000", "thinking": "'<think>' * 100_000",
}  # fmt: skip


@pytest.mark.parametrize("shape", LONG)
def test_a_long_text_is_read_in_linear_time(in_a_process, shape):
    code = (
        "from llmrankers_groupwise.prompting.parse_orders import read_choice, read_order\n"
        "from llmrankers_groupwise.types import Reply\n"
        f"reply = Reply({LONG[shape]})\n"
        "read_order(reply, 20); read_order(reply, 20, 'rank_llm')\n"
        f"read_choice(reply, 20, {BUNDLED!r}); print('read')"
    )
    assert in_a_process(code, "") == "read"
