"""Layouts: a file with a token a line → sentences of rows of cells, each row with its line.

CoNLL columns (between tabs, or between blanks; a blank line ends a sentence), CoNLL-U, CoNLL-U Plus (`# global.columns = …`), a column of
words alone. How cells are parted is decided once a file, from its first lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from weft.data.formats import Source
from weft.errors import InputError

Rows = list[tuple[int, list[str]]]  # a sentence: line and cells of each token
SAMPLE = 2000  # lines that a guess looks at
CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
WORDS = ("form", "word", "words", "token", "tokens", "text")
OTHERS = (
    "index",
    "number",
    "tag",
    "tags",
    "label",
    "labels",
    "pos",
    "pos_tag",
    "pos_tags",
    "chunk",
    "chunks",
    "ner",
    "ner_tag",
    "ner_tags",
    "entity",
)
NAMES = {*CONLLU, *WORDS, *OTHERS}
BLANKS = " \t\r\n"
SPACES = re.compile(r"[ \t]+")
PAIR = re.compile(r"#\s*[\w.:-]+\s+=(\s|$)")  # `# sent_id = 7`
GLOBAL = re.compile(r"#\s*global\.columns\s*=\s*(.+)")
RANGE, EMPTY, NUMBER = (re.compile(text, re.ASCII) for text in (r"\d+-\d+", r"\d+\.\d+", r"\d+"))
SEPARATORS = {"\t": "tabs", " ": "spaces", "": "nothing: one column"}


@dataclass
class Layout:
    """How a file's lines are read.

    separator: a tab, a space (any run of blanks), or "" for one column. width: cells a row. names: of the columns, () where there are none.
    header: the line of a row of names, 0 without. numbered: the first column numbers the words. conllu: CoNLL-U's ten columns.
    passed: what was passed over, by kind.
    """

    separator: str
    width: int
    names: tuple[str, ...] = ()
    header: int = 0
    numbered: bool = False
    conllu: bool = False
    passed: Counter[str] = field(default_factory=Counter)

    def cells(self, line: str) -> list[str]:
        """The cells of a line."""
        return _cells(line, self.separator)

    def comment(self, line: str, cells: Sequence[str]) -> bool:
        """Whether a line that begins with # is no token: always in CoNLL-U; else where it has no tab, no second column, or, between blanks,
        where it is `# key = value` or has another number of cells than the file."""
        if self.conllu:
            return True
        if self.separator == " ":
            return len(cells) != self.width or bool(PAIR.match(line))
        return len(cells) == 1 and (self.separator == "\t" or bool(SPACES.search(line.strip(BLANKS))))

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the columns, their numbers from 1 where they have none."""
        return self.names or tuple(str(place) for place in range(1, self.width + 1))

    @property
    def word_column(self) -> int:
        """Where the words are, from 0: the column named so, the second where the first numbers them, else the first."""
        plain = [name.lower() for name in self.names]
        named = next((plain.index(name) for name in WORDS if name in plain), None)
        return named if named is not None else int(self.numbered and self.width > 1)


def layout_of(source: Source, wanted: Sequence[str] = ()) -> Layout:
    """The layout of a file, from its first lines. wanted: names that a row of names would have.

    Raises InputError where there are only comments and blank lines, and for .conllu files without ten columns.
    """
    lines = list(islice(enumerate(source.lines(), start=1), SAMPLE))
    filled = [(number, line) for number, line in lines if line.strip(BLANKS) and not line.startswith("-DOCSTART-")]
    rows = [(number, line) for number, line in filled if not line.startswith("#") or "\t" in line]
    if not rows:
        what = "comments (lines that begin with #)" if filled else "blank lines"
        raise InputError(f"there are only {what}; a token a line was expected, a blank line between sentences", source.name)
    separator = _separator([line for _, line in rows])
    if separator != "\t":
        rows = [(number, line) for number, line in filled if not PAIR.match(line)] or rows
    cells = [(number, _cells(line, separator)) for number, line in rows]
    counted = Counter(len(row) for _, row in cells)
    width = max(counted, key=lambda one: counted[one])
    given = next((found[1].split() for _, line in lines if (found := GLOBAL.match(line.strip(BLANKS)))), None)
    if given is not None:
        plain = [name.lower() for name in given]
        return Layout(separator, len(given), tuple(given), numbered=plain[0] == "id", conllu=separator == "\t")
    suffixes = [suffix.lower() for suffix in source.path.suffixes if suffix.lower() != ".gz"]
    tens = [row for _, row in cells if len(row) == 10 and re.match(r"\d+([-.]\d+)?$", row[0], re.ASCII)]
    if suffixes[-1:] in ([".conllu"], [".conllup"]) or (separator == "\t" and width == 10 and len(tens) == len(cells)):
        if separator != "\t":
            raise InputError("has no tabs; CoNLL-U has 10 columns, with tabs between", f"{source.name}:{cells[0][0]}")
        return Layout(separator, 10, CONLLU, numbered=True, conllu=True)
    first, names = cells[0]
    if _is_header(names, wanted) and len(cells) > 1:
        return Layout(separator, len(names), tuple(names), header=first, numbered=names[0].lower() == "id")
    return Layout(separator, width, numbered=width > 2 and _counts_up(lines, separator))


