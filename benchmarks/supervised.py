"""The rung fasttext beside the fasttext package: `python benchmarks/supervised.py [--data sst2,ag-news] [--runs 3] [--threads 2,1]`.

The same file of labelled lines, settings, epochs, threads: from the file on disk to the trained model, the package's command and ours
(read, cut at blanks, count, hash, train). The two sides take turns (A B A B …), a ratio is the median over the turns; imports, a first turn
that compiles and warms up, and the peer's environment are told apart from the work. Processor seconds stand beside the clock's, for
machines that are busy. Development accuracy is the mean of the turns, each with a seed of its own; the test set is read once, at the end.
Writes --out as JSON. --quick takes a slice of the data.

The package (0.9.3) sometimes answers "Encountered NaN" to settings that it trains on well at other times: another seed is tried, and that
is said.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import peers
from sides import compared, heading, told

from weft.compare.summary import machine
from weft.data import datasets
from weft.data.examples import Table
from weft.estimators.text import TextClassifier
from weft.files import write_json

SIDES = ("weft fasttext", "fasttext 0.9.3")
BUCKETS = 2_000_000
SETTINGS: dict[str, dict[str, Any]] = {  # the package's own, and what its authors advise: a higher rate, bigrams, more epochs
    "unigrams, 5 epochs, rate 0.1": {"wordNgrams": 1, "epoch": 5, "lr": 0.1, "dim": 100},
    "unigrams, 5 epochs, rate 0.5": {"wordNgrams": 1, "epoch": 5, "lr": 0.5, "dim": 100},
    "bigrams, 25 epochs, rate 0.1": {"wordNgrams": 2, "epoch": 25, "lr": 0.1, "dim": 100, "bucket": BUCKETS},
}
Labelled = tuple[list[str], list[str]]  # texts, and the label of each


def ours(file: Path, asked: Labelled, settings: dict[str, Any], threads: int, seed: int) -> dict[str, float]:
    """One training from the file."""
    named = {
        "ngrams": settings["wordNgrams"],
        "epochs": settings["epoch"],
        "learning_rate": settings["lr"],
        "embedding_size": settings["dim"],
    }
    own = {**named, "buckets": BUCKETS, "tokenizer": "whitespace", "lowercase": False}
    started, cpu = time.perf_counter(), time.process_time()
    lines = file.read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines]
    model = TextClassifier("fasttext", own, threads=threads, random_state=seed)
    model.fit([text for _, text in pairs], [label for label, _ in pairs])
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    right = float(np.mean(model.predict(asked[0]) == np.array(asked[1])))
    return {"seconds": seconds, "cpu": cpu, "loop": model.engine_.model.seconds, "accuracy": right}


def theirs(train: Labelled, asked: Labelled, settings: dict[str, Any], threads: int, seed: int) -> dict[str, float]:
    """One training of the package, in a process of its own that times itself."""
    pairs = {"train": list(zip(*train, strict=True)), "test": list(zip(*asked, strict=True))}
    for attempt in range(5):
        request = {**settings, "minCount": 1, "seed": seed + 100 * attempt, "repeats": 1, **pairs}
        try:
            answer = peers.run("fasttext", "fasttext_classify.py", request, threads=threads)
            break
        except RuntimeError as error:
            if "NaN" not in str(error) or attempt == 4:
                raise
            print(f"(the package: Encountered NaN, with seed {request['seed']})")
    return {
        "seconds": answer["train_seconds"][0], "cpu": answer["train_cpu"][0], "accuracy": answer["accuracy"][0],
        "startup": answer["startup_seconds"],
    }  # fmt: skip


def measured(
    name: str, what: str, settings: dict[str, Any], threads: int, runs: int, limit: int | None, folder: Path
) -> list[dict[str, Any]]:
    """The rows of one dataset, settings and number of threads."""
    splits = datasets.load(name)
    train, dev = _labelled(splits.train, limit), _labelled(splits.dev)
    file = folder / "train.txt"
    file.write_text("".join(f"{label} {text}\n" for text, label in zip(*train, strict=True)), encoding="utf-8")
    mine, peer = [], []
    for turn in range(runs + 1):  # the first warms up
        mine.append(ours(file, dev, settings, threads, turn))
        peer.append(theirs(train, dev, settings, threads, turn))
    work, rows, title = len(train[0]) * settings["epoch"], [], f"{name}, {what}, {threads} thread{'s' * (threads > 1)}"
    for unit, label in (("seconds", "texts/s"), ("cpu", "texts/processor-s")):
        pair = [[work / each[unit] for each in side[1:]] for side in (mine, peer)]
        rows.append(compared(f"{title}: training", label, pair[0], pair[1], SIDES))
    seconds = [statistics.median(each["seconds"] for each in side[1:]) for side in (mine, peer)]
    rows.append(told(f"{title}: training", "s", seconds[0], seconds[1], SIDES))
    scores = [100 * statistics.mean(each["accuracy"] for each in side[1:]) for side in (mine, peer)]
    rows.append(told(f"{title}: development accuracy", "%", scores[0], scores[1], SIDES))
    if not limit and splits.test is not None:
        test = _labelled(splits.test)
        scores = [100 * each["accuracy"] for each in (ours(file, test, settings, threads, 1), theirs(train, test, settings, threads, 1))]
        rows.append(told(f"{title}: test accuracy", "%", scores[0], scores[1], SIDES))
    rows.append(told(f"{title}: the first training's extra", "s", max(0.0, mine[0]["seconds"] - mine[1]["seconds"]), 0.0, SIDES))
    return rows


def _labelled(table: Table, limit: int | None = None) -> Labelled:
    """Texts on one line each, labels without blanks."""
    return [" ".join(text.split()) for text in table.texts[:limit]], [str(label).replace(" ", "_") for label in table.labels[:limit]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="sst2,ag-news")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", default="2,1", help="numbers of threads, both sides'")
    parser.add_argument("--only", default="", help="settings that begin so")
    parser.add_argument("--quick", action="store_true", help="a slice of the data: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/supervised.json"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    peers.environment("fasttext")
    print(f"the package's environment: {time.perf_counter() - started:.1f} s")
    heading(SIDES)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.data.split(","):
            for what, settings in SETTINGS.items():
                if what.startswith(options.only):
                    for threads in map(int, options.threads.split(",")):
                        rows += measured(name, what, settings, threads, options.runs, 400 if options.quick else None, Path(folder))
    write_json(options.out, {"machine": machine(f"{options.threads} threads"), "rows": rows})
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
