"""What a hypothesis may be: lengths, forbidden tokens, n-grams that may not come twice, forced beginnings, strings at which it stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weft.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Limits, the same for every search.

    minimum, maximum: tokens of an answer, the end symbol not counted; a number, or one a source. At the maximum a hypothesis is cut:
        whether the end symbol would have come next is not looked at.
    forbidden: ids that are never chosen.
    no_repeat_ngrams: n, so that no n tokens stand twice in an answer (Paulus et al., 2018); 0 allows all.
    prefixes: the tokens that an answer begins with, one sequence a source. They stand above the other limits, and count in lengths,
        n-grams and log-probabilities.
    stop, decode: an answer ends with the token at which decode(its ids) first holds one of these strings; tokens of the prefix are not
        read. The token stays in the answer. Texts are decoded whole at every step: ask only where the end symbol will not do.
    """

    minimum: int | Sequence[int] = 0
    maximum: int | Sequence[int] = 200
    forbidden: Sequence[int] = ()
    no_repeat_ngrams: int = 0
    prefixes: Sequence[Sequence[int]] | None = None
    stop: str | Sequence[str] = ()
    decode: Callable[[Sequence[int]], str] | None = None

    def __post_init__(self) -> None:
        if self.no_repeat_ngrams < 0:
            raise InputError(f"must be at least 0, not {self.no_repeat_ngrams}", "no_repeat_ngrams")
        if "" in self.strings:
            raise InputError("an empty string would stop every answer before it begins; leave it out", "stop")
        if self.stop and self.decode is None:
            raise InputError("stop strings need decode, from ids to text", "decode")

    @property
    def strings(self) -> tuple[str, ...]:
        """The stop strings; a single one may be given without a list."""
        return ((self.stop,) if self.stop else ()) if isinstance(self.stop, str) else tuple(self.stop)


