"""Huffman's tree as paths: prefix-free, full, optimal, and a function of the counts."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.huffman import huffman_paths

counts_of = st.lists(st.integers(1, 60), min_size=1, max_size=24)


def codes(counts) -> list[str]:
    starts, _, bits = huffman_paths(np.asarray(counts))
    return ["".join(map(str, bits[starts[word] : starts[word + 1]])) for word in range(len(counts))]


def weight(counts, found: list[str]) -> int:
    return sum(count * len(code) for count, code in zip(counts, found))


def lightest(counts: tuple[int, ...]) -> int:
    """Σ count · length of the best of all binary trees: the root's two sides are every split of the words in two."""

    @cache
    def best(words: frozenset[int]) -> int:
        if len(words) < 2:
            return 0
        first, *others = sorted(words)
        splits = []
        for mask in range(2 ** len(others) - 1):
            left = frozenset([first, *(word for bit, word in enumerate(others) if mask >> bit & 1)])
            splits.append(best(left) + best(words - left))
        return min(splits) + sum(counts[word] for word in words)

    return best(frozenset(range(len(counts))))


@given(counts_of)
@settings(max_examples=150, deadline=None)
def test_codes_are_prefix_free_and_full(counts) -> None:
    found = codes(counts)
    ordered = sorted(found)
    assert not any(second.startswith(first) for first, second in pairwise(ordered))
    assert sum(2.0 ** -len(code) for code in found) == 1  # Kraft


@given(counts_of.filter(lambda counts: len(counts) > 1))
@settings(max_examples=150, deadline=None)
def test_the_mean_length_is_within_a_bit_of_the_entropy(counts) -> None:
    share = np.array(counts) / sum(counts)
    entropy = -(share * np.log2(share)).sum()
    assert entropy - 1e-9 <= weight(counts, codes(counts)) / sum(counts) < entropy + 1


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_no_tree_is_lighter(counts) -> None:
    assert weight(counts, codes(counts)) == lightest(tuple(counts))


@given(counts_of.filter(lambda counts: len(counts) > 1))
@settings(max_examples=100, deadline=None)
def test_paths_walk_one_tree_from_the_root(counts) -> None:
    """The root is node V − 2, every inner node has one parent and two ways on, and a path's nodes are those that its bits lead to."""
    starts, nodes, bits = huffman_paths(np.asarray(counts))
    assert starts.dtype == np.int64 and nodes.dtype == np.int32 and bits.dtype == np.uint8
    assert starts[0] == 0 and len(starts) == len(counts) + 1 and starts[-1] == len(nodes) == len(bits)
    ways: dict[tuple[int, int], set] = {}
    for word in range(len(counts)):
        way = range(starts[word], starts[word + 1])
        assert nodes[way[0]] == len(counts) - 2
        for place in way:
            there = ("word", word) if place == way[-1] else ("node", int(nodes[place + 1]))
            ways.setdefault((int(nodes[place]), int(bits[place])), set()).add(there)
    assert len(ways) == 2 * (len(counts) - 1) and all(len(there) == 1 for there in ways.values())
    assert {node for node, _ in ways} == set(range(len(counts) - 1))


def test_small_vocabularies() -> None:
    starts, nodes, bits = huffman_paths(np.array([7]))
    assert starts.tolist() == [0, 0] and len(nodes) == len(bits) == 0
    assert codes([3, 5]) == ["0", "1"] and codes([5, 3]) == ["1", "0"]  # the lighter is left
    assert codes([4, 4]) == ["1", "0"]  # of equal ones the later is older


def test_ties_are_broken_by_age() -> None:
    """4, 4, 4, 4, later ones first: D + C, B + A, then the two joined in the order of their making."""
    assert codes([4, 4, 4, 4]) == ["11", "10", "01", "00"]
    assert codes([2, 1, 1]) == ["0", "11", "10"]  # the word of 2 is older than the joined 1 + 1, so it goes first


@pytest.mark.parametrize("size", [1000, 1001])
def test_a_steep_vocabulary_has_long_paths(size) -> None:
    """Fibonacci's numbers make a comb: as deep as 64 bits of counts allow; equal counts a flat tree."""
    steep = [1, 1]
    while len(steep) < 85:
        steep.append(steep[-1] + steep[-2])
    assert max(map(len, codes(steep))) == 84 and sorted(map(len, codes(steep)))[0] == 1
    flat = {len(code) for code in codes([3] * size)}
    assert flat <= {9, 10}


def test_no_word_is_no_tree_to_crash_on() -> None:
    assert codes([0, 0, 5]) is not None and sum(2.0 ** -len(code) for code in codes([0, 0, 5])) == 1
