"""The classifier: how many parameters, by closed forms; what pairs, heads and dropouts do, by brute force; what is refused."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from tiny import NEURAL, probes, small
from torch import nn

from weft.data.batch import Batch, pad
from weft.estimators.rungs import RUNGS
from weft.estimators.settings import resolve
from weft.models.classifier import Classifier, ClassifierConfig
from weft.models.encoders import ENCODERS
from weft.nn.activations import activation

V, E, H, K = 50, 8, 12, 3
CLASSIFIERS = [name for name in NEURAL if RUNGS[name].has_head]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def classifier(**options) -> Classifier:
    return Classifier(ClassifierConfig(**{"vocabulary_size": V, "outputs": K, "embedding_size": E, **options}))


def batch_of(*lengths: int, seed: int = 0, pair: Batch | None = None) -> Batch:
    draw = np.random.default_rng(seed)
    batch = pad([draw.integers(2, V, length).astype(np.int32) for length in lengths], np.arange(len(lengths)))
    return replace(batch, pair=pair)


def recurrent(gates: int, size: int, hidden: int) -> int:
    return gates * (hidden * (hidden + size) + hidden)


LINEAR = {"encoder": "bag", "pooling": "mean"}
RECURRENT = {"encoder": "recurrent", "pooling": "last"}
LEARNED = {"positions": "learned", "maximum_positions": 20}
COUNTS = [
    (LINEAR, V * E + E * K + K),
    ({**LINEAR, "head": (5, 7)}, V * E + E * 5 + 5 + 5 * 7 + 7 + 7 * K + K),
    ({**LINEAR, "pair": True}, V * E + 4 * E * K + K),
    ({**LINEAR, "outputs": 1}, V * E + E + 1),
    ({"encoder": "window", "encoder_settings": {"hidden_size": H, "window": 2}}, V * E + 5 * E * H + H + H * K + K),
    ({"encoder": "cnn", "encoder_settings": {"filters": 6, "widths": (2, 3)}}, V * E + (2 + 3) * E * 6 + 2 * 6 + 2 * 6 * K + K),
    (
        {"encoder": "dilated-cnn", "encoder_settings": {"filters": 6, "width": 3, "dilations": (1, 2)}, "pooling": "k-max", "k": 4},
        V * E + E * 6 + 6 + 2 * (3 * 6 * 6 + 6) + 4 * 6 * K + K,
    ),
    ({**RECURRENT, "encoder_settings": {"cell": "elman", "hidden_size": H}}, V * E + recurrent(1, E, H) + H * K + K),
    ({**RECURRENT, "encoder_settings": {"cell": "lstm", "hidden_size": H}}, V * E + recurrent(4, E, H) + H * K + K),
    ({**RECURRENT, "encoder_settings": {"cell": "gru", "hidden_size": H}}, V * E + recurrent(3, E, H) + H * K + K),
    (
        {**RECURRENT, "encoder_settings": {"hidden_size": H, "layers": 2, "bidirectional": True}, "pooling": "concat"},
        V * E + 2 * recurrent(4, E, H) + 2 * recurrent(4, 2 * H, H) + 3 * 2 * H * K + K,
    ),
    (
        {"encoder": "recurrent", "encoder_settings": {"cell": "lstm", "hidden_size": H}, "pooling": "attentive"},
        V * E + recurrent(4, E, H) + (H * H + H + H) + H * K + K,
    ),
    (
        {"encoder": "transformer", "encoder_settings": {"hidden_size": H, "heads": 3, "layers": 2}, "pooling": "mean"},
        V * E + E * H + H + 2 * (12 * H * H + 13 * H) + 2 * H + H * K + K,
    ),
    (
        {"encoder": "transformer", "encoder_settings": {"hidden_size": E, "heads": 2, "layers": 1, "norm": "post", **LEARNED}},
        V * E + 20 * E + (12 * E * E + 13 * E) + E * K + K,
    ),
]  # fmt: skip


@pytest.mark.parametrize("options,expected", COUNTS)
def test_as_many_parameters_as_the_equations_have(options, expected):
    assert count(classifier(**options)) == expected


@pytest.mark.parametrize("rung", CLASSIFIERS)
def test_a_config_is_all_that_a_network_is_made_of(rung):
    """From the rung's settings; written as JSON writes it and read back, the same network."""
    chosen = resolve(small(rung))
    config = ClassifierConfig(vocabulary_size=V, outputs=K, **chosen.network, encoder_settings=chosen.encoder)
    one, two = Classifier(config), Classifier(ClassifierConfig(**asdict(config)))
    assert repr(one) == repr(two)
    two.load_state_dict(one.state_dict())
    one.eval(), two.eval()
    assert torch.equal(one(batch_of(3, 5)), two(batch_of(3, 5)))
    assert config.encoder == RUNGS[rung].settings["encoder"] and config.encoder in ENCODERS


