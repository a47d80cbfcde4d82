"""Labels: the cells of a label column → classes, sets of classes or numbers; the task guessed from all of them, decided by the caller."""

from __future__ import annotations

import ast
import json
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from weft.data.columns import is_number
from weft.data.examples import RAW, TAGGED, TASKS, Label
from weft.errors import InputError

SEPARATORS = "|;,"
TEXT_TASKS = tuple(task for task in TASKS if task not in TAGGED + RAW)  # a label a text
TEXT_KINDS = {**{task: task for task in TEXT_TASKS}, "translate": "translation"}  # what callers may say → the task
FEW_INTEGERS = 20  # as many different whole numbers are classes however few the rows
FEW_FRACTIONS = 10  # as many different fractions are classes (half stars), where each comes twice on average


def no_such_task(task: str) -> InputError:
    """The refusal of a task, with those that there are, as the command line spells them."""
    names = ", ".join("translate" if one == "translation" else one for one in TEXT_TASKS)
    return InputError(
        f"there is no task {task!r}; it is one of {names}, tag or spans for a word a line, or language-model for text without labels",
        "--task",
    )


def settle(cells: Sequence[Any], lines: Sequence[int], task: str | None, name: str) -> tuple[list[Label], str, list[str]]:
    """Labels from the column's cells (str, None, number, or list of those), their task, and what to say aloud of it.

    task: "classification", "multi-label", "regression", "translation", or None to guess one of the first three. A blank cell is an
    empty set for multi-label. Targets of translation stay as they are written; a list (JSON, Parquet) is of targets that are all right.
    Raises InputError "FILE:LINE: …" where labels are missing or cannot be what the task needs.
    """
    if task is not None and task not in TEXT_TASKS:
        raise no_such_task(task)
    said: list[str] = []
    if task == "translation":
        return _targets(cells, lines, name), task, said
    cells = [_unpacked(cell) for cell in cells]
    separator = None
    if task in (None, "multi-label") and not any(isinstance(cell, list) for cell in cells):
        separator = _separator(cells, said, sure=task == "multi-label")
    if task is None:
        task = "multi-label" if separator or any(isinstance(cell, list) for cell in cells) else _single(cells, said)
    if task == "multi-label":
        return _sets(cells, separator, said), task, said
    _check_filled(cells, lines, name)
    if task == "regression":
        return [_number(cell, f"{name}:{line}") for cell, line in zip(cells, lines, strict=True)], task, said
    return [_class(cell, f"{name}:{line}") for cell, line in zip(cells, lines, strict=True)], task, said


def _unpacked(cell: Any) -> Any:
    """Stripped text, None for a blank, a list of names; a list written out (JSON's way or Python's) is read."""
    if isinstance(cell, str):
        text = cell.strip()
        if text[:1] == "[" and text[-1:] == "]":
            found = _written_list(text)
            return text if found is None else found
        return text or None
    if isinstance(cell, list | tuple):
        return [name for item in cell if (name := _unpacked(item) if not isinstance(item, list | tuple | dict) else str(item)) is not None]
    if isinstance(cell, bool):
        return str(cell).lower()
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    return str(cell)


def _written_list(text: str) -> list[str] | None:
    if len(text) > 100_000:
        return None
    for read in (json.loads, ast.literal_eval):  # literal_eval reads constants alone, it runs nothing
        try:
            with warnings.catch_warnings(action="ignore"):  # Python's remarks on odd escapes are not for the caller
                found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list) and all(isinstance(item, str | int | float) for item in found):
            return [str(item).strip() for item in found if str(item).strip()]
    return None


def _separator(cells: Sequence[Any], said: list[str], *, sure: bool) -> str | None:
    """The mark between several labels of a cell: one whose parts, short names all, come again in other combinations."""
    kinds = Counter(cell for cell in cells if cell is not None)
    for mark in SEPARATORS:
        joined = [cell for cell in kinds if mark in cell]
        if not joined:
            continue
        if sure:
            return mark
        parts = [[part.strip() for part in cell.split(mark)] for cell in kinds]
        every = Counter(part for cell in parts for part in set(cell))
        tidy = all(part and len(part) <= 40 and len(part.split()) <= 3 for cell in parts for part in cell)
        again = len(every) < len(kinds) if mark == "," else any(every[part] > 1 for cell in parts if len(cell) > 1 for part in cell)
        if tidy and again and not all(map(is_number, kinds)):
            said.append(f"labels with {mark!r} are read as several labels; --task classification keeps them whole")
            return mark
        if tidy and mark != ",":
            said.append(f"{len(joined)} different labels hold {mark!r} and are kept whole; --task multi-label takes them apart")
    return None


