"""A corpus as it is read, held against a Counter and loops; and what a careless user gives instead of one."""

from __future__ import annotations

import gzip
import logging
import re
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.errors import InputError
from weft.vectors import corpus as reading
from weft.vectors.corpus import BOUNDARY, Corpus, read_corpus

LINES = ["the cat sat on the mat", "", "a dog and a cat", "   ", "the\u00a0dog\u3000ran\tto the mat", "Ärger über ÄRGER straße 12 12 😀"]


def oracle(sentences: Iterable[Sequence[str]], minimum: int = 1) -> tuple[dict[str, int], list[list[str]]]:
    """(counts, the most frequent first, ties by code point; the sentences without rare words), by loops."""
    kept = [list(sentence) for sentence in sentences]
    counts = Counter(word for sentence in kept for word in sentence)
    ordered = sorted((word for word in counts if counts[word] >= minimum), key=lambda word: (-counts[word], word))
    return {word: counts[word] for word in ordered}, [
        [word for word in sentence if counts[word] >= minimum] for sentence in kept if sentence
    ]


def sentences_of(corpus: Corpus) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for number in np.concatenate([*corpus.chunks()]).tolist():
        if number == BOUNDARY:
            found.append([])
        else:
            found[-1].append(corpus.words[number])
    assert found.pop() == [], "a sentence without an end"
    return found


def agree(corpus: Corpus, sentences: Iterable[Sequence[str]], minimum: int = 1) -> None:
    counts, kept = oracle(sentences, minimum)
    assert dict(zip(corpus.words, corpus.counts.tolist(), strict=True)) == counts
    assert corpus.words == list(counts)
    assert sentences_of(corpus) == kept
    assert corpus.tokens == sum(counts.values())
    assert all(chunk.dtype == np.int32 for chunk in corpus.chunks())


def written(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def text_of(lines: int, seed: int = 0, words: int = 60) -> str:
    random = np.random.default_rng(seed)
    return "\n".join(" ".join(f"w{word}é" for word in random.zipf(1.3, random.integers(0, 12)) % words) for _ in range(lines)) + "\n"


@pytest.mark.parametrize("minimum", [1, 2, 3])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "no-ending"])
def test_a_file_is_counted_as_by_a_counter(tmp_path: Path, name: str, minimum: int) -> None:
    path = written(tmp_path / name, "\n".join(LINES))
    for source in (path, str(path)):
        agree(read_corpus(source, minimum_count=minimum), [line.split() for line in LINES], minimum)


def test_gzip_is_known_by_its_bytes_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(gzip.compress(b"a b\na c\n"))
    agree(read_corpus(path, minimum_count=1), [["a", "b"], ["a", "c"]])


def test_a_folder_is_its_files_in_the_order_of_their_names_without_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    written(tmp_path / "c.txt", "c1 c2")  # no line end: what follows is another sentence all the same
    written(tmp_path / "b" / "deep" / "x.gz", "b1 b2\nb3\n")
    written(tmp_path / "a.txt", "a1\n")
    written(tmp_path / ".hidden", "h\n")
    written(tmp_path / ".git" / "config", "h\n")
    (tmp_path / "empty.txt").touch()
    agree(read_corpus(tmp_path, minimum_count=1), [["a1"], ["b1", "b2"], ["b3"], ["c1", "c2"]])


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    written(tmp_path / ".cache" / "a.txt", "a b\n")
    agree(read_corpus(tmp_path / ".cache", minimum_count=1), [["a", "b"]])


def test_iterators_of_text_and_of_tokens_are_mixed_in_their_order() -> None:
    mixed: list[Any] = ["a b", ["blue shirt", "a"], ("x",), "c a", [], "", np.array(["y", "a"]), (word for word in "pq"), {"k": 1}, ["b"]]
    expected = [["a", "b"], ["blue shirt", "a"], ["x"], ["c", "a"], ["y", "a"], ["p", "q"], ["k"], ["b"]]
    for source in (mixed, iter(mixed[:7]), (each for each in mixed[:7])):
        agree(read_corpus(source, minimum_count=1), expected if source is mixed else expected[:5])
    agree(read_corpus([*mixed[:7], "z z"], minimum_count=1, lowercase=True, tokenizer="letters"), [*expected[:5], ["z", "z"]])


def test_an_open_file_is_an_iterable_of_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "a b\nc a\n")
    with open(path, encoding="utf-8") as file:
        agree(read_corpus(file, minimum_count=1), [["a", "b"], ["c", "a"]])
    with open(path, encoding="utf-8") as file:
        agree(read_corpus(file, minimum_count=1, tokenizer=lambda line: line.split(" ")), [["a", "b"], ["c", "a"]])


