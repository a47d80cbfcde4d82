"""A corpus, larger than memory or not, read once: text → the ids of its words, sentence by sentence, kept as four bytes a token.

Every distinct piece between blanks is cut into words once; after that a token costs one look into a dict. What is read is kept in memory
up to 1 MB and in a temporary file beyond, so that each pass over it costs next to nothing.
"""

from __future__ import annotations

import codecs
import gzip
import logging
import os
import re
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from weft.errors import InputError, meant

log = logging.getLogger("weft")

BOUNDARY = -1  # behind every sentence of a chunk
DROPPED = -2
BLOCK = 1 << 17  # characters read at a time: some 20,000 words, which are a chunk
IN_MEMORY = 1 << 18  # tokens; more are read from a temporary file, which the system keeps in memory where it has some to spare
END = "\n"  # the end of a sentence among the pieces: no piece between blanks can be it
BLANKS = " \t\r\u3000"
LETTERS = re.compile(r"[^\W\d_]+")
TOKENIZERS = ("whitespace", "letters", "words")
Cut = Callable[[str], Sequence[str]]


class Corpus:
    """The words that are frequent enough, and the whole corpus as their ids. Made by `read_corpus`.

    words: V, the most frequent first, ties by code point. counts: (V,) int64. tokens: Σ counts. sentences, read: how many sentences
    and how many tokens, rare ones included, were read.
    """

    def __init__(self, words: list[str], counts: np.ndarray, chunks: _Chunks, places: np.ndarray, sentences: int, read: int) -> None:
        self.words, self.counts, self.sentences, self.read = words, counts, sentences, read
        self.tokens = int(counts.sum())
        self._chunks, self._places = chunks, places

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self._chunks)

    def chunk(self, number: int) -> np.ndarray:
        """Ids, int32, of one part of the corpus, in its order: BOUNDARY behind every sentence, rare words left out."""
        ids: np.ndarray = self._places[self._chunks[number]]
        return ids[ids != DROPPED]

    def chunks(self) -> Iterator[np.ndarray]:
        """Every chunk, in order."""
        return map(self.chunk, range(len(self)))


def read_corpus(
    source: Any, *, tokenizer: str | Callable[[str], Sequence[str]] = "whitespace", lowercase: bool = False, minimum_count: int = 5
) -> Corpus:
    """Reads a corpus: its words that occur `minimum_count` times or more, and where they stand.

    source: a text file (.gz too), a folder of such, or an iterable of sentences, each a str or a list of tokens (words, products, nodes:
    taken as they are). A line is a sentence; one of more than some 45,000 words is several. tokenizer: "whitespace" (what stands between
    blanks), "letters" (runs of letters), "words" (words, numbers and punctuation marks, as weft's classifiers cut them), or a function
    from a line to its tokens.
    Raises InputError where there is nothing to read, where no word is frequent enough, or an argument is not one of these.
    """
    if isinstance(minimum_count, bool) or not isinstance(minimum_count, int | np.integer) or minimum_count < 1:
        raise InputError(f"must be a whole number of at least 1, not {minimum_count!r}", "min_count")
    place = str(source) if isinstance(source, str | os.PathLike) else "the corpus"
    encoder = _Encoder(*_cutter(tokenizer, lowercase))
    for pieces, own in _pieces(source, tokenizer if callable(tokenizer) else None):
        encoder.add(pieces, own)
    return encoder.finish(minimum_count, place)


def keep_probabilities(counts: np.ndarray, sample: float) -> np.ndarray:
    """min(1, √(t/f) + t/f) for relative frequencies f: how often subsampling with t = `sample` keeps each word (E47). (V,) float64."""
    share = sample * np.sum(counts) / np.maximum(counts, 1)
    return np.minimum(1.0, np.sqrt(share) + share)


def _cutter(tokenizer: Any, lowercase: bool) -> tuple[Cut | None, Cut | None]:
    """How a piece of text, and how a token that was given as such, become words; None where they are words as they stand."""

    def lowered(cut: Cut | None, piece: str) -> Sequence[str]:
        return [word.lower() for word in cut(piece)] if cut else [piece.lower()]

    cut: Cut | None = None
    if tokenizer == "letters":
        cut = LETTERS.findall
    elif tokenizer == "words":
        from weft.data.vocabulary import Vocabulary
        from weft.data.words import WordTokenizer

        cut = WordTokenizer(Vocabulary(()), lowercase=lowercase).tokens
    elif tokenizer != "whitespace" and not callable(tokenizer):
        known = ", ".join(TOKENIZERS)
        raise InputError(f"must be {known} or a function, not {tokenizer!r}{meant(str(tokenizer), TOKENIZERS)}", "tokenizer")
    return (partial(lowered, cut), partial(lowered, None)) if lowercase else (cut, None)


