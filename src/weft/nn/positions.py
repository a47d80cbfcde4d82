"""Positions, added to embeddings: sinusoidal (Vaswani et al., 2017, 3.5) and learned (Gehring et al., 2017)."""

from __future__ import annotations

import math

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

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, size) -> x + positions. Raises ValueError where x has another size."""
        check_size(x, self.size)
        length, table = x.shape[-2], self.table
        if length > len(table) or (table.device, table.dtype) != (x.device, x.dtype):
            table = self.table = sinusoidal(max(length, len(table)), self.size, x.dtype).to(x.device)
        return x + table[:length]


class LearnedPositions(nn.Module):
    """x + a learned table (length, size), which starts as normal noise of the deviation `std` (E97)."""

    def __init__(self, *, length: int, size: int, std: float = 0.02) -> None:
        super().__init__()
        self.size = size
        self.table = nn.Parameter(torch.empty(length, size))
        normal_(self.table, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, size) -> x + positions. Raises ValueError where x has another size or is longer than the table."""
        check_size(x, self.size)
        length = x.shape[-2]
        if length > len(self.table):
            raise ValueError(f"an input of {length} tokens is longer than the table of {len(self.table)} learned positions")
        return x + self.table[:length]


def check_size(x: Tensor, size: int) -> None:
    if x.shape[-1] != size:
        raise ValueError(f"x has size {x.shape[-1]}, the positions have {size=}")
