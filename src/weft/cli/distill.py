"""weft distill: a trained classifier teaches a smaller one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from weft.cli import options
from weft.cli.output import console, print_json
from weft.errors import InputError, meant
from weft.estimators.rungs import RUNGS

STUDENTS = tuple(name for name, rung in RUNGS.items() if rung.has_head)


def distill(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER", help="The folder of a trained classifier.")],
    data: options.Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write the student to.")],
    student: Annotated[str, typer.Option(help="Which model learns: bag, cnn, bilstm, transformer, or another neural one.")] = "cnn",
    unlabelled: Annotated[
        str | None, typer.Option(metavar="TEXTS", help="Texts without labels (those in it are not read): the teacher says what it thinks.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of both softmaxes; 2 if not given.")] = None,
    share: Annotated[float, typer.Option(help="Of the teacher in the loss; the rest is the labels'.")] = 0.9,
    on: Annotated[str, typer.Option(help="What is imitated: probabilities or logits.")] = "probabilities",
    follow: Annotated[float, typer.Option(help="Weight of the distance to the teacher's vectors, 0 for none.")] = 0.0,
    alone: Annotated[bool, typer.Option("--alone", help="Train the student on the labels alone, too, for the report.")] = False,
    valid: options.Valid = None,
    test: options.Test = None,
    epochs: Annotated[float | None, typer.Option(help="How often to see all texts; the model's own number if not given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps, instead of --epochs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time, instead of --epochs: turned into steps once, by a few of them.")] = None,
    batch_size: options.BatchSize = None,
    batch_tokens: options.BatchTokens = None,
    patience: options.Patience = None,
    set_: options.Set = None,
    vectors: options.Vectors = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint that an interrupted run left in DIR.")] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    as_json: options.Json = False,
) -> None:
    """Teach a small model what TEACHER knows, on DATA and on texts without labels, and say what it keeps and what it saves.

    The teacher is asked once for every text. The report (quality, texts a second, bytes) is on --test or development data; it stays in DIR.
    """
    from weft.estimators.loading import load

    _check(student, seed, out, teacher)
    master = load(teacher, device=device, precision=precision, threads=threads)
    columns = options.columns(text_column, pair_column, label_column, None)
    splits, note, more = _opened(master, teacher, data, unlabelled, columns, valid=valid, test=test, seed=seed)
    from weft.estimators.distillation import distill_folder

    report = distill_folder(
        splits, more, out, teacher=master, student=student, settings=options.settings(set_), data=f"{data} ({note})",
        recipe={"temperature": temperature, "share": share, "on": on, "vectors": follow}, alone=alone, resume=resume, console=console(),
        epochs=epochs, steps=steps, minutes=minutes, batch_size=batch_size, batch_tokens=batch_tokens, patience=patience,
        random_state=seed, device=device, precision=precision, threads=threads, vectors=vectors,
    )  # fmt: skip
    if report is not None and as_json:  # under torchrun the first process alone has one
        print_json({"student": student, "folder": str(out), "metrics": report["models"][-1]["metrics"], **report})
    elif report is not None:
        _show(report, out)


def _check(student: str, seed: int, out: Path, teacher: Path) -> None:
    """What can be wrong before anything is read."""
    from weft.saving import check_folder

    if student not in STUDENTS:
        there = f"{meant(student, STUDENTS)}; there are {', '.join(STUDENTS)}"
        raise InputError(f"there is no student {student!r}{there}", "--student")
    options.check_seed(seed)
    check_folder(out)
    if out.resolve() == teacher.resolve():
        raise InputError("is the teacher's folder; give another one for the student", str(out))


def _opened(
    master: Any, folder: Path, data: str, unlabelled: str | None, columns: dict[str, Any], **given: Any
) -> tuple[Any, str, list[Any]]:
    """(splits, where they come from, texts without labels). Raises InputError for a teacher that is none, or of another task."""
    from weft.data.opening import open_as_trained, open_splits
    from weft.estimators.training import texts_of

    if type(master).__name__ != "TextClassifier":
        raise InputError(f"is a {type(master).__name__}, for {master.task_}; a teacher is a classifier of texts", str(folder))
    splits, note = open_splits(data, test_share=0.0, **given, **{**columns, "task": master.task_})
    if splits.train.task != master.task_:
        raise InputError(f"is {splits.train.task}; the teacher does {master.task_}", data)
    if unlabelled is None:
        return splits, note, []
    return splits, note, texts_of(open_as_trained(unlabelled, splits.train.columns, **{**columns, "label_column": None}))


def _show(report: dict[str, Any], out: Path) -> None:
    """The report as a table on stderr."""
    from rich.table import Table
    from rich.text import Text

    from weft.compare.wording import metric_title

    where = {"test": "the test set", "dev": "development data"}[report["split"]]
    table = Table(box=None, pad_edge=False, title=f"on {where}, {report['examples']:,} texts", title_justify="left")
    for number, name in enumerate(["", "model", metric_title(report["metric"]), "texts/s", "MB", "parameters"]):
        table.add_column(name, justify="left" if number < 2 else "right")
    for one in report["models"]:
        cells = [one["what"], one["model"], f"{one['metrics'][report['metric']]:.4f}", f"{one['texts_per_second']:,.0f}"]
        table.add_row(*map(Text, [*cells, f"{one['bytes'] / 1e6:.2f}", f"{one['parameters']:,}"]))
    console().print(table)
    kept = f"{report['kept']:.1%} of the teacher's {metric_title(report['metric'])} at {report['speed_up']:.1f} times its speed"
    console().print(f"{kept}, {report['smaller']:.1f} times smaller; saved to {out}", soft_wrap=True)
