"""Encoders: vectors in, vectors out, (B, T, D), mask → (hidden (B, T', H), mask (B, T')); and text encoders, which take ids.

What the mask hides, NaN too, reaches neither an output nor a gradient; hidden is zero where the new mask hides it.

Deep averaging (Iyyer et al., 2015), windows (Collobert et al., 2011), CNN (Kim, 2014; Kalchbrenner et al., 2014; Yu & Koltun, 2016),
recurrent networks (Elman, 1990; Hochreiter & Schmidhuber, 1997; Cho et al., 2014), Transformer (Vaswani et al., 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module

from weft.nn import masks
from weft.nn.activations import activation
from weft.nn.cells import ELMAN, OPTIONS, State, gates_that_see
from weft.nn.convolution import Convolution1d, Convolutions
from weft.nn.dropout import Dropout, VariationalDropout, WordDropout
from weft.nn.embeddings import TokenEmbedding, TwoChannelEmbedding, bag, concatenated_windows
from weft.nn.positions import make_positions
from weft.nn.recurrent import Recurrent
from weft.nn.transformer import Cache, TransformerEncoder


def _check(x: Tensor, mask: Tensor, size: int) -> None:
    """Raises ValueError where x is not (B, T, size), or the mask does not fit."""
    masks.check(x, mask)
    if x.shape[2] != size:
        raise ValueError(f"the encoder reads vectors of size {size}, the input has {x.shape[2]}")


def _real(x: Tensor, mask: Tensor, size: int) -> Tensor:
    """x, checked, with zeros where nothing is real."""
    _check(x, mask, size)
    return masks.zeroed(x, mask)


@dataclass(frozen=True)
class BagConfig:
    """The mean of the vectors: nothing to choose."""


class BagEncoder(Module):
    """One vector per row, the mean of its real vectors (E34): T' = 1."""

    def __init__(self, input_size: int, config: BagConfig) -> None:
        super().__init__()
        self.output_size = input_size

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        _check(x, mask, self.output_size)
        return bag(x, mask).unsqueeze(1), mask.any(1, keepdim=True)


@dataclass(frozen=True)
class WindowConfig:
    """hidden_size: units per position; window: words on either side, with `causal` on the left alone; activation: after the linear
    layer."""

    hidden_size: int = 300
    window: int = 2
    activation: str = "tanh"
    causal: bool = False


