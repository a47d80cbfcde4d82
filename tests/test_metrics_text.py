"""Measures of texts against sacreBLEU, a plain recursion for edits, and examples worked by hand."""

from __future__ import annotations

import math
import random
import sys
from functools import cache

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import InputError, MissingExtra
from weft.metrics_text import (
    TOKENIZERS,
    bleu,
    bleu_counts,
    bleu_from,
    bleu_signature,
    chrf,
    distance,
    exact_counts,
    exact_match,
    ratio,
    token_error_counts,
    token_error_rate,
    word_error_counts,
    word_error_rate,
)

WORDS = ["the", "a", "cat", "Dog", "sat", ".", "on", ",", "mat", "it's", "ran", "über"]


def recursion(left, right) -> int:
    """Levenshtein's distance by its definition."""

    @cache
    def between(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        same = left[i - 1] == right[j - 1]
        return min(between(i - 1, j) + 1, between(i, j - 1) + 1, between(i - 1, j - 1) + (not same))

    return between(len(left), len(right))


def corpus(seed: int, count: int, most: int = 1) -> tuple[list[str], list[list[str]]]:
    """Sentences and one to `most` references each: the sentence with slips."""
    draw = random.Random(seed)
    predicted, references = [], []
    for _ in range(count):
        words = draw.choices(WORDS, k=1 + draw.randrange(14))
        right = []
        for _ in range(1 + draw.randrange(most)):
            changed = [draw.choice(WORDS) if draw.random() < 0.25 else word for word in words if draw.random() < 0.9]
            right.append(" ".join(changed or ["cat"]))
        predicted.append(" ".join(words))
        references.append(right)
    return predicted, references


@settings(max_examples=200, deadline=None)
@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_distance_is_the_recursions(left, right):
    assert distance(left, right) == distance(right, left) == recursion(left, right)


def test_distance_of_long_sequences_and_of_any_items():
    draw = random.Random(1)
    for _ in range(6):
        left, right = (draw.choices(range(5), k=draw.randrange(60, 200)) for _ in range(2))
        table = list(range(len(right) + 1))  # the table by rows, in place of a recursion that is too deep
        for i, one in enumerate(left, start=1):
            before, table = table, [i]
            for j, other in enumerate(right, start=1):
                table.append(min(table[-1] + 1, before[j] + 1, before[j - 1] + (one != other)))
        assert distance(left, right) == table[-1]
    assert distance("kitten", "sitting") == 3
    assert distance((), ()) == 0 and distance("", "abc") == distance("abc", "") == 3


def test_rates_by_hand():
    predicted = ["K AE T", "R IY D", "  D  AO G", ""]
    references = ["K AE T S", ["R EH D", "R IY D"], ("D AO G",), "AH"]
    assert exact_counts(predicted, references).tolist() == [[0, 1], [1, 1], [1, 1], [0, 1]]
    assert exact_match(predicted, references) == 0.5 == word_error_rate(predicted, references)
    assert word_error_counts(predicted, references).tolist() == [[1, 1], [0, 1], [0, 1], [1, 1]]
    assert token_error_counts(predicted, references).tolist() == [[1, 4], [0, 3], [0, 3], [1, 1]]
    assert token_error_rate(predicted, references) == 2 / 11
    assert token_error_counts(["ab c"], ["ab  cd"], unit="character").tolist() == [[1, 5]]
    assert token_error_rate(["a b c"], ["a"]) == 2.0
    assert math.isnan(token_error_rate([""], [""]))


def test_the_nearest_reference_counts_and_of_those_as_near_the_longest():
    assert token_error_counts(["a b"], [["a b c d", "a", "a b c"]]).tolist() == [[1, 3]]
    predicted, references = corpus(3, 200, most=4)
    for (edits, length), text, right in zip(token_error_counts(predicted, references), predicted, references):
        every = [(recursion(tuple(text.split()), tuple(one.split())), len(one.split())) for one in right]
        assert edits == min(every)[0]
        assert length == max(size for found, size in every if found == edits)


def test_counts_add_up_to_the_rate():
    predicted, references = corpus(4, 100, most=2)
    for rate, counts in (
        (exact_match, exact_counts), (word_error_rate, word_error_counts), (token_error_rate, token_error_counts),
    ):  # fmt: skip
        found = counts(predicted, references)
        assert found.shape == (100, 2) and found.dtype == np.float64
        assert rate(predicted, references) == pytest.approx(ratio(found), abs=1e-12)


@pytest.mark.parametrize("most", [1, 3])
def test_bleu_and_chrf_are_sacrebleus(most):
    predicted, references = corpus(5, 50, most=most)
    streams = [[right[n] if n < len(right) else None for right in references] for n in range(most)]
    assert bleu(predicted, references) == sacrebleu.corpus_bleu(predicted, streams).score
    assert bleu(predicted, references, lowercase=True) == sacrebleu.corpus_bleu(predicted, streams, lowercase=True).score
    for tokenizer in TOKENIZERS:
        assert bleu(predicted, references, tokenizer=tokenizer) == sacrebleu.corpus_bleu(predicted, streams, tokenize=tokenizer).score
    assert chrf(predicted, references) == sacrebleu.corpus_chrf(predicted, streams).score
    assert chrf(predicted, references, word_order=2) == sacrebleu.corpus_chrf(predicted, streams, word_order=2).score
    assert 20 < bleu(predicted, references) < bleu(predicted, references, lowercase=True) + 1e-9 < 100


def test_a_sentence_with_fewer_references_has_no_empty_ones():
    """An empty text in its place would be the nearest in length to a short prediction, and take the brevity penalty away."""
    predicted, references = (
        ["a cat", "the dog ran on the mat today"],
        [["a cat sat on the mat"], ["the dog ran on the mat", "a dog ran on a mat today"]],
    )
    right = sum(
        min((len(one.split()) for one in refs), key=lambda n: abs(n - len(text.split()))) for text, refs in zip(predicted, references)
    )
    assert bleu_counts(predicted, references)[:, 9].sum() == right
    assert bleu(predicted, references) == pytest.approx(bleu_from(bleu_counts(predicted, references)), abs=1e-12)


@pytest.mark.parametrize("most", [1, 3])
def test_bleu_from_the_counts_of_any_sentences_is_that_of_those_sentences(most):
    predicted, references = corpus(6, 80, most=most)
    counts = bleu_counts(predicted, references)
    assert counts.shape == (80, 10)
    draw = random.Random(0)
    few = next(row for row in range(80) if counts[row, 0] and not counts[row, 3] and counts[row, 7])  # where smoothing has work to do
    for rows in (range(80), draw.choices(range(80), k=80), [7], [few]):
        expected = bleu([predicted[row] for row in rows], [references[row] for row in rows])
        assert bleu_from(counts[list(rows)]) == pytest.approx(expected, abs=1e-10)
        assert bleu_from(counts[list(rows)].sum(0)) == pytest.approx(expected, abs=1e-10)


def test_bleu_by_hand():
    """5 of 6, 3 of 5, 2 of 4, 1 of 3 n-grams; as long as the reference."""
    found = bleu(["the cat sat on a mat"], ["the cat sat on the mat"], tokenizer="none")
    assert found == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25, abs=1e-9)
    assert bleu(["the cat sat on"], ["the cat sat on the mat"]) == pytest.approx(100 * math.exp(1 - 6 / 4), abs=1e-9)
    assert bleu(["a", "b"], ["a b", "b"]) < 100 and bleu(["The cat sat on it."], ["The cat sat on it."]) == pytest.approx(100)


