"""KeyedVectors against brute force over every word, and against what gensim 4.4 answers on the same vectors."""

from __future__ import annotations

import importlib.util
import logging
import warnings

import numpy as np
import pytest

from weft.errors import InputError, MissingExtra
from weft.vectors import neighbours
from weft.vectors.keyed import KeyedVectors


@pytest.fixture(autouse=True)
def no_warnings():
    """Nothing that is asked may make NumPy warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def made(words: int = 400, size: int = 12, seed: int = 0) -> KeyedVectors:
    draw = np.random.default_rng(seed)
    return KeyedVectors([f"w{i}" for i in range(words)], draw.standard_normal((words, size)) * draw.uniform(0.1, 9, (words, 1)))


def cosines(kv: KeyedVectors, query: np.ndarray) -> np.ndarray:
    """Of every word with a vector, one by one, in float64."""
    found = []
    for row in kv.vectors.astype(np.float64):
        length = np.sqrt((row * row).sum()) * np.sqrt((query * query).sum())
        found.append((row * query).sum() / length if length else 0.0)
    return np.array(found)


def brute(kv: KeyedVectors, query: np.ndarray, left_out: set[str], topn: int) -> list[tuple[str, float]]:
    scores = cosines(kv, query)
    return [(kv.words[i], scores[i]) for i in sorted(range(len(kv)), key=lambda i: (-scores[i], i)) if kv.words[i] not in left_out][:topn]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float64) / np.linalg.norm(vector.astype(np.float64))


def same(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [word for word, _ in found] == [word for word, _ in expected]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], atol=1e-5)
    assert all(type(score) is float for _, score in found)


def test_words_and_rows():
    kv = KeyedVectors(["a", "b"], [[1, 2], [3, 4]], counts=[5, 6])
    assert (len(kv), kv.size, kv.key_to_index, kv.counts.tolist()) == (2, 2, {"a": 0, "b": 1}, [5, 6])
    assert "a" in kv and "c" not in kv and 7 not in kv
    assert kv["b"].tolist() == [3, 4] and kv[["b", "a", "b"]].tolist() == [[3, 4], [1, 2], [3, 4]] and kv[[]].shape == (0, 2)
    assert kv["a"].dtype == np.float32
    assert kv.get("a").tolist() == [1, 2] and kv.get("c") is None and kv.get("c", 7) == 7
    array = np.ones((2, 2), np.float32)
    assert KeyedVectors(["a", "b"], array).vectors is array


@pytest.mark.parametrize(
    ("words", "vectors", "counts", "said"),
    [
        (["a", "b"], [[1, 2]], None, r"2 words need an array of \(2, size\) numbers, not one of shape \(1, 2\)"),
        (["a"], [1, 2], None, "not one of shape"),
        ([], np.ones((0, 3)), None, "not one of shape"),
        (["a"], np.ones((1, 0)), None, "not one of shape"),
        (["a", "b", "a"], np.ones((3, 1)), None, "'a' comes twice"),
        (["a", ""], np.ones((2, 1)), None, "a word is empty"),
        (["a"], [[1e39]], None, "vectors: row 1: there is a number that is not finite"),
        (["a"], [[np.nan]], None, "vectors: row 1: there is a number that is not finite"),
        (["a", "b"], [[1], [-np.inf]], None, "vectors: row 2: there is a number that is not finite"),
        (["a"], [[1.0]], [1, 2], "1 words need as many counts"),
    ],
)
def test_what_does_not_fit_is_refused(words, vectors, counts, said):
    with pytest.raises(InputError, match=said):
        KeyedVectors(words, vectors, counts=counts)


def test_most_similar_is_a_sort_of_all_cosines():
    kv = made()
    draw = np.random.default_rng(1)
    for topn in (1, 3, 10, 100, 399, 5000):
        word, other, third = (kv.words[i] for i in draw.choice(len(kv), 3, replace=False))
        same(kv.most_similar(word, topn=topn), brute(kv, kv[word].astype(np.float64), {word}, topn))
        vector = draw.standard_normal(kv.size)
        same(kv.most_similar(vector, topn=topn), brute(kv, vector, set(), topn))
        query = unit(kv[word]) + unit(kv[other]) - unit(kv[third])
        same(kv.most_similar([word, other], [third], topn=topn), brute(kv, query, {word, other, third}, topn))
        query = 2 * unit(kv[word]) + 0.5 * unit(vector) - 0.3 * unit(kv[third])
        same(kv.most_similar([(word, 2.0), (vector, 0.5)], [(third, -0.3)], topn), brute(kv, query, {word, third}, topn))


def test_what_gensim_answers():
    """Constants: gensim 4.4's KeyedVectors(3), add_vectors(words, rows), and the same questions (a weight counts as it stands)."""
    kv = KeyedVectors(["a", "b", "c", "d", "e"], [[1, 2, 3], [2, 1, 0], [-1, 0.5, 2], [0, 0, 1], [3, 2, 1]])
    same(kv.most_similar("a", topn=3), [("d", 0.80178374), ("e", 0.71428567), ("c", 0.69985420)])
    same(kv.most_similar(["a", "b"], ["c"], topn=2), [("e", 0.94239765), ("d", -0.04010432)])
    same(kv.most_similar([("a", 0.5), "d"], [("b", 2.0)], topn=2), [("e", 0.95826370), ("c", 0.24072418)])
    assert kv.doesnt_match(["a", "b", "c", "e"]) == "c"
    assert kv.similarity("a", "e") == pytest.approx(0.71428573, abs=1e-6)


