"""A map of words as a PNG, by matplotlib (extra `plots`)."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from weft.errors import MissingExtra
from weft.explain.word_map import DOT, WordMap, caption, draw, nearest_point
from weft.files import atomic_write
from weft.markup import CONTROL

log = logging.getLogger("weft")
PER_INCH = 100  # pixels of the drawing; the picture has twice as many
INK, SOFT, ACCENT = "#20242a", "#666b73", "#0b7368"
SIDES = {"start": "left", "middle": "center", "end": "right"}
HEAD = 54  # pixels above the map


def write_picture(drawn: WordMap, path: str | os.PathLike[str], title: str) -> None:
    """Writes the picture, whole or not at all. Raises MissingExtra without matplotlib. Characters that its font lacks are counted aloud."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("plots", "a map as a PNG") from error
    drawing = draw(drawn)
    width, height = drawing.width, drawing.height + HEAD
    figure: Any = Figure(figsize=(width / PER_INCH, height / PER_INCH), dpi=2 * PER_INCH, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(drawing.height, -HEAD))
    axes.set_axis_off()

    def write(x: float, y: float, text: str, pixels: float, colour: str, **more: Any) -> None:
        axes.text(x, y, text, fontsize=pixels * 72 / PER_INCH, color=colour, parse_math=False, **more)

    write(22, -26, CONTROL.sub("\ufffd", title), 17, INK, fontweight="bold")
    write(22, -6, caption(drawn, drawing), 11.5, SOFT)
    for name, (x, y) in zip(drawing.names, drawing.dots.tolist(), strict=True):
        if name.leader:
            to = nearest_point(name.box, (x, y))
            axes.plot((x, to[0]), (y, to[1]), color=SOFT, linewidth=0.5, alpha=0.7, zorder=1)
        if name.shown:
            _, top, _, bottom = name.box
            write(name.x, (top + bottom) / 2, name.text, 12, INK, ha=SIDES[name.anchor], va="center", zorder=3)
    axes.scatter(*drawing.dots.T, s=(2 * DOT * 72 / PER_INCH) ** 2, color=ACCENT, linewidths=0, zorder=2)
    with warnings.catch_warnings(record=True) as said, atomic_write(path, "wb") as file:
        warnings.simplefilter("always")
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(file)
    missing = {str(each.message) for each in said if "missing from" in str(each.message)}
    if missing:
        log.warning("%s: matplotlib's font lacks %d characters, drawn as boxes; the HTML page shows them", path, len(missing))
