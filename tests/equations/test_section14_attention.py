"""EQUATIONS.md, section 14: align and mix, every score, soft and hard, monotonic, several passes (E88, E89, E91-E93; W11, W27).

Held against plain loops, enumeration and closed forms.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from weft import TextClassifier
from weft.data import datasets
from weft.estimators.training import targets_of, texts_of
from weft.nn.alignment import Attention, reinforce
from weft.nn.attention import Memory, attend
from weft.nn.monotonic import at_start, decided, expected_alignment
from weft.nn.passes import Passes, PassesPooling
from weft.nn.scores import MLP, SCORES, Additive, Biaffine, Cosine, Dot, General, Location, ScaledDot, Score, make_score

DOUBLE = torch.float64
SAME_SIZE = ("cosine", "dot", "scaled-dot")


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with random parameters: what starts at zero must count too."""
    draw = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=DOUBLE))
    return module


def drawn(query_size: int, key_size: int, times: int = 3, length: int = 5) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = ((2, times, query_size), (2, length, key_size))
    query, key = (torch.randn(shape, generator=draw, dtype=DOUBLE) for shape in shapes)
    return query, key


def scored(name: str, query_size: int = 4, key_size: int = 3, **options: object) -> Score:
    key_size = query_size if name in SAME_SIZE else key_size
    score = make_score(name, query_size=query_size, key_size=key_size, hidden_size=6, **options)
    randomised(score)
    return score


# E89: the scores, one pair at a time, in plain Python


def product(matrix: list[list[float]], vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector)) for row in matrix]


def dotted(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b))


def by_formula(score: Score, s: list[float], h: list[float], place: int) -> float:
    """score(s, h_place) as the table of E89 has it."""
    weights = {name: parameter.tolist() for name, parameter in score.named_parameters()}
    if isinstance(score, Dot):
        return dotted(s, h)
    if isinstance(score, ScaledDot):
        return dotted(s, h) / math.sqrt(len(h))
    if isinstance(score, Cosine):
        sharpness = math.exp(weights["log_sharpness"]) if "log_sharpness" in weights else score.sharpness
        return sharpness * dotted(s, h) / (math.hypot(*s) * math.hypot(*h))
    if isinstance(score, Location):
        return dotted(weights["weight"][place], s)
    if isinstance(score, General):
        return dotted(s, product(weights["weight"], h))
    if isinstance(score, Biaffine):
        return dotted(s, product(weights["weight"], h)) + dotted(weights["linear"], s + h) + weights["bias"]
    joined = [a + b for a, b in zip(weights["query_weight"], weights["key_weight"])]  # W = [W_s W_h]
    inner = product(joined, s + h)
    if weights.get("bias"):
        inner = [a + b for a, b in zip(inner, weights["bias"])]
    hidden = [math.tanh(a) for a in inner]
    if isinstance(score, MLP):
        for layer in range(len(score.inner)):
            outer = product(weights[f"inner.{layer}.weight"], hidden)
            hidden = [math.tanh(a + b) for a, b in zip(outer, weights[f"inner.{layer}.bias"])]
    return dotted(weights["vector"], hidden)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in SCORES),
        ("additive", {"bias": True}),
        ("cosine", {"sharpness": 3.0}),
        ("cosine", {"learnt": True}),
        ("location", {"maximum_length": 5}),
        ("mlp", {"layers": 3}),
    ],
)
def test_e89_every_score_is_its_formula(name: str, options: dict[str, object]) -> None:
    score = scored(name, **options)
    query, key = drawn(score.query_size, score.key_size)
    got = score(query, score.keys(key))
    assert got.shape == (2, 3, 5)
    for row, time, place in itertools.product(range(2), range(3), range(5)):
        expected = by_formula(score, query[row, time].tolist(), key[row, place].tolist(), place)
        assert got[row, time, place].item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", SCORES)
def test_e89_gradients_agree_with_finite_differences(name: str) -> None:
    score = scored(name, maximum_length=5) if name == "location" else scored(name)
    query, key = (x.requires_grad_() for x in drawn(score.query_size, score.key_size, times=2))
    assert torch.autograd.gradcheck(lambda s, h: score(s, score.keys(h)), (query, key))


