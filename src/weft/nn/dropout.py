"""Dropout: units, whole sequences' units, or words, left out at random in training (E19).

p is the probability of being DROPPED; what stays is divided by 1 − p (inverted dropout), so that nothing is left to do
at prediction. Srivastava et al. (2014); variational: Gal and Ghahramani (2016); words: Iyyer et al. (2015).
Randomness is torch's global generator of the tensor's device, which checkpoints keep.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def keep_mask(shape: tuple[int, ...], p: float, device: torch.device) -> tuple[Tensor, float]:
    """(bool mask of what is kept, factor that makes up for the rest).

    On the CPU 16 random bits decide for each unit, four units from one 64-bit draw: five times as fast as one Bernoulli draw each.
    p is thereby rounded to a multiple of 2⁻¹⁶, and the factor is the inverse of the keep rate that really holds.
    """
    if device.type != "cpu":
        return torch.rand(shape, device=device) >= p, 1.0 / (1.0 - p)
    dropped = min(round(p * 65536), 65535)
    count = math.prod(shape)
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return bits.view(torch.int16)[:count].view(shape) >= dropped - 32768, 65536 / (65536 - dropped)


def dropout(x: Tensor, p: float, shape: tuple[int, ...] | None = None) -> Tensor:
    """x with units zeroed at rate p and the others scaled up; one draw for each element of `shape`, which broadcasts to x."""
    if p == 0.0:
        return x
    if shape is None and x.device.type != "cpu":
        return F.dropout(x, p)  # one fused kernel there
    keep, factor = keep_mask(tuple(x.shape) if shape is None else shape, p, x.device)
    return x * keep.to(x.dtype).mul_(factor)


class _Rate(nn.Module):
    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"a drop probability is at least 0 and below 1, got {p}")
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout(_Rate):
    """Every unit for itself: x of any shape; the identity in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x


class VariationalDropout(_Rate):
    """One mask a sequence: x (B, T, D), the same units left out at every step (Gal and Ghahramani, 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if x.dim() != 3:
            raise ValueError(f"expected (batch, time, size), got {tuple(x.shape)}")
        return dropout(x, self.p, (x.shape[0], 1, x.shape[2]))


class WordDropout(_Rate):
    """Whole words: ids (B, T) int become `unknown`, padding stays padding; vectors (B, T, D) become zero, the others are scaled up."""

    def __init__(self, p: float = 0.5, *, unknown: int = 1, padding: int = 0) -> None:
        super().__init__(p)
        self.unknown, self.padding = unknown, padding

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.is_floating_point():
            if x.dim() != 3:
                raise ValueError(f"expected (batch, time, size), got {tuple(x.shape)}")
            return dropout(x, self.p, (x.shape[0], x.shape[1], 1))
        keep, _ = keep_mask(tuple(x.shape), self.p, x.device)
        return x.masked_fill(~keep & (x != self.padding), self.unknown)
