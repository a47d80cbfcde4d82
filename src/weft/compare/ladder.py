"""The ladder: every rung on the same split, the same seeds and an equal budget; chosen on dev, reported on test once.

A budget of minutes is shared out once: each neural rung is timed over a few steps, every training gets the same seconds, and these become
steps that are written down and can be repeated. What is finished is kept in files; a ladder that was interrupted goes on where it stood.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weft import __version__
from weft.compare.runs import Run, carry_out, estimator_for, fingerprint, keep, kept
from weft.compare.tuning import best_trial
from weft.data.examples import Splits
from weft.errors import InputError
from weft.estimators.baselines import SEEDED
from weft.estimators.rungs import RUNGS
from weft.estimators.training import texts_of
from weft.files import read_json, write_json

log = logging.getLogger("weft")
TRAINING_SHARE = 0.85  # of the minutes; the rest is for reading, baselines, predictions, statistics and the report
MINIMUM_STEPS = 20


@dataclass(frozen=True)
class Plan:
    """What is to be compared, and on what budget. `steps` (the same number for each neural rung) goes before `minutes`.

    trials: settings tried at random for each rung on dev, the rung's own among them, before the seeds are run (1: none are).
    options: the estimators' own (device, precision, threads). settings: for every rung, or per rung under its name.
    """

    rungs: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    minutes: float = 5.0
    steps: int | None = None
    trials: int = 1
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rungs:
            raise InputError("name at least one model", "models")
        for rung in self.rungs:
            if rung not in RUNGS:
                raise InputError(f"no model {rung!r}; there are {', '.join(RUNGS)}", "models")
        for name in ("seeds", "trials", "minutes"):
            value = getattr(self, name)
            if not value or (not isinstance(value, tuple) and value <= 0):
                raise InputError(f"must be above 0, not {value!r}", name)


@dataclass
class Standing:
    """Where the ladder stands, for whoever shows it: per rung its finished runs, or why it failed; what is running now."""

    plan: Plan
    steps: dict[str, int] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    now: str = ""
    progress: float = 0.0


def climb(splits: Splits, plan: Plan, folder: Path, show: Callable[[Standing], None] = lambda standing: None) -> Standing:
    """Runs every rung and seed of the plan that `folder` does not hold yet. A rung that fails is noted and the others go on.

    KeyboardInterrupt passes through with every finished run kept.
    """
    started = time.monotonic()
    standing = Standing(plan)
    suited = [rung for rung in plan.rungs if splits.train.task in RUNGS[rung].tasks and _reads_pairs(rung, splits)]
    for rung in plan.rungs:
        if rung not in suited:
            standing.errors[rung] = f"does not do {splits.train.task}{' of pairs' if splits.train.pairs is not None else ''}"
    show(standing)
    for rung in [rung for rung in suited if RUNGS[rung].engine == "baseline"]:
        _run_rung(splits, rung, None, standing, folder, show)
    neural = [rung for rung in suited if RUNGS[rung].engine == "neural"]
    standing.steps = _shared_steps(splits, neural, standing, folder, time.monotonic() - started, show)
    for rung in neural:
        if rung not in standing.errors:
            _run_rung(splits, rung, standing.steps[rung], standing, folder, show)
    standing.now = ""
    show(standing)
    return standing


def _reads_pairs(rung: str, splits: Splits) -> bool:
    return splits.train.pairs is None or RUNGS[rung].engine == "neural" or rung == "majority"


def _settings(rung: str, plan: Plan) -> dict[str, Any]:
    """The plan's settings for this rung; those under "" are for every neural rung."""
    everyone = plan.settings.get("", {}) if RUNGS[rung].engine == "neural" else {}
    return {**everyone, **plan.settings.get(rung, {})}


def _run_rung(splits: Splits, rung: str, steps: int | None, standing: Standing, folder: Path, show: Callable[[Standing], None]) -> None:
    """All seeds of one rung; its first error ends it, and is its row."""
    plan = standing.plan
    try:
        settings = _settings(rung, plan)
        if plan.trials > 1:
            standing.now = f"{rung}: {plan.trials} trials"
            show(standing)
            settings = best_trial(splits, rung, settings, steps, plan.trials, plan.seeds[0], folder, dict(plan.options))
            standing.tuned[rung] = settings
        for seed in plan.seeds:
            standing.now, standing.progress = f"{rung}, seed {seed}", 0.0
            show(standing)
            run = _one(splits, rung, seed, settings, steps, standing, folder, show)
            standing.runs.setdefault(rung, []).append(run)
            show(standing)
    except Exception as error:  # a rung that breaks must not take the others with it
        log.debug("rung %s failed", rung, exc_info=True)
        standing.errors[rung] = f"{'' if isinstance(error, InputError) else type(error).__name__ + ': '}{error}"
        standing.runs.pop(rung, None)
        show(standing)


