"""Language models: every causal encoder under every output, its states carried from window to window, cached steps against whole texts."""

from __future__ import annotations

import copy

import pytest
import torch

from weft.data.batch import IGNORED, Batch
from weft.generation.search import Beam, Greedy, Limits, Sample, generate
from weft.losses import NextToken
from weft.models.language_model import LanguageModel, LanguageModelConfig
from weft.nn.outputs import OUTPUTS

V = 19
ENCODERS = {
    "window": {"hidden_size": 12, "window": 3},
    "recurrent": {"hidden_size": 12, "layers": 2},
    "transformer": {"hidden_size": 16, "layers": 2, "heads": 2, "layer_dropout": 0.0, "positions": "learned", "maximum_positions": 8},
}
POSITIONS = ("learned", "rotary", "sinusoidal", "none")
CASES = [
    *((name, settings) for name, settings in ENCODERS.items()),
    *(("recurrent", {"hidden_size": 12, "cell": cell, "initial": "learnt", "variational": 0.3}) for cell in ("elman", "gru")),
    *(("transformer", {**ENCODERS["transformer"], "positions": positions, "norm": "post"}) for positions in POSITIONS),
]  # fmt: skip
EVERY = pytest.mark.parametrize(("encoder", "settings"), CASES)


def made(encoder: str, settings: dict, output: str = "tied", **options) -> LanguageModel:
    torch.manual_seed(0)
    config = LanguageModelConfig(
        V, encoder=encoder, encoder_settings=settings, embedding_size=12, embedding_std=0.5, output=output, **options
    )
    return LanguageModel(config).eval()


def rows(count: int, length: int, continues: bool | None = None, seed: int = 0) -> Batch:
    ids = torch.randint(2, V, (count, length + 1), generator=torch.Generator().manual_seed(seed))
    inputs = ids[:, :-1]
    return Batch(inputs, torch.ones_like(inputs, dtype=torch.bool), ids[:, 1:].clone(), torch.arange(count), continues=continues)


