"""Training sets made of candidates and teachers, and what goes wrong on the way."""

import json
import math

import pytest
from support.synthesis_desk import QUERIES, Grader, candidate_line, rows_of, worth

from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.errors import FailureRateError, FileError, InputError, SettingsError
from llmrankers_groupwise.prompting.prompt_file import bundled_prompts, load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.testing import json_reply
from llmrankers_groupwise.training.data.inspection import inspect_training_set
from llmrankers_groupwise.training.data.list_settings import ListSettings
from llmrankers_groupwise.training.data.load import load_rows
from llmrankers_groupwise.training.data.pools import PoolSettings
from llmrankers_groupwise.training.data.prompt_limits import PromptLimits
from llmrankers_groupwise.training.data.reasons import pair_agreement, reason_in
from llmrankers_groupwise.training.data.teachers import Teacher, Teaching
from llmrankers_groupwise.training.rewards.rewards import grouprank_v3, ndcg_reward, rank_r1
from llmrankers_groupwise.types import Reply

REASONS, BARE, MUTE = ListSettings(reasons="teacher"), Grader(), Grader()
MUTE.scorings = ("likelihood",)
FILES = [
    "dataset.json", "labels.jsonl", "pool.trec", "prompt.toml", "rl.jsonl",
    "sentence-transformers.jsonl", "sft.jsonl", "tevatron.jsonl",
]  # fmt: skip


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- What is made -----------------------------------------------------------------------------


def test_each_pool_is_judged_by_one_call_a_document_and_one_for_all(synthesize):
    engine = Grader()
    made, folder = synthesize(grader=engine)
    sizes = [len(request.passages) for request in engine.requests]
    assert sizes == [1] * 50 * QUERIES + [50] * QUERIES
    assert sorted(contents(folder)) == FILES
    assert made.manifest["counts"]["labelled_documents"] == 50 * QUERIES
    assert {name: len(run) for name, run in RunFile(folder / "pool.trec").items()} == dict.fromkeys(
        ["q0", "q1", "q2"], 50
    )


def test_gold_scores_follow_from_both_teachers_ranks(synthesize):
    _, folder = synthesize()
    for labels in rows_of(folder / "labels.jsonl"):
        assert len(labels["doc_ids"]) == 50
        wanted = [10 - 10 * math.log(rank) / math.log(50) for rank in range(1, 51)]
        assert labels["gold"] == pytest.approx(wanted, abs=0.2)  # some passages are worth the same
        assert labels["gold"] == sorted(labels["gold"], reverse=True)


def test_rows_fit_the_rewards_and_prompts_are_those_of_inference(synthesize):
    _, folder = synthesize(lists=ListSettings(prompt_file="groupwise"))
    sft, rl = load_rows(folder, "sft"), load_rows(folder, "rl")
    assert (len(sft.rows), len(rl.rows)) == (4 * QUERIES, 2 * QUERIES)
    completions = [row["completion"] for row in sft.rows]
    columns = {name: [row[name] for row in sft.rows] for name in ("gold", "relevant")}
    rewards = grouprank_v3(completions, **columns)
    assert min(rewards) > 1.2  # the gold itself would have 1.3, scores are rounded
    for row in rl.rows:
        texts = [line.split("] ", 1)[1] for line in row["prompt"][1]["content"].splitlines()
                 if line.startswith("[")]  # fmt: skip
        number = row["query_id"][1:]
        asked = render(f"what is worth most of topic {number}?", texts, load_prompt("groupwise"))
        assert row["prompt"] == list(asked.messages)
        best = sorted(range(len(texts)), key=lambda place: -worth(texts[place]))
        gold = [row["gold"][place] for place in best]
        assert gold == sorted(gold, reverse=True)
    assert (folder / "prompt.toml").read_bytes() == bundled_prompts()["groupwise"].read_bytes()


def test_without_reasons_the_answer_stands_alone_as_its_prompt_asks(synthesize):
    _, folder = synthesize()
    for row in rows_of(folder / "sft.jsonl"):
        scores = json.loads(row["completion"][0]["content"])
        assert list(scores.values()) == [round(score) for score in row["gold"]]
        assert list(scores) == [f"[{label}]" for label in range(1, len(scores) + 1)]
        assert ndcg_reward([row["completion"]], gold=[row["gold"]])[0] > 0.98


def test_one_query_more_changes_no_other(synthesize):
    lines = [candidate_line(number) for number in (2, 0, 1)]
    _, few = synthesize(*lines[1:], name="few")
    _, all_ = synthesize(*lines, name="all")
    for name in ("sft.jsonl", "rl.jsonl", "labels.jsonl"):
        of_two = [row for row in rows_of(all_ / name) if row["query_id"] != "q2"]
        assert of_two == rows_of(few / name)


