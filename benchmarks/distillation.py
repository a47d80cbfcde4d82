"""What a small student keeps of a large teacher that learnt from few labels: `python benchmarks/distillation.py --seeds 3`.

SST-2's phrases: `--labelled` of them keep their label and teach the teacher; the rest are without. The same student learns from these
labels alone and from what the teacher says of all phrases. The best weights of each are those on SST-2's development set, on which settings
are to be chosen; `--test` reads the test set, for once. Speed is that of prediction in bulk, student and teacher taking turns, in fp32, and
of the teacher in bf16 too. Finished trainings are kept in --out and not repeated. Markdown on stdout, everything in OUT/distillation.json.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import SETTINGS
from sides import compared, heading, turns

from weft.compare.summary import machine
from weft.data import datasets
from weft.device import choose
from weft.estimators.distillation import distill
from weft.estimators.loading import load
from weft.estimators.text import TextClassifier
from weft.files import read_json, write_json

QUICK = {"labelled": 60, "unlabelled": 120, "turns": 1, "speed_texts": 50, "epochs": 1.0, "alone_epochs": 1.0, "teacher_epochs": 1.0}


def drawn(seed: int, options: argparse.Namespace) -> tuple[tuple[list[str], list[Any]], list[str]]:
    """(labelled phrases, phrases without labels) of SST-2's training data, by seed."""
    train = datasets.tables("sst2")["train"]
    order = np.random.default_rng(seed).permutation(len(train)).tolist()
    few, rest = order[: options.labelled], order[options.labelled :][: options.unlabelled or None]
    texts, labels = train.texts, train.labels
    return ([texts[i] for i in few], [labels[i] for i in few]), [texts[i] for i in rest]


def part(name: str) -> tuple[list[str], list[Any]]:
    table = datasets.tables("sst2")[name]
    return list(table.texts), list(table.labels)


def settings_of(model: str) -> dict[str, Any]:
    """The settings of a student: those of benchmarks/accuracy.py, but for how long it trains."""
    chosen = SETTINGS["sst2"]
    return {name: value for name, value in {**chosen[""], **chosen.get(model, {})}.items() if name != "epochs"}


def kept(what: str, seed: int, options: argparse.Namespace, given: dict[str, Any], make: Any) -> Path:
    """The folder of a trained model; trained only where it is not there yet. given: what decides what it becomes."""
    shared = (options.teacher, options.labelled, options.unlabelled, options.precision)
    digest = hashlib.sha256(repr((shared, sorted(given.items()))).encode()).hexdigest()[:8]
    folder = options.out / "models" / f"{what.replace(' ', '-')}-{seed}-{digest}"
    if not (folder / "config.json").exists():
        started = time.perf_counter()
        model = make()
        seconds = time.perf_counter() - started
        model.save(folder, metrics={"dev": model.evaluate(*part("dev")), "seconds": seconds}, data="SST-2")
    return folder


