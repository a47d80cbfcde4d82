"""What may look on, or step in, while a model trains: early stopping (E24), a log of the run, a progress bar."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

BAR = 16  # columns of a progress bar
LOWER_IS_BETTER = frozenset({
    "loss", "log_loss", "mean_squared_error", "mean_absolute_error", "calibration_error", "perplexity", "word_error_rate",
    "token_error_rate",
})  # fmt: skip


@dataclass
class Moment:
    """Where a run stands: the step just done (from 1), the steps planned, the epoch, the loss terms of the step, the learning rate's
    factor; `metrics` only right after a check on the development set. A callback may set `stop`."""

    step: int
    steps: int
    epoch: float
    losses: dict[str, float]
    rate: float
    metrics: dict[str, float] | None = None
    stop: bool = False


class Callback(Protocol):
    """Called after every step; after a check on the development set `moment.metrics` is filled."""

    def __call__(self, moment: Moment) -> None: ...


@dataclass
class EarlyStopping:
    """Remembers the best value of one metric and says when `patience` checks have gone by without a better one (E24).

    NaN is never the best. `patience=None` never stops, and still remembers the best.
    """

    monitor: str = "loss"
    patience: int | None = None
    best: float = math.nan
    best_step: int = 0
    waited: int = 0

    def better(self, value: float) -> bool:
        """Whether `value` beats the best so far."""
        if math.isnan(value):
            return False
        if math.isnan(self.best):
            return True
        return value < self.best if self.monitor in LOWER_IS_BETTER else value > self.best

    def update(self, value: float, step: int) -> bool:
        """Takes one check; True if it is the best so far."""
        if self.better(value):
            self.best, self.best_step, self.waited = value, step, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.waited >= self.patience


class JsonLog:
    """Appends a JSON line per check (or every `every` steps) to a file that can be watched while the model trains."""

    def __init__(self, path: str | Path, every: int | None = None) -> None:
        self.path, self.every = Path(path), every

    def __call__(self, moment: Moment) -> None:
        due = self.every is not None and moment.step % self.every == 0
        if moment.metrics is None and not due:
            return
        line = {"step": moment.step, "epoch": round(moment.epoch, 3), "rate": moment.rate, **moment.losses, **(moment.metrics or {})}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class ProgressBar:
    """A bar on stderr: loss, speed, the last development score, time left. Use as a context manager."""

    def __init__(self, title: str, console: Any) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        done, note = TextColumn("{task.completed}/{task.total}"), TextColumn("{task.fields[note]}")
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=BAR), done, TimeRemainingColumn(compact=True), note)
        self.progress = Progress(*columns, console=console, transient=True)
        self.title, self.note, self.smooth = title, "", math.nan
        self.task: Any = None  # made at the first step, which tells how many there are
        self.started, self.first = time.monotonic(), 0

    def __enter__(self) -> ProgressBar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, moment: Moment) -> None:
        if self.task is None:
            self.task = self.progress.add_task(self.title, total=moment.steps, note="")
            self.started, self.first = time.monotonic(), moment.step - 1
        if moment.metrics is None:
            loss = sum(moment.losses.values())
            self.smooth = loss if math.isnan(self.smooth) else 0.95 * self.smooth + 0.05 * loss
        if moment.metrics:
            name, value = next(iter(moment.metrics.items()))
            self.note = f"  dev {name} {value:.4g}"
        speed = (moment.step - self.first) / max(1e-9, time.monotonic() - self.started)
        note = f"loss {self.smooth:.3f}  {speed:.1f} steps/s{self.note}"
        # what is too long for the line is cut here: rich would take from every column, the time left too
        room = self.progress.console.width - len(f"{self.title} {moment.steps}/{moment.steps} 0:00:00 ") - BAR - 1
        self.progress.update(self.task, completed=moment.step, note=note[: max(0, room)])
