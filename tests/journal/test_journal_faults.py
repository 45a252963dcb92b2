"""Runs that are killed, interrupted, out of space or cut off, in processes of their own."""

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.paid import QUERIES, Shop

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.errors import GroupwiseError, JournalError
from llmrankers_groupwise.journal.journal import APPLICATION_ID, Journal, ReadJournal
from llmrankers_groupwise.journal.run_description import RunDescription
from llmrankers_groupwise.journal.verify import check_journal, salvage

NewShop = Callable[..., Shop]


@pytest.fixture
def new_shop(tmp_path: Path) -> NewShop:
    """Makes shops, each in a folder of its own."""
    shops: list[Shop] = []

    def make(
        options: Sequence[str] = (), method: Sequence[str] = (), queries: int = QUERIES
    ) -> Shop:
        folder = tmp_path / f"shop{len(shops)}"
        folder.mkdir()
        shops.append(Shop(folder, options, method, queries))
        return shops[-1]

    return make


# --- Killed -----------------------------------------------------------------------------------

SETTINGS: dict[str, tuple[list[str], list[str], int]] = {
    "likelihood": (["--scoring", "likelihood"], ["--num_repeat", "2"], 70),
    "final round": (["--scoring", "generation"], ["--final_round", "5", "--overlap", "2"], 12),
    "until stable": ([], ["--num_repeat", "6", "--until_stable", "2"], 12),
}
# Of each one comes when something must be kept: so many are only asked for after others were seen.
KILLS = {
    "likelihood": ["before 1", "after 1", "before 7", "after 390", "after 9 later 5", "after 9"],
    "final round": ["before 50", "after 2", "before 3"],
    "until stable": ["before 40", "after 9 later 3", "before 3"],
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(new_shop, name):
    whole, killed = new_shop(*SETTINGS[name]), new_shop(*SETTINGS[name])
    assert whole.run().returncode == 0
    assert len(set(whole.paid)) == len(whole.paid) > 36
    in_flight = 0
    for ends in KILLS[name]:
        before, kept_before = len(killed.paid), killed.kept()
        ended = killed.run(ends=f"SIGKILL {ends}")
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not killed.out.exists()
        new, kept = killed.paid[before:], killed.kept()
        assert not kept_before & set(new), "an answer was kept and asked for again"
        assert kept_before <= kept, "an answer was lost"
        in_flight += len(set(new) - kept)
    assert killed.kept(), "the kills came too early to prove anything"
    ended = killed.run()
    assert ended.returncode == 0, ended.stderr
    assert killed.out.read_bytes() == whole.out.read_bytes()
    assert set(killed.paid) == set(whole.paid)
    assert len(killed.paid) <= len(whole.paid) + in_flight
    again = len(killed.paid)
    assert killed.run().returncode == 0
    assert len(killed.paid) == again
    assert killed.out.read_bytes() == whole.out.read_bytes()


def test_the_journal_of_a_killed_run_is_read_where_it_stopped(new_shop):
    shop = new_shop(queries=90)
    assert shop.run(ends="SIGKILL before 220").returncode == -signal.SIGKILL
    for words in (["stats"], ["export"], ["verify"]):
        assert main(["journal", *words, "--journal", str(shop.journal)]) == 0
    assert 9 <= len(shop.kept()) <= 219


# --- Ended in order ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "code"), [("SIGINT after 230", 130), ("SIGTERM after 230 later 3", 143)]
)
def test_an_interrupted_run_says_what_it_did_and_the_next_goes_on(new_shop, ends, code):
    whole, shop = new_shop(queries=90), new_shop(queries=90)  # more than are in flight together
    assert whole.run().returncode == 0
    ended = shop.run(ends=ends)
    assert ended.returncode == code, ended.stderr
    assert re.search(
        r"of finished queries until then: \d+ queries, .*\d+ groups \(\d+ exact", ended.stderr
    )
    assert f"replies are kept in {shop.journal}: the same command goes on" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not shop.out.exists()
    kept = shop.kept()
    assert len(kept) >= 230 - 64 * 3
    paid = len(shop.paid)
    assert [path.name for path in shop.folder.glob("*.journal.*")] == [shop.journal.name]
    assert shop.run().returncode == 0
    assert not kept & set(shop.paid[paid:])
    assert len(shop.paid) == 270 + paid - len(kept)
    assert shop.out.read_bytes() == whole.out.read_bytes()


