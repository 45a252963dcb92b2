"""Plots of matplotlib as parts of a page: in the page's colours and font, without style rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

__all__ = ["inline_svg"]

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r"([0-9.]+)px")
_DROPPED = {"stroke-linejoin", "stroke-linecap", "stroke-miterlimit", "white-space"}


def inline_svg(
    text: str, prefix: str, colours: Mapping[str, str], titles: Mapping[str, str], label: str
) -> str:
    """An SVG document of matplotlib's as an element to stand in HTML.

    Args:
        text: the document, its text written as text.
        prefix: put before ids, which several plots of a page would share otherwise.
        colours: what to write for a colour, "#rrggbb" -> for instance "var(--ink)".
        titles: the id of an element -> what to say of it to who points at it.
        label: what the plot shows, for who does not see it.
    """
    root = ET.fromstring(text)
    for child in list(root):
        if child.tag in {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}:
            root.remove(child)
    for defs in list(root.iter(f"{{{_SVG}}}defs")):
        for child in list(defs):
            if child.tag == f"{{{_SVG}}}style":
                defs.remove(child)
    referred = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    for element in root.iter():
        _restyle(element, colours)
        _rename(element, prefix, referred, titles)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


def _restyle(element: ET.Element, colours: Mapping[str, str]) -> None:
    """Turn an element's style rules into attributes, which a strict policy lets stand."""
    for rule in filter(None, element.attrib.pop("style", "").split(";")):
        name, _, value = (part.strip() for part in rule.partition(":"))
        if name == "font" and (size := _FONT.search(value)):
            element.set("font-size", size[1])
            if value.startswith("bold"):
                element.set("font-weight", "600")
        elif name not in _DROPPED:
            element.set(name, value)
    for name in ("fill", "stroke"):
        if name in element.attrib:
            element.set(name, colours.get(element.attrib[name].lower(), element.attrib[name]))


def _rename(
    element: ET.Element, prefix: str, referred: set[str], titles: Mapping[str, str]
) -> None:
    """Make ids the page's own, drop those that nothing refers to, and say what has a title."""
    name = element.attrib.pop("id", None)
    if name in referred:
        element.set("id", prefix + str(name))
    if name in titles:
        title = ET.Element(f"{{{_SVG}}}title")
        title.text = titles[str(name)]
        element.insert(0, title)
    for attribute, plain in ((_HREF, "href"), ("clip-path", "clip-path")):
        if value := element.attrib.pop(attribute, None):
            element.set(plain, value.replace("#", f"#{prefix}"))
