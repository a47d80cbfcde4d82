"""Random search over a rung's settings, on development data only (Bergstra & Bengio, 2012)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from weft import __version__
from weft.compare.runs import carry_out, fingerprint, keep, kept
from weft.data.examples import Splits
from weft.estimators.rungs import RUNGS
from weft.estimators.scoring import MAIN_METRIC

Draw = Callable[[random.Random], Any]


def _log_uniform(low: float, high: float) -> Draw:
    return lambda generator: float(f"{low * (high / low) ** generator.random():.3g}")


def _one_of(*values: Any) -> Draw:
    return lambda generator: generator.choice(values)


NEURAL_SPACE: dict[str, Draw] = {
    "learning_rate": _log_uniform(3e-4, 6e-3),
    "dropout": _one_of(0.1, 0.3, 0.5),
    "embedding_dropout": _one_of(0.0, 0.2, 0.4),
    "word_dropout": _one_of(0.0, 0.1),
    "batch_size": _one_of(32, 64),
    "embedding_size": _one_of(64, 128, 256),
}
BASELINE_SPACES: dict[str, dict[str, Draw]] = {
    "naive-bayes": {"alpha": _log_uniform(0.05, 2.0), "ngrams": _one_of(1, 2, 3)},
    "logistic": {"C": _log_uniform(0.3, 100.0), "ngrams": _one_of(1, 2, 3)},
    "svm": {"C": _log_uniform(0.03, 10.0), "ngrams": _one_of(1, 2, 3)},
    "perceptron": {"ngrams": _one_of(1, 2, 3), "epochs": _one_of(5, 10, 20)},
    "majority": {},
}


def space(rung: str) -> Mapping[str, Draw]:
    """What is drawn for this rung, by the setting's name."""
    return NEURAL_SPACE if RUNGS[rung].engine == "neural" else BASELINE_SPACES[rung]


def best_trial(
    splits: Splits, rung: str, settings: dict[str, Any], steps: int | None, trials: int, seed: int, folder: Path, options: dict[str, Any]
) -> dict[str, Any]:
    """The settings that did best on dev among the rung's own and `trials` − 1 random ones; what the caller fixed stays fixed.

    The test set is not even passed on. Finished trials are kept in `folder` as the ladder's runs are.
    """
    selection = Splits(*splits.selection, None)
    generator = random.Random(f"{rung} {seed}")
    candidates = [settings]
    for _ in range(trials - 1 if space(rung) else 0):
        candidates.append({**{name: draw(generator) for name, draw in space(rung).items()}, **settings})
    scored = []
    for number, candidate in enumerate(candidates):
        expected = fingerprint(selection, rung, seed, candidate, steps, __version__)
        path = folder / "trials" / f"{rung}-{number}.json"
        run = kept(path, expected)
        if run is None:
            run = replace(carry_out(selection, rung, seed, candidate, steps=steps, **options), fingerprint=expected)
            keep(run, path)
        scored.append(run.dev[MAIN_METRIC[splits.train.task]])
    return candidates[max(range(len(candidates)), key=lambda i: scored[i])]
