"""Pronouncing dictionaries: variants, stress, comments, and what is refused."""

from __future__ import annotations

import pytest
from refusals import refusal

from weft.data.pronunciations import read_pronunciations

TEXT = """;;; a comment
read R EH1 D
read(2) R IY1 D # the present
abuse AH0 B Y UW1 S
a(2) EY1

a AH0
abuse(2) AH0 B Y UW2 S
w(x)  W  EH1 K S
"""


@pytest.mark.parametrize("stress", [True, False])
def test_words_and_their_pronunciations(tmp_path, stress):
    path = tmp_path / "a.dict"
    path.write_text(TEXT)
    table = read_pronunciations(path, stress=stress)
    expected = {
        "read": ("R EH1 D", "R IY1 D"), "abuse": ("AH0 B Y UW1 S", "AH0 B Y UW2 S"), "a": ("EY1", "AH0"), "w(x)": ("W EH1 K S",),
    }  # fmt: skip
    if not stress:
        expected = {
            "read": ("R EH D", "R IY D"), "abuse": ("AH B Y UW S",), "a": ("EY", "AH"), "w(x)": ("W EH K S",),
        }  # fmt: skip
    assert dict(zip(table.texts, table.labels)) == expected
    assert [example.line for example in table.examples] == [2, 4, 5, 9]
    assert table.task == "translation" and table.columns == {"text": "source", "label": "target"}


def test_what_is_refused(tmp_path):
    path = tmp_path / "a.dict"
    path.write_text("a AH0\nb # B\n")
    refusal(read_pronunciations, path, ":2", "'b' has no phonemes")
    path.write_text(";;; nothing\n\n # here\n")
    refusal(read_pronunciations, path, "", "no words")
