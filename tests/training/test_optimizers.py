"""Optimizers: torch's rules to the number, groups, penalties, lazy rows, and exact resumes."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from weft.errors import InputError
from weft.training.optimizers import OPTIMIZERS, clip_gradients, make_optimizer, penalty, set_rate

ROWS, SIZE = 12, 3


def network(seed: int = 0) -> nn.Sequential:
    """Matrices, a bias, a normalisation; in float64, so that kernels differ by rounding alone."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)).double()


class Table(nn.Module):
    """An embedding with a linear layer on it."""

    def __init__(self, sparse: bool, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(ROWS, SIZE, sparse=sparse, dtype=torch.float64)
        self.head = nn.Linear(SIZE, 2, dtype=torch.float64)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(ids))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[torch.Tensor]) -> None:
    for batch in batches:
        optimizer.zero_grad()
        model(batch).square().sum().backward()
        optimizer.step()


def state_tensors(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [value for state in optimizer.state_dict()["state"].values() for _, value in sorted(state.items()) if torch.is_tensor(value)]


def features(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(6, 4, dtype=torch.float64, generator=generator) for _ in range(count)]


def words(count: int, rows: int = ROWS) -> list[torch.Tensor]:
    """Batches of ids, most of them twice."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(rows, (5,), generator=generator).repeat(2)[:8] for _ in range(count)]


TORCH = {
    "sgd": lambda p, decay: torch.optim.SGD(p, lr=0.02, weight_decay=decay, foreach=False),
    "momentum": lambda p, decay: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=decay, foreach=False),
    "adagrad": lambda p, decay: torch.optim.Adagrad(p, lr=0.02, weight_decay=decay, foreach=False),
    "rmsprop": lambda p, decay: torch.optim.RMSprop(p, lr=0.02, alpha=0.9, weight_decay=decay, foreach=False),
    "adam": lambda p, decay: torch.optim.Adam(p, lr=0.02, weight_decay=decay, foreach=False),
    "adamw": lambda p, decay: torch.optim.AdamW(p, lr=0.02, weight_decay=decay, foreach=False),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_rule_is_torchs(name):
    ours, theirs = network(), network()
    matrices = [p for p in theirs.parameters() if p.dim() > 1]
    vectors = [p for p in theirs.parameters() if p.dim() == 1]
    decays = TORCH[name](matrices, 0.1), TORCH[name](vectors, 0.0)
    optimizer = make_optimizer(ours, name, 0.02, weight_decay=0.1)
    for batch in features(20):
        train(ours, optimizer, [batch])
        theirs.zero_grad()
        theirs(batch).square().sum().backward()
        for reference in decays:
            reference.step()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(ours[0].weight, network()[0].weight, atol=1e-3)


OPTIONS = [
    ("momentum", {"nesterov": True, "momentum": 0.5}),
    ("adagrad", {"initial_accumulator_value": 0.5}),
    ("rmsprop", {"alpha": 0.5, "centered": True}),
    ("adam", {"betas": (0.5, 0.9), "amsgrad": True}),
]


@pytest.mark.parametrize("name, options", OPTIONS)
def test_options_reach_the_rule(name, options):
    ours, theirs = network(), network()
    cls = {"momentum": torch.optim.SGD, "adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad}[name]
    reference = cls(theirs.parameters(), lr=0.02, **options)
    train(ours, make_optimizer(ours, name, 0.02, **options), features(5))
    train(theirs, reference, features(5))
    torch.testing.assert_close(ours[0].weight, theirs[0].weight, rtol=1e-9, atol=1e-12)


# Lazy rows


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_that_do_not_occur_stay_to_the_last_bit(name):
    model = Table(sparse=True)
    before = model.table.weight.detach().clone()
    optimizer = make_optimizer(model, name, 0.1, l1=0.1, l2=0.1, weight_decay=0.1, proximal=True)
    train(model, optimizer, words(6, rows=ROWS - 4))
    assert torch.equal(model.table.weight[-4:], before[-4:])
    assert not torch.isclose(model.table.weight[:-4], before[:-4]).any()
    for value in optimizer.state[model.table.weight].values():
        if torch.is_tensor(value) and value.dim():
            assert value.shape == (ROWS, SIZE) and (value[-4:] == 0).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_table_of_which_every_row_occurs_is_stepped_as_a_dense_one(name):
    sparse, dense = Table(sparse=True), Table(sparse=False)
    batches = [torch.cat([torch.arange(ROWS), batch]) for batch in words(6)]
    settings = {"l1": 0.01, "l2": 0.02, "weight_decay": 0.03}
    optimizers = [make_optimizer(model, name, 0.05, **settings) for model in (sparse, dense)]
    for model, optimizer in zip((sparse, dense), optimizers, strict=True):
        train(model, optimizer, batches)
    torch.testing.assert_close(sparse.table.weight, dense.table.weight, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(sparse.head.weight, dense.head.weight, rtol=1e-9, atol=1e-12)
    for own, other in zip(*map(state_tensors, optimizers), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_rules_that_leave_a_zero_gradient_alone_are_exact_on_sparse_tables(name):
    sparse, dense = Table(sparse=True), Table(sparse=False)
    for model in (sparse, dense):
        train(model, make_optimizer(model, name, 0.05), words(10))
    torch.testing.assert_close(sparse.table.weight, dense.table.weight, rtol=1e-9, atol=1e-12)


def test_adam_on_sparse_tables_is_torchs_sparse_adam():
    ours, theirs = Table(sparse=True), Table(sparse=True)
    # Its ε is added before the correction of û, ours (as Adam's) after: a small one makes them the same.
    reference = torch.optim.SparseAdam([theirs.table.weight], lr=0.05, eps=1e-15)
    theirs.head.requires_grad_(False)
    ours.head.requires_grad_(False)
    train(ours, make_optimizer(ours, "adam", 0.05, eps=1e-15), words(10))
    train(theirs, reference, words(10))
    torch.testing.assert_close(ours.table.weight, theirs.table.weight, rtol=1e-9, atol=1e-12)
    dense = Table(sparse=False)
    dense.head.requires_grad_(False)
    train(dense, make_optimizer(dense, "adam", 0.05), words(10))
    assert not torch.allclose(ours.table.weight, dense.table.weight, atol=1e-3)  # where dense Adam goes on moving absent rows


def test_sparse_bags_and_batches_without_a_word():
    torch.manual_seed(0)
    bag = nn.EmbeddingBag(ROWS, SIZE, mode="sum", sparse=True, padding_idx=0)
    before = bag.weight.detach().clone()
    optimizer = make_optimizer(bag, "adamw", 0.1, weight_decay=0.1)
    train(bag, optimizer, [torch.zeros(2, 4, dtype=torch.long)])
    assert torch.equal(bag.weight, before)
    train(bag, optimizer, [torch.tensor([[1, 2, 2, 0]]), torch.zeros(2, 4, dtype=torch.long)])
    moved = (bag.weight != before).any(1)
    assert moved.nonzero()[:, 0].tolist() == [1, 2]


def test_a_step_leaves_the_table_where_it_was_in_memory():
    model = Table(sparse=True)
    weight, address = model.table.weight, model.table.weight.data_ptr()
    train(model, make_optimizer(model, "adam"), words(2))
    assert model.table.weight is weight and weight.data_ptr() == address and weight.shape == (ROWS, SIZE)
    assert weight.grad.is_sparse and weight.grad.shape == weight.shape


def test_an_interrupted_step_leaves_a_whole_table(monkeypatch):
    model = Table(sparse=True)
    optimizer = make_optimizer(model, "adam")
    train(model, optimizer, words(1))
    before = copy.deepcopy(model.state_dict())

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(optimizer, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(model, optimizer, words(1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert optimizer.state[model.table.weight]["exp_avg"].shape == (ROWS, SIZE)


def test_gradients_sparse_in_more_than_rows_are_refused():
    weight = nn.Parameter(torch.zeros(3, 3))
    optimizer = make_optimizer([("weight", weight)], "sgd")
    weight.grad = torch.eye(3).to_sparse()
    with pytest.raises(ValueError, match="2 dimensions"):
        optimizer.step()
    assert weight.shape == (3, 3)


# Resuming


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_is_the_same_to_the_last_bit(name, sparse):
    def begin(seed: int) -> tuple[Table, torch.optim.Optimizer]:
        model = Table(sparse, seed)
        return model, make_optimizer(model, name, 0.1, l1=0.01, weight_decay=0.01, multipliers={"head": 0.5})

    straight, optimizer = begin(0)
    train(straight, optimizer, words(9)[:5])
    set_rate(optimizer, 0.5)
    weights, saved = copy.deepcopy(straight.state_dict()), copy.deepcopy(optimizer.state_dict())
    saved["param_groups"] = json.loads(json.dumps(saved["param_groups"]))  # as a checkpoint without pickle keeps it
    train(straight, optimizer, words(9)[5:])
    resumed, second = begin(7)
    resumed.load_state_dict(weights)
    second.load_state_dict(saved)
    assert [group["lr"] for group in second.param_groups] == [group["base_lr"] / 2 for group in second.param_groups]
    train(resumed, second, words(9)[5:])
    assert all(torch.equal(own, other) for own, other in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert all(torch.equal(own, other) for own, other in zip(state_tensors(optimizer), state_tensors(second), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_freed_later_are_stepped_from_then_on(name):
    model, reference = network(), network()
    model[0].requires_grad_(False)
    frozen = model[0].weight.clone()
    optimizer = make_optimizer(model, name, 0.02, weight_decay=0.1, l2=0.1)
    train(model, optimizer, features(3))
    assert torch.equal(model[0].weight, frozen)
    assert name == "adagrad" or model[0].weight not in optimizer.state  # AdaGrad's rule makes its sums at once
    model[0].requires_grad_(True)
    # From here on the freed layer goes as with an optimizer of its own.
    reference.load_state_dict(model.state_dict())
    fresh = make_optimizer(reference, name, 0.02, weight_decay=0.1, l2=0.1)
    train(model, optimizer, features(1))
    train(reference, fresh, features(1))
    torch.testing.assert_close(model[0].weight, reference[0].weight)
    assert not torch.equal(model[0].weight, frozen)


# Groups, penalties, rates


def groups_by_name(optimizer: torch.optim.Optimizer) -> dict[str, dict]:
    return {name: group for group in optimizer.param_groups for name in group["param_names"]}


def test_vectors_are_exempt_and_settings_differ_by_the_part_of_the_model():
    model = nn.ModuleDict({"encoder": network(), "head": nn.Linear(2, 2), "header": nn.Linear(2, 2, bias=False)})
    settings = {"l1": 0.1, "l2": {"": 0.5, "encoder.0": 0.25}, "weight_decay": {"head": 0.125}}
    groups = groups_by_name(make_optimizer(model, "sgd", 2.0, **settings, multipliers={"encoder": 0.5, "encoder.2": 0.1}))
    found = {name: tuple(group[key] for key in ("base_lr", "l1", "l2", "weight_decay")) for name, group in groups.items()}
    assert found == {
        "encoder.0.weight": (1.0, 0.1, 0.25, 0),
        "encoder.0.bias": (1.0, 0, 0, 0),
        "encoder.1.weight": (1.0, 0, 0, 0),
        "encoder.1.bias": (1.0, 0, 0, 0),
        "encoder.2.weight": (0.2, 0.1, 0.5, 0),
        "encoder.2.bias": (0.2, 0, 0, 0),
        "head.weight": (2.0, 0.1, 0.5, 0.125),
        "head.bias": (2.0, 0, 0, 0),
        "header.weight": (2.0, 0.1, 0.5, 0),
    }


def test_discriminative_rates_follow_the_schedule():
    model = network()
    optimizer = make_optimizer(model, "sgd", 1.0, multipliers={"0": 1 / 2.6})
    set_rate(optimizer, 0.5)
    rates = {name: group["lr"] for name, group in groups_by_name(optimizer).items()}
    assert rates["0.weight"] == pytest.approx(0.5 / 2.6) and rates["2.weight"] == 0.5
    set_rate(optimizer, 0.25)
    assert groups_by_name(optimizer)["2.weight"]["lr"] == 0.25  # of the base rate, not of the rate before


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_penalties_are_the_gradient_of_what_they_add_to_the_mean_loss(name):
    plain, penalised = network(), network()
    optimizer = make_optimizer(penalised, name, 0.02, l1={"0": 0.3}, l2={"2": 0.2, "0": 0.1})
    by_hand = make_optimizer(plain, name, 0.02)
    for batch in features(4):
        added = 0.3 * plain[0].weight.abs().sum() + 0.1 * plain[0].weight.square().sum() + 0.2 * plain[2].weight.square().sum()
        assert penalty(optimizer) == pytest.approx(added.item())
        by_hand.zero_grad()
        (plain(batch).square().sum() + added).backward()
        by_hand.step()
        train(penalised, optimizer, [batch])
    for own, other in zip(penalised.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


def test_the_soft_threshold_reaches_zero_and_the_subgradient_does_not():
    results = []
    for proximal in (True, False):
        weight = nn.Parameter(torch.tensor([[0.25, -0.25, 2.0]], dtype=torch.float64))
        optimizer = make_optimizer([("weight", weight)], "sgd", 0.1, l1=1.0, proximal=proximal)
        for _ in range(4):
            weight.grad = torch.zeros_like(weight)
            optimizer.step()
        results.append(weight.detach())
    torch.testing.assert_close(results[0], torch.tensor([[0.0, 0.0, 1.6]], dtype=torch.float64))
    assert (results[0][0, :2] == 0).all()
    torch.testing.assert_close(results[1], torch.tensor([[0.05, -0.05, 1.6]], dtype=torch.float64))


@pytest.mark.parametrize("maximum", [0.5, 1e9])
def test_clipping_is_torchs_and_sees_through_sparse_gradients(maximum):
    sparse, dense = Table(sparse=True), Table(sparse=False)
    ids = torch.tensor([1, 1, 4])
    for model in (sparse, dense):
        model(ids).square().sum().backward()
    assert not sparse.table.weight.grad.is_coalesced()
    norms = clip_gradients(sparse.parameters(), maximum), nn.utils.clip_grad_norm_(dense.parameters(), maximum)
    torch.testing.assert_close(*norms)
    torch.testing.assert_close(sparse.table.weight.grad.to_dense(), dense.table.weight.grad)
    torch.testing.assert_close(sparse.head.weight.grad, dense.head.weight.grad)
    assert float(clip_gradients([nn.Parameter(torch.zeros(2))], 1.0)) == 0


def test_closures_and_hooks_are_called_once(monkeypatch):
    torch.optim.AdamW(network().parameters())  # making one wraps torch's own step so that it calls hooks
    source = importlib.util.find_spec("weft.training.optimizers")
    late = importlib.util.module_from_spec(source)  # the module as it is when imported only now
    monkeypatch.setitem(sys.modules, source.name, late)
    source.loader.exec_module(late)
    model, calls = network(), []
    optimizer = late.make_optimizer(model, "adamw")
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure() -> torch.Tensor:
        calls.append("closure")
        optimizer.zero_grad()
        loss = F.mse_loss(model(features(1)[0]), torch.zeros(6, 2, dtype=torch.float64))
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0
    assert calls == ["before", "closure", "after"]


def test_no_step_loads_torchs_compiler():
    """Loading it takes a second or more, which every `weft train` would wait for."""
    script = """
import sys, torch
if "torch._dynamo" in sys.modules:
    sys.exit("torch loads it itself")
from weft.training.optimizers import OPTIMIZERS, make_optimizer
for name in OPTIMIZERS:
    model = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(model, name)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if "torch loads it itself" in done.stderr:
        pytest.skip("torch loads its compiler when it is imported")
    assert done.stdout.strip() == "False", done.stderr


def test_torchs_schedulers_accept_it():
    model = network()
    optimizer = make_optimizer(model, "adam", 0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    train(model, optimizer, features(1))
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"name": "adma"}, "sgd, momentum, adagrad, rmsprop, adam, adamw"),
        ({"name": "adam", "momentum": 0.9}, "'adam' has no option 'momentum'; it has betas, eps, amsgrad"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"l1": -0.1}, "l1"),
        ({"l2": {"0": -0.1}}, "l2"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"multipliers": {"heda": 0.5}}, "begins with 'heda'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        make_optimizer(network(), **settings)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(InputError, match="no parameters"):
        make_optimizer(nn.Identity())
