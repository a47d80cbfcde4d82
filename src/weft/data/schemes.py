"""Schemes: spans of tokens written as one tag a token, read, converted, repaired, and held to their rules.

BIO (IOB2): B-X opens a span of type X, I-X goes on with it, O is outside. IOB1 (Ramshaw & Marcus, 1995): I-X opens too, B-X only where
a span of the same type ends right before. BIOES (IOBES, BILOU with L and U for E and S): E-X ends a span, S-X is one by itself.
A type may hold hyphens (B-creative-work) or be missing (B): then it is "".

Tags against the rules are read as conlleval reads them (Tjong Kim Sang & Buchholz, 2000): every tag but O belongs to a span, which
it opens unless a span of its type, neither ended nor single, stands right before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

SCHEMES = ("BIO", "IOB1", "BIOES")
LETTERS = {"BIO": "BIO", "IOB1": "BIO", "BIOES": "BIOES"}
TAG = re.compile(r"([BIESLU])(?:-(.+))?", re.DOTALL)
ALIASES = {"L": "E", "U": "S"}

Parts = tuple[str, str]  # letter, type


class Span(NamedTuple):
    """Tokens start … end − 1 of a sentence, and what they are."""

    start: int
    end: int
    type: str


@lru_cache(maxsize=1 << 14)
def parts(tag: str) -> Parts | None:
    """(letter of BIOES, type) of a tag, L and U read as E and S; None where it is no tag of spans."""
    if tag == "O":
        return "O", ""
    found = TAG.fullmatch(tag)
    return (ALIASES.get(found[1], found[1]), found[2] or "") if found else None


def scheme_of(sequences: Iterable[Sequence[str]]) -> str | None:
    """The scheme that the tags of these sentences are written in, or None where they are no spans.

    BIOES where E, S, L or U occurs; IOB1 where an I opens a span and no B stands where IOB1 has none; else BIO, which nothing but O is
    too. Tags without a type are spans only where B or I is among them.
    """
    letters: set[str] = set()
    typed = opened_by_i = b_alone = False
    for tags in sequences:
        before: Parts | None = None
        for tag in tags:
            now = parts(tag)
            if now is None:
                return None
            letters.add(now[0])
            typed = typed or bool(now[1])
            opened_by_i = opened_by_i or not legal(before, now, "BIO")
            b_alone = b_alone or not legal(before, now, "IOB1")
            before = now
    if not letters or not (typed or letters & set("BI") or letters == {"O"}):
        return None
    if letters & set("ES"):
        return "BIOES"
    return "IOB1" if opened_by_i and not b_alone else "BIO"


def legal(before: Parts | None, now: Parts | None, scheme: str) -> bool:
    """Whether `now` may follow `before` by the scheme's rules. None is the edge of the sentence, on either side."""
    alike = before is not None and now is not None and before[1] == now[1]
    inside = before is not None and before[0] in "BI"
    if scheme == "BIOES":
        return now is not None and now[0] in "IE" and alike if inside else now is None or now[0] in "OBS"
    opener = "I" if scheme == "BIO" else "B"  # the letter that needs a span of its type right before
    return now is None or now[0] != opener or (inside and alike)


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The spans of one sentence's tags, of any scheme, legal or not, in order. Raises ValueError for what is no tag of spans."""
    found: list[Span] = []
    start, before = 0, ("O", "")
    for place, now in enumerate([*map(_parts, tags), ("O", "")]):
        goes_on = before[0] in "BI" and now[0] in "IE" and before[1] == now[1]
        if before[0] != "O" and not goes_on:
            found.append(Span(start, place, before[1]))
        if not goes_on:
            start = place
        before = now
    return found


def tags_of(spans: Iterable[Span], length: int, scheme: str = "BIO") -> list[str]:
    """The tags of a sentence of `length` tokens with these spans, which may not overlap.

    Raises ValueError for an unknown scheme, and for spans that are empty, overlap or leave the sentence.
    """
    check_scheme(scheme)
    tags = ["O"] * length
    last = Span(-1, 0, "")
    for span in sorted(spans):
        start, end, kind = span
        if not last.end <= start < end <= length:
            raise ValueError(f"{span} is empty, overlaps another or leaves the sentence of {length} tokens")
        letters = ["I"] * (end - start)
        if scheme != "IOB1" or (last.end == start and last.type == kind and last.start >= 0):
            letters[0] = "B"
        if scheme == "BIOES":
            letters[-1] = "S" if len(letters) == 1 else "E"
        tags[start:end] = [f"{letter}-{kind}" if kind else letter for letter in letters]
        last = span
    return tags


def convert(tags: Sequence[str], source: str, target: str) -> list[str]:
    """One sentence's tags in another scheme; illegal ones are read as conlleval does.

    Raises ValueError for an unknown scheme, and for a tag that `source` does not have.
    """
    check_scheme(source)
    strange = next((tag for tag in tags if _parts(tag)[0] not in LETTERS[source]), None)
    if strange is not None:
        raise ValueError(f"{strange!r} is no tag of {source}")
    return tags_of(spans_of(tags), len(tags), target)


def illegal(tags: Sequence[str], scheme: str = "BIO") -> list[int]:
    """The places of the tags that may not stand after the one before them, or not at the end. Raises ValueError as `convert`."""
    check_scheme(scheme)
    known = [None, *map(_parts, tags)]
    places = [place for place in range(len(tags)) if not legal(known[place], known[place + 1], scheme)]
    unfinished = bool(tags) and not legal(known[-1], None, scheme) and places[-1:] != [len(tags) - 1]
    return [*places, len(tags) - 1] if unfinished else places


def repaired(tags: Sequence[str], scheme: str = "BIO") -> tuple[list[str], int]:
    """(legal BIO tags with the spans that conlleval reads, how many of the tags were against the rules of `scheme`)."""
    return tags_of(spans_of(tags), len(tags)), len(illegal(tags, scheme))


def allowed(labels: Sequence[str], scheme: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(start (K,), transitions (K, K) [from, to], end (K,)), all bool: what a legal sentence of these K tags may do.

    Raises ValueError for an unknown scheme, and for a label that it does not have.
    """
    check_scheme(scheme)
    known = [_parts(label) for label in labels]
    strange = next((label for label, (letter, _) in zip(labels, known, strict=True) if letter not in LETTERS[scheme]), None)
    if strange is not None:
        raise ValueError(f"{strange!r} is no tag of {scheme}")
    start = np.array([legal(None, to, scheme) for to in known], bool)
    transitions = np.array([[legal(one, to, scheme) for to in known] for one in known], bool).reshape(len(known), len(known))
    return start, transitions, np.array([legal(one, None, scheme) for one in known], bool)


def check_scheme(scheme: str) -> None:
    """Raises ValueError for a scheme that there is not."""
    if scheme not in SCHEMES:
        raise ValueError(f"there is no scheme {scheme!r}; there are {', '.join(SCHEMES)}")


def _parts(tag: str) -> Parts:
    found = parts(tag)
    if found is None:
        raise ValueError(f"{tag!r} is no tag of spans; they are O, B-X, I-X, and E-X, S-X in BIOES")
    return found
