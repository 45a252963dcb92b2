"""Prompts of chat models: control tokens that stay out, templates, and cutting to a length."""

import functools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

from support.chat_tokenizers import KINDS, spellings, template, wrapped

from llmrankers_groupwise.engines.llm.pretrained import load_tokenizer, model_length
from llmrankers_groupwise.engines.llm.tokenizer import ChatSettings, ChatTokenizer
from llmrankers_groupwise.errors import EngineError, ModelError
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.types import Request

PROMPT = load_prompt("groupwise")


@functools.cache
def chat(kind: str) -> ChatTokenizer:
    return ChatTokenizer(KINDS[kind](), ChatSettings())


def request(*passages: str, query: str = "why does bread rise") -> Request:
    return render(query, passages, PROMPT)


def controls(tokenizer: ChatTokenizer, ids: tuple[int, ...] | list[int]) -> Counter[int]:
    return Counter(number for number in ids if number in tokenizer.control)


def special_tokens(tokenizer: ChatTokenizer) -> list[str]:
    vocabulary = tokenizer.hugging_face.get_vocab()
    return sorted(token for token, number in vocabulary.items() if number in tokenizer.control)


# --- Control tokens -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_template_brings_control_tokens(kind: str) -> None:
    tokenizer = chat(kind)
    prompt = tokenizer.prompt(request("Yeast makes bread rise."), None)
    assert controls(tokenizer, prompt.token_ids)
    assert len(special_tokens(tokenizer)) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_brings_a_control_token(kind: str) -> None:
    tokenizer = chat(kind)
    usual = controls(tokenizer, tokenizer.prompt(request("text", "more"), None).token_ids)
    for token in special_tokens(tokenizer):
        for spelling in spellings(token):
            for asked in (
                request(f"Yeast {spelling} rises", spelling),
                request("text", "more", query=f"why{spelling}"),
            ):
                prompt = tokenizer.prompt(asked, None)
                assert controls(tokenizer, prompt.token_ids) == usual, (spelling, prompt.request)


@pytest.mark.parametrize("kind", KINDS)
def test_the_words_of_a_control_token_stay(kind: str) -> None:
    tokenizer = chat(kind)
    for token in special_tokens(tokenizer):
        kept = "".join(filter(str.isalnum, tokenizer.clean(f"a {token} b")))
        assert kept == "a" + "".join(filter(str.isalnum, token)) + "b"


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_clean_text_has_no_control_token_and_stays_as_it_is(kind: str, data: Any) -> None:
    tokenizer = chat(kind)
    tokens = special_tokens(tokenizer)
    piece = (
        st.sampled_from(tokens)
        | st.sampled_from([part for token in tokens for part in (token[:3], token[3:], token[:-1])])
        | st.sampled_from([spelling for token in tokens for spelling in spellings(token)])
        | st.text("<>|[]ab \n_", max_size=4)
    )
    text = "".join(data.draw(st.lists(piece, max_size=6)))
    clean = tokenizer.clean(text)
    assert not controls(tokenizer, tokenizer.encode(clean))
    assert tokenizer.clean(clean) == clean
    if not controls(tokenizer, tokenizer.encode(text)):
        assert clean == text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    ["", " ", "Öl, naïve 한국어 \N{GRINNING FACE}", "a < b | c > d [1] {x} (y)", "\ud800x", "\x00"],
)
def test_text_without_control_tokens_is_left_alone(kind: str, text: str) -> None:
    assert chat(kind).clean(text) == text


def test_a_request_without_control_tokens_is_sent_as_it_came() -> None:
    asked = request("Yeast makes bread rise.")
    assert chat("qwen").prompt(asked, None).request is asked


def test_control_tokens_that_a_request_made_by_hand_holds_are_an_error() -> None:
    asked = Request("q<|im_end|>", ("p",), ("[1]",), ({"role": "user", "content": "q<|im_end|>"},))
    with pytest.raises(EngineError, match=r"prompts\.render"):
        chat("qwen").prompt(asked, None)


def test_an_unknown_character_is_no_control_token() -> None:
    tokenizer = chat("bert")
    assert controls(tokenizer, tokenizer.encode("한"))  # it reads as [UNK]
    assert tokenizer.clean("a 한 b") == "a 한 b"
    assert tokenizer.clean("a [UNK] 한 b [unk]") == "a (UNK) 한 b (unk)"


# --- Templates ----------------------------------------------------------------------------------


def test_a_tokenizer_without_a_template_says_how_to_give_one() -> None:
    bare = wrapped(chat("qwen").hugging_face.backend_tokenizer, None)
    with pytest.raises(ModelError, match=r"--engine_args chat_template=FILE"):
        ChatTokenizer(bare, ChatSettings())


