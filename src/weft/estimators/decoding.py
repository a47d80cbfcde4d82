"""What a tagger's engine answers, whatever its kind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Decoded(NamedTuple):
    """Of each sentence: ids (T,) int64 of its labels, and confidences (T,) float32, a probability each."""

    ids: list[np.ndarray]
    confidences: list[np.ndarray]
