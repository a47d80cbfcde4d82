"""Translator as users hold it: texts in and out, searches, weights, copied words, scikit-learn's ways, what is said and what is refused."""

from __future__ import annotations

import logging
import math
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import weft
from weft import Translator
from weft.errors import InputError
from weft.estimators.settings import known_settings
from weft.estimators.translation_network import TranslationNetwork
from weft.generation.search import Beam, Greedy, Sample

SOURCES = ["one two", "two three", "three one", "one two three", "three two", "one", "two", "three"]
TARGETS = ["eins zwei", "zwei drei", "drei eins", "eins zwei drei", "drei zwei", "eins", "zwei", "drei"]
TINY = {
    "tokenizer": "whitespace", "shared": False, "tied": "none", "maximum_size": None, "embedding_size": 24, "embedding_scale": 4.0,
    "embedding_std": 0.25, "encoder_hidden_size": 24, "decoder_hidden_size": 24, "attention_size": 16, "dropout": 0.0,
    "label_smoothing": 0.0, "learning_rate": 0.02, "metric": "exact_match",
}  # fmt: skip
BLOCKS = {"heads": 2, "layers": 1, "inner": 32, "layer_dropout": 0.0}


def translator(model: str = "rnn-attention", **options) -> Translator:
    known = known_settings(model, "translation")
    settings = {name: value for name, value in TINY.items() if name in known}
    settings |= {**(BLOCKS if model == "transformer" else {}), **options.pop("settings", {})}
    given = {"steps": 60, "batch_size": 8, "validation_fraction": 0, "precision": "fp32", "threads": 1, **options}
    return Translator(model, settings, **given)


@pytest.fixture(scope="module")
def numbers() -> Translator:
    """One that knows the numbers by heart."""
    made = translator().fit(SOURCES, TARGETS)
    assert made.predict(SOURCES) == TARGETS
    return made


@pytest.fixture(scope="module")
def untrained() -> Translator:
    return translator(steps=1).fit(SOURCES, TARGETS)


def test_what_is_fitted(numbers):
    assert numbers.task_ == "translation" and numbers.seed_ == 0
    assert numbers.parameters_ > 1000 and numbers.history_.steps == 60
    assert numbers.score(SOURCES, TARGETS) == 1.0
    scores = numbers.evaluate(SOURCES, TARGETS)
    assert next(iter(scores)) == "exact_match"  # what weights are chosen by comes first
    assert scores["exact_match"] == 1.0 and scores["word_error_rate"] == scores["token_error_rate"] == 0.0
    one_wrong = [*TARGETS[:-1], "vier"]
    assert numbers.evaluate(SOURCES, one_wrong)["exact_match"] == numbers.score(SOURCES, one_wrong) == 7 / 8
    several = [[wrong, right] for wrong, right in zip(one_wrong, TARGETS)]
    assert numbers.score(SOURCES, several) == 1.0  # any of them is right
    assert numbers.evaluate(SOURCES, TARGETS, predicted=one_wrong)["exact_match"] == 7 / 8


def test_answers_and_what_is_told_of_them(numbers):
    found = numbers.translations(["one two three", "two"], weights=True)
    assert [len(answers) for answers in found] == [1, 1]
    for (answer,), words in zip(found, (["eins", "zwei", "drei"], ["zwei"])):
        assert answer.tokens == words and answer.text == " ".join(words) and answer.finished
        assert answer.weights.shape == (len(words), 3 if len(words) == 3 else 1)
        np.testing.assert_allclose(answer.weights.sum(1), 1, atol=1e-5)
        assert -1 < answer.log_probability < 0
    assert numbers.translations(["two"])[0][0].weights is None  # only where asked for
    (cut,) = numbers.translations(["one two three"], limits={"maximum": 2})[0]
    assert cut.text == "eins zwei" and not cut.finished
    assert numbers.translations(["one"], limits={"minimum": 3}, search=Greedy())[0][0].tokens[0] == "eins"
    assert numbers.predict([]) == [] and numbers.translations([]) == []


