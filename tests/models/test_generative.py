"""Generative classifiers against Bayes' rule by brute force: every word of the vocabulary, every class, one step at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from weft.data.batch import Batch, Batches
from weft.errors import InputError
from weft.estimators.rungs import RUNGS
from weft.losses import CrossEntropy
from weft.models.generative import END, GenerativeClassifier, GenerativeConfig, TextOfClass, Told

ENCODERS = {
    "recurrent": {"hidden_size": 7},
    "window": {"window": 2, "hidden_size": 7},
    "transformer": {"hidden_size": 8, "heads": 2, "layers": 1, "maximum_positions": 8, "positions": "learned"},
}
V, K = 6, 3


def made(encoder: str = "recurrent", outputs: int = K, **more) -> GenerativeClassifier:
    torch.manual_seed(1)
    options = {
        "embedding_size": 5,
        "class_size": 4,
        "encoder_settings": ENCODERS[encoder],
        "encoder": encoder,
        "embedding_std": 1.0,
        **more,
    }
    model = GenerativeClassifier(GenerativeConfig(V, outputs, **options))
    model.know(torch.tensor([5.0, 1.0, 2.0])[:outputs])
    with torch.no_grad():
        model.classes.mul_(2)
    return model.eval()


def batch_of(*rows: list[int]) -> Batch:
    return next(iter(Batches([np.array(row, np.int64) for row in rows], examples=len(rows)).epoch(0)))


def by_hand(model: GenerativeClassifier, row: list[int]) -> torch.Tensor:
    """log p(text | class) + log p(class), token after token, the output layer's whole softmax for each class."""
    scores = model.prior.double().clone()
    for time, word in enumerate([*row, END]):
        read = torch.tensor([[END, *row[:time]]])
        hidden = model.encoder(read, torch.ones_like(read, dtype=torch.bool))[0][:, -1]
        for one in range(len(scores)):
            scores[one] += model.output.log_probabilities(torch.cat([hidden, model.classes[one][None]], -1))[0, word]
    return scores


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_softmax_of_joint_log_probabilities_is_bayes_rule(encoder):
    model, rows = made(encoder), [[2, 3, 4, 2], [5], [], [3, 3]]
    with torch.inference_mode():
        batch = batch_of(*rows)
        order = [rows[source] for source in batch.source.tolist()]
        joint = model.joint(batch)
        wanted = torch.stack([by_hand(model, row) for row in order])
        torch.testing.assert_close(joint, wanted, rtol=0, atol=1e-5)
        bayes = wanted.exp() / wanted.exp().sum(1, keepdim=True)  # p(text | y) p(y) / Σ p(text | y') p(y')
        torch.testing.assert_close(model(batch).softmax(-1).double(), bayes, rtol=0, atol=1e-6)
        torch.testing.assert_close(model(batch).exp().double(), bayes, rtol=0, atol=1e-6)  # a softmax already
        classes = torch.tensor([2, 0, 1, 0])
        told = -model(Told(batch, classes)).double()
        torch.testing.assert_close(told, (wanted - model.prior)[torch.arange(4), classes], rtol=0, atol=1e-5)
    assert joint.argmax(1).tolist() == wanted.argmax(1).tolist() and len(set(joint.argmax(1).tolist())) > 1


def test_every_text_there_is_sums_to_the_prior():
    """Σ over all texts of at most five words of p(text, class), and what is longer, is p(class)."""
    model = made()
    with torch.no_grad():
        model.output.bias[END] = 4.0  # texts are short
    with torch.inference_mode():
        total = torch.zeros(K, dtype=torch.float64)
        for length in range(5):
            rows = [list(row) for row in itertools.product(range(1, V), repeat=length)]
            total += model.joint(batch_of(*rows)).exp().sum(0)
    assert bool((total < model.prior.exp()).all())
    torch.testing.assert_close(total, model.prior.exp().double(), rtol=0.05, atol=0)


def test_many_words_and_classes_are_taken_in_parts(monkeypatch):
    model, batch = made(), batch_of([2, 3, 4, 2], [5, 2], [3, 3, 3])
    with torch.inference_mode():
        whole = model.joint(batch)
        monkeypatch.setattr("weft.models.generative.SCORES", 4 * V)
        torch.testing.assert_close(model.joint(batch), whole, rtol=0, atol=1e-6)


def test_priors_are_the_shares_in_training():
    model = made()
    torch.testing.assert_close(model.prior.exp(), torch.tensor([5 / 8, 1 / 8, 2 / 8]))
    model.know(torch.tensor([3, 0, 1]))  # a class that training never had counts as one that it had once
    torch.testing.assert_close(model.prior.exp(), torch.tensor([3 / 5, 1 / 5, 1 / 5]))


def test_the_loss_is_of_texts_in_training_and_of_answers_in_checks():
    model, batch = made(), batch_of([2, 3, 4, 2], [5], [3, 3])
    batch.targets = torch.tensor([2, 0, 1])
    loss = TextOfClass(K)
    term = loss(model, batch)["text"]
    assert term.count == 7 + 3 == loss.counts(batch)["text"]
    torch.testing.assert_close(term.total, model(Told(batch, batch.targets)).sum())
    answers = model(batch)
    checked = loss(lambda _: answers, batch)["cross-entropy"]
    torch.testing.assert_close(checked.value, CrossEntropy()(model, batch)["cross-entropy"].value)
    for wrong, said in ((K, f"target {K} is not a class"), (-1, "target -1 is not a class")):
        batch.targets = torch.tensor([0, wrong, 1])
        with pytest.raises(InputError, match=said):
            loss(model, batch)
    batch.targets = None
    with pytest.raises(InputError, match="one class a text"):
        loss(model, batch)


@pytest.mark.parametrize("encoder,said", [("cnn", "sees what comes after"), ("bag", "sees what comes after")])
def test_encoders_that_see_the_future_are_refused(encoder, said):
    with pytest.raises(ValueError, match=said):
        GenerativeClassifier(GenerativeConfig(V, K, encoder=encoder))
    with pytest.raises(ValueError, match="reads one way"):
        GenerativeClassifier(GenerativeConfig(V, K, encoder_settings={"bidirectional": True}))


def test_what_it_is_not_for():
    from weft import TextClassifier, distill

    rung = RUNGS["generative-lstm"]
    assert not rung.reads_pairs and not rung.has_head and rung.takes_vectors
    with pytest.raises(InputError, match="'generative-lstm' reads one text"):
        TextClassifier("generative-lstm").fit([("a", "b"), ("c", "d")], ["x", "y"])
    with pytest.raises(InputError, match="does classification, not multi-label"):
        TextClassifier("generative-lstm").fit(["a b", "c d"], [("x",), ("y",)])
    teacher = TextClassifier("naive-bayes").fit(["a b", "c d"] * 4, ["x", "y"] * 4)
    with pytest.raises(InputError, match="'generative-lstm' learns from labels alone"):
        distill(teacher, "generative-lstm", ["a b"])
    sizes = {"embedding_size": 8, "hidden_size": 8}
    fitted = TextClassifier("generative-lstm", sizes, steps=2, validation_fraction=0, threads=1).fit(["a b", "c d"] * 4, ["x", "y"] * 4)
    with pytest.raises(InputError, match="no attention to show"):
        fitted.align("a b")
