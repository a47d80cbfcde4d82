"""The rungs below the neural ones: majority, naive Bayes, logistic regression, linear SVM, perceptron on word n-grams.

scikit-learn fits them; what is kept is numbers (a word list, n-gram codes, idf, coefficients), so that a saved baseline holds no
pickled object and predicts with one sparse matrix product, bit for bit as it did before it was saved.

Sources: multinomial naive Bayes on counts (McCallum & Nigam, 1998); idf weights (Spärck Jones, 1972) and bigrams as the strong
baseline (Wang & Manning, 2012); linear SVM by dual coordinate descent (Hsieh et al., 2008); perceptron (Rosenblatt, 1958),
averaged (Freund & Schapire, 1999).
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from weft.errors import InputError
from weft.estimators.values import coerce

log = logging.getLogger("weft")

CHUNK = 10_000  # texts vectorised at a time when predicting: bounds memory, changes nothing
# Words with their inner apostrophes and hyphens left apart, and every punctuation mark by itself: "it's" and the pre-tokenised
# "it 's" give the same three tokens, so that one model serves raw and pre-tokenised text.
TOKEN = re.compile(r"\w+|[^\w\s]")

TASKS: dict[str, tuple[str, ...]] = {
    "majority": ("classification", "multi-label", "regression"),
    "naive-bayes": ("classification", "multi-label"),
    "logistic": ("classification", "multi-label"),
    "svm": ("classification", "multi-label"),
    "perceptron": ("classification", "multi-label"),
}

# Chosen by cross-validation on the training parts of TREC, AG News (10,000) and MR, and on SST-2's development set. A minimum count
# of 2 costs nothing there and makes models five times smaller, but it loses a point or two where there are only hundreds of texts.
DEFAULTS: dict[str, dict[str, Any]] = {
    "majority": {},
    "naive-bayes": {"ngrams": 2, "minimum_count": 1, "alpha": 0.5},
    "logistic": {"ngrams": 2, "minimum_count": 1, "sublinear": True, "C": 10.0},
    "svm": {"ngrams": 2, "minimum_count": 1, "sublinear": True, "C": 1.0},
    "perceptron": {"ngrams": 2, "minimum_count": 1, "sublinear": True, "epochs": 5, "average": True},
}

SEEDED = frozenset({"svm", "perceptron"})  # the others give the same model whatever the seed


def checked_settings(kind: str, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The defaults of `kind` overlaid with `settings`; InputError for an unknown kind, an unknown name or an impossible value."""
    if kind not in DEFAULTS:
        raise InputError(f"unknown baseline {kind!r}; there are: {', '.join(DEFAULTS)}")
    merged = dict(DEFAULTS[kind])
    for name, value in (settings or {}).items():
        if name not in merged:
            known = ", ".join(merged) or "none"
            raise InputError(f"{kind} has no setting {name!r}; it has: {known}")
        merged[name] = _checked(kind, name, value, merged[name])
    return merged


