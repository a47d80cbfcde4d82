"""The estimators as scikit-learn's kind, on every task; what they take, refuse, say and save."""

from __future__ import annotations

import json
import logging
import pickle
import random

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

import weft
from weft.data.tokenizers import TOKENIZERS
from weft.errors import InputError
from weft.estimators import inputs
from weft.estimators.rungs import RUNGS

SMALL = {"embedding_size": 8, "filters": 4, "learning_rate": 0.05, "dropout": 0.0}
SEQUENTIAL = [name for name, rung in RUNGS.items() if rung.settings.get("encoder") in ("recurrent", "transformer")]
NEURAL = [name for name, rung in RUNGS.items() if rung.engine == "neural"]
GOOD, BAD, FILL = ("great", "superb", "lovely"), ("awful", "dull", "weak"), ("the", "film", "plot", "a", "scene", "was")


def corpus(count: int = 40, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of two words of feeling among filling ones: every model can learn them."""
    draw = random.Random(seed)
    texts, labels = [], []
    for number in range(count):
        words = [draw.choice(FILL) for _ in range(draw.randint(2, 6))] + [draw.choice(GOOD if number % 2 else BAD) for _ in range(2)]
        draw.shuffle(words)
        texts.append(" ".join(words))
        labels.append("pos" if number % 2 else "neg")
    return texts, labels


TEXTS, LABELS = corpus()


def small(model: str = "cnn", task: str = "classification", **options):
    """A quick estimator in exact arithmetic."""
    from weft.estimators.settings import known_settings

    settings = {name: value for name, value in SMALL.items() if name in known_settings(model)} | options.pop("settings", {})
    kind = weft.TextRegressor if task == "regression" else weft.TextClassifier
    options = {"precision": "fp32", **options}
    if RUNGS[model].engine == "neural" and not {"steps", "minutes"} & options.keys():
        options.setdefault("epochs", 3)
    return kind(model=model, settings=settings, **options)


@pytest.fixture(scope="module")
def fitted():
    return small(epochs=8).fit(TEXTS, LABELS)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="weft")
    return caplog


# conventions


@pytest.mark.parametrize("kind", [weft.TextClassifier, weft.TextRegressor])
def test_the_constructor_only_stores_and_params_go_round(kind):
    settings = {"filters": 3}
    made = kind(model="nonsense", settings=settings, epochs=-5, random_state="what?")  # nothing is checked before fit
    assert made.get_params()["model"] == "nonsense"
    assert made.settings is settings
    assert made.set_params(model="cnn", epochs=2, random_state=1) is made
    copy = clone(made)
    assert copy.get_params() == made.get_params()
    assert not [name for name in vars(made) if name.endswith("_")]
    assert eval(repr(made), {kind.__name__: kind}).get_params() == made.get_params()


def test_fit_returns_itself_leaves_its_parameters_alone_and_fits_names_that_end_in_an_underscore():
    made = small(settings={"filters": 4})
    before = json.dumps(made.get_params(), default=str)
    assert made.fit(TEXTS, LABELS) is made
    assert json.dumps(made.get_params(), default=str) == before
    new = set(vars(made)) - set(made.get_params())
    assert new >= {"classes_", "task_", "history_", "pair_", "seed_"}
    assert all(name.endswith("_") for name in new)
    assert made.parameters_ > 0


def test_tags_say_that_texts_go_in():
    tags = get_tags(weft.TextClassifier())
    assert is_classifier(weft.TextClassifier()) and not is_classifier(weft.TextRegressor())
    assert is_regressor(weft.TextRegressor())
    assert (tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array) == (True, True, False)
    assert tags.target_tags.required


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "answers"])
def test_what_is_not_fitted_says_so(method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(weft.TextClassifier(), method)(TEXTS)
    with pytest.raises(NotFittedError):
        weft.TextClassifier().score(TEXTS, LABELS)
    with pytest.raises(NotFittedError):
        weft.TextRegressor().save("nowhere")


def test_in_a_pipeline():
    made = Pipeline([("low", FunctionTransformer(lambda texts: [text.lower() for text in texts])), ("model", small(epochs=8))])
    made.fit([text.upper() for text in TEXTS], LABELS)
    assert made.score(TEXTS, LABELS) > 0.9
    assert list(made.classes_) == ["neg", "pos"]
    assert made.predict_proba(["great"]).shape == (1, 2)


def test_under_cross_validation_and_scikit_learns_scorers():
    made = small(epochs=6)
    assert cross_val_score(made, TEXTS, LABELS, cv=2).mean() > 0.8
    for scoring in ("roc_auc", "neg_log_loss", "f1_macro", "average_precision"):
        scores = cross_val_score(made, TEXTS, [label == "pos" for label in LABELS], cv=2, scoring=scoring)
        assert np.isfinite(scores).all()
        if scoring != "neg_log_loss":
            assert scores.mean() > 0.8


def test_grid_search_over_settings_and_over_models():
    search = GridSearchCV(small(), {"settings": [{**SMALL, "filters": 2}, {**SMALL, "filters": np.int64(6)}]}, cv=2, error_score="raise")
    search.fit(TEXTS, LABELS)
    assert search.best_estimator_.settings in search.param_grid["settings"]
    search = GridSearchCV(weft.TextClassifier(precision="fp32"), {"model": ["majority", "svm"]}, cv=2, error_score="raise")
    search.fit(TEXTS, LABELS)
    assert search.best_params_ == {"model": "svm"}
    assert search.predict(["great great"]) == ["pos"]


def test_a_fitted_one_crosses_a_process_border(fitted):
    """joblib's workers send estimators pickled; weft itself never does."""
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(TEXTS), fitted.predict_proba(TEXTS))


