"""Files of word vectors: what is written is read back equal, what other programs write is read, and hostile files end in one line."""

from __future__ import annotations

import gzip
import json
import logging
import random
import struct
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from weft.errors import InputError
from weft.vectors import formats, parsing
from weft.vectors.container import Stored, read_container, write_container
from weft.vectors.fasttext import Subwords
from weft.vectors.keyed import KeyedVectors

ALL = ["vec", "bin", "txt", "vec.gz", "bin.gz", "txt.gz", "safetensors"]
# What gensim 4.4 writes for cat (.1, .7), dog (.2, .7), naïve (-1e-5, 3.5)
GENSIM_TEXT = "3 2\ncat 0.1 0.7\ndog 0.2 0.7\nnaïve -1e-05 3.5\n".encode()
ROWS = np.array([[0.1, 0.7], [0.2, 0.7], [-1e-5, 3.5]], np.float32)
WORDS = ["cat", "dog", "naïve"]


def binary(ends: bytes = b"") -> bytes:
    """word2vec's binary form: gensim puts nothing behind a row, the original program a line end."""
    return b"3 2\n" + b"".join(word.encode() + b" " + row.tobytes() + ends for word, row in zip(WORDS, ROWS))


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def some(words: int = 50, size: int = 7, seed: int = 0) -> KeyedVectors:
    draw = np.random.default_rng(seed)
    return KeyedVectors([f"wörd{i}" for i in range(words)], draw.standard_normal((words, size)), counts=draw.integers(0, 99, words))


def message(path: Path, **options) -> str:
    """The one line that reading this file ends in."""
    with pytest.raises(InputError) as caught:
        KeyedVectors.load(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) and str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize("ending", ALL)
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, ending):
    made = some(3000, 11)
    made.vectors[:5] = np.array([[0.0], [-0.0], [1e-45], [3.4028235e38], [-1.1754944e-38]])
    made.save(tmp_path / f"v.{ending}")
    read = KeyedVectors.load(tmp_path / f"v.{ending}")
    assert read.words == made.words
    np.testing.assert_array_equal(read.vectors.view(np.uint32), made.vectors.view(np.uint32))
    assert (read.counts is None) == (ending != "safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [f"v.{ending}"]


@pytest.mark.parametrize("ending", ALL)
def test_a_limit_takes_the_first_rows(tmp_path, ending):
    made = some(300)
    made.save(tmp_path / f"v.{ending}")
    read = KeyedVectors.load(tmp_path / f"v.{ending}", limit=7)
    assert read.words == made.words[:7]
    np.testing.assert_array_equal(read.vectors, made.vectors[:7])
    assert len(KeyedVectors.load(tmp_path / f"v.{ending}", limit=10**9)) == 300


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gensim.vec", GENSIM_TEXT),
        ("gensim.vec.gz", GENSIM_TEXT),
        ("fasttext.vec", GENSIM_TEXT.replace(b"\n", b" \n").replace(b"3 2 ", b"3 2")),
        ("windows.vec", b"\xef\xbb\xbf" + GENSIM_TEXT.replace(b"\n", b"\r\n")),
        ("tabs.vec", GENSIM_TEXT.replace(b" ", b"\t")),
        ("open.vec", GENSIM_TEXT.removesuffix(b"\n")),
        ("blank lines.vec", GENSIM_TEXT.replace(b"dog", b"\n\ndog") + b"\n \n"),
        ("glove.txt", GENSIM_TEXT[4:]),
        ("headed.txt", GENSIM_TEXT),
        ("headless.vec", GENSIM_TEXT[4:]),
        ("no ending", GENSIM_TEXT),
        ("gensim.bin", binary()),
        ("original.bin", binary(b"\n")),
        ("zipped.bin.gz", binary(b"\n")),
        ("text.bin", GENSIM_TEXT),
        ("binary.vec", binary()),
    ],
)
def test_what_others_write_is_known_and_read(tmp_path, name, content):
    read = KeyedVectors.load(put(tmp_path, name, content))
    assert read.words == WORDS
    np.testing.assert_array_equal(read.vectors, ROWS)


def test_the_guess_is_said_and_can_be_overruled(tmp_path, caplog):
    caplog.set_level(logging.INFO, "weft")
    path = put(tmp_path, "v.txt", b"7 3\n8 4\n9 5\n")
    assert KeyedVectors.load(path).words == ["7", "8", "9"]
    assert f"{path}: 3 words, vectors of 1, read as .txt" in caplog.text
    assert message(path, format="vec").startswith(":1: the first line says 7 rows of 3 numbers, which 12 bytes cannot hold")
    with pytest.raises(InputError, match="'text' is not one of vec, bin"):
        KeyedVectors.load(path, format="text")
    with pytest.raises(InputError, match="limit: must be at least 1, not 0"):
        KeyedVectors.load(path, limit=0)


