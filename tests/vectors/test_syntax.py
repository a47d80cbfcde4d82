"""Contexts from syntax: pairs by hand, lines that are no CoNLL-U, and a treebank."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from weft.errors import InputError
from weft.vectors.methods import WordVectors
from weft.vectors.syntax import read_dependencies

TREEBANK = Path(__file__).parents[2].parent / "shared" / "data" / "ud_ewt"
SENTENCE = [  # number, form, head, relation
    ("1-2", "Don't", "_", "_"), ("1", "Do", "4", "aux"), ("2", "n't", "4", "advmod"), ("3", "ever", "4", "advmod"),
    ("4", "Discover", "0", "root"), ("4.1", "ghost", "_", "_"), ("5", "stars", "4", "obj"),
]  # fmt: skip


def line(number: str, form: str, head: str, relation: str) -> str:
    return "\t".join([number, form, form, "X", "_", "_", head, relation, "_", "_"])


def text_of(*sentences: list[tuple[str, str, str, str]]) -> str:
    return "".join("# text = x\n" + "".join(line(*word) + "\n" for word in sentence) + "\n" for sentence in sentences)


def pairs_of(path: Path, **options: object) -> list[tuple[str, str]]:
    found = read_dependencies(path, **{"minimum_count": 1, **options})  # type: ignore[arg-type]
    words = np.repeat(found.ids, np.diff(found.starts))
    pairs = [(found.words[word], found.contexts[context]) for word, context in zip(words, found.targets, strict=True)]
    assert dict(zip(found.words, found.counts.tolist(), strict=True)) == Counter(word for word, _ in pairs)
    assert dict(zip(found.contexts, found.context_counts.tolist(), strict=True)) == Counter(context for _, context in pairs)
    assert found.counts.tolist() == sorted(found.counts, reverse=True)
    return pairs


EXPECTED = [
    ("Do", "Discover/aux⁻¹"), ("n't", "Discover/advmod⁻¹"), ("ever", "Discover/advmod⁻¹"), ("Discover", "Do/aux"),
    ("Discover", "n't/advmod"), ("Discover", "ever/advmod"), ("Discover", "stars/obj"), ("stars", "Discover/obj⁻¹"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["a.conllu", "a.conllu.gz"])
@pytest.mark.parametrize("change", [str, lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text, str.rstrip])
def test_pairs_by_hand(tmp_path: Path, name: str, change: object) -> None:
    path, data = tmp_path / name, change(text_of(SENTENCE)).encode()  # type: ignore[operator]
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert pairs_of(path) == EXPECTED
    assert pairs_of(path, lowercase=True) == [(word.lower(), context.replace("D", "d")) for word, context in EXPECTED]


def test_rare_words_and_rare_contexts_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    once = [("1", "rare", "2", "amod"), ("2", "stars", "0", "root")]
    path.write_text(text_of(SENTENCE, once, SENTENCE), encoding="utf-8")
    pairs = pairs_of(path, minimum_count=2)
    assert pairs == EXPECTED * 2


BAD = {
    "2: has 3 columns": "# x\n1\ta\tb\n",
    "1: has 1 columns": "just some text\n",
    "1: has 11 columns": line("1", "a", "0", "root") + "\tx\n",
    "1: the head is '_'": line("1", "a", "_", "root") + "\n",
    "1: the head is '²'": line("1", "a", "²", "root") + "\n",
    "1: the head is '-1'": line("1", "a", "-1", "root") + "\n",
    "1: the head is '9": line("1", "a", "9" * 5000, "root") + "\n",
    "1: the number of the word is '2'; 1 was expected": line("2", "a", "0", "root") + "\n",
    "1: the number of the word is 'x'; 1 was expected": line("x", "a", "0", "root") + "\n",
    "1: the number of the word is '-'; 1 was expected": line("-", "a", "0", "root") + "\n",
    "2: the number of the word is '1'; 2 was expected": line("1", "a", "0", "root") + "\n" + line("1", "b", "0", "root") + "\n",
    "1: has an empty form or relation": line("1", "", "0", "root") + "\n",
    "2: 'a' has head 3 in a sentence of 1 words": line("1", "a", "3", "nsubj") + "\n\n",
    " leaves no two words": "\n\n",
    " leaves no two words with": line("1", "a", "0", "root") + "\n",
}


@pytest.mark.parametrize("said", BAD)
def test_what_is_no_conllu_is_said_with_its_line(tmp_path: Path, said: str) -> None:
    path = tmp_path / "bad.conllu"
    path.write_text(BAD[said], encoding="utf-8")
    with pytest.raises(InputError) as raised:
        read_dependencies(path, minimum_count=1)
    assert str(raised.value).startswith(f"{path}:{said}") and len(str(raised.value)) < len(str(path)) + 150


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.conllu").write_bytes(b"1\t\xff\n")
    (tmp_path / "cut.conllu.gz").write_bytes(gzip.compress(text_of(*[SENTENCE] * 50).encode())[:-20])
    broken = bytearray(gzip.compress(text_of(*[SENTENCE] * 50).encode()))
    broken[20:60] = b"\xff" * 40
    (tmp_path / "broken.conllu.gz").write_bytes(broken)
    (tmp_path / "folder.conllu").mkdir()
    for name in ("bytes.conllu", "cut.conllu.gz", "broken.conllu.gz", "folder.conllu", "none.conllu"):
        with pytest.raises(InputError, match=name):
            WordVectors(contexts="syntax").fit(tmp_path / name)


@pytest.mark.parametrize("options", [{"method": "cbow"}, {"method": "glove"}, {"loss": "hs"}, {"method": "fasttext"}])
def test_methods_that_know_no_syntax(tmp_path: Path, options: dict[str, str]) -> None:
    (tmp_path / "a.conllu").write_text(text_of(SENTENCE), encoding="utf-8")
    with pytest.raises(InputError, match="syntax works with skipgram"):
        WordVectors(contexts="syntax", **options).fit(tmp_path / "a.conllu")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["skipgram", "svd"])
def test_words_of_one_role_become_neighbours(tmp_path: Path, method: str) -> None:
    random, sentences = np.random.default_rng(0), []
    for _ in range(400):
        kind = int(random.integers(2))
        noun = [["cat", "dog", "cow"], ["idea", "plan", "thought"]][kind][int(random.integers(3))]
        verb = [["eats", "runs", "sleeps"], ["fails", "works", "spreads"]][kind][int(random.integers(3))]
        sentences.append([("1", "the", "2", "det"), ("2", noun, "3", "nsubj"), ("3", verb, "0", "root")])
    path = tmp_path / "a.conllu"
    path.write_text(text_of(*sentences), encoding="utf-8")
    more = {"epochs": 10, "rate": 0.1} if method == "skipgram" else {}
    fit = [WordVectors(method, contexts="syntax", dim=4, threads=1, **more).fit(path) for _ in range(2)]  # type: ignore[arg-type]
    vectors = fit[0].vectors_
    assert vectors.vectors.tobytes() == fit[1].vectors_.vectors.tobytes()
    assert {word for word, _ in vectors.most_similar("cat", topn=2)} == {"dog", "cow"}
    assert {word for word, _ in vectors.most_similar("plan", topn=2)} == {"idea", "thought"}


@pytest.mark.skipif(not TREEBANK.is_dir(), reason="the treebank is not on this machine")
@pytest.mark.parametrize("method", ["skipgram", "svd"])
def test_a_treebank_gives_words_that_are_used_alike(method: str) -> None:
    path = next(iter(sorted(TREEBANK.glob("*train*.conllu*"))))
    more = {"epochs": 10, "rate": 0.05} if method == "skipgram" else {}
    vectors = WordVectors(method, contexts="syntax", dim=50, lowercase=True, threads=1, **more).fit(path).vectors_  # type: ignore[arg-type]
    assert len(vectors) > 2000 and np.isfinite(vectors.vectors).all()
    modals, owners = {"would", "can", "should", "will", "might", "must", "may"}, {"her", "their", "my", "your", "our", "its"}
    for word, alike in (("could", modals), ("his", owners)):
        near = {other for other, _ in vectors.most_similar(word, topn=6)}
        assert len(near & alike) >= 2, near
