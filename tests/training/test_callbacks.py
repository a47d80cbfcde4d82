"""Early stopping as bookkeeping (its effect is E24's test), the log of a run, the progress bar."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from weft.metrics import METRICS
from weft.training.callbacks import LOWER_IS_BETTER, EarlyStopping, JsonLog, Moment, ProgressBar


@pytest.mark.parametrize("metric", [*METRICS, "loss"])
def test_every_metric_is_better_in_the_direction_it_should_be(metric):
    errors = {"loss", "log_loss", "calibration_error", "mean_squared_error", "mean_absolute_error"}
    assert (metric in LOWER_IS_BETTER) == (metric in errors)
    stopping = EarlyStopping(metric)
    stopping.update(0.5, 1)
    assert stopping.better(0.4) == (metric in errors)
    assert stopping.better(0.6) == (metric not in errors)
    assert not stopping.better(0.5) and not stopping.better(math.nan)


def test_nan_is_never_the_best_and_never_kept():
    stopping = EarlyStopping("loss", patience=3)
    assert not stopping.update(math.nan, 1)
    assert math.isnan(stopping.best) and stopping.best_step == 0
    assert stopping.update(math.inf, 2) and stopping.update(5.0, 3) and not stopping.update(math.nan, 4)
    assert (stopping.best, stopping.best_step, stopping.waited) == (5.0, 3, 1)


def test_without_patience_it_never_stops():
    stopping = EarlyStopping("accuracy")
    for step in range(100):
        stopping.update(-step, step)
    assert not stopping.exhausted and stopping.best == 0


def test_the_log_is_a_line_of_json_a_check(tmp_path):
    path = tmp_path / "log.jsonl"
    log, every_other = JsonLog(path), JsonLog(tmp_path / "every.jsonl", every=2)
    for step in range(1, 5):
        for metrics in (None, {"accuracy": 0.5}) if step == 3 else (None,):
            moment = Moment(step, 4, step / 3, {"loss": 1 / step}, 0.5, metrics)
            log(moment)
            every_other(moment)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"step": 3, "epoch": 1.0, "rate": 0.5, "loss": 1 / 3, "accuracy": 0.5}]
    others = [json.loads(line)["step"] for line in (tmp_path / "every.jsonl").read_text(encoding="utf-8").splitlines()]
    assert others == [2, 3, 4]


def test_the_bar_counts_steps_and_shows_loss_and_development_score():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ProgressBar("cnn", console) as bar:
        for step in range(1, 4):
            bar(Moment(step, 10, step / 5, {"a": 0.25, "b": 0.5}, 1.0))
        bar(Moment(3, 10, 0.6, {"train_a": 9.0}, 1.0, {"accuracy": 0.625}))
        task = bar.progress.tasks[0]
        assert (task.completed, task.total, task.description) == (3, 10, "cnn")
        assert "loss 0.750" in task.fields["note"]  # of the steps' terms, not of a check's
        assert "dev accuracy 0.625" in task.fields["note"]
