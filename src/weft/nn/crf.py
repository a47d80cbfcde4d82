"""Linear-chain conditional random fields: the labels of a sentence chosen together (Lafferty, McCallum & Pereira, 2001; E65).

score(y) = start(y_1) + Σ_t logits_t(y_t) + Σ_t transitions(y_{t−1}, y_t) + end(y_n)
log Z = log Σ_y exp score(y),  P(y) = exp(score(y) − log Z),  loss = log Z − score(gold)

B sentences, T the longest's tokens, K labels. Rows of the mask are prefixes: True is real. What lies at padding, NaN too, is not looked
at. A row without tokens has one path, the empty one: log Z and score are 0. −inf in a chain forbids. Without a chain every token is by
itself, the softmax that transitions of zero amount to. bfloat16 and float16 logits are widened to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Chain:
    """How labels follow each other: transitions (K, K) [from, to], start (K,), end (K,); −inf where forbidden."""

    transitions: Tensor
    start: Tensor
    end: Tensor


@dataclass(frozen=True, eq=False)
class Emissions:
    """What a tagger gives: logits (B, T, K), mask (B, T), and a chain; without one every token is by itself."""

    logits: Tensor
    mask: Tensor
    chain: Chain | None = None


class CRF(nn.Module):
    """The chain's weights: `transitions` (labels, labels) [from, to], `start`, `end`; they start at zero, as independent labels.

    allowed: which are legal, as bool arrays (start, transitions, end); the rest is −inf, gets no gradient and is never decoded.
    """

    def __init__(self, *, labels: int, allowed: tuple[np.ndarray | Tensor, np.ndarray | Tensor, np.ndarray | Tensor] | None = None) -> None:
        super().__init__()
        if labels < 1:
            raise ValueError(f"{labels=} must be at least 1")
        self.labels = labels
        self.transitions = nn.Parameter(torch.zeros(labels, labels))
        self.start = nn.Parameter(torch.zeros(labels))
        self.end = nn.Parameter(torch.zeros(labels))
        shapes = {"start": (labels,), "transitions": (labels, labels), "end": (labels,)}
        for place, (name, shape) in enumerate(shapes.items()):
            legal = None if allowed is None else torch.as_tensor(allowed[place]).to(torch.bool).clone()
            if legal is not None and legal.shape != shape:
                raise ValueError(f"allowed {name} {tuple(legal.shape)} must be {shape} for {labels=}")
            self.register_buffer(f"{name}_allowed", legal)

    def extra_repr(self) -> str:
        return f"labels={self.labels}"

    def chain(self) -> Chain:
        """The weights as a Chain, −inf where they are not allowed."""
        parts = {}
        for name in ("transitions", "start", "end"):
            legal, weights = getattr(self, f"{name}_allowed"), getattr(self, name)
            parts[name] = weights if legal is None else weights.masked_fill(~legal, -torch.inf)
        return Chain(**parts)


def log_partition(emissions: Emissions) -> Tensor:
    """log Z (B,) = log Σ_y exp score(y).

    Raises ValueError for shapes that do not fit, a mask with holes, and a row that has no legal path.
    """
    return _loss(emissions, None)


def chain_loss(emissions: Emissions, tags: Tensor) -> Tensor:
    """−log P(tags) (B,) = log Z − score(tags), of tags (B, T). Its gradient is expected minus gold counts.

    Raises ValueError as path_score, and for tags that the chain forbids, naming the step.
    """
    return _loss(emissions, tags)


def path_score(emissions: Emissions, tags: Tensor) -> Tensor:
    """score(tags) (B,), of tags (B, T); −inf for a forbidden path. What is at padding in `tags` does not matter.

    Raises ValueError as log_partition, and for tags outside 0 … K − 1.
    """
    logits, mask, chain = _checked(emissions)
    return _score(logits, mask, chain, _checked_tags(tags, logits, mask))


def viterbi(emissions: Emissions) -> tuple[Tensor, Tensor]:
    """The best paths: tags (B, T) int64, 0 at padding, and their scores (B,). Raises ValueError as log_partition."""
    from weft.nn import crf_kernels  # numba takes half a second to start

    logits, mask, chain = _checked(emissions)
    arrays, threads = _arrays(logits, mask, chain or _free(logits)), torch.get_num_threads()
    tags, scores = crf_kernels.best(*arrays, threads=threads)
    return torch.from_numpy(tags).to(logits.device), _legal(torch.from_numpy(scores), mask).to(logits)


def k_best(emissions: Emissions, k: int) -> tuple[Tensor, Tensor]:
    """The k best paths, best first: tags (B, k, T) int64, scores (B, k); −inf, and tags of 0, where there are fewer paths.

    Raises ValueError as log_partition, and for k < 1.
    """
    from weft.nn import crf_kernels

    if k < 1:
        raise ValueError(f"{k=} must be at least 1")
    logits, mask, chain = _checked(emissions)
    arrays, threads = _arrays(logits, mask, chain or _free(logits)), torch.get_num_threads()
    tags, scores = (torch.from_numpy(array) for array in crf_kernels.best_several(*arrays, k, threads=threads))
    _legal(scores[:, 0], mask)
    return tags.to(logits.device), scores.to(logits)


def marginals(emissions: Emissions) -> Tensor:
    """P(y_t = k) (B, T, K), 0 at padding; no gradient. Raises ValueError as log_partition."""
    logits, mask, chain = _checked(emissions)
    if chain is None:
        return logits.detach().softmax(-1).where(mask[..., None], 0)
    totals, _, unary, _ = _forward_backward(logits, mask, chain, None, gradients=True)
    _legal(totals, mask)
    return unary.to(logits.device)


def _loss(emissions: Emissions, tags: Tensor | None) -> Tensor:
    """log Z (B,), less the score of `tags` where there are any."""
    logits, mask, chain = _checked(emissions)
    tags = None if tags is None else _checked_tags(tags, logits, mask)
    if chain is None:
        logits = logits.masked_fill(~mask[..., None], 0)  # NaN would have a gradient of NaN
        totals = logits.logsumexp(-1).where(mask, 0).sum(1)
        return totals if tags is None else totals - _score(logits, mask, chain, tags)
    if logits.device.type != "cpu":
        return _by_steps(logits, mask, chain, tags)
    parts = (logits, chain.transitions, chain.start, chain.end)
    gradients = torch.is_grad_enabled() and any(part.requires_grad for part in parts)
    losses: Tensor = _Loss.apply(*parts, mask, tags, gradients)  # type: ignore[no-untyped-call]
    return losses


class _Loss(torch.autograd.Function):
    """log Z − score with the gradient worked out on the way, by `crf_kernels`; a gradient of the gradient is left to `_by_steps`."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, transitions: Tensor, start: Tensor, end: Tensor, mask: Tensor, tags: Tensor | None, gradients: bool
    ) -> Tensor:
        chain = Chain(transitions, start, end)
        totals, scores, unary, pairs = _forward_backward(logits, mask, chain, tags, gradients=gradients)
        _refuse(totals, scores, mask, chain, tags)
        if gradients:
            ctx.save_for_backward(logits, transitions, start, end, mask, tags, unary, pairs)
        return (totals - scores).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, transitions, start, end, mask, tags, unary, pairs = ctx.saved_tensors
        inputs, wanted = (logits, transitions, start, end), ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():  # the gradient will be differentiated
            losses = _by_steps(logits, mask, Chain(transitions, start, end), tags)
            asked = [part for part, needed in zip(inputs, wanted, strict=True) if needed]
            found = iter(torch.autograd.grad(losses, asked, upstream, create_graph=True, allow_unused=True))
            return (*(next(found) if needed else None for needed in wanted), None, None, None)
        scaled = unary * upstream[:, None, None]
        if not scaled.shape[1]:
            return (scaled, *(torch.zeros_like(part) for part in inputs[1:]), None, None, None)
        last = (mask.sum(1) - 1).clamp(min=0)
        ends = scaled[torch.arange(len(last)), last].sum(0)
        steps = (upstream @ pairs.flatten(1)).view_as(transitions)
        return scaled, steps, scaled[:, 0].sum(0), ends, None, None, None


