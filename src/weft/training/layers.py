"""A network's layers in training: rates that fall layer by layer, and layers that are freed one an epoch (E108; Howard & Ruder, 2018)."""

from __future__ import annotations

from torch.nn import Module, Parameter

from weft.errors import InputError

TUNE = ("all", "gradual", "head")


class Layers:
    """Which parameters of a network learn in an epoch, and at which share of the rate.

    model.layer_groups() names the parameters of its layers, lowest first; what is in none of them is the head.
    decay: the head has the full rate, the layer below it a `decay`-th of it, and so on down (E108: 2.6).
    tune: "all" of it; the "head" alone; or "gradual": in epoch e, from 1, the head and the last e layers.
    Raises InputError for a network that does not say its layers, where they matter; ValueError where it names what it does not have.
    """

    def __init__(self, model: Module, tune: str = "all", decay: float = 1.0) -> None:
        self.tune, self.names, self.freed = tune, list[list[str]](), 0
        self.decay = decay
        if tune != "all" or decay != 1.0:
            if not hasattr(model, "layer_groups"):
                raise InputError("this network does not say what its layers are", "layer_decay" if tune == "all" else "tune")
            self.names = model.layer_groups()  # type: ignore[operator]
        there = dict(model.named_parameters())
        if wrong := [name for group in self.names for name in group if name not in there]:
            raise ValueError(f"layer_groups() names {wrong[0]!r}, which is no parameter of the network")
        self.layers: list[list[Parameter]] = [[there[name] for name in group if there[name].requires_grad] for group in self.names]

    def multipliers(self) -> dict[str, float] | None:
        """Each layer's share of the rate, by the names of its parameters."""
        if self.decay == 1.0:
            return None
        return {name: self.decay ** (number - len(self.names)) for number, group in enumerate(self.names) for name in group}

    def freeze_for(self, epoch: int) -> bool:
        """Freezes what does not learn in that epoch, from 0, and frees the rest; whether anything changed since the last call."""
        if self.tune == "all":
            return False
        free = 1 + (0 if self.tune == "head" else min(epoch + 1, len(self.layers)))  # with the head
        changed, self.freed = free != self.freed, free
        if changed:
            for number, layer in enumerate(reversed(self.layers), start=2):
                for parameter in layer:
                    parameter.requires_grad_(number <= free)
        return changed

    def release(self) -> None:
        """Everything may learn again."""
        for layer in self.layers:
            for parameter in layer:
                parameter.requires_grad_(True)
