"""The journal: what is asked once, what is kept, what is asked again, and how it is looked at."""

import asyncio
import dataclasses
import itertools
import json
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.chat_server import Answer, Body, Raw, drop, failure, sane
from support.paid import Shop

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import JsonlPassages, MemoryPassages
from llmrankers_groupwise.data.queries import read_queries
from llmrankers_groupwise.data.run_files import RunEntry, RunFile
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.errors import EngineError, JournalError, ModelError
from llmrankers_groupwise.journal.journal import Journal, ReadJournal
from llmrankers_groupwise.journal.run_description import RunDescription, RunIdentity
from llmrankers_groupwise.pipeline.experiment import Experiment
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.testing import ScriptedEngine, json_reply
from llmrankers_groupwise.types import Candidate, Origin, Query, Reply, Request, Sampling

KEY = b"k" * 16
ORIGIN = Origin("q1", ("d1", "d2"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal(path) as journal:
        yield journal


class Desk:
    """Answers when it is let, and counts how often it was asked."""

    def __init__(self, *outcomes: Reply | BaseException) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0
        self.begun = asyncio.Event()
        self.let = asyncio.Event()

    async def ask(self) -> Reply:
        self.asked += 1
        outcome = self.outcomes.pop(0)
        self.begun.set()
        await self.let.wait()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def kept(path: Path, key: bytes = KEY) -> Reply | None:
    """As another process would read it."""
    with ReadJournal(path) as read:
        return read.reply(key)


# --- Asked once -------------------------------------------------------------------------------


def test_equal_questions_at_the_same_time_are_asked_once(journal):
    async def ask() -> tuple[list[Reply], int]:
        desk = Desk(Reply("yes"))
        tasks = [asyncio.create_task(journal.reply(KEY, ORIGIN, desk.ask)) for _ in range(9)]
        await desk.begun.wait()
        desk.let.set()
        return await asyncio.gather(*tasks), desk.asked

    replies, asked = asyncio.run(ask())
    assert asked == 1
    assert {reply.text for reply in replies} == {"yes"}
    assert [reply.reused for reply in replies] == [False] + [True] * 8


def test_equal_questions_of_other_threads_and_loops_wait_for_the_same_reply(journal):
    asked, all_there = [], threading.Barrier(6)
    first = threading.Event()

    async def answer() -> Reply:
        asked.append(threading.get_ident())
        first.set()
        return Reply("yes")

    async def ask() -> Reply:
        await asyncio.to_thread(all_there.wait)
        return await journal.reply(KEY, ORIGIN, answer)

    replies: list[Reply] = []
    threads = [
        threading.Thread(target=lambda: replies.append(asyncio.run(ask()))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(asked) == 1
    assert [reply.text for reply in replies] == ["yes"] * 6
    assert sum(not reply.reused for reply in replies) == 1


def test_who_waits_for_one_that_is_cancelled_asks_itself(journal):
    async def ask() -> tuple[Reply, Desk]:
        desk = Desk(Reply("never"), Reply("yes"))
        one = asyncio.create_task(journal.reply(KEY, ORIGIN, desk.ask))
        other = asyncio.create_task(journal.reply(KEY, ORIGIN, desk.ask))
        await desk.begun.wait()
        one.cancel()
        desk.let.set()
        return await other, desk

    reply, desk = asyncio.run(ask())
    assert (reply.text, reply.reused, desk.asked) == ("yes", False, 2)


def test_who_waits_for_one_that_fails_with_a_defect_asks_itself(journal):
    async def ask() -> list[Reply | BaseException]:
        desk = Desk(RuntimeError("a defect"), Reply("yes"))
        desk.let.set()
        both = (journal.reply(KEY, ORIGIN, desk.ask) for _ in range(2))
        return await asyncio.gather(*both, return_exceptions=True)

    defect, reply = asyncio.run(ask())
    assert isinstance(defect, RuntimeError)
    assert reply == Reply("yes")


def test_a_reply_that_came_is_kept_and_shared_though_its_asker_is_cancelled(journal, path):
    async def ask() -> tuple[Reply, int]:
        desk = Desk(Reply("paid"), Reply("again"))
        one = asyncio.create_task(journal.reply(KEY, ORIGIN, desk.ask))
        other = asyncio.create_task(journal.reply(KEY, ORIGIN, desk.ask))
        await desk.begun.wait()
        desk.let.set()
        await asyncio.sleep(0)  # now the engine's answer is back, on its way to disk
        one.cancel()
        return await other, desk.asked

    reply, asked = asyncio.run(ask())
    assert (reply.text, asked) == ("paid", 1)
    assert kept(path) == dataclasses.replace(reply, reused=True)


def test_a_paid_reply_is_kept_though_everything_ends_while_it_is_written(path):
    """Of a journal that had none before, which would be removed if it were empty."""

    async def ask(journal: Journal) -> None:
        desk = Desk(Reply("paid"))
        desk.let.set()
        task = asyncio.create_task(journal.reply(KEY, ORIGIN, desk.ask))
        await desk.begun.wait()
        task.cancel()
        journal.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    for _ in range(20):  # the writer must be overtaken, which it seldom is
        with Journal(path) as journal:
            asyncio.run(ask(journal))
        assert kept(path) == Reply("paid", reused=True)
        path.unlink()


def test_an_error_is_shared_noted_and_asked_again_next_time(journal, path):
    async def ask(*outcomes: Reply | BaseException) -> tuple[list[Any], int]:
        desk = Desk(*outcomes)
        desk.let.set()
        origins = (ORIGIN, Origin("q2", ("d1", "d2")))
        both = (journal.reply(KEY, origin, desk.ask) for origin in origins)
        return await asyncio.gather(*both, return_exceptions=True), desk.asked

    journal.begin(RunDescription(asked=RunIdentity(method="one")))
    journal.add_query(0, Query("q1", "x"), [])
    journal.add_query(1, Query("q2", "x"), [])
    (one, other), asked = asyncio.run(ask(EngineError("busy")))
    assert (str(one), str(other), asked) == ("busy", "busy", 1)
    assert kept(path) is None
    (again, shared), asked = asyncio.run(ask(Reply("yes")))
    assert (again.text, shared.text, asked) == ("yes", "yes", 1)
    journal.close()
    with ReadJournal(path) as read:
        assert [read.reply_to(1, Origin(q, ("d1", "d2"))).text for q in ("q1", "q2")] == ["yes"] * 2


def test_an_error_is_noted_for_everyone_who_got_it(journal, path):
    async def ask() -> None:
        desk = Desk(EngineError("busy"))
        desk.let.set()
        origins = [Origin(f"q{number}", ("d1",)) for number in range(3)]
        asked = (journal.reply(KEY, origin, desk.ask) for origin in origins)
        await asyncio.gather(*asked, return_exceptions=True)
        other = Desk(Reply("other"))
        other.let.set()
        await journal.reply(b"o" * 16, ORIGIN, other.ask)

    journal.begin(RunDescription(asked=RunIdentity(method="one")))
    asyncio.run(ask())
    journal.close()
    with ReadJournal(path) as read:
        errors = [read.reply_to(1, Origin(f"q{number}", ("d1",))) for number in range(3)]
    assert [reply and reply.error for reply in errors] == ["busy"] * 3


def test_a_good_reply_is_never_lost_to_a_later_error(journal, path):
    async def answer() -> Reply:
        return Reply("good")

    async def ask() -> Reply:
        return await journal.reply(KEY, ORIGIN, answer)

    async def fails() -> Reply:
        raise AssertionError("was asked again")

    asyncio.run(ask())
    again = asyncio.run(journal.reply(KEY, ORIGIN, fails))
    assert again == Reply("good", reused=True)


def test_a_reply_is_on_disk_before_a_method_sees_it(tmp_path):
    """The final round is asked with all replies of the first one to be read by anyone."""
    found: list[int] = []

    def script(request: Request) -> str:
        if request.origin.repeat == 1:
            with ReadJournal(tmp_path / "j") as read:
                found.append(read.count("replies", "NOT failed"))
        return json_reply([len(passage) % 11 for passage in request.passages])

    candidates = [Candidate(f"d{n}", "yeast " * (n + 1), -n) for n in range(30)]
    ranker = GroupwiseLlmRanker(
        engine=ScriptedEngine(script), journal=tmp_path / "j", group_size=10, final_round=5
    )
    with ranker:
        asyncio.run(ranker.rank_candidates(Query("q", "bread"), candidates))
    assert found == [3]


def test_the_journal_writes_with_fsync(journal):
    journal.begin(RunDescription())
    files = journal._files()
    assert files.writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert files.writer._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_closed_journal_is_not_opened_again(path):
    journal = Journal(path)
    journal.close()
    with pytest.raises(JournalError, match="the journal is closed"):
        journal.begin(RunDescription())
    assert not path.exists()


def test_two_rankers_of_a_process_take_turns_whichever_thread_closes(path):
    def engine() -> ScriptedEngine:
        return ScriptedEngine(lambda request: json_reply([1] * len(request.passages)))

    async def rank(ranker: GroupwiseLlmRanker) -> int:
        _, usage = await ranker.rank_candidates(Query("q", "bread"), [Candidate("d1", "a", 1.0)])
        return usage.reused

    first, second = (GroupwiseLlmRanker(engine=engine(), journal=path) for _ in range(2))
    thread = threading.Thread(target=lambda: asyncio.run(rank(first)))
    thread.start()
    thread.join(30)
    with pytest.raises(JournalError, match="another run is writing"):
        asyncio.run(rank(second))
    second.close()
    first.close()
    with GroupwiseLlmRanker(engine=engine(), journal=path) as third:
        assert asyncio.run(rank(third)) == 1
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_written_is_an_error_for_all_and_nothing_more_is_asked(path):
    """A value that SQLite does not take stands for any defect in the writing thread."""
    journal = Journal(path)
    journal.begin(RunDescription())
    with pytest.raises(JournalError):
        journal._files().writer.submit(
            ("INSERT INTO runs VALUES (?, ?, ?, ?)", (2**70,) * 4)
        ).result(30)
    asked = []

    async def ask() -> Reply:
        asked.append(1)
        return Reply("paid for nothing")

    with pytest.raises(JournalError):
        asyncio.run(journal.reply(KEY, ORIGIN, ask))
    assert not asked
    with pytest.raises(JournalError):
        journal.close()


# --- Kept as it was ---------------------------------------------------------------------------

TEXTS = st.text(st.characters(), max_size=60) | st.sampled_from(
    ["", "\ud83d", "\x00", "Fußboden 日本 😀", "x" * 200_000]
)
FLOATS = st.floats(allow_nan=False)
REPLIES = st.builds(
    Reply,
    text=TEXTS,
    slot_probabilities=st.none()
    | st.lists(st.lists(FLOATS, max_size=11).map(tuple), max_size=3).map(tuple),
    forced=st.booleans(),
    cut_passages=st.integers(0, 10**6),
    prompt_tokens=st.integers(0, 2**62),
    completion_tokens=st.integers(0, 2**62),
    finish_reason=st.sampled_from(["stop", "length"]),
    seconds=FLOATS,
)


keys = (number.to_bytes(16, "big") for number in itertools.count())


@given(REPLIES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_reply_comes_back_as_it_was(journal, reply):
    async def ask() -> Reply:
        return reply

    key = next(keys)
    assert asyncio.run(journal.reply(key, ORIGIN, ask)) == reply
    found = kept(journal.path, key)
    assert found == dataclasses.replace(reply, reused=True)
    assert found.seconds == reply.seconds


def test_no_number_comes_back_as_none(journal):
    nan = float("nan")

    async def ask() -> Reply:
        return Reply(slot_probabilities=((nan, 1.0), (float("inf"), -0.0)), seconds=nan)

    asyncio.run(journal.reply(KEY, ORIGIN, ask))
    found = kept(journal.path)
    assert repr(found.slot_probabilities) == "((nan, 1.0), (inf, -0.0))"
    assert repr(found.seconds) == "nan"


def test_a_journal_with_nothing_but_errors_is_removed(path):
    async def ask() -> Reply:
        raise EngineError("busy")

    with Journal(path) as journal, pytest.raises(EngineError):
        asyncio.run(journal.reply(KEY, ORIGIN, ask))
    assert list(path.parent.iterdir()) == []


# --- Asked again ------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Shop:
    monkeypatch.setitem(ENGINES, "Paid", "support.paid:Paid")
    monkeypatch.setenv("PAID", str(tmp_path / "paid.log"))
    return Shop(tmp_path)


def asked(shop: Shop, *options: str, method: tuple[str, ...] = ()) -> int:
    """How many questions a run with these options asks."""
    before = len(shop.paid)
    assert main(shop.arguments(*options, method=method)) == 0
    return len(shop.paid) - before


def test_the_same_command_again_asks_nothing_and_writes_the_same(shop):
    assert asked(shop) == 36
    first = shop.out.read_bytes()
    shop.out.unlink()
    assert asked(shop) == 0
    assert shop.out.read_bytes() == first


@pytest.mark.parametrize(
    "changed",
    [("--fusion", "rrf"), ("--first_stage_weight", "0.5"), ("--ties", "doc_id"),
     ("--ties", "random")],
)  # fmt: skip
def test_other_ways_to_merge_ask_nothing(shop, changed):
    assert asked(shop, method=("--num_repeat", "2")) == 72
    first = shop.out.read_bytes()
    assert asked(shop, method=("--num_repeat", "2", *changed)) == 0
    assert shop.out.read_bytes() != first


def test_more_repeats_ask_the_new_ones_only(shop):
    assert asked(shop) == 36
    assert asked(shop, method=("--num_repeat", "3")) == 72
    assert asked(shop, method=("--num_repeat", "2")) == 0


def test_what_changes_the_question_asks_anew_and_back_asks_nothing(shop):
    prompt = shop.write(
        "mine.toml", 'prompt_user = "Q={query} D={docs}"\ndoc_prefix = "<{num}> "\n'
    )
    assert asked(shop) == 36
    for options, method in [
        (("--prompt_file", str(prompt)), ()),
        (("--passage_length", "12"), ()),
        (("--scoring", "likelihood"), ()),
        (("--max_tokens", "77"), ()),
        ((), ("--group_size", "15")),
    ]:
        new = 24 if "15" in method else 36
        assert asked(shop, *options, method=method) == new
        assert asked(shop, *options, method=method) == 0
    assert asked(shop) == 0
    assert asked(shop, "--hits", "20") == 24


def test_with_a_longer_passage_only_those_that_were_cut_are_asked(shop):
    assert asked(shop, "--passage_length", "13") == 36
    assert asked(shop, "--passage_length", "500") == 0


def test_what_failed_is_asked_again_and_nothing_else(shop):
    failing = ("--engine_args", "fails=[7, 8]", "--max_failure_rate", "1")
    answered = asked(shop, *failing)
    assert 0 < answered < 36
    assert asked(shop) == 36 - answered
    assert asked(shop) == 0


def test_without_a_journal_all_is_asked_again_and_nothing_is_left(shop):
    assert asked(shop, "--no_journal") == 36
    assert asked(shop, "--no_journal") == 36
    assert not shop.journal.exists()


# --- Looked at --------------------------------------------------------------------------------


def looked_at(capsys, shop: Shop, action: str, *options: str) -> str:
    capsys.readouterr()
    assert main(["journal", action, "--journal", str(shop.journal), *options]) == 0
    return capsys.readouterr().out


def test_export_has_a_line_for_each_question(shop, capsys):
    asked(shop, method=("--num_repeat", "2"))
    exported = looked_at(capsys, shop, "export")
    records = [json.loads(line) for line in exported.splitlines()]
    assert len(records) == 72
    questions = {(r["query_id"], r["repeat"], tuple(r["doc_ids"])) for r in records}
    assert questions == {(q, r, tuple(d)) for q, r, d in map(json.loads, shop.paid)}
    for record in records:
        assert record["status"] == "exact"
        assert record["text"].startswith("<reason>scripted</reason>")
        assert len(record["scores"]) == len(record["doc_ids"]) == 10
        assert record["prompt_tokens"] > 100 > record["completion_tokens"] > 10
        assert record["seconds"] > 0
        assert record["query"]
        assert record["error"] is None
    copy = shop.folder / "export.jsonl"
    looked_at(capsys, shop, "export", "--save_path", str(copy))
    assert copy.read_text(encoding="utf-8") == exported


def test_export_takes_any_text_and_is_utf8(shop, capsys):
    texts = {"d0": "Fußboden", "d1": "\ud83d 日本"}
    Experiment(
        first_stage=FirstStage(
            {"q1": [RunEntry(doc_id, 1.0) for doc_id in texts]},
            {"q1": "was kostet ein Fußboden"},
            MemoryPassages({("q1", doc_id): text for doc_id, text in texts.items()}),
        ),
        ranker=GroupwiseLlmRanker(
            engine=ScriptedEngine(['\ud83d Fußboden 日本 {"[1]": 1, "[2]": 2}']),
            journal=shop.journal,
        ),
        save_path=shop.out,
    ).run()
    copy = shop.folder / "export.jsonl"
    looked_at(capsys, shop, "export", "--save_path", str(copy))
    (line,) = copy.read_text(encoding="utf-8").splitlines()
    assert "Fußboden 日本" in line
    record = json.loads(line)
    assert record["text"].startswith("\ud83d Fußboden 日本 ")
    assert (record["query"], record["scores"]) == ("was kostet ein Fußboden", [1.0, 2.0])


def test_export_does_not_overwrite_the_journal(shop, capsys):
    asked(shop)
    before = shop.journal.read_bytes()
    command = [
        "journal",
        "export",
        "--journal",
        str(shop.journal),
        "--save_path",
        str(shop.journal),
    ]
    assert main(command) == 2
    assert "--save_path is the journal" in capsys.readouterr().err
    assert shop.journal.read_bytes() == before


def test_stats_add_up(shop, capsys):
    asked(shop)
    failing = ("--engine_args", "fails=[7]", "--max_failure_rate", "1")
    asked(shop, *failing, method=("--num_repeat", "2"))
    stats = json.loads(looked_at(capsys, shop, "stats", "--json"))
    one, two = stats["runs"]
    assert one["statuses"] == {"exact": 36}
    assert two["statuses"]["exact"] + two["statuses"]["failed"] == two["questions"] == 72
    assert stats["replies"] == len(shop.paid)
    assert stats["errors"] == two["statuses"]["failed"]
    assert (one["queries_begun"], one["queries"]) == (12, 12)
    records = [json.loads(line) for line in looked_at(capsys, shop, "export").splitlines()]
    for name in ("prompt_tokens", "completion_tokens", "seconds"):
        for run in (one, two):
            summed = sum(r[name] for r in records if r["run"] == run["run"])
            assert summed == pytest.approx(run[name])
    table = looked_at(capsys, shop, "stats")
    assert "12 of 12 queries begun, 36 questions answered (36 exact)" in table


def test_verify_finds_a_whole_journal_whole(shop, capsys):
    asked(shop)
    assert looked_at(capsys, shop, "verify") == f"{shop.journal}: whole, 36 replies\n"


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE replies SET content = x'00' WHERE reply = 5",
        "UPDATE replies SET content = substr(content, 1, length(content) - 4) WHERE reply = 5",
        "DELETE FROM replies WHERE reply = 5",
        "UPDATE queries SET shown = x'00' WHERE place = 3",
        "UPDATE questions SET doc_ids = 'd1' WHERE reply = 7",
    ],
)
def test_verify_finds_what_is_wrong_within(shop, capsys, harm):
    asked(shop)
    connection = sqlite3.connect(shop.journal)
    connection.execute(harm)
    connection.commit()
    connection.close()
    assert main(["journal", "verify", "--journal", str(shop.journal)]) == 1
    message = capsys.readouterr().err
    assert "is damaged; " in message
    copy = str(shop.folder / "copy")
    assert main(["journal", "verify", "--journal", str(shop.journal), "--save_path", copy]) == 0
    left = 35 if "replies" in harm else 36
    assert f"copied {left} replies" in capsys.readouterr().out
    assert asked(shop, "--journal", copy) == 36 - left


# --- A server in trouble ----------------------------------------------------------------------


def troubled(share: float, hung_up: threading.Event) -> Callable[[Body], Answer]:
    """Of first askings a share gets no good answer, chosen by the messages; the others do."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def answer(body: Body) -> Answer:
        question = json.dumps(body["messages"])
        with lock:
            seen[question] += 1
            chosen = random.Random(f"{question} {seen[question]}")
        if chosen.random() >= share:
            return sane(body)
        kind = chosen.randrange(6)
        if kind == 5:  # later than the client waits: until the test is over
            hung_up.wait(30)
        return [
            failure(429, "slow down"), failure(500), drop(), Raw(b"", announced=100),
            Raw(b"<html>garbage"), failure(503),
        ][kind]  # fmt: skip

    return answer


@pytest.mark.parametrize("seed", [0, 1])
def test_a_server_in_trouble_is_led_through_a_whole_run(
    shop, chat_server, monkeypatch, tmp_path, seed
):
    pytest.importorskip("openai", reason="the extra [openai] is not installed")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    over = threading.Event()
    server = chat_server(troubled(0.3, over))
    run = RunFile(shop.folder / "run.trec")
    first_stage = FirstStage(
        run,
        read_queries(shop.folder / "queries.tsv"),
        JsonlPassages(shop.folder / "corpus.jsonl"),
    )
    args = {"base_url": server.url, "timeout": 0.5, "max_retries": 3, "concurrency": 16}

    def run_it(max_failure_rate: float) -> Any:
        with GroupwiseLlmRanker(
            engine="openai", engine_args=args, scoring="generation", group_size=10, seed=seed,
            journal=tmp_path / "journal",
        ) as ranker:  # fmt: skip
            return Experiment(
                first_stage=first_stage, ranker=ranker, save_path=tmp_path / "out.trec",
                max_failure_rate=max_failure_rate,
            ).run()  # fmt: skip

    try:
        summary = run_it(0.9)
        assert summary.queries == 12
        assert sum(summary.statuses.values()) == summary.groups == summary.usage.calls == 36
        assert summary.statuses["failed"] == summary.usage.errors < 18
        assert len(server.bodies) > 36
        server.answer = sane
        asked_before = len(server.bodies)
        again = run_it(0.0)
        assert again.statuses["failed"] == 0
        assert len(server.bodies) - asked_before == summary.statuses["failed"]
    finally:
        over.set()


# --- Asked by name ----------------------------------------------------------------------------


def test_repeats_are_asked_one_by_one_only_where_they_draw(journal):
    engine = ScriptedEngine(lambda request: json_reply([1, 2]))

    async def ask(temperature: float) -> int:
        asker = EngineCaller(engine, Sampling(temperature=temperature), journal)
        before = len(engine.requests)
        request = Request("q", ("a", "b"), ("[1]", "[2]"), ({"role": "user", "content": "?"},))
        origins = (dataclasses.replace(ORIGIN, repeat=repeat) for repeat in range(3))
        await asker([dataclasses.replace(request, origin=origin) for origin in origins])
        return len(engine.requests) - before

    assert [asyncio.run(ask(t)) for t in (0.0, 0.0, 1.0, 1.0)] == [1, 0, 3, 0]


def test_an_identity_that_cannot_be_had_ends_it(journal):
    class Unknown(ScriptedEngine):
        def identity(self) -> dict[str, object]:
            raise ModelError("no such model")

    engine = Unknown([])
    request = Request("q", ("a",), ("[1]",), ({"role": "user", "content": "?"},))
    with pytest.raises(ModelError, match="no such model"):
        asyncio.run(EngineCaller(engine, Sampling(), journal)([request]))
    assert engine.requests == []


# --- Other methods ----------------------------------------------------------------------------

OTHERS = {
    "setwise": (("setwise", "--k", "5"), ()),
    "listwise": (("listwise", "--num_repeat", "5"), ()),
    "pointwise": (("pointwise",), ()),
    "pointwise, words": (("pointwise",), ("--scoring", "generation")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_of_any_method_is_resumed_and_looked_at(shop, capsys, name):
    """Ended on its way, it goes on and asks nothing again; its own reader reads its replies."""
    shop.ranked_by, options = OTHERS[name]
    ended = shop.run(*options, ends="SIGINT after 18")
    assert ended.returncode not in (0, -9), ended.stderr
    kept, paid = shop.kept(), shop.paid
    assert len(kept) >= 10
    assert shop.run(*options).returncode == 0
    again = [line.strip() for line in shop.paid[len(paid) :]]
    assert again
    assert not kept & set(again)
    resumed = shop.out.read_bytes()
    shop.out.unlink()
    assert asked(shop, *options) == 0
    assert shop.out.read_bytes() == resumed

    stats = json.loads(looked_at(capsys, shop, "stats", "--json"))
    (run,) = stats["runs"]
    manifest = json.loads(Path(f"{shop.out}.manifest.json").read_text(encoding="utf-8"))
    counted = {status: n for status, n in manifest["counters"]["statuses"].items() if n}
    assert run["method"] == shop.ranked_by[0]
    assert (run["statuses"], run["questions"]) == (counted, manifest["counters"]["groups"])
    records = [json.loads(line) for line in looked_at(capsys, shop, "export").splitlines()]
    assert len(records) == run["questions"]
    assert Counter(record["status"] for record in records) == counted
    for record in records:
        scores = [score for score in record["scores"] if score is not None]
        if name == "setwise":
            assert (record["scores"].count(1.0), len(scores)) == (1, 1)
        if name == "listwise":
            n = len(record["doc_ids"])
            assert sorted(scores) == [float(label) for label in range(1, n + 1)]
        if name.startswith("pointwise"):
            assert len(record["doc_ids"]) == len(scores) == 1
            assert 0 <= scores[0] <= 1


def test_methods_share_a_journal_and_no_reply(shop):
    """Each in its own run; an engine that reads prompts is asked other ones by each."""
    asked_of = {}
    for name, (words, options) in OTHERS.items():
        shop.ranked_by = words
        asked_of[name] = asked(shop, *options, "--journal", str(shop.journal))
        assert asked_of[name] > 0
        assert asked(shop, *options, "--journal", str(shop.journal)) == 0
    shop.ranked_by = ("groupwise", "--group_size", "10")
    assert asked(shop, "--journal", str(shop.journal)) == 36


def test_a_run_of_a_later_version_is_refused_by_what_is_unknown(shop, capsys):
    with Journal(shop.journal) as journal:
        asked_ = RunIdentity(method="tournament")
        described = {"engine": {"engine": "x"}, "method": "tournament", "queries": 1}
        journal.begin(RunDescription(asked=asked_, **described))
        journal.add_query(0, Query("q1", "?"), [])

        async def ask() -> Reply:
            return Reply("x")

        asyncio.run(journal.reply(KEY, ORIGIN, ask))
    for action in ("stats", "export"):
        assert main(["journal", action, "--journal", str(shop.journal)]) == 1
        error = capsys.readouterr().err
        assert "a run in this journal is of another version of this package" in error
        assert "tournament" in error
