"""Splits: shares, strata, no text on two sides, the same on every machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.data.examples import Example, Splits, Table, check_trainable, named, split_table
from weft.errors import InputError


def table(labels, texts=None, task="classification", pairs=None) -> Table:
    texts = texts or [f"text {n}" for n in range(len(labels))]
    pairs = pairs or [None] * len(labels)
    return Table([Example(t, label, p, n + 1) for n, (t, label, p) in enumerate(zip(texts, labels, pairs, strict=True))], task, "here")


def sides(splits: Splits) -> list[Table]:
    return [splits.train, splits.dev] + ([splits.test] if splits.test is not None else [])


def test_a_table_knows_its_texts_labels_pairs_and_classes():
    single = table(["b", "a", "b"])
    assert (single.texts[0], single.labels, single.pairs, single.classes) == ("text 0", ["b", "a", "b"], None, ["a", "b"])
    assert table([("b", "a"), ()], task="multi-label").classes == ["a", "b"]
    assert table([0.5, 1.5], task="regression").classes == []
    assert table(["a", "b"], pairs=["x", "y"]).pairs == ["x", "y"]
    part = single.subset([2, 0], "part")
    assert ([example.line for example in part.examples], part.name, part.task) == ([3, 1], "part", "classification")


def test_selection_has_no_test_set():
    splits = split_table(table(list("ab") * 20))
    assert splits.selection == (splits.train, splits.dev)
    assert split_table(table(list("ab") * 20), test=0).test is None


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 60)), min_size=12, max_size=150),
    st.sampled_from([(0.1, 0.1), (0.2, 0.0), (0.25, 0.25), (0.0, 0.3)]),
    st.integers(0, 3),
)
def test_every_example_is_on_one_side_and_no_text_on_two(rows, shares, seed):
    whole = table([label for label, _ in rows], [f" Text  {n}" if k % 2 else f"text {n}" for k, (_, n) in enumerate(rows)])
    try:
        splits = split_table(whole, dev=shares[0], test=shares[1], seed=seed)
    except InputError:
        assert len({n for _, n in rows}) < 20  # few different texts: nothing to set aside
        return
    lines = [example.line for side in sides(splits) for example in side.examples]
    assert sorted(lines) == list(range(1, len(rows) + 1))
    keys = [{" ".join(text.lower().split()) for text in side.texts} for side in sides(splits)]
    assert sum(map(len, keys)) == len(set.union(*keys))
    for side in sides(splits):
        assert [e.line for e in side.examples] == sorted(e.line for e in side.examples)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 80), min_size=2), st.integers(0, 5))
def test_classes_are_shared_out_in_proportion_and_all_stay_in_train(sizes, seed):
    labels = [label for label, size in sizes.items() for _ in range(size)]
    total = len(labels)
    if total < 12 or all(size == 1 for size in sizes.values()):
        return
    splits = split_table(table(labels), dev=0.2, test=0.2, seed=seed)
    assert set(splits.train.labels) == set(sizes)
    for side in (splits.dev, splits.test):
        assert side is not None
        counts = Counter(side.labels)
        # each class to within one example of its share of what this side took, itself a rounded fifth
        assert all(abs(counts[label] - 0.2 * size) <= 1.5 for label, size in sizes.items())
        assert abs(len(side) - 0.2 * total) <= 1 + sum(size == 1 for size in sizes.values())


def test_even_classes_are_shared_out_exactly():
    splits = split_table(table(["x"] * 600 + ["y"] * 300 + ["z"] * 100), seed=4)
    assert Counter(splits.test.labels) == Counter(splits.dev.labels) == {"x": 60, "y": 30, "z": 10}


def test_tiny_classes_and_tiny_tables():
    assert set(split_table(table(["a"] * 30 + ["b"])).train.labels) == {"a", "b"}
    three = split_table(table(["a", "a", "a"]))
    assert [len(side) for side in sides(three)] == [1, 1, 1]
    for labels, texts in ((["a", "a"], None), (["a", "b", "c", "d"], None), (["a"] * 9, ["same"] * 9), ([], None)):
        with pytest.raises(InputError, match=r"here: .* too few"):
            split_table(table(labels, texts))
    for shares in ({"dev": -0.1}, {"dev": 0.5, "test": 0.5}):
        with pytest.raises(ValueError, match="must not be negative"):
            split_table(table(["a"] * 9), **shares)


def test_seeds_differ_and_hashing_does_not_matter():
    whole = table([("a",), ("a", "b"), ("b", "c")] * 40, task="multi-label")
    found = [split_table(whole, seed=seed).test.texts for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    code = (
        "from weft.data.examples import *\n"
        "whole = Table([Example(f'text {n}', [('a',), ('a', 'b'), ('b', 'c')][n % 3]) for n in range(120)], 'multi-label', 'here')\n"
        "print(split_table(whole).test.texts)"
    )
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(found[0])


def test_pairs_are_one_text_and_numbers_one_stratum():
    pairs = split_table(table(["a", "b"] * 15, ["same"] * 30, pairs=[f"other {n}" for n in range(30)]))
    assert [len(side) for side in sides(pairs)] == [24, 3, 3]
    numbers = split_table(table([n / 7 for n in range(50)], task="regression"))
    assert [len(side) for side in sides(numbers)] == [40, 5, 5]


def test_nothing_to_train_on_is_refused():
    check_trainable(table(["a", "b"]))
    with pytest.raises(InputError, match="no examples"):
        check_trainable(table([]))
    with pytest.raises(InputError, match="--label-column"):
        check_trainable(table([None], task="unlabelled"))


def test_names_for_messages():
    assert [named(list("abc")[:n]) for n in range(4)] == ["", "'a'", "'a' and 'b'", "'a', 'b' and 'c'"]
    assert named([str(n) for n in range(12)]).endswith("'8' and 3 more")
