"""Words, numbers and punctuation: tokenizers whose tokens are cut from a text by a pattern, with hashed word n-grams (E35).

Contractions are cut as the Penn Treebank does (don't → do n't, film's → film 's), as in Kim's (2014) cleaning.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from threading import Lock
from typing import Any, ClassVar, Self

import numpy as np

from weft.data.encoding import Encoding, checked, checked_all, checked_ids, rows_of, training_texts
from weft.data.hashing import ngram_hashes, word_hash
from weft.data.vocabulary import SPECIALS, UNKNOWN, Vocabulary
from weft.errors import InputError

# Signs that stand on or between the letters of a word but are no letters to `re`: accents, vowel signs, joiners, soft hyphens.
_MARKS = (
    "\xad\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983\u09bc-\u09cd"
    "\u0a01-\u0a03\u0a3c-\u0a4d\u0a70\u0a71\u0a81-\u0a83\u0abc-\u0acd\u0b01-\u0b03\u0b3c-\u0b4d\u0b82\u0bbe-\u0bcd"
    "\u0c00-\u0c04\u0c3e-\u0c4d\u0c81-\u0c83\u0cbc-\u0ccd\u0d00-\u0d03\u0d3b-\u0d4d\u0dca-\u0ddf\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u17b4-\u17d3\u1ab0-\u1aff\u1dc0-\u1dff\u200c\u200d\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f"
)
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"  # kana and ideographs: no blanks between words
_INVISIBLE = "\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
_LETTERS = rf"[^\W_{_UNSPACED}]+(?:[{_MARKS}]+[^\W_{_UNSPACED}]*)*"
_CLITIC = r"(?:[sSmMdDtT]|[rR][eE]|[vV][eE]|[lL]{2})(?![^\W_])"
WORDS = "|".join(
    (
        r"-[lLrR][rRsScC][bB]-",  # a bracket of treebank text
        r"(?:[^\W\d_]\.){2,}",  # u.s.
        r"\d+(?:[.,:]\d+)+",  # 3.14  1,000  10:30
        r"[nN]['’][tT](?![^\W_])",
        rf"['’]{_CLITIC}",
        rf"[^\W_{_UNSPACED}]+?(?=[nN]['’][tT](?![^\W_]))",  # do|n't
        rf"{_LETTERS}(?:['’](?!{_CLITIC}){_LETTERS})*",  # a word: o'brien, but film|'s
        rf"[{_UNSPACED}][{_MARKS}]*",
        r"\.{2,}|-{2,}|`{2,}|'{2,}",
        rf"[^\s{_INVISIBLE}][{_MARKS}]*",
    )
)
_STRAIGHT = str.maketrans("’‘“”", "''\"\"", "\xad")
NONBLANK = r"\S+"
_BLANKLESS = re.compile(NONBLANK)
HASHING_BUCKETS = 1 << 15
_MEMO_SIZE = 1 << 20  # pieces, of 64 characters on average
_known_hash = lru_cache(1 << 16)(word_hash)  # the same marks and words come in many pieces
_Numbers = tuple[tuple[int, ...], tuple[int, ...]]  # the ids of a piece's tokens; their hashes, where n-grams need them


class _Pieces:
    """The numbers of every distinct piece of text met so far, worked out once, side by side in arrays.

    A piece costs one look into a dict, however many tokens it holds. Threads take turns. What was learnt is let go when it has
    grown too large.
    """

    def __init__(self, look_up: Callable[[str], _Numbers]) -> None:
        self.look_up, self.lock = look_up, Lock()
        self._clear()

    def numbers(self, rows: Iterable[list[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of all pieces in rows: ids and hashes of their tokens, flat, and how many tokens each piece has."""
        with self.lock:
            which = np.fromiter(map(self.place_of.__getitem__, chain.from_iterable(rows)), np.int64)
            if new := len(self.place_of) - self.pieces:
                pieces = [*islice(reversed(self.place_of), new)][::-1]
                self._append(pieces, [self.look_up(piece) for piece in pieces])
            found = self._at(which)
            if max(self.pieces, self.characters >> 6) > _MEMO_SIZE:
                self._clear()
        return found

    def learn(self, pieces: list[str], numbers: list[_Numbers]) -> None:
        """Forgets everything but these."""
        with self.lock:
            self._clear()
            self.place_of.update(zip(pieces, range(len(pieces)), strict=True))
            self._append(pieces, numbers)

    def learnt(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `numbers`, of pieces by their places in what `learn` was given last."""
        with self.lock:
            return self._at(which)

    def _at(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        counts = self.counts[which]
        places = _runs(self.starts[which], counts)
        return self.ids[places], self.hashes[places], counts

    def _clear(self) -> None:
        self.place_of: defaultdict[str, int] = defaultdict()
        self.place_of.default_factory = self.place_of.__len__  # pieces are numbered as they come
        self.pieces = self.tokens = self.characters = 0
        self.starts, self.counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self.ids, self.hashes = np.empty(0, np.int32), np.empty(0, np.uint64)

    def _append(self, pieces: list[str], numbers: list[_Numbers]) -> None:
        counts = np.fromiter((len(ids) for ids, _ in numbers), np.int64, len(numbers))
        total = int(counts.sum())
        self.starts = _put(self.starts, self.pieces, self.tokens + np.cumsum(counts) - counts)
        self.counts = _put(self.counts, self.pieces, counts)
        self.ids = _put(self.ids, self.tokens, np.fromiter(chain.from_iterable(ids for ids, _ in numbers), np.int32, total))
        hashes = np.fromiter(chain.from_iterable(hashes for _, hashes in numbers), np.uint64)
        self.hashes = _put(self.hashes, self.tokens, hashes if len(hashes) else np.zeros(total, np.uint64))
        self.characters += sum(map(len, pieces))
        self.pieces, self.tokens = self.pieces + len(pieces), self.tokens + total  # last: what is interrupted is done again


def _put(buffer: np.ndarray, used: int, values: np.ndarray) -> np.ndarray:
    """`values` in the buffer from place `used` on, in one of twice the size where it is full."""
    if used + len(values) > len(buffer):
        buffer = np.concatenate([buffer[:used], np.empty(used + 2 * len(values), buffer.dtype)])
    buffer[used : used + len(values)] = values
    return buffer


class WordTokenizer:
    """Words, numbers and single punctuation marks, by a vocabulary learnt in training.

    The text is cut at blanks, and each piece by `pattern`, which therefore never sees past a blank. The default pattern keeps
    u.s., 3.14, o'brien, ... and -lrb- whole, cuts contractions as treebanks do (do|n't, it|'s) so that raw and treebank text give
    the same tokens and all negations share one, cuts hyphenated words at the hyphen, and takes each Chinese or Japanese character
    alone. Invisible control characters are dropped. A token's form is lower-cased (`lowercase`), in Unicode's composed form, with
    straight quotation marks and without soft hyphens; its offsets are those of the characters in the text as given.

    ngrams = n > 1: after the ids of the words come those of their runs of 2 … n neighbours, shortest runs first, each
    len(vocabulary) + hash mod `buckets` (E35): unknown words take part by their letters, collisions share an id. With ngrams = 1
    there are no buckets, whatever their number.
    Raises InputError for a pattern that is no regular expression, ngrams < 1, or n-grams without buckets.
    """

    kind: ClassVar[str] = "words"

    def __init__(self, vocabulary: Vocabulary, *, pattern: str = WORDS, lowercase: bool = True, ngrams: int = 1, buckets: int = 0) -> None:
        if ngrams < 1:
            raise InputError(f"ngrams must be at least 1, not {ngrams}")
        if ngrams > 1 and buckets < 1:
            raise InputError(f"n-grams need buckets to be hashed into, some 10,000 or more: not {buckets} with {ngrams=}")
        self.vocabulary, self.pattern, self.lowercase = vocabulary, pattern, lowercase
        self.ngrams, self.buckets = ngrams, buckets if ngrams > 1 else 0
        self._find, self._takes_words_whole = _compiled(pattern), pattern == WORDS
        self._pieces = _Pieces(lambda piece: self._numbers(self._tokens(piece)))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        minimum_count: int = 1,
        maximum_size: int | None = None,
        pattern: str = WORDS,
        lowercase: bool = True,
        ngrams: int = 1,
        buckets: int = 0,
    ) -> Self:
        """Learns the vocabulary of `texts`: minimum_count and maximum_size (which leaves the buckets out) as in Vocabulary.build.

        Raises InputError where there are no texts, or what is there is no text.
        """
        tokenizer = cls(Vocabulary(()), pattern=pattern, lowercase=lowercase, ngrams=ngrams, buckets=buckets)
        tokenizer._learn(texts, minimum_count, maximum_size)
        return tokenizer

    @property
    def size(self) -> int:
        """How many ids there are, special ones and buckets included."""
        return len(self.vocabulary) + self.buckets

    def encode(self, text: str) -> Encoding:
        """Ids of the words, then of the n-grams by length; an n-gram's offsets run from its first word to its last."""
        spans = list(self._spans(checked(text)))
        ids = [self._id(token) for token, _, _ in spans]
        offsets = [(start, end) for _, start, end in spans]
        hashes = np.array([word_hash(token) for token, _, _ in spans], np.uint64)
        for n in range(2, self.ngrams + 1):
            ids += self._ngrams(hashes, n).tolist()
            offsets += [(offsets[i][0], offsets[i + n - 1][1]) for i in range(len(spans) - n + 1)]
        return Encoding(ids, offsets)

    def encode_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, as `encode` gives them, int32; each distinct piece of text is cut once."""
        return rows_of(*self.encode_flat(texts))

    def encode_flat(self, texts: Sequence[str], end: str = "") -> tuple[np.ndarray, np.ndarray]:
        """(ids of all texts one after another, int32; how many each text has). end: a piece that is put behind each text."""
        sizes: list[int] = []
        return self._flat(*self._pieces.numbers(_cut(checked_all(texts), sizes, end)), sizes)

    def learn_flat(
        self, texts: Sequence[str], minimum_count: int = 1, maximum_size: int | None = None, end: str = ""
    ) -> tuple[np.ndarray, np.ndarray]:
        """Learns the vocabulary of `texts` anew and answers `encode_flat(texts, end)`; each text is cut at blanks once."""
        sizes: list[int] = []
        place_of: defaultdict[str, int] = defaultdict()
        place_of.default_factory = place_of.__len__
        which = np.fromiter(map(place_of.__getitem__, chain.from_iterable(_cut(training_texts(texts), sizes, end))), np.int64)
        counts = np.bincount(which, minlength=len(place_of)).tolist()
        self._learn_pieces(dict(zip(place_of, counts, strict=True)), minimum_count, maximum_size)
        return self._flat(*self._pieces.learnt(which), sizes)

    def _flat(self, ids: np.ndarray, hashes: np.ndarray, counts: np.ndarray, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Ids by text, n-grams too, of the tokens of pieces: `counts` tokens a piece, `sizes` pieces a text."""
        tokens = np.cumsum(np.concatenate([np.zeros(1, np.int64), counts]))[np.cumsum(sizes, dtype=np.int64)]  # up to the end of each text
        lengths = np.diff(tokens, prepend=0)
        return self._with_ngrams(ids, hashes, lengths) if self.ngrams > 1 else (ids, lengths)

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text, in the form in which they are counted and looked up."""
        return [token for token, _, _ in self._spans(checked(text))]

    def decode(self, ids: Iterable[int]) -> str:
        """The words joined by blanks; padding and n-grams are left out, unknown words stand as <unk>."""
        words = len(self.vocabulary)
        return " ".join(self.vocabulary.tokens[number] for number in checked_ids(ids, self.size) if number < words)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        settings = {"pattern": self.pattern, "lowercase": self.lowercase, "ngrams": self.ngrams, "buckets": self.buckets}
        return {"kind": self.kind, **settings, "tokens": self.vocabulary.tokens[len(SPECIALS) :]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""
        settings = {name: data[name] for name in ("pattern", "lowercase", "ngrams", "buckets")}
        return cls(Vocabulary(data["tokens"]), **settings)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)

    def _learn(self, texts: Iterable[str], minimum_count: int, maximum_size: int | None) -> None:
        self._learn_pieces(Counter(chain.from_iterable(map(str.split, training_texts(texts)))), minimum_count, maximum_size)

    def _learn_pieces(self, pieces: Mapping[str, int], minimum_count: int, maximum_size: int | None) -> None:
        """Learns the vocabulary of pieces of text and how often each occurs."""
        counts: Counter[str] = Counter()
        cut = [self._tokens(piece) for piece in pieces]
        for tokens, count in zip(cut, pieces.values(), strict=True):
            for token in tokens:
                counts[token] += count
        self.vocabulary = Vocabulary.build(counts, minimum_count, maximum_size)
        self._pieces.learn(list(pieces), [self._numbers(tokens) for tokens in cut])  # these texts are what is encoded next

    def _numbers(self, tokens: list[str]) -> _Numbers:
        return self._ids(tokens), tuple(map(_known_hash, tokens)) if self.ngrams > 1 else ()

    def _normal(self, token: str) -> str:
        if token.isascii():  # composed, straight and without soft hyphens as it stands
            return token.lower() if self.lowercase else token
        token = unicodedata.normalize("NFC", token).translate(_STRAIGHT)
        return token.lower() if self.lowercase else token

    def _id(self, token: str) -> int:
        return self.vocabulary.id(token)

    def _ids(self, tokens: list[str]) -> tuple[int, ...]:
        found = self.vocabulary.ids.get
        return tuple([found(token, UNKNOWN) for token in tokens])

    def _tokens(self, piece: str) -> list[str]:
        if self._takes_words_whole and piece.isalnum() and piece.isascii():
            return [self._normal(piece)]
        return [self._normal(match.group()) for match in filter(re.Match.group, self._find(piece))]

    def _spans(self, text: str) -> Iterator[tuple[str, int, int]]:
        for piece in _BLANKLESS.finditer(text):
            for match in filter(re.Match.group, self._find(piece.group())):  # a pattern may match nothing at all
                yield self._normal(match.group()), piece.start() + match.start(), piece.start() + match.end()

    def _ngrams(self, hashes: np.ndarray, n: int) -> np.ndarray:
        return (ngram_hashes(hashes, n) % np.uint64(self.buckets)).astype(np.int32) + np.int32(len(self.vocabulary))

    def _with_ngrams(self, ids: np.ndarray, hashes: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every text's ids followed by its n-grams' (flat, as `ids` and `hashes` are), and how many each text then has."""
        if len(lengths) == 1:  # one text, as it comes to a server
            runs = [ids, *(self._ngrams(hashes, n) for n in range(2, self.ngrams + 1))]
            return np.concatenate(runs), np.array([sum(map(len, runs))])
        counts = np.stack([np.maximum(lengths - k, 0) for k in range(self.ngrams)])  # (ngrams, texts)
        text_starts = np.cumsum(lengths) - lengths
        whole = counts.sum(0)
        out = np.empty(whole.sum(), np.int32)
        starts = np.cumsum(whole) - whole + np.cumsum(counts, 0) - counts  # where each text's block of each order begins
        for k, count in enumerate(counts):
            values = ids if k == 0 else self._ngrams(hashes, k + 1)
            out[_runs(starts[k], count)] = values[_runs(text_starts, count)]
        return out, whole


class WhitespaceTokenizer(WordTokenizer):
    """What stands between blanks, exactly as it stands there: for text that is tokenised already.

    Lower-cased only where asked; n-grams as in WordTokenizer.
    """

    kind: ClassVar[str] = "whitespace"

    def __init__(self, vocabulary: Vocabulary, *, lowercase: bool = False, ngrams: int = 1, buckets: int = 0) -> None:
        super().__init__(vocabulary, pattern=NONBLANK, lowercase=lowercase, ngrams=ngrams, buckets=buckets)

    @classmethod
    def train(  # type: ignore[override]  # there is no pattern to choose
        cls,
        texts: Iterable[str],
        *,
        minimum_count: int = 1,
        maximum_size: int | None = None,
        lowercase: bool = False,
        ngrams: int = 1,
        buckets: int = 0,
    ) -> Self:
        """Learns the vocabulary of `texts`, as WordTokenizer.train."""
        tokenizer = cls(Vocabulary(()), lowercase=lowercase, ngrams=ngrams, buckets=buckets)
        tokenizer._learn(texts, minimum_count, maximum_size)
        return tokenizer

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {name: value for name, value in super().to_dict().items() if name != "pattern"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""
        return cls(Vocabulary(data["tokens"]), lowercase=data["lowercase"], ngrams=data["ngrams"], buckets=data["buckets"])

    def _normal(self, token: str) -> str:
        return token.lower() if self.lowercase else token

    def _tokens(self, piece: str) -> list[str]:
        return [piece.lower() if self.lowercase else piece]


class HashingTokenizer(WordTokenizer):
    """The words of WordTokenizer by their hashes alone (E35): 2 + hash mod `buckets`, no vocabulary, no unknown words.

    ngrams = n > 1: runs of 2 … n words are hashed into the same buckets. Raises InputError where buckets < 1, as WordTokenizer else.
    """

    kind: ClassVar[str] = "hashing"

    def __init__(self, *, buckets: int = HASHING_BUCKETS, pattern: str = WORDS, lowercase: bool = True, ngrams: int = 1) -> None:
        if buckets < 1:
            raise InputError(f"buckets must be at least 1, not {buckets}")
        super().__init__(Vocabulary(()), pattern=pattern, lowercase=lowercase, ngrams=ngrams, buckets=buckets)
        self.buckets = buckets

    @classmethod
    def train(  # type: ignore[override]  # there is no vocabulary to bound
        cls, texts: Iterable[str] = (), *, buckets: int = HASHING_BUCKETS, pattern: str = WORDS, lowercase: bool = True, ngrams: int = 1
    ) -> Self:
        """There is nothing to learn: `texts` is taken so that every kind is made alike."""
        return cls(buckets=buckets, pattern=pattern, lowercase=lowercase, ngrams=ngrams)

    def decode(self, ids: Iterable[int]) -> str:
        """Raises InputError: a hash has no way back."""
        raise InputError("hashed ids cannot be turned back into words; use the offsets of encode")

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {name: value for name, value in super().to_dict().items() if name != "tokens"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""
        return cls(**{name: data[name] for name in ("pattern", "lowercase", "ngrams", "buckets")})

    def _id(self, token: str) -> int:
        return len(SPECIALS) + word_hash(token) % self.buckets

    def _ids(self, tokens: list[str]) -> tuple[int, ...]:
        return tuple(map(self._id, tokens))


def _cut(texts: Iterable[str], sizes: list[int], end: str) -> Iterator[list[str]]:
    """The pieces of each text (and `end`), whose number is put into `sizes`: no two texts' pieces are held at a time."""
    for text in texts:
        pieces = text.split()
        if end:
            pieces.append(end)
        sizes.append(len(pieces))
        yield pieces


def _runs(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, … (counts[0] numbers), then the same of the next, flat."""
    return np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)


def _compiled(pattern: str) -> Callable[[str], Iterator[re.Match[str]]]:
    try:
        return re.compile(pattern).finditer
    except re.error as error:
        raise InputError(f"the pattern {pattern!r} is no regular expression: {error}") from None