def decimals(draw: random.Random, count: int) -> list[str]:
    """Numbers as people and programs write them: short, long, with exponents, halfway between two float32, at the ends of the range."""
    found = [
        "0",
        "-0",
        "+1.5",
        ".5",
        "5.",
        "1e5",
        "1E-7",
        "00012.500",
        "0." + "0" * 50 + "1",
        "1" + "0" * 38,
        "3.4028235e38",
        "1e-45",
        "7e-46",
    ]
    for _ in range(count):
        value = struct.unpack("<f", struct.pack("<I", draw.getrandbits(31)))[0]
        if value != value or value in (float("inf"), 0.0):
            continue
        following = struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", value))[0] + 1))[0]
        found += [repr(value), f"{-value:.6e}", f"{value:.9g}"]
        if following != float("inf"):
            middle = (Fraction(value) + Fraction(following)) / 2
            exact = str(Decimal(middle.numerator) / Decimal(middle.denominator)) if middle.denominator < 10**20 else f"{float(middle):.60e}"
            found += [exact, exact + "1" if "e" not in exact.lower() and "." in exact else exact]
        found += [f"{draw.gauss(0, 1):.{draw.randint(1, 25)}f}", str(draw.randint(-(10**20), 10**20))]
    return found


def nearest(text: str) -> np.float32:
    """The float32 nearest to a decimal, by exact fractions: of its neighbours the nearer one, the even one halfway."""
    exact = Fraction(text)
    start = np.float32(float(exact))
    if np.isinf(start):
        start = np.float32(np.finfo(np.float32).max)
    largest = np.finfo(np.float32).max
    near = [np.nextafter(start, -largest), start, np.nextafter(start, largest)]
    return min(near, key=lambda each: (abs(Fraction(float(each)) - exact), int(each.view(np.uint32)) & 1))


def test_decimals_are_read_as_the_nearest_float32():
    texts = decimals(random.Random(0), 600)
    texts = [text for text in texts if abs(Fraction(text)) < Fraction(parsing.BEYOND)]
    part = parsing.parse("".join(f"w {text}\n" for text in texts).encode(), 1)
    expected = np.array([nearest(text) for text in texts])
    assert len(texts) > 3000
    np.testing.assert_array_equal(part.vectors[:, 0], expected)


def test_decimals_are_written_about_as_short_as_numpy_does_it(tmp_path):
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**32, 5000, dtype=np.uint64).astype(np.uint32)
    values = np.concatenate(
        [bits.view(np.float32), draw.normal(0, 0.3, 5000).astype(np.float32), np.exp2(np.arange(-149, 128)).astype(np.float32)]
    )
    values = values[np.isfinite(values)]
    formats.write(tmp_path / "v.txt", Stored([f"w{i}" for i in range(len(values))], values[:, None]))
    written = [line.split()[1] for line in (tmp_path / "v.txt").read_text().splitlines()]
    assert [np.float32(nearest(text)).view(np.uint32) for text in written[::7]] == values[::7].view(np.uint32).tolist()

    def digits(text: str) -> int:
        return len(text.lstrip("-").split("e")[0].replace(".", "").strip("0"))

    longer = [digits(text) - digits(np.format_float_scientific(value, unique=True)) for text, value in zip(written, values)]
    ordinary = (np.abs(values) > 1.2e-38) & (np.abs(values) < 1e7)
    assert min(longer) == 0 and sum(longer) < len(longer) / 50
    assert max(np.array(longer)[ordinary]) <= 1


def test_words_with_blanks_in_them_are_read_and_cannot_be_written(tmp_path, caplog):
    read = KeyedVectors.load(put(tmp_path, "v.txt", b"the 0.5 1\n. . . 2 3\nat name@domain.com 4 5\n"))
    assert read.words == ["the", ". . .", "at name@domain.com"]
    np.testing.assert_array_equal(read.vectors, [[0.5, 1], [2, 3], [4, 5]])
    assert "2 words have blanks in them" in caplog.text
    for form in ("vec", "bin", "txt"):
        with pytest.raises(
            InputError, match=rf"the word '\. \. \.' has a blank in it, for which a \.{form} file has no place; \.safetensors keeps it"
        ):
            read.save(tmp_path / f"w.{form}")
        assert not (tmp_path / f"w.{form}").exists()
    read.save(tmp_path / "w.safetensors")
    assert KeyedVectors.load(tmp_path / "w.safetensors").words == read.words


