"""Examples, tables of them, and splits that keep the test set out of selection."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from weft.errors import InputError

Label = str | tuple[str, ...] | float | None
TASKS = ("classification", "multi-label", "regression", "translation", "tagging", "spans", "language-model")
RAW = ("language-model",)  # texts that need no label
TAGGED = ("tagging", "spans")  # a label a token: any at all, or spans in the BIO scheme


@dataclass(frozen=True, slots=True)
class Example:
    """One text, or a pair of texts, and its label; or a source and its target; or a sentence of tokens and their tags.

    label: a class's name; a tuple of names, sorted, where there may be several; a number for regression; None when not known. For
    translation the text is the source and the label the target, or a tuple of targets, each of which is right.
    line: where it stands in its file, counted from 1 (the first line of a record that spans several); 0 when it has no file.
    tokens: of a tagged sentence; its text is these with blanks between, its label a tuple of their tags, others the tags of further
    columns (Table.others names them).
    """

    text: str
    label: Label = None
    pair: str | None = None
    line: int = 0
    tokens: tuple[str, ...] | None = None
    others: tuple[tuple[str, ...], ...] = ()


@dataclass
class Table:
    """Examples of one task, in the order of their file.

    task: one of TASKS, or "unlabelled". name: the file's path or the dataset's name.
    columns: which column of the file is "text", "pair", "label". notes: what was said aloud while reading.
    fields: the names of all columns of the file, in order. others: the further columns of tags, where several are learnt.
    """

    examples: list[Example]
    task: str
    name: str
    columns: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    fields: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def texts(self) -> list[str]:
        """The (first) texts."""
        return [example.text for example in self.examples]

    @property
    def labels(self) -> list[Label]:
        """The labels: str, tuple of str or float by the task; None where unlabelled."""
        return [example.label for example in self.examples]

    @property
    def pairs(self) -> list[str] | None:
        """The second texts of a pair task; None where examples are single texts."""
        if not any(example.pair is not None for example in self.examples):
            return None
        return [example.pair or "" for example in self.examples]

    @property
    def classes(self) -> list[str]:
        """The names of the classes that occur, sorted; none for regression and translation."""
        names: set[str] = set()
        if self.task == "translation":
            return []
        for example in self.examples:
            if isinstance(example.label, str):
                names.add(example.label)
            elif isinstance(example.label, tuple):
                names.update(example.label)
        return sorted(names)

    def subset(self, index: Iterable[int], name: str | None = None) -> Table:
        """The examples at these places, in this order, under another name if one is given."""
        return replace(self, examples=[self.examples[i] for i in index], name=name or self.name)


@dataclass
class Splits:
    """train to learn from, dev to choose by, test to report once. What chooses is handed `selection`, never the test set."""

    train: Table
    dev: Table
    test: Table | None = None

    @property
    def selection(self) -> tuple[Table, Table]:
        """(train, dev): all that early stopping, tuning and choosing a rung may see."""
        return self.train, self.dev


def one_target_each(table: Table) -> Table:
    """A table of translation with one example for each of several right targets, in their order: what can be learnt from, one by one."""
    made = []
    for example in table.examples:
        targets = example.label if isinstance(example.label, tuple) else (example.label,)
        made += [replace(example, label=target) for target in targets]
    return replace(table, examples=made)


def check_trainable(table: Table) -> None:
    """Nothing, when something can be learned from the table.

    Raises InputError where it is empty or unlabelled, or all labels (of translation: all targets) are the same.
    """
    if not table.examples:
        raise InputError("there are no examples; training needs labelled texts", table.name)
    if table.task == "unlabelled":
        known = f"the columns are {named(table.fields)}; " if table.fields else ""
        raise InputError(f"there are no labels: {known}name the labels' column with --label-column", table.name)
    count = len(table)
    if table.task == "regression":
        values = {example.label for example in table.examples}
        if len(values) < 2:
            raise InputError(f"every one of the {count} examples has the number {_any(values)}; there is nothing to learn", table.name)
    elif table.task == "multi-label":
        if len(set(table.labels)) < 2:
            raise InputError(f"all {count} examples have the same labels; at least two different sets are needed", table.name)
    elif table.task == "translation":
        if len(set(table.labels)) < 2:
            message = f"every one of the {count} examples has the target {_any(set(table.labels))!r}; there is nothing to learn"
            raise InputError(message, table.name)
    elif table.task in TAGGED:
        if len(table.classes) < 2:
            what = "there is no span to learn" if table.classes == ["O"] else "there is nothing to learn"
            raise InputError(f"every token of the {count} sentences has the tag {table.classes[0]!r}; {what}", table.name)
    elif len(table.classes) < 2:
        message = f"every one of the {count} examples has the label {table.classes[0]!r}; a classifier needs at least two classes"
        raise InputError(message, table.name)


def _any(values: set[Label]) -> Label:
    return next(iter(values))


def named(columns: Sequence[str]) -> str:
    """Column names for a message: 'a', 'b' and 'c'; the tenth and later ones are counted."""
    quoted = [repr(str(column)) for column in columns[:9]] + ([f"{len(columns) - 9} more"] if len(columns) > 9 else [])
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else "".join(quoted)


def split_table(table: Table, *, dev: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
    """Split at random into train, dev and test (None when test=0): the same for the same table and seed, on every machine.

    dev, test: the shares, in [0, 1); at least one example each when above 0. Stratified: each class (of several labels or tags, each
    example's rarest) is shared out in proportion, to within one example, and keeps at least one in train. Numbers and targets are not
    looked at. Texts that are identical but for case and white space stay on one side. Each side keeps the table's order.
    Raises InputError where there are too few different examples, ValueError for shares that leave nothing to train on.
    """
    if dev < 0 or test < 0 or dev + test >= 1:
        raise ValueError(f"{dev=} and {test=} must not be negative and must add up to less than 1")
    draw = random.Random(seed)
    strata = _strata(table)
    for groups in strata.values():
        keys = [draw.random() for _ in groups]  # random() alone is promised to give the same numbers on every Python
        groups[:] = [group for _, group in sorted(zip(keys, groups, strict=True), key=lambda pair: pair[0])]
    taken = [_take(strata, share, len(table), draw) if share else [] for share in (test, dev)]
    for what, share, rows in zip(("test", "development"), (test, dev), taken, strict=True):
        if share and not rows:
            message = f"{len(table)} examples are too few, or too much the same, to set a {what} set aside; give more, or a file of its own"
            raise InputError(message, table.name)
    held = set(taken[0]) | set(taken[1])
    train = [i for i in range(len(table)) if i not in held]
    made = [table.subset(rows, f"{table.name} ({side})") for side, rows in zip(("test", "dev"), taken, strict=True)]
    return Splits(table.subset(train, f"{table.name} (train)"), made[1], made[0] if test else None)


def _strata(table: Table) -> dict[str, list[list[int]]]:
    """Places of the examples: by label (numbers, and targets, in one), then by identical text, in an order that hashing does not touch."""
    apart = table.task not in ("regression", "translation")
    counts = Counter(name for example in table.examples if apart and isinstance(example.label, tuple) for name in example.label)
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, example in enumerate(table.examples):
        groups[_identity(example)].append(place)
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for group in groups.values():
        label = table.examples[group[0]].label if apart else None
        if isinstance(label, tuple):
            label = min(label, key=lambda name: (counts[name], name), default=None)
        strata[repr(label) if apart else ""].append(group)
    return {label: strata[label] for label in sorted(strata)}


def _identity(example: Example) -> tuple[str, ...]:
    texts = (example.text,) if example.pair is None else (example.text, example.pair)
    return tuple(" ".join(text.casefold().split()) for text in texts)


def _take(strata: dict[str, list[list[int]]], share: float, total: int, draw: random.Random) -> list[int]:
    """Take about share * total examples out of the strata (which lose them), in proportion by largest remainder; sorted places."""
    sizes = {label: sum(map(len, groups)) for label, groups in strata.items()}
    left = sum(sizes.values())
    wanted = max(1, round(share * total))
    exact = {label: size * wanted / left for label, size in sizes.items()}
    quotas = {label: int(value) for label, value in exact.items()}
    missing = wanted - sum(quotas.values())
    for _, _, label in sorted((quotas[label] - exact[label], draw.random(), label) for label in strata):
        if missing > 0 and len(strata[label]) > 1:
            quotas[label] += 1
            missing -= 1
    rows: list[int] = []
    for label, groups in strata.items():
        kept: list[list[int]] = []
        for place, group in enumerate(groups):
            last = place == len(groups) - 1 and not kept
            if not last and len(group) <= quotas[label]:
                quotas[label] -= len(group)
                rows += group
            else:
                kept.append(group)
        groups[:] = kept
    return sorted(rows)
