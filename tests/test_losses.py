"""Losses against torch's own, brute force, and what they promise the training loop."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from weft.errors import InputError
from weft.losses import IGNORED, LOSSES, BinaryCrossEntropy, CrossEntropy, Hinge, SquaredError, TagLoss, Term
from weft.nn.crf import CRF, Emissions, chain_loss


def batch_of(logits: Tensor, targets: Tensor) -> SimpleNamespace:
    """A batch whose model, `given`, answers the logits it holds."""
    return SimpleNamespace(logits=logits, targets=targets)


def given(batch: SimpleNamespace) -> Tensor:
    return batch.logits


def value(loss, logits: Tensor, targets: Tensor) -> Tensor:
    (term,) = loss(given, batch_of(logits, targets)).values()
    return term.value


def random_case(rows: int = 9, classes: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(rows, classes, dtype=dtype, generator=generator), torch.randint(classes, (rows,), generator=generator)


WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_of_ids_is_torchs(smoothing, weights):
    logits, targets = random_case()
    targets[2] = -100
    table = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, targets, weight=table, label_smoothing=smoothing)
    torch.testing.assert_close(value(CrossEntropy(smoothing, weights), logits, targets), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_of_soft_labels_is_torchs(weights):
    logits, _ = random_case()
    soft = torch.randn_like(logits).softmax(-1)
    table = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = F.cross_entropy(logits, soft, weight=table)
    torch.testing.assert_close(value(CrossEntropy(class_weights=weights), logits, soft), expected, rtol=1e-12, atol=0)


def test_soft_labels_that_are_one_hot_equal_ids():
    logits, targets = random_case()
    for smoothing in (0.0, 0.2):
        soft = value(CrossEntropy(smoothing), logits, F.one_hot(targets, 5).double())
        torch.testing.assert_close(soft, value(CrossEntropy(smoothing), logits, targets))


@pytest.mark.parametrize("loss", [CrossEntropy(class_weights=WEIGHTS, smoothing=0.1), Hinge(), Hinge("sum", WEIGHTS)])
def test_positions_of_sequences_are_rows_and_padding_counts_for_nothing(loss):
    logits, targets = random_case(rows=12)
    targets[[3, 10, 11]] = -100
    kept = targets != -100
    sequences = value(loss, logits.view(2, 6, 5), targets.view(2, 6))
    torch.testing.assert_close(sequences, value(loss, logits[kept], targets[kept]))


@pytest.mark.parametrize("extra", [(), (1,)])
def test_binary_is_torchs_mean_over_entries(extra):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, *extra, dtype=torch.float64, generator=generator)
    targets = torch.randint(2, (6, 4), generator=generator).double()
    expected = F.binary_cross_entropy_with_logits(logits.view(6, 4), targets)
    torch.testing.assert_close(value(BinaryCrossEntropy(), logits, targets), expected)


def test_squared_error_is_torchs_mean_and_never_broadcasts():
    outputs, targets = torch.randn(7, 1, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    expected = F.mse_loss(outputs[:, 0], targets)
    torch.testing.assert_close(value(SquaredError(), outputs, targets), expected)
    broadcast = (outputs - targets).square().mean()
    assert abs(broadcast - expected) > 0.1
    with pytest.raises(InputError, match=r"\(1, 7\).*\(7,\)"):
        value(SquaredError(), outputs.T, targets)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_summed_hinge_is_torchs_multi_margin_loss(weights):
    logits, targets = random_case()
    table = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    total = F.multi_margin_loss(logits, targets, weight=table, reduction="sum")
    count = len(targets) if table is None else table[targets].sum()
    torch.testing.assert_close(value(Hinge("sum", weights), logits, targets), total / count)


def test_weighted_hinge_by_hand():
    logits, targets = random_case()
    each = [max(0.0, 1 - row[t] + max(v for i, v in enumerate(row) if i != t)) for row, t in zip(logits.tolist(), targets.tolist())]
    shares = [WEIGHTS[t] for t in targets.tolist()]
    expected = sum(w * e for w, e in zip(shares, each)) / sum(shares)
    assert float(value(Hinge(class_weights=WEIGHTS), logits, targets)) == pytest.approx(expected, rel=1e-12)


def test_hinge_of_label_sets_is_the_binary_form_of_each_label():
    logits, _ = random_case()
    sets = (torch.randn(9, 5, generator=torch.Generator().manual_seed(1)) > 0).double()
    signs = [[1 if y else -1 for y in row] for row in sets.tolist()]
    each = [max(0.0, 1 - y * o) for ys, os in zip(signs, logits.tolist()) for y, o in zip(ys, os)]
    assert float(value(Hinge(), logits, sets)) == pytest.approx(sum(each) / 45, rel=1e-12)
    with pytest.raises(InputError, match="class weights"):
        value(Hinge(class_weights=WEIGHTS), logits, sets)


def test_hinge_of_a_single_class_is_nothing():
    logits = torch.tensor([[2.0], [-3.0]], requires_grad=True)
    loss = value(Hinge(), logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def everything():
    ids_logits, ids = random_case()
    ids[4] = -100
    sets = (ids_logits > 0).double()
    return [
        (CrossEntropy(), ids_logits, ids),
        (CrossEntropy(0.1, WEIGHTS), ids_logits, ids),
        (CrossEntropy(), ids_logits, ids_logits.softmax(-1)),
        (BinaryCrossEntropy(), ids_logits, sets),
        (SquaredError(), ids_logits, sets),
        (Hinge(), ids_logits, ids),
        (Hinge("sum", WEIGHTS), ids_logits, ids),
        (Hinge(), ids_logits, sets),
    ]


@pytest.mark.parametrize("loss, logits, targets", everything())
def test_counts_are_known_before_the_forward_pass(loss, logits, targets):
    batch = batch_of(logits, targets)
    terms = loss(given, batch)
    assert loss.counts(batch) == {name: float(term.count) for name, term in terms.items()}
    parts = [batch_of(logits[a:b], targets[a:b]) for a, b in ((0, 1), (1, 6), (6, 9))]
    for name, term in terms.items():
        assert sum(loss.counts(part)[name] for part in parts) == pytest.approx(float(term.count))
        assert float(sum(loss(given, part)[name].total for part in parts)) == pytest.approx(float(term.total))


@pytest.mark.parametrize("loss, logits, targets", everything())
def test_half_precision_logits_are_summed_in_single(loss, logits, targets):
    half = logits.bfloat16()
    (term,) = loss(given, batch_of(half, targets.float() if targets.is_floating_point() else targets)).values()
    assert term.total.dtype == torch.float32
    exact = value(loss, half.double(), targets)
    torch.testing.assert_close(term.value.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss, logits, targets", everything())
def test_gradients_agree_with_finite_differences(loss, logits, targets):
    torch.autograd.gradcheck(lambda o: value(loss, o, targets), logits.clone().requires_grad_(), eps=1e-6, rtol=1e-5)


@pytest.mark.parametrize("loss", [CrossEntropy(), Hinge(), Hinge("sum", WEIGHTS)])
def test_a_batch_of_nothing_but_padding_is_worth_zero(loss):
    logits = torch.randn(3, 5, requires_grad=True)
    batch = batch_of(logits, torch.full((3,), -100))
    (term,) = loss(given, batch).values()
    term.value.backward()
    assert term.value == 0 and list(loss.counts(batch).values()) == [0.0]
    assert (logits.grad == 0).all()


def test_a_terms_value_is_its_total_over_its_count():
    assert float(Term(torch.tensor(6.0), 4).value) == 1.5
    assert float(Term(torch.tensor(6.0), torch.tensor(4)).value) == 1.5
    assert float(Term(torch.tensor(6.0), 0).value) == 0


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_made_by_name_and_wants_targets(name):
    with pytest.raises(InputError, match="no targets"):
        LOSSES[name]()(given, batch_of(torch.zeros(2, 3), None))


@pytest.mark.parametrize("loss", [CrossEntropy(), Hinge()])
@pytest.mark.parametrize("wrong", [5, -1])
def test_an_id_that_is_no_class_is_named(loss, wrong):
    logits, targets = random_case()
    targets[3] = wrong
    with pytest.raises(InputError, match=f"target {wrong} .* 0 to 4"):
        value(loss, logits, targets)


@pytest.mark.parametrize("loss", [CrossEntropy(), BinaryCrossEntropy(), SquaredError(), Hinge()])
def test_shapes_that_do_not_fit_are_named(loss):
    with pytest.raises(InputError, match=r"\(4, 3\)"):
        value(loss, torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(InputError, match=r"\(4, 3\)"):
        value(loss, torch.zeros(4, 3), torch.zeros(5, dtype=torch.long))


def test_probabilities_given_as_logits_are_refused():
    logits, targets = random_case()
    with pytest.raises(InputError, match="probabilities"):
        value(CrossEntropy(), logits.softmax(-1), targets)
    assert math.isfinite(value(CrossEntropy(), logits.log_softmax(-1), targets))
    assert math.isfinite(value(CrossEntropy(), torch.zeros(2, 3), torch.tensor([0, 1])))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CrossEntropy(smoothing=1.5),
        lambda: CrossEntropy(class_weights=(1.0, -1.0)),
        lambda: Hinge(form="mean"),
        lambda: Hinge(class_weights=(math.inf, 1.0)),
        lambda: value(CrossEntropy(class_weights=(1.0, 1.0)), *random_case()),
    ],
)
def test_settings_that_make_no_sense_are_refused(make):
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize("make", [CrossEntropy, Hinge])
def test_class_weights_may_be_a_tensor(make):
    logits, targets = random_case()
    given_as_tensor = value(make(class_weights=torch.tensor(WEIGHTS)), logits, targets)
    torch.testing.assert_close(given_as_tensor, value(make(class_weights=WEIGHTS), logits, targets))


# tags

LENGTHS = (4, 1, 0, 3)


def tagged(labels: dict[str, int], *, chained: bool = False, dtype: torch.dtype = torch.float64) -> SimpleNamespace:
    """A batch whose model, `emitted`, answers the emissions it holds."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    found, targets = {}, []
    for column, count in labels.items():
        chain = None
        if chained:
            crf = CRF(labels=count).to(dtype)
            for parameter in crf.parameters():
                parameter.data = torch.randn(parameter.shape, generator=generator, dtype=dtype)
            chain = crf.chain()
        logits = torch.randn(*mask.shape, count, generator=generator, dtype=dtype)
        found[column] = Emissions(logits.requires_grad_(), mask, chain)
        targets.append(torch.randint(count, mask.shape, generator=generator).masked_fill(~mask, IGNORED))
    return SimpleNamespace(found=found, targets=torch.stack(targets, -1), mask=mask)


