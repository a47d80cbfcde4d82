"""Taggers without a network, as an engine: each word's most frequent tag, an averaged perceptron, a conditional random field.

All three read binary features of the words around (weft.data.word_features); the kernels are in feature_kernels.py.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from weft.data.word_features import WordFeatures
from weft.errors import InputError, meant
from weft.estimators.decoding import Decoded
from weft.estimators.values import coerce

log = logging.getLogger("weft")
Sentence = Sequence[str]
Legal = tuple[np.ndarray, np.ndarray, np.ndarray]  # start (K,), transitions (K, K) [from, to], end (K,)

# Chosen on development data.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "majority": {"minimum_count": 1},
    "averaged-perceptron": {"epochs": 8, "minimum_count": 1, "window": 2},
    "crf": {"epochs": 8, "minimum_count": 1, "window": 2, "learning_rate": 0.1, "l2": 1.0, "batch_size": 8},
}
LEAST = {"epochs": 1, "minimum_count": 1, "window": 0, "batch_size": 1}
MOST = {"window": 10}
CHUNK = 50_000  # tokens whose features are held at a time when predicting


def checked_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of one of DEFAULTS overlaid with `settings`, in their types. Raises InputError for names and values that cannot be."""
    if name not in DEFAULTS:
        raise InputError(f"there is no {name!r}{meant(name, DEFAULTS)}; there are {', '.join(DEFAULTS)}", "model")
    merged = dict(DEFAULTS[name])
    for setting, value in settings.items():
        if setting not in merged:
            raise InputError(f"no such setting for {name}{meant(setting, merged)}; there are {', '.join(merged)}", setting)
        merged[setting] = found = coerce(setting, value, DEFAULTS[name][setting])
        if setting in LEAST and found < LEAST[setting]:
            raise InputError(f"must be at least {LEAST[setting]}, not {value!r}", setting)
        if setting in MOST and found > MOST[setting]:
            raise InputError(f"must be at most {MOST[setting]}, not {value!r}", setting)
        if setting == "learning_rate" and not 0 < found <= 100:
            raise InputError(f"must be above 0 and at most 100, not {value!r}", setting)
        if setting == "l2" and not 0 <= found <= 1e6:
            raise InputError(f"must be from 0 to a million, not {value!r}", setting)
    return merged


class Majority:
    """A word's most frequent tag and its share; of other words, the last row, that of all. Of equals, the first label."""

    def __init__(self, tags: np.ndarray, shares: np.ndarray) -> None:
        self.tags, self.shares = tags, shares  # (words + 1,)

    @classmethod
    def learnt(cls, ids: np.ndarray, gold: np.ndarray, size: int, labels: int) -> Self:
        known = gold >= 0
        counts = np.zeros((size + 1, labels), np.int64)
        np.add.at(counts, (ids[known, 0], gold[known]), 1)
        counts[-1] = np.bincount(gold[known], minlength=labels)
        counts = np.where(counts.sum(1, keepdims=True) > 0, counts, counts[-1])
        return cls(counts.argmax(1), (counts.max(1) / counts.sum(1)).astype(np.float32))

    def decoded(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.tags[ids[:, 0]], self.shares[ids[:, 0]]


class FeatureTagger:
    """`FeatureTagger("crf", {}, seed=0).fit(sentences, tags, labels, allowed).decoded(sentences)`.

    name: one of DEFAULTS. Everything is worked out on one thread, in an order that the seed says. Raises InputError for settings that
    cannot be.
    """

    models: ClassVar[Mapping[str, Any]] = {"majority": Majority}

    def __init__(self, name: str, settings: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        self.name, self.settings, self.seed = name, checked_settings(name, settings or {}), seed
        self.features: WordFeatures | None = None
        self.columns: dict[str, Any] = {}

    def fit(
        self,
        sentences: Sequence[Sentence],
        tags: Mapping[str, Sequence[np.ndarray]],
        labels: Mapping[str, Sequence[str]],
        allowed: Mapping[str, Legal | None],
    ) -> Self:
        """Learns each column of tags, one after the other.

        tags: for each column an array (T,) of label ids a sentence, negative where no tag is known; labels: their names. allowed: for each
        column what may follow what (weft.data.schemes.allowed), or None. Raises InputError where there is no tag to learn from.
        """
        self.features = WordFeatures.train(sentences, ["word@0"], self.settings["minimum_count"])
        ids, _ = self.features.encode(sentences)
        for column, names in labels.items():
            gold = np.concatenate([np.zeros(0, np.int64), *tags[column]])
            if not (gold >= 0).any():
                raise InputError(f"no token has a tag in column {column!r}; training needs some", "data")
            self.columns[column] = Majority.learnt(ids, gold, self.features.size, len(names))
        return self

    def decoded(self, sentences: Sequence[Sentence]) -> dict[str, Decoded]:
        """For each column the label ids (T,) of every sentence, and how sure they are: shares, softmax of scores, or marginals."""
        assert self.features is not None
        found = {column: Decoded([], []) for column in self.columns}
        sizes = np.cumsum([len(sentence) for sentence in sentences])
        edges = [0, *(np.flatnonzero(np.diff(sizes // CHUNK)) + 1).tolist(), len(sentences)]
        for begin, end in pairwise(edges):
            ids, lengths = self.features.encode(sentences[begin:end])
            for column, model in self.columns.items():
                for kept, flat in zip(found[column], model.decoded(ids, lengths), strict=True):
                    kept += np.split(flat, np.cumsum(lengths)[:-1]) if len(lengths) else []
        return found