def _one(splits: Splits, rung: str, seed: int, settings: dict[str, Any], steps: int | None, standing: Standing, folder: Path, show: Callable[[Standing], None]) -> Run:
    expected = fingerprint(splits, rung, seed, settings, steps, __version__)
    path = folder / "runs" / f"{rung}-{seed}.json"
    if (run := kept(path, expected)) is not None:
        return run

    def follow(moment: Any) -> None:
        if moment.step % max(1, moment.steps // 50) == 0:
            standing.progress = moment.step / moment.steps
            show(standing)

    done = standing.runs.get(rung)
    if done and RUNGS[rung].engine == "baseline" and rung not in SEEDED:
        run = replace(done[0], seed=seed)  # nothing in it is random: the same again
    else:
        run = carry_out(splits, rung, seed, settings, steps=steps, callbacks=[follow], **standing.plan.options)
    run = replace(run, fingerprint=expected)
    keep(run, path)
    return run


def _shared_steps(
    splits: Splits, rungs: Sequence[str], standing: Standing, folder: Path, spent: float, show: Callable[[Standing], None]
) -> dict[str, int]:
    """The steps of each neural rung: the plan's; those an earlier, interrupted ladder wrote down; or from a calibration, written down now."""
    plan = standing.plan
    if plan.steps is not None:
        return {rung: plan.steps for rung in rungs}
    path = folder / "budget.json"
    key = {"minutes": plan.minutes, "rungs": list(rungs), "seeds": len(plan.seeds), "trials": plan.trials, "rows": len(splits.train), "version": __version__}
    key["settings"] = json.loads(json.dumps({rung: _settings(rung, plan) for rung in rungs}, default=list))
    if path.exists():
        written = read_json(path)
        if isinstance(written, dict) and written.get("key") == key:
            return {rung: int(steps) for rung, steps in written["steps"].items()}
    standing.now = "timing a few steps of each rung"
    show(standing)
    seconds, limits = {}, {}
    for rung in rungs:
        try:
            seconds[rung], limits[rung] = _timed(splits, rung, _settings(rung, plan), plan)
        except Exception as error:
            log.debug("rung %s failed", rung, exc_info=True)
            standing.errors[rung] = f"{'' if isinstance(error, InputError) else type(error).__name__ + ': '}{error}"
    trainings = len(plan.seeds) + (plan.trials - 1)
    available = max(1.0, plan.minutes * 60 * TRAINING_SHARE - spent) / trainings
    steps = share_out(available, seconds, limits)
    write_json(path, {"key": key, "steps": steps, "seconds_per_step": seconds, "most_steps": limits})
    return steps


def share_out(available: float, seconds: Mapping[str, float], limits: Mapping[str, int]) -> dict[str, int]:
    """Steps per rung so that all take the same time, `available` seconds together; what a rung at its limit leaves goes to the others.

    seconds: of one step. limits: the most steps a rung can use (its own number of epochs).
    """
    steps: dict[str, int] = {}
    waiting = sorted(seconds, key=lambda rung: seconds[rung] * limits[rung])
    for place, rung in enumerate(waiting):
        share = available / (len(waiting) - place)
        steps[rung] = max(MINIMUM_STEPS, min(limits[rung], int(share / seconds[rung])))
        available = max(0.0, available - steps[rung] * seconds[rung])
    return steps


def _timed(splits: Splits, rung: str, settings: dict[str, Any], plan: Plan) -> tuple[float, int]:
    """(seconds a step, checks on dev included; the steps of the rung's own number of epochs)."""
    estimator = estimator_for(splits.train.task, rung, settings, plan.seeds[0], **plan.options)
    return estimator.seconds_per_step(texts_of(splits.train), splits.train.labels, (texts_of(splits.dev), splits.dev.labels))
