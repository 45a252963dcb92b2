"""The pictures of the documentation are those that docs/images/draw.py draws."""

import runpy
import xml.etree.ElementTree as ElementTree

from support.pages import ROOT

FOLDER = ROOT / "docs" / "images"


def test_the_pictures_are_those_that_the_script_draws() -> None:
    drawn = runpy.run_path(str(FOLDER / "draw.py"))["pictures"]()
    assert drawn == {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.svg")}
    for name, content in drawn.items():
        assert ElementTree.fromstring(content).tag.endswith("svg"), name
