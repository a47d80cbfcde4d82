"""How sure a comparison is of a metric that is a ratio of sums over sentences: token accuracy, span F1.

Counts are (N, 2), a numerator and a denominator for each of N sentences, or (S, N, 2) for S seeds; the metric is Σ numerators /
Σ denominators. Sentences are resampled or swapped whole, as their tokens are not independent. Seeds are summed for each sentence first:
the ratio is then that of all seeds' sentences together.

Sources: percentile bootstrap (Efron & Tibshirani, 1993, 13.3); approximate randomisation (Noreen, 1989; Yeh, 2000, for F1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.compare.statistics import CHUNK, check_level, defined, percentiles

EXACT = 14  # sentences that differ: all 2ⁿ swaps of as many are counted


def sentence_counts(counts: Any) -> np.ndarray:
    """(N, 2) or (S, N, 2) → (N, 2), seeds summed. ValueError when empty, of another shape, not finite, or below 0."""
    array = np.asarray(counts, np.float64)
    if array.ndim not in (2, 3) or array.shape[-1] != 2 or not array.size:
        raise ValueError(f"counts must be (sentences, 2) or (seeds, sentences, 2) and not empty, got shape {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("counts must be finite numbers, 0 or more")
    return array if array.ndim == 2 else array.sum(0)


def bootstrap_ratio(counts: Any, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of Σ numerators / Σ denominators over sentences drawn with replacement.

    Sentences with the same counts are resampled by how often their kind is drawn, which is the same distribution and far less work.
    Raises ValueError as `sentence_counts`, for a level outside (0, 1), and where more than half of the resamples have nothing below.
    """
    values = sentence_counts(counts)
    check_level(level)
    kinds, often = np.unique(values, axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    sums, left = [], resamples
    while left:
        rows = min(left, max(1, CHUNK // len(kinds)))
        sums.append(generator.multinomial(len(values), often / len(values), size=rows) @ kinds)
        left -= rows
    above, below = np.concatenate(sums).T
    ratios = np.divide(above, below, out=np.full(resamples, np.nan), where=below > 0)
    return percentiles(defined(ratios), level)


def paired_permutation_ratio(first: Any, second: Any, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that two systems are the same by this metric: |difference of ratios| where each sentence's counts are swapped
    between the systems with probability ½.

    Exact, over all swaps, where at most 14 sentences differ; else from `resamples` random ones, the given one counted among them, so that
    p is never 0. Where a swap leaves a system nothing below, its ratio counts as 0. first (N, 2) or (S, N, 2), second (N, 2) or
    (S', N, 2), on the same N sentences; different numbers of seeds are weighed alike. Raises ValueError as `sentence_counts`, and for
    different sentences.
    """
    seeds = [max(1, np.asarray(counts).shape[0] if np.ndim(counts) == 3 else 1) for counts in (first, second)]
    a, b = sentence_counts(first) / seeds[0], sentence_counts(second) / seeds[1]
    if len(a) != len(b):
        raise ValueError(f"paired counts need the same sentences, got {len(a)} and {len(b)}")
    half, total = (a - b) / 2, a.sum(0) + b.sum(0)
    half = half[np.abs(half).max(1) > 1e-12]
    observed = _gap(np.ones((1, len(half))), half, total)[0]
    if observed <= 1e-12:
        return 1.0
    if len(half) <= EXACT:
        swaps = np.arange(1 << len(half))[:, None] >> np.arange(len(half)) & 1
        return float((_gap(1.0 - 2.0 * swaps, half, total) >= observed - 1e-12).mean())
    return _random_swaps(half, total, observed, resamples, np.random.default_rng(seed))


def _random_swaps(half: np.ndarray, total: np.ndarray, observed: float, resamples: int, generator: np.random.Generator) -> float:
    extreme, left = 0, resamples
    while left:
        rows = min(left, max(1, CHUNK // len(half)))
        signs = generator.integers(0, 2, size=(rows, len(half)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((_gap(signs, half, total) >= observed - 1e-12).sum())
        left -= rows
    return (extreme + 1) / (resamples + 1)


def _gap(signs: np.ndarray, half: np.ndarray, total: np.ndarray) -> np.ndarray:
    """(R,): |ratio of one system − ratio of the other|, whose sums are total / 2 ± Σ sign · half, for R rows of signs ±1 (R, M)."""
    moved = signs @ half  # (R, 2)
    ratios = []
    for sums in (total / 2 + moved, total / 2 - moved):
        above, below = sums.T
        ratios.append(np.divide(above, below, out=np.zeros(len(signs)), where=below > 1e-9))
    return np.abs(ratios[0] - ratios[1])
