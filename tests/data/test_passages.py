"""Passages from corpora in JSONL, from candidate files and from ir_datasets."""

import gzip
import json
import random
from pathlib import Path
from typing import NamedTuple

import pytest

from llmrankers_groupwise.data.candidate_files import CandidateFile
from llmrankers_groupwise.data.first_stage import FirstStage
from llmrankers_groupwise.data.ir_datasets import IrDatasetPassages, ir_dataset_queries
from llmrankers_groupwise.data.passages import JsonlPassages, passage_text
from llmrankers_groupwise.data.queries import read_queries
from llmrankers_groupwise.data.run_files import RunEntry, RunFile
from llmrankers_groupwise.errors import FileError, InputError


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(*records: object) -> str:
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records)


def as_is(text: str, length: int) -> str:
    return text


# --- The text of one record -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "text"),
    [
        pytest.param({"title": "A title", "text": "A text."}, "A title A text.", id="both"),
        pytest.param({"title": "", "text": "A text."}, "A text.", id="empty title"),
        pytest.param({"title": None, "text": "A text."}, "A text.", id="null title"),
        pytest.param({"text": " A text.\n"}, "A text.", id="blanks around"),
        pytest.param({"contents": "c", "title": "t"}, "t c", id="contents"),
        pytest.param({"contents": "c", "text": "t"}, "t", id="text before contents"),
        pytest.param({"text": ""}, "", id="empty text"),
        pytest.param({"title": "only this"}, None, id="no text field"),
        pytest.param({"text": None}, None, id="null text"),
    ],
)
def test_a_passage_is_title_and_text(record, text):
    assert passage_text(record) == text


@pytest.mark.parametrize("key", ["text", "contents", "content", "passage", "segment", "body"])
def test_the_text_is_found_under_any_of_its_keys(key):
    assert passage_text({key: "x"}) == "x"


# --- Corpora in JSONL -------------------------------------------------------------------------


def test_every_document_of_a_run_reads_as_a_plain_load_of_the_corpus_has_it(shared):
    folder = shared / "collections/scifact"
    run = RunFile(folder / "runs/bm25.trec")
    wanted = sorted({entry.doc_id for entries in run.values() for entry in entries})
    expected: dict[str, str] = {}
    for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").split("\n"):
        if line:
            record = json.loads(line)
            expected[record["_id"]] = f"{record['title']} {record['text']}".strip()
    passages = JsonlPassages(folder / "corpus.jsonl")
    assert passages.problems("any", wanted) == {}
    random.Random(1).shuffle(wanted)
    assert len(wanted) > 1000
    assert passages.texts("any", wanted) == [expected[doc_id] for doc_id in wanted]


CORPUS = jsonl(
    {"_id": "d1", "title": "Größe", "text": "日本語 and “quotes” 🦊"},
    {"_id": "my doc.txt", "title": "", "text": "a doc_id with a blank"},
    {"_id": 3, "text": "a number as id"},
    {"_id": "never asked for", "text": "x" * 1000},
    {"_id": "d5", "contents": "line\nbreak"},
)
WANTED = {
    "d1": "Größe 日本語 and “quotes” 🦊",
    "my doc.txt": "a doc_id with a blank",
    "3": "a number as id",
    "d5": "line\nbreak",
}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(CORPUS.encode(), id="plain"),
        pytest.param(b"\xef\xbb\xbf" + CORPUS.encode(), id="byte order mark"),
        pytest.param(CORPUS.replace("\n", "\r\n\r\n").encode(), id="CRLF and blank lines"),
        pytest.param(CORPUS.rstrip("\n").encode(), id="no line end at the end"),
        pytest.param(gzip.compress(CORPUS.encode()), id="gzip"),
    ],
)
def test_documents_are_found_in_any_order_and_again(tmp_path, content):
    path = written(tmp_path / "corpus.jsonl", content)
    passages = JsonlPassages(path)
    wanted = [*WANTED, *reversed(WANTED)]
    assert passages.problems("any", wanted) == {}
    assert passages.texts("any", wanted) == [WANTED[doc_id] for doc_id in wanted]
    for doc_id in wanted:
        assert passages.texts("any", [doc_id]) == [WANTED[doc_id]]


