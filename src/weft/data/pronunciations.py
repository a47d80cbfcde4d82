"""Pronouncing dictionaries in CMUdict's form → a Table of spellings and their pronunciations.

A line is a word, a blank, and its phonemes between blanks, with a digit for the stress of a vowel (0 none, 1 primary, 2 secondary).
`word(2)`, `word(3)` are further pronunciations of `word`; " #" begins a comment, ";;;" a line of it.
"""

from __future__ import annotations

import os
import re

from weft.data.columns import SOURCE, TARGET
from weft.data.examples import Example, Table
from weft.data.formats import Source
from weft.errors import InputError

VARIANT = re.compile(r"(.+)\((\d+)\)")


def read_pronunciations(path: str | os.PathLike[str], *, stress: bool = True) -> Table:
    """An example a word, in the order of the file: its label is the tuple of its pronunciations, phonemes between single blanks.

    stress: False takes the digits off; pronunciations that are then the same are one. Raises InputError "FILE:LINE: …" for a word
    without phonemes.
    """
    source = Source(path)
    found: dict[str, tuple[int, dict[str, None]]] = {}  # word → its first line, its pronunciations in order
    for number, text in enumerate(source.lines(), start=1):
        word, *phonemes = text.partition(" #")[0].split() or [""]
        if not word or text.startswith(";;;"):
            continue
        if not phonemes:
            raise InputError(f"{word!r} has no phonemes; they follow it, between blanks", f"{source.name}:{number}")
        if match := VARIANT.fullmatch(word):
            word = match[1]
        spoken = " ".join(phonemes if stress else [phoneme.rstrip("012") for phoneme in phonemes])
        found.setdefault(word, (number, {}))[1][spoken] = None
    if not found:
        raise InputError("there are no words in the file; a word and its phonemes a line were expected", source.name)
    examples = [Example(word, tuple(spoken), None, line) for word, (line, spoken) in found.items()]
    return Table(examples, "translation", source.name, {"text": SOURCE, "label": TARGET})