# labels and predictions


@pytest.mark.parametrize("model", ["cnn", "logistic", "majority"])
@pytest.mark.parametrize(
    "labels",
    [
        np.array([7, -2], np.int64)[np.arange(40) % 2],
        np.array([True, False])[np.arange(40) % 2],
        np.array([0.5, 1.5])[np.arange(40) % 2],
        np.array(["b", "a"])[np.arange(40) % 2],
        [["b", "a"][i % 2] for i in range(40)],
        np.array(["b", "a"], object)[np.arange(40) % 2],
    ],
    ids=["int", "bool", "float", "str", "list", "object"],
)
def test_classes_and_predictions_are_of_the_labels_kind(model, labels):
    made = small(model).fit(TEXTS, labels)
    distinct = np.unique(np.asarray(list(labels)))
    assert np.array_equal(made.classes_, distinct)
    assert made.classes_.dtype.kind == distinct.dtype.kind
    predicted = made.predict(TEXTS)
    assert predicted.dtype == made.classes_.dtype
    assert predicted.shape == (40,)
    assert made.score(TEXTS, labels) == pytest.approx(np.mean(predicted == np.asarray(list(labels))))


def test_probabilities_are_those_of_the_classes_and_decide(fitted):
    shares = fitted.predict_proba(TEXTS)
    assert shares.shape == (40, 2)
    assert np.allclose(shares.sum(1), 1)
    assert np.array_equal(fitted.classes_[shares.argmax(1)], fitted.predict(TEXTS))
    margin = fitted.decision_function(TEXTS)  # of two classes one column, as scikit-learn has it
    assert np.allclose(1 / (1 + np.exp(-margin.astype(float))), shares[:, 1], atol=1e-6)
    labels, again = fitted.answers(TEXTS)
    assert np.array_equal(labels, fitted.predict(TEXTS))
    assert np.array_equal(again, shares)
    three = small("logistic").fit(TEXTS[:9], ["a", "b", "c"] * 3)
    assert three.decision_function(TEXTS).shape == (40, 3)


@pytest.mark.parametrize("model", ["cnn", "svm"])
def test_no_texts_give_no_answers(model):
    made = small(model).fit(TEXTS, LABELS)
    assert made.predict([]).shape == (0,)
    assert made.predict([]).dtype == made.classes_.dtype
    assert made.predict_proba([]).shape == (0, 2)


def test_scores_may_be_weighted(fitted):
    texts, labels = TEXTS[:4], ["pos", "pos", "neg", "neg"]
    right = fitted.predict(texts) == np.array(labels)
    weights = np.array([4.0, 3.0, 2.0, 1.0])
    assert fitted.score(texts, labels, weights) == pytest.approx((right * weights).sum() / 10)


