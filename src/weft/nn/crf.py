"""Linear-chain conditional random fields: the labels of a sentence chosen together (Lafferty, McCallum & Pereira, 2001; E65).

score(y) = start(y_1) + Σ_t logits_t(y_t) + Σ_t transitions(y_{t−1}, y_t) + end(y_n)
log Z = log Σ_y exp score(y),  P(y) = exp(score(y) − log Z),  loss = log Z − score(gold)

B sentences, T the longest's tokens, K labels. Rows of the mask are prefixes: True is real. What lies at padding, NaN too, is not looked
at. A row without tokens has one path, the empty one: log Z and score are 0. −inf in a chain forbids. Without a chain every token is by
itself, the softmax that transitions of zero amount to. bfloat16 and float16 logits are widened to float32.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    logits, mask, chain = _checked(emissions)
    if chain is None:
        return _independent(logits, mask)
    return _legal(_by_steps(logits, mask, chain), mask)


def path_score(emissions: Emissions, tags: Tensor) -> Tensor:
    """score(tags) (B,), of tags (B, T); −inf for a forbidden path. What is at padding in `tags` does not matter.

    Raises ValueError as log_partition, and for tags outside 0 … K − 1.
    """
    logits, mask, chain = _checked(emissions)
    return _score(logits, mask, chain, _checked_tags(tags, logits, mask))


def chain_loss(emissions: Emissions, tags: Tensor) -> Tensor:
    """−log P(tags) (B,) = log Z − score(tags). Its gradient is expected minus gold counts.

    Raises ValueError as path_score, and for tags that the chain forbids.
    """
    logits, mask, chain = _checked(emissions)
    tags = _checked_tags(tags, logits, mask)
    score = _score(logits, mask, chain, tags)
    if chain is None:
        return _independent(logits, mask) - score
    _refuse_forbidden(score, logits, mask, chain, tags)
    return _legal(_by_steps(logits, mask, chain), mask) - score


def viterbi(emissions: Emissions) -> tuple[Tensor, Tensor]:
    """The best paths: tags (B, T) int64, 0 at padding, and their scores (B,). Raises ValueError as log_partition."""
    tags, scores = k_best(emissions, 1)
    return tags[:, 0], scores[:, 0]


@torch.no_grad()
def k_best(emissions: Emissions, k: int) -> tuple[Tensor, Tensor]:
    """The k best paths, best first: tags (B, k, T) int64, scores (B, k); −inf, and tags of 0, where there are fewer paths.

    Raises ValueError as log_partition, and for k < 1.
    """
    if k < 1:
        raise ValueError(f"{k=} must be at least 1")
    logits, mask, chain = _checked(emissions)
    chain = chain or _free(logits)
    B, T, K = logits.shape
    scores = logits.new_full((B, k), -torch.inf)
    tags = torch.zeros(B, k, T, dtype=torch.int64, device=logits.device)
    scores[:, 0] = 0
    lengths = mask.sum(1).tolist()
    for b, n in enumerate(lengths):
        if not n:
            continue
        best = torch.full((K, k), -torch.inf, dtype=torch.float64, device=logits.device)
        best[:, 0] = (chain.start + logits[b, 0]).double()
        pointers = []
        for t in range(1, n):
            candidates = (best[:, :, None] + chain.transitions[:, None, :].double()).reshape(K * k, K)
            top = candidates.topk(k, dim=0)
            best = top.values.T + logits[b, t].double()[:, None]
            pointers.append(top.indices.T)
        final = (best + chain.end.double()[:, None]).reshape(-1).topk(k)
        scores[b] = final.values.to(scores)
        place = final.indices
        for t in range(n - 1, -1, -1):
            tags[b, :, t] = place // k
            if t:
                place = pointers[t - 1].reshape(-1)[place]
        tags[b][scores[b] == -torch.inf] = 0
    _legal(scores[:, 0], mask)
    return tags, scores


def marginals(emissions: Emissions) -> Tensor:
    """P(y_t = k) (B, T, K), 0 at padding; no gradient. Raises ValueError as log_partition."""
    logits, mask, chain = _checked(emissions)
    if chain is None:
        return logits.detach().softmax(-1) * mask[..., None]
    fixed = Chain(chain.transitions.detach(), chain.start.detach(), chain.end.detach())
    with torch.enable_grad():
        wanted = logits.detach().requires_grad_()
        total = _legal(_by_steps(wanted, mask, fixed), mask).sum()
        return torch.autograd.grad(total, wanted)[0]


def _free(logits: Tensor) -> Chain:
    labels = logits.shape[-1]
    return Chain(logits.new_zeros(labels, labels), logits.new_zeros(labels), logits.new_zeros(labels))


def _checked(emissions: Emissions) -> tuple[Tensor, Tensor, Chain | None]:
    """Logits, zero at padding, mask and chain in one precision and of shapes that fit."""
    logits, mask, chain = emissions.logits, emissions.mask, emissions.chain
    if logits.dim() != 3 or not logits.shape[-1]:
        raise ValueError(f"logits {tuple(logits.shape)} must be (B, T, K) with at least one label")
    if mask.shape != logits.shape[:2]:
        raise ValueError(f"mask {tuple(mask.shape)} must be {tuple(logits.shape[:2])}, as the logits are")
    mask = mask.to(torch.bool)
    holes = (mask[:, 1:] & ~mask[:, :-1]).any(1)
    if holes.any():
        raise ValueError(f"mask must be a prefix of each row; row {int(holes.nonzero()[0])} has a hole")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if chain is not None:
        labels = logits.shape[-1]
        for name, shape in (("transitions", (labels, labels)), ("start", (labels,)), ("end", (labels,))):
            part = getattr(chain, name)
            if part.shape != shape:
                raise ValueError(f"the chain's {name} {tuple(part.shape)} must be {shape}, as the logits have {labels} labels")
            dtype = torch.promote_types(dtype, part.dtype)
        chain = Chain(chain.transitions.to(dtype), chain.start.to(dtype), chain.end.to(dtype))
    return logits.to(dtype).masked_fill(~mask[..., None], 0), mask, chain


def _checked_tags(tags: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Tags, 0 at padding."""
    if tags.shape != mask.shape:
        raise ValueError(f"tags {tuple(tags.shape)} must be {tuple(mask.shape)}, as the mask is")
    labels = logits.shape[-1]
    tags = tags.masked_fill(~mask, 0).to(torch.int64)
    if tags.numel() and not 0 <= int(tags.min()) <= int(tags.max()) < labels:
        wrong = tags[(tags < 0) | (tags >= labels)][0]
        raise ValueError(f"tag {int(wrong)} must be in 0 … {labels - 1}, as there are {labels} labels")
    return tags


