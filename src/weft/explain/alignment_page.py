"""Which words of a source each word of a target was made of, as attention has it: a grid of shades for every map, as HTML.

Rows are the target's tokens, columns the source's; the darker a field, the more weight (Bahdanau et al., 2015, figure 3). The page needs
nothing but itself: no script, no request.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from weft.errors import InputError
from weft.files import atomic_write
from weft.markup import Html, element, page

STEPS = 20  # shades
BLANKS = {" ": "␣", "\n": "↵", "\t": "⇥", "": "·"}


class Map(NamedTuple):
    """One grid: weights (target tokens, source tokens), and what made them."""

    name: str
    weights: np.ndarray


def named_maps(maps: Sequence[np.ndarray], kind: str = "attention") -> list[Map]:
    """A model's maps, (T, S) or (heads, T, S) of each layer from the lowest, as grids: of several heads their mean, then each."""
    found = []
    for number, one in enumerate(maps, 1):
        layer = f"layer {number}" if len(maps) > 1 or one.ndim == 3 else ""
        if one.ndim == 2:
            found.append(Map(layer or kind, one))
            continue
        found.append(Map(f"{layer}, mean of {len(one)} heads", one.mean(0)))
        found += [Map(f"{layer}, head {head}", weights) for head, weights in enumerate(one, 1)]
    return found


def write_page(
    source: Sequence[str],
    target: Sequence[str],
    maps: Sequence[Map],
    path: str | os.PathLike[str],
    *,
    title: str,
    rows: str = "the target's tokens",
) -> None:
    """Writes the page, whole or not at all. Every token in it is escaped. Raises InputError where a map is not of these tokens.

    rows: what they are, for the page's first sentence.
    """
    with atomic_write(path) as file:
        file.write(render(source, target, maps, title=title, rows=rows))


def render(source: Sequence[str], target: Sequence[str], maps: Sequence[Map], *, title: str, rows: str = "the target's tokens") -> str:
    """The page as a string."""
    for one in maps:
        if one.weights.shape != (len(target), len(source)):
            wanted = f"{len(target)} target tokens by {len(source)} source tokens"
            raise InputError(f"the map {one.name!r} is {one.weights.shape[0]} by {one.weights.shape[1]}, not {wanted}")
    grids = [element("figure", element("figcaption", one.name), _grid(source, target, one.weights)) for one in maps]
    said = f"Rows: {rows}. Columns: the source's. The darker a field, the more of its weight attention gave there."
    main = element("main", element("h1", title), element("p", said), _legend(), element("div", *grids, class_="maps"))
    return page(f"{title} · weft explain alignment", styles(), main)


def styles() -> str:
    """The sheet beside this file, and a rule for each shade."""
    sheet = files("weft.explain").joinpath("alignment.css").read_text(encoding="utf-8")
    return "\n".join([sheet, *(f".w{step} {{ background: rgb(var(--ink-rgb) / {step / STEPS:.2f}); }}" for step in range(1, STEPS + 1))])


def shade(weight: float) -> str | None:
    """The class of a weight from 0 to 1: none, w1 … w20."""
    step = round(min(1.0, max(0.0, weight)) * STEPS)
    return f"w{step}" if step else None


def _grid(source: Sequence[str], target: Sequence[str], weights: np.ndarray) -> Html:
    head = element("tr", element("td"), *(element("th", element("span", shown(token)), scope="col") for token in source))
    rows = []
    for token, row in zip(target, weights.tolist(), strict=True):
        cells = [
            element("td", class_=shade(weight), title=f"{shown(token)} ← {shown(of)}: {weight:.2f}")
            for of, weight in zip(source, row, strict=True)
        ]
        rows.append(element("tr", element("th", shown(token), scope="row"), *cells))
    return element("table", element("thead", head), element("tbody", *rows))


def shown(token: str) -> str:
    """A token as it can be seen: what is nothing but a blank has a sign."""
    return BLANKS.get(token, token.strip() or "␣")


def _legend() -> Html:
    cells = [element("span", class_=f"w{step}") for step in range(1, STEPS + 1)]
    return element(
        "p", "0 ", element("span", *cells, class_="bar", role="img", aria_label="From no weight to all of it"), " 1", class_="legend"
    )
