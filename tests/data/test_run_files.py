"""Run files as mappings: what a line by line reading gives, in the memory of one query."""

import gc
import gzip
import math
import os
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrankers_groupwise.data.run_files import RunEntry, RunFile
from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.files import text_files

Listed = list[tuple[str, list[tuple[str, float]]]]


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def run_text(queries: int, documents: int) -> str:
    return "".join(
        f"q{query} Q0 d{query * 7 + rank} {rank} {100 - rank / 8:.4f} made\n"
        for query in range(queries)
        for rank in range(1, documents + 1)
    )


def same_hash(text: str) -> int:
    return 7


def few_hashes(text: str) -> int:
    return len(text) % 3 - 1


# --- Against a reference ----------------------------------------------------------------------

LINE = re.compile(r"\s*(\S+)\s+\S+\s+(\S.*?)\s+(\S+)\s+(\S+)\s+\S+\s*")


def reference(content: str, hits: int | None = None) -> Listed:
    """The run in a file of this content: every line read by itself, everything held."""
    found: dict[str, list[tuple[float, int, int, str]]] = {}
    for number, line in enumerate(content.removeprefix("\ufeff").split("\n")):
        if line.strip():
            query_id, doc_id, rank, score = LINE.fullmatch(line.strip("\r\n")).groups()
            found.setdefault(query_id, []).append((-float(score), int(rank), number, doc_id))
    return [
        (query_id, [(doc_id, -score) for score, _, _, doc_id in sorted(lines)[:hits]])
        for query_id, lines in found.items()
    ]


def listed(run: RunFile) -> Listed:
    return [(query_id, list(map(tuple, entries))) for query_id, entries in run.items()]


@st.composite
def run_lines(draw: st.DrawFn) -> str:
    """The text of a run file: plain or odd, its queries together or mixed."""
    odd = draw(st.booleans())
    blanks = ["\t", " ", "  ", " \t", "\xa0", "\u3000", "\x1c"] if odd else [
        draw(st.sampled_from(["\t", " "]))
    ]  # fmt: skip
    ends = ["\n", "\r\n", "\n\n", " \n", "\n \t\n"] if odd else ["\n"]
    doc_ids = ["d1", "a", "7", "größe", "x.txt", "Q0", "t"]
    if odd:
        doc_ids += ["my doc", "a  b", "a\tb", "7 7", "日本\u3000語", "\ufeff"]
    pairs = draw(
        st.lists(
            st.tuples(st.sampled_from(["1", "2", "q", "t", "ü"]), st.sampled_from(doc_ids)),
            unique=True, min_size=1, max_size=20,
        )
    )  # fmt: skip
    if draw(st.booleans()):
        pairs.sort(key=lambda pair: pair[0])
    text = draw(st.sampled_from(["", "\ufeff", "\n"])) if odd else ""
    tags = ["t", "1", "q"] if odd else ["t"]
    for query_id, doc_id in pairs:
        rank = draw(st.sampled_from(["1", "2", "03", "-1", "1_0"]))
        score = draw(st.sampled_from(["1", "0.5", "-3e2", "2", "1.0"]))
        columns = [query_id, "Q0", doc_id, rank, score, draw(st.sampled_from(tags))]
        for column in columns[:-1]:
            text += column + draw(st.sampled_from(blanks))
        text += columns[-1] + draw(st.sampled_from(ends))
    return text if draw(st.booleans()) else text.rstrip("\r\n")


