"""Training steps of the predictive methods, as Numba kernels: CBOW and skip-gram × negative sampling, hierarchical softmax and full
softmax.

An example is a hidden vector, the mean of some rows of the input table, and the words that it should predict (E39): in skip-gram the
centre and its contexts, in CBOW the contexts and their centre. A word's rows are one, or those of its character n-grams too (E51).
Gradients are written out by hand: those of E40–E45, of all examples of a block at once, each table's at the values it had before the block.

Negative sampling (E45) draws `pool` words for a whole block of skip-gram and gives each the weight negative/pool: the same expected loss
and gradient as `negative` words of its own for every pair, from fewer rows (as windows share theirs in Ji et al., 2016). In CBOW an example
is one pair, with draws of its own. Hierarchical softmax (E43) goes through the inputs that share a target, and so its path, together. Both
follow word2vec (Mikolov et al., 2013), whose program skips a draw that is the target.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from weft.vectors.compiled import compiled, inlined, lent
from weft.vectors.corpus import BOUNDARY
from weft.vectors.kernels import (
    GOLDEN,
    add_rows,
    below,
    block_scores,
    drawn,
    fetch,
    half_tanh,
    logistic,
    mixed,
    pull,
    push,
    scores,
    softplus_of,
    uniform,
)

BLOCK = 8  # examples trained at once
LONGEST = 10_000  # tokens of a sentence; the rest is a sentence of its own
SLOWEST = 1e-4  # of the learning rate, at the end of the decay


class Tables(NamedTuple):
    """inputs (R, D), outputs (O, D); starts (V + 1,), rows: the rows of inputs of word w are rows[starts[w]:starts[w + 1]]; keep (V,):
    the chance to survive subsampling; probability, alias: of the noise; nodes, labels: the inner nodes on the way to w and 1 − the code
    bit there, paths[w] … paths[w + 1]."""

    inputs: np.ndarray
    outputs: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    keep: np.ndarray
    probability: np.ndarray
    alias: np.ndarray
    paths: np.ndarray
    nodes: np.ndarray
    labels: np.ndarray


class Options(NamedTuple):
    """window: words on either side, 0 for all of the sentence; dynamic: drawn from 1 … window for each centre. cbow: contexts predict the
    centre. mean: divide a hidden vector by its number of rows; exact: and the gradient too (the original program does not, E41)."""

    window: int
    dynamic: bool
    cbow: bool
    mean: bool
    exact: bool
    negative: int
    rate: float
    total: float


class Space(NamedTuple):
    """What a thread writes into: the words of a sentence; the rows that make the hidden vector of example b, rows[first[b]:first[b + 1]];
    where its targets stand among the words of its block, low … high without skip; the arrays of a block."""

    words: np.ndarray
    rows: np.ndarray
    first: np.ndarray
    low: np.ndarray
    high: np.ndarray
    skip: np.ndarray
    H: np.ndarray
    A: np.ndarray
    G: np.ndarray
    P: np.ndarray
    lost: np.ndarray
    lost_noise: np.ndarray
    noise: np.ndarray
    common: np.ndarray
    weights: np.ndarray
    everything: np.ndarray


def space(tables: Tables, *, window: int, longest: int, pool: int, loss: str) -> Space:
    """A thread's arrays. longest: tokens of the longest sentence; pool: negatives a block."""
    size, count = tables.inputs.shape[1], len(tables.outputs)
    span = max(1, min(longest, 2 * window) if window else longest)
    around = min(longest, BLOCK + 2 * window) if window else longest
    examples = BLOCK if loss != "hs" else max(BLOCK, span)
    rows = (1 if loss == "hs" else BLOCK) * span * int(np.diff(tables.starts).max(initial=1))
    columns = {"ns": pool, "hs": int(np.diff(tables.paths).max(initial=1)), "softmax": count}[loss]
    low, high, skip = (np.empty(BLOCK, np.int64) for _ in range(3))
    H, A = (np.zeros((examples, size), np.float32) for _ in range(2))
    G, P = np.zeros((examples, columns), np.float32), np.zeros((BLOCK, around), np.float32)
    everything = np.arange(count if loss == "softmax" else 0, dtype=np.int32)
    return Space(
        np.empty(longest, np.int32), np.empty(rows, np.int32), np.zeros(examples + 1, np.int64), low, high, skip,
        H, A, G, P, np.zeros_like(P), np.zeros_like(G),
        np.zeros(BLOCK * pool, np.int32), np.zeros(pool, np.int32), np.zeros(pool, np.float32), everything,
    )  # fmt: skip


