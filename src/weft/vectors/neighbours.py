"""The nearest rows of a matrix, exactly: one matrix product, the k best without sorting; analogies in bulk; near spellings.

Lengths are divided out of the products, so that a large matrix is never copied. A row of zeros has similarity 0 to everything.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from weft.vectors.container import check_finite

BLOCK = 1 << 22  # scores at a time
QUERIES = 4096  # at most, at a time
EPSILON = 1e-3  # 3CosMul's


class Neighbours:
    """Rows (V, D) float32 by direction. Raises InputError "place: row …" for a row that is not finite, where they are not `checked`."""

    def __init__(self, vectors: np.ndarray, *, checked: bool = True, place: str | None = None) -> None:
        squares = np.empty(len(vectors), np.float32)
        step = max(1, BLOCK // max(1, vectors.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(vectors), step):
                block = vectors[start : start + step]
                np.einsum("ij,ij->i", block, block, out=squares[start : start + step])
        ordinary = (squares > 1e-30) & (squares < 1e30)
        if not checked and not np.isfinite(squares).all():
            check_finite(vectors, place)
        if not ordinary.all():  # rows of zeros, or lengths whose squares float32 has no room for
            odd = np.flatnonzero(~ordinary)
            wide = np.linalg.norm(vectors[odd].astype(np.float64), axis=1)
            if (wide > 0).any():  # rare: then the directions themselves are worked out
                vectors = unit(vectors)
                squares = np.square(vectors, dtype=np.float64).sum(axis=1).astype(np.float32)
            squares[odd[wide == 0]] = np.inf
        self.vectors = vectors
        self.inverse = 1 / np.sqrt(squares)  # (V,), 0 for a row of zeros

    def directions(self, rows: np.ndarray | slice) -> np.ndarray:
        """Rows at unit length (zeros stay zeros)."""
        return self.vectors[rows] * self.inverse[rows][:, None]

    def cosines(self, queries: np.ndarray, start: int = 0, end: int | None = None) -> np.ndarray:
        """(B, rows) cosines of unit queries (B, D), or (D,) → (rows,), with rows start to end."""
        rows, inverse = self.vectors[start:end], self.inverse[start:end]
        if queries.ndim == 1:
            return (rows @ queries) * inverse
        scores: np.ndarray = queries @ rows.T
        scores *= inverse
        return scores

    def nearest(self, queries: np.ndarray, topn: int, left_out: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """For each of unit queries (B, D) the `topn` best rows but those left out for it, best first (the earlier row where equal), and
        their cosines. Products are made block by block of rows."""
        count = len(self.vectors)
        if len(queries) > QUERIES:
            parts = [slice(first, first + QUERIES) for first in range(0, len(queries), QUERIES)]
            answers = [self.nearest(queries[part], topn, left_out[part]) for part in parts]
            return [rows for some, _ in answers for rows in some], [scores for _, some in answers for scores in some]
        if len(queries) == 1:
            scores = self.cosines(np.ascontiguousarray(queries[0]))
            scores[left_out[0]] = -np.inf
            rows = best(scores, min(topn, count - len(left_out[0])))
            return [rows], [scores[rows]]
        bests = [_Best(topn) for _ in queries]
        gone = np.concatenate(left_out), np.repeat(np.arange(len(queries)), [len(out) for out in left_out])
        step = max(1024, BLOCK // len(queries))
        turned, place = np.ascontiguousarray(queries.T), np.empty((min(step, count), len(queries)), np.float32)
        for start in range(0, count, step):
            end = min(count, start + step)
            scores = np.matmul(self.vectors[start:end], turned, out=place[: end - start])  # faster than (queries, rows)
            scores *= self.inverse[start:end, None]
            inside = (gone[0] >= start) & (gone[0] < end)
            scores[gone[0][inside] - start, gone[1][inside]] = -np.inf
            _best_of_block(scores, start, bests)
        return [each.rows for each in bests], [each.scores for each in bests]


class _Best:
    """The k best rows of a query so far, in order."""

    def __init__(self, k: int) -> None:
        self.k, self.rows, self.scores = k, np.empty(0, np.int64), np.empty(0, np.float32)

    @property
    def bound(self) -> float:
        """What a score must reach to come among them."""
        return float(self.scores[-1]) if len(self.rows) == self.k else -np.inf

    def add(self, rows: np.ndarray, scores: np.ndarray) -> None:
        fit = scores > -np.inf  # those left out are −∞
        rows, scores = np.append(self.rows, rows[fit]), np.append(self.scores, scores[fit])
        order = np.lexsort((rows, -scores))[: self.k]
        self.rows, self.scores = rows[order], scores[order]


def _best_of_block(scores: np.ndarray, start: int, bests: Sequence[_Best]) -> None:
    """Adds the best of a block (rows, queries), which begins with row `start`: only stretches of 32 rows are looked at in which the
    largest score reaches both what the query has so far and the k-th largest of the stretches' largest."""
    count, width = len(scores), 32
    stretches = count // width
    tops = scores[: stretches * width].reshape(stretches, width, -1).max(axis=1)  # (stretches, queries)
    rest, inside = np.arange(stretches * width, count), np.arange(width)
    for i, one in enumerate(bests):
        bound, top = one.bound, tops[:, i]
        if one.k < stretches:
            bound = max(bound, float(np.partition(top, stretches - one.k)[stretches - one.k]))
        rows = np.append((np.flatnonzero(top >= bound)[:, None] * width + inside).ravel(), rest)
        found = scores[rows, i]
        reach = found >= bound
        if reach.any():
            one.add(rows[reach] + start, found[reach])


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows (…, D) at unit length in float32, worked out in float64; zeros stay zeros."""
    wide = rows.astype(np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    return np.divide(wide, length, out=np.zeros_like(wide), where=length > 0).astype(np.float32)


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """The places of the k largest of (V,), largest first, the earlier one where equal.

    The k-th largest of the largest of √V stretches is a bound that k scores reach: few more do, and only those are sorted.
    """
    count = len(scores)
    if k <= 0:
        return np.empty(0, np.int64)
    width = max(16, int(np.sqrt(count)))
    stretches = count // width
    if k < stretches:
        tops = scores[: stretches * width].reshape(stretches, width).max(axis=1)
        bound = np.partition(tops, stretches - k)[stretches - k]
        rows = np.flatnonzero(scores >= bound)
    else:
        rows = np.arange(count)
    if len(rows) > 4 * k + 64:
        bound = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= bound]
    return rows[np.lexsort((rows, -scores[rows]))[:k]]


def combine(first: np.ndarray, second: np.ndarray, third: np.ndarray, *, shifted: bool = True) -> np.ndarray:
    """3CosMul of cosines with a, b, c in a : b → c : ?, cos b · cos c/(cos a + ε) (E57; Levy and Goldberg, 2014, equation 4, footnote 7).

    shifted: (cos + 1)/2 in place of cos, so that two negative ones do not multiply to a false winner.
    """
    if shifted:
        first, second, third = ((each + 1) / 2 for each in (first, second, third))
    below = first + first.dtype.type(EPSILON)
    return second * third / np.where(below == 0, below.dtype.type(1e-12), below)


def analogies(near: Neighbours, questions: np.ndarray, *, method: str, shifted: bool, among: int | None) -> np.ndarray:
    """The row that answers each of (N, 3) questions a : b → c : ?, the three left out: (N,) int64, −1 where no row is left."""
    count = min(len(near.vectors), among or len(near.vectors))
    answers = np.full(len(questions), -1, np.int64)
    for first in range(0, len(questions), 512):
        asked = questions[first : first + 512]
        a, b, c = (near.directions(asked[:, k]) for k in range(3))
        target, leading = unit(b + c - a), np.full(len(asked), -np.inf, np.float32)
        for start in range(0, count, max(1, BLOCK // 512)):
            end = min(count, start + max(1, BLOCK // 512))
            if method == "add":
                scores = near.cosines(target, start, end)
            else:
                scores = combine(*(near.cosines(each, start, end) for each in (a, b, c)), shifted=shifted)
            inside = (asked >= start) & (asked < end)
            line, which = np.nonzero(inside)
            scores[line, asked[line, which] - start] = -np.inf
            winner = scores.argmax(axis=1)
            score = scores[np.arange(len(asked)), winner]
            better = score > leading
            leading[better] = score[better]
            answers[first : first + 512][better] = winner[better] + start
    return answers


def near_spellings(word: str, words: Sequence[str], index: Mapping[str, int], most: int = 3) -> list[str]:
    """Up to `most` words spelled like one that is not among them: its other cases first, then by difflib, of the first 2,000 (files
    begin with the frequent ones) that begin or end as it does and are of about its length."""
    cases = [each for each in dict.fromkeys([word.lower(), word.capitalize(), word.upper()]) if each in index]
    if not word:
        return []
    shortest, longest, begin, end = len(word) - 2, len(word) + 2, word[0], word[-3:]
    near: list[str] = []
    for each in words:
        if shortest <= len(each) <= longest and (each[0] == begin or each.endswith(end)):
            near.append(each)
            if len(near) == 2000:
                break
    found = difflib.get_close_matches(word[:100], near, most, 0.7) if len(word) <= 100 else []
    return list(dict.fromkeys([*cases, *found]))[:most]
