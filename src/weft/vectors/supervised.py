"""Supervised fastText: a linear classifier on the mean of the rows of a text's words and hashed n-grams (E51; Joulin et al., 2017).

A text is a bag of rows of the input table. h is their mean; the output table gives scores o = U·h, and from them the loss: softmax,
hierarchical softmax over Huffman's tree of the labels (E43), negative sampling of labels (E45), or one label against all others, each
by its own σ. Gradients are written out by hand, and tables change after every text. As in the program, every row of a text receives
the gradient of h divided by how many they are, which is the exact one; and of several labels the losses that know one only draw one
at each visit.

The rate falls in a line with the share of rows read. One thread is exact and repeatable; several write without locks (Niu et al., 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from weft.errors import InputError
from weft.huffman import huffman_paths
from weft.vectors import steps
from weft.vectors.compiled import compiled, inlined
from weft.vectors.kernels import GOLDEN, alias_table, below, drawn, mixed, sigmoid, softplus
from weft.vectors.ranks import Ranks
from weft.vectors.word2vec import Plan, Watch, run_epochs

LOSSES = ("softmax", "hs", "ns", "ova")
SOFTMAX, PATHS, NOISE, EACH = range(len(LOSSES))
CHUNK = 2048  # texts that a thread takes at a time


class Bags(NamedTuple):
    """N texts: starts (N + 1,) int64, ids int32: the rows of text i are ids[starts[i]:starts[i + 1]]. Labels and label_starts likewise."""

    ids: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    label_starts: np.ndarray


@dataclass(frozen=True)
class SupervisedPlan:
    """How to train. loss: one of LOSSES; rate: at the start of the linear decay; negative: labels drawn beside the true one,
    by count^exponent; zeros_from: rows from there on start at 0, the others uniform in ±1/dim."""

    loss: str = "softmax"
    dim: int = 100
    epochs: int = 5
    rate: float = 0.1
    negative: int = 5
    threads: int = 1
    seed: int = 1
    exponent: float = 0.5
    zeros_from: int | None = None


@dataclass
class Classifier:
    """inputs (R, D), outputs (K, D) or, of the tree's inner nodes, (K − 1, D); counts (K,) int64: of the labels, which make the
    tree. losses: the mean loss of a text in each epoch, in nats; seconds: of the training loop alone; rows: read in it."""

    loss: str
    inputs: np.ndarray
    outputs: np.ndarray
    counts: np.ndarray
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    rows: int = 0

    @property
    def labels(self) -> int:
        """How many there are."""
        return len(self.counts)

    def scores(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """(N, K) float32, greater is likelier, of N bags: log-probabilities under hierarchical softmax, else o = U·h."""
        tables = _tables(self.loss, self.inputs, self.outputs, self.counts, 1.0, Bags(ids, starts, np.zeros(0, np.int32), starts))
        found = np.empty((len(starts) - 1, len(self.outputs)), np.float32)
        text_scores(tables, np.empty((1, self.inputs.shape[1]), np.float32), found)
        if self.loss != "hs":
            return found
        leaves = np.empty((len(found), len(self.counts)), np.float32)
        leaf_scores(found, tables, leaves)
        return leaves


class Space(NamedTuple):
    """What a thread writes into: H, A (1, D), G (O,), the order of its texts."""

    H: np.ndarray
    A: np.ndarray
    G: np.ndarray
    order: np.ndarray


@inlined
def dot(H: Any, table: Any, row: Any) -> Any:
    """H[0] · table[row]."""
    total = np.float32(0)
    for d in range(H.shape[1]):
        total += H[0, d] * table[row, d]
    return total


@inlined
def move(H: Any, A: Any, table: Any, row: Any, step: Any) -> None:
    """A[0] += step · table[row], and then table[row] += step · H[0]."""
    for d in range(H.shape[1]):
        u = table[row, d]
        A[0, d] += step * u
        table[row, d] = u + step * H[0, d]


@compiled
def mean_rows(H: np.ndarray, tables: steps.Tables, text: int) -> Any:
    """H[0]: the mean of a text's rows, 0 where it has none. Returns 1/their number, or 0."""
    inputs, rows = tables.inputs, tables.rows
    low, high = tables.starts[text], tables.starts[text + 1]
    for d in range(H.shape[1]):
        H[0, d] = np.float32(0)
    whole = low + (high - low) // 4 * 4
    for i in range(low, whole, 4):
        r0, r1, r2, r3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        for d in range(H.shape[1]):
            H[0, d] += (inputs[r0, d] + inputs[r1, d]) + (inputs[r2, d] + inputs[r3, d])
    for i in range(whole, high):
        row = rows[i]
        for d in range(H.shape[1]):
            H[0, d] += inputs[row, d]
    share = np.float32(1) / np.float32(high - low) if high > low else np.float32(0)
    for d in range(H.shape[1]):
        H[0, d] *= share
    return share


