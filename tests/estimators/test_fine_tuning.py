"""Fine-tuning a checkpoint: where it starts, what a frozen one keeps, pairs in one row, folders that need no checkpoint any more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import MINILM, VECTORS, WORDS, corpus, network

import weft
from weft import TextClassifier, TextRegressor
from weft.compare.runs import fingerprint
from weft.data.examples import Example, Splits, Table
from weft.errors import InputError
from weft.estimators.engine import Budget
from weft.estimators.pretrained import pretrained

DATA = corpus()
LABELS = [f"class{target}" for target in DATA.targets]
SETTINGS: dict[str, Any] = {"pretrained": MINILM, "maximum_length": 90, "learning_rate": 1e-2}
QUICK: dict[str, Any] = {"steps": 2, "batch_size": 8, "precision": "fp32", "threads": 1, "validation_fraction": 0}


def encoder_of(made: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.model.encoder.state_dict().items()}


def test_it_starts_where_the_checkpoint_ended():
    start, made = pretrained(MINILM), network("minilm")
    assert set(encoder_of(made)) == {name for name in start.weights if not name.startswith("pooler.")}
    assert all(torch.equal(value, start.weights[name]) for name, value in encoder_of(made).items())
    assert made.tokenizer.to_dict() == start.tokenizer.to_dict()
    other = network("minilm", seed=1)
    assert not torch.equal(made.model.head[-1].weight, other.model.head[-1].weight)  # the seed's part of it


def test_layer_dropout_is_the_encoders_and_dropout_the_heads():
    made = TextClassifier("minilm", {**SETTINGS, "layer_dropout": 0.25, "dropout": 0.4}, **QUICK).fit(DATA.texts, LABELS).engine_
    assert made.model.config.encoder_settings["dropout"] == 0.25 == made.model.encoder.dropout.p
    assert made.model.head[0].p == 0.4


@pytest.mark.parametrize("tune", ["head", "all"])
def test_frozen_the_encoder_keeps_every_bit(tune):
    """E109: a frozen encoder leaves training bit-identical; the head alone has learnt."""
    made = network("minilm", batch_size=8, tune=tune, learning_rate=1e-2)
    made.build_for = lambda data: None  # type: ignore[method-assign]  # it is built
    before, head = encoder_of(made), made.model.head[-1].weight.clone()
    made.fit(DATA, None, Budget(steps=6))
    kept = [torch.equal(value, before[name]) for name, value in encoder_of(made).items()]
    assert all(kept) if tune == "head" else not any(kept)
    assert not torch.equal(head, made.model.head[-1].weight)


def test_layers_below_learn_more_slowly():
    made = network("minilm", batch_size=32, layer_decay=10.0, optimizer="sgd", schedule="constant", warmup=0, clip=None, dropout=0.0)
    groups = made.model.layer_groups()
    assert [len(group) > 0 for group in groups] == [True] * 3  # embeddings and two blocks
    made.build_for = lambda data: None  # type: ignore[method-assign]
    plain = network("minilm", batch_size=32, optimizer="sgd", schedule="constant", warmup=0, clip=None, dropout=0.0)
    plain.build_for = lambda data: None  # type: ignore[method-assign]
    start = dict(made.model.state_dict())
    start = {name: value.clone() for name, value in start.items()}
    for one in (made, plain):
        one.settings.train["weight_decay"] = 0.0
        one.fit(DATA, None, Budget(steps=1))
    for depth, group in enumerate(groups):
        for name in group:
            moved, wanted = (one.model.state_dict()[name] - start[name] for one in (made, plain))
            torch.testing.assert_close(moved, wanted * 10.0 ** (depth - len(groups)), rtol=1e-2, atol=1e-7)


def test_pairs_are_one_row():
    made = network("minilm", "pair")
    data = corpus("pair")
    batch = next(iter(made.batches(data, shuffled=False)))
    assert batch.pair is None
    number = int(batch.source[0])
    row = batch.inputs[0][batch.mask[0]].tolist()
    assert row == made.tokenizer.rows([data.texts[number]], [data.pairs[number]])[0].tolist()
    assert row.count(made.tokenizer.id_of("separator")) == 2
    assert made.model.encoder.segment_ids(batch.inputs)[0][batch.mask[0]].max() == 1
    swapped = made.scores(data.pairs, data.texts)
    assert not np.allclose(swapped, made.scores(data.texts, data.pairs), atol=1e-4)  # the order is seen


def test_any_model_name_gives_way_and_the_folder_needs_no_checkpoint(tmp_path):
    shutil.copytree(MINILM, tmp_path / "start")
    settings = {**SETTINGS, "pretrained": str(tmp_path / "start")}
    made = TextClassifier(settings=settings, **QUICK).fit(DATA.texts, LABELS)
    folder = made.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "start")
    config = json.loads((folder / "config.json").read_text())
    assert config["model"] == "minilm" and config["engine"]["pretrained"]["family"] == "bert"
    assert "| pretrained |" in (folder / "README.md").read_text()
    loaded = weft.load(folder, precision="fp32", threads=1)
    assert np.array_equal(loaded.decision_function(DATA.texts), made.decision_function(DATA.texts))
    again = json.loads((loaded.save(tmp_path / "again") / "config.json").read_text())
    assert again["engine"] == config["engine"]


def test_numbers_are_learnt_too():
    targets = [float(len(text.split())) for text in DATA.texts]
    settings = {**SETTINGS, "dropout": 0.0, "layer_dropout": 0.0}
    made = TextRegressor("minilm", settings, steps=150, batch_size=8, precision="fp32", threads=1, validation_fraction=0)
    assert made.fit(DATA.texts, targets).score(DATA.texts, targets) > 0.8


@pytest.mark.parametrize(
    "settings,options,said",
    [
        ({"maximum_length": 97}, {}, "maximum_length: must be at most the 96 positions of .*minilm, not 97"),
        ({"maximum_length": 2}, {}, "maximum_length: must leave room for the special tokens"),
        ({"embedding_size": 8}, {}, "embedding_size: no such setting for this model"),
        ({"encoder": "cnn"}, {}, "encoder: no such setting for this model"),
        ({"tokenizer": "bpe"}, {}, "tokenizer: no such setting for this model"),
        ({"pretrained": "nothing"}, {}, "nothing: is no folder and no pretrained model"),
        ({}, {"vectors": VECTORS}, "vectors: 'minilm' starts from no word vectors"),
    ],
)
def test_what_does_not_fit_is_refused(settings, options, said):
    with pytest.raises(InputError, match=said):
        TextClassifier("minilm", {**SETTINGS, **settings}, **QUICK, **options).fit(DATA.texts, LABELS)


def test_as_long_as_the_encoder_reads(caplog):
    made = TextClassifier("minilm", {**SETTINGS, "maximum_length": 0}, **QUICK).fit(DATA.texts, LABELS)
    assert np.isfinite(made.decision_function([" ".join(WORDS * 3)])).all()
    assert "1 of 1 texts are longer than maximum_length=96 tokens and were cut there" in caplog.messages


def test_another_checkpoint_in_the_same_folder_is_another_run(tmp_path):
    """What a ladder keeps holds for the weights that it started from."""
    shutil.copytree(MINILM, tmp_path / "start")
    table = Table([Example(text, label) for text, label in zip(DATA.texts, LABELS)], "classification", "tiny", {})
    splits = Splits(table, table, None)

    def digest() -> str:
        return fingerprint(splits, "minilm", 0, {"pretrained": str(tmp_path / "start")}, 5, {})

    before = digest()
    assert before == digest()
    weights = Path(tmp_path / "start" / "model.safetensors")
    arrays = load_file(weights)
    save_file({**arrays, "pooler.dense.bias": arrays["pooler.dense.bias"] + 1}, weights)
    assert digest() != before
    assert fingerprint(splits, "minilm", 0, {}, 5, {}) != before
