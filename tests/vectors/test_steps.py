"""The kernels of word2vec against autograd, with every draw replayed; what no gradient touches; odd sentences; the code they become."""

from __future__ import annotations

import platform
import re

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay import agree, joined, make, options, trained

from weft.vectors import kernels, steps
from weft.vectors.compiled import OPTIONS

SENTENCE = [3, 1, 4, 1, 5, 2, 6]
LOSSES = ("ns", "hs", "softmax")
SUBWORDS = [[0, 7], [1, 7, 8], [2], [3, 9, 9], [4, 8], [5, 10, 7], [6]]  # word 3 has an n-gram twice

sentences = st.lists(st.lists(st.integers(0, 6), max_size=20), min_size=1, max_size=4)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cbow", [False, True])
@given(
    texts=sentences, window=st.integers(0, 4), dynamic=st.booleans(), mean=st.booleans(), exact=st.booleans(), subwords=st.booleans(),
    pool=st.integers(1, 9), negative=st.integers(1, 4), dim=st.integers(1, 9), state=st.integers(0, 2**64 - 1), keep=st.booleans(),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_chunk_is_trained_as_autograd_does_it(
    loss, cbow, texts, window, dynamic, mean, exact, subwords, pool, negative, dim, state, keep
):
    tables = make(7, dim, loss=loss, rows=SUBWORDS if subwords else None, noise=[1, 2, 3, 4, 5, 6, 7])
    if keep:
        tables = tables._replace(keep=np.linspace(0.3, 1, 7).astype(np.float32))
    how = options(window=window, dynamic=dynamic, cbow=cbow, mean=mean, exact=exact, negative=negative, rate=0.05, total=100.0)
    agree(joined(texts), tables, how, loss=loss, pool=pool, state=state)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cbow", [False, True])
def test_the_step_is_big_enough_to_be_seen(loss, cbow) -> None:
    """At a rate of 0.5 each table moves by far more than the tolerance, and another draw, window or rate is no agreement."""
    tables, how = make(loss=loss), options(cbow=cbow)
    agree(joined([SENTENCE]), tables, how, loss=loss)
    new, lost, pairs, read = trained(joined([SENTENCE]), tables, how, loss=loss)
    assert np.abs(new.inputs - tables.inputs).max() > 0.1 and np.abs(new.outputs - tables.outputs).max() > 0.1
    assert read == len(SENTENCE) and lost > 0 and pairs == (7 if cbow else 22)
    wrong = [options(cbow=cbow, window=1), options(cbow=cbow, rate=0.4)] + ([options(cbow=cbow, exact=False)] if cbow else [])
    for other in wrong:
        assert np.abs(trained(joined([SENTENCE]), tables, other, loss=loss)[0].inputs - new.inputs).max() > 1e-3
    if loss == "ns":
        assert np.abs(trained(joined([SENTENCE]), tables, how, state=6)[0].outputs - new.outputs).max() > 1e-3


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cbow", [False, True])
def test_rows_that_nothing_names_stay_as_they_are(loss, cbow) -> None:
    tables = make(40, 5, loss=loss, noise=np.arange(40) < 10)  # draws are of the words 0 … 9
    new, *_ = trained(joined([[12, 14, 12, 15]]), tables, options(cbow=cbow), loss=loss)
    changed = np.flatnonzero((new.inputs != tables.inputs).any(1))
    assert changed.tolist() == [12, 14, 15]
    changed = np.flatnonzero((new.outputs != tables.outputs).any(1))
    if loss == "ns":
        assert {12, 14, 15} < set(changed) <= {*range(10), 12, 14, 15}
    elif loss == "hs":
        ways = [tables.nodes[tables.paths[word] : tables.paths[word + 1]] for word in (12, 14, 15)]
        assert set(changed) == set(np.concatenate(ways).tolist()) and len(changed) < 39
    else:
        assert len(changed) == 40


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cbow", [False, True])
def test_odd_sentences(loss, cbow) -> None:
    tables = make(loss=loss)
    for texts, window in (([[]], 2), ([[3]], 2), ([[3], [], [4]], 2), ([[2, 5]], 99), ([[2, 2, 2]], 1), ([[]] * 4, 0), ([[1]], 0)):
        agree(joined(texts), tables, options(window=window, cbow=cbow), loss=loss)
    agree(joined([SENTENCE])[:-1], tables, options(cbow=cbow), loss=loss)  # no boundary at its end
    new, lost, pairs, read = trained(np.empty(0, np.int32), tables, options(cbow=cbow), loss=loss)
    assert (lost, pairs, read) == (0, 0, 0) and np.array_equal(new.inputs, tables.inputs)
    new, lost, pairs, read = trained(joined([[3]]), tables, options(cbow=cbow), loss=loss)
    assert (lost, pairs, read) == (0, 0, 1) and np.array_equal(new.inputs, tables.inputs) and np.array_equal(new.outputs, tables.outputs)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cbow", [False, True])
def test_two_words_one_dimension_one_draw(loss, cbow) -> None:
    agree(joined([[0, 1, 1, 0, 1]]), make(2, 1, loss=loss), options(cbow=cbow, negative=1), loss=loss, pool=1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("window", [0, 3])
def test_a_sentence_beyond_the_longest_is_cut(loss, cbow, window) -> None:
    """21 words in pieces of 9: as sentences of 9, 9 and 3."""
    random = np.random.default_rng(0)
    text = random.integers(0, 7, 21).tolist()
    tables, how = make(loss=loss), options(cbow=cbow, window=window, rate=0.05)
    cut, pieces = (
        trained(ids, tables, how, loss=loss, longest=longest)
        for ids, longest in ((joined([text]), 9), (joined([text[:9], text[9:18], text[18:]]), 10))
    )
    assert cut[1:] == pieces[1:] and cut[3] == 21
    np.testing.assert_array_equal(cut[0].inputs, pieces[0].inputs)
    np.testing.assert_array_equal(cut[0].outputs, pieces[0].outputs)


def test_the_longest_sentence_at_full_length() -> None:
    """10,000 words, all of them the window: every array holds them."""
    tables = make(3, 2)
    text = joined([[0] * steps.LONGEST])
    how = options(window=0, cbow=True, rate=1e-9)
    _, lost, pairs, read = trained(text, tables, how, pool=2, longest=steps.LONGEST)
    assert pairs == read == steps.LONGEST and np.isfinite(lost)
    _, lost, pairs, _ = trained(joined([[0, 1] * 1000]), tables, options(window=0, rate=1e-9), pool=2, longest=2001)
    assert pairs == 2000 * 1999


def test_no_window_reaches_over_a_boundary() -> None:
    """Words 0–2 and 3–5 never meet: with no noise among them, each kind's rows are the same whatever the other's are."""
    tables = make(noise=[0, 0, 0, 0, 0, 0, 1])
    texts = [[0, 1, 2, 0], [3, 4, 5]]
    other = tables._replace(inputs=tables.inputs.copy(), outputs=tables.outputs.copy())
    other.inputs[3:6] += 1
    other.outputs[3:6] -= 1
    for cbow in (False, True):
        how = options(window=4, cbow=cbow, rate=0.05)
        first, second = (trained(joined(texts), start, how)[0] for start in (tables, other))
        np.testing.assert_array_equal(first.inputs[:3], second.inputs[:3])
        np.testing.assert_array_equal(first.outputs[:3], second.outputs[:3])
        one = trained(joined([[0, 1, 2, 0, 3, 4, 5]]), tables, how)[0], trained(joined([[0, 1, 2, 0, 3, 4, 5]]), other, how)[0]
        assert not np.array_equal(one[0].inputs[:3], one[1].inputs[:3])


def test_the_rate_falls_with_what_all_threads_have_read() -> None:
    tables, how = make(loss="softmax"), options(total=40.0)
    text, own = joined([[1, 2]]), None
    moved = []
    for others in (0, 20, 30, 40, 4000):
        fresh = tables._replace(inputs=tables.inputs.copy(), outputs=tables.outputs.copy())
        own = steps.space(fresh, window=2, longest=3, pool=1, loss="softmax")
        progress = np.zeros((3, 8), np.int64)
        progress[2, 0] = others
        steps.train_blocks(text, fresh, how, own, progress, 0, np.uint64(1), True)
        moved.append(np.linalg.norm(fresh.inputs.astype(np.float64) - tables.inputs))
    np.testing.assert_allclose(np.array(moved) / moved[0], [1, 0.5, 0.25, 1e-4, 1e-4], rtol=2e-2)


@numba.njit(**OPTIONS)
def both(x, sigma, loss):
    for i in range(x.shape[0]):
        sigma[i], loss[i] = kernels.sigmoid(x[i]), kernels.softplus(x[i])


def of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = x.astype(np.float32)
    out = np.empty_like(x), np.empty_like(x)
    both(x, *out)
    return out


def test_sigma_and_its_loss_keep_what_they_say() -> None:
    x = np.concatenate([np.linspace(-20, 20, 2_000_001), np.linspace(-1e-3, 1e-3, 1001), [1000, -1000, 1e30, -1e30, 3e38, -3e38]])
    exact = x.astype(np.float32).astype(np.float64)
    sigma, loss = of(x)
    with np.errstate(over="ignore"):
        assert np.abs(sigma - 1 / (1 + np.exp(-exact))).max() < 3e-7
    wanted = np.logaddexp(0, exact)
    assert (np.abs(loss - wanted) / np.maximum(1, wanted / 16)).max() < 1e-6
    assert sigma.min() >= -1e-7 and sigma.max() <= 1 + 1e-7 and loss.min() >= -1e-7


def test_sigma_and_its_loss_of_no_numbers() -> None:
    sigma, loss = of(np.array([np.inf, -np.inf, np.nan]))
    np.testing.assert_allclose(sigma[:2], [1, 0], atol=3e-7)
    assert loss[0] == np.inf and abs(loss[1]) < 1e-6
    assert np.isnan(loss[2])  # so that it is seen


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("name", ["inputs", "outputs"])
@pytest.mark.parametrize("what", [np.nan, np.inf])
def test_vectors_that_are_no_numbers_are_seen_in_the_loss(loss, cbow, name, what) -> None:
    tables = make(loss=loss)
    getattr(tables, name)[:] = what
    assert not np.isfinite(trained(joined([SENTENCE]), tables, options(cbow=cbow), loss=loss)[1])


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="reads x86-64's assembly")
@pytest.mark.parametrize("name", ["block_scores", "scores", "pull", "push"])
def test_products_are_vectorised(name) -> None:
    """A fresh copy, since code from the cache cannot be looked at: several floats a multiplication."""
    table, rows, whole = numba.float32[:, ::1], numba.int32[::1], numba.int64
    arguments = {
        "scores": (table, whole, table, rows, whole, whole, table), "pull": (table, whole, table, rows, whole, whole, table),
        "block_scores": (table, whole, table, rows, whole, table), "push": (table, whole, whole, table, table, whole, whole),
    }[name]  # fmt: skip
    fresh = numba.njit(**OPTIONS)(getattr(kernels, name).py_func)
    fresh.compile(arguments)
    packed = re.findall(r"\bv?(?:mulps|fmadd\d+ps)\b", fresh.inspect_asm(arguments))
    assert len(packed) >= 4