def test_e89_w11_worked_scores() -> None:
    """s = (1, 2), h = (1, 0), (0, 1), (1, 1)."""
    query, states = numbers(1, 2)[None], torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=DOUBLE)
    additive, general = (make_score(name, query_size=2, key_size=2, hidden_size=2).double() for name in ("additive", "general"))
    with torch.no_grad():
        additive.query_weight.copy_(torch.tensor([[1, 0], [0, 1]]))  # W = [[1, 0, 0, 1], [0, 1, 1, 0]]
        additive.key_weight.copy_(torch.tensor([[0, 1], [1, 0]]))
        additive.vector.copy_(numbers(1, -1))
        general.weight.copy_(torch.diag(numbers(1, 0.5)))
    worked = [
        (make_score("dot", query_size=2, key_size=2), (1, 2, 3), (0.090031, 0.244728, 0.665241), (0.755272, 0.909969)),
        (make_score("scaled-dot", query_size=2, key_size=2), None, (0.140029, 0.283995, 0.575975), (0.716005, 0.859971)),
        (make_score("cosine", query_size=2, key_size=2), (0.447214, 0.894427, 0.948683), (0.237243, 0.371035, 0.391722), None),
        (general, (1, 1, 2), (0.211942, 0.211942, 0.576117), None),
        (additive, (-0.233461, 0, -0.031027), (0.286751, 0.362156, 0.351092), None),
    ]
    for score, scores, alpha, context in worked:
        keys = score.keys(states)
        if scores is not None:
            close(score(query, keys)[0], numbers(*scores), 5e-7)
        attended = attend(query, keys, states, score=score, weights=True)
        assert attended.weights is not None
        close(attended.weights[0], numbers(*alpha), 5e-7)
        if context is not None:
            close(attended.context[0], numbers(*context), 5e-7)
    assert make_score("scaled-dot", query_size=64, key_size=64)(torch.ones(1, 64), torch.ones(1, 64)).item() == 64 / 8


def test_e89_additive_is_adding_projections_and_the_mlp_of_one_layer() -> None:
    score = scored("additive", bias=True)
    assert isinstance(score, Additive) and score.bias is not None
    query, key = drawn(4, 3)
    joint = torch.cat([score.query_weight, score.key_weight], -1)  # W (A, Dq + Dk)
    pairs = torch.cat([query[:, :, None].expand(-1, -1, 5, -1), key[:, None].expand(-1, 3, -1, -1)], -1)
    close(score(query, score.keys(key)), torch.tanh(pairs @ joint.mT + score.bias) @ score.vector)
    network = make_score("mlp", query_size=4, key_size=3, hidden_size=6, layers=1).double()
    network.load_state_dict(score.state_dict())
    close(network(query, network.keys(key)), score(query, score.keys(key)))


def test_e89_biaffine_without_linear_terms_is_general_and_with_the_identity_dot() -> None:
    biaffine, general, dot = scored("biaffine", 4, 4), scored("general", 4, 4), scored("dot")
    assert isinstance(biaffine, Biaffine) and isinstance(general, General)
    query, key = drawn(4, 4)
    assert (biaffine(query, biaffine.keys(key)) - general(query, general.keys(key))).abs().min() > 1e-6
    with torch.no_grad():
        biaffine.weight.copy_(general.weight)
        biaffine.linear.zero_()
        biaffine.bias.zero_()
    close(biaffine(query, biaffine.keys(key)), general(query, general.keys(key)))
    with torch.no_grad():
        biaffine.weight.copy_(torch.eye(4))
    close(biaffine(query, biaffine.keys(key)), dot(query, dot.keys(key)))


def test_e89_location_ignores_the_source_and_refuses_a_longer_one() -> None:
    score = scored("location", maximum_length=5)
    query, key = drawn(4, 3)
    first = score(query, score.keys(key))
    assert torch.equal(first, score(query, score.keys(torch.full_like(key, math.nan))))
    close(score(query, score.keys(key[:, :2])), first[..., :2])
    assert not torch.equal(first, score(query + 1, score.keys(key)))
    with pytest.raises(ValueError, match=r"6 positions.*maximum_length=5"):
        score.keys(torch.zeros(2, 6, 3))


