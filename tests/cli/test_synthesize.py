"""train synthesize and train inspect as commands, from files to a training set and its plot."""

import json
import signal
import warnings
from pathlib import Path

import pytest
from support.synthesis_desk import Grader, rows_of

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.data.passages import JsonlPassages
from llmrankers_groupwise.data.run_files import RunEntry
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.errors import InputError
from llmrankers_groupwise.pipeline.retrieval import bm25s_run, dense_run, fused_run
from llmrankers_groupwise.training.data.inspection import inspect_training_set
from llmrankers_groupwise.training.data.list_settings import ListSettings

SMALL = ("--pool_top", "5", "--pool_sampled", "15", "--group_sizes", "5", "10")


@pytest.fixture
def command(tmp_path, grader, capsys):
    """Runs `train ARGUMENTS` and gives exit code, output and errors."""

    def run(*arguments):
        try:
            code = main(["train", *map(str, arguments)])
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def corpus(tmp_path):
    """A corpus and queries: 40 passages on two topics."""
    corpus, queries = tmp_path / "corpus.jsonl", tmp_path / "queries.tsv"
    topics = ("fleas jump high", "rivers run deep")
    lines = [
        json.dumps({"_id": f"d{n}", "text": f"{topics[n % 2]} number{n} is worth {n}"})
        for n in range(40)
    ]
    corpus.write_text("\n".join(lines) + "\n")
    queries.write_text("q1\thow high do fleas jump\nq2\thow deep do rivers run\n")
    return corpus, queries


@pytest.fixture(scope="module")
def dense_model(tmp_path_factory, tiny_model):
    """A model of sentence-transformers, of random weights."""
    models = pytest.importorskip("sentence_transformers", reason="the extra [train] is missing")
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    words = Transformer(str(tiny_model), max_seq_length=64)
    folder = tmp_path_factory.mktemp("dense")
    model = models.SentenceTransformer(modules=[words, Pooling(64)], device="cpu")
    model.save_pretrained(str(folder))
    return folder


# --- train synthesize -------------------------------------------------------------------------


def test_a_training_set_is_made_and_counted(command, candidates, tmp_path, grader):
    out = tmp_path / "set"
    given = ("synthesize", "--candidates", candidates(), "--engine", "Grader", *SMALL)
    code, said, err = command(*given, "--save_path", out)
    assert (code, err) == (0, "")
    for line in ("3 queries", "12 rows for SFT", "60 calls of the pointwise teacher"):
        assert line in said
    assert said.endswith(f"saved {out}\n")
    assert sorted(path.name for path in (tmp_path / "set.teachers").iterdir()) == [
        "listwise.sqlite", "pointwise.sqlite",
    ]  # fmt: skip
    assert len({id(engine) for engine in grader}) == 1  # equal teachers share an engine
    code, said, _ = command(*given, "--save_path", out, "--force", "--json", "--beta", "0.3")
    manifest = json.loads(said)
    assert manifest == json.loads((out / "dataset.json").read_text())
    assert manifest["teachers"]["pointwise"]["summary"]["usage"]["reused"] == 60
    assert grader[-1].requests == []


def test_a_folder_with_a_slash_behind_its_name_has_its_journals_beside_it(
    command, candidates, tmp_path
):
    given = ("synthesize", "--candidates", candidates(), "--engine", "Grader", *SMALL)
    code, _, err = command(*given, "--save_path", f"{tmp_path}/set/")
    assert (code, err) == (0, "")
    assert (tmp_path / "set.teachers" / "pointwise.sqlite").is_file()
    code, _, err = command(*given, "--save_path", f"{tmp_path}/s", "--journals", f"{tmp_path}/s/j")
    assert code == 2
    assert "which is made at the end: keep them elsewhere" in err
    assert not (tmp_path / "s").exists()


def test_one_that_is_interrupted_says_what_is_kept(command, candidates, tmp_path, monkeypatch):
    class Impatient(Grader):
        def judge(self, request):
            if request.wants == "order":
                signal.raise_signal(signal.SIGINT)
            return super().judge(request)

    monkeypatch.setitem(ENGINES, "Impatient", f"{__name__}:Impatient")
    monkeypatch.setattr("test_synthesize.Impatient", Impatient, raising=False)
    # A shell starts what is in its background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    given = ("synthesize", "--candidates", candidates(), "--engine", "Impatient", *SMALL)
    try:
        code, said, err = command(*given, "--save_path", tmp_path / "set")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, said) == (130, "")
    assert err.splitlines()[-2].endswith("set.teachers: the same command goes on from there")
    assert err.splitlines()[-1] == "run-groupwise: interrupted"


