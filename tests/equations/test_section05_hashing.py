"""E35, the hashing trick: exact without collisions, a bag with them, unbiased when signed, the same in every process."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.data.hashing import hashed_counts, mix, ngram_hashes, word_hash
from weft.data.tokenizers import train_tokenizer
from weft.errors import InputError

bags = st.lists(st.sampled_from(["the", "rock", "is", "destined", "to", "be", "a", "splash", "even", "greater", "than"]), max_size=30)
MASK = 2**64 - 1


def dense(tokens, buckets, **options) -> np.ndarray:
    indices, values = hashed_counts(tokens, buckets, **options)
    out = np.zeros(buckets)
    out[indices] = values
    return out


def place(token: str, buckets: int) -> int:
    """The one place that a token alone goes to."""
    (index,), (value,) = hashed_counts([token], buckets)
    assert value == 1
    return int(index)


@given(bags)
def test_e35_without_collisions_the_counts_are_exact(tokens) -> None:
    counts = Counter(tokens)
    places = {token: place(token, 10**9 + 7) for token in counts}
    assert len(set(places.values())) == len(counts)
    indices, values = hashed_counts(tokens, 10**9 + 7)
    assert dict(zip(indices.tolist(), values.tolist(), strict=True)) == {places[token]: count for token, count in counts.items()}
    assert indices.dtype == np.int64 and (np.diff(indices) > 0).all()


@given(bags, st.integers(1, 5), st.integers(-(2**70), 2**70))
def test_e35_a_bag_conserves_the_total_and_is_additive(tokens, buckets, salt) -> None:
    assert dense(tokens, buckets, salt=salt).sum() == len(tokens)
    half = len(tokens) // 2
    parts = dense(tokens[:half], buckets, salt=salt) + dense(tokens[half:], buckets, salt=salt)
    np.testing.assert_array_equal(dense(tokens, buckets, salt=salt), parts)


@given(bags, st.integers(1, 5))
def test_e35_overwriting_keeps_what_came_last(tokens, buckets) -> None:
    table, seen = np.zeros(buckets), Counter()
    for token in tokens:  # read one by one, each writing its running count over what is there
        seen[token] += 1
        table[place(token, buckets)] = seen[token]
    np.testing.assert_array_equal(dense(tokens, buckets, overwrite=True), table)


def test_e35_overwriting_loses_counts_where_the_bag_does_not() -> None:
    tokens = ["good"] * 3 + ["bad"] * 2
    assert dense(tokens, 1).tolist() == [5.0]
    assert dense(tokens, 1, overwrite=True).tolist() == [2.0]


def test_e35_signed_inner_products_are_unbiased_and_unsigned_ones_are_not() -> None:
    first = ["the", "rock", "is", "destined", "to", "be", "the", "rock"]
    second = ["the", "film", "is", "destined", "to", "be", "a", "great", "great", "splash"]
    exact = sum(count * Counter(second)[token] for token, count in Counter(first).items())
    salts = range(2000)

    def products(**options) -> np.ndarray:
        return np.array([dense(first, 6, salt=salt, **options) @ dense(second, 6, salt=salt, **options) for salt in salts])

    signed = products(signed=True)
    assert signed.std() > 1  # there are collisions
    assert abs(signed.mean() - exact) < 4 * signed.std(ddof=1) / len(salts) ** 0.5
    plain = products()
    assert plain.mean() - exact > 4 * plain.std(ddof=1) / len(salts) ** 0.5


def test_e35_signs_and_places_are_fair() -> None:
    """Over 2,000 salts a word's sign is +1 half the time, and each of 5 places is taken a fifth of the time, independently."""
    drawn = [hashed_counts(["film"], 5, signed=True, salt=salt) for salt in range(2000)]
    places = np.array([indices[0] for indices, _ in drawn])
    signs = np.array([values[0] for _, values in drawn])
    assert abs(signs.mean()) < 4 / 2000**0.5
    for number in range(5):
        assert abs((places == number).mean() - 0.2) < 4 * (0.16 / 2000) ** 0.5
        assert abs(signs[places == number].mean()) < 4 / 300**0.5


PROGRAM = """
import json
from weft.data.hashing import hashed_counts
from weft.data.tokenizers import train_tokenizer
texts = ["the rock is destined", "to be the 21st century's new conan"]
tokens = " ".join(texts).split()
out = [[part.tolist() for part in hashed_counts(tokens, 50, signed=True, salt=3)]]
for kind, settings in (("words", {"ngrams": 3, "buckets": 100}), ("hashing", {"buckets": 100, "ngrams": 2})):
    out.append([row.tolist() for row in train_tokenizer(kind, texts, **settings).encode_ids(texts)])
print(json.dumps(out))
"""


def test_e35_the_same_in_every_process() -> None:
    printed = {
        subprocess.run([sys.executable, "-c", PROGRAM], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(printed) == 1


def test_e35_the_hash_is_blake2b_and_the_mixing_splitmix64() -> None:
    assert word_hash("abc") == int.from_bytes(bytes.fromhex("d8bb14d833d59559"), "little")  # as printed by b2sum -l 64
    golden = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + k * golden) & MASK for k in range(5)], np.uint64)
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert mix(states).tolist() == published


def scalar_mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


@given(st.lists(st.integers(0, MASK), max_size=8), st.integers(1, 4))
def test_e35_ngram_hashes_against_plain_integers(hashes, n) -> None:
    expected = []
    for start in range(len(hashes) - n + 1):
        total = hashes[start]
        for value in hashes[start + 1 : start + n]:
            total = (scalar_mix(total) + value) & MASK
        expected.append(scalar_mix(total))
    assert ngram_hashes(np.array(hashes, np.uint64), n).tolist() == expected


def test_e35_order_matters_within_an_ngram() -> None:
    tokenizer = train_tokenizer("words", ["not good"], ngrams=2, buckets=10**6)
    (forth,), (back,) = (tokenizer.encode(text).ids[2:] for text in ("not good", "good not"))
    assert forth != back


def test_e35_no_buckets_is_an_error() -> None:
    with pytest.raises(InputError, match="at least 1, not 0"):
        hashed_counts(["a"], 0)
    indices, values = hashed_counts([], 3)
    assert len(indices) == len(values) == 0
