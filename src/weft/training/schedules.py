"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no state.

Each maps step t (0 for the first update), the total number of steps T and the number of warm-up steps w to the factor by which the
base rate is multiplied. Warm-up is linear: factor (t + 1)/w while t < w, so that the first step already moves.

Inverse square root: Vaswani et al., 2017. Cosine: Loshchilov & Hutter, 2017. Slanted triangle: Howard & Ruder, 2018 (E108).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from weft.errors import InputError


def constant(step: int, total: int, warmup: int = 0) -> float:
    """1 after the warm-up. Raises InputError where total < 1, step < 0, or warmup is not in [0, total)."""
    step = _checked(step, total, warmup)
    return _rise(step, warmup)


def linear(step: int, total: int, warmup: int = 0) -> float:
    """From 1 after the warm-up straight down to 0 at step = total. Raises as `constant`."""
    step = _checked(step, total, warmup)
    return _rise(step, warmup) if step < warmup else (total - step) / (total - warmup)


def cosine(step: int, total: int, warmup: int = 0) -> float:
    """From 1 after the warm-up down half a cosine, (1 + cos πp)/2, to 0 at step = total. Raises as `constant`."""
    step = _checked(step, total, warmup)
    return _rise(step, warmup) if step < warmup else (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def inverse_square_root(step: int, total: int, warmup: int = 0) -> float:
    """min((t + 1)/w, √(w/(t + 1))): 1 at the end of the warm-up, a half of it at four times that step. Raises as `constant`."""
    step = _checked(step, total, warmup)
    return min(_rise(step, warmup), math.sqrt(max(warmup, 1) / (step + 1)))


def slanted_triangular(step: int, total: int, warmup: int = 0, *, cut: float = 0.1, ratio: float = 32.0) -> float:
    """From 1/ratio up to 1 at step ⌊total·cut⌋, then down to 1/ratio at step = total, both straight (E108, W28).

    A warmup above 0 puts the peak at that step instead. The published fall, 1 − (t − peak)/(peak(1/cut − 1)), is this one where
    total·cut is whole; elsewhere it drops below 0 before the end, so the fall here is measured by the steps there are.
    Raises as `constant`, and where cut is not in (0, 1) or ratio < 1.
    """
    step = _checked(step, total, warmup)
    if not 0 < cut < 1 or ratio < 1:
        raise InputError(f"the slanted triangle needs 0 < cut < 1 and ratio >= 1, not {cut=} and {ratio=}")
    peak = warmup or int(total * cut + 1e-9)  # 100 * 0.29 is 28.999…, and its floor is meant to be 29
    height = step / peak if step < peak else 1 - (step - peak) / (total - peak)
    return (1 + height * (ratio - 1)) / ratio


SCHEDULES: Mapping[str, Callable[..., float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "inverse-square-root": inverse_square_root,
    "slanted-triangular": slanted_triangular,
}


def schedule(name: str) -> Callable[..., float]:
    """The schedule of that name: function(step, total, warmup=0) -> factor. Raises InputError listing the names there are."""
    if name not in SCHEDULES:
        raise InputError(f"there is no schedule {name!r}; there are {', '.join(SCHEDULES)}")
    return SCHEDULES[name]


def _checked(step: int, total: int, warmup: int) -> int:
    if total < 1 or step < 0:
        raise InputError(f"a schedule needs at least one step and counts them from 0, not {step=} of {total=}")
    if not 0 <= warmup < total:
        raise InputError(f"warm-up must be shorter than training: {warmup=} of {total=} steps")
    return min(step, total)


def _rise(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0