def test_a_run_that_fails_too_often_keeps_its_replies_and_goes_on_with_the_rest(new_shop):
    whole, shop = new_shop(), new_shop()
    assert whole.run().returncode == 0
    ended = shop.run("--engine_args", "fails=[1, 2, 3, 4]")
    assert ended.returncode == 1
    assert "groups failed, more than max_failure_rate = 0.1 allows" in ended.stderr
    assert "out of order" in ended.stderr
    assert "until then: " in ended.stderr
    assert f"replies are kept in {shop.journal}" in ended.stderr
    assert not shop.out.exists()
    kept, paid = shop.kept(), len(shop.paid)
    assert len(kept) == paid > 0
    assert shop.run().returncode == 0
    assert len(shop.paid) == len(set(shop.paid)) == 36
    assert shop.out.read_bytes() == whole.out.read_bytes()


def test_unreadable_replies_are_shown_where_they_end_a_run(new_shop):
    shop = new_shop()
    ended = shop.run("--engine_args", "junk='I would rather not.'")
    assert ended.returncode == 1
    assert "'I would rather not.'" in ended.stderr
    assert len(shop.kept()) == len(shop.paid) >= 20


# --- Two at a time ----------------------------------------------------------------------------


def test_a_second_run_on_a_journal_is_refused_at_once_and_the_first_is_unharmed(new_shop):
    whole, shop = new_shop(queries=90), new_shop(queries=90)
    assert whole.run().returncode == 0
    with shop.start(ends="PAUSE before 220") as first:
        assert first.stdout.readline() == "paused\n"
        second = shop.run("--save_path", str(shop.folder / "second.trec"),
                          "--journal", str(shop.journal))  # fmt: skip
        assert second.returncode == 1
        assert f"{shop.journal}: another run is writing to this journal" in second.stderr
        assert not (shop.folder / "second.trec").exists()
        assert main(["journal", "stats", "--journal", str(shop.journal)]) == 0
        assert main(["journal", "verify", "--journal", str(shop.journal)]) == 0
        assert 9 <= len(shop.kept()) <= 219
        _, stderr = first.communicate("go\n", timeout=60)
    assert first.returncode == 0, stderr
    assert shop.out.read_bytes() == whole.out.read_bytes()
    assert len(shop.paid) == len(whole.paid)


def test_a_run_that_is_going_on_can_be_merged_as_far_as_it_is(new_shop, capsys):
    shop = new_shop(queries=200)
    merged = str(shop.folder / "merged.trec")
    arguments = ["merge", "--journal", str(shop.journal), "--save_path", merged]
    with shop.start(ends="PAUSE before 220") as first:
        assert first.stdout.readline() == "paused\n"
        assert main([*arguments, "groupwise"]) == 1
        assert "run its command again first" in capsys.readouterr().err
        lenient = ["--allow_missing", "--max_failure_rate", "1"]
        assert main([*arguments, *lenient, "groupwise"]) == 0
        first.communicate("go\n", timeout=60)
    assert first.returncode == 0
    assert main([*arguments, "groupwise"]) == 0
    assert Path(merged).read_bytes() == shop.out.read_bytes()


# --- No place ---------------------------------------------------------------------------------

LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"


