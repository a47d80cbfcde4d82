"""Recurrent cells, each stated as its equations: one step, and the same step over a whole sequence.

Elman (1990); long short-term memory (Hochreiter & Schmidhuber, 1997; forget gate: Gers et al., 2000; peepholes: Gers & Schmidhuber, 2000;
coupled gates: Greff et al., 2017); gated recurrent unit (Cho et al., 2014); depth inside the step (Pascanu et al., 2014).

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

from weft.nn import lstm
from weft.nn.initialisation import forget_gate_bias_, orthogonal_, xavier_

State = tuple[Tensor, ...]
"""(hidden,) or, for an LSTM, (hidden, cell). One cell holds (B, H) each, a network (layers * directions, B, H) each."""

Kernel = Callable[..., tuple[Tensor, ...]]


class Cell(nn.Module):
    """One step of a recurrence, s_t = R(s_{t-1}, x_t) (E62), and the same step over a whole sequence.

    `input_weight` is (gates * H, D), `state_weight` (gates * H, H), `bias` (gates * H). Gate by gate, input weights start as
    Xavier's, state weights orthogonal; biases start at zero. A subclass states `step`, and names PyTorch's kernel for it in
    `kernel` where there is one.

    Depth inside the step (E68): `input_depth` further layers of H tanh units stand between x and the gates, `state_depth` between h'
    and the products it enters, `output_depth` between h and what `read` gives; 0 is the plain cell. Those of inputs and outputs
    are one product for all steps, and leave the kernel usable; those of the state take it from us.
    """

    gates = 1
    states = 1
    kernel: Kernel | None = None

    def __init__(self, *, input_size: int, hidden_size: int, input_depth: int = 0, state_depth: int = 0, output_depth: int = 0) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"{input_size=} and {hidden_size=} must be at least 1")
        if min(input_depth, state_depth, output_depth) < 0:
            raise ValueError(f"{input_depth=}, {state_depth=} and {output_depth=} must be at least 0")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.input_weight = nn.Parameter(torch.empty(self.gates * hidden_size, hidden_size if input_depth else input_size))
        self.state_weight = nn.Parameter(torch.empty(self.gates * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(self.gates * hidden_size))
        for gate in self.input_weight.detach().chunk(self.gates):
            xavier_(gate)
        for gate in self.state_weight.detach().chunk(self.gates):
            orthogonal_(gate)
        self.input_layers = inner_layers(input_depth, input_size, hidden_size)
        self.state_layers = inner_layers(state_depth, hidden_size, hidden_size)
        self.output_layers = inner_layers(output_depth, hidden_size, hidden_size)

    def extra_repr(self) -> str:
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}"

    def forward(self, x: Tensor, state: State) -> State:
        """x (B, D), state (B, H) each -> the next state. Its first tensor, through `read`, is the output."""
        return self.step(self.project(x), state)

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every gate, W x + b: (..., D) -> (..., gates * H). All time steps are one matrix product."""
        return F.linear(through(self.input_layers, x), self.input_weight, self.bias)

    def read(self, hidden: Tensor) -> Tensor:
        """The output from h (..., H): h itself, or `output_depth` layers above it."""
        return through(self.output_layers, hidden)

    def seen(self, hidden: Tensor, keep: Tensor | None) -> Tensor:
        """h' (B, H) as it enters the products: masked, and through `state_depth` layers."""
        return through(self.state_layers, hidden if keep is None else hidden * keep)

    def step(self, projected: Tensor, state: State, keep: Tensor | None = None, weight: Tensor | None = None) -> State:
        """The next state from a projected input (B, gates * H).

        `keep` (B, H) multiplies h' where it enters a matrix product; `weight` stands in for `state_weight`.
        """
        raise NotImplementedError

    def zeros(self, x: Tensor) -> State:
        """s_0 = 0 for a sequence x (T, B, D)."""
        return tuple(x.new_zeros(x.shape[1], self.hidden_size) for _ in range(self.states))

    def loop(
        self, x: Tensor, state: State, keep: Tensor | None = None, lengths: Tensor | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Step by step over x (T, B, D) -> every h (T, B, H), last state; frozen past the ends of rows where there are `lengths` (B,)."""
        outputs = []
        for time, projected in enumerate(self.project(x).unbind(0)):
            new = self.step(projected, state, keep, weight)
            if lengths is not None:
                real = (time < lengths)[:, None]
                new = tuple(torch.where(real, after, before) for after, before in zip(new, state, strict=True))
            state = new
            outputs.append(state[0])
        return torch.stack(outputs), state

    def kernel_weights(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(W_x, W_h, b) as PyTorch's kernel wants them; `weight` is the state's."""
        return self.input_weight, weight, self.bias

    def fused(self, x: Tensor, state: State, batch_sizes: Tensor | None = None, weight: Tensor | None = None) -> tuple[Tensor, State]:
        """What `loop` computes, by PyTorch's kernel. With `batch_sizes`, x is the data of a PackedSequence."""
        assert self.kernel is not None
        weights = self.kernel_weights(self.state_weight if weight is None else weight)
        weights = (*weights, torch.zeros_like(self.bias.detach()))  # type: ignore[assignment]
        x = through(self.input_layers, x)
        start = tuple(part[None] for part in state)
        first = start if self.states > 1 else start[0]
        options = (True, 1, 0.0, self.training, False)  # biases, layers, dropout, training, bidirectional
        if batch_sizes is None:
            output, *last = self.kernel(x, first, weights, *options, False)
        else:
            output, *last = self.kernel(x, batch_sizes, first, weights, *options)
        return output, tuple(part[0] for part in last)

    def scan(
        self, x: Tensor, state: State, keep: Tensor | None = None, lengths: Tensor | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """What `loop` computes, in the fastest way there is."""
        if self.kernel is None or keep is not None or len(self.state_layers):
            return self.loop(x, state, keep, lengths, weight)
        if lengths is None:
            return self.fused(x, state, None, weight)
        return packed(self, x, state, lengths, weight)


def inner_layers(depth: int, input_size: int, hidden_size: int) -> nn.ModuleList:
    """`depth` linear layers of hidden_size units; weights start as Xavier's, biases at zero."""
    layers = nn.ModuleList(nn.Linear(hidden_size if k else input_size, hidden_size) for k in range(depth))
    for layer in layers:
        xavier_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layers


def through(layers: nn.ModuleList, x: Tensor) -> Tensor:
    """x (..., D) through layers with tanh after each."""
    for layer in layers:
        x = torch.tanh(layer(x))
    return x


ELMAN: dict[str, tuple[Callable[[Tensor], Tensor], Kernel | None]] = {
    "tanh": (torch.tanh, _VF.rnn_tanh),
    "relu": (torch.relu, _VF.rnn_relu),
    "sigmoid": (torch.sigmoid, None),
}


class ElmanCell(Cell):
    """h = f(b + W h' + U x), f = tanh, relu or sigmoid (Elman, 1990; E63). PyTorch has no kernel for the sigmoid: it runs step by step."""

    def __init__(self, *, input_size: int, hidden_size: int, activation: str = "tanh", **depths: int) -> None:
        if activation not in ELMAN:
            raise ValueError(f"{activation=} must be one of {', '.join(ELMAN)}")
        super().__init__(input_size=input_size, hidden_size=hidden_size, **depths)
        self.function, self.kernel = ELMAN[activation]

    def step(self, projected: Tensor, state: State, keep: Tensor | None = None, weight: Tensor | None = None) -> State:
        """h = f(projected + W h')."""
        weight = self.state_weight if weight is None else weight
        return (self.function(projected + F.linear(self.seen(state[0], keep), weight)),)


class LSTMCell(Cell):
    """c = f * c' + i * g, h = o * tanh(c), with i, f, o = sigmoid(W [h'; x] + b), g = tanh(W [h'; x] + b) (Gers et al., 2000; E74).

    Gates are stacked in the order i, f, g, o. 4 H (H + D) weights and 4 H biases; the forget gate's start at `forget_bias`,
    so that a new cell remembers (Jozefowicz et al., 2015).
    """

    gates = 4
    states = 2
    kernel: Kernel | None = staticmethod(_VF.lstm)

    def __init__(self, *, input_size: int, hidden_size: int, forget_bias: float = 1.0, **depths: int) -> None:
        super().__init__(input_size=input_size, hidden_size=hidden_size, **depths)
        forget_gate_bias_(self.bias, hidden_size, value=forget_bias, gates=self.gates)

    def peepholes(self) -> tuple[Tensor | None, Tensor | None]:
        """The weights of c' in every gate (gates, H), and of c in the output gate (H); None where there are none."""
        return None, None

    def preactivation(self, projected: Tensor, state: State, keep: Tensor | None, weight: Tensor | None) -> Tensor:
        """W [h'; x] + b: (B, gates * H)."""
        return projected + F.linear(self.seen(state[0], keep), self.state_weight if weight is None else weight)

    def step(self, projected: Tensor, state: State, keep: Tensor | None = None, weight: Tensor | None = None) -> State:
        """(h', c') -> (h, c), by the equations in `weft.nn.lstm.step`."""
        gates = self.preactivation(projected, state, keep, weight).view(-1, self.gates, self.hidden_size)
        return lstm.step(gates, state[1], *self.peepholes())

    def fused(self, x: Tensor, state: State, batch_sizes: Tensor | None = None, weight: Tensor | None = None) -> tuple[Tensor, State]:
        """As every cell's; in float32, under whatever autocast, on a CPU for which PyTorch's kernel has no bfloat16 form."""
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not cpu_has_bf16_lstm():
            dtype = self.input_weight.dtype
            with torch.autocast("cpu", enabled=False):
                return super().fused(x.to(dtype), tuple(part.to(dtype) for part in state), batch_sizes, weight)
        return super().fused(x, state, batch_sizes, weight)

    def swept(
        self, x: Tensor, state: State, keep: Tensor | None = None, lengths: Tensor | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """What `loop` computes, without a `state_depth`, by `weft.nn.lstm.sweep`: in the weights' precision, under whatever autocast."""
        projected, dtype = self.project(x), self.state_weight.dtype
        hidden, cell = (part.to(dtype) for part in state)
        early, late = self.peepholes()
        weight = self.state_weight if weight is None else weight
        with torch.autocast(x.device.type, enabled=False):
            hiddens, cells = lstm.sweep(projected.to(dtype), weight, early, late, hidden, cell, keep)
        if lengths is None:
            return hiddens, (hiddens[-1], cells[-1])
        return hiddens, (at_ends(hiddens, hidden, lengths), at_ends(cells, cell, lengths))

    def scan(
        self, x: Tensor, state: State, keep: Tensor | None = None, lengths: Tensor | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """By PyTorch's kernel; by `swept` where it has none for what is asked; by `loop` with a `state_depth`."""
        if len(self.state_layers) or (self.kernel is not None and keep is None):
            return super().scan(x, state, keep, lengths, weight)
        return self.swept(x, state, keep, lengths, weight)


GATES = ("input", "forget", "candidate", "output")


class PeepholeLSTMCell(LSTMCell):
    """An LSTM whose gates see the cell: i = sigmoid(W [h'; x] + b + p * c'), and so on (Gers & Schmidhuber, 2000; E75).

    peepholes: which gates, of input, forget, candidate and output, by their names with commas between. They see the old cell c', each unit
        its own (H weights a gate, zero at first, so that a new cell is a plain LSTM); the output gate sees the new cell c, or
        with `output_sees="old"` c' too. "full": all of them see all of c', in one product W [h'; x; c'] (gates * H² weights).
    coupled: no input gate, i = 1 - f: c = f * c' + (1 - f) * g forgets only where it writes, and stays within 1 where it began so.
        Gates are then f, g, o: 3 H (H + D) weights and 3 H biases (Greff et al., 2017).
    """

    kernel = None

    def __init__(
        self,
        *,
        input_size: int,
        hidden_size: int,
        forget_bias: float = 1.0,
        peepholes: str = "input,forget,output",
        output_sees: str = "new",
        coupled: bool = False,
        **depths: int,
    ) -> None:
        if output_sees not in ("new", "old"):
            raise ValueError(f"{output_sees=} must be 'new' or 'old'")
        self.names, self.seeing = GATES[1:] if coupled else GATES, gates_that_see(peepholes, coupled)
        self.gates = len(self.names)
        super().__init__(input_size=input_size, hidden_size=hidden_size, forget_bias=forget_bias, **depths)
        self.output_sees = output_sees
        diagonal, full = bool(self.seeing), peepholes.strip() == "full"
        self.peephole_weight = nn.Parameter(torch.zeros(len(self.seeing), hidden_size)) if diagonal else None
        self.cell_weight = nn.Parameter(torch.empty(self.gates * hidden_size, hidden_size)) if full else None
        for gate in () if self.cell_weight is None else self.cell_weight.detach().chunk(self.gates):
            xavier_(gate)

    def peepholes(self) -> tuple[Tensor | None, Tensor | None]:
        """The diagonal weights: of c' in every gate (gates, H), zero for those that do not see it; of c in the output gate (H)."""
        if self.peephole_weight is None:
            return None, None
        rows = dict(zip(self.seeing, self.peephole_weight.unbind(0), strict=True))
        late = rows.pop("output", None) if self.output_sees == "new" else None
        blind = self.peephole_weight.new_zeros(self.hidden_size)
        return torch.stack([rows.get(name, blind) for name in self.names]) if rows else None, late

    def preactivation(self, projected: Tensor, state: State, keep: Tensor | None, weight: Tensor | None) -> Tensor:
        """W [h'; x] + b, or W [h'; x; c'] + b."""
        gates = super().preactivation(projected, state, keep, weight)
        return gates if self.cell_weight is None else gates + F.linear(state[1], self.cell_weight)

    def scan(
        self, x: Tensor, state: State, keep: Tensor | None = None, lengths: Tensor | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """By `swept`; by `loop` with a `state_depth` or full peepholes."""
        if self.cell_weight is not None:
            return self.loop(x, state, keep, lengths, weight)
        return super().scan(x, state, keep, lengths, weight)


class CoupledLSTMCell(PeepholeLSTMCell):
    """c = f * c' + (1 - f) * g (E75): `PeepholeLSTMCell` with `coupled`, and no peepholes unless they are asked for."""

    def __init__(
        self, *, input_size: int, hidden_size: int, forget_bias: float = 1.0, peepholes: str = "", output_sees: str = "new", **depths: int
    ) -> None:
        super().__init__(
            input_size=input_size, hidden_size=hidden_size, forget_bias=forget_bias, peepholes=peepholes, output_sees=output_sees,
            coupled=True, **depths,
        )  # fmt: skip


def gates_that_see(peepholes: str, coupled: bool) -> tuple[str, ...]:
    """ "input,output" -> the gates' names in their order; none for "" and for "full". ValueError names what there is."""
    names = [name.strip() for name in peepholes.split(",") if name.strip()]
    there = GATES[1:] if coupled else GATES
    if names == ["full"]:
        return ()
    if unknown := [name for name in names if name not in there]:
        raise ValueError(f"peepholes must be of {', '.join(there)} with commas between, or full, not {unknown[0]!r}")
    return tuple(name for name in there if name in names)


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

    With `update="candidate"`, as often printed, z takes the candidate: h = (1 - z) * h' + z * n; the same functions, z's weights negated.
    The candidate n has the reset gate after the product by default, tanh(W_x x + b + r * (W_h h')), as PyTorch;
    `reset="before"` is the paper's, tanh(W_x x + b + W_h (r * h')), which no kernel has: it runs step by step.
    Gates are stacked in the order r, z, n. 3 H (H + D) weights and 3 H biases in all forms: the further bias that
    PyTorch has inside the reset product is zero here.
    """

    gates = 3
    kernel: Kernel | None = staticmethod(_VF.gru)

    def __init__(self, *, input_size: int, hidden_size: int, reset: str = "after", update: str = "old", **depths: int) -> None:
        if reset not in ("after", "before"):
            raise ValueError(f"{reset=} must be 'after' or 'before'")
        if update not in ("old", "candidate"):
            raise ValueError(f"{update=} must be 'old' or 'candidate'")
        super().__init__(input_size=input_size, hidden_size=hidden_size, **depths)
        self.reset, self.update = reset, update
        if reset == "before":
            self.kernel = None

    def step(self, projected: Tensor, state: State, keep: Tensor | None = None, weight: Tensor | None = None) -> State:
        """h' -> h."""
        hidden = self.seen(state[0], keep)
        gates_x, candidate_x = projected.tensor_split([2 * self.hidden_size], -1)
        gates_h, candidate_h = (self.state_weight if weight is None else weight).tensor_split([2 * self.hidden_size])
        reset, update = torch.sigmoid(gates_x + F.linear(hidden, gates_h)).chunk(2, -1)
        if self.reset == "after":
            candidate = torch.tanh(candidate_x + reset * F.linear(hidden, candidate_h))
        else:
            candidate = torch.tanh(candidate_x + F.linear(reset * hidden, candidate_h))
        if self.update == "candidate":
            return ((1 - update) * state[0] + update * candidate,)
        return ((1 - update) * candidate + update * state[0],)

    def kernel_weights(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z's negated where it takes the candidate: 1 - sigmoid(a) = sigmoid(-a)."""
        if self.update == "old":
            return self.input_weight, weight, self.bias
        sign = self.bias.new_tensor([1.0, -1.0, 1.0]).repeat_interleave(self.hidden_size)
        return self.input_weight * sign[:, None], weight * sign[:, None], self.bias * sign


def at_ends(stacked: Tensor, start: Tensor, lengths: Tensor) -> Tensor:
    """Of the states after every step (T, B, H), each row's after its own last one (B, H); `start` (B, H) where it has none."""
    return torch.cat((start[None], stacked))[lengths, torch.arange(len(lengths), device=lengths.device)]


def packed(cell: Cell, x: Tensor, state: State, lengths: Tensor, weight: Tensor | None = None) -> tuple[Tensor, State]:
    """The kernel over rows packed by their lengths: its one way to a cell state at the end of every row. Empty rows keep theirs."""
    rows = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), enforce_sorted=False)
    data, last = cell.fused(rows.data, tuple(part[rows.sorted_indices] for part in state), rows.batch_sizes, weight)
    output, _ = pad_packed_sequence(rows._replace(data=data), total_length=x.shape[0])
    real = (lengths > 0)[:, None]
    return output, tuple(torch.where(real, part[rows.unsorted_indices], before) for part, before in zip(last, state, strict=True))


CELLS: dict[str, type[Cell]] = {
    "elman": ElmanCell,
    "lstm": LSTMCell,
    "peephole-lstm": PeepholeLSTMCell,
    "coupled-lstm": CoupledLSTMCell,
    "gru": GRUCell,
}
_LSTM = ("forget_bias", "peepholes", "output_sees")
OPTIONS: dict[str, tuple[str, ...]] = {
    "elman": ("activation",), "lstm": _LSTM[:1], "peephole-lstm": _LSTM, "coupled-lstm": _LSTM, "gru": ("reset", "update"),
}  # fmt: skip
"""What each cell has to choose, beyond its sizes and depths."""
