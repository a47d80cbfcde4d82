"""Settings as they are typed and given: every kind of value, every name, every rung."""

from __future__ import annotations

import math
import typing
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.data.tokenizers import TOKENIZERS
from weft.errors import InputError
from weft.estimators.rungs import RUNGS, TRANSLATION_RUNGS
from weft.estimators.settings import CHOICES, DECIDED, NETWORKS, OWNED_BY_DATA, known_settings, resolve, typed_settings
from weft.estimators.values import coerce
from weft.models.decoders import RecurrentDecoderConfig
from weft.models.encoders import ENCODERS, RecurrentConfig, make_encoder
from weft.nn.cells import OPTIONS
from weft.training.loop import TrainConfig

OF_TAGGERS = ("characters", "join", "scheme")
OF_LANGUAGE_MODELS = ("output", "cut", "proposal")
OF_TRANSLATORS = ("target_tokenizer", "too_long", "metric", "tied", "decoder", "condition", "attention", "align", "attend")
NEURAL = [name for name, rung in RUNGS.items() if rung.engine == "neural"]


@pytest.mark.parametrize(
    ("text", "default", "kind", "value"),
    [
        ("3", 1, int, 3),
        ("3.0", 1, int, 3),
        ("2.5", 10, float, 2.5),
        ("2e-3", 0.1, float, 0.002),
        ("7", 0.1, float, 7.0),
        ("true", False, bool, True),
        ("No", True, bool, False),
        ("none", 1.0, float | None, None),
        ("0.5", 1.0, float | None, 0.5),
        ("yes", None, bool | None, True),
        ("3,4,5", (1,), tuple[int, ...], (3, 4, 5)),
        ("(3, 4)", (1,), tuple[int, ...], (3, 4)),
        ("[3]", (1,), tuple[int, ...], (3,)),
        ("3", (1,), tuple[int, ...], (3,)),
        ("", (1,), tuple[int, ...], ()),
        ("k-max", "max", str, "k-max"),
        ("3", "max", str, "3"),
        ("none", None, str | None, "none"),  # a pattern may be that word
        (np.int64(4), 1, int, 4),
        (np.float32(0.5), 0.1, float, 0.5),
        (np.bool_(True), False, bool, True),
        ([3, 4], (1,), tuple[int, ...], (3, 4)),
        (50.0, 1, int, 50),
    ],
)
def test_a_value_becomes_the_type_that_its_setting_has(text, default, kind, value):
    made = coerce("name", text, default, kind)
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("value", "default", "kind", "wanted"),
    [
        ("fast", 1, int, "a whole number, like 1, not 'fast'"),
        ("3.5", 1, int, "a whole number, like 1, not 3.5"),
        ("none", 1, int, "a whole number, like 1, not None"),
        ("1e400", 1, int, "a whole number"),
        ("nan", 0.1, float, "a number, like 0.1"),
        ("NaN", 0.1, float, "a number, like 0.1, not nan"),
        (math.inf, 0.1, float, "a number"),
        (True, 1, int, "a whole number, like 1, not True"),
        ([1], 0.1, float, "a number"),
        ("1", False, bool, "true or false"),
        (1, False, bool, "true or false"),
        ("3.5", (3, 4), tuple[int, ...], "whole numbers with commas between, like 3,4, not 3.5"),
        ("a,b", (), tuple[int, ...], "whole numbers with commas between, not 'a,b'"),
        (3, "max", str, "a word, like max, not 3"),
        ({}, 1, int, "a whole number"),
    ],
)
def test_a_value_of_another_type_is_refused_in_a_line_that_says_what_would_be_right(value, default, kind, wanted):
    with pytest.raises(InputError) as caught:
        coerce("name", value, default, kind)
    assert str(caught.value).startswith(f"name: must be {wanted}")
    assert "\n" not in str(caught.value)


@given(st.integers(-(10**12), 10**12))
def test_every_whole_number_comes_back_from_its_text(number):
    assert coerce("n", str(number), 0) == number
    assert coerce("n", f"{number},{number}", (0,)) == (number, number)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_comes_back_from_its_text(number):
    assert coerce("x", repr(number), 0.0) == number


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    for default in (1, 0.5, True, (1, 2), "word"):
        try:
            said, made = "", coerce("name", text, default)
        except InputError as error:
            said, made = str(error), default
        assert type(made) is type(default)
        assert said == "" or said.startswith("name: must be ")


@pytest.mark.parametrize("rung", NEURAL)
def test_a_rungs_settings_resolve_and_what_is_saved_resolves_to_the_same(rung):
    network = RUNGS[rung].network
    resolved = resolve(RUNGS[rung].settings, network=network)
    assert resolve(resolved.flat, network=network) == resolved
    for name, value in RUNGS[rung].settings.items():
        assert resolved.flat[name] == value