class WindowEncoder(Module):
    """Each position sees its window, concatenated, through one hidden layer (E33; Collobert et al., 2011); causal: Bengio et al. (2003)."""

    def __init__(self, input_size: int, config: WindowConfig) -> None:
        super().__init__()
        self.window, self.input_size, self.output_size = config.window, input_size, config.hidden_size
        self.right = 0 if config.causal else config.window
        self.linear = nn.Linear((config.window + 1 + self.right) * input_size, config.hidden_size)
        self.activation = activation(config.activation)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        _check(x, mask, self.input_size)
        windows = concatenated_windows(x, mask, left=self.window, right=self.right)
        return self.activation(self.linear(windows)) * mask.unsqueeze(-1), mask

    def begin(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows from their start, x (N, T, D), with a causal window -> (hidden (N, T, H), what `advance` needs: the last vectors)."""
        hidden, _ = self(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
        return hidden, F.pad(x, (0, 0, self.window, 0))[:, x.shape[1] :]

    def advance(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One vector a row, x (N, D), after those of the state -> (hidden (N, H), state)."""
        window = torch.cat([state, x[:, None]], 1)
        return self.activation(self.linear(window.flatten(1))), window[:, 1:]

    def reordered(self, state: Tensor, rows: Tensor) -> Tensor:
        """The state of these rows."""
        return state[rows]


@dataclass(frozen=True)
class CNNConfig:
    """widths: words each kind of filter spans; filters: of each width; padding: "same", "narrow" or "wide" (E59)."""

    filters: int = 100
    widths: tuple[int, ...] = (3, 4, 5)
    padding: str = "same"
    activation: str = "relu"


class CNNEncoder(Module):
    """Parallel filters of several widths over the words (E58; Kim, 2014)."""

    def __init__(self, input_size: int, config: CNNConfig) -> None:
        super().__init__()
        self.convolutions = Convolutions(input_size=input_size, filters=config.filters, widths=config.widths, padding=config.padding)
        self.activation = activation(config.activation)
        self.keeps_zero = float(self.activation(torch.zeros(()))) == 0.0  # the convolutions leave zeros beyond the row's end
        self.output_size = config.filters * len(config.widths)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        hidden, mask = self.convolutions(x, mask)
        hidden = self.activation(hidden)
        return hidden if self.keeps_zero else hidden * mask.unsqueeze(-1), mask


@dataclass(frozen=True)
class DilatedCNNConfig:
    """One convolution per entry of dilations, each of `filters` filters `width` words wide, with a residual connection.

    A stride above 1 shortens the row at every layer, and leaves no residual connection.
    """

    filters: int = 200
    width: int = 3
    dilations: tuple[int, ...] = (1, 2, 4)
    stride: int = 1
    layer_dropout: float = 0.1
    activation: str = "relu"


class DilatedCNNEncoder(Module):
    """Stacked convolutions whose reach grows with their dilation (E61; Kalchbrenner et al., 2014; Yu & Koltun, 2016)."""

    def __init__(self, input_size: int, config: DilatedCNNConfig) -> None:
        super().__init__()
        self.input_size, self.project = input_size, nn.Linear(input_size, config.filters)
        shape: dict[str, Any] = {"filters": config.filters, "width": config.width, "stride": config.stride}
        self.layers = nn.ModuleList(Convolution1d(input_size=config.filters, dilation=dilation, **shape) for dilation in config.dilations)
        self.dropout, self.activation = Dropout(config.layer_dropout), activation(config.activation)
        self.output_size, self.stride = config.filters, config.stride

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = masks.zeroed(self.project(_real(x, mask, self.input_size)), mask)
        for layer in self.layers:
            hidden, mask = layer(x, mask)
            hidden = self.dropout(self.activation(hidden))
            x = masks.zeroed(hidden if self.stride > 1 else hidden + x, mask)
        return x, mask


@dataclass(frozen=True)
class RecurrentConfig:
    """cell: a name in CELLS; layers, bidirectional, residual: how cells are stacked (E68, E69); initial: "zero" or "learnt" first states.

    Dropouts of E70: of the first layer's inputs, between layers, of the last one's outputs, anew at every step; variational: one mask a
    sequence, on the states too; weight_dropout: of the weights between states. input_depth, state_depth, output_depth: further layers
    inside the step (E68). activation is an Elman cell's; forget_bias an LSTM's; peepholes ("" for the cell's own, gates' names with commas
    between, or "full") and output_sees ("new" or "old" cell) are those of the LSTM that has them; reset ("after", "before") and update
    ("old", "candidate") a GRU's.
    """

    cell: str = "lstm"
    hidden_size: int = 128
    layers: int = 1
    bidirectional: bool = False
    residual: bool = False
    initial: str = "zero"
    layer_dropout: float = 0.0
    input_dropout: float = 0.0
    output_dropout: float = 0.0
    variational: float = 0.0
    weight_dropout: float = 0.0
    input_depth: int = 0
    state_depth: int = 0
    output_depth: int = 0
    activation: str = "tanh"
    forget_bias: float = 1.0
    peepholes: str = ""
    output_sees: str = "new"
    reset: str = "after"
    update: str = "old"

    def options(self) -> dict[str, Any]:
        """What the cell's class takes. Raises ValueError for what it does not have, an activation apart, which is then not used."""
        if self.cell not in OPTIONS:
            raise ValueError(f"cell must be one of {', '.join(OPTIONS)}, not {self.cell!r}")
        own = OPTIONS[self.cell]
        for name in sorted({name for names in OPTIONS.values() for name in names} - {*own, "activation"}):
            if getattr(self, name) != getattr(RecurrentConfig, name):
                raise ValueError(f"{name} is not a choice of the cell {self.cell!r}, which has {', '.join(own)}")
        if "activation" in own and self.activation not in ELMAN:
            raise ValueError(f"activation must be one of {', '.join(ELMAN)} in the cell {self.cell!r}, not {self.activation!r}")
        if self.peepholes:
            gates_that_see(self.peepholes, self.cell == "coupled-lstm")
        chosen = {name: getattr(self, name) for name in own if name != "peepholes" or self.peepholes}
        return {**chosen, **{name: getattr(self, name) for name in ("input_depth", "state_depth", "output_depth")}}


class RecurrentEncoder(Module):
    """A (deep, bidirectional, residual) recurrent network, states of every position (E62–E76)."""

    def __init__(self, input_size: int, config: RecurrentConfig) -> None:
        super().__init__()
        self.recurrent = Recurrent(
            cell=config.cell, input_size=input_size, hidden_size=config.hidden_size, layers=config.layers,
            bidirectional=config.bidirectional, residual=config.residual, initial=config.initial,
            dropout=config.layer_dropout, input_dropout=config.input_dropout, output_dropout=config.output_dropout,
            variational=config.variational, weight_dropout=config.weight_dropout, **config.options(),
        )  # fmt: skip
        self.output_size = self.recurrent.output_size

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        hidden, mask = self.recurrent(_real(x, mask, self.recurrent.input_size), mask)
        return hidden, mask

    def begin(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Rows from their start, or from a state on, x (N, T, D), one way -> (hidden (N, T, H), the state after them)."""
        return self.recurrent.run(x, None, state)

    def advance(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One vector a row, x (N, D), after those of the state -> (hidden (N, H), state)."""
        return self.recurrent.step(x, state)

    def reordered(self, state: State, rows: Tensor) -> State:
        """The state of these rows."""
        return tuple(part.index_select(1, rows) for part in state)


@dataclass(frozen=True)
class TransformerConfig:
    """positions: one of POSITIONS, "learned" ones at most `maximum_positions` long; inner: feed-forward size, 0 for 4 · hidden_size;
    causal: a position sees those before it and itself alone."""

    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    inner: int = 0
    layer_dropout: float = 0.1
    norm: str = "pre"
    positions: str = "sinusoidal"
    maximum_positions: int = 512
    activation: str = "gelu"
    causal: bool = False


class Transformer(Module):
    """Self-attention blocks over vectors in their positions (E94–E99; Vaswani et al., 2017); causal: Radford et al. (2018; E105)."""

    def __init__(self, input_size: int, config: TransformerConfig) -> None:
        super().__init__()
        self.input_size, self.causal = input_size, config.causal
        self.project = nn.Identity() if input_size == config.hidden_size else nn.Linear(input_size, config.hidden_size)
        self.positions = make_positions(config.positions, size=config.hidden_size, length=config.maximum_positions)
        self.dropout = Dropout(config.layer_dropout)
        self.encoder = TransformerEncoder(
            layers=config.layers, size=config.hidden_size, heads=config.heads, inner=config.inner or 4 * config.hidden_size,
            dropout=config.layer_dropout, norm=config.norm, activation=config.activation, rotary=config.positions == "rotary",
            causal=config.causal,
        )  # fmt: skip
        self.output_size = config.hidden_size

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.dropout(self.positions(self.project(_real(x, mask, self.input_size))))
        if self.causal:
            masks.check_prefix(mask)
        # a causal row's padding stands behind all that is real, where nothing real looks: attention needs no mask, and its kernel is faster
        hidden, _ = self.encoder(x, None if self.causal else mask)
        return masks.zeroed(hidden, mask), mask

    def begin(self, x: Tensor, room: int = 16) -> tuple[Tensor, Cache]:
        """Rows from their start, x (N, T, D), causal -> (hidden (N, T, H), their keys and values, with room for so many)."""
        placed = self.positions(self.project(x))
        cache = Cache(len(self.encoder.blocks), len(x), placed, max(room, x.shape[1]))
        return self.encoder.step(placed, cache), cache

    def advance(self, x: Tensor, state: Cache) -> tuple[Tensor, Cache]:
        """One vector a row, x (N, D), after those of the state, which is spent -> (hidden (N, H), state)."""
        placed = self.positions(self.project(x)[:, None], state.length)
        return self.encoder.step(placed, state)[:, 0], state

    def reordered(self, state: Cache, rows: Tensor) -> Cache:
        """The state of these rows; the one given is spent."""
        state.reorder(rows)
        return state


ENCODERS: dict[str, tuple[type, type[Module]]] = {
    "bag": (BagConfig, BagEncoder),
    "window": (WindowConfig, WindowEncoder),
    "cnn": (CNNConfig, CNNEncoder),
    "dilated-cnn": (DilatedCNNConfig, DilatedCNNEncoder),
    "recurrent": (RecurrentConfig, RecurrentEncoder),
    "transformer": (TransformerConfig, Transformer),
}


def make_encoder(name: str, input_size: int, settings: Mapping[str, Any]) -> Module:
    """The encoder of this name in ENCODERS. Raises ValueError for an unknown name or setting, with those that exist."""
    made, config = looked_up("encoder", ENCODERS, name, settings)
    return made(input_size, config)


def looked_up(
    what: str, table: Mapping[str, tuple[type, type[Module]]], name: str, settings: Mapping[str, Any]
) -> tuple[type[Module], Any]:
    """The network of this name in a table, and its config. Raises ValueError for an unknown name or setting, with those that exist."""
    if name not in table:
        raise ValueError(f"no {what} {name!r}; there are {', '.join(table)}")
    config_type, made = table[name]
    known = {field.name for field in fields(config_type)}
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"{what} {name!r} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}")
    return made, config_type(**settings)


VECTORS_MODES = ("non-static", "static", "multichannel")  # what training does to the embedding table (Kim, 2014, section 3.1)


def make_embedding(mode: str, *, sparse: bool = False, **options: Any) -> TokenEmbedding | TwoChannelEmbedding:
    """A table that is trained ("non-static"), one that is not ("static"), or both, added ("multichannel"). ValueError for another mode."""
    if mode not in VECTORS_MODES:
        raise ValueError(f"no vectors mode {mode!r}; there are {', '.join(VECTORS_MODES)}")
    if mode == "multichannel":
        return TwoChannelEmbedding(sparse=sparse, **options)
    trained = mode == "non-static"
    return TokenEmbedding(sparse=sparse and trained, trained=trained, **options)


class TextEncoder(Module):
    """Token ids (B, T) → embeddings → dropout → encoder → (hidden (B, T', H), mask).

    Raises ValueError where ids and mask are not of one shape (B, T), T at least 1.
    word_dropout replaces whole tokens by the unknown one; embedding_dropout drops whole columns, the same at every position (E70).
    beside: the size of further vectors (B, T, beside) that each token comes with, which are read with its own.
    A bag over a large table never holds the (B, T, D) vectors: they are summed where they are looked up.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_size: int,
        encoder: str,
        encoder_settings: Mapping[str, Any],
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        embedding_std: float = 0.1,
        sparse: bool = False,
        vectors_mode: str = "non-static",
        beside: int = 0,
    ) -> None:
        super().__init__()
        table: dict[str, Any] = {"vocabulary_size": vocabulary_size, "size": embedding_size, "sparse": sparse, "std": embedding_std}
        self.embedding = make_embedding(vectors_mode, **table)
        self.word_dropout, self.word_dropout_rate = WordDropout(word_dropout), word_dropout
        self.embedding_dropout = VariationalDropout(embedding_dropout)
        if beside and encoder == "bag":
            raise ValueError("a bag takes the mean of its own table's words: another encoder for what stands beside them")
        self.encoder = make_encoder(encoder, embedding_size + beside, encoder_settings)
        self.output_size: int = self.encoder.output_size  # type: ignore[assignment]

    def forward(self, ids: Tensor, mask: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        masks.check_ids(ids, mask)
        if isinstance(self.encoder, BagEncoder):
            return self.averaged(ids, mask)
        x = self.embedding(self.word_dropout(ids))
        x = self.embedding_dropout(x if beside is None else torch.cat([x, beside], -1))
        hidden, mask = self.encoder(x, mask)
        return hidden, mask

    def averaged(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The bag's mean in one pass over the table; word dropout leaves words out of it (Iyyer et al., 2015)."""
        kept = mask
        if self.training and self.word_dropout_rate:
            kept = mask & (torch.rand(ids.shape, device=ids.device) >= self.word_dropout_rate)
            kept = torch.where(kept.any(1, keepdim=True), kept, mask)  # a row never loses all its words
        mean = self.embedding.bag(ids, kept)
        return self.embedding_dropout(mean.unsqueeze(1)), mask.any(1, keepdim=True)
