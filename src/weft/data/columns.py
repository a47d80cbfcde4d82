"""Columns: is the first row a header, and which columns hold the text, the pair, the label.

Guessed from names and contents; the caller's word decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from weft.data.examples import named
from weft.errors import InputError

# the first known name wins, so each list runs from the plainest to the vaguest
NAMES = {
    "text": (
        "text sentence review content question body comment message tweet document description abstract headline title post "
        "utterance query phrase email sms article summary premise transcript input string paragraph passage review_text "
        "text_a reply answer hypothesis"
    ),
    "label": (
        "label labels class classes category categories sentiment target intent topic tags tag polarity emotion genre gold gt "
        "rating stars score similarity relatedness y output is_duplicate toxic spam type tone stance verdict"
    ),
    "id": "id idx index guid uuid uid key no number row line",
}
TEXTS, LABELS, IDS = (NAMES[role].split() for role in ("text", "label", "id"))
PAIRS = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("text_a", "text_b"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "answer"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "passage"),
    ("query", "document"),
    ("text", "text_pair"),
    ("title", "body"),
)
SOURCE, TARGET = "source", "target"  # of a translation
KNOWN = {*TEXTS, *LABELS, *IDS, *(name for pair in PAIRS for name in pair), SOURCE, TARGET}
NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


@dataclass
class Columns:
    """Which columns are read, by place from 0; label and pair are None where there are none. said: what to say aloud of the choice."""

    text: int
    pair: int | None = None
    label: int | None = None
    said: list[str] = field(default_factory=list)


@dataclass
class Profile:
    """What a sample of a column looks like."""

    place: int
    name: str  # as in the file
    plain: str  # small letters, digits, underscores
    filled: int = 0
    distinct: int = 0
    words: float = 0.0
    length: float = 0.0
    digits: float = 0.0
    spaced: bool = False
    numeric: bool = False
    listed: bool = False
    counting: bool = False

    @property
    def parts(self) -> list[str]:
        """The words of the name, numbers at their ends taken off."""
        return [re.sub(r"\d+$", "", part) for part in self.plain.split("_")]

    @property
    def is_id(self) -> bool:
        """Numbers the rows, or is named so."""
        return (
            self.plain in IDS or self.parts[-1] == "id" or self.plain.startswith("unnamed") or (self.counting and self.plain not in LABELS)
        )

    @property
    def is_prose(self) -> bool:
        """Mostly different texts of some words (or, unspaced scripts, of some length); neither dates nor addresses."""
        long = self.words >= 4 or (not self.spaced and self.length >= 8 and self.words > 1.5)
        varied = self.distinct * 2 > self.filled or self.words >= 8
        return long and varied and not self.numeric and not self.listed and self.digits < 0.2

    @property
    def is_classes(self) -> bool:
        """Short values that come again, or lists."""
        short = self.words <= 3.5 and self.length <= 40 and self.distinct <= max(2, self.filled // 2)
        return self.listed or (short and self.filled > 0)


def plain_name(name: str) -> str:
    """ "Review Text" → "review_text"."""
    return re.sub(r"[^\w]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip()).lower()).strip("_")


def is_number(cell: str) -> bool:
    """A decimal number, in digits."""
    return NUMBER.fullmatch(cell) is not None


def profile(place: int, name: str, cells: Sequence[Any]) -> Profile:
    """What the column's cells look like; None and blank cells do not count."""
    made = Profile(place, name, plain_name(name))
    made.listed = any(isinstance(cell, list) or (isinstance(cell, str) and cell[:1] == "[" and cell.strip()[-1:] == "]") for cell in cells)
    texts = [cell if isinstance(cell, str) else str(cell) for cell in cells if cell is not None]
    texts = [text[:5000] for text in texts if text.strip()]  # enough of a very long text to know it by
    if not texts:
        return made
    letters = sum(map(len, texts))
    made.filled, made.distinct = len(texts), len(set(texts))
    # a script without spaces has a word every few characters
    made.words = sum(max(len(text.split()), 0 if text.isascii() else len(text) / 6) for text in texts) / len(texts)
    made.length = letters / len(texts)
    made.digits = sum(character.isdigit() for text in texts[:200] for character in text[:500]) / sum(
        len(text[:500]) for text in texts[:200]
    )
    made.spaced = any(" " in text.strip() for text in texts)
    made.numeric = all(map(is_number, texts))
    whole = made.numeric and all(len(text) < 19 and text.strip().isdigit() for text in texts) and len(texts) > 3
    made.counting = whole and all(0 < int(b) - int(a) <= 10 for a, b in pairwise(texts))
    return made


