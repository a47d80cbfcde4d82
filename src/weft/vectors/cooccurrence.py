"""Counting kernels: pairs of neighbours → how often each pair stands together, in one pass and bounded memory (E36).

A pair is one number, row · columns + column; a hash table with open addressing adds up what it is counted with. A full table is
emptied into a sorted run, and runs are merged as they come, so that memory follows the distinct pairs, not the corpus. Windows are
symmetric: each pair is counted once, smaller id first, and mirrored at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from weft.errors import InputError
from weft.vectors.compiled import compiled
from weft.vectors.corpus import BOUNDARY

EMPTY = -1
FIRST_SLOTS = 1 << 16
SLOT = np.dtype([("key", np.int64), ("value", np.float64)])  # side by side: one miss of the cache, not two
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class PairTable:
    """Sums by pair. `memory` is the bound, in bytes, on the hash table; what exceeds it waits in sorted runs, 16 bytes a distinct pair."""

    def __init__(self, columns: int, memory: int = 1 << 28) -> None:
        self.columns = columns
        self.slots = np.empty(FIRST_SLOTS, SLOT)
        self.slots["key"] = EMPTY
        self.used = 0
        self.most = max(FIRST_SLOTS, 1 << max(1, memory // SLOT.itemsize).bit_length() - 1)
        self.runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add_windows(self, ids: np.ndarray, weights: np.ndarray) -> None:
        """Counts the pairs at distance 1 … len(weights) inside each sentence of ids (N,), BOUNDARY between sentences."""
        while len(self.slots) < 4 * len(weights):  # a kernel stops only between two words
            self._grow()
        self._fill(lambda at: _count_windows(self.slots, self.used, ids, at, weights, self.columns), len(ids))

    def add_sets(self, ids: np.ndarray) -> None:
        """Counts all pairs inside each sentence once, whatever stands between them."""
        ends = np.flatnonzero(np.append(ids, BOUNDARY) == BOUNDARY)
        self.add_windows(ids, np.ones(max(1, int(np.diff(ends, prepend=-1).max()) - 2)))

    def add_pairs(self, pairs: np.ndarray) -> None:
        """Counts rows (row, column) of pairs (N, 2) as they stand: nothing is mirrored."""
        self._fill(lambda at: _count_pairs(self.slots, self.used, pairs, at, self.columns), len(pairs))

    def _fill(self, kernel: Callable[[int], tuple[int, int]], length: int) -> None:
        # a kernel goes as far as the table has room, and says how far that was
        at = 0
        while at < length:
            at, self.used = kernel(at)
            if at < length:
                self._make_room()

    def _make_room(self) -> None:
        if len(self.slots) * 2 <= self.most:
            self._grow()
            return
        self.runs.append(self._sorted())
        self.slots["key"], self.used = EMPTY, 0
        while len(self.runs) > 1 and len(self.runs[-2][0]) < 2 * len(self.runs[-1][0]):
            self.runs[-2:] = [_merged(*self.runs[-2], *self.runs[-1])]

    def _grow(self) -> None:
        larger = np.empty(len(self.slots) * 2, SLOT)
        larger["key"] = EMPTY
        _move(self.slots, larger)
        self.slots = larger

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        filled = self.slots[self.slots["key"] != EMPTY]
        order = np.argsort(filled["key"])
        return filled["key"][order], filled["value"][order]

    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """All keys, ascending, int64, and their sums, float64; the table is spent."""
        keys, values = self._sorted()
        self.slots, self.used = np.empty(0, SLOT), 0
        while self.runs:
            keys, values = _merged(*self.runs.pop(), keys, values)
        return keys, values


def sums_of(
    chunks: Iterator[np.ndarray], columns: int, count: Callable[[PairTable, np.ndarray], None], threads: int, memory: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keys and sums over all chunks. Each thread fills a table of its own with every `threads`-th chunk: the result is repeatable."""
    tables = [PairTable(columns, memory // threads) for _ in range(threads)]
    if threads == 1:
        for chunk in chunks:
            count(tables[0], chunk)
        return tables[0].sums()
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[Any] | None] = [None] * threads
        for number, chunk in enumerate(chunks):
            place = number % threads
            if (last := waiting[place]) is not None:
                last.result()
            waiting[place] = pool.submit(count, tables[place], chunk)
        for last in waiting:
            if last is not None:
                last.result()
        keys, values = tables[0].sums()
        for table in tables[1:]:
            keys, values = _merged(keys, values, *table.sums())
    return keys, values


def matrix_of(keys: np.ndarray, values: np.ndarray, rows: int, columns: int) -> Any:
    """The sums as a scipy CSR matrix (rows, columns) of float64, column indices ascending."""
    from scipy.sparse import csr_matrix

    starts = np.searchsorted(keys, np.arange(rows + 1, dtype=np.int64) * columns)
    indices = (keys % columns).astype(np.int32 if columns < 2**31 else np.int64)
    return csr_matrix((values, indices, starts.astype(np.int32 if len(keys) < 2**31 else np.int64)), shape=(rows, columns))


def check_ids(ids: np.ndarray, size: int, place: str, lowest: int = 0) -> None:
    """Raises InputError where ids are no integers, or not in lowest … size − 1."""
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f"must be integers, not {ids.dtype}", place)
    if ids.size and (ids.min() < lowest or ids.max() >= size):
        wrong = int(ids[(ids < lowest) | (ids >= size)][0])
        raise InputError(f"{wrong} is not an id: they go from {lowest} to {size - 1}", place)


