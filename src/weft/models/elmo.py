"""ELMo: words by their characters, read by two stacks of LSTMs that never meet; a mixture of their layers (E106; Peters et al., 2018).

A word's characters go through filters of several widths, their maxima, highway layers and a projection (Kim et al., 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module

from weft.data.batch import Batch
from weft.losses import Term
from weft.nn import masks, pooling
from weft.nn.convolution import Convolutions
from weft.nn.dropout import VariationalDropout
from weft.nn.embeddings import TokenEmbedding
from weft.nn.initialisation import normal_
from weft.nn.outputs import make_output
from weft.nn.recurrent import Recurrent, reverse, reversed_order

END = 0  # foretold beyond both ends of a sentence: the id that pads, which no word has


@dataclass(frozen=True)
class ElmoConfig:
    """vocabulary_size: of the words that are foretold; character_vocabulary: of those that they are read by. widths, filters: of filters
    over a word's characters, so many of each width; highways: layers after their maxima. size: of a word's vector and of each direction's
    states. output: a name in OUTPUTS but "tied". dropout: of what each layer reads, one mask a sentence.
    """

    vocabulary_size: int
    character_vocabulary: int
    character_size: int = 16
    widths: tuple[int, ...] = (1, 2, 3, 4, 5)
    filters: int = 64
    highways: int = 1
    size: int = 128
    layers: int = 2
    dropout: float = 0.1
    output: str = "adaptive"

    @classmethod
    def told(cls, config: Mapping[str, Any]) -> Self:
        """The config that JSON held."""
        given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}
        return cls(**given)


class CharacterEncoder(Module):
    """Characters of words (U, W), 0 after the end of each → (U, size): maxima of filters, highways, projection (Kim et al., 2016)."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        self.embedding = TokenEmbedding(vocabulary_size=config.character_vocabulary, size=config.character_size, std=0.3)
        self.filters = Convolutions(input_size=config.character_size, filters=config.filters, widths=config.widths)
        self.highways = nn.ModuleList(Highway(self.filters.output_size) for _ in range(config.highways))
        self.project = nn.Linear(self.filters.output_size, config.size)

    def forward(self, characters: Tensor) -> Tensor:
        x = torch.relu(pooling.max_over_time(*self.filters(self.embedding(characters), characters != 0)))
        for highway in self.highways:
            x = highway(x)
        projected: Tensor = self.project(x)
        return projected


class Highway(Module):
    """t ⊙ relu(Wx + b) + (1 − t) ⊙ x, t = σ(W_t x + b_t) (Srivastava et al., 2015); it begins by letting x through."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.change, self.gate = nn.Linear(size, size), nn.Linear(size, size)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        share = self.gate(x).sigmoid()
        return share * torch.relu(self.change(x)) + (1 - share) * x


class ElmoLayers(Module):
    """Batch of words with their forms → what ELMo knows of each: layers() → L + 1 tensors (B, T, 2·size).

    Layer 0 is the word's own vector, twice; layer j holds, side by side, the states of the j-th LSTM forwards, which has read the words up
    to this one, and backwards, which has read those from the end to it. Both begin at learnt vectors of a sentence's ends.
    """

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        if config.layers < 1:
            raise ValueError(f"layers={config.layers} must be at least 1")
        self.config, self.output_size = config, 2 * config.size
        self.characters = CharacterEncoder(config)
        self.ends = nn.Parameter(torch.empty(2, config.size))
        normal_(self.ends, std=0.1)
        shape: dict[str, Any] = {"cell": "lstm", "input_size": config.size, "hidden_size": config.size}
        self.forwards = nn.ModuleList(Recurrent(**shape) for _ in range(config.layers))
        self.backwards = nn.ModuleList(Recurrent(**shape) for _ in range(config.layers))
        self.dropout = VariationalDropout(config.dropout)

    def layers(self, batch: Batch) -> list[Tensor]:
        """Of each word of the batch, lowest first; zero at padding. Raises ValueError for a batch without forms."""
        x = self.words(batch)
        found = [torch.cat([x, x], -1)]
        for ahead, back in zip(*self.read(x, batch.mask), strict=True):
            found.append(masks.zeroed(torch.cat([ahead, back], -1)[:, 1:-1], batch.mask))
        return found

    def words(self, batch: Batch) -> Tensor:
        """The word vectors (B, T, size), worked out once for each distinct word."""
        if batch.forms is None:
            raise ValueError("ELMo reads words by their characters: the batch has none (Batches with a lexicon makes them)")
        vectors = F.embedding(batch.inputs, self.characters(batch.forms.characters))
        return masks.zeroed(vectors, batch.mask)

    def read(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Word vectors (B, T, size) → the states of each layer, forwards and backwards, (B, T + 2, size), both ends included."""
        lengths = mask.sum(1)
        rows = F.pad(x, (0, 0, 1, 1))
        place = torch.arange(rows.shape[1], device=x.device)
        first, last = (place == 0)[None, :, None], (place == lengths[:, None] + 1)[..., None]
        rows = torch.where(first, self.ends[0], torch.where(last, self.ends[1], rows))
        shown = place < lengths[:, None] + 2
        order = reversed_order(lengths + 2, rows.shape[1])
        turned = reverse(rows.transpose(0, 1).contiguous(), order).transpose(0, 1)
        back = [reverse(one.transpose(0, 1).contiguous(), order).transpose(0, 1) for one in self._run(self.backwards, turned, shown)]
        return self._run(self.forwards, rows, shown), back

    def _run(self, stack: nn.ModuleList, x: Tensor, mask: Tensor) -> list[Tensor]:
        """Each layer's states, what it read added to all but the first's."""
        found: list[Tensor] = []
        for layer in stack:
            hidden, _ = layer(self.dropout(x), mask)
            x = hidden + x if found else hidden
            found.append(x)
        return found


