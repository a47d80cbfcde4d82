"""How sure a comparison is: spread over seeds, bootstrap intervals, paired tests, and Holm's correction for many of them.

A score per test example (1 right, 0 wrong; or any number whose mean is the metric) is averaged over seeds first: the examples are
what the intervals and tests resample, as they are what the reader wants to generalise over (Dror et al., 2018). Metrics that are no
mean over examples (F1, correlations) are resampled as a whole by `bootstrap_metric` and `paired_bootstrap`; for ratios of sums over
sentences see `weft.compare.ratios`.

Sources: percentile bootstrap (Efron & Tibshirani, 1993, 13.3); sign-flip permutation test (Fisher, 1935; Noreen, 1989);
McNemar (1947), exact; Holm (1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LATTICE = 60  # differences that are whole multiples of 1/n, n up to this, are tested exactly
EXACT_WIDTH = 100_000  # beyond this many steps of the lattice the exact distribution is not worth its time
CHUNK = 4_000_000  # numbers drawn at a time


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); the deviation of a single value is not known: None. ValueError when there is none."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("the mean of no values is not defined")
    return float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else None


def example_scores(scores: Any) -> np.ndarray:
    """(N,) or (S, N) → (N,): the mean over S seeds of each example's score. ValueError when empty, of another shape, or not finite."""
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim not in (1, 2) or not array.size:
        raise ValueError(f"scores must be (examples,) or (seeds, examples) and not empty, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite numbers")
    return array if array.ndim == 1 else array.mean(axis=0)


