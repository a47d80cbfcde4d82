"""Measures of how good predictions are: functions of arrays, and classes that gather a stream of batches.

Functions take labels and predictions (numpy arrays, or what becomes one) and give floats; classes take `update(outputs, batch)`, a
model's logits and `batch.targets`, then give `compute()`. Both say the same. Where a measure is undefined (an ROC curve with one
class, a correlation with a constant, nothing seen by a stream) the answer is nan, never an arbitrary number. Functions raise
InputError where there are no rows, or where labels and predictions do not fit.

Labels are class ids or names (N), label sets (N, K) of 0 and 1, or numbers (N). Decisions (E12): the class of the highest score, the
first among equals; a label of a set where its logit is above 0, that is, its probability above ½.

Calibration error: Guo et al., 2017. ROC-AUC as a rank statistic: Hanley & McNeil, 1982.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weft.errors import InputError

Array = NDArray[Any]
Floats = NDArray[np.float64]
IGNORED = -100
NAN = float("nan")


# Decisions


def classes_of(scores: ArrayLike) -> NDArray[np.int64]:
    """The class (...) of the highest of scores (..., K), logits or probabilities; the first among equals (E12)."""
    return np.asarray(scores).argmax(-1)


def labels_of(logits: ArrayLike) -> NDArray[np.bool_]:
    """Which labels hold: logit > 0, so a probability of exactly ½ does not (E12)."""
    return np.asarray(logits) > 0


# Classes and label sets


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """The share of rows that are entirely right: 1 − the mean 0–1 loss (E12). A label set is right where every label of it is."""
    truth, guess = _pair(labels, predicted)
    return float(_rows_right(truth, guess).mean())


def confusion(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[Any] | None = None) -> NDArray[np.int64]:
    """How often class i (row) was taken for class j (column), in the order of `classes`: by default all that occur, sorted.

    Raises InputError where a label is none of `classes`.
    """
    truth, guess = _pair(labels, predicted)
    names = np.unique(np.concatenate([truth, guess])) if classes is None else np.asarray(classes)
    cells = _positions(truth, names) * len(names) + _positions(guess, names)
    return np.bincount(cells, minlength=len(names) ** 2).reshape(len(names), len(names))


def macro_f1(labels: ArrayLike, predicted: ArrayLike) -> float:
    """The mean F1 of the classes; those that are neither among the labels nor among the predictions have none and are left out."""
    return _macro_f1(_counts(*_pair(labels, predicted)))


def micro_f1(labels: ArrayLike, predicted: ArrayLike) -> float:
    """F1 of all decisions together. With one class a row it is the accuracy."""
    return _micro_f1(_counts(*_pair(labels, predicted)))


def report(labels: ArrayLike, predicted: ArrayLike, names: Sequence[Any] | None = None) -> dict[str, dict[str, float]]:
    """By class: precision, recall, f1 and support (the number of its true rows); a ratio with nothing below it is 0.

    `names` says what class ids 0…K−1, or the columns of label sets, are called; for labels that are names it gives classes and
    their order. By default there is a row for each class that occurs. Raises InputError where the names do not fit.
    """
    truth, guess = _pair(labels, predicted)
    classes: Sequence[Any] | None = None
    if truth.ndim == 2:
        names = range(truth.shape[1]) if names is None else names
        if len(names) != truth.shape[1]:
            raise InputError(f"there are {len(names)} names for {truth.shape[1]} labels")
    elif names is None:
        names = classes = np.unique(np.concatenate([truth, guess])).tolist()
    else:
        classes = range(len(names)) if truth.dtype.kind in "iu" else names
    hits, guessed, true = _counts(truth, guess, classes)
    columns = {"precision": _ratio(hits, guessed), "recall": _ratio(hits, true), "f1": _ratio(2 * hits, guessed + true), "support": true}
    return {str(name): {key: float(column[i]) for key, column in columns.items()} for i, name in enumerate(names)}


# Scores and probabilities


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean −log p of what was true, in nats. Ids (N) with probabilities (N, K); or label sets (N, K), or 0 and 1 (N), with the
    probability of each, meaned over all entries. Probabilities are clipped to [2⁻⁵², 1 − 2⁻⁵²]."""
    truth, p = np.asarray(labels), _floats(probabilities)
    p = np.clip(p, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    if truth.ndim == p.ndim:
        truth, p = _pair(truth, p)
        return float(-np.where(truth == 1, np.log(p), np.log1p(-p)).mean())
    return float(-np.log(p[np.arange(len(p)), _ids(truth, p)]).mean())


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """The chance that a positive is scored above a negative, ties counting ½: the area under the ROC curve.

    Labels (N) of 0 and 1 with scores (N) that rise with 1, or with a column for each, (N, 2). Ids (N) with scores (N, K), each class
    against the rest, or label sets (N, K): the mean over classes, leaving out those without a positive or without a negative.
    nan where none is left, or a score is nan.
    """
    return _each_class(_binary_roc_auc, labels, scores)


def pr_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision–recall curve, as average precision: Σ (R_n − R_{n−1})·P_n over the distinct scores, falling.

    Shapes, means and nan as in `roc_auc`, but only classes without a positive are left out.
    """
    return _each_class(_binary_pr_auc, labels, scores)


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error, Σ_b n_b/N·|share right in b − mean confidence in b| over `bins` equal intervals (l, r].

    Ids (N) with probabilities (N, K): the confidence is the highest probability. Label sets (N, K), or 0 and 1 (N), with the
    probability of each: every probability is a confidence of its own, right where its label holds.
    """
    truth, p = np.asarray(labels), _floats(probabilities)
    if truth.ndim == p.ndim:
        right, confidence = _pair(truth, p)
    else:
        right, confidence = p.argmax(-1) == _ids(truth, p), p.max(-1)
    return _calibration(_calibration_bins(right, confidence, bins))


# Numbers


def mean_squared_error(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Mean (y − ŷ)²."""
    truth, guess = _numbers(labels, predicted)
    return float(np.square(truth - guess).mean())


def mean_absolute_error(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Mean |y − ŷ|."""
    truth, guess = _numbers(labels, predicted)
    return float(np.abs(truth - guess).mean())


def r2(labels: ArrayLike, predicted: ArrayLike) -> float:
    """1 − Σ(y − ŷ)²/Σ(y − ȳ)²: 1 at best, 0 for the mean, below 0 for worse than the mean; nan where all labels are equal."""
    truth, guess = _numbers(labels, predicted)
    if _constant(truth):
        return NAN
    return float(1 - np.square(truth - guess).sum() / np.square(truth - truth.mean()).sum())


def pearson(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Linear correlation, in [−1, 1]; nan where either is constant."""
    truth, guess = _numbers(labels, predicted)
    if _constant(truth) or _constant(guess):
        return NAN
    return float(np.clip(_direction(truth) @ _direction(guess), -1, 1))


def spearman(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson's correlation of the ranks, equal values sharing their mean rank; nan where either is constant or holds a nan."""
    truth, guess = _numbers(labels, predicted)
    if np.isnan(truth).any() or np.isnan(guess).any():
        return NAN
    return pearson(_ranks(truth), _ranks(guess))


# Streams


class Metric(Protocol):
    """What evaluation asks of a measure."""

    name: str
    higher_is_better: bool

    def update(self, outputs: Any, batch: Any) -> None:
        """Takes in one batch's logits."""
        ...

    def compute(self) -> float:
        """The measure over all that was taken in; nan where that is nothing."""
        ...


class _Stream:
    """A measure over batches. Integer targets (...) go with logits (..., K), and those of −100 do not count; float targets go with
    outputs of their own shape, or of one more dimension of size 1. `keep` says what to hold of a batch, `result` what follows."""

    name = ""
    higher_is_better = True

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def update(self, outputs: Any, batch: Any) -> None:
        """Takes in logits (a tensor or an array) and `batch.targets`. Raises InputError where their shapes do not fit."""
        scores, targets = _array(outputs), _array(batch.targets)
        if targets.dtype.kind in "iu":
            if scores.shape[:-1] != targets.shape:
                raise InputError(f"targets of shape {targets.shape} are ids: logits of shape {scores.shape} need one more dimension")
            counted = targets != IGNORED
            scores, targets = scores[counted], targets[counted]
        else:
            scores = scores.reshape(targets.shape) if scores.shape == (*targets.shape, 1) else scores
            _same_shape(targets, scores)
        if len(targets):
            self.kept.append(self.keep(scores, targets))

    def compute(self) -> float:
        """The measure over every batch since this object was made; nan where nothing counted."""
        return self.result() if self.kept else NAN

    def keep(self, scores: Array, targets: Array) -> Any:
        return scores, targets

    def result(self) -> float:
        raise NotImplementedError


class Accuracy(_Stream):
    """`accuracy` of a stream."""

    name = "accuracy"

    def keep(self, scores: Array, targets: Array) -> Any:
        right = _rows_right(targets, _decided(scores, targets))
        return right.sum(), len(right)

    def result(self) -> float:
        return _mean(self.kept)


class MacroF1(_Stream):
    """`macro_f1` of a stream."""

    name = "macro_f1"

    def keep(self, scores: Array, targets: Array) -> Any:
        decided = _decided(scores, targets)
        if targets.dtype.kind in "iu":
            return _counts(targets, decided, range(scores.shape[-1]))
        return _counts(targets.reshape(len(targets), -1), decided.reshape(len(targets), -1))

    def result(self) -> float:
        return _macro_f1(np.sum(self.kept, axis=0))


class MicroF1(MacroF1):
    """`micro_f1` of a stream."""

    name = "micro_f1"

    def result(self) -> float:
        return _micro_f1(np.sum(self.kept, axis=0))


class Confusion(_Stream):
    """`confusion` of a stream of class ids 0…K−1. `compute()` gives the matrix (K, K), or None where nothing counted."""

    name = "confusion"

    def keep(self, scores: Array, targets: Array) -> Any:
        return confusion(targets, classes_of(scores), range(scores.shape[-1]))

    def compute(self) -> Any:
        return np.sum(self.kept, axis=0) if self.kept else None


class LogLoss(_Stream):
    """`log_loss` of a stream, from the logits: nothing needs to be clipped."""

    name = "log_loss"
    higher_is_better = False

    def keep(self, scores: Array, targets: Array) -> Any:
        if targets.dtype.kind in "iu":
            return -_log_softmax(scores)[np.arange(len(targets)), targets].sum(), len(targets)
        return (np.logaddexp(0, scores) - targets * scores).sum(), targets.size

    def result(self) -> float:
        return _mean(self.kept)


class CalibrationError(_Stream):
    """`calibration_error` of a stream."""

    name = "calibration_error"
    higher_is_better = False

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        self.bins = bins

    def keep(self, scores: Array, targets: Array) -> Any:
        if targets.dtype.kind in "iu":
            p = np.exp(_log_softmax(scores))
            return _calibration_bins(p.argmax(-1) == targets, p.max(-1), self.bins)
        return _calibration_bins(targets, np.exp(-np.logaddexp(0, -scores)), self.bins)

    def result(self) -> float:
        return _calibration(np.sum(self.kept, axis=0))


class _Gathered(_Stream):
    """A measure that needs all scores at once."""

    measure: Callable[..., float]

    def result(self) -> float:
        scores, targets = (np.concatenate(part) for part in zip(*self.kept, strict=True))
        return type(self).measure(targets, scores)


class RocAuc(_Gathered):
    """`roc_auc` of a stream, on log-probabilities: they still differ where probabilities round to 1."""

    name = "roc_auc"
    measure = staticmethod(roc_auc)

    def keep(self, scores: Array, targets: Array) -> Any:
        if targets.dtype.kind not in "iu":
            return scores, targets
        return (scores[:, 1] - scores[:, 0] if scores.shape[-1] == 2 else _log_softmax(scores)), targets


class PrAuc(RocAuc):
    """`pr_auc` of a stream."""

    name = "pr_auc"
    measure = staticmethod(pr_auc)


class MeanSquaredError(_Gathered):
    """`mean_squared_error` of a stream."""

    name = "mean_squared_error"
    higher_is_better = False
    measure = staticmethod(mean_squared_error)


class MeanAbsoluteError(_Gathered):
    """`mean_absolute_error` of a stream."""

    name = "mean_absolute_error"
    higher_is_better = False
    measure = staticmethod(mean_absolute_error)


class R2(_Gathered):
    """`r2` of a stream."""

    name = "r2"
    measure = staticmethod(r2)


class Pearson(_Gathered):
    """`pearson` of a stream."""

    name = "pearson"
    measure = staticmethod(pearson)


class Spearman(_Gathered):
    """`spearman` of a stream."""

    name = "spearman"
    measure = staticmethod(spearman)


METRICS: Mapping[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "macro_f1": MacroF1,
    "micro_f1": MicroF1,
    "log_loss": LogLoss,
    "roc_auc": RocAuc,
    "pr_auc": PrAuc,
    "calibration_error": CalibrationError,
    "mean_squared_error": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "r2": R2,
    "pearson": Pearson,
    "spearman": Spearman,
}

DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "log_loss", "calibration_error"),
    "multi-label": ("micro_f1", "macro_f1", "accuracy", "roc_auc", "log_loss"),
    "regression": ("mean_squared_error", "mean_absolute_error", "r2", "pearson", "spearman"),
}


def default_metrics(task: str) -> dict[str, Metric]:
    """Fresh streams for a task, by name, the one that matters most first. Raises InputError listing the tasks there are."""
    if task not in DEFAULTS:
        raise InputError(f"there are no metrics for the task {task!r}; there are for {', '.join(DEFAULTS)}")
    return {name: METRICS[name]() for name in DEFAULTS[task]}


# Checks and conversions


def _array(values: Any) -> Array:
    """A tensor (of any kind and device) or an array as numpy, floats as float64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    values = np.asarray(values)
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _same_shape(truth: Array, guess: Array) -> None:
    if truth.shape != guess.shape:
        raise InputError(f"labels have shape {truth.shape}, predictions {guess.shape}; they must be the same")


def _pair(labels: ArrayLike, predicted: ArrayLike) -> tuple[Array, Array]:
    truth, guess = np.asarray(labels), np.asarray(predicted)
    _same_shape(truth, guess)
    if not truth.size:
        raise InputError("there are no rows to measure")
    return truth, guess


def _numbers(labels: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    truth, guess = _pair(_floats(labels), _floats(predicted))
    if truth.ndim != 1:
        raise InputError(f"numbers to compare must have one dimension, not the shape {truth.shape}")
    return truth, guess


def _ids(labels: Array, columns: Array) -> Array:
    """Labels that index the columns (N, K)."""
    if columns.ndim != 2 or labels.shape != columns.shape[:1]:
        raise InputError(f"labels of shape {labels.shape} need a row each, not probabilities or scores of shape {columns.shape}")
    if not len(labels):
        raise InputError("there are no rows to measure")
    if labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() >= columns.shape[1]:
        raise InputError(f"labels must be column numbers, 0 to {columns.shape[1] - 1}")
    return labels.astype(np.int64)


def _positions(values: Array, names: Array) -> Array:
    order = np.argsort(names, kind="stable")
    found = order[np.searchsorted(names, values, sorter=order).clip(max=len(names) - 1)]
    strange = names[found] != values
    if strange.any():
        raise InputError(f"label {values[strange].tolist()[0]!r} is none of the {len(names)} classes")
    return found


# The measures' parts


def _decided(scores: Array, targets: Array) -> Array:
    return classes_of(scores) if targets.dtype.kind in "iu" else labels_of(scores)


def _rows_right(truth: Array, guess: Array) -> Array:
    return (truth == guess).reshape(len(truth), -1).all(1)


def _mean(parts: list[tuple[float, int]]) -> float:
    total, count = np.sum(parts, axis=0)
    return float(total / count)


def _counts(truth: Array, guess: Array, classes: Sequence[Any] | None = None) -> Array:
    """(3, K): how often each class was predicted and right, was predicted, was true. Label sets (N, K) are their own columns."""
    if truth.ndim == 2:
        truth, guess = truth != 0, guess != 0
        return np.stack([(truth & guess).sum(0), guess.sum(0), truth.sum(0)])
    names = np.unique(np.concatenate([truth, guess])) if classes is None else np.asarray(classes)
    truth, guess = _positions(truth, names), _positions(guess, names)
    return np.stack([np.bincount(part, minlength=len(names)) for part in (truth[truth == guess], guess, truth)])


def _ratio(above: Array, below: Array) -> Floats:
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below != 0)


def _macro_f1(counts: Array) -> float:
    hits, guessed, true = counts
    seen = guessed + true > 0
    return float(np.mean(2 * hits[seen] / (guessed + true)[seen])) if seen.any() else NAN


def _micro_f1(counts: Array) -> float:
    hits, guessed, true = counts.sum(1)
    return float(2 * hits / (guessed + true)) if guessed + true else NAN


def _log_softmax(logits: Array) -> Floats:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _constant(values: Floats) -> bool:
    return bool((values == values[0]).all())


def _direction(values: Floats) -> Floats:
    """Values less their mean, as a vector of length 1."""
    values = values / max(np.abs(values).max(), np.finfo(np.float64).tiny)  # squares of large numbers would overflow
    values = values - values.mean()
    return values / np.linalg.norm(values)


def _ranks(values: Array) -> Floats:
    """Ranks from 1, equal values sharing their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _each_class(measure: Callable[[Array, Floats], float], labels: ArrayLike, scores: ArrayLike) -> float:
    """A binary measure of each class against the rest, and the mean of those that are numbers."""
    truth, s = np.asarray(labels), _floats(scores)
    if truth.ndim == s.ndim:
        truth, s = _pair(truth, s)
        if not np.isin(truth, (0, 1)).all():
            raise InputError("binary labels must be 0 or 1")
        columns, s = truth.reshape(len(truth), -1) == 1, s.reshape(len(s), -1)
    else:
        columns = _ids(truth, s)[:, None] == np.arange(s.shape[1])
        if s.shape[1] == 2:
            columns, s = columns[:, 1:], s[:, 1:]
    if np.isnan(s).any():
        return NAN
    each = np.array([measure(columns[:, i], s[:, i]) for i in range(s.shape[1])])
    return float(each[~np.isnan(each)].mean()) if not np.isnan(each).all() else NAN


def _binary_roc_auc(positive: Array, scores: Floats) -> float:
    above, below = int(positive.sum()), int((~positive).sum())
    if not above or not below:
        return NAN
    return float((_ranks(scores)[positive].sum() - above * (above + 1) / 2) / (above * below))


def _binary_pr_auc(positive: Array, scores: Floats) -> float:
    if not positive.any():
        return NAN
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # a threshold takes in all rows of its score
    hits, taken = np.cumsum(positive[order])[last], np.flatnonzero(last) + 1
    return float((np.diff(hits, prepend=0) / hits[-1] * hits / taken).sum())


def _calibration_bins(right: Array, confidence: Floats, bins: int) -> Floats:
    """(3, bins): rows, right ones, and the sum of confidence, by interval (l, r] of confidence."""
    if bins < 1:
        raise InputError(f"calibration needs at least one bin, not {bins}")
    confidence, right = confidence.ravel(), np.asarray(right, dtype=np.float64).ravel()
    place = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    return np.stack([np.bincount(place, weights, bins) for weights in (np.ones_like(right), right, confidence)])


def _calibration(parts: Floats) -> float:
    rows, right, confidence = parts
    return float(np.abs(right - confidence).sum() / rows.sum())
