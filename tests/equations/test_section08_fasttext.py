"""E51: fastText's subwords, from n-grams to the gradient of each."""

from __future__ import annotations

import numpy as np
import pytest
from replay import agree, joined, make, options

from weft.errors import InputError
from weft.vectors.corpus import read_corpus
from weft.vectors.fasttext import Subwords, mean_rows, ngram_buckets, subword_rows
from weft.vectors.word2vec import Plan, train_word2vec

BUCKETS = 2_000_000
WORDS = ["where", "here", "there", "hers", "we", "wéré", "日本語"]


def bucket(ngram: str) -> int:
    """FNV-1a of the bytes, each read as signed."""
    value = 2166136261
    for byte in ngram.encode():
        value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) % 2**32
    return value % BUCKETS


def ngrams(word: str, shortest: int = 3, longest: int = 6) -> list[str]:
    text = f"<{word}>"
    return [text[i : i + n] for i in range(len(text)) for n in range(shortest, longest + 1) if i + n <= len(text)]


def test_e51_w25() -> None:
    starts, ids = ngram_buckets(["where"], BUCKETS, 3, 3)
    assert ids.tolist() == [bucket(ngram) for ngram in ("<wh", "whe", "her", "ere", "re>")]
    starts, ids = ngram_buckets(["where"], BUCKETS, 3, 6)
    assert starts.tolist() == [0, 14] and ids.tolist() == [bucket(ngram) for ngram in ngrams("where")]
    (starts, rows), used = subword_rows(["where"])
    assert len(rows) == 15 and rows[0] == 0 and sorted(used) == used.tolist() and len(used) == 14


def test_e51_rows_are_the_word_and_its_ngrams_and_are_shared() -> None:
    (starts, rows), used = subword_rows(WORDS)
    for number, word in enumerate(WORDS):
        own, *others = rows[starts[number] : starts[number + 1]]
        assert own == number
        assert [used[row - len(WORDS)] for row in others] == [bucket(ngram) for ngram in ngrams(word)]
    where, here = (set(rows[starts[i] : starts[i + 1]].tolist()) for i in (0, 1))
    assert len(where & here) == len(set(ngrams("where")) & set(ngrams("here"))) > 3
    assert rows.max() == len(WORDS) + len(used) - 1


@pytest.mark.parametrize("loss", ["ns", "hs", "softmax"])
@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("mean, exact", [(True, False), (True, True), (False, False)])
def test_e51_autograd(loss, cbow, mean, exact) -> None:
    """Every n-gram of every word moves, a shared one by each of its words."""
    (starts, rows), _ = subword_rows(WORDS)
    tables = make(loss=loss, rows=[rows[starts[i] : starts[i + 1]].tolist() for i in range(7)])
    how = options(mean=mean, exact=exact, cbow=cbow, rate=0.02)
    agree(joined([[0, 1, 2, 5, 1], [6, 3, 4]]), tables, how, loss=loss)


def test_e51_sum_and_mean_have_the_same_neighbours() -> None:
    (starts, rows), used = subword_rows(WORDS)
    table = np.random.default_rng(0).normal(size=(len(WORDS) + len(used), 12)).astype(np.float32)
    mean = mean_rows(table, starts, rows)
    total = np.array([table[rows[starts[i] : starts[i + 1]]].sum(0) for i in range(7)])
    np.testing.assert_allclose(mean * np.diff(starts)[:, None], total, atol=1e-5)
    assert np.abs(mean - total).max() > 1
    cosines = [unit @ unit.T for unit in (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (mean, total))]
    np.testing.assert_allclose(*cosines, atol=1e-6)
    assert (np.argsort(-cosines[0]) == np.argsort(-cosines[1])).all()


def test_e51_unseen_words_are_near_their_kin() -> None:
    """Two stems that keep different company; endings that no text has are where their stem is."""
    random = np.random.default_rng(0)
    stems, company = ("marvellous", "terrible"), (["sun", "joy", "song", "rose"], ["rain", "grief", "noise", "thorn"])
    texts = []
    for kind in random.integers(0, 2, 800):
        around = random.choice(company[kind], 4).tolist()
        texts.append([*around[:2], stems[kind] + str(random.choice(["", "ly", "ness"])), *around[2:]])
    corpus = read_corpus(texts, minimum_count=1)
    rows, used = subword_rows(corpus.words)
    trained = train_word2vec(corpus, Plan(dim=10, window=4, epochs=10, sample=0, rate=0.05), rows=rows)
    vectors, count = mean_rows(trained.inputs, *rows), len(corpus.words)
    subwords = Subwords(trained.inputs[count:], used)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for kind, stem in enumerate(stems):
        for unseen in (stem + "ish", "un" + stem):
            assert unseen not in corpus.words
            vector = subwords.vector(unseen)
            known = [g for g in ngrams(unseen) if bucket(g) in used]
            rows_of = np.searchsorted(used, [bucket(g) for g in known])
            np.testing.assert_allclose(vector, trained.inputs[count:][rows_of].mean(0), atol=1e-6)
            near = units @ vector
            mine, other = (near[[corpus.words.index(stems[k] + ending) for ending in ("", "ly", "ness")]] for k in (kind, 1 - kind))
            assert mine.min() > other.max()
    with pytest.raises(InputError, match="n-grams"):
        subwords.vector("qqq")
