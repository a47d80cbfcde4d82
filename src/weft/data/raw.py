"""Text without labels, for language models: a file → a Table of one text or of several, and the end of them cut off for development.

A plain file is one text, its line ends and all; of a table (CSV, TSV, JSON lines, Parquet) every row's text is one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from weft.data.examples import RAW, Example, Splits, Table
from weft.data.formats import SUFFIXES, Source
from weft.data.readers import count_of, read
from weft.errors import InputError

log = logging.getLogger("weft")


def read_raw(path: str | os.PathLike[str], *, text_column: str | int | None = None, aloud: bool = True) -> Table:
    """The texts of a file. Raises InputError where there is nothing but blanks, and for a column of a file that has none."""
    source = Source(path)
    suffix = next((one.lower() for one in reversed(source.path.suffixes) if one.lower() != ".gz"), "")
    if text_column is not None or suffix in SUFFIXES:
        found = read(path, text_column=text_column, labelled=False, aloud=aloud)
        columns = {role: name for role, name in found.columns.items() if role == "text"}
        table = replace(found, task=RAW[0], columns=columns, examples=[Example(one.text, line=one.line) for one in found.examples])
    else:
        table = Table([Example("".join(source.lines()).replace("\r\n", "\n"), line=1)], RAW[0], source.name)
    if not any(text.strip() for text in table.texts):
        raise InputError("there is no text in it", source.name)
    size = sum(map(len, table.texts))
    level = logging.INFO if aloud else logging.DEBUG
    log.log(level, "%s: %s, %s in all", source.name, count_of(len(table), "text"), count_of(size, "character"))
    return table


def cut_end(texts: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """(all but the last, the last `share`): of one text its last characters, of several the last texts; at least one of each.

    Raises InputError where there is too little to cut, or a share that is none.
    """
    if not 0 < share < 1:
        raise InputError(f"must be above 0 and below 1, not {share}", "validation_fraction")
    if len(texts) == 1:
        whole = texts[0]
        place = int(len(whole) * (1 - share) + 1e-9)
        parts = [whole[:place]], [whole[place:]]
    else:
        place = min(max(1, round(len(texts) * (1 - share))), len(texts) - 1)
        parts = list(texts[:place]), list(texts[place:])
    if not all(any(text.strip() for text in part) for part in parts):
        raise InputError("is too short to set a part of it aside; give development data of its own", "texts")
    return parts


def split_raw(table: Table, *, dev: float, test: float) -> Splits:
    """A table's end as development data, and what comes after that, where `test` is above 0, to test on."""
    rest, held = table.texts, []
    for name, share in (("test", test), ("dev", dev / (1 - test))):
        if share:
            rest, part = cut_end(rest, share)
            held.append((name, part))
    made = {name: replace(table, examples=[Example(text) for text in part], name=f"{table.name} ({name})") for name, part in held}
    train = replace(table, examples=[Example(text) for text in rest], name=f"{table.name} (train)")
    empty = replace(table, examples=[], name=f"{table.name} (dev)")
    return Splits(train, made.get("dev", empty), made.get("test"))
