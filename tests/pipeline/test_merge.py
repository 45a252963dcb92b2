"""`run-groupwise merge`: rankings made again from journals, without a question asked."""

import json
import signal
from pathlib import Path

import pytest
from support.paid import QUERIES, Shop

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.run_files import RunFile


class Merger:
    """A shop whose commands run in this process, where that is quicker.

    Attributes:
        code, out, err: of the last command.
    """

    def __init__(self, shop: Shop, capture: pytest.CaptureFixture[str]) -> None:
        self.shop = shop
        self._capture = capture

    def command(self, *arguments: str | Path) -> int:
        try:
            self.code = main([str(each) for each in arguments])
        except SystemExit as ended:
            self.code = int(ended.code or 0)
        self.out, self.err = self._capture.readouterr()
        return self.code

    def run(self, name: str, *options: str, method: tuple[str, ...] = ()) -> Path:
        """The run file of `run` with these options, saved under this name."""
        out = self.shop.folder / name
        arguments = self.shop.arguments("--save_path", str(out), *options, method=method)
        assert self.command(*arguments) == 0, self.err
        return out

    def merge(
        self, *journals: Path, options: tuple[str, ...] = (), method: tuple[str, ...] = ()
    ) -> bytes:
        """The run file that a merge makes."""
        out = self.shop.folder / "merged.trec"
        assert self.try_merge(*journals, options=options, method=method) == 0, self.err
        return out.read_bytes()

    def try_merge(
        self, *journals: Path, options: tuple[str, ...] = (), method: tuple[str, ...] = ()
    ) -> int:
        out = self.shop.folder / "merged.trec"
        given = [word for journal in journals for word in ("--journal", journal)]
        ranked_by = self.shop.ranked_by[0]
        return self.command("merge", *given, "--save_path", out, *options, ranked_by, *method)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    from llmrankers_groupwise.engines.registry import ENGINES

    monkeypatch.setitem(ENGINES, "Paid", "support.paid:Paid")  # type: ignore[arg-type]
    monkeypatch.setenv("PAID", str(tmp_path / "paid.log"))
    return Shop(tmp_path)


@pytest.fixture
def merger(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Merger:
    return Merger(shop, capsys)


def journal_of(out: Path) -> Path:
    return Path(f"{out}.journal.sqlite")


METHODS = {
    "plain": (),
    "repeats": ("--num_repeat", "3"),
    "overlap": ("--overlap", "3", "--num_repeat", "2"),
    "final round": ("--final_round", "6"),
    "until stable": ("--num_repeat", "6", "--until_stable", "2"),
    "other fusion": ("--num_repeat", "2", "--fusion", "rrf", "--first_stage_weight", "0.3"),
    "ties": ("--ties", "random"),
    "anchors": ("--anchors", "2", "--calibration", "shared_shift", "--grouping", "snake"),
    "second round": ("--final_round", "4", "--final_calls", "2", "--boundary", "9"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scoring", ["generation", "likelihood"])
def test_a_merge_with_the_runs_settings_is_the_run_to_the_byte(merger, scoring, method):
    out = merger.run("out.trec", "--scoring", scoring, "--tag", "mine", method=METHODS[method])
    asked = len(merger.shop.paid)
    assert asked >= 36
    assert merger.merge(journal_of(out)) == out.read_bytes()
    assert len(merger.shop.paid) == asked
    manifest = json.loads((merger.shop.folder / "merged.trec.manifest.json").read_text())
    assert manifest["counters"]["usage"]["reused"] == manifest["counters"]["usage"]["calls"]


@pytest.mark.parametrize(
    "changed",
    [
        ("--fusion", "rrf"),
        ("--first_stage_weight", "0.7"),
        ("--ties", "doc_id"),
        ("--ties", "random"),
        ("--num_repeat", "2"),
        ("--calibration", "zscore"),
        ("--calibration", "bradley_terry", "--shrinkage", "0.5"),
        ("--num_repeat", "1", "--first_stage_weight", "0.2"),
        ("--num_repeat", "4", "--until_stable", "1"),
    ],
    ids=" ".join,
)
def test_a_merge_with_other_settings_is_the_run_with_these(merger, changed):
    many = ("--num_repeat", "4")
    kept = merger.run("out.trec", method=many)
    wanted = merger.run("other.trec", method=(*many, *changed)).read_bytes()
    assert wanted != kept.read_bytes()
    assert merger.merge(journal_of(kept), method=changed) == wanted


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 0, 3, 1)], ids=str)
@pytest.mark.parametrize("method", ["repeats", "final round", "until stable"])
def test_shards_merge_to_the_whole_run_in_any_order(merger, order, method):
    whole = merger.run("whole.trec", method=METHODS[method])
    shards = [
        merger.run(
            f"shard{index}.trec",
            *("--dataset_number_of_shards", "5", "--dataset_shard_index", str(index)),
            method=METHODS[method],
        )
        for index in range(5)
    ]
    assert b"".join(shard.read_bytes() for shard in shards) == whole.read_bytes()
    assert merger.merge(*(journal_of(shards[i]) for i in order)) == whole.read_bytes()
    once = Shop(merger.shop.folder).paid
    assert len(set(once)) * 2 == len(once), "a shard asked what another one did"