@pytest.mark.parametrize("model", [name for name in NEURAL if RUNGS[name].has_head])
def test_hinge_is_a_choice_for_every_classifier(model):
    settings = {"hidden_size": 16, "learning_rate": 0.02, "embedding_dropout": 0.0} if model in SEQUENTIAL else {}
    made = small(model, loss="hinge", epochs=25, settings=settings).fit(TEXTS, LABELS, (TEXTS, LABELS))
    assert all(name == "train_hinge" for check in made.history_.checks for name in check if name.startswith("train_"))
    assert made.score(TEXTS, LABELS) >= 0.8


def test_a_loss_that_does_not_fit_the_task_is_refused():
    for loss, said in (("squared", "'squared' does not fit classification"), ("focal", "loss: there is no 'focal'")):
        with pytest.raises(InputError, match=said):
            small(loss=loss).fit(TEXTS, LABELS)
    with pytest.raises(InputError, match="'svm' has a loss of its own"):
        small("svm", loss="hinge").fit(TEXTS, LABELS)


# several labels, numbers, pairs


def several(texts: list[str]) -> list[tuple[str, ...]]:
    """good where a good word is, film where that word is; both, one, or none."""
    return [tuple(name for name, words in (("good", GOOD), ("film", ("film",))) if set(words) & set(text.split())) for text in texts]


@pytest.mark.parametrize("model", ["cnn", "bag", "naive-bayes", "svm", "majority"])
def test_several_labels(model):
    labels = several(TEXTS)
    made = small(model, epochs=25 if model in NEURAL else None, settings={"buckets": 100} if model == "bag" else {}).fit(TEXTS, labels)
    assert made.task_ == "multi-label"
    assert list(made.classes_) == ["film", "good"]
    predicted = made.predict(TEXTS)
    assert predicted.dtype == object
    assert all(isinstance(one, tuple) for one in predicted)
    shares = made.predict_proba(TEXTS)
    assert [tuple(made.classes_[row > 0.5]) for row in shares] == list(predicted)
    if model != "majority":
        assert made.score(TEXTS, labels) > 0.9
        assert cross_val_score(clone(made), TEXTS, labels, cv=KFold(2)).min() > 0.3  # KFold: scikit-learn cannot stratify by sets


@pytest.mark.parametrize("shape", [list, set, frozenset, lambda label: np.array(label, object).tolist()])
def test_labels_may_be_any_collection(shape):
    labels = [shape(label) for label in several(TEXTS)]
    made = small("naive-bayes").fit(TEXTS, labels)
    assert made.score(TEXTS, labels) == made.score(TEXTS, several(TEXTS))


@pytest.mark.parametrize("model", ["cnn", "bag", "majority"])
def test_numbers(model):
    numbers = [100.0 + 10 * (i % 2) for i in range(40)]
    options = {"settings": {"buckets": 100}} if model == "bag" else {}
    made = small(model, "regression", epochs=15 if model in NEURAL else None, **options).fit(TEXTS, numbers)
    predicted = made.predict(TEXTS)
    assert predicted.shape == (40,) and predicted.dtype == float
    assert made.predict([]).shape == (0,)
    if model == "majority":
        assert np.allclose(predicted, np.mean(numbers))
    else:
        assert made.score(TEXTS, numbers) > 0.8  # R² in the numbers' own unit
        assert made.score(TEXTS, numbers) == pytest.approx(made.evaluate(TEXTS, numbers)["r2"])
    assert np.isfinite(cross_val_score(clone(made), TEXTS, numbers, cv=2)).all()


def test_numbers_that_are_all_the_same_are_learnt_as_that():
    assert np.allclose(small("cnn", "regression").fit(TEXTS, [3.0] * 40).predict(TEXTS), 3, atol=1.5)


@pytest.mark.parametrize("shape", [list, np.array, lambda pairs: [list(pair) for pair in pairs]], ids=["tuples", "array", "lists"])
def test_pairs(shape):
    draw = random.Random(1)
    pairs = [(a, b) for a, b in zip(TEXTS, draw.sample(TEXTS, 40), strict=True)]
    labels = ["same" if a.split()[0] == b.split()[0] else "other" for a, b in pairs]
    made = small(epochs=2).fit(shape(pairs), labels)
    assert made.pair_
    assert made.predict(shape(pairs)).shape == (40,)
    assert np.array_equal(made.predict_proba(shape(pairs)), made.predict_proba(pairs))
    with pytest.raises(InputError, match="was trained on pairs of texts"):
        made.predict(TEXTS)


