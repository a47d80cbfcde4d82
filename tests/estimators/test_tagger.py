"""Tagger as users hold it: tags and spans in and out, raw text, several columns, scikit-learn's ways, what is said and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from taggers import BASELINES, tags_of
from taggers import sentences as drawn
from tiny import VECTORS, WORDS

import weft
from weft import Tagger
from weft.data.schemes import convert, illegal, spans_of
from weft.errors import InputError
from weft.estimators.tagger import tokens_of
from weft.metrics_tagging import span_f1, token_accuracy, unknown_accuracy

TINY = {"embedding_size": 16, "hidden_size": 16, "character_size": 6, "character_hidden": 8, "dropout": 0.0, "word_dropout": 0.0}
PEOPLE = [["Ann", "Lee", "met", "Bob", "in", "Rome", "."], ["Rome", "called", "Ann", "Lee", "."], ["nobody", "met", "Bob", "Ray", "."]] * 6
SPANS = [
    ["B-PER", "I-PER", "O", "B-PER", "O", "B-LOC", "O"], ["B-LOC", "O", "B-PER", "I-PER", "O"], ["O", "O", "B-PER", "I-PER", "O"],
] * 6  # fmt: skip
PARTS = [
    ["N", "N", "V", "N", "P", "N", "."], ["N", "V", "N", "N", "."], ["PRON", "V", "N", "N", "."],
] * 6  # fmt: skip


def tagger(model: str = "bilstm-crf", **options) -> Tagger:
    settings = {**TINY, **options.pop("settings", {})}
    given = {"steps": 40, "batch_size": 6, "validation_fraction": 0, "precision": "fp32", "threads": 1, **options}
    return Tagger(model, {**settings, "learning_rate": settings.get("learning_rate", 0.02)}, **given)


@pytest.fixture(scope="module")
def entities() -> Tagger:
    """One that knows the people by heart."""
    made = tagger("char-bilstm-crf").fit(PEOPLE, SPANS)
    assert made.predict(PEOPLE) == SPANS
    return made


def test_what_is_fitted(entities):
    assert entities.tasks_ == {"tag": "spans"} and entities.task_ == "spans"
    assert entities.labels_ == {"tag": ["B-PER", "E-PER", "O", "S-LOC", "S-PER"]}  # as they are learnt, in BIOES
    assert entities.inside_ == "BIOES"
    assert entities.parameters_ > 1000 and entities.history_.steps == 40
    assert entities.score(PEOPLE, SPANS) == 1.0
    scores = entities.evaluate(PEOPLE, SPANS)
    assert list(scores) == ["span_f1", "span_precision", "span_recall", "accuracy"]  # every word was seen
    assert set(scores.values()) == {1.0}


def test_raw_text_is_cut_into_words_that_know_where_they_stand(entities):
    text = "Ann Lee met  Bob\nin Rome."
    (answer,) = entities.answers([text])
    assert answer.tokens == ["Ann", "Lee", "met", "Bob", "in", "Rome", "."]
    assert [text[start:end] for start, end in answer.offsets] == answer.tokens
    assert answer.tags == SPANS[0] and entities.predict([text]) == [SPANS[0]]
    assert [(span["type"], span["start"], span["end"], span["text"]) for span in answer.spans] == [
        ("PER", 0, 2, "Ann Lee"), ("PER", 3, 4, "Bob"), ("LOC", 5, 6, "Rome"),
    ]  # fmt: skip
    for span in answer.spans:
        assert text[span["from"] : span["to"]].split() == span["text"].split()
        assert span["score"] == min(answer.confidences[span["start"] : span["end"]])
    assert len(answer.confidences) == 7 and all(0 < sure <= 1 for sure in answer.confidences)
    (by_words,) = entities.answers([PEOPLE[0]])
    assert by_words.offsets is None and "from" not in by_words.spans[0]
    assert by_words.tags == answer.tags and by_words.confidences == answer.confidences
    assert by_words.others == {}


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t", "👩\u200d👩\u200d👧 naïve café", "e\u0301tat", "a\x00b", "\ud83d x", "x" * 3000, "«Ann»—Lee"]
)
def test_odd_texts_get_an_answer(entities, text):
    (answer,) = entities.answers([text])
    assert answer.tokens == tokens_of(text)[0] == [text[start:end] for start, end in answer.offsets]
    assert all(one[1] <= other[0] for one, other in pairwise(answer.offsets))
    assert len(answer.tags) == len(answer.confidences) == len(answer.tokens)
    assert illegal(answer.tags) == []


def test_nothing_asked_nothing_answered(entities):
    assert entities.predict([]) == [] and entities.answers([]) == []
    assert entities.predict([[], ["Ann"], []])[::2] == [[], []]
    (answer,) = entities.answers([[]])
    assert answer == ([], [], [], [], {}, None)


@pytest.mark.parametrize("scheme", ["BIO", "IOB1", "BIOES"])
@pytest.mark.parametrize("inside", ["BIO", "BIOES"])
def test_tags_come_back_in_the_scheme_they_were_given_in(scheme, inside):
    words = [["Ann", "Bob", "met"], ["met", "Ann", "Lee", "."], ["Bob", "Lee", "met", "Ann"]]
    bio = [["B-PER", "B-PER", "O"], ["O", "B-PER", "I-PER", "O"], ["B-PER", "I-PER", "O", "B-PER"]]
    tags = [convert(one, "BIO", scheme) for one in bio]
    made = tagger(settings={"scheme": inside}).fit(words * 4, tags * 4)
    assert made.schemes_ == {"tag": scheme}
    assert {tag[0] for tag in made.labels_["tag"]} <= set("BIOES" if inside == "BIOES" else "BIO")
    assert made.predict(words) == tags
    assert made.score(words, tags) == made.score(words, bio) == 1.0  # spans are spans, however written


@pytest.mark.parametrize("rung", BASELINES)
def test_those_without_a_network_answer_alike(rung):
    made = Tagger(rung).fit(PEOPLE, SPANS)
    assert made.predict([]) == [] and made.predict([[], ["Ann"]])[0] == []
    (answer,) = made.answers(["Ann Lee met Bob in Rome."])
    assert answer.tokens == PEOPLE[0] and len(answer.confidences) == 7 and illegal(answer.tags) == []
    assert all(0 <= sure <= 1 for sure in answer.confidences)
    assert made.history_ is None and made.parameters_ > 0
    assert set(made.evaluate(PEOPLE, SPANS)) >= {"span_f1", "accuracy"}
    both = Tagger(rung).fit(PEOPLE, {"pos": PARTS, "ner": SPANS})
    assert set(both.predict(PEOPLE)) == {"pos", "ner"} and both.score(PEOPLE, {"pos": PARTS, "ner": SPANS}) > 0.8


def test_budgets_that_a_model_has_no_use_for_are_said(caplog):
    with caplog.at_level(logging.WARNING, "weft"):
        Tagger("majority", steps=5, batch_size=3).fit(PEOPLE, SPANS)
    assert "majority is trained to its end: steps and batch_size are not used" in caplog.text


@pytest.mark.parametrize("model", ["bilstm", "bilstm-crf"])
def test_several_columns_at_once(model):
    made = tagger(model, steps=80).fit(PEOPLE, {"pos": PARTS, "ner": SPANS})
    assert made.tasks_ == {"pos": "tagging", "ner": "spans"} and made.task_ == "tagging"
    found = made.predict(PEOPLE)
    assert found == {"pos": PARTS, "ner": SPANS}
    scores = made.evaluate(PEOPLE, {"ner": SPANS, "pos": PARTS, "more": None})  # by name, in any order
    assert scores == {"accuracy": 1.0, "ner span_f1": 1.0}
    assert made.score(PEOPLE, {"pos": PARTS, "ner": SPANS}) == 1.0
    (answer,) = made.answers(["Rome called Ann Lee."])
    assert answer.tags == PARTS[1] and answer.others == {"ner": SPANS[1]} and answer.spans == []
    for tags, said in (({"pos": PARTS}, "no tags for ner"), (PARTS, "no tags for ner"), ({}, "no tags for any column")):
        with pytest.raises(InputError, match=said):
            made.evaluate(PEOPLE, tags)


def test_spans_may_be_learnt_as_plain_tags(caplog):
    broken = [["I-PER", "O", "I-LOC", "O", "O", "B-PER", "O"], *SPANS[1:]]
    made = tagger(task="tagging", steps=80).fit(PEOPLE, broken * 1)
    assert made.task_ == "tagging" and "I-LOC" in made.labels_["tag"]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "weft"):
        made = tagger(task="spans", steps=1).fit(PEOPLE, broken)
    assert "2 tags are against the rules of BIO, read as conlleval does and repaired" in caplog.text
    assert illegal(made.predict(PEOPLE)[0]) == []
    with pytest.raises(InputError, match="spans are written in a BIO scheme"):
        tagger(task="spans").fit(PEOPLE, PARTS)
    with pytest.raises(InputError, match="task: must be tagging or spans, not 'ner'"):
        tagger(task="ner").fit(PEOPLE, SPANS)


def test_measures_are_those_of_the_metrics():
    words = drawn(40)
    truth = tags_of("spans", words)["ner"]
    made = tagger(steps=15).fit(words[:25], truth[:25])
    predicted, held = made.predict(words[25:]), (words[25:], truth[25:])
    scores = made.evaluate(*held)
    assert scores["span_f1"] == made.score(*held) == span_f1(held[1], predicted)
    assert scores["accuracy"] == token_accuracy(held[1], predicted)
    seen = {word for sentence in words[:25] for word in sentence}
    assert scores["unknown_accuracy"] == unknown_accuracy(held[1], predicted, held[0], seen)
    answers = made.answers(words[25:])
    assert [[(s["start"], s["end"], s["type"]) for s in one.spans] for one in answers] == [list(map(tuple, spans_of(p))) for p in predicted]


def test_tags_that_training_never_saw_count_as_wrong_and_are_said(entities, caplog):
    with caplog.at_level(logging.WARNING, "weft"):
        scores = entities.evaluate([["Ann", "met", "IBM"]], [["B-PER", "O", "B-ORG"]])
    assert "1 tokens have a tag that training never saw (S-ORG): they count as wrong" in caplog.text
    assert scores["accuracy"] <= 2 / 3 and scores["span_recall"] <= 0.5 and "unknown_accuracy" in scores
    with pytest.raises(InputError, match="'PER' is no tag of spans"):
        entities.evaluate([["Ann"]], [["PER"]])


@pytest.mark.parametrize("model", ["bilstm", "bilstm-crf"])
def test_so_are_they_in_validation(model, caplog):
    odd = ([*PEOPLE[:2], ["IBM", "met"], []], [*SPANS[:2], ["B-ORG", "O"], []])
    with caplog.at_level(logging.WARNING, "weft"):
        made = tagger(model).fit(PEOPLE, SPANS, odd)
    assert "1 tokens have a tag that training never saw (S-ORG): left out of the choice of weights" in caplog.text
    assert made.history_.checks and all(np.isfinite(check["span_f1"]) for check in made.history_.checks)
    checks = tagger(model, steps=2).fit(PEOPLE, SPANS, ([[]], [[]])).history_.checks
    assert not any("span_f1" in check for check in checks)  # there is nothing to choose by


def test_validation_chooses_the_weights_and_is_held_out_where_there_is_none(caplog):
    with caplog.at_level(logging.INFO, "weft"):
        made = tagger(validation_fraction=0.2, steps=10).fit(drawn(60), tags_of("tags", drawn(60))["upos"])
    assert "of 60 sentences set aside" in caplog.text
    assert made.history_.best_step <= 10 and "accuracy" in made.history_.checks[0]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "weft"):
        tagger(validation_fraction=0.5, steps=1).fit([["a", "b"]], [["X", "Y"]])
    assert "1 sentences are too few to set some aside" in caplog.text
    with pytest.raises(InputError, match="validation_fraction: must be at least 0 and below 1"):
        tagger(validation_fraction=1).fit(PEOPLE, SPANS)
    for wrong in (PEOPLE, 3, (PEOPLE, SPANS, 1)):
        with pytest.raises(InputError, match=r"validation: must be \(sentences, tags\)"):
            tagger().fit(PEOPLE, SPANS, wrong)
    with pytest.raises(InputError, match="sentence 2 has 5 words but 4 tags"):
        tagger().fit(PEOPLE, SPANS, (PEOPLE[:2], [SPANS[0], SPANS[1][:-1]]))


REFUSED = [
    ([], [], "sentences: there is nothing to learn from or to measure: no sentences"),
    ("Ann met Bob", ["O"], "sentences: is one text; give a list of sentences"),
    (None, None, "sentences: must be a list of sentences, not None"),
    (["Ann met Bob"], [["O", "O", "O"]], "sentences: sentence 1 is a text; with tags, give its words"),
    ([["Ann"], ["met", 3]], [["O"], ["O", "O"]], r"sentences: sentence 2 is \['met', 3\]; give a text, or a list of words"),
    ([["Ann"], None], [["O"], ["O"]], "sentences: sentence 2 is None"),
    ([["Ann", "Lee"], ["met"]], [["B", "I"]], "tags: 2 sentences but 1 lists of tags"),
    ([["Ann", "Lee"], ["met"]], [["B", "I"], ["O", "O"]], "tags: sentence 2 has 1 words but 2 tags; every word needs one"),
    ([["Ann", "Lee"], ["met"]], [["B", "I"], "O"], "tags: sentence 2 has 1 words but no list of tags"),
    ([["Ann", "Lee"], ["met"]], [["B", "I"], None], "tags: sentence 2 has 1 words but no list of tags"),
    ([["Ann", "Lee"], ["met"]], [["B", "I"], [None]], "tags: sentence 2 has the tag None; tags are texts"),
    ([["Ann", "Lee"], ["met"]], [["B", "I"], [1]], "tags: sentence 2 has the tag 1; tags are texts"),
    ([["Ann", "Lee"], ["met"]], [["B", "I"], [""]], "tags: sentence 2 has the tag ''; tags are texts"),
    ([["Ann"]], None, "tags: must be a list of tags for each sentence, not None"),
    ([["Ann"]], {}, "tags: there are no tags for any column"),
    ([["Ann", "Lee"], ["met"]], [["O", "O"], ["O"]], "tag: every tag is 'O': a tagger needs at least two"),
    ([["Ann", "Lee"]], {"pos": [["A", "B"]], "xpos": [["A", "A"]]}, "xpos: every tag is 'A': a tagger needs at least two"),
    ([[], []], [[], []], "tag: no sentence has a word: a tagger needs at least two"),
]


@pytest.mark.parametrize(("sentences", "tags", "said"), REFUSED)
@pytest.mark.parametrize("model", ["bilstm", "majority"])
def test_what_cannot_be_learnt_from_is_refused_by_its_sentence(model, sentences, tags, said):
    with pytest.raises(InputError, match=f"^{said}"):
        Tagger(model).fit(sentences, tags)


def test_what_cannot_be_answered_is_refused(entities):
    for given, said in (
        ("Ann", "is one text"),
        ([3], "sentence 1 is 3"),
        ([["a"], [None]], "sentence 2"),
        (7, "must be a list of sentences"),
    ):
        with pytest.raises(InputError, match=said):
            entities.predict(given)
    for call in (Tagger().predict, Tagger().answers, lambda given: Tagger().evaluate(given, [["X"]]), lambda _: Tagger().parameters_):
        with pytest.raises(NotFittedError):
            call([["a"]])


def test_what_no_tagger_can_have_is_refused():
    for options, said in (
        ({"model": "bilstm-crv"}, "there is no 'bilstm-crv'; did you mean 'bilstm-crf'|there is no 'bilstm-crv'"),
        ({"model": "svm"}, "there is no 'svm'"),
        ({"settings": {"pooling": "max"}}, "no such setting"),
        ({"settings": [1]}, "must be names and values"),
        ({"model": "majority", "settings": [1]}, "must be names and values"),
        ({"model": "crf", "settings": {"hidden_size": 3}}, "no such setting for crf"),
        ({"model": "crf", "vectors": VECTORS}, "'crf' starts from no word vectors"),
        ({"steps": 1, "epochs": 1}, "give one budget"),
        ({"steps": 0}, "steps: must be a whole number above 0"),
        ({"random_state": -1}, "random_state"),
        ({"model": "cnn", "settings": {"encoder": "cnn", "padding": "narrow"}}, "settings: the encoder 'cnn' gives 3 states for 5 words"),
        ({"model": "cnn", "settings": {"stride": 2}}, "settings: the encoder 'dilated-cnn' gives 1 states for 5 words"),
        ({"model": "cnn", "settings": {"encoder": "bag"}}, "settings: the encoder 'bag' gives 1 states for 5 words"),
        ({"settings": {"crf": True, "label_smoothing": 0.1}}, "label_smoothing: is for tags that are chosen each by itself"),
        ({"settings": {"levels": "tags:1"}}, "levels: no column 'tags'"),
        ({"settings": {"vectors_mode": "static"}}, "vectors_mode"),
    ):
        with pytest.raises(InputError, match=said):
            Tagger(**{"steps": 1, **({} if "epochs" not in options else {"steps": 1}), **options}).fit(PEOPLE, SPANS)


def test_as_scikit_learn_has_it():
    made = Tagger("bilstm", {"hidden_size": 8}, task="tagging", steps=3, random_state=4)
    assert made.get_params()["settings"] == {"hidden_size": 8} and made.get_params()["task"] == "tagging"
    copy = clone(made)
    assert copy.get_params() == made.get_params() and not hasattr(copy, "engine_")
    copy.set_params(model="majority", settings=None, steps=None)
    assert copy.model == "majority" and made.model == "bilstm"
    assert copy.fit(PEOPLE, PARTS) is copy
    assert "Tagger(" in repr(made)
    with pytest.raises(ValueError, match="Invalid parameter"):
        made.set_params(loss="hinge")


def test_from_word_vectors():
    words = [[one.lower() for one in sentence] for sentence in drawn(30)]
    tags = tags_of("tags", words)["upos"]
    static = tagger("bilstm", vectors=VECTORS, settings={"vectors_mode": "static", "embedding_size": 12}).fit(words, tags)
    table, ids = static.engine_.model.words.embedding.weight, static.engine_.words.vocabulary.ids
    known = [word for word in WORDS if word in VECTORS.key_to_index and word in ids]
    assert len(known) > 20
    for word in known:
        assert np.allclose(table[ids[word]].numpy(), VECTORS.vectors[VECTORS.key_to_index[word]])
    assert not isinstance(table, type(static.engine_.model.outputs["column0"].weight))
    with pytest.raises(InputError, match="the vectors are 12-dimensional"):
        tagger("bilstm", vectors=VECTORS).fit(words, tags)


@pytest.mark.parametrize("model", ["char-bilstm-crf", "window", "crf"])
def test_sentences_of_one_and_of_very_many_tokens(model, caplog):
    draw = np.random.default_rng(0)
    lengths = (1, 5000, 20_000, 1)
    words = [[WORDS[i] for i in draw.integers(0, len(WORDS), length)] for length in lengths]
    kinds = {word: ("B-X", "I-X", "O")[i % 3] for i, word in enumerate(WORDS)}
    tags = [convert([kinds[word] for word in one], "BIO", "BIO") for one in words]  # spans across the ends of pieces among them
    made = Tagger(model) if model == "crf" else tagger(model, steps=2, batch_size=2)
    with caplog.at_level(logging.WARNING, "weft"):
        found = made.fit(words, tags).predict(words)
    assert list(map(len, found)) == list(lengths)
    assert all(illegal(one) == [] for one in found)
    if model != "crf":
        assert caplog.text.count("2 of 4 sentences are longer than maximum_length=512 words and are read in pieces") == 2
        pieces = made.predict([words[1][start : start + 512] for start in range(0, 5000, 512)])
        joined = [tag for piece in pieces for tag in piece]
        assert joined == found[1]


def test_a_row_of_one_beside_one_of_five_hundred():
    made = tagger("char-bilstm-crf", steps=2).fit(PEOPLE, SPANS)
    long = [PEOPLE[0][i % 7] for i in range(500)]
    together, alone = made.answers([["Ann"], long]), [made.answers([one])[0] for one in (["Ann"], long)]
    for one, other in zip(together, alone):
        assert one.tags == other.tags
        np.testing.assert_allclose(one.confidences, other.confidences, atol=2e-5)


def test_names_of_tags_and_columns_may_hold_anything(tmp_path):
    odd = ["a b", "ä/ö", "🙂", "x:y,z", "-", "_", "NN\u2028", "'\""]
    words = [[f"w{i}", "x", f"w{i + 1}"] for i in range(7)]
    tags = [[odd[i], odd[7], odd[i + 1]] for i in range(7)]
    made = tagger("bilstm", steps=150).fit(words * 2, {"a.b/ü 🙂": tags * 2, "": tags * 2})
    assert made.predict(words) == {"a.b/ü 🙂": tags, "": tags}
    loaded = weft.load(made.save(tmp_path / "m"), precision="fp32", threads=1)
    assert loaded.predict(words) == {"a.b/ü 🙂": tags, "": tags}


def test_a_folder_of_another_kind_is_refused(entities, tmp_path):
    folder = entities.save(tmp_path / "m", metrics={"dev": entities.evaluate(PEOPLE, SPANS)}, data="people")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "char-bilstm-crf" in card and "people" in card
    loaded = weft.load(folder)
    assert isinstance(loaded, Tagger) and isinstance(loaded.labels_, Mapping)
    assert loaded.get_params()["model"] == "char-bilstm-crf" and loaded.seen_ == {word for one in PEOPLE for word in one}