def read_settings(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are typed, texts, in the types that they have; a name that `kind` does not know is left as it is."""
    defaults = DEFAULTS.get(kind, {})
    return {
        name: coerce(name, value, defaults[name]) if isinstance(value, str) and name in defaults else value
        for name, value in settings.items()
    }


def _checked(kind: str, name: str, value: Any, default: Any) -> Any:
    """`value` if it can stand where `default` stands, else InputError."""
    if isinstance(default, bool):
        if isinstance(value, (bool, np.bool_)):
            return bool(value)
        raise InputError(f"{kind}: {name} must be true or false, not {value!r}")
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if isinstance(default, int):
        if number and value == int(value) and value >= 1:
            return int(value)
        raise InputError(f"{kind}: {name} must be a whole number of at least 1, not {value!r}")
    if number and math.isfinite(value) and value > 0:
        return float(value)
    raise InputError(f"{kind}: {name} must be a number above 0, not {value!r}")


def tokens(text: str) -> list[str]:
    """The lower-cased words and punctuation marks of a text, in order."""
    return TOKEN.findall(text.lower())


class Ngrams:
    """Counts of word n-grams as a sparse matrix: columns are the words, then the bigrams, then the trigrams, …

    An n-gram is held as one integer, (index of its first n-1 words) × (number of words) + (its last word): counting and looking up
    are then NumPy's sorting and searching, with one dictionary look-up a word and no joined strings.
    """

    def __init__(self, words: Sequence[str], levels: Sequence[np.ndarray]):
        self.words = list(words)
        self.levels = [np.asarray(level, dtype=np.int64) for level in levels]  # sorted codes of bigrams, trigrams, …
        self._ids = {word: i for i, word in enumerate(self.words)}

    @classmethod
    def learn(cls, texts: Sequence[str], size: int = 2, minimum_count: int = 1) -> Ngrams:
        """Every word and n-gram of up to `size` words that occurs at least `minimum_count` times in `texts`, words in sorted order."""
        counter: Counter[str] = Counter()
        for text in texts:
            counter.update(tokens(text))
        grams = cls(sorted(word for word, count in counter.items() if count >= minimum_count), [])
        ids, rows = grams._ids_of(texts)
        current = ids
        for n in range(2, size + 1):
            codes = _codes(current, ids, rows, n, len(grams.words))
            found, counts = np.unique(codes[codes >= 0], return_counts=True)
            grams.levels.append(found[counts >= minimum_count])
            current = _look_up(codes, grams.levels[-1])
        return grams

    def __len__(self) -> int:
        return len(self.words) + sum(len(level) for level in self.levels)

    def names(self) -> list[str]:
        """The n-gram behind each column, its words joined by a space."""
        named = list(self.words)
        last = self.words
        for level in self.levels:
            last = [f"{last[code // len(self.words)]} {self.words[code % len(self.words)]}" for code in level.tolist()]
            named.extend(last)
        return named

    def counts(self, texts: Sequence[str]) -> Any:
        """How often each n-gram occurs in each text: scipy CSR (N, F) float32, indices sorted. What was never learnt is left out."""
        from scipy.sparse import csr_matrix

        ids, rows = self._ids_of(texts)
        columns, places, start, current = [ids], [rows], len(self.words), ids
        for n, level in enumerate(self.levels, start=2):
            current = _look_up(_codes(current, ids, rows, n, len(self.words)), level)
            columns.append(np.where(current >= 0, current + start, -1))
            places.append(rows)
            start += len(level)
        column, place = np.concatenate(columns), np.concatenate(places)
        known = column >= 0
        ones = np.ones(int(known.sum()), dtype=np.float32)
        matrix = csr_matrix((ones, (place[known], column[known])), shape=(len(texts), len(self)))
        matrix.sum_duplicates()
        return matrix

    def _ids_of(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All texts' words end to end: ids (-1: not known) and the row each stands in."""
        flat: list[int] = []
        lengths = np.empty(len(texts), dtype=np.int64)
        get = self._ids.get
        for i, text in enumerate(texts):
            found = tokens(text)
            lengths[i] = len(found)
            flat.extend(map(get, found, repeat(-1)))
        return np.array(flat, dtype=np.int64), np.repeat(np.arange(len(texts)), lengths)


def _codes(prefix: np.ndarray, ids: np.ndarray, rows: np.ndarray, n: int, words: int) -> np.ndarray:
    """The code of the n-gram that begins at each place, -1 where its prefix or last word is unknown or the text ends before it."""
    codes = np.full(len(ids), -1, dtype=np.int64)
    if len(ids) >= n:
        head, tail = prefix[: len(ids) - n + 1], ids[n - 1 :]
        whole = (head >= 0) & (tail >= 0) & (rows[: len(ids) - n + 1] == rows[n - 1 :])
        codes[: len(ids) - n + 1][whole] = head[whole] * words + tail[whole]
    return codes


def _look_up(codes: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The index of each code in the sorted `level`, -1 where it is not there."""
    if not len(level):
        return np.full(len(codes), -1, dtype=np.int64)
    index = np.minimum(np.searchsorted(level, codes), len(level) - 1)
    return np.where(level[index] == codes, index, -1)


class Baseline:
    """One classical model on word n-grams (majority needs no words): `Baseline("svm", {"C": 0.5}).fit(texts, labels)`.

    kinds and what they see: majority (labels only; the mean for regression), naive-bayes (counts), logistic, svm, perceptron
    (counts, sublinear if asked, × idf, each text scaled to length 1). Several labels a text: one model a label against the rest.

    After `fit`: `task`, `classes` (sorted; empty for regression).

    Raises InputError for an unknown kind or setting, and from `fit` for a task the kind does not serve.
    """

    def __init__(self, kind: str, settings: Mapping[str, Any] | None = None, seed: int = 0):
        self.kind = kind
        self.settings = checked_settings(kind, settings)
        self.seed = seed
        self.task = ""
        self.classes: list[str] = []
        self._grams: Ngrams | None = None
        self._idf: np.ndarray | None = None  # (F,) float32
        self._coefficients = np.zeros((0, 0), dtype=np.float32)  # (F, C): one column for two classes, else one a class
        self._intercept = np.zeros(0, dtype=np.float32)  # (C,); all that majority has: log-frequencies, log-odds, or the mean

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        *,
        task: str = "classification",
        pairs: Sequence[str | None] | None = None,
    ) -> Baseline:
        """Learns from `texts` and their `labels` (a string each; a tuple of strings for multi-label; a number for regression).

        Raises InputError when the kind does not serve the task or pairs of texts, when texts and labels differ in number or are
        none, when there is one class only, or when no word is left to learn from.
        """
        self._check(texts, labels, task, pairs)
        self.task = task
        if task == "regression":
            self.classes, self._intercept = [], np.array([np.mean([float(label) for label in labels])], dtype=np.float32)
            return self
        targets = self._targets(labels)
        if self.kind == "majority":
            self._intercept = _frequencies(targets, task, len(self.classes))
            return self
        self._grams = Ngrams.learn(texts, self.settings["ngrams"], self.settings["minimum_count"])
        if not len(self._grams):
            raise InputError(f"no word occurs {self.settings['minimum_count']} times or more in the {len(texts)} training texts")
        counts = self._grams.counts(texts)
        if self.kind != "naive-bayes":
            documents = np.bincount(counts.indices, minlength=counts.shape[1])
            self._idf = (np.log((1 + len(texts)) / (1 + documents)) + 1).astype(np.float32)
        self._fit_columns(self._weighted(counts), targets)
        return self

    def decision(self, texts: Sequence[str]) -> np.ndarray:
        """Scores (N, K) float32, greater is likelier; K classes (regression: (N, 1), the predicted number).

        naive-bayes, logistic, majority: log-probabilities up to a constant a text (multi-label: log-odds). svm, perceptron: margins;
        for two classes of a single label the two columns are minus and plus the one margin's half, so that softmax gives its sigmoid.
        """
        scores = np.concatenate(list(self._scores(texts))) if len(texts) else np.zeros((0, len(self._intercept)), dtype=np.float32)
        if self.task == "classification" and len(self.classes) == 2 and scores.shape[1] == 1:
            return np.concatenate([-scores / 2, scores / 2], axis=1)
        return scores

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (N, K) float64: rows sum to 1 for one label a text, each column stands by itself for several.

        svm and perceptron know margins, not probabilities: theirs is the softmax (sigmoid) of the margins, right in order, but not
        calibrated; the perceptron's margins, which have no unit, are first scaled to a root mean square of 1 on the training texts.
        """
        if self.task == "regression":
            raise InputError("a regression has no class probabilities; use decision() or predict()")
        scores = self.decision(texts).astype(np.float64)
        if self.task == "multi-label":
            return 0.5 * (1 + np.tanh(scores / 2))  # the sigmoid, without overflow
        scores = np.exp(scores - scores.max(axis=1, keepdims=True)) if len(scores) else scores
        return scores / scores.sum(axis=1, keepdims=True)

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """The likeliest class of each text; for multi-label the tuple of classes at a probability of at least ½; a float for regression."""
        if self.task == "regression":
            return [float(value) for value in self.decision(texts)[:, 0]]
        scores = self.decision(texts)
        if self.task == "multi-label":
            return [tuple(self.classes[k] for k in np.flatnonzero(row >= 0)) for row in scores]
        return [self.classes[k] for k in scores.argmax(axis=1)] if len(scores) else []

    def scores(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """`decision`, whatever the second texts: majority alone takes pairs, and reads nothing."""
        return self.decision(texts)

    def parameters(self) -> int:
        """How many numbers were estimated from the training data: coefficients, intercepts and idf weights."""
        return self._coefficients.size + self._intercept.size + (0 if self._idf is None else self._idf.size)

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All there is to keep: arrays (for safetensors) and a JSON-able config; `from_arrays` undoes it, bit for bit."""
        if not self.task:
            raise InputError(f"this {self.kind} baseline is not fitted yet")
        arrays: dict[str, np.ndarray] = {"intercept": self._intercept}
        config: dict[str, Any] = {"kind": self.kind, "settings": dict(self.settings), "seed": self.seed, "task": self.task}
        config["classes"] = list(self.classes)
        if self._grams is not None:
            arrays["coefficients"] = self._coefficients
            arrays |= {f"ngrams.{n}": level for n, level in enumerate(self._grams.levels, start=2)}
            config["words"] = list(self._grams.words)
        if self._idf is not None:
            arrays["idf"] = self._idf
        return arrays, config

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        """`to_arrays` with the words by themselves: (arrays, config, tokenizer)."""
        arrays, config = self.to_arrays()
        return arrays, config, {"words": config.pop("words", [])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Baseline:
        """The baseline that `to_arrays` took apart; InputError when something is missing or sizes do not agree."""
        try:
            baseline = cls(config["kind"], config["settings"], config["seed"])
            baseline.task, baseline.classes = config["task"], list(config["classes"])
            baseline._intercept = np.asarray(arrays["intercept"], dtype=np.float32)
            if baseline.kind == "majority":
                return baseline
            levels = [arrays[f"ngrams.{n}"] for n in range(2, baseline.settings["ngrams"] + 1)]
            baseline._grams = Ngrams(config["words"], levels)
            baseline._coefficients = np.ascontiguousarray(arrays["coefficients"], dtype=np.float32)
            if baseline.kind != "naive-bayes":
                baseline._idf = np.asarray(arrays["idf"], dtype=np.float32)
        except KeyError as error:
            raise InputError(f"the saved baseline lacks {error}") from None
        baseline._check_sizes()
        return baseline

    def _check_sizes(self) -> None:
        features, columns = len(self._grams or ()), len(self._intercept)
        if self._coefficients.shape != (features, columns):
            raise InputError(f"the saved baseline has coefficients of shape {self._coefficients.shape}, expected {(features, columns)}")
        if self._idf is not None and len(self._idf) != features:
            raise InputError(f"the saved baseline has {len(self._idf)} idf weights for {features} n-grams")

    def _check(self, texts: Sequence[str], labels: Sequence[Any], task: str, pairs: Sequence[str | None] | None) -> None:
        if task not in TASKS[self.kind]:
            others = [kind for kind in TASKS if task in TASKS[kind]]
            what = f"{task} is served by {', '.join(others)} and the neural rungs" if others else "it is trained on labelled texts"
            raise InputError(f"{self.kind} serves {' and '.join(TASKS[self.kind])}, not {task}; {what}")
        if pairs is not None and self.kind != "majority":
            raise InputError(f"{self.kind} reads one text, not pairs of texts; majority and the neural rungs take pairs")
        if len(texts) != len(labels):
            raise InputError(f"{len(texts)} texts but {len(labels)} labels")
        if not len(texts):
            raise InputError("no training texts")

    def _targets(self, labels: Sequence[Any]) -> np.ndarray:
        """Class numbers (N,), or for multi-label zeros and ones (N, K); sets `classes`."""
        several = self.task == "multi-label"
        names = {name for label in labels for name in label} if several else set(labels)
        wrong = next((name for name in names if not isinstance(name, str)), None)
        if wrong is not None or (several and any(isinstance(label, str) for label in labels)):
            shape = "a tuple of strings" if several else "a string"
            raise InputError(f"for {self.task} each label must be {shape}, not {wrong if wrong is not None else 'a bare string'!r}")
        if not names or (len(names) < 2 and not several and self.kind != "majority"):
            raise InputError(f"{self.kind} needs at least two classes; the training labels have only {sorted(names)}")
        self.classes = sorted(names)
        number = {name: k for k, name in enumerate(self.classes)}
        if not several:
            return np.array([number[label] for label in labels])
        targets = np.zeros((len(labels), len(names)), dtype=np.int64)
        for row, label in enumerate(labels):
            targets[row, [number[name] for name in label]] = 1
        return targets

    def _fit_columns(self, features: Any, targets: np.ndarray) -> None:
        """Fits one model (single label) or one a label (several), keeps its numbers; sets coefficients and intercept."""
        if self.task == "multi-label":
            fitted = [self._fit_one(features, column) for column in targets.T]
            weights, biases = np.concatenate([w for w, _ in fitted]), np.concatenate([b for _, b in fitted])
        else:
            weights, biases = self._fit_one(features, targets)
        scale = 1.0
        if self.kind == "perceptron":
            scale = float(np.sqrt(np.mean((features @ weights.T + biases) ** 2))) or 1.0
        self._coefficients = np.ascontiguousarray((weights / scale).T, dtype=np.float32)
        self._intercept = (biases / scale).astype(np.float32)

    def _fit_one(self, features: Any, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """weights (C, F) and biases (C,); C is 1 for two classes. A label that all texts have, or none, gets its smoothed log-odds."""
        if len(np.unique(target)) < 2:
            positive = int(target.sum())
            odds = math.log((positive + 0.5) / (len(target) - positive + 0.5))
            return np.zeros((1, features.shape[1])), np.array([odds])
        from sklearn.exceptions import ConvergenceWarning

        model = self._model()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(features, target)
        if any(issubclass(warning.category, ConvergenceWarning) for warning in caught) and self.kind != "perceptron":
            log.warning("%s had not converged when its iterations ran out; its result stands (a smaller C converges sooner)", self.kind)
        if self.kind != "naive-bayes":
            return model.coef_, model.intercept_
        weights, biases = model.feature_log_prob_, model.class_log_prior_
        return (weights[1:] - weights[:1], biases[1:] - biases[:1]) if len(biases) == 2 else (weights, biases)

    def _model(self) -> Any:
        """The scikit-learn estimator behind the kind. Imported here: scikit-learn takes a second to load."""
        from sklearn import linear_model, naive_bayes, svm

        s = self.settings
        if self.kind == "naive-bayes":
            return naive_bayes.MultinomialNB(alpha=s["alpha"])
        if self.kind == "logistic":
            return linear_model.LogisticRegression(C=s["C"], max_iter=300)
        if self.kind == "svm":
            return svm.LinearSVC(C=s["C"], random_state=self.seed, max_iter=2000)
        # A constant rate from zero weights only scales a perceptron, so that 1 loses nothing; tol=None: all the epochs asked for.
        options = {"loss": "perceptron", "penalty": None, "learning_rate": "constant", "eta0": 1.0, "tol": None}
        return linear_model.SGDClassifier(max_iter=s["epochs"], average=s["average"], random_state=self.seed, **options)

    def _weighted(self, counts: Any) -> Any:
        """What the model sees: the counts themselves, or tf × idf in rows of length 1."""
        if self._idf is None:
            return counts
        if self.settings["sublinear"]:
            counts.data = np.log(counts.data) + np.float32(1)
        counts.data *= self._idf[counts.indices]
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        norms = np.sqrt(np.bincount(rows, weights=counts.data.astype(np.float64) ** 2, minlength=counts.shape[0]))
        counts.data /= norms[rows].astype(np.float32)
        return counts

    def _scores(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """Raw scores (n, C) of a chunk of texts after another."""
        if not self.task:
            raise InputError(f"this {self.kind} baseline is not fitted yet")
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            if self._grams is None:
                yield np.tile(self._intercept, (len(chunk), 1))
            else:
                yield self._weighted(self._grams.counts(chunk)) @ self._coefficients + self._intercept


def _frequencies(targets: np.ndarray, task: str, classes: int) -> np.ndarray:
    """Log-frequencies of the classes (K,), or for multi-label each label's smoothed log-odds."""
    if task == "multi-label":
        positive = targets.sum(axis=0)
        return np.log((positive + 0.5) / (len(targets) - positive + 0.5)).astype(np.float32)
    return np.log(np.bincount(targets, minlength=classes) / len(targets)).astype(np.float32)
