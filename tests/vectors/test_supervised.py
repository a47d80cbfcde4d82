"""Supervised fastText: each kernel against autograd on its loss; the tree's leaves by enumeration; what it learns, what it refuses."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from weft.errors import InputError
from weft.huffman import huffman_paths
from weft.vectors.kernels import GOLDEN
from weft.vectors.supervised import (
    Classifier,
    SupervisedPlan,
    _tables,
    as_bags,
    each_step,
    mean_rows,
    noise_step,
    path_step,
    shuffled,
    softmax_step,
    spread_mean,
    train_supervised,
)

RATE, SIZE = 1e-3, 7
COUNTS = np.array([5, 9, 12, 13, 16, 45])  # W23
ROWS = [4, 0, 4, 2, 5]  # a text that has one row twice


def made(loss, counts=COUNTS, texts=(ROWS,), rows=8):
    """Tables of random numbers, and copies of them that autograd may have."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(0, 0.5, (rows, SIZE)).astype(np.float32)
    outputs = generator.normal(0, 0.5, (len(counts) - (loss == "hs"), SIZE)).astype(np.float32)
    tables = _tables(loss, inputs, outputs, counts, 0.5, as_bags(texts, [[0]] * len(texts)))
    return tables, torch.tensor(inputs.copy(), requires_grad=True), torch.tensor(outputs.copy(), requires_grad=True)


def stepped(tables, step):
    """(loss, how far each table moved) of one text's training by hand, as train_texts does it."""
    before = tables.inputs.copy(), tables.outputs.copy()
    H, A, G = np.zeros((1, SIZE), np.float32), np.zeros((1, SIZE), np.float32), np.zeros(len(COUNTS), np.float32)
    share = mean_rows(H, tables, 0)
    loss = step(H, A, G)
    spread_mean(A, tables, 0, share)
    return float(loss), [(new - old) / RATE for new, old in zip((tables.inputs, tables.outputs), before, strict=True)]


def agrees(found, loss, inputs, outputs, tolerance=3e-4):
    loss.backward()
    value, moved = found
    assert value == pytest.approx(loss.item(), abs=1e-5)
    for change, wanted in zip(moved, (inputs.grad, outputs.grad), strict=True):
        np.testing.assert_allclose(change, -wanted.numpy(), atol=tolerance)


@pytest.mark.parametrize("label", range(6))
def test_softmax_is_a_step_down_its_gradient(label):
    tables, inputs, outputs = made("softmax")
    found = stepped(tables, lambda H, A, G: softmax_step(H, A, G, tables.outputs, label, RATE))
    scores = outputs @ inputs[ROWS].mean(0)
    agrees(found, F.cross_entropy(scores[None], torch.tensor([label])), inputs, outputs)


@pytest.mark.parametrize("label", range(6))
def test_hierarchical_softmax_is_a_step_down_its_gradient(label):
    tables, inputs, outputs = made("hs")
    found = stepped(tables, lambda H, A, G: path_step(H, A, tables, label, RATE))
    starts, nodes, bits = huffman_paths(COUNTS)
    path = slice(starts[label], starts[label + 1])
    signs = torch.tensor(1.0 - 2.0 * bits[path])  # the code bit 0 is the inner product's side
    loss = -F.logsigmoid(signs * (outputs[nodes[path].astype(int)] @ inputs[ROWS].mean(0))).sum()
    agrees(found, loss, inputs, outputs)


def test_negative_sampling_is_a_step_down_its_gradient():
    tables, inputs, outputs = made("ns")
    label, state = 2, np.uint64(7)
    found = stepped(tables, lambda H, A, G: noise_step(H, A, tables, label, 2, RATE, state)[0])
    hidden = inputs[ROWS].mean(0)
    drawn_labels = draws(tables, label, state, 2)
    loss = -F.logsigmoid(outputs[label] @ hidden) - F.logsigmoid(-(outputs[drawn_labels] @ hidden)).sum()
    agrees(found, loss, inputs, outputs, 2e-3)  # a label drawn twice was moved before: the second step is of that order


def draws(tables, label, state, count):
    """The negatives, by the definitions: SplitMix64, Walker's alias table."""
    found, mask = [], (1 << 64) - 1
    state = int(state)
    while len(found) < count:
        state = (state + int(GOLDEN)) & mask
        bits = state
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & mask
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
        bits ^= bits >> 31
        row = ((bits >> 32) * len(tables.probability)) >> 32
        row = row if (bits & 0xFFFFFF) / 2**24 < tables.probability[row] else int(tables.alias[row])
        if row != label:
            found.append(row)
    return found


