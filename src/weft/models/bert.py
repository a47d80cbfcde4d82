"""BERT: token, position and segment embeddings under post-norm Transformer blocks that see both ways (E104; Devlin et al., 2019).

RoBERTa (Liu et al., 2019) counts positions from 2 and has one segment; DistilBERT (Sanh et al., 2019) has none, and no pooler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module

from weft.models.encoders import looked_up
from weft.models.language_encoder import LanguageEncoder
from weft.models.language_model import LanguageModelConfig
from weft.nn import masks
from weft.nn.dropout import Dropout
from weft.nn.initialisation import normal_
from weft.nn.transformer import TransformerEncoder


@dataclass(frozen=True)
class BertConfig:
    """The base size of Devlin et al. (2019), 3.

    inner: of the feed-forward layers, 0 for 4 · hidden_size. maximum_positions: the longest row; position_offset: rows of the table of
    positions that come before the first one's. segments: rows of their table, 0 for none. separator: the id that ends a segment.
    dropout: of embeddings, attention weights, inner layers, and what is added to a row. pooler: whether there is a layer over position 0.
    """

    vocabulary_size: int = 30522
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 0
    maximum_positions: int = 512
    segments: int = 2
    dropout: float = 0.1
    activation: str = "gelu"
    epsilon: float = 1e-12
    position_offset: int = 0
    separator: int | None = None
    pooler: bool = True


class Bert(Module):
    """Ids (B, T) and their mask (B, T) → (hidden (B, T, H), mask), zero where nothing is real.

    A pair is one row, [CLS] A [SEP] B [SEP]: a position's segment is the number of separators before it, at most the last one. Weights
    start as normal noise of deviation 0.02, biases at zero. (V + T + segments)·d + 2d + L(12d² + 13d) + d² + d parameters for inner 4d.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        if config.segments > 1 and config.separator is None:
            raise ValueError(f"{config.segments} segments are told apart by a separator, and none is given")
        if min(config.vocabulary_size, config.maximum_positions) < 1 or config.segments < 0 or config.position_offset < 0:
            raise ValueError(
                f"sizes are at least 1, got {config.vocabulary_size=}, {config.maximum_positions=}, {config.segments=}, "
                f"{config.position_offset=}"
            )
        self.config, size = config, config.hidden_size
        self.tokens = nn.Parameter(torch.empty(config.vocabulary_size, size))
        self.positions = nn.Parameter(torch.empty(config.position_offset + config.maximum_positions, size))
        self.segments = nn.Parameter(torch.empty(config.segments, size)) if config.segments else None
        self.norm, self.dropout = nn.LayerNorm(size, config.epsilon), Dropout(config.dropout)
        self.encoder = TransformerEncoder(
            size=size, heads=config.heads, layers=config.layers, inner=config.inner or 4 * size, dropout=config.dropout,
            activation=config.activation, epsilon=config.epsilon,
        )  # fmt: skip
        self.pooler = nn.Linear(size, size) if config.pooler else None
        self.output_size = size
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                normal_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Raises ValueError where ids and mask are not of one shape (B, T), T at least 1, or a row is longer than maximum_positions."""
        hidden, _ = self.encoder(self.dropout(self.embedded(ids, mask)), mask)
        return hidden, mask

    def embedded(self, ids: Tensor, mask: Tensor) -> Tensor:
        """LN(token + position + segment), (B, T, H)."""
        masks.check_ids(ids, mask)
        length, room, start = ids.shape[1], self.config.maximum_positions, self.config.position_offset
        if length > room:
            raise ValueError(f"a row of {length} tokens is longer than the table of {room} learned positions")
        x = F.embedding(ids, self.tokens) + self.positions[start : start + length]
        if self.segments is not None:
            x = x + (self.segments[0] if len(self.segments) == 1 else F.embedding(self.segment_ids(ids), self.segments))
        return self.norm(x)

    def segment_ids(self, ids: Tensor) -> Tensor:
        """(B, T): how many separators stand before each position, at most the last segment's number."""
        separator = -1 if self.config.separator is None else self.config.separator
        ends = ids.eq(separator).long()
        return (ends.cumsum(1) - ends).clamp(max=self.config.segments - 1)

    def pooled(self, hidden: Tensor) -> Tensor:
        """tanh(W h_0 + b), (B, T, H) → (B, H): what sentences, and pairs of them, are classified by. ValueError without a pooler."""
        if self.pooler is None:
            raise ValueError("this encoder has no pooler: it was trained without one")
        return torch.tanh(self.pooler(hidden[:, 0]))

    def layer_groups(self) -> list[list[str]]:
        """The names of the parameters, lowest layer first: embeddings, each block, the pooler."""
        names = [name for name, _ in self.named_parameters()]
        blocks = [[name for name in names if name.startswith(f"encoder.blocks.{layer}.")] for layer in range(self.config.layers)]
        above = [name for name in names if name.startswith("pooler.")]
        inside = {name for block in blocks for name in block} | set(above)
        return [[name for name in names if name not in inside], *blocks, *([above] if above else [])]


# Text encoders that take ids themselves, and are made to start from weights that are learnt already.
PRETRAINED_ENCODERS: dict[str, tuple[type, type[Module]]] = {
    "bert": (BertConfig, Bert),
    "language-model": (LanguageModelConfig, LanguageEncoder),
}


def make_pretrained_encoder(name: str, settings: Mapping[str, Any]) -> Module:
    """The text encoder of this name in PRETRAINED_ENCODERS. Raises ValueError for an unknown name or setting, with those that exist."""
    made, config = looked_up("encoder", PRETRAINED_ENCODERS, name, settings)
    return made(config)
