"""Batches against brute force: padding, budgets, buckets, an order that is a pure function of (seed, epoch) and resumed anywhere."""

from __future__ import annotations

import itertools
import logging
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.data import batch as module
from weft.data.batch import IGNORED, Batch, Batches, make_batches, pad, with_tokens
from weft.data.lexicon import Words
from weft.data.words import WordTokenizer

LENGTHS = st.lists(st.integers(0, 12), min_size=0, max_size=40)
BUDGET = st.one_of(st.fixed_dictionaries({"examples": st.integers(1, 9)}), st.fixed_dictionaries({"tokens": st.integers(1, 40)}))
SEED = st.one_of(st.none(), st.integers(0, 2**40))


def rows_of(lengths: list[int]) -> list[np.ndarray]:
    """Rows whose numbers say whose they are: example i at step t holds 100 i + t + 1."""
    return [np.arange(1, length + 1, dtype=np.int32) + 100 * i for i, length in enumerate(lengths)]


def assert_holds(batch: Batch, rows: list[np.ndarray], targets: torch.Tensor | None = None) -> None:
    """Row by row, cell by cell: what `source` says is there, then zeros; nothing wider than the longest row."""
    longest = max([1, *(len(rows[i]) for i in batch.source)])
    assert batch.inputs.shape == batch.mask.shape == (len(batch.source), longest)
    assert (batch.inputs.dtype, batch.mask.dtype, batch.source.dtype) == (torch.int64, torch.bool, torch.int64)
    for place, example in enumerate(batch.source.tolist()):
        row = rows[example]
        for step in range(longest):
            assert bool(batch.mask[place, step]) == (step < len(row))
            assert int(batch.inputs[place, step]) == (int(row[step]) if step < len(row) else 0)
        if targets is not None:
            assert torch.equal(batch.targets[place], targets[example])


@given(LENGTHS)
def test_padding(lengths):
    rows = rows_of(lengths)
    assert_holds(pad(rows, np.arange(len(rows))), rows)


def test_padding_of_features():
    rows = [np.full((2, 3), 7.0), np.full((1, 3), 9.0)]
    batch = pad(rows, np.arange(2))
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs.tolist() == [[[7.0] * 3, [7.0] * 3], [[9.0] * 3, [0.0] * 3]]
    assert batch.mask.tolist() == [[True, True], [True, False]]
    assert pad([np.zeros((0, 3))] * 2, np.arange(2)).inputs.tolist() == [[[0.0] * 3]] * 2
    walked = list(Batches([rows[1], np.zeros((0, 3)), rows[0]], examples=2))
    assert [batch.inputs[..., 0].tolist() for batch in walked] == [[[9.0], [0.0]], [[7.0, 7.0]]]


def test_a_batch_of_nothing():
    batch = pad([], np.arange(0))
    assert len(batch) == 0 and batch.inputs.shape == batch.mask.shape == (0, 1)


@given(LENGTHS, BUDGET, SEED, st.booleans(), st.integers(0, 3))
def test_every_example_once_an_epoch(lengths, budget, seed, bucketed, epoch):
    rows, targets = rows_of(lengths), torch.arange(len(lengths))
    batches = Batches(rows, targets=targets, seed=seed, bucketed=bucketed, **budget)
    found = list(batches.epoch(epoch))
    for batch in found:
        assert_holds(batch, rows, targets)
        assert len(batch)
    assert sorted(example for batch in found for example in batch.source.tolist()) == list(range(len(rows)))
    assert len(found) == batches.steps(epoch)
    assert len(batches) == len(rows)


@given(LENGTHS, BUDGET, SEED, st.booleans())
def test_budgets_are_kept(lengths, budget, seed, bucketed):
    batches = Batches(rows_of(lengths), seed=seed, bucketed=bucketed, **budget)
    for batch in batches.epoch(1):
        if "examples" in budget:
            assert len(batch) <= budget["examples"]
        else:
            assert batch.inputs.numel() <= budget["tokens"] or len(batch) == 1  # a row longer than the budget goes alone


