"""Public checkpoints: the hidden states that `transformers` gives with the same weights (tests/support/make_checkpoints.py), both
directions of the tables, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from weft.errors import InputError
from weft.models.bert import Bert
from weft.models.huggingface import FAMILIES, Config, config_from, config_to, family_of, network_of, weights_from, weights_to

CHECKPOINTS = Path(__file__).with_name("data") / "checkpoints"
NAMES = ("bert", "bert-other", "bert-head", "roberta", "distilbert", "gpt2")
SEPARATOR = 4


def read(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    folder = CHECKPOINTS / name
    config, expected = (json.loads((folder / file).read_text()) for file in ("config.json", "expected.json"))
    return config, load_file(folder / "model.safetensors"), expected


def taken(name: str) -> tuple[str, Config, dict[str, torch.Tensor], list[str]]:
    config, arrays, _ = read(name)
    family = family_of(config, "config.json")
    ours = config_from(family, config, arrays, SEPARATOR, "config.json")
    return family, ours, *weights_from(family, ours, arrays, "model.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_as_transformers(name):
    _, config, state, _ = taken(name)
    expected = read(name)[2]
    network = network_of(config).eval()
    network.load_state_dict(state)
    ids, mask = torch.tensor(expected["ids"]), torch.tensor(expected["mask"])
    with torch.no_grad():
        hidden, _ = network(ids, mask) if isinstance(network, Bert) else network.encoder(network.embedded(ids), mask)
    torch.testing.assert_close(hidden[mask], torch.tensor(expected["hidden"])[mask], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name):
    family, config, state, left = taken(name)
    theirs, arrays, _ = read(name)
    back = weights_to(family, config, state)
    kept = {key.removeprefix(FAMILIES[family].prefix): value for key, value in arrays.items()}
    assert set(kept) == set(back) | set(left), "both ways the same weights"
    assert all(torch.equal(kept[key], value) for key, value in back.items())
    assert bool(left) == (name == "bert-head") and all(one.startswith("cls.") for one in left)
    said = config_to(family, config)
    assert all(theirs[key] == value for key, value in said.items() if key not in ("architectures", "n_inner"))
    again = config_from(family, said, back, SEPARATOR, "config.json")
    assert again == config


def test_norms_by_their_old_names_and_half_precision():
    config, arrays, _ = read("bert")
    ours = config_from("bert", config, arrays, SEPARATOR, "c")
    old = {f"bert.{key}".replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): value for key, value in arrays.items()}
    state, _ = weights_from("bert", ours, old, "m")
    assert all(torch.equal(state[name], value) for name, value in weights_from("bert", ours, arrays, "m")[0].items())
    constant = {**arrays, "embeddings.position_ids": torch.arange(18)[None]}
    assert weights_from("bert", ours, constant, "m")[1] == []  # nothing of another head
    halves, _ = weights_from("bert", ours, {key: value.bfloat16() for key, value in arrays.items()}, "m")
    assert all(value.dtype == torch.float32 for value in halves.values())


def spoilt(change: Any) -> None:
    config, arrays, _ = read("bert")
    change(arrays)
    weights_from("bert", config_from("bert", config, arrays, SEPARATOR, "config.json"), arrays, "model.safetensors")


@pytest.mark.parametrize(
    "change,said",
    [
        (lambda a: a.pop("encoder.layer.1.output.dense.bias"), "lacks 1 weights of a bert of 2 layers: encoder.layer.1.output.dense.bias"),
        (lambda a: [a.pop(name) for name in list(a) if "layer.0.attention" in name], "lacks 10 weights.*and 7 more"),
        (lambda a: a.update({"encoder.layer.2.output.dense.bias": torch.zeros(8)}), "holds 1 weights .* encoder.layer.2.output.dense.bias"),
        (
            lambda a: a.update({"encoder.layer.0.attention.self.key.weight": torch.zeros(8, 9)}),
            "encoder.layer.0.attention.self.key.weight has the shape 8 × 9, and by the config it is 8 × 8",
        ),
        (lambda a: a.update({"pooler.dense.bias": torch.zeros(())}), "pooler.dense.bias has the shape of a single number"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, said):
    with pytest.raises(InputError, match=f"^model.safetensors: .*{said}"):
        spoilt(change)


@pytest.mark.parametrize(
    "change,said",
    [
        ({"model_type": "llama"}, "of the family 'llama' .model_type.; weft reads bert, roberta, distilbert, gpt2"),
        ({"model_type": "brt"}, "did you mean bert"),
        ({"model_type": None}, "of the family None"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'; weft reads checkpoints of 'absolute'"),
        ({"is_decoder": True}, "is_decoder True"),
        ({"hidden_act": "silu"}, "the activation 'silu'"),
        ({"num_hidden_layers": None}, "num_hidden_layers None; a number"),
        ({"hidden_size": "8"}, "hidden_size '8'"),
        ({"num_attention_heads": 2.5}, "num_attention_heads 2.5"),
    ],
)
def test_configs_that_are_something_else_are_refused(change, said):
    config, arrays, _ = read("bert")
    with pytest.raises(InputError, match=f"^config.json: .*{said}"):
        config_from(family_of({**config, **change}, "config.json"), {**config, **change}, arrays, SEPARATOR, "config.json")


def test_what_a_family_does_not_have_is_not_written():
    _, config, state, _ = taken("bert")
    with pytest.raises(ValueError, match="a roberta has position_offset=2, this network 0"):
        config_to("roberta", config)
    with pytest.raises(ValueError, match=r"no place for pooler\.bias, pooler\.weight, segments"):
        weights_to("distilbert", replace(config, pooler=False), state)
    with pytest.raises(ValueError, match="not 'sigmoid'"):
        config_to("bert", replace(config, activation="sigmoid"))
    with pytest.raises(ValueError, match="a gpt2 is a language model, and this network is none"):
        config_to("gpt2", config)
    _, gpt, _, _ = taken("gpt2")
    with pytest.raises(ValueError, match="a gpt2 has positions=learned, this network rotary"):
        config_to("gpt2", replace(gpt, encoder_settings={**gpt.encoder_settings, "positions": "rotary"}))


def test_what_a_gpt2_does_otherwise_is_refused():
    config, arrays, _ = read("gpt2")
    for change in ({"layer_norm_epsilon": 1e-6}, {"scale_attn_by_inverse_layer_idx": True}, {"tie_word_embeddings": False}):
        with pytest.raises(InputError, match=f"has {next(iter(change))}"):
            config_from("gpt2", {**config, **change}, arrays, 4, "config.json")
    state = {name: value for name, value in arrays.items() if "h.1.attn.c_attn.weight" not in name}
    with pytest.raises(InputError, match=r"lacks 1 weights of a gpt2 of 2 layers: h\.1\.attn\.c_attn\.weight"):
        weights_from("gpt2", config_from("gpt2", config, arrays, 4, "c"), state, "m")
    turned = {name: value.T if name.endswith("c_fc.weight") else value for name, value in arrays.items()}
    with pytest.raises(InputError, match=r"mlp\.c_fc\.weight has the shape 32 × 8, and by the config it is 8 × 32"):
        weights_from("gpt2", config_from("gpt2", config, arrays, 4, "c"), turned, "m")
