"""EQUATIONS.md, section 11, continued: depth inside the step, dropout, and the gated cells' kin (E68, E70, E73–E77), each by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.nn.cells import Cell, CoupledLSTMCell, GRUCell, LSTMCell, PeepholeLSTMCell
from weft.nn.dropout import dropout
from weft.nn.recurrent import Recurrent

DOUBLE = torch.float64
KINDS = ("elman", "lstm", "peephole-lstm", "coupled-lstm", "gru")


def random_network(cell: str, seed: int = 0, **options: Any) -> Recurrent:
    """In float64, 4 -> 3, with biases and peepholes that are not zero."""
    torch.manual_seed(seed)
    network = Recurrent(**{"cell": cell, "input_size": 4, "hidden_size": 3, **options}).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.6)
    return network


def cell_of(kind: str, **options: Any) -> Any:
    return random_network(kind, **options).cells[0]


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE)


def gates_by_hand(cell: LSTMCell, x: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
    """W_k [h'; x] + b_k of each gate, one product each."""
    joined = torch.cat((hidden, x), -1)
    weights = torch.cat((cell.state_weight, cell.input_weight), 1).chunk(cell.gates)
    return tuple(joined @ weight.T + bias for weight, bias in zip(weights, cell.bias.chunk(cell.gates), strict=True))


# E62, E71: the recurrence and its batches, for the cells that section11_recurrent does not have


@pytest.mark.parametrize("kind", ["peephole-lstm", "coupled-lstm"])
def test_e62_halves_with_the_state_carried_equal_the_whole(kind: str) -> None:
    network = random_network(kind, layers=2, initial="learnt", output_depth=1)
    x = draw(2, 9, 4)
    whole, last = network.run(x)
    first, state = network.run(x[:, :4])
    second, end = network.run(x[:, 4:], state=state)
    close(torch.cat((first, second), 1), whole)
    for part, wanted in zip(end, last, strict=True):
        close(part, wanted)
    given = tuple(part.expand(-1, 2, -1) for part in network.initial)  # type: ignore[union-attr]
    close(network(x, state=given)[0], whole)


# E63: form (b), no biases, logistic, with its read-out


def test_e63_form_b_with_its_read_out_by_hand() -> None:
    """h = σ(W^h h' + W^i x), y = σ(W^o h) with a head of its own: in float64, by hand."""
    cell = cell_of("elman", activation="sigmoid")
    with torch.no_grad():
        cell.bias.zero_()
    head = nn.Linear(3, 2, bias=False).double()
    x, hidden = draw(5, 4), torch.zeros(3, dtype=DOUBLE)
    shown, _ = cell.scan(x[:, None], cell.zeros(x[:, None]))
    for time in range(5):
        hidden = 1 / (1 + torch.exp(-(cell.state_weight @ hidden + cell.input_weight @ x[time])))
        close(torch.sigmoid(head(shown[time, 0])), 1 / (1 + torch.exp(-(head.weight @ hidden))))


# E68: depth inside the step


@pytest.mark.parametrize("kind", KINDS)
def test_e68_layers_inside_the_step_by_hand(kind: str) -> None:
    """x, h' and h each go through their own tanh layers, then the plain cell's equations hold."""
    network = random_network(kind, input_depth=2, state_depth=1, output_depth=2)
    deep = network.cells[0]
    plain = random_network(kind, input_size=3).cells[0]  # it reads 3 hidden units, which the first layers give
    plain.load_state_dict({name: value for name, value in deep.state_dict().items() if "layers" not in name})
    assert isinstance(deep, Cell)
    assert isinstance(plain, Cell)

    def through(layers: Any, value: Tensor) -> Tensor:
        for layer in layers:
            value = torch.tanh(value @ layer.weight.T + layer.bias)
        return value

    x, state = draw(2, 6, 4), tuple(torch.zeros(2, 3, dtype=DOUBLE) for _ in range(deep.states))
    hidden = network(x)[0]
    for time in range(6):
        entering = through(deep.input_layers, x[:, time])
        seen = through(deep.state_layers, state[0])
        new = plain(entering, (seen, *state[1:]))
        if kind == "gru":  # what is mixed in is h' itself
            update = torch.sigmoid(plain.project(entering) + F.linear(seen, plain.state_weight)).chunk(3, -1)[1]
            new = (new[0] + update * (state[0] - seen),)
        state = new
        close(hidden[:, time], through(deep.output_layers, state[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_e68_no_extra_layers_is_the_plain_cell_and_k_add_what_is_expected(kind: str) -> None:
    def count(**depths: int) -> int:
        return sum(parameter.numel() for parameter in random_network(kind, **depths).parameters())

    zero = random_network(kind, input_depth=0, state_depth=0, output_depth=0)
    x = draw(2, 5, 4)
    assert torch.equal(zero(x)[0], random_network(kind)(x)[0])
    layer = 3 * 3 + 3
    for place in ("state_depth", "output_depth"):
        assert [count(**{place: k}) - count() for k in (1, 2, 5)] == [k * layer for k in (1, 2, 5)]
    gates = zero.cells[0].gates
    first = 3 * 4 + 3 - gates * 3  # 4 -> 3, and the gates read 3 units where they read 4
    assert [count(input_depth=k) - count() for k in (1, 2, 5)] == [first + (k - 1) * layer for k in (1, 2, 5)]


@pytest.mark.parametrize("kind", KINDS)
def test_e68_finite_differences_through_depth(kind: str) -> None:
    network = random_network(kind, layers=2, bidirectional=True, input_depth=1, state_depth=1, output_depth=1)
    assert torch.autograd.gradcheck(lambda x: network(x)[0], draw(1, 3, 4).requires_grad_())


# E70: which values are dropped, and which never


@pytest.mark.parametrize("kind", KINDS)
def test_e70_the_state_path_holds_no_zeros_under_fresh_masks(kind: str) -> None:
    """Inputs, between layers and outputs dropped at once: the states that are carried are those of the dropped inputs, whole."""
    network = random_network(kind, layers=2, input_dropout=0.5, dropout=0.5, output_dropout=0.5, hidden_size=8)
    x = draw(3, 20, 4)
    torch.manual_seed(1)
    hidden, state = network.run(x)
    assert all((part != 0).all() for part in state)
    dropped = hidden == 0
    assert 0.4 < dropped.double().mean() < 0.6
    assert not (dropped == dropped[:, :1]).all()  # other units at other times
    torch.manual_seed(1)
    first = network.cells[0]
    entering = dropout(x.transpose(0, 1).contiguous(), 0.5)
    lower, last = first.scan(entering, first.zeros(entering))  # type: ignore[operator]
    close(state[0][0], last[0][:])
    entering = dropout(lower, 0.5)
    second = network.cells[1]
    close(state[0][1], second.scan(entering, second.zeros(entering))[1][0])  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["peephole-lstm", "coupled-lstm"])
def test_e70_variational_masks_leave_the_cell_alone(kind: str) -> None:
    network = random_network(kind, variational=0.5)
    cell = network.cells[0]
    x = draw(2, 5, 4)
    torch.manual_seed(1)
    entering, keep = dropout(torch.ones(2, 4, dtype=DOUBLE), 0.5), dropout(torch.ones(2, 3, dtype=DOUBLE), 0.5)
    torch.manual_seed(1)
    hidden = network(x)[0]
    state = cell.zeros(x.transpose(0, 1))  # type: ignore[operator]
    for time in range(5):
        state = cell(x[:, time] * entering, (state[0] * keep, state[1]))
        close(hidden[:, time], state[0])


def test_e70_all_of_them_are_off_in_eval_mode() -> None:
    x = draw(2, 6, 4)
    for rate in ("input_dropout", "output_dropout", "weight_dropout", "variational", "dropout"):
        network = random_network("peephole-lstm", layers=2, bidirectional=True, **{rate: 0.5})
        plain = random_network("peephole-lstm", layers=2, bidirectional=True)
        assert not torch.allclose(network(x)[0], plain(x)[0])
        assert torch.equal(network.eval()(x)[0], plain(x)[0])


# E73, E74: what is carried, and the gradient that comes back


def test_e73_direct_path_of_the_kin_is_the_product_of_its_forget_gates() -> None:
    """Peepholes on the old cell add their own paths; without them (and W_h = 0), ∂c_T/∂c_0 = Π f_t, coupled or not."""
    x, zero = draw(1, 7, 4), torch.zeros(1, 1, 3, dtype=DOUBLE)
    for kind, options in (("coupled-lstm", {}), ("peephole-lstm", {"peepholes": "output"})):
        network = random_network(kind, **options)
        cell = network.cells[0]
        with torch.no_grad():
            cell.state_weight.zero_()
        jacobian = torch.autograd.functional.jacobian(lambda c, run=network.run: run(x, state=(zero, c))[1][1].flatten(), draw(1, 1, 3))
        forget = torch.sigmoid(cell.project(x[0]))[:, -9:-6]  # type: ignore[operator]
        close(jacobian.reshape(3, 3), torch.diag(forget.prod(0)))


@pytest.mark.parametrize("kind", ["lstm", "peephole-lstm", "coupled-lstm"])
def test_e74_a_saturated_forget_gate_keeps_the_cell_a_thousand_steps_where_elman_forgets(kind: str) -> None:
    """∂c_1000/∂c_0 is 1 and c stands still; an Elman net's state of the same size no longer depends on where it began."""
    network = random_network(kind, **({"peepholes": ""} if kind == "peephole-lstm" else {}))
    cell = network.cells[0]
    with torch.no_grad():
        cell.bias[-9:-6] = 1000.0  # f exactly 1, and so a coupled cell's i exactly 0
        if kind != "coupled-lstm":
            cell.bias[:3] = -1000.0
    x, start, hidden = draw(1, 1000, 4), draw(1, 1, 3), torch.zeros(1, 1, 3, dtype=DOUBLE)
    start.requires_grad_()
    _, (_, memory) = network.run(x, state=(hidden, start))
    assert torch.equal(memory, start)
    (gradient,) = torch.autograd.grad(memory.sum(), start)
    close(gradient, torch.ones_like(gradient))
    elman = random_network("elman")
    with torch.no_grad():
        weight = elman.cells[0].state_weight
        weight.mul_(0.9 / torch.linalg.matrix_norm(weight, 2))  # type: ignore[arg-type, operator]
    start = start.detach().requires_grad_()
    _, (state,) = elman.run(x, state=(start,))
    (gradient,) = torch.autograd.grad(state.sum(), start)
    assert gradient.norm() < 1e-40
    close(state, elman.run(x, state=(start + 1,))[1][0])


# E75: peepholes and the coupled gate


@pytest.mark.parametrize("output_sees", ["new", "old"])
@pytest.mark.parametrize("seen", ["input", "forget", "output", "candidate", "input,forget,output", "input,forget,candidate,output"])
def test_e75_each_set_of_diagonal_peepholes_by_hand(seen: str, output_sees: str) -> None:
    cell = cell_of("peephole-lstm", peepholes=seen, output_sees=output_sees)
    weights = dict(zip(cell.seeing, cell.peephole_weight, strict=True))
    hidden, memory = draw(2, 3), draw(2, 3)
    for _ in range(4):
        x = draw(2, 4)
        i, f, g, o = gates_by_hand(cell, x, hidden)
        zero = torch.zeros(3, dtype=DOUBLE)
        i = torch.sigmoid(i + weights.get("input", zero) * memory)
        f = torch.sigmoid(f + weights.get("forget", zero) * memory)
        g = torch.tanh(g + weights.get("candidate", zero) * memory)
        new = f * memory + i * g
        o = torch.sigmoid(o + weights.get("output", zero) * (new if output_sees == "new" else memory))
        expected = o * torch.tanh(new), new
        for part, wanted in zip(cell(x, (hidden, memory)), expected, strict=True):
            close(part, wanted)
        hidden, memory = expected


@pytest.mark.parametrize("coupled", [False, True])
def test_e75_full_peepholes_are_one_product_with_the_old_cell(coupled: bool) -> None:
    """Form (ii): every gate and the candidate from W [x; h'; c']."""
    cell = cell_of("coupled-lstm" if coupled else "peephole-lstm", peepholes="full")
    x, hidden, memory = draw(2, 4), draw(2, 3), draw(2, 3)
    joined, weights = torch.cat((x, hidden, memory), -1), torch.cat((cell.input_weight, cell.state_weight, cell.cell_weight), 1)
    *i, f, g, o = (joined @ weights.T + cell.bias).chunk(cell.gates, -1)
    f = torch.sigmoid(f)
    new = f * memory + (1 - f if coupled else torch.sigmoid(i[0])) * torch.tanh(g)
    found = cell(x, (hidden, memory))
    close(found[1], new)
    close(found[0], torch.sigmoid(o) * torch.tanh(new))


def test_e75_zero_peepholes_are_the_plain_lstm_and_torchs() -> None:
    plain = random_network("lstm", layers=2, bidirectional=True)
    theirs = nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True).double()
    x = draw(2, 6, 4)
    with torch.no_grad():
        for index, cell in enumerate(plain.cells):
            name = f"l{index // 2}" + ("_reverse" if index % 2 else "")
            for part, ours in (("weight_ih", cell.input_weight), ("weight_hh", cell.state_weight), ("bias_ih", cell.bias)):
                getattr(theirs, f"{part}_{name}").copy_(ours)
            getattr(theirs, f"bias_hh_{name}").zero_()
    for options in ({"peepholes": ""}, {}, {"peepholes": "input,candidate", "output_sees": "old"}, {"peepholes": "full"}):
        network = random_network("peephole-lstm", layers=2, bidirectional=True, **options)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(plain.state_dict().get(name, torch.zeros(())))
        close(network(x)[0], plain(x)[0])
        close(network(x)[0], theirs(x)[0])


@pytest.mark.parametrize("output_sees", ["new", "old"])
def test_e75_which_cell_the_output_gate_sees(output_sees: str) -> None:
    """∂o_t/∂c_t = o(1 − o) p where it sees the new cell; ∂o_t/∂c_{t−1} comes through c_t then, and directly where it sees the old one."""
    cell = cell_of("peephole-lstm", peepholes="output", output_sees=output_sees)
    x, hidden, memory = draw(1, 4), draw(1, 3), draw(1, 3).requires_grad_()
    new_hidden, new = cell(x, (hidden, memory))
    output = new_hidden / torch.tanh(new)
    (found,) = torch.autograd.grad(output.sum(), memory)
    slope = (output * (1 - output) * cell.peephole_weight[0]).detach()
    forget = torch.sigmoid(gates_by_hand(cell, x, hidden)[1]).detach()
    close(found, slope * (forget if output_sees == "new" else 1.0))
    assert (slope * forget - slope).abs().max() > 1e-3  # the two timings are told apart


@pytest.mark.parametrize("peepholes", ["", "forget", "forget,candidate,output"])
def test_e75_coupled_is_one_minus_f_and_stays_within_one(peepholes: str) -> None:
    cell = cell_of("coupled-lstm", peepholes=peepholes)
    x, hidden, memory = draw(50, 4) * 10, draw(50, 3) * 10, torch.rand(50, 3, dtype=DOUBLE) * 2 - 1
    weights = dict(zip(cell.seeing, () if cell.peephole_weight is None else cell.peephole_weight, strict=True))
    zero = torch.zeros(3, dtype=DOUBLE)
    f, g, o = gates_by_hand(cell, x, hidden)
    f = torch.sigmoid(f + weights.get("forget", zero) * memory)
    new = f * memory + (1 - f) * torch.tanh(g + weights.get("candidate", zero) * memory)
    found = cell(x, (hidden, memory))
    close(found[1], new)
    close(found[0], torch.sigmoid(o + weights.get("output", zero) * new) * torch.tanh(new))
    assert found[1].abs().max() <= 1
    network = random_network("coupled-lstm", peepholes=peepholes)
    _, (_, last) = network.run(draw(4, 300, 4) * 10)
    assert last.abs().max() <= 1
    # where an LSTM of the same weights leaves the interval
    _, (_, free) = random_network("lstm").run(draw(4, 300, 4) * 10)
    assert free.abs().max() > 1


def test_e75_coupled_equals_an_lstm_whose_input_gate_is_the_negated_forget_gate() -> None:
    """W_i = −W_f, b_i = −b_f: σ(−a) = 1 − σ(a)."""
    coupled, whole = random_network("coupled-lstm"), random_network("lstm")
    with torch.no_grad():
        for ours, theirs in zip(coupled.cells[0].parameters(), whole.cells[0].parameters(), strict=True):
            theirs.copy_(torch.cat((-ours[:3], ours)))
    x = draw(2, 20, 4)
    close(coupled(x)[0], whole(x)[0])
    close(coupled.run(x)[1][1], whole.run(x)[1][1])


def test_e75_sizes() -> None:
    """Coupled: 3h(h + x) weights, three quarters of an LSTM; diagonal peepholes add h a gate."""
    coupled = CoupledLSTMCell(input_size=10, hidden_size=20)
    assert coupled.input_weight.numel() + coupled.state_weight.numel() == 3 * 20 * 30
    assert coupled.bias.numel() == 3 * 20
    seeing = PeepholeLSTMCell(input_size=10, hidden_size=20)
    assert sum(parameter.numel() for parameter in seeing.parameters()) == 2480 + 3 * 20


# E76: the GRU's conventions


@pytest.mark.parametrize("reset", ["after", "before"])
def test_e76_both_update_gates_by_hand_and_by_negation(reset: str) -> None:
    old, candidate = random_network("gru", reset=reset), random_network("gru", reset=reset, update="candidate")
    cell = candidate.cells[0]
    assert isinstance(cell, GRUCell)
    x = draw(2, 8, 4)
    hidden, state = candidate(x)[0], torch.zeros(2, 3, dtype=DOUBLE)
    wx, wh, b = cell.input_weight.chunk(3), cell.state_weight.chunk(3), cell.bias.chunk(3)
    for time in range(8):
        r, z = (torch.sigmoid(x[:, time] @ wx[k].T + state @ wh[k].T + b[k]) for k in (0, 1))
        entering = x[:, time] @ wx[2].T + b[2]
        n = torch.tanh(entering + (r * (state @ wh[2].T) if reset == "after" else (r * state) @ wh[2].T))
        state = (1 - z) * state + z * n  # z on the candidate
        close(hidden[:, time], state)
    assert (old(x)[0] - hidden).abs().max() > 1e-2  # the same weights, another function
    with torch.no_grad():
        for parameter in old.cells[0].parameters():
            parameter[3:6].neg_()
    close(old(x)[0], hidden)


# E77: counting


def test_e77_hand_set_gates_count() -> None:
    """f = i = 1 and g = +1 on a, −1 on b: c = #a − #b. Biases of ±30 hold the gates."""
    network = Recurrent(cell="lstm", input_size=2, hidden_size=1).double()
    cell = network.cells[0]
    with torch.no_grad():
        cell.state_weight.zero_()
        cell.input_weight.zero_()
        cell.bias.copy_(torch.tensor([30.0, 30.0, 0.0, 30.0]))  # i, f, g, o
        cell.input_weight[2] = torch.tensor([30.0, -30.0])
    a, b = torch.eye(2, dtype=DOUBLE)
    up = torch.stack([a] * 50)[None]
    _, state = network.run(up)
    close(state[1][0, 0], torch.tensor([50.0], dtype=DOUBLE), 1e-8)
    _, state = network.run(torch.stack([b] * 50)[None], state=state)
    assert state[1].abs().max() < 1e-8
    _, state = network.run(torch.stack([a] * 5000)[None])
    close(state[1][0, 0], torch.tensor([5000.0], dtype=DOUBLE), 1e-5)  # without bound


@pytest.mark.parametrize("kind", ["gru", "coupled-lstm"])
def test_e77_a_convex_mixture_cannot_count(kind: str) -> None:
    """|h_t| ≤ max(|h_0|, 1), unit by unit, whatever the weights: the GRU's h, the coupled LSTM's c."""
    for seed in range(20):
        network = random_network(kind, seed=seed, hidden_size=6)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(10)
        start = tuple(draw(1, 3, 6) * 3 for _ in range(network.cells[0].states))  # type: ignore[arg-type]
        _, state = network.run(draw(3, 100, 4), state=start)
        assert (state[-1].abs() <= start[-1].abs().clamp(min=1.0) + 1e-12).all()
