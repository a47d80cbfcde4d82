"""The hashing trick: features to numbers without a stored vocabulary (E35; Weinberger et al., 2009).

A word becomes 64 bits by BLAKE2b, which is the same on every machine and in every process; n-grams and salts are then mixed
in by integer arithmetic over whole arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from hashlib import blake2b

import numpy as np

from weft.errors import InputError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_digest = partial(blake2b, digest_size=8)


def word_hash(word: str) -> int:
    """64 bits of the word's UTF-8 bytes, whatever the process, the platform and PYTHONHASHSEED."""
    return int.from_bytes(_digest(word.encode("utf-8", "surrogatepass")).digest(), "little")


def mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's step (Steele et al., 2014): uint64 array in, uint64 array of the same shape out, one to one."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


def ngram_hashes(hashes: np.ndarray, n: int) -> np.ndarray:
    """The hash of each run of n neighbours: (T,) uint64 in, (max(0, T − n + 1),) uint64 out; order inside a run matters."""
    count = max(0, len(hashes) - n + 1)
    total = hashes[:count]
    for k in range(1, n):
        total = mix(total) + hashes[k : k + count]
    return mix(total)


def hashed_counts(
    tokens: Iterable[str], buckets: int, *, signed: bool = False, overwrite: bool = False, salt: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A bag of words hashed into `buckets` places, as (indices, values): int64 ascending and float64, both (places used,).

    index = h(token) mod buckets. Colliding tokens add up; with `overwrite` the last token that fell into a place replaces
    what stood there with its own count (E35's poorer form, for study). `signed` gives each token +1 or −1 by another bit of its
    hash, which makes inner products unbiased over salts. Each salt is another hash function.
    A place where signs cancel is kept, with value 0. Raises InputError where buckets < 1.
    """
    if buckets < 1:
        raise InputError(f"buckets must be at least 1, not {buckets}")
    counts: dict[str, int] = {}
    for token in tokens:  # a token seen again moves to the end: `overwrite` asks which came last
        counts[token] = counts.pop(token, 0) + 1
    hashes = np.fromiter((word_hash(token) for token in counts), np.uint64, len(counts))
    hashes = mix(hashes ^ mix(np.array([salt % 2**64], np.uint64)))
    values = np.fromiter(counts.values(), np.float64, len(counts))
    if signed:
        values = np.where(mix(hashes) >> np.uint64(63), -values, values)
    places, place_of = np.unique((hashes % np.uint64(buckets)).astype(np.int64), return_inverse=True)
    totals = np.zeros(len(places))
    if overwrite:
        totals[place_of] = values  # of repeated indices NumPy keeps the last
    else:
        np.add.at(totals, place_of, values)
    return places, totals
