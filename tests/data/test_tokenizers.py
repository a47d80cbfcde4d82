"""What every kind of tokenizer promises, and characters and bytes against Python's own."""

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.data.tokenizers import TOKENIZERS, tokenizer_from_dict, train_tokenizer
from weft.errors import InputError

CORPUS = [
    'the rock is destined to be the 21st century\'s new " conan "',
    "Don't miss it: İstanbul’s café, 3.14 times -- flightless birds!",
    "a film that is n't good , -lrb- but not bad -rrb- ...",
    "東京タワー is 👍🏽 ; nai\u0308ve",
]
SETTINGS = {
    "words": {"ngrams": 2, "buckets": 50},
    "whitespace": {"ngrams": 3, "buckets": 50},
    "hashing": {"buckets": 40, "ngrams": 2},
    "bpe": {"maximum_size": 300},
    "wordpiece": {"maximum_size": 150},
}
MADE = {kind: train_tokenizer(kind, CORPUS, **SETTINGS.get(kind, {})) for kind in TOKENIZERS}
kinds = st.sampled_from(list(TOKENIZERS))
texts = st.text(max_size=30) | st.lists(st.sampled_from(" ".join(CORPUS).split()), max_size=8).map(" ".join)
every_kind = pytest.mark.parametrize("kind", list(TOKENIZERS))


@given(kinds, st.lists(texts, max_size=5))
def test_the_fast_path_gives_the_ids_of_encode(kind, given_texts) -> None:
    rows = MADE[kind].encode_ids(given_texts)
    assert [row.tolist() for row in rows] == [MADE[kind].encode(text).ids for text in given_texts]
    assert all(row.dtype == np.int32 for row in rows)


@given(kinds, texts)
def test_ids_are_in_range_and_offsets_lie_in_the_text(kind, text) -> None:
    encoding = MADE[kind].encode(text)
    assert len(encoding) == len(encoding.ids) == len(encoding.offsets)
    assert all(1 <= number < MADE[kind].size for number in encoding.ids)
    assert all(0 <= start <= end <= len(text) for start, end in encoding.offsets)


@every_kind
def test_described_and_read_back_it_is_the_same(kind) -> None:
    made = MADE[kind]
    described = made.to_dict()
    assert described["kind"] == made.kind == kind
    twins = [tokenizer_from_dict(json.loads(json.dumps(described))), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)]
    for twin in twins:
        assert twin.to_dict() == described and twin.size == made.size
        for text in [*CORPUS, "unseen words, Ünïcode \U0001f600 and\tblanks "]:
            assert twin.encode(text) == made.encode(text)


@given(kinds, st.lists(texts, min_size=1, max_size=4), st.booleans())
def test_round_trips_whatever_it_was_trained_on(kind, corpus, lowercase) -> None:
    settings = {} if kind == "bytes" else {"lowercase": lowercase}
    made = train_tokenizer(kind, corpus, **settings)
    twin = tokenizer_from_dict(json.loads(json.dumps(made.to_dict())))
    assert twin.to_dict() == made.to_dict()
    assert [row.tolist() for row in twin.encode_ids(corpus)] == [row.tolist() for row in made.encode_ids(corpus)]
    again = train_tokenizer(kind, corpus, **settings)
    assert again.to_dict() == made.to_dict()


@every_kind
def test_nothing_gives_nothing(kind) -> None:
    assert MADE[kind].encode("").ids == [] and MADE[kind].encode("").offsets == []
    assert MADE[kind].encode_ids([]) == []
    (row,) = MADE[kind].encode_ids([""])
    assert row.shape == (0,) and row.dtype == np.int32
    if kind != "hashing":
        assert MADE[kind].decode([]) == "" == MADE[kind].decode([0, 0])


@every_kind
def test_lone_surrogates_count_as_the_replacement_character(kind, caplog) -> None:
    torn, mended = "go\ud800od \udfffday", "go\ufffdod \ufffdday"
    assert MADE[kind].encode(torn) == MADE[kind].encode(mended)
    with caplog.at_level("WARNING", "weft"):
        MADE[kind].encode_ids([mended])
        assert not caplog.records
        rows = MADE[kind].encode_ids([mended, torn, "fine"])
    assert rows[0].tolist() == rows[1].tolist()
    assert "1 of 3" in caplog.text
    again = train_tokenizer(kind, [torn])
    assert again.to_dict() == train_tokenizer(kind, [mended]).to_dict()


