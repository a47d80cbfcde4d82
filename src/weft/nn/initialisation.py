"""Initialisation: how weights begin (E23; Glorot and Bengio, 2010; He et al., 2015; Saxe et al., 2014).

All fill their tensor in place and return it. Randomness comes from `generator` (None: torch's global one).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor


def fans(tensor: Tensor) -> tuple[int, int]:
    """(in, out) of a weight laid out (out, in, …): the trailing sizes are a receptive field that counts on both sides."""
    if tensor.dim() < 2:
        raise ValueError(f"fan-in and fan-out need a matrix or more, got shape {tuple(tensor.shape)}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def normal_(tensor: Tensor, *, std: float = 0.02, generator: Generator | None = None) -> Tensor:
    """Normal with mean 0 and standard deviation `std`."""
    with torch.no_grad():
        return tensor.normal_(0.0, std, generator=generator)


def xavier_(tensor: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Glorot: normal with variance 2/(in + out); keeps the scale of linear and tanh layers both ways."""
    inputs, outputs = fans(tensor)
    return normal_(tensor, std=math.sqrt(2.0 / (inputs + outputs)), generator=generator)


def he_(tensor: Tensor, *, generator: Generator | None = None) -> Tensor:
    """He: normal with variance 2/in; keeps the scale through ReLU layers."""
    return normal_(tensor, std=math.sqrt(2.0 / fans(tensor)[0]), generator=generator)


def orthogonal_(tensor: Tensor, *, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Random orthonormal rows or columns, whichever are fewer, times `gain`; a tensor of more than two sizes counts as (out, rest)."""
    fans(tensor)
    rows, columns = tensor.shape[0], tensor[0].numel()
    normal = torch.empty(max(rows, columns), min(rows, columns), dtype=torch.float64).normal_(generator=generator)
    q, r = torch.linalg.qr(normal)
    q = q * torch.sign(torch.diagonal(r))  # QR alone prefers some rotations; with the signs of R all are equally likely
    with torch.no_grad():
        return tensor.copy_((gain * (q if rows >= columns else q.mT)).reshape(tensor.shape))


def forget_gate_bias_(bias: Tensor, hidden_size: int, *, value: float = 1.0, gates: int = 4) -> Tensor:
    """Sets the forget gate's part of an LSTM bias (gates·hidden_size) to `value`: the third part from the end.

    The order is input, forget, cell, output; a coupled cell has no input gate, and 3 gates.
    An LSTM that begins by remembering learns long dependencies sooner (Gers et al., 2000; Jozefowicz et al., 2015).
    """
    if bias.shape != (gates * hidden_size,):
        raise ValueError(f"an LSTM bias has {gates} × {hidden_size} = {gates * hidden_size} numbers, got shape {tuple(bias.shape)}")
    with torch.no_grad():
        bias[-3 * hidden_size : -2 * hidden_size] = value
    return bias


INITIALISERS: dict[str, Callable[..., Tensor]] = {
    "normal": normal_,
    "xavier": xavier_,
    "he": he_,
    "orthogonal": orthogonal_,
}
