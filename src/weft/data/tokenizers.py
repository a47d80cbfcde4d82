"""The tokenizers there are, by name; one is trained by `train_tokenizer` and read back by `tokenizer_from_dict`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from weft.data.characters import ByteTokenizer, CharacterTokenizer
from weft.data.checkpoints import BertTokenizer, ByteLevelTokenizer
from weft.data.encoding import Encoding, Tokenizer
from weft.data.subwords import BytePairTokenizer, WordPieceTokenizer
from weft.data.words import HashingTokenizer, WhitespaceTokenizer, WordTokenizer
from weft.errors import InputError

__all__ = ["TOKENIZERS", "Encoding", "Tokenizer", "chosen_tokenizer", "tokenizer_from_dict", "train_tokenizer"]

TOKENIZERS: dict[str, Any] = {
    "words": WordTokenizer,
    "whitespace": WhitespaceTokenizer,
    "characters": CharacterTokenizer,
    "bytes": ByteTokenizer,
    "hashing": HashingTokenizer,
    "bpe": BytePairTokenizer,
    "wordpiece": WordPieceTokenizer,
}
CHOSEN = ("lowercase", "minimum_count", "maximum_size", "pattern")  # settings of tokenizers in networks that give texts back
# Those of public checkpoints: read from a checkpoint's files, or made of one that was trained here.
OF_CHECKPOINTS: dict[str, Any] = {"bert": BertTokenizer, "byte-level": ByteLevelTokenizer}


def train_tokenizer(kind: str, texts: Iterable[str], **settings: Any) -> Tokenizer:
    """A tokenizer of this kind, trained on `texts`. InputError for a kind or a setting there is not, naming those there are."""
    train = _class_of(kind).train
    names = [name for name in inspect.signature(train).parameters if name != "texts"]
    for name in settings:
        if name not in names:
            raise InputError(f"a {kind!r} tokenizer has no setting {name!r}; it has {', '.join(names) or 'none'}")
    return train(texts, **settings)


def chosen_tokenizer(kind: str, texts: Iterable[str], settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of this kind by CHOSEN among settings: None, and a no that a kind lacks, are left out. Raises as `train_tokenizer`."""
    takes = inspect.signature(_class_of(kind).train).parameters
    given = {name: settings[name] for name in CHOSEN}
    return train_tokenizer(kind, texts, **{name: value for name, value in given.items() if value is not None and (value or name in takes)})


def tokenizer_from_dict(data: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that its `to_dict` described. InputError where that names no kind there is, or is incomplete."""
    kind = data.get("kind")
    made = OF_CHECKPOINTS[kind] if kind in OF_CHECKPOINTS else _class_of(kind)
    try:
        return made.from_dict(data)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a description of a {data['kind']!r} tokenizer: {type(error).__name__} {error}") from None


def _class_of(kind: Any) -> Any:
    if kind not in TOKENIZERS:
        raise InputError(f"there is no tokenizer {kind!r}; there are {', '.join(TOKENIZERS)}")
    return TOKENIZERS[kind]
