"""Sequence to sequence: any encoder, any decoder; a text, a label or a vector in, a text out (E81–E84, E90).

Sutskever et al. (2014); Cho et al. (2014); Bahdanau et al. (2015); Vaswani et al. (2017). Output weights that are the embeddings: Press &
Wolf (2017). Scheduled sampling: Bengio et al. (2015); of all positions at once: Mihaylova & Martins (2019).
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
from weft.models.decoders import Advanced, Decoded, Encoded, RecurrentDecoder, Step, joined, make_decoder
from weft.models.encoders import make_encoder
from weft.nn.dropout import Dropout, WordDropout
from weft.nn.embeddings import TokenEmbedding
from weft.nn.initialisation import normal_
from weft.nn.pooling import Pooling

TIED = ("none", "output", "all")
SYMBOLS = 2  # the end and the start of a target, numbered after its tokens


@dataclass(frozen=True)
class Seq2SeqConfig:
    """The whole network, as it is written to config.json.

    source_vocabulary, target_vocabulary: tokens, padding among them; a target's end and start come on top. source_size: of vectors in the
    place of a text, 0 for texts. embedding_scale: a factor on embeddings, such as √size where they start small. tied: the output layer's
    weights are its own ("none"), the target's embeddings ("output"), or those of both sides ("all"). pooling: how a source becomes one
    vector. dropout: on embeddings and before the output; word_dropout: of source tokens. scheduled_sampling: the probability, in
    training, of reading a token of the model's own in the place of the true one.
    """

    source_vocabulary: int
    target_vocabulary: int
    source_size: int = 0
    encoder: str = "recurrent"
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    decoder: str = "recurrent"
    decoder_settings: Mapping[str, Any] = field(default_factory=dict)
    embedding_size: int = 256
    embedding_std: float = 0.1
    embedding_scale: float = 1.0
    tied: str = "none"
    pooling: str = "mean"
    dropout: float = 0.2
    word_dropout: float = 0.0
    scheduled_sampling: float = 0.0


class Predicted(NamedTuple):
    """What a network makes of a batch's targets: logits (M, V) of the M tokens of all targets, row after row, and, of hard attention, the
    log-probability of what it chose at each (M,) with a guess of what the rest of the target will get (M,)."""

    logits: Tensor
    log_choice: Tensor | None = None
    guess: Tensor | None = None


class Seq2Seq(Module):
    """Batch of pairs → Predicted; a Decoder for searches, whose source is a Batch.

    A batch's pair is the targets, each with the end symbol as its last token.
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        if config.tied not in TIED:
            raise ValueError(f"tied={config.tied!r} must be one of {', '.join(TIED)}")
        if not 0 <= config.scheduled_sampling <= 1:
            raise ValueError(f"scheduled_sampling={config.scheduled_sampling} must be from 0 to 1")
        self.config = config
        self.end_symbol, self.start_symbol = config.target_vocabulary, config.target_vocabulary + 1
        self.show_attention = False  # whether steps give their weights over the source
        table: dict[str, Any] = {"size": config.embedding_size, "std": config.embedding_std, "scale": config.embedding_scale}
        targets = config.target_vocabulary + SYMBOLS
        if config.tied == "all" and (config.source_vocabulary != config.target_vocabulary or config.source_size):
            raise ValueError(
                f"embeddings of both sides are one for one vocabulary, not {config.source_vocabulary} and {config.target_vocabulary} tokens"
            )
        rows = targets if config.tied == "all" else config.source_vocabulary
        self.source: Module = (
            nn.Linear(config.source_size, config.embedding_size) if config.source_size else TokenEmbedding(vocabulary_size=rows, **table)
        )
        self.target = None if config.tied == "all" else TokenEmbedding(vocabulary_size=targets, **table)
        self.word_dropout, self.dropout = WordDropout(config.word_dropout), Dropout(config.dropout)
        self.encoder = make_encoder(config.encoder, config.embedding_size, config.encoder_settings)
        states = int(self.encoder.output_size)  # type: ignore[arg-type]
        self.pooling = Pooling(kind=config.pooling, size=states)
        self.decoder = make_decoder(config.decoder, (config.embedding_size, states, self.pooling.output_size), config.decoder_settings)
        given = int(self.decoder.output_size)  # type: ignore[arg-type]
        bridged = config.tied != "none" and given != config.embedding_size
        self.leave = nn.Linear(given, config.embedding_size) if bridged else nn.Identity()
        self.weight = None if config.tied != "none" else nn.Parameter(torch.empty(targets - 1, given))
        if self.weight is not None:
            normal_(self.weight, std=given**-0.5)
        self.bias = nn.Parameter(torch.zeros(targets - 1))
        chooses = getattr(getattr(self.decoder, "attention", None), "align", "") == "hard"
        self.guess = nn.Linear(config.embedding_size + self.pooling.output_size, 1) if chooses else None

    def forward(self, batch: Batch) -> Predicted:
        target = _target(batch)
        encoded, ids = self.encode(batch), self.shifted(target)
        decoded = self.decode(encoded, ids)
        logits = self.logits(decoded.hidden[target.mask])
        if decoded.log_choice is None:
            return Predicted(logits)
        return Predicted(logits, decoded.log_choice[target.mask], self._guessed(encoded, ids, target.mask))

    def maps(self, batch: Batch) -> tuple[Tensor, ...]:
        """How each token of the targets, the end symbol too, is aligned with the sources: (B, T, S), or (B, heads, T, S) of each layer."""
        target = _target(batch)
        found: Decoded = self.decoder(self.embedded(self.shifted(target)), self.encode(batch), weights=True)
        return found.maps

    def encode(self, batch: Batch) -> Encoded:
        """Sources, ids (B, S) or vectors (B, S, source_size), as a decoder knows them."""
        x = self.source(batch.inputs) if self.config.source_size else self.source(self.word_dropout(batch.inputs))
        hidden, mask = self.encoder(self.dropout(x), batch.mask)
        return Encoded(hidden, mask, self.pooling(hidden, mask))

    def decode(self, encoded: Encoded, ids: Tensor) -> Decoded:
        """The decoder's states over whole targets, what it reads being ids (B, T): the true tokens, or in training some of its own."""
        rate = self.config.scheduled_sampling
        if self.training and rate:
            if isinstance(self.decoder, RecurrentDecoder):
                return self._sampled_by_step(encoded, ids, rate)
            ids = self._sampled_at_once(encoded, ids, rate)
        decoded: Decoded = self.decoder(self.embedded(ids), encoded)
        return decoded

    def shifted(self, target: Batch) -> Tensor:
        """What a decoder reads to give these targets: the start symbol, then all but the last, (B, T)."""
        return F.pad(target.inputs[:, :-1], (1, 0), value=self.start_symbol)

    def embedded(self, ids: Tensor) -> Tensor:
        """Target ids (...) → (..., embedding_size)."""
        x: Tensor = self.dropout(self._table()(ids))
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Decoder states (..., R) → (..., V): every token and the end symbol."""
        weight = self.weight if self.weight is not None else self._table().weight[: self.start_symbol]  # type: ignore[index]
        return F.linear(self.leave(self.dropout(hidden)), weight, self.bias)

    def _table(self) -> Module:
        """The target's embeddings: its own, or those of both sides."""
        return self.source if self.target is None else self.target

    # As searches see it.
    def start(self, source: Batch) -> Any:
        """As Decoder.start, of a batch's sources."""
        return self.decoder.start(self.encode(source))  # type: ignore[operator]

    def step(self, ids: Tensor, state: Any) -> Step:
        """As Decoder.step."""
        found = self.decoder.advance(self.embedded(ids), state, weights=self.show_attention)  # type: ignore[operator]
        return Step(self.logits(found.hidden), found.state, found.weights)

    def reorder(self, state: Any, rows: Tensor, sources: Tensor | None = None) -> Any:
        """As Decoder.reorder."""
        return self.decoder.reorder(state, rows, sources)  # type: ignore[operator]

    def _sampled_by_step(self, encoded: Encoded, ids: Tensor, rate: float) -> Decoded:
        """Each token read is, with probability `rate`, drawn from what the step before it gave (Bengio et al., 2015)."""
        state = self.decoder.start(encoded)  # type: ignore[operator]
        steps: list[Advanced] = []
        own = torch.rand(ids.shape, device=ids.device) < rate
        for place, true in enumerate(ids.unbind(1)):
            token = torch.where(own[:, place], _drawn(self.logits(steps[-1].hidden)), true) if place else true
            steps.append(self.decoder.advance(self.embedded(token), state))  # type: ignore[operator]
            state = steps[-1].state
        return joined(steps)

    def _sampled_at_once(self, encoded: Encoded, ids: Tensor, rate: float) -> Tensor:
        """ids with some, at rate `rate`, drawn from what the true ones before them gave (Mihaylova & Martins, 2019)."""
        with torch.no_grad():
            drawn = _drawn(self.logits(self.decoder(self.embedded(ids), encoded).hidden[:, :-1]))
        own = torch.rand(drawn.shape, device=ids.device) < rate
        return torch.cat([ids[:, :1], torch.where(own, drawn, ids[:, 1:])], 1)

    def _guessed(self, encoded: Encoded, ids: Tensor, mask: Tensor) -> Tensor:
        """Of the log-likelihood from each token on, from what stands before any choice: (M,)."""
        assert self.guess is not None
        with torch.no_grad():
            known = torch.cat([self.embedded(ids), encoded.vector[:, None].expand(-1, ids.shape[1], -1)], -1)[mask]
        guess: Tensor = self.guess(known)[:, 0]
        return guess


def _target(batch: Batch) -> Batch:
    if batch.pair is None:
        raise ValueError("this network learns from pairs, a source and a target, but the batch holds one text a row")
    return batch.pair


def _drawn(logits: Tensor) -> Tensor:
    """A token from each softmax, (..., V) → (...)."""
    noise = torch.empty_like(logits, dtype=torch.float32).exponential_()
    return (logits.detach().float() - noise.log()).argmax(-1)