@pytest.mark.parametrize("true", [[], [3], [0, 2, 5]])
def test_one_against_all_is_a_step_down_its_gradient(true):
    tables, inputs, outputs = made("ova")
    labels = np.array(true, np.int32)
    found = stepped(tables, lambda H, A, G: each_step(H, A, G, tables.outputs, labels, 0, len(labels), RATE))
    wanted = torch.zeros(6)
    wanted[true] = 1
    loss = F.binary_cross_entropy_with_logits(outputs @ inputs[ROWS].mean(0), wanted, reduction="sum")
    agrees(found, loss, inputs, outputs)


def test_rows_that_no_text_names_stay_as_they_are():
    tables, _, _ = made("softmax")
    before = tables.inputs.copy()
    stepped(tables, lambda H, A, G: softmax_step(H, A, G, tables.outputs, 1, 0.5))
    untouched = [row for row in range(8) if row not in ROWS]
    assert tables.inputs[untouched].tobytes() == before[untouched].tobytes()
    assert (tables.inputs[ROWS] != before[ROWS]).any(1).all()


@pytest.mark.parametrize("counts", [COUNTS, np.array([1, 1]), np.arange(1, 40) ** 3])
def test_leaves_of_the_tree_are_a_distribution_and_the_answer_is_the_likeliest_by_enumeration(counts):
    generator = np.random.default_rng(1)
    inputs = generator.normal(0, 2, (20, SIZE)).astype(np.float32)
    outputs = generator.normal(0, 2, (len(counts) - 1, SIZE)).astype(np.float32)
    texts = [generator.integers(0, 20, size).tolist() for size in (1, 3, 9, 40)]
    bags = as_bags(texts, [[]] * 4)
    found = Classifier("hs", inputs, outputs, counts).scores(bags.ids, bags.starts)
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(1), 1, atol=1e-5)
    starts, nodes, bits = huffman_paths(counts)
    for row, text in zip(found, texts, strict=True):
        hidden = inputs[text].astype(np.float64).mean(0)
        chances = []
        for label in range(len(counts)):
            chance = 1.0
            for at in range(starts[label], starts[label + 1]):
                score = float(outputs[nodes[at]].astype(np.float64) @ hidden)
                chance *= 1 / (1 + math.exp(score if bits[at] else -score))
            chances.append(chance)
        np.testing.assert_allclose(np.exp(row), chances, rtol=2e-4, atol=1e-7)
        assert row.argmax() == np.argmax(chances)


def test_scores_are_of_the_mean_and_no_text_sees_another():
    generator = np.random.default_rng(2)
    inputs, outputs = generator.normal(0, 1, (30, 5)).astype(np.float32), generator.normal(0, 1, (3, 5)).astype(np.float32)
    texts = [generator.integers(0, 30, size).tolist() for size in (0, 1, 2, 3, 4, 5, 11)]
    model, bags = Classifier("softmax", inputs, outputs, np.ones(3, np.int64)), as_bags(texts, [[]] * 7)
    together = model.scores(bags.ids, bags.starts)
    assert not together[0].any()  # nothing is known of an empty text
    np.testing.assert_allclose(together[1:], [outputs @ inputs[text].mean(0) for text in texts[1:]], atol=1e-5)
    for row, text in zip(together, texts, strict=True):
        alone = as_bags([text], [[]])
        assert model.scores(alone.ids, alone.starts).tobytes() == row.tobytes()


def corpus(count=32, classes=4, seed=3):
    """Texts of random words, labels without any rule: to be learnt by heart."""
    generator = np.random.default_rng(seed)
    texts = [generator.integers(0, 60, generator.integers(3, 9)).tolist() for _ in range(count)]
    return texts, [[int(label)] for label in generator.integers(0, classes, count)]


@pytest.mark.parametrize("loss", ["softmax", "hs", "ns", "ova"])
def test_32_examples_are_learnt_by_heart(loss):
    texts, labels = corpus()
    bags = as_bags(texts, labels)
    model = train_supervised(bags, 60, 4, SupervisedPlan(loss, dim=20, epochs=200, rate=0.5))
    assert (model.scores(bags.ids, bags.starts).argmax(1) == bags.labels).all()
    assert len(model.losses) == 200 and model.losses[-1] < 0.2 < model.losses[0]
    assert model.rows == 200 * len(bags.ids)


def test_several_labels_are_learnt_by_heart():
    texts, _ = corpus()
    generator = np.random.default_rng(5)
    labels = [np.flatnonzero(generator.random(5) < 0.4).tolist() for _ in texts]
    bags = as_bags(texts, labels)
    model = train_supervised(bags, 60, 5, SupervisedPlan("ova", dim=20, epochs=300, rate=0.5))
    assert [np.flatnonzero(row > 0).tolist() for row in model.scores(bags.ids, bags.starts)] == labels