def test_sizes_can_be_chosen(synthesize):
    _, folder = synthesize(lists=ListSettings(group_sizes=(3, 4), sft_lists=20))
    assert {len(row["gold"]) for row in rows_of(folder / "sft.jsonl")} == {3, 4}


def test_rows_for_retrievers_have_negatives_that_are_no_positives(synthesize):
    _, folder = synthesize(lists=ListSettings(positives=2, negatives=3))
    rows = rows_of(folder / "sentence-transformers.jsonl")
    assert len(rows) == 2 * QUERIES
    for row in rows:
        assert list(row) == ["query", "positive", "negative_1", "negative_2", "negative_3", "score"]
        assert max(row["score"][1:]) <= row["score"][0] / 2
    for row in rows_of(folder / "tevatron.jsonl"):
        assert [len(row[f"{name}_passages"]) for name in ("positive", "negative")] == [2, 3]
        assert list(row["positive_passages"][0]) == ["docid", "title", "text", "score"]


def test_setwise_rows_have_the_best_of_the_pool_among_twenty(synthesize):
    _, folder = synthesize(lists=ListSettings(method="setwise"))
    for kind in ("sft", "rl"):
        rows = load_rows(folder, kind)
        assert rows.method == "setwise"
        labels = {row["query_id"]: row["doc_ids"][0] for row in rows_of(folder / "labels.jsonl")}
        for row in rows.rows:
            assert len(row["doc_ids"]) == 20
            at = row["doc_ids"].index(labels[row["query_id"]])
            assert row["ground_truth"] == f"[{at + 1}]"
    sft = load_rows(folder, "sft").rows
    truth = [row["ground_truth"] for row in sft]
    assert rank_r1([row["completion"] for row in sft], ground_truth=truth) == [1.0] * len(sft)


def test_rows_that_teach_to_leave_out_the_reasoning_are_warned_of(synthesize, caplog):
    warning = "the prompt setwise_think asks for reasoning, and the SFT rows have none"
    synthesize(lists=ListSettings(method="setwise", sft_lists=0))
    synthesize(name="plain")
    assert warning not in caplog.text
    synthesize(name="empty", lists=ListSettings(method="setwise"))
    assert warning in caplog.text


def test_setwise_rows_from_judgements_ask_nobody(synthesize):
    engine = Grader()
    qrels = {"q0": {"d0-3": 1, "d0-7": 2, "d0-9": 2, "d0-11": 0}, "q1": {"d1-3": 0}}
    made, folder = synthesize(grader=engine, lists=ListSettings(method="setwise"), qrels=qrels)
    assert engine.requests == []
    rows = load_rows(folder, "rl").rows
    assert {row["query_id"] for row in rows} == {"q0"}
    for row in rows:
        right = row["doc_ids"][int(row["ground_truth"][1:-1]) - 1]
        assert right in ("d0-7", "d0-9")
        assert {"d0-3", "d0-7", "d0-9"} & set(row["doc_ids"]) == {right}
    assert made.manifest["counts"]["queries_without_relevant"] == 2


# --- Reasons ----------------------------------------------------------------------------------


def test_a_teachers_reason_stands_before_the_gold_scores(synthesize):
    made, folder = synthesize(lists=ListSettings(reasons="teacher"))
    rows = rows_of(folder / "sft.jsonl")
    assert made.manifest["counts"]["reasons_kept"] == len(rows) == 4 * QUERIES
    for row in rows:
        said = row["completion"][0]["content"]
        assert said.startswith("<reason>scripted</reason>\n<answer>\n```json\n{")
    columns = {name: [row[name] for row in rows] for name in ("gold", "relevant")}
    assert min(grouprank_v3([row["completion"] for row in rows], **columns)) > 1.2


def test_a_teacher_who_disagrees_gives_no_reason(synthesize):
    class Contrary(Grader):
        def judge(self, request):
            if len(request.passages) in (1, 50):
                return super().judge(request)
            return json_reply([10 - round(worth(passage) / 6) for passage in request.passages])

    with pytest.raises(InputError, match="not a row") as raised:
        synthesize(
            grader=Contrary(), lists=ListSettings(reasons="teacher", rl_lists=0, positives=0)
        )
    assert "'reasons_disagreed': 12" in str(raised.value)