def log_probabilities(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    """(B, T) → (B, T, V), all at once."""
    hidden, _ = model.encoder(model.embedded(ids), torch.ones_like(ids, dtype=torch.bool))
    return model.output.log_probabilities(hidden.flatten(0, 1)).view(*ids.shape, V)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_losses_are_the_log_probabilities_of_the_targets(encoder, output):
    model = made(encoder, ENCODERS[encoder], output)
    batch = rows(3, 7)
    batch.targets[1, 4:] = IGNORED
    with torch.inference_mode():
        found = model(batch)
        expected = log_probabilities(model, batch.inputs)
    counted = batch.targets != IGNORED
    each = -expected[counted].gather(1, batch.targets[counted][:, None])[:, 0]
    torch.testing.assert_close(found.losses, each, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(expected.exp().sum(-1), torch.ones(3, 7), atol=1e-5, rtol=0)
    term = NextToken()(model, batch)["cross-entropy"]
    assert term.count == 18 and float(term.total) == pytest.approx(float(each.sum().detach()), rel=1e-5)


@EVERY
def test_no_position_sees_what_comes_after_it(encoder, settings):
    model = made(encoder, settings)
    ids = rows(4, 8).inputs
    with torch.inference_mode():
        before = log_probabilities(model, ids)
        for place in (2, 6):
            other = ids.clone()
            other[:, place] = (ids[:, place] + 1) % V
            after = log_probabilities(model, other)
            assert torch.equal(after[:, :place], before[:, :place])
            assert (after[:, place] != before[:, place]).any(-1).all()


@EVERY
def test_cached_steps_are_whole_texts(encoder, settings):
    """Prompts of any length, then token by token, reordered on the way; beyond what is seen at once the last ones are read anew."""
    model = made(encoder, settings)
    ids = rows(3, 30, seed=2).inputs
    for prompt in (1, 5, 8, 11):
        with torch.inference_mode():
            state = model.start(Batch(ids[:, :prompt], torch.ones(3, prompt, dtype=torch.bool), None, torch.arange(3)))
            order = torch.arange(3)
            begin = max(0, prompt - model.context) if model.context else 0
            for place in range(prompt, 30):
                step = model.step(ids[order, place - 1], state)
                if model.context is not None and place - begin > model.context:
                    begin = place - model.context // 2
                whole = log_probabilities(model, ids[order, begin:place])[:, -1]
                torch.testing.assert_close(step.logits.log_softmax(-1), whole, atol=2e-5, rtol=1e-4)
                state = step.state
                if place in (prompt + 2, 17):
                    turn = torch.tensor([2, 0, 1])
                    state, order = model.reorder(state, turn), order[turn]


def test_prompts_of_several_lengths_are_refused():
    model = made("recurrent", ENCODERS["recurrent"])
    mask = torch.tensor([[True, True], [True, False]])
    with pytest.raises(ValueError, match="prompts that are read together are of one length"):
        model.start(Batch(torch.ones(2, 2, dtype=torch.long), mask, None, torch.arange(2)))


def test_searches_say_what_the_whole_text_says():
    model = made("transformer", ENCODERS["transformer"])
    prompt = rows(2, 3)
    for search in (Greedy(), Sample(seed=1, top_k=5), Beam(3, n_best=3)):
        for number, answers in enumerate(generate(model, prompt, search, count=2, limits=Limits(maximum=5, minimum=5))):
            for answer in answers:
                ids = torch.tensor([[*prompt.inputs[number].tolist(), *answer.ids]])
                with torch.inference_mode():
                    logp = log_probabilities(model, ids[:, :-1])[0, 2:]
                assert float(logp.gather(1, ids[0, 3:, None]).sum()) == pytest.approx(answer.log_probability, abs=1e-4)


def test_a_stream_goes_on_where_it_ended():
    """Two windows of a stream are one text; what they learn is what that text teaches, without the gradient into the first window."""
    model = made("recurrent", {**ENCODERS["recurrent"], "cell": "lstm"}).train()
    whole = rows(3, 10)
    first, second = (
        Batch(whole.inputs[:, part], whole.mask[:, part], whole.targets[:, part], whole.source) for part in (slice(0, 6), slice(6, 10))
    )
    first.continues, second.continues = False, True
    with torch.no_grad():
        expected = model(whole).losses.view(3, 10)
        one = model(first).losses.view(3, 6)
        with pytest.raises(ValueError, match="none was read before it"):
            copy.deepcopy(model)(second)
        model.carry()
        two = model(second).losses.view(3, 4)
        again = model(second).losses.view(3, 4)  # not carried yet: a step that is broken off is taken anew
        parts = torch.cat([model(part).losses.view(1, 4) for part in second.split(3)])
    torch.testing.assert_close(torch.cat([one, two], 1), expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(again, two)
    torch.testing.assert_close(parts, two, atol=1e-6, rtol=1e-5)
    model.carry()
    assert model.carried.shape == (2, 2, 3, 12) and not model.carried.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(model(first).losses, one.flatten(), atol=0, rtol=0)  # an epoch begins anew
    model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(second).losses, model(Batch(second.inputs, second.mask, second.targets, second.source)).losses)


def test_a_word_is_dropped_wherever_it_stands():
    model = made("recurrent", ENCODERS["recurrent"], type_dropout=0.5).train()
    ids = torch.arange(V).repeat(4, 3)
    x = model.embedded(ids).view(4, 3, V, 12)
    dropped = (x == 0).all(-1)
    assert 2 < int(dropped[0, 0].sum()) < V - 2 and (dropped == dropped[:1, :1]).all()
    kept = ~dropped[0, 0]
    torch.testing.assert_close(x[0, 0, kept], 2 * model.embedding.weight[kept], atol=1e-3, rtol=1e-3)


def test_penalties_on_states():
    model, batch = made("recurrent", ENCODERS["recurrent"], dropout=0.5).train(), rows(2, 5)
    torch.manual_seed(1)
    terms = NextToken(activation=2.0, temporal=1.5)(model, batch)
    torch.manual_seed(1)
    found = model(batch)
    assert (found.dropped == 0).any() and not (found.hidden == 0).any()
    assert terms["activation"].value.item() == pytest.approx(float((found.dropped**2).detach().mean()), rel=1e-5)
    steps = (found.hidden[:, 1:] - found.hidden[:, :-1]) ** 2
    assert terms["temporal"].value.item() == pytest.approx(float(steps.detach().mean()), rel=1e-5)
    assert (terms["activation"].weight, terms["temporal"].weight) == (2.0, 1.5)
    with torch.inference_mode():
        assert set(NextToken(2.0, 1.5)(model.eval(), batch)) == {"cross-entropy"}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_layers_from_below(encoder):
    model = made(encoder, ENCODERS[encoder], "full")
    groups = model.layer_groups()
    names = [name for group in groups for name in group]
    head = {name for name, _ in model.named_parameters()} - set(names)
    assert len(set(names)) == len(names) and head == {"output.weight"}
    assert "embedding.weight" in groups[0] and len(groups) == (2 if encoder == "window" else 3)
    if encoder == "transformer":
        assert "encoder.positions.table" in groups[0] and "encoder.encoder.norm.weight" in groups[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder": "bag"}, "the encoder 'bag' sees what comes after"),
        ({"encoder": "cnn"}, "one of window, recurrent, transformer"),
        ({"encoder": "recurrent", "encoder_settings": {"bidirectional": True}}, "reads one way"),
        ({"encoder": "recurrent", "residual_std": 0.02}, "residual_std is a Transformer's"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"end": V}, "end=19 is no id"),
        ({"output": "none"}, "no output layer 'none'"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        LanguageModel(LanguageModelConfig(V, **options))


def test_a_batch_without_targets_is_refused():
    with pytest.raises(ValueError, match="no targets"):
        made("window", ENCODERS["window"])(
            Batch(torch.ones(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.bool), None, torch.arange(1))
        )
