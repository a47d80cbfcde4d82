"""E36–E38: term–context counts, positive PMI, truncated SVD."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.datasets import make_low_rank_matrix

from weft.vectors.counts import BOUNDARY, count_pairs, count_windows, ppmi, truncated_svd, window_weights

FOX = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
W21_COUNTS = np.array([[4, 0, 1], [1, 3, 1]])
W21_PPMI = [[0.470004, 0, 0], [0, 0.693147, 0]]

sentences = st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=5)


def joined(texts) -> np.ndarray:
    return np.array([number for text in texts for number in (*text, BOUNDARY)], np.int32)


def windows(texts, size, **options) -> np.ndarray:
    return count_windows(lambda: iter([joined(texts)]), size, **options).toarray()


def by_double_loop(texts, size, window, value) -> np.ndarray:
    """Every word of every text looks at every other place of its text."""
    counts = np.zeros((size, size))
    for text in texts:
        for i, word in enumerate(text):
            for j, context in enumerate(text):
                if 0 < abs(i - j) <= window:
                    counts[word, context] += value(abs(i - j))
    return counts


@pytest.mark.parametrize(
    "weight, value",
    [
        ("flat", lambda distance, window: 1),
        ("harmonic", lambda distance, window: 1 / distance),
        # the mean over windows drawn from 1 … window of: is the word inside?
        ("dynamic", lambda distance, window: np.mean([distance <= drawn for drawn in range(1, window + 1)])),
    ],
)
@given(texts=sentences, window=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_e36_a_brute_force_double_loop(weight, value, texts, window) -> None:
    expected = by_double_loop(texts, 5, window, lambda distance: value(distance, window))
    counted = windows(texts, 5, window=window, weight=weight)
    np.testing.assert_allclose(counted, expected, atol=1e-12)
    np.testing.assert_array_equal(counted, counted.T)


@given(sentences)
@settings(max_examples=40, deadline=None)
def test_e36_a_set_is_its_own_window(texts) -> None:
    np.testing.assert_array_equal(windows(texts, 5, window=None), by_double_loop(texts, 5, 99, lambda distance: 1))
    np.testing.assert_array_equal(windows(texts, 5, window=None), windows([text[::-1] for text in texts], 5, window=None))


def test_e36_w8_the_fox_has_30_pairs() -> None:
    words = sorted(set(FOX))
    counts = windows([[words.index(word) for word in FOX]], len(words), window=2)
    assert counts.sum() == 30
    contexts = {word: {words[c] for c in np.flatnonzero(counts[words.index(word)])} for word in words}
    assert contexts["quick"] == {"the", "brown", "fox"}
    assert contexts["brown"] == {"the", "quick", "fox", "jumps"}
    assert contexts["fox"] == {"quick", "brown", "jumps", "over"}
    assert contexts["the"] == {"quick", "brown", "jumps", "over", "lazy", "dog"}  # it stands there twice


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=40))
@settings(max_examples=40, deadline=None)
def test_e36_given_pairs_are_counted_as_they_stand(pairs) -> None:
    expected = np.zeros((4, 7))
    for word, context in pairs:
        expected[word, context] += 1
    np.testing.assert_array_equal(count_pairs(np.array(pairs, np.int32).reshape(-1, 2), 4, 7).toarray(), expected)


def test_e36_the_weights_of_distances() -> None:
    assert window_weights(4, "harmonic").tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    assert window_weights(4, "dynamic").tolist() == [1, 3 / 4, 2 / 4, 1 / 4]


def dense_ppmi(counts: np.ndarray, shift: float = 1.0, smoothing: float = 1.0) -> np.ndarray:
    """Entry by entry from the definition."""
    total, out = counts.sum(), np.zeros(counts.shape)
    smooth = counts.sum(0) ** smoothing / (counts.sum(0) ** smoothing).sum()
    for w in range(counts.shape[0]):
        for c in range(counts.shape[1]):
            if counts[w, c]:
                joint, alone = counts[w, c] / total, counts[w].sum() / total
                out[w, c] = max(np.log(joint / (alone * smooth[c])) - np.log(shift), 0)
    return out


def test_e37_w21() -> None:
    np.testing.assert_allclose(ppmi(W21_COUNTS).toarray(), W21_PPMI, atol=5e-7)


@pytest.mark.parametrize("shift", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("smoothing", [1.0, 0.75])
def test_e37_sparse_is_the_dense_definition(shift, smoothing) -> None:
    counts = np.random.default_rng(0).poisson(0.8, (30, 20)).astype(float) + np.eye(30, 20) * 9
    options = {"shift": shift, "smoothing": smoothing}
    sparse = ppmi(csr_matrix(counts), **options)
    np.testing.assert_allclose(sparse.toarray(), dense_ppmi(counts, **options), atol=1e-12)
    assert (sparse.data > 0).all()  # a PMI of 0 or less is not stored
    assert 0 < sparse.nnz < np.count_nonzero(counts)
    if shift > 1:
        assert sparse.nnz < ppmi(counts, smoothing=smoothing).nnz


def test_e37_independent_counts_are_all_0_and_dependent_ones_are_not() -> None:
    independent = np.outer([1, 2, 3, 4], [5, 1, 2])
    assert np.abs(ppmi(independent).toarray()).max() < 1e-12
    assert ppmi(independent + np.eye(4, 3)).toarray().max() > 0.01


def test_e37_smoothing_takes_from_rare_contexts() -> None:
    counts = np.array([[10.0, 2.0], [90.0, 0.0]])
    plain, smooth = ppmi(counts)[0, 1], ppmi(counts, smoothing=0.75)[0, 1]
    assert plain == pytest.approx(np.log(102 / 12))
    assert smooth == pytest.approx(np.log(2 / 12 / (2**0.75 / (2**0.75 + 100**0.75))))
    assert smooth < plain


def gapped(seed: int = 0) -> np.ndarray:
    return make_low_rank_matrix(120, 80, effective_rank=8, tail_strength=0.2, random_state=seed)


@pytest.mark.parametrize("sparse", [False, True])
def test_e38_eckart_young(sparse) -> None:
    """Squared error = Σ_{i>k} σ_i², which no other matrix of that rank beats."""
    matrix = gapped()
    exact = np.linalg.svd(matrix, compute_uv=False)
    factors = truncated_svd(csr_matrix(matrix) if sparse else matrix, 10, iterations=12)
    np.testing.assert_allclose(factors.values, exact[:10], rtol=1e-6)
    rebuilt = factors.words(1.0) @ factors.right.T
    assert ((matrix - rebuilt) ** 2).sum() == pytest.approx((exact[10:] ** 2).sum(), rel=1e-6)
    random = np.random.default_rng(0)
    for _ in range(20):
        other = rebuilt + (factors.left @ random.normal(size=(10, 80)) + random.normal(size=(120, 10)) @ factors.right.T) * 1e-3
        other = np.linalg.svd(other)[0][:, :10] @ (np.linalg.svd(other)[0][:, :10].T @ other)  # of rank 10 again
        assert ((matrix - other) ** 2).sum() > (exact[10:] ** 2).sum()


def test_e38_random_projection_is_within_a_hundredth_of_the_least_error() -> None:
    for seed in range(5):
        matrix = gapped(seed)
        exact = np.linalg.svd(matrix, compute_uv=False)
        factors = truncated_svd(matrix, 10, seed=seed)
        error = ((matrix - factors.words(1.0) @ factors.right.T) ** 2).sum()
        assert (exact[10:] ** 2).sum() * (1 - 1e-9) < error < (exact[10:] ** 2).sum() * 1.01


def test_e38_powers_and_inner_products() -> None:
    matrix = gapped()
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    rank_k = (left[:, :10] * values[:10]) @ right[:10]
    factors = truncated_svd(matrix, 10, iterations=12)
    np.testing.assert_allclose(factors.words(1.0) @ factors.words(1.0).T, rank_k @ rank_k.T, atol=1e-6)
    np.testing.assert_allclose(factors.words(0.5) @ factors.contexts(0.5).T, rank_k, atol=1e-6)
    np.testing.assert_allclose(factors.words(0.0).T @ factors.words(0.0), np.eye(10), atol=1e-9)
    assert np.abs(factors.words(0.5) @ factors.words(0.5).T - rank_k @ rank_k.T).max() > 1e-3  # another power, other products
