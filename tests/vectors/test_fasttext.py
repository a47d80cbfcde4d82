"""Character n-grams and their buckets, held against fastText's published function in whole numbers of Python; vectors of unseen words."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.errors import InputError
from weft.vectors.fasttext import Subwords, mean_rows, ngram_buckets, subword_rows, with_own
from weft.vectors.keyed import KeyedVectors
from weft.vectors.methods import WordVectors

WORDS = ["where", "a", "", "über", "日本語", "😀", "a😀b", "na\u0308ive", "x" * 40, "<>", "\x00", "\ud800", "word with blanks"]


def published(data: bytes) -> int:
    """FNV-1a of 32 bits, each byte as a signed one that is widened to 32 bits."""
    value = 2166136261
    for byte in data:
        signed = byte - 256 if byte > 127 else byte
        value = ((value ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return value


def ngrams(word: str, shortest: int, longest: int) -> list[str]:
    """Those of "<word>", from left to right, the short ones first; a lone < or > is none."""
    marked = f"<{word}>"
    return [
        marked[start : start + size]
        for start in range(len(marked))
        for size in range(shortest, longest + 1)
        if start + size <= len(marked) and not (size == 1 and start in (0, len(marked) - 1))
    ]


@pytest.mark.parametrize("shortest, longest", [(3, 6), (1, 1), (1, 3), (2, 2), (5, 9), (30, 60)])
@pytest.mark.parametrize("buckets", [1, 7, 2_000_000, 2**31 - 1])
def test_buckets_are_those_of_the_published_function(shortest: int, longest: int, buckets: int) -> None:
    starts, ids = ngram_buckets(WORDS, buckets, shortest, longest)
    for number, word in enumerate(WORDS):
        expected = [published(part.encode("utf-8", "surrogatepass")) % buckets for part in ngrams(word, shortest, longest)]
        assert ids[starts[number] : starts[number + 1]].tolist() == expected, word


def test_known_values_of_the_hash() -> None:
    """FNV-1a's own test vectors, for bytes below 128; a byte above is another thing here than in FNV-1a."""
    assert published(b"a") == 0xE40C292C and published(b"foobar") == 0xBF9CF968
    assert ngram_buckets(["a"], 2**31 - 1, 1, 1)[1].tolist() == [0xE40C292C % (2**31 - 1)]


def test_where_has_fourteen() -> None:
    starts, _ = ngram_buckets(["where"])
    assert starts.tolist() == [0, 14]  # W25: 5 + 4 + 3 + 2
    assert ngrams("where", 3, 3) == ["<wh", "whe", "her", "ere", "re>"]


def test_no_ngrams_and_no_words() -> None:
    assert ngram_buckets(["where", "a"], 10, 3, 0)[0].tolist() == [0, 0, 0]
    starts, ids = ngram_buckets([])
    assert starts.tolist() == [0] and not len(ids)


@pytest.mark.parametrize(
    "arguments", [(10, 0, 3), (10, 4, 3), (10, 3, -1), (10, -1, 3), (0, 3, 6), (-4, 3, 6), (2**31, 3, 6), (10, 3, 10**9)]
)
def test_what_cannot_be(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match=r"^(min_n|buckets): "):
        ngram_buckets(["a"], *arguments)


def test_rows_of_words_hold_their_own_first_and_those_of_used_buckets_behind_all() -> None:
    words = ["where", "here", "a", "über"]
    (starts, rows), used = subword_rows(words, 50, 3, 4)
    every = [[published(part.encode()) % 50 for part in ngrams(word, 3, 4)] for word in words]
    assert used.tolist() == sorted({bucket for one in every for bucket in one})
    for number, one in enumerate(every):
        expected = [number, *(4 + used.tolist().index(bucket) for bucket in one)]
        assert rows[starts[number] : starts[number + 1]].tolist() == expected
    longer, joined = with_own(np.array([0, 0, 2]), np.array([5, 0]))
    assert longer.tolist() == [0, 1, 4] and joined.tolist() == [0, 1, 7, 2]


