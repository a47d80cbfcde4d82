"""EQUATIONS.md, section 4: backpropagation and convolution by hand (E25–E30, W6, W19, W20).

torch differentiates in the product; these tests hold it, and our layers, to the derivations.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weft.data.datasets import data_folder
from weft.nn.convolution import Convolution1d, Convolution2d
from weft.nn.pooling import max_over_time, max_pool_2d

F64 = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def close(got: Tensor, expected: Tensor | list, within: float = 1e-10) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected, dtype=got.dtype), rtol=0, atol=within)


def differences(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Central finite differences of a scalar function, step 1e-6."""
    flat, gradient = x.flatten(), torch.empty(x.numel(), dtype=F64)
    for i in range(len(flat)):
        step = torch.zeros_like(flat)
        step[i] = 1e-6
        gradient[i] = (f((flat + step).view(x.shape)) - f((flat - step).view(x.shape))) / 2e-6
    return gradient.view(x.shape)


def test_e25_output_and_hidden_weights():
    x, a, b, bias, target = randn(5), randn(4, 5, seed=1), randn(3, 4, seed=2), randn(3, seed=3), 1
    x[2] = 0.0

    def loss(a: Tensor, b: Tensor, bias: Tensor) -> Tensor:
        return -torch.log_softmax(b @ torch.sigmoid(a @ x) + bias, 0)[target]

    z = torch.sigmoid(a @ x)
    d = torch.softmax(b @ z + bias, 0) - F.one_hot(torch.tensor(target), 3)
    dz = torch.stack([sum(d[j] * b[j, k] for j in range(3)) for k in range(4)])
    by_hand = torch.outer(dz * z * (1 - z), x), torch.outer(d, z), d
    leaves = [t.clone().requires_grad_() for t in (a, b, bias)]
    for got, expected in zip(by_hand, torch.autograd.grad(loss(*leaves), leaves)):
        close(got, expected)
    torch.testing.assert_close(by_hand[0], differences(lambda v: loss(v, b, bias), a), rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(by_hand[1], differences(lambda v: loss(a, v, bias), b), rtol=1e-5, atol=1e-8)
    assert (by_hand[0][:, 2] == 0).all() and (by_hand[0][:, 3] != 0).all()  # exactly where x is 0
    for j in range(3):  # the notes drop the sum over j
        assert (d[j] * b[j] - dz).abs().max() > 1e-3


def test_e25_no_gradient_into_a_unit_that_the_loss_does_not_see():
    x, a, b = randn(5), randn(4, 5, seed=1).requires_grad_(), randn(3, 4, seed=2)
    b[:, 1] = 0.0
    F.cross_entropy(b @ torch.sigmoid(a @ x), torch.tensor(0)).backward()
    assert (a.grad[1] == 0).all() and (a.grad[0] != 0).all()


X19, Y19 = torch.tensor([1.0, 0.5, -1.0], dtype=F64), 1.0
A19 = torch.tensor([[0.1, 0.2, 0.3], [-0.4, 0.5, 0.6]], dtype=F64)
B19 = torch.tensor([[0.7, -0.8]], dtype=F64)


def test_e26_a_network_by_hand_w19():
    s = A19 @ X19
    z = torch.sigmoid(s)
    o = (B19 @ z)[0]
    y = torch.sigmoid(o)
    close(s, [-0.1, -0.75])
    close(z, [0.475021, 0.320821], 5e-7)
    close(torch.stack([o, y, -y.log()]), [0.075858, 0.518955, 0.655938], 5e-7)
    d_o = y - Y19
    grad_b = d_o * z
    d_s = d_o * B19[0] * z * (1 - z)
    grad_a = torch.outer(d_s, X19)
    close(d_o, -0.481045, 5e-7)
    close(grad_b, [-0.228506, -0.154329], 5e-7)
    close(d_s, [-0.083973, 0.083854], 5e-7)
    close(grad_a, [[-0.083973, -0.041986, 0.083973], [0.083854, 0.041927, -0.083854]], 5e-7)
    a, b = A19.clone().requires_grad_(), B19.clone().requires_grad_()
    F.binary_cross_entropy_with_logits(b @ torch.sigmoid(a @ X19), torch.ones(1, dtype=F64)).backward()
    close(a.grad, grad_a)
    close(b.grad[0], grad_b)
    # The notes: ∂s₂/∂A₂ₙ = zₙ instead of xₙ, and B₁₁ for B₁₂.
    assert (d_s[1] * z - grad_a[1, :2]).abs().max() > 1e-2
    assert (torch.outer(d_o * B19[0].flip(0) * z * (1 - z), X19) - grad_a).abs().max() > 1e-2


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_e27_error_signals_cached_and_batched(depth):
    sizes = [5, 4, 6, 3, 7][: depth + 1]
    weights = [randn(out, inn, seed=i) for i, (inn, out) in enumerate(itertools.pairwise(sizes))]
    x = randn(8, sizes[0], seed=9)
    targets = F.one_hot(torch.arange(8) % sizes[-1], sizes[-1]).to(F64)

    def by_hand(x: Tensor, targets: Tensor) -> list[Tensor]:
        cached = [x]
        for weight in weights[:-1]:
            cached.append(torch.tanh(cached[-1] @ weight.mT))
        signal = torch.softmax(cached[-1] @ weights[-1].mT, 1) - targets  # D_O
        gradients = []
        for weight, z in zip(reversed(weights), reversed(cached)):
            gradients.insert(0, signal.mT @ z)
            signal = (signal @ weight) * (1 - z**2)
        return gradients

    leaves = [weight.clone().requires_grad_() for weight in weights]
    h = x
    for leaf in leaves[:-1]:
        h = torch.tanh(h @ leaf.mT)
    expected = torch.autograd.grad(F.cross_entropy(h @ leaves[-1].mT, targets, reduction="sum"), leaves)
    singles = [by_hand(x[i : i + 1], targets[i : i + 1]) for i in range(8)]
    for layer, (got, want) in enumerate(zip(by_hand(x, targets), expected)):
        close(got, want)
        close(sum(single[layer] for single in singles), want)


@dataclass
class Node:
    """A value in a graph: how to pass its gradient to each of its parents, and how often it was asked to."""

    value: float
    parents: list[tuple[Node, Callable[[float], float]]] = field(default_factory=list)
    gradient: float = 0.0
    visits: int = 0

    def __add__(self, other: Node) -> Node:
        return Node(self.value + other.value, [(self, lambda g: g), (other, lambda g: g)])

    def __mul__(self, other: Node) -> Node:
        return Node(self.value * other.value, [(self, lambda g: g * other.value), (other, lambda g: g * self.value)])

    def tanh(self) -> Node:
        y = float(np.tanh(self.value))
        return Node(y, [(self, lambda g: g * (1 - y * y))])

    def backward(self) -> None:
        order: list[Node] = []
        seen: set[int] = set()

        def sort(node: Node) -> None:
            if id(node) not in seen:
                seen.add(id(node))
                for parent, _ in node.parents:
                    sort(parent)
                order.append(node)

        sort(self)
        self.gradient = 1.0
        for node in reversed(order):
            node.visits += 1
            for parent, pass_on in node.parents:
                parent.gradient += pass_on(node.gradient)


def test_e27_a_diamond_sums_its_gradients_and_visits_each_node_once():
    def graph(x, w):
        top = (x * w).tanh()
        left, right = top * top, top + x  # top is used three times, x twice
        return left * right + top, (top, left, right)

    x, w = Node(0.7), Node(-1.3)
    out, inner = graph(x, w)
    out.backward()
    tx, tw = torch.tensor(0.7, dtype=F64, requires_grad=True), torch.tensor(-1.3, dtype=F64, requires_grad=True)
    expected, _ = graph(tx, tw)
    expected.backward()
    assert out.value == pytest.approx(expected.item(), abs=1e-12)
    assert (x.gradient, w.gradient) == pytest.approx((tx.grad.item(), tw.grad.item()), abs=1e-12)
    assert all(node.visits == 1 for node in (x, w, out, *inner))


X20 = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=F64)
U20 = torch.tensor([[1.0, 2], [3, 4]], dtype=F64)
D20 = torch.tensor([[1.0, 0], [2, -1]], dtype=F64)


