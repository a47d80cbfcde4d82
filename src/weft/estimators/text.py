"""What users hold: TextClassifier and TextRegressor, estimators of scikit-learn's kind over every rung of the ladder."""

from __future__ import annotations

import logging
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError

from weft import __version__
from weft.data.examples import Example, Table, split_table
from weft.errors import InputError
from weft.estimators.baselines import DEFAULTS, Baseline
from weft.estimators.rungs import RUNGS, Rung
from weft.estimators.scoring import MAIN_METRIC, score_arrays
from weft.estimators.values import coerce
from weft.files import plain
from weft.saving import SavedModel, read_model, write_model

log = logging.getLogger("weft")


class _TextEstimator(BaseEstimator):
    """What both estimators share: data in, an engine (a baseline or a network), a folder out."""

    tasks: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        model: str = "cnn",
        settings: dict[str, Any] | None = None,
        *,
        loss: str | None = None,
        epochs: float | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.settings = settings
        self.loss = loss
        self.epochs = epochs
        self.steps = steps
        self.minutes = minutes
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.device = device
        self.precision = precision
        self.threads = threads
        self.random_state = random_state

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
        `validation_fraction` of the data is set aside (baselines need none and use all). checkpoint, resume: a file that is kept
        while training and gone on from. Raises InputError for empty data, unequal lengths, a single class, missing or NaN labels.
        """
        rung = self._rung()
        first, second = _split_pairs(texts, "texts")
        labels = list(labels)
        if len(labels) != len(first):
            raise InputError(f"{len(first)} texts but {len(labels)} labels", "labels")
        if not first:
            raise InputError("there is nothing to train on: no texts", "texts")
        self.task_ = self._task(labels)
        if self.task_ not in rung.tasks:
            raise InputError(f"{self.model!r} does {', '.join(rung.tasks)}, not {self.task_}", "model")
        self.pair_ = second is not None
        self._learn_classes(labels)
        if rung.engine == "baseline":
            self._fit_baseline(rung, first, second, labels)
        else:
            self._fit_network(rung, first, second, labels, validation, checkpoint, resume, callbacks)
        return self

    def _fit_baseline(self, rung: Rung, texts: list[str], pairs: list[str] | None, labels: list[Any]) -> None:
        if pairs is not None and rung.name != "majority":
            raise InputError(f"{rung.name!r} reads one text; pairs run on the neural rungs and on majority", "model")
        if unknown := [name for name in ("epochs", "steps", "minutes", "loss") if getattr(self, name) is not None]:
            raise InputError(f"{rung.name!r} has no {unknown[0]}: scikit-learn trains it to its end", unknown[0])
        settings = {**DEFAULTS[rung.name], **rung.settings}
        given = {name: coerce(name, value, settings[name]) if name in settings else value for name, value in (self.settings or {}).items()}
        self.engine_: Any = Baseline(rung.name, {**rung.settings, **given}, self.random_state)
        self.engine_.fit(texts, self._codes(self._targets(labels)), task=self.task_, pairs=pairs)
        self.history_ = None

    def _codes(self, targets: np.ndarray) -> list[Any]:
        """Targets as a baseline takes them: texts that sort as their numbers do, so that its classes are in our order."""
        if self.task_ == "regression":
            return [float(value) for value in targets]
        if self.task_ == "multi-label":
            return [tuple(f"{one:06d}" for one in np.flatnonzero(row)) for row in targets]
        return [f"{one:06d}" for one in targets]

    def _fit_network(
        self, rung: Rung, texts: list[str], pairs: list[str] | None, labels: list[Any], validation: Any, checkpoint: Any, resume: bool, callbacks: Any
    ) -> None:
        from weft.estimators.network import Budget, Examples, Network

        texts, pairs, labels, held_out = self._hold_out(texts, pairs, labels, validation)
        self.engine_ = Network(self.task_, self._outputs(), self._settings(rung), self._compute(), self.random_state)
        dev = None if held_out is None else Examples(held_out[0], held_out[1], self._targets(held_out[2]))
        given = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"give one budget, not {' and '.join(given)}", given[1])
        self.history_ = self.engine_.fit(
            Examples(texts, pairs, self._targets(labels)), dev, Budget(self.steps, self.epochs, self.minutes),
            checkpoint=None if checkpoint is None else Path(checkpoint), resume=resume, callbacks=callbacks,
        )  # fmt: skip

    def _hold_out(self, texts: list[str], pairs: list[str] | None, labels: list[Any], validation: Any) -> tuple[list[str], list[str] | None, list[Any], Any]:
        """Training data and development data: the caller's, or a share of the training data."""
        if validation is not None:
            dev_texts, dev_pairs = _split_pairs(validation[0], "validation")
            if (dev_pairs is None) != (pairs is None):
                raise InputError("must be pairs where the training texts are pairs, and single texts where they are not", "validation")
            known = [self._known(label) for label in validation[1]]
            if not all(known):
                log.warning("%d of %d validation texts have a label that training does not: left out of the choice of weights", known.count(False), len(known))
            keep = [i for i, good in enumerate(known) if good]
            held = ([dev_texts[i] for i in keep], None if dev_pairs is None else [dev_pairs[i] for i in keep], [validation[1][i] for i in keep])
            return texts, pairs, labels, held if keep else None
        if not self.validation_fraction:
            return texts, pairs, labels, None
        as_label = float if self.task_ == "regression" else (lambda label: tuple(map(str, label))) if self.task_ == "multi-label" else str
        rows = [Example(text, as_label(label), None if pairs is None else pairs[i], i) for i, (text, label) in enumerate(zip(texts, labels, strict=True))]
        try:
            splits = split_table(Table(rows, self.task_, "texts", {}, []), dev=self.validation_fraction, test=0.0, seed=self.random_state)
        except InputError:
            log.warning("%d texts are too few, or too much the same, to set some aside: the last weights are kept, not the best", len(texts))
            return texts, pairs, labels, None
        log.info("no validation data: %d of %d texts set aside to choose the best weights", len(splits.dev.examples), len(texts))
        kept, held_rows = [row.line for row in splits.train.examples], [row.line for row in splits.dev.examples]

        def pick(values: list[Any], index: list[int]) -> list[Any]:
            return [values[i] for i in index]

        held = (pick(texts, held_rows), None if pairs is None else pick(pairs, held_rows), pick(labels, held_rows)) if held_rows else None
        return pick(texts, kept), None if pairs is None else pick(pairs, kept), pick(labels, kept), held

    def _rung(self) -> Rung:
        if self.model not in RUNGS:
            raise InputError(f"no model {self.model!r}; there are {', '.join(RUNGS)}", "model")
        return RUNGS[self.model]

    def _settings(self, rung: Rung) -> Any:
        from weft.estimators.settings import resolve

        given = {"loss": self.loss, "batch_size": self.batch_size, "batch_tokens": self.batch_tokens, "patience": self.patience}
        return resolve(rung.settings, self.settings, {name: value for name, value in given.items() if value is not None})

    def _compute(self) -> Any:
        from weft.device import choose

        return choose(self.device, self.precision, self.threads)

    def seconds_per_step(self, texts: Sequence[Any], labels: Sequence[Any], validation: tuple[Sequence[Any], Sequence[Any]]) -> tuple[float, int]:
        """(seconds a training step takes, checks on `validation` included; the steps of the model's own number of epochs), measured, not fitted."""
        first, second = _split_pairs(texts, "texts")
        self.task_ = self._task(list(labels))
        self.pair_ = second is not None
        self._learn_classes(list(labels))
        from weft.estimators.network import Examples, Network

        engine = Network(self.task_, self._outputs(), self._settings(self._rung()), self._compute(), self.random_state)
        dev_first, dev_second = _split_pairs(validation[0], "validation")
        known = [i for i, label in enumerate(validation[1]) if self._known(label)]
        dev = Examples([dev_first[i] for i in known], dev_second and [dev_second[i] for i in known], self._targets([validation[1][i] for i in known]))
        return engine.measure(Examples(first, second, self._targets(labels)), dev)

    def _scores(self, texts: Sequence[Any]) -> np.ndarray:
        """The engine's raw scores (N, outputs)."""
        self._check_fitted()
        first, second = _split_pairs(texts, "texts")
        if len(first) and (second is not None) != self.pair_:
            raise InputError(f"this model was trained on {'pairs of texts' if self.pair_ else 'single texts'}", "texts")
        if isinstance(self.engine_, Baseline):
            return self.engine_.decision(first)
        return self.engine_.scores(first, second)

    def _check_fitted(self) -> None:
        if not hasattr(self, "engine_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit, or weft.load a folder")

    @property
    def parameters_(self) -> int:
        """How many numbers were learnt."""
        self._check_fitted()
        return int(self.engine_.parameters())

    def save(self, folder: str | Path, *, metrics: dict[str, Any] | None = None, data: str = "") -> Path:
        """Writes the model folder: config.json, model.safetensors, tokenizer.json, metrics.json and a model card. Returns its path."""
        from weft.estimators.card import model_card

        self._check_fitted()
        if isinstance(self.engine_, Baseline):
            arrays, described = self.engine_.to_arrays()
            tokenizer = {"words": described.pop("words", [])}
        else:
            arrays, described, tokenizer = self.engine_.arrays(), self.engine_.describe(), self.engine_.tokenizer.to_dict()
        config = {
            "weft": __version__, "estimator": type(self).__name__, "model": self.model, "task": self.task_, "pair": self.pair_,
            "fitted": plain({name: getattr(self, name) for name in ("classes_", "mean_", "scale_") if hasattr(self, name)}),
            "parameters": plain(self.get_params()), "engine": plain(described),
        }  # fmt: skip
        history = self.history_
        record: dict[str, Any] = dict(metrics or {})
        if history is not None:
            record["training"] = {"steps": history.steps, "epochs": round(history.epochs, 4), "best_step": history.best_step, "stopped": history.stopped, "checks": history.checks}
        card = model_card(self, plain(metrics or {}), data)
        return write_model(folder, config=config, arrays=arrays, tokenizer=tokenizer, metrics=plain(record), card=card)

    def _restore(self, saved: SavedModel, folder: Path) -> None:
        """Takes up what `save` wrote."""
        config = saved.config
        self.task_, self.pair_, self.history_ = config["task"], config["pair"], None
        for name, value in config["fitted"].items():
            setattr(self, name, np.array(value) if name == "classes_" else value)
        engine, tokenizer = config["engine"], saved.tokenizer or {}
        try:
            if self._rung().engine == "baseline":
                self.engine_ = Baseline.from_arrays(saved.arrays, {**engine, "words": tokenizer.get("words", [])})
            else:
                from weft.estimators.network import Network
                from weft.estimators.settings import resolve

                self.engine_ = Network.restore(self.task_, resolve(engine["settings"]), engine["network"], tokenizer, saved.arrays, self._compute())
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"is not what this version of weft writes ({type(error).__name__}: {error})", str(folder / "config.json")) from error

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

    `TextClassifier(model="cnn").fit(texts, labels).predict(texts)`; `weft models` lists the models. settings holds what is particular to
    one of them: `{"filters": 200, "dropout": 0.3, "learning_rate": 2e-3}`. Works in Pipeline, cross_val_score and GridSearchCV.
    Fitted: classes_ (K,), task_ ("classification" or "multi-label"), history_, parameters_.
    """

    tasks = ("classification", "multi-label")

    def _task(self, labels: list[Any]) -> str:
        several = [isinstance(label, tuple | list | set | frozenset) for label in labels]
        if any(several) and not all(several):
            raise InputError(f"label {several.index(not several[0]) + 1} is not of the kind of the first: give one label per text, or a tuple per text", "labels")
        return "multi-label" if several[0] else "classification"

    def _learn_classes(self, labels: list[Any]) -> None:
        flat = [one for label in labels for one in label] if self.task_ == "multi-label" else labels
        for number, label in enumerate(flat):
            if label is None or (isinstance(label, numbers.Real) and np.isnan(float(label))):
                raise InputError(f"label {number + 1} is missing ({label!r})", "labels")
        kinds = {type(label).__name__ for label in flat if not isinstance(label, numbers.Number)}
        if kinds and len(kinds) + any(isinstance(label, numbers.Number) for label in flat) > 1:
            raise InputError("labels mix texts and numbers; make them all texts", "labels")
        self.classes_ = np.array(sorted(set(flat))) if flat else np.array([], str)
        if len(self.classes_) < (2 if self.task_ == "classification" else 1):
            only = f"only {self.classes_[0]!s}" if len(self.classes_) else "no label at all"
            raise InputError(f"there is {only}: a classifier needs at least two classes", "labels")

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
            return np.array([ids[_item(label)] for label in labels], np.int64)
        targets = np.zeros((len(labels), len(ids)), np.float32)
        for row, several in enumerate(labels):
            targets[row, [ids[_item(label)] for label in several]] = 1
        return targets

    def predict_proba(self, texts: Sequence[Any]) -> np.ndarray:
        """Probabilities (N, K), in the order of classes_; of several labels, each for itself.

        Softmax (sigmoid for several labels) of the scores; for models trained on margins (hinge, svm, perceptron) that is a ranking, not a calibrated chance.
        """
        scores = self._scores(texts).astype(np.float64)
        if self.task_ == "multi-label":
            return 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
        exponentials = np.exp(scores - scores.max(1, keepdims=True)) if len(scores) else scores
        return exponentials / exponentials.sum(1, keepdims=True) if len(scores) else scores

    def decision_function(self, texts: Sequence[Any]) -> np.ndarray:
        """Raw scores (N, K)."""
        return self._scores(texts)

    def predict(self, texts: Sequence[Any]) -> np.ndarray:
        """The most probable label of each text (first of ties); with several labels, an object array of tuples, every label above one half."""
        scores = self._scores(texts)
        if self.task_ == "classification":
            return self.classes_[scores.argmax(1)] if len(scores) else self.classes_[:0]
        chosen = np.empty(len(scores), object)
        for row, positive in enumerate(scores > 0):
            chosen[row] = tuple(self.classes_[positive].tolist())
        return chosen

    def score(self, X: Sequence[Any], y: Sequence[Any], sample_weight: Any = None) -> float:
        """Accuracy; with several labels, micro F1. A label that training never saw counts as wrong, and is said aloud."""
        metrics = self.evaluate(X, y)
        return metrics[MAIN_METRIC[self.task_]]

    def evaluate(self, texts: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
        """Every metric of the task, by name (accuracy, macro F1, log loss, calibration error, …). Unseen labels count as wrong."""
        return score_arrays(self.task_, self.predict_proba(texts), list(labels), self.classes_.tolist())


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

def load(folder: str | Path, *, device: str = "auto", precision: str = "auto", threads: int | None = None) -> Any:
    """The estimator of a model folder, ready to predict. Raises InputError where the folder is not one."""
    saved = read_model(folder)
    types: dict[str, type[_TextEstimator]] = {"TextClassifier": TextClassifier, "TextRegressor": TextRegressor}
    kind = saved.config.get("estimator")
    if kind not in types:
        raise InputError(f"holds a {kind!r}; this version of weft knows {', '.join(types)}", str(Path(folder) / "config.json"))
    parameters = {**saved.config["parameters"], "device": device, "precision": precision, "threads": threads}
    estimator = types[kind](**parameters)
    estimator._restore(saved, Path(folder))
    return estimator


def _split_pairs(texts: Sequence[Any], place: str) -> tuple[list[str], list[str] | None]:
    """Texts, and second texts where they are pairs. Raises InputError naming the first that is neither."""
    if isinstance(texts, str):
        raise InputError("is one text; give a list of texts", place)
    items = list(texts)
    pair = bool(items) and not isinstance(items[0], str)
    for number, item in enumerate(items):
        good = isinstance(item, str) if not pair else len(item) == 2 and all(isinstance(part, str) for part in item) if isinstance(item, tuple | list) else False
        if not good:
            raise InputError(f"text {number + 1} is {item!r:.60}; give a string, or two for pairs, the same for all", place)
    if pair:
        return [item[0] for item in items], [item[1] for item in items]
    return items, None


def _item(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label
