"""Seconds and memory a token as rows grow, for `python benchmarks/language_model.py --only cost`: GPT and BERT, 4 layers of one size, fp32.

training: a forward and a backward pass over rows of so many tokens, as many rows as make a fixed number of tokens; memory is what the
forward pass keeps for the backward one (every tensor saved by autograd, once). next: one more token of a row of so many, from its cache,
whose keys and values are its memory. Attention's part grows with the length; all else does not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from weft.data.batch import Batch
from weft.models.bert import Bert, BertConfig
from weft.models.language_model import LanguageModel, LanguageModelConfig

LAYERS, HEADS, TOKENS, VOCABULARY = 4, 4, 2048, 1000


def gpt(size: int, length: int) -> LanguageModel:
    settings = {
        "hidden_size": size,
        "layers": LAYERS,
        "heads": HEADS,
        "layer_dropout": 0.0,
        "positions": "learned",
        "maximum_positions": length,
    }
    return LanguageModel(LanguageModelConfig(VOCABULARY, encoder_settings=settings, embedding_size=size))


def bert(size: int, length: int) -> Bert:
    config = BertConfig(VOCABULARY, size, LAYERS, HEADS, maximum_positions=length, segments=0, dropout=0.0, pooler=False)
    return Bert(config)


def passes(name: str, size: int, length: int) -> tuple[Module, Callable[[], Tensor]]:
    """A network and its forward pass of a step; what that gives is summed up for the backward one."""
    rows = max(1, TOKENS // length)
    ids = torch.randint(1, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    if name == "GPT":
        model, batch = gpt(size, length), Batch(ids, mask, ids, torch.arange(rows))
        return model, lambda: model(batch).losses.mean()
    encoder = bert(size, length)
    return encoder, lambda: encoder(ids, mask)[0].square().mean()


def kept(model: Module, work: Callable[[], Tensor]) -> int:
    """Bytes that the forward pass keeps for the backward one, the weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return sum(size for place, size in found.items() if place not in weights)


def _learn(work: Callable[[], Tensor]) -> None:
    work().backward()  # type: ignore[no-untyped-call]


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median; the first is not counted."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def following(size: int, length: int, repeats: int) -> tuple[float, int]:
    """(seconds of one more token of a row of so many, bytes of its cache)."""
    model = gpt(size, length + repeats + 2).eval()
    ids = torch.randint(1, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        state = model.step(ids[:, 0], model.start(Batch(ids, torch.ones_like(ids, dtype=torch.bool), None, torch.arange(1)))).state

        def one() -> None:
            nonlocal state
            state = model.step(ids[:, 0], state).state

        spent = seconds(one, repeats)
    return spent, 2 * LAYERS * length * size * 4


def cost(lengths: Sequence[int], repeats: int, size: int) -> list[dict[str, Any]]:
    """The table, printed."""
    print("\n| a token | " + " | ".join(map(str, lengths)) + " |\n|---|" + "---|" * len(lengths))
    rows: list[dict[str, Any]] = []

    def row(what: str, unit: str, values: Sequence[float]) -> None:
        print(f"| {what}, {unit} | " + " | ".join(f"{value:.2f}" for value in values) + " |", flush=True)
        rows.append({"what": what, "unit": unit, "lengths": list(lengths), "values": list(values)})

    for name in ("GPT", "BERT"):
        spent, held = [], []
        for length in lengths:
            model, work = passes(name, size, length)
            count = max(1, TOKENS // length) * length
            spent.append(1e6 * seconds(partial(_learn, work), repeats) / count)
            held.append(kept(model, work) / count / 1000)
        row(f"{name}, a step of training", "µs", spent)
        row(f"{name}, kept for the backward pass", "kB", held)
    found = [following(size, length, repeats) for length in lengths]
    row("GPT, the next token from a cache", "µs", [1e6 * spent for spent, _ in found])
    row("GPT, cache of the whole row", "kB", [held / 1000 for _, held in found])
    return rows
