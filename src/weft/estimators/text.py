"""What users hold: TextClassifier and TextRegressor, estimators of scikit-learn's kind over every rung of the ladder."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin

from weft.errors import InputError
from weft.estimators.base import Estimator
from weft.estimators.baselines import Baseline, read_settings
from weft.estimators.decoding import Alignment
from weft.estimators.fasttext import FastText
from weft.estimators.inputs import Labelled, as_labels, hold_out, labelled, split_pairs
from weft.estimators.rungs import TEXT_RUNGS, Rung
from weft.estimators.scoring import MAIN_METRIC, score_arrays
from weft.saving import SavedModel

log = logging.getLogger("weft")


class _TextEstimator(Estimator):
    """What both estimators share: data in, an engine (a baseline, fastText or a network), a folder out."""

    rungs = TEXT_RUNGS
    kept = ("classes_", "mean_", "scale_")
    pair_: bool
    classes_: np.ndarray

    def fit(
        self,
        texts: Sequence[str] | Sequence[tuple[str, str]],
        labels: Sequence[Any],
        validation: tuple[Sequence[Any], Sequence[Any]] | None = None,
        *,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        callbacks: Sequence[Any] = (),
    ) -> Any:
        """Trains on `texts` (N strings, or N pairs of strings) and `labels`; returns self.

        validation: (texts, labels) for early stopping and the choice of the best weights; without it a stratified
        `validation_fraction` of the data is set aside (only the neural rungs need it). checkpoint, resume: a file that is kept
        while training and gone on from. Raises InputError for empty data, unequal lengths, a single class, missing or NaN labels.
        """
        rung = self._rung()
        data = labelled(texts, labels)
        if not len(data):
            raise InputError("there is nothing to train on: no texts", "texts")
        self.task_ = self._task(data.labels)
        if self.task_ not in rung.tasks:
            raise InputError(f"{self.model!r} does {', '.join(rung.tasks)}, not {self.task_}", "model")
        if self.vectors is not None and not rung.takes_vectors:
            raise InputError(f"{rung.name!r} starts from no word vectors; --vectors is for the neural models that learn words", "vectors")
        if data.pairs is not None and not rung.reads_pairs:
            raise InputError(f"{rung.name!r} reads one text; pairs run on the neural rungs and on majority", "model")
        self.pair_, self.seed_ = data.pairs is not None, self._seed()
        self._learn_classes(data.labels)
        if rung.engine == "neural":
            self._fit_network(rung, data, validation, checkpoint, resume, callbacks)
        else:
            self._fit_whole(rung, data)
        return self

    def _fit_whole(self, rung: Rung, data: Labelled) -> None:
        """Trains an engine that goes to its own end, on all data."""
        if self.loss is not None:
            own = "among its settings" if rung.engine == "fasttext" else "of its own"
            raise InputError(f"{rung.name!r} has a loss {own}; --loss is for the neural models", "loss")
        targets, settings = self._targets(data.labels), self._own_settings(rung)
        self.engine_: Any
        if rung.engine == "fasttext":
            engine = FastText({**rung.settings, **settings}, seed=self.seed_, threads=self.threads or 1)
            self.engine_ = engine.fit(data.texts, targets, task=self.task_, outputs=self._outputs())
        else:
            baseline = Baseline(rung.name, {**rung.settings, **read_settings(rung.name, settings)}, self.seed_)
            self.engine_ = baseline.fit(data.texts, self._codes(targets), task=self.task_, pairs=data.pairs)
        self.history_ = None

    def _codes(self, targets: np.ndarray) -> list[Any]:
        """Targets as a baseline takes them: texts that sort as their numbers do, so that its classes are in our order."""
        if self.task_ == "regression":
            return [float(value) for value in targets]
        if self.task_ == "multi-label":
            return [tuple(f"{one:06d}" for one in np.flatnonzero(row)) for row in targets]
        return [f"{one:06d}" for one in targets]

    def _fit_network(self, rung: Rung, data: Labelled, validation: Any, checkpoint: Any, resume: bool, callbacks: Sequence[Any]) -> None:
        from weft.estimators.engine import Budget

        self._check_budget()
        engine = self._network(rung)
        if validation is not None:
            held = self._given_validation(validation)
        else:
            data, held = hold_out(data, self.task_, self.validation_fraction, self.seed_)
        self.engine_ = engine
        self.history_ = self.engine_.fit(
            self._examples(data), None if held is None else self._examples(held), Budget(self.steps, self.epochs, self.minutes),
            checkpoint=None if checkpoint is None else Path(checkpoint), resume=resume, callbacks=callbacks,
        )  # fmt: skip

    def _examples(self, data: Labelled) -> Any:
        from weft.estimators.network import Examples

        return Examples(data.texts, data.pairs, self._targets(data.labels))

    def _given_validation(self, validation: Any) -> Labelled | None:
        """The caller's (texts, labels), less those whose label training does not have; None where nothing is left."""
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise InputError("must be (texts, labels)", "validation")
        held = labelled(validation[0], validation[1], "validation")
        if len(held) and (held.pairs is not None) != self.pair_:
            raise InputError("must be pairs where the training texts are pairs, and single texts where they are not", "validation")
        self._check_shape(held.labels, "validation")
        keep = [i for i, label in enumerate(held.labels) if self._known(label)]
        if unseen := len(held) - len(keep):
            message = "%d of %d validation texts have a label that training does not: left out of the choice of weights"
            log.warning(message, unseen, len(held))
        if not keep:
            log.warning("no validation text is left: the last weights are kept, not the best")
            return None
        return held.pick(keep)

    def _check_shape(self, labels: list[Any], place: str) -> None:
        """Raises InputError for several labels where this estimator takes one, and the other way round."""
        wrong = next((i for i, label in enumerate(labels) if isinstance(label, tuple) != (self.task_ == "multi-label")), None)
        if wrong is not None:
            wanted = "a tuple of labels" if self.task_ == "multi-label" else "one label, not several"
            raise InputError(f"label {wrong + 1} is {labels[wrong]!r:.60}; this model takes {wanted}", place)

    def _network(self, rung: Rung) -> Any:
        """The neural engine for these settings, not built yet. Raises InputError for word vectors that are not there or do not fit them."""
        from weft.estimators.engines import ENGINES

        settings = self._settings(rung)
        vectors = self._vectors(settings)
        return ENGINES[rung.network](self.task_, self._outputs(), settings, self._compute(), self.seed_, vectors)

    def seconds_per_step(self, texts: Sequence[Any], labels: Sequence[Any], validation: tuple[Any, Any]) -> tuple[float, int]:
        """(seconds a training step takes, its share of the checks on `validation` included; steps of the model's own number of epochs).

        Measured on a copy: nothing is fitted.
        """
        data = labelled(texts, labels)
        self.task_, self.pair_, self.seed_ = self._task(data.labels), data.pairs is not None, self._seed()
        self._learn_classes(data.labels)
        return self._network(self._rung()).measure(
            self._examples(data), self._examples(self._given_validation(validation) or data.pick([0]))
        )

    def _scores(self, texts: Sequence[Any]) -> np.ndarray:
        """The engine's raw scores (N, outputs)."""
        self._check_fitted()
        first, second = split_pairs(texts, "texts")
        if len(first) and (second is not None) != self.pair_:
            raise InputError(f"this model was trained on {'pairs of texts' if self.pair_ else 'single texts'}", "texts")
        scores: np.ndarray = self.engine_.scores(first, second)
        return scores

    def align(self, text: str) -> Alignment:
        """What the attention of its pooling looks at in a text, pass by pass (pooling "attentive" or "passes"; E93).

        Raises InputError for an empty text, and for a model without such attention.
        """
        self._check_fitted()
        if not isinstance(text, str) or not text.strip():
            raise InputError(
                "is empty: there is nothing to look at" if isinstance(text, str) else f"must be a text, not {text!r:.60}", "text"
            )
        if self._rung().engine != "neural":
            raise InputError(f"{self.model!r} has no attention to show", "model")
        tokens, weights = self.engine_.maps(text)
        if not tokens:
            raise InputError("has no token: there is nothing to look at", "text")
        return Alignment(tokens, [f"pass {number}" for number in range(1, len(weights) + 1)], [weights])

    def _facts(self) -> dict[str, Any]:
        return {"pair": self.pair_}

    def _take_up(self, config: dict[str, Any], saved: SavedModel) -> None:
        self.pair_ = config["pair"]
        if hasattr(self, "classes_"):
            self.classes_ = np.array(self.classes_)
        engine, tokenizer = config["engine"], saved.tokenizer or {}
        kind = self._rung().engine
        if kind == "baseline":
            self.engine_ = Baseline.from_arrays(saved.arrays, {**engine, "words": tokenizer.get("words", [])})
        elif kind == "fasttext":
            self.engine_ = FastText.restore(saved.arrays, engine, tokenizer)
        else:
            from weft.estimators.engines import ENGINES
            from weft.estimators.settings import resolve

            network = self._rung().network
            settings = resolve(engine["settings"], network=network)
            self.engine_ = ENGINES[network].restore(self.task_, settings, engine["network"], tokenizer, saved.arrays, self._compute())
            self.engine_.vectors_facts, self.engine_.pretrained_facts = engine.get("vectors"), engine.get("pretrained")
            self.engine_.elmo_facts = engine.get("elmo")

    # What differs between a classifier and a regressor.
    def _task(self, labels: list[Any]) -> str:
        raise AssertionError("said by the subclass")

    def _learn_classes(self, labels: list[Any]) -> None:
        raise AssertionError("said by the subclass")

    def _targets(self, labels: Sequence[Any]) -> np.ndarray:
        raise AssertionError("said by the subclass")

    def _outputs(self) -> int:
        raise AssertionError("said by the subclass")

    def _known(self, label: Any) -> bool:
        raise AssertionError("said by the subclass")