def has_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: by names that are known, and by how it differs from the rows below it."""
    cells = [cell.strip() for cell in first]
    filled = [cell for cell in cells if cell]
    known = sum(plain_name(cell) in KNOWN for cell in filled)
    if not filled or len(set(filled)) < len(filled) or any(is_number(cell) or len(cell) > 60 or len(cell.split()) > 4 for cell in filled):
        return False
    if known == len(filled) or known > 1:
        return True
    columns = [[row[place].strip() for row in rest if place < len(row)] for place in range(len(cells))]
    if any(cell and cell in column for cell, column in zip(cells, columns, strict=True)):
        return False
    if known or not rest or len(cells) == 1:
        return known > 0
    profiles = [profile(place, cells[place], column) for place, column in enumerate(columns)]
    classes = any(p.filled > 2 and p.distinct * 2 <= p.filled and p.words <= 3.5 for p in profiles)
    return any(p.numeric for p in profiles) or classes or (len(rest) > 2 and any(p.is_prose for p in profiles))


def find(names: Sequence[str], wanted: str | int, option: str, place: str) -> int:
    """The place of the column that the caller named, or numbered from 1. Raises InputError naming the columns there are."""
    matches = [at for at, name in enumerate(names) if name == str(wanted)]
    matches = matches or [at for at, name in enumerate(names) if name.strip().lower() == str(wanted).strip().lower()]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise InputError(f"{len(matches)} columns are called {wanted!r}; give the number of one to {option}, counted from 1", place)
    if str(wanted).isascii() and str(wanted).isdigit() and 1 <= int(str(wanted)[:9]) <= len(names):
        return int(wanted) - 1
    raise InputError(f"there is no column {str(wanted)!r} for {option}; the columns are {named(names)}", place)


def choose(
    names: Sequence[str],
    sample: Sequence[Sequence[Any]],
    *,
    text: str | int | None = None,
    pair: str | int | None = None,
    label: str | int | None = None,
    labelled: bool | None = None,
    place: str,
) -> Columns:
    """Which columns to read: those the caller named, the others guessed from the names and a sample of rows.

    labelled: True needs a label column; False and None take one as known where it is plain to see (so that it is not taken for text).
    Raises InputError naming the columns and the option where a guess cannot be made.
    """
    profiles = [profile(at, name, [row[at] for row in sample]) for at, name in enumerate(names)]
    options = (("--text-column", text), ("--pair-column", pair), ("--label-column", label))
    fixed = [None if wanted is None else find(names, wanted, option, place) for option, wanted in options]
    taken = [at for at in fixed if at is not None]
    if len(set(taken)) < len(taken):
        raise InputError(f"column {names[taken[-1]]!r} is named for two purposes; each needs a column of its own", place)
    said: list[str] = []
    free = [p for p in profiles if p.place not in taken]
    chosen = fixed[2] if fixed[2] is not None else _label(free, said, need=labelled, texts=fixed[0] is None, names=names, place=place)
    free = [p for p in free if p.place != chosen]
    found = (fixed[0], fixed[1]) if fixed[0] is not None else _texts(free, fixed[1], said, names, place)
    return Columns(found[0], found[1], chosen, said)


def has_translation_header(first: Sequence[str], rest: Sequence[Sequence[str]], *, labelled: bool | None) -> bool:
    """Whether the first row of sources and targets names them. Its cells are texts as a rule, so that little is taken for a name:
    `source` and `target`, names that are all known, or (not to predict: a row lost would shift all answers) single words over columns
    of sentences in which they do not occur."""
    cells = [cell.strip() for cell in first]
    plain = [plain_name(cell) for cell in cells]
    if {SOURCE, TARGET} <= set(plain) or all(name in KNOWN for name in plain):
        return True
    if (
        labelled is False
        or len(cells) < 2
        or len(set(cells)) < len(cells)
        or not all(re.fullmatch(r"[^\W\d][\w-]*", cell) for cell in cells)
    ):
        return False
    columns = [[row[place].split() for row in rest if place < len(row)] for place in range(len(cells))]
    long = any(sum(map(len, column)) >= 4 * len(column) > 0 for column in columns)
    return long and not any(cell in words for cell, column in zip(cells, columns, strict=True) for words in column)


def looks_translated(names: Sequence[str], sample: Sequence[Sequence[Any]]) -> bool:
    """Whether columns are called `source` and `target` and hold different texts, and no other name is that of a text."""
    plain = [plain_name(name) for name in names]
    if plain.count(SOURCE) != 1 or plain.count(TARGET) != 1 or set(plain) & set(TEXTS):
        return False
    sides = [profile(at, names[at], [row[at] for row in sample]) for at in (plain.index(SOURCE), plain.index(TARGET))]
    return all(side.distinct * 2 > side.filled and not side.numeric for side in sides)


def choose_translation(
    names: Sequence[str],
    *,
    text: str | int | None = None,
    label: str | int | None = None,
    labelled: bool | None = None,
    place: str,
) -> Columns:
    """The columns of the source and the target: those the caller named, those called so, else the first and the second of two.

    labelled: True needs a target; False leaves it out. Raises InputError naming the columns and the option.
    """
    plain = [plain_name(name) for name in names]
    taken = [find(names, wanted, "", place) for wanted in (text, label) if wanted is not None]
    found: list[int | None] = []
    for wanted, role, option in ((text, SOURCE, "--text-column"), (label, TARGET, "--label-column")):
        by_name = [at for at, name in enumerate(plain) if name == role and at not in taken]
        found.append(find(names, wanted, option, place) if wanted is not None else by_name[0] if len(by_name) == 1 else None)
    said: list[str] = []
    if len(names) <= 2 and None in found:
        free = [at for at in range(len(names)) if at not in found]
        found = [at if at is not None else free.pop(0) if free else None for at in found]
        if labelled is not False and found[1] is not None and None in (text, label):
            said.append(f"column {names[found[0] or 0]!r} is taken for the source, {names[found[1]]!r} for the target")
    source, target = found
    for at, role, option in ((source, SOURCE, "--text-column"), (target, TARGET, "--label-column")):
        if at is None and (role == SOURCE or labelled):
            raise InputError(f"no column is called {role!r}; the columns are {named(names)}: name it with {option}", place)
    assert source is not None
    if source == target:
        raise InputError(f"column {names[source]!r} is named for two purposes; each needs a column of its own", place)
    return Columns(source, None, target, said)


def _label(free: Sequence[Profile], said: list[str], *, need: bool | None, texts: bool, names: Sequence[str], place: str) -> int | None:
    """The label's column: by a known name, by a name that holds one, by short values that come again, by numbers."""
    exact = [p for p in free if p.plain in LABELS and not p.is_prose]
    partly = [p for p in free if set(p.parts) & set(LABELS) and not p.is_prose and not p.plain.endswith("_id")]
    rest = [p for p in free if p.filled and not p.is_id and p.plain not in TEXTS and not p.is_prose]
    classes = [p for p in rest if p.is_classes] or [p for p in rest if p.numeric]
    if len(free) < 2 and texts and not exact:
        classes = partly = []  # the only column there is holds the texts
    few = sorted(partly or classes, key=lambda p: (p.numeric and not p.is_classes, p.distinct, p.length))
    candidates = sorted(exact, key=lambda p: LABELS.index(p.plain)) or few
    if not candidates:
        if need:
            message = f"no column looks like labels; the columns are {named(names)}: name it with --label-column"
            raise InputError(message, place)
        return None
    others = [p.name for p in (exact if exact else few) if p is not candidates[0]]
    if others and need is not False:
        said.append(f"column {candidates[0].name!r} is taken for the labels; {named(others)} could be too: --label-column decides")
    return candidates[0].place


