"""A checkpoint fine-tuned as a tagger: where it starts, what a frozen one keeps, folders that need no checkpoint any more, bad input."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from taggers import Case, corpus, network, sentences, tags_of
from tiny import MINILM, VECTORS

import weft
from weft import Tagger
from weft.errors import InputError
from weft.estimators.engine import Budget
from weft.estimators.pretrained import pretrained

CASE = Case("minilm")
GIVEN = sentences()
TAGS = tags_of("tags", GIVEN)["upos"]
SETTINGS: dict[str, Any] = {"pretrained": MINILM, "maximum_length": 60, "learning_rate": 1e-2}
QUICK: dict[str, Any] = {"steps": 2, "batch_size": 8, "precision": "fp32", "threads": 1, "validation_fraction": 0}


def encoder_of(made: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.model.words.encoder.state_dict().items()}


def test_it_starts_where_the_checkpoint_ended():
    start, made = pretrained(MINILM), network(CASE)
    assert set(encoder_of(made)) == {name for name in start.weights if not name.startswith("pooler.")}
    assert all(torch.equal(value, start.weights[name]) for name, value in encoder_of(made).items())
    assert made.words.pieces.to_dict() == start.tokenizer.to_dict()
    other = network(CASE, seed=1)
    assert not torch.equal(made.model.outputs["column0"].weight, other.model.outputs["column0"].weight)  # the seed's part of it


@pytest.mark.parametrize("tune", ["head", "all"])
def test_frozen_the_encoder_keeps_every_bit(tune):
    """E109: a frozen encoder leaves training bit-identical; output layer and features have learnt."""
    made = network(CASE, batch_size=8, tune=tune, learning_rate=1e-2)
    made.build_for = lambda data: None  # type: ignore[method-assign]  # it is built
    before, head, feature = encoder_of(made), made.model.outputs["column0"].weight.clone(), made.model.words.features[0].weight.clone()
    made.fit(corpus(CASE), None, Budget(steps=6))
    kept = [torch.equal(value, before[name]) for name, value in encoder_of(made).items()]
    assert all(kept) if tune == "head" else not any(kept)
    assert not torch.equal(head, made.model.outputs["column0"].weight) and not torch.equal(feature, made.model.words.features[0].weight)


def test_layer_dropout_is_the_encoders_and_dropout_the_outputs():
    made = Tagger("minilm", {**SETTINGS, "layer_dropout": 0.25, "dropout": 0.4}, **QUICK).fit(GIVEN, TAGS).engine_
    assert made.model.config.pretrained["dropout"] == 0.25 == made.model.words.encoder.dropout.p
    assert made.model.last_dropout.p == 0.4


def test_a_folder_needs_no_checkpoint_any_more(tmp_path):
    source = shutil.copytree(MINILM, tmp_path / "checkpoint")
    made = Tagger("minilm", {**SETTINGS, "pretrained": str(source), "crf": True}, **QUICK).fit(GIVEN, TAGS)
    made.save(tmp_path / "model")
    shutil.rmtree(source)
    again = weft.load(tmp_path / "model", precision="fp32", threads=1)
    assert [answer.confidences for answer in again.answers(GIVEN)] == [answer.confidences for answer in made.answers(GIVEN)]
    assert again.engine_.pretrained_facts == made.engine_.pretrained_facts == pretrained(MINILM).facts | {"name": str(source)}
    assert str(source) in Path(tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_a_sentence_of_more_pieces_than_positions_is_tagged_word_by_word():
    made = Tagger("minilm", SETTINGS, **QUICK).fit(GIVEN, TAGS)
    long = ["zzyxqqwvxxkj" * 3] * 100  # each of many pieces; read in two parts, of 60 and of 40
    assert [len(tags) for tags in made.predict([long, ["ba"]])] == [100, 1]


def test_what_the_settings_name_decides_the_model():
    """--from goes to the rung that starts from something, whatever the model is called."""
    made = Tagger(settings=SETTINGS, **QUICK).fit(GIVEN, TAGS)
    assert made.engine_.pretrained_facts["name"] == MINILM


@pytest.mark.parametrize(
    ("settings", "options", "place", "said"),
    [
        ({"maximum_length": 0}, {}, "maximum_length", "must be above 0"),
        ({"maximum_length": 400}, {}, "maximum_length", "must be at most the"),
        ({"levels": "tag:2"}, {}, "levels", "no such setting for this model"),
        ({"hidden_size": 3}, {}, "hidden_size", "no such setting for this model"),
        ({"features": "cse"}, {}, "features", "no feature 'cse'"),
        ({"pretrained": "/nowhere"}, {}, "/nowhere", "is no folder and no pretrained model"),
        ({}, {"vectors": VECTORS}, "vectors", "starts from no word vectors"),
    ],
)
def test_what_cannot_be_is_refused(settings, options, place, said):
    with pytest.raises(InputError, match=said) as caught:
        Tagger("minilm", {**SETTINGS, **settings}, **QUICK, **options).fit(GIVEN, TAGS)
    assert place in str(caught.value)


def test_a_language_model_is_no_encoder_of_words():
    folder = str(Path(MINILM).with_name("gpt2"))
    with pytest.raises(InputError, match="is a language model"):
        Tagger("minilm", {**SETTINGS, "pretrained": folder}, **QUICK).fit(GIVEN, TAGS)
