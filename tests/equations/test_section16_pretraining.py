"""Section 16: hidden tokens (E102) and neighbours (E103) of BERT's pretraining; the worked examples are W12."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from weft.data.masking import IGNORED, Masker, Masking
from weft.data.next_sentence import NEXT, OTHER, NextSentence

PAD, UNKNOWN, CLS, SEP, MASK = range(5)
SIZE = 200
ROWS = [np.concatenate([[CLS], np.random.default_rng(i).integers(5, SIZE, 1999), [SEP, 7, SEP]]) for i in range(125)]


def masker(seed: int = 0, **options) -> Masker:
    continues = np.arange(SIZE) % 3 == 0
    masking = Masking(**options)
    return Masker(masking, vocabulary_size=SIZE, mask=MASK, special=(PAD, UNKNOWN, CLS, SEP), continues=continues, seed=seed)


def within(count: int, total: int, rate: float) -> bool:
    """4σ of a binomial count."""
    return abs(count - rate * total) < 4 * math.sqrt(total * rate * (1 - rate))


@pytest.mark.parametrize("options", [{}, {"rate": 0.3, "masked": 0.5, "replaced": 0.2}])
def test_e102_rates(options):
    """15 % of the tokens are asked for; of all tokens 12 % are hidden, 1.5 % others, 1.5 % as they were (W12)."""
    make = masker(**options)
    rate, masked, replaced = make.masking.rate, make.masking.masked, make.masking.replaced
    tokens = asked = hidden = others = 0
    for epoch in range(4):  # a million tokens
        for number, row in enumerate(ROWS):
            inputs, targets = make(row, epoch, number)
            chosen = targets != IGNORED
            tokens, asked = tokens + int((row > MASK).sum()), asked + int(chosen.sum())
            hidden, others = hidden + int((inputs == MASK).sum()), others + int(((inputs != MASK) & (inputs != row)).sum())
            assert not chosen[row <= MASK].any() and (inputs[~chosen] == row[~chosen]).all() and (targets[chosen] == row[chosen]).all()
    assert within(asked, tokens, rate) and within(hidden, tokens, rate * masked)
    own = 1 / (SIZE - 5)  # a token drawn may be the one that was there
    assert within(others, tokens, rate * replaced * (1 - own))


def test_e102_others_are_any_but_special_ones():
    make, seen = masker(masked=0.0, replaced=1.0, rate=1.0), Counter()
    for number, row in enumerate(ROWS):
        inputs, _ = make(row, 0, number)
        seen.update(inputs[row > MASK].tolist())
    assert min(seen) == 5 and set(seen) == set(range(5, SIZE))
    expected = sum(seen.values()) / (SIZE - 5)
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 300  # χ² of 194: 99.9999 % are below


def test_e102_fresh_masks_in_every_epoch_and_the_same_by_the_seed():
    row = ROWS[0]
    fresh, fixed = masker(), masker(dynamic=False)
    assert all((a == b).all() for a, b in zip(fresh(row, 3, 1), masker()(row, 3, 1), strict=True))
    for other in (fresh(row, 4, 1), fresh(row, 3, 2), masker(seed=1)(row, 3, 1)):
        assert (other[1] != fresh(row, 3, 1)[1]).any()
    assert (fixed(row, 0, 1)[0] == fixed(row, 9, 1)[0]).all() and (fixed(row, 0, 1)[0] == fresh(row, 0, 1)[0]).all()


def test_e102_exact_counts():
    make = masker(exact=True)
    for number, row in enumerate(ROWS[:30]):
        assert (make(row, 0, number)[1] != IGNORED).sum() == round(0.15 * 2000)
    assert (make(np.array([CLS, 9, SEP]), 0, 0)[1] != IGNORED).sum() == 1
    assert (make(np.array([CLS, SEP]), 0, 0)[1] == IGNORED).all()


@pytest.mark.parametrize("exact", [False, True])
def test_e102_whole_words(exact):
    """A word is hidden with all its pieces, those after a special token included, or not at all; 15 % of tokens all the same."""
    make, tokens, asked = masker(whole_words=True, exact=exact), 0, 0
    for number, row in enumerate(ROWS):
        _, targets = make(row, 0, number)
        chosen = targets != IGNORED
        goes_on = make.continues[row[1:]] & (row[1:] > MASK) & (row[:-1] > MASK)
        assert (chosen[1:][goes_on] == chosen[:-1][goes_on]).all()
        tokens, asked = tokens + 2000, asked + int(chosen.sum())
        assert not exact or round(0.15 * 2000) - 1 <= chosen.sum() <= round(0.15 * 2000)
    lengths = 1.5  # words of 1, 2, … tokens: the variance of a count grows by Σ length²/Σ length, below 2 here
    assert abs(asked - 0.15 * tokens) < 4 * math.sqrt(2 * lengths * tokens * 0.15 * 0.85) or exact


def test_w12_my_dog_is_hairy():
    """Of the one word asked for: a mask 8 times of 10, another word once, itself once."""
    row, hairy, seen = np.array([CLS, 10, 11, 12, 13, SEP]), 4, Counter()
    make = masker()
    for number in range(6_000):
        inputs, targets = make(row, 0, number)
        if targets[hairy] == 13:
            seen["mask" if inputs[hairy] == MASK else "same" if inputs[hairy] == 13 else "other"] += 1
    asked = sum(seen.values())
    own = 1 / (SIZE - 5)
    assert within(asked, 6_000, 0.15) and within(seen["mask"], asked, 0.8)
    assert within(seen["other"], asked, 0.1 * (1 - own)) and within(seen["same"], asked, 0.1 + 0.1 * own)


def corpus(documents: int = 60, seed: int = 0) -> list[list[np.ndarray]]:
    """Sentences that say which they are: [document, sentence + 5, …filler]."""
    random = np.random.default_rng(seed)
    return [
        [np.array([1000 + number, 2000 + place, *[7] * int(random.integers(1, 12))]) for place in range(int(random.integers(2, 25)))]
        for number in range(documents)
    ]


def pairs(**options) -> NextSentence:
    return NextSentence(corpus(), first=CLS, separator=SEP, **{"maximum_length": 64, **options})


@pytest.mark.parametrize("same_document", [False, True])
def test_e103_half_the_pairs_are_neighbours_and_no_stranger_is_one(same_document):
    made = pairs(same_document=same_document)
    document, total, true = made.sentences.document, 0, 0
    starts = set(made.sentences.starts.tolist())
    within_document = 0
    for epoch in range(20):
        for pair in made.pairs(epoch):
            assert pair.first < pair.middle and pair.begin < pair.end
            assert document[pair.first] == document[pair.middle - 1] and document[pair.begin] == document[pair.end - 1]
            total, true = total + 1, true + (pair.label == NEXT)
            assert (pair.begin == pair.middle and document[pair.middle] == document[pair.first]) == (pair.label == NEXT)
            assert pair.begin not in starts
            within_document += pair.label == OTHER and document[pair.begin] == document[pair.first]
    assert total > 3000 and within(true, total, 0.5)
    assert (within_document > 0) == same_document


def test_e103_rows_are_what_the_pairs_say():
    made = pairs(maximum_length=200)
    rows, labels = made.rows(3)
    for row, label, pair in zip(rows, labels, made.pairs(3), strict=True):
        a, b = made.sentences.joined(pair.first, pair.middle), made.sentences.joined(pair.begin, pair.end)
        assert label == pair.label and len(row) <= 200
        if len(a) + len(b) <= 197:
            assert row.tolist() == [CLS, *a, SEP, *b, SEP]


def test_e103_what_is_too_long_loses_its_outer_ends():
    documents = [[np.arange(100, 130), np.arange(200, 230)], [np.arange(300, 330), np.arange(400, 430)]]
    rows, labels = NextSentence(documents, maximum_length=13, first=CLS, separator=SEP, short=0.0).rows(0)
    for row, label in zip(rows, labels, strict=True):
        first = row[1] // 200 * 200 + 100
        second = first + 100 if label == NEXT else (first + 300) % 400
        assert row.tolist() == [CLS, *range(first + 25, first + 30), SEP, *range(second, second + 5), SEP]
    assert len(rows) == 2


def test_e103_pairs_are_of_the_seed_and_the_epoch():
    assert pairs(seed=1).pairs(2) == pairs(seed=1).pairs(2)
    assert pairs(seed=1).pairs(2) != pairs(seed=1).pairs(3) and pairs(seed=1).pairs(2) != pairs(seed=2).pairs(2)


def test_e103_strangers_are_no_longer_and_no_shorter_than_neighbours():
    lengths = {NEXT: [], OTHER: []}
    made = pairs()
    for epoch in range(20):
        rows, labels = made.rows(epoch)
        for row, label in zip(rows, labels, strict=True):
            lengths[int(label)].append(len(row))
    means, errors = ({label: f(found) for label, found in lengths.items()} for f in (np.mean, lambda x: np.std(x) / len(x) ** 0.5))
    assert abs(means[NEXT] - means[OTHER]) < 2.5 + 4 * math.hypot(errors[NEXT], errors[OTHER])  # a part of a sentence is no B
    assert 25 < means[NEXT] < 64
