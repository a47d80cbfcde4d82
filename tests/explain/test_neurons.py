"""Neurons: states against the model's own over a padded batch and over prefixes, choices against NumPy, a page closed in itself."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from pages import Strict

from weft import InputError, Tagger, TextClassifier, TextRegressor
from weft.data.batch import pad
from weft.explain import neurons_page
from weft.explain.neurons import (
    States,
    chance,
    chosen,
    correlations,
    inside,
    inside_masks,
    pieces_of,
    stacked,
    states_of,
    tag_masks,
    traced,
    with_notes,
)
from weft.explain.neurons_page import STEPS, render, shade, styles, write_page
from weft.nn.recurrent import Recurrent

TEXTS = ["The cat, it's said, sat.", "a dog ran", "one more of those very long texts about cats and dogs", "so"]
LABELS = ["x", "y", "x", "y"]
SMALL = {"hidden_size": 6, "embedding_size": 5, "embedding_std": 1.0}
ONE_STEP = {"steps": 1, "device": "cpu", "precision": "fp32", "threads": 1, "validation_fraction": 0.0}
VARIANTS = {
    "elman": {"cell": "elman"},
    "gru, both ways": {"cell": "gru", "bidirectional": True},
    "lstm": {"cell": "lstm"},
    "lstm, deep, both ways": {"cell": "lstm", "layers": 2, "bidirectional": True},
    "peephole, residual, learnt": {"cell": "peephole-lstm", "layers": 3, "residual": True, "initial": "learnt"},
    "coupled, depths": {"cell": "coupled-lstm", "bidirectional": True, "input_depth": 1, "state_depth": 1},
}


def classifier(texts: list[str] = TEXTS, **settings) -> TextClassifier:
    return TextClassifier("lstm", {**SMALL, **settings}, **ONE_STEP).fit(texts, LABELS[: len(texts)])


def states(values, pieces=None, **more) -> States:
    values = np.asarray(values, np.float32)
    pieces = tuple(pieces or (f"p{i}" for i in range(len(values))))
    return States(pieces, values, tuple(f"neuron {i}" for i in range(values.shape[1])), **more)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_states_are_the_models_own_wherever_the_text_stands_in_a_batch(settings):
    made = classifier(**settings)
    encoder, tokenizer = made.engine_.model.encoder, made.engine_.tokenizer
    with torch.no_grad():
        if settings.get("residual"):  # what is added comes after the state: leave it out of the comparison
            encoder.encoder.recurrent.residual = False
        if encoder.encoder.recurrent.initial is not None:
            encoder.encoder.recurrent.initial.normal_()
        seen: list[torch.Tensor] = []
        handle = encoder.encoder.recurrent.register_forward_hook(lambda module, given, found: seen.append(found[0]))
        batch = pad(tokenizer.encode_ids(TEXTS), np.arange(len(TEXTS)))
        made.engine_.model.eval()(batch)
        handle.remove()
    for row, text in enumerate(TEXTS):
        found = states_of(made, text)
        assert found.pieces == tuple(text[a:b] for a, b in tokenizer.encode(text).offsets)
        assert found.text == text
        assert found.values.dtype == np.float32
        np.testing.assert_allclose(found.values, seen[0][row, : len(found)].numpy(), atol=2e-6)
        assert not encoder.encoder.recurrent._forward_pre_hooks


@pytest.mark.parametrize("cell", ["lstm", "peephole-lstm", "coupled-lstm"])
def test_c_is_the_networks_after_every_prefix(cell):
    torch.manual_seed(0)
    network = Recurrent(cell=cell, input_size=3, hidden_size=4, layers=2).eval()
    x = torch.randn(7, 3)
    found = traced(network, x)
    for length in range(1, 8):
        _, (hidden, memory) = network.run(x[None, :length])  # (layers, 1, H)
        for layer in range(2):
            h, c = found[layer][0]
            torch.testing.assert_close(h[length - 1], hidden[layer, 0], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(c[length - 1], memory[layer, 0], atol=1e-6, rtol=1e-5)


def test_both_directions_with_a_residual_and_layers_above_are_the_networks():
    torch.manual_seed(0)
    network = Recurrent(cell="gru", input_size=3, hidden_size=4, layers=3, bidirectional=True, residual=True, output_depth=1).eval()
    x = torch.randn(1, 6, 3)
    _, (last,) = network.run(x)  # (layers * directions, 1, H): forwards at the end, backwards at the beginning
    for layer, directions in enumerate(traced(network, x[0])):
        torch.testing.assert_close(directions[0][0][-1], last[2 * layer, 0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(directions[1][0][0], last[2 * layer + 1, 0], atol=1e-6, rtol=1e-5)


def test_layers_sides_and_the_memory_have_names():
    made = classifier(layers=2, bidirectional=True)
    top, low = states_of(made, TEXTS[0]), states_of(made, TEXTS[0], layer=1, cell=True)
    assert top.what == "hidden state h, layer 2 of 2" and low.what == "memory, tanh(c), layer 1 of 2"
    assert top.names[0] == "neuron 0, forward" and top.names[6] == "neuron 6, backward" and len(top.names) == 12
    assert np.array_equal(states_of(made, TEXTS[0], layer=2).values, top.values)
    assert not np.array_equal(states_of(made, TEXTS[0], cell=True).values, top.values)
    assert not np.array_equal(states_of(made, "cat sat").values[0, :6], states_of(made, "cat ran off").values[0, :6])  # layer 1 saw on
    one = classifier(bidirectional=True)
    here, there = states_of(one, "cat sat"), states_of(one, "cat ran off")
    assert np.array_equal(here.values[0, :6], there.values[0, :6]) and not np.array_equal(here.values[0, 6:], there.values[0, 6:])


@pytest.fixture(scope="module")
def tagger():
    settings = {"hidden_size": 6, "embedding_size": 5, "features": "", "levels": "tag:1,other:2", "maximum_length": 5}
    sentences = [text.split() for text in TEXTS]
    tags = {name: [[f"{name}{len(word) % 2}" for word in one] for one in sentences] for name in ("tag", "other")}
    return Tagger("bilstm", settings, **ONE_STEP).fit(sentences, tags)


def test_a_tagger_of_several_encoders_and_pieces(tagger, caplog):
    words = TEXTS[0].split()
    found = states_of(tagger, words)
    assert found.pieces == tuple(words) and found.text == " ".join(words) and found.what.endswith("layer 2 of 2")
    from weft.estimators.tag_network import Tagged

    (batch,) = tagger.engine_.batches(Tagged([words, ["so"]]), shuffled=False)
    with torch.no_grad():
        own = tagger.engine_.model.eval().states(batch)
    row = batch.source.tolist().index(0)
    np.testing.assert_allclose(found.values, own[row, : len(words)].numpy(), atol=2e-6)
    lower = states_of(tagger, words, layer=1)
    assert lower.values.shape == found.values.shape and not np.allclose(lower.values, found.values)
    long = TEXTS[2].split()
    parted = states_of(tagger, long)
    assert "read in pieces of 5" in caplog.text
    assert np.array_equal(parted.values, np.concatenate([states_of(tagger, part).values for part in (long[:5], long[5:10], long[10:])]))
    raw = states_of(tagger, "The cat, it's")
    assert raw.pieces == ("The", "cat", ",", "it", "'s") and raw.text == "The cat, it's"


def test_pieces_and_gaps_are_the_text(caplog):
    assert pieces_of(" a é", [(1, 2), (3, 4), (3, 4)]) == (["a", "é", ""], [" ", " ", "", ""])  # two bytes of one character
    made = classifier(tokenizer="bytes")
    found = states_of(made, "é x")
    assert found.pieces == ("é", "", " ", "x") and found.text == "é x" and found.starts.tolist() == [0, 1, 1, 2]
    short = classifier(maximum_length=3)
    cut = states_of(short, TEXTS[0])
    assert cut.pieces == ("The", "cat", ",") and cut.text == "The cat, …" and "the first 3 of 9 pieces" in caplog.text
    pair = TextClassifier("lstm", SMALL, **ONE_STEP).fit([(text, text) for text in TEXTS], LABELS)
    assert states_of(pair, TEXTS[1]).pieces == ("a", "dog", "ran")
    number = TextRegressor("gru", SMALL, **ONE_STEP).fit(TEXTS, [1.0, 2.0, 3.0, 4.0])
    assert states_of(number, "a dog").values.shape == (2, 6)


@pytest.mark.parametrize(
    ("make", "text", "options", "said"),
    [
        (
            lambda: TextClassifier("cnn", {"filters": 2}, **ONE_STEP).fit(TEXTS, LABELS),
            "a",
            {},
            "model: 'cnn' has no recurrent state to look",
        ),
        (
            lambda: TextClassifier("majority").fit(TEXTS, LABELS),
            "a",
            {},
            "those that have one: rnn, lstm, peephole-lstm, coupled-lstm, bilstm",
        ),
        (lambda: Tagger("majority").fit([["a", "b"]], [["x", "y"]]), "a", {}, "those that have one: bilstm, bilstm-crf, char-bilstm"),
        (classifier, "", {}, "text: there is nothing to read: no words in it"),
        (classifier, " \n", {}, "nothing to read"),
        (classifier, ["a", "b"], {}, "a TextClassifier reads texts, not list"),
        (classifier, "a", {"layer": 2}, "layer: must be from 1 to 1, the model's layers, not 2"),
        (classifier, "a", {"layer": 0}, "layer: must be from 1 to 1"),
        (lambda: classifier(cell="gru"), "a", {"cell": True}, "cell: a GRUCell has no memory c beside its state h; LSTMs have"),
    ],
)
def test_what_cannot_be_looked_into_is_said(make, text, options, said):
    with pytest.raises(InputError) as error:
        states_of(make(), text, **options)
    assert said in str(error.value)


def test_states_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"1 pieces and 2 names, but values of shape \(3, 2\)"):
        States(("a",), np.zeros((3, 2), np.float32), ("x", "y"))
    with pytest.raises(ValueError, match="2 pieces but 1 notes"):
        with_notes(states(np.zeros((2, 1))), ["x"])
    with pytest.raises(ValueError, match="2 pieces need 3 gaps, not 1"):
        states(np.zeros((2, 1)), gaps=("",))
    with pytest.raises(ValueError, match="different neurons"):
        stacked([states(np.zeros((2, 1))), states(np.zeros((2, 2)))])
    with pytest.raises(ValueError, match="a mask of 3 for 2 pieces"):
        correlations(np.zeros((2, 1)), np.ones(3))


def test_choices_by_number_variance_and_correlation():
    rng = np.random.default_rng(0)
    mask = rng.random(60) < 0.4
    values = rng.normal(size=(60, 5)) * [0.1, 2, 1, 0, 1]
    values[:, 4] = 1 - 2 * mask + 0.1 * values[:, 4]
    texts = [states(values[:25]), states(values[25:])]
    values = stacked(texts)
    r = correlations(values, mask)
    for i in (0, 1, 2, 4):
        assert r[i] == pytest.approx(np.corrcoef(values[:, i], mask)[0, 1], abs=1e-9)
    assert r[3] == 0  # never changes
    assert [one.number for one in chosen(texts, top=3)] == np.argsort(-values.var(0), kind="stable")[:3].tolist()
    assert [one.number for one in chosen(texts, numbers=[3, 1, 3])] == [3, 1]
    best = chosen(texts, top=2, masks={"it": mask})
    assert best[0].number == 4 and best[0].correlation < -0.9 and best[0].asked == "it"
    both = chosen(texts, masks={"it": mask, "not": ~mask, "other": values[:, 1] > 0})
    assert [(one.number, one.asked) for one in both] == [(4, "it"), (4, "not"), (1, "other")]
    for wrong in (5, -1):
        with pytest.raises(InputError, match=f"neurons: there is no neuron {wrong}: the layer has 5, from 0 to 4"):
            chosen(texts, numbers=[0, wrong])
    with pytest.raises(InputError, match="top: must be at least 1, not 0"):
        chosen(texts, top=0)
    with pytest.raises(InputError, match="the same everywhere"):
        chosen(texts, masks={"it": np.ones(60, bool)})


def test_chance_is_what_noise_reaches():
    rng = np.random.default_rng(1)

    def slow(columns):  # runs of some ten pieces, as states and brackets have
        steps = rng.normal(size=(300, columns))
        for i in range(1, 300):
            steps[i] = 0.9 * steps[i - 1] + 0.44 * steps[i]
        return steps

    kept = []
    for _ in range(60):
        noise, mask = slow(20), slow(1)[:, 0] > 0
        kept.append(np.abs(correlations(noise, mask)).max() <= chance(noise, mask))
    assert 0.85 <= np.mean(kept) < 1
    noise[:, 3] = mask
    assert chance(noise, mask) < 0.5 and np.abs(correlations(noise, mask)).max() == pytest.approx(1)
    assert chance(np.zeros((1, 2)), np.ones(1)) == 1.0


@pytest.mark.parametrize(
    ("text", "what", "marked"),
    [
        ("a [b [c] d] e ] [", "brackets", "  xxxxxxxx"),
        ("f(x) (", "parentheses", " xx"),
        ('he: "so", “no”', "quotes", "    xxx   xxx"),
        ('a " b\n" c', "quotes", ""),
        ("see https://a.b/c?d=[e] now", "url", "    xxxxxxxxxxxxxxxxxxx"),
    ],
)
def test_inside(text, what, marked):
    assert "".join("x" if one else " " for one in inside(text, what)).rstrip() == marked
    assert inside_masks([states(np.zeros((len(text), 1)), list(text), gaps=("",) * (len(text) + 1))], what).sum() == marked.count("x")


def test_tags_as_masks():
    masks = tag_masks([["B-PER", "I-PER", "O"], ["O", "B-LOC"]])
    assert {name: mask.tolist() for name, mask in masks.items() if name in ("PER", "O", "B-LOC")} == {
        "PER": [True, True, False, False, False], "O": [False, False, True, True, False], "B-LOC": [False, False, False, False, True],
    }  # fmt: skip
    assert set(tag_masks([["N", "V"], ["V"]])) == {"N", "V"} and tag_masks([["N"]]) == {}
    with pytest.raises(InputError, match="by: 'x' is not known; there are brackets"):
        inside("a", "x")


NASTY = ["<script>alert(1)</script>", "a\"b'c&d", "\n", "", "\ud800", "東京", " ", "\x00", "</span>"]


def page(**more) -> tuple[Strict, str]:
    values = np.linspace(-1, 1, len(NASTY))[:, None] * [1, -3]
    texts = [states(values, NASTY, notes=("<b>",) * len(NASTY)), states(values[:2])]
    mask = np.arange(len(NASTY) + 2) < 2
    written = render(texts, chosen(texts, masks={"<i>": mask}), title="<title>", masks={"<i>": mask}, **more)
    read = Strict()
    read.feed(written)
    read.close()
    assert not read.open
    return read, written


def test_the_page_is_closed_in_itself_and_escapes_everything():
    read, written = page(chances={"<i>": 0.25})
    assert {tag for tag, _ in read.seen} <= {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "span", "nav", "a", "small", "section", "div", "b",
    }  # fmt: skip
    assert any(given.get("content") == "default-src 'none'; style-src 'unsafe-inline'" for _, given in read.seen)
    assert "http://" not in written and "https://" not in written and "url(" not in written
    assert not {name for _, given in read.seen for name in given} & {"src", "onclick", "onload", "style"}
    assert all(given["href"].startswith("#") for tag, given in read.seen if tag == "a")
    ids = [given["id"] for _, given in read.seen if "id" in given]
    assert len(ids) == len(set(ids)) and {given["href"][1:] for tag, given in read.seen if tag == "a"} == set(ids)
    written.encode("utf-8")
    shown = "".join(read.text)
    assert "<script>alert(1)</script> a\"b'c&d ↵\n · \ufffd 東京   \ufffd </span>" in shown
    r = np.corrcoef([*np.linspace(-1, 1, len(NASTY)), -1, -0.75], np.arange(len(NASTY) + 2) < 2)[0, 1]
    assert f"r = −{-r:.2f} with <i> · the best of 2 neurons reaches |r| 0.25 by chance · from −1.00 to +1.00" in shown


def test_each_piece_has_its_value_its_colour_and_its_mark():
    read, _ = page()
    spans = [given for tag, given in read.seen if tag == "span" and "title" in given]
    assert len(spans) == 2 * (len(NASTY) + 2)
    assert spans[0]["title"] == "−1.00 <b>" and spans[0]["class"] == f"m{STEPS} in"
    assert spans[4]["title"] == "0.00 <b>" and "class" not in spans[4]
    assert spans[len(NASTY) + 2]["title"] == "+3.00 <b>" and spans[len(NASTY) + 2]["class"] == f"p{STEPS} in"  # divided by 3
    assert "divided by 3" in "".join(read.text)
    assert [shade(value) for value in (-1, -0.5, -0.04, 0, 0.04, 0.06, 7)] == ["m10", "m5", None, None, None, "p1", "p10"]


def test_the_text_is_legible_on_every_shade():
    sheet = styles(["n1"])
    light, dark = (dict(re.findall(r"--(\w+): ([^;]+);", block)) for block in re.findall(r":root \{(.*?)\}", sheet, re.DOTALL))
    shades = re.findall(r"\.[pm]\d+ \{ background: rgb\(var\(--(\w+)\) / ([\d.]+)\); \}", sheet)
    assert len(shades) == 2 * STEPS

    def luminance(rgb):
        parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in np.array(rgb) / 255]
        return float(np.dot(parts, [0.2126, 0.7152, 0.0722]))

    def of(colour):
        return [int(colour[i : i + 2], 16) for i in (1, 3, 5)] if colour.startswith("#") else [int(part) for part in colour.split()]

    for scheme in (light, dark):
        ink, card = luminance(of(scheme["ink"])), np.array(of(scheme["card"]))
        for colour, share in shades:
            ground = luminance(float(share) * np.array(of(scheme[colour])) + (1 - float(share)) * card)
            assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5, (colour, share)


def test_a_long_text_is_cut_aloud_and_a_page_is_written_whole(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(neurons_page, "MOST", 20)
    texts = [states(np.ones((8, 2)) * i) for i in range(3)]
    write_page(texts, chosen(texts), tmp_path / "a.html", title="t")
    written = (tmp_path / "a.html").read_text()
    assert written.count("title=") == 20 and "shows the first 10 of 24 pieces" in caplog.text and written.endswith("</html>\n")
