"""The only training loop: batches → loss terms → one gradient step, checked on development data, stopped, resumed (E11, E16, E17, E24).

Online, minibatch and full-batch descent are batch budgets (1, m, all). The randomness of step t is a pure function of
(seed, rank, t), so a run that is killed and resumed ends with the bytes of the run that never was.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from weft.data.batch import Batch, Batches, Walk
from weft.device import LARGEST_SEED, Compute, autocast
from weft.errors import DivergedError, InputError, meant
from weft.losses import Loss
from weft.training import distributed
from weft.training.averaging import AVERAGING, Average
from weft.training.callbacks import Callback, EarlyStopping, Moment
from weft.training.checkpoint import load_checkpoint, save_checkpoint, snapshot, uninterrupted
from weft.training.layers import TUNE, Layers
from weft.training.optimizers import clip_gradients, make_optimizer, set_rate
from weft.training.schedules import schedule

log = logging.getLogger("weft")


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Budgets are in steps: one step is one batch, however many micro-batches or ranks share it.

    warmup: a share of the steps if below 1, else a number of steps. clip: the largest norm of the whole gradient, None for no limit.
    l1, l2, weight_decay: E18 (biases and norms left out); proximal: l1 as a soft threshold, which
    reaches 0 exactly. evaluate_every: steps between checks on the development set, None for only at
    the end. patience: checks without improvement before stopping. monitor: the loss, or a metric of `validate`.
    checkpoint_every: steps between checkpoints (one is also left after each check), where `train` is given a path.
    averaging: of AVERAGING; development data is looked at with the averaged weights, and they are what is left at the end.
    averaging_decay: of the exponential mean; averaging_interval: checks that NT-ASGD waits for a better one.
    tune: of TUNE, what learns: all, the head, or the head and a layer more an epoch. layer_decay: the rate of each layer is the
    layer_decay-th part of that of the one above it, the head's the full one (E108: 2.6).
    """

    steps: int
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "linear"
    warmup: float = 0.0
    clip: float | None = 1.0
    l1: float = 0.0
    proximal: bool = False
    l2: float = 0.0
    weight_decay: float = 0.0
    micro_batches: int = 1
    evaluate_every: int | None = None
    patience: int | None = None
    monitor: str = "loss"
    checkpoint_every: int | None = None
    averaging: str = "none"
    averaging_decay: float = 0.999
    averaging_interval: int = 5
    tune: str = "all"
    layer_decay: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "micro_batches", "evaluate_every", "patience", "checkpoint_every", "averaging_interval"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"must be at least 1, not {value}", name)
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"must be from 0 to {LARGEST_SEED}, not {self.seed}", "seed")
        if not self.learning_rate > 0:
            raise InputError(f"must be above 0, not {self.learning_rate}", "learning_rate")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"must be above 0, not {self.clip}; None for no limit", "clip")
        for name, there in (("averaging", AVERAGING), ("tune", TUNE)):
            if (value := getattr(self, name)) not in there:
                raise InputError(f"there is no {value!r}{meant(value, there)}; there are {', '.join(there)}", name)
        if not 1 <= self.layer_decay < math.inf:
            raise InputError(f"must be at least 1: it divides a layer's rate for the layer below; not {self.layer_decay}", "layer_decay")
        if not 0 < self.averaging_decay < 1:
            raise InputError(f"must lie between 0 and 1, not {self.averaging_decay}", "averaging_decay")


@dataclass
class History:
    """What happened. checks: one record a check, with its step, the means of the training loss terms since the last one (train_…) and the
    development metrics; best_step: whose weights are kept; stopped: "budget", "patience" or "callback"."""

    checks: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    epochs: float = 0.0
    best_step: int = 0
    best: float = math.nan
    stopped: str = "budget"
    seconds: float = 0.0


