"""Dropout: rates within 4 standard deviations, scale exact, the right things left out together."""

import math

import pytest
import torch

from weft.nn.dropout import Dropout, VariationalDropout, WordDropout, keep_mask


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(11)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_rate_and_scale(p):
    y = Dropout(p)(torch.ones(1000, 1000))
    kept = y != 0
    assert abs(kept.sum().item() - (1 - p) * 1e6) < 4 * math.sqrt(p * (1 - p) * 1e6)
    torch.testing.assert_close(y[kept], torch.full((int(kept.sum()),), 1 / (1 - p)), rtol=2e-4, atol=0)


def test_the_factor_is_the_inverse_of_the_rate_that_holds():
    """All 2¹⁶ draws are equally likely, so the expected output is exactly the input."""
    draws = torch.arange(-32768, 32768)
    for p in (0.1, 0.3, 0.77):
        dropped = round(p * 65536)
        _, factor = keep_mask((1,), p, torch.device("cpu"))
        assert (draws >= dropped - 32768).sum().item() * factor / 65536 == pytest.approx(1.0, abs=1e-15)


def test_neighbouring_units_are_independent():
    """Four units share one 64-bit draw: any two of them must agree half of the time."""
    kept = Dropout(0.5)(torch.ones(100_000, 4)) != 0
    for i in range(4):
        for j in range(i):
            assert abs((kept[:, i] == kept[:, j]).sum().item() - 50_000) < 4 * math.sqrt(25_000)


@pytest.mark.parametrize("layer", [Dropout(0.5), VariationalDropout(0.5), WordDropout(0.5)])
def test_eval_is_the_identity_and_zero_too(layer):
    x = torch.randn(3, 4, 5)
    assert layer.eval()(x) is x
    assert torch.equal(type(layer)(0.0).train()(x), x)


def test_gradient_passes_where_the_value_did():
    x = torch.randn(50, 7, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), y.detach())
    assert (x.grad == 0).any() and (x.grad != 0).any()


def test_variational_leaves_out_the_same_units_at_every_step():
    y = VariationalDropout(0.5)(torch.ones(40, 9, 30))
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert abs((y[:, 0] != 0).sum().item() - 600) < 4 * math.sqrt(300)
    assert not torch.equal(y[0, 0], y[1, 0])
    with pytest.raises(ValueError, match=r"\(4, 30\)"):
        VariationalDropout(0.5)(torch.ones(4, 30))


def test_words_become_unknown_and_padding_stays():
    ids = torch.randint(2, 100, (200, 50))
    ids[:, 40:] = 0
    got = WordDropout(0.2)(ids)
    assert (got[:, 40:] == 0).all()
    changed = got[:, :40] != ids[:, :40]
    assert (got[:, :40][changed] == 1).all()
    assert abs(changed.sum().item() - 1600) < 4 * math.sqrt(8000 * 0.16)


def test_whole_embeddings_are_left_out():
    y = WordDropout(0.5)(torch.ones(200, 50, 3))
    kept = y[..., 0] != 0
    assert torch.equal(y, 2.0 * kept.unsqueeze(-1).expand_as(y).float())
    assert abs(kept.sum().item() - 5000) < 4 * math.sqrt(2500)


def test_bf16_stays_bf16_and_the_seed_decides():
    x = torch.randn(6, 6).bfloat16()
    torch.manual_seed(5)
    y = Dropout(0.5)(x)
    torch.manual_seed(5)
    assert y.dtype == torch.bfloat16 and torch.equal(y, Dropout(0.5)(x))


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_what_is_no_drop_probability_is_refused(p):
    with pytest.raises(ValueError, match=str(p)):
        Dropout(p)
