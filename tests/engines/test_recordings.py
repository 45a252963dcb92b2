"""The engine replay: rankings made of replies that others recorded, and what is wrong with them."""

import asyncio
import gzip
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.desk import Desk, orders

from llmrankers_groupwise import ListwiseLlmRanker
from llmrankers_groupwise.engines.base import Engine, EngineSettings
from llmrankers_groupwise.engines.recordings import RecordingsEngine
from llmrankers_groupwise.errors import EngineError, FileError, SettingsError
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.types import Origin, Reply, Sampling


def line(query_id: object, doc_ids: object, response: object, **more: object) -> str:
    return json.dumps({"qid": query_id, "docids": doc_ids, "response": response, **more}) + "\n"


GOOD = line("q1", ["d1", "d2", "d3"], "[3] > [2] > [1]") + line("q2", ["d2", "d4"], "[2] > [1]")
REPLAYED = {"q1": ["d3", "d2", "d1"], "q2": ["d4", "d2"]}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    path = tmp_path / "replies.jsonl"
    path.write_text(GOOD, encoding="utf-8")
    return path


def engine(path: Path, **args: Any) -> RecordingsEngine:
    return RecordingsEngine(EngineSettings(engine_args={"recordings": str(path), **args}))


def reply(
    engine: RecordingsEngine, query_id: str, doc_ids: tuple[str, ...], repeat: int = 0
) -> Reply:
    request = render("?", ["text"] * len(doc_ids), load_prompt("listwise"), wants="order",
                     origin=Origin(query_id, doc_ids, repeat))  # fmt: skip
    return asyncio.run(engine.answer(request, Sampling()))


def replay(desk: Desk, *more: str | Path, method=("listwise",), **changed: str) -> int:
    given = {"engine": "replay", "recordings": str(desk.path("replies.jsonl"))}
    return desk.run(*more, method=method, **(given | changed))


# --- Replies found ----------------------------------------------------------------------------


def test_a_reply_is_found_by_query_documents_and_repeat(recordings):
    recordings.write_text(
        GOOD
        + line("q1", ["d2", "d1", "d3"], "in another order")
        + line("q1", ["d1", "d2", "d3"], "again", repeat=1)
        + line(7, [1, 2], "numbers"),
        encoding="utf-8",
    )
    replaying = engine(recordings)
    assert isinstance(replaying, Engine)
    found = {
        reply(replaying, *question).text
        for question in [
            ("q1", ("d1", "d2", "d3")), ("q1", ("d2", "d1", "d3")), ("q1", ("d1", "d2", "d3"), 1),
            ("7", ("1", "2")),
        ]
    }  # fmt: skip
    assert found == {"[3] > [2] > [1]", "in another order", "again", "numbers"}
    assert reply(replaying, "q1", ("d1", "d2", "d3")).reused
    for question in [("q9", ("d1", "d2", "d3")), ("q1", ("d1", "d2")), ("q2", ("d2", "d4"), 1)]:
        with pytest.raises(FileError, match=f"query {question[0]}, repeat .* has no reply"):
            reply(replaying, *question)


def test_what_is_missing_fails_alone_where_that_is_allowed(recordings):
    with pytest.raises(EngineError, match="has no reply for this group of 1 documents: d9"):
        reply(engine(recordings, allow_missing=True), "q1", ("d9",))


def test_a_file_may_be_compressed(recordings, tmp_path):
    packed = tmp_path / "replies.jsonl.gz"
    packed.write_bytes(gzip.compress(GOOD.encode()))
    assert reply(engine(packed), "q2", ("d2", "d4")).text == "[2] > [1]"
    assert engine(packed).identity() == engine(recordings).identity()


def test_threads_share_it(recordings):
    texts = {str(number): f"reply {number}" * (number + 1) for number in range(200)}
    recordings.write_text(
        "".join(line(query_id, ["d"], text) for query_id, text in texts.items()), encoding="utf-8"
    )
    replaying, found = engine(recordings), {}

    def ask() -> None:
        for query_id in texts:
            found[threading.get_ident(), query_id] = reply(replaying, query_id, ("d",)).text

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 800
    assert all(text == texts[query_id] for (_, query_id), text in found.items())


