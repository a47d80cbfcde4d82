"""GloVe: vectors whose products are the logarithms of co-occurrence counts (E52; Pennington, Socher & Manning, 2014).

J = Σ_{ij} f(X_ij)(w_i·w̃_j + b_i + b̃_j − log X_ij)², f(x) = min((x/x_max)^α, 1). One cell at a time, by AdaGrad as in the released C
program: the gradient is that of J/2, and the accumulators, which there begin at 1 and gather (ηg)², are here multiplied by η⁻²; that is
E21 with a rate of 1, V = η⁻² at the start. (The C program divides by √V before it adds g² to V; here, as in E21, it is added first.)

Almost all of the time goes to fetching rows. So the words are dealt at random into groups, cells into tiles (group of the word, group of
the context), and an epoch takes the tiles in a new order and each tile's cells in a new order: a tile's rows stay in the cache, as in
Gemulla et al., 2011. Threads share the tables without locks; one thread is exact and repeatable.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from weft.errors import DivergedError, InputError
from weft.vectors import counts as counting
from weft.vectors.compiled import compiled

log = logging.getLogger("weft")

GROUP = 1024  # words; of so many words and contexts the rows and their accumulators fit a cache of 2 MB at d = 100

Report = Callable[[int, int, float], None]  # epochs done, epochs planned, J per cell


@dataclass
class Tables:
    """What is learnt: rows 0 … V − 1 are words, V … 2V − 1 the same words as contexts. vectors (2V, d) and biases (2V,), float32,
    and their AdaGrad accumulators."""

    vectors: np.ndarray
    biases: np.ndarray
    vector_squares: np.ndarray
    bias_squares: np.ndarray

    @classmethod
    def start(cls, size: int, dim: int, learning_rate: float, seed: int) -> Tables:
        """Uniform in ±1/(2d), as the C program starts."""
        random = np.random.default_rng(seed)
        vectors = (random.random((2 * size, dim), np.float32) - np.float32(0.5)) / np.float32(dim)
        biases = (random.random(2 * size, np.float32) - np.float32(0.5)) / np.float32(dim)
        first = np.float32(learning_rate**-2)
        return cls(vectors, biases, np.full_like(vectors, first), np.full_like(biases, first))


@dataclass
class Cells:
    """The cells with X > 0, tile after tile: where (row, column) (N, 2) int32; what, log X and f(X) (N, 2) float32; the tiles' bounds,
    (tiles + 1,) int64."""

    where: np.ndarray
    what: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, matrix: Any, x_max: float = 10.0, alpha: float = 0.75, seed: int = 1) -> Cells:
        """From a sparse matrix (V, V) of counts. Raises InputError where a count is negative or no finite number, and where all are 0."""
        cells = matrix.tocoo()
        if not (np.isfinite(cells.data).all() and (cells.data >= 0).all()):
            raise InputError("counts must be finite and not negative", "counts")
        real = np.flatnonzero(cells.data > 0)
        if not len(real):
            raise InputError("no pair was counted: there is nothing to learn from", "counts")
        group = np.random.default_rng(seed).permutation(matrix.shape[0]) // GROUP
        tile = group[cells.row[real]] * (int(group.max()) + 1) + group[cells.col[real]]
        order = np.argsort(tile, kind="stable")
        bounds = np.append(np.flatnonzero(np.diff(tile[order], prepend=-1)), len(order))
        chosen = real[order]
        values = cells.data[chosen].astype(np.float64)
        what = np.stack([np.log(values), np.minimum((values / x_max) ** alpha, 1.0)], 1).astype(np.float32)
        return cls(np.stack([cells.row[chosen], cells.col[chosen]], 1).astype(np.int32), what, bounds)

    def __len__(self) -> int:
        return len(self.where)


def train_glove(
    chunks: counting.Chunks,
    counts: np.ndarray,
    *,
    dim: int = 100,
    window: int | None = 15,
    weight: str | None = None,
    epochs: int = 15,
    learning_rate: float = 0.1,
    x_max: float = 10.0,
    alpha: float = 0.75,
    contexts: bool = True,
    seed: int = 1,
    threads: int = 1,
    report: Report | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """GloVe vectors of a corpus: (V, dim) float32, w + w̃, or w alone with contexts=False; and what there is to say about them.

    chunks() and counts (V,), weight too, as for `train_svd`. x_max = 10 and the learning rate suit corpora of millions of
    words; the paper's 100 and 0.05 are for billions.
    The info has "losses", J per cell in each epoch, each cell as it was met; "loss", that of the finished vectors;
    "cells"; "biases" (2, V). report: called after each epoch.
    Raises InputError for an empty corpus and options that do not fit, DivergedError where the loss is no number any more.
    """
    size = counting.check_corpus(counts, dim)
    matrix = counting.count_windows(chunks, size, window=window, weight=weight or counting.usual_weight(window), threads=threads)
    options: dict[str, Any] = {"epochs": epochs, "learning_rate": learning_rate, "x_max": x_max, "alpha": alpha}
    tables, info = fit_glove(matrix, dim, **options, seed=seed, threads=threads, report=report)
    vectors = tables.vectors[:size] + tables.vectors[size:] if contexts else tables.vectors[:size].copy()
    return vectors, {**info, "biases": tables.biases.reshape(2, size)}


def fit_glove(
    matrix: Any,
    dim: int,
    *,
    epochs: int = 15,
    learning_rate: float = 0.1,
    x_max: float = 10.0,
    alpha: float = 0.75,
    seed: int = 1,
    threads: int = 1,
    report: Report | None = None,
) -> tuple[Tables, dict[str, Any]]:
    """As `train_glove`, from the sparse matrix (V, V) of counts X; gives the tables themselves."""
    for name, number in (("dim", dim), ("epochs", epochs), ("threads", threads)):
        if number < 1:
            raise InputError(f"must be at least 1, not {number}", name)
    for name, value in (("learning_rate", learning_rate), ("x_max", x_max), ("alpha", alpha)):
        if not 0 < value < math.inf:
            raise InputError(f"must be above 0 and finite, not {value}", name)
    cells = Cells.of(matrix, x_max, alpha, seed)
    tables = Tables.start(matrix.shape[0], dim, learning_rate, seed)
    log.info("%d words, %d cells", matrix.shape[0], len(cells))
    losses: list[float] = []
    with ThreadPoolExecutor(threads) as pool:
        for epoch in range(epochs):
            losses.append(_epoch(cells, tables, [seed, epoch], threads, pool))
            if not math.isfinite(losses[-1]):
                raise DivergedError(f"the loss is {losses[-1]}", step=epoch * len(cells), batch=0)
            if report is not None:
                report(epoch + 1, epochs, losses[-1])
    return tables, {"losses": losses, "loss": objective(cells, tables) / len(cells), "cells": len(cells)}


def objective(cells: Cells, tables: Tables) -> float:
    """J of the tables as they are."""
    return _objective(cells.where, cells.what, tables.vectors, tables.biases)


def step(cells: Cells, tables: Tables) -> float:
    """One AdaGrad step for each cell, in the order in which they lie, in place; the sum of their parts of J, each before its step."""
    return _step(cells.where, cells.what, tables.vectors, tables.biases, tables.vector_squares, tables.bias_squares)


def _epoch(cells: Cells, tables: Tables, seed: list[int], threads: int, pool: ThreadPoolExecutor) -> float:
    """All cells once, in a new order; J per cell."""
    random = np.random.default_rng(seed)
    tiles = random.permutation(len(cells.bounds) - 1)
    seeds = random.integers(1, 2**63, len(tiles), dtype=np.int64)
    ends = np.cumsum(np.diff(cells.bounds)[tiles])  # each thread is to have as many cells
    cuts = np.searchsorted(ends, np.linspace(0, ends[-1], threads + 1)[1:-1]).tolist()
    learnt = (tables.vectors, tables.biases, tables.vector_squares, tables.bias_squares)
    parts = [
        pool.submit(_walk, cells.where, cells.what, cells.bounds, some, some_seeds, *learnt)
        for some, some_seeds in zip(np.split(tiles, cuts), np.split(seeds, cuts), strict=True)
    ]
    return float(sum(part.result() for part in parts)) / len(cells)


@compiled
def _walk(
    where: np.ndarray, what: np.ndarray, bounds: np.ndarray, tiles: np.ndarray, seeds: np.ndarray,
    vectors: np.ndarray, biases: np.ndarray, vector_squares: np.ndarray, bias_squares: np.ndarray,
) -> float:  # fmt: skip
    total = 0.0
    for n in range(tiles.size):
        start, stop = bounds[tiles[n]], bounds[tiles[n] + 1]
        _shuffle(where[start:stop], what[start:stop], seeds[n])
        total += _step(where[start:stop], what[start:stop], vectors, biases, vector_squares, bias_squares)
    return total


@compiled
def _shuffle(where: np.ndarray, what: np.ndarray, seed: int) -> None:
    """A random order (Fisher & Yates), by numbers of xorshift64* (Vigna, 2016)."""
    state = np.uint64(seed)
    for i in range(len(where) - 1, 0, -1):
        state ^= state >> np.uint64(12)
        state ^= state << np.uint64(25)
        state ^= state >> np.uint64(27)
        # the upper 32 bits, scaled down to 0 … i
        j = np.int64((((state * np.uint64(0x2545F4914F6CDD1D)) >> np.uint64(32)) * np.uint64(i + 1)) >> np.uint64(32))
        for k in range(2):
            where[i, k], where[j, k] = where[j, k], where[i, k]
            what[i, k], what[j, k] = what[j, k], what[i, k]


@compiled
def _step(
    where: np.ndarray, what: np.ndarray,
    vectors: np.ndarray, biases: np.ndarray, vector_squares: np.ndarray, bias_squares: np.ndarray,
) -> float:  # fmt: skip
    dim, size = vectors.shape[1], len(vectors) // 2
    total = 0.0
    for n in range(len(where)):
        i, j = np.int64(where[n, 0]), np.int64(where[n, 1]) + size
        word, context, word_squares, context_squares = vectors[i], vectors[j], vector_squares[i], vector_squares[j]
        error = biases[i] + biases[j] - what[n, 0]
        for d in range(dim):
            error += word[d] * context[d]
        slope = what[n, 1] * error  # of J/2, at the product
        total += slope * error
        for d in range(dim):
            old_word, old_context = word[d], context[d]
            word_gradient, context_gradient = slope * old_context, slope * old_word
            word_square = word_squares[d] + word_gradient * word_gradient
            context_square = context_squares[d] + context_gradient * context_gradient
            word_squares[d], context_squares[d] = word_square, context_square
            word[d] = old_word - word_gradient / np.sqrt(word_square)
            context[d] = old_context - context_gradient / np.sqrt(context_square)
        for row in (i, j):
            bias_squares[row] += slope * slope
            biases[row] -= slope / np.sqrt(bias_squares[row])
    return total


@compiled
def _objective(where: np.ndarray, what: np.ndarray, vectors: np.ndarray, biases: np.ndarray) -> float:
    size, total = len(vectors) // 2, 0.0
    for n in range(len(where)):
        i, j = np.int64(where[n, 0]), np.int64(where[n, 1]) + size
        error = biases[i] + biases[j] - what[n, 0]
        for d in range(vectors.shape[1]):
            error += vectors[i, d] * vectors[j, d]
        total += what[n, 1] * error * error
    return total