def test_equal_scores_keep_the_order_of_the_words():
    kv = KeyedVectors([f"w{i}" for i in range(300)], np.tile(np.eye(3), (100, 1)))
    assert [word for word, _ in kv.most_similar("w4", topn=6)] == ["w1", "w7", "w10", "w13", "w16", "w19"]
    assert [word for word, _ in kv.most_similar_batch(["w4"], topn=6)[0]] == ["w1", "w7", "w10", "w13", "w16", "w19"]


@pytest.mark.parametrize("block", [1, 64 * 1024, 1 << 22])
def test_a_batch_answers_as_one_by_one(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    monkeypatch.setattr(neighbours, "QUERIES", 33)
    kv = made(3000, 6)
    words = ["w5", "w2999", "w17", "w5"]
    for found, word in zip(kv.most_similar_batch(words, topn=7), words):
        same(found, kv.most_similar(word, topn=7))
        same(found, brute(kv, kv[word].astype(np.float64), {word}, 7))
    queries = np.random.default_rng(3).standard_normal((70, 6))
    for found, query in zip(kv.most_similar_batch(queries, topn=3), queries):
        same(found, kv.most_similar(query, topn=3))
    assert len(kv.most_similar_batch(words, topn=10**6)[1]) == 2999
    assert kv.most_similar_batch([]) == [] and kv.most_similar_batch(np.empty((0, 6))) == []


def test_the_best_of_any_scores():
    draw = np.random.default_rng(0)
    for count in (1, 2, 15, 16, 17, 300, 5000):
        kinds = [draw.standard_normal(count), draw.integers(0, 3, count).astype(float), np.zeros(count)]
        for scores in (*kinds, np.arange(count, 0.0, -1), np.arange(count + 0.0)):
            for k in (1, 2, 10, count):
                expected = sorted(range(count), key=lambda i: (-scores[i], i))[: min(k, count)]
                assert neighbours.best(scores, min(k, count)).tolist() == expected


def test_zeros_are_similar_to_nothing():
    kv = KeyedVectors(["zero", "a", "b"], [[0, 0], [1, 2], [-1, 1]])
    assert kv.similarity("zero", "a") == 0 == kv.similarity(np.zeros(2), "b")
    assert kv.most_similar("zero", topn=2) == [("a", 0.0), ("b", 0.0)]
    assert dict(kv.most_similar("a"))["zero"] == 0
    assert kv.most_similar(["a"], ["a"], topn=1) == [("zero", 0.0)]
    assert kv.document_similarity(["zero"], ["a"]) == 0 == kv.document_similarity(["zero"], ["a"], "pairs")
    assert kv.doesnt_match(["zero", "a", "b"]) in kv
    assert kv.group_similarity("zero", ["a", "b"]) == 0


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30, 1e37])
def test_lengths_that_float32_cannot_square(scale):
    kv = made(200, 5)
    odd = KeyedVectors(kv.words, np.where(np.arange(200)[:, None] % 3 == 0, kv.vectors * np.float64(scale), kv.vectors))
    plain = KeyedVectors(kv.words, odd.vectors.astype(np.float64) / np.abs(odd.vectors).max(axis=1, keepdims=True))
    for word in ("w0", "w1"):
        same(odd.most_similar(word, topn=5), plain.most_similar(word, topn=5))
    assert odd.similarity("w0", "w3") == pytest.approx(plain.similarity("w0", "w3"), abs=1e-6)


