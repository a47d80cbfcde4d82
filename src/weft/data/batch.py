"""Batches: padded rows, masks, length buckets, budgets by examples or tokens, an order that can be resumed (E71).

Rows of similar length share a batch, so that little is computed on padding; which rows, and in which order, is a pure
function of (seed, epoch), so that a run stopped anywhere goes on exactly where it was.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from weft.data.streams import Streams

log = logging.getLogger("weft")
IGNORED = -100  # the target of what has none, padding say
POOL = 50  # batches that are sorted by length together: large enough to waste little padding, small enough to stay random


class EncodesTexts(Protocol):
    """What batches need of a tokenizer: texts to arrays of ids, all at once."""

    def encode_ids(self, texts: Sequence[str]) -> list[np.ndarray]: ...


@dataclass
class Batch:
    """Rows that go through a model together.

    inputs (B, T) int64 ids, or (B, T, D) float features; mask (B, T) bool, True = real, always a prefix of the row;
    targets (B, …) or None; integers of two or more dimensions, (B, T, …), go with the tokens, IGNORED at padding;
    source (B,) int64: which example, counted in the order in which they were given, each row is;
    pair: the second texts of a pair task, in the same row order;
    forms: where inputs number the distinct words of the batch, what is known of each of these;
    continues: of streams, whether each row goes on where the row of the same source ended in the batch before; None elsewhere.
    """

    inputs: Tensor
    mask: Tensor
    targets: Tensor | None
    source: Tensor
    pair: Batch | None = None
    forms: Forms | None = None
    continues: bool | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        targets = None if self.targets is None else self.targets.to(device)
        pair = None if self.pair is None else self.pair.to(device)
        forms = None if self.forms is None else self.forms.to(device)
        return Batch(self.inputs.to(device), self.mask.to(device), targets, self.source.to(device), pair, forms, self.continues)

    def rows(self, index: Tensor | slice) -> Batch:
        """The chosen rows, trimmed to their own longest."""
        mask = self.mask[index]
        longest = max(1, int(mask.sum(1).max())) if len(mask) else 1
        targets = None if self.targets is None else self.targets[index]
        if targets is not None and with_tokens(targets):
            targets = targets[:, :longest]
        pair = None if self.pair is None else self.pair.rows(index)
        return Batch(self.inputs[index][:, :longest], mask[:, :longest], targets, self.source[index], pair, self.forms, self.continues)

    def split(self, parts: int) -> list[Batch]:
        """At most `parts` micro-batches of neighbouring rows, none empty."""
        if parts < 1:
            raise ValueError(f"{parts=} must be at least 1")
        if parts == 1 or len(self) <= 1:
            return [self]
        bounds = np.linspace(0, len(self), min(parts, len(self)) + 1).astype(int)
        return [self.rows(slice(int(a), int(b))) for a, b in itertools.pairwise(bounds)]


@dataclass
class Forms:
    """The distinct words of a batch, word 0 being padding: word (U,) ids, features (U, F) ids, characters (U, W) and pieces (U, P) ids,
    0 where there is none.

    What depends on a word alone, its characters say, is worked out once for each of them and then put where it occurs.
    """

    word: Tensor
    features: Tensor
    characters: Tensor
    pieces: Tensor

    def to(self, device: torch.device | str) -> Forms:
        """The same on `device`."""
        return Forms(self.word.to(device), self.features.to(device), self.characters.to(device), self.pieces.to(device))


class Lexicon(Protocol):
    """What batches need of a table of words: those of some of its rows, each row once."""

    def forms(self, rows: np.ndarray) -> tuple[np.ndarray, ...]: ...

    def digest(self) -> bytes: ...


class Corrupts(Protocol):
    """What batches need of noise: a row as it is to be read in an epoch, by the example's number."""

    def __call__(self, row: np.ndarray, epoch: int, number: int) -> np.ndarray: ...


def with_tokens(targets: Tensor) -> bool:
    """Whether targets (B, T, …) are ids of the tokens rather than of the rows."""
    return targets.dim() > 1 and not targets.is_floating_point()


def pad(rows: Sequence[np.ndarray], source: np.ndarray, targets: Tensor | None = None) -> Batch:
    """One batch of `rows` (ids (T,), or features (T, D)), padded with zeros to the longest, at least one column wide."""
    inputs, mask = _Rows(rows).padded(np.arange(len(rows)))
    return Batch(inputs, mask, targets, torch.from_numpy(source.astype(np.int64)))


