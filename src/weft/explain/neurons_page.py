"""Neurons over a text as one HTML page that needs nothing but itself (no script, no request), in light and in dark (E78).

A neuron a section: every piece of the text on a ground from blue (−1) through the page's white to red (+1). The list above shows one
neuron alone when it is chosen, by the page's address; where a browser does not know `:has`, it leads to it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files

import numpy as np

from weft.explain.neurons import Neuron, States
from weft.files import atomic_write
from weft.markup import Html, element, page

log = logging.getLogger("weft")
STEPS = 10  # shades of each colour
DEEPEST = 0.7  # how much of it covers the ground at ±1
MOST = 150_000  # coloured pieces on a page: some ten megabytes
NAMED = 5  # pieces that are named at either end of a neuron's values
SIGNS = {"\n": "↵\n", "\t": "⇥\t", "\r": "␍", "": "·"}


def write_page(
    texts: Sequence[States],
    neurons: Sequence[Neuron],
    path: str | os.PathLike[str],
    *,
    title: str,
    masks: Mapping[str, np.ndarray] | None = None,
    chances: Mapping[str, float] | None = None,
) -> None:
    """Writes the page, whole or not at all. Every text in it is escaped.

    masks: {what neurons were asked to follow: (T,) bool over all texts}, whose pieces are underlined; chances: what the best |r| would be
    by chance (`neurons.chance`). Beyond `MOST` coloured pieces the texts are cut, aloud.
    """
    with atomic_write(path) as file:
        file.write(render(texts, neurons, title=title, masks=masks, chances=chances))


def render(
    texts: Sequence[States],
    neurons: Sequence[Neuron],
    *,
    title: str,
    masks: Mapping[str, np.ndarray] | None = None,
    chances: Mapping[str, float] | None = None,
) -> str:
    """The page as a string."""
    masks, chances = masks or {}, chances or {}
    total, room = sum(map(len, texts)), MOST // max(1, len(neurons))
    if total > room:
        log.warning("the page shows the first %d of %d pieces for each of %d neurons", room, total, len(neurons))
    ids = [f"n{number}" for number in range(1, len(neurons) + 1)]
    sections = [
        _section(place, texts, neuron, masks.get(neuron.asked), chances.get(neuron.asked), room)
        for place, neuron in zip(ids, neurons, strict=True)
    ]
    links = [element("a", neuron.name, _correlation(neuron), href=f"#{place}") for place, neuron in zip(ids, neurons, strict=True)]
    choice = element("nav", element("a", "all", href="#all"), *links, aria_label="Neurons", id_="all")
    main = element("main", element("h1", title), element("p", _caption(texts, neurons, masks)), _legend(), choice, *sections)
    return page(f"{title} · weft explain neurons", styles(ids), main)


def styles(ids: Sequence[str]) -> str:
    """The page's style: the sheet beside this file, a rule for each shade, and one that marks the chosen neuron in the list."""
    sheet = files("weft.explain").joinpath("neurons.css").read_text(encoding="utf-8")
    shades = [
        f".{sign}{step} {{ background: rgb(var(--{colour}) / {DEEPEST * step / STEPS:.2f}); }}"
        for sign, colour in (("p", "red"), ("m", "blue"))
        for step in range(1, STEPS + 1)
    ]
    current = [f'main:has(#{place}:target) a[href="#{place}"]' for place in ids]
    return "\n".join([sheet, *shades, f"{', '.join(current)} {{ border-color: var(--accent); font-weight: 700; }}" if current else ""])


def shade(value: float) -> str | None:
    """The class of a value from −1 to 1: m10 … m1, none, p1 … p10."""
    step = round(min(1.0, abs(value)) * STEPS)
    return f"{'p' if value > 0 else 'm'}{step}" if step else None


