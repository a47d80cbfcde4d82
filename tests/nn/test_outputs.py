"""Output layers against brute force: all words, all paths, all sets that can be drawn; against torch's adaptive softmax."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from weft.nn.embeddings import TokenEmbedding
from weft.nn.outputs import OUTPUTS, HierarchicalOutput, Output, SampledOutput, TiedOutput, make_output

SIZE = 6


def layer(name: str, words: int, seed: int = 0, **options) -> Output:
    """In float64, every weight drawn, in eval mode."""
    torch.manual_seed(seed)
    if name == "tied":
        options = {"weight": torch.nn.Parameter(torch.randn(words, SIZE, dtype=torch.float64)), **options}
    made = make_output(name, size=SIZE, vocabulary_size=words, **options).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.5)
    return made


def vectors(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", OUTPUTS)
@settings(max_examples=8, deadline=None)
@given(words=st.integers(1, 40), seed=st.integers(0, 99))
def test_rows_sum_to_one_and_hold_the_likelihood_of_every_target(name, words, seed):
    counts = np.random.default_rng(seed).integers(0, 50, words)
    made, hidden = layer(name, words, seed, counts=counts), vectors(words)
    found = made.log_probabilities(hidden)
    assert found.shape == (words, words)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(words, dtype=torch.float64), atol=1e-12, rtol=0)
    targets = torch.from_numpy(np.random.default_rng(seed).permutation(words))
    torch.testing.assert_close(made(hidden, targets), -found[torch.arange(words), targets], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", OUTPUTS)
def test_both_ways_have_one_gradient(name):
    made, hidden = layer(name, 30, counts=np.arange(30)[::-1]), vectors(7).requires_grad_()
    targets = torch.tensor([0, 29, 3, 3, 17, 8, 1])
    wanted = [hidden, *made.parameters()]
    one = torch.autograd.grad(made(hidden, targets).sum(), wanted)
    other = torch.autograd.grad(-made.log_probabilities(hidden)[torch.arange(7), targets].sum(), wanted)
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_layer_made_without_counts_is_filled_by_a_saved_one(name):
    counts, hidden = np.random.default_rng(0).integers(1, 99, 25), vectors(4)
    weight = torch.nn.Parameter(torch.randn(25, SIZE, dtype=torch.float64))
    saved = layer(name, 25, 3, counts=counts, **({"weight": weight} if name == "tied" else {}))
    fresh = make_output(name, size=SIZE, vocabulary_size=25, weight=weight).double().eval()
    fresh.load_state_dict(saved.state_dict())
    assert torch.equal(fresh.log_probabilities(hidden), saved.log_probabilities(hidden))
    if name == "sampled":
        assert torch.equal(fresh.chances(), saved.chances())


@pytest.mark.parametrize("name", OUTPUTS)
def test_no_vectors_and_half_precision(name):
    made = layer(name, 9)
    assert made(vectors(0), torch.zeros(0, dtype=torch.int64)).shape == (0,)
    assert made.log_probabilities(vectors(0)).shape == (0, 9)
    whole = made(vectors(3), torch.tensor([1, 5, 8]))
    if name == "tied":
        made._lent = (made._lent[0].float(),)
    with torch.autocast("cpu", torch.bfloat16):
        half = made.float()(vectors(3).float(), torch.tensor([1, 5, 8]))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), whole, atol=0.1, rtol=0)


def test_full_is_a_linear_layer_and_torchs_cross_entropy():
    made, hidden, targets = layer("full", 11), vectors(5), torch.tensor([0, 10, 4, 4, 2])
    expected = F.cross_entropy(hidden @ made.weight.mT + made.bias, targets, reduction="none")
    torch.testing.assert_close(made(hidden, targets), expected, atol=1e-12, rtol=0)


def test_tied_weights_are_the_embeddings_and_get_both_gradients():
    torch.manual_seed(0)
    table = TokenEmbedding(vocabulary_size=12, size=SIZE).double()
    made = make_output("tied", size=SIZE, vocabulary_size=10, weight=table.weight).double()
    assert {name for name, _ in made.named_parameters()} == {"bias"} and set(made.state_dict()) == {"bias"}
    ids = torch.tensor([[1, 4, 9]])
    made(table(ids)[0], torch.tensor([4, 9, 1])).sum().backward()
    both = table.weight.grad.clone()
    one, two = (table.weight.detach().clone().requires_grad_() for _ in range(2))
    F.cross_entropy(one[ids[0]] @ two[:10].mT, torch.tensor([4, 9, 1]), reduction="sum").backward()
    torch.testing.assert_close(both, one.grad + two.grad, atol=1e-12, rtol=0)
    assert (
        both[2].abs().sum() > 0 and not both[10:].any()
    )  # a word that is no input still has the output's gradient; a symbol beyond V none


def test_a_copied_model_has_its_own_tied_weights():
    table = TokenEmbedding(vocabulary_size=8, size=SIZE)
    model = torch.nn.ModuleList([table, TiedOutput(size=SIZE, vocabulary_size=8, weight=table.weight)])
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin[0].weight.zero_()
    assert not twin[1].logits(torch.ones(1, SIZE)).any() and model[1].logits(torch.ones(1, SIZE)).any()


def test_tied_weights_of_another_width_are_bridged():
    weight = torch.nn.Parameter(torch.randn(10, 4, dtype=torch.float64))
    made, hidden = layer("tied", 10, weight=weight), vectors(3)
    expected = F.log_softmax(hidden @ made.project.weight.mT @ weight.mT + made.bias, 1)
    torch.testing.assert_close(made.log_probabilities(hidden), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("cutoffs", "factor"), [((4,), 4.0), ((3, 9), 2.0), ((1, 2, 19), 1.5)])
def test_adaptive_is_torchs_on_ranked_words(cutoffs, factor):
    counts = np.random.default_rng(1).permutation(20)
    made = layer("adaptive", 20, counts=counts, cutoffs=cutoffs, factor=factor)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(SIZE, 20, list(cutoffs), div_value=factor, head_bias=True).double()
    with torch.no_grad():
        for ours, other in zip(made.parameters(), theirs.parameters(), strict=True):
            other.copy_(ours)
    hidden, targets = vectors(20), torch.arange(20)
    ranks = torch.from_numpy(np.argsort(np.argsort(-counts)))
    torch.testing.assert_close(made(hidden, targets), -theirs(hidden, ranks).output, atol=1e-12, rtol=0)
    torch.testing.assert_close(made.log_probabilities(hidden), theirs.log_prob(hidden)[:, ranks], atol=1e-12, rtol=0)


def test_adaptive_refuses_clusters_that_are_none():
    for cutoffs in ((3, 3), (5, 2), (0, 4), (20,)):
        with pytest.raises(ValueError, match="cutoffs ascend within 1 … 19"):
            make_output("adaptive", size=SIZE, vocabulary_size=20, cutoffs=cutoffs)


def test_the_path_of_a_word_is_a_product_by_hand():
    """Counts 4, 2, 1, 1: the last two are joined, then with the second, then with the first (E43, E44)."""
    made, hidden = layer("hierarchical", 4, counts=[4, 2, 1, 1]), vectors(1)
    right = torch.sigmoid(-(hidden @ made.weight.mT + made.bias))[0].detach()  # node 0 lowest, 2 the root
    lefts = {word: made.nodes[made.starts[word] : made.starts[word + 1]].tolist() for word in range(4)}
    assert {word: len(path) for word, path in lefts.items()} == {0: 1, 1: 2, 2: 3, 3: 3}
    for word in range(4):
        share = 1.0
        for step in range(int(made.starts[word]), int(made.starts[word + 1])):
            chance = right[made.nodes[step]]
            share *= float(chance if made.signs[step] < 0 else 1 - chance)
        assert math.isclose(share, float(made.log_probabilities(hidden)[0, word].detach().exp()), rel_tol=1e-12)


def test_e43_gradients_of_a_path():
    """∂ℓ/∂γ_n = (σ(γ_n·z) − [left]) z along the path and nothing elsewhere; ∂ℓ/∂z = Σ (σ(γ_n·z) − [left]) γ_n."""
    made, hidden = layer("hierarchical", 9, counts=np.arange(1, 10), bias=False), vectors(1).requires_grad_()
    made(hidden, torch.tensor([2])).sum().backward()
    path = slice(int(made.starts[2]), int(made.starts[3]))
    nodes, left = made.nodes[path], made.signs[path] > 0
    error = torch.sigmoid(made.weight[nodes] @ hidden[0]) - left.double()
    expected = torch.zeros_like(made.weight)
    expected[nodes] = error[:, None] * hidden
    torch.testing.assert_close(made.weight.grad, expected.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(hidden.grad[0], (error @ made.weight[nodes]).detach(), atol=1e-12, rtol=0)


def test_frequent_words_cost_fewer_products():
    counts = (10_000 / np.arange(1, 1001)).astype(int)
    made = HierarchicalOutput(size=SIZE, vocabulary_size=1000, counts=counts)
    lengths = made.starts.diff().double()
    share = torch.from_numpy(counts / counts.sum())
    entropy = -(share * share.log2()).sum()
    assert entropy <= (share * lengths).sum() < entropy + 1


def sets(made: SampledOutput):
    """Every set that can be drawn, and how likely."""
    chances = made.chances()
    for chosen in itertools.product([False, True], repeat=made.vocabulary_size):
        inside = torch.tensor(chosen)
        yield inside.nonzero()[:, 0], torch.where(inside, chances, 1 - chances).prod()


def expected_gradient(made: SampledOutput, hidden: Tensor, share: Tensor) -> Tensor:
    """∂/∂weights of the estimate, over targets of these probabilities (V,) and all sets, for one vector."""
    words = made.vocabulary_size
    total = sum(
        chance * (share * made.estimate(hidden.expand(words, -1), torch.arange(words), drawn)).sum() for drawn, chance in sets(made)
    )
    return torch.autograd.grad(total, made.weight)[0]


@pytest.mark.parametrize("samples", [1, 3, 12])
@pytest.mark.parametrize("proposal", ["log-uniform", "unigram"])
def test_the_sampled_estimate_is_at_rest_at_the_true_model(samples, proposal):
    """Whatever the proposal and however few the samples: nothing pulls the right probabilities away."""
    made = layer("sampled", 6, counts=[50, 1, 7, 0, 9, 3], samples=samples, proposal=proposal)
    hidden = vectors(1)
    true = made.log_probabilities(hidden)[0].exp().detach()
    torch.testing.assert_close(expected_gradient(made, hidden, true), torch.zeros_like(made.weight), atol=1e-12, rtol=0)
    wrong = torch.full_like(true, 1 / 6)
    assert expected_gradient(made, hidden, wrong).abs().max() > 1e-3


def test_the_sampled_gradient_grows_into_the_full_one():
    hidden, share, apart = vectors(1), torch.tensor([0.3, 0.1, 0.2, 0.05, 0.05, 0.3], dtype=torch.float64), []
    for samples in (1, 4, 16, 64, 1000):
        made = layer("sampled", 6, samples=samples)
        full = torch.autograd.grad(-(share * made.log_probabilities(hidden)[0]).sum(), made.weight)[0]
        apart.append(float((expected_gradient(made, hidden, share) - full).norm() / full.norm()))
    assert apart == sorted(apart, reverse=True) and apart[0] > 0.1 and apart[-1] < 1e-12


def test_without_the_correction_the_sampled_estimate_is_not_at_rest():
    made, hidden = layer("sampled", 6, samples=3), vectors(1)
    true = made.log_probabilities(hidden)[0].exp().detach()
    made.chances = lambda words=slice(None): torch.full((6,), 0.5, dtype=torch.float64)[words]  # as if all were as likely
    total = torch.zeros_like(made.weight)
    for drawn, chance in sets(layer("sampled", 6, samples=3)):
        loss = (true * made.estimate(hidden.expand(6, -1), torch.arange(6), drawn)).sum()
        total += chance.detach() * torch.autograd.grad(loss, made.weight)[0]
    assert total.abs().max() > 1e-3


def test_an_accidental_hit_counts_once():
    made, hidden = layer("sampled", 8, samples=5), vectors(2)
    targets = torch.tensor([3, 4])
    with_hit, without = (made.estimate(hidden, targets, torch.tensor(drawn)) for drawn in ([0, 3, 6], [0, 6]))
    torch.testing.assert_close(with_hit[0], without[0], atol=0, rtol=0)
    assert with_hit[1] > without[1]


def test_words_are_drawn_as_often_as_they_say_and_by_the_seed():
    made = SampledOutput(size=2, vocabulary_size=50, samples=20)
    times, seen = 1000, torch.zeros(50)
    made.estimate = lambda hidden, targets, drawn: seen.index_add_(0, drawn, torch.ones(len(drawn)))
    torch.manual_seed(0)
    for _ in range(times):
        made(torch.zeros(1, 2), torch.tensor([0]))
    chances = made.chances()
    assert ((seen / times - chances).abs() < 4 * (chances * (1 - chances) / times).sqrt() + 1e-9).all()
    share = np.log1p(1 / np.arange(1, 51)) / math.log(51)  # TensorFlow's log-uniform
    np.testing.assert_allclose(chances.numpy(), 1 - (1 - share) ** 20, rtol=1e-9)


def test_the_seed_alone_decides_what_is_drawn():
    made, hidden, targets = layer("sampled", 40, samples=10).train(), vectors(5), torch.arange(5)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(made(hidden, targets))
    first, again, other = found
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_layer_learns_a_distribution(name):
    """A text of independent words: the likelihood comes near the entropy, sampled or not."""
    torch.manual_seed(0)
    share = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    weight = torch.nn.Parameter(0.1 * torch.randn(6, SIZE))
    options = {"samples": 3} if name == "sampled" else {}
    made = make_output(name, size=SIZE, vocabulary_size=6, weight=weight, counts=(100 * share).long(), **options)
    hidden = torch.ones(256, SIZE)
    optimizer = torch.optim.Adam([*made.parameters(), weight], 0.05)
    for step in range(150):
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 150)
        made(hidden, torch.multinomial(share, 256, replacement=True)).mean().backward()
        optimizer.step()
    found = made.eval().log_probabilities(torch.ones(1, SIZE))[0].detach()
    assert float((share * (share.log() - found)).sum()) < 0.01  # nats


def test_what_does_not_fit_is_refused():
    for name in OUTPUTS:
        made = layer(name, 5)
        with pytest.raises(ValueError, match=r"hidden is \(N, 6\), got \(2, 7\)"):
            made.double()(torch.zeros(2, 7, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
        with pytest.raises(ValueError, match=r"3 vectors need 3 targets, got \(2,\)"):
            made(vectors(3), torch.zeros(2, dtype=torch.int64))
        with pytest.raises(IndexError):
            made(vectors(1), torch.tensor([5]))
    with pytest.raises(ValueError, match="no output layer 'softmax'; there are: full, tied"):
        make_output("softmax", size=4, vocabulary_size=4)
    with pytest.raises(ValueError, match="give weight"):
        make_output("tied", size=4, vocabulary_size=4)
    with pytest.raises(ValueError, match="at least 9 rows"):
        make_output("tied", size=4, vocabulary_size=9, weight=torch.zeros(8, 4))
    with pytest.raises(ValueError, match="5 numbers, none negative"):
        make_output("hierarchical", size=4, vocabulary_size=5, counts=[1, 2])
    with pytest.raises(ValueError, match="'log-uniform' or 'unigram'"):
        make_output("sampled", size=4, vocabulary_size=5, proposal="uniform")
