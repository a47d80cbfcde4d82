"""Tests of ratios against enumeration of every swap, plain resampling, and the test of means where the ratio is one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from weft.compare import ratios
from weft.compare.ratios import bootstrap_ratio, paired_permutation_ratio, sentence_counts
from weft.compare.statistics import bootstrap_interval, paired_permutation


def counts(seed: int, size: int, right: float = 0.7) -> np.ndarray:
    """(size, 2): right of how many tokens."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(1, 20, size)
    return np.stack([draw.binomial(tokens, right), tokens], 1).astype(float)


def spans(seed: int, size: int) -> np.ndarray:
    """(size, 2): twice the spans that are right, predicted and true ones: denominators differ between systems."""
    draw = np.random.default_rng(seed)
    true, guess = draw.integers(0, 4, size), draw.integers(0, 4, size)
    return np.stack([2 * draw.binomial(np.minimum(true, guess), 0.6), true + guess], 1).astype(float)


def enumerated(first: np.ndarray, second: np.ndarray) -> float:
    def gap(a, b):
        one, other = a.sum(0), b.sum(0)
        return abs((one[0] / one[1] if one[1] else 0) - (other[0] / other[1] if other[1] else 0))

    observed = gap(first, second)
    found = []
    for swaps in itertools.product((False, True), repeat=len(first)):
        swap = np.array(swaps)[:, None]
        found.append(gap(np.where(swap, second, first), np.where(swap, first, second)) >= observed - 1e-12)
    return float(np.mean(found))


@pytest.mark.parametrize("make", [counts, spans])
@pytest.mark.parametrize("seed", range(6))
def test_few_sentences_are_tested_exactly(make, seed):
    first, second = make(seed, 9), make(seed + 100, 9)
    assert paired_permutation_ratio(first, second) == pytest.approx(enumerated(first, second), abs=1e-12)
    assert paired_permutation_ratio(second, first) == pytest.approx(enumerated(first, second), abs=1e-12)


def test_random_swaps_come_near_the_exact_p(monkeypatch):
    first, second = spans(3, 12), spans(40, 12)
    exact = paired_permutation_ratio(first, second)
    assert 0.05 < exact < 0.95
    monkeypatch.setattr(ratios, "EXACT", 0)
    monkeypatch.setattr(ratios, "CHUNK", 1000)  # in many parts
    assert paired_permutation_ratio(first, second, resamples=40_000) == pytest.approx(exact, abs=0.01)


def test_with_equal_denominators_it_is_the_test_of_means():
    draw = np.random.default_rng(5)
    a, b = draw.integers(0, 2, 300), (draw.random(300) < 0.6).astype(int)
    first, second = (np.stack([scores, np.ones(300)], 1) for scores in (a, b))
    assert paired_permutation_ratio(first, second, resamples=40_000) == pytest.approx(paired_permutation(a, b), abs=0.01)
    np.testing.assert_allclose(bootstrap_ratio(first, resamples=40_000), bootstrap_interval(a, resamples=40_000), atol=0.004)


def test_seeds_are_summed_sentence_by_sentence():
    first, second = np.stack([counts(1, 8), counts(2, 8)]), counts(3, 8)
    np.testing.assert_array_equal(sentence_counts(first), first[0] + first[1])
    assert paired_permutation_ratio(first, second) == pytest.approx(enumerated(first.mean(0), second), abs=1e-12)
    assert paired_permutation_ratio(first, first[::-1]) == 1.0
    assert bootstrap_ratio(first) == bootstrap_ratio(first.sum(0))


def test_no_difference_is_one_and_a_plain_one_is_small_but_never_zero():
    same = counts(0, 50)
    assert paired_permutation_ratio(same, same) == 1.0
    better = counts(0, 400, 0.95)
    worse = np.stack([np.minimum(better[:, 0], counts(9, 400, 0.4)[:, 0]), better[:, 1]], 1)
    assert paired_permutation_ratio(better, worse, resamples=999) == pytest.approx(1 / 1000)


def test_p_values_are_uniform_where_the_systems_are_equal():
    draw = np.random.default_rng(0)
    found = []
    for _ in range(200):
        one, other = spans(draw.integers(1 << 30), 60), spans(draw.integers(1 << 30), 60)
        found.append(paired_permutation_ratio(one, other, resamples=400))
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.065)  # three standard deviations
    assert np.mean(found) == pytest.approx(0.5, abs=0.065)


def test_the_interval_is_that_of_plain_resampling():
    values = spans(7, 150)
    draw = np.random.default_rng(1)
    sums = values[draw.integers(0, 150, size=(20_000, 150))].sum(1)
    expected = np.quantile(sums[:, 0] / sums[:, 1], [0.05, 0.95])
    np.testing.assert_allclose(bootstrap_ratio(values, level=0.9, resamples=20_000), expected, atol=0.004)


def test_what_is_no_counts_is_refused():
    for wrong in (np.ones(3), np.ones((3, 3)), np.ones((0, 2)), [[-1.0, 2.0]], [[np.nan, 1.0]]):
        with pytest.raises(ValueError, match="counts must be"):
            bootstrap_ratio(wrong)
    with pytest.raises(ValueError, match="same sentences, got 3 and 4"):
        paired_permutation_ratio(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="level"):
        bootstrap_ratio(np.ones((3, 2)), level=1.0)
    with pytest.raises(ValueError, match="not defined"):
        bootstrap_ratio(np.zeros((3, 2)))
