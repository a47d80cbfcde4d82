"""What answers may be: lengths, forbidden ids, n-grams, forced beginnings, stop strings, and the stream that tells of them."""

from __future__ import annotations

import math

import pytest
import torch
from scripted import END, Scripted, text

from weft.errors import InputError
from weft.generation.limits import Limits, repeats
from weft.generation.search import Beam, Greedy, Sample, generate

SOURCES = [0, 1, 2, 3, 4, 5]
SEARCHES = [Greedy(), Sample(temperature=2, seed=3), Beam(width=3, n_best=2)]
searches = pytest.mark.parametrize("search", SEARCHES, ids=["greedy", "sample", "beam"])


def twice(ids, size):
    """Whether an n-gram stands in it twice, by brute force."""
    grams = [tuple(ids[place : place + size]) for place in range(len(ids) - size + 1)]
    return len(set(grams)) < len(grams)


@searches
def test_lengths_one_a_source(search):
    model = Scripted(size=4, end=1.5)
    free = generate(model, SOURCES, search, count=6, limits=Limits(maximum=7))
    assert min(len(one.ids) for found in free for one in found) < 3
    held = generate(model, SOURCES, search, count=6, limits=Limits(minimum=[3, 4, 5, 3, 7, 0], maximum=[7, 4, 9, 3, 7, 1]))
    for source, (least, most, found) in enumerate(zip([3, 4, 5, 3, 7, 0], [7, 4, 9, 3, 7, 1], held)):
        for one in found:
            assert least <= len(one.ids) <= most
            assert one.finished or len(one.ids) == most
            assert one.log_probability == pytest.approx(model.score(source, one.ids, one.finished))


@pytest.mark.parametrize("size", [1, 2, 3])
@searches
def test_no_ngram_stands_twice(search, size):
    model = Scripted(size=5 if size > 1 else 14, end=-3)
    free = generate(model, SOURCES, search, count=6, limits=Limits(maximum=12))
    assert any(twice(one.ids, size) for found in free for one in found)
    for source, found in enumerate(generate(model, SOURCES, search, count=6, limits=Limits(maximum=12, no_repeat_ngrams=size))):
        for one in found:
            assert not twice(one.ids, size)
            assert one.log_probability == pytest.approx(model.score(source, one.ids, one.finished))


def test_repeats_by_brute_force():
    ids = torch.randint(3, (40, 9), generator=torch.Generator().manual_seed(0))
    for size in (1, 2, 3, 4):
        for length in range(10):
            rows, tokens = repeats(ids[:, :length], size)
            found = {*zip(rows.tolist(), tokens.tolist())}
            for row, line in enumerate(ids[:, :length].tolist()):
                grams = {tuple(line[place : place + size]) for place in range(length - size + 1)}
                assert {token for token in range(3) if (row, token) in found} == {
                    token for token in range(3) if length >= size - 1 and (*line[length - size + 1 :], token) in grams
                }


def test_a_beam_under_limits_is_exhaustive_among_what_is_allowed():
    model = Scripted(size=4)
    limits = Limits(minimum=1, maximum=3, no_repeat_ngrams=1, forbidden=[3])
    found = generate(model, [2], Beam(width=64, n_best=64, patience=math.inf), count=1, limits=limits)[0]
    allowed = [one for one in model.every(2, 3) if len(one[0]) >= 1 and 3 not in one[0] and not twice(one[0], 1)]
    assert [(one.ids, one.finished) for one in found] == [one[:2] for one in sorted(allowed, key=lambda one: -one[2])]


@searches
def test_forbidden_ids_never_come(search):
    model = Scripted(size=6, end=-1)
    free = generate(model, SOURCES, search, count=6, limits=Limits(maximum=9))
    assert any({0, 3} & set(one.ids) for found in free for one in found)
    held = generate(model, SOURCES, search, count=6, limits=Limits(maximum=9, forbidden=[0, 3, END]))
    assert all(not {0, 3} & set(one.ids) and len(one.ids) == 9 and not one.finished for found in held for one in found)


@searches
def test_forced_beginnings(search):
    """They stand above the other limits, and their probabilities count."""
    model, prefixes = Scripted(size=6), [(3, 3, 3), (), (2,), (5, 0), (), (4, 4, 2, 2)]
    limits = Limits(minimum=1, maximum=8, prefixes=prefixes, forbidden=[3], no_repeat_ngrams=2)
    for source, found in enumerate(generate(model, SOURCES, search, count=6, limits=limits)):
        begin = prefixes[source]
        for one in found:
            assert one.ids[: len(begin)] == begin and 3 not in one.ids[len(begin) :]
            assert one.log_probability == pytest.approx(model.score(source, one.ids, one.finished))
    alone = generate(model, [5], search, count=1, limits=Limits(maximum=8, prefixes=[prefixes[5]]), numbers=[5])
    batch = generate(model, SOURCES, search, count=6, limits=Limits(maximum=8, prefixes=prefixes))
    assert alone[0] == batch[5]


