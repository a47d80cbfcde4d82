"""Taggers beside Flair's SequenceTagger: `python benchmarks/tagging.py [--data wnut17,ewt] [--turns 3] [--threads 2] [--quality 1,2,3]`.

Speed: the same architecture (words of size 100 and a BiLSTM of 25 + 25 over characters, both learnt from the training set alone, a linear
layer, a BiLSTM of 256 a direction; a CRF over BIOES for entities, a softmax for parts of speech), the same sentences, 32 in a batch,
AdamW, float32 on both sides. Training is tokens/s of the epochs after the first, without reading and without a look at dev. Prediction is
of the whole test set at once: ours from lists of words to tags; Flair's from ready Sentence objects, and, in a row of its own, from
lists of words too. Flair runs in an environment of its own, which times itself; the two sides take turns, ratios are medians over them.
Processor seconds stand beside the clock's, for machines that are busy.
"our best" is the same network as weft trains it unasked: words of more than 24 characters cut, bf16 where the processor has it.

Quality (--quality SEEDS): both sides trained by OUR_BEST and FLAIR_BEST, the best epoch on dev kept, test tagged once; strict span F1
(token accuracy for ewt) of each seed, and the difference of the means with its 95% interval over seeds (each side's drawn with
replacement) and sentences (drawn with replacement, the same for both). Flair's loops are replaced there by tensor operations that give
the same numbers (peers/flair_faster.py); its speed is never measured so. Writes --out as JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peers
from sides import compared, heading, told

from weft.compare.summary import machine
from weft.data import datasets
from weft.data.examples import Splits, Table
from weft.estimators.tagger import Tagger
from weft.files import read_json, write_json
from weft.metrics_tagging import Counts, ratio, span_counts, token_counts

SIDES = ("weft", "Flair 0.15.1")
SIZES: dict[str, Any] = {  # Flair's names; hidden sizes are of one direction
    "embedding_length": 100, "min_freq": 1, "character_embedding": 25, "character_hidden": 25, "hidden_size": 256, "rnn_layers": 1,
    "reproject_embeddings": True,
}  # fmt: skip
SAME: dict[str, Any] = {  # the same in ours; 150 is what is joined: 100 + 2 · 25
    "embedding_size": 100, "minimum_count": 1, "lowercase": False, "features": "", "characters": "bilstm", "character_size": 25,
    "character_hidden": 50, "project": 150, "hidden_size": 256, "layers": 1, "dropout": 0.5, "word_dropout": 0.05, "batch_size": 32,
    "optimizer": "adamw", "learning_rate": 1e-3, "clip": 5.0,
}  # fmt: skip
RATE: dict[str, Any] = {"optimizer": "AdamW", "learning_rate": 1e-3, "mini_batch_size": 32, "anneal": False}
DATA: dict[str, tuple[str, str, str, Callable[..., Counts]]] = {  # dataset, Flair's kind of tag, our rung, what is measured
    "wnut17": ("wnut17", "ner", "char-bilstm-crf", span_counts),
    "ewt": ("ewt-upos", "upos", "char-bilstm", token_counts),
}
# What --quality trains by, chosen on dev, each side by itself: words and characters alone, no features of form.
OUR_BEST: dict[str, dict[str, Any]] = {name: {"features": "", "epochs": 24, "checks": 24} for name in DATA}
FLAIR_BEST: dict[str, dict[str, Any]] = {  # SGD at 0.1, Flair's own default, was behind on dev after as many epochs (10.4, 16.8)
    name: {**RATE, "learning_rate": 3e-3, "anneal": True, "patience": 2, "max_epochs": 25, "min_freq": 2} for name in DATA
}
UNCUT = 200  # characters; Flair reads words whole
BULK = 64  # sentences in one of Flair's batches, with which it is fastest
Columns = tuple[list[list[str]], list[list[str]]]


def columns(table: Table) -> Columns:
    """Words and tags of each sentence."""
    labels: list[Any] = table.labels
    return [list(each.tokens or ()) for each in table.examples], [list(tags) for tags in labels]


def now() -> np.ndarray:
    """(2,): the clock, and the processors' time of this process."""
    return np.array([time.perf_counter(), time.process_time()])


class Clock:
    """When each step of a training was done."""

    def __init__(self) -> None:
        self.times: list[np.ndarray] = []

    def __call__(self, moment: Any) -> None:
        self.times.append(now())

    def rate(self, tokens: int, epochs: int) -> np.ndarray:
        """Tokens a second, over the epochs after the first."""
        steps = len(self.times) // epochs
        return tokens * (epochs - 1) / (self.times[-1] - self.times[steps - 1])


