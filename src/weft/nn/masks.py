"""Masks: (B, T) bool, True = real, and the few things that every layer does with them."""

from __future__ import annotations

import torch
from torch import Tensor


def check(x: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless x is (B, T, D) with T ≥ 1 and mask is (B, T) bool."""
    if x.dim() != 3 or x.shape[1] == 0:
        raise ValueError(f"expected (batch, time, size) with at least one step, got {tuple(x.shape)}")
    if mask.shape != x.shape[:2]:
        raise ValueError(f"a mask of {tuple(mask.shape)} does not fit an input of {tuple(x.shape)}: it must be {tuple(x.shape[:2])}")
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask is bool, True = real, not {mask.dtype}")


def check_ids(ids: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless ids and their mask are of one shape (B, T), T at least 1."""
    if ids.dim() != 2 or not ids.shape[1] or mask.shape != ids.shape:
        raise ValueError(f"ids and mask are (batch, time), with at least one step, not {tuple(ids.shape)} and {tuple(mask.shape)}")


def check_prefix(mask: Tensor) -> None:
    """Raises ValueError where a row of the mask has holes: padding comes after all that is real. On the CPU alone, elsewhere looking would
    mean waiting for the device."""
    if mask.device.type == "cpu" and not torch.compiler.is_compiling() and (mask[:, 1:] > mask[:, :-1]).any():
        raise ValueError("rows must be real first and padding after; this mask has holes")


def zeroed(x: Tensor, mask: Tensor) -> Tensor:
    """x (B, T, D) with zeros where nothing is real; whatever stood there, NaN too, is gone."""
    return x.masked_fill(~mask.unsqueeze(-1), 0.0)


def from_lengths(lengths: Tensor, length: int) -> Tensor:
    """(B,) counts of real steps -> (B, length) mask, real steps first."""
    return torch.arange(length, device=lengths.device) < lengths.unsqueeze(-1)
