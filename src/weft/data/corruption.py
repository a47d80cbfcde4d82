"""Noise for denoising autoencoders (E85): tokens → the tokens that a model is given to make the first ones of again.

What is done to a row is a function of seed, epoch and the row's number alone, so that neither batches, nor processes, nor a run that was
resumed change it. Four kinds, in this order:

- drop: each token is left out with this probability; one is always left (Lample et al., 2018, section 2.3; they take 0.1).
- shuffle: tokens change places, none by more than k: those at i are sorted by i + U(0, k + 1) (Lample et al., 2018; k = 3).
- infill: spans with this share of the tokens in them become one mask each; their lengths are Poisson's with mean `span`, and a span of no
  length puts a mask between two tokens (Lewis et al., 2020; 0.3 and 3).
- mask: each token becomes a mask with this probability (Devlin et al., 2019; 0.15).

Start and end symbols are none of the tokens: they are put round what comes out. With all at 0 nothing is changed and nothing is drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Token = TypeVar("Token")


@dataclass(frozen=True)
class Noise:
    """drop, mask, infill: shares of the tokens, from 0 to 1. shuffle: places that a token may move. span: tokens of a span on the average,
    at least 1. Raises ValueError for others.
    """

    drop: float = 0.0
    shuffle: int = 0
    infill: float = 0.0
    mask: float = 0.0
    span: float = 3.0

    def __post_init__(self) -> None:
        for name in ("drop", "infill", "mask"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if self.shuffle < 0 or int(self.shuffle) != self.shuffle:
            raise ValueError(f"shuffle must be a whole number of places, 0 or more, not {self.shuffle}")
        if not 1 <= self.span <= 100:
            raise ValueError(f"span must be from 1 to 100 tokens, not {self.span}")

    @property
    def silent(self) -> bool:
        """Whether it changes nothing."""
        return not (self.drop or self.shuffle or self.infill or self.mask)


LAMPLE = Noise(drop=0.1, shuffle=3)
LEWIS = Noise(infill=0.3, span=3.0)


@dataclass(frozen=True)
class Corruption:
    """Noise as batches take it: rows of ids, `mask` the id of what is hidden; other noise in every epoch."""

    noise: Noise
    mask: int
    seed: int

    def __call__(self, row: np.ndarray, epoch: int, number: int) -> np.ndarray:
        return np.array(corrupt(row.tolist(), self.noise, mask=self.mask, seed=self.seed, epoch=epoch, row=number), row.dtype)


def corrupt(tokens: Sequence[Token], noise: Noise, *, mask: Token, seed: int, epoch: int, row: int) -> list[Token]:
    """The tokens (ids or strings) with noise; `mask` stands for what is hidden. row: the number of the example in its table."""
    found = list(tokens)
    if noise.silent or not found:
        return found
    draw = random.Random(f"{seed}/{epoch}/{row}")  # seeding by a string and random() give the same on every Python
    if noise.drop:
        found = _drop(found, noise.drop, draw)
    if noise.shuffle:
        keys = [place + (noise.shuffle + 1) * draw.random() for place in range(len(found))]
        found = [found[place] for place in sorted(range(len(found)), key=keys.__getitem__)]
    if noise.infill:
        found = _infill(found, noise, mask, draw)
    if noise.mask:
        found = [mask if draw.random() < noise.mask else token for token in found]
    return found


def corrupt_rows(
    rows: Iterable[Sequence[Token]], noise: Noise, *, mask: Token, seed: int, epoch: int, numbers: Iterable[int]
) -> list[list[Token]]:
    """`corrupt` for each of the rows, which have these numbers in their table. Raises ValueError where there are not as many."""
    rows, numbers = list(rows), list(numbers)
    if len(rows) != len(numbers):
        raise ValueError(f"there are {len(rows)} rows and {len(numbers)} numbers")
    return [corrupt(row, noise, mask=mask, seed=seed, epoch=epoch, row=number) for row, number in zip(rows, numbers, strict=True)]


def _drop(tokens: list[Token], share: float, draw: random.Random) -> list[Token]:
    kept = [token for token in tokens if draw.random() >= share]
    return kept or [tokens[int(draw.random() * len(tokens))]]


def _infill(tokens: list[Token], noise: Noise, mask: Token, draw: random.Random) -> list[Token]:
    """Spans of tokens → one mask each.

    `infill` of the tokens are hidden, rounded up or down at random so that the mean is right. Lengths are drawn until they reach that, the
    last one cut, and shuffled; every way to put the spans between the tokens left is as likely. (So the first and the last few tokens
    are hidden less often: fewer spans can reach them.)
    """
    wanted = math.floor(noise.infill * len(tokens) + draw.random())
    lengths: list[int] = []
    while (left := wanted - sum(lengths)) > 0:
        lengths.append(min(left, _poisson(noise.span, draw)))
    lengths = [lengths[number] for number in _places(len(lengths), draw)]
    slots = len(tokens) - wanted + len(lengths)
    spans = set(_places(slots, draw)[: len(lengths)])
    made: list[Token] = []
    place = 0
    for slot in range(slots):
        span = slot in spans
        made.append(mask if span else tokens[place])
        place += lengths.pop() if span else 1
    return made


def _places(count: int, draw: random.Random) -> list[int]:
    """The numbers below `count` in any order, each as likely."""
    keys = [draw.random() for _ in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def _poisson(mean: float, draw: random.Random) -> int:
    """A number by Poisson's law: factors drawn until their product is below e^−mean (Knuth, 1969)."""
    floor, product, count = math.exp(-mean), draw.random(), 0
    while product > floor:
        product *= draw.random()
        count += 1
    return count