def test_shards_may_share_a_journal_one_after_another(merger):
    journal = merger.shop.folder / "shared.sqlite"
    for index in (1, 0):
        merger.run(
            f"shard{index}.trec", "--journal", str(journal),
            "--dataset_number_of_shards", "2", "--dataset_shard_index", str(index),
        )  # fmt: skip
    assert merger.merge(journal) == merger.run("whole.trec").read_bytes()


def test_a_shard_left_out_is_noticed(merger):
    shards = [
        merger.run(
            f"shard{index}.trec", "--dataset_number_of_shards", "3",
            "--dataset_shard_index", str(index),
        )
        for index in range(3)
    ]  # fmt: skip
    journals = [journal_of(shard) for shard in shards]
    assert merger.try_merge(journals[2], journals[0]) == 1
    assert "4 of the run's 12 queries are in none of these journals" in merger.err
    assert "a shard's journal was left out" in merger.err
    assert not (merger.shop.folder / "merged.trec").exists()
    merged = merger.merge(journals[2], journals[0], options=("--allow_missing",))
    assert merged == shards[0].read_bytes() + shards[2].read_bytes()


def test_journals_of_different_runs_are_told_apart(merger):
    one, other = merger.run("one.trec"), merger.run("other.trec", method=("--num_repeat", "2"))
    assert merger.try_merge(journal_of(one), journal_of(other)) == 1
    assert "are of different runs: settings.num_repeat differ" in merger.err


def test_a_query_in_two_journals_is_refused(merger, tmp_path):
    one = journal_of(merger.run("one.trec"))
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(one.read_bytes())
    assert merger.try_merge(one, copy) == 1
    assert "query q0 is in two of these journals; leave one out" in merger.err


def test_a_journal_without_a_run_says_so(merger, tmp_path):
    whole, copy = journal_of(merger.run("one.trec")), tmp_path / "copy.sqlite"
    assert merger.command("journal", "verify", "--journal", whole, "--save_path", copy) == 0
    assert merger.try_merge(copy) == 1
    assert f"{copy}: this journal has replies but no run to merge" in merger.err


@pytest.mark.parametrize("wrong", ["none.sqlite", "corpus.jsonl", ".", "empty"])
def test_what_is_no_journal_is_refused_by_name(merger, wrong):
    path = merger.shop.folder / wrong
    merger.shop.write("empty", "")
    before = path.read_bytes() if path.is_file() else None
    assert merger.try_merge(path) == (1 if path.exists() else 2)
    assert str(path) in merger.err
    assert "no such journal" in merger.err or "no journal" in merger.err
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_journal_is_not_merged_over(merger):
    journal = journal_of(merger.run("one.trec"))
    before = journal.read_bytes()
    assert merger.command("merge", "--journal", journal, "--save_path", journal, "groupwise") == 2
    assert "--save_path is the file of a --journal" in merger.err
    assert journal.read_bytes() == before


def test_a_journal_is_not_where_its_run_is_saved(merger):
    out = str(merger.shop.folder / "out.trec")
    assert merger.command(*merger.shop.arguments("--save_path", out, "--journal", out)) == 2
    assert "--save_path is the file of --journal" in merger.err
    assert merger.shop.paid == []


