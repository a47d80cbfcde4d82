"""One token out of a vocabulary: the largest, or one drawn, from the k likeliest or the smallest set that reaches p.

Top-k (Fan et al., 2018); top-p, nucleus sampling (Holtzman et al., 2020). Nothing here depends on the other rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy
import torch
from torch import Tensor
from torch.nn import functional

GROUP = 16  # columns of which `largest` looks at the maximum first
FIRST, SECOND = 64, 512  # tokens among which a nucleus is looked for, before all are
BLOCK = 64  # uniform numbers that a source draws at once


def log_probabilities(logits: Tensor) -> Tensor:
    """log softmax (N, V), in float32 at least; the tensor is a new one."""
    return logits.log_softmax(-1, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of every row of x (N, M) and their columns, largest first: what topk gives, four times as fast where M is large.

    The k largest stand in the k groups of columns with the largest maxima, and those are found a register at a time.
    """
    size = x.shape[1]
    groups = size // GROUP
    if size < 1024 or k * 4 > groups:
        values, columns = x.topk(k)
        return values, columns
    grouped = x[:, : groups * GROUP].view(len(x), GROUP, groups)  # group g: the columns g, g + groups, …
    best = grouped.amax(1).topk(k).indices  # (N, k)
    chosen = grouped.gather(2, best[:, None].expand(-1, GROUP, -1)).flatten(1)
    columns = (best[:, None] + torch.arange(0, groups * GROUP, groups, device=x.device)[:, None]).flatten(1)
    if groups * GROUP < size:
        rest = torch.arange(groups * GROUP, size, device=x.device).expand(len(x), -1)
        chosen, columns = torch.cat((chosen, x[:, groups * GROUP :]), 1), torch.cat((columns, rest), 1)
    values, found = chosen.topk(k)
    return values, columns.gather(1, found)


def _sums(weights: Tensor) -> Tensor:
    """Running sums, in float64 where the device has it."""
    return (weights.float() if weights.device.type == "mps" else weights.double()).cumsum(1)


def draw(logp: Tensor, uniforms: Tensor, *, temperature: float, top_k: int | None, top_p: float) -> Tensor:
    """A token a row (N,) from softmax(logp / temperature), of the top_k likeliest, of those the fewest that reach top_p.

    logp (N, V), −inf for what may not be drawn; uniforms (N,) in [0, 1), float64. A row that may draw nothing gives any token.
    """
    p = (logp / temperature).softmax(-1)
    if top_k is not None and top_k < p.shape[1]:
        weights, tokens = p.topk(top_k)
        picked = _pick(_nucleus(weights, top_p * _sums(weights)[:, -1:]), uniforms)
        return tokens.gather(1, picked[:, None])[:, 0]
    if top_p >= 1:
        return _pick(p, uniforms)
    return _draw_from_nucleus(p, uniforms, top_p)


def _draw_from_nucleus(p: Tensor, uniforms: Tensor, top_p: float) -> Tensor:
    """Without sorting the vocabulary: the likeliest few reach top_p in most rows; more are looked at where they do not."""
    drawn = torch.empty(len(p), dtype=torch.long, device=p.device)
    rows, count = torch.arange(len(p), device=p.device), FIRST
    while len(rows):
        count = min(count, p.shape[1])
        weights, tokens = p[rows].topk(count)
        enough = _sums(weights)[:, -1] >= top_p
        if count == p.shape[1]:
            enough = torch.ones_like(enough)
        picked = _pick(_nucleus(weights, top_p), uniforms[rows])
        found = tokens.gather(1, picked[:, None])[:, 0]
        drawn[rows[enough]] = found[enough]
        rows, count = rows[~enough], SECOND if count < SECOND else p.shape[1]
    return drawn


def _nucleus(weights: Tensor, reach: Tensor | float) -> Tensor:
    """weights (N, k), largest first, with zeros after the first that bring the sum to `reach`; the first always stays."""
    before = functional.pad(_sums(weights)[:, :-1], (1, 0))
    return weights * (before < reach)


def _pick(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Column c of a row with probability weights[c] / Σ: the first at which the running sum exceeds u · Σ, so never one of weight 0."""
    running = _sums(weights)
    total = running[:, -1]
    place = torch.minimum(uniforms.to(total.dtype) * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(running, place[:, None], right=True)[:, 0].clamp(max=weights.shape[1] - 1)


class Uniforms:
    """Numbers in [0, 1), from a stream of its own for every source: a function of seed, the source's number and the step alone."""

    def __init__(self, seed: int, numbers: Sequence[int]) -> None:
        self.streams = [numpy.random.default_rng([seed, number]) for number in numbers]
        self.block = numpy.empty((len(numbers), 0))

    def at(self, step: int) -> Tensor:
        """(N,) float64; steps are asked for in order, from 0."""
        if step % BLOCK == 0:
            self.block = numpy.stack([stream.random(BLOCK) for stream in self.streams])
        return torch.from_numpy(self.block[:, step % BLOCK].copy())

    def keep(self, rows: Iterable[int]) -> None:
        """Only these sources stay."""
        chosen = list(rows)
        self.streams = [self.streams[row] for row in chosen]
        self.block = self.block[chosen]