def run(seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All models of one seed, each with its accuracy on dev, and on test where that is read."""
    few, rest = drawn(seed, options)
    machinery: dict[str, Any] = {"threads": options.threads, "precision": options.precision}
    dev = part("dev")
    recipe = {"temperature": options.temperature, "share": options.share, "on": options.on, "vectors": options.follow}
    taught = {"epochs": options.teacher_epochs}
    large = TextClassifier(options.teacher, **taught, random_state=seed, **machinery)
    teacher = kept(f"teacher {options.teacher}", seed, options, taught, lambda: large.fit(*few, dev))
    made: list[tuple[str, str, Path]] = [("teacher", options.teacher, teacher)]
    for name in options.students.split(","):
        settings = settings_of(name)
        alone = TextClassifier(name, settings, epochs=options.alone_epochs, random_state=seed, **machinery)
        given = {**settings, "epochs": options.alone_epochs}
        made.append(("alone", name, kept(f"alone {name}", seed, options, given, lambda alone=alone: alone.fit(*few, dev))))
        pupil = TextClassifier(name, settings, epochs=options.epochs, random_state=seed, **machinery)

        def teach(pupil: TextClassifier = pupil) -> TextClassifier:
            return distill(load(teacher, **machinery), pupil, *few, unlabelled=rest, validation=dev, **recipe)

        given = {**settings, **recipe, **taught, "student epochs": options.epochs}
        made.append(("distilled", name, kept(f"distilled {name}", seed, options, given, teach)))
    return [scored(what, model, seed, folder, options) for what, model, folder in made]


def scored(what: str, model: str, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    record = read_json(folder / "metrics.json")
    estimator = load(folder, threads=options.threads, precision=options.precision)
    row = {"what": what, "model": model, "seed": seed, "dev": record["dev"]["accuracy"], "seconds": record["seconds"]}
    row |= {"folder": folder.name, "parameters": estimator.parameters_}
    row["bytes"] = sum(array.nbytes for array in estimator.engine_.saved()[0].values())
    return {**row, "test": estimator.score(*part("test"))} if options.test else row


def speeds(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Students of the first seed beside the teacher, on the development set's texts, several times over."""
    texts = (part("dev")[0] * 9)[: options.speed_texts]
    folders = {(row["what"], row["model"]): options.out / "models" / row["folder"] for row in rows if row["seed"] == 0}

    def rate(model: Any) -> float:
        started = time.perf_counter()
        model.predict(texts)
        return len(texts) / (time.perf_counter() - started)

    found = []
    teacher = folders["teacher", options.teacher]
    large = {kind: load(teacher, threads=options.threads, precision=kind) for kind in ("fp32", "bf16")}
    for name in options.students.split(","):
        small = load(folders["distilled", name], threads=options.threads, precision="fp32")
        for kind, model in large.items():
            sides = (name, f"{options.teacher} in {kind}")
            ours, theirs = turns(partial(rate, small), partial(rate, model), options.turns)
            found.append(compared(f"{name}, fp32, beside {sides[1]}", "texts/s", ours, theirs, sides))
    return found


def told(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Means over seeds, as Markdown."""
    parts = ["dev", "test"] if options.test else ["dev"]
    print(f"| what | model | {' | '.join(f'{name} accuracy (sd)' for name in parts)} | parameters | MB |\n{'|---' * (4 + len(parts))}|")
    summary = []
    for what, model in dict.fromkeys((row["what"], row["model"]) for row in rows):
        own = [row for row in rows if (row["what"], row["model"]) == (what, model)]
        values = {name: [100 * row[name] for row in own] for name in parts}
        cells = [f"{np.mean(value):.2f} ({np.std(value, ddof=1) if len(value) > 1 else 0:.2f})" for value in values.values()]
        print(f"| {what} | {model} | {' | '.join(cells)} | {own[0]['parameters']:,} | {own[0]['bytes'] / 1e6:.1f} |")
        summary.append({"what": what, "model": model, **{name: float(np.mean(value)) for name, value in values.items()}})
    return summary


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="minilm")
    parser.add_argument("--students", default="cnn,bilstm")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labelled", type=int, default=5000)
    parser.add_argument("--unlabelled", type=int, default=0, help="at most so many; 0 for all the rest")
    parser.add_argument("--teacher-epochs", type=float, default=None, help="the model's own if not given")
    parser.add_argument("--alone-epochs", type=float, default=10.0)
    parser.add_argument("--epochs", type=float, default=6.0, help="of the distilled students, over all phrases")
    parser.add_argument("--temperature", type=float, default=None)
    parser.add_argument("--share", type=float, default=0.9)
    parser.add_argument("--on", default="probabilities")
    parser.add_argument("--follow", type=float, default=0.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--speed-texts", type=int, default=1821)
    parser.add_argument("--test", action="store_true", help="read the test set too")
    parser.add_argument("--quick", action="store_true", help="a few phrases, to see that it runs")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/distillation"))
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    options.threads = choose(threads=options.threads, precision=options.precision).threads
    return options


def main() -> None:
    options = arguments()
    rows = [row for seed in range(options.seeds) for row in run(seed, options)]
    summary = told(rows, options)
    heading(("student", "teacher"))
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    about = machine(f"{options.precision}, {options.threads} threads")
    results = {"machine": about, "options": given, "runs": rows, "means": summary, "speed": speeds(rows, options)}
    write_json(options.out / "distillation.json", results)


if __name__ == "__main__":
    main()
