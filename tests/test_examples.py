"""The examples run as they stand, and find what they say they find."""

from __future__ import annotations

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_items_and_nodes(capsys):
    right, agree = runpy.run_path(str(EXAMPLES / "items_and_nodes.py"))["main"]()
    assert right > 0.85  # the nearest products of each are of its own theme; by chance a third
    assert agree >= 0.9  # published divisions get 33 of 34 right
    assert "oat flakes:" in capsys.readouterr().out


def test_counting():
    """One seed, and few steps: what was seen is counted right by now; how far beyond, the page tells of five."""
    found = runpy.run_path(str(EXAMPLES / "counting.py"))["main"](seeds=1, steps=400)
    assert list(found) == ["lstm", "gru"]
    assert all(rows[0][0] >= 8 for rows in found.values())


def test_gradient_through_time(tmp_path):
    """E73: Elman's and the GRU's gradients vanish, an LSTM's with open forget gates does not."""
    curves = runpy.run_path(str(EXAMPLES / "gradient_through_time.py"))["main"](str(tmp_path / "figure.svg"))
    assert curves["Elman"][49] < 1e-5 and curves["GRU"][49] < 1e-5
    assert 1e-5 < curves["LSTM, forget bias 1"][49] < 1e-2 < curves["LSTM, forget bias 4"][49]
    assert "forget bias 4" in (tmp_path / "figure.svg").read_text()
