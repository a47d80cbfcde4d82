"""Counting at scale and from bad input: memory bounds, threads, spills; what is said of a corpus that cannot be counted."""

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from weft.errors import InputError
from weft.vectors import cooccurrence
from weft.vectors.counts import BOUNDARY, count_pairs, count_windows, keep_probabilities, ppmi, train_svd, truncated_svd


def text(tokens: int = 30_000, size: int = 500, seed: int = 0) -> np.ndarray:
    """Words by Zipf's law in sentences of about twenty."""
    random = np.random.default_rng(seed)
    ids = np.minimum(random.zipf(1.3, tokens), size).astype(np.int32) - 1
    ids[random.random(tokens) < 0.05] = BOUNDARY
    ids[-1] = BOUNDARY
    return ids


def by_shifts(ids: np.ndarray, size: int, window: int) -> np.ndarray:
    """All pairs at one distance at a time, by NumPy; a sentence's number tells whether an end lies between."""
    number, counts = np.cumsum(ids == BOUNDARY), np.zeros((size, size))
    for distance in range(1, window + 1):
        first, second = ids[:-distance], ids[distance:]
        inside = (number[:-distance] == number[distance:]) & (first != BOUNDARY) & (second != BOUNDARY)
        np.add.at(counts, (first[inside], second[inside]), 1)
        np.add.at(counts, (second[inside], first[inside]), 1)
    return counts