def test_a_rationalised_reason_is_written_for_scores_that_are_shown(synthesize):
    engine = Grader()
    _, folder = synthesize(grader=engine, lists=ListSettings(reasons="rationalised"))
    asked = [each for each in engine.requests if each.wants == "choice"]
    rows = rows_of(folder / "sft.jsonl")
    assert len(asked) == len(rows) == 4 * QUERIES
    shown = [[round(score) for score in row["gold"]] for row in rows]
    for request in asked:
        marks = [int(passage.split("(score ")[1].split(")")[0]) for passage in request.passages]
        assert marks in shown
    assert all("[1] says more than [2]." in row["completion"][0]["content"] for row in rows)
    assert all("(score" not in row["prompt"][1]["content"] for row in rows)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("<reason>The given scores say so.</reason>", "told"),
        ("<reason>By its mark [2] is best.</reason>", "told"),
        ("no tags at all", "failed"),
        ("<reason>so <answer>[1]</answer></reason>", "failed"),
        ("<reason> </reason>", "failed"),
    ],
)
def test_reasons_that_tell_or_have_tags_are_left_out_and_counted(synthesize, text, counted, caplog):
    class Other(Grader):
        def judge(self, request):
            return text if request.wants == "choice" else super().judge(request)

    made, folder = synthesize(
        grader=Other(),
        lists=ListSettings(reasons="rationalised"),
        teaching=Teaching(max_failure_rate=1.0),
    )
    assert made.manifest["counts"][f"reasons_{counted}"] == 4 * QUERIES
    assert not (folder / "sft.jsonl").exists()
    assert "sft.jsonl would have no rows" in caplog.text
    assert [each.kind for each in inspect_training_set(folder)] == ["rl"]
    with pytest.raises(FileError, match=r"sft.jsonl: is missing, so there are no sft rows"):
        load_rows(folder, "sft")
    assert len(rows_of(folder / "rl.jsonl")) == 2 * QUERIES


def test_a_teacher_without_reasons_is_named_with_what_was_missing(synthesize):
    class Terse(Grader):
        def judge(self, request):
            return "[1]" if request.wants == "choice" else super().judge(request)

    problem = r"the reasons teacher: .*unreadable reply \(it lacks reasoning in tags, or the answer"
    with pytest.raises(FailureRateError, match=problem):
        synthesize(grader=Terse(), lists=ListSettings(reasons="rationalised"))


def test_reasons_are_read_out_of_their_tags():
    assert reason_in("<think>a</think><reason> b </reason><answer>{}</answer>") == "b"
    assert reason_in("<think>a\nb</think> [1]") == "a\nb"
    assert reason_in("<reason>a</reason> no: <reason>b</reason>") == "b"
    assert reason_in("<reason>a") is None


def test_agreement_is_the_share_of_pairs_in_the_same_order():
    assert pair_agreement([3, 2, 1], [9, 5, 0]) == 1.0
    assert pair_agreement([1, 2, 3], [9, 5, 0]) == 0.0
    assert pair_agreement([1, 1, 1], [9, 5, 0]) == 0.5
    assert pair_agreement([3, 2, 2], [9, 5, 5]) == 1.0
    assert pair_agreement([9, 1, 5], [9, 5, 0]) == pytest.approx(2 / 3)
    assert pair_agreement([9, 1], [5, 5]) == 1.0


def test_lists_whose_scores_are_equal_as_written_are_no_rows_for_sft(synthesize):
    lists = ListSettings(group_sizes=(2,), sft_lists=40, rl_lists=40)
    made, folder = synthesize(lists=lists)
    for row in rows_of(folder / "sft.jsonl"):
        assert len({round(score) for score in row["gold"]}) == 2
    rl = rows_of(folder / "rl.jsonl")
    assert any(len({round(score) for score in row["gold"]}) == 1 for row in rl)
    assert all(len(set(row["gold"])) == 2 for row in rl)
    assert made.manifest["counts"]["lists_all_equal"] > 0


# --- Failures ---------------------------------------------------------------------------------


def test_what_failed_is_left_out_and_counted(synthesize):
    def fails(request):
        if request.wants == "order":
            return "topic 1 " in request.passages[0]
        return len(request.passages) == 1 and "passage 3 of topic 0" in request.passages[0]

    how = Teaching(max_failure_rate=0.5)
    made, folder = synthesize(grader=Grader(fails=fails), teaching=how)
    counts = made.manifest["counts"]
    assert counts["documents_unjudged"] == 1
    assert counts["queries_without_order"] == 1
    labels = rows_of(folder / "labels.jsonl")
    assert {row["query_id"]: len(row["doc_ids"]) for row in labels} == {"q0": 49, "q2": 50}
    assert "d0-3" not in labels[0]["doc_ids"]
    summary = made.manifest["teachers"]["pointwise"]["summary"]
    assert summary["statuses"]["failed"] == 1


