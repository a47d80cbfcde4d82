"""What is wrong with labelled data before anything is trained on it: duplicates, leakage, contradictions, imbalance, damage.

Each finding is one line that a person understands, with a count and a few examples. Nothing is changed or dropped here.
"""

from __future__ import annotations

import math
import re
import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from weft.compare.results import Finding
from weft.data.examples import Example, Splits, Table

SHOWN = 5  # examples kept of each finding
CLIP = 160  # characters of a text shown
FEW = 5  # a class with fewer training examples is hardly learned
MAJORITY = 0.8  # a class with this share makes plain accuracy a poor guide
SMALL = 300  # fewer examples to measure on leave a wide interval
LONG = 1_000  # words
CUT_OFF = 0.02  # at least this share of texts ending at exactly the greatest length looks like a limit somebody set

Key = tuple[str, ...]
Level = Literal["warning", "note"]


def check_data(splits: Splits) -> list[Finding]:
    """All findings about the splits, warnings first; an empty list when there is nothing to say.

    kinds: leakage-test, leakage-dev, leakage-dev-test, empty, conflicts, duplicates, near-duplicates, damaged, unseen-labels, rare-classes,
    imbalance, small-dev, small-test, long, cut-off; of translation also several-targets (in place of conflicts) and copied. Works for every
    task and for pairs; test may be None.
    """
    tables = {"training": splits.train, "development": splits.dev}
    if splits.test is not None:
        tables["test"] = splits.test
    found = [
        *_leakage(tables),
        *_empty(tables),
        *_conflicts(splits.train),
        *_copied(splits.train),
        *_duplicates(splits.train),
        *_damaged(tables),
        *_labels(splits.train, tables),
        *_small(tables),
        *_lengths(splits.train),
    ]
    return sorted(found, key=lambda finding: finding["level"] != "warning")


def normalised(text: str) -> str:
    """The text without what does not make it another text: case, punctuation, white space, compatibility forms of characters."""
    bare = " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
    return bare or " ".join(text.split())


def _finding(kind: str, level: Level, count: int, examples: Iterable[str], message: str) -> Finding:
    shown = [example for example, _ in zip(examples, range(SHOWN), strict=False)]
    return {"kind": kind, "level": level, "count": count, "examples": shown, "message": message}


def _show(example: Example) -> str:
    """One line for an example: where it stands, and how it begins."""
    text = " ".join(example.text.split()) if example.pair is None else " ⇄ ".join(" ".join(t.split()) for t in (example.text, example.pair))
    clipped = text if len(text) <= CLIP else text[: CLIP - 1] + "…"
    return f"line {example.line}: {clipped}" if example.line else clipped


def _exact(example: Example) -> Key:
    return (example.text,) if example.pair is None else (example.text, example.pair)


def _loose(example: Example) -> Key:
    return tuple(normalised(text) for text in _exact(example))


def _is_empty(example: Example) -> bool:
    return not any(text.strip() for text in _exact(example))


def _times(count: int, what: str, one: str = "", many: str = "") -> str:
    """ "1 text", "1,204 texts"; with a verb for one and for many: "1 text is", "2 texts are"."""
    plural = what[:-1] + "ies" if what.endswith("y") else what + ("es" if what.endswith("s") else "s")
    return f"{count:,} {what if count == 1 else plural} {one if count == 1 else many}".rstrip()


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _leakage(tables: dict[str, Table]) -> list[Finding]:
    """Texts that a model is measured on but has seen: training texts in dev and test, and development texts in test."""
    keys = {name: {_loose(example) for example in table.examples if not _is_empty(example)} for name, table in tables.items()}
    kinds = {("test", "training"): "leakage-test", ("development", "training"): "leakage-dev", ("test", "development"): "leakage-dev-test"}
    found = []
    for (held, seen), kind in kinds.items():
        if held not in tables:
            continue
        leaked = [example for example in tables[held].examples if _loose(example) in keys[seen]]
        if leaked:
            exact = len({_exact(example) for example in tables[seen].examples} & {_exact(example) for example in leaked})
            share = f"({_percent(len(leaked) / len(tables[held].examples))})"
            same = "word for word" if exact == len({_exact(example) for example in leaked}) else "but for case and punctuation at most"
            opening = _times(len(leaked), f"{held} text", f"{share} is", f"{share} are")
            message = f"{opening} also in the {seen} data, {same}: what is remembered counts as known"
            found.append(_finding(kind, "warning", len(leaked), map(_show, leaked), message))
    return found


