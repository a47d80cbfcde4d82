"""One hypothesis a source: greedy, ancestral, temperature, top-k and top-p, held against probabilities."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy import stats
from scripted import END, Scripted

from weft.errors import InputError
from weft.generation.choosing import Uniforms, draw, largest
from weft.generation.search import Beam, Greedy, Limits, Sample, generate

SOURCES = [0, 1, 2, 3, 4, 5]


def loop(model, source, maximum):
    """Greedy search in plain loops."""
    ids = ()
    while len(ids) < maximum:
        token = int(model.logits(source, ids).argmax())
        if token == END:
            return ids, True
        ids = (*ids, token)
    return ids, False


def test_e83_greedy_by_plain_loops():
    model = Scripted(size=7, positions=3, end=1)
    maximum = [9, 3, 0, 9, 9, 1]
    answers = generate(model, SOURCES, count=6, limits=Limits(maximum=maximum))
    for source, (found,) in enumerate(answers):
        assert (found.ids, found.finished) == loop(model, source, maximum[source])
        assert found.log_probability == pytest.approx(model.score(source, found.ids, found.finished))
        assert found.score == found.log_probability
        assert len(found.attention or []) == len(found.ids)
        for place, weights in enumerate(found.attention or []):
            torch.testing.assert_close(weights, model.weights(source, found.ids[:place]))


def test_those_that_are_done_leave():
    model = Scripted(size=7, end=1)
    generate(model, SOURCES * 4, count=24, limits=Limits(maximum=[1] * 12 + [4] * 6 + [9] * 6))
    assert model.rows[0] == 24 and model.rows[1] <= 12 and model.rows[-1] <= 6
    assert all(sources == rows for rows, sources in model.reordered)


def test_what_comes_after_an_answer_is_nobodys_concern():
    """One of eight is done and has not left yet: what the model gives for it may be anything."""

    class After(Scripted):
        def logits(self, source, prefix):
            if END in prefix:
                return torch.full((self.size,), math.nan)
            return super().logits(source, prefix) + 99 * (torch.arange(self.size) == END) * (source == 1)

    model = After(end=-9)
    found = generate(model, list(range(8)), count=8, limits=Limits(maximum=4))
    assert [len(one.ids) for (one,) in found] == [4, 0, 4, 4, 4, 4, 4, 4] and model.rows == [8, 8, 8, 8]


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.5}, {"temperature": 3.0}, {"top_k": 3}, {"top_p": 0.8}, {"temperature": 2.0, "top_k": 4, "top_p": 0.7}]
)
def test_frequencies_are_the_probabilities(how):
    """χ² of 3000 answers of two tokens against p worked out in loops; what may not be drawn never is."""
    model, count = Scripted(size=6, end=1), 3000
    drawn = generate(model, [7] * count, Sample(seed=1, **how), count=count, limits=Limits(maximum=2))
    seen = Counter((one.ids, one.finished) for (one,) in drawn)
    expected = {}
    for first, p_first in kept(model, (), how):
        if first == END:
            expected[(), True] = p_first
            continue
        for second, p_second in kept(model, (first,), how):
            expected[((first,), True) if second == END else ((first, second), False)] = p_first * p_second
    assert sum(expected.values()) == pytest.approx(1)
    assert set(seen) <= set(expected)
    common = [answer for answer, p in expected.items() if p * count >= 5]
    rest = count - sum(seen[answer] for answer in common)
    p_rest = max(1 - sum(expected[answer] for answer in common), 0)
    observed, wanted = [seen[answer] for answer in common], [expected[answer] * count for answer in common]
    if p_rest * count >= 1:
        observed, wanted = [*observed, rest], [*wanted, p_rest * count]
    else:
        wanted = [one * sum(observed) / sum(wanted) for one in wanted]
    assert stats.chisquare(observed, wanted).pvalue > 1e-3
    answer = drawn[0][0]
    assert answer.log_probability == pytest.approx(
        model.score(7, answer.ids, answer.finished)
    )  # the model's, whatever was changed for the draw


def kept(model, prefix, how):
    """(token, p) of one draw, in loops: temperature, then the k likeliest, then the fewest that reach top_p of what those have."""
    p = [(math.exp(value / how.get("temperature", 1.0)), token) for token, value in enumerate(model.logits(7, prefix).tolist())]
    p = sorted(p, reverse=True)[: how.get("top_k", len(p))]
    whole = sum(one for one, _ in p)
    for size in range(1, len(p) + 1):
        if sum(one for one, _ in p[:size]) / whole >= how.get("top_p", 1.0) - 1e-12:
            p = p[:size]
            break
    whole = sum(one for one, _ in p)
    return [(token, one / whole) for one, token in p]


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    """Of all sets of tokens, by brute force; the draws over a fine grid of uniforms show which tokens can come."""
    draws = torch.Generator().manual_seed(3)
    grid = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    for top_p in (0.05, 0.5, 0.83, 0.999, 1.0):
        logits = 2 * torch.randn(7, generator=draws, dtype=torch.float64)
        p = logits.softmax(0)
        size = min(
            len(some) for n in range(1, 8) for some in itertools.combinations(range(7), n) if float(p[list(some)].sum()) >= top_p - 1e-12
        )
        best = max(itertools.combinations(range(7), size), key=lambda some: float(p[list(some)].sum()))
        tokens = draw(logits.log_softmax(0).expand(4000, -1), grid, temperature=1, top_k=None, top_p=top_p)
        assert set(tokens.tolist()) <= set(best)
        shares = torch.bincount(tokens, minlength=7) / 4000
        within = torch.where(torch.isin(torch.arange(7), torch.tensor(best)), p, 0)
        torch.testing.assert_close(shares.double(), within / within.sum(), atol=1e-3, rtol=0)


def test_a_nucleus_larger_than_what_is_looked_at_first():
    """Rows of one batch need 1, some 100, and 1500 tokens: each what it would alone."""
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2000, generator=draws) * torch.tensor([[30.0], [2.5], [0.1]])
    logp, uniforms = logits.log_softmax(-1).repeat(200, 1), torch.rand(600, generator=draws, dtype=torch.float64)
    how = {"temperature": 1.0, "top_k": None, "top_p": 0.8}
    tokens = draw(logp, uniforms, **how)
    for row in range(3):
        order = logits[row].argsort(descending=True)
        size = int((logits[row].softmax(0)[order].double().cumsum(0) < 0.8).sum()) + 1
        rank = torch.empty(2000, dtype=torch.long)
        rank[order] = torch.arange(2000)
        assert int(rank[tokens[row::3]].max()) < size
        assert (size == 1, 64 < size < 512, size > 512)[row]
        assert torch.equal(tokens[row::3], draw(logp[row::3], uniforms[row::3], **how))


@pytest.mark.parametrize("shape", [(3, 1000), (3, 1024), (5, 4099), (2, 20001)])
def test_the_largest_are_those_of_topk(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    x[0, ::3], x[1, -2] = -math.inf, 90.0
    for k in (1, 2, 9, 200):
        values, columns = largest(x, k)
        torch.testing.assert_close(values, x.topk(k).values, rtol=0, atol=0)
        torch.testing.assert_close(x.gather(1, columns), values, rtol=0, atol=0)
        assert all(len(set(row)) == k for row in columns.tolist() if k < 100)


def test_a_draw_at_the_borders():
    """u = 0 and u just below 1 take the first and the last token that has a probability."""
    logp = torch.tensor([[-math.inf, 0.3, 0.7, -math.inf]]).log_softmax(-1).repeat(2, 1)
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert draw(logp, ends, temperature=1, top_k=None, top_p=1).tolist() == [1, 2]
    assert draw(logp, ends, temperature=1, top_k=None, top_p=0.9).tolist() == [2, 1]  # the likelier first


def test_samples_are_a_function_of_seed_and_number():
    """Whatever the batch: alone, in another order, with others; long enough for a second block of random numbers."""
    model, how = Scripted(size=9, end=-9), Sample(seed=5, temperature=1.5)
    limits = Limits(maximum=90)
    together = generate(model, SOURCES, how, count=6, limits=limits)
    assert max(len(found[0].ids) for found in together) > 64
    for source in SOURCES:
        assert generate(model, [source], how, count=1, limits=limits, numbers=[source]) == [together[source]]
    assert generate(model, [4, 1], how, count=2, limits=limits, numbers=[4, 1]) == [together[4], together[1]]
    assert generate(model, SOURCES, how, count=6, limits=limits) == together
    assert generate(model, SOURCES, Sample(seed=6, temperature=1.5), count=6, limits=limits) != together
    same = generate(model, [3, 3, 3, 3], how, count=4, limits=limits)
    assert len({found[0].ids for found in same}) == 4  # each its own numbers


def test_numbers_are_uniform_and_stay_with_their_source():
    uniforms = Uniforms(0, range(50))
    block = torch.stack([uniforms.at(step) for step in range(64)])
    assert stats.kstest(block.flatten().numpy(), "uniform").pvalue > 1e-3
    other = Uniforms(0, [3, 8])
    assert torch.equal(torch.stack([other.at(step) for step in range(64)]), block[:, [3, 8]])
    uniforms.keep([8, 3])
    assert torch.equal(uniforms.at(64), other.at(64).flip(0))


def test_temperature_zero_is_greedy():
    model = Scripted()
    greedy = generate(model, SOURCES, Greedy(), count=6, limits=Limits(maximum=9))
    assert generate(model, SOURCES, Sample(temperature=0, top_p=0.9), count=6, limits=Limits(maximum=9)) == greedy
    assert generate(model, SOURCES, Sample(top_k=1), count=6, limits=Limits(maximum=9)) == greedy
    assert generate(model, SOURCES, Sample(top_p=1e-9), count=6, limits=Limits(maximum=9)) == greedy


def test_what_sampling_cannot_be():
    for settings, place in (
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(InputError, match=f"^{place}: must be"):
            Sample(**settings)
    with pytest.raises(InputError, match=r"^numbers: must be at least 0, not -1"):
        generate(Scripted(), [0], Sample(), count=1, numbers=[-1])
    with pytest.raises(ValueError, match="count=2 sources, and 1 numbers"):
        generate(Scripted(), [0, 1], count=2, numbers=[0])


@pytest.mark.parametrize("search", [Greedy(), Sample(), Beam(width=3)])
def test_nothing_to_do(search):
    class Untouched(Scripted):
        def start(self, source):
            raise AssertionError

    assert generate(Untouched(), [], search, count=0) == []
    found = generate(Scripted(), [0, 1], search, count=2, limits=Limits(maximum=0))
    assert [[(one.ids, one.log_probability, one.finished) for one in each] for each in found] == [[((), 0.0, False)]] * 2