def test_many_sentences_of_an_iterator_make_chunks_that_end_where_sentences_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 60)
    sentences = [line.split() for line in text_of(200).splitlines()]
    for source in (sentences, [" ".join(sentence) for sentence in sentences]):
        corpus = read_corpus(source, minimum_count=2)
        agree(corpus, sentences, 2)
        assert len(corpus) > 10 and all(chunk[-1] == BOUNDARY for chunk in corpus.chunks() if len(chunk))


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("tokenizer", ["whitespace", "letters", "words"])
def test_tokenizers_cut_as_they_would_cut_each_line_alone(tmp_path: Path, tokenizer: str, lowercase: bool) -> None:
    from weft.data.vocabulary import Vocabulary
    from weft.data.words import WordTokenizer

    lines = ["It's GOOD, isn't it? 3.5km", "x--y ...", "...", "Ärger straße don't", "na\u00efve co\u0301te 12"]
    whole = WordTokenizer(Vocabulary(()), lowercase=lowercase).tokens
    cuts = {"whitespace": str.split, "letters": lambda line: re.findall(r"[^\W\d_]+", line), "words": whole}
    expected = [[word.lower() if lowercase else word for word in cuts[tokenizer](line)] for line in lines]
    path = written(tmp_path / "a.txt", "\n".join(lines))
    for source in (path, lines):
        corpus = read_corpus(source, tokenizer=tokenizer, lowercase=lowercase, minimum_count=1)
        assert [one for one in sentences_of(corpus) if one] == oracle(expected)[1]
        assert dict(zip(corpus.words, corpus.counts.tolist())) == oracle(expected)[0]


def test_a_function_cuts_lines_and_sees_no_line_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "red shirt;blue shirt\r\nblue shirt;\r\n")
    seen: list[str] = []

    def items(line: str) -> list[str]:
        seen.append(line)
        return [item for item in line.split(";") if item]

    corpus = read_corpus(path, tokenizer=items, minimum_count=1)
    agree(corpus, [["red shirt", "blue shirt"], ["blue shirt"]])
    assert not any(set("\r\n") & set(line) for line in seen)


@pytest.mark.parametrize("wrong", [str.lower, lambda line: None, lambda line: [1], lambda line: line.split("b"), lambda line: ["\n"], len])
def test_a_function_that_gives_no_tokens_is_said(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"^tokenizer: gave "):
        read_corpus(["a b", "b a"], tokenizer=wrong, minimum_count=1)


def test_line_ends_of_windows_and_a_byte_order_mark_are_no_words(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", b"\xef\xbb\xbfthe cat\r\nthe dog\r\n")
    agree(read_corpus(path, minimum_count=1), [["the", "cat"], ["the", "dog"]])
    agree(read_corpus(written(tmp_path / "b.txt.gz", path.read_bytes()), minimum_count=1), [["the", "cat"], ["the", "dog"]])


def test_what_is_no_utf8_is_replaced_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 7)
    path = written(tmp_path / "a.txt", b"caf\xe9 a\nb \xff\xfe a\nend \xe2\x82")
    with caplog.at_level(logging.WARNING, "weft"):
        corpus = read_corpus(path, minimum_count=1)
    agree(corpus, [["caf\ufffd", "a"], ["b", "\ufffd\ufffd", "a"], ["end", "\ufffd"]])
    assert "4 characters are no UTF-8" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_utf16_is_told_not_trained_on(tmp_path: Path, encoding: str, name: str) -> None:
    text = ("\ufeff" if encoding.endswith("be") else "") + "the cat\n" * 9
    with pytest.raises(InputError, match="is UTF-16"):
        read_corpus(written(tmp_path / name, text.encode(encoding)), minimum_count=1)