class _Encoder:
    """Pieces → numbers, in the order in which they first came; 0 is the end of a sentence."""

    def __init__(self, cut: Cut | None, own_cut: Cut | None) -> None:
        self.cuts = {False: cut, True: own_cut}
        self.words: defaultdict[str, int] = _numbering()
        self.cut_pieces = {own: _Cuts(self.words) for own in (False, True)}
        self.counts = np.zeros(1 << 12, np.int64)
        self.chunks = _Chunks()

    def add(self, pieces: list[str], own: bool) -> None:
        """pieces: words, END behind each sentence. own: whether they were given as tokens."""
        if not pieces:
            return
        cut = self.cuts[own]
        if cut is None:
            ids = np.fromiter(map(self.words.__getitem__, pieces), np.int32, len(pieces))
        else:
            ids = self.cut_pieces[own].ids(pieces, cut)
        if len(self.words) > len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros(2 * len(self.words) - len(self.counts), np.int64)])
        found = np.bincount(ids)
        self.counts[: len(found)] += found
        self.chunks.append(ids)

    def finish(self, minimum_count: int, place: str) -> Corpus:
        counts, words = self.counts[: len(self.words)], list(self.words)
        sentences, counts[0] = int(counts[0]), 0
        read = int(counts.sum())
        if not read:
            raise InputError("holds no words", place)
        kept = np.flatnonzero(counts >= minimum_count)
        if not len(kept):
            most = int(counts.argmax())
            how = "no word comes twice" if counts[most] == 1 else f"the most frequent word, {words[most]!r:.40}, comes {counts[most]} times"
            raise InputError(f"{how}, and min_count is {minimum_count}: a larger corpus or a lower min_count is wanted", place)
        ordered = np.array(sorted(kept.tolist(), key=lambda number: (-counts[number], words[number])), np.int64)
        places = np.full(len(words), DROPPED, np.int32)
        places[0], places[ordered] = BOUNDARY, np.arange(len(ordered), dtype=np.int32)
        corpus = Corpus([words[number] for number in ordered], counts[ordered], self.chunks, places, sentences, read)
        log.info(
            "%s: %s tokens in %s sentences; %s of %s words come %d times or more (%.1f%% of the tokens)",
            place, f"{read:,}", f"{sentences:,}", f"{len(ordered):,}", f"{len(words) - 1:,}", minimum_count, 100 * corpus.tokens / read,
        )  # fmt: skip
        return corpus


def _numbering() -> defaultdict[str, int]:
    """A dict that numbers what it is asked for, in order; the end of a sentence is 0."""
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    numbers[END]  # asking is what numbers it
    return numbers


class _Cuts:
    """The words of every distinct piece, cut once, side by side in one array."""

    def __init__(self, words: defaultdict[str, int]) -> None:
        self.words, self.pieces = words, _numbering()
        self.starts, self.flat = np.array([0, 1], np.int64), np.array([0], np.int32)

    def ids(self, pieces: list[str], cut: Cut) -> np.ndarray:
        which = np.fromiter(map(self.pieces.__getitem__, pieces), np.int64, len(pieces))
        known = len(self.starts) - 1
        if new := len(self.pieces) - known:
            rows = [[self.words[word] for word in cut(piece)] for piece in [*islice(reversed(self.pieces), new)][::-1]]
            ends = len(self.flat) + np.cumsum([len(row) for row in rows], dtype=np.int64)
            self.starts = np.concatenate([self.starts, ends])
            self.flat = np.concatenate([self.flat, np.array([number for row in rows for number in row], np.int32)])
        starts, lengths = self.starts[which], self.starts[which + 1] - self.starts[which]
        ends = np.cumsum(lengths)
        return self.flat[np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)]