def test_n_best_and_samples(numbers, untrained):
    (found,) = numbers.translations(["one two"], search=Beam(5, n_best=3))
    assert len(found) == 3 and found[0].text == "eins zwei"
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len({one.text for one in found}) == 3
    drawn = [untrained.predict(SOURCES, search=Sample(seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert untrained.predict(SOURCES[3:5], search=Sample(seed=0, temperature=0.0)) == untrained.predict(SOURCES[3:5], search=Greedy())
    often = [numbers.predict(["one"], search=Sample(seed=seed))[0] for seed in range(20)]
    sure = np.exp(numbers.translations(["one"], search=Greedy())[0][0].log_probability)
    assert often.count("eins") >= 20 * sure - 4


def test_limits_of_each_source_stand_beside_empty_ones(numbers):
    found = numbers.translations(["one two", "", "two three", "three two"], limits={"maximum": [1, 9, 2, 1]}, search=Greedy())
    assert [answer.text for (answer,) in found] == ["eins", "", "zwei drei", "drei"]
    drei = numbers.engine_.target.encode("drei").ids
    found = numbers.translations(["one two", " ", "two"], limits={"prefixes": [drei, (), ()]}, search=Greedy())
    assert found[0][0].text.startswith("drei") and found[2][0].text == "zwei"
    eins = numbers.engine_.target.encode("eins").ids
    assert "eins" not in numbers.predict(["one", "one two"], limits={"forbidden": eins}, search=Greedy())[0]
    stop = {"stop": ["zwei", "drei"], "decode": numbers.engine_.target.decode}  # as many as there are sources: not one for each
    assert numbers.predict(["one two three", "three two"], limits=stop) == ["eins zwei", "drei"]


@pytest.mark.parametrize(
    "limits,said",
    [({"maximun": 3}, "did you mean maximum"), ({"maximum": [1]}, "maximum: 1 of them for 2 sources"), ({"maximum": -1}, "at least 0"),
     ({"minimum": 4, "maximum": 3}, "minimum, 4, is above the maximum, 3"), ({"stop": "x"}, "decode"), ({"forbidden": [999]}, "999"),
     ({"prefixes": [[4]]}, "prefixes: 1 of them for 2")],
)  # fmt: skip
def test_limits_that_cannot_be_are_named(numbers, limits, said):
    with pytest.raises(InputError, match=said):
        numbers.predict(["one", "two"], limits=limits)


def test_tokens_are_told_as_they_come(numbers):
    told = []
    numbers.translations(["one two", "three"], search=Greedy(), stream=lambda *what: told.append(what))
    assert {number for number, _, _ in told} == {0, 1} and sum(last for _, _, last in told) == 2
    final = {number: numbers.engine_.target.decode(ids) for number, ids, last in told if last}
    assert final == {0: "eins zwei", 1: "drei"}


# Unknown words


def pointing(source_tokens: list[str], plan: list[tuple[int, int]]):
    """What a search would find: (id, source position that it looked at most) one after another."""
    from weft.generation.hypotheses import Hypothesis

    looked = [torch.eye(len(source_tokens))[place] * 0.6 + 0.4 / len(source_tokens) for _, place in plan]
    return Hypothesis(tuple(number for number, _ in plan), -1.0, -1.0, looked, True)


def test_an_unknown_word_is_the_source_word_that_was_looked_at(numbers, monkeypatch):
    source, zwei = "Ann two Bob", numbers.engine_.target.encode("zwei").ids[0]
    plan = [(1, 2), (zwei, 1), (1, 0)]
    monkeypatch.setattr("weft.estimators.translation_network.generate", lambda *given, **named: [[pointing(source.split(), plan)]])
    (answer,) = numbers.translations([source])[0]
    assert answer.text == "Bob zwei Ann" and answer.weights is None
    assert answer.tokens == ["<unk>", "zwei", "<unk>"]
    without = translator(steps=1, settings={"copy_unknown": False}).fit(SOURCES, TARGETS)
    assert without.predict([source]) == ["<unk> zwei <unk>"]


def test_targets_of_unknown_tokens_alone_are_told(caplog):
    made = translator(settings={"minimum_count": 2, "copy_unknown": False}, steps=60).fit(
        ["a b", "a c", "a d", "a"], ["x", "y y y", "z", "w w"]
    )
    assert "2 of 4 targets have no token that the vocabulary knows" in caplog.text
    assert set(" ".join(made.predict(["a b", "a c"])).split()) <= {"<unk>", "y", "w"}


# Odd sources


def test_empty_sources_have_empty_targets_and_that_is_said(numbers, caplog):
    with caplog.at_level(logging.WARNING, "weft"):
        assert numbers.predict(["one", "", "  \n", "two"]) == ["eins", "", "", "zwei"]
    assert "2 of 4 sources are empty, and so are their targets" in caplog.text
    assert numbers.evaluate(["one", ""], ["eins", ""])["exact_match"] == 1.0
    caplog.clear()
    assert numbers.predict(["one"]) == ["eins"] and not caplog.text
    with pytest.raises(InputError, match="empty: there is nothing to align"):
        numbers.align(" ")


def test_sources_too_long_are_cut_or_refused_and_targets_left_out(caplog):
    settings = {"maximum_length": 2}
    made = translator(steps=1, settings=settings).fit(SOURCES, TARGETS)
    assert "1 of 8 sources are longer than maximum_length=2 tokens and were cut there" in caplog.text
    assert "1 of 8 targets are longer than 2 tokens, maximum_length: left out" in caplog.text
    assert made.predict(["one two three"]) == made.predict(["one two"])
    refusing = translator(steps=1, settings={**settings, "too_long": "refuse"})
    with pytest.raises(InputError, match="text 4: has 3 tokens, more than maximum_length=2"):
        refusing.fit(SOURCES, TARGETS)
    refusing.fit(SOURCES[:3], TARGETS[:3])
    with pytest.raises(InputError, match="text 2: has 3 tokens"):
        refusing.predict(["one", "one two three"])
    with pytest.raises(InputError, match="all 1 are longer than 2 tokens"):
        made.fit(["one"], ["eins zwei drei"])


def test_learned_positions_have_an_end(caplog):
    settings = {"positions": "learned", "maximum_positions": 3, "maximum_length": 3}
    made = translator("transformer", steps=1, settings=settings).fit(SOURCES, TARGETS)
    assert "1 of 8 targets are longer than 2 tokens, what the decoder has learned positions for: left out" in caplog.text
    assert all(len(answer.tokens) <= 3 for (answer,) in made.translations([*SOURCES, "one " * 9]))
    assert "1 of 9 sources are longer than maximum_length=3 tokens and were cut there" in caplog.text
    with pytest.raises(InputError, match="maximum: must be at most 3, what the decoder has learned positions for, not 4"):
        made.predict(["one"], limits={"maximum": 4})
    assert made.align("one two", "eins zwei").maps[0].shape == (2, 3, 2)
    with pytest.raises(InputError, match="target: has 3 tokens; the decoder has learned positions for 2"):
        made.align("one two", "eins zwei drei")
    with pytest.raises(InputError, match="maximum_length: must be from 1 to the 3"):
        translator("transformer", settings={**settings, "maximum_length": 4}).fit(SOURCES, TARGETS)


# Alignment


def test_alignment(numbers):
    found = numbers.align("one two three")
    assert found.source == ["one", "two", "three"] and found.target == ["eins", "zwei", "drei", "</s>"]
    (grid,) = found.maps
    assert grid.shape == (4, 3)
    np.testing.assert_allclose(grid.sum(1), 1, atol=1e-5)
    (answer,) = numbers.translations(["one two three"], weights=True)[0]
    np.testing.assert_allclose(grid[:3], answer.weights, atol=1e-5)
    forced = numbers.align("one two", "drei vier")
    assert forced.target == ["drei", "<unk>", "</s>"] and forced.maps[0].shape == (3, 2)
    assert numbers.align("one", "").target == ["</s>"]
    heads = translator("transformer", steps=1, settings={"layers": 2}).fit(SOURCES, TARGETS).align("one two", "eins")
    assert [one.shape for one in heads.maps] == [(2, 2, 2), (2, 2, 2)]
    blind = translator("rnn", steps=1).fit(SOURCES, TARGETS)
    with pytest.raises(InputError, match="model: has no attention to show"):
        blind.align("one", "eins")
    with pytest.raises(InputError, match="coverage_penalty: a coverage penalty needs attention"):
        blind.predict(["one"], search=Beam(2, coverage_penalty=0.2))
    assert all(answer.weights is None for (answer,) in blind.translations(["one"], weights=True))


def test_an_encoder_that_skips_words_copies_none():
    """Its states are not one for each word, so none of them says which word was looked at."""
    made = translator("cnn-rnn", steps=1, settings={"stride": 2, "filters": 8}).fit(SOURCES, TARGETS)
    made.engine_.model.bias.data[1] = 1e4
    assert made.predict(["one two three"], limits={"maximum": 2}) == ["<unk> <unk>"]
    with pytest.raises(InputError, match="coverage_penalty: attention is over 1 source positions, source_mask has 3"):
        made.predict(["one two three"], search=Beam(2, coverage_penalty=0.2))
    whole = translator("cnn-rnn", steps=1, settings={"filters": 8}).fit(SOURCES, TARGETS)
    whole.engine_.model.bias.data[1] = 1e4
    assert set(whole.predict(["one two three"], limits={"maximum": 2})[0].split()) <= {"one", "two", "three"}


# scikit-learn's ways


def test_parameters_go_round(numbers):
    made = translator(random_state=7)
    twin = clone(made)
    assert twin.get_params() == made.get_params() and twin is not made
    assert twin.set_params(model="rnn", steps=3).get_params()["model"] == "rnn"
    assert not hasattr(clone(numbers), "engine_")
    with pytest.raises(NotFittedError):
        clone(numbers).predict(["one"])


def test_settings_for_one_side():
    made = translator(steps=1, settings={"encoder_hidden_size": 12, "decoder_hidden_size": 20, "decoder_cell": "lstm", "encoder_layers": 2})
    model = made.fit(SOURCES, TARGETS).engine_.model
    assert model.encoder.output_size == 24 and model.decoder.output_size == 20  # both ways
    assert model.config.encoder_settings["cell"] == "gru" and model.config.decoder_settings["cell"] == "lstm"
    assert model.config.encoder_settings["layers"] == 2 and model.config.decoder_settings["layers"] == 1
    both = translator("transformer", steps=1, settings={"encoder_hidden_size": 16, "decoder_layers": 3, "encoder_heads": 4}).fit(
        SOURCES, TARGETS
    )
    encoder, decoder = both.engine_.model.config.encoder_settings, both.engine_.model.config.decoder_settings
    assert (encoder["hidden_size"], decoder["hidden_size"]) == (16, 24)
    assert (encoder["layers"], decoder["layers"], encoder["heads"], decoder["heads"]) == (1, 3, 4, 2)


def test_validation_chooses_the_best_weights(caplog):
    made = translator(steps=30, settings={"checks": 3, "checked": 2}).fit(SOURCES, TARGETS, (SOURCES, TARGETS))
    assert len(made.history_.checks) >= 3 and {"exact_match", "loss"} <= set(made.history_.checks[0])
    best = max(made.history_.checks, key=lambda check: check["exact_match"])
    assert made.evaluate(SOURCES[:2], TARGETS[:2], search=Greedy())["exact_match"] == best["exact_match"]
    with caplog.at_level(logging.INFO, "weft"):
        translator(steps=1, validation_fraction=0.25).fit(SOURCES * 2, TARGETS * 2)
    assert "set aside to choose the best weights" in caplog.text
    seconds, steps = translator(steps=None).seconds_per_step(SOURCES, TARGETS, (SOURCES, TARGETS))
    assert seconds > 0 and steps == 9


def test_a_shorter_training_has_fewer_looks():
    engine = translator(steps=1, settings={"checks": 20, "epochs": 10}).fit(SOURCES, TARGETS, (SOURCES, TARGETS)).engine_
    looks = {steps: math.ceil(steps / engine.train_config(steps, 100).evaluate_every) for steps in (1000, 500, 100, 20, 3)}
    assert looks == {1000: 20, 500: 10, 100: 2, 20: 1, 3: 1}  # of 10 epochs of 100 steps
    assert engine.train_config(3000, 100).evaluate_every == 100  # and in a longer one a look an epoch


def test_minutes_pay_for_looks(monkeypatch):
    monkeypatch.setattr(TranslationNetwork, "seconds_per_step", lambda *_: 0.01)
    monkeypatch.setattr(TranslationNetwork, "validation", lambda *_: lambda model: time.sleep(0.3) or {"exact_match": 0.0})
    settings = {"checks": 4, "epochs": 4}
    made = translator(steps=None, minutes=0.02, settings=settings).fit(SOURCES, TARGETS, (SOURCES, TARGETS))
    assert made.history_.steps <= 4  # 120 without them; a look takes 0.3 seconds, one an epoch of one step


def test_several_targets_are_all_learnt():
    several = [[target, target.upper()] for target in TARGETS]
    made = translator(steps=100).fit(SOURCES, several)
    for answers, right in zip(made.translations(SOURCES, search=Beam(4, n_best=2)), several):
        assert sorted(answer.text for answer in answers) == sorted(right)


def test_another_kind_of_tokens_for_each_side(tmp_path):
    made = translator(steps=1, settings={"tokenizer": "characters", "target_tokenizer": "words"}).fit(SOURCES, TARGETS)
    assert (made.engine_.source.kind, made.engine_.target.kind) == ("characters", "words")
    loaded = weft.load(made.save(tmp_path / "model"))
    assert (loaded.engine_.source.kind, loaded.engine_.target.kind) == ("characters", "words")
    shared = translator(steps=1, settings={"shared": True, "tied": "all"}).fit(SOURCES, TARGETS)
    assert shared.engine_.source is shared.engine_.target
    loaded = weft.load(shared.save(tmp_path / "shared"))
    assert loaded.engine_.source is loaded.engine_.target


# What is refused


@pytest.mark.parametrize(
    "sources,targets,said",
    [
        ("one", ["eins"], "sources: is one text"), (["one"], "eins", "targets: is one text"), ([], [], "there are none"),
        (["one"], [], "1 sources but 0 targets"), (["one", 2], ["eins", "zwei"], "text 2 is int, not a text"), (None, ["a"], "be a list"),
        (["one"], None, "targets: must be a list"), (["one"], [1], "target 1 must be a text"), (["one"], [[]], "target 1 must be a text"),
        (["one"], [["eins", None]], "target 1 must be a text"), (["one", " "], ["eins", "zwei"], "source 2 is empty"),
        (["one"], [["eins", ""]], "target 1 is empty"), (np.zeros(2), ["a", "b"], "text 1 is float64, not a text"),
    ],
)  # fmt: skip
def test_pairs_that_are_none_are_named(sources, targets, said):
    with pytest.raises(InputError, match=said):
        translator(steps=1).fit(sources, targets)
    with pytest.raises(InputError, match=said.replace("sources: ", "validation: ")):
        translator(steps=1).fit(SOURCES, TARGETS, (sources, targets))


def test_what_else_is_refused(numbers):
    for asked, said in (("one", "is one text"), ([None], "text 1 is NoneType"), (3, "must be a list of texts, not 3")):
        with pytest.raises(InputError, match=said):
            numbers.predict(asked)
    with pytest.raises(InputError, match="search: must be a Beam, Greedy or Sample"):
        numbers.predict(["one"], search="beam")
    for source, target in ((3, "eins"), ("one", 3)):
        with pytest.raises(InputError, match="is int, not a text"):
            numbers.align(source, target)
    with pytest.raises(InputError, match="1 sources but 2 targets"):
        numbers.evaluate(["one"], ["eins", "zwei"])
    with pytest.raises(InputError, match="1 predictions and references of 2"):
        numbers.evaluate(["one", "two"], ["eins", "zwei"], predicted=["eins"])
    with pytest.raises(InputError, match="validation: must be"):
        translator(steps=1).fit(SOURCES, TARGETS, SOURCES)
    with pytest.raises(InputError, match="did you mean transformer"):
        Translator("transformers").fit(SOURCES, TARGETS)
    with pytest.raises(InputError, match="give one budget"):
        translator(epochs=1).fit(SOURCES, TARGETS)
    with pytest.raises(InputError, match="tied: embeddings of both sides are one for one vocabulary"):
        translator(settings={"tied": "all"}).fit(SOURCES, TARGETS)
    for kind in ({"tokenizer": "hashing"}, {"target_tokenizer": "hashing"}):
        with pytest.raises(InputError, match="hashed ids cannot be turned back"):
            translator(settings=kind).fit(SOURCES, TARGETS)
    with pytest.raises(NotFittedError):
        Translator().align("one")
