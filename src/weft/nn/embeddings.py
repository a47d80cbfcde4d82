"""Embeddings: ids -> vectors, and ways of joining vectors without recurrence: bags, windows, both; sparse counts (E8, E31–E34)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from weft.nn import masks

PADDING = 0


class TokenEmbedding(nn.Module):
    """Lookup E[w] = Eᵀ e_w (E32): ids (B, T) -> (B, T, size). Row 0 is padding: zeros, and never a gradient.

    sparse=True: the gradient holds only the rows that were looked up, for large hashed tables and optimizers that leave the others alone.
    std: of the normal start; scale: a factor on the output, such as √size in a Transformer (Vaswani et al., 2017, 3.4).
    trained=False: the table is no parameter but a buffer, saved with the rest and never changed.
    """

    weight: Tensor

    def __init__(
        self, *, vocabulary_size: int, size: int, sparse: bool = False, std: float = 0.1, scale: float = 1.0, trained: bool = True
    ) -> None:
        super().__init__()
        if min(vocabulary_size, size) < 1:
            raise ValueError(f"sizes are at least 1, got {vocabulary_size=}, {size=}")
        self.vocabulary_size, self.size, self.sparse, self.scale = vocabulary_size, size, sparse, scale
        table = torch.empty(vocabulary_size, size).normal_(0.0, std)
        table[PADDING] = 0.0
        if trained:
            self.weight = nn.Parameter(table)
        else:
            self.register_buffer("weight", table)

    @torch.no_grad()
    def start_from(self, vectors: Tensor) -> None:
        """The first rows become `vectors` (V', size); padding stays zero. Later rows stay as drawn or, where nothing trains them, are zero.

        Raises ValueError where they are wider or narrower than the table, or more than its rows.
        """
        if vectors.dim() != 2 or vectors.shape[1] != self.size or len(vectors) > self.vocabulary_size:
            raise ValueError(f"vectors of {tuple(vectors.shape)} do not fit a table of {(self.vocabulary_size, self.size)}")
        self.weight[: len(vectors)] = vectors
        self.weight[PADDING] = 0.0
        if not isinstance(self.weight, nn.Parameter):
            self.weight[len(vectors) :] = 0.0

    def forward(self, ids: Tensor) -> Tensor:
        if self._by_rows():
            vectors: Tensor = _Lookup.apply(self.weight, ids, None)  # type: ignore[no-untyped-call]
        else:
            vectors = F.embedding(ids, self.weight, padding_idx=PADDING, sparse=self.sparse)
        return vectors if self.scale == 1.0 else vectors * self.scale

    def bag(self, ids: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
        """`bag(self(ids), mask, weights)` in one step, the (B, T, size) vectors never made: (B, size)."""
        if mask.shape != ids.shape:
            raise ValueError(f"a mask of {tuple(mask.shape)} does not fit ids of {tuple(ids.shape)}")
        shares = _shares(mask, weights, self.weight.dtype) * self.scale
        if self._by_rows() and not shares.requires_grad:
            return _Lookup.apply(self.weight, ids, shares)  # type: ignore[no-untyped-call]
        learning = torch.is_grad_enabled() and (self.weight.requires_grad or shares.requires_grad)
        padding = PADDING if learning else None  # a row of zeros is no matter without gradients, and torch's faster kernels do not skip it
        return F.embedding_bag(ids, self.weight, mode="sum", per_sample_weights=shares, sparse=self.sparse, padding_idx=padding)

    def _by_rows(self) -> bool:
        """Whether the gradient is left to the kernels in `rows`."""
        learning = torch.is_grad_enabled() and self.weight.requires_grad and not torch.compiler.is_compiling()
        return self.sparse and learning and self.weight.device.type == "cpu"

    def extra_repr(self) -> str:
        fixed = "" if isinstance(self.weight, nn.Parameter) else ", trained=False"
        return f"vocabulary_size={self.vocabulary_size}, size={self.size}, sparse={self.sparse}{fixed}"


class TwoChannelEmbedding(nn.Module):
    """Two lookups with one start, `fixed` and `tuned`, added: ids (B, T) -> (B, T, size) (Kim, 2014, section 2.1, CNN-multichannel).

    Kim applies every filter to both channels and adds the results before bias and activation. What is linear there,
    w·x + w·x' = w·(x + x'), so adding the vectors first is the same at half the cost, and serves every other encoder too.
    """

    def __init__(self, *, vocabulary_size: int, size: int, sparse: bool = False, std: float = 0.1) -> None:
        super().__init__()
        self.tuned = TokenEmbedding(vocabulary_size=vocabulary_size, size=size, sparse=sparse, std=std)
        self.fixed = TokenEmbedding(vocabulary_size=vocabulary_size, size=size, std=std, trained=False)
        self.fixed.start_from(self.tuned.weight.detach())

    def start_from(self, vectors: Tensor) -> None:
        """Both channels' first rows become `vectors` (V', size), as TokenEmbedding.start_from."""
        self.tuned.start_from(vectors)
        self.fixed.start_from(vectors)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fixed(ids) + self.tuned(ids)

    def bag(self, ids: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
        """`bag(self(ids), mask, weights)`, the (B, T, size) vectors never made: (B, size)."""
        return self.fixed.bag(ids, mask, weights) + self.tuned.bag(ids, mask, weights)


class _Lookup(torch.autograd.Function):
    """table, ids (B, T) -> vectors (B, T, D), or with shares (B, T) their weighted sums (B, D); the gradient holds the rows that occur."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, shares: Tensor | None) -> Tensor:
        ctx.save_for_backward(ids, shares)
        ctx.size = len(table)
        return F.embedding(ids, table) if shares is None else F.embedding_bag(ids, table, mode="sum", per_sample_weights=shares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        from weft.nn import rows  # numba takes half a second to start

        ids, shares = ctx.saved_tensors
        if shares is None:
            ids, upstream = ids.reshape(-1, 1), upstream.reshape(-1, upstream.shape[-1])
        return rows.gradient(ids, shares, upstream, ctx.size), None, None


class CountInput(nn.Module):
    """counts @ W (+ b) for sparse counts x of V features: z_k = Σ_j w_{jk} x_j (E8, E31, E32), x never stored densely.

    forward(ids (N,), offsets (B,), weights (N,) or None) -> (B, size): row i has the features ids[offsets[i]:offsets[i + 1]], each counted
    as its weight (1 without weights); the same id may come several times.
    """

    def __init__(self, *, vocabulary_size: int, size: int, bias: bool = False, sparse: bool = False, std: float = 0.1) -> None:
        super().__init__()
        if min(vocabulary_size, size) < 1:
            raise ValueError(f"sizes are at least 1, got {vocabulary_size=}, {size=}")
        self.vocabulary_size, self.size, self.sparse = vocabulary_size, size, sparse
        self.weight = nn.Parameter(torch.empty(vocabulary_size, size).normal_(0.0, std))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, ids: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
        if ids.dim() != 1 or offsets.dim() != 1:
            raise ValueError(f"ids and offsets are flat, got {tuple(ids.shape)} and {tuple(offsets.shape)}")
        weights = None if weights is None else weights.to(self.weight.dtype)
        total = F.embedding_bag(ids, self.weight, offsets, mode="sum", per_sample_weights=weights, sparse=self.sparse)
        return total if self.bias is None else total + self.bias

    def extra_repr(self) -> str:
        return f"vocabulary_size={self.vocabulary_size}, size={self.size}, sparse={self.sparse}"


def _shares(mask: Tensor, weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What each step contributes to a mean: mask/n, or a/Σa; (B, T)."""
    if weights is None:
        return mask.to(dtype) / mask.sum(1, keepdim=True).clamp(min=1)
    if weights.shape != mask.shape:
        raise ValueError(f"weights of {tuple(weights.shape)} do not fit a mask of {tuple(mask.shape)}")
    weights = weights.to(dtype).masked_fill(~mask, 0.0)
    total = weights.sum(1, keepdim=True)
    empty = ~mask.any(1, keepdim=True)
    if bool(((total == 0) & ~empty).any()):
        raise ValueError("the weights of a bag that is not empty sum to 0: their mean is undefined")
    return weights / total.masked_fill(empty, 1.0)


def bag(x: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Continuous bag of words (1/k) Σ v_i, or with weights (B, T) Σ a_i v_i / Σ a_i (E34): (B, T, D) -> (B, D).

    An empty bag is the zero vector. Raises ValueError where the weights of a bag that is not empty sum to 0.
    """
    masks.check(x, mask)
    wide = torch.promote_types(x.dtype, torch.float32)
    shares = _shares(mask, weights, wide).unsqueeze(-1)
    return (masks.zeroed(x, mask) * shares).sum(1).to(x.dtype)  # not a matrix product: autocast would round the shares to bf16


def concatenated_windows(x: Tensor, mask: Tensor, *, left: int, right: int) -> Tensor:
    """[x_{t−left}; …; x_{t+right}] at every step t, zeros beyond the ends (E33): (B, T, D) -> (B, T, (left + 1 + right)·D)."""
    masks.check(x, mask)
    if min(left, right) < 0:
        raise ValueError(f"a window reaches 0 steps or more to each side, got {left=}, {right=}")
    length = x.shape[1]
    padded = F.pad(masks.zeroed(x, mask), (0, 0, left, right))
    windows = torch.cat([padded[:, i : i + length] for i in range(left + 1 + right)], dim=-1)
    return masks.zeroed(windows, mask)


def hybrid_windows(x: Tensor, mask: Tensor, *, near: int, far: int) -> Tensor:
    """Up to `near` steps away concatenated, the rest up to `far` summed, both joined (E33): (B, T, D) -> (B, T, (2·near + 2)·D)."""
    if not 0 <= near < far:
        raise ValueError(f"near is 0 or more and less than far, got {near=}, {far=}")
    close = concatenated_windows(x, mask, left=near, right=near)
    length = x.shape[1]
    padded = F.pad(masks.zeroed(x, mask), (0, 0, far, far))
    distances = [d for d in range(-far, far + 1) if abs(d) > near]
    rest = torch.stack([padded[:, far + d : far + d + length] for d in distances]).sum(0)
    return torch.cat([close, masks.zeroed(rest, mask)], dim=-1)
