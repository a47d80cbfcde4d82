"""Rows of large tables, on the CPU: kernels for what a step does to the few rows that its batch looked up.

torch gathers the gradient of every single lookup, sorts them to join those of one row, and has no Adam that leaves the other rows
alone; here the rows are joined while they are found, and stepped where they lie. The kernels are compiled at their first use and
kept on disk. Lazy Adam: Kingma & Ba (2015), rows without a gradient left as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from weft.compiling import compiled

PADDING = 0


def gradient(ids: Tensor, shares: Tensor | None, upstream: Tensor, size: int) -> Tensor:
    """The gradient of a table (size, D) of whose rows sums were taken: sparse, coalesced, rows ascending.

    ids (B, T), shares (B, T) the factor of each lookup (None: 1), upstream (B, D) the gradient of the sums Σ_t shares·table[ids].
    Padding is no lookup. ids must be in 0 … size − 1: the forward pass has seen to that.
    """
    shares = torch.ones(ids.shape, dtype=upstream.dtype) if shares is None else shares.to(upstream.dtype)
    # contiguous, as another layout would be compiled anew
    lookups, factors, flat = (tensor.detach().contiguous().numpy() for tensor in (ids, shares, upstream))
    place = np.empty(size, np.int32)
    rows = np.sort(_distinct(lookups, place)).astype(np.int64)
    sums = torch.from_numpy(_joined(lookups, factors, flat, rows, place))
    indices = torch.from_numpy(rows)[None]
    return torch.sparse_coo_tensor(indices, sums, (size, sums.shape[1]), is_coalesced=True, check_invariants=False)


def adam(
    table: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    *,
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
    decay: float,
    step: int,
) -> None:
    """Adam's step number `step` (from 1), in place, on the rows of a coalesced gradient alone.

    `decay` is the share that is first taken off them. The tables must be contiguous.
    """
    number = table.detach().numpy().dtype.type
    scale, root = rate / (1 - betas[0] ** step), (1 - betas[1] ** step) ** 0.5
    scalars = [number(value) for value in (1 - betas[0], betas[1], 1 - betas[1], scale, 1 / root, epsilon, 1 - decay)]
    arrays = [tensor.detach().numpy() for tensor in (table, first, second, gradient.indices()[0], gradient.values())]
    _adam(*arrays, *scalars)


@compiled
def _distinct(ids: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The ids that occur, padding left out, in the order of their first occurrence.

    `place`, as long as the table, may hold anything.
    """
    rows = np.empty(ids.size, np.int32)  # sorted twice as fast as 64 bits
    count = 0
    for i in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            row = ids[i, j]
            if row != PADDING:
                seen = place[row]  # whatever lay there: it counts only where `rows` confirms it (Briggs & Torczon, 1993)
                if seen < 0 or seen >= count or rows[seen] != row:
                    place[row] = count
                    rows[count] = row
                    count += 1
    return rows[:count]


@compiled
def _joined(ids: np.ndarray, shares: np.ndarray, upstream: np.ndarray, rows: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The sum for each of `rows`, all that occur, of share × upstream over its lookups."""
    for k in range(rows.size):
        place[rows[k]] = k
    size = upstream.shape[1]
    sums = np.zeros((rows.size, size), upstream.dtype)
    for i in range(ids.shape[0]):
        source = upstream[i]
        for j in range(ids.shape[1]):
            if ids[i, j] != PADDING:
                total, share = sums[place[ids[i, j]]], shares[i, j]
                for d in range(size):
                    total[d] += share * source[d]
    return sums


@compiled
def _adam(
    table: np.ndarray, first: np.ndarray, second: np.ndarray, rows: np.ndarray, gradients: np.ndarray,
    fresh: Any, kept_square: Any, fresh_square: Any, scale: Any, root: Any, epsilon: Any, kept: Any,
) -> None:  # fmt: skip
    for k in range(rows.size):
        weights, means, squares, gradient = table[rows[k]], first[rows[k]], second[rows[k]], gradients[k]
        for d in range(table.shape[1]):
            mean = means[d] + (gradient[d] - means[d]) * fresh
            square = squares[d] * kept_square + gradient[d] * gradient[d] * fresh_square
            means[d], squares[d] = mean, square
            weights[d] = weights[d] * kept - scale * mean / (np.sqrt(square) * root + epsilon)
