"""A language model as an encoder of texts: its embeddings and its encoder, without what foretells (E107; Howard & Ruder, 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Module

from weft.models.encoders import make_encoder
from weft.models.language_model import LanguageModelConfig, causal, embeddings, layers_over_words
from weft.nn import masks
from weft.nn.dropout import Dropout, VariationalDropout


class LanguageEncoder(Module):
    """Ids (B, T) and their mask (B, T) → (hidden (B, T, H), mask): a LanguageModel's states, of its weights by the same names.

    Of the config's dropouts, those of embeddings and in the encoder count; every row begins anew. Raises ValueError where ids and mask are
    not of one shape (B, T), T at least 1.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = embeddings(config)
        self.encoder = make_encoder(config.encoder, config.embedding_size, causal(config.encoder, config.encoder_settings))
        self.dropout = (Dropout if config.encoder == "transformer" else VariationalDropout)(config.embedding_dropout)
        self.output_size = int(self.encoder.output_size)  # type: ignore[arg-type]

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        masks.check_ids(ids, mask)
        hidden, mask = self.encoder(self.dropout(self.embedding(ids)), mask)
        return hidden, mask

    def layer_groups(self) -> list[list[str]]:
        """The names of the parameters by layer, lowest first."""
        return layers_over_words(self.encoder)
