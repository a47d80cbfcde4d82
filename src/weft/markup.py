"""HTML and SVG as nested calls: what is not already markup is escaped, always, so that a text can never become a tag."""

from __future__ import annotations

import html
import re

VOID = frozenset({"meta", "br", "hr", "col"})
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # what HTML or UTF-8 cannot hold


class Html(str):
    """A string that is markup already."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Text as markup: <, >, &, quotes escaped; control characters and lone surrogates replaced by U+FFFD. Markup stays as it is."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(CONTROL.sub("\ufffd", str(value)), quote=True))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """`element("td", 5, class_="number")` → `<td class="number">5</td>`.

    A trailing underscore in a name is dropped, inner ones become hyphens; None and False leave an attribute or child out, True gives a
    bare attribute.
    """
    given = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        given.append(f" {name}" if value is True else f' {name}="{escape(value)}"')
    opening = f"<{tag}{''.join(given)}>"
    if tag in VOID:
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{tag}>")


def page(title: str, style: str, *body: object) -> str:
    """A whole page that holds all it needs: nothing on it makes a request or runs, whatever the texts in it are."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        element("title", title),
        element("style", Html(style)),
    )
    return "<!doctype html>\n" + element("html", head, element("body", *body), lang="en") + "\n"


def join(*children: object) -> Html:
    """The children one after another, None and False left out, those that are text escaped."""
    return Html("".join(escape(child) for child in children if child is not None and child is not False))
