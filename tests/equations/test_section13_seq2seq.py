"""E81–E84: what a decoder reads and gives, and how often attention and the encoder are asked. E83 is under tests/generation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from weft.data.batch import Batch, Batches
from weft.estimators.translator import Translator
from weft.generation.search import Beam, Greedy, Limits, generate
from weft.losses import TargetLoss
from weft.models.seq2seq import Seq2Seq, Seq2SeqConfig
from weft.nn.scores import SCORES

BOTH = {"cell": "gru", "hidden_size": 4, "bidirectional": True}


def network(**decoder: Any) -> Seq2Seq:
    torch.manual_seed(0)
    given = {"cell": "gru", "hidden_size": 8, "attention_size": 5, **decoder}
    config = Seq2SeqConfig(9, 7, encoder="recurrent", encoder_settings=BOTH, decoder="recurrent", decoder_settings=given, embedding_size=6)
    return Seq2Seq(config).eval()


def pairs(model: Seq2Seq, lengths: list[tuple[int, int]]) -> Batch:
    """Sources of n tokens, targets of m and the end symbol."""
    draw = np.random.default_rng(0)
    sources = [draw.integers(2, 9, n).astype(np.int64) for n, _ in lengths]
    targets = [np.append(draw.integers(2, 7, m - 1), model.end_symbol) for _, m in lengths]
    return Batches(sources, pairs=targets, examples=len(lengths)).gather(np.arange(len(lengths)))


@contextmanager
def counted(model: Seq2Seq) -> Iterator[dict[str, int]]:
    """How many scores of a query and a key are worked out for each source, and how often the encoder runs."""
    counts = {"scores": 0, "encoder": 0}

    def scored(module: Any, given: Any, scores: torch.Tensor) -> None:
        counts["scores"] += scores[0].numel()

    def encoded(*_: Any) -> None:
        counts["encoder"] += 1

    hooks = [model.encoder.register_forward_hook(encoded)]
    if model.decoder.attentive:
        hooks.append(model.decoder.attention.score.register_forward_hook(scored))
    yield counts
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("attend", ["before", "after"])
@pytest.mark.parametrize("score", [name for name in SCORES if name != "scaled-dot"])  # which the fused kernel works out
def test_e84_attention_asks_n_times_m_scores_and_the_encoder_once(score, attend):
    model = network(attention=score, attend=attend)
    for n, m in ((5, 3), (5, 6), (10, 3)):
        with counted(model) as counts, torch.inference_mode():
            model(pairs(model, [(n, m)]))
        assert counts == {"scores": n * m, "encoder": 1}


@pytest.mark.parametrize("condition", ["initial", "first", "every"])
def test_e84_a_fixed_context_asks_none(condition):
    model = network(attention="none", condition=condition)
    with counted(model) as counts, torch.inference_mode():
        model(pairs(model, [(5, 6)]))
    assert counts == {"scores": 0, "encoder": 1}


@pytest.mark.parametrize(("search", "hypotheses"), [(Greedy(), 1), (Beam(3), 3)])
def test_e84_a_search_too(search, hypotheses):
    model, (n, m) = network(attention="additive", attend="before"), (5, 4)
    with counted(model) as counts, torch.inference_mode():
        found = generate(model, pairs(model, [(n, m)]), search, count=1, limits=Limits(minimum=m, maximum=m))
    assert len(found[0][0].ids) == m
    # the first step has one hypothesis a source; nothing can end before m, where what comes next is not asked any more
    assert counts == {"scores": n * (1 + hypotheses * (m - 1)), "encoder": 1}


def test_e82_the_shifted_pair_by_hand():
    model = network(attention="additive")
    batch = pairs(model, [(3, 3), (4, 1)])
    target, start, end = batch.pair.inputs, model.start_symbol, model.end_symbol
    assert target[0, 2] == end and target[1, 0] == end  # what is to be given
    assert model.shifted(batch.pair)[0].tolist() == [start, *target[0, :2].tolist()]  # what is read
    assert model.shifted(batch.pair)[1, 0] == start
    with torch.inference_mode():
        term = TargetLoss()(model, batch)["cross-entropy"]
        by_step = 0.0
        for row, length in enumerate((3, 1)):
            state, read = model.start(batch.rows(slice(row, row + 1))), start
            for true in target[row, :length].tolist():
                step = model.step(torch.tensor([read]), state)
                by_step -= float(step.logits.log_softmax(-1)[0, true])
                state, read = step.state, true
    assert float(term.total) == pytest.approx(by_step, abs=1e-4) and float(term.count) == 4


@pytest.mark.slow
def test_e81_reversal_of_short_digit_strings():
    draw = random.Random(0)
    texts = [" ".join(draw.choices("0123456789", k=draw.randint(1, 6))) for _ in range(6000)]
    turned = [" ".join(reversed(text.split())) for text in texts]
    settings = {
        "tokenizer": "whitespace", "maximum_size": 50, "shared": False, "tied": "none", "metric": "exact_match", "label_smoothing": 0.0,
        "dropout": 0.0, "embedding_size": 32, "embedding_std": 0.5, "embedding_scale": 1.0, "encoder_hidden_size": 64,
        "decoder_hidden_size": 128, "learning_rate": 3e-3, "checks": 2,
    }  # fmt: skip
    seen = set(texts[:5000])
    new = [place for place in range(5000, 6000) if texts[place] not in seen]
    made = Translator("rnn", settings, epochs=15, threads=1).fit(texts[:5000], turned[:5000])
    answers = made.predict([texts[place] for place in new], search=Greedy())
    assert np.mean([answer == turned[place] for answer, place in zip(answers, new, strict=True)]) >= 0.95
