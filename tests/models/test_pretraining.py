"""BERT's heads and losses: by hand, and what gets a gradient (E102, E103)."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from weft.data.batch import IGNORED, Batch
from weft.data.masking import Masker, Masking
from weft.data.next_sentence import NEXT, OTHER, NextSentence, Packed
from weft.errors import InputError
from weft.estimators.masked_batches import MaskedBatches
from weft.losses import PretrainingLoss
from weft.models.bert import BertConfig
from weft.models.pretraining import Pretraining

CLS, SEP, MASK = 2, 3, 4
CONFIG = BertConfig(
    vocabulary_size=30, hidden_size=8, layers=2, heads=2, maximum_positions=20, separator=SEP, dropout=0.0, epsilon=1e-5
)  # fmt: skip


def network(**options) -> Pretraining:
    torch.manual_seed(0)
    made = Pretraining(CONFIG, **options).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.3)
    return made


def batch() -> Batch:
    """[CLS] calculus is a [MASK] … [SEP] it [MASK] … [SEP] of W12, in small; and a row of a stranger, in which nothing is hidden."""
    inputs = torch.tensor([[CLS, 10, 11, MASK, SEP, 12, MASK, SEP], [CLS, 13, SEP, 14, 15, SEP, 0, 0]])
    targets = torch.full_like(inputs, IGNORED)
    targets[0, 3], targets[0, 6], targets[0, 0], targets[1, 0] = 20, 21, NEXT, OTHER
    mask = torch.arange(8) < torch.tensor([[8], [6]])
    return Batch(inputs, mask, targets, torch.arange(2))


def test_w12_three_terms():
    """Two hidden words and a pair: −log of each, by the formula; summed, a row's loss is all three."""
    made, given = network(), batch()
    hidden, _ = made.bert(given.inputs, given.mask)
    transformed = F.layer_norm(
        F.gelu(hidden[0, [3, 6]] @ made.transform.weight.mT + made.transform.bias), (8,), made.norm.weight, made.norm.bias
    )
    words = F.log_softmax(transformed @ made.bert.tokens.mT + made.tokens.bias, -1)
    pooled = torch.tanh(hidden[:, 0] @ made.bert.pooler.weight.mT + made.bert.pooler.bias)
    pairs = F.log_softmax(pooled @ made.following.weight.mT + made.following.bias, -1)
    branch, was, true, false = -words[0, 20], -words[1, 21], -pairs[0, NEXT], -pairs[1, OTHER]
    terms = PretrainingLoss()(made, given)
    torch.testing.assert_close(terms["masked"].value, (branch + was) / 2, atol=1e-12, rtol=0)
    torch.testing.assert_close(terms["next"].value, (true + false) / 2, atol=1e-12, rtol=0)
    first = given.rows(slice(0, 1))
    summed = PretrainingLoss("sum")(made, first)
    torch.testing.assert_close(summed["masked"].value + summed["next"].value, branch + was + true, atol=1e-12, rtol=0)
    for loss in (PretrainingLoss(), PretrainingLoss("sum")):
        assert {name: term.count for name, term in loss(made, given).items()} == loss.counts(given)


def test_a_batch_without_masks_has_a_term_of_zero():
    made, given = network(), batch().rows(slice(1, 2))
    terms = PretrainingLoss()(made, given)
    assert terms["masked"].value.item() == 0.0 and terms["next"].value.item() > 0
    given.targets[:, 0] = IGNORED
    total = sum(term.value for term in PretrainingLoss()(made, given).values())
    total.backward()
    assert total.item() == 0.0 and all(parameter.grad is None or not parameter.grad.any() for parameter in made.parameters())


