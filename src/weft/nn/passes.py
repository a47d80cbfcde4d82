"""Several passes over a text: what is looked at the second time depends on what was found the first (episodic memory; E93).

Sukhbaatar et al. (2015); Kumar et al. (2016).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from weft.nn.alignment import Attention
from weft.nn.cells import GRUCell
from weft.nn.initialisation import normal_


class Passed(NamedTuple):
    """memory m^K (B, Dq), None where it is not made; contexts e^1 … e^K (B, K, D); the weights of each pass (B, K, S), where asked for."""

    memory: Tensor | None
    contexts: Tensor
    weights: Tensor | None


class Passes(nn.Module):
    """m⁰ = q; e^k = attend(m^{k-1}, H); m^k = R(m^{k-1}, e^k, q), R a GRU that reads [e^k; q]; all passes share their weights (E93).

    With passes=1, e¹ is plain attention. final=False leaves m^K out, for those who answer from e^K: R then runs between passes only.
    hidden_size and options are those of the score.
    """

    def __init__(
        self,
        *,
        query_size: int,
        key_size: int,
        passes: int = 2,
        score: str = "additive",
        hidden_size: int | None = None,
        final: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        if passes < 1:
            raise ValueError(f"at least 1 pass, got {passes=}")
        self.passes, self.final = passes, final
        self.attention = Attention(score=score, query_size=query_size, key_size=key_size, hidden_size=hidden_size, **options)
        between = passes > 1 or final
        self.update = GRUCell(input_size=key_size + query_size, hidden_size=query_size) if between else None

    def forward(self, query: Tensor, source: Tensor, mask: Tensor, *, weights: bool = False) -> Passed:
        """query (B, Dq), source (B, S, D), mask (B, S). ValueError names both sizes where they differ."""
        read = self.attention.read(source, mask)
        memory, contexts, maps = query, [], []
        for number in range(1, self.passes + 1):
            attended = self.attention(memory.unsqueeze(1), read, weights=weights)
            contexts.append(attended.context)
            maps.append(attended.weights)
            if self.update is not None and (self.final or number < self.passes):
                (memory,) = self.update(torch.cat([attended.context.squeeze(1), query], -1), (memory,))
        return Passed(memory if self.final else None, torch.cat(contexts, 1), torch.cat(maps, 1) if weights else None)


class PassesPooling(nn.Module):
    """e^K of `passes` passes with a query that is learnt: (B, T, D) and a mask -> (B, D).

    Scores are bilinear, qᵀ W x: what was found multiplies what is looked at, and the second look is sharper; in an additive score it moves
    all positions alike, and the second look grew flat. The answer is e^K, not m^K: one pass is plain attention, and a row of nothing
    gives zeros.
    """

    def __init__(self, *, size: int, passes: int = 2) -> None:
        super().__init__()
        self.output_size = size
        self.query = nn.Parameter(normal_(torch.empty(size), std=size**-0.5))
        self.passes = Passes(query_size=size, key_size=size, passes=passes, score="general", final=False)

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        """α of every pass (B, K, T), zeros where nothing is real."""
        maps = self.passes(self.query.expand(x.shape[0], -1), x, mask, weights=True).weights
        assert maps is not None
        return maps

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query = self.query.expand(x.shape[0], -1)
        return self.passes(query, x, mask).contexts[:, -1]
