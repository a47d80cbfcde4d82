"""Metrics against scikit-learn, scipy and brute force; streams against the functions."""

from __future__ import annotations

import itertools
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from weft import metrics
from weft.errors import InputError
from weft.metrics import METRICS

ROWS, CLASSES = 200, 4


@pytest.fixture
def case():
    """Scores (N, K) with ties in column 1, ids (N) that lean towards them, probabilities (N, K), label sets (N, K)."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(ROWS, CLASSES))
    logits[:, 1] = (8 * logits[:, 1]).round() / 8  # eighths: adding whole numbers keeps them exact
    ids = np.where(random.random(ROWS) < 0.5, logits.argmax(-1), random.integers(CLASSES, size=ROWS))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    sets = (logits + random.normal(size=logits.shape) > 0.3).astype(float)
    return SimpleNamespace(logits=logits, ids=ids, probabilities=probabilities, sets=sets, guess=logits.argmax(-1))


def streamed(name: str, logits: np.ndarray, targets: np.ndarray, sizes: tuple[int, ...] = (1, 60, 139)) -> float:
    metric = METRICS[name]()
    bounds = np.cumsum((0, *sizes))
    for a, b in itertools.pairwise(bounds):
        metric.update(torch.as_tensor(logits[a:b]), SimpleNamespace(targets=torch.as_tensor(targets[a:b])))
    return metric.compute()


def same(left: float, right: float) -> None:
    assert left == pytest.approx(right, abs=1e-12, nan_ok=True)


def test_accuracy(case):
    same(metrics.accuracy(case.ids, case.guess), sk.accuracy_score(case.ids, case.guess))
    same(streamed("accuracy", case.logits, case.ids), sk.accuracy_score(case.ids, case.guess))
    subset = sk.accuracy_score(case.sets, case.logits > 0)
    same(metrics.accuracy(case.sets, case.logits > 0), subset)
    same(streamed("accuracy", case.logits, case.sets), subset)
    names = np.array(["a", "b", "c", "d"])
    same(metrics.accuracy(names[case.ids], names[case.guess]), sk.accuracy_score(case.ids, case.guess))


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_f1(case, average):
    own = {"macro": metrics.macro_f1, "micro": metrics.micro_f1}[average]
    expected = sk.f1_score(case.ids, case.guess, average=average)
    same(own(case.ids, case.guess), expected)
    same(streamed(f"{average}_f1", case.logits, case.ids), expected)
    expected = sk.f1_score(case.sets, case.logits > 0, average=average)
    same(own(case.sets, case.logits > 0), expected)
    same(streamed(f"{average}_f1", case.logits, case.sets), expected)


def test_f1_leaves_out_classes_that_never_occur(case):
    logits = np.concatenate([case.logits, np.full((ROWS, 2), -9.0)], -1)
    same(streamed("macro_f1", logits, case.ids), sk.f1_score(case.ids, case.guess, average="macro"))
    sets = np.concatenate([case.sets, np.zeros((ROWS, 1))], -1)
    guess = np.concatenate([case.logits > 0, np.zeros((ROWS, 1), bool)], -1)
    same(metrics.macro_f1(sets, guess), sk.f1_score(sets, guess, average="macro", zero_division=np.nan))
    assert metrics.macro_f1(np.array([0, 0, 1]), np.array([0, 2, 2])) == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert math.isnan(metrics.macro_f1(np.zeros((3, 2)), np.zeros((3, 2))))
    assert math.isnan(metrics.micro_f1(np.zeros((3, 2)), np.zeros((3, 2))))


def test_f1_of_one_logit_is_that_of_the_positive_class(case):
    logit, label = case.logits[:, :1], case.sets[:, 0]
    same(streamed("macro_f1", logit, label), sk.f1_score(label, logit[:, 0] > 0))


def test_confusion(case):
    expected = sk.confusion_matrix(case.ids, case.guess)
    assert (metrics.confusion(case.ids, case.guess) == expected).all()
    names = np.array(["worst", "bad", "good", "best"])
    own = metrics.confusion(names[case.ids], names[case.guess], names)
    assert (own == sk.confusion_matrix(names[case.ids], names[case.guess], labels=names)).all()
    assert own.sum() == ROWS and (own != own.T).any()
    stream = metrics.Confusion()
    assert stream.compute() is None
    for part in (slice(0, 50), slice(50, ROWS)):
        stream.update(case.logits[part], SimpleNamespace(targets=case.ids[part]))
    assert (stream.compute() == expected).all()
    with pytest.raises(InputError, match="'c' is none of the 2 classes"):
        metrics.confusion(["a", "c"], ["a", "b"], ["a", "b"])


@pytest.mark.parametrize("kind", ["ids", "names", "sets"])
def test_report(case, kind):
    called = ["worst", "bad", "good", "best", "never"]
    if kind == "sets":
        called, truth, guess = called[:4], case.sets, (case.logits > 0).astype(float)
        expected = sk.classification_report(truth, guess, target_names=called, output_dict=True, zero_division=0)
    else:
        truth, guess = (np.array(called)[part] if kind == "names" else part for part in (case.ids, case.guess))
        given = {"labels": called if kind == "names" else range(5), "target_names": called}
        expected = sk.classification_report(truth, guess, **given, output_dict=True, zero_division=0)
    own = metrics.report(truth, guess, called)
    assert list(own) == called
    for name in called:
        for key, value in own[name].items():
            same(value, expected[name]["f1-score" if key == "f1" else key])


def test_report_by_default_names_what_occurs(case):
    assert list(metrics.report(case.ids, case.guess)) == ["0", "1", "2", "3"]
    assert list(metrics.report(["b", "b"], ["a", "b"])) == ["a", "b"]
    assert list(metrics.report(case.sets, case.sets)) == ["0", "1", "2", "3"]
    with pytest.raises(InputError, match="2 names for 4 labels"):
        metrics.report(case.sets, case.sets, ["a", "b"])
    with pytest.raises(InputError, match="none of the 2 classes"):
        metrics.report(case.ids, case.guess, ["a", "b"])


def test_log_loss(case):
    expected = sk.log_loss(case.ids, case.probabilities)
    same(metrics.log_loss(case.ids, case.probabilities), expected)
    same(streamed("log_loss", case.logits, case.ids), expected)
    sigmoid = 1 / (1 + np.exp(-case.logits))
    expected = np.mean([sk.log_loss(case.sets[:, k], sigmoid[:, k]) for k in range(CLASSES)])
    same(metrics.log_loss(case.sets, sigmoid), expected)
    same(streamed("log_loss", case.logits, case.sets), expected)


def test_log_loss_of_certain_mistakes():
    wrong = metrics.log_loss([0, 1], [[0.0, 1.0], [0.0, 1.0]])
    assert wrong == pytest.approx(sk.log_loss([0, 1], [[0.0, 1.0], [0.0, 1.0]]))
    assert streamed("log_loss", np.array([[0.0, 1000.0]]), np.array([0]), (1,)) == 1000.0  # from logits nothing is clipped


def test_roc_auc(case):
    binary = (case.ids == 1).astype(int)
    expected = sk.roc_auc_score(binary, case.logits[:, 1])
    same(metrics.roc_auc(binary, case.logits[:, 1]), expected)
    two = np.stack([np.zeros(ROWS), case.logits[:, 1]], -1)
    same(metrics.roc_auc(binary, two), expected)
    same(streamed("roc_auc", two + np.arange(ROWS)[:, None] % 8, binary), expected)  # only the difference of two logits counts
    expected = sk.roc_auc_score(case.ids, case.probabilities, multi_class="ovr", average="macro")
    same(metrics.roc_auc(case.ids, case.probabilities), expected)
    same(streamed("roc_auc", case.logits, case.ids), expected)
    expected = sk.roc_auc_score(case.sets, case.logits, average="macro")
    same(metrics.roc_auc(case.sets, case.logits), expected)
    same(streamed("roc_auc", case.logits, case.sets), expected)


def test_roc_auc_is_the_share_of_pairs_in_order():
    labels, scores = np.array([1, 0, 1, 0, 1]), np.array([3.0, 2.0, 2.0, 0.5, 0.5])
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    assert metrics.roc_auc(labels, scores) == np.mean(pairs) == 4 / 6


def test_pr_auc(case):
    binary = (case.ids == 1).astype(int)
    expected = sk.average_precision_score(binary, case.logits[:, 1])
    same(metrics.pr_auc(binary, case.logits[:, 1]), expected)
    same(streamed("pr_auc", np.stack([np.zeros(ROWS), case.logits[:, 1]], -1), binary), expected)
    same(streamed("pr_auc", case.logits[:, 1:2], binary.astype(float)), expected)
    expected = sk.average_precision_score(np.eye(CLASSES)[case.ids], case.probabilities, average="macro")
    same(metrics.pr_auc(case.ids, case.probabilities), expected)
    same(streamed("pr_auc", case.logits, case.ids), expected)
    same(streamed("pr_auc", case.logits, case.sets), sk.average_precision_score(case.sets, case.logits, average="macro"))


def test_areas_where_a_class_is_missing(case):
    assert math.isnan(metrics.roc_auc([1, 1], [0.2, 0.3]))
    assert math.isnan(metrics.roc_auc([0, 0], [0.2, 0.3]))
    assert math.isnan(metrics.pr_auc([0, 0], [0.2, 0.3]))
    assert metrics.pr_auc([1, 1], [0.2, 0.3]) == 1
    assert math.isnan(metrics.roc_auc([0, 1], [np.nan, 0.3]))
    kept = case.ids != 3
    each = [sk.roc_auc_score(case.ids[kept] == k, case.probabilities[kept, k]) for k in range(3)]
    same(metrics.roc_auc(case.ids[kept], case.probabilities[kept]), np.mean(each))


def brute_force_calibration(right: np.ndarray, confidence: np.ndarray, bins: int) -> float:
    error = 0.0
    for b in range(bins):
        inside = [(r, c) for r, c in zip(right, confidence) if b / bins < c <= (b + 1) / bins or (b == 0 and c == 0)]
        if inside:
            shares = np.array(inside, dtype=float).mean(0)
            error += len(inside) / len(right) * abs(shares[0] - shares[1])
    return error


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error(case, bins):
    expected = brute_force_calibration(case.guess == case.ids, case.probabilities.max(-1), bins)
    assert expected > 0.01
    same(metrics.calibration_error(case.ids, case.probabilities, bins), expected)
    edges, labels = np.array([0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.6, 0.65, 0.7, 1.0]), np.array([0, 1, 0, 1, 0, 0, 1, 1, 0, 1])
    same(metrics.calibration_error(labels, edges, bins), brute_force_calibration(labels, edges, bins))
    stream = metrics.CalibrationError(bins)
    for part in (slice(0, 70), slice(70, ROWS)):
        stream.update(case.logits[part], SimpleNamespace(targets=case.ids[part]))
    same(stream.compute(), expected)


def test_calibration_error_of_label_sets(case):
    sigmoid = 1 / (1 + np.exp(-case.logits))
    expected = brute_force_calibration(case.sets.ravel(), sigmoid.ravel(), 15)
    same(metrics.calibration_error(case.sets, sigmoid), expected)
    same(streamed("calibration_error", case.logits, case.sets), expected)


REGRESSION = {
    "mean_squared_error": sk.mean_squared_error,
    "mean_absolute_error": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "pearson": lambda y, o: stats.pearsonr(y, o).statistic,
    "spearman": lambda y, o: stats.spearmanr(y, o).statistic,
}


@pytest.mark.parametrize("name", REGRESSION)
def test_measures_of_numbers(case, name):
    truth, guess = case.logits[:, 0] + 100, case.logits[:, 1] + case.logits[:, 0]
    expected = REGRESSION[name](truth, guess)
    assert getattr(metrics, name)(truth, guess) == pytest.approx(expected, rel=1e-10)
    assert streamed(name, guess[:, None], truth) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["r2", "pearson", "spearman"])
def test_measures_of_numbers_that_do_not_vary(name):
    assert math.isnan(getattr(metrics, name)([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]))
    assert math.isnan(getattr(metrics, name)([2.0], [2.0]))
    if name != "r2":
        assert math.isnan(getattr(metrics, name)([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]))
    assert math.isnan(getattr(metrics, name)([1.0, np.nan, 3.0], [2.0, 1.0, 2.0]))


def test_correlations_stay_within_one_and_do_not_overflow():
    numbers = np.array([1e200, 2e200, -3e200])
    assert metrics.pearson(numbers, numbers / 3) == 1
    assert metrics.spearman(numbers, -numbers) == -1


def test_padding_does_not_count(case):
    logits, ids = case.logits.reshape(20, 10, CLASSES), case.ids.reshape(20, 10).copy()
    ids[:, 7:] = -100
    kept = ids != -100
    for name in ("accuracy", "macro_f1", "micro_f1", "log_loss", "roc_auc", "pr_auc", "calibration_error"):
        same(streamed(name, logits, ids, (1, 19)), streamed(name, logits[kept], ids[kept], (140,)))


@pytest.mark.parametrize("name", METRICS)
def test_a_stream_of_nothing_is_nan_and_half_precision_is_welcome(name):
    metric = METRICS[name]()
    assert metric.name == name
    assert math.isnan(metric.compute())
    if METRICS[name] in (METRICS[n] for n in REGRESSION):
        outputs, targets = torch.tensor([[1.0], [3.0], [2.0]]), torch.tensor([1.0, 2.0, 4.0])
    else:
        outputs, targets = torch.tensor([[1.0, 2.0], [3.0, 0.5], [0.0, 1.0]]), torch.tensor([1, 0, 0])
        metric.update(outputs, SimpleNamespace(targets=torch.full((3,), -100)))
        assert math.isnan(metric.compute())
    metric.update(outputs.bfloat16().requires_grad_(), SimpleNamespace(targets=targets))
    assert math.isfinite(metric.compute())
    with pytest.raises(InputError, match="shape"):
        metric.update(torch.zeros(3, 2), SimpleNamespace(targets=torch.zeros(4)))
    with pytest.raises(InputError, match="shape"):
        metric.update(torch.zeros(3, 2), SimpleNamespace(targets=torch.zeros(3, 2, dtype=torch.long)))


def test_the_direction_of_each_measure(case):
    """A perfect predictor against a useless one says which way is better."""
    ids = np.eye(CLASSES)[case.ids]
    for name, make in METRICS.items():
        if name in REGRESSION:
            good, bad, targets = case.logits[:, :1] + 1e-3, -case.logits[:, :1], case.logits[:, 0]
        else:
            good, bad, targets = 20 * ids, -20 * ids, case.ids
        good, bad = streamed(name, good, targets), streamed(name, bad, targets)
        assert make().higher_is_better == (good > bad), name


@pytest.mark.parametrize("task", ["classification", "multi-label", "regression"])
def test_the_metrics_of_a_task_work_on_it(case, task):
    logits, targets = {
        "classification": (case.logits, case.ids),
        "multi-label": (case.logits, case.sets),
        "regression": (case.logits[:, :1], case.logits[:, 1]),
    }[task]
    found = metrics.default_metrics(task)
    for metric in found.values():
        metric.update(logits, SimpleNamespace(targets=targets))
    assert all(math.isfinite(metric.compute()) for metric in found.values())
    again = metrics.default_metrics(task)
    assert all(math.isnan(metric.compute()) for metric in again.values())  # streams are fresh


def test_unknown_tasks_are_refused():
    with pytest.raises(InputError, match="classification, multi-label, regression"):
        metrics.default_metrics("tagging")


PLAIN = [
    "accuracy",
    "confusion",
    "macro_f1",
    "micro_f1",
    "report",
    "mean_squared_error",
    "mean_absolute_error",
    "r2",
    "pearson",
    "spearman",
]
SCORED = ["log_loss", "roc_auc", "pr_auc", "calibration_error"]


@pytest.mark.parametrize("name", PLAIN + SCORED)
def test_nothing_and_unequal_lengths_are_refused(name):
    with pytest.raises(InputError, match="no rows"):
        getattr(metrics, name)([], [])
    with pytest.raises(InputError, match="shape"):
        getattr(metrics, name)([0, 1], [0.5, 0.5, 0.1])


@pytest.mark.parametrize("name", SCORED)
def test_labels_that_are_no_columns_are_refused(name):
    for labels in ([0, 2], [0, -1], [0.0, 1.0]):
        with pytest.raises(InputError, match="0 to 1"):
            getattr(metrics, name)(labels, [[0.5, 0.5], [0.1, 0.9]])
    with pytest.raises(InputError, match="no rows"):
        getattr(metrics, name)(np.zeros(0, int), np.zeros((0, 2)))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="bin"):
        metrics.calibration_error([0, 1], [0.5, 0.5], bins=0)
    with pytest.raises(InputError, match="0 or 1"):
        metrics.roc_auc([1, 2], [0.5, 0.5])
    with pytest.raises(InputError, match="one dimension"):
        metrics.r2([[1.0]], [[1.0]])


def test_no_warnings_on_the_edges():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.report([0, 0], [1, 1], ["a", "b", "c"])
        metrics.macro_f1([0, 0], [1, 1])
        metrics.roc_auc([[0, 1], [0, 0]], [[0.1, 0.2], [0.3, 0.4]])
        metrics.log_loss([0, 1], [[0.0, 1.0], [0.0, 1.0]])
