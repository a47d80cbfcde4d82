"""Tagger: what is known of each word, any encoder over the sentence, and for each column of tags a softmax or a CRF.

Windows (Collobert et al., 2011); BiLSTM-CRF (Huang et al., 2015); characters by a BiLSTM (Lample et al., 2016) or a CNN (dos Santos &
Zadrozny, 2014; Ma & Hovy, 2016); several columns at once, all at the top (Caruana, 1997) or lower tasks at lower layers (Søgaard &
Goldberg, 2016). Or a pretrained encoder, fine-tuned, in the place of words and encoder (Devlin et al., 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module

from weft.data.batch import Batch
from weft.models.elmo import ElmoConfig, ElmoEmbedding
from weft.models.encoders import make_embedding, make_encoder
from weft.models.layers import layers_of
from weft.models.pieces import PieceEncoder
from weft.nn import masks, pooling
from weft.nn.convolution import Convolutions
from weft.nn.crf import CRF, Emissions
from weft.nn.dropout import Dropout, VariationalDropout, WordDropout
from weft.nn.embeddings import TokenEmbedding
from weft.nn.recurrent import Recurrent

CHARACTERS = ("none", "cnn", "bilstm")
JOINS = ("concat", "sum")
GROUPS = 4  # of words by length, each padded by itself: most words are much shorter than the longest
Allowed = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class TaggerConfig:
    """The whole network, as it is written to config.json.

    columns: how many labels each column of tags has. features: how many values each feature of a word has. characters: "none", "cnn"
    (filters of `character_width` and the maximum) or "bilstm" (its two last states), `character_hidden` numbers wide.
    join: "concat", or "sum", where all parts are `embedding_size` wide. project: size of a linear layer after it, 0 for none.
    dropout: on what is joined, one mask a sentence, and before the output; embedding_dropout: on the words' own vectors.
    crf: labels chosen together. levels: which of a stack of encoders a column is read from, counted from 1; the top one where it is not
    named. constrained: columns whose labels cannot all follow one another. elmo: the config of an ELMo that stands beside the rest, or {}.
    pretrained: the config of an encoder that reads the words' pieces between `ends`, or {}; where there is one, of a word it and features
    alone are read, and encoder "" puts nothing on top.
    """

    vocabulary_size: int
    columns: Mapping[str, int]
    features: Mapping[str, int] = field(default_factory=dict)
    character_vocabulary: int = 0
    encoder: str = "recurrent"
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    embedding_size: int = 100
    embedding_std: float = 0.1
    feature_size: int = 20
    characters: str = "none"
    character_size: int = 32
    character_hidden: int = 64
    character_width: int = 3
    join: str = "concat"
    project: int = 0
    dropout: float = 0.5
    word_dropout: float = 0.0
    embedding_dropout: float = 0.0
    crf: bool = False
    levels: Mapping[str, int] = field(default_factory=dict)
    constrained: tuple[str, ...] = ()
    sparse: bool = False
    vectors_mode: str = "non-static"
    elmo: Mapping[str, Any] = field(default_factory=dict)
    pretrained: Mapping[str, Any] = field(default_factory=dict)
    ends: tuple[int, int] = (0, 0)


class Tagger(Module):
    """Batch of words → {column: Emissions}, logits (B, T, K). Raises ValueError for an encoder that gives no state for every word."""

    def __init__(self, config: TaggerConfig, allowed: Mapping[str, Allowed] | None = None) -> None:
        super().__init__()
        self.config = config
        self.words = made_words(config)
        size = self.words.output_size
        levels = max([1, *config.levels.values()])
        self.encoders = nn.ModuleList()
        for _ in range(levels if config.encoder else 0):
            self.encoders.append(make_encoder(config.encoder, size, config.encoder_settings))
            size = int(self.encoders[-1].output_size)  # type: ignore[arg-type]
        self.last_dropout = Dropout(config.dropout)
        self.level = {column: config.levels.get(column, levels) for column in config.columns}
        if wrong := [column for column, level in self.level.items() if not 1 <= level <= levels]:
            raise ValueError(f"column {wrong[0]!r} is read from level {self.level[wrong[0]]}; levels are counted from 1")
        self.outputs = nn.ModuleDict({_key(i): nn.Linear(size, labels) for i, labels in enumerate(config.columns.values())})
        self.chains = nn.ModuleDict()
        if config.crf:
            for i, (column, labels) in enumerate(config.columns.items()):
                free: Allowed = (np.ones(labels, bool), np.ones((labels, labels), bool), np.ones(labels, bool))
                legal = (allowed or {}).get(column, free) if column in config.constrained else None
                self.chains[_key(i)] = CRF(labels=labels, allowed=legal)

    def forward(self, batch: Batch) -> dict[str, Emissions]:
        states, found = self._levels(batch), {}
        for i, column in enumerate(self.config.columns):
            logits = self.outputs[_key(i)](self.last_dropout(states[self.level[column] - 1]))  # (B, T, K)
            chain = self.chains[_key(i)].chain() if self.config.crf else None  # type: ignore[operator]
            found[column] = Emissions(masks.zeroed(logits, batch.mask), batch.mask, chain)
        return found

    def states(self, batch: Batch) -> Tensor:
        """The top encoder's hidden states (B, T, H), of words as they stand (dropout as the mode says)."""
        return self._levels(batch)[-1]

    def _levels(self, batch: Batch) -> list[Tensor]:
        """Each encoder's states, (B, T, H); the words' own where there is none."""
        x = self.words(batch)
        states = [] if self.encoders else [x]
        for encoder in self.encoders:
            x, mask = encoder(x, batch.mask)
            if mask.shape != batch.mask.shape:
                raise ValueError(f"the encoder {self.config.encoder!r} gives {mask.shape[1]} states for {batch.mask.shape[1]} words")
            states.append(x)
        return states

    def layer_groups(self) -> list[list[str]]:
        """Parameters by layer: what is known of words, then each encoder's; the outputs and chains are in none."""
        stacked = [layers_of(encoder, f"encoders.{number}.") for number, encoder in enumerate(self.encoders)]
        return [group for groups in [layers_of(self.words, "words."), *stacked] for group in groups]


