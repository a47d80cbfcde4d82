"""Masks: what is refused, what is zeroed."""

import pytest
import torch

from weft.nn import masks


def test_zeroed_removes_whatever_stood_in_the_padding():
    x = torch.full((1, 3, 2), float("nan"))
    x[:, 0] = 5.0
    assert torch.equal(masks.zeroed(x, torch.tensor([[True, False, False]])), torch.tensor([[[5.0, 5.0], [0.0, 0.0], [0.0, 0.0]]]))


def test_from_lengths():
    expected = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])
    assert torch.equal(masks.from_lengths(torch.tensor([2, 0, 3]), 3), expected)


@pytest.mark.parametrize(
    ("shape", "mask", "numbers"),
    [((2, 3), torch.ones(2, 3, dtype=torch.bool), "2, 3"), ((2, 0, 4), torch.ones(2, 0, dtype=torch.bool), "2, 0, 4")],
)
def test_shapes_that_are_no_sequences_are_refused(shape, mask, numbers):
    with pytest.raises(ValueError, match=numbers):
        masks.check(torch.zeros(shape), mask)


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(2, 3, 5\)"):
        masks.check(torch.zeros(2, 3, 5), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="float32"):
        masks.check(torch.zeros(2, 3, 5), torch.ones(2, 3))
