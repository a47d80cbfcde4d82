"""EQUATIONS.md, section 3, as the loop has it: descent on one, some or all examples (E16), the step (E17), early stopping (E24)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from linear import Linear, batches_of, regression

from weft.data.batch import Batch
from weft.losses import SquaredError
from weft.training.loop import TrainConfig, train

N, SIZE = 6, 3
PLAIN = {"optimizer": "sgd", "schedule": "constant", "clip": None}


def gradient_of(rows: list[int], inputs: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Of the mean of (w·x − y)² over these rows, by hand."""
    errors = inputs[rows].astype(float) @ weight - targets[rows]
    return 2 * inputs[rows].astype(float).T @ errors / len(rows)


def moved_by(rows: list[int], inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The gradient that one step of the loop follows on these rows."""
    model = Linear(SIZE)
    before = model.weight.detach().clone()
    train(model, batches_of(inputs[rows], targets[rows], examples=N), SquaredError(), TrainConfig(steps=1, learning_rate=1.0, **PLAIN))
    return (before - model.weight.detach())[0].numpy()


def test_e16_minibatch_gradients_are_the_full_one_on_average():
    inputs, targets = regression(N, SIZE)
    parts = [moved_by(list(rows), inputs, targets) for rows in itertools.combinations(range(N), 2)]
    assert len(parts) == math.comb(N, 2)
    np.testing.assert_allclose(np.mean(parts, 0), moved_by(list(range(N)), inputs, targets), rtol=0, atol=1e-12)
    assert np.std(parts, 0).min() > 0.01  # one by one they are not


@pytest.mark.parametrize("examples", [1, 2, 4, N], ids=["online", "minibatch", "unequal minibatches", "full batch"])
def test_e16_one_some_or_all_examples_a_step(examples):
    """Θ ← Θ − η_t g over the batches of the order, written out, for three epochs under a schedule."""
    inputs, targets = regression(N, SIZE)
    batches, rate = batches_of(inputs, targets, examples=examples, seed=4), 0.05
    steps = 3 * -(-N // examples)
    model, weight = Linear(SIZE), Linear(SIZE).weight.detach()[0].numpy().copy()
    train(model, batches, SquaredError(), TrainConfig(steps=steps, learning_rate=rate, **{**PLAIN, "schedule": "linear"}))
    order = [rows.tolist() for epoch in range(3) for rows in batches.order(epoch)]
    assert len(order) == steps
    for step, rows in enumerate(order):
        weight -= rate * (1 - step / steps) * gradient_of(rows, inputs, targets, weight)
    np.testing.assert_allclose(model.weight.detach()[0].numpy(), weight, rtol=0, atol=1e-12)


def test_e16_on_a_quadratic_descent_converges_just_below_two_over_the_largest_curvature():
    inputs, targets = regression(N, SIZE)
    curvature = 2 * inputs.astype(float).T @ inputs.astype(float) / N
    least = np.linalg.solve(curvature, 2 * inputs.astype(float).T @ targets / N)
    limit = 2 / np.linalg.eigvalsh(curvature).max()

    def distance(rate: float) -> float:
        model = Linear(SIZE)
        train(model, batches_of(inputs, targets, examples=N), SquaredError(), TrainConfig(steps=400, learning_rate=rate, **PLAIN))
        return float(np.linalg.norm(model.weight.detach()[0].numpy() - least))

    assert distance(0.98 * limit) < 1e-4
    assert distance(1.02 * limit) > 1e4


def test_e17_without_zeroing_two_backward_passes_add_and_the_loop_zeroes():
    inputs, targets = regression(N, SIZE)
    model = Linear(SIZE)
    batch = batches_of(inputs, targets, examples=N).gather(np.arange(N))
    for passes in (1, 2):
        SquaredError()(model, batch)["squared"].value.backward()
        expected = gradient_of(list(range(N)), inputs, targets, model.weight.detach()[0].numpy())
        np.testing.assert_allclose(model.weight.grad[0].numpy(), passes * expected, rtol=0, atol=1e-12)
    # Gradients that are there already do not enter the loop's first step; the second follows its own alone (E16's test has it too).
    start = model.weight.detach()[0].numpy().copy()
    train(model, batches_of(inputs, targets, examples=N), SquaredError(), TrainConfig(steps=2, learning_rate=0.1, **PLAIN))
    for _ in range(2):
        start -= 0.1 * gradient_of(list(range(N)), inputs, targets, start)
    np.testing.assert_allclose(model.weight.detach()[0].numpy(), start, rtol=0, atol=1e-12)


def test_e17_steps_in_training_mode_with_gradients_checks_in_evaluation_mode_without():
    inputs, targets = regression(N, SIZE)
    model, answers = Linear(SIZE, dropout=0.5), []

    def validate(model: Linear) -> dict[str, float]:
        batch = batches_of(inputs, targets, examples=N).gather(np.arange(N))
        first, second = model(batch), model(batch)
        assert not first.requires_grad
        answers.append((first, second))
        return {"loss": 1.0}

    model.eval()
    config = TrainConfig(steps=4, evaluate_every=2, **PLAIN)
    train(model, batches_of(inputs, targets, examples=N), SquaredError(), config, validate=validate)
    step, check = (True, True), (False, False)
    assert model.modes == [step, step, check, check, step, step, check, check]
    assert len(answers) == 2
    for first, second in answers:
        assert torch.equal(first, second)  # although dropout > 0
    batch: Batch = batches_of(inputs, targets, examples=N).gather(np.arange(N))
    model.train()
    assert not torch.equal(model(batch), model(batch))


NAN = math.nan
SERIES = [  # (metric, its values at checks 1, 2, …, patience) -> (checks made, best check, why it ended)
    ("loss", [5, 4, 3, 2, 1], None, 5, 5, "budget"),
    ("loss", [5, 4, 4.5, 3, 6, 7, 1], None, 7, 7, "budget"),
    ("loss", [5, 3, 4, 3.5, 1, 0], 2, 4, 2, "patience"),
    ("loss", [5, 3, 3, 3, 1], 2, 4, 2, "patience"),  # equal is no improvement
    ("loss", [5, 6, 4, 5, 3, 4, 2, 3], 2, 8, 7, "budget"),  # an improvement starts patience afresh
    ("accuracy", [0.5, 0.6, 0.55, 0.6, 0.9], 2, 4, 2, "patience"),
    ("accuracy", [0.9, 0.5, 0.1], None, 3, 1, "budget"),
    ("loss", [NAN, 5, NAN, 4, NAN, NAN, NAN], 3, 7, 4, "patience"),  # NaN never counts as best
    ("accuracy", [NAN, NAN, 0.1, 0.2], 3, 4, 4, "budget"),
    ("loss", [NAN, NAN, 1], 2, 2, None, "patience"),
    ("loss", [3, 4], 1, 2, 1, "patience"),
]


@pytest.mark.parametrize("monitor,values,patience,checks,best,ended", SERIES)
def test_e24_a_scripted_series_stops_and_restores_where_it_should(monitor, values, patience, checks, best, ended):
    inputs, targets = regression(N, SIZE)
    model, script, seen = Linear(SIZE), iter(values), []

    def validate(model: Linear) -> dict[str, float]:
        seen.append(model.weight.detach().clone())
        return {"other": 0.0, monitor: next(script)}

    every = 3
    config = TrainConfig(steps=every * len(values), learning_rate=0.01, evaluate_every=every, patience=patience, monitor=monitor, **PLAIN)
    history = train(model, batches_of(inputs, targets, examples=2, seed=0), SquaredError(), config, validate=validate)
    assert len(seen) == len(history.checks) == checks
    assert (history.steps, history.stopped) == (every * checks, ended)
    assert [check["step"] for check in history.checks] == [every * (number + 1) for number in range(checks)]
    kept = seen[(best or checks) - 1]  # where nothing was ever the best, the last weights stay
    assert torch.equal(model.weight.detach(), kept)
    assert len({str(weights.tolist()) for weights in seen}) == checks  # they do differ
    assert history.best_step == every * (best or checks)
    assert history.best == pytest.approx(values[best - 1] if best else NAN, nan_ok=True)
