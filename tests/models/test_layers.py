"""Layers by the names of their parameters: of every encoder there is, and of the networks that stand on them."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import taggers
import torch
from tiny import CASES, ENCODER_CASES, network
from torch import nn

from weft.models.classifier import Classifier
from weft.models.encoders import ENCODERS, make_encoder
from weft.models.layers import layers_of


def made(name, settings):
    sizes = {"hidden_size": 16, "heads": 2, "filters": 4}
    known = {field.name for field in fields(ENCODERS[name][0])}
    return make_encoder(name, 16, {**{key: value for key, value in sizes.items() if key in known}, **settings})


def beginnings(groups):
    """The first two or three parts of the names of each group, once."""
    return [sorted({".".join(name.split(".")[:3]) for name in group}) for group in groups]


@pytest.mark.parametrize("name,settings", ENCODER_CASES)
def test_every_parameter_of_an_encoder_is_in_one_layer(name, settings):
    module = made(name, settings)
    groups = layers_of(module, "front.")
    assert all(groups)
    assert sorted(name for group in groups for name in group) == sorted(f"front.{name}" for name, _ in module.named_parameters())


def test_layers_are_those_of_the_stack():
    assert beginnings(layers_of(made("transformer", {"layers": 3}))) == [
        [f"encoder.blocks.{number}"] + (["encoder.norm.bias", "encoder.norm.weight"] if number == 2 else []) for number in range(3)
    ]
    assert beginnings(layers_of(made("recurrent", {"cell": "lstm", "layers": 2}))) == [["recurrent.cells.0"], ["recurrent.cells.1"]]
    both = layers_of(made("recurrent", {"cell": "gru", "layers": 2, "bidirectional": True, "initial": "learnt"}))
    assert beginnings(both) == [
        ["recurrent.initial"], ["recurrent.cells.0", "recurrent.cells.1"], ["recurrent.cells.2", "recurrent.cells.3"]
    ]  # fmt: skip
    convolved = layers_of(made("dilated-cnn", {"dilations": (1, 2)}))
    assert [{name.split(".")[0] for name in group} for group in convolved] == [{"project"}, {"layers"}, {"layers"}]
    assert len(layers_of(made("cnn", {}))) == 1 and layers_of(made("bag", {})) == []


@pytest.mark.parametrize("rung", CASES)
def test_what_a_classifier_has_beyond_its_layers_is_its_head(rung):
    model = network(rung).model
    groups = model.layer_groups()
    named = [name for group in groups for name in group]
    learnt = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(named) == len(set(named)) and set(named) <= learnt
    assert {name.split(".")[0] for name in learnt - set(named)} <= {
        "pooling",
        "head",
        "classes",
        "output",
    }  # the last two: a generative one's
    if "static" not in rung.replace("non-static", ""):
        assert any(name.endswith(("embedding.weight", "tuned.weight", "tokens")) for name in groups[0]), "the embeddings are the lowest"


def test_of_each_tower_of_a_tagger():
    model = taggers.network(taggers.CASES["levels the other way, crf"]).model
    groups = model.layer_groups()
    named = {name for group in groups for name in group}
    assert {name.split(".")[0] for name in groups[0]} == {"words"}
    assert {name.split(".")[0] for name, _ in model.named_parameters() if name not in named} == {"outputs", "chains"}
    assert [{name.split(".")[1] for name in group} for group in groups[1:]] == [{str(number)} for number in range(len(model.encoders))]


def test_who_says_its_own_is_asked_and_what_is_frozen_is_in_none():
    class Own(nn.Module):
        def layer_groups(self):
            return [["a"], ["b"]]

    assert layers_of(Own(), "x.") == [["x.a"], ["x.b"]]
    config = network("cnn").model.config
    static = Classifier(replace(config, vectors_mode="static"))
    assert not any("embedding" in name for group in static.layer_groups() for name in group)
    assert torch.is_tensor(next(static.parameters()))