class _Rows:
    """Rows end to end in one array, so that a batch is cut out of it in a few operations however many rows it has."""

    def __init__(self, rows: Sequence[np.ndarray]) -> None:
        self.lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.flat = np.concatenate([row for row in rows if len(row)] or [*rows[:1]] or [np.zeros(0, np.int64)])

    def padded(self, index: np.ndarray, fill: int = 0) -> tuple[Tensor, Tensor]:
        """Of these rows: inputs (B, T) or (B, T, D), `fill` beyond the end of each, and the mask (B, T); T of the longest, at least 1."""
        lengths = self.lengths[index]
        columns = np.arange(max(1, int(lengths.max(initial=0))))
        mask = columns < lengths[:, None]
        inputs = np.full((*mask.shape, *self.flat.shape[1:]), fill, np.float32 if self.flat.dtype.kind == "f" else np.int64)
        inputs[mask] = self.flat[(self.starts[index][:, None] + columns)[mask]]
        return torch.from_numpy(inputs), torch.from_numpy(mask)


class _TokenTargets:
    """Ids for the tokens of each row, padded when they are asked for."""

    def __init__(self, targets: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> None:
        cut = [ids[: len(row)] for ids, row in zip(targets, rows, strict=True)]
        if wrong := next((i for i, (ids, row) in enumerate(zip(cut, rows, strict=True)) if len(ids) != len(row)), None):
            raise ValueError(f"row {wrong} has {len(rows[wrong])} tokens but {len(cut[wrong])} targets")
        self._rows = _Rows(cut)
        self.flat = self._rows.flat

    def __len__(self) -> int:
        return len(self._rows.lengths)

    def __getitem__(self, source: Tensor) -> Tensor:
        return self._rows.padded(source.numpy(), fill=IGNORED)[0]


class Batches:
    """A dataset that is walked epoch after epoch: `for batch in batches.epoch(0)`.

    rows: one array per example, ids (T,) or features (T, D). Exactly one budget: `examples` a batch, or `tokens` a batch
    (padded, each of a pair for itself, so that memory is bounded; a row longer than the budget makes a batch of its own).
    seed None: sorted by length, not shuffled (prediction). `bucketed=False`: rows in random order whatever their lengths.
    maximum_length cuts longer rows and says how many. targets: a tensor with a row an example; or one integer array an example,
    (T,) or (T, columns), with an id for each of its tokens. lexicon: where rows are rows of a table of words. noise: what becomes of rows,
    anew in every epoch (their lengths are taken from what they were).
    """

    def __init__(
        self,
        rows: Sequence[np.ndarray],
        *,
        targets: Tensor | Sequence[np.ndarray] | None = None,
        pairs: Sequence[np.ndarray] | None = None,
        examples: int | None = None,
        tokens: int | None = None,
        seed: int | None = None,
        bucketed: bool = True,
        maximum_length: int | None = None,
        lexicon: Lexicon | None = None,
        noise: Corrupts | None = None,
    ) -> None:
        if (examples is None) == (tokens is None):
            raise ValueError(f"give one budget, examples or tokens, not {examples=} and {tokens=}")
        budget = tokens if examples is None else examples
        assert budget is not None
        if budget < 1:
            raise ValueError(f"a budget must be at least 1, not {budget}")
        for name, other in (("targets", targets), ("pairs", pairs)):
            if other is not None and len(other) != len(rows):
                raise ValueError(f"{len(rows)} rows but {len(other)} {name}")
        self.rows, self.pairs = _cut(rows, maximum_length), None if pairs is None else _cut(pairs, maximum_length)
        self.examples, self.tokens, self.seed, self.bucketed, self.lexicon, self.noise = examples, tokens, seed, bucketed, lexicon, noise
        self.targets = targets if targets is None or isinstance(targets, Tensor) else _TokenTargets(targets, self.rows)
        self._rows, self._pairs = _Rows(self.rows), None if self.pairs is None else _Rows(self.pairs)
        self.lengths = np.maximum(self._rows.lengths, 1 if self._pairs is None else np.maximum(self._pairs.lengths, 1))
        self._last: tuple[int, list[np.ndarray]] | None = None  # the order asked for last: a loop asks for the same one at every step

    def __len__(self) -> int:
        """How many examples an epoch has."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def order(self, epoch: int) -> list[np.ndarray]:
        """The examples of each batch of this epoch: a pure function of (seed, epoch)."""
        if self._last is None or self._last[0] != epoch:
            self._last = (epoch, self._order(epoch))
        return self._last[1]

    def _order(self, epoch: int) -> list[np.ndarray]:
        if not len(self.rows):
            return []
        if self.seed is None:
            return self._cut_batches(np.argsort(self.lengths, kind="stable"))
        random = np.random.default_rng([self.seed, epoch])
        index = random.permutation(len(self.rows))
        if not self.bucketed:
            return self._cut_batches(index)
        mean = max(1.0, float(self.lengths.mean()))
        pool = POOL * (self.examples or max(1, int((self.tokens or 1) / mean)))
        batches: list[np.ndarray] = []
        for start in range(0, len(index), pool):
            part = index[start : start + pool]
            batches += self._cut_batches(part[np.argsort(self.lengths[part], kind="stable")])
        return [batches[i] for i in random.permutation(len(batches))]

    def steps(self, epoch: int = 0) -> int:
        """How many batches this epoch has (with a token budget it can differ a little from epoch to epoch)."""
        return len(self.order(epoch))

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from batch `start` on: the resumed half is the same as the uninterrupted one's."""
        for index in self.order(number)[start:]:
            yield self.gather(index, number)

    def gather(self, index: np.ndarray, epoch: int | None = None) -> Batch:
        """The batch of exactly these examples; with the noise of an epoch, where one is named."""
        source = torch.from_numpy(index.astype(np.int64))
        targets = None if self.targets is None else self.targets[source]
        pair = None if self._pairs is None else Batch(*self._pairs.padded(index), None, source)
        if self.noise is None or epoch is None:
            inputs, mask = self._rows.padded(index)
        else:
            noisy = _Rows([self.noise(self.rows[number], epoch, number) for number in index.tolist()])
            inputs, mask = noisy.padded(np.arange(len(index)))
        if self.lexicon is None:
            return Batch(inputs, mask, targets, source, pair)
        distinct, places = np.unique(inputs.numpy(), return_inverse=True)
        if distinct[0]:  # a batch without padding: word 0 is there all the same
            distinct, places = np.concatenate([[0], distinct]), places + 1
        numbers = torch.from_numpy(places.reshape(inputs.shape).astype(np.int64))
        return Batch(numbers, mask, targets, source, pair, Forms(*map(torch.from_numpy, self.lexicon.forms(distinct))))

    def fingerprint(self) -> str:
        """A digest of what is walked and how: rows, pairs, targets, budget, seed. Equal ones give equal batches."""
        digest = hashlib.sha256(repr((self.examples, self.tokens, self.seed, self.bucketed, len(self.rows))).encode())
        if self.noise is not None:
            digest.update(repr(self.noise).encode())
        for rows in (self.rows, self.pairs or ()):
            for row in rows:
                digest.update(f"{row.dtype}{row.shape}".encode())
                digest.update(row.tobytes())
        if self.targets is not None:
            targets = self.targets.flat if isinstance(self.targets, _TokenTargets) else self.targets.detach().cpu().numpy()
            digest.update(f"{targets.dtype}{targets.shape}".encode())
            digest.update(targets.tobytes())
        if self.lexicon is not None:
            digest.update(self.lexicon.digest())
        return digest.hexdigest()

    def _cut_batches(self, index: np.ndarray) -> list[np.ndarray]:
        if self.examples is not None:
            return [index[i : i + self.examples] for i in range(0, len(index), self.examples)]
        assert self.tokens is not None
        batches, start, longest = [], 0, 0
        for position, length in enumerate(self.lengths[index]):
            longest = max(longest, int(length))
            if position > start and longest * (position - start + 1) > self.tokens:
                batches.append(index[start:position])
                start, longest = position, int(length)
        batches.append(index[start:])
        return batches


class Walk(Protocol):
    """What a training asks of its data: batches, epoch after epoch, from any place on."""

    def __len__(self) -> int: ...

    def steps(self, epoch: int = 0) -> int: ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]: ...

    def fingerprint(self) -> str: ...


