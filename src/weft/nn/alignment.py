"""Alignment: a decoder's attention over a source, a score (E89) × the way its numbers become weights (E88, E91, E92).

Soft: Bahdanau et al. (2015); hard: Xu et al. (2015), with the score-function gradient of Williams (1992); monotonic: Raffel et al. (2017);
local windows: Luong et al. (2015).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from weft.nn import masks
from weft.nn.activations import softmax
from weft.nn.attention import Attended, Memory, attend, scaled_dot
from weft.nn.initialisation import xavier_
from weft.nn.monotonic import at_start, decided, expected_alignment
from weft.nn.scores import ScaledDot, make_score

ALIGNMENTS = ("soft", "hard", "monotonic", "local-m", "local-p")


class Attention(nn.Module):
    """c = Σ_i α_i h_i over a source that is read once, for queries that come step by step (E88).

    score: a name in SCORES; `hidden_size` and `options` are the score's. align:

    - "soft": α = softmax(e).
    - "hard": c = h_i. In training i is drawn from softmax(e), and log α_i comes along as `log_choice`, for `reinforce`; at prediction it
      is the first argmax, without log_choice.
    - "monotonic": in training the expected alignment of a pointer that never goes back, p = σ(e + r), with noise of that standard
      deviation on e + r, so that its decisions become clear; r is a parameter that starts at `offset`. At prediction the pointer itself,
      which stops where p > ½. Weights sum to 1 at most: what stops nowhere has run off the end, for all later steps too (context: zeros).
    - "local-m": softmax over the positions within `window` of the step's own number, or of the last position where the source is shorter.
    - "local-p": the same around a predicted p = n σ(v·tanh(W s)), n the source's length, then times exp(-(i - p)² / 2(window/2)²),
      without normalising again, as Luong et al.: weights sum to less than 1.

    Positions count what is real, from 0. A source of nothing gives zeros.
    """

    def __init__(
        self,
        *,
        score: str = "additive",
        align: str = "soft",
        query_size: int,
        key_size: int,
        hidden_size: int | None = None,
        window: int = 10,
        noise: float = 1.0,
        offset: float = -1.0,
        **options: Any,
    ) -> None:
        super().__init__()
        if align not in ALIGNMENTS:
            raise ValueError(f"no alignment {align!r}; there are: {', '.join(ALIGNMENTS)}")
        if window < 1:
            raise ValueError(f"{window=} must be at least 1")
        if noise < 0:
            raise ValueError(f"{noise=} must be at least 0")
        self.align, self.window, self.noise = align, window, noise
        self.query_size, self.key_size = query_size, key_size
        self.score = make_score(score, query_size=query_size, key_size=key_size, hidden_size=hidden_size, **options)
        self.offset = nn.Parameter(torch.tensor(float(offset))) if align == "monotonic" else None
        self.place: nn.Sequential | None = None
        if align == "local-p":
            inner, last = nn.Linear(query_size, hidden_size or key_size, bias=False), nn.Linear(hidden_size or key_size, 1, bias=False)
            xavier_(inner.weight)
            xavier_(last.weight)
            self.place = nn.Sequential(inner, nn.Tanh(), last)

    def read(self, source: Tensor, mask: Tensor) -> Memory:
        """source (B, S, D), mask (B, S) -> what the steps need of it, once a source. What is masked, NaN too, becomes zeros."""
        masks.check(source, mask)
        source = masks.zeroed(source, mask)
        return Memory(source, self.score.keys(source), mask)

    def forward(
        self, query: Tensor, memory: Memory, *, previous: Tensor | None = None, position: int | Tensor = 0, weights: bool = False
    ) -> Attended:
        """query (B, K, Dq) -> context (B, K, D), and the weights that made it (B, K, S) where asked for.

        The K queries are independent of each other: hypotheses of one source, or time steps, which monotonic attention has to take one by
        one. previous (B, K, S): the `state` of the step before, for monotonic attention; None: before the first step. position: the number
        of the step, from 0, an int or a tensor that broadcasts to (B, K), for "local-m". ValueError names both sizes where they differ.
        """
        if query.dim() != 3 or query.shape[0] != memory.values.shape[0]:
            raise ValueError(f"expected queries (batch, any, size) for {memory.values.shape[0]} sources, got {tuple(query.shape)}")
        if self.align == "soft":
            score = scaled_dot if isinstance(self.score, ScaledDot) else self.score  # by its function the fused kernel knows it
            return attend(query, memory.keys, memory.values, memory.mask, score=score, weights=weights)
        scores = self.score(query, memory.keys)  # (B, K, S)
        if self.align == "hard":
            return self._hard(scores, memory, weights)
        if self.align == "monotonic":
            return self._monotonic(scores, memory, previous, weights)
        centre = self._predicted(query, memory.mask) if self.place is not None else _clamped(position, query, memory.mask)
        return self._local(scores, memory, centre, weights)

    def _hard(self, scores: Tensor, memory: Memory, weights: bool) -> Attended:
        scores, hidden = _wide(scores), ~memory.mask.unsqueeze(1)
        alpha = softmax(scores, ~hidden)
        # the first of equal maxima; in training argmax of α_i / E_i, E_i exponential, which is a draw from α
        chosen = (alpha / torch.empty_like(alpha).exponential_() if self.training else alpha).argmax(-1, keepdim=True)
        rows = chosen.expand(-1, -1, memory.values.shape[-1])
        context = memory.values.gather(1, rows)  # a source of nothing has zeros there
        one_hot = torch.zeros_like(alpha).scatter_(-1, chosen, 1.0).masked_fill(hidden, 0.0) if weights else None
        if not self.training:
            return Attended(context, one_hot)
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        log_choice = scores.gather(-1, chosen).squeeze(-1) - scores.logsumexp(-1)
        return Attended(context, one_hot, None, log_choice.masked_fill(~memory.mask.any(1, keepdim=True), 0.0))

    def _monotonic(self, scores: Tensor, memory: Memory, previous: Tensor | None, weights: bool) -> Attended:
        assert self.offset is not None
        energies = _wide(scores) + self.offset
        if self.training and self.noise:
            energies = energies + self.noise * torch.randn_like(energies)
        p = torch.sigmoid(energies) if self.training else decided(energies)
        p = p.masked_fill(~memory.mask.unsqueeze(1), 0.0)
        if previous is None:
            previous = at_start(memory.mask).to(p.dtype).unsqueeze(1)
        alpha = expected_alignment(p, previous)
        return Attended(alpha.to(memory.values.dtype) @ memory.values, alpha if weights else None, alpha)

    def _local(self, scores: Tensor, memory: Memory, centre: Tensor, weights: bool) -> Attended:
        """centre (B, K): where the windows stand."""
        apart = (memory.mask.cumsum(1) - 1).unsqueeze(1) - centre.unsqueeze(-1)  # (B, K, S), of positions that are real
        alpha = softmax(scores, memory.mask.unsqueeze(1) & (apart.abs() <= self.window))
        if self.align == "local-p":
            alpha = (alpha * torch.exp(-2 * (apart / self.window) ** 2)).to(scores.dtype)  # σ = window / 2
        return Attended(alpha.to(memory.values.dtype) @ memory.values, alpha if weights else None)

    def _predicted(self, query: Tensor, mask: Tensor) -> Tensor:
        """p = n σ(v·tanh(W s)): (B, K), above 0 and below n."""
        assert self.place is not None
        return mask.sum(1, keepdim=True) * torch.sigmoid(_wide(self.place(query).squeeze(-1)))

    def extra_repr(self) -> str:
        window = f", window={self.window}" if self.align.startswith("local") else ""
        return f"align={self.align!r}, query_size={self.query_size}, key_size={self.key_size}{window}"


def _wide(scores: Tensor) -> Tensor:
    """fp32 at least: choices and alignments that are carried on are not rounded to bf16."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _clamped(position: int | Tensor, query: Tensor, mask: Tensor) -> Tensor:
    """The number of the step, or of the last real position where there are fewer: (B, K)."""
    steps = torch.as_tensor(position, device=query.device).expand(query.shape[:2])
    return torch.minimum(steps, mask.sum(1, keepdim=True) - 1)


def reinforce(log_likelihood: Tensor, log_choice: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """What to maximise after hard attention: its value is log p(y | h_i), its gradient the score-function estimator (E91).

    ∇ log p(y | h_i) + (log p(y | h_i) - baseline) ∇ log α_i, for i drawn from α: its mean over i is the gradient of Σ_i α_i log p(y | h_i),
    whatever the baseline, as long as that does not depend on i; a baseline near the mean of log p makes it vary less.

    log_likelihood, log_choice: one shape, an entry a draw; for a draw of several steps the sums over the steps.
    """
    advantage = (log_likelihood - baseline).detach()
    return log_likelihood + advantage * (log_choice - log_choice.detach())
