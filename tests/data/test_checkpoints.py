"""Tokenizers of public checkpoints against `transformers` on a thousand strings in many scripts (tests/support/make_tokenizers.py)."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strings import digests, strings

from weft.data.checkpoint_files import read_tokenizer, write_tokenizer
from weft.data.checkpoints import BERT, GPT2, ROBERTA, BertTokenizer, ByteLevelTokenizer, Special, fitted
from weft.data.subwords import BytePairTokenizer, WordPieceTokenizer
from weft.data.tokenizers import tokenizer_from_dict
from weft.errors import InputError

FOLDERS = Path(__file__).with_name("checkpoints")
FAMILIES = {"bert": "bert", "bert-cased": "bert", "roberta": "roberta", "gpt2": "gpt2"}
TEXTS = strings(1000)
MADE = {name: read_tokenizer(FOLDERS / name, family) for name, family in FAMILIES.items()}
every = pytest.mark.parametrize("name", FAMILIES)


def expected(name: str) -> dict[str, list[str]]:
    return json.loads((FOLDERS / name / "expected.json").read_text())


@every
def test_ids_are_those_of_transformers(name):
    rows = MADE[name].encode_ids(TEXTS)
    assert digests([row.tolist() for row in rows]) == expected(name)["single"]
    assert all(row.dtype == np.int32 for row in rows)
    assert [MADE[name].encode(text).ids for text in TEXTS[:100]] == [row.tolist() for row in rows[:100]]


@pytest.mark.parametrize("name", ["bert", "bert-cased", "roberta"])
def test_pairs_are_joined_and_cut_as_transformers_does(name, caplog):
    with caplog.at_level(logging.WARNING, "weft"):
        rows = MADE[name].rows(TEXTS, TEXTS[1:] + TEXTS[:1], 16)
    assert digests([row.tolist() for row in rows]) == expected(name)["pairs"]
    assert max(map(len, rows)) == 16
    whole = MADE[name].rows(TEXTS, TEXTS[1:] + TEXTS[:1])
    longer = sum(len(row) > 16 for row in whole)
    assert caplog.messages == [f"{longer} of 1000 texts are longer than maximum_length=16 tokens and were cut there"]


@every
def test_read_from_tokenizer_json_it_is_the_same(name, tmp_path):
    shutil.copy(FOLDERS / name / "described.json", tmp_path / "tokenizer.json")
    assert read_tokenizer(tmp_path, FAMILIES[name]).to_dict() == MADE[name].to_dict()


@every
def test_written_and_read_and_described_it_is_the_same(name, tmp_path):
    made = MADE[name]
    write_tokenizer(tmp_path, made)
    described = made.to_dict()
    twins = [
        read_tokenizer(tmp_path, FAMILIES[name]), tokenizer_from_dict(json.loads(json.dumps(described))), pickle.loads(pickle.dumps(made)),
        copy.deepcopy(made),
    ]  # fmt: skip
    for twin in twins:
        assert twin.to_dict() == described and twin.size == made.size
        assert all(twin.encode(text) == made.encode(text) for text in TEXTS[:50])


@every
def test_offsets_lie_in_the_text_and_special_ones_nowhere(name):
    made = MADE[name]
    for text in TEXTS[:300]:
        encoding = made.encode(text)
        assert len(encoding.ids) == len(encoding.offsets)
        for number, (start, end) in zip(encoding.ids, encoding.offsets):
            assert 0 <= start <= end <= len(text)
            if number in made.special_ids - {made.id_of("unknown")}:
                assert (start, end) == (0, 0)


def test_offsets_are_of_the_text_as_given():
    text = "  Naïve   CAFÉ"
    found = MADE["bert"].encode(text)
    cut = [text[start:end] for start, end in found.offsets[1:-1]]
    assert "".join(cut) == "NaïveCAFÉ"


def test_a_row_has_its_special_tokens():
    bert, roberta = MADE["bert"], MADE["roberta"]
    a, b = (bert.pieces([text])[0] for text in ("the birds", "a café"))
    first, separator = bert.id_of("first"), bert.id_of("separator")
    assert bert.rows(["the birds"], ["a café"])[0].tolist() == [first, *a, separator, *b, separator]
    a, b = (roberta.pieces([text])[0] for text in ("the birds", "a café"))
    assert roberta.rows(["the birds"], ["a café"])[0].tolist() == [0, *a, 2, 2, *b, 2]
    assert bert.encode_ids([""])[0].tolist() == [first, separator]
    assert MADE["gpt2"].encode_ids([""])[0].tolist() == []
    assert bert.id_of("mask") == bert.ids["[MASK]"] and MADE["gpt2"].id_of("mask") is None
    assert MADE["gpt2"].special_ids == {MADE["gpt2"].ids["<|endoftext|>"]}


def test_a_special_token_in_a_text_is_text():
    for name, text in (("bert", "[SEP] [CLS] [MASK]"), ("roberta", "<s> </s> <mask>"), ("gpt2", "<|endoftext|>")):
        inside = MADE[name].pieces([text])[0]
        assert not set(inside) & (MADE[name].special_ids - {MADE[name].id_of("unknown")})


@pytest.mark.parametrize(
    "lengths,room,kept",
    [((3, 9), 8, (3, 5)), ((9, 3), 8, (5, 3)), ((9, 9), 7, (3, 4)), ((9, 8), 7, (4, 3)), ((9, 0), 4, (4, 0))],
)
def test_the_longer_text_is_cut_first(lengths, room, kept):
    first, second = fitted(list(range(lengths[0])), list(range(lengths[1])), room)
    assert (first, second) == (list(range(kept[0])), list(range(kept[1])))


def test_decoding_leaves_special_tokens_out():
    assert MADE["gpt2"].decode(MADE["gpt2"].encode("Can't  stop 東京").ids) == "Can't  stop 東京"
    assert MADE["roberta"].decode(MADE["roberta"].encode(" a café").ids) == " a café"
    assert MADE["bert"].decode(MADE["bert"].encode("The birds").ids) == "the birds"
    assert MADE["bert"].decode([MADE["bert"].id_of("unknown")]) == "[UNK]"
    with pytest.raises(InputError, match="ids run from 0 to"):
        MADE["bert"].decode([MADE["bert"].size])


def test_made_of_what_weft_trained():
    pieces = WordPieceTokenizer.train(TEXTS, maximum_size=300)
    made = BertTokenizer.of(pieces)
    assert made.size == pieces.size and made.special == BERT
    assert all(made.pieces([text])[0] == pieces.encode(text).ids for text in TEXTS[:100])
    trained = BytePairTokenizer.train(TEXTS, maximum_size=300, lowercase=False)
    joined = ByteLevelTokenizer.of(trained)
    assert joined.tokens[:4] == ["<s>", "<pad>", "</s>", "<unk>"] and joined.tokens[-1] == "<mask>" and joined.special == ROBERTA
    for text in TEXTS[:100]:
        assert [joined.tokens[i] for i in joined.pieces([text])[0]] == [trained.vocabulary.token(i) for i in trained.encode(text).ids]
    with pytest.raises(InputError, match="keep upper case"):
        ByteLevelTokenizer.of(BytePairTokenizer.train(["a"], maximum_size=300))


def folder(tmp_path: Path, name: str, **files: Any) -> Path:
    """A copy of a fixture's folder with files in another form; None removes one."""
    shutil.copytree(FOLDERS / name, tmp_path / "copy")
    (tmp_path / "copy" / "described.json").rename(tmp_path / "copy" / "tokenizer.json")
    for file, content in files.items():
        path = tmp_path / "copy" / file.replace("_json", ".json").replace("_txt", ".txt")
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return tmp_path / "copy"


