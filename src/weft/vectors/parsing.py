"""Rows of vectors out of blocks of bytes: whole lines are parsed side by side, odd ones by hand; binary rows are copied as they come."""

from __future__ import annotations

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from weft.errors import InputError
from weft.vectors.container import check_finite, decoded

log = logging.getLogger("weft")
NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
NOT_FINITE = re.compile(rb"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
LONGEST_LINE = 1 << 26
BLOCK = 1 << 21  # bytes of binary rows at a time
BEYOND = 2.0**128 - 2.0**103  # from here on the nearest float32 is infinite


class Rows:
    """Rows as they are read: words, and an array (V, size) that grows where their number is not known.

    count: rows that the file says it has. limit: how many are wanted at most. Raises InputError from `add` and `finished` where there
    are not as many as the file says.
    """

    def __init__(self, name: str, size: int, count: int | None, limit: int | None) -> None:
        self.name, self.count = name, count
        self.most = min((n for n in (count, limit) if n is not None), default=None)
        self.limited = limit is not None and (count is None or limit < count)
        self.words: list[str] = []
        self.array = np.empty((min(4096, limit or 4096) if count is None else min(count, limit or count), size), np.float32)
        self.blanks = 0  # words with blanks in them

    @property
    def full(self) -> bool:
        return len(self.words) == self.most

    def add_words(self, names: bytes) -> None:
        """Words, a line end behind each, none within."""
        try:
            self.words += names.decode().split("\n")[:-1]
        except UnicodeDecodeError:
            self.words += decoded(names.split(b"\n")[:-1], self.name)

    def add(self, vectors: np.ndarray, names: bytes) -> None:
        filled, count = len(self.words), len(vectors)
        if self.most is not None and filled + count > self.most:
            if not self.limited:
                raise self.miscounted("more")
            count = self.most - filled
            names = b"\n".join(names.split(b"\n", count)[:count]) + b"\n" if count else b""
        if filled + count > len(self.array):
            self.array.resize((max(filled + count, len(self.array) * 5 // 4), self.array.shape[1]), refcheck=False)
        self.array[filled : filled + count] = vectors[:count]
        self.add_words(names)

    def miscounted(self, there_are: str) -> InputError:
        return InputError(f"the first line says {self.count:,} rows; there are {there_are}: cut off, damaged or miscounted", self.name)

    def finished(self) -> tuple[list[str], np.ndarray]:
        """Words and rows. Raises InputError where rows are missing."""
        if self.count is not None and not self.full:
            raise self.miscounted(f"{len(self.words):,}")
        if not self.words:
            raise InputError("no row of word vectors was found", self.name)
        if self.blanks:
            log.warning("%s: %s words have blanks in them", self.name, f"{self.blanks:,}")
        if len(self.words) < len(self.array):
            self.array.resize((len(self.words), self.array.shape[1]), refcheck=False)
        return self.words, self.array


@dataclass
class Part:
    """What a block of lines holds: rows, the words' bytes, how many lines it was, how many words have blanks in them."""

    vectors: np.ndarray
    names: bytes
    lines: int
    blanks: int


class OddLine(Exception):
    """A line that is no row: which of its block (from 0), and what is wrong."""


def text_rows(rows: Rows, blocks: Iterator[bytes], first_line: int) -> None:
    """Lines "word number … number" into `rows`, blocks of them parsed by a few threads at a time. Raises InputError "FILE:LINE: …"."""
    workers = min(4, os.cpu_count() or 1)
    pending: deque[Future[Part]] = deque()
    line = first_line
    with ThreadPoolExecutor(workers) as pool:

        def collect() -> None:
            nonlocal line
            try:
                part = pending.popleft().result()
            except OddLine as odd:
                raise InputError(odd.args[1], f"{rows.name}:{line + odd.args[0]}") from None
            rows.add(part.vectors, part.names)
            rows.blanks += part.blanks
            line += part.lines

        for block in _whole_lines(blocks, rows.name):
            pending.append(pool.submit(parse, block, rows.array.shape[1]))
            if len(pending) > workers:
                collect()
            if rows.full and rows.limited:
                pending.clear()
                break
        while pending and not (rows.full and rows.limited):
            collect()


def _whole_lines(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """The same bytes in pieces that end in a line end."""
    rest: list[bytes] = []
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if cut:
            yield b"".join([*rest, block[:cut]])
            rest = []
        rest.append(block[cut:])
        if sum(map(len, rest)) > LONGEST_LINE:
            raise InputError(f"a line is longer than {LONGEST_LINE >> 20} MB: is this a text file of vectors?", name)
    if last := b"".join(rest):
        yield last + b"\n"


def parse(block: bytes, size: int) -> Part:
    """A block of whole lines. Raises OddLine."""
    from weft.vectors import decimals

    data = np.frombuffer(block + b"\n", np.uint8)  # the last is what the kernel stops at
    stop, at, named, line, filled, blanks = len(block), 0, 0, 0, 0, 0
    vectors = np.empty((min(block.count(b"\n"), stop // (2 * size + 1) + 1), size), np.float32)
    names, hard = np.empty(stop + 1, np.uint8), np.empty((max(4096, size), 4), np.int64)
    while at < stop:
        read = decimals.read_text(data[at:], stop - at, size, vectors, filled, names[named:], hard)
        count, used, length, hards, state = map(int, read)
        for row, column, first, end in hard[:hards].tolist():
            vectors[row, column] = _exact(block[at + first : at + end], line + row - filled)
        at, named, line, filled = at + used, named + length, line + count, filled + count
        if state == decimals.ODD:
            end = block.index(b"\n", at)
            odd = _odd(block[at:end], size, line)
            if odd is not None:
                word, numbers = odd
                vectors[filled] = numbers
                names[named : named + len(word) + 1] = np.frombuffer(word + b"\n", np.uint8)
                named, filled, blanks = named + len(word) + 1, filled + 1, blanks + (b" " in word)
            at, line = end + 1, line + 1
    return Part(vectors[:filled], names[:named].tobytes(), line, blanks)


def _odd(text: bytes, size: int, line: int) -> tuple[bytes, list[np.float32]] | None:
    """The word and the numbers of a line that the kernel does not take, such as a word with blanks; None for an empty one."""
    fields = text.strip(b" \t\r").replace(b"\t", b" ").split()
    if not fields:
        return None
    if text[:1] in b" \t":
        raise OddLine(line, "the word is empty: a row begins with its word")
    numeric = count_of_numbers(text)
    if len(fields) <= size or (len(fields) > size + 1 and numeric > size):
        raise OddLine(line, f"{size} numbers were expected behind the word, not {len(fields) - 1}")
    return b" ".join(fields[:-size]), [_exact(field, line) for field in fields[-size:]]


def count_of_numbers(text: bytes) -> int:
    """How many fields at the end of a line are numbers (or nan, inf, which are to be refused as such), its first field apart."""
    fields = text.strip(b" \t\r").replace(b"\t", b" ").split()
    count = 0
    while count < len(fields) - 1 and numeric(fields[-1 - count]):
        count += 1
    return count


def numeric(field: bytes) -> bool:
    return bool(NUMBER.fullmatch(field) or NOT_FINITE.fullmatch(field))


def _exact(field: bytes, line: int) -> np.float32:
    """The float32 nearest to a decimal, of even bits where two are equally near. Raises OddLine where it is none, or not finite."""
    shown = field[:40].decode("utf-8", "replace")
    if not NUMBER.fullmatch(field):
        what = "is not finite" if NOT_FINITE.fullmatch(field) else "is no number"
        raise OddLine(line, f"{shown!r} {what}; finite numbers were expected")
    wide = float(field)
    if abs(wide) >= BEYOND:
        raise OddLine(line, f"{shown!r} is beyond what float32 can hold")
    found = np.float32(wide)
    rest = wide - float(found)
    step = np.nextafter(found, np.float32(np.copysign(np.finfo(np.float32).max, rest)))
    if rest and rest == float(step) - wide:  # float64 is halfway: on which side is the decimal?
        decimal = Decimal(field.decode())
        if decimal != Decimal(wide):
            up, down = max(found, step), min(found, step)
            return up if decimal > Decimal(wide) else down
    return found


def binary_rows(rows: Rows, fill: Callable[[memoryview], int]) -> None:
    """Rows "word", a blank, float32 bytes (and perhaps a line end) into `rows`. Raises InputError "FILE: row N: …".

    fill: puts the file's next bytes into what it is given, and says how many.
    """
    from weft.vectors import decimals

    out = rows.array.view(np.uint8).reshape(len(rows.array), -1)
    what = {
        decimals.EMPTY: "the word is empty",
        decimals.BROKEN: "a word and a blank were expected: cut off, damaged, or another size of vectors",
    }
    buffer = np.empty(out.shape[1] + 2 * decimals.LONGEST_WORD + BLOCK, np.uint8)  # longer than any row
    names, stop = np.empty_like(buffer), 0
    while got := fill(buffer[stop:].data):
        stop += got
        filled = len(rows.words)
        count, used, length, state = map(int, decimals.read_binary(buffer, stop, out, filled, names))
        check_finite(rows.array[filled : filled + count], rows.name, filled)
        rows.add_words(names[:length].tobytes())
        buffer[: stop - used] = buffer[used:stop].copy()
        stop -= used
        if state in what:
            raise InputError(f"row {len(rows.words) + 1}: {what[state]}", rows.name)
        if state == decimals.FULL:
            while not rows.limited and stop:
                if buffer[:stop].tobytes().strip():
                    raise rows.miscounted("more")
                stop = fill(buffer.data)
            return
