"""Attention: align (score and softmax), then mix (E88); within a sequence or across two, with one head or many.

Bahdanau et al. (2015); scaled dot product and multiple heads: Vaswani et al. (2017, 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.nn.activations import softmax
from weft.nn.dropout import dropout
from weft.nn.initialisation import xavier_
from weft.nn.monotonic import expected_alignment
from weft.nn.positions import rotated

Score = Callable[[Tensor, Tensor], Tensor]
"""query (..., T, D), key (..., S, D) -> scores (..., T, S)."""


class Attended(NamedTuple):
    """What attention gives back: the mixed values (..., T, E) and, where asked for, the weights (..., T, S).

    state (..., T, S), where there is one, is handed in as `previous` at the next step: the alignment of monotonic attention.
    log_choice (..., T): log α of the position that hard attention drew.
    """

    context: Tensor
    weights: Tensor | None
    state: Tensor | None = None
    log_choice: Tensor | None = None


class Memory(NamedTuple):
    """A source, ready to be attended to: values (B, S, D), what its score made of them (B, S, ·), and the mask (B, S)."""

    values: Tensor
    keys: Tensor
    mask: Tensor


def scaled_dot(query: Tensor, key: Tensor) -> Tensor:
    """Scaled dot product, q·k / sqrt(D), D the size of a key (Vaswani et al., 2017; E89): (..., T, D), (..., S, D) -> (..., T, S)."""
    return (query / math.sqrt(key.shape[-1])) @ key.mT  # scaled before the product: there are fewer numbers there


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    score: Score = scaled_dot,
    previous: Tensor | None = None,
    weights: bool = False,
) -> Attended:
    """c = softmax(score(q, K)) V (E88, E94); with the alignment (..., T, S) of the step before, monotonic instead of softmax (E92).

    query (..., T, D), key (..., S, D), value (..., S, E). `mask`: True is visible; (..., S), one for all queries, or
    (..., T, S), one a query; what is hidden is left out before the softmax, and a query that sees nothing gets zeros (E95).
    The weights (..., T, S) come along when asked for; when they are not, the scaled dot product runs as PyTorch's fused
    kernel, which never stores them. With `previous`, stopping chances are σ(score), and the new alignment is the state given back;
    T is then not time but rows that are independent of each other.
    Raises ValueError where there is not one value a key, or the mask does not fit.
    """
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"{key.shape[-2]} keys, but {value.shape[-2]} values")
    mask = visible(mask, query, key)
    if previous is not None:
        p = torch.sigmoid(score(query, key))
        alpha = expected_alignment(p if mask is None else p.masked_fill(~mask, 0.0), previous)
        return Attended(alpha @ value, alpha if weights else None, alpha)
    if score is scaled_dot and not weights:
        return Attended(fused(query, key, value, mask), None)
    alpha = softmax(score(query, key), mask)
    return Attended(alpha @ value, alpha if weights else None)


def visible(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """The mask of keys (..., S), or of pairs (..., T, S), as one that broadcasts over scores (..., T, S)."""
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask is bool, True = visible, not {mask.dtype}")
    pairs = mask[..., None, :] if mask.ndim == query.ndim - 1 else mask
    scores = (*query.shape[:-1], key.shape[-2])
    if pairs.ndim != query.ndim or any(size not in (1, wanted) for size, wanted in zip(pairs.shape, scores, strict=True)):
        raise ValueError(f"a mask of shape {tuple(mask.shape)} does not fit scores of shape {scores}")
    return pairs


def fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float = 0.0, causal: bool = False) -> Tensor:
    """PyTorch's scaled dot-product attention, by a mask or causal, not both; a query that sees nothing gets zeros.

    On a CPU under autocast it runs in float32: there its backward pass in bfloat16 takes several times as long, and its
    forward pass is no faster.
    """
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return fused(query.float(), key.float(), value.float(), mask, rate, causal)
    if query.ndim == 3:  # kernels are there for four dimensions only: PyTorch would write three out
        mask = None if mask is None else mask.unsqueeze(1)
        return fused(query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1), mask, rate, causal).squeeze(1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate, is_causal=causal)


def earlier(length: int, device: torch.device | None = None) -> Tensor:
    """The causal mask (T, T): query i sees the keys j <= i (E95)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


