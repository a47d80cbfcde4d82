"""The only training loop: batches → loss terms → one gradient step, checked on development data, stopped, resumed (E11, E16, E17, E24).

Online, minibatch and full-batch descent are batch budgets (1, m, all). The randomness of step t is a pure function of
(seed, rank, t), so a run that is killed and resumed ends with the bytes of the run that never was.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from weft.data.batch import Batch, Batches
from weft.device import Compute, autocast
from weft.errors import DivergedError, InputError
from weft.losses import Loss
from weft.training import distributed
from weft.training.callbacks import Callback, EarlyStopping, Moment
from weft.training.checkpoint import load_checkpoint, save_checkpoint, snapshot
from weft.training.optimizers import clip_gradients, make_optimizer, set_rate
from weft.training.schedules import schedule

log = logging.getLogger("weft")


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Budgets are in steps: one step is one batch, however many micro-batches or ranks share it.

    warmup: a share of the steps if below 1, else a number of steps. clip: the largest norm of the whole gradient, None for no limit.
    l1, l2, weight_decay: E18 (biases and norms left out). evaluate_every: steps between checks on the development set, None for only at
    the end. patience: checks without improvement before stopping. monitor: the loss, or a metric of `validate`.
    checkpoint_every: steps between checkpoints (one is also left after each check), where `train` is given a path.
    """

    steps: int
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "linear"
    warmup: float = 0.0
    clip: float | None = 1.0
    l1: float = 0.0
    l2: float = 0.0
    weight_decay: float = 0.0
    micro_batches: int = 1
    evaluate_every: int | None = None
    patience: int | None = None
    monitor: str = "loss"
    checkpoint_every: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "micro_batches", "evaluate_every", "patience", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"must be at least 1, not {value}", name)
        if not self.learning_rate > 0:
            raise InputError(f"must be above 0, not {self.learning_rate}", "learning_rate")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"must be above 0, not {self.clip}; None for no limit", "clip")


@dataclass
class History:
    """What happened: `checks` (one record per check: step, epoch, train loss terms, development metrics), where it was best, why it ended."""

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


def train(
    model: Module,
    batches: Batches,
    loss: Loss,
    config: TrainConfig,
    *,
    validate: Callable[[Module], Mapping[str, float]] | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
    compute: Compute | None = None,
) -> History:
    """Trains `model` in place for `config.steps` steps and leaves it with the best weights seen on development data.

    validate(model) gives development metrics, among them `config.monitor`; without it the last weights stay. With `checkpoint`, a file is kept
    there from which `resume=True` goes on; Ctrl-C leaves one before it is passed on. Under torchrun every rank calls this alike.
    Raises DivergedError at a loss that is not finite, naming step and batch; InputError for an empty dataset or a checkpoint of another run.
    """
    if not len(batches):
        raise InputError("there is nothing to train on: no examples", "batches")
    run = _Run(model, batches, loss, config, validate, callbacks, checkpoint, compute or Compute(torch.device("cpu"), "fp32", torch.get_num_threads()))
    with torch.random.fork_rng(devices=[run.compute.device] if run.compute.device.type == "cuda" else []):
        if resume and checkpoint is not None and checkpoint.exists():
            run.restore(checkpoint)
        return run.until_done()