@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_every_field_that_a_user_may_set_is_a_setting_and_no_other(encoder):
    started = [network for network, (_, config, _) in NETWORKS.items() if not hasattr(config, "encoder")]
    assert not any(resolve({}, network=network).encoder for network in started)  # their encoders are as they were trained
    for network, (tokenizer, config, budget) in NETWORKS.items():
        if network in started:
            continue
        sides = (
            {"encoder_": ENCODERS[encoder][0], "decoder_": RecurrentDecoderConfig} if network == "seq2seq" else {"": ENCODERS[encoder][0]}
        )
        configs = [("", tokenizer), ("", config), ("", budget), *sides.items(), ("", TrainConfig)]
        expected = {side + field.name for side, one in configs for field in fields(one) if field.name not in OWNED_BY_DATA.get(one, ())}
        assert set(resolve({"encoder": encoder}, network=network).flat) == expected - DECIDED.get(network, set())


@pytest.mark.parametrize("rung", NEURAL)
def test_every_setting_of_a_rung_takes_its_own_value_as_text(rung):
    network = RUNGS[rung].network
    resolved = resolve(RUNGS[rung].settings, network=network).flat
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, tuple) else str(value) for name, value in resolved.items() if value is not None
    }
    again = resolve(RUNGS[rung].settings, texts, network=network).flat
    assert {name: value for name, value in again.items() if name in texts} == {name: resolved[name] for name in texts}


def test_a_wrong_name_lists_the_names_there_are_and_the_nearest():
    with pytest.raises(InputError) as caught:
        resolve(RUNGS["cnn"].settings, {"filtres": 3})
    message = str(caught.value)
    assert message.startswith("filtres: no such setting for this model (did you mean filters?); there are ")
    listed = message.split("there are ")[1].split(", ")
    assert listed == sorted(known_settings("cnn"))
    assert "heads" not in listed  # the transformer's


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size: must be at least 1, not 0"),
        ({"batch_size": "-3"}, "batch_size: must be at least 1, not -3"),
        ({"maximum_length": -1}, "maximum_length: must be at least 0, not -1"),
        ({"widths": "3,0"}, "widths: must be at least 1, not 0"),
        ({"dropout": 1}, "dropout: must be at least 0 and below 1, not 1.0"),
        ({"word_dropout": "-0.1"}, "word_dropout: must be at least 0 and below 1, not -0.1"),
        ({"learning_rate": 0}, "learning_rate: must be above 0, not 0.0"),
        ({"epochs": "-1"}, "epochs: must be above 0, not -1.0"),
        ({"l2": -0.1}, "l2: must be at least 0, not -0.1"),
        ({"pooling": "median"}, "pooling: there is no 'median' (did you mean mean?); there are max, mean, "),
        ({"tokenizer": "spacy"}, "tokenizer: there is no 'spacy'; there are words, whitespace, "),
        ({"encoder": "mamba"}, "encoder: there is no 'mamba'; there are bag, "),
        ({"optimizer": "lion"}, "optimizer: there is no 'lion'; there are sgd, "),
        ({"loss": "focal"}, "loss: there is no 'focal'; there are cross-entropy, "),
        ({"class_weights": "some"}, "class_weights: there is no 'some'; there are none, balanced"),
        ([("dropout", 0.1)], "settings: must be names and values"),
        ({"encoder": "transformer", "positions": "learned", "maximum_length": 600}, "maximum_length: must be from 1 to the 512 of "),
    ],
)
def test_a_value_that_cannot_be_is_refused(settings, said):
    with pytest.raises(InputError) as caught:
        resolve({}, settings)
    assert str(caught.value).startswith(said)


def test_every_choice_there_is_resolves():
    own = {name: cell for cell, names in reversed(OPTIONS.items()) for name in names}  # a cell that has the choice
    for name, choices in CHOICES.items():
        recurrent = name in {field.name for field in fields(RecurrentConfig)} - {"activation"}
        base = {"encoder": "recurrent", "cell": own.get(name, "lstm")} if recurrent else {}
        for choice in choices:
            network = "tagger" if name in OF_TAGGERS else "seq2seq" if name in OF_TRANSLATORS else "classifier"
            network = "language-model" if name in OF_LANGUAGE_MODELS else network
            flat = resolve(base, {name: choice}, network=network).flat
            assert flat.get(name, flat.get(f"decoder_{name}")) == choice