def ours(name: str, parts: Mapping[str, Columns], threads: int, epochs: int, best: bool) -> dict[str, Any]:
    """One turn of ours: tokens/s of training and of prediction, by the clock and the processors."""
    words, tags = parts["train"]
    settings = dict(SAME) if best else {**SAME, "maximum_characters": UNCUT}
    clock = Clock()
    model = Tagger(
        DATA[name][2], settings, epochs=epochs, threads=threads, precision="auto" if best else "fp32", validation_fraction=0.0,
        random_state=0,
    )  # fmt: skip
    model.fit(words, tags, callbacks=[clock])
    test = parts["test"][0]
    model.predict(test[:BULK])
    started = now()
    model.predict(test)
    seconds = now() - started
    return {"train": clock.rate(_tokens(words), epochs), "predict": _tokens(test) / seconds, "parameters": float(model.parameters_)}


def theirs(name: str, files: Mapping[str, str], threads: int, epochs: int) -> dict[str, Any]:
    """One turn of Flair's."""
    asked = request(name, {**files, "dev": None}, {**RATE, "max_epochs": epochs}, seed=1, repeats=2)
    answer = peers.run("flair", "flair_tagger.py", asked, threads=threads)
    seconds, making = np.array(answer["predict_seconds"][1]), np.array(answer["making_seconds"][1])  # the first warms up
    return {
        "train": answer["tokens"] / np.mean(answer["epoch_seconds"][1:], 0),
        "predict": answer["test_tokens"] / seconds,
        "from words": answer["test_tokens"] / (seconds + making),
        "parameters": float(answer["parameters"]),
        "startup": answer["startup_seconds"],
    }


