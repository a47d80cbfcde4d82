"""Attention against loops, worked numbers (E88, W11) and torch.nn.MultiheadAttention."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.nn.attention import MultiHeadAttention, attend, scaled_dot
from weft.nn.positions import rotated

DOUBLE = torch.float64


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


def dot(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.mT


def test_w11_weights_mix_the_states() -> None:
    states = torch.randn(4, 3, dtype=DOUBLE)
    for chosen, key in ((slice(0, 2), numbers(1, 1, -1000, -1000)), (slice(2, 4), numbers(-1000, -1000, 1, 1))):
        attended = attend(numbers(1)[None], key[:, None], states, score=dot, weights=True)
        torch.testing.assert_close(attended.context[0], states[chosen].mean(0), atol=1e-12, rtol=0)
        assert attended.weights is not None
        assert attended.weights[0, chosen].tolist() == [0.5, 0.5]


def test_w11_dot_and_scaled_dot() -> None:
    query, states = numbers(1, 2)[None], torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=DOUBLE)
    for score, alpha, context in (
        (dot, (0.090031, 0.244728, 0.665241), (0.755272, 0.909969)),
        (scaled_dot, (0.140029, 0.283995, 0.575975), (0.716005, 0.859971)),
    ):
        attended = attend(query, states, states, score=score, weights=True)
        assert attended.weights is not None
        torch.testing.assert_close(attended.weights[0], numbers(*alpha), atol=5e-7, rtol=0)
        torch.testing.assert_close(attended.context[0], numbers(*context), atol=5e-7, rtol=0)
    assert scaled_dot(torch.ones(1, 64), torch.ones(1, 64)).item() == 64 / 8


def test_e88_weights_are_a_masked_distribution_and_permute_with_the_source() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 5, [True, False, True, False, False]])
    context, weights, *_ = attend(query, key, value, mask, weights=True)
    assert weights is not None
    assert context.shape == (2, 3, 6)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))
    assert not weights[1][:, ~mask[1]].any()
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted, permuted_weights, *_ = attend(query, key[:, order], value[:, order], mask[:, order], weights=True)
    assert permuted_weights is not None
    torch.testing.assert_close(permuted, context)
    torch.testing.assert_close(permuted_weights, weights[..., order])


@pytest.mark.parametrize("kind", ["none", "keys", "pairs"])
def test_fused_equals_written_out(kind: str) -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(2, length, 4, dtype=DOUBLE, requires_grad=True) for length in (3, 5, 5))
    mask = {"none": None, "keys": torch.rand(2, 5) < 0.5, "pairs": torch.rand(2, 3, 5) < 0.5}[kind]
    fast, nothing, *_ = attend(query, key, value, mask)
    assert nothing is None
    slow, *_ = attend(query, key, value, mask, weights=True)
    torch.testing.assert_close(fast, slow, atol=1e-12, rtol=0)
    for mine, wanted in zip(*(torch.autograd.grad(out.square().sum(), (query, key, value)) for out in (fast, slow)), strict=True):
        torch.testing.assert_close(mine, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("weights", [False, True])
def test_nothing_visible_yields_zeros_and_no_gradient(weights: bool) -> None:
    x = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    context, alpha, *_ = attend(x, x, x, mask, weights=weights)
    assert not context[1].any()
    assert alpha is None or not alpha[1].any()
    (gradient,) = torch.autograd.grad(context.square().sum(), x)
    assert gradient.isfinite().all()
    assert not gradient[1].any()


def multi_head(size: int = 8, heads: int = 2, **options: float) -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    """Ours, and torch's with the same weights."""
    torch.manual_seed(2)
    ours = MultiHeadAttention(size=size, heads=heads, **options)  # type: ignore[arg-type]
    theirs = nn.MultiheadAttention(size, heads, batch_first=True)
    with torch.no_grad():
        ours.input.bias.normal_()
        ours.output.bias.normal_()
        theirs.in_proj_weight.copy_(ours.input.weight)
        theirs.in_proj_bias.copy_(ours.input.bias)
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    return ours, theirs


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_multi_head_self_attention_equals_torch(causal: bool, weights: bool) -> None:
    ours, theirs = multi_head()
    x = torch.randn(3, 5, 8)
    mask = torch.arange(5) < torch.tensor([5, 2, 4])[:, None]
    hidden_pairs = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    expected, alpha = theirs(x, x, x, key_padding_mask=~mask, attn_mask=hidden_pairs, average_attn_weights=False)
    attended = ours(x, x, x, mask, causal, weights=weights)
    torch.testing.assert_close(attended.context, expected, atol=1e-6, rtol=0)
    if weights:
        torch.testing.assert_close(attended.weights, alpha, atol=1e-6, rtol=0)
    unmasked, _ = theirs(x, x, x, attn_mask=hidden_pairs)
    torch.testing.assert_close(ours(x, x, x, None, causal, weights=weights).context, unmasked, atol=1e-6, rtol=0)


def test_multi_head_cross_attention_equals_torch() -> None:
    ours, theirs = multi_head()
    query, key, value = torch.randn(3, 4, 8), torch.randn(3, 6, 8), torch.randn(3, 6, 8)
    mask = torch.arange(6) < torch.tensor([6, 2, 4])[:, None]
    expected, _ = theirs(query, key, value, key_padding_mask=~mask)
    torch.testing.assert_close(ours(query, key, value, mask).context, expected, atol=1e-6, rtol=0)
    pairs = torch.rand(3, 4, 6) < 0.7
    pairs[..., 0] = True  # torch's module gives NaN where nothing is visible
    expected, _ = theirs(query, key, value, attn_mask=~pairs.repeat_interleave(2, 0))
    torch.testing.assert_close(ours(query, key, value, pairs).context, expected, atol=1e-6, rtol=0)


