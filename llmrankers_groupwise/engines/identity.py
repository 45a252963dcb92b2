"""Which model it is that answers: revisions of hub models, fingerprints of folders.

The journal files replies under this. It must change with the weights, so the path of a folder is
not enough, and must not change with what only shapes speed, or paid replies would be lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmrankers_groupwise.engines.base import EngineSettings

__all__ = ["fingerprint", "model_identity", "shaping"]

_BLOCKS, _BLOCK = 64, 4096
_HUB_TIMEOUT = 10.0  # seconds


def model_identity(settings: EngineSettings, revision: str | None = None) -> dict[str, object]:
    """Model, adapter and tokenizer, each by name and revision or by its folder's fingerprint.

    Args:
        settings: the names.
        revision: the model's branch, tag or commit on the Hugging Face Hub; None is its default.
    """
    return {
        "model": _identity(settings.model_name_or_path, settings.cache_dir, revision),
        "lora": _identity(settings.lora_name_or_path, settings.cache_dir),
        "tokenizer": _identity(settings.tokenizer_name_or_path, settings.cache_dir),
    }


def shaping(args: Mapping[str, Any], speed: Iterable[str]) -> dict[str, Any]:
    """Those of an engine's arguments that shape its replies: all but those named."""
    left_out = frozenset(speed)
    kept = {name: value for name, value in args.items() if name not in left_out}
    template = kept.get("chat_template")
    if isinstance(template, str) and os.path.isfile(template):  # it is what is in it
        kept["chat_template"] = hashlib.sha256(Path(template).read_bytes()).hexdigest()
    return kept


def fingerprint(path: Path) -> str:
    """A digest of a file or a folder's files: names, sizes, 64 blocks of 4 KiB spread over each.

    Files up to 256 KiB are read whole, and of weights enough that any training shows; reading all
    of a large model would take minutes. Hidden files are left out: they are of the tools that
    brought the folder here.
    """
    digest = hashlib.sha256()
    for each in sorted(_files(path)):
        size = each.stat().st_size
        digest.update(f"{each.name}\n{size}\n".encode("utf-8", "surrogateescape"))
        with each.open("rb") as file:
            step = max(_BLOCK, -(-size // _BLOCKS))
            for offset in range(0, size, step):
                file.seek(offset)
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    return [each for each in folder.iterdir() if each.is_file() and not each.name.startswith(".")]


def _identity(name: str | None, cache_dir: str | None, revision: str | None = None) -> str | None:
    if name is None:
        return None
    if Path(name).exists():
        return fingerprint(Path(name))
    return f"{name}@{_commit(name, cache_dir, revision or 'main')}"


def _commit(name: str, cache_dir: str | None, revision: str) -> str:
    """The commit that this revision is at: from the hub, or from its cache if that is offline."""
    with contextlib.suppress(Exception):  # no network, no such model: loading it will tell more
        from huggingface_hub import HfApi

        if commit := HfApi().model_info(name, revision=revision, timeout=_HUB_TIMEOUT).sha:
            return str(commit)
    with contextlib.suppress(Exception):
        from huggingface_hub.constants import HF_HUB_CACHE

        folder = Path(cache_dir or HF_HUB_CACHE, "models--" + name.replace("/", "--"))
        return (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    return revision
