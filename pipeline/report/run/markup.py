"""HTML and SVG as text in which nothing becomes markup that was not meant to be."""

from collections.abc import Iterable, Sequence
from html import escape

_VOID = {"br", "meta", "rect", "line", "circle", "path", "polyline"}


class Markup(str):
    """Text that is markup already; any other is escaped when it comes into an element."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | float) -> Markup:
    """An element; of attributes' names the underscores at the end go, the others become hyphens.

    Args:
        tag: its name.
        children: what is in it; only `Markup` stays as it is.
        attributes: text is escaped, of numbers two decimals are kept.
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_written(value))}"' for name, value in attributes.items()
    )
    if tag in _VOID and not children:
        return Markup(f"<{tag}{named}/>")
    return Markup(f"<{tag}{named}>{joined(children)}</{tag}>")


def joined(children: Iterable[str]) -> Markup:
    """Markup and texts one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def drawing(width: float, height: float, *children: str, label: str, class_: str = "plot") -> Markup:
    """A picture (SVG) of that size, with what it shows in words for those who do not see it."""
    return element(
        "svg", *children, class_=class_, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, width=width
    )


def table(rows: Sequence[Sequence[str]], caption: str = "", class_: str = "") -> Markup:
    """A table whose first row are headings and whose first column are names; it scrolls where it is too wide."""
    head, *body = rows
    lines = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in body
    ]
    content = [
        *([element("caption", caption)] if caption else []),
        element("thead", element("tr", *(element("th", cell, scope="col") for cell in head))),
        element("tbody", *lines),
    ]
    return element("div", element("table", *content, class_=class_), class_="wide")


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"
