"""What engines answer: those of taggers, those of translators, those of classifiers that attend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from weft.errors import InputError

BY_SOURCE = ("minimum", "maximum", "prefixes")  # limits that each source may have its own of


class Decoded(NamedTuple):
    """Of one column of tags, for each sentence: ids (T,) int64 of its labels, and confidences (T,) float32, in [0, 1]."""

    ids: list[np.ndarray]
    confidences: list[np.ndarray]


class Translated(NamedTuple):
    """One answer. score: what it was ranked by; log_probability: of its tokens; tokens, weights (tokens, source tokens) where asked for;
    finished: whether it ended by itself."""

    text: str
    score: float
    log_probability: float
    tokens: list[str]
    weights: np.ndarray | None
    finished: bool


class Alignment(NamedTuple):
    """How a target was made of a source. maps: by attention, (target tokens, source tokens), or (heads, target tokens, source tokens).

    Of a classifier the target's tokens are the passes of its attention.
    """

    source: list[str]
    target: list[str]
    maps: list[np.ndarray]


def limits_of(limits: Mapping[str, Any], places: Sequence[int], count: int) -> dict[str, Any]:
    """Limits for the sources at these places, of `count`; those of BY_SOURCE may be one a source. Raises InputError for another number."""
    found = dict(limits)
    for name in BY_SOURCE:
        each = found.get(name)
        if each is None or isinstance(each, int):
            continue
        if len(each) != count:
            raise InputError(f"{len(each)} of them for {count} sources; give one a source", name)
        found[name] = [each[place] for place in places]
    return found
