"""The kernels of vectors/steps.py once more, slowly: every random draw replayed with Python's integers, every update a gradient that
torch's autograd finds in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.functional import softplus

from weft.huffman import huffman_paths
from weft.vectors import steps
from weft.vectors.kernels import alias_table

WORD = 2**64 - 1
Example = tuple[list[int], list[int]]  # words of the hidden vector, words to predict


class Draws:
    """SplitMix64, as its authors print it."""

    def __init__(self, state: int) -> None:
        self.state = state

    def bits(self) -> int:
        self.state = z = (self.state + 0x9E3779B97F4A7C15) & WORD
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        return z ^ (z >> 31)

    def noise(self, probability: np.ndarray, alias: np.ndarray) -> int:
        bits = self.bits()
        row = ((bits >> 32) * len(probability)) >> 32
        return row if (bits & 0xFFFFFF) / 2**24 < probability[row] else int(alias[row])


def make(size: int = 7, dim: int = 6, *, loss: str = "ns", rows: list[list[int]] | None = None, noise: Any = None, seed: int = 0, **given):
    """Tables of normal numbers: every word keeps its own row and is kept, the noise is uniform, unless given otherwise."""
    random = np.random.default_rng(seed)
    rows = [[word] for word in range(size)] if rows is None else rows
    starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    ids = np.array([row for word in rows for row in word], np.int32)
    inputs = random.normal(0, 0.6, (int(ids.max()) + 1, dim)).astype(np.float32)
    outputs = random.normal(0, 0.6, (size - (loss == "hs"), dim)).astype(np.float32)
    probability, alias = alias_table(np.ones(size) if noise is None else np.asarray(noise, np.float64))
    paths, nodes, bits = huffman_paths(np.arange(1, size + 1)) if loss == "hs" else (np.zeros(1, np.int64), *np.zeros((2, 0), np.int32))
    keep = np.ones(size, np.float32)
    made = steps.Tables(
        inputs, outputs, starts, ids, keep, probability, alias, paths, nodes.astype(np.int32), (1 - bits).astype(np.float32)
    )
    return made._replace(**given)


def options(**given: Any) -> steps.Options:
    plain = {"window": 2, "dynamic": False, "cbow": False, "mean": True, "exact": True, "negative": 3, "rate": 0.5, "total": 1e9}
    return steps.Options(**{**plain, **given})


def joined(sentences: list[list[int]]) -> np.ndarray:
    return np.array([number for words in sentences for number in (*words, steps.BOUNDARY)], np.int32)


def trained(
    ids: np.ndarray, tables: steps.Tables, how: steps.Options, *, loss: str = "ns", pool: int = 6, state: int = 5, longest: int = 0
):
    """What the kernel makes of copies of the tables: (tables, loss, pairs, progress)."""
    tables = tables._replace(inputs=tables.inputs.copy(), outputs=tables.outputs.copy())
    own = steps.space(tables, window=how.window, longest=longest or len(ids) + 1, pool=pool, loss=loss)
    progress = np.zeros((2, 8), np.int64)
    arguments = np.asarray(ids, np.int32), tables, how, own, progress, 1, np.uint64(state)
    lost, pairs = steps.train_paths(*arguments) if loss == "hs" else steps.train_blocks(*arguments, loss == "softmax")
    return tables, float(lost), int(pairs), int(progress[1, 0])


def replayed(ids: np.ndarray, tables: steps.Tables, how: steps.Options, *, loss: str = "ns", pool: int = 6, state: int = 5, read: int = 0):
    """The same by autograd, after `read` words: ((inputs, outputs) float64, loss, pairs)."""
    inputs, outputs = (torch.as_tensor(table).double() for table in (tables.inputs, tables.outputs))
    draws, total, pairs = Draws(state), 0.0, 0
    ends = np.flatnonzero(np.append(ids, steps.BOUNDARY) == steps.BOUNDARY)
    for low, high in zip([0, *ends + 1], ends):
        said = ids[low:high].tolist()
        words = [word for word in said if (draws.bits() & 0xFFFFFF) / 2**24 < tables.keep[word]]
        rate = how.rate * max(1e-4, 1 - read / how.total)
        for examples in (paths if loss == "hs" else blocks)(words, how, draws):
            times = 0 if loss != "ns" else len(examples) if how.cbow else 1  # in CBOW every example has draws of its own
            drawn = [[draws.noise(tables.probability, tables.alias) for _ in range(pool)] for _ in range(times)]
            inputs, outputs, lost = step(examples, tables, how, inputs, outputs, rate, loss, drawn)
            total, pairs = total + lost, pairs + sum(len(targets) for _, targets in examples)
        read += len(said)
    return (inputs, outputs), total, pairs


def around(words: list[int], centre: int, how: steps.Options, draws: Draws) -> list[int]:
    bits = draws.bits()
    span = len(words) if how.window == 0 else (((bits >> 32) * how.window >> 32) + 1 if how.dynamic else how.window)
    return [words[i] for i in range(len(words)) if i != centre and abs(i - centre) <= span]


def blocks(words: list[int], how: steps.Options, draws: Draws) -> Iterator[list[Example]]:
    for first in range(0, len(words), steps.BLOCK):
        centres = range(first, min(first + steps.BLOCK, len(words)))
        found = [(words[centre], around(words, centre, how, draws)) for centre in centres]
        yield [(near, [word] if near else []) if how.cbow else ([word], near) for word, near in found]


def paths(words: list[int], how: steps.Options, draws: Draws) -> Iterator[list[Example]]:
    for centre, word in enumerate(words):
        near = around(words, centre, how, draws)
        if near:
            yield [(near, [word])] if how.cbow else [([other], [word]) for other in near]


def step(examples, tables, how, inputs, outputs, rate, loss, drawn) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The tables less rate times the gradient of the block's loss."""
    inputs, outputs = (table.clone().requires_grad_() for table in (inputs, outputs))
    total = loss_of(examples, tables, how, inputs, outputs, loss, drawn)
    if not isinstance(total, torch.Tensor):
        return inputs.detach(), outputs.detach(), 0.0
    gradients = torch.autograd.grad(total, (inputs, outputs), allow_unused=True)
    new = [table.detach() - (0 if gradient is None else rate * gradient) for table, gradient in zip((inputs, outputs), gradients)]
    return new[0], new[1], float(total.detach())


