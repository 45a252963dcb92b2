"""Runs, queries and qrels: what is read, in which order, and how bad lines are named."""

import gzip
import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.data.queries import read_queries
from llmrankers_groupwise.data.run_files import Run, RunEntry, RunFile, write_ranking
from llmrankers_groupwise.errors import FileError, InputError
from llmrankers_groupwise.evaluation.measures import evaluate
from llmrankers_groupwise.types import RankedDocument


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def run_of(tmp_path: Path, *lines: str, hits: int | None = None) -> Run:
    path = written(tmp_path / "run.trec", "\n".join(lines) + "\n")
    return dict(RunFile(path, hits).items())


def doc_ids(run: Run) -> dict[str, list[str]]:
    return {query_id: [entry.doc_id for entry in entries] for query_id, entries in run.items()}


def scores(run: Run) -> dict[str, dict[str, float]]:
    return {query_id: {each.doc_id: each.score for each in entries} for query_id, entries in
            run.items()}  # fmt: skip


# --- Runs: order ------------------------------------------------------------------------------


def test_a_run_line_becomes_a_document_with_its_score(tmp_path):
    assert run_of(tmp_path, "q1 Q0 d1 1 12.5 bm25") == {"q1": [RunEntry("d1", 12.5)]}


def test_documents_are_sorted_by_score_whatever_their_rank_column_says(tmp_path):
    run = run_of(tmp_path, "1 Q0 a 1 0.5 t", "1 Q0 b 2 -1 t", "1 Q0 c 3 2e1 t")
    assert run == {"1": [RunEntry("c", 20.0), RunEntry("a", 0.5), RunEntry("b", -1.0)]}


def test_scores_are_compared_as_numbers_not_as_text(tmp_path):
    assert doc_ids(run_of(tmp_path, "1 Q0 a 1 9.5 t", "1 Q0 b 2 10.5 t")) == {"1": ["b", "a"]}


def test_equal_scores_go_by_the_rank_column(tmp_path):
    run = run_of(tmp_path, "1 Q0 a 10 1.0 t", "1 Q0 b 9 1.0 t", "1 Q0 c 2 1 t")
    assert doc_ids(run) == {"1": ["c", "b", "a"]}


def test_equal_scores_and_ranks_go_by_line(tmp_path):
    run = run_of(tmp_path, "1 Q0 z 0 1 t", "1 Q0 y 0 1 t", "1 Q0 x 0 1 t")
    assert doc_ids(run) == {"1": ["z", "y", "x"]}


def test_interleaved_queries_keep_the_order_of_their_first_lines(tmp_path):
    run = run_of(
        tmp_path, "2 Q0 a 1 1 t", "10 Q0 a 1 5 t", "2 Q0 b 2 3 t", "1 Q0 c 1 1 t", "10 Q0 b 2 6 t"
    )
    assert list(run) == ["2", "10", "1"]
    assert doc_ids(run) == {"2": ["b", "a"], "10": ["b", "a"], "1": ["c"]}


def test_any_order_of_the_lines_gives_the_same_documents(tmp_path):
    lines = [f"{query} Q0 d{rank} {rank} {100 - rank} t" for query in "123" for rank in range(30)]
    expected = run_of(tmp_path, *lines)
    random.Random(7).shuffle(lines)
    assert run_of(tmp_path, *lines) == expected


@pytest.mark.parametrize(
    ("hits", "kept"),
    [(None, ["c", "b", "a"]), (1, ["c"]), (2, ["c", "b"]), (3, ["c", "b", "a"]), (9, list("cba"))],
)
def test_hits_keeps_the_best_of_each_query(tmp_path, hits, kept):
    lines = [f"{query} Q0 {doc} 1 {score} t" for query in "12" for score, doc in enumerate("abc")]
    assert doc_ids(run_of(tmp_path, *lines, hits=hits)) == {"1": kept, "2": kept}


