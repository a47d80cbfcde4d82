"""Contracts 1, 5, 7 and 10 for every encoder by itself: vectors in, vectors out, a mask that may get shorter on the way."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields

import pytest
import torch
from tiny import BF16, ENCODER_CASES, make_small, ragged

from weft.device import autocast
from weft.models.encoders import ENCODERS, make_encoder
from weft.nn import masks

LENGTHS = (4, 1, 9, 0, 6, 2)
EVERY = pytest.mark.parametrize("name,settings", ENCODER_CASES, ids=[f"{name}-{number}" for number, (name, _) in enumerate(ENCODER_CASES)])
ONE_WAY = [settings for name, settings in ENCODER_CASES if name == "recurrent" and not settings.get("bidirectional")]


@EVERY
def test_one_by_one_is_in_a_batch(name, settings):
    encoder = make_small(name, settings)
    x, mask = ragged(LENGTHS)
    with torch.inference_mode():
        hidden, shown = encoder(x, mask)
        assert hidden.shape == (*shown.shape, encoder.output_size)
        for row, length in enumerate(LENGTHS):
            own = max(1, length)
            alone, alone_shown = encoder(x[row : row + 1, :own], mask[row : row + 1, :own])
            count = int(alone_shown.sum())
            assert int(shown[row].sum()) == count
            assert bool(shown[row, :count].all())
            torch.testing.assert_close(hidden[row, :count], alone[0, :count], rtol=0, atol=1e-5)


@EVERY
def test_what_is_hidden_after_encoding_is_zero(name, settings):
    hidden, shown = make_small(name, settings)(*ragged(LENGTHS))
    assert not hidden[~shown].any()


@EVERY
@pytest.mark.parametrize("garbage", [1e4, math.inf, math.nan])
def test_what_is_masked_is_neither_seen_nor_learnt_from(name, settings, garbage):
    encoder = make_small(name, settings)
    x, mask = ragged(LENGTHS)
    outcomes = []
    for value in (0.0, garbage):
        encoder.zero_grad()
        given = x.masked_fill(~mask[..., None], value).requires_grad_()
        hidden, shown = encoder(given, mask)
        (hidden[shown] * torch.linspace(-1, 1, hidden[shown].numel()).view_as(hidden[shown])).sum().backward()
        outcomes.append(
            (hidden.detach(), shown, given.grad, {key: parameter.grad.clone() for key, parameter in encoder.named_parameters()})
        )
    (clean, shown, gradient, weights), (dirty, dirty_shown, dirty_gradient, dirty_weights) = outcomes
    assert torch.equal(shown, dirty_shown)
    assert torch.equal(clean, dirty)
    assert torch.equal(gradient, dirty_gradient)
    assert not dirty_gradient[~mask].any()
    assert gradient[mask].abs().sum() > 0
    assert all(torch.equal(weights[key], dirty_weights[key]) for key in weights)


@EVERY
def test_bf16_stays_within_its_rounding(name, settings):
    encoder = make_small(name, settings)
    x, mask = ragged(LENGTHS)
    with torch.inference_mode(), autocast(BF16):
        hidden, shown = encoder(x, mask)
        for row, length in enumerate(LENGTHS):
            own = max(1, length)
            alone, alone_shown = encoder(x[row : row + 1, :own], mask[row : row + 1, :own])
            apart = (alone[alone_shown].float() - hidden[row][shown[row]].float()).abs()
            assert not apart.numel() or float(apart.max()) <= 2**-6 * max(1.0, float(hidden.abs().max()))


@pytest.mark.parametrize("settings", ONE_WAY)
def test_one_way_recurrences_do_not_see_what_comes_later(settings):
    """Exempt: window, convolutions, both-ways recurrences and the Transformer encoder read what follows by design; a bag has no order."""
    encoder = make_small("recurrent", settings)
    x, mask = ragged((8, 5))
    for t in range(7):
        x_later = x.clone().requires_grad_()
        hidden, _ = encoder(x_later, mask)
        hidden[:, t].sum().backward()
        assert not x_later.grad[:, t + 1 :].any()
        changed = torch.cat([x[:, : t + 1], 5 * torch.randn(2, 7 - t, 6)], 1)
        torch.testing.assert_close(encoder(changed, mask)[0][:, : t + 1], hidden[:, : t + 1], rtol=0, atol=1e-6)


def test_the_one_way_recurrences_are_among_the_encoders():
    assert {settings.get("cell", "lstm") for settings in ONE_WAY} >= {"elman", "lstm"}


@EVERY
def test_weights_alone_remake_an_encoder(name, settings):
    first, second = make_small(name, settings, seed=1), make_small(name, settings, seed=2)
    x, mask = ragged(LENGTHS)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x, mask)[0], second(x, mask)[0])


@EVERY
def test_wrong_shapes_are_named(name, settings):
    encoder = make_small(name, settings)
    x, mask = ragged(LENGTHS)
    with pytest.raises(ValueError, match=r"mask of \(6, 8\)"):
        encoder(x, mask[:, :-1])
    with pytest.raises(ValueError, match="expected"):
        encoder(x[0], mask[0])
    with pytest.raises(ValueError, match=r"6\D+5"):
        encoder(x[..., :5], mask)
    with pytest.raises(ValueError, match="bool"):
        encoder(x, mask.long())


@EVERY
@pytest.mark.parametrize("rows,steps", list(itertools.product((1, 3), (1, 2))))
def test_small_batches_and_rows_of_nothing(name, settings, rows, steps):
    encoder = make_small(name, settings)
    for mask in (torch.ones(rows, steps, dtype=torch.bool), torch.zeros(rows, steps, dtype=torch.bool)):
        hidden, shown = encoder(torch.randn(rows, steps, 6), mask)
        assert torch.isfinite(hidden).all()
        assert hidden.shape[:2] == shown.shape
        assert bool(shown.any(1).all()) == bool(mask.any())
        masks.check(hidden, shown)


def test_unknown_encoders_and_settings_are_refused_by_name():
    with pytest.raises(ValueError, match=r"no encoder 'nn'; there are bag, window, cnn"):
        make_encoder("nn", 4, {})
    for name, (config, _) in ENCODERS.items():
        with pytest.raises(ValueError, match=r"no setting colour, taste"):
            make_encoder(name, 4, {"taste": 1, "colour": 2})
        for field in fields(config):
            with pytest.raises(ValueError, match=field.name):
                make_encoder(name, 4, {"colour": 1})
