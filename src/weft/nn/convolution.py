"""Convolution over text and images: narrow, wide, same; strided, dilated; which words a maximum came from.

E28–E30, E58–E61. Waibel et al. (1989); Collobert and Weston (2008); Kalchbrenner et al. (2014, narrow and wide); Kim (2014).
All are cross-correlations: filters are not flipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weft.nn import masks

PADDINGS = ("same", "narrow", "wide")


def _margins(padding: str, reach: int) -> tuple[int, int]:
    """Zeros before and after: none, reach − 1 on both sides, or reach − 1 in all with the odd one after."""
    if padding not in PADDINGS:
        raise ValueError(f"no padding {padding!r}; there are: {', '.join(PADDINGS)}")
    if padding == "same":
        return (reach - 1) // 2, reach // 2
    return (reach - 1, reach - 1) if padding == "wide" else (0, 0)


class Convolution1d(nn.Module):
    """y_{t,f} = b_f + Σ_k Σ_n w_{f,n,k} x_{t·stride + n·dilation − margin, k} over (B, T, input_size), no activation (E58, E59).

    forward(x, mask) -> (y (B, T', filters), mask (B, T')). Real steps come first in a row. "narrow" puts no zeros around a row, "wide"
    reach − 1 on both sides, "same" keeps its length (⌈length/stride⌉ with a stride), where reach = (width − 1)·dilation + 1.
    What the mask hides counts as those zeros; the new mask shows the windows that the row alone would have had, and the rest of y is zero.
    A row shorter than a narrow window is padded with zeros up to one window; a row of nothing has no window.
    weight is (filters, width, input_size): a filter's row, flattened, multiplies the window's words set side by side.
    """

    def __init__(
        self, *, input_size: int, filters: int, width: int, padding: str = "same", stride: int = 1, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        if min(input_size, filters, width, stride, dilation) < 1:
            raise ValueError(f"sizes are at least 1, got {input_size=}, {filters=}, {width=}, {stride=}, {dilation=}")
        self.input_size, self.output_size = input_size, filters
        self.width, self.padding, self.stride, self.dilation = width, padding, stride, dilation
        self.reach = (width - 1) * dilation + 1
        self.margins = _margins(padding, self.reach)
        self.weight = nn.Parameter(torch.empty(filters, width, input_size))
        self.bias = nn.Parameter(torch.zeros(filters)) if bias else None
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / (width * (input_size + filters))))  # Glorot (E23)

    def windows(self, lengths: Tensor) -> Tensor:
        """How many windows rows of these lengths have."""
        space = lengths + sum(self.margins)
        return ((space - self.reach).clamp(min=0) // self.stride + 1) * (lengths > 0)

    def provenance(self, positions: Tensor, lengths: Tensor) -> Tensor:
        """Input spans behind output positions (B, F), cut to each row's length (B,): see `provenance`."""
        return provenance(positions, lengths, width=self.width, padding=self.padding, stride=self.stride, dilation=self.dilation)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        self.check(x, mask)
        y, shown = self.convolve(masks.zeroed(x, mask), mask.sum(1))
        return masks.zeroed(y, shown), shown

    def check(self, x: Tensor, mask: Tensor) -> None:
        """Raises ValueError where input and mask do not fit one another or the filters."""
        masks.check(x, mask)
        if x.shape[2] != self.input_size:
            raise ValueError(f"the filters span {self.input_size} numbers a step, the input has {x.shape[2]}")

    def convolve(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The bare convolution, x zero beyond its lengths already, y not zeroed beyond its own: for who zeroes once for many filters."""
        # A channels-last image of height 1 is our (B, T, D) as it lies in memory, so nothing is transposed. Timed with mask, ReLU and max,
        # forward and backward, on one AVX-512 core in fp32, B = 50, T = 20 and 40, D = 128 and 300, 100 filters each of widths 3, 4, 5:
        # 0.88–0.97 of conv1d on the transposed input, 0.67–0.86 of one matrix product over concatenated shifted slices. On two threads and
        # in bf16 the three lie within the noise of one another.
        left, right = self.margins
        x = F.pad(x, (0, 0, left, max(right, self.reach - x.shape[1] - left)))
        image, filters = x.mT.unsqueeze(2), self.weight.mT.unsqueeze(2)  # (B, D, 1, T), (F, D, 1, width)
        y = F.conv2d(image, filters, self.bias, stride=(1, self.stride), dilation=(1, self.dilation)).squeeze(2).mT  # (B, T', F)
        return y, masks.from_lengths(self.windows(lengths), y.shape[1])

    def extra_repr(self) -> str:
        return (
            f"input_size={self.input_size}, filters={self.output_size}, width={self.width}, padding={self.padding!r}, "
            f"stride={self.stride}, dilation={self.dilation}"
        )


class Convolutions(nn.Module):
    """Filters of several widths side by side on one input (Kim, 2014; E60): (B, T, D) -> (B, T', filters·len(widths)) and one mask.

    With "narrow" and "wide" the widths have different numbers of windows: T' and the mask are the longest's, and where a width has no
    window its values are zero, which a ReLU and a maximum over time cannot tell from their absence. `apart` keeps the widths apart.
    """

    def __init__(self, *, input_size: int, filters: int, widths: Sequence[int] = (3, 4, 5), padding: str = "same") -> None:
        super().__init__()
        if not widths:
            raise ValueError("no widths given; one at least, such as (3, 4, 5)")
        self.parts = nn.ModuleList(Convolution1d(input_size=input_size, filters=filters, width=width, padding=padding) for width in widths)
        self.input_size, self.output_size, self.padding = input_size, filters * len(widths), padding

    def apart(self, x: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(y, mask) of each width, each with the windows it has."""
        return [(masks.zeroed(y, shown), shown) for y, shown in self._outputs(x, mask)]

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self._outputs(x, mask)
        if self.padding == "same":  # one mask for all: zero once
            return masks.zeroed(torch.cat([y for y, _ in outputs], dim=-1), mask), mask
        shown = max((mask for _, mask in outputs), key=lambda mask: mask.shape[1])
        length = shown.shape[1]
        return torch.cat([F.pad(masks.zeroed(y, own), (0, 0, 0, length - y.shape[1])) for y, own in outputs], dim=-1), shown

    def provenance(self, positions: Tensor, lengths: Tensor) -> Tensor:
        """Input spans (B, filters·len(widths), 2) behind positions of the joined output: see `provenance`."""
        parts = self._parts()
        shares = positions.chunk(len(parts), dim=1)
        return torch.cat([part.provenance(share, lengths) for part, share in zip(parts, shares, strict=True)], dim=1)

    def _parts(self) -> list[Convolution1d]:
        return cast("list[Convolution1d]", list(self.parts))

    def _outputs(self, x: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        parts = self._parts()
        parts[0].check(x, mask)
        x, lengths = masks.zeroed(x, mask), mask.sum(1)
        return [part.convolve(x, lengths) for part in parts]


class Convolution2d(nn.Module):
    """Convolution over images (E28): (B, channels, height, width) -> (B, filters, height', width').

    `width` is the filter's side, or (height, width). Margins of "narrow", "wide" and "same" as in `Convolution1d`, in both directions.
    """

    def __init__(
        self, *, channels: int, filters: int, width: int | tuple[int, int], padding: str = "narrow", stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        height, width = (width, width) if isinstance(width, int) else width
        if min(channels, filters, height, width, stride) < 1:
            raise ValueError(f"sizes are at least 1, got {channels=}, {filters=}, {height=}, {width=}, {stride=}")
        self.stride = stride
        self.margins = (*_margins(padding, width), *_margins(padding, height))
        self.weight = nn.Parameter(torch.empty(filters, channels, height, width))
        self.bias = nn.Parameter(torch.zeros(filters)) if bias else None
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / ((channels + filters) * height * width)))  # Glorot (E23)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.weight.shape[1]:
            raise ValueError(f"expected (batch, {self.weight.shape[1]} channels, height, width), got {tuple(x.shape)}")
        return F.conv2d(F.pad(x, self.margins), self.weight, self.bias, stride=self.stride)


def receptive_field(widths: Sequence[int], dilations: Sequence[int] | None = None, strides: Sequence[int] | None = None) -> int:
    """Inputs that one output of stacked layers sees, first layer first: R = 1 + Σ_l (k_l − 1) d_l Π_{j<l} s_j (E61)."""
    dilations = [1] * len(widths) if dilations is None else dilations
    strides = [1] * len(widths) if strides is None else strides
    if not len(widths) == len(dilations) == len(strides):
        raise ValueError(f"{len(widths)} widths, {len(dilations)} dilations and {len(strides)} strides: one of each a layer")
    field, step = 1, 1
    for width, dilation, stride in zip(widths, dilations, strides, strict=True):
        field += (width - 1) * dilation * step
        step *= stride
    return field


def provenance(positions: Tensor, lengths: Tensor, *, width: int, padding: str = "same", stride: int = 1, dilation: int = 1) -> Tensor:
    """The n-gram behind each maximum: output positions (B, F), such as `pooling.max_positions` gives, -> input spans (B, F, 2) (E60).

    A span is [start, end) in steps of the input, cut to the real part of its row, whose lengths (B,) are given: a window that reached into
    the zeros around the row names only words that are there.
    """
    reach = (width - 1) * dilation + 1
    start = positions * stride - _margins(padding, reach)[0]
    spans = torch.stack([start, start + reach], dim=-1)
    return torch.minimum(spans.clamp(min=0), lengths[:, None, None])
