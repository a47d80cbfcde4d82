"""All metrics of a task at once, from what an estimator predicts and what is true; labels that training never saw count as wrong."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from weft import metrics, metrics_tagging
from weft.errors import InputError

log = logging.getLogger("weft")
MAIN_METRIC = {
    "classification": "accuracy", "multi-label": "micro_f1", "regression": "r2", "tagging": "accuracy", "spans": "span_f1",
    "translation": "bleu", "language-model": "perplexity",
}  # fmt: skip


def score_arrays(task: str, outputs: np.ndarray, labels: Sequence[Any], classes: Sequence[Any]) -> dict[str, float]:
    """outputs: probabilities (N, K) in the order of `classes`, or numbers (N,) for regression. labels: names, tuples of names, or numbers.

    The task's main metric comes first; a metric that is not defined on these data is left out. Raises InputError for unequal lengths
    or no data.
    """
    if len(outputs) != len(labels):
        raise InputError(f"{len(outputs)} texts but {len(labels)} labels", "labels")
    if not len(labels):
        raise InputError("there is nothing to score: no texts", "texts")
    if task == "regression":
        truth = np.asarray([float(label) for label in labels])
        names = ("r2", "pearson", "spearman", "mean_squared_error", "mean_absolute_error")
        scores = {name: getattr(metrics, name)(truth, outputs) for name in names}
    elif task == "classification":
        scores = _classification(outputs, labels, classes)
    else:
        scores = _multi_label(outputs, labels, classes)
    return {name: float(value) for name, value in scores.items() if math.isfinite(value)}


def score_tags(
    task: str, true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], words: Sequence[Sequence[str]], known: Collection[str]
) -> dict[str, float]:
    """Of tags by sentence: strict F1, precision and recall of spans where they are such, token accuracy, and that of words not `known`."""
    scores: dict[str, float] = {}
    if task == "spans":
        found = metrics_tagging.span_scores(true, predicted)
        scores = {f"span_{name}": found[name] for name in ("f1", "precision", "recall")}
    scores["accuracy"] = metrics_tagging.token_accuracy(true, predicted)
    scores["unknown_accuracy"] = metrics_tagging.unknown_accuracy(true, predicted, words, known)
    return {name: float(value) for name, value in scores.items() if math.isfinite(value)}


def a_few(names: Sequence[str]) -> str:
    """ "a, b and 3 more": the first five of them."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _classification(probabilities: np.ndarray, labels: Sequence[Any], classes: Sequence[Any]) -> dict[str, float]:
    number = {name: i for i, name in enumerate(classes)}
    unseen = sorted({str(label) for label in labels if label not in number})
    extra = {label: len(classes) + i for i, label in enumerate(unseen)}
    truth = np.array([number[label] if label in number else extra[str(label)] for label in labels])
    known = truth < len(classes)
    predicted = probabilities.argmax(1)
    if unseen:
        message = "%d of %d texts have a label that training never saw (%s): they count as wrong"
        log.warning(message, (~known).sum(), len(truth), a_few(unseen))
    scores = {"accuracy": metrics.accuracy(truth, predicted), "macro_f1": metrics.macro_f1(truth, predicted)}
    if known.any():
        truth, probabilities = truth[known], probabilities[known]
        scores["log_loss"] = metrics.log_loss(truth, probabilities)
        scores["calibration_error"] = metrics.calibration_error(truth, probabilities)
        if len(classes) == 2:
            scores["roc_auc"] = metrics.roc_auc(truth, probabilities[:, 1])
            scores["pr_auc"] = metrics.pr_auc(truth, probabilities[:, 1])
        elif len(np.unique(truth)) == len(classes):
            scores["roc_auc"] = metrics.roc_auc(truth, probabilities)
    return scores


def _multi_label(probabilities: np.ndarray, labels: Sequence[Any], classes: Sequence[Any]) -> dict[str, float]:
    number = {name: i for i, name in enumerate(classes)}
    unseen = sorted({str(name) for label in labels for name in label if name not in number})
    everything = [*number, *unseen]
    place = {name: i for i, name in enumerate(everything)}
    truth = np.zeros((len(labels), len(everything)), bool)
    for row, label in enumerate(labels):
        truth[row, [place[name if name in number else str(name)] for name in label]] = True
    if unseen:
        log.warning("labels that training never saw (%s) count as missed", a_few(unseen))
    predicted = np.zeros_like(truth)
    predicted[:, : len(number)] = probabilities > 0.5
    scores = {name: getattr(metrics, name)(truth, predicted) for name in ("micro_f1", "macro_f1", "accuracy")}
    seen = truth[:, : len(number)]
    both = seen.any(0) & ~seen.all(0)
    if both.any():
        scores["roc_auc"] = float(np.mean([metrics.roc_auc(seen[:, k], probabilities[:, k]) for k in np.flatnonzero(both)]))
        scores["pr_auc"] = float(np.mean([metrics.pr_auc(seen[:, k], probabilities[:, k]) for k in np.flatnonzero(both)]))
    return scores
