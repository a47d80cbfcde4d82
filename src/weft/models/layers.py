"""The layers of a network by the names of their parameters, lowest first: what rates by layer and gradual unfreezing go by (E108)."""

from __future__ import annotations

from torch.nn import Module, ModuleList

STACKS = ("layers", "blocks", "cells")  # what modules call the list of their layers


def layers_of(module: Module, prefix: str = "") -> list[list[str]]:
    """Names of a module's trainable parameters by layer, lowest first, `prefix` before each; a module that says its own is asked.

    With a stack of layers: what comes before it (embeddings, projections), each layer, the last one with what comes after it. Without:
    the embeddings, then the rest. No group is empty.
    """
    if hasattr(module, "layer_groups"):
        return [[prefix + name for name in group] for group in module.layer_groups()]  # type: ignore[operator]
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    stack = _stack(module)
    if not stack:
        groups = [[name for name in names if name.startswith("embedding") == lowest] for lowest in (True, False)]
    else:
        numbers = [next((number for beginning, number in stack.items() if name.startswith(beginning)), 0) for name in names]
        first = next((at for at, number in enumerate(numbers) if number), len(names))
        groups = [[] for _ in range(1 + max(stack.values()))]
        for at, (name, number) in enumerate(zip(names, numbers, strict=True)):
            groups[number or (0 if at < first else -1)].append(name)
    return [[prefix + name for name in group] for group in groups if group]


def _stack(module: Module) -> dict[str, int]:
    """The first stack of layers in a module: the beginning of the parameters' names → the layer's number, from 1; both directions of a
    recurrent layer have one number."""
    for name, part in module.named_modules():
        if isinstance(part, ModuleList) and name.rsplit(".", 1)[-1] in STACKS and any(True for _ in part.parameters()):
            owner = module.get_submodule(name.rpartition(".")[0])
            abreast = int(getattr(owner, "directions", 1))
            return {f"{name}.{number}.": 1 + number // abreast for number in range(len(part))}
    return {}
