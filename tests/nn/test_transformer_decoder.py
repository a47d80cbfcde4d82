"""Decoder blocks beside torch's, and steps with a cache beside whole targets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from weft.nn.positions import rotated
from weft.nn.transformer import Cache, DecoderBlock, TransformerDecoder

MASK = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, source = torch.randn(2, 4, 8, generator=generator), torch.randn(2, 5, 8, generator=generator)
    return x, source * MASK[..., None]


def decoder(**options: object) -> TransformerDecoder:
    torch.manual_seed(1)
    made = TransformerDecoder(size=8, heads=2, layers=2, **options)  # type: ignore[arg-type]
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made.eval()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_torchs(norm):
    torch.manual_seed(0)
    theirs = nn.TransformerDecoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=norm == "pre")
    ours = DecoderBlock(size=8, heads=2, inner=16, norm=norm)
    assert sum(p.numel() for p in DecoderBlock(size=8, heads=2).parameters()) == 16 * 64 + 19 * 8
    pairs = {"attention": theirs.self_attn, "cross_attention": theirs.multihead_attn}
    with torch.no_grad():
        for name, other in pairs.items():
            mine = getattr(ours, name)
            mine.input.weight.copy_(other.in_proj_weight)
            mine.input.bias.copy_(other.in_proj_bias.normal_())
            mine.output.load_state_dict(other.out_proj.state_dict())
        ours.feed_forward.enter.load_state_dict(theirs.linear1.state_dict())
        ours.feed_forward.leave.load_state_dict(theirs.linear2.state_dict())
        for norm_, other in zip((ours.attention_norm, ours.cross_norm, ours.feed_forward_norm), (theirs.norm1, theirs.norm2, theirs.norm3)):
            other.weight.normal_()
            norm_.load_state_dict(other.state_dict())
    x, source = inputs()
    past = nn.Transformer.generate_square_subsequent_mask(4)
    wanted = theirs(x, source, tgt_mask=past, memory_key_padding_mask=~MASK, tgt_is_causal=True)
    found, weights = ours(x, source, MASK, weights=True)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(ours(x, source, MASK)[0], wanted)
    assert weights is not None and weights.shape == (2, 2, 4, 5) and (weights[1, ..., 3:] == 0).all()


@pytest.mark.parametrize("options", [{}, {"norm": "pre"}, {"rotary": True}])
def test_cached_steps_are_the_whole_target(options):
    model = decoder(**options)
    x, source = inputs()
    with torch.inference_mode():
        wanted, weights = model(x, source, MASK, weights=True)
        cache, ready = Cache(2, 2, x, room=2), model.read(source, MASK)  # room for two tokens: the third doubles it
        for step in range(4):
            hidden, seen = model.step(x[:, step : step + 1], cache, ready, weights=True)
            torch.testing.assert_close(hidden[:, 0], wanted[:, step])
            for mine, all_ in zip(seen, weights, strict=True):
                torch.testing.assert_close(mine, all_[:, :, step])


def test_hypotheses_share_a_source_and_are_reordered():
    model = decoder()
    x, source = inputs()
    with torch.inference_mode():
        cache, ready = Cache(2, 2, x), model.read(source, MASK)
        model.step(x[:, :1], cache, ready)
        cache.reorder(torch.tensor([0, 0, 0, 1, 1, 1]))  # three hypotheses a source
        second = torch.randn(6, 1, 8, generator=torch.Generator().manual_seed(2))
        model.step(second, cache, ready)
        cache.reorder(torch.tensor([5, 3]))  # the first source leaves; of the second's, the third and the first stay
        third = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(3))
        found, _ = model.step(third, cache, ready.of(torch.tensor([1])))
        for row, of in enumerate((5, 3)):
            whole = torch.cat([x[1, :1], second[of], third[row]])[None]
            torch.testing.assert_close(found[row, 0], model(whole, source[1:], MASK[1:])[0][0, -1])


def test_a_change_of_the_source_reaches_every_position_and_one_of_the_target_only_later_ones():
    model = decoder()
    x, source = inputs()
    before = model(x, source, MASK)[0]
    changed = source.clone()
    changed[:, 0] += 1
    assert ((model(x, changed, MASK)[0] - before).abs().amax(-1) > 1e-6).all()
    later = x.clone()
    later[:, 2] += 1
    same = (model(later, source, MASK)[0] - before).abs().amax(-1) == 0
    assert same.tolist() == [[True, True, False, False]] * 2
    hidden = source.masked_fill(~MASK[..., None], 7.0)
    torch.testing.assert_close(model(x, hidden, MASK)[0], before)


def test_rotary_products_depend_on_the_distance_alone():
    query, key = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind(0)
    products = torch.stack([rotated(query, p)[0] @ rotated(key, p + 3)[0] for p in (0, 1, 50)])
    torch.testing.assert_close(products, products[:1].expand(3))
    assert abs(float(products[0] - rotated(query, 0)[0] @ rotated(key, 2)[0])) > 1e-3
    complex_ = torch.view_as_complex(torch.stack(query[0].chunk(2), -1))
    angle = 7 * 10000.0 ** (-torch.arange(3, dtype=torch.float64) * 2 / 6)
    turned = complex_ * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(rotated(query, 7)[0], torch.cat([turned.real, turned.imag]))
    with pytest.raises(ValueError, match="size=5 must be even"):
        rotated(torch.zeros(1, 5))


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match="layers=0"):
        TransformerDecoder(size=8, heads=2, layers=0)
    with pytest.raises(ValueError, match="norm='both'"):
        DecoderBlock(size=8, heads=2, norm="both")
