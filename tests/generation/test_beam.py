"""Beam search against all that there is, against greedy search, against itself one by one, and its scores by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scripted import END, START, Scripted
from torch import Tensor

from weft.errors import InputError
from weft.generation.search import Beam, Greedy, Limits, generate
from weft.models.decoders import Step

SOURCES = [0, 1, 2, 3, 4, 5]


def rank(model: Scripted, source: int, ids: tuple[int, ...], ended: bool, alpha: float, beta: float, real: int) -> float:
    """GNMT's score, in plain loops, over the first `real` positions of the source."""
    size = len(ids) + ended
    score = model.score(source, ids, ended) / ((5 + size) / 6) ** alpha
    if beta:
        whole = (*ids, END) if ended else ids
        for position in range(real):
            seen = sum(float(model.weights(source, whole[:place])[position]) for place in range(size))
            score += beta * math.log(min(max(seen, 1e-9), 1))
    return score


@pytest.mark.parametrize(("alpha", "beta"), [(0, 0), (0.6, 0), (2, 0), (0, 0.4), (1, 0.2)])
def test_e83_a_wide_beam_is_exhaustive(alpha, beta):
    model = Scripted(size=4, positions=3)
    real = [3, 2, 3]
    mask = torch.arange(3) < torch.tensor(real)[:, None]
    beam = Beam(width=4**3, length_penalty=alpha, coverage_penalty=beta, n_best=64, patience=math.inf)
    answers = generate(model, [0, 1, 2], beam, count=3, limits=Limits(maximum=3), source_mask=mask)
    for source, found in enumerate(answers):
        every = [(rank(model, source, ids, ended, alpha, beta, real[source]), ids, ended) for ids, ended, _ in model.every(source, 3)]
        every.sort(reverse=True)
        assert [(one.ids, one.finished) for one in found] == [(ids, ended) for _, ids, ended in every]
        assert [one.score for one in found] == pytest.approx([score for score, _, _ in every], abs=1e-9)


@pytest.mark.parametrize("alpha", [0, 0.6, 3])
def test_e83_the_best_of_a_wide_beam_is_the_best_there_is(alpha):
    """Asked for one, it stops early, and must not stop too early."""
    model = Scripted(size=4, end=-1)
    beam = Beam(width=4**4, length_penalty=alpha, patience=math.inf)
    for source, found in enumerate(generate(model, SOURCES, beam, count=6, limits=Limits(maximum=4))):
        best = max(model.every(source, 4), key=lambda one: one[2] / ((5 + len(one[0]) + one[1]) / 6) ** alpha)
        assert (found[0].ids, found[0].finished) == best[:2]


@pytest.mark.parametrize("alpha", [0, 1])
def test_e83_a_beam_of_one_is_greedy(alpha):
    for end in (-3, 0, 2):
        model = Scripted(end=end)
        beams = generate(model, SOURCES, Beam(width=1, length_penalty=alpha), count=6, limits=Limits(maximum=12))
        greedy = generate(model, SOURCES, Greedy(), count=6, limits=Limits(maximum=12))
        assert [one[0].ids for one in beams] == [one[0].ids for one in greedy]
        assert [one[0].finished for one in beams] == [one[0].finished for one in greedy]
        assert [one[0].log_probability for one in beams] == pytest.approx([one[0].log_probability for one in greedy])


def plain(model: Scripted, source: int, width: int, maximum: int, alpha: float, n_best: int) -> list[tuple[tuple[int, ...], bool]]:
    """Beam search in plain loops, with no early stop but that of `width` hypotheses that have ended."""
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    complete: list[tuple[float, tuple[int, ...], bool]] = []
    ended = 0
    for length in range(1, maximum + 1):
        step = [(total + value, prefix, token) for total, prefix in live for token, value in enumerate(model.logp(source, prefix).tolist())]
        step.sort(key=lambda one: -one[0])
        norm = ((5 + length) / 6) ** alpha
        closed = [(total / norm, prefix, True) for total, prefix, token in step[:width] if token == END]
        complete += closed
        ended += len(closed)
        live = [(total, (*prefix, token)) for total, prefix, token in step if token != END][:width]
        if length == maximum:
            complete += [(total / norm, prefix, False) for total, prefix in live]
        if ended >= width:
            break
    return [one[1:] for one in sorted(complete, key=lambda one: -one[0])[:n_best]]


