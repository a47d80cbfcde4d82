"""Sentences to vectors: each alone is as in company, pooling written out by hand, and what is refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from checkpoints import MINILM
from tiny import WORDS

import weft
from weft.errors import InputError
from weft.estimators.sentence_encoder import SentenceEncoder

TEXTS = ["", "bake", " ".join(WORDS[:30]), "zzyx", " ".join(WORDS[3:9]), "di lo mu", "Bake bake, BAKE!"]
ENCODER = SentenceEncoder.from_pretrained(MINILM, precision="fp32", threads=1)


def hidden(text: str) -> torch.Tensor:
    """(T, H) of one text, special tokens among them."""
    ids = torch.tensor([ENCODER.tokenizer.encode(text).ids])
    return ENCODER.model(ids, torch.ones_like(ids, dtype=torch.bool))[0][0]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooled_by_hand(pooling, normalize):
    found = ENCODER.encode(TEXTS, pooling=pooling, normalize=normalize)
    assert found.shape == (len(TEXTS), 16) == (len(TEXTS), ENCODER.size) and found.dtype == np.float32
    for text, vector in zip(TEXTS, found):
        states = hidden(text)
        wanted = {"mean": states.mean(0), "cls": states[0], "max": states.max(0).values}[pooling]
        wanted = wanted / wanted.norm() if normalize else wanted
        np.testing.assert_allclose(vector, wanted.numpy(), atol=2e-6)


def test_company_and_budgets_change_nothing():
    alone = np.concatenate([ENCODER.encode([text]) for text in TEXTS])
    for budget in (1, 40, 10_000):
        np.testing.assert_allclose(ENCODER.encode(TEXTS, batch_tokens=budget), alone, atol=2e-6)
    assert ENCODER.encode([]).shape == (0, 16)


def test_bf16_points_the_same_way():
    found = SentenceEncoder.from_pretrained(MINILM, precision="bf16", threads=1).encode(TEXTS)
    assert found.dtype == np.float32
    cosines = (found * ENCODER.encode(TEXTS)).sum(1)
    assert cosines.min() > 0.999 and not np.array_equal(found, ENCODER.encode(TEXTS))


def test_long_texts_are_cut_and_counted(caplog):
    with caplog.at_level(logging.WARNING, "weft"):
        found = ENCODER.encode(TEXTS, maximum_length=8)
    assert caplog.messages == ["1 of 7 texts are longer than maximum_length=8 tokens and were cut there"]
    np.testing.assert_allclose(found[2], ENCODER.encode([" ".join(WORDS[:6])])[0], atol=2e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"^pooling: there is no 'means' \(did you mean mean\?\); there are mean, cls, max"):
        ENCODER.encode(TEXTS, pooling="means")
    for length in (0, 97):
        with pytest.raises(InputError, match=f"^maximum_length: must be from 1 to the 96 positions of this encoder, not {length}"):
            ENCODER.encode(TEXTS, maximum_length=length)
    with pytest.raises(InputError, match="batch_tokens: must be at least 1"):
        ENCODER.encode(TEXTS, batch_tokens=0)
    with pytest.raises(InputError, match="several texts are wanted"):
        ENCODER.encode("one text")
    with pytest.raises(InputError, match="there are minilm, or a folder"):
        weft.SentenceEncoder.from_pretrained("miniml")


def test_it_is_at_the_front_door():
    assert weft.SentenceEncoder is SentenceEncoder and "SentenceEncoder" in weft.__all__
