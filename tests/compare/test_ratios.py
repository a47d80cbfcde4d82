"""Tests of ratios and of BLEU against enumeration of every swap, plain resampling, sacreBLEU, and the test of means where it is one."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from weft.compare import ratios
from weft.compare.ratios import (
    bleu_of,
    bootstrap_bleu,
    bootstrap_ratio,
    paired_permutation_bleu,
    paired_permutation_ratio,
    sentence_counts,
)
from weft.compare.statistics import bootstrap_interval, paired_permutation
from weft.metrics_text import bleu, bleu_counts, bleu_from


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


# BLEU, whose counts are ten


def sentences(seed: int, size: int, slips: float = 0.3) -> tuple[list[str], list[list[str]]]:
    """Sentences with slips, and one or two references each."""
    draw = random.Random(seed)
    predicted, references = [], []
    for _ in range(size):
        words = draw.choices(["the", "a", "cat", "dog", "sat", ".", "on", "mat", "ran"], k=1 + draw.randrange(12))
        right = [" ".join(word if draw.random() > slips else draw.choice(["x", "cat", ""]) for word in words) for _ in range(1 + seed % 2)]
        predicted.append(" ".join(words))
        references.append([one if one.strip() else "cat" for one in right])
    return predicted, references


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("slips", [0.0, 0.3, 0.9])
def test_bleu_of_sums_is_sacrebleus(seed, slips):
    predicted, references = sentences(seed, 20, slips)
    counts = bleu_counts(predicted, references)
    draw = np.random.default_rng(seed)
    several = [draw.integers(0, 20, size) for size in (1, 1, 2, 3, 20, 20)]
    found = bleu_of(np.array([counts[rows].sum(0) for rows in several]))
    assert found == pytest.approx([bleu([predicted[i] for i in rows], [references[i] for i in rows]) for rows in several], abs=1e-9)
    assert bleu_of(counts.sum(0)) == pytest.approx(bleu_from(counts), abs=1e-9)


def test_bleu_without_anything_right_or_anything_said_is_sacrebleus():
    for predicted, references in ((["x y z v w"], ["a b c d e"]), ([""], ["a"]), (["a b"], ["a b"]), (["a x c y e"], ["a b c d e"])):
        assert bleu_of(bleu_counts(predicted, references).sum(0)) == pytest.approx(bleu(predicted, references), abs=1e-9)


def two(seed: int, size: int, other: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The counts of two systems on the same references."""
    references = sentences(seed, size)[0]
    draw = random.Random(seed + 100)
    made = [[" ".join(word if draw.random() > slips else "x" for word in text.split()) for text in references] for slips in (0.3, other)]
    first, second = (bleu_counts(texts, references) for texts in made)
    return first, second


@pytest.mark.parametrize("seed", range(4))
def test_few_sentences_swapped_are_sacrebleus(seed):
    first, second = two(seed, 8)
    observed, found = abs(bleu_from(first) - bleu_from(second)), []
    for swaps in itertools.product((False, True), repeat=8):
        swap = np.array(swaps)[:, None]
        one, other = bleu_from(np.where(swap, second, first)), bleu_from(np.where(swap, first, second))
        found.append(abs(one - other) >= observed - 1e-9)
    assert paired_permutation_bleu(first, second) == pytest.approx(np.mean(found), abs=1e-12)
    assert paired_permutation_bleu(second, first) == pytest.approx(np.mean(found), abs=1e-12)
    assert paired_permutation_bleu(np.stack([first, first]), second) == pytest.approx(np.mean(found), abs=1e-12)
    assert paired_permutation_bleu(first, first) == 1.0


def test_a_plain_difference_of_bleu_is_found_and_none_is_not():
    first, second = two(1, 300, other=0.5)
    assert paired_permutation_bleu(first, second, resamples=999) == pytest.approx(1 / 1000)
    assert paired_permutation_bleu(*two(1, 300, other=0.3), resamples=999) > 0.05


def test_the_interval_of_bleu_is_that_of_plain_resampling_seeds_averaged():
    runs = np.stack(two(2, 120))
    draw = np.random.default_rng(1)
    found = [np.mean([bleu_from(run[rows]) for run in runs]) for rows in draw.integers(0, 120, size=(2000, 120))]
    np.testing.assert_allclose(bootstrap_bleu(runs, level=0.9, resamples=8000), np.quantile(found, [0.05, 0.95]), atol=0.8)
    assert bootstrap_bleu(runs[0]) == bootstrap_bleu(runs[:1]) == bootstrap_bleu(np.stack([runs[0], runs[0]]))
    with pytest.raises(ValueError, match=r"counts must be \(sentences, 10\)"):
        bootstrap_bleu(np.ones((3, 2)))