@pytest.mark.parametrize("name", ["a.txt", "a.gz"])
@pytest.mark.parametrize("block", [1, 3, 16, 64, 1 << 18])
def test_blocks_change_nothing(tmp_path: Path, block: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(60) + "no line end 😀"
    lines = text.split("\n")
    if block < 16:  # a line that is longer than a block is cut where a block ends; lines of one word never are
        lines = text.split()
        text = "\n".join(lines)
        block = max(block, 2)
    monkeypatch.setattr(reading, "BLOCK", max(block, 100) if block >= 16 else block)
    agree(read_corpus(written(tmp_path / name, text), minimum_count=2), [line.split() for line in lines], 2)


@pytest.mark.parametrize("blank", [" ", "\t", "\u3000", "\r"])
def test_a_corpus_of_one_line_is_cut_at_blanks_alone(tmp_path: Path, blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = text_of(300).split()
    path = written(tmp_path / "a.txt", blank.join(words))
    agree(read_corpus(path, minimum_count=2), [words], 2)
    monkeypatch.setattr(reading, "BLOCK", 50)
    corpus = read_corpus(path, minimum_count=2)
    counts, _ = oracle([words], 2)
    assert dict(zip(corpus.words, corpus.counts.tolist())) == counts
    assert [word for sentence in sentences_of(corpus) for word in sentence] == [word for word in words if word in counts]
    assert len(corpus) > 10


def test_a_short_file_without_a_line_end_is_one_sentence(tmp_path: Path) -> None:
    agree(read_corpus(written(tmp_path / "a.txt", "the cat saw the dog"), minimum_count=1), [["the", "cat", "saw", "the", "dog"]])


def test_what_does_not_fit_in_memory_is_the_same_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.txt", text_of(400))
    monkeypatch.setattr(reading, "BLOCK", 200)
    inside = read_corpus(path, minimum_count=2)
    monkeypatch.setattr(reading, "IN_MEMORY", 300)
    spilt = read_corpus(path, minimum_count=2)
    assert spilt._chunks.file is not None and spilt._chunks.offsets
    assert len(inside) == len(spilt) > 20
    for _ in range(2):  # every pass finds the same
        assert all(np.array_equal(one, other) for one, other in zip(inside.chunks(), spilt.chunks(), strict=True))
    assert np.array_equal(inside.chunk(len(inside) - 1), spilt.chunk(len(spilt) - 1))


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 1 << 12)
    monkeypatch.setattr(reading, "IN_MEMORY", 1000)
    text = text_of(700)
    peaks = []
    for times in (4, 32):
        path = written(tmp_path / f"{times}.txt.gz", text * times)
        tracemalloc.start()
        read_corpus(path, tokenizer="letters")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 32 * len(text) // 10, "eight times the text, almost the same memory"


WRONG = {
    "nothing.txt: is not there": lambda folder: folder / "nothing.txt",
    "empty.txt: holds no words": lambda folder: written(folder / "empty.txt", ""),
    "blank.txt: holds no words": lambda folder: written(folder / "blank.txt", " \n\n\t\n"),
    "folder: is a folder without files": lambda folder: (folder / "folder").mkdir() or folder / "folder",
    "the corpus: holds no words": lambda folder: [],
    "^the corpus: holds no words": lambda folder: iter(["", []]),
    "a b c: is not there": lambda folder: "a b c",
    "cut.gz: cannot be read": lambda folder: cut(folder / "cut.gz", slice(0, -30)),
    "broken.gz: cannot be read": lambda folder: cut(folder / "broken.gz", None),
    "once.txt: no word comes twice, and min_count is 5": lambda folder: written(folder / "once.txt", "a b c"),
    "few.txt: the most frequent word, 'b', comes 2 times": lambda folder: written(folder / "few.txt", "a b b c"),
    "source: must be a path or an iterable of sentences, not a bytes": lambda folder: b"a b a b",
    "source: must be a path or an iterable of sentences, not a int": lambda folder: 5,
    "source: must be a path or an iterable of sentences, not a NoneType": lambda folder: None,
    "sentence 2: holds 7; a sentence is a str or a list of str": lambda folder: [["a"], ["b", 7]],
    "sentence 1: holds None": lambda folder: [None],
    "sentence 1: holds b'a'": lambda folder: [[b"a"]],
    "sentence 1: holds b'a b'": lambda folder: [b"a b"],
    "sentence 3: holds '', which names nothing": lambda folder: ["a", "b", ["a", ""]],
    r"sentence 1: holds '\\n', which names nothing": lambda folder: [["\n"]],
    r"sentence 1: holds \['a'\]": lambda folder: [[["a"]]],
}


def cut(path: Path, part: slice | None) -> Path:
    data = bytearray(gzip.compress(text_of(200).encode()))
    if part is None:
        data[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 40
    path.write_bytes(bytes(data[part]) if part else bytes(data))
    return path


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_a_corpus_is_said_on_one_line(tmp_path: Path, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        read_corpus(WRONG[said](tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [0, -1, 2.5, "5", None, True, float("nan")])
def test_a_minimum_that_cannot_be(value: Any) -> None:
    with pytest.raises(InputError, match=r"^min_count: must be a whole number of at least 1"):
        read_corpus(["a a"], minimum_count=value)


@pytest.mark.parametrize("value", ["letter", "Words", None, 5, ["words"]])
def test_a_tokenizer_that_is_none(value: Any) -> None:
    with pytest.raises(InputError, match=r"^tokenizer: must be whitespace, letters, words or a function"):
        read_corpus(["a a"], tokenizer=value)
    with pytest.raises(InputError, match="did you mean letters"):
        read_corpus(["a a"], tokenizer="letter")


def test_a_file_that_is_no_text_is_said_or_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).bytes(20_000)
    with caplog.at_level(logging.WARNING, "weft"):
        read_corpus(written(tmp_path / "picture.png", data), minimum_count=1)
    assert "characters are no UTF-8" in caplog.text
    monkeypatch.setattr(reading, "BLOCK", 100)
    with pytest.raises(InputError, match="characters without a blank: is it text"):
        read_corpus(written(tmp_path / "zeros.bin", bytes(2000)), minimum_count=1)
