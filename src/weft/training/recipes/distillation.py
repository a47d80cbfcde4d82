"""Distillation: what a teacher says of every example, asked once, so that the student's epochs pay for the student alone (E110).

Temperature and labels beside it: Hinton et al., 2015. Vectors as hints, projected to the teacher's size: Romero et al., 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Module

from weft.data.batch import Batch, Batches
from weft.device import Compute, autocast
from weft.errors import InputError
from weft.losses import Distillation, Loss, check_distillation
from weft.models.layers import layers_of

TEMPERATURE = 2.0


@dataclass(frozen=True)
class Recipe:
    """How a student is taught. temperature: of the softmax on both sides, TEMPERATURE unless told; share: of the teacher, the rest is the
    labels'; on: "probabilities" or "logits", what is imitated; vectors: weight of the distance to the teacher's vectors, 0 for none.

    Raises InputError for numbers that cannot be, and for a temperature where logits are imitated as they are.
    """

    temperature: float | None = None
    share: float = 0.9
    on: str = "probabilities"
    vectors: float = 0.0

    def __post_init__(self) -> None:
        check_distillation(TEMPERATURE if self.temperature is None else self.temperature, self.share, self.on, self.vectors)
        if self.on == "logits" and self.temperature is not None:
            raise InputError("is of probabilities; logits are imitated as they are", "temperature")

    def loss(self, labels: Loss, lessons: Lessons, *, several: bool) -> Distillation:
        """The objective, where `lessons` are the teacher's of the very examples that are trained on."""
        heat = TEMPERATURE if self.temperature is None else self.temperature
        return Distillation(labels, lessons.logits, heat, self.share, self.on, several, lessons.vectors, self.vectors)


@dataclass
class Lessons:
    """What a teacher says of N examples, in their order: logits (N, K); its vectors (N, H) or None."""

    logits: Tensor
    vectors: Tensor | None = None


def lessons_of(teacher: Any, batches: Batches, compute: Compute) -> Lessons:
    """The teacher's logits and the vectors under its head, of every example of `batches`, float32. teacher: vector(batch), head."""
    logits, vectors = [], []
    order: list[Tensor] = []
    teacher.eval()
    with torch.inference_mode(), autocast(compute):
        for batch in batches:
            vector = teacher.vector(batch.to(compute.device))
            logits.append(teacher.head(vector).float().cpu())
            vectors.append(vector.float().cpu())
            order.append(batch.source)
    place = torch.cat(order).argsort()
    return Lessons(torch.cat(logits)[place], torch.cat(vectors)[place])


class Follower(Module):
    """A student whose vectors are held to a teacher's: batch → (logits (B, K), W·vector (B, H))."""

    def __init__(self, student: Any, size: int) -> None:
        super().__init__()
        self.student, self.config = student, student.config
        self.project = nn.Linear(student.vector_size, size)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        vector = self.student.vector(batch)
        return self.student.head(vector), self.project(vector)

    def layer_groups(self) -> list[list[str]]:
        """The student's."""
        return layers_of(self.student, "student.")
