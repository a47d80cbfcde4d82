"""Interpolated Kneser–Ney over ids: the yardstick of language models, in NumPy alone (E79; Kneser & Ney, 1995; Chen & Goodman, 1999).

For a context h of k − 1 ids, h' the same without its first, with a_k the counts of order k:

    p_k(w | h) = max(a_k(hw) − D(a_k(hw)), 0)/Σ_v a_k(hv) + γ(h) p_{k−1}(w | h'),  γ(h) = Σ_v D(a_k(hv))/Σ_v a_k(hv),

p_{k−1} alone where h was never seen, and p_0 = 1/V. Of the highest order a is how often hw occurs; of the others, how many different ids
stand before hw. What begins a text has the start symbol before it, before which nothing stands: there a is how often it occurs. D is one
discount an order, n₁/(n₁ + 2n₂), or three, for a of 1, 2, and 3 or more (modified Kneser–Ney: Chen & Goodman, 1999, section 3).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from weft.errors import InputError

log = logging.getLogger("weft")
LONGEST = 10


@dataclass(frozen=True)
class _Order:
    """The grams of one order, ascending by key: context·(V + 1) + last id, the context being its gram's place in the order below.

    counts: a of each gram; total, gamma: Σ_v a(hv) and γ(h) of each context, 0 and 1 of one that was never before an id. All three have one
    entry more, at place −1: that of what was never seen.
    """

    keys: np.ndarray
    counts: np.ndarray
    discounts: np.ndarray
    total: np.ndarray
    gamma: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, discounts: np.ndarray, contexts: int, base: int) -> _Order:
        context = keys // base
        total = np.bincount(context, counts, contexts + 1)
        taken = np.bincount(context, _discount(counts, discounts), contexts + 1)
        gamma = np.where(total > 0, taken / np.maximum(total, 1), 1.0)
        return cls(keys, np.append(counts, 0).astype(np.int32), discounts, total, gamma)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The place of each, −1 where it is no gram."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, -1)

    def left(self, places: np.ndarray | slice) -> np.ndarray:
        """max(a − D(a), 0) of the grams at these places."""
        counts = self.counts[places]
        return counts - _discount(counts, self.discounts)


class KneserNey:
    """A language model of ids 0 … V − 1. Made by `fit` or `from_arrays`."""

    def __init__(self, vocabulary_size: int, orders: Sequence[_Order]) -> None:
        self.vocabulary_size, self._orders = vocabulary_size, tuple(orders)

    @property
    def order(self) -> int:
        """n: an id depends on the n − 1 before it."""
        return len(self._orders)

    @property
    def discounts(self) -> np.ndarray:
        """D of a count of 1, 2, and more, for each order: (n, 3)."""
        return np.stack([order.discounts for order in self._orders])

    @classmethod
    def fit(cls, texts: Sequence[np.ndarray] | np.ndarray, *, vocabulary_size: int, order: int = 5, discounts: int = 3) -> KneserNey:
        """The model of one text, ids (n,), or of several; discounts: 1 or 3 of each order.

        Raises InputError where there is no id at all, or order or discounts cannot be; ValueError where an id is not in 0 … V − 1.
        """
        if not 1 <= order <= LONGEST:
            raise InputError(f"must be from 1 to {LONGEST}, not {order}", "order")
        if discounts not in (1, 3):
            raise InputError(f"must be 1 or 3, not {discounts}", "discounts")
        ids, places = _joined(texts, vocabulary_size)
        if not (places > 0).any():
            raise InputError("there is no text to learn from", "texts")
        base = vocabulary_size + 1
        keys, nodes, firsts = _grams(ids, places, order, base)
        orders: list[_Order] = []
        for level in range(order):
            if level == order - 1:
                counted = np.bincount(nodes[level][places >= level], minlength=len(keys[level]))
            else:
                counted = _continuations(nodes[level], len(keys[level]), firsts[level + 1], nodes[level][places == level])
            if level == 0:
                counted[vocabulary_size] = 0  # the start of a text is no id that could come
            found = _estimated(counted, discounts, level + 1)
            orders.append(_Order.of(keys[level], counted, found, len(keys[level - 1]) if level else 1, base))
        return cls(vocabulary_size, orders)

    def log_probabilities(self, ids: np.ndarray) -> np.ndarray:
        """log p(x_i | x_{<i}) of every id of a text, from its start: (n,) float64. Raises ValueError where an id is not in 0 … V − 1."""
        text, _ = _joined([ids], self.vocabulary_size)
        share = np.full(len(text) - 1, 1.0 / self.vocabulary_size)
        context = np.zeros(len(text) - 1, np.int64)  # the gram before each id, of one id less than the order at hand; −1: unknown
        for level, order in enumerate(self._orders):
            grams = np.full(len(text), -1)
            grams[0] = self.vocabulary_size if level == 0 else -1
            known = context >= 0
            grams[1:][known] = order.find(context[known] * (self.vocabulary_size + 1) + text[1:][known])
            share = order.left(grams[1:]) / np.maximum(order.total[context], 1) + order.gamma[context] * share
            context = grams[:-1]
        return np.log(share)

    def perplexity(self, texts: Sequence[np.ndarray] | np.ndarray) -> float:
        """exp of the mean of −log p over all ids of all texts (E80). Raises InputError where there is none."""
        texts = [texts] if isinstance(texts, np.ndarray) else texts
        found = np.concatenate([self.log_probabilities(text) for text in texts] or [np.zeros(0)])
        if not len(found):
            raise InputError("there is no text to measure", "texts")
        return float(np.exp(-found.mean()))

    def next(self, context: Sequence[int] | np.ndarray = ()) -> np.ndarray:
        """p(w | context) of every id, (V,), the context being the text so far, from its start."""
        text, _ = _joined([np.asarray(context, np.int64)], self.vocabulary_size)
        base, share = self.vocabulary_size + 1, np.full(self.vocabulary_size, 1.0 / self.vocabulary_size)
        for level, order in enumerate(self._orders):
            if level > len(text):
                break
            gram = self._gram(text[len(text) - level :])
            if order.total[gram]:
                start, end = np.searchsorted(order.keys, [gram * base, gram * base + self.vocabulary_size])  # the start symbol never comes
                share *= order.gamma[gram]
                share[order.keys[start:end] - gram * base] += order.left(slice(start, end)) / order.total[gram]
        return share

    def _gram(self, ids: np.ndarray) -> int:
        """The place of this gram in its order, −1 where it was never seen; 0 of no ids."""
        found = np.zeros(1, np.int64)
        for order, word in zip(self._orders, ids, strict=False):
            found = order.find(found * (self.vocabulary_size + 1) + word) if found[0] >= 0 else found
        return int(found[0])

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole model as arrays by name."""
        found: dict[str, np.ndarray] = {"vocabulary_size": np.array([self.vocabulary_size]), "discounts": self.discounts}
        for level, order in enumerate(self._orders, 1):
            found[f"keys.{level}"], found[f"counts.{level}"] = order.keys, order.counts[:-1]
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> KneserNey:
        """The model of which these are the arrays. Raises InputError where some are missing or do not fit together."""
        try:
            size, discounts = int(arrays["vocabulary_size"][0]), arrays["discounts"]
            parts = [(arrays[f"keys.{level}"], arrays[f"counts.{level}"]) for level in range(1, len(discounts) + 1)]
        except (KeyError, IndexError) as error:
            raise InputError(f"are not those of an n-gram model ({error} is missing)", "arrays") from error
        orders: list[_Order] = []
        contexts = 1
        for (keys, counts), discount in zip(parts, discounts, strict=True):
            inside = not len(keys) or (keys.min() >= 0 and keys.max() < contexts * (size + 1))
            whole = len(keys) == size + 1 or orders  # every id has its place in the first order
            if keys.shape != counts.shape or not inside or not whole or (np.diff(keys) <= 0).any() or (counts < 0).any():
                raise InputError(f"keys and counts of order {len(orders) + 1} do not fit together", "arrays")
            orders.append(_Order.of(keys, counts, discount, contexts, size + 1))
            contexts = len(keys)
        return cls(size, orders)


