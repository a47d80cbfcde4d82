"""Binary features of a word among the words around it, by templates: sentences → ids of the features that are on.

A template is one or two parts, each a kind of value and where the word stands: "suffix3@0", "lower@-1", "word@-1&word@0" (Ratnaparkhi,
1996; Toutanova et al., 2003). A feature is a template and the value it takes, as often seen in training as asked. Strings are looked at
once for each distinct word; the rest is arithmetic on arrays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Self

import numpy as np

from weft.data.lexicon import FEATURES
from weft.errors import InputError

KINDS: Mapping[str, Callable[[str], str]] = {
    "word": lambda word: word,
    "lower": str.lower,
    "prefix1": lambda word: word[:1].lower(),
    "prefix2": lambda word: word[:2].lower(),
    "prefix4": lambda word: word[:4].lower(),
    "suffix5": lambda word: word[-5:].lower(),
    **FEATURES,
}
EDGE, OFF = 0, -1  # the value of what lies beyond a sentence's ends; the id of a feature that was not seen in training
_PART = re.compile(r"(\w+)@(-?\d+)")


class WordFeatures:
    """The features of some templates. `tables`: for each template the id of each value, or the sorted pairs of values that have one.

    values: for each kind the values that are known, numbered from 1; 0 is beyond the sentence, the last number is any other value.
    """

    def __init__(self, templates: Sequence[str], values: Mapping[str, Sequence[str]], tables: Sequence[np.ndarray] = ()) -> None:
        self.templates, self.values = list(templates), {kind: list(known) for kind, known in values.items()}
        self.parts = [_parsed(template) for template in self.templates]
        self.numbers = {kind: {value: number for number, value in enumerate(known, start=1)} for kind, known in self.values.items()}
        self.columns = {kind: column for column, kind in enumerate(self.values)}
        self.reach = max((abs(offset) for parts in self.parts for _, offset in parts), default=0)
        self.tables = list(tables)
        self._count()

    @classmethod
    def train(cls, sentences: Sequence[Sequence[str]], templates: Sequence[str], minimum_count: int = 1) -> Self:
        """The features that come at least `minimum_count` times in these sentences. Raises ValueError for what is no template."""
        counts = Counter(chain.from_iterable(sentences))
        kinds = dict.fromkeys(kind for template in templates for kind, _ in _parsed(template))
        values = {}
        for kind in kinds:
            found: Counter[str] = Counter()
            for word, count in counts.items():
                found[KINDS[kind](word)] += count
            values[kind] = sorted(value for value, count in found.items() if count >= minimum_count)
        made = cls(templates, values)
        numbers, places, _ = made._numbers(sentences)
        made.tables = [made._table(numbers, places, parts, minimum_count) for parts in made.parts]
        made._count()
        return made

    def _count(self) -> None:
        sizes = [_features(table, len(parts)) for table, parts in zip(self.tables, self.parts, strict=False)]
        self.bases = np.cumsum([0, *sizes])

    @property
    def size(self) -> int:
        """How many features there are; those of the first template have the first ids."""
        return int(self.bases[-1])

    def encode(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """ids (N, templates) int32 of the features of all tokens end to end, OFF where there is none, and the sentences' lengths (B,)."""
        numbers, places, lengths = self._numbers(sentences)
        ids = np.empty((len(places), len(self.parts)), np.int32)
        for column, (table, parts) in enumerate(zip(self.tables, self.parts, strict=True)):
            if len(parts) == 1:
                found = table[self._taken(numbers, places, parts[0])]
            else:
                pairs = self._pairs(numbers, places, parts)
                place = np.minimum(np.searchsorted(table, pairs), max(0, len(table) - 1))
                found = np.where(table[place] == pairs, place, OFF) if len(table) else np.full(len(pairs), OFF)
            ids[:, column] = np.where(found >= 0, found + self.bases[column], OFF)
        return ids, lengths

    def _numbers(self, sentences: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of values (M, kinds) of all tokens, `reach` rows of EDGE around each sentence; the tokens' rows (N,); lengths (B,)."""
        flat = list(chain.from_iterable(sentences))
        row = {word: number for number, word in enumerate(dict.fromkeys(flat), start=1)}
        table = np.full((len(row) + 1, len(self.values)), EDGE, np.int64)
        for column, (kind, known) in enumerate(self.numbers.items()):
            value, other = KINDS[kind], len(known) + 1
            table[1:, column] = [known.get(value(word), other) for word in row]
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        places = np.arange(len(flat)) + self.reach * np.repeat(np.arange(1, len(sentences) + 1), lengths)
        rows = np.zeros(len(flat) + self.reach * (len(sentences) + 1), np.int64)
        rows[places] = np.fromiter(map(row.__getitem__, flat), np.int64, len(flat))
        return table[rows], places, lengths

    def _taken(self, numbers: np.ndarray, places: np.ndarray, part: tuple[str, int]) -> np.ndarray:
        kind, offset = part
        return numbers[places + offset, self.columns[kind]]

    def _pairs(self, numbers: np.ndarray, places: np.ndarray, parts: Sequence[tuple[str, int]]) -> np.ndarray:
        """One number for two values, OFF where one of them is not known."""
        first, second = (self._taken(numbers, places, part) for part in parts)
        others = [len(self.values[kind]) + 1 for kind, _ in parts]
        known = (first != others[0]) & (second != others[1])
        return np.where(known, first * others[1] + second, OFF)

    def _table(self, numbers: np.ndarray, places: np.ndarray, parts: Sequence[tuple[str, int]], least: int) -> np.ndarray:
        """Ids (values + 2,) int32 from 0 on, or the pairs, sorted, int64."""
        if len(parts) == 2:
            pairs, counts = np.unique(self._pairs(numbers, places, parts), return_counts=True)
            return pairs[(counts >= least) & (pairs != OFF)].astype(np.int64)
        counts = np.bincount(self._taken(numbers, places, parts[0]), minlength=len(self.values[parts[0][0]]) + 2)
        counts[-1] = 0
        return np.where(counts >= max(1, least), np.cumsum(counts >= max(1, least)) - 1, OFF).astype(np.int32)

    def arrays(self) -> dict[str, np.ndarray]:
        """The tables, by name."""
        return {f"template.{number}": table for number, table in enumerate(self.tables)}

    def to_dict(self) -> dict[str, Any]:
        """Templates and values, as JSON can hold them."""
        return {"type": "word-templates", "templates": self.templates, "values": self.values}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> Self:
        """What `arrays` and `to_dict` gave. Raises InputError where it is something else."""
        try:
            made = cls(data["templates"], data["values"], [arrays[f"template.{n}"] for n in range(len(data["templates"]))])
            fits = [made._fits(table, parts) for table, parts in zip(made.tables, made.parts, strict=True)]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"these are no word features of weft's ({type(error).__name__}: {error})", "tokenizer.json") from error
        if not all(fits):
            raise InputError(
                f"template {made.templates[fits.index(False)]!r} has a table that does not fit its values", "model.safetensors"
            )
        return made

    def _fits(self, table: np.ndarray, parts: Sequence[tuple[str, int]]) -> bool:
        """Whether a table is one that `_table` could give."""
        if len(parts) == 2:
            return table.dtype == np.int64 and table.ndim == 1 and bool((np.diff(table) > 0).all()) and bool((table >= 0).all())
        on = table[table >= 0] if table.shape == (len(self.values[parts[0][0]]) + 2,) and table.dtype == np.int32 else None
        return on is not None and bool((on == np.arange(len(on))).all()) and bool((table >= OFF).all()) and int(table[-1]) == OFF


def _features(table: np.ndarray, parts: int) -> int:
    """How many features a table has ids for."""
    return len(table) if parts == 2 else int((table >= 0).sum())


def _parsed(template: str) -> list[tuple[str, int]]:
    """ "lower@-1&word@0" → [("lower", -1), ("word", 0)]. Raises ValueError for what is no template."""
    found = [_PART.fullmatch(part) for part in template.split("&")]
    parts = [(match[1], int(match[2])) for match in found if match and match[1] in KINDS]
    if len(parts) != len(found) or len(parts) > 2:
        raise ValueError(f"{template!r} is no template; one is like suffix3@0 or lower@-1&word@0, of {', '.join(KINDS)}")
    return parts
