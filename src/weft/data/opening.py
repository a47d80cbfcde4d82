"""From what a user names (a dataset, a file, one for each side) to splits, saying which data are learned from, chosen by, reported on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.data import datasets
from weft.data.catalogue import DATASETS
from weft.data.conll import KINDS, is_tagged, read_tagged, read_tagged_like
from weft.data.examples import RAW, TAGGED, Splits, Table, check_trainable, split_table
from weft.data.labels import TEXT_KINDS
from weft.data.raw import read_raw, split_raw
from weft.data.readers import read, read_like
from weft.errors import InputError

log = logging.getLogger("weft")
OF_TEXTS = ("text_column", "pair_column", "label_column", "task")


def open_splits(
    data: str,
    *,
    valid: str | None = None,
    test: str | None = None,
    test_share: float = 0.1,
    dev_share: float = 0.1,
    seed: int = 0,
    **columns: Any,
) -> tuple[Splits, str]:
    """(splits, where they come from in words). `data`: a file, or a dataset's name (`weft data list`).

    valid, test: files of their own; what is not given is split off at random, by label, with `seed` (test_share=0: no test set).
    columns: text_column, pair_column, label_column, task, as `read` takes them; column and text_column, as `read_tagged` does, where
    the file has a token a line (`tagged`). Raises InputError where there is nothing to learn.
    """
    if data in DATASETS and not Path(data).exists():
        agreed = {**TEXT_KINDS, **KINDS}.get(columns.get("task") or "", columns.get("task")) in (None, DATASETS[data].task)
        if valid or test or not agreed or any(value is not None for option, value in columns.items() if option != "task"):
            raise InputError(f"{data} is a named dataset with splits and columns of its own; give a file for other ones", "DATA")
        splits = datasets.load(data)
        return splits, f"the named dataset's: {_sizes(splits)}"
    if not Path(data).exists() and data != "-":
        raise InputError(f"no such file, and no such dataset; the datasets are {', '.join(DATASETS)}", data)
    if columns.get("task") in RAW:
        return _open_raw(data, valid, test, dev_share, test_share, columns)
    whole = _read(data, labelled=True, **columns)
    check_trainable(whole)
    like = read_tagged_like if whole.task in TAGGED else read_like
    given = {
        "dev": None if valid is None else like(valid, whole, labelled=True),
        "test": None if test is None else like(test, whole, labelled=True),
    }
    shares = {"dev": dev_share if valid is None else 0.0, "test": test_share if test is None else 0.0}
    if not any(shares.values()):
        splits = Splits(whole, _there(given["dev"]), given["test"])
        return splits, f"files given: {_sizes(splits)}"
    cut = split_table(whole, dev=shares["dev"], test=shares["test"], seed=seed)
    splits = Splits(cut.train, cut.dev if valid is None else _there(given["dev"]), given["test"] if test is not None else cut.test)
    parts = " and ".join(f"{name} ({share:.0%})" for name, share in shares.items() if share)
    by = "source" if whole.task == "translation" else "label"
    note = f"{parts} split off {Path(data).name} at random, by {by}, seed {seed}: {_sizes(splits)}"
    log.info("%s", note)
    return splits, note


def _open_raw(
    data: str, valid: str | None, test: str | None, dev_share: float, test_share: float, columns: Mapping[str, Any]
) -> tuple[Splits, str]:
    """As `open_splits`, of text without labels: what is not given is cut off the end."""
    _check_raw(columns)
    whole = read_raw(data, text_column=columns.get("text_column"))
    given = [None if path is None else read_raw(path, text_column=columns.get("text_column")) for path in (valid, test)]
    dev, last = (0.0 if there is not None else share for there, share in zip(given, (dev_share, test_share), strict=True))
    splits = split_raw(whole, dev=dev, test=last) if dev or last else Splits(whole, _there(given[0]), given[1])
    splits = Splits(splits.train, given[0] or splits.dev, given[1] or splits.test)
    parts = " and ".join(f"{name} ({share:.0%})" for name, share in (("dev", dev), ("test", last)) if share)
    note = f"{parts} cut off the end of {Path(data).name}" if parts else "files given"
    log.info("%s", note)
    return splits, note


def _check_raw(columns: Mapping[str, Any]) -> None:
    """Raises InputError for a column that text without labels has not."""
    if wrong := next((name for name in ("pair_column", "label_column", "column") if columns.get(name) is not None), None):
        raise InputError("has no meaning for a language model, which reads texts alone", f"--{wrong.replace('_', '-')}")


def tagged(path: str, *, labelled: bool, **columns: Any) -> bool:
    """Whether a file is read as tagged sentences: where a column of tags or (to learn, to measure) a task of tags is asked for, else where
    it looks so and nothing else is asked for. To predict for such a task, what does not look so is raw text."""
    task = columns.get("task")
    if columns.get("pair_column") is not None or (task is not None and task not in KINDS):
        return False
    return columns.get("column") is not None or (task is not None and labelled) or is_tagged(path)


def _read(path: str, *, labelled: bool, **columns: Any) -> Table:
    """The file by `read_tagged` or `read`; for tagged ones label_column is another word for column."""
    if not tagged(path, labelled=labelled, **columns):
        if columns.get("column") is not None:
            wrong = "--pair-column" if columns.get("pair_column") is not None else f"--task {columns['task']}"
            raise InputError(f"a column of tags, one a token, does not go with {wrong}", "--column")
        return read(path, labelled=labelled, **{option: value for option, value in columns.items() if option in OF_TEXTS})
    named = [columns[option] for option in ("column", "label_column") if columns.get(option) is not None]
    if len(named) > 1:
        raise InputError("the column of tags is named twice; --column alone is enough", "--label-column")
    task, text = columns.get("task"), columns.get("text_column")
    return read_tagged(path, column=named[0] if named else None, text_column=text, task=task, labelled=labelled)


def open_as_trained(path: str, columns: Mapping[str, str], *, labelled: bool = False, **given: Any) -> Table:
    """A file read by the columns a model was trained on where it has them, else by guessing; columns that are `given` decide.

    task (as a rule the model's): tagging or spans reads what looks like tagged sentences so, and, where they need no labels, all else as
    raw text; another task never reads tagged sentences.
    """
    if given.get("task") in RAW:
        _check_raw(given)
        return read_raw(path, text_column=given.get("text_column"))
    if given.get("task") in KINDS and not tagged(path, labelled=labelled, **given):
        return read(path, labelled=False, **{option: value for option, value in given.items() if option in OF_TEXTS[:-1]})
    known: dict[str, Any] = {f"{role}_column": _number(name) for role, name in columns.items() if role != "label" or labelled}
    if Path(path).is_file() and known and not any(given.get(name) is not None for name in ("text_column", "pair_column", "label_column")):
        if given.get("column") is not None:
            known.pop("label_column", None)
        try:
            return _read(path, labelled=labelled, **{**given, **known})
        except InputError:
            pass  # other columns than in training: what is wrong, if anything is, is said by the next line
    return _read(path, labelled=labelled, **given)


def _number(name: str) -> str | int:
    return int(name) if name.isdigit() else name


def open_labelled(data: str, trained: Mapping[str, str], **columns: Any) -> tuple[Table, str]:
    """(labelled examples to measure on, what they are in words): a file, or the test set (dev where there is none) of a named dataset.

    trained: the columns the model was trained on, taken where the file has them and `columns` names none.
    """
    if data in DATASETS and not Path(data).exists():
        splits = datasets.load(data)
        return (splits.test, f"{data}'s test set") if splits.test is not None else (splits.dev, f"{data}'s development set")
    return open_as_trained(data, trained, labelled=True, **columns), data


def _there(table: Table | None) -> Table:
    assert table is not None
    return table


def _sizes(splits: Splits) -> str:
    return f"train {len(splits.train)}, dev {len(splits.dev)}" + (f", test {len(splits.test)}" if splits.test is not None else "")
