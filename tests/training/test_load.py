"""Training rows read back, and rows that cannot be trained on."""

import json
import shutil

import pytest

from llmrankers_groupwise.errors import FileError
from llmrankers_groupwise.training.data.load import file_sha256, load_rows

PROMPT = [{"role": "user", "content": "which?"}]
SAID = [{"role": "assistant", "content": "this"}]
GROUPWISE = {"prompt": PROMPT, "completion": SAID, "gold": [10.0, 0.5], "relevant": [True, False]}
SETWISE = {"prompt": PROMPT, "completion": SAID, "ground_truth": "[2]"}


@pytest.fixture
def rows(tmp_path):
    """Writes rows, or lines of text, and gives their path."""

    def write(*given, name="rows.jsonl"):
        lines = [each if isinstance(each, str) else json.dumps(each) for each in given]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def folder(tmp_path, rows):
    """A training set as train synthesize leaves it."""
    files = {}
    for name in ("sft.jsonl", "rl.jsonl"):
        path = rows(GROUPWISE, GROUPWISE, name=name)
        files[name] = {"rows": 2, "sha256": file_sha256(path)}
    (tmp_path / "prompt.toml").write_text('prompt_user = "{query} {docs}"\n')
    prompt = {"sha256": file_sha256(tmp_path / "prompt.toml")}
    described = {"format": 1, "method": "groupwise", "files": files, "prompt": prompt}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    return tmp_path


@pytest.mark.parametrize("kind", ["sft", "rl"])
def test_a_folder_gives_its_rows_with_method_prompt_and_hash(folder, kind):
    found = load_rows(folder, kind)
    assert (found.rows, found.method, found.kind) == ([GROUPWISE, GROUPWISE], "groupwise", kind)
    assert found.path == folder / f"{kind}.jsonl"
    assert found.sha256 == file_sha256(found.path)
    assert found.prompt_file == folder / "prompt.toml"


@pytest.mark.parametrize(("row", "method"), [(GROUPWISE, "groupwise"), (SETWISE, "setwise")])
def test_a_file_is_known_by_its_columns(rows, row, method):
    found = load_rows(rows(row), "sft")
    assert (found.method, found.prompt_file) == (method, None)


def without(row, *names):
    return {name: value for name, value in row.items() if name not in names}


@pytest.mark.parametrize(
    ("row", "kind", "problem"),
    [
        ('{"prompt": ', "sft", "not JSON"),
        ("[1]", "sft", "not a JSON object"),
        (without(GROUPWISE, "prompt"), "rl", '"prompt" is no list of messages'),
        (GROUPWISE | {"prompt": "text"}, "rl", '"prompt" is no list of messages'),
        (GROUPWISE | {"prompt": [{"role": "king", "content": ""}]}, "rl", '"prompt" is no list'),
        (without(GROUPWISE, "completion"), "sft", '"completion" is no list of messages'),
        (without(GROUPWISE, "gold"), "rl", 'either "gold" .* or "ground_truth" .* has neither'),
        (GROUPWISE | {"ground_truth": "[1]"}, "rl", "has groupwise and setwise"),
        (GROUPWISE | {"gold": [11, 0]}, "rl", '"gold" is no list of numbers 0..10'),
        (GROUPWISE | {"gold": []}, "rl", '"gold" is no list'),
        (GROUPWISE | {"gold": [True, 1]}, "rl", '"gold" is no list'),
        (GROUPWISE | {"gold": "10"}, "sft", '"gold" is no list'),
        (GROUPWISE | {"relevant": [True]}, "rl", '"relevant" is no list'),
        (without(GROUPWISE, "relevant"), "rl", '"relevant" is no list'),
        (SETWISE | {"ground_truth": "2"}, "rl", '"ground_truth" is no label'),
        (SETWISE | {"ground_truth": "[2)"}, "rl", '"ground_truth" is no label'),
        (SETWISE | {"ground_truth": "[0]"}, "rl", '"ground_truth" is no label'),
        (SETWISE, "rl", "this row is of setwise and those before of groupwise"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_refused_with_file_and_line(rows, row, kind, problem):
    path = rows(GROUPWISE, row)
    with pytest.raises(FileError, match=problem) as raised:
        load_rows(path, kind)
    assert str(raised.value).startswith(f"{path}:2:")


def test_nothing_there_is_refused(tmp_path, rows):
    with pytest.raises(FileError, match="does not exist"):
        load_rows(tmp_path / "none", "sft")
    with pytest.raises(FileError, match=r"has no dataset.json"):
        load_rows(tmp_path, "sft")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(FileError, match="empty"):
        load_rows(tmp_path / "empty.jsonl", "sft")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}'])
def test_a_damaged_manifest_is_refused(folder, text):
    (folder / "dataset.json").write_text(text)
    with pytest.raises(FileError, match=r"dataset.json: .*make the training set again"):
        load_rows(folder, "sft")


def test_a_folder_without_the_wanted_rows_is_refused(folder):
    (folder / "rl.jsonl").unlink()
    with pytest.raises(FileError, match=r"rl.jsonl: is missing"):
        load_rows(folder, "rl")


def test_rows_that_were_changed_are_taken_as_a_file_only(folder, rows):
    path = rows(GROUPWISE, name="sft.jsonl")
    with pytest.raises(FileError, match="another sha256"):
        load_rows(folder, "sft")
    assert load_rows(path, "sft").rows == [GROUPWISE]


@pytest.mark.parametrize("change", ["other", "gone"])
def test_rows_whose_prompt_is_not_theirs_any_more_are_refused(folder, change):
    prompt = folder / "prompt.toml"
    prompt.unlink() if change == "gone" else prompt.write_text('prompt_user = "{docs} {query}"')
    with pytest.raises(FileError, match=r"prompt.toml: is not what dataset.json tells of"):
        load_rows(folder, "rl")


def test_rows_of_another_method_than_the_manifest_says_are_refused(folder, rows):
    shutil.copy(rows(SETWISE), folder / "sft.jsonl")
    with pytest.raises(FileError, match=r"has rows of setwise, and dataset.json has groupwise"):
        load_rows(folder, "sft")
