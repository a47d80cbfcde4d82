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
