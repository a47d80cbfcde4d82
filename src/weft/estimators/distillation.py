"""Distillation as users hold it: a fitted classifier teaches a smaller one, on labelled texts and on texts without labels."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weft.data.examples import Splits
from weft.errors import InputError
from weft.estimators.engine import Budget
from weft.estimators.inputs import Labelled, hold_out, labelled, split_pairs
from weft.estimators.loading import load
from weft.estimators.network import Examples, Network
from weft.estimators.scoring import MAIN_METRIC
from weft.estimators.text import TextClassifier
from weft.estimators.training import labels_of, progress, texts_of, training_in
from weft.files import plain, write_json
from weft.losses import IGNORED, Distillation, Loss
from weft.saving import CHECKPOINT, check_folder
from weft.training.loop import History
from weft.training.recipes.distillation import Follower, Lessons, Recipe, lessons_of

log = logging.getLogger("weft")
TIMED = 2000  # texts that speed is measured on, at most
REPEATS = 3  # of which the quickest counts


class StudentNetwork(Network):
    """A network taught by what a teacher said of the examples it is fitted on."""

    lessons: Lessons
    recipe: Recipe

    def build_for(self, data: Examples) -> None:
        super().build_for(data)
        if self.lessons.vectors is not None:
            student, size = self.model, self.lessons.vectors.shape[1]
            self.model = self.draw(lambda: Follower(student, size))

    def loss(self, data: Examples) -> Distillation:
        known = _labelled(data.targets)
        labels = super().loss(Examples(data.texts, None, data.targets[known]))
        return self.recipe.loss(labels, self.lessons, several=self.task == "multi-label")

    def validation(self, dev: Examples, loss: Loss) -> Callable[[torch.nn.Module], dict[str, float]]:
        look = super().validation(dev, loss.labels)  # type: ignore[attr-defined]  # a Distillation's: the teacher said nothing of these
        return lambda model: look(model.student if isinstance(model, Follower) else model)

    def fit(self, data: Any, dev: Any, budget: Budget, **options: Any) -> History:
        """As any network; without what only its training needed."""
        history = super().fit(data, dev, budget, **options)
        if isinstance(self.model, Follower):
            self.model = self.model.student
        return history


def distill(
    teacher: TextClassifier | str | Path,
    student: TextClassifier | str = "cnn",
    texts: Sequence[Any] = (),
    labels: Sequence[Any] | None = None,
    *,
    unlabelled: Sequence[Any] = (),
    validation: tuple[Sequence[Any], Sequence[Any]] | None = None,
    temperature: float | None = None,
    share: float = 0.9,
    on: str = "probabilities",
    vectors: float = 0.0,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Any] = (),
) -> TextClassifier:
    """Teaches `student` what `teacher` says of `texts`, with their `labels` beside it, and of `unlabelled` texts; returns it, fitted.

    teacher: a fitted TextClassifier, or a model folder; it is asked once for each text. student: a neural TextClassifier that is not
    fitted, or the name of its model. The loss is share·τ²·CE(teacher/τ, student/τ) + (1 − share)·that of the labels (E110), τ the
    temperature, 2 unless told; on="logits": squared error of logits; vectors > 0: the student's vectors are held to the teacher's, too,
    with that weight. The rest as in `TextClassifier.fit`.
    Raises InputError for a teacher of another task, labels that it does not know, nothing to teach on, numbers that cannot be.
    """
    recipe = Recipe(temperature, share, on, vectors)
    teacher, pupil = _teacher(teacher), _student(student)
    given = labelled(texts, labels) if labels is not None else Labelled(*split_pairs(texts, "texts"), [None] * len(texts))
    _prepare(pupil, teacher, given if labels is not None else None)
    if labels is not None and validation is None:
        given, held = hold_out(given, pupil.task_, pupil.validation_fraction, pupil.seed_)
    else:
        held = None if validation is None else pupil._given_validation(validation)
    whole = _joined(pupil, given, unlabelled, labels is not None)
    pupil.engine_ = engine = _engine(pupil, recipe)
    engine.lessons = _lessons(teacher, whole, recipe)
    pupil.history_ = engine.fit(
        whole, None if held is None else pupil._examples(held), Budget(pupil.steps, pupil.epochs, pupil.minutes),
        checkpoint=None if checkpoint is None else Path(checkpoint), resume=resume, callbacks=callbacks,
    )  # fmt: skip
    return pupil


def _teacher(teacher: Any) -> TextClassifier:
    if isinstance(teacher, str | Path):
        teacher = load(teacher)
    if not isinstance(teacher, TextClassifier):
        raise InputError(f"is a {type(teacher).__name__}; a teacher is a fitted TextClassifier, or its folder", "teacher")
    teacher._check_fitted()
    return teacher


def _student(student: Any) -> TextClassifier:
    pupil = TextClassifier(student) if isinstance(student, str) else student
    if not isinstance(pupil, TextClassifier):
        raise InputError(f"is a {type(pupil).__name__}; a student is a TextClassifier, or the name of its model", "student")
    if not pupil._rung().has_head:
        there = ", ".join(name for name, rung in pupil.rungs.items() if rung.has_head)
        raise InputError(f"{pupil.model!r} learns from labels alone; students are {there}", "student")
    pupil._check_budget()
    return pupil


def _prepare(pupil: TextClassifier, teacher: TextClassifier, given: Labelled | None) -> None:
    """What a student takes over from its teacher. Raises InputError where labels are not the teacher's."""
    if teacher.task_ not in pupil._rung().tasks:
        raise InputError(f"{pupil.model!r} does not do {teacher.task_}", "student")
    pupil.task_, pupil.classes_, pupil.pair_, pupil.seed_ = teacher.task_, teacher.classes_, teacher.pair_, pupil._seed()
    if given is None:
        return
    pupil._check_shape(given.labels, "labels")
    known = set(teacher.classes_.tolist())
    flat = [one for label in given.labels for one in (label if isinstance(label, tuple) else (label,))]
    if strange := next((one for one in flat if one not in known), None):
        raise InputError(f"{strange!r} is no class of the teacher, which knows {', '.join(map(str, teacher.classes_[:20]))}", "labels")


