"""Contexts from syntax instead of windows: who is whose head, and by which relation (E36; Levy & Goldberg, 2014).

A word's contexts are its modifiers, written modifier/relation, and its head, written head/relation⁻¹: "scientist" in "the scientist
discovers stars" has the/det and discovers/nsubj⁻¹. They are other things than words, with a vocabulary and an output table of their own.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weft.errors import InputError

INVERSE = "⁻¹"
NUMBER = re.compile(r"[0-9]{1,9}")
RANGE = re.compile(r"[0-9]+[-.][0-9]+")  # the number of a multi-word or an empty token
FORM, HEAD, RELATION = 1, 6, 7  # columns of CoNLL-U, from 0


@dataclass
class Dependencies:
    """words, contexts: the most frequent first, each with its counts. The contexts of ids[i] are targets[starts[i]:starts[i + 1]]."""

    words: list[str]
    counts: np.ndarray
    contexts: list[str]
    context_counts: np.ndarray
    ids: np.ndarray
    starts: np.ndarray
    targets: np.ndarray


def is_conllu(source: object) -> bool:
    """Whether it names a CoNLL-U file."""
    return isinstance(source, str | os.PathLike) and str(source).removesuffix(".gz").endswith(".conllu")


def read_dependencies(path: str | os.PathLike[str], *, lowercase: bool = False, minimum_count: int = 5) -> Dependencies:
    """The words of a CoNLL-U file (.gz too) and their syntactic contexts, both where they come `minimum_count` times or more.

    Raises InputError "FILE:LINE: …" for a line that is no CoNLL-U, or where nothing is left.
    """
    found = [pair for sentence in _sentences(Path(path)) for pair in _pairs(sentence, lowercase)]
    words = Counter(word for word, _ in found)
    contexts = Counter(context for _, context in found)
    word_ids, context_ids = _numbered(words, minimum_count), _numbered(contexts, minimum_count)
    kept = [(word_ids[word], context_ids[context]) for word, context in found if word in word_ids and context in context_ids]
    if len({word for word, _ in kept}) < 2:
        raise InputError(f"leaves no two words with contexts that come {minimum_count} times: a lower min_count is wanted", str(path))
    pairs = np.array(kept, np.int32)
    changes = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))  # neighbours of one word are one example
    starts = np.append(changes, len(pairs)).astype(np.int64)
    counts = np.bincount(pairs[:, 0], minlength=len(word_ids)), np.bincount(pairs[:, 1], minlength=len(context_ids))
    return Dependencies(
        list(word_ids), counts[0], list(context_ids), counts[1], pairs[changes, 0], starts, np.ascontiguousarray(pairs[:, 1])
    )


def _numbered(counts: Counter[str], minimum_count: int) -> dict[str, int]:
    kept = sorted((name for name, count in counts.items() if count >= minimum_count), key=lambda name: (-counts[name], name))
    return {name: number for number, name in enumerate(kept)}


def _pairs(sentence: list[tuple[str, int, str]], lowercase: bool) -> Iterator[tuple[str, str]]:
    """(word, context) of a sentence, those of one word side by side."""
    forms = [form.lower() if lowercase else form for form, _, _ in sentence]
    contexts: list[list[str]] = [[] for _ in sentence]
    for place, (_, head, relation) in enumerate(sentence):
        if head:
            contexts[head - 1].append(f"{forms[place]}/{relation}")
            contexts[place].append(f"{forms[head - 1]}/{relation}{INVERSE}")
    for form, own in zip(forms, contexts, strict=True):
        for context in own:
            yield form, context


def _sentences(path: Path) -> Iterator[list[tuple[str, int, str]]]:
    """(form, head from 1 or 0 for the root, relation) of every word, sentence by sentence; multi-word and empty tokens are left out."""
    sentence: list[tuple[str, int, str]] = []
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    yield _checked(sentence, f"{path}:{number}")
                    sentence = []
                elif not line.startswith("#"):
                    cells = line.rstrip("\n").split("\t")
                    if len(cells) != 10:
                        raise InputError(f"has {len(cells)} columns; CoNLL-U has 10, with tabs between", f"{path}:{number}")
                    if not RANGE.fullmatch(cells[0]):
                        sentence.append(_word(cells, len(sentence) + 1, f"{path}:{number}"))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot be read ({getattr(error, 'strerror', None) or error})", str(path)) from error
    except UnicodeDecodeError as error:
        raise InputError("is no UTF-8; CoNLL-U is written in UTF-8", str(path)) from error
    yield _checked(sentence, str(path))


def _word(cells: list[str], place: int, where: str) -> tuple[str, int, str]:
    """(form, head, relation) of the line of word `place` of a sentence, from 1."""
    if cells[0] != str(place):
        raise InputError(f"the number of the word is {cells[0]!r:.40}; {place} was expected", where)
    if not NUMBER.fullmatch(cells[HEAD]):
        raise InputError(f"the head is {cells[HEAD]!r:.40}; a number was expected", where)
    if not cells[FORM] or not cells[RELATION]:
        raise InputError("has an empty form or relation; CoNLL-U writes _ for nothing", where)
    return cells[FORM], int(cells[HEAD]), cells[RELATION]


def _checked(sentence: list[tuple[str, int, str]], place: str) -> list[tuple[str, int, str]]:
    for form, head, _ in sentence:
        if head > len(sentence):
            raise InputError(f"{form!r} has head {head} in a sentence of {len(sentence)} words", place)
    return sentence