class _Run:
    """One training: the loop's parts share their state here."""

    def __init__(
        self,
        model: Module,
        batches: Batches,
        loss: Loss,
        config: TrainConfig,
        validate: Callable[[Module], Mapping[str, float]] | None,
        callbacks: Sequence[Callback],
        checkpoint: Path | None,
        compute: Compute,
    ) -> None:
        self.model, self.batches, self.loss, self.config = model, batches, loss, config
        self.validate, self.callbacks, self.checkpoint, self.compute = validate, callbacks, checkpoint, compute
        self.replica = distributed.wrap(model, compute.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(
            model, name=config.optimizer, learning_rate=config.learning_rate, l1=config.l1, l2=config.l2, weight_decay=config.weight_decay
        )
        self.shape, self.warmup = schedule(config.schedule), _warmup_steps(config)
        self.stopping = EarlyStopping(config.monitor, config.patience)
        self.state = _State()
        self.best: dict[str, Tensor] | None = None
        self.stop = False

    def until_done(self) -> History:
        """Steps until the budget or patience is spent, then the best weights."""
        started, before = time.monotonic(), self.state.seconds
        stopped = "budget"
        try:
            for batch in self.remaining():
                self.step(batch)
                self.state.seconds = before + time.monotonic() - started
                if self.due(self.config.evaluate_every) or (self.validate and self.state.step == self.config.steps):
                    self.check()
                if self.due(self.config.checkpoint_every):
                    self.save()
                if self.stop or self.stopping.exhausted:
                    stopped = "patience" if self.stopping.exhausted else "callback"
                    break
        except KeyboardInterrupt:
            self.save()
            raise
        if self.best is not None:
            self.model.load_state_dict(self.best)
        steps_per_epoch = max(1, self.batches.steps(self.state.epoch))
        epochs = self.state.epoch + self.state.position / steps_per_epoch
        best_step = self.stopping.best_step or self.state.step
        return History(self.state.checks, self.state.step, epochs, best_step, self.stopping.best, stopped, self.state.seconds)

    def remaining(self) -> Iterator[Batch]:
        """The batches that are still to come, across epochs; none after a stop that a checkpoint already holds."""
        while self.state.step < self.config.steps and not self.stopping.exhausted:
            for batch in self.batches.epoch(self.state.epoch, self.state.position):
                yield batch
                if self.state.step >= self.config.steps:
                    return
            self.state.epoch, self.state.position = self.state.epoch + 1, 0

    def due(self, every: int | None) -> bool:
        return every is not None and self.state.step % every == 0

    def step(self, batch: Batch) -> None:
        """One gradient step on one batch, in micro-batches, on this rank's share of it (E17)."""
        config, device = self.config, self.compute.device
        torch.manual_seed(((config.seed * 1_000_003 + distributed.rank()) << 32) % (2**62) + self.state.step)
        self.model.train()
        rate = self.shape(self.state.step, config.steps, self.warmup)
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        mine, weight = distributed.shard(batch)
        losses = self.accumulate(mine.to(device).split(config.micro_batches), weight)
        objective = sum(losses.values())
        if not math.isfinite(objective):
            raise DivergedError(f"the loss is {objective}", step=self.state.step, batch=self.state.position)
        if config.clip is not None:
            clip_gradients(self.parameters, config.clip)
        self.optimizer.step()
        self.state.step, self.state.position = self.state.step + 1, self.state.position + 1
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
        losses = {name: float(value) for name, value in values.items()}
        return distributed.sum_over_ranks(losses, self.compute.device)

    def tell(self, losses: dict[str, float], rate: float, metrics: dict[str, float] | None = None) -> None:
        """Adds the step to the running means, and tells the callbacks."""
        if metrics is None:
            for name, value in losses.items():
                total = self.state.totals.setdefault(name, [0.0, 0.0])
                total[0], total[1] = total[0] + value, total[1] + 1
        if not self.callbacks:
            return
        epoch = self.state.epoch + self.state.position / max(1, self.batches.steps(self.state.epoch))
        moment = Moment(self.state.step, self.config.steps, epoch, losses, rate, metrics)
        for callback in self.callbacks:
            callback(moment)
        self.stop = self.stop or moment.stop

    def check(self) -> None:
        """Looks at development data: keeps the best weights, counts patience, leaves a checkpoint."""
        losses = {f"train_{name}": total / count for name, (total, count) in self.state.totals.items()}
        record: dict[str, float] = {"step": self.state.step, **losses}
        self.state.totals = {}
        if self.validate is not None:
            self.model.eval()
            with torch.inference_mode(), autocast(self.compute):
                metrics = {name: float(value) for name, value in self.validate(self.model).items()}
            if self.config.monitor not in metrics:
                raise InputError(f"the development metrics are {', '.join(metrics)}; monitor one of them", "monitor")
            metrics[self.config.monitor] = distributed.agree(metrics[self.config.monitor], self.compute.device)
            record.update(metrics)
            if self.stopping.update(metrics[self.config.monitor], self.state.step):
                self.best = snapshot(self.model.state_dict())
            self.tell(losses, self.shape(self.state.step - 1, self.config.steps, self.warmup), metrics)
        self.state.checks.append(record)
        self.save()

    def save(self) -> None:
        """Leaves a checkpoint, where one is wanted."""
        if self.checkpoint is None or not distributed.is_main():
            return
        state = {
            "config": asdict(self.config),
            "state": asdict(self.state),
            "stopping": asdict(self.stopping),
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.checkpoint, state)

    def restore(self, path: Path) -> None:
        """Takes up a run where its checkpoint left it."""
        saved = load_checkpoint(path)
        for name, value in asdict(self.config).items():
            if saved["config"].get(name) != value:
                raise InputError(f"this checkpoint was made with {name}={saved['config'].get(name)!r}, not {value!r}; start without --resume", str(path))
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise InputError("this checkpoint is of another model; start without --resume", str(path)) from error
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best, self.state, self.stopping = saved["best"], _State(**saved["state"]), EarlyStopping(**saved["stopping"])
        if distributed.is_main():
            log.info("resumed at step %d of %d", self.state.step, self.config.steps)


def _warmup_steps(config: TrainConfig) -> int:
    steps = round(config.warmup * config.steps) if config.warmup < 1 else int(config.warmup)
    return min(steps, config.steps - 1)


def evaluate(model: Module, batches: Batches, metrics: Mapping[str, Any], loss: Loss | None = None, device: torch.device | str = "cpu") -> dict[str, float]:
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
