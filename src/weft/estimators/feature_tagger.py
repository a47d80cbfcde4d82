"""Taggers without a network, as an engine: each word's most frequent tag, an averaged perceptron, a conditional random field.

All three read binary features of the words around (weft.data.word_features); the kernels are in feature_kernels.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np

from weft.data.word_features import WordFeatures
from weft.errors import InputError, meant
from weft.estimators.decoding import Decoded
from weft.estimators.feature_models import FeatureCrf, Legal, Majority, Model, Perceptron
from weft.estimators.values import coerce

Sentence = Sequence[str]
MODELS: Mapping[str, type[Model]] = {"majority": Majority, "averaged-perceptron": Perceptron, "crf": FeatureCrf}

# Chosen on development data.
SEEDED = frozenset({"averaged-perceptron", "crf"})  # their sentences come in an order of the seed
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "majority": {"minimum_count": 1},
    "averaged-perceptron": {"epochs": 10, "minimum_count": 2, "window": 2},
    "crf": {"epochs": 4, "minimum_count": 2, "window": 2, "learning_rate": 0.2, "l2": 0.1, "batch_size": 8},
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


def templates(window: int) -> list[str]:
    """What the perceptron and the CRF read: words up to `window` away, the form of this word and its neighbours, pairs of words.

    After Ratnaparkhi (1996) and Toutanova et al. (2003); which of them was chosen on development data.
    """
    own = ("prefix1", "prefix2", "prefix", "prefix4", "suffix1", "suffix2", "suffix3", "suffix4", "suffix5", "shape", "case")
    found = ["word@0", *(f"lower@{offset}" for offset in range(-window, window + 1)), *(f"{kind}@0" for kind in own)]
    if window > 0:
        found += [f"{kind}@{offset}" for offset in (-1, 1) for kind in ("suffix2", "suffix3", "shape", "case")]
        found += [f"{kind}@{first}&{kind}@{first + 1}" for kind in ("lower", "shape") for first in (-1, 0)] + ["lower@-1&lower@1"]
    if window > 1:
        found += [f"{kind}@{offset}" for offset in (-2, 2) for kind in ("shape", "case")]
    return found


class FeatureTagger:
    """`FeatureTagger("crf", {}, seed=0).fit(sentences, tags, labels, allowed).decoded(sentences)`.

    name: one of DEFAULTS. Everything is worked out on one thread, in an order that the seed says. Raises InputError for settings that
    cannot be.
    """

    def __init__(self, name: str, settings: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        self.name, self.settings, self.seed = name, checked_settings(name, settings or {}), seed
        self.features: WordFeatures | None = None
        self.labels: dict[str, list[str]] = {}
        self.columns: dict[str, Model] = {}

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
        read = templates(self.settings["window"]) if "window" in self.settings else ["word@0"]
        self.features = WordFeatures.train(sentences, read, self.settings["minimum_count"])
        ids, lengths = self.features.encode(sentences)
        self.labels = {column: list(names) for column, names in labels.items()}
        for column, names in self.labels.items():
            gold = np.concatenate([np.zeros(0, np.int64), *tags[column]])
            if len(gold) != len(ids):
                raise ValueError(f"column {column!r} has {len(gold)} tags for {len(ids)} tokens")
            if not (gold >= 0).any():
                raise InputError(f"no token has a tag in column {column!r}; training needs some", "data")
            model, sizes = MODELS[self.name], self._sizes(names)
            self.columns[column] = model.learnt(ids, lengths, gold, sizes, allowed.get(column), self.settings, self.seed)
        return self

    def _sizes(self, names: Sequence[str]) -> tuple[int, int, int]:
        """How many features there are, how many words among them, how many labels."""
        assert self.features is not None
        return self.features.size, int(self.features.bases[1]), len(names)

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

    def parameters(self) -> int:
        """How many numbers were learnt."""
        return sum(model.parameters() for model in self.columns.values())

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        """All there is to keep: arrays, a configuration for JSON, the features; `restore` undoes it, bit for bit."""
        assert self.features is not None
        arrays = self.features.arrays()
        for place, model in enumerate(self.columns.values()):
            arrays |= {f"column.{place}.{name}": array for name, array in model.arrays().items()}
        columns = [{"name": column, "labels": names} for column, names in self.labels.items()]
        return arrays, {"name": self.name, "settings": self.settings, "seed": self.seed, "columns": columns}, self.features.to_dict()

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], described: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> Self:
        """The engine that `saved` took apart. Raises InputError where something is missing or sizes do not agree."""
        try:
            made = cls(str(described["name"]), described["settings"], int(described["seed"]))
            made.labels = {column["name"]: list(column["labels"]) for column in described["columns"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"describes no tagger over features ({type(error).__name__}: {error})", "config.json") from error
        made.features = WordFeatures.restore(arrays, tokenizer)
        for place, (column, names) in enumerate(made.labels.items()):
            start = f"column.{place}."
            own = {name.removeprefix(start): np.ascontiguousarray(array) for name, array in arrays.items() if name.startswith(start)}
            made.columns[column] = MODELS[made.name].restored(own, made._sizes(names))
        return made