def test_an_unknown_word_names_near_spellings():
    kv = KeyedVectors(["paris", "London", "london", "pairs", "berlin", "NASA", "x"], np.eye(7))
    for asked, near in (
        ("pariss", "paris"),
        ("Paris", "paris"),
        ("nasa", "NASA"),
        ("berlim", "berlin"),
        ("qqqq", None),
        ("", None),
        ("é" * 5000, None),
    ):
        with pytest.raises(InputError) as caught:
            kv[asked]
        assert (f"near it are {near}" in str(caught.value)) if near else ("near" not in str(caught.value))
        assert "is not among the 7 words" in str(caught.value) and len(str(caught.value)) < 200
    for ask in (
        lambda: kv[["paris", "lindon"]],
        lambda: kv.most_similar("lindon"),
        lambda: kv.most_similar_batch(["paris", "lindon"]),
        lambda: kv.similarity("paris", "lindon"),
        lambda: kv.doesnt_match(["paris", "x", "lindon"]),
        lambda: kv.group_similarity("paris", ["lindon"]),
        lambda: kv.analogy("paris", "x", "lindon"),
        lambda: kv.analogy("paris", "x", "lindon", "multiply"),
    ):
        with pytest.raises(InputError, match="'lindon' is not among the 7 words; near it are london"):
            ask()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda kv: kv.most_similar("w1", topn=0), "topn: must be at least 1, not 0"),
        (lambda kv: kv.analogy("w1", "w2", "w3", "multiply", topn=0), "topn: must be at least 1"),
        (lambda kv: kv.most_similar(), "positive: at least one word or vector"),
        (lambda kv: kv.most_similar("w1", 5), r"query: words, vectors or \(word, weight\) pairs were expected, not int"),
        (lambda kv: kv.most_similar(np.ones(3)), "query: a word or 12 finite numbers were expected"),
        (lambda kv: kv.most_similar(np.full(12, np.nan)), "query: a word or 12 finite numbers were expected"),
        (lambda kv: kv.most_similar([5]), "query: a word or 12 finite numbers were expected"),
        (lambda kv: kv.most_similar_batch(np.ones((2, 3))), r"queries: finite numbers of shape \(queries, 12\)"),
        (lambda kv: kv.most_similar("w1", index="annoy"), "index: 'annoy' is not known"),
        (lambda kv: kv[[5]], "a word was expected, not int 5"),
        (lambda kv: kv[5], "a word was expected, not int 5"),
        (lambda kv: kv.doesnt_match(["w1", "w2"]), "at least three words"),
        (lambda kv: kv.analogy("w1", "w2", "w3", "multiplied"), r"'multiplied' is not known.*did you mean multiply"),
        (lambda kv: kv.analogies([[0, 1, 400]]), "ids must be from 0 to 399"),
        (lambda kv: kv.analogies([[-1, 1, 2]]), "ids must be from 0 to 399"),
        (lambda kv: kv.document_similarity("w1", "w2", "max"), "'max' is not known"),
        (lambda kv: kv.word_classes(0), "400 words make 1 to 400 classes, not 0"),
        (lambda kv: kv.word_classes(401), "400 words make 1 to 400 classes, not 401"),
    ],
)
def test_wrong_questions(ask, said):
    with pytest.raises(InputError, match=said):
        ask(made())


