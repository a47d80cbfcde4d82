"""Word vectors out of two networks: a neural n-gram language model, and the ranking of windows (E49, E50). The only torch in this room.

Bengio et al., 2003: the next word from the embeddings of the k before it, by a softmax over all words. Collobert & Weston, 2008: a
window is to score higher, by a margin of 1, than itself with a random word in its middle; no softmax, so the cost does not grow with
the vocabulary. Words are ids 0 … V − 1, as in the corpus; id V is the edge of a sentence, as often as a window reaches beyond it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weft.data.batch import Batch, Batches
from weft.device import choose
from weft.errors import InputError
from weft.losses import CrossEntropy, Loss, Term
from weft.nn.activations import activation
from weft.nn.initialisation import normal_, xavier_
from weft.training.callbacks import Callback, Moment
from weft.training.loop import TrainConfig, train
from weft.vectors.cooccurrence import check_ids
from weft.vectors.corpus import BOUNDARY
from weft.vectors.counts import Chunks, check_corpus

log = logging.getLogger("weft")

KINDS = ("ngram", "ranking")
NOISES = ("uniform", "frequency")


class Windows(Batches):
    """All windows of a corpus, cut out of its ids batch by batch: inputs (B, width), the mask all True, targets (B,) or None.

    kind "ngram": the width − 1 ids before a place, and as target the word there; the edge behind a sentence's last word is a target too.
    kind "ranking": a word in the middle of width ids. `each`: how many windows an epoch draws, anew each time; None for all.
    The ids are held in memory, 8 bytes a token.
    """

    def __init__(self, ids: np.ndarray, size: int, *, kind: str, width: int, examples: int, each: int | None, seed: int) -> None:
        edges = width - 1 if kind == "ngram" else width // 2
        ends = np.append(ids, BOUNDARY) == BOUNDARY
        stream = np.repeat(np.append(ids, BOUNDARY), np.where(ends, edges, 1))
        stream = np.concatenate([np.full(edges, BOUNDARY, ids.dtype), stream])
        words = stream != BOUNDARY
        if kind == "ngram":
            words[1:] |= words[:-1]  # right behind a word there is a word or an edge
        self.places = np.flatnonzero(words)
        self.stream = np.where(stream == BOUNDARY, size, stream).astype(np.int64)
        self.offsets = np.arange(-edges, 1 if kind == "ngram" else edges + 1)
        self.kind, self.examples, self.each, self.seed = kind, examples, each, seed
        self._last = None

    def __len__(self) -> int:
        """How many windows an epoch has."""
        return len(self.places) if self.each is None else min(self.each, len(self.places))

    def _order(self, epoch: int) -> list[np.ndarray]:
        assert self.examples is not None
        random = np.random.default_rng([self.seed or 0, epoch])
        index = random.choice(len(self.places), len(self), replace=False)
        return [index[start : start + self.examples] for start in range(0, len(index), self.examples)]

    def gather(self, index: np.ndarray, epoch: int | None = None) -> Batch:
        """The windows of these numbers."""
        rows = torch.from_numpy(self.stream[self.places[index][:, None] + self.offsets])
        inputs, targets = (rows[:, :-1], rows[:, -1]) if self.kind == "ngram" else (rows, None)
        return Batch(inputs, torch.ones(inputs.shape, dtype=torch.bool), targets, torch.from_numpy(index.astype(np.int64)))

    def fingerprint(self) -> str:
        """A digest of the windows and of how they are drawn."""
        digest = hashlib.sha256(repr((self.kind, self.offsets.tolist(), self.examples, self.each, self.seed)).encode())
        digest.update(self.stream.tobytes())
        return digest.hexdigest()


class NeuralNgram(nn.Module):
    """P(w | w_1 … w_k) = softmax(b + W²h [+ W x]), h = tanh(W¹x + b¹), x = [E[w_1]; …; E[w_k]] (E49): inputs (B, k) → logits (B, V + 1).

    hidden: units of one layer or of several. direct: with connections past the hidden layers, Bengio et al.'s W. The last logit is the
    edge's. Word vectors are the rows of `embedding` and, of the last hidden layer's size, those of `output`.
    """

    def __init__(self, *, size: int, dim: int, context: int, hidden: Sequence[int] = (100,), direct: bool = False) -> None:
        super().__init__()
        self.embedding = _embedding(size, dim)
        self.layers = nn.ModuleList(_linear(inputs, outputs) for inputs, outputs in pairwise([context * dim, *hidden]))
        self.output = _linear(hidden[-1], size + 1)
        self.direct = _linear(context * dim, size + 1, bias=False) if direct else None

    def context(self, inputs: Tensor) -> Tensor:
        """h (B, H), which stands for the context."""
        hidden: Tensor = self.embedding(inputs).flatten(1)
        for layer in self.layers:
            hidden = layer(hidden).tanh()
        return hidden

    def forward(self, batch: Any) -> Tensor:
        logits: Tensor = self.output(self.context(batch.inputs))
        return logits if self.direct is None else logits + self.direct(self.embedding(batch.inputs).flatten(1))


class WindowScorer(nn.Module):
    """s = v·g(Ux + b), x the concatenated embeddings of a window, g the hard tanh (E50): inputs (B, width) → scores (B,)."""

    def __init__(self, *, size: int, dim: int, width: int, hidden: Sequence[int] = (100,)) -> None:
        super().__init__()
        self.embedding = _embedding(size, dim)
        self.layers = nn.ModuleList(_linear(inputs, outputs) for inputs, outputs in pairwise([width * dim, *hidden]))
        self.output = _linear(hidden[-1], 1, bias=False)
        self.activation = activation("hard-tanh")

    def forward(self, batch: Any) -> Tensor:
        hidden = self.embedding(batch.inputs).flatten(1)
        for layer in self.layers:
            hidden = self.activation(layer(hidden))
        return self.output(hidden).squeeze(-1)


@dataclass
class WindowRanking:
    """Σ max(0, 1 − (s(c; w) − s(c; w′))), w′ ≠ w drawn for the middle of each window (E50). Its subgradient at the kink is 0.

    weights (V,): what w′ is drawn in proportion to. The count is the number of windows. The draw is torch's global generator's, which
    the training loop seeds at every step.
    """

    weights: Sequence[float] | np.ndarray

    def __post_init__(self) -> None:
        share = np.asarray(self.weights, np.float64)
        if len(share) < 2 or not np.isfinite(share).all() or (share < 0).any() or np.count_nonzero(share) < 2:
            raise InputError("two words or more must have a weight above 0, all finite and not negative", "weights")
        self._ends = torch.from_numpy(np.cumsum(share / share.sum()))

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        middle, wrong = batch.inputs.shape[1] // 2, batch.inputs.clone()
        wrong[:, middle] = self.other(batch.inputs[:, middle])
        both = torch.cat([batch.inputs, wrong])  # one pass for both
        scores = model(replace(batch, inputs=both, mask=batch.mask.repeat(2, 1), source=batch.source.repeat(2))).float()
        true, false = scores.chunk(2)
        return {"ranking": Term(F.relu(1 - (true - false)).sum(), float(len(batch)))}

    def counts(self, batch: Any) -> dict[str, float]:
        """The number of windows."""
        return {"ranking": float(len(batch))}

    def other(self, words: Tensor) -> Tensor:
        """For each of the words (B,) another, by weight: a draw from what is left of [0, 1) without the word's own part, O(log V)."""
        ends = self._ends.to(words.device)
        ends_here = ends[words]
        starts = torch.where(words > 0, ends[(words - 1).clamp(min=0)], torch.zeros_like(ends_here))
        point = torch.rand(len(words), dtype=torch.float64, device=words.device) * (ends[-1] - (ends_here - starts))
        point = torch.where(point >= starts, point + (ends_here - starts), point)
        drawn = torch.searchsorted(ends, point, right=True).clamp(max=len(ends) - 1)
        # a point on the very border, by rounding
        return torch.where(drawn == words, (words + 1) % len(ends), drawn)


