"""BERT in pretraining: the encoder under the two heads that are thrown away afterwards, hidden tokens and next sentences (E102, E103).

Devlin et al. (2019), section 3.1; without pairs: Liu et al. (2019).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Module

from weft.data.batch import IGNORED, Batch
from weft.models.bert import Bert, BertConfig
from weft.nn.activations import activation
from weft.nn.initialisation import normal_
from weft.nn.outputs import TiedOutput


class PretrainingOutputs(NamedTuple):
    """What a batch is answered with: logits (M, V) of the M tokens that are asked for, row after row, their ids (M,), and logits (B, 2) of
    whether B follows A and does not, None without that head."""

    logits: Tensor
    tokens: Tensor
    following: Tensor | None


class Pretraining(Module):
    """Batch → PretrainingOutputs. A batch's targets (B, T): the token where one is asked for; at position 0, [CLS], which never is, whether
    the row's two texts are neighbours (NEXT or OTHER of data.next_sentence); IGNORED elsewhere.

    Hidden tokens: softmax(E f(W h + b) + c), f an activation and a norm, E the token embeddings. Neighbours, with next_sentence: a linear
    layer on the pooler's output. Raises ValueError where that is wanted of an encoder without a pooler.
    """

    def __init__(self, config: BertConfig, *, next_sentence: bool = True) -> None:
        super().__init__()
        if next_sentence and not config.pooler:
            raise ValueError("next sentences are told by the pooler's output, and this encoder has none")
        self.config, size = config, config.hidden_size
        self.bert = Bert(config)
        self.transform, self.norm = nn.Linear(size, size), nn.LayerNorm(size, config.epsilon)
        self.function = activation(config.activation)
        self.tokens = TiedOutput(size=size, vocabulary_size=config.vocabulary_size, weight=self.bert.tokens)
        self.following = nn.Linear(size, 2) if next_sentence else None
        for layer in (self.transform, self.following):
            if layer is not None:
                normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, batch: Batch) -> PretrainingOutputs:
        hidden, _ = self.bert(batch.inputs, batch.mask)
        asked = asked_for(batch)
        assert batch.targets is not None
        following = None if self.following is None else self.following(self.bert.pooled(hidden))
        return PretrainingOutputs(self.logits(hidden[asked]), batch.targets[asked], following)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (M, H) → scores of every token (M, V)."""
        return self.tokens.logits(self.norm(self.function(self.transform(hidden))))


def asked_for(batch: Batch) -> Tensor:
    """Where a token is asked for, (B, T) bool. Raises ValueError for a batch without such targets."""
    if batch.targets is None or batch.targets.shape != batch.inputs.shape:
        raise ValueError("pretraining learns from targets (B, T), a hidden token or nothing at each position")
    asked = batch.targets != IGNORED
    return torch.cat([torch.zeros_like(asked[:, :1]), asked[:, 1:]], 1)