def request(name: str, files: Mapping[str, Any], training: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """What flair_tagger.py is asked. Sizes among the training's settings are the network's."""
    sizes = {**SIZES, "use_crf": DATA[name][2].endswith("crf"), **{key: value for key, value in training.items() if key in SIZES}}
    rest = {key: value for key, value in training.items() if key not in SIZES}
    return {**files, "tag": DATA[name][1], "settings": sizes, "bulk_batch_size": BULK, **rest, **others}


def speed(name: str, parts: Mapping[str, Columns], files: Mapping[str, str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one dataset; the first turn warms up."""
    sides: dict[str, list[dict[str, Any]]] = {"ours": [], "best": [], "theirs": []}
    for _ in range(options.turns + 1):
        sides["ours"].append(ours(name, parts, options.threads, options.epochs, best=False))
        sides["best"].append(ours(name, parts, options.threads, options.epochs, best=True))
        sides["theirs"].append(theirs(name, files, options.threads, options.epochs))
    counted = {side: turns[1:] for side, turns in sides.items()}
    rows = []
    for what, unit, mine, other in (
        ("training", "train", "ours", "train"),
        ("prediction, Flair's sentences ready", "predict", "ours", "predict"),
        ("prediction from lists of words", "predict", "ours", "from words"),
        ("training, our best", "train", "best", "train"),
        ("prediction from lists of words, our best", "predict", "best", "from words"),
    ):
        for place, per in enumerate(("tokens/s", "tokens/processor-s")):
            first, second = ([float(turn[key][place]) for turn in counted[side]] for side, key in ((mine, unit), ("theirs", other)))
            rows.append(compared(f"{name}: {what}", per, first, second, SIDES))
    last = counted["ours"][-1], counted["theirs"][-1]
    rows.append(told(f"{name}: parameters", "", last[0]["parameters"], last[1]["parameters"], SIDES))
    return rows


def quality(name: str, parts: Mapping[str, Columns], files: Mapping[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """Both sides' score on dev and test for each seed, and the difference on test with its interval."""
    count = DATA[name][3]
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for seed in options.quality:
        for side in found:
            settings = {"ours": OUR_BEST, "theirs": FLAIR_BEST}[side][name]
            path = options.keep / f"{name}-{side}-{seed}.json" if options.keep else None
            kept = read_json(path) if path is not None and path.exists() else {}
            if kept.get("settings") != settings:
                kept = {"settings": settings, "tags": trained(side, name, parts, files, seed, options.threads)}
            if path is not None:
                write_json(path, kept)
            found[side].append(kept["tags"])
        scores = [100 * ratio(count(parts["test"][1], found[side][-1]["test"])) for side in ("ours", "theirs")]
        told(f"{name}, seed {seed}: test", "%", scores[0], scores[1], SIDES)
    scored = {side: {part: [count(parts[part][1], run[part]) for run in runs] for part in ("dev", "test")} for side, runs in found.items()}
    means = {side: {part: 100 * statistics.mean(map(ratio, counts)) for part, counts in of.items()} for side, of in scored.items()}
    gap = difference(np.stack(scored["ours"]["test"]), np.stack(scored["theirs"]["test"]))
    told(f"{name}: test, mean of {len(options.quality)} seeds", "%", means["ours"]["test"], means["theirs"]["test"], SIDES)
    print(f"\n{name}: difference {gap[0]:+.2f} points, 95% interval {gap[1]:+.2f} to {gap[2]:+.2f}")
    each = {side: {part: [100 * ratio(one) for one in counts] for part, counts in of.items()} for side, of in scored.items()}
    return {"data": name, "seeds": options.quality, "scores": each, "means": means, "difference": gap[0], "interval": gap[1:]}


def trained(
    side: str, name: str, parts: Mapping[str, Columns], files: Mapping[str, str], seed: int, threads: int
) -> dict[str, list[list[str]]]:
    """The tags of dev and test that one side gives, trained with this seed."""
    if side == "theirs":
        asked = request(name, files, FLAIR_BEST[name], seed=seed, repeats=1, faster=True)
        found: dict[str, list[list[str]]] = peers.run("flair", "flair_tagger.py", asked, threads=threads)["predictions"]
        return found
    model = Tagger(DATA[name][2], OUR_BEST[name], threads=threads, random_state=seed)
    model.fit(*parts["train"], validation=parts["dev"])
    return {part: model.predict(parts[part][0]) for part in ("dev", "test")}


def difference(first: Counts, second: Counts, resamples: int = 10_000, seed: int = 0) -> tuple[float, float, float]:
    """Points between the means over seeds of Σ numerators / Σ denominators, and the ends of its 95% percentile interval.

    first (S, N, 2), second (S', N, 2): counts of N sentences. Each resample draws sentences, the same for both, and each side's seeds.
    """
    generator = np.random.default_rng(seed)
    sentences = first.shape[1]
    observed = _means(first, np.ones((1, sentences))) - _means(second, np.ones((1, sentences)))
    gaps = []
    for _ in range(resamples // 100):
        weights = generator.multinomial(sentences, np.full(sentences, 1 / sentences), size=100).astype(np.float64)
        gaps.append(_means(first, weights, generator) - _means(second, weights, generator))
    low, high = np.percentile(np.concatenate(gaps), [2.5, 97.5])
    return 100 * float(observed[0]), 100 * float(low), 100 * float(high)


def _means(counts: Counts, weights: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
    """(R,): the mean over seeds of the ratio with the sentences weighed by each row of weights (R, N); seeds drawn where asked."""
    sums = np.einsum("rn,snc->rsc", weights, counts)
    ratios = sums[..., 0] / sums[..., 1]
    if generator is not None:
        ratios = np.take_along_axis(ratios, generator.integers(0, ratios.shape[1], ratios.shape), 1)
    return np.asarray(ratios.mean(1))


def written(parts: Mapping[str, Columns], folder: Path) -> dict[str, str]:
    """The parts as Flair reads them: a word and its tag a line."""
    files = {}
    for part, (words, tags) in parts.items():
        path = folder / f"{part}.txt"
        blocks = ("".join(f"{word}\t{tag}\n" for word, tag in zip(*pair, strict=True)) for pair in zip(words, tags, strict=True))
        path.write_text("\n".join(blocks), encoding="utf-8")
        files[part] = str(path)
    return files


def _tokens(sentences: Sequence[Sequence[str]]) -> int:
    return sum(map(len, sentences))


def _parts(splits: Splits, limit: int | None) -> dict[str, Columns]:
    tables = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    found = {part: columns(table) for part, table in tables.items() if table is not None}
    return {part: (words[:limit], tags[:limit]) for part, (words, tags) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="wnut17,ewt")
    parser.add_argument("--turns", type=int, default=3, help="turns that are counted; 0 leaves the speed out")
    parser.add_argument("--epochs", type=int, default=2, help="of a turn's training; the first warms up")
    parser.add_argument("--threads", type=int, default=2, help="both sides'")
    parser.add_argument("--sentences", type=int, help="so many of each part, the first")
    parser.add_argument("--quality", type=lambda text: [int(seed) for seed in text.split(",")], default=[], metavar="SEEDS")
    parser.add_argument("--keep", type=Path, help="folder where each seed's tags are kept, and taken from when the settings are the same")
    parser.add_argument("--quick", action="store_true", help="100 sentences, one turn: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/tagging.json"))
    options = parser.parse_args()
    if wrong := [name for name in options.data.split(",") if name not in DATA]:
        parser.error(f"--data is of {', '.join(DATA)}, not {wrong[0]!r}")
    if options.quick:
        options.turns, options.sentences = min(options.turns, 1), 100
    peers.environment("flair")
    rows: list[dict[str, Any]] = []
    qualities: list[dict[str, Any]] = []
    heading(SIDES)
    for name in options.data.split(","):
        parts = _parts(datasets.load(DATA[name][0]), options.sentences)
        with tempfile.TemporaryDirectory() as folder:
            files = written(parts, Path(folder))
            if options.turns:
                rows += speed(name, parts, files, options)
            if options.quality:
                qualities.append(quality(name, parts, files, options))
    write_json(options.out, {"machine": machine(f"{options.threads} threads"), "rows": rows, "quality": qualities})
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
