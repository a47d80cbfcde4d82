"""The floors of the translators' ladder: nearest against scikit-learn's TF-IDF, what is kept, and what has no meaning for them."""

from __future__ import annotations

import logging
import math
import random

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

import weft
from weft.errors import InputError
from weft.estimators import translation_baselines
from weft.estimators.baselines import tokens
from weft.estimators.rungs import TRANSLATION_RUNGS
from weft.estimators.settings import known_settings, typed_settings
from weft.estimators.translation_baselines import TranslationBaseline, checked_settings
from weft.generation.search import Greedy

WORDS = ["the", "a", "cat", "Dog", "sat", ".", "on", ",", "mat", "it's", "ran", "über", "42"]
BASELINES = [name for name, rung in TRANSLATION_RUNGS.items() if rung.engine == "baseline"]


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=1 + draw.randrange(8))) for _ in range(count)]


@pytest.mark.parametrize("ngrams", [1, 2])
@pytest.mark.parametrize("held", [translation_baselines.SIMILARITIES, 300])
def test_nearest_is_scikit_learns(monkeypatch, ngrams, held):
    monkeypatch.setattr(translation_baselines, "SIMILARITIES", held)  # all at once, or two at a time
    train, asked = sentences(150), [*sentences(60, 1), "the nebula sat"]
    vectorizer = TfidfVectorizer(tokenizer=tokens, token_pattern=None, lowercase=False, ngram_range=(1, ngrams))
    rows = vectorizer.fit_transform(train)
    like = (rows @ vectorizer.transform(asked).T).toarray()
    model = TranslationBaseline("nearest", {"ngrams": ngrams}).fit(train, [f"t{place}" for place in range(150)])
    found = [answers[0] for answers in model.translated(asked)]
    np.testing.assert_allclose([one.score for one in found], like.max(0), atol=1e-5)
    for column, one in enumerate(found):
        assert like[int(one.text[1:]), column] == pytest.approx(like[:, column].max(), abs=1e-5)
        assert math.exp(one.log_probability) == pytest.approx(one.score, abs=1e-6)


def test_of_equals_the_first_and_without_a_known_word_the_first_of_all():
    model = TranslationBaseline("nearest").fit(["a cat", "the dog", "The dog"], ["x", "y", "z"])
    assert [answers[0].text for answers in model.translated(["the dog", "THE DOG", "??", ""])] == ["y", "y", "x", "x"]
    assert model.translated(["??"])[0][0].score < 1e-6


def test_a_copy_is_the_source():
    made = weft.Translator("copy").fit(["a b", "c"], ["x", "y"])
    assert made.predict(["What?  ", "über 42"]) == ["What?  ", "über 42"] and made.parameters_ == 0
    assert made.evaluate(["a b c d e", "x"], ["a b c d e", "y"])["exact_match"] == 0.5


def test_every_one_of_several_targets_can_be_answered():
    made = weft.Translator("nearest").fit(["a cat", "a dog"], [("x", "y"), "z"])
    assert made.engine_.targets == ["x", "y", "z"] and made.predict(["dog", "cat"]) == ["z", "x"]
    assert made.score(["cat dog", "dog"], ["w", ("v", "z")]) == made.evaluate(["cat dog", "dog"], ["w", ("v", "z")])["bleu"]


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("ngrams", [1, 3])
def test_a_folder_answers_as_what_was_saved(tmp_path, name, ngrams):
    settings = {"ngrams": ngrams} if name == "nearest" else None
    made = weft.Translator(name, settings).fit(sentences(80), [f"{text} !" for text in sentences(80)])
    made.save(tmp_path / "m")
    again = weft.load(tmp_path / "m")
    asked = [*sentences(50, 3), "??", "  "]
    assert again.translations(asked) == made.translations(asked) and again.parameters_ == made.parameters_
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "README.md", "config.json", "metrics.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip


def test_what_does_not_fit_together_is_refused():
    arrays, described, texts = TranslationBaseline("nearest", {"ngrams": 2}).fit(sentences(9), sentences(9)).saved()
    assert TranslationBaseline.restore(arrays, described, texts).translated(["the"])
    broken = [
        ({**arrays, "rows.words": arrays["rows.words"] + 1000}, described, texts),
        ({**arrays, "rows.words": arrays["rows.words"][:-1]}, described, texts),
        ({**arrays, "rows.starts": arrays["rows.starts"][::-1]}, described, texts),
        ({**arrays, "idf": arrays["idf"][1:]}, described, texts),
        ({name: array for name, array in arrays.items() if name != "ngrams.2"}, described, texts),
        (arrays, described, {**texts, "targets": texts["targets"][1:]}),
        (arrays, described, {**texts, "words": texts["words"][1:]}),
        (arrays, described, {}),
        (arrays, {"name": "nearest"}, texts),
        (arrays, {**described, "name": "farthest"}, texts),
    ]
    for one in broken:
        with pytest.raises(InputError):
            TranslationBaseline.restore(*one)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("given", [{"search": Greedy()}, {"limits": {"maximum": 3}}, {"weights": True}, {"stream": print}])
def test_a_search_has_no_meaning_for_them(name, given):
    made = weft.Translator(name).fit(["a b", "c"], ["x", "y"])
    with pytest.raises(InputError, match=f"^{next(iter(given))}: has no meaning for '{name}', which neither searches nor attends"):
        made.translations(["a"], **given)
    with pytest.raises(InputError, match="has no attention to align by"):
        made.align("a")


def test_budgets_are_not_used_which_is_said(caplog):
    with caplog.at_level(logging.WARNING, logger="weft"):
        weft.Translator("copy", epochs=3, batch_size=2).fit(["a"], ["b"])
    assert "copy is trained to its end: epochs and batch_size are not used" in caplog.messages


def test_settings_are_checked():
    assert typed_settings("nearest", {"ngrams": "2"}, "translation") == {"ngrams": 2}
    assert known_settings("copy", "translation") == {"metric"}
    for settings, said in (
        ({"metric": "blue"}, r"metric: there is no 'blue' \(did you mean bleu\?\)"),
        ({"ngrams": 0}, "ngrams: must be at least 1, not 0"),
        ({"ngram": 1}, r"ngram: no such setting for nearest \(did you mean ngrams\?\)"),
        ({"ngrams": "few"}, "ngrams: must be a whole number"),
    ):
        with pytest.raises(InputError, match=said):
            checked_settings("nearest", settings)
    with pytest.raises(InputError, match="no word occurs 5 times or more in the 2 training sources"):
        weft.Translator("nearest", {"minimum_count": 5}).fit(["a", "b"], ["x", "y"])
