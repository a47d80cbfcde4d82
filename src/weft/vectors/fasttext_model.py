"""Models that the fasttext program wrote (`.bin`), read as word vectors with their subwords. Nothing in such a file is run, and no size
in it is believed before it fits the file."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weft.errors import InputError
from weft.vectors.container import Stored
from weft.vectors.fasttext import Subwords, mean_rows, ngram_buckets, with_own

MAGIC, VERSIONS = 793712314, (11, 12)
ARGUMENTS = ("dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket", "minn", "maxn", "lrUpdateRate")
SUPERVISED = 3
WORD, LABEL = 0, 1
END_OF_SENTENCE = "</s>"  # has no n-grams


@dataclass
class _Bytes:
    """A file's bytes, read from front to back."""

    data: Any
    place: str
    at: int = 0

    def take(self, form: str) -> tuple[Any, ...]:
        """The next numbers, little-endian, as struct names them."""
        size = struct.calcsize(form)
        if self.at + size > len(self.data):
            raise InputError(f"ends at byte {len(self.data):,}, in the middle: the file is cut off", self.place)
        self.at += size
        return struct.unpack_from(form, self.data, self.at - size)

    def word(self, number: int) -> str:
        end = self.data.find(b"\0", self.at, self.at + (1 << 16))
        if end < 0:
            raise InputError(f"word {number + 1} has no end within 65,536 bytes: the file is damaged", self.place)
        self.at, found = end + 1, self.data[self.at : end]
        return str(bytes(found).decode("utf-8", "backslashreplace"))

    def matrix(self, what: str, columns: int) -> np.ndarray:
        """A view of (rows, columns) float32."""
        rows, found = self.take("<qq")
        if found != columns or rows < 0 or 4 * rows * columns > len(self.data) - self.at:
            raise InputError(f"{what} claims {rows:,} × {found:,} numbers, which the file does not hold", self.place)
        view = np.frombuffer(self.data, "<f4", rows * columns, self.at).reshape(rows, columns)
        self.at += 4 * rows * columns
        return view


def read_model(path: str | os.PathLike[str]) -> Stored:
    """The word vectors of a fasttext model, unsupervised or supervised, as its own `get_word_vector` gives them (sums reordered: within
    1e-6).

    Raises InputError "FILE: …" where it is no such model, of another version, quantized, pruned, cut off, or not finite.
    """
    place = str(path)
    try:
        with open(path, "rb") as file:
            size = Path(path).stat().st_size
            data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", place) from error
    source = _Bytes(data, place)
    if source.take("<i")[0] != MAGIC:
        raise InputError("is no model of the fasttext program", place)
    version = source.take("<i")[0]
    if version not in VERSIONS:
        raise InputError(f"is of fasttext's format {version}; {' and '.join(map(str, VERSIONS))} are known", place)
    arguments = dict(zip(ARGUMENTS, source.take("<12i"), strict=True))
    source.take("<d")
    if version == 11 and arguments["model"] == SUPERVISED:
        arguments["maxn"] = 0  # as the program does with models of that age
    dim, buckets, longest = arguments["dim"], arguments["bucket"], arguments["maxn"]
    if dim < 1 or buckets < 0 or longest > 100 or (longest > 0 and not 1 <= arguments["minn"] <= longest):
        raise InputError(f"claims vectors of {dim}, {buckets} buckets, n-grams of {arguments['minn']}–{longest}: it is damaged", place)
    words, counts = _dictionary(source)
    if source.take("<?")[0]:
        raise InputError("is a quantized model (.ftz), whose vectors are lost; the unquantized .bin has them", place)
    table = source.matrix("the input matrix", dim)
    if len(table) != len(words) + buckets and not (longest <= 0 and len(table) >= len(words)):
        raise InputError(f"has {len(table):,} rows for {len(words):,} words and {buckets:,} buckets: it is damaged", place)
    if not np.isfinite(table).all():
        raise InputError("holds numbers that are not finite", place)
    if longest <= 0 or not buckets:
        return Stored(words, np.array(table[: len(words)]), counts)
    return _with_subwords(words, counts, table, arguments)


def _with_subwords(words: list[str], counts: np.ndarray, table: np.ndarray, arguments: dict[str, int]) -> Stored:
    shape = arguments["bucket"], arguments["minn"], arguments["maxn"]
    starts, ids = ngram_buckets(words, *shape)
    vectors = mean_rows(np.asarray(table, np.float32), *with_own(starts, ids))
    if END_OF_SENTENCE in words:
        vectors[words.index(END_OF_SENTENCE)] = table[words.index(END_OF_SENTENCE)]
    subwords = Subwords(table[len(words) :], None, buckets=shape[0], shortest=shape[1], longest=shape[2])
    return Stored(words, vectors, counts, subwords)


def _dictionary(source: _Bytes) -> tuple[list[str], np.ndarray]:
    """The words, not the labels, and their counts."""
    size, count, labels, _, pruned = source.take("<iiiqq")
    if pruned >= 0:
        raise InputError("is a pruned model; the unpruned .bin has all its vectors", source.place)
    if min(size, count, labels) < 0 or count + labels != size or 10 * size > len(source.data):
        raise InputError(f"claims {size:,} entries, {count:,} words and {labels:,} labels: it is damaged", source.place)
    words: list[str] = []
    counts = np.empty(count, np.int64)
    for number in range(size):
        word = source.word(number)
        times, kind = source.take("<qb")
        if kind == WORD and len(words) < count:
            counts[len(words)] = times
            words.append(word)
    if len(words) != count:
        raise InputError(f"claims {count:,} words and holds {len(words):,}: it is damaged", source.place)
    return words, counts