@pytest.mark.parametrize("word", ["a b", "a\tb", "\n", "a\r", " a", "a\n", "\v", "\ud800"])
def test_what_only_safetensors_can_hold(tmp_path, word):
    made = KeyedVectors(["x", word], np.eye(2))
    for form in ("vec", "bin", "txt"):
        with pytest.raises(InputError, match="safetensors"):
            made.save(tmp_path / f"w.{form}")
    made.save(tmp_path / "w.safetensors")
    assert KeyedVectors.load(tmp_path / "w.safetensors").words == ["x", word]


@pytest.mark.parametrize("ending", ["vec", "bin", "txt"])
def test_a_word_that_comes_again_is_left_out_with_a_count(tmp_path, caplog, ending):
    words = ["a", "b", "a", "c", "b", "a", "d"]
    rows = np.arange(14, dtype=np.float32).reshape(7, 2)
    formats.write(tmp_path / f"v.{ending}", Stored(words, rows))
    read = KeyedVectors.load(tmp_path / f"v.{ending}")
    assert read.words == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(read.vectors, rows[[0, 1, 3, 6]])
    assert "3 words came again and were left out" in caplog.text


@pytest.mark.parametrize("ending", ["vec", "bin", "txt"])
def test_bytes_that_are_no_text_are_replaced_with_a_count(tmp_path, caplog, ending):
    formats.write(tmp_path / f"v.{ending}", Stored(["caf#", "n#n", "ok"], np.ones((3, 2), np.float32)))
    path = tmp_path / f"v.{ending}"
    path.write_bytes(path.read_bytes().replace(b"#", b"\xe9"))
    assert KeyedVectors.load(path).words == ["caf\ufffd", "n\ufffdn", "ok"]
    assert "2 words are no UTF-8" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("v.vec", b"", ": the file is empty"),
        ("v.vec", b" \n\n", ": the file is empty"),
        ("v.vec", b"3 2\ncat .1 .2\ndog .1 .2\n", ": the first line says 3 rows; there are 2: cut off"),
        ("v.vec", b"1 2\ncat .1 .2\ndog .1 .2\n", ": the first line says 1 rows; there are more"),
        ("v.vec", b"3 2\ncat .1 .2\ndog .1\nfox .3 .4", ":3: 2 numbers were expected behind the word, not 1"),
        ("v.vec", b"3 2\ncat .1 .2\ndog .1 .2 .3\nfox .3 .4", ":3: 2 numbers were expected behind the word, not 3"),
        ("v.txt", b"cat .1 .2\ndog .1 .2 .3\n", ":2: 2 numbers were expected behind the word, not 3"),
        ("v.vec", b"2 2\ncat .1 .2\ndog .1 nan\n", ":3: 'nan' is not finite"),
        ("v.txt", b"cat .1 .2\ndog -Inf .3\n", ":2: '-Inf' is not finite"),
        ("v.txt", b"cat .1 .2\n\ndog .1 .2\nfox 1e39 2\n", ":4: '1e39' is beyond what float32 can hold"),
        ("v.txt", b"cat .1 .2\ndog 1 x2\n", ":2: 'x2' is no number"),
        ("v.txt", b"cat .1 .2\ndog 1 1e\n", ":2: '1e' is no number"),
        ("v.txt", b"cat .1 .2\n .3 .4\n", ":2: the word is empty"),
        ("v.txt", b"cat" + b" 1" * (1 << 19), ":1: the first line is longer than 1 MB"),
        ("v.txt", b"cat\ndog\n", ":1: no row of word vectors"),
        ("v.vec", b"-3 2\ncat .1 .2\n", ":1: the first line says -3 rows of 2 numbers; at least one row"),
        ("v.vec", b"3 0\ncat\n", ":1: the first line says 3 rows of 0 numbers"),
        ("v.bin", b"0 2\n", ":1: the first line says 0 rows"),
        ("v.bin", b"1 9999999\n" + b"x" * 99, ":1: the first line says 1 rows of 9999999 numbers"),
        ("v.bin", b"9000000 300\n" + b"x" * 1000, ":1: the first line says 9,000,000 rows of 300 numbers, which 1,012 bytes cannot hold"),
        (
            "v.vec",
            b"9000000 300\n" + b"x 1\n" * 250,
            ":1: the first line says 9,000,000 rows of 300 numbers, which 1,012 bytes cannot hold",
        ),
        ("v.vec.gz", b"9000000 300\n" + b"x 1\n" * 250, ":1: the first line says 9,000,000 rows of 300 numbers, which "),
        ("v.bin", binary()[:-1], ": the first line says 3 rows; there are 2"),
        ("v.bin", binary() + b"x", ": the first line says 3 rows; there are more"),
        ("v.bin", binary().replace(b"dog", b""), ": row 2: the word is empty"),
        ("v.bin", binary().replace(b"dog", b"d\ng"), ": row 2: a word and a blank were expected"),
        (
            "v.bin",
            b"2 2\ncat " + struct.pack("<2f", 1, 2) + b"dog " + struct.pack("<2f", 1, float("nan")),
            ": row 2: there is a number that is not finite",
        ),
        (
            "v.bin",
            b"2 2\ncat " + struct.pack("<2f", 1, 2) + b"dog " + struct.pack("<2f", -float("inf"), 1),
            ": row 2: there is a number that is not finite",
        ),
        ("v.bin", b"1 20000\n" + b"x" * 100_000, ": row 1: a word and a blank were expected"),
        ("v.safetensors", b"\x10", ": is no safetensors file"),
        ("v.safetensors", struct.pack("<Q", 1 << 60) + b"{}", ": is no safetensors file, or is cut off"),
        ("v.safetensors", struct.pack("<Q", 5) + b'{"a":', ": is no safetensors file: its header is no JSON"),
        ("v.safetensors", struct.pack("<Q", 20000) + b"[" * 20000, ": is no safetensors file: its header is no JSON"),
        ("v.safetensors", struct.pack("<Q", 2) + b"{}", ': its metadata has no "format": "weft-vectors-1"'),
    ],
)
def test_what_is_refused(tmp_path, name, content, said):
    assert message(put(tmp_path, name, content), format="bin" if name == "v.bin" else None).startswith(said)