def emitted(batch: SimpleNamespace) -> dict[str, Emissions]:
    return batch.found


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_tags_by_themselves_are_the_mean_over_tokens(smoothing):
    batch = tagged({"upos": 5, "xpos": 3})
    batch.targets[0, 1, 0] = IGNORED  # in one column alone
    loss = TagLoss(("upos", "xpos"), weights={"xpos": 0.25}, smoothing=smoothing)
    terms = loss(emitted, batch)
    assert {name: term.weight for name, term in terms.items()} == {"upos": 1.0, "xpos": 0.25}
    assert loss.counts(batch) == {"upos": 7.0, "xpos": 8.0}
    for place, (column, term) in enumerate(terms.items()):
        each = []
        for row, step in torch.nonzero(batch.targets[..., place] != IGNORED).tolist():
            log_probability = batch.found[column].logits[row, step].log_softmax(0)
            own = -log_probability[batch.targets[row, step, place]]
            each.append((1 - smoothing) * own - smoothing * log_probability.mean())
        torch.testing.assert_close(term.value, torch.stack(each).mean(), rtol=1e-12, atol=1e-12)


def test_tags_chosen_together_are_the_chains_loss_by_token():
    batch = tagged({"upos": 4, "ner": 3}, chained=True)
    loss = TagLoss(("upos", "ner"), chained=True)
    terms = loss(emitted, batch)
    assert loss.counts(batch) == {"upos": 8.0, "ner": 8.0}
    for place, (column, term) in enumerate(terms.items()):
        expected = chain_loss(batch.found[column], batch.targets[..., place].clamp(min=0)).sum() / 8
        torch.testing.assert_close(term.value, expected, rtol=1e-12, atol=0)
    batch.targets[0, 2, 1] = IGNORED  # a sentence that is not tagged throughout says nothing of that column
    terms = loss(emitted, batch)
    assert loss.counts(batch) == {"upos": 8.0, "ner": 4.0}
    expected = chain_loss(batch.found["ner"], batch.targets[..., 1].clamp(min=0))[1:].sum() / 4
    torch.testing.assert_close(terms["ner"].value, expected, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(terms["ner"].value, batch.found["ner"].logits)
    assert not gradient[0].any() and gradient[1].any() and not gradient[~batch.mask].any()


@pytest.mark.parametrize("chained", [False, True])
def test_tags_none_of_which_is_known_are_worth_nothing(chained):
    batch = tagged({"upos": 4}, chained=chained)
    batch.targets[:] = IGNORED
    loss = TagLoss(("upos",), chained=chained)
    value = loss(emitted, batch)["upos"].value
    assert value == 0
    (gradient,) = torch.autograd.grad(value, batch.found["upos"].logits)
    assert not gradient.any() and torch.isfinite(gradient).all()
    # the sentence of no tokens counts as tagged throughout, and is worth nothing
    assert loss.counts(batch) == {"upos": 0.0}


@pytest.mark.parametrize("chained", [False, True])
def test_an_unknown_tag_in_an_impossible_place_does_not_spoil_the_others(chained):
    """Where a chain forbids what stands in place of an unknown tag, the sentence's loss would be infinite: it is left out."""
    batch = tagged({"ner": 3}, chained=chained)
    if chained:
        start = torch.tensor([-math.inf, 0.0, 0.0], dtype=torch.float64)
        batch.found["ner"] = Emissions(batch.found["ner"].logits, batch.mask, replace(batch.found["ner"].chain, start=start))
        batch.targets[:, 0] = torch.where(batch.mask[:, :1], 1, IGNORED)
    batch.targets[0, 0] = IGNORED
    value = TagLoss(("ner",), chained=chained)(emitted, batch)["ner"].value
    (gradient,) = torch.autograd.grad(value, batch.found["ner"].logits)
    assert torch.isfinite(value) and torch.isfinite(gradient).all()


def test_tags_in_half_precision_are_summed_in_whole():
    batch = tagged({"upos": 5}, dtype=torch.float32)
    batch.found["upos"] = Emissions(batch.found["upos"].logits.detach().bfloat16(), batch.mask)
    assert TagLoss(("upos",))(emitted, batch)["upos"].total.dtype == torch.float32


def test_tags_need_targets():
    batch = tagged({"upos": 5})
    batch.targets = None
    with pytest.raises(InputError, match="no targets"):
        TagLoss(("upos",))(emitted, batch)