@settings(deadline=None)
@given(
    content=run_lines(),
    packed=st.booleans(),
    hits=st.sampled_from([None, 1, 3]),
    hashed=st.sampled_from([hash, same_hash, few_hashes]),
    part=st.sampled_from([7, 64, 1 << 20]),
)
def test_any_run_file_reads_as_line_by_line(tmp_path_factory, content, packed, hits, hashed, part):
    raw = gzip.compress(content.encode()) if packed else content.encode()
    path = written(tmp_path_factory.getbasetemp() / "any.trec", raw)
    expected = reference(content, hits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_LINES", part)
        run = RunFile(path, hits, hashed=hashed)
        assert listed(run) == expected
        assert len(run) == len(expected)
        assert list(run) == [query_id for query_id, _ in expected]
        for query_id, documents in reversed(expected):
            assert run[query_id] == documents
            assert query_id in run
        assert "not there" not in run
        with pytest.raises(KeyError):
            run["not there"]


# --- Faults and real runs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "trec-dl19/runs/bm25.trec",
        "trec-dl19/runs/splade_pp_ed.trec",
        "scifact/runs/bm25.trec",
        "vaswani/runs/bm25.trec",
        "noveleval/runs/google_order.trec",
        "bright-stackoverflow/reasonir_gpt4cot.trec",
    ],
)
def test_the_shared_runs_read_as_line_by_line(shared, name):
    path = shared / "collections" / name
    assert listed(RunFile(path)) == reference(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("blank", [" ", "\t"])
def test_a_plain_run_reads_to_its_end(tmp_path, blank):
    text = run_text(300, 100).replace(" ", blank)
    found = listed(RunFile(written(tmp_path / "run", text)))
    assert [len(documents) for _, documents in found] == [100] * 300
    assert found == reference(text)


def first_fault(raw: bytes) -> int | None:
    """The number of the first line that is malformed, or repeats a document of the line before."""
    query, documents = None, set()
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            text = line.decode()
            if not text.strip():
                continue
            query_id, doc_id, rank, score = LINE.fullmatch(text.strip("\r\n")).groups()
            int(rank)
            assert math.isfinite(float(score))
        except (AssertionError, AttributeError, ValueError):
            return number
        if query_id != query:
            query, documents = query_id, set()
        if doc_id in documents:
            return number
        documents.add(doc_id)
    return None


def outcome(path: Path) -> Listed | str:
    try:
        return listed(RunFile(path))
    except FileError as error:
        return str(error)


def assert_faults_are_found(path: Path) -> None:
    """An error names the first fault; without one, all is read, or a document appears twice."""
    raw = path.read_bytes()
    found, fault = outcome(path), first_fault(raw)
    if fault is not None:
        assert f"{path}:{fault}: " in found
    elif isinstance(found, str):
        assert ("appears twice" if raw.strip(BLANKS) else "the file is empty") in found
    else:
        assert found == reference(raw.decode())


BLANKS = b"\xef\xbb\xbf \t\r\n"

# Few different words, so that columns of one line can pass for those of the next.
words = st.sampled_from(["1", "2", "Q0", "t", "0.5", "nan", "a"])
lines_of_words = st.lists(words, max_size=13).map(" ".join)


@settings(deadline=None)
@given(st.lists(lines_of_words, min_size=1, max_size=5).map("\n".join))
def test_faults_are_found_and_their_line_is_named(tmp_path_factory, content):
    assert_faults_are_found(written(tmp_path_factory.getbasetemp() / "words.trec", content))


@settings(deadline=None)
@given(run_lines(), st.integers(0, 10**6), st.sampled_from([b"", b" ", b"\n", b"\xe9", b"x", b"1"]))
def test_faults_in_otherwise_good_files_are_found(tmp_path_factory, content, at, fault):
    raw = content.encode()
    at %= len(raw)
    path = written(tmp_path_factory.getbasetemp() / "fault", raw[:at] + fault + raw[at + 1 :])
    assert_faults_are_found(path)


def test_lines_of_a_query_are_joined_wherever_they_are(tmp_path):
    path = written(tmp_path / "run", "1 Q0 a 1 2 t\n\n1 Q0 b c 2 1 t\r\n2 Q0 a 1 9 t\n1 Q0 d 3 0 t")
    assert listed(RunFile(path)) == [
        ("1", [("a", 2.0), ("b c", 1.0), ("d", 0.0)]),
        ("2", [("a", 9.0)]),
    ]


@pytest.mark.parametrize("documents", [1, 3, 40_000])
def test_queries_with_few_and_with_very_many_documents(tmp_path, documents):
    path = written(tmp_path / "run", run_text(3, documents))
    run = RunFile(path, hits=2)
    assert [(query_id, len(entries)) for query_id, entries in run.items()] == [
        (f"q{query}", min(2, documents)) for query in range(3)
    ]
    assert run["q2"][0] == RunEntry("d15", 99.875)


# --- Mixed lines ------------------------------------------------------------------------------


@pytest.mark.parametrize("hashed", [hash, same_hash])
def test_a_run_sorted_by_rank_reads_as_one_sorted_by_query(tmp_path, hashed):
    text = run_text(30, 20)
    by_rank = sorted(text.splitlines(keepends=True), key=lambda line: int(line.split()[3]))
    run = RunFile(written(tmp_path / "run", "".join(by_rank)), hashed=hashed)
    assert listed(run) == reference(text)
    assert len(run) == 30


@pytest.mark.parametrize("hashed", [hash, same_hash])
def test_a_document_twice_is_named_with_both_lines_however_far_apart(tmp_path, hashed):
    content = "1 Q0 a 1 5 t\n1 Q0 b c 2 4 t\n\n2 Q0 a 1 5 t\n\n1 Q0 d 3 2 t\n1 Q0 b c 4 1 t\n"
    path = written(tmp_path / "run", content)
    with pytest.raises(FileError) as caught:
        RunFile(path, hashed=hashed)
    assert str(caught.value) == (
        f"{path}:7: document b c appears twice for query 1 (before at line 2); keep one of them"
    )


# --- Pipes, changes, memory -------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pipe_can_be_asked_again_and_again(tmp_path, pack):
    text = run_text(200, 50)
    os.mkfifo(pipe := tmp_path / "pipe")
    with ThreadPoolExecutor(1) as writer:
        sent = writer.submit(pipe.write_bytes, pack(text.encode()))
        run = RunFile(pipe)
        sent.result()
    assert listed(run) == listed(run) == reference(text)
    assert run["q199"] == reference(text)[199][1]


CHANGES = [
    pytest.param(lambda text: "", id="emptied"),
    pytest.param(lambda text: text[: len(text) // 2], id="cut"),
    pytest.param(lambda text: text.replace("q", "other"), id="other queries"),
    pytest.param(lambda text: text + "more Q0 d 1 1 t\n", id="longer"),
    pytest.param(lambda text: "x" + text, id="shifted"),
]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_that_changes_is_an_error(tmp_path, change, mixed):
    lines = run_text(5, 4).splitlines(keepends=True)
    text = "".join(lines[::2] + lines[1::2] if mixed else lines)
    path = written(tmp_path / "run", text)
    run = RunFile(path)
    path.write_text(change(text))
    with pytest.raises(FileError, match=rf"{path}:? ?.*(changed|file is empty|line has six)"):
        list(run.items())


@pytest.mark.parametrize("change", CHANGES[:3] + CHANGES[4:])
def test_a_query_is_never_another_ones_documents(tmp_path, change):
    text = run_text(5, 4)
    path = written(tmp_path / "run", text)
    run = RunFile(path)
    path.write_text(change(text))
    with pytest.raises(FileError, match=f"{path}: has changed while it was in use"):
        run["q4"]


def test_a_file_put_in_the_place_of_the_run_changes_nothing(tmp_path):
    text = run_text(5, 4)
    path = written(tmp_path / "run", text)
    run = RunFile(path)
    os.replace(written(tmp_path / "other", "1 Q0 d 1 1 t\n"), path)
    assert listed(run) == reference(text)


def peak_of_streaming(path: Path) -> int:
    tracemalloc.start()
    try:
        run = RunFile(path)
        assert sum(len(entries) for _, entries in run.items()) == len(run) * 100
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_run_but_for_its_index(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_LINES", 1 << 16)
    small, large = (
        peak_of_streaming(written(tmp_path / f"{queries}", run_text(queries, 100)))
        for queries in (200, 2000)
    )
    assert small > 1 << 16  # the part of the file that is read at once
    assert large - small < 1800 * 48  # 16 bytes a query, and as many again while it is sorted


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open files")
def test_files_are_closed_with_the_run_good_or_bad(tmp_path):
    def opened() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    good = written(tmp_path / "good", gzip.compress(run_text(3, 3).encode()))
    bad = written(tmp_path / "bad", run_text(3, 3) + "bad\n")
    before = opened()
    run = RunFile(good)
    next(iter(run.items()))
    assert opened() == before + 1
    del run
    with pytest.raises(FileError):
        RunFile(bad)
    assert opened() == before
