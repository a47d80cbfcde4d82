"""EQUATIONS.md, section 1: neurons, activations, linear models (E1–E10, W1–W3)."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import SVC
from torch import Tensor

from weft.estimators.baselines import Baseline
from weft.losses import CrossEntropy, Hinge
from weft.models.classifier import Classifier, ClassifierConfig
from weft.nn.activations import gelu, hard_tanh, identity, leaky_relu, relu, sigmoid, softmax, tanh
from weft.nn.embeddings import CountInput
from weft.nn.initialisation import orthogonal_

F64 = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def close(got: Tensor, expected: Tensor | list, within: float = 1e-10) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected, dtype=got.dtype), rtol=0, atol=within)


def slope(f, x: Tensor) -> Tensor:
    """Central difference of an elementwise function, step 1e-6."""
    return (f(x + 1e-6) - f(x - 1e-6)) / 2e-6


def derivative(f, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def test_e01_matrix_products_w1_w2():
    assert (torch.tensor([[2, 3], [1, 2]]) @ torch.tensor([[1, 0, 2], [0, 1, 1]])).tolist() == [[2, 3, 7], [1, 2, 4]]
    left = torch.tensor([[3, 2, 3, 4], [4, 3, 2, 4], [3, 0, 2, 3]])
    right = torch.tensor([[3, 0, 4], [3, 0, 1], [0, 0, 4], [2, 4, 2]])
    batch = torch.stack([torch.zeros_like(left), left]) @ torch.stack([torch.zeros_like(right), right])
    assert batch[1].tolist() == [[23, 16, 34], [29, 16, 35], [15, 12, 26]]


def test_e01_bias_as_a_weight_on_a_constant_input_and_both_layouts():
    weight, bias, x = randn(3, 5), randn(3, seed=1), randn(7, 5, seed=2)
    layer = sigmoid(F.linear(x, weight, bias))
    carried = sigmoid(torch.cat([torch.ones(7, 1, dtype=F64), x], 1) @ torch.cat([bias.unsqueeze(1), weight], 1).mT)
    close(layer, carried)
    close(layer, sigmoid(weight @ x.mT + bias.unsqueeze(1)).mT)  # columns are examples
    neuron = torch.stack([1 / (1 + torch.exp(-((weight[1] * row).sum() + bias[1]))) for row in x])
    close(layer[:, 1], neuron)


def test_e02_sigmoid_its_derivative_and_its_symmetry():
    assert sigmoid(torch.tensor(0.0)).item() == 0.5
    x = torch.linspace(-8, 8, 201, dtype=F64)
    y = sigmoid(x)
    torch.testing.assert_close(derivative(sigmoid, x), slope(sigmoid, x), rtol=1e-5, atol=1e-10)
    close(derivative(sigmoid, x), y * (1 - y))
    assert derivative(sigmoid, x).max() <= 0.25 and derivative(sigmoid, torch.zeros(1, dtype=F64)).item() == 0.25
    close(sigmoid(-x), 1 - y)
    close(y.log(), -F.softplus(-x))


def test_e02_sigmoid_is_finite_far_out():
    far = torch.tensor([-1000.0, 1000.0], dtype=F64)
    assert sigmoid(far).tolist() == [0.0, 1.0]
    assert derivative(sigmoid, far).isfinite().all()
    assert F.logsigmoid(far).tolist() == [-1000.0, 0.0]
    assert sigmoid(far).log()[0] == -math.inf  # the naive form


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_e02_sigmoid_layers_shrink_a_gradient_to_a_quarter_each(depth):
    generator = torch.Generator().manual_seed(depth)
    for _ in range(20):
        x = torch.randn(16, dtype=F64, generator=generator, requires_grad=True)
        h = x
        for _ in range(depth):  # orthogonal weights neither stretch nor shrink
            h = sigmoid(orthogonal_(torch.empty(16, 16, dtype=F64), generator=generator) @ h)
        direction = F.normalize(torch.randn(16, dtype=F64, generator=generator), dim=0)
        (gradient,) = torch.autograd.grad(h @ direction, x)
        assert 0 < gradient.norm() <= 4.0**-depth


def test_e02_one_units_weight_gradients_share_a_sign_behind_sigmoids_only():
    x, first, second = randn(40, 6), randn(8, 6, seed=1), randn(5, 8, seed=2)
    for row in x:
        rows = {}
        for name, f in (("sigmoid", sigmoid), ("tanh", tanh)):
            weight = second.clone().requires_grad_()
            (weight @ f(first @ row)).square().sum().backward()
            rows[name] = weight.grad.sign().sum(1).abs()
        assert (rows["sigmoid"] == 8).all()  # every entry of a row has the same sign
        assert (rows["tanh"] < 8).any()


def test_e03_three_forms_of_tanh_and_its_derivative():
    x = torch.linspace(-20, 20, 401, dtype=F64)
    close(tanh(x), (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()))
    close(tanh(x), ((2 * x).exp() - 1) / ((2 * x).exp() + 1))
    close(tanh(x), 2 * sigmoid(2 * x) - 1)
    close(derivative(tanh, x), 1 - tanh(x) ** 2)
    near = torch.linspace(-5, 5, 101, dtype=F64)
    torch.testing.assert_close(derivative(tanh, near), slope(tanh, near), rtol=1e-5, atol=1e-9)
    far = torch.tensor(400.0, dtype=F64)
    assert ((2 * far).exp() - 1).div((2 * far).exp() + 1).isnan() and tanh(far) == 1.0


def test_e03_hard_tanh():
    x = torch.tensor([-3.0, -1.0, -0.4, 0.0, 0.7, 1.0, 2.0], dtype=F64)
    assert hard_tanh(x).tolist() == [-1.0, -1.0, -0.4, 0.0, 0.7, 1.0, 1.0]
    assert torch.equal(hard_tanh(x), F.hardtanh(x))
    assert derivative(hard_tanh, x).tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]  # 0 at ±1, as torch
    away = x[x.abs() != 1]
    close(derivative(hard_tanh, away), slope(hard_tanh, away), 1e-5)


def test_e04_relu_and_kin_elementwise():
    x = randn(2, 3, 4)
    x[0, 0, 0] = 0.0
    assert relu(x).tolist() == [[[max(0.0, v) for v in row] for row in rows] for rows in x.tolist()]
    assert leaky_relu(x).tolist() == [[[v if v > 0 else 0.01 * v for v in row] for row in rows] for rows in x.tolist()]
    close(gelu(x), x * torch.from_numpy(scipy.stats.norm.cdf(x.numpy())))
    assert torch.equal(derivative(relu, x), (x > 0).to(F64))
    close(derivative(gelu, x), slope(gelu, x), 1e-5)


def test_e04_a_dead_unit_and_its_revival():
    x = randn(50, 4)
    for f, dead in ((relu, True), (leaky_relu, False)):
        weight, bias = randn(3, 4, seed=1).requires_grad_(), torch.tensor([0.0, -100.0, 0.0], dtype=F64)
        assert (x @ weight[1] + bias[1] < 0).all()
        f(F.linear(x, weight, bias)).square().sum().backward()
        assert (weight.grad[1] == 0).all() == dead
        assert (weight.grad[0] != 0).all()


def test_e05_softmax_w3():
    p = softmax(torch.tensor([-1.1695, -0.1363, 0.5428], dtype=F64))
    close(p, [0.1069, 0.3005, 0.5926], 5e-5)
    close(-p.log(), [2.2356, 1.2024, 0.5233], 1e-4)


def test_e05_softmax_properties():
    v = randn(6)
    p = softmax(v)
    assert (p > 0).all()
    close(p.sum(), 1.0)
    close(softmax(v + 17.3), p)
    close(torch.autograd.functional.jacobian(softmax, v), torch.diag(p) - torch.outer(p, p))
    close(softmax(v[:2])[0], sigmoid(v[0] - v[1]))
    large = torch.tensor([1000.0, 2000.0, 3000.0], dtype=F64)
    assert softmax(large).tolist() == [0.0, 0.0, 1.0]
    assert (large.exp() / large.exp().sum()).isnan().any()  # without subtracting the maximum


@pytest.mark.parametrize("head", [(), (6,), (7, 2, 5)])
def test_e06_without_non_linearities_depth_collapses(head):
    def network(activation: str):
        torch.manual_seed(0)
        config = ClassifierConfig(
            vocabulary_size=3,
            outputs=3,
            encoder="bag",
            pooling="mean",
            embedding_size=4,
            head=head,
            head_activation=activation,
            dropout=0.0,
        )
        return Classifier(config).head.double().eval()

    flat, x = network("identity"), randn(9, 4)
    matrix, offset = torch.eye(4, dtype=F64), torch.zeros(4, dtype=F64)
    for layer in (module for module in flat.modules() if isinstance(module, torch.nn.Linear)):
        matrix, offset = matrix @ layer.weight.mT, offset @ layer.weight.mT + layer.bias
    close(flat(x), x @ matrix + offset)
    bent = network("tanh")
    h = x
    *hidden, last = [module for module in bent.modules() if isinstance(module, torch.nn.Linear)]
    for layer in hidden:
        h = torch.tanh(h @ layer.weight.mT + layer.bias)
    close(bent(x), h @ last.weight.mT + last.bias)
    assert torch.equal(identity(x), x)
    if head:
        assert (bent(x) - flat(x)).abs().max() > 1e-3


XOR = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=F64)
XOR_LABELS = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=F64)


def test_e07_two_relu_units_suffice():
    h = relu(XOR.sum(1, keepdim=True) + torch.tensor([0.0, -1.0], dtype=F64))
    assert torch.equal(h @ torch.tensor([1.0, -2.0], dtype=F64), XOR_LABELS)


def test_e07_linear_models_get_three_of_four_at_most():
    x, y = XOR.numpy(), XOR_LABELS.numpy()
    for model in [Perceptron(tol=None, max_iter=200, random_state=seed) for seed in range(5)] + [
        LogisticRegression(C=c) for c in (0.1, 1e6)
    ]:
        assert model.fit(x, y).score(x, y) <= 0.75
    directions = itertools.product(np.linspace(-1, 1, 21), repeat=3)  # nor does any other line
    assert all(((x @ np.array(w[:2]) + w[2] > 0) == y).mean() <= 0.75 for w in directions)


def test_e07_eight_hidden_units_learn_it_from_nine_of_ten_starts():
    generator = torch.Generator().manual_seed(0)

    def start(*shape: int, fan: int) -> Tensor:
        return (torch.rand(10, *shape, generator=generator) * 2 - 1).div(math.sqrt(fan)).requires_grad_()

    # Ten networks side by side: nothing of one enters the loss of another, and Adam works elementwise.
    first, b1, second, b2 = start(2, 8, fan=2), start(1, 8, fan=2), start(8, 1, fan=8), start(1, 1, fan=8)
    optimizer = torch.optim.Adam([first, b1, second, b2], lr=0.02)
    targets = XOR_LABELS.float().expand(10, 4)
    for _ in range(500):
        logits = (relu(XOR.float() @ first + b1) @ second + b2).squeeze(-1)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1).sum().backward()
        optimizer.step()
    assert ((logits > 0) == targets.bool()).all(1).sum() >= 9


def joint_features(x: Tensor, y: int, classes: int) -> Tensor:
    f = torch.zeros(classes, len(x), dtype=F64)
    f[y] = x
    return f.flatten()


def test_e08_both_layouts_of_linear_scores():
    x, theta = randn(5), randn(3, 5, seed=1).requires_grad_()
    flat = theta.detach().clone().flatten().requires_grad_()
    blocks = torch.stack([flat @ joint_features(x, y, 3) for y in range(3)])
    rows = theta @ x
    close(blocks, rows.detach())
    F.cross_entropy(rows, torch.tensor(2)).backward()
    (torch.logsumexp(blocks, 0) - blocks[2]).backward()  # −log P(y = 2 | x)
    close(flat.grad.view(3, 5), theta.grad)


def test_e08_sparse_counts_are_dense_counts():
    layer = CountInput(vocabulary_size=50, size=3).double()
    texts = [[4, 4, 9], [], [49, 0, 4, 17]]
    dense = torch.stack([torch.bincount(torch.tensor(t, dtype=torch.int64), minlength=50) for t in texts]).to(F64)
    ids = torch.tensor([feature for text in texts for feature in text])
    offsets = torch.tensor([0, 3, 3])
    log_p = torch.log_softmax(layer(ids, offsets), -1)
    log_p[:, 1].sum().backward()
    theta = layer.weight.detach().clone().requires_grad_()
    expected = torch.log_softmax(dense @ theta, -1)
    expected[:, 1].sum().backward()
    close(log_p.detach(), expected.detach())
    close(layer.weight.grad, theta.grad)


def test_e08_a_layer_and_softmax_trained_to_convergence_is_logistic_regression():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 5)), rng.integers(0, 3, 120)
    x[np.arange(120), y] += 1.0
    c = 0.7
    reference = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x, y)
    layer = torch.nn.Linear(5, 3).double()
    batch, loss = SimpleNamespace(inputs=torch.from_numpy(x), targets=torch.from_numpy(y)), CrossEntropy()
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        (term,) = loss(lambda b: layer(b.inputs), batch).values()
        # C Σ ℓ + ½‖w‖² divided by C·N; the bias is free.
        value = term.value + layer.weight.square().sum() / (2 * c * 120)
        value.backward()
        return value

    optimizer.step(closure)
    close(layer.weight.detach(), torch.from_numpy(reference.coef_), 1e-4)
    bias = layer.bias.detach().numpy()
    np.testing.assert_allclose(bias - bias.mean(), reference.intercept_ - reference.intercept_.mean(), atol=1e-4)
    p = softmax(layer(batch.inputs)).detach().numpy()
    np.testing.assert_allclose(p, reference.predict_proba(x), atol=1e-4)


def perceptron(x: np.ndarray, y: np.ndarray, passes: int) -> tuple[np.ndarray, int]:
    """Binary perceptron, y = ±1: (weights, mistakes)."""
    w, mistakes = np.zeros(x.shape[1]), 0
    for _ in range(passes):
        for row, sign in zip(x, y):
            if sign * (w @ row) <= 0:
                w, mistakes = w + sign * row, mistakes + 1
    return w, mistakes


@pytest.mark.parametrize("seed", range(5))
def test_e09_perceptron_mistakes_are_bounded(seed):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=6)
    true /= np.linalg.norm(true)
    x = rng.normal(size=(300, 6))
    margins = x @ true
    x, y = x[np.abs(margins) > 0.2], np.sign(margins[np.abs(margins) > 0.2])
    radius, gamma = np.linalg.norm(x, axis=1).max(), np.abs(x @ true).min()
    w, mistakes = perceptron(x, y, 100)
    assert 0 < mistakes <= (radius / gamma) ** 2
    assert (np.sign(x @ w) == y).all()
    rung = Perceptron(fit_intercept=False, shuffle=False, max_iter=100, tol=None).fit(x, y)
    np.testing.assert_allclose(rung.coef_[0], w, atol=1e-9)


def test_e09_binary_updates_are_the_multi_class_ones():
    """θ += f(x, y) − f(x, ŷ) with two classes keeps two opposite rows, each the binary weights."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 4)), rng.integers(0, 2, 60)
    theta, w = np.zeros((2, 4)), np.zeros(4)
    for row, label in zip(x, y):
        guess = int(np.argmax(theta @ row))
        if guess != label:
            theta[label] += row
            theta[guess] -= row
        if (w @ row > 0) != label:
            w += (2 * label - 1) * row
    np.testing.assert_allclose(theta, [-w, w], atol=1e-12)