def test_groups_of_another_size_are_refused_as_not_asked(merger):
    journal = journal_of(merger.run("one.trec"))
    assert merger.try_merge(journal, method=("--group_size", "5")) == 1
    assert "these settings ask what that run did not: more repeats, other groups" in merger.err
    assert merger.try_merge(journal, method=("--num_repeat", "2")) == 1
    assert "query q0, repeat 1 has no reply for this group of 10 documents" in merger.err


def test_a_prompt_file_deleted_in_between_does_not_matter(merger):
    prompt = merger.shop.write(
        "mine.toml", 'prompt_user = "Q={query} D={docs}"\ndoc_prefix = "<{num}> "\n'
    )
    out = merger.run("one.trec", "--prompt_file", str(prompt))
    prompt.unlink()
    for name in ("run.trec", "queries.tsv", "corpus.jsonl"):
        (merger.shop.folder / name).unlink()
    assert merger.merge(journal_of(out)) == out.read_bytes()


def test_failed_groups_fail_again_in_a_merge_also_where_two_queries_ask_the_same(merger):
    folder, lines = merger.shop.folder, []
    for line in (folder / "run.trec").read_text().splitlines():
        lines += [f"{line}\n"] * line.startswith("q0 ")
    twice = [line.replace("q0 ", "q99 ") for line in lines]
    merger.shop.write("run.trec", (folder / "run.trec").read_text() + "".join(twice))
    queries = (folder / "queries.tsv").read_text()
    text = queries.splitlines()[0].split("\t")[1]
    merger.shop.write("queries.tsv", f"{queries}q99\t{text}\n")
    number = lines[0].split()[2].removeprefix("d")
    options = ("--engine_args", f"fails=[{number}]", "--max_failure_rate", "1")
    out = merger.run("out.trec", *options)
    assert " failed" in merger.out
    assert merger.merge(journal_of(out)) == out.read_bytes()
    assert merger.command("journal", "stats", "--journal", journal_of(out), "--json") == 0
    (run,) = json.loads(merger.out)["runs"]
    assert run["questions"] == 3 * (QUERIES + 1)


def test_a_run_that_kept_documents_without_text_merges_as_it_was(merger):
    folder = merger.shop.folder
    queries = (folder / "queries.tsv").read_text().splitlines(keepends=True)
    merger.shop.write("queries.tsv", "".join(queries[:-1]))
    corpus = (folder / "corpus.jsonl").read_text().splitlines(keepends=True)
    merger.shop.write("corpus.jsonl", "".join(corpus[5:]))
    out = merger.run("out.trec", "--allow_missing")
    assert merger.merge(journal_of(out)) == out.read_bytes()


def test_a_run_that_is_not_finished_is_merged_only_with_allow_missing(merger, tmp_path):
    folder = tmp_path / "unfinished"
    folder.mkdir()
    shop = Shop(folder, queries=200)  # more than are in flight together, so some were answered
    assert shop.run(ends="SIGKILL before 220").returncode == -signal.SIGKILL
    assert merger.try_merge(shop.journal) == 1
    assert "of the run's 200 queries are in none of these journals" in merger.err
    assert "Either the run is not finished: run its command again first" in merger.err
    assert not (merger.shop.folder / "merged.trec").exists()
    lenient = ("--allow_missing", "--max_failure_rate", "1")
    merged: dict[str, list[str]] = {}
    for line in merger.merge(shop.journal, options=lenient).decode().splitlines():
        merged.setdefault(line.split("\t")[0], []).append(line.split("\t")[2])
    assert 64 <= len(merged) < 200
    assert " failed" in merger.out
    first_stage = RunFile(folder / "run.trec")
    answered = {json.loads(line)[0] for line in shop.kept()}
    for query_id, doc_ids in merged.items():
        before = [entry.doc_id for entry in first_stage[query_id]]
        assert sorted(doc_ids) == sorted(before)
        assert (doc_ids == before) == (query_id not in answered)


