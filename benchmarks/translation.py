"""What translators of the ladder reach: `python benchmarks/translation.py --data multi30k --models transformer,rnn-attention,rnn`.

Multi30k English → German, and CMUdict, words → phonemes. Each model is trained in its settings of the ladder (and those of SETTINGS for the
data), weights chosen by greedy answers to development data, and asked once for the test set, by a beam of 4. Time is of the training, looks
at development data included, on --threads. Intervals: bootstrap of sentences; p: paired permutation of sentences against the first
model. Markdown on stdout; all figures in --out as JSON; models in --keep, from which a run that was cut off goes on and which are not
trained again.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import weft
from weft.compare.ratios import bootstrap_bleu, bootstrap_ratio, paired_permutation_bleu, paired_permutation_ratio
from weft.compare.summary import machine
from weft.data import datasets
from weft.data.examples import Splits
from weft.estimators.settings import known_settings
from weft.estimators.training import targets_of, texts_of
from weft.estimators.translator import Translator
from weft.files import read_json, write_json
from weft.metrics_text import bleu_counts, bleu_from, bleu_signature, ratio, token_error_counts, word_error_counts

PHONEMES: dict[str, Any] = {
    "tokenizer": "characters", "target_tokenizer": "whitespace", "shared": False, "tied": "output", "metric": "word_error_rate",
    "label_smoothing": 0.1, "checked": 2000,
}  # fmt: skip
# Of words, which are short: chosen on development data, with stress.
SPELLERS: dict[str, dict[str, Any]] = {
    "rnn-attention": {
        "encoder_hidden_size": 128, "decoder_hidden_size": 256, "embedding_size": 128, "attention_size": 128, "embedding_std": 0.1,
        "embedding_scale": 3.0, "dropout": 0.2, "batch_size": 256, "learning_rate": 3e-3, "checks": 8, "epochs": 16,
    },
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {"multi30k": {}, "multi30k-2017": {}, "cmudict": PHONEMES, "cmudict-stress": PHONEMES}
STRESS = str.maketrans("", "", "012")
Measure = tuple[Callable[..., Any], Callable[..., tuple[float, float]], Callable[..., float], float]
MEASURED: dict[str, dict[str, Measure]] = {
    "bleu": {"BLEU": (bleu_counts, bootstrap_bleu, paired_permutation_bleu, 1.0)},
    "word_error_rate": {
        "WER %": (word_error_counts, bootstrap_ratio, paired_permutation_ratio, 100.0),
        "PER %": (token_error_counts, bootstrap_ratio, paired_permutation_ratio, 100.0),
    },
}


def trained(name: str, rung: str, splits: Splits, options: argparse.Namespace) -> tuple[Translator, dict[str, Any]]:
    """A model of the ladder, from --keep where it is there; and what its training took."""
    folder = options.keep / f"{name}_{rung}_{options.seed}"
    facts = folder / "training.json"
    if facts.exists():
        return weft.load(folder, threads=options.threads), read_json(facts)
    known = known_settings(rung, "translation")
    own = SPELLERS.get(rung, {}) if SETTINGS[name] is PHONEMES else {}
    given = {key: value for key, value in {**SETTINGS[name], **own, **options.set}.items() if key in known}
    model = Translator(rung, given, epochs=options.epochs, threads=options.threads, random_state=options.seed)
    validation = (texts_of(splits.dev), targets_of(splits.dev))
    folder.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = folder.with_suffix(".checkpoint")
    started = time.process_time()
    model.fit(texts_of(splits.train), targets_of(splits.train), validation, checkpoint=checkpoint, resume=checkpoint.exists())
    history = model.history_
    found: dict[str, Any] = {"parameters": model.parameters_, "cpu_seconds_of_this_part": time.process_time() - started}
    if history is not None:
        found |= {"minutes": history.seconds / 60, "epochs": history.epochs, "steps": history.steps, "best_dev": history.best,
                  "checks": history.checks}  # fmt: skip
    model.save(folder)
    write_json(facts, found)
    checkpoint.unlink(missing_ok=True)
    return model, found


def measured(name: str, rungs: list[str], splits: Splits, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a model: what it reached on test, with intervals, and against the first."""
    assert splits.test is not None
    sources = texts_of(splits.test)
    references = [(one,) if isinstance(one, str) else tuple(one) for one in targets_of(splits.test)]
    metric = SETTINGS[name].get("metric", "bleu")
    rows: list[dict[str, Any]] = []
    first: dict[str, np.ndarray] = {}
    for rung in rungs:
        model, facts = trained(name, rung, splits, options)
        started = time.perf_counter()
        answers = model.predict(sources)
        row = {"data": name, "model": rung, "seed": options.seed, **facts, "test_seconds": time.perf_counter() - started, "test": {}}
        for measure, (counts_of, interval, paired, scale), read in readings(name, metric):
            counts = counts_of(read(answers), [tuple(read(one)) for one in references])
            low, high = interval(counts)
            value = bleu_from(counts) if metric == "bleu" else ratio(counts)
            found = {"value": scale * value, "low": scale * low, "high": scale * high}
            if measure in first:
                found["p against the first"] = paired(first[measure], counts)
            first.setdefault(measure, counts)
            row["test"][measure] = found
        rows.append(row)
        print(line(row), flush=True)
    if metric == "bleu":
        print(f"\n{bleu_signature(references)}")
    return rows


def readings(name: str, metric: str) -> Iterator[tuple[str, Measure, Callable[[Sequence[str]], Sequence[str]]]]:
    """(name, how it is counted, what answers and references become before); of phonemes with stress once more without the stress."""
    for measure, how in MEASURED[metric].items():
        yield measure, how, list
        if name == "cmudict-stress":
            yield f"{measure} without stress", how, lambda texts: [text.translate(STRESS) for text in texts]


def line(row: dict[str, Any]) -> str:
    """The row as Markdown."""
    cells = [f"{measure} {one['value']:.2f} ({one['low']:.2f}–{one['high']:.2f})" for measure, one in row["test"].items()]
    minutes = f"{row['minutes']:.0f} min, {row['epochs']:.1f} epochs" if "minutes" in row else "none"
    return f"| {row['data']} | {row['model']} | {row['parameters']:,} | {minutes} | {', '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="multi30k", choices=list(SETTINGS))
    parser.add_argument("--models", default="copy,nearest,transformer,rnn-attention,rnn")
    parser.add_argument("--epochs", type=float, help="the ladder's own if not given")
    parser.add_argument("--set", type=pair, action="append", default=[], metavar="NAME=VALUE", help="a setting of all models that have it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="500 pairs, one epoch, 50 test sentences: to see that it runs")
    parser.add_argument("--keep", type=Path, default=Path("benchmarks/out/translators"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/translation.json"))
    options = parser.parse_args()
    options.set = dict(options.set)
    logging.getLogger("weft").setLevel(logging.WARNING)
    splits = datasets.load(options.data)
    if options.quick:
        assert splits.test is not None
        splits = Splits(splits.train.subset(range(500)), splits.dev.subset(range(50)), splits.test.subset(range(50)))
        options.epochs, options.keep = 1, options.keep.with_name("translators_quick")
    print("| data | model | parameters | training | test |\n|---|---|---|---|---|")
    rows = measured(options.data, options.models.split(","), splits, options)
    write_json(options.out, {"machine": machine(f"{options.threads} threads"), "rows": rows})
    print(f"\nwritten to {options.out}")


def pair(text: str) -> tuple[str, Any]:
    """ "name=value" → (name, value), the value as weft's command line reads it."""
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    return name, value


if __name__ == "__main__":
    main()