@pytest.mark.parametrize("encoder", ENCODERS)
def test_pairs_are_joined_from_both_texts_read_by_one_encoder(encoder):
    model = classifier(encoder=encoder, pair=True, dropout=0.0).eval()
    first, second = batch_of(4, 1, 6), batch_of(2, 7, 3, seed=1)
    u, v = model.encode(first), model.encode(second)
    size = u.shape[1]
    weight, bias = model.head[-1].weight, model.head[-1].bias
    parts = weight.split(size, dim=1)
    expected = u @ parts[0].T + v @ parts[1].T + (u - v).abs() @ parts[2].T + (u * v) @ parts[3].T + bias
    torch.testing.assert_close(model(replace(first, pair=second)), expected, rtol=0, atol=1e-5)
    swapped = model(replace(second, pair=first))
    torch.testing.assert_close(swapped - (v @ parts[0].T + u @ parts[1].T), expected - (u @ parts[0].T + v @ parts[1].T), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="two texts, but the batch holds one"):
        model(first)


def test_the_head_is_dropout_layers_and_a_last_linear():
    model = classifier(**LINEAR, head=(5, 7), head_activation="tanh", dropout=0.5).eval()
    vector = model.encode(batch_of(3, 4))
    hidden = vector
    linears = [layer for layer in model.head if isinstance(layer, nn.Linear)]
    for linear in linears[:-1]:
        hidden = torch.tanh(hidden @ linear.weight.T + linear.bias)
    torch.testing.assert_close(model(batch_of(3, 4)), hidden @ linears[-1].weight.T + linears[-1].bias, rtol=0, atol=1e-6)
    assert [linear.out_features for linear in linears] == [5, 7, K]
    assert not linears[-1].bias.any()
    assert sum(type(layer).__name__ == "Dropout" for layer in model.head) == 3


@pytest.mark.parametrize("name", ["relu", "sigmoid", "gelu", "leaky-relu", "hard-tanh", "identity"])
def test_any_activation_in_the_head(name):
    model = classifier(**LINEAR, head=(5,), head_activation=name).eval()
    first, last = (layer for layer in model.head if isinstance(layer, nn.Linear))
    vector = model.encode(batch_of(3))
    expected = activation(name)(vector @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(model(batch_of(3)), expected, rtol=0, atol=1e-6)


def test_a_bag_is_the_mean_of_its_words_vectors():
    model = classifier(**LINEAR).eval()
    batch = batch_of(4, 0, 1)
    table = model.encoder.embedding.weight
    rows = [table[batch.inputs[i, : int(batch.mask[i].sum())]] for i in range(3)]
    expected = torch.stack([rows[0].mean(0), torch.zeros(E), rows[2].mean(0)])
    torch.testing.assert_close(model.encode(batch), expected, rtol=0, atol=1e-6)
    _, mask = model.encoder(batch.inputs, batch.mask)
    assert mask.tolist() == [[True], [False], [True]]


def test_word_dropout_leaves_words_out_of_a_bags_mean_but_never_all():
    model = classifier(**LINEAR, word_dropout=0.7).train()
    batch = batch_of(3, 1, 0)
    vectors = model.encoder.embedding.weight[batch.inputs[0, :3]]
    subsets = [torch.tensor([bool(number >> bit & 1) for bit in range(3)]) for number in range(1, 8)]
    means = torch.stack([vectors[subset].mean(0) for subset in subsets])
    torch.manual_seed(0)
    seen = set()
    for _ in range(300):
        found = model.encode(batch)
        distance = (means - found[0]).abs().sum(1)
        assert distance.min() < 1e-5
        seen.add(int(distance.argmin()))
        torch.testing.assert_close(found[1], model.encoder.embedding.weight[batch.inputs[1, 0]])  # its one word always stays
        assert not found[2].any()
    assert seen == set(range(7))


def test_word_dropout_makes_words_unknown_elsewhere():
    model = classifier(encoder="cnn", word_dropout=0.5).train()
    asked = []
    model.encoder.embedding.register_forward_hook(lambda module, inputs, output: asked.append(inputs[0]))
    batch = batch_of(200, 10)
    model(batch)
    (ids,) = asked
    changed = ids != batch.inputs
    assert (ids[changed] == 1).all() and not changed[~batch.mask].any()
    assert 70 < int(changed[0].sum()) < 130  # of 200, at a rate of ½: 4σ is 28
    model.eval()
    model(batch)
    assert torch.equal(asked[-1], batch.inputs)


@pytest.mark.parametrize("encoder", ["bag", "cnn"])
def test_embedding_dropout_takes_whole_columns(encoder):
    model = classifier(encoder=encoder, embedding_dropout=0.5).train()
    nn.init.ones_(model.encoder.embedding.weight)
    seen = []
    model.encoder.embedding_dropout.register_forward_hook(lambda module, inputs, output: seen.append(output))
    torch.manual_seed(0)
    model(batch_of(6, 6))
    (dropped,) = seen
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))  # the same at every position
    assert 0 < int((dropped == 0).sum()) < dropped.numel()


