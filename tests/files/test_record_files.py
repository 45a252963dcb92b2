"""Files of one record a line: found by id, never held, and never mistaken for another's."""

import gc
import gzip
import json
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrankers_groupwise.data.candidate_files import CandidateFile
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.passages import JsonlPassages
from llmrankers_groupwise.data.queries import read_queries
from llmrankers_groupwise.data.run_files import RunEntry, RunFile
from llmrankers_groupwise.errors import FileError, InputError
from llmrankers_groupwise.files.record_files import LineIndex
from llmrankers_groupwise.files.text_files import SeekableFile


def same_hash(text: str) -> int:
    return -3


def few_hashes(text: str) -> int:
    return len(text) % 2


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(*records: object) -> str:
    return "".join(json.dumps(each) + "\n" for each in records)


def corpus_of(count: int, length: int = 50) -> str:
    return jsonl(
        *({"_id": f"d{n}", "text": f"passage {n} ".ljust(length, "x")} for n in range(count))
    )


def candidates_of(queries: int, documents: int) -> str:
    return jsonl(
        *(
            {
                "query": {"qid": f"q{query}", "text": f"query {query}"},
                "candidates": [
                    {"docid": f"d{n}", "score": -n, "doc": {"text": f"{n} for {query}"}}
                    for n in range(documents)
                ],
            }
            for query in range(queries)
        )
    )


# --- The index --------------------------------------------------------------------------------

TEXT_IDS = st.lists(st.text(max_size=3), min_size=1, max_size=30)


@settings(deadline=None)
@given(TEXT_IDS, st.sampled_from([hash, same_hash, few_hashes]))
def test_an_index_gives_the_lines_of_an_id_among_those_that_share_its_hash(ids, hashed):
    index = LineIndex(hashed)
    for offset, each in enumerate(ids):
        index.add(each, offset)
    index.close()
    assert len(index) == len(ids)
    for each in [*ids, "none such"]:
        alike = [offset for offset, other in enumerate(ids) if hashed(other) == hashed(each)]
        assert index.offsets(each) == alike
        assert index.holds([each, each]) == [bool(alike)] * 2
    groups = list(index.shared())
    assert all(len(group) > 1 for group in groups)
    assert sorted(offset for group in groups for offset in group) == [
        offset for offset, each in enumerate(ids) if len(index.offsets(each)) > 1
    ]


def test_an_index_takes_two_integers_a_line():
    tracemalloc.start()
    index = LineIndex()
    for number in range(100_000):
        index.add(str(number), 1 << 40)
    index.close()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 100_000 * 16 + 500_000  # numpy may have been imported meanwhile


# --- Ids that share a hash --------------------------------------------------------------------


@pytest.mark.parametrize("hashed", [hash, same_hash, few_hashes])
def test_ids_of_one_hash_are_told_apart(tmp_path, hashed):
    queries = read_queries(
        written(tmp_path / "q.tsv", "1\tone\n22\ttwo\n3\tthree\n"), hashed=hashed
    )
    assert (dict(queries), len(queries)) == ({"1": "one", "22": "two", "3": "three"}, 3)
    assert "4" not in queries
    assert queries.get("44") is None
    corpus = JsonlPassages(written(tmp_path / "c.jsonl", corpus_of(20, 0)), hashed=hashed)
    assert corpus.texts("any", ["d19", "d0", "d20", "d7"]) == [
        "passage 19", "passage 0", None, "passage 7",
    ]  # fmt: skip
    file = CandidateFile(written(tmp_path / "k.jsonl", candidates_of(4, 2)), hashed=hashed)
    assert dict(file.queries) == {f"q{n}": f"query {n}" for n in range(4)}
    assert file.texts("q3", ["d1", "d2"]) == ["1 for 3", None]
    assert file.texts("q4", ["d1"]) == [None]


@pytest.mark.parametrize("hashed", [hash, same_hash])
@pytest.mark.parametrize(
    ("name", "content", "kind", "open_file"),
    [
        ("q.tsv", "a\t1\nb\t1\n\nc\t1\nb\t2\na\t2\n", "query", read_queries),
        ("q.jsonl", jsonl(*({"_id": each, "text": "x"} for each in "ab")) + "\n"
         + jsonl(*({"_id": each, "text": "x"} for each in "cba")), "query", read_queries),
        ("c.jsonl", jsonl(*({"_id": each, "text": "x"} for each in "ab")) + "\n"
         + jsonl(*({"_id": each, "text": "x"} for each in "cba")), "document", JsonlPassages),
        ("k.jsonl", jsonl(*({"query": {"qid": each, "text": ""}, "candidates": []} for each in
                            "ab")) + "\n"
         + jsonl(*({"query": {"qid": each, "text": ""}, "candidates": []} for each in "cba")),
         "query", CandidateFile),
    ],
    ids=["TSV", "JSONL", "corpus", "candidates"],
)  # fmt: skip
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_the_first_id_that_stands_twice_is_named_with_both_lines(
    tmp_path, name, content, kind, open_file, hashed, pack
):
    path = written(tmp_path / name, pack(content.encode()))
    with pytest.raises(FileError) as caught:
        open_file(path, hashed=hashed)
    assert str(caught.value) == (
        f"{path}:5: {kind} b appears twice (before at line 2); keep one of them"
    )