def test_means_are_means() -> None:
    table = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    found = mean_rows(table, np.array([0, 2, 2, 5]), np.array([1, 5, 0, 0, 3]))
    expected = [table[[1, 5]].mean(0), np.zeros(3), table[[0, 0, 3]].mean(0)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def trained() -> KeyedVectors:
    text = ["where the cat sat there", "here the dog sat", "the über cat and the dog were here"] * 10
    own = {"buckets": 300, "min_n": 3, "max_n": 4}
    return WordVectors("fasttext", dim=5, epochs=2, min_count=1, threads=1, settings=own).fit(text).vectors_


def by_hand(vectors: KeyedVectors, word: str) -> np.ndarray:
    used = vectors.subwords.used.tolist()
    buckets = [published(part.encode()) % 300 for part in ngrams(word, 3, 4)]
    return np.mean([vectors.subwords.table[used.index(bucket)] for bucket in buckets if bucket in used], axis=0)


@pytest.mark.parametrize("word", ["whereas", "überall", "cats", "the cat"])
def test_an_unseen_word_is_the_mean_of_its_known_ngrams(trained: KeyedVectors, word: str) -> None:
    np.testing.assert_allclose(trained[word], by_hand(trained, word), rtol=1e-5, atol=1e-8)
    assert word not in trained and len(trained.most_similar(word, topn=3)) == 3


def test_without_a_known_ngram_a_word_has_no_vector(trained: KeyedVectors) -> None:
    used = set(trained.subwords.used.tolist())
    tried = map("q{}".format, range(1000))
    unseen = next(word for word in tried if not {published(part.encode()) % 300 for part in ngrams(word, 3, 4)} & used)
    with pytest.raises(InputError, match=f"'{unseen}' is unknown, and none of its character n-grams was seen"):
        trained[unseen]
    with pytest.raises(InputError):
        trained[""]
    assert trained.get(unseen) is None


def test_safetensors_keeps_every_bit_and_text_warns(trained: KeyedVectors, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained.save(tmp_path / "v.safetensors")
    again = KeyedVectors.load(tmp_path / "v.safetensors")
    assert again.words == trained.words and again.counts.tolist() == trained.counts.tolist()
    assert again.vectors.tobytes() == trained.vectors.tobytes()
    assert all(again[word].tobytes() == trained[word].tobytes() for word in ("whereas", "überall"))
    with caplog.at_level(logging.WARNING, "weft"):
        trained.save(tmp_path / "v.vec")
    assert "only the .safetensors form keeps subwords" in caplog.text
    with pytest.raises(InputError, match="near it are where"):
        KeyedVectors.load(tmp_path / "v.vec")["wheres"]


@pytest.mark.parametrize(
    "table, used, settings",
    [
        (np.zeros((3, 2)), None, {"buckets": 4}),
        (np.zeros((3, 2)), np.array([0, 1]), {"buckets": 4}),
        (np.zeros(3), np.array([0, 1, 2]), {"buckets": 4}),
        (np.zeros((2, 2)), np.array([1, 1]), {"buckets": 4}),
        (np.zeros((2, 2)), np.array([2, 1]), {"buckets": 4}),
        (np.zeros((2, 2)), np.array([-1, 1]), {"buckets": 4}),
        (np.zeros((2, 2)), np.array([1, 4]), {"buckets": 4}),
    ],
)
def test_tables_that_do_not_fit_are_said(table: np.ndarray, used: Any, settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"^subwords: "):
        Subwords(table, used, **settings)


def test_subwords_of_all_buckets_and_of_none() -> None:
    table = np.random.default_rng(1).standard_normal((9, 2)).astype(np.float32)
    every = [published(part.encode()) % 9 for part in ngrams("where", 3, 6)]
    np.testing.assert_allclose(Subwords(table, None, buckets=9).vector("where"), table[every].mean(0), rtol=1e-5)
    with pytest.raises(InputError, match="none of its character n-grams"):
        Subwords(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), buckets=9).vector("where")
