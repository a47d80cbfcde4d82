"""What the taggers without a network learn for one column of tags: a majority, an averaged perceptron, a conditional random field.

Each reads the ids (N, F) int32 that weft.data.word_features gives for the tokens of all sentences, and lengths (B,) of the sentences. gold
(N,) int64: label ids, negative where no tag is known. K labels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

import numpy as np

from weft.errors import InputError

log = logging.getLogger("weft")
Legal = tuple[np.ndarray, np.ndarray, np.ndarray]  # bool: start (K,), transitions (K, K) [from, to], end (K,)
Chain = tuple[np.ndarray, np.ndarray, np.ndarray]  # float64: transitions, start, end; −inf where not allowed
LEGAL, CHAIN = ("start", "transitions", "end"), ("transitions", "start", "end")
PADDED = 65_536  # tokens, padding among them, that a CRF looks at together


class Model(Protocol):
    """One column's model."""

    @classmethod
    def learnt(
        cls, ids: np.ndarray, lengths: np.ndarray, gold: np.ndarray, sizes: tuple[int, int, int], allowed: Legal | None,
        settings: Mapping[str, Any], seed: int,
    ) -> Self:  # fmt: skip
        """From data; sizes: how many features there are, how many of the first template, how many labels."""

    def decoded(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Label ids (N,) int64 and confidences (N,) float32."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learnt."""

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], sizes: tuple[int, int, int]) -> Self:
        """From `arrays`. Raises InputError where they do not fit the sizes."""

    def parameters(self) -> int:
        """How many numbers were learnt."""


class Majority:
    """A word's most frequent tag and its share; of other words, the last row, that of all. Of equals, the first label."""

    def __init__(self, tags: np.ndarray, shares: np.ndarray) -> None:
        self.tags, self.shares = tags, shares  # (words + 1,)

    @classmethod
    def learnt(
        cls, ids: np.ndarray, lengths: np.ndarray, gold: np.ndarray, sizes: tuple[int, int, int], allowed: Legal | None,
        settings: Mapping[str, Any], seed: int,
    ) -> Self:  # fmt: skip
        known = gold >= 0
        counts = np.zeros((sizes[0] + 1, sizes[2]), np.int64)
        np.add.at(counts, (ids[known, 0], gold[known]), 1)
        counts[-1] = np.bincount(gold[known], minlength=sizes[2])
        counts = np.where(counts.sum(1, keepdims=True) > 0, counts, counts[-1])
        return cls(counts.argmax(1), (counts.max(1) / counts.sum(1)).astype(np.float32))

    def decoded(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.tags[ids[:, 0]], self.shares[ids[:, 0]]

    def arrays(self) -> dict[str, np.ndarray]:
        return {"tags": self.tags, "shares": self.shares}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], sizes: tuple[int, int, int]) -> Self:
        tags = _fitting(arrays, "tags", (sizes[0] + 1,), np.int64)
        if tags.min() < 0 or tags.max() >= sizes[2]:
            raise InputError(f"has a tag that is not one of the {sizes[2]} labels", "model.safetensors")
        return cls(tags, _fitting(arrays, "shares", (sizes[0] + 1,), np.float32))

    def parameters(self) -> int:
        return len(self.tags)


