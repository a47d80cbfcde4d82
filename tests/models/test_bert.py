"""BERT against a Transformer of PyTorch's own, E104's number of parameters, and what segments, positions and padding are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from weft.models.bert import Bert, BertConfig, make_pretrained_encoder

SEPARATOR = 3
SMALL: dict[str, Any] = {
    "vocabulary_size": 23, "hidden_size": 8, "layers": 2, "heads": 2, "inner": 12, "maximum_positions": 16, "dropout": 0.0,
    "separator": SEPARATOR,
}  # fmt: skip


def network(**changed: Any) -> Bert:
    torch.manual_seed(0)
    made = Bert(BertConfig(**{**SMALL, **changed}))
    for parameter in made.parameters():  # far from any symmetry
        nn.init.normal_(parameter, std=0.5)
    return made.eval()


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(4, 23, (4, 9), generator=torch.Generator().manual_seed(1))
    ids[0, 4] = ids[0, 8] = ids[1, 2] = ids[2, 5] = ids[3, 0] = SEPARATOR
    mask = torch.arange(9) < torch.tensor([9, 7, 6, 1])[:, None]
    return ids.masked_fill(~mask, 0), mask


def reference(bert: Bert, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The same by PyTorch's own Transformer, segments and positions read off one by one."""
    config, size = bert.config, bert.config.hidden_size
    x = torch.zeros(*ids.shape, size)
    for row, column in torch.cartesian_prod(*map(torch.arange, ids.shape)):
        segment = min(int((ids[row, :column] == SEPARATOR).sum()), config.segments - 1)
        x[row, column] = bert.tokens[ids[row, column]] + bert.positions[config.position_offset + column]
        if bert.segments is not None:
            x[row, column] += bert.segments[segment]
    x = nn.functional.layer_norm(x, (size,), bert.norm.weight, bert.norm.bias, config.epsilon)
    layer = nn.TransformerEncoderLayer(
        size, config.heads, config.inner, dropout=0.0, activation=config.activation, layer_norm_eps=config.epsilon, batch_first=True
    )
    stack = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False).eval()
    names = {
        "self_attn.in_proj_weight": "attention.input.weight", "self_attn.in_proj_bias": "attention.input.bias",
        "self_attn.out_proj": "attention.output", "linear1": "feed_forward.enter", "linear2": "feed_forward.leave",
        "norm1": "attention_norm", "norm2": "feed_forward_norm",
    }  # fmt: skip
    ours = dict(bert.encoder.named_parameters())
    for name, parameter in stack.named_parameters():
        _, number, inside = name.split(".", 2)
        theirs, found = next((start, to) for start, to in names.items() if inside.startswith(start))
        parameter.data.copy_(ours[f"blocks.{number}.{found}{inside.removeprefix(theirs)}"])
    return stack(x, src_key_padding_mask=~mask)


@pytest.mark.parametrize(
    "settings",
    [{}, {"segments": 1, "position_offset": 2}, {"segments": 0, "pooler": False, "activation": "relu"}, {"epsilon": 0.3}],
    ids=["bert", "roberta", "distilbert", "epsilon"],
)
def test_as_a_transformer_of_pytorch(settings):
    bert, (ids, mask) = network(**settings), rows()
    with torch.no_grad():
        hidden, after = bert(ids, mask)
        expected = reference(bert, ids, mask)
    assert torch.equal(after, mask) and hidden.shape == (4, 9, bert.output_size)
    torch.testing.assert_close(hidden[mask], expected[mask], rtol=1e-5, atol=1e-5)
    assert not hidden[~mask].any()


def test_the_base_size_has_its_parameters():
    """E104: vocabulary 30,522, 512 positions, size 768, 12 layers, inner 3,072, a pooler: 109,482,240."""
    with torch.device("meta"):
        bert = Bert(BertConfig(separator=102))
    assert sum(parameter.numel() for parameter in bert.parameters()) == 109_482_240
    d, rows = 768, 30522 + 512 + 2
    assert rows * d + 2 * d + 12 * (12 * d * d + 13 * d) + d * d + d == 109_482_240


