"""EQUATIONS.md, section 11: recurrent networks, held against torch.nn, closed forms, finite differences and references written out here."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.nn.dropout import dropout
from weft.nn.recurrent import Cell, ElmanCell, GRUCell, LSTMCell, Recurrent, State

DOUBLE = torch.float64
KINDS = ("elman", "lstm", "gru")


def random_network(cell: str, seed: int = 0, **options: object) -> Recurrent:
    """In float64, 4 -> 3, with biases that are not zero."""
    torch.manual_seed(seed)
    network = Recurrent(**{"cell": cell, "input_size": 4, "hidden_size": 3, **options}).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.5)
    return network


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


# E62: one R for all positions


@pytest.mark.parametrize("kind", KINDS)
def test_e62_halves_with_the_state_carried_equal_the_whole(kind: str) -> None:
    network = random_network(kind, layers=2)
    x = torch.randn(2, 9, 4, dtype=DOUBLE)
    whole, last = network.run(x)
    first, state = network.run(x[:, :4])
    second, end = network.run(x[:, 4:], state=state)
    close(torch.cat((first, second), 1), whole)
    for part, wanted in zip(end, last, strict=True):
        close(part, wanted)
    restarted, _ = network.run(x[:, 4:])
    assert (restarted - whole[:, 4:]).abs().max() > 1e-3  # forgetting the state is not the same


@pytest.mark.parametrize("kind", KINDS)
def test_e62_steps_equal_the_fused_kernel(kind: str) -> None:
    network = random_network(kind)
    cell = network.cells[0]
    assert isinstance(cell, Cell)
    x = torch.randn(2, 9, 4, dtype=DOUBLE)
    state = cell.zeros(x.transpose(0, 1))
    for time in range(9):
        state = cell(x[:, time], state)
        close(state[0], network(x)[0][:, time], 1e-5)


def test_e62_initial_state_zero_or_learnt() -> None:
    x = torch.randn(2, 5, 4, dtype=DOUBLE)
    network = random_network("lstm", initial="learnt")
    given = tuple(part.expand(-1, 2, -1).contiguous() for part in network.initial)  # type: ignore[union-attr]
    hidden, _ = network(x)
    close(network(x, state=given)[0], hidden)
    zero = tuple(torch.zeros_like(part) for part in given)
    plain = Recurrent(cell="lstm", input_size=4, hidden_size=3).double()
    plain.load_state_dict({name: value for name, value in network.state_dict().items() if name != "initial"})
    close(plain(x)[0], network(x, state=zero)[0])
    assert (plain(x)[0] - hidden).abs().max() > 1e-3


# E63: the Elman cell in its printed forms


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_e63_elman_equals_torch(activation: str) -> None:
    network = random_network("elman", activation=activation)
    theirs = nn.RNN(4, 3, nonlinearity=activation, batch_first=True).double()
    copy_weights(network, theirs)
    x = torch.randn(2, 6, 4, dtype=DOUBLE)
    close(network(x)[0], theirs(x)[0])


def test_e63_all_three_forms_by_hand() -> None:
    x = torch.randn(5, 4, dtype=DOUBLE)
    for activation, function in (("tanh", torch.tanh), ("sigmoid", torch.sigmoid)):
        network = random_network("elman", activation=activation)
        cell = network.cells[0]
        for bias in (cell.bias.detach(), torch.zeros(3, dtype=DOUBLE)):  # form (c), and forms (a), (b): no bias
            with torch.no_grad():
                cell.bias.copy_(bias)
            hidden, states = torch.zeros(3, dtype=DOUBLE), []
            for entry in x:
                hidden = function(bias + cell.state_weight @ hidden + cell.input_weight @ entry)
                states.append(hidden)
            close(network(x[None])[0][0], torch.stack(states))
    # the read-out of (b) and (c) is a head of its own: y = sigmoid(W h), o = c + V h
    assert network.output_size == 3


# E64: acceptor and transducer


def test_e64_acceptor_reads_the_last_real_position() -> None:
    network = random_network("elman")
    x = torch.randn(2, 6, 4, dtype=DOUBLE, requires_grad=True)
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    hidden, (state,) = network.run(x, mask)
    close(state[0, 0], hidden[0, 5])
    close(state[0, 1], hidden[1, 1])
    (gradient,) = torch.autograd.grad(state[0].square().sum(), x)
    assert not gradient[~mask].any()
    assert (gradient[mask].abs().sum(-1) > 0).all()  # "loss through the whole net": every real token gets some


def test_e64_transducer_loss_leaves_padding_out() -> None:
    """L = sum of the real positions' losses: padding adds nothing, whatever its label, and gets no gradient."""
    network = random_network("lstm", bidirectional=True)
    head = nn.Linear(6, 5).double()
    x = torch.randn(2, 6, 4, dtype=DOUBLE, requires_grad=True)
    labels = torch.randint(5, (2, 6))
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    hidden, _ = network(x, mask)
    loss = F.cross_entropy(head(hidden[mask]), labels[mask], reduction="sum")
    alone = sum(
        F.cross_entropy(head(network(x[row : row + 1, :length])[0][0]), labels[row, :length], reduction="sum")
        for row, length in ((0, 6), (1, 2))
    )
    close(loss, torch.as_tensor(alone))
    (gradient,) = torch.autograd.grad(loss, x)
    assert not gradient[~mask].any()