@pytest.mark.parametrize(
    ("setting", "place", "words"),
    [
        ({"cell": "lstmm"}, "cell", "lstm"),
        ({"cell": "lstm", "peepholes": "input"}, "peepholes", "the cell 'lstm', which has forget_bias"),
        ({"cell": "gru", "forget_bias": 2}, "forget_bias", "reset, update"),
        ({"cell": "coupled-lstm", "peepholes": "input"}, "peepholes", "forget, candidate, output"),
        ({"cell": "peephole-lstm", "peepholes": "input,inputs"}, "peepholes", "not 'inputs'"),
        ({"cell": "elman", "activation": "gelu"}, "activation", "tanh, relu, sigmoid"),
        ({"weight_dropout": 1.0}, "weight_dropout", "below 1"),
        ({"state_depth": -1}, "state_depth", "at least 0"),
        ({"initial": "given"}, "initial", "zero, learnt"),
    ],
)
def test_choices_that_a_cell_does_not_have_are_refused(setting, place, words):
    with pytest.raises(InputError) as caught:
        resolve({"encoder": "recurrent"}, setting)
    assert str(caught.value).startswith(f"{place}: ") and words in str(caught.value)


def test_a_cells_choices_reach_it():
    asked = {"cell": "peephole-lstm", "peepholes": "forget, output", "output_sees": "old", "state_depth": "1", "residual": "yes"}
    chosen = resolve({"encoder": "recurrent", "hidden_size": 6}, asked).encoder
    recurrent = make_encoder("recurrent", 6, chosen).recurrent
    assert recurrent.cells[0].seeing == ("forget", "output") and recurrent.cells[0].output_sees == "old"
    assert len(recurrent.cells[0].state_layers) == 1 and recurrent.residual


@pytest.mark.parametrize("kind", list(TOKENIZERS))
def test_another_tokenizer_does_not_get_what_the_rung_chose_for_its_own(kind):
    """bag asks for word bigrams in buckets; characters know no such thing."""
    import inspect

    takes = set(inspect.signature(TOKENIZERS[kind].train).parameters)
    given = resolve(RUNGS["bag"].settings, {"tokenizer": kind}).tokenizer
    own = {name for name in ("ngrams", "buckets") if given[name] is not None}
    assert own == {"ngrams", "buckets"} & takes
    assert given["tokenizer"] == kind


def test_what_the_user_chose_himself_is_passed_on():
    given = resolve(RUNGS["bag"].settings, {"tokenizer": "characters", "ngrams": 3}).tokenizer
    assert given["ngrams"] == 3  # the tokenizer will say that it has no such setting


def test_the_baselines_settings_have_names_and_types_too():
    assert known_settings("svm") == {"ngrams", "minimum_count", "sublinear", "C"}
    assert known_settings("majority") == set()
    assert typed_settings("svm", {"C": "0.5", "sublinear": "no"}) == {"C": 0.5, "sublinear": False}
    assert typed_settings("cnn", {"filters": "8", "widths": "2,3"}) == {"filters": 8, "widths": (2, 3)}
    for rung, wrong in (("svm", {"filters": 8}), ("svm", {"C": "x"}), ("svm", {"C": -1}), ("cnn", {"C": 1})):
        with pytest.raises(InputError):
            typed_settings(rung, wrong)


def test_hints_of_all_settings_are_kinds_that_a_text_can_become():
    kinds = {int, float, bool, str, tuple[int, ...]}
    of_networks = [config for configs in NETWORKS.values() for config in configs]
    for config in (*of_networks, TrainConfig, *(config for config, _ in ENCODERS.values())):
        for name, hint in typing.get_type_hints(config).items():
            if name not in OWNED_BY_DATA.get(config, ()):
                options = {hint} if hint in kinds else set(typing.get_args(hint)) - {type(None)}
                assert options <= kinds, (config, name, hint)


@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_another_encoder_does_not_get_what_the_rung_chose_for_its_own(encoder):
    """Any encoder under any rung: what only the rung's own encoder has is left out, what its decoder has too goes there."""
    chosen = resolve(RUNGS["bilstm"].settings, {"encoder": encoder})
    own = {field.name: field.default for field in fields(ENCODERS[encoder][0])}
    kept = {name: value for name, value in RUNGS["bilstm"].settings.items() if name in own}
    assert chosen.encoder == {**own, **kept} and chosen.network["embedding_size"] == 200
    both = resolve(TRANSLATION_RUNGS["rnn-luong"].settings, {"encoder": encoder}, network="seq2seq")
    assert both.decoder["cell"] == "lstm" and both.decoder["hidden_size"] == 384 and set(both.encoder) == set(own)
    other = resolve(TRANSLATION_RUNGS["rnn-luong"].settings, {"decoder": "transformer"}, network="seq2seq")
    assert other.decoder["hidden_size"] == 384 and "attention" not in other.decoder and other.encoder["cell"] == "lstm"
    with pytest.raises(InputError, match="no such setting"):  # what the user gives himself is not left out
        resolve(RUNGS["bilstm"].settings, {"encoder": "bag", "bidirectional": True})
