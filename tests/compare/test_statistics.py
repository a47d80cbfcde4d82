"""Intervals and tests against SciPy, enumeration of every flip, normal theory, and hand-worked Holm."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from weft.compare import statistics
from weft.compare.statistics import bootstrap_interval, bootstrap_metric, holm, mcnemar, mean_sd, paired_bootstrap, paired_permutation


def enumerated(difference):
    """The sign-flip test by listing all 2^N flips."""
    observed = abs(sum(difference))
    sums = [abs(sum(s * d for s, d in zip(signs, difference, strict=True))) for signs in itertools.product((1, -1), repeat=len(difference))]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


def test_mean_sd():
    mean, sd = mean_sd([1.0, 2.0, 4.0])
    assert (mean, sd) == (pytest.approx(7 / 3), pytest.approx(math.sqrt(7 / 3)))
    assert mean_sd([3.5]) == (3.5, None)
    with pytest.raises(ValueError, match="no values"):
        mean_sd([])


@pytest.mark.parametrize("share", [0.5, 0.77, 0.95])
def test_interval_of_right_and_wrong_is_the_binomials(share):
    count = 1000
    scores = np.arange(count) < share * count
    low, high = bootstrap_interval(scores, resamples=50_000)
    expected = stats.binom.ppf([0.025, 0.975], count, share) / count
    np.testing.assert_allclose([low, high], expected, atol=0.0015)


def test_interval_of_numbers_is_scipys():
    values = np.random.default_rng(1).gamma(2.0, size=200)
    low, high = bootstrap_interval(values, resamples=20_000, level=0.9)
    oracle = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    )
    np.testing.assert_allclose([low, high], oracle.confidence_interval, atol=0.01)


def test_both_ways_of_resampling_agree():
    generator = np.random.default_rng(0)
    few = generator.integers(0, 4, size=300) / 3
    many = few + generator.normal(scale=1e-9, size=300)  # the same numbers but for rounding: resampled row by row
    np.testing.assert_allclose(bootstrap_interval(few, resamples=20_000), bootstrap_interval(many, resamples=20_000), atol=0.004)


def test_seeds_are_averaged_before_examples_are_resampled():
    runs = np.random.default_rng(0).integers(0, 2, size=(3, 400))
    assert bootstrap_interval(runs) == bootstrap_interval(runs.mean(axis=0))
    assert bootstrap_interval(runs, seed=1) == bootstrap_interval(runs, seed=1)


def test_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(3)
    covered = 0
    for i in range(400):
        low, high = bootstrap_interval(generator.random(300) < 0.8, resamples=1000, seed=i)
        covered += low <= 0.8 <= high
    assert 0.91 <= covered / 400 <= 0.98


@pytest.mark.parametrize("seed", range(8))
def test_permutation_is_exact_for_means_over_seeds(seed):
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 2, size=(3, 12))
    second = generator.integers(0, 2, size=((3, 2)[seed % 2], 12))
    expected = enumerated(first.mean(axis=0) - second.mean(axis=0))
    assert paired_permutation(first, second) == pytest.approx(expected, abs=1e-12)
    assert paired_permutation(second, first) == pytest.approx(expected, abs=1e-12)


def test_permutation_of_one_run_is_mcnemar_is_a_binomial_test():
    generator = np.random.default_rng(0)
    for _ in range(5):
        first, second = generator.random(500) < 0.8, generator.random(500) < 0.75
        only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
        expected = stats.binomtest(only_first, only_first + only_second).pvalue
        assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
        assert paired_permutation(first, second) == pytest.approx(expected, rel=1e-9)


def test_random_flips_are_close_to_all_flips():
    difference = np.random.default_rng(5).normal(0.25, 1.0, size=13)  # no lattice
    found = paired_permutation(difference, np.zeros(13), resamples=40_000)
    assert found == pytest.approx(enumerated(difference), abs=0.01)


def test_random_flips_when_the_lattice_is_too_wide(monkeypatch):
    generator = np.random.default_rng(0)
    first, second = generator.random((3, 300)) < 0.8, generator.random((3, 300)) < 0.77
    exact = paired_permutation(first, second)
    monkeypatch.setattr(statistics, "EXACT_WIDTH", 10)
    assert paired_permutation(first, second, resamples=40_000) == pytest.approx(exact, abs=0.01)


def test_permutation_of_numbers_is_close_to_scipys():
    generator = np.random.default_rng(2)
    first, second = generator.normal(0.2, 1, 60), generator.normal(0, 1, 60)
    oracle = stats.permutation_test(
        (first, second), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(0)
    )
    assert paired_permutation(first, second, resamples=20_000) == pytest.approx(oracle.pvalue, abs=0.015)


def test_permutation_rejects_as_often_as_it_may():
    generator = np.random.default_rng(11)
    p = [paired_permutation(generator.random((3, 200)) < 0.7, generator.random((3, 200)) < 0.7) for _ in range(400)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08


def test_equal_systems_and_never_zero():
    same = np.random.default_rng(0).random(50)
    assert paired_permutation(same, same) == 1.0
    assert mcnemar(same > 0.5, same > 0.5) == 1.0
    assert paired_permutation(same + 100, same * 0.5, resamples=99) == 0.01


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, None, 0.04]) == [pytest.approx(0.08), None, pytest.approx(0.08)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.5])


def test_holm_rejects_what_the_step_down_procedure_rejects():
    generator = np.random.default_rng(0)
    for _ in range(50):
        p = generator.random(8) ** 4
        rejected = set()
        for rank, i in enumerate(np.argsort(p)):  # the procedure as Holm states it: stop at the first that fails
            if p[i] > 0.05 / (8 - rank):
                break
            rejected.add(int(i))
        assert {i for i, value in enumerate(holm(p.tolist())) if value <= 0.05} == rejected


def accuracy(labels, outputs):
    return float(np.mean(labels == outputs))


def test_bootstrap_metric_agrees_with_the_interval_of_the_mean():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, size=500)
    outputs = [np.where(generator.random(500) < 0.8, labels, 1 - labels) for _ in range(3)]
    expected = bootstrap_interval([labels == output for output in outputs])
    np.testing.assert_allclose(bootstrap_metric(accuracy, labels, outputs, resamples=4000), expected, atol=0.005)


def test_bootstrap_of_a_correlation_is_near_fishers_interval():
    generator = np.random.default_rng(1)
    x = generator.normal(size=400)
    y = 0.8 * x + 0.6 * generator.normal(size=400)
    low, high = bootstrap_metric(lambda a, b: stats.pearsonr(a, b).statistic, x, [y], resamples=2000)
    expected = stats.pearsonr(x, y).confidence_interval()
    np.testing.assert_allclose([low, high], expected, atol=0.015)


def test_paired_bootstrap():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, size=600)
    good, same, bad = (np.where(generator.random(600) < share, labels, 1 - labels) for share in (0.85, 0.85, 0.7))
    difference, (low, high), p = paired_bootstrap(accuracy, labels, [good], [bad])
    assert difference == pytest.approx(accuracy(labels, good) - accuracy(labels, bad))
    assert 0 < low < difference < high
    assert 0 < p < 0.01
    spread = np.std((labels == good) * 1.0 - (labels == bad)) / math.sqrt(600)
    np.testing.assert_allclose([low, high], [difference - 1.96 * spread, difference + 1.96 * spread], atol=0.006)
    difference, (low, high), p = paired_bootstrap(accuracy, labels, [good, same], [same, good])
    assert (difference, low, high, p) == (0, 0, 0, 1)
    _, _, p = paired_bootstrap(accuracy, labels, [good], [same])
    normal = 2 * stats.norm.sf(
        abs(np.mean((labels == good) * 1.0 - (labels == same)) / (np.std((labels == good) * 1.0 - (labels == same)) / math.sqrt(600)))
    )
    assert p == pytest.approx(normal, abs=0.08)


def test_a_metric_that_is_rarely_defined_is_refused():
    with pytest.raises(ValueError, match="not defined on"):
        bootstrap_metric(lambda a, b: math.nan, [0, 1], [[0, 1]], resamples=10)
    first = iter(range(100))
    low, high = bootstrap_metric(lambda a, b: math.nan if next(first) % 4 == 0 else 0.5, [0, 1], [[0, 1]], resamples=20)
    assert (low, high) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([]), "not empty"),
        (lambda: bootstrap_interval(np.zeros((2, 2, 2))), "got shape"),
        (lambda: bootstrap_interval([0.5, math.nan]), "finite"),
        (lambda: bootstrap_interval([0.5], level=95), "between 0 and 1"),
        (lambda: paired_permutation([1, 0], [1]), "got 2 and 1"),
        (lambda: mcnemar([True], [True, False]), "same examples"),
        (lambda: bootstrap_metric(accuracy, [0, 1], [[0]]), "2 labels but 1 outputs"),
        (lambda: bootstrap_metric(accuracy, [], []), "needs labels"),
        (lambda: paired_bootstrap(accuracy, [0, 1], [[0, 1]], []), "needs labels"),
        (lambda: bootstrap_metric(accuracy, [0], [[0]], level=0), "between 0 and 1"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