def _empty(tables: dict[str, Table]) -> list[Finding]:
    found = {name: [example for example in table.examples if _is_empty(example)] for name, table in tables.items()}
    total = sum(map(len, found.values()))
    if not total:
        return []
    where = ", ".join(f"{len(examples):,} {name}" for name, examples in found.items() if examples)
    lines = [f"{name}, line {example.line}" if example.line else name for name, examples in found.items() for example in examples]
    opening = _times(total, "text", "is", "are")
    message = f"{opening} empty ({where}): nothing can be learned from or said about them"
    return [_finding("empty", "warning", total, lines, message)]


def _groups(examples: Sequence[Example]) -> dict[Key, list[Example]]:
    groups: dict[Key, list[Example]] = defaultdict(list)
    for example in examples:
        if not _is_empty(example):
            groups[_loose(example)].append(example)
    return groups


def _conflicts(train: Table) -> list[Finding]:
    """The same training text under different labels. For numbers, only those that differ by over a tenth of their range."""
    groups = [group for group in _groups(train.examples).values() if len(group) > 1]
    if train.task == "regression":
        values = [float(example.label) for example in train.examples if isinstance(example.label, (int, float))]
        allowed = 0.1 * (max(values) - min(values)) if values else 0.0
        numbers = [[float(e.label) for e in group if isinstance(e.label, (int, float))] for group in groups]
        bad = [group for group, given in zip(groups, numbers, strict=True) if given and max(given) - min(given) > allowed]
    else:
        bad = [group for group in groups if len({example.label for example in group}) > 1]
    if not bad:
        return []
    rows = sum(map(len, bad))
    shown = (f"{_show(group[0])} [{' / '.join(sorted({_label(e) for e in group}))}]" for group in bad)
    if train.task == "translation":
        opening = _times(len(bad), "training source", "has", "have")
        message = f"{opening} different targets ({rows:,} rows): each is learnt as right"
        return [_finding("several-targets", "note", len(bad), shown, message)]
    opening = _times(len(bad), "training text", "occurs", "occur")
    message = f"{opening} under different labels ({rows:,} rows): no model can get them all right"
    return [_finding("conflicts", "warning", len(bad), shown, message)]


def _copied(train: Table) -> list[Finding]:
    """Targets that are their sources, where most are not: rows that nobody translated."""
    rows = [example for example in train.examples if example.label == example.text] if train.task == "translation" else []
    if not rows or len(rows) * 2 > len(train.examples):
        return []
    opening = _times(len(rows), "training target", "is its source", "are their sources")
    message = f"{opening}, word for word: a model learns to copy from them"
    return [_finding("copied", "note", len(rows), map(_show, rows), message)]


def _label(example: Example) -> str:
    label = example.label
    return ", ".join(label) if isinstance(label, tuple) else f"{label:g}" if isinstance(label, float) else str(label)


def _duplicates(train: Table) -> list[Finding]:
    """Training rows that repeat an earlier one: exactly, and but for case and punctuation."""
    exact: list[Example] = []
    near: list[Example] = []
    for group in _groups(train.examples).values():
        seen: set[Key] = set()
        targets: set[object] = set()  # of translation: another target makes another example
        for example in group:
            target = example.label if train.task == "translation" else None
            (exact if (*_exact(example), repr(target)) in seen else near if target in targets else []).append(example)
            seen.add((*_exact(example), repr(target)))
            targets.add(target)
    found = []
    for kind, rows, how in (("duplicates", exact, "word for word"), ("near-duplicates", near, "but for case and punctuation")):
        if rows:
            share = f"({_percent(len(rows) / len(train.examples))})"
            opening = _times(len(rows), "training text", f"{share} repeats", f"{share} repeat")
            message = f"{opening} another, {how}: they count twice and say nothing new"
            found.append(_finding(kind, "note", len(rows), map(_show, rows), message))
    return found