@compiled
def _slot(slots: np.ndarray, key: Any) -> Any:
    """Where the key is, or would go."""
    mask = slots.size - 1
    # the upper bits of the product depend on all bits of the key
    at = np.int64((np.uint64(key) * _FACTOR) >> _HALF) & mask
    while slots[at].key != key and slots[at].key != EMPTY:
        at = (at + 1) & mask
    return at


@compiled
def _add(slots: np.ndarray, key: Any, value: float) -> int:
    """Adds to a key's sum; 1 if the key is new, else 0."""
    at = _slot(slots, key)
    if slots[at].key == key:
        slots[at].value += value
        return 0
    slots[at].key = key
    slots[at].value = value
    return 1


@compiled
def _count_windows(slots: np.ndarray, used: int, ids: np.ndarray, at: int, weights: np.ndarray, columns: int) -> tuple[int, int]:
    limit = slots.size // 3 * 2 - weights.size
    for i in range(at, ids.size):
        if ids[i] == BOUNDARY:
            continue
        if used > limit:
            return i, used
        first = np.int64(ids[i])
        for distance in range(1, min(weights.size, ids.size - 1 - i) + 1):
            second = np.int64(ids[i + distance])
            if second == BOUNDARY:
                break
            used += _add(slots, min(first, second) * columns + max(first, second), weights[distance - 1])
    return ids.size, used


@compiled
def _count_pairs(slots: np.ndarray, used: int, pairs: np.ndarray, at: int, columns: int) -> tuple[int, int]:
    limit = slots.size // 3 * 2
    for i in range(at, len(pairs)):
        if used > limit:
            return i, used
        used += _add(slots, np.int64(pairs[i, 0]) * columns + pairs[i, 1], 1.0)
    return len(pairs), used


@compiled
def _move(slots: np.ndarray, larger: np.ndarray) -> None:
    for i in range(slots.size):
        if slots[i].key != EMPTY:
            at = _slot(larger, slots[i].key)
            larger[at].key = slots[i].key
            larger[at].value = slots[i].value


@compiled
def _merged(keys: np.ndarray, values: np.ndarray, other_keys: np.ndarray, other_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two ascending runs as one; the sums of a key that both have are added."""
    joined, sums = np.empty(keys.size + other_keys.size, np.int64), np.empty(keys.size + other_keys.size)
    i = j = count = 0
    while i < keys.size or j < other_keys.size:
        ours = j >= other_keys.size or (i < keys.size and keys[i] <= other_keys[j])
        both = ours and i < keys.size and j < other_keys.size and keys[i] == other_keys[j]
        joined[count] = keys[i] if ours else other_keys[j]
        sums[count] = values[i] if ours else other_values[j]
        if both:
            sums[count] += other_values[j]
        i += 1 if ours else 0
        j += 1 if both or not ours else 0
        count += 1
    return joined[:count].copy(), sums[:count].copy()
