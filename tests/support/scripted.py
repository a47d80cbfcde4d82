"""A decoder made of tables: the logits of a prefix are drawn from a seed made of the source and the whole prefix, so every mistake shows.

Its state is the prefixes that its rows have read. It holds searches to the contract: rows grouped by source, a state used once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from weft.models.decoders import Step

START, END = 0, 1


@dataclass
class Rows:
    """What each row has read, and which sources there are."""

    prefixes: list[tuple[int, ...]]
    sources: list[int]
    spent: bool = False


@dataclass
class Scripted:
    """size: tokens of the vocabulary. positions: of the source, for attention; 0 for none. end: added to the end symbol's logit."""

    size: int = 5
    positions: int = 0
    end: float = 0.0
    start_symbol: int = START
    end_symbol: int = END
    known: dict[tuple[int, tuple[int, ...]], Tensor] = field(default_factory=dict)  # logits that were asked for
    rows: list[int] = field(default_factory=list)  # how many were read at each step
    reordered: list[tuple[list[int], list[int] | None]] = field(default_factory=list)

    def logits(self, source: int, prefix: tuple[int, ...]) -> Tensor:
        draw = torch.Generator().manual_seed(hash((source, *prefix)) % 2**62)
        logits = 2 * torch.randn(self.size, generator=draw, dtype=torch.float64)
        logits[END] += self.end
        return logits

    def weights(self, source: int, prefix: tuple[int, ...]) -> Tensor:
        draw = torch.Generator().manual_seed(hash((-7, source, *prefix)) % 2**62)
        return (3 * torch.randn(self.positions, generator=draw, dtype=torch.float64)).softmax(0)

    def start(self, source: list[int]) -> Rows:
        return Rows([()] * len(source), list(source))

    def step(self, ids: Tensor, state: Rows) -> Step:
        self.spend(state)
        assert ids.shape == (len(state.prefixes),) and len(ids) % len(state.sources) == 0
        self.rows.append(len(ids))
        prefixes = [(*prefix, token) for prefix, token in zip(state.prefixes, ids.tolist())]
        assert {prefix[0] for prefix in prefixes} == {START}
        each = len(ids) // len(state.sources)
        named = [(state.sources[row // each], prefix[1:]) for row, prefix in enumerate(prefixes)]
        attention = torch.stack([self.weights(*one) for one in named]) if self.positions else None
        for one in named:
            if one not in self.known:
                self.known[one] = self.logits(*one)
        return Step(torch.stack([self.known[one] for one in named]), Rows(prefixes, state.sources), attention)

    def reorder(self, state: Rows, rows: Tensor, sources: Tensor | None = None) -> Rows:
        self.spend(state)
        stay = list(range(len(state.sources))) if sources is None else sources.tolist()
        assert sources is None or len(stay) < len(state.sources)
        assert len(rows) % len(stay) == 0
        before, after = len(state.prefixes) // len(state.sources), len(rows) // len(stay)
        assert [row // before for row in rows.tolist()] == [source for source in stay for _ in range(after)]
        self.reordered.append((rows.tolist(), None if sources is None else stay))
        return Rows([state.prefixes[row] for row in rows.tolist()], [state.sources[source] for source in stay])

    @staticmethod
    def spend(state: Rows) -> None:
        assert not state.spent
        state.spent = True

    # What answers are held against.

    def logp(self, source: int, prefix: tuple[int, ...]) -> Tensor:
        return self.logits(source, prefix).log_softmax(0)

    def score(self, source: int, ids: tuple[int, ...], ended: bool) -> float:
        """Teacher-forced: Σ log p of all tokens, of the end symbol too where it was reached."""
        whole = (*ids, END) if ended else ids
        return sum(float(self.logp(source, whole[:place])[token]) for place, token in enumerate(whole))

    def every(self, source: int, maximum: int) -> list[tuple[tuple[int, ...], bool, float]]:
        """All there can be: (ids, ended, log p), those of `maximum` tokens cut."""
        found: list[tuple[tuple[int, ...], bool, float]] = []

        def walk(prefix: tuple[int, ...], total: float) -> None:
            if len(prefix) == maximum:
                found.append((prefix, False, total))
                return
            for token, value in enumerate(self.logp(source, prefix).tolist()):
                if token == END:
                    found.append((prefix, True, total + value))
                elif value > -math.inf:
                    walk((*prefix, token), total + value)

        walk((), 0.0)
        return found


def text(ids: tuple[int, ...] | list[int]) -> str:
    """A letter a token."""
    return "".join(chr(ord("a") + token) for token in ids)
