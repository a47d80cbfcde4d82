"""ELMo from a text to its folder, and beside the words of taggers and classifiers: what is learnt, what stays, the contracts, refusals."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
import torch
from contracts import Killed, assert_same, at, one_step
from tiny import WORDS

import weft
from weft import Tagger, TextClassifier
from weft.cli.main import main
from weft.errors import InputError
from weft.estimators import elmo_pretraining
from weft.estimators.elmo import read_elmo
from weft.estimators.elmo_pretraining import ElmoNetwork, pretrain, resolve, sentences_of
from weft.estimators.engine import Budget
from weft.estimators.network import Examples, Network
from weft.estimators.settings import resolve as settings_of
from weft.estimators.tag_network import Tagged

SMALL = {"size": 6, "filters": 4, "widths": (1, 3), "character_size": 4, "batch_tokens": 60, "output": "full"}
TINY = {"embedding_size": 6, "hidden_size": 6}
SENTENCES = [random.Random(number).choices(WORDS, k=number % 7 + 2) for number in range(48)]
DOCUMENTS = [[" ".join(sentence)] for sentence in SENTENCES]
TAGS = [["A" if word < "m" else "B" for word in sentence] for sentence in SENTENCES]
TEXTS = [" ".join(sentence) for sentence in SENTENCES]
LABELS = ["x" if sentence[0] < "m" else "y" for sentence in SENTENCES]
FAST = {"threads": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("elmo") / "elmo"
    pretrain(DOCUMENTS, found, settings={**SMALL, "learning_rate": 0.02}, steps=30, **FAST)
    return found


def test_it_learns_in_both_directions_and_its_folder_is_read_back(folder):
    record = json.loads((folder / "metrics.json").read_text())
    assert record["metrics"]["perplexity"] == pytest.approx(np.exp(record["metrics"]["loss"] / 2))
    checks = record["checks"]
    assert checks[-1]["train_forward"] < checks[0]["train_forward"] and checks[-1]["train_backward"] < checks[0]["train_backward"]
    start = read_elmo(folder)
    assert start.config.widths == (1, 3) and start.words.size == start.config.vocabulary_size
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "metrics.json", "model.safetensors", "tokenizer.json"
    ]  # fmt: skip


@pytest.mark.parametrize("output", ["full", "adaptive"])
def test_killed_and_resumed(output, tmp_path, monkeypatch):
    options = {"settings": {**SMALL, "dropout": 0.3, "output": output, "checks": 3}, "steps": 9, **FAST}
    pretrain(DOCUMENTS, tmp_path / "whole", **options)
    fit = ElmoNetwork.fit
    killing = lambda self, *given, **named: fit(self, *given, **{**named, "callbacks": [at(5, Killed())]})  # noqa: E731
    monkeypatch.setattr(ElmoNetwork, "fit", killing)
    with pytest.raises(Killed):
        pretrain(DOCUMENTS, tmp_path / "killed", **options)
    monkeypatch.setattr(ElmoNetwork, "fit", fit)
    pretrain(DOCUMENTS, tmp_path / "killed", resume=True, **options)
    for name in ("model.safetensors", "tokenizer.json", "metrics.json", "config.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name


def test_micro_batches_are_one_batch():
    from tiny import FP32

    def made() -> ElmoNetwork:
        network = ElmoNetwork(resolve({**SMALL, "dropout": 0.0, "batch_tokens": 1000}), FP32, 0)
        network.build_for(SENTENCES[:11])
        return network

    whole, part = (one_step(made(), SENTENCES[:11], parts) for parts in (1, 4))
    assert_same(whole, part)


def test_a_tagger_reads_it_and_leaves_it_as_it_was(folder, tmp_path):
    settings = {**TINY, "elmo": str(folder), "features": "case"}
    made = Tagger("bilstm", settings, steps=4, **FAST).fit(SENTENCES, TAGS)
    beside, start = made.engine_.model.words.elmo, read_elmo(folder)
    for name, value in beside.network.state_dict().items():
        assert torch.equal(value, start.weights[name]), name
    assert beside.mixture.weights.abs().sum() > 0 and beside.mixture.scale != 1
    assert made.engine_.words.characters.tokens == start.words.characters.tokens
    copied = shutil.copytree(made.save(tmp_path / "model"), tmp_path / "copy")
    loaded = weft.load(copied, **FAST)
    unseen = [*SENTENCES[:3], ["never", "seen"], []]
    assert loaded.predict(unseen) == made.predict(unseen)
    assert loaded.save(tmp_path / "again").exists() and loaded.engine_.describe()["elmo"] == start.facts
    apart = [answer for sentence in unseen for answer in made.predict([sentence])]
    assert apart == made.predict(unseen)


def test_a_tagger_sees_a_words_company(folder):
    """The same unknown word, told apart by what stands around it, though the network above looks at it alone."""
    made = Tagger("window", {**TINY, "elmo": str(folder), "window": 0, "features": ""}, steps=2, **FAST).fit(SENTENCES, TAGS)
    rows = [["zzz", "bake", "bake"], ["zzz", "mura", "tidi"]]
    batch = made.engine_.batches(Tagged(rows), shuffled=False).gather(np.arange(2))
    with torch.inference_mode():
        states = made.engine_.model.eval().states(batch)
    assert (states[0, 0] != states[1, 0]).any()


def test_a_classifier_reads_it_by_words_as_they_are_written(folder, tmp_path):
    settings = {**TINY, "elmo": str(folder), "pooling": "attentive"}
    made = TextClassifier("lstm", settings, steps=4, **FAST).fit(TEXTS, LABELS)
    network, start = made.engine_, read_elmo(folder)
    for name, value in network.model.elmo.network.state_dict().items():
        assert torch.equal(value, start.weights[name]), name
    assert network.model.elmo.mixture.weights.abs().sum() > 0
    asked = [*TEXTS[:4], "", "Never seen, and Baké!", "zzyx qqwv"]
    loaded = weft.load(made.save(tmp_path / "model"), **FAST)
    assert np.array_equal(loaded.decision_function(asked), made.decision_function(asked))
    np.testing.assert_allclose([made.decision_function([text])[0] for text in asked], made.decision_function(asked), atol=1e-5)
    first, other = made.decision_function(["zzyx", "bakx"])
    assert first != other  # unknown to the vocabulary, but spelt otherwise
    assert made.align("bake mura").source == ["bake", "mura"]
    assert made.engine_.describe()["elmo"] == loaded.engine_.describe()["elmo"] == start.facts


def test_a_classifiers_word_is_its_id_and_its_characters(folder):
    from tiny import FP32

    network = Network("classification", 2, settings_of({"encoder": "recurrent", **TINY, "elmo": str(folder)}), FP32, 0)
    network.build(TEXTS, False)
    texts = ["Bake mura, BAKE", "", "mura bake"]
    batch = network.batches(Examples(texts, None, np.zeros(3, np.int64)), shuffled=False).gather(np.arange(3))
    plain = network.tokenizer.encode_ids(texts)
    for row, ids in enumerate(plain):
        assert batch.forms.word[batch.inputs[row, : len(ids)]].tolist() == ids.tolist() and int(batch.mask[row].sum()) == len(ids)
    bake, also = batch.inputs[0, 0], batch.inputs[0, 3]
    assert batch.forms.word[bake] == batch.forms.word[also] and (batch.forms.characters[bake] != batch.forms.characters[also]).any()
    network.fit(Examples(TEXTS, None, np.arange(48) % 2), None, Budget(steps=1))


def test_words_are_what_stands_between_blanks():
    assert sentences_of([["a b  c", ""], ["d"]], 2) == [["a", "b"], ["c"], ["d"]]


def test_the_command_line(tmp_path, capsys, folder):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TEXTS), encoding="utf-8")
    small = [f"{name}={value if name != 'widths' else '1,3'}" for name, value in SMALL.items()]
    arguments = ["pretrain", "elmo", str(corpus), "--documents", "lines", "--steps", "2", "--threads", "1", "--set", *small]
    assert main([*arguments, "--out", str(tmp_path / "elmo"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["perplexity"] > 1
    assert main([*arguments, "--out", str(tmp_path / "told")]) == 0
    assert "perplexity, a direction" in (told := capsys.readouterr().err) and "--elmo" in told
    assert main(["pretrain", "elmoo", str(corpus), "--out", str(tmp_path / "no")]) == 2
    assert "there is no 'elmoo' to pretrain (did you mean elmo?)" in capsys.readouterr().err
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(TEXTS, LABELS)), encoding="utf-8")
    train = ["train", str(data), "--elmo", str(tmp_path / "elmo"), "--steps", "2", "--threads", "1", "--out", str(tmp_path / "model")]
    assert main([*train, "--set", "filters=4", "embedding_size=4"]) == 0
    assert main(["train", str(data), "--elmo", str(data), "--steps", "2", "--out", str(tmp_path / "none")]) == 2
    assert "is not a model folder" in capsys.readouterr().err


def test_what_cannot_be_is_named(folder, tmp_path):
    for settings, said in (
        ({"tokenizer": "characters"}, "ELMo reads words"),
        ({"ngrams": 2, "buckets": 100}, "not of n-grams"), ({"encoder": "bag"}, "a bag takes the mean"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            TextClassifier("lstm", {**settings, "elmo": str(folder)}, steps=1).fit(TEXTS, LABELS)
    with pytest.raises(InputError, match="for single texts"):
        TextClassifier("lstm", {"elmo": str(folder)}, steps=1).fit(list(zip(TEXTS, TEXTS)), LABELS)
    with pytest.raises(InputError, match="must not see"):
        TextClassifier("generative-lstm", {"elmo": str(folder)}, steps=1).fit(TEXTS, LABELS)
    with pytest.raises(InputError, match="join=concat"):
        Tagger("bilstm", {"elmo": str(folder), "join": "sum", "feature_size": 100}, steps=1).fit(SENTENCES, TAGS)
    other = TextClassifier("naive-bayes").fit(TEXTS, LABELS).save(tmp_path / "other")
    with pytest.raises(InputError, match="holds a TextClassifier, not an ELMo"):
        Tagger("bilstm", {"elmo": str(other)}, steps=1).fit(SENTENCES, TAGS)
    for settings, said in (
        ({"taste": 1}, "taste: no such setting"),
        ({"size": 0}, "size: must be at least 1"), ({"dropout": 1.0}, "dropout: must be at least"),
        ({"output": "tied"}, "there is no 'tied'"), ({"epochs": 0}, "epochs: must be"), ({"widths": (0, 2)}, "widths: must be at least 1"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            resolve(settings)
    with pytest.raises(InputError, match="give one budget"):
        pretrain(DOCUMENTS, tmp_path / "m", steps=1, epochs=1)
    with pytest.raises(InputError, match="no sentence to learn from"):
        pretrain([[""]] * 9, tmp_path / "m", dev=DOCUMENTS, steps=1)
    assert elmo_pretraining.TRAINING["monitor"] == "loss"
