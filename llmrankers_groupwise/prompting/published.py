"""The prompts that public checkpoints were trained with: where they are published, and pulling one.

Their texts are no part of this package. Each source is pinned to a commit and to its file's hash,
so that a prompt of one name has the same text everywhere and always.
"""

from __future__ import annotations

import difflib
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llmrankers_groupwise.errors import DownloadError, FileError, PromptError, SettingsError
from llmrankers_groupwise.files.atomic import check_writable, write_atomically
from llmrankers_groupwise.prompting.conversion import from_grouprank, from_rank_llm, from_toml
from llmrankers_groupwise.prompting.prompt_file import bundled_prompts, load_prompt, prompt_folder

__all__ = ["SOURCES", "Source", "find_source", "pull"]

_TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True, slots=True)
class Source:
    """A published prompt.

    `method` is how the checkpoint ranks, `convert` makes TOML of the file, and `changes` tells
    the TOML's readers what it changes, as the licence asks.
    """

    name: str
    method: str
    checkpoint: str
    repository: str
    commit: str
    path: str
    sha256: str
    licence: str
    convert: Callable[[bytes], str]
    changes: str
    site: str = "https://raw.githubusercontent.com"

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{self.site}/{self.repository}/{self.commit}/{self.path}"


def _llm_rankers(name: str, method: str, checkpoint: str, file: str, sha256: str) -> Source:
    return Source(
        name=name,
        method=method,
        checkpoint=checkpoint,
        repository="ielab/llm-rankers",
        commit="b36517bf17a3956dc56c4c967f972d02390b1cdd",
        path=f"Rank-R1/prompts/{file}",
        sha256=sha256,
        licence="Apache-2.0",
        convert=from_toml,
        changes="these comments",
    )