@dataclass
class _State:
    """Where a run stands between two steps; with the weights and the optimizer, all that a resume needs."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # batches of this epoch that are done
    seconds: float = 0.0
    totals: dict[str, list[float]] = field(default_factory=dict)  # loss terms since the last check: [total, count]
    checks: list[dict[str, float]] = field(default_factory=list)
    checked: int = 0  # the step of the last check
    stop: bool = False  # whether a callback asked for the end


def train(
    model: Module,
    batches: Walk,
    loss: Loss,
    config: TrainConfig,
    *,
    validate: Callable[[Module], Mapping[str, float]] | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
    compute: Compute | None = None,
    about: Mapping[str, str] | None = None,
) -> History:
    """Trains `model` in place for `config.steps` steps and leaves it with the best weights seen on development data.

    validate(model) gives development metrics, among them `config.monitor`; without it the last weights stay, or their average. With
    `checkpoint`, a file is kept there from which `resume=True` goes on; Ctrl-C leaves one before it is passed on. Under torchrun every
    rank calls this alike.
    about: what else a run must share with the checkpoint it goes on from, by its name in the error ("other word vectors").
    Raises DivergedError at a loss, or a gradient that is to be clipped, that is not finite, naming step and batch; InputError for an empty
    dataset, or a checkpoint of another run (other config, network, loss or data).
    """
    if not len(batches):
        raise InputError("there is nothing to train on: no examples", "batches")
    compute = compute or Compute(torch.device("cpu"), "fp32", torch.get_num_threads())
    run = _Run(model, batches, loss, config, validate, callbacks, checkpoint, compute, about or {})
    with torch.random.fork_rng(devices=[run.compute.device] if run.compute.device.type == "cuda" else []):
        if resume and checkpoint is not None and distributed.all_see(checkpoint, run.compute.device):
            run.restore(checkpoint)
        return run.until_done()


class _Run:
    """One training: the loop's parts share their state here."""

    def __init__(
        self,
        model: Module,
        batches: Walk,
        loss: Loss,
        config: TrainConfig,
        validate: Callable[[Module], Mapping[str, float]] | None,
        callbacks: Sequence[Callback],
        checkpoint: Path | None,
        compute: Compute,
        about: Mapping[str, str],
    ) -> None:
        self.model, self.batches, self.loss, self.config = model, batches, loss, config
        self.validate, self.callbacks, self.checkpoint, self.compute = validate, callbacks, checkpoint, compute
        self.replica = distributed.wrap(model, compute.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.layers = Layers(model, config.tune, config.layer_decay)
        self.optimizer = make_optimizer(
            model, name=config.optimizer, learning_rate=config.learning_rate, multipliers=self.layers.multipliers(),
            l1=config.l1, l2=config.l2, weight_decay=config.weight_decay, proximal=config.proximal,
        )  # fmt: skip
        self.shape, self.warmup = schedule(config.schedule), _warmup_steps(config)
        self.stopping = EarlyStopping(config.monitor, config.patience)
        self.average = Average(self.parameters, config.averaging, config.averaging_decay, config.averaging_interval)
        self.state = _State()
        self.best: dict[str, Tensor] | None = None
        self.saved = 0  # the step of the last checkpoint
        self.about = {} if checkpoint is None else {**_about(model, loss, batches), **about}

    def until_done(self) -> History:
        """Steps until the budget or patience is spent, then the best weights."""
        started, before = time.monotonic(), self.state.seconds
        try:
            self.settle()  # an interrupted run may have ended between a step and its check
            for batch in self.remaining():
                self.step(batch)
                self.state.seconds = before + time.monotonic() - started
                self.settle()
        except KeyboardInterrupt:
            self.save()
            raise
        finally:
            self.layers.release()
        if self.config.averaging == "nt-asgd" and not self.average.active and self.state.checks and distributed.is_main():
            log.warning("development data never ceased to improve in %d checks: the weights are not averaged", len(self.state.checks))
        if self.best is None:
            self.average.put()
        else:
            self.model.load_state_dict(self.best)
        epochs = self.state.epoch + self.state.position / max(1, self.batches.steps(self.state.epoch))
        stopped = "patience" if self.stopping.exhausted else "callback" if self.state.stop else "budget"
        best_step = self.stopping.best_step or self.state.step
        return History(self.state.checks, self.state.step, epochs, best_step, self.stopping.best, stopped, self.state.seconds)

    def remaining(self) -> Iterator[Batch]:
        """The batches that are still to come, across epochs; none after a stop, one that a checkpoint holds included."""
        while not self.over():
            for batch in self.batches.epoch(self.state.epoch, self.state.position):
                yield batch
                if self.over():
                    return
            with uninterrupted():
                self.state.epoch, self.state.position = self.state.epoch + 1, 0

    def over(self) -> bool:
        """Whether the budget or patience is spent, or a callback asked for the end."""
        return self.state.step >= self.config.steps or self.stopping.exhausted or self.state.stop

    def settle(self) -> None:
        """What is due after a step and not done yet: a check, a checkpoint."""
        step = self.state.step
        last = self.validate is not None and step == self.config.steps
        if step > self.state.checked and (last or self.due(self.config.evaluate_every)):
            self.check()
        if step > self.saved and self.due(self.config.checkpoint_every):
            self.save()

    def due(self, every: int | None) -> bool:
        return every is not None and self.state.step % every == 0

    def step(self, batch: Batch) -> None:
        """One gradient step on one batch, in micro-batches, on this rank's share of it (E17)."""
        config, state, device = self.config, self.state, self.compute.device
        _seed(step_seed(config.seed, distributed.rank(), state.step), device)
        if not self.model.training:  # walking every module costs a small network a tenth of its step
            self.model.train()
        if self.layers.freeze_for(state.epoch):
            self.replica = distributed.wrap(self.model, device)  # which exchanges the gradients of what learns
        rate = self.shape(state.step, config.steps, self.warmup)
        set_rate(self.optimizer, rate)
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        mine, weight = distributed.shard(batch)
        losses = self.accumulate(mine.to(device).split(config.micro_batches), weight)
        objective = sum(losses.values())
        if not math.isfinite(objective):
            raise DivergedError(f"the loss is {objective}", step=state.step, batch=state.position)
        if config.clip is not None and not math.isfinite(norm := float(clip_gradients(self.parameters, config.clip))):
            raise DivergedError(f"the gradient's norm is {norm}", step=state.step, batch=state.position)
        with uninterrupted():  # a checkpoint holds the step wholly or not at all
            self.optimizer.step()
            if (carry := getattr(self.model, "carry", None)) is not None:
                carry()
            self.average.update()
            state.step, state.position = state.step + 1, state.position + 1
            for name, value in losses.items():
                total = state.totals.setdefault(name, [0.0, 0.0])
                total[0], total[1] = total[0] + value, total[1] + 1
        self.tell(losses, rate)

    def accumulate(self, parts: list[Batch], weight: float) -> dict[str, float]:
        """Gradients of all micro-batches, each term divided once, by its count over all of them and over all ranks (E11)."""
        counts: dict[str, float] = {}
        for part in parts:
            for name, count in self.loss.counts(part).items():
                counts[name] = counts.get(name, 0.0) + weight * float(count)
        counts = distributed.sum_over_ranks(counts, self.compute.device)
        values: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            with distributed.without_averaging(self.replica, last=number == len(parts) - 1):
                with autocast(self.compute):
                    terms = self.loss(self.replica, part)
                scaled = {name: weight * term.weight * term.total / max(counts[name], 1e-12) for name, term in terms.items()}
                # the ranks' gradients are averaged, so each is scaled up to make their sum
                (sum(scaled.values()) * distributed.ranks()).backward()  # type: ignore[union-attr]
            for name, value in scaled.items():
                values[name] = values.get(name, torch.zeros((), device=value.device)) + value.detach()
        distributed.exchange_rows(self.model)
        losses = {name: float(value) for name, value in values.items()}
        return distributed.sum_over_ranks(losses, self.compute.device)

    def tell(self, losses: dict[str, float], rate: float, metrics: dict[str, float] | None = None) -> None:
        """Tells the callbacks where the run stands."""
        if not self.callbacks:
            return
        epoch = self.state.epoch + self.state.position / max(1, self.batches.steps(self.state.epoch))
        moment = Moment(self.state.step, self.config.steps, epoch, losses, rate, metrics)
        for callback in self.callbacks:
            callback(moment)
        self.state.stop = self.state.stop or moment.stop

    def check(self) -> None:
        """Looks at development data: keeps the best weights, counts patience, leaves a checkpoint."""
        state = self.state
        losses = {f"train_{name}": total / count for name, (total, count) in state.totals.items()}
        with self.average.in_place():
            metrics = None if self.validate is None else self.development(self.validate)
            better = metrics is not None and self.stopping.better(metrics[self.config.monitor])
            weights = snapshot(self.model.state_dict()) if better else None
        with uninterrupted():
            if metrics is not None:
                value = metrics[self.config.monitor]
                self.best = weights if self.stopping.update(value, state.step) else self.best
                self.average.look(value, self.config.monitor)
            state.checks.append({"step": state.step, **losses, **(metrics or {})})
            state.totals, state.checked = {}, state.step
        if metrics is not None:
            self.tell(losses, self.shape(state.step - 1, self.config.steps, self.warmup), metrics)
        self.save()

    def development(self, validate: Callable[[Module], Mapping[str, float]]) -> dict[str, float]:
        """The development metrics of the weights as they are. Raises InputError where the one to monitor is not among them."""
        self.model.eval()
        with torch.inference_mode(), autocast(self.compute):
            metrics = {name: float(value) for name, value in validate(self.model).items()}
        monitor = self.config.monitor
        if monitor not in metrics:
            raise InputError(f"the development metrics are {', '.join(metrics)}; monitor one of them", "monitor")
        metrics[monitor] = distributed.agree(metrics[monitor], self.compute.device)
        return metrics

    def save(self) -> None:
        """Leaves a checkpoint, where one is wanted."""
        self.saved = self.state.step
        if self.checkpoint is None or not distributed.is_main():
            return
        state = {
            "about": self.about,
            "config": asdict(self.config),
            "state": asdict(self.state),
            "stopping": asdict(self.stopping),
            "model": self.model.state_dict(),
            "best": self.best,
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "carried": getattr(self.model, "carried", None),  # states that a stream's next window goes on from
        }
        save_checkpoint(self.checkpoint, state)

    def restore(self, path: Path) -> None:
        """Takes up a run where its checkpoint left it."""
        saved = load_checkpoint(path)
        try:
            for what, digest in self.about.items():
                if saved["about"].get(what) != digest:
                    raise InputError(f"this checkpoint is of {what}; start without --resume", str(path))
            for name, value in asdict(self.config).items():
                if (before := saved["config"].get(name)) != value:
                    raise InputError(f"this checkpoint was made with {name}={before!r}, not {value!r}; start without --resume", str(path))
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.average.load_state_dict(saved["average"])
            self.best, self.state, self.stopping = saved["best"], _State(**saved["state"]), EarlyStopping(**saved["stopping"])
            if saved["carried"] is not None:
                self.model.carried = saved["carried"].to(self.compute.device)
        except InputError:
            raise
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError("this checkpoint is of another network or version; start without --resume", str(path)) from error
        self.saved = self.state.step
        if distributed.is_main():
            log.info("resumed at step %d of %d", self.state.step, self.config.steps)


def step_seed(seed: int, rank: int, step: int) -> int:
    """What torch's generators are seeded with for one step on one rank: all three are mixed into every bit.

    Put side by side in one number they would not do: torch's CPU generator reads the lower 32 bits alone.
    """
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0]) >> 1


