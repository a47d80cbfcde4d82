"""One rung, one seed: trained on train, its weights chosen on dev, measured on both, kept in a file so that it is never done twice."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weft import __version__, metrics_tagging, metrics_text
from weft.data.examples import TAGGED, Splits, Table
from weft.errors import InputError, MissingExtra
from weft.estimators.pretrained import digest_of
from weft.estimators.rungs import PAIRS, ladder
from weft.estimators.scoring import score_arrays
from weft.estimators.training import estimator_for, targets_of, texts_of
from weft.estimators.vectors import Vectors
from weft.files import plain, read_json, write_json
from weft.saving import folder_bytes

log = logging.getLogger("weft")
BULK_TEXTS = 2000  # texts that the bulk speed is measured on
LATENCY_TEXTS = 40  # texts that are answered one by one for the latency
TRANSLATED = (200, 10)  # both of translators, whose searches take their time


@dataclass
class Run:
    """What one training gave. predictions and confidences are of the split that is reported (test, or dev where there is none).

    example_scores: a number an example; of tagged sentences, whose metric is no mean over them, (numerator, denominator) of the metric;
    of translations the 10 counts of BLEU, or, without sacreBLEU, (1 or 0, 1) for an exact match.
    """

    rung: str
    seed: int
    settings: dict[str, Any]
    steps: int | None
    epochs: float | None
    best_step: int | None
    train_seconds: float
    dev: dict[str, float]
    reported: dict[str, float]
    example_scores: list[Any]
    predictions: list[Any]
    confidences: list[float]
    texts_per_second: float
    latency_ms: float
    parameters: int
    bytes: int
    fingerprint: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def carry_out(
    splits: Splits, rung: str, seed: int, settings: dict[str, Any], *, steps: int | None, callbacks: Sequence[Any] = (), **options: Any
) -> Run:
    """Trains and measures. `steps`: the budget of a neural rung; the others are trained to their own end."""
    neural = ladder(splits.train.task)[rung].engine == "neural"
    budget = {"steps": steps} if neural and steps else {}
    estimator = estimator_for(splits.train, model=rung, settings=settings or None, random_state=seed, **budget, **options)
    started = time.perf_counter()
    validation = (texts_of(splits.dev), targets_of(splits.dev))
    estimator.fit(texts_of(splits.train), targets_of(splits.train), validation, **({"callbacks": callbacks} if neural else {}))
    seconds = time.perf_counter() - started
    reported = splits.test if splits.test is not None else splits.dev
    predictions, confidences, metrics = _measured(estimator, reported)
    history = estimator.history_
    bulk, latency = _speeds(estimator, texts_of(reported))
    vectors = getattr(estimator.engine_, "vectors_facts", None)
    return Run(
        rung, seed, settings, history and history.steps, history and history.epochs, history and history.best_step, seconds,
        dev=metrics if reported is splits.dev else _measured(estimator, splits.dev)[2], reported=metrics,
        example_scores=_example_scores(estimator.task_, predictions, reported.labels), predictions=predictions, confidences=confidences,
        texts_per_second=bulk, latency_ms=latency, parameters=estimator.parameters_, bytes=_saved_bytes(estimator),
        extra={} if vectors is None else {"vectors": vectors},
    )  # fmt: skip


def _measured(estimator: Any, table: Table) -> tuple[list[Any], list[float], dict[str, float]]:
    """Predictions, how sure each is (of several labels: of the least sure decision; of a number: nothing; of a translation: the geometric
    mean of its tokens' probabilities), and every metric."""
    task, texts = estimator.task_, texts_of(table)
    if task in TAGGED:
        answers = estimator.answers(texts)
        sure = [min(answer.confidences, default=1.0) for answer in answers]
        return [answer.tags for answer in answers], sure, estimator.evaluate(texts, targets_of(table), answers=answers)
    if task in PAIRS:
        found = [answers[0] for answers in estimator.translations(texts)]
        sure = [round(math.exp(one.log_probability / max(1, len(one.tokens) + one.finished)), 6) for one in found]
        predictions = [one.text for one in found]
        return predictions, sure, estimator.evaluate(texts, targets_of(table), predicted=predictions)
    if task == "regression":
        numbers = estimator.predict(texts)
        return plain(list(numbers)), [], score_arrays(task, numbers, table.labels, [])
    predictions, probabilities = estimator.answers(texts)
    sure = probabilities.max(1) if task == "classification" else np.abs(probabilities - 0.5).min(1) + 0.5
    metrics = score_arrays(task, probabilities, table.labels, estimator.classes_.tolist())
    return plain(list(predictions)), [round(float(value), 6) for value in sure], metrics


def _example_scores(task: str, predictions: list[Any], labels: Sequence[Any]) -> list[Any]:
    """One number an example, the higher the better, whose means are compared: right or wrong; F1 of the label sets; −(squared error).

    Of tagged sentences two, whose sums are divided: right tokens by tokens, or twice the right spans by those found and those true. Of
    translations the counts of BLEU, or of exact matches where there is no sacreBLEU.
    """
    if task in PAIRS:
        try:
            return metrics_text.bleu_counts(predictions, labels).tolist()
        except MissingExtra:
            return metrics_text.exact_counts(predictions, labels).tolist()
    if task in TAGGED:
        counts = metrics_tagging.token_counts if task == "tagging" else metrics_tagging.span_counts
        return counts([list(label) for label in labels], predictions).tolist()
    if task == "classification":
        return [float(predicted == label) for predicted, label in zip(predictions, labels, strict=True)]
    if task == "regression":
        return [-((predicted - label) ** 2) for predicted, label in zip(predictions, labels, strict=True)]
    return [_set_f1(set(predicted), set(label)) for predicted, label in zip(predictions, labels, strict=True)]


def _set_f1(predicted: set[str], true: set[str]) -> float:
    return 2 * len(predicted & true) / (len(predicted) + len(true)) if predicted or true else 1.0


def _speeds(estimator: Any, texts: list[Any]) -> tuple[float, float]:
    """Texts per second in bulk, and the median milliseconds of one text by itself, from text to label."""
    bulk, alone = TRANSLATED if estimator.task_ in PAIRS else (BULK_TEXTS, LATENCY_TEXTS)
    single = [texts[i] for i in np.linspace(0, len(texts) - 1, min(alone, len(texts))).astype(int)]
    times = []
    before = log.level
    log.setLevel(logging.ERROR)  # what there is to say of these texts has been said
    try:
        for given in [texts[:bulk], *([text] for text in single)]:
            started = time.perf_counter()
            estimator.predict(given)
            times.append(time.perf_counter() - started)
    finally:
        log.setLevel(before)
    return min(bulk, len(texts)) / max(1e-9, times[0]), 1000 * float(np.median(times[1:]))


def _saved_bytes(estimator: Any) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return folder_bytes(estimator.save(Path(folder) / "model"))


def fingerprint(splits: Splits, rung: str, seed: int, settings: Mapping[str, Any], steps: int | None, options: Mapping[str, Any]) -> str:
    """What a kept run must agree in to be used again: every text and label, the rung, seed, settings, budget, options, version.

    Of word vectors among the options, and of a pretrained encoder, their numbers count, not the name of their file.
    """
    if options.get("vectors") is not None:
        options = {**options, "vectors": Vectors(options["vectors"]).digest}
    digest = hashlib.sha256()
    for table in (splits.train, splits.dev, splits.test):
        for example in table.examples if table else ():
            digest.update(
                repr((example.text, example.pair, example.label, example.tokens, example.others)).encode("utf-8", "surrogatepass")
            )
        digest.update(b"|")
    own = {**ladder(splits.train.task)[rung].settings}
    if start := {**own, **settings}.get("pretrained"):
        own["pretrained"] = digest_of(start)
    if beside := {**own, **settings}.get("elmo"):
        own["elmo"] = digest_of(beside)
    rest = plain([rung, seed, settings, own, steps, options, __version__])
    digest.update(json.dumps(rest, sort_keys=True).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def keep(run: Run, path: Path) -> None:
    """Writes a finished run, atomically."""
    write_json(path, asdict(run))


def kept(path: Path, expected: str) -> Run | None:
    """The finished run in this file, if it is one of exactly these data, settings and budget."""
    if not path.exists():
        return None
    try:
        run = Run(**read_json(path))
    except (InputError, TypeError):
        return None  # of another version: it is simply done again
    return run if run.fingerprint == expected else None