def image_layer(weight: Tensor, **settings) -> Convolution2d:
    """Our layer with these filters (F, C, h, w) and no bias."""
    layer = Convolution2d(channels=weight.shape[1], filters=weight.shape[0], width=tuple(weight.shape[2:]), bias=False, **settings)
    layer.weight = nn.Parameter(weight.clone())
    return layer


def by_loops(x: Tensor, u: Tensor) -> Tensor:
    """o_ij = Σ_ab x_{i+a, j+b} u_ab, counted from 0."""
    height, width = x.shape[0] - u.shape[0] + 1, x.shape[1] - u.shape[1] + 1
    out = torch.zeros(height, width, dtype=F64)
    for i in range(height):
        for j in range(width):
            for a in range(u.shape[0]):
                for b in range(u.shape[1]):
                    out[i, j] += x[i + a, j + b] * u[a, b]
    return out


def test_e28_w20_forward_without_flipping():
    assert image_layer(U20[None, None])(X20[None, None])[0, 0].tolist() == [[37, 47], [67, 77]]
    assert by_loops(X20, U20).tolist() == [[37, 47], [67, 77]]
    assert by_loops(X20, U20.flip(0, 1)).tolist() != [[37, 47], [67, 77]]  # a convolution in the strict sense


@pytest.mark.parametrize(("shape", "filters"), [((7, 5), (3, 2)), ((4, 9), (4, 1)), ((6, 6), (1, 5))])
def test_e28_against_loops_over_channels_and_filters(shape, filters):
    x, u = randn(2, 3, *shape), randn(4, 3, *filters, seed=1)
    expected = torch.stack([torch.stack([sum(by_loops(x[n, c], u[f, c]) for c in range(3)) for f in range(4)]) for n in range(2)])
    close(image_layer(u)(x), expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_e28_strides_and_padding_against_torch(stride):
    x, u = randn(2, 3, 11, 8), randn(4, 3, 3, 5, seed=1)
    close(image_layer(u, stride=stride)(x), F.conv2d(x, u, stride=stride))
    close(image_layer(u, stride=stride, padding="same")(x), F.conv2d(x, u, stride=stride, padding=(1, 2)))
    close(image_layer(u, stride=stride, padding="wide")(x), F.conv2d(x, u, stride=stride, padding=(2, 4)))


def test_e28_w6_relu_and_pooling():
    x = torch.tensor([[[[2.0, 2.0], [0.0, 2.0]]]])
    assert torch.equal(torch.relu(x), x)
    assert max_pool_2d(torch.relu(x)).tolist() == [[[[2.0]]]]


def idx(name: str) -> Tensor:
    """An IDX file of bytes: two zeros, type 8, the number of sizes, the sizes big-endian, the data."""
    raw = gzip.decompress((data_folder() / "mnist" / name).read_bytes())
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy())


