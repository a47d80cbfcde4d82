"""Activations: elementwise functions and the masked softmax (E2–E5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]


def sigmoid(x: Tensor) -> Tensor:
    """Logistic function 1/(1 + e^{-x}) in (0, 1) (E2)."""
    return torch.sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    """2σ(2x) − 1 in (−1, 1) (E3)."""
    return torch.tanh(x)


def hard_tanh(x: Tensor) -> Tensor:
    """clip(x, −1, 1); its derivative at ±1, undefined, is taken to be 0 (E3)."""
    return F.hardtanh(x)


def relu(x: Tensor) -> Tensor:
    """max(0, x); derivative 0 at 0 (E4)."""
    return torch.relu(x)


def leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    """x where positive, slope·x elsewhere: no unit is ever without a gradient (E4)."""
    return F.leaky_relu(x, slope)


def gelu(x: Tensor) -> Tensor:
    """xΦ(x), Φ the normal distribution function, exact (Hendrycks and Gimpel, 2016; E4)."""
    return F.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """½x(1 + tanh(√(2/π)(x + 0.044715x³))), what GPT-2 has in GELU's place (Hendrycks and Gimpel, 2016, section 2; E4)."""
    return F.gelu(x, approximate="tanh")


def identity(x: Tensor) -> Tensor:
    """x itself: a layer without non-linearity."""
    return x


def softmax(scores: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    """e^{v_i}/Σ_j e^{v_j} along `dim` (E5), over what the mask shows.

    mask: bool, broadcastable to scores, True = visible. Where nothing is visible the result is zeros, not NaN,
    in value and in gradient. A mask of another type raises ValueError.
    """
    if mask is None:
        return torch.softmax(scores, dim)
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask is bool, True = visible, not {mask.dtype}")
    # The lowest finite number, not −inf: a row of −inf would be NaN, and its gradient too.
    hidden = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(hidden, dim).masked_fill(~mask, 0.0)


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "hard-tanh": hard_tanh,
    "relu": relu,
    "leaky-relu": leaky_relu,
    "gelu": gelu,
    "gelu-tanh": gelu_tanh,
    "identity": identity,
}


def activation(name: str) -> Activation:
    """The activation of that name; ValueError lists the names there are."""
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation {name!r}; there are: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