def test_the_signature_is_sacrebleus():
    predicted, references = corpus(7, 10)
    metric = sacrebleu.BLEU()
    metric.corpus_score(predicted, [[right[0] for right in references]])
    assert bleu_signature(references) == str(metric.get_signature())
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in bleu_signature(references)
    assert "case:lc" in bleu_signature(references, lowercase=True) and "tok:char" in bleu_signature(references, tokenizer="char")
    assert "nrefs:var" in bleu_signature([["a", "b"], "c"])


@pytest.mark.parametrize("measure", [bleu, chrf, bleu_counts, exact_match, word_error_rate, token_error_rate])
def test_what_is_refused(measure):
    for predicted, references, words in (
        ([], [], "no texts to measure"),
        (["a"], ["a", "b"], "1 predictions and references of 2 texts"),
        (["a", "b"], ["a", []], "text 2 has no reference"),
        ("ab", ["a", "b"], "the predictions are one string"),
        (["a", "b"], "ab", "the references are one string"),
    ):
        with pytest.raises(InputError, match=words):
            measure(predicted, references)


def test_other_options_are_refused():
    with pytest.raises(InputError, match=r"tokenizer: must be one of 13a, intl, char, zh, none, not 'flores200'"):
        bleu(["a"], ["a"], tokenizer="flores200")
    with pytest.raises(ValueError, match="unit must be one of token, character, not 'word'"):
        token_error_rate(["a"], ["a"], unit="word")


def test_without_sacrebleu_the_extra_is_named_and_the_rest_works(monkeypatch):
    for module in ("sacrebleu", "sacrebleu.metrics", "sacrebleu.metrics.bleu", "sacrebleu.metrics.chrf"):
        monkeypatch.setitem(sys.modules, module, None)
    for measure, what in ((bleu, "BLEU"), (chrf, "chrF"), (bleu_counts, "BLEU")):
        with pytest.raises(MissingExtra, match=rf"{what} needs the extra: pip install 'weft\[translate\]'"):
            measure(["a"], ["a"])
    assert exact_match(["a"], ["a"]) == 1.0 and token_error_rate(["a b"], ["a c"]) == 0.5
