"""EQUATIONS.md, section 2: losses and outputs (E11–E15, W3, W15)."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weft.losses import BinaryCrossEntropy, CrossEntropy, Hinge
from weft.metrics import accuracy, classes_of, labels_of


def loss_of(loss, logits: Tensor, targets: Tensor) -> Tensor:
    (term,) = loss(lambda batch: logits, SimpleNamespace(targets=targets)).values()
    return term.value


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_e11_unequal_micro_batches_are_one_batch():
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    inputs, targets = randn(10, 4), torch.arange(10) % 3
    loss = CrossEntropy(class_weights=(1.0, 2.0, 0.5))

    def run(bounds: list[int]) -> tuple[float, Tensor]:
        model.zero_grad()
        parts = [SimpleNamespace(inputs=inputs[a:b], targets=targets[a:b]) for a, b in itertools.pairwise(bounds)]
        count = sum(loss.counts(part)["cross-entropy"] for part in parts)
        total = 0.0
        for part in parts:
            share = loss(lambda batch: model(batch.inputs), part)["cross-entropy"].total / count
            share.backward()
            total += float(share.detach())
        return total, model.weight.grad.clone()

    whole, parts = run([0, 10]), run([0, 1, 4, 10])
    assert parts[0] == pytest.approx(whole[0], abs=1e-10)
    torch.testing.assert_close(parts[1], whole[1], rtol=0, atol=1e-10)
    # The mean of the parts' own means is something else.
    means = [loss_of(loss, model(inputs[a:b]), targets[a:b]).item() for a, b in ((0, 1), (1, 4), (4, 10))]
    assert abs(np.mean(means) - whole[0]) > 1e-3


def test_e12_decisions_and_the_zero_one_loss():
    assert classes_of([[1.0, 3.0, 3.0]]).tolist() == [1]  # first index wins ties
    logits = np.array([-2.0, -1e-9, 0.0, 1e-9, 2.0])
    probabilities = 1 / (1 + np.exp(-logits))
    assert labels_of(logits).tolist() == [False, False, False, True, True]  # exactly ½ is 0
    assert (labels_of(logits) == (probabilities > 0.5)).all()
    scores = randn(50, 4).numpy()
    softmax = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    assert (classes_of(scores) == classes_of(softmax)).all()


def test_e12_the_zero_one_loss_has_no_gradient():
    weights, inputs, targets = randn(3, 4).numpy(), randn(20, 4, seed=1).numpy(), np.arange(20) % 3

    def wrong(w: np.ndarray) -> float:
        return 1 - accuracy(targets, classes_of(inputs @ w.T))

    for i, j in np.ndindex(weights.shape):
        step = np.zeros_like(weights)
        step[i, j] = 1e-6
        assert wrong(weights + step) - wrong(weights - step) == 0
    assert wrong(-weights) != wrong(weights)  # so the loss does depend on the weights


def test_e13_w15_hinge():
    scores = torch.tensor([[2.0, 1.5, -1.0]], dtype=torch.float64)
    assert float(loss_of(Hinge(), scores, torch.tensor([0]))) == pytest.approx(0.5)
    assert float(loss_of(Hinge(), scores, torch.tensor([1]))) == pytest.approx(1.5)


def test_e13_multi_class_is_the_maximum_over_wrong_classes():
    scores, targets = 2 * randn(60, 4), torch.arange(60) % 4
    for row, target in zip(scores, targets):
        worst = max(max(0.0, 1 + float(row[y]) - float(row[target])) for y in range(4) if y != target)
        assert float(loss_of(Hinge(), row[None], target[None])) == pytest.approx(worst, abs=1e-12)
        lead = float(row[target]) - max(float(row[y]) for y in range(4) if y != target)
        assert (worst == 0) == (lead >= 1)
        unclipped = 1 - lead  # erratum: the form without the clip rewards a lead that is large enough already
        assert unclipped < 0 if lead > 1 else unclipped == pytest.approx(worst)
    assert abs(loss_of(Hinge(), scores, targets) - loss_of(Hinge("sum"), scores, targets)) > 0.1  # torch's is another loss
    torch.testing.assert_close(loss_of(Hinge("sum"), scores, targets), F.multi_margin_loss(scores, targets))


def test_e13_gradient_away_from_the_kink_and_at_it():
    scores = torch.tensor([[2.0, 1.5, -1.0]], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda s: loss_of(Hinge(), s, torch.tensor([0])), scores)
    kink = torch.tensor([[2.0, 1.0], [1.0, 2.0]], requires_grad=True)
    for form in ("max", "sum"):
        loss_of(Hinge(form), kink, torch.tensor([0, 1])).backward()
        assert kink.grad.tolist() == [[0.0, 0.0]] * 2


def test_e13_binary():
    weights, x = randn(3).requires_grad_(), randn(3, seed=1)
    for scale, y in itertools.product((0.1, 10.0), (0.0, 1.0)):
        sign, point = 2 * y - 1, scale * x
        score = (point @ weights).item()
        weights.grad = None
        loss = loss_of(Hinge(), (point @ weights)[None], torch.tensor([y]))
        loss.backward()
        assert loss.item() == pytest.approx(max(0.0, 1 - sign * score))
        expected = -sign * point if sign * score < 1 else torch.zeros(3, dtype=torch.float64)
        torch.testing.assert_close(weights.grad, expected)
    # Erratum: testing w·x < 1 without y would still push a negative example that is far on its own side.
    point = -3 * x / (x @ weights).item()  # w·x = −3
    weights.grad = None
    loss_of(Hinge(), (point @ weights)[None], torch.tensor([0.0])).backward()
    without_y = point if (point @ weights).item() < 1 else 0 * point
    assert (weights.grad == 0).all() and without_y.abs().sum() > 0


def test_e14_w15_binary():
    logit = torch.tensor([math.log(0.8 / 0.2)], dtype=torch.float64)
    assert float(loss_of(BinaryCrossEntropy(), logit, torch.tensor([1.0]))) == pytest.approx(0.223144, abs=1e-6)
    assert float(loss_of(BinaryCrossEntropy(), logit, torch.tensor([0.0]))) == pytest.approx(1.609438, abs=1e-6)


def test_e14_w3_minus_logs_of_the_softmax():
    logits = torch.tensor([[-1.1695, -0.1363, 0.5428]], dtype=torch.float64)
    for target, expected in enumerate((2.2356, 1.2024, 0.5233)):
        assert float(loss_of(CrossEntropy(), logits, torch.tensor([target]))) == pytest.approx(expected, abs=1e-4)


def test_e14_from_logits_is_minus_the_log_of_the_softmax():
    logits, targets = 3 * randn(20, 5), torch.arange(20) % 5
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    expected = -np.log(p[np.arange(20), targets.numpy()]).mean()
    assert float(loss_of(CrossEntropy(), logits, targets)) == pytest.approx(expected, abs=1e-10)
    soft = randn(20, 5, seed=1).softmax(-1)
    assert float(loss_of(CrossEntropy(), logits, soft)) == pytest.approx(-(soft.numpy() * np.log(p)).sum(-1).mean(), abs=1e-10)


def test_e14_binary_is_two_classes_on_logits_0_and_o():
    logits = 30 * randn(40)  # past 20, where a softplus that turns linear would be off by 1e-9
    for y in (0, 1):
        binary = loss_of(BinaryCrossEntropy(), logits, torch.full((40,), float(y), dtype=torch.float64))
        two = loss_of(CrossEntropy(), torch.stack([torch.zeros_like(logits), logits], -1), torch.full((40,), y))
        assert float(binary) == pytest.approx(float(two), abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_e14_finite_at_a_thousand(dtype):
    logits = torch.tensor([[1000.0, -1000.0, 0.0]], dtype=dtype, requires_grad=True)
    for target, expected in ((0, 0.0), (1, 2000.0), (2, 1000.0)):
        loss = loss_of(CrossEntropy(), logits, torch.tensor([target]))
        assert loss.item() == expected
        assert torch.autograd.grad(loss, logits)[0].isfinite().all()
    for logit, y, expected in ((1000.0, 1.0, 0.0), (1000.0, 0.0, 1000.0), (-1000.0, 1.0, 1000.0), (-1000.0, 0.0, 0.0)):
        assert float(loss_of(BinaryCrossEntropy(), torch.tensor([logit], dtype=dtype), torch.tensor([y]))) == expected
    naive = -torch.log(torch.sigmoid(torch.tensor(-1000.0, dtype=dtype)))
    assert torch.isinf(naive)


def test_e14_is_at_least_the_entropy():
    targets = randn(30, 4).softmax(-1)
    entropy = -(targets * targets.log()).sum(-1)
    for seed in range(1, 4):
        logits = randn(30, 4, seed=seed)
        each = torch.stack([loss_of(CrossEntropy(), o[None], y[None]) for o, y in zip(logits, targets)])
        assert (each > entropy).all()
    torch.testing.assert_close(loss_of(CrossEntropy(), targets.log(), targets), entropy.mean(), rtol=0, atol=1e-10)


def test_e15_gradient_at_the_logits_is_prediction_minus_truth():
    logits = randn(6, 4).requires_grad_()
    ids, soft = torch.arange(6) % 4, randn(6, 4, seed=1).softmax(-1)
    for targets, truth in ((ids, F.one_hot(ids, 4).double()), (soft, soft)):
        (gradient,) = torch.autograd.grad(6 * loss_of(CrossEntropy(), logits, targets), logits)
        torch.testing.assert_close(gradient, logits.softmax(-1) - truth, rtol=0, atol=1e-10)
        torch.testing.assert_close(gradient.sum(-1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-10)
    (gradient,) = torch.autograd.grad(24 * loss_of(BinaryCrossEntropy(), logits, soft), logits)
    torch.testing.assert_close(gradient, logits.sigmoid() - soft, rtol=0, atol=1e-10)