@pytest.mark.parametrize("size", [4096, 20_000, 60_000, 100_000])
def test_a_full_disk_ends_the_run_in_order_and_loses_nothing(new_shop, size):
    """As a limit on the size of files: SQLite meets it in its WAL, anywhere in a transaction."""
    options = (["--scoring", "likelihood"], ["--num_repeat", "2"], 90)
    whole, shop = new_shop(*options), new_shop(*options)
    assert whole.run().returncode == 0
    ended = shop.run(before=LIMITED.format(size=size))
    assert ended.returncode == 1
    assert f"{shop.journal}: the journal cannot be used (" in ended.stderr
    assert "has space left" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not shop.out.exists()
    before, kept = shop.paid, shop.kept()
    assert len(kept) < len(whole.paid)
    assert shop.run().returncode == 0
    assert not kept & set(shop.paid[len(before) :])
    assert shop.out.read_bytes() == whole.out.read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "groupwise-test", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_ends_the_run_and_with_room_it_goes_on(new_shop, small_disk):
    options = (["--scoring", "likelihood"], ["--num_repeat", "2"], 200)
    whole, shop = new_shop(*options), new_shop(*options)
    assert whole.run().returncode == 0
    path = small_disk / "journal.sqlite"
    journal = ("--journal", str(path))
    assert shop.run(*journal, ends="SIGINT after 20").returncode == 130
    first = shop.kept(path)
    assert 0 < len(first) < 600
    # However its transactions fall, the other replies do not fit.
    ballast = small_disk / "ballast"
    room = shutil.disk_usage(small_disk).free
    ballast.write_bytes(bytes(room - whole.journal.stat().st_size // 3))
    ended = shop.run(*journal)
    assert ended.returncode == 1, ended.stderr
    assert "the journal cannot be used (database or disk is full)" in ended.stderr
    before, kept = len(shop.paid), shop.kept(path)
    assert first <= kept
    assert len(kept) < len(whole.paid)
    ballast.unlink()
    assert shop.run(*journal).returncode == 0
    assert not kept & set(shop.paid[before:])
    assert shop.out.read_bytes() == whole.out.read_bytes()


@pytest.mark.parametrize("place", ["none/journal.sqlite", "outputs", "/dev/null", "run.trec/x"])
def test_a_journal_that_cannot_be_there_is_refused_before_anything_is_asked(desk, engines, place):
    before = desk.listing()
    assert desk.run("--journal", str(desk.folder / place)) == 1
    assert f"{desk.folder / place}: " in desk.stderr
    assert "Traceback" not in desk.stderr
    assert desk.listing() == before
    assert all(not engine.requests for engine in engines)


def test_a_folder_that_may_not_be_written_to_is_found_out_first(desk, engines):
    desk.outputs.chmod(0o500)
    try:
        if os.access(desk.outputs, os.W_OK):
            pytest.skip("this user may write everywhere")
        assert desk.run() == 2
        assert "cannot be written" in desk.stderr
        assert desk.run("--journal", str(desk.outputs / "j"), save_path=desk.folder / "o") == 1
        assert "the journal cannot be written" in desk.stderr
        assert all(not engine.requests for engine in engines)
    finally:
        desk.outputs.chmod(0o700)


def test_an_empty_file_becomes_a_journal(desk, engines):
    path = desk.write("journal", "")
    assert desk.run("--journal", path) == 0
    assert path.stat().st_size > 0
    assert desk.run("--journal", path) == 0
    assert not engines[-1].requests


def database(path: Path, *statements: str) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


WRONG = {
    "a text": (lambda path: path.write_text("replies\n" * 900), "no journal"),
    "a foreign database": (
        lambda path: database(path, "CREATE TABLE t (x)"),
        "a database, but no journal; give another file",
    ),
    "a newer journal": (
        lambda path: database(
            path, f"PRAGMA application_id = {APPLICATION_ID}", "PRAGMA user_version = 2",
            "CREATE TABLE replies (x)",
        ),
        "a journal of version 2, this is 1; give another file, or use the version of this",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_another_file_is_no_journal_and_stays_as_it_was(desk, engines, wrong):
    make, complaint = WRONG[wrong]
    path = desk.folder / "journal"
    make(path)
    before = desk.listing()
    assert desk.run("--journal", path) == 1
    assert complaint in desk.stderr
    for action in ("stats", "export", "verify"):
        assert main(["journal", action, "--journal", str(path)]) == 1
        assert complaint in desk.capture.readouterr().err
    copy = desk.folder / "copy"
    assert main(["journal", "verify", "--journal", str(path), "--save_path", str(copy)]) == 1
    assert desk.listing() == before
    assert all(not engine.requests for engine in engines)


# --- Cut off ----------------------------------------------------------------------------------


def keys_of(path: Path) -> dict[bytes, bytes]:
    """The replies of a whole journal as they are stored."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT key, content FROM replies"))


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop whose journal is whole, of a run with forms."""
    folder = tmp_path_factory.mktemp("cut")
    shop = Shop(folder, ["--scoring", "likelihood"], ["--num_repeat", "4"])
    assert shop.run().returncode == 0
    return shop


def test_a_journal_cut_in_its_last_page_is_refused_and_what_is_there_is_saved(cut, tmp_path):
    content, kept = cut.journal.read_bytes(), keys_of(cut.journal)
    path, copy = tmp_path / "cut", tmp_path / "copy"
    (pages, size) = (int.from_bytes(content[28:32], "big"), int.from_bytes(content[16:18], "big"))
    assert pages * size == len(content)
    there = len(content) - size
    for length in range(there, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(JournalError, match=r"the journal is damaged .* journal verify"):
            ReadJournal(path)
        with pytest.raises(JournalError, match="the journal is damaged"), Journal(path) as journal:
            journal.begin(RunDescription())
        assert path.read_bytes() == content[:length]
        if length % 97 == 0 or length in (there, len(content) - 1):
            assert check_journal(path).problems
            salvage(path, copy)
            saved = keys_of(copy)
            assert saved.items() <= kept.items()
            on_whole_pages = {key for key, reply in kept.items() if reply in content[:there]}
            assert len(on_whole_pages) > len(kept) // 2
            # SQLite leaves a copy of a row behind where it splits a page.
            assert len(on_whole_pages - saved.keys()) <= 1
            copy.unlink()
    assert [each.name for each in tmp_path.iterdir()] == ["cut"]


def test_replies_saved_from_a_journal_are_not_asked_again(cut, new_shop, tmp_path):
    shop, copy = new_shop(cut.options, cut.method), tmp_path / "copy"
    content = cut.journal.read_bytes()
    shop.journal.write_bytes(content[: len(content) * 2 // 3])
    ended = shop.run()
    assert ended.returncode == 1
    assert f"journal verify --journal {shop.journal} --save_path COPY" in ended.stderr
    assert shop.paid == []
    assert main(["journal", "verify", "--journal", str(shop.journal)]) == 1
    saving = ["journal", "verify", "--journal", str(shop.journal), "--save_path", str(copy)]
    assert main(saving) == 0
    assert main(saving) == 2, "a copy is not written over"
    saved = len(keys_of(copy))
    assert 0 < saved < len(cut.paid)
    assert shop.run("--journal", str(copy)).returncode == 0
    assert len(shop.paid) == len(cut.paid) - saved
    assert shop.out.read_bytes() == cut.out.read_bytes()


def test_a_wal_cut_in_its_last_frame_loses_at_most_the_last_transaction(new_shop, tmp_path):
    shop = new_shop(queries=90)
    assert shop.run(ends="SIGKILL after 220").returncode == -signal.SIGKILL
    wal = Path(f"{shop.journal}-wal").read_bytes()
    content, path = shop.journal.read_bytes(), tmp_path / "cut.sqlite"
    page = int.from_bytes(wal[8:12], "big")
    frames = [wal[at : at + 24 + page] for at in range(32, len(wal) - page - 23, 24 + page)]
    salt = wal[16:24]
    valid = [frame[8:16] == salt for frame in frames]
    used = valid.index(False) if False in valid else len(valid)
    ends = [n for n in range(used) if frames[n][4:8] != bytes(4)]  # frames that end a transaction
    assert ends[-1] == used - 1
    assert len(ends) > 3

    def kept(length: int) -> set[bytes]:
        path.write_bytes(content)
        Path(f"{path}-wal").write_bytes(wal[:length])
        with Journal(path) as journal:
            journal.begin(RunDescription())
            return set(keys_of(path))

    whole = kept(len(wal))
    less = kept(32 + (ends[-2] + 1) * (24 + page))
    assert less <= whole
    last = 32 + (used - 1) * (24 + page)
    for length in [*range(last, last + 24 + page, 61), last + 23 + page]:
        assert kept(length) == less


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_damage_anywhere_is_an_error_of_ours_or_harmless(cut, tmp_path_factory, seed, many):
    """Bytes changed at random: what reads a journal raises JournalError, and nothing else."""
    rng = random.Random(seed)
    content = bytearray(cut.journal.read_bytes())
    for _ in range(many):
        content[rng.randrange(len(content))] = rng.randrange(256)
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "damaged.sqlite"
    path.write_bytes(content)
    kept = keys_of(cut.journal)
    with contextlib.suppress(GroupwiseError):
        check_journal(path)
    with contextlib.suppress(GroupwiseError):
        salvage(path, folder / "copy")
        saved = keys_of(folder / "copy")
        for key in saved.keys() & kept.keys():  # bytes behind the packed ones may differ
            assert zlib.decompress(saved[key]) == zlib.decompress(kept[key])
    with contextlib.suppress(GroupwiseError), ReadJournal(path) as journal:
        for key in kept:
            journal.reply(key)
        for run in journal.runs():
            for _, query, _ in journal.queries(run.number):
                list(journal.replies(run.number, query.query_id))
