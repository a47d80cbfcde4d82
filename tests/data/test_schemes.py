"""Schemes against seqeval's reading of spans, enumeration of short sentences, and round trips of random legal ones."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from weft.data.schemes import SCHEMES, Span, allowed, convert, illegal, parts, repaired, scheme_of, spans_of, tags_of

TYPES = ("PER", "creative-work", "")
QUICK = settings(max_examples=200, deadline=None)


@st.composite
def sentences(draw, types=TYPES):
    """(spans, length) of a legal sentence."""
    spans, place = [], 0
    for size, gap, kind in draw(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.sampled_from(types)), max_size=6)):
        spans.append(Span(place + gap, place + gap + size, kind))
        place += gap + size
    return spans, place + draw(st.integers(0, 2))


@QUICK
@given(sentences(), st.sampled_from(list(itertools.permutations(SCHEMES, 2))))
def test_legal_sentences_survive_every_round_trip(sentence, pair):
    spans, length = sentence
    one, other = pair
    tags = tags_of(spans, length, one)
    assert spans_of(tags) == spans
    assert illegal(tags, one) == []
    there = convert(tags, one, other)
    assert there == tags_of(spans, length, other)
    assert convert(there, other, one) == tags


def test_the_schemes_by_hand():
    spans = [Span(0, 2, "PER"), Span(2, 3, "PER"), Span(4, 7, "LOC")]
    written = {
        "BIO": "B-PER I-PER B-PER O B-LOC I-LOC I-LOC",
        "IOB1": "I-PER I-PER B-PER O I-LOC I-LOC I-LOC",
        "BIOES": "B-PER E-PER S-PER O B-LOC I-LOC E-LOC",
    }
    for scheme, tags in written.items():
        assert tags_of(spans, 7, scheme) == tags.split()
        assert scheme_of([tags.split()]) == scheme
    assert spans_of(["B-PER", "L-PER", "U-PER", "O", "B-LOC", "I-LOC", "L-LOC"]) == spans
    assert parts("B-creative-work") == ("B", "creative-work")
    assert spans_of(["B-creative-work", "I-creative-work"]) == [Span(0, 2, "creative-work")]


@pytest.mark.parametrize("tags", [TYPES[:2], ("",)])
def test_any_tags_are_read_as_seqeval_reads_them(tags):
    draw = random.Random(0)
    labels = ["O", *(f"{letter}-{kind}".rstrip("-") for letter in "BIES" for kind in tags)]
    for _ in range(2000):
        sentence = draw.choices(labels, k=draw.randrange(8))
        expected = [Span(start, end + 1, "" if kind == "_" else kind) for kind, start, end in get_entities(sentence)]
        assert spans_of(sentence) == expected, sentence
        mended, _ = repaired(sentence, "BIOES")
        assert spans_of(mended) == expected
        assert illegal(mended, "BIO") == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_allowed_is_what_spans_can_be_written_as(scheme):
    """A sentence is legal if and only if writing down its own spans gives it back: over all sentences of up to 4 tokens."""
    labels = ["O", *(f"{letter}-{kind}" for letter in scheme.replace("IOB1", "BIO")[: None if scheme == "BIOES" else 2] for kind in "XY")]
    labels = [label for label in labels if not label.startswith("O-")]
    start, transitions, end = allowed(labels, scheme)
    assert start.dtype == transitions.dtype == end.dtype == bool
    for length in range(1, 5):
        for ids in itertools.product(range(len(labels)), repeat=length):
            tags = [labels[i] for i in ids]
            lawful = start[ids[0]] and end[ids[-1]] and all(transitions[a, b] for a, b in itertools.pairwise(ids))
            assert lawful == (tags_of(spans_of(tags), length, scheme) == tags), tags
            assert lawful == (illegal(tags, scheme) == [])


def test_what_is_illegal_has_its_place():
    assert illegal(["O", "I-PER", "I-PER", "O", "B-LOC", "I-PER"]) == [1, 5]
    assert repaired(["O", "I-PER", "I-PER", "O", "B-LOC", "I-PER"]) == (["O", "B-PER", "I-PER", "O", "B-LOC", "B-PER"], 2)
    assert illegal(["B-PER", "I-PER"], "IOB1") == [0]
    assert illegal(["B-PER", "O", "S-PER", "B-PER"], "BIOES") == [1, 3]
    assert illegal(["E-PER", "I-PER"], "BIOES") == [0, 1]
    assert repaired([]) == ([], 0)


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["O O", "O"], "BIO"),
        (["B-X I-X O"], "BIO"),
        (["I-X I-X O", "O I-Y"], "IOB1"),
        (["I-X B-X O"], "IOB1"),
        (["I-X O B-X"], "BIO"),  # a B that IOB1 would not have: the I is a slip
        (["B E O"], "BIOES"),
        (["B I", "O"], "BIO"),
        (["U-X O"], "BIOES"),
        (["NOUN VERB"], None),
        (["O B-X _"], None),
        (["S E"], None),
        (["O S"], None),
        (["B- O"], None),
        ([], None),
    ],
)
def test_scheme_of(sentences, scheme):
    assert scheme_of([sentence.split() for sentence in sentences]) == scheme


def test_what_is_no_scheme_tag_or_span_is_refused():
    for call in (lambda: spans_of(["NOUN"]), lambda: allowed(["O", "NOUN"], "BIO"), lambda: repaired(["_"])):
        with pytest.raises(ValueError, match="no tag of spans"):
            call()
    with pytest.raises(ValueError, match="no scheme 'IOB'; there are BIO, IOB1, BIOES"):
        convert(["O"], "BIO", "IOB")
    with pytest.raises(ValueError, match="'E-X' is no tag of BIO"):
        convert(["B-X", "E-X"], "BIO", "IOB1")
    with pytest.raises(ValueError, match="'S-X' is no tag of IOB1"):
        allowed(["O", "S-X"], "IOB1")
    for spans in ([Span(0, 0, "X")], [Span(0, 2, "X"), Span(1, 3, "X")], [Span(2, 4, "X")]):
        with pytest.raises(ValueError, match="3 tokens"):
            tags_of(spans, 3)


def test_no_labels_allow_nothing():
    start, transitions, end = allowed([], "BIO")
    assert (start.shape, transitions.shape, end.shape) == ((0,), (0, 0), (0,))
    assert np.array(allowed(["O"], "BIOES")[1]).tolist() == [[True]]
