"""Options from configuration files: which value wins, what is refused, and a run again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.desk import GOOD_ORDER, Desk, LongestFirst, orders

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.cli.parser import parse_arguments
from llmrankers_groupwise.cli.reference import reference


def config(desk: Desk, **values: Any) -> str:
    """A configuration of the good inputs, with these values besides."""
    given = {
        "run_path": str(desk.path("run.trec")),
        "query_file": str(desk.path("queries.tsv")),
        "corpus": str(desk.path("corpus.jsonl")),
        "save_path": str(desk.out),
        "engine": "LongestFirst",
    } | values
    return str(desk.write("c.yaml", yaml.safe_dump(given, allow_unicode=True)))


def resolved(desk: Desk, *words: str, method: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """What --print_config prints."""
    assert desk.command(*words, "--print_config", method=method) == 0, desk.stderr
    read: Mapping[str, Any] = yaml.safe_load(desk.stdout)
    return read


def test_a_file_gives_everything_the_method_too(desk: Desk) -> None:
    path = config(desk, groupwise={"group_size": 2}, hits=3, json=True)
    assert desk.command("--config", path, method=()) == 0, desk.stderr
    assert orders(desk.out)["q2"] == GOOD_ORDER["q2"]
    assert json.loads(desk.stdout)["groups"] == 3  # of q1 two, of q2 one
    (engine,) = LongestFirst.made
    assert max(len(each.passages) for each in engine.requests) == 2


def test_toml_says_the_same(desk: Desk) -> None:
    inputs = {"run_path": "run.trec", "query_file": "queries.tsv", "corpus": "corpus.jsonl"}
    lines = [f"{name} = {json.dumps(str(desk.path(file)))}" for name, file in inputs.items()]
    lines += [f"save_path = {json.dumps(str(desk.out))}", 'engine = "LongestFirst"']
    lines += ["[engine_args]", "a = 1", "[listwise]", "window_size = 2", "step_size = 1"]
    path = desk.write("c.toml", "\n".join(lines))
    assert desk.command("--config", path, method=()) == 0, desk.stderr
    manifest = json.loads(desk.out.with_name("out.trec.manifest.json").read_text())
    assert manifest["method"] == "listwise"
    assert manifest["settings"]["window_size"] == 2
    assert LongestFirst.made[0].settings.engine_args == {"a": 1}


def test_the_command_line_wins_then_the_last_file_then_the_preset(desk: Desk) -> None:
    one = config(desk, hits=3, tag="one", preset="quality", groupwise={"num_repeat": 2})
    two = desk.write("two.yaml", "hits: 4\n")
    found = resolved(desk, "--config", one, "--config", str(two), "--tag", "mine")
    assert (found["hits"], found["tag"], found["scoring"]) == (4, "mine", "likelihood")
    assert (found["groupwise"]["num_repeat"], found["groupwise"]["final_calls"]) == (2, 5)
    found = resolved(desk, "--config", one, method=("groupwise", "--num_repeat", "7"))
    assert found["groupwise"]["num_repeat"] == 7
    # The final round of a preset is no larger than the groups, whoever chose their size.
    one = config(desk, preset="quality", groupwise={"group_size": 5})
    assert resolved(desk, "--config", one)["groupwise"]["final_round"] == 5


def test_arguments_of_an_engine_are_merged_by_name(desk: Desk) -> None:
    path = config(desk, engine_args={"a": 1, "b": "x"})
    found = resolved(desk, "--config", path, "--engine_args", "b=2", method=("groupwise",))
    assert found["engine_args"] == {"a": 1, "b": 2}


def test_what_is_printed_gives_the_same_again(desk: Desk) -> None:
    words = ("--measures", "nDCG@5 RR@10", "--show", "q1", "--lora_path", "adapter",
             "--engine_args", "a={'b': [1]}", "--dataset_number_of_shards", "2")  # fmt: skip
    first = resolved(desk, "--save_path", "out", *words, method=("groupwise", "--anchors", "1"))
    path = desk.write("c.yaml", desk.stdout)
    assert resolved(desk, "--config", str(path)) == first
    assert first["measures"] == ["nDCG@5", "RR@10"]
    assert first["lora_path_or_name"] == "adapter"


@pytest.mark.parametrize("method", ["groupwise", "setwise", "listwise", "pointwise"])
def test_a_manifest_repeats_its_run(desk: Desk, method: str) -> None:
    assert desk.run(method=(method,)) == 0
    made = desk.out.read_bytes()
    manifest = desk.out.with_name("out.trec.manifest.json")
    again = desk.outputs / "again.trec"
    assert desk.command("--config", manifest, "--save_path", again, method=()) == 0, desk.stderr
    assert again.read_bytes() == made
    one, two = (json.loads(each.read_text()) for each in (
        manifest, again.with_name("again.trec.manifest.json"),
    ))  # fmt: skip
    assert one["settings"] == two["settings"]
    assert {**one["config"], "save_path": str(again)} == two["config"]


def test_a_secret_is_in_no_manifest_and_asked_for(desk: Desk) -> None:
    assert desk.run("--engine_args", "api_key=Geheimnis") == 0
    manifest = desk.out.with_name("out.trec.manifest.json")
    assert "Geheimnis" not in manifest.read_text()
    config = desk.write("m.json", manifest.read_bytes())
    for path in list(desk.outputs.iterdir()):
        path.unlink()
    LongestFirst.made.clear()
    desk.refuses(
        lambda: desk.command("--config", config, method=()),
        "m.json: engine_args: the value of api_key was left out as a secret: give it here",
    )


@pytest.mark.parametrize(
    ("values", "method", "problem"),
    [
        ({"hist": 3}, ["groupwise"], "c.yaml: hist: there is no such option; did you mean hits?"),
        ({"zzzzzz": 3}, ["groupwise"], "c.yaml: zzzzzz: there is no such option"),
        ({"hits": "many"}, ["groupwise"], "c.yaml: hits: 'many' is not a whole number"),
        ({"hits": 0}, ["groupwise"], "c.yaml: hits: 0 is less than 1"),
        ({"hits": 2.5}, ["groupwise"], "c.yaml: hits: '2.5' is not a whole number"),
        ({"hits": True}, ["groupwise"], "c.yaml: hits: True is true or false"),
        ({"hits": [1]}, ["groupwise"], "c.yaml: hits: [1] is not a single value"),
        ({"json": "yes"}, ["groupwise"], "c.yaml: json: 'yes' is not true or false"),
        ({"engine": "gpt"}, ["groupwise"], "c.yaml: engine: invalid choice: 'gpt'"),
        ({"engine_args": "a=1"}, ["groupwise"], "c.yaml: engine_args: 'a=1' is no section"),
        ({"preset": "fats"}, ["groupwise"], "c.yaml: preset: preset is 'fats'"),
        ({"group_size": 3}, ["groupwise"],
         "c.yaml: group_size: this is an option of groupwise: put it into a section groupwise"),
        ({"groupwise": {"window_size": 3}}, [],
         "c.yaml: groupwise.window_size: this is an option of listwise, not of groupwise"),
        ({"groupwise": {"hits": 3}}, [],
         "c.yaml: groupwise.hits: this is an option of the command, not of groupwise"),
        ({"groupwise": {"grop_size": 3}}, [],
         "c.yaml: groupwise.grop_size: there is no such option; did you mean group_size?"),
        ({"groupwise": {"ties": "coin"}}, [], "c.yaml: groupwise.ties: invalid choice: 'coin'"),
        ({"groupwise": {}, "listwise": {}}, [],
         "the configuration has sections of groupwise and listwise"),
        ({"listwise": {}}, ["groupwise"],
         "c.yaml: listwise: these are options of listwise, and the method is groupwise"),
        ({}, [], "the following arguments are required: METHOD"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(
    desk: Desk, values: dict[str, Any], method: list[str], problem: str
) -> None:
    path = config(desk, **values)
    desk.refuses(lambda: desk.command("--config", path, method=method), problem)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("c.yaml", "a: [", "c.yaml: this configuration cannot be read"),
        ("c.yaml", "hits: 1\nhits: 2\n", "hits is given twice"),
        ("c.yaml", "- a\n", "c.yaml: this is no configuration"),
        ("c.yaml", "just words", "c.yaml: this is no configuration"),
        ("c.yaml", b"\xff\xfe\x00", "c.yaml: this configuration cannot be read"),
        ("c.toml", "a = ", "c.toml: this configuration cannot be read"),
        (
            "c.json",
            '{"versions": {}, "counters": {}}',
            "c.json: this manifest has no configuration",
        ),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    desk: Desk, name: str, content: str | bytes, problem: str
) -> None:
    path = desk.write(name, content)
    desk.refuses(lambda: desk.command("--config", path), problem)
    path.unlink()
    desk.refuses(lambda: desk.command("--config", path), f"{name}: this configuration cannot be")


def test_an_empty_file_gives_nothing(desk: Desk) -> None:
    path = desk.write("c.yaml", "# nothing yet\n")
    assert desk.run("--config", path) == 0
    assert orders(desk.out) == GOOD_ORDER


def test_merge_takes_what_the_run_had_unless_a_file_or_an_option_says_otherwise(desk: Desk) -> None:
    assert desk.run(method=("groupwise", "--num_repeat", "2")) == 0
    journal = f"{desk.out}.journal.sqlite"
    path = desk.write(
        "m.yaml", yaml.safe_dump({"journal": [journal], "groupwise": {"fusion": "rrf"}})
    )
    arguments = parse_arguments(["merge", "--config", str(path), "--save_path", "x"])
    assert (arguments.ranked_by, arguments.fusion, arguments.num_repeat) == ("groupwise", "rrf", 2)


# --- Training -------------------------------------------------------------------------------------


def test_a_training_takes_a_file(desk: Desk) -> None:
    path = desk.write("c.yaml", yaml.safe_dump({
        "model_name_or_path": "m", "data": "set", "save_path": "out", "packing": False,
        "bf16": False, "lora_targets": ["q_proj", "v_proj"], "trl_args": {"use_cpu": True},
        "eval": {"hits": 7, "qrels": "q"},
    }))  # fmt: skip
    arguments = parse_arguments(["train", "sft", "--config", str(path), "--seed", "3"])
    assert arguments.packing is False
    assert arguments.bf16 is False
    assert arguments.lora_targets == ["q_proj", "v_proj"]
    assert arguments.trl_args == {"use_cpu": True}
    assert (arguments.eval_hits, arguments.eval_qrels, arguments.seed) == (7, "q", 3)
    path.write_text("reward: {ndcg: 0.5}\nmodel_name_or_path: m\ndata: s\nsave_path: o\n")
    arguments = parse_arguments(["train", "grpo", "--config", str(path)])
    assert (arguments.reward.name, arguments.reward.ndcg) == ("weighted", 0.5)
    path.write_text(yaml.safe_dump(arguments.resolved))
    again = parse_arguments(["train", "grpo", "--config", str(path)])
    assert again.reward == arguments.reward
    assert again.resolved == arguments.resolved


def test_secrets_of_a_training_are_masked_when_it_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["train", "sft", "--model_name_or_path", "m", "--data", "s", "--save_path", "o",
             "--trl_args", '{"hub_token": "Geheimnis", "use_cpu": true}']  # fmt: skip
    assert main([*words, "--print_config"]) == 0
    shown = capsys.readouterr().out
    assert "Geheimnis" not in shown
    assert yaml.safe_load(shown)["trl_args"] == {"hub_token": "***", "use_cpu": True}


TEACHERS = """
save_path: set
engine: embedded
temperature: 0.3
pointwise: {scoring: likelihood}
listwise:
  engine: openai
  model_name_or_path: m
  engine_args: {base_url: u}
  temperature: 0.7