# --- Files that cannot be sought, and that change ---------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_corpus_may_come_through_a_pipe(tmp_path, pack):
    os.mkfifo(pipe := tmp_path / "pipe")
    with ThreadPoolExecutor(1) as writer:
        sent = writer.submit(pipe.write_bytes, pack(corpus_of(3000, 100).encode()))
        corpus = JsonlPassages(pipe)
        sent.result()
    assert corpus.problems("any", ["d2999", "d3000"]) == {"d3000": f"not in {pipe}"}
    for number in (2999, 0, 1500, 2999):
        (text,) = corpus.texts("any", [f"d{number}"])
        assert text.split("x")[0] == f"passage {number} "


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: "", id="emptied"),
        pytest.param(lambda text: text[:100], id="cut"),
        pytest.param(lambda text: "x" + text, id="shifted"),
        pytest.param(lambda text: text.replace("d1", "d2"), id="another document in its place"),
        pytest.param(lambda text: "\xe9" * len(text), id="other text"),
    ],
)
def test_a_corpus_that_changes_is_an_error_and_never_another_text(tmp_path, change):
    text = corpus_of(30)
    path = written(tmp_path / "c.jsonl", text)
    corpus = JsonlPassages(path)
    path.write_bytes(change(text).encode("latin-1"))
    with pytest.raises(FileError, match=f"{path}: has changed while it was in use; leave it"):
        corpus.texts("any", ["d15"])


def test_a_candidates_file_that_changes_is_an_error(tmp_path):
    path = written(tmp_path / "k.jsonl", candidates_of(5, 3))
    file = CandidateFile(path)
    path.write_text(candidates_of(5, 3).replace("q", "z"))
    with pytest.raises(FileError, match="has changed"):
        file.texts("q3", ["d1"])
    with pytest.raises(FileError, match=r"no query object|has changed"):
        list(file.run.items())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
def test_what_does_not_fit_in_the_folder_for_temporary_files_is_said(tmp_path, monkeypatch):
    path = written(tmp_path / "c.gz", gzip.compress(b"x\n"))
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "wb", buffering=0))

    with pytest.raises(FileError, match=r"cannot be unpacked into .*No space left.*TMPDIR"):
        SeekableFile(path)


# --- Memory and files -------------------------------------------------------------------------


def peak(work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_corpus_of_long_texts_takes_no_more_memory_than_one_of_short_ones(tmp_path):
    short, long = (
        written(tmp_path / f"{length}", corpus_of(3000, length)) for length in (20, 2000)
    )
    assert peak(lambda: JsonlPassages(long)) < peak(lambda: JsonlPassages(short)) + 100_000


def test_candidates_take_memory_for_their_queries_only(tmp_path):
    few, many = (written(tmp_path / f"{n}", candidates_of(200, n)) for n in (2, 200))

    def work(path: Path) -> None:
        file = CandidateFile(path)
        assert FirstStage(file.run, file.queries, file).check() == []

    work(few)
    assert peak(lambda: work(many)) < peak(lambda: work(few)) + 400_000  # a line is 10 kB


def test_checking_a_first_stage_takes_memory_for_what_is_missing_only(tmp_path):
    queries, corpus = range(2000), corpus_of(50, 0)
    run = RunFile(
        written(
            tmp_path / "run",
            "".join(f"q{n} Q0 d{rank} {rank} {-rank} t\n" for n in queries for rank in range(50)),
        )
    )
    texts = read_queries(written(tmp_path / "q.tsv", "".join(f"q{n}\ttext\n" for n in queries)))
    stage = FirstStage(run, texts, JsonlPassages(written(tmp_path / "c.jsonl", corpus)))
    assert peak(stage.check) < 5_000_000  # of which two parts of the run file


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open files")
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_files_are_closed_with_what_reads_them(tmp_path, pack):
    def opened() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    path = written(tmp_path / "k.jsonl", pack(candidates_of(3, 3).encode()))
    bad = written(tmp_path / "bad.jsonl", pack(b'{"_id": "d", "text": "x"}\nbad\n'))
    before = opened()
    file = CandidateFile(path)
    next(iter(file.run.items()))
    assert opened() == before + 1
    del file
    assert opened() == before
    with pytest.raises(FileError):
        JsonlPassages(bad)
    assert opened() == before


# --- What a run needs and what there is -------------------------------------------------------


def test_what_many_queries_miss_is_counted_once(tmp_path):
    run = {f"q{n}": [RunEntry(f"x{rank}", 1.0) for rank in range(7)] for n in range(4)}
    path = written(tmp_path / "c.jsonl", corpus_of(1))
    stage = FirstStage(run, dict.fromkeys(run, "text"), JsonlPassages(path))
    (problem,) = stage.check(allow_missing=True)
    listed = ", ".join(f"x{n} (not in {path})" for n in range(5))
    assert problem == f"7 documents of the run have no text: {listed}, ..."
    with pytest.raises(InputError, match="7 documents of the run"):
        stage.check()
