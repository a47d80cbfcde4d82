"""Classifiers over a language model: what comes from where, what is tuned, frozen and freed, the contracts, and what is refused."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
import torch
from contracts import Killed, assert_same, at, one_step, outcome
from tiny import FP32, WORDS, corpus, everything, widened

import weft
from weft import LanguageModel, TextClassifier, TextRegressor
from weft.errors import InputError
from weft.estimators.engine import Budget
from weft.estimators.rungs import PRETRAINED_RUNGS
from weft.estimators.settings import resolve
from weft.estimators.ulmfit import UlmfitNetwork, read_language

SMALL = {"embedding_size": 12, "hidden_size": 12, "block": 8, "batch_size": 4}
QUICK = {"language_epochs": 0.0, "learning_rate": 0.01}
TEXTS = [" ".join(random.Random(number).choices(WORDS, k=9)) for number in range(40)]


@pytest.fixture(scope="module")
def language(tmp_path_factory) -> dict[str, str]:
    """Folders of language models, a step each: an LSTM over words (dropouts of all kinds), a GPT over characters."""
    folders = {}
    for name, settings in {"lstm": {"layers": 3}, "gpt": {"block": 64, "layers": 1, "heads": 2, "layer_dropout": 0.1}}.items():
        made = LanguageModel(name, {**SMALL, **settings}, steps=1, validation_fraction=0, threads=1, precision="fp32")
        folders[name] = str(made.fit("\n".join(TEXTS)).save(tmp_path_factory.mktemp("language") / name))
    return folders


def network(folder: str, data=None, **settings) -> UlmfitNetwork:
    chosen = resolve(PRETRAINED_RUNGS["ulmfit"].settings, {"pretrained": folder, **QUICK, **settings}, network="ulmfit")
    made = UlmfitNetwork("classification", 3, chosen, FP32, 0)
    made.build_for(corpus() if data is None else data)
    return made


def of_language(made: UlmfitNetwork) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.model.encoder.state_dict().items()}


def test_states_are_the_language_models(language):
    """The encoder's hidden states are those from which the language model foretells, its tokenizer's ids what it reads."""
    start = read_language(language["lstm"], FP32, 0)
    made = network(language["lstm"])
    texts = [TEXTS[0], f"{WORDS[3]}\n{WORDS[4]}", "", "unheard of"]
    rows = made.tokenizer.encode_ids(texts)
    for text, row in zip(texts, rows, strict=True):
        assert row.tolist() == start.spelling.prompt(text).tolist() and row[0] == start.spelling.end
        ids = torch.from_numpy(row)[None]
        with torch.inference_mode():
            hidden, _ = made.model.eval().encoder(ids, torch.ones_like(ids, dtype=torch.bool))
            state = start.model.eval().start(everything_of(row))
            torch.testing.assert_close(start.model.scores(hidden[:, -1]), state.scores)


def everything_of(row: np.ndarray):
    from weft.data.batch import Batch

    ids = torch.from_numpy(row)[None]
    return Batch(ids, torch.ones_like(ids, dtype=torch.bool), None, torch.zeros(1, dtype=torch.int64))


def test_every_stage_feeds_the_next(language):
    """From the folder as it is; tuned on the texts, all of the encoder moves, the same way each time, and foretells them better."""
    start = read_language(language["lstm"], FP32, 0)
    untuned, tuned, again = (of_language(network(language["lstm"], language_epochs=epochs)) for epochs in (0, 4, 4))
    for name, value in untuned.items():
        assert torch.equal(value, start.model.state_dict()[name])
        assert torch.equal(tuned[name], again[name]) and not torch.equal(tuned[name], value), name
    texts = list(corpus().texts)
    before = float(np.mean(start.losses(texts)))
    start.tune(texts, 4, learning_rate=4e-3, schedule="slanted-triangular", layer_decay=2.6)
    assert float(np.mean(start.losses(texts))) < before
    assert all(torch.equal(value, start.model.state_dict()[name]) for name, value in tuned.items())


@pytest.mark.parametrize("name", ["lstm", "gpt"])
def test_what_is_frozen_stays_and_layers_are_freed_one_an_epoch(name, language):
    data = corpus()
    made = network(language[name], maximum_length=64, tune="head", batch_size=8)
    before = of_language(made)
    made.fit(data, None, Budget(epochs=2))
    assert all(torch.equal(value, before[key]) for key, value in of_language(made).items())
    groups = [[key.removeprefix("encoder.") for key in group] for group in made.model.layer_groups()]
    assert sorted(key for group in groups for key in group) == sorted(before) and len(groups) == (4 if name == "lstm" else 2)
    made = network(language[name], maximum_length=64, batch_size=8)  # gradual, the rung's own
    made.fit(data, None, Budget(epochs=1))
    moved = [any(not torch.equal(of_language(made)[key], before[key]) for key in group) for group in groups]
    assert moved == [False] * (len(groups) - 1) + [True]


def test_pooling_and_head_are_those_of_the_paper(language):
    made = network(language["lstm"])
    assert made.model.pooling.output_size == 3 * 12
    assert [tuple(layer.weight.shape) for layer in made.model.head if isinstance(layer, torch.nn.Linear)] == [(50, 36), (3, 50)]
    batch = everything_of(np.array([3]))
    hidden, mask = made.model.eval().encoder(batch.inputs, batch.mask)
    assert all(torch.equal(part, hidden[:, 0]) for part in made.model.pooling(hidden, mask).split(12, -1))  # n = 1: three equal parts


@pytest.mark.parametrize("name", ["lstm", "gpt"])
def test_padding_and_company_change_nothing(name, language):
    made = network(language[name], maximum_length=40)
    batch = everything(made, corpus())
    with torch.inference_mode():
        together = made.model.eval()(batch)
        torch.testing.assert_close(made.model(widened(batch, 5, fill=3)), together, rtol=0, atol=1e-5)
        for row in (0, 5, 31):
            torch.testing.assert_close(made.model(batch.rows(slice(row, row + 1))), together[row : row + 1], rtol=0, atol=1e-5)


def test_micro_batches_are_one_batch(language):
    data = corpus(count=11)
    whole, part = (one_step(network(language["lstm"], dropout=0.0, layer_dropout=0.0), data, parts) for parts in (1, 4))
    assert_same(whole, part)


def test_killed_and_resumed(language, tmp_path):
    """The first stage runs again, the same; the second goes on where it was."""
    data, dev, path = corpus(), corpus(count=12, seed=1), tmp_path / "checkpoint"
    options = {"language_epochs": 1.0, "batch_size": 7, "checks": 4}
    whole = outcome(network(language["lstm"], **options), data, dev, 12)
    with pytest.raises(Killed):
        outcome(network(language["lstm"], **options), data, dev, 12, path, callbacks=[at(7, Killed())])
    assert outcome(network(language["lstm"], **options), data, dev, 12, path, resume=True) == whole


def test_saved_without_its_language_model(language, tmp_path):
    folder = shutil.copytree(language["lstm"], tmp_path / "language")
    texts, labels = [*TEXTS, ""], ["x", "y", "z", "y"] * 10 + ["x"]
    fitted = TextClassifier("cnn", {"pretrained": str(folder), **QUICK}, steps=3, threads=1, precision="fp32").fit(texts, labels)
    saved = fitted.save(tmp_path / "model")
    shutil.rmtree(folder)
    loaded = weft.load(saved, threads=1, precision="fp32")
    assert loaded.model == "ulmfit" and loaded.engine_.pretrained_facts["family"] == "language-model"
    assert np.array_equal(loaded.decision_function(texts), fitted.decision_function(texts))
    again = loaded.save(tmp_path / "again")
    assert (again / "tokenizer.json").read_bytes() == (saved / "tokenizer.json").read_bytes()
    with pytest.raises(InputError, match="no attention to show"):
        loaded.align("a b")


def test_pairs_numbers_and_several_labels(language):
    settings = {"pretrained": language["lstm"], **QUICK}
    options = {"steps": 2, "threads": 1, "validation_fraction": 0}
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    assert TextClassifier("ulmfit", settings, **options).fit(pairs, ["x", "y"] * 20).predict_proba(pairs[:3]).shape == (3, 2)
    assert TextRegressor("ulmfit", settings, **options).fit(TEXTS, [0.5, 2.0] * 20).predict(TEXTS[:3]).shape == (3,)
    several = TextClassifier("ulmfit", settings, **options).fit(TEXTS, [("x",), ("x", "y")] * 20)
    assert several.predict_proba(TEXTS[:3]).shape == (3, 2)


def test_the_command_line_finds_the_rung(language):
    from weft.cli.train import fine_tuned_model

    assert fine_tuned_model("classification", None, language["lstm"]) == "ulmfit"
    assert fine_tuned_model("classification", None, "minilm") == "minilm"
    assert fine_tuned_model("classification", "minilm", language["lstm"]) == "minilm"  # as it was told, and refused when it is read


def test_unknown_words_are_counted(language, caplog):
    network(language["lstm"], data=type(corpus())(["unheard of words", *TEXTS[:2]], None, np.array([0, 1, 2])))
    assert "3 of 21 tokens are unknown to the language model" in caplog.text


def test_what_cannot_be_is_named(language, tmp_path):
    counted = LanguageModel("ngram").fit("a b c\n" * 9).save(tmp_path / "counted")
    labelled = TextClassifier("naive-bayes").fit(["a b", "c d"] * 4, ["x", "y"] * 4).save(tmp_path / "labelled")
    for source, said in (("", "names no language model"), (counted, "by counts"), (labelled, "holds a TextClassifier"), ("gone", "gone")):
        with pytest.raises(InputError, match=said):
            network(str(source))
    for longest in (0, 65):
        with pytest.raises(InputError, match="maximum_length: must be from 1 to the 64 tokens"):
            network(language["gpt"], maximum_length=longest)
    with pytest.raises(InputError, match="language_rate: must be above 0"):
        network(language["lstm"], language_rate=0)
    with pytest.raises(InputError, match="'ulmfit' learns from labels alone"):
        weft.distill(TextClassifier("naive-bayes").fit(["a b", "c d"] * 4, ["x", "y"] * 4), "ulmfit", ["a b"])
