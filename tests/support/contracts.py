"""How contracts are tried out on any network: one step and its gradient, a run that is killed, the same run in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import pytest
import torch
from tiny import weights

from weft.estimators.engine import Budget
from weft.training.loop import TrainConfig, train

RATE = 0.5


def one_step(made: Any, data: Any, parts: int, loss: Any = None) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The loss terms of one step of plain descent on all of the data, and the gradient, read off what the weights moved by."""
    before = {name: parameter.detach().double().clone() for name, parameter in made.model.named_parameters()}
    told: list[dict[str, float]] = []
    config = TrainConfig(steps=1, optimizer="sgd", learning_rate=RATE, schedule="constant", clip=None, micro_batches=parts)
    batches = made.batches(data, shuffled=True)
    assert batches.steps() == 1
    train(made.model, batches, loss or made.loss(data), config, callbacks=[lambda moment: told.append(dict(moment.losses))])
    moved = {name: (before[name] - parameter.detach().double()) / RATE for name, parameter in made.model.named_parameters()}
    return told[0], moved


def assert_same(one: Any, other: Any) -> None:
    """Two outcomes of `one_step`."""
    assert one[0].keys() == other[0].keys()
    for name in one[0]:
        assert other[0][name] == pytest.approx(one[0][name], rel=1e-6)
    for name, gradient in one[1].items():
        torch.testing.assert_close(other[1][name], gradient, rtol=0, atol=2e-6 * max(1.0, float(gradient.abs().max())), msg=name)
        assert gradient.any(), name


class Killed(BaseException):
    """What nobody catches."""


def at(step: int, error: BaseException, check: bool = False) -> Any:
    """A callback that raises after that step, or after the check that follows it."""

    def callback(moment: Any) -> None:
        if moment.step == step and (moment.metrics is not None) == check:
            raise error

    return callback


def outcome(made: Any, data: Any, dev: Any, steps: int, checkpoint: Any = None, *, resume: bool = False, callbacks: Any = ()) -> Any:
    """(weights, everything that history says but the seconds) of one training."""
    history = made.fit(data, dev, Budget(steps=steps), checkpoint=checkpoint, resume=resume, callbacks=list(callbacks))
    return weights(made.model), {name: value for name, value in asdict(history).items() if name != "seconds"}


def under_hash_seeds(program: str) -> list[dict[str, str]]:
    """The JSON that a program of tests/support prints, in processes of two hash seeds."""
    running = []
    for seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, program]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    found = []
    for process in running:
        out, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
        found.append(json.loads(out))
    return found
