"""EQUATIONS.md, section 3: optimisation and regularisation (E16, E18–E23, W16–W18). E17 and E24 are held with the training loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weft.nn.dropout import Dropout
from weft.nn.initialisation import he_, xavier_
from weft.training.optimizers import make_optimizer, penalty


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def path(name: str, gradients: list[float], rate: float, start: float = 0.0, **settings: object) -> list[float]:
    """Θ after each step under scripted gradients; a (1, 1) matrix, since vectors are exempt from penalties."""
    weight = nn.Parameter(torch.full((1, 1), start, dtype=torch.float64))
    optimizer = make_optimizer([("weight", weight)], name, rate, **settings)
    values = []
    for gradient in gradients:
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        values.append(weight.item())
    return values


def test_e16_the_mean_minibatch_gradient_is_the_full_one():
    inputs, targets, weight = randn(6, 3), torch.arange(6) % 2, randn(2, 3, seed=1).requires_grad_()

    def gradient(rows: list[int]) -> Tensor:
        return torch.autograd.grad(F.cross_entropy(inputs[rows] @ weight.T, targets[rows]), weight)[0]

    full = gradient(list(range(6)))
    for size in (1, 2):
        every = [gradient(list(rows)) for rows in itertools.combinations(range(6), size)]
        torch.testing.assert_close(torch.stack(every).mean(0), full, rtol=0, atol=1e-10)
        assert not torch.allclose(every[0], full)


def test_e16_descent_on_a_quadratic_converges_iff_the_rate_is_below_two_over_the_curvature():
    curvature = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    for share, converges in ((0.98, True), (1.02, False)):
        point = nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = make_optimizer([("point", point)], "sgd", share * 2 / 4.0)
        for _ in range(400):
            optimizer.zero_grad()
            (curvature * point.square() / 2).sum().backward()
            optimizer.step()
        assert (point.norm().item() < 1e-6) == converges


def test_e18_w16_shrinking_by_one_step():
    for start, l1, l2, decay in ((0.2, 0.05, 0.02, 0.01), (1.0, 0.05, 0.1, 0.05), (3.0, 0.05, 0.3, 0.15)):
        for settings, shrunk in (({"l1": 0.5}, l1), ({"l1": 0.5, "proximal": True}, l1), ({"l2": 0.5}, l2), ({"weight_decay": 0.5}, decay)):
            assert start - path("sgd", [0.0], 0.1, start, **settings)[0] == pytest.approx(shrunk, abs=1e-12)
            assert path("sgd", [0.0], 0.1, -start, **settings)[0] + start == pytest.approx(shrunk, abs=1e-12)
    assert path("sgd", [0.0], 0.1, 0.0, l1=0.5) == [0.0]  # sign(0) = 0


def test_e18_the_gradient_of_the_penalty_is_two_lambda_w():
    start = randn(4, 3)
    weight = nn.Parameter(start.clone())
    optimizer = make_optimizer([("weight", weight)], "sgd", 1.0, l1=0.2, l2=0.3)
    expected = torch.autograd.grad(0.2 * weight.abs().sum() + 0.3 * weight.square().sum(), weight)[0]
    assert penalty(optimizer) == pytest.approx(0.2 * start.abs().sum().item() + 0.3 * start.norm().item() ** 2)  # ‖W‖_F²
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(start - weight, expected, rtol=0, atol=1e-10)
    halved = 0.2 * start.sign() + 0.3 * start  # erratum: λθ is the gradient of (λ/2)‖Θ‖²
    assert not torch.allclose(expected, halved)


def test_e18_l2_is_twice_the_weight_decay_of_torch():
    gradients = randn(20).tolist()
    theirs = nn.Parameter(torch.full((1, 1), 2.0, dtype=torch.float64))
    reference = torch.optim.SGD([theirs], lr=0.1, weight_decay=2 * 0.3)
    for gradient, own in zip(gradients, path("sgd", gradients, 0.1, 2.0, l2=0.3), strict=True):
        theirs.grad = torch.full_like(theirs, gradient)
        reference.step()
        assert own == pytest.approx(theirs.item(), abs=1e-12)
    assert path("sgd", gradients, 0.1, 2.0, weight_decay=0.3) != pytest.approx(path("sgd", gradients, 0.1, 2.0, l2=0.3))


def test_e18_l2_pulls_harder_above_a_half_and_l1_below():
    for start in (0.3, 0.49, 0.51, 2.0):
        by_l1, by_l2 = (path("sgd", [0.0], 0.01, start, **{key: 0.5})[0] for key in ("l1", "l2"))
        assert (by_l2 < by_l1) == (start > 0.5)


def test_e18_added_to_the_mean_not_to_the_sum():
    """The minimum of the mean of (w − x)² plus λw² is x̄/(1 + λ); added to the sum, λ would be N times weaker."""
    numbers = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    weight = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
    optimizer = make_optimizer([("weight", weight)], "sgd", 0.1, l2=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        (weight - numbers).square().mean().backward()
        optimizer.step()
    assert weight.item() == pytest.approx(3 / 1.5, abs=1e-10)
    assert weight.item() != pytest.approx(3 / (1 + 0.5 / 4), abs=0.1)


def selected(penalty_name: str, strength: float, proximal: bool = False) -> tuple[int, float]:
    """Logistic regression on 5 useful and 45 useless features: how many weights are below 1e-3, and test accuracy."""
    inputs = randn(1200, 50)
    labels = (inputs[:, :5].sum(1) + randn(1200, seed=1) > 0).double()
    model = nn.Linear(50, 1).double()
    nn.init.zeros_(model.weight)
    optimizer = make_optimizer(model, "sgd", 0.02, **{penalty_name: strength}, proximal=proximal)
    for _ in range(1500):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(inputs[:200])[:, 0], labels[:200]).backward()
        optimizer.step()
    right = ((model(inputs[200:])[:, 0] > 0) == labels[200:].bool()).double().mean().item()
    return int((model.weight.abs() < 1e-3).sum()), right


def test_e18_l1_selects_features():
    small_l2, right_l2 = selected("l2", 0.05)
    small_l1, right_l1 = selected("l1", 0.05)
    small_exact, right_exact = selected("l1", 0.05, proximal=True)
    assert small_l2 <= 5 < 25 <= small_l1 <= small_exact + 2
    assert min(right_l1, right_exact) > right_l2 - 0.01


def test_e19_w17_dropout_over_all_masks():
    h, w = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.5, -1.0, 2.0, 0.25])
    masks = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))
    unscaled = [float(w @ (m * h)) for m in masks]
    inverted = [float(w @ (m / 0.5 * h)) for m in masks]
    assert np.mean(unscaled) == pytest.approx(2.75) == 0.5 * float(w @ h)
    assert np.mean(inverted) == pytest.approx(5.5) == float(w @ h)
    # What the layer draws is one of the inverted masks, each as likely as the other.
    torch.manual_seed(0)
    layer = Dropout(0.5)
    draws = layer(h.expand(20000, 4))
    kept = draws != 0
    torch.testing.assert_close(draws, kept * 2 * h)
    counts = np.bincount((kept.long() @ torch.tensor([8, 4, 2, 1])).numpy(), minlength=16)
    assert np.abs(counts - 1250).max() < 4.5 * math.sqrt(20000 * 15 / 256)
    assert torch.equal(layer.eval()(h), h)


@pytest.mark.parametrize("drop", [0.2, 0.5])
def test_e19_p_is_the_drop_probability(drop):
    torch.manual_seed(0)
    kept = (Dropout(drop)(torch.ones(10**6)) != 0).double().mean().item()
    assert abs(kept - (1 - drop)) < 4 * math.sqrt(drop * (1 - drop) / 10**6)


def test_e20_w18_momentum():
    assert path("momentum", [1.0, 1.0, -1.0], 0.1) == pytest.approx([-0.1, -0.29, -0.361], abs=1e-12)


def test_e20_limits_of_the_step():
    constant, alternating = path("momentum", [2.0] * 200, 0.1), path("momentum", [2.0, -2.0] * 100, 0.1)
    assert constant[-2] - constant[-1] == pytest.approx(0.1 * 2 / (1 - 0.9), abs=1e-6)
    assert abs(alternating[-1] - alternating[-2]) == pytest.approx(0.1 * 2 / (1 + 0.9), abs=1e-6)


def test_e20_the_two_forms_of_momentum_part_under_a_schedule():
    """V ← βV + ηg, Θ ← Θ − V against torch's v ← βv + g, Θ ← Θ − ηv."""

    def both(rates: list[float]) -> tuple[float, float]:
        weight = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
        optimizer = make_optimizer([("weight", weight)], "momentum", 1.0)
        velocity = theta = 0.0
        for rate, gradient in zip(rates, (1.0, 1.0, -1.0), strict=True):
            optimizer.param_groups[0]["lr"] = rate
            weight.grad = torch.full_like(weight, gradient)
            optimizer.step()
            velocity = 0.9 * velocity + rate * gradient
            theta -= velocity
        return weight.item(), theta

    ours, theirs = both([0.1, 0.1, 0.1])
    assert ours == pytest.approx(theirs, abs=1e-12)
    ours, theirs = both([0.1, 0.01, 0.01])
    assert abs(ours - theirs) > 0.05