@pytest.mark.parametrize("key", ["_id", "id", "docid", "doc_id", "pid"])
def test_the_doc_id_is_found_under_any_of_its_keys(tmp_path, key):
    path = written(tmp_path / "c.jsonl", jsonl({key: "d", "text": "x"}))
    assert JsonlPassages(path).texts("any", ["d"]) == ["x"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_what_has_no_text_is_told_with_the_reason(tmp_path, compress):
    content = jsonl({"_id": "d1", "text": "x"}, {"_id": "d2", "title": "", "text": " \n"})
    path = written(tmp_path / "c.jsonl", compress(content.encode()))
    passages = JsonlPassages(path)
    asked = ["d1", "d2", "d3"]
    assert passages.problems("any", asked) == {
        "d2": f"empty text at {path}:2", "d3": f"not in {path}",
    }  # fmt: skip
    assert passages.texts("any", asked) == ["x", None, None]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        pytest.param('{"_id": "d1", "text": "again"}', "document d1 appears twice (before at line "
                     "1); keep one", id="a document twice"),
        pytest.param('{"text": "x"}', 'has "_id" and "text"; this one has ["text"]', id="no id"),
        pytest.param('{"_id": null, "text": "x"}', 'has "_id" and "text"', id="null as id"),
        pytest.param('{"_id": "d2"}', 'has "_id" and "text"; this one has ["_id"]', id="no text"),
        pytest.param('{"_id": "d2", "text": null}', 'has "_id" and "text"', id="null as text"),
        pytest.param('{"_id": "d2", "text": "x"', "not JSON", id="cut off"),
        pytest.param('["d2", "x"]', "not a JSON object", id="a list"),
        pytest.param("d2\tx", "not JSON", id="TSV"),
    ],
)  # fmt: skip
def test_a_malformed_document_is_named_with_file_and_line(tmp_path, line, complaint):
    path = written(tmp_path / "c.jsonl", f'{{"_id": "d1", "text": "x"}}\n\n{line}\n')
    with pytest.raises(FileError) as caught:
        JsonlPassages(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(b"", ": the file is empty", id="empty"),
        pytest.param(b'{"_id": "d1", "text": "caf\xe9"}\n', ":1: not UTF-8", id="latin-1"),
        pytest.param(gzip.compress(CORPUS.encode())[:-20], ": broken gzip", id="cut gzip"),
    ],
)
def test_an_unreadable_corpus_is_named(tmp_path, content, complaint):
    path = written(tmp_path / "c.jsonl", content)
    with pytest.raises(FileError) as caught:
        JsonlPassages(path)
    assert str(caught.value).startswith(f"{path}{complaint}")


# --- Candidates with text ---------------------------------------------------------------------


def candidate(doc_id: object, score: object, text: object) -> dict[str, object]:
    return {"docid": doc_id, "score": score, "doc": {"contents": text}}


def line_of(qid: object, query: object, *candidates: object) -> dict[str, object]:
    return {"query": {"text": query, "qid": qid}, "candidates": list(candidates)}


@pytest.mark.parametrize(
    "name",
    [
        "trec-dl19/candidates/bm25",
        "trec-dl19/candidates/splade_pp_ed",
        "trec-dl22/candidates/bm25",
        "trec-dl22/candidates/splade_pp_ed",
        "noveleval/candidates/google_order",
    ],
)
def test_the_shared_candidates_read_as_a_plain_load_has_them(shared, name):
    path = shared / f"collections/{name}.jsonl"
    file = CandidateFile(path)
    queries, run = file.queries, file.run
    values = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert queries == {str(each["query"]["qid"]): each["query"]["text"].strip() for each in values}
    assert list(run) == list(queries)
    for value in values:
        query_id = str(value["query"]["qid"])
        best_first = sorted(value["candidates"], key=lambda each: -each["score"])
        assert run[query_id] == [RunEntry(str(each["docid"]), each["score"]) for each in best_first]
        doc_ids = [str(each["docid"]) for each in value["candidates"]]
        texts = [each["doc"]["contents"].strip() for each in value["candidates"]]
        assert file.texts(query_id, doc_ids) == texts
        assert file.problems(query_id, doc_ids) == {}


