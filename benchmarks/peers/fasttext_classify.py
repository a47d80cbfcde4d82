"""fastText's supervised classifier, timed: `python fasttext_classify.py request.json answer.json`, in the peer's own environment.

Request: train and test ([[text, label], …]; texts are split at white space only), bulk (texts; without it, test's), threads,
repeats, and fastText's own lr, epoch, dim, wordNgrams, bucket, minCount, seed. Answer: seconds of start-up (import, told apart from the
work), and for each repeat the seconds of training (with reading the file, in one; by the clock and of processors) and of
predicting all texts of bulk at once, and the accuracy on test; the median latency of one text; the bytes of the saved model; versions.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

import fasttext  # noqa: E402  # the import is what is timed

STARTUP = time.perf_counter() - STARTED
OPTIONS = ("lr", "epoch", "dim", "wordNgrams", "bucket", "minCount", "seed")


def one_line(text: str) -> str:
    """fastText reads a line an example, and refuses a line break in a text to predict."""
    return " ".join(text.split())


def measure(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Trains and predicts `repeats` times."""
    names = sorted({label for _, label in request["train"]})
    ids = {name: f"__label__{i}" for i, name in enumerate(names)}  # a label may hold spaces
    training = folder / "train.txt"
    training.write_text("".join(f"{ids[label]} {one_line(text)}\n" for text, label in request["train"]), encoding="utf-8")
    texts, truth = [one_line(text) for text, _ in request["test"]], [ids.get(label, "") for _, label in request["test"]]
    bulk = [one_line(text) for text in request.get("bulk", [])] or texts
    options = {name: request[name] for name in OPTIONS if name in request}
    answer: dict[str, Any] = {"train_seconds": [], "train_cpu": [], "predict_seconds": [], "accuracy": []}
    for _ in range(request.get("repeats", 1)):
        started, cpu = time.perf_counter(), time.process_time()
        model = fasttext.train_supervised(str(training), thread=request["threads"], verbose=0, **options)
        trained = time.perf_counter()
        answer["train_cpu"].append(time.process_time() - cpu)
        model.predict(bulk)
        answer["predict_seconds"].append(time.perf_counter() - trained)
        labels, _ = model.predict(texts)
        answer["train_seconds"].append(trained - started)
        answer["accuracy"].append(sum(found[0] == right for found, right in zip(labels, truth)) / len(truth))
    latencies = []
    for text in texts[:200]:
        started = time.perf_counter()
        model.predict([text])
        latencies.append(time.perf_counter() - started)
    saved = folder / "model.bin"
    model.save_model(str(saved))
    return {**answer, "latency_ms": 1000 * statistics.median(latencies), "bytes": os.path.getsize(saved), "options": options}


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        answer = measure(request, Path(folder))
    versions = {"fasttext": metadata.version("fasttext"), "numpy": metadata.version("numpy"), "python": sys.version.split()[0]}
    Path(sys.argv[2]).write_text(json.dumps({"startup_seconds": STARTUP, **answer, "versions": versions}), encoding="utf-8")


if __name__ == "__main__":
    main()
