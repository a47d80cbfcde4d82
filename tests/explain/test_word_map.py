"""The map: PCA against covariances, places of names by looking at every pair, pages that are closed in themselves, TensorBoard's files."""

from __future__ import annotations

import itertools
import re
import sys

import numpy as np
import pytest
from pages import Strict

from weft.errors import InputError, MissingExtra
from weft.explain.map_page import render, write_page
from weft.explain.map_picture import write_picture
from weft.explain.projector import write_projector
from weft.explain.word_map import DOT, draw, letters, pca, tsne, word_map
from weft.vectors.keyed import KeyedVectors

NASTY = ["<script>alert(1)</script>", "a\"b'c&d", "$x_{1}$", "東京", "a\tb", "e\u0301te\u0301", "long" * 20, "\ud800"]


def vectors(count: int, size: int = 12, seed: int = 0) -> KeyedVectors:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, size)) * 2
    return KeyedVectors([f"word{i}" for i in range(count)], centres[np.arange(count) % 5] + rng.normal(size=(count, size)))


def test_pca_is_the_covariances_first_two_eigenvectors():
    rows = np.random.default_rng(1).normal(size=(30, 6)) * [5, 1, 3, 0.1, 0.1, 0.1]
    values, axes = np.linalg.eigh(np.cov(rows.T, bias=True))
    points, shares = pca(rows)
    expected = (rows - rows.mean(axis=0)) @ axes[:, [-1, -2]]
    for axis in (0, 1):
        assert min(np.abs(points[:, axis] - expected[:, axis]).max(), np.abs(points[:, axis] + expected[:, axis]).max()) < 1e-9
    assert shares == pytest.approx((values[-1] / values.sum(), values[-2] / values.sum()))
    assert np.array_equal(pca(rows)[0], points)
    assert np.abs(pca(-rows)[0]).max() == pytest.approx(np.abs(points).max())


def test_pca_of_one_dimension_and_of_equal_rows():
    assert np.array_equal(pca(np.array([[1.0], [3.0]]))[0][:, 1], [0, 0])
    points, shares = pca(np.ones((4, 3)))
    assert not points.any() and shares == (0, 0)


def test_the_nearest_words_are_those_by_cosine():
    kv = vectors(40)
    drawn = word_map(kv, top=20)
    assert drawn.words == tuple(kv.words[:20])
    small = KeyedVectors(kv.words[:20], kv.vectors[:20])
    assert [list(near) for near in drawn.near] == [[word for word, _ in small.most_similar(each, topn=5)] for each in drawn.words]


def test_tsne_repeats_itself_and_keeps_groups_together():
    kv = vectors(40)
    first, again = (word_map(kv, top=40, method="tsne", seed=3) for _ in range(2))
    assert np.array_equal(first.points, again.points) and first.explained is None
    distances = np.linalg.norm(first.points[:, None] - first.points[None], axis=2) + np.diag(np.full(40, np.inf))
    assert np.mean(distances.argmin(axis=1) % 5 == np.arange(40) % 5) > 0.9
    assert word_map(kv, kv.words[:3], method="tsne").points.shape == (3, 2)  # perplexity is bounded by their number


