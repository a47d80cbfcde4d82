"""E108, ULMFiT's three tricks, as a training shows them: the slanted triangle, rates by layer, gradual unfreezing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import corpus, network

from weft.training import loop
from weft.training.loop import TrainConfig, train
from weft.training.schedules import slanted_triangular

DATA = corpus()  # 32 texts in batches of 7: five steps an epoch
CONFIG = TrainConfig(steps=23, optimizer="adam", learning_rate=0.01, schedule="slanted-triangular")


def test_e108_w28_the_slanted_triangle():
    for step, rate in {0: 0.0003125, 5: 0.00515625, 10: 0.01, 55: 0.00515625, 100: 0.0003125}.items():
        assert 0.01 * slanted_triangular(step, 100) == pytest.approx(rate, rel=1e-12)


@pytest.fixture
def optimizers(monkeypatch):
    """The optimizers that trainings make."""
    made, make = [], loop.make_optimizer

    def note(*arguments, **options):
        made.append(make(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(loop, "make_optimizer", note)
    return made


def test_e108_rates_fall_by_2_6_a_layer_in_the_optimizers_groups(optimizers):
    made = network("transformer", batch_size=7, layers=3)
    told = []
    config = replace(CONFIG, layer_decay=2.6)
    train(made.model, made.batches(DATA, shuffled=True), made.loss(DATA), config, callbacks=[lambda moment: told.append(moment.rate)])
    rates = {name: group["lr"] for group in optimizers[0].param_groups for name in group["param_names"]}
    head = 0.01 * told[-1]
    assert rates["head.1.weight"] == rates["head.1.bias"] == pytest.approx(head)
    parts = ["encoder.encoder.blocks.2.", "encoder.encoder.blocks.1.", "encoder.encoder.blocks.0.", "embedding."]
    for depth, part in enumerate(parts, start=1):
        (found,) = {rate for name, rate in rates.items() if name.startswith(f"encoder.{part}")}
        assert found == pytest.approx(head / 2.6**depth), part
    assert set(rates) == {name for name, _ in made.model.named_parameters()}


def test_e108_in_epoch_e_exactly_the_last_e_layers_and_the_head_are_free(optimizers):
    made = network("transformer", batch_size=7, layers=2)
    groups = made.model.layer_groups()
    assert len(groups) == 3
    names = dict(made.model.named_parameters())
    head = [name for name in names if not any(name in group for group in groups)]
    start = {name: parameter.detach().clone() for name, parameter in names.items()}
    epochs = []

    def look(moment):
        free = {name for name, parameter in names.items() if parameter.requires_grad}
        epoch = (moment.step - 1) // 5 + 1
        expected = {*head, *(name for group in groups[max(0, len(groups) - epoch) :] for name in group)}
        assert free == expected, moment.step
        epochs.append(epoch)
        for name, parameter in names.items():
            stays = torch.equal(parameter, start[name])
            kept = optimizers[0].state.get(parameter)
            assert stays == (name not in expected), name
            assert bool(kept) == (name in expected), name

    train(made.model, made.batches(DATA, shuffled=True), made.loss(DATA), replace(CONFIG, tune="gradual"), callbacks=[look])
    assert sorted(set(epochs)) == [1, 2, 3, 4, 5]
