"""Prompt files, what they render to, and what becomes of text that looks like an instruction."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrankers_groupwise.errors import InputError, PromptError
from llmrankers_groupwise.prompting.parse_scores import parse_scores
from llmrankers_groupwise.prompting.prompt_file import bundled_prompts, load_prompt
from llmrankers_groupwise.prompting.render import escape_markers, render
from llmrankers_groupwise.types import ScoreForm, Status

OF_LISTS = (
    "groupwise", "groupwise_scores", "listwise", "rationalise", "setwise_best", "setwise_think",
)  # fmt: skip
OF_ONE = ("pointwise_graded", "pointwise_yes_no")
BUNDLED = tuple(sorted(OF_LISTS + OF_ONE))
UPSTREAM = (
    "prompt_listwise_rankzephyr.toml",
    "prompt_setwise-R1-v0.2.toml",
    "prompt_setwise-R1.toml",
    "prompt_setwise.toml",
)
KEYS = (
    "answer_start, doc_prefix, doc_separator, ground_truth, passage_characters, "
    "passage_in_a_line, pattern, prompt_system, prompt_user"
)
SIMPLE = 'prompt_user = "{query}: {docs}"\n'
LINE_START_LABEL = re.compile(r"^\s*\[\s*(\w+)\s*\]", re.MULTILINE)


@pytest.fixture
def prompt_file(tmp_path):
    """Writes a prompt file and gives its path."""

    def write(content):
        path = tmp_path / "mine.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def user_text(request):
    return request.messages[-1]["content"]


# --- Prompt files that load -------------------------------------------------------------------


def test_the_bundled_prompts_are_known_by_name():
    assert tuple(bundled_prompts()) == BUNDLED


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_prompt_loads_by_name_and_by_path(name):
    prompt = load_prompt(name)
    assert prompt == load_prompt(bundled_prompts()[name])
    assert prompt.name == name


@pytest.mark.parametrize("name", OF_LISTS)
def test_a_bundled_prompt_shows_the_query_and_every_label_and_passage(name):
    passages = [f"This is passage number {number}." for number in range(1, 21)]
    request = render("what is a flea?", passages, load_prompt(name))
    text = user_text(request)
    assert "what is a flea?" in text
    for number, passage in enumerate(passages, start=1):
        assert f"\n[{number}] {passage}\n" in text


@pytest.mark.parametrize("name", OF_ONE)
def test_a_bundled_prompt_for_one_passage_shows_it(name):
    text = user_text(render("what is a flea?", ["This is a passage."], load_prompt(name)))
    assert "\n[1] This is a passage.\n" in text
    assert text.count("what is a flea?") == 2


@pytest.mark.parametrize("name", OF_LISTS)
def test_a_bundled_prompt_says_how_many_passages_there_are(name):
    assert "17 passages" in user_text(render("q", ["text"] * 17, load_prompt(name)))


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_prompt_is_a_system_and_a_user_message_without_placeholders_left(name):
    request = render("q", ["text"], load_prompt(name))
    assert [message["role"] for message in request.messages] == ["system", "user"]
    for message in request.messages:
        assert not re.search(r"\{(query|docs|num)\}", message["content"])
        assert "{{" not in message["content"]


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_prompt_fits_on_a_screen(name):
    content = bundled_prompts()[name].read_text(encoding="utf-8")
    assert len(content.splitlines()) <= 40
    assert len(content) <= 2000


@pytest.mark.parametrize("name", UPSTREAM)
def test_an_upstream_prompt_loads_and_renders(shared, name):
    prompt = load_prompt(shared / "upstream-prompts" / name)
    text = user_text(render("what is a flea?", ["first text", "second text"], prompt))
    assert "what is a flea?" in text
    first = prompt.doc_prefix.format(num=1) + "first text"
    second = prompt.doc_prefix.format(num=2) + "second text"
    assert first + prompt.doc_separator + second in text
    assert prompt.pattern


def test_every_upstream_toml_is_tested(shared):
    assert {path.name for path in (shared / "upstream-prompts").glob("*.toml")} == set(UPSTREAM)


def test_keys_left_out_get_the_defaults_of_llm_rankers(prompt_file):
    prompt = load_prompt(prompt_file(SIMPLE))
    assert (prompt.prompt_system, prompt.doc_prefix, prompt.doc_separator) == ("", "[{num}] ", "\n")
    assert (prompt.pattern, prompt.ground_truth) == (None, None)


def test_without_a_system_prompt_there_is_a_user_message_only(prompt_file):
    request = render("q", ["one", "two"], load_prompt(prompt_file(SIMPLE)))
    assert request.messages == ({"role": "user", "content": "q: [1] one\n[2] two"},)


def test_all_keys_are_used(prompt_file):
    path = prompt_file(
        'prompt_system = "Judge {this}."\n'
        'prompt_user = "{num} for {query} {{and}} {query}: {docs}"\n'
        'doc_prefix = "<{num}> "\ndoc_separator = " | "\n'
        'pattern = "a{1,2}"\nground_truth = "[{num}]"\n'
    )
    prompt = load_prompt(path)
    request = render("q", ["one", "two"], prompt)
    assert [message["content"] for message in request.messages] == [
        "Judge {this}.",
        "2 for q {and} q: <1> one | <2> two",
    ]
    assert (prompt.pattern, prompt.ground_truth) == ("a{1,2}", "[{num}]")


def test_a_prompt_knows_its_name_and_the_hash_of_its_bytes(prompt_file):
    path = prompt_file(SIMPLE + "# a comment: é\n")
    prompt = load_prompt(path)
    assert prompt.name == "mine"
    assert prompt.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


# --- Prompt files that do not -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            'prompt_user = "{query}"', "prompt_user lacks the placeholder {docs}", id="no-docs"
        ),
        pytest.param(
            'prompt_user = "{docs}"', "prompt_user lacks the placeholder {query}", id="no-query"
        ),
        pytest.param(
            'prompt_user = "{{query}} {docs}"',
            "prompt_user lacks the placeholder {query}",
            id="query-in-double-braces",
        ),
        pytest.param(
            SIMPLE + 'doc_prefix = "- "', "doc_prefix lacks the placeholder {num}", id="no-number"
        ),
        pytest.param(
            SIMPLE + 'ground_truth = "3"',
            "ground_truth lacks the placeholder {num}",
            id="no-number-in-ground-truth",
        ),
        pytest.param(
            'prompt_user = "{query} {passages}"',
            "prompt_user holds the unknown placeholder {passages}; "
            "it may hold {docs}, {num}, {query} (write {{ and }} for braces)",
            id="unknown-placeholder",
        ),
        pytest.param(
            'prompt_user = "{query.text} {docs}"',
            "prompt_user holds the unknown placeholder {query.text}; "
            "it may hold {docs}, {num}, {query} (write {{ and }} for braces)",
            id="attribute",
        ),
        pytest.param(
            'prompt_user = "{query} {docs[0]}"',
            "prompt_user holds the unknown placeholder {docs[0]}; "
            "it may hold {docs}, {num}, {query} (write {{ and }} for braces)",
            id="item",
        ),
        pytest.param(
            'prompt_user = "{0} {query} {docs}"',
            "prompt_user holds the unknown placeholder {0}; "
            "it may hold {docs}, {num}, {query} (write {{ and }} for braces)",
            id="number",
        ),
        pytest.param(
            'prompt_user = "{} {query} {docs}"',
            "prompt_user holds the unknown placeholder {}; "
            "it may hold {docs}, {num}, {query} (write {{ and }} for braces)",
            id="empty-braces",
        ),
        pytest.param(
            'prompt_user = "{ query } {docs}"',
            "prompt_user holds the unknown placeholder { query }; "
            "it may hold {docs}, {num}, {query} (write {{ and }} for braces)",
            id="blanks-around-the-name",
        ),
        pytest.param(
            SIMPLE + 'doc_prefix = "{num} {query}"',
            "doc_prefix holds the unknown placeholder {query}; "
            "it may hold {num} (write {{ and }} for braces)",
            id="placeholder-of-another-key",
        ),
        pytest.param(
            'prompt_user = "{query} {docs} {"',
            "prompt_user has an unbalanced brace (Single '{' encountered in format string); "
            "write {{ and }} for braces",
            id="open-brace",
        ),
        pytest.param(
            'prompt_user = "{query} {docs} }"',
            "prompt_user has an unbalanced brace (Single '}' encountered in format string); "
            "write {{ and }} for braces",
            id="closing-brace",
        ),
        pytest.param(
            SIMPLE + 'prompt_assistant = "Yes."',
            f"unknown key 'prompt_assistant'; the keys are {KEYS}",
            id="unknown-key",
        ),
        pytest.param(
            f"[groupwise]\n{SIMPLE}",
            f"unknown key 'groupwise'; the keys are {KEYS}",
            id="table",
        ),
        pytest.param(SIMPLE + "doc_prefix = 3", "doc_prefix must be text, not int", id="number"),
        pytest.param(
            'prompt_user = ["{query}", "{docs}"]', "prompt_user must be text, not list", id="list"
        ),
        pytest.param('doc_prefix = "{num}"', "the key prompt_user is missing", id="no-prompt"),
        pytest.param("", "the key prompt_user is missing", id="empty-file"),
        pytest.param(
            SIMPLE + 'prompt_system = "About {query}."',
            "prompt_system holds {query}, but is sent as it is; "
            "move the placeholder to prompt_user",
            id="query-in-the-system-prompt",
        ),
        pytest.param(
            SIMPLE + 'prompt_system = "There are {num}."',
            "prompt_system holds {num}, but is sent as it is; move the placeholder to prompt_user",
            id="number-in-the-system-prompt",
        ),
    ],
)
def test_a_prompt_file_error_names_file_key_and_placeholder(prompt_file, content, message):
    path = prompt_file(content)
    with pytest.raises(PromptError) as caught:
        load_prompt(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("prompt_user: no TOML", id="not-toml"),
        pytest.param(SIMPLE + SIMPLE, id="a-key-twice"),
        pytest.param(b'prompt_user = "{query} {docs} \xe9"', id="latin-1"),
        pytest.param(SIMPLE.encode("utf-16"), id="utf-16"),
    ],
)
def test_a_file_that_is_no_toml_in_utf_8_is_refused_by_name(prompt_file, content):
    path = prompt_file(content)
    with pytest.raises(PromptError) as caught:
        load_prompt(path)
    assert str(caught.value).startswith(f"{path}: not a TOML file in UTF-8: ")


def test_a_file_that_is_not_there_is_named_with_the_prompts_there_are(tmp_path):
    path = tmp_path / "none.toml"
    with pytest.raises(PromptError) as caught:
        load_prompt(path)
    assert str(caught.value) == (
        f"{path}: cannot read the prompt file (No such file or directory); "
        f"give a path, or one of {', '.join(BUNDLED)}"
    )


def test_a_folder_is_no_prompt_file(tmp_path):
    with pytest.raises(PromptError, match="cannot read the prompt file"):
        load_prompt(tmp_path)


def test_a_prompt_error_is_an_input_error_and_a_value_error():
    assert issubclass(PromptError, InputError)
    assert issubclass(PromptError, ValueError)


# --- Rendering --------------------------------------------------------------------------------


def test_the_request_keeps_query_and_passages_as_they_came():
    request = render("is [3] it?", ["see [1]", "<s>no</s>"], load_prompt("groupwise"))
    assert request.query == "is [3] it?"
    assert request.passages == ("see [1]", "<s>no</s>")
    assert request.labels == ("[1]", "[2]")


def test_the_query_is_neutralised_like_the_passages():
    text = user_text(render("is [3] it? <|im_end|>", ["no"], load_prompt("groupwise")))
    assert "is (3) it? (im_end)" in text
    assert "<|im_end|>" not in text


@pytest.mark.parametrize("braces", ["{query}", "{docs}", "{num}", "{0}", "{", "}", "{{}}", "{x!r}"])
def test_braces_in_query_and_passages_stay_as_they_are(braces):
    text = user_text(render(f"q {braces} q", [f"p {braces} p"], load_prompt("groupwise")))
    assert f"q {braces} q" in text
    assert f"[1] p {braces} p" in text


def test_a_form_is_attached_if_asked_for():
    prompt = load_prompt("groupwise_scores")
    assert render("q", ["one", "two"], prompt).form is None
    request = render("q", ["one", "two"], prompt, form=True)
    assert request.form == ScoreForm(("[1]", "[2]"))
    assert request.form.filled(["7", "10"]) == '{"[1]": 7, "[2]": 10}'


# --- Neutralising -----------------------------------------------------------------------------

CONTROL_TOKENS = {
    "chatml": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    "llama-2": ["<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<unk>"],
    "llama-3": [
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|python_tag|>",
        "<|reserved_special_token_0|>",
    ],
    "gemma": ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"],
    "deepseek": [
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "<｜tool▁calls▁begin｜>",
    ],
    "mistral": [
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_CALLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
    ],
    "phi": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|im_sep|>"],
    "qwen": ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|vision_start|>"],
    "bert": ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]"],
}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(token, id=f"{family} {token}")
        for family, tokens in CONTROL_TOKENS.items()
        for token in tokens
    ],
)
def test_a_control_token_loses_its_brackets_and_keeps_its_words(token):
    plain = escape_markers(f"before{token}after")
    words = token.strip("<>[]|｜")
    assert plain == f"before({words})after"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("[3]", "(3)", id="label"),
        pytest.param("see [12] and [3].", "see (12) and (3).", id="labels-in-prose"),
        pytest.param("[ 3 ]", "( 3 )", id="label-with-blanks"),
        pytest.param("[3\n]", "(3\n)", id="label-over-a-line"),
        pytest.param('{"[1]": 10}', '{"(1)": 10}', id="label-in-json"),
        pytest.param("[1][2]", "(1)(2)", id="labels-side-by-side"),
        pytest.param("<answer>", "(answer)", id="answer"),
        pytest.param("</answer>", "(/answer)", id="closing-answer"),
        pytest.param("</ANSWER>", "(/ANSWER)", id="answer-in-capitals"),
        pytest.param("< / answer >", "( / answer )", id="answer-with-blanks"),
        pytest.param("<reason>x</reason>", "(reason)x(/reason)", id="reason"),
        pytest.param("<think>x</think>", "(think)x(/think)", id="think"),
        pytest.param("<|IM_START|>", "(IM_START)", id="control-token-in-capitals"),
    ],
)
def test_labels_and_answer_tags_lose_their_brackets(text, expected):
    assert escape_markers(text) == expected


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        pytest.param("<<|x|>|im_start|>", "<|", id="control-token-left-by-another"),
        pytest.param("<|im_<|x|>start|>", "<|", id="control-token-within-another"),
        pytest.param("[[3]]", "[3]", id="label-in-brackets"),
        pytest.param("[[INST]3]", "[3", id="label-around-a-control-token"),
        pytest.param("<ans<answer>wer>", "<answer>", id="tag-within-a-tag"),
        pytest.param("<<answer>answer>", "<answer>", id="tag-after-a-tag"),
        pytest.param("<</answer>/answer>", "</answer>", id="closing-tag-after-a-closing-tag"),
        pytest.param("<<s>>", "<s>", id="tag-in-brackets"),
        pytest.param("<<<SYS>>>", "<SYS>", id="llama-2-in-brackets"),
        pytest.param("<｜<|x|>User｜>", "<｜", id="two-kinds-of-bars"),
    ],
)
def test_a_marker_nested_in_another_does_not_survive(text, forbidden):
    assert forbidden not in escape_markers(text)


@pytest.mark.parametrize(
    "text",
    [
        "a[i] = b < c",
        "if a < b and c > d: pass",
        "x = [a, b] | y",
        "List<String> and Map<K, V>",
        "<b>bold</b> and <a href='x'>link</a>",
        "1 < 2 || 3 > 2",
        "[citation needed]",
        "[1, 2] and [1-3]",
        "[v1]",
        "the answer and the reason",
        "5 > 3 | 2 < 4",
        "«[…]» {curly} (round)",
        "",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert escape_markers(text) == text


def test_an_index_that_looks_like_a_label_loses_its_brackets_too():
    assert escape_markers("array[10] as in [Smith 2009] [7]") == "array(10) as in [Smith 2009] (7)"


pieces = st.sampled_from(
    [
        *("<", ">", "[", "]", "|", "｜", "/", " ", "\n", "(", ")", "<|", "|>", "<<", ">>", "</"),
        *("1", "20", "x", "s", "eos", "SYS", "INST", "answer", "reason", "think", "im_start"),
        *("[3]", "<answer>", "<|x|>", "<s>", "[INST]", "<<SYS>>", "７", "²", "ſ"),
    ]
)
texts = st.lists(pieces | st.text(max_size=2), max_size=25).map("".join)


@given(texts)
def test_neutralising_twice_changes_nothing_more(text):
    assert escape_markers(escape_markers(text)) == escape_markers(text)


@given(texts)
def test_neutralising_changes_brackets_and_bars_only(text):
    kept = re.compile(r"[^<>\[\]|｜()]")
    assert kept.findall(escape_markers(text)) == kept.findall(text)


@given(texts)
def test_no_marker_survives(text):
    plain = escape_markers(text)
    assert not re.search(r"\[\s*[0-9]+\s*\]", plain)
    assert not re.search(r"</?(answer|reason|think|s|eos)>", plain, re.IGNORECASE)
    assert not re.search(r"<[|｜]\w+[|｜]>|\[/?INST\]|<</?SYS>>", plain)


@given(st.lists(texts, min_size=1, max_size=5), texts, st.sampled_from(BUNDLED))
def test_a_request_has_exactly_one_line_start_label_a_passage(passages, query, name):
    text = user_text(render(query, passages, load_prompt(name)))
    labels = [label for label in LINE_START_LABEL.findall(text) if re.fullmatch("[0-9]+", label)]
    assert labels == [str(number) for number in range(1, len(passages) + 1)]


@given(st.lists(texts, min_size=1, max_size=5), texts)
def test_no_passage_adds_an_answer_tag_to_the_request(passages, query):
    prompt = load_prompt("groupwise")
    harmless = user_text(render("q", ["p"], prompt))
    text = user_text(render(query, passages, prompt))
    for tag in ("<answer>", "</answer>", "<reason>", "</reason>"):
        assert text.count(tag) == harmless.count(tag)


MANY = 100_000
ADVERSARIAL = {
    "brackets": "[" * MANY,
    "labels": "[1]" * MANY,
    "open-tags": "<" * MANY,
    "open-control-tokens": "<|" * MANY,
    "nested-control-tokens": "<|" * MANY + "x" + "|>" * MANY,
    "nested-tags": "<s" * MANY + ">" * MANY,
    "digits-of-a-label": "[" + "1" * MANY,
    "blanks-of-a-label": "[" + " " * MANY + "x",
    "blanks-after-a-tag": "<answer" + " " * MANY + "x",
    "blanks-in-a-tag": "<" + " " * MANY + "x",
}


@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=ADVERSARIAL.keys())
def test_a_long_text_is_neutralised_to_its_end(in_a_process, text):
    code = (
        "from llmrankers_groupwise.prompting.render import escape_markers; "
        "print(len(escape_markers(text)))"
    )
    assert 0 < int(in_a_process(code, text)) <= len(text)


def test_placeholders_may_be_formatted_as_str_format_does(prompt_file):
    prompt = load_prompt(prompt_file(SIMPLE + 'doc_prefix = "#{num:02d} "'))
    assert "#01 a\n#02 b" in render("q", ["a", "b"], prompt).messages[-1]["content"]


def test_a_format_that_does_not_fit_is_refused_by_name(prompt_file):
    path = prompt_file(SIMPLE + 'doc_prefix = "{num:zz}"')
    with pytest.raises(PromptError, match=r"doc_prefix cannot be formatted: .*fix the format"):
        load_prompt(path)


def test_a_pattern_that_is_no_regular_expression_is_refused_by_name(prompt_file):
    path = prompt_file(SIMPLE + 'pattern = "("')
    with pytest.raises(PromptError, match="pattern is no regular expression"):
        load_prompt(path)


@pytest.mark.parametrize("name", sorted(bundled_prompts()))
@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_our_prompts_repeated_as_a_reply_give_no_scores(name, n):
    request = render("query", [f"passage {i}" for i in range(n)], load_prompt(name))
    assert parse_scores(request.messages[-1]["content"], n).status is Status.FAILED
