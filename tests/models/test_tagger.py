"""The tagger: shapes, how many parameters, what is worked out once for a word, what is joined how, which level a column reads; refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from weft.data import lexicon
from weft.data.batch import Batch, Batches
from weft.data.lexicon import Words
from weft.models.tagger import Tagger, TaggerConfig

SENTENCES = [["The", "Bakers", "baked"], ["bread"], ["bread", "bread", "in", "1984", "!"], ["The", "bakery", "The", "in"]]
FEATURES = ("case", "suffix2", "shape")
WORDS = Words.train(SENTENCES, features=FEATURES)
E, F, C = 6, 4, 8


def batch_of(sentences: list[list[str]] = SENTENCES, words: Words = WORDS) -> Batch:
    rows, table = words.encode(sentences)
    return Batches(rows, examples=len(rows), lexicon=table).gather(np.arange(len(rows)))


def tagger(columns: dict[str, int] | None = None, **options) -> Tagger:
    given = {
        "vocabulary_size": WORDS.size, "columns": columns or {"upos": 5},
        "features": {name: len(WORDS.features[name]) for name in FEATURES},
        "character_vocabulary": len(WORDS.characters), "encoder": "recurrent",
        "encoder_settings": {"hidden_size": 7, "bidirectional": True},
        "embedding_size": E, "feature_size": F, "character_size": 3, "character_hidden": C, "characters": "bilstm",
    }  # fmt: skip
    torch.manual_seed(0)
    return Tagger(TaggerConfig(**{**given, **options})).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def lstm(size: int, hidden: int) -> int:
    return 4 * (hidden * (hidden + size) + hidden)


TABLES = WORDS.size * E + sum(len(WORDS.features[name]) for name in FEATURES) * F + len(WORDS.characters) * 3
JOINED = E + 3 * F + C


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, TABLES + 2 * lstm(3, C // 2) + 2 * lstm(JOINED, 7) + 14 * 5 + 5),
        ({"crf": True}, TABLES + 2 * lstm(3, C // 2) + 2 * lstm(JOINED, 7) + 14 * 5 + 5 + 25 + 10),
        ({"characters": "cnn"}, TABLES + 3 * 3 * C + C + 2 * lstm(JOINED, 7) + 14 * 5 + 5),
        ({"project": 9}, TABLES + 2 * lstm(3, C // 2) + JOINED * 9 + 9 + 2 * lstm(9, 7) + 14 * 5 + 5),
        ({"columns": {"a": 5, "b": 2}, "crf": True}, TABLES + 2 * lstm(3, C // 2) + 2 * lstm(JOINED, 7) + 14 * 7 + 7 + 25 + 10 + 4 + 4),
        (
            {"columns": {"a": 5, "b": 2}, "levels": {"b": 2, "a": 1}},
            TABLES + 2 * lstm(3, C // 2) + 2 * lstm(JOINED, 7) + 2 * lstm(14, 7) + 14 * 7 + 7,
        ),
        ({"join": "sum", "feature_size": 99}, WORDS.size * E + sum(len(WORDS.features[n]) for n in FEATURES) * E + len(WORDS.characters) * 3
         + 2 * lstm(3, E // 2) + 2 * lstm(E, 7) + 14 * 5 + 5),
        ({"characters": "none", "features": {}}, WORDS.size * E + 2 * lstm(E, 7) + 14 * 5 + 5),
    ],
    ids=["concat", "crf", "cnn", "project", "columns", "levels", "sum", "words alone"],
)  # fmt: skip
def test_how_many_numbers_it_has(options, numbers):
    assert count(tagger(**options)) == numbers


@pytest.mark.parametrize("crf", [False, True])
def test_what_it_gives(crf):
    batch = batch_of()
    found = tagger({"upos": 5, "xpos": 9}, crf=crf)(batch)
    assert {column: tuple(one.logits.shape) for column, one in found.items()} == {"upos": (4, 5, 5), "xpos": (4, 5, 9)}
    for column, one in found.items():
        assert one.mask is batch.mask
        assert not one.logits[~batch.mask].any()
        assert (one.chain is not None) == crf
        if crf:
            assert one.chain.transitions.shape == ((5, 5) if column == "upos" else (9, 9))
    assert tagger().states(batch).shape == (4, 5, 14)


def of_one_word(made: Tagger, word: str) -> torch.Tensor:
    """A word's vector from its tables, by itself, with no batch around it: each part looked up by hand."""
    words, encoder = WORDS, made.words
    parts = [encoder.embedding.weight[words.vocabulary.ids.get(word.lower(), 1)]]
    for table, name in zip(encoder.features, FEATURES):
        parts.append(table.weight[words.features[name].ids.get(lexicon.FEATURES[name](word), 1)])
    read = word if len(word) <= 24 else word[:12] + word[-12:]
    letters = torch.tensor([[words.characters.ids.get(letter, 1) for letter in f"\x02{read}\x03"]])
    if encoder.characters is not None:
        parts.append(encoder.characters(letters)[0])
    return torch.stack(parts).sum(0) if encoder.join == "sum" else torch.cat(parts)


