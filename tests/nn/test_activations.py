"""Activations against math and torch's modules; the masked softmax against the softmax of what is left."""

import math

import pytest
import torch

from weft.nn import activations

FORMS = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "hard-tanh": lambda x: min(max(x, -1.0), 1.0),
    "relu": lambda x: max(0.0, x),
    "leaky-relu": lambda x: x if x > 0 else 0.01 * x,
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "gelu-tanh": lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_every_activation_is_its_scalar_form(name):
    x = torch.linspace(-4, 4, 81, dtype=torch.float64).reshape(3, 27)
    expected = torch.tensor([FORMS[name](v) for v in x.flatten().tolist()], dtype=torch.float64).reshape(3, 27)
    torch.testing.assert_close(activations.activation(name)(x), expected, rtol=0, atol=1e-12)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'swosh'.*sigmoid.*leaky-relu.*identity"):
        activations.activation("swosh")


@pytest.mark.parametrize("dim", [-1, 1])
def test_masked_softmax_is_the_softmax_of_what_is_visible(dim):
    scores = torch.randn(4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    got = activations.softmax(scores, mask, dim).movedim(dim, -1).reshape(-1, scores.shape[dim])
    rows = zip(
        got, scores.movedim(dim, -1).reshape(-1, scores.shape[dim]), mask.movedim(dim, -1).reshape(-1, scores.shape[dim]), strict=True
    )
    for row, score, seen in rows:
        torch.testing.assert_close(row[seen], torch.softmax(score[seen], 0), rtol=0, atol=1e-12)
        assert (row[~seen] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_with_nothing_visible_is_zeros_with_a_zero_gradient(dtype):
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=dtype, requires_grad=True)
    p = activations.softmax(scores, torch.tensor([[False, False], [True, False]]))
    (p * torch.tensor([[1.0, 2.0], [3.0, 5.0]])).sum().backward()
    assert p.tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert scores.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_hidden_infinity_or_nan_is_not_seen():
    scores = torch.tensor([[1.0, 2.0, math.inf, math.nan]])
    p = activations.softmax(scores, torch.tensor([[True, True, False, False]]))
    torch.testing.assert_close(p[0, :2], torch.softmax(torch.tensor([1.0, 2.0]), 0))
    assert p[0, 2:].tolist() == [0.0, 0.0]


def test_a_float_mask_is_refused():
    with pytest.raises(ValueError, match="bool"):
        activations.softmax(torch.zeros(2, 2), torch.ones(2, 2))