# --- Runs: what a line may look like ----------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "doc_id"),
    [
        pytest.param("1 Q0 Memory Management_2_0.txt 7 0.6 t", "Memory Management_2_0.txt", id="1"),
        pytest.param("1 Q0 a b c d e 7 0.6 t", "a b c d e", id="many blanks"),
        pytest.param("1 Q0 a  b 7 0.6 t", "a  b", id="two blanks in a row"),
        pytest.param("1\tQ0\tmy document.txt\t7\t0.6\tt", "my document.txt", id="tabs"),
        pytest.param("1\tQ0\ta\tb\t7\t0.6\tt", "a\tb", id="a tab within"),
        pytest.param("1 Q0 7 7 7 0.6 t", "7 7", id="numbers"),
        pytest.param("  1   Q0\ta.txt \t 7   0.6  t  ", "a.txt", id="blanks around"),
        pytest.param("1 Q0 größe/日本 語 7 0.6 t", "größe/日本 語", id="not ASCII"),
        pytest.param("1 0 http://x/y?z=1#Q0 7 0.6 t", "http://x/y?z=1#Q0", id="a URL"),
    ],
)
def test_a_doc_id_is_what_stands_between_the_outer_columns(tmp_path, line, doc_id):
    assert run_of(tmp_path, line) == {"1": [RunEntry(doc_id, 0.6)]}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"1 Q0 a 1 2 t\n\n \n1 Q0 b 2 1 t\n\n", id="blank lines"),
        pytest.param(b"1 Q0 a 1 2 t\r\n1 Q0 b 2 1 t\r\n", id="CRLF"),
        pytest.param(b"\xef\xbb\xbf1 Q0 a 1 2 t\n1 Q0 b 2 1 t\n", id="byte order mark"),
        pytest.param(b"1 Q0 a 1 2 t\n1 Q0 b 2 1 t", id="no line end at the end"),
        pytest.param(gzip.compress(b"1 Q0 a 1 2 t\n1 Q0 b 2 1 t\n"), id="gzip"),
        pytest.param(gzip.compress(b"\xef\xbb\xbf1 Q0 a 1 2 t\r\n1 Q0 b 2 1 t"), id="all of it"),
    ],
)
def test_line_ends_marks_and_compression_make_no_difference(tmp_path, content):
    path = written(tmp_path / "run", content)
    assert RunFile(path) == {"1": [RunEntry("a", 2.0), RunEntry("b", 1.0)]}


# --- Runs: malformed --------------------------------------------------------------------------

