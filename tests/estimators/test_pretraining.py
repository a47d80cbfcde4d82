"""Pretraining from raw text: what is learnt, the folder, going on after an interruption, the command, and what is refused."""

from __future__ import annotations

import json
import logging
import math
import random
from pathlib import Path

import pytest
from safetensors.torch import load_file

import weft
from weft.cli import main as cli
from weft.errors import InputError
from weft.estimators import masked_batches
from weft.estimators.pretrained import pretrained
from weft.estimators.pretraining import HEADS, MODELS, pretrain, resolve, split_documents, wilson

EXACT = {"precision": "fp32", "threads": 1, "device": "cpu"}
TINY = {"vocabulary_size": 60, "maximum_length": 32, "hidden_size": 16, "layers": 1, "heads": 2, "batch_tokens": 512, "checks": 1}
WORDS = [["red", "blue", "pink"], ["one", "two", "six"], ["cat", "dog", "cow"], ["run", "sit", "eat"]]
HEAD_NAMES = {
    "cls.predictions.bias", "cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.bias",
    "cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias",
}  # fmt: skip


def corpus(documents: int = 60, seed: int = 0) -> list[list[str]]:
    """Each document is of one kind of words, of which a sentence repeats one: what is hidden, and what follows, can be told."""
    draw = random.Random(seed)
    kinds = [draw.choice(WORDS) for _ in range(documents)]
    return [[" ".join([draw.choice(kind)] * draw.randint(3, 5)) for _ in range(draw.randint(3, 6))] for kind in kinds]


def settings_of(model: str) -> dict:
    return {**TINY, **({"vocabulary_size": 300} if model == "roberta" else {})}


@pytest.mark.slow
def test_hidden_words_and_neighbours_are_learnt(tmp_path):
    more = {"learning_rate": 5e-3, "dropout": 0.0, "short": 0.0, "hidden_size": 32, "batch_tokens": 1024}
    found = pretrain(corpus(800), tmp_path / "m", dev=corpus(60, 1), settings={**TINY, **more}, steps=150, **EXACT)
    metrics, intervals = found["metrics"], found["intervals"]
    assert intervals["masked_accuracy"][0] > 1.5 * metrics["unigram_accuracy"]
    assert intervals["next_accuracy"][0] > 0.6  # a stranger is of the same kind of words a quarter of the time
    checks = found["checks"]
    assert metrics["loss"] == pytest.approx(checks[-1]["loss"]) and {"train_masked", "train_next"} < set(checks[-1])


@pytest.mark.parametrize("model", MODELS)
def test_the_folder_is_a_checkpoint_with_its_heads(tmp_path, model):
    record = pretrain(corpus(), tmp_path / "m", model=model, settings=settings_of(model), steps=2, data="corpus.txt", **EXACT)
    assert set(record["metrics"]) == {"loss", "masked_accuracy", "unigram_accuracy"} | ({"next_accuracy"} if model == "bert" else set())
    read = pretrained(tmp_path / "m")
    assert read.family == model and read.config.vocabulary_size == read.tokenizer.size and read.config.maximum_positions == 32
    assert (read.config.pooler, read.config.segments, read.config.position_offset) == ((True, 2, 0) if model == "bert" else (False, 1, 2))
    arrays = load_file(tmp_path / "m" / "model.safetensors")
    heads = {name for name in arrays if not name.startswith(f"{model}.")}
    if model == "bert":  # as transformers names them, whose own checkpoint with one head is beside
        theirs = load_file(Path(__file__).parents[1] / "models" / "data" / "checkpoints" / "bert-head" / "model.safetensors")
        assert {name for name in theirs if name.startswith("cls.")} - {"cls.predictions.decoder.bias"} <= heads
        assert heads == HEAD_NAMES | {"cls.seq_relationship.weight", "cls.seq_relationship.bias"}
        assert read.tokenizer.rows(["red red"], ["cat"])[0][0] == read.tokenizer.id_of("first")
    else:
        assert heads == {f"lm_head.{part}" for part in ("bias", "dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias")}
    assert not (tmp_path / "m" / "checkpoint.safetensors").exists()
    card = (tmp_path / "m" / "README.md").read_text()
    assert "corpus.txt" in card and "2 steps" in card and set(HEADS) == set(MODELS)


def test_a_classifier_starts_from_it(tmp_path):
    pretrain(corpus(), tmp_path / "m", settings=TINY, steps=2, **EXACT)
    texts = ["red red", "cat cat", "pink", "dog dog"] * 5
    started = weft.TextClassifier(
        "minilm", {"pretrained": str(tmp_path / "m"), "maximum_length": 32}, steps=2, threads=1, precision="fp32", device="cpu"
    )
    assert len(started.fit(texts, ["a", "b"] * 10).predict(["blue"])) == 1


