"""Kernels of the taggers over binary features: the perceptron's greedy pass, the CRF's sums over the features that are on.

ids (N, F) int32: the features of all tokens end to end, negative where there is none; starts (B + 1,): where each sentence begins. Weights
have a row a feature, a column a label: (R, K) float32. Compiled at first use and kept on disk.
"""

# mypy: allow-untyped-calls
# (Numba has no types)

from __future__ import annotations

from typing import Any

import numpy as np

from weft.vectors.compiled import compiled, inlined

Array = np.ndarray[Any, Any]


@inlined
def _on(ids: Array, n: int, before: int, earlier: int, first: int, pairs: Array, labels: int, on: Array) -> int:
    """Writes which rows are on for token n after the labels `earlier`, `before` (`labels` where there is none); returns how many.

    From row `first` on: the label before; both labels before; pairs (words, labels + 1): the label before with the word, ids[n, 0].
    """
    count = 0
    for column in range(ids.shape[1]):
        if ids[n, column] >= 0:
            on[count] = ids[n, column]
            count += 1
    on[count] = first + before
    on[count + 1] = first + (labels + 1) * (earlier + 1) + before
    count += 2
    if ids[n, 0] >= 0 and pairs[ids[n, 0], before] >= 0:
        on[count] = pairs[ids[n, 0], before]
        count += 1
    return count


@inlined
def _chosen(weights: Array, on: Array, count: int, start: Array, transitions: Array, finish: Array, before: int, scores: Array) -> int:
    """The label with the highest sum of its weights among the legal ones, the first of equals; scores (K,): the sums, −inf if illegal."""
    labels = weights.shape[1]
    scores[:] = 0.0
    for place in range(count):
        row = on[place]
        for label in range(labels):
            scores[label] += weights[row, label]
    best, most = -1, -np.inf
    for label in range(labels):
        if not (finish[label] and (start[label] if before == labels else transitions[before, label])):
            scores[label] = -np.inf
        elif scores[label] > most:
            best, most = label, scores[label]
    return best


@compiled
def perceptron_epoch(
    order: Array, starts: Array, ids: Array, gold: Array, start: Array, transitions: Array, finish: Array, first: int, pairs: Array,
    weights: Array, totals: Array, steps: int,
) -> tuple[int, int]:  # fmt: skip
    """One pass over the sentences in this order; returns the tokens with a known tag seen so far, and this pass's mistakes.

    Where the chosen label is not the gold one: weights of the features that are on +1 for gold, −1 for the chosen. totals (R, K) float64:
    Σ steps · change, from which the mean over all steps is weights − totals / steps. finish (L, K): whether a sentence can be ended legally
    from a label with 0, 1, … tokens to come, the last row for all more.
    """
    labels, mistakes = weights.shape[1], 0
    on, scores = np.empty(ids.shape[1] + 3, np.int64), np.empty(labels, np.float32)
    for sentence in order:
        before = earlier = labels
        for n in range(starts[sentence], starts[sentence + 1]):
            left = min(starts[sentence + 1] - 1 - n, finish.shape[0] - 1)
            count = _on(ids, n, before, earlier, first, pairs, labels, on)
            best, right = _chosen(weights, on, count, start, transitions, finish[left], before, scores), gold[n]
            if right >= 0:
                if right != best:
                    mistakes += 1
                    for place in range(count):
                        row = on[place]
                        weights[row, right] += 1
                        weights[row, best] -= 1
                        totals[row, right] += steps
                        totals[row, best] -= steps
                steps += 1
            before, earlier = best, before
    return steps, mistakes


@compiled
def perceptron_tags(
    chosen: Array, starts: Array, ids: Array, start: Array, transitions: Array, finish: Array, first: int, pairs: Array, weights: Array,
    tags: Array, confidences: Array,
) -> None:  # fmt: skip
    """The labels (N,) of the chosen sentences, from left to right, and the softmax of their scores among the legal ones (N,)."""
    labels = weights.shape[1]
    on, scores = np.empty(ids.shape[1] + 3, np.int64), np.empty(labels, np.float32)
    for sentence in chosen:
        before = earlier = labels
        for n in range(starts[sentence], starts[sentence + 1]):
            left = min(starts[sentence + 1] - 1 - n, finish.shape[0] - 1)
            count = _on(ids, n, before, earlier, first, pairs, labels, on)
            best, total = _chosen(weights, on, count, start, transitions, finish[left], before, scores), 0.0
            for label in range(labels):
                total += np.exp(scores[label] - scores[best])
            tags[n], confidences[n] = best, 1.0 / total
            before, earlier = best, before