@pytest.mark.parametrize("count", [3, 20, 200, 500])
def test_names_that_are_shown_cover_nothing_and_stay_inside(count):
    drawing = draw(word_map(vectors(count), top=count))
    shown = [(i, name.box) for i, name in enumerate(drawing.names) if name.shown]
    assert len(shown) == len(drawing.names) if count < 50 else len(shown) > 0.5 * count
    for (_, a), (_, b) in itertools.combinations(shown, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for i, (left, top, right, bottom) in shown:
        assert left >= 0 and top >= 0 and right <= drawing.width and bottom <= drawing.height
        others = np.delete(drawing.dots, i, axis=0)
        assert not ((others > (left - DOT, top - DOT)) & (others < (right + DOT, bottom + DOT))).all(axis=1).any()
    assert (drawing.dots >= 0).all() and (drawing.dots <= (drawing.width, drawing.height)).all()


def test_both_axes_have_one_scale():
    drawn = word_map(vectors(50), top=50)
    dots = draw(drawn).dots
    spans = np.ptp(dots, axis=0) / np.ptp(drawn.points, axis=0)
    assert spans[0] == pytest.approx(spans[1])


def test_words_in_one_place_are_drawn():
    drawing = draw(word_map(KeyedVectors(list("abc"), np.ones((3, 4))), top=3))
    assert np.isfinite(drawing.dots).all() and len({tuple(dot) for dot in drawing.dots.tolist()}) == 1


def test_letters_know_wide_ones_and_marks():
    assert letters("東京") == 4 and letters("e\u0301") == letters("e") and letters("mmm") > letters("aaa") > letters("iii")


def test_the_page_is_closed_in_itself_and_escapes_words(tmp_path):
    kv = KeyedVectors([*NASTY, *vectors(20).words], np.random.default_rng(0).normal(size=(28, 5)))
    write_page(word_map(kv, top=28), tmp_path / "map.html", "<i>v</i>.vec")
    page = (tmp_path / "map.html").read_text(encoding="utf-8")
    parsed = Strict()
    parsed.feed(page)
    assert parsed.open == []
    tags = [tag for tag, _ in parsed.seen]
    assert tags.count("text") == 28 and "script" not in tags and "i" not in tags
    assert "<script>alert(1)</script>" in parsed.text and "<i>v</i>.vec" in parsed.text
    assert not [name for _, attributes in parsed.seen for name in attributes if name in ("src", "href") or name.startswith("on")]
    assert not re.search(r"url\(|@import|https?://", page)
    hints = [text for text in parsed.text if text.startswith("word3\n")]
    assert hints == [f"word3\nnear it: {', '.join(word_map(kv, top=28).near[11])}".replace("\ud800", "\ufffd")]


def test_hidden_names_are_counted_and_come_last():
    kv = KeyedVectors([f"a-rather-long-word-{i}" for i in range(300)], np.random.default_rng(0).normal(size=(300, 3)))
    drawn = word_map(kv, top=300)
    hidden = sum(not name.shown for name in draw(drawn).names)
    page = render(drawn, "v")
    assert hidden > 0 and f"{hidden} names had no room." in page and page.count('class="hidden"') == hidden
    assert 'class="hidden"' not in page[: page.index('<g class="hidden"')] and "<g><title>" not in page[page.index('<g class="hidden"') :]


def test_the_picture_is_a_png_of_the_drawings_size(tmp_path, caplog):
    pytest.importorskip("matplotlib")
    kv = KeyedVectors([*NASTY, *vectors(20).words], np.random.default_rng(0).normal(size=(28, 5)))
    drawn = word_map(kv, top=28)
    write_picture(drawn, tmp_path / "map.png", "$v$\ud800")
    head = (tmp_path / "map.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(head[16:20], "big") == 2 * draw(drawn).width
    assert "font lacks" in caplog.text


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(MissingExtra, match=r"weft\[plots\]"):
        write_picture(word_map(vectors(5), top=5), tmp_path / "map.png", "v")
    assert not (tmp_path / "map.png").exists()


@pytest.mark.parametrize("counted", [False, True])
def test_the_projectors_files_give_back_words_and_rows(tmp_path, counted):
    words = ["the", "a\tb", "c\nd", "東京"]
    kv = KeyedVectors(words, np.random.default_rng(0).normal(size=(4, 3)), counts=[9, 7, 5, 3] if counted else None)
    paths = write_projector(kv, words[1:], tmp_path / "new" / "folder")
    rows = np.loadtxt(paths[0], dtype=np.float32, delimiter="\t")
    assert np.array_equal(rows, kv.vectors[1:])
    lines = paths[1].read_text(encoding="utf-8").split("\n")[:-1]
    assert lines == (["word\tcount", "a b\t7", "c d\t5", "東京\t3"] if counted else ["a b", "c d", "東京"])
    config = paths[2].read_text()
    assert set(re.findall(r'_path: "(.*)"', config)) == {path.name for path in paths[:2]}
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made a folder"):
        write_projector(kv, words, tmp_path / "file")


def test_what_cannot_be_drawn_is_refused():
    kv = vectors(10)
    for asked in ({"words": ["word1", "word1", "word2"]}, {"top": 2}, {"top": -1}):
        with pytest.raises(InputError, match="3 to 3,000 different words"):
            word_map(kv, **asked)
    with pytest.raises(InputError, match="near it are"):
        word_map(kv, ["word1", "word2", "wrod3"])
    with pytest.raises(InputError, match="did you mean tsne"):
        word_map(kv, method="t-sne")
    with pytest.raises(InputError, match="perplexity"):
        tsne(np.eye(4), perplexity=0)
