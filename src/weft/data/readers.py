"""Readers: a file of texts, of pairs, labelled or not → a Table, its columns guessed and said aloud.

CSV, TSV, JSON lines, Parquet, `__label__` lines, plain lines, and gzip of each. The caller's word on columns and task decides.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from weft.data.columns import Columns, choose, choose_translation, find, has_header, has_translation_header, looks_translated
from weft.data.examples import Example, Table
from weft.data.formats import Row, Source, csv_rows, json_records, labelled_rows, line_rows, long_fields, parquet_rows, tsv_rows
from weft.data.labels import TEXT_KINDS, check_none_empty, no_such_task, settle
from weft.errors import InputError

log = logging.getLogger("weft")
SAMPLE = 1000  # rows that a guess looks at


def read(
    path: str | os.PathLike[str],
    *,
    text_column: str | int | None = None,
    pair_column: str | int | None = None,
    label_column: str | int | None = None,
    task: str | None = None,
    labelled: bool | None = None,
    aloud: bool = True,
) -> Table:
    """The examples of a file, in its order. Columns by name or by number from 1; those not given are guessed.

    path: .csv .tsv .jsonl .json .parquet .txt, or any of them with .gz; other names are known by their content; "-" is standard
    input. task: "classification", "multi-label", "regression", "translation" ("translate" says the same; the text is the source, the
    label the target), or None to guess. labelled: True needs labels (to train, to evaluate); False leaves them out, and a label
    column is not needed (to predict); None takes them where there are some.
    Lines are counted from 1; in Parquet they are rows. Lone surrogates become U+FFFD; empty texts are kept; both are said with a count.
    aloud: False keeps what there is to say in the table's notes alone.
    Raises InputError "FILE:LINE: what, and what would be right"; MissingExtra for Parquet without pyarrow.
    """
    if task is not None and task not in TEXT_KINDS:
        raise no_such_task(task)
    source = Source(path)
    wanted = {"--text-column": text_column, "--pair-column": pair_column, "--label-column": label_column}
    with long_fields():
        given = {option: name for option, name in wanted.items() if name is not None}
        reading = _Reading(source, given, None if task is None else TEXT_KINDS[task], labelled, aloud)
        reading.fill()
    return reading.table()


def read_like(path: str | os.PathLike[str], table: Table, *, labelled: bool | None = None) -> Table:
    """Another file read as `table` was: the same columns and task. For the development and test files beside a training file."""
    task = None if table.task == "unlabelled" else table.task
    text, pair, label = (table.columns.get(role) for role in ("text", "pair", "label"))
    return read(path, text_column=text, pair_column=pair, label_column=label, task=task, labelled=labelled)


class _Reading:
    """One file being read: what its rows are, which columns count, what has come so far."""

    def __init__(self, source: Source, wanted: dict[str, str | int], task: str | None, labelled: bool | None, aloud: bool) -> None:
        self.source, self.wanted, self.task, self.labelled, self.aloud = source, wanted, task, labelled, aloud
        if task == "translation" and "--pair-column" in wanted:
            message = "a translation has a source (--text-column) and a target (--label-column); pairs are for texts that are compared"
            raise InputError(message, "--pair-column")
        self.notes: list[str] = []
        self.texts: list[str] = []
        self.pairs: list[str] = []
        self.cells: list[Any] = []
        self.lines: list[int] = []
        self.repaired = self.blank = 0
        self.kind = source.kind
        self.names, self.rows = self._open()

    def say(self, message: str, level: int = logging.INFO) -> None:
        """Log it, and keep it with the table."""
        if self.aloud:
            log.log(level, "%s: %s", self.source.name, message)
        self.notes.append(message)

    def _open(self) -> tuple[list[str], Iterator[Row]]:
        """The names of the columns, and the rows below the header if there is one."""
        if self.kind == "parquet":
            return parquet_rows(self.source)
        if self.kind in ("json", "jsonl"):
            return self._open_json()
        if self.kind in ("labelled", "lines"):
            return self._open_lines()
        rows = csv_rows(self.source) if self.kind == "csv" else tsv_rows(self.source)
        head = list(islice(rows, SAMPLE))
        filled = [cells for _, cells in head if any(cells)]
        if not filled:
            raise InputError("there are only blank rows; a row for each example was expected", self.source.name)
        start = next(place for place, (_, cells) in enumerate(head) if any(cells))
        first, rest = filled[0], [cells for cells in filled[1:] if len(cells) == len(filled[0])]
        if self._is_header(first, rest):
            return [name.strip() or str(place) for place, name in enumerate(first, start=1)], chain(head[start + 1 :], rows)
        self.say("no header was recognised in the first row: it is data, and columns are numbered from 1")
        return [str(place) for place in range(1, len(first) + 1)], chain(head[start:], rows)

    def _is_header(self, first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
        names = [str(name) for name in self.wanted.values() if not str(name).isdigit()]
        if names and all(any(cell.strip().lower() == name.strip().lower() for cell in first) for name in names):
            return True
        if self.task == "translation":
            return has_translation_header(first, rest, labelled=self.labelled)
        return has_header(first, rest)

    def _open_json(self) -> tuple[list[str], Iterator[Row]]:
        records = json_records(self.source)
        head = list(islice(records, SAMPLE))
        names = list(dict.fromkeys(name for _, record in head for name in record))
        if not names:
            raise InputError("the objects are empty; texts were expected in them", self.source.name)
        return names, ((line, [record.get(name) for name in names]) for line, record in chain(head, records))

    def _open_lines(self) -> tuple[list[str], Iterator[Row]]:
        if self.wanted:
            option = next(iter(self.wanted))
            raise InputError(f"{option} was given, but the file has no columns: it holds plain or __label__ lines", self.source.name)
        translation = self.task == "translation"
        if self.kind == "labelled" and not translation:
            return ["text", "label"], labelled_rows(self.source)
        if self.labelled:
            what, form = "labels", "begins with __label__NAME, or is NAME, a tab and the text"
            if translation:
                what, form = "targets", "is a source, a tab and its target"
            message = f"the lines have no {what}; each {form}, or use CSV, TSV or JSON lines"
            raise InputError(message, f"{self.source.name}:1")
        return ["text"], line_rows(self.source)

    def _choose(self, sample: Sequence[Row]) -> Columns:
        """Columns by name or guess; what was chosen is said."""
        name, rows = self.source.name, [cells for _, cells in sample if len(cells) == len(self.names)]
        if self.kind == "labelled" and self.task != "translation":
            return Columns(0, None, 1)
        if self.kind in ("lines", "labelled"):
            return Columns(0)
        given = [self.wanted.get(option) for option in ("--text-column", "--pair-column", "--label-column")]
        for option, wanted in self.wanted.items():
            find(self.names, wanted, option, f"{name}:1")
        if not rows:
            raise InputError("there is a header and no row below it that fits; a row for each example was expected", f"{name}:1")
        if self.task is None and not self.wanted and looks_translated(self.names, rows):
            self.task = "translation"
            self.say("columns 'source' and 'target' are taken for texts and what they become; --task decides otherwise")
        if self.task == "translation":
            columns = choose_translation(self.names, text=given[0], label=given[2], labelled=self.labelled, place=f"{name}:1")
        else:
            columns = choose(self.names, rows, text=given[0], pair=given[1], label=given[2], labelled=self.labelled, place=f"{name}:1")
        for message in columns.said:
            self.say(message)
        return columns

    def fill(self) -> None:
        """Read all rows."""
        sample = list(islice(self.rows, SAMPLE))
        if not sample:
            raise InputError("there is a header and nothing below it; a row for each example was expected", f"{self.source.name}:1")
        self._check_widths(sample)
        self.columns = self._choose(sample)
        text, pair = self.columns.text, self.columns.pair
        label = None if self.labelled is False else self.columns.label
        width = len(self.names)
        keep_blank = self.kind not in ("csv", "tsv") or width == 1  # an empty text is a text; a row of empty cells is none
        for line, cells in chain(sample, self.rows):
            if len(cells) != width or not (keep_blank or any(cells)):
                self._check_width(line, cells)
                self.blank += 1
                continue
            self.texts.append(self._text(cells[text], line))
            self.lines.append(line)
            if pair is not None:
                self.pairs.append(self._text(cells[pair], line))
            if label is not None:
                self.cells.append(cells[label])

    def _check_widths(self, rows: Sequence[Row]) -> None:
        for line, cells in rows:
            if len(cells) != len(self.names):
                self._check_width(line, cells)

    def _check_width(self, line: int, cells: Sequence[Any]) -> None:
        """Raises InputError for a row of another width than the first; a blank row is let pass."""
        if not any(cells):
            return
        hint = (
            "a field that holds the delimiter or a line end goes in double quotes" if self.kind == "csv" else "a text holds no tab itself"
        )
        message = f"{count_of(len(cells), 'cell')} where the first row has {len(self.names)}; every row needs the same number, and {hint}"
        raise InputError(message, f"{self.source.name}:{line}")

    def _text(self, cell: Any, line: int) -> str:
        if not isinstance(cell, str):
            if isinstance(cell, list | dict | bytes):
                raise InputError(f"the text is a {type(cell).__name__}; a string was expected", f"{self.source.name}:{line}")
            return "" if cell is None else str(cell)
        if self.kind in ("csv", "tsv", "lines", "labelled") or cell.isascii():
            return cell  # what was decoded from UTF-8 holds no surrogates
        mended = mend(cell)
        self.repaired += mended != cell
        return mended

    def table(self) -> Table:
        """The table of what was read; what was guessed, kept and repaired is said."""
        if not self.texts:
            raise InputError("there are no examples in the file; a row for each was expected", self.source.name)
        labels: Sequence[Any] = [None] * len(self.texts)
        settled = "unlabelled"
        if self.cells and (self.labelled or any(cell not in (None, "", []) for cell in self.cells)):
            cells = [_mended(cell) for cell in self.cells] if self.kind in ("json", "jsonl") else self.cells
            if self.kind == "labelled" and all(cell is None or len(cell) == 1 for cell in cells):
                cells = [cell and cell[0] for cell in cells]
            labels, settled, said = settle(cells, self.lines, self.task, self.source.name)
            for message in said:
                self.say(message)
        if settled == "translation":
            empty = [line for line, text in zip(self.lines, self.texts, strict=True) if not text or text.isspace()]
            check_none_empty(empty, len(self.texts), "source", self.source.name)
        pairs: Sequence[str | None] = self.pairs or [None] * len(self.texts)
        rows = zip(self.texts, labels, pairs, self.lines, strict=True)
        examples = [Example(text, label, pair, line) for text, label, pair, line in rows]
        roles = {"text": self.columns.text, "pair": self.columns.pair, "label": self.columns.label}
        if settled == "unlabelled":
            roles["label"] = None
        fields = () if self.kind in ("labelled", "lines") else tuple(self.names)
        columns = {role: self.names[place] for role, place in roles.items() if place is not None} if fields else {}
        made = Table(examples, settled, self.source.name, columns, self.notes, fields)
        self._say_all(made)
        return made

    def _say_all(self, table: Table) -> None:
        columns = ", ".join(f"{role} {name!r}" for role, name in table.columns.items())
        classes = f" of {count_of(len(table.classes), 'class')}" if table.classes else ""
        self.say(f"{count_of(len(table), 'example')}, {table.task}{classes}" + (f"; columns: {columns}" if columns else ""))
        for what, texts in (("texts", self.texts), ("second texts", self.pairs)):
            empty = [line for line, text in zip(self.lines, texts, strict=False) if not text or text.isspace()]
            if empty:
                self.say(f"{len(empty)} of {len(texts)} {what} are empty (the first in line {empty[0]}): kept", logging.WARNING)
        if self.repaired:
            self.say(f"lone surrogates in {count_of(self.repaired, 'text')} are no characters: replaced with U+FFFD", logging.WARNING)
        if self.blank:
            self.say(f"{count_of(self.blank, 'blank row')} passed over", logging.WARNING)


def mend(text: str) -> str:
    """The text with U+FFFD for each lone surrogate (halves of a character, which no encoding can write)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _mended(cell: Any) -> Any:
    if isinstance(cell, list):
        return [_mended(item) for item in cell]
    return mend(cell) if isinstance(cell, str) else cell


def count_of(number: int, what: str) -> str:
    """ "1 example", "1,200 examples", "2 classes"."""
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{number:,} {what if number == 1 else plural}"
