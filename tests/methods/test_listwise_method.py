"""The listwise method: windows, recorded rankings made again, llm-rankers' own code beside it."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llmrankers.rankers import SearchResult
from support.sorting import Oracle, answering, by_worth, drawn_worth, noise, order, rank, upstream

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.errors import EngineError, SettingsError
from llmrankers_groupwise.methods.listwise import ListwiseSettings, windows
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.testing import ScriptedEngine
from llmrankers_groupwise.types import Status

PROMPT = load_prompt("listwise")
SIZES = [0, 1, 2, 19, 20, 21, 95, 100, 101, 500]


def made(**changed: object) -> ListwiseSettings:
    return ListwiseSettings(prompt=PROMPT, **changed)  # type: ignore[arg-type]


def said(places: list[int]) -> str:
    return " > ".join(f"[{place + 1}]" for place in places)


def by_number(*, worth: list[int]) -> Oracle:
    ranked = by_worth(worth)
    return lambda shown: said(ranked(shown))


# --- Windows ----------------------------------------------------------------------------------


def test_windows_go_from_the_end_to_the_beginning():
    assert windows(100, 20, 10) == [(start, start + 20) for start in range(80, -1, -10)]
    assert windows(95, 20, 10)[-3:] == [(15, 35), (5, 25), (0, 15)]
    assert windows(25, 20, 10) == [(5, 25), (0, 15)]
    assert windows(21, 20, 10) == [(1, 21), (0, 11)]


@pytest.mark.parametrize(("n", "expected"), [(0, []), (1, []), (2, [(0, 2)]), (19, [(0, 19)]),
                                             (20, [(0, 20)])])  # fmt: skip
def test_a_list_that_fits_into_a_window_is_one(n, expected):
    assert windows(n, 20, 10) == expected


@given(st.integers(0, 300), st.integers(2, 30), st.data())
def test_windows_show_every_document_and_overlap(n, size, data):
    step = data.draw(st.integers(1, size - 1))
    found = windows(n, size, step)
    assert set(range(n) if n > 1 else ()) == {p for start, end in found for p in range(start, end)}
    assert all(2 <= end - start <= size for start, end in found)
    for (start, end), (next_start, next_end) in itertools.pairwise(found):
        assert (start - next_start, end - next_end) == (min(step, start), step)
        assert next_end > start, "the best of a window are in the next one"


# --- Rankings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_every_document_is_shown_and_ranked_once(n):
    engine = answering(by_number(worth=drawn_worth(n)))
    ranking, usage = rank("listwise", n, engine, made())
    assert sorted(order(ranking)) == list(range(n))
    shown = {passage for request in engine.requests for passage in request.passages}
    assert len(shown) == (n if n > 1 else 0)
    assert usage.calls == usage.rounds == len(windows(n, 20, 10))
    assert [each.score for each in ranking.documents] == [float(n - place) for place in range(n)]
    assert all(each.model_score is None for each in ranking.documents)


@pytest.mark.parametrize("n", [19, 20, 21, 95, 100])
def test_windows_that_are_ordered_rightly_bring_the_best_to_the_top(n):
    """As many as windows have in common: 10 of each are carried on."""
    worth = drawn_worth(n)
    ranking, _ = rank("listwise", n, answering(by_number(worth=worth)), made())
    best = sorted(range(n), key=lambda number: -worth[number])
    assert order(ranking)[:10] == best[:10]


def test_going_through_the_list_again_sorts_more_of_it():
    n, worth = 40, drawn_worth(40)
    best = sorted(range(n), key=lambda number: -worth[number])
    engine = answering(by_number(worth=worth))
    ranking, usage = rank("listwise", n, engine, made(num_repeat=3))
    assert order(ranking)[:30] == best[:30]
    assert usage.calls == usage.rounds == 9
    assert [request.origin.repeat for request in engine.requests] == [0] * 3 + [1] * 3 + [2] * 3
    once, _ = rank("listwise", n, answering(by_number(worth=worth)), made())
    assert order(once)[:30] != best[:30]


def test_labels_that_are_not_mentioned_follow_in_their_order():
    ranking, _ = rank("listwise", 5, ScriptedEngine(["[4] > [2]"]), made())
    assert order(ranking) == [3, 1, 0, 2, 4]
    assert [each.scores.status for each in ranking.groups] == [Status.PARTIAL]


@pytest.mark.parametrize("reply", ["", "I cannot.", "[9] > [8]", EngineError("out of order")])
def test_a_window_without_an_order_stays_as_it_is(reply):
    ranking, usage = rank("listwise", 5, ScriptedEngine([reply]), made())
    assert order(ranking) == [0, 1, 2, 3, 4]
    assert [each.scores.status for each in ranking.groups] == [Status.FAILED]
    assert usage.errors == isinstance(reply, EngineError)


def test_only_the_window_that_fails_stays_as_it_is():
    replies = ["", said([9, 8, *range(8)])]  # of (2, 5), of (0, 3)
    ranking, _ = rank(
        "listwise", 5, ScriptedEngine(replies), made(window_size=3, step_size=2, parsing="rank_llm")
    )
    assert order(ranking) == [0, 1, 2, 3, 4]
    ranking, _ = rank(
        "listwise", 5, ScriptedEngine(["[3] > [1]", ""]), made(window_size=3, step_size=2)
    )
    assert order(ranking) == [0, 1, 4, 2, 3]


def test_documents_without_text_are_not_shown_and_keep_their_place():
    engine = answering(lambda shown: said(list(range(len(shown)))[::-1]))
    ranking, usage = rank("listwise", 6, engine, made(), untold=(0, 3))
    assert order(ranking) == [0, 5, 4, 3, 2, 1]
    assert usage.calls == 1


def test_groups_hold_positions_as_they_were_shown():
    ranking, _ = rank(
        "listwise", 4, answering(lambda shown: said([1, 0])), made(window_size=2, step_size=1)
    )
    assert [each.group.members for each in ranking.groups] == [(2, 3), (1, 3), (0, 3)]
    assert order(ranking) == [3, 0, 1, 2]


def test_a_request_wants_an_order_and_has_no_form():
    engine = ScriptedEngine(["[1] > [2]"])
    rank("listwise", 2, engine, made())
    (request,) = engine.requests
    assert (request.wants, request.form, request.fallback) == ("order", None, None)
    assert request.origin.doc_ids == ("d0", "d1")


BAD = {
    "window_size": [1, 0, -3, True, 2.0, "20"],
    "step_size": [0, True, 20, 21, None],
    "num_repeat": [0, False, 1.5],
    "parsing": ["digits", None],
    "upstream_behaviour": ["yes", 1, None],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_a_setting_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=f"^{name} is {value!r}"):
        made(**{name: value})


# --- llm-rankers' own code --------------------------------------------------------------------


def theirs(n: int, oracle: Oracle, size: int, step: int, repeats: int) -> tuple[list[int], int]:
    """The order of llm-rankers' listwise ranker with these replies, and how often it asked."""
    ranker_class = upstream("listwise").ListwiseLlmRanker

    class Told(ranker_class):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.window_size, self.step_size, self.num_repeat = size, step, repeats
            self.asked = 0

        def compare(self, query: str, docs: list[SearchResult]) -> str:
            self.asked += 1
            return oracle([int(each.docid) for each in docs])

    ranker = Told()
    ranked = ranker.rerank("q", [SearchResult(str(i), float(-i), f"number {i}") for i in range(n)])
    return [int(each.docid) for each in ranked], ranker.asked


