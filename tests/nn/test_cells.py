"""Every cell's fast ways against its own step by step; the sweep's derivative against autograd's; the runner's options, each by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from weft.nn import lstm
from weft.nn.cells import CELLS, OPTIONS, Cell, CoupledLSTMCell, LSTMCell, PeepholeLSTMCell, gates_that_see, packed
from weft.nn.dropout import dropout
from weft.nn.recurrent import Recurrent

DOUBLE = torch.float64
DEPTHS = {"input_depth": 1, "state_depth": 2, "output_depth": 1}
KINDS: list[dict[str, Any]] = [
    *({"cell": "elman", "activation": name} for name in ("tanh", "relu", "sigmoid")),
    {"cell": "lstm"},
    {"cell": "peephole-lstm"},
    {"cell": "peephole-lstm", "output_sees": "old"},
    {"cell": "peephole-lstm", "peepholes": "output"},
    {"cell": "peephole-lstm", "peepholes": "candidate,input"},
    {"cell": "peephole-lstm", "peepholes": "input,forget,candidate,output", "output_sees": "old"},
    {"cell": "peephole-lstm", "peepholes": ""},
    {"cell": "peephole-lstm", "peepholes": "full"},
    {"cell": "coupled-lstm"},
    {"cell": "coupled-lstm", "peepholes": "forget,output"},
    {"cell": "coupled-lstm", "peepholes": "forget,candidate,output", "output_sees": "old"},
    {"cell": "coupled-lstm", "peepholes": "full"},
    *({"cell": "gru", "reset": reset, "update": update} for reset in ("after", "before") for update in ("old", "candidate")),
]


def name(options: dict[str, Any]) -> str:
    return " ".join(str(value) for value in options.values())


def network_of(options: dict[str, Any], dtype: torch.dtype = DOUBLE, **more: Any) -> Recurrent:
    """4 -> 3, every parameter drawn at random, biases and peepholes too."""
    torch.manual_seed(0)
    network = Recurrent(**{"input_size": 4, "hidden_size": 3, **options, **more}).to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.6)
    return network


def cell_of(options: dict[str, Any], **more: Any) -> Cell:
    return network_of(options, **more).cells[0]  # type: ignore[return-value]


def close(actual: Any, expected: Any, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def inputs_of_the_sweep(gates: int, early: bool, late: bool, keep: bool, steps: int = 4) -> list[Tensor | None]:
    """2 rows, 3 units."""
    torch.manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=DOUBLE, requires_grad=True)

    peepholes = [draw(gates, 3) if early else None, draw(3) if late else None]
    mask = torch.tensor([[0.0, 2, 2], [2, 0, 0]], dtype=DOUBLE) if keep else None
    return [draw(steps, 2, gates * 3), draw(gates * 3, 3), *peepholes, draw(2, 3), draw(2, 3), mask]


@pytest.mark.parametrize("gates", [3, 4])
@pytest.mark.parametrize(("early", "late", "keep"), list(itertools.product([False, True], repeat=3)))
def test_the_sweep_is_the_loop_and_its_derivative_is_right(gates: int, early: bool, late: bool, keep: bool) -> None:
    given = inputs_of_the_sweep(gates, early, late, keep)
    close(lstm.sweep(*given), lstm.loop(*given), 1e-14)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lstm.sweep, given)  # finite differences, of h and of c
    needed = [tensor for tensor in given if tensor is not None and tensor.requires_grad]
    weights = [torch.randn(4, 2, 3, dtype=DOUBLE) for _ in range(2)]
    ours = torch.autograd.grad(lstm.sweep(*given), needed, weights)  # type: ignore[arg-type]
    close(ours, torch.autograd.grad(lstm.loop(*given), needed, weights), 1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("gates", [3, 4])
def test_the_sweeps_second_derivative(gates: int) -> None:
    assert torch.autograd.gradgradcheck(lstm.sweep, inputs_of_the_sweep(gates, True, True, True, steps=2))


def test_the_sweep_alters_nothing_it_was_given_and_can_be_gone_through_twice() -> None:
    given = inputs_of_the_sweep(4, True, True, True)
    before = [None if tensor is None else tensor.detach().clone() for tensor in given]
    total = lstm.sweep(*given)[0].sum()  # type: ignore[arg-type]
    first = torch.autograd.grad(total, given[:6], retain_graph=True)  # type: ignore[arg-type]
    close(torch.autograd.grad(total, given[:6]), first, 0)  # type: ignore[arg-type]
    for tensor, was in zip(given, before, strict=True):
        assert tensor is None or torch.equal(tensor, was)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", KINDS, ids=name)
@pytest.mark.parametrize("depths", [{}, DEPTHS], ids=["plain", "deep"])
def test_every_way_through_a_sequence_is_the_loop(options: dict[str, Any], depths: dict[str, int]) -> None:
    """Whole, with rows that end, with masked states and other weights: values, last states, and the gradients of every parameter."""
    cell = cell_of(options, **depths)
    x = torch.randn(6, 4, 4, dtype=DOUBLE, requires_grad=True)
    state = tuple(torch.randn(4, 3, dtype=DOUBLE).requires_grad_() for _ in range(cell.states))
    keep = dropout(torch.ones(4, 3, dtype=DOUBLE), 0.5)
    lengths, weight = torch.tensor([6, 2, 0, 3]), (cell.state_weight * 2).detach().requires_grad_()
    real = (torch.arange(6)[:, None] < lengths)[..., None]
    for masked, ends, other in itertools.product((None, keep), (None, lengths), (None, weight)):
        fast, fast_last = cell.scan(x, state, masked, ends, other)
        slow, slow_last = cell.loop(x, state, masked, ends, other)
        if ends is not None:
            fast, slow = fast * real, slow * real
        close(fast, slow)
        close(fast_last, slow_last)
        through = [x, *state, *cell.parameters(), weight]
        score = torch.randn_like(slow)
        both = [
            torch.autograd.grad((hidden * score).sum() + sum(part.square().sum() for part in last), through, allow_unused=True)
            for hidden, last in ((fast, fast_last), (slow, slow_last))
        ]
        close(*both)


@pytest.mark.parametrize("options", KINDS, ids=name)
def test_gradcheck_of_every_cell(options: dict[str, Any]) -> None:
    cell = cell_of(options, **DEPTHS)
    x, state = torch.randn(2, 4, dtype=DOUBLE), tuple(torch.randn(2, 3, dtype=DOUBLE) for _ in range(cell.states))
    given = [tensor.requires_grad_() for tensor in (x, *state)]
    assert torch.autograd.gradcheck(lambda x, *state: tuple(cell(x, state)), given)


@pytest.mark.parametrize("options", KINDS, ids=name)
def test_a_batch_is_its_rows(options: dict[str, Any]) -> None:
    """Both ways, two layers, residual: one by one, in the batch, in any order; the states at each row's own end."""
    network = network_of(options, layers=2, bidirectional=True, residual=True, initial="learnt", output_depth=1)
    lengths = torch.tensor([3, 6, 1, 4])
    mask = torch.arange(6) < lengths[:, None]
    x = torch.randn(4, 6, 4, dtype=DOUBLE)
    x[~mask] = 1e3
    hidden, state = network.run(x, mask)
    close(network(x, mask)[0], hidden)
    order = torch.tensor([2, 0, 3, 1])
    close(network(x[order], mask[order])[0], hidden[order])
    for row, length in enumerate(lengths):
        alone, last = network.run(x[row : row + 1, :length])
        close(hidden[row, :length], alone[0])
        assert not hidden[row, length:].any()
        for part, wanted in zip(state, last, strict=True):
            close(part[:, row], wanted[:, 0])