def described(name: str, **changed: Any) -> dict[str, Any]:
    return {**json.loads((FOLDERS / name / "described.json").read_text()), **changed}


@pytest.mark.parametrize(
    "name,family,files,said",
    [
        ("bert", "bert", {"tokenizer_json": None, "vocab_txt": None}, "has no tokenizer: tokenizer.json, or vocab.txt"),
        ("gpt2", "gpt2", {"tokenizer_json": None, "merges_txt": None}, "vocab.json and merges.txt"),
        ("gpt2", "gpt2", {"tokenizer_json": None, "merges_txt": "#version: 0.2\na b c\n"}, "merges.txt: has a line 'a b c'"),
        ("gpt2", "gpt2", {"tokenizer_json": None, "merges_txt": "a 東京\n"}, "the merge of 'a' and '東京' needs both"),
        ("gpt2", "gpt2", {"tokenizer_json": None, "vocab_json": {"a": 0, "b": 2}}, "ids 0, 1, 2 … each once"),
        ("bert", "bert", {"tokenizer_json": None, "vocab_txt": "[PAD]\n[UNK]\na\na\n"}, "'a' came twice"),
        ("bert", "bert", {"tokenizer_json": None, "vocab_txt": "a\nb\n"}, r"vocab.txt: the special token '\[PAD\]' is not in"),
        ("bert", "roberta", {}, "of the kind 'WordPiece'; a roberta has BPE"),
        ("gpt2", "bert", {}, "of the kind 'BPE'; a bert has WordPiece"),
        ("bert", "bert", {"tokenizer_json": {"model": {}}}, "describes no model"),
        ("bert", "bert", {"tokenizer_json": described("bert", normalizer={"type": "NFD"})}, "the normalizer 'NFD'"),
        ("bert", "bert", {"tokenizer_json": described("bert", pre_tokenizer=None)}, "the pre_tokenizer None"),
        ("gpt2", "gpt2", {"tokenizer_json": described("gpt2", normalizer={"type": "NFC"})}, "changes texts before"),
        ("gpt2", "gpt2", {"tokenizer_json": described("gpt2", pre_tokenizer={"type": "Metaspace"})}, "'Metaspace'"),
    ],
)  # fmt: skip
def test_files_that_are_something_else_are_refused(name, family, files, said, tmp_path):
    with pytest.raises(InputError, match=said):
        read_tokenizer(folder(tmp_path, name, **files), family)


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match="maximum_length: must leave room for the special tokens and a token, not 3"):
        MADE["bert"].rows(["a"], ["b"], 3)
    with pytest.raises(InputError, match="2 texts but 1 second ones"):
        MADE["bert"].rows(["a", "b"], ["c"])
    with pytest.raises(InputError, match="an unknown token, and none is named"):
        BertTokenizer(["a"], Special())
    with pytest.raises(InputError, match="is not in the vocabulary of 1 tokens"):
        ByteLevelTokenizer(["a"], [], GPT2)
    with pytest.raises(InputError, match="not a description of a 'bert' tokenizer"):
        tokenizer_from_dict({"kind": "bert", "tokens": []})
