"""Where and how numbers are computed: device, precision (bf16 where the processor has it), threads, seeds; chosen once, said aloud.

torch is imported inside the functions, so that what only needs to name a device starts fast.
"""

from __future__ import annotations

import logging
import math
import os
import random
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import InputError

if TYPE_CHECKING:
    import torch

log = logging.getLogger("weft")

PRECISIONS = ("auto", "fp32", "bf16")
BF16_FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}  # as Linux names them -> as people do; the faster first
LARGEST_SEED = 2**32 - 1  # NumPy's


@dataclass(frozen=True)
class Compute:
    """Where a model runs: its device, "fp32" or "bf16" (weights stay fp32, matrix products are autocast), threads of one operation."""

    device: torch.device
    precision: str
    threads: int


def choose(device: str = "auto", precision: str = "auto", threads: int | None = None) -> Compute:
    """Decide where to compute, and say so once a process. Sets torch's thread count.

    device: "auto" (a CUDA GPU if there is one, else the CPU), "cpu", "cuda", "cuda:1", "mps". precision: "auto" (bf16 where it
    is fast, else fp32), "fp32", "bf16". threads: of the CPU; None for OMP_NUM_THREADS, else as many as this process may use.
    Raises InputError for a name that is not one of these, a device that is not there, threads below 1, or bf16 on mps.
    """
    import torch

    if precision not in PRECISIONS:
        raise InputError(f"must be one of {', '.join(PRECISIONS)}, not {precision!r}", "precision")
    chosen = _find(device)
    if threads is None:
        threads = torch.get_num_threads() if os.environ.get("OMP_NUM_THREADS") else min(torch.get_num_threads(), allowed_processors())
    elif threads < 1:
        raise InputError(f"must be at least 1, not {threads}", "threads")
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    kind, why = _precision(chosen, precision)
    _say(f"computing on {chosen} in {kind} ({why}), {threads} thread{'s' if threads > 1 else ''}")
    return Compute(chosen, kind, threads)


def _find(name: str) -> torch.device:
    """The device of that name, known to be there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device: torch.device | None = None
    with suppress(RuntimeError):  # what torch says of an unknown name
        device = torch.device(name)
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"must be auto, cpu, cuda, cuda:N or mps, not {name!r}", "device")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if (device.index or 0) >= count:
        there = f"there are {count}" if count else "there is none"
        raise InputError(f"{name} is not on this machine ({there} that torch can use); auto or cpu would run", "device")
    return device


def _precision(device: torch.device, wanted: str) -> tuple[str, str]:
    """("fp32" or "bf16", why)."""
    if wanted == "bf16" and device.type == "mps":
        raise InputError("bf16 is for cpu and cuda; mps runs in fp32", "precision")
    if wanted == "bf16" and not has_fast_bf16(device.type):
        kind = "GPU" if device.type == "cuda" else "processor"
        log.warning("this %s has no bf16 arithmetic of its own: bf16 will be slower than fp32", kind)
    if wanted != "auto":
        return wanted, "as asked"
    if not has_fast_bf16(device.type):
        return "fp32", "no fast bf16 here"
    if device.type == "cuda":
        return "bf16", "the GPU has it"
    flags = processor_flags()
    return "bf16", f"the processor has {next(name for flag, name in BF16_FLAGS.items() if flag in flags)}"


def has_fast_bf16(device: str = "cpu") -> bool:
    """Whether bf16 products beat fp32 there: AMX or AVX512-BF16 on a processor, Ampere or later on a GPU; False on mps."""
    if device == "cuda":
        import torch

        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and any(flag in processor_flags() for flag in BF16_FLAGS)


@lru_cache(maxsize=1)
def processor_flags() -> frozenset[str]:
    """What the first processor can do, in Linux's words; empty where the system does not tell (macOS)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def allowed_processors(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many processors this process may keep busy: its affinity, or its container's quota where that is smaller.

    More threads than that wait for one another, many times slower than fewer would be.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text(encoding="ascii").split()
        count = min(count, math.ceil(int(share) / int(period)))
    except (OSError, ValueError):
        pass  # no container, or "max": no quota
    return max(1, count)


def autocast(compute: Compute) -> AbstractContextManager[object]:
    """A context in which matrix products run in `compute.precision`; in fp32 it changes nothing, whatever surrounds it."""
    import torch

    return torch.autocast(compute.device.type, dtype=torch.bfloat16, enabled=compute.precision == "bf16")


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators (every device). Raises InputError for a seed outside 0 … 2³²-1."""
    import numpy as np
    import torch

    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"must be from 0 to {LARGEST_SEED}, not {seed}", "seed")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # libraries still draw from it
    torch.manual_seed(seed)


@lru_cache(maxsize=64)
def _say(line: str) -> None:
    """A ladder of sixteen rungs makes the same choice sixteen times; the cache lets it be said once."""
    log.info("%s", line)
