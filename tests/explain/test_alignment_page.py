"""Alignments as pages and pictures: every token escaped, a shade for every weight, maps of other sizes refused."""

from __future__ import annotations

import numpy as np
import pytest
from pages import Strict

from weft.errors import InputError
from weft.explain.alignment_page import Map, named_maps, render, shade, write_page

SOURCE, TARGET = ["<b>", " ", "c"], ["x", "</s>"]
WEIGHTS = np.array([[1.0, 0.0, 0.26], [0.01, 0.5, 0.49]])


def test_a_page_is_whole_and_escaped():
    text = render(SOURCE, TARGET, [Map("layer 1, head 1", WEIGHTS)], title="a <script> → b")
    page = Strict()
    page.feed(text)
    page.close()
    assert page.open == [] and "script" not in {tag for tag, _ in page.seen}
    cells = [attributes for tag, attributes in page.seen if tag == "td"][1:]  # the corner is the first
    assert [cell.get("class") for cell in cells] == ["w20", None, "w5", None, "w10", "w10"]
    assert cells[2]["title"] == "x ← c: 0.26"
    heads = "".join(page.text)
    assert "<b>" in heads and "␣" in heads and "layer 1, head 1" in heads


def test_shades_are_the_weights_in_twentieths():
    assert [shade(weight) for weight in (0.0, 0.024, 0.026, 0.5, 1.0, 1.2, -0.1)] == [None, None, "w1", "w10", "w20", "w20", None]


def test_maps_of_heads_are_their_mean_and_each():
    heads = np.stack([WEIGHTS, 1 - WEIGHTS])
    found = named_maps([heads, heads])
    assert [one.name for one in found] == [f"layer {layer}, {what}" for layer in (1, 2) for what in ("mean of 2 heads", "head 1", "head 2")]
    np.testing.assert_allclose(found[0].weights, 0.5)
    assert found[1].weights is heads[0] or np.array_equal(found[1].weights, heads[0])
    assert [one.name for one in named_maps([WEIGHTS])] == ["attention"]


def test_a_map_of_other_tokens_is_refused(tmp_path):
    with pytest.raises(InputError, match="is 2 by 3, not 1 target tokens by 3 source tokens"):
        write_page(SOURCE, TARGET[:1], [Map("attention", WEIGHTS)], tmp_path / "page.html", title="t")
    assert not (tmp_path / "page.html").exists()