@inlined
def lent_tables(tables: Any) -> Any:
    """Tables that own nothing."""
    return Tables(
        lent(tables.inputs), lent(tables.outputs), lent(tables.starts), lent(tables.rows), lent(tables.keep),
        lent(tables.probability), lent(tables.alias), lent(tables.paths), lent(tables.nodes), lent(tables.labels),
    )  # fmt: skip


@inlined
def lent_space(own: Any) -> Any:
    """Space that owns nothing."""
    return Space(
        lent(own.words), lent(own.rows), lent(own.first), lent(own.low), lent(own.high), lent(own.skip), lent(own.H), lent(own.A),
        lent(own.G), lent(own.P), lent(own.lost), lent(own.lost_noise), lent(own.noise), lent(own.common), lent(own.weights),
        lent(own.everything),
    )  # fmt: skip


@inlined
def rate_now(options: Any, progress: Any) -> Any:
    """The learning rate, falling in a line with the share of all epochs' tokens that all threads have read."""
    done = 0
    for thread in range(progress.shape[0]):
        done += progress[thread, 0]
    return np.float32(options.rate * max(SLOWEST, 1 - done / options.total))


@inlined
def sentence(ids: Any, at: Any, keep: Any, words: Any, state: Any) -> Any:
    """Fills words with what subsampling leaves of the next sentence (E47): (how many, how many were read, where the next begins, random
    state)."""
    count = read = 0
    while at < ids.shape[0] and count < words.shape[0]:
        word = ids[at]
        at += 1
        if word == BOUNDARY:
            break
        read += 1
        state += GOLDEN
        if uniform(mixed(state)) < keep[word]:
            words[count] = word
            count += 1
    return count, read, at, state


@inlined
def reach(bits: Any, options: Any, count: Any) -> Any:
    """How many words on either side are the context."""
    if options.window == 0:
        return np.int64(count)
    return below(bits, options.window) + 1 if options.dynamic else np.int64(options.window)


@inlined
def hidden(b: int, low: int, high: int, skip: int, words: np.ndarray, tables: Tables, options: Options, own: Space) -> None:
    """H[b]: the mean (or sum) of the rows of words[low:high] without the one at `skip` (E34, E41, E51); A[b] = 0. b comes in order."""
    H, A, rows = own.H, own.A, own.rows
    first = end = own.first[b]
    for i in range(low, high):
        if i != skip:
            for place in range(tables.starts[words[i]], tables.starts[words[i] + 1]):
                rows[end] = tables.rows[place]
                end += 1
    own.first[b + 1] = end
    count = end - first
    share = np.float32(1) / np.float32(count) if options.mean and count > 1 else np.float32(1)
    add_rows(H, A, b, tables.inputs, rows, first, end, share)


@inlined
def spread(count: int, tables: Tables, options: Options, own: Space) -> None:
    """The gradients of H[b], A[b], b < count, to every row that H[b] was made of."""
    inputs, A, rows = tables.inputs, own.A, own.rows
    for b in range(count):
        share = np.float32(1)
        if options.exact and options.mean:
            share = np.float32(1) / np.float32(max(own.first[b + 1] - own.first[b], 1))
        for place in range(own.first[b], own.first[b + 1]):
            row = rows[place]
            for d in range(A.shape[1]):
                inputs[row, d] += share * A[b, d]


@inlined
def noise_gradients(count: int, words: np.ndarray, tables: Tables, options: Options, own: Space, rate: float, state: Any) -> Any:
    """G[b, m] of the drawn words: −rate · weight · σ(o) (E45). Returns (loss, random state)."""
    G, noise, common, weights, lost = own.G, own.noise, own.common, own.weights, own.lost_noise
    pool, shared = weights.shape[0], 0  # draws that stand among the block's words, so are perhaps a target
    for m in range(pool):
        state += GOLDEN
        noise[m] = drawn(mixed(state), tables.probability, tables.alias)
        common[m] = 0
        for i in range(words.shape[0]):
            common[m] += words[i] == noise[m]
        shared += common[m]
    block_scores(own.H, count, tables.outputs, noise, pool, G)
    logistic(G, count, pool, np.float32(1), lost)
    share = np.float32(options.negative) / np.float32(pool)
    total = 0.0
    for b in range(count):
        low, high, skip = own.low[b], own.high[b], own.skip[b]
        pairs = high - low - (low <= skip < high)
        for m in range(pool):
            weights[m] = share * np.float32(pairs)
        if shared:
            for m in range(pool):
                if common[m]:
                    for i in range(low, high):
                        weights[m] -= share * ((i != skip) & (words[i] == noise[m]))
        loss: Any = np.float32(0)
        for m in range(pool):
            loss += weights[m] * lost[b, m]
            G[b, m] *= -rate * weights[m]
        total += loss
    return total, state