class Rules:
    """Limits at work on the sources that are still being searched, B of them; `places` says which these are, `numbers` what they are
    called.

    Raises InputError where limits contradict each other, or do not fit the count of sources.
    """

    def __init__(self, limits: Limits, end: int, numbers: Sequence[int], device: torch.device) -> None:
        self.limits, self.end = limits, end
        self.places, self.numbers = list(range(len(numbers))), list(numbers)
        minima, maxima = (_one_each(getattr(limits, name), name, len(numbers)) for name in ("minimum", "maximum"))
        prefixes = [tuple(prefix) for prefix in limits.prefixes] if limits.prefixes is not None else [()] * len(numbers)
        if len(prefixes) != len(numbers):
            raise InputError(f"{len(prefixes)} prefixes for {len(numbers)} sources; give one a source, () for none", "prefixes")
        for number, least, most, prefix in zip(numbers, minima, maxima, prefixes, strict=True):
            _check(number, least, most, prefix, end)
        self.prefixes = prefixes
        self.minimum = torch.tensor(minima, device=device)
        self.maximum = torch.tensor(maxima, device=device)
        self.minima = max(minima, default=0)
        longest = max(map(len, prefixes), default=0)
        self.forced = torch.tensor([prefix + (-1,) * (longest - len(prefix)) for prefix in prefixes], dtype=torch.long, device=device)
        self.forbidden = torch.tensor(sorted(set(limits.forbidden)), dtype=torch.long, device=device)
        self.vocabulary: int | None = None

    def keep(self, sources: Tensor) -> None:
        """Only these sources stay, by their place among those that are left."""
        stay = sources.tolist()
        self.places, self.numbers, self.prefixes = ([old[one] for one in stay] for old in (self.places, self.numbers, self.prefixes))
        self.minimum, self.maximum, self.forced = self.minimum[sources], self.maximum[sources], self.forced[sources]

    def mask(self, logp: Tensor, ids: Tensor) -> Tensor:
        """logp (B·K, V), in place, with −inf for what may not follow ids (B·K, t)."""
        self._fit(logp.shape[1])
        step, hypotheses = ids.shape[1], len(ids) // len(self.numbers)
        forced = given = None
        if step < self.forced.shape[1]:
            forced = self.forced[:, step].repeat_interleave(hypotheses)
            given = logp.gather(1, forced.clamp(min=0)[:, None])[:, 0]
        if len(self.forbidden):
            logp.index_fill_(1, self.forbidden, -math.inf)
        if step < self.minima:
            logp[:, self.end].masked_fill_((self.minimum > step).repeat_interleave(hypotheses), -math.inf)
        if self.limits.no_repeat_ngrams:
            rows, tokens = repeats(ids, self.limits.no_repeat_ngrams)
            logp[rows, tokens] = -math.inf
        if forced is not None and given is not None:
            rows = (forced >= 0).nonzero()[:, 0]
            logp[rows] = -math.inf
            logp[rows, forced[rows]] = given[rows]
        return logp

    def stops(self, source: int, ids: Sequence[int]) -> bool:
        """Whether the text of a source's tokens holds a stop string."""
        assert self.limits.decode is not None
        text = self.limits.decode(ids[len(self.prefixes[source]) :])
        return any(string in text for string in self.limits.strings)

    def dead_end(self, source: int, length: int) -> InputError:
        """What is said where a source cannot go on: its row has no token that is allowed and possible."""
        return InputError(
            f"after {length} tokens no token is left that limits allow and the model gives a probability (its logits may hold NaN): "
            "forbid fewer, or allow an earlier end",
            f"source {self.numbers[source]}",
        )

    def _fit(self, size: int) -> None:
        """Every id is in the vocabulary, and not all of it is forbidden; looked at once."""
        if self.vocabulary == size:
            return
        self.vocabulary = size
        named = {"forbidden": set(self.forbidden.tolist()), "prefixes": {token for prefix in self.prefixes for token in prefix}}
        for name, ids in named.items():
            wrong = sorted(one for one in ids if not 0 <= one < size)
            if wrong:
                raise InputError(f"id {wrong[0]} is not in the vocabulary, 0 to {size - 1}", name)
        allowed = size - len(named["forbidden"])
        if not allowed:
            raise InputError(f"all {size} ids of the vocabulary are forbidden; leave out the end symbol, {self.end}, at least", "forbidden")
        if allowed == 1 and self.end not in named["forbidden"] and self.minima:
            raise InputError(f"all ids but the end symbol are forbidden, and an answer has at least {self.minima} tokens", "forbidden")


def repeats(ids: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(rows, tokens) that would end an n-gram of `size` which stands in ids (N, t) already."""
    count, length = ids.shape
    if length < size:
        none = torch.empty(0, dtype=torch.long, device=ids.device)
        return none, none
    starts = length - size + 1
    match = torch.ones(count, starts, dtype=torch.bool, device=ids.device)
    for place in range(size - 1):
        match &= ids[:, place : place + starts] == ids[:, length - size + 1 + place, None]
    rows, columns = match.nonzero(as_tuple=True)
    return rows, ids[rows, columns + size - 1]


def _one_each(value: int | Sequence[int], name: str, count: int) -> list[int]:
    if isinstance(value, int):
        return [value] * count
    if len(value) != count:
        raise InputError(f"{len(value)} numbers for {count} sources; give one number, or one a source", name)
    return [int(one) for one in value]


def _check(number: int, minimum: int, maximum: int, prefix: Sequence[int], end: int) -> None:
    """Whether the limits of one source go together."""
    place = f"source {number}"
    if minimum < 0 or maximum < 0:
        raise InputError(f"minimum and maximum must be at least 0, not {minimum} and {maximum}", place)
    if minimum > maximum:
        raise InputError(f"the minimum, {minimum}, is above the maximum, {maximum}", place)
    if len(prefix) > maximum:
        raise InputError(f"its prefix has {len(prefix)} tokens, the maximum is {maximum}", place)
    if end in prefix:
        raise InputError(f"its prefix holds the end symbol, {end}; nothing would follow it", place)
