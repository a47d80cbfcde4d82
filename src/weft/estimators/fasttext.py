"""fastText's classifier as an engine: texts → rows of words and hashed n-grams → weft.vectors.supervised (E51; Joulin et al., 2017).

A text's ids are those of its words and n-grams and, as in the fasttext program, of its end, a word behind every text. Of all the ids there
could be, only those that occur in training have a row; others are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from weft.data.tokenizers import tokenizer_from_dict
from weft.data.words import WhitespaceTokenizer, WordTokenizer
from weft.errors import InputError, meant
from weft.estimators.values import coerce

if TYPE_CHECKING:
    from weft.vectors.supervised import Classifier

# Chosen on development data.
DEFAULTS: dict[str, Any] = {
    "embedding_size": 100, "epochs": 5, "learning_rate": 0.5, "ngrams": 2, "buckets": 2_000_000,
    "minimum_count": 1, "loss": "auto", "negative": 5, "tokenizer": "words", "lowercase": True,
}  # fmt: skip
CHOICES: dict[str, tuple[str, ...]] = {"loss": ("auto", "softmax", "hs", "ns", "ova"), "tokenizer": ("words", "whitespace")}
END = "\N{SYMBOL FOR END OF TEXT}"  # a word behind every text; both tokenizers leave it whole
CHUNK = 100_000  # texts that are encoded at a time when predicting


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults overlaid with `settings`, in their types. Raises InputError for a name that is not there or a value that cannot be."""
    merged = dict(DEFAULTS)
    for name, value in settings.items():
        if name not in merged:
            raise InputError(f"no such setting for fasttext{meant(name, merged)}; there are {', '.join(merged)}", name)
        merged[name] = coerce(name, value, DEFAULTS[name])
        if name in CHOICES and merged[name] not in CHOICES[name]:
            raise InputError(f"must be {', '.join(CHOICES[name])}, not {value!r}", name)
        if isinstance(merged[name], int) and not isinstance(merged[name], bool) and merged[name] < 1:
            raise InputError(f"must be at least 1, not {value!r}", name)
    if not 0 < merged["learning_rate"] < 100:
        raise InputError(f"must be above 0 and below 100, not {merged['learning_rate']}", "learning_rate")
    return merged