def test_candidates_equal_run_corpus_and_queries_of_the_same_collection(shared):
    folder = shared / "collections/trec-dl19"
    file = CandidateFile(folder / "candidates/bm25.jsonl")
    assert file.queries == read_queries(folder / "queries.tsv")
    other = RunFile(folder / "runs/bm25.trec")
    assert file.run == other
    corpus = JsonlPassages(folder / "corpus.jsonl")
    for query_id, entries in other.items():
        doc_ids = [entry.doc_id for entry in entries]
        assert file.texts(query_id, doc_ids) == corpus.texts(query_id, doc_ids)


@pytest.mark.parametrize(("hits", "kept"), [(None, 100), (1, 1), (20, 20), (1000, 100)])
def test_hits_keeps_the_best_candidates_of_each_query(shared, hits, kept):
    path = shared / "collections/trec-dl19/candidates/bm25.jsonl"
    whole = CandidateFile(path).run
    assert CandidateFile(path, hits).run == {
        query_id: entries[:kept] for query_id, entries in whole.items()
    }


def test_candidates_are_sorted_by_score_and_equal_scores_by_their_place(tmp_path):
    content = jsonl(line_of(1, " q ", candidate("a", 1, "A"), candidate(7, 2.5, "B"),
                            candidate("c", 1.0, "C")))  # fmt: skip
    file = CandidateFile(written(tmp_path / "c.jsonl", content))
    assert file.queries == {"1": "q"}
    assert file.run == {"1": [RunEntry("7", 2.5), RunEntry("a", 1.0), RunEntry("c", 1.0)]}
    assert file.texts("1", ["a", "7", "c"]) == ["A", "B", "C"]


def test_candidates_are_read_from_gzip(tmp_path):
    content = jsonl(line_of("1", "q", candidate("a", 1, "größe")))
    path = written(tmp_path / "c.jsonl.gz", gzip.compress(content.encode()))
    file = CandidateFile(path)
    assert (file.queries, file.run) == ({"1": "q"}, {"1": [RunEntry("a", 1.0)]})
    assert file.texts("1", ["a"]) == ["größe"]


def test_a_document_may_have_another_text_for_each_query(tmp_path):
    content = jsonl(
        line_of("1", "one", candidate("d", 1, "the first snippet")),
        line_of("2", "two", candidate("d", 1, "the second snippet")),
    )
    file = CandidateFile(written(tmp_path / "c.jsonl", content))
    assert file.texts("1", ["d"]) == ["the first snippet"]
    assert file.texts("2", ["d"]) == ["the second snippet"]
    assert file.texts("3", ["d"]) == [None]


def test_a_query_without_candidates_is_kept(tmp_path):
    file = CandidateFile(written(tmp_path / "c.jsonl", jsonl(line_of("1", "q"))))
    assert file.run == {"1": []}


def test_a_candidate_with_an_empty_text_is_told_with_file_and_line(tmp_path):
    content = jsonl(
        line_of("1", "q", candidate("a", 1, "A")),
        line_of("2", "q", candidate("b", 1, " "), candidate("c", 1, "C")),
    )
    path = written(tmp_path / "c.jsonl", content)
    file = CandidateFile(path)
    assert file.problems("1", ["a"]) == {}
    assert file.problems("2", ["c", "b", "x"]) == {
        "b": f"empty text at {path}:2", "x": f"not in {path}",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"1 documents of the run have no text: b .*c.jsonl:2"):
        FirstStage(file.run, file.queries, file).check()


def test_an_empty_text_beyond_hits_does_not_matter(tmp_path):
    content = jsonl(line_of("1", "q", candidate("a", 2, "A"), candidate("b", 1, "")))
    file = CandidateFile(written(tmp_path / "c.jsonl", content), hits=1)
    assert FirstStage(file.run, file.queries, file).check() == []


