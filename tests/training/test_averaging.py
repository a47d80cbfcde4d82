"""Means of the weights against means taken by hand, of weights that a callback wrote down; what a check sees; what stays; what resumes."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from contracts import Killed, at
from linear import Linear, batches_of, regression
from torch import nn

from weft.errors import InputError
from weft.losses import SquaredError
from weft.training.averaging import Average
from weft.training.checkpoint import load_checkpoint
from weft.training.loop import TrainConfig, train

PLAIN = TrainConfig(steps=20, optimizer="sgd", learning_rate=0.05, schedule="constant", clip=None)
INPUTS, TARGETS = regression(12, 3)


def run(config, validate=None, callbacks=(), **options):
    """(the model after training, its weights after every step, those that every check saw, the history)."""
    model, steps, seen = Linear(3, dropout=0.2), [], []
    values = None if validate is None else iter(validate)

    def look(network):
        seen.append(network.weight.detach().numpy().copy())
        return {"loss": next(values)}

    def note(moment):
        if moment.metrics is None:
            steps.append(model.weight.detach().numpy().copy())

    batches = batches_of(INPUTS, TARGETS, examples=4, seed=0)
    history = train(
        model, batches, SquaredError(), config, validate=None if values is None else look, callbacks=[note, *callbacks], **options
    )
    return model, steps, seen, history


def exponential(steps, decay):
    mean = Linear(3).weight.detach().numpy().copy()
    for number, weight in enumerate(steps, start=1):
        keep = min(decay, (1 + number) / (10 + number))
        mean = keep * mean + (1 - keep) * weight
    return mean


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_exponential_mean_of_the_weights_after_every_step_is_what_stays(decay):
    model, steps, _, _ = run(replace(PLAIN, averaging="exponential", averaging_decay=decay))
    np.testing.assert_allclose(model.weight.detach().numpy(), exponential(steps, decay), atol=1e-12)
    assert not np.allclose(model.weight.detach().numpy(), steps[-1])


def test_averaging_does_not_touch_the_training_itself():
    _, plain, _, _ = run(PLAIN)
    _, averaged, _, _ = run(replace(PLAIN, averaging="exponential", evaluate_every=4), [5.0, 4.0, 3.0, 2.0, 1.0])
    np.testing.assert_array_equal(plain, averaged)


def test_checks_see_the_mean_and_the_best_of_them_stays():
    config = replace(PLAIN, averaging="exponential", averaging_decay=0.9, evaluate_every=5)
    model, steps, seen, history = run(config, [3.0, 1.0, 2.0, 2.0])
    for number, weight in enumerate(seen, start=1):
        np.testing.assert_allclose(weight, exponential(steps[: 5 * number], 0.9), atol=1e-12)
    assert history.best_step == 10
    np.testing.assert_array_equal(model.weight.detach().numpy(), seen[1])


# the paper's rule: the check that is worse than the best of all but the two before it
@pytest.mark.parametrize(
    ("values", "since"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3, 0.2, 0.1], None),
        ([5.0, 6.0, 7.0, 6.5, 3.0, 2.0, 1.0, 0.5, 0.4, 0.3], 8),  # 6.5 > 5; before, all checks are among the last two
        ([5.0, 4.0, 4.5, 4.6, 4.7, 4.8, 4.9, 5.0, 5.1, 5.2], 10),  # 4.7 > 4, which two checks came after; 4.6 < 5
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], None),  # no worse
        ([5.0, 4.0, 3.0, 2.0, 1.0, 0.9, 1.5, 0.8, 0.7, 1.1], 20),  # 1.5 is in the last two but one; 1.1 > 0.9
        ([9.0, 8.0, 7.0, float("nan"), 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 8),  # no number is worse than any
    ],
)
def test_nt_asgd_begins_where_development_data_ceased_to_improve(values, since):
    config = replace(PLAIN, averaging="nt-asgd", averaging_interval=2, evaluate_every=2)
    model, steps, seen, history = run(config, values)
    for check, weight in enumerate(seen, start=1):
        step = 2 * check
        expected = steps[step - 1] if since is None or step <= since else np.mean(steps[since - 1 : step], 0)
        np.testing.assert_allclose(weight, expected, atol=1e-12)
    np.testing.assert_array_equal(model.weight.detach().numpy(), seen[history.best_step // 2 - 1])


def test_nt_asgd_of_a_measure_that_grows():
    average = Average([nn.Parameter(torch.zeros(1))], "nt-asgd", interval=1)
    for value, active in ((0.5, False), (0.6, False), (0.55, False), (0.54, True)):
        average.look(value, "accuracy")
        assert average.active == active


def test_what_never_began_is_said(caplog):
    with caplog.at_level(logging.WARNING, "weft"):
        model, steps, _, _ = run(replace(PLAIN, averaging="nt-asgd", evaluate_every=10), [2.0, 1.0])
    assert "never ceased to improve in 2 checks: the weights are not averaged" in caplog.text
    np.testing.assert_array_equal(model.weight.detach().numpy(), steps[-1])


@pytest.mark.parametrize("averaging", ["exponential", "nt-asgd"])
@pytest.mark.parametrize("error", [Killed(), KeyboardInterrupt()], ids=["killed", "interrupted"])
@pytest.mark.parametrize("check", [False, True], ids=["after the step", "after the check"])
def test_killed_anywhere_and_resumed_it_is_the_run_that_never_was(averaging, error, check, tmp_path):
    config = replace(PLAIN, averaging=averaging, averaging_interval=1, averaging_decay=0.9, evaluate_every=4, optimizer="adamw")

    def look(network):
        return {"loss": -abs(float(network.weight[0, 0]) - 0.2)}

    def trained(path=None, resume=False, callbacks=()):
        model = Linear(3, dropout=0.2)
        batches = batches_of(INPUTS, TARGETS, examples=4, seed=0)
        history = train(model, batches, SquaredError(), config, validate=look, callbacks=callbacks, checkpoint=path, resume=resume)
        return model.weight.detach().numpy().tobytes(), history.checks, history.best_step

    whole = trained()
    for step in (4, 8, 16) if check else (3, 9, 10, 17, 20):
        path = tmp_path / f"{step}"
        with pytest.raises(type(error)):
            trained(path, callbacks=[at(step, error, check)])
        assert trained(path, resume=True) == whole, step


def test_ctrl_c_in_a_check_leaves_the_weights_and_not_their_mean(tmp_path):
    config, path = replace(PLAIN, averaging="exponential", evaluate_every=10), tmp_path / "checkpoint"
    model = Linear(3)

    def interrupted(network):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, batches_of(INPUTS, TARGETS, examples=4, seed=0), SquaredError(), config, validate=interrupted, checkpoint=path)
    plain = Linear(3)
    train(plain, batches_of(INPUTS, TARGETS, examples=4, seed=0), SquaredError(), replace(PLAIN, steps=10))
    assert torch.equal(load_checkpoint(path)["model"]["weight"], plain.weight.detach())
    assert torch.equal(model.weight, plain.weight)


def test_what_is_frozen_stays_as_it_is_to_the_bit():
    model = nn.Sequential(Linear(3), nn.Linear(1, 1).double())
    model[1].requires_grad_(False)
    frozen = model[1].weight.clone()
    batches = batches_of(INPUTS, TARGETS, examples=4, seed=0)
    train(model, batches, SquaredError(), replace(PLAIN, averaging="exponential"))
    assert torch.equal(model[1].weight, frozen)


def test_the_mean_of_other_parameters_is_refused():
    average = Average([nn.Parameter(torch.zeros(2))], "exponential")
    with pytest.raises(ValueError, match="1 other tensors than the 1 parameters"):
        average.load_state_dict({"count": 3, "values": [], "tensors": [torch.zeros(3)]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"averaging": "exponental"}, r"averaging: there is no 'exponental' \(did you mean exponential"),
        ({"averaging_decay": 1.0}, "averaging_decay: must lie between 0 and 1, not 1.0"),
        ({"averaging_interval": 0}, "averaging_interval: must be at least 1, not 0"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        replace(PLAIN, **options)