def test_a_baseline_refuses_pairs_and_numbers_naming_who_takes_them():
    pairs = list(zip(TEXTS, TEXTS, strict=True))
    with pytest.raises(InputError, match="'svm' reads one text; pairs run on the neural rungs and on majority"):
        small("svm").fit(pairs, LABELS)
    with pytest.raises(InputError, match="'svm' does classification, multi-label, not regression"):
        small("svm", "regression").fit(TEXTS, range(40))
    assert small("majority").fit(pairs, LABELS).predict(pairs[:2]).shape == (2,)


# what is refused


@pytest.mark.parametrize(
    ("texts", "labels", "said"),
    [
        ([], [], "texts: there is nothing to train on"),
        ("text", "label", "texts: is one text; give a list"),
        (TEXTS, "pos", "labels: is one text; give a list"),
        (TEXTS, LABELS[:3], "labels: 40 texts but 3 labels"),
        (TEXTS, ["pos"] * 40, "labels: every label is 'pos': a classifier needs at least two classes"),
        (TEXTS, [None, *LABELS[1:]], "labels: label 1 is missing (None)"),
        (TEXTS, [*LABELS[:39], float("nan")], "labels: labels mix texts and numbers|labels: label 40 is missing (nan)"),
        (TEXTS, [1.0] * 39 + [float("nan")], "labels: label 40 is missing (nan)"),
        (TEXTS, [1, *LABELS[1:]], "labels: labels mix texts and numbers"),
        (TEXTS, [("a",), *LABELS[1:]], "labels: label 2 is not of the kind of the first"),
        (TEXTS, np.eye(40), "labels: label 1 is array("),
        (TEXTS, [{"a": 1}] * 40, "labels: label 1 is {'a': 1}"),
        (TEXTS, [()] * 40, "labels: there is no label at all"),
        ([None, *TEXTS[1:]], LABELS, "texts: text 1 is None; give a string, or two for pairs"),
        ([*TEXTS[:39], ("a", "b")], LABELS, "texts: text 40 is ('a', 'b')"),
        ([("a", "b"), *TEXTS[1:]], LABELS, "texts: text 2 is "),
        ([("a", "b", "c")] * 40, LABELS, "texts: text 1 is ('a', 'b', 'c')"),
        (np.eye(40), LABELS, "texts: text 1 is array("),
    ],
)
@pytest.mark.parametrize("model", ["cnn", "svm"])
def test_data_that_cannot_be_learnt_from_are_refused(model, texts, labels, said):
    with pytest.raises(InputError) as caught:
        small(model).fit(texts, labels)
    assert str(caught.value).startswith(tuple(said.split("|")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "bert"}, "model: there is no 'bert'; there are majority, "),
        ({"steps": 5, "epochs": 2}, "steps: give one budget, not epochs and steps"),
        ({"steps": 0}, "steps: must be a whole number above 0, not 0"),
        ({"steps": 2.5}, "steps: must be a whole number above 0, not 2.5"),
        ({"epochs": -1}, "epochs: must be a number above 0, not -1"),
        ({"epochs": float("nan")}, "epochs: must be a number above 0, not nan"),
        ({"minutes": 0}, "minutes: must be a number above 0, not 0"),
        ({"batch_size": 0}, "batch_size: must be at least 1, not 0"),
        ({"batch_tokens": -1}, "batch_tokens: must be at least 0"),
        ({"patience": "many"}, "patience: must be a whole number"),
        ({"validation_fraction": 1.0}, "validation_fraction: must be at least 0 and below 1, not 1.0"),
        ({"random_state": -1}, "random_state: must be from 0 to 4294967295, not -1"),
        ({"device": "abacus"}, "device: must be auto, cpu, cuda"),
        ({"precision": "fp8"}, "precision: must be one of auto, fp32, bf16"),
        ({"threads": 0}, "threads: must be at least 1"),
        ({"settings": {"filtres": 3}}, "filtres: no such setting"),
        ({"settings": [3]}, "settings: must be names and values"),
        ({"model": "svm", "settings": {"filters": 3}}, "svm has no setting 'filters'; it has: ngrams, minimum_count, sublinear, C"),
        ({"model": "svm", "settings": {"C": "much"}}, "C: must be a number, like 1.0, not 'much'"),
        ({"model": "svm", "settings": 3}, "settings: must be names and values"),
        ({"settings": {"tokenizer": "bytes", "lowercase": True}}, "a 'bytes' tokenizer has no setting 'lowercase'; it has none"),
        ({"settings": {"encoder": "transformer", "heads": 3}}, "settings: "),
    ],
)
def test_parameters_that_cannot_be_are_refused_at_fit(options, said):
    with pytest.raises(InputError) as caught:
        weft.TextClassifier(**{"precision": "fp32", **options}).fit(TEXTS, LABELS)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        (TEXTS, "validation: must be (texts, labels)"),
        ((TEXTS, LABELS[:5]), "validation: 40 texts but 5 labels"),
        (([("a", "b")], ["pos"]), "validation: must be pairs where the training texts are pairs"),
        ((TEXTS[:1], [("pos",)]), "validation: label 1 is ('pos',); this model takes one label, not several"),
        (("text", ["pos"]), "validation: is one text"),
    ],
)
def test_validation_data_that_do_not_fit_are_refused(validation, said):
    with pytest.raises(InputError) as caught:
        small().fit(TEXTS, LABELS, validation)
    assert str(caught.value).startswith(said)


