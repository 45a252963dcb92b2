"""The commands `compare` and `fuse`: what they print and write, and every kind of bad input."""

import gzip
import itertools
import json
from pathlib import Path

import pytest
from support.desk import RUN, Desk, orders

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.qrels import read_qrels
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.evaluation.comparison import compare_runs
from llmrankers_groupwise.evaluation.comparison_table import WIDTH

OTHER = "q1 Q0 d3 1 2.5 o\nq1 Q0 d1 2 1.5 o\nq9 Q0 d1 1 4.0 o\nq7 Q0 d8 1 4.0 o\n"


@pytest.fixture(autouse=True)
def other_run(desk, monkeypatch) -> None:
    """A second run at the desk, and short paths, as the command is run in its folder."""
    desk.write("other.trec", OTHER)
    monkeypatch.chdir(desk.folder)


def call(desk: Desk, *arguments: str | Path) -> int:
    """The exit code of a command, however it ends."""
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as ended:
        code = ended.code
    desk.stdout, desk.stderr = desk.capture.readouterr()
    return code


def compare(desk: Desk, *more: str | Path, runs: tuple[str, ...] | None = None) -> int:
    given = runs or ("bm25=run.trec", "other=other.trec")
    options = [each for run in given for each in ("--run", run)]
    return call(desk, "compare", "--qrels", desk.path("qrels.txt"), *options, *more)


def fuse(desk: Desk, *more: str | Path, method: str = "rrf", names=("run.trec", "other.trec")):
    options = [each for name in names for each in ("--run", desk.path(name))]
    return call(desk, "fuse", *options, "--save_path", desk.out, "--method", method, *more)


# --- compare ----------------------------------------------------------------------------------


def test_compare_prints_measures_tests_and_what_is_odd(desk):
    manifest = {"method": "groupwise", "engine": {"engine": "e", "model": "m"},
                "counters": {"groups": 4, "statuses": {"failed": 1}, "seconds": 2.04,
                             "usage": {"calls": 1234, "prompt_tokens": 56789}}}  # fmt: skip
    desk.write("other.trec.manifest.json", json.dumps(manifest))
    assert compare(desk, "--measures", "RR P@1") == 0, desk.stderr
    assert desk.stdout.splitlines() == [
        "bm25   run.trec",
        "other  other.trec (groupwise, m)",
        "",
        "RR       mean  95 % interval       diff.  w/t/l       t    Holm   rand.    Holm",
        "bm25   0.2778  -0.3547..0.9102  baseline",
        "other  0.6667  -0.7676..2.1009   +0.3889  2/0/1  0.4825  0.4825  0.5000  1.0000",
        "",
        "P@1      mean  95 % interval       diff.  w/t/l       t    Holm   rand.    Holm",
        "bm25   0.0000  0.0000..0.0000   baseline",
        "other  0.6667  -0.7676..2.1009   +0.6667  2/1/0  0.1835  0.3670  0.5000  1.0000",
        "",
        "costs  calls  rounds  prompt tokens  compl. tokens  failed groups  seconds",
        "bm25       -       -              -              -              -        -",
        "other  1,234       -         56,789              -         1 of 4    2.0 s",
        "",
        "over 3 judged queries; intervals of the mean by Student's t distribution",
        "diff.: less bm25; w/t/l: queries better, equal, worse",
        "t: p-value of the paired t test; rand.: of the paired randomisation test (all signs or "
        "100,000)",
        "Holm: corrected over the 2 t tests, and over the 2 randomisation tests",
        "",
        "bm25: 1 judged queries are not in the run and count 0 (q9)",
        "bm25: on average 1.00 of the first 10 documents are not judged",
        "other: 1 judged queries are not in the run and count 0 (q2)",
        "other: 1 of its queries are not judged and do not count (q7)",
    ]


def test_json_holds_everything(desk):
    assert compare(desk, "--json", "--baseline", "other", "--seed", "3") == 0
    printed = json.loads(desk.stdout)
    paths = {"bm25": "run.trec", "other": "other.trec"}
    qrels = read_qrels("qrels.txt")
    expected = compare_runs(qrels, paths, baseline="other", seed=3).as_dict()
    given = {"qrels": str(desk.path("qrels.txt")), "seed": 3}
    assert printed == json.loads(json.dumps(given | expected))
    assert printed["runs"][0]["per_query"]["RR"] == {"q1": 1 / 3, "q2": 0.5, "q9": 0.0}


