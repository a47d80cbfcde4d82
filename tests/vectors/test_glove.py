"""GloVe: every cell once an epoch, repeatable with one thread, what is said of bad input. Its equations: test_section08_other.py."""

import itertools
import platform

import numba
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from weft.device import processor_flags
from weft.errors import DivergedError, InputError
from weft.vectors import glove
from weft.vectors.compiled import OPTIONS
from weft.vectors.counts import BOUNDARY
from weft.vectors.glove import Cells, Tables, fit_glove, objective, train_glove


def counted(size: int = 60, seed: int = 0) -> csr_matrix:
    random = np.random.default_rng(seed)
    half = random.poisson(1.0, (size, size)) * random.zipf(1.5, (size, 1)).clip(max=50)
    return csr_matrix((half + half.T).astype(float))


def topics() -> tuple[np.ndarray, np.ndarray]:
    """Ids and counts of 600 sentences, each of one of two kinds of ten words."""
    random = np.random.default_rng(0)
    rows = random.integers(0, 10, (600, 8)) + 10 * random.integers(0, 2, (600, 1))
    return np.hstack([rows, np.full((600, 1), BOUNDARY)]).ravel().astype(np.int32), np.bincount(rows.ravel(), minlength=20)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_epoch_meets_every_cell_once(threads, monkeypatch) -> None:
    """Shuffled, the cells are the same ones with the same counts, in another order after each epoch."""
    monkeypatch.setattr(glove, "GROUP", 7)
    matrix = counted()
    before = sorted(zip(*matrix.nonzero()))
    kept = []
    epoch = glove._epoch
    monkeypatch.setattr(glove, "_epoch", lambda cells, *rest: kept.append(cells) or epoch(cells, *rest))
    orders = []
    fit_glove(matrix, 5, epochs=3, threads=threads, report=lambda *_: orders.append(kept[-1].where.tolist()))
    assert len(kept[0].bounds) > 50  # many tiles
    for order in orders:
        assert sorted(map(tuple, order)) == before
    assert orders[0] != orders[1] != orders[2]
    logs = {tuple(place): log for place, (log, _) in zip(orders[-1], kept[0].what.tolist())}
    assert all(logs[i, j] == pytest.approx(np.log(matrix[i, j]), abs=1e-6) for i, j in before)  # shuffled together with where they belong


def test_tiles_are_groups_of_words_by_groups_of_contexts(monkeypatch) -> None:
    monkeypatch.setattr(glove, "GROUP", 20)
    cells = Cells.of(counted())
    assert cells.bounds[0] == 0 and cells.bounds[-1] == len(cells) and (np.diff(cells.bounds) > 0).all()
    tiles = [cells.where[start:stop] for start, stop in itertools.pairwise(cells.bounds)]
    assert len(tiles) == 9
    assert all(len(np.unique(tile[:, side])) <= 20 for tile in tiles for side in (0, 1))


def test_each_cell_is_stepped_once() -> None:
    """A cell a row, so that none sees another's step: every bias gathers the one g² that the start gives it."""
    matrix = csr_matrix(np.eye(40) * np.e)
    tables, info = fit_glove(matrix, 3, epochs=1, x_max=1.0)
    start = Tables.start(40, 3, 0.1, seed=1)
    products = (start.vectors[:40] * start.vectors[40:]).sum(1) + start.biases[:40] + start.biases[40:]
    np.testing.assert_allclose(tables.bias_squares, np.tile(100 + (products - 1) ** 2, 2), rtol=1e-6)
    assert info["losses"][0] == pytest.approx(((products - 1) ** 2).mean(), rel=1e-5)


def test_one_thread_is_repeatable_and_two_reach_the_same_loss() -> None:
    matrix = counted(300)
    (first, one), (again, _), (_, two) = (fit_glove(matrix, 10, epochs=15, threads=threads) for threads in (1, 1, 2))
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert two["loss"] == pytest.approx(one["loss"], rel=0.05)
    other, _ = fit_glove(matrix, 10, epochs=15, seed=2)
    assert not np.array_equal(first.vectors, other.vectors)


