"""Streams: texts as one long row of ids, cut for training a language model; contiguous windows whose state is carried on, or random blocks.

Truncated backpropagation through time (Williams & Peng, 1990; Mikolov et al., 2010); random blocks as GPTs are trained on. Which tokens a
step sees is a pure function of (seed, epoch), so that a run stopped anywhere goes on exactly where it was. Free of torch:
weft.data.batch.StreamBatches makes the tensors.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from weft.errors import InputError

log = logging.getLogger("weft")
CUTS = ("contiguous", "random")


class Window(NamedTuple):
    """What each of some rows reads, (rows, T) int64, and the tokens after those; continues: whether each row goes on where it ended in the
    window before, None where rows have nothing to do with one another."""

    inputs: np.ndarray
    targets: np.ndarray
    continues: bool | None


class Streams:
    """ids (n,) as `rows` windows of `block` tokens a step, each the target of what stands before it.

    cut "contiguous": the ids are cut into `rows` streams, side by side, and every step reads the next block of each. With a seed the first
    block of an epoch has a length of its own, between half a block and a whole one, and the fewer than `rows` tokens that do not fill the
    streams are left out at either end, so that no two epochs are cut alike; without one an epoch begins with a whole block.
    cut "random": every step reads `rows` blocks that begin anywhere; an epoch has as many of them as would cover the ids once.

    Rows that the ids cannot fill with a block each are fewer, which is said. Raises InputError for ids that are shorter than one block.
    """

    def __init__(self, ids: np.ndarray, *, rows: int, block: int, seed: int | None = None, cut: str = "contiguous") -> None:
        if min(rows, block) < 1:
            raise ValueError(f"{rows=} and {block=} must be at least 1")
        if cut not in CUTS:
            raise ValueError(f"{cut=} must be one of {', '.join(CUTS)}")
        if len(ids) <= block:
            raise InputError(f"has {len(ids)} tokens, its ends among them: too few for one block of {block} and the token after it", "text")
        self.ids, self.block, self.seed, self.cut = ids, block, seed, cut
        self.rows = rows if cut == "random" else min(rows, (len(ids) - 1) // block)
        if self.rows < rows:
            log.warning("%d tokens make %d rows of a block of %d, not %d", len(ids), self.rows, block, rows)

    def __len__(self) -> int:
        """How many rows a step has."""
        return self.rows

    @property
    def length(self) -> int:
        """Targets of each contiguous stream."""
        return (len(self.ids) - 1) // self.rows

    def steps(self, epoch: int = 0) -> int:
        """How many steps this epoch has."""
        if self.cut == "random":
            return max(1, (len(self.ids) - 1) // (self.rows * self.block))
        return len(self._bounds(epoch)) - 1

    def epoch(self, number: int, start: int = 0) -> Iterator[Window]:
        """The windows of epoch `number`, from window `start` on."""
        columns = np.arange(self.block)
        if self.cut == "random":
            for begin in self._begins(number)[start:]:
                places = begin[:, None] + columns
                yield Window(self._read(places), self._read(places + 1), None)
            return
        bounds, first = self._bounds(number), self._first(number)
        begin = first + np.arange(self.rows)[:, None] * self.length
        for step in range(start, len(bounds) - 1):
            places = begin + np.arange(bounds[step], bounds[step + 1])
            yield Window(self._read(places), self._read(places + 1), step > 0)

    def fingerprint(self) -> str:
        """A digest of what is walked and how. Equal ones give equal windows."""
        digest = hashlib.sha256(repr((self.rows, self.block, self.seed, self.cut, str(self.ids.dtype), len(self.ids))).encode())
        digest.update(np.ascontiguousarray(self.ids).tobytes())
        return digest.hexdigest()

    def _read(self, places: np.ndarray) -> np.ndarray:
        return self.ids[places].astype(np.int64)

    def _begins(self, epoch: int) -> np.ndarray:
        """Where each block of each step begins, (steps, rows)."""
        random = np.random.default_rng([self.seed or 0, epoch])
        return random.integers(0, len(self.ids) - self.block, (self.steps(epoch), self.rows))

    def _first(self, epoch: int) -> int:
        """Where the first stream begins."""
        if self.seed is None:
            return 0
        spare = (len(self.ids) - 1) % self.rows
        return int(np.random.default_rng([self.seed, epoch, 1]).integers(0, spare + 1))

    def _bounds(self, epoch: int) -> list[int]:
        """Where the windows of a stream begin, and where the last one ends."""
        first = self.block
        if self.seed is not None:
            first = int(np.random.default_rng([self.seed, epoch, 0]).integers((self.block + 1) // 2, self.block + 1))
        return [0, *range(min(first, self.length), self.length, self.block), self.length]


def joined(rows: Sequence[np.ndarray], end: int) -> np.ndarray:
    """Texts' ids as one row, int32: the end symbol before the first, where it stands for a start, and after each."""
    symbol = np.array([end], np.int32)
    return np.concatenate([symbol, *(part for row in rows for part in (row.astype(np.int32, copy=False), symbol))])


class Strided(NamedTuple):
    """Windows over a row of ids, to measure it by: what each reads, and the first of its targets that counts."""

    inputs: list[np.ndarray]
    targets: list[np.ndarray]
    counted_from: list[int]


def strided(ids: np.ndarray, *, window: int, stride: int) -> Strided:
    """ids (n,) read in windows of at most `window` tokens that begin `stride` apart; each counts the targets that none before it did (E80).

    So every target counts once, the first window's all, and is predicted from at least window − stride tokens before it where there are as
    many. stride = window: windows side by side. Raises ValueError for a stride that would leave tokens out.
    """
    if not 1 <= stride <= window:
        raise ValueError(f"a stride must be from 1 to the window of {window}, not {stride}")
    targets = len(ids) - 1
    found = Strided([], [], [])
    done = 0
    for begin in range(0, max(targets, 0), stride):
        end = min(begin + window, targets)
        if end <= done:
            break
        found.inputs.append(ids[begin:end])
        found.targets.append(ids[begin + 1 : end + 1])
        found.counted_from.append(done - begin)
        done = end
    return found
