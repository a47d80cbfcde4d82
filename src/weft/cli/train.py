"""weft train, weft evaluate, weft predict: one model, from data to a folder to answers."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from weft.cli import options, searching
from weft.cli.output import console, metrics_table, print_json
from weft.data.examples import RAW, TAGGED
from weft.errors import InputError, meant
from weft.estimators.rungs import LADDERS, PAIRS, ladder, that_starts_from

log = logging.getLogger("weft")


def train(
    data: options.Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model folder to write.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Which model, weft models lists them; cnn, char-bilstm-crf (tags), transformer (pairs) or gpt (raw text) if not given."
        ),
    ] = None,
    valid: options.Valid = None,
    test: options.Test = None,
    epochs: Annotated[float | None, typer.Option(help="How often to see all training data; the model's own number if not given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps, instead of --epochs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time, instead of --epochs: turned into steps once, by a few of them.")] = None,
    from_: options.From = None,
    elmo: options.Elmo = None,
    loss: Annotated[str | None, typer.Option(help="cross-entropy or hinge; binary for several labels, squared for numbers.")] = None,
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
    column: options.Column = None,
    task: options.Task = None,
    as_json: options.Json = False,
) -> None:
    """Train one model on DATA and write it to a folder.

    Its weights are the best on development data (--valid, or a tenth of DATA). Ctrl-C leaves a checkpoint; --resume goes on from it.
    """
    from weft.data.opening import open_splits
    from weft.saving import check_folder

    check_model(model)
    options.check_seed(seed)
    check_folder(out)
    chosen = options.columns(text_column, pair_column, label_column, task, column)
    splits, note = open_splits(data, valid=valid, test=test, test_share=0.0, seed=seed, **chosen)
    what = splits.train.task
    model = chosen_model(what, model if from_ is None else fine_tuned_model(what, model, from_), loss)
    own = options.settings(set_) | ({} if from_ is None else {"pretrained": from_}) | ({} if elmo is None else {"elmo": elmo})
    from weft.estimators.training import train_folder  # scikit-learn and torch: after what can be wrong with the file

    record = train_folder(
        splits, out, model=model, settings=own, data=f"{data} ({note})", resume=resume, console=console(),
        epochs=epochs, steps=steps, minutes=minutes, batch_size=batch_size, batch_tokens=batch_tokens, patience=patience,
        random_state=seed, device=device, precision=precision, threads=threads, vectors=vectors, **({} if loss is None else {"loss": loss}),
    )  # fmt: skip
    if record is not None:  # else another rank writes and speaks
        _say(record, what, model, out, as_json)


def _say(record: dict[str, Any], task: str, model: str, out: Path, as_json: bool) -> None:
    """What came of a training."""
    if as_json:
        print_json({"model": model, "folder": str(out), **record})
        return
    where = {"test": "the test set", "dev": "development data"}[record["split"]]
    things = "sentences" if task in TAGGED else "pairs" if task in PAIRS else "texts"
    console().print(metrics_table(record["metrics"], f"{model} on {where}, {record['examples']:,} {things}"))
    answers_by = f"weft generate {out} goes on with a prompt" if task in RAW else f"weft predict {out} FILE answers"
    console().print(f"saved to {out}; {answers_by}, weft evaluate {out} FILE measures", soft_wrap=True)


def check_model(model: str | None) -> None:
    """Raises InputError for a model that stands on no ladder."""
    every = {name for ladder in LADDERS for name in ladder}
    if model is not None and model not in every:
        names = list(dict.fromkeys(name for ladder in LADDERS for name in ladder))
        raise InputError(f"there is no {model!r}{meant(model, names)}; there are {', '.join(names)}", "--model")


def chosen_model(task: str, model: str | None, loss: str | None) -> str:
    """The model for a task, its usual one where none is named. Raises InputError for one, or a loss, that the task does not have."""
    usual = "char-bilstm-crf" if task in TAGGED else "transformer" if task in PAIRS else "gpt" if task in RAW else "cnn"
    if model is not None and model not in ladder(task):
        raise InputError(f"{model!r} does not do {task}; those that do are {', '.join(ladder(task))}", "--model")
    if loss is not None and task in TAGGED:
        raise InputError("a tagger's loss is its model's: --set crf=true chooses tags together, crf=false one by one", "--loss")
    if loss is not None and task in PAIRS:
        raise InputError("a translator learns by the cross-entropy of its targets; --set label_smoothing=0.1 softens it", "--loss")
    if loss is not None and task in RAW:
        raise InputError("a language model learns by the cross-entropy of the next token: leave it out", "--loss")
    return model or usual


def fine_tuned_model(task: str, model: str | None, source: str) -> str:
    """The model that starts from a checkpoint or a language model. Raises InputError where the task has none, or another is named."""
    there = [name for name, rung in ladder(task).items() if rung.starts]
    if not there:
        raise InputError(f"no model for {task} starts from a checkpoint; those for classes, numbers, tags and raw text do", "--from")
    if model is not None and model not in there:
        raise InputError(f"{model!r} starts from no checkpoint: leave --model out", "--from")
    return model or that_starts_from(source, ladder(task)) or there[0]


def evaluate(
    folder: options.Folder,
    data: options.Data,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    column: options.Column = None,
    as_json: options.Json = False,
) -> None:
    """Measure a saved model on labelled data: a file, or the test set of a named dataset."""
    from weft.data.opening import open_labelled
    from weft.estimators.loading import load
    from weft.estimators.training import labels_of, texts_of

    estimator = load(folder, device=device, precision=precision, threads=threads)
    given = options.columns(text_column, pair_column, label_column, estimator.task_, column)
    if estimator.task_ in TAGGED and column is None and len(estimator.labels_) > 1:
        given["column"] = ",".join(estimator.labels_)
    table, which = open_labelled(data, estimator.columns_, **given)
    metrics = estimator.evaluate(texts_of(table), labels_of(estimator, table))
    if as_json:
        print_json({"model": estimator.model, "folder": str(folder), "split": which, "examples": len(table), "metrics": metrics})
    else:
        console().print(metrics_table(metrics, f"{estimator.model} on {which}, {len(table):,} texts"))


def predict(
    folder: options.Folder,
    file: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="Texts: a file with a column of text, a .txt of lines, or - for standard input.")
    ] = "-",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    beam: searching.Width = None,
    n_best: searching.NBest = None,
    length_penalty: searching.LengthPenalty = None,
    coverage_penalty: searching.CoveragePenalty = None,
    sample: searching.Sampled = False,
    temperature: searching.Temperature = None,
    top_k: searching.TopK = None,
    top_p: searching.TopP = None,
    maximum: searching.Maximum = None,
    minimum: searching.Minimum = None,
    no_repeat: searching.NoRepeat = None,
    seed: searching.Seed = None,
) -> None:
    """Answer texts with a saved model: JSON lines on stdout, in the input's order, with label, score and probabilities.

    A tagger answers raw text, which is cut into words, or a file of words, with tokens, tags, confidences and spans. A translator gives the
    target that a beam search finds, or what the options of the search ask for.
    """
    from weft.data.opening import open_as_trained
    from weft.estimators.loading import load
    from weft.estimators.training import texts_of

    asked = searching.Asked(
        beam, n_best, length_penalty, coverage_penalty, sample, temperature, top_k, top_p, maximum, minimum, no_repeat, seed
    )
    estimator = load(folder, device=device, precision=precision, threads=threads)
    if estimator.task_ in RAW:
        raise InputError(f"is a language model; weft generate {folder} --prompt TEXT goes on with a text", str(folder))
    if estimator.task_ not in PAIRS:
        asked.refuse(estimator.task_)
    chosen = options.columns(text_column, pair_column, None, None)
    if file == "-" and sys.stdin.isatty():
        log.info("reading texts, one a line; Ctrl-D ends them")
    table = open_as_trained(file, estimator.columns_, **chosen)
    for answer in answers(estimator, texts_of(table), asked):
        print_json(answer)


def answers(estimator: Any, texts: list[Any], asked: searching.Asked) -> Any:
    """One JSON-able answer a text."""
    if estimator.task_ in PAIRS:
        for found in estimator.translations(texts, search=asked.search(), limits=asked.limits()):
            best, *others = [{"translation": one.text, "score": round(one.score, 6)} for one in found]
            yield {**best, "others": others} if others else best
        return
    if estimator.task_ in TAGGED:
        for answer in estimator.answers(texts):
            yield tagged_answer(answer, estimator)
        return
    if estimator.task_ == "regression":
        for value in estimator.predict(texts):
            yield {"value": float(value)}
        return
    labels, probabilities = estimator.answers(texts)
    names = [str(name) for name in estimator.classes_]
    for label, row in zip(labels, probabilities, strict=True):
        shares = {name: round(float(value), 6) for name, value in zip(names, row, strict=True)}
        if estimator.task_ == "multi-label":
            yield {"labels": [str(one) for one in label], "probabilities": shares}
        else:
            yield {"label": str(label), "score": round(float(row.max()), 6), "probabilities": shares}


def tagged_answer(answer: Any, estimator: Any) -> dict[str, Any]:
    """A sentence's tokens, tags, their probabilities, and what else there is: spans, further columns, where each token stands in the
    text."""
    found: dict[str, Any] = {"tokens": answer.tokens, "tags": answer.tags, "confidences": answer.confidences}
    if estimator.task_ == "spans":
        found["spans"] = answer.spans
    if answer.others:
        found["others"] = answer.others
    if answer.offsets is not None:
        found["offsets"] = [list(pair) for pair in answer.offsets]
    return found