@given(LENGTHS, st.integers(1, 9), SEED, st.booleans())
def test_batches_are_full_but_the_last_of_a_pool(lengths, examples, seed, bucketed):
    batches = Batches(rows_of(lengths), seed=seed, bucketed=bucketed, examples=examples)
    sizes = Counter(len(batch) for batch in batches)
    pools = -(-len(lengths) // (examples * module.POOL)) if lengths else 0
    assert sum(count for size, count in sizes.items() if size < examples) <= pools


@given(LENGTHS, st.integers(1, 40))
def test_by_length_no_batch_could_take_the_next_row(lengths, tokens):
    """Sorted, not shuffled: the greedy cut, held against its definition."""
    found = [batch.source.tolist() for batch in Batches(rows_of(lengths), tokens=tokens)]
    flat = [example for batch in found for example in batch]
    assert flat == sorted(range(len(lengths)), key=lambda example: max(1, lengths[example]))  # stable: equal lengths in their order
    for batch, following in itertools.pairwise(found):
        wider = max(1, lengths[following[0]])
        assert wider * (len(batch) + 1) > tokens


@given(LENGTHS, BUDGET, SEED, st.booleans(), st.integers(0, 3), st.data())
def test_taken_up_anywhere(lengths, budget, seed, bucketed, epoch, data):
    """The rest of an epoch from a new object, with other epochs walked before, is the rest of the epoch."""
    whole = [batch.source.tolist() for batch in Batches(rows_of(lengths), seed=seed, bucketed=bucketed, **budget).epoch(epoch)]
    start = data.draw(st.integers(0, len(whole)))
    fresh = Batches(rows_of(lengths), seed=seed, bucketed=bucketed, **budget)
    for other in data.draw(st.lists(st.integers(0, 4), max_size=3)):
        fresh.steps(other)
    assert [batch.source.tolist() for batch in fresh.epoch(epoch, start)] == whole[start:]


def test_epochs_and_seeds_differ_and_global_randomness_does_not_matter():
    rows = rows_of([3, 5, 2, 8, 1, 4, 7, 6] * 4)

    def order(seed, epoch):
        return [batch.source.tolist() for batch in Batches(rows, examples=4, seed=seed).epoch(epoch)]

    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    first = order(0, 0)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(2)
    assert order(0, 0) == first
    assert len({str(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_buckets_waste_less_and_stay_random(monkeypatch):
    monkeypatch.setattr(module, "POOL", 8)
    lengths = np.random.default_rng(0).integers(1, 60, 2000).tolist()
    rows = rows_of(lengths)

    def waste(**options):
        return np.mean([1 - batch.mask.float().mean().item() for batch in Batches(rows, examples=16, **options)])

    assert waste(seed=0) < 0.2 < 0.4 < waste(seed=0, bucketed=False)
    mates = [{frozenset(batch.source.tolist()) for batch in Batches(rows, examples=16, seed=0).epoch(epoch)} for epoch in (0, 1)]
    assert not mates[0] & mates[1]  # not the same company every epoch
    sizes = [batch.inputs.shape[1] for batch in Batches(rows[: 16 * 8], examples=16, seed=0)]
    assert len(sizes) == 8 and sizes != sorted(sizes)  # and in a pool short rows do not all come before long ones


def test_every_order_is_about_equally_likely():
    """Without buckets, of three examples all six orders, each within 4σ of a sixth."""
    rows = rows_of([1, 2, 3])
    count = 3000
    seen = Counter(tuple(batch.source.item() for batch in Batches(rows, examples=1, seed=seed, bucketed=False)) for seed in range(count))
    assert len(seen) == 6
    assert all(abs(times - count / 6) < 4 * (count * 5 / 36) ** 0.5 for times in seen.values())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20), BUDGET, SEED)
def test_pairs_stay_together(lengths, budget, seed):
    first, second = rows_of([a for a, _ in lengths]), rows_of([b for _, b in lengths])
    for batch in Batches(first, pairs=second, seed=seed, **budget):
        assert_holds(batch, first)
        assert_holds(batch.pair, second)
        assert torch.equal(batch.source, batch.pair.source)
        if "tokens" in budget and len(batch) > 1:
            assert max(batch.inputs.numel(), batch.pair.inputs.numel()) <= budget["tokens"]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.data())
def test_chosen_rows_are_trimmed_to_their_own_longest(lengths, data):
    rows, targets = rows_of(lengths), torch.arange(len(lengths)) * 2
    batch = pad(rows, np.arange(len(rows)), targets)
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)), dtype=torch.int64)
    chosen = batch.rows(index)
    assert chosen.source.tolist() == index.tolist()
    assert_holds(chosen, rows, targets)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 15))
