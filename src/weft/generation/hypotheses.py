"""What a search finds, and the book it keeps of tokens and attention while it looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Called after every step for every source still searched: its number, its best hypothesis's tokens so far, whether this is the last time.
Stream = Callable[[int, tuple[int, ...], bool], None]


class Hypothesis(NamedTuple):
    """One answer.

    ids: its tokens, without start and end symbols.
    score: what it was ranked by. log_probability: Σ log p of its tokens by the model, the end symbol included where it was reached; neither
        temperature nor limits change it.
    attention: where the model gives it, one (S,) a token: the weights with which that token was chosen; padding of the source is in it.
    finished: True: it ended by itself, with the end symbol or a stop string. False: it was cut at the maximum.
    """

    ids: tuple[int, ...]
    score: float
    log_probability: float
    attention: list[Tensor] | None
    finished: bool


class Trace:
    """Tokens of the hypotheses that are live, a row each, and where in the steps' attention each token's weights stand.

    Attention is never copied from step to step: a step keeps its weights (N, S) as they came, and a hypothesis which rows of them are its
    own.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.ids = torch.empty(rows, 0, dtype=torch.long, device=device)  # (N, t)
        self.lineage = self.ids
        self.attention: list[Tensor] = []
        self.attends = False  # whether the model gives weights; known after its first step

    @property
    def length(self) -> int:
        return self.ids.shape[1]

    def extend(self, tokens: Tensor, attention: Tensor | None, rows: Tensor | None = None) -> None:
        """Hypothesis r becomes the old one rows[r] (itself without `rows`), and then tokens[r]. attention (N, S) is of the old rows."""
        old = self.ids if rows is None else self.ids[rows]
        self.ids = torch.cat((old, tokens[:, None]), 1)
        if attention is None:
            return
        self.attends = True
        self.attention.append(attention)
        parents = torch.arange(len(tokens), device=tokens.device) if rows is None else rows
        self.lineage = torch.cat((self.lineage if rows is None else self.lineage[rows], parents[:, None]), 1)

    def keep(self, rows: Tensor) -> None:
        """Only these rows stay, in this order."""
        self.ids = self.ids[rows]
        if self.attention:
            self.lineage = self.lineage[rows]

    def take(self, row: int, length: int) -> tuple[tuple[int, ...], list[Tensor] | None]:
        """The first tokens of a row, and the attention of each."""
        return tuple(self.ids[row, :length].tolist()), self.weights(row, length)

    def weights(self, row: int, length: int) -> list[Tensor] | None:
        """The attention of the first tokens of a row."""
        if not self.attends:
            return None
        return [self.attention[step][parent] for step, parent in enumerate(self.lineage[row, :length].tolist())]
