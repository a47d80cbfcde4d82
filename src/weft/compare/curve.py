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
from weft.compare.wording import PERCENT, metric_title
from weft.data.examples import Splits, split_table
from weft.estimators.rungs import RUNGS
from weft.estimators.scoring import MAIN_METRIC

log = logging.getLogger("weft")
SHARES = (0.125, 0.25, 0.5)
MORE = 500
FLOOR = 1e-4  # an error of 0 has no logarithm


def learning_curve(splits: Splits, rung: str, plan: Plan, standing: Standing, folder: Path) -> Curve:
    """Trains `rung` on an eighth, a quarter and a half of the training data with every seed; the whole is what the ladder ran.

    Steps shrink with the data, so that every part is seen equally often. Measured on dev: the test set is not touched.
    """
    metric = MAIN_METRIC[splits.train.task]
    full = standing.runs[rung]
    settings, steps = full[0].settings, full[0].steps
    sizes, scores = [], []
    for share in SHARES:
        part = Splits(split_table(splits.train, dev=0.0, test=1 - share, seed=0).train, splits.dev, None)
        budget = None if steps is None else max(20, round(steps * len(part.train) / len(splits.train)))
        sizes.append(len(part.train))
        log.info("learning curve: %s on %d texts", rung, len(part.train))
        with said_once():
            scores.append([_score(part, rung, seed, settings, budget, plan, folder, metric) for seed in plan.seeds])
    sizes.append(len(splits.train))
    scores.append([run.dev[metric] for run in full])
    return {
        "rung": rung, "sizes": sizes, "mean": [float(np.mean(row)) for row in scores],
        "sd": [float(np.std(row, ddof=1)) if len(row) > 1 else None for row in scores], "projection": project(sizes, scores, MORE, metric),
    }  # fmt: skip


def _score(part: Splits, rung: str, seed: int, settings: dict[str, Any], steps: int | None, plan: Plan, folder: Path, metric: str) -> float:
    steps = steps if RUNGS[rung].engine == "neural" else None
    expected = fingerprint(part, rung, seed, settings, steps, plan.options)
    path = folder / "curve" / f"{rung}-{len(part.train)}-{seed}.json"
    run = kept(path, expected)
    if run is None:
        run = replace(carry_out(part, rung, seed, settings, steps=steps, **plan.options), fingerprint=expected)
        keep(run, path)
    return run.dev[metric]


def project(
    sizes: list[int], scores: list[list[float]], more: int, metric: str = "accuracy", *, resamples: int = 1000, seed: int = 0
) -> Projection | None:
    """What `more` examples would bring by the fitted power law: mean and 95 % interval over resampled seeds (None for one seed).

    scores: of each size, one a seed. None where they are not all finite and at most 1, or of fewer than three sizes.
    """
    table = np.array(scores, float)
    if not np.isfinite(table).all() or (table > 1).any() or len(sizes) < 3:
        return None
    size, generator = sizes[-1] + more, np.random.default_rng(seed)
    now, then = _extrapolate(sizes, table.mean(1), sizes[-1]), _extrapolate(sizes, table.mean(1), size)
    gain = then - now
    draws = table[:, generator.integers(0, table.shape[1], (resamples, table.shape[1]))].mean(2).T  # (resamples, sizes)
    gains = np.array([_extrapolate(sizes, row, size) - _extrapolate(sizes, row, sizes[-1]) for row in draws])
    low, high = np.quantile(gains, [0.025, 0.975]) if table.shape[1] > 1 else (np.nan, np.nan)
    mean = float(table[-1].mean() + gain)
    interval = [float(table[-1].mean() + low), float(table[-1].mean() + high)] if np.isfinite(low) else None
    points = metric in PERCENT
    shown = [f"{100 * value:+.1f}" if points else f"{value:+.3f}" for value in (gain, low, high)]
    spread = f" ({shown[1]} to {shown[2]})" if interval else ""
    unit = " points" if points else f" of {metric_title(metric)}"
    sentence = f"{more} more labelled texts would bring about {shown[0]}{unit}{spread}, if the curve goes on as it has"
    return {"size": size, "mean": mean, "interval": interval, "sentence": sentence}


def _extrapolate(sizes: list[int], means: np.ndarray, size: int) -> float:
    """The score at `size` examples, by least squares on log error against log size."""
    slope, intercept = np.polyfit(np.log(sizes), np.log(np.maximum(1 - means, FLOOR)), 1)
    return float(1 - np.exp(intercept + slope * np.log(size)))
