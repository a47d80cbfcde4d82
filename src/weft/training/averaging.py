"""Means of the weights along a training: what development data is looked at with, and what stays at the end.

Exponential: Polyak's average that forgets (Kingma & Ba, 2015, section 7.2). NT-ASGD, averaged SGD set off by development data that has
ceased to improve: Merity et al., 2018, section 4, algorithm 1; the average itself: Polyak & Juditsky, 1992.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from weft.training.callbacks import EarlyStopping
from weft.training.checkpoint import uninterrupted

log = logging.getLogger("weft")
AVERAGING = ("none", "exponential", "nt-asgd")
WINDOW = 10  # an exponential average of t steps is of the last t/(WINDOW - 1) or so, until its decay says fewer


class Average:
    """The running mean ā of some parameters w, of one kind of AVERAGING.

    "exponential": after step t (from 1) ā ← dā + (1 − d)w, d = min(decay, (1 + t)/(10 + t)), from the initial weights on: about the last
    1/(1 − decay) steps count and, while there are few, about the last ninth of them.
    "nt-asgd": nothing until a check is worse than the best of all but the `interval` checks before it; from then on the plain mean of the
    weights, those of that check included. "none": never anything.
    """

    def __init__(self, parameters: Sequence[Parameter], kind: str = "none", decay: float = 0.999, interval: int = 5) -> None:
        self.parameters, self.kind, self.decay, self.interval = list(parameters), kind, decay, interval
        self.count = 0  # of weights in the mean, or steps
        self.values: list[float] = []  # of the checks so far
        self.tensors: list[Tensor] | None = None
        if kind == "exponential":
            self.start()

    @property
    def active(self) -> bool:
        """Whether there is a mean that differs from the weights."""
        return self.tensors is not None

    @torch.no_grad()
    def start(self) -> None:
        """The mean is the weights as they are now."""
        self.tensors, self.count = [parameter.detach().clone() for parameter in self.parameters], 1

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights after a step."""
        if self.tensors is None:
            return
        share = 1 / (self.count + 1) if self.kind == "nt-asgd" else 1 - min(self.decay, (1 + self.count) / (WINDOW + self.count))
        self.count += 1
        torch._foreach_lerp_(self.tensors, [parameter.detach() for parameter in self.parameters], share)

    def look(self, value: float, monitor: str) -> None:
        """Takes in what a check found, of the metric `monitor`: whether averaging begins here (NT-ASGD)."""
        if self.kind != "nt-asgd" or self.active:
            return
        now = EarlyStopping(monitor, best=value)
        if any(now.better(before) for before in self.values[: -self.interval]):
            self.start()
            log.info("development data has ceased to improve: weights are averaged from here on")
        self.values.append(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While it lasts the parameters hold the mean, if there is one."""
        if self.tensors is None:
            yield
            return
        own = [parameter.detach().clone() for parameter in self.parameters]
        try:
            with uninterrupted():
                self.put(self.tensors)
            yield
        finally:
            with uninterrupted():
                self.put(own)

    @torch.no_grad()
    def put(self, tensors: Sequence[Tensor] | None = None) -> None:
        """The parameters become the mean (or `tensors`)."""
        for parameter, value in zip(self.parameters, tensors or self.tensors or (), strict=False):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """All that a resume needs."""
        return {"count": self.count, "values": self.values, "tensors": self.tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` gave. Raises ValueError where it is of other parameters."""
        tensors = state["tensors"]
        if tensors is not None:
            if [value.shape for value in tensors] != [parameter.shape for parameter in self.parameters]:
                raise ValueError(f"the mean is of {len(tensors)} other tensors than the {len(self.parameters)} parameters")
            tensors = [value.to(parameter.device) for value, parameter in zip(tensors, self.parameters, strict=True)]
        self.count, self.values, self.tensors = int(state["count"]), list(state["values"]), tensors
