"""What a tagger reads of a word: forms by hand, vocabularies by counting, tables and batches of them against a loop over words."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.data.checkpoints import BertTokenizer, ByteLevelTokenizer
from weft.data.lexicon import CASES, FEATURES, Words, case, shape
from weft.data.subwords import BytePairTokenizer
from weft.data.words import WordTokenizer
from weft.errors import InputError

SENTENCES = [["The", "cat", "sat"], ["the", "Cat", "of", "1984", "!"], ["McDonald's"], ["sat", "!"]]
ANY_TOKEN = st.text(max_size=30)
SURROGATES = st.text(st.characters(), max_size=8)  # half a surrogate among them


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("cat", "lower"), ("Cat", "title"), ("CAT", "upper"), ("A", "title"), ("iPhone", "mixed"), ("McDonald", "mixed"),
        ("1984", "number"), ("3,14", "number"), ("b2b", "digits"), ("B-52", "digits"), ("!", "mark"), ("...", "mark"), ("", "mark"),
        ("_", "mark"), ("don't", "lower"), ("U.S.", "upper"), ("東京", "mixed"), ("été", "lower"), ("ÉTÉ", "upper"),
        ("👩\u200d👩\u200d👧", "mark"), ("e\u0301", "lower"), ("\u0301", "mark"), ("１２", "number"), ("ǅ", "mixed"),
        ("\ud83d", "mark"), ("\x00", "mark"), ("-Cat", "mixed"),
    ],
)  # fmt: skip
def test_case(word, expected):
    assert case(word) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("McDonald's", "XxXxx'x"), ("CAT", "XX"), ("cats", "xx"), ("1984", "dd"), ("B-52", "X-dd"), ("....", ".."), ("", ""), ("a", "x"),
        ("東京", "xx"), ("👩👩👩", "👩👩"), ("e\u0301e", "x\u0301x"), ("１２", "dd"), ("3.5%", "d.d%"),
    ],
)  # fmt: skip
def test_shape(word, expected):
    assert shape(word) == expected


def test_prefix_and_suffixes():
    of = {name: feature("Bakery") for name, feature in FEATURES.items()}
    assert of == {"prefix": "bak", "suffix1": "y", "suffix2": "ry", "suffix3": "ery", "suffix4": "kery", "shape": "Xxx", "case": "title"}
    assert {FEATURES[name]("") for name in FEATURES} == {"", "mark"}
    assert FEATURES["suffix4"]("Ab") == FEATURES["prefix"]("AB") == "ab"


@given(st.one_of(ANY_TOKEN, SURROGATES))
def test_every_text_has_every_feature(word):
    for feature in FEATURES.values():
        assert isinstance(feature(word), str)
    assert case(word) in CASES
    signs = shape(word)
    assert len(signs) <= len(word)
    assert all(len(set(signs[i : i + 3])) > 1 for i in range(len(signs) - 2))


def test_vocabularies_are_of_what_was_seen():
    words = Words.train(SENTENCES, features=["case", "suffix1"])
    assert set(words.vocabulary.tokens[2:]) == {"the", "cat", "sat", "of", "1984", "!", "mcdonald's"}
    assert words.size == 9
    letters = {letter for sentence in SENTENCES for word in sentence for letter in word}
    assert set(words.characters.tokens[2:]) == letters | {"\x02", "\x03"}
    kinds = Counter(case(word) for word in {word for sentence in SENTENCES for word in sentence})  # of distinct words
    assert words.features["case"].tokens[2:] == sorted(kind for kind, count in kinds.items() if count > 1)
    cased = Words.train(SENTENCES, lowercase=False)
    assert {"The", "the", "Cat", "cat"} <= set(cased.vocabulary.tokens)
    assert set(Words.train(SENTENCES, minimum_count=2).vocabulary.tokens[2:]) == {"the", "cat", "sat", "!"}
    assert len(Words.train(SENTENCES, maximum_size=4).vocabulary) <= 4 + 2


def test_the_order_of_sentences_is_no_matter():
    one, other = (Words.train(given, features=list(FEATURES)).to_dict() for given in (SENTENCES, SENTENCES[::-1]))
    assert one == other


def naive(words: Words, word: str) -> tuple[int, list[int], list[int]]:
    """(its id, ids of its features, of its characters), by the definition."""
    half = words.maximum_characters // 2
    if len(word) > 2 * half:
        spelt = [*word[:half], *word[len(word) - half :]]
    else:
        spelt = list(word)
    ids = words.vocabulary.ids
    return (
        ids.get(word.lower() if words.lowercase else word, 1),
        [vocabulary.ids.get(FEATURES[name](word), 1) for name, vocabulary in words.features.items()],
        [words.characters.ids.get(letter, 1) for letter in ["\x02", *spelt, "\x03"]],
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.one_of(ANY_TOKEN, SURROGATES, st.sampled_from(["cat", "Cat", "CAT"])), max_size=5), max_size=5), st.booleans())
def test_tables_of_forms_are_what_the_definition_says(sentences, lowercase):
    words = Words.train(SENTENCES, features=["shape", "suffix3"], lowercase=lowercase, maximum_characters=6)
    rows, table = words.encode(sentences)
    assert [len(row) for row in rows] == [len(sentence) for sentence in sentences]
    distinct = list(dict.fromkeys(word for sentence in sentences for word in sentence))
    index = np.arange(len(distinct) + 1)
    word, features, characters, pieces = table.forms(index)
    assert word.dtype == features.dtype == characters.dtype == pieces.dtype == np.int64
    assert pieces.shape == (len(index), 1) and not pieces.any()  # there is no checkpoint to cut words
    assert word[0] == 0 and not features[0].any() and not characters[0].any()
    for sentence, row in zip(sentences, rows):
        for token, place in zip(sentence, row.tolist()):
            expected = naive(words, token)
            assert word[place] == expected[0]
            assert features[place].tolist() == expected[1]
            assert [number for number in characters[place].tolist() if number] == expected[2]
            assert characters[place, : len(expected[2])].tolist() == expected[2]  # zeros come after the end alone
    some = index[::-2]
    parts = table.forms(some)
    assert np.array_equal(parts[0], word[some]) and np.array_equal(parts[1], features[some])
    width = parts[2].shape[1]
    assert np.array_equal(parts[2], characters[some][:, :width]) and not characters[some][:, width:].any()


def test_long_words_are_read_at_both_ends():
    words = Words.train([[*"abcdefghij", "x"]], maximum_characters=6)
    _, table = words.encode([["abcdefghij", "abcdef", "abcdefg"]])
    _, _, characters, _ = table.forms(np.arange(1, 4))
    read = ["".join(words.characters.tokens[i] for i in row if i) for row in characters.tolist()]
    assert read == ["\x02abchij\x03", "\x02abcdef\x03", "\x02abcefg\x03"]


def test_unknown_words_characters_and_features():
    words = Words.train(SENTENCES, features=["shape"])
    _, table = words.encode([["zebra", "ÿþ", "", "\x02cat\x03"]])
    word, features, characters, _ = table.forms(np.arange(1, 5))
    assert word[:3].tolist() == [1, 1, 1]
    assert characters[1].tolist()[:4] == [2, 1, 1, 3]
    assert characters[2].tolist()[:3] == [2, 3, 0]  # the empty word: begin and end
    assert features[1, 0] == words.features["shape"].ids["xx"]
    assert characters[3].tolist()[:2] == [2, 2]  # a word that holds the marks themselves is read as it stands


def test_nothing_at_all():
    words = Words.train([])
    assert words.size == 2 and len(words.characters) == 4
    rows, table = words.encode([])
    assert rows == [] and table.forms(np.zeros(1, np.int64))[2].shape == (1, 1)
    rows, table = words.encode([[], ["a"], []])
    assert [row.tolist() for row in rows] == [[], [1], []]


@pytest.mark.parametrize("options", [{}, {"lowercase": False, "maximum_characters": 5}, {"features": list(FEATURES)}])
def test_to_json_and_back(options):
    words = Words.train([*SENTENCES, ["\x02", "\x00", "naïve", "👩\u200d👧", "\u2028"]], **options)
    text = json.dumps(words.to_dict())
    again = Words.from_dict(json.loads(text))
    assert again.to_dict() == words.to_dict()
    given = [["cat", "CAT", "zebra", "👩\u200d👧", "x" * 50, ""]]
    for one, other in zip(words.encode(given)[1].forms(np.arange(7)), again.encode(given)[1].forms(np.arange(7))):
        assert np.array_equal(one, other)
    assert words.encode(given)[1].digest() == again.encode(given)[1].digest() != words.encode([["cat"]])[1].digest()


def test_what_is_refused():
    with pytest.raises(InputError, match=r"features: there is no feature 'shapes'.*shape.*; there are prefix"):
        Words.train(SENTENCES, features=["shapes"])
    whole = Words.train(SENTENCES, features=["case"]).to_dict()
    for change in ({"words": None}, {"features": []}, {"features": {"colour": ["red"]}}, {"maximum_characters": "many"}, {"characters": 3}):
        with pytest.raises(InputError, match=r"tokenizer.json"):
            Words.from_dict({**whole, **change})
    with pytest.raises(InputError, match=r"tokenizer.json"):
        Words.from_dict({})


PIECES = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "the", "-", "s"])


def test_words_in_the_pieces_of_a_checkpoint():
    words = Words.train(SENTENCES, features=["case"]).in_pieces(PIECES)
    given = ["Cats", "the", "cat-s", "", "zebra", "\x00"]
    rows, table = words.encode([given, given[:2]])
    assert [row.tolist() for row in rows] == [[1, 2, 3, 4, 5, 6], [1, 2]]
    word, features, _, pieces = table.forms(np.arange(7))
    assert set(word.tolist()) == {0, 1} and features.shape == (7, 1)  # no word has a number of its own
    known = [[PIECES.tokens[number - 1] for number in row if number] for row in pieces.tolist()]
    assert known == [[], ["cat", "##s"], ["the"], ["cat", "-", "s"], ["[UNK]"], ["[UNK]"], ["[UNK]"]]
    again = Words.from_dict(json.loads(json.dumps(words.to_dict())))
    assert again.to_dict() == words.to_dict()
    assert again.encode([given])[1].digest() == words.encode([given])[1].digest() != Words.train(SENTENCES).encode([given])[1].digest()


def test_words_of_byte_level_pieces_carry_their_blank():
    """RoBERTa's pieces of a text are those of its words, each behind a blank."""
    trained = BytePairTokenizer.train([" ".join(sentence) for sentence in SENTENCES] * 3, lowercase=False)
    tokenizer = ByteLevelTokenizer.of(trained)
    sentence = ["The", "cat", "sat", "naïve"]
    apart = tokenizer.pieces_of_words(sentence)
    assert [number for word in apart for number in word] == tokenizer.pieces([" ".join(sentence)])[0]


def test_pieces_that_are_no_checkpoints_are_refused():
    described = {**Words.train(SENTENCES).to_dict(), "pieces": WordTokenizer.train(["a b"]).to_dict()}
    with pytest.raises(InputError, match="no checkpoint's"):
        Words.from_dict(described)