class Perceptron:
    """Greedy from left to right: the label with the highest sum of weights, of the features and of the two labels before (Collins, 2002).

    Training goes over the sentences in an order drawn anew each epoch, its own labels before each word, right or wrong; where it is wrong,
    the weights of what is on rise by 1 for the right label and fall by 1 for the chosen. Kept is the mean of the weights over all tokens.
    What is allowed binds the answers alone: training bound by it scored lower on development data.
    pairs (words, K + 1): the row of a label before a word, where training had them together; weights: features, one label, two, pairs.
    """

    def __init__(self, weights: np.ndarray, pairs: np.ndarray, first: int, legal: Legal) -> None:
        self.weights, self.pairs, self.first, self.legal = weights, pairs, first, legal

    @classmethod
    def learnt(
        cls, ids: np.ndarray, lengths: np.ndarray, gold: np.ndarray, sizes: tuple[int, int, int], allowed: Legal | None,
        settings: Mapping[str, Any], seed: int,
    ) -> Self:  # fmt: skip
        from weft.estimators.feature_kernels import perceptron_epoch  # numba takes half a second to start

        features, words, labels = sizes
        starts, (start, transitions, end) = _starts(lengths), _legal(None, labels)
        pairs, rows = _seen_pairs(ids[:, 0], starts, gold, features, words, labels)
        weights, totals = np.zeros((rows, labels), np.float32), np.zeros((rows, labels))
        draws, steps = np.random.default_rng(seed), 0
        for epoch in range(settings["epochs"]):
            order = draws.permutation(len(lengths))
            steps, mistakes = perceptron_epoch(
                order, starts, ids, gold, start, transitions, end[None], features, pairs, weights, totals, steps
            )
            log.debug("epoch %d: %d mistakes", epoch + 1, mistakes)
        return cls((weights - totals / max(1, steps)).astype(np.float32), pairs, features, _legal(allowed, labels))

    def decoded(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from weft.estimators.feature_kernels import perceptron_tags

        tags, confidences = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.float32)
        starts, longest = _starts(lengths), int(lengths.max(initial=1))
        possible = _possible(self.legal, _finish(self.legal, longest), lengths)
        for which, legal in ((possible, self.legal), (~possible, _legal(None, self.weights.shape[1]))):
            finish, chosen = _finish(legal, longest), np.flatnonzero(which)
            perceptron_tags(chosen, starts, ids, legal[0], legal[1], finish, self.first, self.pairs, self.weights, tags, confidences)
        return tags, confidences

    def arrays(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights, "pairs": self.pairs, **dict(zip(LEGAL, self.legal, strict=True))}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], sizes: tuple[int, int, int]) -> Self:
        features, words, labels = sizes
        pairs, base = _fitting(arrays, "pairs", (words, labels + 1), np.int32), features + (labels + 1) * (labels + 2)
        on = pairs[pairs >= 0]
        if not np.array_equal(on, base + np.arange(len(on))):
            raise InputError(f"'pairs' must count up from {base}, the first row behind those of features and labels", "model.safetensors")
        shapes = ((labels,), (labels, labels), (labels,))
        start, transitions, end = (_fitting(arrays, name, shape, np.bool_) for name, shape in zip(LEGAL, shapes, strict=True))
        return cls(_fitting(arrays, "weights", (base + len(on), labels), np.float32), pairs, features, (start, transitions, end))

    def parameters(self) -> int:
        return self.weights.size


class FeatureCrf:
    """A linear-chain CRF whose scores are sums of the weights of the features that are on (Lafferty et al., 2001; E65).

    Made least is Σ_sentences (log Z − score(gold)) + l2 / 2 · Σ weights², by AdaGrad over batches of sentences. Where tags are not known,
    score(gold) is the log-sum over all that they could be. What is not allowed has the weight −inf. weights (features, K), float32.
    """

    def __init__(self, weights: np.ndarray, chain: Chain) -> None:
        self.weights, self.chain = weights, chain

    @classmethod
    def learnt(
        cls, ids: np.ndarray, lengths: np.ndarray, gold: np.ndarray, sizes: tuple[int, int, int], allowed: Legal | None,
        settings: Mapping[str, Any], seed: int,
    ) -> Self:  # fmt: skip
        features, _, labels = sizes
        model = cls(np.zeros((features, labels), np.float32), _chain(_legal(allowed, labels)))
        training = CrfTraining(model, ids, lengths, gold, settings)
        draws = np.random.default_rng(seed)
        filled = np.flatnonzero(lengths)
        for epoch in range(settings["epochs"]):
            order = draws.permutation(filled)
            loss = sum(training.step(order[at : at + settings["batch_size"]]) for at in range(0, len(order), settings["batch_size"]))
            log.debug("epoch %d: loss %.4f a token", epoch + 1, loss / max(1, len(ids)))
            if not epoch and training.dropped:
                log.warning("%d of %d sentences have no legal tags and were not learnt from", training.dropped, len(filled))
        training.finish()
        return model

    def decoded(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from weft.nn import crf_kernels

        tags, confidences = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.float32)
        transitions, start, end = (part > -np.inf for part in self.chain)
        starts, legal, free = _starts(lengths), (start, transitions, end), _chain(_legal(None, len(start)))
        possible = _possible(legal, _finish(legal, int(lengths.max(initial=1))), lengths)
        for batch in _grouped(lengths):
            logits, sizes = _logits(batch, starts, ids, self.weights), lengths[batch]
            paths = np.empty(logits.shape[:2], np.int64)
            sure = np.empty(logits.shape, np.float32)
            for which, chain in ((possible[batch], self.chain), (~possible[batch], free)):
                if which.any():
                    paths[which] = crf_kernels.best(logits[which], sizes[which], chain, threads=1)[0]
                    sure[which] = _sums(logits[which], sizes[which], chain, None)[2]
            real = np.arange(logits.shape[1]) < sizes[:, None]
            places = (starts[batch][:, None] + np.arange(logits.shape[1]))[real]
            tags[places] = paths[real]
            confidences[places] = np.take_along_axis(sure, paths[..., None], 2)[real, 0].clip(0, 1)
        return tags, confidences

    def arrays(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights, **dict(zip(CHAIN, self.chain, strict=True))}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], sizes: tuple[int, int, int]) -> Self:
        features, _, labels = sizes
        shapes = ((labels, labels), (labels,), (labels,))
        transitions, start, end = (_fitting(arrays, name, shape, np.float64) for name, shape in zip(CHAIN, shapes, strict=True))
        return cls(_fitting(arrays, "weights", (features, labels), np.float32), (transitions, start, end))

    def parameters(self) -> int:
        return self.weights.size + sum(int((part > -np.inf).sum()) for part in self.chain)


