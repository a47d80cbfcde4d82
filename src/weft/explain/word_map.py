"""A map of words: their vectors in two dimensions, by PCA or t-SNE, and which names can be written beside their dots.

Drawn by map_page.py (HTML) and map_picture.py (PNG), which share the places worked out here.
"""

from __future__ import annotations

import logging
import math
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from weft.errors import InputError, meant
from weft.markup import CONTROL

if TYPE_CHECKING:
    from weft.vectors.keyed import KeyedVectors

log = logging.getLogger("weft")
METHODS = ("pca", "tsne")
FEWEST, MOST = 3, 3000
PERPLEXITY = 30.0
NEIGHBOURS = 5  # named when a dot is pointed at
LETTER, LINE, DOT = 6.9, 15.0, 3.2  # pixels: a character of a 12.5 pixel name, a line, a dot's radius
MARGIN = 26.0
LONGEST = 28  # characters of a name that are written; all of it is in the hint


@dataclass(frozen=True)
class WordMap:
    """words: n. points: (n, 2) float64, of which only distances mean something. near: for each word the nearest of the others, by cosine in
    all dimensions. explained: the shares of the variance along both axes (PCA), else None."""

    words: tuple[str, ...]
    points: np.ndarray
    near: tuple[tuple[str, ...], ...]
    method: str
    explained: tuple[float, float] | None = None


@dataclass(frozen=True)
class Name:
    """A word's name on the drawing: its box (left, top, right, bottom), which side of it is held ("start", "middle", "end"), whether there
    was room for it, and whether a line leads to its dot."""

    text: str
    box: tuple[float, float, float, float]
    anchor: str
    shown: bool
    leader: bool

    @property
    def x(self) -> float:
        """Where the held side is: a name that is wider than was thought grows away from its dot."""
        left, _, right, _ = self.box
        return {"start": left + 2, "middle": (left + right) / 2, "end": right - 2}[self.anchor]


@dataclass(frozen=True)
class Drawing:
    """A map in pixels: width, height, dots (n, 2), a name for each."""

    width: int
    height: int
    dots: np.ndarray
    names: tuple[Name, ...]


