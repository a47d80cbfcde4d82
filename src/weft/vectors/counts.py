"""Counted word vectors: term–context counts, positive PMI, truncated SVD (E36–E38).

Church & Hanks, 1990 (PMI of words); Bullinaria & Levy, 2007 (PPMI); Levy & Goldberg, 2014 (shift by log k: what negative sampling
factorises); Levy, Goldberg & Dagan, 2015 (context smoothing, Σ^p); Halko, Martinsson & Tropp, 2011 (randomized SVD).
scipy and scikit-learn are imported inside the functions: they take a while.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from weft.errors import InputError
from weft.vectors import cooccurrence
from weft.vectors.corpus import BOUNDARY, keep_probabilities

log = logging.getLogger("weft")

MEMORY = 1 << 28  # bytes of hash table
WEIGHTS = ("flat", "harmonic", "dynamic")

Chunks = Callable[[], Iterator[np.ndarray]]


def window_weights(window: int, weight: str = "flat") -> np.ndarray:
    """What a pair at distance 1 … window counts (window,): 1 ("flat"), 1/distance ("harmonic"), or (window + 1 − distance)/window.

    The last, "dynamic", is the expectation where each word draws its own window from 1 … window (E39). Raises InputError where
    window < 1 or the weight has no such name.
    """
    if window < 1:
        raise InputError(f"must be at least 1, not {window}", "window")
    distance = np.arange(1, window + 1, dtype=np.float64)
    if weight not in WEIGHTS:
        raise InputError(f"must be one of {', '.join(WEIGHTS)}, not {weight!r}", "weight")
    return {"flat": np.ones(window), "harmonic": 1 / distance, "dynamic": (window + 1 - distance) / window}[weight]


def count_windows(
    chunks: Chunks, size: int, *, window: int | None = 5, weight: str = "flat", threads: int = 1, memory: int = MEMORY
) -> Any:
    """Term–context counts C_{wc} of symmetric windows of ± `window` words that no sentence's end is inside of (E36).

    chunks(): arrays of ids (N,), 0 … size − 1, BOUNDARY between sentences; a chunk ends where a sentence does. window None: the whole
    sentence is one unordered set. Returns a scipy CSR matrix (size, size) of float64, symmetric: a pair of two equal words counts twice,
    once from each side. With weight "flat" the sum is the number of pairs (W8).
    Raises InputError where an id is not one, or options do not fit.
    """
    if window is None and weight != "flat":
        raise InputError(f"a set has no distances: weight must be 'flat', not {weight!r}", "weight")
    if threads < 1:
        raise InputError(f"must be at least 1, not {threads}", "threads")
    weights = None if window is None else window_weights(window, weight)

    def count(table: cooccurrence.PairTable, ids: np.ndarray) -> None:
        cooccurrence.check_ids(ids, size, "ids", lowest=BOUNDARY)
        ids = np.ascontiguousarray(ids, np.int32)
        if weights is None:
            table.add_sets(ids)
        else:
            table.add_windows(ids, weights)

    half = cooccurrence.matrix_of(*cooccurrence.sums_of(chunks(), size, count, threads, memory), size, size)
    return half + half.T.tocsr()


def count_pairs(pairs: Iterable[np.ndarray] | np.ndarray, rows: int, columns: int, *, memory: int = MEMORY) -> Any:
    """Counts of given pairs (word, context), such as a word and the relation it stands in (E36): a CSR matrix (rows, columns) of float64.

    pairs: one array (N, 2) of ids, or several. Contexts may have a vocabulary of their own. Raises InputError where an id is not one.
    """

    def count(table: cooccurrence.PairTable, some: np.ndarray) -> None:
        if some.ndim != 2 or some.shape[1] != 2:
            raise InputError(f"pairs have two columns, word and context: got the shape {some.shape}", "pairs")
        for column, size in enumerate((rows, columns)):
            cooccurrence.check_ids(some[:, column], size, ("words", "contexts")[column])
        table.add_pairs(np.ascontiguousarray(some, np.int32))

    several = iter([pairs]) if isinstance(pairs, np.ndarray) else iter(pairs)
    return cooccurrence.matrix_of(*cooccurrence.sums_of(several, columns, count, 1, memory), rows, columns)


def ppmi(counts: Any, *, shift: float = 1.0, smoothing: float = 1.0) -> Any:
    """Positive PMI, max(log [p(w, c)/(p(w)p(c))] − log shift, 0), of a count matrix (V, C), sparse or not (E37): CSR of float64.

    p(c) ∝ count^smoothing: below 1 (0.75) rare contexts lose the advantage that PMI gives them. What was never counted stays 0, and
    what comes out as 0 is not stored. Raises InputError where a count is negative or no finite number, where all are 0, and where
    shift ≤ 0.
    """
    from scipy.sparse import csr_matrix

    matrix = csr_matrix(counts, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if not (np.isfinite(matrix.data).all() and (matrix.data >= 0).all()):
        raise InputError("counts must be finite and not negative", "counts")
    if not shift > 0:
        raise InputError(f"must be above 0, not {shift}; 1 shifts nothing", "shift")
    if not matrix.nnz:
        raise InputError("no pair was counted: there is nothing to learn from", "counts")
    total = matrix.data.sum()
    rows = np.asarray(matrix.sum(1)).ravel() / total
    sums = np.asarray(matrix.sum(0)).ravel()
    with np.errstate(over="ignore", divide="ignore"):
        columns = np.where(sums > 0, sums**smoothing, 0)
    if not (np.isfinite(columns.sum()) and columns.sum() > 0):
        raise InputError(f"counts to the power of {smoothing} are no numbers any more; 0.75 is usual", "smoothing")
    columns /= columns.sum()
    of_row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    matrix.data = np.maximum(np.log(matrix.data / total / (rows[of_row] * columns[matrix.indices])) - np.log(shift), 0)
    matrix.eliminate_zeros()
    return matrix


@dataclass(frozen=True)
class Factors:
    """A ≈ UΣVᵀ (E38). left (m, k) and right (n, k): orthonormal columns; values (k,): descending."""

    left: np.ndarray
    values: np.ndarray
    right: np.ndarray

    def words(self, power: float = 0.5) -> np.ndarray:
        """Word vectors UΣ^power (m, k)."""
        return self.left * self.values**power

    def contexts(self, power: float = 0.0) -> np.ndarray:
        """Context vectors VΣ^power (n, k)."""
        return self.right * self.values**power


def truncated_svd(matrix: Any, dim: int, *, seed: int = 0, iterations: int = 4) -> Factors:
    """The `dim` largest singular values and their vectors of a matrix, sparse or not, by random projection (E38).

    iterations: of the power method, each two products with the matrix. Signs are fixed by the largest entries. Raises InputError
    where dim is below 1, or more than the matrix has rows, columns or rank.
    """
    from sklearn.utils.extmath import randomized_svd

    if dim < 1:
        raise InputError(f"must be at least 1, not {dim}", "dim")
    if dim > min(matrix.shape):
        raise InputError(f"{dim} is more than a matrix of {matrix.shape[0]} × {matrix.shape[1]} has; at most {min(matrix.shape)}", "dim")
    left, values, right = randomized_svd(matrix, dim, n_iter=iterations, random_state=seed)
    rank = int((values > values[0] * max(matrix.shape) * np.finfo(values.dtype).eps).sum())
    if rank < dim:
        raise InputError(f"{dim} is more than the rank of the matrix, {rank}", "dim")
    return Factors(left, values, right.T)


def train_svd(
    chunks: Chunks,
    counts: np.ndarray,
    *,
    dim: int = 100,
    window: int | None = 10,
    weight: str | None = None,
    shift: float = 1.0,
    smoothing: float = 0.75,
    power: float = 0.5,
    sample: float = 1e-4,
    seed: int = 1,
    threads: int = 1,
    iterations: int = 4,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Word vectors of a corpus by counting: windows → PPMI → SVD (E36–E38). (V, dim) float32, and what there is to say about them.

    chunks() as for `count_windows`; counts (V,): of the words. weight: see `window_weights`; None for "harmonic" or, in sets, "flat".
    sample t > 0: pairs count as if frequent words were subsampled (E47), by the probability that both words stay.
    The info has "pairs" (distinct), "cells" (positive), "values" (dim,) and "explained", the share of the squared norm of the PPMI matrix.
    Raises InputError for an empty corpus, and as the functions above.
    """
    size = check_corpus(counts, dim)
    matrix = count_windows(chunks, size, window=window, weight=weight or usual_weight(window), threads=threads)
    pairs = matrix.nnz
    if not 0 <= sample < np.inf:
        raise InputError(f"must be 0, for none, or more, not {sample}", "sample")
    if sample:
        from scipy.sparse import diags

        kept = diags(keep_probabilities(counts, sample))
        matrix = (kept @ matrix @ kept).tocsr()
    matrix = ppmi(matrix, shift=shift, smoothing=smoothing).astype(np.float32)
    log.info("%d words, %d distinct pairs, %d of positive PMI", size, pairs, matrix.nnz)
    factors = truncated_svd(matrix, dim, seed=seed, iterations=iterations)
    explained = float(np.square(factors.values, dtype=np.float64).sum() / np.square(matrix.data, dtype=np.float64).sum())
    info = {"pairs": pairs, "cells": matrix.nnz, "values": factors.values, "explained": explained}
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(factors.words(power), np.float32)
    if not np.isfinite(vectors).all():
        raise InputError(f"singular values to the power of {power} are no numbers any more; 0.5 is usual", "power")
    return vectors, info


def usual_weight(window: int | None) -> str:
    """ "harmonic", or "flat" for sets, which know no distance."""
    return "flat" if window is None else "harmonic"


def check_corpus(counts: np.ndarray, dim: int) -> int:
    """How many words there are. Raises InputError where there is none, or where dim is below 1 or above their number."""
    if not len(counts):
        raise InputError("no word is left to learn vectors of", "corpus")
    if not 1 <= dim <= len(counts):
        raise InputError(f"{dim} does not fit {len(counts)} words: it must be from 1 to {len(counts)}", "dim")
    return len(counts)
