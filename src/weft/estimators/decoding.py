"""What an engine of taggers answers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Decoded(NamedTuple):
    """Of one column of tags, for each sentence: ids (T,) int64 of its labels, and confidences (T,) float32, in [0, 1]."""

    ids: list[np.ndarray]
    confidences: list[np.ndarray]