@pytest.mark.parametrize("model", MODELS)
def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path, monkeypatch, model):
    many = {"model": model, "settings": {**settings_of(model), "dropout": 0.2, "batch_tokens": 200}, "steps": 12, **EXACT}
    pretrain(corpus(20), tmp_path / "whole", **many)
    walk = masked_batches.MaskedBatches.epoch

    def stopped(self, number, start=0):
        for place, batch in enumerate(walk(self, number, start)):
            if self.seed is not None and number == 1 and place == 1:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(masked_batches.MaskedBatches, "epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus(20), tmp_path / "part", **many)
    assert not (tmp_path / "part" / "config.json").exists()
    monkeypatch.setattr(masked_batches.MaskedBatches, "epoch", walk)
    pretrain(corpus(20), tmp_path / "part", resume=True, **many)
    for name in ("model.safetensors", "metrics.json", "config.json", "tokenizer_config.json"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_command(tmp_path, capsys):
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join("\n".join(document) for document in corpus(30)))
    settings = [f"{name}={value}" for name, value in TINY.items()]
    arguments = ["pretrain", "bert", str(path), "--out", str(tmp_path / "m"), "--steps", "2", "--threads", "1", "--precision", "fp32"]
    assert cli.main([*arguments, "--json", "--set", *settings]) == 0
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert record["training"]["steps"] == 2 and 0 <= record["metrics"]["masked_accuracy"] <= 1
    assert "30 documents, told apart by blank-lines" in said.err
    assert cli.main([*arguments, "--set", *settings]) == 0
    assert "hidden tokens found" in capsys.readouterr().err
    assert cli.main(["pretrain", "gpt", str(path), "--out", str(tmp_path / "n")]) == 2
    assert "there is no 'gpt' to pretrain" in capsys.readouterr().err
    path.write_text("One. Two.\n")
    assert cli.main([*arguments]) == 2
    assert "corpus: has 1 documents to learn from: too few" in capsys.readouterr().err


def test_words_that_a_corpus_left_out_are_the_unknown_token(tmp_path, caplog):
    documents = [[f"{sentence} <unk> {sentence}" for sentence in document] for document in corpus(20)]
    with caplog.at_level(logging.INFO):
        pretrain(documents, tmp_path / "m", settings=TINY, steps=1, **EXACT)
    assert "words that the text gives as <unk> are the unknown token" in caplog.text
    tokenizer = pretrained(tmp_path / "m").tokenizer
    assert "<" not in tokenizer.ids and "unk" not in tokenizer.ids


def test_settings_are_checked():
    assert resolve({"hidden_size": "32", "whole_words": "true", "learning_rate": "0.01"}).flat["whole_words"] is True
    for given, said in (
        ({"hiden_size": 3}, "no such setting for this model .did you mean hidden_size"),
        ({"layers": 0}, "must be at least 1"),
        ({"mask_rate": 0}, "rate=0.0 must be above 0"),
        ({"masked": 0.9, "replaced": 0.2}, "shares of 1 together"),
        ({"dropout": 1.0}, "must be shares"),
        ({"activation": "gel"}, "did you mean gelu"),
        ({"epochs": 0}, "must be above 0"),
        ({"layers": "many"}, "a whole number"),
    ):
        with pytest.raises(InputError, match=said):
            resolve(given)


def test_what_cannot_be_is_refused(tmp_path):
    options = {"settings": TINY, "steps": 1, **EXACT}
    with pytest.raises(InputError, match="give one budget, not steps and minutes"):
        pretrain(corpus(), tmp_path / "m", minutes=1, **options)
    with pytest.raises(InputError, match="steps: must be above 0"):
        pretrain(corpus(), tmp_path / "m", **{**options, "steps": 0})
    with pytest.raises(InputError, match="too few to set some aside"):
        pretrain(corpus(3), tmp_path / "m", **options)
    with pytest.raises(InputError, match="must divide"):
        pretrain(corpus(), tmp_path / "m", **{**options, "settings": {**TINY, "heads": 3}})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="other files in it"):
        pretrain(corpus(), tmp_path / "other", **options)


def test_documents_set_aside():
    documents = [[str(number)] * (1 + number % 3) for number in range(90)]
    train, dev = split_documents(documents, True, 0)
    assert len(dev) == 3 and len(train) == 87 and all(len(document) > 1 for document in dev)
    assert (train, dev) == split_documents(documents, True, 0) != split_documents(documents, True, 1)
    assert sorted([*train, *dev]) == sorted(documents)


def test_wilsons_interval():
    """The two shares at which the observed one is 1.96 standard errors away."""
    for right, count in ((0, 5), (3, 10), (500, 1000), (7, 7)):
        for bound in wilson(right, count):
            if 1e-9 < bound < 1 - 1e-9:
                assert math.isclose(abs(right / count - bound), 1.959964 * math.sqrt(bound * (1 - bound) / count), rel_tol=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.slow
def test_minutes_are_steps_that_are_repeated(tmp_path):
    record = pretrain(corpus(), tmp_path / "m", settings=TINY, minutes=0.02, **EXACT)
    again = pretrain(corpus(), tmp_path / "n", settings=TINY, steps=record["training"]["steps"], **EXACT)
    assert again["metrics"] == record["metrics"]
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tmp_path / "n" / "model.safetensors").read_bytes()