def test_a_document_without_text_for_one_query_keeps_its_text_for_another(tmp_path):
    content = jsonl(
        line_of("1", "one", candidate("d", 1, "")),
        line_of("2", "two", candidate("d", 1, "the second snippet")),
    )
    file = CandidateFile(written(tmp_path / "c.jsonl", content))
    first_stage = FirstStage(file.run, file.queries, file)
    texts = {
        query_id: [
            each.text for each in first_stage.candidates(query_id, entries, as_is, 99, 99)[1]
        ]
        for query_id, entries in file.run.items()
    }
    assert texts == {"1": [None], "2": ["the second snippet"]}


GOOD = candidate("d1", 1.5, "x")
MALFORMED = [
    pytest.param(line_of("q2", "q", candidate("d", "high", "x")), "score 'high'", id="score"),
    pytest.param(line_of("q2", "q", candidate("d", None, "x")), "score None", id="null as score"),
    pytest.param(line_of("q2", "q", candidate("d", float("nan"), "x")), "nan", id="nan as score"),
    pytest.param(line_of("q2", "q", candidate("d", float("inf"), "x")), "inf", id="inf as score"),
    pytest.param(line_of("q2", "q", {"docid": "d", "score": 1}), "no text in its doc", id="no doc"),
    pytest.param(line_of("q2", "q", {"score": 1, "doc": {"text": "x"}}), "no docid", id="no docid"),
    pytest.param(line_of("q2", "q", {"docid": "d", "doc": {}}), "score None", id="no score"),
    pytest.param(line_of("q2", "q", candidate(None, 1, "x")), "docid", id="null as docid"),
    pytest.param(line_of("q2", "q", candidate("", 1, "x")), "docid", id="empty docid"),
    pytest.param(line_of("q2", "q", candidate("a\nb", 1, "x")), "docid", id="line end in docid"),
    pytest.param(line_of("q2", "q", "d1"), "1 has no docid", id="a docid alone"),
    pytest.param(line_of(None, "q", GOOD), "qid", id="null as qid"),
    pytest.param(line_of("", "q", GOOD), "qid", id="empty qid"),
    pytest.param(line_of("q 2", "q", GOOD), "qid", id="a blank in qid"),
    pytest.param(line_of("q2", None, GOOD), "text", id="null as query text"),
    pytest.param({"query": "q", "candidates": [GOOD]}, "no query object", id="query as text"),
    pytest.param({"candidates": [GOOD]}, "no query object", id="no query"),
    pytest.param({"query": {"qid": "q2", "text": "q"}}, "no candidates list", id="no candidates"),
    pytest.param(line_of("q2", "q", GOOD, GOOD), "document d1 appears twice for q2", id="double"),
    pytest.param(line_of("q1", "q", GOOD), "query q1 appears twice", id="a query twice"),
    pytest.param([1], "not a JSON object", id="a list"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "complaint"), MALFORMED)