def test_a_template_is_given_as_text_or_by_its_path(tmp_path: Path) -> None:
    text = "{% for m in messages %}{{ m['content'] }}{% endfor %} and then:"
    path = tmp_path / "template.jinja"
    path.write_text(text, encoding="utf-8")
    for chosen in (text, str(path)):
        tokenizer = ChatTokenizer(KINDS["qwen"](), ChatSettings(chat_template=chosen))
        prompt = tokenizer.prompt(request("a passage"), None)
        assert tokenizer.decode(prompt.token_ids).endswith(" and then:")
        assert not controls(tokenizer, prompt.token_ids)


def test_a_template_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        ChatTokenizer(KINDS["qwen"](), ChatSettings(chat_template=str(tmp_path / "nowhere")))


def test_of_several_templates_the_default_is_taken() -> None:
    several = KINDS["qwen"]()
    several.chat_template = {"tool_use": "{{ raise_exception('no') }}", "default": "hello {{ x }}"}
    tokenizer = ChatTokenizer(several, ChatSettings(chat_template_kwargs={"x": "there"}))
    assert tokenizer.decode(tokenizer.prompt(request("p"), None).token_ids) == "hello there"


def test_a_template_that_fails_is_a_model_error() -> None:
    for text in ("{{ raise_exception('never') }}", "{% if %}"):
        tokenizer = ChatTokenizer(KINDS["qwen"](), ChatSettings(chat_template=text))
        with pytest.raises(ModelError, match="the chat template fails"):
            tokenizer.prompt(request("p"), None)


def test_a_system_role_that_is_refused_goes_to_the_user() -> None:
    tokenizer = chat("gemma")
    text = tokenizer.decode(tokenizer.prompt(request("a passage"), None).token_ids)
    assert text.count("<start_of_turn>") == 2
    assert f"<start_of_turn>user\n{PROMPT.prompt_system}\n\nQuery: " in text


@pytest.mark.parametrize(
    ("text", "knows"),
    [("{{ messages }}", False), ("{% if not enable_thinking %}no{% endif %}", True)],
)
def test_what_a_template_knows(text: str, *, knows: bool) -> None:
    tokenizer = ChatTokenizer(KINDS["qwen"](), ChatSettings(chat_template=text))
    assert tokenizer.template_knows("enable_thinking") is knows


@pytest.mark.parametrize(("end", "thinking"), [("", False), ("<think>\n", True), ("<think>", True),
    ("<think>\n\n</think>\n\n", False)])  # fmt: skip
def test_an_opened_thinking_block_is_noticed(end: str, *, thinking: bool) -> None:
    text = template("<|im_start|>", "\n", "<|im_end|>") + end
    tokenizer = ChatTokenizer(KINDS["qwen"](), ChatSettings(chat_template=text))
    assert tokenizer.prompt(request("p"), None).thinking is thinking


def test_the_users_template_arguments_go_before_the_engines() -> None:
    settings = ChatSettings("{{ a }}{{ b }}", {"a": 1})
    tokenizer = ChatTokenizer(KINDS["qwen"](), settings)
    assert tokenizer.decode(tokenizer.prompt(request("p"), None, a=2, b=3).token_ids) == "13"


def test_a_tokenizer_without_a_fast_version_is_refused() -> None:
    class Slow:
        name_or_path = "slow"
        chat_template = "{{ messages }}"

    with pytest.raises(ModelError, match="no fast version"):
        ChatTokenizer(Slow(), ChatSettings())


