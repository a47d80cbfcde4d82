"""Models of the fasttext program: three that it wrote (version 0.9.2), others in its published format, and damaged ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.errors import InputError
from weft.vectors.fasttext import ngram_buckets
from weft.vectors.fasttext_model import read_model
from weft.vectors.keyed import KeyedVectors

DATA = Path(__file__).parent / "data"
WORDS = ["</s>", "the", "über", "日本", "a"]


def model(
    words: Sequence[str] = WORDS,
    labels: Sequence[str] = (),
    *,
    dim: int = 3,
    bucket: int = 7,
    minn: int = 2,
    maxn: int = 4,
    kind: int = 2,
    version: int = 12,
    magic: int = 793712314,
    pruned: int = -1,
    quantized: bool = False,
    table: np.ndarray | None = None,
    **claimed: Any,
) -> bytes:
    """A model's bytes: args, dictionary, whether it is quantized, input matrix, output matrix. claimed: sizes that are said, not had."""
    if table is None:
        table = np.random.default_rng(0).standard_normal((len(words) + bucket, dim)).astype(np.float32)
    found = struct.pack("<ii12id", magic, version, dim, 5, 5, 1, 5, 1, 2, kind, bucket, minn, maxn, 100, 1e-4)
    size, count = claimed.get("size", len(words) + len(labels)), claimed.get("count", len(words))
    found += struct.pack("<iiiqq", size, count, claimed.get("labelled", len(labels)), 1000, pruned)
    for place, word in enumerate([*words, *labels]):
        found += word.encode() + b"\0" + struct.pack("<qb", 100 - place, place >= len(words))
    rows, columns = claimed.get("shape", table.shape)
    found += struct.pack("<?qq", quantized, rows, columns) + table.astype("<f4").tobytes()
    return found + struct.pack("<?qq", False, 1, dim) + bytes(4)


def written(folder: Path, data: bytes) -> Path:
    path = folder / "model.bin"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["unsupervised", "supervised", "supervised_ngrams"])
def test_models_of_the_program_give_its_vectors(name: str) -> None:
    expected = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    for form in (None, "fasttext"):
        found = KeyedVectors.load(DATA / f"{name}.bin", format=form)
        assert found.words == expected["words"] and len(expected["vectors"]) > 5
        for word, vector in expected["vectors"].items():
            np.testing.assert_allclose(found[word], vector, atol=1e-6, err_msg=word)
    assert (found.subwords is None) == (name == "supervised")
    assert any(word not in found for word in expected["vectors"]) == (name != "supervised")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = np.random.default_rng(1).standard_normal((12, 3)).astype(np.float32)
    found = KeyedVectors.load(written(tmp_path, model(table=table, labels=["__label__a", "__label__b"])))
    assert found.words == WORDS and found.counts.tolist() == [100, 99, 98, 97, 96]
    for number, word in enumerate(WORDS):
        rows = [number] if word == "</s>" else [number, *(5 + ngram_buckets([word], 7, 2, 4)[1])]
        np.testing.assert_allclose(found[word], table[rows].mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["unseen"], table[5 + ngram_buckets(["unseen"], 7, 2, 4)[1]].mean(0), rtol=1e-5, atol=1e-7)
    found.save(tmp_path / "v.safetensors")
    again = KeyedVectors.load(tmp_path / "v.safetensors")
    assert again["unseen"].tobytes() == found["unseen"].tobytes() and again.vectors.tobytes() == found.vectors.tobytes()


@pytest.mark.parametrize("options", [{"maxn": 0, "minn": 0}, {"version": 11, "kind": 3}, {"bucket": 0, "minn": 0, "maxn": 0}])
def test_without_ngrams_words_have_their_own_vectors_and_others_none(tmp_path: Path, options: dict[str, int]) -> None:
    table = np.random.default_rng(2).standard_normal((5 + options.get("bucket", 7), 3)).astype(np.float32)
    found = KeyedVectors.load(written(tmp_path, model(table=table, **options)))
    assert np.array_equal(found.vectors, table[:5]) and found.subwords is None
    with pytest.raises(InputError, match="'unseen' is not among the 5 words"):
        found["unseen"]


