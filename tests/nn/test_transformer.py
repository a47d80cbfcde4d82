"""Encoder blocks and the encoder against torch.nn, and their promises about padding and the future."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from weft.nn.transformer import EncoderBlock, TransformerEncoder

LENGTHS = torch.tensor([5, 2, 4])


def padded() -> tuple[Tensor, Tensor]:
    return torch.randn(3, 5, 8), torch.arange(5) < LENGTHS[:, None]


def copied(ours: EncoderBlock, theirs: nn.TransformerEncoderLayer) -> None:
    """Our weights, made random, norms and biases too, into torch's layer."""
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.5)
        for mine, other in (
            (ours.attention.input, (theirs.self_attn.in_proj_weight, theirs.self_attn.in_proj_bias)),
            (ours.attention.output, (theirs.self_attn.out_proj.weight, theirs.self_attn.out_proj.bias)),
            (ours.feed_forward.enter, (theirs.linear1.weight, theirs.linear1.bias)),
            (ours.feed_forward.leave, (theirs.linear2.weight, theirs.linear2.bias)),
            (ours.attention_norm, (theirs.norm1.weight, theirs.norm1.bias)),
            (ours.feed_forward_norm, (theirs.norm2.weight, theirs.norm2.bias)),
        ):
            other[0].copy_(mine.weight)
            other[1].copy_(mine.bias)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("causal", [False, True])
def test_encoder_equals_torch(norm: str, activation: str, causal: bool) -> None:
    torch.manual_seed(0)
    ours = TransformerEncoder(size=8, heads=2, layers=3, inner=12, norm=norm, activation=activation, causal=causal)
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, activation, batch_first=True, norm_first=norm == "pre")
    last = nn.LayerNorm(8) if norm == "pre" else None
    theirs = nn.TransformerEncoder(layer, 3, last, enable_nested_tensor=False)
    for block, other in zip(ours.blocks, theirs.layers, strict=True):
        copied(block, other)  # type: ignore[arg-type]
    x, mask = padded()
    future = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    expected = theirs(x, mask=future, src_key_padding_mask=~mask)
    hidden, same_mask = ours(x, mask)
    assert same_mask is mask
    torch.testing.assert_close(hidden[mask], expected[mask], atol=1e-5, rtol=0)
    assert not hidden[~mask].any()
    torch.testing.assert_close(ours(x)[0], theirs(x, mask=future), atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_one_by_one_equals_in_a_batch(norm: str) -> None:
    torch.manual_seed(1)
    encoder = TransformerEncoder(size=8, heads=2, layers=2, norm=norm)
    x, mask = padded()
    x[~mask] = 1e3  # whatever padding holds
    hidden, _ = encoder(x, mask)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(hidden[row, :length], encoder(x[row : row + 1, :length])[0][0], atol=1e-5, rtol=0)


def test_a_causal_encoder_does_not_see_the_future() -> None:
    torch.manual_seed(2)
    encoder = TransformerEncoder(size=8, heads=2, layers=2, norm="pre", causal=True)
    x, mask = padded()
    changed = x.clone()
    changed[:, 3:] += torch.randn(8)  # not the same for all features: that is what the norms take away
    for visible in (None, mask):
        torch.testing.assert_close(encoder(x, visible)[0][:, :3], encoder(changed, visible)[0][:, :3], atol=0, rtol=0)
    assert not torch.allclose(encoder(x)[0][:, 3:], encoder(changed)[0][:, 3:])


def test_rows_without_tokens_are_zeros_and_harm_nobody() -> None:
    torch.manual_seed(3)
    encoder = TransformerEncoder(size=8, heads=2, layers=2)
    x, mask = padded()
    x.requires_grad_()
    mask[1] = False
    hidden, _ = encoder(x, mask)
    assert not hidden[1].any()
    (gradient,) = torch.autograd.grad(hidden.square().sum(), x)
    assert gradient.isfinite().all()
    assert not gradient[~mask].any()


def test_dropout_is_off_in_eval_mode_and_on_in_training() -> None:
    torch.manual_seed(4)
    block = EncoderBlock(size=8, heads=2, dropout=0.5)
    plain = EncoderBlock(size=8, heads=2)
    plain.load_state_dict(block.state_dict())
    x, mask = padded()
    torch.testing.assert_close(block.eval()(x, mask), plain(x, mask))
    assert not torch.allclose(block.train()(x, mask), plain(x, mask))


def test_bf16_under_autocast_stays_close_and_trains() -> None:
    torch.manual_seed(5)
    encoder = TransformerEncoder(size=8, heads=2, layers=2, norm="pre")
    x, mask = padded()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, _ = encoder(x, mask)
    torch.testing.assert_close(low.float(), encoder(x, mask)[0], atol=0.1, rtol=0)  # outputs have unit variance: 8 bits, 4 sub-layers
    low.float().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_wrong_calls_are_named() -> None:
    for options, words in (
        ({"norm": "both"}, r"norm='both'"),
        ({"heads": 3}, r"size=8 must divide by heads=3"),
        ({"layers": 0}, r"layers=0"),
        ({"activation": "swish"}, r"swish.*gelu"),
        ({"dropout": 1.0}, r"dropout=1.0"),
    ):
        with pytest.raises(ValueError, match=words):
            TransformerEncoder(**{"size": 8, "heads": 2, "layers": 1, **options})
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(3, 5\)"):
        TransformerEncoder(size=8, heads=2, layers=1)(torch.zeros(3, 5, 8), torch.ones(3, 4, dtype=torch.bool))