@every_kind
def test_special_tokens_written_in_a_text_are_plain_text(kind) -> None:
    """No text can write padding or a model's own tokens; only the unknown token may come out."""
    text = "<pad> [CLS] [SEP] [MASK] a<pad>b"
    reserved = {0, 2, 3, 4} if kind == "wordpiece" else {0}
    trained_on_it = train_tokenizer(kind, [text] * 3, **SETTINGS.get(kind, {}))
    for made in (MADE[kind], trained_on_it):
        assert not reserved & set(made.encode(text).ids)


@every_kind
def test_what_is_no_text_is_refused(kind) -> None:
    with pytest.raises(InputError, match="not float"):
        MADE[kind].encode(float("nan"))
    with pytest.raises(InputError, match="not NoneType"):
        MADE[kind].encode_ids(["fine", None])
    with pytest.raises(InputError, match="in a list"):
        MADE[kind].encode_ids("one text")
    if kind not in ("bytes", "hashing"):
        with pytest.raises(InputError, match="there are none"):
            TOKENIZERS[kind].train([])


@every_kind
def test_ids_that_do_not_exist_are_refused(kind) -> None:
    for number in (-1, MADE[kind].size):
        with pytest.raises(InputError):
            MADE[kind].decode([number])


def test_unknown_kinds_settings_and_broken_descriptions_are_named() -> None:
    with pytest.raises(InputError, match="no tokenizer 'wordz'; there are words, "):
        train_tokenizer("wordz", ["a"])
    with pytest.raises(InputError, match="no setting 'buckets'; it has minimum_count, maximum_size, lowercase"):
        train_tokenizer("characters", ["a"], buckets=3)
    for broken in ({}, {"kind": None}, {"kind": "words"}, {"kind": "bpe", "tokens": ["ab"], "merges": [["a", "b"]], "lowercase": True}):
        with pytest.raises(InputError):
            tokenizer_from_dict(broken)
    with pytest.raises(InputError, match="'a' came twice"):
        tokenizer_from_dict({"kind": "characters", "tokens": ["a", "a"], "lowercase": False})


def test_characters_are_looked_up_one_by_one() -> None:
    made = train_tokenizer("characters", ["abba a"])
    assert made.vocabulary.tokens[2:] == ["a", "b", " "]
    encoding = made.encode("ab  cB")
    assert encoding.ids == [2, 3, 4, 4, 1, 1]
    assert encoding.offsets == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
    assert made.decode([0, *encoding.ids, 0]) == "ab  \ufffd\ufffd"


@given(st.lists(st.text(max_size=20), min_size=1))
def test_characters_give_the_text_back(corpus) -> None:
    made = train_tokenizer("characters", corpus)
    assert [made.decode(row) for row in made.encode_ids(corpus)] == corpus
    lowered = train_tokenizer("characters", corpus, lowercase=True)
    assert [lowered.decode(lowered.encode(text).ids) for text in corpus] == ["".join(c.lower() for c in text) for text in corpus]


def test_a_character_whose_lower_case_is_two_characters_stays_one_token() -> None:
    made = train_tokenizer("characters", ["aİ"], lowercase=True)
    assert made.encode("İA").ids == [made.vocabulary.id("i\u0307"), made.vocabulary.id("a")]
    assert made.encode("İA").offsets == [(0, 1), (1, 2)]


@given(st.text(max_size=20))
def test_bytes_are_utf8_plus_two_and_give_the_text_back(text) -> None:
    made = MADE["bytes"]
    encoding = made.encode(text)
    assert encoding.ids == [byte + 2 for byte in text.encode()]
    assert made.decode(encoding.ids) == text
    for i, character in enumerate(text):  # the bytes that point at a character are that character's
        behind = [number - 2 for number, span in zip(encoding.ids, encoding.offsets, strict=True) if span == (i, i + 1)]
        assert bytes(behind) == character.encode()


def test_broken_bytes_become_replacement_characters() -> None:
    assert MADE["bytes"].decode([0xC3 + 2, ord("a") + 2, 1, 0, ord("b") + 2]) == "\ufffda\ufffdb"