def test_files_that_are_none(tmp_path):
    assert message(tmp_path) == ": is a folder; a file of word vectors was expected"
    assert message(tmp_path / "none.vec") == ": there is no such file"
    whole = gzip.compress(GENSIM_TEXT * 1000)
    (tmp_path / "cut.vec.gz").write_bytes(whole[: len(whole) // 2])
    assert message(tmp_path / "cut.vec.gz") == ": the gzip data is cut off or damaged; fetch or compress the file again"
    with pytest.raises(InputError, match=r"v\.npy: its name should end in \.vec, \.bin, \.txt or \.safetensors"):
        some().save(tmp_path / "v.npy")
    with pytest.raises(InputError, match="cannot be gzipped"):
        some().save(tmp_path / "v.safetensors.gz")


def header_of(path: Path) -> tuple[dict, bytes]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


@pytest.mark.parametrize(
    ("array", "change"),
    [
        ("vectors", {"shape": [10**9, 300]}),
        ("vectors", {"shape": [-50, -7]}),
        ("vectors", {"data_offsets": [0, 10**12]}),
        ("vectors", {"dtype": "F64"}),
        ("vectors", {"dtype": "F8_E4M3"}),
        ("vectors", {"shape": [7, 50]}),
        ("words", {"data_offsets": None}),
        ("offsets", {"shape": [51, 1]}),
        ("counts", {"dtype": "F64"}),
        ("counts", None),
    ],
)
def test_a_header_that_is_not_true_is_refused(tmp_path, array, change):
    path = tmp_path / "v.safetensors"
    some().save(path)
    header, body = header_of(path)
    header[array] = header[array] | change if change else []
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)
    message(path)


def test_safetensors_is_mapped_and_other_readers_open_it(tmp_path):
    made = some(100)
    made.save(tmp_path / "v.safetensors")
    read = KeyedVectors.load(tmp_path / "v.safetensors")
    assert not read.vectors.flags.writeable and not read.vectors.flags.owndata
    np.testing.assert_array_equal(read.counts, made.counts)
    theirs = load_file(tmp_path / "v.safetensors")
    np.testing.assert_array_equal(theirs["vectors"], made.vectors)
    assert bytes(theirs["words"]).decode().split() == made.words
    with safe_open(tmp_path / "v.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "weft-vectors-1"}
    # by another writer, in another order and on odd borders
    save_file(theirs, tmp_path / "w.safetensors", {"format": "weft-vectors-1"})
    header, body = header_of(tmp_path / "w.safetensors")
    raw = json.dumps(header).encode()
    raw += b" " * ((-len(raw)) % 8 + 1)
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + body)
    again = KeyedVectors.load(tmp_path / "w.safetensors")
    assert again.words == made.words
    np.testing.assert_array_equal(again.vectors, made.vectors)
    again.save(tmp_path / "w.safetensors")  # over the file that it is mapped from
    np.testing.assert_array_equal(KeyedVectors.load(tmp_path / "w.safetensors").vectors, made.vectors)


class Halves:
    """A subword model of one table and one setting."""

    def __init__(self, table: np.ndarray, start: int) -> None:
        self.table, self.start = table, start

    def to_arrays(self):
        return {"table": self.table}, {"start": self.start}

    def vector(self, word):
        return self.table[len(word) - self.start]


def test_subwords_go_along_in_safetensors_only(tmp_path, caplog):
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    write_container(tmp_path / "v.safetensors", Stored(["a"], np.ones((1, 2), np.float32), subwords=Halves(table, 1)))
    theirs = load_file(tmp_path / "v.safetensors")
    np.testing.assert_array_equal(theirs["subword.table"], table)
    with safe_open(tmp_path / "v.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["subwords"]) == {"start": 1}
    kv = KeyedVectors(["a"], np.ones((1, 2)), subwords=Halves(table, 1))
    np.testing.assert_array_equal(kv["abc"], table[2])
    np.testing.assert_array_equal(kv[["a", "abc"]], [[1, 1], [4, 5]])
    kv.save(tmp_path / "v.vec")
    assert "only the .safetensors form keeps subwords" in caplog.text


def test_a_subword_model_is_read_again_and_answers_the_same(tmp_path):
    table = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    kv = KeyedVectors(["where", "here"], np.eye(2, 3), subwords=Subwords(table, None, buckets=50, shortest=3, longest=4))
    kv.save(tmp_path / "v.safetensors")
    read = KeyedVectors.load(tmp_path / "v.safetensors")
    for word in ("where", "there", "nowhere"):
        np.testing.assert_array_equal(read[word], kv[word])
    assert read.get("") is None
    table[7, 1] = np.nan
    kv.save(tmp_path / "v.safetensors")
    assert message(tmp_path / "v.safetensors").startswith(": subword.table: row 8: there is a number that is not finite")
    write_container(tmp_path / "v.safetensors", Stored(["a"], np.ones((1, 2), np.float32), subwords=Halves(np.ones((6, 2), np.float32), 1)))
    assert message(tmp_path / "v.safetensors").startswith(": its subword model is damaged (KeyError")


def test_large_mapped_files_are_looked_through_when_used(tmp_path, monkeypatch):
    monkeypatch.setattr("weft.vectors.container.CHECKED", 0)
    broken = np.ones((5, 3), np.float32)
    broken[3, 1] = np.nan
    write_container(tmp_path / "v.safetensors", Stored(list("abcde"), broken))
    assert not read_container(tmp_path / "v.safetensors").checked
    read = KeyedVectors.load(tmp_path / "v.safetensors")
    np.testing.assert_array_equal(read["c"], [1, 1, 1])
    for ask in (lambda: read["d"], lambda: read[["a", "d"]], lambda: read.most_similar("a")):
        with pytest.raises(InputError, match="not finite"):
            ask()


def mutated(content: bytes, draw: random.Random) -> bytes:
    """One to four damages: bits flipped, bytes cut out, put in, repeated, or the end cut off."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data)) if draw.random() < 0.7 else draw.randrange(min(len(data), 40))
        kind = draw.randrange(6)
        if kind == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at : at + draw.randint(1, 9)]
        elif kind == 2:
            data[at:at] = bytes(draw.choice([draw.randrange(256), 32, 10, 48, 57, 45]) for _ in range(draw.randint(1, 6)))
        elif kind == 3:
            data = data[:at]
        elif kind == 4:
            data[at:at] = data[at : at + 20]
        else:
            data[at : at + 4] = draw.choice([b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f", b"9999", b"-1 \n", b"nan "])[: len(data) - at]
        if not data:
            return b"\n"
    return bytes(data)


@pytest.mark.parametrize("ending", ["vec", "bin", "txt", "safetensors", "vec.gz"])
def test_a_hundred_damaged_files_load_finite_or_are_refused(tmp_path, ending, caplog):
    caplog.set_level(logging.CRITICAL, "weft")
    some(12, 4).save(tmp_path / f"v.{ending}")
    content, draw = (tmp_path / f"v.{ending}").read_bytes(), random.Random(f"damage {ending}")
    refused: list[str] = []
    for number in range(120):
        path = tmp_path / f"{number}.{ending}"
        path.write_bytes(mutated(content, draw))
        try:
            read = KeyedVectors.load(path)
        except InputError as error:
            said = str(error)
            refused.append(said)
            continue
        assert np.isfinite(read.vectors).all() and len(read) == len(set(read.words)) == len(read.vectors) and "" not in read.words
        path.unlink()
    assert len(refused) > 20
    assert all(str(tmp_path) in said and "\n" not in said for said in refused)