def test_e89_cosine_of_unit_vectors_is_dot_and_of_nothing_is_zero() -> None:
    cosine, dot = scored("cosine"), scored("dot")
    query, key = (nn.functional.normalize(x, dim=-1) for x in drawn(4, 4))
    close(cosine(query, cosine.keys(key)), dot(query, dot.keys(key)))
    nothing = torch.zeros(2, 3, 4, dtype=DOUBLE, requires_grad=True)  # a decoder's first state
    scores = cosine(nothing, cosine.keys(key))
    assert not scores.any()
    (gradient,) = torch.autograd.grad(scores.square().sum() + scores.sum(), nothing)
    assert gradient.abs().max() < 10


@pytest.mark.parametrize("size", [4, 64, 1024])
def test_e89_variance_of_dot_and_scaled_dot(size: int) -> None:
    """Unit-variance vectors: s·h has variance d, s·h/√d has 1; the variance of one sample variance is (κ - 1)/N, κ = 3 + 6/d."""
    draw = torch.Generator().manual_seed(2)
    query, key = (torch.randn(4000, 1, size, generator=draw) for _ in range(2))
    bound = 4 * math.sqrt((2 + 6 / size) / 4000)
    for name, variance in (("dot", size), ("scaled-dot", 1.0)):
        score = make_score(name, query_size=size, key_size=size)
        assert abs(score(query, score.keys(key)).var().item() / variance - 1) < bound


# E88: align and mix


@pytest.mark.parametrize("name", SCORES)
def test_e88_soft_weights_are_a_masked_distribution_that_permutes_with_the_source(name: str) -> None:
    size = 4 if name in SAME_SIZE else 3
    attention = Attention(score=name, query_size=4, key_size=size, hidden_size=6)
    randomised(attention)
    query, source = drawn(4, size)
    mask = torch.tensor([[True] * 5, [True, False, True, True, False]])
    context, weights, *_ = attention(query, attention.read(source.masked_fill(~mask[..., None], math.nan), mask), weights=True)
    assert weights is not None and (weights >= 0).all()
    close(weights.sum(-1), torch.ones(2, 3, dtype=DOUBLE))
    assert not weights[1][:, ~mask[1]].any()
    close(context, weights @ source)
    close(attention(query, attention.read(source, mask)).context, context)  # without weights, fused where there is a kernel
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted, moved, *_ = attention(query, attention.read(source[:, order], mask[:, order]), weights=True)
    assert moved is not None
    if name == "location":
        assert (moved - weights[..., order]).abs().max() > 1e-3
    else:
        close(moved, weights[..., order])
        close(permuted, context)


# E91: hard attention


def one_source(query: Tensor, source: Tensor, copies: int = 1) -> tuple[Tensor, Memory]:
    memory = Memory(source.expand(copies, -1, -1), source.expand(copies, -1, -1), torch.ones(copies, source.shape[1], dtype=torch.bool))
    return query.expand(copies, -1, -1), memory


def test_e91_estimator_is_unbiased_and_a_baseline_changes_its_variance_alone() -> None:
    """Enumerated: Σ_i α_i g_i = ∇ Σ_i α_i log p(y | h_i), g_i what `reinforce` gives for the draw i."""
    torch.manual_seed(3)
    query = torch.randn(1, 1, 3, dtype=DOUBLE, requires_grad=True)
    source, answer = torch.randn(1, 6, 3, dtype=DOUBLE), torch.randn(3, dtype=DOUBLE)
    log_alpha = (query @ source.mT).log_softmax(-1)[0, 0]
    log_p = nn.functional.logsigmoid(source[0] @ answer + query[0, 0] @ answer) - 3.0
    expected = (log_alpha.exp() * log_p).sum()
    (wanted,) = torch.autograd.grad(expected, query, retain_graph=True)
    spread = []
    for baseline in (0.0, expected.item()):
        draws = [torch.autograd.grad(reinforce(log_p[i], log_alpha[i], baseline), query, retain_graph=True)[0].flatten() for i in range(6)]
        mean = sum(alpha * draw for alpha, draw in zip(log_alpha.exp().detach(), draws))
        close(mean, wanted.flatten())
        spread.append(sum(alpha * (draw - mean).square().sum() for alpha, draw in zip(log_alpha.exp().tolist(), draws)))
    assert spread[1] < 0.5 * spread[0]