def _caption(texts: Sequence[States], neurons: Sequence[Neuron], masks: Mapping[str, np.ndarray]) -> str:
    count, pieces, what = len(texts), sum(map(len, texts)), texts[0].what
    which = f"{len(neurons)} of {len(texts[0].names):,} neurons"
    if any(neuron.correlation is not None for neuron in neurons):
        which += f", with r, their correlation with {' or '.join(masks) if len(masks) < 3 else 'each tag'} (underlined)"
    read = f"{what[:1].upper()}{what[1:]} at each of {pieces:,} pieces of {count:,} text{'' if count == 1 else 's'}: {which}."
    return f"{read} Point at a piece for its value; choose a neuron to see it alone."


def _legend() -> Html:
    cells = [element("span", class_=shade(step / STEPS)) for step in range(-STEPS, STEPS + 1)]
    bar = element("span", *cells, class_="bar", role="img", aria_label="Colours: blue is −1, no colour 0, red +1")
    return element("p", "−1 ", bar, " +1", class_="legend")


def _section(place: str, texts: Sequence[States], neuron: Neuron, mask: np.ndarray | None, chance: float | None, room: int) -> Html:
    columns = [each.values[:, neuron.number].astype(np.float64) for each in texts]
    everything = np.concatenate(columns)
    largest = float(np.abs(everything).max())
    scale = max(1.0, largest)
    facts = []
    if neuron.correlation is not None:
        facts.append(f"r = {_signed(neuron.correlation)} with {neuron.asked}")
        if chance is not None:
            facts.append(f"the best of {len(texts[0].names):,} neurons reaches |r| {chance:.2f} by chance")
    facts.append(f"from {_signed(float(everything.min()))} to {_signed(float(everything.max()))}")
    if scale > 1:
        facts.append(f"colours are of values divided by {scale:.3g}")
    blocks, done = [], 0
    for each, values in zip(texts, columns, strict=True):
        if done >= room:
            break
        marked = None if mask is None else mask[done : done + len(each)]
        blocks.append(_text(each, values, values / scale, marked, room - done))
        done += len(each)
    ends = element("p", *_ends(texts, everything), class_="ends")
    return element("section", element("h2", neuron.name), element("p", " · ".join(facts)), ends, *blocks, class_="neuron", id_=place)


def _text(states: States, values: np.ndarray, scaled: np.ndarray, marked: np.ndarray | None, room: int) -> Html:
    parts: list[object] = []
    notes = states.notes or ("",) * len(states)
    for i in range(min(len(states), room)):
        parts.append(states.gaps[i])
        names = [name for name in (shade(float(scaled[i])), "in" if marked is not None and marked[i] else None) if name]
        hint = f"{_signed(float(values[i]))} {notes[i]}".rstrip()
        shown = SIGNS.get(states.pieces[i], states.pieces[i])
        parts.append(element("span", shown, class_=" ".join(names) or None, title=hint))
    parts.append(states.gaps[-1] if len(states) <= room else " …")
    return element("div", *parts, class_="text")


def _ends(texts: Sequence[States], values: np.ndarray) -> list[object]:
    """The pieces at which a neuron is highest and lowest, each once, in words: what the colours say to who cannot see them."""
    pieces = [piece for each in texts for piece in each.pieces]
    said: list[object] = []
    for name, order in (("highest at", np.argsort(-values, kind="stable")), ("lowest at", np.argsort(values, kind="stable"))):
        found: dict[str, float] = {}
        for i in order.tolist():
            found.setdefault(pieces[i], float(values[i]))
            if len(found) == NAMED:
                break
        said += ["; " if said else "", f"{name} "]
        for i, (piece, value) in enumerate(found.items()):
            shown = SIGNS.get(piece, piece).rstrip("\n\t") or "␣"
            said += [", " if i else "", element("b", shown), f" {_signed(value)}"]
    return said


def _correlation(neuron: Neuron) -> Html | None:
    if neuron.correlation is None:
        return None
    return element("small", f"{_signed(neuron.correlation)} {neuron.asked}")


def _signed(value: float) -> str:
    """+0.50, −0.50, 0.00."""
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else f"{'−' if value < 0 else '+'}{text}"