def cut(ids: np.ndarray, parts: int) -> list[np.ndarray]:
    """Chunks that end where sentences do."""
    ends = np.flatnonzero(ids == BOUNDARY) + 1
    return np.split(ids, ends[:: max(1, len(ends) // parts)])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("memory", [1, 1 << 28])
def test_chunks_threads_and_spills_change_nothing(threads, memory, monkeypatch) -> None:
    monkeypatch.setattr(cooccurrence, "FIRST_SLOTS", 1 << 10)  # filled many times over, and emptied into runs
    ids = text()
    counted = count_windows(lambda: iter(cut(ids, 7)), 500, window=4, threads=threads, memory=memory)
    np.testing.assert_array_equal(counted.toarray(), by_shifts(ids, 500, 4))
    assert counted.has_sorted_indices and counted.nnz == np.count_nonzero(counted.toarray())


def test_a_full_table_spills(monkeypatch) -> None:
    monkeypatch.setattr(cooccurrence, "FIRST_SLOTS", 1 << 10)
    table, ids = cooccurrence.PairTable(500, memory=1), text()
    table.add_windows(ids, np.ones(4))
    assert len(table.slots) == 1 << 10 and len(table.runs) > 1
    lengths = [len(keys) for keys, _ in table.runs]
    assert all(first >= 2 * second for first, second in itertools.pairwise(lengths))
    keys, _ = table.sums()
    assert (np.diff(keys) > 0).all()


def test_a_set_larger_than_the_table(monkeypatch) -> None:
    monkeypatch.setattr(cooccurrence, "FIRST_SLOTS", 1 << 4)
    counted = count_windows(lambda: iter([np.arange(200, dtype=np.int32)]), 200, window=None, memory=1)
    np.testing.assert_array_equal(counted.toarray(), 1 - np.eye(200))


def test_repeatable_with_threads_where_weights_are_rounded() -> None:
    ids = text()
    first, second = (count_windows(lambda: iter(cut(ids, 9)), 500, window=7, weight="harmonic", threads=2) for _ in range(2))
    assert (first != second).nnz == 0


def test_pairs_in_parts_are_pairs_at_once() -> None:
    pairs = np.random.default_rng(0).integers(0, 50, (5000, 2))
    at_once = count_pairs(pairs, 50, 50)
    in_parts = count_pairs(iter(np.array_split(pairs, 6)), 50, 50, memory=1)
    assert (at_once != in_parts).nnz == 0
    assert at_once.sum() == 5000 and (at_once != at_once.T).nnz > 0


def test_two_topics_are_two_neighbourhoods() -> None:
    """Words that share sentences, of two kinds: each word's nearest neighbours are of its kind."""
    random = np.random.default_rng(0)
    kinds = random.integers(0, 2, 2000)
    rows = random.integers(0, 10, (2000, 8)) + 10 * kinds[:, None]
    ids = np.hstack([rows, np.full((2000, 1), BOUNDARY)]).ravel().astype(np.int32)
    counts = np.bincount(rows.ravel(), minlength=20)
    vectors, info = train_svd(lambda: iter([ids]), counts, dim=2, window=3)
    assert vectors.shape == (20, 2) and vectors.dtype == np.float32
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert cosines[:10, :10].min() > 0.9 and cosines[10:, 10:].min() > 0.9 and cosines[:10, 10:].max() < 0.5
    assert 0 < info["explained"] <= 1 and info["pairs"] >= info["cells"]


def test_the_seed_decides_everything() -> None:
    ids = text()
    counts = np.bincount(ids[ids >= 0], minlength=500) + 1
    first, again, other = (train_svd(lambda: iter([ids]), counts, dim=10, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_subsampling_is_the_expected_count() -> None:
    """sample: each pair counts by the probability that both its words stay; drawn many times, the mean is that."""
    assert keep_probabilities(np.array([1, 9999]), 1e-3).tolist() == pytest.approx([1.0, (1e-3 / 0.9999) ** 0.5 + 1e-3 / 0.9999])
    ids = text(4000, 30)
    counts, full = np.bincount(ids[ids >= 0], minlength=30), by_shifts(ids, 30, 3)
    kept = keep_probabilities(counts, 0.02)
    random, rounds = np.random.default_rng(0), 2000
    first, second = np.nonzero(np.triu(full, 1))
    stays = (random.random((rounds, 2, len(first))) < kept[[first, second]]).all(1)
    share = np.outer(kept, kept)[first, second]
    assert share.min() < 0.5
    assert (np.abs(stays.mean(0) - share) <= 5 * np.sqrt(share * (1 - share) / rounds)).all()
    thinned = ppmi(full * np.outer(kept, kept), smoothing=0.75)
    expected = truncated_svd(thinned.astype(np.float32), 5, seed=1)
    vectors, _ = train_svd(lambda: iter([ids]), counts, dim=5, window=3, weight="flat", sample=0.02, smoothing=0.75)
    np.testing.assert_allclose(vectors @ vectors.T, expected.words() @ expected.words().T, atol=1e-3)


def errors() -> dict:
    ids, none = np.array([0, 1, 0, BOUNDARY], np.int32), np.zeros(0, np.int32)
    broken = csr_matrix(np.array([[1.0, np.nan], [1.0, 2.0]]))
    return {
        "window: must be at least 1, not 0": lambda: count_windows(lambda: iter([ids]), 2, window=0),
        "weight: must be one of flat, harmonic, dynamic, not 'linear'": lambda: count_windows(lambda: iter([ids]), 2, weight="linear"),
        "a set has no distances": lambda: count_windows(lambda: iter([ids]), 2, window=None, weight="harmonic"),
        "ids: 1 is not an id: they go from -1 to 0": lambda: count_windows(lambda: iter([ids]), 1),
        "ids: must be integers, not float64": lambda: count_windows(lambda: iter([ids.astype(float)]), 2),
        "threads: must be at least 1": lambda: count_windows(lambda: iter([ids]), 2, threads=0),
        "pairs have two columns": lambda: count_pairs(np.zeros((4, 3), np.int32), 2, 2),
        "contexts: 5 is not an id: they go from 0 to 1": lambda: count_pairs(np.array([[0, 5]]), 2, 2),
        "counts must be finite and not negative": lambda: ppmi(broken),
        "counts: counts must be finite": lambda: ppmi(np.array([[1.0, -1.0]])),
        "no pair was counted": lambda: ppmi(count_windows(lambda: iter([none]), 3)),
        "shift: must be above 0": lambda: ppmi(np.eye(2), shift=0),
        "no word is left": lambda: train_svd(lambda: iter([none]), none),
        "dim: 100 does not fit 2 words: it must be from 1 to 2": lambda: train_svd(lambda: iter([ids]), np.array([2, 1]), dim=100),
        "dim: 3 is more than a matrix of 5 × 2 has; at most 2": lambda: truncated_svd(np.ones((5, 2)), 3),
        "dim: 2 is more than the rank of the matrix, 1": lambda: truncated_svd(np.ones((5, 4)), 2),
        "dim: must be at least 1": lambda: truncated_svd(np.ones((5, 4)), 0),
    }


@pytest.mark.parametrize("message", errors())
def test_what_cannot_be_counted_is_said(message) -> None:
    with pytest.raises(InputError) as caught:
        errors()[message]()
    assert message in str(caught.value)