def test_e91_what_is_drawn_has_the_probabilities_it_says() -> None:
    torch.manual_seed(4)
    attention = Attention(score="dot", align="hard", query_size=3, key_size=3)
    query, source = torch.randn(1, 1, 3), torch.randn(1, 5, 3)
    many, memory = one_source(query, source, copies=20_000)
    context, weights, _, log_choice = attention(many, memory, weights=True)
    assert weights is not None and log_choice is not None and log_choice.shape == (20_000, 1)
    alpha = (query @ source.mT).softmax(-1)[0, 0]
    error = (weights[:, 0].mean(0) - alpha) / (alpha * (1 - alpha) / 20_000).sqrt()
    assert error.abs().max() < 4
    close(context[:, 0], source[0][weights[:, 0].argmax(-1)], 0)
    close(log_choice[:, 0], alpha.log()[weights[:, 0].argmax(-1)], 1e-6)


def test_e91_prediction_takes_the_first_argmax() -> None:
    attention = Attention(score="dot", align="hard", query_size=1, key_size=1).eval()
    source = torch.tensor([[[1.0], [3.0], [3.0], [9.0]], [[5.0], [0.0], [0.0], [0.0]]])
    mask = torch.tensor([[True, True, True, False], [False] * 4])
    memory = attention.read(source, mask)
    attended = attention(torch.ones(2, 1, 1), memory, weights=True)
    assert attended.weights is not None and attended.log_choice is None
    assert attended.weights[:, 0].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    assert attended.context.flatten().tolist() == [3.0, 0.0]
    drawn = attention.train()(torch.ones(2, 1, 1), memory)
    assert drawn.log_choice is not None and drawn.log_choice[1].item() == 0 and drawn.context[1].item() == 0


# E92: monotonic attention


def step_by_step(p: Tensor, previous: Tensor) -> Tensor:
    """q_i = q_{i-1} (1 - p_{i-1}) + α'_i, α_i = p_i q_i, one position after the other."""
    q, alpha = 0.0, []
    for i in range(len(p)):
        q = (q * (1 - p[i - 1]) if i else 0.0) + previous[i]
        alpha.append(p[i] * q)
    return torch.stack(alpha)


def by_paths(p: Tensor, length: int) -> Tensor:
    """The marginals of the last of the rows of p over all pointer paths, from position 0; a pointer that runs off the end stays there."""
    total = torch.zeros(length, dtype=DOUBLE)
    for path in itertools.product(range(length), repeat=len(p)):
        chance, at = 1.0, 0
        for row, stop in zip(p, path):
            if stop < at:
                chance = 0.0
                break
            for i in range(at, stop):
                chance = chance * (1 - row[i])
            chance, at = chance * row[stop], stop
        total[path[-1]] += chance
    return total


def test_e92_w27() -> None:
    p = torch.tensor([[0.3, 0.6, 0.9, 0.5], [0.2, 0.7, 0.4, 0.8]], dtype=DOUBLE)
    first = expected_alignment(p[0], numbers(1, 0, 0, 0))
    second = expected_alignment(p[1], first)
    close(first, numbers(0.3, 0.42, 0.252, 0.014), 1e-12)
    close(second, numbers(0.06, 0.462, 0.18, 0.2272), 1e-12)
    close(1 - first.sum(), numbers(0.014)[0], 1e-12)
    close(1 - second.sum(), numbers(0.0708)[0], 1e-12)


def test_e92_recursion_is_the_sum_over_all_pointer_paths() -> None:
    p = torch.rand(4, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))
    alpha = at_start(torch.ones(5, dtype=torch.bool)).double()
    for step in range(4):
        alpha = expected_alignment(p[step], alpha)
        close(alpha, by_paths(p[: step + 1], 5), 1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 33])