def test_bulk_analogies_are_those_asked_one_by_one(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 512 * 50)
    kv = made(230, 8)
    questions = np.random.default_rng(2).integers(0, 230, (600, 3))
    for method, shifted in (("add", True), ("multiply", True), ("multiply", False)):
        found = kv.analogies(questions, method, shifted=shifted)
        for question, row in list(zip(questions.tolist(), found.tolist()))[::7]:
            a, b, c = (kv.words[i] for i in question)
            assert kv.words[row] == kv.analogy(a, b, c, method, topn=1, shifted=shifted)[0][0]
    few = kv.analogies(questions, among=20)
    assert few.max() < 20 and (few[:, None] != questions).all()
    assert kv.analogies([[0, 1, 2]], among=3).tolist() == [-1]
    assert kv.analogies(np.empty((0, 3))).shape == (0,)


class Spelled:
    """Subwords: a word's vector from its length."""

    def vector(self, word: str) -> np.ndarray:
        return np.array([len(word), 1], np.float64)


def test_subwords_answer_for_unknown_words():
    kv = KeyedVectors(["a", "b"], [[1, 0], [0, 1]], subwords=Spelled())
    assert kv["abc"].tolist() == [3, 1] and kv["abc"].dtype == np.float32 and kv["a"].tolist() == [1, 0]
    assert kv[["a", "abc"]].tolist() == [[1, 0], [3, 1]]
    assert "abc" not in kv and kv.get("abc").tolist() == [3, 1]
    assert [word for word, _ in kv.most_similar("abc")] == ["a", "b"]
    assert kv.similarity("abc", "a") == pytest.approx(3 / np.sqrt(10))
    assert kv.document_similarity("a abc", "a abc") == pytest.approx(1)
    kv = KeyedVectors(["a"], [[1, 0, 0]], subwords=Spelled())
    with pytest.raises(InputError, match="they do not belong together"):
        kv["abc"]


def test_unknown_words_of_a_text_are_counted(caplog):
    caplog.set_level(logging.WARNING, "weft")
    kv = made()
    assert kv.document_similarity("w1 w2 what ever", "w3") == kv.document_similarity(["w1", "w2"], ["w3"])
    assert "2 of 4 words of a text have no vector and were left out" in caplog.text
    assert kv.document_similarity("what ever", "w3") == 0 == kv.document_similarity([], "w3", "pairs")


def test_classes_are_repeatable_and_hold_every_word_once():
    kv = made(120, 4)
    classes = kv.word_classes(7, seed=3)
    assert classes == kv.word_classes(7, seed=3)
    assert len(classes) == 7 and sorted(word for each in classes for word in each) == sorted(kv.words)
    assert [each[0] for each in classes] == sorted((each[0] for each in classes), key=kv.key_to_index.get)


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
def test_faiss_answers_the_same():
    kv = made(2000, 16)
    same(kv.most_similar(["w3", "w4"], ["w5"], topn=9, index="faiss"), kv.most_similar(["w3", "w4"], ["w5"], topn=9))
    words = ["w1", "w7", "w9"]
    for found, expected in zip(kv.most_similar_batch(words, topn=5, index="faiss"), kv.most_similar_batch(words, topn=5)):
        same(found, expected)
    assert len(kv.most_similar("w1", topn=10**5, index="faiss")) == 1999


@pytest.mark.skipif(importlib.util.find_spec("faiss") is not None, reason="faiss is installed")
def test_without_faiss_the_extra_is_named():
    with pytest.raises(MissingExtra, match=r"pip install 'weft\[faiss\]'"):
        made().most_similar("w1", index="faiss")