def test_the_loss_falls_and_is_the_objective() -> None:
    matrix, seen = counted(), []
    tables, info = fit_glove(matrix, 8, epochs=10, report=lambda *said: seen.append(said))
    assert info["losses"] == [loss for _, _, loss in seen] and [done for done, _, _ in seen] == list(range(1, 11))
    assert all(second < first for first, second in itertools.pairwise(info["losses"]))
    assert info["loss"] == pytest.approx(objective(Cells.of(matrix), tables) / info["cells"], rel=1e-6)
    assert info["loss"] < info["losses"][-1]


def test_two_topics_are_two_neighbourhoods() -> None:
    ids, counts = topics()
    vectors, info = train_glove(lambda: iter([ids]), counts, dim=5, window=4, epochs=40)
    assert vectors.shape == (20, 5) and vectors.dtype == np.float32 and info["biases"].shape == (2, 20)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert min(cosines[:10, :10].mean(), cosines[10:, 10:].mean()) > cosines[:10, 10:].mean() + 0.3


def test_words_alone_or_words_and_contexts() -> None:
    ids, counts = topics()
    both, words = (train_glove(lambda: iter([ids]), counts, dim=5, epochs=2, contexts=contexts)[0] for contexts in (True, False))
    assert not np.array_equal(both, words)
    matrix = glove.counting.count_windows(lambda: iter([ids]), 20, window=15, weight="harmonic")
    tables, _ = fit_glove(matrix, 5, epochs=2)
    np.testing.assert_array_equal(words, tables.vectors[:20])
    np.testing.assert_array_equal(both, tables.vectors[:20] + tables.vectors[20:])


def test_an_unordered_set_as_window() -> None:
    ids, counts = topics()
    vectors, _ = train_glove(lambda: iter([ids]), counts, dim=5, window=None, epochs=2)
    assert np.isfinite(vectors).all()


def test_the_kernel_is_vectorised() -> None:
    """Eight floats an instruction where the processor has such registers: square roots and fused products of whole vectors."""
    if platform.machine() != "x86_64" or "avx2" not in processor_flags():
        pytest.skip("looks at x86's instructions")
    anew = numba.njit(**OPTIONS)(glove._step.py_func)  # what was kept on disk has no listing
    cells, tables = Cells.of(counted()), Tables.start(60, 5, 0.05, seed=0)
    anew(cells.where, cells.what, tables.vectors, tables.biases, tables.vector_squares, tables.bias_squares)
    (code,) = anew.inspect_asm().values()
    assert any(root in code for root in ("vrsqrtps", "vsqrtps", "vrsqrt14ps"))
    assert "ymm" in code or "zmm" in code


def errors() -> dict:
    eye, (ids, counts) = csr_matrix(np.eye(3)), topics()
    nan = csr_matrix(np.diag([1.0, np.nan]))
    return {
        "counts must be finite and not negative": lambda: fit_glove(nan, 2),
        "counts: counts must be finite": lambda: fit_glove(-eye, 2),
        "no pair was counted": lambda: fit_glove(csr_matrix((3, 3)), 2),
        "no word is left": lambda: train_glove(lambda: iter([ids]), counts[:0]),
        "dim: 21 does not fit 20 words": lambda: train_glove(lambda: iter([ids]), counts, dim=21),
        "window: must be at least 1, not 0": lambda: train_glove(lambda: iter([ids]), counts, dim=2, window=0),
        "epochs: must be at least 1, not 0": lambda: fit_glove(eye, 2, epochs=0),
        "threads: must be at least 1, not 0": lambda: fit_glove(eye, 2, threads=0),
        "learning_rate: must be above 0 and finite, not 0": lambda: fit_glove(eye, 2, learning_rate=0),
        "x_max: must be above 0 and finite, not nan": lambda: fit_glove(eye, 2, x_max=float("nan")),
    }


@pytest.mark.parametrize("message", errors())
def test_what_cannot_be_learnt_is_said(message) -> None:
    with pytest.raises(InputError) as caught:
        errors()[message]()
    assert message in str(caught.value)


def test_a_loss_that_is_no_number_ends_the_training(monkeypatch) -> None:
    start = Tables.start

    def broken(*arguments) -> Tables:
        tables = start(*arguments)
        tables.vectors[0] = np.nan
        return tables

    monkeypatch.setattr(Tables, "start", broken)
    with pytest.raises(DivergedError, match="the loss is nan"):
        fit_glove(counted(), 2)
