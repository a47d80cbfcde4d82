"""Contract 3: same seed, machine and threads: same weights, to the byte, whatever PYTHONHASHSEED. Every neural rung, fitted as users do.

weft trains in the process it is called in; there are no data workers whose number could matter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import fits
import pytest


@pytest.fixture(scope="session")
def elsewhere() -> list[dict[str, str]]:
    """The digests of every case in processes of other hash seeds."""
    running = []
    for seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, fits.__file__]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    found = []
    for process in running:
        out, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
        found.append(json.loads(out))
    return found


@pytest.mark.parametrize("case", fits.CASES)
def test_same_seed_same_bytes(elsewhere, case):
    assert elsewhere[0][case] == elsewhere[1][case] == fits.digest(fits.fitted(case))


def test_another_seed_is_another_model(elsewhere):
    assert elsewhere[0]["another seed"] != elsewhere[0]["cnn"]
