"""Templates of word features against features as strings, one token at a time."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from weft.data.lexicon import case, shape
from weft.data.word_features import OFF, WordFeatures
from weft.errors import InputError

TEMPLATES = ["word@0", "lower@-2", "suffix2@1", "prefix1@0", "shape@-1", "case@2", "lower@-1&word@0", "shape@0&lower@2"]
VALUES = {
    "word": str, "lower": str.lower, "suffix2": lambda word: word[-2:].lower(), "prefix1": lambda word: word[0].lower(),
    "shape": shape, "case": case,
}  # fmt: skip
WORDS = ["the", "The", "THE", "cat", "cats", "3", "3rd", "on", "mat", "!", "İx", "ß"]


def sentences(count, seed, words=WORDS):
    draw = np.random.default_rng(seed)
    return [[words[i] for i in draw.integers(0, len(words), draw.integers(0, 7))] for _ in range(count)]


def slow(sentence, place):
    """The features of one token: (template, values), None beyond the edges."""
    found = []
    for template in TEMPLATES:
        values = []
        for part in template.split("&"):
            kind, offset = part.split("@")
            where = place + int(offset)
            values.append(VALUES[kind](sentence[where]) if 0 <= where < len(sentence) else None)
        found.append((template, *values))
    return found


@pytest.mark.parametrize("least", [1, 2, 5])
def test_features_are_the_strings_that_came_often_enough(least):
    train, test = sentences(60, 0), [*sentences(30, 1, [*WORDS, "unseen", "Cat", "thy"]), [], ["cat"]]
    made = WordFeatures.train(train, TEMPLATES, least)
    counts = Counter(one for sentence in train for place in range(len(sentence)) for one in slow(sentence, place))
    kept = {one for one, count in counts.items() if count >= least}
    assert made.size == len(kept)
    names: dict[int, tuple] = {}
    for group in (train, test):
        ids, lengths = made.encode(group)
        assert lengths.tolist() == [len(sentence) for sentence in group]
        rows = iter(ids.tolist())
        for sentence in group:
            for place in range(len(sentence)):
                for one, number in zip(slow(sentence, place), next(rows), strict=True):
                    assert (number == OFF) == (one not in kept)
                    if number != OFF:
                        assert names.setdefault(number, one) == one
    assert sorted(names) == list(range(made.size)) and len(set(names.values())) == made.size
    assert {number for number, one in names.items() if one[0] == "word@0"} == set(range(int(made.bases[1])))


def test_kept_as_json_and_arrays():
    made = WordFeatures.train(sentences(40, 0), TEMPLATES, 2)
    again = WordFeatures.restore(made.arrays(), json.loads(json.dumps(made.to_dict())))
    test = sentences(20, 3, [*WORDS, "unseen"])
    assert np.array_equal(made.encode(test)[0], again.encode(test)[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays, data: arrays.pop("template.1"),
        lambda arrays, data: arrays.update({"template.0": arrays["template.0"][1:]}),
        lambda arrays, data: arrays.update({"template.0": arrays["template.0"] + 1}),
        lambda arrays, data: arrays.update({"template.6": arrays["template.6"][::-1]}),
        lambda arrays, data: data["values"].pop("case"),
        lambda arrays, data: data.update(templates=["nothing@0"]),
        lambda arrays, data: data.update(templates=7),
    ],
)
def test_what_is_altered_is_refused(change):
    made = WordFeatures.train(sentences(40, 0), TEMPLATES, 1)
    arrays, data = made.arrays(), json.loads(json.dumps(made.to_dict()))
    change(arrays, data)
    with pytest.raises(InputError):
        WordFeatures.restore(arrays, data)


@pytest.mark.parametrize("template", ["word", "word@x", "nothing@0", "word@0&word@1&word@2", ""])
def test_what_is_no_template(template):
    with pytest.raises(ValueError, match="is no template"):
        WordFeatures.train([["a"]], [template])


def test_no_sentences():
    made = WordFeatures.train([], TEMPLATES)
    assert made.size == 0
    assert made.encode([["a", "b"]])[0].tolist() == [[OFF] * len(TEMPLATES)] * 2
    ids, lengths = made.encode([])
    assert ids.shape == (0, len(TEMPLATES)) and lengths.shape == (0,)