class BothWays(NamedTuple):
    """−log p of each word and end, row by row, (M,): from what is before it, and from what is after it."""

    forward: Tensor
    backward: Tensor


class Elmo(Module):
    """Two language models that share word vectors and output layer: Batch → BothWays.

    Forwards from the beginning a sentence's words and its end are foretold, backwards from its end its words and its beginning.
    """

    def __init__(self, config: ElmoConfig, counts: Sequence[int] | np.ndarray | None = None) -> None:
        super().__init__()
        if config.output == "tied":
            raise ValueError("words that are read by their characters have no table of embeddings to tie an output layer to")
        self.config, self.network = config, ElmoLayers(config)
        self.output = make_output(config.output, size=config.size, vocabulary_size=config.vocabulary_size, counts=counts)

    def forward(self, batch: Batch) -> BothWays:
        x = self.network.words(batch)
        ahead, back = self.network.read(x, batch.mask)
        assert batch.forms is not None
        ids = F.pad(batch.forms.word[batch.inputs].masked_fill(~batch.mask, END), (1, 1), value=END)
        counted = F.pad(batch.mask, (1, 0), value=True)  # (B, T + 1): there is a next one, a word or the end
        dropped = [self.network.dropout(states[-1]) for states in (ahead, back)]
        return BothWays(
            self.output(dropped[0][:, :-1][counted], ids[:, 1:][counted]), self.output(dropped[1][:, 1:][counted], ids[:, :-1][counted])
        )


@dataclass
class BothDirections:
    """−Σ_k log p(t_k | t_<k), and −Σ_k log p(t_k | t_>k): two terms, each a mean over words and ends (E106)."""

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        found, counts = model(batch), self.counts(batch)
        return {name: Term(getattr(found, name).sum(), counts[name]) for name in counts}

    def counts(self, batch: Batch) -> dict[str, float]:
        """Words and an end a sentence."""
        return dict.fromkeys(("forward", "backward"), float(batch.mask.sum()) + len(batch))


class LayerMixture(Module):
    """γ Σ_j s_j h_j, s = softmax(w) (E106): the mean of the layers at first."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.weights, self.scale = nn.Parameter(torch.zeros(layers)), nn.Parameter(torch.ones(()))

    def shares(self) -> Tensor:
        """s (layers,)."""
        return torch.softmax(self.weights, 0)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        if len(layers) != len(self.weights):
            raise ValueError(f"a mixture of {len(self.weights)} layers got {len(layers)}")
        mixed: Tensor = self.scale * sum(share * layer for share, layer in zip(self.shares(), layers, strict=True))
        return mixed


class ElmoEmbedding(Module):
    """Batch → the mixture of ELMo's layers for each word, (B, T, 2·size): ELMo as it was trained, the mixture learnt by who reads it."""

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__()
        self.network, self.mixture = ElmoLayers(config).requires_grad_(False).eval(), LayerMixture(config.layers + 1)
        self.output_size = self.network.output_size

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            layers = self.network.layers(batch)
        mixed: Tensor = self.mixture(layers)
        return mixed
