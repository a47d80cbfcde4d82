"""The baselines against scikit-learn's own vectorisers and models, a counting loop, closed forms; and what they refuse."""

import json
import math
import random
from collections import Counter

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from weft.errors import InputError
from weft.estimators import baselines
from weft.estimators.baselines import DEFAULTS, TASKS, TOKEN, Baseline, Ngrams, tokens

KINDS = [kind for kind in DEFAULTS if kind != "majority"]
WORDS = [
    "good",
    "bad",
    "film",
    "plot",
    "dull",
    "bright",
    "it's",
    "don't",
    "12",
    ".",
    ",",
    "!",
    "the",
    "a",
    "of",
    "Very",
    "MOVIE",
    "naïve",
    "电影",
]


def corpus(count=120, classes=3, seed=0):
    """Texts whose class shows in some of their words, with noise."""
    generator = random.Random(seed)
    labels = [f"class {generator.randrange(classes)}" for _ in range(count)]
    texts = [
        " ".join(
            generator.choice(WORDS[int(label[-1]) :: classes] if generator.random() < 0.6 else WORDS)
            for _ in range(generator.randrange(1, 15))
        )
        for label in labels
    ]
    return texts, labels


def sklearn_vectoriser(kind, size, sublinear=True):
    shared = {"token_pattern": TOKEN.pattern, "ngram_range": (1, size), "lowercase": True}
    return CountVectorizer(**shared) if kind == "naive-bayes" else TfidfVectorizer(sublinear_tf=sublinear, **shared)


def test_tokens_are_the_same_raw_and_pretokenised():
    assert tokens("It's well-made, isn't it?") == tokens("it ' s well - made , isn ' t it ?")
    assert tokens("") == tokens(" \t\n") == []
    assert tokens("don\ud800't") == ["don", "\ud800", "'", "t"]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("minimum", [1, 2, 5])
def test_ngram_counts_against_a_counting_loop(size, minimum):
    texts = [*corpus(60)[0], "", "good", "!!!!"]

    def all_ngrams(text):
        words = tokens(text)
        return Counter(" ".join(words[i : i + n]) for n in range(1, size + 1) for i in range(len(words) - n + 1))

    total = sum((all_ngrams(text) for text in texts), Counter())
    kept = {ngram for ngram, count in total.items() if count >= minimum}
    grams = Ngrams.learn(texts, size, minimum)
    assert set(grams.names()) == kept
    assert len(grams.names()) == len(grams) == len(kept)
    unseen = ["good unseen bad film", "dull plot . dull plot .", *texts]
    dense = grams.counts(unseen).toarray()
    for text, row in zip(unseen, dense, strict=True):
        expected = all_ngrams(text)
        assert {name: count for name, count in zip(grams.names(), row, strict=True) if count} == {
            n: c for n, c in expected.items() if n in kept
        }


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("sublinear", [True, False])
def test_tfidf_is_scikit_learns(size, sublinear):
    texts, labels = corpus()
    baseline = Baseline("svm", {"ngrams": size, "sublinear": sublinear}).fit(texts, labels)
    fresh = [*corpus(30, seed=1)[0], "", "nothing known here"]
    ours = baseline._weighted(baseline._grams.counts(fresh)).toarray()
    oracle = sklearn_vectoriser("svm", size, sublinear).fit(texts)
    order = [oracle.vocabulary_[name] for name in baseline._grams.names()]
    assert len(order) == len(oracle.vocabulary_)
    np.testing.assert_allclose(ours, oracle.transform(fresh).toarray()[:, order], atol=2e-6)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["naive-bayes", "logistic", "svm"])
def test_models_are_scikit_learns(kind, classes):
    texts, labels = corpus(classes=classes)
    fresh = [*corpus(50, classes, seed=1)[0], "", "nothing known here"]
    settings = DEFAULTS[kind]
    vectoriser = sklearn_vectoriser(kind, settings["ngrams"], settings.get("sublinear", False))
    model = {
        "naive-bayes": lambda: MultinomialNB(alpha=settings["alpha"]),
        "logistic": lambda: LogisticRegression(C=settings["C"], max_iter=1000, tol=1e-6),
        "svm": lambda: LinearSVC(C=settings["C"], tol=1e-8, max_iter=100_000),
    }[kind]()
    model.fit(vectoriser.fit_transform(texts), labels)
    ours = Baseline(kind).fit(texts, labels)
    assert ours.classes == list(model.classes_)
    oracle = model.predict(vectoriser.transform(fresh))
    assert np.mean(np.array(ours.predict(fresh)) == oracle) >= 0.98  # ties and stopping rules may part a text
    if kind == "svm":
        margins = model.decision_function(vectoriser.transform(fresh))
        found = ours.decision(fresh)
        np.testing.assert_allclose(found[:, 1] - found[:, 0] if classes == 2 else found, margins, atol=5e-3)
    else:
        np.testing.assert_allclose(ours.probabilities(fresh), model.predict_proba(vectoriser.transform(fresh)), atol=5e-3)