class StreamBatches:
    """Streams as a training walks them: every token real, targets (B, T) the tokens after, a row's source its stream."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams

    def __len__(self) -> int:
        """How many rows a batch has."""
        return len(self.streams)

    def steps(self, epoch: int = 0) -> int:
        """How many batches this epoch has."""
        return self.streams.steps(epoch)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from batch `start` on."""
        source = torch.arange(len(self.streams))
        for inputs, targets, continues in self.streams.epoch(number, start):
            read = torch.from_numpy(inputs)
            yield Batch(read, torch.ones_like(read, dtype=torch.bool), torch.from_numpy(targets), source, continues=continues)

    def fingerprint(self) -> str:
        """As Streams.fingerprint."""
        return self.streams.fingerprint()


def _cut(rows: Sequence[np.ndarray], maximum_length: int | None) -> Sequence[np.ndarray]:
    if maximum_length is None:
        return rows
    if maximum_length < 1:
        raise ValueError(f"{maximum_length=} must be at least 1")
    longer = sum(len(row) > maximum_length for row in rows)
    if longer:
        log.warning("%d of %d texts are longer than maximum_length=%d tokens and were cut there", longer, len(rows), maximum_length)
        return [row[:maximum_length] for row in rows]
    return rows


def make_batches(texts: Sequence[str], tokenizer: EncodesTexts, *, pairs: Sequence[str] | None = None, **options: Any) -> Batches:
    """Texts → ids → Batches. Options as in `Batches`: targets, examples or tokens, seed, bucketed, maximum_length."""
    second = None if pairs is None else tokenizer.encode_ids(pairs)
    return Batches(tokenizer.encode_ids(texts), pairs=second, **options)
