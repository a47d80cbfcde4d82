"""Measures of tags against seqeval, and counts worked by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import seqeval.metrics as peer

from weft.data.schemes import Span, tags_of
from weft.errors import InputError
from weft.metrics_tagging import (
    ratio,
    span_counts,
    span_f1,
    span_report,
    span_scores,
    token_accuracy,
    token_counts,
    unknown_accuracy,
)

LABELS = ["O", "O", "O", *(f"{letter}-{kind}" for letter in "BI" for kind in ("PER", "LOC", "creative-work"))]


def legal(draw: random.Random, length: int) -> list[str]:
    spans, place = [], 0
    while (place := place + draw.randrange(3)) < length:
        end = min(length, place + 1 + draw.randrange(3))
        spans.append(Span(place, end, draw.choice(["PER", "LOC", "creative-work"])))
        place = end
    return tags_of(spans, length, draw.choice(["BIO", "IOB1"]))


def corpus(seed: int, count: int) -> tuple[list[list[str]], list[list[str]]]:
    """True and predicted tags: half legal, half any at all; a third of the predictions are the true tags with a slip."""
    draw = random.Random(seed)
    sides: tuple[list[list[str]], list[list[str]]] = ([], [])
    for _ in range(count):
        length = 1 + draw.randrange(12)
        true = legal(draw, length) if draw.random() < 0.5 else draw.choices(LABELS, k=length)
        guess = legal(draw, length) if draw.random() < 0.5 else draw.choices(LABELS, k=length)
        if draw.random() < 0.34:
            guess = list(true)
            guess[draw.randrange(length)] = draw.choice(LABELS)
        sides[0].append(true)
        sides[1].append(guess)
    return sides


def test_all_is_seqevals_on_a_thousand_sentences():
    true, guess = corpus(0, 1000)
    assert span_f1(true, guess) == pytest.approx(peer.f1_score(true, guess), abs=1e-12)
    scores = span_scores(true, guess)
    assert scores["precision"] == pytest.approx(peer.precision_score(true, guess), abs=1e-12)
    assert scores["recall"] == pytest.approx(peer.recall_score(true, guess), abs=1e-12)
    assert scores["f1"] == pytest.approx(span_f1(true, guess), abs=1e-12)
    assert token_accuracy(true, guess) == pytest.approx(peer.accuracy_score(true, guess), abs=1e-12)
    expected = peer.classification_report(true, guess, output_dict=True)
    report = span_report(true, guess)
    assert set(report) == {name for name in expected if " avg" not in name}
    for kind, row in report.items():
        wanted = {key.replace("f1-score", "f1"): float(value) for key, value in expected[kind].items()}
        assert row == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(1, 9))
def test_sentence_by_sentence_too(seed):
    true, guess = corpus(seed, 125)
    counts = span_counts(true, guess)
    for row, one, other in zip(counts, true, guess, strict=True):
        if row[1]:
            assert row[0] / row[1] == pytest.approx(peer.f1_score([one], [other], zero_division=0), abs=1e-12)
    assert ratio(counts) == pytest.approx(span_f1(true, guess))
    assert ratio(token_counts(true, guess)) == pytest.approx(token_accuracy(true, guess))


def test_counts_by_hand():
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"]]
    guess = [["B-PER", "I-PER", "I-PER", "B-LOC"], ["B-LOC", "O"]]
    np.testing.assert_array_equal(span_counts(true, guess), [[2, 4], [0, 1]])
    np.testing.assert_array_equal(token_counts(true, guess), [[3, 4], [1, 2]])
    assert span_f1(true, guess) == pytest.approx(2 / 5)
    assert span_report(true, guess)["LOC"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1.0}
    words = [["Ann", "Lee", "in", "Rome"], ["in", "May"]]
    np.testing.assert_array_equal(token_counts(true, guess, words=words, known=["in", "Ann"]), [[2, 2], [1, 1]])
    assert unknown_accuracy(true, guess, words, {"in", "Ann", "May", "Lee"}) == 1.0


def test_what_is_not_defined_is_nan():
    assert math.isnan(span_f1([["O"]], [["O"]]))
    assert math.isnan(unknown_accuracy([["O"]], [["O"]], [["a"]], {"a"}))
    assert math.isnan(token_accuracy([[]], [[]]))
    assert span_scores([["O"]], [["O"]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0.0}
    assert span_report([["O"]], [["O"]]) == {}
    assert span_report([["B"]], [["S"]]) == {"_": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1.0}}


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="no sentences"):
        span_f1([], [])
    with pytest.raises(InputError, match="2 sentences and predictions of 1"):
        token_accuracy([["O"], ["O"]], [["O"]])
    with pytest.raises(InputError, match="sentence 2 has 2 labels and 1 predictions"):
        span_counts([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(InputError, match="sentence 1 has 1 labels and 2 words"):
        unknown_accuracy([["O"]], [["O"]], [["a", "b"]], ())
    with pytest.raises(ValueError, match="'NOUN'"):
        span_f1([["NOUN"]], [["O"]])
