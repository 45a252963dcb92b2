"""The wheel holds what the package needs."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from llmrankers_groupwise import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy of what is packaged, so that no build folder is left in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("llmrankers_groupwise", "prompts"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".toml", ".typed", ".html", ".css", ".js"}:
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out]
    built = subprocess.run(
        [*command, "--no-build-isolation", source], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_every_module_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    modules = {
        str(path.relative_to(ROOT)) for path in (ROOT / "llmrankers_groupwise").rglob("*.py")
    }
    assert modules <= set(wheel.namelist())
    assert "llmrankers_groupwise/py.typed" in wheel.namelist()


def test_the_prompt_files_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    for path in (ROOT / "prompts").glob("*.toml"):
        assert wheel.read(f"llmrankers_groupwise/prompt_files/{path.name}") == path.read_bytes()


def test_the_parts_of_the_report_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    parts = list((ROOT / "llmrankers_groupwise/report/web").iterdir())
    assert {path.suffix for path in parts} == {".html", ".css", ".js"}
    for path in parts:
        assert wheel.read(str(path.relative_to(ROOT))) == path.read_bytes()


def test_the_command_and_the_extras_are_declared(wheel: zipfile.ZipFile) -> None:
    info = {name.rsplit("/", 1)[-1]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert (
        "run-groupwise = llmrankers_groupwise.cli:command"
        in wheel.read(info["entry_points.txt"]).decode()
    )
    metadata = wheel.read(info["METADATA"]).decode()
    for extra in ("openvino", "embedded", "pyserini", "ir_datasets", "report", "all"):
        assert f"Provides-Extra: {extra.replace('_', '-')}" in metadata.replace("_", "-")
    assert "Requires-Dist: llm-rankers==0.0.2" in metadata
    assert "Project-URL: Documentation" in metadata
    assert f"Version: {__version__}\n" in metadata


def test_the_links_of_the_description_work_outside_the_repository(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    links = re.findall(r"\]\(([^)\s]+)\)", wheel.read(name).decode())
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
