"""EQUATIONS.md, section 11, E78: a neuron that can be read, in a language whose only secret is whether a bracket is open."""

from __future__ import annotations

import random

import numpy as np
import pytest

from weft.estimators.tagger import Tagger
from weft.explain.neurons import chance, chosen, correlations, inside_masks, stacked, states_of

LETTERS = "abcdefgh"


def sentences(count: int, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Letters, some stretches of them in brackets; the tag says which. The opening bracket is inside, the closing one is not."""
    draw = random.Random(seed)
    words, tags = [], []
    for _ in range(count):
        sentence: list[str] = []
        inside: list[bool] = []
        for _ in range(draw.randint(2, 4)):
            outer, inner = draw.randint(1, 6), draw.randint(2, 7)
            sentence += [*draw.choices(LETTERS, k=outer), "[", *draw.choices(LETTERS, k=inner), "]"]
            inside += [False] * outer + [True] * (inner + 1) + [False]
        words.append(sentence)
        tags.append(["in" if one else "out" for one in inside])
    return words, tags


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    settings = {"hidden_size": 12, "bidirectional": False, "embedding_size": 8, "features": "", "dropout": 0.0, "word_dropout": 0.0}
    made = Tagger("bilstm", {**settings, "learning_rate": 0.02}, steps=120, device="cpu", precision="fp32", threads=1)
    return made.fit(*sentences(200, 0), validation=sentences(20, 1))


@pytest.mark.parametrize("cell", [False, True])
def test_e78_one_neuron_follows_the_brackets(tagger: Tagger, cell: bool) -> None:
    words, tags = sentences(30, 2)
    assert tagger.score(words, tags) > 0.99
    texts = [states_of(tagger, sentence, cell=cell) for sentence in words]
    mask = np.array([tag == "in" for sentence in tags for tag in sentence])
    assert np.array_equal(inside_masks(texts, "brackets"), mask)  # the mask that is made from the text is the gold one
    (best,) = chosen(texts, top=1, masks={"inside": mask})
    values = stacked(texts)
    assert best.correlation == pytest.approx(np.corrcoef(values[:, best.number], mask)[0, 1], abs=1e-6)
    assert abs(best.correlation) >= 0.9
    assert abs(best.correlation) == pytest.approx(np.abs(correlations(values, mask)).max())
    assert chance(values, mask) < 0.5


def test_e78_without_training_no_neuron_does(tagger: Tagger) -> None:
    words, tags = sentences(30, 2)
    untrained = Tagger(
        "bilstm", tagger.settings, steps=1, device="cpu", precision="fp32", threads=1
    ).fit(*sentences(50, 0), validation=sentences(5, 1))  # fmt: skip
    mask = np.array([tag == "in" for sentence in tags for tag in sentence])
    assert np.abs(correlations(stacked([states_of(untrained, sentence) for sentence in words]), mask)).max() < 0.8
