"""EQUATIONS.md, section 11, E65: a linear-chain conditional random field, held against all of its paths, written out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from weft.nn.crf import Chain, Emissions, chain_loss, k_best, log_partition, marginals, path_score, viterbi

DOUBLE = torch.float64
LABELS, LENGTHS = 4, (5, 3, 0, 1, 4)
FORBIDDEN = ((0, 3), (1, 2), (3, 3))


def drawn(constraints: bool, seed: int = 0) -> Emissions:
    """Random logits and chain; padding is NaN."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    logits = torch.randn(*mask.shape, LABELS, generator=draw, dtype=DOUBLE).masked_fill(~mask[..., None], float("nan"))
    shapes = ((LABELS, LABELS), (LABELS,), (LABELS,))
    transitions, start, end = (torch.randn(shape, generator=draw, dtype=DOUBLE) for shape in shapes)
    if constraints:
        start[2] = end[1] = -torch.inf
        for a, b in FORBIDDEN:
            transitions[a, b] = -torch.inf
    return Emissions(logits, mask, Chain(transitions, start, end))


def paths(emissions: Emissions, row: int) -> tuple[list[tuple[int, ...]], Tensor]:
    """All paths of a row that has tokens, and score(y) = start + Σ_t logits + Σ_t transitions + end of each."""
    links, logits, length = emissions.chain, emissions.logits[row], LENGTHS[row]
    assert links is not None
    every = list(itertools.product(range(LABELS), repeat=length))
    scores = []
    for path in every:
        score = links.start[path[0]] + links.end[path[-1]]
        for t, label in enumerate(path):
            score = score + logits[t, label]
            if t:
                score = score + links.transitions[path[t - 1], label]
        scores.append(score)
    return every, torch.stack(scores)


def rows() -> list[int]:
    return [row for row, length in enumerate(LENGTHS) if length]


@pytest.mark.parametrize("constraints", [False, True])
def test_e65_log_partition_and_score_by_all_paths(constraints: bool) -> None:
    emissions = drawn(constraints)
    totals = log_partition(emissions)
    assert totals[2] == 0
    for row in rows():
        every, scores = paths(emissions, row)
        torch.testing.assert_close(totals[row], scores.logsumexp(0), atol=1e-12, rtol=0)
        for place in range(0, len(every), 7):
            tags = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.int64)
            tags[row, : LENGTHS[row]] = torch.tensor(every[place])
            torch.testing.assert_close(path_score(emissions, tags)[row], scores[place], atol=1e-12, rtol=0)


@pytest.mark.parametrize("constraints", [False, True])
def test_e65_marginals_by_all_paths(constraints: bool) -> None:
    emissions = drawn(constraints)
    found = marginals(emissions)
    for row in rows():
        every, scores = paths(emissions, row)
        wanted = torch.zeros(LENGTHS[row], LABELS, dtype=DOUBLE)
        for path, share in zip(every, scores.softmax(0), strict=True):
            for t, label in enumerate(path):
                wanted[t, label] += share
        torch.testing.assert_close(found[row, : LENGTHS[row]], wanted, atol=1e-12, rtol=0)
    assert (found[~emissions.mask] == 0).all()


@pytest.mark.parametrize("constraints", [False, True])
@pytest.mark.parametrize("k", [1, 3, 20, 300])
def test_e65_viterbi_and_the_k_best_by_all_paths(constraints: bool, k: int) -> None:
    for seed in range(5):
        emissions = drawn(constraints, seed)
        tags, scores = k_best(emissions, k)
        best, most = viterbi(emissions)
        assert torch.equal(best, tags[:, 0]) and torch.equal(most, scores[:, 0])
        for row in rows():
            every, all_scores = paths(emissions, row)
            wanted = all_scores.sort(descending=True)
            there = min(k, int((all_scores > -torch.inf).sum()))  # there may be fewer paths than are asked for
            torch.testing.assert_close(scores[row, :there], wanted.values[:there], atol=1e-12, rtol=0)
            assert tags[row, :there, : LENGTHS[row]].tolist() == [list(every[i]) for i in wanted.indices[:there]]
            assert (scores[row, there:] == -torch.inf).all() and (tags[row, there:] == 0).all()


def test_e65_transitions_of_zero_are_independent_softmaxes() -> None:
    emissions = drawn(False)
    zeros = Chain(torch.zeros(LABELS, LABELS, dtype=DOUBLE), torch.zeros(LABELS, dtype=DOUBLE), torch.zeros(LABELS, dtype=DOUBLE))
    tags = torch.randint(LABELS, emissions.mask.shape, generator=torch.Generator().manual_seed(0))
    chained = chain_loss(Emissions(emissions.logits, emissions.mask, zeros), tags)
    each = torch.nn.functional.cross_entropy(emissions.logits.transpose(1, 2), tags, reduction="none").where(emissions.mask, 0)
    torch.testing.assert_close(chained, each.sum(1), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        marginals(Emissions(emissions.logits, emissions.mask, zeros))[emissions.mask], emissions.logits.softmax(-1)[emissions.mask]
    )


@pytest.mark.parametrize("constraints", [False, True])
def test_e65_gradient_is_expected_minus_gold_counts(constraints: bool) -> None:
    emissions = drawn(constraints)
    assert emissions.chain is not None
    tags = viterbi(emissions)[0]
    logits = emissions.logits.clone().requires_grad_()
    links = Chain(*(part.clone().requires_grad_() for part in (emissions.chain.transitions, emissions.chain.start, emissions.chain.end)))
    chain_loss(Emissions(logits, emissions.mask, links), tags).sum().backward()
    counts = {name: torch.zeros(shape, dtype=DOUBLE) for name, shape in (("steps", (LABELS, LABELS)), ("start", LABELS), ("end", LABELS))}
    unary = torch.zeros_like(emissions.logits)
    for row in rows():
        every, scores = paths(emissions, row)
        gold = tuple(tags[row, : LENGTHS[row]].tolist())
        for path, share in [*zip(every, scores.softmax(0), strict=True), (gold, torch.tensor(-1.0, dtype=DOUBLE))]:
            counts["start"][path[0]] += share
            counts["end"][path[-1]] += share
            for t, label in enumerate(path):
                unary[row, t, label] += share
                if t:
                    counts["steps"][path[t - 1], label] += share
    for found, wanted in (
        (logits, unary),
        (links.transitions, counts["steps"]),
        (links.start, counts["start"]),
        (links.end, counts["end"]),
    ):
        assert found.grad is not None
        torch.testing.assert_close(found.grad, wanted, atol=1e-12, rtol=0)