def test_scoring_labels_of_another_kind_is_refused(fitted):
    with pytest.raises(InputError, match=r"label 1 is .*; this model takes one label, not several"):
        fitted.score(TEXTS, [("pos",)] * 40)
    with pytest.raises(InputError, match="this model takes a tuple of labels"):
        small("naive-bayes").fit(TEXTS, several(TEXTS)).evaluate(TEXTS, LABELS)
    with pytest.raises(InputError, match="40 texts but 2 labels"):
        fitted.score(TEXTS, ["pos", "neg"])
    with pytest.raises(InputError, match="was trained on single texts"):
        fitted.predict([("a", "b")])


# what is set aside, and what is said


def test_validation_data_choose_the_best_weights(said):
    upside_down = (TEXTS, ["pos" if label == "neg" else "neg" for label in LABELS])
    made = small(epochs=8, settings={"checks": 8}).fit(TEXTS, LABELS, upside_down)
    first, last = made.history_.checks[0], made.history_.checks[-1]
    assert last["accuracy"] < 0.2  # what is learnt is wrong there
    assert made.history_.best_step < last["step"]
    assert made.evaluate(*upside_down)["accuracy"] == pytest.approx(max(check["accuracy"] for check in made.history_.checks))
    assert first["step"] <= made.history_.best_step
    assert "set aside" not in said.text


def test_a_label_unseen_in_training_is_left_out_of_the_choice_said_and_counted_wrong(said):
    validation = ([*TEXTS, "great great"], [*LABELS, "new"])
    made = small(epochs=8).fit(TEXTS, LABELS, validation)
    assert list(made.classes_) == ["neg", "pos"]
    assert "1 of 41 validation texts have a label that training does not: left out of the choice of weights" in said.text
    assert made.history_.best == pytest.approx(made.score(TEXTS, LABELS))
    assert made.score(*validation) == pytest.approx(40 / 41 * made.score(TEXTS, LABELS))
    assert "1 of 41 texts have a label that training never saw (new): they count as wrong" in said.text


def test_validation_data_of_unseen_labels_alone_choose_nothing(said):
    made = small().fit(TEXTS, LABELS, (["what"], ["new"]))
    assert "no validation text is left: the last weights are kept" in said.text
    assert made.history_.best_step == made.history_.steps


def test_without_validation_data_a_share_is_set_aside_by_label_and_said(said):
    small(validation_fraction=0.25).fit(TEXTS, LABELS)
    assert "no validation data: 10 of 40 texts set aside to choose the best weights" in said.text
    said.clear()
    made = small(validation_fraction=0).fit(TEXTS, LABELS)
    assert "set aside" not in said.text
    assert not any("accuracy" in check for check in made.history_.checks)
    small().fit(["great", "dull"], ["pos", "neg"])
    assert "too few" in said.text


