"""Word vectors that are already trained: opened, asked, saved (E53–E57, E121).

Neighbours by cosine are exact: one matrix product over all rows and their lengths, the k best picked without sorting.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from weft.errors import InputError, MissingExtra, meant
from weft.vectors import formats, neighbours
from weft.vectors.container import Stored, check_finite
from weft.vectors.neighbours import Neighbours, unit

log = logging.getLogger("weft")
Wanted = str | np.ndarray | tuple[Any, float]  # a word, a vector, or one of them with its weight
METHODS = ("add", "multiply")


class KeyedVectors:
    """Words and their vectors.

    words: V different, non-empty strings. vectors: (V, D) numbers, all finite, kept as float32; a float32 array is not copied, and should
    not be changed afterwards. counts: (V,) how often each occurred, or None. subwords: answers .vector(word) → (D,) for words that are not
    among them, or None. Where a word is asked for, an unknown one is an InputError that names near spellings, or its subwords' vector.
    Raises InputError for words that come twice, shapes that do not fit, and numbers that are not finite.
    """

    words: list[str]
    vectors: np.ndarray
    counts: np.ndarray | None
    subwords: Any
    key_to_index: dict[str, int]

    def __init__(self, words: Iterable[str], vectors: Any, *, counts: Any = None, subwords: Any = None) -> None:
        with np.errstate(over="ignore"):  # what float32 has no room for becomes infinite, and is refused
            rows = np.asarray(vectors, np.float32)
        self._set(Stored(list(words), rows, counts, subwords, checked=False), None)
        check_finite(self.vectors, "vectors")
        self._checked = True

    def _set(self, stored: Stored, place: str | None, index: dict[str, int] | None = None) -> None:
        words, vectors, counts = stored.words, stored.vectors, stored.counts
        if vectors.ndim != 2 or not vectors.size or len(vectors) != len(words):
            raise InputError(
                f"{len(words)} words need an array of ({len(words)}, size) numbers, not one of shape {vectors.shape}", place or "vectors"
            )
        self.words, self.vectors, self.subwords = words, vectors, stored.subwords
        self.key_to_index = dict(zip(words, range(len(words)), strict=True)) if index is None else index
        if len(self.key_to_index) != len(words) or "" in self.key_to_index:
            twice = next((word for row, word in enumerate(words) if self.key_to_index[word] != row), "")
            raise InputError(f"{twice!r} comes twice; every word has one vector" if twice else "a word is empty", place or "words")
        self.counts = None if counts is None else np.asarray(counts, np.int64)
        if self.counts is not None and self.counts.shape != (len(words),):
            raise InputError(f"{len(words)} words need as many counts, not {self.counts.shape}", place or "counts")
        self._checked, self._place = stored.checked, place
        self._near: Neighbours | None = None
        self._faiss: Any = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, format: str | None = None, limit: int | None = None) -> KeyedVectors:
        """Vectors from a file.

        format: "vec" or "bin", word2vec's text and binary form, "txt", GloVe's text, "safetensors", ours, or "fasttext", its models;
        without it the content tells, or the name's ending, and it is said. All but the last two may be gzipped.
        limit: the first so many rows alone. What is left out or repaired is warned of, with a count. Raises InputError "FILE:LINE: …"
        or "FILE: row N: …" where the file is missing, cut off, miscounted, not finite or of no known form.
        """
        if format is not None and format not in formats.FORMATS:
            raise InputError(f"{format!r} is not one of {', '.join(formats.FORMATS)}{meant(format, formats.FORMATS)}", "format")
        if limit is not None and limit < 1:
            raise InputError(f"must be at least 1, not {limit}", "limit")
        file = formats.VectorFile(path)
        form = format or formats.guess(file)
        if form == "fasttext":
            from weft.vectors.fasttext_model import read_model

            read = read_model(path)
            stored = Stored(read.words, read.vectors, read.counts, read.subwords)
            if limit is not None:
                stored = Stored(
                    stored.words[:limit], stored.vectors[:limit], None if stored.counts is None else stored.counts[:limit], stored.subwords
                )
        else:
            stored = formats.read(file, form, limit)
        index = dict(zip(stored.words, range(len(stored.words)), strict=True))
        if len(index) < len(stored.words):
            stored = formats.without_repeats(stored, file.name)
            index = dict(zip(stored.words, range(len(stored.words)), strict=True))
        made = cls.__new__(cls)
        made._set(stored, file.name, index)
        log.info("%s: %s words, vectors of %d, read as .%s", file.name, f"{len(made):,}", made.size, form)
        return made

    def save(self, path: str | os.PathLike[str], *, format: str | None = None) -> None:
        """Writes a file by its name's ending, or as `format` says: .vec, .bin, .txt (headerless), each perhaps with .gz, or .safetensors.

        Text holds each number's shortest decimal that reads back as the same float32. Counts and subwords go into .safetensors only.
        Raises InputError for a word with blanks (but into .safetensors), another ending, or where it cannot be written.
        """
        formats.write(path, Stored(self.words, self.vectors, self.counts, self.subwords), format)

    @property
    def size(self) -> int:
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.key_to_index

    def __repr__(self) -> str:
        return f"KeyedVectors({len(self):,} words, size {self.size})"

    def __getitem__(self, words: str | Sequence[str]) -> np.ndarray:
        """A word's vector (D,), or those of several, (n, D)."""
        if isinstance(words, str):
            return self._vector(words)
        if not isinstance(words, Iterable):
            raise self.unknown(words)
        rows = [self.key_to_index.get(word) for word in words]
        if rows and None not in rows:
            found = self.vectors[np.array(rows, np.int64)]
            if not self._checked:
                check_finite(found, self._place)
            return found
        return np.stack([self._vector(word) for word in words]) if rows else np.empty((0, self.size), np.float32)

    def get(self, word: str, default: Any = None) -> Any:
        """The word's vector, or `default` where it has none."""
        if word not in self.key_to_index and self.subwords is None:
            return default
        try:
            return self._vector(word)
        except InputError:  # none of its subwords is known
            return default

    def _vector(self, word: str) -> np.ndarray:
        row = self.key_to_index.get(word)
        if row is not None:
            vector: np.ndarray = self.vectors[row]
            if not self._checked:
                check_finite(vector[None], self._place)
            return vector
        if self.subwords is not None and isinstance(word, str):
            vector = np.asarray(self.subwords.vector(word), np.float32)
            if vector.shape != (self.size,):
                said = f"its subwords give vectors of {vector.shape}, its words ({self.size},): they do not belong together"
                raise InputError(said, self._place)
            check_finite(vector[None], f"{self._place or 'subwords'}: {word[:40]!r}")
            return vector
        raise self.unknown(word)

    def unknown(self, word: Any) -> InputError:
        """The error for a word that is not among them."""
        if not isinstance(word, str):
            return InputError(f"a word was expected, not {type(word).__name__} {str(word)[:40]}", self._place)
        near = neighbours.near_spellings(word, self.words, self.key_to_index)
        said = f"; near it are {', '.join(near)}" if near else ""
        return InputError(f"{word[:100]!r} is not among the {len(self):,} words{said}", self._place)

    @property
    def near(self) -> Neighbours:
        """The rows by direction, with their lengths worked out once."""
        if self._near is None:
            self._near = Neighbours(self.vectors, checked=self._checked, place=self._place)
            self._checked = True
        return self._near

    def _any(self, wanted: Any) -> np.ndarray:
        """The vector of a word, or a vector itself, checked."""
        if isinstance(wanted, str):
            return self._vector(wanted)
        vector = np.asarray(wanted)
        if vector.shape != (self.size,) or vector.dtype.kind not in "fiu" or not np.isfinite(vector).all():
            raise InputError(
                f"a word or {self.size} finite numbers were expected, not {type(wanted).__name__} of shape {vector.shape}", "query"
            )
        return vector

    def _list(self, wanted: Any) -> list[Any]:
        """One query or several → a list: a word, a vector (D,), a (word, weight) pair, or a sequence of them."""
        if isinstance(wanted, str) or _weighted(wanted) or (isinstance(wanted, np.ndarray) and wanted.ndim == 1):
            return [wanted]
        if not isinstance(wanted, Iterable):
            raise InputError(f"words, vectors or (word, weight) pairs were expected, not {type(wanted).__name__}", "query")
        return list(wanted)

    def direction(self, positive: Any = (), negative: Any = ()) -> tuple[np.ndarray, list[int]]:
        """The mean of the unit vectors of all that is given, negative ones turned round, at unit length (D,); the rows of the words in it.

        A pair's weight is taken as it stands (for a negative word −1 is its default, as in gensim).
        """
        total, rows = np.zeros(self.size), []
        pairs = [(each, 1.0) for each in self._list(positive)] + [(each, -1.0) for each in self._list(negative)]
        if not pairs:
            raise InputError("at least one word or vector is needed", "positive")
        for each, sign in pairs:
            what, weight = each if _weighted(each) else (each, sign)
            total += float(weight) * unit(self._any(what)).astype(np.float64)
            if isinstance(what, str) and what in self.key_to_index:
                rows.append(self.key_to_index[what])
        return unit(total), rows

    def most_similar(self, positive: Any = (), negative: Any = (), topn: int = 10, *, index: str | None = None) -> list[tuple[str, float]]:
        """The words nearest to the mean of unit vectors, nearest first, with their cosines (E54); words of the query are left out.

        positive, negative: a word, a vector (D,), a (word, weight) pair, or a sequence of them. index: "faiss" asks faiss's exact
        index (`pip install 'weft[faiss]'`), which keeps a second matrix. Raises InputError for an unknown word, topn < 1, no query.
        """
        query, rows = self.direction(positive, negative)
        return self._answers(query[None], [rows], topn, index)[0]

    def most_similar_batch(self, queries: Any, topn: int = 10, *, index: str | None = None) -> list[list[tuple[str, float]]]:
        """For each query what most_similar says, all in one product over blocks of rows.

        queries: vectors (B, D), or a sequence of words (each left out of its own answer).
        """
        if isinstance(queries, np.ndarray) and queries.dtype.kind in "fiu":
            if queries.ndim != 2 or queries.shape[1] != self.size or not np.isfinite(queries).all():
                raise InputError(f"finite numbers of shape (queries, {self.size}) were expected, not {queries.shape}", "queries")
            return self._answers(unit(queries), [[] for _ in queries], topn, index) if len(queries) else []
        asked = [self.direction(each) for each in ([queries] if isinstance(queries, str) else queries)]
        return self._answers(np.stack([query for query, _ in asked]), [rows for _, rows in asked], topn, index) if asked else []

    def _answers(self, queries: np.ndarray, left_out: Sequence[list[int]], topn: int, index: str | None) -> list[list[tuple[str, float]]]:
        if not isinstance(topn, int | np.integer) or topn < 1:
            raise InputError(f"must be at least 1, not {topn}", "topn")
        if index not in (None, "faiss"):
            raise InputError(f'{index!r} is not known; "faiss" or None', "index")
        gone = [np.unique(np.array(rows, np.int64)) for rows in left_out]
        search = self._ask_faiss if index == "faiss" else self.near.nearest
        rows, scores = search(np.ascontiguousarray(queries, np.float32), int(topn), gone)
        return [
            [(self.words[row], score) for row, score in zip(some.tolist(), their.tolist(), strict=True)]
            for some, their in zip(rows, scores, strict=True)
        ]

    def _ask_faiss(self, queries: np.ndarray, topn: int, left_out: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        if self._faiss is None:
            try:
                import faiss
            except ImportError as error:
                raise MissingExtra("faiss", 'index="faiss"') from error
            self._faiss = faiss.IndexFlatIP(self.size)
            for start in range(0, len(self), 1 << 16):
                self._faiss.add(np.ascontiguousarray(self.near.directions(slice(start, start + (1 << 16)))))
        scores, rows = self._faiss.search(queries, min(len(self), topn + max(map(len, left_out))))
        kept = [~np.isin(some, out) for some, out in zip(rows, left_out, strict=True)]
        return (
            [some[keep][:topn] for some, keep in zip(rows, kept, strict=True)],
            [some[keep][:topn] for some, keep in zip(scores, kept, strict=True)],
        )

    def similarity(self, first: Any, second: Any) -> float:
        """The cosine of two words or vectors, a·b/(‖a‖‖b‖) in [−1, 1] (E53); 0 where one is all zeros, by convention."""
        return cosine(self._any(first), self._any(second))

    def doesnt_match(self, words: Sequence[str]) -> str:
        """Of three words or more, the one that is farthest from the mean of their unit vectors. Raises InputError for fewer."""
        words = list(words)
        if isinstance(words, str) or len(words) < 3:
            raise InputError(f"at least three words are needed, not {len(words)}", "words")
        directions = np.stack([unit(self._vector(word)) for word in words]).astype(np.float64)
        return words[int(np.argmin(directions @ directions.sum(axis=0)))]

    def group_similarity(self, words: Any, group: Any) -> Any:
        """The cosine of a word, or of each of several, with the sum of a group's unit vectors (E54).

        It ranks words as their mean cosine to the group's members does. A float for one word or vector, an array (n,) for several. The
        nearest words to a group are `most_similar(group)`.
        """
        target, _ = self.direction(group)
        if isinstance(words, str) or (isinstance(words, np.ndarray) and words.ndim == 1):
            return cosine(self._any(words), target)
        return np.array([cosine(self._any(word), target) for word in words])

    def analogy(self, a: str, b: str, c: str, method: str = "add", topn: int = 10, *, shifted: bool = True) -> list[tuple[str, float]]:
        """a : b → c : ?, the best words but these three, with their scores.

        "add": cos(v, c − a + b) of unit vectors, 3CosAdd (E56). "multiply": cos(v, b) cos(v, c)/(cos(v, a) + 0.001), 3CosMul, each
        cosine as (cos + 1)/2 unless `shifted` is False (E57; Levy and Goldberg, 2014). Raises InputError for unknown words and methods.
        """
        _check_method(method)
        if method == "add":
            return self.most_similar([b, c], [a], topn)
        if topn < 1:
            raise InputError(f"must be at least 1, not {topn}", "topn")
        scores = neighbours.combine(*(self.near.cosines(unit(self._any(each))) for each in (a, b, c)), shifted=shifted)
        gone = list({self.key_to_index[word] for word in (a, b, c) if word in self.key_to_index})
        scores[gone] = -np.inf
        rows = neighbours.best(scores, min(topn, len(self) - len(gone)))
        return [(self.words[row], float(scores[row])) for row in rows.tolist()]

    def analogies(self, questions: Any, method: str = "add", *, shifted: bool = True, among: int | None = None) -> np.ndarray:
        """The answers to many questions a : b → c : ?, as rows: (N, 3) ids in, (N,) int64 out, the three left out of each.

        among: only the first so many words may answer. −1 where none is left. Products are made block by block.
        """
        _check_method(method)
        questions = np.asarray(questions, np.int64).reshape(-1, 3)
        if questions.size and (questions.min() < 0 or questions.max() >= len(self)):
            raise InputError(f"ids must be from 0 to {len(self) - 1}", "questions")
        if among is not None and among < 1:
            raise InputError(f"must be at least 1, not {among}", "among")
        return neighbours.analogies(self.near, questions, method=method, shifted=shifted, among=among)

    def document_similarity(self, first: Any, second: Any, method: str = "mean", *, normalise: bool = False) -> float:
        """How alike two texts are (E55): lists of words, or strings that are split at white space.

        "mean": the cosine of the means of their vectors. "pairs": the sum of the cosines of all pairs, in O(m + n) as the product of two
        sums of unit vectors; it grows with length, unless `normalise` divides it by m · n. Unknown words are left out, with a count; 0
        where none is left.
        """
        if method not in ("mean", "pairs"):
            raise InputError(f'{method!r} is not known; "mean" or "pairs"', "method")
        known = [self._known(text) for text in (first, second)]
        if not all(map(len, known)):
            return 0.0
        if method == "mean":
            return cosine(*(vectors.mean(axis=0, dtype=np.float64) for vectors in known))
        sums = [_directions(vectors).sum(axis=0) for vectors in known]
        return float(sums[0] @ sums[1]) / (len(known[0]) * len(known[1]) if normalise else 1)

    def _known(self, text: Any) -> np.ndarray:
        words = text.split() if isinstance(text, str) else list(text)
        found = [vector for vector in map(self.get, words) if vector is not None]
        if len(found) < len(words):
            log.warning("%s of %s words of a text have no vector and were left out", f"{len(words) - len(found):,}", f"{len(words):,}")
        return np.stack(found) if found else np.empty((0, self.size), np.float32)

    def word_classes(self, k: int, seed: int = 0) -> list[list[str]]:
        """The words in k classes, by scikit-learn's k-means on unit vectors (E121). Words, and classes by their first, keep their order.

        The same seed gives the same classes. Raises InputError unless 1 ≤ k ≤ V.
        """
        from sklearn.cluster import KMeans

        if not 1 <= k <= len(self):
            raise InputError(f"{len(self)} words make 1 to {len(self)} classes, not {k}", "k")
        labels = KMeans(k, n_init=4, random_state=seed).fit_predict(self.near.directions(slice(None)))
        classes: dict[int, list[str]] = {}
        for word, label in zip(self.words, labels.tolist(), strict=True):
            classes.setdefault(label, []).append(word)
        return list(classes.values())


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """a·b/(‖a‖‖b‖), in float64; 0 where a vector is all zeros, by convention (E53)."""
    one, other = _directions(first), _directions(second)
    return float(np.clip(one @ other, -1, 1))


def _directions(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors in float64; zeros stay zeros. The largest number is divided out first, so that no square overflows."""
    wide = np.asarray(vectors, np.float64)
    largest = np.abs(wide).max(axis=-1, keepdims=True)
    wide = np.divide(wide, largest, out=np.zeros_like(wide), where=largest > 0)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    return np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)


def _weighted(wanted: Any) -> bool:
    return isinstance(wanted, tuple) and len(wanted) == 2 and isinstance(wanted[1], Real) and not isinstance(wanted[0], Real)


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise InputError(f'{method!r} is not known; "add" or "multiply"{meant(method, METHODS)}', "method")