def test_it_says_what_answers(recordings):
    replaying = engine(recordings)
    described = replaying.describe()
    assert described["recordings"] == str(recordings)
    assert (described["replies"], described["run_id"]) == (2, None)
    assert json.dumps(described)
    assert not replaying.reads_prompts
    assert replaying.scorings == ("generation",)
    assert replaying.truncate("any text", 1) == "any text"
    assert replaying.count_tokens("any text") == 2
    replaying.close()


def test_identity_is_the_content_and_the_run(recordings, tmp_path):
    recordings.write_text(line("q", ["d"], "x", run_id="a") + line("q", ["d"], "y", run_id="b"))
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(recordings.read_bytes())
    assert engine(recordings, run_id="a").identity() == engine(copy, run_id="a").identity()
    assert engine(recordings, run_id="a").identity() != engine(recordings, run_id="b").identity()
    before = engine(copy, run_id="a").identity()
    copy.write_text(line("q", ["d"], "z", run_id="a"))
    assert engine(copy, run_id="a").identity() != before


def test_a_run_is_chosen_by_its_name(recordings):
    recordings.write_text(
        line("q", ["d"], "first", run_id="a") + line("q", ["d"], "second", run_id=7)
    )
    assert reply(engine(recordings, run_id="a"), "q", ("d",)).text == "first"
    for name in (7, "7"):
        replaying = engine(recordings, run_id=name)
        assert reply(replaying, "q", ("d",)).text == "second"
        assert replaying.describe()["replies"] == 1


def test_the_same_line_twice_is_one_reply(recordings):
    recordings.write_text(GOOD + GOOD, encoding="utf-8")
    assert reply(engine(recordings), "q2", ("d2", "d4")).text == "[2] > [1]"


# --- By the command ---------------------------------------------------------------------------


def test_a_ranking_is_made_of_recorded_replies(desk, recordings):
    assert replay(desk) == 0, desk.stderr
    assert orders(desk.out) == REPLAYED
    manifest = json.loads(Path(f"{desk.out}.manifest.json").read_text(encoding="utf-8"))
    assert manifest["engine"]["engine"] == "replay"
    assert manifest["settings"]["parsing"] == "rank_llm"
    assert (manifest["method"], manifest["run"]["tag"]) == ("listwise", "listwise")


def test_the_rule_of_reading_can_be_chosen(desk, recordings):
    recordings.write_text(
        line("q1", ["d1", "d2", "d3"], "of 3 passages, [2] > [1]") + GOOD.splitlines()[1]
    )
    assert replay(desk) == 0
    assert orders(desk.out)["q1"] == ["d3", "d2", "d1"]
    assert replay(desk, method=("listwise", "--parsing", "labels")) == 0
    assert orders(desk.out)["q1"] == ["d2", "d1", "d3"]


def test_a_groupwise_run_can_be_replayed(desk, recordings):
    recordings.write_text(
        line("q1", ["d1", "d2", "d3"], '{"[1]": 1, "[2]": 5, "[3]": 9}')
        + line("q2", ["d2", "d4"], '{"[1]": 3, "[2]": 9}')
    )
    assert replay(desk, method=("groupwise", "--grouping", "sorted")) == 0, desk.stderr
    assert orders(desk.out) == {"q1": ["d3", "d2", "d1"], "q2": ["d4", "d2"]}