def test_e09_svm_objective_is_hinge_plus_penalty():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(80, 3)), rng.integers(0, 2, 80)
    x[:, 0] += y
    c = 0.5
    machine = SVC(kernel="linear", C=c, tol=1e-9).fit(x, y)
    w, b = torch.tensor(machine.coef_[0]), float(machine.intercept_[0])
    batch = SimpleNamespace(inputs=torch.from_numpy(x), targets=torch.from_numpy(y.astype(np.float64)))

    def objective(w: Tensor, b: float) -> float:
        (term,) = Hinge()(lambda batch: batch.inputs @ w + b, batch).values()
        return float(c * term.total + 0.5 * w.square().sum())

    signs = 2 * y - 1
    by_hand = c * sum(max(0.0, 1 - s * (float(w @ torch.from_numpy(row)) + b)) for s, row in zip(signs, x)) + 0.5 * float(w @ w)
    assert objective(w, b) == pytest.approx(by_hand, abs=1e-10)
    dual = np.abs(machine.dual_coef_).sum() - 0.5 * float(w @ w)  # equal to the primal at the optimum alone
    assert objective(w, b) == pytest.approx(dual, abs=1e-5)
    for seed in range(20):
        nearby = w + 0.05 * randn(3, seed=seed)
        assert objective(nearby, b) > objective(w, b)