@pytest.mark.parametrize("options", [{"cell": "lstm"}, {"cell": "peephole-lstm"}], ids=name)
def test_one_token_five_thousand_and_one_beside_five_hundred(options: dict[str, Any]) -> None:
    network = network_of(options, bidirectional=True)
    cells = network.cells
    one = torch.randn(1, 1, 4, dtype=DOUBLE)
    by_hand = torch.cat([cell.step(cell.project(one[:, 0]), cell.zeros(one))[0] for cell in cells], -1)  # type: ignore[operator]
    close(network(one, torch.tensor([[True]]))[0][:, 0], by_hand)
    with torch.no_grad():  # steps at the joints tell that the long row is one row
        long = torch.randn(1, 5000, 4, dtype=DOUBLE)
        hidden, _ = network(long)
        _, state = network.run(long[:, :2500])
        forwards = tuple(part[:1] for part in state)
        (only,) = (Recurrent(**{**options, "input_size": 4, "hidden_size": 3}).double(),)
        only.cells[0].load_state_dict(cells[0].state_dict())
        close(only(long[:, 2500:], state=forwards)[0], hidden[:, 2500:, :3])
    mask = torch.arange(500) < torch.tensor([[1], [500]])
    x = torch.randn(2, 500, 4, dtype=DOUBLE, requires_grad=True)
    hidden, _ = network(x, mask)
    close(hidden[0, :1], network(x[:1, :1])[0][0])
    (gradient,) = torch.autograd.grad(hidden.sum(), x)
    assert not gradient[0, 1:].any()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("reset", ["after", "before"])
