"""Data inside an HTML file: as JSON that no text in it can break, and packed.

Nothing here is markup made of data. The page's script reads these blocks and shows their texts as
texts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator

from llmrankers_groupwise.files.text_files import well_formed

__all__ = ["PART", "TextParts", "json_block", "packed_block"]

PART = 1 << 17
"""Characters of text that are packed, and in the browser unpacked, together."""

_ESCAPED = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}


def json_block(name: str, value: object) -> str:
    """A script element of data with this id; `<`, `>`, `&` and line separators are escaped."""
    return (
        f'<script type="application/json" id="{name}">{_json(value).translate(_ESCAPED)}</script>\n'
    )


def packed_block(name: str, value: object) -> str:
    """The same as zlib's JSON in base64, for data that is looked at seldom."""
    packed = base64.b64encode(zlib.compress(_json(value).encode(), 9)).decode("ascii")
    return f'<script type="text/plain" id="{name}">{packed}</script>\n'


def _json(value: object) -> str:
    return well_formed(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


class TextParts:
    """Texts in packed blocks of about PART characters, each text once; holds one block of them.

    Blocks are called texts-0, texts-1, ...
    """

    def __init__(self) -> None:
        self._positions: dict[bytes, tuple[int, int]] = {}
        self._part: list[str] = []
        self._size = 0
        self._parts = 0

    def position(self, text: str) -> tuple[int, int]:
        """The number of the block that the text is in, or will be, and its place there."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key not in self._positions:
            self._positions[key] = self._parts, len(self._part)
            self._part.append(text)
            self._size += len(text)
        return self._positions[key]

    def full(self) -> Iterator[str]:
        """The block that is full, if it is."""
        if self._size >= PART:
            yield from self.rest()

    def rest(self) -> Iterator[str]:
        """The block with what is left, if anything is."""
        if self._part:
            yield packed_block(f"texts-{self._parts}", self._part)
            self._parts += 1
            self._part, self._size = [], 0
