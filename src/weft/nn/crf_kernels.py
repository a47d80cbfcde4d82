"""Kernels for linear-chain conditional random fields on the CPU: forward–backward, Viterbi, the k best paths (E65).

Forward–backward runs on probabilities that are rescaled at every step (Rabiner, 1989, section V.A), in float64: a step is a product of a
vector with exp(transitions). A sentence in which a reachable cell comes near the least number, as under scores of ±1000, is done again in
logarithms, where nothing is lost. Every sentence is worked out by itself, so that neither batch mates nor threads change it.

Compiled at first use and kept on disk. Arrays: logits (B, T, K), lengths (B,), transitions (K, K) [from, to], start, end (K,).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from weft.compiling import compiled

Array = np.ndarray[Any, Any]

TINY = 1e-280  # below it a cell may have lost terms that were rounded to zero (the least number is 2e-308)
LANES = 4  # rows are padded to a multiple of it
SHARE = 4_000_000  # multiplications that are worth a thread


# sums may be reordered, else no loop over floats is vectorised; NaN and infinity stay what they are
_compiled = partial(compiled, fastmath={"reassoc", "contract", "nsz"})


def sums(
    logits: Array, peaks: Array, exps: Array, lengths: Array, chain: tuple[Array, Array, Array], tags: Array | None,
    *, gradients: bool, threads: int,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """log Z and the score of `tags`, (B,) float64 each, and log Z's gradients, minus those of the score where there are tags.

    peaks (B, T) and exps (B, T, K), float64: the largest logit and exp(logits − peaks). chain: transitions, start, end, float64.
    Gradients: of the logits (B, T, K), zero at padding, of the transitions (B, K, K), empty unless asked for. That of start is the first
    token's, that of end the last one's.
    """
    B, T, K = logits.shape
    totals, scores = np.zeros(B), np.zeros(B)
    unary = np.empty((B, T, K) if gradients else (0, 0, 0), logits.dtype)
    pairs = np.empty((B, K, K) if gradients else (0, 0, 0), logits.dtype)
    gold = np.empty((0, 0), np.int64) if tags is None else tags
    tables = (*chain, *_factors(*chain))
    _spread(_sums, lengths, T * K * K, threads, (logits, peaks, exps, lengths, *tables, gold, totals, scores, unary, pairs))
    return totals, scores, unary, pairs


def best(logits: Array, lengths: Array, chain: tuple[Array, Array, Array], *, threads: int) -> tuple[Array, Array]:
    """The best paths (B, T) int64, 0 at padding, and their scores (B,) float64: −inf where no path is legal (Viterbi, 1967)."""
    B, T, K = logits.shape
    transitions, start, end = chain
    width = -(-K // LANES) * LANES
    table = np.full((width, width), -np.inf)
    table[:K, :K] = transitions
    tags, scores = np.zeros((B, T), np.int64), np.zeros(B)
    _spread(_best, lengths, T * K * K, threads, (logits, lengths, table, start, end, tags, scores))
    return tags, scores


def best_several(logits: Array, lengths: Array, chain: tuple[Array, Array, Array], k: int, *, threads: int) -> tuple[Array, Array]:
    """The k best paths (B, k, T) int64 and their scores (B, k), descending; 0 and −inf where there are fewer."""
    B, T, K = logits.shape
    tags, scores = np.zeros((B, k, T), np.int64), np.full((B, k), -np.inf)
    _spread(_best_several, lengths, T * K * K * k, threads, (logits, lengths, *chain, tags, scores))
    return tags, scores


def _spread(kernel: Callable[..., Any], lengths: Array, work: int, threads: int, arrays: tuple[Any, ...]) -> None:
    """The kernel over all sentences, in ranges of about as many tokens, one a thread; `work`: multiplications of a sentence."""
    parts = max(1, min(threads, len(lengths), work * len(lengths) // SHARE))
    if parts == 1:
        kernel(0, len(lengths), *arrays)
        return
    edges = np.searchsorted(np.cumsum(lengths), np.arange(1, parts) * lengths.sum() / parts).tolist()
    ranges = list(zip([0, *edges], [*edges, len(lengths)], strict=True))
    others = [threading.Thread(target=kernel, args=(*limits, *arrays)) for limits in ranges[1:]]
    for thread in others:
        thread.start()
    kernel(*ranges[0], *arrays)
    for thread in others:
        thread.join()


def _factors(transitions: Array, start: Array, end: Array) -> tuple[Array, Array, Array, Array, Array]:
    """exp of a chain, each part shifted to a maximum of 1 and padded with zeros: transitions, the same transposed, start, end.

    Last, the shifts of transitions, start and end.
    """
    K = len(start)
    width = -(-K // LANES) * LANES
    shifts = [float(part.max()) if np.isfinite(part.max()) else 0.0 for part in (transitions, start, end)]
    straight = np.zeros((width, width))
    straight[:K, :K] = np.exp(transitions - shifts[0])
    first, last = np.exp(start - shifts[1]), np.exp(end - shifts[2])
    return straight, np.ascontiguousarray(straight.T), first, last, np.array(shifts)


@_compiled
def _product(x: Array, row: int, table: Array, out: Array) -> None:
    """out(j) = Σ_i x[row](i) table(i, j); all are as wide as the table, a multiple of four."""
    width = table.shape[0]
    for j in range(width):
        out[j] = 0.0
    for i in range(0, width, 4):
        a, b, c, d = x[row, i], x[row, i + 1], x[row, i + 2], x[row, i + 3]
        for j in range(width):
            out[j] += a * table[i, j] + b * table[i + 1, j] + c * table[i + 2, j] + d * table[i + 3, j]


@_compiled
def _joined(scaled: Array, weighed: Array, count: int, table: Array) -> None:
    """table(i, j) = Σ_t scaled(t, i) weighed(t, j) over the first `count` rows, a multiple of eight."""
    width = table.shape[0]
    table[:] = 0.0
    for t in range(0, count, 8):
        for i in range(width):
            a, b, c, d = scaled[t, i], scaled[t + 1, i], scaled[t + 2, i], scaled[t + 3, i]
            e, f, g, h = scaled[t + 4, i], scaled[t + 5, i], scaled[t + 6, i], scaled[t + 7, i]
            for j in range(width):
                early = a * weighed[t, j] + b * weighed[t + 1, j] + c * weighed[t + 2, j] + d * weighed[t + 3, j]
                late = e * weighed[t + 4, j] + f * weighed[t + 5, j] + g * weighed[t + 6, j] + h * weighed[t + 7, j]
                table[i, j] += early + late


@_compiled
def _lost(value: float, known: Array, row: int, edges: Array) -> bool:
    """Whether a cell this small should not be: something that is there leads to it by an edge that is not forbidden."""
    if value >= TINY:
        return False
    for i in range(edges.shape[0]):  # noqa: SIM110 (no generators in kernels)
        if known[row, i] > 0.0 and edges[i] != -np.inf:
            return True
    return False


@_compiled
def _forwards(
    logits: Array, peaks: Array, exps: Array, n: int, transitions: Array, start: Array, end: Array,
    table: Array, first: Array, last: Array, shifts: Array, alpha: Array, fresh: Array,
) -> float:  # fmt: skip
    """log Z of a sentence, and α (n, width), each row summing to 1; NaN where it has to be done in logarithms."""
    K = logits.shape[1]
    total = shifts[1] + shifts[2] + shifts[0] * (n - 1)
    for t in range(n):
        if t:
            _product(alpha, t - 1, table, fresh)
        mass, small = 0.0, 0
        for j in range(K):
            value = (fresh[j] if t else first[j]) * exps[t, j]
            alpha[t, j] = value
            mass += value
            small += value < TINY
        if not mass < np.inf:
            return np.nan
        if small:
            for j in range(K):
                if alpha[t, j] < TINY and logits[t, j] != -np.inf:
                    if t == 0 and start[j] != -np.inf:
                        return np.nan
                    if t and _lost(alpha[t, j], alpha, t - 1, transitions[:, j]):
                        return np.nan
            if mass == 0.0:
                return -np.inf
        total += peaks[t] + np.log(mass)
        scale = 1.0 / mass
        for j in range(K):
            alpha[t, j] *= scale
        for j in range(K, alpha.shape[1]):
            alpha[t, j] = 0.0
    mass = 0.0
    for j in range(K):
        mass += alpha[n - 1, j] * last[j]
    if mass < TINY:
        return np.nan if _lost(mass, alpha, n - 1, end) else -np.inf
    return total + np.log(mass)


@_compiled
def _backwards(
    logits: Array, exps: Array, n: int, transitions: Array, end: Array, table: Array, flipped: Array, last: Array,
    alpha: Array, weighed: Array, fresh: Array, unary: Array, pairs: Array, counts: Array,
) -> bool:  # fmt: skip
    """Marginals and expected transitions of a sentence from α, which is overwritten; False where it has to be done in logarithms."""
    K, width = logits.shape[1], alpha.shape[1]
    for t in range(n - 1, -1, -1):
        if t < n - 1:
            _product(weighed, t, flipped, fresh)
        mass, total, small = 0.0, 0.0, 0
        for j in range(K):
            value = fresh[j] if t < n - 1 else last[j]
            fresh[j] = value
            mass += value
            total += alpha[t, j] * value
            small += value < TINY
        if not total >= TINY:
            return False
        if small:
            for j in range(K):
                if t == n - 1 and fresh[j] < TINY and end[j] != -np.inf:
                    return False
                if t < n - 1 and _lost(fresh[j], weighed, t, transitions[j]):
                    return False
        share, scale = 1.0 / total, 1.0 / mass
        for j in range(K):
            unary[t, j] = alpha[t, j] * fresh[j] * share
            alpha[t, j] *= share
        if t:  # row t − 1: what token t, and all after it, weigh
            for j in range(K):
                value = fresh[j] * scale * exps[t, j]
                weighed[t - 1, j] = value
                if value < TINY and fresh[j] > 0.0 and logits[t, j] != -np.inf:
                    return False
            for j in range(K, width):
                weighed[t - 1, j] = 0.0
    count = n - 1
    while count % 8:
        weighed[count] = 0.0
        alpha[count] = 0.0
        count += 1
    _joined(alpha, weighed, count, counts)
    for i in range(K):
        for j in range(K):
            pairs[i, j] = counts[i, j] * table[i, j]
    return True


@_compiled
def _sums(
    begin: int, stop: int, logits: Array, peaks: Array, exps: Array, lengths: Array, transitions: Array, start: Array, end: Array,
    table: Array, flipped: Array, first: Array, last: Array, shifts: Array,
    tags: Array, totals: Array, scores: Array, unary: Array, pairs: Array,
) -> None:  # fmt: skip
    """`sums` for the sentences from `begin` to `stop`."""
    width, longest, gradients = table.shape[0], 0, unary.shape[0] > 0
    for b in range(begin, stop):
        longest = max(longest, lengths[b])
    alpha, weighed = np.empty((longest + 8, width)), np.empty((longest + 8, width))
    fresh, counts = np.empty(width), np.empty((width, width))
    for b in range(begin, stop):
        n = lengths[b]
        if gradients:
            unary[b, n:] = 0.0
        if n == 0:
            if gradients:
                pairs[b] = 0.0
            continue
        total = _forwards(logits[b], peaks[b], exps[b], n, transitions, start, end, table, first, last, shifts, alpha, fresh)
        done = not np.isnan(total)
        if done and gradients and total > -np.inf:
            done = _backwards(
                logits[b], exps[b], n, transitions, end, table, flipped, last, alpha, weighed, fresh, unary[b], pairs[b], counts
            )
        if not done:
            total = _exact(logits[b], n, transitions, start, end, gradients, unary[b if gradients else 0 :], pairs[b if gradients else 0 :])
        totals[b] = total
        if tags.shape[0]:
            scores[b] = _gold(logits[b], n, transitions, start, end, tags[b])
            if gradients:
                _subtract(n, tags[b], unary[b], pairs[b])


@_compiled
def _gold(logits: Array, n: int, transitions: Array, start: Array, end: Array, tags: Array) -> float:
    score = start[tags[0]] + end[tags[n - 1]]
    for t in range(n):
        score += logits[t, tags[t]]
        if t:
            score += transitions[tags[t - 1], tags[t]]
    return score


@_compiled
def _subtract(n: int, tags: Array, unary: Array, pairs: Array) -> None:
    for t in range(n):
        unary[t, tags[t]] -= 1.0
        if t:
            pairs[tags[t - 1], tags[t]] -= 1.0


@_compiled
def _log_sum(values: Array) -> float:
    """log Σ exp, exactly."""
    most = -np.inf
    for value in values:
        if np.isnan(value):
            return np.nan
        most = max(most, value)
    if most == -np.inf:
        return most
    total = 0.0
    for value in values:
        total += np.exp(value - most)
    return most + np.log(total)


@_compiled
def _exact(logits: Array, n: int, transitions: Array, start: Array, end: Array, gradients: bool, unaries: Array, pairwise: Array) -> float:
    """log Z of a sentence in logarithms throughout, and its gradients into the first of each of the last two."""
    K = logits.shape[1]
    alpha, beta, terms = np.empty((n, K)), np.empty((n, K)), np.empty(K)
    for t in range(n):
        for j in range(K):
            if t == 0:
                alpha[t, j] = start[j] + logits[t, j]
                continue
            for i in range(K):
                terms[i] = alpha[t - 1, i] + transitions[i, j]
            alpha[t, j] = _log_sum(terms) + logits[t, j]
    for j in range(K):
        terms[j] = alpha[n - 1, j] + end[j]
    total = _log_sum(terms)
    if not gradients or total == -np.inf:
        return total
    unary, pairs = unaries[0], pairwise[0]
    pairs[:] = 0.0
    for t in range(n - 1, -1, -1):
        for i in range(K):
            if t == n - 1:
                beta[t, i] = end[i]
            else:
                for j in range(K):
                    terms[j] = transitions[i, j] + logits[t + 1, j] + beta[t + 1, j]
                    pairs[i, j] += np.exp(alpha[t, i] + terms[j] - total)
                beta[t, i] = _log_sum(terms)
            unary[t, i] = np.exp(alpha[t, i] + beta[t, i] - total)
    return total


@_compiled
def _step(known: Array, t: int, transitions: Array) -> None:
    """known[t](j) = max_i known[t − 1](i) + transitions(i, j); all are as wide as the table, a multiple of four."""
    width = transitions.shape[0]
    for j in range(width):
        known[t, j] = -np.inf
    for i in range(0, width, 4):
        a, b, c, d = known[t - 1, i], known[t - 1, i + 1], known[t - 1, i + 2], known[t - 1, i + 3]
        for j in range(width):
            w, x = a + transitions[i, j], b + transitions[i + 1, j]
            y, z = c + transitions[i + 2, j], d + transitions[i + 3, j]
            w, y = x if x > w else w, z if z > y else y
            w = y if y > w else w
            known[t, j] = max(known[t, j], w)


@_compiled
def _best(
    begin: int, stop: int, logits: Array, lengths: Array, transitions: Array, start: Array, end: Array, tags: Array, scores: Array
) -> None:
    """`best` for the sentences from `begin` to `stop`. Where a maximum came from is looked up afterwards, on the best path alone."""
    K, width, longest = logits.shape[2], transitions.shape[0], 0
    for b in range(begin, stop):
        longest = max(longest, lengths[b])
    known = np.full((longest, width), -np.inf)
    for b in range(begin, stop):
        n = lengths[b]
        if n == 0:
            continue
        for j in range(K):
            known[0, j] = start[j] + logits[b, 0, j]
        for t in range(1, n):
            _step(known, t, transitions)
            for j in range(K):
                known[t, j] += logits[b, t, j]
        place, scores[b] = _highest(known, n - 1, end)
        tags[b, n - 1] = place
        for t in range(n - 2, -1, -1):
            place, _ = _highest(known, t, transitions[:, place])
            tags[b, t] = place


@_compiled
def _highest(known: Array, t: int, edges: Array) -> tuple[int, float]:
    """Which label makes known[t] + edges highest, the first of equals, and how high."""
    place, most = 0, -np.inf
    for i in range(edges.shape[0]):
        value = known[t, i] + edges[i]
        if value > most:
            place, most = i, value
    return place, most


@_compiled
def _merged(known: Array, edges: Array, k: int, heads: Array, values: Array, origin: Array) -> None:
    """The k best of known(i, ·) + edges(i), each known(i, ·) descending: values (k,), −inf where there are fewer, and where from."""
    heads[:] = 0
    for rank in range(k):
        most, place = -np.inf, -1
        for i in range(edges.shape[0]):
            if heads[i] < k:
                value = known[i, heads[i]] + edges[i]
                if value > most:
                    most, place = value, i
        values[rank], origin[rank] = most, 0
        if place < 0:
            values[rank:] = -np.inf
            origin[rank:] = 0
            return
        origin[rank] = place * k + heads[place]
        heads[place] += 1


@_compiled
def _best_several(
    begin: int, stop: int, logits: Array, lengths: Array, transitions: Array, start: Array, end: Array, tags: Array, scores: Array
) -> None:
    """`best_several` for the sentences from `begin` to `stop`."""
    K, k, longest = logits.shape[2], scores.shape[1], 0
    for b in range(begin, stop):
        longest = max(longest, lengths[b])
    known, fresh, heads = np.empty((K, k)), np.empty((K, k)), np.empty(K, np.int64)
    origin, last, columns = np.empty((longest, K, k), np.int64), np.empty(k, np.int64), np.ascontiguousarray(transitions.T)
    for b in range(begin, stop):
        n = lengths[b]
        if n == 0:
            scores[b, 0] = 0.0
            continue
        known[:] = -np.inf
        for j in range(K):
            known[j, 0] = start[j] + logits[b, 0, j]
        for t in range(1, n):
            for j in range(K):
                _merged(known, columns[j], k, heads, fresh[j], origin[t, j])
                fresh[j] += logits[b, t, j]
            known[:] = fresh
        _merged(known, end, k, heads, scores[b], last)
        for rank in range(k):
            if scores[b, rank] > -np.inf:
                place = last[rank]
                for t in range(n - 1, -1, -1):
                    tags[b, rank, t] = place // k
                    if t:
                        place = origin[t, place // k, place % k]
