"""Positions against their formula, one number at a time, and their refusals."""

from __future__ import annotations

import math

import pytest
import torch

from weft.nn.positions import LearnedPositions, SinusoidalPositions, sinusoidal


def test_every_entry_is_the_formulas() -> None:
    table = sinusoidal(40, 6, torch.float64)
    for position in range(40):
        for pair in range(3):
            angle = position / 10000 ** (2 * pair / 6)
            assert table[position, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert table[position, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_far_positions_are_exact_in_float32() -> None:
    table = sinusoidal(6000, 4)
    assert table.dtype == torch.float32
    assert table[5999, 0].item() == pytest.approx(math.sin(5999), abs=1e-7)  # float32 angles are off by 2e-4 there


def test_sinusoidal_layer_adds_the_table_at_any_length_and_type() -> None:
    layer = SinusoidalPositions(size=8)
    for length, dtype in ((3, torch.float32), (300, torch.float32), (5, torch.float64), (2, torch.float32)):
        x = torch.randn(2, length, 8, dtype=dtype)
        torch.testing.assert_close(layer(x) - x, sinusoidal(length, 8, dtype).expand(2, -1, -1), atol=1e-6, rtol=0)
        assert layer(x).dtype == dtype
    assert not layer.state_dict()
    assert not list(layer.buffers())


def test_learned_positions_are_trained_where_they_were_used() -> None:
    layer = LearnedPositions(length=5, size=4)
    x = torch.randn(3, 2, 4)
    torch.testing.assert_close(layer(x) - x, layer.table[:2].expand(3, -1, -1))
    layer(x).sum().backward()
    assert layer.table.grad is not None
    assert torch.equal(layer.table.grad, torch.tensor([3.0, 3, 0, 0, 0])[:, None].expand(5, 4))


def test_wrong_calls_are_named() -> None:
    with pytest.raises(ValueError, match=r"6 tokens.* 5 learned"):
        LearnedPositions(length=5, size=4)(torch.zeros(1, 6, 4))
    with pytest.raises(ValueError, match=r"size 3.*size=4"):
        LearnedPositions(length=5, size=4)(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match=r"size 3.*size=4"):
        SinusoidalPositions(size=4)(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match=r"size=5"):
        sinusoidal(3, 5)
    with pytest.raises(ValueError, match=r"size=5"):
        SinusoidalPositions(size=5)
