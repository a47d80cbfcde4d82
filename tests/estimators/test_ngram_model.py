"""Interpolated Kneser–Ney against the formula over dictionaries, every context of a tiny vocabulary."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import InputError
from weft.estimators.ngram_model import KneserNey

START = "start"


class Dictionaries:
    """The same, slowly: counts of tuples, one dictionary an order."""

    def __init__(self, texts: list[list[int]], words: int, order: int, discounts: np.ndarray) -> None:
        self.words, self.given = words, discounts
        rows = [[START, *text] for text in texts]
        raw = [Counter(tuple(row[i : i + k]) for row in rows for i in range(len(row) - k + 1)) for k in range(1, order + 1)]
        self.counts: list[dict[tuple, int]] = []
        for k in range(1, order + 1):
            if k == order:
                found = dict(raw[k - 1])
            else:
                found = {gram: sum(longer[1:] == gram for longer in raw[k]) for gram in raw[k - 1]}
                found |= {gram: raw[k - 1][gram] for gram in found if gram[0] == START}
            found.pop((START,), None)
            self.counts.append(found)

    def discount(self, k: int, count: int) -> float:
        return self.given[k - 1][min(count, 3) - 1] if count else 0.0

    def probability(self, word: int, context: tuple) -> float:
        k = len(context) + 1
        lower = self.probability(word, context[1:]) if context else 1 / self.words
        after = {gram[-1]: count for gram, count in self.counts[k - 1].items() if gram[:-1] == context}
        total = sum(after.values())
        if not total:
            return lower
        count = after.get(word, 0)
        gamma = sum(self.discount(k, one) for one in after.values()) / total
        return (count - self.discount(k, count)) / total + gamma * lower


def texts_of(words: int):
    return st.lists(st.lists(st.integers(0, words - 1), max_size=30), min_size=1, max_size=4).filter(any)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), words=st.integers(1, 4), order=st.integers(1, 5), discounts=st.sampled_from([1, 3]))
def test_it_is_the_formula_and_sums_to_one(data, words, order, discounts):
    texts = data.draw(texts_of(words))
    model = KneserNey.fit([np.array(text, int) for text in texts], vocabulary_size=words, order=order, discounts=discounts)
    slow = Dictionaries(texts, words, order, model.discounts)
    for length in range(order + 1):
        for text in itertools.islice(itertools.product(range(words), repeat=length), 40):
            found = model.next(text)
            assert math.isclose(found.sum(), 1, abs_tol=1e-12) and (found > 0).all()
            context = (START, *text)[-(order - 1) :] if order > 1 else ()
            np.testing.assert_allclose(found, [slow.probability(word, context) for word in range(words)], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(texts=texts_of(4), other=st.lists(st.integers(0, 3), min_size=1, max_size=20), order=st.integers(1, 5))
def test_a_text_at_once_is_its_ids_one_by_one(texts, other, order):
    model = KneserNey.fit([np.array(text, int) for text in texts], vocabulary_size=4, order=order)
    found = model.log_probabilities(np.array(other))
    np.testing.assert_allclose(found, [np.log(model.next(other[:i])[word]) for i, word in enumerate(other)], rtol=1e-12)
    assert math.isclose(model.perplexity([np.array(other)]), math.exp(-found.mean()), rel_tol=1e-12)


def text(seed: int, count: int, words: int = 30) -> np.ndarray:
    """A chain of words in which each is followed by few others, Zipf's law in both."""
    random = np.random.default_rng(seed)
    follow = np.random.default_rng(99).permutation(words * 4).reshape(words, 4) % words
    found = [0]
    for _ in range(count - 1):
        found.append(int(follow[found[-1], min(random.geometric(0.6) - 1, 3)]) if random.random() < 0.9 else int(random.zipf(1.5) % words))
    return np.array(found)


def test_discounts_are_chen_and_goodmans():
    ids = text(0, 3000)
    three = KneserNey.fit(ids, vocabulary_size=30, order=2).discounts[1]
    counts = Counter(zip([-1, *ids[:-1]], ids, strict=True))
    n = [sum(count == k for count in counts.values()) for k in range(1, 5)]
    y = n[0] / (n[0] + 2 * n[1])
    np.testing.assert_allclose(three, [1 - 2 * y * n[1] / n[0], 2 - 3 * y * n[2] / n[1], 3 - 4 * y * n[3] / n[2]])
    assert KneserNey.fit(ids, vocabulary_size=30, order=2, discounts=1).discounts[1].tolist() == [y] * 3


def test_more_context_is_better_and_other_text_no_worse_than_nothing():
    train, test = text(1, 20000), text(2, 3000)
    found = [KneserNey.fit(train, vocabulary_size=30, order=order).perplexity(test) for order in (1, 2, 3)]
    assert found[0] < 30 and found[1] < 0.6 * found[0] and found[2] < 1.05 * found[1]


def test_a_text_that_ends_does_not_run_into_the_next():
    apart = KneserNey.fit([np.array([0, 1]), np.array([2, 3])], vocabulary_size=4, order=2)
    joined = KneserNey.fit(np.array([0, 1, 2, 3]), vocabulary_size=4, order=2)
    assert apart.next([0, 1])[2] == apart.next([0, 1])[3] and joined.next([0, 1])[2] > joined.next([0, 1])[3]
    assert apart.next()[0] == apart.next()[2] > apart.next()[1]


def test_arrays_are_the_whole_model():
    model = KneserNey.fit([text(3, 500), text(4, 300)], vocabulary_size=30, order=4)
    again = KneserNey.from_arrays(model.arrays())
    assert again.order == 4 and np.array_equal(again.log_probabilities(text(5, 200)), model.log_probabilities(text(5, 200)))
    for name in model.arrays():
        with pytest.raises(InputError, match="n-gram model"):
            KneserNey.from_arrays({key: value for key, value in model.arrays().items() if key != name})
    with pytest.raises(InputError, match="order 2 do not fit together"):
        KneserNey.from_arrays({**model.arrays(), "counts.2": np.zeros(3)})


def test_what_cannot_be_is_refused():
    for wrong in ([], [np.zeros(0, int)]):
        with pytest.raises(InputError, match="no text to learn from"):
            KneserNey.fit(wrong, vocabulary_size=3)
    with pytest.raises(InputError, match="from 1 to 10, not 0"):
        KneserNey.fit(np.zeros(3, int), vocabulary_size=3, order=0)
    with pytest.raises(InputError, match="must be 1 or 3, not 2"):
        KneserNey.fit(np.zeros(3, int), vocabulary_size=3, discounts=2)
    with pytest.raises(ValueError, match="from 0 to 2"):
        KneserNey.fit(np.array([0, 3]), vocabulary_size=3)
    with pytest.raises(InputError, match="no text to measure"):
        KneserNey.fit(np.zeros(3, int), vocabulary_size=3).perplexity([])


@pytest.mark.parametrize("order", [2, 3])
def test_the_lower_orders_count_contexts_not_occurrences(order):
    """Francisco follows San alone: often, but after one word, so that elsewhere it is not expected."""
    san, francisco, glasses = 0, 1, 2
    ids = [san, francisco] * 20
    for other in range(3, 9):
        ids += [other, glasses]
    model = KneserNey.fit(np.array(ids), vocabulary_size=10, order=order)
    assert model.next([9])[glasses] > 2 * model.next([9])[francisco]
