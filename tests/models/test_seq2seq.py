"""Encoder-decoders: steps beside whole targets, the fixed context beside none, tied weights, tokens of the model's own."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from weft.data.batch import Batch, Batches
from weft.models.decoders import make_decoder
from weft.models.seq2seq import Seq2Seq, Seq2SeqConfig

SMALL: dict[str, Any] = {"hidden_size": 8}
BOTH = {"hidden_size": 4, "bidirectional": True}
RECURRENT: dict[str, dict[str, Any]] = {
    "cho": {"cell": "gru", "condition": "every", "attention": "none"},
    "sutskever": {"cell": "lstm", "layers": 2, "condition": "initial", "attention": "none"},
    "first": {"cell": "elman", "condition": "first", "attention": "none"},
    "bahdanau": {"cell": "gru", "attention": "additive", "attend": "before", "attention_size": 5},
    "luong": {"cell": "lstm", "layers": 2, "attention": "general", "attend": "after", "feed": True},
    "swept": {"cell": "lstm", "attention": "scaled-dot", "attend": "after", "condition": "none"},
    "cosine": {"cell": "gru", "attention": "cosine", "attend": "after"},
    "location": {"cell": "gru", "attention": "location", "attend": "before"},
    "biaffine": {"cell": "gru", "attention": "biaffine", "attend": "after"},
    "mlp": {"cell": "gru", "attention": "mlp", "attend": "before", "attention_size": 5},
    "monotonic": {"cell": "gru", "attention": "additive", "align": "monotonic", "attend": "after", "attention_size": 5},
    "hard": {"cell": "gru", "attention": "dot", "align": "hard", "attend": "after"},
    "local-m": {"cell": "gru", "attention": "dot", "align": "local-m", "attend": "after", "reach": 1},
    "local-p": {"cell": "gru", "attention": "general", "align": "local-p", "attend": "before", "reach": 2},
}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"decoder": "recurrent", "decoder_settings": {**SMALL, **settings}} for name, settings in RECURRENT.items()},
    "transformer": {
        "encoder": "transformer", "encoder_settings": {**SMALL, "heads": 2, "layers": 1}, "decoder": "transformer",
        "decoder_settings": {**SMALL, "heads": 2, "layers": 2}, "tied": "all", "target_vocabulary": 9,
    },
    "cnn to transformer": {
        "encoder": "cnn", "encoder_settings": {"filters": 3, "widths": (1, 2)}, "decoder": "transformer",
        "decoder_settings": {**SMALL, "heads": 2, "layers": 1, "positions": "learned", "maximum_positions": 12, "norm": "post"},
    },
    "window to rotary": {
        "encoder": "window", "encoder_settings": SMALL, "decoder": "transformer",
        "decoder_settings": {**SMALL, "heads": 2, "layers": 1, "positions": "rotary"}, "tied": "output",
    },
}  # fmt: skip


def network(name: str, **changed: Any) -> Seq2Seq:
    torch.manual_seed(0)
    given = {"source_vocabulary": 9, "target_vocabulary": 7, "embedding_size": 6, "encoder_settings": BOTH, "pooling": "mean"}
    model = Seq2Seq(Seq2SeqConfig(**{**given, **CASES[name], **changed}))
    for parameter in model.parameters():  # far from any symmetry
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def pairs(model: Seq2Seq, count: int = 4) -> Batch:
    random = np.random.default_rng(0)
    sources = [random.integers(2, 9, 2 + i).astype(np.int64) for i in range(count)]
    targets = [np.append(random.integers(2, 7, 6 - i), model.end_symbol) for i in range(count)]
    return Batches(sources, pairs=targets, examples=count).gather(np.arange(count))


@pytest.mark.parametrize("name", CASES)
def test_steps_give_what_whole_targets_give(name):
    model = network(name)
    batch = pairs(model)
    assert batch.pair is not None
    with torch.inference_mode():
        whole = torch.full((4, batch.pair.inputs.shape[1], model.start_symbol), math.nan)
        whole[batch.pair.mask] = model(batch).logits
        maps = model.maps(batch) if "none" not in str(model.config.decoder_settings.get("attention", "")) else ()
        model.show_attention = bool(maps)
        state = model.start(batch)
        for place, ids in enumerate(model.shifted(batch.pair).unbind(1)):
            step = model.step(ids, state)
            state = step.state
            real = batch.pair.mask[:, place]
            torch.testing.assert_close(step.logits[real], whole[:, place][real], rtol=1e-4, atol=1e-5)
            if maps:
                last = maps[-1].mean(1) if maps[-1].dim() == 4 else maps[-1]
                assert step.attention is not None
                torch.testing.assert_close(step.attention[real], last[:, place][real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_hypotheses_are_reordered_with_their_sources(name):
    model = network(name)
    batch = pairs(model, 3)
    with torch.inference_mode():
        state = model.step(torch.full((3,), model.start_symbol), model.start(batch)).state
        state = model.reorder(state, torch.arange(3).repeat_interleave(2))  # two hypotheses a source
        state = model.step(torch.tensor([2, 3, 4, 5, 6, 2]), state).state
        state = model.reorder(state, torch.tensor([5, 4, 1, 1]), torch.tensor([2, 0]))  # the middle source leaves, the others change places
        found = model.step(torch.tensor([3, 4, 5, 6]), state).logits
        for row, (source, path) in enumerate([(2, (2, 3)), (2, (6, 4)), (0, (3, 5)), (0, (3, 6))]):
            alone = batch.rows(torch.tensor([source]))
            state = model.start(alone)
            for token in (model.start_symbol, *path):
                step = model.step(torch.tensor([token]), state)
                state = step.state
            torch.testing.assert_close(found[row], step.logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_batch_mates_and_padding_change_nothing(name):
    model = network(name)
    batch = pairs(model)
    assert batch.pair is not None
    with torch.inference_mode():
        whole, lengths = model(batch).logits, batch.pair.mask.sum(1).tolist()
        for row, logits in enumerate(whole.split(lengths)):
            torch.testing.assert_close(logits, model(batch.rows(torch.tensor([row]))).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_reaches_every_parameter(name):
    model = network(name).train()
    found = model(pairs(model))
    total = found.logits.logsumexp(-1).sum()
    if found.log_choice is not None and found.guess is not None:
        total = total + found.log_choice.sum() + found.guess.sum()
    total.backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_without_a_fixed_context_all_conditions_are_one_generator():
    """With the weights of c zero, c at every step, at the first, or as the first state changes nothing (E67)."""
    outputs = []
    for condition in ("every", "first", "initial", "none"):
        torch.manual_seed(0)
        settings = {**SMALL, "cell": "gru", "attention": "none", "condition": condition}
        model = Seq2Seq(Seq2SeqConfig(source_vocabulary=9, target_vocabulary=7, embedding_size=6, encoder="bag", decoder_settings=settings))
        generator = torch.Generator().manual_seed(1)
        cell = model.decoder.recurrent.cells[0]
        with torch.no_grad():
            for parameter in (model.target.weight, model.weight, cell.state_weight, cell.bias):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            cell.input_weight[:, :6] = torch.randn(24, 6, generator=generator)
            cell.input_weight[:, 6:] = 0
            if model.decoder.bridge is not None:
                model.decoder.bridge.weight.zero_()
                model.decoder.bridge.bias.zero_()
            outputs.append(model.eval()(pairs(model)).logits)
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0])


def test_the_probabilities_of_all_targets_sum_to_one_with_a_cap():
    """Σ p(t | x) over all targets that end, and all that are cut at the cap (E81)."""
    model = network("bahdanau", target_vocabulary=4)
    source = pairs(model, 1)
    total, cap = 0.0, 4
    with torch.inference_mode():
        for length in range(cap + 1):
            for body in itertools.product(range(4), repeat=length):
                target = np.array([*body, model.end_symbol])
                batch = Batch(source.inputs, source.mask, None, source.source, Batches([target], examples=1).gather(np.arange(1)))
                chances = model(batch).logits.double().log_softmax(-1)
                score = chances[torch.arange(length + 1), torch.from_numpy(target)]
                total += math.exp(float(score[:length].sum() if length == cap else score.sum()))
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["luong", "transformer"])
def test_scheduled_sampling_reads_own_tokens(name):
    batch = pairs(network(name))
    plain = {part: {**CASES[name].get(part, BOTH), "layer_dropout": 0.0} for part in ("encoder_settings", "decoder_settings")}
    plain["dropout"] = 0.0
    never, quiet = network(name, scheduled_sampling=1e-9, **plain).train(), network(name, **plain).train()
    torch.testing.assert_close(never(batch).logits, quiet(batch).logits)
    always = network(name, scheduled_sampling=1.0, **plain)
    with torch.no_grad():
        always.bias[3] = 1000.0  # it always gives token 3
    ids = always.shifted(batch.pair).clone()
    ids[:, 1:] = 3
    wanted = always.decoder(always.embedded(ids), always.encode(batch)).hidden
    always.train()
    torch.testing.assert_close(always.decode(always.encode(batch), always.shifted(batch.pair)).hidden, wanted)


def test_tied_weights_are_one_parameter():
    own, output, both = (network("transformer", tied=tied) for tied in ("none", "output", "all"))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (own, output, both)]
    assert sizes[0] - sizes[1] == 10 * 8 - (8 * 6 + 6)  # the output's own weights, against a bridge from 8 to 6
    assert sizes[1] - sizes[2] == 9 * 6  # the source's table
    with torch.no_grad():
        hidden = torch.randn(3, 8)
        torch.testing.assert_close(both.logits(hidden), both.leave(hidden) @ both.source.weight[:10].T + both.bias)


def test_vectors_can_be_the_source():
    torch.manual_seed(0)
    settings = {"source_vocabulary": 1, "target_vocabulary": 7, "source_size": 3, "embedding_size": 6, "encoder": "bag"}
    model = Seq2Seq(Seq2SeqConfig(**settings, decoder_settings={**SMALL, "attention": "none", "condition": "every"})).eval()
    targets = [np.array([2, 3, model.end_symbol])] * 2
    batch = Batches([np.ones((1, 3), np.float32), np.zeros((1, 3), np.float32)], pairs=targets, examples=2).gather(np.arange(2))
    first, second = model(batch).logits.split(3)
    assert (first - second).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tied": "some"}, "tied='some'"),
        ({"tied": "all"}, "not 9 and 7 tokens"),
        ({"scheduled_sampling": 2.0}, "scheduled_sampling=2.0"),
        ({"decoder": "lstm"}, "no decoder 'lstm'"),
        ({"decoder_settings": {"depth": 3}}, "has no setting depth"),
        ({"decoder_settings": {"condition": "last"}}, "condition='last'"),
        ({"decoder_settings": {"attend": "both"}}, "attend='both'"),
        ({"decoder_settings": {"feed": True}}, "feed=True"),
    ],
)
def test_what_cannot_be_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        network("cho", **changed)


def test_one_text_a_row_is_refused():
    model = network("cho")
    with pytest.raises(ValueError, match="one text a row"):
        model(Batches([np.array([2])], examples=1).gather(np.arange(1)))
    with pytest.raises(ValueError, match="no decoder"):
        make_decoder("none", (1, 1, 1), {})
