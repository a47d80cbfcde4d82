"""Decoders: the next token from those before it and a source, step by step or a whole target at once.

Recurrent: the source as a vector at the start (Sutskever et al., 2014) or at every step (Cho et al., 2014), or under attention, before the
step (Bahdanau et al., 2015) or after it, fed to the next one or not (Luong et al., 2015). Transformer (Vaswani et al., 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Module

from weft.models.encoders import looked_up
from weft.nn import masks
from weft.nn.alignment import Attention
from weft.nn.attention import Attended, Memory
from weft.nn.cells import Cell, State
from weft.nn.dropout import Dropout
from weft.nn.positions import make_positions
from weft.nn.recurrent import Recurrent
from weft.nn.transformer import Cache, Source, TransformerDecoder


class Step(NamedTuple):
    """What a decoder gives for one token read: logits (N, V) of the next one, its state and, where asked for, weights over the source
    (N, S)."""

    logits: Tensor
    state: Any
    attention: Tensor | None = None


class Decoder(Protocol):
    """What a search asks of a model, whether its state is recurrent or cached keys and values.

    Rows are grouped by source: of N = B·K rows, row r belongs to source r // K, so that what belongs to a source is held once. A state is
    spent by the step, or the reordering, that it is given to.
    """

    start_symbol: int
    end_symbol: int

    def start(self, source: Any) -> Any:
        """The state before the first token, a row a source."""
        ...

    def step(self, ids: Tensor, state: Any) -> Step:
        """Reads one token a row, ids (N,); the start symbol first."""
        ...

    def reorder(self, state: Any, rows: Tensor, sources: Tensor | None = None) -> Any:
        """The state of these rows (N',): repeated, dropped or permuted within their source. sources (B',): which stay, where some leave."""
        ...


class Encoded(NamedTuple):
    """What a decoder knows of its sources: states (B, S, H), zero where their mask (B, S) hides them, and one vector each (B, P)."""

    hidden: Tensor
    mask: Tensor
    vector: Tensor


class Decoded(NamedTuple):
    """Whole targets read: states (B, T, R); where asked for, maps of attention, (B, T, S) or (B, heads, T, S) each; of hard attention the
    log-probability of what it chose, (B, T)."""

    hidden: Tensor
    maps: tuple[Tensor, ...] = ()
    log_choice: Tensor | None = None


class Advanced(NamedTuple):
    """One token a row read: (N, R), the state, weights (N, S) where asked for, and log-probabilities of choices (N,)."""

    hidden: Tensor
    state: Any
    weights: Tensor | None = None
    log_choice: Tensor | None = None


def joined(steps: Sequence[Advanced]) -> Decoded:
    """Steps of one row a target, one after the other, as whole targets."""
    weights = [step.weights for step in steps if step.weights is not None]
    choices = [step.log_choice for step in steps if step.log_choice is not None]
    maps = (torch.stack(weights, 1),) if weights else ()
    return Decoded(torch.stack([step.hidden for step in steps], 1), maps, torch.stack(choices, 1) if choices else None)


@dataclass(frozen=True)
class RecurrentDecoderConfig:
    """cell, hidden_size, layers: of the network. condition: where the source's vector enters: "initial" states, the "first" step's input,
    "every" step's, or "none" (E67).

    attention: a name in SCORES, or "none"; align: how its scores become weights, in ALIGNMENTS; attention_size: of the scores that have
    hidden units; reach: of local windows, to each side. attend: "before" the step, with the state that is there, its context read by the
    step; or "after" it, with the new state. feed: what came out (after attention) is read by the next step too. layer_dropout: between
    layers.
    """

    cell: str = "gru"
    hidden_size: int = 256
    layers: int = 1
    condition: str = "initial"
    attention: str = "additive"
    align: str = "soft"
    attention_size: int = 128
    reach: int = 10
    attend: str = "before"
    feed: bool = False
    layer_dropout: float = 0.0


CONDITIONS = ("initial", "first", "every", "none")
ATTEND = ("before", "after")
SHARPNESS = {"sharpness": 10.0, "learnt": True}  # of cosines, which are at most 1: where β starts
OF_EQUAL_SIZES = ("cosine", "dot", "scaled-dot")  # scores of two vectors of one size: sources of another are brought to it


class RecurrentState(NamedTuple):
    """layers: (L, N, H) each; fed (N, R); previous alignment (B, K, S); position: tokens read so far; what is known of the sources."""

    layers: State
    fed: Tensor | None
    previous: Tensor | None
    position: int
    memory: Memory | None
    vector: Tensor


class RecurrentDecoder(Module):
    """s_{j+1} = R(s_j, [t_j; c]), c fixed, or c^j = attend(s, sources) (E67, E81, E90): tokens' vectors (B, T, input_size) -> (B, T, R)."""

    def __init__(self, input_size: int, source_size: int, vector_size: int, config: RecurrentDecoderConfig) -> None:
        super().__init__()
        for name, value, there in (("condition", config.condition, CONDITIONS), ("attend", config.attend, ATTEND)):
            if value not in there:
                raise ValueError(f"{name}={value!r} must be one of {', '.join(there)}")
        attentive = config.attention != "none"
        if config.feed and not (attentive and config.attend == "after"):
            raise ValueError("feed=True is for attention after the step, whose outcome the next step reads")
        self.config, self.input_size, self.attentive = config, input_size, attentive
        self.before = attentive and config.attend == "before"
        equal = config.attention in OF_EQUAL_SIZES and source_size != config.hidden_size
        self.source = nn.Linear(source_size, config.hidden_size, bias=False) if equal else nn.Identity()
        source_size = config.hidden_size if equal else source_size
        self.output_size = config.hidden_size
        fixed = vector_size if config.condition in ("first", "every") else 0
        further = fixed + (source_size if self.before else 0) + (config.hidden_size if config.feed else 0)
        self.recurrent = Recurrent(
            cell=config.cell, input_size=input_size + further, hidden_size=config.hidden_size, layers=config.layers,
            dropout=config.layer_dropout,
        )  # fmt: skip
        states = self.recurrent.cells[0].states
        bridge = config.condition == "initial"
        self.bridge = nn.Linear(vector_size, int(states) * config.layers * config.hidden_size) if bridge else None  # type: ignore[arg-type]
        if attentive:
            self.attention = Attention(
                score=config.attention, align=config.align, query_size=config.hidden_size, key_size=source_size,
                hidden_size=config.attention_size, window=config.reach, **(SHARPNESS if config.attention == "cosine" else {}),
            )  # fmt: skip
            read = config.hidden_size + source_size + (input_size if self.before else 0)
            self.readout = nn.Linear(read, config.hidden_size)
        # a pointer that moves needs the step before; all other alignments come from the state of their own step
        self.stepwise = attentive and (self.before or config.feed or config.align == "monotonic")

    def start(self, encoded: Encoded) -> RecurrentState:
        """Before the first token, a row a source."""
        vector = encoded.vector
        layers = self.recurrent.begin(vector)
        if self.bridge is not None:
            whole = torch.tanh(self.bridge(vector)).view(len(vector), len(layers), self.config.layers, -1)  # (B, states, L, H)
            layers = tuple(part.transpose(0, 1).contiguous() for part in whole.unbind(1))
        memory = self.attention.read(self.source(encoded.hidden), encoded.mask) if self.attentive else None
        fed = vector.new_zeros(len(vector), self.config.hidden_size) if self.config.feed else None
        return RecurrentState(layers, fed, None, 0, memory, vector)

    def forward(self, x: Tensor, encoded: Encoded, *, weights: bool = False) -> Decoded:
        """x (B, T, input_size): in one sweep where the equations allow, else step by step."""
        state = self.start(encoded)
        if not self.stepwise:
            return self._swept(x, state, weights)
        steps: list[Advanced] = []
        for token, ready in zip(x.unbind(1), self.prepare(x).unbind(1), strict=True):
            steps.append(self.advance(token, state, weights=weights, prepared=ready))
            state = steps[-1].state
        return joined(steps)

    def _swept(self, x: Tensor, state: RecurrentState, weights: bool) -> Decoded:
        hidden, _ = self.recurrent.run(torch.cat([x, *self._fixed(state, x.shape[1])], -1), None, state.layers)
        if state.memory is None:
            return Decoded(hidden)
        seen = self.attention(hidden, state.memory, position=torch.arange(x.shape[1], device=x.device), weights=weights)
        read = torch.tanh(self.readout(torch.cat([hidden, seen.context], -1)))
        return Decoded(read, () if seen.weights is None else (seen.weights,), seen.log_choice)

    def prepare(self, x: Tensor) -> Tensor:
        """The tokens' part in the first cell's gates, (..., input_size) -> (..., gates * H): of all steps in one product."""
        cell = self.recurrent.cells[0]
        assert isinstance(cell, Cell)
        return F.linear(x, cell.input_weight[:, : self.input_size], cell.bias)

    def advance(self, x: Tensor, state: RecurrentState, *, weights: bool = False, prepared: Tensor | None = None) -> Advanced:
        """One token a row, x (N, input_size). `prepared`: what `prepare` makes of it, where it is there already."""
        further = [part.squeeze(1) for part in self._fixed(state, 1, len(x) // len(state.vector))]
        seen = None
        if self.before:
            seen = self._attend(state.layers[0][-1], state, weights)
            further.append(seen.context)
        if state.fed is not None:
            further.append(state.fed)
        projected = self.prepare(x) if prepared is None else prepared
        if further:
            cell = self.recurrent.cells[0]
            assert isinstance(cell, Cell)
            projected = projected + F.linear(torch.cat(further, -1), cell.input_weight[:, self.input_size :])
        hidden, layers = self.recurrent.step(x, state.layers, projected)
        if self.attentive and not self.before:
            seen = self._attend(hidden, state, weights)
        if seen is not None:
            hidden = torch.tanh(self.readout(torch.cat([hidden, seen.context, *([x] if self.before else [])], -1)))
        fed = None if state.fed is None else hidden
        previous = None if seen is None else seen.state
        after = state._replace(layers=layers, fed=fed, previous=previous, position=state.position + 1)
        return Advanced(hidden, after, None if seen is None else seen.weights, None if seen is None else seen.log_choice)

    def reorder(self, state: RecurrentState, rows: Tensor, sources: Tensor | None = None) -> RecurrentState:
        """As Decoder.reorder."""
        count = len(state.vector) if sources is None else len(sources)
        previous, memory, vector = state.previous, state.memory, state.vector
        if previous is not None:
            previous = previous.flatten(0, 1)[rows].view(count, -1, previous.shape[-1])
        if sources is not None:
            memory = None if memory is None else Memory(*(part[sources] for part in memory))
            vector = vector[sources]
        layers = tuple(part.index_select(1, rows) for part in state.layers)
        fed = None if state.fed is None else state.fed[rows]
        return RecurrentState(layers, fed, previous, state.position, memory, vector)

    def _fixed(self, state: RecurrentState, steps: int, copies: int = 1) -> list[Tensor]:
        """The source's vector as input of some steps from `state` on, (N, steps, P), or nothing."""
        if self.config.condition not in ("first", "every"):
            return []
        vector = state.vector.repeat_interleave(copies, 0)[:, None].expand(-1, steps, -1)
        if self.config.condition == "first":
            number = torch.arange(state.position, state.position + steps, device=vector.device)
            vector = vector * (number == 0)[:, None]
        return [vector]

    def _attend(self, query: Tensor, state: RecurrentState, weights: bool) -> Attended:
        """query (N, H) -> what is seen of each row's source, a row each but for the alignment to hand on, (B, K, S)."""
        memory = state.memory
        assert memory is not None
        grouped = query.view(len(memory.values), -1, query.shape[-1])  # (B, K, H)
        found = self.attention(grouped, memory, previous=state.previous, position=state.position, weights=weights)
        shown = None if found.weights is None else found.weights.flatten(0, 1)
        chosen = None if found.log_choice is None else found.log_choice.flatten()
        return found._replace(context=found.context.flatten(0, 1), weights=shown, log_choice=chosen)


@dataclass(frozen=True)
class TransformerDecoderConfig:
    """As TransformerConfig. positions: "sinusoidal", "learned" (at most `maximum_positions`), "rotary" or "none"."""

    hidden_size: int = 256
    layers: int = 3
    heads: int = 4
    inner: int = 0
    layer_dropout: float = 0.1
    norm: str = "pre"
    positions: str = "sinusoidal"
    maximum_positions: int = 512
    activation: str = "relu"


class TransformerState(NamedTuple):
    """The keys and values of what was read, and of the sources."""

    cache: Cache
    source: Source


class Transformer(Module):
    """Decoder blocks over positions added to the tokens' vectors (E100): (B, T, input_size) -> (B, T, hidden_size)."""

    def __init__(self, input_size: int, source_size: int, vector_size: int, config: TransformerDecoderConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.enter = nn.Identity() if input_size == size else nn.Linear(input_size, size)
        self.source = nn.Identity() if source_size == size else nn.Linear(source_size, size)
        self.positions = make_positions(config.positions, size=size, length=config.maximum_positions)
        self.dropout = Dropout(config.layer_dropout)
        self.decoder = TransformerDecoder(
            layers=config.layers, size=size, heads=config.heads, inner=config.inner or 4 * size, dropout=config.layer_dropout,
            norm=config.norm, activation=config.activation, rotary=config.positions == "rotary",
        )  # fmt: skip
        self.output_size, self.layers = size, config.layers

    def start(self, encoded: Encoded) -> TransformerState:
        """Before the first token, a row a source."""
        hidden = self._seen(encoded)
        return TransformerState(Cache(self.layers, len(hidden), hidden), self.decoder.read(hidden, encoded.mask))

    def forward(self, x: Tensor, encoded: Encoded, *, weights: bool = False) -> Decoded:
        """x (B, T, input_size), all steps at once."""
        entered = self.dropout(self.positions(self.enter(x)))
        hidden, maps = self.decoder(entered, self._seen(encoded), encoded.mask, weights=weights)
        return Decoded(hidden, tuple(maps))

    def _seen(self, encoded: Encoded) -> Tensor:
        """The states of the sources in this decoder's size; what is masked, NaN too, becomes zeros before any weight of zero meets it."""
        seen: Tensor = self.source(masks.zeroed(encoded.hidden, encoded.mask))
        return seen

    def advance(self, x: Tensor, state: TransformerState, *, weights: bool = False) -> Advanced:
        """One token a row, x (N, input_size). The weights are the mean over the heads of the last layer."""
        placed = self.positions(self.enter(x)[:, None], state.cache.length)
        hidden, maps = self.decoder.step(self.dropout(placed), state.cache, state.source, weights=weights)
        return Advanced(hidden[:, 0], state, maps[-1].mean(1) if maps else None)

    def reorder(self, state: TransformerState, rows: Tensor, sources: Tensor | None = None) -> TransformerState:
        """As Decoder.reorder."""
        state.cache.reorder(rows)
        return state if sources is None else state._replace(source=state.source.of(sources))


DECODERS: dict[str, tuple[type, type[Module]]] = {
    "recurrent": (RecurrentDecoderConfig, RecurrentDecoder),
    "transformer": (TransformerDecoderConfig, Transformer),
}


def make_decoder(name: str, sizes: tuple[int, int, int], settings: Mapping[str, Any]) -> Module:
    """The decoder of this name in DECODERS, for tokens' vectors, sources' states and sources' vectors of these sizes.

    Raises ValueError for an unknown name or setting, with those that exist.
    """
    made, config = looked_up("decoder", DECODERS, name, settings)
    return made(*sizes, config)