@inlined
def target_gradients(count: int, words: np.ndarray, tables: Tables, own: Space, rate: float) -> float:
    """P[b, i − first] of the true words: rate · (1 − σ(o)) (E45), and zero for words that are not b's. Returns their loss."""
    P, lost = own.P, own.lost
    total, width = 0.0, words.shape[0]
    for b in range(count):
        scores(own.H, b, tables.outputs, words, own.low[b], own.high[b], P)
    logistic(P, count, width, np.float32(-1), lost)
    for b in range(count):
        low, high, skip = own.low[b], own.high[b], own.skip[b]
        loss: Any = np.float32(0)
        for i in range(low):  # what is no target holds old numbers
            P[b, i] = np.float32(0)
        for i in range(low, high):
            loss += lost[b, i]
            P[b, i] *= rate
        for i in range(high, width):
            P[b, i] = np.float32(0)
        if low <= skip < high:
            loss -= lost[b, skip]
            P[b, skip] = np.float32(0)
        total += loss
    return total


@inlined
def push_targets(count: int, words: np.ndarray, tables: Tables, own: Space) -> None:
    """Adds its gradient to the output row of every word of the block: those of all examples that it is a target of, at once."""
    for i in range(words.shape[0]):
        first, last = 0, count
        while first < last and not own.low[first] <= i < own.high[first]:
            first += 1
        while first < last and not own.low[last - 1] <= i < own.high[last - 1]:
            last -= 1
        if first < last:
            push(tables.outputs, words[i], i, own.P, own.H, first, last)


@inlined
def negative_block(count: int, words: np.ndarray, tables: Tables, options: Options, own: Space, rate: float, state: Any) -> Any:
    """Negative sampling for `count` examples whose H is made and whose targets in `words` are known: A and the output table. (loss,
    random state)"""
    loss, state = noise_gradients(count, words, tables, options, own, rate, state)
    loss += target_gradients(count, words, tables, own, rate)
    for b in range(count):
        pull(own.A, b, tables.outputs, own.noise, 0, own.weights.shape[0], own.G)
        pull(own.A, b, tables.outputs, words, own.low[b], own.high[b], own.P)
    for m in range(own.weights.shape[0]):
        push(tables.outputs, own.noise[m], m, own.G, own.H, 0, count)
    push_targets(count, words, tables, own)
    return loss, state


@inlined
def cbow_block(count: int, words: np.ndarray, tables: Tables, options: Options, own: Space, rate: float, state: Any) -> Any:
    """`negative_block` for examples that have one target or none, each with draws of its own: shared ones would be no fewer rows a pair."""
    G, P, noise, pool = own.G, own.P, own.noise, own.weights.shape[0]
    share = np.float32(options.negative) / np.float32(pool)
    total = 0.0
    for b in range(count):
        for m in range(b * pool, b * pool + pool):
            state += GOLDEN
            noise[m] = drawn(mixed(state), tables.probability, tables.alias)
        scores(own.H, b, tables.outputs, noise[b * pool : b * pool + pool], 0, pool, G)
        scores(own.H, b, tables.outputs, words, own.low[b], own.high[b], P)
    logistic(G, count, pool, np.float32(1), own.lost_noise)
    for b in range(count):
        low, high = own.low[b], own.high[b]
        for m in range(pool):
            weight = share if low < high and noise[b * pool + m] != words[low] else np.float32(0)
            total += weight * own.lost_noise[b, m]
            G[b, m] *= -rate * weight
        pull(own.A, b, tables.outputs, noise[b * pool : b * pool + pool], 0, pool, G)
        if low < high:
            t = half_tanh(-P[b, low])
            total += softplus_of(-P[b, low], t)
            P[b, low] = rate * (np.float32(0.5) + np.float32(0.5) * t)
            pull(own.A, b, tables.outputs, words, low, high, P)
    for b in range(count):
        for m in range(pool):
            push(tables.outputs, noise[b * pool + m], m, G, own.H, b, b + 1)
        if own.low[b] < own.high[b]:
            push(tables.outputs, words[own.low[b]], own.low[b], P, own.H, b, b + 1)
    return total, state


