"""Strings copied and turned round, by every attention: `python benchmarks/reversal.py [--only additive,local-p]`.

Strings of 5 to 20 letters, in training up to 24; every network is small, trained until it makes no mistake on development strings in three
looks in a row, or for --steps, and then asked for strings it never saw, greedily: the share that is right as a whole. What a form of
attention cannot do is named in CANNOT, with its reason. Markdown on stdout, everything in --out as JSON; what is done is not repeated.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

from weft.compare.summary import machine
from weft.estimators.translator import Translator
from weft.files import read_json, write_json
from weft.generation.search import Greedy
from weft.nn.scores import SCORES
from weft.training.callbacks import Moment

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHORTEST, LONGEST = 5, 20
FEWEST = 2  # letters that a string of training is made of: else runs of a letter, which are what is got wrong, hardly come there
TRAINED = 24  # the longest of training: what is asked for does not lie at its edge
SETTINGS: dict[str, Any] = {
    "tokenizer": "whitespace", "maximum_size": 100, "shared": False, "tied": "none", "metric": "exact_match", "checked": 500, "checks": 30,
    "label_smoothing": 0.0, "dropout": 0.0, "embedding_size": 64, "embedding_std": 0.5, "embedding_scale": 1.0, "learning_rate": 3e-3,
    "warmup": 0.02, "clip": 1.0, "batch_size": 64,
}  # fmt: skip
RECURRENT: dict[str, Any] = {"encoder_hidden_size": 64, "decoder_hidden_size": 128, "attention_size": 64, "attend": "after"}
BLOCKS: dict[str, Any] = {
    "hidden_size": 64,
    "layers": 2,
    "heads": 4,
    "inner": 256,
    "layer_dropout": 0.0,
    "learning_rate": 2e-3,
    "warmup": 0.1,
}
CANNOT = {
    ("reversed", "monotonic"): "its pointer never goes back",
    ("reversed", "local-m"): "its window moves on with the step",
    ("copied", "bag"): "its source is one vector in which no letter has a place",
    ("reversed", "bag"): "its source is one vector in which no letter has a place",
    ("copied", "transformer, no positions"): "the order of its source's letters reaches nothing in it",
    ("reversed", "transformer, no positions"): "the order of its source's letters reaches nothing in it",
}


def forms() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name → (rung, its settings): every score, every alignment, self-attention with every kind of positions."""
    found: dict[str, tuple[str, dict[str, Any]]] = {score: ("rnn-attention", {**RECURRENT, "attention": score}) for score in SCORES}
    for align in ("hard", "monotonic", "local-m", "local-p"):
        found[align] = ("rnn-attention", {**RECURRENT, "attention": "general", "align": align, "reach": 3})
    for positions in ("sinusoidal", "learned", "rotary"):
        found[f"transformer, {positions}"] = ("transformer", {**BLOCKS, "positions": positions})
    found["transformer, no positions"] = ("transformer", {**BLOCKS, "encoder_positions": "none", "decoder_positions": "sinusoidal"})
    found["no attention"] = ("rnn", {"encoder_hidden_size": 64, "decoder_hidden_size": 128})
    return found


def strings(count: int, seed: int, longest: int, fewest: int) -> list[str]:
    """Letters with blanks between, as many of each length as of any other; of a string, drawn from `fewest` of them or more."""
    draw = random.Random(seed)
    kinds = [draw.sample(LETTERS, k=draw.randint(fewest, len(LETTERS))) for _ in range(count)]
    return [" ".join(draw.choices(letters, k=draw.randint(SHORTEST, longest))) for letters in kinds]


def turned(source: str, task: str) -> str:
    return source if task == "copied" else " ".join(reversed(source.split()))


def learnt(rung: str, settings: dict[str, Any], task: str, steps: int, count: int) -> dict[str, Any]:
    """Exact on test strings, the steps it took, and whether it stood without a mistake on development strings before they were spent."""
    sizes = (("train", count, TRAINED, FEWEST), ("dev", 500, LONGEST, len(LETTERS)), ("test", 1000, LONGEST, len(LETTERS)))
    parts = {part: strings(number, seed, longest, fewest) for seed, (part, number, longest, fewest) in enumerate(sizes)}
    targets = {part: [turned(one, task) for one in texts] for part, texts in parts.items()}
    faultless = 0

    def enough(moment: Moment) -> None:
        nonlocal faultless
        if moment.metrics is not None:
            faultless = faultless + 1 if moment.metrics["exact_match"] == 1.0 else 0
            moment.stop = faultless > 2

    started = time.perf_counter()
    model = Translator(rung, {**SETTINGS, **settings}, steps=steps, threads=1, precision="fp32")
    model.fit(parts["train"], targets["train"], (parts["dev"], targets["dev"]), callbacks=[enough])
    seconds = time.perf_counter() - started
    exact = model.evaluate(parts["test"], targets["test"], search=Greedy())["exact_match"]
    assert model.history_ is not None
    return {"exact": exact, "steps": model.history_.steps, "seconds": seconds, "best_dev": model.history_.best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of forms, commas between those without one")
    parser.add_argument("--task", choices=("copied", "reversed", "both"), default="both")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--count", type=int, default=50_000, help="of training strings")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/reversal.json"))
    arguments = parser.parse_args()
    chosen = {name: form for name, form in forms().items() if not arguments.only or name.split(",")[0] in arguments.only.split(",")}
    tasks = ("reversed", "copied") if arguments.task == "both" else (arguments.task,)
    results = read_json(arguments.out) if arguments.out.exists() else {"machine": machine("cpu"), "rows": {}}
    print("| attention | task | exact on test | steps | seconds | |\n|---|---|---|---|---|---|")
    for name, (rung, settings) in chosen.items():
        for task in tasks:
            key = f"{name}: {task}"
            if key not in results["rows"]:
                results["rows"][key] = learnt(rung, settings, task, arguments.steps, arguments.count)
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                write_json(arguments.out, results)
            row, why = results["rows"][key], CANNOT.get((task, name), "")
            print(f"| {name} | {task} | {100 * row['exact']:.1f} | {row['steps']} | {row['seconds']:.0f} | {why} |", flush=True)


if __name__ == "__main__":
    main()