def test_teachers_can_be_two(command, candidates, tmp_path, grader):
    code, _, _ = command(
        "synthesize", "--candidates", candidates(), "--listwise_engine", "Grader", *SMALL,
        "--no_journal", "--save_path", tmp_path / "set", "--pointwise_engine", "embedded",
    )  # fmt: skip
    assert code == 0
    assert {len(request.passages) for request in grader[0].requests} == {20}
    manifest = json.loads((tmp_path / "set" / "dataset.json").read_text())
    told = manifest["teachers"]
    engines = {name: each["ranker"]["engine"]["engine"] for name, each in told.items()}
    assert engines == {"pointwise": "embedded", "listwise": "scripted"}
    assert not (tmp_path / "set.teachers").exists()


def test_candidates_are_searched_by_bm25_and_a_dense_model(command, corpus, tmp_path, dense_model):
    pytest.importorskip("bm25s", reason="the extra [train] is missing")
    passages, queries = corpus
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        code, _, err = command(
            "synthesize", "--query_file", queries, "--corpus", passages, "--bm25", "bm25s",
            "--dense_model", dense_model, "--dense_device", "cpu", "--engine", "Grader", *SMALL,
            "--save_path", tmp_path / "set",
        )  # fmt: skip
    assert code == 0, err
    assert {len(row["doc_ids"]) for row in rows_of(tmp_path / "set" / "labels.jsonl")} == {20}


def test_bm25_finds_who_has_the_words_and_nobody_else(corpus, tmp_path):
    pytest.importorskip("bm25s", reason="the extra [train] is missing")
    found = bm25s_run({"q1": "fleas", "q2": "number3 rivers", "q3": "zebra"},
                      JsonlPassages(corpus[0]), 100)  # fmt: skip
    assert {entry.doc_id for entry in found["q1"]} == {f"d{n}" for n in range(0, 40, 2)}
    assert found["q2"][0].doc_id == "d3"
    assert found["q3"] == []
    (tmp_path / "wordless.jsonl").write_text('{"_id": "d1", "text": "the of"}\n')
    with pytest.raises(InputError, match="no document of the corpus has a word"):
        bm25s_run({"q1": "fleas"}, JsonlPassages(tmp_path / "wordless.jsonl"), 100)
    assert bm25s_run({"q": "the of"}, JsonlPassages(corpus[0]), 100) == {"q": []}


def test_a_dense_run_has_the_nearest_of_the_whole_corpus(corpus, dense_model, monkeypatch):
    from sentence_transformers import SentenceTransformer

    queries = {"q1": "how high do fleas jump", "q2": "rivers"}
    passages = JsonlPassages(corpus[0])
    monkeypatch.setattr("llmrankers_groupwise.pipeline.retrieval._CHUNK", 7)
    found = dense_run(queries, passages, str(dense_model), 5, "cpu")
    model = SentenceTransformer(str(dense_model), device="cpu")
    ids, texts = zip(*passages.documents(), strict=True)
    similar = model.similarity(model.encode(list(queries.values())), model.encode(list(texts)))
    for entries, row in zip(found.values(), similar.tolist(), strict=True):
        best = sorted(range(40), key=lambda place: -row[place])[:5]
        assert [entry.doc_id for entry in entries] == [ids[place] for place in best]


