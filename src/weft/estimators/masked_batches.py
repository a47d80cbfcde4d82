"""Rows of documents as a pretraining walks them: other pairs and other hidden tokens in every epoch (E102, E103)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from weft.data.batch import IGNORED, Batch, Batches
from weft.data.masking import Masker
from weft.data.next_sentence import NextSentence, Packed


class MaskedBatches:
    """Batches with targets as models.pretraining reads them: the tokens that `masker` chose, and at position 0 the pair's label.

    source: where rows come from, by the epoch. budget: as of Batches, tokens or examples. seed None: by length, as for a check. What a step
    reads is a function of the epoch and the place in it.
    """

    def __init__(self, source: NextSentence | Packed, masker: Masker, *, seed: int | None = None, **budget: Any) -> None:
        self.source, self.masker, self.seed, self.budget = source, masker, seed, budget
        self._last: tuple[int, Batches, np.ndarray | None] | None = None  # the epoch asked for last

    def __len__(self) -> int:
        """How many rows the first epoch has."""
        return len(self._at(0)[0])

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def steps(self, epoch: int = 0) -> int:
        """How many batches this epoch has."""
        return self._at(epoch)[0].steps(epoch)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number`, from batch `start` on."""
        batches, labels = self._at(number)
        for batch in batches.epoch(number, start):
            places = batch.source.numpy()
            inputs, targets = batch.inputs.numpy(), np.full(batch.inputs.shape, IGNORED, np.int64)
            for row, place in enumerate(places.tolist()):
                length = len(batches.rows[place])
                inputs[row, :length], targets[row, :length] = self.masker(batches.rows[place], number, place)
            if labels is not None:
                targets[:, 0] = labels[places]
            yield Batch(batch.inputs, batch.mask, torch.from_numpy(targets), batch.source)

    def counts(self, vocabulary_size: int) -> np.ndarray:
        """How often each id occurs in the rows of the first epoch, (V,)."""
        return np.bincount(np.concatenate(self._at(0)[0].rows), minlength=vocabulary_size)

    def fingerprint(self) -> str:
        """A digest of what is walked and how. Equal ones give equal batches."""
        how = (self.masker.masking, self.masker.mask, self.masker.seed, self.masker.drawn.tolist(), self.seed, sorted(self.budget.items()))
        return hashlib.sha256(f"{self.source.fingerprint()}{how!r}".encode()).hexdigest()

    def _at(self, epoch: int) -> tuple[Batches, np.ndarray | None]:
        if self._last is None or (self._last[0] != epoch and isinstance(self.source, NextSentence)):
            rows, labels = self.source.rows(epoch)
            self._last = (epoch, Batches(rows, seed=self.seed, **self.budget), labels)
        return self._last[1:]