def test_a_forced_beginning_of_a_wide_beam_is_exhaustive_after_it():
    model = Scripted(size=4)
    beam = Beam(width=64, n_best=10, length_penalty=1, patience=math.inf)
    found = generate(model, [2], beam, count=1, limits=Limits(maximum=3, prefixes=[[3]]))[0]
    every = [(total / ((5 + len(ids) + ended) / 6), ids, ended) for ids, ended, total in model.every(2, 3) if ids[:1] == (3,)]
    assert [(one.ids, one.finished) for one in found] == [one[1:] for one in sorted(every, reverse=True)[:10]]


@searches
def test_stop_strings(search):
    model = Scripted(size=6, end=-4)
    limits = Limits(maximum=30, stop=["cd", "f"], decode=text, prefixes=[(2, 3)] * 6)  # the prefix itself reads "cd"
    answers = generate(model, SOURCES, search, count=6, limits=limits)
    stopped = 0
    for source, found in enumerate(answers):
        for one in found:
            said, before = text(one.ids[2:]), text(one.ids[2:-1])
            holds = "cd" in said or "f" in said
            assert "cd" not in before and "f" not in before
            assert one.finished or len(one.ids) == 30
            ended = one.finished and not holds
            stopped += holds
            assert one.log_probability == pytest.approx(model.score(source, one.ids, ended))
    assert stopped >= 4
    single = Limits(maximum=30, stop="f", decode=text)
    assert all("f" not in text(one.ids[:-1]) for found in generate(model, SOURCES, search, count=6, limits=single) for one in found)


def test_a_stop_at_the_maximum_has_ended():
    class Always(Scripted):
        def logits(self, source, prefix):
            return torch.tensor([-9.0, -9.0, 0.0, 9.0])

    for search in (Greedy(), Beam(width=2)):
        (one,) = generate(Always(size=4), [0], search, count=1, limits=Limits(maximum=2, stop="dd", decode=text))[0]
        assert one.ids == (3, 3) and one.finished


@searches
def test_the_stream_tells_every_step_and_ends_with_the_answer(search):
    told = {}
    model = Scripted(size=5, end=-1)
    numbers = [10, 11, 12, 13, 14, 15]
    answers = generate(
        model,
        SOURCES,
        search,
        count=6,
        limits=Limits(maximum=[6, 0, 6, 1, 6, 6]),
        numbers=numbers,
        stream=lambda number, ids, last: told.setdefault(number, []).append((ids, last)),
    )
    assert sorted(told) == numbers
    for number, found in zip(numbers, answers):
        *before, (ids, last) = told[number]
        assert last and ids == found[0].ids
        assert [len(ids) for ids, _ in before] == list(range(1, len(before) + 1)) and not any(last for _, last in before)
        if not isinstance(search, Beam):
            assert all(found[0].ids[: len(ids)] == ids for ids, _ in before)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"maximum": -1}, r"source 7: minimum and maximum must be at least 0, not 0 and -1"),
        ({"minimum": [0, 5], "maximum": 4}, r"source 8: the minimum, 5, is above the maximum, 4"),
        ({"maximum": [3, 4, 5]}, r"maximum: 3 numbers for 2 sources; give one number, or one a source"),
        ({"prefixes": [[2]]}, r"prefixes: 1 prefixes for 2 sources; give one a source, \(\) for none"),
        ({"prefixes": [[2], [2, 3]], "maximum": 1}, r"source 8: its prefix has 2 tokens, the maximum is 1"),
        ({"prefixes": [[END], []]}, r"source 7: its prefix holds the end symbol, 1"),
        ({"prefixes": [[5], []]}, r"prefixes: id 5 is not in the vocabulary, 0 to 4"),
        ({"forbidden": [2, -1]}, r"forbidden: id -1 is not in the vocabulary, 0 to 4"),
        ({"forbidden": range(5)}, r"forbidden: all 5 ids of the vocabulary are forbidden; leave out the end symbol, 1"),
        (
            {"forbidden": [0, 2, 3, 4], "minimum": 2},
            r"forbidden: all ids but the end symbol are forbidden, and an answer has at least 2 tokens",
        ),
        ({"forbidden": [1], "no_repeat_ngrams": 1}, r"source [78]: after 4 tokens no token is left"),
    ],
)
@searches
def test_limits_that_contradict_each_other_are_told(search, limits, words):
    with pytest.raises(InputError, match=words):
        generate(Scripted(), [0, 1], search, count=2, limits=Limits(**limits), numbers=[7, 8])


def test_limits_that_are_none():
    for settings, words in (
        ({"no_repeat_ngrams": -1}, r"no_repeat_ngrams: must be at least 0, not -1"),
        ({"stop": ["a", ""], "decode": text}, r"stop: an empty string would stop every answer"),
        ({"stop": "a"}, r"decode: stop strings need decode"),
    ):
        with pytest.raises(InputError, match=words):
            Limits(**settings)


@searches
def test_only_the_end_is_left(search):
    """Everything else forbidden is an empty answer, where that may be."""
    (one, *_) = generate(Scripted(), [0], search, count=1, limits=Limits(forbidden=[0, 2, 3, 4]))[0]
    assert one.ids == () and one.finished