def test_segments_of_w12():
    """W12: [CLS] the man went to [MASK] store [SEP] he bought a gallon [MASK] milk [SEP]: 0 × 8, then 1 × 7."""
    ids = torch.tensor([[1, *[9] * 6, SEPARATOR, *[9] * 6, SEPARATOR]])
    assert network().segment_ids(ids).tolist() == [[0] * 8 + [1] * 7]
    assert network().segment_ids(torch.full((1, 4), SEPARATOR)).tolist() == [[0, 1, 1, 1]]


def test_padding_is_not_seen_and_both_ways_are():
    bert, (ids, mask) = network(), rows()
    spoilt = ids.masked_fill(~mask, 7)
    outcomes = []
    for one in (ids, spoilt):
        bert.zero_grad()
        hidden, _ = bert(one, mask)
        (hidden**2).sum().backward()
        outcomes.append((hidden.detach(), {name: p.grad.clone() for name, p in bert.named_parameters() if p.grad is not None}))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    for name, gradient in outcomes[0][1].items():
        torch.testing.assert_close(outcomes[1][1][name], gradient, rtol=0, atol=1e-6, msg=name)
    assert not outcomes[1][1]["tokens"][0].any()
    changed = ids.clone()
    changed[0, 6] = 5 if ids[0, 6] != 5 else 6
    assert ((bert(changed, mask)[0] - outcomes[0][0])[0].abs().sum(-1) > 0).all()


def test_pooled_is_tanh_of_a_layer_over_the_first():
    bert = network()
    hidden = torch.randn(3, 5, 8)
    assert bert.pooler is not None
    torch.testing.assert_close(bert.pooled(hidden), torch.tanh(hidden[:, 0] @ bert.pooler.weight.T + bert.pooler.bias))
    with pytest.raises(ValueError, match="no pooler"):
        network(pooler=False).pooled(hidden)


def test_dropout_is_of_training():
    bert, (ids, mask) = network(dropout=0.3), rows()
    torch.manual_seed(0)
    first = bert.train()(ids, mask)[0]
    assert not torch.equal(first, bert(ids, mask)[0])
    assert torch.equal(bert.eval()(ids, mask)[0], network()(ids, mask)[0])


def test_layer_groups_hold_every_parameter_once_lowest_first():
    bert = network()
    groups = bert.layer_groups()
    assert len(groups) == 1 + 2 + 1
    assert sorted(name for group in groups for name in group) == sorted(name for name, _ in bert.named_parameters())
    assert "tokens" in groups[0] and groups[-1] == ["pooler.weight", "pooler.bias"]
    assert all(name.startswith("encoder.blocks.1.") for name in groups[2])


def test_weights_start_small_and_norms_at_one():
    torch.manual_seed(0)
    bert = Bert(BertConfig(**{**SMALL, "hidden_size": 64}))
    assert float(bert.tokens.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(bert.encoder.blocks[0].feed_forward.enter.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    assert bool((bert.norm.weight == 1).all()) and not bert.encoder.blocks[0].attention.input.bias.any()


def test_what_cannot_be_is_refused():
    bert = network()
    with pytest.raises(ValueError, match="17 tokens is longer than the table of 16"):
        bert(torch.ones(1, 17, dtype=torch.long), torch.ones(1, 17, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"not \(1, 3\) and \(1, 2\)"):
        bert(torch.ones(1, 3, dtype=torch.long), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="told apart by a separator"):
        Bert(BertConfig(**{**SMALL, "separator": None}))
    with pytest.raises(ValueError, match="sizes are at least 1"):
        Bert(BertConfig(**{**SMALL, "maximum_positions": 0}))
    with pytest.raises(ValueError, match="no encoder 'gpt'; there are bert"):
        make_pretrained_encoder("gpt", {})
    with pytest.raises(ValueError, match="has no setting size"):
        make_pretrained_encoder("bert", {"size": 3})
    assert isinstance(make_pretrained_encoder("bert", SMALL), Bert)