def _single(cells: Sequence[Any], said: list[str]) -> str:
    """classification or regression: numbers that are many, or mostly fractions, are regression's."""
    kinds = {cell for cell in cells if cell is not None}
    rows = sum(cell is not None for cell in cells)
    if not kinds or not all(map(is_number, kinds)):
        if len(kinds) * 2 > rows >= 20:
            said.append(f"{len(kinds)} different labels in {rows} rows: is it the labels' column? --label-column decides")
        return "classification"
    whole = all(float(cell).is_integer() for cell in kinds if math.isfinite(float(cell)))
    if whole:
        few = len(kinds) <= FEW_INTEGERS or (len(kinds) <= 200 and len(kinds) * 20 <= rows)
    else:
        few = len(kinds) <= FEW_FRACTIONS and len(kinds) * 2 <= rows
    kind, other = ("classification", "regression") if few else ("regression", "classification")
    said.append(
        f"the labels are {len(kinds)} different numbers: taken as {'classes' if few else 'quantities'}; --task {other} decides otherwise"
    )
    return kind


def _sets(cells: Sequence[Any], separator: str | None, said: list[str]) -> list[Label]:
    """Sorted tuples of names without repeats; blank cells are empty sets."""
    made: list[Label] = []
    for cell in cells:
        if isinstance(cell, list):
            made.append(tuple(sorted(set(cell))))
        elif cell is None:
            made.append(())
        else:
            parts = cell.split(separator) if separator else [cell]
            made.append(tuple(sorted({part.strip() for part in parts} - {""})))
    if empty := sum(not label for label in made):
        said.append(f"{empty} of {len(made)} examples have no label at all: kept, as examples of none")
    return made


def _check_filled(cells: Sequence[Any], lines: Sequence[int], name: str) -> None:
    missing = [line for cell, line in zip(cells, lines, strict=True) if cell is None]
    if missing:
        count = (
            f"the label is missing here, and in {len(missing) - 1} more of {len(cells)} rows"
            if len(missing) > 1
            else "the label is missing"
        )
        raise InputError(f"{count}; label the rows or take them out", f"{name}:{missing[0]}")


def _targets(cells: Sequence[Any], lines: Sequence[int], name: str) -> list[Label]:
    """Targets as they stand. Raises InputError for the first that is empty, with how many more there are, and for what is no text."""
    made: list[Label] = []
    empty: list[int] = []
    for cell, line in zip(cells, lines, strict=True):
        items = cell if isinstance(cell, list | tuple) else [cell]
        if any(isinstance(item, dict | list | bytes) for item in items):
            raise InputError(f"the target is {_short(cell)}; a string was expected, or a list of strings", f"{name}:{line}")
        texts = tuple(dict.fromkeys("" if item is None else str(item) for item in items))
        if not texts or any(not text or text.isspace() for text in texts):
            empty.append(line)
        made.append(texts[0] if len(texts) == 1 else texts)
    check_none_empty(empty, len(cells), "target", name)
    return made


def check_none_empty(lines: Sequence[int], count: int, what: str, name: str) -> None:
    """Raises InputError where a source or a target is empty, at the first of `lines`; count: of all rows."""
    if lines:
        more = f" here, and in {len(lines) - 1:,} more of {count:,} rows" if len(lines) > 1 else ""
        raise InputError(f"the {what} is empty{more}; every row needs a source and a target: fill it or take it out", f"{name}:{lines[0]}")


def _number(cell: Any, place: str) -> float:
    if isinstance(cell, str) and is_number(cell) and math.isfinite(float(cell)):
        return float(cell)
    raise InputError(f"the label {_short(cell)} is no finite number, as regression needs; --task classification takes names", place)


def _class(cell: Any, place: str) -> str:
    if isinstance(cell, str):
        return cell
    if len(cell) == 1:
        return str(cell[0])
    raise InputError(f"the labels {_short(cell)} are not one; --task multi-label takes several", place)


def _short(cell: Any) -> str:
    return repr(cell) if len(repr(cell)) <= 60 else repr(cell)[:57] + "…"
