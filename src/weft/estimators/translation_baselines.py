"""Translators that hardly learn: the floors of their ladder. `copy` answers with the source, `nearest` with a target out of training.

Nothing is searched for and nothing is random; what is kept is numbers and texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from weft.errors import InputError, meant
from weft.estimators.baselines import Ngrams
from weft.estimators.decoding import Translated
from weft.estimators.values import coerce
from weft.metrics_text import MEASURES

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "copy": {"metric": "bleu"},
    "nearest": {"metric": "bleu", "ngrams": 1, "minimum_count": 1},
}
SIMILARITIES = 8_000_000  # numbers held at a time when predicting


def checked_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of one of DEFAULTS overlaid with `settings`, in their types. Raises InputError for names and values that cannot be.

    metric: of MEASURES, what `score` gives. nearest: of n-grams of up to `ngrams` words that occur `minimum_count` times or more.
    """
    if name not in DEFAULTS:
        raise InputError(f"there is no {name!r}{meant(name, DEFAULTS)}; there are {', '.join(DEFAULTS)}", "model")
    merged = dict(DEFAULTS[name])
    for setting, value in settings.items():
        if setting not in merged:
            raise InputError(f"no such setting for {name}{meant(setting, merged)}; there are {', '.join(merged)}", setting)
        merged[setting] = found = coerce(setting, value, DEFAULTS[name][setting])
        if setting == "metric" and found not in MEASURES:
            raise InputError(f"there is no {value!r}{meant(str(value), MEASURES)}; there are {', '.join(MEASURES)}", setting)
        if setting != "metric" and found < 1:
            raise InputError(f"must be at least 1, not {value!r}", setting)
    return merged


class TranslationBaseline:
    """`TranslationBaseline("nearest", {}).fit(sources, targets).translated(sources)`; the settings are those of `checked_settings`.

    nearest: of N training sources (the first of equals) the one whose words are most like the source's: the largest cosine of TF-IDF
    vectors, idf = log((1 + N) / (1 + n)) + 1 for a word in n sources (Spärck Jones, 1972; Salton & Buckley, 1988), punctuation marks and
    words without case. Without a known word that is the first of all. How like it is, from 0 to 1, stands for a probability.
    """

    def __init__(self, name: str, settings: Mapping[str, Any] | None = None) -> None:
        self.name, self.settings = name, checked_settings(name, settings or {})
        self.targets: list[str] = []
        self.grams = Ngrams([], [])
        self.idf = np.zeros(0, np.float32)
        self.rows: Any = None  # (N, F) CSR: the training sources, each scaled to length 1

    def fit(self, sources: Sequence[str], targets: Sequence[str]) -> Self:
        """Learns N sources and their targets. Raises InputError where no word is left to compare by."""
        if self.name == "copy":
            return self
        self.targets = list(targets)
        self.grams = Ngrams.learn(sources, self.settings["ngrams"], self.settings["minimum_count"])
        if not len(self.grams):
            least = self.settings["minimum_count"]
            raise InputError(f"no word occurs {least} times or more in the {len(sources)} training sources", "sources")
        found = np.bincount(self.grams.counts(sources).indices, minlength=len(self.grams))
        self.idf = (np.log((1 + len(sources)) / (1 + found)) + 1).astype(np.float32)
        self.rows = self._weighted(sources)
        return self

    def monitor(self) -> str:
        """The metric that it is measured by."""
        return str(self.settings["metric"])

    def translated(self, sources: Sequence[str]) -> list[list[Translated]]:
        """The one answer to each source; its score and exp(log_probability) are how like the nearest source is (1 for a copy)."""
        if self.name == "copy":
            return [[Translated(source, 1.0, 0.0, [], None, True)] for source in sources]
        found: list[list[Translated]] = []
        size = max(1, SIMILARITIES // len(self.targets))
        for begin in range(0, len(sources), size):
            likeness = self.rows @ self._weighted(sources[begin : begin + size]).T.toarray()  # (N, size)
            for place, most in zip(likeness.argmax(0).tolist(), likeness.max(0).tolist(), strict=True):
                like = min(1.0, max(most, 1e-9))
                found.append([Translated(self.targets[place], like, float(np.log(like)), [], None, True)])
        return found

    def parameters(self) -> int:
        """How many numbers were learnt from the training data."""
        return 0 if self.rows is None else int(self.rows.nnz) + self.idf.size

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        """All there is to keep: arrays, a configuration for JSON, texts; `restore` undoes it, bit for bit."""
        arrays: dict[str, np.ndarray] = {"idf": self.idf}
        if self.rows is not None:
            arrays |= {"rows.weights": self.rows.data, "rows.words": self.rows.indices, "rows.starts": self.rows.indptr.astype(np.int64)}
            arrays |= {f"ngrams.{n}": level for n, level in enumerate(self.grams.levels, start=2)}
        return arrays, {"name": self.name, "settings": self.settings}, {"words": self.grams.words, "targets": self.targets}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], described: Mapping[str, Any], texts: Mapping[str, Any]) -> Self:
        """The engine that `saved` took apart. Raises InputError where something is missing or sizes do not agree."""
        try:
            made = cls(str(described["name"]), described["settings"])
            if made.name == "copy":
                return made
            made.targets = list(map(str, texts["targets"]))
            levels = [arrays[f"ngrams.{n}"] for n in range(2, made.settings["ngrams"] + 1)]
            made.grams = Ngrams(list(map(str, texts["words"])), levels)
            made.idf = np.asarray(arrays["idf"], np.float32)
            made._take_rows(arrays["rows.weights"], arrays["rows.words"], arrays["rows.starts"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"describes no translator without a network ({type(error).__name__}: {error})", "config.json") from error
        return made

    def _take_rows(self, weights: np.ndarray, words: np.ndarray, starts: np.ndarray) -> None:
        """The training sources as they were saved. Raises InputError where they do not fit the words and the targets."""
        from scipy.sparse import csr_matrix

        count, size = len(self.targets), len(self.grams)
        whole = starts.shape == (count + 1,) and words.shape == weights.shape == (int(starts[-1]),) and len(self.idf) == size
        rising = whole and bool(count) and not starts[0] and bool((np.diff(starts) >= 0).all())
        if not rising or (len(words) and not 0 <= words.min() <= words.max() < size):
            message = f"its arrays do not fit {count} targets and {size} words and n-grams"
            raise InputError(message, "model.safetensors")
        self.rows = csr_matrix((np.asarray(weights, np.float32), words, starts), shape=(count, size))

    def _weighted(self, texts: Sequence[str]) -> Any:
        """(N, F) CSR float32: counts × idf, each text scaled to length 1."""
        counts = self.grams.counts(texts)
        counts.data *= self.idf[counts.indices]
        lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(1)).ravel())
        counts.data /= np.repeat(np.where(lengths > 0, lengths, 1).astype(np.float32), np.diff(counts.indptr))
        return counts