def test_words_that_are_no_utf8_stay_apart(tmp_path: Path) -> None:
    data = model(["x", "y", "the"]).replace(b"x\0", b"\xe9\0").replace(b"y\0", b"\xe8\0")
    assert len(set(read_model(written(tmp_path, data)).words)) == 3


def test_a_word_that_comes_twice_keeps_its_first_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = KeyedVectors.load(written(tmp_path, model(["a", "b", "a"])))
    assert found.words == ["a", "b"] and found.counts.tolist() == [100, 99]
    assert "1 words came again" in caplog.text


def test_limit_takes_the_first_words(tmp_path: Path) -> None:
    path = written(tmp_path, model())
    found = KeyedVectors.load(path, limit=2)
    assert found.words == WORDS[:2] and np.array_equal(found["über"], read_model(path).subwords.vector("über"))


NAN = np.full((12, 3), np.nan, np.float32)
BAD: dict[str, bytes] = {
    "ends at byte 0": b"",
    "is no model of the fasttext program": model(magic=1),
    "is of fasttext's format 13; 11 and 12 are known": model(version=13),
    "is a quantized model": model(quantized=True),
    "is a pruned model": model(pruned=5),
    "claims vectors of 0": model(dim=0),
    "claims vectors of -3": model(dim=-3, table=np.ones((12, 3))),
    "n-grams of 5–4": model(minn=5),
    "n-grams of 0–4": model(minn=0),
    "n-grams of 2–2000": model(maxn=2000),
    "claims 2,000,000,000 entries": model(size=2_000_000_000, count=2_000_000_000),
    "claims 5 entries, 6 words and 0 labels": model(count=6),
    "claims 5 entries, 6 words and -1 labels": model(count=6, labelled=-1),
    "claims 5 words and holds 4": model(WORDS[:4], ["__label__a"], count=5, labelled=0),
    "has 12 rows for 4 words": model(count=4, labelled=1),
    "the input matrix claims 10,000,000,000 × 3": model(shape=(10**10, 3)),
    "the input matrix claims -1 × 3": model(shape=(-1, 3)),
    "the input matrix claims 12 × 4": model(shape=(12, 4)),
    "has 11 rows for 5 words and 7 buckets": model(shape=(11, 3)),
    "holds numbers that are not finite": model(table=NAN),
    "word 1 has no end": model(["x" * 70_000], size=1),
}  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_read_is_said(tmp_path: Path, said: str) -> None:
    with pytest.raises(InputError) as raised:
        read_model(written(tmp_path, BAD[said]))
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_model_cut_off_anywhere_is_an_error(tmp_path: Path) -> None:
    data = model()
    end = len(data) - 17 - 4  # the output matrix is not read
    for length in range(0, end, 7):
        with pytest.raises(InputError):
            read_model(written(tmp_path, data[:length]))


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.bin"):
        with pytest.raises(InputError, match="cannot be read"):
            read_model(path)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_models_are_errors_or_finite(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    whole = [(DATA / "unsupervised.bin").read_bytes(), (DATA / "supervised.bin").read_bytes(), model(labels=["__label__a"])]
    for number in range(100):
        data = bytearray(whole[number % 3])
        for _ in range(int(random.integers(1, 4))):
            place = int(random.integers(len(data) if random.random() < 0.5 else 120))  # often among the sizes
            kind = random.integers(4)
            if kind == 0:
                data[place] ^= 1 << int(random.integers(8))
            elif kind == 1:
                data[place] = int(random.choice([0, 1, 127, 128, 255]))
            elif kind == 2:
                del data[place : place + int(random.integers(1, 40))]
            else:
                data[place:place] = random.bytes(int(random.integers(1, 20)))
        path = written(tmp_path, bytes(data))
        try:
            read_model(path)
            found = KeyedVectors.load(path)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert np.isfinite(found.vectors).all() and len(found.words) == len(found.vectors)
            answer = found.get("unseen word")
            assert answer is None or np.isfinite(answer).all()