@inlined
def softmax_block(count: int, words: np.ndarray, tables: Tables, own: Space, rate: float) -> float:
    """The same for the full softmax (E40–E42): E_j = Σ over targets of (y_j − t_j). Returns the loss."""
    G, everything = own.G, own.everything
    loss = 0.0
    block_scores(own.H, count, tables.outputs, everything, everything.shape[0], G)
    for b in range(count):
        largest, total, targets = G[b, 0], 0.0, 0
        for j in range(1, everything.shape[0]):
            largest = max(largest, G[b, j])
        for j in range(everything.shape[0]):
            total += np.exp(G[b, j] - largest)
        for i in range(own.low[b], own.high[b]):
            if i != own.skip[b]:
                targets += 1
                loss += np.log(total) + largest - G[b, words[i]]
        share = np.float32(rate * targets / total)
        for j in range(everything.shape[0]):
            G[b, j] = -share * np.exp(G[b, j] - largest)
        for i in range(own.low[b], own.high[b]):
            if i != own.skip[b]:
                G[b, words[i]] += rate
    for b in range(count):
        pull(own.A, b, tables.outputs, everything, 0, everything.shape[0], G)
    for j in range(everything.shape[0]):
        push(tables.outputs, j, j, G, own.H, 0, count)
    return loss


@inlined
def path_gradients(count: int, target: int, tables: Tables, own: Space, rate: float) -> float:
    """Hierarchical softmax for `count` hidden vectors that share a target: A and the vectors on its path (E43). Returns the loss."""
    first, last = tables.paths[target], tables.paths[target + 1]
    nodes, width = tables.nodes[first:last], last - first
    G = own.G.reshape(own.G.size)[: count * width].reshape(count, width)  # without gaps
    lost_here = own.lost_noise.reshape(own.G.size)[: count * width].reshape(count, width)
    loss = 0.0
    block_scores(own.H, count, tables.outputs, nodes, width, G)
    for b in range(count):
        for n in range(width):
            loss -= tables.labels[first + n] * G[b, n]
    logistic(G, count, width, np.float32(1), lost_here)
    for b in range(count):
        lost: Any = np.float32(0)
        for n in range(width):
            lost += lost_here[b, n]
            G[b, n] = rate * (tables.labels[first + n] - G[b, n])
        loss += lost
        pull(own.A, b, tables.outputs, nodes, 0, width, G)
    for n in range(width):
        push(tables.outputs, nodes[n], n, G, own.H, 0, count)
    return loss


@inlined
def examples_block(first: int, count: int, total: int, tables: Tables, options: Options, own: Space, state: Any) -> Any:
    """H and targets of the centres first … first + count of a sentence. (where their words begin, where they end, pairs, random state)"""
    begin, end, pairs = total, 0, 0
    for b in range(count):
        state += GOLDEN
        centre, span = first + b, reach(mixed(state), options, total)
        low, high = max(0, centre - span), min(total, centre + span + 1)
        others = high - low - 1
        begin, end = min(begin, low), max(end, high)
        if options.cbow:
            hidden(b, low, high, centre, own.words, tables, options, own)
            own.low[b], own.high[b], own.skip[b] = centre, centre + min(others, 1), total
            pairs += min(others, 1)
        else:
            hidden(b, centre, centre + 1, total, own.words, tables, options, own)
            own.low[b], own.high[b], own.skip[b] = low, high, centre
            pairs += others
    for b in range(count):
        own.low[b] -= begin
        own.high[b] -= begin
        own.skip[b] -= begin
    return begin, end, pairs, state


@inlined
def fetch_ahead(first: int, total: int, tables: Tables, options: Options, own: Space, state: Any) -> None:
    """What the next block, from `first` on, will read is fetched: the rows of its centres, of contexts that are new, of its negatives.

    A draw is a function of its place in the row of draws, so those to come are known: one window a centre, then the negatives.
    """
    count = min(BLOCK, total - first)
    for centre in range(first, first + count):
        context = min(centre + options.window, total - 1)
        inner, outer = (context, centre) if options.cbow else (centre, context)
        word = own.words[inner]
        for place in range(tables.starts[word], tables.starts[word + 1]):
            fetch(tables.inputs, tables.rows[place])
        fetch(tables.outputs, own.words[outer])
    state += GOLDEN * np.uint64(max(count, 0))
    for _ in range(own.weights.shape[0] * (count if options.cbow else min(count, 1))):
        state += GOLDEN
        fetch(tables.outputs, drawn(mixed(state), tables.probability, tables.alias))


