"""Every method from one reading of the corpus: means over seeds, what is not given to whom, and measures of nothing."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from weft.compare import word_vectors
from weft.compare.word_vectors import COMPARED, compare_methods, model_of, rows
from weft.errors import InputError
from weft.vectors.methods import METHODS, UNUSED

TEXT = [["cat", "dog", "cow", "cat", "the"], ["red", "blue", "the", "green", "red"]] * 30


def run(name: str, seed: int, mean: float | None, men: float | None = 0.5, analogy: float | None = 0.1) -> dict[str, Any]:
    return {
        "name": name, "seed": seed, "similarity": {"ws353": 0.1 * seed, "men": men}, "mean_similarity": mean, "analogy": analogy,
        "seconds": {"train": float(seed)},
    }  # fmt: skip


def test_means_over_seeds() -> None:
    runs = [run("a", 1, 0.2), run("b", 1, 0.9), run("a", 2, 0.4), run("a", 6, 0.3)]
    first, second = word_vectors._means(runs)
    assert (first["name"], first["seeds"], second["name"], second["seeds"]) == ("a", 3, "b", 1)
    assert first["mean_similarity"] == pytest.approx(0.3) and first["mean_similarity_sd"] == pytest.approx(
        statistics.stdev([0.2, 0.4, 0.3])
    )
    assert second["mean_similarity_sd"] is None and first["train_seconds"] == 2
    assert first["similarity"] == pytest.approx({"ws353": 0.3, "men": 0.5})
    columns, cells = rows({"methods": [first, second]})
    assert columns == ["method", "ws353", "simlex999", "men", "mean", "analogies", "train s"]
    assert cells[0] == ["a", "0.300", "–", "0.500", "0.300 ± 0.100", "0.100 ± 0.000", "2.0"]
    assert cells[1] == ["b", "0.100", "–", "0.500", "0.900", "0.100", "1.0"]


def test_a_measure_of_nothing_is_a_dash() -> None:
    table = word_vectors._means([run("a", 1, None, None, None), run("a", 2, 0.3, 0.2, 0.1)])
    assert table[0]["mean_similarity"] is table[0]["analogy"] is table[0]["similarity"]["men"] is table[0]["mean_similarity_sd"] is None
    assert rows({"methods": table})[1][0][2:6] == ["–", "–", "–", "–"]


@pytest.mark.parametrize("name", [*COMPARED, *METHODS])
def test_options_go_to_those_who_take_them(name: str, caplog: pytest.LogCaptureFixture) -> None:
    options = {"dim": 7, "window": 3, "negative": 2, "epochs": 4, "sample": 0.01, "threads": 1}
    method, chosen = model_of(name, options, seed=9).chosen()
    assert not caplog.records
    assert method.name == name.partition("+")[0] and chosen["seed"] == 9 and chosen["dim"] == 7
    if "+" in name:
        assert chosen["loss"] == name.partition("+")[2]
    for key, value in options.items():
        if key not in UNUSED.get(method.name, ()):
            assert chosen[key] == value


@pytest.mark.parametrize("name", ["", "skip-gram", "+hs", "skipgram+", "skipgram+xs", "svd+hs"])
def test_names_that_are_none(name: str) -> None:
    """A method alone may have a + behind it, and a method without losses says that it has none."""
    if name in ("skipgram+", "svd+hs"):
        assert model_of(name, {}).chosen()[0].name in name
        return
    with pytest.raises(InputError):
        model_of(name, {}).chosen()


def test_the_corpus_is_read_once_and_every_seed_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, measured = [], []
    true = word_vectors.read_corpus

    def spy(*arguments: Any, **options: Any) -> Any:
        read.append(options)
        return true(*arguments, **options)

    def fake(vectors: Any, sets: list[str]) -> dict[str, Any]:
        measured.append(len(vectors))
        return {"similarity": {}, "analogy": {}, "mean_similarity": None}

    monkeypatch.setattr(word_vectors, "read_corpus", spy)
    monkeypatch.setattr(word_vectors, "evaluate", fake)
    monkeypatch.setattr(word_vectors, "find", lambda sets: {})
    found = compare_methods(
        TEXT, ["skipgram", "svd"], {"dim": 3, "threads": 1}, seeds=(4, 5), reading={"minimum_count": 2}, out=tmp_path / "deep" / "out"
    )
    assert read == [{"minimum_count": 2}] and measured == [7] * 4
    assert [(one["name"], one["seed"]) for one in found["runs"]] == [("skipgram", 4), ("skipgram", 5), ("svd", 4), ("svd", 5)]
    assert (tmp_path / "deep" / "out" / "svd-5.safetensors").is_file() and found["words"] == 7 and found["tokens"] == 300
