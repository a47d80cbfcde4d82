"""Machine code for kernels, whether or not it can be kept."""

import numba
import numpy as np
import pytest

from weft import compiling
from weft.nn import crf_kernels
from weft.vectors import compiled

KINDS = {"plain": compiling.compiled, "of the CRF": crf_kernels._compiled, "of word vectors": compiled.compiled}


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_work_where_nothing_can_be_kept_on_disk(kind, monkeypatch):
    real, asked = numba.njit, []

    def nowhere(*args, cache=False, **options):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*args, **options)

    monkeypatch.setattr(numba, "njit", nowhere)
    assert KINDS[kind](lambda a: a + 1)(np.ones(2)).tolist() == [2, 2]
    assert asked[:2] == [True, False]  # Numba itself may ask for more