class _Chunks:
    """Arrays of int32, in memory up to a bound, in a temporary file beyond it."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.sizes: list[int] = []
        self.kept = 0
        self.offsets: dict[int, int] = {}
        self.file: IO[bytes] | None = None

    def append(self, ids: np.ndarray) -> None:
        self.sizes.append(len(ids))
        if self.kept + len(ids) <= IN_MEMORY and self.file is None:
            self.arrays.append(ids)
            self.kept += len(ids)
            return
        if self.file is None:
            self.file = tempfile.TemporaryFile(prefix="weft-corpus-")  # noqa: SIM115  # it goes with the corpus
        self.offsets[len(self.sizes) - 1] = self.file.tell()
        self.file.write(ids.tobytes())

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> np.ndarray:
        if number < len(self.arrays):
            return self.arrays[number]
        assert self.file is not None
        self.file.flush()
        data = os.pread(self.file.fileno(), 4 * self.sizes[number], self.offsets[number])  # no seek: threads read at once
        return np.frombuffer(data, np.int32)


def _pieces(source: Any, tokenize: Callable[[str], Sequence[str]] | None) -> Iterator[tuple[list[str], bool]]:
    """(pieces, whether they are tokens as they stand), some ten thousands at a time."""
    if isinstance(source, str | os.PathLike):
        for file in _files(Path(source)):
            for text in _blocks(file):
                yield _split(text.split("\n"), tokenize)
        return
    if not isinstance(source, Iterable) or isinstance(source, bytes):
        raise InputError(f"must be a path or an iterable of sentences, not a {type(source).__name__}", "source")
    pieces: list[str] = []
    own = False
    for number, sentence in enumerate(source, 1):
        is_own = not isinstance(sentence, str)
        if is_own != own or len(pieces) > BLOCK // 6:  # in their order
            yield pieces, own
            pieces, own = [], is_own
        if not is_own:
            pieces += _split([sentence], tokenize)[0]
        elif tokens := _checked(sentence, number):
            pieces += [*tokens, END]
    yield pieces, own


def _checked(sentence: Any, number: int) -> list[str]:
    """The tokens of a sentence that was given as such."""
    tokens: list[Any] = [sentence] if isinstance(sentence, bytes) or not isinstance(sentence, Iterable) else list(sentence)
    for token in tokens:
        if not isinstance(token, str):
            raise InputError(f"holds {token!r:.40}; a sentence is a str or a list of str", f"sentence {number}")
        if token in ("", END):
            raise InputError(f"holds {token!r}, which names nothing", f"sentence {number}")
    return tokens


def _split(lines: Iterable[str], tokenize: Callable[[str], Sequence[str]] | None) -> tuple[list[str], bool]:
    pieces: list[str] = []
    for line in lines:
        before = len(pieces)
        pieces += line.split() if tokenize is None else _called(tokenize, line.rstrip("\r\n"))
        if len(pieces) > before:
            pieces.append(END)
    return pieces, tokenize is not None


def _called(tokenize: Callable[[str], Sequence[str]], line: str) -> list[str]:
    """What the caller's function makes of a line."""
    tokens: Any = tokenize(line)
    if isinstance(tokens, str | bytes) or not isinstance(tokens, Iterable):
        raise InputError(f"gave {tokens!r:.40} for a line; a list of str was expected", "tokenizer")
    tokens = list(tokens)
    for token in tokens:
        if not isinstance(token, str) or token in ("", END):
            raise InputError(f"gave the token {token!r:.40}; a list of str that are not empty was expected", "tokenizer")
    return tokens


def _files(path: Path) -> list[Path]:
    """The file, or every file below the folder, in the order of their names."""
    if path.is_dir():
        found = [one for one in sorted(path.rglob("*")) if one.is_file() and not _hidden(one.relative_to(path))]
        if not found:
            raise InputError("is a folder without files", str(path))
        return found
    if not path.exists():
        raise InputError("is not there; a text file, a .gz of one or a folder of them was expected", str(path))
    return [path]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _blocks(path: Path) -> Iterator[str]:
    """The text of a file, some hundred thousand characters at a time, cut at a line's end; a line that is longer, at a blank."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rest, broken, first = "", 0, True
    try:
        with gzip.open(path, "rb") if _gzipped(path) else open(path, "rb") as file:
            while data := file.read(BLOCK):
                if first and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise InputError("is UTF-16; text in UTF-8 was expected", str(path))
                first, text = False, decoder.decode(data)
                broken += text.count("\ufffd")
                text = rest + text
                end = text.rfind("\n") + 1
                if not end and len(text) >= BLOCK:
                    end = max(text.rfind(blank) for blank in BLANKS) + 1
                if not end and len(text) > 8 * BLOCK:
                    raise InputError(f"holds {len(text):,} characters without a blank: is it text?", str(path))
                rest = text[end:]
                yield text[:end]
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot be read ({getattr(error, 'strerror', None) or error})", str(path)) from error
    text = decoder.decode(b"", final=True)
    yield rest + text
    if broken := broken + text.count("\ufffd"):
        log.warning("%s: %s characters are no UTF-8 and became U+FFFD", path, f"{broken:,}")


def _gzipped(path: Path) -> bool:
    """Whether its first bytes are gzip's, whatever its name."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"