def test_multi_label_is_one_model_a_label():
    texts, single = corpus(150)
    labels = [(label, "long") if len(text.split()) > 7 else (label,) for text, label in zip(texts, single, strict=True)]
    labels[0] = ()
    baseline = Baseline("naive-bayes").fit(texts, labels, task="multi-label")
    assert baseline.classes == ["class 0", "class 1", "class 2", "long"]
    found = baseline.probabilities(texts)
    vectoriser = sklearn_vectoriser("naive-bayes", 2)
    counts = vectoriser.fit_transform(texts)
    for k, name in enumerate(baseline.classes):
        oracle = MultinomialNB(alpha=DEFAULTS["naive-bayes"]["alpha"]).fit(counts, [name in label for label in labels])
        np.testing.assert_allclose(found[:, k], oracle.predict_proba(counts)[:, 1], atol=1e-4)
    expected = [tuple(name for k, name in enumerate(baseline.classes) if row[k] >= 0.5) for row in found]
    assert baseline.predict(texts) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_multi_label_with_a_label_on_every_text(kind):
    texts, single = corpus(40, 2)
    baseline = Baseline(kind).fit(texts, [(label, "always") for label in single], task="multi-label")
    assert all("always" in labels for labels in baseline.predict(texts))
    assert np.isfinite(baseline.probabilities(texts)).all()


def test_majority():
    baseline = Baseline("majority").fit(["a", "b", "c", "d"], ["x", "y", "y", "z"])
    assert baseline.predict(["", "anything"]) == ["y", "y"]
    np.testing.assert_allclose(baseline.probabilities(["q"]), [[0.25, 0.5, 0.25]], atol=1e-6)
    assert Baseline("majority").fit(["a"], ["only"]).predict(["b"]) == ["only"]
    several = Baseline("majority").fit(["a"] * 5, [("x", "y"), ("x",), ("x",), (), ("y",)], task="multi-label")
    assert several.predict(["q"]) == [("x",)]
    np.testing.assert_allclose(several.probabilities(["q"]), [[3.5 / 6, 2.5 / 6]], atol=1e-6)
    mean = Baseline("majority").fit(["a", "b"], [1.0, 4.0], task="regression", pairs=["c", "d"])
    assert mean.predict(["q", "r"]) == [2.5, 2.5]
    with pytest.raises(InputError, match="no class probabilities"):
        mean.probabilities(["q"])


def test_perceptron_separates_what_is_separable():
    texts = ["alpha beta", "alpha gamma", "beta gamma alpha", "delta beta", "gamma delta", "delta"]
    labels = ["p", "p", "p", "n", "n", "n"]
    for average in (True, False):
        assert Baseline("perceptron", {"average": average, "epochs": 50}).fit(texts, labels).predict(texts) == labels
    vectoriser = sklearn_vectoriser("perceptron", 2)
    assert list(Perceptron().fit(vectoriser.fit_transform(texts), labels).predict(vectoriser.transform(texts))) == labels


