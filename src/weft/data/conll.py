"""Tagged files: CoNLL columns and CoNLL-U → a Table of sentences, each with its words and a tag a word; what was guessed is said aloud.

Columns are taken by name or by number from 1. Tags that are spans come out as BIO, whatever scheme they were written in.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weft.data import schemes
from weft.data.columns import find
from weft.data.examples import TAGGED, Example, Table
from weft.data.formats import SUFFIXES, Source
from weft.data.layouts import BLANKS, NAMES, SEPARATORS, Layout, Rows, layout_of, sentences
from weft.data.readers import count_of
from weft.errors import InputError, meant

log = logging.getLogger("weft")
TAGGED_SUFFIXES = {".conll", ".conllu", ".conllup", ".conll2000", ".conll2003", ".iob", ".iob1", ".iob2", ".bio", ".bioes", ".bilou"}
LONG, WHOLE = 20_000, 500  # tokens: a sentence that is hardly one; a file of one sentence that is hardly one
KINDS = {"tag": "tagging", "tagging": "tagging", "spans": "spans"}
Column = str | int


def read_tagged(
    path: str | os.PathLike[str],
    *,
    column: Column | Sequence[Column] | None = None,
    text_column: Column | None = None,
    task: str | None = None,
    labelled: bool | None = None,
    aloud: bool = True,
) -> Table:
    """The sentences of a file with a token a line and a blank line between sentences (.gz too; "-" is standard input), in its order.

    column: of the tags, by name or by number from 1; several ("upos,xpos" or a list): the first is Example.label, the rest Example.others.
    By default the last one; upos in CoNLL-U. text_column: of the words; by default the one that is named so (form, word, token), the second
    where the first numbers the words, else the first. task: "tagging" (tags as they are), "spans" (BIO, IOB1 or BIOES, read as BIO), or
    None to guess. labelled: True needs tags; False reads words alone; None takes tags where there is a column for them.
    aloud: False keeps what there is to say in the table's notes alone.
    Raises InputError "FILE:LINE: what, and what would be right".
    """
    if task is not None and task not in KINDS:
        raise InputError(f"there is no task {task!r} for tagged tokens; it is one of {', '.join(TAGGED)}", "--task")
    source = Source(path)
    wanted = _wanted(column)
    names = [str(name) for name in [*wanted, *([] if text_column is None else [text_column])]]
    reading = _Reading(source, layout_of(source, names), aloud)
    reading.choose(wanted, text_column, labelled)
    reading.fill()
    return reading.table(None if task is None else KINDS[task], bool(labelled))


def read_tagged_like(path: str | os.PathLike[str], table: Table, *, labelled: bool | None = None) -> Table:
    """Another tagged file read as `table` was: the same columns and task. For the development and test files beside a training file."""
    columns = None if "label" not in table.columns else [table.columns["label"], *table.others]
    task = table.task if table.task in TAGGED else None
    return read_tagged(path, column=columns, text_column=table.columns["text"], task=task, labelled=labelled)


def is_tagged(path: str | os.PathLike[str]) -> bool:
    """Whether a file has a token a line: by its name (.conll, .conllu, .bio, …), else by its first 64 KiB, with care.

    By content: rows of the same number of cells, no cell with a blank in it, blank lines between; tags in the last column that are spans
    with types, or few and coming again. Never .csv, JSON or Parquet, nor standard input or a pipe, which can be read only once.
    """
    where = Path(path)
    suffix = next((suffix.lower() for suffix in reversed(where.suffixes) if suffix.lower() != ".gz"), "")
    if suffix in TAGGED_SUFFIXES:
        return True
    try:
        if SUFFIXES.get(suffix, "tsv") != "tsv" or not where.is_file():
            return False
        text = Source(path).head.decode("utf-8-sig", "ignore")
    except (InputError, ValueError):
        return False
    return _looks_tagged(text[: text.rfind("\n") + 1] if len(text) > 1 << 15 else text)


def _looks_tagged(text: str) -> bool:
    lines = [line.strip(BLANKS) for line in re.split(r"\r\n|\n|\r", text)]
    comments = [line.startswith("#") and "\t" not in line for line in lines]
    rows = [
        line.split("\t") if "\t" in line else line.split(" ") for line, comment in zip(lines, comments, strict=True) if line and not comment
    ]
    rows = [row for row in rows if not row[0].startswith("-DOCSTART-")]
    if rows and all(cell.lower() in NAMES for cell in rows[0]):
        rows = rows[1:]
    width = len(rows[0]) if rows else 0
    if width < 2 or any(len(row) != width or not all(row) or any(" " in cell for cell in row) for row in rows):
        return False
    if width == 10 and all(re.match(r"\d", row[0]) for row in rows):
        return "\t" in text
    sizes = [len(block.split("\n")) for block in re.split(r"\n{2,}", "\n".join(lines).strip("\n"))]
    tags = Counter(row[-1] for row in rows)
    scheme = schemes.scheme_of([list(tags)])
    typed = scheme is not None and "O" in tags and any("-" in tag for tag in tags)
    if typed and len(rows) > 1:
        return True
    often = len(rows) >= 20 and len(tags) * 4 <= len(rows)
    return len(sizes) > 1 and len(rows) >= 3 * len(sizes) and (often or (scheme is not None and "O" in tags and len(tags) > 1))


def _wanted(column: Column | Sequence[Column] | None) -> list[Column]:
    """The columns asked for, in order: "upos,xpos" are two. Raises InputError for a name that is empty or comes twice."""
    given: list[Column] = [] if column is None else [column] if isinstance(column, str | int) else list(column)
    wanted = [part for one in given for part in ([part.strip() for part in one.split(",")] if isinstance(one, str) else [one])]
    if any(part == "" for part in wanted) or (column is not None and not wanted):
        raise InputError(f"an empty name among {str(column)!r}; columns are named as in upos,xpos", "--column")
    return wanted


class _Reading:
    """One file being read: which columns count, what has come so far."""

    def __init__(self, source: Source, layout: Layout, aloud: bool) -> None:
        self.source, self.layout, self.aloud = source, layout, aloud
        self.name = source.name
        self.notes: list[str] = []
        self.words: list[tuple[str, ...]] = []
        self.tags: list[list[tuple[str, ...]]] = []  # by column, then sentence
        self.lines: list[list[int]] = []

    def say(self, message: str, level: int = logging.INFO) -> None:
        """Log it, and keep it with the table."""
        if self.aloud:
            log.log(level, "%s: %s", self.name, message)
        self.notes.append(message)

    def choose(self, wanted: Sequence[Column], text: Column | None, labelled: bool | None) -> None:
        """Which column holds the words, and which the tags (none where only words are asked for, or there is no other column)."""
        layout = self.layout
        self.text = layout.word_column if text is None else self._find(text, "--text-column")
        self.columns: list[int] = []
        if labelled is False:
            return
        self.columns = [self._find(one, "--column") for one in wanted]
        if not wanted:
            last = layout.width - 1 if layout.width - 1 != self.text else layout.width - 2
            plain = [name.lower() for name in layout.names]
            self.columns = [plain.index("upos")] if "upos" in plain and layout.conllu else [last] if last >= 0 else []
        if not self.columns and labelled:
            message = "has one column, of words; training and measuring need one of tags beside it"
            raise InputError(message, self._first())
        twice = next((one for one in self.columns if self.columns.count(one) > 1 or one == self.text), None)
        if twice is not None:
            raise InputError(f"column {layout.fields[twice]!r} is named for two purposes; each needs a column of its own", self._first())

    def _find(self, wanted: Column, option: str) -> int:
        try:
            return find(self.layout.fields, wanted, option, self._first())
        except InputError as error:
            hint = "" if str(wanted).isdigit() else meant(str(wanted).lower(), [name.lower() for name in self.layout.names])
            if not hint and not self.layout.names and not str(wanted).isdigit():
                hint = "; the file has no names for them, they are numbered from 1"
            raise InputError(error.message + hint, error.place) from None

    def _first(self) -> str:
        return f"{self.name}:{max(1, self.layout.header)}"

    def fill(self) -> None:
        """Read all sentences."""
        self.tags = [[] for _ in self.columns]
        for rows in sentences(self.source, self.layout):
            words = tuple(cells[self.text].strip() for _, cells in rows)
            self.lines.append([line for line, _ in rows])
            self.words.append(words)
            if not all(words):
                raise InputError(f"the word is empty (column {self.layout.fields[self.text]!r})", self._place(-1, words.index("")))
            for column, kept in zip(self.columns, self.tags, strict=True):
                kept.append(self._tags(rows, column))

    def _tags(self, rows: Rows, column: int) -> tuple[str, ...]:
        tags = tuple(cells[column].strip() for _, cells in rows)
        if not all(tags):
            what = f"the tag is empty (column {self.layout.fields[column]!r}); every word needs one, O where it is in no span"
            raise InputError(what, self._place(-1, tags.index("")))
        return tags

    def _place(self, sentence: int, token: int) -> str:
        return f"{self.name}:{self.lines[sentence][token]}"

    def table(self, task: str | None, labelled: bool) -> Table:
        """The table of what was read; what was guessed, passed over and repaired is said."""
        if not self.words:
            raise InputError("there is no token in the file; one a line was expected, a blank line between sentences", self.name)
        fields = self.layout.fields
        bare = all(tag == "_" for tags in self.tags[:1] for sentence in tags for tag in sentence)
        if self.columns and bare and labelled:
            raise InputError(f"every tag of column {fields[self.columns[0]]!r} is _; the file has none there", self._place(0, 0))
        if bare:
            self.columns, self.tags, task = [], [], "unlabelled"
        scheme = None
        if task == "spans" or task is None:
            scheme = schemes.scheme_of(self.tags[0])
            task = task or ("spans" if scheme else "tagging")
        self._say_layout(fields)
        if task == "spans":
            self._spans(scheme)
        elif task == "tagging":
            self._say_tags()
        labels: Sequence[Any] = self.tags[0] if self.tags else [None] * len(self.words)
        others: Sequence[Any] = list(zip(*self.tags[1:], strict=True)) if len(self.tags) > 1 else [()] * len(self.words)
        examples = [
            Example(" ".join(words), label, None, lines[0], words, further)
            for words, label, lines, further in zip(self.words, labels, self.lines, others, strict=True)
        ]
        chosen = [fields[column] for column in self.columns]
        columns = {"text": fields[self.text]} | ({"label": chosen[0]} if chosen else {})
        return Table(examples, task, self.name, columns, self.notes, fields, tuple(chosen[1:]))

    def _spans(self, scheme: str | None) -> None:
        """The first column's tags as legal BIO; illegal ones are repaired, with a count."""
        if scheme is None:
            strange = ((s, t) for s, tags in enumerate(self.tags[0]) for t, tag in enumerate(tags) if schemes.parts(tag) is None)
            place = next(strange, None)
            if place is not None:
                tag = self.tags[0][place[0]][place[1]]
                raise InputError(
                    f"{tag!r} is no tag of spans (O, B-X, I-X, or also E-X and S-X); --task tagging takes any", self._place(*place)
                )
            scheme = "BIOES"
        wrong, first = 0, ""
        for sentence, tags in enumerate(self.tags[0]):
            places = schemes.illegal(tags, scheme)
            if places and not wrong:
                first = f"{tags[places[0]]} in line {self.lines[sentence][places[0]]}"
            wrong += len(places)
            if places or scheme != "BIO":
                self.tags[0][sentence] = tuple(schemes.repaired(tags, scheme)[0])
        spans = Counter(tag[2:] for tags in self.tags[0] for tag in tags if tag[0] == "B")
        written = "BIO" if scheme == "BIO" else f"{scheme}, read as BIO"
        types = f" of {count_of(len(spans), 'type')}" if len(spans) > 1 else ""
        self.say(f"the tags are spans in {written}: {count_of(sum(spans.values()), 'span')}{types}")
        if wrong:
            said = f"{count_of(wrong, 'illegal tag')} by the rules of {scheme} (the first: {first}), read as conlleval does and repaired"
            self.say(said, logging.WARNING)

    def _say_tags(self) -> None:
        """How many tags there are; which are spans all the same; how many are CoNLL-U's _ for nothing."""
        for column, tags in zip(self.columns, self.tags, strict=True):
            counts = Counter(tag for sentence in tags for tag in sentence)
            name = self.layout.fields[column]
            self.say(f"column {name!r} has {count_of(len(counts), 'tag')}")
            if counts["_"] and self.layout.conllu and name.lower() != "feats":
                place = next((s, sentence.index("_")) for s, sentence in enumerate(tags) if "_" in sentence)
                first = self.lines[place[0]][place[1]]
                said = (
                    f"{counts['_']:,} of {counts.total():,} tags of {name!r} are _, which stands for none (the first in line {first}): kept"
                )
                self.say(said, logging.WARNING)
        scheme = schemes.scheme_of(self.tags[0])
        if scheme:
            self.say(f"the tags are spans in {scheme}, and are learnt as plain tags; --task spans learns and measures spans")

    def _say_layout(self, fields: Sequence[str]) -> None:
        layout, tokens = self.layout, sum(map(len, self.words))
        tags = f", tags in {', '.join(repr(fields[column]) for column in self.columns)}" if self.columns else ""
        form = "CoNLL-U" if layout.conllu else f"cells parted by {SEPARATORS[layout.separator]}"
        what = f"{count_of(len(self.words), 'sentence')}, {count_of(tokens, 'token')}; {form}; words in column {fields[self.text]!r}{tags}"
        self.say(what)
        passed = [count_of(number, kind) for kind, number in layout.passed.items() if number]
        if passed:
            self.say(f"passed over: {', '.join(passed)}")
        longest = max(range(len(self.words)), key=lambda place: len(self.words[place]))
        size = len(self.words[longest])
        if size >= LONG or (len(self.words) == 1 and size > WHOLE):
            said = f"no blank line in {size:,} tokens from line {self.lines[longest][0]} on; is this one sentence?"
            self.say(said, logging.WARNING)