def test_the_loss_of_the_first_epoch_begins_at_that_of_a_guess():
    texts, labels = corpus()
    bags = as_bags(texts, labels)
    model = train_supervised(bags, 60, 4, SupervisedPlan("softmax", epochs=1, rate=1e-9))
    assert model.losses == pytest.approx([math.log(4)], abs=1e-4)
    model = train_supervised(bags, 60, 4, SupervisedPlan("ova", epochs=1, rate=1e-9))
    assert model.losses == pytest.approx([4 * math.log(2)], abs=1e-4)


def test_one_thread_is_repeatable_and_the_seed_matters():
    bags = as_bags(*corpus(300))
    first, again, other = (train_supervised(bags, 60, 4, SupervisedPlan("ns", dim=8, seed=seed)) for seed in (1, 1, 2))
    assert first.inputs.tobytes() == again.inputs.tobytes() and first.outputs.tobytes() == again.outputs.tobytes()
    assert first.losses == again.losses
    assert first.inputs.tobytes() != other.inputs.tobytes()


def test_two_threads_learn_what_one_learns():
    texts, labels = corpus()
    bags = as_bags(texts * 40, labels * 40)
    model = train_supervised(bags, 60, 4, SupervisedPlan(dim=20, epochs=20, rate=0.5, threads=2))
    assert (model.scores(bags.ids, bags.starts).argmax(1) == bags.labels).mean() > 0.99


def test_a_shuffle_keeps_texts_with_their_labels():
    texts, labels = [[1, 2], [], [3], [4, 5, 6]], [[0], [1, 2], [], [3]]
    bags = shuffled(as_bags(texts, labels), np.random.default_rng(0))
    found = [
        (bags.ids[bags.starts[i] : bags.starts[i + 1]].tolist(), bags.labels[bags.label_starts[i] : bags.label_starts[i + 1]].tolist())
        for i in range(4)
    ]
    assert sorted(found) == sorted(zip(texts, labels, strict=True)) and found != list(zip(texts, labels, strict=True))


def test_rows_from_some_place_on_start_at_zero():
    bags = as_bags([[0], [1]], [[0], [1]])
    model = train_supervised(bags, 50, 2, SupervisedPlan(dim=10, epochs=1, zeros_from=30))
    assert not model.inputs[30:].any()
    assert 0 < np.abs(model.inputs[2:30]).max() <= 0.1 and model.inputs[2:30].std() == pytest.approx(0.1 / math.sqrt(3), rel=0.1)


def test_texts_without_rows_and_a_label_that_no_text_has():
    bags = as_bags([[], [0], [], [1]] * 10, [[0], [0], [1], [1]] * 10)
    for loss in ("softmax", "hs", "ns", "ova"):
        model = train_supervised(bags, 2, 3, SupervisedPlan(loss, dim=4, epochs=20, rate=0.5))
        found = model.scores(bags.ids, bags.starts)
        assert np.isfinite(found).all() and found.shape == (40, 3)
        assert found[1].argmax() == 0 and found[3].argmax() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "loss: must be softmax, hs, ns, ova, not 'hinge'"),
        ({"dim": 0}, "dim: must be at least 1, not 0"),
        ({"epochs": 0}, "epochs: must be at least 1, not 0"),
        ({"negative": 0}, "negative: must be at least 1, not 0"),
        ({"threads": 0}, "threads: must be at least 1, not 0"),
        ({"seed": -1}, "seed: must be at least 0, not -1"),
        ({"rate": 0.0}, "rate: must be above 0, not 0.0"),
        ({"rate": math.nan}, "rate: must be above 0, not nan"),
    ],
)
def test_plans_that_cannot_be(change, message):
    with pytest.raises(InputError, match=message):
        train_supervised(as_bags([[0], [1]], [[0], [1]]), 2, 2, SupervisedPlan(**change))


def test_data_that_cannot_be():
    plan = SupervisedPlan(dim=2)
    with pytest.raises(InputError, match="the texts: there is nothing to train on"):
        train_supervised(as_bags([], []), 2, 2, plan)
    with pytest.raises(InputError, match="the labels: one label alone"):
        train_supervised(as_bags([[0]], [[0]]), 2, 1, plan)
    with pytest.raises(InputError, match="the labels: one label alone has nothing to be told from: negatives"):
        train_supervised(as_bags([[0]], [[0]]), 2, 2, SupervisedPlan("ns", dim=2))
    with pytest.raises(ValueError, match="rows are from 0 to 2, and there are 2"):
        train_supervised(as_bags([[0, 2]], [[0]]), 2, 2, plan)
    with pytest.raises(ValueError, match="labels are from 5 to 5, and there are 2"):
        train_supervised(as_bags([[0]], [[5]]), 2, 2, plan)
    with pytest.raises(InputError, match=r"rate: the loss is (nan|inf) in epoch \d: a lower learning rate"):
        train_supervised(as_bags([[0], [0]] * 100, [[0], [1]] * 100), 1, 2, SupervisedPlan(dim=2, epochs=50, rate=99.0))
