"""Words by a pretrained encoder: a sentence's words are cut into the encoder's pieces, and each word is the state of its first one.

Devlin et al. (2019), 5.3. Uncased encoders do not see how a word is written: features of its form stand beside its state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Module

from weft.data.batch import Batch
from weft.models.bert import Bert, BertConfig
from weft.models.layers import layers_of
from weft.nn import masks
from weft.nn.embeddings import TokenEmbedding


class Pieces(NamedTuple):
    """Rows as an encoder reads them: ids (B, L) and their mask; starts (B, T): where each word's first piece stands."""

    ids: Tensor
    mask: Tensor
    starts: Tensor


class PieceEncoder(Module):
    """Batch → a vector for each word (B, T, H + features): the encoder's state of its first piece, and its features.

    encoder: the fields of a BertConfig; ends: the ids before and after a row; features: how many values each has, `feature_size` numbers of
    deviation `std` wide. Raises ValueError for a batch whose rows have more words than the encoder has positions, less the two ends.
    """

    def __init__(
        self, encoder: Mapping[str, Any], ends: tuple[int, int], features: Mapping[str, int], feature_size: int, std: float
    ) -> None:
        super().__init__()
        self.encoder, self.ends = Bert(BertConfig(**encoder)), ends
        self.features = nn.ModuleList(TokenEmbedding(vocabulary_size=values, size=feature_size, std=std) for values in features.values())
        self.output_size = self.encoder.output_size + feature_size * len(features)

    def forward(self, batch: Batch) -> Tensor:
        if batch.forms is None:
            raise ValueError("a tagger reads words: the batch has none (Batches with a lexicon makes them)")
        rows = in_pieces(batch.forms.pieces[batch.inputs], batch.mask, self.ends, self.encoder.config.maximum_positions)
        hidden, _ = self.encoder(rows.ids, rows.mask)
        states = hidden.gather(1, rows.starts.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        parts = [table(batch.forms.features[:, i])[batch.inputs] for i, table in enumerate(self.features)]
        return masks.zeroed(torch.cat([states, *parts], -1), batch.mask)

    def layer_groups(self) -> list[list[str]]:
        """The encoder's own; the features' tables are in none."""
        return layers_of(self.encoder, "encoder.")


def in_pieces(pieces: Tensor, mask: Tensor, ends: tuple[int, int], room: int) -> Pieces:
    """Words' pieces (B, T, P), each number 1 above its id and 0 where there is none, as rows of at most `room` ids.

    Of a row that would be longer, the words of the most pieces keep fewer, the first ones, at least one. Raises ValueError for more words
    than fit.
    """
    counts = pieces.gt(0).sum(-1).masked_fill(~mask, 0)  # (B, T)
    if mask.shape[1] > room - 2 and int(mask.sum(1).max()) > room - 2:
        raise ValueError(f"a row of {int(mask.sum(1).max())} words is longer than an encoder of {room} positions reads, {room - 2} of them")
    most = counts.amax(1, keepdim=True)  # (B, 1)
    while bool((over := torch.minimum(counts, most).sum(1, keepdim=True) > room - 2).any()):
        most = most - over.long()
    counts = torch.minimum(counts, most)
    after = counts.cumsum(1)
    starts, lengths = after - counts + 1, after[:, -1:] + 2  # (B, T), (B, 1)
    ids = pieces.new_zeros(len(pieces), int(lengths.max()))
    ids[:, 0] = ends[0]
    ids.scatter_(1, lengths - 1, ends[1])
    kept = torch.arange(pieces.shape[2], device=pieces.device) < counts.unsqueeze(-1)  # (B, T, P)
    row, word, piece = kept.nonzero(as_tuple=True)
    ids[row, starts[row, word] + piece] = pieces[row, word, piece] - 1
    return Pieces(ids, torch.arange(ids.shape[1], device=ids.device) < lengths, starts.masked_fill(~mask, 0))
