"""What the contracts of taggers are held against: every rung of the taggers' ladder, made small, and a tiny corpus of tagged sentences.

The rungs come from weft's own table, so a new row is under the contracts the moment it is there. `python taggers.py` fits every case as a
user would and prints digests of what they became as JSON.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tiny import FP32, MINILM, SIZES, UNKNOWN, VECTORS, WORDS

from weft import Tagger
from weft.data.batch import Batch
from weft.data.schemes import convert, repaired
from weft.device import Compute
from weft.estimators.rungs import TAGGER_RUNGS
from weft.estimators.settings import resolve
from weft.estimators.tag_network import Tagged, TagNetwork
from weft.estimators.vectors import Vectors
from weft.nn.crf import Emissions

NEURAL = [name for name, rung in TAGGER_RUNGS.items() if rung.engine == "neural"]
BASELINES = [name for name, rung in TAGGER_RUNGS.items() if rung.engine != "neural"]
KINDS: dict[str, dict[str, str]] = {  # columns of tags, and what each holds
    "tags": {"upos": "tagging"},
    "spans": {"ner": "spans"},
    "columns": {"upos": "tagging", "ner": "spans"},
}
NAMES = {"tagging": ["NOUN", "VERB", "ADJ", "X"], "spans": ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]}
SMALL = {**SIZES, "feature_size": 6, "character_size": 6, "character_hidden": 8, "project": 0}
ODD = ["", "\x00", "\ud83d", "👩\u200d👩\u200d👧", "e\u0301", "東京", "\u200b", "=" * 300, "I" * 40, "１２", *UNKNOWN]


@dataclass(frozen=True)
class Case:
    """A rung, what it learns, settings beside its own, and whether it starts from `tiny.VECTORS`."""

    rung: str
    kind: str = "tags"
    settings: dict[str, Any] = field(default_factory=dict)
    started: bool = False


ALL_FEATURES = "prefix,suffix1,suffix2,suffix3,suffix4,shape,case"
CASES: dict[str, Case] = {
    **{f"{rung}, {kind}": Case(rung, kind) for rung in NEURAL for kind in ("tags", "spans")},
    "columns": Case("char-bilstm-crf", "columns", {"weights": "ner:0.5"}),
    "levels": Case("bilstm", "columns", {"levels": "upos:1,ner:2"}),
    "levels the other way, crf": Case("bilstm-crf", "columns", {"levels": "upos:3,ner:1", "cell": "gru"}),
    "characters by a cnn": Case("char-bilstm-crf", "tags", {"characters": "cnn", "character_width": 4}),
    "sum": Case("char-bilstm", "tags", {"join": "sum", "features": ALL_FEATURES}),
    "sum of characters by a cnn": Case("transformer-crf", "spans", {"join": "sum", "features": "shape"}),
    "concat of everything, projected": Case(
        "window", "spans", {"characters": "bilstm", "features": ALL_FEATURES, "project": 24, "hidden_size": 32}
    ),
    "words as they are written": Case("cnn", "tags", {"lowercase": False, "features": "", "maximum_size": 60}),
    "a crf that may do anything": Case("bilstm-crf", "spans", {"constrained": False, "scheme": "BIO"}),
    "smoothed": Case("bilstm", "tags", {"label_smoothing": 0.1}),
    "pretrained, chained": Case("minilm", "columns", {"crf": True, "features": ""}),
    "static": Case("char-bilstm-crf", "tags", {"vectors_mode": "static"}, started=True),
    "non-static": Case("window", "spans", {"vectors_mode": "non-static"}, started=True),
    "multichannel": Case("bilstm-crf", "columns", {"vectors_mode": "multichannel"}, started=True),
}


def settings_of(case: Case, *, dropout: float | None = None, **more: Any) -> dict[str, Any]:
    """What an estimator's `settings` would be: the case's own over every size made small; `dropout` sets every rate of every kind."""
    rung = TAGGER_RUNGS[case.rung]
    known = resolve(rung.settings, case.settings, network=rung.network).flat
    chosen = {name: size for name, size in SMALL.items() if name in known and name not in case.settings}
    if rung.starts:
        chosen |= {"pretrained": MINILM, "maximum_length": 60, "learning_rate": 1e-3}
    if dropout is not None:
        chosen.update({name: dropout for name in known if "dropout" in name or name == "variational"})
    if case.started:
        del chosen["embedding_size"]
    return {**case.settings, **chosen, **more}


def sentences(count: int = 32, seed: int = 0) -> list[list[str]]:
    """Sentences of 1 to 9 words: small, capital, some with digits."""
    draw = random.Random(seed)
    forms = [str, str, str.capitalize, str.upper]
    lengths = [draw.randint(1, 9) for _ in range(count)]
    return [[draw.choice(forms)(draw.choice(WORDS)) if draw.random() < 0.9 else f"{draw.randrange(99)}" for _ in range(n)] for n in lengths]


def tags_of(kind: str, given: list[list[str]]) -> dict[str, list[list[str]]]:
    """Tags that only memory can tell, yet the words around decide: each is drawn for a word and the one after it. Spans are legal BIO."""
    found = {}
    for column, task in KINDS[kind].items():
        tags = []
        for sentence in given:
            pairs = zip(sentence, [*sentence[1:], ""])
            drawn = [random.Random(f"{column} {word} {after}").choice(NAMES[task]) for word, after in pairs]
            tags.append(repaired(drawn)[0] if task == "spans" else drawn)
        found[column] = tags
    return found


def inside(case: Case, column: str, tags: list[str]) -> list[str]:
    """Tags as the network learns them."""
    scheme = case.settings.get("scheme", "BIOES")
    return convert(tags, "BIO", scheme) if KINDS[case.kind][column] == "spans" else tags


def labels_of(case: Case) -> dict[str, list[str]]:
    """The names of the labels of each column, in order."""
    tags = tags_of(case.kind, sentences())
    return {column: sorted({tag for one in rows for tag in inside(case, column, one)}) for column, rows in tags.items()}


def corpus(case: Case, count: int = 32, seed: int = 0) -> Tagged:
    """Sentences and their targets."""
    given, labels = sentences(count, seed), labels_of(case)
    columns = []
    for column, rows in tags_of(case.kind, given).items():
        number = {name: place for place, name in enumerate(labels[column])}
        columns.append([np.array([number.get(tag, 0) for tag in inside(case, column, row)], np.int64) for row in rows])
    return Tagged(given, [np.stack(parts, 1) for parts in zip(*columns)])


def probes(case: Case) -> Tagged:
    """What a user may send: a word, words nobody knows, sentences of many lengths, odd words."""
    draw = random.Random(5)
    given = [[draw.choice(WORDS) for _ in range(n)] for n in (1, 9, 2, 17, 3, 30)] + [list(UNKNOWN), [*ODD, WORDS[0]], [UNKNOWN[0]]]
    return Tagged(given, [np.zeros((len(one), len(KINDS[case.kind])), np.int64) for one in given])


def network(case: Case, *, seed: int = 0, compute: Compute = FP32, data: Tagged | None = None, **settings: Any) -> TagNetwork:
    """A case's network, its vocabularies of the corpus, its weights drawn from the seed; in training mode."""
    rung = TAGGER_RUNGS[case.rung]
    resolved = resolve(rung.settings, settings_of(case, **settings), network=rung.network)
    made = TagNetwork(labels_of(case), KINDS[case.kind], resolved, compute, seed, Vectors(VECTORS) if case.started else None)
    made.build_for(corpus(case) if data is None else data)
    return made