def _joined(texts: Sequence[np.ndarray] | np.ndarray, vocabulary_size: int) -> tuple[np.ndarray, np.ndarray]:
    """All texts, each after a start symbol, V; and how many of its text's symbols stand before each."""
    parts = [np.asarray(text, np.int64) for text in ([texts] if isinstance(texts, np.ndarray) else texts)]
    for part in parts:
        if part.ndim != 1 or (len(part) and not 0 <= part.min() <= part.max() < vocabulary_size):
            raise ValueError(f"a text is ids (n,) from 0 to {vocabulary_size - 1}, got shape {part.shape}")
    start = np.array([vocabulary_size])
    ids = np.concatenate([piece for part in parts for piece in (start, part)] or [np.zeros(0, np.int64)])
    lengths = np.array([len(part) + 1 for part in parts], np.int64)
    return ids, np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _grams(ids: np.ndarray, places: np.ndarray, order: int, base: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """For each order: the keys of its grams; which ends at each symbol, −1 where it would reach out of the text; where each is first."""
    keys, nodes, firsts = [np.arange(base)], [ids], [np.zeros(0, np.int64)]
    for level in range(1, order):
        inside = np.nonzero(places >= level)[0]
        found, first, inverse = np.unique(nodes[-1][inside - 1] * base + ids[inside], return_index=True, return_inverse=True)
        node = np.full(len(ids), -1)
        node[inside] = inverse
        keys.append(found)
        nodes.append(node)
        firsts.append(inside[first])
    return keys, nodes, firsts


def _continuations(nodes: np.ndarray, grams: int, longer: np.ndarray, starting: np.ndarray) -> np.ndarray:
    """How many different symbols stand before each gram, `longer` being where each gram of one symbol more ends; how often it occurs of
    those, `starting`, that begin with the start of a text."""
    return np.bincount(nodes[longer], minlength=grams) + np.bincount(starting, minlength=grams)


def _estimated(counts: np.ndarray, number: int, order: int) -> np.ndarray:
    """D of counts of 1, 2, and more, from how many grams have counts of 1 to 4: (3,)."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(np.float64)
    if number == 1 and n[0]:
        return np.full(3, n[0] / (n[0] + 2 * n[1]))
    if number == 3 and n.all():
        found = np.arange(1, 4) - np.arange(2, 5) * n[0] / (n[0] + 2 * n[1]) * n[1:] / n[:3]
        if (found > 0).all():  # each is below its count by itself
            return found
    log.info("too few grams of order %d to estimate what is taken off their counts: 0.5, 1 and 1.5", order)
    return np.array([0.5, 1.0, 1.5]) if number == 3 else np.full(3, 0.5)


def _discount(counts: np.ndarray, discounts: np.ndarray) -> np.ndarray:
    """D of each count; 0 of 0."""
    return np.concatenate([[0.0], discounts])[np.minimum(counts, 3)]
