"""A few labelled texts that every model can learn, and files of them: what the command line and the ladder are tested with."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path

GOOD, BAD = ("great", "superb", "lovely"), ("awful", "dull", "weak")
FILL = ("the", "film", "plot", "a", "scene", "was", "and", "it")
# as small as each model goes
CNN = ["embedding_size=8", "filters=4", "learning_rate=0.02", "epochs=2"]
TINY = [*CNN, "hidden_size=8", "heads=2", "buckets=64"]


def review(positive: bool, draw: random.Random) -> str:
    """Some filling words, two of feeling, and a number that makes it the only one of its kind."""
    words = [draw.choice(FILL) for _ in range(draw.randint(2, 6))] + [draw.choice(GOOD if positive else BAD) for _ in range(2)]
    draw.shuffle(words)
    return " ".join([*words, f"n{draw.randrange(10**6)}"])


def reviews(count: int = 60, seed: int = 0, labels: Sequence[str] = ("neg", "pos")) -> list[tuple[str, str]]:
    """(text, label), the labels in turn: of two, the second is the good one."""
    draw = random.Random(seed)
    return [(review(number % 2 == 1, draw), labels[number % len(labels)]) for number in range(count)]


def write_csv(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = ("text", "label")) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def strict(text: str) -> dict[str, object]:
    """The one JSON object that a text is; NaN and Infinity are none."""

    def refuse(name: str) -> object:
        raise AssertionError(f"{name} is not JSON")

    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    return value
