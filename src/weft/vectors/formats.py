"""Files of word vectors → words and rows: word2vec's text (.vec) and binary (.bin) form, GloVe's headerless text (.txt), gzip of each.

Sizes that a file claims are held against the bytes there are before anything is made of them; what is read passes through blocks of
a few megabytes. Anything wrong ends in an InputError "FILE:LINE: …" or "FILE: row N: …".
"""

from __future__ import annotations

import gzip
import logging
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from weft.errors import InputError
from weft.vectors.container import Stored, read_container, write_container
from weft.vectors.parsing import Rows, binary_rows, count_of_numbers, numeric, text_rows
from weft.vectors.writing import write_rows

log = logging.getLogger("weft")
HEAD = 1 << 20
FASTTEXT = (793712314).to_bytes(4, "little")
FORMATS = ("vec", "bin", "txt", "safetensors", "fasttext")
SUFFIXES = {".vec": "vec", ".bin": "bin", ".txt": "txt", ".safetensors": "safetensors"}
HEADER = re.compile(rb"[ \t]*([+-]?\d{1,18})[ \t]+([+-]?\d{1,18})[ \t\r]*")
LARGEST = 1 << 20  # numbers a vector
INFLATION = 1032  # times as long as its gzip a text can be
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


class VectorFile:
    """A file of vectors, unzipped where it is gzip. head: its first bytes, at most 1 MiB. Raises InputError where it cannot be read."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.name = Path(path), str(path)
        try:
            if self.path.is_dir():
                raise InputError("is a folder; a file of word vectors was expected", self.name)
            if self.path.exists() and not self.path.is_file():
                raise InputError("is no regular file; word vectors are read from a file, of which the size is known", self.name)
            with open(self.path, "rb") as file:
                start = file.read(2)
            self.zipped = start == b"\x1f\x8b"
            self.bytes = self.path.stat().st_size * (INFLATION if self.zipped else 1)  # at most
            with self.open() as file:
                self.head = b"".join(self.blocks(file, HEAD, HEAD))
        except FileNotFoundError as error:
            raise InputError("there is no such file", self.name) from error
        except (OSError, ValueError) as error:  # a ValueError: a NUL in the file's name
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot be read ({getattr(error, 'strerror', None) or error})", self.name) from error
        if not self.head.strip():
            raise InputError("the file is empty; word vectors were expected", self.name)

    def open(self) -> IO[bytes]:
        return gzip.open(self.path, "rb") if self.zipped else open(self.path, "rb", buffering=0)  # type: ignore[return-value]

    def blocks(self, file: IO[bytes], size: int, most: int | None = None) -> Iterator[bytes]:
        """The bytes from where `file` stands, in pieces of up to `size`, `most` in all."""
        left = most
        while left is None or left > 0:
            with self.guarded():
                block = file.read(size if left is None else min(size, left))
            if not block:
                return
            left = None if left is None else left - len(block)
            yield block

    def fill(self, file: IO[bytes], place: memoryview) -> int:
        """The next bytes, as many as come, into `place`; how many they are."""
        with self.guarded():
            return int(file.readinto(place))  # type: ignore[attr-defined]

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Errors of reading as InputError."""
        try:
            yield
        except BROKEN as error:
            raise InputError("the gzip data is cut off or damaged; fetch or compress the file again", self.name) from error
        except OSError as error:
            raise InputError(f"cannot be read on ({error.strerror})", self.name) from error

    def line(self, number: int) -> bytes:
        """A line of the head, counted from 0, without its end."""
        lines = self.head.split(b"\n", number + 1)
        return lines[number] if number < len(lines) else b""

    def suffix(self) -> str:
        suffixes = [suffix.lower() for suffix in self.path.suffixes if suffix.lower() != ".gz"]
        return suffixes[-1] if suffixes else ""


def guess(file: VectorFile) -> str:
    """Which of FORMATS a file is: by its first bytes where they say so, else by its name's ending."""
    head = file.head
    if head.startswith(FASTTEXT):
        return "fasttext"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.bytes:
        return "safetensors"
    known = SUFFIXES.get(file.suffix())
    if known == "safetensors":
        return known
    header = HEADER.fullmatch(file.line(0).removeprefix(b"\xef\xbb\xbf"))
    if header is None:
        return "bin" if known == "bin" else "txt"
    fields = file.line(1).split()
    if known == "bin":
        return "vec" if len(fields) > 1 and len(fields) == int(header[2]) + 1 and all(map(numeric, fields[1:])) else "bin"
    control = sum(head.count(byte) for byte in map(bytes, zip(range(32), strict=True)) if byte not in b"\t\n\r")
    if control > len(head) // 100:
        return "bin"
    return "txt" if known == "txt" and header[2] != b"1" and _pairs(file) else "vec"


def _pairs(file: VectorFile) -> bool:
    """Whether the lines of the head all have two fields: then a first line of two whole numbers is a word and its one number."""
    lines = [line for line in file.head[:4096].split(b"\n")[:-1] if line.strip()]
    return len(lines) > 2 and all(len(line.split()) == 2 for line in lines)


