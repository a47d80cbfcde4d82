"""How sure a comparison is of a metric that is a function of sums over sentences: token accuracy, span F1, BLEU.

Counts are (N, C) of N sentences, or (S, N, C) for S seeds: a numerator and a denominator, whose sums are divided, or the 10 counts of
`weft.metrics_text.bleu_counts`. Sentences are resampled or swapped whole, as their tokens are not independent.

Sources: percentile bootstrap (Efron & Tibshirani, 1993, 13.3; of BLEU, Koehn, 2004); approximate randomisation (Noreen, 1989; Yeh, 2000,
for F1; Riezler & Maxwell, 2005, for BLEU).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from weft.compare.statistics import CHUNK, check_level, defined, percentiles
from weft.metrics_text import ORDER

EXACT = 14  # sentences that differ: all 2ⁿ swaps of as many are counted
BLEU_COUNTS = 2 * ORDER + 2
Measure = Callable[[np.ndarray], np.ndarray]  # sums (…, C) → the metric (…), nan where it is not defined


def sentence_counts(counts: Any, columns: int = 2) -> np.ndarray:
    """(N, C) or (S, N, C) → (N, C), seeds summed. ValueError when empty, of another shape, not finite, or below 0."""
    array = np.asarray(counts, np.float64)
    if array.ndim not in (2, 3) or array.shape[-1] != columns or not array.size:
        raise ValueError(f"counts must be (sentences, {columns}) or (seeds, sentences, {columns}) and not empty, got shape {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("counts must be finite numbers, 0 or more")
    return array if array.ndim == 2 else array.sum(0)


def ratio_of(sums: np.ndarray) -> np.ndarray:
    """(…, 2) → numerator / denominator; nan where nothing is below."""
    above, below = sums[..., 0], sums[..., 1]
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 1e-9)


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """(…, 10) sums of `bleu_counts` → BLEU, 0 to 100, as sacreBLEU has it: exp(min(0, 1 − r/c)) · (p₁ p₂ p₃ p₄)^¼ (Papineni et al., 2002).

    Smoothed "exp" (Chen & Cherry, 2014, method 3): the k-th order of which no n-gram is right has 1 / 2ᵏ of one. 0 where no word is right,
    or where there are no n-grams of an order.
    """
    right, there = sums[..., :ORDER], sums[..., ORDER : 2 * ORDER]
    made, given = sums[..., -2], sums[..., -1]
    nothing = right <= 1e-9
    smoothed = np.where(nothing, 0.5 ** np.cumsum(nothing, -1), right)
    some = (there > 1e-9).all(-1) & ~nothing.all(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(smoothed / there).mean(-1))
        score = 100 * np.exp(np.minimum(0.0, 1 - given / made)) * precision
    return np.where(some, score, 0.0)


def bootstrap_ratio(counts: Any, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of Σ numerators / Σ denominators over sentences drawn with replacement.

    Seeds are summed for each sentence first: the ratio is that of all seeds' sentences together. Raises ValueError as `sentence_counts`,
    for a level outside (0, 1), and where more than half of the resamples have nothing below.
    """
    return _bootstrap(sentence_counts(counts)[None], ratio_of, level, resamples, seed)


def bootstrap_bleu(counts: Any, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of BLEU, a mean over seeds measured on the same drawn sentences. Raises as `bootstrap_ratio`."""
    sentence_counts(counts, BLEU_COUNTS)
    array = np.asarray(counts, np.float64)
    return _bootstrap(array if array.ndim == 3 else array[None], bleu_of, level, resamples, seed)


def _bootstrap(values: np.ndarray, measure: Measure, level: float, resamples: int, seed: int) -> tuple[float, float]:
    """Of values (S, N, C). Sentences with the same counts are resampled by how often their kind is drawn: the same distribution, and far
    less work."""
    check_level(level)
    seeds, sentences, columns = values.shape
    kinds, often = np.unique(values.transpose(1, 0, 2).reshape(sentences, -1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    found, left = [], resamples
    while left:
        rows = min(left, max(1, CHUNK // len(kinds)))
        sums = generator.multinomial(sentences, often / sentences, size=rows) @ kinds
        found.append(measure(sums.reshape(rows, seeds, columns)).mean(1))
        left -= rows
    return percentiles(defined(np.concatenate(found)), level)


def paired_permutation_ratio(
    first: Any, second: Any, *, measure: Measure = ratio_of, columns: int = 2, resamples: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p-value that two systems are the same by this metric: |difference| where each sentence's counts are swapped between the
    systems with probability ½.

    Exact, over all swaps, where at most 14 sentences differ; else from `resamples` random ones, the given one counted among them, so that
    p is never 0. Where a swap leaves a system nothing to measure, its metric counts as 0. first (N, C) or (S, N, C), second (N, C) or
    (S', N, C), on the same N sentences; seeds are summed for each sentence, and different numbers of them weighed alike. Raises ValueError
    as `sentence_counts`, and for different sentences.
    """
    seeds = [max(1, np.asarray(counts).shape[0] if np.ndim(counts) == 3 else 1) for counts in (first, second)]
    a, b = sentence_counts(first, columns) / seeds[0], sentence_counts(second, columns) / seeds[1]
    if len(a) != len(b):
        raise ValueError(f"paired counts need the same sentences, got {len(a)} and {len(b)}")
    half, total = (a - b) / 2, a.sum(0) + b.sum(0)
    half = half[np.abs(half).max(1) > 1e-12]
    observed = _gap(np.ones((1, len(half))), half, total, measure)[0]
    if observed <= 1e-12:
        return 1.0
    if len(half) <= EXACT:
        swaps = np.arange(1 << len(half))[:, None] >> np.arange(len(half)) & 1
        return float((_gap(1.0 - 2.0 * swaps, half, total, measure) >= _bound(observed)).mean())
    generator, extreme, left = np.random.default_rng(seed), 0, resamples
    while left:
        rows = min(left, max(1, CHUNK // len(half)))
        signs = generator.integers(0, 2, size=(rows, len(half)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((_gap(signs, half, total, measure) >= _bound(observed)).sum())
        left -= rows
    return (extreme + 1) / (resamples + 1)


def paired_permutation_bleu(first: Any, second: Any, *, resamples: int = 10_000, seed: int = 0) -> float:
    """`paired_permutation_ratio` of BLEU, from counts (N, 10) or (S, N, 10)."""
    return paired_permutation_ratio(first, second, measure=bleu_of, columns=BLEU_COUNTS, resamples=resamples, seed=seed)


def _bound(observed: float) -> float:
    """What is as extreme: rounding must not part what is equal."""
    return observed - 1e-12 - 1e-11 * observed


def _gap(signs: np.ndarray, half: np.ndarray, total: np.ndarray, measure: Measure) -> np.ndarray:
    """(R,): |metric of one system − metric of the other|, whose sums are total / 2 ± Σ sign · half, for R rows of signs ±1 (R, M)."""
    moved = signs @ half  # (R, C)
    one, other = (np.nan_to_num(measure(sums)) for sums in (total / 2 + moved, total / 2 - moved))
    return np.abs(one - other)
