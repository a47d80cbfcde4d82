"""Huffman's tree over words by their counts, as paths from the root: what hierarchical softmax walks (E43, E44; Huffman, 1952)."""

from __future__ import annotations

import numpy as np

from weft.compiling import compiled


def huffman_paths(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The way from the root to each word: (starts (V + 1,) int64, nodes int32, bits uint8), those of word w at starts[w]:starts[w + 1].

    Inner nodes are numbered from 0, the root last (V − 2); bit 0 is left. The two trees of least weight are joined, the older first where
    weights are equal (a word is older than any joined tree, and the rarer word older than the more frequent, the later of equal ones
    first), so that the tree is a function of the counts. One word alone has an empty path.
    """
    order = np.argsort(-np.asarray(counts, np.int64), kind="stable")[::-1]  # ascending, the later of equal ones first
    parents, bits = _joined(np.asarray(counts, np.int64)[order])
    return _paths(parents, bits, np.argsort(order))


@compiled
def _joined(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of ascending weights: each tree's parent and its bit; trees are the V words, then the V − 1 joined ones in order of age."""
    count = weights.shape[0]
    total = np.empty(2 * count - 1, np.int64)
    total[:count] = weights
    parents, bits = np.full(2 * count - 1, -1, np.int64), np.zeros(2 * count - 1, np.uint8)
    word, joined = 0, count  # the lightest of each kind that has no parent yet: both queues ascend
    for new in range(count, 2 * count - 1):
        for bit in range(2):
            if word < count and (joined >= new or total[word] <= total[joined]):
                chosen = word
                word += 1
            else:
                chosen = joined
                joined += 1
            parents[chosen], bits[chosen] = new, bit
            total[new] = total[chosen] + (total[new] if bit else 0)
    return parents, bits


@compiled
def _paths(parents: np.ndarray, bits: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = place.shape[0]
    starts = np.zeros(count + 1, np.int64)
    for word in range(count):
        tree, length = place[word], 0
        while parents[tree] >= 0:
            tree, length = parents[tree], length + 1
        starts[word + 1] = starts[word] + length
    nodes, codes = np.empty(starts[count], np.int32), np.empty(starts[count], np.uint8)
    for word in range(count):
        tree, at = place[word], starts[word + 1] - 1
        while parents[tree] >= 0:
            nodes[at], codes[at] = parents[tree] - count, bits[tree]
            tree, at = parents[tree], at - 1
    return starts, nodes, codes