@pytest.mark.parametrize("rung", CLASSIFIERS)
def test_sparse_tables_get_the_gradients_of_dense_ones(rung):
    chosen = resolve(small(rung, dropout=0.0))
    config = ClassifierConfig(vocabulary_size=V, outputs=K, **chosen.network, encoder_settings=chosen.encoder)
    dense, sparse = Classifier(config), Classifier(replace(config, sparse=True))
    sparse.load_state_dict(dense.state_dict())
    for model in (dense, sparse):
        model(batch_of(4, 1, 6, 0)).square().sum().backward()
    assert sparse.encoder.embedding.weight.grad.is_sparse
    for (name, one), other in zip(dense.named_parameters(), sparse.parameters()):
        torch.testing.assert_close(other.grad.to_dense(), one.grad, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("padding", ["same", "narrow", "wide"])
def test_two_channels_are_kims(padding):
    """c_i = f(w·x_{i:i+h−1} + w·x'_{i:i+h−1} + b), ĉ = max c_i (Kim, 2014, equations 2 and 3, section 2.1), by loops."""
    settings = {"filters": 4, "widths": (2, 3), "padding": padding}
    model = classifier(encoder="cnn", encoder_settings=settings, vectors_mode="multichannel").eval()
    model.encoder.embedding.start_from(torch.randn(V, E, generator=torch.Generator().manual_seed(3)))
    with torch.no_grad():
        model.encoder.embedding.tuned.weight[1:] += 0.3 * torch.randn(V - 1, E)  # training has been here
        for part in model.encoder.encoder.convolutions.parts:
            part.bias.normal_()
    batch = batch_of(5, 3, 9)
    channels = [model.encoder.embedding.fixed.weight, model.encoder.embedding.tuned.weight]
    expected = torch.zeros(3, 8)
    for row in range(3):
        length = int(batch.mask[row].sum())
        for place, part in enumerate(model.encoder.encoder.convolutions.parts):
            left, right = part.margins
            rows = [torch.cat([torch.zeros(left, E), table[batch.inputs[row, :length]], torch.zeros(right, E)]) for table in channels]
            for number in range(4):
                features = []
                for i in range(len(rows[0]) - part.width + 1):
                    results = [sum(part.weight[number, h] @ words[i + h] for h in range(part.width)) for words in rows]
                    features.append(torch.relu(results[0] + results[1] + part.bias[number]))
                expected[row, 4 * place + number] = max(features)
    torch.testing.assert_close(model.encode(batch), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode,tables", [("non-static", 1), ("static", 0), ("multichannel", 1)])
def test_what_is_kept_as_it_is_counts_as_no_parameter(mode, tables):
    model = classifier(encoder="cnn", encoder_settings={"filters": 6, "widths": (2, 3)}, vectors_mode=mode)
    assert count(model) == tables * V * E + (2 + 3) * E * 6 + 2 * 6 + 2 * 6 * K + K
    assert sum(name.startswith("encoder.embedding") for name in model.state_dict()) == (2 if mode == "multichannel" else 1)


@pytest.mark.parametrize(
    "options,said",
    [
        ({"vectors_mode": "dynamic"}, "no vectors mode 'dynamic'; there are non-static, static, multichannel"),
        ({"encoder": "magic"}, "no encoder 'magic'; there are bag"),
        ({"encoder": "cnn", "encoder_settings": {"hidden": 3}}, "no setting hidden; it has activation, filters, padding, widths"),
        ({"pooling": "median"}, "no pooling 'median'; there are: max"),
        ({"head": (3,), "head_activation": "magic"}, "magic"),
        ({"embedding_size": 0}, "at least 1"),
        ({"embedding_dropout": 1.0}, "below 1"),
        ({"encoder": "transformer", "encoder_settings": {"heads": 3}}, "must divide by heads=3"),
        ({"encoder": "transformer", "encoder_settings": {"positions": "absolute"}}, "positions must be one of sinusoidal"),
        ({"encoder": "recurrent", "encoder_settings": {"cell": "magic"}}, "elman, lstm, peephole-lstm, coupled-lstm, gru"),
        ({"encoder": "recurrent", "encoder_settings": {"cell": "lstm", "activation": "relu", "layers": 0}}, "layers=0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options, said):
    with pytest.raises(ValueError, match=said):
        classifier(**options)


def test_texts_longer_than_the_learned_positions_are_named():
    settings = {"hidden_size": 8, "heads": 2, "positions": "learned", "maximum_positions": 5}
    model = classifier(encoder="transformer", encoder_settings=settings).eval()
    model(batch_of(5))
    with pytest.raises(ValueError, match=r"6.*5|5.*6"):
        model(batch_of(6))


def test_probes_are_what_they_say():
    """The probes of the contracts: one text of nothing, one of unknown words."""
    texts = list(probes().texts)
    assert "" in texts and len(texts) == len(set(texts)) == 11