def train_neural(
    kind: str,
    chunks: Chunks,
    counts: np.ndarray,
    *,
    dim: int = 50,
    window: int = 5,
    hidden: int | Sequence[int] = 100,
    epochs: int = 5,
    each: int | None = None,
    examples: int = 256,
    learning_rate: float = 2e-3,
    optimizer: str = "adam",
    direct: bool = False,
    noise: str = "uniform",
    seed: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    callbacks: Sequence[Callback] = (),
) -> tuple[np.ndarray, dict[str, Any]]:
    """Word vectors of a corpus by a network: the rows of its embedding, (V, dim) float32; and what there is to say about them.

    kind: "ngram" (E49: `window` words are the place and the window − 1 before it; the softmax costs O(V) at each) or "ranking" (E50:
    `window`, an odd number, words around the middle). chunks() and counts (V,) as for `train_svd`. hidden: units of a layer, or of several.
    each: windows an epoch, drawn anew; None for all. examples: windows a step. direct: see `NeuralNgram`. noise: the wrong words are
    drawn "uniform" or by "frequency".
    The info has "losses", the mean of each epoch's steps; "outputs" (V, hidden), the rows of W² (ngram alone); "model"; "windows".
    Raises InputError for an empty corpus and options that do not fit, DivergedError where the loss is no number any more.
    """
    size = check_corpus(counts, dim)
    layers = (hidden,) if isinstance(hidden, int) else tuple(hidden)
    _check(kind, window, layers, epochs, each, examples, noise)
    ids = np.concatenate([*chunks(), np.zeros(0, np.int32)])
    check_ids(ids, size, "ids", lowest=BOUNDARY)
    if not (ids != BOUNDARY).any():
        raise InputError("no word is left to learn vectors of", "corpus")
    windows = Windows(ids, size, kind=kind, width=window, examples=examples, each=each, seed=seed)
    compute = choose(device, precision, threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, loss = _make(kind, size, dim, window, layers, direct, counts, noise)
    model.to(compute.device)
    watch = _Losses(windows.steps())
    config = TrainConfig(steps=epochs * windows.steps(), optimizer=optimizer, learning_rate=learning_rate, seed=seed)
    train(model, windows, loss, config, callbacks=[watch, *callbacks], compute=compute)
    vectors = model.embedding.weight.detach()[:size].cpu().numpy().astype(np.float32)
    info: dict[str, Any] = {"losses": watch.means, "model": model.eval(), "windows": len(windows)}
    if isinstance(model, NeuralNgram):
        info["outputs"] = model.output.weight.detach()[:size].cpu().numpy().astype(np.float32)
    return vectors, info


class _Losses:
    """The mean loss of each epoch's steps, every epoch as long."""

    def __init__(self, steps: int) -> None:
        self.steps, self.sum, self.means = steps, 0.0, list[float]()

    def __call__(self, moment: Moment) -> None:
        if moment.metrics is not None:
            return
        self.sum += sum(moment.losses.values())
        if moment.step % self.steps == 0:
            self.means.append(self.sum / self.steps)
            self.sum = 0.0


def _make(
    kind: str, size: int, dim: int, window: int, hidden: Sequence[int], direct: bool, counts: np.ndarray, noise: str
) -> tuple[NeuralNgram | WindowScorer, Loss]:
    if kind == "ngram":
        return NeuralNgram(size=size, dim=dim, context=window - 1, hidden=hidden, direct=direct), CrossEntropy()
    weights = np.ones(size) if noise == "uniform" else np.asarray(counts, np.float64)
    return WindowScorer(size=size, dim=dim, width=window, hidden=hidden), WindowRanking(weights)


def _check(kind: str, window: int, hidden: Sequence[int], epochs: int, each: int | None, examples: int, noise: str) -> None:
    for name, value, allowed in (("kind", kind, KINDS), ("noise", noise, NOISES)):
        if value not in allowed:
            raise InputError(f"must be one of {', '.join(allowed)}, not {value!r}", name)
    if kind == "ngram" and window < 2:
        raise InputError(f"must be at least 2, a word and one before it, not {window}", "window")
    if kind == "ranking" and (window < 3 or window % 2 == 0):
        raise InputError(f"must be odd and at least 3, a word and its neighbours on both sides, not {window}", "window")
    if not hidden or min(hidden) < 1:
        raise InputError(f"layers must have at least 1 unit, not {tuple(hidden)}", "hidden")
    for name, number in (("epochs", epochs), ("each", 1 if each is None else each), ("examples", examples)):
        if number < 1:
            raise InputError(f"must be at least 1, not {number}", name)


def _embedding(size: int, dim: int) -> nn.Embedding:
    """Rows of the V words and of the edge; its gradients hold only the rows that were looked up."""
    made = nn.Embedding(size + 1, dim, sparse=True)
    normal_(made.weight, std=0.3)  # from 0.1 the ranking takes far longer to leave a loss of 1
    return made


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    made = nn.Linear(inputs, outputs, bias=bias)
    xavier_(made.weight)
    if bias:
        nn.init.zeros_(made.bias)
    return made