@compiled
def spread_mean(A: np.ndarray, tables: steps.Tables, text: int, share: float) -> None:
    """Every row of a text += share · A[0]."""
    inputs, rows = tables.inputs, tables.rows
    for d in range(A.shape[1]):
        A[0, d] *= share
    for i in range(tables.starts[text], tables.starts[text + 1]):
        row = rows[i]
        for d in range(A.shape[1]):
            inputs[row, d] += A[0, d]


@compiled
def softmax_step(H: np.ndarray, A: np.ndarray, G: np.ndarray, outputs: np.ndarray, label: int, rate: float) -> Any:
    """The loss −log softmax(o)[label] (E40); adds −rate · its gradient to A and to the output table."""
    largest = dot(H, outputs, 0)
    G[0] = largest
    for k in range(1, outputs.shape[0]):
        score = dot(H, outputs, k)
        G[k] = score
        largest = max(largest, score)
    true, total = G[label], np.float32(0)
    for k in range(outputs.shape[0]):
        G[k] = np.exp(G[k] - largest)
        total += G[k]
    share = np.float32(rate) / total
    for k in range(outputs.shape[0]):
        step = -share * G[k]
        if k == label:
            step += np.float32(rate)
        move(H, A, outputs, k, step)
    return np.log(total) + largest - true


@compiled
def path_step(H: np.ndarray, A: np.ndarray, tables: steps.Tables, label: int, rate: float) -> Any:
    """The same for hierarchical softmax: the nodes on the label's path (E43)."""
    loss = np.float32(0)
    for at in range(tables.paths[label], tables.paths[label + 1]):
        node, wanted = tables.nodes[at], tables.labels[at]
        score = dot(H, tables.outputs, node)
        loss += softplus(score) - wanted * score
        move(H, A, tables.outputs, node, np.float32(rate) * (wanted - sigmoid(score)))
    return loss


@compiled
def noise_step(H: np.ndarray, A: np.ndarray, tables: steps.Tables, label: int, negative: int, rate: float, state: Any) -> Any:
    """The same for negative sampling (E45), one label after another; the true one is drawn anew. Returns (loss, random state)."""
    score = dot(H, tables.outputs, label)
    loss = softplus(-score)
    move(H, A, tables.outputs, label, np.float32(rate) * sigmoid(-score))
    for _ in range(negative):
        other = label
        while other == label:
            state += GOLDEN
            other = drawn(mixed(state), tables.probability, tables.alias)
        score = dot(H, tables.outputs, other)
        loss += softplus(score)
        move(H, A, tables.outputs, other, -np.float32(rate) * sigmoid(score))
    return loss, state


@compiled
def each_step(
    H: np.ndarray, A: np.ndarray, G: np.ndarray, outputs: np.ndarray, labels: np.ndarray, low: int, high: int, rate: float
) -> Any:
    """The same for every label by itself, of which labels[low:high] are true (E8)."""
    loss = np.float32(0)
    for k in range(outputs.shape[0]):
        G[k] = np.float32(0)
    for i in range(low, high):
        G[labels[i]] = np.float32(1)
    for k in range(outputs.shape[0]):
        score = dot(H, outputs, k)
        loss += softplus(score) - G[k] * score
        move(H, A, outputs, k, np.float32(rate) * (G[k] - sigmoid(score)))
    return loss