def test_split_into_micro_batches(lengths, parts):
    rows = rows_of(lengths)
    whole = pad(rows, np.arange(len(rows)), torch.arange(len(rows)))
    found = whole.split(parts)
    assert len(found) == min(parts, len(rows))
    assert [example for part in found for example in part.source.tolist()] == list(range(len(rows)))
    sizes = [len(part) for part in found]
    assert max(sizes) - min(sizes) <= 1
    if parts > 1 and len(rows) > 1:
        for part in found:
            assert_holds(part, rows, torch.arange(len(rows)))
    with pytest.raises(ValueError, match="parts=0"):
        whole.split(0)


def test_longer_rows_are_cut_and_counted(caplog):
    rows = rows_of([2, 5, 9, 4])
    with caplog.at_level(logging.WARNING, "weft"):
        batches = Batches(rows, examples=4, maximum_length=4)
    assert "2 of 4" in caplog.text and "maximum_length=4" in caplog.text
    assert_holds(next(iter(batches)), [row[:4] for row in rows])
    caplog.clear()
    Batches(rows, examples=4, maximum_length=9)
    assert not caplog.text


def test_moving_takes_everything_along():
    rows = rows_of([2, 3])
    batch = next(iter(Batches(rows, pairs=rows, targets=torch.arange(2), examples=2))).to("meta")
    assert {part.device.type for part in (batch.inputs, batch.mask, batch.targets, batch.source, batch.pair.inputs)} == {"meta"}
    assert next(iter(Batches(rows, examples=2))).to("cpu").targets is None


@pytest.mark.parametrize(
    "options,said",
    [
        ({}, "one budget"),
        ({"examples": 2, "tokens": 3}, "one budget"),
        ({"examples": 0}, "at least 1"),
        ({"tokens": -5}, "at least 1"),
        ({"examples": 2, "targets": torch.arange(2)}, "3 rows but 2 targets"),
        ({"examples": 2, "pairs": rows_of([1])}, "3 rows but 1 pairs"),
        ({"examples": 2, "maximum_length": 0}, "maximum_length=0"),
    ],
)
def test_what_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Batches(rows_of([1, 2, 3]), **options)


def test_from_texts():
    texts, others = ["b a", "", "a a a b"], ["a", "b b", "zzz"]
    tokenizer = WordTokenizer.train(["a b"], minimum_count=1)
    (batch,) = make_batches(texts, tokenizer, pairs=others, targets=torch.tensor([5, 6, 7]), examples=9)
    assert batch.source.tolist() == [0, 1, 2]  # by the longer text of each pair
    a, b = (int(tokenizer.encode_ids([word])[0][0]) for word in "ab")
    assert batch.inputs.tolist() == [[b, a, 0, 0], [0, 0, 0, 0], [a, a, a, b]]
    assert batch.pair.inputs.tolist() == [[a, 0], [b, b], [1, 0]]  # 1: unknown
    assert batch.targets.tolist() == [5, 6, 7]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=8), st.data())
def test_fingerprints_tell_data_and_budgets_apart(lengths, data):
    def made(rows, **options):
        return Batches(rows, **{"targets": torch.arange(len(rows)), "examples": 3, "seed": 1, **options}).fingerprint()

    rows = rows_of(lengths)
    same = made(rows)
    assert made(rows_of(lengths)) == same
    others = [
        made(rows, examples=4),
        made(rows, examples=None, tokens=3),
        made(rows, seed=2),
        made(rows, bucketed=False),
        made(rows, targets=None),
        made(rows, targets=torch.arange(len(rows)).flip(0)),
        made(rows, pairs=rows),
        made([*rows, rows[0]]),
    ]
    if any(lengths):
        changed = data.draw(st.sampled_from([i for i, length in enumerate(lengths) if length]))
        others.append(made([row + (i == changed) for i, row in enumerate(rows)]))
    assert len({same, *others}) == 1 + len(others)


# targets of tokens, and words that know their forms


@given(LENGTHS, BUDGET, SEED, st.integers(0, 3))
def test_targets_of_tokens_go_with_them(lengths, budget, seed, columns):
    rows = rows_of(lengths)
    targets = [row.astype(np.int64) if not columns else np.stack([row * (k + 1) for k in range(columns)], 1) for row in rows]
    for batch in Batches(rows, targets=targets, seed=seed, **budget):
        assert batch.targets.shape == (*batch.mask.shape, *([columns] if columns else []))
        if not len(batch):
            continue
        assert with_tokens(batch.targets)
        assert (batch.targets[~batch.mask] == IGNORED).all()
        for k in range(columns or 1):
            column = batch.targets[..., k] if columns else batch.targets
            assert torch.equal(column[batch.mask], batch.inputs[batch.mask] * (k + 1))


