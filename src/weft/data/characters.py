"""Characters and bytes as tokens: no word is ever unknown, and the text can be had back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from weft.data.encoding import Encoding, checked, checked_all, checked_ids, rows_of, training_texts
from weft.data.vocabulary import SPECIALS, UNKNOWN, Vocabulary

_FIRST_BYTE = len(SPECIALS)


class CharacterTokenizer:
    """One id a character (a Unicode code point), blanks included; with `lowercase`, of its lower-case form."""

    kind: ClassVar[str] = "characters"

    def __init__(self, vocabulary: Vocabulary, *, lowercase: bool = False) -> None:
        self.vocabulary, self.lowercase = vocabulary, lowercase

    @classmethod
    def train(cls, texts: Iterable[str], *, minimum_count: int = 1, maximum_size: int | None = None, lowercase: bool = False) -> Self:
        """Learns the characters of `texts` (Vocabulary.build). Raises InputError where there are no texts."""
        counts: Counter[str] = Counter()
        for character, count in Counter("".join(training_texts(texts))).items():
            counts[character.lower() if lowercase else character] += count
        return cls(Vocabulary.build(counts, minimum_count, maximum_size), lowercase=lowercase)

    @property
    def size(self) -> int:
        """How many ids there are, special ones included."""
        return len(self.vocabulary)

    def encode(self, text: str) -> Encoding:
        """An id for each character."""
        return Encoding([self._id(character) for character in checked(text)], [(i, i + 1) for i in range(len(text))])

    def encode_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, int32; each distinct character is looked up once."""
        clean = checked_all(texts)
        codes = np.frombuffer("".join(clean).encode("utf-32-le"), np.uint32)
        there = np.flatnonzero(np.bincount(codes))
        table = np.zeros(int(there[-1]) + 1 if len(there) else 0, np.int32)
        table[there] = [self._id(chr(code)) for code in there]
        return rows_of(table[codes], np.fromiter(map(len, clean), np.int64, len(clean)))

    def decode(self, ids: Iterable[int]) -> str:
        """The text, exactly where all its characters are known and not lower-cased; U+FFFD for an unknown one, nothing for padding."""
        known = checked_ids(ids, self.size)
        return "".join("\ufffd" if number == UNKNOWN else self.vocabulary.tokens[number] for number in known)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {"kind": self.kind, "lowercase": self.lowercase, "tokens": self.vocabulary.tokens[len(SPECIALS) :]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""
        return cls(Vocabulary(data["tokens"]), lowercase=data["lowercase"])

    def _id(self, character: str) -> int:
        return self.vocabulary.id(character.lower() if self.lowercase else character)


class ByteTokenizer:
    """The bytes of the text in UTF-8, each as 2 + byte: 258 ids, nothing to learn, nothing unknown."""

    kind: ClassVar[str] = "bytes"
    size: ClassVar[int] = _FIRST_BYTE + 256

    @classmethod
    def train(cls, texts: Iterable[str] = ()) -> Self:
        """There is nothing to learn: `texts` is taken so that every kind is made alike."""
        return cls()

    def encode(self, text: str) -> Encoding:
        """An id for each byte; its offsets are those of the character that it is a part of."""
        coded = [(i, character.encode()) for i, character in enumerate(checked(text))]
        ids = [byte + _FIRST_BYTE for _, character in coded for byte in character]
        return Encoding(ids, [(i, i + 1) for i, character in coded for _ in character])

    def encode_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, int32."""
        coded = [text.encode() for text in checked_all(texts)]
        ids = np.frombuffer(b"".join(coded), np.uint8).astype(np.int32) + np.int32(_FIRST_BYTE)
        return rows_of(ids, np.fromiter(map(len, coded), np.int64, len(coded)))

    def decode(self, ids: Iterable[int]) -> str:
        """The text, exactly; U+FFFD where bytes are no UTF-8 or an id is the unknown one, nothing for padding."""
        numbers = checked_ids(ids, self.size)
        coded = b"".join(b"\xff" if number == UNKNOWN else bytes([number - _FIRST_BYTE]) for number in numbers)
        return coded.decode("utf-8", errors="replace")

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {"kind": self.kind}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""
        return cls()
