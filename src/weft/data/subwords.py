"""Pieces of words, trained here with the Hugging Face `tokenizers` library: byte-pair encoding and WordPiece (E104).

Byte-level BPE follows Sennrich et al. (2016) and Radford et al. (2019), WordPiece follows Devlin et al. (2019). The library is
imported where it is needed, so that nobody else waits for it. Training gives the same pieces in every process, on any number of threads.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from weft.data.encoding import Encoding, checked, checked_all, checked_ids, training_texts
from weft.data.vocabulary import SPECIALS, Vocabulary
from weft.errors import InputError

if TYPE_CHECKING:
    import tokenizers

SUBWORDS = 8000
_CHUNK = 10_000  # texts handed over at a time: the library keeps much more than the ids of each
_ALPHABET = 1000  # the most distinct characters WordPiece knows, as in the reference


class _SubwordTokenizer:
    """What both kinds share: encoding and decoding by the library's pipeline over a vocabulary of ours."""

    kind: ClassVar[str]
    vocabulary: Vocabulary
    lowercase: bool
    _pipeline: tokenizers.Tokenizer

    @property
    def size(self) -> int:
        """How many ids there are, special ones included."""
        return len(self.vocabulary)

    def encode(self, text: str) -> Encoding:
        """The ids of the pieces, and the characters of the given text behind each."""
        found = self._pipeline.encode(checked(text), add_special_tokens=False)
        return Encoding(found.ids, found.offsets)

    def encode_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, int32, on as many threads as the library takes (RAYON_NUM_THREADS)."""
        clean = checked_all(texts)
        rows: list[np.ndarray] = []
        for start in range(0, len(clean), _CHUNK):
            found = self._pipeline.encode_batch_fast(clean[start : start + _CHUNK], add_special_tokens=False)
            rows += [np.array(each.ids, np.int32) for each in found]
        return rows

    def _decoded(self, ids: Iterable[int]) -> str:
        return self._pipeline.decode(checked_ids(ids, self.size), skip_special_tokens=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {"kind": self.kind, "lowercase": self.lowercase, "tokens": self.vocabulary.tokens[len(SPECIALS) :]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        raise NotImplementedError


class BytePairTokenizer(_SubwordTokenizer):
    """Byte-pair encoding over the bytes of UTF-8, within words that carry the blank before them: no text is unknown.

    merges: pairs of pieces in the order in which they are joined. The offsets of a piece that is part of a character are those
    of the whole character. Raises InputError where a merge joins pieces that are not in the vocabulary.
    """

    kind: ClassVar[str] = "bpe"

    def __init__(self, vocabulary: Vocabulary, merges: Sequence[tuple[str, str]], *, lowercase: bool = True) -> None:
        from tokenizers import decoders, models, processors

        self.vocabulary, self.merges, self.lowercase = vocabulary, [(a, b) for a, b in merges], lowercase
        ids = {token: number for number, token in enumerate(vocabulary.tokens)}
        for a, b in self.merges:
            if not (a in ids and b in ids and a + b in ids):
                raise InputError(f"the merge of {a!r} and {b!r} needs both, and what they make, in the vocabulary")
        self._pipeline = _bytes_pipeline(models.BPE(vocab=ids, merges=self.merges, unk_token=SPECIALS[1]), lowercase)
        self._pipeline.post_processor = processors.ByteLevel(trim_offsets=True)
        self._pipeline.decoder = decoders.ByteLevel()

    @classmethod
    def train(cls, texts: Iterable[str], *, maximum_size: int = SUBWORDS, minimum_count: int = 2, lowercase: bool = True) -> Self:
        """Joins the commonest pair of neighbouring pieces, over and over, until there are maximum_size ids.

        Pairs seen fewer than minimum_count times are not joined. Raises InputError where there are no texts or maximum_size is
        below the 258 ids that the special tokens and single bytes take.
        """
        from tokenizers import models, pre_tokenizers, trainers

        alphabet = pre_tokenizers.ByteLevel.alphabet()
        _check_bounds(maximum_size, len(SPECIALS) + len(alphabet), minimum_count)
        pipeline = _bytes_pipeline(models.BPE(), lowercase)
        trainer = trainers.BpeTrainer(
            vocab_size=maximum_size,
            min_frequency=minimum_count,
            special_tokens=list(SPECIALS),
            initial_alphabet=alphabet,
            show_progress=False,
        )
        pipeline.train_from_iterator(training_texts(texts), trainer)
        model = json.loads(pipeline.to_str())["model"]
        return cls(Vocabulary(_vocabulary_order(model)[len(SPECIALS) :]), [tuple(pair) for pair in model["merges"]], lowercase=lowercase)

    def decode(self, ids: Iterable[int]) -> str:
        """The text, exactly but for its case where lower-cased and for one blank at its start; nothing for padding."""
        return self._decoded(ids).removeprefix(" ")

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {**super().to_dict(), "merges": [list(pair) for pair in self.merges]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""
        return cls(Vocabulary(data["tokens"]), data["merges"], lowercase=data["lowercase"])


class WordPieceTokenizer(_SubwordTokenizer):
    """Words cut into pieces by greedy longest match from the left; pieces that continue a word carry ## (E104).

    Words are found as BERT finds them: control characters dropped, accents and case too where `lowercase`, cut at blanks and
    punctuation, each ideograph alone. A word that no pieces make up, or of more than 100 characters, is one unknown token.
    [CLS], [SEP] and [MASK] are in the vocabulary for models to use (`vocabulary.id("[MASK]")`); encode never gives them.
    """

    kind: ClassVar[str] = "wordpiece"
    special: ClassVar[tuple[str, ...]] = ("[CLS]", "[SEP]", "[MASK]")

    def __init__(self, vocabulary: Vocabulary, *, lowercase: bool = True) -> None:
        from tokenizers import decoders, models

        self.vocabulary, self.lowercase = vocabulary, lowercase
        ids = {token: number for number, token in enumerate(vocabulary.tokens)}
        self._pipeline = _words_pipeline(models.WordPiece(vocab=ids, unk_token=SPECIALS[1], max_input_chars_per_word=100), lowercase)
        self._pipeline.decoder = decoders.WordPiece(prefix="##", cleanup=False)

    @classmethod
    def train(cls, texts: Iterable[str], *, maximum_size: int = SUBWORDS, minimum_count: int = 2, lowercase: bool = True) -> Self:
        """Learns pieces by joining the commonest neighbours (as the library does), until there are maximum_size ids.

        Pairs seen fewer than minimum_count times are not joined. The 1,000 commonest characters are kept, fewer where
        maximum_size has no room for them. Raises InputError where there are no texts or maximum_size is below 7.
        """
        from tokenizers import models

        _check_bounds(maximum_size, len(SPECIALS) + len(cls.special) + 2, minimum_count)
        pipeline = _words_pipeline(models.WordPiece(unk_token=SPECIALS[1]), lowercase)
        clean = training_texts(texts)
        room = min(_ALPHABET, (maximum_size - len(SPECIALS) - len(cls.special)) // 2)
        alphabet = _commonest_characters(pipeline, clean, room)
        # The library numbers continuing characters in the order of a hash table, and ties follow numbers: a first pass, without
        # merges, finds these characters, and the second is given their order.
        found = _trained_pieces(pipeline, clean, alphabet, (*SPECIALS, *cls.special), 0, minimum_count)
        continuing = sorted(token for token in found if token.startswith("##"))
        first = (*SPECIALS, *cls.special, *continuing)
        pieces = _trained_pieces(pipeline, clean, alphabet, first, maximum_size, minimum_count)
        return cls(Vocabulary(pieces[len(SPECIALS) :]), lowercase=lowercase)

    def decode(self, ids: Iterable[int]) -> str:
        """Words joined by blanks, punctuation too; nothing for padding, <unk> for an unknown word."""
        return self._decoded(ids)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""
        return cls(Vocabulary(data["tokens"]), lowercase=data["lowercase"])


def _bytes_pipeline(model: Any, lowercase: bool) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

    pipeline = Tokenizer(model)
    if lowercase:
        pipeline.normalizer = normalizers.Lowercase()
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return pipeline


def _words_pipeline(model: Any, lowercase: bool) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, normalizers, pre_tokenizers

    pipeline = Tokenizer(model)
    pipeline.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return pipeline


def _commonest_characters(pipeline: tokenizers.Tokenizer, texts: list[str], limit: int) -> list[str]:
    """The commonest characters after normalising, ties by code point (the library's own limit cuts ties at random)."""
    counts: Counter[str] = Counter()
    for start in range(0, len(texts), _CHUNK):
        counts.update(pipeline.normalizer.normalize_str("\n".join(texts[start : start + _CHUNK])))
    seen = (character for character in counts if not character.isspace())
    return sorted(seen, key=lambda character: (-counts[character], character))[:limit]


def _trained_pieces(
    pipeline: tokenizers.Tokenizer, texts: list[str], alphabet: list[str], first: Sequence[str], size: int, minimum_count: int
) -> list[str]:
    """The pieces in the order of their ids: `first`, the alphabet, characters that continue words, then what merges made."""
    from tokenizers import trainers

    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=minimum_count,
        special_tokens=list(first),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    pipeline.train_from_iterator(texts, trainer)
    return _vocabulary_order(json.loads(pipeline.to_str())["model"])


def _vocabulary_order(model: Mapping[str, Any]) -> list[str]:
    return sorted(model["vocab"], key=model["vocab"].__getitem__)


def _check_bounds(maximum_size: int, least: int, minimum_count: int) -> None:
    if maximum_size < least:
        raise InputError(f"maximum_size must be at least {least}, the special tokens and single characters, not {maximum_size}")
    if minimum_count < 1:
        raise InputError(f"minimum_count must be at least 1, not {minimum_count}")
