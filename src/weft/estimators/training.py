"""From splits to a model folder: what `weft train` does, in Python."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from weft.data.examples import RAW, TAGGED, Splits, Table
from weft.errors import InputError
from weft.estimators.language_model import LanguageModel
from weft.estimators.rungs import PAIRS, ladder
from weft.estimators.tagger import COLUMN, Tagger
from weft.estimators.text import TextClassifier, TextRegressor
from weft.estimators.translator import Translator
from weft.saving import CHECKPOINT, check_folder

log = logging.getLogger("weft")


def texts_of(table: Table) -> list[Any]:
    """What an estimator is fed: texts; (text, pair) where the table holds pairs; lists of words where it holds tagged sentences."""
    if table.task in TAGGED or any(example.tokens is not None for example in table.examples):
        return [list(example.tokens or ()) for example in table.examples]
    pairs = table.pairs
    return list(table.texts) if pairs is None else list(zip(table.texts, pairs, strict=True))


def targets_of(table: Table) -> Any:
    """What it is taught: labels; of tagged sentences {column: tags}."""
    if table.task in RAW:
        return None
    if table.task not in TAGGED:
        return table.labels
    columns: dict[str, Any] = {table.columns.get("label", COLUMN): table.labels}
    return columns | {name: [example.others[place] for example in table.examples] for place, name in enumerate(table.others)}


def estimator_for(table: Table, **options: Any) -> Any:
    """An unfitted estimator for the table's task. Raises InputError for an option that it does not have."""
    if table.task in TAGGED:
        return Tagger(task=table.task, **options)
    if table.task in PAIRS:
        if options.pop("vectors", None) is not None:
            raise InputError("translators learn their vocabularies' vectors from the pairs alone", "--vectors")
        return Translator(**options)
    if table.task in RAW:
        for name in ("vectors", "batch_tokens"):
            if options.pop(name, None) is not None:
                raise InputError("is not for language models: leave it out", f"--{name.replace('_', '-')}")
        return LanguageModel(**options)
    return (TextRegressor if table.task == "regression" else TextClassifier)(**options)


def labels_of(estimator: Any, table: Table) -> Any:
    """The table's labels, which are texts, as the estimator's own where it was trained on numbers or bools."""
    if estimator.task_ in TAGGED:
        return targets_of(table) if table.others else table.labels  # a single column may have another name here
    if estimator.task_ in PAIRS:
        return table.labels
    own = {str(name): name for name in getattr(estimator, "classes_", np.array([])).tolist()}
    if estimator.task_ == "multi-label":
        return [tuple(own.get(name, name) for name in label) for label in table.labels]  # type: ignore[union-attr]
    return [own.get(label, label) for label in table.labels]  # type: ignore[arg-type]


def train_folder(
    splits: Splits,
    folder: Path,
    *,
    model: str,
    settings: dict[str, Any],
    data: str,
    resume: bool = False,
    console: Any = None,
    **options: Any,
) -> dict[str, Any] | None:
    """Trains on splits.train, chooses by splits.dev, writes the folder; metrics of test, else of dev, and which is said.

    While it trains, folder/checkpoint.safetensors is kept; resume goes on from it; a finished run removes it. `console` (rich's) shows a
    progress bar. options: the estimator's own. Under torchrun the main process alone writes and answers; the others get None.
    """
    check_folder(folder)
    rungs = ladder(splits.train.task)
    neural = model in rungs and rungs[model].engine == "neural"
    estimator = estimator_for(splits.train, model=model, settings=settings or None, **options)
    estimator.columns_ = dict(splits.train.columns)  # so that a file with other text columns beside it is read as this one was
    if not neural:
        if resume:
            log.warning("%s is trained in one go: there is nothing to resume", model)
        estimator.fit(texts_of(splits.train), targets_of(splits.train))
        return _write(estimator, splits, folder, data)
    with training_in(folder, estimator._compute().device, resume) as main:
        with progress(model, console if main else None) as bar:
            validation: Any = (texts_of(splits.dev), targets_of(splits.dev)) if len(splits.dev) else None
            if validation is not None and splits.dev.task in RAW:
                validation = validation[0]
            estimator.fit(
                texts_of(splits.train), targets_of(splits.train), validation,
                checkpoint=folder / CHECKPOINT, resume=resume, callbacks=[bar] if bar is not None else [],
            )  # fmt: skip
        return _write(estimator, splits, folder, data) if main else None


@contextmanager
def training_in(folder: Path, device: Any, resume: bool) -> Iterator[bool]:
    """What a training with its checkpoint in a model folder runs in, processes of torchrun too: whether this is the main one, which writes.

    The folder is made; a checkpoint that is there, or is missed, is said. Who gets to the end removes it.
    """
    from weft.training import distributed
    from weft.training.checkpoint import remove_checkpoint

    checkpoint = folder / CHECKPOINT
    with distributed.process_group(device):
        main = distributed.is_main()
        if main:
            folder.mkdir(parents=True, exist_ok=True)
            if checkpoint.exists() and not resume:
                log.warning("%s holds the checkpoint of an interrupted run; --resume would have gone on from it", folder)
        if resume and not checkpoint.exists():
            log.warning("%s holds no checkpoint: training starts at the beginning", folder)
        yield main
        if main:
            remove_checkpoint(checkpoint)


def progress(title: str, console: Any) -> Any:
    """A context in which there is a progress bar to call after every step, or None where nobody looks on."""
    if console is None or not console.is_terminal:
        return nullcontext()
    from weft.training.callbacks import ProgressBar

    return ProgressBar(title, console)


def _write(estimator: Any, splits: Splits, folder: Path, data: str) -> dict[str, Any]:
    """The folder and its metrics: of test where there is one, else of dev."""
    name, table = ("test", splits.test) if splits.test is not None else ("dev", splits.dev)
    metrics = estimator.evaluate(texts_of(table), targets_of(table))
    record = {"split": name, "examples": len(table), name: metrics}
    if name == "test":
        record["dev"] = estimator.evaluate(texts_of(splits.dev), targets_of(splits.dev))
    estimator.save(folder, metrics=record, data=data)
    history = estimator.history_
    names = ("steps", "epochs", "best_step", "stopped", "seconds")
    training = None if history is None else {part: getattr(history, part) for part in names}
    return {"split": name, "examples": len(table), "metrics": metrics, "training": training}