def _joined(pupil: TextClassifier, given: Labelled, unlabelled: Sequence[Any], with_labels: bool) -> Examples:
    """Labelled examples and those without labels, in one, whose targets are then IGNORED or NaN."""
    first, second = split_pairs(unlabelled, "unlabelled")
    for part, pairs, place in ((given.texts, given.pairs, "texts"), (first, second, "unlabelled")):
        if part and (pairs is not None) != pupil.pair_:
            raise InputError(f"the teacher was trained on {'pairs of texts' if pupil.pair_ else 'single texts'}", place)
    texts = given.texts + first
    if not texts:
        raise InputError("there is nothing to teach on: no texts", "texts")
    several = pupil.task_ == "multi-label"
    none = np.full((len(texts), pupil._outputs()), np.nan, np.float32) if several else np.full(len(texts), IGNORED, np.int64)
    if with_labels:
        none[: len(given)] = pupil._targets(given.labels)
    return Examples(texts, [*(given.pairs or []), *(second or [])] if pupil.pair_ else None, none)


def _lessons(teacher: TextClassifier, data: Examples, recipe: Recipe) -> Lessons:
    """What the teacher says of every text, said aloud how long it took. Raises InputError where it has no vectors, but they are wanted."""
    started = time.perf_counter()
    if not recipe.vectors:
        lessons = Lessons(torch.from_numpy(np.asarray(teacher.engine_.scores(data.texts, data.pairs), np.float32)))
    elif not hasattr(getattr(engine := teacher.engine_, "model", None), "vector"):
        raise InputError(f"the teacher, {teacher.model!r}, has no vectors to follow", "vectors")
    else:
        asked = Examples(data.texts, data.pairs, np.zeros(len(data), np.int64))
        lessons = lessons_of(engine.model, engine.batches(asked, shuffled=False), engine.compute)
    log.info("the teacher was asked for %d texts, once, in %.1f s", len(data), time.perf_counter() - started)
    return lessons


def _engine(pupil: TextClassifier, recipe: Recipe) -> StudentNetwork:
    settings = pupil._settings(pupil._rung())
    engine = StudentNetwork(pupil.task_, pupil._outputs(), settings, pupil._compute(), pupil.seed_, pupil._vectors(settings))
    engine.recipe = recipe
    return engine


def _labelled(targets: np.ndarray) -> np.ndarray:
    return ~np.isnan(targets).any(1) if targets.dtype.kind == "f" else targets != IGNORED


