"""From finished runs to the results that the table and the report show: means, intervals, the best on dev, paired tests against it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from weft import __version__, metrics, metrics_text
from weft.compare.ladder import Standing
from weft.compare.ratios import bootstrap_bleu, bootstrap_ratio, paired_permutation_bleu, paired_permutation_ratio
from weft.compare.results import Best, Finding, Mistake, Results, RungResult, Spread, VectorsFacts
from weft.compare.runs import Run
from weft.compare.statistics import bootstrap_interval, bootstrap_metric, holm, mean_sd, paired_permutation
from weft.data.examples import TAGGED, Splits, Table
from weft.estimators.rungs import PAIRS
from weft.estimators.vectors import sentence
from weft.metrics_tagging import span_report

MISTAKES = 12
SHOWN_TOKENS = 4  # of a sentence's wrong tags
RESAMPLES = 2_000


def summarise(
    splits: Splits,
    standing: Standing,
    *,
    name: str,
    command: str,
    started: str,
    split_note: str,
    checks: list[Finding],
    device: str,
) -> Results:
    """The whole of results.json. Nothing here chooses by the test set: the best rung is the best on dev."""
    plan, task = standing.plan, splits.train.task
    metric = plan.metric
    reported = splits.test if splits.test is not None else splits.dev
    best = best_rung(standing, metric)
    rows = [_row(rung, standing, metric, reported, splits.test is not None) for rung in plan.rungs]
    if best is not None:
        _compare(rows, standing, best, reported)
    results: Results = {
        "weft": __version__, "command": command, "started": started,
        "dataset": {
            "name": name, "task": task, "train": len(splits.train), "dev": len(splits.dev),
            "test": None if splits.test is None else len(splits.test), "labels": splits.train.classes,
            "checks": checks, "split": split_note,
        },
        "machine": machine(device),
        "budget": {
            "minutes": None if plan.steps else plan.minutes, "seeds": list(plan.seeds), "trials": plan.trials,
            "note": _budget_note(standing),
        },
        "metric": metric, "rungs": rows,
        "best": None if best is None else _best(best, standing, metric, splits, reported),
        "curve": None,
    }  # fmt: skip
    if plan.note:
        results["note"] = plan.note
    if plan.vectors is not None:
        results["vectors"] = _vectors(standing)
    return results


def _vectors(standing: Standing) -> VectorsFacts | None:
    """Which word vectors the neural rungs started from, and what each made of them."""
    facts = {rung: runs[0].extra["vectors"] for rung, runs in standing.runs.items() if runs and "vectors" in runs[0].extra}
    if not facts:
        return None
    first = {name: value for name, value in next(iter(facts.values())).items() if name != "mode"}
    modes = {rung: one["mode"] for rung, one in facts.items()}
    return cast("VectorsFacts", {**first, "sentence": sentence(first), "modes": modes})


def best_rung(standing: Standing, metric: str) -> str | None:
    """The rung with the highest mean on dev among those with all their seeds (among all, where none has); the simpler of equals."""
    finished = {rung: runs for rung, runs in standing.runs.items() if len(runs) == len(standing.plan.seeds)}
    means = {rung: float(np.mean([run.dev[metric] for run in runs])) for rung, runs in (finished or standing.runs).items() if runs}
    return max(means, key=lambda rung: means[rung]) if means else None


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    return {"processor": name, "cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version(), "compute": device}


def _row(rung: str, standing: Standing, metric: str, reported: Table, has_test: bool) -> RungResult:
    facts = standing.plan.ladder[rung]
    runs = standing.runs.get(rung, [])
    error = standing.errors.get(rung)
    row: RungResult = {
        "name": rung, "paper": facts.paper, "line": facts.line, "engine": facts.engine,
        "status": "failed" if error else "done" if len(runs) == len(standing.plan.seeds) else "pending",
        "error": error, "settings": runs[0].settings if runs else {},
    }  # fmt: skip
    if not runs:
        return row
    row["steps"] = runs[0].steps
    row["epochs"] = None if runs[0].epochs is None else float(np.mean([run.epochs or 0 for run in runs]))
    dev = _spread([run.dev[metric] for run in runs])
    test = _spread([run.reported[metric] for run in runs]) if has_test else None
    (test or dev)["interval"] = _interval(metric, runs, reported)
    row["dev"], row["test"] = dev, test
    names = [key for key in runs[0].reported if key != metric and all(key in run.reported for run in runs)]
    row["test_metrics"] = {key: float(np.mean([run.reported[key] for run in runs])) for key in names}
    row["train_seconds"] = float(np.mean([run.train_seconds for run in runs]))
    row["texts_per_second"] = float(np.median([run.texts_per_second for run in runs]))
    row["latency_ms"] = float(np.median([run.latency_ms for run in runs]))
    row["parameters"], row["bytes"] = runs[0].parameters, int(np.median([run.bytes for run in runs]))
    return row


def _spread(values: Sequence[float]) -> Spread:
    mean, sd = mean_sd(values)
    return {"mean": mean, "sd": sd, "values": list(values)}


def _interval(metric: str, runs: Sequence[Run], reported: Table) -> list[float] | None:
    """95 % over examples, seeds averaged first."""
    if metric == "bleu":
        return list(bootstrap_bleu(_scores(runs, metric, reported), resamples=RESAMPLES))
    if reported.task in TAGGED + PAIRS:
        return list(bootstrap_ratio(_scores(runs, metric, reported), resamples=RESAMPLES))
    if metric == "accuracy":
        low, high = bootstrap_interval([run.example_scores for run in runs], resamples=RESAMPLES)
        return [low, high]
    try:
        if metric == "r2":
            truth = np.array(reported.labels, float)
            return list(bootstrap_metric(metrics.r2, truth, [np.array(run.predictions, float) for run in runs]))
        names = sorted({name for labels in (reported.labels, *(run.predictions for run in runs)) for label in labels for name in label})
        answers = [_indicator(run.predictions, names) for run in runs]
        return list(bootstrap_metric(metrics.micro_f1, _indicator(reported.labels, names), answers))
    except ValueError:
        return None  # too few examples for the metric to be defined on resamples


def _indicator(labels: Sequence[Any], names: Sequence[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(labels), len(names)), bool)
    for row, label in enumerate(labels):
        matrix[row, [place[name] for name in label]] = True
    return matrix


def _scores(runs: Sequence[Run], metric: str, reported: Table) -> list[Any]:
    """Of each run what its metric is made of; that of translations is exact match where this is what is compared."""
    if reported.task in PAIRS and metric == "exact_match":
        labels = cast("list[str]", reported.labels)
        return [metrics_text.exact_counts(run.predictions, labels) for run in runs]
    return [run.example_scores for run in runs]


def _compare(rows: list[RungResult], standing: Standing, best: str, reported: Table) -> None:
    """Each finished rung against the best by paired flips of the examples' scores, corrected for how many there are (Holm)."""
    metric = standing.plan.metric
    leader = _scores(standing.runs[best], metric, reported)
    others = [row for row in rows if row["name"] != best and standing.runs.get(row["name"])]
    scores = [_scores(standing.runs[row["name"]], metric, reported) for row in others]
    sums = reported.task in TAGGED + PAIRS
    test = paired_permutation_bleu if metric == "bleu" else paired_permutation_ratio if sums else paired_permutation
    p_values: list[float | None] = [test(one, leader) for one in scores]
    for row, p_value, corrected in zip(others, p_values, holm(p_values), strict=True):
        row["p_value"], row["p_holm"] = p_value, corrected