def test_parts_of_a_batch_trim_the_targets_of_its_tokens():
    rows = rows_of([5, 1, 2, 0])
    (batch,) = Batches(rows, targets=[np.stack([row, row], 1) for row in rows], examples=4, bucketed=False, seed=3)
    for part in (*batch.split(4), *batch.split(2), batch.rows(torch.tensor([1, 3])), batch.to("cpu")):
        assert part.targets.shape == (*part.mask.shape, 2)
        assert torch.equal(part.targets[part.mask][:, 0], part.inputs[part.mask])
        assert (part.targets[~part.mask] == IGNORED).all()
    sets = Batches(rows, targets=torch.ones(4, 9), examples=4)  # several labels a row are floats, and stay whole
    assert [part.targets.shape for batch in sets for part in batch.split(4)] == [(1, 9)] * 4


def test_targets_of_tokens_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="row 1 has 2 tokens but 1 targets"):
        Batches(rows_of([3, 2]), targets=[np.zeros(3, np.int64), np.zeros(1, np.int64)], examples=2)
    with pytest.raises(ValueError, match="2 rows but 1 targets"):
        Batches(rows_of([3, 2]), targets=[np.zeros(3, np.int64)], examples=2)


def test_longer_rows_are_cut_with_the_targets_of_their_tokens():
    (batch,) = Batches(rows_of([5, 2]), targets=[np.arange(5), np.arange(2)], examples=2, maximum_length=3)
    assert batch.targets.tolist() == [[0, 1, IGNORED], [0, 1, 2]]


WORDS = ["the", "The", "cat", "sat", "", "é", "x" * 40]
WORD_LISTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=8), min_size=1, max_size=12)


@given(WORD_LISTS, BUDGET, SEED)
def test_a_batch_knows_each_of_its_words_once(sentences, budget, seed):
    words = Words.train([["the", "cat", "sat"], ["The"]], features=["case", "suffix2"])
    rows, table = words.encode(sentences)
    whole = table.forms(np.arange(len(table.word)))
    for batch in Batches(rows, lexicon=table, seed=seed, **budget):
        forms = batch.forms
        assert not forms.word[0] and not forms.features[0].any() and not forms.characters[0].any()
        held = [sentences[source] for source in batch.source.tolist()]
        assert len(forms.word) == 1 + len({word for sentence in held for word in sentence})
        assert not batch.inputs[~batch.mask].any()
        for part in (batch, *batch.split(3), batch.to("cpu"), batch.rows(torch.arange(len(batch)).flip(0))):
            for row, source in enumerate(part.source.tolist()):
                for place, number in enumerate(rows[source].tolist()):
                    mine = int(part.inputs[row, place])
                    assert mine and part.mask[row, place]
                    assert part.forms.word[mine] == whole[0][number]
                    assert part.forms.features[mine].tolist() == whole[1][number].tolist()
                    width = min(part.forms.characters.shape[1], whole[2].shape[1])
                    assert part.forms.characters[mine, :width].tolist() == whole[2][number, :width].tolist()


def test_a_fingerprint_sees_tags_and_words():
    sentences = [["the", "cat"], ["sat"]]
    words = Words.train(sentences)
    rows, table = words.encode(sentences)
    tags = [np.array([0, 1]), np.array([1])]
    plain = Batches(rows, targets=tags, lexicon=table, examples=2).fingerprint()
    assert plain == Batches(rows, targets=[one.copy() for one in tags], lexicon=table, examples=2).fingerprint()
    others = [
        Batches(rows, targets=[np.array([0, 1]), np.array([0])], lexicon=table, examples=2),
        Batches(rows, targets=tags, lexicon=words.encode([["a", "cat"], ["sat"]])[1], examples=2),
        Batches(rows, targets=tags, lexicon=Words.train(sentences, features=["case"]).encode(sentences)[1], examples=2),
        Batches(rows, targets=tags, examples=2),
    ]
    assert len({plain, *(one.fingerprint() for one in others)}) == 5
