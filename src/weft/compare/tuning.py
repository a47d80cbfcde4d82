"""Random search over a rung's settings, on development data only (Bergstra & Bengio, 2012)."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from weft.compare.runs import carry_out, fingerprint, keep, kept
from weft.data.examples import Splits
from weft.estimators.rungs import ladder
from weft.estimators.scoring import MAIN_METRIC

log = logging.getLogger("weft")
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
WHOLE_SPACES: dict[str, dict[str, Draw]] = {
    "naive-bayes": {"alpha": _log_uniform(0.05, 2.0), "ngrams": _one_of(1, 2, 3)},
    "logistic": {"C": _log_uniform(0.3, 100.0), "ngrams": _one_of(1, 2, 3)},
    "svm": {"C": _log_uniform(0.03, 10.0), "ngrams": _one_of(1, 2, 3)},
    "perceptron": {"ngrams": _one_of(1, 2, 3), "epochs": _one_of(5, 10, 20)},
    "majority": {},
    "fasttext": {
        "learning_rate": _log_uniform(0.05, 2.0), "epochs": _one_of(5, 10, 25, 50), "ngrams": _one_of(1, 2, 3),
        "embedding_size": _one_of(20, 50, 100),
    },
}  # fmt: skip


TAGGER_SPACES: dict[str, dict[str, Draw]] = {
    "majority": {},
    "averaged-perceptron": {"epochs": _one_of(3, 5, 8, 12)},
    "crf": {"l2": _log_uniform(1e-3, 3.0)},
}


TRANSLATOR_SPACES: dict[str, dict[str, Draw]] = {
    "copy": {},
    "nearest": {"ngrams": _one_of(1, 2, 3)},
}
PRETRAINED_SPACE: dict[str, Draw] = {
    "learning_rate": _log_uniform(1e-5, 2e-4),
    "dropout": _one_of(0.0, 0.1, 0.3),
    "layer_dropout": _one_of(0.0, 0.1),
    "batch_size": _one_of(16, 32),
    "layer_decay": _one_of(1.0, 1.2),
}
ULMFIT_SPACE: dict[str, Draw] = {
    "learning_rate": _log_uniform(1e-3, 1e-2),
    "dropout": _one_of(0.1, 0.3, 0.5),
    "layer_dropout": _one_of(0.0, 0.2, 0.4),
    "batch_size": _one_of(16, 32, 64),
}
TRANSLATION_SPACE: dict[str, Draw] = {
    "learning_rate": _log_uniform(3e-4, 3e-3),
    "dropout": _one_of(0.1, 0.2, 0.3, 0.5),
    "label_smoothing": _one_of(0.0, 0.1),
    "word_dropout": _one_of(0.0, 0.1),
    "batch_size": _one_of(32, 64, 128),
    "maximum_size": _one_of(2000, 4000, 8000),
}


def space(rung: str, task: str = "classification") -> Mapping[str, Draw]:
    """What is drawn for this rung of the task's ladder, by the setting's name."""
    row = ladder(task)[rung]
    if row.network == "seq2seq":
        return TRANSLATION_SPACE if row.engine == "neural" else TRANSLATOR_SPACES[rung]
    if row.network == "ulmfit":
        return ULMFIT_SPACE
    if row.network in ("pretrained", "pretrained-tagger"):
        return PRETRAINED_SPACE
    return NEURAL_SPACE if row.engine == "neural" else TAGGER_SPACES[rung] if row.tagging else WHOLE_SPACES[rung]


def candidates(
    rung: str, settings: Mapping[str, Any], trials: int, seed: int, fixed: Collection[str] = (), task: str = "classification"
) -> list[dict[str, Any]]:
    """The caller's settings by themselves, then `trials` − 1 times with what is drawn for the rest; the same for the same seed.

    Settings among `fixed` are not drawn.
    """
    generator = random.Random(f"{rung} {seed}")
    drawn_from = space(rung, task)
    drawn = [{name: draw(generator) for name, draw in drawn_from.items()} for _ in range(trials - 1 if drawn_from else 0)]
    kept = [{name: value for name, value in draw.items() if name not in fixed} for draw in drawn]
    return [dict(settings), *({**draw, **settings} for draw in kept)]


def best_trial(
    splits: Splits,
    rung: str,
    settings: Mapping[str, Any],
    steps: int | None,
    trials: int,
    seed: int,
    folder: Path,
    options: Mapping[str, Any],
    tell: Callable[[int], None] = lambda number: None,
    metric: str | None = None,
) -> dict[str, Any]:
    """The settings that did best on dev among the rung's own and `trials` − 1 random ones; what the caller fixed stays fixed.

    metric: what is best; the task's main one unless another is named. The test set is not even passed on. Finished trials are kept in
    `folder` as the ladder's runs are. A trial that fails (diverges) is said and left out; the last one's error is raised where all do.
    `tell` hears the number of each, from 0, before it begins.
    """
    selection = Splits(*splits.selection, None)
    scored: list[tuple[float, dict[str, Any]]] = []
    failure: Exception | None = None
    follows = ("embedding_size",) if options.get("vectors") is not None else ()  # the vectors' own
    for number, candidate in enumerate(candidates(rung, settings, trials, seed, follows, splits.train.task)):
        tell(number)
        expected = fingerprint(selection, rung, seed, candidate, steps, options)
        path = folder / "trials" / f"{rung}-{number}.json"
        run = kept(path, expected)
        if run is None:
            try:
                run = replace(carry_out(selection, rung, seed, candidate, steps=steps, **options), fingerprint=expected)
            except Exception as error:
                failure = error
                log.warning("%s: trial %d failed and is left out (%s)", rung, number + 1, " ".join(str(error).split()))
                continue
            keep(run, path)
        scored.append((run.dev[metric or MAIN_METRIC[splits.train.task]], candidate))
    if not scored:
        assert failure is not None
        raise failure
    return max(scored, key=lambda pair: pair[0])[1]