@compiled
def train_blocks(
    ids: np.ndarray, tables: Tables, options: Options, own: Space, progress: np.ndarray, thread: int, state: Any, full: bool
) -> Any:
    """Trains on a chunk of a corpus with negative sampling, or with the full softmax. Returns (loss, pairs)."""
    tables, own = lent_tables(tables), lent_space(own)
    loss, pairs, at = 0.0, 0, 0
    while at < ids.shape[0]:
        total, read, at, state = sentence(ids, at, tables.keep, own.words, state)
        rate = rate_now(options, progress)
        for first in range(0, total, BLOCK):
            count = min(BLOCK, total - first)
            begin, end, found, state = examples_block(first, count, total, tables, options, own, state)
            words = own.words[begin:end]
            if full:
                loss += softmax_block(count, words, tables, own, rate)
            else:
                draws = own.weights.shape[0] * (count if options.cbow else 1)
                fetch_ahead(first + BLOCK, total, tables, options, own, state + GOLDEN * np.uint64(draws))
                if options.cbow:
                    lost, state = cbow_block(count, words, tables, options, own, rate, state)
                else:
                    lost, state = negative_block(count, words, tables, options, own, rate, state)
                loss += lost
            spread(count, tables, options, own)
            pairs += found
        progress[thread, 0] += read
    return loss, pairs


@compiled
def train_paths(ids: np.ndarray, tables: Tables, options: Options, own: Space, progress: np.ndarray, thread: int, state: Any) -> Any:
    """Trains on a chunk of a corpus with hierarchical softmax. Returns (loss, pairs)."""
    tables, own = lent_tables(tables), lent_space(own)
    loss, pairs, at = 0.0, 0, 0
    words = own.words
    while at < ids.shape[0]:
        total, read, at, state = sentence(ids, at, tables.keep, words, state)
        rate = rate_now(options, progress)
        for centre in range(total):
            state += GOLDEN
            span = reach(mixed(state), options, total)
            low, high = max(0, centre - span), min(total, centre + span + 1)
            if high - low < 2:
                continue
            count = 1
            if options.cbow:
                hidden(0, low, high, centre, words, tables, options, own)
            else:
                count = 0
                for i in range(low, high):
                    if i != centre:
                        hidden(count, i, i + 1, total, words, tables, options, own)
                        count += 1
            if centre + 1 < total:  # what the next centre reads
                for place in range(tables.paths[words[centre + 1]], tables.paths[words[centre + 1] + 1]):
                    fetch(tables.outputs, tables.nodes[place])
                coming = words[min(centre + 1 + options.window, total - 1)]
                for place in range(tables.starts[coming], tables.starts[coming + 1]):
                    fetch(tables.inputs, tables.rows[place])
            loss += path_gradients(count, words[centre], tables, own, rate)
            spread(count, tables, options, own)
            pairs += count
        progress[thread, 0] += read
    return loss, pairs


@compiled
def train_pairs(
    words: np.ndarray,
    starts: np.ndarray,
    contexts: np.ndarray,
    tables: Tables,
    options: Options,
    own: Space,
    progress: np.ndarray,
    thread: int,
    state: Any,
) -> Any:
    """Trains on words and contexts that are given, contexts[starts[i]:starts[i + 1]] of words[i] (negative sampling). Returns (loss,
    pairs)."""
    tables, own = lent_tables(tables), lent_space(own)
    loss, pairs = 0.0, 0
    for first in range(0, words.shape[0], BLOCK):
        count = min(BLOCK, words.shape[0] - first)
        rate = rate_now(options, progress)
        begin, end = starts[first], starts[first + count]
        for b in range(count):
            hidden(b, first + b, first + b + 1, -1, words, tables, options, own)
            own.low[b], own.high[b], own.skip[b] = starts[first + b] - begin, starts[first + b + 1] - begin, -1
        lost, state = negative_block(count, contexts[begin:end], tables, options, own, rate, state)
        loss += lost
        pairs += end - begin
        spread(count, tables, options, own)
        progress[thread, 0] += count
    return loss, pairs