def _forward_backward(
    logits: Tensor, mask: Tensor, chain: Chain, tags: Tensor | None, *, gradients: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log Z and scores (B,) float64, and their difference's gradients of logits (B, T, K) and transitions (B, K, K), on the CPU."""
    from weft.nn import crf_kernels  # numba takes half a second to start

    values, lengths, arrays = _arrays(logits, mask, chain)
    wide = torch.from_numpy(values).double()
    peaks = wide.amax(-1)
    peaks.masked_fill_(peaks == -torch.inf, 0)
    exps = (wide - peaks[..., None]).exp_()
    gold = None if tags is None else tags.detach().cpu().contiguous().numpy()
    found = crf_kernels.sums(
        values, peaks.numpy(), exps.numpy(), lengths, arrays, gold, gradients=gradients, threads=torch.get_num_threads()
    )
    totals, scores, unary, pairs = (torch.from_numpy(array) for array in found)
    return totals, scores, unary, pairs


def _arrays(logits: Tensor, mask: Tensor, chain: Chain) -> tuple[Any, Any, tuple[Any, Any, Any]]:
    """Logits, lengths, and the chain in float64, for kernels. Contiguous, as another layout would be compiled anew."""
    start, transitions, end = (part.detach().double().cpu().contiguous().numpy() for part in (chain.start, chain.transitions, chain.end))
    return logits.detach().cpu().contiguous().numpy(), mask.sum(1).cpu().numpy(), (transitions, start, end)


def _free(logits: Tensor) -> Chain:
    labels = logits.shape[-1]
    return Chain(logits.new_zeros(labels, labels), logits.new_zeros(labels), logits.new_zeros(labels))


def _checked(emissions: Emissions) -> tuple[Tensor, Tensor, Chain | None]:
    """Logits, mask and chain in one precision and of shapes that fit."""
    logits, mask, chain = emissions.logits, emissions.mask, emissions.chain
    if logits.dim() != 3 or not logits.shape[-1]:
        raise ValueError(f"logits {tuple(logits.shape)} must be (B, T, K) with at least one label")
    if mask.shape != logits.shape[:2]:
        raise ValueError(f"mask {tuple(mask.shape)} must be {tuple(logits.shape[:2])}, as the logits are")
    mask = mask.to(torch.bool)
    holes = mask[:, 1:] > mask[:, :-1]
    if holes.any():
        raise ValueError(f"mask must be a prefix of each row; row {int(holes.nonzero()[0, 0])} has a hole")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if chain is not None:
        labels = logits.shape[-1]
        for name, shape in (("transitions", (labels, labels)), ("start", (labels,)), ("end", (labels,))):
            part = getattr(chain, name)
            if part.shape != shape:
                raise ValueError(f"the chain's {name} {tuple(part.shape)} must be {shape}, as the logits have {labels} labels")
            dtype = torch.promote_types(dtype, part.dtype)
        chain = Chain(chain.transitions.to(dtype), chain.start.to(dtype), chain.end.to(dtype))
    return logits.to(dtype), mask, chain


def _checked_tags(tags: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Tags, 0 at padding."""
    if tags.shape != mask.shape:
        raise ValueError(f"tags {tuple(tags.shape)} must be {tuple(mask.shape)}, as the mask is")
    labels = logits.shape[-1]
    tags = tags.to(torch.int64).masked_fill(~mask, 0)
    if tags.numel():
        least, most = (int(value) for value in tags.aminmax())
        if least < 0 or most >= labels:
            raise ValueError(f"tag {least if least < 0 else most} must be in 0 … {labels - 1}, as the logits have {labels} labels")
    return tags


def _score(logits: Tensor, mask: Tensor, chain: Chain | None, tags: Tensor) -> Tensor:
    scores = logits.gather(-1, tags[..., None])[..., 0].where(mask, 0).sum(1)
    if chain is None or not tags.shape[1]:
        return scores
    last = (mask.sum(1) - 1).clamp(min=0)[:, None]
    ends = chain.start[tags[:, 0]] + chain.end[tags.gather(1, last)[:, 0]]
    steps = chain.transitions[tags[:, :-1], tags[:, 1:]].where(mask[:, 1:], 0)
    return scores + ends.where(mask[:, 0], 0) + steps.sum(1)


def _refuse(totals: Tensor, scores: Tensor, mask: Tensor, chain: Chain, tags: Tensor | None) -> None:
    """Raises ValueError where no path is legal, and where that of `tags` is not, naming its first forbidden step."""
    _legal(totals, mask)
    rows = [] if tags is None else (scores == -torch.inf).nonzero().flatten().tolist()
    if tags is None or not rows:
        return
    path = tags[rows[0]][mask[rows[0]]].tolist()
    steps = [(f"the start with {path[0]}", chain.start[path[0]]), (f"the end with {path[-1]}", chain.end[path[-1]])]
    steps += [(f"{a} → {b}", chain.transitions[a, b]) for a, b in pairwise(path)]
    wrong = [name for name, weight in steps if float(weight) == -torch.inf] or ["a label whose logit is −inf"]
    raise ValueError(f"the tags of row {rows[0]} are forbidden by the chain: {wrong[0]}")


def _legal(totals: Tensor, mask: Tensor) -> Tensor:
    """Totals, log Z or the best score; raises ValueError where one is −inf."""
    impossible = totals.detach() == -torch.inf
    if impossible.any():
        row = int(impossible.nonzero()[0])
        raise ValueError(f"no path is legal for row {row} of {int(mask[row].sum())} tokens: log Z would be −inf")
    return totals


def _by_steps(logits: Tensor, mask: Tensor, chain: Chain, tags: Tensor | None) -> Tensor:
    """log Z (B,), less the score of `tags`, on any device, with any derivative.

    α_1 = start + logits_1, α_t(j) = logits_t(j) + log Σ_i exp(α_{t−1}(i) + transitions(i, j)), log Z = log Σ_j exp(α_n(j) + end(j)).
    """
    if not logits.shape[1]:
        return logits.sum((1, 2))
    logits = logits.masked_fill(~mask[..., None], 0)
    alpha = chain.start + logits[:, 0]
    for emitted, real in zip(logits.unbind(1)[1:], mask.unbind(1)[1:], strict=True):
        alpha = torch.where(real[:, None], _log_sum(alpha[:, :, None] + chain.transitions, 1) + emitted, alpha)
    totals = _log_sum(alpha + chain.end, 1).where(mask[:, 0], 0)
    if tags is None:
        return _legal(totals, mask)
    scores = _score(logits, mask, chain, tags)
    _refuse(totals.detach(), scores.detach(), mask, chain, tags)
    return totals - scores


def _log_sum(x: Tensor, axis: int) -> Tensor:
    """log Σ exp, whose gradient is 0, not NaN, where all is −inf."""
    most = x.detach().amax(axis, keepdim=True)
    most = most.masked_fill(most == -torch.inf, 0)
    total = (x - most).exp().sum(axis)
    none = total == 0
    return (total.masked_fill(none, 1).log() + most.squeeze(axis)).masked_fill(none, -torch.inf)
