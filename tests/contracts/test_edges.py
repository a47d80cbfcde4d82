"""Contract 10: what cannot be used is refused by name, what can be used however odd gives a result. Every neural rung."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import CASES, CLASSES, FP32, HEADS, UNKNOWN, WORDS, corpus, everything, network, probes, resolved, rung_of, small, vectors_of

from weft import TextClassifier, TextRegressor
from weft.data.batch import Batch
from weft.errors import DivergedError, InputError
from weft.estimators.engine import Budget
from weft.estimators.network import Examples
from weft.estimators.rungs import PRETRAINED_RUNGS
from weft.losses import LOSSES

EVERY = pytest.mark.parametrize("rung", CASES)
ODD = ["", " ", " ".join(UNKNOWN), WORDS[0], "\n\t", "\x00", "\ud83d", "?" * 50, WORDS[0] * 500]


def estimator(rung: str, **options):
    options = {"steps": 2, "batch_size": 8, "precision": "fp32", "threads": 1, **options}
    return TextClassifier(rung_of(rung), small(rung), vectors=vectors_of(rung), **options)


@pytest.fixture(scope="module", params=CASES)
def fitted(request):
    data = corpus()
    return estimator(request.param).fit(list(data.texts), [f"class{target}" for target in data.targets])


def test_odd_texts_get_an_answer(fitted):
    probabilities = fitted.predict_proba(ODD)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    assert set(fitted.predict(ODD)) <= set(fitted.classes_)
    for text, together in zip(ODD, probabilities):
        np.testing.assert_allclose(fitted.predict_proba([text])[0], together, rtol=0, atol=1e-5)


def test_an_empty_text_is_as_one_of_padding_alone(fitted):
    np.testing.assert_allclose(fitted.decision_function([""]), fitted.decision_function(["", *corpus().texts])[:1], rtol=0, atol=1e-5)


def test_unknown_words_are_alike(fitted):
    """Two unknown words are the same to the model. Exempt: hashed n-grams (bag), which see words that no vocabulary holds."""
    one, other = fitted.decision_function([UNKNOWN[0], UNKNOWN[1]])
    cut = fitted.engine_.settings.tokenizer
    if not cut.get("buckets") or cut["ngrams"] in (None, 1):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_nothing_asked_nothing_answered(fitted):
    assert fitted.predict([]).shape == (0,)
    assert fitted.predict_proba([]).shape == (0, CLASSES)
    assert fitted.decision_function([]).shape == (0, CLASSES)


def test_what_is_no_list_of_texts_is_refused(fitted):
    for texts, place in (
        ("one text", "one text"),
        ([3], "text 1"),
        (["a", None], "text 2"),
        ([("a", "b")], "single texts"),
        ([b"bytes"], "text 1"),
    ):
        with pytest.raises(InputError, match=place):
            fitted.predict(texts)


def test_a_label_that_training_never_saw_counts_as_wrong(fitted, caplog):
    texts = list(corpus().texts[:4])
    truth = fitted.predict(texts).tolist()
    assert fitted.score(texts, truth) == 1.0
    with caplog.at_level(logging.WARNING, "weft"):
        assert fitted.score(texts, [*truth[:3], "never seen"]) == 0.75
    assert "1 of 4" in caplog.text and "never seen" in caplog.text


@EVERY
def test_training_needs_texts_labels_and_two_classes(rung):
    texts, labels = ["a b", "c d", "e f", "g h"] * 4, ["x", "y"] * 8
    cases = [
        ([], [], "nothing to train on"),
        (texts, labels[:-1], "16 texts but 15 labels"),
        (texts, ["x"] * 16, "two classes"),
        (texts, [*labels[:-1], None], "label 16"),
        (texts, [*labels[:-1], math.nan], "label 16"),
        ([*texts[:-1], 7], labels, "text 16"),
        ("a text", ["x"], "one text"),
        ([*texts[:-1], ("a", "b")], labels, "text 16"),
    ]
    for given, answers, said in cases:
        with pytest.raises(InputError, match=said):
            estimator(rung).fit(given, answers)
    with pytest.raises(InputError, match=r"label 2 .*inf" if (rung, "number") in HEADS else "does classification, not regression"):
        TextRegressor(rung_of(rung), small(rung), vectors=vectors_of(rung), steps=1).fit(["a b", "c d"], [1.0, math.inf])


@EVERY
def test_trains_on_what_is_odd(rung):
    """Texts of nothing, of one word, of one and the same word; one example a batch."""
    texts = ["", WORDS[0], "", WORDS[1], " ".join([WORDS[2]] * 30), WORDS[0], "", "!"] * 3
    made = estimator(rung, batch_size=1, steps=24, validation_fraction=0).fit(texts, ["x", "y", "x", "y", "y", "y", "x", "y"] * 3)
    assert all(math.isfinite(value) for check in made.history_.checks for value in check.values())
    assert np.isfinite(made.predict_proba(texts)).all()


@EVERY
def test_trains_where_no_text_says_anything(rung):
    made = estimator(rung, validation_fraction=0, steps=4)
    if vectors_of(rung) is not None:
        with pytest.raises(InputError, match="holds none of the 0 words of the data"):
            made.fit([""] * 8, ["x", "y"] * 4)
        return
    made.fit([""] * 8, ["x", "y"] * 4)
    assert np.isfinite(made.predict_proba(["", "anything"])).all()


@EVERY
def test_one_row_and_one_step(rung):
    made = network(rung)
    for data in (Examples([WORDS[0]], None, np.zeros(1, np.int64)), Examples([""], None, np.zeros(1, np.int64))):
        batch = everything(made, data)
        assert batch.inputs.shape[0] == 1
        for training in (True, False):
            made.model.train(training).zero_grad()
            (term,) = made.loss(data)(made.model, batch).values()
            term.value.backward()
            assert torch.isfinite(term.value)
            assert all(torch.isfinite(parameter.grad).all() for parameter in made.model.parameters())


@EVERY
def test_wrong_shapes_are_named(rung):
    made = network(rung)
    batch = everything(made, probes())
    with pytest.raises(ValueError, match=r"not \(11, \d+\) and \(11, \d+\)"):
        made.model(replace(batch, mask=batch.mask[:, :-1]))
    with pytest.raises(ValueError, match="at least one step"):
        made.model(Batch(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.bool), None, torch.arange(2)))
    with pytest.raises(ValueError, match=r"not \(11, \d+, 1\)"):
        made.model(replace(batch, inputs=batch.inputs[..., None]))
    if (rung, "pair") in HEADS and rung not in PRETRAINED_RUNGS:  # whose pairs are one row
        with pytest.raises(ValueError, match="compares two texts"):
            network(rung, "pair").model(batch)


@EVERY
def test_labels_that_are_no_classes_are_named(rung):
    made = network(rung)
    batch = everything(made, corpus())
    for wrong in (CLASSES, -1):
        batch.targets[3] = wrong
        with pytest.raises(InputError, match=rf"target {wrong} is not a class: ids go from 0 to {CLASSES - 1}"):
            made.loss(corpus())(made.model, batch)
    for loss in ("binary", "squared"):
        with pytest.raises(InputError, match="shape"):
            LOSSES[loss]()(made.model, replace(batch, targets=torch.zeros(7)))


@EVERY
def test_a_loss_that_is_no_number_is_named_by_step_and_batch(rung):
    data = corpus()
    made = network(rung, batch_size=7)  # five batches an epoch

    def poison(moment):
        if moment.step == 7:
            with torch.no_grad():
                list(made.model.parameters())[-1].fill_(math.nan)  # what is added to its answers

    with pytest.raises(DivergedError, match="loss is nan at step 7, batch 2") as caught:
        made.fit(data, None, Budget(steps=12), callbacks=[poison])
    assert (caught.value.step, caught.value.batch) == (7, 2)


@EVERY
@pytest.mark.parametrize(
    "setting,value",
    [("taste", 1), ("hidden_sise", 20), ("learning_rate", "fast"), ("dropout", 1.5), ("pooling", "median"), ("embedding_size", 0)],
)
def test_settings_that_do_not_exist_or_fit_are_named(rung, setting, value):
    from weft.estimators.network import Network

    with pytest.raises(InputError, match=rf"{setting}|{value}"):
        Network("classification", 2, resolved(rung, **{setting: value}), FP32, 0).build(["a b"], False)
