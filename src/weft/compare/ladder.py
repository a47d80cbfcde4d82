"""The ladder: every rung on the same split, the same seeds and an equal budget; chosen on dev, reported on test once.

A budget of minutes is shared out once: each neural rung is timed over a few steps, every training gets the same seconds, and these become
steps that are written down and can be repeated. What is finished is kept in files; a ladder that was interrupted goes on where it stood.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weft import __version__
from weft.compare.runs import Run, carry_out, fingerprint, keep, kept
from weft.compare.tuning import best_trial
from weft.data.examples import Splits, Table
from weft.errors import InputError, MissingExtra, meant
from weft.estimators import feature_tagger
from weft.estimators.baselines import SEEDED
from weft.estimators.rungs import PAIRS, Rung, ladder
from weft.estimators.scoring import MAIN_METRIC
from weft.estimators.settings import known_settings, typed_settings, unknown
from weft.estimators.training import estimator_for, targets_of, texts_of
from weft.estimators.vectors import Vectors, check_mode
from weft.files import plain, read_json, write_json
from weft.metrics_text import bleu

log = logging.getLogger("weft")
TRAINING_SHARE = 0.85  # of the minutes; the rest is for reading, baselines, predictions, statistics and the report
MINIMUM_STEPS = 20
COMPARED_BY = ("bleu", "exact_match")  # of translators: what has intervals and paired tests, and is better the higher it is


@dataclass(frozen=True)
class Plan:
    """What is to be compared, and on what budget. `steps` (the same number for each neural rung) goes before `minutes`.

    rungs are put in the ladder's order. trials: settings tried at random for each rung on dev, the rung's own among them, before the
    seeds are run (1: none are). options: the estimators' own (device, precision, threads). settings: per rung under its name, and under
    "" for every rung that has such a setting. vectors: a file of word vectors that every neural rung starts from. task: of the data, which
    says whose ladder it is. Raises InputError for what cannot be.

    metric: what rungs are compared by, the task's main one; of translators also exact match, where the settings for all say
    metric=exact_match, or (which `note` says) where sacreBLEU is missing.
    """

    rungs: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    minutes: float = 5.0
    steps: int | None = None
    trials: int = 1
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    vectors: str | Path | None = None
    task: str = "classification"
    metric: str = field(init=False, default="")
    note: str = field(init=False, default="")

    def of(self, task: str) -> Plan:
        """The same plan for data of this task."""
        return self if task == self.task else replace(self, task=task)

    @property
    def ladder(self) -> dict[str, Rung]:
        """All rungs of the task's kind."""
        return ladder(self.task)

    def __post_init__(self) -> None:
        if not self.rungs:
            raise InputError("name at least one model", "models")
        for rung in self.rungs:
            if rung not in self.ladder:
                raise InputError(f"there is no {rung!r}{meant(rung, self.ladder)}; there are {', '.join(self.ladder)}", "models")
        object.__setattr__(self, "rungs", tuple(rung for rung in self.ladder if rung in self.rungs))
        if not self.seeds:
            raise InputError("must be at least 1, not 0", "seeds")
        if wrong := [seed for seed in self.seeds if not 0 <= seed < 2**32]:
            raise InputError(f"must be from 0 to {2**32 - 1}, not {wrong[0]}", "seed")
        for name, least in (("trials", 1), ("steps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"must be at least {least}, not {value}", name)
        if not (self.minutes > 0 and math.isfinite(self.minutes)):
            raise InputError(f"must be a number above 0, not {self.minutes:g}", "minutes")
        if others := [rung for rung in self.settings if rung and rung not in self.rungs]:
            raise InputError(f"there are settings for {others[0]}, which is not among the models compared", "settings")
        if self.vectors is not None and self.task not in PAIRS and not any(self.ladder[rung].takes_vectors for rung in self.rungs):
            raise InputError("none of the models compared is neural and learns words: nothing would start from them", "vectors")
        object.__setattr__(self, "metric", MAIN_METRIC[self.task])
        if self.task in PAIRS:
            self._choose_metric()

    def _choose_metric(self) -> None:
        """Of translators: BLEU, or exact match."""
        if self.vectors is not None:
            raise InputError("translators learn their vocabularies' vectors from the pairs alone", "vectors")
        everyone = self.settings.get("", {})
        metric = everyone.get("metric", MAIN_METRIC[self.task])
        if metric not in COMPARED_BY:
            raise InputError(f"translators are compared by {' or '.join(COMPARED_BY)}, not {metric!r}", "metric")
        try:
            bleu(["a"], ["a"])
        except MissingExtra as missing:
            if "metric" in everyone and metric == "bleu":
                raise
            metric = "exact_match"
            object.__setattr__(self, "settings", {**self.settings, "": {**everyone, "metric": metric}})
            object.__setattr__(self, "note", f"sacreBLEU is not there: compared by exact match, without BLEU and chrF ({missing})")
        object.__setattr__(self, "metric", metric)

    def options_of(self, rung: str) -> dict[str, Any]:
        """What the rung's estimator is given besides its settings: word vectors for the neural ones alone."""
        given = self.vectors is not None and self.ladder[rung].takes_vectors
        return {**self.options, **({"vectors": self.vectors} if given else {})}


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
    started: float = field(default_factory=time.monotonic)


def climb(splits: Splits, plan: Plan, folder: Path, show: Callable[[Standing], None] = lambda standing: None) -> Standing:
    """Runs every rung and seed of the plan that `folder` does not hold yet. A rung that fails is noted and the others go on.

    What every rung would say about the same data is said once. KeyboardInterrupt passes through with every finished run kept.
    Raises InputError for settings that no rung has, and for a file that holds no word vectors, or none of the size that is set.
    """
    plan = plan.of(splits.train.task)
    standing = Standing(plan)
    suited = [rung for rung in plan.rungs if suits(rung, splits.train)]
    for rung in plan.rungs:
        if rung not in suited:
            standing.errors[rung] = f"does not do {splits.train.task}{' of pairs' if splits.train.pairs is not None else ''}"
    _check_settings(suited, plan)
    show(standing)
    with said_once():
        _climb(splits, suited, standing, folder, show)
    standing.now = ""
    show(standing)
    return standing


def _climb(splits: Splits, suited: Sequence[str], standing: Standing, folder: Path, show: Callable[[Standing], None]) -> None:
    """The baselines and fasttext, then the neural rungs with what they leave of the time."""
    rungs = standing.plan.ladder
    for rung in [rung for rung in suited if rungs[rung].engine != "neural"]:
        _run_rung(splits, rung, None, standing, folder, show)
    neural = [rung for rung in suited if rungs[rung].engine == "neural"]
    standing.steps = _shared_steps(splits, neural, standing, folder, show)
    for rung in neural:
        if rung not in standing.errors:
            _run_rung(splits, rung, standing.steps[rung], standing, folder, show)


@contextmanager
def said_once() -> Iterator[None]:
    """While it lasts, weft says no sentence twice: thirty trainings on the same data would each say the same of it."""
    said: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        known = message in said
        said.add(message)
        return not known

    log.addFilter(new)
    try:
        yield
    finally:
        log.removeFilter(new)


def suits(rung: str, table: Table) -> bool:
    """Whether a rung does the table's task, and reads pairs where these are."""
    row = ladder(table.task).get(rung)
    if row is None:
        return False
    return table.task in row.tasks and (table.pairs is None or row.reads_pairs)


def _settings(rung: str, plan: Plan) -> dict[str, Any]:
    """The plan's settings for this rung, in their types; of those under "", the ones that it has."""
    everyone = plan.settings.get("", {})
    has = known_settings(rung, plan.task) if everyone else ()
    own = {**{name: value for name, value in everyone.items() if name in has}, **plan.settings.get(rung, {})}
    return typed_settings(rung, own, plan.task)


def _check_settings(rungs: Sequence[str], plan: Plan) -> None:
    """Raises InputError for a setting that no rung has, or that cannot have its value: before anything is trained."""
    size = None if plan.vectors is None else Vectors(plan.vectors).dimensions()
    if plan.settings:
        every = {name for rung in rungs for name in known_settings(rung, plan.task)}
        for name in plan.settings.get("", {}):
            if name not in every:
                raise unknown(name, every)
        for rung in rungs:
            settings = _settings(rung, plan)
            if plan.ladder[rung].takes_vectors:
                check_mode(settings.get("vectors_mode", "non-static"), size is not None)
                if plan.vectors is not None and size is not None:
                    Vectors(plan.vectors, settings.get("embedding_size")).check_size(size)


def _run_rung(splits: Splits, rung: str, steps: int | None, standing: Standing, folder: Path, show: Callable[[Standing], None]) -> None:
    """All seeds of one rung; its first error ends it, and is its row."""
    plan = standing.plan
    try:
        settings = _settings(rung, plan)
        if plan.trials > 1:

            def tell(number: int) -> None:
                standing.now, standing.progress = f"{rung}, trial {number + 1}", number / plan.trials
                show(standing)

            options = plan.options_of(rung)
            settings = best_trial(splits, rung, settings, steps, plan.trials, plan.seeds[0], folder, options, tell, plan.metric)
            standing.tuned[rung] = settings
        for seed in plan.seeds:
            standing.now, standing.progress = f"{rung}, seed {seed}", 0.0
            show(standing)
            run = _one(splits, rung, seed, settings, steps, standing, folder, show)
            standing.runs.setdefault(rung, []).append(run)
            show(standing)
    except Exception as error:  # a rung that breaks must not take the others with it
        _failed(rung, error, standing)
        show(standing)


def _failed(rung: str, error: Exception, standing: Standing) -> None:
    log.debug("%s failed", rung, exc_info=True)
    said = " ".join(str(error).split()) or "without a word"
    standing.errors[rung] = said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
    standing.runs.pop(rung, None)


def _one(
    splits: Splits,
    rung: str,
    seed: int,
    settings: dict[str, Any],
    steps: int | None,
    standing: Standing,
    folder: Path,
    show: Callable[[Standing], None],
) -> Run:
    options = standing.plan.options_of(rung)
    expected = fingerprint(splits, rung, seed, settings, steps, options)
    path = folder / "runs" / f"{rung}-{seed}.json"
    if (run := kept(path, expected)) is not None:
        return run

    def follow(moment: Any) -> None:
        if moment.step % max(1, moment.steps // 50) == 0:
            standing.progress = moment.step / moment.steps
            show(standing)

    done = standing.runs.get(rung)
    if done and standing.plan.ladder[rung].engine == "baseline" and rung not in SEEDED | feature_tagger.SEEDED:
        run = replace(done[0], seed=seed)  # nothing in it is random: the same again
    else:
        run = carry_out(splits, rung, seed, settings, steps=steps, callbacks=[follow], **options)
    run = replace(run, fingerprint=expected)
    keep(run, path)
    return run


def _shared_steps(
    splits: Splits, rungs: Sequence[str], standing: Standing, folder: Path, show: Callable[[Standing], None]
) -> dict[str, int]:
    """The steps of each neural rung: the plan's; those an earlier, interrupted ladder wrote down; or by timing a few, written down now."""
    plan = standing.plan
    if plan.steps is not None:
        return dict.fromkeys(rungs, plan.steps)
    path, key = folder / "budget.json", _budget_key(splits, rungs, plan)
    written = _written(path, key)
    steps, missing = dict(written["steps"]), [rung for rung in rungs if rung not in written["steps"]]  # what failed then may not now
    seconds, limits = {}, {}
    for place, rung in enumerate(missing):
        standing.now, standing.progress = f"timing a few steps of {rung}", place / len(missing)
        show(standing)
        try:
            seconds[rung], limits[rung] = _timed(splits, rung, _settings(rung, plan), plan)
        except Exception as error:
            _failed(rung, error, standing)
    trainings = len(plan.seeds) + (plan.trials if plan.trials > 1 else 0)
    left = max(1.0, plan.minutes * 60 * TRAINING_SHARE - (time.monotonic() - standing.started))
    each = written["seconds_each"] or left / trainings / max(1, len(seconds))
    steps |= share_out(each * len(seconds), seconds, limits)
    if seconds:
        timed = {"seconds_per_step": written["seconds_per_step"] | seconds, "most_steps": written["most_steps"] | limits}
        write_json(path, {"key": key, "steps": steps, "seconds_each": each, **timed})
    return steps


def _budget_key(splits: Splits, rungs: Sequence[str], plan: Plan) -> dict[str, Any]:
    """What the written steps hold for: another budget, other data or settings are timed anew."""
    settings = {rung: {**plan.ladder[rung].settings, **_settings(rung, plan)} for rung in rungs}
    key = {
        "minutes": plan.minutes, "seeds": len(plan.seeds), "trials": plan.trials, "train": len(splits.train), "dev": len(splits.dev),
        "options": dict(plan.options), "settings": settings, "version": __version__,
        "vectors": None if plan.vectors is None else Vectors(plan.vectors).digest,
    }  # fmt: skip
    return json.loads(json.dumps(plain(key)))


def _written(path: Path, key: dict[str, Any]) -> dict[str, Any]:
    """What budget.json holds, if it holds for this key; else nothing yet. seconds_each: of one training of each rung."""
    nothing: dict[str, Any] = {"key": key, "steps": {}, "seconds_each": 0.0, "seconds_per_step": {}, "most_steps": {}}
    try:
        written = read_json(path) if path.exists() else None
    except InputError:
        written = None  # half a file of another program: the rungs are simply timed again
    return written if isinstance(written, dict) and written.get("key") == key and written.keys() == nothing.keys() else nothing


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
    options = plan.options_of(rung)
    estimator = estimator_for(splits.train, model=rung, settings=settings or None, random_state=plan.seeds[0], **options)
    return estimator.seconds_per_step(texts_of(splits.train), targets_of(splits.train), (texts_of(splits.dev), targets_of(splits.dev)))
