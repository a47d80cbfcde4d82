"""Convolutions against torch's own, plain loops and their unpadded rows."""

import pytest
import torch
import torch.nn.functional as F

from weft.nn import masks, pooling
from weft.nn.convolution import PADDINGS, Convolution1d, Convolution2d, Convolutions, provenance, receptive_field

LENGTHS = torch.tensor([9, 5, 1, 0])
SHAPES = [(padding, width, stride, dilation) for padding in PADDINGS for width in (1, 2, 5) for stride in (1, 3) for dilation in (1, 2)]


def sequence(dtype=torch.float64, size=6, steps=9):
    mask = masks.from_lengths(LENGTHS, steps)
    x = torch.randn(4, steps, size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return torch.where(mask.unsqueeze(-1), x, torch.nan), mask


def layer(padding="same", width=3, stride=1, dilation=1, filters=4):
    torch.manual_seed(1)
    made = Convolution1d(input_size=6, filters=filters, width=width, padding=padding, stride=stride, dilation=dilation).double()
    torch.nn.init.normal_(made.bias)
    return made


def alone(conv, row):
    """torch's conv1d on one unpadded row (n, D) -> (n', F); margins as the conventions say."""
    reach = (conv.width - 1) * conv.dilation + 1
    left, right = {"narrow": (0, max(0, reach - len(row))), "wide": (reach - 1, reach - 1), "same": ((reach - 1) // 2, reach // 2)}[
        conv.padding
    ]
    y = F.conv1d(F.pad(row.mT, (left, right)), conv.weight.permute(0, 2, 1), conv.bias, stride=conv.stride, dilation=conv.dilation)
    return y.mT


@pytest.mark.parametrize(("padding", "width", "stride", "dilation"), SHAPES)
def test_every_row_is_convolved_as_if_alone(padding, width, stride, dilation):
    x, mask = sequence()
    conv = layer(padding, width, stride, dilation)
    y, shown = conv(x, mask)
    for row, n in enumerate(LENGTHS.tolist()):
        expected = alone(conv, x[row, :n]) if n else torch.zeros(0, 4, dtype=x.dtype)
        assert shown[row].tolist() == [True] * len(expected) + [False] * (y.shape[1] - len(expected))
        torch.testing.assert_close(y[row, : len(expected)], expected, rtol=0, atol=1e-12)
        assert (y[row, len(expected) :] == 0).all()


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients(padding):
    x, mask = sequence()
    x = x.nan_to_num(0.0).requires_grad_()
    conv = layer(padding, 3, 2, 2)
    assert torch.autograd.gradcheck(
        lambda v, w, b: torch.func.functional_call(conv, {"weight": w, "bias": b}, (v, mask))[0], (x, conv.weight, conv.bias)
    )
    conv(x, mask)[0].sum().backward()
    assert (x.grad[~mask] == 0).all()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_keeps_the_length_or_its_share(stride):
    y, shown = layer("same", 4, stride)(*sequence())
    assert shown.sum(1).tolist() == [-(-n // stride) for n in LENGTHS.tolist()]
    assert y.shape[1] == -(-9 // stride)


def test_a_row_shorter_than_a_narrow_window_is_padded_up_to_one():
    conv = layer("narrow", 5)
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    y, shown = conv(x, torch.tensor([[True, True, True], [False, False, False]]))
    assert y.shape == (2, 1, 4) and shown.tolist() == [[True], [False]]
    expected = conv.bias + sum(conv.weight[:, n] @ x[0, n] for n in range(3))
    torch.testing.assert_close(y[0, 0], expected)


@pytest.mark.parametrize("padding", PADDINGS)
def test_several_widths_are_the_single_ones_side_by_side(padding):
    x, mask = sequence()
    torch.manual_seed(2)
    joined = Convolutions(input_size=6, filters=3, widths=(2, 5, 4), padding=padding).double()
    y, shown = joined(x, mask)
    assert y.shape[2] == joined.output_size == 9
    apart = joined.apart(x, mask)
    for i, (part, (own, own_mask)) in enumerate(zip(joined.parts, apart, strict=True)):
        expected, expected_mask = part(x, mask)
        assert torch.equal(own_mask, expected_mask)
        assert torch.equal(own, expected)
        n = own.shape[1]
        torch.testing.assert_close(y[:, :n, 3 * i : 3 * i + 3], expected, rtol=0, atol=0)
        assert (y[:, n:, 3 * i : 3 * i + 3] == 0).all()
    assert torch.equal(shown, max((m for _, m in apart), key=lambda m: m.shape[1]))
    after_relu = pooling.max_over_time(torch.relu(y), shown)
    pooled_apart = torch.cat([pooling.max_over_time(torch.relu(own), own_mask) for own, own_mask in apart], dim=1)
    torch.testing.assert_close(after_relu, pooled_apart, rtol=0, atol=0)


@pytest.mark.parametrize("padding", PADDINGS)
def test_provenance_joins_the_widths(padding):
    x, mask = sequence()
    joined = Convolutions(input_size=6, filters=2, widths=(2, 4), padding=padding).double()
    y, shown = joined(x, mask)
    positions = pooling.max_positions(y, shown)
    spans = joined.provenance(positions, LENGTHS)
    for i, width in enumerate((2, 4)):
        expected = provenance(positions[:, 2 * i : 2 * i + 2], LENGTHS, width=width, padding=padding)
        assert torch.equal(spans[:, 2 * i : 2 * i + 2], expected)


def test_provenance_by_hand():
    lengths = torch.tensor([5])
    here = torch.tensor([[0, 2, 4]])
    assert provenance(here, lengths, width=3, padding="same").tolist() == [[[0, 2], [1, 4], [3, 5]]]
    assert provenance(here, lengths, width=3, padding="wide").tolist() == [[[0, 1], [0, 3], [2, 5]]]
    assert provenance(here[:, :2], lengths, width=3, padding="narrow").tolist() == [[[0, 3], [2, 5]]]
    assert provenance(here[:, :2], lengths, width=2, padding="narrow", stride=2).tolist() == [[[0, 2], [4, 5]]]
    assert provenance(here[:, :1], lengths, width=2, padding="narrow", dilation=3).tolist() == [[[0, 4]]]
    assert provenance(here[:, :1], torch.tensor([0]), width=3).tolist() == [[[0, 0]]]


def test_bf16_autocast_forward_and_backward():
    x, mask = sequence(torch.float32)
    x = x.requires_grad_()
    conv = Convolutions(input_size=6, filters=5)
    plain, _ = conv(x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        y, shown = conv(x, mask)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), plain, rtol=0, atol=0.05)
    pooling.max_over_time(y, shown).float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in conv.parameters())


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("stride", "width"), [(1, 3), (2, (2, 5)), (3, 4)])
def test_images_against_torch(padding, stride, width):
    conv = Convolution2d(channels=3, filters=4, width=width, padding=padding, stride=stride).double()
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    height, wide = (width, width) if isinstance(width, int) else width
    margins = {"narrow": (0, 0), "wide": (wide - 1, height - 1)}
    if padding == "same":
        margins_of_same = ((wide - 1) // 2, wide // 2, (height - 1) // 2, height // 2)
        reference = F.conv2d(F.pad(x, margins_of_same), conv.weight, conv.bias)[..., ::stride, ::stride]
    else:
        across, down = margins[padding]
        reference = F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=(down, across))
    torch.testing.assert_close(conv(x), reference)


def test_receptive_field_counts_what_a_gradient_reaches():
    for widths, dilations, strides in [((3, 2, 4), (1, 2, 3), (1, 1, 1)), ((3, 3), (1, 2), (2, 3)), ((5,), (4,), (2,))]:
        x = torch.randn(1, 60, 1, dtype=torch.float64, requires_grad=True)
        h, mask = x, torch.ones(1, 60, dtype=torch.bool)
        for width, dilation, stride in zip(widths, dilations, strides, strict=True):
            conv = Convolution1d(input_size=1, filters=1, width=width, dilation=dilation, stride=stride, padding="narrow").double()
            h, mask = conv(h, mask)
        h[0, 2].sum().backward()
        touched = x.grad.flatten().nonzero().flatten()
        assert touched.max() - touched.min() + 1 == receptive_field(widths, dilations, strides)


def test_bad_settings_and_inputs_are_refused():
    with pytest.raises(ValueError, match=r"'valid'.*same.*narrow.*wide"):
        Convolution1d(input_size=2, filters=2, width=2, padding="valid")
    with pytest.raises(ValueError, match="width=0"):
        Convolution1d(input_size=2, filters=2, width=0)
    with pytest.raises(ValueError, match="stride=0"):
        Convolution2d(channels=2, filters=2, width=3, stride=0)
    with pytest.raises(ValueError, match="widths"):
        Convolutions(input_size=2, filters=2, widths=())
    with pytest.raises(ValueError, match=r"6.*has 5"):
        layer()(torch.zeros(1, 2, 5, dtype=torch.float64), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"6.*has 5"):
        Convolutions(input_size=6, filters=2)(torch.zeros(1, 2, 5), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"3 channels.*\(1, 2, 4, 4\)"):
        Convolution2d(channels=3, filters=2, width=3)(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match="2 widths, 1 dilations"):
        receptive_field((3, 3), (1,))