def test_the_kernel_serves_both_update_gates(reset: str) -> None:
    cell = cell_of({"cell": "gru", "reset": reset, "update": "candidate"})
    assert (cell.kernel is not None) == (reset == "after")


def test_lengths_at_the_ends_equal_packed_rows() -> None:
    """The sweep's way to the last states against the kernel's, on the cell that has both."""
    cell = cell_of({"cell": "lstm"})
    assert isinstance(cell, LSTMCell)
    x, state = torch.randn(5, 3, 4, dtype=DOUBLE), tuple(torch.randn(3, 3, dtype=DOUBLE) for _ in range(2))
    lengths = torch.tensor([5, 0, 2])
    close(cell.swept(x, state, lengths=lengths)[1], packed(cell, x, state, lengths)[1])


def test_sizes_are_the_literatures() -> None:
    """x = 10, h = 20: 4·h(h + x) weights and 4·h biases, H more for each gate that sees the cell; coupled three quarters."""

    def count(cell: str, **options: Any) -> int:
        return sum(parameter.numel() for parameter in CELLS[cell](input_size=10, hidden_size=20, **options).parameters())

    assert count("lstm") == 2480
    assert count("peephole-lstm") == 2480 + 60
    assert count("peephole-lstm", peepholes="candidate") == 2480 + 20
    assert count("peephole-lstm", peepholes="full") == 2480 + 4 * 400
    assert count("coupled-lstm") == 3 * 20 * 30 + 60
    assert count("coupled-lstm", peepholes="forget,output") == 1860 + 40
    assert count("coupled-lstm", peepholes="full") == 1860 + 3 * 400
    assert count("gru", reset="before", update="candidate") == 1860
    layer = 20 * 20 + 20
    assert count("lstm", state_depth=3) == 2480 + 3 * layer
    assert count("lstm", output_depth=2) == 2480 + 2 * layer
    assert count("lstm", input_depth=2) == (4 * 20 * 40 + 80) + (10 * 20 + 20) + layer  # the gates then read H units


def test_cells_begin_as_they_should() -> None:
    torch.manual_seed(2)
    for cell in (PeepholeLSTMCell(input_size=5, hidden_size=6), CoupledLSTMCell(input_size=5, hidden_size=6, peepholes="forget")):
        gates = dict(zip(cell.names, cell.bias.chunk(cell.gates), strict=True))
        assert (gates.pop("forget") == 1.0).all()
        assert not any(bias.any() for bias in gates.values())
        for gate in cell.state_weight.chunk(cell.gates):
            close(gate @ gate.T, torch.eye(6), 1e-5)
        assert cell.peephole_weight is not None
        assert not cell.peephole_weight.any()
    deep = LSTMCell(input_size=300, hidden_size=100, input_depth=1)
    assert deep.input_layers[0].weight.var().item() == pytest.approx(2 / 400, rel=0.05)  # type: ignore[union-attr, operator]
    assert not deep.input_layers[0].bias.any()  # type: ignore[union-attr, operator]