MALFORMED = [
    pytest.param("1 Q0 a 1 2.5", "six columns", id="no tag"),
    pytest.param("1 a 1 2.5 t", "six columns", id="no Q0"),
    pytest.param("1", "six columns", id="one word"),
    pytest.param("1\tQ0\t\t1\t2.5\tt", "six columns", id="an empty doc_id"),
    pytest.param("1,Q0,a,1,2.5,t", "six columns", id="commas"),
    pytest.param("1 Q0 a one 2.5 t", "rank 'one' is no whole number", id="rank in words"),
    pytest.param("1 Q0 a 1.5 2.5 t", "rank '1.5' is no whole number", id="rank with a fraction"),
    pytest.param("1 Q0 a 2.5 1 bm25 x", "score 'bm25' no number", id="a tag of two words"),
    pytest.param("1 Q0 a 1 high t", "score 'high' no number", id="score in words"),
    pytest.param("1 Q0 a 1 2,5 t", "score '2,5' no number", id="decimal comma"),
    pytest.param("1 Q0 a 1 nan t", "the score is nan; give a finite number", id="nan"),
    pytest.param("1 Q0 a 1 -inf t", "the score is -inf; give a finite number", id="-inf"),
    pytest.param("1 Q0 a 1 1e999 t", "the score is 1e999; give a finite", id="overflow"),
    pytest.param("1 Q0 d1 9 9.0 t", "document d1 appears twice for query 1 (before at line 1)",
                 id="a duplicate"),
]  # fmt: skip


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(("line", "complaint"), MALFORMED)
def test_a_malformed_line_is_named_with_file_line_and_complaint(
    tmp_path, line, complaint, compress
):
    content = f"1 Q0 d1 1 5.5 t\n\n{line}\n1 Q0 d2 2 1.5 t\n"
    path = written(tmp_path / "run.trec", compress(content.encode()))
    with pytest.raises(FileError) as caught:
        RunFile(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert complaint in str(caught.value)
    assert (caught.value.path, caught.value.line) == (path, 3)
    assert isinstance(caught.value, InputError)


def test_a_malformed_line_is_an_error_even_beyond_hits(tmp_path):
    with pytest.raises(FileError, match=r"run.trec:2: a run line has six columns"):
        run_of(tmp_path, "1 Q0 a 1 5 t", "1 Q0 b", hits=1)


def test_a_very_long_bad_line_is_quoted_in_part(tmp_path):
    with pytest.raises(FileError) as caught:
        run_of(tmp_path, "x" * 100_000)
    assert len(str(caught.value)) < 1000


def test_one_document_under_two_queries_is_no_duplicate(tmp_path):
    assert doc_ids(run_of(tmp_path, "1 Q0 a 1 5 t", "2 Q0 a 1 5 t")) == {"1": ["a"], "2": ["a"]}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(b"", ": the file is empty", id="empty"),
        pytest.param(b"1 Q0 a 1 2 t\n1 Q0 \xe9 2 1 t\n", ":2: not UTF-8", id="latin-1"),
        pytest.param(gzip.compress(b"1 Q0 a 1 2 t\n")[:-6], ": broken gzip", id="cut gzip"),
    ],
)
def test_an_unreadable_run_is_named(tmp_path, content, complaint):
    path = written(tmp_path / "run", content)
    with pytest.raises(FileError) as caught:
        RunFile(path)
    assert str(caught.value).startswith(f"{path}{complaint}")


def test_a_missing_run_is_named(tmp_path):
    with pytest.raises(FileError, match="cannot be read: No such file"):
        RunFile(tmp_path / "none.trec")


# --- The shared collections -------------------------------------------------------------------


def test_every_line_of_the_run_with_blanks_in_doc_ids_is_read(shared):
    path = shared / "collections/bright-stackoverflow/reasonir_gpt4cot.trec"
    run = RunFile(path)
    count = sum(bool(line.strip()) for line in path.read_text(encoding="utf-8").splitlines())
    assert sum(map(len, run.values())) == count
    blanks = [entry.doc_id for entries in run.values() for entry in entries if " " in entry.doc_id]
    assert len(blanks) == 12
    assert "pytorch_torch_tensor_functions/Memory Management_2_0.txt" in blanks
    assert all(doc_id.endswith(".txt") for doc_id in blanks)


def test_the_run_with_blanks_in_doc_ids_reaches_its_known_measure(shared):
    folder = shared / "collections/bright-stackoverflow"
    run = RunFile(folder / "reasonir_gpt4cot.trec")
    measured = evaluate(read_qrels(folder / "qrels.txt"), scores(run), ["nDCG@10"])
    assert round(measured["nDCG@10"], 4) == 0.3096


def test_every_line_of_tab_separated_qrels_is_read(shared):
    path = shared / "collections/bright-stackoverflow/qrels.txt"
    qrels = read_qrels(path)
    expected = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    read = {(query_id, doc_id, grade) for query_id, judged in qrels.items()
            for doc_id, grade in judged.items()}  # fmt: skip
    assert read == {(query_id, doc_id, int(grade)) for query_id, _, doc_id, grade in expected}


