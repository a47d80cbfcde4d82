"""Several columns of tags at once beside each alone: `python benchmarks/multitask.py [--columns upos,xpos,deprel] [--seeds 2]`.

UD English-EWT, the rung char-bilstm in all of them, the same epochs. "alone": a model for each column. "flat": one model, all columns read
from its top (Caruana, 1997). "hierarchical": two layers, the first column read from the lower one, the others from the upper (Søgaard &
Goldberg, 2016); "deep, alone": that network with one column. Accuracy on dev (choices are made there) and on test, a mean over seeds with
its spread. Nothing here is tuned. Markdown on stdout, everything in --out as JSON; what is done is not repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from weft.compare.summary import machine
from weft.data.conll import read_tagged
from weft.data.datasets import data_folder
from weft.data.examples import Table
from weft.estimators.tagger import Tagger
from weft.estimators.training import targets_of, texts_of
from weft.files import read_json, write_json


def tables(columns: list[str]) -> dict[str, Table]:
    """The treebank's three parts with these columns of tags."""
    folder = data_folder()
    if folder is None:
        raise SystemExit("the data are not there: WEFT_DATA names their folder")
    return {part: read_tagged(folder / "ud_ewt" / f"en_ewt-ud-{part}.conllu.gz", column=columns) for part in ("train", "dev", "test")}


def plans(columns: list[str]) -> dict[str, tuple[list[str], dict[str, Any]]]:
    """Name → (columns that are learnt, settings)."""
    first, rest = columns[0], columns[1:]
    levels = ",".join([f"{first}:1", *(f"{column}:2" for column in rest)])
    found: dict[str, tuple[list[str], dict[str, Any]]] = {f"alone: {column}": ([column], {}) for column in columns}
    found |= {f"deep, alone: {column}": ([column], {"levels": f"{column}:2"}) for column in rest}
    return found | {"flat": (columns, {}), "hierarchical": (columns, {"levels": levels})}


def accuracies(model: Tagger, table: Table, columns: list[str]) -> dict[str, float]:
    """Token accuracy of each column."""
    scores = model.evaluate(texts_of(table), targets_of(table))
    return {column: scores["accuracy" if not place else f"{column} accuracy"] for place, column in enumerate(columns)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", default="upos,xpos,deprel")
    parser.add_argument("--model", default="char-bilstm")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/multitask.json"))
    arguments = parser.parse_args()
    columns = arguments.columns.split(",")
    done: dict[str, Any] = read_json(arguments.out) if arguments.out.exists() else {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, (learnt, settings) in plans(columns).items():
        parts = tables(learnt)
        for seed in range(arguments.seeds):
            key = f"{name} seed {seed} epochs {arguments.epochs:g} {arguments.model}"
            if key not in done:
                started = time.perf_counter()
                model = Tagger(arguments.model, settings, epochs=arguments.epochs, random_state=seed, threads=arguments.threads)
                train, dev = parts["train"], parts["dev"]
                model.fit(texts_of(train), targets_of(train), (texts_of(dev), targets_of(dev)))
                seconds = time.perf_counter() - started
                measured = {part: accuracies(model, parts[part], learnt) for part in ("dev", "test")}
                done[key] = {**measured, "seconds": seconds, "parameters": model.parameters_}
                write_json(arguments.out, {**done, "machine": machine("cpu")})
                print(f"{key}: {measured['dev']} in {seconds:.0f} s", file=sys.stderr)
            rows.setdefault(name, []).append(done[key])
    print("| model | parameters | " + " | ".join(f"{column} dev | {column} test" for column in columns) + " |")
    print("|---|---|" + "---|---|" * len(columns))
    for name, runs in rows.items():
        cells = []
        for column in columns:
            for part in ("dev", "test"):
                values = [100 * run[part][column] for run in runs if column in run[part]]
                cells.append(f"{np.mean(values):.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "") if values else "")
        print(f"| {name} | {runs[0]['parameters']:,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
