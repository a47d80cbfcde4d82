"""A corpus of raw text → documents of sentences, for pretraining: how documents are told apart is guessed from the file, and said aloud."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from weft.data.formats import Source
from weft.errors import InputError, meant

log = logging.getLogger("weft")
APART = ("headings", "blank-lines", "lines")
_HEADING = re.compile(r"(=(?:\s?=)*)\s.*\s\1$")  # = Title =, == Part ==, = = Part = =
# An end mark, what closes after it, a blank, and no small letter after that; or an ideographic end mark.
_END = re.compile(r"""(?<=[.!?…])((?:\s?["'”’»)\]]+)?)\s+(?=[^\sa-z])|(?<=[。！？])""")
# what ends with a full stop and no sentence does: a letter alone, and these
_SHORT = re.compile(r"(?:^|[\s(\"'“‘])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Prof|Gen|Col|Lt|Capt|Sgt|Rev|Sr|Jr|vs|No|Vol|pp|cf|e\.g|i\.e|U\.S)\.$")


def sentences(text: str) -> list[str]:
    """A paragraph cut after . ! ? … where a blank and something other than a small letter follow, and after 。！？; not after abbreviations
    that are common in English. Blanks around sentences are dropped."""
    found, start = [], 0
    for match in _END.finditer(text):
        piece = text[start : match.end()].strip()
        if piece and not _SHORT.search(piece):
            found.append(piece)
            start = match.end()
    if rest := text[start:].strip():
        found.append(rest)
    return found


def read_documents(path: str, apart: str | None = None) -> list[list[str]]:
    """The documents of a text file (.gz too; "-" is standard input), each its sentences in order.

    apart: "headings": a document begins at a heading of one =, as in Wikipedia's texts, whose headings are left out; "blank-lines";
    "lines": each line is a document. None: the first of these that the file has. Raises InputError for an empty file, or another `apart`.
    """
    if apart is not None and apart not in APART:
        raise InputError(f"there is no {apart!r}{meant(apart, APART)}; there are {', '.join(APART)}", "documents")
    source = Source(path)
    source.check_encoding()
    lines = [line.strip() for line in source.lines()]
    if not any(lines):
        raise InputError("is empty: a corpus is text, a sentence or a paragraph a line", path)
    kind = apart or _guessed(lines)
    found = [[sentence for line in part for sentence in sentences(line)] for part in _parts(lines, kind)]
    found = [document for document in found if document]
    if not found:
        raise InputError("has headings alone: nothing to learn from", path)
    log.info("%s: %d documents, told apart by %s, of %d sentences", path, len(found), kind, sum(map(len, found)))
    return found


def _guessed(lines: list[str]) -> str:
    filled = [number for number, line in enumerate(lines) if line]
    if (match := _HEADING.match(lines[filled[0]])) and match[1] == "=":  # its level
        return "headings"
    return "blank-lines" if "" in lines[filled[0] : filled[-1]] else "lines"


def _parts(lines: Iterable[str], kind: str) -> list[list[str]]:
    """The lines of each document."""
    found: list[list[str]] = [[]]
    for line in lines:
        heading = _HEADING.match(line) if kind == "headings" else None
        if kind == "lines" or (kind == "blank-lines" and not line) or (heading and heading[1] == "="):
            found.append([])
        if line and not heading:
            found[-1].append(line)
    return found
