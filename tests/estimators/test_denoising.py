"""Autoencoders: what noise does to training's sources, and to nothing else (E85)."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from weft.data.batch import Batches
from weft.data.corruption import LAMPLE, Corruption, Noise, corrupt
from weft.device import Compute
from weft.errors import InputError
from weft.estimators.settings import resolve
from weft.estimators.translation_network import TranslationNetwork, Translations
from weft.estimators.translator import Translator

SMALL: dict[str, Any] = {
    "tokenizer": "whitespace", "metric": "exact_match", "hidden_size": 12, "embedding_size": 12, "attention_size": 6, "checks": 1,
    "maximum_size": 40, "batch_size": 8,
}  # fmt: skip


def texts(count: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choice("abcdefgh") for _ in range(draw.randint(4, 9))) for _ in range(count)]


def test_batches_read_other_noise_in_every_epoch_and_the_same_when_asked_again():
    rows = [np.arange(2, 12, dtype=np.int32) + i for i in range(6)]
    noise = Corruption(LAMPLE, 1, 3)
    batches = Batches(rows, pairs=rows, examples=6, seed=0, noise=noise)

    def read(epoch: int) -> dict[int, list[int]]:
        (batch,) = batches.epoch(epoch)
        assert batch.pair is not None
        for place, number in enumerate(batch.source.tolist()):
            assert batch.pair.inputs[place].tolist() == rows[number].tolist()  # targets stay clean
        return {n: batch.inputs[place][batch.mask[place]].tolist() for place, n in enumerate(batch.source.tolist())}

    first, second = read(0), read(1)
    assert first == read(0) and first != second
    for number, row in first.items():
        assert row == corrupt(rows[number].tolist(), LAMPLE, mask=1, seed=3, epoch=0, row=number)
    clean = Batches(rows, pairs=rows, examples=6, seed=0)
    assert (
        len(
            {each.fingerprint() for each in (batches, clean, Batches(rows, pairs=rows, examples=6, seed=0, noise=Corruption(LAMPLE, 1, 4)))}
        )
        == 3
    )
    assert batches.gather(np.arange(6)).inputs.tolist() == clean.gather(np.arange(6)).inputs.tolist()


def test_noise_is_of_training_alone_and_without_it_both_objectives_are_one():
    sources = texts(24)
    data = Translations(sources, [(source,) for source in sources])

    def engine(**settings: Any) -> TranslationNetwork:
        made = TranslationNetwork(
            resolve({"encoder": "recurrent", "decoder": "recurrent", "shared": True, **SMALL, **settings}, network="seq2seq"),
            Compute(torch.device("cpu"), "fp32", 1), 0,
        )  # fmt: skip
        made.build_for(data)
        return made

    def read(engine: TranslationNetwork, *, shuffled: bool) -> list[list[list[int]]]:
        return [batch.inputs.tolist() for batch in engine.batches(data, shuffled=shuffled).epoch(0)]

    plain, noisy = engine(), engine(noise_drop=0.3)
    assert read(plain, shuffled=True) == read(engine(noise_span=2.0), shuffled=True) != read(noisy, shuffled=True)
    assert read(plain, shuffled=False) == read(noisy, shuffled=False)
    assert engine(noise_mask=0.2)._noise() == Corruption(Noise(mask=0.2), 1, 0)


def test_a_denoising_autoencoder_mends_what_it_never_saw():
    """Held-out strings with a token hidden: what is given back has more of the right tokens than what was read, which has a hole (E85)."""
    draw = random.Random(1)
    starts = "abcdefgh"

    def runs(count: int) -> list[str]:  # eight letters in a row, from any of them on: what is hidden can be known
        return [" ".join(starts[(at + step) % 8] for step in range(6)) for at in (draw.randrange(8) for _ in range(count))]

    clean = runs(200)
    model = Translator(
        "rnn-attention",
        {**SMALL, "hidden_size": 32, "embedding_size": 32, "embedding_std": 0.5, "embedding_scale": 1.0, "dropout": 0.0,
         "learning_rate": 1e-2, "label_smoothing": 0.0, "noise_mask": 0.2},
        epochs=6, threads=1,
    ).fit(clean, clean, (clean[:20], clean[:20]))  # fmt: skip
    held = runs(40)
    holes = [" ".join("?" if place == 2 else token for place, token in enumerate(text.split())) for text in held]
    assert model.evaluate(holes, held)["token_error_rate"] < 1 / 6 / 2  # half of the holes at the least are mended, nothing else is broken


def test_noise_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="noise_mask: must be at least 0 and below 1"):
        Translator("rnn", {"noise_mask": 1.5}).fit(["a b"] * 4, ["b a"] * 4)