class CrfTraining:
    """The state of a CRF's training: sums of squared gradients, the step in which each feature was last on."""

    def __init__(self, model: FeatureCrf, ids: np.ndarray, lengths: np.ndarray, gold: np.ndarray, settings: Mapping[str, Any]) -> None:
        self.model, self.ids, self.lengths, self.gold = model, ids, lengths, gold
        self.starts, self.whole = _starts(lengths), bool((gold >= 0).all())
        self.rate, self.decay = float(settings["learning_rate"]), float(settings["l2"]) / max(1, len(lengths))
        self.squares, self.seen = np.zeros_like(model.weights), np.full(len(model.weights), -1, np.int64)
        self.slots, self.rows = np.full(len(model.weights), -1, np.int32), np.zeros(len(model.weights), np.int64)
        self.chain_squares = [np.zeros_like(part) for part in model.chain]
        self.steps = self.dropped = 0

    def gradients(self, batch: np.ndarray) -> tuple[float, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The batch's summed loss; its gradients: of logits (B, T, K), of transitions, start and end."""
        lengths, weights = self.lengths[batch], self.model.weights
        logits = _logits(batch, self.starts, self.ids, weights)
        places = np.minimum(self.starts[batch][:, None] + np.arange(logits.shape[1]), len(self.gold) - 1)
        gold = self.gold[places]
        totals, scores, unary, pairs = _sums(logits, lengths, self.model.chain, gold if self.whole else None)
        if not self.whole:
            known = np.where(gold[..., None] < 0, True, gold[..., None] == np.arange(logits.shape[2]))
            scores, _, told, told_pairs = _sums(np.where(known, logits, np.float32(-np.inf)), lengths, self.model.chain, None)
            unary, pairs = unary - told, pairs - told_pairs
        with np.errstate(invalid="ignore"):  # −inf less −inf
            losses = totals - scores
        wrong = ~np.isfinite(losses)
        if wrong.any():
            self.dropped += int(wrong.sum())
            losses[wrong], unary[wrong], pairs[wrong] = 0, 0, 0
        ends = unary[np.arange(len(batch)), lengths - 1].sum(0)
        return float(losses.sum()), unary, (pairs.sum(0), unary[:, 0].sum(0), ends)

    def step(self, batch: np.ndarray) -> float:
        """Learns from a batch of sentences, none empty; returns its loss."""
        from weft.estimators.feature_kernels import changed, gathered, opened

        model, size = self.model, len(batch)
        count = opened(
            batch, self.starts, self.ids, self.slots, self.rows, model.weights, self.squares, self.seen, self.steps, self.rate, self.decay
        )
        rows = self.rows[:count]
        loss, unary, chain = self.gradients(batch)
        gradient = np.zeros((count, unary.shape[2]), np.float32)
        gathered(batch, self.starts, self.ids, self.slots, unary / np.float32(size), gradient)
        changed(rows, gradient, model.weights, self.squares, self.seen, self.steps, self.rate, self.decay)
        self.slots[rows] = -1
        for part, squares, slope in zip(model.chain, self.chain_squares, chain, strict=True):
            slope = slope / size
            squares += slope**2
            scale = self.rate / (np.sqrt(squares) + 1e-8)
            part[:] = (part - scale * slope) / (1 + scale * self.decay)
        self.steps += 1
        return loss

    def finish(self) -> None:
        from weft.estimators.feature_kernels import settled

        settled(self.model.weights, self.squares, self.seen, self.steps, self.rate, self.decay)


def _chain(legal: Legal) -> Chain:
    """Zeros, −inf where not allowed."""
    start, transitions, end = (np.where(part, 0.0, -np.inf) for part in legal)
    return transitions, start, end


def _grouped(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """The sentences that are not empty, shortest first, in batches of at most PADDED tokens with padding, or of one sentence."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    begin = 0
    while begin < len(order):
        sizes = lengths[order[begin:]] * np.arange(1, len(order) - begin + 1)
        end = begin + max(1, int(np.searchsorted(sizes, PADDED, side="right")))
        yield order[begin:end]
        begin = end


def _logits(batch: np.ndarray, starts: np.ndarray, ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
    from weft.estimators.feature_kernels import logits_of

    longest = int((starts[batch + 1] - starts[batch]).max())
    logits = np.empty((len(batch), longest, weights.shape[1]), np.float32)
    logits_of(batch, starts, ids, weights, logits)
    return logits


def _sums(
    logits: np.ndarray, lengths: np.ndarray, chain: Chain, gold: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """log Z, score(gold), and the gradients of their difference: unary (B, T, K), pairs (B, K, K)."""
    from weft.nn import crf_kernels  # numba takes half a second to start

    wide = logits.astype(np.float64)
    peaks = wide.max(-1)
    wide -= peaks[..., None]
    return crf_kernels.sums(logits, peaks, np.exp(wide, out=wide), lengths, chain, gold, gradients=True, threads=1)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _legal(allowed: Legal | None, labels: int) -> Legal:
    """What is allowed; everything where nothing is said."""
    if allowed is None:
        return np.ones(labels, bool), np.ones((labels, labels), bool), np.ones(labels, bool)
    start, transitions, end = (np.ascontiguousarray(part, bool) for part in allowed)
    return start, transitions, end


def _finish(legal: Legal, longest: int) -> np.ndarray:
    """(L, K) bool: whether a sentence can be ended legally from a label with 0, 1, … tokens to come; the last row holds for all more."""
    rows = [legal[2]]
    while len(rows) < longest:
        more = np.asarray((legal[1] & rows[-1]).any(1))
        if (more == rows[-1]).all():
            break
        rows.append(more)
    return np.array(rows)


def _possible(legal: Legal, finish: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Which sentences (B,) have a legal sequence of labels."""
    return (legal[0] & finish).any(1)[np.minimum(np.maximum(lengths, 1) - 1, len(finish) - 1)]


def _seen_pairs(words: np.ndarray, starts: np.ndarray, gold: np.ndarray, features: int, known: int, labels: int) -> tuple[np.ndarray, int]:
    """(words, labels + 1) int32, the row of each label before each word that training had together, −1 of others; and all rows' number."""
    before = np.concatenate([[labels], gold[:-1]])[: len(gold)]
    before[starts[:-1][np.diff(starts) > 0]] = labels
    together = np.zeros((known, labels + 1), bool)
    there = (words >= 0) & (before >= 0)
    together[words[there], before[there]] = True
    base = features + (labels + 1) * (labels + 2)
    pairs = np.where(together, base + np.cumsum(together).reshape(together.shape) - 1, -1).astype(np.int32)
    return pairs, base + int(together.sum())


def _fitting(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The array of this name. Raises InputError where it is missing or of another shape or type."""
    found = arrays.get(name)
    if found is None or found.shape != shape or found.dtype != dtype:
        what = "is missing" if found is None else f"is {found.dtype} {found.shape}"
        raise InputError(f"{name!r} {what}; {np.dtype(dtype)} {shape} was expected", "model.safetensors")
    return found
