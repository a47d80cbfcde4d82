"""EQUATIONS.md, sections 12 and 16: chain rule, perplexity, GPT (E79, E80, E105; W13, W15), against all strings, closed forms, counts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from weft.data.batch import Batch
from weft.data.streams import joined, strided
from weft.estimators.ngram_model import KneserNey
from weft.losses import NextToken
from weft.models.language_model import LanguageModel, LanguageModelConfig

ENCODERS = {
    "recurrent": {"hidden_size": 8},
    "window": {"hidden_size": 8, "window": 2},
    "transformer": {"hidden_size": 8, "layers": 1, "heads": 2, "layer_dropout": 0.0, "maximum_positions": 16, "positions": "learned"},
}


def model(vocabulary: int, encoder: str = "recurrent", **options) -> LanguageModel:
    torch.manual_seed(0)
    config = LanguageModelConfig(
        vocabulary, encoder=encoder, encoder_settings=ENCODERS[encoder], embedding_size=8, **{"embedding_std": 1.0, **options}
    )
    return LanguageModel(config).double().eval()


def losses(made: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    """ids (B, T + 1) → −log p of all but the first (B, T)."""
    inputs = ids[:, :-1]
    with torch.no_grad():
        return made(Batch(inputs, torch.ones_like(inputs, dtype=torch.bool), ids[:, 1:], torch.arange(len(ids)))).losses.view(inputs.shape)


# E79: chain rule


@pytest.mark.parametrize("encoder", ENCODERS)
def test_e79_the_probabilities_of_all_texts_tend_to_one(encoder):
    """V = 3 and an end, 3: of all texts up to a length, and exactly one with those that have not ended there."""
    made, end = model(4, encoder, embedding_std=0.3), 3
    before = 0.0
    for longest in range(1, 7):
        texts = torch.tensor(list(itertools.product(range(3), repeat=longest)))
        starts = torch.full((len(texts), 1), end)
        open_ = float(losses(made, torch.cat([starts, texts], 1)).sum(1).neg().exp().sum())
        ended = sum(
            float(
                losses(made, torch.tensor([[end, *text, end] for text in itertools.product(range(3), repeat=length)]))
                .sum(1)
                .neg()
                .exp()
                .sum()
            )
            for length in range(longest)
        )
        assert ended + open_ == pytest.approx(1.0, abs=1e-9)
        assert before < ended < 1
        before = ended
    assert before > 0.6


def test_e79_no_smoothing_beats_the_raw_counts_on_their_own_text():
    ids = np.random.default_rng(0).integers(0, 6, 300)
    raw = 0.0
    padded = [-1, -1, *ids.tolist()]
    for place in range(len(ids)):
        context = padded[place : place + 2]
        followed = [padded[other + 2] for other in range(len(ids)) if padded[other : other + 2] == context]
        raw -= math.log(followed.count(ids[place]) / len(followed))
    assert -KneserNey.fit([ids], vocabulary_size=6, order=3).log_probabilities(ids).sum() > raw


# E80: perplexity


@pytest.mark.parametrize("encoder", ENCODERS)
def test_e80_one_by_one_is_all_at_once_and_edits_change_nothing_before_them(encoder):
    made, ids = model(9, encoder), torch.randint(0, 9, (2, 12), generator=torch.Generator().manual_seed(1))
    whole = losses(made, ids)
    for place in range(1, 12):
        torch.testing.assert_close(losses(made, ids[:, : place + 1])[:, -1], whole[:, place - 1], atol=1e-12, rtol=0)
    for place in (4, 8):
        other = ids.clone()
        other[:, place:] = (other[:, place:] + 1) % 9
        assert torch.equal(losses(made, other)[:, : place - 1], whole[:, : place - 1])


def test_e80_w15_the_perplexity_of_a_half_a_quarter_and_an_eighth_is_four():
    class Given(torch.nn.Module):
        def forward(self, batch):
            found = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64).log().neg()
            return type("Scored", (), {"losses": found, "hidden": found, "dropped": found})

    ids = torch.zeros(1, 3, dtype=torch.long)
    (term,) = NextToken()(Given(), Batch(ids, ids == 0, ids, torch.arange(1))).values()
    assert math.exp(term.value) == pytest.approx(4.0, abs=1e-12)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_e80_a_uniform_model_has_the_perplexity_v(encoder):
    made = model(37, encoder)
    for name, parameter in made.named_parameters():
        if name.startswith(("embedding", "output")):
            torch.nn.init.zeros_(parameter)
    ids = torch.randint(0, 37, (3, 10))
    assert math.exp(float(losses(made, ids).mean())) == pytest.approx(37.0, abs=1e-9)


def test_e80_windows_that_overlap_are_the_whole_text_to_who_sees_no_further():
    """A window of two words before: any stride that leaves two of them gives every token's exact log-probability."""
    made, ids = model(9, "window"), np.random.default_rng(2).integers(0, 9, 50)
    whole = losses(made, torch.from_numpy(ids)[None])[0]
    for stride in (1, 4, 6):
        found = strided(ids, window=8, stride=stride)
        parts = [
            losses(made, torch.from_numpy(np.append(inputs, targets[-1:]))[None])[0][first:]
            for inputs, targets, first in zip(*found, strict=True)
        ]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-12, rtol=0)


