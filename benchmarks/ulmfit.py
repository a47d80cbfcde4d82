"""What ULMFiT makes of few labels, and what each of its parts is worth: `python benchmarks/ulmfit.py --seeds 5`.

A language model is trained once on WikiText-2 (an LSTM over lower-cased words). TREC's training questions, of which `--labelled` are drawn
by seed, teach a classifier over it: with all of Howard & Ruder's parts, with one of them left out at a time, and the same network from
scratch, over a language model of the same vocabulary that is untrained (a rate next to nothing), all layers at once. The best weights of
each are those on TREC's development data, on which rates are to be chosen; that is what is told, unless `--test` reads the test set, for
once. The paired test flips signs of the examples' differences, means over seeds. Finished trainings are kept in --out. Markdown on stdout,
all in OUT/ulmfit.json.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from weft.compare.statistics import bootstrap_interval, mean_sd, paired_permutation
from weft.compare.summary import machine
from weft.data import datasets
from weft.device import choose
from weft.estimators.language_model import LanguageModel
from weft.estimators.loading import load
from weft.estimators.text import TextClassifier
from weft.files import read_json, write_json

QUICK = {
    "labelled": 60,
    "language_texts": 300,
    "language_epochs": 0.2,
    "hidden_size": 16,
    "layers": 2,
    "seeds": 1,
    "epochs": 1.0,
    "tuning": 1.0,
}
WITHOUT: dict[str, dict[str, Any]] = {
    "all of it": {},
    "texts not foretold first": {"language_epochs": 0.0},
    "one rate for all layers": {"layer_decay": 1.0},
    "all layers from the start": {"tune": "all"},
    "no slanted triangle": {"schedule": "linear"},
    "the last state alone": {"pooling": "last"},
}
SCRATCH = "from scratch"


def language_model(options: argparse.Namespace, *, trained: bool) -> Path:
    """The folder of the language model; trained only where it is not there yet. Not `trained`: with the weights it starts from."""
    shape = {
        "tokenizer": "words", "lowercase": True, "maximum_size": 30_000, "layers": options.layers, "hidden_size": options.hidden_size,
        "embedding_size": options.hidden_size,
    }  # fmt: skip
    told = {**shape, "epochs": options.language_epochs, "texts": options.language_texts, "minutes": options.language_minutes}
    digest = hashlib.sha256(repr(sorted(told.items())).encode()).hexdigest()[:8]
    folder: Path = options.out / "models" / f"language-{'trained' if trained else 'untrained'}-{digest}"
    if not (folder / "config.json").exists():
        parts = datasets.tables("wikitext2")
        text = "\n".join("\n".join(parts["train"].texts).split("\n")[: options.language_texts or None])
        budget = {"minutes": options.language_minutes} if options.language_minutes else {"epochs": options.language_epochs}
        settings = shape if trained else {**shape, "learning_rate": 1e-12}
        made = LanguageModel(
            "lstm", settings, **(budget if trained else {"steps": 1}), threads=options.threads, precision=options.precision
        )
        made.fit(text, validation=list(parts["dev"].texts))
        held = made.evaluate(list(parts["dev"].texts)) if trained and not options.quick else {}
        made.save(folder, metrics={"dev": held}, data="WikiText-2")
    return folder


def part(name: str) -> tuple[list[str], list[Any]]:
    table = datasets.load("trec").train if name == "train" else getattr(datasets.load("trec"), name)
    return list(table.texts), list(table.labels)


def run(what: str, settings: dict[str, Any], seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """A classifier of one seed: which questions it answers rightly."""
    texts, labels = part("train")
    few = np.random.default_rng(seed).permutation(len(texts))[: options.labelled].tolist()
    digest = hashlib.sha256(repr((options.labelled, options.epochs, sorted(settings.items()))).encode()).hexdigest()[:8]
    folder = options.out / "models" / f"{what.replace(' ', '-')}-{seed}-{digest}"
    if not (folder / "config.json").exists():
        made = TextClassifier(
            "ulmfit", settings, epochs=options.epochs, random_state=seed, threads=options.threads, precision=options.precision
        )
        made.fit([texts[i] for i in few], [labels[i] for i in few], part("dev")).save(folder, data=f"TREC, {options.labelled} questions")
    asked, true = part("test" if options.test else "dev")
    answers = load(folder, threads=options.threads, precision=options.precision).predict(asked)
    right = [int(answer == label) for answer, label in zip(answers, true, strict=True)]
    return {"what": what, "seed": seed, "accuracy": float(np.mean(right)), "right": right, "training": read_json(folder / "metrics.json")}


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds and p-values against all of it, as Markdown."""
    print("| what | error, % (sd) | 95 % | p beside all of it |\n|---|---|---|---|")
    right = {what: [row["right"] for row in rows if row["what"] == what] for what in dict.fromkeys(row["what"] for row in rows)}
    found = []
    for what, several in right.items():
        mean, deviation = mean_sd([100 - 100 * float(np.mean(one)) for one in several])
        low, high = (100 - 100 * bound for bound in reversed(bootstrap_interval(several)))
        p = None if what == "all of it" else paired_permutation(right["all of it"], several)
        print(f"| {what} | {mean:.2f} ({deviation or 0:.2f}) | {low:.1f}–{high:.1f} | {'' if p is None else f'{p:.4f}'} |", flush=True)
        found.append({"what": what, "error": mean, "sd": deviation, "interval": [low, high], "p": p})
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labelled", type=int, default=500)
    parser.add_argument("--epochs", type=float, default=15.0, help="of every classifier")
    parser.add_argument("--tuning", type=float, default=5.0, help="epochs of foretelling the labelled questions first")
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--scratch-rate", type=float, default=3e-3)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--hidden-size", type=int, default=400)
    parser.add_argument("--language-epochs", type=float, default=4.0)
    parser.add_argument("--language-minutes", type=float, default=0.0, help="in the place of epochs")
    parser.add_argument("--language-texts", type=int, default=0, help="lines of WikiText-2, 0 for all")
    parser.add_argument("--only", default="", help="rows with commas between, all if not given")
    parser.add_argument("--test", action="store_true", help="read the test set")
    parser.add_argument("--quick", action="store_true", help="a few texts, to see that it runs")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/ulmfit"))
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    options.threads = choose(threads=options.threads, precision=options.precision).threads
    return options


def main() -> None:
    options = arguments()
    whole = {"pretrained": str(language_model(options, trained=True)), "language_epochs": options.tuning, "learning_rate": options.rate}
    sides = {what: {**whole, **change} for what, change in WITHOUT.items()}
    sides[SCRATCH] = {
        "pretrained": str(language_model(options, trained=False)), "language_epochs": 0.0, "learning_rate": options.scratch_rate,
        "layer_decay": 1.0, "tune": "all",
    }  # fmt: skip
    wanted = [one for one in options.only.split(",") if one]
    chosen = {what: settings for what, settings in sides.items() if not wanted or what in (*wanted, "all of it")}
    rows = [run(what, settings, seed, options) for what, settings in chosen.items() for seed in range(options.seeds)]
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    about = machine(f"{options.precision}, {options.threads} threads")
    write_json(options.out / "ulmfit.json", {"machine": about, "options": given, "runs": rows, "means": told(rows)})


if __name__ == "__main__":
    main()