def _best(rung: str, standing: Standing, metric: str, splits: Splits, reported: Table) -> Best:
    """A closer look at the best rung's best run on dev."""
    run = max(standing.runs[rung], key=lambda run: run.dev[metric])
    labels: list[Any] = list(reported.labels)
    task = splits.train.task
    names = sorted(set(splits.train.classes) | set(reported.classes))
    best: Best = {
        "name": rung, "split": "test" if splits.test is not None else "dev", "seed": run.seed,
        "confusion": None, "report": {}, "mistakes": _mistakes(run, reported, task),
    }  # fmt: skip
    if task in TAGGED:
        best["labels"], best["confusion"], best["report"] = _tags(run, reported, task)
    if task == "classification":
        best["labels"] = names
        best["confusion"] = metrics.confusion(labels, run.predictions, names).tolist()
        best["report"] = metrics.report(labels, run.predictions)
    return best


def _tags(run: Run, reported: Table, task: str) -> tuple[list[str], list[list[int]], dict[str, dict[str, float]]]:
    """Of tagged sentences: the tags; which are taken for which; precision, recall and F1 of each type of span, or of each tag."""
    sentences = [[str(tag) for tag in label] for label in cast("list[tuple[str, ...]]", reported.labels)]
    true, found = ([tag for tags in side for tag in tags] for side in (sentences, run.predictions))
    names = sorted({*true, *found})
    by_class = metrics.report(true, found) if task == "tagging" else span_report(sentences, run.predictions)
    return names, metrics.confusion(true, found, names).tolist(), by_class