def word_map(
    vectors: KeyedVectors,
    words: Sequence[str] | None = None,
    *,
    top: int = 200,
    method: str = "pca",
    seed: int = 0,
    perplexity: float = PERPLEXITY,
) -> WordMap:
    """The map of `words`, or of the first `top` where none are given (files begin with the frequent ones), by directions: unit vectors.

    "pca": the two directions in which they differ most. "tsne": t-SNE (van der Maaten and Hinton, 2008) by scikit-learn, from PCA; its
    perplexity is at most a third of the words. Raises InputError for an unknown word, under 3 or over 3,000 words, an unknown method.
    """
    if method not in METHODS:
        raise InputError(f'{method!r} is not known; "pca" or "tsne"{meant(method, METHODS)}', "method")
    chosen = tuple(dict.fromkeys(vectors.words[: max(0, top)] if words is None else words))
    if not FEWEST <= len(chosen) <= MOST:
        raise InputError(f"a map takes {FEWEST} to {MOST:,} different words, not {len(chosen):,}", "words")
    rows = np.asarray(vectors[list(chosen)], np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    directions = rows / np.where(length > 0, length, 1)
    near = _near(chosen, directions)
    if method == "tsne":
        return WordMap(chosen, tsne(directions, seed, perplexity), near, method)
    points, explained = pca(directions)
    return WordMap(chosen, points, near, method, explained)


def pca(rows: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """(n, D) → (n, 2), the first two principal components, and their shares of the variance, by SVD of the centred rows.

    Each axis points to where its largest loading is positive, so that the same rows always give the same picture.
    """
    centred = rows - rows.mean(axis=0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(rows), 2))
    shares = [0.0, 0.0]
    total = float((values**2).sum())
    for axis in range(min(2, len(values))):
        sign = 1.0 if right[axis][np.abs(right[axis]).argmax()] >= 0 else -1.0
        points[:, axis] = sign * left[:, axis] * values[axis]
        shares[axis] = float(values[axis] ** 2) / total if total else 0.0
    return points, (shares[0], shares[1])


def tsne(rows: np.ndarray, seed: int = 0, perplexity: float = PERPLEXITY) -> np.ndarray:
    """(n, D) → (n, 2) by t-SNE. The same seed gives the same points."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if not (math.isfinite(perplexity) and perplexity > 0):
        raise InputError(f"must be a number above 0, not {perplexity}", "perplexity")
    bounded = min(perplexity, (len(rows) - 1) / 3)
    if bounded < perplexity and perplexity != PERPLEXITY:
        log.warning("perplexity %g is too much for %d words; %.3g is taken", perplexity, len(rows), bounded)
    start = pca(rows)[0]
    spread = float(start[:, 0].std())
    # more threads wait for one another longer than they work on a few hundred points, and add in another order each time
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = TSNE(2, perplexity=bounded, init=start / (spread or 1) * 1e-4, random_state=seed, n_jobs=1)
        points: np.ndarray = model.fit_transform(rows.astype(np.float32)).astype(np.float64)
    return points


def _near(words: Sequence[str], directions: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """The NEIGHBOURS nearest of the other words, nearest first."""
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(words) - 1)]
    return tuple(tuple(words[row] for row in line) for line in order.tolist())


def draw(drawn: WordMap) -> Drawing:
    """The map in pixels: one scale for both axes, wider for more words, a name wherever it covers no dot and no other name."""
    count = len(drawn.words)
    width = int(min(2400, max(1060, 1060 * math.sqrt(count / 160))))
    low, high = drawn.points.min(axis=0), drawn.points.max(axis=0)
    span = np.maximum(high - low, 1e-12 * max(1.0, float(np.abs(drawn.points).max())))
    height = int(width * min(0.75, max(0.5, span[1] / span[0])))
    inner = np.array([width, height]) - 2 * np.array([2.2 * MARGIN, MARGIN])
    scale = float((inner / span).min()) if (high > low).any() else 0.0
    middle = (low + high) / 2
    dots = (drawn.points - middle) * scale * (1, -1) + np.array([width, height]) / 2
    return Drawing(width, height, dots, _names(drawn.words, dots, width, height))


def _names(words: Sequence[str], dots: np.ndarray, width: int, height: int) -> tuple[Name, ...]:
    """Places for the names, earlier words first: of some places around the dot the nearest that is free.

    Where none is, the name is shown when its dot is pointed at.
    """
    taken = np.column_stack([dots - DOT - 1, dots + DOT + 1])  # of the dots; names are added
    names = []
    for i, word in enumerate(words):
        clean = CONTROL.sub("\ufffd", " ".join(word.split()))
        text = clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"
        across = letters(text) * LETTER + 4
        boxes = _boxes(dots[i], across)
        others = np.delete(taken, i, axis=0)
        inside: np.ndarray = np.logical_and((boxes[:, :2] >= 2).all(axis=1), (boxes[:, 2:] <= (width - 2, height - 2)).all(axis=1))
        free = inside & ~_meets(boxes, others)
        shown = bool(free.any())
        place = int((free if shown else inside[:8]).argmax())  # without room it may cover others when pointed at, but stays inside
        if shown:
            taken = np.vstack([taken, boxes[place]])
        left, top, right, bottom = boxes[place].tolist()
        anchor = "start" if left >= dots[i][0] else "end" if right <= dots[i][0] else "middle"
        names.append(Name(text, (left, top, right, bottom), anchor, shown, shown and place >= 8))
    return tuple(names)


def letters(text: str) -> float:
    """How many ordinary characters wide a text is: East Asian ones are two, marks above and below none."""
    return sum(map(_width, text))


def _width(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 2.0
    if character in "mwMW@%":
        return 1.45
    return 0.6 if character in "fijltrI.,:;'|!()[] " else 1.2 if character.isupper() else 1.07


def _boxes(dot: np.ndarray, across: float) -> np.ndarray:
    """(places, 4): beside, over and below a dot, then further off in rings, those that a line has to lead to."""
    boxes = []
    for distance, turns in ((DOT + 2, 8), (DOT + 14, 12), (DOT + 24, 16)):
        for turn in (0, 4, 2, 6, 1, 7, 3, 5) if turns == 8 else range(turns):
            angle = 2 * math.pi * turn / turns
            dx, dy = math.cos(angle), -math.sin(angle)
            beside, over = (max(-1.0, min(1.0, 1.5 * part)) / 2 for part in (dx, dy))
            x, y = dot[0] + distance * dx + beside * across, dot[1] + distance * dy + over * LINE
            boxes.append((x - across / 2, y - LINE / 2, x + across / 2, y + LINE / 2))
    return np.array(boxes)


def _meets(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(places,) whether each box overlaps any of the others."""
    apart = (
        (boxes[:, None, 2] <= others[None, :, 0])
        | (boxes[:, None, 0] >= others[None, :, 2])
        | (boxes[:, None, 3] <= others[None, :, 1])
        | (boxes[:, None, 1] >= others[None, :, 3])
    )
    overlaps: np.ndarray = np.logical_not(apart.all(axis=1))
    return overlaps


def nearest_point(box: Sequence[float], dot: Sequence[float]) -> tuple[float, float]:
    """Where on a name's box the line to its dot ends."""
    return min(max(dot[0], box[0]), box[2]), min(max(dot[1], box[1]), box[3])


def caption(drawn: WordMap, drawing: Drawing) -> str:
    """How the map came about, and what it does not show, in a sentence or two."""
    if drawn.explained is not None:
        first, second = drawn.explained
        how = f"The two principal components of {len(drawn.words):,} unit vectors: {first:.0%} and {second:.0%} of their variance"
    else:
        how = f"A t-SNE of {len(drawn.words):,} unit vectors: who is near whom means something, distances between groups do not"
    hidden = sum(not name.shown for name in drawing.names)
    return f"{how}." + (f" {hidden:,} names had no room." if hidden else "")