def loss_of(examples, tables, how, inputs, outputs, loss: str, drawn) -> Any:
    """ℓ of a block, one pair after the other, from the equations."""
    total: Any = 0.0
    for number, (words, targets) in enumerate(examples):
        rows = [row for word in words for row in tables.rows[tables.starts[word] : tables.starts[word + 1]].tolist()]
        if not targets:
            continue
        z = inputs[rows].sum(0)
        if how.mean:  # not exact: the gradient of the sum, at the value of the mean
            z = z / len(rows) if how.exact else z - (z * (1 - 1 / len(rows))).detach()
        for target in targets:
            if loss == "softmax":
                total = total - torch.log_softmax(outputs @ z, 0)[target]
            elif loss == "hs":
                way = slice(tables.paths[target], tables.paths[target + 1])
                for node, label in zip(tables.nodes[way].tolist(), tables.labels[way]):
                    total = total + softplus(-(outputs[node] @ z) if label else outputs[node] @ z)
            else:
                total = total + softplus(-(outputs[target] @ z))
                own = drawn[number % len(drawn)]
                for word in own:
                    if word != target:
                        total = total + how.negative / len(own) * softplus(outputs[word] @ z)
    return total


def agree(ids: Any, tables: steps.Tables, how: steps.Options, *, tolerance: float = 2e-5, **given: Any) -> None:
    """The kernel and autograd make the same tables, with the same loss over as many pairs."""
    new, lost, pairs, _ = trained(ids, tables, how, **given)
    given.pop("longest", None)
    expected, expected_loss, expected_pairs = replayed(np.asarray(ids, np.int32), tables, how, **given)
    assert pairs == expected_pairs
    np.testing.assert_allclose(lost, expected_loss, rtol=tolerance, atol=tolerance)
    for table, wanted in zip((new.inputs, new.outputs), expected):
        np.testing.assert_allclose(table, wanted.numpy(), rtol=0, atol=tolerance)
