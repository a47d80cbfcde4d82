"""What a tokenizer is and what it gives: ids with the places they came from."""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from weft.data.vocabulary import PADDING
from weft.errors import InputError

log = logging.getLogger("weft")
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Encoding:
    """One text's ids, and for each the (start, end) of the characters behind it in the text as given."""

    ids: list[int]
    offsets: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer(Protocol):
    """Text to ids and back. Id 0 is padding and id 1 the unknown token in every kind; an empty text has no ids.

    A lone surrogate (half a character, which UTF-8 cannot hold) counts as U+FFFD, the replacement character.
    encode and encode_ids raise InputError for what is not text, decode for an id that is not in 0 … size − 1.
    """

    @property
    def kind(self) -> str: ...

    @property
    def size(self) -> int: ...

    def encode(self, text: str) -> Encoding: ...

    def encode_ids(self, texts: Sequence[str]) -> list[np.ndarray]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self: ...


def checked(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD, character for character; InputError where it is no str."""
    if not isinstance(text, str):
        raise InputError(f"a text must be a str, not {type(text).__name__}")
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def checked_all(texts: Iterable[str]) -> list[str]:
    """Every text checked, with a warning that says how many held lone surrogates."""
    if isinstance(texts, str):
        raise InputError("several texts are wanted, not one str: put it in a list")
    given = list(texts)
    if set(map(type, given)) == {str} and all(map(str.isascii, given)):
        return given
    clean = [checked(text) for text in given]
    repaired = sum(map(operator.ne, given, clean))
    if repaired:
        log.warning("%d of %d texts held lone surrogates, which became U+FFFD", repaired, len(given))
    return clean


def training_texts(texts: Iterable[str]) -> list[str]:
    """The texts a vocabulary is learnt from, checked; InputError where there are none."""
    clean = checked_all(texts)
    if not clean:
        raise InputError("a tokenizer learns from texts, and there are none")
    return clean


def checked_ids(ids: Iterable[int], size: int) -> list[int]:
    """The ids as ints, without padding; InputError where one is not in 0 … size − 1."""
    numbers = [int(number) for number in ids]
    if numbers and not 0 <= min(numbers) <= max(numbers) < size:
        raise InputError(f"ids run from 0 to {size - 1} here, not from {min(numbers)} to {max(numbers)}")
    return [number for number in numbers if number != PADDING]


def rows_of(flat: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """A flat array cut into rows of these lengths (views of it)."""
    ends = np.cumsum(lengths).tolist()
    return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]