def adagrad(gradients: list[float], rate: float, epsilon: float, inside: bool) -> list[float]:
    total = theta = 0.0
    values = []
    for g in gradients:
        total += g * g
        theta -= rate * g / (math.sqrt(total + epsilon) if inside else math.sqrt(total) + epsilon)
        values.append(theta)
    return values


def rmsprop(gradients: list[float], rate: float, epsilon: float, inside: bool) -> list[float]:
    mean = theta = 0.0
    values = []
    for g in gradients:
        mean = 0.9 * mean + 0.1 * g * g
        theta -= rate * g / (math.sqrt(mean + epsilon) if inside else math.sqrt(mean) + epsilon)
        values.append(theta)
    return values


def test_e21_w18_adagrad_and_rmsprop():
    assert path("adagrad", [3.0, 4.0], 0.1) == pytest.approx([-0.1, -0.18], abs=1e-9)
    assert path("rmsprop", [2.0, 2.0], 0.001) == pytest.approx([-0.003162, -0.005456], abs=1e-6)


def test_e21_epsilon_outside_the_root_is_what_runs_and_where_it_matters():
    gradients = (0.1 + randn(20).abs()).tolist()
    assert path("adagrad", gradients, 0.1) == pytest.approx(adagrad(gradients, 0.1, 1e-10, inside=False), rel=1e-12)
    assert path("rmsprop", gradients, 0.1) == pytest.approx(rmsprop(gradients, 0.1, 1e-8, inside=False), rel=1e-12)
    for reference in (adagrad, rmsprop):
        inside, outside = (reference(gradients, 0.1, 1e-8, form) for form in (True, False))
        assert inside == pytest.approx(outside, rel=1e-6)
    small = path("adagrad", [1e-6], 0.1)[0] / adagrad([1e-6], 0.1, 1e-8, inside=True)[0]
    assert small == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("gradient", [1e-3, 0.5, -7.0])