def test_perceptron_margins_are_scaled():
    texts, labels = corpus(classes=2)
    found = Baseline("perceptron").fit(texts, labels).decision(texts)
    assert math.sqrt(np.mean((found[:, 1] - found[:, 0]) ** 2)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_agree_with_predictions(kind, classes):
    texts, labels = corpus(classes=classes)
    baseline = Baseline(kind).fit(texts, labels)
    found = baseline.probabilities(texts)
    assert found.shape == (len(texts), classes)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert [baseline.classes[k] for k in found.argmax(axis=1)] == baseline.predict(texts)
    assert np.mean([p == q for p, q in zip(baseline.predict(texts), labels, strict=True)]) > 0.8


@pytest.mark.parametrize("task", ["classification", "multi-label"])
@pytest.mark.parametrize("kind", list(DEFAULTS))
def test_saved_and_loaded_bit_for_bit(kind, task):
    texts, labels = corpus()
    texts[3] += " \ud800 lone"
    given = [(label,) for label in labels] if task == "multi-label" else labels
    baseline = Baseline(kind, seed=3).fit(texts, given, task=task)
    arrays, config = baseline.to_arrays()
    again = Baseline.from_arrays(load_tensors(save_tensors(arrays)), json.loads(json.dumps(config)))
    fresh = corpus(40, seed=5)[0]
    assert baseline.decision(fresh).tobytes() == again.decision(fresh).tobytes()
    assert baseline.probabilities(fresh).tobytes() == again.probabilities(fresh).tobytes()
    assert baseline.predict(fresh) == again.predict(fresh)
    assert (again.settings, again.seed, again.parameters()) == (baseline.settings, 3, baseline.parameters())


def test_parameters_counts_what_was_estimated():
    texts, labels = ["a b", "b c", "c a"], ["x", "y", "z"]  # words a b c, bigrams ab bc ca: 6 features
    assert Baseline("majority").fit(texts, labels).parameters() == 3
    assert Baseline("naive-bayes").fit(texts, labels).parameters() == 6 * 3 + 3
    assert Baseline("svm").fit(texts, labels).parameters() == 6 * 3 + 3 + 6
    assert Baseline("svm").fit(texts, ["x", "y", "y"]).parameters() == 6 + 1 + 6


@pytest.mark.parametrize("kind", KINDS)
def test_batch_mates_and_chunks_change_nothing(kind, monkeypatch):
    texts, labels = corpus()
    baseline = Baseline(kind).fit(texts, labels)
    together = baseline.decision([*texts, ""])
    monkeypatch.setattr(baselines, "CHUNK", 7)
    assert baseline.decision([*texts, ""]).tobytes() == together.tobytes()
    assert np.concatenate([baseline.decision([text]) for text in [*texts, ""]]).tobytes() == together.tobytes()
    assert baseline.decision([]).shape[0] == 0
    assert baseline.probabilities([]).shape == (0, 3)
    assert baseline.predict([]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_model(kind):
    texts, labels = corpus()
    first, second = (Baseline(kind, seed=1).fit(texts, labels).to_arrays()[0] for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_only_the_seeded_depend_on_the_seed():
    texts, labels = corpus()
    for kind in KINDS:
        first, second = (Baseline(kind, seed=seed).fit(texts, labels).to_arrays()[0]["coefficients"] for seed in (0, 1))
        assert (first.tobytes() != second.tobytes()) == (kind in baselines.SEEDED)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("forest", {}, "unknown baseline 'forest'; there are: majority"),
        ("svm", {"c": 1}, "svm has no setting 'c'; it has: ngrams, minimum_count, sublinear, C"),
        ("majority", {"C": 1}, "it has: none"),
        ("svm", {"C": 0}, "C must be a number above 0"),
        ("svm", {"C": float("nan")}, "C must be a number above 0"),
        ("svm", {"C": True}, "C must be a number above 0"),
        ("svm", {"ngrams": 1.5}, "ngrams must be a whole number"),
        ("svm", {"ngrams": 0}, "ngrams must be a whole number"),
        ("logistic", {"sublinear": "no"}, "sublinear must be true or false"),
        ("naive-bayes", {"alpha": -1}, "alpha must be a number above 0"),
    ],
)
def test_settings_are_checked(kind, settings, message):
    with pytest.raises(InputError, match=message):
        Baseline(kind, settings)


@pytest.mark.parametrize("kind", list(DEFAULTS))
def test_each_kind_serves_the_tasks_it_states(kind):
    labels = {"classification": ["x", "y"], "multi-label": [("x",), ("y",)], "regression": [0.5, 1.5]}
    for task, given in labels.items():
        if task in TASKS[kind]:
            assert Baseline(kind).fit(["one", "two"], given, task=task).task == task
        else:
            with pytest.raises(InputError, match=f"not {task}; {task} is served by majority"):
                Baseline(kind).fit(["one", "two"], given, task=task)
    with pytest.raises(InputError, match="not unlabelled"):
        Baseline(kind).fit(["one", "two"], [None, None], task="unlabelled")


def test_what_fit_refuses():
    with pytest.raises(InputError, match="needs at least two classes"):
        Baseline("svm").fit(["a", "b"], ["x", "x"])
    with pytest.raises(InputError, match="2 texts but 1 labels"):
        Baseline("svm").fit(["a", "b"], ["x"])
    with pytest.raises(InputError, match="no training texts"):
        Baseline("majority").fit([], [])
    with pytest.raises(InputError, match="no word occurs 1 times"):
        Baseline("svm").fit(["", " "], ["x", "y"])
    with pytest.raises(InputError, match="must be a string, not 1"):
        Baseline("svm").fit(["a", "b"], [1, 2])
    with pytest.raises(InputError, match="must be a tuple of strings"):
        Baseline("svm").fit(["a", "b"], ["x", "y"], task="multi-label")
    with pytest.raises(InputError, match="not pairs of texts"):
        Baseline("svm").fit(["a", "b"], ["x", "y"], pairs=["c", "d"])
    for use in (lambda b: b.predict(["a"]), lambda b: b.to_arrays()):
        with pytest.raises(InputError, match="not fitted yet"):
            use(Baseline("svm"))


def test_a_broken_folder_is_refused():
    arrays, config = Baseline("svm").fit(["a b", "c d"], ["x", "y"]).to_arrays()
    with pytest.raises(InputError, match="lacks 'idf'"):
        Baseline.from_arrays({k: v for k, v in arrays.items() if k != "idf"}, config)
    with pytest.raises(InputError, match="lacks 'words'"):
        Baseline.from_arrays(arrays, {k: v for k, v in config.items() if k != "words"})
    with pytest.raises(InputError, match="coefficients of shape"):
        Baseline.from_arrays(arrays, {**config, "words": config["words"][:-1]})
    with pytest.raises(InputError, match="idf weights"):
        Baseline.from_arrays({**arrays, "idf": arrays["idf"][:-1]}, config)