def replying(seed: int, worth: list[int], failing: float) -> Oracle:
    """Replies of a noisy judge that does not always agree with itself, some of them unreadable."""

    def oracle(shown: list[int]) -> str:
        rng = noise(seed, shown)
        if rng.random() < failing:
            return rng.choice(["I cannot say.", "", "[77] > [88]", "of 2019, 3 > 1 and 0"])
        places = sorted(range(len(shown)), key=lambda at: -worth[shown[at]] - 9 * rng.random())
        if rng.random() < 0.3:
            places = places[: rng.randrange(len(places)) + 1] + places[:2]
        return said(places)

    return oracle


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 45), st.integers(2, 12), st.integers(1, 3), st.integers(0, 10**6), st.data())
def test_upstream_behaviour_is_llm_rankers_ranking(n, size, repeats, seed, data):
    step = data.draw(st.integers(1, size - 1))
    failing = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    oracle = replying(seed, drawn_worth(n, seed), failing)
    expected, asked = theirs(n, oracle, size, step, repeats)
    ours, usage = rank(
        "listwise",
        n,
        answering(oracle),
        made(
            window_size=size, step_size=step, num_repeat=repeats,
            parsing="rank_llm", upstream_behaviour=True,
        ),
    )  # fmt: skip
    assert order(ours) == expected
    assert usage.calls == asked