@pytest.mark.parametrize(
    ("name", "known"), [("trec-dl19", 0.5058), ("scifact", 0.6713), ("vaswani", 0.4414)]
)
def test_bm25_of_the_collections_reaches_its_known_measure(shared, name, known):
    folder = shared / "collections" / name
    run = RunFile(folder / "runs/bm25.trec")
    measured = evaluate(read_qrels(folder / "qrels.txt"), scores(run), ["nDCG@10"])
    assert round(measured["nDCG@10"], 4) == known


@pytest.mark.parametrize(
    ("name", "count"), [("trec-dl19", 43), ("scifact", 300), ("vaswani", 93), ("noveleval", 21)]
)
def test_the_queries_of_the_collections_cover_their_runs(shared, name, count):
    folder = shared / "collections" / name
    queries = read_queries(folder / "queries.tsv")
    assert len(queries) == count
    assert all(queries.values())
    for path in (folder / "runs").iterdir():
        assert set(RunFile(path)) <= set(queries)


# --- Writing ----------------------------------------------------------------------------------


def ranked(*entries: tuple[str, float]) -> list[RankedDocument]:
    return [
        RankedDocument(doc_id, score, score, rank) for rank, (doc_id, score) in enumerate(entries)
    ]


def test_a_ranking_is_written_as_tab_separated_run_lines():
    file = io.StringIO()
    write_ranking(file, "q7", ranked(("d1", 9.5), ("my doc", 0.25)), "mine")
    assert file.getvalue() == "q7\tQ0\td1\t1\t9.500000\tmine\nq7\tQ0\tmy doc\t2\t0.250000\tmine\n"


def test_an_empty_ranking_writes_nothing():
    file = io.StringIO()
    write_ranking(file, "q7", [], "mine")
    assert file.getvalue() == ""


doc_id_texts = st.text(
    st.characters(categories=("L", "N", "P", "S"), include_characters=" "), min_size=1, max_size=20
).map(str.strip).filter(bool)  # fmt: skip


@settings(deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[0-9A-Za-z_.-]{1,8}", fullmatch=True),
        st.lists(doc_id_texts, unique=True, min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    )
)
def test_rankings_written_are_read_back_in_the_same_order(tmp_path_factory, lists):
    path = tmp_path_factory.getbasetemp() / "written.trec"
    with path.open("w", encoding="utf-8") as file:
        for query_id, ids in lists.items():
            documents = ranked(*((each, -rank / 1e6) for rank, each in enumerate(ids)))
            write_ranking(file, query_id, documents, "t")
    assert doc_ids(RunFile(path)) == lists


# --- Queries ----------------------------------------------------------------------------------


def test_queries_are_read_from_tsv(tmp_path):
    path = written(tmp_path / "q.tsv", "\ufeff1\twhat is a flea \r\n\n q-2 \t größe\tund mehr\n")
    assert read_queries(path) == {"1": "what is a flea", "q-2": "größe\tund mehr"}


def test_a_query_of_blanks_has_an_empty_text(tmp_path):
    assert read_queries(written(tmp_path / "q.tsv", "1\t \n")) == {"1": ""}


@pytest.mark.parametrize("id_key", ["_id", "id", "qid"])
@pytest.mark.parametrize("text_key", ["text", "query"])
def test_queries_are_read_from_jsonl_by_any_of_its_keys(tmp_path, id_key, text_key):
    path = written(tmp_path / "q.jsonl", f'{{"{id_key}": 7, "{text_key}": " flüssig ", "x": []}}\n')
    assert read_queries(path) == {"7": "flüssig"}


def test_queries_are_read_from_gzip_of_either_kind(tmp_path):
    tsv = written(tmp_path / "q.tsv.gz", gzip.compress(b"1\tone\n"))
    jsonl = written(tmp_path / "q.jsonl.gz", gzip.compress(b'{"_id": "1", "text": "one"}\n'))
    assert read_queries(tsv) == read_queries(jsonl) == {"1": "one"}


