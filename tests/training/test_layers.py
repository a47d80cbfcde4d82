"""Rates by layer and layers that are freed, as the optimizer and the weights show them (E108 is in tests/equations)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from contracts import Killed, at
from tiny import corpus, network
from torch import nn

from weft.errors import InputError
from weft.training import loop
from weft.training.layers import Layers
from weft.training.loop import TrainConfig, train

DATA = corpus()  # 32 texts, in batches of 7: five steps an epoch
CONFIG = TrainConfig(steps=23, optimizer="adamw", learning_rate=0.01, schedule="constant")


class Tower(nn.Module):
    """Three layers and a head, named."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.middle, self.top, self.head = (nn.Linear(2, 2) for _ in range(4))

    def layer_groups(self):
        return [[f"{name}.weight", f"{name}.bias"] for name in ("low", "middle", "top")]


def test_rates_fall_by_the_divisor_a_layer():
    shares = Layers(Tower(), decay=2.6).multipliers()
    assert shares == {
        **{f"top.{name}": pytest.approx(1 / 2.6) for name in ("weight", "bias")},
        **{f"middle.{name}": pytest.approx(1 / 2.6**2) for name in ("weight", "bias")},
        **{f"low.{name}": pytest.approx(1 / 2.6**3) for name in ("weight", "bias")},
    }
    assert Layers(Tower()).multipliers() is None


@pytest.mark.parametrize(
    ("tune", "free"),
    [("all", [4, 4, 4, 4, 4]), ("head", [1, 1, 1, 1, 1]), ("gradual", [2, 3, 4, 4, 4])],
)
def test_who_is_free_in_which_epoch(tune, free):
    model = Tower()
    layers = Layers(model, tune)
    for epoch, count in enumerate(free):
        changed = layers.freeze_for(epoch)
        assert changed == (tune != "all" and (epoch == 0 or count != free[epoch - 1]))
        learning = [part.weight.requires_grad and part.bias.requires_grad for part in (model.head, model.top, model.middle, model.low)]
        assert learning == [number < count for number in range(4)]
    layers.release()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_was_frozen_before_is_not_freed():
    model = Tower()
    model.low.weight.requires_grad_(False)
    layers = Layers(model, "gradual")
    for epoch in range(5):
        layers.freeze_for(epoch)
    layers.release()
    assert not model.low.weight.requires_grad and model.low.bias.requires_grad


def test_networks_without_layers_and_names_of_nothing():
    with pytest.raises(InputError, match="tune: this network does not say what its layers are"):
        Layers(nn.Linear(2, 2), "gradual")
    with pytest.raises(InputError, match="layer_decay: this network does not say"):
        Layers(nn.Linear(2, 2), decay=2.0)
    model = Tower()
    model.layer_groups = lambda: [["top.weights"]]
    with pytest.raises(ValueError, match=r"names 'top\.weights', which is no parameter"):
        Layers(model, "head")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tune": "gradually"}, r"tune: there is no 'gradually' \(did you mean gradual"),
        ({"layer_decay": 0.95}, "layer_decay: must be at least 1.*not 0.95"),
        ({"layer_decay": math.nan}, "layer_decay: must be at least 1"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **options)


def trained(path=None, *, resume=False, callbacks=(), **options):
    made = network("transformer", dropout=0.2, batch_size=7)
    config = replace(CONFIG, steps=12, checkpoint_every=4, evaluate_every=4, **options)
    validate = made.validation(corpus(count=8, seed=1), made.loss(DATA))
    batches = made.batches(DATA, shuffled=True)
    train(
        made.model, batches, made.loss(DATA), replace(config, monitor="loss"), validate=validate, checkpoint=path, resume=resume,
        callbacks=callbacks,
    )  # fmt: skip
    return {name: value.numpy().tobytes() for name, value in made.model.state_dict().items()}


@pytest.mark.parametrize(
    "options",
    [
        {"tune": "gradual", "layer_decay": 2.6, "schedule": "slanted-triangular"},
        {"tune": "gradual", "averaging": "exponential", "averaging_decay": 0.8, "optimizer": "momentum"},
        {"tune": "head", "optimizer": "adagrad"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_killed_and_resumed_it_is_the_run_that_never_was(options, tmp_path):
    whole = trained(**options)
    for step in (3, 6):
        with pytest.raises(Killed):
            trained(tmp_path / f"{step}", callbacks=[at(step, Killed())], **options)
        assert trained(tmp_path / f"{step}", resume=True, **options) == whole


def test_everything_may_learn_again_after_training(monkeypatch):
    made = network("transformer", batch_size=7)
    before = made.parameters()
    seen = []
    monkeypatch.setattr(loop, "clip_gradients", lambda parameters, limit: seen.append(sum(p.grad is not None for p in parameters)) or 0.0)
    train(made.model, made.batches(DATA, shuffled=True), made.loss(DATA), replace(CONFIG, tune="head", steps=3))
    assert made.parameters() == before
    assert seen == [2, 2, 2]  # the last layer's weight and bias
    assert all(torch.isfinite(parameter).all() for parameter in made.model.parameters())