def test_what_is_not_asked_gives_no_gradient():
    """The logits are those of the places that are asked for; changing a target elsewhere to IGNORED is all there is to the rest."""
    made, given = network(next_sentence=False), batch()
    found = made(given)
    assert found.logits.shape == (2, 30) and found.tokens.tolist() == [20, 21] and found.following is None
    assert set(PretrainingLoss()(made, given)) == {"masked"}
    hidden, _ = made.bert(given.inputs, given.mask)
    hidden.retain_grad()
    F.cross_entropy(made.logits(hidden[given.targets > NEXT + OTHER]), found.tokens).backward()
    assert hidden.grad[0, [3, 6]].any(1).all() and not hidden.grad[0, [0, 1, 2, 4, 5, 7]].any() and not hidden.grad[1].any()


def test_token_embeddings_get_the_gradient_of_both_uses():
    made = network(next_sentence=False)
    assert [name for name, parameter in made.named_parameters() if parameter.shape[0] == 30] == ["bert.tokens", "tokens.bias"]
    assert set(made.state_dict()) >= {"tokens.bias"} and "tokens.weight" not in made.state_dict()
    PretrainingLoss()(made, batch())["masked"].total.backward()
    assert made.bert.tokens.grad[29].any()  # no input, but a word that could have been meant
    twin = copy.deepcopy(made)
    assert twin.tokens._lent[0] is twin.bert.tokens


def test_micro_batches_are_one_batch():
    made, given = network(), batch()
    whole = PretrainingLoss()(made, given)
    parts = [PretrainingLoss()(made, part) for part in given.split(2)]
    for name, term in whole.items():
        total, count = sum(part[name].total for part in parts), sum(part[name].count for part in parts)
        torch.testing.assert_close(total / count, term.value, atol=1e-12, rtol=0)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="by the pooler's output"):
        Pretraining(BertConfig(vocabulary_size=9, hidden_size=8, layers=1, heads=2, separator=3, pooler=False))
    with pytest.raises(InputError, match="'mean' or 'sum'"):
        PretrainingLoss("none")
    given = batch()
    given.targets = given.targets[:, 0]
    with pytest.raises(ValueError, match=r"targets \(B, T\)"):
        network()(given)


def walked(seed: int | None = 5, source: str = "pairs", **options) -> MaskedBatches:
    random = np.random.default_rng(0)
    documents = [[random.integers(5, 30, int(random.integers(2, 9))) for _ in range(6)] for _ in range(8)]
    room = {"maximum_length": 20, "first": CLS, "separator": SEP}
    rows = NextSentence(documents, **room) if source == "pairs" else Packed(documents, **room)
    return MaskedBatches(rows, Masker(Masking(**options), vocabulary_size=30, mask=MASK, special=range(5)), seed=seed, examples=4)


def same(ours: Batch, theirs: Batch) -> bool:
    return all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in ("inputs", "mask", "targets", "source"))


@pytest.mark.parametrize("source", ["pairs", "packed"])
def test_an_epoch_goes_on_from_any_batch(source):
    for epoch in (0, 2):
        whole = list(walked(source=source).epoch(epoch))
        assert len(whole) == walked(source=source).steps(epoch)
        rest = list(walked(source=source).epoch(epoch, 3))
        assert len(rest) == len(whole) - 3 > 0 and all(map(same, rest, whole[3:]))
    again = walked(source=source)
    assert not all(map(same, list(again.epoch(0)), list(again.epoch(1))))


def test_batches_hold_what_was_hidden_and_who_follows():
    made = walked()
    rows, labels = made.source.rows(1)
    for given in made.epoch(1):
        for row, place in enumerate(given.source.tolist()):
            length = int(given.mask[row].sum())
            assert length == len(rows[place]) and given.targets[row, 0] == labels[place]
            asked = given.targets[row, 1:length] != IGNORED
            restored = torch.where(asked, given.targets[row, 1:length], given.inputs[row, 1:length])
            assert restored.tolist() == rows[place][1:].tolist() and not (given.targets[row, length:] != IGNORED).any()
    assert (walked(source="packed").epoch(0).__next__().targets[:, 0] == IGNORED).all()


def test_fingerprints_of_walks():
    made = [walked(), walked(seed=6), walked(source="packed"), walked(rate=0.2), walked(dynamic=False)]
    assert len({each.fingerprint() for each in made}) == len(made) and walked().fingerprint() == made[0].fingerprint()
