"""All metrics of a task against scikit-learn, with labels that training never saw."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from sklearn import metrics as oracle

from weft.errors import InputError
from weft.estimators.scoring import MAIN_METRIC, score_arrays

NAMES = ["a", "b", "c"]


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="weft")
    return caplog


def probabilities(count: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), count)


def test_classification_is_what_scikit_learn_says():
    given = probabilities(60, 3)
    labels = np.random.default_rng(1).choice(NAMES, 60)
    scores = score_arrays("classification", given, list(labels), NAMES)
    predicted = np.array(NAMES)[given.argmax(1)]
    assert next(iter(scores)) == MAIN_METRIC["classification"] == "accuracy"
    assert scores["accuracy"] == pytest.approx(oracle.accuracy_score(labels, predicted))
    assert scores["macro_f1"] == pytest.approx(oracle.f1_score(labels, predicted, average="macro"))
    assert scores["log_loss"] == pytest.approx(oracle.log_loss(labels, given, labels=NAMES))
    assert scores["roc_auc"] == pytest.approx(oracle.roc_auc_score(labels, given, multi_class="ovr"))


def test_two_classes_rank_by_the_second():
    given = probabilities(40, 2)
    labels = np.random.default_rng(2).choice(["no", "yes"], 40)
    scores = score_arrays("classification", given, list(labels), ["no", "yes"])
    assert scores["roc_auc"] == pytest.approx(oracle.roc_auc_score(labels == "yes", given[:, 1]))
    assert scores["pr_auc"] == pytest.approx(oracle.average_precision_score(labels == "yes", given[:, 1]))


def test_a_label_that_training_never_saw_is_wrong_and_is_said(said):
    given = probabilities(30, 3)
    labels = np.array(NAMES, object)[given.argmax(1)]  # every answer right
    labels[:6] = "new"
    scores = score_arrays("classification", given, list(labels), NAMES)
    assert scores["accuracy"] == pytest.approx(24 / 30)
    predicted = np.array(NAMES)[given.argmax(1)]
    assert scores["macro_f1"] == pytest.approx(oracle.f1_score(list(labels), list(predicted), average="macro"))
    assert scores["log_loss"] == pytest.approx(oracle.log_loss(list(labels[6:]), given[6:], labels=NAMES))
    assert "6 of 30 texts have a label that training never saw (new): they count as wrong" in said.text


def test_nothing_but_unseen_labels_scores_nothing(said):
    scores = score_arrays("classification", probabilities(8, 3), [f"new {i}" for i in range(8)], NAMES)
    assert scores == {"accuracy": 0.0, "macro_f1": 0.0}
    assert "and 3 more" in said.text


def test_labels_that_are_numbers_or_bools():
    given = probabilities(20, 2)
    for classes in ([0, 1], [False, True], [1.0, 2.0]):
        labels = [classes[k] for k in given.argmax(1)]
        assert score_arrays("classification", given, labels, classes)["accuracy"] == 1.0


def test_several_labels_are_what_scikit_learn_says_with_unseen_ones_missed(said):
    generator = np.random.default_rng(3)
    given = generator.random((50, 3))
    truth = generator.random((50, 4)) < 0.4  # the fourth label is unseen
    labels = [tuple(np.array([*NAMES, "new"])[row]) for row in truth]
    scores = score_arrays("multi-label", given, labels, NAMES)
    predicted = np.column_stack([given > 0.5, np.zeros(50, bool)])
    assert next(iter(scores)) == MAIN_METRIC["multi-label"] == "micro_f1"
    assert scores["micro_f1"] == pytest.approx(oracle.f1_score(truth, predicted, average="micro"))
    assert scores["macro_f1"] == pytest.approx(oracle.f1_score(truth, predicted, average="macro", zero_division=0))
    assert scores["accuracy"] == pytest.approx(oracle.accuracy_score(truth, predicted))
    assert scores["roc_auc"] == pytest.approx(oracle.roc_auc_score(truth[:, :3], given, average="macro"))
    assert scores["pr_auc"] == pytest.approx(oracle.average_precision_score(truth[:, :3], given, average="macro"))
    assert "labels that training never saw (new) count as missed" in said.text


def test_numbers_are_what_scikit_learn_and_scipy_say():
    from scipy import stats

    generator = np.random.default_rng(4)
    truth, given = generator.normal(size=40), generator.normal(size=40)
    scores = score_arrays("regression", given, list(truth), [])
    assert next(iter(scores)) == MAIN_METRIC["regression"] == "r2"
    assert scores == pytest.approx(
        {
            "r2": oracle.r2_score(truth, given),
            "pearson": stats.pearsonr(truth, given).statistic,
            "spearman": stats.spearmanr(truth, given).statistic,
            "mean_squared_error": oracle.mean_squared_error(truth, given),
            "mean_absolute_error": oracle.mean_absolute_error(truth, given),
        }
    )


def test_a_metric_that_is_not_defined_is_left_out():
    scores = score_arrays("regression", np.arange(5.0), [2.0] * 5, [])
    assert "pearson" not in scores
    assert "r2" not in scores or np.isfinite(scores["r2"])
    assert all(np.isfinite(value) for value in scores.values())
    only_one = score_arrays("classification", probabilities(5, 2), ["a"] * 5, ["a", "b"])
    assert "roc_auc" not in only_one  # one class alone has no ranking


@pytest.mark.parametrize("task", list(MAIN_METRIC))
def test_unequal_lengths_and_no_texts_are_refused(task):
    with pytest.raises(InputError, match="3 texts but 2 labels"):
        score_arrays(task, probabilities(3, 2), ["a", "b"], ["a", "b"])
    with pytest.raises(InputError, match="nothing to score"):
        score_arrays(task, probabilities(0, 2), [], ["a", "b"])
