"""The rung fasttext: its bags against a loop over the text, its folder bit for bit, what it says and refuses, and no torch."""

import subprocess
import sys

import numpy as np
import pytest

import weft
from weft.data.hashing import ngram_hashes, word_hash
from weft.errors import InputError
from weft.estimators.fasttext import DEFAULTS, END, FastText
from weft.estimators.settings import known_settings, typed_settings

TEXTS = ["a good film", "a bad film", "great fun", "an awful mess", "", "good fun , great film"] * 6
LABELS = ["p", "n", "p", "n", "n", "p"] * 6
SMALL = {"embedding_size": 8, "buckets": 50, "epochs": 20}


def fitted(labels=LABELS, settings=None, **options):
    return weft.TextClassifier("fasttext", {**SMALL, **(settings or {})}, **options).fit(TEXTS, labels)


def test_scores_are_those_of_the_mean_of_words_and_hashed_bigrams():
    engine = fitted().engine_
    words = engine.tokenizer.vocabulary
    for text in [*TEXTS[:6], "good awful unseen", "unseen", "film film film"]:
        tokens = [*text.split(), END]
        hashes = np.array([word_hash(token) for token in tokens], np.uint64)
        ids = [words.id(token) for token in tokens] + [len(words) + int(h) % 50 for h in ngram_hashes(hashes, 2)]
        rows = [list(engine.used).index(one) for one in ids if one in engine.used]
        wanted = engine.model.outputs @ engine.model.inputs[rows].mean(0)
        np.testing.assert_allclose(engine.scores([text])[0], wanted, atol=1e-5)
    assert len(engine.used) == len(engine.model.inputs) == len(set(engine.used))


@pytest.mark.parametrize("loss", ["softmax", "hs", "ns", "ova"])
@pytest.mark.parametrize("tokenizer", ["words", "whitespace"])
def test_every_loss_learns_and_is_saved_bit_for_bit(loss, tokenizer, tmp_path):
    model = fitted(settings={"loss": loss, "tokenizer": tokenizer, "learning_rate": 1.0})
    assert model.score(TEXTS, LABELS) == 1.0
    np.testing.assert_allclose(model.predict_proba(["good", "nothing of it", ""]).sum(1), 1)
    again = weft.load(model.save(tmp_path / "model"))
    fresh = [*TEXTS[:6], "an unseen mess", "Good"]
    assert again.decision_function(fresh).tobytes() == model.decision_function(fresh).tobytes()
    assert again.parameters_ == model.parameters_ and again.engine_.settings == model.engine_.settings


def test_chances_under_the_tree_are_those_of_its_leaves():
    labels = ["a", "b", "c", "d", "e", "a"] * 6
    model = fitted(labels, {"loss": "hs", "learning_rate": 1.0})
    np.testing.assert_allclose(model.predict_proba(TEXTS), np.exp(model.engine_.scores(TEXTS).astype(np.float64)), atol=1e-6)
    assert model.engine_.model.outputs.shape == (4, 8)


def test_several_labels(tmp_path):
    labels = [("p", "short") if label == "p" else ("n",) if text else () for text, label in zip(TEXTS, LABELS, strict=True)]
    model = fitted(labels, {"epochs": 100, "learning_rate": 1.0})
    assert list(model.predict(TEXTS)) == [tuple(sorted(label)) for label in labels]
    assert model.engine_.model.loss == "ova"
    again = weft.load(model.save(tmp_path / "model"))
    assert again.decision_function(TEXTS).tobytes() == model.decision_function(TEXTS).tobytes()
    with pytest.raises(InputError, match="loss: several labels a text are learnt by ova, one against all others, not by 'hs'"):
        fitted(labels, {"loss": "hs"})


def test_batch_mates_change_nothing_and_no_texts_give_no_answers():
    model = fitted()
    together = model.engine_.scores(TEXTS)
    assert np.concatenate([model.engine_.scores([text]) for text in TEXTS]).tobytes() == together.tobytes()
    assert model.predict([]).shape == (0,) and model.predict_proba([]).shape == (0, 2)


def test_the_same_seed_is_the_same_model_and_another_is_not():
    first, again, other = (fitted(random_state=seed).decision_function(TEXTS).tobytes() for seed in (3, 3, 4))
    assert first == again != other


def test_rare_words_are_left_out():
    engine = fitted(settings={"minimum_count": 7, "ngrams": 1}).engine_
    assert set(engine.tokenizer.vocabulary.tokens[2:]) == {"a", "good", "film", "great", "fun", END}
    assert 1 in engine.used  # the others are trained as one, unknown


def test_case_is_kept_where_asked():
    assert fitted(settings={"lowercase": False}).engine_.tokenizer.lowercase is False
    assert np.array_equal(fitted().decision_function(["GOOD Film"]), fitted().decision_function(["good film"]))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"filters": 3}, "filters: no such setting for fasttext"),
        ({"epoch": 3}, "did you mean epochs"),
        ({"epochs": 0}, "epochs: must be at least 1, not 0"),
        ({"epochs": "2.5"}, "epochs: must be a whole number, like 5, not 2.5"),
        ({"learning_rate": 0}, "learning_rate: must be above 0 and below 100"),
        ({"loss": "hinge"}, "loss: must be auto, softmax, hs, ns, ova, not 'hinge'"),
        ({"tokenizer": "bpe"}, "tokenizer: must be words, whitespace, not 'bpe'"),
        ({"lowercase": 3}, "lowercase: must be true or false"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(InputError, match=said):
        fitted(settings=settings)


def test_its_settings_have_names_and_types():
    assert known_settings("fasttext") == set(DEFAULTS)
    assert typed_settings("fasttext", {"epochs": "7", "loss": "hs", "lowercase": "false"}) == {
        "epochs": 7,
        "loss": "hs",
        "lowercase": False,
    }


def test_pairs_numbers_and_budgets(caplog):
    with pytest.raises(InputError, match="'fasttext' reads one text"):
        weft.TextClassifier("fasttext").fit([("a", "b"), ("c", "d")], ["x", "y"])
    with pytest.raises(InputError, match="'fasttext' does classification, multi-label, not regression"):
        weft.TextRegressor("fasttext").fit(["a", "b"], [1.0, 2.0])
    with pytest.raises(InputError, match="loss: 'fasttext' has a loss among its settings"):
        fitted(loss="hinge")
    with caplog.at_level("WARNING", logger="weft"):
        fitted(steps=3)
    assert "fasttext is trained to its end: steps is not used" in caplog.text


def test_a_damaged_folder_is_refused():
    arrays, config, tokenizer = fitted().engine_.saved()
    with pytest.raises(InputError, match="lacks 'counts'"):
        FastText.restore({name: array for name, array in arrays.items() if name != "counts"}, config, tokenizer)
    with pytest.raises(InputError, match="tables of shape"):
        FastText.restore({**arrays, "inputs": arrays["inputs"][:-1]}, config, tokenizer)
    with pytest.raises(InputError, match="do not ascend"):
        FastText.restore({**arrays, "ids": arrays["ids"][::-1].copy()}, config, tokenizer)
    with pytest.raises(InputError, match="none of ours"):
        FastText.restore(arrays, {**config, "loss": "hinge"}, tokenizer)


def test_it_is_trained_and_asked_without_torch():
    code = (
        "import sys, weft; weft.TextClassifier('fasttext').fit(['a b', 'c'], ['x', 'y']).predict(['a']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
