"""Recurrent networks: cells that state the mathematics, and one runner for deep and bidirectional ones.

Elman (1990); long short-term memory (Hochreiter & Schmidhuber, 1997; forget gate: Gers et al., 2000);
gated recurrent unit (Cho et al., 2014); bidirectional (Schuster & Paliwal, 1997); variational dropout (Gal & Ghahramani, 2016).

Weights are stacked gate over gate, in PyTorch's order, so that all gates are one matrix product and PyTorch's fused
kernels take them as they are. There is one bias vector a gate: the second one of those kernels is given zeros, and is
no parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import _VF, Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from weft.nn import masks
from weft.nn.dropout import dropout
from weft.nn.initialisation import forget_gate_bias_, orthogonal_, xavier_

State = tuple[Tensor, ...]
"""(hidden,) or, for an LSTM, (hidden, cell). One cell holds (B, H) each, a network (layers * directions, B, H) each."""

Kernel = Callable[..., tuple[Tensor, ...]]


class Cell(nn.Module):
    """One step of a recurrence, s_t = R(s_{t-1}, x_t) (E62), and the same step over a whole sequence.

    `input_weight` is (gates * H, D), `state_weight` (gates * H, H), `bias` (gates * H). Gate by gate, input weights start as
    Xavier's, state weights orthogonal; biases start at zero. A subclass states `step`, and names PyTorch's kernel for it in
    `kernel` where there is one.
    """

    gates = 1
    states = 1
    kernel: Kernel | None = None

    def __init__(self, *, input_size: int, hidden_size: int) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"{input_size=} and {hidden_size=} must be at least 1")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.input_weight = nn.Parameter(torch.empty(self.gates * hidden_size, input_size))
        self.state_weight = nn.Parameter(torch.empty(self.gates * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(self.gates * hidden_size))
        for gate in self.input_weight.detach().chunk(self.gates):
            xavier_(gate)
        for gate in self.state_weight.detach().chunk(self.gates):
            orthogonal_(gate)

    def extra_repr(self) -> str:
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}"

    def forward(self, x: Tensor, state: State) -> State:
        """x (B, D), state (B, H) each -> the next state. Its first tensor is the output."""
        return self.step(self.project(x), state)

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every gate, W x + b: (..., D) -> (..., gates * H). All time steps are one matrix product."""
        return F.linear(x, self.input_weight, self.bias)

    def step(self, projected: Tensor, state: State, keep: Tensor | None = None) -> State:
        """The next state from a projected input (B, gates * H). `keep` (B, H) multiplies h' where it enters a matrix product."""
        raise NotImplementedError

    def zeros(self, x: Tensor) -> State:
        """s_0 = 0 for a sequence x (T, B, D)."""
        return tuple(x.new_zeros(x.shape[1], self.hidden_size) for _ in range(self.states))

    def loop(self, x: Tensor, state: State, keep: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Step by step over x (T, B, D) -> outputs (T, B, H), last state; frozen past the ends of rows where there are `lengths` (B,)."""
        outputs = []
        for time, projected in enumerate(self.project(x).unbind(0)):
            new = self.step(projected, state, keep)
            if lengths is not None:
                real = (time < lengths)[:, None]
                new = tuple(torch.where(real, after, before) for after, before in zip(new, state, strict=True))
            state = new
            outputs.append(state[0])
        return torch.stack(outputs), state

    def fused(self, x: Tensor, state: State, batch_sizes: Tensor | None = None) -> tuple[Tensor, State]:
        """What `loop` computes, by PyTorch's kernel. With `batch_sizes`, x is the data of a PackedSequence."""
        assert self.kernel is not None
        weights = (self.input_weight, self.state_weight, self.bias, torch.zeros_like(self.bias.detach()))
        start = tuple(part[None] for part in state)
        first = start if self.states > 1 else start[0]
        options = (True, 1, 0.0, self.training, False)  # biases, layers, dropout, training, bidirectional
        if batch_sizes is None:
            output, *last = self.kernel(x, first, weights, *options, False)
        else:
            output, *last = self.kernel(x, batch_sizes, first, weights, *options)
        return output, tuple(part[0] for part in last)

    def scan(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x (T, B, D), state -> outputs (T, B, H), last state, by the fused kernel where there is one."""
        return self.loop(x, state) if self.kernel is None else self.fused(x, state)


ELMAN: dict[str, tuple[Callable[[Tensor], Tensor], Kernel | None]] = {
    "tanh": (torch.tanh, _VF.rnn_tanh),
    "relu": (torch.relu, _VF.rnn_relu),
    "sigmoid": (torch.sigmoid, None),
}


class ElmanCell(Cell):
    """h = f(b + W h' + U x), f = tanh, relu or sigmoid (Elman, 1990; E63). PyTorch has no kernel for the sigmoid: it runs step by step."""

    def __init__(self, *, input_size: int, hidden_size: int, activation: str = "tanh") -> None:
        if activation not in ELMAN:
            raise ValueError(f"{activation=} must be one of {', '.join(ELMAN)}")
        super().__init__(input_size=input_size, hidden_size=hidden_size)
        self.function, self.kernel = ELMAN[activation]

    def step(self, projected: Tensor, state: State, keep: Tensor | None = None) -> State:
        """h = f(projected + W h')."""
        return (self.function(projected + F.linear(masked(state[0], keep), self.state_weight)),)


class LSTMCell(Cell):
    """c = f * c' + i * g, h = o * tanh(c), with i, f, o = sigmoid(W [h'; x] + b), g = tanh(W [h'; x] + b) (Gers et al., 2000; E74).

    Gates are stacked in the order i, f, g, o. 4 H (H + D) weights and 4 H biases; the forget gate's start at `forget_bias`,
    so that a new cell remembers (Jozefowicz et al., 2015).
    """

    gates = 4
    states = 2
    kernel = staticmethod(_VF.lstm)

    def __init__(self, *, input_size: int, hidden_size: int, forget_bias: float = 1.0) -> None:
        super().__init__(input_size=input_size, hidden_size=hidden_size)
        forget_gate_bias_(self.bias, hidden_size, value=forget_bias)

    def fused(self, x: Tensor, state: State, batch_sizes: Tensor | None = None) -> tuple[Tensor, State]:
        """As every cell's; in float32, under whatever autocast, on a CPU for which PyTorch's kernel has no bfloat16 form."""
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not cpu_has_bf16_lstm():
            dtype = self.input_weight.dtype
            with torch.autocast("cpu", enabled=False):
                return super().fused(x.to(dtype), tuple(part.to(dtype) for part in state), batch_sizes)
        return super().fused(x, state, batch_sizes)

    def step(self, projected: Tensor, state: State, keep: Tensor | None = None) -> State:
        """(h', c') -> (h, c)."""
        hidden, cell = state
        gates = projected + F.linear(masked(hidden, keep), self.state_weight)  # (B, 4H)
        write, forget, candidate, read = gates.chunk(4, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(write) * torch.tanh(candidate)
        return torch.sigmoid(read) * torch.tanh(cell), cell


@lru_cache(maxsize=1)
def cpu_has_bf16_lstm() -> bool:
    """Whether PyTorch's LSTM runs under bf16 autocast on this CPU, forwards and backwards.

    Autocast hands it to oneDNN whatever the processor, and oneDNN has it in bf16 for some only (not for AVX2, say). What tells
    which of them is private to both and not the same thing, so the smallest LSTM is run once. It draws no random numbers.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            weights = [torch.zeros(size, requires_grad=True) for size in ((4, 1), (4, 1), (4,), (4,))]
            x = torch.zeros(1, 1, 1)
            output, *_ = _VF.lstm(x, (x, x), weights, True, 1, 0.0, True, False, False)
            output.sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError:  # "could not create a primitive descriptor"
        return False
    return True


class GRUCell(Cell):
    """h = (1 - z) * n + z * h', with r, z = sigmoid(W [h'; x] + b) (Cho et al., 2014; E76, PyTorch's form: z keeps the OLD state).

    The candidate n has the reset gate after the product by default, tanh(W_x x + b + r * (W_h h')), as PyTorch;
    `reset="before"` is the paper's, tanh(W_x x + b + W_h (r * h')), which no kernel has: it runs step by step.
    Gates are stacked in the order r, z, n. 3 H (H + D) weights and 3 H biases in both forms: the further bias that
    PyTorch has inside the reset product is zero here.
    """

    gates = 3
    kernel: Kernel | None = staticmethod(_VF.gru)

    def __init__(self, *, input_size: int, hidden_size: int, reset: str = "after") -> None:
        if reset not in ("after", "before"):
            raise ValueError(f"{reset=} must be 'after' or 'before'")
        super().__init__(input_size=input_size, hidden_size=hidden_size)
        self.reset = reset
        if reset == "before":
            self.kernel = None

    def step(self, projected: Tensor, state: State, keep: Tensor | None = None) -> State:
        """h' -> h."""
        hidden = masked(state[0], keep)
        gates_x, candidate_x = projected.tensor_split([2 * self.hidden_size], -1)
        gates_h, candidate_h = self.state_weight.tensor_split([2 * self.hidden_size])
        reset, update = torch.sigmoid(gates_x + F.linear(hidden, gates_h)).chunk(2, -1)
        if self.reset == "after":
            candidate = torch.tanh(candidate_x + reset * F.linear(hidden, candidate_h))
        else:
            candidate = torch.tanh(candidate_x + F.linear(reset * hidden, candidate_h))
        return ((1 - update) * candidate + update * state[0],)


CELLS: dict[str, type[Cell]] = {"elman": ElmanCell, "lstm": LSTMCell, "gru": GRUCell}


class Recurrent(nn.Module):
    """A recurrent network: `layers` deep (E68), one way or both (E69), over padded rows (E71), with either dropout of E70.

    cell: "elman", "lstm" or "gru"; further keywords go to its class (`activation`, `forget_bias`, `reset`).
    bidirectional: every layer reads both ways, each direction with its own cell, and feeds on both directions of the layer below.
    dropout: probability of dropping a unit between layers, anew at every time step; never on the state.
    variational: probability of dropping a unit of a layer's input, and of the hidden state where it enters the recurrent
        product, by one mask a sequence, the same at all time steps. No fused kernel does this: in training such a network
        runs step by step (slower), though the input product of all time steps stays one. Prediction is as fast as ever.
    initial: "zero" or "learnt", the state before the first token (a learnt one starts at zero).

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
        dropout: float = 0.0,
        variational: float = 0.0,
        initial: str = "zero",
        **options: object,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"{cell=} must be one of {', '.join(CELLS)}")
        if layers < 1:
            raise ValueError(f"{layers=} must be at least 1")
        if not (0 <= dropout < 1 and 0 <= variational < 1):
            raise ValueError(f"{dropout=} and {variational=} must be at least 0 and below 1")
        if initial not in ("zero", "learnt"):
            raise ValueError(f"{initial=} must be 'zero' or 'learnt'")
        self.input_size, self.hidden_size, self.layers, self.directions = input_size, hidden_size, layers, 2 if bidirectional else 1
        self.dropout, self.variational = dropout, variational
        self.output_size = hidden_size * self.directions
        sizes = [input_size] + [self.output_size] * (layers - 1)
        self.cells = nn.ModuleList(
            CELLS[cell](input_size=size, hidden_size=hidden_size, **options) for size in sizes for _ in range(self.directions)
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

    def _read(self, x: Tensor, mask: Tensor | None, state: State | None, final: bool) -> tuple[Tensor, State]:
        self._check(x, mask)
        lengths = None if mask is None else mask.sum(1)
        order = None if lengths is None or self.directions == 1 else reversed_order(lengths, x.shape[1])
        freeze = lengths if final and mask is not None and not mask.all() else None
        below = x.transpose(0, 1).contiguous()  # time first: both the kernels and the steps want each time step in one piece
        last: list[State] = []
        for layer in range(self.layers):
            if layer and self.training:
                below = dropout(below, self.dropout)
            outputs = []
            for direction in range(self.directions):
                index = layer * self.directions + direction
                entering = reverse(below, order) if direction else below
                output, end = self._scan(index, entering, self._start(index, below, state), freeze)
                outputs.append(reverse(output, order) if direction else output)
                last.append(end)
            below = torch.cat(outputs, -1) if self.directions > 1 else outputs[0]
        hidden = below.transpose(0, 1)
        if mask is not None:
            hidden = masks.zeroed(hidden, mask)
        return hidden, tuple(torch.stack(parts) for parts in zip(*last, strict=True)) if final else ()

    def _scan(self, index: int, x: Tensor, state: State, freeze: Tensor | None) -> tuple[Tensor, State]:
        """One cell over x (T, B, D). With `freeze` (B,), row lengths, the state returned is the one at each row's own end."""
        cell = self.cells[index]
        assert isinstance(cell, Cell)
        if self.training and self.variational:
            entering = dropout(x.new_ones(x.shape[1], cell.input_size), self.variational)  # (B, D)
            keep = dropout(x.new_ones(x.shape[1], cell.hidden_size), self.variational)  # (B, H)
            return cell.loop(x * entering, state, keep, freeze)
        if freeze is None:
            return cell.scan(x, state)
        if cell.kernel is None:
            return cell.loop(x, state, None, freeze)
        return packed(cell, x, state, freeze)

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


def masked(hidden: Tensor, keep: Tensor | None) -> Tensor:
    return hidden if keep is None else hidden * keep


def packed(cell: Cell, x: Tensor, state: State, lengths: Tensor) -> tuple[Tensor, State]:
    """The kernel over rows packed by their lengths: the one way to a cell state at the end of every row. Empty rows keep theirs."""
    rows = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), enforce_sorted=False)
    data, last = cell.fused(rows.data, tuple(part[rows.sorted_indices] for part in state), rows.batch_sizes)
    output, _ = pad_packed_sequence(rows._replace(data=data), total_length=x.shape[0])
    real = (lengths > 0)[:, None]
    return output, tuple(torch.where(real, part[rows.unsorted_indices], before) for part, before in zip(last, state, strict=True))


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
