"""Beam search: the likeliest hypotheses of every source, side by side (GNMT's scores: Wu et al., 2016, section 7)."""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from weft.errors import InputError
from weft.generation.choosing import largest, log_probabilities
from weft.generation.hypotheses import Hypothesis, Stream, Trace
from weft.generation.limits import Rules
from weft.models.decoders import Decoder

UNSEEN = 1e-9  # what attention to a source position counts as at least: log 0 would make all hypotheses alike


@dataclass(frozen=True)
class Beam:
    """The `width` likeliest unfinished hypotheses of a source are kept at every step; the best complete ones are the answer.

    A complete hypothesis y of a source x is ranked by

        score = log p(y | x) / ((5 + |y|) / 6)^α + β Σ_i log min(Σ_j a_ij, 1)

    with |y| its tokens, the end symbol included where it was reached, a_ij what token j attended to source position i, α the
    length_penalty, β the coverage_penalty. Unfinished ones, all of one length, are ranked by log p(y | x).

    A hypothesis is complete with the end symbol, if that is among the `width` best continuations; with a stop string; or cut at the
    maximum.

    n_best: how many are given, best first; fewer where there are not as many.
    patience: a source is done once patience · width hypotheses have ended (Kasai et al., 2022), and in any case as soon as no unfinished
        one can come before the last of the n_best, however long it grows; math.inf waits for that alone.
    """

    width: int = 5
    length_penalty: float = 0.0
    coverage_penalty: float = 0.0
    n_best: int = 1
    patience: float = 1.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"must be at least 1, not {self.width}", "width")
        if not 1 <= self.n_best <= self.width:
            raise InputError(f"must be at least 1 and at most the beam's width, {self.width}, not {self.n_best}", "n_best")
        for name in ("length_penalty", "coverage_penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"must be a number of at least 0, not {getattr(self, name)}", name)
        if not self.patience > 0:
            raise InputError(f"must be above 0, not {self.patience}", "patience")

    def norm(self, length: int) -> float:
        """((5 + |y|) / 6)^α."""
        return float(((5 + length) / 6) ** self.length_penalty)


class BeamSearch:
    """B sources with K hypotheses each, rows grouped by source; totals (B, K) are log p of what is live, −inf where nothing is.

    K is 1 at first, and grows to the width as fast as there are continuations.
    """

    def __init__(self, model: Decoder, beam: Beam, rules: Rules, mask: Tensor | None, stream: Stream | None) -> None:
        self.model, self.beam, self.rules, self.mask, self.stream = model, beam, rules, mask, stream
        sources, device = len(rules.places), rules.maximum.device
        self.trace = Trace(sources, device)
        self.totals = torch.zeros(sources, 1, device=device)
        self.coverage: Tensor | None = None  # (B·K, S), Σ_j a_ij
        self.found: dict[int, list[Hypothesis]] = {place: [] for place in rules.places}
        self.ended = dict.fromkeys(rules.places, 0)  # how many hypotheses of a source have ended by themselves
        self.norms = [beam.norm(length) for length in rules.maximum.tolist()]  # the largest there can be, by place

    def run(self, source: Any) -> dict[int, list[Hypothesis]]:
        """The n_best hypotheses of every source, by its place."""
        state = self.model.start(source)
        held = len(self.rules.places)  # rows of the state
        rows = torch.arange(held, device=self.totals.device)
        tokens = torch.full_like(rows, self.model.start_symbol)
        self._offer_cut()
        while True:
            stay = self._leave(self._done())
            if stay is not None:
                rows, tokens = (x.view(-1, self.totals.shape[1])[stay].flatten() for x in (rows, tokens))
            if not len(rows):
                return self.found
            if stay is not None or len(rows) != held or not torch.equal(rows, torch.arange(held, device=rows.device)):
                state, held = self.model.reorder(state, rows, stay), len(rows)
            step = self.model.step(tokens, state)
            state = step.state
            rows, tokens = self._advance(step.logits, step.attention)

    def _advance(self, logits: Tensor, attention: Tensor | None) -> tuple[Tensor, Tensor]:
        """The best continuations: the rows that they come from and their tokens, (B·K') each."""
        (sources, live), size, width = self.totals.shape, logits.shape[1], self.beam.width
        logp = self.rules.mask(log_probabilities(logits), self.trace.ids)
        scores = logp.view(sources, live, size).add_(self.totals[:, :, None]).view(sources, live * size)
        values, found = largest(scores, min(2 * width, live * size))  # width of them do not end, whatever the others do
        if values[:, 0].isnan().any():
            raise self.rules.dead_end(int(values[:, 0].isnan().nonzero()[0]), self.trace.length)
        tokens = found % size
        rows = found // size + torch.arange(0, sources * live, live, device=found.device)[:, None]
        self.trace.attends = attention is not None
        self._cover(attention)
        ends = tokens == self.rules.end
        if ends.any():
            self._offer_ended(values, rows, ends)
            order = ends.to(torch.uint8).sort(dim=1, stable=True).indices  # those that go on come first, in their order
            values, rows, tokens = values.masked_fill(ends, -math.inf).gather(1, order), rows.gather(1, order), tokens.gather(1, order)
        self.totals, rows, tokens = values[:, :width], rows[:, :width].flatten(), tokens[:, :width].flatten()
        self.trace.extend(tokens, attention, rows)
        if self.coverage is not None:
            self.coverage = self.coverage[rows]
        if self.rules.limits.strings:
            self._offer_stopped()
        self._offer_cut()
        return rows, tokens

    def _cover(self, attention: Tensor | None) -> None:
        """Adds what this step attended to."""
        if not self.beam.coverage_penalty:
            return
        if attention is None or self.mask is None:
            raise ValueError("a coverage penalty needs attention, which this decoder does not give")
        if attention.shape[1] != self.mask.shape[1]:
            raise ValueError(f"attention is over {attention.shape[1]} source positions, source_mask has {self.mask.shape[1]}")
        self.coverage = attention if self.coverage is None else self.coverage + attention

    def _offer_ended(self, values: Tensor, rows: Tensor, ends: Tensor) -> None:
        """Those that the end symbol completes, where it is among the `width` best continuations."""
        ended = (ends & (values > -math.inf))[:, : self.beam.width]
        sources = ended.nonzero()[:, 0].tolist()
        kept = zip(sources, rows[:, : ended.shape[1]][ended].tolist(), values[:, : ended.shape[1]][ended].tolist(), strict=True)
        for source, row, total in kept:
            self._offer(source, row, total, self.trace.length + 1, end=True)

    def _offer_stopped(self) -> None:
        """Those whose text now holds a stop string; they are live no more."""
        for source, row, total in self._live():
            if self.rules.stops(source, self.trace.ids[row].tolist()):
                self._offer(source, row, total, self.trace.length, stop=True)
                self.totals[source, row - source * self.totals.shape[1]] = -math.inf

    def _offer_cut(self) -> None:
        """Those that are as long as their source allows."""
        over = self.rules.maximum <= self.trace.length
        if over.any():
            full = over.tolist()
            for source, row, total in self._live():
                if full[source]:
                    self._offer(source, row, total, self.trace.length)
            self.totals = self.totals.masked_fill(over[:, None], -math.inf)

    def _live(self) -> list[tuple[int, int, float]]:
        """(source, row, log p) of all that is live."""
        width = self.totals.shape[1]
        totals = self.totals.flatten().tolist()
        return [(row // width, row, total) for row, total in enumerate(totals) if total > -math.inf]

    def _offer(self, source: int, row: int, total: float, size: int, *, end: bool = False, stop: bool = False) -> None:
        """A complete hypothesis of |y| = size, kept where it is among the n_best; later ones come after their equals."""
        place = self.rules.places[source]
        self.ended[place] += end or stop
        score = total / self.beam.norm(size)
        if self.coverage is not None and self.mask is not None:
            seen = self.coverage[row][self.mask[place]].clamp(UNSEEN, 1)
            score += self.beam.coverage_penalty * float(seen.log().sum())
        kept = self.found[place]
        if len(kept) == self.beam.n_best and score <= kept[-1].score:
            return
        ids, attention = self.trace.take(row, size - end)
        insort(kept, Hypothesis(ids, score, total, attention, end or stop), key=lambda one: -one.score)
        del kept[self.beam.n_best :]

    def _done(self) -> list[bool]:
        """Which sources have their answer.

        log p only falls, and no norm is above the maximum's, so total / norm is the most that can become of it.
        """
        enough = self.beam.patience * self.beam.width
        done = []
        for source, (place, best) in enumerate(zip(self.rules.places, self.totals.amax(1).tolist(), strict=True)):
            kept, bound = self.found[place], best / self.norms[place]
            worst = kept[-1].score if len(kept) == self.beam.n_best else -math.inf
            done.append(bound <= worst or self.ended[place] >= enough)
            if done[-1] and not kept:
                raise self.rules.dead_end(source, self.trace.length - 1)
        if self.stream is not None:
            self._tell(done)
        return done

    def _tell(self, done: list[bool]) -> None:
        """The stream's call: the best of what is live, or at last the answer."""
        assert self.stream is not None
        best = (self.totals.argmax(1) + torch.arange(0, self.totals.numel(), self.totals.shape[1], device=self.totals.device)).tolist()
        for source, (place, number) in enumerate(zip(self.rules.places, self.rules.numbers, strict=True)):
            if done[source]:
                self.stream(number, self.found[place][0].ids, True)
            elif self.trace.length:
                self.stream(number, self.trace.take(best[source], self.trace.length)[0], False)

    def _leave(self, done: list[bool]) -> Tensor | None:
        """Takes the sources that are done out of the books -> the numbers of those that stay, None where all do."""
        if not any(done):
            return None
        stay = torch.tensor([source for source, over in enumerate(done) if not over], dtype=torch.long, device=self.totals.device)
        rows = torch.arange(self.totals.numel(), device=stay.device).view(self.totals.shape)[stay].flatten()
        self.trace.keep(rows)
        self.rules.keep(stay)
        self.totals = self.totals[stay]
        if self.coverage is not None:
            self.coverage = self.coverage[rows]
        return stay
