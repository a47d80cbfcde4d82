"""Training as a whole: epochs, chunks, rates and seeds replayed; repeatable; what is refused; what diverges is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from replay import Draws, replayed, step

from weft.errors import InputError
from weft.vectors import steps, word2vec
from weft.vectors.corpus import BOUNDARY, read_corpus
from weft.vectors.fasttext import subword_rows
from weft.vectors.syntax import Dependencies
from weft.vectors.word2vec import Plan, identity_rows, longest_sentence, make_tables, train_given, train_word2vec

LOSSES = ("ns", "hs", "softmax")


def topics(count: int = 300, size: int = 12, seed: int = 0):
    """Sentences of eight words, each from one of two kinds."""
    random = np.random.default_rng(seed)
    return read_corpus(
        [[f"{'ab'[kind]}{w}" for w in random.integers(0, size, 8)] for kind in random.integers(0, 2, count)], minimum_count=1
    )


def state_of(plan: Plan, epoch: int, chunk: int) -> int:
    return int(np.random.SeedSequence([plan.seed, epoch, chunk]).generate_state(1, np.uint64)[0])


def options_of(plan: Plan, total: float) -> steps.Options:
    return steps.Options(plan.window, plan.dynamic, plan.cbow, plan.mean, plan.exact_mean, plan.negative, plan.rate, total)


@pytest.mark.parametrize("subwords", [False, True])
@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_three_epochs_as_autograd_does_them(loss, cbow, subwords) -> None:
    corpus = read_corpus([["to", "be", "or", "not", "to", "be"], ["that", "is", "it"], ["be", "it", "so", "or", "be", "not", "to"] * 2])
    assert len(corpus.words) < 5  # min_count is 5 unless asked otherwise
    corpus = read_corpus([["to", "be", "or", "not", "to", "be"], ["that", "is", "it"], ["be", "it", "so", "or", "be"] * 3], minimum_count=1)
    plan = Plan(cbow=cbow, loss=loss, dim=7, window=3, negative=2, epochs=3, sample=0.05, rate=0.2, seed=11)
    rows = subword_rows(corpus.words)[0] if subwords else identity_rows(len(corpus.words))
    pool = 1 if cbow else word2vec.POOL
    trained = train_word2vec(corpus, plan, rows=rows)
    tables, read = make_tables(plan, corpus.counts, rows), 0
    assert np.abs(tables.inputs).max() <= 0.5 / 7 and tables.inputs.std() > 0.02 and not tables.outputs.any()
    for epoch in range(3):
        how = options_of(plan, 3 * corpus.tokens)
        found, lost, pairs = replayed(corpus.chunk(0), tables, how, loss=loss, pool=2 * pool, state=state_of(plan, epoch, 0), read=read)
        tables, read = tables._replace(inputs=found[0], outputs=found[1]), read + corpus.tokens
        assert trained.losses[epoch] == pytest.approx(lost / pairs, rel=2e-5)
    np.testing.assert_allclose(trained.inputs, tables.inputs.numpy(), atol=1e-5)
    np.testing.assert_allclose(trained.outputs, tables.outputs.numpy(), atol=1e-5)
    assert np.abs(trained.outputs).max() > 0.01 and trained.words == 3 * corpus.tokens


def test_given_contexts_as_autograd_does_them() -> None:
    """Eleven words are two blocks, of one to four contexts each, which have a vocabulary and a table of their own."""
    random = np.random.default_rng(3)
    ids, lengths = np.append(random.integers(0, 5, 8), [0, 4, 2]).astype(np.int32), random.integers(1, 5, 11)
    starts = np.append(0, np.cumsum(lengths)).astype(np.int64)
    targets = random.integers(0, 7, starts[-1]).astype(np.int32)
    counts, context_counts = np.bincount(np.repeat(ids, lengths), minlength=5), np.bincount(targets, minlength=7) + 1
    found = Dependencies(list("vwxyz"), counts, list("abcdefg"), context_counts, ids, starts, targets)
    plan = Plan(dim=6, negative=3, epochs=4, sample=0, rate=0.5, seed=2)
    trained = train_given(found, plan)
    tables, pool = make_tables(plan, counts, identity_rows(5), context_counts), 3 * word2vec.POOL
    inputs, outputs = (torch.from_numpy(table).double() for table in (tables.inputs, tables.outputs))
    assert inputs.shape == (5, 6) and outputs.shape == (7, 6)
    for epoch in range(4):
        draws, total = Draws(state_of(plan, epoch, 0)), 0.0
        for first in (0, 8):
            drawn = [[draws.noise(tables.probability, tables.alias) for _ in range(pool)]]
            last = min(first + 8, 11)
            block = [([int(ids[i])], targets[starts[i] : starts[i + 1]].tolist()) for i in range(first, last)]
            rate = 0.5 * (1 - (epoch * 11 + first) / 44)
            inputs, outputs, lost = step(block, tables, options_of(plan, 44), inputs, outputs, rate, "ns", drawn)
            total += lost
        assert trained.losses[epoch] == pytest.approx(total / len(targets), rel=1e-5)
    np.testing.assert_allclose(trained.inputs, inputs.numpy(), atol=1e-5)
    np.testing.assert_allclose(trained.outputs, outputs.numpy(), atol=1e-5)
    assert np.abs(trained.outputs).max() > 0.05 and trained.words == 44


def test_given_contexts_in_chunks(monkeypatch) -> None:
    """Chunks of 16 words, with two threads: every word is trained on, and two kinds come apart."""
    monkeypatch.setattr(word2vec, "GIVEN", 16)
    random = np.random.default_rng(0)
    ids = random.integers(0, 10, 2000).astype(np.int32)
    starts = np.arange(0, 4001, 2, dtype=np.int64)
    targets = (random.integers(0, 5, 4000) + 5 * np.repeat(ids >= 5, 2)).astype(np.int32)
    counts = np.bincount(ids) * 2, np.bincount(targets)
    found = Dependencies(list("abcdefghij"), counts[0], list("ABCDEFGHIJ"), counts[1], ids, starts, targets)
    trained = train_given(found, Plan(dim=8, epochs=5, rate=0.05, threads=2))
    assert trained.words == 10_000 and trained.losses[-1] < trained.losses[0] - 0.2
    unit = trained.inputs / np.linalg.norm(trained.inputs, axis=1, keepdims=True)
    assert (unit @ unit.T)[:5, :5].min() > (unit @ unit.T)[:5, 5:].max()


def test_given_contexts_are_for_negative_sampling() -> None:
    found = Dependencies(list("ab"), np.ones(2, int), list("cd"), np.ones(2, int), *(np.array(a, np.int32) for a in ([0, 1],)),
                         np.array([0, 1, 2], np.int64), np.array([0, 1], np.int32))  # fmt: skip
    for loss in ("hs", "softmax"):
        with pytest.raises(InputError, match="loss"):
            train_given(found, Plan(loss=loss))


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_one_thread_is_repeatable(loss, cbow) -> None:
    corpus, plan = topics(60), Plan(cbow=cbow, loss=loss, dim=6, epochs=2)
    first, again = train_word2vec(corpus, plan), train_word2vec(topics(60), plan)
    assert first.inputs.tobytes() == again.inputs.tobytes() and first.outputs.tobytes() == again.outputs.tobytes()
    assert first.losses == again.losses
    other = train_word2vec(corpus, replace(plan, seed=2))
    assert not np.allclose(other.inputs, first.inputs, atol=1e-3)


def test_words_that_are_trained_again_are_drawn_anew() -> None:
    """Epochs and chunks have draws of their own."""
    plan = Plan()
    assert len({state_of(plan, epoch, chunk) for epoch in range(5) for chunk in range(5)}) == 25


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_many_threads_and_chunks_learn(loss, cbow, monkeypatch) -> None:
    monkeypatch.setattr("weft.vectors.corpus.BLOCK", 200)  # some thirty words a chunk
    corpus = topics(2000)
    assert len(corpus) > 20
    plan = Plan(cbow=cbow, loss=loss, dim=8, window=4, epochs=4, sample=0, rate=0.05, threads=2)
    seen: list[float] = []
    trained = train_word2vec(corpus, plan, watch=lambda done, speed: seen.append(done))
    one = train_word2vec(corpus, replace(plan, threads=1))
    assert trained.words == one.words == 4 * corpus.tokens == 64_000
    assert np.all(np.diff(trained.losses) < 0.01) and trained.losses[-1] == pytest.approx(one.losses[-1], rel=0.03)
    assert all(0 <= done <= 1 for done in seen)
    unit = trained.inputs / np.linalg.norm(trained.inputs, axis=1, keepdims=True)
    kind = np.array([word[0] == "a" for word in corpus.words])
    nearest = np.argsort(-(unit @ unit.T), axis=1)[:, 1]
    assert (kind[nearest] == kind).all()


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rate", [10.0, 99.0])
def test_a_rate_that_is_too_high_is_named(loss, cbow, rate) -> None:
    plan = Plan(cbow=cbow, loss=loss, dim=8, epochs=3, sample=0, rate=rate)
    with pytest.raises(InputError, match=r"rate: the loss is (nan|inf).*lower learning rate"):
        train_word2vec(topics(), plan)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cbow", [False, True])
def test_small_and_odd_shapes(loss, cbow) -> None:
    two = read_corpus([["x", "y"], ["x"], ["y", "x", "x"]], minimum_count=1)
    for corpus, dim, negative, window in ((two, 1, 1, 5), (two, 3, 1, 1), (topics(20), 5, 2, 0), (topics(20), 13, 7, 1000)):
        plan = Plan(cbow=cbow, loss=loss, dim=dim, negative=negative, window=window, epochs=2)
        trained = train_word2vec(corpus, plan)
        assert trained.inputs.shape == (len(corpus.words), dim) and np.isfinite(trained.inputs).all()
        assert trained.outputs.shape == (len(corpus.words) - (loss == "hs"), dim) and np.isfinite(trained.losses).all()


@pytest.mark.parametrize("loss", ["ns", "hs"])
def test_a_sentence_beyond_the_longest_is_several(loss) -> None:
    """10,050 words at once, as two sentences of 10,000 and 50."""
    text = np.random.default_rng(0).choice(["u", "v", "w"], 10_050).tolist()
    plan = Plan(loss=loss, dim=3, window=2, epochs=1, sample=0)
    whole, cut = (train_word2vec(read_corpus(texts, minimum_count=1), plan) for texts in ([text], [text[:10_000], text[10_000:]]))
    assert whole.words == cut.words == 10_050
    np.testing.assert_array_equal(whole.inputs, cut.inputs)
    assert whole.losses == cut.losses


def test_longest_sentence() -> None:
    for chunk, longest in (([], 1), ([BOUNDARY], 1), ([4, 5, BOUNDARY, 6, BOUNDARY], 3), ([BOUNDARY, 4, 5, 6], 4), ([1] * 20_000, 10_000)):
        assert longest_sentence(np.array(chunk, np.int32)) == longest  # with room for the boundary


@pytest.mark.parametrize(
    "name, value",
    [("loss", "hinge"), ("dim", 0), ("window", -1), ("negative", 0), ("epochs", 0), ("threads", 0), ("seed", -1), ("sample", -0.1),
     ("sample", 1.0), ("sample", float("nan")), ("rate", 0.0), ("rate", float("nan")), ("rate", float("inf")), ("rate", -1.0)],
)  # fmt: skip
def test_what_cannot_be_is_named(name, value) -> None:
    with pytest.raises(InputError, match=f"{name}: must be"):
        train_word2vec(topics(5), Plan(**{name: value}))


def test_one_word_alone() -> None:
    with pytest.raises(InputError, match="the corpus: one word alone"):
        train_word2vec(read_corpus([["x"] * 10]), Plan())
