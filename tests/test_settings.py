"""Settings that dataclasses declare, and that a new one is declared once."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml

import llmrankers_groupwise
from llmrankers_groupwise.errors import SettingsError
from llmrankers_groupwise.settings import (
    INTERNAL,
    Arguments,
    Form,
    JsonObject,
    Positive,
    check_choices,
    settings_of,
    values_of,
    word,
)

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Base:
    """What others have, too.

    Attributes:
        size: how many
            there are.
        mode: which of them.
    """

    size: Positive = 3
    mode: Literal["one", "two"] = "one"


@dataclass(frozen=True)
class Example(Base):
    """Settings of every kind.

    Attributes:
        size: another meaning.
        path: where it is.
        flag, other: true or false.
        maybe: true, false or left open.
        several: whole numbers.
        given: names with values.
        more: the same, as JSON.
        name: one word.

    Raises:
        SettingsError: never.
    """

    path: str | Path | None = None
    flag: bool = False
    other: bool = True
    maybe: bool | None = None
    several: Sequence[int] = ()
    given: Arguments = field(default_factory=dict)
    more: JsonObject = field(default_factory=dict)
    name: Annotated[str, Form("WORD", word)] = "a"
    hidden: Annotated[int, INTERNAL] = 0
    record: Base = field(default_factory=Base)


def test_a_field_is_a_setting_with_its_line_of_the_docstring() -> None:
    found = {each.name: each for each in settings_of(Example)}
    assert list(found) == ["size", "mode", "path", "flag", "other", "maybe", "several", "given",
                           "more", "name"]  # fmt: skip
    assert found["size"].meaning == "another meaning."
    assert found["mode"].meaning == "which of them."
    assert settings_of(Base)[0].meaning == "how many there are."
    assert found["flag"].meaning == found["other"].meaning == "true or false."
    assert found["mode"].choices == ("one", "two")
    assert {name for name, each in found.items() if each.optional} == {"path", "maybe"}
    assert {name for name, each in found.items() if each.form is None} == {"flag", "other"}
    assert {name for name, each in found.items() if each.many} == {"several"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("size", "4", 4),
        ("path", "a/b", Path("a/b")),
        ("maybe", "yes", True),
        ("maybe", "auto", None),
        ("several", "7", 7),
        ("given", "a=[1, 2]", ("a", [1, 2])),
        ("given", "a=b=c", ("a", "b=c")),
        ("given", "a=True", ("a", True)),
        ("more", '{"a": 1}', {"a": 1}),
        ("name", "b", "b"),
    ],
)
def test_a_text_is_read(name: str, text: str, value: object) -> None:
    (form,) = (each.form for each in settings_of(Example) if each.name == name)
    assert form is not None
    assert form.read(text) == value


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("size", "0", "0 is less than 1"),
        ("size", "x", "'x' is not a whole number"),
        ("maybe", "x", "'x' is not one of auto, yes, no"),
        ("given", "a", "'a' is not KEY=VALUE"),
        ("more", "[1]", "'[1]' is not a JSON object"),
        ("more", "{", "'{' is not JSON"),
        ("name", "a b", "'a b' is not one word"),
    ],
)
def test_a_text_that_is_no_value_is_refused(name: str, text: str, problem: str) -> None:
    (form,) = (each.form for each in settings_of(Example) if each.name == name)
    assert form is not None
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        form.read(text)
    assert problem in str(caught.value)


def test_a_setting_without_a_meaning_is_an_error() -> None:
    @dataclass
    class Silent:
        size: int = 1

    with pytest.raises(TypeError, match=r"Silent\.size has no line in the docstring"):
        settings_of(Silent)


def test_values_are_those_of_settings_alone() -> None:
    assert values_of(Example(size=9), Base) == {"size": 9, "mode": "one"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"mode": "three"}, "mode is 'three': give one of one, two"),
        ({"flag": "no"}, "flag is 'no': give True or False"),
    ],
)
def test_choices_are_checked(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        check_choices(Example(**given))
    check_choices(Example(maybe=None))


# --- One place ------------------------------------------------------------------------------------

FIELD = "    group_size: int = 20\n"
LINE = "        group_size: the number of documents in one call.\n"
PROGRAM = """
import inspect, json, sys
from llmrankers_groupwise import GroupwiseLlmRanker
from llmrankers_groupwise.cli.reference import reference
from llmrankers_groupwise.testing import ScriptedEngine
ranker = GroupwiseLlmRanker(engine=ScriptedEngine([]), novelty="high")
print(json.dumps({
    "signature": "novelty" in inspect.signature(GroupwiseLlmRanker).parameters,
    "settings": ranker.settings.novelty,
    "described": ranker.describe()["settings"]["novelty"],
    "reference": [line for line in reference().splitlines() if "--novelty" in line],
}))
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one option more, which is declared in one place."""
    folder = tmp_path_factory.mktemp("changed")
    package = folder / "llmrankers_groupwise"
    shutil.copytree(Path(llmrankers_groupwise.__file__).parent, package)
    if not (package / "prompt_files").exists():
        shutil.copytree(ROOT / "prompts", package / "prompt_files")
    module = package / "methods" / "groupwise" / "method.py"
    text = module.read_text(encoding="utf-8")
    assert text.count(FIELD) == text.count(LINE) == 1
    text = text.replace(LINE, LINE + "        novelty: how new a document must be.\n")
    text = text.replace(FIELD, FIELD + '    novelty: Literal["low", "high"] = "low"\n')
    text = text.replace("from typing import ", "from typing import Literal, ")
    module.write_text(text, encoding="utf-8")
    return folder


def in_it(changed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=changed,
        env={**os.environ, "PYTHONPATH": str(changed), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_new_field_is_an_argument_a_setting_and_a_line_of_the_reference(changed: Path) -> None:
    ran = in_it(changed, "-c", PROGRAM)
    assert ran.returncode == 0, ran.stderr
    assert yaml.safe_load(ran.stdout) == {
        "signature": True,
        "settings": "high",
        "described": "high",
        "reference": ["| `--novelty` low\\|high | `low` | how new a document must be |"],
    }


def test_a_new_field_is_an_option_a_key_of_configurations_and_in_the_manifest(
    changed: Path,
) -> None:
    command = ("-m", "llmrankers_groupwise.cli", "run")
    shown = in_it(changed, *command, "groupwise", "--help")
    assert "--novelty {low,high}" in shown.stdout
    assert "how new a document must be (default: low)" in shown.stdout
    (changed / "c.yaml").write_text("save_path: out.trec\ngroupwise: {novelty: high}\n")
    printed = in_it(changed, *command, "--config", "c.yaml", "--print_config")
    assert yaml.safe_load(printed.stdout)["groupwise"]["novelty"] == "high", printed.stderr
    (changed / "c.yaml").write_text("save_path: out.trec\ngroupwise: {novelty: none}\n")
    refused = in_it(changed, *command, "--config", "c.yaml")
    assert refused.returncode == 2
    assert "c.yaml: groupwise.novelty: invalid choice: 'none'" in refused.stderr
    demo = ROOT / "examples" / "demo"
    ran = in_it(
        changed, *command, "--run_path", str(demo / "bm25.trec"), "--query_file",
        str(demo / "queries.tsv"), "--corpus", str(demo / "corpus.jsonl"), "--hits", "3",
        "--save_path", "out.trec", "groupwise", "--novelty", "high",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    manifest = yaml.safe_load((changed / "out.trec.manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["novelty"] == "high"
    assert manifest["config"]["groupwise"]["novelty"] == "high"