def test_real_runs_with_long_names_fit_a_hundred_columns(desk, shared):
    folder = shared / "collections" / "trec-dl19"
    paths = [folder / "runs" / "bm25.trec", *sorted((shared / "recordings/runs").glob("*"))[:4]]
    runs = [f"{path.name * 3}={path}" for path in paths]
    options = [each for run in runs for each in ("--run", run)]
    assert call(desk, "compare", "--qrels", folder / "qrels.txt", *options) == 0
    assert max(map(len, desk.stdout.splitlines())) <= WIDTH
    rows = [line.split()[0] for line in desk.stdout.split("\n\n")[1].splitlines()[1:]]
    assert len(set(rows)) == len(paths)  # cut names still tell the runs apart


def test_of_many_missing_queries_five_are_named(desk):
    qrels = "".join(f"m{n} 0 d1 1\n" for n in range(7)) + "q1 0 d1 1\n"
    desk.write("qrels.txt", qrels)
    assert compare(desk) == 0
    missing = "7 judged queries are not in the run and count 0 (m0, m1, m2, m3, m4, ...)"
    assert f"bm25: {missing}" in desk.stdout


def test_why_there_is_no_t_test_is_said(desk):
    same = f"again={desk.path('run.trec')}"
    assert compare(desk, runs=(f"bm25={desk.path('run.trec')}", same)) == 0
    assert "no t test (-) where the differences of all queries are equal" in desk.stdout
    desk.write("qrels.txt", "q1 0 d3 1\n")
    assert compare(desk) == 0
    assert "of one judged query there is neither an interval nor a t test" in desk.stdout


def test_one_run_has_no_columns_of_tests(desk):
    assert compare(desk, runs=(f"bm25={desk.path('run.trec')}",)) == 0
    assert "diff." not in desk.stdout
    assert "baseline" not in desk.stdout


def test_gzip_and_names_with_blanks_and_files_with_equals_signs_are_read(desk):
    path = desk.write("a=b.trec.gz", gzip.compress(RUN.encode()))
    assert compare(desk, runs=(f"the first stage={path}",)) == 0
    assert desk.stdout.startswith("the first stage ")


def test_a_foreign_manifest_is_named_in_a_warning(desk, caplog):
    desk.write("other.trec.manifest.json", "no JSON")
    assert compare(desk) == 0
    assert ["other.trec.manifest.json" in record.getMessage() for record in caplog.records] == [
        True
    ]
    assert "costs" not in desk.stdout


@pytest.mark.parametrize("text", ["bm25", "=file.trec", "bm25=", " =x", "a\nb=x"])
def test_what_is_not_name_and_file_is_refused(desk, text):
    desk.refuses(lambda: compare(desk, runs=(text,)), "is not NAME=FILE", repr(text))


def test_a_name_given_twice_is_refused(desk):
    one, two = (f"bm25={desk.path(name)}" for name in ("run.trec", "other.trec"))
    desk.refuses(
        lambda: compare(desk, runs=(one, two)),
        "--run bm25 is given twice",
        str(desk.path("run.trec")),
        str(desk.path("other.trec")),
        "its own name",
    )


@pytest.mark.parametrize(
    ("more", "phrase"),
    [
        (["--baseline", "better"], "no run 'better': the baseline is one of bm25, other"),
        (["--measures", "nDGC@10"], "no measure 'nDGC@10'"),
        (["--measures", ""], "at least one run and one measure"),
        (["--seed", "-1"], "--seed is -1"),
        (["--basline", "bm25"], "unknown option --basline; did you mean --baseline?"),
    ],
)
def test_a_bad_option_of_compare_is_refused(desk, more, phrase):
    desk.refuses(lambda: compare(desk, *more), phrase)


def test_bad_runs_are_refused_by_name_and_file(desk):
    empty = desk.write("empty.trec", "")
    desk.refuses(lambda: compare(desk, runs=(f"e={empty}",)), f"{empty}: the file is empty")
    foreign = desk.write("foreign.trec", "x1 Q0 d1 1 1 t\n")
    desk.refuses(
        lambda: compare(desk, runs=(f"bm25={desk.path('run.trec')}", f"f={foreign}")),
        f"run f ({foreign}) has none of the 3 judged queries",
    )


