"""What the models score on public data: `python benchmarks/accuracy.py trec mr sst2 ag-news --models cnn,bilstm --seeds 3`.

Settings are the ladder's own, with what SETTINGS says for a dataset; both were chosen on development data (a tenth of train; SST-2's
own), never on a test set; docs/results.md names what was read twice. trec and ag-news: trained on all of train for a fixed number of
epochs, the last weights kept. mr: ten folds, trained on nine of them. sst2: GLUE's phrases, the best weights on dev.
Finished trainings are kept in --out and not repeated. Markdown on stdout, everything in OUT/accuracy.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from weft.compare.statistics import bootstrap_interval
from weft.compare.summary import machine
from weft.data import datasets
from weft.data.examples import Table
from weft.device import choose
from weft.estimators.baselines import SEEDED
from weft.estimators.rungs import RUNGS
from weft.estimators.text import TextClassifier
from weft.files import read_json, write_json

FOLDS = 10
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {  # dataset -> model ("" for every neural one) -> settings
    "trec": {"": {"epochs": 8}, "cnn": {"epochs": 12, "embedding_size": 300}},  # the smallest
    "sst2": {  # the largest
        "": {"epochs": 3},
        "cnn": {"embedding_std": 0.1, "embedding_dropout": 0.2, "learning_rate": 1e-3},
        "bilstm": {
            "embedding_size": 300,
            "embedding_std": 0.1,
            "hidden_size": 200,
            "word_dropout": 0.15,
            "learning_rate": 2e-3,
            "batch_size": 64,
            "epochs": 4,
        },
    },
    "ag-news": {  # long texts, few of them
        "bag": {
            "embedding_size": 256,
            "embedding_std": 0.02,
            "dropout": 0.5,
            "word_dropout": 0.5,
            "learning_rate": 2e-3,
            "epochs": 15,
        }
    },
}


def parts(dataset: str, fold: int | None) -> tuple[Table, Table | None, Table]:
    """(train, dev or None, test)."""
    tables = datasets.tables(dataset)
    if fold is None:
        return tables["train"], tables.get("dev"), tables["test"]
    order = np.random.default_rng(0).permutation(len(tables["all"]))
    held = set(order[fold::FOLDS].tolist())
    whole = tables["all"]
    return whole.subset([i for i in range(len(whole)) if i not in held]), None, whole.subset(sorted(held))


def run(dataset: str, model: str, seed: int, fold: int | None, threads: int, precision: str) -> dict[str, Any]:
    """One training, measured on what it never saw."""
    train, dev, test = parts(dataset, fold)
    neural = RUNGS[model].engine == "neural"
    chosen = SETTINGS.get(dataset, {})
    settings = {**(chosen.get("", {}) if neural else {}), **chosen.get(model, {})}
    estimator = TextClassifier(model, settings or None, random_state=seed, validation_fraction=0.0, threads=threads, precision=precision)
    started = time.perf_counter()
    estimator.fit(train.texts, train.labels, None if dev is None else (dev.texts, dev.labels))
    seconds = time.perf_counter() - started
    right = [float(a == b) for a, b in zip(estimator.predict(test.texts).tolist(), test.labels, strict=True)]
    on_dev = None if dev is None else estimator.score(dev.texts, dev.labels)
    accuracy, parameters = float(np.mean(right)), estimator.parameters_
    return {"accuracy": accuracy, "dev": on_dev, "right": right, "seconds": seconds, "parameters": parameters, "settings": settings}


def measured(dataset: str, model: str, seeds: list[int], options: argparse.Namespace) -> dict[str, Any]:
    """All trainings of one model on one dataset, and their summary."""
    if RUNGS[model].engine == "baseline" and model not in SEEDED:
        seeds = seeds[:1]
    folds: list[int | None] = list(range(FOLDS)) if dataset == "mr" else [None]
    runs, by_seed = [], []
    for seed in seeds:
        right = []
        for fold in folds:
            path = options.out / "runs" / f"{dataset}-{model}-{seed}{'' if fold is None else f'-{fold}'}.json"
            if not path.exists():
                write_json(path, run(dataset, model, seed, fold, options.threads, options.precision), indent=None)
                print(f"{path.stem}: {read_json(path)['accuracy']:.4f}", file=sys.stderr, flush=True)
            runs.append(read_json(path))
            right += runs[-1]["right"]
        by_seed.append(right)
    accuracies = [float(np.mean(right)) for right in by_seed]
    low, high = bootstrap_interval(by_seed)
    devs = [one["dev"] for one in runs if one["dev"] is not None]
    return {
        "dataset": dataset, "model": model, "accuracy": float(np.mean(accuracies)),
        "sd": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        "interval": [low, high], "dev": float(np.mean(devs)) if devs else None, "values": accuracies,
        "seconds": float(np.mean([one["seconds"] for one in runs])), "parameters": runs[0]["parameters"], "settings": runs[0]["settings"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", choices=["trec", "mr", "sst2", "ag-news"])
    parser.add_argument("--models", default=",".join(RUNGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    options = parser.parse_args()
    compute = choose(threads=options.threads, precision=options.precision)
    options.threads = compute.threads
    rows = []
    for dataset in options.datasets:
        for model in options.models.split(","):
            rows.append(measured(dataset, model, list(range(options.seeds)), options))
            write_json(options.out / "accuracy.json", {"machine": machine(f"{compute.precision}, {compute.threads} threads"), "rows": rows})
    print("| data | model | test accuracy | sd over seeds | 95% interval | dev | train s | parameters |\n|---|---|---|---|---|---|---|---|")
    for row in rows:
        sd = "" if row["sd"] is None else f"{100 * row['sd']:.2f}"
        dev = "" if row["dev"] is None else f"{100 * row['dev']:.2f}"
        interval = "–".join(f"{100 * bound:.1f}" for bound in row["interval"])
        score, seconds = f"{100 * row['accuracy']:.2f}", f"{row['seconds']:.0f}"
        print(f"| {row['dataset']} | {row['model']} | {score} | {sd} | {interval} | {dev} | {seconds} | {row['parameters']:,} |")
    print(json.dumps({"written": str(options.out / "accuracy.json")}), file=sys.stderr)


if __name__ == "__main__":
    main()
