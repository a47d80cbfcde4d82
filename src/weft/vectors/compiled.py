"""How the kernels of this room are compiled: by Numba, once, kept on disk, free of Python's lock while they run."""

# mypy: allow-untyped-calls
# (Numba and llvmlite have no types)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from weft import compiling

# Sums may be reordered and products fused, else no loop over floats is vectorised; NaN and infinity stay what they are. Division by zero
# is NumPy's.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code."""
    return compiling.compiled(function, **OPTIONS)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for use inside kernels: machine code that is put where it is called."""
    return numba.njit(inline="always", **OPTIONS)(function)


def _lent(context: Any, array: Any) -> Any:
    """Inside a kernel, the same array as one that owns nothing.

    Numba counts the references of arrays that own their memory by atomic steps, at every call that takes one: a quarter of a kernel's
    time on one thread, and more on two, who count in one place. The caller of the outermost kernel keeps the owner alive.
    """

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        make = target.make_array(signature.return_type)
        given, made = make(target, builder, arguments[0]), make(target, builder)
        for part in ("nitems", "itemsize", "data", "shape", "strides"):
            setattr(made, part, getattr(given, part))
        made.meminfo = cgutils.get_null_value(made.meminfo.type)
        made.parent = cgutils.get_null_value(made.parent.type)
        return made._getvalue()

    return array(array), generate


lent: Any = intrinsic(_lent)


def _prefetched(context: Any, table: Any, row: Any, column: Any) -> Any:
    """Inside a kernel, asks the processor to load the cache line of table[row, column], which will soon be read and written."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = target.make_array(signature.args[0])(target, builder, arguments[0])
        indices = [target.cast(builder, arguments[i], signature.args[i], types.intp) for i in (1, 2)]
        shape, strides = (cgutils.unpack_tuple(builder, part, 2) for part in (array.shape, array.strides))
        place = cgutils.get_item_pointer2(target, builder, array.data, shape, strides, "C", indices)
        number = ir.IntType(32)
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(fetch, [builder.bitcast(place, byte), number(1), number(3), number(1)])
        return target.get_dummy_value()

    return types.void(table, row, column), generate


prefetched: Any = intrinsic(_prefetched)