def test_e80_the_end_counts_and_what_begins_does_not():
    rows = joined([np.array([4, 5]), np.array([6])], end=9)
    found = strided(rows, window=100, stride=100)
    assert found.inputs[0].tolist() == [9, 4, 5, 9, 6] and found.targets[0].tolist() == [4, 5, 9, 6, 9]


# E105: GPT


def gpt(vocabulary: int, length: int, size: int, layers: int, heads: int) -> LanguageModel:
    settings = {"hidden_size": size, "layers": layers, "heads": heads, "positions": "learned", "maximum_positions": length}
    config = LanguageModelConfig(vocabulary, encoder="transformer", encoder_settings=settings, embedding_size=size)
    with torch.device("meta"):
        return LanguageModel(config)


@pytest.mark.parametrize(
    ("shape", "heads", "expected"),
    [
        ((40478, 512, 768, 12), 12, 116_534_784 + 2 * 768),  # GPT-1 has no final norm
        ((50257, 1024, 1600, 48), 25, 1_557_611_200),
        ((50257, 2048, 12288, 96), 96, 174_604_259_328),
        ((66, 64, 128, 4), 4, 66 * 128 + 64 * 128 + 4 * (12 * 128**2 + 13 * 128) + 2 * 128),
    ],
)
def test_e105_w13_parameters_on_the_meta_device(shape, heads, expected):
    vocabulary, length, size, layers = shape
    made = gpt(vocabulary, length, size, layers, heads)
    assert sum(parameter.numel() for parameter in made.parameters()) == expected
    assert expected == vocabulary * size + length * size + layers * (12 * size**2 + 13 * size) + 2 * size


def test_e105_the_gradient_of_tied_weights_is_the_sum_of_both_uses():
    ids = torch.randint(0, 11, (2, 9), generator=torch.Generator().manual_seed(3))
    inputs = ids[:, :-1]
    batch = Batch(inputs, torch.ones_like(inputs, dtype=torch.bool), ids[:, 1:], torch.arange(2))
    tied, untied = model(11, "transformer"), model(11, "transformer", output="full")
    with torch.no_grad():
        untied.load_state_dict({**tied.state_dict(), "output.weight": tied.embedding.weight})
        tied.embedding.weight[0] = untied.embedding.weight[0] = 0.0
        untied.output.weight[0] = 0.0
    for made in (tied, untied):
        made(batch).losses.sum().backward()
    both = untied.embedding.weight.grad + untied.output.weight.grad
    read = torch.ones(11, dtype=torch.bool)
    read[0] = False  # row 0 of embeddings of their own is padding, which learns nothing
    torch.testing.assert_close(tied.embedding.weight.grad[read], both[read], atol=1e-12, rtol=0)
    assert untied.embedding.weight.grad.any() and untied.output.weight.grad.any()
