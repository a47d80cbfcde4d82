"""Rows of vectors → the bytes of word2vec's text and binary form and of GloVe's text, block by block."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from typing import IO, cast

import numpy as np

from weft.errors import InputError
from weft.files import atomic_write
from weft.vectors.container import Stored

BLOCK = 1 << 18  # numbers that are turned into bytes at a time


def write_rows(path: str | os.PathLike[str], stored: Stored, form: str) -> None:
    """Writes .vec, .bin or .txt, gzipped where the name ends in .gz. Raises InputError for a word with blanks or an empty one."""
    encoded = _encoded(stored.words, str(path), form)
    with atomic_write(path, "wb") as opened:
        if not str(path).lower().endswith(".gz"):
            _write(opened, stored, encoded, form)
            return
        with gzip.GzipFile("", "wb", 6, opened, mtime=0) as zipped, io.BufferedWriter(zipped, 1 << 20) as file:
            _write(cast(IO[bytes], file), stored, encoded, form)


def _encoded(words: list[str], place: str, form: str) -> list[bytes]:
    """The words in UTF-8, each of which has to be one field of a row."""
    try:
        encoded = [word.encode() for word in words]
    except UnicodeEncodeError as error:
        raise InputError(
            f"the word {error.object!r} is no Unicode text and has no place in a .{form} file; .safetensors keeps it", place
        ) from None
    if b"\n".join(encoded).split() != encoded:
        word = next(word for word, raw in zip(words, encoded, strict=True) if len(raw.split()) != 1 or raw.split()[0] != raw)
        what = f"the word {word!r} has a blank in it" if word else "there is an empty word"
        raise InputError(f"{what}, for which a .{form} file has no place; .safetensors keeps it", place)
    return encoded


def _write(file: IO[bytes], stored: Stored, encoded: list[bytes], form: str) -> None:
    count, size = stored.vectors.shape
    if form != "txt":
        file.write(f"{count} {size}\n".encode())
    for start in range(0, count, max(1, BLOCK // size)):
        end = min(count, start + max(1, BLOCK // size))
        rows = np.ascontiguousarray(stored.vectors[start:end], np.float32)
        for piece in (_binary if form == "bin" else _text)(rows, encoded[start:end]):
            file.write(piece)


def _binary(rows: np.ndarray, words: list[bytes]) -> Iterator[bytes]:
    width, raw = 4 * rows.shape[1], rows.view(np.uint8).reshape(-1).data
    yield b"".join(part for i, word in enumerate(words) for part in (word, b" ", raw[i * width : (i + 1) * width], b"\n"))


def _text(rows: np.ndarray, words: list[bytes]) -> Iterator[memoryview]:
    from weft.vectors import decimals

    names = np.frombuffer(b"".join(words), np.uint8)
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=offsets[1:])
    out = np.empty(len(names) + len(words) + rows.size * decimals.WIDEST, np.uint8)
    used = decimals.write_text(rows.view(np.uint32), names, offsets, out)
    yield out[: int(used)].data