def test_a_malformed_line_of_candidates_is_named_with_file_and_line(tmp_path, value, complaint):
    path = written(tmp_path / "c.jsonl", jsonl(line_of("q1", "q", GOOD), value))
    with pytest.raises(FileError) as caught:
        CandidateFile(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert complaint in str(caught.value).replace(str(path), "")


def test_an_empty_candidates_file_is_an_error(tmp_path):
    with pytest.raises(FileError, match="the file is empty"):
        CandidateFile(written(tmp_path / "c.jsonl", ""))


# --- What a run needs and what there is -------------------------------------------------------


def test_up_to_five_of_what_is_missing_are_listed_with_their_number(tmp_path):
    lines = [f"q{number} Q0 d{number} 1 1.0 t" for number in range(1, 8)]
    run = RunFile(written(tmp_path / "run", "\n".join(lines)))
    path = written(tmp_path / "c.jsonl", jsonl({"_id": "d7", "text": "x"}))
    passages = JsonlPassages(path)
    with pytest.raises(InputError) as caught:
        FirstStage(run, {"q1": "", "q7": "x"}, passages).check()
    message = str(caught.value)
    assert "5 queries of the run are unknown: q2, q3, q4, q5, q6;" in message
    assert "1 queries of the run have an empty text: q1;" in message
    listed = ", ".join(f"d{number} (not in {path})" for number in range(1, 6))
    assert f"6 documents of the run have no text: {listed}, ...;" in message
    assert message.endswith("give --allow_missing to keep these in first-stage order")


# --- ir_datasets ------------------------------------------------------------------------------


class Document(NamedTuple):
    doc_id: str
    title: str
    text: str


class Page(NamedTuple):
    doc_id: str
    url: str
    body: str

    def default_text(self) -> str:
        return f"{self.url} {self.body}"


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A function that registers a dataset under a name of its own, and tells the name."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    ir_datasets = pytest.importorskip("ir_datasets")
    from ir_datasets.formats import JsonlDocs, TsvQueries
    from ir_datasets.util import LocalDownload

    def register(documents=None, queries=None, document_class=Document) -> str:
        parts = []
        if documents is not None:
            records = [dict(zip(document_class._fields, each, strict=True)) for each in documents]
            path = written(tmp_path / "docs.jsonl", jsonl(*records))
            parts.append(JsonlDocs(LocalDownload(path), doc_cls=document_class))
        if queries is not None:
            path = written(tmp_path / "queries.tsv", queries)
            parts.append(TsvQueries(LocalDownload(path)))
        name = f"groupwise-tests/{tmp_path.name}"
        ir_datasets.registry.register(name, ir_datasets.Dataset(*parts))
        return name

    return register


DOCUMENTS = [("d1", "Größe", "eins"), ("d2", "", "zwei"), ("d3", "", " "), ("d4", "T", "vier")]


def test_passages_of_a_dataset_are_title_and_text(dataset):
    passages = IrDatasetPassages(dataset(DOCUMENTS))
    assert passages.problems("any", ["d1", "d2"]) == {}
    assert passages.texts("any", ["d2", "d1"]) == ["zwei", "Größe eins"]


def test_what_a_dataset_has_no_text_for_is_told_with_the_reason(dataset):
    name = dataset(DOCUMENTS)
    passages = IrDatasetPassages(name)
    assert passages.problems("any", ["d1", "d3", "d9"]) == {
        "d3": f"empty text in {name}", "d9": f"not in {name}",
    }  # fmt: skip
    assert passages.texts("any", ["d3", "d1", "d9"]) == [None, "Größe eins", None]


def test_a_document_without_a_text_field_gives_what_its_dataset_calls_the_text(dataset):
    name = dataset([("p1", "http://x", " the body ")], document_class=Page)
    assert IrDatasetPassages(name).texts("any", ["p1"]) == ["http://x  the body"]


def test_a_null_title_adds_nothing(dataset):
    name = dataset([("d1", None, "eins")])
    assert IrDatasetPassages(name).texts("any", ["d1"]) == ["eins"]


def test_queries_of_a_dataset_are_read(dataset):
    name = dataset(DOCUMENTS, "1\twas ist groß\n2\tund zwei\n")
    assert ir_dataset_queries(name) == {"1": "was ist groß", "2": "und zwei"}


def test_a_query_of_blanks_in_a_dataset_counts_as_empty(dataset):
    name = dataset(DOCUMENTS, "1\t \n")
    first_stage = FirstStage(
        {"1": [RunEntry("d1", 1.0)]}, ir_dataset_queries(name), IrDatasetPassages(name)
    )
    with pytest.raises(InputError, match="1 queries of the run have an empty text: 1"):
        first_stage.check()


def test_an_unknown_dataset_is_named():
    pytest.importorskip("ir_datasets")
    for read in (ir_dataset_queries, IrDatasetPassages):
        with pytest.raises(InputError, match=r"no dataset 'groupwise-tests/none'.*catalogue"):
            read("groupwise-tests/none")


def test_a_dataset_without_queries_is_named(dataset):
    name = dataset(DOCUMENTS)
    with pytest.raises(InputError, match=name):
        ir_dataset_queries(name)


def test_a_dataset_without_documents_is_named(dataset):
    name = dataset(queries="1\tone\n")
    with pytest.raises(InputError, match=name):
        IrDatasetPassages(name)
