"""weft's own form of word vectors: one safetensors file, mapped into memory, so that a million rows open at once.

vectors (V, D) float32; words, one uint8 array, a line end behind each word; offsets (V + 1) int64, where each begins in it; counts
(V,) int64 where known; subword.* what subword models add. The metadata says "format": "weft-vectors-1", and the subwords' settings as JSON.
Any reader of safetensors can open it; nothing in it is code.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from weft.errors import InputError
from weft.files import atomic_write

log = logging.getLogger("weft")
FORMAT = "weft-vectors-1"
DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BOOL": np.dtype("?"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
}  # fmt: skip
LONGEST_HEADER = 10_000_000
CHECKED = 1 << 28  # bytes of vectors that are looked through for NaN and ±inf when the file is opened; larger ones when they are first used
SUBWORD = "subword."


@dataclass
class Stored:
    """What a file of vectors holds. checked: whether every number is known to be finite."""

    words: list[str]
    vectors: np.ndarray  # (V, D) float32
    counts: np.ndarray | None = None  # (V,) int64
    subwords: Any = None
    checked: bool = True


def write_container(path: str | os.PathLike[str], stored: Stored) -> None:
    """Writes the file, whole or not at all. Raises InputError where it cannot be written."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in stored.words]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter((len(word) + 1 for word in encoded), np.int64, len(encoded)), out=offsets[1:])
    arrays: dict[str, np.ndarray] = {"offsets": offsets, "vectors": stored.vectors}
    arrays["words"] = np.frombuffer(b"".join(word + b"\n" for word in encoded), np.uint8)
    metadata = {"format": FORMAT}
    if stored.counts is not None:
        arrays["counts"] = np.asarray(stored.counts, np.int64)
    if stored.subwords is not None:
        more, settings = stored.subwords.to_arrays()
        arrays |= {SUBWORD + name: np.asarray(array) for name, array in more.items()}
        metadata["subwords"] = json.dumps(settings, allow_nan=False)
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))  # the widest first: all are aligned
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name in order:
        header[name] = {
            "dtype": _dtype_name(arrays[name]),
            "shape": list(arrays[name].shape),
            "data_offsets": [at, at + arrays[name].nbytes],
        }
        at += arrays[name].nbytes
    head = json.dumps(header, ensure_ascii=False).encode()
    head += b" " * (-(len(head) + 8) % 64)
    with atomic_write(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name in order:
            array = arrays[name]
            step = max(1, (1 << 24) // max(1, array[:1].nbytes))
            for start in range(0, len(array), step):
                file.write(np.ascontiguousarray(array[start : start + step], DTYPES[_dtype_name(array)]).data)


def _dtype_name(array: np.ndarray) -> str:
    for name, dtype in DTYPES.items():
        if dtype == array.dtype:
            return name
    raise TypeError(f"an array of {array.dtype} cannot be stored")


def read_container(path: str | os.PathLike[str], limit: int | None = None) -> Stored:
    """Opens a file of ours; its arrays stay on disk until they are read, and cannot be written to.

    Raises InputError where it is cut off, damaged, or no file of this form. Vectors beyond 256 MB are not looked through for NaN here
    (`checked` is False then).
    """
    arrays, metadata = read_tensors(path)
    place = str(path)
    if metadata.get("format") != FORMAT:
        raise InputError(f'its metadata has no "format": "{FORMAT}": it is a safetensors file, but not of word vectors', place)
    vectors, blob, offsets = (
        _wanted(arrays, name, dtype, place) for name, dtype in (("vectors", "F32"), ("words", "U8"), ("offsets", "I64"))
    )
    if vectors.ndim != 2 or blob.ndim != 1 or offsets.ndim != 1 or not vectors.size or len(offsets) != len(vectors) + 1:
        raise InputError("its arrays do not fit together: vectors (V, D), words, offsets (V + 1) were expected", place)
    counts = _wanted(arrays, "counts", "I64", place) if "counts" in arrays else None
    if counts is not None and (counts.shape != (len(vectors),) or int(counts.min()) < 0):
        raise InputError("counts must be one number a word, none below 0", place)
    words = _words(blob, offsets, place)
    subwords = _subwords(arrays, metadata, words, place)
    if limit is not None and limit < len(words):
        words, vectors, counts = words[:limit], vectors[:limit], counts[:limit] if counts is not None else None
    checked = vectors.nbytes <= CHECKED
    if checked:
        check_finite(vectors, place)
    return Stored(words, vectors, counts, subwords, checked)


def check_finite(vectors: np.ndarray, place: str | None, before: int = 0) -> None:
    """Raises InputError "place: row …" for the first row of (V, D) with NaN or ±inf, block by block; `before`: rows before these."""
    step = max(1, (1 << 22) // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        finite = np.isfinite(vectors[start : start + step])
        if not finite.all():
            row = before + start + int(np.argmin(finite.all(axis=1))) + 1
            raise InputError(f"row {row}: there is a number that is not finite (NaN or ±inf)", place)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, mapped, by name, and its metadata. Raises InputError where its header is not true of it."""
    place = str(path)
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:  # a ValueError: an empty file
        raise InputError(f"cannot be read ({getattr(error, 'strerror', None) or 'the file is empty'})", place) from error
    length = int.from_bytes(data[:8].tobytes(), "little") if len(data) >= 8 else LONGEST_HEADER
    if length > min(LONGEST_HEADER, len(data) - 8):
        raise InputError("is no safetensors file, or is cut off: its header is longer than the file", place)
    try:
        header = json.loads(data[8 : 8 + length].tobytes().decode())
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, brackets nested too deep
        raise InputError("is no safetensors file: its header is no JSON", place) from error
    if not isinstance(header, dict):
        raise InputError("is no safetensors file: its header is no JSON object", place)
    metadata = header.pop("__metadata__", {})
    body = np.asarray(data)[8 + length :]
    arrays = {name: _tensor(name, entry, body, place) for name, entry in header.items()}
    return arrays, {str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {}


def _tensor(name: str, entry: Any, body: np.ndarray, place: str) -> np.ndarray:
    """One array of the file, checked against what there is of it before it is made."""
    damaged = InputError(f"the header's entry for {name[:40]!r} does not fit the file: cut off or damaged", place)
    if not isinstance(entry, dict) or entry.get("dtype") not in DTYPES:
        raise damaged
    shape: Any = entry.get("shape")
    span: Any = entry.get("data_offsets")
    for numbers in (shape, span):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers) or len(numbers) > 8:
            raise damaged
    dtype = DTYPES[entry["dtype"]]
    if len(span) != 2 or not span[0] <= span[1] <= len(body) or math.prod(shape) * dtype.itemsize != span[1] - span[0]:
        raise damaged
    array = body[span[0] : span[1]]
    if array.ctypes.data % dtype.itemsize:  # by another writer: copied, as numbers have to lie on their own borders
        array = array.copy()
    return array.view(dtype).reshape(shape)


def _wanted(arrays: Mapping[str, np.ndarray], name: str, dtype: str, place: str) -> np.ndarray:
    if name not in arrays or arrays[name].dtype != DTYPES[dtype]:
        raise InputError(f"has no array {name!r} of {dtype}", place)
    return arrays[name]


def _words(blob: np.ndarray, offsets: np.ndarray, place: str) -> list[str]:
    """The words, cut out of their bytes; those that are no UTF-8 have U+FFFD for what is not, counted in a warning."""
    if (
        int(offsets[0]) != 0
        or int(offsets[-1]) != len(blob)
        or bool((np.diff(offsets) < 2).any())
        or bool((blob[offsets[1:] - 1] != 10).any())
    ):
        raise InputError("its words do not fit their offsets: damaged, or a word is empty", place)
    raw = blob.tobytes()
    try:
        text = raw.decode()
        if text.count("\n") == len(offsets) - 1:
            return text.split("\n")[:-1]
    except UnicodeDecodeError:
        pass
    ends = offsets.tolist()
    return decoded([raw[start : end - 1] for start, end in pairwise(ends)], place)


def decoded(raw: list[bytes], place: str) -> list[str]:
    """Words out of their bytes: U+FFFD for what is no UTF-8 (lone surrogates apart, which are words of ours), counted in a warning."""
    words, wrong = [], 0
    for each in raw:
        try:
            words.append(each.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            words.append(each.decode("utf-8", "replace"))
            wrong += 1
    if wrong:
        log.warning("%s: %s words are no UTF-8; what could not be read of them is U+FFFD", place, f"{wrong:,}")
    return words


def _subwords(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], words: list[str], place: str) -> Any:
    """The subword model in the file, or None."""
    if "subwords" not in metadata:
        return None
    from weft.vectors.fasttext import Subwords

    for name, array in arrays.items():
        if name.startswith(SUBWORD) and array.ndim == 2 and array.dtype.kind == "f" and array.nbytes <= CHECKED:
            check_finite(array, f"{place}: {name}")
    mine = {name.removeprefix(SUBWORD): array for name, array in arrays.items() if name.startswith(SUBWORD)}
    try:
        return Subwords.from_arrays(mine, json.loads(metadata["subwords"]), words)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise InputError(error.message, place) from error
        raise InputError(f"its subword model is damaged ({type(error).__name__}: {error})", place) from error