def portrait(what: str, model: TextClassifier, texts: list[Any], labels: list[Any]) -> dict[str, Any]:
    """A model in numbers: its metrics on labelled texts, texts a second at prediction (measured), bytes and number of its weights."""
    return {
        "what": what, "model": model.model, "metrics": model.evaluate(texts, labels), "texts_per_second": speed(model, texts),
        "bytes": sum(array.nbytes for array in model.engine_.saved()[0].values()), "parameters": model.parameters_,
    }  # fmt: skip


def speed(model: TextClassifier, texts: list[Any]) -> float:
    """Texts a second at prediction in bulk: the quickest of some passes over them, after one that does not count."""
    texts = texts[:TIMED]
    model._scores(texts)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        model._scores(texts)
        seconds.append(time.perf_counter() - started)
    return len(texts) / max(min(seconds), 1e-9)


def compared(portraits: list[dict[str, Any]], task: str) -> dict[str, Any]:
    """The report: the portraits (teacher first, distilled student last), how much quality is kept, how much faster and smaller it is."""
    teacher, student, measure = portraits[0], portraits[-1], MAIN_METRIC[task]
    return {
        "metric": measure, "models": portraits,
        "kept": student["metrics"][measure] / max(teacher["metrics"][measure], 1e-12),
        "speed_up": student["texts_per_second"] / teacher["texts_per_second"],
        "smaller": teacher["bytes"] / max(student["bytes"], 1),
    }  # fmt: skip


def distill_folder(
    splits: Splits,
    unlabelled: list[Any],
    folder: Path,
    *,
    teacher: TextClassifier,
    student: str,
    settings: dict[str, Any],
    data: str,
    recipe: dict[str, Any],
    alone: bool = False,
    resume: bool = False,
    console: Any = None,
    **options: Any,
) -> dict[str, Any] | None:
    """Teaches a student on splits.train and the unlabelled texts, chosen by splits.dev, and writes its folder; returns the report.

    The report, on test where there is one, else on dev, is distillation.json in the folder. alone: the same student is trained on the
    labels, too, without the teacher, for the report. recipe: of `distill`; options: the student's own. As in `train_folder` there is a
    checkpoint while the student trains, and under torchrun the main process alone writes and answers.
    """
    check_folder(folder)
    pupil = TextClassifier(student, settings or None, **options)
    pupil.columns_ = dict(splits.train.columns)
    labels = {name: labels_of(teacher, part) for name, part in (("train", splits.train), ("dev", splits.dev))}
    validation = (texts_of(splits.dev), labels["dev"]) if len(splits.dev) else None
    with training_in(folder, pupil._compute().device, resume) as main:
        with progress(student, console if main else None) as bar:
            distill(
                teacher, pupil, texts_of(splits.train), labels["train"], unlabelled=unlabelled, validation=validation,
                checkpoint=folder / CHECKPOINT, resume=resume, callbacks=[] if bar is None else [bar], **recipe,
            )  # fmt: skip
        without = None
        if alone:
            with progress(f"{student} alone", console if main else None) as bar:
                without = TextClassifier(student, settings or None, **options)
                without.fit(texts_of(splits.train), labels["train"], validation, callbacks=[] if bar is None else [bar])
        if not main:
            return None
        data += f"; {len(unlabelled)} texts without labels; taught by {teacher.model}"
        return _write(pupil, teacher, without, splits, folder, data)


def _write(
    pupil: TextClassifier, teacher: TextClassifier, without: TextClassifier | None, splits: Splits, folder: Path, data: str
) -> dict[str, Any]:
    """The folder: its metrics.json says the same of every run; what was timed is in distillation.json."""
    split, table = ("test", splits.test) if splits.test is not None else ("dev", splits.dev)
    texts, labels = texts_of(table), labels_of(teacher, table)
    sides = [("teacher", teacher), *([] if without is None else [("student alone", without)]), ("student distilled", pupil)]
    portraits = [portrait(what, model, texts, labels) for what, model in sides]
    report = {"split": split, "examples": len(table), **compared(portraits, pupil.task_)}
    others = {one["what"]: one["metrics"] for one in portraits[:-1]}
    pupil.save(folder, metrics={"split": split, "examples": len(table), split: portraits[-1]["metrics"], "others": others}, data=data)
    write_json(folder / "distillation.json", plain(report))
    return report