def test_documents_without_a_place_share_what_is_left(synthesize):
    class First(Grader):
        def judge(self, request):
            reply = super().judge(request)
            return " > ".join(reply.split(" > ")[:10]) if request.wants == "order" else reply

    made, folder = synthesize(grader=First(), lists=ListSettings(beta=0.0))
    assert made.manifest["counts"]["listwise_unjudged"] == 40 * QUERIES
    for row in rows_of(folder / "labels.jsonl"):
        wanted = [*range(1, 11), *[30.5] * 40]
        share = [1 - math.log(rank) / math.log(30.5) for rank in wanted]
        assert row["gold"] == pytest.approx([10 * each for each in share])


def test_a_teacher_that_mostly_fails_ends_it_and_leaves_no_folder(synthesize, tmp_path):
    with pytest.raises(FailureRateError, match=r"the pointwise teacher: .*out of order"):
        synthesize(grader=Grader(fails=lambda request: len(request.passages) == 1))
    assert not (tmp_path / "set").exists()


def test_a_teacher_that_ties_everything_makes_ties_that_are_counted(synthesize):
    class Even(Grader):
        def judge(self, request):
            if request.wants == "order":
                return super().judge(request)
            return (
                json_reply([5] * len(request.passages))
                if not request.form
                else Reply(slot_probabilities=((0.0,) * 5 + (1.0,) + (0.0,) * 5,))
            )

    made, _ = synthesize(grader=Even())
    assert made.manifest["counts"]["pointwise_tied"] == 50 * QUERIES
    with pytest.raises(InputError, match="'pools_all_equal': 3"):
        synthesize(grader=Even(), name="none", lists=ListSettings(beta=1.0))


def test_duplicates_small_pools_and_missing_texts_are_counted(synthesize):
    twice = candidate_line(0)
    for place in (5, 6, 7):
        twice["candidates"][place]["doc"] = twice["candidates"][0]["doc"]
    small, empty = candidate_line(1, documents=4), candidate_line(2)
    empty["candidates"][2]["doc"]["contents"] = ""
    with pytest.raises(InputError, match="document d2-2 of query q2 has no text"):
        synthesize(twice, small, empty)
    made, folder = synthesize(twice, small, empty, allow_missing=True)
    counts = made.manifest["counts"]
    assert counts["duplicate_documents"] == 3
    assert counts["documents_without_text"] == 1
    assert counts["pools_too_small"] == 1
    kept = {row["query_id"]: row["doc_ids"] for row in rows_of(folder / "labels.jsonl")}
    assert "d0-0" in kept["q0"]
    assert not {"d0-5", "d0-6", "d0-7"} & set(kept["q0"])


def test_documents_that_are_equal_as_cut_are_one(synthesize):
    alike = candidate_line(0)
    for place in (5, 6):
        beginning = alike["candidates"][place]["doc"]["contents"]
        alike["candidates"][place + 10]["doc"]["contents"] = f"{beginning} and more"
        alike["candidates"][place + 20]["doc"]["contents"] = beginning.replace(" ", "  ")
    made, folder = synthesize(
        alike, limits=PromptLimits(passage_length=8), pools=PoolSettings(top=50, sampled=0)
    )
    assert made.manifest["counts"]["duplicate_documents"] == 4
    (labels,) = rows_of(folder / "labels.jsonl")
    assert len(labels["doc_ids"]) == 46


def test_prompts_over_the_limit_are_left_out_and_counted(synthesize):
    made, folder = synthesize(limits=PromptLimits(max_prompt_characters=1300))
    rows = rows_of(folder / "sft.jsonl") + rows_of(folder / "rl.jsonl")
    assert made.manifest["counts"]["rows_too_long"] == 6 * QUERIES - len(rows) > 0
    assert {len(row["gold"]) <= 14 for row in rows} == {True}


def test_prompts_are_cut_and_measured_by_the_students_tokenizer(synthesize, tiny_model):
    limits = PromptLimits(student_tokenizer=str(tiny_model), passage_length=20)
    _, folder = synthesize(limits=limits)
    for row in rows_of(folder / "sft.jsonl"):
        lines = [line for line in row["prompt"][1]["content"].splitlines() if line[:1] == "["]
        assert {len(line.split("] ", 1)[1]) for line in lines} == {20}  # a token is a byte
    few = PromptLimits(student_tokenizer=str(tiny_model), max_prompt_tokens=1500)
    made, _ = synthesize(limits=few, name="few")
    assert made.manifest["counts"]["rows_too_long"] > 0


# --- Going on ---------------------------------------------------------------------------------