def test_what_differs_from_upstream_is_what_it_does_not_show():
    for n, calls in ((19, 0), (20, 1), (95, 8), (100, 9)):
        engine = answering(by_number(worth=drawn_worth(n)))
        _, usage = rank("listwise", n, engine, made(upstream_behaviour=True))
        assert usage.calls == calls
        shown = {passage for request in engine.requests for passage in request.passages}
        unseen = {f"number {number}" for number in range(n)} - shown
        assert len(unseen) == {19: 19, 95: 5}.get(n, 0)
    assert len(windows(19, 20, 10)) == 1
    assert len(windows(95, 20, 10)) == 9


@pytest.mark.parametrize("n", [100, 40, 20])
def test_where_windows_fit_both_are_the_same(n):
    oracle = by_number(worth=drawn_worth(n))
    ours, _ = rank("listwise", n, answering(oracle), made())
    assert order(ours) == theirs(n, oracle, 20, 10, 1)[0]


# --- Recorded rankings ------------------------------------------------------------------------

RUNS = [
    "r00_bm25_output_v2_aug_vicuna_7b_top100_dl19",
    "r01_bm25_output_v2_aug_vicuna_7b_top100_dl19",
    "r02_bm25_output_v2_aug_vicuna_7b_top100_dl19",
    "r04_bm25_output_v2_aug_vicuna_7b_top20_dl19",
    "r05_bm25_output_v2_aug_vicuna_7b_top20_dl19",
    "r08_bm25_output_v2_vicuna_7b_top100_dl19",
    "r09_bm25_vicuna-13b-v1.5_top100_dl19",
    "r10_bm25_vicuna-13b-v1.5_top100_dl19",
    "r11_bm25_vicuna-13b-v1.5_top100_dl19",
    "r12_bm25_vicuna-7b-checkpoint-800_top100_dl19",
    "r13_bm25_vicuna-7b-checkpoint-800_top20_dl19",
    "r15_bm25_vicuna-7b-v1.5_top100_dl19",
    "r45_splade_pp_ed_output_v2_aug_vicuna_7b_top100_dl19",
    "r46_splade_pp_ed_output_v2_aug_vicuna_7b_top100_dl19",
    "r49_splade_pp_ed_output_v2_aug_vicuna_7b_top20_dl19",
    "r50_splade_pp_ed_output_v2_aug_vicuna_7b_top20_dl19",
    "r53_splade_pp_ed_vicuna-7b-checkpoint-800_top100_dl19",
]


def test_every_recorded_run_is_made_again_below(shared):
    assert sorted(RUNS) == sorted(path.stem for path in (shared / "recordings" / "runs").iterdir())


@pytest.mark.parametrize("run", RUNS)
def test_recorded_replies_make_the_recorded_ranking(shared, tmp_path, run, capsys):
    """Query by query and document by document, by the command."""
    recordings = shared / "recordings" / "listwise_rankvicuna_dl19.jsonl"
    stage = "splade_pp_ed" if "splade_pp_ed" in run else "bm25"
    collection = shared / "collections" / "trec-dl19"
    hits = 20 if "top20" in run else 100
    # Of one run no reply is an order: its ranking is the first stage.
    unreadable = ["--max_failure_rate", "1"] if run.startswith("r11_") else []
    out = tmp_path / "out.trec"
    command = [
        "run", "--candidates", collection / "candidates" / f"{stage}.jsonl", "--hits", hits,
        "--engine", "replay", "--recordings", recordings, "--engine_args", f"run_id={run}",
        *unreadable, "--save_path", out, "--no_journal", "listwise",
    ]  # fmt: skip
    assert main([str(word) for word in command]) == 0, capsys.readouterr().err
    made_again, recorded = RunFile(out), RunFile(shared / "recordings" / "runs" / f"{run}.trec")
    first = RunFile(collection / "runs" / f"{stage}.trec")
    assert len(recorded) == 43
    assert made_again.keys() == recorded.keys()
    for query_id, ranked in recorded.items():
        doc_ids = [each.doc_id for each in ranked]
        assert [each.doc_id for each in made_again[query_id]] == doc_ids[:hits]
        assert doc_ids[hits:] == [each.doc_id for each in first[query_id]][hits:100]
    manifest = json.loads(Path(f"{out}.manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["parsing"] == "rank_llm"
    assert manifest["engine"]["run_id"] == run
    usage = manifest["counters"]["usage"]
    assert usage["calls"] == usage["reused"] == usage["rounds"] == 43 * (9 if hits == 100 else 1)
