"""Measures of texts that were made: translations, pronunciations, answers; over all, and counts by sentence for tests of significance.

`predicted` are N texts; `references` N too, each a text, or several of which any is right. Tokens are what stands between blanks: words
of a sentence, phonemes of a pronunciation.

- BLEU and chrF are sacreBLEU's (Post, 2018), from 0 to 100, with its tokenizers on detokenized text; they need the extra `translate`.
- `exact_match`: the share of texts that are one of their references (blanks apart). `word_error_rate` is the rest, which is what the error
  rate by word is called where each example is a word and its pronunciation.
- `token_error_rate`: edits (insertions, deletions, substitutions; Levenshtein, 1966) to the nearest reference, over that one's tokens: the
  phoneme error rate of pronunciations, and what speech recognition calls the word error rate. `unit="character"` counts characters.

Rates are shares from 0 (more than 1 where more is inserted than there is); nan where nothing is below.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weft.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

Texts = Sequence[str]
References = Sequence[str | Sequence[str]]
Counts = NDArray[np.float64]
ORDER = 4  # n-grams of BLEU
UNITS = ("token", "character")
TOKENIZERS = ("13a", "intl", "char", "zh", "none")  # those of sacreBLEU that need no model and no program


def exact_match(predicted: Texts, references: References) -> float:
    """The share of texts that are one of their references, blanks at the ends and runs of them apart. Raises as `exact_counts`."""
    return ratio(exact_counts(predicted, references))


def exact_counts(predicted: Texts, references: References) -> Counts:
    """(N, 2): 1 or 0, and 1, of each sentence.

    Raises InputError where there is nothing to measure, where there are not as many of both, or where a sentence has no reference.
    """
    rows = [(_plain(text) in map(_plain, right), 1) for text, right in _checked(predicted, references)]
    return np.array(rows, np.float64)


def word_error_rate(predicted: Texts, references: References) -> float:
    """1 − exact match: of words and their pronunciations, the share of words got wrong. Raises as `exact_counts`."""
    return 1.0 - exact_match(predicted, references)


def word_error_counts(predicted: Texts, references: References) -> Counts:
    """(N, 2): 1 where no reference is met, and 1, of each sentence. Raises as `exact_counts`."""
    counts = exact_counts(predicted, references)
    counts[:, 0] = 1 - counts[:, 0]
    return counts


def token_error_rate(predicted: Texts, references: References, *, unit: str = "token") -> float:
    """Edits to the nearest references, over the tokens (or characters) of those. Raises as `token_error_counts`."""
    return ratio(token_error_counts(predicted, references, unit=unit))


def token_error_counts(predicted: Texts, references: References, *, unit: str = "token") -> Counts:
    """(N, 2): edits to the nearest reference, and its length, of each sentence; of references as near, the longest.

    unit: "token" or "character" (runs of blanks are one). Raises as `exact_counts`, and ValueError for another unit.
    """
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(UNITS)}, not {unit!r}")

    def parts(text: str) -> Sequence[str]:
        return text.split() if unit == "token" else _plain(text)

    rows = []
    for text, right in _checked(predicted, references):
        made = parts(text)
        given = [parts(reference) for reference in right]
        rows.append(min(((distance(made, one), len(one)) for one in given), key=lambda row: (row[0], -row[1])))
    return np.array(rows, np.float64)


def distance(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions that make one sequence of the other (Levenshtein, 1966).

    A column of the table of distances at a time, its differences of +1 and −1 as the bits of two whole numbers (Myers, 1999; Hyyrö, 2003):
    O(T · S/w) for words of w bits.
    """
    if left == right:
        return 0
    if len(left) < len(right):
        left, right = right, left  # bits for the longer, steps for the shorter
    if not right:
        return len(left)
    places: dict[Hashable, int] = {}
    for place, item in enumerate(left):
        places[item] = places.get(item, 0) | 1 << place
    full = (1 << len(left)) - 1
    last = 1 << (len(left) - 1)
    up, down, found = full, 0, len(left)  # bits where a column rises, where it falls; its last value
    for item in right:
        equal = places.get(item, 0)
        level = (((equal & up) + up) ^ up) | equal | down  # where the diagonal costs nothing
        rises = down | ~(level | up) & full
        falls = up & level
        found += bool(rises & last) - bool(falls & last)
        rises = (rises << 1 | 1) & full
        falls = (falls << 1) & full
        up = falls | ~(equal | down | rises) & full
        down = rises & (equal | down)
    return found


