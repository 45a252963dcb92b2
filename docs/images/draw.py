"""Writes the pictures of the documentation, docs/images/*.svg: `python docs/images/draw.py`.

Text is white on filled boxes, or a bold mid grey, so that one file is readable on light and on dark
pages. The same code gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

BLUE, TEAL, PURPLE, ORANGE, PINK = GROUPS = ("#3b73c4", "#0f7f7a", "#8457c2", "#b85c14", "#b8437e")
GREY, PALE = "#778090", "#8d95a3"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
MONO = "font-family='ui-monospace, SFMono-Regular, Menlo, Consolas, monospace'"


class Picture:
    """An SVG to draw on."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._lines = [
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
            f"width='{width}' height='{height}' role='img' {FONT}>",
            f"<title>{escape(title)}</title>",
            "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
            f"markerHeight='7' orient='auto'><path d='M0 0 L8 4 L0 8 z' fill='{PALE}'/></marker>"
            "</defs>",
        ]

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """A filled box."""
        self._lines.append(
            f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='5' "
            f"fill='{colour}'/>"
        )

    def frame(self, x: float, y: float, width: float, height: float, colour: str = PALE) -> None:
        """A dashed line around something."""
        self._lines.append(
            f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='9' fill='none' "
            f"stroke='{colour}' stroke-width='1.5' stroke-dasharray='6 5'/>"
        )

    def arrow(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """An arrow, level at both ends."""
        middle = (x + to_x) / 2
        self._lines.append(
            f"<path d='M{x:g} {y:g} C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}' "
            f"fill='none' stroke='{PALE}' stroke-width='2' marker-end='url(#tip)'/>"
        )

    def text(
        self, x: float, y: float, text: str, *, size: int = 15, colour: str = GREY,
        anchor: str = "middle", mono: bool = False,
    ) -> None:  # fmt: skip
        """A line of bold text."""
        font = f" {MONO}" if mono else ""
        self._lines.append(
            f"<text x='{x:g}' y='{y:g}' font-size='{size}' font-weight='600' fill='{colour}' "
            f"text-anchor='{anchor}'{font} xml:space='preserve'>{escape(text)}</text>"
        )

    def label(
        self, x: float, y: float, width: float, height: float, colour: str, text: str,
        *, size: int = 15, mono: bool = False,
    ) -> None:  # fmt: skip
        """A filled box with white text in its middle."""
        self.box(x, y, width, height, colour)
        middle = y + height / 2 + size * 0.35
        self.text(x + width / 2, middle, text, size=size, colour="#ffffff", mono=mono)

    def svg(self) -> str:
        """The whole file."""
        return "\n".join([*self._lines, "</svg>", ""])


def groupwise() -> Picture:
    """Candidates, groups of 20, one call each, the merged ranking."""
    picture = Picture(940, 372, "Candidates, groups of 20, one call each in parallel, one ranking")
    dealt = [(3 * n + n // 5 * 2) % 5 for n in range(20)]
    for n, group in enumerate(dealt):
        picture.box(20, 52 + 14 * n, 120, 9, GROUPS[group])
    picture.text(80, 32, "first stage")
    picture.text(80, 356, "100 candidates")
    picture.frame(402, 44, 300, 292)
    for group, colour in enumerate(GROUPS):
        y = 58 + 56 * group
        picture.arrow(148, 191, 204, y + 20)
        picture.label(210, y, 146, 40, colour, f"group {group + 1}")
        picture.arrow(362, y + 20, 414, y + 20)
        picture.label(420, y, 112, 40, colour, "one call")
        scores = ("8.1 0.4 6.3…", "2.2 9.0 0.1…", "5.5 1.9 7.4…", "0.3 3.6 8.8…", "6.9 0.2 4.7…")
        picture.arrow(536, y + 20, 560, y + 20)
        picture.text(568, y + 25, scores[group], anchor="start", mono=True)
        picture.arrow(708, y + 20, 770, 191)
    picture.text(283, 32, "5 groups of 20")
    picture.text(552, 32, "the model scores 20 texts a call")
    picture.text(552, 356, "all calls at the same time")
    for n, group in enumerate([1, 3, 0, 2, 4, 0, 2, 4, 3, 1, 2, 0, 4, 3, 1, 0, 2, 3, 1, 4]):
        picture.box(778, 52 + 14 * n, 142 - 6.4 * n, 9, GROUPS[group])
    picture.text(848, 32, "merged ranking")
    picture.text(848, 356, "sorted by score")
    return picture


def form() -> Picture:
    """A form's slot: probabilities of 0 to 10, and their mean."""
    picture = Picture(940, 268, "A form with one slot for each passage; a score is the mean")
    for n, (label, colour) in enumerate(zip(("[1]", "[2]", "[3]"), GROUPS, strict=False)):
        y = 66 + 56 * n
        picture.label(20, y, 74, 40, colour, label, mono=True)
        picture.label(102, y, 74, 40, GREY, "slot", mono=True)
    picture.text(98, 36, "the form")
    picture.text(98, 254, "one slot a passage")
    picture.arrow(184, 86, 262, 128)
    shares = (0, 0, 0, 0, 0.02, 0.05, 0.08, 0.15, 0.4, 0.2, 0.1)
    _bars(picture, shares, 280, 200, 34, 300, BLUE)
    picture.text(467, 36, "probability of each score in the slot of [1]")
    picture.arrow(670, 128, 724, 128)
    mean = sum(score * share for score, share in enumerate(shares))
    picture.label(734, 100, 186, 56, BLUE, f"score {mean:.2f}", size=20)
    picture.text(827, 184, "the expected value")
    return picture


def _bars(
    picture: Picture, shares: Sequence[float], x: float, base: float, width: float, height: float,
    colour: str,
) -> None:  # fmt: skip
    for score, share in enumerate(shares):
        left, tall = x + width * score, max(3.0, height * share)
        picture.box(left, base - tall, width - 8, tall, colour)
        picture.text(left + width / 2 - 4, base + 20, str(score), size=14)
        if share:
            percent = f"{100 * share:.0f} %"
            picture.text(left + width / 2 - 4, base - tall - 6, percent, size=11)


def failure() -> Picture:
    """A failed group: its documents keep their first-stage ranks, the others are sorted around."""
    picture = Picture(940, 300, "Documents of a failed group keep their first-stage ranks")
    first = [("a", BLUE, "2.0"), ("b", ORANGE, "none"), ("c", BLUE, "9.1"), ("d", ORANGE, "none"),
             ("e", BLUE, "6.4"), ("f", BLUE, "7.7")]  # fmt: skip
    order = ["c", "b", "f", "d", "e", "a"]
    by_name = {name: (n, colour, score) for n, (name, colour, score) in enumerate(first)}
    for n, (name, colour, score) in enumerate(first):
        y = 50 + 40 * n
        picture.text(24, y + 21, str(n + 1))
        picture.label(44, y, 170, 32, colour, f"document {name}")
        picture.text(270, y + 21, score, mono=True)
    for n, name in enumerate(order):
        old, colour, _ = by_name[name]
        y = 50 + 40 * n
        picture.arrow(318, 66 + 40 * old, 494, y + 16)
        picture.text(512, y + 21, str(n + 1))
        picture.label(532, y, 170, 32, colour, f"document {name}")
    picture.text(129, 32, "first stage")
    picture.text(270, 32, "score")
    picture.text(617, 32, "result")
    picture.label(738, 90, 182, 32, BLUE, "group 1: exact")
    picture.label(738, 170, 182, 32, ORANGE, "group 2: failed")
    picture.text(829, 142, "sorted by score")
    picture.text(829, 222, "keeps its ranks")
    return picture


def rounds() -> Picture:
    """Calls over time: which of them wait for others."""
    picture = Picture(940, 232, "Calls for 100 documents over time, by method")
    rows = (("groupwise", 5, 1, BLUE), ("listwise", 9, 9, TEAL), ("setwise", 20, 16, PURPLE),
            ("pointwise", 100, 1, ORANGE))  # fmt: skip
    for row, (name, calls, waits, colour) in enumerate(rows):
        y = 44 + 50 * row
        picture.text(104, y + 21, name, anchor="end")
        for wait in range(waits):
            picture.box(120 + 33 * wait, y, 28, 32, colour)
        text = f"{calls} calls in {waits} round{'s' if waits > 1 else ''}"
        picture.text(126 + 33 * waits, y + 21, text, anchor="start")
    picture.text(120, 26, "time: one box is the length of a call", anchor="start")
    return picture


def pictures() -> dict[str, str]:
    """Every file's name with its content."""
    drawn = (groupwise, form, failure, rounds)
    return {f"{each.__name__}.svg": each().svg() for each in drawn}


if __name__ == "__main__":
    for file_name, content in pictures().items():
        Path(__file__).with_name(file_name).write_text(content, encoding="utf-8")