@compiled
def train_texts(
    first: int, last: int, kind: int, labels: np.ndarray, label_starts: np.ndarray, tables: steps.Tables, options: steps.Options,
    own: Space, progress: np.ndarray, thread: int, state: Any,
) -> Any:  # fmt: skip
    """Trains on the texts first … last, in a random order. Returns (loss, texts)."""
    H, A, order, loss, count = own.H, own.A, own.order, 0.0, last - first
    for i in range(count):
        state += GOLDEN
        j = below(mixed(state), i + 1)
        order[i] = order[j]
        order[j] = first + i
    for i in range(count):
        text = order[i]
        rate = steps.rate_now(options, progress)
        low, high = label_starts[text], label_starts[text + 1]
        progress[thread, 0] += tables.starts[text + 1] - tables.starts[text]
        if kind != EACH and high == low:
            continue
        share = mean_rows(H, tables, text)
        for d in range(A.shape[1]):
            A[0, d] = np.float32(0)
        label = labels[low] if high > low else 0
        if high > low + 1:
            state += GOLDEN
            label = labels[low + below(mixed(state), high - low)]
        if kind == SOFTMAX:
            loss += softmax_step(H, A, own.G, tables.outputs, label, rate)
        elif kind == PATHS:
            loss += path_step(H, A, tables, label, rate)
        elif kind == NOISE:
            lost, state = noise_step(H, A, tables, label, options.negative, rate, state)
            loss += lost
        else:
            loss += each_step(H, A, own.G, tables.outputs, labels, low, high, rate)
        spread_mean(A, tables, text, share)
    return loss, count


@compiled
def text_scores(tables: steps.Tables, H: np.ndarray, found: np.ndarray) -> None:
    """found[i, k] = U_k · h of text i."""
    for text in range(found.shape[0]):
        mean_rows(H, tables, text)
        for k in range(found.shape[1]):
            found[text, k] = dot(H, tables.outputs, k)


@compiled
def leaf_scores(found: np.ndarray, tables: steps.Tables, leaves: np.ndarray) -> None:
    """leaves[i, k]: the log-probability of label k, Σ log σ(±o) on its path, of the inner nodes' scores found (N, K − 1)."""
    for text in range(leaves.shape[0]):
        for k in range(leaves.shape[1]):
            total = 0.0
            for at in range(tables.paths[k], tables.paths[k + 1]):
                score = np.float64(found[text, tables.nodes[at]])
                score = -score if tables.labels[at] > 0 else score
                total -= max(score, 0.0) + np.log1p(np.exp(-abs(score)))
            leaves[text, k] = total


