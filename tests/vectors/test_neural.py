"""The networks' windows, training and errors. Their equations: tests/equations/test_section08_other.py."""

import numpy as np
import pytest
import torch

from weft.errors import InputError
from weft.vectors.counts import BOUNDARY
from weft.vectors.neural import NeuralNgram, WindowRanking, Windows, train_neural

IDS = np.array([0, 1, 2, BOUNDARY, BOUNDARY, 3, BOUNDARY], np.int32)  # an empty sentence among them
EDGE = 4


def walk(ids=IDS, size=EDGE, **options) -> Windows:
    return Windows(ids, size, **{"examples": 3, "each": None, "seed": 0, **options})


def rows_of(windows: Windows) -> list[tuple]:
    batch = windows.gather(np.arange(len(windows)))
    targets = [()] * len(batch) if batch.targets is None else [(one,) for one in batch.targets.tolist()]
    return [(*row, *target) for row, target in zip(batch.inputs.tolist(), targets)]


def test_the_windows_of_an_ngram_end_with_the_edge() -> None:
    assert rows_of(walk(kind="ngram", width=3)) == [
        (EDGE, EDGE, 0), (EDGE, 0, 1), (0, 1, 2), (1, 2, EDGE),
        (EDGE, EDGE, 3), (EDGE, 3, EDGE),
    ]  # fmt: skip


def test_the_windows_of_a_ranking_reach_over_edges() -> None:
    e = EDGE
    assert rows_of(walk(kind="ranking", width=5)) == [(e, e, 0, 1, 2), (e, 0, 1, 2, e), (0, 1, 2, e, e), (e, e, 3, e, e)]


@pytest.mark.parametrize("kind, width", [("ngram", 2), ("ngram", 5), ("ranking", 3), ("ranking", 7)])
def test_windows_by_brute_force(kind, width) -> None:
    random = np.random.default_rng(0)
    texts = [random.integers(0, 9, length).tolist() for length in random.integers(0, 8, 30)]
    ids = np.array([number for text in texts for number in (*text, BOUNDARY)], np.int32)
    expected = []
    for text in texts:
        if not text:
            continue
        before = width - 1 if kind == "ngram" else width // 2
        padded = [9] * before + text + [9] * max(1, width - 1 - before)
        expected += [tuple(padded[start : start + width]) for start in range(len(padded) - width + 1)]
    assert rows_of(walk(ids, 9, kind=kind, width=width)) == expected
    without_last = walk(ids[:-1], 9, kind=kind, width=width)  # the last sentence's end may be left out
    assert rows_of(without_last) == expected


def test_an_epoch_draws_without_repeating_and_the_next_one_anew() -> None:
    ids = np.append(np.zeros(500, np.int32), BOUNDARY)
    windows = walk(ids, 1, kind="ranking", width=3, each=100, examples=32)
    assert len(windows) == 100 and windows.steps() == 4
    first, again, second = (torch.cat([batch.source for batch in windows.epoch(number)]).tolist() for number in (0, 0, 1))
    assert first == again != second and len(set(first)) == 100
    assert [len(batch) for batch in windows.epoch(0, start=2)] == [32, 4]
    assert windows.fingerprint() != walk(ids, 1, kind="ranking", width=5, each=100, examples=32).fingerprint()


def corpus() -> tuple[np.ndarray, np.ndarray]:
    """Sentences of two kinds: a b c d e with words from the first or the second five of each place, in a fixed order of places."""
    random = np.random.default_rng(0)
    kind = random.integers(0, 2, 800)
    rows = random.integers(0, 3, (800, 5)) + 3 * kind[:, None] + 6 * np.arange(5)
    return np.hstack([rows, np.full((800, 1), BOUNDARY)]).ravel().astype(np.int32), np.bincount(rows.ravel(), minlength=30)


@pytest.mark.parametrize(
    "kind, options", [("ngram", {}), ("ngram", {"direct": True, "hidden": (20, 15)}), ("ranking", {"noise": "frequency"})]
)
def test_words_of_one_kind_and_place_become_neighbours(kind, options) -> None:
    ids, counts = corpus()
    settings = {"dim": 8, "epochs": 6, "examples": 64, "learning_rate": 0.02, "hidden": 20, "threads": 1, "window": 3}
    vectors, info = train_neural(kind, lambda: iter([ids]), counts, **{**settings, **options})
    assert vectors.shape == (30, 8) and vectors.dtype == np.float32
    assert len(info["losses"]) == 6 and info["losses"][-1] < 0.8 * info["losses"][0]
    if kind == "ngram":
        assert info["outputs"].shape == (30, info["model"].layers[-1].out_features)
    for found in [vectors, info["outputs"]] if kind == "ngram" else [vectors]:
        unit = found / np.linalg.norm(found, axis=1, keepdims=True)
        cosines = unit @ unit.T - 2 * np.eye(30)
        nearest = cosines.argmax(1)
        assert (nearest // 3 == np.arange(30) // 3).mean() > 0.5  # words that stand for one another; by chance 2 of 29


def test_the_seed_decides_everything() -> None:
    ids, counts = corpus()
    options = {"dim": 4, "epochs": 1, "examples": 64, "threads": 1, "each": 500}
    first, again, other = (train_neural("ranking", lambda: iter([ids]), counts, seed=seed, **options)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_training_leaves_torchs_generator_alone() -> None:
    ids, counts = corpus()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train_neural("ranking", lambda: iter([ids]), counts, dim=4, epochs=1, examples=64, threads=1, each=100)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_rows_that_no_window_has_stay_as_they_were() -> None:
    torch.manual_seed(0)
    model = NeuralNgram(size=5, dim=3, context=2)
    windows = walk(kind="ngram", width=3, size=5)
    model(windows.gather(np.arange(4))).sum().backward()
    assert model.embedding.weight.grad.is_sparse
    assert sorted(model.embedding.weight.grad.coalesce().indices()[0].tolist()) == [0, 1, 2, 5]


def errors() -> dict:
    ids, counts = corpus()
    chunks = {"chunks": lambda: iter([ids]), "counts": counts, "dim": 4}
    return {
        "kind: must be one of ngram, ranking, not 'cbow'": lambda: train_neural("cbow", **chunks),
        "noise: must be one of uniform, frequency": lambda: train_neural("ranking", **chunks, noise="none"),
        "window: must be at least 2": lambda: train_neural("ngram", **chunks, window=1),
        "window: must be odd and at least 3": lambda: train_neural("ranking", **chunks, window=4),
        "hidden: layers must have at least 1 unit, not (0,)": lambda: train_neural("ngram", **chunks, hidden=0),
        "epochs: must be at least 1, not 0": lambda: train_neural("ngram", **chunks, epochs=0),
        "each: must be at least 1, not 0": lambda: train_neural("ngram", **chunks, each=0),
        "dim: 31 does not fit 30 words": lambda: train_neural("ngram", **{**chunks, "dim": 31}),
        "corpus: no word is left": lambda: train_neural("ngram", lambda: iter([]), counts, dim=4),
        "is not an id: they go from -1 to 9": lambda: train_neural("ngram", chunks["chunks"], counts[:10], dim=4),
        "two words or more": lambda: WindowRanking([1.0]),
        "weights: two words or more must have a weight above 0": lambda: WindowRanking([1.0, 0.0, float("nan")]),
    }


@pytest.mark.parametrize("message", errors())
def test_what_cannot_be_learnt_is_said(message) -> None:
    with pytest.raises(InputError) as caught:
        errors()[message]()
    assert message in str(caught.value)