def _texts(free: Sequence[Profile], pair: int | None, said: list[str], names: Sequence[str], place: str) -> tuple[int, int | None]:
    """The text's column and the pair's: two columns of text make pairs; of more, a pair known by its names, or the best known one."""
    usable = [p for p in free if not p.is_id]
    known = [p for p in usable if p.plain in TEXTS or any(p.plain in names for names in PAIRS)]
    known = [p for p in known if not p.numeric and not (p.filled >= 20 and p.distinct * 10 < p.filled)]
    pool = [p for p in usable if p in known or p.is_prose]
    if not pool:
        partly = [p for p in usable if set(p.parts) & set(TEXTS) and not p.numeric]
        guesses = sorted(partly or [p for p in usable if not p.numeric] or usable, key=lambda p: -p.length)
        pool = guesses[:1]
        if len(guesses) > 1:
            others = named([p.name for p in guesses[1:]])
            said.append(f"column {pool[0].name!r} is taken for the text; {others} could be too: --text-column and --pair-column decide")
    if not pool:
        message = f"no column looks like text; the columns are {named(names)}: name it with --text-column"
        raise InputError(message, place)
    if pair is not None or len(pool) == 1:
        return _best(pool, known, said).place, pair
    couple = next(([a, b] for x, y in PAIRS for a in pool for b in pool if (a.plain, b.plain) == (x, y)), pool)
    if len(couple) == 2:
        said.append(f"two columns of text, {named([p.name for p in couple])}, make pairs; --text-column alone takes one")
        return couple[0].place, couple[1].place
    return _best(pool, known, said).place, None


def _best(pool: Sequence[Profile], known: Sequence[Profile], said: list[str]) -> Profile:
    """The best known name, else the longest texts; the others are said aloud."""
    by_name = [p for p in known if p.plain in TEXTS]
    best = min(by_name, key=lambda p: TEXTS.index(p.plain)) if by_name else max(pool, key=lambda p: p.length)
    others = [p.name for p in pool if p is not best]
    if others:
        said.append(f"column {best.name!r} is taken for the text; {named(others)} could be too: --text-column and --pair-column decide")
    return best