def sentences(source: Source, layout: Layout) -> Iterator[Rows]:
    """The sentences of a file, one at a time; counts in layout.passed what is passed over.

    Raises InputError "FILE:LINE: …" for a row with another number of cells than the file has.
    """
    rows: Rows = []
    count = layout.passed
    between = True  # no token yet since the last blank line: the next is one too many
    for number, line in enumerate(source.lines(), start=1):
        if not line.strip(BLANKS):
            count["extra blank line"] += between
            between = True
        elif number == layout.header:
            continue
        elif line.startswith("-DOCSTART-"):
            count["-DOCSTART- line"] += 1
            between = True
        else:
            cells = layout.cells(line)
            if line.startswith("#") and layout.comment(line, cells):
                count["comment line"] += 1
                continue
            if len(cells) != layout.width:
                raise _ragged(line, cells, layout, f"{source.name}:{number}")
            if layout.numbered and (kind := _no_word(cells[0])):
                count[kind] += 1
                continue
            between = False
            rows.append((number, cells))
            continue
        if rows:
            yield rows
            rows = []
    if rows:
        yield rows


def _cells(line: str, separator: str) -> list[str]:
    if separator == "\t":
        return line.rstrip("\r\n").split("\t")
    line = line.strip(BLANKS)
    return SPACES.split(line) if separator == " " else [line]


def _separator(lines: Sequence[str]) -> str:
    """What parts the cells of most of these lines: a tab, blanks, or nothing."""
    tests: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("\t", lambda line: "\t" in line),
        (" ", lambda line: bool(SPACES.search(line.strip(BLANKS)))),
    )
    return next((separator for separator, has in tests if 2 * sum(map(has, lines)) > len(lines)), "")


def _is_header(cells: Sequence[str], wanted: Sequence[str]) -> bool:
    """A row of names: all of them known ones, or a name among them that the caller asked for and that is no number."""
    plain = [cell.strip().lower() for cell in cells]
    asked = [name.strip().lower() for name in wanted if not name.isdigit()]
    return (
        len(cells) > 1 and len(set(plain)) == len(plain) and (all(name in NAMES for name in plain) or any(name in plain for name in asked))
    )


def _counts_up(lines: Sequence[tuple[int, str]], separator: str) -> bool:
    """Whether the first cells count 1, 2, … in every sentence."""
    expected, seen = 1, 0
    for _, line in lines:
        if not line.strip(BLANKS):
            expected = 1
        elif not line.startswith("#"):
            first = _cells(line, separator)[0]
            if _no_word(first):
                continue
            if first != str(expected):
                return False
            expected, seen = expected + 1, seen + 1
    return seen > 4


def _no_word(number: str) -> str | None:
    """What a row is whose number is no whole one: 1-2 stands for two words, 1.1 for one that is not written."""
    if NUMBER.fullmatch(number):
        return None
    return "multiword range" if RANGE.fullmatch(number) else "empty node" if EMPTY.fullmatch(number) else None


def _ragged(line: str, cells: Sequence[str], layout: Layout, place: str) -> InputError:
    what = "CoNLL-U has" if layout.conllu and layout.names == CONLLU else "the file has"
    hint = f"cells are parted by {SEPARATORS[layout.separator]}"
    if layout.separator == "\t" and len(cells) == 1 and SPACES.search(line.strip(BLANKS)):
        hint += ", and this line has spaces only"
    elif layout.separator == " ":
        hint += ", so no cell may be empty or hold one"
    return InputError(f"{len(cells)} cell{'' if len(cells) == 1 else 's'} where {what} {layout.width}; {hint}", place)