@pytest.mark.parametrize(("width", "alpha"), [(2, 0), (3, 0.8), (5, 0), (5, 1.5), (12, 0.5)])
def test_a_beam_is_that_of_plain_loops(width, alpha):
    """Twelve is wider than the vocabulary."""
    for model, n_best in ((Scripted(size=6), 1), (Scripted(size=6, end=-2), 2)):
        beam = Beam(width=width, length_penalty=alpha, n_best=n_best)
        answers = generate(model, SOURCES, beam, count=6, limits=Limits(maximum=7))
        assert [[(one.ids, one.finished) for one in found] for found in answers] == [
            plain(model, source, width, 7, alpha, n_best) for source in SOURCES
        ]


def test_a_large_vocabulary_goes_another_way_to_the_same():
    """Above a thousand continuations the largest are looked for in groups."""
    model = Scripted(size=700, end=6)
    answers = generate(model, [0, 1], Beam(width=3, n_best=3), count=2, limits=Limits(maximum=6))
    assert [[(one.ids, one.finished) for one in found] for found in answers] == [plain(model, source, 3, 6, 0, 3) for source in (0, 1)]


@pytest.mark.parametrize("patience", [1, math.inf])
def test_a_batch_is_its_sources_one_by_one(patience):
    model = Scripted(positions=4, end=-1)
    beam = Beam(width=4, n_best=3, length_penalty=1.5, coverage_penalty=0.2, patience=patience)
    maximum = [9, 2, 0, 6, 9, 1]
    mask = torch.ones(6, 4, dtype=torch.bool)
    together = generate(model, SOURCES, beam, count=6, limits=Limits(maximum=maximum), source_mask=mask)
    for source in SOURCES:
        alone = generate(model, [source], beam, count=1, limits=Limits(maximum=maximum[source]), source_mask=mask[:1])[0]
        assert [one._replace(attention=None) for one in alone] == [one._replace(attention=None) for one in together[source]]
    order = [4, 1, 5]
    chosen = Limits(maximum=[maximum[one] for one in order])
    some = generate(model, order, beam, count=3, limits=chosen, source_mask=mask[:3])
    assert [found[0].ids for found in some] == [together[source][0].ids for source in order]


def test_scores_and_attention_are_those_of_the_hypothesis():
    model = Scripted(positions=3, end=-0.5)
    for source, found in enumerate(generate(model, SOURCES, Beam(width=4, n_best=4), count=6, limits=Limits(maximum=6))):
        for one in found:
            assert one.log_probability == pytest.approx(model.score(source, one.ids, one.finished), abs=1e-9)
            assert one.attention is not None and len(one.attention) == len(one.ids)
            for place, weights in enumerate(one.attention):
                torch.testing.assert_close(weights, model.weights(source, one.ids[:place]))


def test_sources_leave_and_a_step_that_keeps_all_rows_reorders_nothing():
    model = Scripted(end=1)
    generate(model, SOURCES, Beam(width=3), count=6, limits=Limits(maximum=[2, 9, 9, 9, 9, 3]))
    left = [sources for _, sources in model.reordered if sources is not None]
    assert left and model.rows[0] == 6 and model.rows[-1] < 6 * 3
    alone = Scripted(end=1)
    generate(alone, [1], Beam(width=1), count=1, limits=Limits(maximum=5))
    assert alone.reordered == []


def test_coverage_by_hand():
    """Two tokens, each with its own weights; the hypothesis that looks at both words wins, the repeated look loses."""

    class Looks(Scripted):
        def logits(self, source, prefix):
            ended = torch.tensor([-math.inf, 0.0, -math.inf, -math.inf])
            return ended if len(prefix) == 2 else torch.tensor([-math.inf, -math.inf, math.log(0.6), math.log(0.4)])

        def weights(self, source, prefix):
            if not prefix or len(prefix) == 2:
                return torch.tensor([0.5, 0.0, 0.5])  # the last position is padding
            return torch.tensor([0.5, 0.0, 0.5] if prefix[0] == 2 else [0.1, 0.8, 0.1])

    mask = torch.tensor([[True, True, False]])
    model = Looks(size=4, positions=3)
    plain = generate(model, [0], Beam(width=4), count=1, source_mask=mask)[0][0]
    assert plain.ids == (2, 2) and plain.score == pytest.approx(2 * math.log(0.6), abs=1e-6)
    covered = generate(model, [0], Beam(width=4, coverage_penalty=0.5), count=1, source_mask=mask)[0][0]
    assert covered.ids == (3, 2)
    assert covered.score == pytest.approx(math.log(0.4 * 0.6) + 0.5 * (math.log(1.0) + math.log(0.8)), abs=1e-6)
    with pytest.raises(ValueError, match=r"needs source_mask, a row for each of 1 sources; there is none"):
        generate(model, [0], Beam(coverage_penalty=0.5), count=1)
    with pytest.raises(ValueError, match="needs attention"):
        generate(Scripted(), [0], Beam(coverage_penalty=0.5), count=1, source_mask=mask)
    with pytest.raises(ValueError, match="attention is over 3 source positions, source_mask has 5"):
        generate(model, [0], Beam(coverage_penalty=0.5), count=1, source_mask=torch.ones(1, 5, dtype=torch.bool))


