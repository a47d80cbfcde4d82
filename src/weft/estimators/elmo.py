"""A pretrained ELMo beside the words of other networks: its folder → vocabularies, config, weights; texts → words that both read (E106)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from weft.data.encoding import Encoding
from weft.data.lexicon import Words, WordTable
from weft.data.tokenizers import Tokenizer, tokenizer_from_dict
from weft.data.vocabulary import Vocabulary
from weft.errors import InputError
from weft.estimators.base import not_ours
from weft.files import sha256
from weft.models.elmo import Elmo, ElmoConfig
from weft.saving import read_model

ESTIMATOR = "Elmo"  # what its folder says it holds
KINDS = ("words", "whitespace")  # of tokenizers whose tokens are words


@dataclass(frozen=True)
class ElmoStart:
    """A pretrained ELMo: words' and characters' vocabularies, the layers' config and weights, and what a model says of where it is from."""

    words: Words
    config: ElmoConfig
    weights: dict[str, Tensor]
    facts: dict[str, Any]

    def share_characters(self, words: Words) -> Words:
        """Another network's vocabularies, its characters ELMo's, so that both read a batch's words by the same ids."""
        return Words(
            words.vocabulary, self.words.characters, words.features, lowercase=words.lowercase,
            maximum_characters=self.words.maximum_characters,
        )  # fmt: skip


def read_elmo(folder: str | Path) -> ElmoStart:
    """What the folder of an ELMo holds. Raises InputError where it is none, or its weights do not fit its config."""
    saved = read_model(folder)
    if saved.config.get("estimator") != ESTIMATOR:
        raise InputError(f"holds a {saved.config.get('estimator')}, not an ELMo; weft pretrain elmo CORPUS makes one", str(folder))
    try:
        config, words = ElmoConfig.told(saved.config["engine"]["network"]), Words.from_dict(saved.tokenizer or {})
        model = Elmo(config)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in saved.arrays.items()})
    except RuntimeError as error:
        raise InputError(f"the weights do not fit the config: {str(error).splitlines()[-1].strip()}", str(folder)) from error
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise not_ours(error, Path(folder)) from error
    facts = {"name": str(folder), "sha256": sha256(Path(folder) / "model.safetensors")}
    return ElmoStart(words, config, model.network.state_dict(), facts)


class SpeltTokenizer:
    """A tokenizer of words whose texts come as rows of a table of words, each with its id and the characters that ELMo knows it by."""

    def __init__(self, tokenizer: Tokenizer, words: Words) -> None:
        self.tokenizer = tokenizer
        self.words = Words(Vocabulary([]), words.characters, {}, lowercase=False, maximum_characters=words.maximum_characters)

    @property
    def kind(self) -> str:
        """The tokenizer's."""
        return self.tokenizer.kind

    @property
    def size(self) -> int:
        """How many ids there are."""
        return self.tokenizer.size

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's."""
        found: Vocabulary = self.tokenizer.vocabulary  # type: ignore[attr-defined]  # tokenizers of words have one
        return found

    def encode(self, text: str) -> Encoding:
        """The tokenizer's ids and places."""
        return self.tokenizer.encode(text)

    def encode_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokenizer's ids."""
        return self.tokenizer.encode_ids(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """The tokenizer's text."""
        return self.tokenizer.decode(ids)

    def rows(self, texts: Sequence[str]) -> tuple[list[np.ndarray], WordTable]:
        """For each text the rows (T,) of its words in a table of all distinct ones, as they are written; and that table."""
        ids: dict[str, int] = {}
        sentences = []
        for text in texts:
            found = self.tokenizer.encode(text)
            sentences.append([text[start:end] for start, end in found.offsets])
            ids.update(zip(sentences[-1], found.ids, strict=True))
        rows, table = self.words.encode(sentences)
        table.word[1:] = [ids[word] for word in dict.fromkeys(word for sentence in sentences for word in sentence)]
        return rows, table

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {"spelt": self.tokenizer.to_dict(), "elmo": self.words.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` told of."""
        return cls(tokenizer_from_dict(data["spelt"]), Words.from_dict(data["elmo"]))


def spelt(tokenizer: Tokenizer, start: ElmoStart, ngrams: int | None) -> SpeltTokenizer:
    """A tokenizer whose words ELMo reads. Raises InputError for one whose tokens are no words."""
    if tokenizer.kind not in KINDS or (ngrams or 1) > 1:
        what = "n-grams" if tokenizer.kind in KINDS else repr(tokenizer.kind)
        raise InputError(f"ELMo reads words: a tokenizer of {' or '.join(KINDS)}, without n-grams, not of {what}", "elmo")
    return SpeltTokenizer(tokenizer, start.words)


def respelt(tokenizer: Mapping[str, Any]) -> SpeltTokenizer | None:
    """What `to_dict` told of; None where it is another tokenizer's."""
    return SpeltTokenizer.from_dict(tokenizer) if "spelt" in tokenizer else None
