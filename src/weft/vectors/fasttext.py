"""fastText's subwords: a word is the mean of the vectors of its character n-grams and its own, so that unseen words have a vector too
(E51).

Bojanowski et al. (2017). The n-grams of "<word>" are hashed into buckets by the released program's function (FNV-1a over bytes that are
read as signed), so that its models and ours agree on every bucket. Only buckets that some word of the vocabulary falls into get a row:
with two million of them most would be noise that nothing trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from weft.errors import InputError
from weft.vectors.compiled import compiled

BUCKETS, SHORTEST, LONGEST = 2_000_000, 3, 6  # the released program's
MOST_BUCKETS, LONGEST_OF_ALL = 2**31 - 1, 1_000_000


def ngram_buckets(
    words: Sequence[str], buckets: int = BUCKETS, shortest: int = SHORTEST, longest: int = LONGEST
) -> tuple[np.ndarray, np.ndarray]:
    """The buckets of every word's character n-grams, in their order: (starts (N + 1,) int64, ids int64), those of word i at
    starts[i]:starts[i + 1].

    n-grams are of `shortest` … `longest` characters of "<word>"; a lone < or > is none. longest = 0: there are no n-grams.
    Raises InputError for lengths or buckets that cannot be.
    """
    if longest and not 1 <= shortest <= longest <= LONGEST_OF_ALL:
        raise InputError(f"n-grams of {shortest} to {longest} characters cannot be: 1 ≤ min_n ≤ max_n, or max_n = 0 for none", "min_n")
    if not 1 <= buckets <= MOST_BUCKETS:
        raise InputError(f"must be from 1 to {MOST_BUCKETS:,}, not {buckets}", "buckets")
    marked = [f"<{word}>".encode("utf-8", "surrogatepass") for word in words]
    ends = np.cumsum([0, *map(len, marked)], dtype=np.int64)
    data = np.frombuffer(b"".join(marked) or b"\0", np.uint8)
    starts = np.zeros(len(words) + 1, np.int64)
    nothing = np.empty(0, np.int64)
    _hash(data, ends, buckets, shortest, longest, starts, nothing)
    ids = np.empty(starts[-1], np.int64)
    _hash(data, ends, buckets, shortest, longest, starts, ids)
    return starts, ids


@compiled
def _hash(data: np.ndarray, ends: np.ndarray, buckets: int, shortest: int, longest: int, starts: np.ndarray, out: np.ndarray) -> None:
    """Counts the n-grams into starts where `out` is empty, else writes their buckets into it."""
    found = 0
    for word in range(ends.shape[0] - 1):
        first, last = ends[word], ends[word + 1]
        for i in range(first, last):
            if (data[i] & 0xC0) == 0x80:
                continue  # inside a character
            value, j, n = np.uint64(2166136261), i, 1
            while j < last and n <= longest:
                while True:
                    byte = np.uint64(data[j])
                    value ^= byte | np.uint64(0xFFFFFF00) if byte >= 128 else byte
                    value = (value * np.uint64(16777619)) & np.uint64(0xFFFFFFFF)
                    j += 1
                    if j >= last or (data[j] & 0xC0) != 0x80:
                        break
                if n >= shortest and not (n == 1 and (i == first or j == last)):
                    if found < out.shape[0]:
                        out[found] = np.int64(value % np.uint64(buckets))
                    found += 1
                n += 1
        starts[word + 1] = found


@compiled
def mean_rows(table: np.ndarray, starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The mean of table[rows[starts[i]:starts[i + 1]]] for every i, zero where there are none: (N, D)."""
    means = np.zeros((starts.shape[0] - 1, table.shape[1]), np.float32)
    for i in range(means.shape[0]):
        share = np.float32(1) / np.float32(max(1, starts[i + 1] - starts[i]))
        for place in range(starts[i], starts[i + 1]):
            row = rows[place]
            for d in range(table.shape[1]):
                means[i, d] += share * table[row, d]
    return means


class Subwords:
    """Vectors for words that were never seen, out of their character n-grams.

    table: (N, D) float32, the rows of n-grams. used: (N,) the bucket of each row, ascending, or None where row i is bucket i.
    """

    def __init__(
        self, table: np.ndarray, used: np.ndarray | None, *, buckets: int = BUCKETS, shortest: int = SHORTEST, longest: int = LONGEST
    ) -> None:
        if table.ndim != 2 or len(table) != (buckets if used is None else len(used)):
            raise InputError(f"rows of {'buckets' if used is None else 'used buckets'} and table of {table.shape} do not fit", "subwords")
        if used is not None and (np.any(np.diff(used) <= 0) or (len(used) and not 0 <= used[0] <= used[-1] < buckets)):
            raise InputError(f"the used buckets must ascend within 0 … {buckets - 1}", "subwords")
        self.table, self.used, self.buckets, self.shortest, self.longest = table, used, buckets, shortest, longest

    def vector(self, word: str) -> np.ndarray:
        """The mean of the vectors of the word's n-grams that have one, (D,). Raises InputError where none has."""
        _, ids = ngram_buckets([word], self.buckets, self.shortest, self.longest)
        if self.used is not None:
            places = np.searchsorted(self.used, ids)
            known = self.used[np.minimum(places, len(self.used) - 1)] == ids if len(self.used) else np.zeros(len(ids), bool)
            ids = places[known]
        if not len(ids):
            raise InputError(f"{word!r:.60} is unknown, and none of its character n-grams was seen in training")
        mean: np.ndarray = np.asarray(self.table[ids], np.float32).mean(0, dtype=np.float64).astype(np.float32)
        return mean

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and settings, from which `from_arrays` makes it again."""
        arrays = {"table": self.table} | ({} if self.used is None else {"used": np.asarray(self.used, np.int64)})
        return arrays, {"buckets": self.buckets, "shortest": self.shortest, "longest": self.longest}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any], words: Sequence[str]) -> Self:
        """What `to_arrays` gave. Raises InputError, KeyError or TypeError where it is something else."""
        numbers = {name: int(settings[name]) for name in ("buckets", "shortest", "longest")}
        return cls(arrays["table"], arrays.get("used"), **numbers)


def with_own(starts: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(starts, rows) of every word with its own row, w, before those of its n-grams, which stand behind all words' own: V + row."""
    count = len(starts) - 1
    longer = starts + np.arange(count + 1)
    joined = np.empty(longer[-1], np.int32)
    own = np.zeros(len(joined), bool)
    own[longer[:-1]] = True
    joined[own], joined[~own] = np.arange(count), count + rows
    return longer, joined


def subword_rows(
    words: Sequence[str], buckets: int = BUCKETS, shortest: int = SHORTEST, longest: int = LONGEST
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """((starts, rows), used): the rows of every word, its own first (`with_own`), and the buckets, ascending, that those of n-grams
    belong to."""
    starts, ids = ngram_buckets(words, buckets, shortest, longest)
    used, places = np.unique(ids, return_inverse=True)
    return with_own(starts, places), used
