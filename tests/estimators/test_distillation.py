"""weft.distill as users hold it: what reaches the student, what is refused, and the contracts of a training with a teacher."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from contracts import Killed, at
from reviews import reviews
from tiny import corpus, network

import weft
from weft.errors import InputError
from weft.estimators import distillation
from weft.estimators.distillation import StudentNetwork
from weft.estimators.network import Examples
from weft.losses import IGNORED, BinaryCrossEntropy, CrossEntropy, Distillation
from weft.training.recipes.distillation import Follower, Lessons, Recipe, lessons_of

SMALL = {"embedding_size": 8, "checks": 2, "learning_rate": 0.02}
TEXTS, LABELS = map(list, zip(*reviews(40), strict=True))
MORE = [text for text, _ in reviews(30, seed=3)]


@pytest.fixture(scope="module")
def teacher():
    return weft.TextClassifier("cnn", {**SMALL, "filters": 4}, epochs=8, threads=1).fit(TEXTS, LABELS)


def student(**options):
    settings = {**SMALL, **options.pop("settings", {})}
    return weft.TextClassifier("bag", settings, **{"steps": 12, "threads": 1, **options})


def weights(model):
    return {name: array.tobytes() for name, array in model.engine_.saved()[0].items()}


@pytest.fixture
def examples(monkeypatch):
    """What every student network is fitted on, with its objective."""
    seen, fit = [], StudentNetwork.fit

    def note(self, data, dev, budget, **options):
        seen.append(SimpleNamespace(data=data, dev=dev, loss=None, engine=self))
        return fit(self, data, dev, budget, **options)

    monkeypatch.setattr(StudentNetwork, "fit", note)
    return seen


def test_labelled_and_unlabelled_texts_go_to_the_student_with_what_the_teacher_said(teacher, examples):
    made = weft.distill(teacher, student(), TEXTS, LABELS, unlabelled=MORE, validation=(TEXTS[:8], LABELS[:8]))
    (seen,) = examples
    assert seen.data.texts == TEXTS + MORE
    np.testing.assert_array_equal(seen.data.targets, [*teacher._targets(LABELS), *[IGNORED] * len(MORE)])
    np.testing.assert_allclose(seen.engine.lessons.logits, teacher.engine_.scores(TEXTS + MORE), atol=1e-6)
    assert len(seen.dev) == 8 and made.history_.steps == 12
    assert made.classes_.tolist() == teacher.classes_.tolist() and set(made.predict(TEXTS)) <= {"neg", "pos"}


def test_without_a_validation_set_some_of_the_labelled_are_set_aside(teacher, examples):
    weft.distill(teacher, student(), TEXTS, LABELS, unlabelled=MORE)
    assert (len(examples[0].data), len(examples[0].dev)) == (36 + 30, 4)


def test_without_labels_the_teacher_alone_is_heard(teacher, examples):
    made = weft.distill(teacher, student(), unlabelled=TEXTS)
    assert examples[0].dev is None and (examples[0].data.targets == IGNORED).all()
    again = weft.distill(teacher, student(), TEXTS)
    assert weights(made) == weights(again)
    told = weft.distill(teacher, student(steps=150), TEXTS)
    assert (told.predict(TEXTS) == teacher.predict(TEXTS)).mean() > 0.9


def test_of_several_labels(examples):
    several = [(label, "long") if len(text.split()) > 6 else (label,) for text, label in zip(TEXTS, LABELS, strict=True)]
    teacher = weft.TextClassifier("cnn", SMALL, epochs=2, threads=1).fit(TEXTS, several)
    made = weft.distill(teacher, student(), TEXTS, several, unlabelled=MORE, validation=(TEXTS[:4], several[:4]))
    targets = examples[0].data.targets
    assert targets.shape == (70, 3) and np.isnan(targets[40:]).all() and not np.isnan(targets[:40]).any()
    assert made.task_ == "multi-label" and made.predict_proba(TEXTS).shape == (40, 3)


def test_of_pairs():
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    teacher = weft.TextClassifier("cnn", SMALL, steps=4, threads=1).fit(pairs, LABELS)
    assert weft.distill(teacher, student(), pairs, LABELS, unlabelled=pairs[:5]).predict(pairs[:3]).shape == (3,)
    with pytest.raises(InputError, match="unlabelled: the teacher was trained on pairs of texts"):
        weft.distill(teacher, student(), pairs, LABELS, unlabelled=MORE)


def test_every_kind_of_model_teaches():
    for model in ("majority", "svm", "fasttext"):
        teacher = weft.TextClassifier(model, threads=1).fit(TEXTS, LABELS)
        assert weft.distill(teacher, student(steps=2), TEXTS, LABELS).predict(TEXTS[:2]).shape == (2,)
        with pytest.raises(InputError, match=f"vectors: the teacher, '{model}', has no vectors to follow"):
            weft.distill(teacher, student(steps=2), TEXTS, LABELS, vectors=1.0)


def test_the_teacher_is_asked_once_for_each_text(teacher, monkeypatch, caplog):
    asked, scores = [], teacher.engine_.scores
    monkeypatch.setattr(teacher.engine_, "scores", lambda texts, pairs=None: asked.append(len(texts)) or scores(texts, pairs))
    before = weights(teacher)
    with caplog.at_level(logging.INFO, "weft"):
        weft.distill(teacher, student(steps=40), TEXTS, LABELS, unlabelled=MORE)
    assert asked == [66]
    assert "the teacher was asked for 66 texts, once, in" in caplog.text
    assert weights(teacher) == before


def test_of_a_folder_and_a_name(teacher, tmp_path):
    teacher.save(tmp_path / "teacher")
    one = weft.distill(tmp_path / "teacher", student(), TEXTS, LABELS)
    assert weights(one) == weights(weft.distill(teacher, student(), TEXTS, LABELS))
    one.save(tmp_path / "student")
    loaded = weft.load(tmp_path / "student", threads=1)
    np.testing.assert_array_equal(loaded.predict_proba(MORE), one.predict_proba(MORE))
    with pytest.raises(InputError, match="there is no 'cnm'"):
        weft.distill(teacher, "cnm", TEXTS, LABELS)


def test_vectors_are_followed_and_what_followed_them_is_gone(teacher):
    still = {"steps": 60, "settings": {"dropout": 0.0, "embedding_dropout": 0.0}}
    plain, told = (weft.distill(teacher, student(**still), TEXTS, share=1.0, vectors=weight) for weight in (0.0, 1.0))
    assert weights(plain).keys() == weights(told).keys() and weights(plain) != weights(told)
    assert type(told.engine_.model).__name__ == "Classifier"

    def explained(model):
        """How much of the teacher's vectors a linear map of the student's gives."""
        ours, theirs = (lessons_of(one.engine_.model, batches(one), one.engine_.compute).vectors.double() for one in (model, teacher))
        known = torch.cat([ours, torch.ones(len(ours), 1, dtype=torch.float64)], 1)
        left = theirs - known @ torch.linalg.lstsq(known, theirs).solution
        return 1 - float(left.square().sum() / (theirs - theirs.mean(0)).square().sum())

    def batches(one):
        return one.engine_.batches(Examples(TEXTS, None, np.zeros(len(TEXTS), np.int64)), shuffled=False)

    assert explained(told) > explained(plain)


def test_lessons_are_what_the_network_says_in_the_order_of_the_examples(teacher):
    engine = teacher.engine_
    texts = TEXTS + MORE + [""]
    lessons = lessons_of(
        engine.model, engine.batches(Examples(texts, None, np.zeros(len(texts), np.int64)), shuffled=False), engine.compute
    )
    np.testing.assert_allclose(lessons.logits, engine.scores(texts), atol=1e-6)
    close = 1e-5 if engine.compute.precision == "fp32" else 2e-3
    np.testing.assert_allclose(engine.model.head(lessons.vectors).detach(), lessons.logits, atol=close)


@pytest.mark.parametrize("options", [{}, {"vectors": 1.0}, {"on": "logits", "share": 1.0}], ids=str)
def test_killed_and_resumed_it_is_the_run_that_never_was(teacher, options, tmp_path):
    def run(path=None, resume=False, callbacks=()):
        made = student(settings={"dropout": 0.2, "checks": 6, "averaging": "exponential"}, batch_size=7)
        return weft.distill(teacher, made, TEXTS, LABELS, unlabelled=MORE, checkpoint=path, resume=resume, callbacks=callbacks, **options)

    whole = run()
    for step in (5, 8):
        path = tmp_path / f"{step}"
        with pytest.raises(Killed):
            run(path, callbacks=[at(step, Killed())])
        again = run(path, resume=True)
        assert weights(again) == weights(whole) and again.history_.checks == whole.history_.checks


def test_a_run_of_another_teacher_is_not_gone_on_with(teacher, tmp_path):
    other = weft.TextClassifier("svm").fit(TEXTS, LABELS)
    with pytest.raises(Killed):
        weft.distill(teacher, student(), TEXTS, LABELS, checkpoint=tmp_path / "c", callbacks=[at(6, Killed())])
    with pytest.raises(InputError, match="is of another loss; start without --resume"):
        weft.distill(other, student(), TEXTS, LABELS, checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize("vectors", [0.0, 1.0])
def test_micro_batches_are_one_batch(vectors):
    data = corpus()
    data.targets[::3] = IGNORED
    torch.manual_seed(0)
    lessons = Lessons(torch.randn(32, 3), torch.randn(32, 5) if vectors else None)
    found = []
    for parts in (1, 5):
        made = network("cnn", dropout=0.0, batch_size=32, learning_rate=0.1, optimizer="sgd", clip=None)
        torch.manual_seed(1)
        model = Follower(made.model, 5) if vectors else made.model
        loss = Recipe(vectors=vectors).loss(CrossEntropy(), lessons, several=False)
        (batch,) = made.batches(data, shuffled=True).epoch(0)
        counts = loss.counts(batch)
        for part in batch.split(parts):
            terms = loss(model, part)
            sum(term.weight * term.total / counts[name] for name, term in terms.items()).backward()
        found.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=2e-6)


def test_of_several_labels_the_entries_are_binary():
    torch.manual_seed(0)
    teacher, logits = torch.randn(2, 4, 3, dtype=torch.float64)
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 1], [float("nan")] * 3, [1, 1, 0]], dtype=torch.float64)
    batch = SimpleNamespace(targets=targets, source=torch.arange(4))
    loss = Distillation(BinaryCrossEntropy(), teacher, 2.0, share=0.25, several=True)
    value = sum(term.weight * term.value for term in loss(lambda _: logits, batch).values())
    soft = 4 * torch.nn.functional.binary_cross_entropy_with_logits(logits / 2, (teacher / 2).sigmoid())
    hard = torch.nn.functional.binary_cross_entropy_with_logits(logits[[0, 1, 3]], targets[[0, 1, 3]])
    torch.testing.assert_close(value, 0.25 * soft + 0.75 * hard)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((TEXTS, ["neg", "good"] * 20), {}, "labels: 'good' is no class of the teacher, which knows neg, pos"),
        ((TEXTS, [("neg",)] * 40), {}, r"labels: label 1 is \('neg',\); this model takes one label"),
        ((TEXTS, LABELS[:3]), {}, "labels: 40 texts but 3 labels"),
        (([], None), {}, "texts: there is nothing to teach on"),
        ((list(zip(TEXTS, TEXTS, strict=True)), LABELS), {}, "texts: the teacher was trained on single texts"),
        ((TEXTS, LABELS), {"temperature": 0}, "temperature: must be above 0, not 0"),
        ((TEXTS, LABELS), {"temperature": -2.0}, "temperature: must be above 0"),
        ((TEXTS, LABELS), {"temperature": 3.0, "on": "logits"}, "temperature: is of probabilities; logits are imitated as they are"),
        ((TEXTS, LABELS), {"share": 2.0}, "share: must be from 0"),
        ((TEXTS, LABELS), {"vectors": -1.0}, "vectors: must be finite"),
    ],
)
def test_what_is_refused(teacher, arguments, options, message):
    with pytest.raises(InputError, match=message):
        weft.distill(teacher, student(), *arguments, **options)


def test_teachers_and_students_that_are_none(teacher):
    with pytest.raises(InputError, match="teacher: is a TextRegressor; a teacher is a fitted TextClassifier"):
        weft.distill(weft.TextRegressor("majority").fit(TEXTS, [1.0] * 20 + [2.0] * 20), student(), TEXTS, LABELS)
    with pytest.raises(InputError, match="student: 'svm' learns from labels alone; students are bag"):
        weft.distill(teacher, "svm", TEXTS, LABELS)
    with pytest.raises(InputError, match="student: is a Tagger"):
        weft.distill(teacher, weft.Tagger(), TEXTS, LABELS)


def test_the_report_compares_first_and_last():
    portraits = [
        {"metrics": {"accuracy": 0.8}, "texts_per_second": 10.0, "bytes": 400},
        {"metrics": {"accuracy": 0.6}, "texts_per_second": 99.0, "bytes": 100},
        {"metrics": {"accuracy": 0.76}, "texts_per_second": 250.0, "bytes": 100},
    ]
    report = distillation.compared(portraits, "classification")
    assert (report["kept"], report["speed_up"], report["smaller"]) == (pytest.approx(0.95), 25.0, 4.0)