class MultiHeadAttention(nn.Module):
    """[head_1; ...; head_H] W_O, each head a scaled dot-product attention of size / heads (Vaswani et al., 2017; E96).

    W_Q, W_K and W_V of all heads are stacked in one weight, in this order, as in torch.nn.MultiheadAttention: for
    self-attention they are one matrix product. Weights start as Xavier's, biases at zero. `dropout` is the probability
    of dropping an attention weight in training. combine="mean": every head has the full size, and the heads are averaged: that is
    concatenation with W_O = (1/H) [I; ...; I], which is then no parameter. rotary: queries and keys are turned by their positions
    (`weft.nn.positions.rotated`); for attention within a sequence.
    """

    def __init__(
        self, *, size: int, heads: int, dropout: float = 0.0, bias: bool = True, combine: str = "concat", rotary: bool = False
    ) -> None:
        super().__init__()
        if combine not in ("concat", "mean"):
            raise ValueError(f"{combine=} must be 'concat' or 'mean'")
        if heads < 1 or (combine == "concat" and size % heads):
            raise ValueError(f"{size=} must divide by {heads=}")
        if not 0 <= dropout < 1:
            raise ValueError(f"{dropout=} must be at least 0 and below 1")
        self.size, self.heads, self.dropout, self.combine, self.rotary = size, heads, dropout, combine, rotary
        width = size if combine == "concat" else heads * size  # of all heads' queries
        if rotary and width // heads % 2:
            raise ValueError(f"rotary positions turn pairs: the size of a head, {width // heads}, must be even")
        self.input = nn.Linear(size, 3 * width, bias=bias)
        self.output: nn.Module = nn.Linear(size, size, bias=bias) if combine == "concat" else nn.Identity()
        for part in self.input.weight.detach().chunk(3 if combine == "concat" else 3 * heads):
            xavier_(part)
        if bias:
            nn.init.zeros_(self.input.bias)
        if isinstance(self.output, nn.Linear):
            xavier_(self.output.weight.detach())
            if bias:
                nn.init.zeros_(self.output.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False, *, weights: bool = False
    ) -> Attended:
        """query (B, T, D), key and value (B, S, D) -> context (B, T, D), and the weights (B, H, T, S) when asked for.

        `mask`, True is visible: (B, S), or (B, T, S) for one a query. `causal`: query i sees keys j <= i only; both combine
        by "and". The weights are those before dropout. Pass one tensor three times for self-attention.
        Raises ValueError where sizes differ, the mask does not fit, or T != S with causal attention.
        """
        for name, x in (("query", query), ("key", key), ("value", value)):
            if x.shape[-1] != self.size:
                raise ValueError(f"the {name} has size {x.shape[-1]}, the attention size={self.size}")
        if causal and query.shape[-2] != key.shape[-2]:
            raise ValueError(f"causal attention needs as many queries as keys, not {query.shape[-2]} and {key.shape[-2]}")
        mask = visible(mask, query, key)
        queries, keys, values = (self.split(x) for x in self.project(query, key, value))
        if self.rotary:
            queries, keys = rotated(queries), rotated(keys)
        return self.mix(queries, keys, values, mask, causal, weights=weights)

    def mix(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, causal: bool = False, *, weights: bool = False
    ) -> Attended:
        """What `forward` gives, of projected and split queries (B, H, T, d), keys and values (B, H, S, d), ready or cached.

        mask: broadcasts over (B, T, S), as `visible` makes it.
        """
        mask = None if mask is None else mask[:, None]  # (B, 1, 1 or T, S)
        rate = self.dropout if self.training else 0.0
        # the CPU's kernel knows no dropout: PyTorch would write attention out too, and draw more slowly
        written_out = weights or (rate > 0 and queries.device.type == "cpu")
        if causal and (written_out or mask is not None):
            past = earlier(queries.shape[-2], queries.device)
            mask, causal = past if mask is None else mask & past, False
        if not written_out:
            return Attended(self.output(self.join(fused(queries, keys, values, mask, rate, causal))), None)
        alpha = softmax(scaled_dot(queries, keys), mask)
        return Attended(self.output(self.join(dropout(alpha, rate) @ values)), alpha if weights else None)

    def queries(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> what attends to keys that are ready, (B, H, T, d)."""
        return self.split(F.linear(x, *self._part(0, 1)))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, S, D) -> keys and values (B, H, S, d) each, in one product: a source's, worked out once."""
        keys, values = F.linear(x, *self._part(1, 3)).chunk(2, -1)
        return self.split(keys), self.split(values)

    def project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """The three input products: in one where there is one input, in two where key and value are one."""
        if query is key and key is value:
            return self.input(query).chunk(3, -1)
        if key is value:
            return (F.linear(query, *self._part(0, 1)), *F.linear(key, *self._part(1, 3)).chunk(2, -1))
        return tuple(F.linear(x, *self._part(place, place + 1)) for place, x in enumerate((query, key, value)))

    def _part(self, first: int, end: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of some of W_Q, W_K, W_V, numbered 0, 1, 2."""
        width = len(self.input.weight) // 3
        rows = slice(first * width, end * width)
        return self.input.weight[rows], None if self.input.bias is None else self.input.bias[rows]

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).transpose(-3, -2)  # (B, H, T, D / H)

    def join(self, x: Tensor) -> Tensor:
        return x.mean(-3) if self.combine == "mean" else x.transpose(-3, -2).flatten(-2)  # (B, T, D)