def made_words(config: TaggerConfig) -> WordEncoder | PieceEncoder:
    """What reads the words: a pretrained encoder where there is one."""
    if not config.pretrained:
        return WordEncoder(config)
    return PieceEncoder(config.pretrained, config.ends, config.features, config.feature_size, config.embedding_std)


class WordEncoder(Module):
    """Batch → a vector for each word (B, T, D): its own, its characters', its features', joined. Worked out once for each distinct word."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        if config.characters not in CHARACTERS:
            raise ValueError(f"characters={config.characters!r} must be one of {', '.join(CHARACTERS)}")
        if config.join not in JOINS:
            raise ValueError(f"join={config.join!r} must be one of {', '.join(JOINS)}")
        self.join, size = config.join, config.embedding_size
        summed = config.join == "sum"
        self.embedding = make_embedding(
            config.vectors_mode, sparse=config.sparse, vocabulary_size=config.vocabulary_size, size=size, std=config.embedding_std
        )
        self.word_dropout, self.embedding_dropout = WordDropout(config.word_dropout), VariationalDropout(config.embedding_dropout)
        width = size if summed else config.feature_size
        self.features = nn.ModuleList(
            TokenEmbedding(vocabulary_size=values, size=width, std=config.embedding_std) for values in config.features.values()
        )
        self.characters: Module | None = None
        sizes = [size, *[width] * len(config.features)]
        if config.characters != "none":
            hidden = size if summed else config.character_hidden
            self.characters = Characters(config, hidden)
            sizes.append(hidden)
        self.elmo = ElmoEmbedding(ElmoConfig.told(config.elmo)) if config.elmo else None
        if self.elmo is not None:
            if summed:
                raise ValueError("ELMo's vectors have a size of their own: join=concat, not sum")
            sizes.append(self.elmo.output_size)
        joined = size if summed else sum(sizes)
        self.dropout = VariationalDropout(config.dropout)
        self.project = nn.Linear(joined, config.project) if config.project else None
        self.output_size = config.project or joined

    def forward(self, batch: Batch) -> Tensor:
        forms = batch.forms
        if forms is None:
            raise ValueError("a tagger reads words: the batch has none (Batches with a lexicon makes them)")
        places = batch.inputs
        parts = [self.embedding_dropout(self.embedding(self.word_dropout(forms.word[places])))]
        by_form = [table(forms.features[:, i]) for i, table in enumerate(self.features)]  # (U, ·) each
        if self.characters is not None:
            by_form.append(self.characters(forms.characters))
        parts += [F.embedding(places, rows.contiguous()) for rows in by_form]
        if self.elmo is not None:
            parts.append(self.elmo(batch))
        x = self.dropout(torch.stack(parts).sum(0) if self.join == "sum" else torch.cat(parts, -1))
        return x if self.project is None else self.project(x)  # what is at padding, encoders do not look at

    def layer_groups(self) -> list[list[str]]:
        """All of it is one layer."""
        names = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        return [names] if names else []


class Characters(Module):
    """Characters of words (U, W) → one vector each (U, size)."""

    def __init__(self, config: TaggerConfig, size: int) -> None:
        super().__init__()
        self.kind = config.characters
        self.embedding = TokenEmbedding(vocabulary_size=config.character_vocabulary, size=config.character_size, std=0.3)
        shape: dict[str, Any] = {"input_size": config.character_size}
        if self.kind == "cnn":
            self.encoder: Module = Convolutions(filters=size, widths=(config.character_width,), padding="same", **shape)
        else:
            if size % 2:
                raise ValueError(f"characters of two directions need an even character_hidden, not {size}")
            self.encoder = Recurrent(cell="lstm", hidden_size=size // 2, bidirectional=True, **shape)

    def forward(self, characters: Tensor) -> Tensor:
        lengths = (characters != 0).sum(1)
        order = lengths.argsort(stable=True)
        parts = [self.read(characters[group, : max(1, int(lengths[group[-1]]))]) for group in order.tensor_split(GROUPS) if len(group)]
        return torch.cat(parts)[order.argsort()]

    def read(self, characters: Tensor) -> Tensor:
        """Words of like length, (U, W) → (U, size)."""
        mask = characters != 0
        hidden, mask = self.encoder(self.embedding(characters), mask)
        return torch.relu(pooling.max_over_time(hidden, mask)) if self.kind == "cnn" else pooling.ends(hidden, mask)


def _key(place: int) -> str:
    """Columns by number: their names may hold what names of parameters may not."""
    return f"column{place}"
