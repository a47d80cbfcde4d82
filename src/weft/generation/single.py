"""One hypothesis a source: greedy, or sampled token by token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from weft.errors import InputError
from weft.generation.choosing import Uniforms, draw, largest, log_probabilities
from weft.generation.hypotheses import Hypothesis, Stream, Trace
from weft.generation.limits import Rules
from weft.models.decoders import Decoder

LEAVE = 4  # rows leave once one in four is done: each time the state is copied


@dataclass(frozen=True)
class Greedy:
    """The likeliest token, always."""


@dataclass(frozen=True)
class Sample:
    """A token drawn from softmax(logits / temperature), of the top_k likeliest, of those the fewest whose probability reaches top_p.

    Ancestral sampling is temperature 1 and nothing else; temperature 0 is greedy. top_k None: all. The k are chosen first, and top_p is of
    what they have together. A source draws from its own stream of random numbers, a function of `seed` and its number.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"must be a number of at least 0 (0 is greedy), not {self.temperature}", "temperature")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"must be at least 1, or None for all tokens, not {self.top_k}", "top_k")
        if not 0 < self.top_p <= 1:
            raise InputError(f"must be above 0 and at most 1 (1 keeps all tokens), not {self.top_p}", "top_p")
        if self.seed < 0:
            raise InputError(f"must be at least 0, not {self.seed}", "seed")


class Chooser(Protocol):
    """How the next token is chosen: logp (N, V) -> (log p of it (N,), the token (N,))."""

    def choose(self, logp: Tensor, step: int) -> tuple[Tensor, Tensor]: ...

    def keep(self, rows: Tensor) -> None: ...


class Likeliest:
    """argmax."""

    def choose(self, logp: Tensor, step: int) -> tuple[Tensor, Tensor]:
        values, tokens = largest(logp, 1)
        return values[:, 0], tokens[:, 0]

    def keep(self, rows: Tensor) -> None:
        """Nothing is kept."""


class Drawn:
    """A draw a row, each from its source's own numbers."""

    def __init__(self, sample: Sample, numbers: list[int]) -> None:
        self.sample, self.uniforms = sample, Uniforms(sample.seed, numbers)

    def choose(self, logp: Tensor, step: int) -> tuple[Tensor, Tensor]:
        how = self.sample
        uniforms = self.uniforms.at(step)
        uniforms = (uniforms.float() if logp.device.type == "mps" else uniforms).to(logp.device)
        tokens = draw(logp, uniforms, temperature=how.temperature, top_k=how.top_k, top_p=how.top_p)
        return logp.gather(1, tokens[:, None])[:, 0], tokens

    def keep(self, rows: Tensor) -> None:
        self.uniforms.keep(rows.tolist())


class SingleSearch:
    """Rows are sources, one hypothesis each; `done` marks those that have their answer and have not left yet."""

    def __init__(self, model: Decoder, search: Greedy | Sample, rules: Rules, stream: Stream | None) -> None:
        self.model, self.rules, self.stream = model, rules, stream
        greedy = isinstance(search, Greedy) or search.temperature == 0
        self.chooser: Chooser = Likeliest() if isinstance(search, Greedy) or greedy else Drawn(search, rules.numbers)
        device = rules.maximum.device
        self.trace = Trace(len(rules.places), device)
        self.totals = torch.zeros(len(rules.places), device=device)
        self.done = torch.zeros(len(rules.places), dtype=torch.bool, device=device)
        self.found: dict[int, Hypothesis] = {}

    def run(self, source: Any) -> dict[int, Hypothesis]:
        """A hypothesis for every source, by its place."""
        state = self.model.start(source)
        tokens = torch.full((len(self.rules.places),), self.model.start_symbol, device=self.totals.device)
        self._finish(self.rules.maximum == 0, self.done)
        while True:
            if int(self.done.sum()) * LEAVE >= len(self.done):
                stay = (~self.done).nonzero()[:, 0]
                if not len(stay):
                    return self.found
                state, tokens = self.model.reorder(state, stay, stay), tokens[stay]
                self._keep(stay)
            step = self.model.step(tokens, state)
            state, tokens = step.state, self._advance(step.logits, step.attention)

    def _advance(self, logits: Tensor, attention: Tensor | None) -> Tensor:
        """Chooses a token a row; those that end with it are done."""
        length = self.trace.length
        values, tokens = self.chooser.choose(self.rules.mask(log_probabilities(logits), self.trace.ids), length)
        stuck = ~(values > -math.inf) & ~self.done  # NaN is stuck too
        if stuck.any():
            raise self.rules.dead_end(int(stuck.nonzero()[0]), length)
        self.totals = self.totals + values
        self.trace.extend(tokens, attention)
        ended = tokens == self.rules.end
        if self.rules.limits.strings:
            ended = ended | self._stopped(ended | self.done)
        self._finish((ended | (self.rules.maximum <= length + 1)) & ~self.done, ended)
        if self.stream is not None:
            for row in (~self.done).nonzero()[:, 0].tolist():
                self.stream(self.rules.numbers[row], self.trace.take(row, length + 1)[0], False)
        return tokens

    def _finish(self, over: Tensor, ended: Tensor) -> None:
        """The rows that have their answer, and which of all ended by themselves."""
        rows = over.nonzero()[:, 0]
        lines, totals, by_themselves = self.trace.ids[rows].tolist(), self.totals[rows].tolist(), ended[rows].tolist()
        for row, line, total, finished in zip(rows.tolist(), lines, totals, by_themselves, strict=True):
            ids = tuple(line[:-1] if line and line[-1] == self.rules.end else line)
            self.found[self.rules.places[row]] = Hypothesis(ids, total, total, self.trace.weights(row, len(ids)), finished)
            if self.stream is not None:
                self.stream(self.rules.numbers[row], ids, True)
        self.done = self.done | over

    def _stopped(self, known: Tensor) -> Tensor:
        """Which rows hold a stop string; those whose fate is known are not read."""
        stops = [not skip and self.rules.stops(row, self.trace.ids[row].tolist()) for row, skip in enumerate(known.tolist())]
        return torch.tensor(stops, device=known.device)

    def _keep(self, rows: Tensor) -> None:
        self.trace.keep(rows)
        self.rules.keep(rows)
        self.chooser.keep(rows)
        self.totals, self.done = self.totals[rows], self.done[rows]
