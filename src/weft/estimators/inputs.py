"""What is handed to an estimator → texts, second texts and labels in Python's own types; and a part of them set aside for development."""

from __future__ import annotations

import logging
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from weft.data.examples import Example, Table, split_table
from weft.errors import InputError

log = logging.getLogger("weft")


@dataclass
class Labelled:
    """Texts, their second texts (None where they are single), their labels."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[Any]

    def __len__(self) -> int:
        return len(self.texts)

    def pick(self, index: Sequence[int]) -> Labelled:
        """Those at these places, in this order."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in index]
        return Labelled([self.texts[i] for i in index], pairs, [self.labels[i] for i in index])


def labelled(texts: Sequence[Any], labels: Sequence[Any], place: str = "") -> Labelled:
    """Both together. Raises InputError where their numbers differ or one of them is not what it should be."""
    first, second = split_pairs(texts, place or "texts")
    return Labelled(first, second, as_labels(labels, len(first), place or "labels"))


def split_pairs(texts: Sequence[Any], place: str) -> tuple[list[str], list[str] | None]:
    """Texts, and second texts where they are pairs. Raises InputError naming the first that is neither."""
    if isinstance(texts, str):
        raise InputError("is one text; give a list of texts", place)
    items = list(texts)
    if set(map(type, items)) == {str}:
        return items, None
    pair = bool(items) and not isinstance(items[0], str)
    for number, item in enumerate(items, start=1):
        good = _is_pair(item) if pair else isinstance(item, str)
        if not good:
            raise InputError(f"text {number} is {item!r:.60}; give a string, or two for pairs, the same for all", place)
    if pair:
        return [item[0] for item in items], [item[1] for item in items]
    return items, None


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list | np.ndarray) and len(item) == 2 and all(isinstance(part, str) for part in item)


def as_labels(labels: Sequence[Any], count: int, place: str = "labels") -> list[Any]:
    """Labels as Python's own: texts, numbers, or tuples of them. Raises InputError unless there are `count`."""
    if isinstance(labels, str):
        raise InputError("is one text; give a list, a label for each text", place)
    labels = list(labels)
    if set(map(type, labels)) <= {str, int, float, bool}:
        made = labels
    else:
        made = [tuple(map(_item, label)) if isinstance(label, tuple | list | set | frozenset) else _item(label) for label in labels]
    if len(made) != count:
        raise InputError(f"{count} texts but {len(made)} labels", place)
    return made


def _item(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label


def hold_out(data: Labelled, task: str, fraction: float, seed: int) -> tuple[Labelled, Labelled | None]:
    """(what to train on, what to choose the best weights by): a share set aside at random, by label; None where there are too few."""
    pairs: Sequence[str | None] = data.pairs or [None] * len(data)
    numbered = enumerate(zip(data.texts, pairs, data.labels, strict=True))
    rows = [Example(text, _name(label, task), pair, place) for place, (text, pair, label) in numbered]
    held = set_aside(Table(rows, task, "texts"), fraction, seed, "too few, or too much the same,")
    return (data, None) if held is None else (data.pick(held[0]), data.pick(held[1]))


def set_aside(table: Table, fraction: float, seed: int, why_not: str) -> tuple[list[int], list[int]] | None:
    """Which of the table's rows, by the number that is their line, to train on and to choose the best weights by; None for all to train on.

    Said aloud, also where it cannot be done. Raises InputError for a fraction outside [0, 1).
    """
    if not isinstance(fraction, numbers.Real) or not 0 <= fraction < 1:
        raise InputError(f"must be at least 0 and below 1, not {fraction!r}", "validation_fraction")
    if not fraction:
        return None
    try:
        splits = split_table(table, dev=fraction, test=0.0, seed=seed)
    except InputError:
        log.warning("%d %s are %s to set some aside: the last weights are kept, not the best", len(table), table.name, why_not)
        return None
    log.info("no validation data: %d of %d %s set aside to choose the best weights", len(splits.dev), len(table), table.name)
    train, dev = ([row.line for row in part.examples] for part in splits.selection)
    return train, dev


def _name(label: Any, task: str) -> Any:
    if task == "regression":
        return float(label)
    return tuple(map(str, label)) if task == "multi-label" else str(label)
