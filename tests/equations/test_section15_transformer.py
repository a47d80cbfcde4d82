"""EQUATIONS.md, section 15: self-attention, masks, heads, positions, encoder block (E94-E99), against loops, closed forms, torch.nn."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.nn.attention import MultiHeadAttention, attend
from weft.nn.positions import LearnedPositions, SinusoidalPositions, sinusoidal
from weft.nn.transformer import EncoderBlock, TransformerEncoder

DOUBLE = torch.float64


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module


def by_loops(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """(T, D), (S, D), (S, E), (T, S) -> (T, E), one number at a time over what is visible."""
    out = torch.zeros(len(query), value.shape[1], dtype=query.dtype)
    for i in range(len(query)):
        weights = {j: math.exp((query[i] @ key[j]).item() / math.sqrt(query.shape[1])) for j in range(len(key)) if visible[i, j]}
        for j, weight in weights.items():
            out[i] += weight / sum(weights.values()) * value[j]
    return out


# E94: self-attention


def test_e94_against_loops_and_torch() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 5, dtype=DOUBLE)
    wq, wk, wv = (torch.randn(5, 4, dtype=DOUBLE) for _ in range(3))
    q, k, v = x @ wq, x @ wk, x @ wv
    expected = by_loops(q, k, v, torch.ones(6, 6, dtype=torch.bool))
    for weights in (False, True):
        close(attend(q, k, v, weights=weights).context, expected)
    close(F.scaled_dot_product_attention(q, k, v), expected)


def test_e94_both_orientations() -> None:
    """Columns as tokens: V softmax(K^T Q / sqrt(d_k)), softmax down the columns. Mixed, or unscaled, it is something else."""
    torch.manual_seed(1)
    q, k, v = (torch.randn(4, 4, dtype=DOUBLE) for _ in range(3))
    rows = attend(q, k, v).context
    columns = v.T @ torch.softmax(k @ q.T / 2, 0)
    close(columns.T, rows)
    mixed = v.T @ torch.softmax(q.T @ k / 2, 0)
    assert (mixed.T - rows).abs().max() > 1e-2
    assert (torch.softmax(q @ k.T, -1) @ v - rows).abs().max() > 1e-2


# E95: masks


@pytest.mark.parametrize("causal", [False, True])
def test_e95_all_masks_of_a_row_of_four(causal: bool) -> None:
    attention = randomised(MultiHeadAttention(size=3, heads=1))
    assert isinstance(attention, MultiHeadAttention)
    x = torch.randn(1, 4, 3, dtype=DOUBLE)
    q, k, v = attention.input(x[0]).chunk(3, -1)
    for row in itertools.product([False, True], repeat=4):
        mask = torch.tensor([row])
        visible = mask.expand(4, 4) & (torch.ones(4, 4).tril().bool() if causal else torch.tensor(True))
        expected = attention.output(by_loops(q, k, v, visible))  # nothing visible: zeros, then the output's bias
        for weights in (False, True):
            attended = attention(x, x, x, mask, causal, weights=weights)
            close(attended.context[0], expected)
            if weights:
                assert not attended.weights[0, 0][~visible].any()


def test_e95_gradient_to_hidden_positions_is_exactly_zero() -> None:
    torch.manual_seed(2)
    mask = torch.tensor([[True, False, True, True, False]])
    for weights in (False, True):
        q, k, v = (torch.randn(1, 5, 4, requires_grad=True) for _ in range(3))
        _, key_gradient, value_gradient = torch.autograd.grad(attend(q, k, v, mask, weights=weights).context.square().sum(), (q, k, v))
        for gradient in (key_gradient, value_gradient):
            assert not gradient[~mask].any()
            assert (gradient[mask].abs().sum(-1) > 0).all()
    attention = MultiHeadAttention(size=4, heads=2)
    x = torch.randn(1, 5, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(attention(x, x, x, causal=True).context[:, 2].sum(), x)
    assert not gradient[:, 3:].any()
    assert gradient[:, :3].any()


# E96: multiple heads


def test_e96_heads_by_a_loop() -> None:
    attention = randomised(MultiHeadAttention(size=6, heads=3))
    assert isinstance(attention, MultiHeadAttention)
    x = torch.randn(2, 5, 6, dtype=DOUBLE)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    weights, biases = attention.input.weight.chunk(3), attention.input.bias.chunk(3)
    for row in range(2):
        heads = []
        for head in range(3):
            own = slice(2 * head, 2 * head + 2)
            q, k, v = (x[row] @ weight[own].T + bias[own] for weight, bias in zip(weights, biases, strict=True))
            heads.append(by_loops(q, k, v, mask[row].expand(5, 5)))
        expected = torch.cat(heads, -1) @ attention.output.weight.T + attention.output.bias
        close(attention(x, x, x, mask).context[row], expected)


def test_e96_equals_torch() -> None:
    attention = randomised(MultiHeadAttention(size=6, heads=3))
    theirs = nn.MultiheadAttention(6, 3, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": attention.input.weight,
            "in_proj_bias": attention.input.bias,
            "out_proj.weight": attention.output.weight,
            "out_proj.bias": attention.output.bias,
        }
    )
    x = torch.randn(2, 5, 6, dtype=DOUBLE)
    close(attention(x, x, x).context, theirs(x, x, x)[0])


def test_e96_averaging_heads_is_concatenation_with_stacked_identities() -> None:
    """W_O = (1/H) [I; ...; I] makes the concatenated form the mean of its heads."""
    attention = randomised(MultiHeadAttention(size=6, heads=3))
    assert isinstance(attention, MultiHeadAttention)
    x = torch.randn(1, 5, 6, dtype=DOUBLE)
    with torch.no_grad():
        attention.output.weight.zero_()
        attention.output.weight[:2] = torch.eye(2, dtype=DOUBLE).repeat(1, 3) / 3
        attention.output.bias.zero_()
    q, k, v = attention.input(x[0]).chunk(3, -1)
    heads = [by_loops(q[:, own], k[:, own], v[:, own], torch.ones(5, 5)) for own in (slice(0, 2), slice(2, 4), slice(4, 6))]
    close(attention(x, x, x).context[0, :, :2], torch.stack(heads).mean(0))


def test_e96_one_head_with_the_identity_behind_it_is_e94() -> None:
    attention = randomised(MultiHeadAttention(size=6, heads=1))
    assert isinstance(attention, MultiHeadAttention)
    with torch.no_grad():
        attention.output.weight.copy_(torch.eye(6))
        attention.output.bias.zero_()
    x = torch.randn(2, 5, 6, dtype=DOUBLE)
    close(attention(x, x, x).context, attend(*attention.input(x).chunk(3, -1)).context)


def test_e96_size_error_names_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"10.*4"):
        MultiHeadAttention(size=10, heads=4)


# E97, E98: positions


def test_e97_w14() -> None:
    table = sinusoidal(3, 4)
    close(table[0], torch.tensor([0.0, 1, 0, 1]))
    close(table[1], torch.tensor([0.841471, 0.540302, 0.010000, 0.999950]), 6e-7)
    close(table[2], torch.tensor([0.909297, -0.416147, 0.019999, 0.999800]), 6e-7)


def test_e97_norm_is_half_the_size() -> None:
    for size in (2, 6, 64):
        close(sinusoidal(500, size, DOUBLE).square().sum(1), torch.full((500,), size / 2, dtype=DOUBLE))


def test_e97_too_long_an_input_is_a_clear_error_with_the_table_only() -> None:
    x = torch.zeros(1, 9, 4)
    with pytest.raises(ValueError, match=r"9.*8"):
        LearnedPositions(length=8, size=4)(x)
    assert SinusoidalPositions(size=4)(x).shape == x.shape


def test_e97_without_positions_the_encoder_is_permutation_equivariant() -> None:
    encoder = randomised(TransformerEncoder(size=8, heads=2, layers=2))
    x, order = torch.randn(2, 6, 8, dtype=DOUBLE), torch.tensor([3, 5, 0, 1, 4, 2])
    close(encoder(x[:, order])[0], encoder(x)[0][:, order])
    for positions in (SinusoidalPositions(size=8), LearnedPositions(length=6, size=8, std=1.0).double()):
        assert (encoder(positions(x[:, order]))[0] - encoder(positions(x))[0][:, order]).abs().max() > 1e-2


def shift(steps: int, size: int) -> Tensor:
    """M_k, which takes every PE(p) to PE(p + k)."""
    blocks = []
    for pair in range(size // 2):
        angle = steps * 10000 ** (-2 * pair / size)
        blocks.append(torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=DOUBLE))
    return torch.block_diag(*blocks)


def test_e98_a_shift_is_one_matrix_for_all_positions() -> None:
    table = sinusoidal(601, 8, DOUBLE)
    for steps in range(101):
        close(table[:501] @ shift(steps, 8).T, table[steps : steps + 501])
    wrong = shift(3, 8).T  # blocks transposed: a shift backwards
    assert (table[:501] @ wrong.T - table[3:504]).abs().max() > 0.1


def test_e98_products_depend_on_the_distance_only_and_shifts_add_up() -> None:
    table = sinusoidal(200, 8, DOUBLE)
    products = table @ table.T
    for distance in range(200):
        diagonal = products.diagonal(distance)
        close(diagonal, diagonal[:1].expand_as(diagonal))
    for first, second in itertools.product(range(0, 40, 7), repeat=2):
        close(shift(first, 8) @ shift(second, 8), shift(first + second, 8))


# E99: the encoder block


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_e99_equals_torch(norm: str) -> None:
    block = randomised(EncoderBlock(size=8, heads=2, inner=12, norm=norm, activation="relu"))
    theirs = nn.TransformerEncoderLayer(8, 2, 12, 0.0, "relu", batch_first=True, norm_first=norm == "pre").double()
    names = {
        "self_attn.in_proj_": "attention.input.",
        "self_attn.out_proj.": "attention.output.",
        "linear1.": "feed_forward.enter.",
        "linear2.": "feed_forward.leave.",
        "norm1.": "attention_norm.",
        "norm2.": "feed_forward_norm.",
    }
    ours = block.state_dict()
    theirs.load_state_dict({other + kind: ours[mine + kind] for other, mine in names.items() for kind in ("weight", "bias")})
    x = torch.randn(3, 5, 8, dtype=DOUBLE)
    mask = torch.arange(5) < torch.tensor([5, 2, 4])[:, None]
    close(block(x, mask)[mask], theirs(x, src_key_padding_mask=~mask)[mask])


def test_e99_post_norm_is_the_default_and_the_norms_differ() -> None:
    pre, post, default = (randomised(EncoderBlock(size=8, heads=2, **options)) for options in ({"norm": "pre"}, {"norm": "post"}, {}))
    x = torch.randn(2, 5, 8, dtype=DOUBLE)
    assert torch.equal(default(x), post(x))
    assert (pre(x) - post(x)).abs().max() > 1e-2


def test_e99_with_zeroed_sublayers_only_the_residual_is_left() -> None:
    x = torch.randn(2, 5, 8, dtype=DOUBLE)
    for norm in ("pre", "post"):
        encoder = TransformerEncoder(size=8, heads=2, layers=1, norm=norm).double()
        block = encoder.blocks[0]
        assert isinstance(block, EncoderBlock)
        with torch.no_grad():
            for parameter in (*block.attention.output.parameters(), *block.feed_forward.leave.parameters()):
                parameter.zero_()
        if norm == "pre":
            assert torch.equal(block(x), x)  # the identity
            close(encoder(x)[0], F.layer_norm(x, (8,)))  # and one final norm behind all blocks
        else:
            close(block(x), F.layer_norm(F.layer_norm(x, (8,)), (8,)))


def test_e99_parameters() -> None:
    for size in (8, 64):
        block = EncoderBlock(size=size, heads=2)
        assert sum(parameter.numel() for parameter in block.parameters()) == 12 * size**2 + 13 * size
