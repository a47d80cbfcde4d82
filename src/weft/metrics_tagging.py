"""Measures of tagged sentences: by token, by span, by sentence for tests of significance.

Sentences are sequences of tags, one a token; true and predicted ones as long as one another. A span is right where its start, end and
type all are (strict, CoNLL 2000–2003); tags against the rules are read as conlleval reads them (weft.data.schemes), so that the figures
are those of conlleval, and of seqeval in its default mode. F1 is 2·tp / (predicted + true), over all spans of all sentences (micro).

Where a ratio has nothing below it, token measures and the F1 of spans are nan; in a report by type they are 0, as in `metrics.report`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from weft.data.schemes import Span, spans_of
from weft.errors import InputError

Tags = Sequence[Sequence[str]]
Counts = NDArray[np.float64]
NAN = float("nan")


def token_accuracy(labels: Tags, predicted: Tags) -> float:
    """The share of all tokens whose tag is right. Raises InputError where sentences do not fit."""
    return ratio(token_counts(labels, predicted))


def unknown_accuracy(labels: Tags, predicted: Tags, words: Tags, known: Collection[str]) -> float:
    """Token accuracy on the words that are not among `known` (those of the training set), as they are written; nan where all are.

    Raises InputError where sentences do not fit.
    """
    return ratio(token_counts(labels, predicted, words=words, known=known))


def token_counts(labels: Tags, predicted: Tags, *, words: Tags | None = None, known: Collection[str] = ()) -> Counts:
    """(N, 2): right tokens and tokens of each sentence. With `words`, of the tokens whose word is not `known`.

    Raises InputError where sentences do not fit.
    """
    _check(labels, predicted)
    if words is None:
        rows = [(sum(map(str.__eq__, true, guess)), len(true)) for true, guess in zip(labels, predicted, strict=True)]
        return np.array(rows, np.float64)
    _check(labels, words, "words")
    known = known if isinstance(known, set | frozenset | dict) else set(known)
    rows = []
    for true, guess, sentence in zip(labels, predicted, words, strict=True):
        counted = [one == other for one, other, word in zip(true, guess, sentence, strict=True) if word not in known]
        rows.append((sum(counted), len(counted)))
    return np.array(rows, np.float64)


def span_f1(labels: Tags, predicted: Tags) -> float:
    """Strict F1 of all spans; nan where there are none, neither true nor predicted. Raises as `span_counts`."""
    return ratio(span_counts(labels, predicted))


def span_counts(labels: Tags, predicted: Tags) -> Counts:
    """(N, 2): 2·(spans that are right), and predicted + true spans, of each sentence; the ratio of their sums is `span_f1`.

    Raises InputError where sentences do not fit, ValueError for what is no tag of spans.
    """
    found = [(2 * len(set(true) & set(guess)), len(true) + len(guess)) for true, guess in _spans(labels, predicted)]
    return np.array(found, np.float64)


def span_report(labels: Tags, predicted: Tags) -> dict[str, dict[str, float]]:
    """By type (sorted; "_" for none): precision, recall, f1, and support, the number of true spans. Raises as `span_counts`."""
    true_of, guessed, hits = Counter[str](), Counter[str](), Counter[str]()
    for true, guess in _spans(labels, predicted):
        for spans, counter in ((true, true_of), (guess, guessed), (set(true) & set(guess), hits)):
            counter.update(span.type for span in spans)
    report = {}
    for kind in sorted(true_of.keys() | guessed.keys()):
        scores = _scores(hits[kind], guessed[kind], true_of[kind])
        report[kind or "_"] = {**scores, "support": float(true_of[kind])}
    return report


def span_scores(labels: Tags, predicted: Tags) -> dict[str, float]:
    """Precision, recall and f1 over all spans (micro), 0 where there is nothing below; support. Raises as `span_counts`."""
    pairs = _spans(labels, predicted)
    hits = sum(len(set(true) & set(guess)) for true, guess in pairs)
    true_of, guessed = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    return {**_scores(hits, guessed, true_of), "support": float(true_of)}


def ratio(counts: Counts) -> float:
    """Σ numerators / Σ denominators of counts (N, 2); nan where nothing is below."""
    above, below = counts.sum(0)
    return float(above / below) if below else NAN


def _scores(hits: int, guessed: int, true: int) -> dict[str, float]:
    return {
        "precision": hits / guessed if guessed else 0.0,
        "recall": hits / true if true else 0.0,
        "f1": 2 * hits / (guessed + true) if guessed + true else 0.0,
    }


def _spans(labels: Tags, predicted: Tags) -> list[tuple[list[Span], list[Span]]]:
    _check(labels, predicted)
    return [(spans_of(true), spans_of(guess)) for true, guess in zip(labels, predicted, strict=True)]


def _check(labels: Tags, others: Tags, what: str = "predictions") -> None:
    if not len(labels):
        raise InputError("there are no sentences to measure")
    if len(labels) != len(others):
        raise InputError(f"there are labels of {len(labels)} sentences and {what} of {len(others)}; they must be the same")
    for place, (true, other) in enumerate(zip(labels, others, strict=True), start=1):
        if len(true) != len(other):
            raise InputError(f"sentence {place} has {len(true)} labels and {len(other)} {what}; every token needs one of each")