def read(file: VectorFile, form: str, limit: int | None = None) -> Stored:
    """What a file of one of FORMATS (fastText's own models apart) holds; limit: at most so many rows, from the first on.

    Words may come again: see without_repeats. Raises InputError.
    """
    if form == "safetensors":
        if file.zipped:
            raise InputError("is gzipped; unzip it, as this form is mapped into memory", file.name)
        return read_container(file.path, limit)
    return _read_rows(file, form, limit)


def _read_rows(file: VectorFile, form: str, limit: int | None) -> Stored:
    mark = 3 if file.head.startswith(b"\xef\xbb\xbf") else 0
    start = mark
    count: int | None = None
    if form == "txt":
        first = next((line for line in file.head[mark:].split(b"\n") if line.strip()), b"")
        if len(first) == HEAD - mark:
            raise InputError("the first line is longer than 1 MB: is this a text file of vectors?", f"{file.name}:1")
        size = count_of_numbers(first)
        if not size:
            raise InputError("no row of word vectors: a word and its numbers, between blanks, were expected", f"{file.name}:1")
    else:
        line = file.line(0)
        header = HEADER.fullmatch(line[mark:])
        if header is None or len(line) == len(file.head):
            what = "a headerless file is read with format='txt'" if form == "vec" else "is this a binary file of word2vec's?"
            raise InputError(f"the first line must be two numbers, of rows and of numbers a row; {what}", f"{file.name}:1")
        count, size, start = int(header[1]), int(header[2]), len(line) + 1
        least = 2 * size + 2 if form == "vec" else 4 * size + 2
        if count < 1 or not 1 <= size <= LARGEST:
            raise InputError(
                f"the first line says {count} rows of {size} numbers; at least one row of 1 to {LARGEST:,} was expected", f"{file.name}:1"
            )
        if count * least - 1 > file.bytes - start:
            room = f"{file.path.stat().st_size:,} bytes" + (" of gzip" if file.zipped else "")
            raise InputError(
                f"the first line says {count:,} rows of {size:,} numbers, which {room} cannot hold: cut off or damaged", f"{file.name}:1"
            )
    try:
        rows = Rows(file.name, size, count, limit)
    except (MemoryError, ValueError) as error:
        raise InputError(
            f"the first line says {count:,} rows of {size:,} numbers: more than there is memory for", f"{file.name}:1"
        ) from error
    with file.open() as opened:
        opened.seek(start)
        if form == "bin":
            binary_rows(rows, partial(file.fill, opened))
        else:
            text_rows(rows, file.blocks(opened, 1 << 22), first_line=1 + (form == "vec"))
    return Stored(*rows.finished())


def without_repeats(stored: Stored, name: str) -> Stored:
    """`stored` without words that came before, with a count; in place where the rows are ours."""
    count = len(stored.words)
    seen: dict[str, int] = {}
    for row, word in enumerate(stored.words):
        seen.setdefault(word, row)
    keep = np.fromiter(seen.values(), np.int64, len(seen))
    log.warning("%s: %s words came again and were left out; the first row of each is kept", name, f"{count - len(keep):,}")
    if stored.vectors.flags.writeable:
        for start in range(0, len(keep), 1 << 16):  # a row never moves down, so that none is overwritten before it is read
            block = keep[start : start + (1 << 16)]
            stored.vectors[start : start + len(block)] = stored.vectors[block]
        vectors = stored.vectors[: len(keep)]
    else:
        vectors = stored.vectors[keep]
    counts = None if stored.counts is None else stored.counts[keep]
    return Stored(list(seen), vectors, counts, stored.subwords, stored.checked)


def form_of(path: str | os.PathLike[str], form: str | None) -> str:
    """The form to write a file in: as asked, else by its name's ending (before a .gz). Raises InputError for any other."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    zipped = bool(suffixes) and suffixes[-1] == ".gz"
    found = form or SUFFIXES.get("".join(suffixes[-2:-1] if zipped else suffixes[-1:]))
    if found is None or found not in SUFFIXES.values():
        raise InputError(
            f"format {form!r} is not known" if form else "its name should end in .vec, .bin, .txt or .safetensors; or give format=",
            str(path),
        )
    if zipped and found == "safetensors":
        raise InputError("a .safetensors file is mapped into memory and cannot be gzipped", str(path))
    return found


def write(path: str | os.PathLike[str], stored: Stored, form: str | None = None) -> None:
    """Writes vectors in the form asked for, whole or not at all.

    Text is the shortest that reads back as the same float32. Counts and subwords go into .safetensors only. Raises InputError for a
    word that a form has no place for (an empty one, one with blanks in it), and where the file cannot be written.
    """
    found = form_of(path, form)
    if found == "safetensors":
        write_container(path, stored)
        return
    if stored.subwords is not None:
        log.warning("%s: only the .safetensors form keeps subwords; vectors of unknown words cannot be had from this file", path)
    write_rows(path, stored, found)
