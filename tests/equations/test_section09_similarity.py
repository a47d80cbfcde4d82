"""EQUATIONS.md, section 9: similarity and analogy (E53–E57, W7, W26), and k-means of word vectors (E121, W30)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.cluster import KMeans

from weft.vectors import neighbours
from weft.vectors.keyed import KeyedVectors, cosine
from weft.vectors.neighbours import combine

CAT, DOG, CAR = (0.1, 0.7, 0.9, 0.1, 0.1), (0.2, 0.7, 0.8, 0.2, 0.1), (0.9, 0.1, 0.5, 0.6, 0.8)


def random(words: int, size: int, seed: int = 0) -> KeyedVectors:
    draw = np.random.default_rng(seed)
    return KeyedVectors([f"w{i}" for i in range(words)], draw.standard_normal((words, size)) * draw.uniform(0.2, 5, (words, 1)))


def units(kv: KeyedVectors) -> np.ndarray:
    wide = kv.vectors.astype(np.float64)
    return wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))


def at(*degrees: float) -> np.ndarray:
    return np.array([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_e53_cosine_w7():
    kv = KeyedVectors(["cat", "dog", "car"], [CAT, DOG, CAR])
    for pair, expected in ((("cat", "dog"), 0.989156), (("cat", "car"), 0.452012), (("dog", "car"), 0.534877)):
        assert kv.similarity(*pair) == pytest.approx(expected, abs=5e-7)
        assert kv.similarity(*reversed(pair)) == kv.similarity(*pair)
    assert [word for word, _ in kv.most_similar("cat")] == ["dog", "car"]
    assert np.linalg.norm(kv["cat"] - kv["dog"]) == pytest.approx(0.173205, abs=5e-7)
    assert np.linalg.norm(kv["cat"] - kv["car"]) == pytest.approx(1.378405, abs=5e-7)


def test_e53_scale_zero_and_cauchy_schwarz():
    draw = np.random.default_rng(0)
    for _ in range(200):
        a, b = draw.standard_normal((2, 9)) * draw.uniform(1e-3, 1e3, (2, 1))
        direct = (a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b))
        assert cosine(a, b) == pytest.approx(direct, abs=1e-12)
        assert cosine(7.5 * a, b / 300) == pytest.approx(direct, abs=1e-12)
        assert cosine(-a, b) == pytest.approx(-direct, abs=1e-12)
        assert -1 <= cosine(a, b) <= 1 and cosine(a, a) == pytest.approx(1, abs=1e-15)
        assert cosine(np.abs(a), np.abs(b)) >= 0
    assert cosine(np.zeros(3), np.ones(3)) == 0


def test_e54_nearest_words_by_brute_force_and_by_blocks(monkeypatch):
    kv = random(2500, 10)
    scores = units(kv) @ units(kv)[7]
    expected = [i for i in sorted(range(2500), key=lambda i: -scores[i]) if i != 7][:20]
    at_once = kv.most_similar_batch(["w7", "w8"], topn=20)
    assert [word for word, _ in kv.most_similar("w7", topn=20)] == [kv.words[i] for i in expected]
    monkeypatch.setattr(neighbours, "BLOCK", 1)  # then 1,024 rows at a time
    for some, all_rows in zip(kv.most_similar_batch(["w7", "w8"], topn=20), at_once):
        assert [word for word, _ in some] == [word for word, _ in all_rows]


def test_e54_a_group_ranks_words_as_the_mean_cosine_to_its_members():
    kv = random(300, 6)
    group = ["w1", "w2", "w3", "w4"]
    others = [word for word in kv.words if word not in group]
    means = [np.mean([kv.similarity(word, member) for member in group]) for word in others]
    ranked = [others[i] for i in np.argsort(-np.array(means))]
    assert [word for word, _ in kv.most_similar(group, topn=len(others))] == ranked
    scores = kv.group_similarity(others, group)
    assert [others[i] for i in np.argsort(-scores)] == ranked
    assert kv.group_similarity("w9", group) == pytest.approx(scores[others.index("w9")])
    # a long member would outvote the others if vectors were added as they are
    kv = KeyedVectors(["long", "a", "b", "near long", "between"], np.array([[100], [1], [1], [1], [1]]) * at(0, 80, 90, 5, 70))
    group, others = ["long", "a", "b"], ["near long", "between"]
    raw = [cosine(kv[word], kv[group].sum(axis=0)) for word in others]
    means = [np.mean([kv.similarity(word, member) for member in group]) for word in others]
    assert raw[0] > raw[1] and means[0] < means[1]
    assert kv.most_similar(group, topn=1)[0][0] == "between"


def test_e55_the_sum_over_all_pairs_is_a_product_of_two_sums():
    kv = random(50, 7)
    first, second = ["w1", "w2", "w3", "w2"], ["w9", "w1", "w30"]
    every = [float(units(kv)[kv.key_to_index[a]] @ units(kv)[kv.key_to_index[b]]) for a, b in itertools.product(first, second)]
    assert kv.document_similarity(first, second, "pairs") == pytest.approx(sum(every), abs=1e-10)
    assert kv.document_similarity(first, second, "pairs", normalise=True) == pytest.approx(np.mean(every), abs=1e-10)
    assert kv.document_similarity([*first, "unseen"], ["unseen", *second], "pairs") == pytest.approx(sum(every), abs=1e-10)
    assert kv.document_similarity(first * 3, second, "pairs") == pytest.approx(3 * sum(every), abs=1e-10)  # grows with length
    assert kv.document_similarity(first * 3, second, "pairs", normalise=True) == pytest.approx(np.mean(every), abs=1e-10)
    means = [np.mean([kv[word] for word in text], axis=0, dtype=np.float64) for text in (first, second)]
    assert kv.document_similarity(first, second) == pytest.approx(cosine(*means), abs=1e-10)


def w26() -> KeyedVectors:
    return KeyedVectors(["m", "k", "w", "q", "x"], at(0, 30, 40, 70, -89))


def test_e56_3cosadd_w26_and_both_forms_rank_alike():
    kv = w26()
    length = np.linalg.norm(kv["k"].astype(np.float64) - kv["m"] + kv["w"])
    found = kv.analogy("m", "w", "k")
    assert [word for word, _ in found] == ["q", "x"]
    assert [score * length for _, score in found] == pytest.approx([1.290050, -1.131582], abs=1e-6)
    kv = random(200, 5)
    for a, b, c in np.random.default_rng(1).integers(0, 200, (20, 3)):
        first, second, third = (units(kv) @ units(kv)[i] for i in (a, b, c))
        order = [i for i in np.argsort(-(third - first + second)) if i not in (a, b, c)]
        found = kv.analogy(kv.words[a], kv.words[b], kv.words[c], topn=30)
        assert [word for word, _ in found] == [kv.words[i] for i in order[:30]]


def test_e56_without_the_exclusion_one_of_the_question_usually_wins():
    kv = random(300, 50)
    wins = 0
    for a, b, c in np.random.default_rng(1).integers(0, 300, (50, 3)):
        best = int(np.argmax(units(kv) @ (units(kv)[c] - units(kv)[a] + units(kv)[b])))
        wins += best in (b, c)
        assert kv.analogies([[a, b, c]])[0] not in (a, b, c)
    assert wins > 25


def test_e57_3cosmul_w26_and_the_raw_form_picks_the_wrong_word():
    kv = w26()
    shifted, raw = kv.analogy("m", "w", "k", "multiply"), kv.analogy("m", "w", "k", "multiply", shifted=False)
    assert [word for word, _ in shifted] == ["q", "x"] and [word for word, _ in raw] == ["x", "q"]
    assert [score for _, score in shifted] == pytest.approx([1.225980, 0.093663], abs=1e-6)
    assert [score for _, score in raw] == pytest.approx([16.534460, 1.934038], abs=2e-5)
    assert kv.analogies([[0, 2, 1]], "multiply").tolist() == [3]
    assert kv.analogies([[0, 2, 1]], "multiply", shifted=False).tolist() == [4]


def test_e57_the_product_ranks_as_a_sum_of_logarithms():
    first, second, third = np.random.default_rng(0).uniform(-1, 1, (3, 500))
    logs = np.log((second + 1) / 2) + np.log((third + 1) / 2) - np.log((first + 1) / 2 + 0.001)
    assert np.argsort(combine(first, second, third)).tolist() == np.argsort(logs).tolist()
    assert np.isfinite(combine(np.array([-0.001]), np.array([1.0]), np.array([1.0]), shifted=False)).all()


def test_e121_k_means_w30():
    points = np.array([[0.0], [1], [2], [10], [11]])
    labels = np.array([0, 1, 0, 1, 0])
    centres = np.array([[points[labels == k].mean()] for k in (0, 1)])
    assert centres.ravel() == pytest.approx([4.3333, 5.5], abs=1e-4)
    assert ((points - centres[labels]) ** 2).sum() == pytest.approx(109.1667, abs=1e-4)
    fitted = KMeans(2, init=centres, n_init=1, algorithm="lloyd").fit(points)
    assert sorted(fitted.cluster_centers_.ravel()) == pytest.approx([1, 10.5]) and fitted.inertia_ == pytest.approx(2.5)
    sums = [KMeans(2, init=centres, n_init=1, max_iter=steps, tol=0).fit(points) for steps in (1, 2, 3)]
    errors = [float(((points - each.cluster_centers_[each.labels_]) ** 2).sum()) for each in sums]
    assert errors == sorted(errors, reverse=True) and errors[-1] == pytest.approx(2.5)


def test_e121_planted_classes_of_words_are_found_by_direction_alone():
    draw = np.random.default_rng(0)
    centres = np.linalg.qr(draw.standard_normal((5, 5)))[0]
    truth = draw.integers(0, 5, 150)
    vectors = (centres[truth] + 0.05 * draw.standard_normal((150, 5))) * draw.uniform(0.01, 100, (150, 1))
    kv = KeyedVectors([f"w{i}" for i in range(150)], vectors)
    for seed in range(3):
        classes = kv.word_classes(5, seed=seed)
        assert {frozenset(each) for each in classes} == {frozenset(f"w{i}" for i in np.flatnonzero(truth == k)) for k in range(5)}
    assert [each[0] for each in kv.word_classes(150)] == kv.words  # as many classes as words: none is empty