def test_a_class_of_one_text_is_learnt_from_and_not_set_aside():
    made = small("bag", settings={"buckets": 50}).fit([*TEXTS, "rare bird"], [*LABELS, "rare"])
    assert list(made.classes_) == ["neg", "pos", "rare"]
    assert made.predict_proba(["rare bird"]).shape == (1, 3)


def test_budgets_of_a_baseline_are_said_not_to_be_used(said):
    small("svm", epochs=3, patience=2).fit(TEXTS, LABELS)
    assert "svm is trained by scikit-learn to its end: epochs and patience are not used" in said.text


def test_minutes_become_steps_once_and_are_recorded(said, tmp_path):
    made = small(minutes=0.01).fit(TEXTS, LABELS)
    steps = made.history_.steps
    assert f"minutes are {steps} steps" in said.text
    made.save(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "metrics.json").read_text())["training"]["steps"] == steps
    again = small(steps=steps).fit(TEXTS, LABELS)
    assert np.array_equal(again.predict_proba(TEXTS), made.predict_proba(TEXTS))


def test_the_seed_decides_and_none_draws_one():
    first, same, other = (small(random_state=seed).fit(TEXTS, LABELS).predict_proba(TEXTS) for seed in (3, np.int64(3), 4))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    drawn = small(random_state=None).fit(TEXTS, LABELS)
    assert np.array_equal(small(random_state=drawn.seed_).fit(TEXTS, LABELS).predict_proba(TEXTS), drawn.predict_proba(TEXTS))
    state = np.random.RandomState(5)
    assert small("svm", random_state=state).fit(TEXTS, LABELS).seed_ != small("svm", random_state=state).fit(TEXTS, LABELS).seed_


@pytest.mark.parametrize("kind", list(TOKENIZERS))
@pytest.mark.parametrize("model", ["cnn", "bag"])
def test_every_tokenizer_through_settings(kind, model, tmp_path):
    sizes = {"bpe": {"maximum_size": 300}, "wordpiece": {"maximum_size": 80}, "hashing": {"buckets": 64}}.get(kind, {})
    made = small(model, epochs=1, settings={"tokenizer": kind, "buckets": 64, **sizes} if model == "bag" and kind in ("words", "whitespace")
                 else {"tokenizer": kind, **sizes})  # fmt: skip
    made.fit(TEXTS, LABELS)
    assert made.engine_.tokenizer.kind == kind
    made.save(tmp_path / "m")
    assert np.array_equal(weft.load(tmp_path / "m", precision="fp32").predict_proba(TEXTS), made.predict_proba(TEXTS))


@pytest.mark.parametrize("model", ["cnn", "transformer", "lstm", "bag", "naive-bayes", "svm"])
def test_odd_texts_have_an_answer(model, said):
    """Nothing, unknown words alone, half a surrogate, NUL, a long line: what docs/data.md says."""
    sizes = {"buckets": 64} if model == "bag" else {"hidden_size": 8} if model in ("transformer", "lstm") else {}
    sizes |= {"heads": 2} if model == "transformer" else {}
    made = small(model, settings={**sizes, **({"maximum_length": 100} if model in NEURAL else {})}).fit(TEXTS, LABELS)
    odd = ["", "   ", "qqq zzz", "\ud800 great", "a\0b", "great " * 5000, "x" * 100_000, "é" * 3, "\u202e", "😀" * 50]
    said.clear()
    shares = made.predict_proba(odd)
    assert np.isfinite(shares).all()
    assert np.allclose(shares.sum(1), 1)
    assert np.array_equal(shares, made.predict_proba(odd))
    assert np.allclose(made.predict_proba(odd[:1]), shares[:1], atol=1e-5)
    if model in NEURAL:
        assert "of 10 texts are longer than maximum_length=100 tokens and were cut there" in said.text


# folders


