"""Recurrent networks: one runner for all cells, deep, bidirectional and residual, over padded rows, with every dropout of E70.

Bidirectional (Schuster & Paliwal, 1997); variational dropout (Gal & Ghahramani, 2016); weight drop (Merity et al., 2018). The cells, as
equations, are in `weft.nn.cells`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weft.nn import masks
from weft.nn.cells import CELLS, Cell, CoupledLSTMCell, ElmanCell, GRUCell, LSTMCell, PeepholeLSTMCell, State
from weft.nn.dropout import dropout

__all__ = ["CELLS", "Cell", "CoupledLSTMCell", "ElmanCell", "GRUCell", "LSTMCell", "PeepholeLSTMCell", "Recurrent", "State"]


class Recurrent(nn.Module):
    """A recurrent network: `layers` deep (E68), one way or both (E69), over padded rows (E71), with the dropouts of E70.

    cell: a name in CELLS; further keywords go to its class (`activation`, `forget_bias`, `peepholes`, `output_sees`, `reset`, `update`, and
        `input_depth`, `state_depth`, `output_depth`).
    bidirectional: every layer reads both ways, each direction with its own cell, and feeds on both directions of the layer below.
    residual: what a layer reads is added to what it gives, wherever the two are of one size: always but for the first layer.
    initial: "zero" or "learnt", the state before the first token (a learnt one starts at zero).

    Probabilities of dropping, all of them in training alone:
    dropout: a unit between layers; input_dropout: of what the first layer reads; output_dropout: of what the last one gives. Anew at every
        time step, never on the state; what is added by a residual connection is not dropped.
    variational: a unit of a layer's input, and of the hidden state where it enters the recurrent product, by one mask a sequence, the same
        at all time steps. No kernel of PyTorch's does this: an LSTM is swept by ours, other cells run step by step (slower), though the
        input product of all time steps stays one. Prediction is as fast as ever.
    weight_dropout: a weight of the recurrent product, by one mask a pass: the kernels stay usable.

    The rows of `mask` (B, T) are True for the real tokens and then False for the padding: holes are refused (on the CPU;
    elsewhere looking would mean waiting for the device). Nothing is packed: the backward direction reads each row reversed
    by its own length, so it starts at the last real token; what padding leads to is computed but reaches no real position.
    """

    def __init__(
        self,
        *,
        cell: str,
        input_size: int,
        hidden_size: int,
        layers: int = 1,
        bidirectional: bool = False,
        residual: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        variational: float = 0.0,
        weight_dropout: float = 0.0,
        initial: str = "zero",
        **options: object,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"{cell=} must be one of {', '.join(CELLS)}")
        if layers < 1:
            raise ValueError(f"{layers=} must be at least 1")
        if initial not in ("zero", "learnt"):
            raise ValueError(f"{initial=} must be 'zero' or 'learnt'")
        self.dropout, self.input_dropout, self.output_dropout = dropout, input_dropout, output_dropout
        self.variational, self.weight_dropout, self.residual = variational, weight_dropout, residual
        for name in ("dropout", "input_dropout", "output_dropout", "variational", "weight_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and below 1")
        self.input_size, self.hidden_size, self.layers, self.directions = input_size, hidden_size, layers, 2 if bidirectional else 1
        self.output_size = hidden_size * self.directions
        sizes = [input_size] + [self.output_size] * (layers - 1)
        self.cells = nn.ModuleList(
            CELLS[cell](input_size=size, hidden_size=hidden_size, **options)  # type: ignore[arg-type]
            for size in sizes
            for _ in range(self.directions)
        )
        start = torch.zeros(CELLS[cell].states, len(self.cells), 1, hidden_size)
        self.initial = nn.Parameter(start) if initial == "learnt" else None

    def forward(self, x: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, Tensor | None]:
        """x (B, T, D), mask (B, T) -> (hidden (B, T, H * directions), mask); hidden is zero at padding.

        `state` is what `run` returns. Raises ValueError where x has another size than `input_size`, mask another shape
        than x, or mask has holes.
        """
        hidden, _ = self._read(x, mask, state, final=False)
        return hidden, mask

    def run(self, x: Tensor, mask: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """As `forward`, but -> (hidden, state): each row's state after its last real token, (layers * directions, B, H) each.

        Directions of a layer lie side by side, forwards first. A row without tokens keeps the state it came with.
        """
        return self._read(x, mask, state, final=True)

    def step(self, x: Tensor, state: State, projected: Tensor | None = None) -> tuple[Tensor, State]:
        """One time step of every layer, for who has to feed it: x (B, D), state as `run` returns -> (hidden (B, H), the next state).

        `projected` (B, gates * H) stands for what the first cell makes of x. Raises ValueError for a network of two directions, or, in
        training, with dropouts of which one mask serves a whole sequence: a step does not know where that begins.
        """
        if self.directions > 1 or (self.training and (self.variational or self.weight_dropout)):
            raise ValueError("only a network of one direction, without variational and weight dropout, goes step by step")
        below, states = x, []
        for layer, cell in enumerate(self.cells):
            assert isinstance(cell, Cell)
            before = tuple(part[layer] for part in state)
            if layer or projected is None or self.input_dropout:
                projected = cell.project(self._dropped(below, self.dropout if layer else self.input_dropout))
            states.append(cell.step(projected, before))
            given = cell.read(states[-1][0])
            below = given + below if self.residual and given.shape == below.shape else given
        return self._dropped(below, self.output_dropout), tuple(torch.stack(parts) for parts in zip(*states, strict=True))

    def begin(self, like: Tensor) -> State:
        """The state before the first step of rows like these, (B, ·): (layers * directions, B, H) each."""
        starts = [self._start(index, like[None], None) for index in range(len(self.cells))]
        return tuple(torch.stack(parts) for parts in zip(*starts, strict=True))

    def _read(self, x: Tensor, mask: Tensor | None, state: State | None, final: bool) -> tuple[Tensor, State]:
        self._check(x, mask)
        lengths = None if mask is None else mask.sum(1)
        order = None if lengths is None or self.directions == 1 else reversed_order(lengths, x.shape[1])
        freeze = lengths if final and mask is not None and not mask.all() else None
        below = x.transpose(0, 1).contiguous()  # time first: both the kernels and the steps want each time step in one piece
        last: list[State] = []
        for layer in range(self.layers):
            entering = self._dropped(below, self.dropout if layer else self.input_dropout)
            outputs = []
            for direction in range(self.directions):
                index = layer * self.directions + direction
                start = self._start(index, below, state)
                output, end = self._scan(index, reverse(entering, order) if direction else entering, start, freeze)
                outputs.append(reverse(output, order) if direction else output)
                last.append(end)
            given = torch.cat(outputs, -1) if self.directions > 1 else outputs[0]
            below = given + below if self.residual and given.shape == below.shape else given
        hidden = self._dropped(below, self.output_dropout).transpose(0, 1)
        if mask is not None:
            hidden = masks.zeroed(hidden, mask)
        return hidden, tuple(torch.stack(parts) for parts in zip(*last, strict=True)) if final else ()

    def _scan(self, index: int, x: Tensor, state: State, freeze: Tensor | None) -> tuple[Tensor, State]:
        """One cell over x (T, B, D). With `freeze` (B,), row lengths, the state returned is the one at each row's own end."""
        cell = self.cells[index]
        assert isinstance(cell, Cell)
        keep = weight = None
        if self.training and self.variational:
            x = x * dropout(x.new_ones(x.shape[1], cell.input_size), self.variational)  # (B, D)
            keep = dropout(x.new_ones(x.shape[1], cell.hidden_size), self.variational)  # (B, H)
        if self.training and self.weight_dropout:
            weight = dropout(cell.state_weight, self.weight_dropout)
        hidden, last = cell.scan(x, state, keep, freeze, weight)
        return cell.read(hidden), last

    def _dropped(self, x: Tensor, rate: float) -> Tensor:
        return dropout(x, rate) if self.training else x

    def _start(self, index: int, x: Tensor, state: State | None) -> State:
        if state is not None:
            return tuple(part[index] for part in state)
        if self.initial is None:
            return self.cells[index].zeros(x)  # type: ignore[operator]
        return tuple(part.expand(x.shape[1], -1).contiguous() for part in self.initial[:, index])

    def _check(self, x: Tensor, mask: Tensor | None) -> None:
        if x.shape[-1] != self.input_size:
            raise ValueError(f"x has size {x.shape[-1]}, the network reads input_size={self.input_size}")
        if mask is None:
            return
        masks.check(x, mask)
        if mask.device.type == "cpu" and not torch.compiler.is_compiling() and (mask[:, 1:] > mask[:, :-1]).any():
            raise ValueError("a recurrent network needs masks whose rows are real tokens first, padding after them; this one has holes")


def reversed_order(lengths: Tensor, steps: int) -> Tensor:
    """Flat indices (T * B,): where each entry of a time-major batch comes from when every row is reversed in its own length."""
    time = torch.arange(steps, device=lengths.device)[:, None]  # (T, 1)
    source = torch.where(time < lengths, lengths - 1 - time, time)  # (T, B)
    return (source * len(lengths) + torch.arange(len(lengths), device=lengths.device)).flatten()


def reverse(x: Tensor, order: Tensor | None) -> Tensor:
    """x (T, B, D) with every row reversed by `reversed_order`, or whole where there is none."""
    return x.flip(0) if order is None else Permute.apply(x, order)  # type: ignore[no-untyped-call]


class Permute(torch.autograd.Function):
    """x (T, B, D) with its (T * B) entries reordered by a permutation that is its own inverse.

    So the gradient is the same reordering again; index_select alone would add it up row by row.
    """

    @staticmethod
    def forward(context, x: Tensor, order: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        context.save_for_backward(order)
        return x.flatten(0, 1).index_select(0, order).view_as(x)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (order,) = context.saved_tensors
        return Permute.apply(gradient, order), None  # type: ignore[no-untyped-call]