def bootstrap_interval(scores: Any, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over examples. `scores` (N,) or (S, N): S seeds are averaged for each example first.

    Examples whose scores are few distinct numbers (right and wrong) are resampled by how often each number is drawn, which is the same
    distribution at a fraction of the time. Raises ValueError for empty or infinite scores and for a level outside (0, 1).
    """
    values = example_scores(scores)
    check_level(level)
    generator = np.random.default_rng(seed)
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) <= 64:
        means = generator.multinomial(len(values), counts / len(values), size=resamples) @ levels / len(values)
    else:
        means = np.concatenate([values[rows].mean(axis=1) for rows in _resampled_rows(generator, len(values), resamples)])
    return percentiles(means, level)


def paired_permutation(first: Any, second: Any, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that two systems have the same mean score, by flipping the signs of the examples' differences.

    `first` (N,) or (S, N) and `second` (N,) or (S', N) score the same N examples; seeds are averaged first. Exact (every one of the 2^N
    flips is counted, by convolving binomials) when the differences are multiples of some 1/n as means of right and wrong over a few
    seeds are; otherwise from `resamples` random flips, the given one counted among them, so that p is never 0.
    Raises ValueError for empty, infinite or differently long scores.
    """
    a, b = example_scores(first), example_scores(second)
    if len(a) != len(b):
        raise ValueError(f"paired scores need the same examples, got {len(a)} and {len(b)}")
    difference = a - b
    difference = difference[np.abs(difference) > 1e-12]
    if not len(difference):
        return 1.0
    steps = _lattice(difference)
    if steps is not None and np.abs(steps).sum() <= EXACT_WIDTH:
        return _exact_flips(steps)
    return _random_flips(difference, resamples, np.random.default_rng(seed))


def _lattice(difference: np.ndarray) -> np.ndarray | None:
    """The differences as whole numbers of 1/n for the smallest n that does, or None."""
    for n in range(1, LATTICE + 1):
        steps = np.rint(difference * n)
        if np.abs(difference * n - steps).max() < 1e-7:
            return steps.astype(np.int64)
    return None


def _exact_flips(steps: np.ndarray) -> float:
    """P(|Σ ±step| ≥ |Σ step|). Steps of one size m, c of them, sum to m(2B - c) with B ~ Binomial(c, ½); the sizes are convolved."""
    from scipy.stats import binom

    distribution = np.ones(1)  # of the sum, over the even lattice -width, -width + 2, …, width
    for size, count in zip(*np.unique(np.abs(steps), return_counts=True), strict=True):
        spread = np.zeros(size * count + 1)
        spread[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = np.convolve(distribution, spread)
    width = int(np.abs(steps).sum())
    sums = np.arange(-width, width + 1, 2)
    return float(min(1.0, distribution[np.abs(sums) >= abs(int(steps.sum()))].sum()))


def _random_flips(difference: np.ndarray, resamples: int, generator: np.random.Generator) -> float:
    observed = abs(difference.sum())
    bound = observed - 1e-9 * np.abs(difference).sum()  # rounding must not part what is equal
    extreme, left = 0, resamples
    while left:
        rows = min(left, max(1, CHUNK // len(difference)))
        signs = generator.integers(0, 2, size=(rows, len(difference)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs @ difference) >= bound).sum())
        left -= rows
    return (extreme + 1) / (resamples + 1)


def mcnemar(first: Any, second: Any) -> float:
    """Exact two-sided McNemar test for one run of each system: `first`, `second` (N,) booleans, right or wrong on the same examples.

    The examples that only one gets right are coin flips when the systems are equal. ValueError when the lengths differ.
    """
    from scipy.stats import binom

    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired answers need the same examples, got shapes {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(min(1.0, 2 * binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values, in the given order; None (a comparison that was not made) stays None and does not count.

    Rejecting where the adjusted value is at most α keeps the chance of any false rejection at α. ValueError for a value outside [0, 1].
    """
    made = [(p, i) for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(sorted(made)):
        if not 0 <= p <= 1:
            raise ValueError(f"a p-value lies between 0 and 1, got {p}")
        largest = max(largest, min(1.0, p * (len(made) - rank)))
        adjusted[i] = largest
    return adjusted


Metric = Callable[[np.ndarray, np.ndarray], float]


def bootstrap_metric(
    metric: Metric, labels: Any, outputs: Sequence[Any], *, level: float = 0.95, resamples: int = 1_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of `metric(labels, output)`, averaged over the seeds' `outputs`: S arrays of N rows, as `labels`.

    Every resample draws the same examples for every seed. Raises ValueError when lengths differ or nothing is given, for a level outside
    (0, 1), and when the metric is not a number on more than half of the resamples.
    """
    check_level(level)
    means = _resampled_metric(metric, labels, [list(outputs)], resamples, seed)[0]
    return percentiles(defined(means), level)


def paired_bootstrap(
    metric: Metric, labels: Any, first: Sequence[Any], second: Sequence[Any], *, level: float = 0.95, resamples: int = 1_000, seed: int = 0
) -> tuple[float, tuple[float, float], float]:
    """(difference, its interval, two-sided p) of a metric between two systems, each a sequence of outputs (N rows), one a seed.

    Both are scored on the same resampled examples. p is twice the share of resamples on the far side of no difference (Efron &
    Tibshirani, 1993, 15.4), the observed one counted, so never 0. Raises as `bootstrap_metric`.
    """
    check_level(level)
    scores = _resampled_metric(metric, labels, [list(first), list(second)], resamples, seed)
    differences = defined(scores[0] - scores[1])
    labels = np.asarray(labels)
    whole = [float(np.mean([metric(labels, np.asarray(output)) for output in outputs])) for outputs in (first, second)]
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    p = min(1.0, 2 * float(tail + 1) / (len(differences) + 1))
    return whole[0] - whole[1], percentiles(differences, level), p


def _resampled_metric(metric: Metric, labels: Any, systems: list[list[Any]], resamples: int, seed: int) -> np.ndarray:
    """(systems, resamples): the metric's mean over each system's seeds on every resample; NaN where it is not defined."""
    labels = np.asarray(labels)
    arrays = [[np.asarray(output) for output in outputs] for outputs in systems]
    if not len(labels) or not all(arrays):
        raise ValueError("a bootstrap needs labels and at least one output a system")
    wrong = next((len(output) for outputs in arrays for output in outputs if len(output) != len(labels)), None)
    if wrong is not None:
        raise ValueError(f"{len(labels)} labels but {wrong} outputs")
    generator = np.random.default_rng(seed)
    found = np.empty((len(systems), resamples))
    for i in range(resamples):
        rows = generator.integers(0, len(labels), size=len(labels))
        for j, outputs in enumerate(arrays):
            found[j, i] = np.mean([metric(labels[rows], output[rows]) for output in outputs])
    return found


def defined(values: np.ndarray) -> np.ndarray:
    """The values that are numbers: a resample may miss a class, and a correlation of constants is none."""
    finite = values[np.isfinite(values)]
    if 2 * len(finite) <= len(values):
        raise ValueError(f"the metric is not defined on {len(values) - len(finite)} of {len(values)} resamples")
    return finite


def _resampled_rows(generator: np.random.Generator, size: int, resamples: int) -> Any:
    """Row numbers drawn with replacement, (r, size) at a time."""
    left = resamples
    while left:
        rows = min(left, max(1, CHUNK // size))
        yield generator.integers(0, size, size=(rows, size))
        left -= rows


def percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    """The interval that holds the middle `level` of the values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def check_level(level: float) -> None:
    """Raises ValueError for a level outside (0, 1)."""
    if not (0 < level < 1) or math.isnan(level):
        raise ValueError(f"level must lie between 0 and 1, got {level}")
