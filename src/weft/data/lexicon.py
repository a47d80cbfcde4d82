"""What a tagger reads of a word: its id, its characters, features of its form (prefix, suffixes, shape, case), its pieces.

Case: Collobert et al. (2011, 3.2.1); suffixes and shapes: Ratnaparkhi (1996), Toutanova et al. (2003); characters: dos Santos & Zadrozny
(2014).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, groupby
from typing import Any, Self

import numpy as np

from weft.data.checkpoints import CheckpointTokenizer
from weft.data.tokenizers import tokenizer_from_dict
from weft.data.vocabulary import PADDING, Vocabulary
from weft.errors import InputError, meant

FIRST, LAST = "\x02", "\x03"  # where a word begins and ends, as characters
CASES = ("lower", "upper", "title", "mixed", "number", "digits", "mark")
_LETTER = re.compile(r"[^\W\d_]")


def case(word: str) -> str:
    """One of CASES: how a word is written; "digits": some of its characters are; "mark": it has neither letters nor digits."""
    if any(character.isdigit() for character in word):
        return "digits" if _LETTER.search(word) else "number"
    if not _LETTER.search(word):
        return "mark"
    if word.islower():
        return "lower"
    if word.isupper():
        return "upper" if len(word) > 1 else "title"
    return "title" if word[0].isupper() and word[1:].islower() else "mixed"


def shape(word: str) -> str:
    """Capitals as X, other letters as x, digits as d, the rest as it is; of a run of equal ones two are kept: "McDonald's" → "XxXxx'x"."""
    signs = ("d" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c for c in word)
    return "".join("".join(list(run)[:2]) for _, run in groupby(signs))


FEATURES: Mapping[str, Callable[[str], str]] = {
    "prefix": lambda word: word[:3].lower(),
    "suffix1": lambda word: word[-1:].lower(),
    "suffix2": lambda word: word[-2:].lower(),
    "suffix3": lambda word: word[-3:].lower(),
    "suffix4": lambda word: word[-4:].lower(),
    "shape": shape,
    "case": case,
}


def feature_names(text: str) -> list[str]:
    """ "shape,case" → ["shape", "case"]. Raises InputError for a feature that does not exist, naming those that do."""
    return check_features([name for name in text.split(",") if name])


def check_features(names: Sequence[str]) -> list[str]:
    """The names, all of FEATURES. Raises InputError for another."""
    for name in names:
        if name not in FEATURES:
            raise InputError(f"there is no feature {name!r}{meant(name, FEATURES)}; there are {', '.join(FEATURES)}", "features")
    return list(names)


class Words:
    """Vocabularies of words, of characters and of each feature; words are looked up in lower case unless `lowercase` is False.

    features: names of FEATURES. Of a word longer than `maximum_characters`, the first and the last half of these are read.
    pieces: a checkpoint's tokenizer, which cuts words for its encoder; None where there is none.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        characters: Vocabulary,
        features: Mapping[str, Vocabulary],
        *,
        lowercase: bool = True,
        maximum_characters: int = 24,
        pieces: CheckpointTokenizer | None = None,
    ) -> None:
        self.vocabulary, self.characters, self.features = vocabulary, characters, dict(features)
        self.lowercase, self.maximum_characters, self.pieces = lowercase, maximum_characters, pieces

    @classmethod
    def train(
        cls,
        sentences: Iterable[Sequence[str]],
        *,
        features: Sequence[str] = (),
        lowercase: bool = True,
        minimum_count: int = 1,
        maximum_size: int | None = None,
        maximum_characters: int = 24,
    ) -> Self:
        """From the sentences' tokens. Values of features that fewer than two words have are not kept.

        Raises InputError for a feature that does not exist, naming those that do.
        """
        check_features(features)
        counts = Counter(chain.from_iterable(sentences))
        words: Counter[str] = Counter()
        characters: Counter[str] = Counter()
        for token, count in counts.items():
            words[token.lower() if lowercase else token] += count
            for character in token:
                characters[character] += count
        values = {name: Counter(map(FEATURES[name], counts)) for name in features}
        return cls(
            Vocabulary.build(words, minimum_count, maximum_size),
            Vocabulary([FIRST, LAST, *Vocabulary.build({c: n for c, n in characters.items() if c not in (FIRST, LAST)}).tokens[2:]]),
            {name: Vocabulary(sorted(value for value, count in found.items() if count > 1)) for name, found in values.items()},
            lowercase=lowercase,
            maximum_characters=maximum_characters,
        )

    def in_pieces(self, tokenizer: CheckpointTokenizer) -> Words:
        """The same features, with a checkpoint's pieces in the place of words and characters."""
        return Words(Vocabulary([]), Vocabulary([]), self.features, pieces=tokenizer)

    @property
    def size(self) -> int:
        """Ids of words, padding and unknown ones among them."""
        return len(self.vocabulary)

    def encode(self, sentences: Sequence[Sequence[str]]) -> tuple[list[np.ndarray], WordTable]:
        """For each sentence the rows (T,) of its words in a table of all distinct words, whose row 0 is padding; and that table."""
        flat = list(chain.from_iterable(sentences))
        place = {word: row for row, word in enumerate(dict.fromkeys(flat), start=1)}
        rows = np.fromiter(map(place.__getitem__, flat), np.int64, len(flat))
        ends = np.cumsum([len(sentence) for sentence in sentences])
        return np.split(rows, ends[:-1]) if len(sentences) else [], self.table(list(place))

    def table(self, words: Sequence[str]) -> WordTable:
        """The table of these words: row i + 1 is words[i]."""
        ids, known = self.vocabulary.ids, self.characters.ids
        word = np.zeros(len(words) + 1, np.int64)
        word[1:] = [ids.get(one.lower() if self.lowercase else one, 1) for one in words]
        features = np.zeros((len(words) + 1, len(self.features)), np.int64)
        for column, (name, vocabulary) in enumerate(self.features.items()):
            value, number = FEATURES[name], vocabulary.ids
            features[1:, column] = [number.get(value(one), 1) for one in words]
        half = self.maximum_characters // 2
        spelt = [f"{FIRST}{one if len(one) <= 2 * half else one[:half] + one[-half:]}{LAST}" for one in words]
        characters = Ragged.of([[known.get(c, 1) for c in one] for one in spelt])
        pieces = [[]] * len(words) if self.pieces is None else self.pieces.pieces_of_words(words)
        return WordTable(word, features, characters, Ragged.of([[1 + number for number in one] for one in pieces]))

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            "type": "word-features", "words": self.vocabulary.tokens[2:], "characters": self.characters.tokens[2:],
            "features": {name: vocabulary.tokens[2:] for name, vocabulary in self.features.items()},
            "lowercase": self.lowercase, "maximum_characters": self.maximum_characters,
            **({} if self.pieces is None else {"pieces": self.pieces.to_dict()}),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` gave. Raises InputError where it is something else."""
        try:
            features = {name: Vocabulary(tokens) for name, tokens in data["features"].items()}
            if unknown := sorted(set(features) - set(FEATURES)):
                raise InputError(f"there is no feature {unknown[0]!r}", "tokenizer.json")
            return cls(
                Vocabulary(data["words"]), Vocabulary(data["characters"]), features,
                lowercase=bool(data["lowercase"]), maximum_characters=int(data["maximum_characters"]),
                pieces=_checkpoints(data["pieces"]) if "pieces" in data else None,
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"these are no word features of weft's ({type(error).__name__}: {error})", "tokenizer.json") from error


def _checkpoints(described: Mapping[str, Any]) -> CheckpointTokenizer:
    """A checkpoint's tokenizer, as its `to_dict` told of it. Raises TypeError for another kind."""
    found = tokenizer_from_dict(described)
    if not isinstance(found, CheckpointTokenizer):
        raise TypeError(f"a tokenizer of {found.kind} is no checkpoint's")
    return found


class Ragged:
    """Ids of rows of different lengths, end to end: values (Σ lengths,) int64, lengths (V,)."""

    def __init__(self, values: np.ndarray, lengths: np.ndarray) -> None:
        self.values, self.lengths = values, lengths
        self.starts = np.cumsum(lengths) - lengths

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Self:
        """An empty row 0 for padding, and then these."""
        lengths = np.array([0, *map(len, rows)], np.int64)
        return cls(np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All it holds."""
        return self.values, self.lengths

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """Of these rows (U,): (U, W), PADDING after the end of each, W that of the longest and at least 1."""
        lengths = self.lengths[rows]
        columns = np.arange(max(1, int(lengths.max(initial=0))))
        real = columns < lengths[:, None]
        found = np.full(real.shape, PADDING, np.int64)
        found[real] = self.values[(self.starts[rows][:, None] + columns)[real]]
        return found


class WordTable:
    """Words by rows: word (V,) ids, features (V, F) ids, characters, pieces (each number 1 above the checkpoint's). Row 0 is padding."""

    def __init__(self, word: np.ndarray, features: np.ndarray, characters: Ragged, pieces: Ragged) -> None:
        self.word, self.features, self.characters, self.pieces = word, features, characters, pieces

    def forms(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Of these rows (U,): word (U,), features (U, F), characters (U, W) and pieces (U, P), zeros after the end of each word's."""
        return self.word[rows], self.features[rows], self.characters.padded(rows), self.pieces.padded(rows)

    def digest(self) -> bytes:
        """Of all that the table holds."""
        digest = hashlib.sha256()
        for array in (self.word, self.features, *self.characters.arrays, *self.pieces.arrays):
            digest.update(array.tobytes())
        return digest.digest()
