"""Alignments as a PNG, by matplotlib (extra `plots`): the grids of `alignment_page`, side by side."""

from __future__ import annotations

import math
import os
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

from weft.errors import MissingExtra
from weft.explain.alignment_page import Map, shown
from weft.files import atomic_write

FIELD = 0.26  # inches a token
BESIDE = 1.5  # inches for the tokens' names
ACROSS = 4  # grids in a row
CHARACTERS, LINE = 11, 0.2  # of the title: an inch holds so many, a line is so high


def write_picture(source: Sequence[str], target: Sequence[str], maps: Sequence[Map], path: str | os.PathLike[str], *, title: str) -> None:
    """Writes the picture, whole or not at all. Raises MissingExtra without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("plots", "an alignment as a PNG") from error
    columns = min(ACROSS, len(maps))
    rows = math.ceil(len(maps) / columns)
    width = columns * (BESIDE + FIELD * len(source))
    lines = textwrap.wrap(title, max(20, int(CHARACTERS * width))) or [""]
    size = (width, 0.4 + LINE * len(lines) + rows * (BESIDE + FIELD * len(target)))
    figure: Any = Figure(figsize=size, dpi=140, facecolor="white", layout="constrained")
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(maps) :]:
        axes.set_axis_off()
    for axes, one in zip(grid.flat, maps, strict=False):
        axes.imshow(one.weights, cmap="BuGn", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(source)), [shown(token) for token in source], rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(range(len(target)), [shown(token) for token in target], fontsize=8, parse_math=False)
        axes.xaxis.tick_top()
        axes.set_title(one.name, fontsize=9, parse_math=False)
    with warnings.catch_warnings(), atomic_write(path, "wb") as file:
        warnings.simplefilter("ignore")  # of characters that the font lacks: they are drawn as boxes, and the page has them
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(file)
