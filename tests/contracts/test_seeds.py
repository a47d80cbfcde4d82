"""Contract 3: same seed, machine and threads: same weights, to the byte, whatever PYTHONHASHSEED. Every neural rung, fitted as users do.

weft trains in the process it is called in; there are no data workers whose number could matter.
"""

from __future__ import annotations

import fits
import pytest
from contracts import under_hash_seeds


@pytest.fixture(scope="session")
def elsewhere() -> list[dict[str, str]]:
    """The digests of every case in processes of other hash seeds."""
    return under_hash_seeds(fits.__file__)


@pytest.mark.parametrize("case", fits.CASES)
def test_same_seed_same_bytes(elsewhere, case):
    assert elsewhere[0][case] == elsewhere[1][case] == fits.digest(fits.fitted(case))


def test_another_seed_is_another_model(elsewhere):
    assert elsewhere[0]["another seed"] != elsewhere[0]["cnn"]