def test_the_sweep_is_in_float32_under_autocast() -> None:
    network = network_of({"cell": "peephole-lstm"}, torch.float32, layers=2)
    x = torch.randn(2, 5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, _ = network.run(x)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, network(x)[0], atol=0.05, rtol=0)
    low.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_weight_dropout_is_one_mask_a_pass_on_the_kernels_own_weights() -> None:
    for kind in ("elman", "lstm", "peephole-lstm", "gru"):
        network = network_of({"cell": kind}, weight_dropout=0.5)
        cell = network.cells[0]
        x = torch.randn(2, 5, 4, dtype=DOUBLE)
        torch.manual_seed(3)
        hidden = network(x)[0]
        torch.manual_seed(3)
        weight = dropout(cell.state_weight, 0.5)  # type: ignore[arg-type]
        assert 0.2 < (weight == 0).double().mean() < 0.8
        entering = x.transpose(0, 1)
        close(hidden, cell.loop(entering, cell.zeros(entering), weight=weight)[0].transpose(0, 1))  # type: ignore[operator]
        assert (network(x)[0] - hidden).abs().max() > 1e-3  # another pass, another mask
        (gradient,) = torch.autograd.grad(hidden.sum(), cell.state_weight)  # type: ignore[arg-type]
        assert torch.equal(gradient == 0, weight == 0)  # what is dropped learns nothing
        network.eval()
        close(network(x)[0], network_of({"cell": kind})(x)[0])


def test_residual_connections_where_sizes_agree() -> None:
    x = torch.randn(2, 5, 4, dtype=DOUBLE)
    for size, first in ((3, False), (2, True)):  # 2 · 2 = 4: the first layer too
        network = network_of({"cell": "lstm"}, layers=3, bidirectional=True, residual=True, hidden_size=size)
        below = x
        for layer in range(3):
            one = network_of({"cell": "lstm"}, bidirectional=True, hidden_size=size, input_size=below.shape[-1])
            for mine, theirs in zip(one.cells, network.cells[2 * layer : 2 * layer + 2], strict=True):
                mine.load_state_dict(theirs.state_dict())
            given = one(below)[0]
            below = given + below if layer or first else given
        close(network(x)[0], below)


def test_dropout_of_inputs_and_outputs_is_fresh_at_every_step() -> None:
    x = torch.randn(3, 30, 4, dtype=DOUBLE)
    network = network_of({"cell": "gru"}, layers=2, input_dropout=0.5, dropout=0.25, output_dropout=0.5)
    torch.manual_seed(4)
    hidden = network(x)[0]
    torch.manual_seed(4)
    below = dropout(x.transpose(0, 1).contiguous(), 0.5)
    assert not (below == 0).all(0).any()  # no unit goes for a whole sequence
    for index, cell in enumerate(network.cells):
        below = dropout(below, 0.25) if index else below
        below, _ = cell.loop(below, cell.zeros(below))  # type: ignore[operator]
    close(hidden, dropout(below, 0.5).transpose(0, 1))
    network.eval()
    close(network(x)[0], network_of({"cell": "gru"}, layers=2)(x)[0])


def test_the_table_of_options_is_what_the_classes_take() -> None:
    import inspect

    common = {"self", "input_size", "hidden_size", "depths", "coupled"}
    for kind, cell in CELLS.items():
        assert set(OPTIONS[kind]) == set(inspect.signature(cell.__init__).parameters) - common


def test_wrong_choices_are_named() -> None:
    for options, words in (
        ({"cell": "peephole-lstm", "peepholes": "input,reset"}, "input, forget, candidate, output .* not 'reset'"),
        ({"cell": "coupled-lstm", "peepholes": "input"}, "forget, candidate, output .* not 'input'"),
        ({"cell": "peephole-lstm", "output_sees": "both"}, "output_sees='both'"),
        ({"cell": "gru", "update": "new"}, "update='new'"),
        ({"state_depth": -1}, "state_depth=-1"),
        ({"weight_dropout": 1.0}, "weight_dropout=1.0"),
        ({"input_dropout": -0.5}, "input_dropout=-0.5"),
        ({"output_dropout": 1.5}, "output_dropout=1.5"),
    ):
        with pytest.raises(ValueError, match=words):
            Recurrent(**{"cell": "lstm", "input_size": 6, "hidden_size": 5, **options})
    assert gates_that_see(" output, input ", False) == ("input", "output")
    assert isinstance(Recurrent(cell="peephole-lstm", input_size=2, hidden_size=2, coupled=True, peepholes="").cells[0].names, tuple)


def test_copies_are_equal() -> None:
    torch.manual_seed(5)
    made = [Recurrent(cell="coupled-lstm", input_size=4, hidden_size=3, peepholes="full", **DEPTHS) for _ in range(2)]
    made[1].load_state_dict(made[0].state_dict())
    x = torch.randn(2, 3, 4)
    assert torch.equal(made[0](x)[0], made[1](x)[0])
    assert isinstance(made[0].cells[0].state_layers, nn.ModuleList)
