"""How the kernels of this room are compiled: by Numba, once, kept on disk, free of Python's lock while they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code. Sums may be reordered (else no loop over floats is vectorised); division by zero is NumPy's."""
    options: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to write: compiled anew in each process
        return numba.njit(**options)(function)