"""


def test_teachers_are_sections(desk: Desk) -> None:
    from llmrankers_groupwise.cli.train.synthesize_options import teacher

    path = desk.write("c.yaml", TEACHERS)
    arguments = parse_arguments(["train", "synthesize", "--config", str(path), "--max_tokens", "9"])
    pointwise, listwise, reasons = (
        teacher(arguments, role) for role in ("pointwise", "listwise", "reasons")
    )
    assert (pointwise.engine, listwise.engine, reasons.engine) == ("embedded", "openai", "embedded")
    assert (pointwise.scoring, reasons.scoring) == ("likelihood", None)
    assert listwise.settings.model_name_or_path == "m"
    assert listwise.settings.engine_args == {"base_url": "u"}
    drawn = [each.sampling.temperature for each in (pointwise, listwise, reasons)]
    assert drawn == [0.3, 0.7, 0.3]
    assert {each.sampling.max_tokens for each in (pointwise, listwise, reasons)} == {9}
    assert arguments.resolved["listwise"]["engine_args"] == {"base_url": "u"}


def test_an_option_of_one_teacher_still_works_and_says_where_it_goes(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "synthesize", "--save_path", "set", "--listwise_model_name_or_path", "m",
             "--listwise_engine_args", "a=1"]  # fmt: skip
    arguments = parse_arguments(words)
    assert arguments.listwise_model_name_or_path == "m"
    assert arguments.listwise_engine_args == [("a", 1)]
    assert [each.getMessage() for each in caplog.records] == [
        f"--listwise_{name} is deprecated and goes with the next version: give {name} in the "
        "section listwise of a --config file"
        for name in ("model_name_or_path", "engine_args")
    ]
    with pytest.raises(SystemExit):
        parse_arguments(["train", "synthesize", "--help"])
    assert "listwise_" not in capsys.readouterr().out


def test_a_wrong_key_of_a_teacher_is_named(desk: Desk) -> None:
    path = desk.write("c.yaml", "save_path: set\nlistwise: {model_nam_or_path: m}\n")
    with pytest.raises(ValueError, match=r"c.yaml: listwise.model_nam_or_path: there is no such"
                       r" option; did you mean listwise.model_name_or_path\?"):  # fmt: skip
        parse_arguments(["train", "synthesize", "--config", str(path)])


# --- The page of options --------------------------------------------------------------------------


def test_the_page_of_options_is_what_the_code_has() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "options.md"
    assert page.read_text(encoding="utf-8") == reference(), "run `make reference`"
