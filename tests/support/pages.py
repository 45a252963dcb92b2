"""The code blocks of README and of the pages in docs/, as tests run them.

A page is a sequence of blocks. They are run in their order, in one folder that has examples/ in it:

- ```bash: commands. Their output is compared with the ```text block that follows directly, if any.
- ```python: a program, likewise.
- ```yaml, ```toml and ```json with a title="NAME" are saved as that file.
- <!-- needs a GPU -->, <!-- needs a download --> or <!-- needs a server --> before a block: it is
  not run. Its commands of run-groupwise are parsed, and a program is compiled.
- <!-- not run --> before a block of bash: commands of other programs, as pip's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]

_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>needs [\w ]+|not run) -->\n+)?"
    r"^(?P<indent> *)```(?P<kind>\w+)(?P<title>[^\n]*)\n(?P<code>.*?)^ *```$"
    r"(?:\n+ *```text\n(?P<output>.*?)^ *```$)?",
    re.DOTALL | re.MULTILINE,
)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        kind: its language.
        code: its lines.
        output: what is printed there as its output; None where there is none.
        mark: what it needs, or "not run"; None where it is run.
        title: the file that it is saved as.
    """

    kind: str
    code: str
    output: str | None
    mark: str | None
    title: str | None

    def commands(self) -> list[list[str]]:
        """The words of its commands; lines that a backslash ends go on."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        indent = match["indent"]
        title = _TITLE.search(match["title"])
        yield Block(
            match["kind"],
            _dedented(match["code"], indent) or "",
            _dedented(match["output"], indent),
            match["mark"],
            title[1] if title else None,
        )


def prose(page: Path) -> str:
    """A page without its code, tables and markup."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"^ {4}.*$|^\|.*$|^!\[.*$|^#.*$|<!--.*?-->|^:::.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"`[^`]*`", "code", text)


def sentences(text: str) -> list[str]:
    """The sentences of a text; a point of a list, and what ends in a colon, is one, too."""
    parts = re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.)\s", text, flags=re.MULTILINE)
    found = []
    for part in parts:
        found += re.split(r"(?<=[.!?:;])\s+(?=[A-Z`*\"(]|code)", " ".join(part.split()))
    return [each for each in found if re.search(r"\w+\W+\w+", each)]


def words(text: str) -> int:
    """The number of words of a text."""
    return len(re.findall(r"[\w'’/-]*\w", text))


def _dedented(text: str | None, indent: str) -> str | None:
    if text is None:
        return None
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))