# --- fuse -------------------------------------------------------------------------------------


def test_fuse_writes_a_run_and_its_manifest_and_tells_what_runs_lack(desk):
    assert fuse(desk, "--weights", "1", "3", "--tag", "both") == 0, desk.stderr
    assert desk.stdout.splitlines() == [
        "4 queries, 7 documents",
        f"{desk.path('run.trec')}: 2 queries are not in it (q9, q7)",
        f"{desk.path('other.trec')}: 1 queries are not in it (q2)",
        f"saved {desk.out}",
    ]
    assert desk.out.read_text().splitlines()[:3] == [
        f"q1\tQ0\td3\t1\t{1 / 63 + 3 / 61:.6f}\tboth",
        f"q1\tQ0\td1\t2\t{1 / 61 + 3 / 62:.6f}\tboth",
        f"q1\tQ0\td2\t3\t{1 / 62:.6f}\tboth",
    ]
    assert list(orders(desk.out)) == ["q1", "q2", "q9", "q7"]
    manifest = json.loads(Path(f"{desk.out}.manifest.json").read_text())
    assert manifest["method"] == "fuse rrf"
    assert manifest["settings"] == {"weights": [1, 3], "rrf_k": 60, "depth": None, "tag": "both"}
    assert manifest["counters"] == {"queries": 4, "documents": 7, "lacking": [2, 1]}


def test_a_fused_run_can_be_compared_and_its_costs_are_unknown(desk, caplog):
    assert fuse(desk, method="z_score") == 0
    assert compare(desk, runs=("fused=outputs/out.trec",)) == 0
    assert desk.stdout.startswith("fused  outputs/out.trec (fuse z_score)\n")
    assert "diff." not in desk.stdout
    assert "costs" not in desk.stdout
    assert caplog.records == []


def test_depth_takes_the_best_of_each_run(desk):
    assert fuse(desk, "--depth", "1") == 0
    assert orders(desk.out) == {"q1": ["d1", "d3"], "q2": ["d2"], "q9": ["d1"], "q7": ["d8"]}


@pytest.mark.parametrize("method", ["min_max", "z_score", "rrf"])
def test_written_scores_strictly_decrease_even_of_equals(desk, method):
    desk.write("equal.trec", "".join(f"q1 Q0 e{n} {n} 1 t\n" for n in range(9)))
    assert fuse(desk, method=method, names=("equal.trec", "run.trec", "equal.trec")) == 0
    for entries in RunFile(desk.out).values():
        scores = [entry.score for entry in entries]
        assert all(a > b for a, b in itertools.pairwise(scores))
    written = [line.split("\t")[2] for line in desk.out.read_text().splitlines()]
    assert [each for each in written if each[0] == "e"] == [f"e{n}" for n in range(9)]


@pytest.mark.parametrize(
    ("more", "phrase"),
    [
        (["--weights", "1"], "1 weights for 2 runs"),
        (["--weights", "1", "nan"], "give numbers from 0"),
        (["--weights", "-1", "1"], "give numbers from 0"),
        (["--weights", "0", "0"], "not all of them 0"),
        (["--rrf_k", "-1"], "rrf_k is -1"),
        (["--depth", "0"], "--depth is 0"),
        (["--tag", "a b"], "'a b' is not one word without spaces"),
        (["--method", "mean"], "invalid choice: 'mean'"),
        (["--method", "min_max", "--weights", "70", "30"], "divide the weights"),
    ],
)
def test_a_bad_option_of_fuse_is_refused(desk, more, phrase):
    desk.refuses(lambda: fuse(desk, *more), phrase)


def test_fuse_refuses_one_run_and_bad_files_and_its_own_input(desk):
    desk.refuses(lambda: fuse(desk, names=("run.trec",)), "nothing to fuse in 1 run")
    desk.write("bad.trec", RUN + "q1 Q0 d1 9 1.0 t\n")
    desk.refuses(lambda: fuse(desk, names=("run.trec", "bad.trec")), "bad.trec:6: ", "twice")
    desk.refuses(
        lambda: fuse(desk, "--save_path", desk.path("other.trec")),
        "--save_path is the file of --run",
    )
    desk.refuses(lambda: fuse(desk, "--save_path", desk.outputs), "is a folder")
