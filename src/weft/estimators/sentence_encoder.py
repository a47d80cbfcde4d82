"""SentenceEncoder: texts → vectors, by a pretrained encoder and a pooling (Reimers & Gurevych, 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from weft.data.batch import Batches
from weft.data.encoding import checked_all
from weft.device import Compute, choose
from weft.errors import InputError, meant
from weft.estimators.pretrained import Pretrained, pretrained
from weft.nn.pooling import Pooling

POOLINGS = {"mean": "mean", "cls": "first", "max": "max"}  # as sentence encoders call them → as weft does
MAXIMUM_LENGTH = 256  # what sentence encoders of MiniLM's kind were trained for
BATCH_TOKENS = 1024  # few, so that what a layer leaves stays near the processor: with 2,048 it took a sixth longer


class SentenceEncoder:
    """`SentenceEncoder.from_pretrained("minilm").encode(["a text"])` → (1, 384), of length 1.

    In bf16 the weights are too, and the vectors' cosine to those in fp32 is above 0.999. encode's order is that of its texts.
    """

    def __init__(self, start: Pretrained, compute: Compute) -> None:
        self.name, self.compute, self.tokenizer = start.name, compute, start.tokenizer
        self.model = start.encoder(dropout=0.0).eval().requires_grad_(False)
        self.model.to(compute.device, torch.bfloat16 if compute.precision == "bf16" else torch.float32)

    @classmethod
    def from_pretrained(
        cls, source: str | Path = "minilm", *, device: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> SentenceEncoder:
        """From a name ("minilm"), or a folder with a public checkpoint of BERT's kind. Raises InputError where there is no such."""
        return cls(pretrained(source), choose(device, precision, threads))

    @property
    def size(self) -> int:
        """How long the vectors are."""
        return int(self.model.output_size)

    def encode(
        self,
        texts: Sequence[str],
        *,
        pooling: str = "mean",
        normalize: bool = True,
        maximum_length: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> np.ndarray:
        """(N, size) float32: a vector of each text, in their order, of length 1 where `normalize`.

        pooling: the mean of the hidden states, [CLS] and [SEP] among them, the largest of each unit, or the first position's ("cls").
        maximum_length: in tokens, at most 256 if not given; longer texts are cut, and counted in a warning. batch_tokens: of a padded
        batch.
        Raises InputError for what is not a list of texts, another pooling, and lengths that cannot be.
        """
        if pooling not in POOLINGS:
            raise InputError(f"there is no {pooling!r}{meant(str(pooling), POOLINGS)}; there are {', '.join(POOLINGS)}", "pooling")
        room = self.model.config.maximum_positions
        longest = min(MAXIMUM_LENGTH, room) if maximum_length is None else maximum_length
        if not 0 < longest <= room:
            raise InputError(f"must be from 1 to the {room} positions of this encoder, not {longest}", "maximum_length")
        if batch_tokens < 1:
            raise InputError(f"must be at least 1, not {batch_tokens}", "batch_tokens")
        rows = self.tokenizer.rows(checked_all(texts), maximum_length=longest)
        pooled = Pooling(kind=POOLINGS[pooling], size=self.size)
        vectors = np.zeros((len(rows), self.size), np.float32)
        if not rows:
            return vectors
        with torch.inference_mode():
            for batch in Batches(rows, tokens=batch_tokens):
                vectors[batch.source.numpy()] = self._vectors(batch, pooled, normalize)
        return vectors

    def _vectors(self, batch: Any, pooled: Pooling, normalize: bool) -> np.ndarray:
        batch = batch.to(self.compute.device)
        hidden, mask = self.model(batch.inputs, batch.mask)
        found = pooled(hidden.float(), mask)
        return (F.normalize(found, dim=-1) if normalize else found).cpu().numpy()