def test_a_merge_shows_no_texts_and_has_no_option_to(merger):
    """The journal has none."""
    journal = journal_of(merger.run("one.trec"))
    assert merger.command("merge", "--journal", journal, "--save_path", "x", "--show", "q1",
                          "groupwise") == 2  # fmt: skip
    assert "unknown option --show" in merger.err


# --- One query explained ----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_query_is_explained_by_its_journal_alone_as_by_its_run(merger, method):
    out = merger.run("out.trec", "--explain", "q3", method=METHODS[method])
    explained = merger.out.split("\n\n12 queries, ")[0] + "\n"
    assert explained.startswith("query q3: ")
    asked, kept = len(merger.shop.paid), sorted(merger.shop.folder.iterdir())
    for name in ("run.trec", "queries.tsv", "corpus.jsonl"):
        (merger.shop.folder / name).unlink()
        kept.remove(merger.shop.folder / name)
    explain = ("merge", "--journal", journal_of(out), "--explain", "q3", "groupwise")
    assert merger.command(*explain) == 0, merger.err
    assert merger.out == explained
    assert len(merger.shop.paid) == asked
    assert sorted(merger.shop.folder.iterdir()) == kept
    ranks = [line.split()[-1] for line in explained.split("merged: ")[1].splitlines()]
    written = [entry.doc_id for entry in RunFile(out)["q3"]]
    assert ranks[-len(written) :] == written


def test_other_settings_explain_what_they_would_make_of_the_replies(merger):
    journal = journal_of(merger.run("out.trec", method=("--num_repeat", "2")))
    explained = ("--explain", "q3", "--explain", "q0")
    merger.merge(journal, options=explained, method=("--calibration", "zscore"))
    assert "  label  first stage  score  calibrated  document\n" in merger.out
    assert merger.out.index("query q3: ") < merger.out.index("query q0: ")
    assert "12 queries, " in merger.out.split("query q0: ")[1]


@pytest.mark.parametrize(
    ("options", "phrases"),
    [
        (("--explain", "q77"), ("--explain q77: the run in --journal has no such query",)),
        (("--explain", "q1", "--json"), ("--explain prints a text and --json nothing but JSON",)),
        (("--explain", "q1", "--qrels", "q"), ("--qrels measures the merged run: give --save",)),
        ((), ("the following arguments are required: --save_path",)),
    ],
)
def test_what_cannot_be_explained_is_refused(merger, options, phrases):
    journal = journal_of(merger.run("out.trec"))
    assert merger.command("merge", "--journal", journal, *options, "groupwise") == 2
    assert merger.out == ""
    for phrase in phrases:
        assert phrase in merger.err


def test_a_journal_of_another_method_or_none_explains_nothing(merger):
    nowhere = merger.shop.folder / "nowhere.sqlite"
    explain = ("--explain", "q1", "groupwise")
    assert merger.command("merge", "--journal", nowhere, *explain) == 2
    assert f"{nowhere}: there is no such journal; check the path" in merger.err
    merger.shop.ranked_by = ("pointwise",)
    journal = journal_of(merger.run("out.trec"))
    assert merger.command("merge", "--journal", journal, *explain) == 2
    assert "the replies are those of a pointwise run: merge ... pointwise" in merger.err
    assert merger.command("merge", "--journal", journal, "--explain", "q1", "pointwise") == 2
    assert "--explain is of the method groupwise, whose scores are merged, and this" in merger.err


# --- Other methods ----------------------------------------------------------------------------