class FastText:
    """`FastText({"ngrams": 2}, seed=0).fit(texts, targets, task="classification", outputs=3).scores(texts)`.

    loss: "auto" is softmax for one label a text and "ova", one against all others, for several, the only one that these have.
    threads: one is exact and repeatable, several write without locks. Raises InputError for settings that cannot be.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, *, seed: int = 0, threads: int = 1) -> None:
        self.settings = checked_settings(settings or {})
        self.seed, self.threads = seed, threads
        self.tokenizer: WordTokenizer | None = None
        self.model: Classifier | None = None
        self.used = np.zeros(0, np.int32)  # (R,) ascending: the id of each row
        self.place = np.zeros(0, np.int32)  # (ids,): the row of each id, -1 where it has none

    def fit(self, texts: Sequence[str], targets: np.ndarray, *, task: str, outputs: int) -> Self:
        """Learns from texts and their classes: numbers (N,), or zeros and ones (N, outputs) where a text has several.

        Raises InputError where there are no texts, where the loss is not for the task, and where it grows out of all bounds.
        """
        from weft.vectors.supervised import Bags, SupervisedPlan, train_supervised

        s, loss = self.settings, self._loss(task)
        buckets = s["buckets"] if s["ngrams"] > 1 else 0
        kind = WhitespaceTokenizer if s["tokenizer"] == "whitespace" else WordTokenizer
        self.tokenizer = kind.train([""], lowercase=s["lowercase"], ngrams=s["ngrams"], buckets=buckets)
        flat, lengths = self.tokenizer.learn_flat(texts, s["minimum_count"], end=END)
        occurs = np.zeros(self.tokenizer.size, bool)
        occurs[flat] = True
        self._keep(np.flatnonzero(occurs).astype(np.int32))
        labels = targets if targets.ndim == 1 else targets.nonzero()[1]
        label_lengths = np.ones(len(targets), np.int64) if targets.ndim == 1 else np.count_nonzero(targets, axis=1)
        bags = Bags(self.place[flat], _starts(lengths), labels.astype(np.int32), _starts(label_lengths))
        words = int(np.searchsorted(self.used, len(self.tokenizer.vocabulary)))
        plan = SupervisedPlan(
            loss=loss, dim=s["embedding_size"], epochs=s["epochs"], rate=s["learning_rate"], negative=s["negative"],
            threads=self.threads, seed=self.seed, zeros_from=words,
        )  # fmt: skip
        self.model = train_supervised(bags, len(self.used), outputs, plan)
        return self

    def scores(self, texts: Sequence[str], pairs: None = None) -> np.ndarray:
        """(N, outputs) float32, in the order of the texts, greater is likelier; softmax (of several labels σ) makes chances.

        With loss "hs" they are log-probabilities.
        """
        found = [self._scores(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
        return np.concatenate(found) if found else np.zeros((0, self._fitted().labels), np.float32)

    def parameters(self) -> int:
        """How many numbers were learnt."""
        model = self._fitted()
        return model.inputs.size + model.outputs.size

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        """All there is to keep: arrays, a configuration for JSON, the tokenizer; `restore` undoes it, bit for bit."""
        model = self._fitted()
        assert self.tokenizer is not None
        arrays = {"inputs": model.inputs, "outputs": model.outputs, "counts": model.counts, "ids": self.used}
        losses = [float(loss) for loss in model.losses]
        return arrays, {"settings": self.settings, "seed": self.seed, "loss": model.loss, "losses": losses}, self.tokenizer.to_dict()

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> Self:
        """The engine that `saved` took apart. Raises InputError where something is missing or sizes do not agree."""
        from weft.vectors.supervised import LOSSES, Classifier

        engine = cls(config["settings"], seed=config["seed"])
        made = tokenizer_from_dict(tokenizer)
        try:
            inputs, outputs, counts, used = (np.ascontiguousarray(arrays[name]) for name in ("inputs", "outputs", "counts", "ids"))
        except KeyError as error:
            raise InputError(f"the saved classifier lacks {error}") from None
        if config["loss"] not in LOSSES or not isinstance(made, WordTokenizer):
            raise InputError(f"a classifier with loss {config['loss']!r} and tokenizer {type(made).__name__} is none of ours")
        rows = len(counts) - (config["loss"] == "hs")
        shapes = [(used.shape[0], engine.settings["embedding_size"]), (rows, engine.settings["embedding_size"])]
        if [inputs.shape, outputs.shape] != shapes:
            raise InputError(
                f"the saved classifier has tables of shape {inputs.shape} and {outputs.shape}, expected {shapes[0]} and {shapes[1]}"
            )
        if not len(used) or np.any(np.diff(used) <= 0) or used[0] < 0 or used[-1] >= made.size:
            raise InputError(f"the saved classifier's ids do not ascend from 0 to below {made.size}")
        engine.tokenizer = made
        engine._keep(used.astype(np.int32))
        engine.model = Classifier(
            config["loss"], inputs.astype(np.float32), outputs.astype(np.float32), counts.astype(np.int64), config["losses"]
        )
        return engine

    def _loss(self, task: str) -> str:
        loss = str(self.settings["loss"])
        if task == "multi-label" and loss not in ("auto", "ova"):
            raise InputError(f"several labels a text are learnt by ova, one against all others, not by {loss!r}", "loss")
        return loss if loss != "auto" else "ova" if task == "multi-label" else "softmax"

    def _keep(self, used: np.ndarray) -> None:
        assert self.tokenizer is not None
        self.used = used
        self.place = np.full(self.tokenizer.size, -1, np.int32)
        self.place[used] = np.arange(len(used), dtype=np.int32)

    def _fitted(self) -> Classifier:
        if self.model is None:
            raise InputError("this classifier is not fitted yet")
        return self.model

    def _scores(self, texts: Sequence[str]) -> np.ndarray:
        model = self._fitted()
        assert self.tokenizer is not None
        flat, lengths = self.tokenizer.encode_flat(texts, END)
        rows = self.place[flat]
        known = np.concatenate([np.zeros(1, np.int64), np.cumsum(rows >= 0)])
        return model.scores(rows[rows >= 0], known[_starts(lengths)])


def _starts(lengths: np.ndarray) -> np.ndarray:
    """Where each of N runs begins, and where the last ends: (N + 1,) int64."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
