"""A linear model on vectors, in float64: small enough that every step of its training can be written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weft.data.batch import Batch, Batches
from weft.nn.dropout import Dropout


class Linear(nn.Module):
    """W x for a batch of vectors (B, 1, D) -> (B, K), after dropout; remembers in which mode it was called."""

    def __init__(self, size: int, outputs: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.7, outputs * size, dtype=torch.float64).view(outputs, size))
        self.dropout = Dropout(dropout)
        self.modes: list[tuple[bool, bool]] = []  # (training, gradients on)

    def forward(self, batch: Batch) -> Tensor:
        self.modes.append((self.training, torch.is_grad_enabled()))
        return self.dropout(batch.inputs[:, 0].double()) @ self.weight.T

    def layer_groups(self) -> list[list[str]]:
        """All of it is head."""
        return []


def regression(count: int = 12, size: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, D) and targets (N,), numbers that float32 holds exactly."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(count, size)).astype(np.float32)
    return inputs, (inputs @ np.arange(1, size + 1) + draw.normal(size=count)).astype(np.float32)


def batches_of(inputs: np.ndarray, targets: np.ndarray, **options: Any) -> Batches:
    """One vector a row."""
    return Batches([row[None] for row in inputs], targets=torch.from_numpy(targets), **options)
