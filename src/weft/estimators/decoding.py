"""What engines answer: those of taggers, those of translators."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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
