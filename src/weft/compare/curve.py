"""The learning curve: the same rung on growing parts of the training data, on development data; and what more labels would bring.

The error falls as a power of the number of examples, a·n^(−b) (Cortes et al., 1994; Hestness et al., 2017): a straight line in logarithms.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from weft.compare.ladder import Plan, Standing, said_once
from weft.compare.results import Curve, Projection
from weft.compare.runs import carry_out, fingerprint, keep, kept
from weft.compare.wording import PERCENT, POINTS, metric_title, things
from weft.data.examples import Splits, split_table

log = logging.getLogger("weft")
SHARES = (0.125, 0.25, 0.5)
MORE = 500
FLOOR = 1e-4  # an error of 0 has no logarithm


def learning_curve(splits: Splits, rung: str, plan: Plan, standing: Standing, folder: Path) -> Curve:
    """Trains `rung` on an eighth, a quarter and a half of the training data with every seed; the whole is what the ladder ran.

    Steps shrink with the data, so that every part is seen equally often. Measured on dev: the test set is not touched.
    """
    metric, what = plan.metric, things(splits.train.task)
    full = standing.runs[rung]
    settings, steps = full[0].settings, full[0].steps
    sizes, scores = [], []
    for share in SHARES:
        part = Splits(split_table(splits.train, dev=0.0, test=1 - share, seed=0).train, splits.dev, None)
        budget = None if steps is None else max(20, round(steps * len(part.train) / len(splits.train)))
        sizes.append(len(part.train))
        log.info("learning curve: %s on %d %s", rung, len(part.train), what)
        with said_once():
            scores.append([_score(part, rung, seed, settings, budget, plan, folder, metric) for seed in plan.seeds])
    sizes.append(len(splits.train))
    scores.append([run.dev[metric] for run in full])
    return {
        "rung": rung, "sizes": sizes, "mean": [float(np.mean(row)) for row in scores],
        "sd": [float(np.std(row, ddof=1)) if len(row) > 1 else None for row in scores],
        "projection": project(sizes, scores, MORE, metric, what),
    }  # fmt: skip


def _score(part: Splits, rung: str, seed: int, settings: dict[str, Any], steps: int | None, plan: Plan, folder: Path, metric: str) -> float:
    steps = steps if plan.ladder[rung].engine == "neural" else None
    options = plan.options_of(rung)
    expected = fingerprint(part, rung, seed, settings, steps, options)
    path = folder / "curve" / f"{rung}-{len(part.train)}-{seed}.json"
    run = kept(path, expected)
    if run is None:
        run = replace(carry_out(part, rung, seed, settings, steps=steps, **options), fingerprint=expected)
        keep(run, path)
    return run.dev[metric]


def project(
    sizes: list[int],
    scores: list[list[float]],
    more: int,
    metric: str = "accuracy",
    what: str = "texts",
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Projection | None:
    """What `more` examples would bring by the fitted power law: mean and 95 % interval, over the seeds and the scatter about the law.

    scores: of each size, one a seed. what: how examples are called. None where scores are not all finite and at most 1 (BLEU: 100), or of
    fewer than three sizes. The interval is by bootstrap: seeds are drawn anew, then what the points stray from the line (Efron &
    Tibshirani, 1993, 9.4).
    """
    top = 100.0 if metric in POINTS else 1.0
    table = np.array(scores, float) / top
    if not np.isfinite(table).all() or (table > 1).any() or len(sizes) < 3:
        return None
    size, generator = sizes[-1] + more, np.random.default_rng(seed)
    law = _Law(sizes)
    gain = float(law.gains(law.errors(table.mean(1)[None]), size)[0])
    seeds = table[:, generator.integers(0, table.shape[1], (resamples, table.shape[1]))].mean(2).T  # (resamples, sizes)
    low, high = np.quantile(law.gains(law.strewn(law.errors(seeds), generator), size), [0.025, 0.975])
    points = metric in PERCENT | POINTS
    shown = [f"{100 * value:+.1f}" if points else f"{value:+.3f}" for value in (gain, low, high)]
    unit = " points" if points else f" of {metric_title(metric)}"
    examples = "labelled texts" if what == "texts" else what
    told = f"{more} more {examples} would bring about {shown[0]}{unit} ({shown[1]} to {shown[2]}), if the curve goes on as it has"
    mean, *interval = (top * float(table[-1].mean() + change) for change in (gain, low, high))
    return {"size": size, "mean": mean, "interval": interval, "sentence": told}


class _Law:
    """log error = intercept + slope · log size by least squares, for many curves (R, sizes) at once."""

    def __init__(self, sizes: list[int]) -> None:
        self.design = np.column_stack([np.ones(len(sizes)), np.log(sizes)])  # (sizes, 2)
        self.solve = np.linalg.pinv(self.design).T  # (sizes, 2)

    def errors(self, means: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(1 - means, FLOOR))

    def strewn(self, errors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The fitted errors with residuals drawn from their own; two coefficients were fitted, so they are scaled up."""
        fitted = errors @ self.solve @ self.design.T
        residuals = (errors - fitted) * np.sqrt(errors.shape[1] / (errors.shape[1] - 2))
        drawn = generator.integers(0, errors.shape[1], errors.shape)
        return fitted + np.take_along_axis(residuals, drawn, axis=1)

    def gains(self, errors: np.ndarray, size: int) -> np.ndarray:
        """How much higher the score is at `size` examples than at the last size, by the law."""
        coefficients = errors @ self.solve  # (R, 2)
        now, then = (np.exp(coefficients @ np.array([1.0, np.log(n)])) for n in (np.exp(self.design[-1, 1]), size))
        return now - then