@pytest.mark.parametrize(
    ("name", "line", "complaint"),
    [
        pytest.param("q.tsv", "2 two", "two columns: query_id TAB text", id="a blank, no tab"),
        pytest.param("q.tsv", "2", "two columns: query_id TAB text", id="an id alone"),
        pytest.param("q.tsv", "\ttwo", "two columns: query_id TAB text", id="no id"),
        pytest.param(
            "q.tsv",
            "1\ttwo",
            "query 1 appears twice (before at line 1); keep one",
            id="a TSV duplicate",
        ),
        pytest.param(
            "q.jsonl",
            '{"_id": "1", "text": "b"}',
            "query 1 appears twice (before at line 1); keep one",
            id="twice",
        ),
        pytest.param(
            "q.jsonl",
            '{"_id": 1, "text": "b"}',
            "query 1 appears twice (before at line 1); keep one",
            id="1 is '1'",
        ),
        pytest.param("q.jsonl", '{"text": "two"}', 'has "_id" and "text"', id="no _id"),
        pytest.param("q.jsonl", '{"_id": null, "text": "a"}', 'has "_id" and "text"', id="null"),
        pytest.param("q.jsonl", '{"_id": "", "text": "a"}', 'has "_id" and "text"', id="empty _id"),
        pytest.param("q.jsonl", '{"_id": "2"}', 'has "_id" and "text"', id="no text"),
        pytest.param("q.jsonl", '{"_id": "2", "text": 5}', 'has "_id" and "text"', id="a number"),
        pytest.param("q.jsonl", "2\ttwo", "not JSON", id="TSV in a JSONL file"),
    ],
)
def test_a_malformed_query_is_named_with_file_and_line(tmp_path, name, line, complaint):
    first = "1\tone" if name.endswith("tsv") else '{"_id": "1", "text": "one"}'
    path = written(tmp_path / name, f"{first}\n{line}\n")
    with pytest.raises(FileError) as caught:
        read_queries(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert complaint in str(caught.value)


def test_an_empty_query_file_is_an_error(tmp_path):
    with pytest.raises(FileError, match="the file is empty"):
        read_queries(written(tmp_path / "q.tsv", ""))


# --- Qrels ------------------------------------------------------------------------------------


def test_qrels_are_read_with_blanks_tabs_and_negative_grades(tmp_path):
    content = "\ufeff1 0 a 2\r\n\n1\tQ0\tmy doc.txt\t0\n2  0  b  -2\n1 0 b 3\n"
    assert read_qrels(written(tmp_path / "qrels", content)) == {
        "1": {"a": 2, "my doc.txt": 0, "b": 3},
        "2": {"b": -2},
    }


def test_qrels_are_read_from_gzip(tmp_path):
    path = written(tmp_path / "qrels.gz", gzip.compress(b"1 0 a 2\n"))
    assert read_qrels(path) == {"1": {"a": 2}}


def test_the_same_judgement_twice_is_accepted(tmp_path):
    assert read_qrels(written(tmp_path / "qrels", "1 0 a 2\n1 0 a 2\n")) == {"1": {"a": 2}}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        pytest.param("1 b 1", "four columns", id="three columns"),
        pytest.param("query-id\tcorpus-id\tscore", "four columns", id="a header"),
        pytest.param("1 0 b 1.5", "the grade a whole number", id="a grade with a fraction"),
        pytest.param("1 0 b high", "the grade a whole number", id="a grade in words"),
        pytest.param("1 0 b ²", "the grade a whole number", id="a superscript"),
        pytest.param("1 0 a 1", "document a has two different grades for query 1", id="two"),
    ],
)
def test_a_malformed_judgement_is_named_with_file_and_line(tmp_path, line, complaint):
    path = written(tmp_path / "qrels.txt", f"1 0 a 2\n{line}\n")
    with pytest.raises(FileError) as caught:
        read_qrels(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert complaint in str(caught.value)


def test_empty_qrels_are_an_error(tmp_path):
    with pytest.raises(FileError, match="the file is empty"):
        read_qrels(written(tmp_path / "qrels", "\n"))
