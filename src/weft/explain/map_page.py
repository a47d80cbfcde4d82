"""A map of words as one HTML page that needs nothing but itself (no script, no request), in light and in dark."""

from __future__ import annotations

import os
from importlib.resources import files

from weft.explain.word_map import DOT, Drawing, WordMap, caption, draw, nearest_point
from weft.files import atomic_write
from weft.markup import Html, element, page


def write_page(drawn: WordMap, path: str | os.PathLike[str], title: str) -> None:
    """Writes the page, whole or not at all. Every text in it is escaped."""
    with atomic_write(path) as file:
        file.write(render(drawn, title))


def render(drawn: WordMap, title: str) -> str:
    """The page as a string."""
    drawing = draw(drawn)
    style = files("weft.explain").joinpath("word_map.css").read_text(encoding="utf-8")
    note = element("p", f"{caption(drawn, drawing)} Point at a dot for its name and its nearest words here, by cosine in all dimensions.")
    picture = element("div", _svg(drawn, drawing), class_="card", tabindex="0", role="region", aria_label="Map of words")
    return page(f"{title} · weft vectors map", style, element("main", element("h1", title), note, picture))


def _svg(drawn: WordMap, drawing: Drawing) -> Html:
    words = [_word(drawn, drawing, i) for i in range(len(drawn.words))]
    # names without room come last: when one is shown it lies over the others
    order = sorted(range(len(words)), key=lambda i: not drawing.names[i].shown)
    size = {"width": drawing.width, "height": drawing.height}
    return element(
        "svg", *(words[i] for i in order), viewBox=f"0 0 {drawing.width} {drawing.height}", role="img", aria_label="Map of words", **size
    )


def _word(drawn: WordMap, drawing: Drawing, i: int) -> Html:
    (x, y), name = drawing.dots[i].tolist(), drawing.names[i]
    hint = element("title", f"{drawn.words[i]}\nnear it: {', '.join(drawn.near[i])}")
    anchor = None if name.anchor == "start" else name.anchor
    text = element("text", name.text, x=_number(name.x), y=_number(name.box[1] + 11.3), text_anchor=anchor)
    leader = None
    if name.leader:
        to = nearest_point(name.box, (x, y))
        leader = element("line", x1=_number(x), y1=_number(y), x2=_number(to[0]), y2=_number(to[1]))
    dot = element("circle", cx=_number(x), cy=_number(y), r=DOT)
    reach = element("circle", cx=_number(x), cy=_number(y), r=2 * DOT, class_="reach")  # easier to point at than the dot
    return element("g", hint, leader, reach, text, dot, class_=None if name.shown else "hidden")


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
