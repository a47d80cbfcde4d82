"""Many processes, one training: `torchrun --nproc-per-node 2 -m weft train …` (DistributedDataParallel; gloo on CPUs, nccl on GPUs).

Nothing else in weft imports torch.distributed. In a single process every function here is the identity, so callers never ask.
A step's batch is cut among the ranks and each loss term is divided by its count over all of them (E11): two ranks do what one does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as torch_distributed
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.parallel import DistributedDataParallel

from weft.data.batch import Batch
from weft.errors import InputError


def rank() -> int:
    """This process's number, 0 in a run of one."""
    return torch_distributed.get_rank() if _running() else 0


def ranks() -> int:
    """How many processes train together."""
    return torch_distributed.get_world_size() if _running() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Joins the group that torchrun describes in the environment, if there is one, and leaves it at the end."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or _running():
        yield
        return
    torch_distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        torch_distributed.destroy_process_group()


def wrap(model: Module, device: torch.device) -> Module:
    """The model whose backward pass averages dense gradients over ranks; the model itself in a run of one.

    Sparse gradients are `exchange_rows`'s: DistributedDataParallel knows those of torch's own embedding layers alone, and gloo breaks
    where one rank's has no rows (a batch of empty texts).
    """
    if ranks() == 1:
        return model
    for parameter in _tables(model).values():
        torch_distributed.broadcast(parameter.data, 0)  # as is done for all others there
    leave: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    leave(model, list(_tables(model)))
    # no buffer changes in training, and fixed tables of word vectors are large: nothing to send at every step
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False)


def exchange_rows(model: Module) -> None:
    """After the last backward pass of a step: averages over the ranks the gradients that hold only rows of a table."""
    if ranks() > 1:
        for parameter in _tables(model).values():
            parameter.grad = _averaged_rows(parameter)


def _tables(model: Module) -> dict[str, Parameter]:
    """The tables that are updated by rows, by their names: weights of modules made with `sparse=True`."""
    modules = {name: module for name, module in model.named_modules() if getattr(module, "sparse", False)}
    found = {f"{name}.weight" if name else "weight": module.weight for name, module in modules.items()}
    return {name: weight for name, weight in found.items() if isinstance(weight, Parameter) and weight.requires_grad}


def _averaged_rows(parameter: Parameter) -> Tensor:
    """The mean over ranks of a sparse gradient, each rank's as many rows as it looked up, which may be none."""
    if parameter.grad is None:
        rows, values = torch.empty(0, dtype=torch.int64, device=parameter.device), parameter.detach()[:0]
    else:
        gradient = parameter.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
    counts = [int(count) for count in _gathered(torch.tensor([len(rows)], device=parameter.device))]
    missing = max(counts) - len(rows)  # what is exchanged has one shape on all ranks
    all_rows = _gathered(torch.cat([rows, rows.new_zeros(missing)]))
    all_values = _gathered(torch.cat([values, values.new_zeros(missing, *values.shape[1:])]))
    rows = torch.cat([part[:count] for part, count in zip(all_rows, counts, strict=True)])
    values = torch.cat([part[:count] for part, count in zip(all_values, counts, strict=True)]) / ranks()
    return torch.sparse_coo_tensor(rows[None], values, parameter.shape, check_invariants=False).coalesce()


def _gathered(tensor: Tensor) -> list[Tensor]:
    """This tensor of every rank."""
    found = [torch.empty_like(tensor) for _ in range(ranks())]
    torch_distributed.all_gather(found, tensor)
    return found


def without_averaging(model: Module, last: bool) -> Any:
    """A context in which gradients only accumulate here; with `last` they are exchanged."""
    if isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    return nullcontext()


def shard(batch: Batch) -> tuple[Batch, float]:
    """This rank's rows of the batch, and the weight of their loss: 0.0 for a rank that got none and only keeps step."""
    count = ranks()
    if count == 1:
        return batch, 1.0
    if len(batch) <= rank():
        return batch.rows(slice(0, 1)), 0.0
    return batch.rows(slice(rank(), None, count)), 1.0


def sum_over_ranks(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Each value summed over the ranks (every rank must hold the same keys)."""
    if ranks() == 1:
        return values
    names = sorted(values)
    total = torch.tensor([values[name] for name in names], dtype=torch.float64, device=device)
    torch_distributed.all_reduce(total)
    return dict(zip(names, total.tolist(), strict=True))


def sum_array(values: np.ndarray) -> np.ndarray:
    """The sum of the arrays (all of one shape and type) that the ranks bring, on every rank: a new array. On processors alone (gloo)."""
    if ranks() == 1:
        return values.copy()
    total = torch.from_numpy(np.ascontiguousarray(values)).clone()
    torch_distributed.all_reduce(total)
    return total.numpy()


def agree(value: float, device: torch.device) -> float:
    """Rank 0's value, on every rank: decisions (early stopping) must not fall apart over the last bit."""
    if ranks() == 1:
        return value
    shared: Tensor = torch.tensor([value], dtype=torch.float64, device=device)
    torch_distributed.broadcast(shared, 0)
    return float(shared.item())


def all_see(path: Path, device: torch.device) -> bool:
    """Whether `path` exists. Raises InputError where this rank and the first disagree: they must share the folder."""
    here = path.exists()
    if bool(agree(float(here), device)) != here:
        raise InputError(f"rank {rank()} {'sees' if here else 'misses'} it, unlike rank 0; ranks must share the folder", str(path))
    return here


def local_device(device: torch.device) -> torch.device:
    """The GPU of this rank when several share a machine; raises InputError where there are fewer GPUs than ranks."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type != "cuda" or "RANK" not in os.environ:
        return device
    if local >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise InputError(f"rank {local} has no GPU: this machine has {there}; start no more ranks than GPUs, or add --device cpu")
    return torch.device("cuda", local)


def _running() -> bool:
    return torch_distributed.is_available() and torch_distributed.is_initialized()
