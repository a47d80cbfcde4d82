"""Cells and the runner against torch.nn, packed sequences, and each other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from weft.nn import cells
from weft.nn.dropout import dropout
from weft.nn.recurrent import Cell, ElmanCell, GRUCell, LSTMCell, Permute, Recurrent, State, reversed_order

KINDS = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
LENGTHS = torch.tensor([7, 3, 1, 5])


def padded(lengths: Tensor = LENGTHS, size: int = 6, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return torch.randn(*mask.shape, size, dtype=dtype), mask


def copied(ours: Recurrent, theirs: nn.RNNBase) -> None:
    """Our weights into torch's module, whose second bias becomes zero."""
    with torch.no_grad():
        for index, cell in enumerate(ours.cells):
            name = f"l{index // ours.directions}" + ("_reverse" if index % ours.directions else "")
            getattr(theirs, f"weight_ih_{name}").copy_(cell.input_weight)
            getattr(theirs, f"weight_hh_{name}").copy_(cell.state_weight)
            getattr(theirs, f"bias_ih_{name}").copy_(cell.bias)
            getattr(theirs, f"bias_hh_{name}").zero_()


def randomised(network: nn.Module) -> nn.Module:
    """Also the biases, so that a bias in the wrong place shows."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.4)
    return network


def cell_of(kind: str, **options: object) -> Cell:
    return randomised(Recurrent(cell=kind, input_size=6, hidden_size=5, **options)).cells[0]  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["elman", "lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_network_equals_torch_over_packed_rows(kind: str, layers: int, bidirectional: bool) -> None:
    torch.manual_seed(0)
    ours = Recurrent(cell=kind, input_size=6, hidden_size=5, layers=layers, bidirectional=bidirectional)
    randomised(ours)
    theirs = KINDS[kind](6, 5, layers, bidirectional=bidirectional, batch_first=True)
    copied(ours, theirs)
    x, mask = padded()
    x.requires_grad_()
    rows = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    output, last = theirs(rows)
    expected, _ = pad_packed_sequence(output, batch_first=True)  # zeros at padding
    hidden, same_mask = ours(x, mask)
    assert same_mask is mask
    assert hidden.shape == (4, 7, ours.output_size)
    torch.testing.assert_close(hidden, expected, atol=1e-6, rtol=0)
    again, state = ours.run(x, mask)
    torch.testing.assert_close(again, expected, atol=1e-6, rtol=0)
    for part, wanted in zip(state, last if isinstance(last, tuple) else (last,), strict=True):
        torch.testing.assert_close(part, wanted, atol=1e-6, rtol=0)
    weight = torch.randn_like(expected)
    ours_gradient = torch.autograd.grad((hidden * weight).sum(), [x, *(cell.state_weight for cell in ours.cells)])
    names = [f"weight_hh_l{layer}{way}" for layer in range(layers) for way in ("", "_reverse")[: ours.directions]]
    their_gradient = torch.autograd.grad((expected * weight).sum(), [x, *(getattr(theirs, name) for name in names)])
    for mine, wanted in zip(ours_gradient, their_gradient, strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["elman", "lstm", "gru"])
def test_steps_equal_the_fused_kernel(kind: str) -> None:
    torch.manual_seed(1)
    cell = cell_of(kind)
    x, state = torch.randn(9, 3, 6), tuple(torch.randn(3, 5) for _ in range(cell.states))
    assert cell.kernel is not None
    fused, fused_last = cell.fused(x, state)
    looped, looped_last = cell.loop(x, state)
    by_hand, current = [], state
    for entry in x:
        current = cell(entry, current)
        by_hand.append(current[0])
    torch.testing.assert_close(looped, fused, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.stack(by_hand), fused, atol=1e-5, rtol=0)
    for last in (looped_last, current):
        for part, wanted in zip(last, fused_last, strict=True):
            torch.testing.assert_close(part, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "theirs"), [("elman", nn.RNNCell), ("lstm", nn.LSTMCell), ("gru", nn.GRUCell)])
def test_one_step_equals_torchs_cell(kind: str, theirs: type[nn.RNNCellBase]) -> None:
    torch.manual_seed(2)
    cell = cell_of(kind).double()
    other = theirs(6, 5).double()  # type: ignore[call-arg]
    with torch.no_grad():
        other.weight_ih.copy_(cell.input_weight)
        other.weight_hh.copy_(cell.state_weight)
        other.bias_ih.copy_(cell.bias)
        other.bias_hh.zero_()
    x, state = torch.randn(3, 6).double(), tuple(torch.randn(3, 5).double() for _ in range(cell.states))
    expected = other(x, state if cell.states > 1 else state[0])
    for part, wanted in zip(cell(x, state), expected if cell.states > 1 else (expected,), strict=True):
        torch.testing.assert_close(part, wanted, atol=1e-12, rtol=0)


def test_parameters_are_the_literatures() -> None:
    """W10: 2,400 weights and 80 biases of an LSTM with x = 10, h = 20; a GRU has three quarters of each, an Elman cell one."""
    for cell, gates in ((LSTMCell, 4), (GRUCell, 3), (ElmanCell, 1)):
        counts = [parameter.numel() for parameter in cell(input_size=10, hidden_size=20).parameters()]
        assert sum(counts) == gates * (20 * (20 + 10) + 20)
    network = Recurrent(cell="lstm", input_size=10, hidden_size=20, layers=2, bidirectional=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == 2 * 2480 + 2 * 4 * (20 * (20 + 40) + 20)
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}  # nothing frozen hides among the buffers


def test_initial_weights() -> None:
    torch.manual_seed(3)
    cell = LSTMCell(input_size=300, hidden_size=100, forget_bias=2.5)
    write, forget, candidate, read = cell.bias.chunk(4)
    assert (forget == 2.5).all()
    assert not torch.cat((write, candidate, read)).any()
    for gate in cell.state_weight.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(100), atol=1e-5, rtol=0)
    for gate in cell.input_weight.chunk(4):
        assert gate.var().item() == pytest.approx(2 / 400, rel=0.05)  # Glorot, with each gate its own matrix


@pytest.mark.parametrize("kind", ["elman", "lstm", "gru"])
@pytest.mark.parametrize("options", [{}, {"initial": "learnt"}])
def test_one_by_one_equals_in_a_batch(kind: str, options: dict[str, str]) -> None:
    torch.manual_seed(4)
    network = Recurrent(cell=kind, input_size=6, hidden_size=5, layers=2, bidirectional=True, **options)
    randomised(network)
    x, mask = padded()
    x[~mask] = 1e3  # whatever padding holds
    hidden, state = network.run(x, mask)
    for row, length in enumerate(LENGTHS):
        alone, last = network.run(x[row : row + 1, :length])
        torch.testing.assert_close(hidden[row, :length], alone[0], atol=1e-5, rtol=0)
        assert not hidden[row, length:].any()
        for part, wanted in zip(state, last, strict=True):
            torch.testing.assert_close(part[:, row], wanted[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["elman", "lstm", "gru"])
def test_rows_without_tokens_keep_their_state(kind: str) -> None:
    torch.manual_seed(5)
    network = Recurrent(cell=kind, input_size=6, hidden_size=5, layers=2, bidirectional=True)
    x, mask = padded(torch.tensor([4, 0, 2]))
    start: State = tuple(torch.randn(4, 3, 5) for _ in range(network.cells[0].states))  # type: ignore[arg-type]
    hidden, state = network.run(x, mask, start)
    assert not hidden[1].any()
    assert hidden.isfinite().all()
    for part, before in zip(state, start, strict=True):
        assert torch.equal(part[:, 1], before[:, 1])
        assert not torch.isclose(part[:, [0, 2]], before[:, [0, 2]]).any()


@pytest.mark.parametrize("options", [{"activation": "sigmoid"}, {"variational": 0.5}])
def test_stepwise_networks_freeze_the_state_too(options: dict) -> None:
    torch.manual_seed(6)
    network = Recurrent(cell="elman", input_size=6, hidden_size=5, bidirectional=True, **options)
    x, mask = padded()
    torch.manual_seed(7)  # the same variational masks twice
    hidden, (state,) = network.run(x, mask)
    rows = torch.arange(4)
    torch.testing.assert_close(state[0], hidden[rows, LENGTHS - 1, :5])
    torch.testing.assert_close(state[1], hidden[:, 0, 5:])
    torch.manual_seed(7)
    torch.testing.assert_close(network(x, mask)[0], hidden)


def test_gradients_of_the_permutation() -> None:
    order = reversed_order(torch.tensor([4, 2, 0]), 4)
    x = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: Permute.apply(values, order), (x,))
    assert torch.autograd.gradgradcheck(lambda values: Permute.apply(values, order) ** 2, (x,))
    torch.testing.assert_close(Permute.apply(Permute.apply(x, order), order), x)
    assert torch.equal(Permute.apply(x, order)[:, 0], x[:, 0].flip(0))
    assert torch.equal(Permute.apply(x, order)[:2, 1], x[:2, 1].flip(0))
    assert torch.equal(Permute.apply(x, order)[:, 2], x[:, 2])


def test_dropout_between_layers_only() -> None:
    torch.manual_seed(8)
    x = torch.randn(2, 5, 6)
    single = Recurrent(cell="gru", input_size=6, hidden_size=5, dropout=0.9)
    assert torch.equal(single(x)[0], single(x)[0])
    deep = Recurrent(cell="gru", input_size=6, hidden_size=5, layers=2, dropout=0.5)
    assert not torch.equal(deep(x)[0], deep(x)[0])
    torch.manual_seed(9)
    hidden = deep(x)[0]
    torch.manual_seed(9)
    first, second = deep.cells
    lower, _ = first.scan(x.transpose(0, 1), first.zeros(x.transpose(0, 1)))
    upper, _ = second.scan(dropout(lower, 0.5), second.zeros(lower))
    torch.testing.assert_close(hidden, upper.transpose(0, 1))


def test_learnt_initial_state_gets_a_gradient() -> None:
    torch.manual_seed(10)
    network = Recurrent(cell="lstm", input_size=6, hidden_size=5, bidirectional=True, initial="learnt")
    x, mask = padded()
    zero = Recurrent(cell="lstm", input_size=6, hidden_size=5, bidirectional=True)
    zero.load_state_dict({name: value for name, value in network.state_dict().items() if name != "initial"})
    torch.testing.assert_close(network(x, mask)[0], zero(x, mask)[0])  # it starts at zero
    network(x, mask)[0].sum().backward()
    assert network.initial is not None
    assert network.initial.grad is not None
    assert network.initial.grad.abs().sum() > 0


def test_bf16_under_autocast_stays_close() -> None:
    """bf16 keeps 8 bits: sums of a handful of terms below 1 stay within 0.03."""
    torch.manual_seed(11)
    x, mask = padded()
    for kind in KINDS:
        network = Recurrent(cell=kind, input_size=6, hidden_size=5, layers=2, bidirectional=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low, _ = network(x, mask)
        torch.testing.assert_close(low.float(), network(x, mask)[0], atol=0.03, rtol=0)


@pytest.mark.parametrize("supported", [False, True])
@pytest.mark.parametrize("final", [False, True])
def test_bf16_lstm_on_a_cpu_without_one_runs_in_float32(supported: bool, final: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has: its LSTM is told to be there or not. `final` takes the kernel for packed rows."""
    torch.manual_seed(14)
    network = Recurrent(cell="lstm", input_size=6, hidden_size=5, layers=2, bidirectional=True, initial="learnt")
    x, mask = padded()
    x.requires_grad_()
    seen = []

    def kernel(x: Tensor, *rest: object) -> tuple[Tensor, ...]:
        seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        with torch.autocast("cpu", enabled=False):  # or it would fail where there is none
            return torch.lstm(x, *rest)

    monkeypatch.setattr(cells, "cpu_has_bf16_lstm", lambda: supported)
    monkeypatch.setattr(LSTMCell, "kernel", staticmethod(kernel))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, state = network.run(x, mask) if final else (network(x, mask)[0], ())
    assert seen == [(torch.float32, supported)] * 4  # not supported: with autocast off
    wanted, wanted_state = network.run(x, mask) if final else (network(x, mask)[0], ())
    torch.testing.assert_close((hidden, *state), (wanted, *wanted_state), atol=0, rtol=0)
    hidden.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_cpu_without_bf16_lstm_takes_what_layers_below_give(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(15)
    weights = torch.float64 if dtype == torch.float64 else torch.float32
    network = Recurrent(cell="lstm", input_size=6, hidden_size=5).to(weights)
    x, mask = padded(dtype=dtype)
    monkeypatch.setattr(cells, "cpu_has_bf16_lstm", lambda: False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, _ = network(x, mask)
    assert hidden.dtype == weights
    torch.testing.assert_close(hidden, network(x.to(weights), mask)[0], atol=0, rtol=0)


def test_whether_the_cpu_has_a_bf16_lstm_is_what_torch_shows() -> None:
    """Asked where weft asks, in inference or in training; torch's own module is the oracle, at another size."""
    module = nn.LSTM(24, 32)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            module(torch.randn(5, 3, 24))[0].sum().backward()
        expected = True
    except RuntimeError as error:
        assert "primitive" in str(error)  # noqa: PT017
        expected = False
    drawn = torch.get_rng_state()
    for context in (torch.inference_mode, torch.no_grad, torch.enable_grad):
        cells.cpu_has_bf16_lstm.cache_clear()
        with context():
            assert cells.cpu_has_bf16_lstm() == expected
    assert torch.equal(torch.get_rng_state(), drawn)


def test_copies_and_reloads_are_equal() -> None:
    torch.manual_seed(12)
    x, mask = padded()
    network = Recurrent(cell="lstm", input_size=6, hidden_size=5, layers=2, bidirectional=True)
    other = Recurrent(cell="lstm", input_size=6, hidden_size=5, layers=2, bidirectional=True)
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(x, mask)[0], other(x, mask)[0])
    assert torch.equal(network(x, mask)[0], copy.deepcopy(network)(x, mask)[0])


def test_wrong_calls_are_named() -> None:
    for options, words in (
        ({"cell": "rnn"}, "elman, lstm, peephole-lstm, coupled-lstm, gru"),
        ({"layers": 0}, "layers=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"variational": -0.1}, "variational=-0.1"),
        ({"initial": "random"}, "initial='random'"),
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"cell": "elman", "activation": "gelu"}, "activation='gelu'"),
        ({"cell": "gru", "reset": "never"}, "reset='never'"),
    ):
        with pytest.raises(ValueError, match=words):
            Recurrent(**{"cell": "lstm", "input_size": 6, "hidden_size": 5, **options})
    with pytest.raises(TypeError, match="peephole"):
        Recurrent(cell="lstm", input_size=6, hidden_size=5, peephole=True)
    network = Recurrent(cell="lstm", input_size=6, hidden_size=5)
    x, mask = padded()
    with pytest.raises(ValueError, match=r"size 4.*input_size=6"):
        network(x[..., :4], mask)
    with pytest.raises(ValueError, match=r"\(4, 6\).*\(4, 7\)"):
        network(x, mask[:, :6])
    with pytest.raises(ValueError, match="holes"):
        network(x, mask.flip(1))