@pytest.mark.parametrize("model", ["cnn", "svm", "majority", "naive-bayes"])
@pytest.mark.parametrize("labels", [LABELS, [label == "pos" for label in LABELS], list(np.arange(40) % 3), several(TEXTS)])
def test_saved_and_loaded_is_the_same(model, labels, tmp_path):
    made = small(model, random_state=7).fit(TEXTS, labels)
    folder = made.save(tmp_path / "m", metrics={"split": "dev", "dev": {"accuracy": 0.5}}, data="there")
    again = weft.load(folder, precision="fp32")
    assert type(again) is type(made)
    assert np.array_equal(again.predict_proba(TEXTS), made.predict_proba(TEXTS))
    assert list(again.predict(TEXTS)) == list(made.predict(TEXTS))
    assert again.classes_.dtype.kind == made.classes_.dtype.kind
    assert again.seed_ == 7 and again.task_ == made.task_
    assert again.parameters_ == made.parameters_
    assert again.save(tmp_path / "n").is_dir()  # and may be saved again
    assert (tmp_path / "n" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    card = (folder / "README.md").read_text()
    assert "weft.load(" in card and "| seed | 7 |" in card and "| data | there |" in card and "accuracy | 0.5000" in card


def test_a_regressor_saved_and_loaded_is_the_same(tmp_path):
    made = small("cnn", "regression").fit(TEXTS, [5.0 + i % 2 for i in range(40)])
    again = weft.load(made.save(tmp_path / "m"), precision="fp32")
    assert isinstance(again, weft.TextRegressor)
    assert np.array_equal(again.predict(TEXTS), made.predict(TEXTS))


def test_a_trained_folder_holds_no_pickle(fitted, tmp_path):
    folder = fitted.save(tmp_path / "m")
    names = ["README.md", "config.json", "metrics.json", "model.safetensors", "tokenizer.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for path in folder.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK"))


@pytest.mark.parametrize("model", ["cnn", "svm"])
def test_a_config_that_lost_something_is_refused_not_guessed(model, tmp_path):
    folder = small(model, epochs=1 if model == "cnn" else None).fit(TEXTS, LABELS).save(tmp_path / "m")
    whole = json.loads((folder / "config.json").read_text())
    for name in whole:
        broken = {key: value for key, value in whole.items() if key != name}
        (folder / "config.json").write_text(json.dumps(broken))
        if name in ("weft", "model"):
            continue  # said for people; and `parameters` hold the model too
        with pytest.raises(InputError, match=r"config\.json"):
            weft.load(folder)
    for name in ("task", "engine", "parameters", "fitted", "files"):
        (folder / "config.json").write_text(json.dumps({**whole, name: 3}))
        with pytest.raises(InputError):
            weft.load(folder)


# attention of a pooling


@pytest.mark.parametrize(("pooling", "passes"), [("attentive", 1), ("passes", 3)])
def test_a_poolings_attention_is_what_the_answer_is_made_of(pooling, passes):
    given = {"pooling": pooling, **({"passes": passes} if pooling == "passes" else {})}
    made = small("lstm", settings=given, steps=3).fit(TEXTS, LABELS)
    found = made.align("A great film, a great plot")
    assert [token.lower() for token in found.source] == ["a", "great", "film", ",", "a", "great", "plot"]
    assert found.target == [f"pass {number}" for number in range(1, passes + 1)]
    (weights,) = found.maps
    assert weights.shape == (passes, 7) and np.allclose(weights.sum(1), 1, atol=1e-6)
    model, batch = (
        made.engine_.model,
        made.engine_.batches(made._examples(inputs.labelled(["A great film, a great plot"], ["pos"])), shuffled=False),
    )
    (one,) = batch.epoch(0)
    hidden, _ = model.encoder(one.inputs, one.mask)
    assert np.allclose(weights[-1] @ hidden[0].detach().numpy(), model.encode(one)[0].detach().numpy(), atol=1e-5)


def test_what_has_no_attention_says_so(fitted):
    with pytest.raises(InputError, match="neither attentive nor in passes"):
        fitted.align("a film")
    with pytest.raises(InputError, match="'naive-bayes' has no attention"):
        small("naive-bayes").fit(TEXTS, LABELS).align("a film")
    narrow = small("cnn", settings={"pooling": "attentive", "padding": "wide"}, steps=1).fit(TEXTS, LABELS)
    with pytest.raises(InputError, match="states of 2 tokens: none is a token's own"):
        narrow.align("a film")
    for text, said in ((" ", "is empty"), (3, "must be a text")):
        with pytest.raises(InputError, match=said):
            narrow.align(text)
