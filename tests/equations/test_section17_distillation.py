"""E110: a student imitates its teacher's soft outputs."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import weft
from weft.errors import InputError
from weft.losses import IGNORED, CrossEntropy, Distillation

TEACHER, STUDENT = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64), torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)


def soft(teacher, student, heat, **options):
    """The teacher's term of one batch: τ²·CE."""
    batch = SimpleNamespace(targets=torch.zeros(len(student), dtype=torch.int64), source=torch.arange(len(student)))
    return Distillation(CrossEntropy(), teacher, heat, **options)(lambda _: student, batch)["teacher"].value


def entropy(logits):
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean()


@pytest.mark.parametrize(("heat", "crossed", "divergence"), [(1.0, 0.952025, 0.119630), (2.0, 1.051182, 0.030991)])
def test_e110_w29_the_worked_numbers(heat, crossed, divergence):
    value = soft(TEACHER, STUDENT, heat) / heat**2
    assert float(value) == pytest.approx(crossed, abs=1e-6)
    assert float(value - entropy(TEACHER / heat)) == pytest.approx(divergence, abs=1e-6)


def test_e110_w29_the_gradient_is_the_temperature_times_the_difference():
    student = STUDENT.clone().requires_grad_()
    soft(TEACHER, student, 2.0).backward()
    np.testing.assert_allclose(student.grad[0], [-0.245657, 0.152912, 0.092746], atol=1e-6)
    torch.manual_seed(0)
    teacher, student = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    soft(teacher, student, 3.5).backward()
    expected = 3.5 * ((student / 3.5).softmax(-1) - (teacher / 3.5).softmax(-1)) / 5
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-10, atol=1e-12)


def test_e110_at_temperature_one_it_is_cross_entropy_with_soft_labels():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(soft(teacher, student, 1.0), F.cross_entropy(student, teacher.softmax(-1)))


def test_e110_where_it_is_hot_it_is_the_squared_error_of_centred_logits():
    def hot(teacher, student, heat=1e4):
        return float(soft(teacher, student, heat) - heat**2 * entropy(teacher / heat))

    assert hot(TEACHER, STUDENT) == pytest.approx(1 / 9, abs=1e-4)
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 1, 5, dtype=torch.float64)
    far = teacher - student
    assert hot(teacher, student) == pytest.approx(float((far - far.mean()).square().sum()) / 10, abs=1e-3)


def test_e110_on_logits_it_is_their_mean_squared_error():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(soft(teacher, student, 2.0, on="logits"), F.mse_loss(student, teacher))


def test_e110_labels_have_the_rest_and_count_where_there_are_any():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 6, 4, dtype=torch.float64)
    targets = torch.tensor([0, IGNORED, 3, IGNORED, IGNORED, 1])
    order = torch.tensor([5, 0, 1, 4, 2, 3])  # whose rows of the teacher's table these are
    table = torch.empty_like(teacher)
    table[order] = teacher
    loss = Distillation(CrossEntropy(), table, 2.0, share=0.7)
    batch = SimpleNamespace(targets=targets, source=order)
    terms = loss(lambda _: student, batch)
    value = sum(term.weight * term.value for term in terms.values())
    expected = 0.7 * 4 * F.cross_entropy(student / 2, (teacher / 2).softmax(-1)) + 0.3 * F.cross_entropy(student, targets)
    torch.testing.assert_close(value, expected)
    assert loss.counts(batch) == {"teacher": 6.0, "cross-entropy": 3.0}
    assert {name: float(term.count) for name, term in terms.items()} == loss.counts(batch)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_e110_a_distilled_student_beats_the_same_student_on_labels_alone(seed):
    """Few labels; a teacher who knows from thousands of texts which words matter; a thousand texts without a label."""
    draw = np.random.default_rng(seed)
    words = np.array([f"w{number}" for number in range(300)])
    worth = draw.normal(size=300)

    def made(count):
        chosen = draw.integers(0, 300, size=(count, 8))
        return [" ".join(words[row]) for row in chosen], [str(int(total > 0)) for total in worth[chosen].sum(1)]

    few, many, test = made(60), made(1200), made(500)
    teacher = weft.TextClassifier("logistic").fit(*made(2000))
    before = [array.tobytes() for array in teacher.engine_.saved()[0].values()]
    settings = {"embedding_size": 32, "checks": 2, "dropout": 0.0, "ngrams": 1, "head": ()}
    options = {"settings": settings, "steps": 100, "threads": 1, "validation_fraction": 0.0, "random_state": seed}
    alone = weft.TextClassifier("bag", **options).fit(*few).score(*test)
    student = weft.distill(teacher, weft.TextClassifier("bag", **options), *few, unlabelled=many[0])
    assert student.score(*test) > alone + 0.02
    assert [array.tobytes() for array in teacher.engine_.saved()[0].values()] == before  # it is asked, and learns nothing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: must be above 0, not 0.0"),
        ({"temperature": math.nan}, "temperature: must be above 0"),
        ({"share": 1.5}, "share: must be from 0.*not 1.5"),
        ({"on": "probability"}, r"on: there is no 'probability' \(did you mean probabilities"),
        ({"following": -1.0}, "vectors: must be finite and not negative"),
    ],
)
def test_e110_what_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Distillation(CrossEntropy(), TEACHER, **options)
