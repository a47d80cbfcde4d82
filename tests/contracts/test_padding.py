"""Contract 1: padding and batch mates change nothing. Contract 7: what is masked cannot be seen at all. Every neural rung, every head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import BF16, CASES, FP32, HEADS, corpus, everything, network, probes, widened

from weft.device import autocast

RUNG_AND_HEAD = pytest.mark.parametrize("rung,kind", HEADS)
PADDING_ID = 0
# bf16 keeps 8 bits: one rounding is 2⁻⁹ of a number. A few of them, one a layer, may fall differently in another shape of batch.
BF16_BOUND = 2**-6


def logits(made, batch) -> torch.Tensor:
    made.model.eval()
    with torch.inference_mode(), autocast(made.compute):
        return made.model(batch).float()


@RUNG_AND_HEAD
def test_one_by_one_is_in_a_batch(rung, kind):
    made = network(rung, kind)
    batch = everything(made, probes(kind))
    together = logits(made, batch)
    assert torch.isfinite(together).all()
    for row in range(len(batch)):
        torch.testing.assert_close(logits(made, batch.rows(slice(row, row + 1))), together[row : row + 1], rtol=0, atol=1e-5)


@RUNG_AND_HEAD
def test_more_padding_changes_nothing(rung, kind):
    made = network(rung, kind)
    batch = everything(made, probes(kind))
    for columns in (1, 13):
        torch.testing.assert_close(logits(made, widened(batch, columns)), logits(made, batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rung", CASES)
def test_any_order_of_the_rows(rung):
    made = network(rung)
    batch = everything(made, probes())
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(logits(made, batch.rows(order)), logits(made, batch)[order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rung", CASES)
def test_answers_do_not_depend_on_their_company(rung):
    """The same by the way that users go: buckets of many texts, against each text alone, in the order they came in."""
    made = network(rung)
    texts = list(probes().texts) + list(corpus(count=20, seed=3).texts)
    together = made.scores(texts)
    alone = np.concatenate([made.scores([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@RUNG_AND_HEAD
def test_bf16_stays_within_its_rounding(rung, kind):
    made = network(rung, kind, compute=BF16)
    batch = everything(made, probes(kind))
    together = logits(made, batch)
    bound = BF16_BOUND * max(1.0, float(together.abs().max()))
    alone = torch.cat([logits(made, batch.rows(slice(row, row + 1))) for row in range(len(batch))])
    assert float((alone - together).abs().max()) <= bound
    assert float((logits(made, widened(batch, 13)) - together).abs().max()) <= bound
    made.compute = FP32
    exact = logits(made, batch)
    assert float((exact - together).abs().max()) <= 2 * bound  # and bf16 is the same network
    assert (exact != together).any()  # that ran in another precision at all


@RUNG_AND_HEAD
def test_what_is_masked_is_neither_seen_nor_learnt_from(rung, kind):
    made = network(rung, kind, dropout=0.0)
    data = corpus(kind)
    vocabulary = made.model.config.vocabulary_size
    garbage = vocabulary - 1
    batch = widened(everything(made, data), 3)
    for part in (batch, batch.pair or batch):
        part.inputs[part.inputs == garbage] = 2  # so that its row could only be reached through the mask
    spoilt = spoil(batch, garbage)
    outcomes = []
    for one in (batch, spoilt):
        made.model.train().zero_grad()
        terms = made.loss(data)(made.model, one)
        sum(term.value for term in terms.values()).backward()
        gradients = {name: parameter.grad.to_dense().clone() for name, parameter in made.model.named_parameters()}
        outcomes.append((logits(made, one), gradients))
    (clean, clean_gradients), (dirty, dirty_gradients) = outcomes
    assert torch.equal(clean, dirty)
    rows = {name: parameter.shape[0] for name, parameter in made.model.named_parameters() if not name.startswith("output.")}
    tables = [name for name, count in rows.items() if count == vocabulary]
    assert len(tables) == (made.settings.network.get("vectors_mode") != "static")
    for table in tables:
        assert torch.equal(dirty_gradients[table][garbage], torch.zeros_like(dirty_gradients[table][garbage]))
        assert torch.equal(dirty_gradients[table][PADDING_ID], torch.zeros_like(dirty_gradients[table][PADDING_ID]))
    for name in clean_gradients:
        torch.testing.assert_close(dirty_gradients[name], clean_gradients[name], rtol=0, atol=1e-7, msg=name)


def spoil(batch, garbage: int):
    """The batch with another token wherever nothing is real."""
    pair = None if batch.pair is None else spoil(batch.pair, garbage)
    return replace(batch, inputs=batch.inputs.masked_fill(~batch.mask, garbage), pair=pair)