def test_a_journal_keeps_replies_apart_that_differ_in_documents_or_repeat_alone(desk, recordings):
    desk.write("corpus.jsonl", "".join(
        json.dumps({"_id": f"d{number}", "text": "the same"}) + "\n" for number in range(1, 5)
    ))  # fmt: skip
    recordings.write_text(
        line("q1", ["d1"], "No") + line("q1", ["d2"], "Yes") + line("q1", ["d3"], "Yes")
        + line("q2", ["d2"], "No") + line("q2", ["d4"], "Yes")
    )  # fmt: skip
    assert replay(desk, method=("pointwise",)) == 0, desk.stderr
    assert orders(desk.out) == {"q1": ["d2", "d3", "d1"], "q2": ["d4", "d2"]}
    recordings.write_text(
        line("q1", ["d1", "d2", "d3"], "[1] > [2] > [3]")
        + line("q1", ["d1", "d2", "d3"], "[3]", repeat=1)
        + line("q2", ["d2", "d4"], "[1] > [2]")
        + line("q2", ["d2", "d4"], "[2]", repeat=1)
    )
    assert replay(desk, method=("listwise", "--num_repeat", "2")) == 0, desk.stderr
    assert orders(desk.out) == {"q1": ["d3", "d1", "d2"], "q2": ["d4", "d2"]}


def test_a_ranker_replays(recordings):
    from llmrankers.rankers import SearchResult

    documents = [SearchResult(doc_id, 1.0, "text") for doc_id in ("d1", "d2", "d3")]
    recordings.write_text(line("0", ["d1", "d2", "d3"], "2 3"))  # a call's only query is 0
    with ListwiseLlmRanker(engine="replay", engine_args={"recordings": str(recordings)}) as ranker:
        assert [each.docid for each in ranker.rerank("any", documents)] == ["d2", "d3", "d1"]
        assert ranker.settings.parsing == "rank_llm"


# --- What is wrong ----------------------------------------------------------------------------

BAD_LINES = {
    "no JSON": ("[3] > [1]", "not JSON"),
    "no object": ("[1, 2]", "object"),
    "no query": ('{"docids": ["d"], "response": "x"}', 'a line is {"qid": id'),
    "no documents": ('{"qid": "q", "response": "x"}', "docids"),
    "no reply": ('{"qid": "q", "docids": ["d"]}', "response"),
    "documents are a text": (line("q", "d1 d2", "x"), "docids"),
    "a document is a list": (line("q", [["d1"]], "x"), "docids"),
    "no document": (line("q", [], "x"), "docids"),
    "a query is no id": (line(True, ["d"], "x"), "qid"),
    "a reply is no text": (line("q", ["d"], ["x"]), "response"),
    "a repeat is a text": (line("q", ["d"], "x", repeat="1"), "repeat"),
    "a repeat is true": (line("q", ["d"], "x", repeat=True), "repeat"),
    "a run is a list": (line("q", ["d"], "x", run_id=["a"]), "run_id"),
}


@pytest.mark.parametrize("fault", BAD_LINES)
def test_a_malformed_line_is_refused_with_its_number(desk, recordings, fault):
    text, phrase = BAD_LINES[fault]
    recordings.write_text(GOOD + text, encoding="utf-8")
    desk.refuses(lambda: replay(desk), f"{recordings}:3: ", phrase)


def test_a_line_of_another_run_must_be_well_formed_too(desk, recordings):
    recordings.write_text(line("q1", ["d1"], "x", run_id="a") + "{}\n")
    desk.refuses(lambda: replay(desk, "--engine_args", "run_id=a"), f"{recordings}:2: ")


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file_is_refused(desk, recordings, content):
    recordings.write_text(content)
    desk.refuses(lambda: replay(desk), str(recordings))


def test_a_file_that_is_not_there_is_named(desk):
    desk.refuses(lambda: replay(desk), str(desk.path("replies.jsonl")), "No such file")


def test_an_unknown_run_is_refused_with_runs_that_there_are(desk, recordings):
    recordings.write_text(
        "".join(line("q", ["d"], "x", run_id=name) for name in ["one", "two", "two", "three", "4"])
    )
    desk.refuses(
        lambda: replay(desk, "--engine_args", "run_id=none"),
        "no line is of the run 'none'; there are one, two, three, 4",
    )


def test_of_many_other_runs_the_first_are_named_and_the_others_counted(desk, recordings):
    recordings.write_text("".join(line("q", ["d"], "x", run_id=f"r{n}") for n in range(23)))
    desk.refuses(lambda: replay(desk, "--engine_args", "run_id=none"), "r18, r19 and 3 more")