def everything(made: TagNetwork, data: Tagged) -> Batch:
    """All sentences as one batch, in their order."""
    return made.batches(data, shuffled=False).gather(np.arange(len(data)))


def emissions(made: TagNetwork, batch: Batch) -> dict[str, Emissions]:
    made.model.eval()
    with torch.inference_mode():
        return made.model(batch)


def logits(made: TagNetwork, batch: Batch) -> torch.Tensor:
    """Of all columns side by side (B, T, ΣK)."""
    return torch.cat([one.logits.float() for one in emissions(made, batch).values()], -1)


def estimator(case: Case, *, dropout: float | None = None, **options: Any) -> Tagger:
    """The estimator of a case, two steps long."""
    options = {"steps": 2, "batch_size": 8, "validation_fraction": 0, "precision": "fp32", "threads": 1, **options}
    return Tagger(case.rung, settings_of(case, dropout=dropout), vectors=VECTORS if case.started else None, **options)


def baseline(rung: str, **settings: Any) -> Tagger:
    """A rung without a network."""
    return Tagger(rung, settings or None)


def fitted(name: str) -> Tagger:
    """The estimator of a case or baseline, fitted: a tenth held out, every kind of dropout at work."""
    given = sentences(48)
    if name in BASELINES:
        return baseline(name).fit(given, tags_of("columns", given))
    case = CASES[name]
    return estimator(case, dropout=0.3, steps=6, batch_size=16, validation_fraction=0.1).fit(given, tags_of(case.kind, given))


def digest(made: Tagger) -> str:
    """Of the weights by name, of the vocabularies, of labels, and of what training said on its way."""
    arrays, described, words = made.engine_.saved()
    content = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        content.update(name.encode() + array.tobytes())
    checks = None if made.history_ is None else made.history_.checks
    content.update(json.dumps([described, words, checks, made.labels_], sort_keys=False, default=str).encode())
    return content.hexdigest()


if __name__ == "__main__":
    print(json.dumps({name: digest(fitted(name)) for name in [*CASES, *BASELINES]}))