def test_e92_parallel_forms_are_the_sequential_one(length: int) -> None:
    """Ours, and the published cumprod/cumsum form where it can be computed."""
    draw = torch.Generator().manual_seed(6)
    p, previous = (torch.rand(2, length, dtype=DOUBLE, generator=draw) for _ in range(2))
    p, previous = (0.8 * p).requires_grad_(), (previous / previous.sum(-1, keepdim=True)).requires_grad_()
    got = expected_alignment(p, previous)
    expected = torch.stack([step_by_step(*rows) for rows in zip(p, previous)])
    close(got, expected, 1e-12)
    survived = torch.cat([torch.ones(2, 1, dtype=DOUBLE), (1 - p).cumprod(-1)[:, :-1]], -1)
    close(p * survived * (previous / survived).cumsum(-1), expected, 1e-9)
    weight = torch.rand(2, length, dtype=DOUBLE, generator=draw)
    for mine, wanted in zip(*(torch.autograd.grad((weight * out).sum(), (p, previous)) for out in (got, expected))):
        close(mine, wanted, 1e-11)


def test_e92_sure_stops_are_no_division_by_zero() -> None:
    """Where the cumprod/cumsum form gives NaN."""
    p = torch.full((40,), 1 - 1e-12).requires_grad_()
    previous = torch.full((40,), 1 / 40)
    survived = torch.cat([torch.ones(1), (1 - p).cumprod(-1)[:-1]])
    assert (p * survived * (previous / survived).cumsum(-1)).isnan().any()
    alpha = expected_alignment(p, previous)
    close(alpha.sum(), torch.tensor(1.0), 1e-6)
    (gradient,) = torch.autograd.grad(alpha[7], p)
    assert gradient.isfinite().all()


def test_e92_prediction_is_a_pointer_that_never_goes_back() -> None:
    attention = Attention(score="dot", align="monotonic", query_size=4, key_size=4, offset=-0.5)
    attention.eval()
    draw = torch.Generator().manual_seed(7)
    source, mask = torch.randn(30, 9, 4, generator=draw), torch.arange(9) < torch.arange(30)[:, None] % 8 + 2
    memory = attention.read(source, mask)
    state, pointer, moved = None, torch.zeros(30, dtype=torch.long), 0
    for _ in range(5):
        query = torch.randn(30, 1, 4, generator=draw)
        attended = attention(query, memory, previous=state, weights=True)
        assert attended.weights is not None and attended.state is not None
        stops = (memory.values @ query.mT)[..., 0] - 0.5 > 0
        for row in range(30):  # from the last position scan on, stop at the first that is chosen; else off the end, for good
            found = [i for i in range(int(pointer[row]), 9) if mask[row, i] and stops[row, i]]
            expected = torch.zeros(9)
            if found:
                expected[found[0]] = 1.0
            moved += bool(found) and found[0] > int(pointer[row])
            pointer[row] = found[0] if found else 9
            assert torch.equal(attended.weights[row, 0], expected)
            assert torch.equal(attended.context[row, 0], source[row, found[0]] if found else torch.zeros(4))
        state = attended.state
    assert moved > 10 and (pointer < 9).any() and (pointer == 9).any()


def test_e92_training_is_the_expectation_under_noise() -> None:
    torch.manual_seed(8)
    attention = Attention(score="dot", align="monotonic", query_size=3, key_size=3, noise=0.0).double()
    query, source = drawn(3, 3)
    mask = torch.tensor([[True] * 5, [False, True, True, False, False]])
    memory = attention.read(source, mask)
    first = attention(query, memory, weights=True)
    assert first.state is not None and first.weights is not None
    second = attention(query, memory, previous=first.state)
    p = torch.sigmoid(query @ source.mT - 1.0).masked_fill(~mask[:, None], 0.0)
    start = torch.eye(5, dtype=DOUBLE)[[0, 1]]  # the first visible position
    for row, time in itertools.product(range(2), range(3)):
        once = step_by_step(p[row, time], start[row])
        close(first.weights[row, time], once, 1e-12)
        close(second.context[row, time], step_by_step(p[row, time], once) @ source[row].masked_fill(~mask[row, :, None], 0.0), 1e-12)
    close(attend(query, source, source, mask, score=lambda s, h: s @ h.mT - 1.0, previous=first.state).context, second.context, 1e-12)
    attention.noise = 2.0
    assert (attention(query, memory, weights=True).weights - first.weights).abs().max() > 0.01
    attention.eval()
    assert set(attention(query, memory, weights=True).weights.flatten().tolist()) <= {0.0, 1.0}
    assert decided(numbers(-0.1, 0.0, 0.1)).tolist() == [0, 0, 1]


