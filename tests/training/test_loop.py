"""The training loop: what a step does and tells, what is kept, stopped, resumed, refused. E16, E17 and E24 are in tests/equations."""

from __future__ import annotations

import logging
import math
import os
import signal
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from linear import Linear, batches_of, regression
from torch import nn

from weft.data.batch import Batches
from weft.errors import DivergedError, InputError
from weft.losses import CrossEntropy, SquaredError, Term
from weft.metrics import METRICS
from weft.training import loop
from weft.training.checkpoint import load_checkpoint, save_checkpoint
from weft.training.loop import TrainConfig, evaluate, step_seed, train
from weft.training.schedules import SCHEDULES

PLAIN = TrainConfig(steps=1, optimizer="sgd", learning_rate=0.1, schedule="constant", clip=None)
INPUTS, TARGETS = regression(12, 3)


def all_at_once(**options) -> Batches:
    return batches_of(INPUTS, TARGETS, **{"examples": 12, **options})


def weight_of(model: Linear) -> np.ndarray:
    return model.weight.detach().numpy().copy()


def gradient(weight: np.ndarray, rows=slice(None)) -> np.ndarray:
    x = INPUTS[rows].astype(float)
    return 2 * (x.T @ (x @ weight[0] - TARGETS[rows]) / len(x))[None]


# One step


@pytest.mark.parametrize("share", [0.1, 0.999, 1.001, 5.0])
def test_clipping_scales_the_whole_gradient_down_to_the_limit(share):
    model = Linear(3)
    before, norm = weight_of(model), float(np.linalg.norm(gradient(weight_of(model))))
    train(model, all_at_once(), SquaredError(), replace(PLAIN, clip=share * norm))
    expected = before - 0.1 * min(1.0, share) * gradient(before)
    np.testing.assert_allclose(weight_of(model), expected, rtol=0, atol=1e-6)


