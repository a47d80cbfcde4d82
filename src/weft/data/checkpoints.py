"""Tokenizers of public checkpoints: BERT's WordPiece and GPT-2's byte-level BPE, with the ids that the checkpoint has (E104).

They put a model's special tokens around texts, [CLS] A [SEP] or <s> A </s>, and join pairs in one row. Every id keeps the checkpoint's
number, so padding need not be id 0: masks tell it. A special token's name within a text is text.
Devlin et al. (2019); Radford et al. (2019).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from weft.data.encoding import Encoding, checked, checked_all
from weft.data.subwords import BytePairTokenizer, WordPieceTokenizer
from weft.data.vocabulary import SPECIALS
from weft.errors import InputError

if TYPE_CHECKING:
    import tokenizers

log = logging.getLogger("weft")
_CHUNK = 10_000  # texts handed to the library at a time


@dataclass(frozen=True)
class Special:
    """The special tokens of a checkpoint by name, None where it has no such one.

    first: before a row's texts; separator: after each text; between: how many separators stand between two texts; mask: of masked-token
    models; end: of a language model's texts.
    """

    padding: str | None = None
    unknown: str | None = None
    first: str | None = None
    separator: str | None = None
    mask: str | None = None
    end: str | None = None
    between: int = 1

    def names(self) -> list[str]:
        """All that there are."""
        return [value for value in asdict(self).values() if isinstance(value, str)]


BERT = Special("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = Special("<pad>", "<unk>", "<s>", "</s>", "<mask>", between=2)
GPT2 = Special(end="<|endoftext|>")


class CheckpointTokenizer:
    """What both kinds share. tokens: each at its id. Raises InputError for a token given twice, and special ones that are not there."""

    kind: ClassVar[str]
    before_word: ClassVar[str] = ""  # what a word within a text carries before it
    _pipeline: tokenizers.Tokenizer

    def __init__(self, tokens: Sequence[str], special: Special) -> None:
        self.tokens, self.special = list(tokens), special
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            twice = next(token for number, token in enumerate(self.tokens) if self.ids[token] != number)
            raise InputError(f"a vocabulary holds each token once, and {twice!r} came twice")
        if lacking := [name for name in special.names() if name not in self.ids]:
            raise InputError(f"the special token {lacking[0]!r} is not in the vocabulary of {len(self.tokens)} tokens")
        self.special_ids = frozenset(self.ids[name] for name in special.names())
        self._before = [] if special.first is None else [self.ids[special.first]]
        self._after = [] if special.separator is None else [self.ids[special.separator]]

    @property
    def size(self) -> int:
        """How many ids there are, special ones included."""
        return len(self.tokens)

    def id_of(self, role: str) -> int | None:
        """The id of a special token by its role in Special ("separator", "mask", …), None where there is none."""
        name = getattr(self.special, role)
        return None if name is None else self.ids[name]

    def encode(self, text: str) -> Encoding:
        """The ids with the special ones around them, whose offsets are (0, 0), and the characters of the given text behind each piece."""
        found = self._pipeline.encode(checked(text), add_special_tokens=False)
        before, after = ([(0, 0)] * len(ids) for ids in (self._before, self._after))
        return Encoding([*self._before, *found.ids, *self._after], [*before, *found.offsets, *after])

    def encode_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, int32, special ones around them, on as many threads as the library takes (RAYON_NUM_THREADS)."""
        return self.rows(texts)

    def rows(self, texts: Sequence[str], pairs: Sequence[str] | None = None, maximum_length: int | None = None) -> list[np.ndarray]:
        """Ids of a row for each text, or each pair of texts, int32; special tokens stand around, also where a row is cut.

        Cut rows lose the ends of their texts, of a pair's longer one first, and are counted in a warning. Raises InputError for numbers of
        texts that differ, and a maximum_length that the special tokens alone fill.
        """
        first = self.pieces(texts)
        second = None if pairs is None else self.pieces(pairs)
        if second is not None and len(second) != len(first):
            raise InputError(f"{len(first)} texts but {len(second)} second ones")
        between = self._after * (0 if second is None else self.special.between)
        room = None if maximum_length is None else maximum_length - len(self._before) - len(self._after) - len(between)
        if room is not None and room < 1:
            raise InputError(f"must leave room for the special tokens and a token, not {maximum_length}", "maximum_length")
        made, cut = [], 0
        for number, ids in enumerate(first):
            others = [] if second is None else second[number]
            if room is not None and len(ids) + len(others) > room:
                ids, others = fitted(ids, others, room)
                cut += 1
            made.append(np.array([*self._before, *ids, *between, *others, *self._after], np.int32))
        if cut:
            log.warning("%d of %d texts are longer than maximum_length=%d tokens and were cut there", cut, len(made), maximum_length)
        return made

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special ones."""
        clean = checked_all(texts)
        found: list[list[int]] = []
        for start in range(0, len(clean), _CHUNK):
            found += [each.ids for each in self._pipeline.encode_batch_fast(clean[start : start + _CHUNK], add_special_tokens=False)]
        return found

    def pieces_of_words(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of each word as it is read behind a blank, without special ones; one of no pieces is the unknown token."""
        nothing = [number] if (number := self.id_of("unknown")) is not None else []
        return [ids or nothing for ids in self.pieces([self.before_word + word for word in words])]

    def decode(self, ids: Iterable[int]) -> str:
        """The text, without special tokens but the unknown one. Raises InputError for an id that is not in 0 … size − 1."""
        numbers = [int(number) for number in ids]
        if numbers and not 0 <= min(numbers) <= max(numbers) < self.size:
            raise InputError(f"ids run from 0 to {self.size - 1} here, not from {min(numbers)} to {max(numbers)}")
        dropped = self.special_ids - {self.id_of("unknown")}
        return self._pipeline.decode([number for number in numbers if number not in dropped], skip_special_tokens=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {"kind": self.kind, "tokens": self.tokens, "special": asdict(self.special)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        raise NotImplementedError


class BertTokenizer(CheckpointTokenizer):
    """Words cut into pieces by greedy longest match, pieces that continue a word carry ##, [CLS] and [SEP] around (E104).

    Words are found as BERT finds them: control characters dropped, accents too where `accents` is False (None: where lowercase), cut at
    blanks and punctuation, each ideograph alone where `ideographs`. A word of no pieces, or over 100 characters, is one unknown token.
    """

    kind: ClassVar[str] = "bert"

    def __init__(
        self,
        tokens: Sequence[str],
        special: Special = BERT,
        *,
        lowercase: bool = True,
        accents: bool | None = None,
        ideographs: bool = True,
    ) -> None:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

        super().__init__(tokens, special)
        self.lowercase, self.accents, self.ideographs = lowercase, accents, ideographs
        if special.unknown is None:
            raise InputError("a WordPiece vocabulary has an unknown token, and none is named")
        self._pipeline = Tokenizer(models.WordPiece(vocab=self.ids, unk_token=special.unknown, max_input_chars_per_word=100))
        self._pipeline.normalizer = normalizers.BertNormalizer(
            lowercase=lowercase, strip_accents=None if accents is None else not accents, handle_chinese_chars=ideographs
        )
        self._pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._pipeline.decoder = decoders.WordPiece(prefix="##", cleanup=False)

    @classmethod
    def of(cls, trained: WordPieceTokenizer) -> Self:
        """What weft trained, as a checkpoint has it: the same ids, <pad> and <unk> as [PAD] and [UNK]."""
        return cls(["[PAD]", "[UNK]", *trained.vocabulary.tokens[len(SPECIALS) :]], lowercase=trained.lowercase)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {**super().to_dict(), "lowercase": self.lowercase, "accents": self.accents, "ideographs": self.ideographs}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""
        own = {name: data[name] for name in ("lowercase", "accents", "ideographs")}
        return cls(data["tokens"], Special(**data["special"]), **own)


class ByteLevelTokenizer(CheckpointTokenizer):
    """Byte-pair encoding over the bytes of UTF-8, within words that carry the blank before them: GPT-2's, and RoBERTa's with <s>, </s>.

    merges: pairs of pieces in the order in which they are joined. blank: whether a text without a blank at its start is given one. The
    offsets of a piece that is part of a character are those of the whole character. InputError for a merge of what is no token.
    """

    kind: ClassVar[str] = "byte-level"
    before_word: ClassVar[str] = " "

    def __init__(self, tokens: Sequence[str], merges: Sequence[Sequence[str]], special: Special = GPT2, *, blank: bool = False) -> None:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

        super().__init__(tokens, special)
        self.merges, self.blank = [(a, b) for a, b in merges], blank
        for a, b in self.merges:
            if not (a in self.ids and b in self.ids and a + b in self.ids):
                raise InputError(f"the merge of {a!r} and {b!r} needs both, and what they make, in the vocabulary")
        unknown = {} if special.unknown is None else {"unk_token": special.unknown}
        self._pipeline = Tokenizer(models.BPE(vocab=self.ids, merges=self.merges, **unknown))
        self._pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank)
        self._pipeline.post_processor = processors.ByteLevel(trim_offsets=True)
        self._pipeline.decoder = decoders.ByteLevel()

    @classmethod
    def of(cls, trained: BytePairTokenizer) -> Self:
        """What weft trained, as RoBERTa's checkpoints have it: <s>, <pad>, </s>, <unk>, the pieces in their order, <mask>.

        Raises InputError where it lower-cases, which no such checkpoint does.
        """
        if trained.lowercase:
            raise InputError("byte-level checkpoints keep upper case: train the pieces with lowercase=False", "lowercase")
        pieces = trained.vocabulary.tokens[len(SPECIALS) :]
        return cls(["<s>", "<pad>", "</s>", "<unk>", *pieces, "<mask>"], trained.merges, ROBERTA, blank=True)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {**super().to_dict(), "merges": [list(pair) for pair in self.merges], "blank": self.blank}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The tokenizer that `to_dict` described."""
        return cls(data["tokens"], data["merges"], Special(**data["special"]), blank=data["blank"])


def fitted(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Two texts cut to `room` tokens together, the longer one first; both to a half where both are longer (the second gets an odd one)."""
    shorter = min(len(first), len(second), room // 2)
    longer = room - shorter
    return (first[:shorter], second[:longer]) if len(first) <= len(second) else (first[:longer], second[:shorter])