def test_e21_the_first_step_of_rmsprop_is_the_same_for_every_gradient(gradient):
    step = path("rmsprop", [gradient], 0.001)[0]
    assert step == pytest.approx(-math.copysign(0.001 / math.sqrt(0.1), gradient), rel=1e-4)
    assert abs(step) / 0.001 == pytest.approx(3.16, abs=0.01)


def test_e22_w18_adam():
    values = path("adam", [2.0, -1.0], 0.001)
    assert values == pytest.approx([-0.001, -0.001266], abs=1e-6)
    m = u = theta = 0.0
    gradients = randn(30, seed=2).tolist()
    for t, (g, own) in enumerate(zip(gradients, path("adam", gradients, 0.01), strict=True), start=1):
        m, u = 0.9 * m + 0.1 * g, 0.999 * u + 0.001 * g * g
        theta -= 0.01 * (m / (1 - 0.9**t)) / (math.sqrt(u / (1 - 0.999**t)) + 1e-8)
        assert own == pytest.approx(theta, rel=1e-9)


@pytest.mark.parametrize("gradient", [1e-4, -3.0])
def test_e22_the_first_step_is_the_rate(gradient):
    assert path("adam", [gradient], 0.01)[0] == pytest.approx(-math.copysign(0.01, gradient), rel=1e-3)


def test_e22_adamw():
    gradients = randn(20).tolist()
    assert path("adamw", gradients, 0.01, 1.0) == path("adam", gradients, 0.01, 1.0)
    decayed = path("adamw", [0.0] * 3, 0.1, 2.0, weight_decay=0.5)
    assert decayed == pytest.approx([2 * 0.95, 2 * 0.95**2, 2 * 0.95**3], abs=1e-12)
    # Inside the moments, as Adam's own weight decay is, the same λ is divided by the root of its square.
    assert path("adam", [0.0], 0.1, 2.0, weight_decay=0.5) == pytest.approx([1.9], rel=1e-6)
    assert path("adam", [0.0] * 3, 0.1, 2.0, weight_decay=0.5)[-1] != pytest.approx(decayed[-1], abs=1e-3)


def test_e23_equal_initial_weights_stay_equal_for_ever():
    for equal in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        if equal:
            nn.init.constant_(model[0].weight, 0.3)
            nn.init.constant_(model[2].weight, 0.3)
            nn.init.zeros_(model[0].bias)
        optimizer = make_optimizer(model, "adam", 0.05)
        inputs, targets = randn(20, 3), randn(20, 1, seed=1)
        for _ in range(50):
            optimizer.zero_grad()
            F.mse_loss(model(inputs), targets).backward()
            optimizer.step()
        spread = model[0].weight.std(0).max().item()
        assert spread < 1e-9 if equal else spread > 0.05
        assert not torch.allclose(model[0].weight[0], torch.full((3,), 0.3, dtype=torch.float64), atol=1e-2)


def test_e23_variances():
    generator = torch.Generator().manual_seed(0)
    for initialise, variance in ((xavier_, 2 / (300 + 500)), (he_, 2 / 500)):
        weight = initialise(torch.empty(300, 500, dtype=torch.float64), generator=generator)
        assert weight.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / 150000))


@pytest.mark.parametrize("scale, expected", [(1.0, -0.2), (0.1, -92.0)])
def test_e23_he_keeps_the_scale_through_twenty_relu_layers(scale, expected):
    ratios = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        first = x = torch.randn(1, 256, generator=generator)
        for _ in range(20):
            weight = scale * he_(torch.empty(256, 256), generator=generator)
            x = (x @ weight.T).relu()
        ratios.append(math.log(x.square().mean().item() / first.square().mean().item()))
    assert np.mean(ratios) == pytest.approx(expected, abs=0.7)