def _damaged(tables: dict[str, Table]) -> list[Finding]:
    """Texts with U+FFFD, which a wrong decoding leaves behind."""
    rows = [example for table in tables.values() for example in table.examples if any("\ufffd" in text for text in _exact(example))]
    if not rows:
        return []
    opening = _times(len(rows), "text", "holds", "hold")
    message = f"{opening} '\ufffd', a character lost to a wrong encoding before the file was written"
    return [_finding("damaged", "note", len(rows), map(_show, rows), message)]


def _names(table: Table) -> Counter[str]:
    """How many examples each class has."""
    counts: Counter[str] = Counter()
    for example in table.examples if table.task != "translation" else ():
        if isinstance(example.label, tuple):
            counts.update(example.label)
        elif isinstance(example.label, str):
            counts[example.label] += 1
    return counts


def _labels(train: Table, tables: dict[str, Table]) -> list[Finding]:
    """Labels never trained on, classes with hardly an example, one class that swallows the rest."""
    counts = _names(train)
    if not counts:
        return []
    found = []
    unseen = sum((_names(table) for name, table in tables.items() if name != "training"), Counter())
    unseen = Counter({name: count for name, count in unseen.items() if name not in counts})
    if unseen:
        shown = [f"{name} ({count:,})" for name, count in unseen.most_common()]
        total = sum(unseen.values())
        opening = _times(len(unseen), "label", "never occurs", "never occur")
        message = f"{opening} in training: {_times(total, 'example')} to be predicted must be got wrong"
        found.append(_finding("unseen-labels", "warning", len(unseen), shown, message))
    rare = [(name, count) for name, count in counts.most_common()[::-1] if count < FEW]
    if rare:
        shown = [f"{name} ({count})" for name, count in rare]
        opening = _times(len(rare), "class", "has", "have")
        message = f"{opening} fewer than {FEW} training examples: too few to learn from or to judge by"
        found.append(_finding("rare-classes", "note", len(rare), shown, message))
    name, most = counts.most_common(1)[0]
    share = most / len(train.examples)
    if train.task == "classification" and share >= MAJORITY:
        opening = f"{_percent(share)} of the training texts are '{name}'"
        message = f"{opening}: always answering that would score as much, so read macro F1 beside accuracy"
        found.append(_finding("imbalance", "warning", most, [f"{n} ({c:,})" for n, c in counts.most_common()], message))
    return found


def _small(tables: dict[str, Table]) -> list[Finding]:
    """Too few examples to tell rungs apart: half the 95 % interval of a share of one half."""
    found = []
    for name, kind in (("development", "small-dev"), ("test", "small-test")):
        size = len(tables[name].examples) if name in tables else SMALL
        if 0 < size < SMALL and tables[name].task != "regression":
            points = 100 * 1.96 * math.sqrt(0.25 / size)
            reach = f"an accuracy measured on them is good to about ±{points:.0f} points"
            if tables[name].task == "translation":
                reach = "a score measured on them has a wide interval"
            message = f"only {_times(size, f'{name} example')}: {reach}"
            found.append(_finding(kind, "note", size, [], message))
    return found


def _lengths(train: Table) -> list[Finding]:
    """Very long texts, and texts that all end at one length, as if cut."""
    found = []
    words = [sum(len(text.split()) for text in _exact(example)) for example in train.examples]
    order = sorted((i for i, count in enumerate(words) if count > LONG), key=lambda i: -words[i])
    if order:
        opening = _times(len(order), "training text", "has", "have")
        lengths_of = f"the longest {words[order[0]]:,}; half of all have under {math.ceil(statistics.median(words)):,}"
        message = f"{opening} over {LONG:,} words ({lengths_of}): they are slow, and models with a limit read only their beginning"
        found.append(_finding("long", "note", len(order), (_show(train.examples[i]) for i in order), message))
    lengths = [len(example.text) for example in train.examples]
    longest = max(lengths, default=0)
    cut = [example for example, length in zip(train.examples, lengths, strict=True) if length == longest]
    many = len(cut) >= max(3, CUT_OFF * len(train.examples)) and len({example.text for example in cut}) > 1
    if many and longest >= 50 and len(set(lengths)) > 1:
        message = f"{_times(len(cut), 'training text')} are exactly {longest:,} characters long, and none is longer: they look cut off"
        found.append(_finding("cut-off", "note", len(cut), map(_show, cut), message))
    return found
