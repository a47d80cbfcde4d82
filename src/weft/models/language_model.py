"""Language models: p(x) = Π_i p(x_i | x_{<i}) by any causal encoder under any output layer (E79, E80, E105).

A window of words (Bengio et al., 2003), recurrent networks (Mikolov et al., 2010) whose state goes on from window to window, with the
regularisation of Merity et al. (2018); a decoder-only Transformer, GPT (Radford et al., 2018, 2019). Tied weights: Press & Wolf (2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Module

from weft.data.batch import IGNORED, Batch
from weft.models.decoders import Step
from weft.models.encoders import ENCODERS, RecurrentEncoder, Transformer, make_encoder
from weft.models.layers import layers_of
from weft.nn.cells import State
from weft.nn.dropout import Dropout, VariationalDropout, dropout
from weft.nn.embeddings import TokenEmbedding
from weft.nn.initialisation import normal_
from weft.nn.outputs import make_output

CAUSAL = ("window", "recurrent", "transformer")  # encoders that can be kept from seeing what comes
SETS_COME_WHOLE = "prompts that are read together are of one length"


@dataclass(frozen=True)
class LanguageModelConfig:
    """The whole network, as it is written to config.json.

    vocabulary_size: ids that are read and foretold. end: the id that stands before a text and after it, the last one where it is −1.
    encoder: of CAUSAL, with its settings; it is made causal. output: a name in OUTPUTS, with its options; output_bias: whether it has one.
    embedding_std: of the normal start. residual_std: where it is above 0, the linear layers of a Transformer start as normal noise of
    this deviation, those that write to the residual stream of 1/√(2 · layers) of it (Radford et al., 2019).

    Dropouts: embedding_dropout of whole columns of what the encoder reads, dropout of those of what it gives, one mask a row for each; of
    a Transformer, whose positions are each for themselves, of single units. type_dropout: of a word's vector wherever the word stands.
    sparse: the gradient of embeddings that are not tied holds the rows that a batch looks up alone.
    """

    vocabulary_size: int
    end: int = -1
    encoder: str = "transformer"
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    embedding_size: int = 128
    embedding_std: float = 0.02
    output: str = "tied"
    output_settings: Mapping[str, Any] = field(default_factory=dict)
    output_bias: bool = False
    residual_std: float = 0.0
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    type_dropout: float = 0.0
    sparse: bool = False


class Scored(NamedTuple):
    """What a network makes of a batch: −log p of each target that counts (M,), row by row; the encoder's states (B, T, H), and those after
    dropout."""

    losses: Tensor
    hidden: Tensor
    dropped: Tensor


class Reading(NamedTuple):
    """Rows read so far: the encoder's state, the scores of the next token where they are there already (N, V), and, of an encoder that sees
    only so many tokens, their ids (N, t)."""

    state: Any
    scores: Tensor | None
    ids: Tensor | None


class LanguageModel(Module):
    """Batch of ids (B, T) with targets (B, T), the tokens after, IGNORED where none counts → Scored; a Decoder for searches.

    Of batches that are windows of streams (Batch.continues) a recurrent network keeps each row's last state: the next window of the same
    row goes on from there, without a gradient into what was before (truncated backpropagation through time). What a step has read becomes
    what the next goes on from with `carry`, so that a step which is broken off leaves no trace; `carried` (states, layers, rows, H) is part
    of a checkpoint.

    counts (V,): of the words, for output layers that rank them. Raises ValueError for an encoder that would see what it is to foretell.
    """

    def __init__(self, config: LanguageModelConfig, counts: Sequence[int] | np.ndarray | None = None) -> None:
        super().__init__()
        self.config = config
        self.start_symbol = self.end_symbol = config.end % config.vocabulary_size
        if not -1 <= config.end < config.vocabulary_size:
            raise ValueError(f"end={config.end} is no id of a vocabulary of {config.vocabulary_size}")
        self.encoder = make_encoder(config.encoder, config.embedding_size, causal(config.encoder, config.encoder_settings))
        self.embedding = embeddings(config)
        self.output = make_output(
            config.output, size=int(self.encoder.output_size), vocabulary_size=config.vocabulary_size,  # type: ignore[arg-type]
            weight=self.embedding.weight, counts=counts, bias=config.output_bias, **config.output_settings,  # type: ignore[arg-type]
        )  # fmt: skip
        for name in ("dropout", "embedding_dropout", "type_dropout"):
            if not 0 <= getattr(config, name) < 1:
                raise ValueError(f"{name}={getattr(config, name)} must be at least 0 and below 1")
        kind = Dropout if config.encoder == "transformer" else VariationalDropout
        self.embedding_dropout, self.dropout = kind(config.embedding_dropout), kind(config.dropout)
        if config.residual_std:
            self._restart(config.residual_std)
        self.carried: Tensor | None = None
        self._read: Tensor | None = None  # what `carry` makes of it, by the step that is under way

    @property
    def context(self) -> int | None:
        """How many tokens are seen at once at most; None where there is no limit."""
        if isinstance(self.encoder, Transformer):
            return int(_settings(self.config)["maximum_positions"])
        return None

    @property
    def recurrent(self) -> bool:
        """Whether its state can go on from window to window."""
        return isinstance(self.encoder, RecurrentEncoder)

    def forward(self, batch: Batch) -> Scored:
        if batch.targets is None:
            raise ValueError("a language model learns from the tokens after those that it reads, but the batch has no targets")
        x = self.embedded(batch.inputs)
        if batch.continues is not None and self.training and isinstance(self.encoder, RecurrentEncoder):
            hidden, state = self.encoder.begin(x, self._going_on(batch))
            self._keep(batch.source, state)
        else:
            hidden, _ = self.encoder(x, batch.mask)
        dropped = self.dropout(hidden)
        counted = batch.targets != IGNORED
        if bool(counted.all()):
            return Scored(self.output(dropped.flatten(0, 1), batch.targets.flatten()), hidden, dropped)
        return Scored(self.output(dropped[counted], batch.targets[counted]), hidden, dropped)

    def embedded(self, ids: Tensor) -> Tensor:
        """ids (B, T) → what the encoder reads, (B, T, embedding_size)."""
        x: Tensor = self.embedding(ids)
        if self.training and self.config.type_dropout:
            x = x * dropout(x.new_ones(self.config.vocabulary_size, 1), self.config.type_dropout)[ids]
        entering: Tensor = self.embedding_dropout(x)
        return entering

    def carry(self) -> None:
        """After a step: where the rows that it read now stand is where the next windows go on."""
        if self._read is not None:
            self.carried, self._read = self._read, None

    def _going_on(self, batch: Batch) -> State | None:
        """The states that the rows of a batch begin with; None at a stream's start."""
        if not batch.continues:
            return None
        if self.carried is None or self.carried.shape[2] <= int(batch.source.max()):
            raise ValueError("a window goes on where another ended, but none was read before it")
        return tuple(self.carried.index_select(2, batch.source).unbind())

    def _keep(self, source: Tensor, state: State) -> None:
        """Takes the last states of these rows for `carry`."""
        last = torch.stack([part.detach() for part in state])  # (states, L, B, H)
        rows = 1 + int(source.max())
        known = self._read if self._read is not None else self.carried
        if known is None or known.shape[2] < rows:
            wider = last.new_zeros(*last.shape[:2], rows, last.shape[3])
            if known is not None:
                wider[:, :, : known.shape[2]] = known
            known = wider
        self._read = known.index_copy(2, source, last.to(known.dtype))

    # As searches see it.
    def start(self, source: Batch) -> Reading:
        """As Decoder.start: a batch's rows are what is gone on with, the end symbol first; all of one length."""
        if not bool(source.mask.all()):
            raise ValueError(SETS_COME_WHOLE)
        return self._begun(source.inputs)

    def step(self, ids: Tensor, state: Reading) -> Step:
        """As Decoder.step; the first token, a start symbol, is in the prompt already."""
        if state.scores is not None:
            return Step(state.scores, state._replace(scores=None))
        read = None if state.ids is None else torch.cat([state.ids, ids[:, None]], 1)
        if read is not None and self.context is not None and read.shape[1] > self.context:
            begun = self._begun(read[:, -self._kept(self.context) :])
            return Step(begun.scores, begun._replace(scores=None))  # type: ignore[arg-type]
        hidden, after = self.encoder.advance(self.embedded(ids[:, None])[:, 0], state.state)  # type: ignore[operator]
        return Step(self.scores(hidden), Reading(after, None, read))

    def reorder(self, state: Reading, rows: Tensor, sources: Tensor | None = None) -> Reading:
        """As Decoder.reorder."""
        scores = None if state.scores is None else state.scores[rows]
        ids = None if state.ids is None else state.ids[rows]
        return Reading(self.encoder.reordered(state.state, rows), scores, ids)  # type: ignore[operator]

    def scores(self, hidden: Tensor) -> Tensor:
        """hidden (N, H) → scores of the next token (N, V) that a softmax makes its probabilities."""
        logits = getattr(self.output, "logits", self.output.log_probabilities)  # what is not normalised yet is quicker
        scored: Tensor = logits(hidden)
        return scored

    def _begun(self, ids: Tensor) -> Reading:
        """Rows of ids (N, t) read from their start; where they are more than can be seen at once, their last ones."""
        if self.context is None:
            hidden, state = self.encoder.begin(self.embedded(ids))  # type: ignore[operator]
            return Reading(state, self.scores(hidden[:, -1]), None)
        seen = ids[:, -self.context :]
        hidden, state = self.encoder.begin(self.embedded(seen), room=min(self.context, seen.shape[1] + 64))  # type: ignore[operator]
        return Reading(state, self.scores(hidden[:, -1]), seen)

    @staticmethod
    def _kept(context: int) -> int:
        """How many of the last tokens, the new one among them, are read anew where there are more than can be seen at once."""
        return max(1, context // 2)

    def layer_groups(self) -> list[list[str]]:
        """The names of the parameters by layer, lowest first: embeddings and what is added to them, each layer of the encoder."""
        return layers_over_words(self.encoder)

    def _restart(self, std: float) -> None:
        """The start of GPT-2's weights."""
        if not isinstance(self.encoder, Transformer):
            raise ValueError(f"residual_std is a Transformer's, not of the encoder {self.config.encoder!r}")
        blocks = self.encoder.encoder.blocks
        for name, module in blocks.named_modules():
            if isinstance(module, nn.Linear):
                writes = name.endswith(("attention.output", "feed_forward.leave"))
                normal_(module.weight, std=std / (2 * len(blocks)) ** 0.5 if writes else std)


def layers_over_words(encoder: Module) -> list[list[str]]:
    """The names of the parameters of `embedding.weight` and `encoder` by layer: embeddings and what is added to them, then each layer."""
    own = ["embedding.weight"]
    first, *groups = layers_of(encoder, "encoder.")
    if first[0].startswith(("encoder.project.", "encoder.positions.")):
        return [own + first, *groups]
    return [own, first, *groups]


def embeddings(config: LanguageModelConfig) -> Module:
    """The embeddings. Those that are the output's weights too have no row that stays zero: every id can be foretold."""
    if config.output != "tied":
        return TokenEmbedding(
            vocabulary_size=config.vocabulary_size, size=config.embedding_size, std=config.embedding_std, sparse=config.sparse
        )
    table = nn.Embedding(config.vocabulary_size, config.embedding_size)
    normal_(table.weight, std=config.embedding_std)
    return table


def causal(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """An encoder's settings, made causal. Raises ValueError where it cannot be."""
    if name not in CAUSAL:
        raise ValueError(f"the encoder {name!r} sees what comes after: a language model's is one of {', '.join(CAUSAL)}")
    if settings.get("bidirectional"):
        raise ValueError("a language model reads one way: bidirectional=True would see what it is to foretell")
    return {**settings, "causal": True} if any(item.name == "causal" for item in fields(ENCODERS[name][0])) else dict(settings)


def _settings(config: LanguageModelConfig) -> dict[str, Any]:
    """The encoder's settings, its own defaults too."""
    return {**{item.name: item.default for item in fields(ENCODERS[config.encoder][0])}, **config.encoder_settings}