class TextClassifier(ClassifierMixin, _TextEstimator):
    """Texts (or pairs of texts) → one label each, or several (labels given as tuples, lists or sets).

    `TextClassifier(model="cnn").fit(texts, labels).predict(texts)`; `weft models` lists the models. settings holds what is particular
    to one of them: `{"filters": 200, "dropout": 0.3, "learning_rate": 2e-3}`. Works in Pipeline, cross_val_score and GridSearchCV.
    Fitted: classes_ (K,), task_ ("classification" or "multi-label"), history_, parameters_.
    """

    tasks = ("classification", "multi-label")

    def _task(self, labels: list[Any]) -> str:
        several = [isinstance(label, tuple) for label in labels]
        if any(several) and not all(several):
            other = several.index(not several[0]) + 1
            raise InputError(f"label {other} is not of the kind of the first: give one label per text, or a tuple per text", "labels")
        return "multi-label" if several[0] else "classification"

    def _learn_classes(self, labels: list[Any]) -> None:
        flat = [one for label in labels for one in label] if self.task_ == "multi-label" else labels
        for number, label in enumerate([] if set(map(type, flat)) == {str} else flat):
            if label is None or (isinstance(label, numbers.Real) and math.isnan(label)):
                raise InputError(f"label {number + 1} is missing ({label!r})", "labels")
            if not isinstance(label, str | numbers.Real):
                message = f"label {number + 1} is {label!r:.60}; give a text, a number or a bool, or a tuple of them for several labels"
                raise InputError(message, "labels")
        if len({isinstance(label, str) for label in flat}) > 1:
            raise InputError("labels mix texts and numbers; make them all texts", "labels")
        self.classes_ = np.array(sorted(set(flat))) if flat else np.array([], str)
        if len(self.classes_) < (2 if self.task_ == "classification" else 1):
            found = f"every label is {self.classes_.tolist()[0]!r}" if len(self.classes_) else "there is no label at all"
            raise InputError(f"{found}: a classifier needs at least two classes", "labels")

    def _outputs(self) -> int:
        return len(self.classes_)

    def _known(self, label: Any) -> bool:
        ids = self._ids()
        return all(one in ids for one in label) if self.task_ == "multi-label" else label in ids

    def _ids(self) -> dict[Any, int]:
        return {label: i for i, label in enumerate(self.classes_.tolist())}

    def _targets(self, labels: Sequence[Any]) -> np.ndarray:
        ids = self._ids()
        if self.task_ == "classification":
            return np.array([ids[label] for label in labels], np.int64)
        targets = np.zeros((len(labels), len(ids)), np.float32)
        for row, several in enumerate(labels):
            targets[row, [ids[label] for label in several]] = 1
        return targets

    def predict_proba(self, texts: Sequence[Any]) -> np.ndarray:
        """Probabilities (N, K), in the order of classes_; of several labels, each for itself.

        Softmax (sigmoid for several labels) of the scores; for models trained on margins (hinge, svm, perceptron) that is a ranking,
        not a calibrated chance.
        """
        return self._probabilities(self._scores(texts))

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        scores = scores.astype(np.float64)
        if self.task_ == "multi-label":
            return 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
        exponentials = np.exp(scores - scores.max(1, keepdims=True)) if len(scores) else scores
        return exponentials / exponentials.sum(1, keepdims=True) if len(scores) else scores

    def decision_function(self, texts: Sequence[Any]) -> np.ndarray:
        """Raw scores (N, K); for two classes one a text (N,), above 0 for the second class, as scikit-learn has it."""
        scores = self._scores(texts)
        return scores[:, 1] - scores[:, 0] if self.task_ == "classification" and len(self.classes_) == 2 else scores

    def predict(self, texts: Sequence[Any]) -> np.ndarray:
        """The most probable label of each text (first of ties); of several labels, each above one half, in an object array of tuples."""
        return self._decided(self._scores(texts))

    def _decided(self, scores: np.ndarray) -> np.ndarray:
        if self.task_ == "classification":
            return self.classes_[scores.argmax(1)] if len(scores) else self.classes_[:0]
        chosen = np.empty(len(scores), object)
        for row, positive in enumerate(scores > 0):
            chosen[row] = tuple(self.classes_[positive].tolist())
        return chosen

    def answers(self, texts: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """(predict(texts), predict_proba(texts)), for the price of one of them."""
        scores = self._scores(texts)
        return self._decided(scores), self._probabilities(scores)

    def score(self, X: Sequence[Any], y: Sequence[Any], sample_weight: Any = None) -> float:
        """Accuracy, weighted if asked; with several labels, micro F1. A label unseen in training counts as wrong, and is said aloud."""
        metrics = self.evaluate(X, y)
        if sample_weight is not None:
            if self.task_ == "multi-label":
                raise InputError("is for one label a text; micro F1 has none", "sample_weight")
            right = [predicted == true for predicted, true in zip(self.predict(X), y, strict=True)]
            return float(np.average(right, weights=sample_weight))
        return metrics[MAIN_METRIC[self.task_]]

    def evaluate(self, texts: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
        """Every metric of the task, by name (accuracy, macro F1, log loss, calibration error, …). Unseen labels count as wrong."""
        self._check_fitted()
        true = as_labels(labels, len(texts))
        self._check_shape(true, "labels")
        return score_arrays(self.task_, self.predict_proba(texts), true, self.classes_.tolist())


class TextRegressor(RegressorMixin, _TextEstimator):
    """Texts (or pairs of texts) → a number each. Targets are standardised in training and given back in their own unit."""

    tasks = ("regression",)

    def _task(self, labels: list[Any]) -> str:
        return "regression"

    def _learn_classes(self, labels: list[Any]) -> None:
        for number, label in enumerate(labels):
            if not isinstance(label, numbers.Real) or not np.isfinite(float(label)):
                raise InputError(f"label {number + 1} is not a number ({label!r})", "labels")
        values = np.asarray(labels, np.float64)
        self.mean_, self.scale_ = float(values.mean()), float(values.std()) or 1.0

    def _outputs(self) -> int:
        return 1

    def _known(self, label: Any) -> bool:
        return True

    def _targets(self, labels: Sequence[Any]) -> np.ndarray:
        return ((np.asarray(labels, np.float64) - self.mean_) / self.scale_).astype(np.float32)

    def predict(self, texts: Sequence[Any]) -> np.ndarray:
        """The number for each text, (N,)."""
        return self._scores(texts)[:, 0].astype(np.float64) * self.scale_ + self.mean_

    def evaluate(self, texts: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
        """Every metric of regression, by name (mean squared and absolute error, R², Pearson, Spearman)."""
        return score_arrays("regression", self.predict(texts), list(labels), [])