def test_penalties_reach_the_optimizer():
    def moved(**options) -> np.ndarray:
        model = Linear(3)
        before = weight_of(model)
        train(model, all_at_once(), SquaredError(), replace(PLAIN, **options))
        return (before - weight_of(model)) / 0.1

    weight, plain = weight_of(Linear(3)), moved()
    np.testing.assert_allclose(moved(l2=0.3) - plain, 2 * 0.3 * weight, atol=1e-12)
    np.testing.assert_allclose(moved(l1=0.3) - plain, 0.3 * np.sign(weight), atol=1e-12)
    np.testing.assert_allclose(moved(weight_decay=0.3) - plain, 0.3 * weight, atol=1e-12)
    model, before = Linear(3), weight_of(Linear(3))
    train(model, all_at_once(), SquaredError(), replace(PLAIN, l1=0.3, proximal=True))
    stepped = before - 0.1 * gradient(before)
    np.testing.assert_allclose(weight_of(model), np.sign(stepped) * np.maximum(np.abs(stepped) - 0.1 * 0.3, 0), atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup,steps_of_warmup", [(0.0, 0), (0.25, 3), (5, 5)])
def test_rates_are_the_schedules(name, warmup, steps_of_warmup):
    told, config = [], replace(PLAIN, steps=12, schedule=name, warmup=warmup)
    train(Linear(3), all_at_once(), SquaredError(), config, callbacks=[lambda moment: told.append(moment.rate)])
    assert told == [SCHEDULES[name](step, 12, steps_of_warmup) for step in range(12)]


def test_frozen_parameters_stay():
    model = nn.Sequential(Linear(3), nn.Linear(1, 1).double())
    model[1].requires_grad_(False)
    frozen = model[1].weight.clone()
    start = weight_of(model[0])
    train(model, all_at_once(), SquaredError(), replace(PLAIN, steps=3))
    assert torch.equal(model[1].weight, frozen) and model[1].weight.grad is None
    assert not np.array_equal(weight_of(model[0]), start)


# What is told and remembered


def test_callbacks_are_told_every_step_and_every_check():
    moments = []
    config = replace(PLAIN, steps=7, evaluate_every=3)
    batches = batches_of(INPUTS, TARGETS, examples=5, seed=0)  # three batches an epoch
    checks = iter([0.5, 0.25, 0.125])
    history = train(Linear(3), batches, SquaredError(), config, validate=lambda model: {"loss": next(checks)}, callbacks=[moments.append])
    assert [(moment.step, moment.metrics) for moment in moments] == [
        (1, None), (2, None), (3, None), (3, {"loss": 0.5}), (4, None), (5, None), (6, None), (6, {"loss": 0.25}),
        (7, None), (7, {"loss": 0.125}),
    ]  # fmt: skip
    assert all(moment.steps == 7 for moment in moments)
    assert [moment.epoch for moment in moments if moment.metrics is None] == pytest.approx([step / 3 for step in range(1, 8)])
    losses = [moment.losses["squared"] for moment in moments if moment.metrics is None]
    told = [check["train_squared"] for check in history.checks]
    assert told == pytest.approx([np.mean(losses[:3]), np.mean(losses[3:6]), losses[6]])
    assert history.epochs == pytest.approx(7 / 3)
    assert (history.steps, history.stopped, history.best_step, history.best) == (7, "budget", 7, 0.125)


def test_the_losses_told_are_those_of_the_batch_before_the_step():
    model, told = Linear(3), []
    first = float(np.mean((INPUTS.astype(float) @ weight_of(model)[0] - TARGETS) ** 2))
    train(model, all_at_once(), SquaredError(), PLAIN, callbacks=[lambda moment: told.append(moment.losses)])
    assert told == [{"squared": pytest.approx(first)}]


def test_terms_are_weighted_summed_and_told_apart():
    @dataclass
    class Two:
        def __call__(self, model, batch):
            output = model(batch)
            return {"a": Term(output.sum(), 12.0, 3.0), "b": Term(output.square().sum(), 24.0)}

        def counts(self, batch):
            return {"a": float(len(batch)), "b": 2.0 * len(batch)}

    model, told = Linear(3), []
    before = weight_of(model)
    train(model, all_at_once(), Two(), PLAIN, callbacks=[lambda moment: told.append(moment.losses)])
    outputs = INPUTS.astype(float) @ before[0]
    assert told[0] == {"a": pytest.approx(3 * outputs.mean()), "b": pytest.approx((outputs**2).sum() / 24)}
    slope = 3 * INPUTS.astype(float).mean(0) + 2 * INPUTS.astype(float).T @ outputs / 24
    np.testing.assert_allclose(weight_of(model), before - 0.1 * slope[None], atol=1e-12)


def test_a_callback_may_stop_the_run():
    def enough(moment):
        moment.stop = moment.step == 4

    history = train(Linear(3), all_at_once(), SquaredError(), replace(PLAIN, steps=9), callbacks=[enough])
    assert (history.steps, history.stopped) == (4, "callback")


def test_without_checks_the_last_weights_stay():
    model, history = Linear(3), None
    weight = weight_of(model)
    history = train(model, all_at_once(), SquaredError(), replace(PLAIN, steps=5))
    for _ in range(5):
        weight -= 0.1 * gradient(weight)
    np.testing.assert_allclose(weight_of(model), weight, atol=1e-12)
    assert history.checks == [] and history.best_step == 5 and math.isnan(history.best)


def test_checks_come_at_the_end_too_where_no_interval_is_given():
    history = train(Linear(3), all_at_once(), SquaredError(), replace(PLAIN, steps=5), validate=lambda model: {"loss": 2.0})
    assert [check["step"] for check in history.checks] == [5]


# Randomness


def test_every_step_rank_and_seed_draws_its_own():
    seeds = {step_seed(seed, rank, step) for seed in (0, 1, 2**31, 2**32 - 1) for rank in range(3) for step in range(50)}
    assert len(seeds) == 4 * 3 * 50
    assert len({seed & 0xFFFFFFFF for seed in seeds}) > 0.99 * len(seeds)  # all that torch's CPU generator reads
    drawn = set()
    for seed in (0, 1, 2**32 - 1):
        for rank in (0, 1):
            torch.manual_seed(step_seed(seed, rank, 0))
            drawn.add(tuple(torch.rand(4).tolist()))
    assert len(drawn) == 6


def test_dropout_differs_between_seeds_and_steps_and_leaves_global_randomness_alone():
    def answers(seed):
        seen, model = [], Linear(3, dropout=0.5)
        hook = model.dropout.register_forward_hook(lambda module, inputs, output: seen.append((output != 0).tolist()))
        train(model, all_at_once(), SquaredError(), replace(PLAIN, steps=3, seed=seed, learning_rate=1e-9))
        hook.remove()
        return seen

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = answers(0)
    assert torch.equal(torch.rand(3), expected)
    assert answers(0) == first
    assert len({str(masks) for masks in first + answers(1) + answers(2**32 - 1)}) == 9


# What is no number, and what is refused


class Poisoned(nn.Module):
    """Σ √|w|·x²: its value is 0 where w is, its gradient has no bound there."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))

    def forward(self, batch):
        return batch.inputs[:, 0].double().square() @ self.weight.abs().sqrt().T


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_named(value):
    @dataclass
    class Spoilt(SquaredError):
        calls: int = 0

        def __call__(self, model, batch):
            self.calls += 1
            (term,) = super().__call__(model, batch).values()
            return {"squared": replace(term, total=term.total + (value if self.calls == 6 else 0))}

    model = Linear(3)
    weights = []
    with pytest.raises(DivergedError, match=f"the loss is {value} at step 5, batch 2") as caught:  # the sixth batch, the third of its epoch
        train(
            model, batches_of(INPUTS, TARGETS, examples=4, seed=0), Spoilt(), replace(PLAIN, steps=20),
            callbacks=[lambda moment: weights.append(weight_of(model))],
        )  # fmt: skip
    assert (caught.value.step, caught.value.batch) == (5, 2)
    np.testing.assert_array_equal(weight_of(model), weights[-1])  # and nothing followed it


def test_a_gradient_that_is_no_number_is_named_where_it_is_to_be_clipped():
    model = Poisoned()
    with pytest.raises(DivergedError, match=r"gradient's norm is (nan|inf) at step 0, batch 0"):
        train(model, all_at_once(), SquaredError(), replace(PLAIN, clip=1.0))
    assert not model.weight.any()


def test_nothing_to_train_on():
    with pytest.raises(InputError, match="no examples"):
        train(Linear(3), batches_of(INPUTS[:0], TARGETS[:0], examples=2), SquaredError(), PLAIN)


def test_a_metric_that_is_not_there_cannot_be_monitored():
    config = replace(PLAIN, monitor="taste")
    with pytest.raises(InputError, match="monitor: the development metrics are loss, accuracy"):
        train(Linear(3), all_at_once(), SquaredError(), config, validate=lambda model: {"loss": 1.0, "accuracy": 0.5})


@pytest.mark.parametrize(
    "options,place",
    [
        ({"steps": 0}, "steps"),
        ({"micro_batches": 0}, "micro_batches"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"patience": 0}, "patience"),
        ({"checkpoint_every": -1}, "checkpoint_every"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"clip": 0.0}, "clip"),
        ({"clip": math.nan}, "clip"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
    ],
)
def test_configs_that_cannot_be(options, place):
    with pytest.raises(InputError, match=place):
        replace(PLAIN, **options)


@pytest.mark.parametrize(
    "options,said",
    [
        ({"optimizer": "magic"}, "no optimizer 'magic'; there are sgd"),
        ({"schedule": "magic"}, "no schedule 'magic'; there are constant"),
        ({"l2": -1.0}, "l2"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"warmup": -3}, "warm"),
    ],
)
def test_names_and_numbers_that_do_not_exist(options, said):
    with pytest.raises(InputError, match=said):
        train(Linear(3), all_at_once(), SquaredError(), replace(PLAIN, **options))


# Resuming. That the bytes are the same, for every rung, is contract 4's.


def started(path, steps=4, config=replace(PLAIN, steps=8, evaluate_every=2, checkpoint_every=2), **options):  # noqa: B008
    """A run that was killed after some steps and left a checkpoint."""

    class Killed(BaseException):
        pass

    def kill(moment):
        if moment.step == steps and moment.metrics is not None:
            raise Killed

    with pytest.raises(Killed):
        run(path, config, callbacks=[kill], **options)


def run(path, config, *, model=None, loss=None, batches=None, resume=False, callbacks=()):
    model = Linear(3, dropout=0.1) if model is None else model
    loss, batches = loss or SquaredError(), batches or batches_of(INPUTS, TARGETS, examples=5, seed=0)
    history = train(
        model,
        batches,
        loss,
        config,
        validate=lambda model: {"loss": 1 / float(model.weight.square().sum())},
        checkpoint=path,
        resume=resume,
        callbacks=callbacks,
    )
    return weight_of(model), history


CONFIG = replace(PLAIN, steps=8, evaluate_every=2, checkpoint_every=2)
OTHERS = {
    "steps": 9, "optimizer": "adam", "learning_rate": 0.2, "schedule": "cosine", "warmup": 0.5, "clip": 1.0, "l1": 0.1, "l2": 0.1,
    "weight_decay": 0.1, "proximal": True, "micro_batches": 2, "evaluate_every": 3, "patience": 4, "monitor": "other",
    "checkpoint_every": 1, "averaging": "exponential", "averaging_decay": 0.9, "averaging_interval": 2,
    "tune": "head", "layer_decay": 2.6, "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(TrainConfig)])
def test_a_checkpoint_of_another_config_is_refused_by_name(name, tmp_path):
    started(tmp_path / "checkpoint")
    with pytest.raises(InputError, match=f"made with {name}=.* not .*--resume"):
        run(tmp_path / "checkpoint", replace(CONFIG, **{name: OTHERS[name]}), resume=True)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    started(path)
    cases = {
        "another network": {"model": Linear(3, dropout=0.2)},
        "another loss": {"loss": CrossEntropy()},
        "other data": {"batches": batches_of(INPUTS + 1, TARGETS, examples=5, seed=0)},
        "batch size": {"batches": batches_of(INPUTS, TARGETS, examples=4, seed=0)},
    }
    for said, options in cases.items():
        with pytest.raises(InputError, match=said):
            run(path, CONFIG, resume=True, **options)
    state = load_checkpoint(path)
    for part in ("model", "optimizer", "state", "stopping", "about"):
        save_checkpoint(path, {name: value for name, value in state.items() if name != part})
        with pytest.raises(InputError, match="another"):
            run(path, CONFIG, resume=True)
    state["model"]["weight"] = torch.zeros(2, 3)
    save_checkpoint(path, state)
    with pytest.raises(InputError, match="another network"):
        run(path, CONFIG, resume=True)


def test_a_refused_checkpoint_is_left_alone(tmp_path):
    path = tmp_path / "checkpoint"
    started(path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        run(path, replace(CONFIG, seed=9), resume=True)
    assert path.read_bytes() == before


def test_resuming_says_where(tmp_path, caplog):
    started(tmp_path / "checkpoint", steps=6)
    with caplog.at_level(logging.INFO, "weft"):
        run(tmp_path / "checkpoint", CONFIG, resume=True)
    assert "resumed at step 4 of 8" in caplog.text  # killed before the checkpoint of step 6 was written


def test_without_resume_a_checkpoint_there_is_overwritten(tmp_path):
    path = tmp_path / "checkpoint"
    whole = run(None, CONFIG)
    started(path)
    again = run(path, CONFIG)
    np.testing.assert_array_equal(again[0], whole[0])
    assert again[1].checks == whole[1].checks


def test_checkpoints_come_when_they_are_due_and_once(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda path, state: saved.append(state["state"]["step"]))
    run(tmp_path / "checkpoint", replace(PLAIN, steps=9, checkpoint_every=2, evaluate_every=3))
    assert saved == [2, 3, 4, 6, 8, 9]


# Ctrl-C, by the signal itself, at every place where it could do harm


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def assert_interrupted_and_resumed(path, monkeypatch, install, step, whole):
    """`install` plants a signal; the checkpoint must hold `step` steps, and going on must end as if nothing had been."""
    with monkeypatch.context() as patch:
        options = install(patch)
        with pytest.raises(KeyboardInterrupt):
            run(path, CONFIG, **options)
    assert load_checkpoint(path)["state"]["step"] == step
    resumed = run(path, CONFIG, resume=True)
    np.testing.assert_array_equal(resumed[0], whole[0])
    assert resumed[1].checks == whole[1].checks and resumed[1].best_step == whole[1].best_step


def counted(function, at, before=True):
    """`function`, with a signal at its call number `at`, before or after what it does."""
    calls = 0

    def called(*arguments, **options):
        nonlocal calls
        calls += 1
        if before and calls == at:
            interrupt()
        result = function(*arguments, **options)
        if not before and calls == at:
            interrupt()
        return result

    return called


@pytest.mark.parametrize("at", [1, 4, 5, 8])
def test_interrupted_in_the_forward_pass(at, tmp_path, monkeypatch):
    class Interrupting(SquaredError):
        __call__ = counted(SquaredError.__call__, at)

        def __repr__(self) -> str:
            return repr(SquaredError())

    whole = run(None, CONFIG)
    assert_interrupted_and_resumed(tmp_path / "checkpoint", monkeypatch, lambda patch: {"loss": Interrupting()}, at - 1, whole)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", [1, 4, 5, 8])
def test_interrupted_while_the_optimizer_steps(at, before, tmp_path, monkeypatch):
    """The step is finished and counted first: half of one could not be resumed."""

    def install(patch):
        make = loop.make_optimizer

        def planted(*arguments, **options):
            optimizer = make(*arguments, **options)
            optimizer.step = counted(optimizer.step, at, before)
            return optimizer

        patch.setattr(loop, "make_optimizer", planted)
        return {}

    assert_interrupted_and_resumed(tmp_path / "checkpoint", monkeypatch, install, at, run(None, CONFIG))


@pytest.mark.parametrize("name", ["snapshot", "save_checkpoint", "autocast"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_interrupted_while_looking_at_development_data(name, at, before, tmp_path, monkeypatch):
    """Before, during or after a check: it is neither lost nor made twice."""
    whole, path = run(None, CONFIG), tmp_path / "checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(loop, name, counted(getattr(loop, name), at, before))
        with pytest.raises(KeyboardInterrupt):
            run(path, CONFIG)
    resumed = run(path, CONFIG, resume=True)
    np.testing.assert_array_equal(resumed[0], whole[0])
    assert resumed[1].checks == whole[1].checks


# evaluate


def test_evaluate_is_one_pass_over_all_examples():
    draw = np.random.default_rng(0)
    inputs, targets = draw.normal(size=(23, 3)).astype(np.float32), draw.integers(0, 4, 23)
    model = Linear(3, outputs=4, dropout=0.5)
    metrics = {name: METRICS[name]() for name in ("accuracy", "log_loss")}
    found = evaluate(model, batches_of(inputs, targets, examples=5), metrics, CrossEntropy())
    logits = inputs.astype(float) @ weight_of(model).T
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_probabilities[np.arange(23), targets].mean()
    assert found == {
        "accuracy": pytest.approx(np.mean(logits.argmax(1) == targets)),
        "log_loss": pytest.approx(expected),
        "loss": pytest.approx(expected),
    }
    assert not model.training
    assert "loss" not in evaluate(model, batches_of(inputs, targets, examples=5), metrics)
