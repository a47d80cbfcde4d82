"""Every method behind `WordVectors`: what it gives, that it is the same again, and what each argument refuses."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.errors import InputError
from weft.vectors.corpus import read_corpus
from weft.vectors.methods import DEFAULTS, METHODS, UNUSED, WordVectors

PREDICTIVE = ("skipgram", "cbow", "fasttext", "fasttext-cbow")
SMALL: dict[str, Any] = {"dim": 6, "epochs": 2, "min_count": 2, "threads": 1, "seed": 3}
CASES = [(name, loss) for name, method in METHODS.items() for loss in method.losses or (None,)]


def sentences(count: int = 300, seed: int = 0) -> list[list[str]]:
    """Two topics, each with words of its own and words of both."""
    random = np.random.default_rng(seed)
    topics = [["cat", "dog", "cow", "horse", "pig"], ["red", "blue", "green", "white", "grey"]]
    made = []
    for _ in range(count):
        topic = topics[int(random.integers(2))]
        made.append([topic[int(place)] if random.random() < 0.7 else f"the{int(place)}" for place in random.integers(0, 5, 9)])
    return made


TEXT = sentences()


def small(method: str, **options: Any) -> WordVectors:
    window = {"window": 3} if method in ("ngram", "ranking") else {}
    own = {"settings": {"buckets": 500}} if method.startswith("fasttext") else {}
    return WordVectors(method, **{**SMALL, **window, **own, **options})


@pytest.mark.parametrize("method, loss", CASES)
def test_every_method_gives_finite_vectors_of_words_by_frequency(method: str, loss: str | None) -> None:
    model = small(method, loss=loss)
    assert model.fit(TEXT) is model
    vectors, corpus = model.vectors_, read_corpus(TEXT, minimum_count=2)
    assert vectors.words == corpus.words and vectors.counts.tolist() == corpus.counts.tolist() == sorted(corpus.counts, reverse=True)
    assert vectors.vectors.shape == (15, 6) and vectors.vectors.dtype == np.float32 and np.isfinite(vectors.vectors).all()
    assert len(np.unique(vectors.vectors, axis=0)) == 15
    assert len(model.losses_) == (0 if method == "svd" else 2) and np.isfinite(model.losses_).all()
    assert {"read", "compile", "train"} <= set(model.seconds_) and min(model.seconds_.values()) >= 0
    assert (vectors.subwords is not None) == method.startswith("fasttext")


@pytest.mark.parametrize("method, loss", CASES)
def test_one_thread_and_the_same_seed_give_the_same_bytes(method: str, loss: str | None) -> None:
    first, again, other = (small(method, loss=loss, seed=seed).fit(TEXT).vectors_.vectors.tobytes() for seed in (3, 3, 4))
    assert first == again
    assert first != other or method == "svd"  # whose factors are what they are


@pytest.mark.parametrize("method, loss", [(method, loss) for method, loss in CASES if method not in ("ngram", "ranking")])
def test_topics_are_told_apart(method: str, loss: str | None) -> None:
    more: dict[str, Any] = {"epochs": 30, "rate": 0.1, "sample": 0} if method in PREDICTIVE else {"epochs": 30}
    vectors = small(method, loss=loss, **(more if method != "svd" else {"sample": 0})).fit(TEXT).vectors_
    animals, colours = ["cat", "dog", "cow", "horse", "pig"], ["red", "blue", "green", "white", "grey"]
    for word in animals:
        own = [vectors.similarity(word, other) for other in animals if other != word]
        assert np.mean(own) > np.mean([vectors.similarity(word, other) for other in colours])


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import hashlib; from weft.vectors.methods import WordVectors\n"
        "text = ['a b c d e', 'b c a ab', 'abc ab c e d'] * 20\n"
        "for method in ('skipgram', 'fasttext', 'svd', 'glove'):\n"
        "    more = {'settings': {'buckets': 50}} if method == 'fasttext' else {}\n"
        "    found = WordVectors(method, dim=3, epochs=1, threads=1, **more).fit(text).vectors_\n"
        "    print(found.words, hashlib.sha256(found.vectors.tobytes()).hexdigest())\n"
        "import sys; print('torch' in sys.modules)\n"
    )
    said = []
    for seed in ("1", "2"):
        environment = {**__import__("os").environ, "PYTHONHASHSEED": seed}
        said.append(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout)
    assert said[0] == said[1] and said[0].count("\n") == 5 and said[0].endswith("False\n")


def test_what_is_not_given_is_the_methods_own() -> None:
    for name, method in METHODS.items():
        found, chosen = WordVectors(name).chosen()
        assert found is method
        for key, value in {**DEFAULTS, **method.defaults, **method.settings, "seed": 1}.items():
            if key != "min_count":
                assert chosen[key] == value, (name, key)
        assert chosen["loss"] == (method.losses[0] if method.losses else None) and chosen["threads"] >= 1


def test_the_constructor_only_stores() -> None:
    model = WordVectors("no such", dim="x", window=None, settings={"a": 1})  # type: ignore[arg-type]
    assert (model.method, model.dim, model.settings) == ("no such", "x", {"a": 1})


@pytest.mark.parametrize("method, name", [(method, name) for method, names in UNUSED.items() for name in names])
def test_what_a_method_does_not_take_is_warned_of(method: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    value: Any = "ns" if name == "loss" else 1 if name in ("negative", "epochs") else 0.01
    with caplog.at_level(logging.WARNING, "weft"):
        WordVectors(method, **{name: value}).chosen()
    assert f"{method} takes no {name}: not used" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "weft"):
        WordVectors(method).chosen()
    assert not caplog.records


WRONG: dict[str, list[Any]] = {
    "method": ["skip-gram", "", None, 5, ["svd"]],
    "loss": ["NS", "nce", 1, True],
    "dim": [0, -1, 2.5, "100", True, float("nan"), 10**30],
    "window": [0, -1, 2.5, "x", "", "-1", "1e3", "٣", True, False, float("nan"), float("inf"), [5], np.arange(2), 10**30, "9" * 5000],
    "negative": [0, -1, 1.5, "5", True, 10**30],
    "epochs": [0, -1, 0.5, "5", True, 10**30],
    "min_count": [0, -1, 2.5, "5", None, True, float("nan")],
    "sample": [-1e-3, 1, 2, float("nan"), float("inf"), "1e-3", True, 1j],
    "rate": [0, -0.1, 100, float("nan"), float("inf"), "0.1", True, [0.1]],
    "threads": [0, -1, 1.5, "2", True, 10**30],
    "seed": [-1, 1.5, "1", None, True, 2**32, 10**30],
    "contexts": ["words", None, "Syntax", 1],
    "settings": [["exponent"], "exponent=1", 5, {"x": 1}, {1: 2}, {"exponents": 1}],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in WRONG.items() for value in values])
def test_a_value_that_cannot_be_is_said_with_its_name(name: str, value: Any) -> None:
    with pytest.raises(InputError) as raised:
        WordVectors(**{name: value}).fit(TEXT)
    assert raised.value.place == name and "\n" not in str(raised.value) and len(str(raised.value)) < 12_000


@pytest.mark.parametrize(
    "said, options",
    [
        (r"did you mean skipgram\?", {"method": "skip-gram"}),
        (r"did you mean ns\?", {"loss": "NS"}),
        (r"did you mean exponent\?", {"settings": {"exponents": 1}}),
        (r"skipgram has no setting 'x_max'.*; it has exponent, dynamic", {"settings": {"x_max": 1}}),
        ("syntactic contexts are read from a CoNLL-U file", {"contexts": "syntax"}),
    ],
)
def test_near_spellings_are_named(said: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=said):
        WordVectors(**options).fit(TEXT)


WRONG_SETTINGS: list[tuple[str, str, Any]] = [
    ("skipgram", "exponent", "x"), ("skipgram", "exponent", float("nan")), ("skipgram", "exponent", None),
    ("skipgram", "exponent", True),
    ("skipgram", "dynamic", "perhaps"), ("skipgram", "dynamic", 1), ("skipgram", "exponent", 1e6), ("skipgram", "exponent", -1e6),
    ("cbow", "mean", "x"), ("cbow", "exact_mean", None),
    ("fasttext", "min_n", 0), ("fasttext", "min_n", 7), ("fasttext", "min_n", None), ("fasttext", "max_n", -1),
    ("fasttext", "max_n", "2.5"),
    ("fasttext", "buckets", 0), ("fasttext", "buckets", -5), ("fasttext", "buckets", "none"), ("fasttext", "buckets", 10**30),
    ("fasttext", "max_n", 10**30),
    ("glove", "x_max", 0), ("glove", "x_max", -1), ("glove", "alpha", float("inf")), ("glove", "weight", "linear"),
    ("glove", "contexts", 2),
    ("svd", "shift", 0), ("svd", "shift", -1), ("svd", "smoothing", "x"), ("svd", "weight", None), ("svd", "smoothing", 1e6),
    ("svd", "power", -1e6), ("svd", "power", 1e6), ("skipgram", "exponent", [1]),
    ("ngram", "hidden", 0), ("ngram", "hidden", None), ("ngram", "each", 0), ("ngram", "each", "2.0"), ("ngram", "examples", 0),
    ("ranking", "noise", "x"), ("ranking", "hidden", True), ("ngram", "direct", "2"),
]  # fmt: skip


@pytest.mark.parametrize("method, name, value", WRONG_SETTINGS)
def test_a_setting_that_cannot_be_is_said_with_its_name(method: str, name: str, value: Any) -> None:
    with pytest.raises(InputError) as raised:
        WordVectors(method, **{**SMALL, "dim": 4, "window": 3}, settings={name: value}).fit(TEXT)
    assert raised.value.place in (name, "min_n"), str(raised.value)


def test_settings_may_be_typed() -> None:
    typed = {"exponent": "0.5", "dynamic": "False", "min_n": "2", "max_n": "4", "buckets": "77"}
    _, chosen = WordVectors("fasttext", settings=typed, window="4").chosen()
    expected = {"exponent": 0.5, "dynamic": False, "min_n": 2, "max_n": 4, "buckets": 77, "window": 4}
    assert {name: chosen[name] for name in expected} == expected
    assert all(type(chosen[name]) is type(value) for name, value in expected.items())
    for text, value in (("none", None), ("None", None), (None, None), ("300", 300)):
        assert WordVectors("ngram", settings={"each": text}).chosen()[1]["each"] == value
    for text, flag in (("true", True), ("YES", True), ("no", False), (True, True)):
        assert WordVectors("cbow", settings={"exact_mean": text}).chosen()[1]["exact_mean"] is flag
    assert WordVectors("svd", settings={"weight": "flat"}).chosen()[1]["weight"] == "flat"
    assert WordVectors(window="all").chosen()[1]["window"] == 0


def test_numbers_of_numpy_are_numbers() -> None:
    model = WordVectors(dim=np.int64(4), window=np.int32(2), sample=np.float32(0.5), rate=np.float64(0.1), epochs=np.int8(1), threads=1)
    assert model.fit(TEXT).vectors_.size == 4


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("ngram", "ranking")])
def test_a_set_has_no_order(method: str) -> None:
    random = np.random.default_rng(1)
    baskets = []
    for _ in range(400):
        group, filler = "ab" if random.random() < 0.5 else "cd", [f"x{place}" for place in random.integers(0, 6, 6)]
        baskets.append([group[0], *filler, group[1]])
    model = small(method, window="all", min_count=1, sample=None if method == "glove" else 0)
    vectors = model.fit(baskets).vectors_
    assert np.isfinite(vectors.vectors).all()
    if method == "svd":  # a and b keep the same company
        assert vectors.similarity("a", "b") > vectors.similarity("a", "d")


@pytest.mark.parametrize("method", ["ngram", "ranking"])
def test_networks_need_words_in_order(method: str) -> None:
    with pytest.raises(InputError, match=r"^window: .* needs words in order"):
        small(method, window="all").fit(TEXT)
    with pytest.raises(InputError, match=r"^window: must be"):
        small(method, window=1).fit(TEXT)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", [["a a a a", "a a"], ["a b c d"], [], [["a"] * 9, ["b"]]])
def test_a_corpus_without_two_frequent_words_is_said(method: str, text: list[Any]) -> None:
    with pytest.raises(InputError) as raised:
        small(method).fit(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("method", METHODS)
def test_sentences_of_one_word_each_train_or_are_said(method: str) -> None:
    """No word has a neighbour: what cannot be learnt from is said, and what is left as it began is finite."""
    with suppress(InputError):
        assert np.isfinite(small(method, dim=2).fit(["a", "b", "c"] * 9).vectors_.vectors).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_rate_that_is_too_high_is_an_error_or_finite(method: str) -> None:
    with suppress(InputError):
        assert np.isfinite(small(method, rate=99.0, epochs=3).fit(TEXT).vectors_.vectors).all()


def test_a_corpus_that_was_read_trains_as_its_source_does(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(map(" ".join, TEXT)) + "\n", encoding="utf-8")
    corpus = read_corpus(path, minimum_count=2)
    first, second, third = (small("skipgram").fit(source).vectors_.vectors for source in (corpus, str(path), TEXT))
    assert first.tobytes() == second.tobytes() == third.tobytes()


def test_watch_hears_of_the_progress_and_several_threads_train() -> None:
    heard: list[tuple[float, float]] = []
    model = small("skipgram", threads=2, epochs=3).fit(TEXT * 20, lambda done, speed: heard.append((done, speed)))
    assert heard and all(0 <= done <= 1 and speed >= 0 for done, speed in heard) and heard[-1][0] == 1
    assert np.isfinite(model.vectors_.vectors).all() and model.losses_[-1] < model.losses_[0]


def test_words_with_blanks_are_items_and_are_kept(tmp_path: Path) -> None:
    baskets = [["blue shirt", "red tie"], ["blue shirt", "belt"], ["red tie", "belt", "blue shirt"]] * 5
    vectors = small("skipgram", window="all").fit(baskets).vectors_
    assert vectors.words == ["blue shirt", "belt", "red tie"]
    vectors.save(tmp_path / "v.safetensors")
    assert type(vectors).load(tmp_path / "v.safetensors").words == vectors.words
    with pytest.raises(InputError):
        vectors.save(tmp_path / "v.vec")