def test_two_replies_to_one_question_are_refused(desk, recordings):
    recordings.write_text(GOOD + line("q2", ["d2", "d4"], "[1] > [2]"))
    desk.refuses(
        lambda: replay(desk),
        f"{recordings}:3: answers the same question otherwise than a line before it",
        "keep one of them, or number their repeats",
    )


def test_replies_of_two_runs_want_a_choice(desk, recordings):
    one = "".join(each[:-1].removesuffix("}") + ', "run_id": "one"}\n'
                  for each in GOOD.splitlines(keepends=True))  # fmt: skip
    other = line("q2", ["d2", "d4"], "[1] > [2]", run_id="other")
    recordings.write_text(one + other)
    desk.refuses(
        lambda: replay(desk), "choose a run, --engine_args run_id=one for instance", ":3: "
    )
    assert replay(desk, "--engine_args", "run_id=one") == 0, desk.stderr
    assert orders(desk.out) == REPLAYED


def test_a_window_that_is_missing_is_reported_with_query_and_file(desk, recordings):
    recordings.write_text(GOOD.splitlines()[0])
    assert replay(desk, "--no_journal") == 2
    assert f"{recordings}: query q2, repeat 0 has no reply" in desk.stderr
    assert "d2, d4" in desk.stderr
    assert "another run_id" in desk.stderr
    assert list(desk.outputs.iterdir()) == []


def test_other_settings_miss_their_windows(desk, recordings):
    command = ("listwise", "--window_size", "2", "--step_size", "1")
    assert replay(desk, "--no_journal", method=command) == 2
    assert "query q1" in desk.stderr
    assert list(desk.outputs.iterdir()) == []


def test_a_window_that_is_missing_can_be_counted_as_failed(desk, recordings):
    recordings.write_text(GOOD.splitlines()[0])
    assert replay(desk, "--allow_missing", "--max_failure_rate", "1") == 0, desk.stderr
    assert orders(desk.out) == REPLAYED | {"q2": ["d2", "d4"]}
    assert "1 failed" in desk.stdout


def test_settings_of_a_model_are_refused(desk, recordings):
    for option in ("model_name_or_path", "lora_path", "tokenizer_name_or_path", "device"):
        desk.refuses(lambda option=option: replay(desk, **{option: "x"}), "has no model: drop it")


def test_workers_are_refused(desk, recordings):
    desk.refuses(lambda: replay(desk, distributed="ray"), "drop --distributed")


def test_without_recordings_there_is_nothing_to_replay(desk):
    desk.refuses(lambda: replay(desk, recordings=None), "give --recordings FILE.jsonl")


@pytest.mark.parametrize("value", ["", 5, None])
def test_a_file_without_a_name_is_refused(value):
    with pytest.raises(SettingsError, match="give --recordings"):
        RecordingsEngine(EngineSettings(engine_args={"recordings": value}))


def test_an_unknown_argument_is_refused(recordings):
    with pytest.raises(SettingsError, match="did you mean run_id"):
        engine(recordings, runid="a")
    with pytest.raises(SettingsError, match="allow_missing"):
        engine(recordings, allow_missing="yes")


def test_recordings_are_for_replay_only(desk, recordings):
    desk.refuses(
        lambda: replay(desk, engine="embedded"),
        "--recordings is for --engine replay, and the engine is embedded",
    )


def test_likelihood_cannot_be_replayed(desk, recordings):
    desk.refuses(
        lambda: replay(desk, "--scoring", "likelihood", method=("pointwise",)),
        "scoring is 'likelihood': this engine does generation only",
    )


@pytest.mark.parametrize("given", [{}, {"recordings": None}])
def test_the_recordings_are_not_written_over(desk, recordings, given):
    options: Mapping[str, Any] = {"save_path": str(recordings), **given}
    more = () if "recordings" not in given else ("--engine_args", f"recordings={recordings}")
    desk.refuses(lambda: replay(desk, *more, **options), "--save_path is the file of --recordings")