class DigitNetwork(nn.Module):
    """Convolution → ReLU → 2×2 maximum, twice, then one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Convolution2d(channels=1, filters=16, width=3, padding="same")
        self.second = Convolution2d(channels=16, filters=32, width=3, padding="same")
        self.last = nn.Linear(32 * 7 * 7, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = max_pool_2d(torch.relu(self.first(images)))
        return self.last(max_pool_2d(torch.relu(self.second(hidden))).flatten(1))


@pytest.mark.slow
@pytest.mark.skipif(data_folder() is None or not (data_folder() / "mnist").is_dir(), reason="the MNIST sample is not at hand")
@pytest.mark.parametrize("seed", range(5))
def test_e28_digits(seed):
    images, labels = idx("train5k-images-idx3-ubyte.gz").unsqueeze(1) / 255.0, idx("train5k-labels-idx1-ubyte.gz").long()
    torch.manual_seed(seed)
    network = DigitNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(8):
        for rows in torch.randperm(5000).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
    with torch.inference_mode():
        guesses = network(idx("test5k-images-idx3-ubyte.gz").unsqueeze(1) / 255.0).argmax(1)
    accuracy = (guesses == idx("test5k-labels-idx1-ubyte.gz")).float().mean().item()
    print(f"seed {seed}: {accuracy:.4f}")
    assert accuracy >= 0.95


def test_e29_w20_gradients():
    x, layer = X20[None, None].clone().requires_grad_(), image_layer(U20[None, None])
    layer(x).backward(D20[None, None])
    assert layer.weight.grad[0, 0].tolist() == [[4, 6], [10, 12]]
    assert x.grad[0, 0].tolist() == [[1, 2, 0], [5, 7, -2], [6, 5, -4]]
    full = F.pad(D20, (1, 1, 1, 1))
    assert by_loops(X20, D20).tolist() == [[4, 6], [10, 12]]  # "reverse convolution"
    assert by_loops(full, U20.rot90(2)).tolist() == [[1, 2, 0], [5, 7, -2], [6, 5, -4]]  # "full convolution"
    assert by_loops(full, U20).tolist() != [[1, 2, 0], [5, 7, -2], [6, 5, -4]]  # without the rotation
    centre = D20[0, 0] * U20[1, 1] + D20[0, 1] * U20[1, 0] + D20[1, 0] * U20[0, 1] + D20[1, 1] * U20[0, 0]
    assert x.grad[0, 0, 1, 1] == centre


def test_e29_filter_gradient_sums_over_outputs_and_batch():
    x, u, delta = randn(3, 2, 6, 7), randn(4, 2, 3, 2, seed=1), randn(3, 4, 4, 6, seed=2)
    layer = image_layer(u)
    leaf = x.clone().requires_grad_()
    layer(leaf).backward(delta)
    expected = torch.stack([torch.stack([sum(by_loops(x[n, c], delta[n, f]) for n in range(3)) for c in range(2)]) for f in range(4)])
    close(layer.weight.grad, expected)
    close(leaf.grad, F.conv_transpose2d(delta, u))
    # Each cell of the filter, from every output it touched.
    cell = sum(delta[n, 1, i, j] * x[n, 0, i + 2, j + 1] for n in range(3) for i in range(4) for j in range(6))
    close(layer.weight.grad[1, 0, 2, 1], cell)


def test_e29_corners_have_one_term_and_edges_two():
    """How many of the four δ reach each cell of the input."""
    x = randn(3, 3)
    counts = torch.zeros(3, 3)
    for i in range(2):
        for j in range(2):
            delta = torch.zeros(2, 2, dtype=F64)
            delta[i, j] = 1.0
            leaf = x[None, None].clone().requires_grad_()
            image_layer(U20[None, None])(leaf).backward(delta[None, None])
            counts += (leaf.grad[0, 0] != 0).float()
    assert counts.tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


def test_e29_in_one_dimension():
    """The same two rules for our convolution over text, whose filters lie (filters, width, size)."""
    torch.manual_seed(0)
    layer = Convolution1d(input_size=2, filters=3, width=3, padding="narrow").double()
    x, delta = randn(2, 7, 2), randn(2, 5, 3, seed=1)
    leaf = x.clone().requires_grad_()
    layer(leaf, torch.ones(2, 7, dtype=torch.bool))[0].backward(delta)
    for f in range(3):
        close(layer.weight.grad[f], sum(by_loops(x[n], delta[n, :, f : f + 1]) for n in range(2)))
    padded = F.pad(delta, (0, 0, 2, 2))
    for n in range(2):
        full = [
            [sum(padded[n, t + a, f] * layer.weight[f, 2 - a, d] for a in range(3) for f in range(3)) for d in range(2)] for t in range(7)
        ]
        close(leaf.grad[n], torch.stack([torch.stack(row) for row in full]).detach())


def test_e30_the_gradient_goes_to_the_maximum_alone():
    x = randn(2, 3, 4, 6).requires_grad_()
    incoming = randn(2, 3, 2, 3, seed=1)
    max_pool_2d(x).backward(incoming)
    close(F.avg_pool2d(x.grad, 2) * 4, incoming)
    assert ((x.grad != 0) == (x == F.interpolate(max_pool_2d(x), scale_factor=2))).all()
    sequence = randn(2, 5, 3).requires_grad_()
    close(differences(lambda v: max_over_time(v, torch.ones(2, 5, dtype=torch.bool)).sum(), sequence.detach()), one_max(sequence), 1e-6)


def one_max(x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(max_over_time(x, torch.ones(x.shape[:2], dtype=torch.bool)).sum(), x)
    assert ((gradient == 1).sum(1) == 1).all() and ((gradient == 0) | (gradient == 1)).all()
    return gradient


def test_e30_ties_go_to_the_first_and_nothing_is_lost():
    image = torch.tensor([[[[2.0, 2.0], [0.0, 2.0]]]], requires_grad=True)
    max_pool_2d(image).backward(torch.full((1, 1, 1, 1), 3.0))
    assert image.grad.tolist() == [[[[3.0, 0.0], [0.0, 0.0]]]]
    row = torch.tensor([[[1.0], [4.0], [4.0], [4.0]]], requires_grad=True)
    max_over_time(row, torch.ones(1, 4, dtype=torch.bool)).sum().backward()
    assert row.grad.flatten().tolist() == [0.0, 1.0, 0.0, 0.0]
    even = row.detach().clone().requires_grad_()
    even.amax(1).sum().backward()
    close(even.grad.flatten(), [0.0, 1 / 3, 1 / 3, 1 / 3], 1e-6)  # what torch.amax would do
    assert ((row == 4.0).float()).sum() == 3  # the notes: 1 to every tied maximum, three times the incoming gradient