_ALL = (
    Source(
        name="grouprank",
        method="groupwise",
        checkpoint="AQ-MedAI/Diver-GroupRank-{7B,32B}",
        repository="AQ-MedAI/Diver",
        commit="95b111b0adad85bf388e628b9073552055f6f408",
        path="Reranker/rerank_groupwise.py",
        sha256="c9fcbc3d68fce972d00e93131d2748fe0d5207941a662e2b12007acb27ea1dfb",
        licence="Apache-2.0",
        convert=from_grouprank,
        changes="two constants of Python code made a TOML file, their placeholders renamed",
    ),
    _llm_rankers(
        "rank-r1",
        "setwise",
        "ielabgroup/Rank-R1-{3B,7B,14B}-v0.1",
        "prompt_setwise-R1.toml",
        "532f5dcc1b05b59a96c9c80042fe97491f2c1a72e06db6965af5be8fdbf9977c",
    ),
    _llm_rankers(
        "rank-r1-v0.2",
        "setwise",
        "ielabgroup/Rank-R1-32B-v0.2",
        "prompt_setwise-R1-v0.2.toml",
        "c232b9b15aaa4584bb07cb2693c3b80f9b7c1c041c794e06042c30aeb028c5ec",
    ),
    _llm_rankers(
        "rankzephyr",
        "listwise",
        "castorini/rank_zephyr_7b_v1_full",
        "prompt_listwise_rankzephyr.toml",
        "9d8f4b2226ee10515c337675a2c7d4542b907db3623448a2f8fd533cd8825a12",
    ),
    Source(
        name="reasonrank",
        method="listwise",
        checkpoint="liuwenhan/reasonrank-{7B,32B}",
        repository="castorini/rank_llm",
        commit="1b3cabbc3564441bdcda6c6a2e92137b9faa0660",
        path="src/rank_llm/rerank/prompt_templates/reasonrank_template.yaml",
        sha256="8bc37fdd7d89a3ee4bdfb310bcfc21978c97a0d8ed8bef3c29b7c69791fa6e87",
        licence="Apache-2.0",
        convert=from_rank_llm,
        changes="a YAML template made a TOML file, its parts joined and placeholders renamed",
    ),
    _llm_rankers(
        "setwise",
        "setwise",
        "ielabgroup/Setwise-SFT-{3B,7B,14B}-v0.1",
        "prompt_setwise.toml",
        "61bcb5c60c08d4d5ecc242b6fc45c922ba07998e033dfc8c533ab3a9501a50e0",
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}


def find_source(name: str) -> Source:
    """The source of a prompt that can be pulled.

    Raises:
        SettingsError: there is no such name; gives the names, and the one that was perhaps meant.
    """
    if name in SOURCES:
        return SOURCES[name]
    if name in bundled_prompts():
        raise SettingsError(f"the prompt {name} comes with this package: --prompt_file {name}")
    close = difflib.get_close_matches(name, SOURCES, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise SettingsError(f"no published prompt {name!r}{hint} (there are {', '.join(SOURCES)})")


def pull(
    source: Source,
    *,
    from_file: str | Path | None = None,
    save_path: str | Path | None = None,
    force: bool = False,
) -> Path:
    """Fetch a published prompt and save it as one of our prompt files.

    Args:
        source: which one.
        from_file: the published file, where it was downloaded by hand; else it is downloaded.
        save_path: where to save; by default in `prompt_folder()`, where `load_prompt` finds it.
        force: whether to replace another file of that name.

    Returns:
        The path of the prompt file.

    Raises:
        DownloadError: the file cannot be downloaded, or is not the one that was pinned.
        FileError: `from_file` cannot be read or is not the one that was pinned, or the path cannot
            be written or has another file.
        PromptError: the file does not convert.
        MissingDependencyError: a package for reading the file is not installed.
    """
    path = Path(save_path) if save_path is not None else _default_path(source)
    check_writable(path)
    content = _downloaded(source) if from_file is None else _checked_file(source, Path(from_file))
    try:
        text = _header(source) + source.convert(content)
        if path.exists() and path.read_bytes() == text.encode():
            return path
        if path.exists() and not force:
            raise FileError(
                "is there already, with another content; --force replaces it, --save_path "
                "saves elsewhere",
                path,
            )
        _write(path, text)
    except PromptError as error:
        raise PromptError(f"{source.url}: makes no prompt file: {error}") from error
    return path


def _default_path(source: Source) -> Path:
    folder = prompt_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"the folder cannot be made ({error.strerror}): use --save_path, or set XDG_DATA_HOME",
            folder,
        ) from error
    return folder / f"{source.name}.toml"


def _downloaded(source: Source) -> bytes:
    """The file as published, its hash checked."""
    try:
        with urllib.request.urlopen(source.url, timeout=_TIMEOUT) as response:
            content: bytes = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if type(error) is urllib.error.URLError else error
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise DownloadError(
            f"cannot download {source.url} ({reason}). {_by_hand(source)}"
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != source.sha256:
        raise DownloadError(
            f"{source.url} gave another file than it should: its SHA-256 is {sha256}, not "
            f"{source.sha256}; nothing was saved. {_by_hand(source)}"
        )
    return content


def _by_hand(source: Source) -> str:
    return (
        f"By hand: download {source.url} on a machine with a network, copy the file here, and run: "
        f"run-groupwise prompts pull {source.name} --from {source.path.rsplit('/', 1)[-1]}"
    )


def _checked_file(source: Source, path: Path) -> bytes:
    """A file that was downloaded by hand, its hash checked."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}; check the path", path) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != source.sha256:
        raise FileError(
            f"is not the file of {source.url}: its SHA-256 is {sha256}, not {source.sha256}; "
            f"download it again, as it is (no page around it, no line ends changed)",
            path,
        )
    return content


def _header(source: Source) -> str:
    return (
        f"# The prompt of {source.checkpoint} ({source.method}).\n"
        f"# source: {source.url}\n"
        f"# commit: {source.commit}\n"
        f"# sha256 of the source: {source.sha256}\n"
        f"# licence: {source.licence}\n"
        f"# changes: {source.changes}\n\n"
    )


def _write(path: Path, text: str) -> None:
    """Write a prompt file, which replaces the one at `path` only if it loads."""
    with write_atomically(path) as file:
        file.write(text)
        file.flush()
        try:
            load_prompt(file.name)
        except PromptError as error:
            raise PromptError(str(error).removeprefix(f"{file.name}: ")) from error