def test_a_saved_truncation_is_not_applied() -> None:
    truncating = KINDS["qwen"]()
    truncating.backend_tokenizer.enable_truncation(5)
    truncating.backend_tokenizer.enable_padding(length=50)
    assert ChatTokenizer(truncating, ChatSettings()).count("word " * 20) >= 20


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nobody/no-such-model", ""),
        ("{tmp}/nowhere", "there is no such folder; give"),
        ("./nowhere", "there is no such folder; give"),
        ("out/models/nowhere", "there is no such folder; give"),
        ("{tmp}", "this folder has no config.json, so it is none of a model; give"),
    ],
)
def test_a_tokenizer_or_model_that_is_not_there(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = name.replace("{tmp}", str(tmp_path))
    with pytest.raises(ModelError, match=f"cannot load the tokenizer {name}: {why}"):
        load_tokenizer(name)
    with pytest.raises(ModelError, match=f"cannot read the model {name}: {why}"):
        model_length(name)


# --- Cutting ------------------------------------------------------------------------------------

LONG = "Bread rises because yeast turns sugar into carbon dioxide. " * 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
def test_a_prompt_is_cut_to_its_limit(kind: str, share: float) -> None:
    tokenizer = chat(kind)
    passages = (LONG, "short", LONG + LONG, "Öl und Straße " * 20, LONG)
    whole = tokenizer.prompt(request(*passages), None)
    empty = len(tokenizer.prompt(request(*[""] * 5), None).token_ids)
    limit = empty + int(share * (len(whole.token_ids) - empty))
    prompt = tokenizer.prompt(request(*passages), limit)
    assert limit - 30 <= len(prompt.token_ids) <= limit
    assert prompt.request.query == "why does bread rise"
    assert all(map(str.startswith, passages, prompt.request.passages))
    lengths = [tokenizer.count(passage) for passage in prompt.request.passages]
    cut = [
        length
        for length, new, old in zip(lengths, prompt.request.passages, passages, strict=True)
        if new != old
    ]
    assert prompt.cut_passages == len(cut) >= (1 if share > 0.8 else 2)
    assert max(cut) - min(cut) <= 4  # on a character's border
    assert max(lengths) <= max(cut) + 1
    assert prompt.request.passages[1] == "short"


def test_a_limit_that_is_just_met_cuts_nothing() -> None:
    tokenizer, asked = chat("qwen"), request(LONG, "short")
    whole = tokenizer.prompt(asked, None)
    assert tokenizer.prompt(asked, len(whole.token_ids)) == whole
    cut = tokenizer.prompt(asked, len(whole.token_ids) - 1)
    assert len(cut.token_ids) == len(whole.token_ids) - 1
    assert cut.cut_passages == 1


def test_one_token_of_each_passage_is_the_least() -> None:
    tokenizer = chat("qwen")
    least = len(tokenizer.prompt(request("B", "B", "B"), None).token_ids)
    fits = tokenizer.prompt(request(LONG, LONG, LONG), least)
    assert fits.cut_passages == 3
    assert all(tokenizer.count(passage) == 1 for passage in fits.request.passages)
    with pytest.raises(EngineError, match=r"3 passages .* smaller group_size"):
        tokenizer.prompt(request(LONG, LONG, LONG), least - 1)


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_that_leaves_no_room_at_all(limit: int) -> None:
    with pytest.raises(EngineError, match="does not fit"):
        chat("qwen").prompt(request("text"), limit)


def test_texts_full_of_labels_and_tags_still_fit() -> None:
    tokenizer = chat("qwen")
    wild = "<|im_start|>[1]</answer> " * 50
    limit = len(tokenizer.prompt(request("", "", ""), None).token_ids) + 300
    prompt = tokenizer.prompt(request(wild, LONG, wild), limit)
    assert limit - 30 <= len(prompt.token_ids) <= limit
    assert controls(tokenizer, prompt.token_ids) == controls(
        tokenizer, tokenizer.prompt(request("text"), None).token_ids
    )


def test_a_request_made_by_hand_is_sent_but_cannot_be_cut() -> None:
    asked = Request("q", (LONG,), ("[1]",), ({"role": "user", "content": LONG},))
    tokenizer = chat("qwen")
    assert LONG in tokenizer.decode(tokenizer.prompt(asked, None).token_ids)
    with pytest.raises(EngineError, match="cannot be rendered anew"):
        tokenizer.prompt(asked, 50)


# --- Tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_say_nothing(kind: str) -> None:
    tokenizer = chat(kind)
    assert set(tokenizer.texts) == set(tokenizer.hugging_face.get_vocab().values())
    assert all(tokenizer.texts[number] == "" for number in tokenizer.control)


def test_a_token_says_its_blank_too() -> None:
    tokenizer = chat("llama2")
    vocabulary = tokenizer.hugging_face.get_vocab()
    assert tokenizer.texts[vocabulary["▁t"]] == " t"
    assert tokenizer.texts[vocabulary["t"]] == "t"
    assert tokenizer.texts[vocabulary["<0x0A>"]] == "\n"


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"bert"}))  # whose tokens lose the blanks
@given(
    text=st.text('ab <>{}"[]01,:é\n', max_size=30), keep=st.integers(0, 30), new=st.text("a1 é\n")
)
def test_tokens_that_agree_with_a_text_are_kept(kind: str, text: str, keep: int, new: str) -> None:
    tokenizer = chat(kind)
    ids = tokenizer.encode(text)
    wanted = tokenizer.decode(ids)[:keep] + new
    assume(kind != "llama2" or not wanted.startswith(" "))  # which decoding drops, always
    agreeing = tokenizer.agreeing(ids, wanted)
    assert tokenizer.decode(agreeing) == wanted
