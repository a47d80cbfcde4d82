"""ELMo: who sees what, by gradients that are exactly zero; likelihoods by brute force; the mixture of layers; characters once a word."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from weft.data.batch import Batches
from weft.data.lexicon import Words
from weft.models.elmo import BothDirections, CharacterEncoder, Elmo, ElmoConfig, ElmoEmbedding, ElmoLayers, Highway, LayerMixture
from weft.nn.recurrent import Recurrent

SENTENCES = [["the", "cat", "saw", "the", "Dog"], ["dogs"], ["a", "cat", "sat"], []]


def made(kind: type = Elmo, **more):
    torch.manual_seed(0)
    words = Words.train(SENTENCES, lowercase=False)
    options = {"size": 6, "filters": 4, "widths": (1, 3), "character_size": 5, "output": "full", **more}
    model = kind(ElmoConfig(words.size, len(words.characters), **options)).eval()
    rows, lexicon = words.encode(SENTENCES)
    return model, Batches(rows, examples=9, lexicon=lexicon).gather(np.arange(len(rows)))


def test_a_word_never_sees_itself():
    """∂ forwards before k / ∂ word k = ∂ backwards after k / ∂ word k = 0, exactly, at every layer; on the other side it is not."""
    model, batch = made(ElmoLayers, layers=2)
    x = model.words(batch).detach()[:1].requires_grad_()
    mask = batch.mask[:1]
    ahead, back = model.read(x, mask)
    for layer in range(2):
        for k in range(5):
            for states, unseen, seen in ((ahead, slice(0, k + 1), slice(k + 1, None)), (back, slice(k + 2, None), slice(0, k + 2))):
                for part, nothing in ((unseen, True), (seen, False)):
                    (gradient,) = torch.autograd.grad(states[layer][0, part].sum(), x, retain_graph=True)
                    assert (not gradient[0, k].any()) == nothing


def test_in_a_stack_whose_layers_exchange_directions_it_does():
    """From the second layer on: what is before k has been told of k from behind."""
    torch.manual_seed(0)
    stack = Recurrent(cell="lstm", input_size=6, hidden_size=6, layers=2, bidirectional=True)
    x = torch.randn(1, 5, 6, requires_grad=True)
    hidden, _ = stack(x, torch.ones(1, 5, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(hidden[0, :2, :6].sum(), x)
    assert gradient[0, 3].any()


@pytest.mark.parametrize("output", ["full", "adaptive", "hierarchical"])
def test_likelihoods_are_those_of_the_words_one_by_one(output):
    model, batch = made(output=output)
    found = model(batch)
    ids, at = batch.forms.word[batch.inputs], 0
    with torch.inference_mode():
        for row, length in enumerate(batch.mask.sum(1).tolist()):
            alone = batch.rows(slice(row, row + 1))
            ahead, back = model.network.read(model.network.words(alone)[:, : max(length, 0)], alone.mask[:, :length])
            words = [0, *ids[row, :length].tolist(), 0]
            for k in range(length + 1):
                p = model.output.log_probabilities(ahead[-1][0, k : k + 1])[0, words[k + 1]]
                q = model.output.log_probabilities(back[-1][0, k + 1 : k + 2])[0, words[k]]
                torch.testing.assert_close(-p, found.forward[at], rtol=1e-5, atol=1e-5)
                torch.testing.assert_close(-q, found.backward[at], rtol=1e-5, atol=1e-5)
                at += 1
    assert at == len(found.forward) == len(found.backward)


def test_two_terms_whose_sums_micro_batches_share():
    model, batch = made()
    loss = BothDirections()
    whole, parts = loss(model, batch), [loss(model, part) for part in batch.split(2)]
    assert list(whole) == ["forward", "backward"] and whole["forward"].count == 9 + 4
    for name, term in whole.items():
        torch.testing.assert_close(term.total, sum(part[name].total for part in parts))
        assert term.count == sum(part[name].count for part in parts)
    assert whole["forward"].total.item() != whole["backward"].total.item()


def test_what_stands_beside_a_word_changes_what_is_known_of_it_and_padding_does_not():
    model, batch = made(ElmoLayers)
    layers = model.layers(batch)
    assert [tuple(layer.shape) for layer in layers] == [(4, 5, 12)] * 3
    for row in range(4):
        alone = batch.rows(slice(row, row + 1))
        for together, own in zip(layers, model.layers(alone), strict=True):
            torch.testing.assert_close(together[row : row + 1, : own.shape[1]], own, rtol=0, atol=1e-6)
    assert not any(layer[~batch.mask].any() for layer in layers)
    assert torch.equal(layers[0][0, 0], layers[0][0, 3])  # "the" and "the"
    assert (layers[1][0, 0] != layers[1][0, 3]).any() and torch.equal(layers[0][0, 0, :6], layers[0][0, 0, 6:])


def test_characters_are_read_once_for_each_word(monkeypatch):
    model, batch = made(ElmoLayers)
    asked = []
    read = CharacterEncoder.forward
    monkeypatch.setattr(CharacterEncoder, "forward", lambda self, characters: asked.append(len(characters)) or read(self, characters))
    model.layers(batch)
    assert asked == [1 + 7]  # padding, and the, cat, saw, Dog, dogs, a, sat


def test_characters_by_hand():
    model, batch = made(ElmoLayers)
    encoder = model.characters
    row = batch.forms.characters[1]
    row = row[row != 0]
    x = F.embedding(row, encoder.embedding.weight)
    maxima = []
    for part in encoder.filters.parts:
        width = part.width
        padded = F.pad(x, (0, 0, width // 2, width // 2))
        spans = torch.stack([padded[t : t + width] for t in range(len(row))])  # (W, width, D)
        maxima.append(torch.einsum("twd,fdw->tf", spans, part.weight.reshape(4, width, -1).transpose(1, 2)).add(part.bias).amax(0))
    pooled = torch.cat(maxima).relu()
    for highway in encoder.highways:
        share = 1 / (1 + torch.exp(-(highway.gate.weight @ pooled + highway.gate.bias)))
        pooled = share * (highway.change.weight @ pooled + highway.change.bias).clamp(min=0) + (1 - share) * pooled
    torch.testing.assert_close(encoder(batch.forms.characters)[1], encoder.project(pooled), rtol=1e-5, atol=1e-5)
    open_gate = Highway(3)
    torch.nn.init.constant_(open_gate.gate.bias, -100.0)
    x = torch.randn(2, 3)
    torch.testing.assert_close(open_gate(x), x)


def test_the_mixture_sums_to_one_and_begins_as_the_mean():
    mixture, layers = LayerMixture(3), [torch.full((1, 2, 4), value) for value in (1.0, 2.0, 6.0)]
    torch.testing.assert_close(mixture(layers), torch.full((1, 2, 4), 3.0))
    with torch.no_grad():
        mixture.weights.copy_(torch.tensor([math.log(1), math.log(2), math.log(5)]))
        mixture.scale.fill_(2.0)
    torch.testing.assert_close(mixture.shares(), torch.tensor([1 / 8, 2 / 8, 5 / 8]))
    torch.testing.assert_close(mixture(layers), torch.full((1, 2, 4), 2 * (1 + 4 + 30) / 8))
    with pytest.raises(ValueError, match="3 layers got 2"):
        mixture(layers[:2])


def test_as_an_embedding_it_stays_what_it_was():
    model, batch = made(ElmoEmbedding, dropout=0.5)
    asked = model.train()(batch)
    assert torch.equal(asked, model(batch))  # no dropout in what is not trained
    asked.sum().backward()
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert model.mixture.weights.grad.abs().sum() > 0 and model.mixture.scale.grad is not None


def test_what_cannot_be_is_named():
    model, batch = made(ElmoLayers)
    batch.forms = None
    with pytest.raises(ValueError, match="the batch has none"):
        model.layers(batch)
    with pytest.raises(ValueError, match="no table of embeddings"):
        made(output="tied")
    with pytest.raises(ValueError, match="layers=0 must be at least 1"):
        made(ElmoLayers, layers=0)
