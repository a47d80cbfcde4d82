"""Pooling: (B, T, D) and a mask -> one vector a row, of fixed size whatever the length (E30, E60, E109).

Only what the mask shows is seen. A row with nothing to see gives zeros. Equal maxima: the first alone counts, in value and gradient (E30).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weft.nn import masks
from weft.nn.activations import softmax
from weft.nn.passes import PassesPooling

Pool = Callable[[Tensor, Tensor], Tensor]


def _hidden(x: Tensor, mask: Tensor) -> Tensor:
    return x.masked_fill(~mask.unsqueeze(-1), -math.inf)


def max_over_time(x: Tensor, mask: Tensor) -> Tensor:
    """max_t x_t (Collobert and Weston, 2008; E60): (B, D)."""
    masks.check(x, mask)
    return _hidden(x, mask).max(dim=1).values.masked_fill(~mask.any(1, keepdim=True), 0.0)


def max_positions(x: Tensor, mask: Tensor) -> Tensor:
    """argmax_t x_t (B, D): the step each maximum came from, the first of equal ones, 0 in a row of nothing (E60)."""
    masks.check(x, mask)
    return _hidden(x.detach(), mask).max(dim=1).indices


def sum_over_time(x: Tensor, mask: Tensor) -> Tensor:
    """Σ_t x_t: (B, D). Adds in fp32 at least: bf16 would lose small terms."""
    masks.check(x, mask)
    wide = torch.promote_types(x.dtype, torch.float32)
    return masks.zeroed(x, mask).sum(1, dtype=wide).to(x.dtype)


def mean_over_time(x: Tensor, mask: Tensor) -> Tensor:
    """(1/n) Σ_t x_t over the n real steps: (B, D)."""
    masks.check(x, mask)
    wide = torch.promote_types(x.dtype, torch.float32)
    total = masks.zeroed(x, mask).sum(1, dtype=wide)
    return (total / mask.sum(1, keepdim=True).clamp(min=1)).to(x.dtype)


def k_max(x: Tensor, mask: Tensor, k: int) -> Tensor:
    """The k largest values of every channel, in the order they stand in (Kalchbrenner et al., 2014): (B, k·D), the first steps' D first.

    Rows of fewer than k steps give all they have, then zeros.
    """
    masks.check(x, mask)
    if k < 1:
        raise ValueError(f"k-max pooling takes at least 1 value, got {k=}")
    k_here = min(k, x.shape[1])
    with torch.no_grad():
        left, found = _hidden(x, mask), []
        for _ in range(k_here):  # k rounds of max: topk leaves open which of equal values it takes, so that batch mates could matter
            best = left.max(dim=1, keepdim=True).indices
            found.append(best)
            left = left.scatter(1, best, -math.inf)
        short = mask.sum(1)[:, None, None] <= torch.arange(k_here, device=x.device)[:, None]  # (B, k, 1): this row has no such value
        where = torch.cat(found, dim=1).masked_fill(short, x.shape[1]).sort(dim=1).values  # steps in order, what is missing last
    values = x.gather(1, where.clamp(max=x.shape[1] - 1)).masked_fill(short, 0.0)
    return F.pad(values, (0, 0, 0, k - k_here)).flatten(1)


def first(x: Tensor, mask: Tensor) -> Tensor:
    """The first real step: (B, D)."""
    masks.check(x, mask)
    return _at(x, mask.int().argmax(1), mask)


def last(x: Tensor, mask: Tensor) -> Tensor:
    """The last real step: (B, D)."""
    masks.check(x, mask)
    steps = torch.arange(x.shape[1], device=x.device)
    return _at(x, (mask * steps).argmax(1), mask)


def _at(x: Tensor, step: Tensor, mask: Tensor) -> Tensor:
    picked = x[torch.arange(x.shape[0], device=x.device), step]  # not len(x), which an exporter would freeze
    return picked.masked_fill(~mask.any(1, keepdim=True), 0.0)


def ends(x: Tensor, mask: Tensor) -> Tensor:
    """Where each of two directions has read everything: the first half of the channels at the last step, the second at the first."""
    if x.shape[-1] % 2:
        raise ValueError(f"the ends of two directions need an even number of channels, got {x.shape[-1]}")
    half = x.shape[-1] // 2
    return torch.cat([last(x[..., :half], mask), first(x[..., half:], mask)], dim=-1)


def concat(x: Tensor, mask: Tensor) -> Tensor:
    """[last; max; mean] (Howard and Ruder, 2018; E109): (B, 3·D)."""
    return torch.cat([last(x, mask), max_over_time(x, mask), mean_over_time(x, mask)], dim=-1)


def regional(x: Tensor, mask: Tensor, regions: int, how: Pool = max_over_time) -> Tensor:
    """Cuts every row's n steps into `regions` stretches, step t in stretch ⌊t·regions/n⌋, and pools each: (B, regions·P).

    Stretches differ by one step at most; where n < regions some are empty, thus zeros (Johnson and Zhang, 2015).
    """
    masks.check(x, mask)
    if regions < 1:
        raise ValueError(f"at least 1 region, got {regions=}")
    order = mask.cumsum(1) - 1
    region = order * regions // mask.sum(1, keepdim=True).clamp(min=1)
    return torch.cat([how(x, mask & (region == number)) for number in range(regions)], dim=-1)


class AttentivePooling(nn.Module):
    """Σ_t α_t x_t, α = softmax_t(v·tanh(W x_t + b)), over the real steps (Yang et al., 2016): (B, D)."""

    def __init__(self, *, size: int, hidden_size: int | None = None) -> None:
        super().__init__()
        self.output_size = size
        self.inner = nn.Linear(size, hidden_size or size)
        self.score = nn.Linear(hidden_size or size, 1, bias=False)

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        """α (B, T), zeros where nothing is real."""
        masks.check(x, mask)
        scores = self.score(torch.tanh(self.inner(masks.zeroed(x, mask)))).squeeze(-1)
        return softmax(scores.float() if scores.dtype == torch.bfloat16 else scores, mask)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        weights = self.weights(x, mask).to(x.dtype)
        return (weights.unsqueeze(1) @ masks.zeroed(x, mask)).squeeze(1)


POOLINGS: dict[str, Callable[..., Any]] = {
    "max": max_over_time,
    "mean": mean_over_time,
    "sum": sum_over_time,
    "k-max": k_max,
    "first": first,
    "last": last,
    "ends": ends,
    "concat": concat,
    "attentive": AttentivePooling,
    "passes": PassesPooling,
    "regional-max": partial(regional, how=max_over_time),
    "regional-mean": partial(regional, how=mean_over_time),
}


class Pooling(nn.Module):
    """One of POOLINGS by its name: (B, T, size) and a mask -> (B, output_size).

    `k` is for "k-max", `regions` for the regional ones, `passes` for "passes".
    """

    def __init__(self, *, kind: str, size: int, k: int = 3, regions: int = 3, passes: int = 2) -> None:
        super().__init__()
        if kind not in POOLINGS:
            raise ValueError(f"no pooling {kind!r}; there are: {', '.join(POOLINGS)}")
        if min(k, regions, passes) < 1:
            raise ValueError(f"at least 1 of each, got {k=}, {regions=}, {passes=}")
        if kind == "ends" and size % 2:
            raise ValueError(f"the ends of two directions need an even number of channels, got {size=}")
        self.kind, self.size, self.k, self.regions = kind, size, k, regions
        self.attentive = AttentivePooling(size=size) if kind == "attentive" else None
        self.passes = PassesPooling(size=size, passes=passes) if kind == "passes" else None
        self.output_size = size * {"k-max": k, "concat": 3, "regional-max": regions, "regional-mean": regions}.get(kind, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.attentive is not None:
            return self.attentive(x, mask)
        if self.passes is not None:
            return self.passes(x, mask)
        if self.kind == "k-max":
            return k_max(x, mask, self.k)
        if self.kind.startswith("regional"):
            return POOLINGS[self.kind](x, mask, self.regions)
        return POOLINGS[self.kind](x, mask)

    def weights(self, x: Tensor, mask: Tensor) -> Tensor | None:
        """How much of each step the answer is made of, (B, K, T), one row a pass; None for what does not weigh."""
        if self.passes is not None:
            return self.passes.weights(x, mask)
        return None if self.attentive is None else self.attentive.weights(x, mask).unsqueeze(1)

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}, size={self.size}, k={self.k}, regions={self.regions}"


def max_pool_2d(x: Tensor, size: int = 2, stride: int | None = None) -> Tensor:
    """Maximum over size × size patches of images (B, C, H, W), `stride` apart (None: size); what is left over is dropped (E28)."""
    return F.max_pool2d(x, size, stride)
