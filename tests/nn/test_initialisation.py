"""Initialisations against the variances of their papers, at fixed seeds within 4 standard errors."""

import math

import pytest
import torch

from weft.nn import initialisation


def seeded():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize(
    ("fill", "variance"),
    [
        (initialisation.xavier_, 2 / (200 + 300)),
        (initialisation.he_, 2 / 200),
        (lambda t, generator: initialisation.normal_(t, std=0.3, generator=generator), 0.09),
    ],
)
def test_variance(fill, variance):
    weight = fill(torch.empty(300, 200), generator=seeded())
    count = weight.numel()
    assert abs(weight.mean()) < 4 * math.sqrt(variance / count)
    assert abs(weight.var() / variance - 1) < 4 * math.sqrt(2 / count)


def test_a_filters_field_counts_on_both_sides():
    assert initialisation.fans(torch.empty(7, 5, 3, 2)) == (30, 42)
    with pytest.raises(ValueError, match=r"\(4,\)"):
        initialisation.fans(torch.empty(4))


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (5, 2, 3)])
def test_orthogonal(shape):
    weight = initialisation.orthogonal_(torch.empty(shape, dtype=torch.float64), gain=3.0, generator=seeded()).flatten(1)
    small = weight @ weight.mT if weight.shape[0] <= weight.shape[1] else weight.mT @ weight
    torch.testing.assert_close(small, 9.0 * torch.eye(len(small), dtype=torch.float64), rtol=0, atol=1e-12)


def test_orthogonal_favours_no_rotation():
    """The first entry of a random orthogonal 2×2 matrix is the cosine of a uniform angle: as often negative as positive."""
    generator = seeded()
    signs = sum(float(initialisation.orthogonal_(torch.empty(2, 2), generator=generator)[0, 0] > 0) for _ in range(400))
    assert abs(signs - 200) < 4 * 10


def test_forget_gate_bias():
    bias = initialisation.forget_gate_bias_(torch.zeros(12), 3, value=2.0)
    assert bias.tolist() == [0.0] * 3 + [2.0] * 3 + [0.0] * 6
    with pytest.raises(ValueError, match=r"12.*\(9,\)"):
        initialisation.forget_gate_bias_(torch.zeros(9), 3)


@pytest.mark.parametrize("name", initialisation.INITIALISERS)
def test_same_generator_same_weights_and_no_gradient_is_recorded(name):
    weight = torch.nn.Parameter(torch.empty(5, 4))
    again = torch.nn.Parameter(torch.empty(5, 4))
    fill = initialisation.INITIALISERS[name]
    assert fill(weight, generator=seeded()) is weight
    assert torch.equal(weight, fill(again, generator=seeded()))
    assert weight.grad_fn is None and weight.is_leaf
