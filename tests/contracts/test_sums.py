"""Contract 2: k micro-batches are one batch, two ranks are one process: same loss terms, same gradients. Every neural rung."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import ranks
from contracts import assert_same, one_step
from tiny import HEADS, corpus, network

from weft.losses import CrossEntropy


@pytest.mark.parametrize("rung,kind", HEADS)
def test_micro_batches_are_one_batch(rung, kind):
    data = corpus(kind, count=11)
    whole, *parts = (one_step(network(rung, kind, dropout=0.0), data, parts) for parts in (1, 3, 4, 11, 50))
    for part in parts:
        assert_same(whole, part)


@pytest.mark.parametrize("smoothing,weights", [(0.0, (1.0, 5.0, 0.1)), (0.2, (0.5, 1.0, 2.0)), (0.1, None)])
def test_so_are_they_where_examples_count_differently(smoothing, weights):
    """Class weights, and targets that do not count at all, make the parts of a sum unequal: a mean of means would be another number."""
    data = corpus(count=11)
    data.targets[[1, 4, 5]] = -100
    loss = CrossEntropy(smoothing=smoothing, class_weights=weights)
    whole, *parts = (one_step(network("cnn", dropout=0.0), data, parts, loss) for parts in (1, 4, 11))
    for part in parts:
        assert_same(whole, part)


def test_the_hinge_is_no_exception():
    data = corpus(count=11)
    whole, part = (one_step(network("lstm", dropout=0.0, loss="hinge"), data, parts) for parts in (1, 4))
    assert_same(whole, part)


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory) -> dict[str, dict]:
    """What two ranks on this machine make of every case of `ranks.found`."""
    out = tmp_path_factory.mktemp("ranks") / "found.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, ranks.__file__, "2", str(out)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", ranks.CASES)
def test_two_ranks_are_one_process(two_ranks, case):
    one, two = ranks.trained(case), two_ranks[case]
    assert len(one["losses"]) == len(two["losses"]) == 6
    for alone, together in zip(one["losses"], two["losses"]):
        assert together == pytest.approx(alone, rel=1e-5)
    assert two["checks"] == pytest.approx(one["checks"], rel=1e-5)
    assert one["weights"].keys() == two["weights"].keys()
    moved = 0.0
    for name, before in one["start"].items():
        far = np.abs(np.subtract(one["weights"][name], before)).max()
        np.testing.assert_allclose(two["weights"][name], one["weights"][name], rtol=0, atol=1e-6 + 1e-3 * far, err_msg=name)
        moved = max(moved, far)
    assert moved > 0.01


def test_each_rank_draws_dropout_of_its_own(two_ranks):
    """Exempt from the contract: with dropout two ranks are no longer one process, and must not both draw the same either."""
    first, second = two_ranks["draws"]
    assert first != second
    assert ranks.draw(0) == first
