"""Positions: added to embeddings, sinusoidal (Vaswani et al., 2017, 3.5) or learned (Gehring et al., 2017); or in what queries and keys are
turned by, rotary (Su et al., 2021).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from weft.nn.initialisation import normal_

BASE = 10000.0


def sinusoidal(length: int, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """PE(p, 2i) = sin(p / 10000^(2i / size)), PE(p, 2i + 1) = cos of the same, for p = 0 ... length - 1 (E97) -> (length, size).

    Computed in float64 whatever the `dtype` of the result: at p = 5000 the angle itself has lost four digits in float32.
    Raises ValueError where `size` is odd: i numbers pairs.
    """
    if size % 2:
        raise ValueError(f"{size=} must be even: positions come in pairs of sine and cosine")
    position = torch.arange(length, dtype=torch.float64)[:, None]  # (T, 1)
    frequency = torch.exp(torch.arange(0, size, 2, dtype=torch.float64) * (-math.log(BASE) / size))  # (size / 2,)
    angle = position * frequency  # (T, size / 2)
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1).to(dtype)


class SinusoidalPositions(nn.Module):
    """x + PE (E97), for rows of any length and without parameters.

    The table for the longest input yet is kept, but is no part of what is saved.
    """

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.size = size
        # no buffer: ranks of a distributed run see rows of different lengths, and buffers must agree
        self.table = sinusoidal(0, size)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, T, size) -> x + positions, counted from `start`. Raises ValueError where x has another size."""
        check_size(x, self.size)
        length, table = start + x.shape[-2], self.table
        if length > len(table) or (table.device, table.dtype) != (x.device, x.dtype):
            table = self.table = sinusoidal(max(length, len(table)), self.size, x.dtype).to(x.device)
        return x + table[start:length]


class LearnedPositions(nn.Module):
    """x + a learned table (length, size), which starts as normal noise of the deviation `std` (E97)."""

    def __init__(self, *, length: int, size: int, std: float = 0.02) -> None:
        super().__init__()
        self.size = size
        self.table = nn.Parameter(torch.empty(length, size))
        normal_(self.table, std=std)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (B, T, size) -> x + positions, counted from `start`. Raises ValueError where x has another size or goes beyond the table."""
        check_size(x, self.size)
        length = start + x.shape[-2]
        if length > len(self.table):
            raise ValueError(f"an input of {length} tokens is longer than the table of {len(self.table)} learned positions")
        return x + self.table[start:length]


def rotated(x: Tensor, start: int = 0) -> Tensor:
    """x (..., T, d), queries or keys of a head, each pair (x_i, x_{i + d/2}) turned by the angle p / 10000^(2i / d) at position p.

    Rotary positions (Su et al., 2021): the product of a query at p and a key at q then depends on p - q alone. Positions are counted
    from `start`. Raises ValueError where d is odd.
    """
    end, size = start + x.shape[-2], x.shape[-1]
    sine, cosine = (part[start:end] for part in _angles(1 << (end - 1).bit_length(), size, x.dtype, x.device))  # (T, d / 2)
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, first * sine + second * cosine), -1)


@lru_cache(maxsize=16)
def _angles(length: int, size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sines and cosines of the first positions, (length, size / 2) each; few lengths are asked for, so they are kept."""
    with torch.inference_mode(False):  # what is kept from a prediction serves training too
        table = sinusoidal(length, size, dtype).to(device)
        return table[:, ::2].contiguous(), table[:, 1::2].contiguous()


POSITIONS = ("sinusoidal", "learned", "rotary", "none")


class NoPositions(nn.Module):
    """x as it is: an order that nothing tells, or that attention is told by rotation."""

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        return x


def make_positions(kind: str, *, size: int, length: int) -> nn.Module:
    """What is added to vectors for a kind of POSITIONS; `length`, of a learned table. Raises ValueError for another kind."""
    if kind not in POSITIONS:
        raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, not {kind!r}")
    if kind == "learned":
        return LearnedPositions(length=length, size=size)
    return SinusoidalPositions(size=size) if kind == "sinusoidal" else NoPositions()


def check_size(x: Tensor, size: int) -> None:
    if x.shape[-1] != size:
        raise ValueError(f"x has size {x.shape[-1]}, the positions have {size=}")
