"""Hooks of MkDocs: links that lead out of docs/ work on the site as they do in the repository.

Results of benchmarks become pages. Other files of the repository are shown as code.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
RESULTS = "benchmarks/results"
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the results of benchmarks."""
    for path in sorted((ROOT / RESULTS).iterdir()):
        if path.suffix in (".md", ".svg"):
            content = path.read_bytes()
            files.append(File.generated(config, f"results/{path.name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links out of docs/ into what they are on the site."""
    source = page.file.src_uri
    generated = source.startswith("results/")
    folder = RESULTS if generated else posixpath.dirname(f"docs/{source}")

    def replaced(match: re.Match[str]) -> str:
        target = match["target"]
        if "://" in target or target.startswith(("mailto:", "#")):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        if path.startswith("docs/"):
            inside = path.removeprefix("docs/")
        elif path.startswith(f"{RESULTS}/"):
            inside = f"results/{path.removeprefix(f'{RESULTS}/')}"
        else:
            return _outside(match["text"], path)
        here = posixpath.dirname(source)
        link = posixpath.relpath(inside, here or ".")
        return f"{match['image']}[{match['text']}]({link}{match['anchor'] or ''})"

    return LINK.sub(replaced, markdown)


def _outside(text: str, path: str) -> str:
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"a page links to {path}, which is not there")
    return f"{text} (`{path}`)" if path not in text else f"`{path}`"