def test_e10_naive_bayes_is_linear_in_the_joint():
    rng = np.random.default_rng(3)
    x, y = rng.poisson(1.5, size=(40, 7)), rng.integers(0, 3, 40)
    alpha = 0.3
    reference = MultinomialNB(alpha=alpha).fit(x, y)
    counts = np.stack([x[y == k].sum(0) for k in range(3)]) + alpha
    phi, mu = counts / counts.sum(1, keepdims=True), np.bincount(y) / 40
    scores = x @ np.log(phi).T + np.log(mu)  # θ·f(x, y)
    np.testing.assert_allclose(scores, reference.predict_joint_log_proba(x), atol=1e-10)
    log_b = scipy.special.gammaln(x.sum(1) + 1) - scipy.special.gammaln(x + 1).sum(1)
    joint = np.stack([scipy.stats.multinomial.logpmf(x, x.sum(1), phi[k]) + np.log(mu[k]) for k in range(3)], axis=1)
    np.testing.assert_allclose(scores + log_b[:, None], joint, atol=1e-9)
    posterior = softmax(torch.from_numpy(scores)).numpy()
    np.testing.assert_allclose(posterior, reference.predict_proba(x), atol=1e-12)
    assert np.abs(scores - np.log(posterior)).max() > 1  # the scores are not the log posterior, as the notes have it


def test_e10_the_rung_is_that_model():
    texts = ["good good film", "bad film", "bad bad plot", "good plot", "a bad good film"]
    labels = ["p", "n", "n", "q", "p"]  # three: between two classes the rung answers half the margin
    grams = [words + list(itertools.pairwise(words)) for words in (text.split() for text in texts)]
    names = sorted({gram for row in grams for gram in row}, key=str)
    counts = np.array([[row.count(name) for name in names] for row in grams])
    reference = MultinomialNB(alpha=0.25).fit(counts, labels)
    rung = Baseline("naive-bayes", {"ngrams": 2, "alpha": 0.25}).fit(texts, labels)
    np.testing.assert_allclose(rung.probabilities(texts), reference.predict_proba(counts), atol=1e-6)
    np.testing.assert_allclose(rung.decision(texts), reference.predict_joint_log_proba(counts), atol=1e-5)