def test_e64_first_token_decides_is_learnt() -> None:
    """10 tokens, the first of which is the class; what is read is the state after the last."""
    torch.manual_seed(0)
    embed, network, head = nn.Embedding(8, 16), Recurrent(cell="gru", input_size=16, hidden_size=24), nn.Linear(24, 4)
    optimizer = torch.optim.Adam([*embed.parameters(), *network.parameters(), *head.parameters()], lr=0.01)

    def batch() -> tuple[Tensor, Tensor]:
        ids = torch.randint(8, (32, 10))
        ids[:, 0] %= 4
        return ids, ids[:, 0]

    def scores(ids: Tensor) -> Tensor:
        return head(network.run(embed(ids))[1][0][0])

    for _ in range(150):
        ids, label = batch()
        optimizer.zero_grad()
        F.cross_entropy(scores(ids), label).backward()
        optimizer.step()
    ids, label = batch()
    assert (scores(ids).argmax(1) == label).float().mean() == 1.0


# E68: depth


@pytest.mark.parametrize("kind", KINDS)
def test_e68_stack_equals_torch_and_hand_chained_layers(kind: str) -> None:
    network = random_network(kind, layers=3)
    theirs = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](4, 3, 3, batch_first=True).double()
    copy_weights(network, theirs)
    x = torch.randn(2, 6, 4, dtype=DOUBLE)
    close(network(x)[0], theirs(x)[0])
    below = x.transpose(0, 1)
    for cell in network.cells:
        assert isinstance(cell, Cell)
        below, _ = cell.loop(below, cell.zeros(below))
    close(network(x)[0], below.transpose(0, 1))


# E69: both directions