def train_supervised(bags: Bags, rows: int, labels: int, plan: SupervisedPlan, *, watch: Watch | None = None) -> Classifier:
    """Trains on N texts whose rows are below `rows` and whose labels are below `labels`. watch: as of train_word2vec.

    Raises InputError for a plan that cannot be, or no text.
    """
    check_plan(plan, bags, rows, labels)
    generator = np.random.default_rng(plan.seed)
    bags = shuffled(bags, generator)
    counts = np.bincount(bags.labels, minlength=labels)
    inputs = np.zeros((rows, plan.dim), np.float32)
    random = inputs[: plan.zeros_from]
    generator.random(dtype=np.float32, out=random)
    random -= np.float32(0.5)
    random *= np.float32(2 / plan.dim)
    outputs = np.zeros((max(1, labels - (plan.loss == "hs")), plan.dim), np.float32)
    tables = _tables(plan.loss, inputs, outputs, counts, plan.exponent, bags)
    total = max(1, plan.epochs * len(bags.ids))
    options = steps.Options(0, False, True, True, True, plan.negative, plan.rate, float(total))
    texts, kind = len(bags.starts) - 1, LOSSES.index(plan.loss)
    chunk = min(CHUNK, -(-texts // plan.threads))
    vectors = [np.zeros((1, plan.dim), np.float32) for _ in range(2 * plan.threads)]
    spaces = [
        Space(*pair, np.zeros(len(outputs), np.float32), np.zeros(chunk, np.int32))
        for pair in zip(vectors[::2], vectors[1::2], strict=True)
    ]

    def work(number: int, thread: int, state: np.uint64, progress: np.ndarray) -> tuple[float, int]:
        first, last = number * chunk, min(texts, number * chunk + chunk)
        arguments = first, last, kind, bags.labels, bags.label_starts, tables, options, spaces[thread], progress, thread, state
        found = train_texts(*arguments)
        return float(found[0]), int(found[1])

    threads = Plan(epochs=plan.epochs, threads=plan.threads, seed=plan.seed)
    done = run_epochs(work, range(-(-texts // chunk)), tables, threads, total, watch, Ranks())
    return Classifier(plan.loss, inputs, outputs, counts, done.losses, done.seconds, done.words)


def check_plan(plan: SupervisedPlan, bags: Bags, rows: int, labels: int) -> None:
    """Raises InputError, naming the argument, for what cannot be."""
    if plan.loss not in LOSSES:
        raise InputError(f"must be {', '.join(LOSSES)}, not {plan.loss!r}", "loss")
    for name, low in {"dim": 1, "epochs": 1, "negative": 1, "threads": 1, "seed": 0}.items():
        if getattr(plan, name) < low:
            raise InputError(f"must be at least {low}, not {getattr(plan, name)}", name)
    if not 0 < plan.rate < 100:
        raise InputError(f"must be above 0, not {plan.rate}", "rate")
    if len(bags.starts) < 2:
        raise InputError("there is nothing to train on: no texts", "the texts")
    if labels < (1 if plan.loss == "ova" else 2):
        raise InputError("one label alone has nothing to be told from", "the labels")
    for name, ids, count in (("rows", bags.ids, rows), ("labels", bags.labels, labels)):
        if len(ids) and not 0 <= ids.min() <= ids.max() < count:
            raise ValueError(f"{name} are from {ids.min()} to {ids.max()}, and there are {count}")
    if plan.loss == "ns" and np.count_nonzero(np.bincount(bags.labels, minlength=labels)) < 2:
        raise InputError("one label alone has nothing to be told from: negatives are other labels that occur", "the labels")


def shuffled(bags: Bags, generator: np.random.Generator) -> Bags:
    """The same texts in a random order, each in one piece."""
    order = generator.permutation(len(bags.starts) - 1)
    return Bags(*_picked(bags.ids, bags.starts, order), *_picked(bags.labels, bags.label_starts, order))


@compiled
def _picked(values: np.ndarray, starts: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of values, in this order: (values, starts)."""
    found, ends = np.empty_like(values), np.zeros_like(starts)
    at = 0
    for i in range(order.shape[0]):
        for place in range(starts[order[i]], starts[order[i] + 1]):
            found[at] = values[place]
            at += 1
        ends[i + 1] = at
    return found, ends


def _tables(loss: str, inputs: np.ndarray, outputs: np.ndarray, counts: np.ndarray, exponent: float, bags: Bags) -> steps.Tables:
    """The kernels' view: a text is what a word is to word2vec, a list of rows."""
    paths, nodes, bits = huffman_paths(counts) if loss == "hs" else (np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8))
    weights = np.asarray(counts, np.float64) ** exponent if loss == "ns" else np.ones(1)
    probability, alias = alias_table(weights)
    no_words = np.zeros(0, np.float32)
    return steps.Tables(inputs, outputs, bags.starts, bags.ids, no_words, probability, alias, paths, nodes, (1 - bits).astype(np.float32))


def as_bags(texts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> Bags:
    """Bags of lists of row numbers and of lists of label numbers."""
    flat = [np.fromiter((one for each in lists for one in each), np.int32) for lists in (texts, labels)]
    starts = [np.cumsum([0, *map(len, lists)], dtype=np.int64) for lists in (texts, labels)]
    return Bags(flat[0], starts[0], flat[1], starts[1])
