"""Corpora → documents → rows: what is a document, what is a sentence, what fits in a row; what is refused."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pytest

from weft.data.documents import read_documents, sentences
from weft.data.masking import Masker, Masking
from weft.data.next_sentence import NextSentence, Packed
from weft.errors import InputError

WIKI = """
 = Robert Boulter =

 Robert Boulter is an actor . He had a role in 2000 .

 = = Career = =

 In 2006 , he starred .

 = Du Fu =

 Du Fu was a poet .
"""


def test_documents_begin_at_headings_blank_lines_or_lines(tmp_path, caplog):
    path = tmp_path / "wiki.txt"
    path.write_text(WIKI)
    with caplog.at_level(logging.INFO):
        found = read_documents(str(path))
    robert = ["Robert Boulter is an actor .", "He had a role in 2000 .", "In 2006 , he starred ."]
    assert found == [robert, ["Du Fu was a poet ."]]
    assert "2 documents, told apart by headings, of 4 sentences" in caplog.text
    assert len(read_documents(str(path), "blank-lines")) == 6
    plain = tmp_path / "plain.txt.gz"
    plain.write_bytes(gzip.compress(b"\n\nOne. Two.\nThree.\n\nFour\n"))
    assert read_documents(str(plain)) == [["One.", "Two.", "Three."], ["Four"]]
    lines = tmp_path / "lines.txt"
    lines.write_text("One. Two.\nThree.\n")
    assert read_documents(str(lines)) == [["One.", "Two."], ["Three."]]


def test_a_corpus_that_is_none_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    for text, said in (("\n \n", "empty"), (" = A =\n", "headings alone")):
        path.write_text(text)
        with pytest.raises(InputError, match=said):
            read_documents(str(path))
    path.write_text("a\n")
    with pytest.raises(InputError, match=r"there is no 'line' \(did you mean lines"):
        read_documents(str(path), "line")
    with pytest.raises(InputError, match="no such file"):
        read_documents(str(tmp_path / "b.txt"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It rains. It pours!", ["It rains.", "It pours!"]),
        ("Mr. Smith and J. R. Lee left. They ran.", ["Mr. Smith and J. R. Lee left.", "They ran."]),
        ('"Really?" he asked. "Yes." Then 3 came.', ['"Really?" he asked.', '"Yes."', "Then 3 came."]),
        ("3.5 m. high, e.g. a wall", ["3.5 m. high, e.g. a wall"]),
        ("一二。三四！五", ["一二。", "三四！", "五"]),
        ("  ", []),
    ],
)
def test_sentences(text, found):
    assert sentences(text) == found


def test_packed_rows_hold_whole_sentences_of_one_document():
    documents = [[np.array([10, 11]), np.array([12]), np.array([13, 14])], [np.arange(20, 29)], [np.array([30])]]
    made = Packed(documents, maximum_length=6, first=1, separator=2)
    rows, labels = made.rows(0)
    assert labels is None and made.rows(5)[0] is rows
    assert [row.tolist() for row in rows] == [
        [1, 10, 11, 12, 2], [1, 13, 14, 2], [1, 20, 21, 22, 23, 2], [1, 24, 25, 26, 27, 2], [1, 28, 2], [1, 30, 2]
    ]  # fmt: skip


def test_fingerprints_tell_corpora_and_settings_apart():
    one, two = [[np.array([1, 2]), np.array([3])]] * 2, [[np.array([1]), np.array([2, 3])]] * 2
    made = [NextSentence(c, maximum_length=n, first=1, separator=2, seed=s) for c in (one, two) for n in (8, 9) for s in (0, 1)]
    made += [NextSentence(one, maximum_length=8, first=1, separator=2, same_document=True)]
    made += [Packed(c, maximum_length=n, first=1, separator=2) for c in (one, two) for n in (8, 9)]
    assert len({each.fingerprint() for each in made}) == len(made)
    assert made[0].fingerprint() == NextSentence(one, maximum_length=8, first=1, separator=2).fingerprint()


def test_pairs_of_one_document():
    """Of the same one, where that is allowed; refused where it is not."""
    documents = [[np.array([10]), np.array([20]), np.array([30])]]
    with pytest.raises(InputError, match="two documents of two sentences or more; there are 1 documents"):
        NextSentence(documents, maximum_length=9, first=1, separator=2)
    made = NextSentence(documents, maximum_length=9, first=1, separator=2, same_document=True)
    for epoch in range(50):
        for pair in made.pairs(epoch):
            assert (pair.begin == pair.middle) == (pair.label == 0)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="at least 5"):
        NextSentence([], maximum_length=4, first=1, separator=2)
    with pytest.raises(InputError, match="no sentences"):
        Packed([[]], maximum_length=9, first=1, separator=2)
    with pytest.raises(ValueError, match="rate=0 must be above 0"):
        Masking(rate=0)
    with pytest.raises(ValueError, match="shares of 1 together"):
        Masking(masked=0.8, replaced=0.3)
    with pytest.raises(ValueError, match="all 3 tokens are special"):
        Masker(Masking(), vocabulary_size=3, mask=2, special=(0, 1))
    with pytest.raises(ValueError, match="whole words need"):
        Masker(Masking(whole_words=True), vocabulary_size=9, mask=2, special=(0, 1))