def _independent(logits: Tensor, mask: Tensor) -> Tensor:
    return (logits.logsumexp(-1) * mask).sum(1)


def _score(logits: Tensor, mask: Tensor, chain: Chain | None, tags: Tensor) -> Tensor:
    scores = (logits.gather(-1, tags[..., None])[..., 0]).where(mask, 0).sum(1)
    if chain is None or not tags.shape[1]:
        return scores
    last = (mask.sum(1) - 1).clamp(min=0)[:, None]
    ends = chain.start[tags[:, 0]] + chain.end[tags.gather(1, last)[:, 0]]
    steps = chain.transitions[tags[:, :-1], tags[:, 1:]].where(mask[:, 1:], 0)
    return scores + ends.where(mask[:, 0], 0) + steps.sum(1)


def _refuse_forbidden(score: Tensor, logits: Tensor, mask: Tensor, chain: Chain, tags: Tensor) -> None:
    """Raises ValueError that names the first forbidden step where a gold score is −inf."""
    rows = (score == -torch.inf).nonzero()
    if not len(rows):
        return
    row = int(rows[0])
    path = tags[row][mask[row]].tolist()
    steps = [("the start with", chain.start[path[0]]), ("the end with", chain.end[path[-1]])]
    names = [f"the start with {path[0]}", f"the end with {path[-1]}", *(f"{a} → {b}" for a, b in zip(path, path[1:], strict=False))]
    values = [steps[0][1], steps[1][1], *(chain.transitions[a, b] for a, b in zip(path, path[1:], strict=False))]
    wrong = [name for name, value in zip(names, values, strict=True) if float(value) == -torch.inf] or ["a label whose logit is −inf"]
    raise ValueError(f"the tags of row {row} are forbidden by the chain: {wrong[0]}")


def _legal(totals: Tensor, mask: Tensor) -> Tensor:
    """Raises ValueError where log Z, or the best score, is −inf."""
    rows = (totals.detach() == -torch.inf).nonzero()
    if len(rows):
        row = int(rows[0])
        raise ValueError(f"no path is legal for row {row} of {int(mask[row].sum())} tokens: log Z would be −inf")
    return totals


def _by_steps(logits: Tensor, mask: Tensor, chain: Chain) -> Tensor:
    """log Z (B,), step by step: α_t(j) = logits_t(j) + log Σ_i exp(α_{t−1}(i) + transitions(i, j))."""
    if not logits.shape[1]:
        return logits.new_zeros(len(logits))
    alpha = chain.start + logits[:, 0]
    for emitted, real in zip(logits.unbind(1)[1:], mask.unbind(1)[1:], strict=True):
        alpha = torch.where(real[:, None], _log_sum(alpha[:, :, None] + chain.transitions, 1) + emitted, alpha)
    return _log_sum(alpha + chain.end, 1).where(mask[:, 0], 0)


def _log_sum(x: Tensor, axis: int) -> Tensor:
    """log Σ exp, whose gradient is 0, not NaN, where all is −inf."""
    most = x.detach().amax(axis, keepdim=True)
    most = most.where(most > -torch.inf, 0)
    total = (x - most).exp().sum(axis)
    some = total > 0
    return torch.where(some, total.where(some, 1).log() + most.squeeze(axis), -torch.inf)