OTHERS = {
    "setwise": (("setwise", "--num_child", "5"), ()),
    "setwise, votes": (("setwise", "--num_permutation", "3"), ()),
    "setwise, bubblesort as upstream": (
        ("setwise", "--method", "bubblesort", "--upstream_behaviour"), (),
    ),
    "listwise": (("listwise", "--num_repeat", "2"), ()),
    "listwise, read otherwise": (("listwise", "--parsing", "rank_llm"), ()),
    "pointwise": (("pointwise",), ()),
    "pointwise, words": (("pointwise",), ("--scoring", "generation")),
    "pointwise, grades": (("pointwise", "--method", "graded"), ()),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_of_any_method_is_merged_to_the_byte(merger, name):
    merger.shop.ranked_by, options = OTHERS[name]
    out = merger.run("out.trec", *options)
    asked = len(merger.shop.paid)
    assert merger.merge(journal_of(out)) == out.read_bytes()
    assert len(merger.shop.paid) == asked
    manifest = json.loads(Path(f"{out}.manifest.json").read_text(encoding="utf-8"))
    merged = json.loads(
        (merger.shop.folder / "merged.trec.manifest.json").read_text(encoding="utf-8")
    )
    assert merged["settings"] == manifest["settings"]
    assert merged["counters"]["statuses"] == manifest["counters"]["statuses"]
    assert merged["method"] == merger.shop.ranked_by[0]


@pytest.mark.parametrize("name", OTHERS)
def test_shards_of_any_method_are_merged(merger, name):
    merger.shop.ranked_by, options = OTHERS[name]
    whole = merger.run("whole.trec", *options).read_bytes()
    journals = []
    for index in ("0", "1"):
        shard = ("--dataset_number_of_shards", "2", "--dataset_shard_index", index)
        journals.append(journal_of(merger.run(f"part{index}.trec", *options, *shard)))
    assert merger.merge(*reversed(journals)) == whole


@pytest.mark.parametrize("method", ["heapsort", "bubblesort"])
def test_fewer_of_the_best_are_sorted_out_of_what_was_asked(merger, method):
    """The comparisons for k = 4 are the first ones of those for k = 9."""
    merger.shop.ranked_by = ("setwise", "--method", method, "--k", "9")
    out = merger.run("out.trec")
    asked = len(merger.shop.paid)
    fewer = merger.merge(journal_of(out), method=("--k", "4"))
    assert len(merger.shop.paid) == asked
    merger.shop.ranked_by = ("setwise", "--method", method, "--k", "4")
    assert fewer == merger.run("fewer.trec").read_bytes() != out.read_bytes()


@pytest.mark.parametrize("more", [("--k", "15"), ("--num_child", "9"), ("--num_permutation", "2")])
def test_comparisons_that_were_not_asked_are_missing(merger, more):
    merger.shop.ranked_by = ("setwise",)
    out = merger.run("out.trec")
    assert merger.try_merge(journal_of(out), method=more) == 1
    assert "has no reply for this group" in merger.err
    assert "other groups, windows or comparisons" in merger.err
    assert not (merger.shop.folder / "merged.trec").exists()


def test_windows_that_were_not_asked_are_missing(merger):
    merger.shop.ranked_by = ("listwise",)
    out = merger.run("out.trec")
    assert merger.try_merge(journal_of(out), method=("--step_size", "5")) == 1
    assert "has no reply for this group of 20 documents" in merger.err
    assert merger.try_merge(journal_of(out), method=("--num_repeat", "2")) == 1
    assert "repeat 1 has no reply" in merger.err


def test_a_listwise_run_can_be_read_by_the_other_rule(merger):
    merger.shop.ranked_by = ("listwise",)
    out = merger.run("out.trec")
    assert merger.merge(journal_of(out), method=("--parsing", "rank_llm")) == out.read_bytes()


@pytest.mark.parametrize("method", ["setwise", "listwise", "pointwise"])
def test_replies_of_one_method_make_no_ranking_of_another(merger, method):
    journal = journal_of(merger.run("out.trec"))
    merger.shop.ranked_by = (method,)
    assert merger.try_merge(journal) == 2
    assert "the replies are those of a groupwise run: merge ... groupwise" in merger.err
    assert not (merger.shop.folder / "merged.trec").exists()


def test_answers_yes_or_no_are_no_grades(merger):
    merger.shop.ranked_by = ("pointwise",)
    journal = journal_of(merger.run("out.trec"))
    assert merger.try_merge(journal, method=("--method", "graded")) == 2
    assert (
        "method is 'graded', but the run asked with 'yes_no', and its replies answer that"
        in merger.err
    )


def test_options_of_another_method_are_refused_in_a_merge(merger):
    merger.shop.ranked_by = ("listwise",)
    journal = journal_of(merger.run("out.trec"))
    assert merger.try_merge(journal, method=("--k", "3")) == 2
    assert "--k is an option of setwise, not of listwise" in merger.err
