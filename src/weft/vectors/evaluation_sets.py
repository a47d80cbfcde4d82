"""What word vectors are measured on: the published sets, by name, and files in their forms → pairs, questions, classes.

Sets come from the folder `wordvec_eval` of WEFT_DATA, or of ../shared/data beside a checkout. What cannot be read is an InputError
"FILE:LINE: …".
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from weft.data.datasets import data_folder
from weft.data.formats import Source, csv_rows, line_rows, tsv_rows
from weft.errors import InputError, meant

log = logging.getLogger("weft")
FOLDER = "wordvec_eval"

# name → (file, what it is)
SIMILARITY: Mapping[str, tuple[str, str]] = {
    "ws353": ("sim_ws353.tsv", "WordSim-353 (Finkelstein et al., 2002)"),
    "ws353_sim": ("sim_ws353_sim.tsv", "its pairs for similarity (Agirre et al., 2009)"),
    "ws353_rel": ("sim_ws353_rel.tsv", "its pairs for relatedness (Agirre et al., 2009)"),
    "simlex999": ("sim_simlex999.tsv", "SimLex-999 (Hill et al., 2015)"),
    "men": ("sim_men.tsv", "MEN (Bruni et al., 2014)"),
    "rw": ("sim_rw.tsv", "Rare Words (Luong et al., 2013)"),
    "mturk287": ("sim_mturk287.tsv", "MTurk-287 (Radinsky et al., 2011)"),
    "mturk771": ("sim_mturk771.tsv", "MTurk-771 (Halawi et al., 2012)"),
    "rg65": ("sim_rg65.tsv", "RG-65 (Rubenstein and Goodenough, 1965)"),
    "mc30": ("sim_mc30.tsv", "MC-30 (Miller and Charles, 1991)"),
    "verb143": ("sim_verb143.tsv", "Verb-143 (Baker et al., 2014)"),
    "yp130": ("sim_yp130.tsv", "YP-130 (Yang and Powers, 2006)"),
    "simverb3500": ("sim_simverb3500.tsv", "SimVerb-3500 (Gerz et al., 2016)"),
}
ANALOGIES: Mapping[str, tuple[str, str]] = {
    "google": ("analogy_google_questions-words.txt", "Google's analogies (Mikolov et al., 2013a)"),
    "msr": ("analogy_msr_syntactic.csv", "MSR's syntactic analogies (Mikolov et al., 2013b)"),
}
CATEGORIES: Mapping[str, tuple[str, str]] = {
    "ap": ("categorization_ap.csv", "Almuhareb and Poesio's concepts (2005)"),
    "bless": ("categorization_bless.csv", "BLESS's concepts (Baroni and Lenci, 2011)"),
}
SETS = {**SIMILARITY, **ANALOGIES, **CATEGORIES}


class Pair(NamedTuple):
    """Two words and what people said of their likeness."""

    first: str
    second: str
    score: float


class Question(NamedTuple):
    """a : b → c : answer, of a section."""

    section: str
    words: tuple[str, str, str, str]


class Member(NamedTuple):
    """A word and its class."""

    word: str
    kind: str


def find(sets: Sequence[str] | None) -> dict[str, Path]:
    """The files of named sets. None: all that are here, and it is said which are not.

    Raises InputError for an unknown name, a set that is not here, and where there is none at all.
    """
    for name in sets or ():
        if name not in SETS:
            raise InputError(f"{name!r} is not one of {', '.join(SETS)}{meant(name, SETS)}", "sets")
    root = data_folder()
    folder = None if root is None else root / FOLDER
    files = {name: folder / SETS[name][0] for name in dict.fromkeys(SETS if sets is None else sets) if folder is not None}
    here = {name: path for name, path in files.items() if path.is_file()}
    missing = [name for name in (SETS if sets is None else sets) if name not in here]
    where = f"{folder}" if folder is not None else f"a folder {FOLDER} (WEFT_DATA can name the folder that has it)"
    if missing and (sets is not None or not here):
        lacking, wanted = (
            ", ".join(each[:3]) + (", …" if len(each) > 3 else "") for each in (missing, [SETS[name][0] for name in missing])
        )
        raise InputError(f"{lacking} not on this machine; {wanted} should be in {where}; or give files of your own", "sets")
    if missing:
        log.info("not in %s, and so left out: %s", where, ", ".join(missing))
    return here


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """word TAB word TAB score. Blank lines are passed over."""
    source = Source(path)
    pairs = []
    for line, cells in _filled(tsv_rows(source)):
        place = f"{source.name}:{line}"
        if len(cells) != 3 or not cells[0] or not cells[1]:
            raise InputError(f"two words and a score between tabs were expected, not {_shown(cells)}", place)
        try:
            score = float(cells[2])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise InputError(f"the score must be a finite number, not {cells[2][:40]!r}", place)
        pairs.append(Pair(cells[0], cells[1], score))
    return pairs


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """Lines of four words under lines `: section`, or (.csv) columns type, word1, word2, word3, target."""
    source = Source(path)
    if source.kind == "csv":
        rows = _columns(source, ("type", "word1", "word2", "word3", "target"))
        return [Question(section, (a, b, c, answer)) for section, a, b, c, answer in rows]
    questions, section = [], ""
    for line, cells in _filled(line_rows(source)):
        if cells[0].startswith(":"):
            section = cells[0][1:].strip()
            continue
        words = cells[0].split()
        if len(words) != 4:
            raise InputError(f"four words, or a section's name after a colon, were expected, not {_shown(words)}", f"{source.name}:{line}")
        questions.append(Question(section, (words[0], words[1], words[2], words[3])))
    if not questions:
        raise InputError("there is no question in it; lines of four words were expected", source.name)
    return questions


def read_classes(path: str | os.PathLike[str]) -> list[Member]:
    """word TAB class, or (.csv) columns category and word."""
    source = Source(path)
    if source.kind == "csv":
        return [Member(word, kind) for kind, word in _columns(source, ("category", "word"))]
    members = []
    for line, cells in _filled(tsv_rows(source)):
        if len(cells) != 2 or not all(cells):
            raise InputError(f"a word and its class between tabs were expected, not {_shown(cells)}", f"{source.name}:{line}")
        members.append(Member(cells[0], cells[1]))
    return members


def _columns(source: Source, names: Sequence[str]) -> list[list[str]]:
    """The cells below these names, a row each. A row that leaves one empty is left out, with a count (published files have such)."""
    rows = csv_rows(source)
    heads = [name.strip().lower() for name in next(rows)[1]]
    lacking = [name for name in names if name not in heads]
    if lacking:
        raise InputError(f"the first line must name the columns {', '.join(names)}; {', '.join(lacking)} is missing", f"{source.name}:1")
    places = [heads.index(name) for name in names]
    kept, empty = [], 0
    for line, cells in rows:
        if not any(cells):
            continue
        if len(cells) != len(heads):
            raise InputError(f"{len(heads)} cells were expected, as in the first line, not {len(cells)}", f"{source.name}:{line}")
        chosen = [str(cells[place]).strip() for place in places]
        if all(chosen):
            kept.append(chosen)
        else:
            empty += 1
    if empty:
        log.warning("%s: %d rows without a word or its class were left out", source.name, empty)
    if not kept:
        raise InputError("there is no row below the first line", source.name)
    return kept


def _filled(rows: Iterator[tuple[int, Sequence[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Rows with anything in them, blanks around cells taken away."""
    for line, cells in rows:
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            yield line, stripped


def _shown(cells: Sequence[str]) -> str:
    return repr(" ".join(cells)[:60])
