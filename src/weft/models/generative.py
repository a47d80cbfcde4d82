"""Generative classifier: a language model that knows the class, p(text | class), and Bayes' rule (Yogatama et al., 2017).

One encoder reads the words whatever the class; every step's softmax sees the encoder's state and a vector of the class, [h_t; v_y] ("shared
LSTM", section 2.2 there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module

from weft.data.batch import Batch
from weft.errors import InputError
from weft.losses import CrossEntropy, Term
from weft.models.encoders import TextEncoder
from weft.models.language_model import causal
from weft.models.layers import layers_of
from weft.nn import masks
from weft.nn.dropout import Dropout, VariationalDropout
from weft.nn.initialisation import normal_
from weft.nn.outputs import FullOutput

END = 0  # stands before a text, as a vector of zeros, and is foretold after it: the id that pads, which no word has
SCORES = 2**24  # numbers that the output layer holds at once, where answers are given


@dataclass(frozen=True)
class GenerativeConfig:
    """The whole network, as it is written to config.json.

    outputs: classes. encoder: one that can be kept from seeing what comes, with its settings. class_size: of a class's vector. dropout: of
    the states, one mask a row (of a Transformer single units). The rest as in ClassifierConfig.
    """

    vocabulary_size: int
    outputs: int
    encoder: str = "recurrent"
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    embedding_size: int = 128
    class_size: int = 32
    dropout: float = 0.3
    word_dropout: float = 0.0
    embedding_dropout: float = 0.0
    embedding_std: float = 0.1
    sparse: bool = False
    vectors_mode: str = "non-static"


class Told(NamedTuple):
    """Texts with the class of each, (B,): what a generative classifier learns from."""

    batch: Batch
    classes: Tensor


class GenerativeClassifier(Module):
    """Batch → log p(class | text) (B, K); Told → −log p(text | class) of each text and its end (B,).

    p(w_t | w_<t, y) = softmax(W h_t + U v_y + b), where W and U are halves of one output layer's weights: what the words before say, tilted
    to the class. log p(y | text) is log p(text | y) + log p(y) less its logsumexp over the classes; `prior` (K,), log p(y), is what `know`
    is told. Raises ValueError for an encoder that would see what it is to foretell.
    """

    prior: Tensor

    def __init__(self, config: GenerativeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TextEncoder(
            vocabulary_size=config.vocabulary_size, embedding_size=config.embedding_size, encoder=config.encoder,
            encoder_settings=causal(config.encoder, config.encoder_settings), word_dropout=config.word_dropout,
            embedding_dropout=config.embedding_dropout, embedding_std=config.embedding_std, sparse=config.sparse,
            vectors_mode=config.vectors_mode,
        )  # fmt: skip
        self.dropout = (Dropout if config.encoder == "transformer" else VariationalDropout)(config.dropout)
        self.classes = nn.Parameter(torch.empty(config.outputs, config.class_size))
        normal_(self.classes, std=1.0)
        self.output = FullOutput(size=self.encoder.output_size + config.class_size, vocabulary_size=config.vocabulary_size)
        self.register_buffer("prior", torch.full((config.outputs,), 1 / config.outputs).log())

    def know(self, counts: Tensor) -> None:
        """The prior of classes that occurred so often, (K,); one that never did counts as one that did once."""
        share = counts.double().clamp(min=1)
        self.prior.copy_((share / share.sum()).log())

    def forward(self, batch: Batch | Told) -> Tensor:
        if isinstance(batch, Told):
            return self.losses(batch.batch, batch.classes)
        tilted, _ = self._parts(batch)
        return torch.log_softmax(tilted + self.prior, -1).float()

    def joint(self, batch: Batch) -> Tensor:
        """log p(text, class), the text's end included, (B, K) float64."""
        tilted, shared = self._parts(batch)
        return tilted + shared[:, None] + self.prior

    def losses(self, batch: Batch, classes: Tensor) -> Tensor:
        """−log p(text | class) of each text under its class (B,)."""
        hidden, rows, targets = self._read(batch)
        each = self.output(torch.cat([hidden, self.classes[classes][rows].to(hidden.dtype)], -1), targets)
        return each.new_zeros(len(classes)).index_add(0, rows, each)

    def layer_groups(self) -> list[list[str]]:
        """The encoder's parameters by layer, embeddings first; classes and output layer are in none."""
        return layers_of(self.encoder, "encoder.")

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The states before each token and before the end, row by row: (M, H), the row of each (M,), what comes next (M,)."""
        ids, mask = batch.inputs, batch.mask
        masks.check_ids(ids, mask)
        counted = F.pad(mask, (1, 0), value=True)
        hidden, _ = self.encoder(F.pad(ids, (1, 0), value=END), counted)
        next_ones = F.pad(ids.masked_fill(~mask, END), (0, 1), value=END)
        rows = counted.nonzero()[:, 0]
        return self.dropout(hidden)[counted], rows, next_ones[counted]

    def _parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """log p(text | class) in two parts, float64: what a class adds (B, K), and what the words before say whatever the class (B,).

        With p = softmax(W h + b) and o_y = U v_y: log p_y(w) = log p(w) + o_y(w) − log Σ_v p(v) e^{o_y(v)}. The sum is a product of
        matrices, so that K classes cost little more than one.
        """
        hidden, rows, targets = self._read(batch)
        size = self.encoder.output_size
        with torch.autocast(hidden.device.type, enabled=False):  # sums over a vocabulary need more than half precision
            tilt = (self.classes.float() @ self.output.weight[:, size:].float().mT).mT  # (V, K)
            highest = tilt.max(0).values
            weights = (tilt - highest).exp()
        tilted, shared = tilt.new_zeros(len(batch), len(self.classes), dtype=torch.float64), tilt.new_zeros(len(batch), dtype=torch.float64)
        size_of_part = max(1, SCORES // len(tilt))
        for start in range(0, len(rows), size_of_part):
            part = slice(start, start + size_of_part)
            base = F.linear(hidden[part], self.output.weight[:, :size], self.output.bias).float().log_softmax(-1)  # (N, V)
            with torch.autocast(hidden.device.type, enabled=False):
                added = tilt[targets[part]] - (base.exp() @ weights).log() - highest  # (N, K)
            tilted = tilted.index_add(0, rows[part], added.double())
            shared = shared.index_add(0, rows[part], base.gather(1, targets[part][:, None])[:, 0].double())
        return tilted, shared


@dataclass
class TextOfClass:
    """−Σ log p(text | class), a mean over tokens and ends of texts (E80); where a model has answered already, cross-entropy of its answers.

    Raises InputError for a target that is no class.
    """

    classes: int

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        targets = batch.targets
        if targets is None or targets.is_floating_point() or targets.shape != (len(batch),):
            raise InputError("a generative classifier learns from one class a text")
        if len(wrong := targets[(targets < 0) | (targets >= self.classes)]):
            raise InputError(f"target {int(wrong[0])} is not a class: ids go from 0 to {self.classes - 1}")
        found: Tensor = model(Told(batch, targets))
        if found.dim() == 2:
            return CrossEntropy()(lambda _: found, batch)
        return {"text": Term(found.sum(), self.counts(batch)["text"])}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Tokens and ends; rows."""
        return {"text": float(batch.mask.sum()) + len(batch), "cross-entropy": float(len(batch))}