def _mistakes(run: Run, reported: Table, task: str) -> list[Mistake]:
    """The examples it was surest of and wrong in; for numbers, the largest errors."""
    if task in TAGGED:
        return _wrong_sentences(run, reported)
    if task in PAIRS:
        return _wrong_translations(run, reported)
    wrong = [i for i, score in enumerate(run.example_scores) if score < (0 if task == "regression" else 1)]
    order = sorted(wrong, key=lambda i: run.example_scores[i] if task == "regression" else -run.confidences[i])[:MISTAKES]

    def shown(label: Any) -> str:
        if isinstance(label, list | tuple):
            return ", ".join(label) or "(none)"
        return f"{label:.3g}" if isinstance(label, float) else str(label)

    return [
        {
            "text": reported.examples[i].text + (f"  |  {reported.examples[i].pair}" if reported.examples[i].pair is not None else ""),
            "label": shown(reported.labels[i]), "predicted": shown(run.predictions[i]),
            "confidence": None if task == "regression" else run.confidences[i], "line": reported.examples[i].line,
        }
        for i in order
    ]  # fmt: skip


def _wrong_translations(run: Run, reported: Table) -> list[Mistake]:
    """Answers far from the nearest reference that it was sure of: by confidence · min(1, edits by tokens of the reference)."""
    edits = metrics_text.token_error_counts(run.predictions, cast("list[str]", reported.labels))
    far = [min(1.0, above / max(1.0, below)) * sure for (above, below), sure in zip(edits.tolist(), run.confidences, strict=True)]
    order = sorted((i for i, one in enumerate(far) if one > 0), key=lambda i: -far[i])[:MISTAKES]
    examples = [(i, reported.examples[i]) for i in order]
    return [
        {
            "text": example.text, "label": " | ".join(example.label) if isinstance(example.label, tuple) else str(example.label),
            "predicted": run.predictions[i] or "(nothing)", "confidence": run.confidences[i], "line": example.line,
        }
        for i, example in examples
    ]  # fmt: skip


def _wrong_sentences(run: Run, reported: Table) -> list[Mistake]:
    """Sentences with a wrong tag that it was surest of throughout; only the words that are tagged wrongly are shown with their tags."""
    wrong = [i for i, example in enumerate(reported.examples) if list(example.label or ()) != run.predictions[i]]  # type: ignore[arg-type]
    mistakes: list[Mistake] = []
    for i in sorted(wrong, key=lambda i: -run.confidences[i])[:MISTAKES]:
        example = reported.examples[i]
        rows = zip(example.tokens or (), example.label or (), run.predictions[i], strict=True)  # type: ignore[arg-type]
        differ = [(token, true, found) for token, true, found in rows if true != found][:SHOWN_TOKENS]
        label, predicted = (", ".join(f"{one[0]}: {one[side]}" for one in differ) for side in (1, 2))
        mistakes.append(
            {"text": example.text, "label": label, "predicted": predicted, "confidence": run.confidences[i], "line": example.line}
        )
    return mistakes


def _budget_note(standing: Standing) -> str:
    plan = standing.plan
    if plan.steps:
        return f"{plan.steps} steps for every neural rung; baselines are trained to their end"
    return (
        f"{plan.minutes:g} minutes for the whole ladder, shared out equally among the trainings of the neural rungs and turned into steps "
        "once, by timing a few of each; a rung that needs less for its own number of epochs leaves the rest to the others; baselines are "
        "trained to their end"
    )
