"""Words by the pieces of a pretrained encoder, against plain loops and the encoder by itself."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.data.batch import Batches
from weft.data.checkpoints import BertTokenizer
from weft.data.lexicon import Words
from weft.models.bert import BertConfig
from weft.models.pieces import PieceEncoder, in_pieces

CLS, SEP = 2, 3
TOKENIZER = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "the", "sat", "##e", "##d"])
CONFIG = BertConfig(vocabulary_size=11, hidden_size=8, layers=2, heads=2, maximum_positions=14, separator=SEP, dropout=0.0, pooler=False)
SENTENCES = [["the", "cats", "sat"], ["cat"], ["The", "catsed", "zebra", "sat", "cats"], ["satsed"] * 4]


def encoder(features: dict[str, int] | None = None) -> PieceEncoder:
    torch.manual_seed(0)
    return PieceEncoder(asdict(CONFIG), (CLS, SEP), features or {}, 3, 1.0).eval()


def by_loops(words: list[list[int]], room: int) -> tuple[list[int], list[int]]:
    """A row's ids, and where its words start: the longest words are cut by one piece, all of them at a time, until it fits."""
    most = max(map(len, words), default=0)
    while sum(min(len(word), most) for word in words) > room - 2:
        most -= 1
    ids, starts = [CLS], []
    for word in words:
        starts.append(len(ids))
        ids += word[:most]
    return [*ids, SEP], starts


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(4, 30), min_size=1, max_size=6), max_size=7), min_size=1, max_size=4), st.integers(9, 40))
def test_rows_of_pieces_are_what_plain_loops_make(rows, room):
    longest = max(1, *map(len, rows))
    width = max([1, *(len(word) for row in rows for word in row)])
    pieces = torch.zeros(len(rows), longest, width, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for row, words in enumerate(rows):
        for place, word in enumerate(words):
            pieces[row, place, : len(word)] = 1 + torch.tensor(word)
            mask[row, place] = True
    pieces[~mask] = 7  # what stands at padding is not looked at
    made = in_pieces(pieces, mask, (CLS, SEP), room)
    for row, words in enumerate(rows):
        ids, starts = by_loops(words, room)
        assert made.ids[row][made.mask[row]].tolist() == ids
        assert made.starts[row][mask[row]].tolist() == starts
        assert made.mask[row].sum() == made.mask[row, : len(ids)].sum() == len(ids)


def test_a_word_is_its_first_pieces_state_whatever_stands_beside_it_in_the_batch():
    """Each sentence by itself through the encoder, its ids written out by the tokenizer."""
    words = Words.train(SENTENCES, features=["case"]).in_pieces(TOKENIZER)
    rows, table = words.encode(SENTENCES)
    made = encoder({"case": len(words.features["case"])})
    batch = Batches(rows, examples=4, lexicon=table).gather(np.arange(4))
    together = made(batch)
    assert together.shape == (4, 5, 8 + 3) and made.output_size == 11
    assert not together[~batch.mask].any()
    for row, sentence in enumerate(SENTENCES):
        cut, starts = by_loops(TOKENIZER.pieces_of_words(sentence), CONFIG.maximum_positions)
        ids = torch.tensor([cut])
        hidden, _ = made.encoder(ids, torch.ones_like(ids, dtype=torch.bool))
        torch.testing.assert_close(together[row, : len(sentence), :8], hidden[0, starts], rtol=1e-5, atol=1e-6)
        value = words.features["case"].ids
        for place, word in enumerate(sentence):
            kind = value.get("title" if word[0].isupper() else "lower", 1)
            torch.testing.assert_close(together[row, place, 8:], made.features[0].weight[kind])


def test_more_words_than_positions_are_refused():
    pieces = torch.full((1, 13, 1), 5)
    with pytest.raises(ValueError, match="a row of 13 words is longer than an encoder of 14 positions reads, 12 of them"):
        in_pieces(pieces, torch.ones(1, 13, dtype=torch.bool), (CLS, SEP), 14)


def test_the_encoders_layers_are_the_layers():
    groups = encoder({"case": 5}).layer_groups()
    assert len(groups) == 1 + CONFIG.layers and all(name.startswith("encoder.") for group in groups for name in group)
    named = {name for group in groups for name in group}
    assert {name for name, _ in encoder({"case": 5}).named_parameters()} - named == {"features.0.weight"}
