"""What the peers of benchmarks/seq2seq.py share: weft's Transformer weights in pieces under neutral names, rows of ids padded, clocks.

It needs NumPy and torch alone: it runs in the peers' own environments.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Times = tuple[float, float]  # seconds by the clock, and of processors
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def now() -> Times:
    return time.perf_counter(), time.process_time()


def since(started: Times) -> Times:
    return time.perf_counter() - started[0], time.process_time() - started[1]


def weights_of(path: str | Path) -> dict[str, Tensor]:
    """The arrays of an .npz, by weft's names."""
    with np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def blocks(weights: dict[str, Tensor], side: str) -> Iterator[tuple[int, str, Tensor]]:
    """(block, name, tensor) of all blocks of the "encoder" or the "decoder".

    Names are of self, cross, enter, leave, self_norm, cross_norm, feed_norm; the first two each q, k, v, out; and weight or bias:
    "self.q.weight". W_Q, W_K and W_V are one matrix in weft, in this order.
    """
    renamed = {
        "attention": "self", "cross_attention": "cross", "feed_forward.enter": "enter", "feed_forward.leave": "leave",
        "attention_norm": "self_norm", "cross_norm": "cross_norm", "feed_forward_norm": "feed_norm",
    }  # fmt: skip
    start = f"{side}.{side}.blocks."
    for name, tensor in weights.items():
        if not name.startswith(start):
            continue
        number, rest = name.removeprefix(start).split(".", 1)
        layer, kind = rest.rsplit(".", 1)
        if layer.endswith("attention.input"):
            for part, piece in zip("qkv", tensor.chunk(3)):
                yield int(number), f"{renamed[layer.removesuffix('.input')]}.{part}.{kind}", piece
        elif layer.endswith("attention.output"):
            yield int(number), f"{renamed[layer.removesuffix('.output')]}.out.{kind}", tensor
        else:
            yield int(number), f"{renamed[layer]}.{kind}", tensor


def put(module: torch.nn.Module, name: str, tensor: Tensor) -> None:
    """Sets a parameter by its dotted name. Raises ValueError where its shape is another."""
    parameter = module.get_parameter(name)
    if parameter.shape != tensor.shape:
        raise ValueError(f"{name} is {tuple(parameter.shape)}, weft's is {tuple(tensor.shape)}")
    with torch.no_grad():
        parameter.copy_(tensor)


def padded(rows: list[list[int]], fill: int) -> Tensor:
    """(B, T): rows of ids, `fill` after the end of each."""
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])
