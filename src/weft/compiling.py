"""Numba's machine code: compiled once and kept on disk, free of Python's lock while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`function` as machine code; division is NumPy's, with no check that would stop vectorisation. options: further ones of numba.njit."""
    import numba  # half a second

    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to write: compiled anew in each process
        return numba.njit(**options)(function)
