"""Many processes under torchrun, one set of vectors: each takes its chunks of the corpus, and now and then their tables are joined.

A row that one process changed keeps that change; a row that several changed takes the mean of their changes (periodic averaging, as in
McDonald et al., 2010, by rows). So rare words lose nothing to processes that did not meet them. Alone, none of this does anything, and
torch is not loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from weft.vectors.steps import Tables

ROUNDS = 20  # in an epoch


class Ranks:
    """One process alone."""

    many, rounds, main = False, 1, True

    def mine(self, chunks: int) -> list[int]:
        """The numbers of the chunks that this process trains on."""
        return list(range(chunks))

    def remember(self, tables: Tables) -> Any:
        """What `join` will compare with."""
        return None

    def join(self, tables: Tables, before: Any) -> None:
        """Makes the tables of all processes the same."""

    def summed(self, values: np.ndarray) -> np.ndarray:
        """Added over the processes."""
        return values


class ManyRanks(Ranks):
    """This process among others."""

    many, rounds = True, ROUNDS

    def __init__(self, number: int, count: int) -> None:
        self.number, self.count, self.main = number, count, number == 0

    def mine(self, chunks: int) -> list[int]:
        return list(range(self.number, chunks, self.count))

    def remember(self, tables: Tables) -> Any:
        return tables.inputs.copy(), tables.outputs.copy()

    def join(self, tables: Tables, before: Any) -> None:
        for table, old in zip((tables.inputs, tables.outputs), before, strict=True):
            change = table - old
            changed = self.summed(np.any(change != 0, axis=1).astype(np.float32))
            table[:] = old + self.summed(change) / np.maximum(changed, 1)[:, None]

    def summed(self, values: np.ndarray) -> np.ndarray:
        from weft.training import distributed

        return distributed.sum_array(values)


@contextmanager
def shared_work() -> Iterator[Ranks]:
    """The processes that torchrun's environment tells of, joined while it lasts; one alone where there is none."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield Ranks()
        return
    import torch

    from weft.training import distributed

    with distributed.process_group(torch.device("cpu")):
        yield ManyRanks(distributed.rank(), distributed.ranks())
