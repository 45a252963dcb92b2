"""The lock files hold what setup.py asks for, and say what to do where they cannot be met."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / ".ci/locks"
EXTRAS = {
    "demo": ("openvino", "report"),
    "test": ("all", "dev"),
    "vllm": ("transformers", "openai", "dev"),
    "lowest": ("all", "dev"),
}


def locked(name: str) -> dict[str, str]:
    """Versions by package, of a lock and of what is installed beside it."""
    versions = {}
    for path in (LOCKS / f"{name}.txt", LOCKS / f"{name}.no-deps.txt"):
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            if requirement := line.partition("#")[0].strip():
                package, version = requirement.split("==")
                versions[canonicalize_name(package)] = version
    return versions


def required(extras: tuple[str, ...]) -> list[Requirement]:
    """What setup.py asks for with these extras, and with those that they name."""
    every = [Requirement(line) for line in requires("llmrankers-groupwise") or ()]
    wanted, todo = {"", *extras}, [*extras]
    while todo:
        extra = todo.pop()
        for each in every:
            own = canonicalize_name(each.name) == "llmrankers-groupwise"
            if own and each.marker and each.marker.evaluate({"extra": extra}):
                todo += each.extras - wanted
                wanted |= each.extras
    return [
        each
        for each in every
        if canonicalize_name(each.name) != "llmrankers-groupwise"
        and (not each.marker or any(each.marker.evaluate({"extra": extra}) for extra in wanted))
    ]


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_has_exact_versions_and_nothing_of_the_machine_that_made_it(name: str) -> None:
    lines = (LOCKS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    requirements = [line for line in lines if not line.startswith("#")]
    assert len(requirements) > 30
    for line in requirements:
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[0-9][0-9a-z.]*(  # via .*)?", line), line
        assert "://" not in line
        assert " /" not in line
        assert not line.startswith(("nvidia-", "cuda-", "triton"))


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_meets_what_setup_asks_for(name: str) -> None:
    versions = locked(name)
    asked = required(EXTRAS[name])
    assert len(asked) > 5
    for requirement in asked:
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


def test_the_lowest_versions_are_those_that_setup_names() -> None:
    versions = locked("lowest")
    bounds = {
        canonicalize_name(requirement.name): bound.version
        for requirement in required(EXTRAS["lowest"])
        for bound in requirement.specifier
        if bound.operator in (">=", "==")
    }
    assert len(bounds) > 20
    for package, bound in bounds.items():
        specifier = Requirement(f"{package}~={bound}.0").specifier
        assert specifier.contains(versions[package]), f"{package}>={bound}, {versions[package]}"


def test_every_bound_says_where_it_begins() -> None:
    for requirement in required(("all", "dev", "vllm")):
        operators = {each.operator for each in requirement.specifier}
        assert operators & {">=", "=="}, f"{requirement} has no lower bound"


def test_a_lock_that_cannot_be_met_names_the_package_and_the_way_on(tmp_path: Path) -> None:
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / ".ci/locks/short.txt").write_text("tqdm\nno-such-package==1.2.3  # via x\n")
    ended = subprocess.run(
        [tmp_path / ".ci/install", sys.prefix, "short"],
        env=os.environ | {"PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "short.txt cannot be met here: no-such-package==1.2.3." in ended.stderr
    assert "give make UNLOCKED=1" in ended.stderr
