"""Test collections that are known by name: where their topics, judgements and passages are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from llmrankers_groupwise.errors import SettingsError

__all__ = ["KNOWN_SETS", "KnownSet", "find_known_set"]


@dataclass(frozen=True)
class KnownSet:
    """Names of one collection's parts, as pyserini 1.6 and ir_datasets 0.6 have them.

    Attributes:
        topics: pyserini's topics; of BRIGHT those of its original records, which also hold line
            ends and the excluded ids.
        qrels: pyserini's judgements.
        index: pyserini's prebuilt index.
        ir_dataset: the dataset of ir_datasets.
        bright: whether it is one of BRIGHT, so that queries have excluded ids.
    """

    topics: str
    qrels: str
    index: str
    ir_dataset: str
    bright: bool = False


_BRIGHT = (
    "biology", "earth_science", "economics", "psychology", "robotics", "stackoverflow",
    "sustainable_living", "leetcode", "pony", "aops", "theoremqa_questions", "theoremqa_theorems",
)  # fmt: skip


def _bright(name: str) -> KnownSet:
    name = name.replace("_", "-")
    here = f"bright-{name}"
    return KnownSet(f"{here}-original", here, here, f"bright/{name}", bright=True)


_MS_MARCO = "msmarco-v1-passage"

KNOWN_SETS: dict[str, KnownSet] = {
    "dl19": KnownSet(
        "dl19-passage", "dl19-passage", _MS_MARCO, "msmarco-passage/trec-dl-2019/judged"
    ),
    "dl20": KnownSet("dl20", "dl20-passage", _MS_MARCO, "msmarco-passage/trec-dl-2020/judged"),
    **{f"bright-{name}": _bright(name) for name in _BRIGHT},
}


def find_known_set(name: str) -> KnownSet:
    """The collection of this name; BRIGHT's may have hyphens instead of underscores.

    Raises:
        SettingsError: there is none; names those there are.
    """
    start, hyphen, rest = name.partition("-")
    known = f"{start}{hyphen}{rest.replace('-', '_')}"
    if known in KNOWN_SETS:
        return KNOWN_SETS[known]
    close = difflib.get_close_matches(known, KNOWN_SETS, n=1)
    raise SettingsError(
        f"there is no collection {name!r} here"
        + (f"; did you mean {close[0]}?" if close else ".")
        + f" Known are {', '.join(KNOWN_SETS)}; any other is prepared as files"
    )