def _seed(seed: int, device: torch.device) -> None:
    """`torch.manual_seed` for the generators that a step on this device draws from.

    torch's own also queues the call for each kind of device that is not there, with a formatted traceback: half a millisecond, and
    memory, at every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _about(model: Module, loss: Loss, batches: Walk) -> dict[str, str]:
    """What a checkpoint must share with the run that takes it up, besides the config: its name in an error → a digest."""
    network = f"{model!r} {getattr(model, 'config', None)!r}"
    return {
        "another network": hashlib.sha256(network.encode()).hexdigest(),
        "another loss": repr(loss) if is_dataclass(loss) else type(loss).__name__,
        "other data, or another batch size": batches.fingerprint(),
    }


def _warmup_steps(config: TrainConfig) -> int:
    steps = round(config.warmup * config.steps) if config.warmup < 1 else int(config.warmup)
    return min(steps, config.steps - 1)


def evaluate(
    model: Module, batches: Batches, metrics: Mapping[str, Any], loss: Loss | None = None, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Runs streaming metrics, and the mean of the loss under the name "loss", over every batch in evaluation mode."""
    totals: dict[str, list[float]] = {}
    model.eval()
    for batch in batches:
        batch = batch.to(device)
        outputs = model(batch)
        for metric in metrics.values():
            metric.update(outputs, batch)
        if loss is not None:
            for name, term in loss(_Given(outputs), batch).items():
                total = totals.setdefault(name, [0.0, 0.0, term.weight])
                total[0], total[1] = total[0] + float(term.total.detach()), total[1] + float(term.count)
    results = {name: float(metric.compute()) for name, metric in metrics.items()}
    if loss is not None:
        results["loss"] = sum(weight * total / max(count, 1e-12) for total, count, weight in totals.values())
    return results


class _Given(Module):
    """A model whose outputs are already there: the loss of a check costs no second forward pass."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, batch: Batch) -> Tensor:
        return self.outputs
