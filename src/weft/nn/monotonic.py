"""Monotonic alignment: a pointer into the source that never goes back, as the probabilities of where it stands (E92).

Raffel, Luong, Liu, Weiss and Eck (2017): "Online and linear-time attention by enforcing monotonic alignments".
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def expected_alignment(p: Tensor, previous: Tensor) -> Tensor:
    """α_i = p_i q_i, q_i = q_{i-1} (1 - p_{i-1}) + α'_i: where the pointer stops, it having stood at i with probability α'_i (E92).

    p (..., S): the chance of stopping at i when it is looked at; 0 where there is nothing to stop at. previous α' (..., S) sums to 1 at
    most -> (..., S). What stops nowhere has run off the end: that mass is missing, and stays so. With p of zeros and ones this is
    the pointer itself.

    The recurrence is solved by doubling, in ⌈log₂ S⌉ steps over all positions at once: products and sums of numbers in [0, 1] alone. The
    usual cumprod(1 - p) · cumsum(α' / cumprod(1 - p)) divides by products that come to 0 after a few sure stops.
    Raises ValueError where the sizes differ.
    """
    if p.shape[-1] != previous.shape[-1]:
        raise ValueError(f"chances of {p.shape[-1]} positions, but a previous alignment over {previous.shape[-1]}")
    arrived, passing = previous, F.pad(1 - p[..., :-1], (1, 0))  # to i from i - 1
    distance, length = 1, p.shape[-1]
    while distance < length:
        # arrived: q_i of what started at most `distance` - 1 positions before; passing: the chance of coming through as many
        arrived = arrived + passing * F.pad(arrived[..., :-distance], (distance, 0))
        passing = passing * F.pad(passing[..., :-distance], (distance, 0))
        distance *= 2
    return p * arrived


def at_start(mask: Tensor) -> Tensor:
    """mask (..., S) -> the alignment before the first step, float: all of it at the first position that is visible; zeros where none is."""
    return (mask & (mask.cumsum(-1) == 1)).float()


def decided(scores: Tensor) -> Tensor:
    """Scores (..., S) -> 1 where σ(e) > ½, so that the pointer stops for sure, else 0: prediction's p."""
    return (scores > 0).to(scores.dtype)