def bleu(predicted: Texts, references: References, *, tokenizer: str = "13a", lowercase: bool = False) -> float:
    """sacreBLEU's BLEU of the corpus, cased unless `lowercase`, smoothed as it does by default ("exp").

    tokenizer: one of TOKENIZERS. Raises as `exact_counts`, and MissingExtra without sacreBLEU.
    """
    return float(_bleu(tokenizer, lowercase).corpus_score(*_streams(predicted, references)).score)


def bleu_signature(references: References, *, tokenizer: str = "13a", lowercase: bool = False) -> str:
    """How BLEU was measured, as it is published beside the figure: "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:…"."""
    metric = _bleu(tokenizer, lowercase)
    made, streams = _streams([""] * len(references), references)
    metric.corpus_score(made, streams)
    return str(metric.get_signature())


def bleu_counts(predicted: Texts, references: References, *, tokenizer: str = "13a", lowercase: bool = False) -> Counts:
    """(N, 10) of each sentence: n-grams that are right, n = 1 … 4; n-grams, n = 1 … 4; tokens; tokens of the reference nearest in length.

    `bleu_from` the sum over sentences, drawn with repetition or as they are, is the BLEU of those. Raises as `bleu`.
    """
    metric = _bleu(tokenizer, lowercase)
    rows = []
    for text, right in _checked(predicted, references):
        found = metric.corpus_score([text], [[one] for one in right])
        rows.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
    return np.array(rows, np.float64)


def bleu_from(counts: Counts) -> float:
    """BLEU of sentences from their `bleu_counts` (N, 10), or from the sum of those (10,). Raises MissingExtra without sacreBLEU."""
    metric = type(_bleu("13a", False))
    total = [round(one) for one in np.atleast_2d(counts).sum(0).tolist()]
    found = metric.compute_bleu(total[:ORDER], total[ORDER : 2 * ORDER], total[-2], total[-1], smooth_method="exp")
    return float(found.score)


def chrf(predicted: Texts, references: References, *, word_order: int = 0) -> float:
    """sacreBLEU's chrF2 of the corpus (Popović, 2015): F of character n-grams up to 6; word_order=2 makes it chrF++. Raises as `bleu`."""
    return float(_chrf(word_order).corpus_score(*_streams(predicted, references)).score)


def ratio(counts: Counts) -> float:
    """Σ numerators / Σ denominators of counts (N, 2); nan where nothing is below."""
    above, below = counts.sum(0)
    return float(above / below) if below else float("nan")


def _bleu(tokenizer: str, lowercase: bool) -> BLEU:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MissingExtra("translate", "BLEU") from error
    if tokenizer not in TOKENIZERS:
        raise InputError(f"must be one of {', '.join(TOKENIZERS)}, not {tokenizer!r}", "tokenizer")
    return BLEU(tokenize=tokenizer, lowercase=lowercase, force=True)  # force: no remark on what looks tokenized


def _chrf(word_order: int) -> CHRF:
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise MissingExtra("translate", "chrF") from error
    return CHRF(word_order=word_order)


def _streams(predicted: Texts, references: References) -> tuple[list[str], list[list[Any]]]:
    """(texts, [first references, second ones, …]) as sacreBLEU takes them: None where a sentence has fewer than another."""
    pairs = _checked(predicted, references)
    most = max(len(right) for _, right in pairs)
    return [text for text, _ in pairs], [[right[n] if n < len(right) else None for _, right in pairs] for n in range(most)]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _checked(predicted: Texts, references: References) -> list[tuple[str, Sequence[str]]]:
    """Each text and its references, one or more."""
    for what, texts in (("predictions", predicted), ("references", references)):
        if isinstance(texts, str):
            raise InputError(f"the {what} are one string; a list of texts was expected")
    if not len(predicted):
        raise InputError("there are no texts to measure")
    if len(predicted) != len(references):
        raise InputError(f"there are {len(predicted)} predictions and references of {len(references)} texts; they must be the same")
    pairs = [(text, (right,) if isinstance(right, str) else right) for text, right in zip(predicted, references, strict=True)]
    for place, (_, right) in enumerate(pairs, start=1):
        if not len(right):
            raise InputError(f"text {place} has no reference; every text needs one or more")
    return pairs


MEASURES: dict[str, Callable[[Texts, References], float]] = {
    "bleu": bleu, "chrf": chrf, "exact_match": exact_match, "word_error_rate": word_error_rate, "token_error_rate": token_error_rate,
}  # fmt: skip
"""By name, what a translator is measured by; the error rates are better the lower they are."""