@pytest.mark.parametrize("characters", ["none", "cnn", "bilstm"])
@pytest.mark.parametrize("join", ["concat", "sum"])
def test_a_word_is_the_same_wherever_it_stands(characters, join):
    """Worked out once for each distinct word of a batch, put where it occurs; against each token by itself."""
    made = tagger(characters=characters, join=join)
    sentences = [*SENTENCES, ["unheard-of", "", "Bread", "é", "x" * 60]]
    batch = batch_of(sentences)
    assert len(batch.forms.word) == len({word for sentence in sentences for word in sentence}) + 1  # and padding
    vectors = made.words(batch)
    assert vectors.shape[-1] == made.words.output_size
    for row, sentence in enumerate(sentences):
        for place, word in enumerate(sentence):
            torch.testing.assert_close(vectors[row, place], of_one_word(made, word), rtol=0, atol=1e-6, msg=repr(word))
        assert not vectors[row, len(sentence) :].any()


def test_gradients_add_up_over_where_a_word_stands():
    made = tagger()
    batch = batch_of()
    upstream = torch.randn(4, 5, made.words.output_size, generator=torch.Generator().manual_seed(1)) * batch.mask[..., None]
    (made.words(batch) * upstream).sum().backward()
    once = {name: parameter.grad.clone() for name, parameter in made.words.named_parameters()}
    made.zero_grad()
    total = sum(
        (of_one_word(made, word) * upstream[row, place]).sum()
        for row, sentence in enumerate(SENTENCES)
        for place, word in enumerate(sentence)
    )
    total.backward()
    for name, parameter in made.words.named_parameters():
        torch.testing.assert_close(once[name], parameter.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_characters_are_read_to_the_words_own_ends():
    """The forward LSTM's state at the last character and the backward one's at the first, of torch.nn.LSTM run on one word alone."""
    made = tagger().words.characters
    cell = made.encoder
    words = ["a", "bakery", "Bakers", "in"]
    _, table = WORDS.encode([words])
    _, _, characters, _ = table.forms(np.arange(1, 5))
    together = made(torch.from_numpy(characters))
    for place, word in enumerate(words):
        letters = torch.tensor([[WORDS.characters.ids.get(letter, 1) for letter in f"\x02{word}\x03"]])
        x, mask = made.embedding(letters), torch.ones_like(letters, dtype=torch.bool)
        hidden, _ = cell(x, mask)
        half = C // 2
        torch.testing.assert_close(together[place], torch.cat([hidden[0, -1, :half], hidden[0, 0, half:]]), rtol=0, atol=1e-6)
    narrow, wide = (np.pad(characters, ((0, 0), (0, columns))) for columns in (0, 9))
    torch.testing.assert_close(made(torch.from_numpy(wide)), made(torch.from_numpy(narrow)), rtol=0, atol=1e-6)


def test_characters_by_filters_are_a_maximum_over_time():
    made = tagger(characters="cnn", character_width=3).words.characters
    letters = torch.tensor([[2, 5, 4, 3, 0, 0]])
    alone = made(letters[:, :4])
    torch.testing.assert_close(made(letters), alone, rtol=0, atol=1e-6)
    x = nn.functional.pad(made.embedding(letters[0, :4]), (0, 0, 1, 1))  # a zero before and after
    bias, weight = sorted(made.encoder.parameters(), key=lambda parameter: parameter.dim())
    assert weight.dim() == 3
    spread = torch.stack([torch.einsum("wd,fwd->f", x[at : at + 3], weight) + bias for at in range(4)])
    torch.testing.assert_close(alone[0], spread.amax(0).relu(), rtol=0, atol=1e-6)


def test_case_is_seen_by_characters_and_features_alone():
    lower, upper = ([["bread"]], [["BREAD"]])
    blind = tagger(characters="none", features={})
    assert torch.equal(blind.words(batch_of(lower)), blind.words(batch_of(upper)))
    for options in ({"characters": "none"}, {"features": {}}):
        seeing = tagger(**options)
        assert not torch.equal(seeing.words(batch_of(lower)), seeing.words(batch_of(upper)))


@pytest.mark.parametrize("crf", [False, True])
def test_a_column_is_read_from_its_level(crf):
    made = tagger({"low": 3, "top": 4, "middle": 2}, levels={"low": 1, "middle": 2, "top": 3}, crf=crf)
    batch = batch_of()
    assert len(made.encoders) == 3
    x, expected = made.words(batch), {}
    for encoder, column in zip(made.encoders, ("low", "middle", "top")):
        x, _ = encoder(x, batch.mask)
        output = made.outputs[f"column{list(made.config.columns).index(column)}"]
        expected[column] = output(x) * batch.mask[..., None]
    found = made(batch)
    assert list(found) == ["low", "top", "middle"]
    for column, logits in expected.items():
        torch.testing.assert_close(found[column].logits, logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(made.states(batch), x, rtol=0, atol=0)
    # what is read below gives no gradient to what is above
    found["low"].logits.sum().backward()
    assert all(parameter.grad is None for encoder in made.encoders[1:] for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in made.encoders[0].parameters())


def test_a_column_without_a_level_is_read_at_the_top():
    assert tagger({"a": 2, "b": 2}, levels={"a": 2}).level == {"a": 2, "b": 2}
    assert tagger({"a": 2, "b": 2}).level == {"a": 1, "b": 1}


def test_dropouts_are_off_at_prediction_and_on_in_training():
    made = tagger(dropout=0.5, word_dropout=0.5, embedding_dropout=0.5)
    batch = batch_of()
    assert torch.equal(made(batch)["upos"].logits, made(batch)["upos"].logits)
    made.train()
    torch.manual_seed(1)
    assert not torch.equal(made(batch)["upos"].logits, made(batch)["upos"].logits)
    dropped = tagger(dropout=0.0, word_dropout=0.99).train().words
    unknown = dropped.embedding.weight[1]
    heads = dropped(batch)[..., :E][batch.mask]
    assert sum(torch.equal(one, unknown) for one in heads) > len(heads) // 2  # words become the unknown one, characters stay


@pytest.mark.parametrize(
    ("encoder", "settings"),
    [("cnn", {"widths": (3,), "padding": "narrow", "filters": 4}), ("dilated-cnn", {"stride": 2, "filters": 4}), ("bag", {}),
     ("cnn", {"widths": (2, 3), "padding": "wide", "filters": 4})],
)  # fmt: skip
def test_an_encoder_without_a_state_for_every_word_is_refused(encoder, settings):
    made = tagger(encoder=encoder, encoder_settings=settings)
    with pytest.raises(ValueError, match=rf"the encoder '{encoder}' gives \d+ states for 5 words"):
        made(batch_of())


def test_what_cannot_be_is_refused():
    for options, said in (
        ({"characters": "letters"}, "characters='letters' must be one of none, cnn, bilstm"),
        ({"join": "mean"}, "join='mean' must be one of concat, sum"),
        ({"character_hidden": 7}, "an even character_hidden, not 7"),
        ({"levels": {"upos": 0}}, "column 'upos' is read from level 0; levels are counted from 1"),
        ({"encoder": "rnn"}, "no encoder 'rnn'"),
    ):
        with pytest.raises(ValueError, match=said):
            tagger(**options)
    with pytest.raises(ValueError, match="the batch has none"):
        tagger()(replace(batch_of(), forms=None))


def test_names_of_columns_may_hold_anything():
    made = tagger({"a.b": 2, "": 3, "🙂 c": 2}, crf=True)
    assert list(made(batch_of())) == ["a.b", "", "🙂 c"]
