"""Noise: what each kind may do and how often it does it, against closed forms; the same for the same seed, epoch and row."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.data.corruption import LAMPLE, LEWIS, Noise, corrupt, corrupt_rows

MASK = -1
TOKENS = list(range(40))
noises = st.builds(
    Noise,
    drop=st.floats(0, 1),
    shuffle=st.integers(0, 5),
    infill=st.floats(0, 1),
    mask=st.floats(0, 1),
    span=st.floats(1, 5),
)


def many(noise: Noise, tokens=TOKENS, count: int = 2000, seed: int = 0) -> list[list[int]]:
    return corrupt_rows([tokens] * count, noise, mask=MASK, seed=seed, epoch=0, numbers=range(count))


def close(counted: int, trials: int, share: float) -> bool:
    """Within four standard deviations of a binomial."""
    return abs(counted - trials * share) <= 4 * math.sqrt(trials * share * (1 - share)) + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 2**40), st.integers(0, 99), st.integers(0, 10**6))
def test_without_noise_nothing_changes(tokens, seed, epoch, row):
    for noise in (Noise(), Noise(span=2.0)):
        assert corrupt(tokens, noise, mask=MASK, seed=seed, epoch=epoch, row=row) == tokens
    assert corrupt([], LAMPLE, mask=MASK, seed=seed, epoch=epoch, row=row) == []


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 25), noises, st.integers(0, 5), st.integers(0, 5))
def test_what_comes_out_are_tokens_of_the_row_and_masks(length, noise, epoch, row):
    tokens = list(range(length))
    found = corrupt(tokens, noise, mask=MASK, seed=0, epoch=epoch, row=row)
    left = [token for token in found if token != MASK]
    assert len(set(left)) == len(left) and set(left) <= set(tokens)
    assert found  # never nothing
    if not noise.shuffle:
        assert left == sorted(left)
    assert tokens == list(range(length))  # the row itself is untouched
    words = corrupt([str(token) for token in tokens], noise, mask=str(MASK), seed=0, epoch=epoch, row=row)
    assert words == [str(token) for token in found]


def test_drop_has_its_probability_at_every_place_and_leaves_one():
    rows = many(Noise(drop=0.1))
    kept = Counter(token for row in rows for token in row)
    assert all(close(kept[token], 2000, 0.9) for token in TOKENS)
    assert all(len(row) == 1 for row in many(Noise(drop=1.0), count=50))
    survivors = Counter(row[0] for row in many(Noise(drop=1.0), [7, 8], count=1000))
    assert close(survivors[7], 1000, 0.5)


def test_mask_has_its_probability_at_every_place_and_keeps_the_length():
    rows = many(Noise(mask=0.15))
    assert all(len(row) == len(TOKENS) for row in rows)
    assert all(close(sum(row[place] == MASK for row in rows), 2000, 0.15) for place in range(40))
    assert many(Noise(mask=1.0), count=3) == [[MASK] * 40] * 3


@pytest.mark.parametrize("reach", [1, 3])
def test_shuffle_moves_no_token_further_than_k_and_as_often_as_it_should(reach):
    rows = many(Noise(shuffle=reach))
    moves = Counter(place - token for row in rows for place, token in enumerate(row))
    assert set(moves) == set(range(-reach, reach + 1))
    assert all(sorted(row) == TOKENS for row in rows)
    # two tokens alone change places where U + 1 < U': the corner ½ (k/(k+1))² of a square
    swapped = sum(row == [1, 0] for row in many(Noise(shuffle=reach), [0, 1], count=20000))
    assert close(swapped, 20000, 0.5 * (reach / (reach + 1)) ** 2)


def spans(row: list[int], length: int) -> list[int]:
    """The lengths of the spans that the masks of a row without shuffling or dropping stand for, in order; of masks in a row, their sum."""
    found, last = [], -1
    for masked, group in groupby([*row, length], key=lambda token: token == MASK):
        tokens = list(group)
        if not masked:
            if found and found[-1] is None:
                found[-1] = tokens[0] - last - 1
            last = tokens[-1]
        else:
            found.append(None)
    return found


@pytest.mark.parametrize("share,span", [(0.3, 3.0), (0.5, 1.0), (0.07, 2.0)])
def test_infill_hides_its_share_in_spans(share, span):
    rows = many(Noise(infill=share, span=span))
    hidden = [40 - sum(token != MASK for token in row) for row in rows]
    assert set(hidden) <= {math.floor(40 * share + 1e-9), math.ceil(40 * share - 1e-9)}
    assert abs(sum(hidden) / 2000 - 40 * share) < 0.05
    assert all(sum(spans(row, 40)) == gone for row, gone in zip(rows, hidden))
    assert all(row[-1] in (39, MASK) and [token for token in row if token != MASK] == sorted({*row} - {MASK}) for row in rows)


def test_infill_draws_lengths_by_poissons_law():
    """In long rows, where few spans touch one another and the last, cut one counts for little: single masks between tokens."""
    long = list(range(4000))
    rows = many(Noise(infill=0.02, span=3.0), long, count=300)
    lengths = [length for row in rows for length in spans(row, 4000)]
    found = Counter(lengths)
    total = len(lengths)
    for length in range(6):
        expected = math.exp(-3) * 3**length / math.factorial(length)
        assert abs(found[length] / total - expected) < 0.025, (length, found[length] / total, expected)
    # masks: 80 tokens are hidden by spans of 3 on the average, and the last is cut
    assert abs(sum(row.count(MASK) for row in rows) / 300 - 80 / 3) < 1


def test_infill_hides_places_alike_from_both_ends():
    rows = many(Noise(infill=0.3, span=2.0), list(range(10)), count=6000)
    shown = Counter(token for row in rows for token in row)
    assert abs(sum(shown[place] for place in range(10)) / 60000 - 0.7) < 1e-9
    assert all(abs(shown[place] - shown[9 - place]) < 0.03 * 6000 for place in range(5))
    assert shown[0] > 1.05 * shown[4]  # fewer spans reach an end


def test_masking_after_infilling_leaves_its_masks_alone():
    rows = many(Noise(infill=0.25, mask=0.5, span=1.0), count=500)
    left = sum(token != MASK for row in rows for token in row)
    assert close(left, 500 * 30, 0.5)


def test_a_row_depends_on_seed_epoch_and_number_alone():
    noise = Noise(drop=0.1, shuffle=3, infill=0.3, mask=0.1)
    rows = [list(range(n % 17, 40)) for n in range(60)]
    whole = corrupt_rows(rows, noise, mask=MASK, seed=5, epoch=2, numbers=range(60))
    order = sorted(range(60), key=lambda n: n * 37 % 60)
    assert corrupt_rows([rows[n] for n in order], noise, mask=MASK, seed=5, epoch=2, numbers=order) == [whole[n] for n in order]
    for seed, epoch in ((5, 3), (6, 2)):
        assert sum(a != b for a, b in zip(whole, corrupt_rows(rows, noise, mask=MASK, seed=seed, epoch=epoch, numbers=range(60)))) > 55
    assert len({tuple(row) for row in many(noise, count=100)}) > 95  # the same tokens in different rows
    script = (
        "from weft.data.corruption import *; "
        "print(corrupt(range(12), Noise(drop=.1, shuffle=3, infill=.3, mask=.1), mask=-1, seed=5, epoch=2, row=9))"
    )
    fresh = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert fresh.strip() == str(corrupt(range(12), noise, mask=MASK, seed=5, epoch=2, row=9))


def test_the_published_settings_and_what_is_refused():
    assert (LAMPLE.drop, LAMPLE.shuffle, LAMPLE.mask, LAMPLE.infill) == (0.1, 3, 0, 0)
    assert (LEWIS.infill, LEWIS.span, LEWIS.drop, LEWIS.shuffle) == (0.3, 3.0, 0, 0)
    for options, words in (
        ({"drop": -0.1}, r"drop must be from 0 to 1, not -0\.1"),
        ({"mask": 1.5}, "mask must be from 0 to 1, not 1.5"),
        ({"infill": math.nan}, "infill"),
        ({"shuffle": -1}, "shuffle must be a whole number of places, 0 or more, not -1"),
        ({"shuffle": 1.5}, "shuffle"),
        ({"span": 0.5}, "span must be from 1 to 100 tokens, not 0.5"),
    ):
        with pytest.raises(ValueError, match=words):
            Noise(**options)
    with pytest.raises(ValueError, match="2 rows and 1 numbers"):
        corrupt_rows([[1], [2]], LAMPLE, mask=MASK, seed=0, epoch=0, numbers=[0])