# E93: several passes


def test_e93_one_pass_is_plain_attention() -> None:
    passes = Passes(query_size=4, key_size=3, passes=1, hidden_size=6)
    randomised(passes)
    query, source = drawn(4, 3, times=1)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    memory, contexts, weights = passes(query[:, 0], source, mask, weights=True)
    plain = passes.attention(query, passes.attention.read(source, mask), weights=True)
    assert weights is not None and plain.weights is not None and memory is not None
    close(contexts, plain.context, 0)
    close(weights, plain.weights, 0)


def test_e93_the_recurrence_pass_by_pass() -> None:
    passes = Passes(query_size=4, key_size=3, passes=3, score="general")
    randomised(passes)
    query, source = drawn(4, 3, times=1)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    q = query[:, 0]
    memory, contexts, weights = passes(q, source, mask, weights=True)
    score = passes.attention.score
    assert isinstance(score, General) and passes.update is not None and weights is not None and memory is not None
    m = q
    for k in range(3):
        scores = torch.einsum("bi,ij,bsj->bs", m, score.weight, source).masked_fill(~mask, -math.inf)
        alpha = scores.softmax(-1)
        e = torch.einsum("bs,bsj->bj", alpha, source)
        close(weights[:, k], alpha)
        close(contexts[:, k], e)
        (m,) = passes.update(torch.cat([e, q], -1), (m,))
    close(memory, m)
    assert (weights[:, 0] - weights[:, 1]).abs().max() > 0.01


def test_e93_pooling_with_one_pass_is_plain_attention() -> None:
    """α = softmax(qᵀ W x) over the real steps, in plain loops."""
    pool = PassesPooling(size=4, passes=1).double()
    randomised(pool)
    score = pool.passes.attention.score
    assert isinstance(score, General)
    _, x = drawn(1, 4)
    lengths = (5, 2)
    mask = torch.tensor([[place < length for place in range(5)] for length in lengths])
    pooled, maps = pool(x, mask), pool.weights(x, mask)
    for row, length in enumerate(lengths):
        scores = [(pool.query @ score.weight @ x[row, place]).item() for place in range(length)]
        total = sum(math.exp(one) for one in scores)
        shares = [math.exp(one) / total for one in scores] + [0.0] * (5 - length)
        close(maps[row, 0], torch.tensor(shares, dtype=torch.float64))
        close(pooled[row], sum(share * x[row, place] for place, share in enumerate(shares)))


@pytest.mark.slow
def test_e93_on_real_sentiment_the_second_look_is_the_sharper_one() -> None:
    """The mean entropy of α falls from the first pass to the second (two seeds on movie reviews: 2.95 to 1.86, 2.96 to 2.27)."""
    if datasets.data_folder() is None:
        pytest.skip("the folder of data is not here (WEFT_DATA)")
    splits = datasets.load("mr")
    train, texts = splits.train.subset(range(8000)), texts_of(splits.train.subset(range(8000, 8400)))
    made = TextClassifier("attention-lstm", {"pooling": "passes", "passes": 2}, epochs=3, threads=1, validation_fraction=0.05)
    made.fit(texts_of(train), targets_of(train))
    maps = [made.engine_.maps(text)[1] for text in texts]
    entropies = np.array([-(shares * np.log(np.maximum(shares, 1e-12))).sum(-1) for shares in maps])
    assert entropies.mean(0)[1] < entropies.mean(0)[0] - 0.1
    assert (entropies[:, 1] < entropies[:, 0]).mean() > 0.8