def test_without_bias() -> None:
    ours = MultiHeadAttention(size=8, heads=2, bias=False)
    assert sum(parameter.numel() for parameter in ours.parameters()) == 4 * 8 * 8
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(ours(x, x, x).context, ours(x, x.clone(), x).context)  # stacked product = three products


def test_dropped_weights_keep_their_mean() -> None:
    """Over many draws the mean of inverted dropout is the undropped output; in eval mode nothing is dropped."""
    ours, _ = multi_head(dropout=0.3)
    x = torch.randn(1, 4, 8)
    plain = ours.eval()(x, x, x).context
    ours.train()
    many = x.expand(20_000, -1, -1)
    draws = ours(many, many, many).context
    error = (draws.mean(0) - plain[0]).abs() / (draws.std(0) / math.sqrt(len(draws)))
    assert draws.std(0).min() > 0.01
    assert error.max() < 4.5


def test_bf16_on_the_cpu_attends_in_float32() -> None:
    ours, _ = multi_head()
    x = torch.randn(2, 5, 8, requires_grad=True)
    seen = []
    original = F.scaled_dot_product_attention

    def spy(query: Tensor, *rest: object, **named: object) -> Tensor:
        seen.append(query.dtype)
        return original(query, *rest, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", spy)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = ours(x, x, x).context
    assert seen == [torch.float32]
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), ours(x, x, x).context, atol=0.05, rtol=0)
    low.float().sum().backward()
    assert x.grad is not None


def test_wrong_calls_are_named() -> None:
    with pytest.raises(ValueError, match=r"size=10 must divide by heads=4"):
        MultiHeadAttention(size=10, heads=4)
    with pytest.raises(ValueError, match=r"heads=0"):
        MultiHeadAttention(size=8, heads=0)
    with pytest.raises(ValueError, match=r"dropout=1.0"):
        MultiHeadAttention(size=8, heads=2, dropout=1.0)
    ours, _ = multi_head()
    x, y = torch.zeros(2, 3, 8), torch.zeros(2, 4, 8)
    with pytest.raises(ValueError, match=r"the key has size 6.*size=8"):
        ours(x, torch.zeros(2, 3, 6), x)
    with pytest.raises(ValueError, match=r"not 3 and 4"):
        ours(x, y, y, causal=True)
    with pytest.raises(ValueError, match=r"4 keys, but 3 values"):
        attend(x, y, x)
    with pytest.raises(ValueError, match=r"\(2, 5\).*\(2, 3, 4\)"):
        attend(x, y, y, torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"bool.*float32"):
        attend(x, y, y, torch.zeros(2, 4))


def test_averaged_heads_are_concatenated_ones_under_a_fixed_output():
    """combine="mean" is concatenation with W_O = (1/H) [I; ...; I] (E96)."""
    torch.manual_seed(0)
    mean = MultiHeadAttention(size=6, heads=2, combine="mean", bias=False)
    x = torch.randn(2, 4, 6)
    found = mean(x, x, x, weights=True)
    queries, keys, values = (part.view(2, 4, 2, 6).transpose(1, 2) for part in mean.input(x).chunk(3, -1))
    heads = torch.softmax(queries @ keys.mT / 6**0.5, -1) @ values
    joined = heads.transpose(1, 2).flatten(2) @ (torch.cat([torch.eye(6)] * 2) / 2)
    torch.testing.assert_close(found.context, joined)
    torch.testing.assert_close(mean(x, x, x).context, joined)
    assert sum(p.numel() for p in mean.parameters()) == 3 * 2 * 6 * 6
    with pytest.raises(ValueError, match="combine='sum'"):
        MultiHeadAttention(size=6, heads=2, combine="sum")


def test_one_product_for_keys_that_are_values():
    torch.manual_seed(0)
    attention = MultiHeadAttention(size=6, heads=2)
    nn.init.normal_(attention.input.bias)
    query, source = torch.randn(2, 3, 6), torch.randn(2, 4, 6)
    wanted = attention(query, source, source.clone()).context
    torch.testing.assert_close(attention(query, source, source).context, wanted)
    keys, values = attention.keys_values(source)
    torch.testing.assert_close(attention.mix(attention.queries(query), keys, values).context, wanted)


def test_rotary_attention_turns_queries_and_keys():
    torch.manual_seed(0)
    plain, turned = MultiHeadAttention(size=8, heads=2), MultiHeadAttention(size=8, heads=2, rotary=True)
    turned.load_state_dict(plain.state_dict())
    x = torch.randn(1, 5, 8)
    queries, keys, values = (plain.split(part) for part in plain.input(x).chunk(3, -1))
    wanted = plain.mix(rotated(queries), rotated(keys), values).context
    torch.testing.assert_close(turned(x, x, x).context, wanted)
    assert (plain(x, x, x).context - wanted).abs().max() > 1e-4
    with pytest.raises(ValueError, match="3, must be even"):
        MultiHeadAttention(size=6, heads=2, rotary=True)
