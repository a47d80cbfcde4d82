"""Contract 5: saved and loaded, a model answers the same, bit for bit. Every neural rung, every head."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import CASES, HEADS, corpus, probes, rung_of, small, vectors_of

import weft
from weft import TextClassifier, TextRegressor
from weft.saving import read_model

NAMES = np.array(["sour", "sweet", "bitter"])


def fitted(rung: str, kind: str, precision: str = "fp32"):
    """An estimator after two steps on the tiny corpus, and texts to ask it."""
    data, asked = corpus(kind), probes(kind)
    together = [list(one.texts) if one.pairs is None else list(zip(one.texts, one.pairs)) for one in (data, asked)]
    labels = {
        "classes": lambda: NAMES[data.targets].tolist(),
        "pair": lambda: NAMES[data.targets].tolist(),
        "labels": lambda: [tuple(NAMES[row > 0].tolist()) for row in data.targets],
        "number": lambda: (3 + 10 * data.targets.astype(float)).tolist(),
    }[kind]()
    kind_of = TextRegressor if kind == "number" else TextClassifier
    estimator = kind_of(
        rung_of(rung), small(rung), vectors=vectors_of(rung), steps=2, validation_fraction=0, precision=precision, threads=1
    )
    return estimator.fit(together[0], labels), together[1]


def answers(estimator, texts) -> list:
    if isinstance(estimator, TextRegressor):
        return [estimator.predict(texts)]
    return [estimator.decision_function(texts), estimator.predict_proba(texts), estimator.predict(texts)]


@pytest.mark.parametrize("rung,kind", HEADS)
def test_loaded_is_as_saved(rung, kind, tmp_path):
    estimator, texts = fitted(rung, kind)
    estimator.save(tmp_path / "model")
    loaded = weft.load(tmp_path / "model", precision="fp32", threads=1)
    assert type(loaded) is type(estimator)
    for before, after in zip(answers(estimator, texts), answers(loaded, texts)):
        assert before.dtype == after.dtype and before.shape == after.shape
        assert before.tolist() == after.tolist()
    assert loaded.parameters_ == estimator.parameters_
    again = loaded.save(tmp_path / "again")  # what was loaded says all that was said, so it can be saved again
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


@pytest.mark.parametrize("rung", CASES)
def test_in_bf16_too(rung, tmp_path):
    estimator, texts = fitted(rung, "classes", precision="bf16")
    loaded = weft.load(estimator.save(tmp_path / "model"), precision="bf16", threads=1)
    assert np.array_equal(loaded.decision_function(texts), estimator.decision_function(texts))


@pytest.mark.parametrize("tokenizer", ["words", "whitespace", "characters", "bytes", "hashing", "bpe", "wordpiece"])
def test_whatever_cuts_the_texts(tokenizer, tmp_path):
    data, asked = corpus(), [*probes().texts, "naïve café — 東京 \ud800", "A" * 600]
    estimator = TextClassifier("cnn", small("cnn", tokenizer=tokenizer), steps=2, validation_fraction=0, precision="fp32", threads=1)
    estimator.fit(list(data.texts), data.targets.tolist())
    loaded = weft.load(estimator.save(tmp_path / "model"), precision="fp32", threads=1)
    assert np.array_equal(loaded.decision_function(asked), estimator.decision_function(asked))


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def test_the_folder_holds_numbers_and_text_only(tmp_path):
    estimator, _ = fitted("bilstm", "classes")
    folder = estimator.save(tmp_path / "model")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "config.json", "metrics.json", "model.safetensors", "tokenizer.json"]
    for name in ("config.json", "metrics.json", "tokenizer.json"):
        json.loads((folder / name).read_text(encoding="utf-8"), parse_constant=refuse)
    saved = read_model(folder)
    assert set(saved.arrays) == set(estimator.engine_.arrays())
    assert all(array.dtype == np.float32 for array in saved.arrays.values())
