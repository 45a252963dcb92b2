"""The simulated judge of benchmarks/, and the study that is made with it."""

import asyncio
import importlib
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.types import Candidate, Group, Query, Status

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "grouping"
NAMES = ("judge_simulator", "recorded_judges", "judge_fit", "plans", "judges",
         "study_tables", "measure", "decision", "decision_tables",
         "study")  # fmt: skip


@pytest.fixture(scope="module")
def study():
    """The study's modules by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def simulator(study):
    return study["judge_simulator"]


GRADES = [0, 3, 1, -1, 2, 0, 0, 1, 3, 0]
ALL = Group(0, tuple(range(10)))


def scores(judged):
    return [judged.scores.scores[label] for label in sorted(judged.scores.scores)]


def quiet(simulator, **parameters):
    """A judge without noise, but for what is given."""
    return simulator.JudgeParameters(**({"bias": 0.0, "noise": 0.0, "levels": 0} | parameters))


def test_an_ideal_judge_gives_grades(simulator):
    (judged,) = simulator.SimulatedJudge("q", GRADES, simulator.IDEAL)([ALL])
    assert scores(judged) == pytest.approx([10 * max(grade, 0) / 3 for grade in GRADES])
    assert judged.scores.status is Status.EXACT


def test_the_same_group_gets_the_same_scores_in_any_company_and_another_order_others(simulator):
    judge = simulator.SimulatedJudge("q", GRADES, simulator.JudgeParameters(levels=0, drift=1.0))
    turned = Group(0, ALL.members[::-1])
    alone, (other, again) = judge([ALL]), judge([turned, ALL])
    assert alone[0] == again
    assert scores(other)[::-1] != pytest.approx(scores(again))
    elsewhere = simulator.SimulatedJudge("p", GRADES, simulator.JudgeParameters(levels=0))
    assert scores(elsewhere([ALL])[0]) != pytest.approx(scores(again))


def many(simulator, parameters, of=400, grades=(1,) * 10):
    """Scores of the same groups by so many judges: shape (judges, documents)."""
    group = Group(0, tuple(range(len(grades))))
    return np.array(
        [
            scores(simulator.SimulatedJudge("q", grades, parameters, seed)([group])[0])
            for seed in range(of)
        ]
    )


def test_each_kind_of_noise_is_as_wide_as_it_says(simulator):
    for name in ("bias", "noise"):
        found = many(simulator, quiet(simulator, **{name: 1.0}))
        assert found.std() == pytest.approx(1.0, abs=0.05)
    drift = many(simulator, quiet(simulator, drift=1.0))
    assert drift.std(axis=1).max() == pytest.approx(0.0, abs=1e-9)
    assert drift.mean(axis=1).std() == pytest.approx(1.0, abs=0.1)
    contrast = many(simulator, quiet(simulator, contrast=0.3), grades=(0, 3, 1, 2))
    factors = np.ptp(contrast, axis=1) / 6.0
    assert np.log(factors).std() == pytest.approx(0.3, abs=0.05)


def test_bias_stays_with_a_document_and_noise_does_not(simulator):
    for name, same in (("bias", True), ("noise", False)):
        judge = simulator.SimulatedJudge("q", GRADES, quiet(simulator, **{name: 1.0}))
        one, other = judge([ALL, Group(1, ALL.members[::-1])])
        assert (scores(one) == pytest.approx(scores(other)[::-1])) is same


def test_the_first_place_gains(simulator):
    (judged,) = simulator.SimulatedJudge("q", [1] * 5, quiet(simulator, position=2.0))(
        [Group(0, (0, 1, 2, 3, 4))]
    )
    assert scores(judged) == pytest.approx([5.0, 4.5, 4.0, 3.5, 3.0])


def test_a_judge_that_only_compares_scores_a_good_group_as_a_bad_one(simulator):
    judge = simulator.SimulatedJudge("q", [3, 3, 0, 0], quiet(simulator, context=1.0))
    good, bad = judge([Group(0, (0, 1)), Group(0, (2, 3))])
    assert scores(good) == pytest.approx(scores(bad))


def test_scores_are_whole_or_of_few_levels(simulator):
    whole = many(simulator, simulator.JudgeParameters(), of=30)
    assert set(np.unique(whole)) <= set(range(11))
    few = many(simulator, simulator.JudgeParameters(levels=3), of=30)
    assert set(np.unique(few)) <= {0.0, 5.0, 10.0}


def test_replies_fail_and_labels_are_missing_as_often_as_they_should(simulator):
    given = simulator.JudgeParameters(malformed=0.2, missing=0.1)
    judged = [
        simulator.SimulatedJudge("q", GRADES, given, seed)([ALL])[0].scores for seed in range(500)
    ]
    failed = [each for each in judged if each.status is Status.FAILED]
    assert len(failed) / 500 == pytest.approx(0.2, abs=0.05)
    rest = [len(each.missing) / 10 for each in judged if each.status is not Status.FAILED]
    assert statistics.fmean(rest) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    "settings",
    [
        {"grouping": "snake", "calibration": "zscore", "final_round": 6},
        {"num_repeat": 2, "calibration": "bradley_terry", "final_round": 4, "final_calls": 2},
        {"anchors": 2, "calibration": "shared_shift", "boundary": 12, "final_round": 4},
        {"overlap": 2, "shrinkage": 0.5},
        {"num_repeat": 3, "fusion": "rrf"},
    ],
)
def test_the_study_ranks_as_the_ranker_that_asks_the_simulated_engine(study, settings):
    plans, simulator = study["plans"], study["judge_simulator"]
    given = simulator.JudgeParameters(malformed=0.1, missing=0.05, drift=1.0)
    grades = [(7 * place) % 4 for place in range(30)]
    doc_ids = [f"d{place}" for place in range(30)]
    qrels = {"q": dict(zip(doc_ids, grades, strict=True))}
    engine = simulator.SimulatedEngine({"q": doc_ids}, qrels, given, seed=3)
    ranker = GroupwiseLlmRanker(engine=engine, group_size=8, seed=5, **settings)
    candidates = [Candidate(doc_id, "text", 0.0) for doc_id in doc_ids]
    ranking, usage = asyncio.run(ranker.rank_candidates(Query("q", "a query"), candidates))
    of_plan = set(vars(plans.Plan(8)))
    plan = plans.Plan(8, **{name: x for name, x in settings.items() if name in of_plan})
    merge = plans.Merge(**{name: x for name, x in settings.items() if name not in of_plan})
    judge = simulator.SimulatedJudge("q", grades, given, seed=3)
    (order,) = plans.ranked(30, plan, [merge], judge, 5, "a query")
    assert [document.doc_id for document in ranking.documents] == [doc_ids[x] for x in order]
    assert usage.calls == plan.calls(30)
    assert {each.scores.status for each in ranking.groups} > {Status.EXACT}


@pytest.mark.parametrize(("n", "group_size"), [(100, 20), (50, 20), (20, 4), (500, 20)])
def test_plans_take_the_calls_that_they_may(study, n, group_size):
    plans = study["plans"]
    groups = -(-n // group_size)
    for budget in (groups, groups + 1, 2 * groups):
        first, *others = plans.plans(n, budget, group_size)
        assert first.calls(n) <= budget
        assert {plan.calls(n) for plan in others} == {budget}
        assert len({first, *others}) == len(others) + 1


def test_a_gain_is_of_the_queries_that_did_not_choose(study):
    report, plans = study["study_tables"], study["plans"]
    combined = [plans.Combination(plans.Plan(size)) for size in (20, 10, 5)]
    values = np.zeros((3, 2, 4))
    values[1, :, ::2], values[1, :, 1::2] = 0.9, 0.3  # chosen for what it does elsewhere
    values[2, :, ::2], values[2, :, 1::2] = 0.1, 0.8
    measured = report.Measured(combined, values)
    assert measured.chosen == 1
    assert measured.reported(1) == pytest.approx(0.3)
    assert measured.gain(1) == pytest.approx((0.3, 0.3, 0.3))


@pytest.mark.parametrize(("n", "group_size"), [(100, 20), (20, 4)])
def test_changes_take_the_calls_of_random_groups(study, n, group_size):
    decision = study["decision"]
    groups = n // group_size
    for budget in (groups, 2 * groups, 4 * groups):
        found = decision.changes(n, budget, group_size)
        assert next(iter(found)) == decision.BASELINE
        assert {each.plan.calls(n) for each in found.values()} == {budget}
        assert found["zscore"].plan == found[decision.BASELINE].plan
        assert ("half of the calls finals of 20" in found) == (budget > groups)
    smaller = decision.changes(100, 6, 20)
    assert smaller[decision.BASELINE].plan.group_size < 20
    assert smaller["one round, then finals of 20"].plan.final_calls == 1
    assert decision.changes(20, 6, 4) == {}  # no size makes six groups of twenty


def test_a_verdict_holds_for_all_settings_of_a_judge_together(study):
    decision = study["decision"]
    rng = np.random.default_rng(0)
    base = rng.random((1, 3, 50))
    better = base + 0.1 + 0.01 * rng.standard_normal((1, 3, 50))
    luck = base + np.array([0.1] * 33 + [-0.1] * 17)
    values = np.concatenate([base, better, luck, 2 * base - better])
    names = ["random", "better", "luck", "worse"]
    settings = [
        each
        for budget in range(10)
        for each in decision.settings_of("judge", "made", budget, names, values)
    ]
    verdicts = decision.decided(settings)
    lucky = [each for each in settings if each.change == "luck"]
    assert {verdicts[each] for each in lucky} == {0}
    assert max(each.p_value for each in lucky) < 0.05  # each alone would count
    tables = study["decision_tables"]
    table = tables.decision_table(settings)
    assert table[2].startswith("| better | 10 | +0.09")
    assert table[2].endswith("| 10 | 0 | 0 | yes |")
    assert table[-1].endswith("| 0 | 0 | 10 | no |")
    assert "| better | 1 / 0 |" in tables.places_table(settings)[2]
    assert tables.places_table(settings, by_collection=False)[4].startswith(
        "| worse | 0 / 1 of 1, -0."
    )
    alike = decision.against(settings, "better", "worse", {0: 5, 1: 5})
    assert {each.budget for each in alike} == {0, 1}
    assert [each.mean for each in alike] == pytest.approx([0.2, 0.2], abs=0.02)
    assert {each.change for each in alike} == {"better, against worse, 5 calls"}
    same = decision.against(settings, "better", decision.BASELINE)
    assert [each.mean for each in same] == [x.mean for x in settings if x.change == "better"]


def test_decisions_about_a_real_collection(study, shared, tmp_path, monkeypatch):
    out = tmp_path / "decide.md"
    arguments = f"grouping.py decide --shared {shared} --save_path {out} --seeds 1 --queries 4"
    monkeypatch.setattr(study["study"], "SWEEP", {"as fitted": {}, "quiet": {"noise": 0.0}})
    monkeypatch.setattr(sys, "argv", f"{arguments} --collections trec-dl19 --budgets 5 6".split())
    study["study"].main()
    text = out.read_text(encoding="utf-8")
    assert "| one round, then finals of 20 | 2 |" in text
    assert "| as fitted | " in text
    assert "| quiet | " in text
    assert "against mixed groups | 2 |" in text
    assert out.with_suffix(".svg").is_file()


def test_the_fit_finds_what_orders_were_made_with(study):
    fit, facts_of = study["judge_fit"], study["recorded_judges"]
    simulator = study["judge_simulator"]
    rng = np.random.default_rng(1)
    qrels, windows = {}, []
    for query in range(60):
        qrels[f"q{query}"] = {f"d{x}": int(rng.integers(0, 4)) for x in range(30)}
        for stage in ("_bm25_", "_splade_"):
            shown = tuple(f"d{x}" for x in rng.choice(30, 20, replace=False))
            windows.append(facts_of.Window(stage, f"q{query}", 0, shown, ()))
    given = quiet(simulator, low=2.0, high=5.0, bias=1.2, noise=0.9, position=1.5)
    facts = facts_of.order_facts(fit.simulated_windows(windows, qrels, given, 0), qrels)
    # one grade is a point, a score's deviation 1.5
    assert facts.separation == pytest.approx(1 / 1.5, rel=0.15)
    assert facts.persistence == pytest.approx(1.2**2 / 1.5**2, abs=0.1)
    assert facts.first_place == pytest.approx(1.0, abs=0.3)


def test_a_small_study_of_a_real_collection(study, shared, tmp_path, monkeypatch):
    out = tmp_path / "study.md"
    arguments = f"grouping.py study --shared {shared} --save_path {out} --judge ideal --seeds 1"
    more = "--queries 4 --collections trec-dl19 --budgets 5 6"
    monkeypatch.setattr(sys, "argv", f"{arguments} {more}".split())
    study["study"].main()
    text = out.read_text(encoding="utf-8")
    assert "| 6 |" in text
    assert "1 x final of 20" in text
    assert "The first stage: 0." in text
    assert out.with_suffix(".svg").is_file()


def test_made_up_lists_are_as_long_and_as_well_sorted_as_they_should_be(study):
    judges = study["judges"]
    quality = []
    for strength in (0.0, 1.0, 4.0):
        made = judges.made_collection(60, strength, 30)
        assert {len(doc_ids) for doc_ids in made.doc_ids.values()} == {60}
        assert {len(grades) for grades in made.qrels.values()} == {500}
        assert all(set(made.doc_ids[each]) < set(made.qrels[each]) for each in made.queries)
        longer = judges.made_collection(500, strength, 30)
        assert longer.qrels == made.qrels
        assert all(longer.doc_ids[each][:60] == made.doc_ids[each] for each in made.queries)
        quality.append(
            statistics.fmean(
                made.qrels[each][doc_id]
                for each in made.queries
                for doc_id in made.doc_ids[each][:10]
            )
        )
    assert quality == sorted(quality)
    assert quality[-1] > 3 * quality[0]
    shortest = judges.made_collection(5, 1.0, 3)
    assert {len(doc_ids) for doc_ids in shortest.doc_ids.values()} == {5}
