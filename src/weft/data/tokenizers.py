"""The tokenizers there are, by name, and how one is trained or read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from weft.data.encoding import Encoding, Tokenizer
from weft.data.words import WordTokenizer
from weft.errors import InputError

__all__ = ["TOKENIZERS", "Encoding", "Tokenizer", "WordTokenizer", "tokenizer_from_dict", "train_tokenizer"]

TOKENIZERS: dict[str, Any] = {
    "words": WordTokenizer,
}


def train_tokenizer(kind: str, texts: Iterable[str], **settings: Any) -> Tokenizer:
    """The tokenizer of this kind, trained on `texts`. InputError names an unknown kind or setting and lists those there are."""
    train = _class_of(kind).train
    names = TOKENIZERS[kind].settings
    if strange := sorted(set(settings) - set(names)):
        raise InputError(f"a {kind!r} tokenizer has no setting {strange[0]!r}; it has {', '.join(names) or 'none'}")
    return train(texts, **settings)


def tokenizer_from_dict(data: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `to_dict` described. InputError where the description is of no kind there is, or is incomplete."""
    made = _class_of(data.get("kind", "(none named)"))
    try:
        return made.from_dict(data)
    except (KeyError, TypeError) as error:
        raise InputError(f"this description of a {data['kind']!r} tokenizer is incomplete or wrong: {error!r}") from None


def _class_of(kind: str) -> Any:
    if kind not in TOKENIZERS:
        raise InputError(f"there is no tokenizer {kind!r}; there are {', '.join(TOKENIZERS)}")
    return TOKENIZERS[kind]
