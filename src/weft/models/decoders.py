"""Decoders: the next token from those before it and a source, step by step or a whole target at once."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor


class Step(NamedTuple):
    """What a decoder gives for one token read: logits (N, V) of the next one, its state, and, where asked for, weights over the source (N, S)."""

    logits: Tensor
    state: Any
    attention: Tensor | None = None


class Decoder(Protocol):
    """What a search asks of a model, whether its state is recurrent or cached keys and values.

    Rows are grouped by source: of N = B·K rows, row r belongs to source r // K, so that what belongs to a source is held once. A state is
    spent by the step, or the reordering, that it is given to.
    """

    start_symbol: int
    end_symbol: int

    def start(self, source: Any) -> Any:
        """The state before the first token, a row a source."""
        ...

    def step(self, ids: Tensor, state: Any) -> Step:
        """Reads one token a row, ids (N,); the start symbol first."""
        ...

    def reorder(self, state: Any, rows: Tensor, sources: Tensor | None = None) -> Any:
        """The state of these rows (N',), repeated, dropped or permuted within their source. sources (B',): those that stay, where some leave."""
        ...