def test_two_sources_are_fused_by_their_scaled_scores():
    bm25 = {"q": [RunEntry("a", 30.0), RunEntry("b", 20.0), RunEntry("c", 10.0)]}
    dense = {"q": [RunEntry("c", 0.9), RunEntry("a", 0.5)], "p": [RunEntry("d", 0.2)]}
    fused = fused_run(bm25, dense, 0.25, 100)
    assert fused["q"] == [("c", 0.75), ("a", 0.25), ("b", 0.125)]
    assert [entry.doc_id for entry in fused["p"]] == ["d"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["--query_file", "q.tsv", "--corpus", "c.jsonl"], "there are no candidates"),
        (["--candidates", "c.jsonl", "--corpus", "c.jsonl"], "drop --corpus"),
        (["--bm25", "bm25s", "--bm25_run", "r.trec"], "the same source"),
        (["--bm25", "bm25s"], "search --corpus FILE"),
        (["--dense_model", "minilm"], "search --corpus FILE"),
        (["--bm25", "pyserini"], "--pyserini_index INDEX"),
        (["--candidates", "none.jsonl"], "none.jsonl: cannot be read"),
        (["--candidates", "none.jsonl", "--pool_top", "-1"], "a pool of the top -1"),
        (["--candidates", "none.jsonl", "--beta", "3"], "beta is 3.0"),
        (["--candidates", "none.jsonl", "--alpha", "2"], "alpha is 2.0"),
        (["--corpus", "c.jsonl", "--bm25", "bm25s", "--dense_batch_size", "0"], "batch_size is 0"),
        (["--candidates", "none.jsonl", "--no_journal", "--journals", "j"], "contradict"),
        (["--candidates", "none.jsonl", "--max_failure_rate", "2"], "max_failure_rate is 2.0"),
        (["--candidates", "none.jsonl", "--engine_args", "speed=9"], "speed"),
        (["--candidates", "none.jsonl", "--prompt_file", "none.toml"], "none.toml"),
        (["--candidates", "none.jsonl", "--reasons", "some"], "invalid choice: 'some'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(command, tmp_path, grader, given, problem):
    code, said, err = command("synthesize", *given, "--save_path", tmp_path / "set")
    assert (code, said) == (2, "")
    assert problem in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


# --- train inspect ----------------------------------------------------------------------------


def test_figures_of_both_kinds_are_shown_and_drawn(command, synthesize, tmp_path):
    _, folder = synthesize(lists=ListSettings(reasons="teacher", sft_lists=10))
    for name, start in (("plot.svg", b"<?xml"), ("plot.png", b"\x89PNG"), ("plot.pdf", b"%PDF")):
        code, said, err = command("inspect", folder, "--plot", tmp_path / name)
        assert (code, err) == (0, "")
        assert (tmp_path / name).read_bytes().startswith(start)
    assert "sft: 30 groupwise lists of 3 queries" in said
    assert "rl: 6 groupwise lists of 3 queries" in said
    assert "completions with reasoning: 100.0%" in said
    before = (tmp_path / "plot.svg").read_bytes()
    command("inspect", folder, "--plot", tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_bytes() == before


def test_figures_are_counted(command, synthesize, tiny_model):
    _, folder = synthesize(lists=ListSettings(group_sizes=(4,)))
    rows = rows_of(folder / "sft.jsonl")
    code, said, _ = command(
        "inspect", folder / "sft.jsonl", "--json", "--tokenizer_name_or_path", tiny_model,
        "--max_length", "1150",
    )  # fmt: skip
    assert code == 0
    (figures,) = json.loads(said)
    assert (figures["rows"], figures["queries"], figures["unit"]) == (12, 3, "tokens")
    assert (figures["sizes"], figures["relevant"]) == ({"4": 12}, {"2": 12})
    assert sum(figures["gold"].values()) == 48
    lengths = [len(row["completion"][0]["content"]) for row in rows]  # a token is a byte
    assert figures["completion"]["max"] == max(lengths)
    shortest = min(sum(len(message["content"]) for message in row["prompt"]) for row in rows)
    assert figures["prompt"]["min"] > shortest  # by the chat template's tokens
    prompts, completions = figures["prompt"], figures["completion"]
    assert (figures["too_long"] > 0) == (prompts["max"] + completions["max"] > 1150)


def test_setwise_figures_say_where_the_right_label_stands(synthesize):
    _, folder = synthesize(lists=ListSettings(method="setwise"))
    sft, rl = inspect_training_set(folder)
    assert sft.best_labels.total() == sft.rows == 12
    assert set(rl.sizes) == {20}
    assert (rl.published, rl.gold, rl.reasons) == ({}, {}, 0)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["none"], "none: does not exist"),
        (["."], "has no dataset.json"),
        (["damaged.jsonl"], "damaged.jsonl:1: not JSON"),
        (["rows.jsonl", "--plot", "plot.gif"], "end its name in .svg"),
        (["rows.jsonl", "--plot", "none/plot.svg"], "cannot be written"),
        (["rows.jsonl", "--max_length", "100"], "max_length counts tokens"),
    ],
)
def test_what_cannot_be_inspected_is_refused(command, tmp_path, monkeypatch, given, problem):
    monkeypatch.chdir(tmp_path)
    Path("damaged.jsonl").write_text("{\n")
    Path("rows.jsonl").write_text(
        json.dumps({"prompt": [{"role": "user", "content": "?"}], "ground_truth": "[1]"}) + "\n"
    )
    code, said, err = command("inspect", *given)
    assert (code, said) == (2, "")
    assert problem in err


# --- Rows for retrievers ----------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["MultipleNegativesRankingLoss", "MarginMSELoss"])
def test_sentence_transformers_trains_on_the_rows(synthesize, dense_model, tmp_path, loss):
    models = pytest.importorskip("sentence_transformers")
    datasets = pytest.importorskip("datasets")
    from sentence_transformers.sentence_transformer import losses

    _, folder = synthesize(lists=ListSettings(negatives=2))
    rows = datasets.Dataset.from_list(rows_of(folder / "sentence-transformers.jsonl"))
    model = models.SentenceTransformer(str(dense_model), device="cpu")
    arguments = models.SentenceTransformerTrainingArguments(
        str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=3, report_to="none",
        use_cpu=True, disable_tqdm=True, save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own and its libraries'
        trained = models.SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=rows, loss=getattr(losses, loss)(model)
        ).train()
    assert trained.global_step == 1
    assert trained.training_loss > 0
