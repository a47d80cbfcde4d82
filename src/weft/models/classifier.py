"""Classifier: any text encoder, pooled, under a linear layer or a small network; one text or a pair (E86's join), any number of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Module

from weft.data.batch import Batch
from weft.models.bert import PRETRAINED_ENCODERS, make_pretrained_encoder
from weft.models.elmo import ElmoConfig, ElmoEmbedding
from weft.models.encoders import TextEncoder
from weft.models.layers import layers_of
from weft.nn.activations import activation
from weft.nn.dropout import Dropout
from weft.nn.pooling import Pooling


@dataclass(frozen=True)
class ClassifierConfig:
    """The whole network, as it is written to config.json.

    outputs: classes, labels, or 1 for a number. dropout: on the pooled vector and the hidden layers. head: sizes of hidden layers before
    the last one. k: for k-max pooling; regions: of regional pooling; passes: of the pooling of that name. pair: two texts u, v, joined as
    [u; v; |u − v|; u ⊙ v].
    vectors_mode: whether the embedding table is trained, see VECTORS_MODES. elmo: the config of an ELMo whose vectors stand beside the
    words' own, or {}. An encoder of PRETRAINED_ENCODERS takes ids itself, a pair as one row: vocabulary_size, word_dropout, sparse and what
    names embeddings are then the encoder_settings' own matter.
    """

    vocabulary_size: int
    outputs: int
    encoder: str = "cnn"
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    embedding_size: int = 128
    pooling: str = "max"
    k: int = 3
    regions: int = 1
    passes: int = 2
    dropout: float = 0.5
    word_dropout: float = 0.0
    embedding_dropout: float = 0.0
    embedding_std: float = 0.1
    head: tuple[int, ...] = ()
    head_activation: str = "relu"
    sparse: bool = False
    pair: bool = False
    vectors_mode: str = "non-static"
    elmo: Mapping[str, Any] = field(default_factory=dict)


class Classifier(Module):
    """Batch → logits (B, outputs)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.elmo = ElmoEmbedding(ElmoConfig.told(config.elmo)) if config.elmo else None
        self.encoder = _encoder(config, 0 if self.elmo is None else self.elmo.output_size)
        self.pooling = Pooling(kind=config.pooling, size=self.encoder.output_size, k=config.k, regions=config.regions, passes=config.passes)
        self.vector_size = self.pooling.output_size * (4 if config.pair else 1)
        self.head = _head(self.vector_size, config)

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.vector(batch))

    def vector(self, batch: Batch) -> Tensor:
        """What the head reads, (B, P); of a pair both vectors, joined, (B, 4P)."""
        vector = self.encode(batch)
        if self.config.pair:
            if batch.pair is None:
                raise ValueError("this model compares two texts, but the batch holds one")
            other = self.encode(batch.pair)
            vector = torch.cat([vector, other, (vector - other).abs(), vector * other], dim=-1)
        return vector

    def encode(self, batch: Batch) -> Tensor:
        """The pooled vector of each text, (B, P)."""
        return self.pooling(*self.states(batch))

    def states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The encoder's (hidden, mask); words that ELMo reads come as numbers of the batch's forms."""
        if self.elmo is None:
            return self.encoder(batch.inputs, batch.mask)
        beside = self.elmo(batch)
        assert batch.forms is not None
        return self.encoder(batch.forms.word[batch.inputs], batch.mask, beside)

    def maps(self, batch: Batch) -> Tensor | None:
        """What its pooling's attention gives each state of the encoder, (B, passes, T'); None where its pooling has no attention."""
        return self.pooling.weights(*self.states(batch))

    def layer_groups(self) -> list[list[str]]:
        """The encoder's parameters by layer, embeddings first; pooling and head are in none."""
        return layers_of(self.encoder, "encoder.")


def _encoder(config: ClassifierConfig, beside: int) -> Any:
    """Ids (B, T) and their mask → (hidden, mask)."""
    if config.encoder in PRETRAINED_ENCODERS:
        return make_pretrained_encoder(config.encoder, config.encoder_settings)
    return TextEncoder(
        vocabulary_size=config.vocabulary_size, embedding_size=config.embedding_size,
        encoder=config.encoder, encoder_settings=config.encoder_settings,
        word_dropout=config.word_dropout, embedding_dropout=config.embedding_dropout,
        embedding_std=config.embedding_std, sparse=config.sparse, vectors_mode=config.vectors_mode, beside=beside,
    )  # fmt: skip


def _head(size: int, config: ClassifierConfig) -> nn.Sequential:
    layers: list[Module] = [Dropout(config.dropout)]
    for width in config.head:
        layers += [nn.Linear(size, width), _Activation(config.head_activation), Dropout(config.dropout)]
        size = width
    last = nn.Linear(size, config.outputs)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class _Activation(Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