@pytest.mark.parametrize(("alpha", "ids"), [(0, (2,)), (0.6, (2,)), (1, (2, 2, 2)), (2, (2, 2, 2))])
def test_a_length_penalty_chooses_the_longer(alpha, ids):
    """log p is −1.2 with 2 symbols, −1.4 with 4: scores −1.2 / (7/6)^α and −1.4 / (9/6)^α cross at α = 0.61."""

    class Two(Scripted):
        def logits(self, source, prefix):
            on = {1: 1 - math.exp(-1.2), 2: math.exp(-1.4) / (1 - math.exp(-1.2)), 3: 0.0}.get(len(prefix), 1.0)
            other = 1 - on if len(prefix) == 2 else 0.0  # a third way that leads nowhere
            return torch.tensor([other, 1 - on - other, on], dtype=torch.float64).log()

    found = generate(
        Two(size=3), [0], Beam(width=3, length_penalty=alpha, patience=math.inf), count=1, limits=Limits(maximum=9, forbidden=[0])
    )
    assert found[0][0].ids == ids


@pytest.mark.parametrize("patience", [0.25, 1, 2])
def test_patience_counts_what_has_ended(patience):
    """Every prefix ends with probability ½: one hypothesis of a beam ends at every step."""

    class Coin(Scripted):
        def logits(self, source, prefix):
            return torch.tensor([-math.inf, 0.0, 0.0])

    model = Coin(size=3)
    generate(model, [0], Beam(width=4, length_penalty=9, n_best=2, patience=patience), count=1, limits=Limits(maximum=50))
    assert len(model.rows) == 4 * patience


def test_the_search_stops_when_nothing_can_get_better():
    """Without a length penalty log p only falls: the answer stands at the second step, and is that of the whole search."""

    class Short(Scripted):
        def logits(self, source, prefix):
            return torch.tensor([-9.0, 3.0, 0.0])

    model = Short(size=3)
    found = generate(model, [0], Beam(width=2, patience=math.inf), count=1, limits=Limits(maximum=50))
    assert len(model.rows) == 1 and found[0][0].ids == ()


def test_what_a_beam_cannot_be():
    for settings, place in (
        ({"width": 0}, "width"),
        ({"width": 3, "n_best": 4}, "n_best"),
        ({"n_best": 0}, "n_best"),
        ({"length_penalty": -1}, "length_penalty"),
        ({"coverage_penalty": math.nan}, "coverage_penalty"),
        ({"patience": 0}, "patience"),
    ):
        with pytest.raises(InputError, match=f"^{place}: must be"):
            Beam(**settings)


def test_a_model_that_gives_no_numbers_is_told():
    class Broken(Scripted):
        def logits(self, source: int, prefix: tuple[int, ...]) -> Tensor:
            return super().logits(source, prefix) * (math.nan if prefix and source == 1 else 1)

    for search in (Beam(width=3), Greedy()):
        with pytest.raises(InputError, match="source 1: after 1 tokens no token is left"):
            generate(Broken(end=-9), [0, 1, 2], search, count=3)


def test_contract_of_the_first_step():
    """One row a source at first, with the start symbol."""
    seen = []

    class First(Scripted):
        def step(self, ids, state) -> Step:
            seen.append(ids.tolist())
            return super().step(ids, state)

    generate(First(end=-9), [3, 4], Beam(width=4), count=2, limits=Limits(maximum=2))
    assert seen[0] == [START, START] and len(seen[1]) == 8