@compiled
def opened(
    batch: Array, starts: Array, ids: Array, slots: Array, rows: Array, weights: Array, squares: Array, seen: Array,
    step: int, rate: float, decay: float,
) -> int:  # fmt: skip
    """The features that are on in a batch of sentences: rows (first ones of it) lists them, slots (R,) says where; how many there are.

    Brings their weights up to date: a row that was last changed in step `seen` has been shrunk by the L2 penalty ever since.
    """
    count, labels = 0, weights.shape[1]
    for sentence in batch:
        for n in range(starts[sentence], starts[sentence + 1]):
            for column in range(ids.shape[1]):
                row = ids[n, column]
                if row >= 0 and slots[row] < 0:
                    slots[row], rows[count] = count, row
                    count += 1
                    missed = step - seen[row]
                    if decay > 0 and missed > 0 and seen[row] >= 0:
                        for label in range(labels):
                            weights[row, label] /= 1 + np.float32(missed * rate * decay) / (np.sqrt(squares[row, label]) + np.float32(1e-8))
    return count


@compiled
def logits_of(batch: Array, starts: Array, ids: Array, weights: Array, logits: Array) -> None:
    """logits (B, T, K): the sums of the weights of the features that are on, 0 at padding."""
    labels = weights.shape[1]
    for b in range(len(batch)):
        begin, n = starts[batch[b]], starts[batch[b] + 1] - starts[batch[b]]
        logits[b] = 0.0
        for t in range(n):
            for column in range(ids.shape[1]):
                row = ids[begin + t, column]
                if row >= 0:
                    for label in range(labels):
                        logits[b, t, label] += weights[row, label]


@compiled
def gathered(batch: Array, starts: Array, ids: Array, slots: Array, unary: Array, gradient: Array) -> None:
    """gradient (rows that are on, K): Σ of unary (B, T, K) over the tokens that have the feature."""
    labels = unary.shape[2]
    for b in range(len(batch)):
        begin, n = starts[batch[b]], starts[batch[b] + 1] - starts[batch[b]]
        for t in range(n):
            for column in range(ids.shape[1]):
                row = ids[begin + t, column]
                if row >= 0:
                    slot = slots[row]
                    for label in range(labels):
                        gradient[slot, label] += unary[b, t, label]


@compiled
def changed(rows: Array, gradient: Array, weights: Array, squares: Array, seen: Array, step: int, rate: float, decay: float) -> None:
    """One AdaGrad step of these rows with an L2 penalty taken as a proximal step (Duchi, Hazan & Singer, 2011).

    G ← G + g², h = √G / rate, w ← (w − g / h) / (1 + decay / h). Where no gradient has ever come, nothing changes.
    """
    for place in range(len(rows)):
        row = rows[place]
        seen[row] = step + 1
        for label in range(weights.shape[1]):
            slope = gradient[place, label]
            squares[row, label] += slope * slope
            scale = np.float32(rate) / (np.sqrt(squares[row, label]) + np.float32(1e-8))
            weights[row, label] = (weights[row, label] - scale * slope) / (1 + scale * np.float32(decay))


@compiled
def settled(weights: Array, squares: Array, seen: Array, step: int, rate: float, decay: float) -> None:
    """All weights as they are after `step` steps: those not met lately are shrunk for the steps they missed."""
    for row in range(len(weights)):
        missed = step - seen[row]
        if seen[row] >= 0 and missed > 0:
            for label in range(weights.shape[1]):
                weights[row, label] /= 1 + np.float32(missed * rate * decay) / (np.sqrt(squares[row, label]) + np.float32(1e-8))
            seen[row] = step
