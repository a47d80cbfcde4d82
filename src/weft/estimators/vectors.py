"""Word vectors as the start of an embedding table: whose rows they give, how the others are drawn, what is said about it (Kim, 2014, 3.2).

What is given is a file that weft.vectors.keyed reads, or its KeyedVectors. What is found in a file for a vocabulary is kept, so that
the trainings of a ladder read it once; the file's vectors themselves are let go.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from weft.data.vocabulary import SPECIALS, UNKNOWN
from weft.errors import InputError
from weft.files import sha256

log = logging.getLogger("weft")
WITH_WORDS = ("words", "whitespace")  # the tokenizers whose tokens are words; the pieces of bpe and wordpiece are not
Stamp = tuple[int, int]  # of a file: when it was written, its bytes


@dataclass(frozen=True)
class Vectors:
    """What a user gave as word vectors: `source`, a path or KeyedVectors; `size`: the embedding_size that was asked for beside it, or None.

    Raises InputError where there is no such file.
    """

    source: Any
    size: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.source, str | Path):
            _stamp(self.source)
        elif not hasattr(self.source, "key_to_index"):
            raise InputError(f"must be a file of word vectors or KeyedVectors, not {self.source!r:.60}", "vectors")

    @property
    def digest(self) -> str:
        """The SHA-256 of the file, or of the words and the numbers."""
        if isinstance(self.source, str | Path):
            return _file_digest(str(self.source), _stamp(self.source))
        return _digest_of(self.source)

    def dimensions(self) -> int:
        """How long the vectors are, from the first of them alone. Raises InputError where this is no file of vectors."""
        if not isinstance(self.source, str | Path):
            return int(self.source.vectors.shape[1])
        before = log.level
        log.setLevel(logging.ERROR)  # what there is to say of the file is said when it is read
        try:
            return int(_load(str(self.source), limit=1).vectors.shape[1])
        finally:
            log.setLevel(before)

    def check_size(self, size: int) -> None:
        """Raises InputError where the vectors are `size` long and another embedding_size was asked for."""
        if self.size is not None and self.size != size:
            message = f"the vectors are {size}-dimensional, so it cannot be {self.size}; leave it out, and it follows them"
            raise InputError(message, "embedding_size")

    def found(self, tokens: Sequence[str]) -> Found:
        """What they hold of a vocabulary's tokens, which is said aloud.

        Raises InputError where they hold none of them, numbers that are not finite, or have another size than was asked for.
        """
        if isinstance(self.source, str | Path):
            found = _found_in_file(str(self.source), _stamp(self.source), tuple(tokens))
        else:
            found = _look_up(self.source, "the vectors", _digest_of(self.source), tokens)
        self.check_size(found.rows.shape[1])
        log.info("%s", sentence(found.facts))
        return found


@dataclass(frozen=True)
class Found:
    """rows (V, D) of a vocabulary's tokens, zeros where not `known` (V,); facts: file, sha256, size, words, found, by_subwords."""

    rows: np.ndarray
    known: np.ndarray
    facts: dict[str, Any]

    def start(self, seed: int) -> np.ndarray:
        """(V, D): what is known as it is, the rest from U(−a, a) with the variance of what is known: a² = 3·var (Kim, 2014, 3.2)."""
        rows = self.rows.copy()
        bound = float(np.sqrt(3 * self.rows[self.known].var(dtype=np.float64)))
        draw = np.random.default_rng(seed)
        rows[~self.known] = draw.uniform(-bound, bound, (int((~self.known).sum()), rows.shape[1])).astype(np.float32)
        return rows


def sentence(facts: Mapping[str, Any]) -> str:
    """ "vectors.vec: 12,345 of 15,000 words found (82%), 100-dimensional"."""
    share = int(100 * facts["found"] / facts["words"])  # not rounded up: 100% are all
    subwords = f", {facts['by_subwords']:,} of them by their subwords" if facts["by_subwords"] else ""
    return f"{facts['file']}: {facts['found']:,} of {facts['words']:,} words found ({share}%){subwords}, {facts['size']}-dimensional"


def check_tokenizer(kind: str) -> None:
    """Raises InputError for a tokenizer that has no words to look up."""
    if kind not in WITH_WORDS:
        message = f"a {kind!r} tokenizer does not cut texts into whole words, so that no word vectors fit; {' and '.join(WITH_WORDS)} do"
        raise InputError(message, "tokenizer")


def check_mode(mode: str, given: bool) -> None:
    """Raises InputError for a table that would stay at random for want of vectors."""
    if mode != "non-static" and not given:
        raise InputError(f"{mode!r} keeps a table of given word vectors as it is, and none are given: add --vectors FILE", "vectors_mode")


def _stamp(path: str | Path) -> Stamp:
    try:
        facts = Path(path).stat()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}); a file of word vectors was expected", str(path)) from error
    if Path(path).is_dir():
        raise InputError("is a folder; a file of word vectors was expected", str(path))
    return facts.st_mtime_ns, facts.st_size


@lru_cache(maxsize=4)
def _file_digest(path: str, stamp: Stamp) -> str:
    return sha256(path)


def _digest_of(vectors: Any) -> str:
    digest = hashlib.sha256("\n".join(vectors.key_to_index).encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(vectors.vectors).data)
    return digest.hexdigest()


def _load(path: str, **options: Any) -> Any:
    from weft.vectors.keyed import KeyedVectors

    return KeyedVectors.load(path, **options)


@lru_cache(maxsize=4)
def _found_in_file(path: str, stamp: Stamp, tokens: tuple[str, ...]) -> Found:
    return _look_up(_load(path), Path(path).name, _file_digest(path, stamp), tokens)


def _look_up(vectors: Any, name: str, digest: str, tokens: Sequence[str]) -> Found:
    """Each token as it stands, else in lower case, else by its subwords, where the vectors have such."""
    index, size = vectors.key_to_index, int(vectors.vectors.shape[1])
    words, rows = tokens[len(SPECIALS) :], np.zeros((len(tokens), size), np.float32)
    places = np.full(len(tokens), -1, np.int64)
    places[UNKNOWN] = index.get(tokens[UNKNOWN], -1)  # where the vectors have one for it, it counts too
    places[len(SPECIALS) :] = [index.get(word, index.get(word.lower(), -1)) for word in words]
    known = places >= 0
    rows[known] = vectors.vectors[places[known]]
    by_subwords = 0
    if getattr(vectors, "subwords", None) is not None:
        left = [row for row in range(len(SPECIALS), len(tokens)) if not known[row]]
        for row in left:
            rows[row] = vectors.subwords.vector(tokens[row])
        known[left], by_subwords = True, len(left)
    found = int(known[len(SPECIALS) :].sum())
    if not found:
        theirs = ", ".join(map(repr, list(index)[:3]))
        message = f"holds none of the {len(words):,} words of the data; its first are {theirs}: another language, or another cut of words?"
        raise InputError(message, name)
    if not np.isfinite(rows).all():
        wrong = tokens[int(np.flatnonzero(~np.isfinite(rows).all(1))[0])]
        raise InputError(f"the vector of {wrong!r} has numbers that are not finite", name)
    facts = {"file": name, "sha256": digest, "size": size, "words": len(words), "found": found, "by_subwords": by_subwords}
    return Found(rows, known, facts)