@pytest.mark.parametrize("kind", KINDS)
def test_e69_bidirectional_equals_torch(kind: str) -> None:
    network = random_network(kind, layers=2, bidirectional=True)
    theirs = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind](4, 3, 2, batch_first=True, bidirectional=True).double()
    copy_weights(network, theirs)
    x = torch.randn(2, 6, 4, dtype=DOUBLE)
    close(network(x)[0], theirs(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_e69_reversing_the_input_and_swapping_the_halves_commute(kind: str) -> None:
    network = random_network(kind, bidirectional=True)
    swapped = random_network(kind, bidirectional=True)
    for index in (0, 1):
        swapped.cells[index].load_state_dict(network.cells[1 - index].state_dict())
    x = torch.randn(2, 6, 4, dtype=DOUBLE)
    forwards, backwards = network(x)[0].chunk(2, -1)
    close(swapped(x.flip(1))[0], torch.cat((backwards, forwards), -1).flip(1))


def test_e69_backward_pass_starts_at_the_last_real_token() -> None:
    network = random_network("lstm", bidirectional=True)
    x = torch.randn(1, 6, 4, dtype=DOUBLE)
    mask = torch.tensor([[True, True, True, False, False, False]])
    hidden, state = network.run(x, mask)
    backward = network.cells[1]
    assert isinstance(backward, Cell)
    by_hand: State = backward.zeros(x.transpose(0, 1))
    for time in (2, 1, 0):
        by_hand = backward(x[:, time], by_hand)
        close(hidden[:, time, 3:], by_hand[0])
    close(state[1][1], by_hand[1])
    naive = network(x)[0]  # without a mask it starts in the padding
    assert (naive[:, 0, 3:] - hidden[:, 0, 3:]).abs().max() > 1e-4


# E70: two dropouts


def test_e70_fresh_masks_leave_the_state_alone() -> None:
    """Form 1. What enters the second layer is dropped anew at each time step; within a layer the state keeps every unit."""
    network = random_network("elman", layers=2, dropout=0.5, hidden_size=40)
    lower, upper = network.cells
    with torch.no_grad():  # the upper layer shows its input: h_t = tanh(x_t), no memory
        upper.input_weight.copy_(torch.eye(40))
        upper.state_weight.zero_()
        upper.bias.zero_()
    x = torch.randn(3, 6, 4, dtype=DOUBLE)
    network.train()
    dropped = network(x)[0] == 0  # (B, T, H)
    assert 0.4 < dropped.double().mean() < 0.6
    assert not (dropped == dropped[:, :1]).all()
    network.eval()
    shown = network(x)[0]
    network.train()
    kept = network(x)[0]
    below, _ = lower.scan(x.transpose(0, 1), lower.zeros(x.transpose(0, 1)))  # type: ignore[operator]
    close(shown, below.transpose(0, 1).tanh())
    # where a unit is kept its value is the undropped one, doubled: nothing was dropped on the way of the lower state
    close(kept[kept != 0], (2 * below.transpose(0, 1)).tanh()[kept != 0])


def test_e70_variational_masks_are_one_a_sequence() -> None:
    """Form 2, on a cell that adds up what it is shown: columns of the input and of the state go for the whole sequence."""
    size = 30
    network = random_network("elman", activation="relu", input_size=size, hidden_size=size, variational=0.5)
    cell = network.cells[0]
    with torch.no_grad():
        cell.input_weight.copy_(torch.eye(size))
        cell.state_weight.copy_(torch.eye(size))
        cell.bias.zero_()
    x = torch.ones(5, 4, size, dtype=DOUBLE)
    hidden = network(x)[0]
    # h_t = 2 m (input kept) + 2 n h_{t-1} (state kept): 0 0 0 0, or 2 2 2 2, or 2 6 14 30
    allowed = torch.tensor([[0.0, 0, 0, 0], [2, 2, 2, 2], [2, 6, 14, 30]], dtype=DOUBLE)
    columns = hidden.transpose(1, 2).reshape(-1, 4)
    kind = (columns[:, None] == allowed).all(-1)
    assert (kind.sum(1) == 1).all()
    shares = kind.double().mean(0)
    sd = (torch.tensor([0.5 * 0.5, 0.25 * 0.75, 0.25 * 0.75]) / len(columns)).sqrt()
    assert ((shares - torch.tensor([0.5, 0.25, 0.25])).abs() < 4 * sd).all()
    for first, second in itertools.combinations(range(5), 2):
        assert not torch.equal(hidden[first], hidden[second])  # examples have their own


@pytest.mark.parametrize("kind", KINDS)
def test_e70_variational_masks_enter_every_product(kind: str) -> None:
    """Against the cell's equations with x and h' masked by hand, the cell state and a GRU's mixture left alone."""
    network = random_network(kind, variational=0.5)
    cell = network.cells[0]
    assert isinstance(cell, Cell)
    x = torch.randn(2, 5, 4, dtype=DOUBLE)
    torch.manual_seed(1)
    entering, keep = dropout(torch.ones(2, 4, dtype=DOUBLE), 0.5), dropout(torch.ones(2, 3, dtype=DOUBLE), 0.5)
    state = cell.zeros(x.transpose(0, 1))
    expected = []
    for time in range(5):
        masked = cell(x[:, time] * entering, (state[0] * keep, *state[1:]))
        if kind == "gru":  # h = (1 - z) n + z h': undo the mask on the h' that is mixed in
            update = torch.sigmoid(cell.project(x[:, time] * entering) + F.linear(state[0] * keep, cell.state_weight)).chunk(3, -1)[1]
            masked = (masked[0] + update * (state[0] - state[0] * keep),)
        state = masked
        expected.append(state[0])
    torch.manual_seed(1)
    close(network(x)[0], torch.stack(expected, 1))


def test_e70_both_are_off_in_eval_mode() -> None:
    x = torch.randn(2, 6, 4, dtype=DOUBLE)
    for options in ({"dropout": 0.5}, {"variational": 0.5}):
        network = random_network("lstm", layers=2, bidirectional=True, **options).eval()
        plain = random_network("lstm", layers=2, bidirectional=True)
        assert torch.equal(network(x)[0], plain(x)[0])
        assert not torch.allclose(network.train()(x)[0], plain(x)[0])


# E71: batching


@pytest.mark.parametrize("kind", KINDS)
def test_e71_one_by_one_equals_in_a_batch_in_any_order(kind: str) -> None:
    network = random_network(kind, layers=2, bidirectional=True).float()
    lengths = torch.tensor([3, 8, 1, 5, 8])
    mask = torch.arange(8) < lengths[:, None]
    x = torch.randn(5, 8, 4)
    hidden, state = network.run(x, mask)
    order = torch.tensor([4, 2, 0, 3, 1])
    close(network(x[order], mask[order])[0], hidden[order], 1e-5)
    for row, length in enumerate(lengths):
        alone, last = network.run(x[row : row + 1, :length])
        close(hidden[row : row + 1, :length], alone, 1e-5)
        for part, wanted in zip(state, last, strict=True):
            close(part[:, row], wanted[:, 0], 1e-5)  # frozen past the end of the row


# E73: backpropagation through time


def test_e73_elman_jacobian_is_the_product_of_its_steps() -> None:
    network = random_network("elman", seed=3)
    cell = network.cells[0]
    x = torch.randn(1, 7, 4, dtype=DOUBLE)
    start = torch.randn(1, 1, 3, dtype=DOUBLE)
    jacobian = torch.autograd.functional.jacobian(lambda s: network.run(x, state=(s,))[1][0].flatten(), start).reshape(3, 3)
    product = torch.eye(3, dtype=DOUBLE)
    for hidden in network(x, state=(start,))[0][0]:
        product = torch.diag(1 - hidden**2) @ cell.state_weight @ product
    close(jacobian, product)
    assert torch.linalg.matrix_norm(jacobian, 2) <= torch.linalg.matrix_norm(cell.state_weight, 2) ** 7


def test_e73_direct_path_of_an_lstm_is_the_product_of_its_forget_gates() -> None:
    network = random_network("lstm", seed=4)
    cell = network.cells[0]
    with torch.no_grad():
        cell.state_weight.zero_()  # leaves the direct path only
    x = torch.randn(1, 7, 4, dtype=DOUBLE)
    hidden, start = torch.zeros(1, 1, 3, dtype=DOUBLE), torch.randn(1, 1, 3, dtype=DOUBLE)
    jacobian = torch.autograd.functional.jacobian(lambda c: network.run(x, state=(hidden, c))[1][1].flatten(), start).reshape(3, 3)
    forget = torch.sigmoid(cell.project(x[0]))[:, 3:6]  # type: ignore[operator]
    close(jacobian, torch.diag(forget.prod(0)))


def test_e73_truncated_backpropagation_carries_states_and_cuts_gradients() -> None:
    network = random_network("lstm")
    x = torch.randn(2, 8, 4, dtype=DOUBLE, requires_grad=True)
    whole, _ = network(x)
    _, state = network.run(x[:, :5])
    second, _ = network.run(x[:, 5:], state=tuple(part.detach() for part in state))
    close(second, whole[:, 5:])
    (gradient,) = torch.autograd.grad(second.sum(), x)
    assert not gradient[:, :5].any()
    assert gradient[:, 5:].any()
    (full,) = torch.autograd.grad(whole[:, 5:].sum(), x)
    assert full[:, :5].any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_e73_naming_the_first_of_fifty_tokens_needs_an_open_forget_gate(seed: int) -> None:
    """4 classes, Adam at .005, 600 steps: a forget bias of 4 learns it (1.00); a bias of 1 and an Elman net stay near chance (0.25)."""

    def accuracy(cell: str, **options: float) -> float:
        torch.manual_seed(seed)
        embed, network, head = nn.Embedding(4, 16), Recurrent(cell=cell, input_size=16, hidden_size=32, **options), nn.Linear(32, 4)
        optimizer = torch.optim.Adam([*embed.parameters(), *network.parameters(), *head.parameters()], lr=0.005)
        for _ in range(600):
            ids = torch.randint(4, (64, 50))
            optimizer.zero_grad()
            F.cross_entropy(head(network.run(embed(ids))[1][0][0]), ids[:, 0]).backward()
            optimizer.step()
        ids = torch.randint(4, (500, 50))
        with torch.no_grad():
            return (head(network.run(embed(ids))[1][0][0]).argmax(1) == ids[:, 0]).double().mean().item()

    assert accuracy("lstm", forget_bias=4.0) >= 0.99
    assert accuracy("lstm", forget_bias=1.0) < 0.5
    assert accuracy("elman") < 0.5


# E74: the LSTM


def lstm_by_four_products(cell: LSTMCell, x: Tensor, state: State) -> State:
    """The four equations, each gate with its own W [h'; x]."""
    hidden, memory = state
    joined = torch.cat((hidden, x), -1)
    weights = torch.cat((cell.state_weight, cell.input_weight), 1).chunk(4)
    i, f, g, o = (joined @ weight.T + bias for weight, bias in zip(weights, cell.bias.chunk(4), strict=True))
    memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(memory), memory


def test_e74_fused_equals_four_products_and_torch() -> None:
    network = random_network("lstm")
    cell = network.cells[0]
    assert isinstance(cell, LSTMCell)
    theirs = nn.LSTM(4, 3, batch_first=True).double()
    copy_weights(network, theirs)
    x = torch.randn(2, 6, 4, dtype=DOUBLE)
    hidden, last = network.run(x)
    close(hidden, theirs(x)[0])
    state = cell.zeros(x.transpose(0, 1))
    for time in range(6):
        state = lstm_by_four_products(cell, x[:, time], state)
        close(hidden[:, time], state[0])
    close(last[0][0], state[0])  # (h, c), in this order
    close(last[1][0], state[1])
    assert (last[0][0] - state[1]).abs().max() > 1e-2


def test_e74_the_product_of_gates_form_is_another_function() -> None:
    """One source multiplies all four gate values as the "new value"."""
    network = random_network("lstm")
    cell = network.cells[0]
    x, state = torch.randn(2, 4, dtype=DOUBLE), (torch.randn(2, 3, dtype=DOUBLE), torch.randn(2, 3, dtype=DOUBLE))
    i, f, g, o = (cell.project(x) + state[0] @ cell.state_weight.T).chunk(4, -1)  # type: ignore[operator]
    wrong = torch.sigmoid(f) * torch.sigmoid(i) * torch.tanh(g) * torch.sigmoid(o)
    hidden, memory = cell(x, state)
    assert (wrong - memory).abs().max() > 1e-2
    assert (wrong - hidden).abs().max() > 1e-2


def test_e74_open_forget_gate_carries_the_cell_for_a_thousand_steps() -> None:
    network = random_network("lstm")
    cell = network.cells[0]
    with torch.no_grad():
        cell.input_weight[:6].zero_()
        cell.state_weight[:6].zero_()
        cell.bias[:3], cell.bias[3:6] = -1000.0, 1000.0  # input gate exactly 0, forget gate exactly 1
    start = (torch.zeros(1, 2, 3, dtype=DOUBLE), torch.randn(1, 2, 3, dtype=DOUBLE))
    hidden, (_, memory) = network.run(torch.randn(2, 1000, 4, dtype=DOUBLE), state=start)
    assert torch.equal(memory, start[1])
    assert (hidden[:, 1:] - hidden[:, :-1]).abs().max() > 0.1  # while h jumps


def test_e74_w10_sizes() -> None:
    cell = LSTMCell(input_size=10, hidden_size=20)
    assert cell.input_weight.numel() + cell.state_weight.numel() == 2400
    assert sum(parameter.numel() for parameter in cell.parameters()) == 2480
    assert sum(parameter.numel() for parameter in nn.LSTMCell(10, 20).parameters()) == 2560


# E76: the GRU


def test_e76_default_equals_torch() -> None:
    network = random_network("gru")
    theirs = nn.GRU(4, 3, batch_first=True).double()
    copy_weights(network, theirs)
    x = torch.randn(2, 6, 4, dtype=DOUBLE)
    close(network(x)[0], theirs(x)[0])


def gru_of_the_paper(cell: GRUCell, x: Tensor, hidden: Tensor) -> Tensor:
    """h = (1 - z) h' + z n: z on the CANDIDATE; reset before the product."""
    wr, wz, wn = torch.cat((cell.state_weight, cell.input_weight), 1).chunk(3)
    br, bz, bn = cell.bias.chunk(3)
    joined = torch.cat((hidden, x), -1)
    z, r = torch.sigmoid(joined @ wz.T + bz), torch.sigmoid(joined @ wr.T + br)
    candidate = torch.tanh(torch.cat((r * hidden, x), -1) @ wn.T + bn)
    return (1 - z) * hidden + z * candidate


def test_e76_the_two_z_conventions_map_by_negation() -> None:
    network = random_network("gru", reset="before")
    cell = network.cells[0]
    assert isinstance(cell, GRUCell)
    x, hidden = torch.randn(2, 4, dtype=DOUBLE), torch.randn(2, 3, dtype=DOUBLE)
    (ours,) = cell(x, (hidden,))
    assert (ours - gru_of_the_paper(cell, x, hidden)).abs().max() > 1e-2
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter[3:6].neg_()
    close(gru_of_the_paper(cell, x, hidden), ours)


def test_e76_reset_before_differs_and_agrees_where_nothing_is_reset() -> None:
    after, before = random_network("gru", layers=2), random_network("gru", layers=2, reset="before")
    x = torch.randn(2, 6, 4, dtype=DOUBLE)
    assert (after(x)[0] - before(x)[0]).abs().max() > 1e-3
    for network in (after, before):
        for cell in network.cells:
            with torch.no_grad():
                cell.bias[:3] = 100.0  # r = 1 to the last bit
    close(after(x)[0], before(x)[0])


def test_e76_w10_sizes() -> None:
    for reset in ("after", "before"):
        cell = GRUCell(input_size=10, hidden_size=20, reset=reset)
        assert cell.input_weight.numel() + cell.state_weight.numel() == 1800
        assert sum(parameter.numel() for parameter in cell.parameters()) == 1860
    assert sum(parameter.numel() for parameter in nn.GRUCell(10, 20).parameters()) == 1920
    assert sum(parameter.numel() for parameter in ElmanCell(input_size=10, hidden_size=20).parameters()) * 3 == 1860


def copy_weights(ours: Recurrent, theirs: nn.RNNBase) -> None:
    """Our weights into torch's module, whose second bias becomes zero."""
    with torch.no_grad():
        for index, cell in enumerate(ours.cells):
            name = f"l{index // ours.directions}" + ("_reverse" if index % ours.directions else "")
            getattr(theirs, f"weight_ih_{name}").copy_(cell.input_weight)
            getattr(theirs, f"weight_hh_{name}").copy_(cell.state_weight)
            getattr(theirs, f"bias_ih_{name}").copy_(cell.bias)
            getattr(theirs, f"bias_hh_{name}").zero_()