def test_a_killed_one_goes_on_and_asks_nothing_twice(synthesize, tmp_path):
    class Killed(Grader):
        def judge(self, request):
            if len(self.requests) > 70:
                raise RuntimeError("the end")
            return super().judge(request)

    with pytest.raises(RuntimeError, match="the end"):
        synthesize(grader=Killed(), journals=True)
    assert not (tmp_path / "set").exists()
    engine = Grader()
    made, folder = synthesize(grader=engine, journals=True)
    asked = made.manifest["teachers"]["pointwise"]["summary"]["usage"]
    assert asked["reused"] > 0
    assert len(engine.requests) == 51 * QUERIES - asked["reused"]
    _, whole = synthesize(name="whole")
    ours, theirs = contents(folder), contents(whole)
    del ours["dataset.json"], theirs["dataset.json"]  # which says what was reused
    assert ours == theirs


def test_another_teacher_is_asked_anew_and_replies_never_mix(synthesize):
    class Contrary(Grader):
        def describe(self):
            return {"engine": "contrary"}

        def judge(self, request):
            reply = super().judge(request)
            return " > ".join(reversed(reply.split(" > "))) if request.wants == "order" else reply

    _, alone = synthesize(grader=Contrary(), name="alone")
    synthesize(journals=True)
    engine = Contrary()
    _, second = synthesize(grader=engine, journals=True, name="second")
    assert len(engine.requests) == 51 * QUERIES
    assert contents(second)["labels.jsonl"] == contents(alone)["labels.jsonl"]


def test_reasons_are_not_asked_for_twice(synthesize):
    synthesize(journals=True, lists=REASONS)
    engine = Grader()
    made, _ = synthesize(grader=engine, journals=True, name="again", lists=REASONS)
    assert engine.requests == []
    assert made.manifest["counts"]["reasons_kept"] == 4 * QUERIES


def test_other_lists_from_the_same_judgements_ask_nobody(synthesize):
    synthesize(journals=True)
    engine = Grader()
    lists = ListSettings(seed=0, sft_lists=9, beta=0.2)
    synthesize(grader=engine, journals=True, name="other", lists=lists)
    assert engine.requests == []


# --- Refused ----------------------------------------------------------------------------------


def test_a_folder_that_is_there_is_kept_unless_it_is_to_be_replaced(synthesize, tmp_path):
    engine = Grader()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").touch()
    for force in (False, True):
        with pytest.raises(FileError, match=r"exists|left alone"):
            synthesize(grader=engine, force=force)
    assert engine.requests == []
    synthesize(name="other")
    synthesize(name="other", force=True)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"method": "listwise"}, "method is 'listwise'"),
        ({"reasons": "some"}, "reasons is 'some'"),
        ({"sft_lists": -1}, "sft_lists is -1"),
        ({"sft_lists": 0, "rl_lists": 0, "positives": 0}, "nothing is to be made"),
        ({"negatives": 0}, "rows for retrievers have negatives"),
        ({"group_sizes": (1,)}, "a list has 2 documents at least"),
        ({"beta": 2.0}, "beta is 2.0"),
        ({"min_agreement": 2.0}, "min_agreement is 2.0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, problem):
    with pytest.raises(SettingsError, match=problem):
        ListSettings(**wrong)


def test_limits_out_of_range_are_refused():
    with pytest.raises(SettingsError, match="passage_length is 0"):
        PromptLimits(passage_length=0)
    with pytest.raises(SettingsError, match="max_prompt_tokens needs the tokenizer"):
        PromptLimits(max_prompt_tokens=100)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"lists": ListSettings(group_sizes=(60,))}, "pools have 50 documents at most"),
        ({"pools": PoolSettings(top=2, sampled=2)}, "pools have 4 documents at most"),
        ({"qrels": {"q0": {"d0-1": 1}}}, "qrels make setwise lists only"),
        ({"lists": ListSettings(prompt_file="setwise_think")}, "is none of groupwise lists"),
        ({"lists": ListSettings(method="setwise", prompt_file="groupwise")}, "is none of setwise"),
        (
            {"lists": REASONS, "reasoner": Teacher(engine=BARE, prompt_file="groupwise_scores")},
            "the prompt groupwise_scores asks for no reasoning",
        ),
        ({"lists": REASONS, "reasoner": Teacher(engine=MUTE)}, "scripted generates no text"),
    ],
)
def test_settings_that_contradict_are_refused_before_anybody_is_asked(
    synthesize, settings, problem
):
    engine = Grader()
    with pytest.raises(SettingsError, match=problem):
        synthesize(grader=engine, **settings)
    assert engine.requests == []
