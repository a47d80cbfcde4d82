"""Many processes under torchrun, one set of vectors: each takes its chunks of the corpus, and now and then their tables are joined.

A row takes the sum of what all processes changed in it since the last time, as if their steps had come one after another, but no more
than twice the length of one process's change: what all of them pull the same way would overshoot (8 processes ended in NaN). Two
processes never reach that bound. The mean of the changes (periodic averaging, McDonald et al., 2010) is plainly worse at equal epochs:
on 3.3 M words in 5 epochs, mean similarity .352 and analogies .069 with 2 processes, against .410 and .106 of the sum and .396 and .102 of
one process; more rounds change neither (100: .353/.073 and .410/.105). 4 processes gave .369 and .089, 8 .355 and .052: a small corpus
gains nothing from so many, each of which changes too much of it between two rounds. Alone, none of this does anything,
and torch is not loaded.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from weft.vectors.steps import Tables

ROUNDS = 20  # in an epoch
FURTHEST = 2  # times the change of one process


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
            squares = np.square(change).sum(1)
            squares, changed = self.summed(np.stack([squares, np.asarray(squares > 0, squares.dtype)]))
            change = self.summed(change)
            length = np.sqrt(np.square(change).sum(1))
            most = FURTHEST * np.sqrt(squares / np.maximum(changed, 1))  # root mean square of those that changed the row
            table[:] = old + change * np.minimum(1, most / np.maximum(length, 1e-30))[:, None]

    def summed(self, values: np.ndarray) -> np.ndarray:
        from weft.training import distributed

        return distributed.sum_array(values)


@contextmanager
def shared_work() -> Iterator[Ranks]:
    """The processes that torchrun's environment tells of; one alone where there is none.

    They are joined once and left when this process ends: gloo, joined anew for a second training, may meet the first one's addresses.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield Ranks()
        return
    import torch

    from weft.training import distributed

    if distributed.ranks() == 1:
        joined = ExitStack()
        joined.enter_context(distributed.process_group(torch.device("cpu")))
        atexit.register(joined.close)
    yield ManyRanks(distributed.rank(), distributed.ranks())
