"""How the kernels of this room are compiled: by Numba, once, kept on disk, free of Python's lock while they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

# Sums may be reordered and products fused, else no loop over floats is vectorised; NaN and infinity stay what they are. Division by zero
# is NumPy's.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code."""
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # nowhere to write: compiled anew in each process
        return numba.njit(**OPTIONS)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for use inside kernels: machine code that is put where it is called."""
    return numba.njit(inline="always", **OPTIONS)(function)
